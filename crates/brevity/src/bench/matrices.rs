//! `brevity bench weights` on a checkpoint whose architecture Brevity does not run: an encoder, say.
//!
//! Without a forward pass there are no bits lost a token. What can be said of matrices alone is how far a grid's error is from
//! the best possible at its bits: a Gaussian source needs `R(e) = ½·log2(1/e)` bits a weight for a relative error `e` (energy),
//! and no code needs less for weights that are Gaussian. So a grid of `b` bits is `b − R(e)` bits above that bound.

use super::document;
use crate::cli::{BenchWeightsArgs, Global};
use crate::compress::goal::Goal;
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_formats::blocks;
use brevity_formats::safetensors::{Checkpoint, TensorInfo};
use brevity_kernels::Matrix;
use brevity_measure::table::{Cell, Column, Table};
use brevity_model::{Error, ModelSource};
use brevity_weights::plan::{self, Part, Rules, Slot};
use brevity_weights::{Level, Needs, Statistics, WeightMethod, database};
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// What one method makes of all matrices on one grid.
#[derive(Debug, Serialize)]
struct Measured {
    method: String,
    grid: String,
    bits_per_weight: f64,
    relative_error: f64,
    bits_above_gaussian: f64,
    seconds: f64,
}

/// The checkpoint, where the model named is one of an architecture that is not run.
pub fn checkpoint(args: &BenchWeightsArgs) -> Option<Checkpoint> {
    let path = Path::new(args.model.as_deref()?);
    match ModelSource::open(path) {
        Err(Error::UnknownArchitecture { .. }) => Checkpoint::open(path).ok(),
        _ => None,
    }
}

/// Measures all grids and prints the table.
///
/// # Errors
/// If weights cannot be read or are not finite, no method named does without inputs, or the user stopped.
pub fn run(
    args: &BenchWeightsArgs,
    global: &Global,
    checkpoint: &Checkpoint,
    methods: &[&'static dyn WeightMethod],
    goals: &[Goal],
) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let matrices: Vec<&TensorInfo> = checkpoint.tensors().iter().filter(|tensor| is_matrix(tensor)).collect();
    let blind: Vec<_> = methods.iter().filter(|method| method.needs() == Needs::Nothing).collect();
    if matrices.is_empty() || blind.is_empty() {
        let path = checkpoint.path().display();
        bail!(
            "{path}: an architecture that is not run, and nothing to measure without running it\n  next: --methods rtn"
        );
    }
    let mut measured = Vec::new();
    for method in blind {
        for goal in goals {
            if let Goal::Grid(level) = *goal
                && method.supports(level)
                && !matches!(level, Level::Sum(_))
            {
                show.remark(&format!("{} at {level}", method.card().name));
                measured.push(measure(checkpoint, &matrices, *method, level)?);
            }
        }
    }
    measured.sort_by(|a, b| a.bits_per_weight.total_cmp(&b.bits_per_weight));
    let path = args.model.as_deref().map_or_else(|| checkpoint.path(), Path::new);
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let table = table(&name, &measured);
    if let Some(page) = &args.output {
        let command = format!("brevity bench weights {name} -o {}", page.file_name().unwrap_or_default().display());
        let body = format!("## Weights: {name}\n\n`{command}`\n\n{}", table.to_markdown());
        document::put_section(page, &format!("weights {name}"), &body)?;
    }
    if global.json {
        return output::json(&json!({"model": args.model, "matrices": measured}));
    }
    output::tables(&[table])
}

fn is_matrix(tensor: &TensorInfo) -> bool {
    tensor.shape.len() == 2 && tensor.rows() > 1 && tensor.cols() > 1 && tensor.ty.is_float()
}

fn measure(
    checkpoint: &Checkpoint,
    matrices: &[&TensorInfo],
    method: &dyn WeightMethod,
    level: Level,
) -> Result<Measured> {
    let started = Instant::now();
    let (mut bits, mut weights, mut error, mut energy) = (0.0, 0.0, 0.0, 0.0);
    for tensor in matrices {
        stop::check()?;
        let slot = Slot {
            name: tensor.name.clone(),
            rows: tensor.rows(),
            cols: tensor.cols(),
            ty: tensor.ty,
            part: Part::Linear,
        };
        let level = plan::uniform(std::slice::from_ref(&slot), level, &Rules::default())[0];
        let mut values = vec![0.0; slot.rows * slot.cols];
        blocks::dequantize(tensor.ty, &checkpoint.read_all(tensor)?, &mut values)
            .with_context(|| format!("{}: {}", checkpoint.path().display(), tensor.name))?;
        let matrix = Matrix::from_vec(slot.rows, slot.cols, values);
        let of = matrix.data().iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        error += of * database::error_at(method, &matrix, &Statistics::default(), level)?;
        energy += of;
        bits += 8.0 * level.bytes(slot.rows, slot.cols).unwrap_or(0) as f64;
        weights += slot.weights() as f64;
    }
    let (rate, error) = (bits / weights, error / energy);
    Ok(Measured {
        method: method.card().name.to_string(),
        grid: level.to_string(),
        bits_per_weight: rate,
        relative_error: error,
        bits_above_gaussian: rate + 0.5 * error.log2(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn table(name: &str, measured: &[Measured]) -> Table {
    let columns = ["method", "grid", "bits per weight", "relative error", "bits above a Gaussian's bound", "seconds"];
    let mut table = Table::new(columns.map(Column::new)).title(format!("{name}: matrices alone"));
    for row in measured {
        table.row([
            Cell::text(&row.method),
            Cell::text(&row.grid),
            Cell::number(row.bits_per_weight, 3),
            Cell::number(row.relative_error, 6),
            Cell::number(row.bits_above_gaussian, 3),
            Cell::number(row.seconds, 1),
        ]);
    }
    table.note("error: energy of the weights' error over that of the weights; the bound: half the binary logarithm of its inverse");
    table
}
