//! What a grid leaves behind, given back: a low-rank matrix and single numbers beside the codes of a block.
//!
//! A block X of 64 slots (rows) and d channels is `D + A·Bᵀ + S`. A *vector* is what shares a grid: a channel of keys, a token of values.
//!
//! - S: in each vector the numbers that widen its range most, as many as asked for. They are cut to the range of the others before the
//!   grid D is laid, and S holds what D and A·Bᵀ leave of them.
//! - A (64 × r, orthonormal columns) and B (d × r): `A = orth(R·Q)`, `B = Rᵀ·A` with the remainder `R = X − D` outside S, by power
//!   iteration from a fixed start, in f64. Its first columns are those of a smaller r, and `A·Aᵀ·R` is a projection: more columns never
//!   leave more.
//!
//! All are f16; places in S take 2 bytes each.

use super::super::BLOCK;
use super::part::Side;
use crate::buffer::Aligned;
use crate::convert::{f16_to_f32, f32_to_f16};
use crate::simd::{LANES, kernel};
use std::ops::Range;

/// How much of a block's remainder is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// Columns of A and B.
    pub rank: usize,
    /// Single numbers of each vector.
    pub singles: usize,
}

/// Rounds of power iteration.
const ROUNDS: usize = 3;

/// A·Bᵀ + S of one side of a block.
#[derive(Clone)]
pub(super) struct Repair {
    side: Side,
    dim: usize,
    rank: usize,
    /// For each column 64 numbers of A and then those of B, filled up to whole vectors.
    factors: Aligned<u16>,
    /// S in layers of one number a vector, filled up to whole vectors of lanes; and where in their vector they stand.
    singles: Aligned<u16>,
    places: Vec<u16>,
}

/// The numbers that are left to the grid, and those that are not: indices into the block, layer by layer.
pub(super) struct Cut {
    pub rest: Vec<f32>,
    taken: Vec<usize>,
}

impl Cut {
    /// Cuts the numbers that widen the range of their vector most to the range of the others.
    pub fn new(x: &[f32], side: Side, dim: usize, singles: usize) -> Cut {
        let mut cut = Cut { rest: x.to_vec(), taken: Vec::new() };
        let vectors = if side == Side::Keys { dim } else { BLOCK };
        let length = BLOCK * dim / vectors;
        let singles = singles.min(length.saturating_sub(1));
        let mut taken = vec![0; singles * vectors];
        for vector in 0..vectors {
            let at = |i: usize| if side == Side::Keys { i * dim + vector } else { vector * dim + i };
            let mut order: Vec<usize> = (0..length).collect();
            order.sort_by(|&a, &b| x[at(a)].total_cmp(&x[at(b)]).then(a.cmp(&b)));
            let range = |low: usize| x[at(order[length - 1 - (singles - low)])] - x[at(order[low])];
            let low = (0..=singles).min_by(|&a, &b| range(a).total_cmp(&range(b))).unwrap_or(0);
            let last = length - 1 - (singles - low);
            let (least, most) = (x[at(order[low])], x[at(order[last])]);
            for (layer, &i) in order[..low].iter().chain(&order[last + 1..]).enumerate() {
                taken[layer * vectors + vector] = at(i);
                cut.rest[at(i)] = cut.rest[at(i)].clamp(least, most);
            }
        }
        cut.taken = taken;
        cut
    }

    /// What gives back what the grid's numbers leave of x.
    pub fn repair(&self, x: &[f32], grid: &[f32], side: Side, dim: usize, rank: usize) -> Repair {
        let mut left: Vec<f64> = x.iter().zip(grid).map(|(&x, &d)| f64::from(x) - f64::from(d)).collect();
        self.taken.iter().for_each(|&at| left[at] = 0.0);
        let (a, b) = low_rank(&left, dim, rank.min(dim).min(BLOCK));
        let width = dim.next_multiple_of(LANES);
        let vectors = if side == Side::Keys { dim } else { BLOCK };
        let lanes = vectors.next_multiple_of(LANES);
        let layers = self.taken.len() / vectors.max(1);
        let mut repair = Repair {
            side,
            dim,
            rank: a.len(),
            factors: Aligned::zeros(a.len() * (BLOCK + width)),
            singles: Aligned::zeros(layers * lanes),
            places: vec![0; layers * lanes],
        };
        let half = |x: f64| f32_to_f16((x as f32).clamp(-65504.0, 65504.0));
        for (column, (a, b)) in repair.factors.chunks_exact_mut(BLOCK + width).zip(a.iter().zip(&b)) {
            column.iter_mut().zip(a).for_each(|(to, &a)| *to = half(a));
            column[BLOCK..].iter_mut().zip(b).for_each(|(to, &b)| *to = half(b));
        }
        let mut row = vec![0.0; dim];
        for (i, &at) in self.taken.iter().enumerate() {
            let (slot, channel) = (at / dim, at % dim);
            row.fill(0.0);
            repair.add_factors(slot, &mut row);
            let to = i / vectors * lanes + i % vectors;
            repair.singles[to] = half(f64::from(x[at]) - f64::from(grid[at]) - f64::from(row[channel]));
            repair.places[to] = if side == Side::Keys { slot } else { channel } as u16;
        }
        repair
    }
}

/// A and B, column by column, of rows of `dim` numbers.
fn low_rank(left: &[f64], dim: usize, rank: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let rows = left.len() / dim;
    let start = |i: usize| ((i * 7919 + 12289) % 2003) as f64 / 1001.5 - 1.0;
    let mut b: Vec<Vec<f64>> = (0..rank).map(|r| (0..dim).map(|d| start(r * dim + d)).collect()).collect();
    let mut a = vec![vec![0.0; rows]; rank];
    for _ in 0..ROUNDS {
        for (r, b) in b.iter().enumerate() {
            let (before, from_here) = a.split_at_mut(r);
            let column = &mut from_here[0];
            for (to, row) in column.iter_mut().zip(left.chunks_exact(dim)) {
                *to = dot(row, b);
            }
            // Twice is enough.
            for _ in 0..2 {
                for other in &*before {
                    let along = dot(column, other);
                    column.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
                }
            }
            let norm = dot(column, column).sqrt();
            let scale = if norm > 1e-30 { 1.0 / norm } else { 0.0 };
            column.iter_mut().for_each(|x| *x *= scale);
        }
        for (a, b) in a.iter().zip(&mut b) {
            b.fill(0.0);
            for (&a, row) in a.iter().zip(left.chunks_exact(dim)) {
                b.iter_mut().zip(row).for_each(|(b, x)| *b += a * x);
            }
        }
    }
    (a, b)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Repair {
    /// Bytes of memory held, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Repair>() + self.factors.bytes() + self.singles.bytes() + 2 * self.places.capacity()
    }

    fn column(&self) -> usize {
        BLOCK + self.dim.next_multiple_of(LANES)
    }

    fn lanes(&self) -> usize {
        if self.side == Side::Keys { self.dim.next_multiple_of(LANES) } else { BLOCK }
    }

    fn add_factors(&self, slot: usize, out: &mut [f32]) {
        for column in self.factors.chunks_exact(self.column()).take(self.rank) {
            let a = f16_to_f32(column[slot]);
            out.iter_mut().zip(&column[BLOCK..]).for_each(|(x, &b)| *x = a.mul_add(f16_to_f32(b), *x));
        }
    }

    /// Adds what it gives back to a token as the grid has it.
    pub fn add_to(&self, slot: usize, out: &mut [f32]) {
        self.add_factors(slot, out);
        let lanes = self.lanes();
        for (i, (&place, &single)) in self.places.iter().zip(self.singles.iter()).enumerate() {
            let (vector, place) = (i % lanes, usize::from(place));
            let (at, channel) = if self.side == Side::Keys { (place, vector) } else { (vector, place) };
            if at == slot && channel < out.len() {
                out[channel] += f16_to_f32(single);
            }
        }
    }
}

kernel! {
    /// `scores += A·(Bᵀq) + S·q`: for each column the product with q in 16 lanes and the tree, then one chain; then the numbers of S
    /// layer by layer, channels rising.
    pub(super) fn repair_scores<'a>(s, repair: &'a Repair, q: &'a [f32], scores: &'a mut [f32]) {
        for column in repair.factors.chunks_exact(repair.column()).take(repair.rank) {
            let mut sum = s.zero();
            for (q, b) in q.chunks(LANES).zip(column[BLOCK..].as_chunks::<LANES>().0) {
                // SAFETY: 16 numbers.
                sum = s.fma(s.load_part(q), unsafe { s.load_f16_ptr(b.as_ptr()) }, sum);
            }
            let along = s.splat(s.sum(sum));
            for (v, a) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(column.as_chunks::<LANES>().0) {
                // SAFETY: 16 numbers.
                let x = s.fma(along, unsafe { s.load_f16_ptr(a.as_ptr()) }, s.load(v));
                s.store(v, x);
            }
        }
        let mut terms = [0.0; LANES];
        let per = repair.lanes() / LANES;
        for (i, (places, singles)) in repair.places.as_chunks::<LANES>().0.iter().zip(repair.singles.as_chunks::<LANES>().0).enumerate() {
            let q = &q[i % per * LANES..];
            // SAFETY: 16 numbers.
            let x = s.mul(s.load_part(&q[..LANES.min(q.len())]), unsafe { s.load_f16_ptr(singles.as_ptr()) });
            s.store(&mut terms, x);
            for (&place, &term) in places.iter().zip(&terms) {
                scores[usize::from(place)] += term;
            }
        }
    }
}

kernel! {
    /// `out += B·(Aᵀw) + Sᵀw` for some channels: as above with slots for channels.
    pub(super) fn repair_values<'a>(s, repair: &'a Repair, weights: &'a [f32], channels: Range<usize>, out: &'a mut [f32]) {
        for column in repair.factors.chunks_exact(repair.column()).take(repair.rank) {
            let mut sum = s.zero();
            for (w, a) in weights.as_chunks::<LANES>().0.iter().zip(column[..BLOCK].as_chunks::<LANES>().0) {
                // SAFETY: 16 numbers.
                sum = s.fma(s.load(w), unsafe { s.load_f16_ptr(a.as_ptr()) }, sum);
            }
            let along = s.splat(s.sum(sum));
            let b = &column[BLOCK + channels.start..BLOCK + channels.end];
            for (v, b) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(b.as_chunks::<LANES>().0) {
                // SAFETY: 16 numbers.
                let x = s.fma(along, unsafe { s.load_f16_ptr(b.as_ptr()) }, s.load(v));
                s.store(v, x);
            }
        }
        let mut terms = [0.0; LANES];
        for (i, (places, singles)) in repair.places.as_chunks::<LANES>().0.iter().zip(repair.singles.as_chunks::<LANES>().0).enumerate() {
            let Some(w) = weights[i % (BLOCK / LANES) * LANES..].first_chunk::<LANES>() else { continue };
            // SAFETY: 16 numbers.
            s.store(&mut terms, s.mul(s.load(w), unsafe { s.load_f16_ptr(singles.as_ptr()) }));
            for (&place, &term) in places.iter().zip(&terms) {
                let place = usize::from(place);
                if channels.contains(&place) {
                    out[place - channels.start] += term;
                }
            }
        }
    }
}
