//! RazorAttention: heads that retrieve keep everything, the others what is near, and one token for all the rest.
//!
//! RazorAttention: Efficient KV Cache Compression Through Retrieval Heads (2024, arXiv 2407.15891).
//!
//! Few heads look for something far back: *echo* heads at earlier places of the same token, *induction* heads at what came after it. They
//! are found without data by running the model on tokens drawn by lot and repeated (the module `probe`), and keep all tokens. Every
//! other head keeps sinks and a window, and of the N tokens that go one compensation token stays: their mean key and value, weighed by
//! N in the softmax,
//!
//! `o = (Σ_near e^{q·k}·v + N·e^{q·k̂}·v̂) / (Σ_near e^{q·k} + N·e^{q·k̂})`, `k̂ = Σ k / N`, `v̂ = Σ v / N`.
//!
//! The weight is a number beside the token's score, `ln N`.

use super::probe::{HeadScores, probe};
use super::{Amount, Budget, HeadView, Selection};
use crate::Error;
use crate::merging::{Compensation, Merging};
use crate::options::Options;
use brevity_measure::MethodCard;
use brevity_model::forward::Model;
use std::ops::Range;
use std::sync::Arc;

/// Retrieval heads and the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Razor {
    /// Of heads that do not retrieve.
    pub budget: Budget,
    /// Percent of the heads that are kept for induction, and for echo.
    pub shares: (usize, usize),
    /// By layer and key-value head: whether it retrieves. Empty until the model was seen.
    retrieves: Vec<Vec<bool>>,
}

const CARD: MethodCard = MethodCard {
    name: "razor",
    room: "cache",
    title: "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads",
    year: 2024,
    arxiv: Some("2407.15891"),
    mechanism: "Heads that attend to earlier places of a repeated text keep every token; the others keep sinks, a window, and one token with the mean of all that go, weighed by their number.",
    guarantees: &[
        "where all heads retrieve, or with a budget of the whole text, it is the full cache, bit for bit",
        "where all dropped tokens have the same key, the output is that of the full cache up to rounding",
        "the budget includes the compensation token; retrieval heads are not bound by it",
    ],
    simplifications: &[
        "heads are those that keys have: one counts as much as the best of its query heads",
        "the probe repeats 256 tokens four times (the paper: 2500)",
        "what a store has rounded is averaged as it is; the mean is over keys as rope turned them",
    ],
};

impl Razor {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("razor", "budget, sinks (tokens), induction, echo (percent of heads)", text)?;
        let tokens = options.amount("budget", Amount::Share(2000), 1)?;
        let sinks = options.number("sinks", 4, (0, 1 << 24))?;
        let shares = (options.number("induction", 14, (0, 100))?, options.number("echo", 1, (0, 100))?);
        options.done()?;
        let budget = Budget { tokens, sinks, recent: Amount::Tokens(0) }.checked("razor")?;
        Ok(Self { budget, shares, retrieves: Vec::new() })
    }

    /// The same with the heads that retrieve, by what their query heads scored.
    pub fn with_scores(&self, scores: &HeadScores, kv_heads: usize) -> Razor {
        let layers = scores.echo.len();
        let mut retrieves = vec![vec![false; kv_heads]; layers];
        for (all, share) in [(&scores.induction, self.shares.0), (&scores.echo, self.shares.1)] {
            let best = |layer: usize, head: usize| {
                let group = all[layer].len() / kv_heads.max(1);
                all[layer][head * group..][..group].iter().copied().fold(0.0, f64::max)
            };
            let mut order: Vec<(usize, usize)> =
                (0..layers).flat_map(|layer| (0..kv_heads).map(move |head| (layer, head))).collect();
            order.sort_by(|a, b| best(b.0, b.1).total_cmp(&best(a.0, a.1)).then(a.cmp(b)));
            let many = (order.len() * share).div_ceil(100);
            order.iter().take(many).for_each(|&(layer, head)| retrieves[layer][head] = true);
        }
        Razor { retrieves, ..self.clone() }
    }
}

impl Selection for Razor {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let (Budget { tokens, sinks, .. }, (induction, echo)) = (self.budget, self.shares);
        format!("razor:budget={tokens},sinks={sinks},induction={induction},echo={echo}")
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn learnt(&self, model: &Model) -> brevity_model::error::Result<Option<Arc<dyn Selection>>> {
        let scores = probe(model)?;
        Ok(Some(Arc::new(self.with_scores(&scores, model.config().attention.kv_heads))))
    }

    fn must_learn(&self) -> bool {
        self.retrieves.is_empty()
    }

    fn keeps_all(&self, layer: usize, head: usize) -> bool {
        self.retrieves.get(layer).and_then(|heads| heads.get(head)).copied().unwrap_or(false)
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        head.positions.iter().map(|&position| position as f64).collect()
    }

    /// The latest: the first of them becomes what stands for all before it.
    fn choose(&self, _: &HeadView<'_>, middle: Range<usize>, many: usize) -> Vec<usize> {
        (middle.end - many.min(middle.len())..middle.end).collect()
    }

    fn merging(&self) -> Option<Arc<dyn Merging>> {
        Some(Arc::new(Compensation { card: &CARD, at: self.budget.sinks }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_chosen_by_the_best_of_their_group() {
        let razor = Razor::read("induction=50,echo=25").unwrap();
        let scores = HeadScores {
            echo: vec![vec![0.0, 0.0, 0.0, 0.0], vec![0.0, 0.1, 0.0, 0.9]],
            induction: vec![vec![0.1, 0.8, 0.0, 0.2], vec![0.0, 0.9, 0.3, 0.0]],
        };
        let learnt = razor.with_scores(&scores, 2);
        assert!(razor.must_learn() && !learnt.must_learn());
        assert_eq!(learnt.retrieves, [[true, false], [true, true]]);
        assert_eq!(learnt.text(), razor.text());
    }
}
