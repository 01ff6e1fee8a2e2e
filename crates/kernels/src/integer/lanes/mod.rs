//! The vector operations that the integer kernels are written in, once for every instruction set.
//!
//! A vector is sixteen outputs wide. Codes come 64 at a time: four consecutive k of sixteen outputs,
//! output-major, as the dot product instructions of x86 want them.

use super::codes::{Book, sign_bit};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;
pub(super) use portable::Portable;

/// Vectors of one instruction set. All operations are exact or one IEEE rounding, so that all
/// instruction sets agree on every bit.
///
/// # Safety
/// Every function must run where the instruction set is available, inlined into a function compiled for it;
/// pointers must be good for what is read or written through them.
pub(super) trait Lanes: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four codes.
    type C: Copy;

    /// Whether eight-bit codes are held unsigned, 128 too high (else signed).
    const BYTE_OFFSET: bool;
    /// Thirty-two registers of sixteen lanes: tiles are six rows by two panels, else three by one.
    const WIDE: bool;
    /// Codes of at most so many bits are multiplied by [`Lanes::step`], all rows of a tile in turn; others row by row by
    /// [`Lanes::dot8`].
    const STEP_BITS: u32;
    /// For codes of at most so many bits [`Lanes::step`] collects something narrower than integers, which [`Lanes::finish`]
    /// makes of it.
    const NARROW_BITS: u32;
    /// Whether [`Lanes::step_pair`] is better than two steps for codes of five or six bits.
    const PAIRS: bool;
    /// Whether [`Lanes::codeword`] shares its work among the groups of a block.
    const WHOLE_BLOCKS: bool = false;
    /// One row of activations at a time is all that is worth compiling.
    const ROW_BY_ROW: bool;

    unsafe fn codes(p: *const u8) -> Self::C;
    unsafe fn put_codes(p: *mut u8, c: Self::C);
    /// Bits `from..from + count` of every byte, moved to `to`; the others are zero. Constants after inlining.
    unsafe fn bits(c: Self::C, from: u32, to: u32, count: u32) -> Self::C;
    unsafe fn or(a: Self::C, b: Self::C) -> Self::C;
    /// `table[c]`, byte by byte; the codes are below sixteen.
    unsafe fn look_up(c: Self::C, table: &[u8; 16]) -> Self::C;
    /// Of every output the word `c[output][byte]`.
    unsafe fn words(c: Self::C, byte: u32, words: *const u32) -> Self::C;
    /// The codes of group `G` of a block with such indices and signs; see [`Book`].
    #[inline(always)]
    unsafe fn codeword<const G: usize>(indices: Self::C, signs: Self::C, book: &Book) -> Self::C {
        // SAFETY: as the caller promised; a byte is the index of a word, and the table has sixteen entries and more.
        unsafe {
            let words = Self::words(indices, G as u32 / 2, book.words.as_ptr());
            let level = Self::bits(words, G as u32 % 2 * 4, 0, 2);
            let code = Self::or(level, Self::bits(signs, sign_bit(G), 2, 1));
            Self::look_up(code, &*book.codes.as_ptr().cast())
        }
    }
    /// Eight-bit codes stored 128 too high, as [`Lanes::dot4`] with `BITS = 8` wants them.
    unsafe fn byte_codes(c: Self::C) -> Self::C;
    /// Byte `J` (0..4) of every output as an integer; `SIGNED` or not.
    unsafe fn widen<const J: usize, const SIGNED: bool>(c: Self::C) -> Self::I;

    /// Four activations from `x` on, for every output.
    unsafe fn four(x: *const i8) -> Self::C;
    /// `acc + w·x`: four k.
    unsafe fn step<const BITS: u32>(acc: Self::I, w: Self::C, x: Self::C) -> Self::I;
    /// `acc + w[0]·x[0] + w[1]·x[1]`: eight k of codes of five or six bits.
    #[inline(always)]
    unsafe fn step_pair(acc: Self::I, w: [Self::C; 2], x: [Self::C; 2]) -> Self::I {
        // SAFETY: as the caller promised.
        unsafe { Self::step::<6>(Self::step::<6>(acc, w[0], x[0]), w[1], x[1]) }
    }
    /// `acc` as integers, plus `start`.
    #[inline(always)]
    unsafe fn finish(acc: Self::I, _start: Self::I) -> Self::I {
        acc
    }
    /// `acc + Σ_g w[g]·x[g]`: sixteen k. `x` points to sixteen signed bytes in −127..=127, the codes are below
    /// `2^BITS` (`BITS` 4 to 7), or any byte (`BITS` 8).
    unsafe fn dot4<const BITS: u32>(acc: Self::I, w: [Self::C; 4], x: *const i8) -> Self::I;
    /// The same for thirty-two k.
    #[inline(always)]
    unsafe fn dot8<const BITS: u32>(acc: Self::I, w: [Self::C; 8], x: *const i8) -> Self::I {
        let [a, b, c, d, e, f, g, h] = w;
        // SAFETY: as the caller promised.
        unsafe { Self::dot4::<BITS>(Self::dot4::<BITS>(acc, [a, b, c, d], x), [e, f, g, h], x.add(16)) }
    }
    unsafe fn splat_int(v: i32) -> Self::I;
    unsafe fn add_int(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_f32(v: Self::I) -> Self::F;

    unsafe fn splat(v: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    unsafe fn from_half(p: *const u16) -> Self::F;
    unsafe fn from_u8(p: *const u8) -> Self::F;
    unsafe fn from_i8(p: *const i8) -> Self::F;
    /// `2^(e − 128)` of sixteen bytes e, the smallest two denormal: a product of two powers near its root.
    unsafe fn from_exponent(p: *const u8) -> Self::F;
    /// Bits `shift..shift + 4` of sixteen bytes.
    unsafe fn from_nibble(p: *const u8, shift: u32) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a·b + c`, one rounding.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c − a·b`, one rounding.
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Every NaN becomes the canonical one.
    unsafe fn canonical(v: Self::F) -> Self::F;
    /// Asks for the line of `p`, which need not exist.
    #[inline(always)]
    unsafe fn fetch(_p: *const u8) {}
    /// Loads below stay below: an optimiser that moves them up spills accumulators.
    #[inline(always)]
    unsafe fn here() {}
}
