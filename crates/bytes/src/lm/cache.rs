//! What the model has read of one lane: keys and values in codes of 8 bits, behind each token's own scale and zero point.
//!
//! Attention runs on the codes (`brevity_kernels::attention::packed`), a quarter of the bytes of f32. A lane keeps the first [`SINK`]
//! positions and the last ones; what lies between is dropped, 64 positions at a time. The keys of a position hold its rotation, so
//! nothing is read again. Lanes that begin alike share the blocks that they have in common: they are read from memory once.

use brevity_kernels::attention::BLOCK;
use brevity_kernels::attention::packed::{Coding, PackedHead, PackedQuery, Side, attend_packed};
use brevity_kernels::{MatrixMut, MatrixView};
use brevity_model::cache::{AttentionObserver, CacheShape, KvCache, Queries};
use brevity_model::{Error, Result};
use std::ops::Range;

/// Positions at the beginning that are kept, in blocks.
const SINK: usize = 6;
/// Keys and values.
const CODING: Coding = Coding::Token(8);

/// The cache of a lane.
#[derive(Clone)]
pub struct LaneCache {
    shape: CacheShape,
    /// Positions that the model has.
    context: usize,
    len: usize,
    /// Positions dropped behind the first ones.
    gone: usize,
    /// Layer by layer, head by head.
    heads: Vec<PackedHead>,
}

/// Bytes that a window of so many positions takes, while new ones come.
pub fn memory(shape: CacheShape, window: usize) -> usize {
    let positions = window + 2 * BLOCK;
    let sides = [Side::Keys, Side::Values].map(|side| PackedHead::bytes_of(CODING, side, shape.head_dim, positions));
    shape.layers * shape.kv_heads * (sides[0] + sides[1] + PackedHead::overhead(positions) + size_of::<PackedHead>())
}

impl LaneCache {
    /// An empty one.
    pub fn new(shape: CacheShape, context: usize) -> Self {
        let heads = vec![PackedHead::new(shape.head_dim); shape.layers * shape.kv_heads];
        Self { shape, context, len: 0, gone: 0, heads }
    }

    /// Drops what is oldest behind the first positions, until `fresh` more make at most `window`.
    pub fn make_room(&mut self, fresh: usize, window: usize) {
        let held = self.len - self.gone;
        let over = (held + fresh).saturating_sub(window).div_ceil(BLOCK);
        let blocks = over.min((held / BLOCK).saturating_sub(SINK));
        if blocks > 0 {
            self.heads.iter_mut().for_each(|head| head.remove(SINK..SINK + blocks));
            self.gone += blocks * BLOCK;
        }
    }

    /// Where a position is held: one that was dropped, where the next one is.
    fn slot(&self, position: usize) -> usize {
        position.saturating_sub(self.gone).max(position.min(SINK * BLOCK))
    }

    fn layer(&self, layer: usize) -> Result<Range<usize>> {
        let layers = self.shape.layers;
        if layer >= layers {
            return Err(Error::argument("layer of the cache", layer, format!("below {layers}")));
        }
        Ok(layer * self.shape.kv_heads..(layer + 1) * self.shape.kv_heads)
    }
}

impl KvCache for LaneCache {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.context
    }

    fn append(&mut self, layer: usize, start: usize, k: MatrixView<'_>, v: MatrixView<'_>) -> Result<()> {
        let (slot, heads, dim) = (self.slot(start), self.layer(layer)?, self.shape.head_dim);
        let finite = |&x: &f32| if x.is_finite() { x } else { 0.0 };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (index, head) in self.heads[heads].iter_mut().enumerate() {
            head.truncate(slot, (CODING, CODING));
            if head.len() != slot {
                return Err(Error::argument("first position to append", start, "where the layer ends".to_string()));
            }
            for (rows, slots) in head.extend(k.rows(), (CODING, CODING)) {
                keys.clear();
                values.clear();
                for row in rows {
                    keys.extend(k.row(row)[index * dim..(index + 1) * dim].iter().map(finite));
                    values.extend(v.row(row)[index * dim..(index + 1) * dim].iter().map(finite));
                }
                slots.write(&keys, &values, None);
            }
        }
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Queries<'_>,
        out: &mut MatrixMut<'_>,
        _observer: Option<&mut AttentionObserver<'_>>,
    ) -> Result<()> {
        let heads: Vec<&PackedHead> = self.heads[self.layer(layer)?].iter().collect();
        let Queries { rows: q, start, window } = queries;
        let seen = |_: usize, token: usize| {
            let position = start + token;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            self.slot(first)..self.slot(position) + 1
        };
        let scale = 1.0 / (self.shape.head_dim as f32).sqrt();
        attend_packed(&heads, &PackedQuery { q, scale, seen: &seen }, out, None);
        Ok(())
    }

    fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len == 0 {
            self.gone = 0;
        } else if len > self.len || self.gone > 0 && len < self.gone + SINK * BLOCK {
            return Err(Error::argument("length to cut the cache to", len, format!("at most {}", self.len)));
        }
        let slot = self.slot(len);
        self.len = len;
        self.heads.iter_mut().for_each(|head| head.truncate(slot, (CODING, CODING)));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.heads.iter().map(|head| head.bytes() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brevity_kernels::Matrix;
    use brevity_model::cache::{CacheType, PlainCache};

    const SHAPE: CacheShape = CacheShape { layers: 2, heads: 4, kv_heads: 2, head_dim: 16 };

    fn rows(count: usize, cols: usize, seed: usize) -> Matrix {
        let number = |i: usize| (((i + seed) * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        Matrix::from_vec(count, cols, (0..count * cols).map(number).collect())
    }

    /// Appends positions in every layer.
    fn read(cache: &mut dyn KvCache, from: usize, count: usize) {
        for layer in 0..SHAPE.layers {
            for at in from..from + count {
                let (k, v) = (rows(1, 32, 31 * at + layer), rows(1, 32, 57 * at + layer + 500));
                cache.append(layer, at, k.view(), v.view()).unwrap();
            }
        }
        cache.advance(count);
    }

    fn attend(cache: &mut dyn KvCache) -> Vec<f32> {
        let (q, mut out) = (rows(1, 64, 3), Matrix::zeros(1, 64));
        let queries = Queries { rows: q.view(), start: cache.len() - 1, window: None };
        cache.attend(1, queries, &mut out.view_mut(), None).unwrap();
        out.data().to_vec()
    }

    #[test]
    fn a_long_lane_keeps_its_beginning_and_its_window_and_no_more_bytes() {
        let (mut cache, mut whole, window) = (LaneCache::new(SHAPE, 3000), LaneCache::new(SHAPE, 3000), 640);
        for at in 0..3000 {
            cache.make_room(1, window);
            read(&mut cache, at, 1);
            read(&mut whole, at, 1);
            assert!(cache.len() - cache.gone <= window && cache.bytes() <= memory(SHAPE, window) as u64, "{at}");
        }
        assert!(cache.len() - cache.gone > window - BLOCK);
        let key = |cache: &LaneCache, slot: usize| {
            let mut key = vec![0.0; SHAPE.head_dim];
            cache.heads[3].key(slot, &mut key);
            key
        };
        for at in (0..SINK * BLOCK).chain(SINK * BLOCK + cache.gone..3000) {
            assert_eq!(key(&cache, cache.slot(at)), key(&whole, at), "{at}");
        }
        assert!(cache.truncate(cache.gone).is_err());
        cache.truncate(2990).unwrap();
        let short = attend(&mut cache);
        read(&mut cache, 2990, 10);
        cache.truncate(2990).unwrap();
        assert_eq!(attend(&mut cache), short);
        cache.truncate(0).unwrap();
        assert!(cache.is_empty() && cache.heads[0].is_empty());
    }

    #[test]
    fn attention_is_near_that_of_floats_and_forks_share_what_they_begin_with() {
        let (mut cache, mut plain) = (LaneCache::new(SHAPE, 1000), PlainCache::new(SHAPE, 1000, CacheType::F32));
        read(&mut cache, 0, 200);
        read(&mut plain, 0, 200);
        let (mut fork, exact) = (cache.clone(), attend(&mut plain));
        assert!(attend(&mut cache).iter().zip(&exact).all(|(a, b)| (a - b).abs() < 0.01));
        read(&mut fork, 200, 50);
        read(&mut cache, 200, 50);
        assert_eq!(attend(&mut fork), attend(&mut cache));
        let seen = &mut std::collections::HashSet::new();
        let held: usize =
            [&cache, &fork].iter().flat_map(|cache| &cache.heads).map(|head| head.bytes_beside(seen)).sum();
        assert!((held as u64) < cache.bytes() + fork.bytes() / 2);
    }

    #[test]
    fn numbers_that_are_none_are_zeros() {
        let mut cache = LaneCache::new(SHAPE, 10);
        let wild = Matrix::from_vec(1, 32, vec![f32::NAN; 32]);
        cache.append(1, 0, wild.view(), wild.view()).unwrap();
        cache.advance(1);
        assert!(attend(&mut cache).iter().all(|&x| x == 0.0));
        assert!(
            cache.append(1, 5, wild.view(), wild.view()).is_err()
                && cache.append(2, 1, wild.view(), wild.view()).is_err()
        );
    }
}
