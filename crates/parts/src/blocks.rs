//! GGML blocks as the kernels read them.
//!
//! Types whose weights are a scale times a code, or a step of a table, are packed for direct integer kernels at the size that
//! they have in the file; codebook types are kept as they lie there and unpacked as it is needed, a panel at a time for many
//! tokens and a row at a time for one.

use crate::{Activation, Error, Input, Part};
use brevity_formats::blocks::k::{Affine, Signed};
use brevity_formats::blocks::layout::{
    Iq2Xxs, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
};
use brevity_formats::blocks::legacy::Flat;
use brevity_formats::{TensorType, blocks};
use brevity_kernels::MatrixMut;
use brevity_kernels::integer::{
    Codebook, FlatCodes, FlatPanels, FlatRow, IntegerWeights, RowSource, Scales, Steps, SuperKind, SuperPanels,
    SuperRow,
};
use half::f16;
use std::sync::LazyLock;

/// A matrix of GGML blocks.
pub struct BlocksPart {
    ty: TensorType,
    weights: IntegerWeights,
}

impl BlocksPart {
    /// Packs `rows × cols` weights from the bytes of their rows.
    ///
    /// # Errors
    /// If rows cannot be cut into blocks of this type, the length is wrong, or the type has no codes.
    pub fn new(ty: TensorType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, Error> {
        let row = ty.row_bytes(cols).ok_or(Error::Row { ty, cols })?;
        if bytes.len() != rows * row {
            let (found, expected) = (bytes.len(), rows * row);
            return Err(Error::Length { part: "blocks", field: "blocks", rows, cols, found, expected });
        }
        let (block, has_min) = blocks::code_block(ty).ok_or(Error::Unsupported { ty })?;
        let shape = (rows, cols);
        let bits = FlatCodes::Bits;
        let weights = match ty {
            TensorType::Q4_0 => flat(shape, bits(4), false, bytes, |b| Q4_0::read(b).fields()),
            TensorType::Q4_1 => flat(shape, bits(4), true, bytes, |b| Q4_1::read(b).fields()),
            TensorType::Q5_0 => flat(shape, bits(5), false, bytes, |b| Q5_0::read(b).fields()),
            TensorType::Q5_1 => flat(shape, bits(5), true, bytes, |b| Q5_1::read(b).fields()),
            TensorType::Q8_0 => flat(shape, bits(8), false, bytes, |b| {
                let fields = Q8_0::read(b).fields();
                Flat { codes: fields.codes.map(|code| code ^ 0x80), ..fields }
            }),
            TensorType::Iq4Nl => flat(shape, FlatCodes::Table(Steps::Iq4), false, bytes, |b| Iq4Nl::read(b).fields()),
            TensorType::Mxfp4 => mxfp4(shape, bytes),
            TensorType::Q2K => affine(shape, SuperKind::Q2K, bytes, |b| Q2K::read(b).fields()),
            TensorType::Q4K => affine(shape, SuperKind::Q4K, bytes, |b| Q4K::read(b).fields()),
            TensorType::Q5K => affine(shape, SuperKind::Q5K, bytes, |b| Q5K::read(b).fields()),
            TensorType::Q3K => signed(shape, SuperKind::Q3K, bytes, |b| Q3K::read(b).fields()),
            TensorType::Q6K => signed(shape, SuperKind::Q6K, bytes, |b| Q6K::read(b).fields()),
            TensorType::Iq4Xs => signed(shape, SuperKind::Iq4Xs, bytes, |b| Iq4Xs::read(b).fields()),
            TensorType::Iq2Xxs => iq2_xxs(shape, bytes),
            _ => {
                let source = RawRows { ty, rows, cols, block, has_min, row, bytes: bytes.to_vec() };
                IntegerWeights::Rows(Box::new(source))
            }
        };
        Ok(Self { ty, weights })
    }

    pub fn ty(&self) -> TensorType {
        self.ty
    }
}

impl Part for BlocksPart {
    fn shape(&self) -> (usize, usize) {
        (self.weights.rows(), self.weights.cols())
    }

    fn resident_bytes(&self) -> usize {
        self.weights.resident_bytes()
    }

    fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        multiply(&self.weights, x, y, add);
    }

    fn add_row_to(&self, row: usize, out: &mut [f32]) {
        add_row(&self.weights, row, out);
    }
}

pub(crate) fn multiply(weights: &IntegerWeights, x: &Input, y: &mut MatrixMut, add: bool) {
    match x.activation() {
        Activation::Int8 => weights.multiply(x.quantized(), y, add),
        Activation::F32 => weights.multiply_f32(x.view(), y, add),
    }
}

pub(crate) fn add_row(weights: &IntegerWeights, row: usize, out: &mut [f32]) {
    let mut values = vec![0.0; weights.cols()];
    weights.row_f32(row, &mut values);
    out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
}

fn half(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// Packs blocks of 32 with a scale each.
fn flat<const N: usize>(
    (rows, cols): (usize, usize),
    codes: FlatCodes,
    has_min: bool,
    bytes: &[u8],
    fields: impl Fn(&[u8; N]) -> Flat + Sync,
) -> IntegerWeights {
    let row_blocks = cols / 32;
    IntegerWeights::Flat(FlatPanels::new((rows, cols), codes, Scales::F16, has_min, |row, out: FlatRow| {
        let blocks = &bytes.as_chunks::<N>().0[row * row_blocks..][..row_blocks];
        for (index, block) in blocks.iter().enumerate() {
            let block = fields(block);
            out.codes[32 * index..][..32].copy_from_slice(&block.codes);
            out.scales[index] = half(block.d);
            if has_min {
                out.mins[index] = -half(block.m);
            }
        }
    }))
}

fn mxfp4((rows, cols): (usize, usize), bytes: &[u8]) -> IntegerWeights {
    let row_blocks = cols / 32;
    let codes = FlatCodes::Table(Steps::Mxfp4);
    IntegerWeights::Flat(FlatPanels::new((rows, cols), codes, Scales::Powers, false, |row, out: FlatRow| {
        let blocks = &bytes.as_chunks::<{ Mxfp4::BYTES }>().0[row * row_blocks..][..row_blocks];
        for (index, block) in blocks.iter().enumerate() {
            let (e, codes) = Mxfp4::read(block).fields();
            out.codes[32 * index..][..32].copy_from_slice(&codes);
            out.scales[index] = blocks::mx::scale(e);
        }
    }))
}

/// Packs super-blocks that `fields` reads from `N` bytes each; `put(fields, index, row)` writes one to its row.
fn super_blocks<F, const N: usize>(
    (rows, cols): (usize, usize),
    kind: SuperKind,
    bytes: &[u8],
    fields: impl Fn(&[u8; N]) -> F + Sync,
    put: impl Fn(&F, usize, &mut SuperRow) + Sync,
) -> IntegerWeights {
    let row_blocks = cols / 256;
    IntegerWeights::Super(SuperPanels::new((rows, cols), kind, |row, mut out| {
        let blocks = &bytes.as_chunks::<N>().0[row * row_blocks..][..row_blocks];
        blocks.iter().enumerate().for_each(|(index, block)| put(&fields(block), index, &mut out));
    }))
}

fn affine<const S: usize, const N: usize>(
    shape: (usize, usize),
    kind: SuperKind,
    bytes: &[u8],
    fields: impl Fn(&[u8; N]) -> Affine<S> + Sync,
) -> IntegerWeights {
    super_blocks(shape, kind, bytes, fields, |block, index, out| {
        out.codes[256 * index..][..256].copy_from_slice(&block.codes);
        (out.d[index], out.dmin[index]) = (block.d, block.dmin);
        out.scales[S * index..][..S].copy_from_slice(&block.scales);
        out.mins[S * index..][..S].copy_from_slice(&block.mins);
    })
}

fn signed<const S: usize, const N: usize>(
    shape: (usize, usize),
    kind: SuperKind,
    bytes: &[u8],
    fields: impl Fn(&[u8; N]) -> Signed<S> + Sync,
) -> IntegerWeights {
    super_blocks(shape, kind, bytes, fields, |block, index, out| {
        out.codes[256 * index..][..256].copy_from_slice(&block.codes);
        out.d[index] = block.d;
        out.scales[S * index..][..S].copy_from_slice(&block.scales.map(|scale| scale as u8));
    })
}

/// The codewords as their type unpacks them: eight blocks name 32 of them each, without signs.
static IQ2_XXS: LazyLock<Codebook> = LazyLock::new(|| {
    let mut words = [[0; 8]; 256];
    for (first, words) in words.chunks_exact_mut(32).enumerate() {
        let mut block = [0; Iq2Xxs::BYTES];
        for (i, eight) in block[2..].chunks_exact_mut(8).enumerate() {
            (0..4).for_each(|j| eight[j] = (32 * first + 4 * i + j) as u8);
        }
        let (mut codes, mut scales) = ([0; 256], [0.0; 8]);
        let unpacked = blocks::unpack_codes(TensorType::Iq2Xxs, &block, &mut codes, &mut scales, &mut []);
        debug_assert!(unpacked.is_ok(), "one block has 256 codes and 8 scales");
        for (word, codes) in words.iter_mut().zip(codes.as_chunks::<8>().0) {
            *word = codes.map(|code| code as u8);
        }
    }
    Codebook::new(&words)
});

/// Per 32 weights four indices, and a word with four times seven signs below four bits of scale; the eighth sign makes the
/// number of negative weights even.
fn iq2_xxs(shape: (usize, usize), bytes: &[u8]) -> IntegerWeights {
    let row_blocks = shape.1 / 256;
    IntegerWeights::Super(SuperPanels::with_codebook(shape, &IQ2_XXS, |row, out| {
        let blocks = &bytes.as_chunks::<{ Iq2Xxs::BYTES }>().0[row * row_blocks..][..row_blocks];
        for (index, block) in blocks.iter().enumerate() {
            let block = Iq2Xxs::read(block);
            out.d[index] = u16::from_le_bytes(block.d);
            let codes = out.codes[256 * index..][..256].chunks_exact_mut(32);
            for ((qs, codes), scale) in block.qs.as_chunks::<8>().0.iter().zip(codes).zip(&mut out.scales[8 * index..])
            {
                let packed = u32::from_le_bytes([qs[4], qs[5], qs[6], qs[7]]);
                *scale = (packed >> 28) as u8;
                for (j, eight) in codes.chunks_exact_mut(8).enumerate() {
                    let seven = (packed >> (7 * j)) as u8 & 127;
                    (eight[0], eight[1]) = (qs[j], seven | (seven.count_ones() as u8 & 1) << 7);
                }
            }
        }
    }))
}

/// Blocks as they lie in the file.
struct RawRows {
    ty: TensorType,
    rows: usize,
    cols: usize,
    block: usize,
    has_min: bool,
    row: usize,
    bytes: Vec<u8>,
}

impl RowSource for RawRows {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn block(&self) -> usize {
        self.block
    }

    fn has_min(&self) -> bool {
        self.has_min
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let bytes = &self.bytes[row * self.row..][..self.row];
        let unpacked = blocks::unpack_codes(self.ty, bytes, codes, scales, mins);
        debug_assert!(unpacked.is_ok(), "lengths were checked when the part was made");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TensorType::*;

    #[test]
    fn every_type_goes_through_its_kernel() {
        for ty in TensorType::all().filter(|ty| ty.is_quantized() && ty.readable()) {
            let bytes = vec![0; 16 * ty.row_bytes(512).unwrap()];
            let part = BlocksPart::new(ty, 16, 512, &bytes).unwrap();
            let expected = match ty {
                Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Iq4Nl | Mxfp4 => "flat",
                Q2K | Q3K | Q4K | Q5K | Q6K | Iq4Xs | Iq2Xxs => "super-blocks",
                _ => "rows",
            };
            let found = match part.weights {
                IntegerWeights::Flat(_) => "flat",
                IntegerWeights::Super(_) => "super-blocks",
                IntegerWeights::Rows(_) => "rows",
            };
            assert_eq!(found, expected, "{ty:?}");
            assert!(16 * part.resident_bytes() <= 17 * bytes.len(), "{ty:?}: {} bytes", part.resident_bytes());
        }
    }
}
