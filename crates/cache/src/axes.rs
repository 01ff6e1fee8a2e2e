//! Principal axes of a head: keys and values turned so that their first channels say most.
//!
//! The axes are the eigenvectors of `Σ x·xᵀ` over the tokens that are there, the largest first, by Jacobi rotations in f64 in a written order. All of
//! them are kept, so turning loses nothing but rounding: `⟨Uq, Uk⟩ = ⟨q, k⟩`, and `Σ w·v = Vᵀ·Σ w·(Vv)`.

use crate::disk::eigenvectors;
use brevity_kernels::Matrix;

/// Axes of a head's keys and of its values: rows of `dim` numbers.
#[derive(Clone)]
pub struct Axes {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Axes {
    /// Those of some tokens, one a row.
    pub fn of(keys: &Matrix, values: &Matrix) -> Axes {
        Axes { keys: principal(keys), values: principal(values) }
    }

    /// A key, or a query, as it is stored.
    pub fn key(&self, x: &mut [f32]) {
        turn(&self.keys, x);
    }

    /// A value as it is stored.
    pub fn value(&self, x: &mut [f32]) {
        turn(&self.values, x);
    }

    /// A key as it was.
    pub fn undo_key(&self, x: &mut [f32]) {
        turn_back(&self.keys, x);
    }

    /// A value, or an output, as it was.
    pub fn undo_value(&self, x: &mut [f32]) {
        turn_back(&self.values, x);
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        4 * (self.keys.capacity() + self.values.capacity())
    }
}

fn principal(rows: &Matrix) -> Vec<f32> {
    let dim = rows.cols();
    let mut moments = vec![0.0; dim * dim];
    for row in 0..rows.rows() {
        let x = rows.row(row);
        for (i, sums) in moments.chunks_exact_mut(dim).enumerate() {
            sums.iter_mut().zip(x).for_each(|(sum, &y)| *sum += f64::from(x[i]) * f64::from(y));
        }
    }
    eigenvectors(moments, dim).into_iter().map(|x| x as f32).collect()
}

const LANES: usize = 16;

/// `x ← A·x`: 16 sums side by side, added one after another.
fn turn(axes: &[f32], x: &mut [f32]) {
    let product = |axis: &[f32]| {
        let mut sums = [0.0; LANES];
        for (a, x) in axis.chunks(LANES).zip(x.chunks(LANES)) {
            sums.iter_mut().zip(a).zip(x).for_each(|((sum, a), x)| *sum += a * x);
        }
        sums.iter().sum()
    };
    let turned: Vec<f32> = axes.chunks_exact(x.len()).map(product).collect();
    x.copy_from_slice(&turned);
}

/// `x ← Aᵀ·x`, one chain over the axes for each channel.
fn turn_back(axes: &[f32], x: &mut [f32]) {
    let mut turned = vec![0.0; x.len()];
    for (axis, &x) in axes.chunks_exact(x.len()).zip(&*x) {
        turned.iter_mut().zip(axis).for_each(|(sum, a)| *sum += a * x);
    }
    x.copy_from_slice(&turned);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in three dimensions of 16 are three numbers then, and come back.
    #[test]
    fn the_first_channels_hold_what_there_is() {
        let noise = |i: usize| ((i * 7919 + i / 7 * 131 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let row = |token: usize| -> Vec<f32> {
            (0..16).map(|d| (0..3).map(|k| noise(token * 3 + k) * noise(900 + k * 16 + d)).sum()).collect()
        };
        let rows: Vec<f32> = (0..100).flat_map(row).collect();
        let rows = Matrix::from_vec(100, 16, rows);
        let axes = Axes::of(&rows, &rows);
        for token in 0..100 {
            let mut x = rows.row(token).to_vec();
            axes.key(&mut x);
            assert!(x[3..].iter().all(|x| x.abs() < 1e-5), "{x:?}");
            axes.undo_key(&mut x);
            assert!(x.iter().zip(rows.row(token)).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
