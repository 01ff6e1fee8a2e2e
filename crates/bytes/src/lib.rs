//! Lossless archives: the same bytes back on any machine, with as few in between as the level's time allows.
//!
//! - [`archive`] is the container: blocks that stand alone, hashed, an index, files in and out.
//! - [`level`] is the table of levels; [`codec`] codes one block.
//! - [`tensors`] is for weights; [`cm`] is context mixing (levels 4 and 5), [`bwt`] block sorting (level 3), [`lz`] repeated strings (levels 1 and 2); [`transform`] makes data easier first.
//!
//! All arithmetic is on integers: an archive decodes on any machine, with or without vector instructions.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bwt;
pub mod cm;
pub mod codec;
mod error;
pub mod level;
pub mod lz;
pub mod tensors;
pub mod transform;
pub mod varint;

pub use error::{Error, Result};
