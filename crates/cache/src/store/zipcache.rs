//! ZipCache: salient tokens found by normalised attention; channels apart from tokens.
//!
//! ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification (2024, arXiv 2405.14256).
//!
//! - *Saliency.* Attention summed over all queries favours early tokens, which more queries could see. Divided by their number,
//!   `p_j = Σ_i A_ij / #{i ≥ j}`, it is a fair mean. The `share` of tokens with the most keep more bits.
//! - *Channel-separable tokenwise rounding.* Every channel is divided by `c_d = √(max_j |x_jd|)` over the prompt, then each token is rounded on a
//!   grid of its own: outlier channels no longer rule the grid, for one number a channel. The factors of keys go into queries, those of
//!   values into the output.
//!
//! Bytes a token and head of d values: `d·bits/8 + 3`, twice; while the prompt is read tokens are f16.

use super::{Coding, Store, Tiers};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// Precision by normalised attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZipCache {
    tiers: Tiers,
}

const CARD: MethodCard = MethodCard {
    name: "zipcache",
    room: "cache",
    title: "ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification",
    year: 2024,
    arxiv: Some("2405.14256"),
    mechanism: "Channels are divided by the root of their largest number, tokens rounded on grids of their own; tokens with the most attention per query that saw them keep more bits.",
    guarantees: &[
        "every token stays",
        "the newest 64 tokens keep the higher precision",
        "tokens fall at the prompt's end, so any chunking gives the same codes",
    ],
    simplifications: &[
        "attention is summed over all queries in the fused kernel, so no probe tokens are needed",
        "tokens that come after the prompt use its channel factors and keep the higher precision, unless a selection drops tokens, which lets importance decide anew",
    ],
};

impl ZipCache {
    pub(crate) fn read(text: &str) -> Result<ZipCache, Error> {
        let mut options = Options::read("zipcache", "high (bits), low (bits), share (percent)", text)?;
        let tiers = Tiers {
            high: options.bits("high", 4)?,
            low: options.bits("low", 2)?,
            share: options.number("share", 60, (0, 100))?,
            normalised: true,
            separable: true,
        };
        options.done()?;
        Ok(ZipCache { tiers })
    }
}

impl Store for ZipCache {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Tiers { high, low, share, .. } = self.tiers;
        format!("zipcache:high={high},low={low},share={share}")
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::F16, Coding::F16)
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }

    fn tiers(&self) -> Option<Tiers> {
        Some(self.tiers)
    }
}
