//! Integer scales and minima under two half floats (Q2_K, Q4_K, Q5_K).
//!
//! What a pair of half floats costs is foreseen without rounding a weight: while no code changes, the error of a sub-block is a
//! quadratic form in its scale and minimum, so the integers nearest to its real line *along the form's long axis* follow in
//! closed form. Dozens of (d, dmin) are weighed so; the best few are tried in earnest, their codes rounded anew and d and dmin
//! solved for.

use super::affine::{AffineScales, AffineSearch, Line, Moments, evaluate};
use super::{Lanes, Shortlist, clamp, inverse, per_super, round, to_half};
use brevity_kernels::simd::{LANES, Simd};

/// Integer scales and minima of super-blocks and what they leave.
struct Assignment<S: Simd> {
    scales: S::F,
    mins: S::F,
    moments: Moments<S>,
}

/// The best (d, dmin) of one super-block for its integers and codes, as steps from the present ones: residuals
/// `e ≈ a·(scale·q) − b·min`.
struct Normal {
    aa: f32,
    ab: f32,
    bb: f32,
    ea: f32,
    eb: f32,
}

impl Normal {
    #[inline(always)]
    fn solve(&self) -> (f32, f32) {
        let determinant = self.aa * self.bb - self.ab * self.ab;
        if determinant > 1e-6 * self.aa * self.bb {
            (
                (self.ea * self.bb - self.eb * self.ab) / determinant,
                (self.eb * self.aa - self.ea * self.ab) / determinant,
            )
        } else if self.aa > 0.0 {
            (self.ea / self.aa, 0.0)
        } else {
            (0.0, 0.0)
        }
    }
}

/// What the moments at `line` say about other lines as long as no code changes:
/// `E(s + a, m + b) = ee − 2a·eq + 2b·e + a²·qq − 2ab·q + b²·total`.
struct Model<S: Simd> {
    line: Line<S>,
    moments: Moments<S>,
    total: S::F,
    inv_total: S::F,
}

impl<S: Simd> Model<S> {
    /// The error foreseen with `scale`, and the integer minimum that suits it best.
    #[inline(always)]
    fn foresee(&self, s: S, scale: S::F, dmin: S::F, inv_dmin: S::F, limit: S::F) -> (S::F, S::F) {
        let m = &self.moments;
        let a = s.sub(scale, self.line.scale);
        let fit = s.mul(s.sub(s.mul(a, m.q), m.e), self.inv_total);
        let min = round(s, clamp(s, s.mul(s.add(self.line.min, fit), inv_dmin), s.zero(), limit));
        let b = s.sub(s.mul(dmin, min), self.line.min);
        let of_a = s.mul(a, s.sub(s.mul(a, m.qq), s.add(m.eq, m.eq)));
        let of_b = s.mul(b, s.add(s.mul(b, self.total), s.add(m.e, m.e)));
        let both = s.mul(s.mul(a, b), s.add(m.q, m.q));
        (s.add(m.ee, s.sub(s.add(of_a, of_b), both)), min)
    }
}

/// The two best integer pairs that a [`Model`] foresees.
struct Pairs<S: Simd> {
    scales: [S::F; 2],
    mins: [S::F; 2],
    errors: [S::F; 2],
}

impl AffineSearch<'_> {
    #[inline(always)]
    pub(super) fn search_super<S: Simd>(
        &self,
        s: S,
        total: S::F,
        reals: Line<S>,
        per: usize,
        limit: f32,
    ) -> AffineScales {
        let largest = |lanes: Lanes| per_super(per, |from, to| lanes[from..to].iter().fold(0.0f32, |a, b| a.max(*b)));
        let (scale, min) = (largest(s.lanes(reals.scale)), largest(s.lanes(reals.min)));
        let totals = s.lanes(total);
        let inv_total = s.div(s.splat(1.0), total);
        let moments = evaluate(s, self.group, reals, s.splat(self.top));
        let start = Model { line: reals, moments, total, inv_total };
        let mut frames = Shortlist::new();
        for scale_top in self.effort.tops {
            let d = per_super(per, |from, _| to_half(scale[from] / (limit * scale_top)));
            for min_top in self.effort.min_tops {
                let dmin = per_super(per, |from, _| to_half(min[from] / (limit * min_top)));
                let errors = s.lanes(self.pairs(s, &start, &d, &dmin, limit).errors[0]);
                for from in (0..LANES).step_by(per) {
                    frames.offer(from, errors[from..from + per].iter().sum(), (d[from], dmin[from]));
                }
            }
        }
        let mut best = AffineScales { d: [0.0; LANES], dmin: [0.0; LANES], scales: [0.0; LANES], mins: [0.0; LANES] };
        let mut error = [f32::INFINITY; LANES];
        for frame in &frames.values {
            let mut d = per_super(per, |from, _| frame[from].0);
            let mut dmin = per_super(per, |from, _| frame[from].1);
            let mut model = Model { ..start };
            for _ in 0..=self.effort.solves {
                let found = self.assign(s, &model, &d, &dmin, limit);
                let m = found.moments;
                let (qq, q, eq) = (s.lanes(m.qq), s.lanes(m.q), s.lanes(m.eq));
                let (e, ee) = (s.lanes(m.e), s.lanes(m.ee));
                let (scales, mins) = (s.lanes(found.scales), s.lanes(found.mins));
                model.line = Line { scale: s.mul(s.load(&d), found.scales), min: s.mul(s.load(&dmin), found.mins) };
                model.moments = m;
                for from in (0..LANES).step_by(per) {
                    let range = from..from + per;
                    let left: f32 = ee[range.clone()].iter().sum();
                    if left < error[from] {
                        error[from] = left;
                        best.d[range.clone()].fill(d[from]);
                        best.dmin[range.clone()].fill(dmin[from]);
                        best.scales[range.clone()].copy_from_slice(&scales[range.clone()]);
                        best.mins[range.clone()].copy_from_slice(&mins[range.clone()]);
                    }
                    let mut normal = Normal { aa: 0.0, ab: 0.0, bb: 0.0, ea: 0.0, eb: 0.0 };
                    for i in range.clone() {
                        normal.aa += scales[i] * scales[i] * qq[i];
                        normal.ab -= scales[i] * mins[i] * q[i];
                        normal.bb += mins[i] * mins[i] * totals[i];
                        normal.ea += scales[i] * eq[i];
                        normal.eb -= mins[i] * e[i];
                    }
                    let (a, b) = normal.solve();
                    let solved = (to_half(d[from] + a), to_half(dmin[from] + b));
                    d[range.clone()].fill(solved.0);
                    dmin[range].fill(solved.1);
                }
            }
        }
        best
    }

    /// The two pairs of integers near the model's line with the least foreseen error.
    #[inline(always)]
    fn pairs<S: Simd>(&self, s: S, model: &Model<S>, d: &Lanes, dmin: &Lanes, limit: f32) -> Pairs<S> {
        let (d, dmin) = (s.load(d), s.load(dmin));
        let (low, high) = (s.zero(), s.splat(limit));
        let inv_dmin = inverse(s, dmin);
        let centre = round(s, clamp(s, s.mul(model.line.scale, inverse(s, d)), low, high));
        let infinite = s.splat(f32::INFINITY);
        let mut best = Pairs { scales: [centre; 2], mins: [low; 2], errors: [infinite; 2] };
        for distance in [0.0, -1.0, 1.0] {
            let scale = s.add(centre, s.splat(distance));
            let inside = s.lt(s.abs(s.sub(scale, s.splat(0.5 * limit))), s.splat(0.5 * limit + 0.5));
            let (error, min) = model.foresee(s, s.mul(d, scale), dmin, inv_dmin, high);
            let error = s.select(inside, error, infinite);
            let first = s.lt(error, best.errors[0]);
            let second = s.lt(error, best.errors[1]);
            let put = |now: [S::F; 2], new: S::F| {
                [s.select(first, new, now[0]), s.select(first, now[0], s.select(second, new, now[1]))]
            };
            best =
                Pairs { scales: put(best.scales, scale), mins: put(best.mins, min), errors: put(best.errors, error) };
        }
        best
    }

    /// The better of the two pairs that the model foresees, once codes are rounded anew.
    #[inline(always)]
    fn assign<S: Simd>(&self, s: S, model: &Model<S>, d: &Lanes, dmin: &Lanes, limit: f32) -> Assignment<S> {
        let pairs = self.pairs(s, model, d, dmin, limit);
        let (d, dmin) = (s.load(d), s.load(dmin));
        let line = |i: usize| Line { scale: s.mul(d, pairs.scales[i]), min: s.mul(dmin, pairs.mins[i]) };
        let first = evaluate(s, self.group, line(0), s.splat(self.top));
        let second = evaluate(s, self.group, line(1), s.splat(self.top));
        let better = s.lt(second.ee, first.ee);
        Assignment {
            scales: s.select(better, pairs.scales[1], pairs.scales[0]),
            mins: s.select(better, pairs.mins[1], pairs.mins[0]),
            moments: Moments {
                qq: s.select(better, second.qq, first.qq),
                q: s.select(better, second.q, first.q),
                eq: s.select(better, second.eq, first.eq),
                e: s.select(better, second.e, first.e),
                ee: s.select(better, second.ee, first.ee),
            },
        }
    }
}
