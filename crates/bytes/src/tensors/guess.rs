//! What numbers some bytes are, by looking at them.

use super::kind::Kind;
use super::planes;
use brevity_coding::simd::Backend;

/// What a kind must save of each byte beside plain bytes, in bits.
const GAIN: f64 = 0.15;

/// Bits that a plane of these bytes takes, by its own frequencies, and a little for telling them.
fn bits(plane: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    plane.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let total = plane.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|&count| f64::from(count) * (total / f64::from(count)).log2() + 6.0)
        .sum()
}

/// The kind of numbers whose planes take the fewest bits; none if that is hardly better than bytes.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    if bytes.len() < 1024 {
        return None;
    }
    let candidates = [
        Kind::Float32,
        Kind::Bfloat16,
        Kind::Float16,
        Kind::Float64,
        Kind::Integer(2),
        Kind::Integer(4),
        Kind::Integer(8),
    ];
    let plain = bits(bytes);
    let mut scratch = Vec::new();
    let cost = |kind: &Kind| {
        let whole = bytes.len() - bytes.len() % kind.unit();
        planes::split(*kind, &bytes[..whole], &mut scratch, Backend::Scalar);
        scratch.iter().map(|plane| bits(plane)).sum::<f64>()
    };
    let costs: Vec<(f64, Kind)> = candidates.iter().map(cost).zip(candidates).collect();
    let (best, kind) = costs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    (best < plain - GAIN * bytes.len() as f64).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_told_apart() {
        let mut x = 5u32;
        let mut uniform = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            f64::from(x) / 4_294_967_296.0
        };
        let weights: Vec<f32> =
            (0..20_000).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32 * 0.03).collect();
        let single: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(kind(&single), Some(Kind::Float32));
        let half: Vec<u8> = weights.iter().flat_map(|w| [w.to_le_bytes()[2], w.to_le_bytes()[3]]).collect();
        assert_eq!(kind(&half), Some(Kind::Bfloat16));
        let double: Vec<u8> = (0..9000).map(|_| uniform() - 0.5).flat_map(f64::to_le_bytes).collect();
        assert!(matches!(kind(&double), Some(Kind::Float64 | Kind::Integer(8))));
        let noise: Vec<u8> = (0..30_000).map(|_| (uniform() * 256.0) as u8).collect();
        assert_eq!(kind(&noise), None);
        assert_eq!(kind(&[0; 100]), None);
    }
}
