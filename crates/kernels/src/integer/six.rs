//! Six-bit codes in blocks of 16.

use super::activations::{Activations, BLOCK};
use super::kernel::{self, CHUNK, PANEL, Panels, SixForm, Source};
use super::lanes::Lanes;
use super::pack::{Codes, Geometry, blocks, build, lanes};
use super::storage::Bytes;
use super::{Packed, RowSource};
use crate::{MatrixMut, MatrixView};
use half::f16;

/// A matrix of six-bit codes: the weight is `d·sc[b] · (code − 32)`, `b = k / 16`, with one f16 `d` per 256 columns and
/// signed eight-bit `sc` (Q6_K).
///
/// A block of sixteen rows is three lines of 64 bytes: the low four bits of k = 0..8 (as nibbles), of k = 8..16, and the
/// high two bits of all, k = 4j..4j+4 in bits 2j and 2j+1.
pub struct SixPanels {
    rows: usize,
    cols: usize,
    data: Bytes,
}

/// One row to be filled by the caller of [`SixPanels::new`]. All slices are zero at first.
pub struct SixRow<'a> {
    /// One code per column, 0..=63.
    pub codes: &'a mut [u8],
    /// Bits of the f16 factor of the scales, one per 256 columns.
    pub d: &'a mut [u16],
    /// One scale per block of 16 columns.
    pub scales: &'a mut [i8],
}

const HALF_BYTES: usize = 192;
/// Per chunk d of sixteen rows, per block of 32 two scales of each.
const SIX: Geometry = Geometry { head: 2 * PANEL, field: 2 * PANEL, code: 2 * HALF_BYTES };

impl SixPanels {
    /// Packs `rows × cols` codes. `fill(row, slices)` is called once per row, from several threads.
    ///
    /// # Panics
    /// If `cols` is not a multiple of 32.
    pub fn new(rows: usize, cols: usize, fill: impl Fn(usize, SixRow<'_>) + Sync) -> SixPanels {
        assert!(cols.is_multiple_of(BLOCK), "{cols} columns of six-bit codes are not whole blocks of {BLOCK}");
        let (blocks, supers) = (blocks(cols), cols.div_ceil(256));
        let halves = cols.div_ceil(16);
        let data = build(rows.div_ceil(PANEL), SIX.panel(blocks), |panel, bytes| {
            let mut codes = Codes::new(cols);
            let (mut d, mut scales) = (vec![0u16; supers], vec![0i8; halves]);
            for (lane, row) in lanes(panel, rows) {
                d.fill(0);
                scales.fill(0);
                fill(row, SixRow { codes: codes.row(lane, cols), d: &mut d, scales: &mut scales });
                for (s, d) in d.iter().enumerate() {
                    bytes[SIX.chunk(s) + 2 * lane..][..2].copy_from_slice(&d.to_ne_bytes());
                }
                for (h, scale) in scales.iter().enumerate() {
                    bytes[SIX.chunk(h / 16) + SIX.head + h % 16 * PANEL + lane] = *scale as u8;
                }
            }
            for first in (0..blocks).step_by(CHUNK) {
                let n = CHUNK.min(blocks - first);
                let body = &mut bytes[SIX.chunk(first / CHUNK) + SIX.fields(n)..];
                for (h, to) in body[..n * SIX.code].chunks_exact_mut(HALF_BYTES).enumerate() {
                    put_sixes(&codes, 2 * first + h, to);
                }
            }
        });
        SixPanels { rows, cols, data }
    }

    fn panel_bytes(&self) -> usize {
        SIX.panel(blocks(self.cols))
    }

    fn chunk(&self, row: usize, b: usize) -> &[u8] {
        &self.data.as_slice()[row / PANEL * self.panel_bytes() + SIX.chunk(b / CHUNK)..]
    }
}

fn put_sixes(codes: &Codes, half: usize, to: &mut [u8]) {
    for j in 0..4 {
        for (i, c) in codes.group(4 * half + j).into_iter().enumerate() {
            to[j / 2 * 64 + i] |= (c & 15) << (4 * (j % 2));
            to[128 + i] |= (c >> 4 & 3) << (2 * j);
        }
    }
}

fn six(half: &[u8], lane: usize, k: usize) -> i8 {
    let (j, i) = (k / 4, lane * 4 + k % 4);
    let low = half[j / 2 * 64 + i] >> (4 * (j % 2)) & 15;
    let high = half[128 + i] >> (2 * j) & 3;
    (low | high << 4) as i8 - 32
}

impl RowSource for SixPanels {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn block(&self) -> usize {
        16
    }
    fn has_min(&self) -> bool {
        false
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], _mins: &mut [f32]) {
        let (blocks, lane) = (blocks(self.cols), row % PANEL);
        for (h, codes) in codes.chunks_mut(16).enumerate() {
            let b = h / 2;
            let chunk = self.chunk(row, b);
            let d = f16::from_ne_bytes([chunk[2 * lane], chunk[2 * lane + 1]]).to_f32();
            scales[h] = d * f32::from(chunk[SIX.head + h % 16 * PANEL + lane] as i8);
            let n = CHUNK.min(blocks - b / CHUNK * CHUNK);
            let half = &chunk[SIX.fields(n) + h % 16 * HALF_BYTES..][..HALF_BYTES];
            for (k, c) in codes.iter_mut().enumerate() {
                *c = six(half, lane, k);
            }
        }
    }
}

impl Packed for SixPanels {
    fn multiply(&self, x: &Activations, y: &mut MatrixMut<'_>, accumulate: bool) {
        kernel::multiply(self, x, y, accumulate);
    }

    fn multiply_f32(&self, x: MatrixView<'_>, y: &mut MatrixMut<'_>, accumulate: bool) {
        kernel::multiply_f32(self, x, y, accumulate);
    }
}

#[derive(Clone, Copy)]
pub(super) struct SixSource(*const u8);

#[derive(Clone, Copy)]
pub(super) struct SixChunk<F> {
    d: F,
    fields: *const i8,
    codes: *const u8,
}

#[inline(always)]
unsafe fn six_group<L: Lanes, const G: usize>(block: *const u8) -> L::C {
    unsafe {
        let half = block.add(G / 4 * HALF_BYTES);
        let (pair, bits) = (L::codes(half.add(G % 4 / 2 * 64)), L::codes(half.add(128)));
        match G % 4 {
            0 => L::six_bits::<0>(L::low_nibbles(pair), bits),
            1 => L::six_bits::<1>(L::high_nibbles(pair), bits),
            2 => L::six_bits::<2>(L::low_nibbles(pair), bits),
            _ => L::six_bits::<3>(L::high_nibbles(pair), bits),
        }
    }
}

impl<L: Lanes> Source<L> for SixSource {
    type Form = SixForm;
    type Chunk = SixChunk<L::F>;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, blocks: usize) -> SixChunk<L::F> {
        unsafe {
            let head = self.0.add(SIX.chunk(index));
            SixChunk {
                d: L::from_half(head.cast()),
                fields: head.add(SIX.head).cast(),
                codes: head.add(SIX.fields(blocks)),
            }
        }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &SixChunk<L::F>, block: usize) -> [L::C; 8] {
        unsafe {
            let p = chunk.codes.add(block * SIX.code);
            [
                six_group::<L, 0>(p),
                six_group::<L, 1>(p),
                six_group::<L, 2>(p),
                six_group::<L, 3>(p),
                six_group::<L, 4>(p),
                six_group::<L, 5>(p),
                six_group::<L, 6>(p),
                six_group::<L, 7>(p),
            ]
        }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &SixChunk<L::F>, block: usize) -> L::C {
        unsafe { six_group::<L, G>(chunk.codes.add(block * SIX.code)) }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &SixChunk<L::F>, block: usize) -> [L::F; 2] {
        unsafe {
            let p = chunk.fields.add(block * 2 * PANEL);
            [L::mul(chunk.d, L::from_i8(p)), L::mul(chunk.d, L::from_i8(p.add(PANEL)))]
        }
    }
}

impl Panels for SixPanels {
    type Form = SixForm;
    type Source<L: Lanes> = SixSource;
    fn source<L: Lanes>(&self, panel: usize) -> SixSource {
        // SAFETY: within the allocation, for every panel that exists.
        SixSource(unsafe { self.data.as_ptr().add(panel * self.panel_bytes()) })
    }
    fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}
