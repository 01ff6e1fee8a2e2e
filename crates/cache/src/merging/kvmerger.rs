//! KVMerger: neighbours with similar keys become one, weighted by a Gaussian.
//!
//! Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks (2024, arXiv 2407.08454).
//!
//! Keys of consecutive tokens are often alike. A merging set is a token that stays (the pivot p) with the tokens around it, up to the
//! next that stays, as long as each key's cosine with the pivot's is at least a threshold. The set becomes one token,
//! `k = Σ g_i·k_i / Σ g_i`, values alike, with `g_i = exp(−‖k_p − k_i‖² / 2σ²)`, `g_p = 1` and σ² the mean squared distance in the set.

use super::{Merged, Merging, Token, average, cosine, dot, token};
use crate::Error;
use crate::options::Options;
use crate::selection::HeadView;
use brevity_kernels::math::double;
use brevity_measure::MethodCard;

/// Gaussian-weighted merging of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvMerger {
    /// Least cosine with the pivot, in percent.
    pub similarity: usize,
}

const CARD: MethodCard = MethodCard {
    name: "kvmerger",
    room: "cache",
    title: "Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks",
    year: 2024,
    arxiv: Some("2407.08454"),
    mechanism: "Dropped tokens whose keys are like that of a neighbour which stays are averaged into it with Gaussian weights.",
    guarantees: &[
        "a token without similar neighbours is unchanged",
        "keys and values stay inside the range of their set",
    ],
    simplifications: &[
        "pivots are the tokens that the selection keeps",
        "sigma is the root mean square distance of the set",
    ],
};

impl KvMerger {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("kvmerger", "similarity (percent)", text)?;
        let similarity = options.number("similarity", 80, (0, 100))?;
        options.done()?;
        Ok(Self { similarity })
    }

    /// Tokens beside the pivot, going away from it, as long as they are alike.
    fn side(&self, head: &HeadView<'_>, pivot: &Token, slots: impl Iterator<Item = usize>) -> Vec<Token> {
        let least = self.similarity as f64 / 100.0;
        slots.map(|slot| token(head, slot)).take_while(|token| cosine(&pivot.key, &token.key) >= least).collect()
    }
}

impl Merging for KvMerger {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("kvmerger:similarity={}", self.similarity)
    }

    fn merge(&self, head: &HeadView<'_>, kept: &[usize]) -> Vec<Merged> {
        let mut all = Vec::new();
        // What a pivot took after it is not taken again by the next one.
        let mut free = 0;
        for (at, &slot) in kept.iter().enumerate() {
            let next = kept.get(at + 1).copied().unwrap_or(head.positions.len());
            let pivot = token(head, slot);
            let before = self.side(head, &pivot, (free..slot).rev());
            let after = self.side(head, &pivot, slot + 1..next);
            free = slot + 1 + after.len();
            let set: Vec<Token> = before.into_iter().chain(after).collect();
            let apart = |token: &Token| {
                dot(&pivot.key, &pivot.key) - 2.0 * dot(&pivot.key, &token.key) + dot(&token.key, &token.key)
            };
            let distances: Vec<f64> = set.iter().map(|token| apart(token).max(0.0)).collect();
            let variance = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
            let weight = |distance: &f64| if variance > 0.0 { double::exp(-distance / (2.0 * variance)) } else { 1.0 };
            if !set.is_empty() {
                let weighted = distances.iter().map(weight).zip(&set);
                all.push(average(at, &[(1.0, &pivot)].into_iter().chain(weighted).collect::<Vec<_>>()));
            }
        }
        all
    }
}
