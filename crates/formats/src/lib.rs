//! Model files: bytes on disk to typed tensors and back.
//!
//! | module | reads | writes |
//! |---|---|---|
//! | [`types`] | names and sizes of every tensor type | |
//! | [`error`] | one error for every way a file can lie | |
//! | [`gguf`] | GGUF 2 and 3, split or not | GGUF 3, resumable |
//! | [`safetensors`] | one file, an index, a directory | one file or shards, resumable |
//! | [`llama2c`] | llama2.c checkpoints and tokenizers | |
//! | [`atomic`] | | files and directories that appear when they are complete |
//! | [`blocks`] | GGML block types to f32 and to integer codes | f32 to block types |
//! | [`hash`] | BLAKE3 of anything, on all threads | |
//! | [`grid`] | integer grids with group scales and zeros | searches them |
//! | [`gptq`] | GPTQ v1 and v2 tensors | the same |
//! | [`awq`] | AWQ tensors (GEMM layout) | |
//! | [`imatrix`] | llama.cpp's importance matrices, GGUF and legacy | the same |
//! | [`compressed_tensors`] | pack-quantized tensors | the same |
//!
//! A file is never trusted: every count is checked against the bytes that are there before anything is allocated for it,
//! and every lie has an error of its own. Tensor bytes are read by position, a range at a time, so memory stays bounded
//! by what the caller asks for. Every writer fills a sibling file and renames it when it is complete.
#![deny(unsafe_code)]

pub mod atomic;
pub mod awq;
pub mod blocks;
pub mod compressed_tensors;
pub mod error;
pub mod gguf;
pub mod gptq;
pub mod grid;
pub mod hash;
pub mod imatrix;
pub mod llama2c;
pub mod mmap;
pub mod pread;
pub mod safetensors;
mod segments;
pub mod types;

pub use error::{Error, Result};
pub use types::TensorType;

use std::path::Path;

/// Refuses a read that leaves its tensor.
fn check_range(path: &Path, tensor: &str, from: u64, length: u64, bytes: u64) -> Result<()> {
    let to = from.saturating_add(length);
    if to <= bytes && from <= bytes {
        return Ok(());
    }
    Err(Error::Range { path: path.into(), tensor: tensor.into(), from, to, bytes })
}
