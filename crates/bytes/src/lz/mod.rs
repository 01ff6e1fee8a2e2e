//! The fast levels: repeated strings as (literals, length, distance), Huffman coded.
//!
//! A block is coded in parts of [`PART`] bytes, each with the codes of its symbols, or with those of the part before where these take
//! fewer bits. Level 1 takes the first match that two tables find (`fast`); level 2 the cheapest of all ways to cut a part into
//! matches and literals (`best`).

mod best;
mod fast;
mod matching;
mod symbols;

use crate::varint;
use best::Best;
use brevity_coding::bits::{BitReader, BitWriter};
use brevity_coding::huffman::{Codes, Decoder};
use fast::Fast;
use symbols::{
    COMMANDS, DISTANCES, REPEATS, Recent, command, distance_code, length_code, literals_code, of_command, of_distance,
};

/// Bytes of a part.
pub const PART: usize = 1 << 18;
/// Symbols of the three codes.
const SYMBOLS: [usize; 3] = [256, COMMANDS, DISTANCES];
/// Bytes that may be written or read behind what is copied.
const SLACK: usize = 16;

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The first match, from tables of at most `2^bits` places.
    Fast {
        /// log₂ of the places.
        bits: u32,
    },
    /// The cheapest way.
    Best,
}

/// Literals, and a match behind them.
struct Sequence {
    literals: u32,
    length: u32,
    distance: u32,
}

/// The symbols of a part.
#[derive(Default)]
struct Part {
    literals: Vec<u8>,
    /// Command, symbol of the distance; the numbers.
    commands: Vec<(u16, u16, [u32; 3])>,
}

impl Part {
    fn fill(&mut self, bytes: &[u8], sequences: &[Sequence], recent: &mut Recent) {
        self.literals.clear();
        self.commands.clear();
        let mut at = 0;
        for &Sequence { literals, length, distance } in sequences {
            self.literals.extend_from_slice(&bytes[at..at + literals as usize]);
            at += (literals + length) as usize;
            let symbol = recent.place(distance).unwrap_or_else(|| distance_code(distance).0);
            recent.push(distance);
            let command = command(literals_code(literals), length_code(length));
            self.commands.push((command as u16, symbol as u16, [literals, length, distance]));
        }
        self.literals.extend_from_slice(&bytes[at..]);
    }

    fn counts(&self) -> [Vec<u32>; 3] {
        let mut counts = SYMBOLS.map(|symbols| vec![0; symbols]);
        self.literals.iter().for_each(|&byte| counts[0][usize::from(byte)] += 1);
        for &(command, distance, _) in &self.commands {
            counts[1][usize::from(command)] += 1;
            counts[2][usize::from(distance)] += 1;
        }
        counts
    }

    fn write(&self, codes: &mut [Codes; 3], out: &mut Vec<u8>) {
        let mut bits = BitWriter::new();
        for (codes, counts) in codes.iter_mut().zip(self.counts()) {
            *codes = renewed(codes, &counts, &mut bits);
        }
        let [literal, command, distance] = codes;
        for &(symbol, place, [literals, length, far]) in &self.commands {
            command.put(usize::from(symbol), &mut bits);
            let [(least, raw), (shortest, more)] = of_command(usize::from(symbol));
            bits.put(literals - least, raw);
            bits.put(length - shortest, more);
            distance.put(usize::from(place), &mut bits);
            if usize::from(place) >= REPEATS {
                let (nearest, raw) = of_distance(usize::from(place));
                bits.put(far - nearest, raw);
            }
        }
        let commands = bits.finish();
        let mut bits = BitWriter::new();
        self.literals.iter().for_each(|&byte| literal.put(usize::from(byte), &mut bits));
        let literals = bits.finish();
        for number in [self.commands.len(), self.literals.len(), commands.len(), literals.len()] {
            varint::put(number as u64, out);
        }
        out.extend_from_slice(&commands);
        out.extend_from_slice(&literals);
    }
}

/// The codes for these counts: those before, where a new list costs more than it saves. A bit tells which, and the list follows.
fn renewed(before: &Codes, counts: &[u32], bits: &mut BitWriter) -> Codes {
    let new = Codes::new(counts);
    let mut list = BitWriter::new();
    new.write(&mut list);
    let cost = |codes: &Codes| {
        let symbols = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        symbols
            .map(|(symbol, &count)| (codes.bits(symbol) > 0).then(|| u64::from(codes.bits(symbol) * count)))
            .sum::<Option<u64>>()
    };
    let stays =
        cost(&new).is_none_or(|new| cost(before).is_some_and(|before| before <= new + 8 * list.finish().len() as u64));
    bits.put(u32::from(!stays), 1);
    if stays {
        return before.clone();
    }
    new.write(bits);
    new
}

fn no_codes() -> [Codes; 3] {
    SYMBOLS.map(|symbols| Codes::new(&vec![0; symbols]))
}

/// Compresses at most 2³¹ bytes.
pub fn encode(bytes: &[u8], effort: Effort) -> Vec<u8> {
    enum Parser {
        Fast(Fast),
        Best(Box<Best>),
    }
    let mut parser = match effort {
        Effort::Fast { bits } => Parser::Fast(Fast::new(bits, bytes.len())),
        Effort::Best => Parser::Best(Box::new(Best::new(bytes))),
    };
    let (mut out, mut part, mut codes) = (Vec::new(), Part::default(), no_codes());
    let mut recent = [Recent::default(); 2];
    let mut sequences = Vec::new();
    for start in (0..bytes.len()).step_by(PART) {
        let range = start..bytes.len().min(start + PART);
        sequences.clear();
        match &mut parser {
            Parser::Fast(fast) => fast.parse(bytes, range.clone(), &mut recent[0], &mut sequences),
            Parser::Best(best) => best.parse(bytes, range.clone(), &mut recent[0], &mut sequences),
        }
        part.fill(&bytes[range], &sequences, &mut recent[1]);
        part.write(&mut codes, &mut out);
    }
    out
}

/// Bytes of memory that compressing so many takes, beside them and the archive.
pub fn memory(length: usize, effort: Effort) -> u64 {
    let part = length.min(PART);
    let tables = match effort {
        Effort::Fast { bits } => 8usize << bits,
        Effort::Best => Best::memory(length),
    };
    (tables + 24 * part) as u64
}

/// Decompresses into `out`; nothing if the bytes are not what [`encode`] writes.
pub fn decode(mut packed: &[u8], out: &mut [u8]) -> Option<()> {
    let mut decoders = no_codes().map(|codes| codes.decoder());
    let mut recent = Recent::default();
    let mut literals = vec![0; PART.min(out.len()) + SLACK];
    let mut at = 0;
    while at < out.len() {
        let end = out.len().min(at + PART);
        let mut number = || varint::take(&mut packed).and_then(|n| usize::try_from(n).ok());
        let [count, plain, commands, coded] = [number()?, number()?, number()?, number()?];
        if plain > end - at {
            return None;
        }
        let (commands, rest) = packed.split_at_checked(commands)?;
        let (coded, rest) = rest.split_at_checked(coded)?;
        packed = rest;
        let mut input = BitReader::new(commands);
        for (decoder, symbols) in decoders.iter_mut().zip(SYMBOLS) {
            if input.take(1) == 1 {
                *decoder = Codes::read(&mut input, symbols).ok()?.decoder();
            }
        }
        let mut bits = BitReader::new(coded);
        decoders[0].bytes(&mut bits, &mut literals[..plain]);
        if bits.overran() {
            return None;
        }
        let codes = Sequences { input, count, command: &decoders[1], distance: &decoders[2] };
        at = codes.decode(&literals[..plain + SLACK], plain, &mut recent, out, at, end)?;
    }
    packed.is_empty().then_some(())
}

/// The sequences of a part.
struct Sequences<'a> {
    input: BitReader<'a>,
    count: usize,
    command: &'a Decoder,
    distance: &'a Decoder,
}

impl Sequences<'_> {
    /// Writes a part from `at` to `end`; `literals` has so many bytes and [`SLACK`].
    #[inline(always)]
    fn decode(
        mut self,
        literals: &[u8],
        plain: usize,
        recent: &mut Recent,
        out: &mut [u8],
        mut at: usize,
        end: usize,
    ) -> Option<usize> {
        let mut from = 0;
        for _ in 0..self.count {
            self.input.fill();
            let [(count, raw), (length, more)] = of_command(usize::from(self.command.one(&mut self.input)));
            let count = (count as usize).checked_add(self.input.take(raw) as usize)?;
            let length = (length as usize).checked_add(self.input.take(more) as usize)?;
            let distance = self.distance(recent);
            if count > plain - from || count > end - at || length > end - at - count {
                return None;
            }
            paste(out, at, literals, from, count);
            from += count;
            at += count;
            let earlier = at.checked_sub(distance as usize).filter(|_| distance > 0)?;
            repeat(out, earlier, at, length);
            at += length;
            recent.push(distance);
            if self.input.overran() {
                return None;
            }
        }
        let rest = plain - from;
        (rest == end - at).then(|| out[at..end].copy_from_slice(&literals[from..plain]))?;
        Some(end)
    }

    #[inline(always)]
    fn distance(&mut self, recent: &Recent) -> u32 {
        self.input.fill();
        let symbol = usize::from(self.distance.one(&mut self.input));
        match recent.0.get(symbol) {
            Some(&distance) => distance,
            None => {
                let (nearest, raw) = of_distance(symbol);
                nearest.wrapping_add(self.input.take(raw))
            }
        }
    }
}

/// Copies literals, sixteen bytes at a time where there is room behind.
#[inline(always)]
fn paste(out: &mut [u8], at: usize, literals: &[u8], from: usize, count: usize) {
    if count <= SLACK
        && let (Some(to), Some(source)) =
            (out.get_mut(at..at + SLACK), literals.get(from..).and_then(|rest| rest.first_chunk::<SLACK>()))
    {
        to.copy_from_slice(source);
    } else {
        out[at..at + count].copy_from_slice(&literals[from..from + count]);
    }
}

/// Copies from an earlier place, which may run into what is being written.
#[inline(always)]
fn repeat(out: &mut [u8], mut from: usize, mut at: usize, length: usize) {
    let end = at + length;
    if at - from >= SLACK && end + SLACK <= out.len() {
        while at < end {
            let Some(chunk) = out.get(from..).and_then(|rest| rest.first_chunk::<SLACK>()).copied() else { return };
            out[at..at + SLACK].copy_from_slice(&chunk);
            (at, from) = (at + SLACK, from + SLACK);
        }
        return;
    }
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

    const EFFORTS: [Effort; 2] = [Effort::Fast { bits: 16 }, Effort::Best];

    fn round_trip(bytes: &[u8]) -> [usize; 2] {
        EFFORTS.map(|effort| {
            let packed = encode(bytes, effort);
            let mut back = vec![0; bytes.len()];
            assert!(decode(&packed, &mut back).is_some());
            assert_eq!(back, bytes);
            packed.len()
        })
    }

    #[test]
    fn repetitions_are_small() {
        assert!(round_trip(&[7; 100_000]).into_iter().max() < Some(300));
        assert!(round_trip(&b"to be or not to be, that is the question. ".repeat(1000)).into_iter().max() < Some(400));
        round_trip(b"");
        round_trip(b"a");
    }

    #[test]
    fn the_cheapest_way_is_cheaper() {
        let words = ["alpha ", "beta ", "gamma, ", "delta ", "epsilon; ", "zeta ", "eta. ", "theta "];
        let mut seed = 1u32;
        let text: String = (0..100_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                words[(seed >> 29) as usize]
            })
            .collect();
        let [fast, best] = round_trip(text.as_bytes());
        assert!(best * 10 < fast * 9, "{fast} {best}");
    }

    #[test]
    fn sequences_of_nothing_are_refused() {
        let mut packed = Vec::new();
        [usize::MAX >> 8, 0, 1, 0].into_iter().for_each(|number| varint::put(number as u64, &mut packed));
        packed.push(0);
        assert_eq!(decode(&packed, &mut [0; 8]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn parts_come_back(seed in any::<u64>(), kinds in 2u64..40, length in PART - 40..2 * PART + 40) {
            let mut x = seed | 1;
            let bytes: Vec<u8> = (0..length).map(|_| { x ^= x << 13; x ^= x >> 7; x ^= x << 17; (x % kinds * (x >> 32 & 1)) as u8 }).collect();
            round_trip(&bytes);
        }
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

        #[test]
        fn changed_bytes_are_taken(at in 0usize..1 << 16, by in 1u8.., bytes in prop::collection::vec(0u8..4, 1..1500)) {
            for effort in EFFORTS {
                let mut packed = encode(&bytes, effort);
                let at = at % packed.len();
                packed[at] ^= by;
                let _ = decode(&packed, &mut vec![0; bytes.len()]);
            }
        }
    }
}
