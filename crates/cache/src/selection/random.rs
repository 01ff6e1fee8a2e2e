//! Random tokens: the baseline that a score must beat.
//!
//! Sinks and a window of recent tokens stay as in every selection; the rest of the budget is drawn by a hash of layer, head and
//! position, so the draw is the same on every machine and a token once kept stays likely to be kept.

use super::{Budget, HeadView, Selection};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;

/// Tokens drawn by lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    pub budget: Budget,
    pub seed: u64,
}

const CARD: MethodCard = MethodCard {
    name: "random",
    room: "cache",
    title: "Random selection (baseline)",
    year: 2026,
    arxiv: None,
    mechanism: "Sinks and recent tokens stay, the rest of the budget is drawn by a hash of layer, head and position.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "the same seed draws the same tokens on every machine",
    ],
    simplifications: &[],
};

impl Random {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("random", "budget, sinks, recent (tokens), seed", text)?;
        let budget = Budget::read("random", &mut options, 4, 2)?;
        let seed = options.number("seed", 0, (0, usize::MAX))? as u64;
        options.done()?;
        Ok(Self { budget, seed })
    }
}

impl Selection for Random {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        format!("random:budget={tokens},sinks={sinks},recent={recent},seed={}", self.seed)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let place = mixed(self.seed ^ (head.layer as u64) << 40 ^ (head.head as u64) << 20);
        head.positions.iter().map(|&position| (mixed(place ^ position as u64) >> 11) as f64).collect()
    }
}

/// A number in which every bit depends on every bit of `x`.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
