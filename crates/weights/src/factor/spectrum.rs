//! Leading singular vectors, the same bits at any thread count.

use crate::Error;
use brevity_kernels::Matrix;
use brevity_kernels::dense::DensePanels;
use faer::{Mat, Side};

/// Eigenvectors of a symmetric matrix, one a row, largest eigenvalue first, with the eigenvalues.
///
/// # Errors
/// If the iteration does not converge (a matrix that is not finite).
pub(crate) fn eigen(symmetric: &Matrix) -> Result<(Vec<f64>, Matrix), Error> {
    let size = symmetric.rows();
    let whole = Mat::from_fn(size, size, |i, j| f64::from(symmetric.row(i.max(j))[i.min(j)]));
    let failed = |_| Error::NoConvergence { size };
    let found = whole.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let (vectors, values) = (found.U(), found.S());
    let mut rows = Matrix::zeros(size, size);
    for index in 0..size {
        let column = size - 1 - index;
        // Eigenvectors have no sign of their own: the entry of greatest size is positive.
        let greatest = (0..size)
            .fold(0.0f64, |best, i| if vectors[(i, column)].abs() > best.abs() { vectors[(i, column)] } else { best });
        let sign = if greatest < 0.0 { -1.0 } else { 1.0 };
        rows.row_mut(index).iter_mut().enumerate().for_each(|(i, value)| *value = (sign * vectors[(i, column)]) as f32);
    }
    let values = (0..size).rev().map(|index| values.column_vector()[index]).collect();
    Ok((values, rows))
}

/// `a·bᵀ`.
pub(crate) fn times_transposed(a: &Matrix, b: &Matrix) -> Matrix {
    let mut product = Matrix::zeros(a.rows(), b.rows());
    DensePanels::from_f32(b.rows(), b.cols(), b.data()).multiply(a.view(), &mut product.view_mut(), false);
    product
}

pub(crate) fn transposed(matrix: &Matrix) -> Matrix {
    let mut turned = Matrix::zeros(matrix.cols(), matrix.rows());
    for row in 0..matrix.rows() {
        matrix.row(row).iter().enumerate().for_each(|(col, value)| turned.row_mut(col)[row] = *value);
    }
    turned
}

/// Rank-r approximation `left·right` of a matrix (rows × cols): left is rows × r, right r × cols, with the singular values
/// shared between both in equal parts.
///
/// Subspace iteration from a fixed start: `sweeps` products with the matrix and its transpose, on a subspace of r and
/// [`SPARE`] dimensions more.
///
/// # Errors
/// If the matrix is not finite.
pub(crate) fn leading(matrix: &Matrix, rank: usize, sweeps: usize) -> Result<(Matrix, Matrix), Error> {
    let size = (rank + SPARE).min(matrix.rows().min(matrix.cols()));
    let turned = transposed(matrix);
    let mut basis = start(size, matrix.cols());
    orthonormalise(&mut basis);
    let mut image = Matrix::default();
    for _ in 0..sweeps.max(1) {
        image = times_transposed(&basis, matrix);
        orthonormalise(&mut image);
        basis = times_transposed(&image, &turned);
        orthonormalise(&mut basis);
    }
    // The matrix in the subspace of its left vectors, size × cols, and its own singular vectors.
    let small = times_transposed(&image, &turned);
    let (values, vectors) = eigen(&times_transposed(&small, &small))?;
    let rank = rank.min(size);
    let top = Matrix::from_vec(rank, size, vectors.data()[..rank * size].to_vec());
    let mut left = times_transposed(&transposed(&image), &top);
    let mut right = times_transposed(&top, &transposed(&small));
    for (index, value) in values.iter().take(rank).enumerate() {
        // Left vectors have length 1, right ones the singular value σ: both get √σ.
        let root = value.max(0.0).powf(0.25) as f32;
        let inverse = if root > 0.0 { 1.0 / root } else { 0.0 };
        (0..left.rows()).for_each(|row| left.row_mut(row)[index] *= root);
        right.row_mut(index).iter_mut().for_each(|value| *value *= inverse);
    }
    Ok((left, right))
}

/// Dimensions beyond the rank that the iteration works in.
const SPARE: usize = 8;

/// Rows of a fixed pseudo-random sequence; the first is constant, which is near the first vector of positive matrices.
fn start(rows: usize, cols: usize) -> Matrix {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let values = (0..rows * cols).map(|index| if index < cols { 1.0 } else { next() }).collect();
    Matrix::from_vec(rows, cols, values)
}

/// Modified Gram–Schmidt on the rows, twice; rows that depend on those before become zero.
fn orthonormalise(rows: &mut Matrix) {
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    for index in 0..rows.rows() {
        let mut row = rows.row(index).to_vec();
        let before = norm(&row);
        for _ in 0..2 {
            for other in 0..index {
                let other = rows.row(other);
                let dot: f64 = row.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot as f32 * b);
            }
        }
        let length = norm(&row);
        let scale = if length > 1e-6 * before && length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
        rows.row_mut(index).iter_mut().zip(&row).for_each(|(out, value)| *out = value * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_vectors_leave_the_tail_of_the_spectrum() {
        let noise = start(31, 40);
        let mut matrix = Matrix::zeros(30, 40);
        for row in 0..30 {
            let (own, first) = (noise.row(row + 1).to_vec(), 4.0 * noise.row(1)[row]);
            let cells = matrix.row_mut(row).iter_mut().zip(own).zip(noise.row(2));
            cells.for_each(|((cell, own), other)| *cell = 0.3 * own + first * other + 1.0);
        }
        let (values, _) = eigen(&times_transposed(&matrix, &matrix)).unwrap();
        for rank in [1, 2, 5] {
            let (left, right) = leading(&matrix, rank, 8).unwrap();
            let product = times_transposed(&left, &transposed(&right));
            let error: f64 = product.data().iter().zip(matrix.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let tail: f64 = values[rank..].iter().sum();
            assert!((error / tail - 1.0).abs() < 0.02, "rank {rank}: {error} and {tail}");
        }
    }

    #[test]
    fn zeros_and_hostile_matrices() {
        let (left, right) = leading(&Matrix::zeros(4, 6), 3, 2).unwrap();
        assert!(left.data().iter().chain(right.data()).all(|value| *value == 0.0));
        let mut bad = Matrix::zeros(4, 6);
        bad.row_mut(1)[1] = f32::NAN;
        let _ = leading(&bad, 3, 2);
    }
}
