//! Flat layouts: each block of 32 has its scale (and min), either beside the codes as f16 or apart as f32 per group.
//! Four-bit and eight-bit codes share everything but the codes themselves.

use super::activations::BLOCK;
use super::kernel::{CHUNK, PANEL, Source};
use super::lanes::Lanes;
use super::pack::{Codes, Flat, FlatRow, Geometry, Scales, blocks, build, lanes};
use super::storage::Bytes;
use crate::pool::Shared;
use half::f16;
use std::marker::PhantomData;

/// How codes lie in a block.
pub(super) trait CodeLayout: Copy + Send + Sync {
    type Form: super::kernel::Form;
    /// Bytes per block.
    const BYTES: usize;
    unsafe fn codes<L: Lanes>(block: *const u8) -> [L::C; 8];
    unsafe fn group<L: Lanes, const G: usize>(block: *const u8) -> L::C;
}

/// A matrix in a flat layout.
pub(super) struct FlatPanels {
    pub rows: usize,
    pub cols: usize,
    pub flat: Flat,
    pub geometry: Geometry,
    pub data: Bytes,
}

impl FlatPanels {
    /// `put(codes, block, to)` packs one block of sixteen rows.
    pub fn new<Code: bytemuck::Pod>(
        (rows, cols): (usize, usize),
        scales: Scales,
        has_min: bool,
        code_bytes: usize,
        fill: impl Fn(usize, FlatRow<'_, Code>) + Sync,
        put: impl Fn(&Codes, usize, &mut [u8]) + Sync,
    ) -> FlatPanels {
        let mut flat = Flat::new(rows, cols, scales, has_min);
        let geometry = flat.geometry(code_bytes);
        let (blocks, groups, stride) = (blocks(cols), flat.groups(cols), flat.stride(cols));
        let apart = Shared(flat.apart.as_mut_ptr());
        let half = flat.half;
        let width = 1 + usize::from(has_min);
        let data = build(rows.div_ceil(PANEL), geometry.panel(blocks), |panel, bytes| {
            let mut codes = Codes::new(cols);
            let mut fields = vec![0f32; stride];
            let (mut scales, mut mins) = (vec![0f32; groups], vec![0f32; if has_min { groups } else { 0 }]);
            for (lane, row) in lanes(panel, rows) {
                scales.fill(0.0);
                mins.fill(0.0);
                let row_codes = bytemuck::cast_slice_mut(codes.row(lane, cols));
                fill(row, FlatRow { codes: row_codes, scales: &mut scales, mins: &mut mins });
                for g in 0..groups {
                    fields[g * width * PANEL + lane] = scales[g];
                    if has_min {
                        fields[(g * width + 1) * PANEL + lane] = mins[g];
                    }
                }
            }
            if !half {
                // SAFETY: `apart` has a stretch for every panel, and this one is ours.
                unsafe { apart.get().add(panel * stride).copy_from_nonoverlapping(fields.as_ptr(), stride) };
            }
            for first in (0..blocks).step_by(CHUNK) {
                let n = CHUNK.min(blocks - first);
                let (head, body) = bytes[geometry.chunk(first / CHUNK)..].split_at_mut(geometry.fields(n));
                for b in 0..n {
                    put(&codes, first + b, &mut body[b * code_bytes..][..code_bytes]);
                    if half {
                        let from = &fields[(first + b) * width * PANEL..][..width * PANEL];
                        let to = &mut head[b * geometry.field..][..geometry.field];
                        for (to, v) in to.chunks_exact_mut(2).zip(from) {
                            to.copy_from_slice(&f16::from_f32(*v).to_bits().to_le_bytes());
                        }
                    }
                }
            }
        });
        FlatPanels { rows, cols, flat, geometry, data }
    }

    pub fn panel_bytes(&self) -> usize {
        self.geometry.panel(blocks(self.cols))
    }

    pub fn resident_bytes(&self) -> usize {
        self.data.len() + 4 * self.flat.apart.len()
    }

    /// The bytes of block `b` of the panel that `row` is in.
    pub fn block(&self, row: usize, b: usize) -> &[u8] {
        let n = CHUNK.min(blocks(self.cols) - b / CHUNK * CHUNK);
        let at = (row / PANEL) * self.panel_bytes()
            + self.geometry.chunk(b / CHUNK)
            + self.geometry.fields(n)
            + (b % CHUNK) * self.geometry.code;
        &self.data.as_slice()[at..at + self.geometry.code]
    }

    /// Scale and min of block `b` of `row`.
    pub fn fields(&self, row: usize, b: usize) -> (f32, f32) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let width = 1 + usize::from(self.flat.has_min);
        if self.flat.half {
            let at = panel * self.panel_bytes() + self.geometry.chunk(b / CHUNK) + (b % CHUNK) * self.geometry.field;
            let read = |i: usize| {
                let at = at + 2 * (i * PANEL + lane);
                f16::from_le_bytes([self.data.as_slice()[at], self.data.as_slice()[at + 1]]).to_f32()
            };
            return (read(0), if self.flat.has_min { read(1) } else { 0.0 });
        }
        let at = panel * self.flat.stride(self.cols) + b / self.flat.blocks_per_group * width * PANEL + lane;
        let min = if self.flat.has_min { self.flat.apart[at + PANEL] } else { 0.0 };
        (self.flat.apart[at], min)
    }

    pub fn unpack_fields(&self, row: usize, scales: &mut [f32], mins: &mut [f32]) {
        for b in 0..self.cols.div_ceil(BLOCK) {
            let (scale, min) = self.fields(row, b);
            scales[b] = scale;
            if self.flat.has_min {
                mins[b] = min;
            }
        }
    }

    pub fn source<C: CodeLayout, const HALF: bool>(&self, panel: usize) -> FlatSource<C, HALF> {
        // SAFETY: within the allocations, for every panel that exists.
        unsafe {
            FlatSource {
                base: self.data.as_ptr().add(panel * self.panel_bytes()),
                apart: self.flat.apart.as_ptr().wrapping_add(panel * self.flat.stride(self.cols)),
                blocks_per_group: self.flat.blocks_per_group as u32,
                layout: PhantomData,
            }
        }
    }
}

/// One panel in a flat layout; `HALF`: the scales are f16 and lie before the codes of their chunk.
#[derive(Clone, Copy)]
pub(super) struct FlatSource<C, const HALF: bool> {
    base: *const u8,
    apart: *const f32,
    blocks_per_group: u32,
    layout: PhantomData<C>,
}

#[derive(Clone, Copy)]
pub(super) struct FlatChunk {
    fields: *const u8,
    codes: *const u8,
    first: u32,
}

impl<C: CodeLayout, const HALF: bool> FlatSource<C, HALF> {
    const WIDTH: usize = 1 + <C::Form as super::kernel::Form>::MINS as usize;
    const GEOMETRY: Geometry =
        Geometry { head: 0, field: if HALF { 2 * PANEL * Self::WIDTH } else { 0 }, code: C::BYTES };

    #[inline(always)]
    unsafe fn field<L: Lanes>(&self, chunk: &FlatChunk, block: usize, which: usize) -> L::F {
        unsafe {
            if HALF {
                return L::from_half(chunk.fields.add(block * Self::GEOMETRY.field + which * 2 * PANEL).cast());
            }
            let group = (chunk.first + block as u32) / self.blocks_per_group;
            L::load(self.apart.add((group as usize * Self::WIDTH + which) * PANEL))
        }
    }
}

impl<L: Lanes, C: CodeLayout, const HALF: bool> Source<L> for FlatSource<C, HALF> {
    type Form = C::Form;
    type Chunk = FlatChunk;

    #[inline(always)]
    unsafe fn chunk(&self, index: usize, blocks: usize) -> FlatChunk {
        unsafe {
            let fields = self.base.add(Self::GEOMETRY.chunk(index));
            FlatChunk { fields, codes: fields.add(Self::GEOMETRY.fields(blocks)), first: (index * CHUNK) as u32 }
        }
    }
    #[inline(always)]
    unsafe fn codes(&self, chunk: &FlatChunk, block: usize) -> [L::C; 8] {
        unsafe { C::codes::<L>(chunk.codes.add(block * C::BYTES)) }
    }
    #[inline(always)]
    unsafe fn group<const G: usize>(&self, chunk: &FlatChunk, block: usize) -> L::C {
        unsafe { C::group::<L, G>(chunk.codes.add(block * C::BYTES)) }
    }
    #[inline(always)]
    unsafe fn scales(&self, chunk: &FlatChunk, block: usize) -> [L::F; 2] {
        unsafe { [self.field::<L>(chunk, block, 0); 2] }
    }
    #[inline(always)]
    unsafe fn mins(&self, chunk: &FlatChunk, block: usize) -> [L::F; 2] {
        unsafe { [self.field::<L>(chunk, block, 1); 2] }
    }
}
