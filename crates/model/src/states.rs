//! Hidden states of many windows, one row a token (`tokens × hidden` f32): in memory, or in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use brevity_kernels::Matrix;

use crate::error::{Error, Result};

/// Rows on their way through the blocks.
pub(crate) enum States {
    Memory(Matrix),
    /// A file without a name in the system's folder for such things: it goes with the process, however that ends.
    Disk {
        file: File,
        cols: usize,
        bytes: Vec<u8>,
    },
}

impl States {
    pub fn in_memory(rows: usize, cols: usize) -> Self {
        States::Memory(Matrix::zeros(rows, cols))
    }

    /// # Errors
    /// If no file can be made, or the disk has no room for all rows.
    pub fn on_disk(rows: usize, cols: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?;
        file.set_len((4 * rows * cols) as u64).map_err(Error::io(std::env::temp_dir()))?;
        Ok(States::Disk { file, cols, bytes: Vec::new() })
    }

    /// Copies rows to `out`, which takes their shape.
    pub fn read(&mut self, rows: Range<usize>, out: &mut Matrix) -> Result<()> {
        match self {
            States::Memory(states) => {
                let cols = states.cols();
                out.reshape(rows.len(), cols);
                out.data_mut().copy_from_slice(&states.data()[rows.start * cols..rows.end * cols]);
            }
            States::Disk { file, cols, bytes } => {
                out.reshape(rows.len(), *cols);
                bytes.resize(4 * rows.len() * *cols, 0);
                seek(file, rows.start, *cols)?;
                file.read_exact(bytes).map_err(Error::io(std::env::temp_dir()))?;
                let (words, _) = bytes.as_chunks::<4>();
                out.data_mut().iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_le_bytes(*word));
            }
        }
        Ok(())
    }

    /// Puts rows from `first` on.
    pub fn write(&mut self, first: usize, rows: &Matrix) -> Result<()> {
        match self {
            States::Memory(states) => {
                let start = first * states.cols();
                states.data_mut()[start..start + rows.data().len()].copy_from_slice(rows.data());
            }
            States::Disk { file, cols, bytes } => {
                bytes.clear();
                bytes.extend(rows.data().iter().flat_map(|value| value.to_le_bytes()));
                seek(file, first, *cols)?;
                file.write_all(bytes).map_err(Error::io(std::env::temp_dir()))?;
            }
        }
        Ok(())
    }
}

fn seek(file: &mut File, row: usize, cols: usize) -> Result<()> {
    let start = SeekFrom::Start((4 * row * cols) as u64);
    file.seek(start).map(|_| ()).map_err(Error::io(std::env::temp_dir()))
}
