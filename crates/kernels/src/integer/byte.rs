//! Eight-bit codes in blocks of 32.

use super::activations::{Activations, BLOCK};
use super::flat::{CodeLayout, FlatPanels, FlatSource};
use super::kernel::{self, ByteForm, ByteMinForm, Form, PANEL, Panels};
use super::lanes::Lanes;
use super::pack::{Codes, FlatRow, Scales};
use super::{Packed, RowSource};
use crate::{MatrixMut, MatrixView};
use std::marker::PhantomData;

/// A matrix of eight-bit codes: the weight is `scale[n][b] · code`, or `scale[n][b] · code − min[n][b]` with mins
/// (Q8_0; int8 grids with codes shifted to −128..=127). Codes lie as four k of sixteen rows side by side, 128 too high.
pub struct BytePanels(FlatPanels);

const BYTES: usize = 512;

impl BytePanels {
    /// Packs `rows × cols` codes with a scale, and a min if `has_min`, per group of columns.
    /// `fill(row, slices)` is called once per row, from several threads.
    ///
    /// # Panics
    /// If the group of [`Scales::F32`] is not a positive multiple of 32.
    pub fn flat(
        rows: usize,
        cols: usize,
        scales: Scales,
        has_min: bool,
        fill: impl Fn(usize, FlatRow<'_, i8>) + Sync,
    ) -> BytePanels {
        BytePanels(FlatPanels::new((rows, cols), scales, has_min, BYTES, fill, put_bytes))
    }
}

fn put_bytes(codes: &Codes, block: usize, to: &mut [u8]) {
    for (g, to) in to.chunks_exact_mut(64).enumerate() {
        for (to, c) in to.iter_mut().zip(codes.group(8 * block + g)) {
            *to = c ^ 0x80;
        }
    }
}

impl RowSource for BytePanels {
    fn rows(&self) -> usize {
        self.0.rows
    }
    fn cols(&self) -> usize {
        self.0.cols
    }
    fn block(&self) -> usize {
        BLOCK
    }
    fn has_min(&self) -> bool {
        self.0.flat.has_min
    }
    fn bytes(&self) -> usize {
        self.0.resident_bytes()
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        for (b, codes) in codes.chunks_mut(BLOCK).enumerate() {
            let block = self.0.block(row, b);
            for (k, c) in codes.iter_mut().enumerate() {
                *c = (block[k / 4 * 64 + row % PANEL * 4 + k % 4] ^ 0x80) as i8;
            }
        }
        self.0.unpack_fields(row, scales, mins);
    }
}

impl Packed for BytePanels {
    fn multiply(&self, x: &Activations, y: &mut MatrixMut<'_>, accumulate: bool) {
        let p = &self.0;
        match (p.flat.half, p.flat.has_min) {
            (true, false) => kernel::multiply(&FlatBytes::<ByteForm, true>::new(p), x, y, accumulate),
            (true, true) => kernel::multiply(&FlatBytes::<ByteMinForm, true>::new(p), x, y, accumulate),
            (false, false) => kernel::multiply(&FlatBytes::<ByteForm, false>::new(p), x, y, accumulate),
            (false, true) => kernel::multiply(&FlatBytes::<ByteMinForm, false>::new(p), x, y, accumulate),
        }
    }

    fn multiply_f32(&self, x: MatrixView<'_>, y: &mut MatrixMut<'_>, accumulate: bool) {
        let p = &self.0;
        match (p.flat.half, p.flat.has_min) {
            (true, false) => kernel::multiply_f32(&FlatBytes::<ByteForm, true>::new(p), x, y, accumulate),
            (true, true) => kernel::multiply_f32(&FlatBytes::<ByteMinForm, true>::new(p), x, y, accumulate),
            (false, false) => kernel::multiply_f32(&FlatBytes::<ByteForm, false>::new(p), x, y, accumulate),
            (false, true) => kernel::multiply_f32(&FlatBytes::<ByteMinForm, false>::new(p), x, y, accumulate),
        }
    }
}

#[derive(Clone, Copy)]
struct Bytes<F>(PhantomData<F>);

impl<F: Form> CodeLayout for Bytes<F> {
    type Form = F;
    const BYTES: usize = BYTES;
    #[inline(always)]
    unsafe fn codes<L: Lanes>(p: *const u8) -> [L::C; 8] {
        unsafe {
            let mut codes = [L::byte_codes(L::codes(p)); 8];
            for (g, c) in codes.iter_mut().enumerate().skip(1) {
                *c = L::byte_codes(L::codes(p.add(64 * g)));
            }
            codes
        }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes, const G: usize>(p: *const u8) -> L::C {
        unsafe { L::byte_codes(L::codes(p.add(64 * G))) }
    }
}

struct FlatBytes<'a, F, const HALF: bool>(&'a FlatPanels, PhantomData<F>);

impl<'a, F, const HALF: bool> FlatBytes<'a, F, HALF> {
    fn new(panels: &'a FlatPanels) -> Self {
        FlatBytes(panels, PhantomData)
    }
}

impl<F: Form, const HALF: bool> Panels for FlatBytes<'_, F, HALF> {
    type Form = F;
    type Source<L: Lanes> = FlatSource<Bytes<F>, HALF>;
    fn source<L: Lanes>(&self, panel: usize) -> Self::Source<L> {
        self.0.source(panel)
    }
    fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.cols)
    }
}
