//! F32 checkpoints as BF16 ones: what most weights are stored as, made from what is at hand.

use brevity_formats::TensorType;
use brevity_formats::safetensors::{Header, TensorInfo};

/// A safetensors file with its F32 tensors rounded to BF16 (to the nearest, ties to even), the others left out; nothing if it is no such file.
pub fn bf16(file: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(file).ok()?;
    let prefix = file.first_chunk::<8>()?;
    let begin = 8 + Header::length(*prefix, file.len() as u64).ok()?;
    let floats: Vec<&TensorInfo> = header.tensors.iter().filter(|tensor| tensor.ty == TensorType::F32).collect();
    let (mut entries, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in floats {
        let start = usize::try_from(begin + tensor.offset).ok()?;
        let raw = file.get(start..start + usize::try_from(tensor.bytes).ok()?)?;
        let from = data.len();
        for four in raw.as_chunks::<4>().0 {
            data.extend(round(f32::from_le_bytes(*four)).to_le_bytes());
        }
        let entry = serde_json::json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [from, data.len()]});
        entries.insert(tensor.name.clone(), entry);
    }
    if data.is_empty() {
        return None;
    }
    let mut json = serde_json::to_vec(&entries).ok()?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json);
    out.extend(data);
    Some(out)
}

fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_half_as_large_and_read_again() {
        let step = 2f32.powi(-8);
        let floats = [1.0f32, -0.1, f32::NAN, 3.0e38, 1.0 + step, 1.0 + 3.0 * step];
        let header = br#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(floats.iter().flat_map(|x| x.to_le_bytes()));
        let cast = bf16(&file).unwrap();
        let read = Header::parse(&cast).unwrap();
        assert_eq!((read.tensors[0].ty, read.tensors[0].shape.as_slice()), (TensorType::BF16, &[2, 3][..]));
        let values: Vec<f32> = cast[cast.len() - 12..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|two| f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16))
            .collect();
        // 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷: to the even one; 1 + 3 · 2⁻⁸ goes up.
        assert_eq!((values[0], values[4], values[5]), (1.0, 1.0, 1.015_625));
        assert!(values[2].is_nan() && (values[1] + 0.1).abs() < 0.001);
        assert!(bf16(&cast).is_none() && bf16(b"no such file").is_none());
    }
}
