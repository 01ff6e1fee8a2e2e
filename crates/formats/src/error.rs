//! One error for every way a file, a tensor or a request can be wrong.
//!
//! Variants of [`Error`] name the file and say what was found and what was expected. The lies that belong to one format are
//! listed beside it ([`GgufError`] and its sisters) and arrive here with their file.

use crate::gguf::GgufError;
use crate::grid::GridError;
use crate::imatrix::ImatrixError;
use crate::llama2c::Llama2cError;
use crate::safetensors::SafetensorsError;
use crate::types::TensorType;
use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between bytes on disk and typed tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "open", "read", "write", "rename".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// No space left while writing.
    #[error(
        "no space left on the disk of {}: {written} of {needed} bytes were written; free {} bytes or write elsewhere (-o)",
        path.display(), needed.saturating_sub(*written)
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that it needs in all (as far as they are known).
        needed: u64,
        /// Bytes that were written.
        written: u64,
    },

    /// The output exists already.
    #[error("{} exists already; pass --force to overwrite it", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },

    /// Another process is writing the same output.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },

    /// A directory that even `--force` does not replace.
    #[error(
        "{} is not replaced, because it does not look like a model: a directory is replaced only if it holds a config.json and no subdirectory",
        path.display()
    )]
    NotReplaced {
        /// The directory.
        path: PathBuf,
    },

    /// A small file that is not small.
    #[error("{} has {found} bytes; at most {limit} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The longest that is read.
        limit: u64,
    },

    /// A GGUF file that lies, or a plan that cannot be one.
    #[error("{}: {lie}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        lie: GgufError,
    },

    /// A safetensors file or index that lies, or a plan that cannot be one.
    #[error("{}: {lie}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        lie: SafetensorsError,
    },

    /// A llama2.c file that lies.
    #[error("{}: {lie}", path.display())]
    Llama2c {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        lie: Llama2cError,
    },

    /// An importance matrix that lies, or that is of another model.
    #[error("{}: {lie}", path.display())]
    Imatrix {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        lie: ImatrixError,
    },

    /// A part of a split or sharded model is not there.
    #[error("{} needs {}, which is missing", path.display(), shard.display())]
    MissingShard {
        /// The file that names it.
        path: PathBuf,
        /// The file that is missing.
        shard: PathBuf,
    },

    /// A tensor that the model does not have.
    #[error("{} has no tensor `{tensor}`", path.display())]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// Bytes outside a tensor were asked for.
    #[error("{}: bytes {from} to {to} of tensor `{tensor}` were asked for, which has {bytes}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte asked for.
        from: u64,
        /// End of the range.
        to: u64,
        /// Bytes of the tensor.
        bytes: u64,
    },

    /// A writer was given too many or too few bytes of a tensor.
    #[error("{}: tensor `{tensor}` was given {found} bytes; its plan says {expected}", path.display())]
    TensorLength {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes given.
        found: u64,
        /// Bytes planned.
        expected: u64,
    },

    /// A writer was given a tensor out of the order of its plan.
    #[error("{}: tensor `{found}` was written where the plan has {expected}", path.display())]
    TensorOrder {
        /// The file.
        path: PathBuf,
        /// The tensor written.
        found: String,
        /// What should have come.
        expected: String,
    },

    /// A writer was finished before its plan was.
    #[error("{}: only {complete} of {planned} tensors were written; `{tensor}` comes next", path.display())]
    TensorsMissing {
        /// The file.
        path: PathBuf,
        /// The first tensor that is missing.
        tensor: String,
        /// Tensors that are there.
        complete: usize,
        /// Tensors planned.
        planned: usize,
    },

    /// A name that is no tensor type.
    #[error("`{name}` is no tensor type; types are {}", known_types())]
    UnknownType {
        /// The name.
        name: String,
    },

    /// A type that Brevity knows by name but cannot convert this way.
    #[error("{} is not supported yet for {operation}", ty.name().to_uppercase())]
    UnsupportedType {
        /// The type.
        ty: TensorType,
        /// What was asked: "dequantising", "quantising", "unpacking codes", "writing GGUF".
        operation: &'static str,
    },

    /// A buffer of the wrong length.
    #[error("{what}: length {found}, expected {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that it must have (or of which it must be a multiple).
        expected: usize,
    },

    /// A weight that is NaN or infinite.
    #[error("{what}: value {index} is {value}, which no format can hold")]
    NonFinite {
        /// The tensor or buffer.
        what: String,
        /// Position of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },

    /// An integer grid, or the tensors and the configuration that claim to hold one.
    #[error(transparent)]
    Grid(#[from] GridError),
}

impl Error {
    /// Wraps an error of the operating system with what was tried and on which file.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Error {
        Error::Io { action, path: path.into(), source }
    }

    /// Says in which file a lie was found.
    pub(crate) fn gguf(path: impl Into<PathBuf>, lie: GgufError) -> Error {
        let path = path.into();
        match lie {
            GgufError::Io(error) => Error::io("read", path, error),
            lie => Error::Gguf { path, lie },
        }
    }

    /// Says in which file a lie was found.
    pub(crate) fn safetensors(path: impl Into<PathBuf>, lie: SafetensorsError) -> Error {
        let path = path.into();
        Error::Safetensors { path, lie }
    }

    /// Says in which file a lie was found.
    pub(crate) fn llama2c(path: impl Into<PathBuf>, lie: Llama2cError) -> Error {
        let path = path.into();
        Error::Llama2c { path, lie }
    }
}

fn known_types() -> String {
    let names: Vec<_> = TensorType::all().map(TensorType::name).collect();
    names.join(", ")
}
