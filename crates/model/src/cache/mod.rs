//! The KV cache: what a sequence remembers.
//!
//! A cache belongs to one sequence. Positions count from 0 at the beginning of the text and a cache stores them in
//! blocks of 64 absolute positions, so that how a prompt was chunked cannot show. A forward pass appends the rows of
//! each layer, attends, and [`advance`](KvCache::advance)s once every layer has them; a pass that fails leaves the cache
//! at its old length.

mod plain;

pub use plain::{CacheType, PlainCache};

use brevity_kernels::{MatrixMut, MatrixView};

use crate::arch::Attention;
use crate::config::Config;
use crate::error::Result;

/// Receives the weights of one query row: head, position of the query, position of the first weight, weights.
pub type AttentionObserver<'a> = dyn FnMut(usize, usize, usize, &[f32]) + 'a;

/// The queries of one layer.
pub struct Queries<'a> {
    /// Rows of `heads · head_dim` values, rotated.
    pub rows: MatrixView<'a>,
    /// Position of the first row; the others follow.
    pub start: usize,
    /// Sees at most so many positions, itself included.
    pub window: Option<usize>,
}

/// Keys and values of one sequence.
pub trait KvCache: Send {
    /// Positions complete in every layer: the position of the next token.
    fn len(&self) -> usize;

    /// Whether nothing is stored.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that fit.
    fn capacity(&self) -> usize;

    /// Stores keys (rotated) and values of consecutive positions from `start`; rows of `kv_heads · head_dim` values.
    /// `start` is at most the number of positions that this layer holds; what lay beyond it is overwritten.
    fn append(&mut self, layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> Result<()>;

    /// `out[i] = softmax(q[i]·Kᵀ / √head_dim)·V` over the positions up to `start + i`.
    fn attend(
        &mut self,
        layer: usize,
        queries: Queries<'_>,
        out: &mut MatrixMut<'_>,
        observer: Option<&mut AttentionObserver<'_>>,
    ) -> Result<()>;

    /// Declares `rows` more positions complete.
    fn advance(&mut self, rows: usize);

    /// Says that the prompt ends here: a cache that shrinks what it holds of the prompt does so now.
    fn end_prompt(&mut self) -> Result<()> {
        Ok(())
    }

    /// How many rows may come before the next [`advance`](Self::advance), 1 at least: a cache that changes what it holds at
    /// certain positions lets no pass cross them.
    fn pass_limit(&self) -> usize {
        usize::MAX
    }

    /// Whether every query must be attended, also those whose output nobody wants.
    fn watches_queries(&self) -> bool {
        false
    }

    /// Forgets the positions from `len` on. A cache that has dropped positions before that refuses, unless `len` is 0.
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// Bytes that keys and values take.
    fn bytes(&self) -> u64;
}

/// What a cache must know of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Blocks of the model.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// The shape that a model's cache has.
    pub fn of(config: &Config) -> Self {
        let Attention { heads, kv_heads, head_dim, .. } = config.attention;
        Self { layers: config.layers(), heads, kv_heads, head_dim }
    }
}
