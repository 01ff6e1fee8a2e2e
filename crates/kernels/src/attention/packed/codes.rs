//! How values lie in memory: in units of 8 vectors of 16 lanes.
//!
//! A part is panels of 16 outputs, each `[k][16]`; a unit is 8 consecutive k of one panel. Codes are read as pairs of k, (0, 1), (2, 3),
//! …, in the halves of 32-bit lanes; with b bits a code a unit takes 16·b bytes, laid out so that few shifts and masks give the pairs:
//!
//! - 8 bits: four k to a 32-bit lane, k = 0, 2, 1, 3 from the lowest byte on; then the other four;
//! - 4 bits: all eight to a 32-bit lane, even k from bit 0 on, odd k from bit 16 on;
//! - 2 bits: 16 bytes with the even k of each lane, 16 with the odd ones;
//! - 3 bits: the two low bits like that, then 16 bytes with the high bits, those of even k in the low half.

use crate::convert::{f16_to_f32, f32_to_f16};
use crate::simd::{LANES, Simd};

/// Steps of k in a unit.
pub(super) const DEEP: usize = 8;

/// How a unit is written and read number by number.
pub(super) trait Values {
    /// Bytes of a unit.
    const UNIT: usize;
    /// Writes the value at step `k`, lane `lane` of a unit; codes are whole numbers.
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32);
    /// Reads it back.
    fn get(unit: &[u8], k: usize, lane: usize) -> f32;
    /// Writes a whole unit of codes.
    #[inline(always)]
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        for (k, codes) in codes.iter().enumerate() {
            codes.iter().enumerate().for_each(|(lane, &code)| Self::put(unit, k, lane, f32::from(code)));
        }
    }
}

/// How a unit becomes 8 vectors of f32.
pub(super) trait Floats: Values {
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP];
}

/// Pairs of steps in a unit.
pub(super) const PAIRS: usize = DEEP / 2;

/// How a unit becomes 4 vectors of pairs of codes.
pub(super) trait Codes {
    /// Bytes of a unit.
    const BYTES: usize;
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS];
}

pub(super) struct Float32;
pub(super) struct Float16;
pub(super) struct Code<const BITS: usize>;

impl Values for Float32 {
    const UNIT: usize = 4 * DEEP * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[4 * (k * LANES + lane)..][..4].copy_from_slice(&value.to_ne_bytes());
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let at = 4 * (k * LANES + lane);
        f32::from_ne_bytes([unit[at], unit[at + 1], unit[at + 2], unit[at + 3]])
    }
}

impl Floats for Float32 {
    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let mut out = [s.zero(); DEEP];
        for (i, v) in out.iter_mut().enumerate() {
            // SAFETY: the slice holds 64 bytes from here on.
            *v = unsafe { s.load_ptr(unit.as_ptr().add(4 * LANES * i).cast()) };
        }
        out
    }
}

impl Values for Float16 {
    const UNIT: usize = 2 * DEEP * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[2 * (k * LANES + lane)..][..2].copy_from_slice(&f32_to_f16(value).to_ne_bytes());
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let at = 2 * (k * LANES + lane);
        f16_to_f32(u16::from_ne_bytes([unit[at], unit[at + 1]]))
    }
}

impl Floats for Float16 {
    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let mut out = [s.zero(); DEEP];
        for (i, v) in out.iter_mut().enumerate() {
            // SAFETY: the slice holds 32 bytes from here on.
            *v = unsafe { s.load_f16_ptr(unit.as_ptr().add(2 * LANES * i).cast()) };
        }
        out
    }
}

/// 16 bytes, one to a lane.
#[inline(always)]
fn bytes<S: Simd>(s: S, unit: &[u8], index: usize) -> S::I {
    match unit[index * LANES..].first_chunk() {
        Some(chunk) => s.load_u8(chunk),
        None => s.splat_i(0),
    }
}

/// 64 bytes, four to a lane.
#[inline(always)]
fn words<S: Simd>(s: S, unit: &[u8], index: usize) -> S::I {
    let words = &unit[4 * LANES * index..][..4 * LANES];
    // SAFETY: 16 lanes of 4 bytes.
    unsafe { s.bits(s.load_ptr(words.as_ptr().cast())) }
}

impl Values for Code<8> {
    const UNIT: usize = 8 * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[k / 4 * 64 + 4 * lane + [0, 2, 1, 3][k % 4]] = value as u8;
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[k / 4 * 64 + 4 * lane + [0, 2, 1, 3][k % 4]])
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        for (out, [a, b, c, d]) in unit.as_chunks_mut::<{ 4 * LANES }>().0.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *out = [a[i], c[i], b[i], d[i]];
            }
        }
    }
}

impl Codes for Code<8> {
    const BYTES: usize = <Self as Values>::UNIT;

    #[inline(always)]
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
        let unit = &unit[..Self::BYTES];
        let (a, b, low) = (words(s, unit, 0), words(s, unit, 1), s.splat_i(0x00ff_00ff));
        [s.and_i(a, low), s.and_i(s.shr_i::<8>(a), low), s.and_i(b, low), s.and_i(s.shr_i::<8>(b), low)]
    }
}

impl Values for Code<4> {
    const UNIT: usize = 4 * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        set(&mut unit[4 * lane + k % 2 * 2 + k / 4], k / 2 % 2 * 4, 15, value as u8);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[4 * lane + k % 2 * 2 + k / 4] >> (k / 2 % 2 * 4) & 15)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        for (i, out) in unit.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let two = |k: usize| codes[k][i] | codes[k + 2][i] << 4;
            *out = [two(0), two(4), two(1), two(5)];
        }
    }
}

impl Codes for Code<4> {
    const BYTES: usize = <Self as Values>::UNIT;

    #[inline(always)]
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
        let (all, low) = (words(s, unit, 0), s.splat_i(0x000f_000f));
        [
            s.and_i(all, low),
            s.and_i(s.shr_i::<4>(all), low),
            s.and_i(s.shr_i::<8>(all), low),
            s.and_i(s.shr_i::<12>(all), low),
        ]
    }
}

/// The low two bits of four codes in a byte.
#[inline(always)]
fn fourths(out: &mut [u8; LANES], [a, b, c, d]: [&[u8; LANES]; 4]) {
    (0..LANES).for_each(|i| out[i] = a[i] & 3 | (b[i] & 3) << 2 | (c[i] & 3) << 4 | d[i] << 6);
}

/// Low bits of even steps, then of odd ones.
#[inline(always)]
fn halves(unit: &mut [u8], [a, b, c, d, e, f, g, h]: &[[u8; LANES]; DEEP]) {
    let [even, odd, ..] = unit.as_chunks_mut::<LANES>().0 else { return };
    fourths(even, [a, c, e, g]);
    fourths(odd, [b, d, f, h]);
}

/// Pairs of the low two bits.
#[inline(always)]
fn quarters<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
    let (all, low) = (s.or_i(bytes(s, unit, 0), s.shl_i::<16>(bytes(s, unit, 1))), s.splat_i(0x0003_0003));
    [
        s.and_i(all, low),
        s.and_i(s.shr_i::<2>(all), low),
        s.and_i(s.shr_i::<4>(all), low),
        s.and_i(s.shr_i::<6>(all), low),
    ]
}

impl Values for Code<2> {
    const UNIT: usize = 2 * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        set(&mut unit[k % 2 * LANES + lane], k / 2 * 2, 3, value as u8);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[k % 2 * LANES + lane] >> (k / 2 * 2) & 3)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        halves(unit, codes);
    }
}

impl Codes for Code<2> {
    const BYTES: usize = <Self as Values>::UNIT;

    #[inline(always)]
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
        quarters(s, &unit[..Self::BYTES])
    }
}

impl Values for Code<3> {
    const UNIT: usize = 3 * LANES;

    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        let code = value as u8;
        set(&mut unit[k % 2 * LANES + lane], k / 2 * 2, 3, code & 3);
        set(&mut unit[2 * LANES + lane], k % 2 * 4 + k / 2, 1, code >> 2);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let low = unit[k % 2 * LANES + lane] >> (k / 2 * 2) & 3;
        f32::from(low | (unit[2 * LANES + lane] >> (k % 2 * 4 + k / 2) & 1) << 2)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        halves(unit, codes);
        let [_, _, high, ..] = unit.as_chunks_mut::<LANES>().0 else { return };
        for i in 0..LANES {
            high[i] = (0..DEEP).fold(0, |all, k| all | codes[k][i] >> 2 << (k % 2 * 4 + k / 2));
        }
    }
}

impl Codes for Code<3> {
    const BYTES: usize = <Self as Values>::UNIT;

    #[inline(always)]
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
        let unit = &unit[..Self::BYTES];
        let (low, high, four) = (quarters(s, unit), bytes(s, unit, 2), s.splat_i(0x0004_0004));
        let high = s.or_i(high, s.shl_i::<12>(high));
        [
            s.or_i(low[0], s.and_i(s.shl_i::<2>(high), four)),
            s.or_i(low[1], s.and_i(s.shl_i::<1>(high), four)),
            s.or_i(low[2], s.and_i(high, four)),
            s.or_i(low[3], s.and_i(s.shr_i::<1>(high), four)),
        ]
    }
}

/// Pairs that were taken apart before.
pub(super) struct Pairs;

impl Codes for Pairs {
    const BYTES: usize = 4 * LANES * PAIRS;

    #[inline(always)]
    fn pairs<S: Simd>(s: S, unit: &[u8]) -> [S::I; PAIRS] {
        let unit = &unit[..Self::BYTES];
        [words(s, unit, 0), words(s, unit, 1), words(s, unit, 2), words(s, unit, 3)]
    }
}

fn set(byte: &mut u8, shift: usize, mask: u8, code: u8) {
    *byte = *byte & !(mask << shift) | (code & mask) << shift;
}

/// Calls `$f::<V, …>` for the values of a coding.
macro_rules! with_values {
    ($coding:expr, $V:ident => $body:expr) => {
        match $coding.layout() {
            $crate::attention::packed::part::Layout::F32 => {
                type $V = $crate::attention::packed::codes::Float32;
                $body
            }
            $crate::attention::packed::part::Layout::F16 => {
                type $V = $crate::attention::packed::codes::Float16;
                $body
            }
            $crate::attention::packed::part::Layout::Bits2 => {
                type $V = $crate::attention::packed::codes::Code<2>;
                $body
            }
            $crate::attention::packed::part::Layout::Bits3 => {
                type $V = $crate::attention::packed::codes::Code<3>;
                $body
            }
            $crate::attention::packed::part::Layout::Bits4 => {
                type $V = $crate::attention::packed::codes::Code<4>;
                $body
            }
            $crate::attention::packed::part::Layout::Bits8 => {
                type $V = $crate::attention::packed::codes::Code<8>;
                $body
            }
        }
    };
}
pub(super) use with_values;
