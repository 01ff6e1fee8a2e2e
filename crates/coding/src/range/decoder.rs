use super::{Interval, LEAST_RANGE, share};
use crate::error::Error;

/// Decodes what an [`Encoder`](super::Encoder) made of the same probabilities. Any bytes decode to something;
/// beyond the end there are zeros.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Bytes read, those beyond the end included.
    position: usize,
    /// The number that the stream stands for, less the low end of the interval.
    code: u64,
    range: u64,
}

/// Bytes that a decoder has read beyond the end of a complete stream.
const OVERRUN: std::ops::RangeInclusive<usize> = 6..=8;

impl<'a> Decoder<'a> {
    /// Starts to decode.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, position: 0, code: 0, range: u64::MAX };
        for _ in 0..4 {
            decoder.code = decoder.code << 16 | decoder.next();
        }
        decoder
    }

    /// Decodes a bit that is `true` with probability `probability / 65,536`, as it was encoded.
    #[inline]
    pub fn decode_bit(&mut self, probability: u32) -> bool {
        let bound = (self.range >> 16) * share(probability);
        let bit = self.code < bound;
        if bit {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        self.normalise();
        bit
    }

    /// [`Decoder::decode_bit`] without a branch on the bit: slower where the bit can be foretold, as what depends on it then waits.
    #[inline]
    pub fn decode_open_bit(&mut self, probability: u32) -> bool {
        let bound = (self.range >> 16) * share(probability);
        let bit = self.code < bound;
        let one = u64::from(bit).wrapping_neg();
        self.code -= bound & !one;
        self.range = bound & one | (self.range - bound) & !one;
        self.normalise();
        bit
    }

    /// Where in a total of `2^bits` (1 to 24) the next symbol lies: inside its interval. Nothing is taken yet;
    /// [`Decoder::take`] the interval that holds it.
    #[inline]
    pub fn peek(&self, bits: u32) -> u32 {
        let bits = bits.clamp(1, super::MAX_BITS);
        (self.code / (self.range >> bits)).min((1 << bits) - 1) as u32
    }

    /// Takes the symbol whose interval holds what [`Decoder::peek`] said. With another interval, what follows is
    /// arbitrary.
    #[inline]
    pub fn take(&mut self, interval: Interval) {
        let r = self.range >> interval.bits;
        let start = r * u64::from(interval.start);
        self.code = self.code.wrapping_sub(start);
        self.range = if interval.is_last() { self.range - start } else { r * u64::from(interval.size) };
        self.normalise();
    }

    /// Decodes `count` raw bits, at most 64.
    pub fn decode_raw(&mut self, count: u32) -> u64 {
        let mut left = count.min(64);
        let mut value = 0;
        while left > 0 {
            let bits = left.min(16);
            left -= bits;
            let r = self.range >> bits;
            let digit = (self.code / r).min((1 << bits) - 1);
            self.code -= r * digit;
            self.range = if digit == (1 << bits) - 1 { self.range - r * digit } else { r };
            self.normalise();
            value = value << bits | digit;
        }
        value
    }

    /// Bytes decoded beyond the end so far, less what a complete stream needs: above 0 the stream is certainly cut
    /// off, and what is decoded from here on stems from zeros.
    pub fn overrun(&self) -> usize {
        self.position.saturating_sub(self.bytes.len() + OVERRUN.end())
    }

    /// To be called after the last symbol: checks that the stream ends here.
    ///
    /// # Errors
    /// [`Error::Truncated`] if more was decoded than the bytes can hold, [`Error::Trailing`] if bytes are left over.
    pub fn finish(self) -> Result<(), Error> {
        let length = self.bytes.len();
        if self.overrun() > 0 {
            return Err(Error::Truncated { length, missing: self.overrun() });
        }
        let used = self.position - OVERRUN.start();
        if used < length {
            return Err(Error::Trailing { length, used });
        }
        Ok(())
    }

    #[inline(always)]
    fn next(&mut self) -> u64 {
        let pair = match self.bytes.get(self.position..self.position + 2) {
            Some(pair) => u64::from(pair[0]) << 8 | u64::from(pair[1]),
            None => self.bytes.get(self.position).map_or(0, |&byte| u64::from(byte) << 8),
        };
        self.position += 2;
        pair
    }

    #[inline(always)]
    fn normalise(&mut self) {
        while self.range < LEAST_RANGE {
            self.code = self.code << 16 | self.next();
            self.range <<= 16;
        }
    }
}
