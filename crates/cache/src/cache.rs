//! A selection and a store, as one cache of a sequence.

use crate::fit::{Fit, Positions};
use crate::merging::Merged;
use crate::selection::{self, HeadView, Observes};
use crate::slots::Slots;
use crate::store::{Coding, Tiers};
use crate::{BLOCK, Error, Spec, Store};
use brevity_kernels::attention::TappedWeights;
use brevity_kernels::attention::packed::{PackedHead, PackedQuery, attend_packed};
use brevity_kernels::{Isa, Matrix, MatrixMut, MatrixView, hadamard, pool};
use brevity_model::cache::{AttentionObserver, CacheShape, KvCache, Queries};
use brevity_model::error::Result;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Keys and values of one sequence, selected and stored as a [`Spec`] says.
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

#[derive(Default)]
struct Layer {
    heads: Vec<Head>,
    /// The last queries with their positions, where a selection observes them; as the model made them.
    queries: VecDeque<(usize, Vec<f32>)>,
}

struct Head {
    stored: PackedHead,
    slots: Slots,
    /// How keys are moved and scaled before they are coded, known once the first block is full, or at the prompt's end, where the store does that.
    fit: Option<Fit>,
    /// How values' channels are scaled before they are coded, where the store does that.
    values: Option<Fit>,
    /// Codings of tokens that come after the prompt, where importance has decided about those before.
    after: Option<(Coding, Coding)>,
    /// Attention that each slot has got.
    attention: Vec<u64>,
}

/// Attention added up per slot in whole numbers, so that no order of adding shows.
struct Totals {
    heads: Vec<Mutex<Vec<u64>>>,
    group: usize,
}

impl Totals {
    fn new(heads: &[Head], group: usize) -> Totals {
        Totals { heads: heads.iter().map(|head| Mutex::new(vec![0; head.slots.len()])).collect(), group }
    }

    fn add(&self, tapped: &TappedWeights<'_>) {
        let mut sums = self.heads[tapped.head / self.group].lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut sums[tapped.first..][..tapped.weights.len()];
        slots.iter_mut().zip(tapped.weights).for_each(|(sum, w)| *sum += (w * ONE) as u64);
    }

    fn done(self) -> Vec<Vec<u64>> {
        self.heads.into_iter().map(|sums| sums.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// What a whole query's attention sums to.
const ONE: f32 = 4_294_967_296.0;
/// Rows whose attention weights are held at once for an observer.
const OBSERVED_ROWS: usize = 16;

impl Cache {
    /// An empty cache for up to `capacity` positions.
    pub fn new(spec: Spec, shape: CacheShape, capacity: usize) -> Self {
        let head = || Head {
            stored: PackedHead::new(shape.head_dim),
            slots: Slots::All(0),
            fit: None,
            values: None,
            after: None,
            attention: Vec::new(),
        };
        let layer = || Layer { heads: (0..shape.kv_heads).map(|_| head()).collect(), ..Layer::default() };
        let layers = (0..shape.layers).map(|_| layer()).collect();
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
                // One infinity or NaN makes the sum of x·0 a NaN.
                if rows.row(row).iter().fold(0.0, |sum, x| sum + x * 0.0) != 0.0 {
                    let value = rows.row(row).iter().copied().find(|x| !x.is_finite()).unwrap_or(f32::NAN);
                    return Err(Error::NotFinite { layer, position: start + row, side, value });
                }
            }
        }
        Ok(())
    }

    /// Centres the keys of heads that do not yet, over the tokens they hold.
    fn centre(&mut self) {
        if !self.spec.store.centres() || self.len < BLOCK {
            return;
        }
        let (fresh, rotated) = (self.spec.store.fresh(), self.spec.store.rotates().0);
        let rope = self.rope.as_ref();
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| {
                for head in heads.iter_mut().filter(|head| head.fit.is_none()) {
                    let slots = 0..head.slots.len();
                    let positions: Vec<u32> = slots.map(|slot| head.slots.position(slot) as u32).collect();
                    let fit = Fit::centred(&head.keys(rotated), &positions, rope);
                    head.restore(rotated, fresh, |key| fit.key(key));
                    head.fit = Some(fit);
                }
            });
        }
    }

    /// Whether keys wait for the first block to be full.
    fn waits(&self) -> bool {
        self.spec.store.centres() && self.len < BLOCK
    }

    /// Queries as the stored keys of each head want them.
    fn turned(&self, layer: usize, rows: MatrixView<'_>) -> Matrix {
        let mut turned = rows.to_matrix();
        let (dim, heads) = (self.shape.head_dim, &self.layers[layer].heads);
        let (rotated, block) = (self.spec.store.rotates().0, hadamard::block(dim));
        let (isa, group) = (Isa::current(), self.shape.heads / self.shape.kv_heads);
        turned.view_mut().parallel_rows(16, |_, row| {
            for (head, q) in row.chunks_exact_mut(dim).enumerate() {
                if let Some(fit) = &heads[head / group].fit {
                    fit.query(q);
                }
            }
            if rotated {
                isa.with(|| hadamard::hadamard_blocks(row, block));
            }
        });
        turned
    }

    /// Lets go of what lies beyond position `len` in a layer.
    fn cut(&mut self, layer: usize, len: usize) {
        let store = self.spec.store.clone();
        let Layer { heads, queries, .. } = &mut self.layers[layer];
        for head in heads {
            let (slots, open) = (head.slots.before(len), head.open(&*store));
            head.slots.truncate(slots);
            head.stored.truncate(slots, open);
            head.attention.truncate(slots);
            if len < BLOCK && store.centres() {
                head.forget_centre(store.rotates().0, &*store);
            }
        }
        queries.retain(|(position, _)| *position < len);
    }

    /// Keeps the last queries of a layer, if a selection observes them.
    fn remember(&mut self, layer: usize, start: usize, q: MatrixView<'_>) {
        let most = self.observes().queries;
        let queries = &mut self.layers[layer].queries;
        for row in q.rows().saturating_sub(most)..q.rows() {
            if queries.len() == most {
                queries.pop_front();
            }
            queries.push_back((start + row, q.row(row).to_vec()));
        }
    }

    /// Attends rows of a layer; adds up attention where it is observed.
    fn attend_rows(
        &mut self,
        layer: usize,
        (q, start, window): (MatrixView<'_>, usize, Option<usize>),
        out: &mut MatrixMut<'_>,
        tap: Option<&(dyn Fn(TappedWeights<'_>) + Sync)>,
    ) {
        let sums = self.observes().attention;
        let scale = 1.0 / (self.shape.head_dim as f32).sqrt();
        let group = self.shape.heads / self.shape.kv_heads;
        let heads = &self.layers[layer].heads;
        let held: Vec<&PackedHead> = heads.iter().map(|head| &head.stored).collect();
        let seen = |head: usize, token: usize| -> Range<usize> { heads[head].slots.seen(start + token, window) };
        let query = PackedQuery { q, scale, seen: &seen };
        if !sums {
            return attend_packed(&held, &query, out, tap);
        }
        let totals = Totals::new(heads, group);
        let add = |tapped: TappedWeights<'_>| {
            totals.add(&tapped);
            if let Some(tap) = tap {
                tap(tapped);
            }
        };
        attend_packed(&held, &query, out, Some(&add));
        for (head, totals) in self.layers[layer].heads.iter_mut().zip(totals.done()) {
            head.attention.resize(head.slots.len(), 0);
            head.attention.iter_mut().zip(totals).for_each(|(sum, new)| *sum += new);
        }
    }

    /// Attention that the observed queries of a layer give to each slot of each head.
    fn observe(&self, layer: usize) -> Vec<Vec<u64>> {
        let Layer { heads, queries, .. } = &self.layers[layer];
        let totals = Totals::new(heads, self.shape.heads / self.shape.kv_heads);
        let held: Vec<&PackedHead> = heads.iter().map(|head| &head.stored).collect();
        let scale = 1.0 / (self.shape.head_dim as f32).sqrt();
        let mut out = Matrix::zeros(1, self.shape.heads * self.shape.head_dim);
        for (position, q) in queries {
            let seen = |head: usize, _: usize| heads[head].slots.seen(*position, None);
            let q = self.turned(layer, MatrixView::from_row(q));
            let query = PackedQuery { q: q.view(), scale, seen: &seen };
            attend_packed(&held, &query, &mut out.view_mut(), Some(&|tapped| totals.add(&tapped)));
        }
        totals.done()
    }

    /// Drops what the selection does not keep.
    fn select(&mut self) {
        let Some(selection) = self.spec.selection.clone() else { return };
        if self.len <= selection.budget().of(self.len) {
            return;
        }
        let (group, dim) = (self.shape.heads / self.shape.kv_heads, self.shape.head_dim);
        let store = self.spec.store.clone();
        let (read, merging) = (self.len, self.spec.merging());
        for layer in 0..self.layers.len() {
            let observed = match selection.observes().queries {
                0 => vec![Vec::new(); self.shape.kv_heads],
                _ => self.observe(layer),
            };
            let queries: Vec<Matrix> =
                self.layers[layer].queries.iter().map(|(_, q)| self.turned(layer, MatrixView::from_row(q))).collect();
            let heads = &mut self.layers[layer].heads;
            pool::parallel_chunks(heads, 1, |index, head| {
                let [head] = head else { return };
                let positions: Vec<usize> = (0..head.slots.len()).map(|slot| head.slots.position(slot)).collect();
                let width = group * dim;
                let seen: Vec<f32> =
                    queries.iter().flat_map(|q| &q.row(0)[index * width..][..width]).copied().collect();
                head.attention.resize(if head.attention.is_empty() { 0 } else { positions.len() }, 0);
                let view = HeadView {
                    layer,
                    head: index,
                    group,
                    stored: &head.stored,
                    positions: &positions,
                    attention: &head.attention,
                    observed: &observed[index],
                    queries: &seen,
                };
                if let Some(slots) = selection::kept(&*selection, &view, read) {
                    let merged = merging.as_ref().map_or_else(Vec::new, |merging| merging.merge(&view, &slots));
                    head.keep(&slots, head.open(&*store), merged);
                }
            });
        }
        self.dropped = self.len;
    }

    /// Lets importance decide which tokens keep more bits.
    fn tier(&mut self) {
        let Some(tiers) = self.spec.store.tiers() else { return };
        let read = self.len;
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| {
                heads.iter_mut().for_each(|head| head.tier(&tiers, read))
            });
        }
        self.dropped = self.len;
    }

    /// Codes blocks anew that have come of age.
    fn age(&mut self) {
        let store = &self.spec.store;
        if !store.ages() {
            return;
        }
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| {
                for head in heads {
                    let full = head.stored.len() / BLOCK;
                    for block in 0..full {
                        head.stored.recode(block, store.aged(full - 1 - block));
                    }
                }
            });
        }
    }
}

impl Head {
    fn keep(&mut self, slots: &[usize], open: (Coding, Coding), merged: Vec<Merged>) {
        // What was merged comes in behind, and from there takes the places of what it replaces.
        let mut order = slots.to_vec();
        for token in merged {
            order[token.at] = self.stored.len();
            self.stored.push(&token.key, &token.value, open);
        }
        self.stored = self.stored.kept(&order, open);
        self.slots.keep(slots);
        if !self.attention.is_empty() {
            self.attention = slots.iter().map(|&slot| self.attention[slot]).collect();
        }
    }

    /// Codings of tokens as they come.
    fn open(&self, store: &dyn Store) -> (Coding, Coding) {
        if let Some(after) = self.after {
            return after;
        }
        let (keys, values) = store.fresh();
        if store.centres() && self.fit.is_none() { (Coding::F16, values) } else { (keys, values) }
    }

    /// Keys as the model made them, less what they were fitted by.
    fn keys(&self, rotated: bool) -> Matrix {
        let (len, dim) = (self.stored.len(), self.stored.dim());
        let mut keys = Matrix::zeros(len, dim);
        for slot in 0..len {
            let key = keys.row_mut(slot);
            self.stored.key(slot, key);
            if rotated {
                hadamard::hadamard_blocks(key, hadamard::block(dim));
            }
        }
        keys
    }

    /// Stores every token anew with its key changed.
    fn restore(&mut self, rotated: bool, codings: (Coding, Coding), change: impl Fn(&mut [f32])) {
        let (mut keys, dim) = (self.keys(rotated), self.stored.dim());
        let mut stored = PackedHead::new(dim);
        let mut value = vec![0.0; dim];
        for slot in 0..keys.rows() {
            self.stored.value(slot, &mut value);
            let key = keys.row_mut(slot);
            change(key);
            if rotated {
                hadamard::hadamard_blocks(key, hadamard::block(dim));
            }
            stored.push(key, &value, codings);
        }
        self.stored = stored;
    }

    /// Gives keys their mean back, where the block that it was learnt from is no longer full.
    fn forget_centre(&mut self, rotated: bool, store: &dyn Store) {
        if let Some(fit) = self.fit.take() {
            let open = self.open(store);
            self.restore(rotated, open, |key| fit.undo(key));
        }
    }

    /// Stores tokens anew, those that matter less first and in fewer bits.
    fn tier(&mut self, tiers: &Tiers, read: usize) {
        let (len, dim) = (self.stored.len(), self.stored.dim());
        let positions: Vec<usize> = (0..len).map(|slot| self.slots.position(slot)).collect();
        self.attention.resize(len, 0);
        let (order, fallen) = tiers.order(&self.attention, &positions, read);
        let (mut keys, mut values) = (Matrix::zeros(len, dim), Matrix::zeros(len, dim));
        for (row, &slot) in order.iter().enumerate() {
            self.stored.key(slot, keys.row_mut(row));
            self.stored.value(slot, values.row_mut(row));
        }
        if tiers.separable {
            for (rows, fit) in [(&mut keys, &mut self.fit), (&mut values, &mut self.values)] {
                let found = fit.insert(Fit::divided(&root_of_largest(rows)));
                (0..len).for_each(|row| found.key(rows.row_mut(row)));
            }
        }
        let coding = |bits: u8| (Coding::Token(bits), Coding::Token(bits));
        let mut stored = PackedHead::new(dim);
        for row in 0..len {
            stored.push(keys.row(row), values.row(row), coding(if row < fallen { tiers.low } else { tiers.high }));
        }
        self.stored = stored;
        self.slots.keep(&order);
        self.attention = order.iter().map(|&slot| self.attention[slot]).collect();
        self.after = Some(coding(tiers.high));
    }

    fn bytes(&self) -> usize {
        let fit = self.fit.iter().chain(&self.values).map(Fit::bytes).sum::<usize>();
        self.stored.bytes() + self.slots.bytes() + 8 * self.attention.capacity() + fit
    }
}

/// `√(max |x|)` of each channel; 1 where all are zero.
fn root_of_largest(rows: &Matrix) -> Vec<f32> {
    let mut most = vec![0.0f32; rows.cols()];
    for row in 0..rows.rows() {
        most.iter_mut().zip(rows.row(row)).for_each(|(most, x)| *most = most.max(x.abs()));
    }
    most.into_iter().map(|most| if most > 0.0 { most.sqrt() } else { 1.0 }).collect()
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
        let (keys, values) = self.spec.store.rotates();
        let (dim, store) = (self.shape.head_dim, self.spec.store.clone());
        let block = hadamard::block(dim);
        let isa = Isa::current();
        pool::parallel_chunks(&mut self.layers[layer].heads, 1, |index, heads| {
            let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
            for head in heads {
                let open = head.open(&*store);
                for row in 0..k.rows() {
                    key.copy_from_slice(&k.row(row)[index * dim..][..dim]);
                    value.copy_from_slice(&v.row(row)[index * dim..][..dim]);
                    if let Some(fit) = &head.fit {
                        fit.key(&mut key);
                    }
                    if let Some(fit) = &head.values {
                        fit.key(&mut value);
                    }
                    isa.with(|| {
                        if keys {
                            hadamard::hadamard_blocks(&mut key, block);
                        }
                        if values {
                            hadamard::hadamard_blocks(&mut value, block);
                        }
                    });
                    head.stored.push(&key, &value, open);
                }
                head.slots.push(start..start + k.rows());
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
        let fitted = self.layers[layer].heads.iter().any(|head| head.fit.is_some());
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
        if heads.iter().any(|head| head.values.is_some()) {
            out.parallel_rows(16, |_, row| {
                for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                    heads[head / group].values.iter().for_each(|fit| fit.undo(out));
                }
            });
        }
        Ok(())
    }

    fn advance(&mut self, rows: usize) {
        self.len += rows;
        if self.len.is_multiple_of(BLOCK) && rows > 0 {
            if self.selecting {
                self.select();
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
        let queries = |layer: &Layer| layer.queries.iter().map(|(_, q)| 4 * q.capacity()).sum::<usize>();
        let heads = |layer: &Layer| layer.heads.iter().map(Head::bytes).sum::<usize>();
        self.layers.iter().map(|layer| (heads(layer) + queries(layer)) as u64).sum()
    }
}

impl Cache {
    /// Shows rows of weights to an observer, gaps filled with zeros, in the order of positions.
    fn show(
        &self,
        layer: usize,
        start: usize,
        rows: Vec<(usize, usize, usize, Vec<f32>)>,
        observer: &mut AttentionObserver<'_>,
    ) {
        let group = self.shape.heads / self.shape.kv_heads;
        for (token, head, first, weights) in rows {
            let slots = &self.layers[layer].heads[head / group].slots;
            match slots {
                Slots::All(_) => observer(head, start + token, first, &weights),
                Slots::Some(_) => {
                    let shown = first..first + weights.len();
                    let begin = shown.map(|slot| slots.position(slot)).min().unwrap_or(0);
                    let mut spread = vec![0.0; start + token + 1 - begin];
                    weights.iter().enumerate().for_each(|(i, &w)| spread[slots.position(first + i) - begin] = w);
                    observer(head, start + token, begin, &spread);
                }
            }
        }
    }
}
