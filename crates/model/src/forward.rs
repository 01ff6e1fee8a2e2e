//! The whole model in memory, and its forward pass.

use std::sync::Mutex;

use brevity_kernels::Matrix;
use brevity_kernels::rope::RopeTable;
use brevity_parts::{Activation, Input};

use crate::block::{BlockPass, Scratch, Span, embed, positions};
use crate::cache::{CacheShape, CacheType, KvCache, PlainCache};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::WeightSource;
use crate::taps::{Place, Site, Tap};
use crate::weights::{BlockWeights, Embedding, Head};

/// How a model runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Activations for integer weights: 8 bit (fast) or f32 (exact; for measurements below 0.01 bit).
    pub activation: Activation,
    /// Rows that go through the model at once; more take more memory. Changes no bit of the result.
    pub chunk: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { activation: Activation::Int8, chunk: 512 }
    }
}

/// A model, ready to run.
pub struct Model {
    config: Config,
    options: Options,
    embedding: Embedding,
    blocks: Vec<BlockWeights>,
    head: Head,
    rope: Option<RopeTable>,
    scratch: Mutex<Vec<Workspace>>,
}

#[derive(Default)]
struct Workspace {
    x: Matrix,
    normed: Matrix,
    block: Scratch,
}

/// New tokens of one sequence, and what it remembers of those before.
pub struct Sequence<'a> {
    /// Tokens that follow those in the cache.
    pub tokens: &'a [u32],
    /// Its cache.
    pub cache: &'a mut dyn KvCache,
}

/// Which logits a forward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// Those after the last token of each sequence, one row a sequence.
    Last,
    /// Those after every token: the rows of the first sequence, then those of the second, …
    All,
    /// None: the caches are filled.
    None,
}

impl Model {
    /// Reads all weights.
    pub fn load(source: &crate::ModelSource, options: Options) -> Result<Self> {
        Self::from_weights(source.config().clone(), source, options)
    }

    /// A model with weights from anywhere.
    pub fn from_weights(config: Config, source: &dyn WeightSource, options: Options) -> Result<Self> {
        let embedding = Embedding::load(&config, source)?;
        let blocks =
            (0..config.layers()).map(|layer| BlockWeights::load(&config, layer, source)).collect::<Result<_>>()?;
        let head = Head::load_beside(&config, source, &embedding)?;
        let rope = config.rope_table();
        Ok(Self { config, options, embedding, blocks, head, rope, scratch: Mutex::default() })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it runs.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Sets how it runs from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Replaces the weights of a block.
    pub fn set_block(&mut self, layer: usize, weights: BlockWeights) {
        self.blocks[layer] = weights;
    }

    /// Bytes that the matrices take in memory.
    pub fn resident_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(BlockWeights::resident_bytes).sum();
        self.embedding.resident_bytes() + blocks + self.head.resident_bytes()
    }

    /// A plain cache for up to `capacity` positions.
    pub fn new_cache(&self, capacity: usize, ty: CacheType) -> Result<PlainCache> {
        if capacity > self.config.context {
            let limit = self.config.context;
            return Err(Error::ContextOverflow { capacity: limit, wanted: capacity, limit });
        }
        Ok(PlainCache::new(CacheShape::of(&self.config), capacity, ty))
    }

    /// Runs new tokens of several sequences. Each row of logits depends on its own sequence alone, and not on how
    /// tokens are split into calls, chunks or batches.
    ///
    /// # Errors
    /// A token outside the vocabulary or a full cache, before anything has changed; an error of a cache.
    pub fn forward(&self, batch: &mut [Sequence<'_>], logits: Logits, mut tap: Option<&mut dyn Tap>) -> Result<Matrix> {
        self.check(batch)?;
        let mut workspace = self.scratch.lock().map_or_else(|_| None, |mut all| all.pop()).unwrap_or_default();
        let total: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        let rows = match logits {
            Logits::All => total,
            Logits::Last => batch.iter().filter(|sequence| !sequence.tokens.is_empty()).count(),
            Logits::None => 0,
        };
        let mut out = Matrix::zeros(rows, if rows == 0 { 0 } else { self.config.vocab });
        let mut done = 0;
        let mut at = Cursor { sequence: 0, token: 0 };
        while let Some(pass) = at.next_pass(batch, self.options.chunk.max(1)) {
            done += self.pass(batch, pass, logits, &mut tap, &mut workspace, &mut out, done)?;
        }
        if let Ok(mut all) = self.scratch.lock() {
            all.push(workspace);
        }
        Ok(out)
    }

    fn check(&self, batch: &[Sequence<'_>]) -> Result<()> {
        let vocab = self.config.vocab;
        for sequence in batch {
            if let Some(&token) = sequence.tokens.iter().find(|&&token| token as usize >= vocab) {
                return Err(Error::Token { token, vocab });
            }
            let (wanted, limit) = (sequence.cache.len() + sequence.tokens.len(), self.config.context);
            let capacity = sequence.cache.capacity().min(limit);
            if wanted > capacity {
                return Err(Error::ContextOverflow { capacity, wanted, limit });
            }
        }
        Ok(())
    }

    /// One chunk through all blocks; returns how many rows of logits it wrote.
    #[allow(clippy::too_many_arguments)]
    fn pass(
        &self,
        batch: &mut [Sequence<'_>],
        pass: Pass,
        logits: Logits,
        tap: &mut Option<&mut dyn Tap>,
        workspace: &mut Workspace,
        out: &mut Matrix,
        done: usize,
    ) -> Result<usize> {
        let Pass { mut spans, tokens, wanted } = pass;
        let wanted = match logits {
            Logits::All => None,
            Logits::Last => Some(wanted),
            Logits::None => Some(Vec::new()),
        };
        let Workspace { x, normed, block: scratch } = workspace;
        x.reshape(tokens.len(), self.config.hidden);
        embed(&self.embedding, &tokens, &mut x.view_mut());
        let angles = self.rope.as_ref().map(|rope| rope.angles(&positions(&tokens)));
        let mut caches: Vec<&mut dyn KvCache> = batch.iter_mut().map(|s| &mut *s.cache as &mut dyn KvCache).collect();
        let whole = spans.clone();
        let skips = tap.is_none() && !spans.iter().any(|span| caches[span.cache].watches_queries());
        for (layer, weights) in self.blocks.iter().enumerate() {
            let last = layer + 1 == self.blocks.len();
            let keep = wanted.as_deref().filter(|_| last && skips);
            let block = BlockPass {
                block: self.config.block(layer),
                weights,
                angles: angles.as_ref(),
                activation: self.options.activation,
                until: None,
                layer,
                cache_layer: layer,
            };
            block.run(x, &mut spans, keep, &mut caches, scratch, tap)?;
        }
        whole.iter().for_each(|span| caches[span.cache].advance(span.rows.len()));
        self.head.norm().apply(x.view(), normed);
        if let Some(tap) = tap {
            tap.linear(Site { layer: None, place: Place::Head }, normed.view());
        }
        if let Some(wanted) = wanted.filter(|_| !skips) {
            crate::block::gather(normed, &wanted);
        }
        let rows = normed.rows();
        if rows > 0 {
            let input = Input::new(normed.view(), self.options.activation);
            let mut all = out.view_mut();
            self.head.logits(&input, &mut all.rows_range(done..done + rows));
        }
        Ok(rows)
    }
}

/// The rows of one chunk.
struct Pass {
    spans: Vec<Span>,
    /// Token and position of each row.
    tokens: Vec<(u32, usize)>,
    /// Rows that are the last of their sequence.
    wanted: Vec<usize>,
}

/// Where the next chunk begins.
struct Cursor {
    sequence: usize,
    token: usize,
}

impl Cursor {
    /// Takes the next `limit` rows; a cache's length moves on between calls, so positions are counted from it.
    fn next_pass(&mut self, batch: &[Sequence<'_>], limit: usize) -> Option<Pass> {
        let mut pass = Pass { spans: Vec::new(), tokens: Vec::new(), wanted: Vec::new() };
        while let Some(sequence) = batch.get(self.sequence) {
            let left = &sequence.tokens[self.token..];
            let most = sequence.cache.pass_limit().max(1);
            let take = left.len().min(limit - pass.tokens.len()).min(most);
            if take > 0 {
                let (first, start) = (pass.tokens.len(), sequence.cache.len());
                let rows = first..first + take;
                pass.tokens.extend(left[..take].iter().zip(start..).map(|(&token, position)| (token, position)));
                pass.spans.push(Span { sequence: self.sequence, cache: self.sequence, rows, start });
                self.token += take;
            }
            if self.token < sequence.tokens.len() {
                return Some(pass);
            }
            if !sequence.tokens.is_empty() {
                pass.wanted.push(pass.tokens.len() - 1);
            }
            (self.sequence, self.token) = (self.sequence + 1, 0);
        }
        (!pass.tokens.is_empty()).then_some(pass)
    }
}
