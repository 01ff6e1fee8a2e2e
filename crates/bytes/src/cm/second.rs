//! The second layer: mixers of what the mixers of the first layer say, whose probabilities count the same.

use brevity_coding::logistic::Logistic;
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::simd::Scalar;

/// Mixers of the first layer at most.
pub const WIDEST: usize = 16;
/// So few are mixed one by one, as no vector can be loaded right behind the stores of its parts.
const NARROW: usize = 8;
/// Mixers of this layer at most.
pub const MOST: usize = 3;
/// Sets of weights of each.
const SETS: [usize; MOST] = [256, 2048, 1 << 16];

/// Two mixers, or three of more inputs.
pub struct Second {
    two: [Mixer<NARROW>; 2],
    three: Option<Box<[Mixer<WIDEST>; 3]>>,
}

/// What it comes to.
pub struct Mixed {
    /// Log-odds of the first mixer, in units of 1/256.
    pub first: i32,
    /// The mean of all, and of their probabilities (units of 2⁻¹⁶).
    pub odds: i32,
    pub p: u32,
}

/// Bytes of weights of the three.
pub fn memory() -> u64 {
    (SETS.iter().sum::<usize>() * WIDEST * size_of::<i32>()) as u64
}

impl Second {
    /// For so many mixers of the first layer, all trusted the same.
    pub fn new(mixers: usize) -> Self {
        let weight = ONE / mixers as i32;
        let wide = mixers > NARROW;
        Self {
            two: [0, 1].map(|i| Mixer::new(if wide { 1 } else { SETS[i] }, weight)),
            three: wide.then(|| Box::new(SETS.map(|sets| Mixer::new(sets, weight)))),
        }
    }

    /// Asks for the weights of the largest of them.
    #[inline(always)]
    pub fn prefetch(&self, set: usize) {
        if let Some(three) = &self.three {
            three[2].prefetch(set);
        }
    }

    /// Mixes what the first layer says with these sets of weights. The mean of two is rounded down, that of three towards zero.
    /// Whether there are three (as [`Second::new`] made it) is asked for as a constant: the quick levels have no time to look.
    #[inline(always)]
    pub fn mix(&mut self, is_three: bool, said: &[i32; WIDEST], sets: [usize; MOST], logistic: &Logistic) -> Mixed {
        if is_three && let Some(three) = &mut self.three {
            let ([first, second, third], p) = mix(three, said, sets, logistic);
            return Mixed { first, odds: (first + second + third) / 3, p: p / 3 };
        }
        let ([first, second], p) = mix(&mut self.two, narrow(said), [sets[0], sets[1]], logistic);
        Mixed { first, odds: (first + second) >> 1, p: p >> 1 }
    }

    /// Learns the bit that came after the last [`Second::mix`] of the same.
    #[inline(always)]
    pub fn learn(&mut self, is_three: bool, said: &[i32; WIDEST], bit: u32, rate: i32) {
        if is_three && let Some(three) = &mut self.three {
            three.iter_mut().for_each(|mixer| mixer.learn::<Scalar>(said, bit, rate));
        } else {
            self.two.iter_mut().for_each(|mixer| mixer.learn::<Scalar>(narrow(said), bit, rate));
        }
    }
}

/// Log-odds of each, and the sum of their probabilities.
#[inline(always)]
fn mix<const X: usize, const N: usize>(
    mixers: &mut [Mixer<X>; N],
    said: &[i32; X],
    sets: [usize; N],
    logistic: &Logistic,
) -> ([i32; N], u32) {
    let (mut odds, mut p) = ([0; N], 0);
    for ((odds, mixer), set) in odds.iter_mut().zip(mixers).zip(sets) {
        *odds = mixer.mix::<Scalar>(said, set, logistic);
        p += u32::from(mixer.p());
    }
    (odds, p)
}

#[inline(always)]
fn narrow(said: &[i32; WIDEST]) -> &[i32; NARROW] {
    const NONE: [i32; NARROW] = [0; NARROW];
    said.first_chunk().unwrap_or(&NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_mixer_that_knows() {
        for mixers in [5, 7, 10] {
            let (logistic, mut second) = (Logistic::get(), Second::new(mixers));
            let mut p = 0;
            for n in 0..4000u32 {
                let bit = (n / 3) & 1;
                let mut said = [0; WIDEST];
                said[mixers - 1] = if bit == 1 { 300 } else { -300 };
                said[0] = 200;
                p = second.mix(mixers > NARROW, &said, [3, 9, 77], logistic).p;
                p = if bit == 1 { p } else { 65_536 - p };
                second.learn(mixers > NARROW, &said, bit, 6);
            }
            assert!(p > 55_000, "{mixers}: {p}");
        }
    }

    #[test]
    fn the_mean_of_equals_is_what_they_say() {
        let logistic = Logistic::get();
        for mixers in [7, 10] {
            let mut said = [0; WIDEST];
            said[..mixers].fill(512);
            let mixed = Second::new(mixers).mix(mixers > NARROW, &said, [0; MOST], logistic);
            assert!((mixed.first - 512).abs() < 16 && (mixed.odds - 512).abs() < 16, "{} {}", mixed.first, mixed.odds);
            assert!((mixed.p as i32 - i32::from(logistic.squash(512))).abs() < 512, "{}", mixed.p);
        }
    }
}
