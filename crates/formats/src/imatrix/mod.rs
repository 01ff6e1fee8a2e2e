//! Importance matrices: llama.cpp's files of second moments, in both of its layouts.
//!
//! For each linear layer an imatrix holds, per input channel j, the sum of x_j² over the tokens that calibration sent through
//! the layer, and how many tokens those were: their quotient is the mean that weighs the error of a weight of column j
//! ([`blocks::quantize`](crate::blocks::quantize)). Layers with experts have sums and a count for each of them.
//!
//! ```text
//! GGUF (llama-imatrix's own since 2025): general.type "imatrix", imatrix.datasets [string], imatrix.chunk_count u32,
//!   imatrix.chunk_size u32 (tokens); for each layer the f32 tensors NAME.in_sum2 [cols, experts], NAME.counts [1, experts]
//! legacy .dat, little endian: i32 entries; each: i32 length, name, i32 chunks, i32 values, f32 means · chunks (experts · cols);
//!   then i32 chunks in all, i32 length, name of the calibration text (both may be missing)
//! ```
//!
//! The legacy layout counts chunks in place of tokens, once per layer: an expert that saw no token has the mean 1 there.
//! Tensors of a GGUF file that are neither sums nor counts are passed over, as llama.cpp does.
//!
//! ```
//! use brevity_formats::imatrix::{Entry, Imatrix};
//!
//! let mut imatrix = Imatrix { chunk_size: 512, chunk_count: 2, ..Imatrix::default() };
//! imatrix.entries.insert("blk.0.attn_q.weight".into(), Entry::from_means(&[0.5, 2.0, 1.0], 1024));
//! assert_eq!(imatrix.importance("blk.0.attn_q.weight", 3)?, [0.5, 2.0, 1.0]);
//! assert!(imatrix.importance("blk.0.attn_q.weight", 4).is_err());    // the imatrix of another model
//! # Ok::<(), brevity_formats::imatrix::ImatrixError>(())
//! ```
//!
//! Source: `tools/imatrix/imatrix.cpp` and `common/imatrix-loader.cpp` of ggml-org/llama.cpp, pull requests 4861 and 9400.

mod error;
mod gguf;
mod legacy;

pub use error::ImatrixError;

use crate::error::{Error, Result};
use crate::pread::PositionedFile;
use ImatrixError as Lie;
use std::collections::BTreeMap;
use std::path::Path;

/// The chunk that llama-imatrix uses unless told otherwise, in tokens.
pub const DEFAULT_CHUNK: u32 = 512;

/// What calibration saw at the inputs of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Σ x², `experts × cols`, the columns of the first expert first.
    pub sums: Vec<f32>,
    /// Tokens behind the sums: one number, or one per expert. Files in the legacy layout count chunks instead
    /// ([`Imatrix::chunk_size`] is 0 then); the quotient is the same.
    pub counts: Vec<u64>,
}

impl Entry {
    /// The entry of one matrix whose inputs had these second moments over `tokens` tokens.
    pub fn from_means(means: &[f32], tokens: u64) -> Entry {
        Entry { sums: means.iter().map(|mean| mean * tokens as f32).collect(), counts: vec![tokens] }
    }

    /// Mean x², `experts × cols`. Where nothing was counted the means are 1: all columns weigh alike.
    pub fn means(&self) -> Vec<f32> {
        let per_count = self.sums.len() / self.counts.len().max(1);
        let count = |i: usize| self.counts.get(i / per_count.max(1)).map_or(0.0, |count| *count as f32);
        let mean = |(i, sum): (usize, &f32)| if count(i) > 0.0 { sum / count(i) } else { 1.0 };
        self.sums.iter().enumerate().map(mean).collect()
    }

    /// Refuses what no calibration can have counted.
    fn check(&self, name: &str) -> Result<(), Lie> {
        let name = || name.to_owned();
        let (values, counts) = (self.sums.len(), self.counts.len());
        if counts == 0 || values == 0 || !values.is_multiple_of(counts) {
            return Err(Lie::Counts { name: name(), values, counts });
        }
        match self.sums.iter().position(|sum| !sum.is_finite() || *sum < 0.0) {
            Some(index) => Err(Lie::Value { name: name(), index, value: self.sums[index] }),
            None => Ok(()),
        }
    }
}

/// An importance matrix: second moments of the inputs of many layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By the name of the weight, such as `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Entry>,
    /// The calibration texts, as they were named.
    pub datasets: Vec<String>,
    /// Chunks of text behind it.
    pub chunk_count: u32,
    /// Tokens in a chunk; 0 where it is not known (legacy files), and counts are of chunks then.
    pub chunk_size: u32,
}

/// The two layouts of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// GGUF: exact sums and a count for each expert. Read by llama.cpp since mid-2025.
    Gguf,
    /// `.dat`: means in units of chunks, for older programs. Keeps one dataset name and no counts of experts.
    Legacy,
}

impl Layout {
    /// The layout that a file name asks for: legacy for `.dat`, as llama-imatrix once wrote, GGUF for all others.
    pub fn of_path(path: &Path) -> Layout {
        let legacy = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("dat"));
        if legacy { Layout::Legacy } else { Layout::Gguf }
    }
}

/// Reads bytes at a position, for files and for bytes in memory.
trait ReadAt: FnMut(u64, &mut [u8]) -> Result<(), Lie> {}
impl<T: FnMut(u64, &mut [u8]) -> Result<(), Lie>> ReadAt for T {}

impl Imatrix {
    /// Reads a file of either layout.
    ///
    /// # Errors
    /// [`Error::Imatrix`] names the lie, [`Error::Io`] what the system refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Imatrix> {
        let path = path.as_ref();
        let file = PositionedFile::open(path)?;
        let mut refused = None;
        let read = |at: u64, out: &mut [u8]| {
            file.read_into(at, out).map_err(|error| {
                refused = Some(error);
                Lie::Unreadable
            })
        };
        let parsed = Imatrix::read(file.length(), read);
        match refused {
            Some(error) => Err(error),
            None => parsed.map_err(|lie| Error::Imatrix { path: path.into(), lie }),
        }
    }

    /// Reads a whole file held in memory.
    pub fn parse(bytes: &[u8]) -> Result<Imatrix, ImatrixError> {
        Imatrix::read(bytes.len() as u64, |at, out| {
            let end = at.saturating_add(out.len() as u64).min(bytes.len() as u64);
            let source = bytes.get(at as usize..end as usize).filter(|source| source.len() == out.len());
            out.copy_from_slice(source.ok_or(Lie::Unreadable)?);
            Ok(())
        })
    }

    fn read(length: u64, mut read: impl ReadAt) -> Result<Imatrix, Lie> {
        let mut magic = [0; 4];
        if length >= 4 {
            read(0, &mut magic)?;
        }
        let imatrix = if &magic == b"GGUF" { gguf::read(length, read)? } else { legacy::read(length, read)? };
        for (name, entry) in &imatrix.entries {
            entry.check(name)?;
        }
        Ok(imatrix)
    }

    /// Writes a file that llama-quantize and llama-imatrix read; it appears when it is complete.
    ///
    /// A [`chunk_size`](Self::chunk_size) of 0 becomes [`DEFAULT_CHUNK`] in GGUF, with sums and counts to match.
    ///
    /// # Errors
    /// Those of writing, and [`Error::Imatrix`] for entries that no reader would take.
    pub fn write(&self, path: impl AsRef<Path>, layout: Layout, force: bool) -> Result<()> {
        let path = path.as_ref();
        let lie = |lie| Error::Imatrix { path: path.into(), lie };
        if self.entries.is_empty() {
            return Err(lie(Lie::Empty));
        }
        for (name, entry) in &self.entries {
            entry.check(name).map_err(lie)?;
        }
        match layout {
            Layout::Gguf => gguf::write(self, path, force),
            Layout::Legacy => {
                crate::atomic::AtomicFile::write_bytes(path, &legacy::to_bytes(self).map_err(lie)?, force)
            }
        }
    }

    /// Mean x² of the inputs of a weight matrix with `cols` columns: what
    /// [`blocks::quantize`](crate::blocks::quantize) takes.
    ///
    /// # Errors
    /// [`ImatrixError::NoEntry`] when calibration did not see the layer, [`ImatrixError::Columns`] when it saw another one.
    pub fn importance(&self, name: &str, cols: usize) -> Result<Vec<f32>, ImatrixError> {
        self.expert_importance(name, cols, 1)
    }

    /// Mean x² of the inputs of `experts` matrices of `cols` columns, one after the other.
    ///
    /// # Errors
    /// Those of [`importance`](Self::importance).
    pub fn expert_importance(&self, name: &str, cols: usize, experts: usize) -> Result<Vec<f32>, ImatrixError> {
        let entry =
            self.entries.get(name).ok_or_else(|| Lie::NoEntry { name: name.into(), entries: self.entries.len() })?;
        entry.check(name)?;
        if cols.checked_mul(experts) != Some(entry.sums.len()) {
            return Err(Lie::Columns { name: name.into(), found: entry.sums.len(), cols, experts });
        }
        Ok(entry.means())
    }
}

/// Reads `count` numbers at `at`, which the caller has found to be inside the file.
fn read_floats(read: &mut impl ReadAt, at: u64, count: usize) -> Result<Vec<f32>, Lie> {
    let mut floats = Vec::with_capacity(count);
    let mut buffer = [0; 1 << 14];
    while floats.len() < count {
        let bytes = &mut buffer[..(4 * (count - floats.len())).min(1 << 14)];
        read(at + 4 * floats.len() as u64, bytes)?;
        floats.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(floats)
}
