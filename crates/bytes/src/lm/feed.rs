//! Several texts through one model at once.
//!
//! Each lane holds a cache of what the model has read of it. What a row of logits says depends on its own lane alone,
//! and not on the batch (the promise of `brevity_kernels`), so both directions of a coder see the same bits.
//!
//! A cache holds [`WINDOW`] positions ([`cache`](super::cache)); a lane that reaches the end of the model's context begins again behind the
//! last half of a window.

use super::cache::LaneCache;
use super::predictor::Predictor;
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheShape, KvCache};
use brevity_model::{Logits, Result, Sequence};

/// Positions that a cache holds, where the model has as many.
pub const WINDOW: usize = 3072;

/// What the model has read of one text.
#[derive(Clone)]
struct Lane {
    cache: LaneCache,
    /// Tokens at the positions of the cache.
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
    context: usize,
    window: usize,
}

/// Tokens of a lane that follow what is certain there; logits after the last of them are wanted.
pub struct Ask<'a> {
    pub lane: usize,
    pub tail: &'a [u32],
}

impl<'m> Feed<'m> {
    /// Lanes that begin with the model's first token.
    pub fn new(predictor: &'m Predictor, lanes: usize) -> Self {
        let config = predictor.model().config();
        let lane = Lane {
            cache: LaneCache::new(CacheShape::of(config), config.context),
            held: Vec::new(),
            base: vec![predictor.start()],
            same: 0,
        };
        Self { predictor, lanes: vec![lane; lanes], context: config.context, window: config.context.min(WINDOW) }
    }

    /// A lane begins with what the first one has read.
    pub fn follow(&mut self, lane: usize) {
        self.lanes[lane] = self.lanes[0].clone();
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
        let (window, context) = (self.window, self.context);
        let mut fresh = Vec::with_capacity(asks.len());
        for (lane, tail) in self.lanes.iter_mut().zip(&wanted) {
            if let Some(tail) = tail {
                fresh.push(lane.prepare(tail, window, context)?);
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
    fn prepare(&mut self, tail: &[u32], window: usize, context: usize) -> Result<Vec<u32>> {
        let mut common = self.common(tail);
        // What is far behind begins again too, with less to read.
        let total = self.base.len() + tail.len();
        if total > context || total - common > window / 2 {
            let keep = (window / 2).max(tail.len() + 1);
            let gone = total.saturating_sub(keep).min(self.base.len() - 1);
            self.base.drain(..gone);
            (self.same, common) = (0, 0);
        }
        let rest = self.base.iter().chain(tail).skip(common);
        let fresh: Vec<u32> = rest.copied().collect();
        self.cache.truncate(common)?;
        self.cache.make_room(fresh.len(), window);
        self.held.truncate(common);
        self.held.extend_from_slice(&fresh);
        self.same = self.base.len();
        Ok(fresh)
    }

    /// How many positions of the cache hold what they should. The last one is read again where nothing else would be: its
    /// logits are wanted.
    fn common(&self, tail: &[u32]) -> usize {
        let total = self.base.len() + tail.len();
        let rest = self.base.iter().chain(tail).zip(&self.held).skip(self.same.min(total));
        let more = rest.take_while(|(wanted, held)| wanted == held).count();
        (self.same.min(total) + more).min(total - 1)
    }
}
