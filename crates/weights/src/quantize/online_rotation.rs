//! Online rotation: the inputs of each matrix are turned while the model runs, and GPTQ rounds the turned weights.
//!
//! "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024, arXiv 2404.00456, whose online Hadamard transforms these are, with
//! the random signs of "QuIP#" (arXiv 2402.04396). With `T = H·diag(±1)`, orthogonal, `W·x = (W·Tᵀ)·(T·x)`: what is
//! stored is `W·Tᵀ` (outputs × inputs), whose rows are close to normal, without outliers. GPTQ sees the
//! inputs' Hessian turned likewise, `T·H·Tᵀ`, so that what it makes small is the same error of the outputs.
//!
//! `H` is a Walsh–Hadamard matrix in blocks of the largest power of two that divides the inputs. Matrices that read the
//! same input share its turn: `n·log₂ n` additions a token, against `n · outputs` products.
//!
//! Unlike the folded rotation ([`Rotate`](crate::fold::Rotate)) it leaves norms, the embedding and a tied head where they are,
//! so no byte is added; and it reaches the input of down. Only sums of parts ([`Sum::Turned`]) can say it.

use super::gptq::Gptq;
use super::rtn::RoundToNearest;
use crate::method::{Needs, Outcome, Statistics, WeightMethod};
use crate::sum::{Codes, turn};
use crate::{Error, Hessian, Level, Sum};
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;
use brevity_parts::{StoredMatrix, Transform};
use std::sync::Arc;

/// Online rotation before GPTQ.
pub struct OnlineRotation;

static CARD: MethodCard = MethodCard {
    name: "online-rotation",
    room: "weights",
    title: "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs",
    year: 2024,
    arxiv: Some("2404.00456"),
    mechanism: "Turns the inputs of each matrix by random signs and a Hadamard transform while the model runs, and rounds the \
                turned weights by GPTQ, in GGUF blocks or integer grids.",
    guarantees: &[
        "before rounding the outputs are the original's up to floating-point rounding",
        "the bytes are those of the grid alone; a tied head stays tied",
        "the same weights and Hessian give the same bytes at any thread count",
    ],
    simplifications: &[
        "every turn is made while the model runs; the method `rotation` folds those that can be folded",
        "widths that are no power of two are turned in blocks of the largest power of two that divides them",
        "activations and the cache are not rounded to 4 bits",
    ],
};

impl WeightMethod for OnlineRotation {
    fn card(&self) -> &MethodCard {
        &CARD
    }

    fn supports(&self, level: Level) -> bool {
        match level {
            Level::Sum(Sum::Turned(codes)) => Gptq::DEFAULT.supports(codes.level()),
            level => level.is_plain(),
        }
    }

    fn levels(&self) -> Vec<Level> {
        let codes = Gptq::DEFAULT.levels().into_iter().filter_map(Codes::of);
        codes.map(|codes| Level::Sum(Sum::Turned(codes))).collect()
    }

    fn needs(&self) -> Needs {
        Needs::Hessian
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn compress(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<StoredMatrix, Error> {
        Ok(self.compress_counted(w, statistics, level)?.stored)
    }

    fn compress_counted(&self, w: &Matrix, statistics: &Statistics, level: Level) -> Result<Outcome, Error> {
        if level.is_plain() {
            return RoundToNearest.compress_counted(w, statistics, level);
        }
        let Level::Sum(Sum::Turned(codes)) = level else {
            let can = "turned:GRID, as turned:q3_k or turned:int3:128".to_string();
            return Err(Error::Unsupported { method: CARD.name.into(), level: level.to_string(), can });
        };
        super::check_finite(w)?;
        let turn = turn(w.cols());
        let mut turned = w.clone();
        turn.apply(&mut turned);
        let statistics = turned_statistics(statistics, w.cols(), &turn)?;
        let mut outcome = Gptq::DEFAULT.compress_counted(&turned, &statistics, codes.level())?;
        outcome.stored.transform = Some(turn);
        Ok(outcome)
    }
}

/// What calibration would say of the turned inputs. Second moments alone say nothing of them.
fn turned_statistics(statistics: &Statistics, cols: usize, turn: &Transform) -> Result<Statistics, Error> {
    let Some(hessian) = statistics.hessian(cols)? else { return Ok(Statistics::default()) };
    let mut matrix = hessian.matrix().clone();
    turn.apply(&mut matrix);
    matrix = transposed(&matrix);
    turn.apply(&mut matrix);
    let hessian = Hessian::new(symmetric(matrix), hessian.tokens())?;
    Ok(Statistics { second_moments: hessian.diagonal(), hessian: Some(Arc::new(hessian)), tokens: statistics.tokens })
}

fn transposed(matrix: &Matrix) -> Matrix {
    let mut turned = Matrix::zeros(matrix.cols(), matrix.rows());
    turned.view_mut().parallel_rows(16, |row, values| {
        values.iter_mut().enumerate().for_each(|(column, value)| *value = matrix.row(column)[row]);
    });
    turned
}

/// Takes rounding's share of asymmetry away.
fn symmetric(matrix: Matrix) -> Matrix {
    let other = transposed(&matrix);
    let halves = matrix.data().iter().zip(other.data()).map(|(a, b)| 0.5 * (a + b)).collect();
    Matrix::from_vec(matrix.rows(), matrix.cols(), halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, cols: usize, mut seed: u64) -> Matrix {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| next()).collect())
    }

    fn calibrated(cols: usize) -> Statistics {
        let mut inputs = noise(4 * cols, cols, 3);
        (0..inputs.rows()).for_each(|row| inputs.row_mut(row)[5] *= 20.0);
        let mut sum = crate::hessian::HessianSum::new(cols);
        sum.add(inputs.view());
        let hessian = sum.mean().unwrap();
        Statistics { second_moments: hessian.diagonal(), tokens: hessian.tokens(), hessian: Some(Arc::new(hessian)) }
    }

    #[test]
    fn the_turned_hessian_measures_turned_errors_alike() {
        for cols in [64, 96] {
            let (statistics, error) = (calibrated(cols), noise(5, cols, 9));
            let mut turned = error.clone();
            turn(cols).apply(&mut turned);
            let there = turned_statistics(&statistics, cols, &turn(cols)).unwrap();
            let before = statistics.hessian.unwrap().energy(&error).unwrap();
            let after = there.hessian.unwrap().energy(&turned).unwrap();
            assert!((before - after).abs() < 1e-4 * before, "{cols}: {before} {after}");
        }
    }

    #[test]
    fn outliers_cost_less_than_without_the_turn() {
        let (cols, level) = (256, Level::parse("int3:128").unwrap());
        let mut w = noise(48, cols, 5);
        (0..w.rows()).for_each(|row| (row % 16..cols).step_by(64).for_each(|column| w.row_mut(row)[column] *= 12.0));
        let statistics = calibrated(cols);
        let energy = |stored: StoredMatrix| {
            let restored = stored.dequantize().unwrap();
            let error = w.data().iter().zip(restored.data()).map(|(a, b)| a - b).collect();
            statistics.hessian.as_ref().unwrap().energy(&Matrix::from_vec(w.rows(), cols, error)).unwrap()
        };
        let plain = energy(Gptq::DEFAULT.compress(&w, &statistics, level).unwrap());
        let turned = Level::parse("turned:int3:128").unwrap();
        let turned = energy(OnlineRotation.compress(&w, &statistics, turned).unwrap());
        assert!(turned < 0.7 * plain, "{turned} against {plain}");
    }

    #[test]
    fn before_rounding_nothing_changes() {
        let w = noise(6, 96, 8);
        let mut turned = w.clone();
        let transform = turn(96);
        transform.apply(&mut turned);
        (0..6).for_each(|row| transform.undo_row(turned.row_mut(row)));
        let worst = w.data().iter().zip(turned.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{worst}");
    }
}
