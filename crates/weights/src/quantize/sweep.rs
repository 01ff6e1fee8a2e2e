//! One sweep over the columns of a slab of rows: frames are fitted, codes chosen, errors carried on.

use super::descent::Descent;
use super::feedback::Feedback;
use super::gptq::{Frame, Gptq};
use super::unit::units;
use crate::{Error, Hessian, Level};
use brevity_kernels::{Matrix, pool};
use std::ops::Range;
use std::sync::Mutex;

/// Weights in a lazy block.
const BLOCK: usize = 128;
/// A unit longer than this is fitted before.
const LONGEST_UNIT: usize = 512;

/// What a method makes of the units and weights that the sweep shows it.
pub(crate) trait Rounding: Sync {
    /// The scales of a unit in all rows of a slab.
    type Unit;

    /// Fits unit `unit` for rows that begin at `first`: `values` is rows × columns of the unit, `importance` what a
    /// squared error of each column costs.
    fn fit(&self, first: usize, unit: usize, values: &[f32], importance: &[f32]) -> Result<Self::Unit, Error>;

    /// The code for `value` in a row of the slab, `at` columns from the unit's first, and what it stands for.
    fn nearest(unit: &Self::Unit, row: usize, at: usize, value: f32) -> (u8, f32);

    /// Takes note of what was chosen.
    fn accept(_unit: &mut Self::Unit, _row: usize, _at: usize, _chosen: (u8, f32)) {}
}

/// What all rows share.
pub(crate) struct Plan {
    cols: usize,
    units: Vec<Range<usize>>,
    feedback: Feedback,
    descent: Option<Descent>,
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
        let length = units.first().map_or(1, Range::len).max(1);
        let reached = options.frame == Frame::Reached && length <= LONGEST_UNIT && units.len() > 1;
        let order = if reached { unit_order(&units, &diagonal) } else { free_order(&diagonal) };
        let ends = match reached {
            true => unit_ends(order.iter().map(|&column| column / length), &units),
            false => (BLOCK..cols).step_by(BLOCK).chain([cols]).collect(),
        };
        let feedback = Feedback::new(hessian, order, &ends, options.damping);
        let mut place = vec![0; cols];
        feedback.order().iter().enumerate().for_each(|(at, &column)| place[column] = at);
        let runs_of = |block: usize| {
            let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
            for at in feedback.places(block) {
                let unit = feedback.order()[at] / length;
                match runs.last_mut() {
                    Some((last, run)) if *last == unit => run.end = at + 1,
                    _ => runs.push((unit, at..at + 1)),
                }
            }
            runs
        };
        let runs = if reached { (0..feedback.blocks()).map(runs_of).collect() } else { Vec::new() };
        let descent =
            (options.passes > 0).then(|| Descent::new(hessian, feedback.order(), feedback.damping(), options.passes));
        Self { cols, units, feedback, descent, runs, place }
    }

    pub(crate) fn units(&self) -> &[Range<usize>] {
        &self.units
    }

    /// What a squared corrected error of each column costs.
    pub(crate) fn importance(&self, columns: Range<usize>) -> Vec<f32> {
        columns.map(|column| self.feedback.weights()[self.place[column]]).collect()
    }

    /// Whether `e·H·eᵀ` of each row reaches its limit (in units of the mean diagonal), for errors that `error` gives by row
    /// and column.
    pub(crate) fn reach(&self, limits: &[f64], error: impl Fn(usize, usize) -> f32) -> Vec<bool> {
        let mut errors = Matrix::zeros(limits.len(), self.cols);
        for row in 0..limits.len() {
            let columns = self.feedback.order().iter();
            errors.row_mut(row).iter_mut().zip(columns).for_each(|(value, &column)| *value = error(row, column));
        }
        self.feedback.reach(&errors, limits)
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
    let mut columns = Vec::with_capacity(diagonal.len());
    for unit in order {
        columns.extend(free_order(&diagonal[unit.clone()]).into_iter().map(|at| at + unit.start));
    }
    columns
}

/// Ends of blocks of whole units, of about [`BLOCK`] columns.
fn unit_ends(unit_of: impl Iterator<Item = usize>, units: &[Range<usize>]) -> Vec<usize> {
    let (mut ends, mut start, mut end) = (Vec::new(), 0, 0);
    for (place, unit) in unit_of.enumerate() {
        if place < end {
            continue;
        }
        let next = end + units[unit].len();
        if next - start > BLOCK && end > start {
            ends.push(end);
            start = end;
        }
        end = next;
    }
    ends.push(end);
    ends
}

/// Slabs of rows with what was made of them.
pub(crate) type Slabs<T> = Vec<(Range<usize>, T)>;

/// Runs `each` on slabs of `size` rows of a matrix, on all threads; it is given the rows and their weights.
pub(crate) fn in_slabs<T: Send>(
    w: &Matrix,
    size: usize,
    each: impl Fn(Range<usize>, &[f32]) -> Result<T, Error> + Sync,
) -> Result<Slabs<T>, Error> {
    type Slot<T> = Mutex<Option<Result<T, Error>>>;
    let cols = w.cols();
    let slabs: Vec<Range<usize>> = (0..w.rows()).step_by(size).map(|at| at..(at + size).min(w.rows())).collect();
    let slots: Vec<Slot<T>> = slabs.iter().map(|_| Mutex::new(None)).collect();
    pool::parallel(slabs.len(), |index| {
        let rows = slabs[index].clone();
        let done = each(rows.clone(), &w.data()[rows.start * cols..rows.end * cols]);
        if let Ok(mut slot) = slots[index].lock() {
            *slot = Some(done);
        }
    });
    let done = slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten());
    slabs.into_iter().zip(done).map(|(rows, done)| Ok((rows, done?))).collect()
}

/// Rows that are rounded together.
pub(crate) struct Slab<'a> {
    pub(crate) plan: &'a Plan,
    /// The first of the rows.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// rows × cols.
    pub(crate) weights: &'a [f32],
}

/// A slab after the sweep.
pub(crate) struct Swept<U> {
    pub(crate) units: Vec<U>,
    /// rows × cols, in natural order.
    pub(crate) codes: Vec<u8>,
    /// `e·H·eᵀ` of each row, in units of the mean diagonal.
    pub(crate) norms: Vec<f64>,
}

impl Slab<'_> {
    pub(crate) fn sweep<R: Rounding>(&self, rounding: &R) -> Result<Swept<R::Unit>, Error> {
        let Plan { cols, units, feedback, runs, place, .. } = self.plan;
        let mut fitted: Vec<Option<R::Unit>> = units.iter().map(|_| None).collect();
        if runs.is_empty() {
            for (index, unit) in fitted.iter_mut().enumerate() {
                *unit = Some(self.fit(rounding, index, |row, column| self.weights[row * cols + column])?);
            }
        }
        let length = units.first().map_or(1, Range::len).max(1);
        let mut errors = Matrix::zeros(self.rows, *cols);
        let mut codes = vec![0u8; self.rows * cols];
        let mut norms = vec![0.0f64; self.rows];
        let mut corrected = Matrix::default();
        for block in 0..feedback.blocks() {
            let places = feedback.places(block);
            self.gather(&places, &mut corrected);
            feedback.add_before(block, errors.view(), &mut corrected);
            let whole = [(usize::MAX, places.clone())];
            for (unit, run) in runs.get(block).map_or(&whole[..], Vec::as_slice) {
                if let Some(slot) = fitted.get_mut(*unit) {
                    let value = |row: usize, column: usize| corrected.row(row)[place[column] - places.start];
                    *slot = Some(self.fit(rounding, *unit, value)?);
                }
                for row in 0..self.rows {
                    let corrected = corrected.row_mut(row);
                    for place in run.clone() {
                        let (column, at) = (feedback.order()[place], place - places.start);
                        let Some(unit) = &mut fitted[column / length] else { continue };
                        let (code, value) = R::nearest(unit, row, column % length, corrected[at]);
                        R::accept(unit, row, column % length, (code, value));
                        let error = self.weights[row * cols + column] - value;
                        norms[row] += feedback.cost(place, corrected[at] - value, error);
                        errors.row_mut(row)[place] = error;
                        codes[row * cols + column] = code;
                        feedback.add_inner(block, at, error, corrected);
                    }
                }
            }
        }
        let mut swept = Swept { units: fitted.into_iter().flatten().collect(), codes, norms };
        if let Some(descent) = &self.plan.descent {
            (0..descent.passes).for_each(|_| self.descend::<R>(descent, &mut errors, &mut swept));
        }
        Ok(swept)
    }

    /// One pass over all codes, each to its best given the others.
    fn descend<R: Rounding>(&self, descent: &Descent, errors: &mut Matrix, swept: &mut Swept<R::Unit>) {
        let Plan { cols, units, feedback, .. } = self.plan;
        let length = units.first().map_or(1, Range::len).max(1);
        let damping = f64::from(feedback.damping());
        let mut gradients = Matrix::default();
        for block in 0..descent.blocks() {
            descent.gradients(block, errors.view(), &mut gradients);
            for row in 0..self.rows {
                let gradients = gradients.row_mut(row);
                for (at, place) in descent.places(block).enumerate() {
                    let column = feedback.order()[place];
                    let (weight, error) = (self.weights[row * cols + column], errors.row(row)[place]);
                    let (curvature, gradient) = (descent.curvature(block, at), gradients[at]);
                    let wanted = weight - error + gradient / curvature;
                    let unit = &mut swept.units[column / length];
                    let (code, value) = R::nearest(unit, row, column % length, wanted);
                    let change = weight - value - error;
                    let gain = change * (2.0 * gradient + change * curvature);
                    // Steps that are lost in rounding, or not finite, are none.
                    if gain.is_nan() || gain >= 0.0 {
                        continue;
                    }
                    R::accept(unit, row, column % length, (code, value));
                    let squares = f64::from(error + change).powi(2) - f64::from(error).powi(2);
                    swept.norms[row] += f64::from(gain) - damping * squares;
                    swept.codes[row * cols + column] = code;
                    errors.row_mut(row)[place] = weight - value;
                    descent.change(block, at, change, gradients);
                }
            }
        }
    }

    /// The weights of a block, in the order.
    fn gather(&self, places: &Range<usize>, corrected: &mut Matrix) {
        corrected.reshape(self.rows, places.len());
        for row in 0..self.rows {
            let columns = self.plan.feedback.order()[places.clone()].iter();
            let weights = &self.weights[row * self.plan.cols..];
            corrected.row_mut(row).iter_mut().zip(columns).for_each(|(value, &column)| *value = weights[column]);
        }
    }

    /// The frame of a unit in every row; what feedback took beyond all numbers falls back to the weights.
    fn fit<R: Rounding>(
        &self,
        rounding: &R,
        index: usize,
        value: impl Fn(usize, usize) -> f32,
    ) -> Result<R::Unit, Error> {
        let columns = self.plan.units[index].clone();
        let mut values = Vec::with_capacity(self.rows * columns.len());
        for row in 0..self.rows {
            for column in columns.clone() {
                let value = value(row, column);
                values.push(if value.is_finite() { value } else { self.weights[row * self.plan.cols + column] });
            }
        }
        rounding.fit(self.first, index, &values, &self.plan.importance(columns))
    }
}
