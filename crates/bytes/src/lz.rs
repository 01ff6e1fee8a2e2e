//! The fast levels: repeated strings as (literals, length, distance), Huffman coded.
//!
//! A hash of five bytes finds where they came before; level 1 takes what the last such place gives, level 2 follows a chain of
//! them and looks one byte ahead. Lengths and distances are cut into a Huffman symbol (their logarithm) and raw bits.

use brevity_coding::bits::{BitReader, BitWriter};
use brevity_coding::huffman::Codes;

/// Shortest match.
const LEAST: usize = 5;
/// Matches are looked for from here to the end no more.
const TAIL: usize = 8;
/// Symbols of lengths and distances.
const SYMBOLS: usize = 72;

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// log₂ of the places of the hash table.
    pub hash_bits: u32,
    /// Places of a chain that are looked at; 1 is no chain.
    pub depth: usize,
    /// Whether the next byte may begin a longer match.
    pub lazy: bool,
}

struct Sequence {
    literals: u32,
    length: u32,
    distance: u32,
}

/// A number as a symbol and so many raw bits: 0–15 are their own symbols, then two for each power of two.
#[inline(always)]
fn split(value: u32) -> (usize, u32) {
    if value < 16 {
        return (value as usize, 0);
    }
    let log = value.ilog2();
    (16 + 2 * (log as usize - 4) + (value >> (log - 1) & 1) as usize, log - 1)
}

/// The least number of a symbol, and its raw bits.
#[inline(always)]
fn base(symbol: usize) -> (u32, u32) {
    if symbol < 16 {
        return (symbol as u32, 0);
    }
    let log = (4 + (symbol - 16) / 2).min(31) as u32;
    ((2 | (symbol as u32 & 1)) << (log - 1), log - 1)
}

#[inline(always)]
fn hash(bytes: &[u8], at: usize, bits: u32) -> usize {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b));
    ((word << 24).wrapping_mul(0x9E37_79B1_85EB_CA87) >> (64 - bits)) as usize
}

/// Bytes that two places have in common.
#[inline(always)]
fn common(bytes: &[u8], a: usize, b: usize) -> usize {
    let mut length = 0;
    while let (Some(x), Some(y)) = (
        bytes.get(a + length..).and_then(|rest| rest.first_chunk::<8>()),
        bytes.get(b + length..).and_then(|rest| rest.first_chunk::<8>()),
    ) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + bytes[a + length..].iter().zip(&bytes[b + length..]).take_while(|(x, y)| x == y).count()
}

struct Finder<'a> {
    bytes: &'a [u8],
    heads: Vec<u32>,
    chain: Vec<u32>,
    effort: Effort,
}

impl Finder<'_> {
    /// The best earlier place: (length, distance). Enters this one.
    #[inline(always)]
    fn find(&mut self, at: usize) -> (usize, usize) {
        let place = hash(self.bytes, at, self.effort.hash_bits);
        let mut candidate = self.heads[place] as usize;
        self.heads[place] = at as u32 + 1;
        if let Some(entry) = self.chain.get_mut(at) {
            *entry = candidate as u32;
        }
        let mut best = (0, 0);
        for _ in 0..self.effort.depth {
            let Some(earlier) = candidate.checked_sub(1).filter(|&earlier| earlier < at) else { break };
            if best.0 == 0 || self.bytes.get(earlier + best.0) == self.bytes.get(at + best.0) {
                let length = common(self.bytes, earlier, at);
                if length > best.0 {
                    best = (length, at - earlier);
                }
            }
            candidate = self.chain.get(earlier).map_or(0, |&next| next as usize);
        }
        if best.0 < LEAST { (0, 0) } else { best }
    }
}

fn sequences(bytes: &[u8], effort: Effort) -> Vec<Sequence> {
    let chain = if effort.depth > 1 { vec![0; bytes.len()] } else { Vec::new() };
    let mut finder = Finder { bytes, heads: vec![0; 1 << effort.hash_bits], chain, effort };
    let mut out = Vec::new();
    let (mut at, mut from) = (0, 0);
    let end = bytes.len().saturating_sub(TAIL);
    while at < end {
        let mut found = finder.find(at);
        if found.0 == 0 {
            // What does not compress is passed over faster and faster.
            at += if effort.lazy { 1 + (at - from) / 512 } else { 1 + (at - from) / 64 };
            continue;
        }
        if effort.lazy {
            while at + 1 < end && found.0 < 64 {
                let next = finder.find(at + 1);
                if next.0 <= found.0 + usize::from(next.1 > 4 * found.1) {
                    break;
                }
                at += 1;
                found = next;
            }
        }
        out.push(Sequence { literals: (at - from) as u32, length: found.0 as u32, distance: found.1 as u32 });
        let next = at + found.0;
        let step = if effort.depth > 1 && found.0 < 1024 { 1 } else { found.0 / 4 + 1 };
        for place in (at + 2..next.min(end)).step_by(step) {
            let slot = hash(bytes, place, effort.hash_bits);
            if let Some(entry) = finder.chain.get_mut(place) {
                *entry = finder.heads[slot];
            }
            finder.heads[slot] = place as u32 + 1;
        }
        at = next;
        from = next;
    }
    out.push(Sequence { literals: (bytes.len() - from) as u32, length: 0, distance: 0 });
    out
}

/// Compresses at most 2³¹ bytes.
pub fn encode(bytes: &[u8], effort: Effort) -> Vec<u8> {
    let sequences = sequences(bytes, effort);
    let mut counts = [vec![0u32; 256], vec![0; SYMBOLS], vec![0; SYMBOLS], vec![0; SYMBOLS]];
    let mut at = 0;
    for sequence in &sequences {
        let literals = sequence.literals as usize;
        bytes[at..at + literals].iter().for_each(|&byte| counts[0][usize::from(byte)] += 1);
        at += literals + sequence.length as usize;
        for (i, value) in fields(sequence).into_iter().enumerate() {
            counts[i + 1][split(value).0] += 1;
        }
    }
    let codes = counts.map(|counts| Codes::new(&counts));
    let mut out = BitWriter::new();
    out.put(sequences.len() as u32, 32);
    codes.iter().for_each(|codes| codes.write(&mut out));
    let mut at = 0;
    for sequence in &sequences {
        for (i, value) in fields(sequence).into_iter().enumerate() {
            let (symbol, raw) = split(value);
            codes[i + 1].put(symbol, &mut out);
            out.put(value, raw);
        }
        let literals = sequence.literals as usize;
        bytes[at..at + literals].iter().for_each(|&byte| codes[0].put(usize::from(byte), &mut out));
        at += literals + sequence.length as usize;
    }
    out.finish()
}

fn fields(sequence: &Sequence) -> [u32; 3] {
    [sequence.literals, sequence.length, sequence.distance]
}

/// Decompresses into `out`; nothing if the bytes are not what [`encode`] writes.
pub fn decode(packed: &[u8], out: &mut [u8]) -> Option<()> {
    let mut input = BitReader::new(packed);
    let count = input.take(32);
    let mut read = |symbols| Some(Codes::read(&mut input, symbols).ok()?.decoder());
    let literal = read(256)?;
    let fields = [read(SYMBOLS)?, read(SYMBOLS)?, read(SYMBOLS)?];
    // Each but the last holds a byte or more: codes of one symbol take no bits, so the input's end bounds nothing.
    if count as usize > out.len().saturating_add(1) {
        return None;
    }
    let mut at = 0usize;
    for _ in 0..count {
        let [literals, length, distance] = [0, 1, 2].map(|i: usize| {
            input.fill();
            let (least, raw) = base(usize::from(fields[i].one(&mut input)));
            (least | input.take(raw)) as usize
        });
        literal.bytes(&mut input, out.get_mut(at..at.checked_add(literals)?)?);
        at += literals;
        if length > 0 {
            let from = at.checked_sub(distance).filter(|_| distance > 0)?;
            let end = at.checked_add(length).filter(|&end| end <= out.len())?;
            copy(out, from, at, end);
            at = end;
        }
        if input.overran() {
            return None;
        }
    }
    (at == out.len()).then_some(())
}

/// Copies from an earlier place, which may run into what is being written.
#[inline(always)]
fn copy(out: &mut [u8], from: usize, mut at: usize, end: usize) {
    while at < end {
        let step = (at - from).min(end - at);
        out.copy_within(from..from + step, at);
        at += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAST: Effort = Effort { hash_bits: 12, depth: 1, lazy: false };
    const BETTER: Effort = Effort { hash_bits: 12, depth: 16, lazy: true };

    fn round_trip(bytes: &[u8]) -> usize {
        let sizes = [FAST, BETTER].map(|effort| {
            let packed = encode(bytes, effort);
            let mut back = vec![0; bytes.len()];
            assert!(decode(&packed, &mut back).is_some());
            assert_eq!(back, bytes);
            packed.len()
        });
        sizes[1]
    }

    #[test]
    fn numbers_split_and_join() {
        for value in (0..5000).chain([1 << 20, (1 << 31) - 1, u32::MAX]) {
            let (symbol, raw) = split(value);
            assert!(symbol < 72);
            let (least, bits) = base(symbol);
            assert_eq!((raw, value >> raw << raw), (bits, least), "{value}");
        }
    }

    #[test]
    fn repetitions_are_small() {
        assert!(round_trip(&[7; 100_000]) < 300);
        assert!(round_trip(&b"to be or not to be, that is the question. ".repeat(1000)) < 400);
        round_trip(b"");
        round_trip(b"a");
    }

    #[test]
    fn sequences_of_nothing_are_refused() {
        let mut packed = encode(b"", FAST);
        packed[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&packed, &mut []), None);
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<Vec<u8>>(), few in prop::collection::vec(0u8..3, 0..2000)) {
            round_trip(&bytes);
            round_trip(&few);
        }

        #[test]
        fn any_bytes_are_taken(packed in any::<Vec<u8>>(), length in 0usize..500) {
            let _ = decode(&packed, &mut vec![0; length]);
        }
    }
}
