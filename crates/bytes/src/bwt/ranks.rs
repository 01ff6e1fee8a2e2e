//! A coder of bytes that stand in runs.
//!
//! Of each run come its length and the *rank* of its symbol: how many others stand between it and its next run, each counted once. A list of the symbols by
//! where they come next then says which run follows: its first. So both numbers are coded behind what is known of their own symbol (quantised local
//! frequency coding, as in I. Grebnov's bsc): which it is, what its last ranks and lengths were, and what the last ones of all were.
//!
//! A symbol that does not come again takes the last rank, which is soon expected there: what is behind all that come has no order.
//!
//! A stream begins with the number of symbols less one (8 bits) and the symbols by where they come first, each as one of those that are left.

use super::numbers::Numbers;
use brevity_coding::range::{Coder, Decoder, Encoder, Interval};

/// The last numbers of a symbol or of all, four bits each, the latest lowest: 0 for 1, then the length of the binary form.
#[derive(Clone, Copy, Default)]
struct Recent(u32);

impl Recent {
    /// The n-th last, at most `most`.
    #[inline(always)]
    fn last(self, n: u32, most: u32) -> usize {
        (self.0 >> (4 * n) & 15).min(most) as usize
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

struct Model {
    ranks: Numbers<7, 7>,
    lengths: Numbers<3, 30>,
    known: [Known; 256],
    last: Known,
}

impl Model {
    fn new() -> Self {
        Self {
            ranks: Numbers::new([256, 512, 256], 8),
            lengths: Numbers::new([256, 4096, 4096], 8),
            known: [Known::default(); 256],
            last: Known::default(),
        }
    }

    /// Codes the length of a run of this symbol.
    #[inline(always)]
    fn length<K: Coder>(&mut self, coder: &mut K, length: u32, symbol: u8) -> u32 {
        let known = self.known[usize::from(symbol)];
        let Known { ranks, lengths } = known;
        let contexts = [
            usize::from(symbol),
            lengths.last(0, 15) | lengths.last(1, 15) << 4 | lengths.last(2, 15) << 8,
            ranks.last(0, 7) | ranks.last(1, 7) << 3 | lengths.last(0, 7) << 6 | self.last.ranks.last(0, 7) << 9,
        ];
        let length = self.lengths.code(coder, length, contexts, lengths.last(0, 7));
        self.known[usize::from(symbol)].lengths.push(length);
        length
    }

    /// Codes the rank of this symbol behind a run; `next` is the symbol that follows.
    #[inline(always)]
    fn rank<K: Coder>(&mut self, coder: &mut K, rank: u32, symbol: u8, next: u8, length: u32) -> u32 {
        let ranks = self.known[usize::from(symbol)].ranks;
        let following = self.known[usize::from(next)].ranks;
        let halved = |n: usize| n.div_ceil(2);
        let contexts = [
            usize::from(symbol),
            ranks.last(0, 7) | ranks.last(1, 7) << 3 | halved(ranks.last(2, 6)) << 6 | usize::from(length > 1) << 8,
            following.last(0, 7) | ranks.last(0, 7) << 3 | halved(self.last.ranks.last(0, 6)) << 6,
        ];
        let rank = self.ranks.code(coder, rank, contexts, ranks.last(0, 7));
        self.known[usize::from(symbol)].ranks.push(rank);
        self.last.ranks.push(rank);
        rank
    }
}

/// A run: its symbol, its rank (0 of the very last), the symbol of the next run.
#[derive(Clone, Copy)]
struct Run {
    symbol: u8,
    rank: u8,
    next: u8,
    length: u32,
}

/// The symbols by where they come first, and the runs from the last to the first.
fn analyse(bytes: &[u8]) -> (Vec<u8>, Vec<Run>) {
    let mut list = Vec::with_capacity(256);
    let mut runs = Vec::with_capacity(bytes.len() / 2 + 1);
    let mut ends = Vec::with_capacity(256);
    for run in bytes.chunk_by(|a, b| a == b).rev() {
        let symbol = run[0];
        let next = list.first().copied().unwrap_or(symbol);
        let rank = list.iter().position(|&known| known == symbol).unwrap_or_else(|| {
            list.push(symbol);
            ends.push(runs.len());
            list.len() - 1
        });
        list.copy_within(..rank, 1);
        list[0] = symbol;
        runs.push(Run { symbol, rank: rank as u8, next, length: run.len() as u32 });
    }
    ends.iter().skip(1).for_each(|&end| runs[end].rank = (list.len() - 1) as u8);
    (list, runs)
}

/// One of so many that are equally likely, in units of 2⁻¹⁶.
fn share(chosen: usize, many: usize) -> Option<Interval> {
    let [start, end] = [chosen, chosen + 1].map(|n| (n << 16) / many);
    Interval::new(start as u32, (end - start) as u32, 16).ok()
}

/// Encodes.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let (list, runs) = analyse(bytes);
    let mut coder = Encoder::with_capacity(bytes.len() / 3);
    coder.encode_raw(list.len().saturating_sub(1) as u64, 8);
    let mut left: Vec<u8> = (0..=255).collect();
    for symbol in &list {
        if let Ok(at) = left.binary_search(symbol)
            && let Some(share) = share(at, left.len())
        {
            coder.encode(share);
            left.remove(at);
        }
    }
    let mut model = Model::new();
    for run in runs.into_iter().rev() {
        model.length(&mut coder, run.length, run.symbol);
        if run.rank > 0 {
            model.rank(&mut coder, run.rank.into(), run.symbol, run.next, run.length);
        }
    }
    coder.finish()
}

/// Decodes into `out`. Any stream gives some bytes.
pub fn decode(packed: &[u8], mut out: &mut [u8]) {
    let mut coder = Decoder::new(packed);
    let more = coder.decode_raw(8) as usize;
    let mut left: Vec<u8> = (0..=255).collect();
    let mut list = [0; 256];
    for slot in &mut list[..=more] {
        let at = ((coder.peek(16) as usize + 1) * left.len() - 1) >> 16;
        share(at, left.len()).into_iter().for_each(|share| coder.take(share));
        *slot = left.remove(at);
    }
    let mut model = Model::new();
    while !out.is_empty() {
        let symbol = list[0];
        let length = model.length(&mut coder, 0, symbol);
        let (run, after) = out.split_at_mut(out.len().min(length as usize));
        run.fill(symbol);
        out = after;
        if !out.is_empty() {
            let rank = model.rank(&mut coder, 0, symbol, list[1], length) as usize;
            put_back(&mut list, rank.min(more));
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
        let packed = encode(bytes);
        let mut back = vec![0; bytes.len()];
        decode(&packed, &mut back);
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
            decode(&packed, &mut vec![0; length]);
        }
    }
}
