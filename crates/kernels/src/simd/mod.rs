//! SIMD written once: 16 lanes of f32 or i32, whatever the machine calls them.
//!
//! A kernel is a struct with its arguments and one generic [`Kernel::run`]; [`dispatch`] compiles it for every
//! instruction set and calls the one of [`Isa::current`](crate::Isa::current). All that `run` calls
//! must be `#[inline(always)]` (closures included: prefer loops), so that it is compiled with that set's instructions.
//!
//! ```
//! use brevity_kernels::simd::{Kernel, Simd, dispatch};
//!
//! struct Double<'a>(&'a mut [f32; 16]);
//! impl Kernel for Double<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) {
//!         let v = s.load(self.0);
//!         s.store(self.0, s.add(v, v));
//!     }
//! }
//! let mut x = [1.5; 16];
//! dispatch(Double(&mut x));
//! assert_eq!(x, [3.0; 16]);
//! ```
//!
//! Every operation gives the same bits on every implementation, the bits of a NaN apart: those are made canonical by
//! [`Simd::canonical`] where a kernel writes its result. Denormals are never flushed.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;

use crate::isa::Isa;

/// Lanes of every vector.
pub const LANES: usize = 16;

/// The one NaN that kernels write.
pub const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// 16 lanes of an instruction set. A value proves that this machine has it, so its operations are safe.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The instruction set.
    const ISA: Isa;
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 16 truth values.
    type M: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, out: &mut [f32; LANES], x: Self::F);
    /// # Safety
    /// `x` must be valid for reading 16 values; no alignment is needed.
    unsafe fn load_ptr(self, x: *const f32) -> Self::F;
    /// # Safety
    /// `out` must be valid for writing 16 values; no alignment is needed.
    unsafe fn store_ptr(self, out: *mut f32, x: Self::F);
    /// 16 bf16, widened exactly.
    /// # Safety
    /// `x` must be valid for reading 16 values; no alignment is needed.
    unsafe fn load_bf16_ptr(self, x: *const u16) -> Self::F;
    /// 16 f16, widened exactly.
    /// # Safety
    /// `x` must be valid for reading 16 values; no alignment is needed.
    unsafe fn load_f16_ptr(self, x: *const u16) -> Self::F;
    /// Rounds to f16, half to even; the NaN is 0x7e00.
    fn to_f16(self, x: Self::F) -> [u16; LANES];

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a·b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c − a·b`, rounded once.
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: `b` where one is a NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: `b` where one is a NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer, half to even.
    fn round(self, a: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    fn neg(self, a: Self::F) -> Self::F;
    /// Lane `i` becomes lane `i xor H`, for `H` = 1, 2, 4 or 8.
    fn swap<const H: usize>(self, a: Self::F) -> Self::F;

    /// `a < b`; false where one is a NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    fn is_nan(self, a: Self::F) -> Self::M;
    /// `a` where `m`, else `b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;

    fn splat_i(self, x: i32) -> Self::I;
    fn load_i(self, x: &[i32; LANES]) -> Self::I;
    /// 16 bytes, each widened to an i32 from 0 to 255.
    fn load_u8(self, x: &[u8; LANES]) -> Self::I;
    fn store_i(self, out: &mut [i32; LANES], x: Self::I);
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// `c + low(a)·low(b) + high(a)·high(b)` over the signed 16-bit halves of each lane.
    fn dot_pairs(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shifts zeros in from the right.
    fn shl_i<const N: u32>(self, a: Self::I) -> Self::I;
    /// Shifts the sign in from the left.
    fn shr_i<const N: u32>(self, a: Self::I) -> Self::I;
    /// The integers as floats, rounded to nearest, half to even.
    fn to_float(self, a: Self::I) -> Self::F;
    /// Rounds to the nearest integer, half to even. What becomes of a NaN or of values outside i32 depends on the machine.
    fn to_int(self, a: Self::F) -> Self::I;
    /// The bits of the floats.
    fn bits(self, a: Self::F) -> Self::I;
    /// The floats with these bits.
    fn of_bits(self, a: Self::I) -> Self::F;

    /// 0.0 in all lanes.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    /// Replaces every NaN by [`NAN`].
    #[inline(always)]
    fn canonical(self, a: Self::F) -> Self::F {
        self.select(self.is_nan(a), self.splat(NAN), a)
    }

    /// Up to 16 values; zeros follow them.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        if let Some(full) = x.first_chunk() {
            return self.load(full);
        }
        let mut lanes = [0.0; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// Writes the first `out.len()` lanes, 16 at most.
    #[inline(always)]
    fn store_part(self, out: &mut [f32], x: Self::F) {
        if let Some(full) = out.first_chunk_mut() {
            return self.store(full, x);
        }
        let n = out.len();
        out.copy_from_slice(&self.lanes(x)[..n]);
    }

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, x: Self::F) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, x);
        lanes
    }

    /// The sum of the lanes by the tree: i with i + 8, then + 4, + 2, + 1.
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        tree_sum(self.lanes(x))
    }

    /// The greatest lane by the tree of [`Simd::sum`] with [`Simd::max`].
    #[inline(always)]
    fn greatest(self, x: Self::F) -> f32 {
        let mut v = self.lanes(x);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                v[i] = if v[i] > v[i + width] { v[i] } else { v[i + width] };
            }
            width /= 2;
        }
        v[0]
    }
}

/// Asks for the cache line at `p`, which need not be there: in the second-level cache, as more lines may be on their way to it than to
/// the first.
#[inline(always)]
pub(crate) fn fetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Sums 16 lanes: i with i + 8, then + 4, + 2, + 1.
#[inline(always)]
pub fn tree_sum(mut v: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            v[i] += v[i + width];
        }
        width /= 2;
    }
    v[0]
}

/// A function over any instruction set, with its arguments.
pub trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`, and so must be all it calls.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Defines a function that runs on [`Isa::current`]: `kernel! { fn name<'a>(s, x: &'a mut [f32]) { … } }`, where `s` is the
/// [`Simd`] at hand. The body follows the rules of [`Kernel::run`]; all borrowed arguments live for `'a`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<'a>($s:ident $(, $arg:ident: $ty:ty)+ $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<'a>($($arg: $ty),+) $(-> $out)? {
            struct Run<'a> {
                $($arg: $ty,)+
                _life: std::marker::PhantomData<&'a ()>,
            }
            impl<'a> $crate::simd::Kernel for Run<'a> {
                type Output = $crate::simd::kernel!(@out $($out)?);
                #[inline(always)]
                fn run<S: $crate::simd::Simd>(self, $s: S) -> Self::Output {
                    let Run { $($arg,)+ .. } = self;
                    $body
                }
            }
            $crate::simd::dispatch(Run { $($arg,)+ _life: std::marker::PhantomData })
        }
    };
    (@out) => { () };
    (@out $out:ty) => { $out };
}
pub(crate) use kernel;

/// Runs a kernel on [`Isa::current`].
#[inline(always)]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_on(Isa::current(), kernel)
}

/// Runs a kernel on `isa`, or on [`Scalar`] where this machine does not have it.
#[inline(always)]
pub fn dispatch_on<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => match Avx512::new() {
            // SAFETY: the value proves that the machine has the features.
            Some(s) => unsafe { avx512::run(s, kernel) },
            None => kernel.run(Scalar),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => match Avx2::new() {
            // SAFETY: the value proves that the machine has the features.
            Some(s) => unsafe { avx2::run(s, kernel) },
            None => kernel.run(Scalar),
        },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernel.run(Neon::new()),
        _ => kernel.run(Scalar),
    }
}

#[cfg(test)]
mod tests;
