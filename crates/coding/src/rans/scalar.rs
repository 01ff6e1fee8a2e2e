//! One step of 64 symbols, one state after the other: the specification.

use super::{BITS, LEAST, States};

const MASK: u32 = (1 << BITS) - 1;

/// What encoding a symbol takes: the reciprocal of its frequency, and frequency | bias << 12 | shift << 25.
///
/// `⌊x / f⌋ = (x · reciprocal >> 32) >> shift` for all states (D. Lemire's and F. Giesen's rounding), and `x + bias + ⌊x / f⌋ · (M − f)` is the
/// new state.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Step {
    pub reciprocal: u32,
    pub packed: u32,
}

impl Step {
    pub fn new(frequency: u32, start: u32) -> Self {
        let (reciprocal, bias, shift) = if frequency < 2 {
            // x / 1 = x: the quotient comes out as x − 1, which the bias makes good.
            (u32::MAX, start + MASK, 0)
        } else {
            let shift = 32 - (frequency - 1).leading_zeros();
            let reciprocal = (1u64 << (shift + 31)).div_ceil(u64::from(frequency));
            (reciprocal as u32, start, shift - 1)
        };
        Self { reciprocal, packed: frequency | bias << 12 | shift << 25 }
    }
}

/// Encodes at most 64 symbols, the last first; words go below `at`.
#[inline(always)]
pub fn encode_step(steps: &[Step; 256], states: &mut States, symbols: &[u8], words: &mut [u16], at: &mut usize) {
    for (state, &symbol) in states.iter_mut().zip(symbols).rev() {
        let Step { reciprocal, packed } = steps[usize::from(symbol)];
        let frequency = packed & MASK;
        let mut x = *state;
        if x >= frequency << 19 {
            *at -= 1;
            words[*at] = x as u16;
            x >>= 16;
        }
        let quotient = ((u64::from(x) * u64::from(reciprocal)) >> 32) as u32 >> (packed >> 25);
        *state = x.wrapping_add(packed >> 12 & 0x1FFF).wrapping_add(quotient.wrapping_mul((1 << BITS) - frequency));
    }
}

/// Decodes at most 64 symbols. An entry is symbol | frequency << 8 | (slot − start) << 20.
#[inline(always)]
pub fn decode_step(entries: &[u32; 1 << BITS], states: &mut States, words: &[u8], at: &mut usize, out: &mut [u8]) {
    for (state, symbol) in states.iter_mut().zip(out) {
        let entry = entries[(*state & MASK) as usize];
        *symbol = entry as u8;
        let mut x = (entry >> 8 & MASK) * (*state >> BITS) + (entry >> 20);
        if x < LEAST {
            let word = words.get(*at..).and_then(|rest| rest.first_chunk::<2>()).copied().unwrap_or_default();
            x = x << 16 | u32::from(u16::from_le_bytes(word));
            *at += 2;
        }
        *state = x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reciprocals_divide_exactly() {
        for frequency in 1..1u32 << BITS {
            let step = Step::new(frequency, 0);
            let shift = step.packed >> 25;
            for x in [0, 1, frequency - 1, frequency, 40_000, (frequency << 19) - 1, (frequency << 19) - frequency] {
                let quotient = ((u64::from(x) * u64::from(step.reciprocal)) >> 32) as u32 >> shift;
                let next = x + (step.packed >> 12 & 0x1FFF);
                let next = next.wrapping_add(quotient.wrapping_mul((1 << BITS) - frequency));
                if x > 0 {
                    assert_eq!(next, x / frequency * (1 << BITS) + x % frequency, "{x} / {frequency}");
                }
            }
        }
    }
}
