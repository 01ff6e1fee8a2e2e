//! Vector forms of the loops of [`mixer`](crate::mixer) and [`bank`], chosen at run time; the scalar form is the specification.
//!
//! Work that wants them is a [`Task`]: [`dispatch`] runs it compiled for the instruction set, so that everything it calls with
//! `#[inline(always)]` is, too. All arithmetic is on integers and wraps, so the order of sums does not matter.

#![allow(unsafe_code)]

pub mod pages;
pub(crate) mod rans;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::bank::{self, Bank, Held, LANES, Tables};

/// What is added to the dither of each of sixteen inputs: 2¹⁶ times the golden section, so that neighbours differ by much.
const RAMP: [u16; 16] = {
    let mut ramp = [0u16; 16];
    let mut at = 1;
    while at < 16 {
        ramp[at] = ramp[at - 1].wrapping_add(40_503);
        at += 1;
    }
    ramp
};

/// An instruction set, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Plain Rust, any machine.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Backend {
    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest of this machine.
    pub fn best() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|backend| backend.is_available()).unwrap_or(Self::Scalar)
    }
}

/// The loops. `X`, the number of inputs, is a multiple of 16 up to 1,024.
pub trait Simd: Copy {
    /// `Σ (w · x) >> 4`, each product and the sum in wrapping 32 bits.
    fn dot<const X: usize>(weights: &[i32; X], inputs: &[i32; X]) -> i32;
    /// `w += (x · error + 2¹⁵) >> 16`, in wrapping 32 bits.
    fn train<const X: usize>(weights: &mut [i32; X], inputs: &[i32; X], error: i32);
    /// `Σ w · x`, the sum in wrapping 32 bits.
    fn narrow_dot<const X: usize>(weights: &[i16; X], inputs: &[i16; X]) -> i32;
    /// `w += (x · error + d) >> 16`, saturating, where `d` of input `i` is the lower half of `dither + 40,503 · (i mod 16)`.
    fn narrow_train<const X: usize>(weights: &mut [i16; X], inputs: &[i16; X], error: i16, dither: u16);
    /// Inputs of a mixer from the histories of sixteen contexts, and the counters they came from.
    fn predict(bank: &Bank, states: &[u8; LANES], held: &mut Held, inputs: &mut [i16; 2 * LANES], tables: Tables);
    /// Makes the inputs of [`Simd::predict`] such that a context says nothing where it is new, and where all its bits were the same half in the first
    /// input and all in the second, which is silent otherwise: fewer inputs speak, and those that are sure have weights of their own.
    fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], tables: Tables);
    /// The counters learn the bit, the histories move on.
    fn learn(bank: &mut Bank, states: &mut [u8; LANES], held: &Held, bit: u32, limit: u32, tables: Tables);
    /// Rows become columns.
    fn transpose(rows: &[[u8; 16]; 16]) -> [[u8; 16]; 16];

    /// Which of four rows begins with this byte, and true; or which has the least second byte, and false. The first of several.
    #[inline(always)]
    fn choose(rows: &[[u8; 16]; 4], first: u8) -> (usize, bool) {
        let key = |at: usize| {
            let [held, second, ..] = rows[at];
            if held == first { at as u32 } else { 4 | u32::from(second) << 3 | at as u32 }
        };
        // No branch: which it is cannot be foreseen.
        let least = key(0).min(key(1)).min(key(2)).min(key(3));
        ((least & 3) as usize, least < 4)
    }

    /// `Σ (w · x) >> 8`, each product and the sum in wrapping 32 bits.
    #[inline(always)]
    fn dot_four(weights: &[i32; 4], inputs: &[i32; 4]) -> i32 {
        let products = weights.iter().zip(inputs).map(|(&w, &x)| w.wrapping_mul(x) >> 8);
        products.fold(0, i32::wrapping_add)
    }

    /// `w += (x · error + 2¹⁵) >> 16`, in wrapping 32 bits.
    #[inline(always)]
    fn train_four(weights: &mut [i32; 4], inputs: &[i32; 4], error: i32) {
        Scalar::train(weights, inputs, error);
    }

    /// Counters that learn a bit: in the upper and in the lower half of each a probability of a 1, whose distance from the bit shrinks by shares
    /// of `2^-upper` and `2^-lower`; in one that is `fresh` by `2^-first`. All shifts are below 16.
    #[inline(always)]
    fn learn_four(counters: [u32; 4], bit: u32, rates: &PairRates) -> [u32; 4] {
        let flip = bit.wrapping_neg();
        std::array::from_fn(|lane| {
            let new = counters[lane] == rates.fresh;
            let [upper, lower] = [rates.upper, rates.lower].map(|rate| if new { rates.first } else { rate[lane] });
            let far = counters[lane] ^ flip;
            (far - (far >> upper & 0xFFFF_0000) - ((far & 0xFFFF) >> lower)) ^ flip
        })
    }
}

/// How fast four counters of two probabilities each learn.
#[derive(Clone, Copy, Debug)]
pub struct PairRates {
    /// Of the upper halves.
    pub upper: [u32; 4],
    /// Of the lower halves.
    pub lower: [u32; 4],
    /// A counter that has learnt nothing yet.
    pub fresh: u32,
    /// Of such a one.
    pub first: u32,
}

/// The specification.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Simd for Scalar {
    #[inline(always)]
    fn dot<const X: usize>(weights: &[i32; X], inputs: &[i32; X]) -> i32 {
        let products = weights.iter().zip(inputs).map(|(&w, &x)| w.wrapping_mul(x) >> 4);
        products.fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn train<const X: usize>(weights: &mut [i32; X], inputs: &[i32; X], error: i32) {
        for (w, &x) in weights.iter_mut().zip(inputs) {
            *w = w.wrapping_add(x.wrapping_mul(error).wrapping_add(1 << 15) >> 16);
        }
    }

    #[inline(always)]
    fn narrow_dot<const X: usize>(weights: &[i16; X], inputs: &[i16; X]) -> i32 {
        let products = weights.iter().zip(inputs).map(|(&w, &x)| i32::from(w) * i32::from(x));
        products.fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn narrow_train<const X: usize>(weights: &mut [i16; X], inputs: &[i16; X], error: i16, dither: u16) {
        for (i, (w, &x)) in weights.iter_mut().zip(inputs).enumerate() {
            let step = (i32::from(x) * i32::from(error) + i32::from(dither.wrapping_add(RAMP[i % RAMP.len()]))) >> 16;
            *w = w.saturating_add(step as i16);
        }
    }

    #[inline(always)]
    fn predict(bank: &Bank, states: &[u8; LANES], held: &mut Held, inputs: &mut [i16; 2 * LANES], tables: Tables) {
        bank.predict(states, held, inputs, tables);
    }

    #[inline(always)]
    fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], tables: Tables) {
        bank::split(states, inputs, tables.histories);
    }

    #[inline(always)]
    fn learn(bank: &mut Bank, states: &mut [u8; LANES], held: &Held, bit: u32, limit: u32, tables: Tables) {
        bank.learn(states, held, bit, limit, tables);
    }

    #[inline(always)]
    fn transpose(rows: &[[u8; 16]; 16]) -> [[u8; 16]; 16] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }
}

/// Work to be compiled for an instruction set; its `run` should be `#[inline(always)]`.
pub trait Task {
    /// What it gives.
    type Output;
    /// Does it.
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a task on a backend, or on [`Scalar`] where this machine lacks it.
pub fn dispatch<T: Task>(backend: Backend, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if backend.is_available() {
        match backend {
            // SAFETY: the machine has the features, as just asked.
            Backend::Avx512 => return unsafe { x86::with_avx512(task) },
            // SAFETY: as above.
            Backend::Avx2 => return unsafe { x86::with_avx2(task) },
            Backend::Scalar => {}
        }
    }
    let _ = backend;
    task.run::<Scalar>()
}

/// Asks for the cache line of an element; nothing where it does not exist or the machine has no such instruction.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    prefetch_into::<FIRST, T>(slice, index);
}

/// The same into the second-level cache, where many are asked for at once: more lines may be on their way to it than to the first.
#[inline(always)]
pub fn prefetch_second<T>(slice: &[T], index: usize) {
    prefetch_into::<SECOND, T>(slice, index);
}

/// The machine's hints for the caches of the first and the second level.
#[cfg(target_arch = "x86_64")]
const FIRST: i32 = std::arch::x86_64::_MM_HINT_T0;
#[cfg(target_arch = "x86_64")]
const SECOND: i32 = std::arch::x86_64::_MM_HINT_T1;
#[cfg(not(target_arch = "x86_64"))]
const FIRST: i32 = 1;
#[cfg(not(target_arch = "x86_64"))]
const SECOND: i32 = 2;

#[inline(always)]
fn prefetch_into<const CACHE: i32, T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(index) {
        // SAFETY: the address is that of a reference; a prefetch has no effect on memory.
        unsafe { std::arch::x86_64::_mm_prefetch::<CACHE>(std::ptr::from_ref(element).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Both<'a, const X: usize>(&'a mut [i32; X], &'a [i32; X], i32);

    impl<const X: usize> Task for Both<'_, X> {
        type Output = i32;
        #[inline(always)]
        fn run<S: Simd>(self) -> i32 {
            let dot = S::dot(self.0, self.1);
            S::train(self.0, self.1, self.2);
            dot
        }
    }

    fn agree<const X: usize>(weights: &[i32], inputs: &[i32], error: i32) {
        let weights: [i32; X] = std::array::from_fn(|i| weights[i]);
        let inputs: [i32; X] = std::array::from_fn(|i| inputs[i]);
        let mut expected = weights;
        let dot = dispatch(Backend::Scalar, Both(&mut expected, &inputs, error));
        for backend in [Backend::Avx2, Backend::Avx512] {
            let mut found = weights;
            assert_eq!(dispatch(backend, Both(&mut found, &inputs, error)), dot, "{backend:?}");
            assert_eq!(found, expected, "{backend:?}");
        }
    }

    proptest! {
        #[test]
        fn every_backend_gives_the_scalar_bits(
            weights in prop::collection::vec(any::<i32>(), 64),
            inputs in prop::collection::vec(any::<i32>(), 64),
            error in any::<i32>(),
        ) {
            agree::<16>(&weights, &inputs, error);
            agree::<32>(&weights, &inputs, error);
            agree::<48>(&weights, &inputs, error);
            agree::<64>(&weights, &inputs, error);
        }
    }

    struct Narrow<'a, const X: usize>(&'a mut [i16; X], &'a [i16; X], i16, u16);

    impl<const X: usize> Task for Narrow<'_, X> {
        type Output = i32;
        #[inline(always)]
        fn run<S: Simd>(self) -> i32 {
            let dot = S::narrow_dot(self.0, self.1);
            S::narrow_train(self.0, self.1, self.2, self.3);
            dot
        }
    }

    fn agree_narrow<const X: usize>(weights: &[i16], inputs: &[i16], (error, dither): (i16, u16)) {
        let weights: [i16; X] = std::array::from_fn(|i| weights[i]);
        let inputs: [i16; X] = std::array::from_fn(|i| inputs[i]);
        let mut expected = weights;
        let dot = dispatch(Backend::Scalar, Narrow(&mut expected, &inputs, error, dither));
        for backend in [Backend::Avx2, Backend::Avx512] {
            let mut found = weights;
            assert_eq!(dispatch(backend, Narrow(&mut found, &inputs, error, dither)), dot, "{backend:?}");
            assert_eq!(found, expected, "{backend:?}");
        }
    }

    proptest! {
        #[test]
        fn every_backend_gives_the_scalar_bits_of_narrow_weights(
            weights in prop::collection::vec(any::<i16>(), 240),
            inputs in prop::collection::vec(-2047i16..=2047, 240),
            error in any::<i16>(),
            dither in any::<u16>(),
        ) {
            agree_narrow::<16>(&weights, &inputs, (error, dither));
            agree_narrow::<32>(&weights, &inputs, (error, dither));
            agree_narrow::<48>(&weights, &inputs, (error, dither));
            agree_narrow::<240>(&weights, &inputs, (error, dither));
        }
    }

    struct Four<'a>(&'a mut [i32; 4], [i32; 4], [u32; 4], i32, PairRates);

    impl Task for Four<'_> {
        type Output = (i32, [u32; 4]);
        #[inline(always)]
        fn run<S: Simd>(self) -> (i32, [u32; 4]) {
            let dot = S::dot_four(self.0, &self.1);
            S::train_four(self.0, &self.1, self.3);
            (dot, S::learn_four(self.2, self.3 as u32 & 1, &self.4))
        }
    }

    proptest! {
        #[test]
        fn every_backend_learns_four_as_the_scalar_one(
            weights in any::<[i32; 4]>(),
            inputs in any::<[i32; 4]>(),
            counters in any::<[u32; 4]>(),
            error in any::<i32>(),
            shifts in prop::array::uniform8(0u32..16),
            first in 0u32..16,
        ) {
            let rates = PairRates {
                upper: std::array::from_fn(|n| shifts[n]),
                lower: std::array::from_fn(|n| shifts[4 + n]),
                fresh: counters[2],
                first,
            };
            let mut expected = weights;
            let result = dispatch(Backend::Scalar, Four(&mut expected, inputs, counters, error, rates));
            for backend in [Backend::Avx2, Backend::Avx512] {
                let mut found = weights;
                prop_assert_eq!(dispatch(backend, Four(&mut found, inputs, counters, error, rates)), result);
                prop_assert_eq!(found, expected);
            }
        }
    }

    struct Learn<'a>(&'a mut Bank, &'a [(u8, bool)]);

    impl Task for Learn<'_> {
        type Output = Vec<i32>;
        #[inline(always)]
        fn run<S: Simd>(self) -> Vec<i32> {
            let (tables, mut all) = (Tables::get(), Vec::new());
            let mut states = [0; LANES];
            for (step, &(state, bit)) in self.1.iter().enumerate() {
                states[step % LANES] = state;
                let (mut held, mut inputs) = ([Default::default(); LANES], [0; 2 * LANES]);
                S::predict(self.0, &states, &mut held, &mut inputs, tables);
                all.extend(inputs.map(i32::from));
                S::split(&states, &mut inputs, tables);
                S::learn(self.0, &mut states, &held, u32::from(bit), 255, tables);
                all.extend(inputs.map(i32::from));
                all.extend(states.map(i32::from));
            }
            all
        }
    }

    proptest! {
        #[test]
        fn banks_learn_the_same_on_every_backend(steps in prop::collection::vec(any::<(u8, bool)>(), 0..400)) {
            let mut expected = Bank::default();
            let inputs = dispatch(Backend::Scalar, Learn(&mut expected, &steps));
            for backend in [Backend::Avx2, Backend::Avx512] {
                let mut found = Bank::default();
                prop_assert_eq!(dispatch(backend, Learn(&mut found, &steps)), inputs.clone());
                prop_assert!(found.counters == expected.counters);
            }
        }

        #[test]
        fn transposing_is_the_same_on_every_backend(bytes in prop::collection::vec(any::<u8>(), 256)) {
            struct Turn([[u8; 16]; 16]);
            impl Task for Turn {
                type Output = [[u8; 16]; 16];
                #[inline(always)]
                fn run<S: Simd>(self) -> Self::Output {
                    S::transpose(&self.0)
                }
            }
            let rows = || std::array::from_fn(|i| std::array::from_fn(|j| bytes[16 * i + j]));
            let expected = dispatch(Backend::Scalar, Turn(rows()));
            prop_assert_eq!(expected[3][5], bytes[5 * 16 + 3]);
            for backend in [Backend::Avx2, Backend::Avx512] {
                prop_assert_eq!(dispatch(backend, Turn(rows())), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_chosen_alike_on_every_backend(rows in prop::array::uniform4(prop::array::uniform2(0u8..4)), first in 0u8..4) {
            struct Choose([[u8; 16]; 4], u8);
            impl Task for Choose {
                type Output = (usize, bool);
                #[inline(always)]
                fn run<S: Simd>(self) -> Self::Output {
                    S::choose(&self.0, self.1)
                }
            }
            let held = rows.map(|[check, root]| {
                let mut row = [77; 16];
                (row[0], row[1]) = (check, root.wrapping_mul(85));
                row
            });
            let chosen = dispatch(Backend::Scalar, Choose(held, first));
            let fits = rows.iter().position(|row| row[0] == first);
            let least = || rows.iter().enumerate().min_by_key(|(_, row)| row[1]).map_or(0, |(at, _)| at);
            prop_assert_eq!(chosen, (fits.unwrap_or_else(least), fits.is_some()));
            for backend in [Backend::Avx2, Backend::Avx512] {
                prop_assert_eq!(dispatch(backend, Choose(held, first)), chosen);
            }
        }
    }

    #[test]
    fn prefetching_nowhere_is_nothing() {
        prefetch::<u64>(&[], 3);
        prefetch(&[1, 2], 1);
        prefetch_second(&[1, 2], 2);
    }
}
