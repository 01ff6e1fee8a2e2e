//! Causal attention over a cache of keys and values in blocks of 64 absolute positions.
//!
//! For one query row at position p that sees the positions `lo..=p` (all present ones, or those of a sliding window):
//!
//! 1. scores: `s[j] = scale · Σ_d q[d]·K[j][d]`, one fused chain over d ascending from +0, then one multiplication;
//! 2. `m = max s`, `e[j] = exp(s[j] − m)` with our own exp;
//! 3. `sum`: 16 lanes by absolute position mod 16, each a chain over positions ascending, then the tree;
//! 4. `o[d] = Σ_j e[j]·V[j][d]`, one fused chain over positions ascending from +0; then one division by `sum`.
//!
//! The result depends on nothing but the row and what it sees: not on the rows beside it, on positions stored
//! later, on threads, or on the chunks in which a prompt arrived. K is stored as `[dim][64]` per block, so that
//! scores are the panel kernel of [`dense`](crate::dense); V as `[64][dim]`, so that step 4 is.
//!
//! A NaN in a row or in what it sees gives canonical NaNs; so does a score of +∞. A row that sees nothing gives zeros.

mod attend;
pub mod packed;
mod store;

pub use attend::{Query, TappedWeights, attend};
pub use store::{CacheType, HeadCache};

/// Positions of a block.
pub const BLOCK: usize = 64;

#[cfg(test)]
mod tests;
