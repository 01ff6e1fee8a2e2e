//! The second moments of a linear's inputs as a whole matrix: `H = (1/T)·Σ_t x_t·x_tᵀ`, shape `cols × cols`.
//!
//! The error that the outputs of `W` see when it is stored as `Ŵ` is `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` per token.

use crate::Error;
use brevity_kernels::Matrix;

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
