//! Quick parsing: the first match that is found is taken.

use super::Sequence;
use super::matching::{common, hash, word};
use super::symbols::Recent;
use std::ops::Range;

/// Bytes that agree where a place is looked up, in the table of long strings and in that of short ones.
const KEYS: [usize; 2] = [8, 5];
/// Matches are looked for up to so many bytes before the end.
const TAIL: usize = 16;
/// Literals after which one more byte is passed over at a step.
const PATIENCE: usize = 128;

/// Where strings of eight and of five bytes came last.
pub struct Fast {
    tables: [Vec<u32>; 2],
    bits: [u32; 2],
}

impl Fast {
    /// With tables of at most `2^bits` places, for so many bytes.
    pub fn new(bits: u32, length: usize) -> Self {
        let bits = length.max(1).ilog2().clamp(10, bits);
        Self { tables: [vec![0; 1 << bits], vec![0; 1 << bits]], bits: [bits, bits] }
    }

    #[inline(always)]
    fn enter(&mut self, table: usize, word: u64, at: usize) -> usize {
        let slot = hash(word, KEYS[table], self.bits[table]);
        match self.tables[table].get_mut(slot) {
            Some(entry) => std::mem::replace(entry, at as u32) as usize,
            None => 0,
        }
    }

    /// The sequences of a part; what is behind the last of them are literals.
    pub fn parse(&mut self, bytes: &[u8], part: Range<usize>, recent: &mut Recent, out: &mut Vec<Sequence>) {
        let (mut at, mut from) = (part.start.max(1), part.start);
        let end = part.end.min(bytes.len().saturating_sub(TAIL));
        while at < end {
            let here = word(bytes, at);
            let candidates = [self.enter(0, here, at), self.enter(1, here, at)];
            let Some((begin, length, distance)) = self.find(bytes, at, part.end, here, candidates, recent) else {
                at += 1 + (at - from) / PATIENCE;
                continue;
            };
            let mut begin = begin;
            let mut length = length;
            while begin > from && begin > distance && bytes[begin - 1] == bytes[begin - 1 - distance] {
                begin -= 1;
                length += 1;
            }
            out.push(Sequence { literals: (begin - from) as u32, length: length as u32, distance: distance as u32 });
            recent.push(distance as u32);
            let next = begin + length;
            for place in [at + 2, next.saturating_sub(2), next.saturating_sub(1)] {
                if place > at && place < end {
                    let word = word(bytes, place);
                    self.enter(0, word, place);
                    self.enter(1, word, place);
                }
            }
            (at, from) = (next, next);
        }
    }

    /// Where a match begins, its length and its distance.
    #[inline(always)]
    fn find(
        &mut self,
        bytes: &[u8],
        at: usize,
        end: usize,
        here: u64,
        [long, short]: [usize; 2],
        recent: &Recent,
    ) -> Option<(usize, usize, usize)> {
        let matched = |earlier: usize, at: usize| (at, common(bytes, earlier, at, end), at - earlier);
        let repeat = recent.0[0] as usize;
        if at + 1 > repeat && (word(bytes, at + 1 - repeat) ^ here >> 8) << 32 == 0 {
            return Some(matched(at + 1 - repeat, at + 1)).filter(|found| found.1 >= 4);
        }
        if long < at && word(bytes, long) == here {
            return Some(matched(long, at)).filter(|found| found.1 >= 5);
        }
        if short < at && (word(bytes, short) ^ here) << 24 == 0 {
            let next = word(bytes, at + 1);
            let longer = self.enter(0, next, at + 1);
            if longer < at && word(bytes, longer) == next {
                return Some(matched(longer, at + 1)).filter(|found| found.1 >= 5);
            }
            return Some(matched(short, at)).filter(|found| found.1 >= 5);
        }
        None
    }
}
