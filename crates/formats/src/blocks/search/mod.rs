//! The search behind [`quantize`](super::quantize): scales and minima that make the squared error of rounding small.
//!
//! For codes q and a scale s, `E(s) = Σ w (x − s·q)²` with `q = nearest(x / s)` has many local minima: each s gives its own
//! codes, and for fixed codes the best scale is `s' = Σ w x q / Σ w q²`. So a search tries scales around the one that the
//! extreme value asks for, gives each the closed-form error of its best scale, `E(s') = Σ w x² − (Σ w x q)² / Σ w q²`, and goes
//! on from the best. With a minimum the same holds around the means of x and q.
//!
//! Super-blocks add a level: sub-block scales and minima are integers times d and dmin. They are first searched as reals. Then
//! many d (and dmin) are weighed by the errors that the integers nearest to the reals would leave, foreseen from moments alone;
//! for the best, codes are rounded anew with the integers beside each real, then d and dmin are solved for with all codes
//! fixed, and so on.
//!
//! Sixteen sub-blocks are searched at once, one per SIMD lane, so that there are no sums across lanes and no branches. Only
//! operations that round alike everywhere are used (fused multiply-adds among them), in one order: the blocks are the same on
//! every machine.

mod affine;
mod affine_super;
mod group;
mod levels;
mod signed;

pub(super) use affine::{AffineEffort, AffineSearch};
pub(super) use group::{Codes, Group, Tilt, gather};
pub(super) use levels::{Iq4, Levels, Mx, Uniform};
pub(super) use signed::{PowerSearch, SignedEffort, SignedSearch};

use super::bits::{f16_bits, f16_to_f32};
use brevity_kernels::simd::{LANES, Simd};

/// One number per lane.
pub(crate) type Lanes = [f32; LANES];

/// Adding and subtracting this rounds |x| < 2^22 to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
pub(crate) fn round<S: Simd>(s: S, x: S::F) -> S::F {
    let magic = s.splat(ROUND);
    s.sub(s.add(x, magic), magic)
}

#[inline(always)]
pub(crate) fn clamp<S: Simd>(s: S, x: S::F, low: S::F, high: S::F) -> S::F {
    s.min(s.max(x, low), high)
}

/// `1 / x`, or 0 where x is too small to divide by.
#[inline(always)]
pub(crate) fn inverse<S: Simd>(s: S, x: S::F) -> S::F {
    let tiny = s.lt(s.abs(x), s.splat(1e-30));
    s.select(tiny, s.zero(), s.div(s.splat(1.0), x))
}

/// `x / y`, or 0 where y is not positive.
#[inline(always)]
pub(crate) fn ratio<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let positive = s.lt(s.zero(), y);
    let divisor = s.select(positive, y, s.splat(1.0));
    s.select(positive, s.div(x, divisor), s.zero())
}

/// The nearest half float, as f32.
#[inline(always)]
pub(crate) fn to_half(x: f32) -> f32 {
    f16_to_f32(f16_bits(x))
}

/// Gives every lane of a super-block of `per` sub-blocks the number that `f` finds for the lanes' range.
#[inline(always)]
fn per_super(per: usize, f: impl Fn(usize, usize) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for start in (0..LANES).step_by(per) {
        let value = f(start, start + per);
        out[start..start + per].fill(value);
    }
    out
}

/// The best of many candidates for each super-block, which is named by its first lane.
struct Shortlist<T> {
    errors: [Lanes; 2],
    values: [[T; LANES]; 2],
}

impl<T: Copy + Default> Shortlist<T> {
    #[inline(always)]
    fn new() -> Self {
        Shortlist { errors: [[f32::INFINITY; LANES]; 2], values: [[T::default(); LANES]; 2] }
    }

    /// Keeps the candidate if it is among the two with the least errors.
    #[inline(always)]
    fn offer(&mut self, first: usize, mut error: f32, mut value: T) {
        for (errors, values) in self.errors.iter_mut().zip(&mut self.values) {
            if error < errors[first] {
                std::mem::swap(&mut error, &mut errors[first]);
                std::mem::swap(&mut value, &mut values[first]);
            }
        }
    }
}

/// Importances relative to the largest, none of them zero, so that no block is without weight.
pub(crate) fn positive(importance: &[f32]) -> Vec<f32> {
    let largest = importance.iter().fold(0.0f32, |a, b| a.max(*b));
    let relative = |w: &f32| if largest > 0.0 { (w / largest).max(1e-7) } else { 1.0 };
    importance.iter().map(relative).collect()
}
