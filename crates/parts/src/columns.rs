//! Some columns of a matrix as f16, in place of what the other parts have there.
//!
//! Multiplying gathers these columns of the input and is one thin product: columns·outputs multiplications a token. The
//! other parts see the input with these columns at zero, so its outliers do not widen their 8-bit scales.

use crate::{Input, Part};
use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, MatrixMut};

pub struct ColumnsPart {
    pub(crate) cols: usize,
    /// Ascending.
    pub(crate) columns: Vec<u32>,
    /// outputs × columns held.
    pub(crate) values: DensePanels,
}

impl ColumnsPart {
    /// The input without these columns.
    pub(crate) fn mask(&self, x: &Input) -> Matrix {
        let mut masked = x.to_matrix();
        for token in 0..masked.rows() {
            let row = masked.row_mut(token);
            self.columns.iter().for_each(|&column| row[column as usize] = 0.0);
        }
        masked
    }

    /// Writes a row's weights over what stands in these columns.
    pub(crate) fn set_row(&self, row: usize, out: &mut [f32]) {
        self.columns.iter().for_each(|&column| out[column as usize] = 0.0);
        self.add_row_to(row, out);
    }
}

impl Part for ColumnsPart {
    fn shape(&self) -> (usize, usize) {
        (self.values.rows(), self.cols)
    }

    fn resident_bytes(&self) -> usize {
        4 * self.columns.len() + self.values.resident_bytes()
    }

    fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        let mut gathered = Matrix::zeros(x.rows(), self.columns.len());
        for token in 0..x.rows() {
            let input = x.view().row(token);
            let row = gathered.row_mut(token).iter_mut().zip(&self.columns);
            row.for_each(|(value, &column)| *value = input[column as usize]);
        }
        self.values.multiply(gathered.view(), y, add);
    }

    fn add_row_to(&self, row: usize, out: &mut [f32]) {
        let mut values = vec![0.0; self.columns.len()];
        self.values.row_f32(row, &mut values);
        self.columns.iter().zip(values).for_each(|(&column, value)| out[column as usize] += value);
    }
}
