//! SpQR: small groups whose scales are quantised too, and the few weights that cost most kept apart in 16 bits.
//!
//! "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight Compression", 2023, arXiv 2306.03078. Three things
//! together, for `W` (outputs × inputs) and the inputs' Hessian `H`:
//!
//! 1. **Outliers.** The sensitivity of a weight is by how much the error of its group falls when it is left out of
//!    the grid: `Σ_k D_k·(w_k − q(w_k))²` with it, less the same without it, where the group's grid is fitted again. The most
//!    sensitive weights (a fixed share of the matrix) become entries of a sparse matrix of half floats.
//! 2. **Two levels.** Groups of 16 weights (of a row) have scales and zero points of 3 bits, which 16 rows share four half
//!    floats to read ([`brevity_parts::Bilevel`]). For the tile's numbers, each row takes the pair of scale and zero
//!    point, of all 64, that leaves its weights the least error.
//! 3. **GPTQ inside**: columns are rounded one after the other and their errors carried on
//!    ([`feedback`](super::feedback)); an outlier takes up what the columns before it left.
//!
//! Bits a weight: `B + 6/G + 64/(16·G) + 32·share` ([`Sum::Outliers`]).

use super::gptq::Gptq;
use super::rtn::RoundToNearest;
use super::sweep::{Plan, Rounding, Slab, Slabs, Swept, in_slabs};
use crate::method::{Needs, Statistics, WeightMethod};
use crate::sum::{STATISTIC_BITS, TILE};
use crate::{Error, Level, Sum};
use brevity_formats::grid::{self, Symmetry};
use brevity_kernels::{Matrix, pool};
use brevity_measure::MethodCard;
use brevity_parts::{Bilevel, StoredMatrix, StoredPart, frame};
use half::f16;

/// SpQR.
pub struct Spqr;

static CARD: MethodCard = MethodCard {
    name: "spqr",
    room: "weights",
    title: "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight Compression",
    year: 2023,
    arxiv: Some("2306.03078"),
    mechanism: "Groups of 16 weights with 3-bit scales and zero points, the weights whose rounding costs most kept apart as a \
                sparse matrix in 16 bits, and GPTQ's error feedback through both.",
    guarantees: &[
        "the number of outliers, and so every byte, follows from the level and the shape",
        "outputs err less than with the same grid without outliers or without feedback",
        "the same weights and Hessian give the same bytes at any thread count",
    ],
    simplifications: &[
        "outliers are the most sensitive share of each matrix in place of a threshold for the whole model",
        "sensitivities are those of the original weights, with the cost of an error that GPTQ's order gives each column",
        "without a Hessian all inputs count alike and nothing is carried on",
    ],
};

/// Rows that go through the columns together: whole tiles.
const SLAB: usize = 4 * TILE;

impl WeightMethod for Spqr {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        level.is_plain() || matches!(level, Level::Sum(Sum::Outliers { .. }))
    }

    fn levels(&self) -> Vec<Level> {
        let level = |(bits, group, outliers)| Level::Sum(Sum::Outliers { bits, group, outliers });
        let bits = [2, 3, 4, 5, 6];
        bits.into_iter()
            .flat_map(|bits| [(bits, 64, 0), (bits, 32, 50), (bits, 16, 100), (bits, 16, 200)])
            .map(level)
            .collect()
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn rows_are_independent(&self) -> bool {
        false
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        if level.is_plain() {
            return RoundToNearest.compress(w, statistics, level);
        }
        let Level::Sum(sum @ Sum::Outliers { bits, group, .. }) = level else {
            let can = "spqr:BITS:GROUP".to_string();
            return Err(Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can });
        };
        super::check_finite(w)?;
        let (rows, cols) = (w.rows(), w.cols());
        let hessian = statistics.hessian_or_diagonal(cols)?;
        let grid = Level::Integer { bits, group: usize::from(group) };
        let plan = Plan::new(&hessian, grid, Gptq::DEFAULT);
        let apart = outliers(&plan, w, bits, sum.outliers(rows, cols));
        let rounding = TwoLevel { plan: &plan, bits, cols, apart: &apart };
        let swept = in_slabs(w, SLAB, |rows, weights| {
            Slab { plan: &plan, first: rows.start, rows: rows.len(), weights }.sweep(&rounding)
        })?;
        Ok(StoredMatrix { rows, cols, transform: None, parts: assemble(w, bits, usize::from(group), &apart, swept) })
    }
}

/// Marks the `count` most sensitive weights.
fn outliers(plan: &Plan, w: &Matrix, bits: u8, count: usize) -> Vec<bool> {
    let cols = w.cols();
    let mut gains = vec![0.0f32; w.rows() * cols];
    pool::parallel_chunks(&mut gains, cols.max(1), |row, gains| {
        for unit in plan.units() {
            let weights = &w.row(row)[unit.clone()];
            leave_one_out(weights, &plan.importance(unit.clone()), bits, &mut gains[unit.clone()]);
        }
    });
    let mut order: Vec<u32> = (0..gains.len() as u32).collect();
    order.sort_by(|&a, &b| gains[b as usize].total_cmp(&gains[a as usize]).then(a.cmp(&b)));
    let mut apart = vec![false; gains.len()];
    order.into_iter().take(count).for_each(|index| apart[index as usize] = true);
    apart
}

/// By how much a group's error falls when each weight is left out of its grid (from least to greatest weight).
fn leave_one_out(weights: &[f32], importance: &[f32], bits: u8, gains: &mut [f32]) {
    let error = |without: usize| {
        let (mut low, mut high) = (0.0f32, 0.0f32);
        for (_, &w) in weights.iter().enumerate().filter(|(index, _)| *index != without) {
            low = low.min(w);
            high = high.max(w);
        }
        let scale = (high - low) / ((1u32 << bits) - 1) as f32;
        if scale == 0.0 {
            return 0.0;
        }
        let inverse = 1.0 / scale;
        let rounded = |w: f32| scale.mul_add(((w - low) * inverse).round_ties_even(), low);
        let all = weights.iter().zip(importance).enumerate().filter(|(index, _)| *index != without);
        all.map(|(_, (&w, &d))| d * (w - rounded(w)) * (w - rounded(w))).sum::<f32>()
    };
    let whole = error(usize::MAX);
    gains.iter_mut().enumerate().for_each(|(index, gain)| *gain = whole - error(index));
}

struct TwoLevel<'a> {
    plan: &'a Plan,
    bits: u8,
    cols: usize,
    /// rows × cols of the whole matrix.
    apart: &'a [bool],
}

/// A group of columns in a slab of rows.
struct Group {
    top: f32,
    length: usize,
    /// One per tile.
    tiles: Vec<[f16; 4]>,
    /// One per row: codes, and the scale and `scale · zero` that they stand for.
    scales: Vec<u8>,
    zeros: Vec<u8>,
    frames: Vec<(f32, f32)>,
    /// rows × length.
    apart: Vec<bool>,
    /// rows × length: what the sparse matrix holds.
    values: Vec<f16>,
}

impl Rounding for TwoLevel<'_> {
    type Unit = Group;

    fn fit(&self, first: usize, unit: usize, values: &[f32], importance: &[f32]) -> Result<Group, Error> {
        let (length, start) = (importance.len(), self.plan.units()[unit].start);
        let rows = values.len() / length.max(1);
        let mut apart = Vec::with_capacity(values.len());
        (0..rows).for_each(|row| apart.extend_from_slice(&self.apart[(first + row) * self.cols + start..][..length]));
        // What is kept apart is nothing to the grid: zero is always on it.
        let kept: Vec<f32> = values.iter().zip(&apart).map(|(&w, &apart)| if apart { 0.0 } else { w }).collect();
        let fitted = grid::quantize(&kept, length, self.bits, 0, Some(importance), Symmetry::Asymmetric)?;
        let mut group = Group {
            top: ((1u16 << self.bits) - 1) as f32,
            length,
            tiles: Vec::new(),
            scales: vec![0; rows],
            zeros: vec![0; rows],
            frames: vec![(0.0, 0.0); rows],
            values: vec![f16::ZERO; apart.len()],
            apart,
        };
        for tile in (0..rows).step_by(TILE).map(|start| start..(start + TILE).min(rows)) {
            let numbers = tile_numbers(&fitted.scales[tile.clone()], &fitted.zeros[tile.clone()]);
            for row in tile {
                let kept = &kept[row * length..][..length];
                let apart = &group.apart[row * length..][..length];
                (group.scales[row], group.zeros[row]) = best_pair(numbers, kept, apart, importance, group.top);
                group.frames[row] = frame(numbers, group.scales[row], group.zeros[row]);
            }
            group.tiles.push(numbers);
        }
        Ok(group)
    }

    fn nearest(unit: &Group, row: usize, at: usize, value: f32) -> (u8, f32) {
        let (code, rounded) = nearest(unit.frames[row], unit.top, value);
        match unit.apart[row * unit.length + at] {
            true => (code as u8, rounded + rest(value, rounded).to_f32()),
            false => (code as u8, rounded),
        }
    }

    fn accept(unit: &mut Group, row: usize, at: usize, (code, value): (u8, f32)) {
        let index = row * unit.length + at;
        if unit.apart[index] {
            let (scale, min) = unit.frames[row];
            unit.values[index] = rest(value, scale.mul_add(f32::from(code), -min));
        }
    }
}

/// What a weight kept apart has beyond its code.
fn rest(value: f32, rounded: f32) -> f16 {
    f16::from_f32((value - rounded).clamp(-65504.0, 65504.0))
}

/// The nearest code and what it stands for.
#[inline]
fn nearest((scale, min): (f32, f32), top: f32, value: f32) -> (f32, f32) {
    let code = if scale == 0.0 { 0.0 } else { ((value + min) / scale).round_ties_even().max(0.0).min(top) };
    (code, scale.mul_add(code, -min))
}

/// Numbers of a tile whose codes span the scales and zero points of its rows.
fn tile_numbers(scales: &[f32], zeros: &[u8]) -> [f16; 4] {
    let steps = ((1u16 << STATISTIC_BITS) - 1) as f32;
    let span = |values: &mut dyn Iterator<Item = f32>| {
        let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        (f16::from_f32((high - low) / steps), f16::from_f32(low))
    };
    let (scale_step, scale_base) = span(&mut scales.iter().copied());
    let (zero_step, zero_base) = span(&mut zeros.iter().map(|zero| f32::from(*zero)));
    [scale_step, scale_base, zero_step, zero_base]
}

/// The codes of scale and zero point that leave a row of the group the least error.
fn best_pair(tile: [f16; 4], weights: &[f32], apart: &[bool], importance: &[f32], top: f32) -> (u8, u8) {
    let mut best = (f32::INFINITY, (0, 0));
    for scale in 0..1u8 << STATISTIC_BITS {
        for zero in 0..1u8 << STATISTIC_BITS {
            let frame = frame(tile, scale, zero);
            let mut error = 0.0;
            for ((&w, &apart), &d) in weights.iter().zip(apart).zip(importance) {
                let miss = if apart { 0.0 } else { w - nearest(frame, top, w).1 };
                error += d * miss * miss;
            }
            if error < best.0 {
                best = (error, (scale, zero));
            }
        }
    }
    best.1
}

fn assemble(w: &Matrix, bits: u8, group: usize, apart: &[bool], slabs: Slabs<Swept<Group>>) -> Vec<StoredPart> {
    let (rows, cols) = (w.rows(), w.cols());
    let mut grid = Bilevel {
        bits,
        group,
        statistic_bits: STATISTIC_BITS,
        tile: TILE,
        rows,
        cols,
        codes: Vec::with_capacity(rows * cols),
        scales: Vec::new(),
        zeros: Vec::new(),
        statistics: Vec::new(),
    };
    let (mut offsets, mut columns, mut values) = (vec![0u32], Vec::new(), Vec::new());
    for (range, swept) in slabs {
        grid.codes.extend_from_slice(&swept.codes);
        for row in 0..range.len() {
            grid.scales.extend(swept.units.iter().map(|unit| unit.scales[row]));
            grid.zeros.extend(swept.units.iter().map(|unit| unit.zeros[row]));
            let marked = &apart[(range.start + row) * cols..][..cols];
            for column in (0..cols).filter(|&column| marked[column]) {
                let unit = &swept.units[column / group];
                columns.push(column as u32);
                values.push(unit.values[row * unit.length + column % group]);
            }
            offsets.push(columns.len() as u32);
        }
        for tile in 0..range.len().div_ceil(TILE) {
            grid.statistics.extend(swept.units.iter().map(|unit| unit.tiles[tile]));
        }
    }
    let mut parts = vec![StoredPart::Bilevel(grid)];
    if !columns.is_empty() {
        parts.push(StoredPart::Sparse { offsets, columns, values });
    }
    parts
}
