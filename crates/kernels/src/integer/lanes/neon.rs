//! NEON: four registers per vector. Products are collected in sixteen bits and widened once.
//!
//! The sixteen-bit sums hold: eight products of four-bit codes are at most `8·15·127 = 15 240`, four of six-bit codes
//! `4·63·127 = 32 004`, two of seven-bit codes or signed bytes `2·128·127 = 32 512`.

use super::Lanes;
use core::arch::aarch64::*;

#[derive(Clone, Copy)]
pub(in crate::integer) struct Neon;

macro_rules! quads {
    ($i:ident => $e:expr) => {{
        let $i = 0;
        let a = $e;
        let $i = 1;
        let b = $e;
        let $i = 2;
        let c = $e;
        let $i = 3;
        [a, b, c, $e]
    }};
}

#[inline(always)]
unsafe fn broadcast(x: *const i8, at: usize) -> int8x16_t {
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.add(at).cast::<i32>().read_unaligned())) }
}

/// Sixteen-bit sums of four outputs: two outputs in each half.
#[inline(always)]
unsafe fn widen_add(acc: int32x4_t, low: int16x8_t, high: int16x8_t) -> int32x4_t {
    unsafe { vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))) }
}

#[inline(always)]
unsafe fn products<const N: usize>(w: [int8x16_t; N], x: [int8x16_t; N]) -> (int16x8_t, int16x8_t) {
    unsafe {
        let mut low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
        let mut high = vmull_high_s8(w[0], x[0]);
        for i in 1..N {
            low = vmlal_s8(low, vget_low_s8(w[i]), vget_low_s8(x[i]));
            high = vmlal_high_s8(high, w[i], x[i]);
        }
        (low, high)
    }
}

#[inline(always)]
unsafe fn wide(low: int16x8_t) -> [int32x4_t; 2] {
    unsafe { [vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low))] }
}

impl Lanes for Neon {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type C = [int8x16_t; 4];

    const BYTE_OFFSET: bool = false;
    const WIDE: bool = false;
    const STEP_BITS: u32 = 0;
    const NARROW_BITS: u32 = 0;
    const PAIRS: bool = false;
    const ROW_BY_ROW: bool = false;

    #[inline(always)]
    unsafe fn codes(p: *const u8) -> Self::C {
        unsafe { quads!(i => vld1q_s8(p.add(16 * i).cast())) }
    }
    #[inline(always)]
    unsafe fn put_codes(p: *mut u8, c: Self::C) {
        unsafe {
            for (i, c) in c.into_iter().enumerate() {
                vst1q_s8(p.add(16 * i).cast(), c);
            }
        }
    }
    #[inline(always)]
    unsafe fn bits(c: Self::C, from: u32, to: u32, count: u32) -> Self::C {
        unsafe {
            let (by, mask) = (vdupq_n_s8(to as i8 - from as i8), vdupq_n_u8((((1 << count) - 1) << to) as u8));
            quads!(i => {
                let moved = if from == to { vreinterpretq_u8_s8(c[i]) } else { vshlq_u8(vreinterpretq_u8_s8(c[i]), by) };
                let apart = from == 8 - count && to == 0 || to == 8 - count && from == 0;
                vreinterpretq_s8_u8(if apart { moved } else { vandq_u8(moved, mask) })
            })
        }
    }
    #[inline(always)]
    unsafe fn or(a: Self::C, b: Self::C) -> Self::C {
        unsafe { quads!(i => vorrq_s8(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn look_up(c: Self::C, table: &[u8; 16]) -> Self::C {
        unsafe {
            let table = vld1q_s8(table.as_ptr().cast());
            quads!(i => vqtbl1q_s8(table, vreinterpretq_u8_s8(c[i])))
        }
    }
    #[inline(always)]
    unsafe fn words(c: Self::C, byte: u32, words: *const u32) -> Self::C {
        unsafe {
            quads!(i => {
                let mut index = [0u8; 16];
                vst1q_u8(index.as_mut_ptr(), vreinterpretq_u8_s8(c[i]));
                let found = [0, 1, 2, 3].map(|n| words.add(usize::from(index[4 * n + byte as usize])).read());
                vreinterpretq_s8_u32(vld1q_u32(found.as_ptr()))
            })
        }
    }
    #[inline(always)]
    unsafe fn byte_codes(c: Self::C) -> Self::C {
        unsafe { quads!(i => veorq_s8(c[i], vdupq_n_s8(-128))) }
    }
    #[inline(always)]
    unsafe fn widen<const J: usize, const SIGNED: bool>(c: Self::C) -> Self::I {
        unsafe {
            quads!(i => {
                let v = vreinterpretq_s32_s8(c[i]);
                let top = match J {
                    0 => vshlq_n_s32::<24>(v),
                    1 => vshlq_n_s32::<16>(v),
                    2 => vshlq_n_s32::<8>(v),
                    _ => v,
                };
                if SIGNED {
                    vshrq_n_s32::<24>(top)
                } else {
                    vreinterpretq_s32_u32(vshrq_n_u32::<24>(vreinterpretq_u32_s32(top)))
                }
            })
        }
    }

    #[inline(always)]
    unsafe fn four(x: *const i8) -> Self::C {
        unsafe { [broadcast(x, 0); 4] }
    }
    #[inline(always)]
    unsafe fn step<const BITS: u32>(acc: Self::I, _w: Self::C, _x: Self::C) -> Self::I {
        acc
    }
    #[inline(always)]
    unsafe fn dot4<const BITS: u32>(acc: Self::I, w: [Self::C; 4], x: *const i8) -> Self::I {
        unsafe {
            let x = [broadcast(x, 0), broadcast(x, 4), broadcast(x, 8), broadcast(x, 12)];
            quads!(i => {
                if BITS >= 7 {
                    let (low, high) = products([w[0][i], w[1][i]], [x[0], x[1]]);
                    let acc = widen_add(acc[i], low, high);
                    let (low, high) = products([w[2][i], w[3][i]], [x[2], x[3]]);
                    widen_add(acc, low, high)
                } else {
                    let (low, high) = products([w[0][i], w[1][i], w[2][i], w[3][i]], x);
                    widen_add(acc[i], low, high)
                }
            })
        }
    }
    #[inline(always)]
    unsafe fn splat_int(v: i32) -> Self::I {
        unsafe { [vdupq_n_s32(v); 4] }
    }
    #[inline(always)]
    unsafe fn add_int(a: Self::I, b: Self::I) -> Self::I {
        unsafe { quads!(i => vaddq_s32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn to_f32(v: Self::I) -> Self::F {
        unsafe { quads!(i => vcvtq_f32_s32(v[i])) }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        unsafe { [vdupq_n_f32(v); 4] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { quads!(i => vld1q_f32(p.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        unsafe {
            for (i, v) in v.into_iter().enumerate() {
                vst1q_f32(p.add(4 * i), v);
            }
        }
    }
    #[inline(always)]
    unsafe fn from_half(p: *const u16) -> Self::F {
        unsafe {
            quads!(i => {
                let bits = vmovl_u16(vld1_u16(p.add(4 * i)));
                let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
                let rest = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
                // As an f32 these bits are 2⁻¹¹² of the value, subnormals included; infinities and NaNs come out at 2¹⁶ and above.
                let value = vmulq_f32(vreinterpretq_f32_u32(rest), vdupq_n_f32(f32::from_bits((127 + 112) << 23)));
                let big = vcgeq_f32(value, vdupq_n_f32(65536.0));
                let special = vandq_u32(big, vdupq_n_u32(0x7f80_0000));
                vreinterpretq_f32_u32(vorrq_u32(vorrq_u32(vreinterpretq_u32_f32(value), special), sign))
            })
        }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> Self::F {
        unsafe {
            let v = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(v)), vmovl_high_u8(v));
            let v = [wide(vreinterpretq_s16_u16(low)), wide(vreinterpretq_s16_u16(high))];
            [vcvtq_f32_s32(v[0][0]), vcvtq_f32_s32(v[0][1]), vcvtq_f32_s32(v[1][0]), vcvtq_f32_s32(v[1][1])]
        }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> Self::F {
        unsafe {
            let v = vld1q_s8(p);
            let v = [wide(vmovl_s8(vget_low_s8(v))), wide(vmovl_high_s8(v))];
            [vcvtq_f32_s32(v[0][0]), vcvtq_f32_s32(v[0][1]), vcvtq_f32_s32(v[1][0]), vcvtq_f32_s32(v[1][1])]
        }
    }
    #[inline(always)]
    unsafe fn from_exponent(p: *const u8) -> Self::F {
        unsafe {
            let e = vld1q_u8(p);
            let half = vshrq_n_u8::<1>(e);
            let bias = vdupq_n_u8(63);
            let (a, b) = (vaddq_u8(half, bias), vaddq_u8(vsubq_u8(e, half), bias));
            let (a, b) = ([vmovl_u8(vget_low_u8(a)), vmovl_high_u8(a)], [vmovl_u8(vget_low_u8(b)), vmovl_high_u8(b)]);
            let low = |v: uint16x8_t| vreinterpretq_f32_u32(vshlq_n_u32::<23>(vmovl_u16(vget_low_u16(v))));
            let high = |v: uint16x8_t| vreinterpretq_f32_u32(vshlq_n_u32::<23>(vmovl_high_u16(v)));
            [
                vmulq_f32(low(a[0]), low(b[0])),
                vmulq_f32(high(a[0]), high(b[0])),
                vmulq_f32(low(a[1]), low(b[1])),
                vmulq_f32(high(a[1]), high(b[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn from_nibble(p: *const u8, shift: u32) -> Self::F {
        unsafe {
            let v = vandq_u8(vshlq_u8(vld1q_u8(p), vdupq_n_s8(-(shift as i8))), vdupq_n_u8(15));
            let v =
                [wide(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v)))), wide(vreinterpretq_s16_u16(vmovl_high_u8(v)))];
            [vcvtq_f32_s32(v[0][0]), vcvtq_f32_s32(v[0][1]), vcvtq_f32_s32(v[1][0]), vcvtq_f32_s32(v[1][1])]
        }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { quads!(i => vsubq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { quads!(i => vmulq_f32(a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { quads!(i => vfmaq_f32(c[i], a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { quads!(i => vfmsq_f32(c[i], a[i], b[i])) }
    }
    #[inline(always)]
    unsafe fn canonical(v: Self::F) -> Self::F {
        unsafe { quads!(i => vbslq_f32(vceqq_f32(v[i], v[i]), v[i], vdupq_n_f32(f32::NAN))) }
    }
}
