//! Memory that is looked at here and there: zeros, on large pages where the system has them.

use bytemuck::Pod;
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

/// Bytes from which on large pages are worth their clearing.
const LEAST: usize = 4 << 20;

/// So many numbers, zeros to begin with.
pub enum Pages<T> {
    Mapped(MmapMut, usize),
    Owned(Vec<T>),
}

impl<T: Pod> Pages<T> {
    pub fn new(count: usize) -> Self {
        let bytes = count * size_of::<T>();
        match MmapMut::map_anon(bytes) {
            Ok(map) if bytes >= LEAST => {
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Self::Mapped(map, bytes)
            }
            _ => Self::Owned(vec![T::zeroed(); count]),
        }
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Mapped(map, bytes) => bytemuck::cast_slice(&map[..*bytes]),
            Self::Owned(numbers) => numbers,
        }
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Mapped(map, bytes) => bytemuck::cast_slice_mut(&mut map[..*bytes]),
            Self::Owned(numbers) => numbers,
        }
    }
}
