//! One block of the forward pass, for rows of several sequences at once.
//!
//! Matrices multiply all rows together; attention goes sequence by sequence. Every step works row by row, so a row of
//! output depends on its own row of input (and its own cache) alone.

use std::ops::Range;

use brevity_kernels::rope::RopeAngles;
use brevity_kernels::{Isa, Matrix, MatrixMut, MatrixView, elementwise, pool};
use brevity_parts::{Activation, Input};

use crate::arch::{Block, Mlp, Nonlinearity};
use crate::cache::{KvCache, Queries};
use crate::error::Result;
use crate::taps::{AttentionRow, Place, Site, Tap};
use crate::weights::BlockWeights;

/// Consecutive positions of one sequence among the rows of a pass.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Index of the sequence, as taps see it.
    pub sequence: usize,
    /// Index of its cache.
    pub cache: usize,
    /// Its rows.
    pub rows: Range<usize>,
    /// Position of the first.
    pub start: usize,
}

/// Matrices that live from block to block, so that decoding a token allocates next to nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    normed: Matrix,
    qkv: Matrix,
    attended: Matrix,
    inner: Matrix,
}

/// One block with everything that its forward pass needs.
pub(crate) struct BlockPass<'a> {
    pub block: Block,
    pub weights: &'a BlockWeights,
    /// Angles of the positions of all rows.
    pub angles: Option<&'a RopeAngles>,
    pub activation: Activation,
    /// What runs last: the pass ends where this place's input was shown. `None`: the whole block.
    pub until: Option<Place>,
    /// The model's index of the block, as taps see it.
    pub layer: usize,
    /// The caches' index of it.
    pub cache_layer: usize,
}

impl BlockPass<'_> {
    /// `x` becomes the block's output; keys and values of every row are appended.
    ///
    /// With `keep`, only these rows go beyond attention's keys and values, and `x` and `spans` shrink to them.
    pub fn run(
        &self,
        x: &mut Matrix,
        spans: &mut Vec<Span>,
        keep: Option<&[usize]>,
        caches: &mut [&mut dyn KvCache],
        scratch: &mut Scratch,
        tap: &mut Option<&mut dyn Tap>,
    ) -> Result<()> {
        self.append(x, spans, caches, scratch, tap)?;
        if self.until == Some(Place::Qkv) {
            return Ok(());
        }
        if let Some(keep) = keep {
            gather(x, keep);
            gather(&mut scratch.qkv, keep);
            *spans = keep.iter().enumerate().filter_map(|(to, &from)| single(spans, from, to)).collect();
        }
        if x.rows() == 0 {
            return Ok(());
        }
        self.attend(x, spans, caches, scratch, tap)?;
        if self.until != Some(Place::AttnOutput) {
            self.mlp(x, scratch, tap);
        }
        Ok(())
    }

    fn append(
        &self,
        x: &Matrix,
        spans: &[Span],
        caches: &mut [&mut dyn KvCache],
        scratch: &mut Scratch,
        tap: &mut Option<&mut dyn Tap>,
    ) -> Result<()> {
        let attention = self.block.attention;
        let (q, kv) = (attention.q_width(), attention.kv_width());
        let Scratch { normed, qkv, .. } = scratch;
        self.weights.attn_norm.apply(x.view(), normed);
        self.show(tap, Place::Qkv, normed.view());
        if self.until == Some(Place::Qkv) {
            return Ok(());
        }
        qkv.reshape(x.rows(), q + 2 * kv);
        self.weights.qkv.multiply(&Input::new(normed.view(), self.activation), &mut qkv.view_mut(), false);
        self.place(qkv);
        let (qkv, layer) = (qkv.view(), self.cache_layer);
        let append = |span: &Span, cache: &mut dyn KvCache| {
            let rows = qkv.rows_range(span.rows.clone());
            let (k, v) = (rows.cols_range(q..q + kv), rows.cols_range(q + kv..q + 2 * kv));
            cache.append(layer, span.start, k, v)
        };
        if let Some(pairs) = apart(spans, caches) {
            return side_by_side(pairs.into_iter().map(|(span, cache)| (span, cache, ())), |span, cache, ()| {
                append(span, cache)
            });
        }
        spans.iter().try_for_each(|span| append(span, &mut *caches[span.cache]))
    }

    /// Norms of each head, then rotations, of q and k.
    fn place(&self, qkv: &mut Matrix) {
        let attention = self.block.attention;
        let (q, kv, dim) = (attention.q_width(), attention.kv_width(), attention.head_dim);
        let mut rows = qkv.view_mut();
        if let Some(norm) = &self.weights.q_norm {
            norm.apply_heads(&mut rows.cols_range(0..q));
        }
        if let Some(norm) = &self.weights.k_norm {
            norm.apply_heads(&mut rows.cols_range(q..q + kv));
        }
        if let Some(angles) = self.angles {
            angles.apply(&mut rows.cols_range(0..q + kv), dim);
        }
    }

    fn attend(
        &self,
        x: &mut Matrix,
        spans: &[Span],
        caches: &mut [&mut dyn KvCache],
        scratch: &mut Scratch,
        tap: &mut Option<&mut dyn Tap>,
    ) -> Result<()> {
        let attention = self.block.attention;
        let Scratch { qkv, attended, .. } = scratch;
        attended.reshape(x.rows(), attention.q_width());
        let watched = tap.as_deref().is_some_and(|tap| tap.wants_attention(self.layer));
        let pairs = if watched { None } else { apart(spans, caches) };
        if let Some(pairs) = pairs {
            let (width, asked) = (attention.q_width(), qkv.view());
            let mut rest = attended.data_mut();
            let items = pairs.into_iter().map(|(span, cache)| {
                let (out, more) = std::mem::take(&mut rest).split_at_mut(span.rows.len() * width);
                rest = more;
                (span, cache, MatrixMut::new(out, span.rows.len(), width, width))
            });
            side_by_side(items, |span, cache, mut out| {
                let rows = asked.rows_range(span.rows.clone()).cols_range(0..width);
                let queries = Queries { rows, start: span.start, window: attention.window };
                cache.attend(self.cache_layer, queries, &mut out, None)
            })?;
        } else {
            self.attend_in_turn(spans, caches, qkv, attended, tap)?;
        }
        self.show(tap, Place::AttnOutput, attended.view());
        if self.until == Some(Place::AttnOutput) {
            return Ok(());
        }
        let input = Input::new(attended.view(), self.activation);
        self.weights.attn_output.multiply(&input, &mut x.view_mut(), true);
        Ok(())
    }

    /// Sequence by sequence, each on all threads.
    fn attend_in_turn(
        &self,
        spans: &[Span],
        caches: &mut [&mut dyn KvCache],
        qkv: &Matrix,
        attended: &mut Matrix,
        tap: &mut Option<&mut dyn Tap>,
    ) -> Result<()> {
        let attention = self.block.attention;
        for span in spans {
            let rows = qkv.view().rows_range(span.rows.clone()).cols_range(0..attention.q_width());
            let queries = Queries { rows, start: span.start, window: attention.window };
            let mut view = attended.view_mut();
            let out = &mut view.rows_range(span.rows.clone());
            let cache = &mut caches[span.cache];
            match tap.as_deref_mut().filter(|tap| tap.wants_attention(self.layer)) {
                None => cache.attend(self.cache_layer, queries, out, None)?,
                Some(tap) => {
                    let (layer, sequence) = (self.layer, span.sequence);
                    let observer = &mut |head, position, first, weights: &[f32]| {
                        tap.attention(AttentionRow { layer, sequence, head, position, first, weights });
                    };
                    cache.attend(self.cache_layer, queries, out, Some(observer))?;
                }
            }
        }
        Ok(())
    }

    fn mlp(&self, x: &mut Matrix, scratch: &mut Scratch, tap: &mut Option<&mut dyn Tap>) {
        let mlp = self.block.mlp;
        let Scratch { normed, inner, .. } = scratch;
        self.weights.ffn_norm.apply(x.view(), normed);
        self.show(tap, Place::GateUp, normed.view());
        if self.until == Some(Place::GateUp) {
            return;
        }
        inner.reshape(x.rows(), self.weights.gate_up.width());
        let input = Input::new(normed.view(), self.activation);
        self.weights.gate_up.multiply(&input, &mut inner.view_mut(), false);
        let isa = Isa::current();
        inner.view_mut().parallel_rows(4, |_, row| isa.with(|| activate(mlp, row)));
        let activated = inner.view().cols_range(0..mlp.width);
        self.show(tap, Place::Down, activated);
        if self.until == Some(Place::Down) {
            return;
        }
        self.weights.down.multiply(&Input::new(activated, self.activation), &mut x.view_mut(), true);
    }

    fn show(&self, tap: &mut Option<&mut dyn Tap>, place: Place, input: MatrixView) {
        if let Some(tap) = tap {
            tap.linear(Site { layer: Some(self.layer), place }, input);
        }
    }
}

/// Each span with its cache, where there are enough for every thread; nothing otherwise.
fn apart<'a, 'c>(
    spans: &'a [Span],
    caches: &'a mut [&'c mut dyn KvCache],
) -> Option<Vec<(&'a Span, &'a mut (dyn KvCache + 'c))>> {
    let rising = spans.windows(2).all(|pair| pair[0].cache < pair[1].cache && pair[0].rows.end == pair[1].rows.start);
    if !rising || spans.len() < 2 || spans.len() < pool::threads() {
        return None;
    }
    let mut spans = spans.iter().peekable();
    let own = |(index, cache): (usize, &'a mut &'c mut dyn KvCache)| {
        spans.next_if(|span| span.cache == index).map(|span| (span, &mut **cache))
    };
    Some(caches.iter_mut().enumerate().filter_map(own).collect())
}

/// Runs `f` for each sequence, one thread a sequence; the first error, if there is one.
fn side_by_side<'a, 'c: 'a, T: Send>(
    items: impl Iterator<Item = (&'a Span, &'a mut (dyn KvCache + 'c), T)>,
    f: impl Fn(&Span, &mut dyn KvCache, T) -> Result<()> + Sync,
) -> Result<()> {
    let isa = Isa::current();
    let mut items: Vec<_> = items.map(|(span, cache, with)| (span, cache, Some(with), Ok(()))).collect();
    pool::parallel_chunks(&mut items, 1, |_, items| {
        for (span, cache, with, result) in items {
            if let Some(with) = with.take() {
                *result = isa.with(|| f(span, *cache, with));
            }
        }
    });
    items.into_iter().try_for_each(|(.., result)| result)
}

/// Leaves the input of `down` in the first `mlp.width` values of a row.
fn activate(mlp: Mlp, row: &mut [f32]) {
    let (gate, up) = row.split_at_mut(mlp.width);
    match (mlp.gated, mlp.activation) {
        (true, Nonlinearity::Silu) => elementwise::silu_mul(gate, up),
        (true, Nonlinearity::GeluTanh) => elementwise::gelu_tanh_mul(gate, up),
        (true, Nonlinearity::Gelu) => elementwise::gelu_mul(gate, up),
        (false, Nonlinearity::Silu) => elementwise::silu(gate),
        (false, Nonlinearity::GeluTanh) => elementwise::gelu_tanh(gate),
        (false, Nonlinearity::Gelu) => elementwise::gelu(gate),
    }
}

/// The span of row `from` of a pass, now its row `to`.
fn single(spans: &[Span], from: usize, to: usize) -> Option<Span> {
    let span = spans.iter().find(|span| span.rows.contains(&from))?;
    let start = span.start + from - span.rows.start;
    Some(Span { rows: to..to + 1, start, ..span.clone() })
}

/// Keeps some rows, in rising order.
pub(crate) fn gather(x: &mut Matrix, rows: &[usize]) {
    let cols = x.cols();
    for (to, &from) in rows.iter().enumerate() {
        x.data_mut().copy_within(from * cols..(from + 1) * cols, to * cols);
    }
    x.reshape(rows.len(), cols);
}

/// Writes embeddings into the rows of `x`.
pub(crate) fn embed(embedding: &crate::weights::Embedding, tokens: &[(u32, usize)], x: &mut MatrixMut) {
    x.parallel_rows(8, |i, row| embedding.embed(tokens[i].0, tokens[i].1, row));
}

/// The position of each row.
pub(crate) fn positions(tokens: &[(u32, usize)]) -> Vec<u32> {
    tokens.iter().map(|&(_, position)| position as u32).collect()
}
