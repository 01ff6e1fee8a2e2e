//! Canonical Huffman codes of at most 12 bits, decoded up to two symbols at a time.
//!
//! Lengths are Huffman's, those beyond [`LONGEST`] cut and the code made complete again at the least cost; codes follow from the
//! lengths (shorter first, then by symbol), so that only lengths are stored: four bits each, runs of zeros as a zero and a count.

use crate::bits::{BitReader, BitWriter};
use crate::error::Error;

/// Longest code.
pub const LONGEST: u32 = 12;
const ENTRIES: usize = 1 << LONGEST;

/// Lengths of the codes, and the codes, bits reversed so that they can be written lowest first.
#[derive(Debug, Clone)]
pub struct Codes {
    lengths: Vec<u8>,
    codes: Vec<u16>,
}

impl Codes {
    /// The code for symbols that occur so often.
    pub fn new(counts: &[u32]) -> Self {
        Self::from_lengths(lengths(counts))
    }

    fn from_lengths(lengths: Vec<u8>) -> Self {
        let mut codes = vec![0u16; lengths.len()];
        let mut next = 0u16;
        for length in 1..=LONGEST as u8 {
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| **l == length) {
                codes[symbol] = next.reverse_bits() >> (16 - u32::from(length));
                next = next.wrapping_add(1);
            }
            next = next.wrapping_shl(1);
        }
        Self { lengths, codes }
    }

    /// Writes the lengths.
    pub fn write(&self, out: &mut BitWriter) {
        let mut at = 0;
        while at < self.lengths.len() {
            let length = self.lengths[at];
            out.put(u32::from(length), 4);
            at += 1;
            if length == 0 {
                let run = self.lengths[at..].iter().take(255).take_while(|l| **l == 0).count();
                out.put(run as u32, 8);
                at += run;
            }
        }
    }

    /// Reads the lengths of so many symbols.
    ///
    /// # Errors
    /// [`Error::HuffmanLengths`] if they are no prefix code.
    pub fn read(input: &mut BitReader<'_>, symbols: usize) -> Result<Self, Error> {
        let mut lengths = Vec::with_capacity(symbols);
        while lengths.len() < symbols {
            let length = input.take(4) as u8;
            lengths.push(length);
            if length == 0 {
                let run = input.take(8) as usize;
                lengths.resize((lengths.len() + run).min(symbols), 0);
            }
        }
        let used: u32 = lengths.iter().filter(|l| **l > 0).map(|&l| 1u32 << LONGEST.saturating_sub(u32::from(l))).sum();
        let alone = lengths.iter().filter(|l| **l > 0).count() <= 1;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if u32::from(longest) > LONGEST || (used != 1 << LONGEST && !alone) {
            return Err(Error::HuffmanLengths { symbols, used, total: 1 << LONGEST });
        }
        Ok(Self::from_lengths(lengths))
    }

    /// Writes a symbol; one that had no count is not written.
    #[inline(always)]
    pub fn put(&self, symbol: usize, out: &mut BitWriter) {
        if let (Some(&code), Some(&length)) = (self.codes.get(symbol), self.lengths.get(symbol)) {
            out.put(u32::from(code), u32::from(length));
        }
    }

    /// Bits that a symbol takes.
    pub fn bits(&self, symbol: usize) -> u32 {
        self.lengths.get(symbol).map_or(0, |&length| u32::from(length))
    }

    /// The table that decodes.
    pub fn decoder(&self) -> Decoder {
        let mut single = vec![(0u16, 0u8); ENTRIES];
        for (symbol, (&length, &code)) in self.lengths.iter().zip(&self.codes).enumerate().filter(|(_, (l, _))| **l > 0)
        {
            for entry in single.iter_mut().skip(usize::from(code)).step_by(1 << length) {
                *entry = (symbol as u16, length);
            }
        }
        let entries = (0..ENTRIES).map(|index| {
            let (first, length) = single[index];
            let (second, more) = single[index >> length];
            let both = length > 0 && more > 0 && u32::from(length + more) <= LONGEST;
            let bits = if both { length + more } else { length };
            Entry {
                symbols: [first, if both { second } else { 0 }],
                first_bits: length,
                bits,
                count: 1 + u8::from(both),
            }
        });
        Decoder { entries: entries.collect() }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    symbols: [u16; 2],
    first_bits: u8,
    bits: u8,
    count: u8,
}

/// Decodes.
#[derive(Debug, Clone)]
pub struct Decoder {
    entries: Box<[Entry]>,
}

impl Decoder {
    /// Decodes one symbol; call [`BitReader::fill`] before.
    #[inline(always)]
    pub fn one(&self, input: &mut BitReader<'_>) -> u16 {
        let entry = self.entry(input);
        input.skip(u32::from(entry.first_bits));
        entry.symbols[0]
    }

    #[inline(always)]
    fn entry(&self, input: &BitReader<'_>) -> Entry {
        self.entries.get(input.peek(LONGEST) as usize).copied().unwrap_or_default()
    }

    /// Decodes bytes until `out` is full.
    pub fn bytes(&self, input: &mut BitReader<'_>, out: &mut [u8]) {
        let mut at = 0;
        while at + 4 <= out.len() {
            input.fill();
            for _ in 0..2 {
                let entry = self.entry(input);
                input.skip(u32::from(entry.bits));
                // Two are written always; the second counts only if it was there.
                out[at] = entry.symbols[0] as u8;
                out[at + 1] = entry.symbols[1] as u8;
                at += usize::from(entry.count);
            }
        }
        for byte in &mut out[at..] {
            input.fill();
            *byte = self.one(input) as u8;
        }
    }
}

/// Lengths of at most [`LONGEST`] bits.
fn lengths(counts: &[u32]) -> Vec<u8> {
    let mut result = vec![0u8; counts.len()];
    let mut symbols: Vec<usize> = (0..counts.len()).filter(|&symbol| counts[symbol] > 0).collect();
    if symbols.len() < 2 {
        symbols.iter().for_each(|&symbol| result[symbol] = 1);
        return result;
    }
    symbols.sort_by_key(|&symbol| (counts[symbol], symbol));
    // Two queues: leaves by count, and inner nodes, which come in order by themselves.
    let leaves = symbols.len();
    let mut weight: Vec<u64> = symbols.iter().map(|&symbol| u64::from(counts[symbol])).collect();
    let mut parent = vec![0usize; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    while weight.len() < 2 * leaves - 1 {
        let mut take = || {
            let from_leaves = leaf < leaves && (inner >= weight.len() || weight[leaf] <= weight[inner]);
            let at = if from_leaves { &mut leaf } else { &mut inner };
            *at += 1;
            *at - 1
        };
        let (a, b) = (take(), take());
        parent[a] = weight.len();
        parent[b] = weight.len();
        weight.push(weight[a] + weight[b]);
    }
    let mut depth = vec![0u32; 2 * leaves - 1];
    for node in (0..2 * leaves - 2).rev() {
        depth[node] = depth[parent[node]] + 1;
    }
    let mut share: i64 = 0;
    let total = 1i64 << LONGEST;
    for node in &mut depth[..leaves] {
        *node = (*node).min(LONGEST);
        share += total >> *node;
    }
    // Too much was given away: rarer symbols pay first.
    while share > total {
        if let Some(node) = depth[..leaves].iter_mut().filter(|d| **d < LONGEST).max_by_key(|d| **d) {
            share -= total >> (*node + 1);
            *node += 1;
        }
    }
    // What is left goes to the most frequent that it suits.
    while share < total {
        let room = total - share;
        let fits = depth[..leaves].iter_mut().rev().find(|d| **d > 1 && total >> **d <= room);
        let Some(node) = fits else { break };
        share += total >> *node;
        *node -= 1;
    }
    for (&symbol, &depth) in symbols.iter().zip(&depth) {
        result[symbol] = depth as u8;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let mut counts = [0u32; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        let codes = Codes::new(&counts);
        let mut out = BitWriter::new();
        codes.write(&mut out);
        bytes.iter().for_each(|&byte| codes.put(usize::from(byte), &mut out));
        let packed = out.finish();
        let mut input = BitReader::new(&packed);
        let decoder = Codes::read(&mut input, 256).unwrap().decoder();
        let mut back = vec![0; bytes.len()];
        decoder.bytes(&mut input, &mut back);
        assert!(!input.overran());
        assert_eq!(back, bytes);
        packed.len()
    }

    #[test]
    fn a_code_is_within_a_bit_of_the_entropy() {
        let bytes: Vec<u8> =
            (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as u8 & (n >> 3) as u8).collect();
        let mut counts = [0f64; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1.0);
        let total = bytes.len() as f64;
        let entropy: f64 = counts.iter().filter(|c| **c > 0.0).map(|c| c * (total / c).log2()).sum();
        let found = round_trip(&bytes) as f64;
        assert!(found < entropy / 8.0 * 1.02 + 160.0, "{found} {}", entropy / 8.0);
    }

    #[test]
    fn skewed_counts_are_held_to_twelve_bits() {
        let counts: Vec<u32> = (0..30).map(|n| 1u32 << n.min(31)).collect();
        let codes = Codes::new(&counts);
        assert!((0..30).all(|symbol| (1..=LONGEST).contains(&codes.bits(symbol))));
        let sum: u32 = (0..30).map(|symbol| 1 << (LONGEST - codes.bits(symbol))).sum();
        assert_eq!(sum, 1 << LONGEST);
        assert_eq!(codes.bits(29), 1);
    }

    #[test]
    fn lengths_that_are_no_code_are_refused() {
        let mut out = BitWriter::new();
        [1, 1, 1].iter().for_each(|&length| out.put(length, 4));
        let bytes = out.finish();
        assert!(matches!(Codes::read(&mut BitReader::new(&bytes), 3), Err(Error::HuffmanLengths { .. })));
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<Vec<u8>>(), few in prop::collection::vec(0u8..3, 0..300)) {
            round_trip(&bytes);
            round_trip(&few);
        }

        #[test]
        fn any_lengths_decode_or_are_refused(bytes in any::<Vec<u8>>()) {
            let mut input = BitReader::new(&bytes);
            if let Ok(codes) = Codes::read(&mut input, 256) {
                codes.decoder().bytes(&mut input, &mut [0; 100]);
            }
        }
    }
}
