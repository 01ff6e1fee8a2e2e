//! Importance-weighted rounding: every weight to the closest point of its grid, grids fitted to what the inputs make of
//! errors.
//!
//! llama.cpp's importance matrix (Kawrakow, ggml-org/llama.cpp pull request 4861, 2024). Of the inputs `x` of a linear it
//! keeps one number per column, the second moment `m_k = E[x_k²]`, which is the diagonal of the layer's Hessian. An error
//! of weight k then costs `m_k` times its square at the output, so for each block or group the search looks for
//!
//! `min_{s,z} Σ_k m_k·(w_k − s·(q_k − z))²`, `q_k = clip(round(w_k/s + z), 0, 2^b − 1)`,
//!
//! over the same scales, offsets and sub-block scales as [`RoundToNearest`](super::RoundToNearest), block types and integer
//! grids alike. Shapes: any `outputs × inputs` that the level holds, `m` of length inputs. What the off-diagonal entries of
//! the Hessian know is left to [`Gptq`](super::Gptq).
//!
//! Moments are those of the original model: one pass of calibration, or a file that llama-imatrix wrote.

use super::rtn;
use crate::method::{Needs, Statistics, WeightMethod};
use crate::{Error, Level};
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::StoredMatrix;

/// Rounding to nearest on grids fitted under the inputs' second moments.
pub struct ImportanceMatrix;

static CARD: MethodCard = MethodCard {
    name: "imatrix",
    room: "weights",
    title: "llama.cpp: importance matrix calculations (pull request 4861)",
    year: 2024,
    arxiv: None,
    mechanism: "Each weight goes to the nearest point of its block's grid; scale and offset of every block come from a \
                search for the least squared error, each column weighted by the second moment of its input.",
    guarantees: &[
        "rows are independent; the same weights and moments give the same bytes at any thread count",
        "without moments, the bytes of rtn",
        "moments times a power of two give the same bytes",
    ],
    simplifications: &[],
};

impl WeightMethod for ImportanceMatrix {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        rtn::RoundToNearest.supports(level)
    }

    fn needs(&self) -> Needs {
        Needs::SecondMoments
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        let moments = statistics.importance(w.cols())?;
        // Where no input ever differed from zero every column counts alike.
        let scaled = moments.and_then(normalised);
        rtn::round(w, level, scaled.as_deref())
    }
}

/// Moments times the power of two that brings their mean into [1, 2), so that their unit does not matter; `None` if all are
/// zero. A power of two changes no rounding. Moments that are not finite are left for the search to refuse.
fn normalised(moments: &[f32]) -> Option<Vec<f32>> {
    let mean = moments.iter().map(|moment| f64::from(*moment)).sum::<f64>() / moments.len().max(1) as f64;
    if mean == 0.0 {
        return None;
    }
    if !mean.is_finite() {
        return Some(moments.to_vec());
    }
    let factor = (-mean.log2().floor()).exp2();
    Some(moments.iter().map(|moment| (f64::from(*moment) * factor) as f32).collect())
}
