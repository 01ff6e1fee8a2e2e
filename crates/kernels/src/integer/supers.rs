//! Super-blocks of 256 columns: an f16 factor, maybe a second one for mins, and small integers for every 16 or 32 columns.

use super::activations::BLOCK;
use super::codes::{self, CodeLayout, Codebook, Planes, Steps, Table, Words, block_bytes};
use super::kernel::*;
use super::lanes::Lanes;
use super::pack::{Codes, Geometry, blocks, build, lanes};
use super::storage::Bytes;
use super::{RowSource, Visit};
use half::f16;
use std::marker::PhantomData;

/// The GGUF types with super-blocks that have kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuperKind {
    /// `d·sc · code − dmin·mn` per 16 columns: codes 0..=3, sc and mn 0..=15.
    Q2K,
    /// `d·sc · (code − 4)` per 16 columns: codes 0..=7, sc −128..=127.
    Q3K,
    /// `d·sc · code − dmin·mn` per 32 columns: codes 0..=15, sc and mn 0..=255.
    Q4K,
    /// The same with codes 0..=31.
    Q5K,
    /// `d·sc · (code − 32)` per 16 columns: codes 0..=63, sc −128..=127.
    Q6K,
    /// `d·sc · steps[code]` per 32 columns with [`Steps::Iq4`]: sc −128..=127.
    Iq4Xs,
    /// `d·(0.5 + sc)/4 · ±magnitude` per 32 columns: sc 0..=15, magnitudes from a [`Codebook`]. Of every eight codes the first
    /// is the index of their codeword, the second has bit i set where weight i is negative.
    Iq2Xxs,
}

impl SuperKind {
    fn bits(self) -> u32 {
        match self {
            SuperKind::Q2K | SuperKind::Iq2Xxs => 2,
            SuperKind::Q3K => 3,
            SuperKind::Q4K | SuperKind::Iq4Xs => 4,
            SuperKind::Q5K => 5,
            SuperKind::Q6K => 6,
        }
    }

    /// Columns per scale.
    pub fn block(self) -> usize {
        match self {
            SuperKind::Q2K | SuperKind::Q3K | SuperKind::Q6K => 16,
            SuperKind::Q4K | SuperKind::Q5K | SuperKind::Iq4Xs | SuperKind::Iq2Xxs => 32,
        }
    }

    /// Whether there are mins.
    pub fn has_min(self) -> bool {
        matches!(self, SuperKind::Q2K | SuperKind::Q4K | SuperKind::Q5K)
    }

    /// Bytes of the scales and mins of a block of sixteen rows.
    fn field(self) -> usize {
        match self {
            SuperKind::Q2K => NibbleMins::BYTES,
            SuperKind::Q3K | SuperKind::Q6K => Signed::<true>::BYTES,
            SuperKind::Q4K | SuperKind::Q5K => ByteMins::BYTES,
            SuperKind::Iq4Xs => Signed::<false>::BYTES,
            SuperKind::Iq2Xxs => Nibbles::BYTES,
        }
    }

    /// What a stored code stands for.
    fn code(self, stored: u8) -> i8 {
        match self {
            SuperKind::Q3K => stored as i8 - 4,
            SuperKind::Q6K => stored as i8 - 32,
            SuperKind::Iq4Xs => Steps::Iq4.values()[usize::from(stored)],
            SuperKind::Q2K | SuperKind::Q4K | SuperKind::Q5K | SuperKind::Iq2Xxs => stored as i8,
        }
    }
}

/// One row to be filled by the caller of [`SuperPanels::new`]. All slices are zero at first.
pub struct SuperRow<'a> {
    /// One stored code per column; see [`SuperKind`].
    pub codes: &'a mut [u8],
    /// Bits of the f16 factor of the scales, one per 256 columns.
    pub d: &'a mut [u16],
    /// Bits of the f16 factor of the mins, one per 256 columns, or none.
    pub dmin: &'a mut [u16],
    /// One scale per 16 or 32 columns ([`SuperKind::block`]); signed ones as their byte.
    pub scales: &'a mut [u8],
    /// As many mins, or none.
    pub mins: &'a mut [u8],
}

/// A matrix with super-blocks of 256 columns (the last may be shorter).
///
/// A panel begins with its factors, `[super-block][d, dmin][16]`; then come the chunks with small integers and codes.
pub struct SuperPanels {
    rows: usize,
    cols: usize,
    kind: SuperKind,
    data: Bytes,
    book: Option<Codebook>,
}

impl SuperPanels {
    /// Packs `rows × cols` codes. `fill(row, slices)` is called once per row, from several threads.
    ///
    /// # Panics
    /// If there are scales per 16 columns, and `cols` is not a multiple of 32; or the type has a codebook.
    pub fn new(shape: (usize, usize), kind: SuperKind, fill: impl Fn(usize, SuperRow<'_>) + Sync) -> SuperPanels {
        assert!(kind != SuperKind::Iq2Xxs, "{kind:?} needs a codebook");
        SuperPanels::pack(shape, kind, None, fill)
    }

    /// The same for [`SuperKind::Iq2Xxs`] with its codewords.
    pub fn with_codebook(
        shape: (usize, usize),
        book: &Codebook,
        fill: impl Fn(usize, SuperRow<'_>) + Sync,
    ) -> SuperPanels {
        SuperPanels::pack(shape, SuperKind::Iq2Xxs, Some(book.clone()), fill)
    }

    fn pack(
        (rows, cols): (usize, usize),
        kind: SuperKind,
        book: Option<Codebook>,
        fill: impl Fn(usize, SuperRow<'_>) + Sync,
    ) -> SuperPanels {
        let whole = kind.block() == BLOCK || cols.is_multiple_of(BLOCK);
        assert!(whole, "{cols} columns of {kind:?} are not whole blocks of {BLOCK}");
        let (blocks, bits, geometry) = (blocks(cols), kind.bits(), geometry(kind));
        let (supers, parts, width) = (blocks.div_ceil(CHUNK), cols.div_ceil(kind.block()), width(kind));
        let (mut_supers, mut_parts) = if kind.has_min() { (supers, parts) } else { (0, 0) };
        let data = build(rows.div_ceil(PANEL), panel_bytes(kind, cols), |panel, bytes| {
            let (factors, chunks) = bytes.split_at_mut(factor_bytes(kind, cols));
            let mut row_codes = Codes::new(cols);
            let (mut d, mut dmin) = (vec![0u16; supers], vec![0u16; mut_supers]);
            let (mut scales, mut mins) = (vec![0u8; parts], vec![0u8; mut_parts]);
            for (lane, row) in lanes(panel, rows) {
                d.fill(0);
                dmin.fill(0);
                scales.fill(0);
                mins.fill(0);
                let to = SuperRow {
                    codes: row_codes.row(lane, cols),
                    d: &mut d,
                    dmin: &mut dmin,
                    scales: &mut scales,
                    mins: &mut mins,
                };
                fill(row, to);
                for (s, to) in factors.chunks_exact_mut(2 * PANEL * width).take(supers).enumerate() {
                    to[2 * lane..][..2].copy_from_slice(&d[s].to_ne_bytes());
                    if kind.has_min() {
                        to[2 * (PANEL + lane)..][..2].copy_from_slice(&dmin[s].to_ne_bytes());
                    }
                }
                let per_block = BLOCK / kind.block();
                for (i, scale) in scales.iter().enumerate() {
                    let b = i / per_block;
                    let chunk = &mut chunks[geometry.chunk(b / CHUNK)..];
                    put_field(kind, chunk, b % CHUNK, i % per_block * PANEL + lane, *scale, mins.get(i).copied());
                }
            }
            for first in (0..blocks).step_by(CHUNK) {
                let n = CHUNK.min(blocks - first);
                let body = &mut chunks[geometry.chunk(first / CHUNK) + geometry.fields(n)..];
                for (b, to) in body[..n * geometry.code].chunks_exact_mut(geometry.code).enumerate() {
                    match kind {
                        SuperKind::Iq2Xxs => codes::put_words(&row_codes, first + b, to),
                        _ => codes::put(bits, &row_codes, first + b, to),
                    }
                }
            }
        });
        SuperPanels { rows, cols, kind, data, book }
    }

    pub(super) fn visit(&self, visitor: impl Visit) {
        const IQ4: usize = Steps::Iq4 as usize;
        match self.kind {
            SuperKind::Q2K => visitor.visit(&View::<Planes<2>, NibbleHalvesMinForm, NibbleMins>::new(self)),
            SuperKind::Q3K => visitor.visit(&View::<Planes<3>, NibbleHalvesForm, Signed<true>>::new(self)),
            SuperKind::Q4K => visitor.visit(&View::<Planes<4>, NibbleMinForm, ByteMins>::new(self)),
            SuperKind::Q5K => visitor.visit(&View::<Planes<5>, FiveMinForm, ByteMins>::new(self)),
            SuperKind::Q6K => visitor.visit(&View::<Planes<6>, SixForm, Signed<true>>::new(self)),
            SuperKind::Iq4Xs => visitor.visit(&View::<Table<IQ4>, ByteForm, Signed<false>>::new(self)),
            SuperKind::Iq2Xxs => visitor.visit(&View::<Words, SevenForm, Nibbles>::new(self)),
        }
    }
}

/// Factors per super-block.
fn width(kind: SuperKind) -> usize {
    1 + usize::from(kind.has_min())
}

fn factor_bytes(kind: SuperKind, cols: usize) -> usize {
    (2 * PANEL * width(kind) * blocks(cols).div_ceil(CHUNK)).next_multiple_of(64)
}

fn geometry(kind: SuperKind) -> Geometry {
    Geometry { field: kind.field(), code: block_bytes(kind.bits()) }
}

fn panel_bytes(kind: SuperKind, cols: usize) -> usize {
    factor_bytes(kind, cols) + geometry(kind).panel(blocks(cols))
}

/// `at` is half · 16 + lane.
fn put_field(kind: SuperKind, chunk: &mut [u8], block: usize, at: usize, scale: u8, min: Option<u8>) {
    let field = &mut chunk[block * kind.field()..];
    match (kind, min) {
        (SuperKind::Q2K, min) => field[at] = scale & 15 | min.unwrap_or(0) << 4,
        (SuperKind::Iq2Xxs, _) => {
            let byte = &mut chunk[block / 2 * PANEL + at];
            *byte = *byte & !(15 << (block % 2 * 4)) | (scale & 15) << (block % 2 * 4);
        }
        (_, None) => field[at] = scale,
        (_, Some(min)) => (field[at], field[PANEL + at]) = (scale, min),
    }
}

fn get_field(kind: SuperKind, chunk: &[u8], block: usize, at: usize) -> (f32, f32) {
    let field = &chunk[block * kind.field()..];
    match kind {
        SuperKind::Q2K => (f32::from(field[at] & 15), f32::from(field[at] >> 4)),
        SuperKind::Q4K | SuperKind::Q5K => (f32::from(field[at]), f32::from(field[PANEL + at])),
        SuperKind::Q3K | SuperKind::Q6K | SuperKind::Iq4Xs => (f32::from(field[at] as i8), 0.0),
        SuperKind::Iq2Xxs => {
            let scale = f32::from(chunk[block / 2 * PANEL + at] >> (block % 2 * 4) & 15);
            (0.25 * scale + 0.125, 0.0)
        }
    }
}

impl RowSource for SuperPanels {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn block(&self) -> usize {
        self.kind.block()
    }
    fn has_min(&self) -> bool {
        self.kind.has_min()
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let (kind, lane, geometry, blocks) = (self.kind, row % PANEL, geometry(self.kind), blocks(self.cols));
        let panel = &self.data.as_slice()[row / PANEL * panel_bytes(kind, self.cols)..];
        let (factors, chunks) = panel.split_at(factor_bytes(kind, self.cols));
        for (i, codes) in codes.chunks_mut(kind.block()).enumerate() {
            let (b, first) = (i * kind.block() / BLOCK, i * kind.block() % BLOCK);
            let factors = &factors[2 * PANEL * width(kind) * (b / CHUNK)..];
            let half = |i: usize| f16::from_ne_bytes([factors[2 * i], factors[2 * i + 1]]).to_f32();
            let chunk = &chunks[geometry.chunk(b / CHUNK)..];
            let (scale, min) = get_field(kind, chunk, b % CHUNK, first / 16 * PANEL + lane);
            scales[i] = half(lane) * scale;
            if kind.has_min() {
                mins[i] = half(PANEL + lane) * min;
            }
            let n = CHUNK.min(blocks - b / CHUNK * CHUNK);
            let block = &chunk[geometry.fields(n) + b % CHUNK * geometry.code..];
            for (k, c) in codes.iter_mut().enumerate() {
                *c = match &self.book {
                    Some(book) => codes::get_word(book, block, lane, k),
                    None => kind.code(codes::get(kind.bits(), block, lane, first + k)),
                };
            }
        }
    }
}

/// How the small integers of a block are kept.
trait Fields: Copy + Send + Sync {
    /// Bytes of a block of sixteen rows.
    const BYTES: usize;
    /// Of a block in a chunk whose fields begin at `fields`.
    unsafe fn scales<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2];
    /// Not asked for unless there are mins.
    #[inline(always)]
    unsafe fn mins<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe { Self::scales::<L>(fields, block) }
    }
}

/// Per 32 columns a byte for the scale, then one for the min.
#[derive(Clone, Copy)]
struct ByteMins;

/// Per 16 columns (`HALVES`) or 32 a signed byte.
#[derive(Clone, Copy)]
struct Signed<const HALVES: bool>;

/// Per 16 columns a byte: the scale in its low bits, the min in its high ones.
#[derive(Clone, Copy)]
struct NibbleMins;

/// Per 32 columns four bits s for the scale `(0.5 + s)/4`; two blocks share their bytes.
#[derive(Clone, Copy)]
struct Nibbles;

impl Fields for ByteMins {
    const BYTES: usize = 2 * PANEL;
    #[inline(always)]
    unsafe fn scales<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let at = fields.add(block * Self::BYTES);
            [L::from_u8(at); 2]
        }
    }
    #[inline(always)]
    unsafe fn mins<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let at = fields.add(block * Self::BYTES);
            [L::from_u8(at.add(PANEL)); 2]
        }
    }
}

impl<const HALVES: bool> Fields for Signed<HALVES> {
    const BYTES: usize = PANEL * (1 + HALVES as usize);
    #[inline(always)]
    unsafe fn scales<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let at = fields.add(block * Self::BYTES);
            [L::from_i8(at.cast()), L::from_i8(at.cast::<i8>().add(if HALVES { PANEL } else { 0 }))]
        }
    }
}

impl Fields for NibbleMins {
    const BYTES: usize = 2 * PANEL;
    #[inline(always)]
    unsafe fn scales<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let at = fields.add(block * Self::BYTES);
            [L::from_nibble(at, 0), L::from_nibble(at.add(PANEL), 0)]
        }
    }
    #[inline(always)]
    unsafe fn mins<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let at = fields.add(block * Self::BYTES);
            [L::from_nibble(at, 4), L::from_nibble(at.add(PANEL), 4)]
        }
    }
}

impl Fields for Nibbles {
    const BYTES: usize = PANEL / 2;
    #[inline(always)]
    unsafe fn scales<L: Lanes>(fields: *const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let scale = L::from_nibble(fields.add(block / 2 * PANEL), block as u32 % 2 * 4);
            [L::fma(scale, L::splat(0.25), L::splat(0.125)); 2]
        }
    }
}

struct View<'a, C, F, I>(&'a SuperPanels, Marker<(C, F, I)>);

impl<'a, C, F, I> View<'a, C, F, I> {
    fn new(panels: &'a SuperPanels) -> Self {
        View(panels, PhantomData)
    }
}

impl<C: CodeLayout, F: Form, I: Fields> Panels for View<'_, C, F, I> {
    const WORDS: bool = C::WORDS;
    type Form = F;
    type Source<L: Lanes> = SuperSource<C, F, I>;
    fn source<L: Lanes>(&self, panel: usize) -> Self::Source<L> {
        let (kind, cols) = (self.0.kind, self.0.cols);
        let layout = C::new(self.0.book.as_ref());
        // SAFETY: within the allocation, for every panel that exists.
        unsafe {
            let factors = self.0.data.as_ptr().add(panel * panel_bytes(kind, cols));
            SuperSource { factors, chunks: factors.add(factor_bytes(kind, cols)), layout, form: PhantomData }
        }
    }
    fn place(&self, panel: usize) -> (*const u8, usize) {
        let bytes = panel_bytes(self.0.kind, self.0.cols);
        (self.0.data.as_ptr().wrapping_add(panel * bytes), bytes)
    }
    fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.cols)
    }
}

/// One panel.
#[derive(Clone, Copy)]
struct SuperSource<C, F, I> {
    factors: *const u8,
    chunks: *const u8,
    layout: C,
    form: PhantomData<(F, I)>,
}

#[derive(Clone, Copy)]
struct SuperChunk<V> {
    d: V,
    dmin: V,
    fields: *const u8,
    codes: *const u8,
}

impl<L: Lanes, C: CodeLayout, F: Form, I: Fields> Source<L> for SuperSource<C, F, I> {
    const WORDS: bool = C::WORDS;
    type Form = F;
    type Chunk = SuperChunk<L::F>;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, blocks: usize) -> SuperChunk<L::F> {
        unsafe {
            let geometry = const { Geometry { field: I::BYTES, code: block_bytes(C::BITS) } };
            let factors = self.factors.add(index * 2 * PANEL * (1 + F::MINS as usize)).cast::<u16>();
            let fields = self.chunks.add(geometry.chunk(index));
            let d = L::from_half(factors);
            let dmin = if F::MINS { L::from_half(factors.add(PANEL)) } else { d };
            SuperChunk { d, dmin, fields, codes: fields.add(geometry.fields(blocks)) }
        }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::C; 8] {
        unsafe { self.layout.codes::<L>(chunk.codes.add(block * block_bytes(C::BITS))) }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &SuperChunk<L::F>, block: usize) -> L::C {
        unsafe { self.layout.group::<L, G>(chunk.codes.add(block * block_bytes(C::BITS))) }
    }
    #[inline(always)]
    unsafe fn ahead(&self, chunk: &SuperChunk<L::F>, block: usize) {
        unsafe { ahead::<L>(chunk.codes.wrapping_add(block * block_bytes(C::BITS)), C::BITS) }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::F; 2] {
        unsafe {
            let [a, b] = I::scales::<L>(chunk.fields, block);
            [L::mul(chunk.d, a), L::mul(chunk.d, b)]
        }
    }
    #[inline(always)]
    unsafe fn mins(&self, chunk: &SuperChunk<L::F>, block: usize) -> [L::F; 2] {
        unsafe {
            let [a, b] = I::mins::<L>(chunk.fields, block);
            [L::mul(chunk.dmin, a), L::mul(chunk.dmin, b)]
        }
    }
}
