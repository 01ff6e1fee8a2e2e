//! The match model: the longest earlier place that the last bytes were seen at says what comes next.

use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::Logistic;
use brevity_coding::simd::{pages, prefetch};

/// How long matches are told apart.
const BUCKETS: usize = 24;
/// Longest match that is counted.
const LONGEST: u32 = 65_535;

/// Where contexts were last seen, shared by the lanes, and how far matches can be trusted.
pub struct Places {
    table: Vec<u32>,
    shift: u32,
    trust: [[Counter; 2]; BUCKETS],
    least: usize,
}

impl Places {
    /// `2^bits` places for contexts of `least` bytes.
    pub fn new(bits: u32, least: usize) -> Self {
        let start = |length: usize| Counter::new((32_768 + 29_000 * length.min(8) / 8) as u16);
        let mut table = vec![0; 1 << bits];
        pages::prefer(&mut table);
        Self { table, shift: 32 - bits, trust: std::array::from_fn(|bucket| [start(bucket); 2]), least }
    }

    #[inline(always)]
    fn hash(&self, bytes: &[u8], end: usize) -> Option<usize> {
        let start = end.checked_sub(self.least)?;
        let mut hash = 0u32;
        for &byte in bytes.get(start..end)? {
            hash = (hash.wrapping_add(u32::from(byte)).wrapping_add(1)).wrapping_mul(0x2F0B_4C47);
            hash ^= hash >> 15;
        }
        Some((hash.wrapping_mul(0x9E37_79B1) >> self.shift) as usize)
    }
}

/// The match that a lane follows.
#[derive(Clone, Default)]
pub struct Match {
    pointer: usize,
    /// Of the last context, in the table.
    place: usize,
    length: u32,
    expected: u32,
    bucket: usize,
    /// The bit that is expected next, where one is.
    bit: Option<u32>,
}

impl Match {
    /// Moves on by the byte that came, `at` is the position behind it, as long as what it points to is known, and asks for the place where its context was seen.
    #[inline(always)]
    pub fn advance(&mut self, places: &Places, bytes: &[u8], at: usize, known: impl Fn(usize) -> Option<usize>) {
        if self.length > 0 && bytes.get(self.pointer) == bytes.get(at - 1) && known(self.pointer + 1).is_some() {
            self.length = (self.length + 1).min(LONGEST);
            self.pointer += 1;
        } else {
            self.length = 0;
        }
        self.place = places.hash(bytes, at).unwrap_or(0);
        prefetch(&places.table, self.place);
        self.expected = self.expected(bytes);
    }

    fn expected(&self, bytes: &[u8]) -> u32 {
        u32::from(bytes.get(self.pointer).copied().unwrap_or(0)) | 256
    }

    /// Finds a match if there is none, in a lane that began at `start`. `known` says whether a position was decoded already, and
    /// where the lane it belongs to began.
    #[inline(always)]
    pub fn look(
        &mut self,
        places: &mut Places,
        bytes: &[u8],
        start: usize,
        at: usize,
        known: impl Fn(usize) -> Option<usize>,
    ) {
        if at < start + places.least {
            return;
        }
        let Some(entry) = places.table.get_mut(self.place) else { return };
        if self.length == 0 {
            self.pointer = *entry as usize;
            if let Some(lane) = known(self.pointer) {
                let behind = bytes[lane..self.pointer].iter().rev();
                let here = bytes[start..at].iter().rev();
                self.length = behind.zip(here).take(400).take_while(|(a, b)| a == b).count() as u32;
            }
        }
        *entry = at as u32;
        if self.length > 0 && known(self.pointer).is_none() {
            self.length = 0;
        }
        self.expected = self.expected(bytes);
        self.bucket = match self.length {
            0..=15 => self.length as usize,
            16..=31 => 16 + (self.length as usize - 16) / 8,
            n => (13 + n.ilog2() as usize).min(BUCKETS - 1),
        };
    }

    /// How long it is, in eight steps.
    #[inline(always)]
    pub fn confidence(&self) -> usize {
        if self.bit.is_none() {
            return 0;
        }
        match self.length {
            0 => 0,
            1..=6 => 1,
            7..=10 => 2,
            11..=15 => 3,
            16..=23 => 4,
            24..=31 => 5,
            32..=127 => 6,
            _ => 7,
        }
    }

    /// The byte that it expects, or 0.
    #[inline(always)]
    pub fn byte(&self) -> u32 {
        if self.length > 0 { self.expected & 255 } else { 0 }
    }

    /// The byte that it expects and how long it is, in steps below 32.
    #[inline(always)]
    pub fn vote(&self) -> Option<(usize, u8)> {
        (self.length > 0).then_some((self.bucket, self.expected as u8))
    }

    /// Two inputs: what the bucket was worth so far, and the length itself.
    #[inline(always)]
    pub fn predict(&mut self, places: &Places, partial: u32, bits: u32, logistic: &Logistic) -> [i16; 2] {
        self.bit = None;
        if self.length == 0 || self.expected >> (8 - bits) != partial {
            return [0; 2];
        }
        let bit = (self.expected >> (7 - bits)) & 1;
        self.bit = Some(bit);
        let stretched = logistic.stretch(places.trust[self.bucket][bit as usize].p());
        let length = (self.length.min(32) * 16) as i16;
        if bit == 1 { [stretched, length] } else { [-stretched, -length] }
    }

    /// Learns the bit that came.
    #[inline(always)]
    pub fn learn(&mut self, places: &mut Places, bit: u32, rates: Rates) {
        if let Some(expected) = self.bit {
            let hit = u32::from(expected == bit);
            places.trust[self.bucket][expected as usize].learn(hit, 1000, rates);
            if hit == 0 {
                self.length = 0;
            }
        }
    }
}
