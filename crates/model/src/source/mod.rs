//! An opened model of any kind: its configuration, its tokenizer, and its tensors, read when asked for.
//!
//! | kind | recognised by |
//! |---|---|
//! | Hugging Face directory | `config.json`; one or several safetensors; linears packed by GPTQ, AWQ, compressed-tensors or Brevity |
//! | GGUF, single or split | the file's magic |
//! | llama2.c | `.bin`, with `tokenizer.bin` beside it |
//! | embedded | [`ModelSource::embedded`] |
//! | folded | [`ModelSource::folded`]: another one whose weights are scaled or rotated on the way |
//!
//! Every tensor that the configuration promises is found and its shape checked when the model is opened; weights are
//! checked to be finite when they are read. Nothing is read twice at once: the peak of loading is one tensor.

mod bytes;
mod finite;
mod folded;
mod gguf;
mod hf;
mod llama2c;
mod packed;
mod stack;
mod tensor;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use brevity_formats::TensorType;
use brevity_formats::gguf::GgufFile;
use brevity_kernels::Matrix;
use brevity_parts::{CompressedMatrix, StoredMatrix};

pub use hf::EmbeddedFiles;
pub use tensor::TensorEntry;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::names::{Role, TensorKind};
use crate::tokenizer::Tokenizer;
use tensor::{Found, Layout, Store};

/// Where weights come from: a [`ModelSource`], or one with matrices of its own in their place.
pub trait WeightSource {
    /// The matrices of roles that read the same input, one for each role in order; rows of neighbours may come stacked
    /// in one matrix where that saves multiplications.
    fn matrices(&self, roles: &[Role]) -> Result<Vec<CompressedMatrix>>;

    /// A norm or a bias.
    fn vector(&self, role: Role) -> Result<Vec<f32>>;
}

/// What a model came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A Hugging Face directory, or one embedded in the binary.
    HuggingFace,
    /// GGUF.
    Gguf,
    /// llama2.c.
    Llama2c,
}

/// An opened model.
pub struct ModelSource {
    label: String,
    kind: SourceKind,
    config: Config,
    tensors: Vec<TensorEntry>,
    by_role: HashMap<Role, usize>,
    store: Box<dyn Store>,
    file_bytes: u64,
    gguf: Option<Arc<GgufFile>>,
    read_tokenizer: Box<dyn Fn() -> Result<Tokenizer> + Send + Sync>,
    tokenizer: OnceLock<Tokenizer>,
    /// The packed tensor whose rows were read last, dequantised: rows are asked for one after another.
    dense: Mutex<Option<(Role, Arc<Matrix>)>>,
    fold_digest: Option<u64>,
    /// Whether folds made a head of its own of a tied one.
    untied: bool,
}

impl ModelSource {
    /// Opens a model of any kind.
    ///
    /// # Errors
    /// If it is none, its architecture is unknown, a file or tensor is missing, or a shape contradicts the
    /// configuration.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        if metadata.is_dir() {
            return hf::open(path, None);
        }
        let not_a_model = |reason: &str| Error::NotAModel { path: path.to_owned(), reason: reason.to_owned() };
        if bytes::starts_with(path, b"GGUF")? {
            return gguf::open(path);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gguf") => Err(not_a_model("the file does not begin with GGUF")),
            Some("safetensors") => {
                Err(not_a_model("a .safetensors file alone has no configuration; name its directory"))
            }
            Some("bin") => llama2c::open(path),
            _ => Err(not_a_model("its name ends in none of .gguf, .bin, and its contents are not GGUF")),
        }
    }

    /// Opens as much of a model in blocks (a directory that `compress --method bitstack` wrote) as `bytes` of weights
    /// hold: the blocks that take off most loss per byte. Nothing else is read.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if the model is not in blocks or even its smallest form is larger.
    pub fn open_within(path: impl AsRef<Path>, bytes: u64) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        match metadata.is_dir() {
            true => hf::open(path, Some(bytes)),
            false => Err(Error::NoBlocks { path: path.to_owned() }),
        }
    }

    /// Opens a model whose files are in memory.
    pub fn embedded(files: EmbeddedFiles) -> Result<Self> {
        hf::embedded(files)
    }

    /// Path or name, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it came as.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of all files with weights.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The directory of a model in Hugging Face layout, where its other files are; `None` for an embedded one.
    pub fn directory(&self) -> Option<&Path> {
        self.store.directory()
    }

    /// The file itself, of a model in GGUF: its metadata goes along when it is written again.
    pub fn gguf(&self) -> Option<&GgufFile> {
        self.gguf.as_deref()
    }

    /// What tells the folds of a [folded](Self::folded) model from others; `None` for a model as it lies in its files.
    pub fn fold_digest(&self) -> Option<u64> {
        self.fold_digest
    }

    /// The model that ends after its first `count` blocks (all, if there are fewer): what costs time and memory in it tells
    /// what the whole will cost. Metadata and file sizes stay the whole model's.
    pub fn first_blocks(mut self, count: usize) -> Self {
        self.config.windows.truncate(count);
        self.tensors.retain(|tensor| tensor.role.layer.is_none_or(|layer| layer < count));
        self.by_role = self.tensors.iter().enumerate().map(|(index, tensor)| (tensor.role, index)).collect();
        self
    }

    /// Its tensors, in the order in which the model uses them.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// The tensor of a role.
    pub fn tensor(&self, role: Role) -> Option<&TensorEntry> {
        self.by_role.get(&role).map(|&index| &self.tensors[index])
    }

    /// The tensor of a role, or an error that names it.
    pub fn require(&self, role: Role) -> Result<&TensorEntry> {
        self.tensor(role).ok_or_else(|| Error::MissingTensor {
            file: self.label.clone(),
            tensor: role.gguf_name(),
            shape: "to have none such".to_owned(),
        })
    }

    /// Its tokenizer, read at the first call.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = (self.read_tokenizer)()?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// Number of weights in all tensors; a head that folds untied from the embedding counts with it.
    pub fn weights(&self) -> u64 {
        let head = Role::global(TensorKind::Output);
        let counted = self.tensors.iter().filter(|tensor| !(self.untied && tensor.role == head));
        counted.map(|tensor| tensor.rows as u64 * tensor.cols as u64).sum()
    }

    /// Rows of a tensor as f32, outputs × inputs; checked to be finite.
    pub fn read_rows_f32(&self, entry: &TensorEntry, rows: Range<usize>) -> Result<Vec<f32>> {
        if entry.is_packed() {
            let dense = self.dequantized(entry)?;
            let values = dense.data()[rows.start * entry.cols..rows.end * entry.cols].to_vec();
            finite::check_values(&self.label, entry, rows.start, &values)?;
            return Ok(values);
        }
        let bytes = self.read_raw_rows(entry, rows.clone())?;
        let mut out = vec![0.0; rows.len() * entry.cols];
        brevity_formats::blocks::dequantize(entry.ty, &bytes, &mut out)?;
        finite::check_values(&self.label, entry, rows.start, &out)?;
        Ok(out)
    }

    fn dequantized(&self, entry: &TensorEntry) -> Result<Arc<Matrix>> {
        if let Ok(last) = self.dense.lock()
            && let Some((role, dense)) = &*last
            && *role == entry.role
        {
            return Ok(Arc::clone(dense));
        }
        let dense = Arc::new(self.store.read_packed(entry)?.dequantize().map_err(|source| part(entry, source))?);
        if let Ok(mut last) = self.dense.lock() {
            *last = Some((entry.role, Arc::clone(&dense)));
        }
        Ok(dense)
    }

    /// The parts of a tensor that is stored as several ([`TensorEntry::is_packed`]).
    pub fn read_packed(&self, entry: &TensorEntry) -> Result<StoredMatrix> {
        self.store.read_packed(entry)
    }

    /// All bytes of a tensor, row by row (outputs × inputs), as stored.
    pub fn read_raw(&self, entry: &TensorEntry) -> Result<Vec<u8>> {
        self.read_raw_rows(entry, 0..entry.rows)
    }

    /// The bytes of some rows.
    pub fn read_raw_rows(&self, entry: &TensorEntry, rows: Range<usize>) -> Result<Vec<u8>> {
        let row = entry.row_bytes();
        match entry.layout {
            Layout::Rows => {
                let at = |index: usize| row as u64 * index as u64;
                self.store.read(entry.index, at(rows.start)..at(rows.end))
            }
            Layout::Transposed => {
                let all = self.store.read(entry.index, 0..(row * entry.rows) as u64)?;
                Ok(bytes::transpose(&all, entry.cols, entry.rows, entry.ty.block_bytes(), rows))
            }
            Layout::Packed => Err(Error::TensorKind {
                file: self.label.clone(),
                tensor: entry.source_name.clone(),
                found: "several tensors".to_owned(),
                expected: "rows of one type".to_owned(),
            }),
        }
    }

    /// A tensor as the kernels read it.
    pub fn load_matrix(&self, entry: &TensorEntry) -> Result<CompressedMatrix> {
        self.load_stack(&[entry])
    }

    /// Tensors of one type and as many inputs, their rows one after another in one matrix.
    fn load_stack(&self, entries: &[&TensorEntry]) -> Result<CompressedMatrix> {
        let [first, ..] = entries else { return Err(Error::argument("tensors to load", 0, "at least 1")) };
        if first.is_packed() {
            let stored = self.store.read_packed(first)?;
            finite::check_stored(&self.label, first, &stored)?;
            return CompressedMatrix::pack(stored).map_err(|source| part(first, source));
        }
        let mut bytes = Vec::new();
        for entry in entries {
            let raw = self.read_raw(entry)?;
            finite::check_bytes(&self.label, entry, &raw)?;
            match bytes.is_empty() {
                true => bytes = raw,
                false => bytes.extend_from_slice(&raw),
            }
        }
        let rows = entries.iter().map(|entry| entry.rows).sum();
        CompressedMatrix::from_bytes(first.ty, rows, first.cols, &bytes).map_err(|source| part(first, source))
    }

    /// A norm, bias or other vector as f32.
    pub fn load_vector(&self, entry: &TensorEntry) -> Result<Vec<f32>> {
        self.read_rows_f32(entry, 0..entry.rows)
    }

    fn stackable(&self, entries: &[&TensorEntry]) -> bool {
        let rows = |entry: &&TensorEntry| entry.layout == Layout::Rows;
        let (ty, cols) = (entries[0].ty, entries[0].cols);
        entries.iter().all(|entry| rows(entry) && entry.ty == ty && entry.cols == cols)
    }
}

impl WeightSource for ModelSource {
    fn matrices(&self, roles: &[Role]) -> Result<Vec<CompressedMatrix>> {
        let entries = roles.iter().map(|&role| self.require(role)).collect::<Result<Vec<_>>>()?;
        match entries.len() > 1 && self.stackable(&entries) {
            true => Ok(vec![self.load_stack(&entries)?]),
            false => entries.into_iter().map(|entry| self.load_matrix(entry)).collect(),
        }
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>> {
        self.load_vector(self.require(role)?)
    }
}

/// What each kind of model gathers before the common checks.
struct Parts {
    label: String,
    kind: SourceKind,
    config: Config,
    store: Box<dyn Store>,
    found: HashMap<Role, Found>,
    file_bytes: u64,
    gguf: Option<Arc<GgufFile>>,
    read_tokenizer: Box<dyn Fn() -> Result<Tokenizer> + Send + Sync>,
}

impl Parts {
    /// Matches the tensors found with those that the configuration promises.
    fn finish(self) -> Result<ModelSource> {
        let Parts { label, kind, config, store, mut found, file_bytes, gguf, read_tokenizer } = self;
        let mut tensors = Vec::new();
        for spec in config.tensors() {
            let name = || match kind {
                SourceKind::HuggingFace => spec.role.hf_name(config.architecture),
                _ => Some(spec.role.gguf_name()),
            };
            let tensor = found.remove(&spec.role).ok_or_else(|| Error::MissingTensor {
                file: label.clone(),
                tensor: name().unwrap_or_else(|| spec.role.gguf_name()),
                shape: format!("{}×{}", spec.rows, spec.cols),
            })?;
            tensors.push(tensor.check(&label, spec)?);
        }
        let by_role = tensors.iter().enumerate().map(|(index, tensor)| (tensor.role, index)).collect();
        Ok(ModelSource {
            label,
            kind,
            config,
            tensors,
            by_role,
            store,
            file_bytes,
            gguf,
            read_tokenizer,
            tokenizer: OnceLock::new(),
            dense: Mutex::new(None),
            fold_digest: None,
            untied: false,
        })
    }
}

fn part(entry: &TensorEntry, source: brevity_parts::Error) -> Error {
    Error::Part { tensor: entry.source_name.clone(), source: Box::new(source) }
}

/// Whether a type can hold weights.
fn holds_weights(ty: TensorType) -> bool {
    (ty.is_float() || ty.is_quantized()) && ty.readable()
}
