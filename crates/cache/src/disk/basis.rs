//! A decorrelating basis of a head's numbers, rounded to bytes, and how numbers become its coefficients.
//!
//! The eigenvectors of the covariance (cyclic Jacobi rotations in f64, in a written order) are rounded to 8 bits with a scale each.
//! Rounded they are not quite orthogonal, so coefficients come from the inverse of what is stored, not from its transpose:
//! `x = Σ c_i·b_i` holds for the rounded `b_i`, and nothing is lost but what quantisation takes.

use super::wire::{Reader, Wire};
use crate::Error;

/// Sweeps of rotations at most; ten leave nothing off the diagonal that f64 could see.
const SWEEPS: usize = 12;

/// Eigenvectors of a symmetric matrix (rows of `size` numbers), one a row, the largest eigenvalue first.
pub(crate) fn eigenvectors(mut a: Vec<f64>, size: usize) -> Vec<f64> {
    let mut v = vec![0.0; size * size];
    (0..size).for_each(|i| v[i * size + i] = 1.0);
    let all: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..size).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * size + j].powi(2)).sum();
        if off <= 1e-22 * all {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut v, size, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&i, &j| a[j * size + j].total_cmp(&a[i * size + i]));
    order.iter().flat_map(|&i| v[i * size..][..size].iter().copied()).collect()
}

/// One rotation that makes `a[p][q]` zero; `v` holds the vectors in rows.
fn rotate(a: &mut [f64], v: &mut [f64], size: usize, p: usize, q: usize) {
    let apq = a[p * size + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * size + q] - a[p * size + p]) / (2.0 * apq);
    let t = if theta >= 0.0 { 1.0 } else { -1.0 } / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..size {
        let (x, y) = (a[k * size + p], a[k * size + q]);
        (a[k * size + p], a[k * size + q]) = (c * x - s * y, s * x + c * y);
    }
    for rows in [a, v] {
        let (before, after) = rows.split_at_mut(q * size);
        for (x, y) in before[p * size..][..size].iter_mut().zip(&mut after[..size]) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    }
}

/// Vectors of `dim` numbers in 8 bits, with a scale each.
pub(super) struct Basis {
    dim: usize,
    scales: Vec<f32>,
    codes: Vec<i8>,
}

impl Basis {
    /// Rounds vectors, `dim` numbers each.
    pub(super) fn round(vectors: &[f64], dim: usize) -> Basis {
        let mut wire = Wire::default();
        let mut basis = Basis { dim, scales: Vec::new(), codes: Vec::new() };
        for vector in vectors.chunks_exact(dim) {
            let most = vector.iter().fold(0.0f64, |most, x| most.max(x.abs())).max(1e-4);
            wire.0.clear();
            wire.f16((most / 127.0) as f32);
            let scale = Reader::new(&wire.0).f16().unwrap_or(1.0).max(f32::MIN_POSITIVE);
            basis.scales.push(scale);
            let code = |x: &f64| (x / f64::from(scale)).round_ties_even().clamp(-127.0, 127.0) as i8;
            basis.codes.extend(vector.iter().map(code));
        }
        basis
    }

    /// How many vectors there are.
    pub(super) fn rank(&self) -> usize {
        self.scales.len()
    }

    /// Vector `i` as it is stored.
    fn vector(&self, i: usize) -> impl Iterator<Item = f32> {
        self.codes[i * self.dim..][..self.dim].iter().map(move |&code| f32::from(code) * self.scales[i])
    }

    /// All vectors times a factor, row by row.
    pub(super) fn times(&self, factor: f32) -> Vec<f32> {
        (0..self.rank()).flat_map(|i| self.vector(i).map(move |x| x * factor)).collect()
    }

    /// The inverse of a square basis, column i for coefficient i: rows of `dim` numbers so that `c_i = ⟨x, row_i⟩`.
    ///
    /// Newton's iteration `X ← X(2I − BX)` from the transpose, which is nearly right to begin with.
    pub(super) fn inverse(&self) -> Vec<f64> {
        let n = self.dim;
        let b: Vec<f64> = self.times(1.0).into_iter().map(f64::from).collect();
        // Row i of `y` is column i of the inverse of the matrix with the vectors as rows, so y starts as b itself.
        let mut y = b.clone();
        for _ in 0..4 {
            // gram[i][j] = ⟨b_i, y_j⟩, the identity in the end.
            let mut gram = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..n {
                    gram[i * n + j] = (0..n).map(|k| b[i * n + k] * y[j * n + k]).sum();
                }
            }
            let mut next = vec![0.0; n * n];
            for j in 0..n {
                for i in 0..n {
                    let factor = if i == j { 2.0 } else { 0.0 } - gram[i * n + j];
                    let (from, to) = (&y[i * n..][..n], &mut next[j * n..][..n]);
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
                }
            }
            y = next;
        }
        y
    }

    /// Writes the first `rank` vectors.
    pub(super) fn write(&self, rank: usize, wire: &mut Wire) {
        for i in 0..rank {
            wire.f16(self.scales[i]);
            wire.0.extend(self.codes[i * self.dim..][..self.dim].iter().map(|&code| code as u8));
        }
    }

    /// Reads `rank` vectors.
    ///
    /// # Errors
    /// If bytes are missing.
    pub(super) fn read(reader: &mut Reader<'_>, rank: usize, dim: usize) -> Result<Basis, Error> {
        let mut basis = Basis { dim, scales: Vec::new(), codes: Vec::new() };
        for _ in 0..rank {
            basis.scales.push(reader.f16()?);
            basis.codes.extend(reader.take(dim)?.iter().map(|&byte| byte as i8));
        }
        Ok(basis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_orthogonal_and_sorted_and_the_inverse_inverts() {
        let n = 24;
        let noise = |i: usize| ((i * 7919 + 13) % 1009) as f64 / 504.5 - 1.0;
        let rows: Vec<Vec<f64>> =
            (0..60).map(|r| (0..n).map(|i| noise(r * n + i) * (1.0 + i as f64)).collect()).collect();
        let covariance: Vec<f64> =
            (0..n * n).map(|at| rows.iter().map(|row| row[at / n] * row[at % n]).sum::<f64>()).collect();
        let vectors = eigenvectors(covariance.clone(), n);
        let mut last = f64::INFINITY;
        for (i, v) in vectors.chunks_exact(n).enumerate() {
            let image: Vec<f64> = (0..n).map(|r| (0..n).map(|c| covariance[r * n + c] * v[c]).sum::<f64>()).collect();
            let value: f64 = image.iter().zip(v).map(|(a, b)| a * b).sum();
            assert!(image.iter().zip(v).all(|(a, b)| (a - value * b).abs() < 1e-6 * (1.0 + value.abs())), "{i}");
            assert!(value <= last + 1e-9);
            last = value;
        }
        let basis = Basis::round(&vectors, n);
        let inverse = basis.inverse();
        let stored = basis.times(1.0);
        for i in 0..n {
            for j in 0..n {
                let dot: f64 = (0..n).map(|k| f64::from(stored[i * n + k]) * inverse[j * n + k]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j}: {dot}");
            }
        }
    }
}
