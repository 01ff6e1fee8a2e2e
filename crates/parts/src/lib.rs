//! A compressed matrix is a sum of parts.
//!
//! `W ≈ (P₁ + P₂ + …) · T`, where each `Pᵢ` is one of the kinds below and `T` an optional transform of the input.
//! Multiplying is `y = Σᵢ Pᵢ · T(x)`, in the order in which the parts are listed, so the sum has one rounding order.
//!
//! Each kind exists twice:
//!
//! | on disk ([`stored`]) | in memory ([`Part`]) | what it is |
//! |---|---|---|
//! | [`StoredPart::Dense`] | [`DensePart`] | f32, f16 or bf16 weights |
//! | [`StoredPart::Blocks`] | [`BlocksPart`] | GGML blocks: a grid whose scales come with the codes |
//! | [`StoredPart::Grid`] | [`GridPart`] | integer codes of 2–8 bits, one scale and zero point per group |
//! | [`StoredPart::Bilevel`] | [`BilevelPart`] | integer codes in groups whose scales are codes themselves |
//! | [`StoredPart::Columns`] | [`ColumnsPart`] | a few whole columns in 16 bits |
//! | [`StoredPart::LowRank`] | [`LowRankPart`] | `U·V`, rank r |
//! | [`StoredPart::Sparse`] | [`SparsePart`] | a few weights at their own places (CSR) |
//! | [`StoredPart::SignScale`] | [`SignScalePart`] | `S ⊙ (U·V)` with `S ∈ ±1` |
//!
//! The stored form is exactly the bytes that a file holds and [`StoredMatrix::bits`] counts every one of them; the
//! form in memory is what the kernels read, and it holds each weight once. [`CompressedMatrix::pack`] goes from one to
//! the other. Codes and scales are multiplied as they are (8-bit activations) or as f32 ([`Activation`]).
#![forbid(unsafe_code)]

mod bilevel;
mod bit_rows;
mod blocks;
mod columns;
mod dense;
mod error;
mod grid;
mod input;
mod layout;
mod low_rank;
mod matrix;
mod part;
mod sign_scale;
mod sparse;
pub mod stored;
mod transform;

pub use bilevel::{Bilevel, BilevelPart, frame};
pub use blocks::BlocksPart;
pub use columns::ColumnsPart;
pub use dense::DensePart;
pub use error::Error;
pub use grid::GridPart;
pub use input::{Activation, Input};
pub use layout::FieldPlan;
pub use low_rank::LowRankPart;
pub use matrix::CompressedMatrix;
pub use part::{Part, PartKind};
pub use sign_scale::SignScalePart;
pub use sparse::SparsePart;
pub use stored::{StoredMatrix, StoredPart};
pub use transform::Transform;
