//! Gated logistic mixing: the log-odds of many predictions, weighted and summed, the weights chosen by a context.
//!
//! `p = squash(Σ wᵢ · stretch(pᵢ))`; after the bit, `wᵢ += rate · (bit − p) · stretch(pᵢ)`, the gradient of the bits spent
//! (M. Mahoney, "Adaptive weighing of context models for lossless data compression", 2005). Weights are 16.16 fixed
//! point; all arithmetic is on integers, so every [backend](crate::simd) gives the same bits.

use crate::logistic::{Logistic, MAX_STRETCH};
use crate::simd::{Simd, prefetch};

/// One in the units of weights.
pub const ONE: i32 = 1 << 16;

/// A set learns three times as fast the first so many times, twice as fast as many times more, and so on.
const NEW: u32 = 1024;

/// What the dither moves on by: odd, so that it takes all values, and far from simple fractions of 2¹⁶.
const DITHER: u16 = 27_571;

/// Sets of weights for `X` inputs; a context chooses the set.
#[derive(Clone, Debug)]
pub struct Mixer<const X: usize> {
    sets: Vec<[i32; X]>,
    /// How often each learnt.
    learnt: Vec<u32>,
    chosen: usize,
    output: i32,
    p: u16,
}

impl<const X: usize> Mixer<X> {
    /// So many sets (at least one), all weights the same to begin with.
    pub fn new(sets: usize, weight: i32) -> Self {
        let sets = sets.max(1);
        Self { sets: vec![[weight; X]; sets], learnt: vec![0; sets], chosen: 0, output: 0, p: 32_768 }
    }

    /// Gives one input another weight to begin with, in every set.
    pub fn set_weight(&mut self, input: usize, weight: i32) {
        self.sets.iter_mut().filter_map(|set| set.get_mut(input)).for_each(|held| *held = weight);
    }

    /// Asks for the weights of a set ahead of [`Mixer::mix`].
    #[inline(always)]
    pub fn prefetch(&self, set: usize) {
        if let Some(set) = self.sets.get(set) {
            (0..X).step_by(LINE / 2).for_each(|at| prefetch(set, at));
        }
    }

    /// Mixes the inputs with the weights of `set` (the last one where there are not so many): log-odds in units of 1/256.
    #[inline(always)]
    pub fn mix<S: Simd>(&mut self, inputs: &[i32; X], set: usize, logistic: &Logistic) -> i32 {
        self.chosen = set.min(self.sets.len() - 1);
        // The dot product is in units of 2⁻⁸ · 2⁻¹² (weights 2⁻¹⁶, shifted by 4).
        self.output = S::dot(&self.sets[self.chosen], inputs) >> 12;
        self.p = logistic.squash(self.output);
        self.output.clamp(-MAX_STRETCH, MAX_STRETCH)
    }

    /// The probability of the last mix in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn p(&self) -> u16 {
        self.p
    }

    /// Learns the bit that came after the last mix, a set that is new up to three times as fast. `rate` is in units of 1/16 of what moves a weight by
    /// `error · input` in 16.16.
    #[inline(always)]
    pub fn learn<S: Simd>(&mut self, inputs: &[i32; X], bit: u32, rate: i32) {
        self.step::<S>(inputs, bit, rate, 4);
    }

    /// [`Mixer::learn`] with a rate in units of 1/256.
    #[inline(always)]
    pub fn learn_finely<S: Simd>(&mut self, inputs: &[i32; X], bit: u32, rate: i32) {
        self.step::<S>(inputs, bit, rate, 8);
    }

    #[inline(always)]
    fn step<S: Simd>(&mut self, inputs: &[i32; X], bit: u32, rate: i32, shift: u32) {
        let learnt = &mut self.learnt[self.chosen];
        let rate = rate + ((2 * rate) >> (*learnt / NEW).min(31));
        *learnt = learnt.saturating_add(1);
        let error = (((bit << 16) as i32 - i32::from(self.p)) * rate) >> shift;
        let chosen = self.chosen.min(self.sets.len() - 1);
        S::train(&mut self.sets[chosen], inputs, error);
    }
}

/// Narrow weights of a cache line.
const LINE: usize = 32;
/// [`NEW`] for narrow weights.
const NARROW_NEW: u16 = 256;
/// What a set of narrow weights has learnt when it is not new any more in any way.
const OLD: u16 = 15 * NARROW_NEW;
/// Steps in which new sets of narrow weights inherit: later ones are rare contexts, and better off with what all began with.
const YOUNG: u32 = 1 << 17;
/// One in the units of narrow weights.
pub const NARROW_ONE: i16 = 1 << 12;

/// A set of narrow weights, in whole cache lines and halves of them.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct NarrowSet<const X: usize>([i16; X]);

/// A [`Mixer`] of many inputs, with weights of 4.12 fixed point from −8 to 8: half the memory, and twice as many in a vector. What a step is less than
/// a unit is not lost: it is rounded up as often as it should be, by a dither that runs through all values.
#[derive(Clone, Debug)]
pub struct NarrowMixer<const X: usize> {
    sets: Vec<NarrowSet<X>>,
    /// How often each learnt, up to [`OLD`].
    learnt: Vec<u16>,
    chosen: usize,
    steps: u32,
    p: u16,
    dither: u16,
}

impl<const X: usize> NarrowMixer<X> {
    /// So many sets (at least one), all weights the same to begin with.
    pub fn new(sets: usize, weight: i16) -> Self {
        let sets = sets.max(1);
        Self {
            sets: vec![NarrowSet([weight; X]); sets],
            learnt: vec![0; sets],
            chosen: 0,
            steps: 0,
            p: 32_768,
            dither: 0,
        }
    }

    /// Gives one input another weight to begin with, in every set.
    pub fn set_weight(&mut self, input: usize, weight: i16) {
        self.sets.iter_mut().filter_map(|set| set.0.get_mut(input)).for_each(|held| *held = weight);
    }

    /// Asks for the weights of a set ahead of [`NarrowMixer::mix`].
    #[inline(always)]
    pub fn prefetch(&self, set: usize) {
        if let Some(set) = self.sets.get(set) {
            (0..X).step_by(LINE).for_each(|at| prefetch(&set.0, at));
        }
    }

    /// Mixes the inputs (±2,047) with the weights of `set` (nothing where there are not so many): log-odds in units of 1/256. In the first
    /// 131,072 steps a set that has learnt nothing begins with the weights of the set before.
    #[inline(always)]
    pub fn mix<S: Simd>(&mut self, inputs: &[i16; X], set: usize, logistic: &Logistic) -> i32 {
        if self.steps < YOUNG
            && self.learnt.get(set) == Some(&0)
            && let Some(&last) = self.sets.get(self.chosen)
            && let Some(new) = self.sets.get_mut(set)
        {
            *new = last;
        }
        let Some(weights) = self.sets.get(set) else { return 0 };
        self.chosen = set;
        let output = S::narrow_dot(&weights.0, inputs) >> 12;
        self.p = logistic.squash(output);
        output.clamp(-MAX_STRETCH, MAX_STRETCH)
    }

    /// Learns the bit that came after the last mix, as [`Mixer::learn`] does.
    #[inline(always)]
    pub fn learn<S: Simd>(&mut self, inputs: &[i16; X], bit: u32, rate: i32) {
        let Some(set) = self.sets.get_mut(self.chosen) else { return };
        let Some(learnt) = self.learnt.get_mut(self.chosen) else { return };
        let rate = rate + ((2 * rate) >> (*learnt / NARROW_NEW));
        *learnt += u16::from(*learnt < OLD);
        let error = (((bit << 16) as i32 - i32::from(self.p)) * rate) >> 8;
        let error = error.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        self.steps = self.steps.saturating_add(1);
        self.dither = self.dither.wrapping_add(DITHER);
        if error != 0 {
            S::narrow_train(&mut set.0, inputs, error, self.dither);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    #[test]
    fn it_finds_the_input_that_knows() {
        let logistic = Logistic::get();
        let mut mixer = Mixer::<16>::new(2, ONE / 16);
        let mut seed = 1u32;
        let mut cost = 0.0;
        for step in 0..4000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bit = seed >> 31;
            let mut inputs: [i32; 16] = std::array::from_fn(|i| ((seed >> i) & 511) as i32 - 255);
            inputs[5] = if bit == 1 { 600 } else { -600 };
            mixer.mix::<Scalar>(&inputs, 1, logistic);
            let p = f64::from(mixer.p()) / 65_536.0;
            if step >= 3000 {
                cost -= if bit == 1 { p } else { 1.0 - p }.log2();
            }
            mixer.learn::<Scalar>(&inputs, bit, 96);
        }
        assert!(cost < 60.0, "{cost} bits for 1000");
    }

    #[test]
    fn small_errors_move_narrow_weights_as_much_as_they_should() {
        let logistic = Logistic::get();
        let mut mixer = NarrowMixer::<16>::new(1, 0);
        for _ in 0..10_000 {
            // A 32nd of a unit a step; three times that, then twice, while the set is new.
            mixer.mix::<Scalar>(&[0; 16], 0, logistic);
            mixer.learn::<Scalar>(&[16; 16], 1, 1);
        }
        let expected = 10_000 * 128 * 16 / 65_536 + 3 * 256 * 128 * 16 / 65_536;
        for &weight in &mixer.sets[0].0 {
            assert!((i32::from(weight) - expected).abs() < 16, "{weight} {expected}");
        }
    }

    #[test]
    fn a_new_set_begins_with_what_the_last_one_knows() {
        let logistic = Logistic::get();
        let mut mixer = NarrowMixer::<16>::new(2, 0);
        for _ in 0..100 {
            mixer.mix::<Scalar>(&[256; 16], 0, logistic);
            mixer.learn::<Scalar>(&[256; 16], 1, 16);
        }
        let known = mixer.mix::<Scalar>(&[256; 16], 0, logistic);
        assert!(known > 256);
        assert_eq!(mixer.mix::<Scalar>(&[256; 16], 1, logistic), known);
        assert_eq!(mixer.mix::<Scalar>(&[256; 16], 7, logistic), 0);
    }

    #[test]
    fn a_set_beyond_the_last_is_the_last() {
        let logistic = Logistic::get();
        let mut mixer = Mixer::<16>::new(3, ONE);
        let inputs = [16; 16];
        assert_eq!(mixer.mix::<Scalar>(&inputs, 99, logistic), 256);
        mixer.learn::<Scalar>(&inputs, 1, 16_000);
        assert!(mixer.mix::<Scalar>(&inputs, 2, logistic) > 256);
        assert_eq!(mixer.mix::<Scalar>(&inputs, 0, logistic), 256);
    }
}
