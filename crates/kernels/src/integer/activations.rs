//! Activations quantised to eight bits, row by row, in blocks of 32.
//!
//! For a block `x` with `max = max|x|`:
//! ```text
//! dx = max / 127        q = round_half_even(x · (127 / max))   ∈ [−127, 127]
//! ```
//! with one rounding per written operation. Two kinds of block are special:
//! - `max < 2⁻¹¹⁹` (zeros included): `dx = 0`, `q = 0`. So `127 / max` never overflows and `dx` is never subnormal.
//! - a NaN or an infinity inside: `dx` is the canonical NaN, `q = 0`. Every output of the row is then NaN.
//!
//! Rows are kept in tiles of at most six, block by block, as the kernels walk over them.

use super::kernel::{self, TILE_ROWS, tile_of};
use crate::pool::{self, Shared};
use crate::{Isa, MatrixView};
use std::cell::{Cell, RefCell};
use std::mem;

/// Values in a block of activations.
pub const BLOCK: usize = 32;
/// f32 values kept per block: `dx`, `dx·sum`, and `dx·sum` of each half.
pub(super) const META: usize = 4;

const TINY: f32 = f32::from_bits(8 << 23); // 2⁻¹¹⁹
const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer, half to even

/// A matrix of activations (`rows × cols`) quantised to eight bits, to be multiplied with any number of
/// [`IntegerWeights`](super::IntegerWeights) of as many columns. Columns are padded with zeros to a multiple of 32.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    blocks: usize,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    codes: Vec<i8>,
    meta: Vec<f32>,
    sums: Vec<[i32; 2]>,
}

/// Codes whose memory is kept for the next activations of a thread, at most.
const KEPT: usize = 1 << 18;

thread_local! { static SPARE: Cell<Memory> = const { Cell::new(Memory { codes: Vec::new(), meta: Vec::new(), sums: Vec::new() }) } }

impl Drop for Activations {
    fn drop(&mut self) {
        if self.memory.codes.capacity() <= KEPT {
            // A thread that ends keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(mem::take(&mut self.memory)));
        }
    }
}

impl Activations {
    /// Quantises every row of `x`. A row of the result depends on its own row of `x` only.
    pub fn quantize(x: MatrixView<'_>) -> Activations {
        let mut activations = Activations { rows: 0, cols: 0, blocks: 0, memory: SPARE.take() };
        activations.assign(x);
        activations
    }

    /// The same into memory that is there already.
    pub fn assign(&mut self, x: MatrixView<'_>) {
        let (rows, cols) = (x.rows(), x.cols());
        let blocks = cols.div_ceil(BLOCK);
        let count = rows * blocks;
        (self.rows, self.cols, self.blocks) = (rows, cols, blocks);
        self.memory.codes.resize(count * BLOCK, 0);
        self.memory.meta.resize(count * META, 0.0);
        self.memory.sums.resize(count, [0; 2]);
        let isa = Isa::current();
        let (codes, meta, sums) = (
            Shared(self.memory.codes.as_mut_ptr()),
            Shared(self.memory.meta.as_mut_ptr()),
            Shared(self.memory.sums.as_mut_ptr()),
        );
        let tiles: Vec<_> = kernel::tiles(rows).collect();
        let grain = (32_768 / (cols.max(1) * TILE_ROWS)).max(1);
        pool::parallel_ranges(tiles.len(), grain, |range| {
            for &(first, n) in &tiles[range] {
                let at = first * blocks;
                // SAFETY: tiles cover disjoint ranges of the three vectors.
                let tile = unsafe {
                    Tile {
                        codes: std::slice::from_raw_parts_mut(codes.get().add(at * BLOCK).cast(), n * blocks),
                        meta: std::slice::from_raw_parts_mut(meta.get().add(at * META).cast(), n * blocks),
                        sums: std::slice::from_raw_parts_mut(sums.get().add(at), n * blocks),
                        rows: n,
                    }
                };
                quantize_tile(isa, x.rows_range(first..first + n), tile);
            }
        });
    }

    /// Number of rows (tokens).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (features), without padding.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that this copy of the activations takes.
    pub fn resident_bytes(&self) -> usize {
        self.memory.codes.len() + 4 * self.memory.meta.len() + 8 * self.memory.sums.len()
    }

    /// The codes of block `b` of row `r`, and its `dx`.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, r: usize, b: usize) -> ([i8; BLOCK], f32) {
        assert!(r < self.rows && b < self.blocks, "block {b} of row {r} in {} x {} blocks", self.rows, self.blocks);
        let (first, n) = tile_of(self.rows, r);
        let at = first * self.blocks + b * n + (r - first);
        let mut codes = [0; BLOCK];
        codes.copy_from_slice(&self.memory.codes[at * BLOCK..][..BLOCK]);
        (codes, self.memory.meta[at * META])
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn codes(&self) -> *const i8 {
        self.memory.codes.as_ptr()
    }

    pub(super) fn meta(&self) -> *const f32 {
        self.memory.meta.as_ptr()
    }

    /// Runs `f` with the starting values of integer sums over weights whose codes are stored `offset` too high:
    /// `−offset · Σ q` for every block, or for both halves of it.
    pub(super) fn with_starts<R>(&self, offset: i32, halves: bool, f: impl FnOnce(&[i32]) -> R) -> R {
        thread_local! { static STARTS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) } }
        if offset == 0 {
            return f(&[]);
        }
        let mut starts = STARTS.take();
        starts.clear();
        if halves {
            starts.extend(self.memory.sums.iter().flatten().map(|s| -offset * s));
        } else {
            starts.extend(self.memory.sums.iter().map(|s| -offset * (s[0] + s[1])));
        }
        let result = f(&starts);
        STARTS.set(starts);
        result
    }
}

struct Tile<'a> {
    codes: &'a mut [[i8; BLOCK]],
    meta: &'a mut [[f32; META]],
    sums: &'a mut [[i32; 2]],
    rows: usize,
}

fn quantize_tile(isa: Isa, x: MatrixView<'_>, tile: Tile<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512(x: MatrixView<'_>, tile: Tile<'_>) {
            quantize_rows(x, tile);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(x: MatrixView<'_>, tile: Tile<'_>) {
            quantize_rows(x, tile);
        }
        // SAFETY: an `Isa` other than Scalar is only current where the machine has it.
        match isa {
            Isa::Avx512 => return unsafe { avx512(x, tile) },
            Isa::Avx2 => return unsafe { avx2(x, tile) },
            _ => {}
        }
    }
    let _ = isa;
    quantize_rows(x, tile);
}

#[inline(always)]
fn quantize_rows(x: MatrixView<'_>, mut tile: Tile<'_>) {
    for r in 0..tile.rows {
        let (whole, rest) = x.row(r).as_chunks::<BLOCK>();
        for (b, values) in whole.iter().enumerate() {
            tile.put(b, r, values);
        }
        if !rest.is_empty() {
            let mut values = [0.0; BLOCK];
            values[..rest.len()].copy_from_slice(rest);
            tile.put(whole.len(), r, &values);
        }
    }
}

impl Tile<'_> {
    /// Block `b` of row `r`.
    #[inline(always)]
    fn put(&mut self, b: usize, r: usize, values: &[f32; BLOCK]) {
        let at = b * self.rows + r;
        let (dx, sums) = quantize_block(values, &mut self.codes[at]);
        self.sums[at] = sums;
        self.meta[at] = [dx, dx * (sums[0] + sums[1]) as f32, dx * sums[0] as f32, dx * sums[1] as f32];
    }
}

#[inline(always)]
fn quantize_block(values: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    let mut top = 0;
    for v in values {
        top = top.max(v.to_bits() & 0x7fff_ffff); // ordered as the magnitudes are, NaN above infinity
    }
    let max = f32::from_bits(top);
    if top >= f32::INFINITY.to_bits() || max < TINY {
        codes.fill(0);
        return (if max < TINY { 0.0 } else { f32::NAN }, [0; 2]);
    }
    let inverse = 127.0 / max;
    let mut wide = [0i32; BLOCK];
    for (w, v) in wide.iter_mut().zip(values) {
        *w = (v * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
    }
    let mut sums = [0; 2];
    for (h, sum) in sums.iter_mut().enumerate() {
        *sum = wide[16 * h..16 * h + 16].iter().sum();
    }
    for (c, w) in codes.iter_mut().zip(wide) {
        *c = w as i8;
    }
    (max / 127.0, sums)
}
