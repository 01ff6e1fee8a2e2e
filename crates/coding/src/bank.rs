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

/// The specification of [`Simd::split`](crate::simd::Simd::split).
#[inline(always)]
pub(crate) fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], histories: &Histories) {
    for lane in 0..LANES {
        let stretched = inputs[lane];
        let [first, second] = match states[lane] {
            0 => [0, 0],
            state if histories.is_alone(state) => [stretched >> 1, stretched],
            _ => [stretched, 0],
        };
        inputs[lane] = first;
        inputs[LANES + lane] = second;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_silent_and_what_is_sure_speaks_twice() {
        let histories = Histories::get();
        let after = |bits: &[usize]| bits.iter().fold(0, |state, &bit| histories.next(state, bit));
        let mut states = [0; LANES];
        states[1] = after(&[1, 1, 1]);
        states[2] = after(&[1, 0, 1]);
        let mut inputs = [100; 2 * LANES];
        split(&states, &mut inputs, histories);
        assert_eq!([inputs[0], inputs[1], inputs[2]], [0, 50, 100]);
        assert_eq!([inputs[LANES], inputs[LANES + 1], inputs[LANES + 2]], [0, 100, 0]);
    }
}
