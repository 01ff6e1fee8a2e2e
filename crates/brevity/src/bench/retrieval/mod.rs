//! Whether a cache still holds what was said, scored as bits of the true answer.
//!
//! [`facts`] hides facts in a text; [`sets`] reads sets of questions about long contexts.
//!
//! What is to be remembered is the prompt; the question comes after its end, so no selection could see it. Its answer's tokens are read
//! after it, and their bits are summed: `−Σ log₂ p(token | what is before)`. Small models answer few questions rightly, but what they
//! remember shows in the bits. Accuracy is reported where the full cache itself reaches a half.

pub mod facts;
pub mod sets;

use crate::stop;
use anyhow::Result;
use brevity_cache::Spec;
use brevity_measure::divergence::token_bits;
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Sequence};

/// A text with something to remember, and what is asked.
pub struct Case {
    /// What kind of question it is.
    pub task: String,
    pub prompt: Vec<u32>,
    pub question: Vec<u32>,
    pub answer: Vec<u32>,
}

/// What a cache made of the cases of one task.
#[derive(Clone, Debug, Default)]
pub struct Recall {
    pub task: String,
    pub cases: usize,
    /// Bits of the true answers, mean over the cases.
    pub bits: f64,
    /// Share of the cases whose answer's tokens were all the likeliest.
    pub accuracy: f64,
}

/// Mean bits over tasks.
pub fn mean(recalls: &[Recall]) -> f64 {
    recalls.iter().map(|recall| recall.bits).sum::<f64>() / recalls.len().max(1) as f64
}

/// Asks everything through a cache: what came of each task, in the order of the cases.
///
/// # Errors
/// If the cache refuses, logits hold NaN, or the user stopped.
pub fn ask(model: &Model, spec: &Spec, cases: &[Case]) -> Result<Vec<Recall>> {
    let mut recalls: Vec<Recall> = Vec::new();
    for case in cases {
        let (bits, right) = answer(model, spec, case)?;
        let recall = match recalls.iter_mut().position(|recall| recall.task == case.task) {
            Some(at) => &mut recalls[at],
            None => {
                recalls.push(Recall { task: case.task.clone(), ..Recall::default() });
                let last = recalls.len() - 1;
                &mut recalls[last]
            }
        };
        recall.cases += 1;
        recall.bits += bits;
        recall.accuracy += f64::from(u8::from(right));
    }
    for recall in &mut recalls {
        recall.bits /= recall.cases as f64;
        recall.accuracy /= recall.cases as f64;
    }
    Ok(recalls)
}

/// Bits of a case's answer, and whether every token of it was the likeliest.
fn answer(model: &Model, spec: &Spec, case: &Case) -> Result<(f64, bool)> {
    stop::check()?;
    let rest = [case.question.as_slice(), &case.answer[..case.answer.len() - 1]].concat();
    let mut cache = spec.cache(model.config(), case.prompt.len() + rest.len())?;
    model.forward(&mut [Sequence { tokens: &case.prompt, cache: &mut cache }], Logits::None, None)?;
    cache.end_prompt()?;
    let logits = model.forward(&mut [Sequence { tokens: &rest, cache: &mut cache }], Logits::All, None)?;
    let (mut bits, mut right) = (0.0, true);
    for (i, &token) in case.answer.iter().enumerate() {
        let row = logits.row(case.question.len() - 1 + i);
        bits += token_bits(row, token)?;
        let likeliest = row.iter().enumerate().fold(0, |best, (i, x)| if *x > row[best] { i } else { best });
        right &= likeliest == token as usize;
    }
    Ok((bits, right))
}
