//! Orthogonal matrices that spread every coordinate over all others, multiplied fast: Hadamard matrices with random signs.
//!
//! `Q = (O ⊗ H) · diag(signs)` with `H` the normalised Walsh–Hadamard matrix of a power of two and `O` a small orthogonal
//! factor. For a size `m·2^k`, m odd, `O` is a Hadamard matrix of order 4m or 2m where Paley's constructions give one (288 =
//! 36 · 8, 576 = 36 · 16, 768 = 12 · 64), so that all entries of `Q` are `±1/√size`; otherwise it is the cosine transform
//! (DCT-II) of m points.

use brevity_kernels::hadamard::{block, hadamard_blocks};

use super::{Fnv, paley};

/// An orthogonal matrix of `size × size`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    signs: Vec<f32>,
    /// Order of `O`, and its entries row after row.
    outer: usize,
    factor: Vec<f32>,
}

impl Rotation {
    /// A rotation of runs of `size` values (at least 1), with signs from a seed or none.
    pub fn new(size: usize, seed: Option<u64>) -> Self {
        let size = size.max(1);
        let mut state = seed.unwrap_or(0);
        let sign = |_| match seed {
            Some(_) if split_mix(&mut state) >> 63 == 1 => -1.0,
            _ => 1.0,
        };
        let signs = (0..size).map(sign).collect();
        let (outer, factor) = outer_factor(size);
        Self { signs, outer, factor }
    }

    /// Values that are rotated together.
    pub fn size(&self) -> usize {
        self.signs.len()
    }

    /// `x ← Q·x` for each run of [`size`](Self::size) values; values after the last whole run stay.
    pub fn apply(&self, x: &mut [f32]) {
        let inner = self.size() / self.outer;
        let mut mixed = vec![0.0; if self.outer > 1 { self.size() } else { 0 }];
        for run in x.chunks_exact_mut(self.size()) {
            run.iter_mut().zip(&self.signs).for_each(|(value, sign)| *value *= sign);
            hadamard_blocks(run, inner);
            if self.outer == 1 {
                continue;
            }
            for (out, factors) in mixed.chunks_exact_mut(inner).zip(self.factor.chunks_exact(self.outer)) {
                out.fill(0.0);
                for (part, factor) in run.chunks_exact(inner).zip(factors) {
                    out.iter_mut().zip(part).for_each(|(out, value)| *out += factor * value);
                }
            }
            run.copy_from_slice(&mixed);
        }
    }

    /// A number that tells it from others.
    pub(super) fn digest(&self) -> u64 {
        let mut hash = Fnv::default();
        self.signs.iter().for_each(|sign| hash.bytes(&sign.to_le_bytes()));
        hash.0
    }
}

/// SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The small factor of a size: its order, which leaves a power of two, and its entries.
fn outer_factor(size: usize) -> (usize, Vec<f32>) {
    let odd = size / block(size);
    if odd == 1 {
        return (1, vec![1.0]);
    }
    for order in [4 * odd, 2 * odd] {
        if let Some(matrix) = size.is_multiple_of(order).then(|| paley::hadamard(order)).flatten() {
            let factor = 1.0 / (order as f64).sqrt();
            return (order, matrix.into_iter().map(|entry| (f64::from(entry) * factor) as f32).collect());
        }
    }
    (odd, cosines(odd))
}

/// The orthonormal DCT-II of `n` points.
fn cosines(n: usize) -> Vec<f32> {
    let entry = |k: usize, i: usize| {
        let scale = if k == 0 { 1.0 } else { 2.0f64 };
        let angle = std::f64::consts::PI * (2 * i + 1) as f64 * k as f64 / (2 * n) as f64;
        ((scale / n as f64).sqrt() * brevity_kernels::math::double::sin_cos(angle).1) as f32
    };
    (0..n).flat_map(|k| (0..n).map(move |i| entry(k, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_orthogonal() {
        for size in [1, 2, 3, 8, 12, 18, 32, 48, 72, 100, 288, 576, 768, 1536] {
            let rotation = Rotation::new(size, Some(7));
            let columns: Vec<Vec<f32>> = (0..size)
                .map(|index| {
                    let mut unit = vec![0.0; size];
                    unit[index] = 1.0;
                    rotation.apply(&mut unit);
                    unit
                })
                .collect();
            for (i, a) in columns.iter().enumerate().step_by(7) {
                for (j, b) in columns.iter().enumerate() {
                    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-5, "{size}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn widths_of_real_models_are_spread_evenly() {
        for size in [48, 64, 128, 256, 288, 576, 768, 1536, 2048, 896] {
            let rotation = Rotation::new(size, None);
            let mut unit = vec![0.0; size];
            unit[size / 3] = 1.0;
            rotation.apply(&mut unit);
            let even = 1.0 / (size as f32).sqrt();
            assert!(unit.iter().all(|value| (value.abs() - even).abs() < 1e-6), "{size}");
        }
    }

    #[test]
    fn runs_are_rotated_alike_and_seeds_differ() {
        let (one, two) = (Rotation::new(24, Some(1)), Rotation::new(24, Some(2)));
        assert_ne!(one.digest(), two.digest());
        let run: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut twice = [&run[..], &run, &[5.0]].concat();
        one.apply(&mut twice);
        assert!(twice[..24] == twice[24..48] && twice[48] == 5.0);
    }
}
