//! Channels moved and scaled before they are coded.
//!
//! - *Centred keys.* The mean key μ is the same for all tokens, and often longer than what tells them apart: `⟨q, k − c⟩` differs from
//!   `⟨q, k⟩` by one number for any c, which the softmax does not see. μ is learnt from the first 64 tokens of a head, in a written order; the
//!   first of them has no say: all attend to it, and it is like no other. Rope turns μ from position to position, so what comes off is its
//!   mean over all positions of the model, `c = mean_p R(p)·μ`, with μ that of keys turned back: all of it in slow pairs of channels, nothing
//!   in fast ones. (SmolLM2-135M, the second half of a window of 4096 tokens: int4 loses 0.059 bits a token with this c, 0.084 with the mean as the first tokens
//!   have it, which lies the wrong way half a turn later.)
//! - *Divided channels.* `⟨q, k⟩ = ⟨c·q, k/c⟩` and `Σ w·v = c·Σ w·(v/c)`: factors of keys go into queries, those of values into the
//!   output.
//!
//! - *Errors that count.* Keys of few bits are rounded so that their errors move scores least: `⟨q, e⟩²` on average over queries, not
//!   `Σ e²` ([`Feedback`]). The second moment of queries is learnt from those of the first 64 tokens; rope undone, then averaged over all
//!   positions. Codes are read as ever, and a cache without those queries (read from a file) rounds to the nearest.
//!
//! Scales of keys by what the first tokens' queries look at, `s² = √(E q² / E k²)`, do harm for the same reason: 0.15 bits there.

use brevity_kernels::attention::packed::Feedback;
use brevity_kernels::rope::{RopeAngles, RopeMoments, RopeTable};
use brevity_kernels::{Matrix, MatrixView, hadamard};

/// What channels are moved by, or scaled by.
#[derive(Clone)]
pub enum Fit {
    /// This is taken off.
    Centred(Vec<f32>),
    /// Multiplied by the one; by the other it is undone.
    Divided { scale: Vec<f32>, inverse: Vec<f32> },
}

/// Rope, and how many positions the model has.
#[derive(Clone)]
pub struct Positions {
    pub table: RopeTable,
    pub count: usize,
}

/// Rope as those see it who learn from the first block.
pub struct Turning {
    table: RopeTable,
    /// Undoes the positions of the first block.
    back: RopeAngles,
    /// Over all positions of the model.
    moments: RopeMoments,
}

/// Positions over which moments are taken.
const SAMPLES: usize = 512;

impl Turning {
    pub fn new(rope: &Positions, block: usize) -> Turning {
        let places = SAMPLES.min(rope.count.max(1));
        let place = |i: usize| ((2 * i + 1) * rope.count / (2 * places)) as u32;
        let positions: Vec<u32> = (0..places).map(place).collect();
        let first: Vec<u32> = (0..block as u32).collect();
        Turning {
            moments: RopeMoments::new(&rope.table.angles(&positions)),
            back: rope.table.angles(&first).inverse(),
            table: rope.table.clone(),
        }
    }

    /// Undoes rope in rows at these positions; those of the first block are known.
    fn undo(&self, rows: &mut Matrix, dim: usize, positions: Option<&[u32]>) {
        match positions {
            None => self.back.apply(&mut rows.view_mut(), dim),
            Some(positions) => self.table.angles(positions).inverse().apply(&mut rows.view_mut(), dim),
        }
    }
}

/// The mean row, summed in their order.
fn mean(rows: MatrixView<'_>) -> Vec<f32> {
    let mut sum = vec![0.0f64; rows.cols()];
    (0..rows.rows()).for_each(|row| sum.iter_mut().zip(rows.row(row)).for_each(|(sum, &x)| *sum += f64::from(x)));
    let count = rows.rows().max(1) as f64;
    sum.into_iter().map(|sum| (sum / count) as f32).collect()
}

impl Fit {
    /// Keys without their mean; `positions` where they are not those of the first block.
    ///
    /// With rope the mean turns as positions grow, so it is taken of keys turned back, and what comes off is its own mean over all
    /// positions that the model has: whole where rope is slow, nothing where it is fast.
    pub fn centred(mut keys: Matrix, positions: Option<&[u32]>, rope: Option<&Turning>) -> Fit {
        let (len, dim) = (keys.rows(), keys.cols());
        if let Some(rope) = rope {
            rope.undo(&mut keys, dim, positions);
        }
        let centre = mean(keys.view().rows_range(1.min(len)..len));
        Fit::Centred(rope.map_or_else(|| centre.clone(), |rope| rope.moments.mean(&centre)))
    }

    /// Channels divided by factors, and nothing taken off.
    pub fn divided(factors: &[f32]) -> Fit {
        let scale = factors.iter().map(|factor| 1.0 / factor).collect();
        Fit::Divided { scale, inverse: factors.to_vec() }
    }

    /// A key as it is stored.
    pub fn key(&self, k: &mut [f32]) {
        match self {
            Fit::Centred(mean) => k.iter_mut().zip(mean).for_each(|(k, mean)| *k -= mean),
            Fit::Divided { scale, .. } => k.iter_mut().zip(scale).for_each(|(k, s)| *k *= s),
        }
    }

    /// A key as it was.
    pub fn undo(&self, k: &mut [f32]) {
        match self {
            Fit::Centred(mean) => k.iter_mut().zip(mean).for_each(|(k, mean)| *k += mean),
            Fit::Divided { inverse, .. } => k.iter_mut().zip(inverse).for_each(|(k, s)| *k *= s),
        }
    }

    /// A query as stored keys want it.
    pub fn query(&self, q: &mut [f32]) {
        if let Fit::Divided { inverse, .. } = self {
            q.iter_mut().zip(inverse).for_each(|(q, s)| *q *= s);
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        match self {
            Fit::Centred(mean) => 4 * mean.capacity(),
            Fit::Divided { scale, inverse } => 4 * (scale.capacity() + inverse.capacity()),
        }
    }
}

/// How errors of a head's keys count, from the queries of the first block: (tokens, query heads of this head · dim), as the model
/// made them. `rotated` keys are stored behind a block-diagonal Hadamard matrix.
///
/// Queries come from all positions behind a key, so rope is undone and the second moment is that over all positions of the model.
pub fn feedback(mut queries: Matrix, dim: usize, rope: Option<&Turning>, rotated: bool) -> Feedback {
    if let Some(rope) = rope {
        rope.undo(&mut queries, dim, None);
    }
    let mut h = Matrix::zeros(dim, dim);
    let count = (queries.data().len() / dim.max(1)).max(1) as f32;
    for q in queries.data().chunks_exact(dim.max(1)) {
        for (i, &x) in q.iter().enumerate() {
            let x = x / count;
            h.row_mut(i).iter_mut().zip(q).for_each(|(sum, y)| *sum += x * y);
        }
    }
    if let Some(rope) = rope {
        h = rope.moments.second(&h);
    }
    if rotated {
        let block = hadamard::block(dim);
        for _ in 0..2 {
            (0..dim).for_each(|i| hadamard::hadamard_blocks(h.row_mut(i), block));
            h = Matrix::from_vec(dim, dim, (0..dim * dim).map(|at| h.row(at % dim)[at / dim]).collect());
        }
    }
    Feedback::new(h.data(), dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_differ_by_one_number_and_keys_come_back() {
        let dim = 16;
        let noise = |i: usize| ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let keys = Matrix::from_vec(64, dim, (0..64 * dim).map(|i| noise(i) + (i % dim) as f32).collect());
        let query: Vec<f32> = (0..dim).map(|i| noise(i + 5000)).collect();
        let scores = |fit: Option<&Fit>| -> Vec<f32> {
            let mut q = query.clone();
            fit.iter().for_each(|fit| fit.query(&mut q));
            let score = |slot: usize| {
                let mut k = keys.row(slot).to_vec();
                fit.iter().for_each(|fit| fit.key(&mut k));
                let score = k.iter().zip(&q).map(|(k, q)| k * q).sum();
                fit.iter().for_each(|fit| fit.undo(&mut k));
                assert!(k.iter().zip(keys.row(slot)).all(|(a, b)| (a - b).abs() < 1e-4));
                score
            };
            (0..64).map(score).collect()
        };
        let plain = scores(None);
        let factors: Vec<f32> = (0..dim).map(|i| 0.5 + i as f32).collect();
        for (fit, same) in [(Fit::centred(keys.clone(), None, None), false), (Fit::divided(&factors), true)] {
            let fitted = scores(Some(&fit));
            let apart = plain[0] - fitted[0];
            assert!(plain.iter().zip(&fitted).all(|(a, b)| (a - b - apart).abs() < 1e-2));
            assert_eq!(apart.abs() < 1e-2, same);
        }
    }

    /// Fast pairs lose nothing, slow ones their mean: 16 channels, periods from 6 positions to 6 million, 4096 positions.
    #[test]
    fn what_rope_turns_round_is_not_taken_off() {
        use brevity_kernels::rope::RopeStyle;
        let table = RopeTable::new(RopeStyle::Half, 1e7, 16, None, 1.0);
        let positions: Vec<u32> = (0..64).collect();
        let mut keys = Matrix::from_vec(64, 16, [2.0; 16].repeat(64));
        table.angles(&positions).apply(&mut keys.view_mut(), 16);
        let rope = Turning::new(&Positions { table, count: 4096 }, 64);
        for positions in [None, Some(&positions[..])] {
            let Fit::Centred(mean) = Fit::centred(keys.clone(), positions, Some(&rope)) else { panic!("not centred") };
            assert!(mean[..3].iter().chain(&mean[8..11]).all(|m| m.abs() < 0.1), "{mean:?}");
            assert!((mean[7] - 2.0).abs() < 0.05 && (mean[15] - 2.0).abs() < 0.05, "{mean:?}");
        }
    }
}
