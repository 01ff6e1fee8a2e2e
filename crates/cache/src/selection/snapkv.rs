//! SnapKV: the tokens that the end of the prompt looks at.
//!
//! SnapKV: LLM Knows What You are Looking for Before Generation (2024, arXiv 2404.14469).
//!
//! The last `window` queries of the prompt show what will be attended: the score of a token is the attention that they give
//! it, summed over them and the query heads of the group, then smoothed by the greatest (max pooling) over `pool` neighbours, so that
//! what stands around a hit stays with it. The window itself stays.

use super::{Amount, Budget, HeadView, Observes, Selection};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// An observation window at the end of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapKv {
    pub budget: Budget,
    /// Queries at the end that choose.
    pub window: usize,
    /// Neighbours over which scores are pooled; odd.
    pub pool: usize,
}

const CARD: MethodCard = MethodCard {
    name: "snapkv",
    room: "cache",
    title: "SnapKV: LLM Knows What You are Looking for Before Generation",
    year: 2024,
    arxiv: Some("2404.14469"),
    mechanism: "The attention of the last queries, pooled over neighbours, chooses the tokens that stay beside those queries' own.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "needs the prompt's end, and says so",
    ],
    simplifications: &[
        "while generating it chooses again every 64 positions, by the queries of the last `window` positions",
        "one choice for the query heads that share keys",
    ],
};

impl SnapKv {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("snapkv", "budget, window (tokens), sinks, pool (neighbours)", text)?;
        let tokens = options.amount("budget", Budget::TOKENS, 1)?;
        let window = options.number("window", 32, (1, 1024))?;
        let sinks = options.number("sinks", 0, (0, 1 << 24))?;
        let pool = options.number("pool", 7, (1, 63))? | 1;
        options.done()?;
        let budget = Budget { tokens, sinks, recent: Amount::Tokens(window) };
        Ok(Self { budget: budget.checked("snapkv")?, window, pool })
    }
}

impl Selection for SnapKv {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        let sinks = if sinks == 0 { String::new() } else { format!(",sinks={sinks}") };
        format!("snapkv:budget={tokens},window={recent}{sinks},pool={}", self.pool)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn observes(&self) -> Observes {
        Observes { attention: false, queries: self.window }
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let (sums, half) = (head.observed, self.pool / 2);
        let around = |slot: usize| &sums[slot.saturating_sub(half)..(slot + half + 1).min(sums.len())];
        (0..sums.len()).map(|slot| around(slot).iter().copied().max().unwrap_or(0) as f64).collect()
    }
}
