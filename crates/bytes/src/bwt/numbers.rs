//! Bits behind counters: some behind a mixture of three, some behind one.
//!
//! A counter is two probabilities of a 1, one that forgets fast and one that forgets slowly; their mean is what it says. Three are mixed in the logistic
//! domain, with weights that learn.
//!
//! Which counters and weights a bit asks for is known to an encoder before it codes: a [`Recorder`] notes them, and codes many at once in a loop without
//! other branches. A [`Reader`] takes the same steps bit by bit. Mixed bits and plain ones are two streams, so that neither waits for the other.

use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::ONE;
use brevity_coding::range::{Coder, Decoder, Encoder};
use brevity_coding::simd::{PairRates, Simd};
use std::marker::PhantomData;

/// Counters behind which a mixed bit stands.
pub const INPUTS: usize = 3;

/// The probability that forgets fast in the upper half, the one that forgets slowly in the lower one; like this where no bit came yet.
const EVEN: u32 = 0x8000_8000;
/// Both move by a share of `2^-FIRST` then, later by `2^-FAST` and `2^-SLOW`; a new stream's slow ones by `2^-FAST` too.
const FIRST: u32 = 2;
const FAST: [u32; 4] = [3, 5, 4, 0];
const SLOW: [u32; 4] = [6, 7, 7, 0];
const NEW_SLOW: u32 = 4;
/// The same of plain bits.
const PLAIN: [u32; 2] = [5, 7];

/// How fast weights learn, in units of 2⁻⁴, and how much faster to begin with.
const RATE: i32 = 6;
const NEW_RATE: i32 = 18;
/// From this age on, rates stay.
const GROWN: u32 = 8;

/// Where a bit's counters and weights stand.
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// Of the counters.
    pub at: [u32; INPUTS],
    /// Of the weights.
    pub set: u32,
}

/// Takes or gives bits.
pub trait Bits {
    /// Codes a bit behind three counters; a decoder ignores the one that it is given.
    fn mixed(&mut self, bit: u32, place: Place) -> u32;

    /// Codes a bit behind one.
    fn plain(&mut self, bit: u32, at: u32) -> u32;
}

/// A counter that learnt a bit.
#[inline(always)]
fn learnt(counter: u32, bit: u32, fast: u32, slow: u32) -> u32 {
    let (fast, slow) = if counter == EVEN { (FIRST, FIRST) } else { (fast, slow) };
    // How far both are from the bit shrinks.
    let far = counter ^ bit.wrapping_neg();
    (far - (far >> fast & 0xFFFF_0000) - ((far & 0xFFFF) >> slow)) ^ bit.wrapping_neg()
}

/// What a counter says.
#[inline(always)]
fn mean(counter: u32) -> u16 {
    (((counter >> 16) + (counter & 0xFFFF)) >> 1) as u16
}

/// How fast a mixture learns, which depends on the bits it has seen: four times as many are an age.
#[derive(Clone, Copy)]
struct Rates {
    counters: PairRates,
    weights: i32,
    /// Bits until they change.
    left: u32,
    age: u32,
}

impl Rates {
    fn new(age: u32) -> Self {
        let left = if age < GROWN { 12 << (2 * age) } else { u32::MAX };
        let lower = SLOW.map(|slow| slow.min(age.max(NEW_SLOW)));
        let counters = PairRates { upper: FAST, lower, fresh: EVEN, first: FIRST };
        Self { counters, weights: RATE + (NEW_RATE >> age), left, age }
    }

    #[inline(always)]
    fn pass(&mut self, bits: u32) {
        self.left -= bits;
        if self.left == 0 {
            *self = Self::new((self.age + 1).min(GROWN));
        }
    }
}

/// Counters and weights.
struct Mixture {
    counters: Vec<u32>,
    weights: Vec<[i32; 4]>,
    logistic: &'static Logistic,
}

impl Mixture {
    fn new(counters: usize, sets: usize) -> Self {
        Self {
            counters: vec![EVEN; counters],
            weights: vec![[ONE / (INPUTS as i32 - 1); 4]; sets],
            logistic: Logistic::get(),
        }
    }

    /// All of it for a loop: looked up once.
    #[inline(always)]
    fn view(&mut self) -> View<'_> {
        View { counters: &mut self.counters, weights: &mut self.weights, logistic: self.logistic }
    }
}

/// The parts of a mixture.
struct View<'a> {
    counters: &'a mut [u32],
    weights: &'a mut [[i32; 4]],
    logistic: &'static Logistic,
}

impl View<'_> {
    /// Codes a bit with `code` of its probability and learns it.
    #[inline(always)]
    fn bit<S: Simd>(&mut self, rates: &Rates, place: Place, code: impl FnOnce(u16) -> u32) -> u32 {
        let [a, b, c] = place.at.map(|at| self.counters[at as usize]);
        let [x, y, z] = [a, b, c].map(|counter| i32::from(self.logistic.stretch(mean(counter))));
        let inputs = [x, y, z, 0];
        let weights = &mut self.weights[place.set as usize];
        let p = self.logistic.squash(S::dot_four(weights, &inputs) >> 8);
        let bit = code(p);
        let error = (((bit << 16) as i32 - i32::from(p)) * rates.weights) >> 4;
        S::train_four(weights, &inputs, error);
        let learnt = S::learn_four([a, b, c, 0], bit, &rates.counters);
        for (at, counter) in place.at.into_iter().zip(learnt) {
            self.counters[at as usize] = counter;
        }
        bit
    }
}

/// Bits that are noted together, and how many more may be noted before they are coded.
const BATCH: usize = 512;
const MORE: usize = 128;

/// Notes bits and encodes them.
pub struct Recorder<S> {
    simd: PhantomData<S>,
    mixture: Mixture,
    rates: Rates,
    plain: Vec<u32>,
    /// With the bit in the lowest bit of the set.
    noted: Vec<Place>,
    /// Counters and bits.
    simple: Vec<(u32, u32)>,
    coders: [Encoder; 2],
}

impl<S: Simd> Recorder<S> {
    /// So many counters and sets of weights of mixed bits, so many counters of plain ones; their stream goes on behind `first`.
    pub fn new(counters: usize, sets: usize, plain: usize, first: Encoder) -> Self {
        Self {
            simd: PhantomData,
            mixture: Mixture::new(counters, sets),
            rates: Rates::new(0),
            plain: vec![EVEN; plain],
            noted: Vec::with_capacity(BATCH + MORE),
            simple: Vec::with_capacity(BATCH + MORE),
            coders: [Encoder::new(), first],
        }
    }

    /// Encodes what was noted where that is enough: to be called after every [`MORE`] bits at most.
    #[inline(always)]
    pub fn step(&mut self) {
        if self.noted.len() >= BATCH || self.simple.len() >= BATCH {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        let [mut mixed, mut plain] = std::mem::take(&mut self.coders);
        let mut mixture = self.mixture.view();
        let mut rest = &mut self.noted[..];
        while !rest.is_empty() {
            let rates = self.rates;
            let (now, later) = rest.split_at_mut(rest.len().min(rates.left as usize));
            for place in &mut *now {
                let bit = place.set & 1;
                let whole = Place { set: place.set >> 1, ..*place };
                mixture.bit::<S>(&rates, whole, |p| {
                    place.at[0] = p.into();
                    bit
                });
            }
            for place in &mut *now {
                mixed.code(place.set & 1, place.at[0]);
            }
            self.rates.pass(now.len() as u32);
            rest = later;
        }
        let counters = &mut self.plain[..];
        for &(at, bit) in &self.simple {
            let counter = &mut counters[at as usize];
            plain.code(bit, mean(*counter).into());
            *counter = learnt(*counter, bit, PLAIN[0], PLAIN[1]);
        }
        self.noted.clear();
        self.simple.clear();
        self.coders = [mixed, plain];
    }

    /// The streams.
    #[inline(always)]
    pub fn finish(mut self) -> [Vec<u8>; 2] {
        self.flush();
        self.coders.map(Encoder::finish)
    }
}

impl<S: Simd> Bits for Recorder<S> {
    #[inline(always)]
    fn mixed(&mut self, bit: u32, place: Place) -> u32 {
        self.noted.push(Place { set: place.set << 1 | bit, ..place });
        bit
    }

    #[inline(always)]
    fn plain(&mut self, bit: u32, at: u32) -> u32 {
        self.simple.push((at, bit));
        bit
    }
}

/// Decodes bits.
pub struct Reader<'a, S> {
    simd: PhantomData<S>,
    mixture: Mixture,
    rates: Rates,
    plain: Vec<u32>,
    coders: [Decoder<'a>; 2],
}

impl<'a, S: Simd> Reader<'a, S> {
    pub fn new(counters: usize, sets: usize, plain: usize, coders: [Decoder<'a>; 2]) -> Self {
        Self {
            simd: PhantomData,
            mixture: Mixture::new(counters, sets),
            rates: Rates::new(0),
            plain: vec![EVEN; plain],
            coders,
        }
    }
}

impl<S: Simd> Bits for Reader<'_, S> {
    #[inline(always)]
    fn mixed(&mut self, bit: u32, place: Place) -> u32 {
        let coder = &mut self.coders[0];
        let bit = self.mixture.view().bit::<S>(&self.rates, place, |p| coder.code(bit, p.into()));
        self.rates.pass(1);
        bit
    }

    #[inline(always)]
    fn plain(&mut self, bit: u32, at: u32) -> u32 {
        let counter = &mut self.plain[at as usize];
        let bit = self.coders[1].code(bit, mean(*counter).into());
        *counter = learnt(*counter, bit, PLAIN[0], PLAIN[1]);
        bit
    }
}
