//! Quantisation: errors against ggml's own quantiser (`oracles/ggml_errors.c`), and what must hold for any weights.

use brevity_formats::blocks::{dequantize, quantize};
use brevity_formats::{Error, TensorType};
use brevity_kernels::Isa;
use proptest::prelude::*;

const COLS: usize = 768;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn weights() -> Vec<f32> {
    floats(include_bytes!("golden/quantize/weights.f32"))
}

fn importance() -> Vec<f32> {
    floats(include_bytes!("golden/quantize/importance.f32"))
}

fn block_types() -> impl Iterator<Item = TensorType> {
    TensorType::all().filter(|ty| ty.writable() && ty.is_quantized())
}

fn quantized(ty: TensorType, weights: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut blocks = vec![0; ty.row_bytes(weights.len()).unwrap()];
    quantize(ty, weights, importance, &mut blocks).unwrap();
    blocks
}

fn restored(ty: TensorType, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; blocks.len() / ty.block_bytes() * ty.block()];
    dequantize(ty, blocks, &mut out).unwrap();
    out
}

/// Squared error, weighted by columns where importances are given.
fn error(ty: TensorType, weights: &[f32], blocks: &[u8], importance: Option<&[f32]>) -> f64 {
    let weight = |i: usize| importance.map_or(1.0, |w| f64::from(w[i % w.len()]));
    let restored = restored(ty, blocks);
    let squares = weights.iter().zip(&restored).enumerate();
    squares.map(|(i, (a, b))| weight(i) * (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Rows of a model's weights, importances, and what ggml makes of them (`oracles/quantize_golden.py`).
macro_rules! sample {
    ($name:literal, $weights:literal, $importance:literal, $errors:literal) => {
        Sample {
            name: $name,
            weights: floats(include_bytes!(concat!("golden/quantize/", $weights))),
            importance: floats(include_bytes!(concat!("golden/quantize/", $importance))),
            errors: include_str!(concat!("golden/quantize/", $errors)),
        }
    };
}

struct Sample {
    name: &'static str,
    weights: Vec<f32>,
    importance: Vec<f32>,
    errors: &'static str,
}

#[test]
fn errors_are_below_those_of_ggml() {
    let samples = [
        sample!("stories15M", "weights.f32", "importance.f32", "ggml.txt"),
        sample!("nano", "nano.768.f32", "nano.importance.f32", "nano.txt"),
        sample!("MiniLM", "minilm.1536.f32", "minilm.importance.f32", "minilm.txt"),
        sample!("random", "random.2048.f32", "random.importance.f32", "random.txt"),
    ];
    for Sample { name, weights, importance, errors } in samples {
        let mut compared = 0;
        for line in errors.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let ty = TensorType::parse(fields[0]).unwrap();
            let theirs: Vec<f64> = fields[1..].iter().map(|field| field.parse().unwrap()).collect();
            let plain = error(ty, &weights, &quantized(ty, &weights, None), None);
            let blocks = quantized(ty, &weights, Some(&importance));
            let weighted = error(ty, &weights, &blocks, Some(&importance));
            println!("{name} {ty:7} plain {:.3} weighted {:.3} of ggml's", plain / theirs[0], weighted / theirs[1]);
            assert!(plain <= 0.98 * theirs[0], "{name} {ty}: {plain}, ggml {}", theirs[0]);
            assert!(weighted <= 0.98 * theirs[1], "{name} {ty}: {weighted}, ggml {}", theirs[1]);
            compared += 1;
        }
        assert_eq!(compared, block_types().count());
    }
}

#[test]
fn importances_lower_the_error_that_they_weigh() {
    let (weights, importance) = (weights(), importance());
    for ty in block_types() {
        let without = error(ty, &weights, &quantized(ty, &weights, None), Some(&importance));
        let with = error(ty, &weights, &quantized(ty, &weights, Some(&importance)), Some(&importance));
        assert!(with < without, "{ty}: {with} with, {without} without");
    }
}

/// Least squares shrink blocks; the scales make up for it. Half floats that all weights of a block are proportional to exist
/// in all types but MXFP4.
#[test]
fn blocks_are_as_large_as_their_weights() {
    let (weights, importance) = (weights(), importance());
    for ty in block_types().filter(|ty| *ty != TensorType::Mxfp4) {
        for importance in [None, Some(&importance[..])] {
            let restored = restored(ty, &quantized(ty, &weights, importance));
            let (mut own, mut shared, mut worst) = (0.0, 0.0, 0.0f64);
            for start in (0..weights.len()).step_by(ty.block()) {
                let (mut xx, mut xq) = (0.0, 0.0);
                for i in start..start + ty.block() {
                    let weight = importance.map_or(1.0, |w| f64::from(w[i % w.len()])) * f64::from(weights[i]);
                    xx += weight * f64::from(weights[i]);
                    xq += weight * f64::from(restored[i]);
                }
                worst = worst.max((xq / xx - 1.0).abs());
                (own, shared) = (own + xx, shared + xq);
            }
            assert!((shared / own - 1.0).abs() < 1e-3, "{ty}: {}", shared / own);
            // A gain is at most 1.1.
            assert!(worst < 0.1, "{ty}: {worst}");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_blocks() {
    let (weights, importance) = (&weights()[..4 * COLS], importance());
    for ty in block_types() {
        for importance in [None, Some(&importance[..])] {
            let expected = Isa::Scalar.with(|| quantized(ty, weights, importance));
            for isa in Isa::available() {
                assert!(isa.with(|| quantized(ty, weights, importance)) == expected, "{ty} on {isa:?}");
            }
        }
    }
}

#[test]
fn rows_do_not_know_each_other() {
    let (weights, importance) = (&weights()[..5 * COLS], importance());
    for ty in block_types() {
        for importance in [None, Some(&importance[..])] {
            let together = quantized(ty, weights, importance);
            let apart: Vec<u8> = weights.chunks(COLS).flat_map(|row| quantized(ty, row, importance)).collect();
            assert!(together == apart, "{ty}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let mut weights = weights()[..4 * COLS].to_vec();
    for (index, value) in [(1234, f32::NAN), (77, f32::INFINITY), (0, f32::NEG_INFINITY)] {
        weights[index] = value;
        for ty in TensorType::all().filter(|ty| ty.writable()) {
            let mut blocks = vec![0; ty.row_bytes(weights.len()).unwrap()];
            let error = quantize(ty, &weights, None, &mut blocks).unwrap_err();
            assert!(matches!(error, Error::NonFinite { index: found, .. } if found == index), "{ty}: {error}");
        }
    }
}

#[test]
fn wrong_requests_are_refused() {
    let weights = vec![0.0; 512];
    let mut out = vec![0; 288];
    assert!(quantize(TensorType::Iq2Xxs, &weights, None, &mut out[..132]).is_err(), "a type that is read only");
    assert!(quantize(TensorType::Q4K, &weights, None, &mut out[..287]).is_err());
    assert!(quantize(TensorType::Q4K, &weights[..300], None, &mut out).is_err());
    assert!(quantize(TensorType::Q4K, &weights, Some(&[1.0; 32]), &mut out).is_err(), "rows of 32 in blocks of 256");
    assert!(quantize(TensorType::Q4K, &weights, Some(&[]), &mut out).is_err());
    assert!(quantize(TensorType::Q4K, &weights, Some(&[-1.0; 256]), &mut out).is_err());
    assert!(quantize(TensorType::Q4K, &weights, Some(&[f32::NAN; 256]), &mut out).is_err());
    assert!(quantize(TensorType::Q4K, &weights, Some(&[0.0; 256]), &mut out).is_ok(), "no column matters");
}

#[test]
fn plain_floats_are_rounded_once() {
    let weights = weights();
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        for (ours, weight) in restored(ty, &quantized(ty, &weights, None)).iter().zip(&weights) {
            let expected = match ty {
                TensorType::F16 => half::f16::from_f32(*weight).to_f32(),
                TensorType::BF16 => half::bf16::from_f32(*weight).to_f32(),
                _ => *weight,
            };
            assert_eq!(ours.to_bits(), expected.to_bits());
        }
    }
}

/// Rows that searches could stumble over.
fn hard_row() -> impl Strategy<Value = Vec<f32>> {
    let scale =
        prop_oneof![Just(0.0f32), Just(1e-42), Just(1e-9), Just(1e-4), Just(1.0), Just(3e4), Just(1e12), Just(3e38)];
    let value = prop_oneof![Just(0.0f32), Just(1.0), Just(-1.0), -1.0f32..1.0];
    let varied =
        (scale.clone(), prop::collection::vec(value, 256)).prop_map(|(s, row)| row.iter().map(|v| v * s).collect());
    let constant = (scale.clone(), prop::bool::ANY).prop_map(|(s, sign)| vec![if sign { s } else { -s }; 256]);
    let outlier = (scale, 0usize..256, -1.0f32..1.0).prop_map(|(s, at, rest)| {
        let mut row = vec![rest * 1e-3 * s; 256];
        row[at] = s;
        row
    });
    prop_oneof![4 => varied, 1 => constant, 1 => outlier]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_row_becomes_finite_and_no_worse_than_zeros(row in hard_row(), dead in 0usize..256) {
        let mut importance = vec![1.0; 256];
        importance[dead..].fill(0.0);
        let zeros: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        for ty in block_types() {
            for importance in [None, Some(&importance[..])] {
                let blocks = quantized(ty, &row, importance);
                prop_assert!(restored(ty, &blocks).iter().all(|w| w.is_finite()), "{ty}");
                if importance.is_none() {
                    let left = error(ty, &row, &blocks, None);
                    prop_assert!(left <= zeros * 1.0001 + 1e-12, "{ty}: {left}, {zeros} for zeros");
                }
            }
        }
    }
}
