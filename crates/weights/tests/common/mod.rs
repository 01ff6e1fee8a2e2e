//! Synthetic weights and inputs, and the error that outputs see.
#![allow(dead_code)]

use brevity_kernels::Matrix;
use brevity_weights::{Hessian, Level, Statistics, WeightMethod};
use std::sync::Arc;

pub struct Random(pub u64);

impl Random {
    pub fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

pub fn weights(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut random = Random(seed);
    Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| 0.05 * random.normal()).collect())
}

/// Inputs of rank about cols / 6 with noise, some channels ten times as large.
pub fn correlated(cols: usize, seed: u64) -> Statistics {
    let mut random = Random(seed);
    let (sources, tokens) = (cols / 6, 2 * cols);
    let mixing: Vec<f32> = (0..sources * cols).map(|_| random.normal()).collect();
    let mut matrix = Matrix::zeros(cols, cols);
    for _ in 0..tokens {
        let mut x: Vec<f32> = (0..cols).map(|_| 0.3 * random.normal()).collect();
        for source in 0..sources {
            let value = random.normal() / (sources as f32).sqrt();
            x.iter_mut().zip(&mixing[source * cols..]).for_each(|(x, factor)| *x += value * factor);
        }
        x.iter_mut().step_by(37).for_each(|x| *x *= 10.0);
        for row in 0..cols {
            let factor = x[row] / tokens as f32;
            matrix.row_mut(row).iter_mut().zip(&x).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    of(Hessian::new(matrix, tokens as u64).unwrap())
}

pub fn of(hessian: Hessian) -> Statistics {
    Statistics { second_moments: hessian.diagonal(), tokens: hessian.tokens(), hessian: Some(Arc::new(hessian)) }
}

/// `e·H·eᵀ` of each row.
pub fn norms(w: &Matrix, restored: &Matrix, statistics: &Statistics) -> Vec<f64> {
    let hessian = statistics.hessian.as_ref().unwrap();
    let norm = |row: usize| {
        let error: Vec<f64> = w.row(row).iter().zip(restored.row(row)).map(|(a, b)| f64::from(a - b)).collect();
        let times = |index: usize| -> f64 {
            hessian.matrix().row(index).iter().zip(&error).map(|(h, e)| f64::from(*h) * e).sum()
        };
        error.iter().enumerate().map(|(index, e)| e * times(index)).sum()
    };
    (0..w.rows()).map(norm).collect()
}

pub fn row_norms(method: &dyn WeightMethod, w: &Matrix, statistics: &Statistics, level: Level) -> Vec<f64> {
    let stored = method.compress(w, statistics, level).unwrap();
    norms(w, &stored.dequantize().unwrap(), statistics)
}

pub fn sum(norms: &[f64]) -> f64 {
    norms.iter().sum()
}
