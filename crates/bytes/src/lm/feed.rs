//! Several texts through one model at once.
//!
//! A [`Reading`] holds a cache of what the model has read of a lane: a lane has one for each way its last bytes may be cut into tokens, and those
//! share the blocks of what is certain. What a row of logits says depends on its own reading alone,
//! and not on the batch (the promise of `brevity_kernels`), so both directions of a coder see the same bits.
//!
//! A cache holds [`WINDOW`] positions ([`cache`](super::cache)); one that reaches the end of the model's context begins again behind the
//! last half of a window.

use super::cache::LaneCache;
use super::predictor::Predictor;
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheShape, KvCache};
use brevity_model::{Logits, Result, Sequence};

/// Positions that a cache holds, where the model has as many.
pub const WINDOW: usize = 3072;
/// Tokens that may follow what is certain.
pub const OPEN: usize = 64;

/// What the model has read of a lane, from a token on.
#[derive(Clone)]
pub struct Reading {
    cache: LaneCache,
    from: usize,
}

/// What is certain of a lane.
struct Lane {
    tokens: Vec<u32>,
    /// What readings begin again with, for a while.
    root: Option<Reading>,
}

/// The lanes of a model.
pub struct Feed<'m> {
    predictor: &'m Predictor,
    lanes: Vec<Lane>,
    context: usize,
    window: usize,
}

/// Logits are wanted after what is certain of a lane and some tokens more.
pub struct Ask<'a> {
    pub lane: usize,
    pub tail: &'a [u32],
    /// Has read a part of that.
    pub reading: &'a mut Reading,
}

impl<'m> Feed<'m> {
    /// Lanes that begin with the model's first token.
    pub fn new(predictor: &'m Predictor, lanes: usize) -> Self {
        let context = predictor.model().config().context;
        let lane = || Lane { tokens: vec![predictor.start()], root: None };
        Self { predictor, lanes: (0..lanes).map(|_| lane()).collect(), context, window: context.min(WINDOW) }
    }

    /// One that has read nothing.
    pub fn reading(&self) -> Reading {
        Reading { cache: LaneCache::new(CacheShape::of(self.predictor.model().config()), self.context), from: 0 }
    }

    /// A lane begins with the first one's tokens; readings of that are readings of this.
    pub fn follow(&mut self, lane: usize) {
        self.lanes[lane].tokens = self.lanes[0].tokens.clone();
    }

    /// Tokens that a lane goes on with.
    pub fn push(&mut self, lane: usize, tokens: &[u32]) {
        let lane = &mut self.lanes[lane];
        lane.tokens.extend_from_slice(tokens);
        lane.root.take_if(|root| lane.tokens.len() - root.end() > OPEN);
    }

    /// A reading of what is certain, of one of that and more.
    pub fn back(&self, lane: usize, mut reading: Reading) -> Option<Reading> {
        let certain = self.lanes[lane].tokens.len();
        if reading.end() > certain {
            reading.cache.truncate(certain.checked_sub(reading.from)?).ok()?;
        }
        Some(reading)
    }

    /// A row of logits for each ask.
    pub fn evaluate(&mut self, mut asks: Vec<Ask<'_>>) -> Result<Matrix> {
        let fresh: Vec<Vec<u32>> = asks.iter_mut().map(|ask| self.prepare(ask)).collect::<Result<_>>()?;
        let mut batch: Vec<Sequence<'_>> = asks
            .iter_mut()
            .zip(&fresh)
            .map(|(ask, tokens)| Sequence { tokens, cache: &mut ask.reading.cache as &mut dyn KvCache })
            .collect();
        self.predictor.model().forward(&mut batch, Logits::Last, None)
    }

    /// Makes room for what a reading has not read, and returns that.
    fn prepare(&mut self, Ask { lane, tail, reading }: &mut Ask<'_>) -> Result<Vec<u32>> {
        let (certain, window) = (self.lanes[*lane].tokens.len(), self.window);
        let total = certain + tail.len();
        // What is far behind begins again too, with less to read.
        if total - reading.from > self.context || total.saturating_sub(reading.end()) > window / 2 {
            let keep = (window / 2).max(tail.len() + 1);
            **reading = self.root(*lane, reading.from, total.saturating_sub(keep).min(certain - 1))?;
        }
        // The last one is read again where nothing else would be.
        if reading.end() >= total {
            reading.cache.truncate(total - 1 - reading.from)?;
        }
        let tokens = &self.lanes[*lane].tokens;
        let fresh: Vec<u32> = tokens.iter().chain(*tail).skip(reading.end()).copied().collect();
        reading.cache.make_room(fresh.len(), window);
        Ok(fresh)
    }

    /// A reading of what is certain of a lane, that begins behind `from`: at `start`, or where another one of these tokens began again.
    fn root(&mut self, lane: usize, from: usize, start: usize) -> Result<Reading> {
        if let Some(root) = self.lanes[lane].root.as_ref().filter(|root| root.from > from) {
            return Ok(root.clone());
        }
        let mut root = Reading { from: start, ..self.reading() };
        let tokens = &self.lanes[lane].tokens[start..];
        let mut batch = [Sequence { tokens, cache: &mut root.cache }];
        self.predictor.model().forward(&mut batch, Logits::None, None)?;
        self.lanes[lane].root = Some(root.clone());
        Ok(root)
    }
}

impl Reading {
    /// The token behind those that it has read.
    fn end(&self) -> usize {
        self.from + self.cache.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brevity_model::ModelSource;
    use std::path::Path;

    #[test]
    fn readings_begin_again_together_and_say_what_new_ones_would() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
        let nano = Predictor::load(&ModelSource::open(&path).unwrap(), "nano").unwrap();
        let mut feed = Feed { context: 24, window: 24, ..Feed::new(&nano, 1) };
        let mut readings = [feed.reading(), feed.reading()];
        let (plain, more) = ([].as_slice(), [300, 301].as_slice());
        let mut begun = vec![0];
        for token in 400..460 {
            feed.push(0, &[token]);
            let [one, two] = &mut readings;
            let asks = vec![Ask { lane: 0, tail: plain, reading: one }, Ask { lane: 0, tail: more, reading: two }];
            let rows = feed.evaluate(asks).unwrap();
            for (i, (reading, tail)) in readings.iter().zip([plain, more]).enumerate() {
                let tokens = [&feed.lanes[0].tokens[reading.from..], tail].concat();
                assert!(tokens.len() <= feed.context && reading.cache.len() == tokens.len());
                let mut fresh = feed.reading();
                let mut batch = [Sequence { tokens: &tokens, cache: &mut fresh.cache }];
                let expected = nano.model().forward(&mut batch, Logits::Last, None).unwrap();
                assert_eq!(rows.row(i), expected.row(0), "token {token}");
            }
            begun.push(readings[1].from);
            // Two tokens more reach the end sooner; the other follows where that one began.
            assert!(readings[0].from == readings[1].from || readings[0].end() - readings[0].from >= feed.context - 2);
            readings[1] = feed.back(0, readings[1].clone()).unwrap();
        }
        begun.dedup();
        assert!(begun.len() > 3 && begun.is_sorted(), "{begun:?}");
    }
}
