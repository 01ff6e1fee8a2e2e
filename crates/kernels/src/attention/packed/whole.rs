//! Products with codes, over whole numbers.
//!
//! Rows are rounded to 16 bits first: with `m` their largest number and M the largest whole one, `n = round(x·(M/m))` stands for
//! `n·(m/M)`. Sums of codes times such numbers are exact in 32 bits, so their order is free.

use super::codes::{Code, Codes, DEEP, PAIRS, Pairs};
use super::part::{Layout, Part};
use super::rows::FEW;
use crate::attention::BLOCK;
use crate::buffer::Aligned;
use crate::isa::Isa;
use crate::simd::{Kernel, LANES, Simd, dispatch_on, fetch, kernel};
use std::marker::PhantomData;
use std::ops::Range;

/// Panels taken apart at once.
const WIDE: usize = 4;
/// Numbers below count as zero, where all of a row are.
const TINY: f32 = f32::from_bits(0x0f80_0000);

/// The largest whole number, so that a sum over `steps` codes of 8 bits stays in 32.
pub(super) fn most(steps: usize) -> f32 {
    (i32::MAX as usize / (255 * steps.max(1))).min(32767) as f32
}

/// What a number must be multiplied by to become a whole one, and what a whole one is worth.
#[inline(always)]
fn units<S: Simd>(s: S, greatest: S::F, wild: S::F, most: f32) -> (S::F, f32) {
    let (greatest, wild) = (s.greatest(greatest), s.sum(wild));
    match greatest >= TINY {
        true => (s.splat(most / greatest), greatest / most + wild),
        false => (s.zero(), wild),
    }
}

#[inline(always)]
fn whole<S: Simd>(s: S, x: S::F, by: S::F, most: f32) -> S::I {
    s.to_int(s.max(s.min(s.mul(x, by), s.splat(most)), s.splat(-most)))
}

#[inline(always)]
fn total<S: Simd>(s: S, sum: S::I) -> i32 {
    let mut lanes = [0; LANES];
    s.store_i(&mut lanes, sum);
    lanes.into_iter().fold(0, i32::wrapping_add)
}

kernel! {
    /// Rounds a row: what one of its whole numbers is worth (a NaN, if a number is not finite).
    pub(super) fn round<'a>(s, x: &'a [f32], most: f32, out: &'a mut [i16]) -> f32 {
        let (mut greatest, mut wild) = (s.zero(), s.zero());
        for x in x.chunks(LANES) {
            let x = s.load_part(x);
            greatest = s.max(s.abs(x), greatest);
            wild = s.fma(x, s.zero(), wild);
        }
        let (by, worth) = units(s, greatest, wild, most);
        let mut lanes = [0; LANES];
        for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
            s.store_i(&mut lanes, whole(s, s.load_part(x), by, most));
            out.iter_mut().zip(lanes).for_each(|(out, n)| *out = n as i16);
        }
        worth
    }
}

/// A row of weights over the blocks of values that have a grid for each token.
pub(super) struct RoundWeights<'a, P> {
    /// `weights` and `numbers` are those of these blocks: part and, where there are, what weights are multiplied by first.
    pub parts: P,
    pub weights: &'a [f32],
    pub numbers: &'a mut [i16],
    /// What a number is worth, of each block.
    pub worth: &'a mut [f32],
}

impl<'a, P: Iterator<Item = (&'a Part, Option<&'a [f32]>)>> Kernel for RoundWeights<'a, P> {
    /// What zero points take off.
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        const MANY: usize = BLOCK / LANES;
        let (mut taken, most) = (0f32, most(BLOCK));
        let rows = self.weights.as_chunks::<BLOCK>().0.iter().zip(self.numbers.as_chunks_mut::<BLOCK>().0);
        for (((part, gains), (weights, numbers)), worth) in self.parts.zip(rows).zip(self.worth) {
            let Some((scales, zeros, step)) = part.grids() else { continue };
            let (mut x, mut greatest, mut wild) = ([s.zero(); MANY], s.zero(), s.zero());
            for (i, x) in x.iter_mut().enumerate() {
                let lanes = i * LANES..(i + 1) * LANES;
                let mut w = s.load_part(&weights[lanes.clone()]);
                if let Some(gains) = gains {
                    w = s.mul(w, s.load_part(&gains[lanes.clone()]));
                }
                // SAFETY: 16 scales.
                *x = s.mul(w, unsafe { s.load_f16_ptr(scales[lanes].as_ptr()) });
                greatest = s.max(s.abs(*x), greatest);
                wild = s.fma(*x, s.zero(), wild);
            }
            let (by, one) = units(s, greatest, wild, most);
            let (mut sum, mut lanes) = (s.splat_i(0), [0; LANES]);
            let out = numbers.as_chunks_mut::<LANES>().0.iter_mut().zip(zeros.as_chunks::<LANES>().0);
            for (x, (out, zeros)) in x.into_iter().zip(out) {
                let n = whole(s, x, by, most);
                sum = s.add_i(sum, s.mul_i(n, s.load_u8(zeros)));
                s.store_i(&mut lanes, n);
                *out = lanes.map(|n| n as i16);
            }
            *worth = one;
            taken = (-(one * step)).mul_add(total(s, sum) as f32, taken);
        }
        taken
    }
}

/// `scores = (scale·worth)·fma(−zero, sum, scores)` of 64 slots, with the sum of a query's whole numbers.
pub(super) struct ByToken<'a> {
    /// Rows of 64, so far apart.
    pub scores: (*mut f32, usize),
    pub grids: (&'a [u16], (&'a [u8], f32)),
    pub whole: &'a [i16],
    pub row: usize,
    /// Numbers of a row that are held.
    pub steps: usize,
    pub worth: &'a [f32],
}

impl Kernel for ByToken<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (scales, (zeros, step)) = self.grids;
        let step = s.splat(step);
        for (r, (whole, &worth)) in self.whole.chunks_exact(self.row).zip(self.worth).enumerate() {
            let sum = s.splat(whole[..self.steps].iter().fold(0, |sum, &n| sum + i32::from(n)) as f32);
            let worth = s.splat(worth);
            let grids = scales.as_chunks::<LANES>().0.iter().zip(zeros.as_chunks::<LANES>().0);
            for (i, (scales, zeros)) in grids.enumerate() {
                let zero = s.mul(s.to_float(s.load_u8(zeros)), step);
                let at = self.scores.0.wrapping_add(r * self.scores.1 + i * LANES);
                // SAFETY: 16 scales, and 16 scores of this row.
                unsafe {
                    let scale = s.mul(s.load_f16_ptr(scales.as_ptr()), worth);
                    s.store_ptr(at, s.mul(scale, s.fnma(zero, sum, s.load_ptr(at))));
                }
            }
        }
    }
}

/// `out[r][16·p + lane] = Σ_k x[r][k]·code(p, k, lane)` for some panels of a part.
pub(super) struct WholeProduct<'a> {
    pub part: &'a Part,
    pub panels: Range<usize>,
    /// Rows of as many numbers as the part has steps of k, `row` apart.
    pub x: *const i16,
    pub row: usize,
    pub rows: usize,
    /// Where the first of the panels goes.
    pub out: *mut f32,
    pub stride: usize,
    /// What a number of each row is worth, so far apart: then sums, so multiplied, are added to what is there.
    pub worth: Option<(*const f32, usize)>,
    /// Codes that are read next, as many: asked for meanwhile. Null: none are known.
    pub ahead: *const u8,
}

impl WholeProduct<'_> {
    /// # Safety
    /// x, out and worth must be valid for the shapes named.
    pub unsafe fn run(self, isa: Isa, apart: &mut Aligned<i32>) {
        match self.part.coding().layout() {
            Layout::Bits2 => self.of::<Code<2>>(isa, apart),
            Layout::Bits3 => self.of::<Code<3>>(isa, apart),
            Layout::Bits4 => self.of::<Code<4>>(isa, apart),
            Layout::Bits8 => self.of::<Code<8>>(isa, apart),
            Layout::F32 | Layout::F16 => unreachable!("floats are multiplied as such"),
        }
    }

    fn of<C: Codes>(self, isa: Isa, apart: &mut Aligned<i32>) {
        let units = self.part.steps() / DEEP;
        if self.rows <= FEW {
            let w = self.part.panels(self.panels.clone());
            return dispatch_on(
                isa,
                Strip::<C> { w, units, panels: self.panels.len(), all: &self, of: PhantomData, done: 0 },
            );
        }
        // With many rows the codes themselves are the least of the work, and are read front to back.
        let all = WholeProduct { ahead: std::ptr::null(), ..self };
        apart.reserve(WIDE * units * PAIRS * LANES);
        for done in (0..all.panels.len()).step_by(WIDE) {
            let panels = WIDE.min(all.panels.len() - done);
            let first = all.panels.start + done;
            let apart = &mut apart[..panels * units * PAIRS * LANES];
            let codes = all.part.panels(first..first + panels);
            dispatch_on(isa, TakeApart::<C> { codes, to: apart, of: PhantomData });
            let w = bytemuck::cast_slice(apart);
            dispatch_on(isa, Strip::<Pairs> { w, units, panels, all: &all, of: PhantomData, done });
        }
    }
}

struct TakeApart<'a, C> {
    codes: &'a [u8],
    to: &'a mut [i32],
    of: PhantomData<C>,
}

impl<C: Codes> Kernel for TakeApart<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (unit, out) in self.codes.chunks_exact(C::BYTES).zip(self.to.as_chunks_mut::<{ PAIRS * LANES }>().0) {
            let pairs = C::pairs(s, unit);
            for (pair, out) in pairs.iter().zip(out.as_chunks_mut::<LANES>().0) {
                s.store_i(out, *pair);
            }
        }
    }
}

/// All rows against some panels.
struct Strip<'a, C> {
    w: &'a [u8],
    units: usize,
    panels: usize,
    all: &'a WholeProduct<'a>,
    /// Panels before these.
    done: usize,
    of: PhantomData<C>,
}

impl<C: Codes> Kernel for Strip<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut row = 0;
        while row < self.all.rows {
            let rows = FEW.min(self.all.rows - row);
            let mut panel = 0;
            while panel < self.panels {
                let mut width = if S::ISA == Isa::Avx512 { 4 } else { 1 };
                while panel + width > self.panels {
                    width /= 2;
                }
                macro_rules! tiles {
                    ($($rows:literal: $four:literal $two:literal $one:literal),*) => {
                        match (rows, width) {
                            // SAFETY: as `WholeProduct::run` asks.
                            $(($rows, 4) => unsafe { tile::<S, C, $rows, 4, $four>(s, &self, row, panel) },
                              ($rows, 2) => unsafe { tile::<S, C, $rows, 2, $two>(s, &self, row, panel) },
                              ($rows, _) => unsafe { tile::<S, C, $rows, 1, $one>(s, &self, row, panel) },)*
                            _ => {}
                        }
                    };
                }
                tiles!(1: 2 2 4, 2: 1 2 2, 3: 1 2 2, 4: 1 1 2, 5: 1 1 1, 6: 1 1 1);
                panel += width;
            }
            row += rows;
        }
    }
}

/// R rows by P panels, each sum in A parts, so that few sums do not wait for one another.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // counted loops over const arrays unroll
unsafe fn tile<S: Simd, C: Codes, const R: usize, const P: usize, const A: usize>(
    s: S,
    strip: &Strip<'_, C>,
    row: usize,
    panel: usize,
) {
    let (all, bytes) = (strip.all, strip.units * C::BYTES);
    let panels: [&[u8]; P] = std::array::from_fn(|p| &strip.w[(panel + p) * bytes..][..bytes]);
    let mut acc = [[[s.splat_i(0); P]; R]; A];
    for unit in 0..strip.units {
        let x = all.x.wrapping_add(row * all.row + unit * DEEP);
        for p in 0..P {
            let pairs = C::pairs(s, &panels[p][unit * C::BYTES..]);
            if row == 0 && !all.ahead.is_null() {
                let from = (strip.done + panel + p) * bytes + unit * C::BYTES;
                let mut line = 0;
                while line < C::BYTES {
                    fetch(all.ahead.wrapping_add(from + line));
                    line += 64;
                }
            }
            for k in 0..PAIRS {
                for r in 0..R {
                    // SAFETY: two numbers of a row.
                    let x = unsafe { x.add(r * all.row + 2 * k).cast::<i32>().read_unaligned() };
                    acc[k % A][r][p] = s.dot_pairs(pairs[k], s.splat_i(x), acc[k % A][r][p]);
                }
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            let mut sum = acc[0][r][p];
            for a in 1..A {
                sum = s.add_i(sum, acc[a][r][p]);
            }
            let mut sum = s.to_float(sum);
            let out = all.out.wrapping_add((row + r) * all.stride + (strip.done + panel + p) * LANES);
            // SAFETY: as `WholeProduct::run` asks.
            unsafe {
                if let Some((worth, step)) = all.worth {
                    sum = s.fma(s.splat(*worth.add((row + r) * step)), sum, s.load_ptr(out));
                }
                s.store_ptr(out, sum);
            }
        }
    }
}
