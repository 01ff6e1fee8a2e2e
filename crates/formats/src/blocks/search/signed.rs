//! Scales without minima: one half float per 32 (Q4_0, Q5_0, Q8_0, IQ4_NL), integers under a half float per 256 (Q3_K, Q6_K,
//! IQ4_XS), or a power of two per 32 (MXFP4).

use super::super::mx;
use super::levels::Levels;
use super::{Codes, Group, Lanes, Shortlist, clamp, inverse, per_super, ratio, round, to_half};
use brevity_kernels::simd::{Kernel, LANES, Simd};

/// How much to try.
pub struct SignedEffort {
    /// The extreme value of a sub-block becomes each of these times the lowest level,
    pub low: &'static [f32],
    /// and each of these times the highest.
    pub high: &'static [f32],
    /// Then each of these times the best scale so far.
    pub nudges: &'static [f32],
    /// The largest scale of a super-block becomes each of these times its lowest integer.
    pub tops: &'static [f32],
    /// Rounds of solving for d.
    pub solves: usize,
}

/// Moments of the codes q and the residuals e that scales give, per lane.
#[derive(Clone, Copy)]
struct Moments<S: Simd> {
    qq: S::F,
    eq: S::F,
    /// The error itself.
    ee: S::F,
}

#[inline(always)]
fn evaluate<S: Simd, L: Levels>(s: S, levels: L, group: &Group, scale: S::F) -> Moments<S> {
    let inv = inverse(s, scale);
    let (mut qq, mut eq, mut ee) = (s.zero(), s.zero(), s.zero());
    for (x, w) in group.x[..group.n].iter().zip(&group.w) {
        let (x, w) = (s.load(x), s.load(w));
        let q = levels.nearest(s, s.mul(x, inv));
        let e = s.sub(x, s.mul(scale, q));
        let (wq, we) = (s.mul(w, q), s.mul(w, e));
        qq = s.add(qq, s.mul(wq, q));
        eq = s.add(eq, s.mul(we, q));
        ee = s.add(ee, s.mul(we, e));
    }
    Moments { qq, eq, ee }
}

/// The value of largest magnitude in each lane.
#[inline(always)]
fn extremes<S: Simd>(s: S, group: &Group) -> S::F {
    let (mut low, mut high) = (s.zero(), s.zero());
    for x in &group.x[..group.n] {
        let x = s.load(x);
        low = s.min(x, low);
        high = s.max(x, high);
    }
    s.select(s.lt(high, s.neg(low)), low, high)
}

/// The best scales for the codes that `scale` gives, `Σ w q x / Σ w q²`, and by how much they lower `Σ w x²`.
#[inline(always)]
fn solve<S: Simd, L: Levels>(s: S, levels: L, group: &Group, scale: S::F) -> (S::F, S::F) {
    let inv = inverse(s, scale);
    let (mut qq, mut qx) = (s.zero(), s.zero());
    for (x, w) in group.x[..group.n].iter().zip(&group.w) {
        let x = s.load(x);
        let q = levels.nearest(s, s.mul(x, inv));
        let wq = s.mul(s.load(w), q);
        qq = s.fma(wq, q, qq);
        qx = s.fma(wq, x, qx);
    }
    let scale = ratio(s, qx, qq);
    (scale, s.mul(scale, qx))
}

/// The best real scales found: those with the least error once they are solved for.
#[inline(always)]
fn search<S: Simd, L: Levels>(s: S, levels: L, group: &Group, effort: &SignedEffort) -> S::F {
    let (low, high) = levels.bounds();
    let extreme = extremes(s, group);
    let (mut best, mut gain) = (s.zero(), s.splat(-1.0));
    let tries = effort.low.len() + effort.high.len();
    for i in 0..tries + effort.nudges.len() {
        let scale = if i < effort.low.len() {
            s.mul(extreme, s.splat(1.0 / (low * effort.low[i])))
        } else if i < tries {
            s.mul(extreme, s.splat(1.0 / (high * effort.high[i - effort.low.len()])))
        } else {
            s.mul(best, s.splat(effort.nudges[i - tries]))
        };
        let (scale, gained) = solve(s, levels, group, scale);
        let better = s.lt(gain, gained);
        best = s.select(better, scale, best);
        gain = s.select(better, gained, gain);
    }
    best
}

#[inline(always)]
fn encode<S: Simd, L: Levels>(s: S, levels: L, group: &Group, scale: S::F, codes: &mut Codes) {
    let inv = inverse(s, scale);
    for (codes, x) in codes[..group.n].iter_mut().zip(&group.x) {
        let mut lanes = [0; LANES];
        let code = levels.code(s, s.mul(s.load(x), inv));
        s.store_i(&mut lanes, s.to_int(code));
        *codes = lanes.map(|code| code as u8);
    }
}

/// Searches one half-float scale per sub-block, or with `integers` (sub-blocks in a super-block, half the range of integers)
/// integer scales under one half float.
pub struct SignedSearch<'a, L> {
    pub group: &'a Group,
    pub levels: L,
    pub integers: Option<(usize, f32)>,
    pub effort: &'a SignedEffort,
    /// Receives the codes.
    pub codes: &'a mut Codes,
}

/// What a [`SignedSearch`] found, per lane: half-float values, and integers where there are some.
pub struct SignedScales {
    pub d: Lanes,
    pub scales: Lanes,
}

impl<L: Levels> Kernel for SignedSearch<'_, L> {
    type Output = SignedScales;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> SignedScales {
        let reals = search(s, self.levels, self.group, self.effort);
        let found = match self.integers {
            None => SignedScales { d: s.lanes(reals).map(to_half), scales: [1.0; LANES] },
            Some((per, half)) => self.search_super(s, reals, per, half),
        };
        let scale = s.mul(s.load(&found.d), s.load(&found.scales));
        encode(s, self.levels, self.group, scale, self.codes);
        found
    }
}

/// Scales and what they leave.
struct Assignment<S: Simd> {
    scales: S::F,
    moments: Moments<S>,
}

impl<L: Levels> SignedSearch<'_, L> {
    #[inline(always)]
    fn search_super<S: Simd>(&self, s: S, reals: S::F, per: usize, half: f32) -> SignedScales {
        let lanes = s.lanes(reals);
        let largest = per_super(per, |from, to| {
            lanes[from..to].iter().fold(0.0f32, |a, b| if b.abs() > a.abs() { *b } else { a })
        });
        let start = Assignment { scales: reals, moments: evaluate(s, self.levels, self.group, reals) };
        let mut frames = Shortlist::new();
        for top in self.effort.tops {
            let d = per_super(per, |from, _| to_half(largest[from] / (-half * top)));
            let errors = s.lanes(self.nearest(s, &start, &d, half).error);
            for from in (0..LANES).step_by(per) {
                frames.offer(from, errors[from..from + per].iter().sum(), d[from]);
            }
        }
        let mut best = SignedScales { d: [0.0; LANES], scales: [0.0; LANES] };
        let mut error = [f32::INFINITY; LANES];
        for frame in &frames.values {
            let mut d = per_super(per, |from, _| frame[from]);
            let mut model = Assignment { ..start };
            for _ in 0..=self.effort.solves {
                let found = self.assign(s, &model, &d, half);
                let (qq, eq, ee) = (s.lanes(found.moments.qq), s.lanes(found.moments.eq), s.lanes(found.moments.ee));
                let scales = s.lanes(found.scales);
                model = Assignment { scales: s.mul(s.load(&d), found.scales), moments: found.moments };
                for from in (0..LANES).step_by(per) {
                    let range = from..from + per;
                    let total: f32 = ee[range.clone()].iter().sum();
                    if total < error[from] {
                        error[from] = total;
                        best.d[range.clone()].fill(d[from]);
                        best.scales[range.clone()].copy_from_slice(&scales[range.clone()]);
                    }
                    let (mut a, mut b) = (0.0, 0.0);
                    for i in range.clone() {
                        a += scales[i] * scales[i] * qq[i];
                        b += scales[i] * eq[i];
                    }
                    let solution = if a > 0.0 { to_half(d[from] + b / a) } else { d[from] };
                    d[range].fill(solution);
                }
            }
        }
        best
    }

    /// The integers on both sides of the model's scales, and the error foreseen with the nearest, while no code changes:
    /// `E(s + a) = ee − 2a·eq + a²·qq`.
    #[inline(always)]
    fn nearest<S: Simd>(&self, s: S, model: &Assignment<S>, d: &Lanes, half: f32) -> Nearest<S> {
        let d = s.load(d);
        let (low, high) = (s.splat(-half), s.splat(half - 1.0));
        let m = &model.moments;
        let target = s.mul(s.add(model.scales, ratio(s, m.eq, m.qq)), inverse(s, d));
        let first = round(s, clamp(s, target, low, high));
        let side = s.select(s.lt(target, first), s.splat(-1.0), s.splat(1.0));
        let a = s.sub(s.mul(d, first), model.scales);
        let error = s.add(m.ee, s.mul(a, s.sub(s.mul(a, m.qq), s.add(m.eq, m.eq))));
        Nearest { first, second: clamp(s, s.add(first, side), low, high), error }
    }

    /// The better of the two integers beside the model's scales once codes are rounded anew, each sub-block by itself.
    #[inline(always)]
    fn assign<S: Simd>(&self, s: S, model: &Assignment<S>, d: &Lanes, half: f32) -> Assignment<S> {
        let beside = self.nearest(s, model, d, half);
        let d = s.load(d);
        let first = evaluate(s, self.levels, self.group, s.mul(d, beside.first));
        let second = evaluate(s, self.levels, self.group, s.mul(d, beside.second));
        let better = s.lt(second.ee, first.ee);
        Assignment {
            scales: s.select(better, beside.second, beside.first),
            moments: Moments {
                qq: s.select(better, second.qq, first.qq),
                eq: s.select(better, second.eq, first.eq),
                ee: s.select(better, second.ee, first.ee),
            },
        }
    }
}

/// Two integers for a scale.
struct Nearest<S: Simd> {
    first: S::F,
    second: S::F,
    error: S::F,
}

/// Searches a power of two per sub-block, `2^(e − 128)`, among the exponents around the extreme value's.
pub struct PowerSearch<'a, L> {
    pub group: &'a Group,
    pub levels: L,
    /// Exponents tried, relative to the one that gives the extreme value the binade of level 4.
    pub steps: &'a [i32],
    /// Receives the codes.
    pub codes: &'a mut Codes,
}

impl<L: Levels> Kernel for PowerSearch<'_, L> {
    /// e, per lane.
    type Output = [u8; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [u8; LANES] {
        let start = s.lanes(s.abs(extremes(s, self.group))).map(|x| (x.to_bits() >> 23) as i32 - 2);
        let (mut best, mut error) = ([0u8; LANES], [f32::INFINITY; LANES]);
        for step in self.steps {
            let e = start.map(|start| (start + step).clamp(0, 254) as u8);
            let scale = s.load(&e.map(mx::scale));
            let left = s.lanes(evaluate(s, self.levels, self.group, scale).ee);
            for lane in 0..LANES {
                if left[lane] < error[lane] {
                    (best[lane], error[lane]) = (e[lane], left[lane]);
                }
            }
        }
        encode(s, self.levels, self.group, s.load(&best.map(mx::scale)), self.codes);
        best
    }
}
