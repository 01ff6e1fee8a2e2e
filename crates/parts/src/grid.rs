//! Integer codes with a scale and a zero point per group, `w = scale·(code − zero)`, as the kernels read them.
//!
//! Codes keep their number of bits. Scales that are half floats, as every format of such grids stores them, stay half floats
//! beside zero points of a byte; others become f32 with the min `scale·zero`. Eight-bit codes and their zero points are
//! shifted to −128..=127.

use crate::{Input, Part};
use brevity_formats::grid::GridMatrix;
use brevity_kernels::MatrixMut;
use brevity_kernels::dense::DensePanels;
use brevity_kernels::integer::{FlatCodes, FlatPanels, IntegerWeights, RowSource, Scales};
use half::f16;

/// A matrix on an integer grid.
pub struct GridPart(Kind);

enum Kind {
    Integer(IntegerWeights),
    /// Groups that no whole number of blocks makes up: widened to f32.
    Dense(DensePanels),
}

impl GridPart {
    pub(crate) fn new(grid: GridMatrix) -> Self {
        let group = if grid.group == 0 { grid.cols.next_multiple_of(32) } else { grid.group };
        Self(match group {
            _ if group.is_multiple_of(32) => Kind::Integer(panels(&grid, group)),
            _ if group.is_multiple_of(16) => Kind::Integer(IntegerWeights::Rows(Box::new(GridRows(grid)))),
            _ => Kind::Dense(DensePanels::from_f32(grid.rows, grid.cols, &grid.dequantize())),
        })
    }
}

fn panels(grid: &GridMatrix, group: usize) -> IntegerWeights {
    let groups = grid.groups_per_row();
    let halves = grid.scales.iter().all(|scale| f16::from_f32(*scale).to_f32() == *scale);
    let scales = if halves { Scales::Zeros { group } } else { Scales::F32 { group } };
    let (bits, shift) = if grid.bits == 8 { (8, 128.0) } else { (u32::from(grid.bits).max(2), 0.0) };
    let shape = (grid.rows, grid.cols);
    IntegerWeights::Flat(FlatPanels::new(shape, FlatCodes::Bits(bits), scales, true, |row, out| {
        out.codes.copy_from_slice(&grid.codes[row * grid.cols..][..grid.cols]);
        let stored = grid.scales[row * groups..].iter().zip(&grid.zeros[row * groups..]);
        for ((scale, min), (stored, zero)) in out.scales.iter_mut().zip(out.mins).zip(stored) {
            let zero = f32::from(*zero) - shift;
            *scale = *stored;
            *min = if halves { zero } else { stored * zero };
        }
    }))
}

/// A grid whose groups are multiples of 16, unpacked row by row.
struct GridRows(GridMatrix);

impl RowSource for GridRows {
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
        self.0.codes.len() + 4 * self.0.scales.len() + self.0.zeros.len()
    }

    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let grid = &self.0;
        let stored = &grid.codes[row * grid.cols..][..grid.cols];
        codes.iter_mut().zip(stored).for_each(|(out, code)| *out = (code ^ 0x80) as i8);
        let first = row * grid.groups_per_row();
        for (block, (scale, min)) in scales.iter_mut().zip(mins).enumerate() {
            let group = first + 16 * block / grid.group;
            *scale = grid.scales[group];
            *min = grid.scales[group] * (f32::from(grid.zeros[group]) - 128.0);
        }
    }
}

impl Part for GridPart {
    fn shape(&self) -> (usize, usize) {
        match &self.0 {
            Kind::Integer(weights) => (weights.rows(), weights.cols()),
            Kind::Dense(panels) => (panels.rows(), panels.cols()),
        }
    }

    fn resident_bytes(&self) -> usize {
        match &self.0 {
            Kind::Integer(weights) => weights.resident_bytes(),
            Kind::Dense(panels) => panels.resident_bytes(),
        }
    }

    fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        match &self.0 {
            Kind::Integer(weights) => crate::blocks::multiply(weights, x, y, add),
            Kind::Dense(panels) => panels.multiply(x.view(), y, add),
        }
    }

    fn add_row_to(&self, row: usize, out: &mut [f32]) {
        match &self.0 {
            Kind::Integer(weights) => crate::blocks::add_row(weights, row, out),
            Kind::Dense(panels) => {
                let mut values = vec![0.0; out.len()];
                panels.row_f32(row, &mut values);
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            }
        }
    }
}
