//! Finds weights that are NaN or infinite, in the bytes as they are stored.
//!
//! Block types have f16 scales; their codes are always finite. So checking a tensor costs a pass over its scales.

use brevity_formats::TensorType;
use brevity_parts::{StoredMatrix, StoredPart};

use super::TensorEntry;
use crate::error::{Error, Result};

const F16_EXPONENT: u16 = 0x7c00;
const BF16_EXPONENT: u16 = 0x7f80;
const F32_EXPONENT: u32 = 0x7f80_0000;

/// Offsets of the f16 scales in a block.
fn scales(ty: TensorType) -> &'static [usize] {
    use TensorType::*;
    match ty {
        Q4_0 | Q5_0 | Q8_0 | Iq4Nl | Iq4Xs | Iq2Xxs | Iq2Xs | Iq2S | Iq3Xxs | Iq3S => &[0],
        Q4_1 | Q5_1 | Q4K | Q5K => &[0, 2],
        Q2K => &[80, 82],
        Q3K => &[108],
        Q6K => &[208],
        _ => &[],
    }
}

/// Checks whole rows as stored.
pub fn check_bytes(file: &str, entry: &TensorEntry, bytes: &[u8]) -> Result<()> {
    let bad = match entry.ty {
        TensorType::F16 => position16(bytes, F16_EXPONENT),
        TensorType::BF16 => position16(bytes, BF16_EXPONENT),
        TensorType::F32 => {
            bytes.as_chunks::<4>().0.iter().position(|word| u32::from_le_bytes(*word) & F32_EXPONENT == F32_EXPONENT)
        }
        ty if ty.is_quantized() => bad_block(ty, bytes),
        _ => None,
    };
    match bad {
        None => Ok(()),
        Some(index) => Err(describe(file, entry, index, bytes)),
    }
}

fn position16(bytes: &[u8], exponent: u16) -> Option<usize> {
    let bad = |word: &[u8; 2]| u16::from_le_bytes(*word) & exponent == exponent;
    // A first pass without a branch per value runs at the speed of memory.
    let (words, _) = bytes.as_chunks::<2>();
    let any = words.chunks(4096).position(|part| part.iter().fold(false, |any, word| any | bad(word)))?;
    words[any * 4096..].iter().position(bad).map(|at| any * 4096 + at)
}

/// Index of the first weight of the first block with a bad scale.
fn bad_block(ty: TensorType, bytes: &[u8]) -> Option<usize> {
    let offsets = scales(ty);
    if offsets.is_empty() {
        return None;
    }
    let bad = |block: &[u8]| {
        offsets.iter().any(|&at| u16::from_le_bytes([block[at], block[at + 1]]) & F16_EXPONENT == F16_EXPONENT)
    };
    bytes.chunks_exact(ty.block_bytes()).position(bad).map(|block| block * ty.block())
}

fn describe(file: &str, entry: &TensorEntry, index: usize, bytes: &[u8]) -> Error {
    let block = index / entry.ty.block();
    let size = entry.ty.block_bytes();
    let mut values = vec![f32::NAN; entry.ty.block()];
    // Should the block itself be unreadable, NaN stands for it.
    let _ = brevity_formats::blocks::dequantize(entry.ty, &bytes[block * size..(block + 1) * size], &mut values);
    let first = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
    not_finite(file, entry, block * entry.ty.block() + first, values[first])
}

/// Checks values that were read from row `first_row` on.
pub fn check_values(file: &str, entry: &TensorEntry, first_row: usize, values: &[f32]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(not_finite(file, entry, first_row * entry.cols + index, values[index])),
    }
}

/// Checks a matrix of parts.
pub fn check_stored(file: &str, entry: &TensorEntry, stored: &StoredMatrix) -> Result<()> {
    if stored.parts.iter().all(is_finite) {
        return Ok(());
    }
    let part = |source| Error::Part { tensor: entry.source_name.clone(), source: Box::new(source) };
    check_values(file, entry, 0, stored.dequantize().map_err(part)?.data())
}

fn is_finite(part: &StoredPart) -> bool {
    let halves = |values: &[half::f16]| values.iter().all(|value| value.is_finite());
    match part {
        StoredPart::Blocks { ty, bytes } if ty.is_quantized() => bad_block(*ty, bytes).is_none(),
        StoredPart::Dense { ty: TensorType::F16, bytes } => position16(bytes, F16_EXPONENT).is_none(),
        StoredPart::Dense { ty: TensorType::BF16, bytes } => position16(bytes, BF16_EXPONENT).is_none(),
        StoredPart::Dense { .. } | StoredPart::Blocks { .. } => false,
        StoredPart::Grid(grid) => grid.scales.iter().all(|scale| scale.is_finite()),
        StoredPart::LowRank { left, right, .. } | StoredPart::SignScale { left, right, .. } => {
            halves(left) && halves(right)
        }
        StoredPart::Sparse { values, .. } | StoredPart::Columns { values, .. } => halves(values),
        StoredPart::Bilevel(grid) => grid.statistics.iter().all(|tile| halves(tile)),
    }
}

fn not_finite(file: &str, entry: &TensorEntry, index: usize, value: f32) -> Error {
    Error::NotFinite {
        file: file.to_owned(),
        tensor: entry.source_name.clone(),
        row: index / entry.cols,
        column: index % entry.cols,
        value,
    }
}
