//! Frequencies of 256 symbols that sum to 4,096.

use super::BITS;
use super::scalar::Step;
use crate::bits::{BitReader, BitWriter};
use crate::error::Error;

const TOTAL: u32 = 1 << BITS;

/// What each value of a state's low 12 bits decodes to: symbol | frequency << 8 | (value − start) << 20.
pub type Entries = [u32; 1 << BITS];

/// The entries of symbols with these frequencies, from 0 on, which sum to 4,096.
pub(super) fn entries(frequencies: impl Iterator<Item = u32>) -> Box<Entries> {
    let mut entries = Box::new([0; 1 << BITS]);
    let mut at = 0;
    for (symbol, frequency) in frequencies.enumerate() {
        for (offset, entry) in entries[at..at + frequency as usize].iter_mut().enumerate() {
            *entry = symbol as u32 | frequency << 8 | (offset as u32) << 20;
        }
        at += frequency as usize;
    }
    entries
}

/// Frequencies, and what coding by them looks up. At least two symbols have one.
#[derive(Clone)]
pub struct Table {
    frequencies: [u16; 256],
    steps: Box<[Step; 256]>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.frequencies.iter().enumerate().filter(|(_, f)| **f > 0)).finish()
    }
}

impl Table {
    /// The table for symbols that occur so often; none if fewer than two do.
    pub fn new(counts: &[u32; 256]) -> Option<Self> {
        let sum: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if counts.iter().filter(|count| **count > 0).count() < 2 {
            return None;
        }
        let share = |count: u32| match count {
            0 => 0,
            _ => ((u64::from(count) * u64::from(TOTAL) + sum / 2) / sum).max(1) as u16,
        };
        let mut frequencies = counts.map(share);
        let mut given: u32 = frequencies.iter().map(|&f| u32::from(f)).sum();
        // What rounding took or gave too much: one at a time where a symbol's cost changes least.
        while given != TOTAL {
            let up = given < TOTAL;
            // The derivative of a symbol's bits is its count over its frequency.
            let gain = |symbol: usize| {
                let f = f64::from(frequencies[symbol]);
                if up { f64::from(counts[symbol]) / f } else { -f64::from(counts[symbol]) / (f - 1.0) }
            };
            let may = |symbol: &usize| counts[*symbol] > 0 && (up || frequencies[*symbol] > 1);
            let symbol = (0..256).filter(may).max_by(|&a, &b| gain(a).total_cmp(&gain(b)))?;
            frequencies[symbol] = if up { frequencies[symbol] + 1 } else { frequencies[symbol] - 1 };
            given = if up { given + 1 } else { given - 1 };
        }
        Some(Self::of(frequencies))
    }

    fn of(frequencies: [u16; 256]) -> Self {
        let mut start = 0;
        let mut steps = Box::new([Step::default(); 256]);
        for (step, &frequency) in steps.iter_mut().zip(&frequencies) {
            *step = Step::new(u32::from(frequency), start);
            start += u32::from(frequency);
        }
        Self { frequencies, steps }
    }

    /// How often each symbol comes in 4,096.
    pub fn frequencies(&self) -> &[u16; 256] {
        &self.frequencies
    }

    /// Bits that symbols which occur so often take; infinite if one has no frequency.
    pub fn cost(&self, counts: &[u32; 256]) -> f64 {
        let bits = |(&count, &frequency): (&u32, &u16)| match count {
            0 => 0.0,
            _ => f64::from(count) * (f64::from(BITS) - f64::from(frequency).log2()),
        };
        counts.iter().zip(&self.frequencies).map(bits).sum()
    }

    pub(super) fn missing(&self, symbols: &[u8]) -> Option<u8> {
        let known: [bool; 256] = std::array::from_fn(|symbol| self.frequencies[symbol] > 0);
        let all = symbols.iter().fold(true, |all, &symbol| all & known[usize::from(symbol)]);
        if all { None } else { symbols.iter().copied().find(|&symbol| !known[usize::from(symbol)]) }
    }

    pub(super) fn steps(&self) -> &[Step; 256] {
        &self.steps
    }

    pub(super) fn entries(&self) -> Box<Entries> {
        entries(self.frequencies.iter().map(|&frequency| frequency.into()))
    }

    /// Writes the frequencies: the first and the last symbol, eight bits each, then for each from the first to the last the number of
    /// bits of its frequency (four bits), and those below the highest.
    pub fn write(&self, out: &mut BitWriter) {
        let first = self.frequencies.iter().position(|f| *f > 0).unwrap_or(0);
        let last = self.frequencies.iter().rposition(|f| *f > 0).unwrap_or(0);
        out.put(first as u32, 8);
        out.put(last as u32, 8);
        for &frequency in &self.frequencies[first..=last] {
            let bits = u16::BITS - frequency.leading_zeros();
            out.put(bits, 4);
            out.put(u32::from(frequency), bits.saturating_sub(1));
        }
    }

    /// Reads frequencies.
    ///
    /// # Errors
    /// [`Error::Frequencies`] if they do not sum to 4,096 or one symbol has all.
    pub fn read(input: &mut BitReader<'_>) -> Result<Self, Error> {
        let (first, last) = (input.take(8) as usize, input.take(8) as usize);
        let mut frequencies = [0u16; 256];
        for frequency in frequencies.iter_mut().take(last + 1).skip(first) {
            let bits = input.take(4);
            *frequency = match bits {
                0 => 0,
                _ => (1u32 << (bits - 1) | input.take(bits - 1)) as u16,
            };
        }
        let sum: u32 = frequencies.iter().map(|&f| u32::from(f)).sum();
        if sum != TOTAL || frequencies.iter().any(|f| u32::from(*f) == TOTAL) {
            return Err(Error::Frequencies { sum, total: TOTAL });
        }
        Ok(Self::of(frequencies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tables_come_back_and_cost_little_more_than_the_entropy(counts in prop::collection::vec(0u32..100_000, 2..256)) {
            let mut all = [0; 256];
            all[..counts.len()].copy_from_slice(&counts);
            let Some(table) = Table::new(&all) else { return Ok(()) };
            let sum: f64 = all.iter().map(|&c| f64::from(c)).sum();
            let entropy: f64 = all.iter().filter(|c| **c > 0).map(|&c| f64::from(c) * (sum / f64::from(c)).log2()).sum();
            prop_assert!(table.cost(&all) <= entropy * 1.01 + 1.0 + sum * 0.02, "{} {entropy}", table.cost(&all));
            let mut out = BitWriter::new();
            table.write(&mut out);
            let bytes = out.finish();
            let back = Table::read(&mut BitReader::new(&bytes)).unwrap();
            prop_assert_eq!(back.frequencies(), table.frequencies());
        }

        #[test]
        fn any_bytes_are_a_table_or_refused(bytes in any::<Vec<u8>>()) {
            if let Ok(table) = Table::read(&mut BitReader::new(&bytes)) {
                prop_assert_eq!(table.frequencies().iter().map(|f| u32::from(*f)).sum::<u32>(), 4096);
            }
        }
    }

    #[test]
    fn one_symbol_needs_no_table() {
        let mut counts = [0; 256];
        assert!(Table::new(&counts).is_none());
        counts[7] = 12;
        assert!(Table::new(&counts).is_none());
        counts[9] = 1;
        assert_eq!(Table::new(&counts).unwrap().frequencies()[9], 315);
        counts[7] = 1 << 30;
        assert_eq!(Table::new(&counts).unwrap().frequencies()[9], 1);
    }
}
