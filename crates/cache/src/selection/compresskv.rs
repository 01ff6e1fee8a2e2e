//! CompressKV: heads that retrieve by meaning choose for their layer, and layers that miss dropped tokens more keep more.
//!
//! CompressKV: Semantic Retrieval Heads Know What Tokens are Not Important Before Generation (2025, arXiv 2508.02401).
//!
//! - *Semantic retrieval heads.* While an answer is written, such a head attends to the whole passage that the answer comes from, and not only to
//!   the very word. They are found by running the model on tokens drawn by lot in which a passage comes back at the end: a head's score is
//!   the attention that the second coming gives to all of the first. In each layer the best `heads` percent of the query heads choose.
//! - *One choice a layer.* The attention that these heads give in the last `window` queries, summed and pooled over neighbours as in SnapKV, chooses
//!   the tokens that all heads of the layer keep.
//! - *Budgets by error.* With every layer at a quarter of its tokens, layer by layer, the output of attention is off by
//!   `e_l = Σ ‖o − o'‖² / Σ ‖o‖²` on that text. Layer l gets `¼ + ¾·e_l / mean(e)` times the budget.

use super::{Amount, Budget, HeadView, Observes, Selection};
use crate::options::Options;
use crate::store::Float;
use crate::{Cache, Error, Spec};
use brevity_kernels::{Matrix, MatrixMut, MatrixView};
use brevity_measure::MethodCard;
use brevity_model::cache::{AttentionObserver, CacheShape, CacheType, KvCache, Queries};
use brevity_model::error::Result;
use brevity_model::forward::{Logits, Model, Sequence};
use brevity_model::taps::{AttentionRow, Site, Tap};
use std::ops::Range;
use std::sync::Arc;

/// Semantic retrieval heads and budgets of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressKv {
    /// Of a layer, on average.
    pub budget: Budget,
    /// Queries at the end that choose.
    pub window: usize,
    /// Percent of a layer's query heads that choose.
    pub heads: usize,
    /// By layer and query head: whether it chooses. Empty until the model was seen.
    chooses: Vec<Vec<bool>>,
    /// By layer: times the budget, in thousandths.
    shares: Vec<usize>,
}

const CARD: MethodCard = MethodCard {
    name: "compresskv",
    room: "cache",
    title: "CompressKV: Semantic Retrieval Heads Know What Tokens are Not Important Before Generation",
    year: 2025,
    arxiv: Some("2508.02401"),
    mechanism: "Heads that attend to a whole passage when it comes back choose, by the last queries, the tokens that all heads of their layer keep; layers whose output suffers more from dropping have larger budgets.",
    guarantees: &[
        "with a budget of the whole text it is the full cache, bit for bit",
        "all heads of a layer keep the same tokens",
        "budgets of layers are the one named on average, before a layer's own is more than the text",
    ],
    simplifications: &[
        "heads and errors are found on tokens drawn by lot in which a passage comes back, not on a question set",
        "while generating it chooses again every 64 positions, by the queries of the last `window` positions",
    ],
};

/// Tokens of the text that heads and errors are found on, at most, and of its passage.
const TEXT: usize = 512;
const PASSAGE: usize = 32;
/// Neighbours on either side over which scores are pooled.
const AROUND: usize = 3;
/// What layers keep while their errors are measured.
const TRIED: Amount = Amount::Share(2500);

impl CompressKv {
    pub(crate) fn read(text: &str) -> std::result::Result<Self, Error> {
        let mut options = Options::read("compresskv", "budget, window, sinks (tokens), heads (percent)", text)?;
        let tokens = options.amount("budget", Budget::TOKENS, 1)?;
        let window = options.number("window", 32, (1, 1024))?;
        let sinks = options.number("sinks", 0, (0, 1 << 24))?;
        let heads = options.number("heads", 25, (1, 100))?;
        options.done()?;
        let budget = Budget { tokens, sinks, recent: Amount::Tokens(window) }.checked("compresskv")?;
        Ok(Self { budget, window, heads, chooses: Vec::new(), shares: Vec::new() })
    }

    /// The best heads of each layer.
    fn with_heads(&self, scores: &[Vec<f64>]) -> CompressKv {
        let best = |scores: &Vec<f64>| -> Vec<bool> {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let many = (scores.len() * self.heads).div_ceil(100);
            (0..scores.len()).map(|head| order[..many].contains(&head)).collect()
        };
        CompressKv { chooses: scores.iter().map(best).collect(), ..self.clone() }
    }

    /// Budgets of layers by their errors.
    fn with_errors(&self, errors: &[f64]) -> CompressKv {
        let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let share = |error: &f64| if mean > 0.0 { 0.25 + 0.75 * error / mean } else { 1.0 };
        CompressKv {
            shares: errors.iter().map(|error| (1000.0 * share(error)).round() as usize).collect(),
            ..self.clone()
        }
    }
}

impl Selection for CompressKv {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        let Budget { tokens, sinks, recent } = self.budget;
        format!("compresskv:budget={tokens},window={recent},sinks={sinks},heads={}", self.heads)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn budget_in(&self, layer: usize) -> Budget {
        let share = self.shares.get(layer).copied().unwrap_or(1000);
        Budget { tokens: self.budget.tokens.times(share), ..self.budget }
    }

    fn observes(&self) -> Observes {
        Observes { attention: false, queries: self.window }
    }

    fn listens(&self, layer: usize, head: usize) -> bool {
        self.chooses.get(layer).and_then(|heads| heads.get(head)).copied().unwrap_or(true)
    }

    fn by_layer(&self) -> bool {
        true
    }

    fn learnt(&self, model: &Model) -> Result<Option<Arc<dyn Selection>>> {
        let text = Text::drawn(model);
        let heads = self.with_heads(&text.scores(model)?);
        let errors = text.errors(model, &heads)?;
        Ok(Some(Arc::new(heads.with_errors(&errors))))
    }

    fn must_learn(&self) -> bool {
        self.chooses.is_empty()
    }

    fn score(&self, head: &HeadView<'_>) -> Vec<f64> {
        let sums = head.observed;
        let around = |slot: usize| &sums[slot.saturating_sub(AROUND)..(slot + AROUND + 1).min(sums.len())];
        (0..sums.len()).map(|slot| around(slot).iter().copied().max().unwrap_or(0) as f64).collect()
    }
}

/// Tokens drawn by lot, with a passage that comes back at the end.
struct Text {
    tokens: Vec<u32>,
    passage: Range<usize>,
    again: usize,
}

impl Text {
    fn drawn(model: &Model) -> Text {
        let (config, vocab) = (model.config(), model.config().vocab as u64);
        let length = TEXT.min(config.context);
        let many = PASSAGE.min(length / 4);
        let again = length - many;
        let mut tokens: Vec<u32> = (0..again as u64).map(|i| super::probe::drawn(i + 5000, vocab)).collect();
        let passage = length / 4..length / 4 + many;
        tokens.extend_from_within(passage.clone());
        Text { tokens, passage, again }
    }

    /// Attention of each head, from the second coming, to the first.
    fn scores(&self, model: &Model) -> Result<Vec<Vec<f64>>> {
        let shape = CacheShape::of(model.config());
        let mut watch = Watch { text: self, scores: vec![vec![0.0; shape.heads]; shape.layers] };
        let mut cache = model.new_cache(self.tokens.len(), CacheType::F32)?;
        model.forward(&mut [Sequence { tokens: &self.tokens, cache: &mut cache }], Logits::None, Some(&mut watch))?;
        Ok(watch.scores)
    }

    /// How far off each layer's attention is while the passage comes back, with a quarter of the tokens before it.
    fn errors(&self, model: &Model, selection: &CompressKv) -> Result<Vec<f64>> {
        let budget = Budget { tokens: TRIED, ..selection.budget };
        let selection = Arc::new(CompressKv { budget, ..selection.clone() });
        let spec = Spec { selection: Some(selection), merging: None, store: Arc::new(Float::F32) };
        let cache = |spec: &Spec| spec.cache(model.config(), self.tokens.len());
        let full = cache(&Spec { selection: None, ..spec.clone() })?;
        let sums = vec![(0.0, 0.0); model.config().layers()];
        let mut both = Beside { full, fewer: cache(&spec)?, measures: false, sums };
        let (before, again) = self.tokens.split_at(self.again);
        model.forward(&mut [Sequence { tokens: before, cache: &mut both }], Logits::None, None)?;
        both.end_prompt()?;
        model.forward(&mut [Sequence { tokens: again, cache: &mut both }], Logits::Last, None)?;
        Ok(both.sums.iter().map(|(off, all)| if *all > 0.0 { off / all } else { 0.0 }).collect())
    }
}

struct Watch<'a> {
    text: &'a Text,
    scores: Vec<Vec<f64>>,
}

impl Tap for Watch<'_> {
    fn linear(&mut self, _: Site, _: MatrixView<'_>) {}

    fn wants_attention(&self, _: usize) -> bool {
        true
    }

    fn attention(&mut self, row: AttentionRow<'_>) {
        if row.position >= self.text.again {
            let weights = row.weights.iter().enumerate().filter(|(i, _)| self.text.passage.contains(&(row.first + i)));
            self.scores[row.layer][row.head] += weights.map(|(_, &weight)| f64::from(weight)).sum::<f64>();
        }
    }
}

/// The full cache, and one with fewer tokens that is asked the same and not listened to.
struct Beside {
    full: Cache,
    fewer: Cache,
    measures: bool,
    /// By layer: squares of what is off, and of all.
    sums: Vec<(f64, f64)>,
}

impl KvCache for Beside {
    fn len(&self) -> usize {
        self.full.len()
    }

    fn capacity(&self) -> usize {
        self.full.capacity()
    }

    fn append(&mut self, layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> Result<()> {
        self.full.append(layer, start, k, v)?;
        self.fewer.append(layer, start, k, v)
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Queries<'_>,
        out: &mut MatrixMut<'_>,
        observer: Option<&mut AttentionObserver<'_>>,
    ) -> Result<()> {
        let Queries { rows, start, window } = queries;
        let mut other = Matrix::zeros(rows.rows(), rows.cols());
        self.fewer.attend(layer, Queries { rows, start, window }, &mut other.view_mut(), None)?;
        self.full.attend(layer, queries, out, observer)?;
        if self.measures {
            let (off, all) = &mut self.sums[layer];
            for row in 0..rows.rows() {
                for (a, b) in out.row(row).iter().zip(other.row(row)) {
                    *off += f64::from(a - b) * f64::from(a - b);
                    *all += f64::from(*a) * f64::from(*a);
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, rows: usize) {
        self.full.advance(rows);
        self.fewer.advance(rows);
    }

    fn end_prompt(&mut self) -> Result<()> {
        self.measures = true;
        self.fewer.end_prompt()
    }

    fn pass_limit(&self) -> usize {
        self.full.pass_limit().min(self.fewer.pass_limit())
    }

    fn watches_queries(&self) -> bool {
        self.fewer.watches_queries()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.full.truncate(len)?;
        self.fewer.truncate(len)
    }

    fn bytes(&self) -> u64 {
        self.full.bytes() + self.fewer.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_lose_more_have_more_and_the_mean_is_the_budget() {
        let selection = CompressKv::read("budget=400,heads=50").unwrap();
        let learnt = selection.with_heads(&vec![vec![0.1, 0.9, 0.5, 0.2]; 3]).with_errors(&[0.1, 0.2, 0.6]);
        assert!(selection.must_learn() && !learnt.must_learn());
        assert_eq!([0, 1, 2, 3].map(|head| learnt.listens(1, head)), [false, true, true, false]);
        let budgets: Vec<usize> = (0..3).map(|layer| learnt.budget_in(layer).of(1000)).collect();
        assert!(budgets.is_sorted_by(|a, b| a < b), "{budgets:?}");
        assert_eq!(budgets, [200, 300, 700]);
        assert_eq!(learnt.budget().of(1000), 400);
    }
}
