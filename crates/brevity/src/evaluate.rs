//! Text through one model or two: perplexity, bits per byte, and the divergence between them.
//!
//! Models are streamed, one block in memory at a time; the final hidden states of both are kept (`tokens × hidden`), then
//! their heads run side by side over a few rows at a time, so memory does not grow with the vocabulary.

use crate::progress::Show;
use crate::stop;
use anyhow::{Result, bail};
use brevity_cache::Spec;
use brevity_kernels::{Matrix, pool};
use brevity_measure::divergence::{self, Divergence, token_bits};
use brevity_measure::perplexity::Perplexity;
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Options, Sequence};
use brevity_model::source::WeightSource;
use brevity_model::stream::Stream;
use brevity_model::taps::{Place, Site, Tap};
use brevity_model::tokenizer::Tokenizer;
use brevity_model::weights::{BlockWeights, Head};
use brevity_model::{Config, ModelSource};
use brevity_parts::{Activation, Input};
use std::ops::Range;
use std::sync::Mutex;

/// Rows of logits that are computed at once.
const ROWS: usize = 64;

/// Windows of tokens, and which of each window's tokens count.
pub struct Text {
    pub windows: Vec<Vec<u32>>,
    /// Per window: positions whose logits predict a token that counts.
    pub scored: Vec<Range<usize>>,
    /// Bytes of the tokens that count.
    pub bytes: u64,
}

/// Which tokens of a window count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// All; each window begins with a token that is not text (beginning of sequence), so each byte is counted once.
    All,
    /// Those after the middle, in windows cut as llama.cpp's perplexity tool cuts them.
    SecondHalf,
}

impl Text {
    /// Cuts `text` into windows of `window` tokens, at most `chunks` of them.
    ///
    /// # Errors
    /// If the text is too short; the error says what is needed.
    pub fn cut(tokenizer: &Tokenizer, text: &str, window: usize, chunks: Option<usize>, score: Score) -> Result<Self> {
        if window < 8 {
            bail!("--window {window} is too small: 8 tokens are the least");
        }
        let chunks = chunks.unwrap_or(usize::MAX);
        let windows = match score {
            Score::All => Self::all_windows(tokenizer, text, window, chunks)?,
            Score::SecondHalf => Self::half_windows(tokenizer, text, window, chunks)?,
        };
        let first = if score == Score::All { 0 } else { window / 2 };
        let scored: Vec<Range<usize>> = windows.iter().map(|tokens| first..tokens.len() - 1).collect();
        let bytes = |(tokens, rows): (&Vec<u32>, &Range<usize>)| -> u64 {
            tokens[rows.start + 1..=rows.end].iter().map(|&token| tokenizer.token_bytes(token).len() as u64).sum()
        };
        let bytes = windows.iter().zip(&scored).map(bytes).sum();
        Ok(Self { windows, scored, bytes })
    }

    fn all_windows(tokenizer: &Tokenizer, text: &str, window: usize, chunks: usize) -> Result<Vec<Vec<u32>>> {
        let head: Vec<u32> = tokenizer.bos().or(tokenizer.eos()).into_iter().collect();
        let tokens = tokenizer.encode(text, false, false);
        let step = window - head.len();
        let windows = tokens.chunks(step).take(chunks).map(|part| [head.as_slice(), part].concat());
        let windows: Vec<Vec<u32>> = windows.filter(|tokens| tokens.len() >= 2).collect();
        if windows.is_empty() {
            bail!("the evaluation text is too short: {} tokens, and 2 are the least", tokens.len());
        }
        Ok(windows)
    }

    fn half_windows(tokenizer: &Tokenizer, text: &str, window: usize, chunks: usize) -> Result<Vec<Vec<u32>>> {
        let tokens = tokenizer.encode(text, true, false);
        if tokens.len() < 2 * window {
            let (found, needed) = (tokens.len(), 2 * window);
            bail!("the evaluation text is too short: {found} tokens, and --window {window} needs {needed} at least");
        }
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let mut windows: Vec<Vec<u32>> = tokens.chunks_exact(window).take(chunks).map(<[u32]>::to_vec).collect();
        if let Some(bos) = bos {
            windows.iter_mut().for_each(|tokens| tokens[0] = bos);
        }
        Ok(windows)
    }

    /// The token that follows row `index` of `rows` in a window.
    pub(crate) fn next(&self, window: usize, rows: &Range<usize>, index: usize) -> u32 {
        self.windows[window][rows.start + index + 1]
    }

    /// Tokens that count.
    pub fn tokens(&self) -> u64 {
        self.scored.iter().map(|rows| rows.len() as u64).sum()
    }
}

/// A model's hidden states after its last block, and its head.
pub struct Finished {
    states: Matrix,
    windows: Vec<Range<usize>>,
    head: Head,
    vocab: usize,
    options: Options,
}

impl Finished {
    /// Streams windows through all blocks.
    ///
    /// # Errors
    /// If weights cannot be read, or the user stopped.
    pub fn run(
        config: &Config,
        source: &dyn WeightSource,
        windows: &[Vec<u32>],
        options: Options,
        show: (Show, &'static str),
    ) -> Result<Self> {
        let stream = through_blocks(Stream::new(config, source, windows, options)?, config, source, None, show)?;
        let (windows, states) = (stream.windows().to_vec(), stream.into_states()?);
        Ok(Self { states, windows, head: Head::load(config, source)?, vocab: config.vocab, options })
    }

    /// Logits after `rows` of a window.
    pub fn logits(&self, window: usize, rows: Range<usize>, out: &mut Matrix) {
        let first = self.windows[window].start;
        let mut normed = Matrix::default();
        let states = self.states.view().rows_range(first + rows.start..first + rows.end);
        self.head.norm().apply(states, &mut normed);
        out.reshape(rows.len(), self.vocab);
        let input = Input::new(normed.view(), self.options.activation);
        self.head.logits(&input, &mut out.view_mut());
    }
}

/// Shows a tap the inputs of every linear, the head's included, while a stream goes through a model.
///
/// # Errors
/// If weights cannot be read, or the user stopped.
pub fn watch(
    stream: Stream,
    config: &Config,
    source: &dyn WeightSource,
    tap: &mut dyn Tap,
    show: (Show, &'static str),
) -> Result<()> {
    let mut stream = through_blocks(stream, config, source, Some(tap), show)?;
    let (norm, mut states, mut normed) = (Head::load_norm(config, source)?, Matrix::default(), Matrix::default());
    let count = stream.windows().last().map_or(0, |window| window.end);
    for start in (0..count).step_by(ROWS) {
        stream.rows(start..(start + ROWS).min(count), &mut states)?;
        norm.apply(states.view(), &mut normed);
        tap.linear(Site { layer: None, place: Place::Head }, normed.view());
    }
    Ok(())
}

fn through_blocks(
    mut stream: Stream,
    config: &Config,
    source: &dyn WeightSource,
    mut tap: Option<&mut dyn Tap>,
    show: (Show, &'static str),
) -> Result<Stream> {
    let phase = show.0.phase(show.1, config.layers() as u64);
    for layer in 0..config.layers() {
        stop::check()?;
        let weights = BlockWeights::load(config, layer, source)?;
        let tap = tap.as_mut().map(|tap| &mut **tap as &mut dyn Tap);
        stream.advance(layer, &weights, tap)?;
        phase.step();
    }
    Ok(stream)
}

/// What a model makes of a text.
///
/// # Errors
/// If the user stopped, or the logits hold NaN.
pub fn perplexity(model: &Finished, text: &Text, tokenizer: &Tokenizer) -> Result<Perplexity> {
    let mut total = Perplexity::new();
    let mut logits = Matrix::default();
    each_chunk(text, |window, rows| {
        model.logits(window, rows.clone(), &mut logits);
        let bits = in_parallel(rows.len(), |index| token_bits(logits.row(index), text.next(window, &rows, index)))?;
        for (index, bits) in bits.into_iter().enumerate() {
            let bytes = tokenizer.token_bytes(text.next(window, &rows, index)).len();
            total.add(window as u32, (rows.start + index) as u32, bits, bytes)?;
        }
        Ok(())
    })?;
    Ok(total)
}

/// What two models make of a text, and how far the second is from the first.
pub struct Comparison {
    pub before: Perplexity,
    pub after: Perplexity,
    pub divergence: Divergence,
}

/// Perplexities of both models and the divergence of `model` from `reference`.
///
/// # Errors
/// If the user stopped, the models have different vocabularies, or logits hold NaN.
pub fn compare(reference: &Finished, model: &Finished, text: &Text, tokenizer: &Tokenizer) -> Result<Comparison> {
    if reference.vocab != model.vocab {
        bail!("vocabularies of {} and {} tokens cannot be compared", reference.vocab, model.vocab);
    }
    let mut all = Comparison { before: Perplexity::new(), after: Perplexity::new(), divergence: Divergence::new() };
    let (mut p, mut q) = (Matrix::default(), Matrix::default());
    each_chunk(text, |window, rows| {
        reference.logits(window, rows.clone(), &mut p);
        model.logits(window, rows.clone(), &mut q);
        all.add(window, rows, (&p, &q), text, tokenizer)
    })?;
    Ok(all)
}

/// What a model makes of a text through a cache of its own, and how far that is from `reference`.
///
/// The tokens of a window before those that count are its prompt; the others go through the cache that is left of it.
/// Returns the most bytes that a cache held at a window's end as well.
///
/// # Errors
/// As [`compare`], and if the cache refuses.
pub fn compare_cached(
    reference: &Finished,
    model: &Model,
    spec: &Spec,
    text: &Text,
    tokenizer: &Tokenizer,
    show: (Show, &'static str),
) -> Result<(Comparison, u64)> {
    let phase = show.0.phase(show.1, text.windows.len() as u64);
    let mut all = Comparison { before: Perplexity::new(), after: Perplexity::new(), divergence: Divergence::new() };
    let (mut p, mut bytes) = (Matrix::default(), 0);
    for (window, scored) in text.scored.iter().enumerate() {
        let tokens = &text.windows[window];
        let mut cache = spec.cache(model.config(), tokens.len())?;
        model.forward(&mut [Sequence { tokens: &tokens[..scored.start], cache: &mut cache }], Logits::None, None)?;
        cache.end_prompt()?;
        for start in scored.clone().step_by(ROWS) {
            stop::check()?;
            let rows = start..(start + ROWS).min(scored.end);
            let sequence = Sequence { tokens: &tokens[rows.clone()], cache: &mut cache };
            let q = model.forward(&mut [sequence], Logits::All, None)?;
            reference.logits(window, rows.clone(), &mut p);
            all.add(window, rows, (&p, &q), text, tokenizer)?;
        }
        bytes = bytes.max(cache.bytes());
        phase.step();
    }
    Ok((all, bytes))
}

impl Comparison {
    /// Adds some rows of a window: the logits of the reference and of the model.
    fn add(
        &mut self,
        window: usize,
        rows: Range<usize>,
        (p, q): (&Matrix, &Matrix),
        text: &Text,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let measured = in_parallel(rows.len(), |index| {
            let next = text.next(window, &rows, index);
            let (p, q) = (p.row(index), q.row(index));
            Ok((token_bits(p, next)?, token_bits(q, next)?, divergence::compare(p, q, Some(next))?))
        })?;
        for (index, (before, after, row)) in measured.into_iter().enumerate() {
            let bytes = tokenizer.token_bytes(text.next(window, &rows, index)).len();
            let (window, position) = (window as u32, (rows.start + index) as u32);
            self.before.add(window, position, before, bytes)?;
            self.after.add(window, position, after, bytes)?;
            self.divergence.add(window, position, row);
        }
        Ok(())
    }
}

/// Measures of rows, in their order, computed on all threads.
pub(crate) fn in_parallel<T: Send>(
    rows: usize,
    measure: impl Fn(usize) -> Result<T, brevity_measure::Error> + Sync,
) -> Result<Vec<T>> {
    let slots: Vec<Mutex<Option<Result<T, brevity_measure::Error>>>> = (0..rows).map(|_| Mutex::new(None)).collect();
    pool::parallel(rows, |index| {
        let measured = measure(index);
        if let Ok(mut slot) = slots[index].lock() {
            *slot = Some(measured);
        }
    });
    let taken = slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten());
    taken.map(|measured| measured.map_err(Into::into)).collect()
}

/// Visits the scored rows of every window, a few at a time.
pub(crate) fn each_chunk(text: &Text, mut visit: impl FnMut(usize, Range<usize>) -> Result<()>) -> Result<()> {
    for (window, rows) in text.scored.iter().enumerate() {
        stop::check()?;
        for start in rows.clone().step_by(ROWS) {
            visit(window, start..(start + ROWS).min(rows.end))?;
        }
    }
    Ok(())
}

/// Streams a text through an opened model.
///
/// # Errors
/// As [`Finished::run`].
pub fn finish(source: &ModelSource, text: &Text, options: Options, show: (Show, &'static str)) -> Result<Finished> {
    Finished::run(source.config(), source, &text.windows, options, show)
}

/// The floor of the measurement: how far the compressed model is from itself when only the way of measuring changes.
///
/// With f32 activations that is another cut into chunks, which changes no bit, so the floor is 0; it is measured all the
/// same. With 8-bit activations it is the divergence that they cause by themselves.
///
/// # Errors
/// As [`Finished::run`].
pub fn floor(
    source: &ModelSource,
    measured: &Finished,
    text: &Text,
    tokenizer: &Tokenizer,
    options: Options,
    show: Show,
) -> Result<f64> {
    let part = Text { windows: text.windows[..1].to_vec(), scored: text.scored[..1].to_vec(), bytes: 0 };
    let other = match options.activation {
        Activation::F32 => Options { chunk: 61, ..options },
        Activation::Int8 => Options { activation: Activation::F32, ..options },
    };
    let again = finish(source, &part, other, (show, "floor"))?;
    let divergence = compare(&again, measured, &part, tokenizer)?.divergence;
    Ok(divergence.summary()?.mean)
}
