//! Error feedback: the factor of a Hessian that tells each column what the errors of the columns before it cost.
//!
//! With the columns in the order in which they are rounded, `H + λI = (I + U)·D·(I + U)ᵀ`, `U` strictly upper triangular,
//! `D` diagonal. Rounding column k not from `w_k` but from
//!
//! `w'_k = w_k + Σ_{j<k} e_j·U_jk`, `e_j = w_j − ŵ_j`,
//!
//! makes the error of a row `e·(H + λI)·eᵀ = Σ_k D_k·η_k²` with `η_k = w'_k − ŵ_k`: a sum over columns in which nothing is
//! left to correct. This is GPTQ's update (arXiv 2210.17323) in the form of QuIP (arXiv 2307.13304, theorem 6): `D_k` is
//! `1/(H⁻¹)_kk` of the columns from k on, and row k of GPTQ's `Cholesky(H⁻¹)ᵀ` is row k of `(I + U)⁻¹` scaled. It needs one
//! factorisation of `H` and no inverse, and errors of earlier columns arrive by one matrix product a block.
//!
//! `H` is scaled to a mean diagonal of 1 first, so λ is relative; it grows until the factor exists. Arithmetic: f32; a
//! Cholesky factor's backward error is relative to each column's own scale, so outlier channels cost no accuracy.

use crate::Hessian;
use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, MatrixView};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::{MatMut, Par};
use std::ops::Range;

/// Factor by which λ grows when the matrix is not positive definite.
const GROWTH: f32 = 10.0;

/// The factor of a Hessian whose columns are rounded in `order`, block by block.
pub(crate) struct Feedback {
    order: Vec<usize>,
    /// `D`, in that order, in units of the mean diagonal.
    weights: Vec<f32>,
    /// λ in the same units.
    damping: f32,
    blocks: Vec<Block>,
}

/// Consecutive places of the order whose feedback is computed together.
struct Block {
    places: Range<usize>,
    /// `U` from all places before, as weights: outputs are the places of the block.
    before: Option<DensePanels>,
    /// `U` within the block, row-major.
    inner: Vec<f32>,
}

impl Feedback {
    /// Factors `hessian` for columns rounded in `order`, with blocks that end at `ends` (ascending, the last is the
    /// number of columns).
    ///
    /// Never fails: λ begins at `damping` (relative to the mean diagonal) and grows tenfold until the factor exists; a
    /// Hessian that is zero or worse stands for the identity.
    pub(crate) fn new(hessian: &Hessian, order: Vec<usize>, ends: &[usize], damping: f32) -> Self {
        let size = order.len();
        let mean = mean_diagonal(hessian);
        let mut damping = damping;
        let mut values = vec![0.0f32; size * size];
        while !(fill(&mut values, hessian, &order, mean, damping) && cholesky(&mut values, size)) {
            damping = (damping * GROWTH).max(1e-6);
            if damping > 1e12 {
                values.fill(0.0);
                (0..size).for_each(|index| values[index * size + index] = 1.0);
                break;
            }
        }
        Self::unfold(&values, order, ends, damping)
    }

    /// From the Cholesky factor `L` of the reversed matrix, column-major: `R_ij = L_(n−1−i)(n−1−j)` is upper triangular and
    /// `R·Rᵀ` the matrix; `D_j = R_jj²`, `(I + U)_ij = R_ij / R_jj`.
    fn unfold(values: &[f32], order: Vec<usize>, ends: &[usize], damping: f32) -> Self {
        let size = order.len();
        // Rows 0..=j of column j of R, last row first.
        let column = |j: usize| &values[(size - 1 - j) * size..][size - 1 - j..size];
        let weights = (0..size).map(|j| column(j)[0] * column(j)[0]).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let block = |(start, end): (usize, usize)| {
            let width = end - start;
            let (mut before, mut inner) = (vec![0.0; width * start], vec![0.0; width * width]);
            for j in start..end {
                let (column, scale) = (column(j), 1.0 / column(j)[0]);
                for i in 0..start {
                    before[(j - start) * start + i] = column[j - i] * scale;
                }
                for i in start..j {
                    inner[(i - start) * width + j - start] = column[j - i] * scale;
                }
            }
            let before = (start > 0).then(|| DensePanels::from_f32(width, start, &before));
            Block { places: start..end, before, inner }
        };
        let blocks = starts.zip(ends.iter().copied()).map(block).collect();
        Self { order, weights, damping, blocks }
    }

    /// The column at each place.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// What a squared error of the corrected weight costs at each place.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// λ, in units of the mean diagonal.
    pub(crate) fn damping(&self) -> f32 {
        self.damping
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Places of a block.
    pub(crate) fn places(&self, block: usize) -> Range<usize> {
        self.blocks[block].places.clone()
    }

    /// Adds to `corrected` (rows × places of the block) the feedback of the errors before the block; `errors` is
    /// rows × places, in the order.
    pub(crate) fn add_before(&self, block: usize, errors: MatrixView, corrected: &mut Matrix) {
        let Block { places, before, .. } = &self.blocks[block];
        if let Some(before) = before {
            before.multiply(errors.cols_range(0..places.start), &mut corrected.view_mut(), true);
        }
    }

    /// Adds the error of place `at` (counted from the block's first) to the places of the block after it.
    #[inline]
    pub(crate) fn add_inner(&self, block: usize, at: usize, error: f32, corrected: &mut [f32]) {
        let width = corrected.len();
        let row = &self.blocks[block].inner[at * width..][..width];
        for (value, factor) in corrected[at + 1..].iter_mut().zip(&row[at + 1..]) {
            *value += error * factor;
        }
    }

    /// Whether `e·H·eᵀ` of each row (in units of the mean diagonal, λ taken off again) is at least its limit; `errors` is
    /// rows × places, in the order.
    ///
    /// The norm is a sum of squares over places less what λ adds, which is known beforehand: as soon as every row's sum
    /// is past its limit the rest need not be computed.
    pub(crate) fn reach(&self, errors: &Matrix, limits: &[f64]) -> Vec<bool> {
        let square = |row| errors.row(row).iter().map(|e| f64::from(*e) * f64::from(*e)).sum::<f64>();
        let mut sums: Vec<f64> = (0..errors.rows()).map(|row| -f64::from(self.damping) * square(row)).collect();
        let mut corrected = Matrix::default();
        for (index, block) in self.blocks.iter().enumerate() {
            if sums.iter().zip(limits).all(|(sum, limit)| sum >= limit) {
                break;
            }
            let places = block.places.clone();
            corrected.reshape(errors.rows(), places.len());
            for row in 0..errors.rows() {
                corrected.row_mut(row).copy_from_slice(&errors.row(row)[places.clone()]);
            }
            self.add_before(index, errors.view(), &mut corrected);
            for (row, sum) in sums.iter_mut().enumerate() {
                let corrected = corrected.row_mut(row);
                for (at, place) in places.clone().enumerate() {
                    self.add_inner(index, at, errors.row(row)[place], corrected);
                    *sum += self.cost(place, corrected[at], 0.0);
                }
            }
        }
        sums.iter().zip(limits).map(|(sum, limit)| sum >= limit).collect()
    }

    /// What one place adds to the norm: the corrected error counts, λ's share of the error does not.
    #[inline]
    pub(crate) fn cost(&self, place: usize, corrected: f32, error: f32) -> f64 {
        let (corrected, error) = (f64::from(corrected), f64::from(error));
        f64::from(self.weights[place]) * corrected * corrected - f64::from(self.damping) * error * error
    }
}

/// Mean of the diagonal; 1 where that says nothing.
pub(crate) fn mean_diagonal(hessian: &Hessian) -> f64 {
    let sum: f64 = hessian.diagonal().iter().map(|value| f64::from(*value)).sum();
    let mean = sum / hessian.size().max(1) as f64;
    if mean.is_finite() && mean > 0.0 { mean } else { 1.0 }
}

/// The lower triangle of the reversed matrix, column-major; false if a diagonal entry is not positive.
fn fill(values: &mut [f32], hessian: &Hessian, order: &[usize], mean: f64, damping: f32) -> bool {
    let size = order.len();
    let scale = 1.0 / mean;
    for (column, values) in values.chunks_exact_mut(size).enumerate() {
        let row = hessian.matrix().row(order[size - 1 - column]);
        for (value, &other) in values.iter_mut().zip(order.iter().rev()).skip(column) {
            *value = (f64::from(row[other]) * scale) as f32;
        }
        values[column] += damping;
    }
    (0..size).all(|index| values[index * size + index] > 0.0)
}

fn cholesky(values: &mut [f32], size: usize) -> bool {
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f32>(size, Par::Seq, Default::default()));
    let matrix = MatMut::from_column_major_slice_mut(values, size, size);
    let stack = MemStack::new(&mut memory);
    let done = cholesky_in_place(matrix, LltRegularization::default(), Par::Seq, stack, Default::default());
    done.is_ok()
        && (0..size).all(|index| values[index * size + index].is_finite() && values[index * size + index] > 0.0)
}
