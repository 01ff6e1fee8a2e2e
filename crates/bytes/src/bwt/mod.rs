//! The Burrows–Wheeler transform and a coder of what it gives.
//!
//! Sorted by what follows them, bytes that come in the same context stand together (M. Burrows, D. Wheeler, 1994). [`forward`] gives the
//! byte before each suffix in their order; [`backward`] follows several chains through it at once, since each step waits for memory.
//! [`ranks`] codes the result.

mod numbers;
pub mod ranks;
mod suffixes;

use crate::pages::Pages;

/// Chains that are followed at once, at most.
const CHAINS: usize = 16;

/// log₂ of the bytes of a chain, at least: short texts have one chain.
const LEAST: u32 = 10;

/// log₂ of the bytes of each chain of a text but the last.
fn chain(length: usize) -> u32 {
    length.div_ceil(CHAINS).next_power_of_two().ilog2().max(LEAST)
}

/// Chains of a text: where the suffixes stand with which they begin is what [`backward`] needs.
pub fn chains(length: usize) -> usize {
    length.div_ceil(1 << chain(length))
}

/// The byte before each suffix (of the whole text: the last byte) of at most 2³¹ − 1 bytes, and where the suffixes stand that begin the
/// chains.
pub fn forward(text: &[u8]) -> (Vec<u8>, Vec<u32>) {
    suffixes::transform(text, chain(text.len()))
}

/// The text again; nothing if the starts are not as many as there are [`chains`], or one is outside.
pub fn backward(bytes: &[u8], starts: &[u32]) -> Option<Vec<u8>> {
    let length = bytes.len();
    if starts.len() != chains(length) || starts.iter().any(|&start| start as usize >= length) {
        return None;
    }
    let Some(&whole) = starts.first() else { return Some(Vec::new()) };
    let buckets = Buckets::of(bytes);
    let next = successors(bytes, whole as usize, &buckets);
    let mut out = vec![0; length];
    let size = 1 << chain(length);
    let mut rows: Vec<(&mut [u8], u32)> = out.chunks_mut(size).zip(starts.iter().copied()).collect();
    for at in 0..size.min(length) {
        for (chain, row) in &mut rows {
            if let Some(slot) = chain.get_mut(at) {
                *slot = buckets.symbol(*row);
                *row = next[*row as usize];
            }
        }
    }
    Some(out)
}

/// Of the row of each suffix, that of the one behind it; of the last one, that of the `whole` text.
fn successors(bytes: &[u8], whole: usize, buckets: &Buckets) -> Pages<u32> {
    let mut place = buckets.starts;
    let mut next = Pages::new(bytes.len());
    let mut lead = |from: usize, part: &[u8]| {
        for (row, &byte) in (from as u32..).zip(part) {
            let slot = &mut place[usize::from(byte)];
            next[*slot as usize] = row;
            *slot += 1;
        }
    };
    // The suffix of one byte, the last, is the least of its bucket: it goes first.
    lead(whole, &bytes[whole..=whole]);
    lead(0, &bytes[..whole]);
    lead(whole + 1, &bytes[whole + 1..]);
    next
}

/// The first bytes of the rows: where the bucket of each begins, and what the first row of each [`Buckets::PART`] begins with.
struct Buckets {
    starts: [u32; 256],
    guesses: Vec<u8>,
}

impl Buckets {
    /// log₂ of the rows of a part.
    const PART: u32 = 12;

    fn of(bytes: &[u8]) -> Self {
        let mut counts = [0u32; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        let mut sum = 0;
        let starts = counts.map(|count| {
            sum += count;
            sum - count
        });
        let parts = 0..(bytes.len() >> Self::PART) as u32 + 1;
        let first = |part: u32| starts.partition_point(|&start| start <= part << Self::PART) - 1;
        Self { starts, guesses: parts.map(|part| first(part) as u8).collect() }
    }

    /// The byte that this row begins with.
    #[inline(always)]
    fn symbol(&self, row: u32) -> u8 {
        let mut symbol = self.guesses[(row >> Self::PART) as usize];
        while symbol < 255 && self.starts[usize::from(symbol) + 1] <= row {
            symbol += 1;
        }
        symbol
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_chains_come_back() {
        let text: Vec<u8> = (0..70_001u32).map(|n| (n.wrapping_mul(n >> 3) >> 7) as u8 & 31).collect();
        for length in [1, 1023, 1024, 1025, 16_384, 16_385, 70_001] {
            let (bytes, starts) = forward(&text[..length]);
            assert_eq!(starts.len(), chains(length));
            assert!(starts.len() <= CHAINS);
            assert!(backward(&bytes, &starts).as_deref() == Some(&text[..length]));
            assert!(backward(&bytes, &starts[1..]).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..300), few in prop::collection::vec(0u8..3, 0..300)) {
            for text in [text, few] {
                let (bytes, starts) = forward(&text);
                prop_assert_eq!(backward(&bytes, &starts), Some(text));
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in any::<Vec<u8>>(), starts in prop::collection::vec(0u32..300, 0..3)) {
            let _ = backward(&bytes, &starts);
        }
    }
}
