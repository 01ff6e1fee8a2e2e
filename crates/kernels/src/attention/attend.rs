//! Scores, softmax and weighted sums for tiles of query rows.

use super::BLOCK;
use super::store::{Block, Blocks, HeadCache, value_stride};
use crate::buffer::Aligned;
use crate::dense::tile::{self, F16, F32, Mode, Out, Panels, Rectangle, Rows, Weights};
use crate::isa::Isa;
use crate::math::lanes::exp;
use crate::matrix::{MatrixMut, MatrixView};
use crate::pool::{self, Shared};
use crate::simd::{LANES, Simd, dispatch_on, kernel};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;

/// The queries of a batch of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// (tokens, query heads · dim), heads side by side; each key-value head serves a run of as many query heads.
    pub q: MatrixView<'a>,
    /// The absolute position of each token.
    pub positions: &'a [u32],
    /// Multiplies each score, 1/√dim as a rule.
    pub scale: f32,
    /// How many positions a token sees, its own included; `None`: all before it.
    pub window: Option<usize>,
}

/// The attention weights of one query row, as a tap sees them.
#[derive(Clone, Copy, Debug)]
pub struct TappedWeights<'a> {
    /// Row of the query.
    pub token: usize,
    /// Query head.
    pub head: usize,
    /// The position of the first weight.
    pub first: usize,
    /// `e / sum` for the positions seen.
    pub weights: &'a [f32],
}

/// Query rows (token × head) that go through the cache together.
const TILE_ROWS: usize = 48;
/// Bytes of scores that stay in the second-level cache.
const SCORES: usize = 1 << 20;

#[derive(Default)]
struct Scratch {
    q: Aligned<f32>,
    scores: Aligned<f32>,
    sums: Vec<f32>,
    out: Aligned<f32>,
    wide: Aligned<f32>,
    tapped: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Attends the queries of some tokens to the caches of all key-value heads of a layer (or of one of them).
///
/// `out` has the shape of `query.q`. `tap` is called once for each token and query head, from any thread, in any order.
///
/// # Panics
/// If the shapes do not fit.
pub fn attend(
    heads: &[HeadCache],
    query: &Query<'_>,
    out: &mut MatrixMut<'_>,
    tap: Option<&(dyn Fn(TappedWeights<'_>) + Sync)>,
) {
    let Some(dim) = heads.first().map(HeadCache::dim) else { return };
    let q = query.q;
    assert!(heads.iter().all(|h| h.dim() == dim), "heads of one size");
    assert_eq!((out.rows(), out.cols()), (q.rows(), q.cols()), "shape of the output");
    assert_eq!(query.positions.len(), q.rows(), "a position per token");
    assert!(dim > 0 && q.cols().is_multiple_of(dim * heads.len()), "{} columns for {} heads", q.cols(), heads.len());
    let group = q.cols() / (dim * heads.len());
    if group == 0 || q.rows() == 0 {
        return;
    }
    let longest = heads.iter().map(|h| h.positions().len()).max().unwrap_or(0) + BLOCK;
    let rows = (SCORES / (4 * longest)).clamp(1, TILE_ROWS);
    let tokens = (rows / group).max(1).min(q.rows());
    let tiles = q.rows().div_ceil(tokens);
    let job = Job { isa: Isa::current(), query, dim, group, tap, out: Shared(out.as_mut_ptr()), stride: out.stride() };
    pool::parallel(heads.len() * tiles, |task| {
        // Later tokens see more: their tiles go first.
        let first = (tiles - 1 - task / heads.len()) * tokens;
        let head = task % heads.len();
        let mut scratch = SCRATCH.take();
        job.tile(&heads[head], head, first..(first + tokens).min(q.rows()), &mut scratch);
        SCRATCH.set(scratch);
    });
}

struct Job<'a> {
    isa: Isa,
    query: &'a Query<'a>,
    dim: usize,
    group: usize,
    tap: Option<&'a (dyn Fn(TappedWeights<'_>) + Sync)>,
    out: Shared<f32>,
    stride: usize,
}

impl Job<'_> {
    /// Positions that a token sees, counted from the first block.
    fn sees(&self, cache: &HeadCache, token: usize) -> Range<usize> {
        let position = self.query.positions[token] as usize;
        let (present, origin) = (cache.positions(), cache.origin());
        let end = (position + 1).min(present.end);
        let start = self.query.window.map_or(0, |w| (position + 1).saturating_sub(w)).max(present.start);
        if start < end { start - origin..end - origin } else { 0..0 }
    }

    fn tile(&self, cache: &HeadCache, head: usize, tokens: Range<usize>, scratch: &mut Scratch) {
        let ranges: Vec<Range<usize>> = tokens.clone().map(|t| self.sees(cache, t)).collect();
        let seen = ranges.iter().filter(|r| !r.is_empty());
        let lowest = seen.clone().map(|r| r.start).min().unwrap_or(0) / BLOCK;
        let highest = seen.map(|r| r.end).max().unwrap_or(0).div_ceil(BLOCK);
        let stride = (highest - lowest.min(highest)) * BLOCK;
        let rows = tokens.len() * self.group;
        self.gather(head, tokens.clone(), &mut scratch.q);
        scratch.scores.reserve(rows * stride);
        scratch.sums.resize(rows.max(scratch.sums.len()), 0.0);
        scratch.out.reserve(rows * value_stride(self.dim));
        scratch.out[..rows * value_stride(self.dim)].fill(0.0);
        let tile =
            Tile { isa: self.isa, dim: self.dim, group: self.group, blocks: lowest..highest, ranges: &ranges, stride };
        match &cache.blocks {
            Blocks::F32(blocks) => tile.scores::<F32>(blocks, scratch),
            Blocks::F16(blocks) => tile.scores::<F16>(blocks, scratch),
        }
        for row in 0..rows {
            let range = tile.within(row / self.group);
            let scores = &mut scratch.scores[row * stride..][..stride];
            scratch.sums[row] = self.isa.with(|| weigh(scores, range.start, range.end, self.query.scale));
        }
        match &cache.blocks {
            Blocks::F32(blocks) => tile.sums::<F32>(blocks, scratch),
            Blocks::F16(blocks) => tile.sums::<F16>(blocks, scratch),
        }
        for row in 0..rows {
            let (token, head) = (tokens.start + row / self.group, head * self.group + row % self.group);
            let at = self.out.get().wrapping_add(token * self.stride + head * self.dim);
            // SAFETY: this row and head of the output belong to this tile.
            let out = unsafe { std::slice::from_raw_parts_mut(at, self.dim) };
            let sums = &scratch.out[row * value_stride(self.dim)..][..self.dim];
            let range = tile.within(row / self.group);
            if range.is_empty() {
                out.fill(0.0);
            } else {
                self.isa.with(|| divide(sums, scratch.sums[row], out));
            }
            if let Some(tap) = self.tap {
                let first = cache.origin() + lowest * BLOCK + range.start;
                let weights = &scratch.scores[row * stride..][range];
                scratch.tapped.resize(weights.len(), 0.0);
                self.isa.with(|| divide(weights, scratch.sums[row], &mut scratch.tapped));
                tap(TappedWeights { token, head, first, weights: &scratch.tapped });
            }
        }
    }

    /// Copies the queries of a tile: rows token by token, the heads of the group side by side.
    fn gather(&self, head: usize, tokens: Range<usize>, into: &mut Aligned<f32>) {
        let width = self.group * self.dim;
        into.reserve(tokens.len() * width);
        for (i, token) in tokens.enumerate() {
            let row = self.query.q.row(token);
            into[i * width..][..width].copy_from_slice(&row[head * width..][..width]);
        }
    }
}

/// A tile of query rows over a range of blocks.
struct Tile<'a> {
    isa: Isa,
    dim: usize,
    group: usize,
    blocks: Range<usize>,
    ranges: &'a [Range<usize>],
    stride: usize,
}

impl Tile<'_> {
    /// What a token sees, counted from the first block of the tile.
    fn within(&self, token: usize) -> Range<usize> {
        let offset = if self.ranges[token].is_empty() { 0 } else { self.blocks.start * BLOCK };
        self.ranges[token].start - offset..self.ranges[token].end - offset
    }

    fn scores<W: Weights>(&self, blocks: &VecDeque<Block<W::Raw>>, scratch: &mut Scratch) {
        for (i, block) in self.blocks.clone().enumerate() {
            let w = Panels { at: blocks[block].k.as_ptr(), panel: LANES, step: BLOCK };
            let part = Rectangle {
                rows: self.ranges.len() * self.group,
                panels: BLOCK / LANES,
                before: 0,
                k: self.dim,
                x: Rows { at: scratch.q.as_ptr(), row: self.dim, step: 1 },
                w,
                out: Out {
                    at: scratch.scores.as_mut_ptr().wrapping_add(i * BLOCK),
                    stride: self.stride,
                    cols: BLOCK,
                    mode: Mode::Write,
                    hidden: 0,
                },
            };
            self.run::<W>(part, self.dim * BLOCK, &mut scratch.wide);
        }
    }

    fn sums<W: Weights>(&self, blocks: &VecDeque<Block<W::Raw>>, scratch: &mut Scratch) {
        let tokens = self.ranges.len();
        let all: Vec<Range<usize>> = (0..tokens).map(|t| self.within(t)).collect();
        let start = all.iter().map(|r| r.start).max().unwrap_or(0);
        let end = all.iter().map(|r| r.end).min().unwrap_or(0).max(start);
        for (i, block) in self.blocks.clone().enumerate() {
            let v = &blocks[block].v;
            let here = i * BLOCK..(i + 1) * BLOCK;
            let clip = |r: Range<usize>| r.start.max(here.start)..r.end.min(here.end);
            for (token, range) in all.iter().enumerate() {
                self.some::<W>(v, i, token..token + 1, clip(range.start..range.end.min(start)), scratch);
            }
            self.some::<W>(v, i, 0..tokens, clip(start..end), scratch);
            for (token, range) in all.iter().enumerate() {
                self.some::<W>(v, i, token..token + 1, clip(range.start.max(end)..range.end), scratch);
            }
        }
    }

    /// Adds the values of some positions of a block to the sums of some tokens.
    fn some<W: Weights>(
        &self,
        v: &Aligned<W::Raw>,
        block: usize,
        tokens: Range<usize>,
        positions: Range<usize>,
        scratch: &mut Scratch,
    ) {
        if positions.is_empty() {
            return;
        }
        let step = value_stride(self.dim);
        let row = tokens.start * self.group;
        let slot = positions.start - block * BLOCK;
        let part = Rectangle {
            rows: tokens.len() * self.group,
            panels: step / LANES,
            before: 0,
            k: positions.len(),
            x: Rows {
                at: scratch.scores.as_ptr().wrapping_add(row * self.stride + positions.start),
                row: self.stride,
                step: 1,
            },
            w: Panels { at: v.as_ptr().wrapping_add(slot * step), panel: LANES, step },
            out: Out {
                at: scratch.out.as_mut_ptr().wrapping_add(row * step),
                stride: step,
                cols: step,
                mode: Mode::Continue,
                hidden: 0,
            },
        };
        self.run::<W>(part, positions.len() * step, &mut scratch.wide);
    }

    /// Runs a rectangle whose panels cover `values` values in a row in memory; for many rows 16-bit values are widened
    /// once.
    fn run<W: Weights>(&self, part: Rectangle<W::Raw>, values: usize, wide: &mut Aligned<f32>) {
        if W::PLAIN || part.rows <= tile::FEW {
            // SAFETY: the caller made the shapes; blocks hold `values` values from here on.
            return unsafe { part.run::<W>(self.isa) };
        }
        wide.reserve(values);
        dispatch_on(self.isa, tile::Widen::<W> { from: part.w.at, to: &mut wide[..values] });
        let w = Panels { at: wide.as_ptr(), panel: part.w.panel, step: part.w.step };
        let Rectangle { rows, panels, before, k, x, out, .. } = part;
        // SAFETY: the same values, widened.
        unsafe { Rectangle { rows, panels, before, k, x, w, out }.run::<F32>(self.isa) }
    }
}

kernel! {
    /// Turns scores into `exp(scale·s − max)` between `start` and `end`; returns their sum.
    pub(super) fn weigh<'a>(s, scores: &'a mut [f32], start: usize, end: usize, scale: f32) -> f32 {
        if start >= end {
            return 0.0;
        }
        let (first, last) = (start / LANES, end.div_ceil(LANES));
        let lanes = &mut scores.as_chunks_mut::<LANES>().0[first..last];
        let (low, factor) = (s.splat(f32::NEG_INFINITY), s.splat(scale));
        let mut max = low;
        for (i, v) in lanes.iter_mut().enumerate() {
            let scaled = s.mul(s.load(v), factor);
            s.store(v, scaled);
            max = s.max(Inside::new(start, end, (first + i) * LANES).or(s, scaled, low), max);
        }
        let max = s.splat(s.greatest(max));
        let mut sum = s.zero();
        for (i, v) in lanes.iter_mut().enumerate() {
            let e = Inside::new(start, end, (first + i) * LANES).or(s, exp(s, s.sub(s.load(v), max)), s.zero());
            s.store(v, e);
            sum = s.add(sum, e);
        }
        s.sum(sum)
    }
}

/// Which lanes of a vector lie in a range.
#[derive(Clone, Copy)]
struct Inside {
    from: usize,
    to: usize,
}

impl Inside {
    #[inline(always)]
    fn new(start: usize, end: usize, at: usize) -> Inside {
        Inside { from: start.saturating_sub(at), to: (end - at).min(LANES) }
    }

    /// `x` inside, `other` outside.
    #[inline(always)]
    fn or<S: Simd>(self, s: S, x: S::F, other: S::F) -> S::F {
        if self.from == 0 && self.to == LANES {
            return x;
        }
        let lanes = s.load(&IOTA);
        let x = s.select(s.lt(lanes, s.splat(self.from as f32)), other, x);
        s.select(s.lt(lanes, s.splat(self.to as f32)), x, other)
    }
}

const IOTA: [f32; LANES] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

kernel! {
    pub(super) fn divide<'a>(s, x: &'a [f32], divisor: f32, out: &'a mut [f32]) {
        let divisor = s.splat(divisor);
        for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
            s.store_part(out, s.canonical(s.div(s.load_part(x), divisor)));
        }
    }
}
