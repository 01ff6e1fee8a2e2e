//! The inner loops.

use super::source::{Form, Source, offset};
use super::{CHUNK, PANEL, TILE_ROWS};
use crate::MatrixMut;
use crate::integer::activations::{BLOCK, META};
use crate::integer::lanes::Lanes;

/// A product under way: quantised activations in, f32 outputs out.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub rows: usize,
    pub blocks: usize,
    pub codes: *const i8,
    pub meta: *const f32,
    pub starts: *const i32,
    pub out: Out,
}

/// Where outputs go.
#[derive(Clone, Copy)]
pub(super) struct Out {
    data: *mut f32,
    stride: usize,
    outputs: usize,
    accumulate: bool,
}

// SAFETY: the pointers are good for as long as `multiply` runs; tasks write disjoint columns.
unsafe impl Sync for Job {}
unsafe impl Send for Job {}
unsafe impl Sync for Out {}
unsafe impl Send for Out {}

impl Out {
    pub fn new(y: &mut MatrixMut<'_>, accumulate: bool) -> Out {
        let (stride, outputs) = (y.stride(), y.cols());
        Out { data: y.as_mut_ptr(), stride, outputs, accumulate }
    }

    /// Stores the sums of one row and one panel.
    #[inline(always)]
    pub unsafe fn put<L: Lanes>(&self, row: usize, panel: usize, sums: &[f32; PANEL]) {
        unsafe {
            let at = self.data.add(row * self.stride + panel * PANEL);
            let n = PANEL.min(self.outputs - panel * PANEL);
            if n == PANEL {
                let sums = L::load(sums.as_ptr());
                // `1·old + new` is rounded as `old + new` is.
                let sums = if self.accumulate { L::fma(L::splat(1.0), L::load(at), sums) } else { sums };
                return L::store(at, L::canonical(sums));
            }
            let mut new = *sums;
            if self.accumulate {
                for (new, old) in new[..n].iter_mut().zip(std::slice::from_raw_parts(at, n)) {
                    *new += old;
                }
            }
            L::store(new.as_mut_ptr(), L::canonical(L::load(new.as_ptr())));
            at.copy_from_nonoverlapping(new.as_ptr(), n);
        }
    }
}

/// Where a tile is: rows `own..own + R` of the `n` rows of activations from `first`; the first `live` of the panels from
/// `panel`; blocks `from..to`. Sums go to `partial` unless they are finished.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub first: usize,
    pub n: usize,
    pub own: usize,
    pub panel: usize,
    pub live: usize,
    pub from: usize,
    pub to: usize,
    pub partial: *mut f32,
}

/// `R` rows of activations against `P` panels. Sums stay in registers: 24 of them with six rows and two panels.
#[allow(clippy::needless_range_loop)] // plain counters unroll; iterators keep the sums in memory
#[inline(always)]
unsafe fn tile<L: Lanes, S: Source<L>, const R: usize, const P: usize>(sources: [S; P], job: &Job, place: Place) {
    unsafe {
        let halves = 1 + S::Form::HALVES as usize;
        let offset = offset::<S::Form>(L::BYTE_OFFSET) != 0;
        let Place { n, from, to, .. } = place;
        let block = place.first * job.blocks + from * n + place.own;
        let mut x = job.codes.add(block * BLOCK);
        let mut meta = job.meta.add(block * META);
        let mut starts = job.starts.wrapping_add(if offset { block * halves } else { 0 });
        let partial = place.partial.wrapping_add((place.first + place.own) * P * PANEL);
        let mut acc = [[L::splat(0.0); P]; R];
        if from > 0 {
            for r in 0..R {
                for p in 0..P {
                    acc[r][p] = L::load(partial.add((r * P + p) * PANEL));
                }
            }
        }
        let mut done = from;
        while done < to {
            let blocks = CHUNK.min(job.blocks - done);
            let mut chunks = [sources[0].chunk(done / CHUNK, blocks); P];
            for p in 1..P {
                chunks[p] = sources[p].chunk(done / CHUNK, blocks);
            }
            for b in 0..blocks {
                let at = At { x, meta, starts };
                for p in 0..P {
                    if place.first + place.own == 0 {
                        sources[p].ahead(&chunks[p], b);
                    }
                }
                half::<L, S, R, P, 0>(&sources, &chunks, b, at, &mut acc);
                if S::Form::HALVES {
                    half::<L, S, R, P, 1>(&sources, &chunks, b, at, &mut acc);
                }
                x = x.add(n * BLOCK);
                meta = meta.add(n * META);
                if offset {
                    starts = starts.add(n * halves);
                }
            }
            done += blocks;
        }
        let mut sums = [[[0.0; PANEL]; P]; R];
        let kept = if to < job.blocks { partial } else { sums.as_mut_ptr().cast() };
        for r in 0..R {
            for p in 0..P {
                L::store(kept.add((r * P + p) * PANEL), acc[r][p]);
            }
        }
        if to == job.blocks {
            for (r, sums) in sums.iter().enumerate() {
                for (p, sums) in sums[..place.live].iter().enumerate() {
                    job.out.put::<L>(place.first + place.own + r, place.panel + p, sums);
                }
            }
        }
    }
}

/// Where the activations of a block begin.
#[derive(Clone, Copy)]
struct At {
    x: *const i8,
    meta: *const f32,
    starts: *const i32,
}

/// Adds what half `H` of block `b` (all of it, if the form has no halves) gives for all rows and panels.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn half<L: Lanes, S: Source<L>, const R: usize, const P: usize, const H: usize>(
    sources: &[S; P],
    chunks: &[S::Chunk; P],
    b: usize,
    at: At,
    acc: &mut [[L::F; P]; R],
) {
    unsafe {
        let halves = 1 + S::Form::HALVES as usize;
        let offset = offset::<S::Form>(L::BYTE_OFFSET) != 0;
        let steps = S::Form::BITS <= L::STEP_BITS;
        let narrow = steps && S::Form::BITS <= L::NARROW_BITS;
        let mut sums = [[L::splat_int(0); P]; R];
        if offset && !narrow {
            for r in 0..R {
                sums[r] = [L::splat_int(*at.starts.add(r * halves + H)); P];
            }
        }
        if !steps {
            for p in 0..P {
                let [c0, c1, c2, c3, c4, c5, c6, c7] = sources[p].codes(&chunks[p], b);
                for r in 0..R {
                    let (x, sum) = (at.x.add(r * BLOCK), sums[r][p]);
                    let (low, high) = ([c0, c1, c2, c3], [c4, c5, c6, c7]);
                    let all = [c0, c1, c2, c3, c4, c5, c6, c7];
                    sums[r][p] = match (S::Form::BITS, S::Form::HALVES, H) {
                        (4, false, _) => L::dot8::<4>(sum, all, x),
                        (4, true, 0) => L::dot4::<4>(sum, low, x),
                        (4, true, _) => L::dot4::<4>(sum, high, x.add(16)),
                        (5, ..) => L::dot8::<5>(sum, all, x),
                        (6, false, _) => L::dot8::<6>(sum, all, x),
                        (6, true, 0) => L::dot4::<6>(sum, low, x),
                        (6, true, _) => L::dot4::<6>(sum, high, x.add(16)),
                        (7, ..) => L::dot8::<7>(sum, all, x),
                        (_, false, _) => L::dot8::<8>(sum, all, x),
                        (_, true, 0) => L::dot4::<8>(sum, low, x),
                        (_, true, _) => L::dot4::<8>(sum, high, x.add(16)),
                    };
                }
            }
        } else {
            // One sum is a chain of slow instructions; of several sums one waits while others go on.
            let alone = L::WIDE && R * P == 1;
            let mut more = [[L::splat_int(0); P]; R];
            let other = if alone { &mut more } else { &mut sums };
            if H == 0 {
                pair::<L, S, R, P, 0, 1>(sources, chunks, b, at.x, other);
                pair::<L, S, R, P, 2, 3>(sources, chunks, b, at.x, &mut sums);
            }
            if H + 1 == halves {
                let other = if alone { &mut more } else { &mut sums };
                pair::<L, S, R, P, 4, 5>(sources, chunks, b, at.x, other);
                pair::<L, S, R, P, 6, 7>(sources, chunks, b, at.x, &mut sums);
            }
            if alone {
                sums[0][0] = L::add_int(sums[0][0], more[0][0]);
            }
        }
        L::here();
        let mut scales = [sources[0].scales(&chunks[0], b)[H]; P];
        let mut mins = scales;
        for p in 0..P {
            if p > 0 {
                scales[p] = sources[p].scales(&chunks[p], b)[H];
            }
            if S::Form::MINS {
                mins[p] = sources[p].mins(&chunks[p], b)[H];
            }
        }
        for r in 0..R {
            let meta = at.meta.add(r * META);
            let dx = L::splat(*meta);
            for p in 0..P {
                if narrow {
                    let start = if offset { *at.starts.add(r * halves + H) } else { 0 };
                    sums[r][p] = L::finish(sums[r][p], L::splat_int(start));
                }
                acc[r][p] = L::fma(L::to_f32(sums[r][p]), L::mul(scales[p], dx), acc[r][p]);
                if S::Form::MINS {
                    let s = L::splat(*meta.add(if S::Form::HALVES { 2 + H } else { 1 }));
                    acc[r][p] = L::fnma(mins[p], s, acc[r][p]);
                }
            }
        }
    }
}

/// Adds the products of groups `G` and `H` of block `b` to the sums of all rows and panels.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn pair<L: Lanes, S: Source<L>, const R: usize, const P: usize, const G: usize, const H: usize>(
    sources: &[S; P],
    chunks: &[S::Chunk; P],
    b: usize,
    x: *const i8,
    sums: &mut [[L::I; P]; R],
) {
    unsafe {
        if !(S::WORDS && L::WHOLE_BLOCKS) {
            L::here();
        }
        if !(S::WORDS || L::PAIRS && matches!(S::Form::BITS, 5 | 6)) {
            step::<L, S, R, P, G>(sources, chunks, b, x, sums);
            return step::<L, S, R, P, H>(sources, chunks, b, x, sums);
        }
        for p in 0..P {
            // Both groups before any product: they may share words that are looked up once.
            let codes = [sources[p].group::<G>(&chunks[p], b), sources[p].group::<H>(&chunks[p], b)];
            for r in 0..R {
                let (x, sum) = (x.add(r * BLOCK), sums[r][p]);
                let x = [L::four(x.add(4 * G)), L::four(x.add(4 * H))];
                sums[r][p] = if S::WORDS {
                    L::step::<7>(L::step::<7>(sum, codes[0], x[0]), codes[1], x[1])
                } else {
                    L::step_pair(sum, codes, x)
                };
            }
        }
    }
}

/// Adds the products of group `G` of block `b` to the sums of all rows and panels.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn step<L: Lanes, S: Source<L>, const R: usize, const P: usize, const G: usize>(
    sources: &[S; P],
    chunks: &[S::Chunk; P],
    b: usize,
    x: *const i8,
    sums: &mut [[L::I; P]; R],
) {
    unsafe {
        let mut codes = [sources[0].group::<G>(&chunks[0], b); P];
        for p in 1..P {
            codes[p] = sources[p].group::<G>(&chunks[p], b);
        }
        for r in 0..R {
            let four = L::four(x.add(r * BLOCK + 4 * G));
            for p in 0..P {
                sums[r][p] = match S::Form::BITS {
                    4 => L::step::<4>(sums[r][p], codes[p], four),
                    5 | 6 => L::step::<6>(sums[r][p], codes[p], four),
                    7 => L::step::<7>(sums[r][p], codes[p], four),
                    _ => L::step::<8>(sums[r][p], codes[p], four),
                };
            }
        }
    }
}

/// All rows of activations against `P` panels; [`Place`] says which, and what blocks. `FULL`: with tiles of six.
#[inline(always)]
pub(super) unsafe fn all_rows<L: Lanes, S: Source<L>, const P: usize, const FULL: bool>(
    sources: [S; P],
    job: &Job,
    place: Place,
) {
    let mut first = 0;
    while first < job.rows {
        let n = TILE_ROWS.min(job.rows - first);
        // SAFETY: as the caller promised.
        unsafe {
            let mut own = 0;
            while own < n {
                let place = Place { first, n, own, ..place };
                if FULL && L::WIDE && n == TILE_ROWS {
                    tile::<L, S, TILE_ROWS, P>(sources, job, Place { n: TILE_ROWS, own: 0, ..place });
                    own += TILE_ROWS;
                } else if L::WIDE && n - own >= 4 {
                    tile::<L, S, 4, P>(sources, job, place);
                    own += 4;
                } else if !L::WIDE && !L::ROW_BY_ROW && n - own >= 3 {
                    tile::<L, S, 3, P>(sources, job, place);
                    own += 3;
                } else {
                    tile::<L, S, 1, P>(sources, job, place);
                    own += 1;
                }
            }
        }
        first += n;
    }
}
