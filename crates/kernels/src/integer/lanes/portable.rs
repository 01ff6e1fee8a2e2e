//! Plain arrays, for machines without kernels of their own.

use super::Lanes;
use half::f16;

#[derive(Clone, Copy)]
pub(in crate::integer) struct Portable;

#[inline]
fn map<A: Copy, B, const N: usize>(a: [A; N], f: impl Fn(A) -> B) -> [B; N] {
    a.map(f)
}

#[inline]
fn lanes<T>(f: impl Fn(usize) -> T) -> [T; 16] {
    std::array::from_fn(f)
}

impl Lanes for Portable {
    type F = [f32; 16];
    type I = [i32; 16];
    type C = [u8; 64];

    const BYTE_OFFSET: bool = false;
    const WIDE: bool = false;
    const STEP_BITS: u32 = 0;
    const NARROW_BITS: u32 = 0;
    const PAIRS: bool = false;
    const ROW_BY_ROW: bool = true;

    #[inline]
    unsafe fn codes(p: *const u8) -> [u8; 64] {
        unsafe { p.cast::<[u8; 64]>().read() }
    }
    #[inline]
    unsafe fn put_codes(p: *mut u8, c: [u8; 64]) {
        unsafe { p.cast::<[u8; 64]>().write(c) }
    }
    #[inline]
    unsafe fn bits(c: [u8; 64], from: u32, to: u32, count: u32) -> [u8; 64] {
        map(c, |c| (c >> from & ((1u16 << count) - 1) as u8) << to)
    }
    #[inline]
    unsafe fn or(a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline]
    unsafe fn look_up(c: [u8; 64], table: &[u8; 16]) -> [u8; 64] {
        map(c, |c| table[usize::from(c & 15)])
    }
    #[inline]
    unsafe fn words(c: [u8; 64], byte: u32, words: *const u32) -> [u8; 64] {
        let word = |n: usize| unsafe { words.add(usize::from(c[4 * n + byte as usize])).read().to_le_bytes() };
        let words: [[u8; 4]; 16] = std::array::from_fn(word);
        std::array::from_fn(|i| words[i / 4][i % 4])
    }
    #[inline]
    unsafe fn byte_codes(c: [u8; 64]) -> [u8; 64] {
        map(c, |c| c ^ 0x80)
    }
    #[inline]
    unsafe fn widen<const J: usize, const SIGNED: bool>(c: [u8; 64]) -> [i32; 16] {
        lanes(|n| if SIGNED { i32::from(c[4 * n + J] as i8) } else { i32::from(c[4 * n + J]) })
    }

    #[inline]
    unsafe fn four(x: *const i8) -> Self::C {
        std::array::from_fn(|i| unsafe { *x.add(i % 4) } as u8)
    }
    #[inline]
    unsafe fn step<const BITS: u32>(acc: Self::I, _w: Self::C, _x: Self::C) -> Self::I {
        acc
    }
    #[inline(never)]
    unsafe fn dot4<const BITS: u32>(acc: [i32; 16], w: [[u8; 64]; 4], x: *const i8) -> [i32; 16] {
        let x = unsafe { x.cast::<[i8; 16]>().read() };
        let mut acc = acc;
        for (g, w) in w.iter().enumerate() {
            for (n, a) in acc.iter_mut().enumerate() {
                for i in 0..4 {
                    let code = if BITS == 8 { i32::from(w[4 * n + i] as i8) } else { i32::from(w[4 * n + i]) };
                    *a += code * i32::from(x[4 * g + i]);
                }
            }
        }
        acc
    }
    #[inline]
    unsafe fn splat_int(v: i32) -> [i32; 16] {
        [v; 16]
    }
    #[inline]
    unsafe fn add_int(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        lanes(|i| a[i] + b[i])
    }
    #[inline]
    unsafe fn to_f32(v: [i32; 16]) -> [f32; 16] {
        map(v, |v| v as f32)
    }

    #[inline]
    unsafe fn splat(v: f32) -> [f32; 16] {
        [v; 16]
    }
    #[inline]
    unsafe fn load(p: *const f32) -> [f32; 16] {
        unsafe { p.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline]
    unsafe fn store(p: *mut f32, v: [f32; 16]) {
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v) }
    }
    #[inline]
    unsafe fn from_half(p: *const u16) -> [f32; 16] {
        map(unsafe { p.cast::<[u16; 16]>().read_unaligned() }, |h| f16::from_bits(h).to_f32())
    }
    #[inline]
    unsafe fn from_u8(p: *const u8) -> [f32; 16] {
        map(unsafe { p.cast::<[u8; 16]>().read_unaligned() }, f32::from)
    }
    #[inline]
    unsafe fn from_i8(p: *const i8) -> [f32; 16] {
        map(unsafe { p.cast::<[i8; 16]>().read_unaligned() }, f32::from)
    }
    #[inline]
    unsafe fn from_exponent(p: *const u8) -> [f32; 16] {
        let power = |e: u8| f32::from_bits((u32::from(e) + 63) << 23);
        map(unsafe { p.cast::<[u8; 16]>().read_unaligned() }, |e| power(e / 2) * power(e - e / 2))
    }
    #[inline]
    unsafe fn from_nibble(p: *const u8, shift: u32) -> [f32; 16] {
        map(unsafe { p.cast::<[u8; 16]>().read_unaligned() }, |b| f32::from(b >> shift & 15))
    }
    #[inline]
    unsafe fn sub(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        lanes(|i| a[i] - b[i])
    }
    #[inline]
    unsafe fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        lanes(|i| a[i] * b[i])
    }
    #[inline]
    unsafe fn fma(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline]
    unsafe fn fnma(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        lanes(|i| (-a[i]).mul_add(b[i], c[i]))
    }
    #[inline]
    unsafe fn canonical(v: [f32; 16]) -> [f32; 16] {
        map(v, |v| if v.is_nan() { f32::NAN } else { v })
    }
}
