//! Flat layouts as the kernels read them.

use super::FlatPanels;
use crate::integer::codes::{CodeLayout, block_bytes};
use crate::integer::kernel::{CHUNK, Form, Marker, PANEL, Panels, Source, ahead};
use crate::integer::lanes::Lanes;
use crate::integer::pack::Geometry;
use std::marker::PhantomData;

/// How scales and mins of sixteen rows are kept: first all scales, then all mins.
pub(super) trait ScaleLayout: Copy + Send + Sync {
    /// Beside the codes, one per block; or apart, one per group.
    const BESIDE: bool;
    /// Bytes of a scale.
    const SCALE: usize;
    /// Bytes of a min.
    const MIN: usize;
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::F;
    unsafe fn min<L: Lanes, F: Form>(at: *const u8) -> L::F;
}

/// f16.
#[derive(Clone, Copy)]
pub(super) struct Half;

/// f32.
#[derive(Clone, Copy)]
pub(super) struct Full;

/// Powers of two as bytes, without mins.
#[derive(Clone, Copy)]
pub(super) struct Exponents;

/// f16 scales, then zero points as bytes, signed beside eight-bit codes.
#[derive(Clone, Copy)]
pub(super) struct Zeros;

impl ScaleLayout for Half {
    const BESIDE: bool = true;
    const SCALE: usize = 2;
    const MIN: usize = 2;
    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::F {
        unsafe { L::from_half(at.cast()) }
    }
    #[inline(always)]
    unsafe fn min<L: Lanes, F: Form>(at: *const u8) -> L::F {
        unsafe { L::from_half(at.add(PANEL * Self::SCALE).cast()) }
    }
}

impl ScaleLayout for Full {
    const BESIDE: bool = false;
    const SCALE: usize = 4;
    const MIN: usize = 4;
    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::F {
        unsafe { L::load(at.cast()) }
    }
    #[inline(always)]
    unsafe fn min<L: Lanes, F: Form>(at: *const u8) -> L::F {
        unsafe { L::load(at.add(PANEL * Self::SCALE).cast()) }
    }
}

impl ScaleLayout for Exponents {
    const BESIDE: bool = true;
    const SCALE: usize = 1;
    const MIN: usize = 0;
    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::F {
        unsafe { L::from_exponent(at) }
    }
    #[inline(always)]
    unsafe fn min<L: Lanes, F: Form>(_at: *const u8) -> L::F {
        // SAFETY: as the caller promised.
        unsafe { L::splat(0.0) }
    }
}

impl ScaleLayout for Zeros {
    const BESIDE: bool = false;
    const SCALE: usize = 2;
    const MIN: usize = 1;
    #[inline(always)]
    unsafe fn scale<L: Lanes>(at: *const u8) -> L::F {
        unsafe { L::from_half(at.cast()) }
    }
    #[inline(always)]
    unsafe fn min<L: Lanes, F: Form>(at: *const u8) -> L::F {
        unsafe {
            let zeros = at.add(PANEL * Self::SCALE);
            let zeros = if F::BITS == 8 { L::from_i8(zeros.cast()) } else { L::from_u8(zeros) };
            L::mul(Self::scale::<L>(at), zeros)
        }
    }
}

/// Bytes of the scales and mins of sixteen rows.
pub(super) const fn field_bytes<S: ScaleLayout>(has_min: bool) -> usize {
    PANEL * (S::SCALE + if has_min { S::MIN } else { 0 })
}

/// [`FlatPanels`] of one layout.
pub(super) struct View<'a, C, F, S>(&'a FlatPanels, Marker<(C, F, S)>);

impl<'a, C, F, S> View<'a, C, F, S> {
    pub fn new(panels: &'a FlatPanels) -> Self {
        View(panels, PhantomData)
    }
}

impl<C: CodeLayout, F: Form, S: ScaleLayout> Panels for View<'_, C, F, S> {
    type Form = F;
    type Source<L: Lanes> = FlatSource<C, F, S>;
    fn source<L: Lanes>(&self, panel: usize) -> Self::Source<L> {
        let w = self.0;
        // SAFETY: within the allocations, for every panel that exists.
        unsafe {
            FlatSource {
                base: w.data.as_ptr().add(panel * w.panel_bytes()),
                apart: w.apart.as_ptr().wrapping_add(panel * w.apart_bytes()),
                inverse: (1u64 << 32).div_ceil(w.blocks_per_group as u64),
                layout: C::new(None),
                form: PhantomData,
            }
        }
    }
    fn place(&self, panel: usize) -> (*const u8, usize) {
        let bytes = self.0.panel_bytes();
        (self.0.data.as_ptr().wrapping_add(panel * bytes), bytes)
    }
    fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.cols)
    }
}

/// One panel in a flat layout.
#[derive(Clone, Copy)]
pub(super) struct FlatSource<C, F, S> {
    base: *const u8,
    apart: *const u8,
    /// 2³² over the blocks of a group, rounded up: the group of a block without a division. Exact as long as the product of
    /// both is below 2³².
    inverse: u64,
    layout: C,
    form: PhantomData<(F, S)>,
}

#[derive(Clone, Copy)]
pub(super) struct FlatChunk {
    fields: *const u8,
    codes: *const u8,
    first: usize,
}

impl<C: CodeLayout, F: Form, S: ScaleLayout> FlatSource<C, F, S> {
    const FIELD: usize = field_bytes::<S>(F::MINS);
    const GEOMETRY: Geometry = Geometry { field: if S::BESIDE { Self::FIELD } else { 0 }, code: block_bytes(C::BITS) };

    #[inline(always)]
    unsafe fn field(&self, chunk: &FlatChunk, block: usize) -> *const u8 {
        unsafe {
            if S::BESIDE {
                return chunk.fields.add(block * Self::FIELD);
            }
            let group = ((chunk.first + block) as u64 * self.inverse) >> 32;
            self.apart.add(group as usize * Self::FIELD)
        }
    }
}

impl<L: Lanes, C: CodeLayout, F: Form, S: ScaleLayout> Source<L> for FlatSource<C, F, S> {
    type Form = F;
    type Chunk = FlatChunk;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, blocks: usize) -> FlatChunk {
        unsafe {
            let fields = self.base.add(Self::GEOMETRY.chunk(index));
            FlatChunk { fields, codes: fields.add(Self::GEOMETRY.fields(blocks)), first: index * CHUNK }
        }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &FlatChunk, block: usize) -> [L::C; 8] {
        unsafe { self.layout.codes::<L>(chunk.codes.add(block * block_bytes(C::BITS))) }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &FlatChunk, block: usize) -> L::C {
        unsafe { self.layout.group::<L, G>(chunk.codes.add(block * block_bytes(C::BITS))) }
    }
    #[inline(always)]
    unsafe fn ahead(&self, chunk: &FlatChunk, block: usize) {
        unsafe { ahead::<L>(chunk.codes.wrapping_add(block * block_bytes(C::BITS)), C::BITS) }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &FlatChunk, block: usize) -> [L::F; 2] {
        unsafe { [S::scale::<L>(self.field(chunk, block)); 2] }
    }
    #[inline(always)]
    unsafe fn mins(&self, chunk: &FlatChunk, block: usize) -> [L::F; 2] {
        unsafe { [S::min::<L, F>(self.field(chunk, block)); 2] }
    }
}
