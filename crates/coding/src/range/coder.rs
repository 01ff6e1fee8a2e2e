//! One description of a model for both directions.

use super::{Decoder, Encoder};

/// Codes bits; a model written over it encodes and decodes with the same steps.
pub trait Coder {
    /// Codes a bit that is 1 with probability `probability / 65,536`, and returns it. A decoder ignores the one that it
    /// is given.
    fn code(&mut self, bit: u32, probability: u32) -> u32;

    /// The same, quicker for bits that are hard to foretell: no branch depends on them.
    #[inline(always)]
    fn code_open(&mut self, bit: u32, probability: u32) -> u32 {
        self.code(bit, probability)
    }
}

impl Coder for Encoder {
    #[inline(always)]
    fn code(&mut self, bit: u32, probability: u32) -> u32 {
        self.encode_bit(bit != 0, probability);
        bit
    }
}

impl Coder for Decoder<'_> {
    #[inline(always)]
    fn code(&mut self, _: u32, probability: u32) -> u32 {
        u32::from(self.decode_bit(probability))
    }

    #[inline(always)]
    fn code_open(&mut self, _: u32, probability: u32) -> u32 {
        u32::from(self.decode_open_bit(probability))
    }
}

/// Either direction as one type: for models that are too large to be compiled for each.
#[derive(Debug, Clone)]
pub enum Direction<'a> {
    /// Bits become bytes.
    Encode(Encoder),
    /// Bytes become bits.
    Decode(Decoder<'a>),
}

impl Direction<'_> {
    /// The stream, where it was encoded; nothing where it was decoded.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Encode(encoder) => encoder.finish(),
            Self::Decode(_) => Vec::new(),
        }
    }
}

impl Coder for Direction<'_> {
    #[inline(always)]
    fn code(&mut self, bit: u32, probability: u32) -> u32 {
        match self {
            Self::Encode(encoder) => encoder.code(bit, probability),
            Self::Decode(decoder) => decoder.code(bit, probability),
        }
    }
}
