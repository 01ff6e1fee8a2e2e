//! What becomes of tokens that are held: where the length is a multiple of a block, at the prompt's end, and when a cache goes back.

use super::{Cache, Layer};
use crate::BLOCK;
use crate::fit::{self, Fit, Turning};
use crate::merging::MiniCache;
use crate::selection::{self, HeadView};
use crate::slots::Slots;
use brevity_kernels::{Matrix, MatrixView, pool};
use std::sync::Arc;

impl Cache {
    /// Centres the keys of heads that do not yet, over the tokens they hold.
    pub(super) fn centre(&mut self) {
        if !self.spec.store.centres() || self.len < BLOCK {
            return;
        }
        let (store, rotated) = (self.spec.store.clone(), self.spec.store.rotates().0);
        let Some(waiting) = self.layers.first().map(|layer| layer.heads.iter().any(|head| head.fit.is_none())) else {
            return;
        };
        if !waiting {
            return;
        }
        let rope = self.rope.as_ref().map(|rope| Turning::new(rope, BLOCK));
        let (rope, dim) = (rope.as_ref(), self.shape.head_dim);
        let width = self.shape.heads / self.shape.kv_heads * dim;
        for layer in &mut self.layers {
            let seen = std::mem::take(&mut layer.first);
            let known = seen.len() == BLOCK * self.shape.heads * dim;
            pool::parallel_chunks(&mut layer.heads, 1, |index, heads| {
                for head in heads.iter_mut().filter(|head| head.fit.is_none()) {
                    let positions: Option<Vec<u32>> = match &head.slots {
                        Slots::All(BLOCK) => None,
                        slots => Some((0..slots.len()).map(|slot| slots.position(slot) as u32).collect()),
                    };
                    let fit = Fit::centred(head.keys(rotated), positions.as_deref(), rope);
                    if known && (store.ages() || store.tiers().is_some() || head.few_bits()) {
                        let rows = seen.chunks_exact(self.shape.heads * dim);
                        let queries = rows.flat_map(|row| &row[index * width..][..width]).copied().collect();
                        head.feedback =
                            Some(Arc::new(fit::feedback(Matrix::from_vec(BLOCK, width, queries), dim, rope, rotated)));
                    }
                    head.restore(rotated, head.fresh, |key| fit.key(key));
                    head.fit = Some(Arc::new(fit));
                }
            });
        }
    }

    /// Whether keys wait for the first block to be full.
    pub(super) fn waits(&self) -> bool {
        self.spec.store.centres() && self.len < BLOCK
    }

    /// Lets go of what lies beyond position `len` in a layer.
    pub(super) fn cut(&mut self, layer: usize, len: usize) {
        let store = self.spec.store.clone();
        let width = self.shape.heads * self.shape.head_dim;
        let Layer { heads, queries, first } = &mut self.layers[layer];
        first.truncate(len * width);
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

    /// Drops what the selection does not keep.
    pub(super) fn select(&mut self) {
        let Some(selection) = self.spec.selection.clone() else { return };
        if self.len <= selection.budget().of(self.len) {
            return;
        }
        self.rise();
        let (group, dim) = (self.shape.heads / self.shape.kv_heads, self.shape.head_dim);
        let store = self.spec.store.clone();
        let (read, merging) = (self.len, self.spec.merging());
        for layer in 0..self.layers.len() {
            let observed = match selection.observes().queries {
                0 => vec![Vec::new(); self.shape.kv_heads],
                _ => self.observe(layer, &*selection),
            };
            let queries: Vec<Matrix> =
                self.layers[layer].queries.iter().map(|(_, q)| self.turned(layer, MatrixView::from_row(q))).collect();
            let heads = &mut self.layers[layer].heads;
            pool::parallel_chunks(heads, 1, |index, head| {
                let [head] = head else { return };
                if selection.keeps_all(layer, index) {
                    return;
                }
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

    /// Brings tokens that lie by importance back into the order of the text, in which selections choose.
    fn rise(&mut self) {
        let store = self.spec.store.clone();
        if store.tiers().is_none() {
            return;
        }
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| {
                heads.iter_mut().for_each(|head| {
                    if let Some(order) = head.slots.rising() {
                        head.keep(&order, head.open(&*store), Vec::new());
                    }
                })
            });
        }
    }

    /// Turns heads to the principal axes of what they hold.
    pub(super) fn turn(&mut self) {
        let codings = self.spec.store.fresh();
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| heads.iter_mut().for_each(|head| head.turn(codings)));
        }
        self.dropped = self.len;
    }

    /// Lets pairs of layers share what is alike in them.
    pub(super) fn merge_layers(&mut self, across: MiniCache) {
        let store = self.spec.store.clone();
        for first in across.pairs(self.layers.len()) {
            let [upper, deeper] = &mut self.layers[first..first + 2] else { continue };
            let mut pairs: Vec<_> = upper.heads.iter_mut().zip(&mut deeper.heads).collect();
            pool::parallel_chunks(&mut pairs, 1, |_, pairs| {
                for (a, b) in pairs {
                    if let Some(pair) = across.merge_heads(&a.stored, &b.stored, [a.open(&*store), b.open(&*store)]) {
                        (a.stored, b.stored) = pair.heads;
                        a.slots.keep(&pair.order);
                        b.slots.keep(&pair.order);
                    }
                }
            });
        }
        self.dropped = self.len;
    }

    /// Lets importance decide which tokens keep more bits.
    pub(super) fn tier(&mut self) {
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
    pub(super) fn age(&mut self) {
        let store = &self.spec.store;
        if !store.ages() || store.turns() && !self.selecting {
            return;
        }
        let dim = self.shape.head_dim;
        for layer in &mut self.layers {
            pool::parallel_chunks(&mut layer.heads, 1, |_, heads| {
                for head in heads {
                    let full = head.stored.len() / BLOCK;
                    for block in 0..full {
                        head.stored.reform(block, store.forms(full - 1 - block, dim), head.feedback.as_deref());
                    }
                }
            });
        }
    }
}
