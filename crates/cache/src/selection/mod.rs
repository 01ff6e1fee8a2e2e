//! Which tokens of a head stay.
//!
//! A method is a score per token: [`Selection::score`]. What all have in common is done once, for all of them: the first tokens
//! (sinks) and the most recent ones stay in any case, and those with the highest scores fill the budget. Each key-value head
//! chooses for itself. It happens at the end of the prompt and then wherever the length is a multiple of 64, so a head never holds
//! more than the budget and 63 tokens while it generates.

mod compresskv;
mod ems;
mod expected;
mod h2o;
mod probe;
mod random;
mod razor;
mod snapkv;
mod treekv;
mod window;

pub use compresskv::CompressKv;
pub use ems::Ems;
pub use expected::ExpectedAttention;
pub use h2o::H2o;
pub use probe::{HeadScores, probe};
pub use random::Random;
pub use razor::Razor;
pub use snapkv::SnapKv;
pub use treekv::TreeKv;
pub use window::Window;

pub use crate::options::Amount;
use crate::options::Options;
use crate::{Error, Merging};
use brevity_kernels::attention::packed::PackedHead;
use brevity_measure::MethodCard;
use brevity_model::forward::Model;
use std::ops::Range;
use std::sync::Arc;

/// What a selection must have seen of a head's queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observes {
    /// The attention that each token got from every query, summed.
    pub attention: bool,
    /// The queries of the last so many positions.
    pub queries: usize,
}

impl Observes {
    /// Whether it must have seen anything.
    pub fn anything(self) -> bool {
        self.attention || self.queries > 0
    }
}

/// One head, as a selection sees it.
pub struct HeadView<'a> {
    pub layer: usize,
    /// Key-value head.
    pub head: usize,
    /// Query heads that share it.
    pub group: usize,
    /// Keys as they are stored, one slot a token.
    pub stored: &'a PackedHead,
    /// The position of each slot.
    pub positions: &'a [usize],
    /// [`Observes::attention`]: attention per slot, in units of 2⁻³² of one query's, summed over the group's query heads.
    pub attention: &'a [u64],
    /// [`Observes::queries`]: the softmax weights of the observed queries of this head's group, summed per slot in the same unit.
    pub observed: &'a [u64],
    /// [`Observes::queries`]: those queries of the group's heads, rotated as keys are: rows of `group·dim`.
    pub queries: &'a [f32],
}

/// How much of a head stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Tokens, at least sinks and recent ones.
    pub tokens: Amount,
    /// First tokens that stay in any case.
    pub sinks: usize,
    /// Last tokens that stay in any case.
    pub recent: Amount,
}

impl Budget {
    /// Where nothing is said.
    pub(crate) const TOKENS: Amount = Amount::Tokens(512);

    /// Reads `budget`, `sinks` and `recent`, of which `share` is the divisor of the budget that it is by itself.
    ///
    /// # Errors
    /// If one cannot be read, or the budget does not hold more than the other two.
    pub(crate) fn read(
        method: &'static str,
        options: &mut Options,
        sinks: usize,
        share: usize,
    ) -> Result<Budget, Error> {
        let tokens = options.amount("budget", Budget::TOKENS, 1)?;
        let sinks = options.number("sinks", sinks, (0, 1 << 24))?;
        let recent = options.amount("recent", tokens.over(share), 0)?;
        Budget { tokens, sinks, recent }.checked(method)
    }

    pub(crate) fn checked(self, method: &'static str) -> Result<Budget, Error> {
        let Budget { tokens, sinks, recent } = self;
        match (tokens, recent) {
            (Amount::Tokens(budget), Amount::Tokens(recent)) if sinks + recent >= budget => {
                Err(Error::Budget { method, budget, sinks, recent })
            }
            (Amount::Share(share), Amount::Share(recent)) if recent >= share => {
                let expected = format!("less than the budget of {tokens}");
                Err(Error::Value { method, key: "recent", found: self.recent.to_string(), expected })
            }
            _ => Ok(self),
        }
    }

    /// Tokens that stay of a head when so many were read.
    pub fn of(&self, read: usize) -> usize {
        self.tokens.of(read).max(self.sinks + self.recent.of(read))
    }
}

/// A way to choose the tokens that stay.
pub trait Selection: Send + Sync {
    /// What the method is.
    fn card(&self) -> &'static MethodCard;

    /// How it is written.
    fn text(&self) -> String;

    /// How much stays.
    fn budget(&self) -> Budget;

    /// How much stays in a layer, where layers differ; nothing goes before the text is longer than [`budget`](Self::budget).
    fn budget_in(&self, layer: usize) -> Budget {
        let _ = layer;
        self.budget()
    }

    /// Whether the observed queries of a query head count.
    fn listens(&self, layer: usize, head: usize) -> bool {
        let _ = (layer, head);
        true
    }

    /// Whether the observed queries of all heads of a layer are added up, so that all keep the same tokens.
    fn by_layer(&self) -> bool {
        false
    }

    /// What it must have seen.
    fn observes(&self) -> Observes {
        Observes::default()
    }

    /// What it is once it has seen the model; `None` where it need not.
    ///
    /// # Errors
    /// If the model cannot run.
    fn learnt(&self, model: &Model) -> brevity_model::error::Result<Option<Arc<dyn Selection>>> {
        let _ = model;
        Ok(None)
    }

    /// Whether it has yet to see the model.
    fn must_learn(&self) -> bool {
        false
    }

    /// Whether this key-value head keeps every token, whatever the budget.
    fn keeps_all(&self, layer: usize, head: usize) -> bool {
        let _ = (layer, head);
        false
    }

    /// A score per slot: the highest stay.
    fn score(&self, head: &HeadView<'_>) -> Vec<f64>;

    /// What it merges by itself into the tokens that stay.
    fn merging(&self) -> Option<Arc<dyn Merging>> {
        None
    }

    /// The `many` slots of `middle` that stay, rising: those with the highest scores, the later one of two equals.
    fn choose(&self, head: &HeadView<'_>, middle: Range<usize>, many: usize) -> Vec<usize> {
        let scores = self.score(head);
        let mut slots: Vec<usize> = middle.collect();
        slots.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(b.cmp(&a)));
        slots.truncate(many);
        slots.sort_unstable();
        slots
    }
}

/// The slots that stay, rising, when `read` tokens were read; nothing where all fit the budget.
pub(crate) fn kept(selection: &dyn Selection, head: &HeadView<'_>, read: usize) -> Option<Vec<usize>> {
    let (len, budget) = (head.positions.len(), selection.budget_in(head.layer));
    let tokens = budget.of(read);
    if len <= tokens {
        return None;
    }
    let (sinks, last) = (budget.sinks, len - budget.recent.of(read));
    let middle = selection.choose(head, sinks..last, tokens - sinks - (len - last));
    Some((0..sinks).chain(middle).chain(last..len).collect())
}
