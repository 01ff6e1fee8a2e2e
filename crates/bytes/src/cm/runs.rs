//! Runs: what came last in each context, and how often in a row. What is deterministic so far is worth more than its bit
//! histories say.

use super::contexts::{BANK, Hashes};
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::Logistic;
use brevity_coding::simd::prefetch;

/// Lengths of runs that are told apart.
const BUCKETS: usize = 16;

/// One word for each place: a check of 16 bits, how often, what.
pub struct Runs<const B: usize> {
    table: Vec<u32>,
    shift: u32,
    trust: [[[Counter; BUCKETS]; BANK]; B],
}

/// What the contexts of one byte say.
pub struct Running<const B: usize> {
    places: [[u32; BANK]; B],
    /// How often and what, the check left out.
    words: [[u32; BANK]; B],
    checks: [[u16; BANK]; B],
}

impl<const B: usize> Default for Running<B> {
    fn default() -> Self {
        Self { places: [[0; BANK]; B], words: [[0; BANK]; B], checks: [[0; BANK]; B] }
    }
}

impl<const B: usize> Runs<B> {
    /// `2^bits` places.
    pub fn new(bits: u32) -> Self {
        let start = |length: usize| Counter::new((32_768 + 31_000 * length.min(8) / 9) as u16);
        Self { table: vec![0; 1 << bits], shift: 64 - bits, trust: [[std::array::from_fn(start); BANK]; B] }
    }

    /// Asks for the places of a byte's contexts.
    #[inline(always)]
    pub fn ask(&self, hashes: &Hashes<B>, running: &mut Running<B>) {
        let seats = running.places.as_flattened_mut().iter_mut().zip(running.checks.as_flattened_mut());
        for ((place, check), hash) in seats.zip(hashes.as_flattened()) {
            let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *place = (hash >> self.shift) as u32;
            *check = (hash >> 8) as u16;
            prefetch(&self.table, *place as usize);
        }
    }

    /// Reads them.
    #[inline(always)]
    pub fn load(&self, running: &mut Running<B>) {
        for bank in 0..B {
            for lane in 0..BANK {
                let word = self.table.get(running.places[bank][lane] as usize).copied().unwrap_or(0);
                let fits = word >> 16 == u32::from(running.checks[bank][lane]);
                running.words[bank][lane] = if fits { word & 0xFFFF } else { 0 };
            }
        }
    }

    /// An input for each context.
    #[inline(always)]
    pub fn predict(&self, running: &Running<B>, partial: u32, bits: u32, logistic: &Logistic, inputs: &mut [i32]) {
        for (i, (&word, x)) in running.words.as_flattened().iter().zip(inputs).enumerate() {
            let byte = word & 0xFF | 0x100;
            let active = word >> 8 != 0 && byte >> (8 - bits) == partial;
            let trust = self.trust.as_flattened()[i][bucket(word)];
            let stretched = i32::from(logistic.stretch(trust.p()));
            let signed = if (byte >> (7 - bits)) & 1 == 1 { stretched } else { -stretched };
            *x = if active { signed } else { 0 };
        }
    }

    /// What each context expects: its number, sixteen steps for how often, and the byte.
    #[inline(always)]
    pub fn votes(running: &Running<B>) -> impl Iterator<Item = (usize, u8)> {
        let words = running.words.as_flattened().iter().enumerate();
        words.filter(|(_, word)| **word >> 8 != 0).map(|(i, &word)| (i * BUCKETS + bucket(word), word as u8))
    }

    /// The bit that came.
    #[inline(always)]
    pub fn learn(&mut self, running: &Running<B>, partial: u32, bits: u32, bit: u32, rates: Rates) {
        for (i, &word) in running.words.as_flattened().iter().enumerate() {
            let byte = word & 0xFF | 0x100;
            if word >> 8 != 0 && byte >> (8 - bits) == partial {
                let hit = u32::from((byte >> (7 - bits)) & 1 == bit);
                self.trust.as_flattened_mut()[i][bucket(word)].learn(hit, 1000, rates);
            }
        }
    }

    /// The byte that came.
    #[inline(always)]
    pub fn store(&mut self, running: &Running<B>, byte: u8) {
        for bank in 0..B {
            for lane in 0..BANK {
                let word = running.words[bank][lane];
                let count = if word & 0xFF == u32::from(byte) { ((word >> 8) + 1).min(255) } else { 1 };
                if let Some(place) = self.table.get_mut(running.places[bank][lane] as usize) {
                    *place = u32::from(running.checks[bank][lane]) << 16 | count << 8 | u32::from(byte);
                }
            }
        }
    }
}

#[inline(always)]
fn bucket(word: u32) -> usize {
    let count = (word >> 8) as usize;
    match count {
        0..=7 => count,
        8..=15 => 8 + (count - 8) / 4,
        16..=63 => 10 + (count - 16) / 16,
        64..=127 => 13,
        128..=254 => 14,
        _ => 15,
    }
}
