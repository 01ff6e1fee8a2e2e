//! AVX2 with FMA and F16C: two registers are 16 lanes.

use super::{Kernel, LANES, Simd};
use crate::isa::Isa;
use std::arch::x86_64::*;

/// A machine with AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// `None` if this machine lacks it.
    #[inline(always)]
    pub fn new() -> Option<Avx2> {
        Isa::Avx2.is_available().then_some(Avx2(()))
    }
}

/// Compiles a kernel with this set's instructions.
///
/// # Safety
/// Safe, as `s` proves that the features are there; the attribute wants the word.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

/// Applies an intrinsic to both halves.
macro_rules! both {
    ($f:expr, $a:expr) => {
        unsafe { ($f($a.0), $f($a.1)) }
    };
    ($f:expr, $a:expr, $b:expr) => {
        unsafe { ($f($a.0, $b.0), $f($a.1, $b.1)) }
    };
    ($f:expr, $a:expr, $b:expr, $c:expr) => {
        unsafe { ($f($a.0, $b.0, $c.0), $f($a.1, $b.1, $c.1)) }
    };
}

// SAFETY of every `unsafe` here: a value of `Avx2` proves that the features are there; loads and stores go through
// references to 16 values, or through pointers the caller vouches for.
impl Simd for Avx2 {
    const ISA: Isa = Isa::Avx2;
    type F = (__m256, __m256);
    type I = (__m256i, __m256i);
    type M = (__m256, __m256);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
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
        unsafe { (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8))) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32, x: Self::F) {
        unsafe {
            _mm256_storeu_ps(out, x.0);
            _mm256_storeu_ps(out.add(8), x.1);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, x: *const u16) -> Self::F {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.add(8).cast()));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)))
        }
    }
    #[inline(always)]
    unsafe fn load_f16_ptr(self, x: *const u16) -> Self::F {
        unsafe { (_mm256_cvtph_ps(_mm_loadu_si128(x.cast())), _mm256_cvtph_ps(_mm_loadu_si128(x.add(8).cast()))) }
    }
    #[inline(always)]
    fn to_f16(self, x: Self::F) -> [u16; LANES] {
        let mut out = [0u16; LANES];
        let x = self.canonical(x);
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1);
            _mm_storeu_si128(out.as_mut_ptr().cast(), low);
            _mm_storeu_si128(out.as_mut_ptr().add(8).cast(), high);
        }
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        both!(_mm256_sqrt_ps, a)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fnmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        both!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>, a)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps, sign, a)
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        let sign = self.splat(-0.0);
        both!(_mm256_xor_ps, a, sign)
    }
    #[inline(always)]
    fn swap<const H: usize>(self, a: Self::F) -> Self::F {
        match H {
            1 => both!(_mm256_permute_ps::<0b10_11_00_01>, a),
            2 => both!(_mm256_permute_ps::<0b01_00_11_10>, a),
            4 => both!(_mm256_permute2f128_ps::<0x01>, a, a),
            8 => (a.1, a.0),
            _ => unreachable!(),
        }
    }

    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b)
    }
    #[inline(always)]
    fn is_nan(self, a: Self::F) -> Self::M {
        both!(_mm256_cmp_ps::<_CMP_UNORD_Q>, a, a)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_blendv_ps, b, a, m)
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        let v = unsafe { _mm256_set1_epi32(x) };
        (v, v)
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        unsafe { (_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I {
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            (_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x)))
        }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], x: Self::I) {
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), x.0);
            _mm256_storeu_si256(out.as_mut_ptr().add(8).cast(), x.1);
        }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        self.add_i(both!(_mm256_madd_epi16, a, b), c)
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn shl_i<const N: u32>(self, a: Self::I) -> Self::I {
        let n = unsafe { _mm_cvtsi32_si128(N as i32) };
        unsafe { (_mm256_sll_epi32(a.0, n), _mm256_sll_epi32(a.1, n)) }
    }
    #[inline(always)]
    fn shr_i<const N: u32>(self, a: Self::I) -> Self::I {
        let n = unsafe { _mm_cvtsi32_si128(N as i32) };
        unsafe { (_mm256_sra_epi32(a.0, n), _mm256_sra_epi32(a.1, n)) }
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn to_int(self, a: Self::F) -> Self::I {
        both!(_mm256_cvtps_epi32, a)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        both!(_mm256_castps_si256, a)
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        both!(_mm256_castsi256_ps, a)
    }
}
