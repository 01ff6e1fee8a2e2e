//! The second moments of a linear's inputs as a whole matrix: `H = (1/T)·Σ_t x_t·x_tᵀ`, shape `cols × cols`.
//!
//! The error that the outputs of `W` see when it is stored as `Ŵ` is `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` per token.

use crate::Error;
use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, MatrixView};

/// `H`, symmetric, and how many tokens it is the mean of.
#[derive(Debug, Clone, PartialEq)]
pub struct Hessian {
    matrix: Matrix,
    tokens: u64,
}

impl Hessian {
    /// Takes a finished mean.
    ///
    /// # Errors
    /// If it is not square or a value is not finite.
    pub fn new(matrix: Matrix, tokens: u64) -> Result<Self, Error> {
        if matrix.rows() != matrix.cols() {
            return Err(Error::StatisticsShape { found: matrix.rows(), expected: matrix.cols() });
        }
        match matrix.data().iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::HessianNotFinite { row: index / matrix.cols(), column: index % matrix.cols() }),
            None => Ok(Self { matrix, tokens }),
        }
    }

    /// `cols × cols`.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    pub fn size(&self) -> usize {
        self.matrix.rows()
    }

    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The diagonal: the second moment of each input.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.size()).map(|index| self.matrix.row(index)[index]).collect()
    }
}

impl Hessian {
    /// `tr(E·H·Eᵀ)`: the energy a token that an error `E` of the weights (outputs × inputs) brings to the outputs.
    ///
    /// # Errors
    /// If the error is of another number of columns.
    pub fn energy(&self, error: &Matrix) -> Result<f64, Error> {
        if error.cols() != self.size() {
            return Err(Error::StatisticsShape { found: self.size(), expected: error.cols() });
        }
        let panels = DensePanels::from_f32(self.size(), self.size(), self.matrix.data());
        let mut product = Matrix::zeros(error.rows(), error.cols());
        panels.multiply(error.view(), &mut product.view_mut(), false);
        let products = product.data().iter().zip(error.data());
        Ok(products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>().max(0.0))
    }
}

/// A Hessian in the making: `Σ_t x_t·x_tᵀ`.
#[derive(Debug, Clone)]
pub struct HessianSum {
    sum: Matrix,
    tokens: u64,
}

impl HessianSum {
    pub fn new(cols: usize) -> Self {
        Self { sum: Matrix::zeros(cols, cols), tokens: 0 }
    }

    /// Adds inputs, one row a token. Each call adds one finished product, so the same calls give the same bits on any
    /// number of threads.
    ///
    /// # Panics
    /// If the rows are of another length.
    pub fn add(&mut self, inputs: MatrixView) {
        let (tokens, cols) = (inputs.rows(), inputs.cols());
        assert_eq!(cols, self.sum.cols(), "inputs of another length");
        let mut turned = Matrix::zeros(cols, tokens);
        turned.view_mut().parallel_rows(64, |column, row| {
            row.iter_mut().enumerate().for_each(|(token, value)| *value = inputs.row(token)[column]);
        });
        let panels = DensePanels::from_f32(cols, tokens, turned.data());
        panels.multiply(turned.view(), &mut self.sum.view_mut(), true);
        self.tokens += tokens as u64;
    }

    /// The mean so far.
    ///
    /// # Errors
    /// If a sum is not finite.
    pub fn mean(mut self) -> Result<Hessian, Error> {
        let scale = 1.0 / self.tokens.max(1) as f32;
        self.sum.view_mut().parallel_rows(64, |_, row| row.iter_mut().for_each(|value| *value *= scale));
        Hessian::new(self.sum, self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rows: usize, cols: usize, seed: u32) -> Matrix {
        let value = |index: usize| ((index as u32 + seed).wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0;
        Matrix::from_vec(rows, cols, (0..rows * cols).map(value).collect())
    }

    #[test]
    fn sums_of_chunks_are_the_mean_of_outer_products_and_measure_outputs() {
        let (inputs, error) = (values(50, 7, 1), values(3, 7, 9));
        let mut sum = HessianSum::new(7);
        sum.add(inputs.view().rows_range(0..33));
        sum.add(inputs.view().rows_range(33..50));
        let hessian = sum.mean().unwrap();
        assert_eq!(hessian.tokens(), 50);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        for row in 0..7 {
            for col in 0..7 {
                let expected: f64 =
                    (0..50).map(|t| f64::from(inputs.row(t)[row] * inputs.row(t)[col])).sum::<f64>() / 50.0;
                assert!((f64::from(hessian.matrix().row(row)[col]) - expected).abs() < 1e-5);
            }
        }
        let outputs: f64 = (0..50).map(|t| (0..3).map(|r| dot(error.row(r), inputs.row(t)).powi(2)).sum::<f64>()).sum();
        let energy = hessian.energy(&error).unwrap();
        assert!((energy - outputs / 50.0).abs() < 1e-4 * energy, "{energy} {}", outputs / 50.0);
        assert!(hessian.energy(&values(2, 6, 0)).is_err());
    }

    #[test]
    fn a_sum_that_overflows_is_an_error() {
        let mut sum = HessianSum::new(2);
        sum.add(Matrix::from_vec(1, 2, vec![1.0, 3e38]).view());
        assert!(matches!(sum.mean(), Err(Error::HessianNotFinite { row: 1, column: 1 })));
    }
}
