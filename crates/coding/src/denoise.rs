//! Calibration by denoising: Midicoth's last stage (R. Tacconelli, "Micro-Diffusion Compression: Binary Tree Tweedie Denoising for
//! Online Probability Estimation", 2026, arXiv 2603.08771).
//!
//! A prediction p is taken for a noisy measurement of the true probability θ, and by Tweedie's formula moved by what it was off on average
//! where it was much the same before: `δ = E[θ | p] − E[p]`, counted in a cell for each context and each of 20 ranges of log-odds. As
//! few counts say little, δ is multiplied by `min(1, SNR/4)` with `SNR = δ²·n / (mean squared error)` (James–Stein). Three such steps
//! follow one another, each with cells of its own. A byte is eight such decisions down a binary tree; contexts are the caller's.
//!
//! f64 additions, multiplications and divisions in a written order: the same bits on every machine.

use crate::logistic::{Logistic, MAX_STRETCH};

/// Steps that follow one another.
pub const STEPS: usize = 3;
/// Ranges of log-odds.
pub const BINS: usize = 20;
/// The signal-to-noise ratio from which on a correction counts whole.
const TRUSTED: f64 = 4.0;
const UNIT: f64 = 65_536.0;

/// What was predicted and what came.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    predicted: f64,
    hits: f64,
    total: f64,
    squares: f64,
    /// The correction, shrunk: what the sums say, ready when it is asked for.
    delta: f64,
}

impl Cell {
    #[inline(always)]
    fn learn(&mut self, p: f64, bit: f64) {
        self.predicted += p;
        self.hits += bit;
        self.total += 1.0;
        self.squares += (bit - p) * (bit - p);
        let delta = (self.hits - self.predicted) / self.total;
        let trust = delta * delta * self.total * self.total / (self.squares.max(1e-9) * TRUSTED);
        self.delta = delta * trust.min(1.0);
    }
}

/// Cells of `contexts × 20`, for each step.
#[derive(Clone, Debug)]
pub struct Denoiser {
    cells: Vec<Cell>,
    contexts: usize,
    /// The cell and the prediction of each step of the last [`Denoiser::refine`].
    last: [(usize, f64); STEPS],
}

impl Denoiser {
    /// So many contexts, no correction in any.
    pub fn new(contexts: usize) -> Self {
        let contexts = contexts.max(1);
        Self { cells: vec![Cell::default(); STEPS * contexts * BINS], contexts, last: [(0, 0.5); STEPS] }
    }

    /// Bytes that so many contexts take.
    pub fn memory(contexts: usize) -> u64 {
        (STEPS * contexts * BINS * size_of::<Cell>()) as u64
    }

    /// Corrects a probability in units of 2⁻¹⁶ in a context (taken modulo their number).
    #[inline(always)]
    pub fn refine(&mut self, probability: u16, context: usize, logistic: &Logistic) -> u16 {
        let context = context % self.contexts;
        let mut p = f64::from(probability) / UNIT;
        for (step, last) in self.last.iter_mut().enumerate() {
            let stretched = i32::from(logistic.stretch((p * UNIT) as u16)) + MAX_STRETCH;
            let bin = stretched as usize * BINS / (2 * MAX_STRETCH as usize + 1);
            let at = (step * self.contexts + context) * BINS + bin;
            *last = (at, p);
            p = (p + self.cells[at].delta).clamp(1.0 / UNIT, 1.0 - 1.0 / UNIT);
        }
        (p * UNIT) as u16
    }

    /// Learns the bit that came after the last [`Denoiser::refine`].
    #[inline(always)]
    pub fn learn(&mut self, bit: u32) {
        for (at, p) in self.last {
            self.cells[at].learn(p, f64::from(bit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f64 / (1u64 << 24) as f64
    }

    /// Bits a symbol of a source that says 1 with probability `theta`, when told `told`, without and with denoising.
    fn bits(source: impl Fn(f64) -> (f64, f64)) -> (f64, f64) {
        let (logistic, mut state) = (Logistic::get(), 5u64);
        let mut denoiser = Denoiser::new(2);
        let (mut plain, mut refined) = (0.0, 0.0);
        for _ in 0..40_000 {
            let (theta, told) = source(noise(&mut state));
            let p = (told * UNIT) as u16;
            let q = denoiser.refine(p, 1, logistic);
            let bit = u32::from(noise(&mut state) < theta);
            let cost = |p: u16| -(if bit == 1 { f64::from(p) } else { UNIT - f64::from(p) } / UNIT).log2();
            plain += cost(p);
            refined += cost(q);
            denoiser.learn(bit);
        }
        (plain / 40_000.0, refined / 40_000.0)
    }

    #[test]
    fn shrinkage_towards_a_half_is_undone() {
        // Jeffreys' prior with as much weight as what was counted: every probability is half as far from 1/2 as the truth.
        let (plain, refined) = bits(|u| {
            let theta = 0.02 + 0.96 * u;
            (theta, 0.5 + (theta - 0.5) / 2.0)
        });
        let entropy = (0..1000).map(|i| {
            let p = 0.02 + 0.96 * (f64::from(i) + 0.5) / 1000.0;
            -(p * p.log2() + (1.0 - p) * (1.0 - p).log2())
        });
        let entropy = entropy.sum::<f64>() / 1000.0;
        assert!(plain > entropy + 0.05, "{plain} {entropy}");
        assert!(refined < entropy + 0.02, "{refined} of {plain}, entropy {entropy}");
    }

    #[test]
    fn what_is_right_already_is_left_alone() {
        let (plain, refined) = bits(|u| (0.01 + 0.98 * u, 0.01 + 0.98 * u));
        // The noise of 40,000 counts is all that it costs.
        assert!(refined < plain + 0.005, "{refined} {plain}");
    }

    #[test]
    fn few_counts_move_little() {
        let logistic = Logistic::get();
        let mut denoiser = Denoiser::new(1);
        for _ in 0..3 {
            denoiser.refine(32_768, 0, logistic);
            denoiser.learn(1);
        }
        let p = denoiser.refine(32_768, 0, logistic);
        assert!((32_768..61_000).contains(&p), "{p}");
        for p in [0, 1, 65_535] {
            denoiser.refine(p, usize::MAX, logistic);
            denoiser.learn(0);
        }
    }
}
