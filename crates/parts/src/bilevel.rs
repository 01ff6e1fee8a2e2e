//! Integer codes in small groups whose scales and zero points are codes themselves.
//!
//! Group g of row r has the scale `s = σ₀ + σ₁·a` and the zero point `z = ζ₀ + ζ₁·c`, with `a`, `c` codes of a few bits and
//! `σ₁, σ₀, ζ₁, ζ₀` half floats that a *tile* shares: that group of columns in `tile` consecutive rows. A weight is
//! `s·code − s·z`. With 3-bit codes, groups of 16, 3-bit scales and zero points and tiles of 16 rows that is
//! 3 + 6/16 + 64/256 = 3.625 bits a weight, where one half float and one zero point a group would take 4.19.

use crate::bit_rows::{pack_row, row_bytes, unpack_row};
use crate::stored::Field;
use crate::{Error, Input, Part};
use brevity_formats::TensorType;
use brevity_formats::grid::groups_per_row;
use brevity_kernels::MatrixMut;
use brevity_kernels::integer::{IntegerWeights, RowSource};
use half::f16;

/// A matrix on a grid of two levels. Shapes are (outputs, inputs).
#[derive(Debug, Clone, PartialEq)]
pub struct Bilevel {
    /// Bits of a code, 2 to 7.
    pub bits: u8,
    /// Weights of a row that share a scale: a multiple of 16.
    pub group: usize,
    /// Bits of a scale's and of a zero point's code, 1 to 8.
    pub statistic_bits: u8,
    /// Rows that share a tile's four numbers.
    pub tile: usize,
    pub rows: usize,
    pub cols: usize,
    /// rows × cols.
    pub codes: Vec<u8>,
    /// rows × groups.
    pub scales: Vec<u8>,
    /// rows × groups.
    pub zeros: Vec<u8>,
    /// tiles × groups of `[σ₁, σ₀, ζ₁, ζ₀]`.
    pub statistics: Vec<[f16; 4]>,
}

impl Bilevel {
    pub fn groups(&self) -> usize {
        groups_per_row(self.cols, self.group)
    }

    /// Scale and `scale · zero` of a group of a row.
    pub fn frame(&self, row: usize, group: usize) -> (f32, f32) {
        let groups = self.groups();
        let tile = self.statistics[row / self.tile * groups + group];
        frame(tile, self.scales[row * groups + group], self.zeros[row * groups + group])
    }

    /// One row as f32.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let codes = self.codes[row * self.cols..][..self.cols].chunks(self.group);
        for (group, (codes, out)) in codes.zip(out.chunks_mut(self.group)).enumerate() {
            let (scale, min) = self.frame(row, group);
            out.iter_mut().zip(codes).for_each(|(out, &code)| *out = scale.mul_add(f32::from(code), -min));
        }
    }

    /// Checks every length and number against the shape.
    pub(crate) fn check(&self, rows: usize, cols: usize) -> Result<(), Error> {
        if (self.rows, self.cols) != (rows, cols) {
            return Err(Error::Shape { found: (self.rows, self.cols), expected: (rows, cols) });
        }
        check_numbers(self.bits, self.group, self.statistic_bits, self.tile)?;
        let groups = rows * self.groups();
        let length = |field, found, expected| match found == expected {
            true => Ok(()),
            false => Err(Error::Length { part: "bilevel", field, rows, cols, found, expected }),
        };
        length("codes", self.codes.len(), rows * cols)?;
        length("scales", self.scales.len(), groups)?;
        length("zeros", self.zeros.len(), groups)?;
        length("statistics", self.statistics.len(), rows.div_ceil(self.tile) * self.groups())
    }

    pub(crate) fn fields(&self) -> Vec<Field> {
        let groups = self.groups();
        let field =
            |name: &str, ty, shape: &[usize], bytes| Field { name: name.into(), ty, shape: shape.to_vec(), bytes };
        let pack = |name: &str, values: &[u8], per_row: usize, bits| {
            let bytes = values.chunks(per_row.max(1)).flat_map(|row| pack_row(row, bits)).collect();
            field(name, TensorType::U8, &[self.rows, row_bytes(per_row, bits)], bytes)
        };
        let shape = [self.rows.div_ceil(self.tile), groups, 4];
        let statistics = self.statistics.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        vec![
            pack("codes", &self.codes, self.cols, self.bits),
            pack("scales", &self.scales, groups, self.statistic_bits),
            pack("zeros", &self.zeros, groups, self.statistic_bits),
            field("statistics", TensorType::F16, &shape, statistics),
        ]
    }

    /// Reads the fields of a part that says of itself `numbers` = (bits, group, statistic bits, tile).
    pub(crate) fn read(
        (rows, cols): (usize, usize),
        numbers: (u8, usize, u8, usize),
        read: &mut impl FnMut(&str) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let (bits, group, statistic_bits, tile) = numbers;
        check_numbers(bits, group, statistic_bits, tile)?;
        let groups = groups_per_row(cols, group);
        let unpack = |bytes: Vec<u8>, per_row: usize, bits: u8, field| {
            let length = row_bytes(per_row, bits);
            if bytes.len() != rows * length {
                let (found, expected) = (bytes.len(), rows * length);
                return Err(Error::Length { part: "bilevel", field, rows, cols, found, expected });
            }
            Ok(bytes.chunks(length.max(1)).flat_map(|row| unpack_row(row, bits, per_row)).collect::<Vec<u8>>())
        };
        let codes = unpack(read("codes")?, cols, bits, "codes")?;
        let scales = unpack(read("scales")?, groups, statistic_bits, "scales")?;
        let zeros = unpack(read("zeros")?, groups, statistic_bits, "zeros")?;
        let half = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]);
        let four = |bytes: &[u8]| [half(&bytes[0..2]), half(&bytes[2..4]), half(&bytes[4..6]), half(&bytes[6..8])];
        let statistics = read("statistics")?.chunks_exact(8).map(four).collect();
        Ok(Self { bits, group, statistic_bits, tile, rows, cols, codes, scales, zeros, statistics })
    }
}

/// Scale and `scale · zero` of codes in a tile.
#[inline]
pub fn frame(tile: [f16; 4], scale: u8, zero: u8) -> (f32, f32) {
    let [scale_step, scale_base, zero_step, zero_base] = tile.map(f16::to_f32);
    let scale = scale_step.mul_add(f32::from(scale), scale_base);
    (scale, scale * zero_step.mul_add(f32::from(zero), zero_base))
}

fn check_numbers(bits: u8, group: usize, statistic_bits: u8, tile: usize) -> Result<(), Error> {
    let fine = (2..=7).contains(&bits)
        && (1..=8).contains(&statistic_bits)
        && group > 0
        && group.is_multiple_of(16)
        && tile > 0;
    if fine {
        return Ok(());
    }
    let what = format!(
        "{bits} bits, groups of {group}, statistics of {statistic_bits} bits, tiles of {tile} rows; possible are 2–7 bits, \
         multiples of 16, 1–8 bits and at least one row"
    );
    Err(Error::Descriptor { name: "bilevel".into(), what })
}

/// The form in memory: unpacked row by row.
pub struct BilevelPart(IntegerWeights);

impl BilevelPart {
    pub(crate) fn new(grid: Bilevel) -> Self {
        Self(IntegerWeights::Rows(Box::new(BilevelRows(grid))))
    }
}

struct BilevelRows(Bilevel);

impl RowSource for BilevelRows {
    fn rows(&self) -> usize {
        self.0.rows
    }

    fn cols(&self) -> usize {
        self.0.cols
    }

    fn block(&self) -> usize {
        16
    }

    fn has_min(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        self.0.codes.len() + self.0.scales.len() + self.0.zeros.len() + 8 * self.0.statistics.len()
    }

    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let stored = &self.0.codes[row * self.0.cols..][..self.0.cols];
        codes.iter_mut().zip(stored).for_each(|(out, code)| *out = *code as i8);
        for (block, (scale, min)) in scales.iter_mut().zip(mins).enumerate() {
            // The row may be filled up with blocks behind its end.
            let group = (16 * block / self.0.group).min(self.0.groups().saturating_sub(1));
            (*scale, *min) = self.0.frame(row, group);
        }
    }
}

impl Part for BilevelPart {
    fn shape(&self) -> (usize, usize) {
        (self.0.rows(), self.0.cols())
    }

    fn resident_bytes(&self) -> usize {
        self.0.resident_bytes()
    }

    fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        crate::blocks::multiply(&self.0, x, y, add);
    }

    fn add_row_to(&self, row: usize, out: &mut [f32]) {
        crate::blocks::add_row(&self.0, row, out);
    }
}
