//! How values lie in memory: in units of 8 vectors of 16 lanes.
//!
//! A part is panels of 16 outputs, each `[k][16]`; a unit is 8 consecutive k of one panel. With b bits a code a unit takes
//! 16·b bytes: 8-bit codes lie as they are, 4-bit codes two k to a byte of the same lane, 2-bit codes four k to a byte,
//! and 3-bit codes as the two low bits like 2-bit codes, followed by 16 bytes with the high bits of all eight k.

use crate::convert::{f16_to_f32, f32_to_f16};
use crate::simd::{LANES, Simd};

/// Steps of k in a unit.
pub(super) const DEEP: usize = 8;

/// How a unit becomes 8 vectors of f32.
pub(super) trait Values {
    /// Bytes of a unit.
    const UNIT: usize;
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP];
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

pub(super) struct Float32;
pub(super) struct Float16;
pub(super) struct Code<const BITS: usize>;

impl Values for Float32 {
    const UNIT: usize = 4 * DEEP * LANES;

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
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[4 * (k * LANES + lane)..][..4].copy_from_slice(&value.to_ne_bytes());
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let at = 4 * (k * LANES + lane);
        f32::from_ne_bytes([unit[at], unit[at + 1], unit[at + 2], unit[at + 3]])
    }
}

impl Values for Float16 {
    const UNIT: usize = 2 * DEEP * LANES;

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
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[2 * (k * LANES + lane)..][..2].copy_from_slice(&f32_to_f16(value).to_ne_bytes());
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let at = 2 * (k * LANES + lane);
        f16_to_f32(u16::from_ne_bytes([unit[at], unit[at + 1]]))
    }
}

#[inline(always)]
fn bytes<S: Simd>(s: S, unit: &[u8], index: usize) -> S::I {
    match unit[index * LANES..].first_chunk() {
        Some(chunk) => s.load_u8(chunk),
        None => s.splat_i(0),
    }
}

impl Values for Code<8> {
    const UNIT: usize = 8 * LANES;

    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let mut out = [s.zero(); DEEP];
        for (i, v) in out.iter_mut().enumerate() {
            *v = s.to_float(bytes(s, unit, i));
        }
        out
    }
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        unit[k * LANES + lane] = value as u8;
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[k * LANES + lane])
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        unit[..Self::UNIT].copy_from_slice(codes.as_flattened());
    }
}

impl Values for Code<4> {
    const UNIT: usize = 4 * LANES;

    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let (mut out, low) = ([s.zero(); DEEP], s.splat_i(15));
        for (i, pair) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let both = bytes(s, unit, i);
            pair[0] = s.to_float(s.and_i(both, low));
            pair[1] = s.to_float(s.shr_i::<4>(both));
        }
        out
    }
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        set(&mut unit[k / 2 * LANES + lane], 4 * (k % 2), 15, value as u8);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[k / 2 * LANES + lane] >> (4 * (k % 2)) & 15)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        for (out, [a, b]) in unit.as_chunks_mut::<LANES>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            (0..LANES).for_each(|i| out[i] = a[i] | b[i] << 4);
        }
    }
}

/// The low two bits of four codes in a byte.
#[inline(always)]
fn fourths(out: &mut [u8; LANES], [a, b, c, d]: &[[u8; LANES]; 4]) {
    (0..LANES).for_each(|i| out[i] = a[i] & 3 | (b[i] & 3) << 2 | (c[i] & 3) << 4 | d[i] << 6);
}

/// The four 2-bit codes of each byte.
#[inline(always)]
fn quarters<S: Simd>(s: S, all: S::I) -> [S::I; 4] {
    let low = s.splat_i(3);
    [s.and_i(all, low), s.and_i(s.shr_i::<2>(all), low), s.and_i(s.shr_i::<4>(all), low), s.shr_i::<6>(all)]
}

impl Values for Code<2> {
    const UNIT: usize = 2 * LANES;

    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let (a, b) = (quarters(s, bytes(s, unit, 0)), quarters(s, bytes(s, unit, 1)));
        let mut out = [s.zero(); DEEP];
        for i in 0..4 {
            out[i] = s.to_float(a[i]);
            out[4 + i] = s.to_float(b[i]);
        }
        out
    }
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        set(&mut unit[k / 4 * LANES + lane], 2 * (k % 4), 3, value as u8);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        f32::from(unit[k / 4 * LANES + lane] >> (2 * (k % 4)) & 3)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        for (out, codes) in unit.as_chunks_mut::<LANES>().0.iter_mut().zip(codes.as_chunks::<4>().0) {
            fourths(out, codes);
        }
    }
}

impl Values for Code<3> {
    const UNIT: usize = 3 * LANES;

    #[inline(always)]
    fn unit<S: Simd>(s: S, unit: &[u8]) -> [S::F; DEEP] {
        let unit = &unit[..Self::UNIT];
        let (a, b) = (quarters(s, bytes(s, unit, 0)), quarters(s, bytes(s, unit, 1)));
        let (high, four) = (bytes(s, unit, 2), s.splat_i(4));
        let third = [
            s.shl_i::<2>(high),
            s.shl_i::<1>(high),
            high,
            s.shr_i::<1>(high),
            s.shr_i::<2>(high),
            s.shr_i::<3>(high),
            s.shr_i::<4>(high),
            s.shr_i::<5>(high),
        ];
        let mut out = [s.zero(); DEEP];
        for i in 0..4 {
            out[i] = s.to_float(s.or_i(a[i], s.and_i(third[i], four)));
            out[4 + i] = s.to_float(s.or_i(b[i], s.and_i(third[4 + i], four)));
        }
        out
    }
    fn put(unit: &mut [u8], k: usize, lane: usize, value: f32) {
        let code = value as u8;
        set(&mut unit[k / 4 * LANES + lane], 2 * (k % 4), 3, code & 3);
        set(&mut unit[2 * LANES + lane], k, 1, code >> 2);
    }
    fn get(unit: &[u8], k: usize, lane: usize) -> f32 {
        let low = unit[k / 4 * LANES + lane] >> (2 * (k % 4)) & 3;
        f32::from(low | (unit[2 * LANES + lane] >> k & 1) << 2)
    }
    fn pack(unit: &mut [u8], codes: &[[u8; LANES]; DEEP]) {
        let [a, b, high, ..] = unit.as_chunks_mut::<LANES>().0 else { return };
        let [low, behind] = codes.as_chunks::<4>().0 else { return };
        fourths(a, low);
        fourths(b, behind);
        for i in 0..LANES {
            high[i] = codes.iter().enumerate().fold(0, |all, (k, codes)| all | codes[i] >> 2 << k);
        }
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
