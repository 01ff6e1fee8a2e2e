//! MiKV: what others would evict stays, in fewer bits.
//!
//! No Token Left Behind: Reliable KV Cache Compression via Importance-Aware Mixed Precision Quantization (2024,
//! arXiv 2402.18096).
//!
//! Evicted tokens are missed: their context is lost, and answers break off. So importance (the attention that a token has got
//! from all queries, as in H2O) decides precision instead of existence: important tokens keep 8 bits, all others stay with 2. Keys lose
//! the mean of the first 64 before they are rounded, as in int4.
//!
//! Bytes a token and head of d values: `d·bits/8 + 3`, twice.

use super::{Coding, Store, Tiers};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// Precision by importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mikv {
    tiers: Tiers,
}

const CARD: MethodCard = MethodCard {
    name: "mikv",
    room: "cache",
    title: "No Token Left Behind: Reliable KV Cache Compression via Importance-Aware Mixed Precision Quantization",
    year: 2024,
    arxiv: Some("2402.18096"),
    mechanism: "No token goes: those with the most attention so far keep many bits, the others few.",
    guarantees: &[
        "every token stays",
        "the newest 64 tokens keep the higher precision",
        "tokens fall at the prompt's end, so any chunking gives the same codes",
    ],
    simplifications: &[
        "no balancer of channels between keys and queries: keys lose their mean",
        "a token that falls is coded anew from its higher precision; what comes after the prompt falls only where a selection drops tokens, which lets importance decide anew",
        "a group of a token's codes is a head",
    ],
};

impl Mikv {
    pub(crate) fn read(text: &str) -> Result<Mikv, Error> {
        let mut options = Options::read("mikv", "high (bits), low (bits), share (percent)", text)?;
        let tiers = Tiers {
            high: options.bits("high", 8)?,
            low: options.bits("low", 2)?,
            share: options.number("share", 25, (0, 100))?,
            normalised: false,
            separable: false,
        };
        options.done()?;
        Ok(Mikv { tiers })
    }
}

impl Store for Mikv {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Tiers { high, low, share, .. } = self.tiers;
        format!("mikv:high={high},low={low},share={share}")
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::Token(self.tiers.high), Coding::Token(self.tiers.high))
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }

    fn centres(&self) -> bool {
        true
    }

    fn feeds_back(&self) -> bool {
        true
    }

    fn tiers(&self) -> Option<Tiers> {
        Some(self.tiers)
    }
}
