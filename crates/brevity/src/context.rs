//! A context's cache on disk: how coarse it may be for a loss that the user names, and the file.
//!
//! The text's own end is what a loss is measured on: its last tokens are read through the decoded cache of those before them, and their
//! predictions compared with those through the full cache. Layers fall into thirds, each with keys and values: six groups. Each
//! group alone is coded with a coarse step and its loss measured; with a step twice as large it loses about four times
//! as much. The budget's Lagrangian picks a level for each group so that the bytes are the least; the loss of all
//! together is measured again, and the allowance corrected by it.

use crate::progress::Show;
use crate::{identity, stop};
use anyhow::{Context as _, Result, bail};
use brevity_budget::{Level, allocate_max_loss};
use brevity_cache::Spec;
use brevity_cache::disk::{Codec, Context, File, Identity, Ready, Steps, Watch};
use brevity_formats::hash::TreeHasher;
use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::ModelSource;
use brevity_model::cache::CacheShape;
use brevity_model::forward::{Logits, Model, Sequence};
use std::path::Path;

/// Tokens at the text's end that a loss is measured on, at most; and the share of the text that they may be.
const TAIL: usize = 256;
const TAIL_SHARE: usize = 4;
/// A text of so many tokens has an end that can be measured.
const LEAST: usize = 64;
/// Steps that groups can have: `2^(i/2)` of the finest.
const LEVELS: usize = 17;
const FINEST: f32 = 0.02;
/// The level at which each group's loss is measured.
const PROBED: usize = 9;
/// Corrections of the allowance.
const ROUNDS: usize = 5;
/// Thirds of the layers.
const THIRDS: usize = 3;

/// What a model and its tokenizer are.
///
/// # Errors
/// If weights cannot be read.
pub fn identity(source: &ModelSource) -> Result<Identity> {
    let mut model = TreeHasher::new();
    model.update(format!("{:?}", source.config()).as_bytes());
    identity::weights(source, &mut model)?;
    let mut words = blake3::Hasher::new();
    let tokenizer = source.tokenizer()?;
    for id in 0..tokenizer.vocab_size() as u32 {
        let bytes = tokenizer.token_bytes(id);
        words.update(&(bytes.len() as u32).to_le_bytes());
        words.update(bytes);
    }
    let mut line = String::new();
    for (left, right) in &tokenizer.vocabulary().merges {
        line.clear();
        [left.as_str(), "\0", right, "\0"].into_iter().for_each(|part| line.push_str(part));
        words.update(line.as_bytes());
    }
    let shape = CacheShape::of(source.config());
    Ok(Identity { model: model.finalize().into(), tokenizer: words.finalize().into(), shape })
}

/// A context ready to be written.
pub struct Saved {
    pub bytes: Vec<u8>,
    /// Bits a token that the text's end loses.
    pub loss: f64,
    /// What keys and values would take in f16.
    pub f16_bytes: u64,
    pub prefill_seconds: f64,
}

/// Reads a text and codes what the model remembers.
///
/// # Errors
/// If the text is too short to be measured or too long for the model, the loss cannot be kept, or the user stopped.
pub fn save(
    source: &ModelSource,
    model: &Model,
    tokens: &[u32],
    codec: &'static dyn Codec,
    max_loss: f64,
    show: Show,
) -> Result<Saved> {
    if !(max_loss > 0.0 && max_loss.is_finite()) {
        bail!("--max-loss {max_loss} cannot be: a number of bits a token above 0 can");
    }
    if tokens.len() < LEAST {
        bail!("the text has {} tokens, and {LEAST} are the least that a loss can be measured on", tokens.len());
    }
    let mut watch = Watch::new(model.config(), tokens.len())?;
    let started = std::time::Instant::now();
    model.forward(&mut [Sequence { tokens, cache: &mut watch }], Logits::None, None)?;
    let prefill_seconds = started.elapsed().as_secs_f64();
    let context = watch.context();
    let (steps, loss) = Search::new(model, &context, tokens, codec, max_loss, show)?.run()?;
    let sides = Ready::new(codec, &context).encode(&steps);
    let file = File::new(identity(source)?, tokens.to_vec(), codec, sides);
    Ok(Saved { bytes: file.to_bytes(), loss, f16_bytes: context.f16_bytes(), prefill_seconds })
}

/// Opens a file and refuses one of another model.
///
/// # Errors
/// If it cannot be read, is damaged, or belongs to another model.
pub fn open(path: &Path, source: &ModelSource) -> Result<(File, Context)> {
    let read = || -> Result<(File, Context)> {
        let file = File::from_bytes(&std::fs::read(path)?)?;
        file.check(&identity(source)?)?;
        let context = file.context(source.config().rope_table().as_ref())?;
        Ok((file, context))
    };
    read().with_context(|| format!("reading {}", path.display()))
}

struct Search<'a> {
    model: &'a Model,
    tail: &'a [u32],
    first: Context,
    ready: Ready,
    reference: Matrix,
    capacity: usize,
    max_loss: f64,
    show: Show,
}

impl<'a> Search<'a> {
    fn new(
        model: &'a Model,
        context: &Context,
        tokens: &'a [u32],
        codec: &'static dyn Codec,
        max_loss: f64,
        show: Show,
    ) -> Result<Self> {
        let tail = TAIL.min(tokens.len() / TAIL_SHARE);
        let split = tokens.len() - tail;
        let first = context.first(split);
        let ready = Ready::new(codec, &first);
        let mut search = Search {
            model,
            tail: &tokens[split..],
            first,
            ready,
            reference: Matrix::default(),
            capacity: tokens.len(),
            max_loss,
            show,
        };
        search.reference = search.logits(&search.first, "f32")?;
        Ok(search)
    }

    /// Predictions of the tail through a cache of the tokens before it.
    fn logits(&self, context: &Context, store: &str) -> Result<Matrix> {
        stop::check()?;
        let mut cache = context.cache(&Spec::parse(store)?, self.model.config(), self.capacity)?;
        Ok(self.model.forward(&mut [Sequence { tokens: self.tail, cache: &mut cache }], Logits::All, None)?)
    }

    /// Bits a token that some sides lose; those that are not among them stay as they are.
    fn loss(&self, steps: &Steps, sides: impl Fn(usize) -> bool + Sync) -> Result<f64> {
        let coded: Vec<Vec<u8>> = self.ready.encode_some(steps, &sides);
        let context = self.ready.decode_some(&coded, &sides, &self.first)?;
        let logits = self.logits(&context, "f16")?;
        let lost = crate::evaluate::in_parallel(logits.rows(), |row| {
            Ok(divergence::compare(self.reference.row(row), logits.row(row), None)?.kld)
        })?;
        Ok(lost.iter().sum::<f64>() / lost.len().max(1) as f64)
    }

    fn layers(&self) -> usize {
        self.first.shape().layers
    }

    /// Groups: keys of each third of the layers, then values.
    fn group(&self, side: usize) -> usize {
        let layers = self.layers();
        side / layers * THIRDS + side % layers * THIRDS / layers
    }

    fn step(level: usize) -> f32 {
        FINEST * 2f32.powi(level as i32 / 2) * if level % 2 == 1 { std::f32::consts::SQRT_2 } else { 1.0 }
    }

    fn steps(&self, choice: &[usize]) -> Steps {
        let layers = self.layers();
        let of = |side: usize| Self::step(choice[self.group(side)]);
        Steps { keys: (0..layers).map(of).collect(), values: (layers..2 * layers).map(of).collect() }
    }

    fn run(&self) -> Result<(Steps, f64)> {
        let groups = self.levels()?;
        let mut allowed = self.max_loss;
        let mut best: Option<(Steps, f64)> = None;
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let choice = match allocate_max_loss(&groups, allowed) {
                Ok(choice) => choice,
                Err(_) => vec![0; groups.len()],
            };
            if choice == last {
                break;
            }
            let steps = self.steps(&choice);
            let loss = self.loss(&steps, |_| true)?;
            self.show.remark(&format!("levels {choice:?} lose {loss:.4} bits a token"));
            // Levels are √2 apart, so what fits is within that of what is allowed.
            if loss <= self.max_loss {
                let coarser = best.as_ref().is_none_or(|(_, before)| loss > *before);
                if coarser {
                    best = Some((steps, loss));
                }
                if loss > 0.85 * self.max_loss {
                    break;
                }
            }
            allowed *= (0.95 * self.max_loss / loss.max(1e-9)).clamp(0.1, 4.0);
            last = choice;
        }
        best.with_context(|| {
            let codec = "this codec";
            format!("{codec} loses more than {} bits a token on this text at its finest", self.max_loss)
        })
    }

    /// What each group costs and loses at each level.
    fn levels(&self) -> Result<Vec<Vec<Level>>> {
        let mut groups = Vec::new();
        for group in 0..2 * THIRDS {
            let members: Vec<usize> = (0..2 * self.layers()).filter(|&side| self.group(side) == group).collect();
            if members.is_empty() {
                groups.push(vec![Level::new(0, 0.0)]);
                continue;
            }
            let probe = self.steps(&[PROBED; 2 * THIRDS]);
            let lost = self.loss(&probe, |side| self.group(side) == group)?;
            let mut levels = Vec::new();
            for level in 0..LEVELS {
                let steps = self.steps(&[level; 2 * THIRDS]);
                let bytes = self.ready.encode_some(&steps, |side| self.group(side) == group);
                let bytes = bytes.iter().map(Vec::len).sum::<usize>() as u64;
                levels.push(Level::new(bytes, lost * 2f64.powi(level as i32 - PROBED as i32)));
            }
            self.show
                .remark(&format!("group {group}: {lost:.5} bits at level {PROBED}, {} bytes", levels[PROBED].bytes));
            groups.push(levels);
        }
        Ok(groups)
    }
}
