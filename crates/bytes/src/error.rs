//! What can go wrong.

use std::path::{Path, PathBuf};

/// Why something cannot be packed or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The bytes do not begin as an archive does.
    #[error("this is no archive of brevity pack: it begins with {found:02x?}, expected {expected:02x?}")]
    Magic {
        /// The first bytes.
        found: Vec<u8>,
        /// What an archive begins with.
        expected: [u8; 7],
    },
    /// A version that this program does not know.
    #[error("the archive has version {found}, this program reads version {known}")]
    Version {
        /// The archive's.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// The end is missing.
    #[error("the archive of {length} bytes is cut off, or its end is damaged")]
    Truncated {
        /// Bytes that there are.
        length: u64,
    },
    /// A part does not have the hash that is written beside it.
    #[error("{what} at byte {offset} is damaged")]
    Damaged {
        /// Which part.
        what: String,
        /// Where it lies in the archive.
        offset: u64,
    },
    /// The index is whole and says what cannot be.
    #[error("the archive's index is wrong: {reason}")]
    Index {
        /// What is wrong.
        reason: String,
    },
    /// More memory than is allowed.
    #[error("{what} needs {needed} bytes of memory, and --memory allows {limit}")]
    Memory {
        /// What needs it.
        what: String,
        /// How much.
        needed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A path that must not be in an archive, or cannot be unpacked.
    #[error("path {path:?}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path that is asked for and not there.
    #[error("{path:?} is not in the archive")]
    Missing {
        /// The path.
        path: String,
    },
    /// Something that exists already.
    #[error("{} exists already (--force replaces it)", path.display())]
    Exists {
        /// Its path.
        path: PathBuf,
    },
    /// A file that changed while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Its path.
        path: PathBuf,
    },
    /// Neither file nor directory nor link.
    #[error("{} is neither a file nor a directory nor a symbolic link", path.display())]
    Special {
        /// Its path.
        path: PathBuf,
    },
    /// A level that is not there.
    #[error("there is no level {level}: levels are {known}")]
    Level {
        /// What was asked for.
        level: u8,
        /// What there is.
        known: String,
    },
    /// A base that is missing, or another one.
    #[error("the archive is a difference from {name:?} (BLAKE3 {expected}…): {found}")]
    Base {
        /// Its name in the archive.
        name: String,
        /// The first 16 bytes of its hash.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The model that predicts is missing, or another one.
    #[error(
        "the archive was packed with the model {name:?} (BLAKE3 {expected}…): {found}\n  next: name that model with --model"
    )]
    Model {
        /// Its name in the archive.
        name: String,
        /// The first 16 bytes of its hash.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The model that predicts cannot be run.
    #[error("the model that predicts: {0}")]
    Predict(String),
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
    /// Files are written by `formats`.
    #[error(transparent)]
    Format(#[from] brevity_formats::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<brevity_model::Error> for Error {
    fn from(error: brevity_model::Error) -> Self {
        Self::Predict(error.to_string())
    }
}

impl Error {
    /// An error of the system.
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn index(reason: impl Into<String>) -> Self {
        Self::Index { reason: reason.into() }
    }
}
