//! Aligned bytes that hold packed weights.

use crate::pages::{self, LARGE};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const ALIGN: usize = 64;

/// Bytes on a 64-byte boundary, zero at first. Large ones ask the system for huge pages: weights are
/// read front to back, and with small pages the address translation would be a good part of the time.
pub(super) struct Bytes {
    data: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: owns plain bytes.
unsafe impl Send for Bytes {}
unsafe impl Sync for Bytes {}

impl Bytes {
    pub fn zeroed(len: usize) -> Bytes {
        let huge = len >= 2 * LARGE;
        let align = if huge { LARGE } else { ALIGN };
        let layout = Layout::from_size_align(len.max(1), align).unwrap_or_else(|_| panic!("{len} bytes are too many"));
        // SAFETY: the size is not zero, and all bytes are written before anyone can read them.
        let data = unsafe {
            let Some(data) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            if huge {
                pages::prefer(data.as_ptr(), len);
            }
            data.as_ptr().write_bytes(0, len);
            data
        };
        Bytes { data, len, layout }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr()
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes that were written in `zeroed`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// Makes room for at least `len` bytes; what was there may be lost.
    pub fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Bytes::zeroed(len);
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.data.as_ptr(), self.layout) }
    }
}
