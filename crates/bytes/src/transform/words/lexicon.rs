//! Words without regard to capitals, counted, each with a number.

use brevity_coding::simd::prefetch;
use std::ops::Range;

/// Letters that are compared at once.
const CHUNK: usize = 8;
/// ASCII letters become small letters by this bit.
const SMALL: u64 = 0x2020_2020_2020_2020;

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    /// Its first eight letters, zeros where there are fewer.
    head: u64,
    start: u32,
    length: u32,
    count: u32,
}

/// What is looked for of a word.
pub struct Key {
    hash: u64,
    head: u64,
    start: usize,
    length: u32,
}

/// A table of words, probed in sequence.
#[derive(Default)]
pub struct Lexicon {
    letters: Vec<u8>,
    entries: Vec<Entry>,
    /// One more than a number, 0 where there is none; a power of two of them.
    slots: Vec<u32>,
}

impl Lexicon {
    /// What is looked for of the word of ASCII letters that stands here.
    #[inline(always)]
    pub fn key(text: &[u8], at: Range<usize>) -> Key {
        let length = at.len();
        let head = small(text, at.start, length.min(CHUNK));
        let mut hash = head.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for from in (CHUNK..length).step_by(CHUNK) {
            let part = small(text, at.start + from, (length - from).min(CHUNK));
            hash = (hash.rotate_left(29) ^ part).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        }
        Key { hash: hash ^ hash >> 32, head, start: at.start, length: length as u32 }
    }

    /// Counts the words of these keys, whose numbers go behind the others: memory is asked for ahead.
    pub fn count(&mut self, text: &[u8], keys: &[Key], numbers: &mut Vec<u32>) {
        while (self.entries.len() + keys.len()) * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        for key in keys {
            prefetch(&self.slots, key.hash as usize & mask);
        }
        for key in keys {
            prefetch(&self.entries, (self.slots[key.hash as usize & mask] as usize).saturating_sub(1));
        }
        numbers.extend(keys.iter().map(|key| self.count_one(text, key)));
    }

    #[inline(always)]
    fn count_one(&mut self, text: &[u8], key: &Key) -> u32 {
        let (length, at) = (key.length as usize, key.start..key.start + key.length as usize);
        let mask = self.slots.len() - 1;
        let mut slot = key.hash as usize & mask;
        while let Some(number) = self.slots[slot].checked_sub(1) {
            let entry = &mut self.entries[number as usize];
            if entry.hash == key.hash && entry.head == key.head && entry.length as usize == length {
                let known = &self.letters[entry.start as usize..][..length];
                if length <= CHUNK || known[CHUNK..].eq_ignore_ascii_case(&text[at.start + CHUNK..at.end]) {
                    entry.count += 1;
                    return number;
                }
            }
            slot = (slot + 1) & mask;
        }
        let start = self.letters.len() as u32;
        self.letters.extend(text[at].iter().map(u8::to_ascii_lowercase));
        self.entries.push(Entry { hash: key.hash, head: key.head, start, length: key.length, count: 1 });
        self.slots[slot] = self.entries.len() as u32;
        self.slots[slot] - 1
    }

    /// Numbers with how often each was counted.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u32)> {
        self.entries.iter().enumerate().map(|(number, entry)| (number as u32, entry.count))
    }

    /// A word, in small letters.
    pub fn word(&self, number: u32) -> &[u8] {
        let entry = &self.entries[number as usize];
        &self.letters[entry.start as usize..][..entry.length as usize]
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn grow(&mut self) {
        let mask = (self.slots.len() * 2).max(1 << 12) - 1;
        self.slots = vec![0; mask + 1];
        for (number, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & mask;
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number as u32 + 1;
        }
    }
}

/// At most eight letters from here on, in small letters.
#[inline(always)]
fn small(text: &[u8], at: usize, length: usize) -> u64 {
    let mask = u64::MAX >> (8 * (CHUNK - length));
    let letters = match text[at..].first_chunk::<CHUNK>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => text[at..].iter().rev().fold(0, |letters, &byte| letters << 8 | u64::from(byte)),
    };
    (letters | SMALL) & mask
}
