//! CSKV: old tokens keep the channels that matter, the newest keep all.
//!
//! CSKV: Training-Efficient Channel Shrinking for KV Cache in Long-Context Scenarios (2024, arXiv 2409.10593).
//!
//! Keys of a head, n × d, have few directions that matter. With `K ≈ (K·Uᵀ)·U`, where U (r × d) holds the first r right singular vectors
//! of K, a token is r numbers. They come in closed form from what the prompt left: eigenvectors of `KᵀK`, and of `VᵀV` for values, head by head.
//! All keys are held turned, `k' = U·k` with the whole orthogonal U, and queries are turned alike, `⟨Uq, Uk⟩ = ⟨q, k⟩`; the output is turned back.
//! Then a token is shrunk by leaving its last channels away, and attention runs on what is left of it: nothing is inflated.
//!
//! Two branches: blocks that `window` tokens have followed hold the first channels, the newest hold all, both in f16.
//!
//! Bytes a token and head: `2·(r_k + r_v)`; U and V of a head take `8·d²`.

use super::{Coding, Form, Store};
use crate::options::Options;
use crate::{BLOCK, Error};
use brevity_measure::MethodCard;

/// Few channels for old tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cskv {
    /// Percent of a key's channels that old tokens keep.
    pub keys: usize,
    /// Percent of a value's.
    pub values: usize,
    /// Tokens that must follow a block before it is shrunk, a multiple of 64.
    pub window: usize,
}

const CARD: MethodCard = MethodCard {
    name: "cskv",
    room: "cache",
    title: "CSKV: Training-Efficient Channel Shrinking for KV Cache in Long-Context Scenarios",
    year: 2024,
    arxiv: Some("2409.10593"),
    mechanism: "Keys and values are turned to the principal axes that the prompt left, head by head; old tokens keep the first of them, the newest all; attention runs on what is kept.",
    guarantees: &[
        "with all channels it is the f16 cache up to rounding",
        "of all projections of so many channels the one with the least squared error over the prompt",
        "blocks shrink at the prompt's end and where the length is a multiple of 64, so any chunking gives the same numbers",
    ],
    simplifications: &[
        "axes are the prompt's own singular vectors, in closed form; nothing is trained, and no other text is asked",
        "each head has its own axes, of keys as rope turned them (the paper shrinks a layer's heads together, before rope)",
        "channels are kept in sixteens",
    ],
};

impl Cskv {
    pub(crate) fn read(text: &str) -> Result<Cskv, Error> {
        let mut options = Options::read("cskv", "keys, values (percent of channels), window (tokens)", text)?;
        let keys = options.number("keys", 50, (1, 100))?;
        let values = options.number("values", 50, (1, 100))?;
        let window = options.number("window", 32, (0, 1 << 20))?;
        options.done()?;
        Ok(Cskv { keys, values, window: window.next_multiple_of(BLOCK) })
    }
}

impl Store for Cskv {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("cskv:keys={},values={},window={}", self.keys, self.values, self.window)
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::F16, Coding::F16)
    }

    fn forms(&self, age: usize, dim: usize) -> (Form, Form) {
        let form = |share: usize| match age * BLOCK >= self.window {
            true => Form { channels: (dim * share).div_ceil(100).next_multiple_of(16), ..Coding::F16.into() },
            false => Coding::F16.into(),
        };
        (form(self.keys), form(self.values))
    }

    fn ages(&self) -> bool {
        true
    }

    fn turns(&self) -> bool {
        true
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }
}
