//! Sixteen contexts at once: what each one's history means, learnt.
//!
//! A [`Bank`] holds a [`Counter`] for each of 256 histories in each of sixteen contexts. A prediction gives two inputs of a mixer for
//! each context, `stretch(p)` (all sixteen first) and `(p − ½) · 2¹¹`: the second keeps weak evidence weak. The loops are in [`simd`](crate::simd).

use crate::counter::{Counter, Rates};
use crate::history::Histories;
use crate::logistic::Logistic;

/// Contexts of a bank.
pub const LANES: usize = 16;

/// The tables that the loops read.
#[derive(Clone, Copy)]
pub struct Tables {
    /// Stretch and squash.
    pub logistic: &'static Logistic,
    /// Successors of histories.
    pub histories: &'static Histories,
    /// Speeds of counters.
    pub rates: Rates,
}

impl Tables {
    /// All of them, made at the first call.
    pub fn get() -> Self {
        Self { logistic: Logistic::get(), histories: Histories::get(), rates: Rates::get() }
    }
}

/// Makes the inputs of a [`Simd::predict`](crate::simd::Simd::predict) such that a context says nothing where it is new, and where all its bits
/// were the same half in the first input and all in the second, which is silent otherwise: fewer inputs speak, and those that are sure have weights of
/// their own.
#[inline(always)]
pub fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], histories: &Histories) {
    for lane in 0..LANES {
        let (stretched, [seen, alone]) = (inputs[lane], histories.masks(states[lane]));
        inputs[lane] = (stretched >> 1) & alone | stretched & seen & !alone;
        inputs[LANES + lane] = stretched & alone;
    }
}

/// Counters of 256 histories in sixteen contexts.
#[derive(Clone)]
pub struct Bank {
    pub(crate) counters: Box<[Counter; 256 * LANES]>,
}

/// What a prediction read, for the learning that follows.
pub type Held = [Counter; LANES];

impl Default for Bank {
    fn default() -> Self {
        let histories = Histories::get();
        Self { counters: Box::new(std::array::from_fn(|i| Counter::of_counts(histories.counts(i as u8)))) }
    }
}

impl Bank {
    /// The specification of [`Simd::predict`](crate::simd::Simd::predict).
    #[inline(always)]
    pub(crate) fn predict(&self, states: &[u8; LANES], held: &mut Held, inputs: &mut [i16; 2 * LANES], tables: Tables) {
        for lane in 0..LANES {
            let counter = self.counters[lane * 256 + usize::from(states[lane])];
            held[lane] = counter;
            inputs[lane] = tables.logistic.stretch(counter.p());
            inputs[LANES + lane] = ((i32::from(counter.p()) - 32_768) >> 5) as i16;
        }
    }

    /// The specification of [`Simd::learn`](crate::simd::Simd::learn).
    #[inline(always)]
    pub(crate) fn learn(&mut self, states: &mut [u8; LANES], held: &Held, bit: u32, limit: u32, tables: Tables) {
        for lane in 0..LANES {
            let mut counter = held[lane];
            counter.learn(bit, limit, tables.rates);
            self.counters[lane * 256 + usize::from(states[lane])] = counter;
            states[lane] = tables.histories.next(states[lane], bit as usize);
        }
    }
}
