//! Sinks and a sliding window: the baseline.
//!
//! Efficient Streaming Language Models with Attention Sinks (2023, arXiv 2309.17453).
//!
//! The first tokens draw attention whatever they say, and the last ones are what is being said: both stay, the rest goes. The score
//! of a token is its position.

use super::{Amount, Budget, HeadView, Selection};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// The first tokens and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub budget: Budget,
}

const CARD: MethodCard = MethodCard {
    name: "window",
    room: "cache",
    title: "Efficient Streaming Language Models with Attention Sinks",
    year: 2023,
    arxiv: Some("2309.17453"),
    mechanism: "The first tokens (sinks) and the most recent ones stay; the baseline of every selection.",
    guarantees: &["with a budget of the whole text it is the full cache, bit for bit"],
    simplifications: &["tokens keep their positions; the paper numbers what is in the cache anew"],
};

impl Window {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("window", "budget, sinks (tokens)", text)?;
        let tokens = options.amount("budget", Budget::TOKENS, 1)?;
        let sinks = options.number("sinks", 4, (0, 1 << 24))?;
        options.done()?;
        Ok(Self { budget: Budget { tokens, sinks, recent: Amount::Tokens(0) }.checked("window")? })
    }
}

impl Selection for Window {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("window:budget={},sinks={}", self.budget.tokens, self.budget.sinks)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        head.positions.iter().map(|&position| position as f64).collect()
    }
}
