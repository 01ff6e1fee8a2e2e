//! Four-bit codes in blocks of 32.

use super::activations::{Activations, BLOCK};
use super::flat::{CodeLayout, FlatPanels, FlatSource};
use super::kernel::{self, CHUNK, Form, NibbleForm, NibbleMinForm, PANEL, Panels, Source};
use super::lanes::Lanes;
use super::pack::{Codes, FlatRow, Geometry, Scales, blocks, build, lanes};
use super::storage::Bytes;
use super::{Packed, RowSource};
use crate::MatrixMut;
use half::f16;
use std::marker::PhantomData;

/// A matrix of four-bit codes. The weight is
/// - flat without mins: `scale[n][b] · (code − 8)` (Q4_0, symmetric int4),
/// - flat with mins: `scale[n][b] · code − min[n][b]` (Q4_1 with `min = −m`, int4 grids with `min = scale · zero`),
/// - with super-blocks of 256: `d·sc[b] · code − dmin·mn[b]` (Q4_K),
///
/// `b = k / 32`. Two codes share a byte: low halves are k = 8i..8i+4, high halves 8i+4..8i+8, of sixteen rows side by side.
pub struct NibblePanels(Kind);

enum Kind {
    Flat(FlatPanels),
    Super(SuperPanels),
}

struct SuperPanels {
    rows: usize,
    cols: usize,
    data: Bytes,
}

/// One row to be filled by the caller of [`NibblePanels::super_blocks`]. All slices are zero at first.
pub struct SuperRow<'a> {
    /// One code per column, 0..=15.
    pub codes: &'a mut [u8],
    /// Bits of the f16 factor of the scales, one per 256 columns.
    pub d: &'a mut [u16],
    /// Bits of the f16 factor of the mins, one per 256 columns.
    pub dmin: &'a mut [u16],
    /// One scale per block of 32 columns.
    pub scales: &'a mut [u8],
    /// One min per block of 32 columns.
    pub mins: &'a mut [u8],
}

const NIBBLE_BYTES: usize = 256;
/// Per chunk d and dmin of sixteen rows, per block their scales and mins.
const SUPER: Geometry = Geometry { head: 4 * PANEL, field: 2 * PANEL, code: NIBBLE_BYTES };

impl NibblePanels {
    /// Packs `rows × cols` codes (0..=15) with a scale, and a min if `has_min`, per group of columns.
    /// `fill(row, slices)` is called once per row, from several threads.
    ///
    /// # Panics
    /// If the group of [`Scales::F32`] is not a positive multiple of 32.
    pub fn flat(
        rows: usize,
        cols: usize,
        scales: Scales,
        has_min: bool,
        fill: impl Fn(usize, FlatRow<'_, u8>) + Sync,
    ) -> NibblePanels {
        NibblePanels(Kind::Flat(FlatPanels::new((rows, cols), scales, has_min, NIBBLE_BYTES, fill, put_nibbles)))
    }

    /// Packs `rows × cols` codes (0..=15) in super-blocks of 256 columns (the last may be shorter).
    /// `fill(row, slices)` is called once per row, from several threads.
    pub fn super_blocks(rows: usize, cols: usize, fill: impl Fn(usize, SuperRow<'_>) + Sync) -> NibblePanels {
        let (blocks, supers) = (blocks(cols), cols.div_ceil(256));
        let data = build(rows.div_ceil(PANEL), SUPER.panel(blocks), |panel, bytes| {
            let mut codes = Codes::new(cols);
            let (mut halves, mut fields) = (vec![0u16; 2 * supers], vec![0u8; 2 * blocks]);
            for (lane, row) in lanes(panel, rows) {
                halves.fill(0);
                fields.fill(0);
                let (d, dmin) = halves.split_at_mut(supers);
                let (scales, mins) = fields.split_at_mut(blocks);
                let row_codes = codes.row(lane, cols);
                fill(
                    row,
                    SuperRow { codes: row_codes, d: &mut *d, dmin: &mut *dmin, scales: &mut *scales, mins: &mut *mins },
                );
                for s in 0..supers {
                    let head = &mut bytes[SUPER.chunk(s)..];
                    head[2 * lane..][..2].copy_from_slice(&d[s].to_ne_bytes());
                    head[2 * (PANEL + lane)..][..2].copy_from_slice(&dmin[s].to_ne_bytes());
                    for b in s * CHUNK..blocks.min((s + 1) * CHUNK) {
                        let field = &mut head[SUPER.head + (b % CHUNK) * SUPER.field..];
                        field[lane] = scales[b];
                        field[PANEL + lane] = mins[b];
                    }
                }
            }
            for first in (0..blocks).step_by(CHUNK) {
                let n = CHUNK.min(blocks - first);
                let body = &mut bytes[SUPER.chunk(first / CHUNK) + SUPER.fields(n)..];
                for b in 0..n {
                    put_nibbles(&codes, first + b, &mut body[b * NIBBLE_BYTES..][..NIBBLE_BYTES]);
                }
            }
        });
        NibblePanels(Kind::Super(SuperPanels { rows, cols, data }))
    }
}

fn put_nibbles(codes: &Codes, block: usize, to: &mut [u8]) {
    for (i, to) in to.chunks_exact_mut(64).enumerate() {
        let (low, high) = (codes.group(8 * block + 2 * i), codes.group(8 * block + 2 * i + 1));
        for (to, (low, high)) in to.iter_mut().zip(low.iter().zip(high)) {
            *to = low & 15 | high << 4;
        }
    }
}

fn nibble(block: &[u8], lane: usize, k: usize) -> u8 {
    let byte = block[k / 8 * 64 + lane * 4 + k % 4];
    if k % 8 < 4 { byte & 15 } else { byte >> 4 }
}

impl SuperPanels {
    fn panel_bytes(&self) -> usize {
        SUPER.panel(blocks(self.cols))
    }

    fn chunk(&self, row: usize, b: usize) -> &[u8] {
        &self.data.as_slice()[row / PANEL * self.panel_bytes() + SUPER.chunk(b / CHUNK)..]
    }
}

impl RowSource for NibblePanels {
    fn rows(&self) -> usize {
        match &self.0 {
            Kind::Flat(p) => p.rows,
            Kind::Super(p) => p.rows,
        }
    }
    fn cols(&self) -> usize {
        match &self.0 {
            Kind::Flat(p) => p.cols,
            Kind::Super(p) => p.cols,
        }
    }
    fn block(&self) -> usize {
        BLOCK
    }
    fn has_min(&self) -> bool {
        match &self.0 {
            Kind::Flat(p) => p.flat.has_min,
            Kind::Super(_) => true,
        }
    }
    fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Flat(p) => p.resident_bytes(),
            Kind::Super(p) => p.data.len(),
        }
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let lane = row % PANEL;
        match &self.0 {
            Kind::Flat(p) => {
                let offset = if p.flat.has_min { 0 } else { 8 };
                for (b, codes) in codes.chunks_mut(BLOCK).enumerate() {
                    let block = p.block(row, b);
                    for (k, c) in codes.iter_mut().enumerate() {
                        *c = nibble(block, lane, k) as i8 - offset;
                    }
                }
                p.unpack_fields(row, scales, mins);
            }
            Kind::Super(p) => {
                let blocks = blocks(p.cols);
                for (b, codes) in codes.chunks_mut(BLOCK).enumerate() {
                    let chunk = p.chunk(row, b);
                    let half = |i: usize| f16::from_ne_bytes([chunk[2 * i], chunk[2 * i + 1]]).to_f32();
                    let field = &chunk[SUPER.head + b % CHUNK * SUPER.field..];
                    scales[b] = half(lane) * f32::from(field[lane]);
                    mins[b] = half(PANEL + lane) * f32::from(field[PANEL + lane]);
                    let n = CHUNK.min(blocks - b / CHUNK * CHUNK);
                    let block = &chunk[SUPER.fields(n) + b % CHUNK * NIBBLE_BYTES..][..NIBBLE_BYTES];
                    for (k, c) in codes.iter_mut().enumerate() {
                        *c = nibble(block, lane, k) as i8;
                    }
                }
            }
        }
    }
}

impl Packed for NibblePanels {
    fn multiply(&self, x: &Activations, y: &mut MatrixMut<'_>, accumulate: bool) {
        match &self.0 {
            Kind::Flat(p) => match (p.flat.half, p.flat.has_min) {
                (true, false) => kernel::multiply(&FlatNibbles::<NibbleForm, true>::new(p), x, y, accumulate),
                (true, true) => kernel::multiply(&FlatNibbles::<NibbleMinForm, true>::new(p), x, y, accumulate),
                (false, false) => kernel::multiply(&FlatNibbles::<NibbleForm, false>::new(p), x, y, accumulate),
                (false, true) => kernel::multiply(&FlatNibbles::<NibbleMinForm, false>::new(p), x, y, accumulate),
            },
            Kind::Super(p) => kernel::multiply(p, x, y, accumulate),
        }
    }

    fn multiply_f32(&self, x: crate::MatrixView<'_>, y: &mut MatrixMut<'_>, accumulate: bool) {
        match &self.0 {
            Kind::Flat(p) => match (p.flat.half, p.flat.has_min) {
                (true, false) => kernel::multiply_f32(&FlatNibbles::<NibbleForm, true>::new(p), x, y, accumulate),
                (true, true) => kernel::multiply_f32(&FlatNibbles::<NibbleMinForm, true>::new(p), x, y, accumulate),
                (false, false) => kernel::multiply_f32(&FlatNibbles::<NibbleForm, false>::new(p), x, y, accumulate),
                (false, true) => kernel::multiply_f32(&FlatNibbles::<NibbleMinForm, false>::new(p), x, y, accumulate),
            },
            Kind::Super(p) => kernel::multiply_f32(p, x, y, accumulate),
        }
    }
}

#[derive(Clone, Copy)]
struct Nibbles<F>(PhantomData<F>);

#[inline(always)]
unsafe fn nibble_group<L: Lanes, const G: usize>(p: *const u8) -> L::C {
    unsafe {
        let pair = L::codes(p.add(G / 2 * 64));
        if G.is_multiple_of(2) { L::low_nibbles(pair) } else { L::high_nibbles(pair) }
    }
}

#[inline(always)]
unsafe fn nibble_codes<L: Lanes>(p: *const u8) -> [L::C; 8] {
    unsafe {
        [
            nibble_group::<L, 0>(p),
            nibble_group::<L, 1>(p),
            nibble_group::<L, 2>(p),
            nibble_group::<L, 3>(p),
            nibble_group::<L, 4>(p),
            nibble_group::<L, 5>(p),
            nibble_group::<L, 6>(p),
            nibble_group::<L, 7>(p),
        ]
    }
}

impl<F: Form> CodeLayout for Nibbles<F> {
    type Form = F;
    const BYTES: usize = NIBBLE_BYTES;
    #[inline(always)]
    unsafe fn codes<L: Lanes>(p: *const u8) -> [L::C; 8] {
        unsafe { nibble_codes::<L>(p) }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes, const G: usize>(p: *const u8) -> L::C {
        unsafe { nibble_group::<L, G>(p) }
    }
}

struct FlatNibbles<'a, F, const HALF: bool>(&'a FlatPanels, PhantomData<F>);

impl<'a, F, const HALF: bool> FlatNibbles<'a, F, HALF> {
    fn new(panels: &'a FlatPanels) -> Self {
        FlatNibbles(panels, PhantomData)
    }
}

impl<F: Form, const HALF: bool> Panels for FlatNibbles<'_, F, HALF> {
    type Form = F;
    type Source<L: Lanes> = FlatSource<Nibbles<F>, HALF>;
    fn source<L: Lanes>(&self, panel: usize) -> Self::Source<L> {
        self.0.source(panel)
    }
    fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.cols)
    }
}

#[derive(Clone, Copy)]
struct SuperSource(*const u8);

#[derive(Clone, Copy)]
struct SuperChunk<F> {
    d: F,
    dmin: F,
    fields: *const u8,
    codes: *const u8,
}

impl<L: Lanes> Source<L> for SuperSource {
    type Form = NibbleMinForm;
    type Chunk = SuperChunk<L::F>;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, blocks: usize) -> SuperChunk<L::F> {
        unsafe {
            let head = self.0.add(SUPER.chunk(index));
            SuperChunk {
                d: L::from_half(head.cast()),
                dmin: L::from_half(head.cast::<u16>().add(PANEL)),
                fields: head.add(SUPER.head),
                codes: head.add(SUPER.fields(blocks)),
            }
        }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::C; 8] {
        unsafe { nibble_codes::<L>(chunk.codes.add(block * NIBBLE_BYTES)) }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &SuperChunk<L::F>, block: usize) -> L::C {
        unsafe { nibble_group::<L, G>(chunk.codes.add(block * NIBBLE_BYTES)) }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::F; 2] {
        unsafe { [L::mul(chunk.d, L::from_u8(chunk.fields.add(block * SUPER.field))); 2] }
    }
    #[inline(always)]
    unsafe fn mins(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::F; 2] {
        unsafe { [L::mul(chunk.dmin, L::from_u8(chunk.fields.add(block * SUPER.field + PANEL))); 2] }
    }
}

impl Panels for SuperPanels {
    type Form = NibbleMinForm;
    type Source<L: Lanes> = SuperSource;
    fn source<L: Lanes>(&self, panel: usize) -> SuperSource {
        // SAFETY: within the allocation, for every panel that exists.
        SuperSource(unsafe { self.data.as_ptr().add(panel * self.panel_bytes()) })
    }
    fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}
