//! Pieces of memory of one size, side by side on large pages.
//!
//! The blocks of a cache are read one after another, wherever they lie, and each lies on small pages of its own when it comes from the
//! heap. Once there are many of a size, new ones are cut from chunks of a large page; a chunk goes back when nothing of it is in use.

use crate::pages::{self, LARGE};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that a size is a multiple of, and that pieces begin at.
pub(crate) const LINE: usize = 64;
/// Bytes of a size's pieces from which on chunks are cut: what the newest holds beyond its pieces is an eighth at most of what is in use.
/// (Where pieces go back here and there, chunks of which a few are left hold more, until new pieces fill them.)
const MANY: usize = 8 * LARGE;
/// Largest piece that is cut from a chunk.
const MOST: usize = LARGE / 16;

/// Where a piece came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Heap,
    Chunk,
}

/// A chunk's first line.
#[repr(C, align(64))]
struct Chunk {
    /// Pieces in use, and pieces that were ever cut.
    used: usize,
    cut: usize,
    /// Pieces given back: each begins with the address of the next one.
    free: *mut u8,
}

/// The pieces of one size.
#[derive(Default)]
struct Size {
    /// Bytes in use.
    bytes: usize,
    /// Chunks with room.
    open: Vec<NonNull<Chunk>>,
}

// SAFETY: chunks are touched under the lock alone.
unsafe impl Send for Size {}

static SIZES: Mutex<BTreeMap<usize, Size>> = Mutex::new(BTreeMap::new());

fn sizes() -> MutexGuard<'static, BTreeMap<usize, Size>> {
    // Whoever panicked did so outside: nothing under the lock does.
    SIZES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chunk_layout() -> Layout {
    const { assert!(size_of::<Chunk>() == LINE) };
    // SAFETY: a power of two that is its own multiple.
    unsafe { Layout::from_size_align_unchecked(LARGE, LARGE) }
}

fn heap_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, LINE).unwrap_or_else(|_| panic!("{bytes} bytes are too many"))
}

impl Chunk {
    fn new() -> NonNull<Chunk> {
        let layout = chunk_layout();
        // SAFETY: the layout has a size; the first line is written before anyone reads it.
        unsafe {
            let Some(chunk) = NonNull::new(alloc(layout).cast::<Chunk>()) else { handle_alloc_error(layout) };
            pages::prefer(chunk.as_ptr().cast(), LARGE);
            chunk.write(Chunk { used: 0, cut: 0, free: std::ptr::null_mut() });
            chunk
        }
    }

    /// The chunk that a piece was cut from.
    fn of(piece: NonNull<u8>) -> NonNull<Chunk> {
        let within = piece.as_ptr().addr() % LARGE;
        // SAFETY: a piece lies behind its chunk's first line.
        unsafe { piece.sub(within).cast() }
    }

    fn fits(bytes: usize) -> usize {
        (LARGE - LINE) / bytes
    }

    /// A piece, of a chunk with room; whether there is still room.
    ///
    /// # Safety
    /// The chunk is of pieces of so many bytes, and nobody else touches it.
    unsafe fn cut(mut this: NonNull<Chunk>, bytes: usize) -> (NonNull<u8>, bool) {
        // SAFETY: `cut` pieces of the chunk have been cut; those that are free hold the address of the next.
        unsafe {
            let chunk = this.as_mut();
            let piece = match NonNull::new(chunk.free) {
                Some(piece) => {
                    chunk.free = piece.cast::<*mut u8>().read();
                    piece
                }
                None => {
                    chunk.cut += 1;
                    this.cast::<u8>().add(LINE + (chunk.cut - 1) * bytes)
                }
            };
            chunk.used += 1;
            (piece, chunk.used < Chunk::fits(bytes))
        }
    }
}

/// So many bytes, a multiple of [`LINE`] and not none, all zero.
pub(crate) fn zeros(bytes: usize) -> (NonNull<u8>, Origin) {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(LINE));
    let (piece, origin) = match cut(bytes) {
        Some(piece) => (piece, Origin::Chunk),
        None => {
            // SAFETY: the layout has a size.
            let piece = NonNull::new(unsafe { alloc(heap_layout(bytes)) });
            (piece.unwrap_or_else(|| handle_alloc_error(heap_layout(bytes))), Origin::Heap)
        }
    };
    // SAFETY: the piece is that long, and nobody else has it.
    unsafe { piece.write_bytes(0, bytes) };
    (piece, origin)
}

fn cut(bytes: usize) -> Option<NonNull<u8>> {
    if bytes > MOST {
        return None;
    }
    let mut sizes = sizes();
    let size = sizes.entry(bytes).or_default();
    size.bytes += bytes;
    if size.open.is_empty() {
        if size.bytes < MANY {
            return None;
        }
        size.open.push(Chunk::new());
    }
    let chunk = *size.open.last()?;
    // SAFETY: a chunk of this size with room, under the lock.
    let (piece, room) = unsafe { Chunk::cut(chunk, bytes) };
    if !room {
        size.open.pop();
    }
    Some(piece)
}

/// Gives back what [`zeros`] gave.
///
/// # Safety
/// The piece came from there with so many bytes and this origin, and is not used again.
pub(crate) unsafe fn give_back(piece: NonNull<u8>, bytes: usize, origin: Origin) {
    if bytes <= MOST {
        let mut sizes = sizes();
        let size = sizes.entry(bytes).or_default();
        size.bytes -= bytes;
        if origin == Origin::Chunk {
            let mut at = Chunk::of(piece);
            // SAFETY: under the lock; the piece is this chunk's.
            unsafe {
                let chunk = at.as_mut();
                if chunk.used == Chunk::fits(bytes) {
                    size.open.push(at);
                }
                piece.cast::<*mut u8>().write(chunk.free);
                chunk.free = piece.as_ptr();
                chunk.used -= 1;
                if chunk.used == 0 {
                    size.open.retain(|open| *open != at);
                    dealloc(at.as_ptr().cast(), chunk_layout());
                }
            }
        }
    }
    if origin == Origin::Heap {
        // SAFETY: allocated in `zeros` with this layout.
        unsafe { dealloc(piece.as_ptr(), heap_layout(bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn pieces_are_zero_and_apart_and_chunks_go_back() {
        // A size that no cache has.
        const BYTES: usize = 61 * LINE;
        let many = 10 * LARGE / BYTES;
        let mut held = Vec::new();
        for round in 0..3 {
            for at in 0..many {
                let (piece, origin) = zeros(BYTES);
                // SAFETY: so many bytes that are ours until they are given back.
                let bytes = unsafe { std::slice::from_raw_parts_mut(piece.as_ptr(), BYTES) };
                assert!(bytes.iter().all(|&b| b == 0) && piece.as_ptr().addr().is_multiple_of(LINE));
                bytes.fill((at + round) as u8 | 1);
                held.push((piece, origin, bytes[0]));
            }
            let places: HashSet<_> = held.iter().map(|(piece, ..)| *piece).collect();
            assert_eq!(places.len(), held.len());
            let mut index = 0;
            held.retain(|&(piece, origin, mark)| {
                // SAFETY: as above; what is given back is not looked at again.
                unsafe {
                    assert!(std::slice::from_raw_parts(piece.as_ptr(), BYTES).iter().all(|&b| b == mark));
                    index += 1;
                    if index % 3 == round {
                        give_back(piece, BYTES, origin);
                    }
                }
                index % 3 != round
            });
        }
        assert!(held.iter().any(|held| held.1 == Origin::Heap) && held.iter().any(|held| held.1 == Origin::Chunk));
        for (piece, origin, _) in held {
            // SAFETY: as above.
            unsafe { give_back(piece, BYTES, origin) };
        }
        let sizes = sizes();
        assert!(sizes[&BYTES].bytes == 0 && sizes[&BYTES].open.is_empty());
    }

    #[test]
    fn what_is_large_comes_from_the_heap() {
        let (piece, origin) = zeros(2 * MOST);
        assert_eq!(origin, Origin::Heap);
        // SAFETY: it came from there.
        unsafe { give_back(piece, 2 * MOST, origin) };
    }
}
