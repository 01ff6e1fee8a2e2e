//! Bit histories: what followed in a context, in one byte.
//!
//! A state stands for the bits seen: exactly for the first four, afterwards as `(n₀, n₁, last bit)` with the counts
//! bounded. The rule that makes the states and their successors:
//!
//! - the bit that came raises its count by one, up to a bound that halves with each bit of the other kind (a context that saw both
//!   bits says less with more of one of them);
//! - a bit that contradicts others halves their count, and leaves 7 at most: what is recent weighs more than what is old.
//!
//! States are numbered by how much they have seen, so that a larger number is worth more when something must give way;
//! 0 is the empty history. What a state means as a probability is learnt (see [`counter`](crate::counter)).

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Histories told apart bit by bit.
const EXACT: usize = 4;
/// Largest count of bits that no other contradicts.
const MOST: u8 = 64;
/// Largest count of the rarer bit: where it is reached, the other's bound is [`MOST`] halved as often.
const FEWER: u8 = 3;
/// Most that is left of a count when a bit of the other kind comes.
const KEPT: u8 = 7;

/// What is left of a count when a bit of the other kind comes: something of all that came.
fn left(count: u8) -> u8 {
    (count / 2).clamp(count.min(1), KEPT)
}

/// Successors of each state, and the counts it stands for.
pub struct Histories {
    /// Two more than there are: vector loads read four bytes an entry.
    pub(crate) next: [[u8; 2]; 258],
    counts: [[u8; 2]; 256],
    /// A bit for each state: set where all bits were the same.
    pub(crate) alone: [u8; 32],
    states: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct History {
    /// Zeros and ones, discounted.
    counts: [u8; 2],
    /// The last bits, a leading one before them: all of them up to [`EXACT`], then one.
    last: u8,
}

impl History {
    const EMPTY: Self = Self { counts: [0, 0], last: 1 };

    fn length(self) -> usize {
        7 - self.last.leading_zeros() as usize
    }

    fn is_exact(self) -> bool {
        self.length() == usize::from(self.counts[0]) + usize::from(self.counts[1])
    }

    fn then(self, bit: usize) -> Self {
        let mut counts = self.counts;
        counts[bit] += 1;
        if self.is_exact() && self.length() < EXACT {
            return Self { counts, last: self.last << 1 | bit as u8 };
        }
        counts[1 - bit] = left(counts[1 - bit]);
        let (low, high) = if counts[0] < counts[1] { (0, 1) } else { (1, 0) };
        counts[low] = counts[low].min(FEWER);
        counts[high] = counts[high].min(MOST >> counts[low]);
        Self { counts, last: 2 | bit as u8 }
    }

    fn weight(self) -> u32 {
        u32::from(self.counts[0]) + u32::from(self.counts[1])
    }
}

static TABLE: LazyLock<Box<Histories>> = LazyLock::new(|| Box::new(Histories::new()));

impl Histories {
    /// The table, made at the first call.
    pub fn get() -> &'static Self {
        &TABLE
    }

    fn new() -> Self {
        let mut found = vec![History::EMPTY];
        let mut known = BTreeMap::from([(History::EMPTY, 0usize)]);
        let mut at = 0;
        while at < found.len() {
            for bit in 0..2 {
                let next = found[at].then(bit);
                known.entry(next).or_insert_with(|| {
                    found.push(next);
                    found.len() - 1
                });
            }
            at += 1;
        }
        found.sort_by_key(|history| (history.weight(), *history));
        let number: BTreeMap<History, u8> = found.iter().enumerate().map(|(n, &h)| (h, n.min(255) as u8)).collect();
        let mut table = Self { next: [[0; 2]; 258], counts: [[0; 2]; 256], alone: [0; 32], states: found.len() };
        for (state, history) in found.iter().enumerate().take(256) {
            table.next[state] = [0, 1].map(|bit| number.get(&history.then(bit)).copied().unwrap_or(0));
            table.counts[state] = history.counts;
            let [zeros, ones] = history.counts.map(|count| count > 0);
            table.alone[state / 8] |= u8::from(zeros != ones) << (state % 8);
        }
        table
    }

    /// The state after a bit.
    #[inline(always)]
    pub fn next(&self, state: u8, bit: usize) -> u8 {
        self.next[usize::from(state)][bit & 1]
    }

    /// Zeros and ones that a state stands for.
    pub fn counts(&self, state: u8) -> [u8; 2] {
        self.counts[usize::from(state)]
    }

    /// Whether a state has seen bits of one kind alone.
    #[inline(always)]
    pub fn is_alone(&self, state: u8) -> bool {
        self.alone[usize::from(state / 8)] >> (state % 8) & 1 == 1
    }

    /// Number of states, at most 256.
    pub fn states(&self) -> usize {
        self.states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_states_fit_into_a_byte_and_none_is_a_dead_end() {
        let table = Histories::get();
        assert!(table.states() <= 256 && table.states() > 150, "{}", table.states());
        for state in 0..table.states() {
            for bit in 0..2 {
                let next = table.next(state as u8, bit);
                assert!(next > 0 && usize::from(next) < table.states());
                assert!(table.counts(next)[bit] > 0);
            }
        }
    }

    #[test]
    fn short_histories_are_exact_and_runs_are_counted() {
        let table = Histories::get();
        let after = |bits: &[usize]| bits.iter().fold(0, |state, &bit| table.next(state, bit));
        assert_ne!(after(&[0, 1, 0, 0]), after(&[0, 0, 1, 0]));
        assert_eq!(table.counts(after(&[1; 30])), [0, 30]);
        assert_eq!(table.counts(after(&[1; 100])), [0, MOST]);
        let broken = table.counts(after(&[vec![1; 30], vec![0]].concat()));
        assert!(broken[0] == 1 && broken[1] < 10, "{broken:?}");
    }

    #[test]
    fn what_saw_one_kind_of_bits_is_alone() {
        let table = Histories::get();
        let after = |bits: &[usize]| bits.iter().fold(0, |state, &bit| table.next(state, bit));
        assert!(!table.is_alone(0));
        assert!(table.is_alone(after(&[1; 9])));
        assert!(!table.is_alone(after(&[0, 0, 1])));
    }

    #[test]
    fn a_contradiction_never_raises_a_count_nor_takes_all_of_it() {
        for count in 1..=MOST {
            assert!((1..=count).contains(&left(count)));
            assert!(left(count) >= left(count - 1));
        }
        assert_eq!(left(0), 0);
    }

    #[test]
    fn more_evidence_has_a_higher_number() {
        let table = Histories::get();
        let weights: Vec<u32> =
            (0..table.states()).map(|s| table.counts(s as u8).iter().map(|&n| u32::from(n)).sum()).collect();
        assert!(weights.is_sorted());
    }
}
