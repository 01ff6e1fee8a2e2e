//! Vector forms of the steps of [`rans`](crate::rans); where there is none, no symbol is taken and the caller's scalar form does all.

use super::Backend;
use crate::rans::{BITS, LANES, States, Step, encode_step};

/// Encodes whole steps of 64 symbols, the last first.
pub(crate) fn encode(
    backend: Backend,
    steps: &[Step; 256],
    states: &mut States,
    symbols: &[u8],
    words: &mut [u16],
    at: &mut usize,
) {
    #[cfg(target_arch = "x86_64")]
    if backend.is_available() && *at >= symbols.len() + 16 && *at <= words.len() {
        match backend {
            // SAFETY: the machine has the features, as just asked; there is room for a word a symbol and a vector.
            Backend::Avx512 => return unsafe { x86::encode_avx512(steps, states, symbols, words, at) },
            // SAFETY: as above.
            Backend::Avx2 => return unsafe { x86::encode_avx2(steps, states, symbols, words, at) },
            Backend::Scalar => {}
        }
    }
    let _ = backend;
    symbols.rchunks(LANES).for_each(|step| encode_step(steps, states, step, words, at));
}

/// Decodes as many whole steps as can be without looking at where the words end; returns the symbols done.
pub(crate) fn decode(
    backend: Backend,
    entries: &[u32; 1 << BITS],
    states: &mut States,
    words: &[u8],
    at: &mut usize,
    out: &mut [u8],
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if backend.is_available() {
        match backend {
            // SAFETY: the machine has the features, as just asked.
            Backend::Avx512 => return unsafe { x86::decode_avx512(entries, states, words, at, out) },
            // SAFETY: as above.
            Backend::Avx2 => return unsafe { x86::decode_avx2(entries, states, words, at, out) },
            Backend::Scalar => {}
        }
    }
    let _ = (backend, entries, states, words, at, out);
    0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BITS, LANES, States, Step};
    use std::arch::x86_64::*;

    /// A step reads at most 64 words, the last of them by a load of 16.
    const STEP_BYTES: usize = 2 * (LANES + 16);
    const MASK: i32 = (1 << BITS) - 1;

    /// # Safety
    /// The machine must have AVX-512 F, BW and VL.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,bmi1,bmi2,popcnt")]
    pub unsafe fn decode_avx512(
        entries: &[u32; 1 << BITS],
        states: &mut States,
        words: &[u8],
        at: &mut usize,
        out: &mut [u8],
    ) -> usize {
        let mut done = 0;
        // SAFETY: loads of words end before `at + STEP_BYTES`, stores before `done + LANES`; a slot is below 2^BITS.
        unsafe {
            let mut x: [__m512i; 4] =
                std::array::from_fn(|group| _mm512_loadu_si512(states.as_ptr().add(16 * group).cast()));
            let table = entries.as_ptr().cast::<i32>();
            let mask = _mm512_set1_epi32(MASK);
            let least = _mm512_set1_epi32(1 << 15);
            let mut place = *at;
            while done + LANES <= out.len() && place + STEP_BYTES <= words.len() {
                for (group, x) in x.iter_mut().enumerate() {
                    let entry = _mm512_i32gather_epi32::<4>(_mm512_and_si512(*x, mask), table);
                    let symbols = out.as_mut_ptr().add(done + 16 * group).cast::<__m128i>();
                    _mm_storeu_si128(symbols, _mm512_cvtepi32_epi8(entry));
                    let frequency = _mm512_and_si512(_mm512_srli_epi32::<8>(entry), mask);
                    let product = _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<BITS>(*x));
                    let next = _mm512_add_epi32(product, _mm512_srli_epi32::<20>(entry));
                    let low = _mm512_cmplt_epi32_mask(next, least);
                    let sixteen = _mm256_loadu_si256(words.as_ptr().add(place).cast());
                    let spread = _mm512_maskz_expand_epi32(low, _mm512_cvtepu16_epi32(sixteen));
                    let shifted = _mm512_or_si512(_mm512_slli_epi32::<16>(next), spread);
                    *x = _mm512_mask_mov_epi32(next, low, shifted);
                    place += 2 * low.count_ones() as usize;
                }
                done += LANES;
            }
            *at = place;
            for (group, x) in x.iter().enumerate() {
                _mm512_storeu_si512(states.as_mut_ptr().add(16 * group).cast(), *x);
            }
        }
        done
    }

    /// Places of the k-th set bit of a mask, for all masks of eight bits; and the other way, set bits moved to the top.
    struct Moves {
        expand: [[i32; 8]; 256],
        gather_top: [[i32; 8]; 256],
    }

    static MOVES: Moves = moves();

    const fn moves() -> Moves {
        let mut moves = Moves { expand: [[0; 8]; 256], gather_top: [[0; 8]; 256] };
        let mut mask = 0;
        while mask < 256 {
            let (mut lane, mut seen) = (0, 0);
            let top = 8 - (mask as u8).count_ones() as usize;
            while lane < 8 {
                if mask >> lane & 1 == 1 {
                    moves.expand[mask][lane] = seen as i32;
                    moves.gather_top[mask][top + seen] = lane as i32;
                    seen += 1;
                }
                lane += 1;
            }
            mask += 1;
        }
        moves
    }

    /// # Safety
    /// The machine must have AVX2.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub unsafe fn decode_avx2(
        entries: &[u32; 1 << BITS],
        states: &mut States,
        words: &[u8],
        at: &mut usize,
        out: &mut [u8],
    ) -> usize {
        let mut done = 0;
        // SAFETY: as in `decode_avx512`; a mask of eight lanes is below 256.
        unsafe {
            let mut x: [__m256i; 8] =
                std::array::from_fn(|group| _mm256_loadu_si256(states.as_ptr().add(8 * group).cast()));
            let table = entries.as_ptr().cast::<i32>();
            let mask = _mm256_set1_epi32(MASK);
            let least = _mm256_set1_epi32(1 << 15);
            // Byte 0 of each number, in each half.
            let pick = _mm256_set1_epi64x(0x8080_8080_0C08_0400u64 as i64);
            let mut place = *at;
            while done + LANES <= out.len() && place + STEP_BYTES <= words.len() {
                for (group, x) in x.iter_mut().enumerate() {
                    let entry = _mm256_i32gather_epi32::<4>(table, _mm256_and_si256(*x, mask));
                    let bytes = _mm256_shuffle_epi8(entry, pick);
                    let low_half = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)) as u32;
                    let high_half = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes)) as u32;
                    let eight = u64::from(low_half) | u64::from(high_half) << 32;
                    out.as_mut_ptr().add(done + 8 * group).cast::<u64>().write_unaligned(eight);
                    let frequency = _mm256_and_si256(_mm256_srli_epi32::<8>(entry), mask);
                    let product = _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<{ BITS as i32 }>(*x));
                    let next = _mm256_add_epi32(product, _mm256_srli_epi32::<20>(entry));
                    let low = _mm256_cmpgt_epi32(least, next);
                    let bits = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as usize;
                    let eight = _mm_loadu_si128(words.as_ptr().add(place).cast());
                    let order = _mm256_loadu_si256(MOVES.expand[bits & 255].as_ptr().cast());
                    let spread = _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(eight), order);
                    let shifted = _mm256_or_si256(_mm256_slli_epi32::<16>(next), spread);
                    *x = _mm256_blendv_epi8(next, shifted, low);
                    place += 2 * bits.count_ones() as usize;
                }
                done += LANES;
            }
            *at = place;
            for (group, x) in x.iter().enumerate() {
                _mm256_storeu_si256(states.as_mut_ptr().add(8 * group).cast(), *x);
            }
        }
        done
    }

    /// # Safety
    /// The machine must have AVX-512 F, BW and VL; `*at` lies inside `words`, with a word for each symbol and 16 more before it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,bmi1,bmi2,popcnt")]
    pub unsafe fn encode_avx512(
        steps: &[Step; 256],
        states: &mut States,
        symbols: &[u8],
        words: &mut [u16],
        at: &mut usize,
    ) {
        // SAFETY: a step takes 64 symbols and stores at most as many words below `place`, of which there are enough; symbols
        // are below 256.
        unsafe {
            let mut x: [__m512i; 4] =
                std::array::from_fn(|group| _mm512_loadu_si512(states.as_ptr().add(16 * group).cast()));
            let table = steps.as_ptr().cast::<i32>();
            let mask = _mm512_set1_epi32(MASK);
            let total = _mm512_set1_epi32(1 << BITS);
            let mut place = *at;
            for step in symbols.as_chunks::<LANES>().0.iter().rev() {
                for (group, x) in x.iter_mut().enumerate().rev() {
                    let symbol = _mm512_cvtepu8_epi32(_mm_loadu_si128(step.as_ptr().add(16 * group).cast()));
                    let reciprocal = _mm512_i32gather_epi32::<8>(symbol, table);
                    let packed = _mm512_i32gather_epi32::<8>(symbol, table.add(1));
                    let frequency = _mm512_and_si512(packed, mask);
                    let full = _mm512_cmpge_epi32_mask(*x, _mm512_slli_epi32::<19>(frequency));
                    let count = full.count_ones();
                    let squeezed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, *x));
                    place -= count as usize;
                    let kept = ((1u32 << count) - 1) as u16;
                    _mm256_mask_storeu_epi16(words.as_mut_ptr().add(place).cast(), kept, squeezed);
                    let small = _mm512_mask_srli_epi32::<16>(*x, full, *x);
                    let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(small, reciprocal));
                    let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(small), _mm512_srli_epi64::<32>(reciprocal));
                    let high = _mm512_mask_mov_epi32(even, 0xAAAA, odd);
                    let quotient = _mm512_srlv_epi32(high, _mm512_srli_epi32::<25>(packed));
                    let bias = _mm512_and_si512(_mm512_srli_epi32::<12>(packed), _mm512_set1_epi32(0x1FFF));
                    let step = _mm512_mullo_epi32(quotient, _mm512_sub_epi32(total, frequency));
                    *x = _mm512_add_epi32(_mm512_add_epi32(small, bias), step);
                }
            }
            *at = place;
            for (group, x) in x.iter().enumerate() {
                _mm512_storeu_si512(states.as_mut_ptr().add(16 * group).cast(), *x);
            }
        }
    }

    /// # Safety
    /// The machine must have AVX2; `*at` lies inside `words`, with a word for each symbol and 16 more before it.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub unsafe fn encode_avx2(
        steps: &[Step; 256],
        states: &mut States,
        symbols: &[u8],
        words: &mut [u16],
        at: &mut usize,
    ) {
        // SAFETY: as in `encode_avx512`; a store of eight words reaches at most eight below the new `place`.
        unsafe {
            let mut x: [__m256i; 8] =
                std::array::from_fn(|group| _mm256_loadu_si256(states.as_ptr().add(8 * group).cast()));
            let table = steps.as_ptr().cast::<i32>();
            let mask = _mm256_set1_epi32(MASK);
            let total = _mm256_set1_epi32(1 << BITS);
            // The low halves of four numbers, in each half.
            let pick = _mm256_broadcastsi128_si256(_mm_set_epi64x(-1, 0x0D0C_0908_0504_0100));
            let mut place = *at;
            for step in symbols.as_chunks::<LANES>().0.iter().rev() {
                for (group, x) in x.iter_mut().enumerate().rev() {
                    let symbol = _mm256_cvtepu8_epi32(_mm_loadl_epi64(step.as_ptr().add(8 * group).cast()));
                    let reciprocal = _mm256_i32gather_epi32::<8>(table, symbol);
                    let packed = _mm256_i32gather_epi32::<8>(table.add(1), symbol);
                    let frequency = _mm256_and_si256(packed, mask);
                    let stays = _mm256_cmpgt_epi32(_mm256_slli_epi32::<19>(frequency), *x);
                    let full = !(_mm256_movemask_ps(_mm256_castsi256_ps(stays)) as usize) & 255;
                    let order = _mm256_loadu_si256(MOVES.gather_top[full].as_ptr().cast());
                    let squeezed = _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(*x, order), pick);
                    let squeezed = _mm256_permute4x64_epi64::<0b00_00_10_00>(squeezed);
                    // The words stand at the top of the vector, so that what it overwrites lies below them.
                    let top = words.as_mut_ptr().add(place - 8).cast::<__m128i>();
                    _mm_storeu_si128(top, _mm256_castsi256_si128(squeezed));
                    place -= full.count_ones() as usize;
                    let small = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(*x), *x, stays);
                    let even = _mm256_srli_epi64::<32>(_mm256_mul_epu32(small, reciprocal));
                    let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(small), _mm256_srli_epi64::<32>(reciprocal));
                    let high = _mm256_blend_epi32::<0b1010_1010>(even, odd);
                    let quotient = _mm256_srlv_epi32(high, _mm256_srli_epi32::<25>(packed));
                    let bias = _mm256_and_si256(_mm256_srli_epi32::<12>(packed), _mm256_set1_epi32(0x1FFF));
                    let step = _mm256_mullo_epi32(quotient, _mm256_sub_epi32(total, frequency));
                    *x = _mm256_add_epi32(_mm256_add_epi32(small, bias), step);
                }
            }
            *at = place;
            for (group, x) in x.iter().enumerate() {
                _mm256_storeu_si256(states.as_mut_ptr().add(8 * group).cast(), *x);
            }
        }
    }
}
