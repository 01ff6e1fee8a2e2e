//! A selection and a store, as one cache of a sequence.

mod attention;
mod changes;
mod head;

use crate::fit::{Fit, Positions};
use crate::selection::Observes;
use crate::store::Coding;
use crate::{BLOCK, Error, Spec};
use brevity_kernels::attention::TappedWeights;
use brevity_kernels::{Isa, MatrixMut, MatrixView, hadamard, pool};
use brevity_model::cache::{AttentionObserver, CacheShape, KvCache, Queries};
use brevity_model::error::Result;
use head::Head;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Keys and values of one sequence, selected and stored as a [`Spec`] says.
///
/// A clone shares its blocks with what it was cloned from, until one of the two writes.
#[derive(Clone)]
pub struct Cache {
    spec: Spec,
    shape: CacheShape,
    capacity: usize,
    len: usize,
    layers: Vec<Layer>,
    /// Whether the prompt's end has been said: from then on tokens are dropped.
    selecting: bool,
    /// Positions below may be gone.
    dropped: usize,
    /// How rope turned the keys, where that is known.
    rope: Option<Positions>,
}

#[derive(Clone, Default)]
struct Layer {
    heads: Vec<Head>,
    /// The last queries with their positions, where a selection observes them; as the model made them.
    queries: VecDeque<(usize, Vec<f32>)>,
    /// The queries of the first block, until keys have learnt of them; as the model made them.
    first: Vec<f32>,
}

/// Rows whose attention weights are held at once for an observer.
const OBSERVED_ROWS: usize = 16;

impl Cache {
    /// An empty cache for up to `capacity` positions.
    pub fn new(spec: Spec, shape: CacheShape, capacity: usize) -> Self {
        let head = |place: usize| Head::new(shape.head_dim, spec.store.fresh_of(place));
        let heads = |layer: usize| (0..shape.kv_heads).map(|index| head(layer * shape.kv_heads + index)).collect();
        let layers = (0..shape.layers).map(|layer| Layer { heads: heads(layer), ..Layer::default() }).collect();
        Self { spec, shape, capacity, len: 0, layers, selecting: false, dropped: 0, rope: None }
    }

    /// Says how rope turned the keys that come.
    pub(crate) fn with_rope(self, rope: Option<Positions>) -> Self {
        Self { rope, ..self }
    }

    /// What it is composed of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The positions that a head still holds.
    pub fn positions(&self, layer: usize, head: usize) -> Vec<usize> {
        let head = &self.layers[layer].heads[head];
        (0..head.slots.len()).map(|slot| head.slots.position(slot)).collect()
    }

    /// The key and the value of a slot, as attention sees them.
    pub fn read(&self, layer: usize, head: usize, slot: usize) -> (Vec<f32>, Vec<f32>) {
        let stored = &self.layers[layer].heads[head].stored;
        let (mut k, mut v) = (vec![0.0; self.shape.head_dim], vec![0.0; self.shape.head_dim]);
        stored.key(slot, &mut k);
        stored.value(slot, &mut v);
        let (keys, values) = self.spec.store.rotates();
        let block = hadamard::block(self.shape.head_dim);
        if keys {
            hadamard::hadamard_blocks(&mut k, block);
        }
        if let Some(axes) = &self.layers[layer].heads[head].axes {
            axes.undo_key(&mut k);
            axes.undo_value(&mut v);
        }
        if let Some(fit) = &self.layers[layer].heads[head].fit {
            fit.undo(&mut k);
        }
        if values {
            hadamard::hadamard_blocks(&mut v, block);
        }
        if let Some(values) = &self.layers[layer].heads[head].values {
            values.undo(&mut v);
        }
        (k, v)
    }

    /// Bytes of memory held that no cache before it holds: `seen` remembers what shared blocks were counted.
    pub fn bytes_beside(&self, seen: &mut HashSet<usize>) -> u64 {
        let queries = |layer: &Layer| layer.queries.iter().map(|(_, q)| 4 * q.capacity()).sum::<usize>();
        let mut heads = |layer: &Layer| layer.heads.iter().map(|head| head.bytes(seen)).sum::<usize>();
        self.layers.iter().map(|layer| (heads(layer) + queries(layer)) as u64).sum()
    }

    /// Codings of keys and values of a head's blocks.
    pub fn codings(&self, layer: usize, head: usize) -> Vec<(Coding, Coding)> {
        let stored = &self.layers[layer].heads[head].stored;
        (0..stored.blocks()).map(|block| stored.codings(block)).collect()
    }

    fn observes(&self) -> Observes {
        let observes = self.spec.selection.as_ref().map_or_else(Observes::default, |selection| selection.observes());
        Observes { attention: observes.attention || self.spec.store.tiers().is_some(), ..observes }
    }

    fn check_layer(&self, layer: usize) -> Result<(), Error> {
        let layers = self.layers.len();
        match layer < layers {
            true => Ok(()),
            false => {
                Err(Error::Argument { what: "layer of the cache", found: layer, expected: format!("below {layers}") })
            }
        }
    }

    /// Refuses numbers that no coding holds, before anything has changed.
    fn check_finite(layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> Result<(), Error> {
        for (side, rows) in [("key", k), ("value", v)] {
            for row in 0..rows.rows() {
                if !rows.row(row).iter().fold(true, |all, x| all & x.is_finite()) {
                    let value = rows.row(row).iter().copied().find(|x| !x.is_finite()).unwrap_or(f32::NAN);
                    return Err(Error::NotFinite { layer, position: start + row, side, value });
                }
            }
        }
        Ok(())
    }
}

impl KvCache for Cache {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn append(&mut self, layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> Result<()> {
        self.check_layer(layer)?;
        let wanted = start + k.rows();
        if wanted > self.capacity {
            let limit = self.capacity;
            return Err(brevity_model::Error::ContextOverflow { capacity: limit, wanted, limit });
        }
        if start > self.len {
            let expected = format!("at most {}", self.len);
            return Err(Error::Argument { what: "first position to append", found: start, expected }.into());
        }
        if start < self.dropped {
            return Err(Error::Dropped { dropped: self.dropped, wanted: start }.into());
        }
        Self::check_finite(layer, start, k, v)?;
        self.cut(layer, start);
        let (keys, rotated_values) = self.spec.store.rotates();
        let (dim, store) = (self.shape.head_dim, self.spec.store.clone());
        let (isa, block) = (Isa::current(), hadamard::block(dim));
        let mut open = Vec::new();
        for (index, head) in self.layers[layer].heads.iter_mut().enumerate() {
            let codings = head.open(&*store);
            head.slots.push(start..start + k.rows());
            let Head { stored, fit, values, feedback, axes, .. } = head;
            let fits = (fit.as_deref(), values.as_deref(), feedback.as_deref(), axes.as_ref());
            open.extend(stored.extend(k.rows(), codings).map(|(rows, slots)| Some((index, rows, slots, fits))));
        }
        // A block of a head is a task, so that threads share few heads.
        pool::parallel_chunks(&mut open, 1, |_, open| {
            for (index, rows, slots, (fit, values, feedback, axes)) in open.iter_mut().filter_map(Option::take) {
                let cut = |from: MatrixView<'_>, fit: Option<&Fit>, rotated: bool| -> Vec<f32> {
                    let mut all = Vec::with_capacity(rows.len() * dim);
                    rows.clone().for_each(|row| all.extend_from_slice(&from.row(row)[index * dim..][..dim]));
                    if let Some(fit) = fit {
                        all.chunks_exact_mut(dim).for_each(|x| fit.key(x));
                    }
                    if rotated {
                        hadamard::hadamard_blocks(&mut all, block);
                    }
                    all
                };
                isa.with(|| {
                    let (mut keys, mut values) = (cut(k, fit, keys), cut(v, values, rotated_values));
                    if let Some(axes) = axes {
                        keys.chunks_exact_mut(dim).for_each(|key| axes.key(key));
                        values.chunks_exact_mut(dim).for_each(|value| axes.value(value));
                    }
                    slots.write(&keys, &values, feedback);
                });
            }
        });
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Queries<'_>,
        out: &mut MatrixMut<'_>,
        observer: Option<&mut AttentionObserver<'_>>,
    ) -> Result<()> {
        self.check_layer(layer)?;
        let Queries { rows, start, window } = queries;
        let (keys, values) = self.spec.store.rotates();
        let block = hadamard::block(self.shape.head_dim);
        let isa = Isa::current();
        self.remember(layer, start, rows);
        let fitted = self.layers[layer].heads.iter().any(|head| head.fit.is_some() || head.axes.is_some());
        let turned = (keys || fitted).then(|| self.turned(layer, rows));
        let q = turned.as_ref().map_or(rows, |turned| turned.view());
        match observer {
            None => self.attend_rows(layer, (q, start, window), out, None),
            Some(observer) => {
                for first in (0..q.rows()).step_by(OBSERVED_ROWS) {
                    let part = first..(first + OBSERVED_ROWS).min(q.rows());
                    let all = Mutex::new(Vec::new());
                    let tap = |tapped: TappedWeights<'_>| {
                        let row = (tapped.token, tapped.head, tapped.first, tapped.weights.to_vec());
                        all.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                    };
                    let rows = (q.rows_range(part.clone()), start + first, window);
                    self.attend_rows(layer, rows, &mut out.rows_range(part), Some(&tap));
                    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
                    all.sort_by_key(|&(token, head, ..)| (token, head));
                    self.show(layer, start + first, all, observer);
                }
            }
        }
        if values {
            out.parallel_rows(16, |_, row| isa.with(|| hadamard::hadamard_blocks(row, block)));
        }
        let (heads, dim) = (&self.layers[layer].heads, self.shape.head_dim);
        let group = self.shape.heads / self.shape.kv_heads;
        if heads.iter().any(|head| head.values.is_some() || head.axes.is_some()) {
            out.parallel_rows(16, |_, row| {
                for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                    heads[head / group].axes.iter().for_each(|axes| axes.undo_value(out));
                    heads[head / group].values.iter().for_each(|fit| fit.undo(out));
                }
            });
        }
        Ok(())
    }

    fn advance(&mut self, rows: usize) {
        self.len += rows;
        if self.len.is_multiple_of(BLOCK) && rows > 0 {
            if self.selecting && self.spec.selection.is_some() {
                self.select();
                self.tier();
            }
            self.centre();
            self.age();
        }
    }

    fn end_prompt(&mut self) -> Result<()> {
        if self.selecting {
            return Ok(());
        }
        if self.spec.selection.is_some() {
            self.selecting = true;
            self.select();
            self.age();
        }
        if self.spec.store.tiers().is_some() {
            self.selecting = true;
            self.tier();
        }
        if self.spec.store.turns() {
            self.selecting = true;
            self.turn();
            self.age();
        }
        if let Some(across) = self.spec.merging.as_ref().and_then(|merging| merging.across()) {
            self.selecting = true;
            self.merge_layers(across);
        }
        Ok(())
    }

    fn pass_limit(&self) -> usize {
        match self.waits() || self.spec.store.ages() || self.selecting {
            true => BLOCK - self.len % BLOCK,
            false => usize::MAX,
        }
    }

    fn watches_queries(&self) -> bool {
        self.observes().anything()
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len {
            let expected = format!("at most {}", self.len);
            return Err(Error::Argument { what: "length to cut the cache to", found: len, expected }.into());
        }
        if len > 0 && len < self.dropped {
            return Err(Error::Dropped { dropped: self.dropped, wanted: len }.into());
        }
        if len == 0 {
            *self = Cache::new(self.spec.clone(), self.shape, self.capacity).with_rope(self.rope.take());
            return Ok(());
        }
        self.len = len;
        (0..self.layers.len()).for_each(|layer| self.cut(layer, len));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes_beside(&mut HashSet::new())
    }
}
