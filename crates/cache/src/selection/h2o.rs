//! H2O: the tokens that were attended most.
//!
//! H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models (2023, arXiv 2306.14048).
//!
//! Few tokens receive most of the attention, and go on receiving it. The score of a token is the attention that it has got from
//! every query so far, `Σ_i softmax(q_i·K)_j`, summed over the query heads of its group; recent tokens, which few queries have
//! seen, stay in any case.

use super::{Budget, HeadView, Observes, Selection};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// Heavy hitters and recent tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2o {
    pub budget: Budget,
}

const CARD: MethodCard = MethodCard {
    name: "h2o",
    room: "cache",
    title: "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
    year: 2023,
    arxiv: Some("2306.14048"),
    mechanism: "The tokens with the most attention summed over all queries stay, and the most recent half of the budget.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "sums are whole numbers of 2^-32: no order of queries, chunk or thread changes them",
    ],
    simplifications: &[
        "tokens go at the prompt's end and every 64 positions, not at every step",
        "one choice for the query heads that share keys",
    ],
};

impl H2o {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("h2o", "budget, sinks, recent (tokens)", text)?;
        let budget = Budget::read("h2o", &mut options, 0, 2)?;
        options.done()?;
        Ok(Self { budget })
    }
}

impl Selection for H2o {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        let sinks = if sinks == 0 { String::new() } else { format!(",sinks={sinks}") };
        format!("h2o:budget={tokens}{sinks},recent={recent}")
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn observes(&self) -> Observes {
        Observes { attention: true, queries: 0 }
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        head.attention.iter().map(|&sum| sum as f64).collect()
    }
}
