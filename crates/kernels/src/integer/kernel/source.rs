//! Packed layouts as the kernels see them.

use super::CHUNK;
use crate::integer::lanes::Lanes;
use crate::simd::fetch;
use std::marker::PhantomData;

/// The arithmetic of a packed layout.
pub(in crate::integer) trait Form: Copy + Send + Sync {
    /// Codes fit in so many bits; 8 are signed bytes.
    const BITS: u32;
    /// Scales are per 16 rather than per 32.
    const HALVES: bool;
    const MINS: bool;
    /// What stored codes are above the true ones.
    const OFFSET: i32;
}

/// How far the codes that the kernel sees on `L` are above the true ones.
#[inline(always)]
pub(in crate::integer) fn offset<F: Form>(byte_offset: bool) -> i32 {
    if F::BITS == 8 && !byte_offset { 0 } else { F::OFFSET }
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident: $bits:literal, halves $halves:literal, mins $mins:literal, offset $offset:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in crate::integer) struct $name;
        impl Form for $name {
            const BITS: u32 = $bits;
            const HALVES: bool = $halves;
            const MINS: bool = $mins;
            const OFFSET: i32 = $offset;
        }
    )*};
}

forms! {
    NibbleForm: 4, halves false, mins false, offset 8;
    NibbleMinForm: 4, halves false, mins true, offset 0;
    NibbleHalvesForm: 4, halves true, mins false, offset 4;
    NibbleHalvesMinForm: 4, halves true, mins true, offset 0;
    FiveForm: 5, halves false, mins false, offset 16;
    FiveMinForm: 5, halves false, mins true, offset 0;
    SixForm: 6, halves true, mins false, offset 32;
    SixMinForm: 6, halves false, mins true, offset 0;
    SevenMinForm: 7, halves false, mins true, offset 0;
    SevenForm: 7, halves false, mins false, offset 64;
    ByteForm: 8, halves false, mins false, offset 128;
    ByteMinForm: 8, halves false, mins true, offset 128;
    HalvesForm: 8, halves true, mins false, offset 128;
    HalvesMinForm: 8, halves true, mins true, offset 128;
}

/// One panel in one packed layout.
///
/// # Safety
/// As for [`Lanes`]; chunks and blocks must exist.
pub(in crate::integer) trait Source<L: Lanes>: Copy {
    /// Whether codes are looked up in a codebook.
    const WORDS: bool = false;
    type Form: Form;
    type Chunk: Copy;

    /// Chunk `index`, which has `blocks` blocks (eight but for the last).
    unsafe fn chunk(&self, index: usize, blocks: usize) -> Self::Chunk;
    unsafe fn codes(&self, chunk: &Self::Chunk, block: usize) -> [L::C; 8];
    /// The `G`th of them.
    unsafe fn group<const G: usize>(&self, chunk: &Self::Chunk, block: usize) -> L::C;
    /// Asks for what will be read some blocks after this one, if it comes from memory.
    #[inline(always)]
    unsafe fn ahead(&self, _chunk: &Self::Chunk, _block: usize) {}
    /// Scales of both halves; the second is not used unless the form has halves.
    unsafe fn scales(&self, chunk: &Self::Chunk, block: usize) -> [L::F; 2];
    /// Mins of both halves; not asked for unless the form has mins.
    #[inline(always)]
    unsafe fn mins(&self, chunk: &Self::Chunk, block: usize) -> [L::F; 2] {
        // SAFETY: as the caller promised.
        unsafe { self.scales(chunk, block) }
    }
}

/// Panels in one packed layout.
pub(in crate::integer) trait Panels: Sync {
    /// Whether codes are looked up in a codebook.
    const WORDS: bool = false;
    type Form: Form;
    type Source<L: Lanes>: Source<L, Form = Self::Form>;
    fn source<L: Lanes>(&self, panel: usize) -> Self::Source<L>;
    /// Where a panel lies, which need not exist, and its bytes.
    fn place(&self, panel: usize) -> (*const u8, usize);
    /// Outputs and columns.
    fn shape(&self) -> (usize, usize);
}

/// Bytes that a stream of codes is asked for before it is read: a page. Processors that fetch ahead by themselves stop at its end.
const AHEAD: usize = 4096;

/// Asks for `lines` lines, [`AHEAD`] from `p`.
#[inline(always)]
pub(in crate::integer) unsafe fn ahead<L: Lanes>(p: *const u8, lines: u32) {
    for line in 0..lines as usize {
        // SAFETY: as the caller promised.
        unsafe { L::fetch(p.wrapping_add(AHEAD + 64 * line)) };
    }
}

/// Names a layout without having one.
pub(in crate::integer) type Marker<T> = PhantomData<fn() -> T>;

/// A panel unpacked for the instruction set at hand: per block the codes one to a byte, then f32 scales, then f32 mins.
#[derive(Clone, Copy)]
pub(in crate::integer) struct Unpacked<F: Form> {
    pub at: *const u8,
    /// What is asked for meanwhile, and how many bytes of it for each block; null if nothing.
    next: (*const u8, usize),
    form: PhantomData<F>,
}

impl<F: Form> Unpacked<F> {
    pub const SCALES: usize = 512;
    pub const MINS: usize = Self::SCALES + 64 * (1 + F::HALVES as usize);
    pub const BLOCK_BYTES: usize = Self::MINS + 64 * (1 + F::HALVES as usize) * F::MINS as usize;

    pub fn new(at: *const u8) -> Self {
        Unpacked { at, next: (std::ptr::null(), 0), form: PhantomData }
    }

    /// While its `blocks` blocks are read the first time, memory that is read next is asked for.
    pub fn before(self, (next, bytes): (*const u8, usize), blocks: usize) -> Self {
        Unpacked { next: (next, bytes.div_ceil(blocks.max(1))), ..self }
    }
}

impl<L: Lanes, F: Form> Source<L> for Unpacked<F> {
    type Form = F;
    type Chunk = *const u8;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, _blocks: usize) -> *const u8 {
        unsafe { self.at.add(index * CHUNK * Self::BLOCK_BYTES) }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &*const u8, block: usize) -> [L::C; 8] {
        unsafe {
            let p = chunk.add(block * Self::BLOCK_BYTES);
            let mut codes = [L::codes(p); 8];
            for (g, c) in codes.iter_mut().enumerate().skip(1) {
                *c = L::codes(p.add(64 * g));
            }
            codes
        }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &*const u8, block: usize) -> L::C {
        unsafe { L::codes(chunk.add(block * Self::BLOCK_BYTES + 64 * G)) }
    }
    #[inline(always)]
    unsafe fn ahead(&self, chunk: &*const u8, block: usize) {
        let (next, share) = self.next;
        if !next.is_null() {
            let first = ((chunk.addr() - self.at.addr()) / Self::BLOCK_BYTES + block) * share;
            for byte in (first..first + share).step_by(64) {
                fetch(next.wrapping_add(byte));
            }
        }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &*const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let p = chunk.add(block * Self::BLOCK_BYTES + Self::SCALES).cast::<f32>();
            [L::load(p), L::load(p.add(16 * F::HALVES as usize))]
        }
    }
    #[inline(always)]
    unsafe fn mins(&self, chunk: &*const u8, block: usize) -> [L::F; 2] {
        unsafe {
            let p = chunk.add(block * Self::BLOCK_BYTES + Self::MINS).cast::<f32>();
            [L::load(p), L::load(p.add(16 * F::HALVES as usize))]
        }
    }
}

/// Writes panel `src` to `to` as [`Unpacked`].
#[inline(always)]
pub(in crate::integer) unsafe fn unpack<L: Lanes, S: Source<L>>(src: S, blocks: usize, to: *mut u8) {
    unsafe {
        let mut at = to;
        for (index, first) in (0..blocks).step_by(CHUNK).enumerate() {
            let n = CHUNK.min(blocks - first);
            let chunk = src.chunk(index, n);
            for b in 0..n {
                for (g, c) in src.codes(&chunk, b).into_iter().enumerate() {
                    L::put_codes(at.add(64 * g), c);
                }
                put_pair::<L, S::Form>(at.add(Unpacked::<S::Form>::SCALES), src.scales(&chunk, b));
                if S::Form::MINS {
                    put_pair::<L, S::Form>(at.add(Unpacked::<S::Form>::MINS), src.mins(&chunk, b));
                }
                at = at.add(Unpacked::<S::Form>::BLOCK_BYTES);
            }
        }
    }
}

#[inline(always)]
unsafe fn put_pair<L: Lanes, F: Form>(to: *mut u8, pair: [L::F; 2]) {
    unsafe {
        L::store(to.cast(), pair[0]);
        if F::HALVES {
            L::store(to.cast::<f32>().add(16), pair[1]);
        }
    }
}
