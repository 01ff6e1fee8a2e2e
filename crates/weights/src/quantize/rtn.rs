//! Round to nearest: every weight to the closest point of its grid, each row on its own.
//!
//! The oldest method and the baseline of all others ("A Survey of Quantization Methods for Efficient Neural Network
//! Inference", 2021, arXiv 2103.13630). No data is needed: what can be searched is the grid, and here the search is as
//! good as rounding to nearest gets. For each block or group of weights `w` it looks for the scale `s` and offset `z`
//! of least squared error
//!
//! `min_{s,z} Σ_k (w_k − s·(q_k − z))²`, `q_k = clip(round(w_k/s + z), 0, 2^b − 1)`,
//!
//! over clipped ranges, with the closed-form least-squares `s` for the codes found; block types search their
//! sub-block scales the same way (`brevity_formats::blocks`). Shapes: any `outputs × inputs` that the level holds.
//!
//! Guarantee: the squared error of every group is at most that of the plain min–max grid.

use crate::method::{Statistics, WeightMethod};
use crate::{Error, Level};
use brevity_formats::{TensorType, blocks, grid};
use brevity_kernels::{Matrix, pool};
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};
use std::sync::Mutex;

/// Round to nearest with searched scales.
pub struct RoundToNearest;

static CARD: MethodCard = MethodCard {
    name: "rtn",
    room: "weights",
    title: "A Survey of Quantization Methods for Efficient Neural Network Inference",
    year: 2021,
    arxiv: Some("2103.13630"),
    mechanism: "Each weight goes to the nearest point of its block's grid; scale and offset of every block come from a \
                search for the least squared error, clipping included.",
    guarantees: &[
        "the squared error of every group is at most that of the plain min-max grid",
        "rows are independent; the same weights give the same bytes at any thread count",
        "needs no data",
    ],
    simplifications: &[],
};

impl WeightMethod for RoundToNearest {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        match level {
            Level::Type(ty) => ty.writable(),
            Level::Integer { bits, .. } => (2..=8).contains(&bits),
            Level::Sum(_) => false,
        }
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn compress(&self, w: &Matrix, _statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        round(w, level, None)
    }
}

/// Rounds to nearest on grids whose errors are weighted by `importance`, one number per column.
pub(super) fn round(w: &Matrix, level: Level, importance: Option<&[f32]>) -> Result<StoredMatrix, Error> {
    let (rows, cols) = (w.rows(), w.cols());
    let part = match level {
        Level::Integer { bits, group } => StoredPart::Grid(round_to_grid(w, bits, group, importance)?),
        Level::Sum(_) => return Err(Error::DoesNotFit { level: level.to_string(), cols }),
        Level::Type(ty) => {
            let bytes = round_to_blocks(w, ty, importance)?;
            if ty.is_quantized() { StoredPart::Blocks { ty, bytes } } else { StoredPart::Dense { ty, bytes } }
        }
    };
    Ok(StoredMatrix { rows, cols, transform: None, parts: vec![part] })
}

/// Rows that one task rounds.
fn slab(rows: usize) -> usize {
    rows.div_ceil(4 * pool::threads()).max(1)
}

fn round_to_blocks(w: &Matrix, ty: TensorType, importance: Option<&[f32]>) -> Result<Vec<u8>, Error> {
    let does_not_fit = || Error::DoesNotFit { level: ty.name().to_string(), cols: w.cols() };
    let row_bytes = ty.row_bytes(w.cols()).ok_or_else(does_not_fit)?;
    let mut bytes = vec![0u8; row_bytes * w.rows()];
    let rows = slab(w.rows());
    let slabs = w.data().chunks(rows * w.cols()).zip(bytes.chunks_mut(rows * row_bytes));
    let tasks: Vec<_> = slabs.map(|pair| Mutex::new((pair, Ok(())))).collect();
    pool::parallel(tasks.len(), |index| {
        if let Ok(mut task) = tasks[index].lock() {
            let ((values, out), result) = &mut *task;
            *result = blocks::quantize(ty, values, importance, out);
        }
    });
    for task in tasks {
        if let Ok((_, result)) = task.into_inner() {
            result?;
        }
    }
    Ok(bytes)
}

fn round_to_grid(w: &Matrix, bits: u8, group: usize, importance: Option<&[f32]>) -> Result<grid::GridMatrix, Error> {
    let rows = slab(w.rows());
    let slabs: Vec<&[f32]> = w.data().chunks(rows * w.cols()).collect();
    let tasks: Vec<_> = slabs.iter().map(|_| Mutex::new(None)).collect();
    pool::parallel(tasks.len(), |index| {
        let rounded = grid::quantize(slabs[index], w.cols(), bits, group, importance, grid::Symmetry::Asymmetric);
        if let Ok(mut task) = tasks[index].lock() {
            *task = Some(rounded);
        }
    });
    let mut whole = grid::GridMatrix {
        bits,
        group,
        rows: w.rows(),
        cols: w.cols(),
        codes: Vec::with_capacity(w.rows() * w.cols()),
        scales: Vec::new(),
        zeros: Vec::new(),
    };
    for task in tasks {
        if let Ok(Some(part)) = task.into_inner() {
            let part = part?;
            whole.codes.extend(part.codes);
            whole.scales.extend(part.scales);
            whole.zeros.extend(part.zeros);
        }
    }
    Ok(whole)
}
