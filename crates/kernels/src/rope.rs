//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864).
//!
//! Pair i of a head is turned by the angle `position · scale · base^(−2i/dim) / factor[i]`, computed in f64 with our
//! own sine and cosine and rounded to f32 once: `y₀ = fma(−x₁, sin, x₀·cos)`, `y₁ = fma(x₀, sin, x₁·cos)`.
//! Angles are made once per batch of positions and serve all layers and heads.

use crate::isa::Isa;
use crate::math::double;
use crate::matrix::{Matrix, MatrixMut};
use crate::simd::{LANES, kernel};

/// Which two values of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// i and i + dim/2 (Hugging Face; GGUF's NeoX).
    Half,
    /// 2i and 2i + 1 (llama2.c; GGUF's Llama).
    Interleaved,
}

/// The frequencies of a model.
#[derive(Clone, Debug)]
pub struct RopeTable {
    style: RopeStyle,
    frequencies: Vec<f64>,
    magnitude: f64,
}

/// Cosines and sines of a batch of positions.
#[derive(Clone, Debug)]
pub struct RopeAngles {
    style: RopeStyle,
    dim: usize,
    cos: Matrix,
    sin: Matrix,
}

impl RopeTable {
    /// Frequencies `base^(−2i/dim) · scale / factors[i]`, i < dim/2. `factors` are the model's own (llama3 scaling,
    /// `rope_freqs` of GGUF); `scale` multiplies positions (linear scaling by 4 is 0.25).
    ///
    /// # Panics
    /// If `dim` is odd, or there are not `dim / 2` factors.
    pub fn new(style: RopeStyle, base: f64, dim: usize, factors: Option<&[f64]>, scale: f64) -> RopeTable {
        assert!(dim.is_multiple_of(2), "rope turns pairs, not {dim} values");
        if let Some(factors) = factors {
            assert_eq!(factors.len(), dim / 2, "a factor per frequency");
        }
        let frequency = |i: usize| {
            let factor = factors.map_or(1.0, |f| f[i]);
            double::pow(base, -((2 * i) as f64) / dim as f64) * scale / factor
        };
        RopeTable { style, frequencies: (0..dim / 2).map(frequency).collect(), magnitude: 1.0 }
    }

    /// Multiplies all cosines and sines (YaRN's attention factor).
    pub fn with_magnitude(self, magnitude: f64) -> RopeTable {
        RopeTable { magnitude, ..self }
    }

    /// How many values of a head are turned; those behind stay as they are.
    pub fn dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The angles of these positions, one row each.
    pub fn angles(&self, positions: &[u32]) -> RopeAngles {
        let isa = Isa::current();
        let (half, spread) = match self.style {
            RopeStyle::Half => (self.frequencies.len(), 1),
            RopeStyle::Interleaved => (self.frequencies.len(), 2),
        };
        let (mut cos, mut sin) =
            (Matrix::zeros(positions.len(), half * spread), Matrix::zeros(positions.len(), half * spread));
        let sin_rows = crate::pool::Shared(sin.data_mut().as_mut_ptr());
        cos.view_mut().parallel_rows((1 << 10) / half.max(1), |i, cos| {
            // SAFETY: row i of `sin` belongs to this task, as row i of `cos` does.
            let sin = unsafe { std::slice::from_raw_parts_mut(sin_rows.get().add(i * half * spread), half * spread) };
            isa.with(|| turn(f64::from(positions[i]), &self.frequencies, self.magnitude, spread, cos, sin));
        });
        RopeAngles { style: self.style, dim: self.dim(), cos, sin }
    }
}

kernel! {
    /// `spread` 2 writes each angle for both values of its pair, the sine of the first negated.
    fn turn<'a>(_s, position: f64, frequencies: &'a [f64], magnitude: f64, spread: usize, cos: &'a mut [f32], sin: &'a mut [f32]) {
        for (i, &frequency) in frequencies.iter().enumerate() {
            let (sine, cosine) = double::sin_cos(position * frequency);
            let (sine, cosine) = ((sine * magnitude) as f32, (cosine * magnitude) as f32);
            if spread == 1 {
                (cos[i], sin[i]) = (cosine, sine);
            } else {
                (cos[2 * i], cos[2 * i + 1]) = (cosine, cosine);
                (sin[2 * i], sin[2 * i + 1]) = (-sine, sine);
            }
        }
    }
}

/// First and second moments of a rotation R(p) over positions p, as if a vector stood at each of them.
///
/// Value i becomes `cos_i·x_i + σ_i·sin_i·x_{p(i)}`, p(i) its partner, σ −1 for the first of a pair and 1 for the second; values
/// behind the table have cosine 1 and sine 0. So `E[R·x]` needs the means of cosines and sines, and `E[R·H·Rᵀ]` those of their
/// products.
#[derive(Clone, Debug)]
pub struct RopeMoments {
    style: RopeStyle,
    pairs: usize,
    /// (pairs + 1)², the last for values behind the table: means of cos·cos, cos·sin, sin·sin.
    cos_cos: Vec<f32>,
    cos_sin: Vec<f32>,
    sin_sin: Vec<f32>,
}

impl RopeMoments {
    /// Of these angles, all alike.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(angles: &RopeAngles) -> RopeMoments {
        let (pairs, rows) = (angles.dim / 2, angles.cos.rows());
        assert!(rows > 0, "moments of no positions");
        let (stride, spread) = (pairs + 1, if angles.style == RopeStyle::Half { 1 } else { 2 });
        let zeros = || vec![0.0; stride * stride];
        let (mut cos_cos, mut cos_sin, mut sin_sin) = (zeros(), zeros(), zeros());
        for row in 0..rows {
            let pick = |of: &Matrix, last: f32| -> Vec<f32> {
                of.row(row)[spread - 1..].iter().step_by(spread).copied().chain([last]).collect()
            };
            let (cos, sin) = (pick(&angles.cos, 1.0), pick(&angles.sin, 0.0));
            for i in 0..stride {
                let at = i * stride..(i + 1) * stride;
                cos_cos[at.clone()].iter_mut().zip(&cos).for_each(|(sum, x)| *sum += cos[i] * x);
                cos_sin[at.clone()].iter_mut().zip(&sin).for_each(|(sum, x)| *sum += cos[i] * x);
                sin_sin[at].iter_mut().zip(&sin).for_each(|(sum, x)| *sum += sin[i] * x);
            }
        }
        let all = cos_cos.iter_mut().chain(&mut cos_sin).chain(&mut sin_sin);
        all.for_each(|sum| *sum /= rows as f32);
        RopeMoments { style: angles.style, pairs, cos_cos, cos_sin, sin_sin }
    }

    /// A value's pair, its partner and σ.
    fn place(&self, i: usize) -> (usize, usize, f32) {
        let pairs = self.pairs;
        match self.style {
            _ if i >= 2 * pairs => (pairs, i, 0.0),
            RopeStyle::Half if i < pairs => (i, i + pairs, -1.0),
            RopeStyle::Half => (i - pairs, i - pairs, 1.0),
            RopeStyle::Interleaved => (i / 2, i ^ 1, if i.is_multiple_of(2) { -1.0 } else { 1.0 }),
        }
    }

    /// `E[R·x]`.
    pub fn mean(&self, x: &[f32]) -> Vec<f32> {
        let behind = self.pairs;
        let turned = |i: usize| {
            let (pair, partner, sign) = self.place(i);
            let at = pair * (self.pairs + 1);
            // Products with the cosine 1 of what lies behind are the means themselves.
            let sin = self.cos_sin[behind * (self.pairs + 1) + pair];
            self.cos_cos[at + behind] * x[i] + sign * sin * x[partner]
        };
        (0..x.len()).map(turned).collect()
    }

    /// `E[R·H·Rᵀ]`, H of (dim, dim).
    ///
    /// # Panics
    /// If H is not square, or smaller than the table.
    pub fn second(&self, h: &Matrix) -> Matrix {
        let (dim, stride) = (h.rows(), self.pairs + 1);
        assert!(h.cols() == dim && dim >= 2 * self.pairs, "a second moment of {dim} values");
        let mut turned = Matrix::zeros(dim, dim);
        for i in 0..dim {
            let (a, p, s) = self.place(i);
            for j in 0..dim {
                let (b, q, t) = self.place(j);
                let (at, back) = (a * stride + b, b * stride + a);
                turned.row_mut(i)[j] = self.cos_cos[at] * h.row(i)[j]
                    + t * self.cos_sin[at] * h.row(i)[q]
                    + s * self.cos_sin[back] * h.row(p)[j]
                    + s * t * self.sin_sin[at] * h.row(p)[q];
            }
        }
        turned
    }
}

impl RopeAngles {
    /// The angles that undo these: what was turned, and made larger by the magnitude, is as before up to rounding.
    pub fn inverse(&self) -> RopeAngles {
        let mut back = self.clone();
        for (cos, sin) in back.cos.data_mut().iter_mut().zip(back.sin.data_mut()) {
            let square = *cos * *cos + *sin * *sin;
            (*cos, *sin) = (*cos / square, -*sin / square);
        }
        back
    }

    /// Turns the first [`RopeTable::dim`] values of each head of each row: x is (positions, heads · head_dim).
    ///
    /// # Panics
    /// If rows are not as many as positions, or not whole heads, or heads are shorter than the table.
    pub fn apply(&self, x: &mut MatrixMut<'_>, head_dim: usize) {
        assert_eq!(x.rows(), self.cos.rows(), "a row per position");
        assert!(head_dim > 0 && x.cols().is_multiple_of(head_dim), "{} columns in heads of {head_dim}", x.cols());
        assert!(self.dim <= head_dim, "rope of {} values in heads of {head_dim}", self.dim);
        let isa = Isa::current();
        x.parallel_rows((1 << 14) / x.cols().max(1), |i, row| {
            let (cos, sin) = (self.cos.row(i), self.sin.row(i));
            isa.with(|| match self.style {
                RopeStyle::Half => turn_halves(row, head_dim, cos, sin),
                RopeStyle::Interleaved => turn_pairs(row, head_dim, cos, sin),
            });
        });
    }
}

kernel! {
    fn turn_halves<'a>(s, row: &'a mut [f32], head_dim: usize, cos: &'a [f32], sin: &'a [f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let (first, rest) = head.split_at_mut(cos.len());
            let angles = cos.chunks(LANES).zip(sin.chunks(LANES));
            let pairs = first.chunks_mut(LANES).zip(rest[..cos.len()].chunks_mut(LANES));
            for ((cos, sin), (x0, x1)) in angles.zip(pairs) {
                let (c, n, a, b) = (s.load_part(cos), s.load_part(sin), s.load_part(x0), s.load_part(x1));
                s.store_part(x0, s.canonical(s.fnma(b, n, s.mul(a, c))));
                s.store_part(x1, s.canonical(s.fma(a, n, s.mul(b, c))));
            }
        }
    }
}

kernel! {
    fn turn_pairs<'a>(s, row: &'a mut [f32], head_dim: usize, cos: &'a [f32], sin: &'a [f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let angles = cos.chunks(LANES).zip(sin.chunks(LANES));
            for ((cos, sin), x) in angles.zip(head[..cos.len()].chunks_mut(LANES)) {
                let v = s.load_part(x);
                let y = s.fma(s.swap::<1>(v), s.load_part(sin), s.mul(v, s.load_part(cos)));
                s.store_part(x, s.canonical(y));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use proptest::prelude::*;

    fn bits(m: &Matrix) -> Vec<u32> {
        m.data().iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn the_inverse_undoes() {
        for style in [RopeStyle::Half, RopeStyle::Interleaved] {
            let angles = RopeTable::new(style, 10_000.0, 16, None, 1.0).with_magnitude(1.3).angles(&[0, 5, 4000]);
            let x = Matrix::from_vec(3, 40, (0..120).map(|i| (i as f32 * 0.7).fract() - 0.5).collect());
            let mut y = x.clone();
            angles.apply(&mut y.view_mut(), 20);
            assert!(y.data().iter().zip(x.data()).any(|(y, x)| (y - x).abs() > 0.1));
            angles.inverse().apply(&mut y.view_mut(), 20);
            assert!(y.data().iter().zip(x.data()).all(|(y, x)| (y - x).abs() < 1e-6));
        }
    }

    #[test]
    fn moments_are_those_of_what_was_turned() {
        let (dim, positions) = (20, [3u32, 40, 41, 900]);
        let noise = |i: usize| ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let h = Matrix::from_vec(
            dim,
            dim,
            (0..dim * dim).map(|at| noise(at / dim) * noise(at % dim) + noise(at + at % dim * dim)).collect(),
        );
        for style in [RopeStyle::Half, RopeStyle::Interleaved] {
            let angles = RopeTable::new(style, 100.0, 16, None, 1.0).with_magnitude(1.2).angles(&positions);
            let moments = RopeMoments::new(&angles);
            // R·H·Rᵀ turns rows, then columns; each position takes a quarter.
            let turn = |rows: &Matrix| -> Vec<Matrix> {
                let many: Vec<Matrix> = (0..dim)
                    .map(|i| {
                        let mut row = Matrix::from_vec(4, dim, rows.row(i).repeat(4));
                        angles.apply(&mut row.view_mut(), dim);
                        row
                    })
                    .collect();
                (0..4)
                    .map(|p| Matrix::from_vec(dim, dim, many.iter().flat_map(|row| row.row(p).to_vec()).collect()))
                    .collect()
            };
            let across =
                |m: &Matrix| Matrix::from_vec(dim, dim, (0..dim * dim).map(|at| m.row(at % dim)[at / dim]).collect());
            let mut expected = vec![0.0; dim * dim];
            for (p, once) in turn(&h).into_iter().enumerate() {
                let twice = across(&turn(&across(&once))[p]);
                expected.iter_mut().zip(twice.data()).for_each(|(sum, x)| *sum += x / 4.0);
            }
            let got = moments.second(&h);
            assert!(got.data().iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{style:?}");
            let mean = moments.mean(h.row(1));
            let turned: Vec<Matrix> = turn(&h);
            for (i, mean) in mean.iter().enumerate() {
                assert!((mean - turned.iter().map(|m| m.row(1)[i]).sum::<f32>() / 4.0).abs() < 1e-5, "{style:?} {i}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_isa_and_style_gives_the_specified_bits(
            half in 1usize..40, extra in 0usize..5, heads in 1usize..4, rows in 1usize..5, first in 0u32..5000,
            seed in prop::collection::vec(-3f32..3.0, 64), style in prop::sample::select(vec![RopeStyle::Half, RopeStyle::Interleaved]),
        ) {
            let (dim, head_dim) = (2 * half, 2 * half + extra);
            let data = (0..rows * heads * head_dim).map(|i| seed[i % 64] + i as f32 * 1e-3).collect();
            let x = Matrix::from_vec(rows, heads * head_dim, data);
            let positions: Vec<u32> = (0..rows as u32).map(|i| first + i * 7).collect();
            let factors: Vec<f64> = (0..half).map(|i| 1.0 + i as f64).collect();
            let mut expected = x.clone();
            reference::rope(&mut expected.view_mut(), head_dim, style, 1e4, dim, Some(&factors), 0.5, &positions);
            for isa in Isa::available() {
                let mut y = x.clone();
                isa.with(|| {
                    RopeTable::new(style, 1e4, dim, Some(&factors), 0.5).angles(&positions).apply(&mut y.view_mut(), head_dim);
                });
                prop_assert_eq!(bits(&y), bits(&expected), "{:?} {:?}", isa, style);
            }
        }
    }

    #[test]
    fn lengths_stay_and_angles_add() {
        let table = RopeTable::new(RopeStyle::Half, 5e5, 64, None, 1.0);
        let x = Matrix::from_vec(1, 64, (0..64).map(|i| (i as f32 * 0.37).sin()).collect());
        let turn = |by: u32, x: &Matrix| {
            let mut y = x.clone();
            table.angles(&[by]).apply(&mut y.view_mut(), 64);
            y
        };
        let (once, twice) = (turn(300, &x), turn(200, &turn(100, &x)));
        let norm = |m: &Matrix| m.data().iter().map(|v| v * v).sum::<f32>();
        assert!((norm(&once) / norm(&x) - 1.0).abs() < 1e-5);
        assert!(once.data().iter().zip(twice.data()).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(turn(0, &x).data(), x.data());
    }
}
