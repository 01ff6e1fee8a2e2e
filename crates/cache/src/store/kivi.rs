//! KIVI: keys per channel, values per token, the newest in full.
//!
//! KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache (2024, arXiv 2402.02750).
//!
//! Keys have channels that are large in every token, values have not. So a block of 64 tokens' keys gets a grid per channel,
//! `k[j][d] ≈ s[d]·c[j][d] + m[d]`, and values one per token. A grid per channel needs the whole block, and the newest tokens
//! matter most: the newest blocks stay in f16 until `residual` tokens have followed them.
//!
//! Bytes a token and head of d values, old blocks: keys `d·bits/8 + d/16`, values `d·bits/8 + 3`.

use super::{Coding, Store};
use crate::options::Options;
use crate::{BLOCK, Error};
use brevity_measure::MethodCard;

/// Grids of keys by channel and of values by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kivi {
    /// Bits of a code.
    pub bits: u8,
    /// Tokens that must follow a block before it is coded, a multiple of 64.
    pub residual: usize,
}

const CARD: MethodCard = MethodCard {
    name: "kivi",
    room: "cache",
    title: "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
    year: 2024,
    arxiv: Some("2402.02750"),
    mechanism: "Keys are rounded on a grid per channel of 64 tokens, values on a grid per token; the newest tokens stay in f16.",
    guarantees: &[
        "the newest `residual` tokens are f16",
        "a key is off by at most half its channel's scale, a value as in int2 to int8",
        "blocks are coded where the length is a multiple of 64, so any chunking gives the same codes",
    ],
    simplifications: &[
        "groups are the blocks of 64 tokens (32 in the paper), values have one group a head",
        "zero points of values have 8 bits",
    ],
};

impl Kivi {
    pub(crate) const DEFAULT: Kivi = Kivi { bits: 2, residual: BLOCK };

    pub(crate) fn read(text: &str) -> Result<Kivi, Error> {
        let mut options = Options::read("kivi", "bits (2, 3, 4, 8), residual (tokens)", text)?;
        let bits = options.bits("bits", Kivi::DEFAULT.bits)?;
        let residual = options.number("residual", Kivi::DEFAULT.residual, (0, 1 << 20))?;
        options.done()?;
        Ok(Kivi { bits, residual: residual.next_multiple_of(BLOCK) })
    }
}

impl Store for Kivi {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("kivi:bits={},residual={}", self.bits, self.residual)
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::F16, Coding::F16)
    }

    fn aged(&self, age: usize) -> (Coding, Coding) {
        match age * BLOCK >= self.residual {
            true => (Coding::Channel(self.bits), Coding::Token(self.bits)),
            false => self.fresh(),
        }
    }

    fn ages(&self) -> bool {
        true
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }
}
