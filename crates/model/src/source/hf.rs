//! Models in Hugging Face layout, in a directory or embedded in the binary.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use brevity_formats::TensorType;
use brevity_formats::safetensors::{Checkpoint, Header, TensorInfo};

use super::packed::Scheme;
use super::stack;
use super::tensor::{Found, Layout, Store};
use super::{ModelSource, Parts, SourceKind, TensorEntry, bytes};
use brevity_parts::StoredMatrix;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::names::Role;
use crate::tokenizer::{HfFiles, Tokenizer};

/// A tokenizer as a GGUF file of metadata only.
const TOKENIZER_GGUF: &str = "tokenizer.gguf";

/// The files of a model that lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedFiles {
    /// A name for messages.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// The tokenizer's files.
    pub tokenizer: HfFiles<'static>,
}

struct FileStore {
    dir: PathBuf,
    files: Checkpoint,
    scheme: Option<Scheme>,
}

impl Store for FileStore {
    fn read(&self, index: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let tensor = self.files.tensors().get(index);
        let tensor = tensor.ok_or_else(|| Error::argument("tensor", index, "one of the checkpoint's"))?;
        Ok(self.files.read(tensor, range)?)
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.dir)
    }

    fn read_packed(&self, entry: &TensorEntry) -> Result<StoredMatrix> {
        let scheme = self.scheme.as_ref();
        let scheme = scheme.ok_or_else(|| Error::argument("packed tensor", &entry.source_name, "none"))?;
        scheme.matrix(&self.files, &entry.source_name, entry.rows, entry.cols)
    }
}

struct MemoryStore {
    bytes: &'static [u8],
    header: Header,
}

impl Store for MemoryStore {
    fn read(&self, index: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let slice = || {
            let tensor = self.header.tensors.get(index).filter(|tensor| range.end <= tensor.bytes)?;
            let start = usize::try_from(self.header.data_start + tensor.offset).ok()?;
            self.bytes.get(start + range.start as usize..start + range.end as usize)
        };
        let bytes = slice().ok_or_else(|| Error::argument("tensor", index, "one of the file's"))?;
        Ok(bytes.to_vec())
    }
}

/// Opens a directory; of a model in blocks, as many as `limit` bytes hold.
pub fn open(path: &Path, limit: Option<u64>) -> Result<ModelSource> {
    let not_a_model = |reason: &str| Error::NotAModel { path: path.to_owned(), reason: reason.to_owned() };
    let config_path = path.join("config.json");
    let config_json =
        bytes::read_if_there(&config_path)?.ok_or_else(|| not_a_model("the directory has no config.json"))?;
    let mut config = Config::from_hf_json(&config_path.display().to_string(), &config_json)?;
    let generation = path.join("generation_config.json");
    if let Some(text) = bytes::read_if_there(&generation)? {
        config.add_generation_config(&generation.display().to_string(), &text)?;
    }
    let mut scheme = Scheme::read(path, &config_json)?;
    let files = Checkpoint::open(path)?;
    if let Some(limit) = limit {
        match &mut scheme {
            Some(Scheme::Brevity(matrices)) => stack::keep(&files, matrices, limit)?,
            _ => return Err(Error::NoBlocks { path: path.to_owned() }),
        }
    }
    let mut found = found(&config, files.tensors());
    if let Some(scheme) = &scheme {
        find_packed(&config, scheme, &files, &mut found);
    }
    let dir = path.to_owned();
    Parts {
        label: path.display().to_string(),
        kind: SourceKind::HuggingFace,
        found,
        config,
        file_bytes: files.file_bytes(),
        store: Box::new(FileStore { dir: path.to_owned(), files, scheme }),
        gguf: None,
        read_tokenizer: Box::new(move || read_tokenizer(&dir)),
    }
    .finish()
}

/// The tokenizer of a directory: tokenizer.json, or the metadata in `tokenizer.gguf` that Brevity writes where there was none.
fn read_tokenizer(dir: &Path) -> Result<Tokenizer> {
    let gguf = dir.join(TOKENIZER_GGUF);
    if dir.join("tokenizer.json").exists() || !gguf.exists() {
        return Ok(Tokenizer::from_hf_dir(dir)?);
    }
    let file = brevity_formats::gguf::GgufFile::open(&gguf)?;
    Ok(Tokenizer::from_gguf(file.metadata())?)
}

pub fn embedded(files: EmbeddedFiles) -> Result<ModelSource> {
    let config = Config::from_hf_json(files.name, files.config)?;
    let lie = |lie| Error::Format(brevity_formats::Error::Safetensors { path: files.name.into(), lie });
    let header = Header::parse(files.weights).map_err(lie)?;
    Parts {
        label: files.name.to_owned(),
        kind: SourceKind::HuggingFace,
        found: found(&config, &header.tensors),
        config,
        file_bytes: files.weights.len() as u64,
        store: Box::new(MemoryStore { bytes: files.weights, header }),
        gguf: None,
        read_tokenizer: Box::new(move || Ok(Tokenizer::from_hf_files(&files.tokenizer)?)),
    }
    .finish()
}

fn find_packed(config: &Config, scheme: &Scheme, files: &Checkpoint, found: &mut HashMap<Role, Found>) {
    for spec in config.tensors().into_iter().filter(|spec| !spec.vector) {
        let Some(name) = spec.role.hf_name(config.architecture) else { continue };
        if let Some(packed) = scheme.find(files, &name) {
            let tensor = Found {
                source_name: name,
                shape: vec![packed.rows, packed.cols],
                ty: TensorType::I32,
                packing: Some(packed.name),
                bytes: packed.bytes,
                layout: Layout::Packed,
                index: usize::MAX,
            };
            found.insert(spec.role, tensor);
        }
    }
}

fn found(config: &Config, tensors: &[TensorInfo]) -> HashMap<Role, Found> {
    let found = tensors.iter().enumerate().filter_map(|(index, tensor)| {
        let role = Role::from_hf(config.architecture, &tensor.name)?;
        let layout = match role.transposed_in_hf(config.architecture) {
            true => Layout::Transposed,
            false => Layout::Rows,
        };
        let found = Found {
            source_name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            ty: tensor.ty,
            packing: None,
            bytes: tensor.bytes,
            layout,
            index,
        };
        Some((role, found))
    });
    found.collect()
}
