//! Scores, softmax and weighted sums over packed heads.

use super::super::BLOCK;
use super::super::attend::{TappedWeights, divide, weigh};
use super::head::PackedHead;
use super::part::Coding;
use super::repair::{repair_scores, repair_values};
use super::rows::{FEW, Product};
use crate::buffer::Aligned;
use crate::convert::f16_to_f32;
use crate::dense::tile::Rows;
use crate::isa::Isa;
use crate::matrix::{MatrixMut, MatrixView};
use crate::pool::{self, Shared};
use crate::simd::{LANES, kernel};
use std::cell::Cell;
use std::ops::Range;

/// The queries of a batch of tokens.
#[derive(Clone, Copy)]
pub struct PackedQuery<'a> {
    /// (tokens, query heads · dim), heads side by side; each key-value head serves a run of as many query heads.
    pub q: MatrixView<'a>,
    /// Multiplies each score, 1/√dim as a rule.
    pub scale: f32,
    /// The slots that a token sees in a key-value head: `seen(head, token)`.
    pub seen: &'a (dyn Fn(usize, usize) -> Range<usize> + Sync),
}

/// Query rows (token × head) that go through a head together.
const TILE_ROWS: usize = 48;
/// Bytes of scores that stay in the second-level cache.
const SCORES: usize = 1 << 20;
/// Slots below which a single token's heads are not split further.
const SHORT: usize = 512;

#[derive(Default)]
struct Scratch {
    q: Aligned<f32>,
    scores: Aligned<f32>,
    sums: Vec<f32>,
    out: Aligned<f32>,
    taken: Aligned<f32>,
    x: Aligned<f32>,
    wide: Aligned<f32>,
    tapped: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
    /// What the tasks of one token share.
    static SHARED: Cell<Scratch> = Cell::default();
}

/// Attends the queries of some tokens to the packed heads of a layer.
///
/// `out` has the shape of `query.q`. `tap` is called once for each token and query head that sees anything, from any thread, in
/// any order; `first` is then a slot of the head.
///
/// # Panics
/// If the shapes do not fit, or a token is said to see slots that are not in use.
pub fn attend_packed(
    heads: &[&PackedHead],
    query: &PackedQuery<'_>,
    out: &mut MatrixMut<'_>,
    tap: Option<&(dyn Fn(TappedWeights<'_>) + Sync)>,
) {
    let Some(dim) = heads.first().map(|head| head.dim()) else { return };
    let q = query.q;
    assert!(heads.iter().all(|h| h.dim() == dim), "heads of one size");
    assert_eq!((out.rows(), out.cols()), (q.rows(), q.cols()), "shape of the output");
    assert!(dim > 0 && q.cols().is_multiple_of(dim * heads.len()), "{} columns for {} heads", q.cols(), heads.len());
    let group = q.cols() / (dim * heads.len());
    if group == 0 || q.rows() == 0 {
        return;
    }
    let longest = heads.iter().map(|head| head.len()).max().unwrap_or(0);
    let (at, stride) = (Shared(out.as_mut_ptr()), out.stride());
    let job = Job { isa: Isa::current(), query, dim, group, tap, out: at, stride };
    if q.rows() == 1 && group <= FEW && longest > SHORT && pool::threads() > 1 {
        return job.single(heads);
    }
    let rows = (SCORES / (4 * (longest + BLOCK))).clamp(1, TILE_ROWS);
    let tokens = (rows / group).max(1).min(q.rows());
    let tiles = q.rows().div_ceil(tokens);
    pool::parallel(heads.len() * tiles, |task| {
        // Later tokens see more: their tiles go first.
        let first = (tiles - 1 - task / heads.len()) * tokens;
        let head = task % heads.len();
        let mut scratch = SCRATCH.take();
        job.tile(heads[head], head, first..(first + tokens).min(q.rows()), &mut scratch);
        SCRATCH.set(scratch);
    });
}

struct Job<'a> {
    isa: Isa,
    query: &'a PackedQuery<'a>,
    dim: usize,
    group: usize,
    tap: Option<&'a (dyn Fn(TappedWeights<'_>) + Sync)>,
    out: Shared<f32>,
    stride: usize,
}

/// The blocks that hold some slots.
fn blocks_of(slots: &Range<usize>) -> Range<usize> {
    if slots.is_empty() { 0..0 } else { slots.start / BLOCK..slots.end.div_ceil(BLOCK) }
}

impl Job<'_> {
    fn seen(&self, heads: &PackedHead, head: usize, token: usize) -> Range<usize> {
        let seen = (self.query.seen)(head, token);
        assert!(seen.end <= heads.len() || seen.is_empty(), "slots {seen:?} of {}", heads.len());
        seen
    }

    fn width(&self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    /// A tile of tokens over one head, all steps in one task.
    fn tile(&self, cache: &PackedHead, head: usize, tokens: Range<usize>, scratch: &mut Scratch) {
        let ranges: Vec<Range<usize>> = tokens.clone().map(|token| self.seen(cache, head, token)).collect();
        let seen = ranges.iter().filter(|range| !range.is_empty()).map(blocks_of);
        let blocks = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let (rows, origin, length) = (tokens.len() * self.group, blocks.start * BLOCK, blocks.len() * BLOCK);
        let (steps, width) = (self.dim.next_multiple_of(8), self.width());
        self.gather(head, tokens.clone(), &mut scratch.q);
        scratch.scores.reserve(rows * length);
        scratch.sums.resize(rows.max(scratch.sums.len()), 0.0);
        scratch.out.reserve(rows * width);
        scratch.out[..rows * width].fill(0.0);
        scratch.taken.reserve(rows * LANES);
        scratch.taken[..rows * LANES].fill(0.0);
        for (index, block) in blocks.clone().enumerate() {
            let out = scratch.scores.as_mut_ptr().wrapping_add(index * BLOCK);
            let q = &scratch.q[..rows * steps];
            // SAFETY: `rows` rows of `length` scores.
            unsafe { self.scores(cache, block, q, out, length, &mut scratch.x, &mut scratch.wide) };
        }
        for row in 0..rows {
            let range = &ranges[row / self.group];
            let scores = &mut scratch.scores[row * length..][..length];
            scratch.sums[row] = self.soften(scores, range, origin);
        }
        for (index, block) in blocks.enumerate() {
            let all = 0..width / LANES;
            let weights = Rows { at: scratch.scores.as_ptr().wrapping_add(index * BLOCK), row: length, step: 1 };
            let taken = &mut scratch.taken[..rows * LANES];
            let (out, x, wide) = (scratch.out.as_mut_ptr(), &mut scratch.x, &mut scratch.wide);
            // SAFETY: `rows` rows of weights and of sums.
            unsafe { self.values(cache, block, all, weights, rows, (out, width), taken, x, wide) };
        }
        for row in 0..rows {
            let (token, head) = (tokens.start + row / self.group, head * self.group + row % self.group);
            let sums = &mut scratch.out[row * width..][..self.dim];
            let taken = &scratch.taken[row * LANES..][..LANES];
            // SAFETY: this row and head of the output belong to this tile.
            unsafe { self.finish(token, head, 0, sums, taken, scratch.sums[row], ranges[row / self.group].is_empty()) };
            let range = ranges[row / self.group].clone();
            if let Some(tap) = self.tap.filter(|_| !range.is_empty()) {
                let weights = &scratch.scores[row * length..][range.start - origin..range.end - origin];
                scratch.tapped.resize(weights.len(), 0.0);
                self.isa.with(|| divide(weights, scratch.sums[row], &mut scratch.tapped));
                tap(TappedWeights { token, head, first: range.start, weights: &scratch.tapped });
            }
        }
    }

    /// One token: scores split by blocks, sums by channels, so that threads share the work of few heads.
    fn single(&self, heads: &[&PackedHead]) {
        let group = self.group;
        let ranges: Vec<Range<usize>> = (0..heads.len()).map(|head| self.seen(heads[head], head, 0)).collect();
        let blocks: Vec<Range<usize>> = ranges.iter().map(blocks_of).collect();
        let length = blocks.iter().map(Range::len).max().unwrap_or(0) * BLOCK;
        let steps = self.dim.next_multiple_of(8);
        let mut scratch = SHARED.take();
        scratch.scores.reserve(heads.len() * group * length);
        scratch.sums.resize((heads.len() * group).max(scratch.sums.len()), 0.0);
        scratch.q.reserve(heads.len() * group * steps);
        let Scratch { q, scores, sums, tapped, .. } = &mut scratch;
        for (head, q) in q.chunks_exact_mut(group * steps).take(heads.len()).enumerate() {
            self.gather_into(head, 0..1, q);
        }
        let (q, at) = (&*q, Shared(scores.as_mut_ptr()));
        let chunk = (length / BLOCK * heads.len()).div_ceil(8 * pool::threads()).max(4);
        let chunks = (length / BLOCK).div_ceil(chunk);
        pool::parallel(heads.len() * chunks, |task| {
            let (head, first) = (task % heads.len(), task / heads.len() * chunk);
            let mut own = SCRATCH.take();
            let rows = &q[head * group * steps..][..group * steps];
            for index in first..(first + chunk).min(blocks[head].len()) {
                let out = at.get().wrapping_add(head * group * length + index * BLOCK);
                let block = blocks[head].start + index;
                // SAFETY: the scores of this block belong to this task.
                unsafe { self.scores(heads[head], block, rows, out, length, &mut own.x, &mut own.wide) };
            }
            SCRATCH.set(own);
        });
        let totals = Shared(sums.as_mut_ptr());
        pool::parallel(heads.len() * group, |row| {
            let head = row / group;
            let held = blocks[head].len() * BLOCK;
            // SAFETY: the scores and the sum of this row belong to this task.
            unsafe {
                let scores = std::slice::from_raw_parts_mut(at.get().wrapping_add(row * length), held);
                *totals.get().wrapping_add(row) = self.soften(scores, &ranges[head], blocks[head].start * BLOCK);
            }
        });
        let panels = self.width() / LANES;
        let split = if heads.len().is_multiple_of(pool::threads()) { 4 } else { 2 };
        let pieces = panels.div_ceil(split);
        let (scores, sums) = (&*scores, &*sums);
        pool::parallel(heads.len() * pieces, |task| {
            let (head, first) = (task / pieces, task % pieces * split);
            let panels = first..(first + split).min(panels);
            let width = panels.len() * LANES;
            let mut own = SCRATCH.take();
            own.out.reserve(group * width);
            own.out[..group * width].fill(0.0);
            own.taken.reserve(group * LANES);
            own.taken[..group * LANES].fill(0.0);
            for (index, block) in blocks[head].clone().enumerate() {
                let at = scores[head * group * length + index * BLOCK..].as_ptr();
                let weights = Rows { at, row: length, step: 1 };
                let (out, taken) = ((own.out.as_mut_ptr(), width), &mut own.taken[..group * LANES]);
                let (held, all) = (heads[head], panels.clone());
                // SAFETY: `group` rows of weights, and of sums of these panels.
                unsafe { self.values(held, block, all, weights, group, out, taken, &mut own.x, &mut own.wide) };
            }
            for row in 0..group {
                let channels = first * LANES..(panels.end * LANES).min(self.dim);
                let sums_here = &mut own.out[row * width..][..channels.len()];
                let taken = &own.taken[row * LANES..][..LANES];
                let (total, query) = (sums[head * group + row], head * group + row);
                // SAFETY: these channels of the output belong to this task.
                unsafe { self.finish(0, query, channels.start, sums_here, taken, total, ranges[head].is_empty()) };
            }
            SCRATCH.set(own);
        });
        if let Some(tap) = self.tap {
            for row in (0..heads.len() * group).filter(|row| !ranges[row / group].is_empty()) {
                let (head, range) = (row / group, &ranges[row / group]);
                let origin = blocks[head].start * BLOCK;
                let weights = &scores[row * length..][range.start - origin..range.end - origin];
                tapped.resize(weights.len(), 0.0);
                self.isa.with(|| divide(weights, sums[row], tapped));
                tap(TappedWeights { token: 0, head: row, first: range.start, weights: tapped });
            }
        }
        SHARED.set(scratch);
    }

    /// Raw scores of a block.
    ///
    /// # Safety
    /// `out` must be valid for as many rows of 64 scores, `stride` apart, as `q` holds.
    #[allow(clippy::too_many_arguments)]
    unsafe fn scores(
        &self,
        head: &PackedHead,
        block: usize,
        q: &[f32],
        out: *mut f32,
        stride: usize,
        x: &mut Aligned<f32>,
        wide: &mut Aligned<f32>,
    ) {
        let (part, gains) = (&head.blocks[block].parts.k, head.blocks[block].gains.as_deref());
        let (steps, width) = (part.steps(), self.dim.next_multiple_of(8));
        let rows = q.len() / width;
        let mut from = Rows { at: q.as_ptr(), row: width, step: 1 };
        if let Coding::Channel(_) = part.coding() {
            x.reserve(q.len());
            let scales: &[u16] = part.scales();
            for (q, x) in q.chunks_exact(width).zip(x.chunks_exact_mut(width)) {
                q.iter().zip(scales).zip(x).for_each(|((q, &scale), x)| *x = q * f16_to_f32(scale));
            }
            from.at = x.as_ptr();
        }
        let product = Product { part, panels: 0..part.panel_count(), x: from, rows, out, stride, carry: false };
        // SAFETY: as the caller promises.
        unsafe { product.run(self.isa, wide) };
        for (row, q) in q.chunks_exact(width).enumerate() {
            let q = &q[..steps];
            // SAFETY: as the caller promises.
            let scores = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(row * stride), BLOCK) };
            match part.coding() {
                Coding::F32 | Coding::F16 => {}
                Coding::Token(_) => {
                    let (zeros, step) = part.zeros();
                    let sum = q.iter().fold(0.0, |sum, q| sum + q);
                    self.isa.with(|| by_token(scores, part.scales(), zeros, step, sum));
                }
                Coding::Channel(_) => {
                    let least = q.iter().zip(part.least()).fold(0.0, |sum, (q, &m)| q.mul_add(f16_to_f32(m), sum));
                    scores.iter_mut().for_each(|score| *score += least);
                }
            }
            if let Some(repair) = part.repair() {
                self.isa.with(|| repair_scores(repair, q, scores));
            }
            if let Some(gains) = gains {
                scores.iter_mut().zip(gains).for_each(|(score, gain)| *score *= gain);
            }
            for &(slot, by) in head.tilts.iter().filter(|(slot, _)| slot / BLOCK == block) {
                scores[slot % BLOCK] += by / self.query.scale;
            }
        }
    }

    /// Makes weights of a row's raw scores; those that it does not see become +0. Returns their sum.
    fn soften(&self, scores: &mut [f32], seen: &Range<usize>, origin: usize) -> f32 {
        if seen.is_empty() {
            scores.fill(0.0);
            return 0.0;
        }
        let (start, end) = (seen.start - origin, seen.end - origin);
        let sum = self.isa.with(|| weigh(scores, start, end, self.query.scale));
        scores[..start / LANES * LANES].fill(0.0);
        scores[end.next_multiple_of(LANES)..].fill(0.0);
        sum
    }

    /// Adds a block's values to the sums of some panels.
    ///
    /// # Safety
    /// The shapes named must be valid.
    #[allow(clippy::too_many_arguments)]
    unsafe fn values(
        &self,
        head: &PackedHead,
        block: usize,
        panels: Range<usize>,
        weights: Rows,
        rows: usize,
        (out, stride): (*mut f32, usize),
        taken: &mut [f32],
        x: &mut Aligned<f32>,
        wide: &mut Aligned<f32>,
    ) {
        let (part, gains) = (&head.blocks[block].parts.v, head.blocks[block].gains.as_deref());
        // A block may hold the first channels alone.
        let panels = panels.start..panels.end.min(part.panel_count());
        if panels.is_empty() {
            return;
        }
        x.reserve(2 * rows * BLOCK);
        let (x, gained) = x.split_at_mut(rows * BLOCK);
        let mut weights = weights;
        if let Some(gains) = gains {
            for (row, gained) in gained.chunks_exact_mut(BLOCK).take(rows).enumerate() {
                // SAFETY: as the caller promises.
                let weights = unsafe { std::slice::from_raw_parts(weights.at.wrapping_add(row * weights.row), BLOCK) };
                gained.iter_mut().zip(weights).zip(&gains[BLOCK..]).for_each(|((x, w), gain)| *x = w * gain);
            }
            weights = Rows { at: gained.as_ptr(), row: BLOCK, step: 1 };
        }
        let mut from = weights;
        if let Coding::Token(_) = part.coding() {
            let (zeros, step) = part.zeros();
            for (row, (x, taken)) in x.chunks_exact_mut(BLOCK).zip(taken.chunks_exact_mut(LANES)).enumerate() {
                // SAFETY: as the caller promises.
                let weights = unsafe { std::slice::from_raw_parts(weights.at.wrapping_add(row * weights.row), BLOCK) };
                self.isa.with(|| scaled(weights, part.scales(), zeros, step, x, taken));
            }
            from = Rows { at: x.as_ptr(), row: BLOCK, step: 1 };
        }
        // SAFETY: as the caller promises.
        unsafe { Product { part, panels: panels.clone(), x: from, rows, out, stride, carry: true }.run(self.isa, wide) }
        if let Some(repair) = part.repair() {
            for row in 0..rows {
                // SAFETY: as the caller promises.
                let (weights, out) = unsafe {
                    (
                        std::slice::from_raw_parts(weights.at.wrapping_add(row * weights.row), BLOCK),
                        std::slice::from_raw_parts_mut(out.wrapping_add(row * stride), panels.len() * LANES),
                    )
                };
                let channels = panels.start * LANES..panels.end * LANES;
                self.isa.with(|| repair_values(repair, weights, channels, out));
            }
        }
    }

    /// Writes some channels of one row of the output.
    ///
    /// # Safety
    /// They must belong to the caller.
    #[allow(clippy::too_many_arguments)]
    unsafe fn finish(
        &self,
        token: usize,
        head: usize,
        first: usize,
        sums: &mut [f32],
        taken: &[f32],
        total: f32,
        empty: bool,
    ) {
        let at = self.out.get().wrapping_add(token * self.stride + head * self.dim + first);
        // SAFETY: as the caller promises.
        let out = unsafe { std::slice::from_raw_parts_mut(at, sums.len()) };
        if empty {
            return out.fill(0.0);
        }
        self.isa.with(|| {
            shift(sums, taken);
            divide(sums, total, out);
        });
    }

    fn gather(&self, head: usize, tokens: Range<usize>, into: &mut Aligned<f32>) {
        let length = tokens.len() * self.group * self.dim.next_multiple_of(8);
        into.reserve(length);
        self.gather_into(head, tokens, &mut into[..length]);
    }

    /// Copies the queries of a tile: rows token by token, the heads of the group one after another, filled up with zeros.
    fn gather_into(&self, head: usize, tokens: Range<usize>, into: &mut [f32]) {
        let steps = self.dim.next_multiple_of(8);
        for (row, into) in into.chunks_exact_mut(steps).enumerate() {
            let (token, head) = (tokens.start + row / self.group, head * self.group + row % self.group);
            into[..self.dim].copy_from_slice(&self.query.q.row(token)[head * self.dim..][..self.dim]);
            into[self.dim..].fill(0.0);
        }
    }
}

kernel! {
    /// `scores = scale·fma(−zero, sum, scores)` of 64 slots.
    fn by_token<'a>(s, scores: &'a mut [f32], scales: &'a [u16], zeros: &'a [u8], step: f32, sum: f32) {
        let (step, sum) = (s.splat(step), s.splat(sum));
        let zeros = zeros.as_chunks::<LANES>().0;
        for ((v, scales), zeros) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(scales.as_chunks::<LANES>().0).zip(zeros) {
            let zero = s.mul(s.to_float(s.load_u8(zeros)), step);
            // SAFETY: 16 scales.
            let scale = unsafe { s.load_f16_ptr(scales.as_ptr()) };
            s.store(v, s.mul(scale, s.fnma(zero, sum, s.load(v))));
        }
    }
}

kernel! {
    /// `x = weights·scale`, and `taken −= zero·x` lane by lane.
    fn scaled<'a>(
        s,
        weights: &'a [f32],
        scales: &'a [u16],
        zeros: &'a [u8],
        step: f32,
        x: &'a mut [f32],
        taken: &'a mut [f32],
    ) {
        let step = s.splat(step);
        let Some(taken) = taken.first_chunk_mut::<LANES>() else { return };
        let mut sum = s.load(taken);
        let grids = scales.as_chunks::<LANES>().0.iter().zip(zeros.as_chunks::<LANES>().0);
        let lanes = weights.as_chunks::<LANES>().0.iter().zip(x.as_chunks_mut::<LANES>().0);
        for ((scales, zeros), (weights, x)) in grids.zip(lanes) {
            let zero = s.mul(s.to_float(s.load_u8(zeros)), step);
            // SAFETY: 16 scales.
            let scale = unsafe { s.load_f16_ptr(scales.as_ptr()) };
            let v = s.mul(s.load(weights), scale);
            s.store(x, v);
            sum = s.fnma(zero, v, sum);
        }
        s.store(taken, sum);
    }
}

kernel! {
    /// `sums += tree(taken) + 0`, which leaves no −0.
    fn shift<'a>(s, sums: &'a mut [f32], taken: &'a [f32]) {
        let Some(taken) = taken.first_chunk::<LANES>() else { return };
        let off = s.splat(s.sum(s.load(taken)) + 0.0);
        for v in sums.chunks_mut(LANES) {
            let x = s.add(s.load_part(v), off);
            s.store_part(v, x);
        }
    }
}
