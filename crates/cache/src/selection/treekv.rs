//! TreeKV: dense near, sparse far, by evicting in turn.
//!
//! TreeKV: Smooth Key-Value Cache Compression with Tree Structures (2025, arXiv 2501.04987).
//!
//! A cache of fixed size drops one token for each that comes: a pointer goes through the slots in cycles, and of the two
//! tokens where it stands, neighbours in the cache, the one with less attention goes. A token is thus weighed once a cycle against a
//! neighbour, so that what is left grows sparser with age step by step, as the leaves of a tree do, and nowhere breaks off.

use super::{Budget, HeadView, Observes, Selection};
use crate::Error;
use crate::options::Options;
use brevity_measure::MethodCard;
use std::ops::Range;

/// Neighbours compete in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeKv {
    pub budget: Budget,
}

const CARD: MethodCard = MethodCard {
    name: "treekv",
    room: "cache",
    title: "TreeKV: Smooth Key-Value Cache Compression with Tree Structures",
    year: 2025,
    arxiv: Some("2501.04987"),
    mechanism: "A pointer cycles through the cache; of the two neighbours where it stands, the one with less attention goes.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "no more than two neighbours compete for a place",
    ],
    simplifications: &[
        "a token's attention is its average over the queries that saw it",
        "evictions of 64 positions (or of the prompt) are done at once, as if tokens had come one by one; the pointer starts anew then",
    ],
};

impl TreeKv {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("treekv", "budget, sinks, recent (tokens)", text)?;
        let budget = Budget::read("treekv", &mut options, 4, 8)?;
        options.done()?;
        Ok(Self { budget })
    }
}

impl Selection for TreeKv {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        format!("treekv:budget={tokens},sinks={sinks},recent={recent}")
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn observes(&self) -> Observes {
        Observes { attention: true, queries: 0 }
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let end = head.positions.last().map_or(0, |last| last + 1);
        let seen_by = |position: &usize| (end - position) as f64;
        head.attention.iter().zip(head.positions).map(|(&sum, position)| sum as f64 / seen_by(position)).collect()
    }

    /// Tokens come one by one into a window of `many` places; when it is full, the pointer's pair loses one.
    fn choose(&self, head: &HeadView<'_>, middle: Range<usize>, many: usize) -> Vec<usize> {
        let scores = self.score(head);
        let mut held: Vec<usize> = Vec::with_capacity(many + 1);
        let mut pointer = 0;
        for slot in middle {
            held.push(slot);
            if held.len() <= many {
                continue;
            }
            if pointer + 1 >= held.len() {
                pointer = 0;
            }
            let right = held.get(pointer + 1).is_some_and(|&right| scores[right] < scores[held[pointer]]);
            held.remove(pointer + usize::from(right));
            pointer += 1;
        }
        held
    }
}
