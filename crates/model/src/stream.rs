//! Many texts through a model of which one block is in memory at a time.
//!
//! Hidden states of all windows are kept (`tokens × hidden` f32), in memory or [in a file](Stream::spilled); each block is loaded, run on every window and dropped.
//! The bits are those of [`Model::forward`](crate::Model::forward) on each window with an empty f32 cache.

use std::ops::Range;

use brevity_kernels::rope::RopeTable;
use brevity_kernels::{Matrix, MatrixView};
use brevity_parts::Input;

use crate::block::{BlockPass, Scratch, Span, embed, positions};
use crate::cache::{CacheShape, CacheType, KvCache, PlainCache};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::forward::Options;
use crate::source::WeightSource;
use crate::states::States;
use crate::taps::{Place, Site, Tap};
use crate::weights::{BlockWeights, Embedding, Head};

/// Receives logits: window, position of the first row in it, one row a position.
pub type Visitor<'a> = dyn FnMut(usize, usize, MatrixView<'_>) -> Result<()> + 'a;

/// Tokens that are embedded at once.
const EMBEDDED: usize = 512;

/// The hidden states of windows on their way through the blocks.
pub struct Stream {
    config: Config,
    options: Options,
    windows: Vec<Range<usize>>,
    states: States,
    rope: Option<RopeTable>,
    tokens: Vec<(u32, usize)>,
    scratch: Scratch,
    caches: Vec<PlainCache>,
}

impl Stream {
    /// Embeds the windows; each begins at position 0.
    pub fn new(config: &Config, source: &dyn WeightSource, windows: &[Vec<u32>], options: Options) -> Result<Self> {
        let rows = windows.iter().map(Vec::len).sum();
        Self::with(config, source, windows, options, States::in_memory(rows, config.hidden))
    }

    /// As [`new`](Self::new), with the hidden states in a nameless file in place of memory.
    ///
    /// # Errors
    /// As [`new`](Self::new), or if there is no room for the file.
    pub fn spilled(config: &Config, source: &dyn WeightSource, windows: &[Vec<u32>], options: Options) -> Result<Self> {
        let rows = windows.iter().map(Vec::len).sum();
        Self::with(config, source, windows, options, States::on_disk(rows, config.hidden)?)
    }

    fn with(
        config: &Config,
        source: &dyn WeightSource,
        windows: &[Vec<u32>],
        options: Options,
        mut states: States,
    ) -> Result<Self> {
        check(config, windows)?;
        let embedding = Embedding::load(config, source)?;
        let mut ranges = Vec::with_capacity(windows.len());
        let mut tokens = Vec::new();
        for window in windows {
            ranges.push(tokens.len()..tokens.len() + window.len());
            tokens.extend(window.iter().zip(0..).map(|(&token, position)| (token, position)));
        }
        let mut x = Matrix::default();
        for first in (0..tokens.len()).step_by(EMBEDDED) {
            let tokens = &tokens[first..(first + EMBEDDED).min(tokens.len())];
            x.reshape(tokens.len(), config.hidden);
            embed(&embedding, tokens, &mut x.view_mut());
            states.write(first, &x)?;
        }
        Ok(Self {
            config: config.clone(),
            options,
            windows: ranges,
            states,
            rope: config.rope_table(),
            tokens,
            scratch: Scratch::default(),
            caches: Vec::new(),
        })
    }

    /// Copies rows of the input of the next block: one a token, window after window.
    ///
    /// # Errors
    /// If the file that holds them cannot be read.
    pub fn rows(&mut self, rows: Range<usize>, out: &mut Matrix) -> Result<()> {
        self.states.read(rows, out)
    }

    /// A copy of the input of the next block.
    ///
    /// # Errors
    /// If the file that holds it cannot be read.
    pub fn states(&mut self) -> Result<Matrix> {
        let mut all = Matrix::default();
        self.rows(0..self.tokens.len(), &mut all)?;
        Ok(all)
    }

    /// The hidden states, kept when the stream is done.
    ///
    /// # Errors
    /// If the file that holds them cannot be read.
    pub fn into_states(mut self) -> Result<Matrix> {
        match self.states {
            States::Memory(states) => Ok(states),
            States::Disk { .. } => self.states(),
        }
    }

    /// Goes back to hidden states taken earlier from [`states`](Self::states), to run from there with other weights.
    ///
    /// # Errors
    /// If the file that is to hold them cannot be written.
    ///
    /// # Panics
    /// If they are of another shape.
    pub fn set_states(&mut self, states: &Matrix) -> Result<()> {
        assert_eq!((states.rows(), states.cols()), (self.tokens.len(), self.config.hidden), "states of another stream");
        self.states.write(0, states)
    }

    /// How it runs.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Rows of each window.
    pub fn windows(&self) -> &[Range<usize>] {
        &self.windows
    }

    /// Moves every window through block `layer`.
    pub fn advance(&mut self, layer: usize, weights: &BlockWeights, tap: Option<&mut dyn Tap>) -> Result<()> {
        self.run(layer, weights, tap, None)
    }

    /// Lets a tap watch every window go through block `layer` up to the inputs of `until`, and leaves the states where they
    /// are.
    pub fn observe(&mut self, layer: usize, weights: &BlockWeights, until: Place, tap: &mut dyn Tap) -> Result<()> {
        self.run(layer, weights, Some(tap), Some(until))
    }

    fn run(
        &mut self,
        layer: usize,
        weights: &BlockWeights,
        mut tap: Option<&mut dyn Tap>,
        until: Option<Place>,
    ) -> Result<()> {
        let longest = self.windows.iter().map(Range::len).max().unwrap_or(0);
        let mut x = Matrix::default();
        for group in groups(&self.windows, self.options.chunk) {
            let rows = self.windows[group.start].start..self.windows[group.end - 1].end;
            self.states.read(rows.clone(), &mut x)?;
            let angles = self.rope.as_ref().map(|rope| rope.angles(&positions(&self.tokens[rows.clone()])));
            let pass = BlockPass {
                block: self.config.block(layer),
                weights,
                angles: angles.as_ref(),
                activation: self.options.activation,
                until,
                layer,
                cache_layer: 0,
            };
            let mut spans = self.spans(&group, rows.start);
            self.fresh_caches(group.len(), longest)?;
            let mut caches: Vec<&mut dyn KvCache> =
                self.caches.iter_mut().map(|cache| cache as &mut dyn KvCache).collect();
            pass.run(&mut x, &mut spans, None, &mut caches, &mut self.scratch, &mut tap)?;
            if until.is_none() {
                self.states.write(rows.start, &x)?;
            }
        }
        Ok(())
    }

    fn spans(&self, group: &Range<usize>, first: usize) -> Vec<Span> {
        let span = |window: usize| {
            let rows = &self.windows[window];
            Span { sequence: window, cache: window - group.start, rows: rows.start - first..rows.end - first, start: 0 }
        };
        group.clone().map(span).collect()
    }

    fn fresh_caches(&mut self, count: usize, longest: usize) -> Result<()> {
        let shape = CacheShape { layers: 1, ..CacheShape::of(&self.config) };
        while self.caches.len() < count {
            self.caches.push(PlainCache::new(shape, longest, CacheType::F32));
        }
        self.caches.iter_mut().try_for_each(|cache| cache.truncate(0))
    }

    /// Applies the last norm and the head, `options.chunk` rows at a time, and shows the logits.
    pub fn finish(
        mut self,
        source: &dyn WeightSource,
        mut tap: Option<&mut dyn Tap>,
        visit: &mut Visitor,
    ) -> Result<()> {
        let head = Head::load(&self.config, source)?;
        let (mut x, mut normed, mut logits) = (Matrix::default(), Matrix::default(), Matrix::default());
        let chunk = self.options.chunk.clamp(1, 128);
        for (window, rows) in self.windows.iter().enumerate() {
            for first in rows.clone().step_by(chunk) {
                let end = (first + chunk).min(rows.end);
                self.states.read(first..end, &mut x)?;
                head.norm().apply(x.view(), &mut normed);
                if let Some(tap) = &mut tap {
                    tap.linear(Site { layer: None, place: Place::Head }, normed.view());
                }
                logits.reshape(end - first, self.config.vocab);
                let input = Input::new(normed.view(), self.options.activation);
                head.logits(&input, &mut logits.view_mut());
                visit(window, first - rows.start, logits.view())?;
            }
        }
        Ok(())
    }
}

/// Runs windows through a whole model, one block in memory at a time.
pub fn run(
    config: &Config,
    source: &dyn WeightSource,
    windows: &[Vec<u32>],
    options: Options,
    mut tap: Option<&mut dyn Tap>,
    visit: &mut Visitor,
) -> Result<()> {
    let mut stream = Stream::new(config, source, windows, options)?;
    for layer in 0..config.layers() {
        let weights = BlockWeights::load(config, layer, source)?;
        let tap = tap.as_mut().map(|tap| &mut **tap as &mut dyn Tap);
        stream.advance(layer, &weights, tap)?;
    }
    stream.finish(source, tap, visit)
}

fn check(config: &Config, windows: &[Vec<u32>]) -> Result<()> {
    let (vocab, limit) = (config.vocab, config.context);
    for window in windows {
        if let Some(&token) = window.iter().find(|&&token| token as usize >= vocab) {
            return Err(Error::Token { token, vocab });
        }
        if window.len() > limit {
            return Err(Error::ContextOverflow { capacity: limit, wanted: window.len(), limit });
        }
    }
    Ok(())
}

/// Consecutive windows of about `chunk` rows together, at least one each.
fn groups(windows: &[Range<usize>], chunk: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if window.end - windows[group.start].start <= chunk => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}
