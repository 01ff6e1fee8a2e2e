//! Runs: what came last in each context, and how often in a row. What is deterministic so far is worth more than its bit
//! histories say.

use super::contexts::{BANK, Hashes};
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::Logistic;
use brevity_coding::simd::{pages, prefetch_second};

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
    /// Contexts whose byte agrees with the bits so far, how many of them there are, and the bucket of each context.
    live: [[u8; BANK]; B],
    alive: usize,
    buckets: [[u8; BANK]; B],
}

impl<const B: usize> Default for Running<B> {
    fn default() -> Self {
        let bytes = [[0; BANK]; B];
        Self {
            places: [[0; BANK]; B],
            words: [[0; BANK]; B],
            checks: [[0; BANK]; B],
            live: bytes,
            alive: 0,
            buckets: bytes,
        }
    }
}

impl<const B: usize> Runs<B> {
    /// `2^bits` places.
    pub fn new(bits: u32) -> Self {
        let start = |length: usize| Counter::new((32_768 + 31_000 * length.min(8) / 9) as u16);
        let mut table = vec![0; 1 << bits];
        pages::prefer(&mut table);
        Self { table, shift: 64 - bits, trust: [[std::array::from_fn(start); BANK]; B] }
    }

    /// Asks for the places of a byte's contexts.
    #[inline(always)]
    pub fn ask(&self, hashes: &Hashes<B>, running: &mut Running<B>) {
        let seats = running.places.as_flattened_mut().iter_mut().zip(running.checks.as_flattened_mut());
        for ((place, check), hash) in seats.zip(hashes.as_flattened()) {
            let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *place = (hash >> self.shift) as u32;
            *check = (hash >> 8) as u16;
            prefetch_second(&self.table, *place as usize);
        }
    }

    /// Reads them: what the byte may be is open, so all that say something are alive. Their inputs are 0 until they speak.
    #[inline(always)]
    pub fn load(&self, running: &mut Running<B>, inputs: &mut [i16]) {
        let mut alive = 0;
        for i in 0..B * BANK {
            let (place, check) = (running.places.as_flattened()[i], running.checks.as_flattened()[i]);
            let word = self.table.get(place as usize).copied().unwrap_or(0);
            let fits = word >> 16 == u32::from(check) && word >> 8 & 0xFF != 0;
            running.words.as_flattened_mut()[i] = if fits { word & 0xFFFF } else { 0 };
            running.buckets.as_flattened_mut()[i] = bucket(word & 0xFFFF) as u8;
            running.live.as_flattened_mut()[alive] = i as u8;
            alive += usize::from(fits);
        }
        running.alive = alive;
        inputs.fill(0);
    }

    /// An input for each context.
    #[inline(always)]
    pub fn predict(&self, running: &Running<B>, bits: u32, logistic: &Logistic, inputs: &mut [i16]) {
        for &i in &running.live.as_flattened()[..running.alive] {
            let i = usize::from(i);
            let word = running.words.as_flattened()[i];
            let trust = self.trust.as_flattened()[i][usize::from(running.buckets.as_flattened()[i]) & (BUCKETS - 1)];
            let stretched = logistic.stretch(trust.p());
            inputs[i] = if (word >> (7 - bits)) & 1 == 1 { stretched } else { -stretched };
        }
    }

    /// What each context expects: its number, sixteen steps for how often, and the byte.
    #[inline(always)]
    pub fn votes(running: &Running<B>) -> impl Iterator<Item = (usize, u8)> {
        let words = running.words.as_flattened().iter().enumerate();
        words.filter(|(_, word)| **word >> 8 != 0).map(|(i, &word)| (i * BUCKETS + bucket(word), word as u8))
    }

    /// The bit that came: who foretold another one is out.
    #[inline(always)]
    pub fn learn(&mut self, running: &mut Running<B>, bits: u32, bit: u32, rates: Rates, inputs: &mut [i16]) {
        let mut kept = 0;
        for at in 0..running.alive {
            let name = running.live.as_flattened()[at];
            let i = usize::from(name);
            let hit = (running.words.as_flattened()[i] >> (7 - bits)) & 1 == bit;
            let bucket = usize::from(running.buckets.as_flattened()[i]) & (BUCKETS - 1);
            self.trust.as_flattened_mut()[i][bucket].learn(u32::from(hit), 1000, rates);
            inputs[i] = if hit { inputs[i] } else { 0 };
            running.live.as_flattened_mut()[kept] = name;
            kept += usize::from(hit);
        }
        running.alive = kept;
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
