//! Writing a compressed model as GGUF: tensor by tensor, in slabs of rows, resumable.

use super::calibrated::Calibrated;
use super::calibration::Calibration;
use super::metadata::Extra;
use super::plan::{Plan, Planned, tensor_plan};
use crate::progress::Show;
use crate::stop;
use anyhow::{Result, bail};
use brevity_formats::gguf::{GgufWriter, Metadata, TensorPlan};
use brevity_kernels::Matrix;
use brevity_model::ModelSource;
use brevity_model::export::{permute_rows, permuted_heads};
use brevity_model::source::TensorEntry;
use brevity_parts::{StoredMatrix, StoredPart};
use brevity_weights::{Level, Statistics, WeightMethod};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Weights that are in memory as f32 at once.
const SLAB: usize = 1 << 21;

/// What is written where, and how.
pub struct Writing<'a> {
    pub source: &'a ModelSource,
    pub method: &'a dyn WeightMethod,
    /// Tells this run from others with the same plan: the chain of methods, and what calibrated it.
    pub name: String,
    pub path: &'a Path,
    pub force: bool,
    pub show: Show,
    /// Where the method needs second moments.
    pub calibration: Option<Calibration>,
    /// Where the method needs Hessians: it compresses block by block.
    pub calibrated: Option<RefCell<Calibrated<'a>>>,
}

impl Writing<'_> {
    /// Writes the file; goes on from an interrupted run with the same plan.
    ///
    /// # Errors
    /// If the file exists (without `force`), the disk is full, a weight is not finite, or the user stopped: what is done
    /// is kept for the next run then.
    pub fn gguf(&self, plan: &Plan, metadata: &Metadata, extras: &[Extra]) -> Result<PathBuf> {
        let mut plans: Vec<TensorPlan> = extras.iter().map(|extra| extra.plan.clone()).collect();
        plans.extend(plan.tensors.iter().map(|t| tensor_plan(&t.entry.name, t.entry.rows, t.entry.cols, t.level)));
        let fingerprint = fingerprint(self.source, &self.name);
        let mut writer = GgufWriter::resume(self.path, metadata, &plans, &fingerprint, self.force)?;
        let done = writer.complete();
        if done > 0 {
            self.show.remark(&format!("going on after {done} of {} tensors", plans.len()));
        }
        for extra in extras.iter().skip(done) {
            writer.write(&extra.plan.name, &extra.bytes)?;
        }
        let phase = self.show.phase("compressing", plan.weights);
        for (index, tensor) in plan.tensors.iter().enumerate() {
            let weights = (tensor.entry.rows * tensor.entry.cols) as u64;
            if index + extras.len() >= done {
                self.tensor(&mut writer, tensor)?;
            }
            phase.advance(weights);
        }
        Ok(writer.finish()?)
    }

    fn tensor(&self, writer: &mut GgufWriter, tensor: &Planned) -> Result<()> {
        let Planned { entry, level, .. } = tensor;
        let order = row_order(self.source, entry);
        if let Some(stored) = self.calibrated(entry, *level)? {
            let (mut bytes, row) = (blocks_of(stored, *level)?, level.bytes(1, entry.cols).unwrap_or(0) as usize);
            if let Some(order) = &order {
                bytes = reorder(&bytes, row, order);
            }
            writer.write(&entry.name, &bytes)?;
            return Ok(());
        }
        let slab = match (&order, self.method.rows_are_independent()) {
            (None, true) => (SLAB / entry.cols.max(1)).clamp(1, entry.rows),
            _ => entry.rows,
        };
        for start in (0..entry.rows).step_by(slab) {
            stop::check()?;
            let rows = start..(start + slab).min(entry.rows);
            if order.is_none() && *level == Level::Type(entry.ty) {
                let raw = self.source.read_raw_rows(entry, rows.clone())?;
                self.source.read_rows_f32(entry, rows)?;
                writer.write(&entry.name, &raw)?;
                continue;
            }
            let mut values = self.source.read_rows_f32(entry, rows.clone())?;
            if let Some(order) = &order {
                values = reorder(&values, entry.cols, order);
            }
            let matrix = Matrix::from_vec(rows.len(), entry.cols, values);
            writer.write(&entry.name, &self.blocks(&matrix, entry, *level)?)?;
        }
        Ok(())
    }

    fn blocks(&self, matrix: &Matrix, entry: &TensorEntry, level: Level) -> Result<Vec<u8>> {
        blocks_of(self.method.compress(matrix, &self.statistics(entry), level)?, level)
    }

    /// What the method is told of the inputs of rows that it stores on their own.
    pub fn statistics(&self, entry: &TensorEntry) -> Statistics {
        self.calibration.as_ref().map(|known| known.statistics(self.source, entry.role)).unwrap_or_default()
    }

    /// The matrix as calibration has it; `None` for what loses nothing at this level, or where nothing is calibrated.
    pub fn calibrated(&self, entry: &TensorEntry, level: Level) -> Result<Option<StoredMatrix>> {
        let Some(calibrated) = &self.calibrated else { return Ok(None) };
        let lossy = !entry.vector && !entry.role.bias && !level.is_lossless_for(entry.ty);
        let plain = matches!(level, Level::Type(ty) if !ty.is_quantized());
        // Plain numbers need no statistics; those inside a block were compressed with it all the same.
        if !lossy || plain && entry.role.layer.is_none() {
            return Ok(None);
        }
        calibrated.borrow_mut().take(entry, level).map(Some)
    }

    /// Rows that kept round-to-nearest.
    pub fn rows_kept(&self) -> usize {
        self.calibrated.as_ref().map_or(0, |calibrated| calibrated.borrow().rows_kept())
    }
}

fn blocks_of(stored: StoredMatrix, level: Level) -> Result<Vec<u8>> {
    match stored.parts.into_iter().next() {
        Some(StoredPart::Dense { bytes, .. } | StoredPart::Blocks { bytes, .. }) => Ok(bytes),
        _ => bail!("{level} cannot be written to GGUF"),
    }
}

/// Tells a run's partial output from those of other sources, methods and versions: a source that was changed since is
/// another one.
pub fn fingerprint(source: &ModelSource, name: &str) -> String {
    let mut text = format!("brevity {} {name} {}", env!("CARGO_PKG_VERSION"), source.label());
    let _ = write!(text, " {:?}", source.fold_digest());
    let path = Path::new(source.label());
    let mut files: Vec<PathBuf> = match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_path_buf()],
    };
    files.sort();
    for file in files {
        let Ok(facts) = std::fs::metadata(&file) else { continue };
        let changed = facts.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let _ = write!(text, "\n{} {} {:?}", file.display(), facts.len(), changed);
    }
    text
}

/// Where each row of the output comes from, when GGUF orders the rows of this tensor in another way than the source.
fn row_order(source: &ModelSource, entry: &TensorEntry) -> Option<Vec<usize>> {
    permuted_heads(source.config(), entry.role).map(|heads| permute_rows(entry.rows, heads))
}

fn reorder<T: Copy>(values: &[T], cols: usize, order: &[usize]) -> Vec<T> {
    order.iter().flat_map(|&row| &values[row * cols..][..cols]).copied().collect()
}
