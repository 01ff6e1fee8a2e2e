//! Numbers from 1 up as bits, each behind a mixture of counters.
//!
//! A number is the length of its binary form in unary, then the bits below the highest. A bit is predicted in three contexts, in each by the mean of two
//! probabilities, one that forgets fast and one that forgets slowly. The three are mixed in the logistic domain, with weights that the place in the number and the history of
//! the symbol choose.

use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::ONE;
use brevity_coding::range::Coder;

/// Contexts of a bit.
pub const INPUTS: usize = 3;

/// The probability that forgets fast in the upper half, the one that forgets slowly in the lower one; like this where no bit came yet.
const EVEN: u32 = 0x8000_8000;
/// Both move by a share of `2^-FIRST` then, later by `2^-FAST` and `2^-SLOW`; a new stream's slow ones by `2^-FAST` too.
const FIRST: u32 = 2;
const FAST: [u32; INPUTS] = [3, 5, 4];
const SLOW: [u32; INPUTS] = [6, 7, 7];
const NEW_SLOW: u32 = 4;

/// How fast weights learn, in units of 2⁻⁴, and how much faster to begin with.
const RATE: i32 = 6;
const NEW_RATE: i32 = 18;

/// Counters of the lengths of binary forms.
const LENGTHS: usize = 16;
/// Sets of weights of one length's bits.
const PLACES: usize = 8;

/// Counters and weights of one kind of number below `2^(LONGEST + 1)`. Where no more than `EXACT` bits follow the highest, each has a counter for each
/// number that those above it are.
pub struct Numbers<const EXACT: u32, const LONGEST: u32> {
    counters: [Vec<u32>; INPUTS],
    weights: Vec<[i32; INPUTS]>,
    histories: usize,
    /// Numbers coded.
    coded: u32,
    slow: u32,
    rate: i32,
    logistic: &'static Logistic,
}

impl<const EXACT: u32, const LONGEST: u32> Numbers<EXACT, LONGEST> {
    /// Counters of a context: for the length, for the bits of short numbers, for the first and all other bits of long ones.
    const NODES: usize = LENGTHS + (2 << EXACT) + if LONGEST > EXACT { 2 * LONGEST as usize } else { 0 };

    /// So many contexts of each kind, so many histories.
    pub fn new(contexts: [usize; INPUTS], histories: usize) -> Self {
        let sets = histories * LENGTHS + (LONGEST as usize + 1) * PLACES;
        Self {
            counters: contexts.map(|count| vec![EVEN; count * Self::NODES]),
            weights: vec![[ONE / (INPUTS as i32 - 1); INPUTS]; sets],
            histories,
            coded: 0,
            slow: NEW_SLOW,
            rate: RATE,
            logistic: Logistic::get(),
        }
    }

    /// Codes a number, at least 1; a decoder ignores the one it is given.
    #[inline(always)]
    pub fn code<K: Coder>(&mut self, coder: &mut K, number: u32, contexts: [usize; INPUTS], history: usize) -> u32 {
        self.coded = self.coded.saturating_add(1);
        let age = self.coded.ilog2() / 2;
        self.slow = age.max(NEW_SLOW);
        self.rate = RATE + (NEW_RATE >> age);
        let base = contexts.map(|context| context * Self::NODES);
        let length = number.max(1).ilog2();
        let mut bits = 0;
        while bits < LONGEST {
            let node = (bits as usize).min(LENGTHS - 1);
            let longer = u32::from(length > bits);
            if self.bit(coder, longer, base.map(|base| base + node), history * LENGTHS + node) == 0 {
                break;
            }
            bits += 1;
        }
        let sets = self.histories * LENGTHS + bits as usize * PLACES;
        let mut found = 1;
        for left in (0..bits).rev() {
            let node = if bits <= EXACT {
                (1 << bits) + found as usize - 3
            } else {
                (2 << EXACT) + 2 * (bits - EXACT - 1) as usize + usize::from(found > 1)
            };
            let set = sets + (left as usize).min(PLACES - 1);
            let bit = self.bit(coder, number >> left & 1, base.map(|base| base + LENGTHS + node), set);
            found = found << 1 | bit;
        }
        found
    }

    #[inline(always)]
    fn bit<K: Coder>(&mut self, coder: &mut K, bit: u32, at: [usize; INPUTS], set: usize) -> u32 {
        let [a, b, c] = &mut self.counters;
        let held = [&mut a[at[0]], &mut b[at[1]], &mut c[at[2]]];
        let inputs = held.each_ref().map(|counter| {
            let both = (**counter >> 16) + (**counter & 0xFFFF);
            i32::from(self.logistic.stretch((both >> 1) as u16))
        });
        let weights = &mut self.weights[set];
        let products = weights.iter().zip(inputs).map(|(&weight, input)| weight.wrapping_mul(input) >> 8);
        let p = self.logistic.squash(products.fold(0, i32::wrapping_add) >> 8);
        let bit = coder.code(bit, u32::from(p));
        let error = (((bit << 16) as i32 - i32::from(p)) * self.rate) >> 4;
        for (weight, input) in weights.iter_mut().zip(inputs) {
            *weight = weight.wrapping_add(input.wrapping_mul(error).wrapping_add(1 << 15) >> 16);
        }
        let target = bit as i32 * 65_535;
        for (counter, (fast, slow)) in held.into_iter().zip(FAST.into_iter().zip(SLOW)) {
            let rates = if *counter == EVEN { [FIRST; 2] } else { [fast, slow.min(self.slow)] };
            let (fast, slow) = ((*counter >> 16) as i32, (*counter & 0xFFFF) as i32);
            let (fast, slow) = (fast + ((target - fast) >> rates[0]), slow + ((target - slow) >> rates[1]));
            *counter = (fast as u32) << 16 | slow as u32;
        }
        bit
    }
}
