//! Files that archives are differences from, known by their hash.

use crate::codec::Failure;
use crate::error::Result;
use crate::lm::Models;
use brevity_formats::pread::PositionedFile;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// First bytes of the BLAKE3 of a file.
pub type Hash = [u8; 16];
/// Bytes that are hashed at once.
const PIECE: u64 = 1 << 22;

/// A file of the base.
#[derive(Debug)]
pub struct Base {
    /// Its path, as archives name it.
    pub name: String,
    /// Its hash.
    pub hash: Hash,
    file: PositionedFile,
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Base {
    fn open(path: &Path, name: &str) -> Result<Self> {
        let file = PositionedFile::open(path)?;
        let (mut hasher, mut at, mut piece) = (blake3::Hasher::new(), 0, Vec::new());
        while at < file.length() {
            piece.resize((file.length() - at).min(PIECE) as usize, 0);
            file.read_into(at, &mut piece)?;
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(Self { name: name.into(), hash, file })
    }

    /// Some of its bytes; nothing where it has not as many.
    pub fn read(&self, offset: u64, count: usize) -> Option<Vec<u8>> {
        offset.checked_add(count as u64).filter(|end| *end <= self.file.length())?;
        let mut bytes = vec![0; count];
        self.file.read_into(offset, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// Where the files of a base lie: a directory of them, the one file, or nowhere.
#[derive(Debug, Default)]
pub struct Bases {
    root: Option<PathBuf>,
    open: Mutex<BTreeMap<String, Arc<Base>>>,
    models: Models,
}

impl Bases {
    /// Those below a directory, or the one file.
    pub fn new(root: &Path) -> Self {
        Self { root: Some(root.to_path_buf()), ..Self::default() }
    }

    /// The same, with a model that blocks may have been coded behind.
    pub fn with_models(self, models: Models) -> Self {
        Self { models, ..self }
    }

    pub(crate) fn models(&self) -> &Models {
        &self.models
    }

    /// Where the file of this name lies.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let root = self.root.as_ref()?;
        Some(if root.is_dir() { root.join(name) } else { root.clone() })
    }

    /// The file of this name, hashed; nothing where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Arc<Base>>> {
        let Some(path) = self.path(name).filter(|path| path.is_file()) else { return Ok(None) };
        // Held while a file is hashed: no two threads hash the same one.
        let Ok(mut open) = self.open.lock() else { return Ok(None) };
        if let Some(base) = open.get(name) {
            return Ok(Some(Arc::clone(base)));
        }
        let base = Arc::new(Base::open(&path, name)?);
        open.insert(name.into(), Arc::clone(&base));
        Ok(Some(base))
    }

    /// The file of this name, if it has this hash.
    pub fn require(&self, name: &str, hash: &Hash) -> std::result::Result<Arc<Base>, Failure> {
        let refuse = |found: String| Failure::Base { name: name.into(), expected: hex(hash), found };
        if crate::archive::check_path(name).is_err() {
            return Err(Failure::Malformed);
        }
        let Some(path) = self.path(name) else { return Err(refuse("no base is given (--base)".into())) };
        match self.get(name) {
            Ok(Some(base)) if base.hash == *hash => Ok(base),
            Ok(Some(base)) => Err(refuse(format!("{} has {}", path.display(), hex(&base.hash)))),
            Ok(None) => Err(refuse(format!("{} is not there", path.display()))),
            Err(error) => Err(refuse(error.to_string())),
        }
    }
}
