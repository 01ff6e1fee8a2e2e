//! Which heads look far back, seen on a text that means nothing.
//!
//! Tokens drawn by lot are written down several times over, so that whatever attention finds, it finds in the text itself. At each
//! token from its second coming on, two kinds of earlier positions matter: those where the same token stood (an *echo* head looks
//! there), and those after them, whose token comes next (an *induction* head). A head's score is the attention that it gives to these
//! positions, on average over the queries.

use brevity_model::cache::CacheType;
use brevity_model::error::Result;
use brevity_model::forward::{Logits, Model, Sequence};
use brevity_model::taps::{AttentionRow, Site, Tap};

/// Attention of query heads to what they could repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadScores {
    /// By layer and query head: attention to the same token before.
    pub echo: Vec<Vec<f64>>,
    /// By layer and query head: attention to what came after it.
    pub induction: Vec<Vec<f64>>,
}

/// Times that the text is written.
const TIMES: usize = 4;
/// Tokens of the text at most.
const TOKENS: usize = 256;

struct Watch {
    period: usize,
    scores: HeadScores,
}

impl Tap for Watch {
    fn linear(&mut self, _: Site, _: brevity_kernels::MatrixView<'_>) {}

    fn wants_attention(&self, _: usize) -> bool {
        true
    }

    fn attention(&mut self, row: AttentionRow<'_>) {
        let weight = |position: usize| {
            let index = position.checked_sub(row.first)?;
            row.weights.get(index).copied()
        };
        let before = (1..TIMES).filter_map(|times| row.position.checked_sub(times * self.period));
        for position in before {
            self.scores.echo[row.layer][row.head] += f64::from(weight(position).unwrap_or(0.0));
            self.scores.induction[row.layer][row.head] += f64::from(weight(position + 1).unwrap_or(0.0));
        }
    }
}

/// Runs a model on repeated tokens and measures its heads.
///
/// # Errors
/// If the model cannot run.
pub fn probe(model: &Model) -> Result<HeadScores> {
    let (config, shape) = (model.config(), model.config().attention);
    let period = TOKENS.min(config.context / TIMES).max(1);
    let text: Vec<u32> = (0..period as u64).map(|i| drawn(i, config.vocab as u64)).collect();
    let tokens = text.repeat(TIMES.min(config.context / period));
    let zeros = vec![vec![0.0; shape.heads]; config.layers()];
    let mut watch = Watch { period, scores: HeadScores { echo: zeros.clone(), induction: zeros } };
    let mut cache = model.new_cache(tokens.len(), CacheType::F32)?;
    model.forward(&mut [Sequence { tokens: &tokens, cache: &mut cache }], Logits::None, Some(&mut watch))?;
    let rows = tokens.len().saturating_sub(period).max(1) as f64;
    let HeadScores { echo, induction } = &mut watch.scores;
    echo.iter_mut().chain(induction).flatten().for_each(|score| *score /= rows);
    Ok(watch.scores)
}

/// A token drawn by lot, the same on every machine.
pub(super) fn drawn(i: u64, vocab: u64) -> u32 {
    let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x >> 32) % vocab.max(1)) as u32
}
