//! Range coding, first in first out.
//!
//! After G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message" (1979),
//! with the carry propagated into the bytes already written.
//!
//! The encoder holds an interval `[low, low + range)` of 64-bit numbers; a symbol with `[start, start + size)` of a
//! total `2^bits` narrows it to
//!
//! `r = range >> bits`, `low += r · start`, `range = r · size` (the last symbol of the total takes `range − r ·
//! start`, so that no part of the range is lost).
//!
//! Whenever `range < 2⁴⁸`, the top 16 bits of `low` are written and both are shifted. So `r ≥ 2²⁴` for totals up to
//! 2²⁴: rounding moves no probability by more than a factor `1 ± 2⁻²⁴`, and costs nothing that could be measured. A
//! sum that passes 2⁶⁴ carries into the bytes written.
//!
//! # The end
//! The shortest number in the interval is written: 0 to 2 bytes, the rest of it being zeros, which the decoder
//! supplies. After as many symbols as were encoded it has read 6 to 8 bytes beyond the end; [`Decoder::finish`]
//! refuses any other number: a stream that is cut off by more than two bytes, decoded too far, or followed by
//! others. A cut of one or two bytes may decode to other symbols without notice; checksums are for the format
//! around.
//!
//! # Stability
//! The bytes that a sequence of calls gives are part of archive formats and do not change; a stored stream is tested.

mod coder;
mod decoder;
mod encoder;

pub use coder::{Coder, Direction};
pub use decoder::Decoder;
pub use encoder::Encoder;

use crate::error::Error;

/// The range stays at or above this after every symbol.
const LEAST_RANGE: u64 = 1 << 48;

/// Largest total, as a power of two.
pub const MAX_BITS: u32 = 24;

/// A part of a total of `2^bits` that stands for a symbol: never empty, never outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    start: u32,
    size: u32,
    bits: u32,
}

impl Interval {
    /// `[start, start + size)` of `2^bits`.
    ///
    /// # Errors
    /// [`Error::Interval`] for an empty one, one that leaves the total, or a total that is not 2¹ to 2²⁴.
    pub const fn new(start: u32, size: u32, bits: u32) -> Result<Self, Error> {
        if bits == 0 || bits > MAX_BITS || size == 0 || start >= 1 << bits || size > (1 << bits) - start {
            return Err(Error::Interval { start, size, bits });
        }
        Ok(Self { start, size, bits })
    }

    /// Where it starts.
    pub const fn start(&self) -> u32 {
        self.start
    }

    /// How much of the total it takes.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// log₂ of the total.
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// True if it is the last of the total.
    const fn is_last(&self) -> bool {
        self.start + self.size == 1 << self.bits
    }

    /// Bits that it costs: `−log₂(size / 2^bits)`.
    pub fn cost(&self) -> f64 {
        f64::from(self.bits) - f64::from(self.size).log2()
    }
}

/// Probability of `true` in units of 2⁻¹⁶, held to 1 … 65,535 so that both values stay possible.
#[inline(always)]
fn share(probability: u32) -> u64 {
    probability.clamp(1, 65_535) as u64
}
