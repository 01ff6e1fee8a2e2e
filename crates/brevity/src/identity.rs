//! What a model is: a hash of its weights as they are stored, read and hashed on all threads.

use anyhow::Result;
use brevity_formats::hash::TreeHasher;
use brevity_kernels::pool;
use brevity_model::{ModelSource, TensorEntry};
use std::ops::Range;

/// Bytes that one thread reads at once, about, and those that are held at once.
const PIECE: usize = 1 << 23;
const BATCH: usize = 1 << 25;

/// Some rows of a tensor.
struct Piece<'a> {
    entry: &'a TensorEntry,
    rows: Range<usize>,
    read: brevity_model::Result<Vec<u8>>,
}

/// Adds the name of every tensor, and its bytes row by row.
///
/// # Errors
/// If weights cannot be read.
pub fn weights(source: &ModelSource, hash: &mut TreeHasher) -> Result<()> {
    let pieces = source.tensors().iter().flat_map(|entry| {
        let rows = (PIECE / entry.row_bytes().max(1)).max(1);
        let starts = (0..entry.rows.max(1)).step_by(rows);
        starts.map(move |start| Piece { entry, rows: start..(start + rows).min(entry.rows), read: Ok(Vec::new()) })
    });
    let (mut batch, mut held) = (Vec::new(), 0);
    for piece in pieces {
        held += piece.rows.len() * piece.entry.row_bytes();
        batch.push(piece);
        if held >= BATCH {
            feed(source, std::mem::take(&mut batch), hash)?;
            held = 0;
        }
    }
    feed(source, batch, hash)
}

fn feed(source: &ModelSource, mut batch: Vec<Piece<'_>>, hash: &mut TreeHasher) -> Result<()> {
    pool::parallel_chunks(&mut batch, 1, |_, pieces| {
        for piece in pieces {
            piece.read = source.read_raw_rows(piece.entry, piece.rows.clone());
        }
    });
    for piece in batch {
        if piece.rows.start == 0 {
            hash.update(piece.entry.name.as_bytes());
        }
        hash.update(&piece.read?);
    }
    Ok(())
}
