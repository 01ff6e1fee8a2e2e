//! What a method that shrinks a matrix is given, and what it gives back.

use crate::hessian::Hessian;
use crate::{Error, Level};
use brevity_formats::TensorType;
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::StoredMatrix;
use std::sync::Arc;

/// What calibration says of the inputs of one matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Mean of x² per input column (length cols); empty where nothing was calibrated.
    pub second_moments: Vec<f32>,
    /// Mean of x·xᵀ; absent where it was not asked for (see [`WeightMethod::needs`]).
    pub hessian: Option<Arc<Hessian>>,
    /// Tokens that were seen.
    pub tokens: u64,
}

impl Statistics {
    /// The Hessian, if there is one; checked against the matrix.
    ///
    /// # Errors
    /// If it is of another number of columns.
    pub fn hessian(&self, cols: usize) -> Result<Option<&Hessian>, Error> {
        match &self.hessian {
            Some(hessian) if hessian.size() != cols => {
                Err(Error::StatisticsShape { found: hessian.size(), expected: cols })
            }
            hessian => Ok(hessian.as_deref()),
        }
    }

    /// The Hessian, or a diagonal one of the second moments, or the identity; checked against the matrix.
    ///
    /// # Errors
    /// If there is one of another number of columns, or second moments are not finite.
    pub fn hessian_or_diagonal(&self, cols: usize) -> Result<Arc<Hessian>, Error> {
        if let (Some(_), Some(hessian)) = (self.hessian(cols)?, &self.hessian) {
            return Ok(Arc::clone(hessian));
        }
        let moments = self.importance(cols)?;
        let mut matrix = Matrix::zeros(cols, cols);
        (0..cols).for_each(|col| matrix.row_mut(col)[col] = moments.map_or(1.0, |moments| moments[col]));
        Ok(Arc::new(Hessian::new(matrix, self.tokens)?))
    }

    /// The second moments, if there are any; checked against the matrix.
    ///
    /// # Errors
    /// If they are of another number of columns.
    pub fn importance(&self, cols: usize) -> Result<Option<&[f32]>, Error> {
        match self.second_moments.len() {
            0 => Ok(None),
            found if found == cols => Ok(Some(&self.second_moments)),
            found => Err(Error::StatisticsShape { found, expected: cols }),
        }
    }
}

/// A stored matrix, and what the report says of how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub stored: StoredMatrix,
    /// Rows that kept round-to-nearest because the method ended above its error.
    pub rows_kept: usize,
}

/// What a method must know of a matrix's inputs. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    Nothing,
    SecondMoments,
    Hessian,
}

/// A method that stores a matrix at a level.
pub trait WeightMethod: Send + Sync {
    fn card(&self) -> &MethodCard;

    /// Whether the method can store at this level at all.
    fn supports(&self, level: Level) -> bool;

    /// Levels that a budget may choose from, beside 16 bits; a format of its own where all are sums of parts.
    fn levels(&self) -> Vec<Level> {
        use TensorType::*;
        let ladder = [Q2K, Q3K, Iq4Xs, Mxfp4, Iq4Nl, Q4_0, Q4K, Q4_1, Q5_0, Q5K, Q5_1, Q6K, Q8_0];
        ladder.map(Level::Type).to_vec()
    }

    /// What to store at where no budget is named; `None`: the budget that is common to all methods.
    fn default_level(&self) -> Option<Level> {
        None
    }

    /// What calibration must provide; without it the method may still work, as its card says.
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// Whether rows are stored independently of each other: then a matrix may be given in slabs of rows.
    fn rows_are_independent(&self) -> bool;

    /// Stores `w` (outputs × inputs) at `level`.
    ///
    /// # Errors
    /// If the level does not hold such rows, or a weight is not finite.
    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error>;

    /// As [`compress`](Self::compress), with what there is to count.
    ///
    /// # Errors
    /// As [`compress`](Self::compress).
    fn compress_counted(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<Outcome, Error> {
        Ok(Outcome { stored: self.compress(w, statistics, level)?, rows_kept: 0 })
    }
}
