//! What a text left in a cache, taken out and put back.

use crate::{Cache, Error, Spec};
use brevity_kernels::rope::{RopeAngles, RopeTable};
use brevity_kernels::{Matrix, MatrixMut, MatrixView};
use brevity_model::Config;
use brevity_model::cache::{AttentionObserver, CacheShape, KvCache, Queries};
use brevity_model::error::Result as ModelResult;

/// Keys and values of a text.
pub struct Context {
    pub(super) shape: CacheShape,
    /// A layer each: tokens × (key-value heads · head size), turned by rope.
    pub(super) keys: Vec<Matrix>,
    pub(super) values: Vec<Matrix>,
    /// A layer each: root mean square of the queries in each channel of each key-value head, over √(head size).
    pub(super) weights: Vec<Vec<f32>>,
    pub(super) rope: Option<RopeTable>,
}

impl Context {
    /// What a model must know of it.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.keys.first().map_or(0, Matrix::rows)
    }

    /// Bytes that keys and values would take in f16.
    pub fn f16_bytes(&self) -> u64 {
        4 * (self.tokens() * self.shape.layers * self.shape.kv_heads * self.shape.head_dim) as u64
    }

    /// The first tokens alone.
    pub fn first(&self, tokens: usize) -> Context {
        let cut = |all: &[Matrix]| all.iter().map(|rows| rows.view().rows_range(0..tokens).to_matrix()).collect();
        Context {
            keys: cut(&self.keys),
            values: cut(&self.values),
            weights: self.weights.clone(),
            rope: self.rope.clone(),
            shape: self.shape,
        }
    }

    fn angles(&self, tokens: usize) -> Option<RopeAngles> {
        let positions: Vec<u32> = (0..tokens as u32).collect();
        self.rope.as_ref().map(|rope| rope.angles(&positions))
    }

    /// Keys as they were before rope.
    pub(super) fn unturned(&self) -> Vec<Matrix> {
        let mut keys = self.keys.clone();
        if let Some(angles) = self.angles(self.tokens()).map(|angles| angles.inverse()) {
            keys.iter_mut().for_each(|keys| angles.apply(&mut keys.view_mut(), self.shape.head_dim));
        }
        keys
    }

    /// Turns keys of so many tokens by rope.
    pub(super) fn turn(&self, tokens: usize, mut keys: Vec<Matrix>) -> Vec<Matrix> {
        if let Some(angles) = self.angles(tokens) {
            keys.iter_mut().for_each(|keys| angles.apply(&mut keys.view_mut(), self.shape.head_dim));
        }
        keys
    }

    /// A cache that holds this, as if it had read the text as its prompt. No queries are known: keys of few bits are rounded to the
    /// nearest.
    ///
    /// # Errors
    /// If the composition drops tokens by what it observes of queries, which are not there; if the model is another.
    pub fn cache(&self, spec: &Spec, config: &Config, capacity: usize) -> Result<Cache, brevity_model::Error> {
        let selection = spec.selection().is_some_and(|selection| selection.observes().anything());
        if selection || spec.store().tiers().is_some() {
            return Err(Error::Unobserved { spec: spec.to_string() }.into());
        }
        let mut cache = spec.cache(config, capacity)?;
        while cache.len() < self.tokens() {
            let first = cache.len();
            let rows = first..first.saturating_add(cache.pass_limit()).min(self.tokens());
            for layer in 0..self.shape.layers {
                let (k, v) = (self.keys[layer].view(), self.values[layer].view());
                cache.append(layer, first, k.rows_range(rows.clone()), v.rows_range(rows.clone()))?;
            }
            cache.advance(rows.len());
        }
        cache.end_prompt()?;
        Ok(cache)
    }
}

/// A cache that remembers what a [`Context`] needs, while a model reads a text.
pub struct Watch {
    shape: CacheShape,
    capacity: usize,
    inner: Cache,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Sums of squares of the queries in each channel of each key-value head, and how many went in.
    squares: Vec<Vec<f64>>,
    counts: Vec<u64>,
    rope: Option<RopeTable>,
}

impl Watch {
    /// An empty one for a model.
    ///
    /// # Errors
    /// If the capacity exceeds the model's context.
    pub fn new(config: &Config, capacity: usize) -> Result<Watch, Error> {
        let shape = CacheShape::of(config);
        let inner = Spec::parse("f32")?.cache(config, capacity)?;
        let none = || vec![Vec::new(); shape.layers];
        let squares = vec![vec![0.0; shape.kv_heads * shape.head_dim]; shape.layers];
        let (keys, values) = (none(), none());
        let counts = vec![0; shape.layers];
        Ok(Watch { shape, capacity, inner, keys, values, squares, counts, rope: config.rope_table() })
    }

    /// What the text left.
    pub fn context(self) -> Context {
        let (len, width) = (self.inner.len(), self.shape.kv_heads * self.shape.head_dim);
        let rows = |all: Vec<Vec<f32>>| -> Vec<Matrix> {
            all.into_iter()
                .map(|mut data| {
                    data.truncate(len * width);
                    Matrix::from_vec(len, width, data)
                })
                .collect()
        };
        let root = |(squares, &count): (&Vec<f64>, &u64)| -> Vec<f32> {
            let over = count.max(1) as f64 * self.shape.head_dim as f64;
            squares.iter().map(|square| (square / over).sqrt() as f32).collect()
        };
        let weights = self.squares.iter().zip(&self.counts).map(root).collect();
        Context { shape: self.shape, keys: rows(self.keys), values: rows(self.values), weights, rope: self.rope }
    }
}

impl KvCache for Watch {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn append(&mut self, layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> ModelResult<()> {
        self.inner.append(layer, start, k, v)?;
        for (to, from) in [(&mut self.keys[layer], k), (&mut self.values[layer], v)] {
            to.truncate(start * from.cols());
            (0..from.rows()).for_each(|row| to.extend_from_slice(from.row(row)));
        }
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Queries<'_>,
        out: &mut MatrixMut<'_>,
        observer: Option<&mut AttentionObserver<'_>>,
    ) -> ModelResult<()> {
        let (dim, group) = (self.shape.head_dim, self.shape.heads / self.shape.kv_heads);
        for row in 0..queries.rows.rows() {
            for (head, q) in queries.rows.row(row).chunks_exact(dim).enumerate() {
                let sums = &mut self.squares[layer][head / group * dim..][..dim];
                sums.iter_mut().zip(q).for_each(|(sum, &q)| *sum += f64::from(q) * f64::from(q));
            }
        }
        self.counts[layer] += (queries.rows.rows() * group) as u64;
        self.inner.attend(layer, queries, out, observer)
    }

    fn advance(&mut self, rows: usize) {
        self.inner.advance(rows);
    }

    fn pass_limit(&self) -> usize {
        self.inner.pass_limit()
    }

    fn watches_queries(&self) -> bool {
        true
    }

    fn truncate(&mut self, len: usize) -> ModelResult<()> {
        let width = self.shape.kv_heads * self.shape.head_dim;
        self.inner.truncate(len)?;
        self.keys.iter_mut().chain(&mut self.values).for_each(|rows| rows.truncate(len * width));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
