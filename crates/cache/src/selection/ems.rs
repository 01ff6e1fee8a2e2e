//! EMS: a score of the whole past and of the latest queries; evict, then merge.
//!
//! EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance (2024,
//! arXiv 2412.08521).
//!
//! Attention summed over all queries favours what was important once, that of the latest queries what is important now. The score is
//! the greater of the two shares, `max(A_j / Σ A, W_j / Σ W)`: a token stays for either. Of what goes, a token whose key is close to one that
//! stays is merged into it; the others fall into a class of zeros: they are dropped.

use super::{Amount, Budget, HeadView, Observes, Selection};
use crate::Error;
use crate::merging::{Merging, Nearest};
use crate::options::Options;
use brevity_measure::MethodCard;
use std::sync::Arc;

/// Global and local importance, and merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ems {
    pub budget: Budget,
    /// Latest queries.
    pub window: usize,
    /// Least cosine of keys that are merged, in percent.
    pub similarity: usize,
}

const CARD: MethodCard = MethodCard {
    name: "ems",
    room: "cache",
    title: "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance",
    year: 2024,
    arxiv: Some("2412.08521"),
    mechanism: "Tokens stay for the attention of all queries or of the latest; what goes is merged into the nearest key that stays, or dropped where none is near.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "what is near no key that stays changes nothing",
    ],
    simplifications: &[
        "the score is the greater share of the two sums",
        "every head has the same budget",
        "a merged token weighs as much as its cosine beside the one that stays",
    ],
};

impl Ems {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("ems", "budget, window, sinks (tokens), similarity (percent)", text)?;
        let tokens = options.amount("budget", Budget::TOKENS, 1)?;
        let window = options.number("window", 32, (1, 1024))?;
        let sinks = options.number("sinks", 0, (0, 1 << 24))?;
        let similarity = options.number("similarity", 90, (0, 100))?;
        options.done()?;
        let budget = Budget { tokens, sinks, recent: Amount::Tokens(window) }.checked("ems")?;
        Ok(Self { budget, window, similarity })
    }
}

impl Selection for Ems {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        format!("ems:budget={tokens},window={recent},sinks={sinks},similarity={}", self.similarity)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn observes(&self) -> Observes {
        Observes { attention: true, queries: self.window }
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let shares = |sums: &[u64]| -> Vec<f64> {
            let all = sums.iter().sum::<u64>().max(1) as f64;
            sums.iter().map(|&sum| sum as f64 / all).collect()
        };
        let (global, local) = (shares(head.attention), shares(head.observed));
        global.into_iter().zip(local).map(|(a, w)| a.max(w)).collect()
    }

    fn merging(&self) -> Option<Arc<dyn Merging>> {
        Some(Arc::new(Nearest { card: &CARD, similarity: self.similarity }))
    }
}
