//! The KV cache, smaller: which tokens stay, what becomes of the others, and how tokens are stored.
//!
//! A [`Cache`] is a composition: a [`Selection`] decides which tokens of each head stay, a [`Merging`] what becomes of the
//! others, a [`Store`] how tokens are represented. All are named in one text, read by [`Spec::parse`]:
//!
//! ```
//! use brevity_cache::Spec;
//! let spec = Spec::parse("h2o:budget=512 + int4")?;
//! assert_eq!(spec.to_string(), "h2o:budget=512,recent=256 + int4");
//! assert!(Spec::parse("int5").unwrap_err().to_string().contains("int4"));
//! # Ok::<(), brevity_cache::Error>(())
//! ```
//!
//! Attention runs on the compressed blocks as they lie in memory (`brevity_kernels::attention::packed` states the order of
//! its sums), so a token's result is the same at any thread count, on any instruction set and for any chunking. What could break
//! that happens only at absolute positions: a store recodes a block, and a selection drops tokens, where the length is a
//! multiple of 64 or where the prompt ends ([`KvCache::end_prompt`](brevity_model::cache::KvCache::end_prompt)); no pass
//! crosses such a boundary.
//!
//! Keys are stored rotated by rope, at the positions they had; a token that stays keeps its position.
#![forbid(unsafe_code)]

mod axes;
mod cache;
pub mod disk;
mod error;
mod fit;
pub mod merging;
mod options;
pub mod prefix;
pub mod registry;
pub mod selection;
mod slots;
mod spec;
pub mod store;

pub use cache::Cache;
pub use error::Error;
pub use merging::Merging;
pub use selection::Selection;
pub use spec::Spec;
pub use store::Store;

/// Tokens of a block, and the distance between the positions where a cache may change.
pub const BLOCK: usize = brevity_kernels::attention::BLOCK;
