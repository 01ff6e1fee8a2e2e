use crate::{BilevelPart, BlocksPart, ColumnsPart, DensePart, GridPart, Input, LowRankPart, SignScalePart, SparsePart};
use brevity_kernels::{Matrix, MatrixMut};

/// One term of a compressed matrix, in the form that the kernels read. Shapes are (outputs, inputs).
pub trait Part {
    fn shape(&self) -> (usize, usize);

    /// Bytes held in memory.
    fn resident_bytes(&self) -> usize;

    /// `y = x·Wᵀ`, or `y += x·Wᵀ` when `add`; a row of `y` depends on its own row of `x` alone.
    fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool);

    /// `out += W[row]`.
    fn add_row_to(&self, row: usize, out: &mut [f32]);

    /// `dense += W`.
    fn add_to(&self, dense: &mut Matrix) {
        for row in 0..self.shape().0 {
            self.add_row_to(row, dense.row_mut(row));
        }
    }
}

/// The kinds of parts there are.
pub enum PartKind {
    Dense(DensePart),
    Blocks(BlocksPart),
    Grid(GridPart),
    Bilevel(BilevelPart),
    Columns(ColumnsPart),
    LowRank(LowRankPart),
    Sparse(SparsePart),
    SignScale(SignScalePart),
}

impl PartKind {
    pub fn as_part(&self) -> &(dyn Part + Send + Sync) {
        match self {
            PartKind::Dense(part) => part,
            PartKind::Blocks(part) => part,
            PartKind::Grid(part) => part,
            PartKind::Bilevel(part) => part,
            PartKind::Columns(part) => part,
            PartKind::LowRank(part) => part,
            PartKind::Sparse(part) => part,
            PartKind::SignScale(part) => part,
        }
    }
}
