//! Everything that can be wrong with a model, one variant per way.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the file, the key or tensor, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The path is none of the kinds of model that can be read.
    #[error(
        "{}: not a model: {reason}; expected a Hugging Face directory (config.json, *.safetensors, tokenizer.json), a .gguf file, or a llama2.c .bin",
        path.display()
    )]
    NotAModel {
        /// What was asked for.
        path: PathBuf,
        /// Why it is not one.
        reason: String,
    },
    /// A size was asked for of a model that has no blocks to leave out.
    #[error(
        "{}: this model is all or nothing; one that opens at any size is written by compress --method bitstack --grid stack:8",
        path.display()
    )]
    NoBlocks {
        /// What was asked for.
        path: PathBuf,
    },
    /// Fewer bytes than the first block of every matrix and everything that is no matrix take.
    #[error("{}: {wanted} bytes hold no form of this model; the smallest takes {smallest}", path.display())]
    TooFewBytes {
        /// The model.
        path: PathBuf,
        /// What was asked for.
        wanted: u64,
        /// What is needed.
        smallest: u64,
    },
    /// The architecture has no description here.
    #[error("{file}: unknown architecture {found:?}; supported: {supported}")]
    UnknownArchitecture {
        /// The configuration's file.
        file: String,
        /// The name found.
        found: String,
        /// Every supported name.
        supported: String,
    },
    /// The architecture is known but this option of it is not.
    #[error("{file}: {key} = {found} is not supported; supported: {supported}")]
    Unsupported {
        /// The configuration's file.
        file: String,
        /// The option.
        key: String,
        /// Its value.
        found: String,
        /// The values that are.
        supported: String,
    },
    /// A configuration lacks a key.
    #[error("{file}: key {key:?} is missing")]
    MissingKey {
        /// The configuration's file.
        file: String,
        /// The key.
        key: String,
    },
    /// A key's value is of the wrong type or out of range.
    #[error("{file}: {key} = {found}, expected {expected}")]
    BadValue {
        /// The configuration's file.
        file: String,
        /// The key.
        key: String,
        /// Its value, shortened.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A file is not JSON.
    #[error("{file}: not valid JSON: {source}")]
    Json {
        /// The file.
        file: String,
        /// Position and reason.
        source: serde_json::Error,
    },
    /// The configuration promises a tensor that the files lack.
    #[error("{file}: tensor {tensor} is missing (the configuration says {shape})")]
    MissingTensor {
        /// The model.
        file: String,
        /// The tensor's name in that model.
        tensor: String,
        /// Its shape by the configuration.
        shape: String,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("{file}: tensor {tensor} has shape {found}, the configuration says {expected}")]
    TensorShape {
        /// The model.
        file: String,
        /// The tensor's name in that model.
        tensor: String,
        /// Shape in the file.
        found: String,
        /// Shape by the configuration.
        expected: String,
    },
    /// A tensor is of a type that cannot be a weight here.
    #[error("{file}: tensor {tensor} is of type {found}, expected {expected}")]
    TensorKind {
        /// The model.
        file: String,
        /// The tensor's name in that model.
        tensor: String,
        /// Type in the file.
        found: String,
        /// Types that would do.
        expected: String,
    },
    /// A weight is NaN or infinite.
    #[error("{file}: tensor {tensor} holds {value} at row {row}, column {column}: the weights are damaged")]
    NotFinite {
        /// The model.
        file: String,
        /// The tensor's name in that model.
        tensor: String,
        /// Row (output).
        row: usize,
        /// Column (input).
        column: usize,
        /// The value.
        value: f32,
    },
    /// The model has no tokenizer beside it.
    #[error("{file}: no tokenizer: {expected} is missing")]
    TokenizerMissing {
        /// The model.
        file: String,
        /// The file or key that should hold it.
        expected: String,
    },
    /// A token id is outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// More positions than the context holds.
    #[error(
        "the context holds {capacity} tokens, {wanted} were asked for; shorten the text or raise the context (the model's own limit is {limit})"
    )]
    ContextOverflow {
        /// Size of this cache.
        capacity: usize,
        /// Positions wanted.
        wanted: usize,
        /// The model's limit.
        limit: usize,
    },
    /// An argument of the library's caller does not fit.
    #[error("{what}: found {found}, expected {expected}")]
    Argument {
        /// Which argument.
        what: String,
        /// What was given.
        found: String,
        /// What fits.
        expected: String,
    },
    /// A cache of keys and values refuses.
    #[error(transparent)]
    Cache(Box<dyn std::error::Error + Send + Sync>),
    /// A file's format is wrong.
    #[error(transparent)]
    Format(#[from] brevity_formats::Error),
    /// The tokenizer is missing or damaged.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// A matrix could not be built.
    #[error("tensor {tensor}: {source}")]
    Part {
        /// The tensor's name.
        tensor: String,
        /// Why.
        source: Box<brevity_parts::Error>,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// What was asked of the model cannot be.
    pub fn argument(what: &str, found: impl ToString, expected: impl ToString) -> Self {
        Self::Argument { what: what.to_owned(), found: found.to_string(), expected: expected.to_string() }
    }
}
