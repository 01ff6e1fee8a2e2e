//! What happens to the input before the parts see it: `W·x = W'·T(x)` with `W' = W·T⁻¹`.

use crate::Error;
use brevity_kernels::Matrix;
use brevity_kernels::hadamard::hadamard_blocks;
use serde::{Deserialize, Serialize};

/// A transform of the input's columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transform {
    /// `T(x)[i] = x[order[i]]`: columns sorted by importance, for instance.
    Permutation { order: Vec<u32> },
    /// `T(x)[i] = x[i]·factors[i]`: AWQ's and SmoothQuant's migration of difficulty.
    Scaling { factors: Vec<f32> },
    /// Random signs (where there is a seed), then a normalised Walsh–Hadamard transform of each run of `block` columns:
    /// incoherence. Column `i` changes its sign where the lowest bit of splitmix64's output `i` for that seed is set.
    Hadamard { block: usize, seed: Option<u32> },
}

impl Transform {
    /// Checks that the transform is one of `cols` columns.
    pub fn check(&self, cols: usize) -> Result<(), Error> {
        match self {
            Transform::Permutation { order } => check_permutation(order, cols),
            Transform::Scaling { factors } => check_length("scaling", factors.len(), cols),
            Transform::Hadamard { block, .. } => {
                let fits = block.is_power_of_two() && cols.is_multiple_of(*block);
                if fits { Ok(()) } else { Err(Error::HadamardBlock { block: *block, cols }) }
            }
        }
    }

    /// Bits that the transform takes in a file: 32 an index or factor; a Hadamard transform is its descriptor.
    pub fn bits(&self) -> u64 {
        match self {
            Transform::Permutation { order } => 32 * order.len() as u64,
            Transform::Scaling { factors } => 32 * factors.len() as u64,
            Transform::Hadamard { .. } => 0,
        }
    }

    /// Applies `T` to every row of `x`.
    pub fn apply(&self, x: &mut Matrix) {
        let cols = x.cols();
        let signs = self.signs(cols);
        x.view_mut().parallel_rows((1 << 13) / cols.max(1), |_, row| self.apply_row(row, &signs));
    }

    /// The sign bits of a Hadamard transform with a seed; else none.
    fn signs(&self, cols: usize) -> Vec<u32> {
        match self {
            Transform::Hadamard { seed: Some(seed), .. } => {
                (0..cols as u64).map(|column| (splitmix64(u64::from(*seed), column) as u32 & 1) << 31).collect()
            }
            _ => Vec::new(),
        }
    }

    fn apply_row(&self, row: &mut [f32], signs: &[u32]) {
        match self {
            Transform::Permutation { order } => {
                let source = row.to_vec();
                for (value, &from) in row.iter_mut().zip(order) {
                    *value = source[from as usize];
                }
            }
            Transform::Scaling { factors } => row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor),
            Transform::Hadamard { block, .. } => {
                flip(row, signs);
                hadamard_blocks(row, *block);
            }
        }
    }

    /// Takes a row of `W'` back to a row of `W`: `w = Tᵀ(w')`, since `W·x = W'·T·x`.
    pub fn undo_row(&self, row: &mut [f32]) {
        match self {
            Transform::Permutation { order } => {
                let source = row.to_vec();
                for (&to, value) in order.iter().zip(source) {
                    row[to as usize] = value;
                }
            }
            Transform::Scaling { .. } => self.apply_row(row, &[]),
            Transform::Hadamard { block, .. } => {
                hadamard_blocks(row, *block);
                flip(row, &self.signs(row.len()));
            }
        }
    }
}

fn flip(row: &mut [f32], signs: &[u32]) {
    row.iter_mut().zip(signs).for_each(|(value, sign)| *value = f32::from_bits(value.to_bits() ^ sign));
}

/// Output `index` of the generator splitmix64 (Steele, Lea, Flood 2014) that starts at `seed`.
fn splitmix64(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

fn check_length(kind: &'static str, found: usize, cols: usize) -> Result<(), Error> {
    if found == cols { Ok(()) } else { Err(Error::TransformLength { kind, found, cols }) }
}

fn check_permutation(order: &[u32], cols: usize) -> Result<(), Error> {
    check_length("permutation", order.len(), cols)?;
    let mut seen = vec![false; cols];
    for (index, &from) in order.iter().enumerate() {
        let wrong = Error::Permutation { index, found: from as usize, cols };
        match seen.get_mut(from as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(wrong),
        }
    }
    Ok(())
}
