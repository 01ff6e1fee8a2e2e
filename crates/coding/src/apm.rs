//! Secondary estimation (adaptive probability maps, SSE): a prediction is corrected by what came when this context had been
//! told much the same before.
//!
//! Each context has 33 points along the log-odds from −8 to 8; a prediction is interpolated between the two around it, and the
//! nearer one learns the bit.

use crate::logistic::Logistic;
use crate::simd::prefetch;

const POINTS: usize = 33;

/// Maps of `contexts × 33` points.
#[derive(Clone, Debug)]
pub struct Apm {
    points: Vec<u16>,
    last: usize,
}

impl Apm {
    /// So many contexts, each the identity to begin with.
    pub fn new(contexts: usize) -> Self {
        let logistic = Logistic::get();
        let identity: [u16; POINTS] = std::array::from_fn(|j| logistic.squash((j as i32 - 16) * 128));
        Self { points: identity.repeat(contexts.max(1)), last: 0 }
    }

    /// Asks for the memory of a context ahead of [`Apm::refine`].
    #[inline(always)]
    pub fn prefetch(&self, context: usize) {
        prefetch(&self.points, context * POINTS);
        prefetch(&self.points, context * POINTS + POINTS - 1);
    }

    /// Corrects log-odds (units of 1/256, ±2,047) in a context (taken modulo their number): a probability in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn refine(&mut self, stretched: i32, context: usize) -> u16 {
        let position = (stretched.clamp(-2047, 2047) + 2048) as usize;
        let (low, share) = (position >> 7, (position & 127) as u32);
        let at = (context * POINTS + low).min(self.points.len() - 2);
        self.last = at + usize::from(share >= 64);
        let (a, b) = (u32::from(self.points[at]), u32::from(self.points[at + 1]));
        ((a * (128 - share) + b * share) >> 7) as u16
    }

    /// Learns the bit that came after the last [`Apm::refine`], by a share of `2^-rate`.
    #[inline(always)]
    pub fn learn(&mut self, bit: u32, rate: u32) {
        if let Some(point) = self.points.get_mut(self.last) {
            let step = (bit as i32 * 65_535 - i32::from(*point)) >> rate;
            *point = (i32::from(*point) + step) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_as_the_identity() {
        let logistic = Logistic::get();
        let mut apm = Apm::new(4);
        for x in -2000..2000 {
            let (found, exact) = (i32::from(apm.refine(x, 3)), i32::from(logistic.squash(x)));
            assert!((found - exact).abs() < 500, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn it_learns_that_a_context_is_overconfident() {
        let mut apm = Apm::new(2);
        for n in 0..4000u32 {
            apm.refine(1500, 1);
            apm.learn(u32::from(n % 2 == 0), 6);
        }
        let p = apm.refine(1500, 1);
        assert!((28_000..45_000).contains(&p), "{p}");
        assert!(apm.refine(1500, 0) > 64_000);
        apm.refine(0, usize::MAX / 64);
    }
}
