//! Writing a model as a directory in Hugging Face layout: weights in safetensors, `config.json`, the tokenizer.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@format`] | which formats there are and what each can hold |
//! | [`layout`] | the tensors that one weight becomes: names, types, shapes, bytes |
//! | [`content`] | the bytes of these tensors |
//! | [`beside`] | configuration, descriptors, tokenizer |
//!
//! Everything is written into a sibling directory that gets its name when it is complete; an interrupted run with the same
//! plan goes on where it stopped. In memory is one tensor at a time, and of plain numbers and blocks a slab of rows.

pub mod beside;
pub mod content;
pub mod format;
pub mod layout;

use super::plan::Plan;
use super::write::Writing;
use crate::stop;
use anyhow::{Result, bail};
use brevity_formats::atomic::AtomicDirectory;
use brevity_formats::safetensors::{SafetensorsWriter, TensorPlan};
use brevity_model::ModelSource;
use layout::Item;
use std::path::Path;

pub use format::DirectoryFormat;

/// Bytes of tensors in one file before the next is begun.
const SHARD: u64 = 5_000_000_000;

/// Refuses a name that promises a file where a directory is written, or the other way round.
///
/// # Errors
/// If it does.
pub fn check_name(output: &Path, is_directory: bool) -> Result<()> {
    let name = output.as_os_str().to_string_lossy();
    match is_directory {
        true if name.ends_with(".gguf") => {
            bail!("{name}: this is written as a directory, not as a GGUF file\n  next: leave out .gguf")
        }
        false if name.ends_with(std::path::MAIN_SEPARATOR) || output.is_dir() => {
            bail!("{name}: this is written as a GGUF file\n  next: name a file, or add --format parts for a directory")
        }
        _ => Ok(()),
    }
}

/// Counts the bytes that the tensors of `plan` take in this format.
///
/// # Errors
/// If a tensor has no name in Hugging Face checkpoints of its architecture.
pub fn count_bytes(plan: &mut Plan, source: &ModelSource, format: DirectoryFormat) -> Result<()> {
    for tensor in &mut plan.tensors {
        tensor.bytes = Item::new(tensor, source.config().architecture, format)?.bytes();
    }
    plan.tensor_bytes = plan.tensors.iter().map(|tensor| tensor.bytes).sum();
    Ok(())
}

/// Bytes of headers and descriptors that a directory of blocks takes at most beside its tensors.
pub fn overhead(source: &ModelSource) -> u64 {
    let architecture = source.config().architecture;
    // Of each tensor the name comes in the header, the descriptor and the index of shards, with some 250 bytes beside it.
    let of = |role: brevity_model::Role| 3 * role.hf_name(architecture).map_or(64, |name| name.len()) as u64 + 250;
    1024 + source.tensors().iter().map(|tensor| of(tensor.role)).sum::<u64>()
}

/// Writes the directory; returns the bytes of the files that hold its weights.
///
/// # Errors
/// If the directory exists (without `force`) or holds other things than a model, the disk is full, the model has no form in
/// this layout, a weight is not finite, or the user stopped: what is done is kept for the next run then.
pub fn write(writing: &Writing, plan: &Plan, format: DirectoryFormat) -> Result<u64> {
    let source = writing.source;
    let architecture = source.config().architecture;
    let items = plan.tensors.iter().map(|tensor| Item::new(tensor, architecture, format));
    let items = items.collect::<Result<Vec<_>>>()?;
    let beside = beside::Files::new(source, &items, format)?;
    let tensors: Vec<TensorPlan> = items.iter().flat_map(|item| item.tensors.clone()).collect();

    let method = &writing.name;
    // The levels too: two block types of one size would look alike in the plan of tensors.
    let levels: Vec<String> = plan.tensors.iter().map(|tensor| tensor.level.to_string()).collect();
    let levels = blake3::hash(levels.join(" ").as_bytes()).to_hex();
    let (label, bytes, folds) = (source.label(), source.file_bytes(), source.fold_digest());
    let fingerprint = format!("{label} {bytes} {folds:?} {method} {} {levels}", format.name());
    let directory = AtomicDirectory::resume(writing.path, &fingerprint, writing.force)?;
    let metadata = [("format".to_string(), "pt".to_string())];
    let mut writer = SafetensorsWriter::resume_sharded(directory.path(), &metadata, &tensors, SHARD, &fingerprint)?;
    let mut done = writer.complete();
    if done > 0 {
        writing.show.remark(&format!("going on after {done} of {} tensors", tensors.len()));
    }
    let phase = writing.show.phase("compressing", plan.weights);
    for item in &items {
        stop::check()?;
        let skip = done.min(item.tensors.len());
        done -= skip;
        if skip < item.tensors.len() {
            content::write(writing, item, skip, &mut writer)?;
        }
        phase.advance((item.planned.entry.rows * item.planned.entry.cols) as u64);
    }
    writer.finish()?;
    beside.write(directory.path())?;
    let target = directory.target().to_path_buf();
    directory.finish()?;
    weight_bytes(&target)
}

/// Bytes of the safetensors in a directory, and of the descriptors of their parts.
fn weight_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".safetensors") || name == beside::DESCRIPTORS {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
