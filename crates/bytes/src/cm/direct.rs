//! Probabilities without histories: a counter for each node of a nibble in each context of the first bank, for what bit histories
//! round away.

use super::contexts::BANK;
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::Logistic;
use brevity_coding::simd::{pages, prefetch_second};

/// What counters remember.
const MEMORY: u32 = 255;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([Counter; 16]);

/// The table: a line of sixteen counters for a context and a nibble, unchecked.
pub struct Direct {
    lines: Vec<Line>,
    shift: u32,
}

impl Direct {
    /// A table of `2^bits` bytes.
    pub fn new(bits: u32) -> Self {
        let bits = bits.max(12);
        Self { lines: pages::filled(1 << (bits - 6), Line([Counter::default(); 16])), shift: 64 - (bits - 6) }
    }

    /// Where the contexts of a nibble are, and a request for them.
    #[inline(always)]
    pub fn ask(&self, hashes: &[u64; BANK], places: &mut [u32; BANK]) {
        for (place, hash) in places.iter_mut().zip(hashes) {
            let at = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> self.shift;
            *place = at as u32;
            prefetch_second(&self.lines, at as usize);
        }
    }

    /// An input for each context.
    #[inline(always)]
    pub fn predict(&self, places: &[u32; BANK], node: usize, logistic: &Logistic, inputs: &mut [i16]) {
        for (&place, x) in places.iter().zip(inputs) {
            let counter = self.lines.get(place as usize).map_or(Counter::default(), |line| line.0[node & 15]);
            *x = logistic.stretch(counter.p());
        }
    }

    /// The bit that came.
    #[inline(always)]
    pub fn learn(&mut self, places: &[u32; BANK], node: usize, bit: u32, rates: Rates) {
        for &place in places {
            if let Some(line) = self.lines.get_mut(place as usize) {
                line.0[node & 15].learn(bit, MEMORY, rates);
            }
        }
    }
}
