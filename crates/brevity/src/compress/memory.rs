//! How much memory a job takes at the least, and whether a limit allows it.

use super::Job;
use super::calibration::WINDOW;
use anyhow::{Result, bail};
use brevity_measure::bits::format_bytes;
use brevity_model::ModelSource;
use brevity_model::source::TensorEntry;
use brevity_weights::Needs;

/// The program itself, its tables, tokenizer and thread stacks.
const BASE: u64 = 96 << 20;

/// Estimated peak of resident bytes: the largest of the job's phases. With `spill` the hidden states of calibration are on disk.
///
/// Rounding: a slab of rows in f32, its raw bytes and its blocks. Calibrating: the hidden states of the windows and one block.
/// Hessians: beside that the sum of one place, its factor in double precision, and a matrix before and after. Measuring:
/// one block as it lies in memory and once more while it is packed, the hidden states of two models, both heads, and a few
/// rows of logits.
pub fn least(job: &Job, source: &ModelSource, spill: bool) -> u64 {
    let folds = job.chain.folds.iter().map(|fold| fold.needs());
    let needs = folds.chain([job.chain.method.needs()]).max().unwrap_or(Needs::Nothing);
    let calibrating = match needs {
        Needs::Nothing => 0,
        needs => {
            let windows = if spill { 1 } else { job.calibration_windows };
            calibrating(source, needs, windows * WINDOW.min(source.config().context))
        }
    };
    let measuring = if job.evaluate { measuring(source, job.chunks * WINDOW) } else { 0 };
    BASE + rounding(source).max(calibrating).max(measuring)
}

fn rounding(source: &ModelSource) -> u64 {
    let tensors = source.tensors();
    let widest = tensors.iter().map(|tensor| tensor.cols).max().unwrap_or(0) as u64;
    let slab = (4 * (2u64 << 20)).max(4 * widest) * 4;
    let whole = tensors.iter().filter(|tensor| !tensor.vector && tensor.role.layer.is_some());
    let permuted = 3 * 4 * whole.map(weights).max().unwrap_or(0);
    slab.max(permuted.min(64 << 20))
}

fn calibrating(source: &ModelSource, needs: Needs, tokens: usize) -> u64 {
    let states = (2 * 4 * tokens * source.config().hidden) as u64;
    let linears = || source.tensors().iter().filter(|tensor| tensor.role.layer == Some(0) && !tensor.vector);
    let block: u64 = 4 * linears().map(weights).sum::<u64>();
    if needs < Needs::Hessian {
        return states + block;
    }
    let widest = linears().map(|tensor| tensor.cols as u64).max().unwrap_or(0);
    let matrix = source.tensors().iter().filter(|tensor| !tensor.vector).map(weights).max().unwrap_or(0);
    states + block + (4 + 4 + 2 * 8) * widest * widest + 3 * 4 * matrix
}

fn measuring(source: &ModelSource, tokens: usize) -> u64 {
    let (config, tensors) = (source.config(), source.tensors());
    let block: u64 = tensors.iter().filter(|tensor| tensor.role.layer == Some(0)).map(|tensor| tensor.bytes).sum();
    let head: u64 = tensors.iter().filter(|tensor| tensor.role.layer.is_none()).map(|tensor| tensor.bytes).sum();
    let states = (2 * 4 * tokens * config.hidden) as u64;
    let logits = (2 * 4 * 64 * config.vocab) as u64;
    states + (3 * block).max(3 * head + logits)
}

fn weights(tensor: &TensorEntry) -> u64 {
    (tensor.rows * tensor.cols) as u64
}

/// Refuses a limit below what is needed.
pub fn check(limit: Option<u64>, least: u64) -> Result<()> {
    match limit {
        Some(limit) if limit < least => bail!(
            "--memory {} is too little: this job needs {} at the least\n  next: raise the limit, lower --chunks or \
             --calibration-windows, or leave out the measurement with --no-eval",
            format_bytes(limit),
            format_bytes(least),
        ),
        _ => Ok(()),
    }
}
