//! AVX2 with FMA and F16C: two registers per vector, `vpmaddubsw` for the products.
//!
//! `vpmaddubsw` adds two products of an unsigned and a signed byte and saturates at sixteen bits. It never does here:
//! activations are in −127..=127, so a pair is at most `2·15·127 = 3 810` for four bits (eight pairs: 30 480),
//! `2·31·127 = 7 874` for five (four pairs: 31 496), `2·63·127 = 16 002` for six (two pairs: 32 004), `2·127·127 = 32 258` for
//! seven, and for eight bits, where the unsigned byte is `|w| ≤ 128` and the signed one is the activation with the sign of
//! `w`, `2·128·127 = 32 512`; all within 32 767.

use super::Lanes;
use crate::integer::codes::Book;
use core::arch::x86_64::*;
use core::cmp::Ordering;

#[derive(Clone, Copy)]
pub(in crate::integer) struct Avx2;

#[inline(always)]
unsafe fn broadcast(x: *const i8, at: usize) -> __m256i {
    unsafe { _mm256_set1_epi32(x.add(at).cast::<i32>().read_unaligned()) }
}

#[inline(always)]
unsafe fn pairs_to_int(v: __m256i) -> __m256i {
    unsafe { _mm256_madd_epi16(v, _mm256_set1_epi16(1)) }
}

/// Keeps sums here and in this order. An optimiser that regroups the sums of a block keeps them all waiting, and spills them.
#[inline]
#[target_feature(enable = "avx2")]
fn now(mut sum: __m256i) -> __m256i {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!("/* {0} */", inout(ymm_reg) sum, options(nomem, nostack, preserves_flags)) };
    sum
}

#[inline(always)]
unsafe fn bytes_dot(w: __m256i, x: __m256i) -> __m256i {
    unsafe { pairs_to_int(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))) }
}

macro_rules! both {
    ($h:ident => $e:expr) => {{
        let $h = 0;
        let low = $e;
        let $h = 1;
        [low, $e]
    }};
}

impl Lanes for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type C = [__m256i; 2];

    const BYTE_OFFSET: bool = false;
    const WIDE: bool = false;
    const STEP_BITS: u32 = 8;
    const NARROW_BITS: u32 = 4;
    const PAIRS: bool = true;
    const ROW_BY_ROW: bool = false;

    #[inline(always)]
    unsafe fn codes(p: *const u8) -> Self::C {
        unsafe { both!(h => _mm256_load_si256(p.add(32 * h).cast())) }
    }
    #[inline(always)]
    unsafe fn put_codes(p: *mut u8, c: Self::C) {
        unsafe {
            _mm256_store_si256(p.cast(), c[0]);
            _mm256_store_si256(p.add(32).cast(), c[1]);
        }
    }
    #[inline(always)]
    unsafe fn bits(c: Self::C, from: u32, to: u32, count: u32) -> Self::C {
        unsafe {
            both!(h => {
                let moved = match from.cmp(&to) {
                    Ordering::Greater => _mm256_srl_epi16(c[h], _mm_cvtsi32_si128((from - to) as i32)),
                    Ordering::Less => _mm256_sll_epi16(c[h], _mm_cvtsi32_si128((to - from) as i32)),
                    Ordering::Equal => c[h],
                };
                _mm256_and_si256(moved, _mm256_set1_epi8((((1 << count) - 1) << to) as i8))
            })
        }
    }
    #[inline(always)]
    unsafe fn or(a: Self::C, b: Self::C) -> Self::C {
        unsafe { both!(h => _mm256_or_si256(a[h], b[h])) }
    }
    #[inline(always)]
    unsafe fn look_up(c: Self::C, table: &[u8; 16]) -> Self::C {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            both!(h => _mm256_shuffle_epi8(table, c[h]))
        }
    }
    #[inline(always)]
    unsafe fn words(c: Self::C, byte: u32, words: *const u32) -> Self::C {
        unsafe {
            both!(h => {
                let moved = _mm256_srl_epi32(c[h], _mm_cvtsi32_si128(8 * byte as i32));
                _mm256_i32gather_epi32::<4>(words.cast(), _mm256_and_si256(moved, _mm256_set1_epi32(255)))
            })
        }
    }
    #[inline(always)]
    unsafe fn codeword<const G: usize>(indices: Self::C, signs: Self::C, book: &Book) -> Self::C {
        unsafe {
            let words = Self::words(indices, G as u32 / 2, book.words.as_ptr());
            let table = _mm256_broadcastsi128_si256(_mm_load_si128(book.codes.as_ptr().cast()));
            let by = _mm_cvtsi32_si128((G as i32 / 2 - 2).abs());
            both!(h => {
                // Level and sign of group G & !1 in the low half of every byte, of the next one in the high half; bits 3 and 7 are zero.
                let sign = if G < 4 { _mm256_sll_epi16(signs[h], by) } else { _mm256_srl_epi16(signs[h], by) };
                let two = _mm256_or_si256(words[h], _mm256_and_si256(sign, _mm256_set1_epi8(0x44)));
                _mm256_shuffle_epi8(table, if G.is_multiple_of(2) { two } else { _mm256_srli_epi16::<4>(two) })
            })
        }
    }
    #[inline(always)]
    unsafe fn byte_codes(c: Self::C) -> Self::C {
        unsafe { both!(h => _mm256_xor_si256(c[h], _mm256_set1_epi8(-128))) }
    }
    #[inline(always)]
    unsafe fn widen<const J: usize, const SIGNED: bool>(c: Self::C) -> Self::I {
        unsafe {
            both!(h => {
                let top = match J {
                    0 => _mm256_slli_epi32::<24>(c[h]),
                    1 => _mm256_slli_epi32::<16>(c[h]),
                    2 => _mm256_slli_epi32::<8>(c[h]),
                    _ => c[h],
                };
                if SIGNED { _mm256_srai_epi32::<24>(top) } else { _mm256_srli_epi32::<24>(top) }
            })
        }
    }

    #[inline(always)]
    unsafe fn four(x: *const i8) -> Self::C {
        unsafe { [broadcast(x, 0); 2] }
    }
    #[inline(always)]
    unsafe fn step<const BITS: u32>(acc: Self::I, w: Self::C, x: Self::C) -> Self::I {
        unsafe {
            match BITS {
                ..=4 => both!(h => now(_mm256_add_epi16(acc[h], _mm256_maddubs_epi16(w[h], x[h])))),
                5..=7 => both!(h => now(_mm256_add_epi32(acc[h], pairs_to_int(_mm256_maddubs_epi16(w[h], x[h]))))),
                _ => both!(h => now(_mm256_add_epi32(acc[h], bytes_dot(w[h], x[h])))),
            }
        }
    }
    #[inline(always)]
    unsafe fn step_pair(acc: Self::I, w: [Self::C; 2], x: [Self::C; 2]) -> Self::I {
        unsafe {
            both!(h => {
                let (a, b) = (_mm256_maddubs_epi16(w[0][h], x[0][h]), _mm256_maddubs_epi16(w[1][h], x[1][h]));
                now(_mm256_add_epi32(acc[h], pairs_to_int(_mm256_add_epi16(a, b))))
            })
        }
    }
    #[inline(always)]
    unsafe fn finish(acc: Self::I, start: Self::I) -> Self::I {
        unsafe { both!(h => _mm256_add_epi32(pairs_to_int(acc[h]), start[h])) }
    }
    #[inline(always)]
    unsafe fn dot4<const BITS: u32>(acc: Self::I, w: [Self::C; 4], x: *const i8) -> Self::I {
        unsafe {
            let x = [broadcast(x, 0), broadcast(x, 4), broadcast(x, 8), broadcast(x, 12)];
            both!(h => {
                if BITS == 8 {
                    let ab = _mm256_add_epi32(bytes_dot(w[0][h], x[0]), bytes_dot(w[1][h], x[1]));
                    let cd = _mm256_add_epi32(bytes_dot(w[2][h], x[2]), bytes_dot(w[3][h], x[3]));
                    _mm256_add_epi32(acc[h], _mm256_add_epi32(ab, cd))
                } else {
                    let a = _mm256_maddubs_epi16(w[0][h], x[0]);
                    let b = _mm256_maddubs_epi16(w[1][h], x[1]);
                    let c = _mm256_maddubs_epi16(w[2][h], x[2]);
                    let d = _mm256_maddubs_epi16(w[3][h], x[3]);
                    if BITS == 7 {
                        let ab = _mm256_add_epi32(pairs_to_int(a), pairs_to_int(b));
                        let cd = _mm256_add_epi32(pairs_to_int(c), pairs_to_int(d));
                        _mm256_add_epi32(_mm256_add_epi32(acc[h], ab), cd)
                    } else {
                        let (ab, cd) = (_mm256_add_epi16(a, b), _mm256_add_epi16(c, d));
                        if BITS == 6 {
                            _mm256_add_epi32(_mm256_add_epi32(acc[h], pairs_to_int(ab)), pairs_to_int(cd))
                        } else {
                            _mm256_add_epi32(acc[h], pairs_to_int(_mm256_add_epi16(ab, cd)))
                        }
                    }
                }
            })
        }
    }
    #[inline(always)]
    unsafe fn splat_int(v: i32) -> Self::I {
        unsafe { [_mm256_set1_epi32(v); 2] }
    }
    #[inline(always)]
    unsafe fn add_int(a: Self::I, b: Self::I) -> Self::I {
        unsafe { both!(h => _mm256_add_epi32(a[h], b[h])) }
    }
    #[inline(always)]
    unsafe fn to_f32(v: Self::I) -> Self::F {
        unsafe { both!(h => _mm256_cvtepi32_ps(v[h])) }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(v); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { both!(h => _mm256_loadu_ps(p.add(8 * h))) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn from_half(p: *const u16) -> Self::F {
        unsafe { both!(h => _mm256_cvtph_ps(_mm_loadu_si128(p.add(8 * h).cast()))) }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> Self::F {
        unsafe { both!(h => _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8 * h).cast())))) }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> Self::F {
        unsafe { both!(h => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8 * h).cast())))) }
    }
    #[inline(always)]
    unsafe fn from_exponent(p: *const u8) -> Self::F {
        unsafe {
            both!(h => {
                let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8 * h).cast()));
                let (half, bias) = (_mm256_srli_epi32::<1>(e), _mm256_set1_epi32(63));
                let rest = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias));
                let half = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
                _mm256_mul_ps(_mm256_castsi256_ps(half), _mm256_castsi256_ps(rest))
            })
        }
    }
    #[inline(always)]
    unsafe fn from_nibble(p: *const u8, shift: u32) -> Self::F {
        unsafe {
            both!(h => {
                let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8 * h).cast()));
                let moved = _mm256_srl_epi32(bytes, _mm_cvtsi32_si128(shift as i32));
                _mm256_cvtepi32_ps(_mm256_and_si256(moved, _mm256_set1_epi32(15)))
            })
        }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(h => _mm256_sub_ps(a[h], b[h])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(h => _mm256_mul_ps(a[h], b[h])) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { both!(h => _mm256_fmadd_ps(a[h], b[h], c[h])) }
    }
    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { both!(h => _mm256_fnmadd_ps(a[h], b[h], c[h])) }
    }
    #[inline(always)]
    unsafe fn canonical(v: Self::F) -> Self::F {
        unsafe {
            both!(h => {
                let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(v[h], v[h]);
                _mm256_blendv_ps(v[h], _mm256_set1_ps(f32::NAN), nan)
            })
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
