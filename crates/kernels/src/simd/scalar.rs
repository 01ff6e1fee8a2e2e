//! Plain Rust.

use super::{LANES, Simd};
use crate::convert::{bf16_to_f32, f16_to_f32, f32_to_f16};
use crate::isa::Isa;

/// Arrays of 16.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

macro_rules! each {
    ($i:ident => $e:expr) => {{
        let mut out = [Default::default(); LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $e;
            $i += 1;
        }
        out
    }};
}

impl Simd for Scalar {
    const ISA: Isa = Isa::Scalar;
    type F = [f32; LANES];
    type I = [i32; LANES];
    type M = [bool; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES], x: Self::F) {
        *out = x;
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { x.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32, x: Self::F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe { out.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, x: *const u16) -> Self::F {
        // SAFETY: the caller vouches for 16 values.
        each!(i => bf16_to_f32(unsafe { x.add(i).read_unaligned() }))
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, x: *const u16) -> Self::F {
        // SAFETY: the caller vouches for 16 values.
        each!(i => f16_to_f32(unsafe { x.add(i).read_unaligned() }))
    }
    #[inline(always)]
    fn to_f16(self, x: Self::F) -> [u16; LANES] {
        each!(i => f32_to_f16(x[i]))
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        each!(i => a[i].sqrt())
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each!(i => a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each!(i => (-a[i]).mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        each!(i => a[i].round_ties_even())
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each!(i => a[i].abs())
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        each!(i => -a[i])
    }
    #[inline(always)]
    fn swap<const H: usize>(self, a: Self::F) -> Self::F {
        each!(i => a[i ^ H])
    }

    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        each!(i => a[i] < b[i])
    }
    #[inline(always)]
    fn is_nan(self, a: Self::F) -> Self::M {
        each!(i => a[i].is_nan())
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if m[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        *x
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I {
        x.map(i32::from)
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], x: Self::I) {
        *out = x;
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        let low = |x: i32| i32::from(x as i16);
        each!(i => c[i].wrapping_add(low(a[i]) * low(b[i])).wrapping_add((a[i] >> 16) * (b[i] >> 16)))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] & b[i])
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] | b[i])
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, a: Self::I) -> Self::I {
        each!(i => a[i] << N)
    }
    #[inline(always)]
    fn shr_i<const N: u32>(self, a: Self::I) -> Self::I {
        each!(i => a[i] >> N)
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        each!(i => a[i] as f32)
    }
    #[inline(always)]
    fn to_int(self, a: Self::F) -> Self::I {
        each!(i => a[i].round_ties_even() as i32)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        each!(i => a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        each!(i => f32::from_bits(a[i] as u32))
    }
}
