//! Growable memory that begins at a cache line, so that no 64-byte vector straddles two.

use crate::slab::{self, LINE, Origin};
use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A slice of plain values that begins at a multiple of 64 bytes.
#[derive(Clone)]
pub struct Aligned<T> {
    lines: Box<[Line]>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Aligned<T> {
        let lines = (len * size_of::<T>()).div_ceil(64);
        Aligned { lines: vec![Line([0; 64]); lines].into_boxed_slice(), len, of: PhantomData }
    }

    /// Makes it at least `len` values long; what it then holds is not specified.
    pub fn reserve(&mut self, len: usize) {
        if len > self.len {
            let mut lines = std::mem::take(&mut self.lines).into_vec();
            lines.resize((len * size_of::<T>()).div_ceil(64), Line([0; 64]));
            *self = Aligned { lines: lines.into_boxed_slice(), len, of: PhantomData };
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.lines.len() * 64
    }
}

/// Bytes that begin at a multiple of 64 and stay as many; no more than two words beside them. Those of many parts of one size lie
/// together on large pages.
pub struct Lines {
    at: NonNull<u8>,
    lines: u32,
    origin: Origin,
}

// SAFETY: owns plain bytes.
unsafe impl Send for Lines {}
unsafe impl Sync for Lines {}

impl Lines {
    /// At least `len` zeros, up to a multiple of 64.
    ///
    /// # Panics
    /// If they are 256 GiB or more.
    pub fn zeros(len: usize) -> Lines {
        let lines = u32::try_from(len.div_ceil(LINE)).expect("less than 256 GiB");
        let (at, origin) = match lines {
            0 => (NonNull::<Line>::dangling().cast(), Origin::Heap),
            _ => slab::zeros(lines as usize * LINE),
        };
        Lines { at, lines, origin }
    }
}

impl Clone for Lines {
    fn clone(&self) -> Lines {
        let mut copy = Lines::zeros(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.lines > 0 {
            // SAFETY: it came from `slab::zeros` with so many bytes.
            unsafe { slab::give_back(self.at, self.len(), self.origin) };
        }
    }
}

impl Deref for Lines {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes, zero at first, that nobody else has.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.lines as usize * LINE) }
    }
}

impl DerefMut for Lines {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.lines as usize * LINE) }
    }
}

impl<T: Pod> Default for Aligned<T> {
    fn default() -> Self {
        Aligned::zeros(0)
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut a = Aligned::<f32>::zeros(len);
            assert_eq!(a.len(), len);
            assert_eq!(a.as_ptr() as usize % 64, 0);
            a.fill(1.0);
            a.reserve(len + 40);
            assert_eq!(a.len(), len + 40);
            assert!(a[..len].iter().all(|&v| v == 1.0));
        }
    }
}
