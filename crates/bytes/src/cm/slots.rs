//! The hash table of bit histories.
//!
//! A slot of 16 bytes holds a check byte and the 15 histories of the nodes of a nibble (a binary tree of four levels); four slots
//! share a cache line. A context finds its slot among the four of its line by the check, or takes the one whose root has seen
//! least.

use crate::pages::Pages;
use brevity_coding::simd::{Simd, prefetch, prefetch_second};

/// A check byte, then the histories of nodes 1 to 15.
pub type Slot = [u8; 16];

type Line = [Slot; 4];

/// Lines of 64 bytes in a page of 4 KiB, the smallest table.
const LINES_OF_A_PAGE: u32 = 64;

/// The table. Its size is a power of two of lines.
pub struct Slots {
    lines: Pages<Line>,
    shift: u32,
}

/// Where a slot was found: the index of its line times four, and the slot in the line.
#[derive(Clone, Copy, Default)]
pub struct Place(u32);

impl Slots {
    /// A table of `2^bits` bytes (at least 4 KiB), all empty.
    pub fn new(bits: u32) -> Self {
        let bits = bits.clamp(12, 36);
        Self { lines: Pages::new(1 << (bits - 6)), shift: 64 - (bits - 6) }
    }

    /// The table for a loop: looked up once.
    pub fn view(&mut self) -> View<'_> {
        View { lines: &mut self.lines, shift: self.shift }
    }
}

/// The lines of a table.
pub struct View<'a> {
    lines: &'a mut [Line],
    shift: u32,
}

impl View<'_> {
    /// Asks for the line of a hash, one of `many` or of few that are asked for together.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64, many: bool) {
        let line = (hash >> self.shift) as usize;
        if many { prefetch_second(self.lines, line) } else { prefetch(self.lines, line) }
    }

    /// A hash whose line is in the same page as that of `first` and by all else comes from `second`: the page's address is known
    /// by then.
    #[inline(always)]
    pub fn beside(&self, first: u64, second: u64) -> u64 {
        let inside = u64::MAX >> (64 - LINES_OF_A_PAGE.ilog2() - self.shift);
        first & !inside | (second ^ second >> 32) & inside
    }

    /// Finds the slot of a hash, or clears the least of its line for it.
    #[inline(always)]
    pub fn find<S: Simd>(&mut self, hash: u64) -> (Place, Slot) {
        let index = (hash >> self.shift) as usize;
        let check = (hash as u8).max(1);
        let Some(line) = self.lines.get_mut(index) else { return (Place::default(), [0; 16]) };
        let (at, fits) = S::choose(line, check);
        let kept = if fits { u128::from_le_bytes(line[at]) } else { u128::from(check) };
        let slot = kept.to_le_bytes();
        line[at] = slot;
        (Place((index as u32) << 2 | at as u32), slot)
    }

    /// Writes a slot back to where it was found.
    #[inline(always)]
    pub fn put(&mut self, place: Place, slot: &Slot) {
        if let Some(line) = self.lines.get_mut((place.0 >> 2) as usize) {
            line[(place.0 & 3) as usize] = *slot;
        }
    }
}
