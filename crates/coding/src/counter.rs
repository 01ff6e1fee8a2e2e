//! Counters: probabilities of a bit that learn from what came.
//!
//! A [`Counter`] moves by `(bit − p) / (n + 1.5)`, `n` the times it was asked, up to a limit: exact frequencies at first,
//! then an average that forgets. 22 bits of probability and 10 of count in one word.
//!
//! [`Bit`] is the small sort: 16 bits of probability that move by a fixed share.

use std::sync::LazyLock;

/// `2¹⁴ / (n + 1.5)`.
static RECIPROCALS: LazyLock<Box<[i32; 1024]>> =
    LazyLock::new(|| Box::new(std::array::from_fn(|n| 32_768 / (2 * n as i32 + 3))));

/// The table of reciprocals, for loops that update many counters.
#[derive(Clone, Copy)]
pub struct Rates(pub(crate) &'static [i32; 1024]);

impl Rates {
    /// The table, made at the first call.
    pub fn get() -> Self {
        Self(&RECIPROCALS)
    }
}

/// A probability with its experience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Counter(u32);

impl Default for Counter {
    fn default() -> Self {
        Self::new(32_768)
    }
}

impl Counter {
    /// Starts at a probability in units of 2⁻¹⁶, without experience.
    pub const fn new(probability: u16) -> Self {
        Self((probability as u32) << 16)
    }

    /// Starts at a probability in units of 2⁻¹⁶, as if after `n` bits (below 1,024).
    pub const fn experienced(probability: u16, n: u32) -> Self {
        Self((probability as u32) << 16 | n)
    }

    /// Starts from what a pair of counts says of a one: `(n₁ + ½) / (n₀ + n₁ + 1)`.
    pub fn of_counts([zeros, ones]: [u8; 2]) -> Self {
        let (zeros, ones) = (u32::from(zeros), u32::from(ones));
        Self::new(((2 * ones + 1) * 65_535 / (2 * (zeros + ones) + 2)) as u16)
    }

    /// Probability of a one in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn p(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Learns a bit (0 or 1); `limit` (below 1,023) bounds the experience.
    #[inline(always)]
    pub fn learn(&mut self, bit: u32, limit: u32, rates: Rates) {
        let n = (self.0 & 1023).min(limit);
        let p = (self.0 >> 10) as i32;
        let target = if bit != 0 { (1 << 22) - 1 } else { 0 };
        // 17 bits and a sign, times 14: the step in units of 2⁻²².
        let step = (((target - p) >> 6) * rates.0[n as usize]) >> 8;
        self.0 = ((p + step) as u32) << 10 | (n + u32::from(n < limit));
    }
}

/// A probability that moves by `1 / 2^RATE` of what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit<const RATE: u32>(u16);

impl<const RATE: u32> Default for Bit<RATE> {
    fn default() -> Self {
        Self(32_768)
    }
}

impl<const RATE: u32> Bit<RATE> {
    /// Starts at a probability in units of 2⁻¹⁶.
    pub const fn new(probability: u16) -> Self {
        Self(probability)
    }

    /// Probability of a one in units of 2⁻¹⁶.
    #[inline(always)]
    pub fn p(self) -> u16 {
        self.0
    }

    /// Learns a bit (0 or 1).
    #[inline(always)]
    pub fn learn(&mut self, bit: u32) {
        let step = (i32::from(bit != 0) * 65_535 - i32::from(self.0)) >> RATE;
        self.0 = (i32::from(self.0) + step) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_at_first_and_forgets_later() {
        let rates = Rates::get();
        let mut counter = Counter::default();
        (0..100).for_each(|n| counter.learn(u32::from(n % 4 == 0), 1000, rates));
        assert!((f64::from(counter.p()) / 65_536.0 - 0.25).abs() < 0.02);
        (0..200).for_each(|_| counter.learn(1, 30, rates));
        assert!(counter.p() > 60_000);
        (0..100_000).for_each(|_| counter.learn(1, 1022, rates));
        (0..100_000).for_each(|_| counter.learn(0, 1022, rates));
        assert!(counter.p() < 100);
    }

    #[test]
    fn a_counter_never_leaves_its_range() {
        let rates = Rates::get();
        for bit in 0..2 {
            let mut counter = Counter::new(if bit == 0 { 0 } else { 65_535 });
            (0..5000).for_each(|_| counter.learn(bit, 255, rates));
            assert_eq!(counter.p() > 32_768, bit == 1);
        }
    }

    #[test]
    fn small_bits_follow() {
        let mut bit = Bit::<4>::default();
        (0..200).for_each(|_| bit.learn(1));
        assert!(bit.p() > 65_000);
        (0..200).for_each(|_| bit.learn(0));
        assert!(bit.p() < 200);
    }
}
