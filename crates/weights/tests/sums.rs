//! What the papers of methods that store sums of parts promise.

use brevity_kernels::Matrix;
use brevity_parts::{Activation, CompressedMatrix, Input, StoredMatrix, StoredPart};
use brevity_weights::factor::{BitStack, Lord, stack};
use brevity_weights::quantize::{Gptq, LlmInt8, RoundToNearest, Spqr};
use brevity_weights::{Level, Statistics, WeightMethod};
use common::*;

mod common;

const COLS: usize = 384;

fn level(text: &str) -> Level {
    Level::parse(text).unwrap()
}

fn loss(method: &dyn WeightMethod, w: &Matrix, statistics: &Statistics, text: &str) -> f64 {
    sum(&row_norms(method, w, statistics, level(text)))
}

/// Weights with a few of eight times the size.
fn with_outliers(rows: usize, seed: u64) -> Matrix {
    let mut w = weights(rows, COLS, seed);
    w.data_mut().iter_mut().step_by(211).for_each(|value| *value *= 8.0);
    w
}

/// As `statistics`, but the method is told nothing of it.
fn blind(method: &dyn WeightMethod, w: &Matrix, statistics: &Statistics, text: &str) -> f64 {
    let stored = method.compress(w, &Statistics::default(), level(text)).unwrap();
    sum(&norms(w, &stored.dequantize().unwrap(), statistics))
}

#[test]
fn spqr_loses_less_than_gptq_with_as_many_bits() {
    let (w, statistics) = (with_outliers(64, 1), correlated(COLS, 2));
    let gptq = loss(&Gptq::DEFAULT, &w, &statistics, "int3:32");
    // 3 + 6/32 + 64/512 + 0.5 % of 32 bits, where groups of 32 with a scale and a zero point take 3.59.
    let spqr = loss(&Spqr, &w, &statistics, "spqr:3:32:50");
    assert!(level("spqr:3:32:50").bytes(64, COLS) <= level("int3:32").bytes(64, COLS));
    assert!(spqr < 0.8 * gptq, "{spqr} against {gptq}");
    assert!(spqr < 0.6 * loss(&Spqr, &w, &statistics, "spqr:3:32:0"));
    assert!(spqr < 0.5 * blind(&Spqr, &w, &statistics, "spqr:3:32:50"));
}

#[test]
fn spqr_keeps_apart_what_stands_out() {
    let w = with_outliers(32, 3);
    let stored = Spqr.compress(&w, &Statistics::default(), level("spqr:3:16:60")).unwrap();
    let Some(StoredPart::Sparse { offsets, columns, .. }) = stored.parts.get(1) else { panic!("no outliers") };
    assert_eq!(columns.len(), 32 * COLS * 60 / 10_000);
    let large = |row: usize, column: u32| w.row(row)[column as usize].abs() > 0.2;
    let row_of = |entry: usize| offsets.iter().filter(|offset| **offset as usize <= entry).count() - 1;
    let hits = (0..columns.len()).filter(|entry| large(row_of(*entry), columns[*entry])).count();
    let all = (0..32 * COLS).filter(|index| large(index / COLS, (index % COLS) as u32)).count();
    assert!(hits * 3 > all * 2, "{hits} of {all}");
}

#[test]
fn outlier_channels_in_sixteen_bits_keep_eight_bits_exact() {
    let (mut w, statistics) = (weights(48, COLS, 5), correlated(COLS, 6));
    w.data_mut().iter_mut().step_by(997).for_each(|value| *value *= 3.0);
    let mixed = loss(&LlmInt8, &w, &statistics, "int8:columns:30");
    let plain = loss(&LlmInt8, &w, &statistics, "int8:columns:0");
    assert!(mixed < 0.5 * plain, "{mixed} against {plain}");

    // Every 37th input is ten times as large: these are the channels kept, and they leave activations' 8-bit scales alone.
    let stored = LlmInt8.compress(&w, &statistics, level("int8:columns:30")).unwrap();
    let Some(StoredPart::Columns { columns, .. }) = stored.parts.get(1) else { panic!("no columns") };
    assert!(columns.iter().filter(|column| **column % 37 == 0).count() >= 10, "{columns:?}");
    let mut random = Random(7);
    let mut x = Matrix::from_vec(4, COLS, (0..4 * COLS).map(|_| random.normal()).collect());
    (0..4).for_each(|row| columns.iter().for_each(|&column| x.row_mut(row)[column as usize] *= 30.0));
    let error = |stored: StoredMatrix| {
        let packed = CompressedMatrix::pack(stored).unwrap();
        let multiply = |activation| {
            let mut y = Matrix::zeros(4, 48);
            packed.multiply(&Input::new(x.view(), activation), &mut y.view_mut(), false);
            y
        };
        let (exact, int8) = (multiply(Activation::F32), multiply(Activation::Int8));
        exact.data().iter().zip(int8.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    let plain = LlmInt8.compress(&w, &statistics, level("int8:columns:0")).unwrap();
    assert!(error(stored) < 0.1 * error(plain));
}

#[test]
fn int8_weights_are_within_half_a_step() {
    let w = weights(16, COLS, 8);
    let restored = LlmInt8.compress(&w, &Statistics::default(), level("int8:columns:0")).unwrap().dequantize().unwrap();
    for row in 0..16 {
        let greatest = w.row(row).iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let worst = w.row(row).iter().zip(restored.row(row)).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
        assert!(worst <= greatest / 254.0 * 1.05, "row {row}: {worst}");
    }
}

#[test]
fn knowing_the_inputs_beats_plain_singular_values() {
    let (w, statistics) = (weights(96, COLS, 9), correlated(COLS, 10));
    let energy = sum(&norms(&w, &Matrix::zeros(96, COLS), &statistics));
    for text in ["rank:100", "rank:300", "rank:600"] {
        let aware = loss(&Lord, &w, &statistics, text);
        let plain = blind(&Lord, &w, &statistics, text);
        assert!(aware < 0.9 * plain, "{text}: {aware} and {plain}");
    }
    // All of the rank holds everything, up to half floats.
    assert!(loss(&Lord, &w, &statistics, "rank:1000") < 1e-5 * energy);
}

#[test]
fn low_rank_error_is_what_the_eigenvalues_say() {
    // Identity inputs and weights of known singular values: 5, 3 and 1.
    let mut w = Matrix::zeros(8, 32);
    [5.0, 3.0, 1.0].iter().enumerate().for_each(|(index, value)| w.row_mut(2 * index)[3 * index] = *value);
    let stored = Lord.compress(&w, &Statistics::default(), level("rank:250")).unwrap();
    let restored = stored.dequantize().unwrap();
    let error: f64 = w.data().iter().zip(restored.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    assert!((error - 1.0).abs() < 1e-3, "{error}");
}

#[test]
fn every_block_of_a_stack_takes_off_error() {
    let (w, statistics) = (weights(128, COLS, 11), correlated(COLS, 12));
    let blocks = stack(&w, &statistics, 10, 8).unwrap();
    let mut last = 1.0;
    for (index, block) in blocks.iter().enumerate() {
        assert!(block.left < 0.75 * last, "block {index}: {} after {last}", block.left);
        last = block.left;
    }
    // Any number of blocks is a model, and the same whether more were made or not.
    let parts: Vec<StoredPart> = blocks.into_iter().map(|block| block.part).collect();
    for count in [1, 4, 10] {
        let text = format!("stack:{count}:8");
        let stored = BitStack.compress(&w, &statistics, level(&text)).unwrap();
        assert_eq!(stored.parts, parts[..count]);
    }
    let (aware, plain) =
        (loss(&BitStack, &w, &statistics, "stack:3:8"), blind(&BitStack, &w, &statistics, "stack:3:8"));
    assert!(aware < plain, "{aware} and {plain}");
}

#[test]
fn dead_inputs_and_hostile_statistics_do_no_harm() {
    let w = weights(20, COLS, 13);
    let methods: [(&dyn WeightMethod, &str); 4] =
        [(&Spqr, "spqr:3:16:50"), (&LlmInt8, "int8:columns:10"), (&Lord, "rank:300"), (&BitStack, "stack:2:4")];
    for (method, text) in methods {
        for value in [0.0, 1e-40, 1e38, f32::MAX] {
            let moments = Statistics { second_moments: vec![value; COLS], tokens: 1, hessian: None };
            let restored = method.compress(&w, &moments, level(text)).unwrap().dequantize().unwrap();
            assert!(restored.data().iter().all(|v| v.is_finite()), "{text} with {value}");
        }
        let mut bad = w.clone();
        bad.row_mut(3)[7] = f32::NAN;
        assert!(method.compress(&bad, &Statistics::default(), level(text)).is_err());
        assert!(method.compress(&w, &correlated(96, 14), level(text)).is_err());
        assert!(method.compress(&w, &Statistics::default(), level("int4:32")).is_err());
        assert!(RoundToNearest.compress(&w, &Statistics::default(), level(text)).is_err());
    }
}
