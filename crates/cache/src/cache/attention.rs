//! Attention over the heads of a layer, and what selections see of it.

use super::{Cache, Head, Layer};
use crate::slots::Slots;
use crate::{BLOCK, Selection};
use brevity_kernels::attention::TappedWeights;
use brevity_kernels::attention::packed::{PackedHead, PackedQuery, attend_packed};
use brevity_kernels::{Isa, Matrix, MatrixMut, MatrixView, hadamard};
use brevity_model::cache::AttentionObserver;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

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

impl Cache {
    /// Queries as the stored keys of each head want them.
    pub(super) fn turned(&self, layer: usize, rows: MatrixView<'_>) -> Matrix {
        let mut turned = rows.to_matrix();
        let (dim, heads) = (self.shape.head_dim, &self.layers[layer].heads);
        let (rotated, block) = (self.spec.store.rotates().0, hadamard::block(dim));
        let (isa, group) = (Isa::current(), self.shape.heads / self.shape.kv_heads);
        turned.view_mut().parallel_rows(16, |_, row| {
            for (head, q) in row.chunks_exact_mut(dim).enumerate() {
                if let Some(fit) = &heads[head / group].fit {
                    fit.query(q);
                }
                if let Some(axes) = &heads[head / group].axes {
                    axes.key(q);
                }
            }
            if rotated {
                isa.with(|| hadamard::hadamard_blocks(row, block));
            }
        });
        turned
    }

    /// Keeps the last queries of a layer, if a selection observes them, and those of the first block until keys have learnt of them.
    pub(super) fn remember(&mut self, layer: usize, start: usize, q: MatrixView<'_>) {
        let first = &mut self.layers[layer].first;
        if self.spec.store.feeds_back() && start < BLOCK && first.len() == start * q.cols() {
            (0..q.rows().min(BLOCK - start)).for_each(|row| first.extend_from_slice(q.row(row)));
        }
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
    pub(super) fn attend_rows(
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
    pub(super) fn observe(&self, layer: usize, selection: &dyn Selection) -> Vec<Vec<u64>> {
        let Layer { heads, queries, .. } = &self.layers[layer];
        let totals = Totals::new(heads, self.shape.heads / self.shape.kv_heads);
        let held: Vec<&PackedHead> = heads.iter().map(|head| &head.stored).collect();
        let scale = 1.0 / (self.shape.head_dim as f32).sqrt();
        let mut out = Matrix::zeros(1, self.shape.heads * self.shape.head_dim);
        for (position, q) in queries {
            let seen = |head: usize, _: usize| heads[head].slots.seen(*position, None);
            let q = self.turned(layer, MatrixView::from_row(q));
            let query = PackedQuery { q: q.view(), scale, seen: &seen };
            let add = |tapped: TappedWeights<'_>| {
                if selection.listens(layer, tapped.head) {
                    totals.add(&tapped);
                }
            };
            attend_packed(&held, &query, &mut out.view_mut(), Some(&add));
        }
        let mut observed = totals.done();
        let alike = observed.iter().all(|sums| sums.len() == observed[0].len());
        if selection.by_layer() && alike {
            let all = (0..observed[0].len()).map(|slot| observed.iter().map(|sums| sums[slot]).sum()).collect();
            observed = vec![all; observed.len()];
        }
        observed
    }

    /// Shows rows of weights to an observer, gaps filled with zeros, in the order of positions.
    pub(super) fn show(
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
