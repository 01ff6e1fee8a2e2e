//! Several texts through one model at once.
//!
//! Each lane holds a cache of what the model has read of it. What a row of logits says depends on its own lane alone,
//! and not on the batch (the promise of `brevity_kernels`), so both directions of a coder see the same bits.
//!
//! The cache slides: one that is full begins again behind the last third of what it held.

use super::predictor::Predictor;
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheType, KvCache, PlainCache};
use brevity_model::{Logits, Result, Sequence};

/// Positions of a cache, where the model has as many.
pub const WINDOW: usize = 3072;

/// What the model has read of one text.
struct Lane {
    cache: PlainCache,
    /// Tokens in the cache.
    held: Vec<u32>,
    /// Tokens that are certain.
    base: Vec<u32>,
    /// So many of both are the same.
    same: usize,
}

/// The lanes of a model.
pub struct Feed<'m> {
    predictor: &'m Predictor,
    lanes: Vec<Lane>,
    window: usize,
}

/// Tokens of a lane that follow what is certain there; logits after the last of them are wanted.
pub struct Ask<'a> {
    pub lane: usize,
    pub tail: &'a [u32],
}

impl<'m> Feed<'m> {
    /// Lanes that begin with the model's first token.
    pub fn new(predictor: &'m Predictor, lanes: usize) -> Result<Self> {
        let model = predictor.model();
        let window = model.config().context.min(WINDOW);
        let lane = |_| {
            let cache = model.new_cache(window, CacheType::F16)?;
            Ok(Lane { cache, held: Vec::new(), base: vec![predictor.start()], same: 0 })
        };
        Ok(Self { predictor, lanes: (0..lanes).map(lane).collect::<Result<_>>()?, window })
    }

    /// Tokens that a lane goes on with.
    pub fn push(&mut self, lane: usize, tokens: &[u32]) {
        self.lanes[lane].base.extend_from_slice(tokens);
    }

    /// A row of logits for each ask; a lane asks at most once.
    pub fn evaluate(&mut self, asks: &[Ask<'_>]) -> Result<Matrix> {
        let mut wanted: Vec<Option<&[u32]>> = vec![None; self.lanes.len()];
        for ask in asks {
            wanted[ask.lane] = Some(ask.tail);
        }
        let window = self.window;
        let mut fresh = Vec::with_capacity(asks.len());
        for (lane, tail) in self.lanes.iter_mut().zip(&wanted) {
            if let Some(tail) = tail {
                fresh.push(lane.prepare(tail, window)?);
            }
        }
        let lanes = self.lanes.iter_mut().zip(&wanted).filter(|(_, tail)| tail.is_some());
        let mut batch: Vec<Sequence<'_>> = lanes
            .zip(&fresh)
            .map(|((lane, _), tokens)| Sequence { tokens, cache: &mut lane.cache as &mut dyn KvCache })
            .collect();
        self.predictor.model().forward(&mut batch, Logits::Last, None)
    }
}

impl Lane {
    /// Cuts the cache back to what it shares with the certain tokens and `tail`; returns what is to be read.
    fn prepare(&mut self, tail: &[u32], window: usize) -> Result<Vec<u32>> {
        let keep = window / 3;
        if self.base.len() + tail.len() > window {
            let gone = (self.base.len() + tail.len()).saturating_sub(keep).min(self.base.len() - 1);
            self.base.drain(..gone);
            self.held.clear();
            self.same = 0;
        }
        let total = self.base.len() + tail.len();
        let token = |at: usize| self.base.get(at).or_else(|| tail.get(at - self.base.len())).copied();
        let mut common = self.same.min(total);
        while common < total.min(self.held.len()) && token(common) == Some(self.held[common]) {
            common += 1;
        }
        // The last one is read again where nothing else would be: its logits are wanted.
        let common = common.min(total - 1);
        let fresh: Vec<u32> = (common..total).filter_map(token).collect();
        self.cache.truncate(common)?;
        self.held.truncate(common);
        self.held.extend_from_slice(&fresh);
        self.same = self.base.len();
        Ok(fresh)
    }
}
