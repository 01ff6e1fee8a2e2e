//! Secondary estimation (adaptive probability maps, SSE): a prediction is corrected by what came when this context had been
//! told much the same before.
//!
//! Each context has 32 points along the log-odds from −8 to 8, a cache line; a prediction is interpolated between the two around it, and
//! the nearer one learns the bit.

use crate::logistic::{Logistic, MAX_STRETCH};
use crate::simd::{pages, prefetch};

const POINTS: usize = 32;
/// Between points that are asked for: even, so that the middle is one of them.
const INTERVALS: usize = 30;
/// log₂ of the log-odds, in units of 1/256, from the first point to the last.
const SPAN: u32 = 12;

/// The points of a context.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u16; POINTS]);

/// Maps of `contexts × 32` points.
#[derive(Clone, Debug)]
pub struct Apm {
    lines: Vec<Line>,
    last: (usize, usize),
}

impl Apm {
    /// So many contexts, each the identity to begin with.
    pub fn new(contexts: usize) -> Self {
        let logistic = Logistic::get();
        let at = |point: usize| ((point << SPAN) / INTERVALS) as i32 - MAX_STRETCH;
        let identity = Line(std::array::from_fn(|point| logistic.squash(at(point))));
        Self { lines: pages::filled(contexts.max(1), identity), last: (0, 0) }
    }

    /// Bytes of so many contexts.
    pub const fn memory(contexts: usize) -> u64 {
        (contexts * size_of::<Line>()) as u64
    }

    /// Asks for the memory of a context ahead of [`Apm::refine`].
    #[inline(always)]
    pub fn prefetch(&self, context: usize) {
        prefetch(&self.lines, context);
    }

    /// Corrects log-odds (units of 1/256, ±2,047) in a context (the last one where there are not so many): a probability in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn refine(&mut self, stretched: i32, context: usize) -> u16 {
        let position = (stretched.clamp(-MAX_STRETCH, MAX_STRETCH) + MAX_STRETCH) as u32 * INTERVALS as u32;
        let (low, share) = ((position >> SPAN) as usize & (POINTS - 1), (position >> (SPAN - 7)) & 127);
        let context = context.min(self.lines.len() - 1);
        let points = &self.lines[context].0;
        let high = (low + 1) & (POINTS - 1);
        self.last = (context, if share >= 64 { high } else { low });
        let (a, b) = (u32::from(points[low]), u32::from(points[high]));
        ((a * (128 - share) + b * share) >> 7) as u16
    }

    /// Learns the bit that came after the last [`Apm::refine`], by a share of `2^-rate`.
    #[inline(always)]
    pub fn learn(&mut self, bit: u32, rate: u32) {
        let (context, point) = self.last;
        let point = &mut self.lines[context].0[point];
        let step = (bit as i32 * 65_535 - i32::from(*point)) >> rate;
        *point = (i32::from(*point) + step) as u16;
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
