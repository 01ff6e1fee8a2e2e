use crate::part::Part;
use crate::sign_scale::SignScalePart;
use crate::{
    BilevelPart, BlocksPart, ColumnsPart, DensePart, Error, GridPart, Input, LowRankPart, PartKind, SparsePart,
};
use crate::{StoredMatrix, StoredPart, Transform};
use brevity_formats::TensorType;
use brevity_formats::grid::GridMatrix;
use brevity_kernels::dense::{DensePanels, DenseType};
use brevity_kernels::{Matrix, MatrixMut};
use half::f16;

/// A matrix of `rows` outputs and `cols` inputs, ready to multiply: the sum of its parts behind its transform.
pub struct CompressedMatrix {
    rows: usize,
    cols: usize,
    bits: u64,
    transform: Option<Transform>,
    parts: Vec<PartKind>,
}

impl CompressedMatrix {
    /// Packs a stored matrix for the kernels.
    ///
    /// # Errors
    /// If a field's length does not fit the shape, an index runs out of it, or a type cannot be multiplied.
    pub fn pack(stored: StoredMatrix) -> Result<Self, Error> {
        let (rows, cols, bits) = (stored.rows, stored.cols, stored.bits());
        if stored.parts.is_empty() {
            return Err(Error::Empty);
        }
        crate::stored::check_parts(&stored.parts)?;
        if let Some(transform) = &stored.transform {
            transform.check(cols)?;
        }
        let parts = stored.parts.into_iter().map(|part| pack_part(part, rows, cols)).collect::<Result<_, _>>()?;
        Ok(Self { rows, cols, bits, transform: stored.transform, parts })
    }

    /// A matrix of plain numbers.
    pub fn dense(panels: DensePanels) -> Self {
        let (rows, cols) = (panels.rows(), panels.cols());
        let width = if panels.dense_type() == DenseType::F32 { 32 } else { 16 };
        let bits = (rows * cols * width) as u64;
        Self { rows, cols, bits, transform: None, parts: vec![PartKind::Dense(DensePart(panels))] }
    }

    /// Numbers or GGML blocks as they lie in a file, `bytes` row by row.
    ///
    /// # Errors
    /// If the rows cannot be cut into blocks, the length is wrong or the type cannot be multiplied.
    pub fn from_bytes(ty: TensorType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, Error> {
        let part = match ty.is_quantized() {
            true => PartKind::Blocks(BlocksPart::new(ty, rows, cols, bytes)?),
            false => PartKind::Dense(pack_dense(ty, rows, cols, bytes)?),
        };
        Ok(Self { rows, cols, bits: 8 * bytes.len() as u64, transform: None, parts: vec![part] })
    }

    pub fn from_grid(grid: GridMatrix) -> Result<Self, Error> {
        let (rows, cols) = (grid.rows, grid.cols);
        Self::pack(StoredMatrix { rows, cols, transform: None, parts: vec![StoredPart::Grid(grid)] })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bits that the matrix takes in a file, all metadata counted.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    pub fn resident_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.as_part().resident_bytes()).sum()
    }

    /// `y = x·Wᵀ`, or `y += x·Wᵀ` when `add`. Shapes: x tokens × cols, y tokens × rows.
    pub fn multiply(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        match &self.transform {
            None => self.multiply_parts(x, y, add),
            Some(transform) => x.with_transformed(transform, |turned| self.multiply_parts(turned, y, add)),
        }
    }

    fn multiply_parts(&self, x: &Input, y: &mut MatrixMut, add: bool) {
        // Whole columns come in place of the other parts' there, which see an input without them: outliers of
        // activations are kept out of the 8-bit scales.
        let columns = self.columns();
        let masked = columns.map(|part| part.mask(x));
        let masked = masked.as_ref().map(|masked| Input::new(masked.view(), x.activation()));
        if let (Some(part), Some(masked)) = (columns, &masked) {
            part.multiply(x, y, add);
            let others = self.parts.iter().filter(|part| !matches!(part, PartKind::Columns(_)));
            others.for_each(|part| part.as_part().multiply(masked, y, true));
            return;
        }
        for (index, part) in self.parts.iter().enumerate() {
            part.as_part().multiply(x, y, add || index > 0);
        }
    }

    /// One row of weights as f32 (an embedding).
    pub fn row_f32(&self, row: usize, out: &mut [f32]) {
        out.fill(0.0);
        self.parts.iter().for_each(|part| part.as_part().add_row_to(row, out));
        if let Some(part) = self.columns() {
            part.set_row(row, out);
        }
        if let Some(transform) = &self.transform {
            transform.undo_row(out);
        }
    }

    fn columns(&self) -> Option<&ColumnsPart> {
        self.parts.iter().find_map(|part| match part {
            PartKind::Columns(part) => Some(part),
            _ => None,
        })
    }

    /// All weights as f32.
    pub fn dequantize(&self) -> Matrix {
        let mut dense = Matrix::zeros(self.rows, self.cols);
        for row in 0..self.rows {
            self.row_f32(row, dense.row_mut(row));
        }
        dense
    }
}

fn pack_part(part: StoredPart, rows: usize, cols: usize) -> Result<PartKind, Error> {
    part.check(rows, cols)?;
    Ok(match part {
        StoredPart::Dense { ty, bytes } => PartKind::Dense(pack_dense(ty, rows, cols, &bytes)?),
        StoredPart::Blocks { ty, bytes } => PartKind::Blocks(BlocksPart::new(ty, rows, cols, &bytes)?),
        StoredPart::Grid(grid) => PartKind::Grid(GridPart::new(grid)),
        StoredPart::Bilevel(grid) => PartKind::Bilevel(BilevelPart::new(grid)),
        StoredPart::Columns { columns, values } => {
            let values = DensePanels::from_u16(rows, columns.len(), DenseType::F16, bytemuck::cast_slice(&values));
            PartKind::Columns(ColumnsPart { cols, columns, values })
        }
        StoredPart::LowRank { rank, left, right } => PartKind::LowRank(LowRankPart {
            left: DensePanels::from_u16(rows, rank, DenseType::F16, bytemuck::cast_slice(&left)),
            right: DensePanels::from_u16(rank, cols, DenseType::F16, bytemuck::cast_slice(&right)),
        }),
        StoredPart::Sparse { offsets, columns, values } => {
            let values = values.into_iter().map(f16::to_f32).collect();
            PartKind::Sparse(SparsePart { cols, offsets, columns, values })
        }
        StoredPart::SignScale { rank, signs, left, right, .. } => {
            let column = |r: usize| (0..rows).map(|row| left[row * rank + r].to_f32()).collect();
            let row = |r: usize| right[r * cols..][..cols].iter().map(|value| value.to_f32()).collect();
            let (left, right) = ((0..rank).map(column).collect(), (0..rank).map(row).collect());
            PartKind::SignScale(SignScalePart::new(rows, cols, signs, left, right))
        }
    })
}

fn pack_dense(ty: TensorType, rows: usize, cols: usize, bytes: &[u8]) -> Result<DensePart, Error> {
    let row = ty.row_bytes(cols).ok_or(Error::Row { ty, cols })?;
    if bytes.len() != rows * row {
        let (found, expected) = (bytes.len(), rows * row);
        return Err(Error::Length { part: "dense", field: "weight", rows, cols, found, expected });
    }
    let halves = || -> Vec<u16> { bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect() };
    Ok(DensePart(match ty {
        TensorType::F16 => DensePanels::from_u16(rows, cols, DenseType::F16, &halves()),
        TensorType::BF16 => DensePanels::from_u16(rows, cols, DenseType::BF16, &halves()),
        _ => {
            let mut values = vec![0.0; rows * cols];
            brevity_formats::blocks::dequantize(ty, bytes, &mut values)?;
            DensePanels::from_f32(rows, cols, &values)
        }
    }))
}
