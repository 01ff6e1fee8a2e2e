//! What a choice of levels does to the whole model: divergence in bits, from runs of the model itself.
//!
//! Short windows of calibration text run through the model once as it is and then with the matrices of each choice that a
//! search asks about (f32 activations, so that nothing else adds to it). One choice is the *base*: its blocks are in memory,
//! and its hidden states before each of them. A choice that differs from the base in some tensors runs from the first of their
//! blocks on, and only their blocks are loaded. In memory are the packed model, `(layers + 1) × tokens × hidden` states and
//! `tokens × vocabulary` logits of the original.

use super::levels::Levels;
use super::replaced::Replaced;
use crate::evaluate::{Score, Text, in_parallel};
use crate::{stop, texts};
use anyhow::{Context, Result};
use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::forward::Options;
use brevity_model::stream::Stream;
use brevity_model::weights::{BlockWeights, Head};
use brevity_model::{ModelSource, TensorKind};
use brevity_parts::{Activation, Input};
use brevity_weights::allocate::Ladders;
use brevity_weights::allocate::evopress::Sample;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// Tokens in a window: short ones show the model more different texts.
const WINDOW: usize = 128;
/// Windows, where the vocabulary allows it.
const WINDOWS: usize = 8;
/// Logits of the original take at most so many bytes.
const MOST_LOGITS: usize = 256 << 20;
/// Rows of logits that are computed at once.
const ROWS: usize = 64;

/// Measures choices.
pub struct TrueLoss<'a> {
    source: &'a ModelSource,
    levels: &'a Levels<'a>,
    ladders: &'a Ladders,
    windows: Vec<Vec<u32>>,
    reference: Matrix,
    base: Base,
    /// By the first window and the one after the last.
    streams: HashMap<(usize, usize), Stream>,
}

/// A choice whose model is in memory.
struct Base {
    choice: Vec<usize>,
    blocks: Vec<BlockWeights>,
    head: Head,
    /// Before each block, and after the last.
    states: Vec<Matrix>,
}

/// Windows of calibration text, spread over all of it.
///
/// # Errors
/// If the text cannot be read or is too short.
pub fn windows(source: &ModelSource, text: Option<&Path>) -> Result<Vec<Vec<u32>>> {
    let text = texts::calibration(text)?;
    let window = WINDOW.min(source.config().context);
    let cut = Text::cut(source.tokenizer()?, &text, window, None, Score::All).context("the calibration text")?;
    let longest = cut.windows.iter().map(Vec::len).max().unwrap_or(0);
    let whole: Vec<Vec<u32>> = cut.windows.into_iter().filter(|tokens| tokens.len() == longest).collect();
    let most = (MOST_LOGITS / (4 * longest * source.config().vocab).max(1)).clamp(1, WINDOWS);
    let count = most.min(whole.len());
    Ok((0..count).map(|index| whole[index * whole.len() / count].clone()).collect())
}

impl<'a> TrueLoss<'a> {
    /// Runs the original, and the model of `choice`, which becomes the base.
    ///
    /// # Errors
    /// If weights or levels cannot be read, or the user stopped.
    pub fn new(
        source: &'a ModelSource,
        levels: &'a Levels<'a>,
        ladders: &'a Ladders,
        windows: Vec<Vec<u32>>,
        choice: &[usize],
    ) -> Result<Self> {
        let config = source.config();
        let mut stream = Stream::new(config, source, &windows, options())?;
        for layer in 0..config.layers() {
            stop::check()?;
            stream.advance(layer, &BlockWeights::load(config, layer, source)?, None)?;
        }
        let head = Head::load(config, source)?;
        let reference = logits(&stream.states()?, &head, config.vocab);
        let base = Base { choice: Vec::new(), blocks: Vec::new(), head, states: Vec::new() };
        let mut measured = Self { source, levels, ladders, windows, reference, base, streams: HashMap::new() };
        measured.rebase(choice)?;
        Ok(measured)
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.reference.rows()
    }

    /// Makes `choice` the base, around which other choices are cheap.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn rebase(&mut self, choice: &[usize]) -> Result<()> {
        let config = self.source.config();
        let first = self.base.choice.is_empty();
        let changed = self.changed(choice);
        if changed.is_empty() && !first {
            return Ok(());
        }
        let model = self.model(choice, |_| true)?;
        let mut stream = Stream::new(config, &model, &self.windows, options())?;
        let mut states = vec![stream.states()?];
        for layer in 0..config.layers() {
            stop::check()?;
            if first {
                self.base.blocks.push(BlockWeights::load(config, layer, &model)?);
            } else if changed.iter().any(|tensor| self.layer(*tensor) == Some(layer)) {
                self.base.blocks[layer] = BlockWeights::load(config, layer, &model)?;
            }
            stream.advance(layer, &self.base.blocks[layer], None)?;
            states.push(stream.states()?);
        }
        self.base.head = Head::load(config, &model)?;
        (self.base.states, self.base.choice) = (states, choice.to_vec());
        Ok(())
    }

    /// Mean divergence from the original on all windows, in bits a token.
    ///
    /// # Errors
    /// As [`Self::new`], or if logits hold NaN.
    pub fn all(&mut self, choice: &[usize]) -> Result<f64> {
        self.on(choice, 0..self.windows.len())
    }

    /// As [`Self::all`], on a part of the windows.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn part(&mut self, choice: &[usize], sample: Sample) -> Result<f64> {
        let cut = |index: usize| index * self.windows.len() / sample.parts;
        let (start, end) = (cut(sample.index), cut(sample.index + 1));
        self.on(choice, start.min(self.windows.len() - 1)..end.max(start + 1).min(self.windows.len()))
    }

    fn on(&mut self, choice: &[usize], windows: Range<usize>) -> Result<f64> {
        stop::check()?;
        let (config, changed) = (self.source.config(), self.changed(choice));
        let layers: Vec<usize> = changed.iter().filter_map(|tensor| self.layer(*tensor)).collect();
        let kind = |tensor: &usize| self.source.tensors()[*tensor].role.kind;
        let embeds = changed.iter().any(|tensor| kind(tensor) == TensorKind::TokenEmbedding);
        let heads = embeds || changed.iter().any(|tensor| kind(tensor) == TensorKind::Output);
        let model = self.model(choice, |layer| layer.map_or(heads, |layer| layers.contains(&layer)))?;
        let key = (windows.start, windows.end);
        let mut stream = match self.streams.remove(&key) {
            Some(stream) => stream,
            None => Stream::new(config, self.source, &self.windows[windows.clone()], options())?,
        };
        let from = match embeds {
            true => {
                let mut embedded = Stream::new(config, &model, &self.windows[windows.clone()], options())?;
                stream.set_states(&embedded.states()?)?;
                0
            }
            false => {
                let from = layers.iter().copied().min().unwrap_or(config.layers());
                stream.set_states(&self.rows(&self.base.states[from], &windows))?;
                from
            }
        };
        for layer in from..config.layers() {
            match layers.contains(&layer) {
                true => stream.advance(layer, &BlockWeights::load(config, layer, &model)?, None)?,
                false => stream.advance(layer, &self.base.blocks[layer], None)?,
            }
        }
        let logits = match heads {
            true => logits(&stream.states()?, &Head::load(config, &model)?, config.vocab),
            false => logits(&stream.states()?, &self.base.head, config.vocab),
        };
        self.streams.insert(key, stream);
        let first = windows.start * self.windows[0].len();
        let row = |row| Ok(divergence::compare(self.reference.row(first + row), logits.row(row), None)?.kld);
        let bits = in_parallel(logits.rows(), row)?;
        Ok(bits.iter().sum::<f64>() / bits.len().max(1) as f64)
    }

    /// The source with tensors of the wanted places at their levels.
    fn model(&self, choice: &[usize], wanted: impl Fn(Option<usize>) -> bool) -> Result<Replaced<'a>> {
        let mut model = Replaced::new(self.source);
        for (tensor, &rung) in choice.iter().enumerate() {
            if wanted(self.layer(tensor)) {
                self.levels.put(&mut model, tensor, self.ladders.rungs(tensor)[rung].level)?;
            }
        }
        Ok(model)
    }

    /// Tensors in which a choice differs from the base.
    pub fn distance(&self, choice: &[usize]) -> usize {
        self.changed(choice).len()
    }

    fn changed(&self, choice: &[usize]) -> Vec<usize> {
        let pairs = choice.iter().zip(&self.base.choice).enumerate();
        pairs.filter(|(_, (new, old))| new != old).map(|(tensor, _)| tensor).collect()
    }

    fn layer(&self, tensor: usize) -> Option<usize> {
        self.source.tensors()[tensor].role.layer
    }

    /// Rows of some windows, which are all of one length.
    fn rows(&self, states: &Matrix, windows: &Range<usize>) -> Matrix {
        let (length, cols) = (self.windows[0].len(), states.cols());
        let rows = windows.start * length..windows.end * length;
        Matrix::from_vec(rows.len(), cols, states.data()[rows.start * cols..rows.end * cols].to_vec())
    }
}

fn options() -> Options {
    Options { activation: Activation::F32, ..Options::default() }
}

fn logits(states: &Matrix, head: &Head, vocab: usize) -> Matrix {
    let mut all = Matrix::zeros(states.rows(), vocab);
    let (mut normed, mut some) = (Matrix::default(), Matrix::default());
    for start in (0..states.rows()).step_by(ROWS) {
        let rows = start..(start + ROWS).min(states.rows());
        head.norm().apply(states.view().rows_range(rows.clone()), &mut normed);
        some.reshape(rows.len(), vocab);
        head.logits(&Input::new(normed.view(), Activation::F32), &mut some.view_mut());
        all.data_mut()[rows.start * vocab..rows.end * vocab].copy_from_slice(some.data());
    }
    all
}
