//! Sixteen sub-blocks side by side.

use brevity_kernels::simd::LANES;

/// Larger weights than this fit no block type: the largest scale times the largest code.
const LARGEST: f32 = 1e9;

/// Weights of sixteen sub-blocks of `n` (16 or 32), lane by lane: `x[k][lane]` is weight k of sub-block `lane`.
pub struct Group {
    /// Weights in a sub-block.
    pub n: usize,
    /// The weights.
    pub x: [[f32; LANES]; 32],
    /// Their importances, all positive.
    pub w: [[f32; LANES]; 32],
}

/// How much more the error of a large weight counts than that of a small one in the same sub-block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tilt {
    /// Alike.
    None,
    /// By the fourth root of `1 + x² / mean x²`.
    Quarter,
    /// By its square root.
    Half,
}

/// Codes as they will be stored, `codes[k][lane]`.
pub type Codes = [[u8; LANES]; 32];

impl Group {
    /// Sixteen sub-blocks of `n` zeros with importance one.
    pub fn new(n: usize) -> Self {
        Group { n, x: [[0.0; LANES]; 32], w: [[1.0; LANES]; 32] }
    }

    /// Takes up to sixteen consecutive sub-blocks, limited to what the formats can hold. Lanes beyond them keep old weights.
    pub fn load(&mut self, values: &[f32]) {
        for (lane, values) in values.chunks_exact(self.n).enumerate().take(LANES) {
            for (x, value) in self.x.iter_mut().zip(values) {
                x[lane] = value.clamp(-LARGEST, LARGEST);
            }
        }
    }

    /// Makes all importances one.
    pub fn forget_importance(&mut self) {
        self.w = [[1.0; LANES]; 32];
    }

    /// Multiplies the importances by `(1 + x² / mean x²)^(1/2)`, the mean taken over each sub-block, or by the root of that.
    pub fn tilt(&mut self, tilt: Tilt) {
        let mut mean = [0.0; LANES];
        for x in &self.x[..self.n] {
            for lane in 0..LANES {
                mean[lane] += x[lane] * x[lane];
            }
        }
        let inverse = mean.map(|sum| if sum > 1e-30 { self.n as f32 / sum } else { 0.0 });
        for (x, w) in self.x[..self.n].iter().zip(&mut self.w) {
            for lane in 0..LANES {
                let root = (1.0 + x[lane] * x[lane] * inverse[lane]).sqrt();
                w[lane] *= match tilt {
                    Tilt::None => 1.0,
                    Tilt::Quarter => root.sqrt(),
                    Tilt::Half => root,
                };
            }
        }
    }

    /// Takes the importances of sub-blocks whose first weight stands in column `start` (modulo the row's length).
    pub fn load_importance(&mut self, importance: &[f32], start: usize) {
        for lane in 0..LANES {
            let column = (start + lane * self.n) % importance.len();
            for (w, value) in self.w.iter_mut().zip(&importance[column..column + self.n]) {
                w[lane] = *value;
            }
        }
    }
}

/// Writes the codes of lanes `first..` in the order of the weights.
pub fn gather(codes: &Codes, n: usize, first: usize, out: &mut [u8]) {
    for (lane, out) in out.chunks_exact_mut(n).enumerate() {
        for (code, codes) in out.iter_mut().zip(codes) {
            *code = codes[first + lane];
        }
    }
}
