//! A coder of bytes that stand in runs.
//!
//! Of each run come its length and the *rank* of its symbol: how many others stand between it and its next run, each counted once. A list of the symbols by
//! where they come next then says which run follows: its first. So both numbers are coded behind what is known of their own symbol (quantised local
//! frequency coding, as in I. Grebnov's bsc): which it is, what its last ranks and lengths were, and what the last ones of all were.
//!
//! A symbol that does not come again takes the last rank, which is soon expected there: what is behind all that come has no order.
//!
//! Of a rank, its class (the length of its binary form less one) is coded as three bits of a tree behind three contexts, mixed, as are all bits of lengths;
//! the bits below the highest say little of each other: the upper two stand behind a counter of the symbol, the rest behind one of all symbols.
//!
//! There are two streams, which follow each other: mixed bits, whose bytes are counted in front (varint), and plain ones. The second begins with the number of
//! symbols less one (8 bits) and the symbols by where they come first, each as one of those that are left.

use super::numbers::{Bits, INPUTS, Place, Reader, Recorder};
use crate::varint;
use brevity_coding::range::{Decoder, Encoder, Interval};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};

/// The last numbers of a symbol or of all, four bits each, the latest lowest: 0 for 1, then the length of the binary form.
#[derive(Clone, Copy, Default)]
struct Recent(u32);

impl Recent {
    /// The n-th last, at most `most`.
    #[inline(always)]
    fn last(self, n: u32, most: u32) -> u32 {
        (self.0 >> (4 * n) & 15).min(most)
    }

    #[inline(always)]
    fn push(&mut self, number: u32) {
        let class = if number > 1 { number.ilog2() + 1 } else { 0 };
        self.0 = self.0 << 4 | class.min(15);
    }
}

#[derive(Clone, Copy, Default)]
struct Known {
    ranks: Recent,
    lengths: Recent,
}

/// Contexts of the classes of ranks, and of lengths.
const RANKS: [u32; INPUTS] = [256, 512, 256];
const LENGTHS: [u32; INPUTS] = [256, 4096, 4096];
/// Nodes of both: each has a counter in every context.
const RANK_NODES: u32 = 8;
const LENGTH_NODES: u32 = 32;
/// Bits of the length of a length that have nodes of their own.
const STEPS: u32 = 15;

/// Where the counters of ranks and of lengths begin, and how many there are.
const STARTS: ([u32; INPUTS], [u32; INPUTS], usize) = {
    let (mut ranks, mut lengths, mut sum, mut n) = ([0; INPUTS], [0; INPUTS], 0, 0);
    while n < INPUTS {
        ranks[n] = sum;
        lengths[n] = sum + RANKS[n] * RANK_NODES;
        sum = lengths[n] + LENGTHS[n] * LENGTH_NODES;
        n += 1;
    }
    (ranks, lengths, sum as usize)
};

/// Sets of weights: of classes of ranks, of the lengths of lengths, of the bits of lengths.
const LENGTH_SETS: u32 = 8 * RANK_NODES;
const BIT_SETS: u32 = LENGTH_SETS + 8 * 16;
const SETS: usize = BIT_SETS as usize + 32 * 8;

/// Counters of the bits of ranks: of each symbol and class those of the upper two, behind them of all symbols those of the others.
const PLAIN: usize = SHARED as usize + 256;
const SHARED: u32 = 256 * 8 * 4;

/// What is known of the symbols.
struct Model {
    known: [Known; 256],
    last: Known,
}

impl Model {
    fn new() -> Self {
        Self { known: [Known::default(); 256], last: Known::default() }
    }

    /// Codes the length of a run of this symbol.
    #[inline(always)]
    fn length<B: Bits>(&mut self, bits: &mut B, length: u32, symbol: u8) -> u32 {
        let Known { ranks, lengths } = self.known[usize::from(symbol)];
        let contexts = [
            u32::from(symbol),
            lengths.last(0, 15) | lengths.last(1, 15) << 4 | lengths.last(2, 15) << 8,
            ranks.last(0, 7) | ranks.last(1, 7) << 3 | lengths.last(0, 7) << 6 | self.last.ranks.last(0, 7) << 9,
        ];
        let at = |node: u32| std::array::from_fn(|n| STARTS.1[n] + node * LENGTHS[n] + contexts[n]);
        let history = lengths.last(0, 7);
        let wanted = length.max(1).ilog2();
        let mut class = 0;
        while class < 30 {
            let node = class.min(STEPS);
            let place = Place { at: at(node), set: LENGTH_SETS + history * 16 + node };
            if bits.mixed(u32::from(wanted > class), place) == 0 {
                break;
            }
            class += 1;
        }
        let mut found = 1;
        for left in (0..class).rev() {
            let node = match class - 1 - left {
                0 => 16 + class.min(4) - 1,
                1 => 20 + 2 * (class.min(4) - 2) + (found & 1),
                _ => 26 + left.min(5),
            };
            let place = Place { at: at(node), set: BIT_SETS + class * 8 + left.min(7) };
            found = found << 1 | bits.mixed(length >> left & 1, place);
        }
        self.known[usize::from(symbol)].lengths.push(found);
        found
    }

    /// Codes the rank of this symbol behind a run; `next` is the symbol that follows.
    #[inline(always)]
    fn rank<B: Bits>(&mut self, bits: &mut B, rank: u32, symbol: u8, next: u8, length: u32) -> u32 {
        let ranks = self.known[usize::from(symbol)].ranks;
        let following = self.known[usize::from(next)].ranks;
        let halved = |n: u32| n.div_ceil(2);
        let contexts = [
            u32::from(symbol),
            ranks.last(0, 7) | ranks.last(1, 7) << 3 | halved(ranks.last(2, 6)) << 6 | u32::from(length > 1) << 8,
            following.last(0, 7) | ranks.last(0, 7) << 3 | halved(self.last.ranks.last(0, 6)) << 6,
        ];
        let at = |node: u32| std::array::from_fn(|n| STARTS.0[n] + contexts[n] * RANK_NODES + node);
        let wanted = rank.max(1).ilog2();
        let mut node = 1;
        for left in (0..3).rev() {
            let place = Place { at: at(node), set: ranks.last(0, 7) * RANK_NODES + node };
            node = node << 1 | bits.mixed(wanted >> left & 1, place);
        }
        let mut found = 1;
        let class = node & 7;
        for left in (0..class).rev() {
            let own = u32::from(symbol) << 5 | class << 2 | found;
            let at = if found < 4 { own } else { SHARED + (1 << class) + found - 2 };
            found = found << 1 | bits.plain(rank >> left & 1, at);
        }
        self.known[usize::from(symbol)].ranks.push(found);
        self.last.ranks.push(found);
        found
    }
}

/// Where runs begin, and the end of the last.
#[inline(always)]
fn bounds(bytes: &[u8]) -> Vec<u32> {
    if bytes.is_empty() {
        return vec![0];
    }
    let runs = 1 + bytes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let mut bounds = vec![0; runs + 1];
    let mut count = 0;
    for (at, pair) in (1..).zip(bytes.windows(2)) {
        // Whether a run ends here cannot be foretold: no branch.
        bounds[count + 1] = at;
        count += usize::from(pair[0] != pair[1]);
    }
    bounds[count + 1] = bytes.len() as u32;
    bounds
}

/// The symbols by where they come first, and the ranks of the runs that begin at these `bounds`; 0 for the very last.
#[inline(always)]
fn analyse(bytes: &[u8], bounds: &[u32]) -> (Vec<u8>, Vec<u8>) {
    let mut list = Vec::with_capacity(256);
    let mut ranks = vec![0; bounds.len() - 1];
    let mut ends = Vec::with_capacity(256);
    // Of each symbol that has come, how many others come before it; of the others, the most there could be.
    let (mut places, mut seen) = ([u8::MAX; 256], [false; 256]);
    for (run, rank) in ranks.iter_mut().enumerate().rev() {
        let symbol = bytes[bounds[run] as usize];
        let place = places[usize::from(symbol)];
        places.iter_mut().for_each(|other| *other += u8::from(*other < place));
        places[usize::from(symbol)] = 0;
        *rank = place;
        if !std::mem::replace(&mut seen[usize::from(symbol)], true) {
            list.push(symbol);
            ends.push(run);
        }
    }
    list.sort_unstable_by_key(|&symbol| places[usize::from(symbol)]);
    ends.iter().skip(1).for_each(|&end| ranks[end] = (list.len() - 1) as u8);
    ends.first().into_iter().for_each(|&end| ranks[end] = 0);
    (list, ranks)
}

/// One of so many that are equally likely, in units of 2⁻¹⁶.
fn share(chosen: usize, many: usize) -> Option<Interval> {
    let [start, end] = [chosen, chosen + 1].map(|n| (n << 16) / many);
    Interval::new(start as u32, (end - start) as u32, 16).ok()
}

/// Encodes.
pub fn encode(bytes: &[u8], backend: Backend) -> Vec<u8> {
    dispatch(backend, Encode(bytes))
}

/// Decodes into `out`. Any stream gives some bytes.
pub fn decode(packed: &[u8], out: &mut [u8], backend: Backend) {
    dispatch(backend, Decode(packed, out));
}

/// Codes the symbols by where they come first.
fn put_list(list: &[u8]) -> Encoder {
    let mut coder = Encoder::new();
    coder.encode_raw(list.len().saturating_sub(1) as u64, 8);
    let mut left: Vec<u8> = (0..=255).collect();
    for symbol in list {
        if let Ok(at) = left.binary_search(symbol)
            && let Some(share) = share(at, left.len())
        {
            coder.encode(share);
            left.remove(at);
        }
    }
    coder
}

/// The symbols by where they come first, and how many they are less one.
fn take_list(coder: &mut Decoder) -> ([u8; 256], usize) {
    let more = coder.decode_raw(8) as usize;
    let mut left: Vec<u8> = (0..=255).collect();
    let mut list = [0; 256];
    for slot in &mut list[..=more] {
        let at = ((coder.peek(16) as usize + 1) * left.len() - 1) >> 16;
        share(at, left.len()).into_iter().for_each(|share| coder.take(share));
        *slot = left.remove(at);
    }
    (list, more)
}

struct Encode<'a>(&'a [u8]);

impl Task for Encode<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<u8> {
        let bytes = self.0;
        let bounds = bounds(bytes);
        let (list, ranks) = analyse(bytes, &bounds);
        let mut model = Model::new();
        let mut bits = Recorder::<S>::new(STARTS.2, SETS, PLAIN, put_list(&list));
        for (run, &rank) in bounds.windows(2).zip(&ranks) {
            let (symbol, length) = (bytes[run[0] as usize], run[1] - run[0]);
            model.length(&mut bits, length, symbol);
            if let Some(&next) = bytes.get(run[1] as usize) {
                model.rank(&mut bits, rank.into(), symbol, next, length);
            }
            bits.step();
        }
        let [mixed, plain] = bits.finish();
        let mut out = Vec::with_capacity(mixed.len() + plain.len() + 8);
        varint::put(mixed.len() as u64, &mut out);
        out.extend(mixed);
        out.extend(plain);
        out
    }
}

struct Decode<'a>(&'a [u8], &'a mut [u8]);

impl Task for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(mut packed, mut out) = self;
        let first = varint::take(&mut packed).unwrap_or(0).min(packed.len() as u64);
        let (mixed, plain) = packed.split_at(first as usize);
        let mut plain = Decoder::new(plain);
        let (mut list, more) = take_list(&mut plain);
        let mut model = Model::new();
        let mut bits = Reader::<S>::new(STARTS.2, SETS, PLAIN, [Decoder::new(mixed), plain]);
        while !out.is_empty() {
            let symbol = list[0];
            let length = model.length(&mut bits, 0, symbol);
            let (run, after) = out.split_at_mut(out.len().min(length as usize));
            run.fill(symbol);
            out = after;
            if !out.is_empty() {
                let rank = model.rank(&mut bits, 0, symbol, list[1], length) as usize;
                put_back(&mut list, rank.min(more));
            }
        }
    }
}

/// Moves the first of the list behind so many others.
#[inline(always)]
fn put_back(list: &mut [u8; 256], rank: usize) {
    let symbol = list[0];
    match list.first_chunk_mut::<8>() {
        Some(head) if rank < 8 => {
            let all = u64::from_le_bytes(*head);
            let passed = (1u64 << (8 * rank)) - 1;
            let kept = all & !(passed << 8 | 0xFF);
            *head = (all >> 8 & passed | u64::from(symbol) << (8 * rank) | kept).to_le_bytes();
        }
        _ => {
            list.copy_within(1..=rank, 0);
            list[rank] = symbol;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let packed = encode(bytes, Backend::best());
        assert_eq!(packed, encode(bytes, Backend::Scalar));
        let mut back = vec![0; bytes.len()];
        decode(&packed, &mut back, Backend::best());
        assert!(back == bytes);
        packed.len()
    }

    #[test]
    fn runs_cost_little() {
        let runs: Vec<u8> = (0..50_000u32).map(|n| (n / 500 * 37) as u8).collect();
        assert!(round_trip(&runs) < 400);
        assert!(round_trip(&vec![7; 1 << 20]) < 20);
    }

    #[test]
    fn a_symbol_goes_behind_as_many_as_its_rank() {
        for rank in 0..256 {
            let mut list: [u8; 256] = std::array::from_fn(|n| n as u8);
            put_back(&mut list, rank);
            let mut expected: Vec<u8> = (1..=255).collect();
            expected.insert(rank, 0);
            assert_eq!(list[..], expected[..]);
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<Vec<u8>>(), few in prop::collection::vec(0u8..3, 0..500)) {
            round_trip(&bytes);
            round_trip(&few);
        }

        #[test]
        fn any_stream_is_taken(packed in any::<Vec<u8>>(), length in 0usize..600) {
            decode(&packed, &mut vec![0; length], Backend::best());
        }
    }
}
