//! NEON: four registers are 16 lanes.

use super::{LANES, Simd};
use crate::isa::Isa;
use std::arch::aarch64::*;
use std::arch::asm;

/// Any AArch64 machine.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// NEON belongs to AArch64.
    #[inline(always)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Neon {
        Neon(())
    }
}

/// Applies an intrinsic to all four quarters.
macro_rules! all {
    ($f:expr, $a:expr) => {
        unsafe { [$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])] }
    };
    ($f:expr, $a:expr, $b:expr) => {
        unsafe { [$f($a[0], $b[0]), $f($a[1], $b[1]), $f($a[2], $b[2]), $f($a[3], $b[3])] }
    };
    ($f:expr, $a:expr, $b:expr, $c:expr) => {
        unsafe { [$f($a[0], $b[0], $c[0]), $f($a[1], $b[1], $c[1]), $f($a[2], $b[2], $c[2]), $f($a[3], $b[3], $c[3])] }
    };
}

/// Widens 4 f16. The intrinsic is younger than the Rust this crate asks for.
#[inline(always)]
unsafe fn widen_f16(x: *const u16) -> float32x4_t {
    // SAFETY: the caller vouches for 4 values; the instruction belongs to the base architecture.
    unsafe {
        let half = vld1_u16(x);
        let wide: float32x4_t;
        asm!("fcvtl {w:v}.4s, {h:v}.4h", h = in(vreg) half, w = lateout(vreg) wide, options(pure, nomem, nostack));
        wide
    }
}

/// Rounds 4 floats to f16, half to even.
#[inline(always)]
unsafe fn narrow_f16(x: float32x4_t) -> uint16x4_t {
    // SAFETY: the instruction belongs to the base architecture.
    unsafe {
        let half: uint16x4_t;
        asm!("fcvtn {h:v}.4h, {w:v}.4s", w = in(vreg) x, h = lateout(vreg) half, options(pure, nomem, nostack));
        half
    }
}

// SAFETY of every `unsafe` below: NEON is part of AArch64; loads and stores go through references to 16 values, or
// through pointers the caller vouches for.
impl Simd for Neon {
    const ISA: Isa = Isa::Neon;
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type M = [uint32x4_t; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [unsafe { vdupq_n_f32(x) }; 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        unsafe { self.load_ptr(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES], x: Self::F) {
        unsafe { self.store_ptr(out.as_mut_ptr(), x) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Self::F {
        unsafe { [vld1q_f32(x), vld1q_f32(x.add(4)), vld1q_f32(x.add(8)), vld1q_f32(x.add(12))] }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32, x: Self::F) {
        unsafe {
            vst1q_f32(out, x[0]);
            vst1q_f32(out.add(4), x[1]);
            vst1q_f32(out.add(8), x[2]);
            vst1q_f32(out.add(12), x[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, x: *const u16) -> Self::F {
        unsafe {
            let (a, b) = (vld1q_u16(x), vld1q_u16(x.add(8)));
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(a))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(a))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(b))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(b))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, x: *const u16) -> Self::F {
        unsafe { [widen_f16(x), widen_f16(x.add(4)), widen_f16(x.add(8)), widen_f16(x.add(12))] }
    }
    #[inline(always)]
    fn to_f16(self, x: Self::F) -> [u16; LANES] {
        let mut out = [0; LANES];
        let x = self.canonical(x);
        unsafe {
            vst1_u16(out.as_mut_ptr(), narrow_f16(x[0]));
            vst1_u16(out.as_mut_ptr().add(4), narrow_f16(x[1]));
            vst1_u16(out.as_mut_ptr().add(8), narrow_f16(x[2]));
            vst1_u16(out.as_mut_ptr().add(12), narrow_f16(x[3]));
        }
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vaddq_f32, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vsubq_f32, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vmulq_f32, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vdivq_f32, a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        all!(vsqrtq_f32, a)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        all!(vfmaq_f32, c, a, b)
    }
    #[inline(always)]
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        all!(vfmsq_f32, c, a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.lt(b, a), a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.lt(a, b), a, b)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        all!(vrndnq_f32, a)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        all!(vabsq_f32, a)
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        all!(vnegq_f32, a)
    }
    #[inline(always)]
    fn swap<const H: usize>(self, a: Self::F) -> Self::F {
        match H {
            1 => all!(vrev64q_f32, a),
            2 => all!(vextq_f32::<2>, a, a),
            4 => [a[1], a[0], a[3], a[2]],
            8 => [a[2], a[3], a[0], a[1]],
            _ => unreachable!(),
        }
    }

    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        all!(vcltq_f32, a, b)
    }
    #[inline(always)]
    fn is_nan(self, a: Self::F) -> Self::M {
        let equal = all!(vceqq_f32, a, a);
        all!(vmvnq_u32, equal)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        all!(vbslq_f32, m, a, b)
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [unsafe { vdupq_n_s32(x) }; 4]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        let x = x.as_ptr();
        unsafe { [vld1q_s32(x), vld1q_s32(x.add(4)), vld1q_s32(x.add(8)), vld1q_s32(x.add(12))] }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I {
        unsafe {
            let x = vld1q_u8(x.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
            let wide = |half: uint16x8_t| (vmovl_u16(vget_low_u16(half)), vmovl_u16(vget_high_u16(half)));
            let ((a, b), (c, d)) = (wide(low), wide(high));
            [a, b, c, d].map(|quarter| vreinterpretq_s32_u32(quarter))
        }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], x: Self::I) {
        let out = out.as_mut_ptr();
        unsafe {
            vst1q_s32(out, x[0]);
            vst1q_s32(out.add(4), x[1]);
            vst1q_s32(out.add(8), x[2]);
            vst1q_s32(out.add(12), x[3]);
        }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vaddq_s32, a, b)
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vsubq_s32, a, b)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vmulq_s32, a, b)
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        let mut out = c;
        for i in 0..4 {
            unsafe {
                let (a, b) = (vreinterpretq_s16_s32(a[i]), vreinterpretq_s16_s32(b[i]));
                let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
                out[i] = vaddq_s32(c[i], vpaddq_s32(low, vmull_high_s16(a, b)));
            }
        }
        out
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vandq_s32, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vorrq_s32, a, b)
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, a: Self::I) -> Self::I {
        let n = unsafe { vdupq_n_s32(N as i32) };
        unsafe { [vshlq_s32(a[0], n), vshlq_s32(a[1], n), vshlq_s32(a[2], n), vshlq_s32(a[3], n)] }
    }
    #[inline(always)]
    fn shr_i<const N: u32>(self, a: Self::I) -> Self::I {
        let n = unsafe { vdupq_n_s32(-(N as i32)) };
        unsafe { [vshlq_s32(a[0], n), vshlq_s32(a[1], n), vshlq_s32(a[2], n), vshlq_s32(a[3], n)] }
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        all!(vcvtq_f32_s32, a)
    }
    #[inline(always)]
    fn to_int(self, a: Self::F) -> Self::I {
        all!(vcvtnq_s32_f32, a)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        all!(vreinterpretq_s32_f32, a)
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        all!(vreinterpretq_f32_s32, a)
    }
}
