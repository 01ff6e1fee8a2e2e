//! Scales with minima: two half floats per 32 (Q4_1, Q5_1), or integers under two half floats per 256 (Q2_K, Q4_K, Q5_K).
//!
//! Here `ŵ = s·q − m`; in super-blocks m is not negative.

use super::{Codes, Group, Lanes, ROUND, clamp, inverse, ratio, round, to_half};
use brevity_kernels::simd::{Kernel, LANES, Simd};

/// How much to try.
pub struct AffineEffort {
    /// Steps that are cut off the range of values: each of these at its low end with each of these at its high end.
    pub trims: &'static [f32],
    /// Then the best line so far with its scale times the first number (around the middle code) and its minimum moved by the
    /// second in steps.
    pub nudges: &'static [(f32, f32)],
    /// The largest scale of a super-block becomes each of these times the largest integer,
    pub tops: &'static [f32],
    /// and the largest minimum each of these times it.
    pub min_tops: &'static [f32],
    /// Rounds of solving for d and dmin.
    pub solves: usize,
}

/// Moments of the codes q and the residuals `e = x − (s·q − m)` that lines give, per lane.
#[derive(Clone, Copy)]
pub(super) struct Moments<S: Simd> {
    pub qq: S::F,
    pub q: S::F,
    pub eq: S::F,
    pub e: S::F,
    /// The error itself.
    pub ee: S::F,
}

/// A scale and a minimum per lane.
#[derive(Clone, Copy)]
pub(super) struct Line<S: Simd> {
    pub scale: S::F,
    pub min: S::F,
}

#[inline(always)]
fn select_line<S: Simd>(s: S, mask: S::M, a: Line<S>, b: Line<S>) -> Line<S> {
    Line { scale: s.select(mask, a.scale, b.scale), min: s.select(mask, a.min, b.min) }
}

#[inline(always)]
pub(super) fn evaluate<S: Simd>(s: S, group: &Group, line: Line<S>, top: S::F) -> Moments<S> {
    let inv = inverse(s, line.scale);
    let zero = s.zero();
    let (mut qq, mut q1, mut eq, mut e1, mut ee) = (zero, zero, zero, zero, zero);
    for (x, w) in group.x[..group.n].iter().zip(&group.w) {
        let (x, w) = (s.load(x), s.load(w));
        let shifted = s.add(x, line.min);
        let q = round(s, clamp(s, s.mul(shifted, inv), zero, top));
        let e = s.sub(shifted, s.mul(line.scale, q));
        let (wq, we) = (s.mul(w, q), s.mul(w, e));
        qq = s.add(qq, s.mul(wq, q));
        q1 = s.add(q1, wq);
        eq = s.add(eq, s.mul(we, q));
        e1 = s.add(e1, we);
        ee = s.add(ee, s.mul(we, e));
    }
    Moments { qq, q: q1, eq, e: e1, ee }
}

/// Sub-blocks around their means: what the closed form of the best line needs, cheaply.
struct Centred<'a> {
    group: &'a Group,
    x: [Lanes; 32],
    mean: Lanes,
    /// Σ w x² around the mean.
    xx: Lanes,
    total: Lanes,
}

impl<'a> Centred<'a> {
    #[inline(always)]
    fn new<S: Simd>(s: S, group: &'a Group) -> Self {
        let (mut total, mut sum) = (s.zero(), s.zero());
        for (x, w) in group.x[..group.n].iter().zip(&group.w) {
            let w = s.load(w);
            total = s.add(total, w);
            sum = s.fma(w, s.load(x), sum);
        }
        let mean = s.div(sum, total);
        let (mut centred, mut xx) = ([[0.0; LANES]; 32], s.zero());
        for ((x, w), out) in group.x[..group.n].iter().zip(&group.w).zip(&mut centred) {
            let x = s.sub(s.load(x), mean);
            xx = s.fma(s.mul(s.load(w), x), x, xx);
            s.store(out, x);
        }
        Centred { group, x: centred, mean: s.lanes(mean), xx: s.lanes(xx), total: s.lanes(total) }
    }

    /// The best line for the codes that `line` gives, and the error that it leaves: with `q̃ = q − q̄`,
    /// `s = Σ w q̃ x̃ / Σ w q̃²`, `m = s·q̄ − x̄`, `E = Σ w x̃² − s·Σ w q̃ x̃`. Where the minimum must not be negative and would
    /// be, it is zero: `s = Σ w q x / Σ w q²`, `E = Σ w x² − s·Σ w q x`.
    #[inline(always)]
    fn solve<S: Simd>(&self, s: S, line: Line<S>, top: S::F, positive: bool) -> (Line<S>, S::F) {
        let inv = inverse(s, line.scale);
        let (mean, total, xx) = (s.load(&self.mean), s.load(&self.total), s.load(&self.xx));
        let shift = s.mul(s.add(line.min, mean), inv);
        let (zero, magic) = (s.zero(), s.splat(ROUND));
        let (low, high) = (magic, s.add(magic, top));
        let (mut qq, mut q1, mut qx) = (zero, zero, zero);
        for (x, w) in self.x[..self.group.n].iter().zip(&self.group.w) {
            let x = s.load(x);
            let t = s.add(s.fma(x, inv, shift), magic);
            let q = s.sub(clamp(s, t, low, high), magic);
            let wq = s.mul(s.load(w), q);
            q1 = s.add(q1, wq);
            qq = s.fma(wq, q, qq);
            qx = s.fma(wq, x, qx);
        }
        let centre = s.div(q1, total);
        let spread = s.fnma(centre, q1, qq);
        let regular = s.lt(s.mul(qq, s.splat(1e-6)), spread);
        let scale = s.select(regular, s.div(qx, s.select(regular, spread, s.splat(1.0))), line.scale);
        let best = Line { scale, min: s.sub(s.mul(scale, centre), mean) };
        let error = s.select(regular, s.fnma(scale, qx, xx), xx);
        if !positive {
            return (best, error);
        }
        let qx = s.fma(mean, q1, qx);
        let scale = ratio(s, qx, qq);
        let xx = s.fma(s.mul(mean, mean), total, xx);
        let negative = s.lt(best.min, zero);
        let origin = Line { scale, min: zero };
        (select_line(s, negative, origin, best), s.select(negative, s.fnma(scale, qx, xx), error))
    }
}

/// The best real lines found: those with the least error once they are solved for.
#[inline(always)]
fn search<S: Simd>(s: S, group: &Group, top: f32, positive: bool, effort: &AffineEffort) -> Line<S> {
    let centred = Centred::new(s, group);
    let first = s.load(&group.x[0]);
    let (mut low, mut high) = (first, first);
    for x in &group.x[1..group.n] {
        let x = s.load(x);
        low = s.min(x, low);
        high = s.max(x, high);
    }
    if positive {
        low = s.min(low, s.zero());
    }
    let (range, min) = (s.max(s.sub(high, low), s.zero()), s.neg(low));
    let mut best = Line { scale: s.zero(), min };
    let mut error = s.splat(f32::INFINITY);
    let ends = effort.trims.len();
    let tries = ends * ends;
    for i in 0..tries + effort.nudges.len() {
        let line = if i < tries {
            let (a, b) = (effort.trims[i / ends], effort.trims[i % ends]);
            let scale = s.mul(range, s.splat(1.0 / (top + a + b)));
            Line { scale, min: s.sub(min, s.mul(scale, s.splat(a))) }
        } else {
            let (factor, steps) = effort.nudges[i - tries];
            let shift = steps + 0.5 * top * (factor - 1.0);
            Line { scale: s.mul(best.scale, s.splat(factor)), min: s.add(best.min, s.mul(best.scale, s.splat(shift))) }
        };
        let (line, left) = centred.solve(s, line, s.splat(top), positive);
        let better = s.lt(left, error);
        best = select_line(s, better, line, best);
        error = s.select(better, left, error);
    }
    best
}

#[inline(always)]
fn encode<S: Simd>(s: S, group: &Group, line: Line<S>, top: S::F, codes: &mut Codes) {
    let inv = inverse(s, line.scale);
    for (codes, x) in codes[..group.n].iter_mut().zip(&group.x) {
        let shifted = s.add(s.load(x), line.min);
        let code = clamp(s, s.mul(shifted, inv), s.zero(), top);
        let mut lanes = [0; LANES];
        s.store_i(&mut lanes, s.to_int(code));
        *codes = lanes.map(|code| code as u8);
    }
}

/// Searches half-float scales and minima per sub-block, or with `integers` (sub-blocks in a super-block, largest integer)
/// integer ones under two half floats.
pub struct AffineSearch<'a> {
    pub group: &'a Group,
    /// The largest code.
    pub top: f32,
    pub integers: Option<(usize, f32)>,
    pub effort: &'a AffineEffort,
    /// Receives the codes.
    pub codes: &'a mut Codes,
}

/// What an [`AffineSearch`] found, per lane: half-float values, and integers where there are some.
pub struct AffineScales {
    pub d: Lanes,
    pub dmin: Lanes,
    pub scales: Lanes,
    pub mins: Lanes,
}

impl Kernel for AffineSearch<'_> {
    type Output = AffineScales;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> AffineScales {
        let mut total = s.zero();
        for w in &self.group.w[..self.group.n] {
            total = s.add(total, s.load(w));
        }
        let positive = self.integers.is_some();
        let reals = search(s, self.group, self.top, positive, self.effort);
        let found = match self.integers {
            None => AffineScales {
                d: s.lanes(reals.scale).map(to_half),
                dmin: s.lanes(reals.min).map(to_half),
                scales: [1.0; LANES],
                mins: [1.0; LANES],
            },
            Some((per, limit)) => self.search_super(s, total, reals, per, limit),
        };
        let line = Line {
            scale: s.mul(s.load(&found.d), s.load(&found.scales)),
            min: s.mul(s.load(&found.dmin), s.load(&found.mins)),
        };
        encode(s, self.group, line, s.splat(self.top), self.codes);
        found
    }
}
