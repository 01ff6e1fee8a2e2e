//! What importance-weighted rounding promises beside what all methods do (see matrix.rs).

mod common;

use brevity_formats::TensorType;
use brevity_kernels::Matrix;
use brevity_weights::database::relative_error;
use brevity_weights::quantize::{ImportanceMatrix, RoundToNearest};
use brevity_weights::{Level, Statistics, WeightMethod};
use common::weights;

const COLS: usize = 512;

/// A few inputs much larger than the rest, one of a hundred dead.
fn moments(factor: f32) -> Statistics {
    let mut random = common::Random(5);
    let one = |col: usize| match col % 100 {
        3 => 0.0,
        17 => 40.0,
        _ => 0.05 + random.uniform(),
    };
    let second_moments = (0..COLS).map(one).map(|moment| factor * moment).collect();
    Statistics { second_moments, tokens: 1000, ..Statistics::default() }
}

fn levels() -> impl Iterator<Item = Level> {
    let types = TensorType::all().filter(|ty| ty.writable() && ty.ggml_id().is_some()).map(Level::Type);
    types.chain((2..=8).map(|bits| Level::Integer { bits, group: 64 })).chain([Level::Integer { bits: 4, group: 0 }])
}

fn restored(method: &dyn WeightMethod, w: &Matrix, statistics: &Statistics, level: Level) -> Matrix {
    method.compress(w, statistics, level).unwrap().dequantize().unwrap()
}

#[test]
fn weighted_errors_are_below_those_of_rounding_without_weights() {
    let (w, statistics) = (weights(64, COLS, 1), moments(1.0));
    for level in levels() {
        let error = |method: &dyn WeightMethod| {
            let restored = restored(method, &w, &statistics, level);
            relative_error(&w, &restored, Some(&statistics.second_moments)).unwrap()
        };
        let (weighted, plain) = (error(&ImportanceMatrix), error(&RoundToNearest));
        assert!(weighted <= plain * 1.0001, "{level}: {weighted} after {plain}");
        let coarse = level.bytes(1, COLS).unwrap() * 8 < 5 * COLS as u64;
        // MXFP4's scales are powers of two, ternary blocks have one: there is little to choose from.
        let few = matches!(level, Level::Type(TensorType::Mxfp4 | TensorType::Tq1_0 | TensorType::Tq2_0));
        assert!(few || !coarse || weighted < 0.9 * plain, "{level}: {weighted} after {plain}");
    }
}

#[test]
fn what_does_not_matter_changes_no_byte() {
    let w = weights(8, COLS, 2);
    for level in levels() {
        let stored = |statistics: &Statistics| ImportanceMatrix.compress(&w, statistics, level).unwrap();
        assert_eq!(stored(&moments(1.0)), stored(&moments(2f32.powi(-60))), "{level}");
        assert_eq!(stored(&moments(1.0)), stored(&moments(2f32.powi(40))), "{level}");
        let plain = RoundToNearest.compress(&w, &Statistics::default(), level).unwrap();
        assert_eq!(stored(&Statistics::default()), plain, "{level}");
        assert_eq!(stored(&moments(0.0)), plain, "{level}");
    }
}

#[test]
fn moments_that_no_input_can_have_are_refused() {
    let w = weights(3, COLS, 3);
    for level in levels().filter(|level| !level.is_plain()) {
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let mut wrong = moments(1.0);
            wrong.second_moments[7] = bad;
            assert!(ImportanceMatrix.compress(&w, &wrong, level).is_err(), "{level} {bad}");
        }
        let mut short = moments(1.0);
        short.second_moments.pop();
        let error = ImportanceMatrix.compress(&w, &short, level).unwrap_err().to_string();
        assert!(error.contains("511") && error.contains("512"), "{error}");
    }
}
