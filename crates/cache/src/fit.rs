//! Keys fitted to the queries that meet them.
//!
//! A code's error counts by what it does to scores: `⟨q, e⟩`. Two things change that and leave every score as it is.
//!
//! - The mean key μ: `⟨q, k − μ⟩` differs from `⟨q, k⟩` by the same number for all tokens, and the softmax does not see it. What is
//!   left is smaller.
//! - A scale for each channel: `⟨q, k⟩ = ⟨q/s, s·k⟩`. Behind a rotation the error of a token is spread evenly, and as large as its range, so the
//!   scores' error grows with `Σ q²/s² · Σ s²k²`, which is least at `s² = √(E q² / E k²)` (Cauchy and Schwarz): channels that queries look at
//!   get finer steps.
//!
//! Both are learnt from the first 64 tokens of a head, in a written order, and stay. The first token has no say in the keys' part:
//! all attend to it, and it is like no other.

use brevity_kernels::Matrix;

/// What keys are moved and scaled by.
pub struct Fit {
    mean: Vec<f32>,
    scale: Vec<f32>,
    inverse: Vec<f32>,
}

/// Scales lie within so much of their middle: 64 tokens say little about rare channels.
const MOST: f64 = 8.0;

impl Fit {
    /// From keys, and the squares of queries channel by channel.
    pub fn new<'a>(keys: &Matrix, squares: impl Iterator<Item = &'a [f32]>) -> Fit {
        let (len, dim) = (keys.rows(), keys.cols());
        let count = len.saturating_sub(1).max(1) as f32;
        let mut mean = vec![0.0f32; dim];
        for slot in 1..len {
            mean.iter_mut().zip(keys.row(slot)).for_each(|(mean, k)| *mean += k);
        }
        mean.iter_mut().for_each(|mean| *mean /= count);
        let (mut key, mut query) = (vec![0.0f64; dim], vec![0.0f64; dim]);
        for slot in 1..len {
            for ((sum, k), mean) in key.iter_mut().zip(keys.row(slot)).zip(&mean) {
                *sum += f64::from(k - mean) * f64::from(k - mean);
            }
        }
        squares.for_each(|row| query.iter_mut().zip(row).for_each(|(sum, &q)| *sum += f64::from(q)));
        let (scale, inverse) = scales(&query, &key).into_iter().map(|s| (s as f32, (1.0 / s) as f32)).unzip();
        Fit { mean, scale, inverse }
    }

    /// Channels divided by factors, and nothing taken off.
    pub fn divided(factors: &[f32]) -> Fit {
        let scale = factors.iter().map(|factor| 1.0 / factor).collect();
        Fit { mean: vec![0.0; factors.len()], scale, inverse: factors.to_vec() }
    }

    /// A key as it is stored.
    pub fn key(&self, k: &mut [f32]) {
        k.iter_mut().zip(&self.mean).zip(&self.scale).for_each(|((k, mean), s)| *k = (*k - mean) * s);
    }

    /// A key as it was.
    pub fn undo(&self, k: &mut [f32]) {
        k.iter_mut().zip(&self.mean).zip(&self.inverse).for_each(|((k, mean), s)| *k = *k * s + mean);
    }

    /// A query as stored keys want it.
    pub fn query(&self, q: &mut [f32]) {
        q.iter_mut().zip(&self.inverse).for_each(|(q, s)| *q *= s);
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        4 * (self.mean.capacity() + self.scale.capacity() + self.inverse.capacity())
    }
}

/// `(E q² / E k²)^¼`, around a middle of 1.
fn scales(query: &[f64], key: &[f64]) -> Vec<f64> {
    let floor = |all: &[f64]| all.iter().sum::<f64>() / all.len().max(1) as f64 * 1e-4 + f64::MIN_POSITIVE;
    let (least_q, least_k) = (floor(query), floor(key));
    let raw: Vec<f64> = query.iter().zip(key).map(|(q, k)| (q.max(least_q) / k.max(least_k)).sqrt().sqrt()).collect();
    let mut sorted = raw.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied().filter(|m| m.is_finite() && *m > 0.0).unwrap_or(1.0);
    raw.into_iter().map(|s| (s / middle).clamp(1.0 / MOST, MOST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_differ_by_one_number_and_channels_that_count_are_finer() {
        let dim = 16;
        let noise = |i: usize| ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let keys = Matrix::from_vec(64, dim, (0..64 * dim).map(|i| noise(i) + (i % dim) as f32).collect());
        let loud = |i: usize| if i % dim == 3 { 20.0 } else { 1.0 };
        let queries: Vec<f32> = (0..64 * dim).map(|i| noise(i + 5000) * loud(i)).collect();
        let squares: Vec<f32> = queries.iter().map(|q| q * q).collect();
        let fit = Fit::new(&keys, squares.chunks_exact(dim));
        let mut q = queries[..dim].to_vec();
        let plain: Vec<f32> =
            (0..64).map(|slot| keys.row(slot).iter().zip(&q).map(|(k, q)| k * q).sum::<f32>()).collect();
        fit.query(&mut q);
        let shifted: Vec<f32> = (0..64)
            .map(|slot| {
                let mut k = keys.row(slot).to_vec();
                fit.key(&mut k);
                let score = k.iter().zip(&q).map(|(k, q)| k * q).sum();
                fit.undo(&mut k);
                assert!(k.iter().zip(keys.row(slot)).all(|(a, b)| (a - b).abs() < 1e-4));
                score
            })
            .collect();
        let apart = plain[0] - shifted[0];
        assert!(plain.iter().zip(&shifted).all(|(a, b)| (a - b - apart).abs() < 1e-2));
        assert!(fit.scale.iter().enumerate().all(|(i, s)| i == 3 || *s < fit.scale[3] / 2.0), "{:?}", fit.scale);
    }

    #[test]
    fn nothing_to_learn_from_is_no_harm() {
        let fit = Fit::new(&Matrix::zeros(64, 4), std::iter::empty());
        assert_eq!(fit.scale, [1.0; 4]);
        assert_eq!(fit.mean, [0.0; 4]);
    }
}
