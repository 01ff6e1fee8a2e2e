//! Causal attention that runs directly on compressed keys and values.
//!
//! A head stores its tokens in *slots*, 64 to a block, oldest first. A block's keys and values are each a [`Part`] in a
//! [`Coding`] of their own: f32, f16, or integer codes of 2, 3, 4 or 8 bits with a scale and a zero point for each token, or (keys
//! alone) for each channel. Codes go from memory to registers; for many query rows a panel is taken apart once into a
//! tile that stays in the first-level cache. No block is inflated in memory.
//!
//! A block may hold more than codes: what the grid leaves, as a low-rank matrix and single numbers ([`Recipe`]); or less: its first
//! channels alone ([`Form::channels`]). Blocks may be shared between heads that multiply their tokens by factors of their own
//! ([`PackedHead::share`]), and a slot may count as several tokens ([`PackedHead::tilt`]).
//!
//! # The written order
//! Codes c are multiplied with whole numbers. A row x is rounded to them: with `m = max |x|` and M the largest, 32767 (less where a sum over 255·M
//! would leave 32 bits), `x̂ = round(x·(M/m))` stands for `w·x̂`, `w = m/M`; a row below 2⁻⁹⁶ is zeros. `Σ x̂·c` is exact in 32
//! bits, in any order, and then rounded to f32. (x̂ is off by 2⁻¹⁶ of the row's largest number, far less than any code.)
//!
//! For one query row `q` that sees the slots `lo..hi`:
//!
//! 1. raw scores:
//!    - f32, f16: `t = Σ_d q[d]·K[j][d]`, a chain over the channels d ascending from +0;
//!    - per token (scale s, zero z, both of slot j), q rounded: `t = (s·w)·fma(−z, Σ_d q̂[d], Σ_d q̂[d]·c[j][d])`;
//!    - per channel (scale s, least value m, both of channel d), `x[d] = q[d]·s[d]` rounded: `t = fma(w, Σ_d x̂[d]·c[j][d], Σ_d q[d]·m[d])`, the
//!      last a chain over d;
//!
//!    then, where there are such: for each column (a, b) of the low-rank matrix `t = fma(tree(Σ q·b), a[j], t)`; single numbers
//!    `t += q[d]·x`, channels rising; `t·gain[j]`; `t + tilt[j]/scale`;
//! 2. softmax as in [`attention`](super): `e[j] = exp(scale·t − max)`, the sum in 16 lanes by slot mod 16, then the tree;
//! 3. `o[d]`, one chain over the slots ascending from +0, `fma(e[j], V[j][d], o)`, for f32 and f16; for codes one over blocks of 64 slots:
//!    of each `x[j] = e[j]·s[j]` is rounded, `o[d] = fma(w, Σ_j x̂[j]·c[j][d], o)`, while `Z = fma(−(w·u), Σ_j x̂[j]·z[j], Z)` collects what zero
//!    points take off, z in whole steps u of theirs. With gains `e[j]` is `e[j]·gain[j]`; after each block its low-rank columns,
//!    `o[d] = fma(tree(Σ e·a), b[d], o[d])`, and its single numbers;
//! 4. `(o[d] + Z) / sum`.
//!
//! A row's result depends on itself and on the slots that it sees: not on the rows beside it, on threads, on instruction
//! sets, or on the chunks in which tokens came. Slots that it does not see have the weight +0, so keys and values must be
//! finite: whoever stores them sees to that.

mod attend;
mod codes;
mod feedback;
mod grid;
mod head;
mod numbers;
mod part;
mod repair;
mod rows;
mod scratch;
mod whole;

pub use attend::{PackedQuery, attend_packed};
pub use feedback::Feedback;
pub use head::{Form, OpenSlots, PackedHead};
pub use part::{Coding, Part, Side};
pub use repair::Recipe;

#[cfg(test)]
mod tests;
