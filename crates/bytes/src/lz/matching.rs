//! Where bytes came before.

use crate::pages::Pages;
use brevity_coding::simd::prefetch;

/// Eight bytes, zeros behind the end.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => bytes.get(at..).unwrap_or(&[]).iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// Bytes that two places have in common, the later one's at most up to `end`.
#[inline(always)]
pub fn common(bytes: &[u8], earlier: usize, later: usize, end: usize) -> usize {
    let most = end.saturating_sub(later);
    let mut length = 0;
    while length + 8 <= most {
        let differ = word(bytes, earlier + length) ^ word(bytes, later + length);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let differ = word(bytes, earlier + length) ^ word(bytes, later + length);
    (length + differ.trailing_zeros() as usize / 8).min(most)
}

/// A hash of the first bytes of a word.
#[inline(always)]
pub fn hash(word: u64, count: usize, bits: u32) -> usize {
    ((word << (64 - 8 * count)).wrapping_mul(0x9E37_79B1_85EB_CA87) >> (64 - bits)) as usize
}

/// Bytes that agree where a place is looked up, in rising order.
const KEYS: [usize; 10] = [3, 4, 5, 6, 7, 9, 11, 15, 24, 48];
/// Words that the longest begins in, and one.
const WORDS: usize = KEYS[KEYS.len() - 1] / 8 + 1;
/// Places ahead whose lines of the tables are asked for, and those whose candidates are.
const AHEAD: usize = 16;
const NEAR: usize = 8;

/// For each of ten lengths, where such a string of bytes came last: what is found is the nearest place of each length, and as none hangs
/// on another, all are asked for ahead.
pub struct Latest {
    tables: Vec<Pages<u32>>,
    bits: [u32; KEYS.len()],
    /// Hashes of the places ahead.
    hashes: [[u32; KEYS.len()]; AHEAD],
    /// Up to where they are.
    hashed: usize,
}

/// log₂ of the places of each table.
fn sizes(length: usize) -> [u32; KEYS.len()] {
    KEYS.map(|key| length.max(1).ilog2().clamp(10, if key == 3 { 15 } else { 22 }))
}

impl Latest {
    /// Bytes of the tables for so many bytes.
    pub fn memory(length: usize) -> usize {
        sizes(length).iter().map(|bits| 4 << bits).sum()
    }

    /// For so many bytes.
    pub fn new(length: usize) -> Self {
        let bits = sizes(length);
        Self {
            tables: bits.iter().map(|&bits| Pages::new(1 << bits)).collect(),
            bits,
            hashes: [[0; KEYS.len()]; AHEAD],
            hashed: 0,
        }
    }

    #[inline(always)]
    fn ask(&mut self, bytes: &[u8], at: usize) {
        let mut words = [0; WORDS];
        let mut before = [0u64; WORDS];
        for n in 0..WORDS {
            words[n] = word(bytes, at + 8 * n);
            if n + 1 < WORDS {
                before[n + 1] = (before[n] ^ words[n]).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29);
            }
        }
        let hashes = &mut self.hashes[at % AHEAD];
        for (i, (&key, &bits)) in KEYS.iter().zip(&self.bits).enumerate() {
            let (whole, rest) = (key / 8, key % 8);
            let word = before[whole] ^ if rest > 0 { words[whole] << (64 - 8 * rest) } else { 0 };
            hashes[i] = hash(word, 8, bits) as u32;
            prefetch(&self.tables[i], hashes[i] as usize);
        }
    }

    /// Where the bytes of a place came last, of each length, and enters the place. Places are looked up in rising order.
    #[inline(always)]
    pub fn find(&mut self, bytes: &[u8], at: usize) -> [u32; KEYS.len()] {
        self.ask_to(bytes, at, at + AHEAD);
        for (table, &hash) in self.tables.iter().zip(&self.hashes[(at + NEAR) % AHEAD]) {
            prefetch(bytes, table.get(hash as usize).map_or(0, |&place| place as usize));
        }
        self.enter(at)
    }

    /// The same where few places are looked up.
    pub fn find_alone(&mut self, bytes: &[u8], at: usize) -> [u32; KEYS.len()] {
        self.ask_to(bytes, at, at + 1);
        self.enter(at)
    }

    #[inline(always)]
    fn ask_to(&mut self, bytes: &[u8], at: usize, end: usize) {
        self.hashed = self.hashed.max(at);
        while self.hashed < end {
            self.ask(bytes, self.hashed);
            self.hashed += 1;
        }
    }

    #[inline(always)]
    fn enter(&mut self, at: usize) -> [u32; KEYS.len()] {
        let hashes = self.hashes[at % AHEAD];
        let mut found = [0; KEYS.len()];
        for ((found, table), &hash) in found.iter_mut().zip(&mut self.tables).zip(&hashes) {
            if let Some(entry) = table.get_mut(hash as usize) {
                *found = *entry;
                *entry = at as u32;
            }
        }
        found
    }
}
