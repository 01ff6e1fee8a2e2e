//! Undoing the shrinkage of least squares.
//!
//! Scales that make `Σ w (x − ŵ)²` least (w: importances, x: weights) make blocks that are a little too small: where residuals
//! are orthogonal to ŵ, `Σ w x ŵ = Σ w ŵ² < Σ w x²`. The sum of squares counts that as any other error, but it is not like the
//! others: all columns err in the direction of the layer's own output, so it adds up in amplitude and scales the output down
//! (by 5 % at Q2_K, 0.3 % at Q4_0), where rounding adds up in power only. So each block's half floats are multiplied by
//! `Σ w x² / Σ w x ŵ`, which leaves the codes and takes the output's own direction out of the error, at the price of a slightly
//! larger sum of squares: `(1 − ρ²) / ρ²` of `Σ w x²` in place of `1 − ρ²`, with ρ the correlation of x and ŵ.

use super::bits::{f16_bits, f16_le};
use super::dequantize;
use crate::error::Result;
use crate::types::TensorType;

/// Where the half floats of a block lie that all its weights are proportional to.
fn half_floats(ty: TensorType) -> &'static [usize] {
    match ty {
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Iq4Nl | TensorType::Iq4Xs => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q2K => &[80, 82],
        TensorType::Q3K => &[108],
        TensorType::Q6K => &[208],
        // Q8_0's is nothing beside the rounding of its scale; MXFP4's scales are powers of two.
        _ => &[],
    }
}

/// A block that resembles its weights so little is no shrunk copy of them.
const LARGEST: f32 = 1.1;

/// Lanes of the sums, so that they vectorise in one written order.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32], importance: Option<&[f32]>) -> f32 {
    let mut sums = [0.0; LANES];
    for (i, (a, b)) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).enumerate() {
        let importance = importance.map(|w| &w[i * LANES..][..LANES]);
        for lane in 0..LANES {
            sums[lane] += importance.map_or(1.0, |w| w[lane]) * a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

/// Multiplies the scales of the blocks in `out`, which hold `values` in the least-squares sense, as far as they shrink them.
pub(super) fn restore(ty: TensorType, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
    let places = half_floats(ty);
    if places.is_empty() {
        return Ok(());
    }
    let mut restored = vec![0.0; ty.block()];
    for (i, (x, bytes)) in values.chunks_exact(ty.block()).zip(out.chunks_exact_mut(ty.block_bytes())).enumerate() {
        dequantize(ty, bytes, &mut restored)?;
        let importance = importance.map(|w| &w[i * ty.block() % w.len()..][..ty.block()]);
        let gain = dot(x, x, importance) / dot(x, &restored, importance);
        if !(gain > 1.0 && gain.is_finite()) {
            continue;
        }
        for place in places {
            let half = &mut bytes[*place..][..2];
            let scale = f16_le([half[0], half[1]]) * gain.min(LARGEST);
            half.copy_from_slice(&f16_bits(scale).to_le_bytes());
        }
    }
    Ok(())
}
