//! BitStack: a stack of signs times low-rank magnitudes, of which any number of blocks from the bottom is a model.
//!
//! "BitStack: Any-Size Compression of Large Language Models in Variable Memory Environments", 2024, arXiv 2410.23918.
//! `W` (outputs × inputs) is scaled by the size of its inputs, `R₀ = W·diag(s)`, `s_k = √(mean x_k²)`. Then, again and
//! again, *absolute value decomposition*:
//!
//! `B_i = sign(R_i) ⊙ (U_i·V_i)`, `U_i·V_i` the best approximation of `|R_i|` of rank r; `R_{i+1} = R_i − B_i`.
//!
//! A block takes one bit a weight and 16 bits for each number of its factors. Signs hold most of what a matrix says, and
//! magnitudes are near rank one, so each block takes off a good part of the residual. Blocks of all matrices are then
//! sorted by what each gains per byte; a matrix's own stay in their order. What is stored has `s` taken out of `V` again,
//! and says its gain: the share of `‖R₀‖²` that it takes off (a writer may weigh it by how much the model minds).

use super::spectrum::leading;
use crate::method::{Needs, Statistics, WeightMethod};
use crate::quantize::RoundToNearest;
use crate::{Error, Level, Sum};
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};
use half::f16;

/// BitStack.
pub struct BitStack;

static CARD: MethodCard = MethodCard {
    name: "bitstack",
    room: "weights",
    title: "BitStack: Any-Size Compression of Large Language Models in Variable Memory Environments",
    year: 2024,
    arxiv: Some("2410.23918"),
    mechanism: "Takes the signs of what is left and a low-rank approximation of its magnitudes as a block of about one bit a \
                weight, again and again; blocks are sorted over the whole model, and any first n megabytes are a model.",
    guarantees: &[
        "every block lowers the error of its matrix, weighted by the size of the inputs",
        "a prefix of a matrix's blocks is what compressing to fewer blocks gives, byte for byte",
        "the same weights and second moments give the same bytes at any thread count",
    ],
    simplifications: &[
        "blocks are sorted by the error they take off per byte, where the paper measures perplexity block by block",
        "magnitudes come from subspace iteration, not a whole decomposition",
    ],
};

/// Iterations for the leading vectors of a block's magnitudes.
const SWEEPS: usize = 3;

/// A block and what it leaves.
pub struct Block {
    /// [`StoredPart::SignScale`].
    pub part: StoredPart,
    /// Share of `‖W·diag(s)‖²` that is left after this block and those before it.
    pub left: f64,
}

impl WeightMethod for BitStack {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        level.is_plain() || matches!(level, Level::Sum(Sum::Stack { .. }))
    }

    fn levels(&self) -> Vec<Level> {
        (1..=12).map(|blocks| Level::Sum(Sum::Stack { blocks, rank: 0 })).collect()
    }

    fn default_level(&self) -> Option<Level> {
        Some(Level::Sum(Sum::Stack { blocks: 8, rank: 0 }))
    }

    fn needs(&self) -> Needs {
        Needs::SecondMoments
    }

    fn rows_are_independent(&self) -> bool {
        false
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        if level.is_plain() {
            return RoundToNearest.compress(w, statistics, level);
        }
        let Level::Sum(sum @ Sum::Stack { blocks, .. }) = level else {
            let can = "stack:BLOCKS[:RANK]".to_string();
            return Err(Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can });
        };
        let (rows, cols) = (w.rows(), w.cols());
        let blocks = stack(w, statistics, usize::from(blocks), sum.rank(rows, cols))?;
        let parts = blocks.into_iter().map(|block| block.part).collect();
        Ok(StoredMatrix { rows, cols, transform: None, parts })
    }
}

/// The first `count` blocks of a matrix's stack.
///
/// # Errors
/// If a weight is not finite, or the statistics are of another matrix.
pub fn stack(w: &Matrix, statistics: &Statistics, count: usize, rank: usize) -> Result<Vec<Block>, Error> {
    crate::quantize::check_finite(w)?;
    let (rows, cols) = (w.rows(), w.cols());
    let scales = scales(statistics.importance(cols)?, cols);
    let mut residual = w.clone();
    for row in 0..rows {
        residual.row_mut(row).iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scale);
    }
    let energy = |matrix: &Matrix| matrix.data().iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    let whole = energy(&residual).max(f64::MIN_POSITIVE);
    let mut share = 1.0;
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let mut magnitudes = residual.clone();
        magnitudes.data_mut().iter_mut().for_each(|value| *value = value.abs());
        let (left, mut right) = leading(&magnitudes, rank, SWEEPS)?;
        for index in 0..right.rows() {
            right.row_mut(index).iter_mut().zip(&scales).for_each(|(value, scale)| *value /= scale);
        }
        let half = |value: &f32| f16::from_f32(value.clamp(-65504.0, 65504.0));
        let part = StoredPart::SignScale {
            rank,
            signs: signs(&residual),
            left: left.data().iter().map(half).collect(),
            right: right.data().iter().map(half).collect(),
            gain: Some(0.0),
        };
        // What is left is left of the weights as stored, half floats and all.
        let stored = StoredMatrix { rows, cols, transform: None, parts: vec![part] };
        let taken = stored.dequantize()?;
        for row in 0..rows {
            let cells = residual.row_mut(row).iter_mut().zip(taken.row(row)).zip(&scales);
            cells.for_each(|((value, taken), scale)| *value -= taken * scale);
        }
        let before = std::mem::replace(&mut share, energy(&residual) / whole);
        blocks.extend(stored.parts.into_iter().map(|mut part| {
            if let StoredPart::SignScale { gain, .. } = &mut part {
                *gain = Some((before - share).max(0.0) as f32);
            }
            Block { part, left: share }
        }));
    }
    Ok(blocks)
}

/// `√(mean x²)` of each input, relative to their mean; none below a thousandth of it, so that dead inputs keep their weights.
fn scales(moments: Option<&[f32]>, cols: usize) -> Vec<f32> {
    let Some(moments) = moments else { return vec![1.0; cols] };
    let sizes: Vec<f32> = moments.iter().map(|m| m.max(0.0).sqrt()).collect();
    let mean = sizes.iter().map(|size| f64::from(*size)).sum::<f64>() as f32 / cols.max(1) as f32;
    if !(mean.is_finite() && mean > 0.0) {
        return vec![1.0; cols];
    }
    sizes.iter().map(|size| (size / mean).clamp(1e-3, 1e4)).collect()
}

/// One bit a weight, set where it is negative; rows padded to bytes.
fn signs(matrix: &Matrix) -> Vec<u8> {
    let row_bytes = matrix.cols().div_ceil(8);
    let mut signs = vec![0u8; matrix.rows() * row_bytes];
    for row in 0..matrix.rows() {
        for (col, value) in matrix.row(row).iter().enumerate() {
            signs[row * row_bytes + col / 8] |= u8::from(*value < 0.0) << (col % 8);
        }
    }
    signs
}
