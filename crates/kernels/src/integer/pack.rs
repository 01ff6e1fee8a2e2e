//! Building packed panels: sixteen rows at a time come from the caller, and are interleaved in place.

use super::activations::BLOCK;
use super::kernel::{CHUNK, PANEL};
use super::storage::Bytes;
use crate::pool::{self, Shared};

/// Bytes per block in a chunk of eight: first the `field`s of all, then the `code`s, which begin on a 64-byte boundary.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub field: usize,
    pub code: usize,
}

impl Geometry {
    /// Bytes before the codes in a chunk of `blocks` blocks.
    #[inline(always)]
    pub const fn fields(self, blocks: usize) -> usize {
        (self.field * blocks).next_multiple_of(64)
    }

    #[inline(always)]
    pub const fn chunk(self, index: usize) -> usize {
        index * (self.fields(CHUNK) + CHUNK * self.code)
    }

    pub const fn panel(self, blocks: usize) -> usize {
        let rest = blocks % CHUNK;
        let tail = if rest == 0 { 0 } else { self.fields(rest) + rest * self.code };
        self.chunk(blocks / CHUNK) + tail
    }
}

/// Blocks of a row.
pub(super) fn blocks(cols: usize) -> usize {
    cols.div_ceil(BLOCK)
}

/// Makes panels in parallel: `pack(panel, bytes of the panel)`.
pub(super) fn build(panels: usize, panel_bytes: usize, pack: impl Fn(usize, &mut [u8]) + Sync) -> Bytes {
    let mut data = Bytes::zeroed(panels * panel_bytes);
    let base = Shared(data.as_mut_ptr());
    pool::parallel(panels, |panel| {
        // SAFETY: panels do not overlap.
        let bytes = unsafe { std::slice::from_raw_parts_mut(base.get().add(panel * panel_bytes), panel_bytes) };
        pack(panel, bytes);
    });
    data
}

/// Sixteen rows of codes, one byte each, padded with zeros to whole blocks.
pub(super) struct Codes {
    data: Vec<u8>,
    padded: usize,
}

impl Codes {
    pub fn new(cols: usize) -> Codes {
        let padded = blocks(cols) * BLOCK;
        Codes { data: vec![0; PANEL * padded], padded }
    }

    pub fn row(&mut self, lane: usize, cols: usize) -> &mut [u8] {
        &mut self.data[lane * self.padded..][..cols]
    }

    pub fn lane(&self, lane: usize) -> &[u8] {
        &self.data[lane * self.padded..][..self.padded]
    }

    /// Four k of sixteen rows from k = 4·`group` on, `[16][4]`.
    #[inline(always)]
    pub fn group(&self, group: usize) -> [u8; 64] {
        let mut out = [0; 64];
        for (lane, four) in out.chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&self.data[lane * self.padded + 4 * group..][..4]);
        }
        out
    }
}

/// The rows of `panel` that exist, as `(lane, row)`.
pub(super) fn lanes(panel: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (panel * PANEL..rows.min((panel + 1) * PANEL)).enumerate()
}
