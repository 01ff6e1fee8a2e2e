//! Integer weights times quantised activations, exact to the bit on every machine and in any batch.
//!
//! # The canonical form
//! A weight matrix of `N` outputs and `K` columns is
//! ```text
//! w[n][k] = scale[n][b] · code[n][k] − min[n][b]        b = k / block, block = 16 or 32
//! ```
//! with signed codes of at most eight bits. Activations ([`Activations`]) are quantised row by row in blocks of 32:
//! `x ≈ dx · q`, `q ∈ [−127, 127]`.
//!
//! # The arithmetic
//! Inside a block the products are summed as integers, exactly. Per output there is one f32 chain over blocks in
//! ascending order that begins at +0:
//! ```text
//! isum = Σ code·q          qsum = Σ q                      exact
//! acc  = fma(isum, scale·dx, acc)                          scale·dx rounded once
//! acc  = fma(−min, dx·qsum, acc)                           where the type has mins; dx·qsum rounded once
//! ```
//! At the end a NaN becomes the canonical NaN. Since integer sums are exact, no packing of the codes and no
//! instruction set changes a bit; since the chain belongs to one output and one row of activations, neither does the number
//! of rows multiplied at once, nor the number of threads. [`specification`] has this in plain loops.
//!
//! [`IntegerWeights::multiply_f32`] takes the activations as they are: the weight is `fma(scale, code, −min)` (`scale·code`
//! without mins), and each output is the chain `acc = fma(x[k], w[k], acc)`, k ascending from +0, as for dense weights.
//!
//! # Which packing?
//! | scales | type | formats |
//! |---|---|---|
//! | one per block of 32, or per group of columns | [`FlatPanels`] | Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, integer grids of 2 to 8 bits |
//! | small integers times a factor per 256 columns | [`SuperPanels`] | Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS, IQ2_XXS |
//! | anything else | [`RowSource`] | unpacked as it is needed |
//!
//! Packed weights take the bytes of their format, and at most 4 % more (IQ2_XXS: 6 %).
//! The packed ones hold sixteen outputs side by side (a panel), so that one vector instruction serves sixteen outputs.

mod activations;
mod codes;
mod flat;
mod kernel;
mod lanes;
mod pack;
mod rows;
pub mod specification;
mod storage;
mod supers;
#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use codes::{Codebook, Steps};
pub use flat::{FlatCodes, FlatPanels, FlatRow, Scales};
pub use supers::{SuperKind, SuperPanels, SuperRow};

use crate::{MatrixMut, MatrixView};

/// A matrix in the canonical form that can unpack its rows one at a time.
pub trait RowSource: Send + Sync {
    /// Outputs.
    fn rows(&self) -> usize;
    /// Columns.
    fn cols(&self) -> usize;
    /// Columns per scale: 16 or 32.
    fn block(&self) -> usize;
    /// Whether there are mins.
    fn has_min(&self) -> bool;
    /// Bytes held in memory.
    fn bytes(&self) -> usize;
    /// Writes row `row`: `cols` codes, `cols.div_ceil(block)` scales, and as many mins or none. All slices are zero at first.
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]);
}

/// Something to be done with a packed matrix, whatever its layout.
trait Visit {
    fn visit<P: kernel::Panels>(self, panels: &P);
}

struct Multiply<'a, 'b>(&'a Activations, &'a mut MatrixMut<'b>, bool);

impl Visit for Multiply<'_, '_> {
    fn visit<P: kernel::Panels>(self, panels: &P) {
        kernel::multiply(panels, self.0, self.1, self.2);
    }
}

struct MultiplyF32<'a, 'b>(MatrixView<'a>, &'a mut MatrixMut<'b>, bool);

impl Visit for MultiplyF32<'_, '_> {
    fn visit<P: kernel::Panels>(self, panels: &P) {
        kernel::multiply_f32(panels, self.0, self.1, self.2);
    }
}

/// A matrix of integer weights, held once, as the kernels read it.
pub enum IntegerWeights {
    /// A scale per block of 32 or per group of columns.
    Flat(FlatPanels),
    /// Super-blocks of 256 columns.
    Super(SuperPanels),
    /// Anything else, unpacked as it is needed.
    Rows(Box<dyn RowSource>),
}

impl IntegerWeights {
    fn source(&self) -> &dyn RowSource {
        match self {
            IntegerWeights::Flat(p) => p,
            IntegerWeights::Super(p) => p,
            IntegerWeights::Rows(source) => source.as_ref(),
        }
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.source().rows()
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.source().cols()
    }

    /// Bytes that the weights take in memory.
    pub fn resident_bytes(&self) -> usize {
        self.source().bytes()
    }

    /// `y = x·Wᵀ`, or `y += x·Wᵀ` (the finished sum added once): `x` is rows × `cols`, `y` rows × outputs.
    ///
    /// # Panics
    /// If the shapes do not agree, or a [`RowSource`] has blocks of neither 16 nor 32.
    pub fn multiply(&self, x: &Activations, y: &mut MatrixMut<'_>, accumulate: bool) {
        match self {
            IntegerWeights::Flat(p) => p.visit(Multiply(x, y, accumulate)),
            IntegerWeights::Super(p) => p.visit(Multiply(x, y, accumulate)),
            IntegerWeights::Rows(source) => rows::multiply(source.as_ref(), x, y, accumulate),
        }
    }

    /// The same with activations in f32, weights unpacked to f32 panel by panel. Slower; adds no error of its own.
    ///
    /// # Panics
    /// As [`IntegerWeights::multiply`].
    pub fn multiply_f32(&self, x: MatrixView<'_>, y: &mut MatrixMut<'_>, accumulate: bool) {
        match self {
            IntegerWeights::Flat(p) => p.visit(MultiplyF32(x, y, accumulate)),
            IntegerWeights::Super(p) => p.visit(MultiplyF32(x, y, accumulate)),
            IntegerWeights::Rows(source) => rows::multiply_f32(source.as_ref(), x, y, accumulate),
        }
    }

    /// Writes the f32 weights of row `row` to `out`.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not `cols` long.
    pub fn row_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        assert_eq!(out.len(), self.cols(), "length of the row");
        out.copy_from_slice(&specification::weights(self.source(), row));
    }
}
