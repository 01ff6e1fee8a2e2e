//! SAQ: precision that falls with age, step by step.
//!
//! Stairs of precision over the age of tokens: new ones arrive in 8 bits, pass to 4 when `recent` tokens have
//! followed their block, and to `least` bits when `middle` more have. Each is a grid per token behind a block-diagonal Hadamard rotation, as
//! in int4; a block is coded anew from what it holds, where the length is a multiple of 64.

use super::{Coding, Store};
use crate::options::Options;
use crate::{BLOCK, Error};
use brevity_measure::MethodCard;

/// Stairs: 8 bits, 4 bits, few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saq {
    /// Tokens in 8 bits.
    pub recent: usize,
    /// Tokens in 4 bits behind them.
    pub middle: usize,
    /// Bits of the rest.
    pub least: u8,
}

impl Saq {
    pub(crate) const DEFAULT: Saq = Saq { recent: 128, middle: 1024, least: 3 };
}

const CARD: MethodCard = MethodCard {
    name: "saq",
    room: "cache",
    title: "SAQ: a staircase of precision over the age of tokens",
    year: 2025,
    arxiv: None,
    mechanism: "New tokens are held in 8 bits, older ones in 4, the oldest in fewer: blocks step down as tokens follow them.",
    guarantees: &[
        "the newest `recent` tokens are int8, the `middle` before them int4",
        "blocks step down where the length is a multiple of 64, so any chunking gives the same codes",
    ],
    simplifications: &[
        "built from the method's idea, three steps whose lengths are options; not tuned per model",
        "a step codes what the step before had coded, so losses add up",
    ],
};

impl Saq {
    pub(crate) fn read(text: &str) -> Result<Saq, Error> {
        let mut options = Options::read("saq", "recent (tokens), middle (tokens), least (bits: 2, 3, 4)", text)?;
        let recent = options.number("recent", Saq::DEFAULT.recent, (0, 1 << 24))?;
        let middle = options.number("middle", Saq::DEFAULT.middle, (0, 1 << 24))?;
        let least = options.number("least", usize::from(Saq::DEFAULT.least), (2, 4))? as u8;
        options.done()?;
        Ok(Saq { recent: recent.next_multiple_of(BLOCK), middle: middle.next_multiple_of(BLOCK), least })
    }
}

impl Store for Saq {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("saq:recent={},middle={},least={}", self.recent, self.middle, self.least)
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::Token(8), Coding::Token(8))
    }

    fn aged(&self, age: usize) -> (Coding, Coding) {
        let followed = age * BLOCK;
        let bits = match followed {
            _ if followed < self.recent => 8,
            _ if followed < self.recent + self.middle => 4,
            _ => self.least,
        };
        (Coding::Token(bits), Coding::Token(bits))
    }

    fn ages(&self) -> bool {
        true
    }

    fn centres(&self) -> bool {
        true
    }

    fn feeds_back(&self) -> bool {
        true
    }

    fn rotates(&self) -> (bool, bool) {
        (true, true)
    }
}
