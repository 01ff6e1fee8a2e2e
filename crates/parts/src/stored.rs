//! The stored form of a matrix: exactly the bytes that a file holds.
//!
//! A matrix `name` of several parts becomes the tensors `name.0.<field>`, `name.1.<field>`, … and one JSON
//! [`Descriptor`]; `docs/format.md` lists the fields. All integers are little endian.

use crate::bilevel::Bilevel;
use crate::bit_rows::{pack_row, row_bytes, unpack_row};
use crate::{Error, Transform};
use brevity_formats::grid::GridMatrix;
use brevity_formats::{TensorType, blocks};
use brevity_kernels::Matrix;
use half::f16;
use serde::{Deserialize, Serialize};

/// One part as it lies in a file. Shapes are those of the [`StoredMatrix`] that holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredPart {
    /// `rows × cols` numbers of type f32, f16 or bf16.
    Dense { ty: TensorType, bytes: Vec<u8> },
    /// GGML blocks, row by row.
    Blocks { ty: TensorType, bytes: Vec<u8> },
    /// Integer codes with a scale (f16) and a zero point per group: `w = scale·(code − zero)`.
    Grid(GridMatrix),
    /// Integer codes whose scales and zero points are codes too.
    Bilevel(Bilevel),
    /// Whole columns, in place of what the other parts have there: `columns` ascending, `values` rows × columns.
    Columns { columns: Vec<u32>, values: Vec<f16> },
    /// `left` (rows × rank) times `right` (rank × cols).
    LowRank { rank: usize, left: Vec<f16>, right: Vec<f16> },
    /// Compressed sparse rows: `offsets` has rows + 1 entries.
    Sparse { offsets: Vec<u32>, columns: Vec<u32>, values: Vec<f16> },
    /// `sign ⊙ (left · right)`; a set bit is −1; rows padded to bytes, lowest bit first.
    /// `gain` says what the part is worth where parts may be left out: the expected loss that it takes off, in bits.
    SignScale { rank: usize, signs: Vec<u8>, left: Vec<f16>, right: Vec<f16>, gain: Option<f32> },
}

/// A matrix as a file holds it: `rows` outputs, `cols` inputs, the sum of its parts behind its transform.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMatrix {
    pub rows: usize,
    pub cols: usize,
    pub transform: Option<Transform>,
    pub parts: Vec<StoredPart>,
}

/// What JSON says of a matrix beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    pub shape: (usize, usize),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    pub parts: Vec<PartDescriptor>,
}

/// What JSON says of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PartDescriptor {
    Dense {
        ty: String,
    },
    Blocks {
        ty: String,
    },
    Grid {
        bits: u8,
        group: usize,
    },
    Bilevel {
        bits: u8,
        group: usize,
        statistic_bits: u8,
        tile: usize,
    },
    Columns {
        count: usize,
    },
    LowRank {
        rank: usize,
    },
    Sparse {
        entries: usize,
    },
    SignScale {
        rank: usize,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gain: bool,
    },
}

/// A tensor of a part: the end of its name, its type, its shape and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub ty: TensorType,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl StoredMatrix {
    /// Bits in a file: codes, scales, zero points, indices, transform. Equal to 8 × the bytes of [`Self::fields`] plus
    /// those of the transform.
    pub fn bits(&self) -> u64 {
        let transform = self.transform.as_ref().map_or(0, Transform::bits);
        transform + self.parts.iter().map(|part| 8 * part.bytes(self.rows, self.cols)).sum::<u64>()
    }

    /// The weights as f32, the transform undone.
    pub fn dequantize(&self) -> Result<Matrix, Error> {
        check_parts(&self.parts)?;
        let mut dense = Matrix::zeros(self.rows, self.cols);
        let (last, first): (Vec<_>, Vec<_>) = self.parts.iter().partition(|part| part.is_columns());
        for part in first.into_iter().chain(last) {
            part.add_to(&mut dense)?;
        }
        if let Some(transform) = &self.transform {
            transform.check(self.cols)?;
            (0..self.rows).for_each(|row| transform.undo_row(dense.row_mut(row)));
        }
        Ok(dense)
    }

    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            shape: (self.rows, self.cols),
            transform: self.transform.clone(),
            parts: self.parts.iter().map(StoredPart::descriptor).collect(),
        }
    }

    /// The tensors to write, named `<part index>.<field>`.
    pub fn fields(&self) -> Vec<Field> {
        let named = |(index, part): (usize, &StoredPart)| {
            let mut fields = part.fields(self.rows, self.cols);
            fields.iter_mut().for_each(|field| field.name = format!("{index}.{}", field.name));
            fields
        };
        self.parts.iter().enumerate().flat_map(named).collect()
    }

    /// Reads what [`Self::fields`] and [`Self::descriptor`] gave; `read` fetches a tensor by `<part index>.<field>`.
    pub fn from_fields(
        descriptor: &Descriptor,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let (rows, cols) = descriptor.shape;
        if let Some(transform) = &descriptor.transform {
            transform.check(cols)?;
        }
        let part = |(index, part): (usize, &PartDescriptor)| {
            StoredPart::from_fields(part, rows, cols, |field| read(&format!("{index}.{field}")))
        };
        let parts = descriptor.parts.iter().enumerate().map(part).collect::<Result<_, _>>()?;
        Ok(Self { rows, cols, transform: descriptor.transform.clone(), parts })
    }
}

impl StoredPart {
    /// Bytes in a file.
    pub fn bytes(&self, rows: usize, cols: usize) -> u64 {
        self.fields_len(rows, cols).iter().sum::<usize>() as u64
    }

    fn fields_len(&self, rows: usize, cols: usize) -> Vec<usize> {
        match self {
            StoredPart::Dense { bytes, .. } | StoredPart::Blocks { bytes, .. } => vec![bytes.len()],
            StoredPart::Grid(grid) => {
                let groups = grid.groups_per_row();
                vec![rows * row_bytes(cols, grid.bits), 2 * rows * groups, rows * row_bytes(groups, grid.bits)]
            }
            StoredPart::Bilevel(grid) => {
                let groups = grid.groups();
                let statistics = rows * row_bytes(groups, grid.statistic_bits);
                vec![rows * row_bytes(cols, grid.bits), statistics, statistics, 8 * grid.statistics.len()]
            }
            StoredPart::Columns { columns, values } => vec![index_bytes(cols) * columns.len(), 2 * values.len()],
            StoredPart::LowRank { left, right, .. } => vec![2 * left.len(), 2 * right.len()],
            StoredPart::Sparse { offsets, columns, values } => {
                vec![4 * offsets.len(), index_bytes(cols) * columns.len(), 2 * values.len()]
            }
            StoredPart::SignScale { signs, left, right, gain, .. } => {
                vec![signs.len(), 2 * left.len(), 2 * right.len(), if gain.is_some() { 4 } else { 0 }]
            }
        }
    }

    fn descriptor(&self) -> PartDescriptor {
        match self {
            StoredPart::Dense { ty, .. } => PartDescriptor::Dense { ty: ty.name().to_string() },
            StoredPart::Blocks { ty, .. } => PartDescriptor::Blocks { ty: ty.name().to_string() },
            StoredPart::Grid(grid) => PartDescriptor::Grid { bits: grid.bits, group: grid.group },
            StoredPart::Bilevel(grid) => PartDescriptor::Bilevel {
                bits: grid.bits,
                group: grid.group,
                statistic_bits: grid.statistic_bits,
                tile: grid.tile,
            },
            StoredPart::Columns { columns, .. } => PartDescriptor::Columns { count: columns.len() },
            StoredPart::LowRank { rank, .. } => PartDescriptor::LowRank { rank: *rank },
            StoredPart::Sparse { values, .. } => PartDescriptor::Sparse { entries: values.len() },
            StoredPart::SignScale { rank, gain, .. } => PartDescriptor::SignScale { rank: *rank, gain: gain.is_some() },
        }
    }

    fn fields(&self, rows: usize, cols: usize) -> Vec<Field> {
        let field =
            |name: &str, ty, shape: &[usize], bytes| Field { name: name.into(), ty, shape: shape.to_vec(), bytes };
        match self {
            StoredPart::Dense { ty, bytes } => vec![field("weight", *ty, &[rows, cols], bytes.clone())],
            StoredPart::Blocks { bytes, .. } => {
                vec![field("blocks", TensorType::U8, &[rows, bytes.len() / rows.max(1)], bytes.clone())]
            }
            StoredPart::Grid(grid) => {
                let groups = grid.groups_per_row();
                let pack = |values: &[u8], per_row| {
                    values.chunks(per_row).flat_map(|row| pack_row(row, grid.bits)).collect::<Vec<u8>>()
                };
                let scales: Vec<f16> = grid.scales.iter().map(|&scale| f16::from_f32(scale)).collect();
                vec![
                    field("codes", TensorType::U8, &[rows, row_bytes(cols, grid.bits)], pack(&grid.codes, cols)),
                    field("scales", TensorType::F16, &[rows, groups], bytemuck::cast_slice(&scales).to_vec()),
                    field("zeros", TensorType::U8, &[rows, row_bytes(groups, grid.bits)], pack(&grid.zeros, groups)),
                ]
            }
            StoredPart::Bilevel(grid) => grid.fields(),
            StoredPart::Columns { columns, values } => {
                let (ty, bytes) = write_indices(columns, cols);
                let values = bytemuck::cast_slice(values).to_vec();
                vec![
                    field("columns", ty, &[columns.len()], bytes),
                    field("values", TensorType::F16, &[rows, columns.len()], values),
                ]
            }
            StoredPart::LowRank { rank, left, right } => vec![
                field("left", TensorType::F16, &[rows, *rank], bytemuck::cast_slice(left).to_vec()),
                field("right", TensorType::F16, &[*rank, cols], bytemuck::cast_slice(right).to_vec()),
            ],
            StoredPart::Sparse { offsets, columns, values } => {
                let (ty, bytes) = write_indices(columns, cols);
                vec![
                    field("offsets", TensorType::U32, &[offsets.len()], bytemuck::cast_slice(offsets).to_vec()),
                    field("columns", ty, &[columns.len()], bytes),
                    field("values", TensorType::F16, &[values.len()], bytemuck::cast_slice(values).to_vec()),
                ]
            }
            StoredPart::SignScale { rank, signs, left, right, gain } => {
                [gain.map(|gain| field("gain", TensorType::F32, &[1], gain.to_le_bytes().to_vec()))]
                    .into_iter()
                    .flatten()
                    .chain([
                        field("signs", TensorType::U8, &[rows, cols.div_ceil(8)], signs.clone()),
                        field("left", TensorType::F16, &[rows, *rank], bytemuck::cast_slice(left).to_vec()),
                        field("right", TensorType::F16, &[*rank, cols], bytemuck::cast_slice(right).to_vec()),
                    ])
                    .collect()
            }
        }
    }

    fn from_fields(
        part: &PartDescriptor,
        rows: usize,
        cols: usize,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let unknown = |ty: &str| Error::Descriptor { name: "parts".into(), what: format!("unknown type `{ty}`") };
        let stored = match part {
            PartDescriptor::Dense { ty } => {
                let ty = TensorType::parse(ty).map_err(|_| unknown(ty))?;
                StoredPart::Dense { ty, bytes: read("weight")? }
            }
            PartDescriptor::Blocks { ty } => {
                let ty = TensorType::parse(ty).map_err(|_| unknown(ty))?;
                StoredPart::Blocks { ty, bytes: read("blocks")? }
            }
            PartDescriptor::Grid { bits, group } => read_grid(rows, cols, *bits, *group, &mut read)?,
            PartDescriptor::Bilevel { bits, group, statistic_bits, tile } => {
                let numbers = (*bits, *group, *statistic_bits, *tile);
                StoredPart::Bilevel(Bilevel::read((rows, cols), numbers, &mut read)?)
            }
            PartDescriptor::Columns { .. } => {
                StoredPart::Columns { columns: read_indices(&read("columns")?, cols), values: halves(&read("values")?) }
            }
            PartDescriptor::LowRank { rank } => {
                StoredPart::LowRank { rank: *rank, left: halves(&read("left")?), right: halves(&read("right")?) }
            }
            PartDescriptor::Sparse { .. } => StoredPart::Sparse {
                offsets: words(&read("offsets")?),
                columns: read_indices(&read("columns")?, cols),
                values: halves(&read("values")?),
            },
            PartDescriptor::SignScale { rank, gain } => StoredPart::SignScale {
                rank: *rank,
                gain: gain.then(|| read("gain").map(|bytes| number(&bytes))).transpose()?,
                signs: read("signs")?,
                left: halves(&read("left")?),
                right: halves(&read("right")?),
            },
        };
        stored.check(rows, cols)?;
        Ok(stored)
    }

    /// Checks every length and index against the shape, so that nothing downstream can run past an end.
    pub fn check(&self, rows: usize, cols: usize) -> Result<(), Error> {
        let length = |part, field, found, expected| {
            if found == expected { Ok(()) } else { Err(Error::Length { part, field, rows, cols, found, expected }) }
        };
        match self {
            StoredPart::Dense { ty, bytes } | StoredPart::Blocks { ty, bytes } => {
                let row = ty.row_bytes(cols).ok_or(Error::Row { ty: *ty, cols })?;
                length("dense or blocks", "weight", bytes.len(), rows * row)
            }
            StoredPart::Grid(grid) => {
                if (grid.rows, grid.cols) != (rows, cols) {
                    return Err(Error::Shape { found: (grid.rows, grid.cols), expected: (rows, cols) });
                }
                let groups = rows * grid.groups_per_row();
                length("grid", "codes", grid.codes.len(), rows * cols)?;
                length("grid", "scales", grid.scales.len(), groups)?;
                length("grid", "zeros", grid.zeros.len(), groups)
            }
            StoredPart::Bilevel(grid) => grid.check(rows, cols),
            StoredPart::Columns { columns, values } => {
                length("columns", "values", values.len(), rows * columns.len())?;
                check_columns(columns, cols)
            }
            StoredPart::LowRank { rank, left, right } => {
                length("low_rank", "left", left.len(), rows * rank)?;
                length("low_rank", "right", right.len(), rank * cols)
            }
            StoredPart::Sparse { offsets, columns, values } => {
                length("sparse", "offsets", offsets.len(), rows + 1)?;
                length("sparse", "columns", columns.len(), values.len())?;
                check_sparse(offsets, columns, cols)
            }
            StoredPart::SignScale { rank, signs, left, right, .. } => {
                length("sign_scale", "signs", signs.len(), rows * cols.div_ceil(8))?;
                length("sign_scale", "left", left.len(), rows * rank)?;
                length("sign_scale", "right", right.len(), rank * cols)
            }
        }
    }

    pub(crate) fn is_columns(&self) -> bool {
        matches!(self, StoredPart::Columns { .. })
    }

    fn add_to(&self, dense: &mut Matrix) -> Result<(), Error> {
        let (rows, cols) = (dense.rows(), dense.cols());
        self.check(rows, cols)?;
        if let StoredPart::Columns { columns, .. } = self {
            (0..rows).for_each(|row| columns.iter().for_each(|&column| dense.row_mut(row)[column as usize] = 0.0));
        }
        let mut values = vec![0.0; cols];
        for row in 0..rows {
            self.row(row, cols, &mut values)?;
            dense.row_mut(row).iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn row(&self, row: usize, cols: usize, out: &mut [f32]) -> Result<(), Error> {
        match self {
            StoredPart::Dense { ty, bytes } | StoredPart::Blocks { ty, bytes } => {
                let length = ty.row_bytes(cols).ok_or(Error::Row { ty: *ty, cols })?;
                blocks::dequantize(*ty, &bytes[row * length..][..length], out)?;
            }
            StoredPart::Grid(grid) => grid.dequantize_row(row, out),
            StoredPart::Bilevel(grid) => grid.row(row, out),
            StoredPart::Columns { columns, values } => {
                out.fill(0.0);
                let values = &values[row * columns.len()..][..columns.len()];
                columns.iter().zip(values).for_each(|(&column, value)| out[column as usize] = value.to_f32());
            }
            StoredPart::LowRank { rank, left, right } => low_rank_row(&left[row * rank..][..*rank], right, out),
            StoredPart::Sparse { offsets, columns, values } => {
                out.fill(0.0);
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    out[columns[entry] as usize] += values[entry].to_f32();
                }
            }
            StoredPart::SignScale { rank, signs, left, right, .. } => {
                low_rank_row(&left[row * rank..][..*rank], right, out);
                let signs = &signs[row * cols.div_ceil(8)..];
                for (column, value) in out.iter_mut().enumerate() {
                    if signs[column / 8] >> (column % 8) & 1 == 1 {
                        *value = -*value;
                    }
                }
            }
        }
        Ok(())
    }
}

fn low_rank_row(left: &[f16], right: &[f16], out: &mut [f32]) {
    out.fill(0.0);
    for (factor, right) in left.iter().zip(right.chunks_exact(out.len())) {
        let factor = factor.to_f32();
        out.iter_mut().zip(right).for_each(|(sum, value)| *sum = factor.mul_add(value.to_f32(), *sum));
    }
}

fn read_grid(
    rows: usize,
    cols: usize,
    bits: u8,
    group: usize,
    read: &mut impl FnMut(&str) -> Result<Vec<u8>, Error>,
) -> Result<StoredPart, Error> {
    if !(2..=8).contains(&bits) {
        let what = format!("a grid of {bits} bits; 2 to 8 are possible");
        return Err(Error::Descriptor { name: "grid".into(), what });
    }
    let groups = brevity_formats::grid::groups_per_row(cols, group);
    let unpack = |bytes: Vec<u8>, per_row: usize, field| {
        let length = row_bytes(per_row, bits);
        if bytes.len() != rows * length {
            let (found, expected) = (bytes.len(), rows * length);
            return Err(Error::Length { part: "grid", field, rows, cols, found, expected });
        }
        Ok(bytes.chunks(length.max(1)).flat_map(|row| unpack_row(row, bits, per_row)).collect::<Vec<u8>>())
    };
    let codes = unpack(read("codes")?, cols, "codes")?;
    let scales = halves(&read("scales")?).iter().map(|scale| scale.to_f32()).collect();
    let zeros = unpack(read("zeros")?, groups, "zeros")?;
    Ok(StoredPart::Grid(GridMatrix { bits, group, rows, cols, codes, scales, zeros }))
}

/// Whole columns replace what all other parts have there, so only one part can hold them.
pub(crate) fn check_parts(parts: &[StoredPart]) -> Result<(), Error> {
    match parts.iter().filter(|part| part.is_columns()).count() {
        0 | 1 => Ok(()),
        count => Err(Error::Descriptor {
            name: "columns".into(),
            what: format!("{count} parts of columns; one is possible"),
        }),
    }
}

fn check_columns(columns: &[u32], cols: usize) -> Result<(), Error> {
    let wrong = |(index, &column): (usize, &u32)| column as usize >= cols || index > 0 && columns[index - 1] >= column;
    match columns.iter().enumerate().find(|entry| wrong(*entry)) {
        Some((_, &found)) => Err(Error::Column { part: "columns", row: 0, found: found as usize, cols }),
        None => Ok(()),
    }
}

fn check_sparse(offsets: &[u32], columns: &[u32], cols: usize) -> Result<(), Error> {
    let entries = columns.len();
    let mut last = 0;
    for (row, &offset) in offsets.iter().enumerate() {
        let first_is_zero = row > 0 || offset == 0;
        let last_is_all = row + 1 < offsets.len() || offset as usize == entries;
        if offset < last || offset as usize > entries || !first_is_zero || !last_is_all {
            return Err(Error::Offsets { part: "sparse", row, found: offset as usize, entries });
        }
        last = offset;
    }
    for row in 0..offsets.len().saturating_sub(1) {
        for &column in &columns[offsets[row] as usize..offsets[row + 1] as usize] {
            if column as usize >= cols {
                return Err(Error::Column { part: "sparse", row, found: column as usize, cols });
            }
        }
    }
    Ok(())
}

/// Bytes of a column index: 2 where that is enough.
pub(crate) fn index_bytes(cols: usize) -> usize {
    if cols <= 1 << 16 { 2 } else { 4 }
}

fn write_indices(columns: &[u32], cols: usize) -> (TensorType, Vec<u8>) {
    if index_bytes(cols) == 2 {
        (TensorType::U16, columns.iter().flat_map(|&column| (column as u16).to_le_bytes()).collect())
    } else {
        (TensorType::U32, bytemuck::cast_slice(columns).to_vec())
    }
}

fn read_indices(bytes: &[u8], cols: usize) -> Vec<u32> {
    if index_bytes(cols) == 2 {
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))).collect()
    } else {
        words(bytes)
    }
}

/// The first f32; 0 where there is none.
fn number(bytes: &[u8]) -> f32 {
    bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect()
}
