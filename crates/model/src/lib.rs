//! Language models: configuration, weights, tokenizer, forward pass, cache.
//!
//! ```text
//! ModelSource ── Config, Tokenizer, TensorEntry (names, shapes, types; rows read when asked for)
//!      │
//!      ├── Model::load ── forward(sequences, which logits, tap) ── sampler
//!      │                     └── each sequence brings its KvCache
//!      └── stream::run ── the same bits with one block in memory
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`], [`arch`] | one typed configuration and one block description for every architecture |
//! | [`names`] | what a tensor is for, and its name in GGUF and Hugging Face checkpoints |
//! | [`source`] | an opened model of any kind |
//! | [`fold`] | weights changed so that the function stays: scales, rotations, absorbed norms |
//! | [`weights`] | matrices in memory |
//! | [`forward`] | the forward pass: several sequences at once, in chunks |
//! | [`cache`] | the `KvCache` trait and the plain cache |
//! | [`taps`] | who observes inputs of linears and attention weights |
//! | [`stream`] | many texts through a model of which one block is in memory |
//! | [`flops`] | operations per token |
//! | [`tokenizer`], [`chat`], [`sampler`] | text to tokens and back, chat templates, choosing the next token |
//! | [`export`] | names, orders of rows and metadata from one layout to another |
#![forbid(unsafe_code)]

pub mod arch;
mod block;
pub mod cache;
pub mod chat;
pub mod config;
pub mod error;
pub mod export;
pub mod flops;
pub mod fold;
pub mod forward;
mod keys;
pub mod names;
pub mod sampler;
pub mod source;
mod states;
pub mod stream;
pub mod taps;
pub mod tokenizer;
pub mod weights;

pub use arch::Architecture;
pub use config::Config;
pub use error::{Error, Result};
pub use fold::{Fold, Folds};
pub use forward::{Logits, Model, Options, Sequence};
pub use names::{Role, TensorKind};
pub use source::{ModelSource, TensorEntry};
