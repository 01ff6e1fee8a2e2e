//! rANS in eight states where each symbol may have a table of its own.
//!
//! The states, the interval of a state and its refill are those of [`super`]; symbol `i` belongs to state `i mod 8`, and names its table
//! when it is decoded. Raw bits are symbols of a uniform table. A stream is 8 states of 32 bits, then words of 16 bits, all
//! little-endian; at the end every state is 2¹⁵ again and every word is read.

use super::table::{self, Entries};
use super::{BITS, LEAST};
use crate::error::Error;

/// States side by side.
const LANES: usize = 8;
const MASK: u32 = (1 << BITS) - 1;

/// The entries of symbols with these frequencies, from 0 on; none unless they sum to 4,096 and no symbol has all.
pub fn entries(frequencies: &[u32]) -> Option<Box<Entries>> {
    let whole = frequencies.iter().sum::<u32>() == 1 << BITS && frequencies.iter().all(|&f| f < 1 << BITS);
    if !whole || frequencies.len() > 256 {
        return None;
    }
    Some(table::entries(frequencies.iter().copied()))
}

/// Gathers symbols; they are encoded at the end, the last first.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    /// Start and size of each symbol's interval.
    intervals: Vec<(u16, u16)>,
}

impl Writer {
    /// With room for so many symbols.
    pub fn with_capacity(symbols: usize) -> Self {
        Self { intervals: Vec::with_capacity(symbols) }
    }

    /// A symbol whose frequency is `size` and that of all before it `start`, of 4,096.
    ///
    /// # Panics
    /// If there is no such interval, or it is everything.
    pub fn put(&mut self, start: u32, size: u32) {
        assert!(size > 0 && size <= MASK && start + size <= 1 << BITS, "{size} of 4096 from {start}");
        self.intervals.push((start as u16, size as u16));
    }

    /// The lowest `count` bits of a value, at most 32.
    pub fn put_raw(&mut self, value: u32, count: u32) {
        let mut left = count.min(32);
        while left > 0 {
            let bits = left.min(8);
            left -= bits;
            let digit = value >> left & ((1 << bits) - 1);
            self.put(digit << (BITS - bits), 1 << (BITS - bits));
        }
    }

    /// The stream.
    pub fn finish(self) -> Vec<u8> {
        let mut states = [LEAST; LANES];
        let mut words = Vec::with_capacity(self.intervals.len() / 2);
        for (i, &(start, size)) in self.intervals.iter().enumerate().rev() {
            let (state, start, size) = (&mut states[i % LANES], u32::from(start), u32::from(size));
            if *state >= size << 19 {
                words.push(*state as u16);
                *state >>= 16;
            }
            *state = ((*state / size) << BITS) + start + *state % size;
        }
        let states = states.iter().flat_map(|state| state.to_le_bytes());
        states.chain(words.iter().rev().flat_map(|word| word.to_le_bytes())).collect()
    }
}

/// Gives symbols back in their order.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    states: [u32; LANES],
    lane: usize,
    words: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins.
    ///
    /// # Errors
    /// [`Error::Truncated`] if not even the states are there.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let cut = || Error::Truncated { length: bytes.len(), missing: 4 * LANES - bytes.len() };
        let (head, words) = bytes.split_at_checked(4 * LANES).ok_or_else(cut)?;
        let mut states = [0; LANES];
        for (state, four) in states.iter_mut().zip(head.as_chunks::<4>().0) {
            // Bits that no encoder sets are dropped, so that all arithmetic stays below 2³².
            *state = u32::from_le_bytes(*four) & i32::MAX as u32;
        }
        Ok(Self { states, lane: 0, words, at: 0 })
    }

    #[inline(always)]
    fn step(&mut self, decode: impl FnOnce(u32) -> (u32, u32, u32)) -> u32 {
        let state = &mut self.states[self.lane % LANES];
        self.lane += 1;
        let (symbol, size, offset) = decode(*state & MASK);
        let mut x = size * (*state >> BITS) + offset;
        if x < LEAST {
            let word = self.words.get(self.at..).and_then(|rest| rest.first_chunk::<2>()).copied().unwrap_or_default();
            x = x << 16 | u32::from(u16::from_le_bytes(word));
            self.at += 2;
        }
        *state = x;
        symbol
    }

    /// The next symbol, which has this table.
    #[inline(always)]
    pub fn take(&mut self, entries: &Entries) -> u32 {
        self.step(|low| {
            let entry = entries[low as usize];
            (entry & 0xFF, entry >> 8 & MASK, entry >> 20)
        })
    }

    /// The next `count` raw bits, at most 32.
    #[inline]
    pub fn take_raw(&mut self, count: u32) -> u32 {
        let (mut value, mut left) = (0, count.min(32));
        while left > 0 {
            let bits = left.min(8);
            left -= bits;
            let size = 1 << (BITS - bits);
            value = value << bits | self.step(|low| (low / size, size, low % size));
        }
        value
    }

    /// Ends.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Trailing`] if the stream is not what a writer made of so many symbols.
    pub fn finish(self) -> Result<(), Error> {
        let length = 4 * LANES + self.words.len();
        if self.at > self.words.len() {
            return Err(Error::Truncated { length, missing: self.at - self.words.len() });
        }
        if self.at < self.words.len() || self.states != [LEAST; LANES] {
            return Err(Error::Trailing { length, used: 4 * LANES + self.at });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three tables: an even one, a steep one, one of two symbols.
    fn tables() -> [Vec<u32>; 3] {
        let steep = (0..10).map(|i| 4 << i).chain([4]).collect();
        [vec![16; 256], steep, vec![1, 4095]]
    }

    fn starts(table: &[u32], symbol: usize) -> u32 {
        table[..symbol].iter().sum()
    }

    #[test]
    fn only_whole_tables_are_taken() {
        assert!(tables().iter().all(|table| entries(table).is_some()));
        assert!(entries(&[4096]).is_none());
        assert!(entries(&[4095]).is_none());
        assert!(entries(&[8; 512]).is_none());
    }

    proptest! {
        #[test]
        fn symbols_come_back_at_their_cost(picks in prop::collection::vec((0usize..3, any::<u32>(), 0u32..33), 0..2000)) {
            let tables = tables();
            let all: Vec<_> = tables.iter().map(|table| entries(table).unwrap()).collect();
            let mut writer = Writer::with_capacity(picks.len());
            let mut bits = 0.0;
            for &(table, value, count) in &picks {
                let symbol = value as usize % tables[table].len();
                let size = tables[table][symbol];
                writer.put(starts(&tables[table], symbol), size);
                writer.put_raw(value, count);
                bits += 12.0 - f64::from(size).log2() + f64::from(count);
            }
            let bytes = writer.finish();
            prop_assert!(bytes.len() as f64 * 8.0 <= bits * 1.001 + 8.0 * 33.0, "{} bytes, {bits} bits", bytes.len());
            let mut reader = Reader::new(&bytes).unwrap();
            for &(table, value, count) in &picks {
                prop_assert_eq!(reader.take(&all[table]) as usize, value as usize % tables[table].len());
                prop_assert_eq!(reader.take_raw(count), (u64::from(value) & ((1u64 << count) - 1)) as u32);
            }
            reader.clone().finish().unwrap();
            let longer = [bytes.as_slice(), &[0, 0]].concat();
            let mut reader = Reader::new(&longer).unwrap();
            for &(table, _, count) in &picks {
                reader.take(&all[table]);
                reader.take_raw(count);
            }
            let found = matches!(reader.finish(), Err(Error::Trailing { .. }));
            prop_assert!(found);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in any::<Vec<u8>>(), count in 0usize..500) {
            let table = entries(&tables()[1]).unwrap();
            if let Ok(mut reader) = Reader::new(&bytes) {
                (0..count).for_each(|i| {
                    reader.take(&table);
                    reader.take_raw(i as u32 % 20);
                });
                let _ = reader.finish();
            }
        }
    }
}
