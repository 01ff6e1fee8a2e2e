//! GPTQ: column by column, every rounding error is made good by the columns that are still open.
//!
//! "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022, arXiv 2210.17323. What is
//! made small is the error that a linear's outputs see, `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` with `H` the mean of `x·xᵀ` over calibration
//! tokens (`W`: outputs × inputs, `H`: inputs × inputs). Columns are rounded one after the other; the error of each is carried
//! into those behind it through the Cholesky factor of `H` ([`feedback`](super::feedback) has the algebra), in lazy
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
//! Frames are searched for the least `Σ_k D_k·η_k²`, what errors really cost (`D` as in [`feedback`](super::feedback)).
//! Channels that are dead in calibration get λ as their cost: they shape no scale and are rounded to nearest.

use super::feedback::Feedback;
use super::rtn::RoundToNearest;
use super::unit::{Rows, Unit, units};
use crate::method::{Needs, Outcome, Statistics, WeightMethod};
use crate::{Error, Hessian, Level};
use brevity_kernels::{Matrix, pool};
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};
use std::ops::Range;
use std::sync::Mutex;

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
}

impl Gptq {
    /// What the registry holds.
    pub const DEFAULT: Gptq = Gptq { damping: 0.01, frame: Frame::Reached };
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
        "one factorisation of H in place of the Cholesky factor of its inverse: the same feedback (QuIP, theorem 6)",
    ],
};

/// Weights in a lazy block.
const BLOCK: usize = 128;
/// A unit longer than this is fitted before.
const LONGEST_UNIT: usize = 512;
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
        let plain = matches!(level, Level::Type(ty) if !ty.is_quantized());
        let hessian = match statistics.hessian(w.cols())? {
            Some(hessian) if !plain => hessian,
            _ => return Ok(Outcome { stored: nearest, rows_kept: 0 }),
        };
        let plan = Plan::new(hessian, level, *self);
        let (rows, rows_kept) = plan.run(w, nearest)?;
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

/// What all rows share.
pub(crate) struct Plan {
    level: Level,
    cols: usize,
    units: Vec<Range<usize>>,
    feedback: Feedback,
    /// For each block of the feedback, its runs of places in one unit, with the unit; empty when frames come first.
    runs: Vec<Vec<(usize, Range<usize>)>>,
    /// Place of each column in the order.
    place: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(hessian: &Hessian, level: Level, options: Gptq) -> Self {
        let cols = hessian.size();
        let units = units(level, cols);
        let diagonal = hessian.diagonal();
        let length = units.first().map_or(0, Range::len);
        let reached = options.frame == Frame::Reached && length <= LONGEST_UNIT && units.len() > 1;
        let order = if reached { unit_order(&units, &diagonal) } else { free_order(&diagonal) };
        let unit_of = |column: usize| column / length.max(1);
        let mut ends: Vec<usize> = Vec::new();
        if reached {
            // Blocks of whole units.
            let (mut start, mut end) = (0, 0);
            while end < cols {
                let next = end + units[unit_of(order[end])].len();
                if next - start > BLOCK && end > start {
                    ends.push(end);
                    start = end;
                }
                end = next;
            }
        } else {
            ends.extend((BLOCK..cols).step_by(BLOCK));
        }
        ends.push(cols);
        let feedback = Feedback::new(hessian, order, &ends, options.damping);
        let mut place = vec![0; cols];
        feedback.order().iter().enumerate().for_each(|(at, &column)| place[column] = at);
        let runs_of = |block: usize| {
            let places = feedback.places(block);
            let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
            for at in places {
                let unit = unit_of(feedback.order()[at]);
                match runs.last_mut() {
                    Some((last, run)) if *last == unit => run.end = at + 1,
                    _ => runs.push((unit, at..at + 1)),
                }
            }
            runs
        };
        let runs = if reached { (0..feedback.blocks()).map(runs_of).collect() } else { Vec::new() };
        Self { level, cols, units, feedback, runs, place }
    }

    /// Rounds all rows; those that `nearest` (round-to-nearest of the same level) serves better are taken from it and
    /// counted.
    fn run(&self, w: &Matrix, nearest: StoredMatrix) -> Result<(Rows, usize), Error> {
        let restored = nearest.dequantize()?;
        let nearest = match nearest.parts.into_iter().next() {
            Some(StoredPart::Grid(grid)) => Rows::Grid(grid),
            Some(StoredPart::Blocks { ty, bytes }) => {
                Rows::Blocks { ty, row: ty.row_bytes(self.cols).unwrap_or(0), bytes }
            }
            _ => return Err(unsupported(self.level)),
        };
        let slabs: Vec<Range<usize>> = (0..w.rows()).step_by(SLAB).map(|at| at..(at + SLAB).min(w.rows())).collect();
        let tasks: Vec<Mutex<Option<Result<Rounded, Error>>>> = slabs.iter().map(|_| Mutex::new(None)).collect();
        pool::parallel(slabs.len(), |index| {
            let range = slabs[index].start * self.cols..slabs[index].end * self.cols;
            let slab = Slab { plan: self, rows: slabs[index].len(), weights: &w.data()[range.clone()] };
            let done = slab.run(&restored.data()[range]);
            if let Ok(mut task) = tasks[index].lock() {
                *task = Some(done);
            }
        });
        let (mut whole, mut kept) = (nearest.clone(), 0);
        for (slab, task) in slabs.into_iter().zip(tasks) {
            let Ok(Some(done)) = task.into_inner() else { continue };
            let (rows, better) = done?;
            kept += better.iter().filter(|better| !**better).count();
            whole.put_rows(slab.start, &rows, &better);
        }
        Ok((whole, kept))
    }
}

/// Columns by falling diagonal; equal ones stay in their order.
fn free_order(diagonal: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..diagonal.len()).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    order
}

/// Units by their falling greatest diagonal, the columns of each by falling diagonal.
fn unit_order(units: &[Range<usize>], diagonal: &[f32]) -> Vec<usize> {
    let peak = |unit: &Range<usize>| diagonal[unit.clone()].iter().copied().fold(0.0, f32::max);
    let mut order: Vec<&Range<usize>> = units.iter().collect();
    order.sort_by(|a, b| peak(b).total_cmp(&peak(a)));
    let sorted = |unit: &Range<usize>| {
        free_order(&diagonal[unit.clone()]).into_iter().map(move |at| at + unit.start).collect::<Vec<_>>()
    };
    order.into_iter().flat_map(sorted).collect()
}

/// Rows of a slab, and of each whether it is at least as good as round-to-nearest.
type Rounded = (Rows, Vec<bool>);

/// Rows that are rounded together.
struct Slab<'a> {
    plan: &'a Plan,
    rows: usize,
    /// rows × cols.
    weights: &'a [f32],
}

impl Slab<'_> {
    /// The rows rounded, and of each whether it ended at most at the error of `nearest` (rows × cols).
    fn run(&self, nearest: &[f32]) -> Result<Rounded, Error> {
        let Plan { level, cols, units, feedback, .. } = self.plan;
        let mut fitted: Vec<Option<Unit>> = units.iter().map(|_| None).collect();
        if self.plan.runs.is_empty() {
            for (index, unit) in units.iter().enumerate() {
                fitted[index] = Some(self.fit(unit, |row, column| self.weights[row * cols + column])?);
            }
        }
        let mut errors = Matrix::zeros(self.rows, *cols);
        let mut codes = vec![0u8; self.rows * cols];
        let mut norms = vec![0.0f64; self.rows];
        let mut corrected = Matrix::default();
        for block in 0..feedback.blocks() {
            let places = feedback.places(block);
            corrected.reshape(self.rows, places.len());
            for row in 0..self.rows {
                let columns = feedback.order()[places.clone()].iter();
                let weights = &self.weights[row * cols..];
                corrected.row_mut(row).iter_mut().zip(columns).for_each(|(value, &column)| *value = weights[column]);
            }
            feedback.add_before(block, errors.view(), &mut corrected);
            let whole = [(usize::MAX, places.clone())];
            for (unit, run) in self.plan.runs.get(block).map_or(&whole[..], Vec::as_slice) {
                if *unit != usize::MAX {
                    let value = |row: usize, column: usize| corrected.row(row)[self.plan.place[column] - places.start];
                    fitted[*unit] = Some(self.fit(&units[*unit], value)?);
                }
                let length = units[0].len();
                for row in 0..self.rows {
                    let corrected = corrected.row_mut(row);
                    for place in run.clone() {
                        let (column, at) = (feedback.order()[place], place - places.start);
                        let Some(unit) = &fitted[column / length] else { continue };
                        let (code, value) = unit.nearest(row, column % length, corrected[at]);
                        let error = self.weights[row * cols + column] - value;
                        norms[row] += feedback.cost(place, corrected[at] - value, error);
                        errors.row_mut(row)[place] = error;
                        codes[row * cols + column] = code;
                        feedback.add_inner(block, at, error, corrected);
                    }
                }
            }
        }
        let fitted: Vec<Unit> = fitted.into_iter().flatten().collect();
        let rows = Rows::assemble(*level, *cols, &fitted, codes)?;
        let limits = self.norms_of(nearest);
        Ok((rows, norms.iter().zip(limits).map(|(norm, limit)| *norm <= limit).collect()))
    }

    /// The frame of a unit in every row; what feedback took beyond all numbers falls back to the weights.
    fn fit(&self, unit: &Range<usize>, value: impl Fn(usize, usize) -> f32) -> Result<Unit, Error> {
        let importance: Vec<f32> = unit.clone().map(|c| self.plan.feedback.weights()[self.plan.place[c]]).collect();
        let mut values = Vec::with_capacity(self.rows * unit.len());
        for row in 0..self.rows {
            for column in unit.clone() {
                let value = value(row, column);
                values.push(if value.is_finite() { value } else { self.weights[row * self.plan.cols + column] });
            }
        }
        Unit::fit(self.plan.level, &values, &importance)
    }

    /// Norms of what other rows in place of these lose.
    fn norms_of(&self, restored: &[f32]) -> Vec<f64> {
        let cols = self.plan.cols;
        let mut errors = Matrix::zeros(self.rows, cols);
        for row in 0..self.rows {
            let columns = self.plan.feedback.order().iter();
            for (error, &column) in errors.row_mut(row).iter_mut().zip(columns) {
                *error = self.weights[row * cols + column] - restored[row * cols + column];
            }
        }
        self.plan.feedback.norms(&errors)
    }
}
