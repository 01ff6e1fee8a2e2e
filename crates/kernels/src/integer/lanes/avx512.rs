//! AVX-512 with VNNI: one register per vector, `vpdpbusd` with the activations broadcast from memory.

use super::Lanes;
use core::arch::x86_64::*;
use core::cmp::Ordering;

#[derive(Clone, Copy)]
pub(in crate::integer) struct Avx512;

/// Four activations, repeated for every output.
#[inline(always)]
unsafe fn broadcast(x: *const i8, at: usize) -> __m512i {
    unsafe { _mm512_set1_epi32(x.add(at).cast::<i32>().read_unaligned()) }
}

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type C = __m512i;

    const BYTE_OFFSET: bool = true;
    const WIDE: bool = true;
    const STEP_BITS: u32 = 8;
    const NARROW_BITS: u32 = 0;
    const PAIRS: bool = false;
    const ROW_BY_ROW: bool = false;

    #[inline(always)]
    unsafe fn codes(p: *const u8) -> __m512i {
        unsafe { _mm512_load_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn put_codes(p: *mut u8, c: __m512i) {
        unsafe { _mm512_store_si512(p.cast(), c) }
    }
    #[inline(always)]
    unsafe fn bits(c: __m512i, from: u32, to: u32, count: u32) -> __m512i {
        unsafe {
            let moved = match from.cmp(&to) {
                Ordering::Greater => _mm512_srl_epi16(c, _mm_cvtsi32_si128((from - to) as i32)),
                Ordering::Less => _mm512_sll_epi16(c, _mm_cvtsi32_si128((to - from) as i32)),
                Ordering::Equal => c,
            };
            _mm512_and_si512(moved, _mm512_set1_epi8((((1 << count) - 1) << to) as i8))
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn look_up(c: __m512i, table: &[u8; 16]) -> __m512i {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), c) }
    }
    #[inline(always)]
    unsafe fn words(c: __m512i, byte: u32, words: *const u64) -> [__m512i; 2] {
        unsafe {
            let moved = _mm512_srl_epi32(c, _mm_cvtsi32_si128(8 * byte as i32));
            let index = _mm512_and_si512(moved, _mm512_set1_epi32(255));
            let low = _mm512_i32gather_epi64::<8>(_mm512_castsi512_si256(index), words.cast());
            let high = _mm512_i32gather_epi64::<8>(_mm512_extracti64x4_epi64::<1>(index), words.cast());
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
            [_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)]
        }
    }
    #[inline(always)]
    unsafe fn negate(c: __m512i, signs: __m512i, bit: u32) -> __m512i {
        unsafe {
            let negative = _mm512_test_epi8_mask(signs, _mm512_set1_epi8((1u8 << bit) as i8));
            _mm512_mask_sub_epi8(c, negative, _mm512_setzero_si512(), c)
        }
    }
    #[inline(always)]
    unsafe fn byte_codes(c: __m512i) -> __m512i {
        c
    }
    #[inline(always)]
    unsafe fn widen<const J: usize, const SIGNED: bool>(c: __m512i) -> __m512i {
        unsafe {
            let top = match J {
                0 => _mm512_slli_epi32::<24>(c),
                1 => _mm512_slli_epi32::<16>(c),
                2 => _mm512_slli_epi32::<8>(c),
                _ => c,
            };
            if SIGNED { _mm512_srai_epi32::<24>(top) } else { _mm512_srli_epi32::<24>(top) }
        }
    }

    #[inline(always)]
    unsafe fn four(x: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(x.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn step<const BITS: u32>(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(acc, w, x) }
    }
    #[inline(always)]
    unsafe fn dot4<const BITS: u32>(acc: __m512i, w: [__m512i; 4], x: *const i8) -> __m512i {
        unsafe {
            let acc = _mm512_dpbusd_epi32(acc, w[0], broadcast(x, 0));
            let acc = _mm512_dpbusd_epi32(acc, w[1], broadcast(x, 4));
            let acc = _mm512_dpbusd_epi32(acc, w[2], broadcast(x, 8));
            _mm512_dpbusd_epi32(acc, w[3], broadcast(x, 12))
        }
    }
    #[inline(always)]
    unsafe fn splat_int(v: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(v) }
    }
    #[inline(always)]
    unsafe fn to_f32(v: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(v) }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> __m512 {
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn from_half(p: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_exponent(p: *const u8) -> __m512 {
        unsafe {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let (half, bias) = (_mm512_srli_epi32::<1>(e), _mm512_set1_epi32(63));
            let rest = _mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_sub_epi32(e, half), bias));
            let half = _mm512_slli_epi32::<23>(_mm512_add_epi32(half, bias));
            _mm512_mul_ps(_mm512_castsi512_ps(half), _mm512_castsi512_ps(rest))
        }
    }
    #[inline(always)]
    unsafe fn from_nibble(p: *const u8, shift: u32) -> __m512 {
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let moved = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(moved, _mm512_set1_epi32(15)))
        }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn canonical(v: __m512) -> __m512 {
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            _mm512_mask_mov_ps(v, nan, _mm512_set1_ps(f32::NAN))
        }
    }
    #[inline(always)]
    unsafe fn here() {
        unsafe { core::arch::asm!("", options(nostack, preserves_flags)) }
    }
}
