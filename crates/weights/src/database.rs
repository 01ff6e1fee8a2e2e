//! What each level of each tensor would cost and lose.
//!
//! The loss of storing `W` as `Ŵ` is the relative energy of the error that the outputs see,
//! `Σ_k m_k·Σ_n (w_nk − ŵ_nk)² / Σ_k m_k·Σ_n w_nk²`, with `m_k` the second moment of input k (1 without calibration),
//! (`tr(E·H·Eᵀ) / tr(W·H·Wᵀ)` where the whole Hessian is known) times the tensor's sensitivity. Relative output errors of the layers add up to the divergence of the whole to first
//! order (the linearity theorem of HIGGS, arXiv 2411.17525), each with its own factor: that factor is the sensitivity.
//!
//! Large tensors are measured on a sample of rows, spread evenly, of at most [`SAMPLE_WEIGHTS`] weights.

use crate::{Error, Level, Statistics, WeightMethod};
use brevity_kernels::Matrix;

/// Weights of one tensor that are rounded to measure a level.
pub const SAMPLE_WEIGHTS: usize = 1 << 19;

/// One level of a tensor: bytes in the file, and expected loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub level: Level,
    pub bytes: u64,
    /// Relative error of the outputs (energy), without the sensitivity.
    pub error: f64,
    pub loss: f64,
}

/// A tensor's levels.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    pub weights: u64,
    pub candidates: Vec<Candidate>,
}

/// All tensors' levels, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Database {
    pub entries: Vec<Entry>,
}

/// Which rows of `rows` to measure so that at most [`SAMPLE_WEIGHTS`] weights are.
pub fn sample_rows(rows: usize, cols: usize) -> Vec<usize> {
    let wanted = (SAMPLE_WEIGHTS / cols.max(1)).clamp(1, rows.max(1));
    (0..wanted.min(rows)).map(|index| index * rows / wanted).collect()
}

/// Relative output error of storing `sample` (some rows of a tensor) at `level`.
///
/// # Errors
/// If the method refuses the level or a weight.
pub fn error_at(
    method: &dyn WeightMethod,
    sample: &Matrix,
    statistics: &Statistics,
    level: Level,
) -> Result<f64, Error> {
    let restored = method.compress(sample, statistics, level)?.dequantize()?;
    output_error(sample, &restored, statistics)
}

/// Relative error of the outputs as far as the statistics tell: under the Hessian, or else under the second moments.
///
/// # Errors
/// If the statistics are of another number of columns.
pub fn output_error(weights: &Matrix, restored: &Matrix, statistics: &Statistics) -> Result<f64, Error> {
    let cols = weights.cols();
    let Some(hessian) = statistics.hessian(cols)? else {
        return relative_error(weights, restored, statistics.importance(cols)?);
    };
    let differences = weights.data().iter().zip(restored.data()).map(|(w, r)| w - r).collect();
    let error = hessian.energy(&Matrix::from_vec(weights.rows(), cols, differences))?;
    let energy = hessian.energy(weights)?;
    Ok(if energy > 0.0 { error / energy } else { error })
}

/// `Σ m·(w − ŵ)² / Σ m·w²`; 0 for a matrix of zeros kept as zeros.
pub fn relative_error(weights: &Matrix, restored: &Matrix, moments: Option<&[f32]>) -> Result<f64, Error> {
    let (mut error, mut energy) = (0.0f64, 0.0f64);
    for row in 0..weights.rows() {
        for (col, (&w, &r)) in weights.row(row).iter().zip(restored.row(row)).enumerate() {
            let moment = moments.map_or(1.0, |moments| f64::from(moments[col]));
            let (w, r) = (f64::from(w), f64::from(r));
            error += moment * (w - r) * (w - r);
            energy += moment * w * w;
        }
    }
    Ok(if energy > 0.0 { error / energy } else { error })
}
