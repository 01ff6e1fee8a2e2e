//! LLM.int8(): eight bits a weight with one scale a row, and the few input channels with outliers in 16 bits.
//!
//! "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", 2022, arXiv 2208.07339. A few feature channels
//! of the activations are tens of times larger than all others. Their columns of `W` (outputs × inputs) are kept as f16 and
//! multiplied with the activations as they are; the rest is vector-wise int8, the scale of a row its greatest weight
//! over 127. The product is the sum of both, and the 8-bit scales of activations are those of the channels left.
//!
//! Which channels: those with the greatest second moment `m_k = mean x_k²` over calibration tokens; without
//! calibration, those with the greatest weights.

use super::rtn::RoundToNearest;
use crate::method::{Needs, Statistics, WeightMethod};
use crate::{Error, Level, Sum};
use brevity_formats::grid::GridMatrix;
use brevity_kernels::{Matrix, pool};
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, StoredPart};
use half::f16;

/// LLM.int8().
pub struct LlmInt8;

static CARD: MethodCard = MethodCard {
    name: "llm-int8",
    room: "weights",
    title: "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale",
    year: 2022,
    arxiv: Some("2208.07339"),
    mechanism: "The input channels with the largest activations are multiplied in 16 bits; everything else is int8 with one \
                scale a row of weights.",
    guarantees: &[
        "weights of outlier channels are half floats, and these channels widen no 8-bit scale",
        "every other weight is within half a step of its row: its greatest weight over 254",
        "the number of channels, and so every byte, follows from the level and the shape",
    ],
    simplifications: &[
        "outlier channels are a fixed share, chosen by their second moment in calibration, in place of a threshold of 6 on each batch",
        "activations have one scale per 32 values, not one a token",
    ],
};

impl WeightMethod for LlmInt8 {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        level.is_plain() || matches!(level, Level::Sum(Sum::Columns { .. }))
    }

    fn levels(&self) -> Vec<Level> {
        vec![Level::Sum(Sum::Columns { columns: 6 })]
    }

    fn default_level(&self) -> Option<Level> {
        self.levels().pop()
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
        let Level::Sum(sum @ Sum::Columns { .. }) = level else {
            let can = "int8:columns:PER_MILLE".to_string();
            return Err(Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can });
        };
        super::check_finite(w)?;
        let (rows, cols) = (w.rows(), w.cols());
        let size = match statistics.importance(cols)? {
            Some(moments) => moments.to_vec(),
            None => (0..cols).map(|col| (0..rows).map(|row| w.row(row)[col].powi(2)).sum()).collect(),
        };
        let columns = largest(&size, sum.columns(cols));
        let mut parts = vec![StoredPart::Grid(int8(w, &columns))];
        if !columns.is_empty() {
            let value = |row: usize, column: &u32| f16::from_f32(w.row(row)[*column as usize].clamp(-65504.0, 65504.0));
            let values = (0..rows).flat_map(|row| columns.iter().map(move |column| value(row, column))).collect();
            parts.push(StoredPart::Columns { columns, values });
        }
        Ok(StoredMatrix { rows, cols, transform: None, parts })
    }
}

/// The `count` largest, ascending; the first of equals.
fn largest(size: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..size.len() as u32).collect();
    order.sort_by(|&a, &b| size[b as usize].total_cmp(&size[a as usize]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Absmax int8 a row, the columns left out at zero.
fn int8(w: &Matrix, without: &[u32]) -> GridMatrix {
    let (rows, cols) = (w.rows(), w.cols());
    let mut codes = vec![128u8; rows * cols];
    let scales: Vec<f32> = (0..rows)
        .map(|row| {
            let kept = w.row(row).iter().enumerate().filter(|(col, _)| without.binary_search(&(*col as u32)).is_err());
            let greatest = kept.fold(0.0f32, |greatest, (_, w)| greatest.max(w.abs()));
            let scale = f16::from_f32((greatest / 127.0).min(65504.0));
            if scale == f16::ZERO { 1.0 } else { scale.to_f32() }
        })
        .collect();
    pool::parallel_chunks(&mut codes, cols.max(1), |row, codes| {
        for (code, w) in codes.iter_mut().zip(w.row(row)) {
            *code = ((w / scales[row]).round_ties_even().clamp(-128.0, 127.0) as i16 + 128) as u8;
        }
        without.iter().for_each(|&column| codes[column as usize] = 128);
    });
    GridMatrix { bits: 8, group: 0, rows, cols, codes, scales, zeros: vec![128; rows] }
}
