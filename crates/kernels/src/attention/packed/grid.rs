//! Grids and codes of tokens, sixteen at a time.
//!
//! A token x is coded on `s·(c − z)`, c a code, s its scale and z its zero point. Its grid holds 0 and, of a few ranges that are
//! shares of the token's own, it is the one with the least error; 8 bits take the whole range. Errors of values count as squares;
//! those of keys as their [`Feedback`] says, which also tells each channel what the channels behind it left.
//!
//! *Written order.* Channels go from the last to the first: `t_i = x_i + Σ_{j>i} L_ji·e_j`, a fused chain over j descending;
//! `c_i = clamp(round(fma(t_i, 1/s, z)))`, `y_i = s·(c_i − z)`, `e_i = x_i − y_i`; the error is a fused chain of `D_i·(t_i − y_i)²` over i
//! descending. A lane is a candidate, so a token's codes do not depend on what lies beside it.

use super::feedback::Feedback;
use crate::isa::Isa;
use crate::simd::{Kernel, LANES, Simd, dispatch_on};
use std::cell::Cell;
use std::ops::Range;

/// Ranges tried for few bits, as shares of the token's own.
const SHRUNK: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.72];

/// Grids and codes of up to sixteen tokens.
pub(super) struct Coded {
    pub scales: [u16; LANES],
    pub zeros: [u8; LANES],
    /// Of each channel, one code a token.
    pub codes: Vec<[u8; LANES]>,
}

impl Coded {
    /// Lanes that were candidates become tokens: of each its own.
    fn take(&mut self, lanes: &[usize]) {
        fn of<T: Copy>(all: &mut [T; LANES], lanes: &[usize]) {
            let from = *all;
            all.iter_mut().zip(lanes).for_each(|(to, &lane)| *to = from[lane]);
        }
        of(&mut self.scales, lanes);
        of(&mut self.zeros, lanes);
        self.codes.iter_mut().for_each(|codes| of(codes, lanes));
    }
}

#[derive(Default)]
struct Scratch {
    x: Vec<[f32; LANES]>,
    t: Vec<[f32; LANES]>,
    lower: Vec<f32>,
    weights: Vec<f32>,
    codes: Vec<[u8; LANES]>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Codes rows of `dim` numbers, up to sixteen at a time as `groups` says: `take(first row, how many, what they became)`.
pub(super) fn code(
    (x, dim): (&[f32], usize),
    bits: u8,
    feedback: Option<&Feedback>,
    groups: impl Iterator<Item = Range<usize>>,
    mut take: impl FnMut(usize, usize, &Coded),
) {
    let isa = Isa::current();
    let mut scratch = SCRATCH.take();
    let feedback = feedback.filter(|_| bits < 8);
    if let Some(feedback) = feedback {
        feedback.widen(&mut scratch.lower, &mut scratch.weights);
    }
    let mut coded = Coded { scales: [0; LANES], zeros: [0; LANES], codes: std::mem::take(&mut scratch.codes) };
    for group in groups {
        let rows = &x[group.start * dim..group.end * dim];
        let batch = Batch { isa, rows, dim, bits, feeds_back: feedback.is_some() };
        batch.run(&mut scratch, &mut coded);
        take(group.start, group.len(), &coded);
    }
    scratch.codes = coded.codes;
    SCRATCH.set(scratch);
}

/// Up to sixteen tokens.
struct Batch<'a> {
    isa: Isa,
    rows: &'a [f32],
    dim: usize,
    bits: u8,
    feeds_back: bool,
}

impl Batch<'_> {
    fn run(&self, scratch: &mut Scratch, coded: &mut Coded) {
        let tokens = self.rows.len() / self.dim;
        let mut best = [(f32::INFINITY, 0); LANES];
        let candidates = if self.bits < 8 { tokens * SHRUNK.len() } else { 0 };
        for first in (0..candidates).step_by(LANES) {
            let lane = |lane: usize| (first + lane).min(candidates - 1);
            if first == 0 || tokens < LANES {
                self.gather(|l| lane(l) % tokens, &mut scratch.x);
            }
            let shares = std::array::from_fn(|l| SHRUNK[lane(l) / tokens]);
            let errors = self.search(&shares, scratch, coded);
            for candidate in first..(first + LANES).min(candidates) {
                let (error, best) = (errors[candidate - first], &mut best[candidate % tokens]);
                if error < best.0 {
                    *best = (error, candidate);
                }
            }
        }
        if (1..=LANES).contains(&candidates) {
            return coded.take(&best.map(|(_, candidate)| candidate)[..tokens]);
        }
        if candidates == 0 || tokens < LANES {
            self.gather(|lane| lane.min(tokens - 1), &mut scratch.x);
        }
        self.search(&best.map(|(_, candidate)| SHRUNK[candidate / tokens]), scratch, coded);
    }

    /// Channels of one token a lane.
    fn gather(&self, token: impl Fn(usize) -> usize, x: &mut Vec<[f32; LANES]>) {
        x.resize(self.dim, [0.0; LANES]);
        for lane in 0..LANES {
            let row = &self.rows[token(lane) * self.dim..][..self.dim];
            x.iter_mut().zip(row).for_each(|(x, &value)| x[lane] = value);
        }
    }

    fn search(&self, shares: &[f32; LANES], scratch: &mut Scratch, coded: &mut Coded) -> [f32; LANES] {
        let Scratch { x, t, lower, weights, .. } = scratch;
        coded.codes.resize(self.dim, [0; LANES]);
        let lower = self.feeds_back.then_some((lower.as_slice(), weights.as_slice()));
        dispatch_on(self.isa, Search { x, t, bits: self.bits, shares, lower, coded })
    }
}

/// One candidate a lane: its grid, its codes, its error.
struct Search<'a> {
    x: &'a [[f32; LANES]],
    t: &'a mut Vec<[f32; LANES]>,
    bits: u8,
    shares: &'a [f32; LANES],
    /// L and D.
    lower: Option<(&'a [f32], &'a [f32])>,
    coded: &'a mut Coded,
}

/// A grid in each lane.
#[derive(Clone, Copy)]
struct Grid<S: Simd> {
    scale: S::F,
    inverse: S::F,
    offset: S::F,
    top: S::F,
}

impl<S: Simd> Grid<S> {
    #[inline(always)]
    fn new(s: S, x: &[[f32; LANES]], bits: u8, shares: &[f32; LANES], coded: &mut Coded) -> Grid<S> {
        let (mut low, mut high) = (s.zero(), s.zero());
        for x in x {
            let x = s.load(x);
            (low, high) = (s.min(x, low), s.max(x, high));
        }
        let shares = s.load(shares);
        (low, high) = (s.mul(low, shares), s.mul(high, shares));
        let top = f32::from((1u16 << bits) - 1);
        let step = (1u32 << bits) as f32 / 256.0;
        // Half a step of the zero point may be lost at either end: the scale makes up for it.
        let scale = s.div(s.sub(high, low), s.splat(top - step));
        coded.scales = s.to_f16(s.min(scale, s.splat(65504.0)));
        // SAFETY: 16 scales.
        let scale = unsafe { s.load_f16_ptr(coded.scales.as_ptr()) };
        let some = s.lt(s.zero(), scale);
        let zero = s.div(s.div(s.neg(low), scale), s.splat(step));
        let zero = s.min(s.max(s.round(zero), s.zero()), s.splat(255.0));
        let zero = s.select(some, zero, s.zero());
        let mut zeros = [0; LANES];
        s.store_i(&mut zeros, s.to_int(zero));
        coded.zeros = zeros.map(|zero| zero as u8);
        let inverse = s.select(some, s.div(s.splat(1.0), scale), s.zero());
        Grid { scale, inverse, offset: s.mul(zero, s.splat(step)), top: s.splat(top) }
    }

    /// The code next to t, and what it stands for.
    #[inline(always)]
    fn code(self, s: S, t: S::F) -> (S::F, S::F) {
        let code = s.min(s.max(s.round(s.fma(t, self.inverse, self.offset)), s.zero()), self.top);
        (code, s.mul(self.scale, s.sub(code, self.offset)))
    }
}

impl Kernel for Search<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let Search { x, t, bits, shares, lower, coded } = self;
        let grid = Grid::new(s, x, bits, shares, coded);
        let mut error = s.zero();
        let mut whole = [0; LANES];
        let Some((lower, weights)) = lower else {
            for (x, codes) in x.iter().zip(&mut coded.codes).rev() {
                let x = s.load(x);
                let (code, y) = grid.code(s, x);
                s.store_i(&mut whole, s.to_int(code));
                *codes = whole.map(|code| code as u8);
                let off = s.sub(x, y);
                error = s.fma(off, off, error);
            }
            return s.lanes(error);
        };
        t.clear();
        t.extend_from_slice(x);
        let mut i = x.len();
        let mut rest = lower;
        while i > 0 {
            // Four channels at once update those before them, which saves loads and stores and changes no chain.
            let many = if i.is_multiple_of(4) { 4 } else { 1 };
            let first = i - many;
            let mut errors = [s.zero(); 4];
            let mut rows = [rest; 4];
            for n in 0..many {
                let at = i - 1 - n;
                let (before, row) = rest.split_at(rest.len() - at);
                (rest, rows[n]) = (before, row);
                let target = s.load(&t[at]);
                let (code, y) = grid.code(s, target);
                s.store_i(&mut whole, s.to_int(code));
                coded.codes[at] = whole.map(|code| code as u8);
                let off = s.sub(target, y);
                error = s.fma(s.mul(s.splat(weights[at]), off), off, error);
                errors[n] = s.sub(s.load(&x[at]), y);
                for j in first..at {
                    let sum = s.fma(s.splat(row[j]), errors[n], s.load(&t[j]));
                    s.store(&mut t[j], sum);
                }
            }
            if many == 4 {
                let [a, b, c, d] = rows.map(|row| &row[..first]);
                for ((((t, a), b), c), d) in t[..first].iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    let mut sum = s.fma(s.splat(*a), errors[0], s.load(t));
                    sum = s.fma(s.splat(*b), errors[1], sum);
                    sum = s.fma(s.splat(*c), errors[2], sum);
                    s.store(t, s.fma(s.splat(*d), errors[3], sum));
                }
            } else {
                for (t, a) in t[..first].iter_mut().zip(rows[0]) {
                    let sum = s.fma(s.splat(*a), errors[0], s.load(t));
                    s.store(t, sum);
                }
            }
            i = first;
        }
        s.lanes(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{f16_to_f32, f32_to_f16};

    fn noise(i: usize) -> f32 {
        ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0
    }

    /// One token on one share, loop by loop: the error, scale, zero point and codes.
    fn candidate(x: &[f32], bits: u8, share: f32, lower: &[f32], weights: &[f32]) -> (f32, u16, u8, Vec<u8>) {
        let (low, high) = x.iter().fold((0f32, 0f32), |(a, b), &x| (a.min(x), b.max(x)));
        let (low, high) = (low * share, high * share);
        let (top, step) = (f32::from((1u16 << bits) - 1), (1u32 << bits) as f32 / 256.0);
        let half = f32_to_f16(((high - low) / (top - step)).min(65504.0));
        let scale = f16_to_f32(half);
        let zero = if scale > 0.0 { (-low / scale / step).round_ties_even().clamp(0.0, 255.0) } else { 0.0 };
        let (inverse, offset) = (if scale > 0.0 { 1.0 / scale } else { 0.0 }, zero * step);
        let (mut t, mut codes, mut error) = (x.to_vec(), vec![0; x.len()], 0f32);
        for i in (0..x.len()).rev() {
            let code = t[i].mul_add(inverse, offset).round_ties_even().clamp(0.0, top);
            let y = scale * (code - offset);
            error = (weights[i] * (t[i] - y)).mul_add(t[i] - y, error);
            for j in 0..i {
                t[j] = lower[i * (i - 1) / 2 + j].mul_add(x[i] - y, t[j]);
            }
            codes[i] = code as u8;
        }
        (error, half, zero as u8, codes)
    }

    fn specified(x: &[f32], bits: u8, lower: &[f32], weights: &[f32]) -> (f32, u16, u8, Vec<u8>) {
        let shares: &[f32] = if bits == 8 { &[1.0] } else { &SHRUNK };
        let all = shares.iter().map(|&share| candidate(x, bits, share, lower, weights));
        all.reduce(|best, next| if next.0 < best.0 { next } else { best }).unwrap()
    }

    fn moment(dim: usize) -> Vec<f32> {
        let rows: Vec<f32> = (0..3 * dim * dim).map(|i| noise(i) * (1.0 + (i % dim) as f32)).collect();
        let of = |at: usize| rows.chunks(dim).map(|row| row[at / dim] * row[at % dim]).sum::<f32>();
        (0..dim * dim).map(of).collect()
    }

    #[test]
    fn every_isa_and_company_gives_the_specified_codes() {
        for (dim, tokens) in [(64, 40), (18, 5), (7, 16), (1, 3)] {
            let mut x: Vec<f32> = (0..tokens * dim).map(|i| noise(i + 77) * (1.0 + (i / dim) as f32)).collect();
            x[..dim].fill(0.0);
            x[dim..2 * dim].fill(-3e38);
            let feedback = Feedback::new(&moment(dim), dim);
            let (mut lower, mut weights) = (Vec::new(), Vec::new());
            for (bits, known) in [(2, true), (3, false), (4, true), (4, false), (8, true)] {
                feedback.widen(&mut lower, &mut weights);
                if !known || bits == 8 {
                    lower.fill(0.0);
                    weights.fill(1.0);
                }
                for (isa, size) in Isa::available().into_iter().flat_map(|isa| [1, 5, 16].map(|size| (isa, size))) {
                    let groups = (0..tokens).step_by(size).map(|first| first..(first + size).min(tokens));
                    let check = |first: usize, many: usize, coded: &Coded| {
                        for lane in 0..many {
                            let token = &x[(first + lane) * dim..][..dim];
                            let (_, scale, zero, codes) = specified(token, bits, &lower, &weights);
                            let got: Vec<u8> = coded.codes.iter().map(|codes| codes[lane]).collect();
                            let what = format!("{isa:?} {bits} bits, {known}, token {} of {dim}", first + lane);
                            assert_eq!((coded.scales[lane], coded.zeros[lane], got), (scale, zero, codes), "{what}");
                        }
                    };
                    isa.with(|| code((&x, dim), bits, known.then_some(&feedback), groups, check));
                }
            }
        }
    }

    /// Errors as queries see them are less than half of those of rounding to the nearest, where queries differ much by direction.
    #[test]
    fn feedback_lowers_what_queries_see() {
        let (dim, tokens) = (64, 200);
        let along: Vec<f32> = (0..8 * dim).map(noise).collect();
        let mut h: Vec<f32> = (0..dim * dim).map(|at| if at / dim == at % dim { 0.05 } else { 0.0 }).collect();
        for (at, h) in h.iter_mut().enumerate() {
            *h += along.chunks(dim).map(|a| a[at / dim] * a[at % dim]).sum::<f32>();
        }
        let x: Vec<f32> = (0..tokens * dim).map(|i| noise(i * 3 + 5)).collect();
        let feedback = Feedback::new(&h, dim);
        let seen = |feedback: Option<&Feedback>| {
            let mut sum = 0f64;
            code((&x, dim), 4, feedback, (0..tokens).map(|i| i..i + 1), |token, _, coded| {
                let (scale, zero) = (f16_to_f32(coded.scales[0]), f32::from(coded.zeros[0]) / 16.0);
                let error: Vec<f32> = coded
                    .codes
                    .iter()
                    .zip(&x[token * dim..])
                    .map(|(c, x)| x - scale * (f32::from(c[0]) - zero))
                    .collect();
                sum += (0..dim * dim).map(|at| f64::from(error[at / dim] * h[at] * error[at % dim])).sum::<f64>();
            });
            sum
        };
        let (near, fed) = (seen(None), seen(Some(&feedback)));
        assert!(fed < 0.5 * near, "{fed} of {near}");
    }
}
