//! `--cache-budget`: a precision for the keys and values of every head, so that a cache fits so many bytes and loses the least.
//!
//! On calibration text the first half of a window is the prompt and the second is measured, as in `eval --cache`. Each head's keys alone are held
//! in 3 bits, everything else in f16, then its values: what the predictions lose by that is the head's share. All keys together, and all values, at each
//! precision say what the shares add up to. The knapsack then picks one precision for each head and side.

use crate::evaluate::{self, Finished, Score, Text};
use crate::progress::Show;
use crate::{stop, texts};
use anyhow::{Context, Result, bail};
use brevity_budget::{Level, allocate};
use brevity_cache::Spec;
use brevity_cache::store::{Coding, Mixed, PRECISIONS};
use brevity_kernels::attention::packed::{Feedback, PackedHead, Side};
use brevity_measure::bits::{format_bytes, parse_size};
use brevity_model::cache::CacheShape;
use brevity_model::forward::{Model, Options};
use brevity_model::source::ModelSource;
use brevity_parts::Activation;
use std::sync::Arc;

/// Tokens of a window of calibration text.
const WINDOW: usize = 512;
/// Windows; one where a model has more weights than that.
const WINDOWS: usize = 2;
const SMALL: usize = 50_000_000;
/// The precision in which heads are tried, of [`PRECISIONS`]; and the one of the others meanwhile.
const TRIED: usize = 1;
const REST: usize = 4;
/// Most trials: above, the heads of a layer are tried together.
const TRIALS: usize = 400;
/// Tokens that may come before what was selected is dropped again.
const OPEN: usize = 63;

/// What each head loses, keys first, then values, each layer by layer.
pub struct Losses {
    /// What is selected of the tokens.
    base: Spec,
    shape: CacheShape,
    /// Bits a token, for each precision.
    heads: Vec<[f64; PRECISIONS.len()]>,
}

/// How a cache is held within a budget.
pub struct Plan {
    pub spec: Spec,
    /// Bits a token that it is expected to lose.
    pub loss: f64,
    /// Bytes that it takes at most.
    pub bytes: u64,
}

/// Measures what each head's keys and values lose behind what `base` selects.
///
/// # Errors
/// If `base` names a store already, the model cannot be run, or the user stopped.
pub fn measure(source: &ModelSource, base: &Spec, show: Show) -> Result<Losses> {
    check(base)?;
    let config = source.config();
    let options = Options { activation: Activation::F32, ..Options::default() };
    let weights: usize = source.tensors().iter().map(|entry| entry.rows * entry.cols).sum();
    let windows = if weights <= SMALL { WINDOWS } else { 1 };
    let tokenizer = source.tokenizer()?;
    let window = WINDOW.min(config.context);
    let text = Text::cut(tokenizer, &texts::calibration(None)?, window, Some(windows), Score::SecondHalf)?;
    let quiet = Show::choose(true);
    let reference = evaluate::finish(source, &text, options, (quiet, "full cache"))?;
    let model = Model::load(source, options)?;
    let base = base.clone().learnt(&model)?;
    Trials { model: &model, source, base, reference, text, shape: CacheShape::of(config) }.losses(show)
}

struct Trials<'a> {
    model: &'a Model,
    source: &'a ModelSource,
    base: Spec,
    reference: Finished,
    text: Text,
    shape: CacheShape,
}

impl Trials<'_> {
    /// Bits a token with these precisions, keys before values.
    fn lost(&self, precisions: &[usize]) -> Result<f64> {
        stop::check()?;
        let spec = self.base.clone().with_store(Arc::new(store(precisions)));
        let show = (Show::choose(true), "cache");
        let tokenizer = self.source.tokenizer()?;
        let (all, _) = evaluate::compare_cached(&self.reference, self.model, &spec, &self.text, tokenizer, show)?;
        Ok(all.divergence.summary()?.mean)
    }

    fn losses(self, show: Show) -> Result<Losses> {
        let places = self.shape.layers * self.shape.kv_heads;
        let together = if 2 * places > TRIALS { self.shape.kv_heads } else { 1 };
        let phase = show.phase("measuring heads", (2 * places / together + 2 * REST) as u64);
        let mut heads = vec![[0.0; PRECISIONS.len()]; 2 * places];
        let selected = self.lost(&vec![REST; 2 * places])?;
        for first in (0..2 * places).step_by(together) {
            let mut precisions = vec![REST; 2 * places];
            precisions[first..first + together].fill(TRIED);
            let lost = (self.lost(&precisions)? - selected).max(0.0);
            heads[first..first + together].iter_mut().for_each(|head| head[TRIED] = lost / together as f64);
            phase.step();
        }
        for (side, heads) in heads.chunks_exact_mut(places).enumerate() {
            let sum: f64 = heads.iter().map(|head| head[TRIED]).sum();
            let share: Vec<f64> = heads.iter().map(|head| head[TRIED] / sum.max(f64::MIN_POSITIVE)).collect();
            for precision in 0..REST {
                let mut precisions = vec![REST; 2 * places];
                precisions[side * places..][..places].fill(precision);
                let lost = (self.lost(&precisions)? - selected).max(0.0);
                heads.iter_mut().zip(&share).for_each(|(head, share)| head[precision] = lost * share);
                phase.step();
            }
        }
        Ok(Losses { base: self.base, shape: self.shape, heads })
    }
}

/// Precisions by number, keys before values.
fn store(precisions: &[usize]) -> Mixed {
    let codings: Vec<Coding> = precisions.iter().map(|&precision| PRECISIONS[precision].0).collect();
    let (keys, values) = codings.split_at(codings.len() / 2);
    Mixed::new(keys.to_vec(), values.to_vec())
}

impl Losses {
    /// Tokens that a head holds at most, once so many were read.
    fn held(&self, place: usize, tokens: usize) -> usize {
        let (layer, head) = (place / self.shape.kv_heads, place % self.shape.kv_heads);
        let selection = self.base.selection().filter(|selection| !selection.keeps_all(layer, head));
        selection.map_or(tokens, |selection| (selection.budget_in(layer).of(tokens) + OPEN).min(tokens)).max(1)
    }

    /// Bytes that a head takes beside its numbers: blocks, what was learnt of its keys, positions where some are gone.
    fn fixed(&self, held: usize, gone: bool) -> u64 {
        let positions = if gone { 4 * held.next_power_of_two() } else { 0 };
        (PackedHead::overhead(held) + 4 * self.shape.head_dim + Feedback::bytes_of(self.shape.head_dim) + positions)
            as u64
    }

    /// The precisions that fit `bytes` once `tokens` were read and what the selection drops of them is gone.
    ///
    /// # Errors
    /// If the bytes do not hold the fewest bits.
    pub fn plan(&self, bytes: u64, tokens: usize) -> Result<Plan> {
        let dim = self.shape.head_dim;
        let places = self.heads.len() / 2;
        let held: Vec<usize> = (0..places).map(|place| self.held(place, tokens)).collect();
        let fixed: u64 = held.iter().map(|&held| self.fixed(held, held < tokens)).sum();
        let levels: Vec<Vec<Level>> = self
            .heads
            .iter()
            .enumerate()
            .map(|(head, losses)| {
                let side = if head < places { Side::Keys } else { Side::Values };
                let held = held[head % places];
                let cost = |coding: Coding| PackedHead::bytes_of(coding, side, dim, held) as u64;
                PRECISIONS.iter().zip(losses).map(|((coding, _), &loss)| Level::new(cost(*coding), loss)).collect()
            })
            .collect();
        let choice = match allocate(&levels, bytes.saturating_sub(fixed)) {
            Ok(choice) => choice,
            Err(error) => match error.smallest() {
                Some(smallest) => bail!(
                    "--cache-budget: {tokens} tokens in 2 bits a number take {}, and {} are allowed\n  next: allow more, or a selection beside it, as --cache snapkv:budget=25%",
                    format_bytes(smallest + fixed),
                    format_bytes(bytes)
                ),
                None => return Err(error).context("--cache-budget"),
            },
        };
        let of = |what: fn(&Level) -> f64| -> f64 {
            levels.iter().zip(&choice).map(|(levels, &at)| what(&levels[at])).sum()
        };
        let (loss, cost) = (of(|level| level.loss), of(|level| level.bytes as f64) as u64);
        Ok(Plan { spec: self.base.clone().with_store(Arc::new(store(&choice))), loss, bytes: cost + fixed })
    }
}

/// Refuses a cache that names its store.
fn check(base: &Spec) -> Result<()> {
    if !matches!(base.store().text().as_str(), "f16" | "mixed") {
        bail!("--cache-budget chooses the store, and --cache names one: {base}\n  next: leave one of them out");
    }
    Ok(())
}

/// A budget as it is written: bytes (`64MB`), or a share of what f16 takes (`25%`).
///
/// # Errors
/// If it is neither.
pub fn bytes(text: &str, shape: &CacheShape, tokens: usize) -> Result<u64> {
    let f16 = 4 * shape.layers * shape.kv_heads * shape.head_dim * tokens;
    match text.strip_suffix('%') {
        None => parse_size(text).context("--cache-budget"),
        Some(share) => match share.trim().parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 100.0 => Ok((f16 as f64 * share / 100.0) as u64),
            _ => bail!("--cache-budget {text}: a share of f16's bytes is above 0% and at most 100%"),
        },
    }
}

/// Measures and plans, and says what came of it.
///
/// # Errors
/// As [`measure`] and [`Losses::plan`].
pub fn spec(source: &ModelSource, base: Spec, budget: Option<&str>, tokens: usize, show: Show) -> Result<Spec> {
    let Some(budget) = budget else { return Ok(base) };
    let allowed = bytes(budget, &CacheShape::of(source.config()), tokens)?;
    let plan = measure(source, &base, show)?.plan(allowed, tokens)?;
    show.remark(&format!(
        "{} of cache for {tokens} tokens, {:.4} bits a token expected to be lost; the same again: --cache {:?}",
        format_bytes(plan.bytes),
        plan.loss,
        plan.spec.to_string()
    ));
    Ok(plan.spec)
}
