//! The KVTC-class codec: decorrelate, quantise, code by entropy.
//!
//! KV Cache Transform Coding for Compact Storage in LLM Inference (2025, arXiv 2511.01815).
//!
//! Rope is undone, since keys are far more alike without it. The numbers of a head, less their mean μ, then go to the principal axes of
//! that head over this text: `x − μ = W⁻¹·Σ c_i·b_i`. For keys W holds the root mean square of the queries' channels over √d, so that a
//! unit of the coefficients is a unit of the scores; for values W = 1. All coefficients of a side are rounded with one step Δ
//! (zero takes ±0.6 steps): that is the least rate for a sum of squared errors, for what each axis gets follows from its variance, and axes
//! that never leave zero are not stored. Axes are stored in 8 bits; each has the table of probabilities that codes it best.
//!
//! Which Δ a layer's keys and values have is chosen from measured losses ([`Steps`](super::Steps)).

use super::basis::{Basis, eigenvectors};
use super::symbols::{TABLES, best, table};
use super::wire::{Reader, Wire};
use super::{Codec, Prepared};
use crate::Error;
use brevity_coding::rans::varied;
use brevity_kernels::Matrix;
use brevity_kernels::dense::DensePanels;
use brevity_measure::MethodCard;

/// Axes from the text itself.
pub struct Kvtc;

const CARD: MethodCard = MethodCard {
    name: "kvtc",
    room: "cache",
    title: "KV Cache Transform Coding for Compact Storage in LLM Inference",
    year: 2025,
    arxiv: Some("2511.01815"),
    mechanism: "For the disk: rope undone, each head's keys and values turned to their principal axes over the text, rounded with one step for all axes, coded by entropy; steps of layers from measured losses.",
    guarantees: &[
        "what is decoded has the same bits on every machine and at any thread count",
        "a coefficient is off by at most 0.6 of its step",
        "the first 4 tokens are f16",
    ],
    simplifications: &[
        "axes are those of each head over the text at hand, stored with it; the paper calibrates them once over all heads",
        "one step and entropy coding in place of a dynamic program over bits and DEFLATE",
    ],
};

/// First tokens, unlike all others: they are kept in f16.
const SINKS: usize = 4;
const ENDS: Error = Error::Content { offset: 0, what: "coefficients that do not end where they should" };
/// Coefficients within so many steps are zero.
const DEAD: f32 = 0.6;

impl Codec for Kvtc {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn turned(&self) -> bool {
        false
    }

    fn prepare(&self, rows: &Matrix, weights: Option<&[f32]>, head_dim: usize) -> Box<dyn Prepared> {
        let heads = rows.cols() / head_dim;
        let head = |index: usize| {
            let columns = index * head_dim..(index + 1) * head_dim;
            Head::new(rows, columns.clone(), weights.map(|weights| &weights[columns]))
        };
        Box::new(Side { heads: (0..heads).map(head).collect(), tokens: rows.rows() })
    }

    fn decode(&self, bytes: &[u8], tokens: usize, width: usize, head_dim: usize) -> Result<Matrix, Error> {
        let mut rows = Matrix::zeros(tokens, width);
        let mut reader = Reader::new(bytes);
        for first in (0..width).step_by(head_dim) {
            read_head(&mut reader, &mut rows, first..first + head_dim)?;
        }
        reader.done()?;
        Ok(rows)
    }
}

/// Keys or values of a layer.
struct Side {
    heads: Vec<Head>,
    tokens: usize,
}

/// A head in its own axes.
struct Head {
    dim: usize,
    sinks: Vec<f32>,
    mean: Vec<f32>,
    /// 1 for values.
    weights: Option<Vec<f32>>,
    basis: Basis,
    /// Coefficients token by token, behind the sinks.
    coefficients: Vec<f32>,
}

/// f16 and back.
fn rounded(x: f32) -> f32 {
    let mut wire = Wire::default();
    wire.f16(x);
    Reader::new(&wire.0).f16().unwrap_or(0.0)
}

impl Head {
    fn new(rows: &Matrix, columns: std::ops::Range<usize>, weights: Option<&[f32]>) -> Head {
        let (dim, tokens) = (columns.len(), rows.rows());
        let split = SINKS.min(tokens);
        let sinks = (0..split).flat_map(|row| rows.row(row)[columns.clone()].iter().copied()).collect();
        let mut sum = vec![0.0f64; dim];
        for row in split..tokens {
            sum.iter_mut().zip(&rows.row(row)[columns.clone()]).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let count = (tokens - split).max(1) as f64;
        let mean: Vec<f32> = sum.iter().map(|sum| rounded((sum / count) as f32)).collect();
        // A channel that no query looks at still has a weight, or it could not be scaled back.
        let weights: Option<Vec<f32>> = weights.map(|weights| {
            let least = weights.iter().fold(0.0f32, |most, &w| most.max(w)).max(1e-3) * 1e-2;
            weights.iter().map(|&w| rounded(w.max(least)).max(1e-6)).collect()
        });
        let mut moved = Vec::with_capacity((tokens - split) * dim);
        for row in split..tokens {
            let x = rows.row(row)[columns.clone()].iter().zip(&mean).map(|(x, mean)| x - mean);
            match &weights {
                Some(weights) => moved.extend(x.zip(weights).map(|(x, w)| x * w)),
                None => moved.extend(x),
            }
        }
        let basis = Basis::round(&eigenvectors(covariance(&moved, dim), dim), dim);
        let inverse: Vec<f32> = basis.inverse().into_iter().map(|x| x as f32).collect();
        let mut coefficients = vec![0.0; moved.len()];
        for (x, c) in moved.chunks_exact(dim).zip(coefficients.chunks_exact_mut(dim)) {
            for (c, row) in c.iter_mut().zip(inverse.chunks_exact(dim)) {
                *c = dot(x, row);
            }
        }
        Head { dim, sinks, mean, weights, basis, coefficients }
    }

    fn write(&self, step: f32, wire: &mut Wire) {
        let codes: Vec<i32> = self.coefficients.iter().map(|&c| code(c / step)).collect();
        let tokens = codes.len() / self.dim.max(1);
        let column = |i: usize| {
            (0..tokens).map({
                let codes = &codes;
                move |token| codes[token * self.dim + i]
            })
        };
        let used: Vec<bool> = (0..self.dim).map(|i| column(i).any(|x| x != 0)).collect();
        let rank = used.iter().rposition(|&used| used).map_or(0, |last| last + 1);
        let tables: Vec<usize> = (0..rank).map(|i| best(column(i)).0).collect();
        self.sinks.iter().for_each(|&x| wire.f16(x));
        self.mean.iter().for_each(|&x| wire.f16(x));
        wire.u8(u8::from(self.weights.is_some()));
        self.weights.iter().flatten().for_each(|&w| wire.f16(w));
        wire.f32(step);
        wire.u32(rank as u32);
        wire.0.extend(tables.iter().map(|&table| table as u8));
        self.basis.write(rank, wire);
        let mut writer = varied::Writer::with_capacity(tokens * rank);
        for token in codes.chunks_exact(self.dim) {
            token.iter().zip(&tables).for_each(|(&x, &index)| table(index).put(x, &mut writer));
        }
        wire.block(&writer.finish());
    }
}

impl Prepared for Side {
    fn encode(&self, step: f32) -> Vec<u8> {
        let mut wire = Wire(Vec::with_capacity(self.tokens * self.heads.len() * 16));
        self.heads.iter().for_each(|head| head.write(step, &mut wire));
        wire.0
    }

    fn unit(&self) -> f32 {
        let (mut square, mut count) = (0.0f64, 0usize);
        for head in &self.heads {
            square += head.coefficients.iter().map(|&c| f64::from(c) * f64::from(c)).sum::<f64>();
            count += head.coefficients.len();
        }
        if self.heads.iter().all(|head| head.weights.is_some()) {
            return 1.0;
        }
        ((square / count.max(1) as f64).sqrt() as f32).max(1e-6)
    }
}

/// A coefficient in steps, rounded with a dead zone.
fn code(x: f32) -> i32 {
    if x.abs() < DEAD { 0 } else { x.round_ties_even().clamp(-1e9, 1e9) as i32 }
}

/// In eight chains and a tree, so that it can be vectorised.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

fn covariance(rows: &[f32], dim: usize) -> Vec<f64> {
    let mut all = vec![0.0f64; dim * dim];
    let mut part = vec![0.0f32; dim * dim];
    for block in rows.chunks(64 * dim.max(1)) {
        part.fill(0.0);
        for row in block.chunks_exact(dim) {
            for (sums, &x) in part.chunks_exact_mut(dim).zip(row) {
                sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += x * y);
            }
        }
        all.iter_mut().zip(&part).for_each(|(all, &part)| *all += f64::from(part));
    }
    all
}

fn read_head(reader: &mut Reader<'_>, rows: &mut Matrix, columns: std::ops::Range<usize>) -> Result<(), Error> {
    let (dim, tokens) = (columns.len(), rows.rows());
    let split = SINKS.min(tokens);
    for row in 0..split {
        for x in &mut rows.row_mut(row)[columns.clone()] {
            *x = reader.f16()?;
        }
    }
    let numbers = |reader: &mut Reader<'_>| (0..dim).map(|_| reader.f16()).collect::<Result<Vec<f32>, Error>>();
    let mean = numbers(reader)?;
    let weights = if reader.u8()? != 0 { Some(numbers(reader)?) } else { None };
    let step = reader.f32()?;
    let rank = reader.u32()? as usize;
    if rank > dim {
        return Err(Error::Content { offset: 0, what: "more axes than a head has channels" });
    }
    let tables = reader.take(rank)?;
    if tables.iter().any(|&index| usize::from(index) >= TABLES) {
        return Err(Error::Content { offset: 0, what: "a table of probabilities that does not exist" });
    }
    let mut vectors = Basis::read(reader, rank, dim)?.times(step);
    if let Some(weights) = weights {
        vectors.iter_mut().enumerate().for_each(|(at, x)| *x /= weights[at % dim]);
    }
    let tables: Vec<_> = tables.iter().map(|&index| table(usize::from(index))).collect();
    let mut codes = varied::Reader::new(reader.block()?).map_err(|_| ENDS)?;
    let mut coefficients = Matrix::zeros(tokens - split, rank);
    for row in 0..tokens - split {
        let numbers = coefficients.row_mut(row).iter_mut().zip(&tables);
        numbers.for_each(|(x, table)| *x = table.get(&mut codes) as f32);
    }
    let axes: Vec<f32> = (0..dim).flat_map(|at| vectors.iter().skip(at).step_by(dim)).copied().collect();
    let mut sums = Matrix::zeros(tokens - split, dim);
    DensePanels::from_f32(dim, rank, &axes).multiply(coefficients.view(), &mut sums.view_mut(), false);
    for row in split..tokens {
        let moved = sums.row(row - split).iter().zip(&mean);
        rows.row_mut(row)[columns.clone()].iter_mut().zip(moved).for_each(|(out, (x, mean))| *out = x + mean);
    }
    codes.finish().map_err(|_| ENDS)
}
