//! What errors of a key's channels do to its scores, together.
//!
//! A score is off by `⟨q, e⟩` where the stored key is off by e. With the second moment `H = E[q·qᵀ]` of the queries that look at
//! it, the squared error of its scores is `eᵀ·H·e`, and not `Σ e²`. With `H = L·D·Lᵀ` (L unit lower triangular, D diagonal)
//!
//! `eᵀ·H·e = Σ_j D_j·(e_j + Σ_{i>j} L_ij·e_i)²`,
//!
//! so channels are rounded from the last to the first, each taking up what those behind it left: the rounding of GPTQ (Frantar et
//! al. 2022, arXiv 2210.17323), which is Babai's nearest plane. Codes are read back as ever: only their choice knows of H.

use crate::convert::{f16_to_f32, f32_to_f16};

/// L and D of a second moment of queries: L in 4 bits, with a scale (f16) to a row.
#[derive(Clone)]
pub struct Feedback {
    /// Row by row what is left of the diagonal, 8 more than it is, two numbers to a byte.
    lower: Vec<u8>,
    scales: Vec<u16>,
    /// D over its greatest number, f16.
    weights: Vec<u16>,
}

/// Share of the mean diagonal that is added to it.
const DAMPING: f64 = 0.01;

impl Feedback {
    /// From `H`, (dim, dim), in the basis in which keys are stored; of the two halves the lower is read. Computed in f64, one
    /// sum after another.
    ///
    /// # Panics
    /// If `h` does not hold `dim · dim` numbers.
    pub fn new(h: &[f32], dim: usize) -> Feedback {
        assert_eq!(h.len(), dim * dim, "a second moment of {dim} channels");
        let trace: f64 = (0..dim).map(|i| f64::from(h[i * dim + i])).sum();
        let some = trace > 0.0 && trace.is_finite();
        let (l, d) =
            if some { decompose(h, dim, DAMPING * trace / dim as f64) } else { (vec![0.0; dim * dim], vec![1.0; dim]) };
        let greatest = d.iter().fold(0f64, |most, &d| most.max(d));
        let mut lower = vec![0; Self::bytes_of(dim) - 4 * dim];
        let (mut scales, mut at) = (Vec::with_capacity(dim), 0);
        for i in 0..dim {
            let row = &l[i * dim..][..i];
            let scale = f32_to_f16((row.iter().fold(0f64, |most, x| most.max(x.abs())) / 7.0) as f32);
            let wide = f64::from(f16_to_f32(scale));
            for x in row {
                let code = if wide > 0.0 { (x / wide).round_ties_even().clamp(-7.0, 7.0) } else { 0.0 };
                lower[at / 2] |= ((code as i8 + 8) as u8) << (4 * (at % 2));
                at += 1;
            }
            scales.push(scale);
        }
        let weights = d.iter().map(|d| f32_to_f16((d / greatest) as f32)).collect();
        Feedback { lower, scales, weights }
    }

    /// Channels.
    pub fn dim(&self) -> usize {
        self.scales.len()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.lower.capacity() + 2 * (self.scales.capacity() + self.weights.capacity())
    }

    /// Bytes that one for so many channels takes.
    pub fn bytes_of(dim: usize) -> usize {
        (dim * dim.saturating_sub(1) / 2).div_ceil(2) + 4 * dim
    }

    /// L as numbers, row by row below the diagonal; D.
    pub(super) fn widen(&self, lower: &mut Vec<f32>, weights: &mut Vec<f32>) {
        lower.clear();
        for (i, &scale) in self.scales.iter().enumerate() {
            let (first, scale) = (i * i.saturating_sub(1) / 2, f16_to_f32(scale));
            let code = |at: usize| i32::from(self.lower[at / 2] >> (4 * (at % 2)) & 15) - 8;
            lower.extend((first..first + i).map(|at| code(at) as f32 * scale));
        }
        weights.clear();
        weights.extend(self.weights.iter().map(|&d| f16_to_f32(d)));
    }
}

/// `H + damping·I = L·D·Lᵀ`.
fn decompose(h: &[f32], dim: usize, damping: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut l, mut d) = (vec![0.0f64; dim * dim], vec![0.0f64; dim]);
    // Row i of L·D.
    let mut scaled = vec![0.0f64; dim];
    for i in 0..dim {
        for j in 0..i {
            let known: f64 = (0..j).map(|k| scaled[k] * l[j * dim + k]).sum();
            scaled[j] = f64::from(h[i * dim + j]) - known;
            l[i * dim + j] = scaled[j] / d[j];
        }
        let known: f64 = (0..i).map(|k| scaled[k] * l[i * dim + k]).sum();
        d[i] = (f64::from(h[i * dim + i]) + damping - known).max(damping);
    }
    (l, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_what_it_was_made_of() {
        let dim = 24;
        let noise = |i: usize| ((i * 7919 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let x: Vec<f32> = (0..40 * dim).map(|i| noise(i) * (1.0 + (i % dim) as f32 / 4.0)).collect();
        let h: Vec<f32> = (0..dim * dim)
            .map(|at| x.chunks(dim).map(|row| row[at / dim] * row[at % dim]).sum::<f32>() / 40.0)
            .collect();
        let (l, d) = decompose(&h, dim, 0.0);
        for i in 0..dim {
            for j in 0..=i {
                let of = |r: usize, k: usize| if r == k { 1.0 } else { l[r * dim + k] };
                let back: f64 = (0..=j).map(|k| of(i, k) * d[k] * of(j, k)).sum();
                assert!((back - f64::from(h[i * dim + j])).abs() < 1e-4, "{i} {j}");
            }
        }
        let (mut lower, mut weights) = (Vec::new(), Vec::new());
        let feedback = Feedback::new(&h, dim);
        feedback.widen(&mut lower, &mut weights);
        assert_eq!((lower.len(), weights.len(), feedback.dim()), (dim * (dim - 1) / 2, dim, dim));
        assert_eq!(feedback.bytes(), Feedback::bytes_of(dim));
        let trace: f64 = (0..dim).map(|i| f64::from(h[i * dim + i])).sum();
        let (l, _) = decompose(&h, dim, DAMPING * trace / dim as f64);
        let exact = (1..dim).flat_map(|i| l[i * dim..][..i].to_vec());
        let most = l.iter().fold(0f64, |most, x| most.max(x.abs()));
        assert!(exact.zip(&lower).all(|(exact, &x)| (exact - f64::from(x)).abs() < 0.1 * most + 0.02), "{lower:?}");
        assert!(lower.iter().any(|x| *x != 0.0) && weights.contains(&1.0));
    }

    #[test]
    fn nothing_known_feeds_nothing_back() {
        for h in [[0.0; 9], [f32::NAN; 9], [f32::INFINITY; 9]] {
            let (mut lower, mut weights) = (Vec::new(), Vec::new());
            Feedback::new(&h, 3).widen(&mut lower, &mut weights);
            assert_eq!((lower, weights), (vec![0.0; 3], vec![1.0; 3]));
        }
    }
}
