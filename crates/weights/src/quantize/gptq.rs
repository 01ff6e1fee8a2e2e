//! GPTQ: column by column, every rounding error is made good by the columns that are still open.
//!
//! "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022, arXiv 2210.17323. What is
//! made small is the error that a linear's outputs see, `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` with `H` the mean of `x·xᵀ` over calibration
//! tokens (`W`: outputs × inputs, `H`: inputs × inputs). Columns are rounded one after the other; the error of each is carried
//! into those behind it through the Cholesky factor of `H` (`feedback.rs` has the algebra), in lazy
//! blocks. Rows are independent and lie on all threads.
//!
//! Every level with codes works: integer grids with any group, and GGUF blocks up to k-quant super-blocks and IQ4, whose
//! *frames* (scales, sub-block scales, minima) are searched first and whose codes GPTQ chooses. Two ways, [`Frame`]:
//!
//! - `Reached`: units (groups, blocks) go in the order of their greatest `H` diagonal, the columns within one likewise, and
//!   a unit's frame is fitted to the weights as they are when it is reached, earlier errors included. The order of
//!   columns needs no index in the file, since units stay whole.
//! - `Before`: all frames come from the original weights (GPTQ's "static groups"), then columns go in the order of the diagonal
//!   across the whole row. Rows that are one group take this way always.
//!
//! Frames are searched for the least `Σ_k D_k·η_k²`, what errors really cost (`D` as in `feedback.rs`).
//! After the sweep come passes of coordinate descent: each code again, given all others (`descent.rs`).
//! Channels that are dead in calibration get λ as their cost: they shape no scale and are rounded to nearest.

use super::rtn::RoundToNearest;
use super::sweep::{Plan, Rounding, Slab, in_slabs};
use super::unit::{Rows, Unit};
use crate::method::{Needs, Outcome, Statistics, WeightMethod};
use crate::{Error, Level};
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};

/// When frames are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// All of them first, on the original weights: free order of columns, the same scales as weighted rounding.
    Before,
    /// Each when its columns are reached, on weights that hold the errors made so far.
    Reached,
}

/// GPTQ with its options.
#[derive(Debug, Clone, Copy)]
pub struct Gptq {
    /// λ relative to the mean diagonal of the Hessian; grows until the factor exists.
    pub damping: f32,
    pub frame: Frame,
    /// Passes of coordinate descent on the codes after the sweep (`descent.rs`).
    pub passes: usize,
}

impl Gptq {
    /// What the registry holds.
    pub const DEFAULT: Gptq = Gptq { damping: 0.01, frame: Frame::Reached, passes: 2 };
}

static CARD: MethodCard = MethodCard {
    name: "gptq",
    room: "weights",
    title: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
    year: 2022,
    arxiv: Some("2210.17323"),
    mechanism: "Rounds column by column and carries each error into the columns still open, through the Cholesky factor of \
                the inputs' Hessian, so that the outputs' error stays small; works on integer grids and inside GGUF blocks.",
    guarantees: &[
        "no row ends above round-to-nearest in the Hessian norm: such rows keep round-to-nearest, and are counted",
        "without a Hessian it is round-to-nearest; with a diagonal one, round-to-nearest in frames weighted by it",
        "the same weights and Hessian give the same bytes at any thread count",
    ],
    simplifications: &[
        "the order of columns is that of the Hessian's diagonal with groups kept whole, so no index is stored",
        "two passes of coordinate descent on the codes follow the sweep (QuantEase's step, arXiv 2309.01885)",
        "one factorisation of H in place of the Cholesky factor of its inverse: the same feedback (QuIP, theorem 6)",
    ],
};

/// Rows that go through the blocks together.
const SLAB: usize = 64;

impl WeightMethod for Gptq {
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

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        Ok(self.compress_counted(w, statistics, level)?.stored)
    }

    fn compress_counted(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<Outcome, Error> {
        if !self.supports(level) {
            return Err(unsupported(level));
        }
        let nearest = RoundToNearest.compress(w, statistics, level)?;
        let hessian = match statistics.hessian(w.cols())? {
            Some(hessian) if !level.is_plain() => hessian,
            _ => return Ok(Outcome { stored: nearest, rows_kept: 0 }),
        };
        let plan = Plan::new(hessian, level, *self);
        let (rows, rows_kept) = run(&plan, w, level, nearest)?;
        let part = match rows {
            Rows::Grid(grid) => StoredPart::Grid(grid),
            Rows::Blocks { ty, bytes, .. } => StoredPart::Blocks { ty, bytes },
        };
        Ok(Outcome {
            stored: StoredMatrix { rows: w.rows(), cols: w.cols(), transform: None, parts: vec![part] },
            rows_kept,
        })
    }
}

fn unsupported(level: Level) -> Error {
    let can = "integer grids and GGUF's block types".to_string();
    Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can }
}

/// Rounds all rows; those that `nearest` (round-to-nearest of the same level) serves better are taken from it and counted.
fn run(plan: &Plan, w: &Matrix, level: Level, nearest: StoredMatrix) -> Result<(Rows, usize), Error> {
    let cols = w.cols();
    let restored = nearest.dequantize()?;
    let mut whole = match nearest.parts.into_iter().next() {
        Some(StoredPart::Grid(grid)) => Rows::Grid(grid),
        Some(StoredPart::Blocks { ty, bytes }) => Rows::Blocks { ty, row: ty.row_bytes(cols).unwrap_or(0), bytes },
        _ => return Err(unsupported(level)),
    };
    let slabs = in_slabs(w, SLAB, |rows, weights| {
        let nearest = &restored.data()[rows.start * cols..rows.end * cols];
        round(&Slab { plan, first: rows.start, rows: rows.len(), weights }, level, nearest)
    })?;
    let mut kept = 0;
    for (slab, (rows, better)) in slabs {
        kept += better.iter().filter(|better| !**better).count();
        whole.put_rows(slab.start, &rows, &better);
    }
    Ok((whole, kept))
}

/// Rows of a slab, and of each whether it is at least as good as round-to-nearest.
type Rounded = (Rows, Vec<bool>);

fn round(slab: &Slab, level: Level, nearest: &[f32]) -> Result<Rounded, Error> {
    let cols = slab.weights.len() / slab.rows.max(1);
    let swept = slab.sweep(&AtLevel(level))?;
    let error = |row: usize, column: usize| slab.weights[row * cols + column] - nearest[row * cols + column];
    let better = slab.plan.reach(&swept.norms, error);
    Ok((Rows::assemble(level, cols, &swept.units, swept.codes)?, better))
}

struct AtLevel(Level);

impl Rounding for AtLevel {
    type Unit = Unit;

    fn fit(&self, _first: usize, _unit: usize, values: &[f32], importance: &[f32]) -> Result<Unit, Error> {
        Unit::fit(self.0, values, importance)
    }

    fn nearest(unit: &Unit, row: usize, at: usize, value: f32) -> (u8, f32) {
        unit.nearest(row, at, value)
    }
}
