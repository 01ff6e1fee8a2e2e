//! LoRD: one low-rank factorisation, closed form, of what a linear does to its inputs.
//!
//! "LoRD: Low Rank Decomposition Of Monolingual Code LLMs For One-Shot Compression", 2023, arXiv 2309.14021. The weights'
//! own singular vectors are not those that matter: what is to be kept is the output `y = W·x`. The covariance of outputs is
//! `W·H·Wᵀ` (rows × rows, `H` the mean of `x·xᵀ`), and with its leading eigenvectors `U` (rows × r)
//!
//! `Ŵ = U·(UᵀW)`
//!
//! has the least `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` of all matrices of rank r: the sum of the eigenvalues left out. Plain SVD is the same
//! with `H = 1`. Stored are `U` and `UᵀW` as half floats, each vector's length shared between both.

use super::spectrum::{eigen, times_transposed, transposed};
use crate::method::{Needs, Statistics, WeightMethod};
use crate::quantize::RoundToNearest;
use crate::{Error, Level, Sum};
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};
use half::f16;

/// LoRD.
pub struct Lord;

static CARD: MethodCard = MethodCard {
    name: "lord",
    room: "weights",
    title: "LoRD: Low Rank Decomposition Of Monolingual Code LLMs For One-Shot Compression",
    year: 2023,
    arxiv: Some("2309.14021"),
    mechanism: "Projects each linear's outputs onto the leading eigenvectors of their covariance over calibration tokens: two thin \
                matrices in place of one, the best of their rank for the outputs.",
    guarantees: &[
        "the outputs' error is the sum of the eigenvalues left out: the least of any matrix of that rank, up to half-float rounding",
        "at most the error of plain singular value decomposition at the same rank",
        "without calibration it is plain singular value decomposition",
    ],
    simplifications: &["every linear keeps the same share of its rank; the paper picks layers by hand"],
};

impl WeightMethod for Lord {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        level.is_plain() || matches!(level, Level::Sum(Sum::LowRank { .. }))
    }

    fn levels(&self) -> Vec<Level> {
        [25, 50, 100, 150, 200, 250, 300, 400, 500, 700].map(|rank| Level::Sum(Sum::LowRank { rank })).to_vec()
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn rows_are_independent(&self) -> bool {
        false
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        if level.is_plain() {
            return RoundToNearest.compress(w, statistics, level);
        }
        let Level::Sum(sum @ Sum::LowRank { .. }) = level else {
            let can = "rank:PER_MILLE".to_string();
            return Err(Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can });
        };
        crate::quantize::check_finite(w)?;
        let (rows, cols) = (w.rows(), w.cols());
        let rank = sum.rank(rows, cols);
        let hessian = statistics.hessian_or_diagonal(cols)?;
        // Scaled so that neither tiny nor huge inputs leave the range of numbers.
        let mean = crate::quantize::mean_diagonal(&hessian);
        let scaled = hessian.matrix().data().iter().map(|h| (f64::from(*h) / mean) as f32).collect();
        let scaled = Matrix::from_vec(cols, cols, scaled);
        let covariance = times_transposed(&times_transposed(w, &scaled), w);
        let (_, vectors) = eigen(&covariance)?;
        let left = Matrix::from_vec(rank, rows, vectors.data()[..rank * rows].to_vec());
        let mut right = times_transposed(&left, &transposed(w));
        let mut left = transposed(&left);
        balance(&mut left, &mut right);
        let halves =
            |matrix: &Matrix| matrix.data().iter().map(|v| f16::from_f32(v.clamp(-65504.0, 65504.0))).collect();
        let part = StoredPart::LowRank { rank, left: halves(&left), right: halves(&right) };
        Ok(StoredMatrix { rows, cols, transform: None, parts: vec![part] })
    }
}

/// Gives each pair of vectors the same length, so that neither loses to half floats what the other keeps.
fn balance(left: &mut Matrix, right: &mut Matrix) {
    for index in 0..right.rows() {
        let length = right.row(index).iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        let root = length.sqrt() as f32;
        if root > 0.0 && root.is_finite() {
            right.row_mut(index).iter_mut().for_each(|value| *value /= root);
            (0..left.rows()).for_each(|row| left.row_mut(row)[index] *= root);
        }
    }
}
