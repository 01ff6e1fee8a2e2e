//! Frames hold what the format holds: values, nearest codes and encoded blocks agree with `dequantize` bit for bit.

use brevity_formats::blocks::dequantize;
use brevity_formats::blocks::frame::Frames;
use brevity_formats::{Error, TensorType};
use proptest::prelude::*;

const COLS: usize = 768;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn weights() -> Vec<f32> {
    floats(include_bytes!("golden/quantize/weights.f32"))[..4 * COLS].to_vec()
}

fn importance() -> Vec<f32> {
    floats(include_bytes!("golden/quantize/importance.f32"))
}

fn block_types() -> impl Iterator<Item = TensorType> {
    TensorType::all().filter(|ty| ty.writable() && ty.is_quantized())
}

fn restored(ty: TensorType, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; blocks.len() / ty.block_bytes() * ty.block()];
    dequantize(ty, blocks, &mut out).unwrap();
    out
}

#[test]
fn any_codes_come_back_as_the_values_that_were_promised() {
    let weights = weights();
    for ty in block_types() {
        let frames = Frames::fit(ty, &weights, Some(&importance())).unwrap();
        assert_eq!((frames.len(), frames.ty()), (weights.len(), ty));
        for shift in [0, 1, 7, 100] {
            let codes: Vec<u8> =
                (0..weights.len()).map(|i| ((i * 31 + i / 5 + shift) % frames.codes()) as u8).collect();
            let mut bytes = vec![0; frames.blocks().len()];
            frames.encode(&codes, &mut bytes).unwrap();
            for (i, (value, code)) in restored(ty, &bytes).iter().zip(&codes).enumerate() {
                assert_eq!(value.to_bits(), frames.value(i, *code).to_bits(), "{ty} {i}");
            }
            let again = Frames::read(ty, bytes).unwrap();
            assert_eq!((again.scales(), again.mins()), (frames.scales(), frames.mins()), "{ty}");
        }
    }
}

#[test]
fn the_nearest_code_is_the_nearest_of_all() {
    let weights = weights();
    for ty in block_types() {
        let frames = Frames::fit(ty, &weights, None).unwrap();
        for i in (0..weights.len()).step_by(7) {
            for target in [weights[i], 0.3 * weights[i] + 0.1, -2.5 * weights[i], 0.0, 1e9, -1e9] {
                let (code, value) = frames.nearest(i, target);
                assert_eq!(value.to_bits(), frames.value(i, code).to_bits());
                let distance = |value: f32| (f64::from(value) - f64::from(target)).abs();
                let all = (0..frames.codes()).map(|code| distance(frames.value(i, code as u8)));
                let best = all.fold(f64::INFINITY, f64::min);
                assert!(distance(value) <= best * (1.0 + 1e-6) + 1e-8, "{ty} {i}: {target} became {value}");
            }
            let highest = frames.nearest(i, f32::INFINITY).1;
            assert_eq!(highest, frames.nearest(i, 1e9).1, "{ty}");
            assert!(usize::from(frames.nearest(i, f32::NAN).0) < frames.codes());
        }
    }
}

#[test]
fn nearest_codes_are_the_blocks_of_the_search() {
    let (weights, importance) = (weights(), importance());
    for ty in block_types() {
        let frames = Frames::fit(ty, &weights, Some(&importance)).unwrap();
        let searched = frames.blocks().to_vec();
        let codes: Vec<u8> = weights.iter().enumerate().map(|(i, weight)| frames.nearest(i, *weight).0).collect();
        let mut bytes = vec![0; searched.len()];
        frames.encode(&codes, &mut bytes).unwrap();
        let error = |blocks: &[u8]| -> f64 {
            let pairs = restored(ty, blocks).into_iter().zip(&weights).enumerate();
            pairs.map(|(i, (a, b))| f64::from(importance[i % COLS]) * f64::from(a - b).powi(2)).sum()
        };
        assert!((error(&bytes) / error(&searched) - 1.0).abs() < 1e-6, "{ty}");
    }
}

#[test]
fn wrong_requests_are_refused() {
    let weights = weights();
    for ty in [TensorType::F32, TensorType::F16, TensorType::Iq2Xxs] {
        assert!(matches!(Frames::fit(ty, &weights, None), Err(Error::UnsupportedType { .. })), "{ty}");
        assert!(matches!(Frames::read(ty, vec![0; 66]), Err(Error::UnsupportedType { .. })), "{ty}");
    }
    assert!(matches!(Frames::read(TensorType::Q4K, vec![0; 143]), Err(Error::Length { .. })));
    assert!(matches!(Frames::fit(TensorType::Q4K, &weights[..300], None), Err(Error::Length { .. })));
    assert!(matches!(Frames::fit(TensorType::Q4K, &[f32::NAN; 256], None), Err(Error::NonFinite { .. })));
    let frames = Frames::fit(TensorType::Q4K, &weights[..256], None).unwrap();
    assert!(matches!(frames.encode(&[0; 255], &mut [0; 144]), Err(Error::Length { .. })));
    assert!(matches!(frames.encode(&[0; 256], &mut [0; 143]), Err(Error::Length { .. })));
    assert!(Frames::read(TensorType::Q4K, vec![]).unwrap().is_empty());
}

proptest! {
    /// Blocks of any bytes: whatever scales they hold, values agree and every value finds a code.
    #[test]
    fn any_blocks_are_frames(bytes in prop::collection::vec(any::<u8>(), 210), target in -1e3f32..1e3) {
        for ty in block_types() {
            let block = bytes[..ty.block_bytes()].to_vec();
            let frames = Frames::read(ty, block.clone()).unwrap();
            let codes: Vec<u8> = (0..frames.len()).map(|i| frames.nearest(i, target).0).collect();
            let mut out = vec![0; block.len()];
            frames.encode(&codes, &mut out).unwrap();
            for (i, value) in restored(ty, &out).iter().enumerate() {
                let promised = frames.value(i, codes[i]);
                prop_assert!(value.to_bits() == promised.to_bits() || (value.is_nan() && promised.is_nan()), "{}", ty);
            }
        }
    }
}
