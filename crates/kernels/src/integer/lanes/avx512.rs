//! AVX-512 with VNNI: one register per vector, `vpdpbusd` with the activations broadcast from memory.

use super::Lanes;
use crate::integer::codes::{Book, sign_bit};
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
    const WHOLE_BLOCKS: bool = true;
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
    unsafe fn words(c: __m512i, byte: u32, words: *const u32) -> __m512i {
        unsafe {
            let moved = _mm512_srl_epi32(c, _mm_cvtsi32_si128(8 * byte as i32));
            _mm512_i32gather_epi32::<4>(_mm512_and_si512(moved, _mm512_set1_epi32(255)), words.cast())
        }
    }
    #[inline(always)]
    unsafe fn codeword<const G: usize>(indices: __m512i, signs: __m512i, book: &Book) -> __m512i {
        unsafe {
            // Of all 64 indices the levels of four weights; the compiler sees that all even groups want the same, and all odd ones.
            let line = |n: usize| Self::codes(book.halves[G % 2].as_ptr().add(64 * n));
            let first = _mm512_permutex2var_epi8(line(0), indices, line(1));
            let last = _mm512_permutex2var_epi8(line(2), indices, line(3));
            let half = _mm512_mask_blend_epi8(_mm512_movepi8_mask(indices), first, last);
            // Of index G / 2 of every output the level of weight i to byte i.
            let at = [0, 2, 4, 6, 32, 34, 36, 38].map(|bit| bit + 4 * (G as u8 & !1));
            let level = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(i64::from_le_bytes(at)), half);
            // The sign to one of the bits 2 to 5; there is a table for each.
            let (sign, bit) = match sign_bit(G) {
                bit @ 0..2 => (_mm512_slli_epi16::<4>(signs), bit + 4),
                bit @ 6.. => (_mm512_srli_epi16::<4>(signs), bit - 4),
                bit => (signs, bit),
            };
            let code = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(3), level, sign);
            _mm512_permutexvar_epi8(code, Self::codes(book.codes[bit as usize - 2].as_ptr()))
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
    unsafe fn add_int(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
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
    unsafe fn fetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn here() {
        unsafe { core::arch::asm!("", options(nostack, preserves_flags)) }
    }
}
