//! Exact f32 and integer kernels: **the same bits on every machine, in any batch, at any thread count.**
//!
//! # The promise
//! Every floating-point reduction has one written order, reproduced bit for bit by the scalar, AVX2, AVX-512 and NEON
//! kernels. A row of output depends on its own row of input alone: one token or 512, any chunks, any batch. Threads
//! split outputs, never reductions. exp, ln, tanh, sine and cosine are our own; no platform's libm is called. So a model's
//! outputs, a cache rebuilt in other chunks, and an archive coded by a model are the same everywhere.
//!
//! # The arithmetic
//! All of it is IEEE 754 binary32, rounded half to even, denormals kept. `fma(a, b, c)` rounds `a·b + c` once.
//!
//! - **Dense weights** (f32, f16, bf16; widened exactly): `y[m][n] = Σₖ` is one chain per output, k ascending from +0,
//!   each step `acc = fma(x[k], w[k], acc)`. Outputs lie across the lanes; see [`dense`].
//! - **Integer weights**: exact integer sums inside a block, one f32 chain over blocks; see [`integer`].
//! - **Sums over a row** (norms, softmax): 16 lanes by index mod 16, each a chain in ascending order; then the
//!   tree: lane i with i + 8, then + 4, + 2, + 1. See [`norm`], [`softmax`].
//! - **Attention**: scores chain over the head's values, the sum of weights runs in 16 lanes by absolute position mod 16,
//!   values are added in one chain over positions; see [`attention`].
//! - **Functions**: polynomials with a written order of operations; see [`math`].
//! - **NaN**: each kernel writes the one NaN 0x7fc00000. Where infinities and NaNs lead is said by each module.
//!
//! [`mod@reference`] is all of it once more as plain loops, without SIMD: the specification that the tests compare with.
//!
//! # How it is built
//! SIMD is written once over [`simd::Simd`], 16 lanes wide on every machine, and compiled for each instruction set;
//! [`Isa`] chooses at run time (`BREVITY_ISA` lowers it). [`pool`] runs the threads (`BREVITY_THREADS`). Shapes that do not fit
//! are programming errors and panic, as slices do; no input value does.

pub mod attention;
pub mod buffer;
pub mod convert;
pub mod dense;
pub mod elementwise;
pub mod hadamard;
pub mod integer;
pub mod isa;
pub mod math;
pub mod matrix;
pub mod norm;
mod pages;
pub mod pool;
pub mod reference;
pub mod rope;
pub mod simd;
mod slab;
pub mod softmax;

pub use isa::Isa;
pub use matrix::{Matrix, MatrixMut, MatrixView};
