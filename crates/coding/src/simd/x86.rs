//! AVX2 and AVX-512 forms.

use super::{PairRates, RAMP, Simd, Task};
use crate::bank::{Bank, Held, LANES, Tables};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
struct Avx2;

#[derive(Clone, Copy)]
struct Avx512;

/// # Safety
/// The machine must have AVX2 and BMI2.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) unsafe fn with_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// # Safety
/// The machine must have AVX-512 F, BW, DQ and VL, AVX2 and BMI2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) unsafe fn with_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

impl Simd for Avx2 {
    #[inline(always)]
    fn dot<const X: usize>(weights: &[i32; X], inputs: &[i32; X]) -> i32 {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: Avx2 exists inside `with_avx2` only; loads stay inside the arrays, whose length is a multiple of 16.
        unsafe {
            let mut sum = _mm256_setzero_si256();
            for at in (0..X).step_by(8) {
                let w = _mm256_loadu_si256(weights.as_ptr().add(at).cast::<__m256i>());
                let x = _mm256_loadu_si256(inputs.as_ptr().add(at).cast());
                sum = _mm256_add_epi32(sum, _mm256_srai_epi32::<4>(_mm256_mullo_epi32(w, x)));
            }
            sum_of(sum)
        }
    }

    #[inline(always)]
    fn train<const X: usize>(weights: &mut [i32; X], inputs: &[i32; X], error: i32) {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: as in `dot`; stores go where loads came from.
        unsafe {
            let error = _mm256_set1_epi32(error);
            let half = _mm256_set1_epi32(1 << 15);
            for at in (0..X).step_by(8) {
                let place = weights.as_mut_ptr().add(at).cast::<__m256i>();
                let x = _mm256_loadu_si256(inputs.as_ptr().add(at).cast());
                let step = _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_mullo_epi32(x, error), half));
                _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), step));
            }
        }
    }

    #[inline(always)]
    fn narrow_dot<const X: usize>(weights: &[i16; X], inputs: &[i16; X]) -> i32 {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: AVX2 is there wherever this type is; loads stay inside the arrays, whose length is a multiple of 16.
        unsafe {
            let mut sum = _mm256_setzero_si256();
            for at in (0..X).step_by(16) {
                sum = _mm256_add_epi32(sum, products(weights.as_ptr().add(at), inputs.as_ptr().add(at)));
            }
            sum_of(sum)
        }
    }

    #[inline(always)]
    fn narrow_train<const X: usize>(weights: &mut [i16; X], inputs: &[i16; X], error: i16, dither: u16) {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: as in `narrow_dot`; stores go where loads came from.
        unsafe {
            let error = _mm256_set1_epi16(error);
            let dither = _mm256_add_epi16(_mm256_set1_epi16(dither as i16), _mm256_loadu_si256(RAMP.as_ptr().cast()));
            for at in (0..X).step_by(16) {
                train16(weights.as_mut_ptr().add(at), inputs.as_ptr().add(at), error, dither);
            }
        }
    }

    #[inline(always)]
    fn predict(bank: &Bank, states: &[u8; LANES], held: &mut Held, inputs: &mut [i16; 2 * LANES], tables: Tables) {
        // SAFETY: Avx2 exists inside `with_avx2` only. Indices: lane · 256 + state is below 4,096, the number of counters; a
        // probability of 12 bits is below 4,096, and the table of stretches has two entries more for loads of four bytes.
        unsafe {
            let counters = bank.counters.as_ptr().cast::<i32>();
            let stretches = tables.logistic.stretch.as_ptr().cast::<i32>();
            let mut halves = [[_mm256_setzero_si256(); 2]; 2];
            for (half, kinds) in halves.iter_mut().enumerate() {
                let counter = _mm256_i32gather_epi32::<4>(counters, lanes8(states, half));
                _mm256_storeu_si256(held.as_mut_ptr().add(8 * half).cast(), counter);
                let stretched = _mm256_i32gather_epi32::<2>(stretches, _mm256_srli_epi32::<20>(counter));
                let centred = _mm256_sub_epi32(_mm256_srli_epi32::<16>(counter), _mm256_set1_epi32(32_768));
                *kinds = [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(stretched)), _mm256_srai_epi32::<5>(centred)];
            }
            let [first, second] = halves;
            for (kind, (low, high)) in first.into_iter().zip(second).enumerate() {
                let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
                _mm256_storeu_si256(inputs.as_mut_ptr().add(LANES * kind).cast(), packed);
            }
        }
    }

    #[inline(always)]
    fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], tables: Tables) {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { split(states, inputs, &tables.histories.alone) }
    }

    #[inline(always)]
    fn learn(bank: &mut Bank, states: &mut [u8; LANES], held: &Held, bit: u32, limit: u32, tables: Tables) {
        // SAFETY: Avx2 exists inside `with_avx2` only. Indices: a state is
        // below 256, and the table of successors has two entries more for loads of four bytes.
        unsafe {
            let successors = tables.histories.next.as_ptr().cast::<i32>();
            let mut learnt = [0u32; LANES];
            let mut moved = [0u32; LANES];
            for half in 0..2 {
                let counter = _mm256_loadu_si256(held.as_ptr().add(8 * half).cast());
                let most = _mm256_set1_epi32(limit.min(1022) as i32);
                let n = _mm256_min_epi32(_mm256_and_si256(counter, _mm256_set1_epi32(1023)), most);
                // The quotient is exact enough that it never rounds up to the next integer: faster than looking it up.
                let odd = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(n, n), _mm256_set1_epi32(3)));
                let rate = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_set1_ps(32_768.0), odd));
                let p = _mm256_srli_epi32::<10>(counter);
                let target = _mm256_set1_epi32(if bit != 0 { (1 << 22) - 1 } else { 0 });
                let error = _mm256_srai_epi32::<6>(_mm256_sub_epi32(target, p));
                let p = _mm256_add_epi32(p, _mm256_srai_epi32::<8>(_mm256_mullo_epi32(error, rate)));
                // Where n < limit the comparison is −1.
                let n = _mm256_sub_epi32(n, _mm256_cmpgt_epi32(most, n));
                let result = _mm256_or_si256(_mm256_slli_epi32::<10>(p), n);
                _mm256_storeu_si256(learnt.as_mut_ptr().add(8 * half).cast(), result);
                let bytes = _mm_loadl_epi64(states.as_ptr().add(8 * half).cast());
                let next = _mm256_i32gather_epi32::<2>(successors, _mm256_cvtepu8_epi32(bytes));
                let next = _mm256_srl_epi32(next, _mm_cvtsi32_si128(if bit != 0 { 8 } else { 0 }));
                _mm256_storeu_si256(moved.as_mut_ptr().add(8 * half).cast(), next);
            }
            for lane in 0..LANES {
                let place = lane * 256 + usize::from(states[lane]);
                bank.counters.as_mut_ptr().cast::<u32>().add(place).write(learnt[lane]);
                states[lane] = moved[lane] as u8;
            }
        }
    }

    #[inline(always)]
    fn choose(rows: &[[u8; 16]; 4], first: u8) -> (usize, bool) {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { choose(rows, first) }
    }

    #[inline(always)]
    fn transpose(rows: &[[u8; 16]; 16]) -> [[u8; 16]; 16] {
        // SAFETY: SSE2 is part of x86-64; rows and result are 16 times 16 bytes.
        unsafe { transpose(rows) }
    }

    #[inline(always)]
    fn dot_four(weights: &[i32; 4], inputs: &[i32; 4]) -> i32 {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { dot_four(weights, inputs) }
    }

    #[inline(always)]
    fn train_four(weights: &mut [i32; 4], inputs: &[i32; 4], error: i32) {
        // SAFETY: as above.
        unsafe { train_four(weights, inputs, error) }
    }

    #[inline(always)]
    fn learn_four(counters: [u32; 4], bit: u32, rates: &PairRates) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { learn_four(counters, bit, rates) }
    }
}

impl Simd for Avx512 {
    #[inline(always)]
    fn dot<const X: usize>(weights: &[i32; X], inputs: &[i32; X]) -> i32 {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: Avx512 exists inside `with_avx512` only; loads stay inside the arrays, whose length is a multiple of 16.
        unsafe {
            let mut sum = _mm512_setzero_si512();
            for at in (0..X).step_by(16) {
                let w = _mm512_loadu_si512(weights.as_ptr().add(at).cast::<__m512i>());
                let x = _mm512_loadu_si512(inputs.as_ptr().add(at).cast());
                sum = _mm512_add_epi32(sum, _mm512_srai_epi32::<4>(_mm512_mullo_epi32(w, x)));
            }
            _mm512_reduce_add_epi32(sum)
        }
    }

    #[inline(always)]
    fn train<const X: usize>(weights: &mut [i32; X], inputs: &[i32; X], error: i32) {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: as in `dot`; stores go where loads came from.
        unsafe {
            let error = _mm512_set1_epi32(error);
            let half = _mm512_set1_epi32(1 << 15);
            for at in (0..X).step_by(16) {
                let place = weights.as_mut_ptr().add(at).cast::<__m512i>();
                let x = _mm512_loadu_si512(inputs.as_ptr().add(at).cast());
                let step = _mm512_srai_epi32::<16>(_mm512_add_epi32(_mm512_mullo_epi32(x, error), half));
                _mm512_storeu_si512(place, _mm512_add_epi32(_mm512_loadu_si512(place), step));
            }
        }
    }

    #[inline(always)]
    fn narrow_dot<const X: usize>(weights: &[i16; X], inputs: &[i16; X]) -> i32 {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: Avx512 exists inside `with_avx512` only; loads stay inside the arrays, whose length is a multiple of 16.
        unsafe {
            let mut sum = _mm512_setzero_si512();
            for at in (0..X / 32 * 32).step_by(32) {
                let w = _mm512_loadu_si512(weights.as_ptr().add(at).cast());
                let x = _mm512_loadu_si512(inputs.as_ptr().add(at).cast());
                sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w, x));
            }
            let mut half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
            if !X.is_multiple_of(32) {
                half = _mm256_add_epi32(half, products(weights.as_ptr().add(X - 16), inputs.as_ptr().add(X - 16)));
            }
            sum_of(half)
        }
    }

    #[inline(always)]
    fn narrow_train<const X: usize>(weights: &mut [i16; X], inputs: &[i16; X], error: i16, dither: u16) {
        const { assert!(X.is_multiple_of(16)) };
        // SAFETY: as in `narrow_dot`; stores go where loads came from.
        unsafe {
            let factor = _mm512_set1_epi16(error);
            let ramp = _mm256_loadu_si256(RAMP.as_ptr().cast());
            let half = _mm256_add_epi16(_mm256_set1_epi16(dither as i16), ramp);
            let whole = _mm512_broadcast_i64x4(half);
            for at in (0..X / 32 * 32).step_by(32) {
                let place = weights.as_mut_ptr().add(at).cast::<__m512i>();
                let x = _mm512_loadu_si512(inputs.as_ptr().add(at).cast());
                let low = _mm512_add_epi16(_mm512_mullo_epi16(x, factor), whole);
                let high = _mm512_mulhi_epi16(x, factor);
                let carried = _mm512_cmplt_epu16_mask(low, whole);
                let step = _mm512_mask_add_epi16(high, carried, high, _mm512_set1_epi16(1));
                _mm512_storeu_si512(place, _mm512_adds_epi16(_mm512_loadu_si512(place), step));
            }
            if !X.is_multiple_of(32) {
                let error = _mm256_set1_epi16(error);
                train16(weights.as_mut_ptr().add(X - 16), inputs.as_ptr().add(X - 16), error, half);
            }
        }
    }

    #[inline(always)]
    fn predict(bank: &Bank, states: &[u8; LANES], held: &mut Held, inputs: &mut [i16; 2 * LANES], tables: Tables) {
        // Two gathers of eight take less time than one of sixteen on Zen 4.
        Avx2::predict(bank, states, held, inputs, tables);
    }

    #[inline(always)]
    fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], tables: Tables) {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { split(states, inputs, &tables.histories.alone) }
    }

    #[inline(always)]
    fn learn(bank: &mut Bank, states: &mut [u8; LANES], held: &Held, bit: u32, limit: u32, tables: Tables) {
        // A scatter takes more time than sixteen stores.
        Avx2::learn(bank, states, held, bit, limit, tables);
    }

    #[inline(always)]
    fn choose(rows: &[[u8; 16]; 4], first: u8) -> (usize, bool) {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { choose(rows, first) }
    }

    #[inline(always)]
    fn transpose(rows: &[[u8; 16]; 16]) -> [[u8; 16]; 16] {
        // SAFETY: SSE2 is part of x86-64; rows and result are 16 times 16 bytes.
        unsafe { transpose(rows) }
    }

    #[inline(always)]
    fn dot_four(weights: &[i32; 4], inputs: &[i32; 4]) -> i32 {
        // SAFETY: this exists on machines with AVX2 only.
        unsafe { dot_four(weights, inputs) }
    }

    #[inline(always)]
    fn train_four(weights: &mut [i32; 4], inputs: &[i32; 4], error: i32) {
        // SAFETY: as above.
        unsafe { train_four(weights, inputs, error) }
    }

    #[inline(always)]
    fn learn_four(counters: [u32; 4], bit: u32, rates: &PairRates) -> [u32; 4] {
        // SAFETY: as above.
        unsafe { learn_four(counters, bit, rates) }
    }
}

/// [`Simd::split`] with a bit for each state that is alone.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn split(states: &[u8; LANES], inputs: &mut [i16; 2 * LANES], alone: &[u8; 32]) {
    // SAFETY: the caller says so; 16 states, 32 bytes of bits and 32 inputs are there.
    unsafe {
        let states = _mm_loadu_si128(states.as_ptr().cast());
        let place = _mm_and_si128(_mm_srli_epi16::<3>(states), _mm_set1_epi8(31));
        let [low, high] = [0, 16].map(|at| _mm_shuffle_epi8(_mm_loadu_si128(alone.as_ptr().add(at).cast()), place));
        // The highest bit of each byte chooses: 16 of the place.
        let byte = _mm_blendv_epi8(low, high, _mm_slli_epi16::<3>(place));
        let powers = _mm_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let bit = _mm_shuffle_epi8(powers, _mm_and_si128(states, _mm_set1_epi8(7)));
        let alone = _mm256_cvtepi8_epi16(_mm_cmpeq_epi8(_mm_and_si128(byte, bit), bit));
        let new = _mm256_cvtepi8_epi16(_mm_cmpeq_epi8(states, _mm_setzero_si128()));
        let place = inputs.as_mut_ptr().cast::<__m256i>();
        let stretched = _mm256_loadu_si256(place);
        let first = _mm256_blendv_epi8(stretched, _mm256_srai_epi16::<1>(stretched), alone);
        _mm256_storeu_si256(place, _mm256_andnot_si256(new, first));
        _mm256_storeu_si256(place.add(1), _mm256_and_si256(stretched, alone));
    }
}

/// Products of sixteen weights and inputs, added in pairs.
///
/// # Safety
/// The machine must have AVX2; sixteen elements are at both places.
#[inline(always)]
unsafe fn products(weights: *const i16, inputs: *const i16) -> __m256i {
    // SAFETY: the caller says so.
    unsafe { _mm256_madd_epi16(_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(inputs.cast())) }
}

/// The sum of eight numbers.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn sum_of(sum: __m256i) -> i32 {
    // SAFETY: the caller says so.
    unsafe {
        let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let pair = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
        _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)))
    }
}

/// Trains sixteen narrow weights. The products' lower halves and the dither carry into the upper ones.
///
/// # Safety
/// The machine must have AVX2; sixteen elements are at both places.
#[inline(always)]
unsafe fn train16(weights: *mut i16, inputs: *const i16, error: __m256i, dither: __m256i) {
    // SAFETY: the caller says so.
    unsafe {
        let x = _mm256_loadu_si256(inputs.cast());
        let low = _mm256_add_epi16(_mm256_mullo_epi16(x, error), dither);
        // −1 where nothing is carried.
        let plain = _mm256_cmpeq_epi16(_mm256_max_epu16(low, dither), low);
        let step = _mm256_add_epi16(_mm256_mulhi_epi16(x, error), _mm256_add_epi16(plain, _mm256_set1_epi16(1)));
        let place = weights.cast::<__m256i>();
        _mm256_storeu_si256(place, _mm256_adds_epi16(_mm256_loadu_si256(place), step));
    }
}

/// Places of eight counters: `lane · 256 + state`.
///
/// # Safety
/// The machine must have AVX2; `half` is 0 or 1.
#[inline(always)]
unsafe fn lanes8(states: &[u8; LANES], half: usize) -> __m256i {
    // SAFETY: eight bytes from 0 or 8 are inside the sixteen.
    unsafe {
        let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(states.as_ptr().add(8 * half).cast()));
        let ramp = _mm256_setr_epi32(0, 256, 512, 768, 1024, 1280, 1536, 1792);
        _mm256_add_epi32(bytes, _mm256_add_epi32(ramp, _mm256_set1_epi32(2048 * half as i32)))
    }
}

/// Four rounds of interleaving rows `i` and `i + 8`.
///
/// # Safety
/// SSE2, which x86-64 has.
#[inline(always)]
unsafe fn transpose(rows: &[[u8; 16]; 16]) -> [[u8; 16]; 16] {
    // SAFETY: every row is 16 bytes.
    unsafe {
        let mut r: [__m128i; 16] = std::array::from_fn(|i| _mm_loadu_si128(rows[i].as_ptr().cast()));
        for _ in 0..4 {
            let old = r;
            for i in 0..8 {
                r[2 * i] = _mm_unpacklo_epi8(old[i], old[i + 8]);
                r[2 * i + 1] = _mm_unpackhi_epi8(old[i], old[i + 8]);
            }
        }
        let mut out = [[0; 16]; 16];
        for (row, column) in out.iter_mut().zip(r) {
            _mm_storeu_si128(row.as_mut_ptr().cast(), column);
        }
        out
    }
}

/// The least of four keys, one more than the second byte, 0 where the first one fits.
///
/// # Safety
/// The machine must have SSE4.1.
#[inline(always)]
unsafe fn choose(rows: &[[u8; 16]; 4], first: u8) -> (usize, bool) {
    // SAFETY: the instructions are there, as the caller says.
    unsafe {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| i32::from(u16::from_le_bytes([rows[at][0], rows[at][1]])));
        let mut begins = _mm_cvtsi32_si128(a);
        begins = _mm_insert_epi16::<1>(begins, b);
        begins = _mm_insert_epi16::<2>(begins, c);
        begins = _mm_insert_epi16::<3>(begins, d);
        let checks = _mm_and_si128(begins, _mm_set1_epi16(255));
        let fits = _mm_cmpeq_epi16(checks, _mm_set1_epi16(first.into()));
        let keys = _mm_sub_epi16(_mm_srli_epi16::<8>(begins), _mm_set1_epi16(-1));
        // The upper four are out.
        let keys = _mm_or_si128(_mm_andnot_si128(fits, keys), _mm_set_epi64x(-1, 0));
        let least = _mm_cvtsi128_si32(_mm_minpos_epu16(keys)) as u32;
        ((least >> 16 & 3) as usize, least & 0xFFFF == 0)
    }
}

/// # Safety
/// The machine must have SSE4.1.
#[inline(always)]
unsafe fn dot_four(weights: &[i32; 4], inputs: &[i32; 4]) -> i32 {
    // SAFETY: loads of four numbers from arrays of four; the instructions are there, as the caller says.
    unsafe {
        let (w, x) = (_mm_loadu_si128(weights.as_ptr().cast()), _mm_loadu_si128(inputs.as_ptr().cast()));
        let products = _mm_srai_epi32::<8>(_mm_mullo_epi32(w, x));
        let pair = _mm_add_epi32(products, _mm_shuffle_epi32::<0b01_00_11_10>(products));
        _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)))
    }
}

/// # Safety
/// As [`dot_four`].
#[inline(always)]
unsafe fn train_four(weights: &mut [i32; 4], inputs: &[i32; 4], error: i32) {
    // SAFETY: as in `dot_four`; the store goes where a load came from.
    unsafe {
        let place = weights.as_mut_ptr().cast::<__m128i>();
        let x = _mm_loadu_si128(inputs.as_ptr().cast());
        let scaled = _mm_add_epi32(_mm_mullo_epi32(x, _mm_set1_epi32(error)), _mm_set1_epi32(1 << 15));
        _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), _mm_srai_epi32::<16>(scaled)));
    }
}

/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn learn_four(counters: [u32; 4], bit: u32, rates: &PairRates) -> [u32; 4] {
    // SAFETY: as in `dot_four`.
    unsafe {
        let [held, upper, lower] =
            [&counters, &rates.upper, &rates.lower].map(|numbers| _mm_loadu_si128(numbers.as_ptr().cast()));
        let new = _mm_cmpeq_epi32(held, _mm_set1_epi32(rates.fresh as i32));
        let first = _mm_set1_epi32(rates.first as i32);
        let [upper, lower] = [upper, lower].map(|rate| _mm_blendv_epi8(rate, first, new));
        let flip = _mm_set1_epi32(bit.wrapping_neg() as i32);
        let far = _mm_xor_si128(held, flip);
        let low = _mm_set1_epi32(0xFFFF);
        let less = _mm_or_si128(
            _mm_andnot_si128(low, _mm_srlv_epi32(far, upper)),
            _mm_srlv_epi32(_mm_and_si128(far, low), lower),
        );
        let mut learnt = [0; 4];
        _mm_storeu_si128(learnt.as_mut_ptr().cast(), _mm_xor_si128(_mm_sub_epi32(far, less), flip));
        learnt
    }
}
