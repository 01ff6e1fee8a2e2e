//! The database of levels: every matrix as the method stores it at every level, on disk.
//!
//! A search asks for hundreds of choices of levels. What each matrix looks like at each level is the same in all of them, so it
//! is made once: a folder holds two files a tensor, `NAME.bin` with the stored parts of all its levels one after the other
//! and `NAME.json` with what they are, what error they make, and what they were made from. The second appears when the first
//! is complete, so an interrupted run goes on where it was. A folder that the user names (`--levels`) is kept for the next run;
//! one that was made from other weights, another method or another calibration is refused.

use super::calibrated::sum_order;
use super::replaced::Replaced;
use crate::progress::Show;
use crate::stop;
use anyhow::{Context, Result, bail};
use brevity_formats::atomic::AtomicFile;
use brevity_formats::pread::PositionedFile;
use brevity_kernels::Matrix;
use brevity_model::source::TensorEntry;
use brevity_model::{ModelSource, Role};
use brevity_parts::StoredMatrix;
use brevity_parts::stored::Descriptor;
use brevity_weights::database::output_error;
use brevity_weights::{Level, Statistics, WeightMethod};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// What a tensor's levels were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    version: u32,
    program: String,
    weights: String,
    method: String,
    calibration: String,
}

/// `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    origin: Origin,
    levels: Vec<Stored>,
}

/// One level in `NAME.bin`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    level: String,
    /// Relative energy of the error that the outputs see, under the calibration.
    error: f64,
    start: u64,
    descriptor: Descriptor,
    /// Name and bytes of each field.
    fields: Vec<(String, u64)>,
    hash: String,
}

/// One tensor's files.
struct Tensor {
    index: Index,
    file: PositionedFile,
}

/// A folder that is removed at the end, unless the user named it.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Where the database comes from and how levels are made.
pub struct Levels<'a> {
    source: &'a ModelSource,
    method: &'a dyn WeightMethod,
    statistics: &'a dyn Fn(Role) -> Statistics,
    folder: Folder,
    tensors: Vec<Option<Tensor>>,
    made: Cell<usize>,
    found: usize,
}

impl<'a> Levels<'a> {
    /// Opens the folder that the user named, or a temporary one beside `output`; nothing is made yet.
    ///
    /// # Errors
    /// If there is no such folder and none can be made.
    pub fn open(
        source: &'a ModelSource,
        method: &'a dyn WeightMethod,
        statistics: &'a dyn Fn(Role) -> Statistics,
        named: Option<&Path>,
        output: &Path,
    ) -> Result<Self> {
        let path = named.map_or_else(|| beside(output), Path::to_path_buf);
        std::fs::create_dir_all(&path).with_context(|| format!("making the folder of levels {}", path.display()))?;
        let folder = Folder { path, kept: named.is_some() };
        let tensors = source.tensors().iter().map(|_| None).collect();
        Ok(Self { source, method, statistics, folder, tensors, made: Cell::new(0), found: 0 })
    }

    /// Levels that were made, not found.
    pub fn made(&self) -> usize {
        self.made.get()
    }

    /// Levels that an earlier run had made.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Makes sure that a tensor is there at these levels, and returns the error of each.
    ///
    /// # Errors
    /// If the folder holds levels of another origin, weights cannot be read, the disk is full, or the user stopped.
    pub fn errors(&mut self, tensor: usize, wanted: &[Level]) -> Result<Vec<f64>> {
        stop::check()?;
        let entry = &self.source.tensors()[tensor];
        let lossy: Vec<Level> = wanted.iter().copied().filter(|level| !level.is_lossless_for(entry.ty)).collect();
        if entry.vector || entry.role.bias || lossy.is_empty() {
            return Ok(vec![0.0; wanted.len()]);
        }
        let values = self.source.read_rows_f32(entry, 0..entry.rows)?;
        let weights = Matrix::from_vec(entry.rows, entry.cols, values);
        let statistics = (self.statistics)(entry.role);
        let origin = self.origin(&weights, &statistics);
        let found = self.find(entry, &origin)?;
        let have = |found: &Tensor| lossy.iter().all(|level| found.index.position(*level).is_some());
        let complete = match found {
            Some(found) if have(&found) => {
                self.found += lossy.len();
                found
            }
            found => {
                // Levels that another run made are made again beside the new ones.
                let before = found.iter().flat_map(|found| &found.index.levels);
                let mut levels: Vec<Level> = before.filter_map(|stored| Level::parse(&stored.level).ok()).collect();
                levels.extend(lossy.iter().filter(|level| !levels.contains(level)).copied().collect::<Vec<_>>());
                self.make(entry, &weights, &statistics, origin, &levels)?
            }
        };
        let error = |level: &Level| {
            let stored = complete.index.position(*level).map(|index| &complete.index.levels[index]);
            stored.map_or(0.0, |stored| stored.error)
        };
        let errors = wanted.iter().map(error).collect();
        self.tensors[tensor] = Some(complete);
        Ok(errors)
    }

    /// Puts a tensor at a level into `model`, unless the source has it so.
    ///
    /// # Errors
    /// If the level was not made, or its file is damaged.
    pub fn put(&self, model: &mut Replaced, tensor: usize, level: Level) -> Result<()> {
        let entry = &self.source.tensors()[tensor];
        if entry.vector || entry.role.bias || level.is_lossless_for(entry.ty) {
            return Ok(());
        }
        let found = self.tensors[tensor].as_ref();
        let position = found.and_then(|found| Some((found, found.index.position(level)?)));
        let (found, position) = position.with_context(|| format!("{}: no {level} in the database", entry.name))?;
        let stored = found.read(position)?;
        model.replace(entry.role, stored, sum_order(self.source, entry.role, entry.rows, level));
        Ok(())
    }

    fn origin(&self, weights: &Matrix, statistics: &Statistics) -> Origin {
        let mut hash = blake3::Hasher::new();
        feed(&mut hash, &statistics.second_moments);
        if let Some(hessian) = &statistics.hessian {
            feed(&mut hash, hessian.matrix().data());
        }
        let mut values = blake3::Hasher::new();
        values.update(&(weights.cols() as u64).to_le_bytes());
        feed(&mut values, weights.data());
        Origin {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            weights: values.finalize().to_hex().to_string(),
            method: self.method.card().name.into(),
            calibration: hash.finalize().to_hex().to_string(),
        }
    }

    fn paths(&self, entry: &TensorEntry) -> [PathBuf; 2] {
        let name: String = entry.role.gguf_name();
        ["json", "bin"].map(|extension| self.folder.path.join(format!("{name}.{extension}")))
    }

    fn find(&self, entry: &TensorEntry, origin: &Origin) -> Result<Option<Tensor>> {
        let [json, bin] = self.paths(entry);
        let text = match std::fs::read(&json) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", json.display())),
        };
        let damaged = || format!("{}: the file is damaged\n  next: delete it, and it is made anew", json.display());
        let index: Index = serde_json::from_slice(&text).with_context(damaged)?;
        let found = &index.origin;
        let difference = match () {
            () if found.version != origin.version || found.program != origin.program => {
                "another version of the program"
            }
            () if found.weights != origin.weights => "other weights: it belongs to another model",
            () if found.method != origin.method => "another method",
            () if found.calibration != origin.calibration => "another calibration",
            () => "",
        };
        if !difference.is_empty() {
            bail!(
                "--levels {}: `{}` was made from {difference}\n  next: name another folder, or delete this one",
                self.folder.path.display(),
                entry.name
            );
        }
        let file = PositionedFile::open(&bin)?;
        let end = |stored: &Stored| {
            let length: u64 = stored.fields.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
            stored.start.saturating_add(length)
        };
        let needed = index.levels.iter().map(end).max().unwrap_or(0);
        if needed != file.length() {
            let (file, found) = (bin.display(), file.length());
            bail!("{file}: {found} bytes, expected {needed}\n  next: delete it and its .json, and they are made anew");
        }
        Ok(Some(Tensor { index, file }))
    }

    fn make(
        &self,
        entry: &TensorEntry,
        weights: &Matrix,
        statistics: &Statistics,
        origin: Origin,
        levels: &[Level],
    ) -> Result<Tensor> {
        let [json, bin] = self.paths(entry);
        // Without the index nobody takes a half-made file for a whole one.
        let _ = std::fs::remove_file(&json);
        let mut file = AtomicFile::create(&bin, true)?;
        let mut index = Index { origin, levels: Vec::with_capacity(levels.len()) };
        let mut start = 0;
        for &level in levels {
            stop::check()?;
            let order = sum_order(self.source, entry.role, entry.rows, level);
            let ordered = order.as_ref().map(|order| gather(weights, order));
            let weights = ordered.as_ref().unwrap_or(weights);
            let stored = self.method.compress(weights, statistics, level);
            let stored = stored.with_context(|| format!("compressing {} to {level}", entry.name))?;
            let error = output_error(weights, &stored.dequantize()?, statistics)?;
            let (mut hash, mut fields) = (blake3::Hasher::new(), Vec::new());
            let begin = start;
            for field in stored.fields() {
                hash.update(&field.bytes);
                file.append(&field.bytes)?;
                start += field.bytes.len() as u64;
                fields.push((field.name, field.bytes.len() as u64));
            }
            let (descriptor, hash) = (stored.descriptor(), hash.finalize().to_hex().to_string());
            index.levels.push(Stored { level: level.to_string(), error, start: begin, descriptor, fields, hash });
            self.made.set(self.made.get() + 1);
        }
        file.finish()?;
        AtomicFile::write_bytes(&json, &serde_json::to_vec(&index)?, true)?;
        Ok(Tensor { index, file: PositionedFile::open(&bin)? })
    }
}

impl Index {
    fn position(&self, level: Level) -> Option<usize> {
        let name = level.to_string();
        self.levels.iter().position(|stored| stored.level == name)
    }
}

impl Tensor {
    fn read(&self, position: usize) -> Result<StoredMatrix> {
        let stored = &self.index.levels[position];
        let length: u64 = stored.fields.iter().map(|(_, bytes)| bytes).sum();
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_into(stored.start, &mut bytes)?;
        if blake3::hash(&bytes).to_hex().as_str() != stored.hash {
            let file = self.file.path().display();
            bail!("{file}: {} is damaged\n  next: delete the file and its .json, and they are made anew", stored.level);
        }
        let mut rest = bytes.as_slice();
        let mut fields = Vec::with_capacity(stored.fields.len());
        for (name, length) in &stored.fields {
            let (field, after) = rest.split_at_checked(*length as usize).context("a field ends beyond its level")?;
            fields.push((name.as_str(), field));
            rest = after;
        }
        let matrix = StoredMatrix::from_fields(&stored.descriptor, |name| {
            let field = fields.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes.to_vec());
            Ok(field.unwrap_or_default())
        })?;
        Ok(matrix)
    }
}

fn feed(hash: &mut blake3::Hasher, values: &[f32]) {
    for chunk in values.chunks(1 << 14) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(&bytes);
    }
}

fn gather(weights: &Matrix, order: &[usize]) -> Matrix {
    let values = order.iter().flat_map(|&row| weights.row(row)).copied().collect();
    Matrix::from_vec(weights.rows(), weights.cols(), values)
}

/// A folder of this run's own beside the output, where there is room for that anyway.
fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().map_or_else(|| "out".into(), |name| name.to_string_lossy().into_owned());
    output.with_file_name(format!(".{name}.{}.levels", std::process::id()))
}

/// Makes all levels of all tensors, with a bar.
///
/// # Errors
/// As [`Levels::errors`].
pub fn all_errors(levels: &mut Levels, wanted: &[Vec<Level>], show: Show) -> Result<Vec<Vec<f64>>> {
    let phase = show.phase("measuring", wanted.len() as u64);
    let mut errors = Vec::with_capacity(wanted.len());
    for (tensor, wanted) in wanted.iter().enumerate() {
        errors.push(levels.errors(tensor, wanted)?);
        phase.step();
    }
    Ok(errors)
}
