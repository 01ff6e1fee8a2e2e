//! Models in blocks: any number of bytes of one is a model.
//!
//! A matrix of several `sign_scale` parts with gains is the sum of however many of them are there. What every model needs
//! comes first: tensors that are no parts, parts without a gain, the first block of each matrix. The other blocks follow
//! by what they gain per byte, those of one matrix in their order; the first that does not fit ends the model, so a
//! smaller one is always the beginning of a larger one.

use std::collections::HashMap;

use brevity_formats::safetensors::Checkpoint;
use brevity_parts::stored::{Descriptor, PartDescriptor};

use crate::error::{Error, Result};

/// A block that may be left out.
struct Block<'a> {
    matrix: &'a str,
    /// Its place among the matrix's parts.
    index: usize,
    bytes: u64,
    /// Gain per byte, never above that of the block before it in its matrix.
    worth: f64,
}

/// Keeps as many blocks as `limit` bytes hold.
pub(super) fn keep(files: &Checkpoint, matrices: &mut HashMap<String, Descriptor>, limit: u64) -> Result<()> {
    let (mut fixed, mut blocks) = (others(files, matrices), Vec::new());
    for (name, descriptor) in matrices.iter() {
        let part_error = |source| Error::Part { tensor: name.clone(), source: Box::new(source) };
        let mut worth = f64::INFINITY;
        for (index, part) in descriptor.parts.iter().enumerate() {
            let bytes = descriptor.part_bytes(part).map_err(part_error)?;
            if index == 0 || !may_be_left_out(part) {
                fixed += bytes;
                continue;
            }
            worth = worth.min(gain(files, name, index)? / bytes.max(1) as f64);
            blocks.push(Block { matrix: name, index, bytes, worth });
        }
    }
    if blocks.is_empty() {
        return Err(Error::NoBlocks { path: files.path().to_owned() });
    }
    if fixed > limit {
        return Err(Error::TooFewBytes { path: files.path().to_owned(), wanted: limit, smallest: fixed });
    }
    blocks.sort_by(|a, b| b.worth.total_cmp(&a.worth).then(a.matrix.cmp(b.matrix)).then(a.index.cmp(&b.index)));
    let mut total = fixed;
    let mut kept: HashMap<String, usize> = HashMap::new();
    for block in &blocks {
        total += block.bytes;
        if total > limit {
            break;
        }
        *kept.entry(block.matrix.to_owned()).or_default() += 1;
    }
    drop(blocks);
    for (name, descriptor) in matrices.iter_mut() {
        let mut left = kept.get(name).copied().unwrap_or(0);
        let mut first = true;
        descriptor.parts.retain(|part| {
            let optional = !std::mem::take(&mut first) && may_be_left_out(part);
            let keep = !optional || left > 0;
            left -= usize::from(optional && keep);
            keep
        });
    }
    Ok(())
}

fn may_be_left_out(part: &PartDescriptor) -> bool {
    matches!(part, PartDescriptor::SignScale { gain: true, .. })
}

/// Bytes of the tensors that are no parts.
fn others(files: &Checkpoint, matrices: &HashMap<String, Descriptor>) -> u64 {
    // A part's tensor is called `<matrix>.<part>.<field>`.
    let is_part = |name: &str| name.rsplitn(3, '.').nth(2).is_some_and(|matrix| matrices.contains_key(matrix));
    files.tensors().iter().filter(|tensor| !is_part(&tensor.name)).map(|tensor| tensor.bytes).sum()
}

/// What the block says that it takes off.
fn gain(files: &Checkpoint, matrix: &str, index: usize) -> Result<f64> {
    let bytes = files.read_all(files.require(&format!("{matrix}.{index}.gain"))?)?;
    let gain = bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
    Ok(if gain.is_finite() { f64::from(gain.max(0.0)) } else { 0.0 })
}
