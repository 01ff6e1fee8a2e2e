//! Lossless archives: the same bytes back on any machine, with as few in between as the level's time allows.
//!
//! - [`archive`] is the container: blocks that stand alone, hashed, an index, files in and out.
//! - [`level`] is the table of levels; [`codec`] codes one block.
//! - [`tensors`] is for weights; [`cm`] is context mixing (levels 4 to 9), [`dna`] the same for bases, [`bwt`] block sorting (level 3), [`lz`] repeated strings (levels 1 and 2); [`transform`] makes data easier first.
//! - [`lm`] codes text behind a language model, which whoever unpacks must have.
//!
//! All arithmetic is on integers, or on `f32` in a written order (the network of levels 8 and 9, language models): an archive decodes on any machine, with or
//! without vector instructions.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bwt;
pub mod cm;
pub mod codec;
pub mod dna;
mod error;
pub mod level;
pub mod lm;
pub mod lz;
mod pages;
pub mod tensors;
pub mod transform;
pub mod varint;

pub use error::{Error, Result};
