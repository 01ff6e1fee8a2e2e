//! Brevity: the same with fewer bits, and what was lost counted in bits.
//!
//! The command `brevity` is a thin shell over this library: [`compress`] makes a model smaller, [`evaluate`] measures it.
//! The rooms below are re-exported.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cache_budget;
pub mod cli;
pub mod commands;
pub mod compress;
pub mod context;
pub mod convert;
pub mod embedded;
pub mod evaluate;
pub mod generate;
pub mod identity;
pub mod importance;
pub mod open;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod reference;
pub mod stop;
pub mod tasks;
pub mod texts;

pub use brevity_budget as budget;
pub use brevity_cache as cache;
pub use brevity_coding as coding;
pub use brevity_formats as formats;
pub use brevity_kernels as kernels;
pub use brevity_measure as measure;
pub use brevity_model as model;
pub use brevity_parts as parts;
pub use brevity_weights as weights;
