//! Secondary estimation (adaptive probability maps, SSE): a prediction is corrected by what came when this context had been
//! told much the same before.
//!
//! Each context has 32 points along the log-odds from −8 to 8, a cache line; a prediction is interpolated between the two around it, and
//! the nearer one learns the bit: by a fixed share ([`Bit`]), or by less the more it has seen ([`Counter`]), which takes twice the memory.

use crate::counter::{Bit, Counter, Rates};
use crate::logistic::{Logistic, MAX_STRETCH};
use crate::simd::{pages, prefetch};

const POINTS: usize = 32;
/// Between points that are asked for: even, so that the middle is one of them.
const INTERVALS: usize = 30;
/// log₂ of the log-odds, in units of 1/256, from the first point to the last.
const SPAN: u32 = 12;

/// A probability that learns.
pub trait Point: Copy {
    /// It is this much (units of 2⁻¹⁶) to begin with.
    fn start(p: u16) -> Self;
    /// How much it is.
    fn p(self) -> u16;
    /// Learns a bit.
    fn learn(&mut self, bit: u32, rates: Rates);
}

impl<const RATE: u32> Point for Bit<RATE> {
    fn start(p: u16) -> Self {
        Self::new(p)
    }

    #[inline(always)]
    fn p(self) -> u16 {
        self.p()
    }

    #[inline(always)]
    fn learn(&mut self, bit: u32, _: Rates) {
        self.learn(bit);
    }
}

/// What the identity counts for, in bits seen, and what points remember.
const TRUST: u32 = 6;
const MEMORY: u32 = 255;

impl Point for Counter {
    fn start(p: u16) -> Self {
        Self::experienced(p, TRUST)
    }

    #[inline(always)]
    fn p(self) -> u16 {
        self.p()
    }

    #[inline(always)]
    fn learn(&mut self, bit: u32, rates: Rates) {
        self.learn(bit, MEMORY, rates);
    }
}

/// The points of a context.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<P>([P; POINTS]);

/// Maps of `contexts × 32` points.
#[derive(Clone, Debug)]
pub struct Apm<P> {
    lines: Vec<Line<P>>,
    last: (usize, usize),
}

impl<P: Point> Apm<P> {
    /// So many contexts, each the identity to begin with.
    pub fn new(contexts: usize) -> Self {
        let logistic = Logistic::get();
        let at = |point: usize| ((point << SPAN) / INTERVALS) as i32 - MAX_STRETCH;
        let identity = Line(std::array::from_fn(|point| P::start(logistic.squash(at(point)))));
        Self { lines: pages::filled(contexts.max(1), identity), last: (0, 0) }
    }

    /// Bytes of so many contexts.
    pub const fn memory(contexts: usize) -> u64 {
        (contexts * size_of::<Line<P>>()) as u64
    }

    /// Asks for the memory of a context ahead of [`Apm::refine`].
    #[inline(always)]
    pub fn prefetch(&self, context: usize) {
        if let Some(Line(points)) = self.lines.get(context) {
            (0..POINTS).step_by(64 / size_of::<P>()).for_each(|at| prefetch(points, at));
        }
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
        let (a, b) = (u32::from(points[low].p()), u32::from(points[high].p()));
        ((a * (128 - share) + b * share) >> 7) as u16
    }

    /// Learns the bit that came after the last [`Apm::refine`].
    #[inline(always)]
    pub fn learn(&mut self, bit: u32, rates: Rates) {
        let (context, point) = self.last;
        self.lines[context].0[point].learn(bit, rates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_as_the_identity() {
        begins::<Bit<6>>();
        begins::<Counter>();
    }

    fn begins<P: Point>() {
        let logistic = Logistic::get();
        let mut apm = Apm::<P>::new(4);
        for x in -2000..2000 {
            let (found, exact) = (i32::from(apm.refine(x, 3)), i32::from(logistic.squash(x)));
            assert!((found - exact).abs() < 500, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn it_learns_that_a_context_is_overconfident() {
        learns::<Bit<6>>();
        learns::<Counter>();
    }

    fn learns<P: Point>() {
        let mut apm = Apm::<P>::new(2);
        for n in 0..4000u32 {
            apm.refine(1500, 1);
            apm.learn(u32::from(n % 2 == 0), Rates::get());
        }
        let p = apm.refine(1500, 1);
        assert!((28_000..45_000).contains(&p), "{p}");
        assert!(apm.refine(1500, 0) > 64_000);
        apm.refine(0, usize::MAX / 64);
    }
}
