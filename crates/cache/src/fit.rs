//! Channels moved and scaled before they are coded.
//!
//! - *Centred keys.* The mean key μ is the same for all tokens, and often longer than what tells them apart: `⟨q, k − μ⟩` differs from
//!   `⟨q, k⟩` by one number, which the softmax does not see. It is learnt from the first 64 tokens of a head, in a written order, and stays. The first
//!   token has no say in it: all attend to it, and it is like no other.
//! - *Divided channels.* `⟨q, k⟩ = ⟨c·q, k/c⟩` and `Σ w·v = c·Σ w·(v/c)`: factors of keys go into queries, those of values into the
//!   output.
//!
//! Scales of keys by what queries look at, `s² = √(E q² / E k²)` over the first 64 tokens, do harm: rope turns the energy of a slow pair of channels from
//! one to the other as positions grow, and the first tokens do not show it (SmolLM2-135M, int4, one window of 4096 tokens: 0.152 bits a token with them).

use brevity_kernels::Matrix;

/// What channels are moved and scaled by.
pub struct Fit {
    mean: Vec<f32>,
    scale: Vec<f32>,
    inverse: Vec<f32>,
}

impl Fit {
    /// Keys without their mean.
    pub fn centred(keys: &Matrix) -> Fit {
        let (len, dim) = (keys.rows(), keys.cols());
        let count = len.saturating_sub(1).max(1) as f32;
        let mut mean = vec![0.0f32; dim];
        for slot in 1..len {
            mean.iter_mut().zip(keys.row(slot)).for_each(|(mean, k)| *mean += k);
        }
        mean.iter_mut().for_each(|mean| *mean /= count);
        Fit { mean, scale: vec![1.0; dim], inverse: vec![1.0; dim] }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_differ_by_one_number_and_keys_come_back() {
        let dim = 16;
        let noise = |i: usize| ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let keys = Matrix::from_vec(64, dim, (0..64 * dim).map(|i| noise(i) + (i % dim) as f32).collect());
        let query: Vec<f32> = (0..dim).map(|i| noise(i + 5000)).collect();
        let scores = |fit: Option<&Fit>| -> Vec<f32> {
            let mut q = query.clone();
            fit.iter().for_each(|fit| fit.query(&mut q));
            let score = |slot: usize| {
                let mut k = keys.row(slot).to_vec();
                fit.iter().for_each(|fit| fit.key(&mut k));
                let score = k.iter().zip(&q).map(|(k, q)| k * q).sum();
                fit.iter().for_each(|fit| fit.undo(&mut k));
                assert!(k.iter().zip(keys.row(slot)).all(|(a, b)| (a - b).abs() < 1e-4));
                score
            };
            (0..64).map(score).collect()
        };
        let plain = scores(None);
        let factors: Vec<f32> = (0..dim).map(|i| 0.5 + i as f32).collect();
        for (fit, same) in [(Fit::centred(&keys), false), (Fit::divided(&factors), true)] {
            let fitted = scores(Some(&fit));
            let apart = plain[0] - fitted[0];
            assert!(plain.iter().zip(&fitted).all(|(a, b)| (a - b - apart).abs() < 1e-2));
            assert_eq!(apart.abs() < 1e-2, same);
        }
    }
}
