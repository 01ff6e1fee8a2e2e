//! Growable memory that begins at a cache line, so that no 64-byte vector straddles two.

use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

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

/// Bytes that begin at a multiple of 64 and stay as many; no more than two words beside them.
#[derive(Clone)]
pub struct Lines(Box<[Line]>);

impl Lines {
    /// At least `len` zeros, up to a multiple of 64.
    pub fn zeros(len: usize) -> Lines {
        Lines(vec![Line([0; 64]); len.div_ceil(64)].into_boxed_slice())
    }
}

impl Deref for Lines {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Lines {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
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
