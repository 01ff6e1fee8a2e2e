//! Adaptive Golomb codes: whole numbers of a geometric distribution whose mean is learnt.
//!
//! After R. F. Rice and J. R. Plaunt, "Adaptive variable-length coding" (1971), with the parameter of JPEG-LS (Weinberger, Seroussi,
//! Sapiro, 2000), corrected for the mean's ln 2: with the sum `A` of `N` earlier numbers, `k` is the least with `N · 2^k ≥ ¾ A`. A number `n` is `n >> k` in unary, ended
//! by a one, then its lowest `k` bits. From 24 zeros on the number stands raw in 32 bits. `A` and `N` are halved when `N` reaches 64.

use crate::bits::{BitReader, BitWriter};

/// Zeros that say that a raw number follows.
const ESCAPE: u32 = 24;

/// What was learnt so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Golomb {
    sum: u64,
    count: u32,
}

impl Golomb {
    /// Expects numbers around `mean`.
    pub const fn new(mean: u32) -> Self {
        Self { sum: mean as u64, count: 1 }
    }

    fn parameter(self) -> u32 {
        let quotient = (3 * self.sum / 4).div_ceil(u64::from(self.count));
        (u64::BITS - quotient.saturating_sub(1).leading_zeros()).min(31)
    }

    fn learn(&mut self, value: u32) {
        self.sum += u64::from(value);
        self.count += 1;
        if self.count == 64 {
            self.sum /= 2;
            self.count = 32;
        }
    }

    /// Writes a number.
    pub fn put(&mut self, value: u32, out: &mut BitWriter) {
        let k = self.parameter();
        let unary = value >> k;
        if unary < ESCAPE {
            out.put(1 << unary, unary + 1);
            out.put(value, k);
        } else {
            out.put(0, ESCAPE);
            out.put(value, 32);
        }
        self.learn(value);
    }

    /// Reads a number.
    pub fn take(&mut self, input: &mut BitReader<'_>) -> u32 {
        let k = self.parameter();
        input.fill();
        let unary = input.peek(ESCAPE).trailing_zeros().min(ESCAPE);
        let value = if unary < ESCAPE {
            input.skip(unary + 1);
            unary << k | input.take(k)
        } else {
            input.skip(ESCAPE);
            input.take(32)
        };
        self.learn(value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec((any::<u32>(), 0u32..32), 0..300), mean in any::<u32>()) {
            let values: Vec<u32> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let (mut out, mut golomb) = (BitWriter::new(), Golomb::new(mean));
            values.iter().for_each(|&value| golomb.put(value, &mut out));
            let bytes = out.finish();
            let (mut input, mut golomb) = (BitReader::new(&bytes), Golomb::new(mean));
            for value in values {
                prop_assert_eq!(golomb.take(&mut input), value);
            }
            prop_assert!(!input.overran());
        }

        #[test]
        fn any_bytes_are_numbers(bytes in any::<Vec<u8>>()) {
            let (mut input, mut golomb) = (BitReader::new(&bytes), Golomb::new(3));
            (0..200).for_each(|_| { golomb.take(&mut input); });
        }
    }

    #[test]
    fn a_geometric_source_costs_little_more_than_its_entropy() {
        for chance in [2u32, 10, 60, 1000] {
            let (mut seed, mut out, mut golomb) = (9u32, BitWriter::new(), Golomb::new(0));
            let p = 1.0 / f64::from(chance);
            for _ in 0..20_000 {
                let mut gap = 0;
                loop {
                    seed ^= seed << 13;
                    seed ^= seed >> 17;
                    seed ^= seed << 5;
                    if seed % chance == 0 {
                        break;
                    }
                    gap += 1;
                }
                golomb.put(gap, &mut out);
            }
            let entropy = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2()) / p;
            let found = out.finish().len() as f64 * 8.0 / 20_000.0;
            assert!(found < entropy * 1.05 + 0.1, "{chance}: {found} {entropy}");
        }
    }
}
