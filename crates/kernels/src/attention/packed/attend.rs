//! Scores, softmax and weighted sums over packed heads.

use super::super::BLOCK;
use super::super::attend::{TappedWeights, divide, weigh};
use super::head::PackedHead;
use super::part::{Coding, Side};
use super::repair::{repair_scores, repair_values};
use super::rows::{FEW, Product};
use super::scratch::{AskedRows, Scratch, Weights, Work};
use super::whole::{ByToken, RoundWeights, WholeProduct, most, round};
use crate::convert::f16_to_f32;
use crate::dense::tile::Rows;
use crate::isa::Isa;
use crate::matrix::{MatrixMut, MatrixView};
use crate::pool::{self, Shared};
use crate::simd::{LANES, dispatch_on, kernel};
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
    if q.rows() == 1 && group <= FEW && longest > SHORT && pool::threads() > 1 && !pool::inside() {
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

    /// Numbers of a query's row.
    fn steps(&self) -> usize {
        self.dim.next_multiple_of(8)
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
        let width = self.width();
        let Scratch { asked, scores, sums, rounded, out, tapped, work } = scratch;
        asked.reserve(rows, self.steps());
        self.gather(head, tokens.clone(), asked.rows(0..rows, self.steps()));
        scores.reserve(rows * length);
        sums.resize(rows.max(sums.len()), 0.0);
        rounded.reserve(rows, length);
        out.reserve(rows * width);
        out[..rows * width].fill(0.0);
        for (index, block) in blocks.clone().enumerate() {
            let at = scores.as_mut_ptr().wrapping_add(index * BLOCK);
            // SAFETY: `rows` rows of `length` scores.
            unsafe { self.scores(cache, block, asked.some(0..rows, self.steps()), at, length, work) };
        }
        for row in 0..rows {
            let scores = &mut scores[row * length..][..length];
            sums[row] = self.soften(scores, &ranges[row / self.group], origin);
            let numbers = &mut rounded.numbers[row * length..][..length];
            let worth = &mut rounded.worth[row * blocks.len()..][..blocks.len()];
            rounded.taken[row] = self.round_weights(cache, blocks.clone(), scores, numbers, worth);
        }
        for (index, block) in blocks.clone().enumerate() {
            let weights = Weights {
                floats: scores.as_ptr().wrapping_add(index * BLOCK),
                whole: rounded.numbers.as_ptr().wrapping_add(index * BLOCK),
                step: length,
                worth: (rounded.worth.as_ptr().wrapping_add(index), blocks.len()),
            };
            // SAFETY: `rows` rows of weights and of sums.
            unsafe { self.values(cache, block, 0..width / LANES, weights, rows, (out.as_mut_ptr(), width), work) };
        }
        for row in 0..rows {
            let (token, head) = (tokens.start + row / self.group, head * self.group + row % self.group);
            let out = &mut out[row * width..][..self.dim];
            let (range, taken) = (ranges[row / self.group].clone(), rounded.taken[row]);
            // SAFETY: this row and head of the output belong to this tile.
            unsafe { self.finish(token, head, 0, out, taken, sums[row], range.is_empty()) };
            if let Some(tap) = self.tap.filter(|_| !range.is_empty()) {
                let weights = &scores[row * length..][range.start - origin..range.end - origin];
                tapped.resize(weights.len(), 0.0);
                self.isa.with(|| divide(weights, sums[row], tapped));
                tap(TappedWeights { token, head, first: range.start, weights: tapped });
            }
        }
    }

    /// One token: scores split by blocks, sums by channels, so that threads share the work of few heads.
    fn single(&self, heads: &[&PackedHead]) {
        let group = self.group;
        let ranges: Vec<Range<usize>> = (0..heads.len()).map(|head| self.seen(heads[head], head, 0)).collect();
        let blocks: Vec<Range<usize>> = ranges.iter().map(blocks_of).collect();
        let most = blocks.iter().map(Range::len).max().unwrap_or(0);
        let (length, rows, steps) = (most * BLOCK, heads.len() * group, self.steps());
        let mut scratch = SHARED.take();
        let Scratch { asked, scores, sums, rounded, tapped, .. } = &mut scratch;
        asked.reserve(rows, steps);
        scores.reserve(rows * length);
        sums.resize(rows.max(sums.len()), 0.0);
        rounded.reserve(rows, length);
        for head in 0..heads.len() {
            self.gather(head, 0..1, asked.rows(head * group..(head + 1) * group, steps));
        }
        let (asked, at) = (&*asked, Shared(scores.as_mut_ptr()));
        let chunk = (most * heads.len()).div_ceil(8 * pool::threads()).max(4);
        pool::parallel(heads.len() * most.div_ceil(chunk), |task| {
            let (head, first) = (task % heads.len(), task / heads.len() * chunk);
            let mut own = SCRATCH.take();
            let rows = asked.some(head * group..(head + 1) * group, steps);
            for index in first..(first + chunk).min(blocks[head].len()) {
                let out = at.get().wrapping_add(head * group * length + index * BLOCK);
                // SAFETY: the scores of this block belong to this task.
                unsafe { self.scores(heads[head], blocks[head].start + index, rows, out, length, &mut own.work) };
            }
            SCRATCH.set(own);
        });
        let totals = Shared(sums.as_mut_ptr());
        let (numbers, worth) = (Shared(rounded.numbers.as_mut_ptr()), Shared(rounded.worth.as_mut_ptr()));
        let taken = Shared(rounded.taken.as_mut_ptr());
        pool::parallel(rows, |row| {
            let head = row / group;
            let (held, many) = (blocks[head].len() * BLOCK, blocks[head].len());
            // SAFETY: the scores and all sums of this row belong to this task.
            unsafe {
                let scores = std::slice::from_raw_parts_mut(at.get().wrapping_add(row * length), held);
                *totals.get().wrapping_add(row) = self.soften(scores, &ranges[head], blocks[head].start * BLOCK);
                let numbers = std::slice::from_raw_parts_mut(numbers.get().wrapping_add(row * length), held);
                let worth = std::slice::from_raw_parts_mut(worth.get().wrapping_add(row * most), many);
                let off = self.round_weights(heads[head], blocks[head].clone(), scores, numbers, worth);
                *taken.get().wrapping_add(row) = off;
            }
        });
        let panels = self.width() / LANES;
        let split = if heads.len().is_multiple_of(pool::threads()) { 4 } else { 2 };
        let pieces = panels.div_ceil(split);
        let (scores, sums, rounded) = (&*scores, &*sums, &*rounded);
        pool::parallel(heads.len() * pieces, |task| {
            let (head, first) = (task / pieces, task % pieces * split);
            let panels = first..(first + split).min(panels);
            let width = panels.len() * LANES;
            let mut own = SCRATCH.take();
            own.out.reserve(group * width);
            own.out[..group * width].fill(0.0);
            for (index, block) in blocks[head].clone().enumerate() {
                let first = head * group * length + index * BLOCK;
                let weights = Weights {
                    floats: scores.as_ptr().wrapping_add(first),
                    whole: rounded.numbers.as_ptr().wrapping_add(first),
                    step: length,
                    worth: (rounded.worth.as_ptr().wrapping_add(head * group * most + index), most),
                };
                let out = (own.out.as_mut_ptr(), width);
                // SAFETY: `group` rows of weights, and of sums of these panels.
                unsafe { self.values(heads[head], block, panels.clone(), weights, group, out, &mut own.work) };
            }
            for row in 0..group {
                let channels = first * LANES..(panels.end * LANES).min(self.dim);
                let (out, query) = (&mut own.out[row * width..][..channels.len()], head * group + row);
                let (taken, total) = (rounded.taken[query], sums[query]);
                // SAFETY: these channels of the output belong to this task.
                unsafe { self.finish(0, query, channels.start, out, taken, total, ranges[head].is_empty()) };
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
    /// `out` must be valid for as many rows of 64 scores, `stride` apart, as there are queries.
    unsafe fn scores(
        &self,
        head: &PackedHead,
        block: usize,
        asked: AskedRows<'_>,
        out: *mut f32,
        stride: usize,
        work: &mut Work,
    ) {
        let (part, gains) = (&head.blocks[block].parts.k, head.blocks[block].gains.as_deref());
        let (steps, row, rows) = (part.steps(), self.steps(), asked.worth.len());
        let panels = 0..part.panel_count();
        let next = head.next(block, Side::Keys);
        next.into_iter().chain([&head.blocks[block].parts.v]).for_each(|part| part.fetch_parameters());
        let (x, ahead) = (asked.whole.as_ptr(), next.map_or(std::ptr::null(), |next| next.at(0)));
        let mut product = WholeProduct { part, panels, x, row, rows, out, stride, worth: None, ahead };
        match part.coding() {
            Coding::F32 | Coding::F16 => {
                let x = Rows { at: asked.q.as_ptr(), row, step: 1 };
                let WholeProduct { panels, .. } = product;
                // SAFETY: as the caller promises.
                unsafe { Product { part, panels, x, rows, out, stride, carry: false }.run(self.isa, &mut work.wide) };
            }
            Coding::Token(_) => {
                // SAFETY: as the caller promises.
                unsafe { product.run(self.isa, &mut work.apart) };
                let grids = (part.scales(), part.zeros());
                dispatch_on(
                    self.isa,
                    ByToken { scores: (out, stride), grids, whole: asked.whole, row, steps, worth: asked.worth },
                );
            }
            Coding::Channel(_) => {
                work.x.reserve(steps + rows);
                work.whole.reserve(rows * row);
                let (x, worth) = work.x.split_at_mut(steps);
                let scales: &[u16] = part.scales();
                for (r, q) in asked.q.chunks_exact(row).enumerate() {
                    q.iter().zip(scales).zip(&mut *x).for_each(|((q, &scale), x)| *x = q * f16_to_f32(scale));
                    let whole = &mut work.whole[r * row..][..steps];
                    worth[r] = self.isa.with(|| round(x, most(row), whole));
                }
                product.x = work.whole.as_ptr();
                // SAFETY: as the caller promises.
                unsafe { product.run(self.isa, &mut work.apart) };
                for (r, q) in asked.q.chunks_exact(row).enumerate() {
                    let least = q.iter().zip(part.least()).fold(0.0, |sum, (q, &m)| q.mul_add(f16_to_f32(m), sum));
                    // SAFETY: as the caller promises.
                    let scores = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(r * stride), BLOCK) };
                    scores.iter_mut().for_each(|score| *score = worth[r].mul_add(*score, least));
                }
            }
        }
        if part.repair().is_none() && gains.is_none() && head.tilts.is_empty() {
            return;
        }
        for (r, q) in asked.q.chunks_exact(row).enumerate() {
            // SAFETY: as the caller promises.
            let scores = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(r * stride), BLOCK) };
            if let Some(repair) = part.repair() {
                self.isa.with(|| repair_scores(repair, &q[..steps], scores));
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

    /// Makes whole numbers of a row's weights where values have a grid for each token; returns what zero points take off.
    fn round_weights(
        &self,
        head: &PackedHead,
        blocks: Range<usize>,
        weights: &[f32],
        numbers: &mut [i16],
        worth: &mut [f32],
    ) -> f32 {
        let parts =
            head.blocks[blocks].iter().map(|block| (&block.parts.v, block.gains.as_deref().map(|g| &g[BLOCK..])));
        dispatch_on(self.isa, RoundWeights { parts, weights, numbers, worth })
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
        weights: Weights,
        rows: usize,
        (out, stride): (*mut f32, usize),
        work: &mut Work,
    ) {
        let (part, gains) = (&head.blocks[block].parts.v, head.blocks[block].gains.as_deref());
        // A block may hold the first channels alone.
        let panels = panels.start..panels.end.min(part.panel_count());
        if panels.is_empty() {
            return;
        }
        let whole = matches!(part.coding(), Coding::Token(_));
        let mut x = Rows { at: weights.floats, row: weights.step, step: 1 };
        if let Some(gains) = gains.filter(|_| !whole || part.repair().is_some()) {
            work.x.reserve(rows * BLOCK);
            for (row, gained) in work.x.chunks_exact_mut(BLOCK).take(rows).enumerate() {
                // SAFETY: as the caller promises.
                let weights = unsafe { std::slice::from_raw_parts(x.at.wrapping_add(row * x.row), BLOCK) };
                gained.iter_mut().zip(weights).zip(&gains[BLOCK..]).for_each(|((x, w), gain)| *x = w * gain);
            }
            x = Rows { at: work.x.as_ptr(), row: BLOCK, step: 1 };
        }
        let held = panels.clone();
        // SAFETY: as the caller promises.
        unsafe {
            if whole {
                let (x, row, worth) = (weights.whole, weights.step, Some(weights.worth));
                let next = head.next(block, Side::Values);
                let ahead = next.map_or(std::ptr::null(), |next| next.at(panels.start));
                let product = WholeProduct { part, panels: held, x, row, rows, out, stride, worth, ahead };
                product.run(self.isa, &mut work.apart);
            } else {
                Product { part, panels: held, x, rows, out, stride, carry: true }.run(self.isa, &mut work.wide);
            }
        }
        if let Some(repair) = part.repair() {
            for row in 0..rows {
                // SAFETY: as the caller promises.
                let (weights, out) = unsafe {
                    (
                        std::slice::from_raw_parts(x.at.wrapping_add(row * x.row), BLOCK),
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
        taken: f32,
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

    /// Copies the queries of some tokens: rows token by token, the heads of the group one after another, filled up with zeros.
    fn gather(&self, head: usize, tokens: Range<usize>, into: (&mut [f32], &mut [i16], &mut [f32])) {
        let (q, whole, worth) = into;
        let steps = self.steps();
        let rows = q.chunks_exact_mut(steps).zip(whole.chunks_exact_mut(steps)).zip(worth);
        for (row, ((into, whole), worth)) in rows.enumerate() {
            let (token, head) = (tokens.start + row / self.group, head * self.group + row % self.group);
            into[..self.dim].copy_from_slice(&self.query.q.row(token)[head * self.dim..][..self.dim]);
            into[self.dim..].fill(0.0);
            *worth = self.isa.with(|| round(into, most(steps), whole));
        }
    }
}

kernel! {
    /// `sums += taken + 0`, which leaves no −0.
    fn shift<'a>(s, sums: &'a mut [f32], taken: f32) {
        let off = s.splat(taken + 0.0);
        for v in sums.chunks_mut(LANES) {
            let x = s.add(s.load_part(v), off);
            s.store_part(v, x);
        }
    }
}
