//! A model whose tensors are changed on the way ([`Folds`]): read from another source, folded, served as f32.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use brevity_formats::TensorType;
use brevity_kernels::Matrix;
use brevity_parts::StoredMatrix;

use super::tensor::{Layout, Store};
use super::{ModelSource, TensorEntry};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fold::{Fold, Folds};
use crate::names::{Role, TensorKind};

struct FoldedStore {
    original: Arc<ModelSource>,
    /// For each tensor the original's, and its fold if it has one.
    tensors: Vec<(TensorEntry, Option<Fold>)>,
    /// The tensor that was read last, for those whose rows cannot be had one without the others.
    last: Mutex<Option<(usize, Arc<Matrix>)>>,
}

impl FoldedStore {
    fn tensor(&self, index: usize) -> Result<&(TensorEntry, Option<Fold>)> {
        self.tensors.get(index).ok_or_else(|| Error::argument("tensor", index, "one of the model's"))
    }

    fn rows(&self, entry: &TensorEntry, fold: &Fold, rows: Range<usize>) -> Result<Matrix> {
        let values = self.original.read_rows_f32(entry, rows.clone())?;
        let mut w = Matrix::from_vec(rows.len(), entry.cols, values);
        fold.apply(&mut w, rows.start);
        Ok(w)
    }

    fn whole(&self, index: usize, entry: &TensorEntry, fold: &Fold) -> Result<Arc<Matrix>> {
        if let Ok(last) = self.last.lock()
            && let Some((found, w)) = &*last
            && *found == index
        {
            return Ok(Arc::clone(w));
        }
        let w = Arc::new(self.rows(entry, fold, 0..entry.rows)?);
        if let Ok(mut last) = self.last.lock() {
            *last = Some((index, Arc::clone(&w)));
        }
        Ok(w)
    }
}

impl Store for FoldedStore {
    fn read(&self, index: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let (entry, fold) = self.tensor(index)?;
        let Some(fold) = fold else {
            return self.original.store.read(entry.index, range);
        };
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let row = 4 * entry.cols.max(1) as u64;
        let rows = (range.start / row) as usize..(range.end.div_ceil(row) as usize).min(entry.rows);
        let all = match fold.rows_are_independent() {
            true => bytes(self.rows(entry, fold, rows.clone())?.data()),
            false => bytes(&self.whole(index, entry, fold)?.data()[rows.start * entry.cols..rows.end * entry.cols]),
        };
        let start = rows.start as u64 * row;
        let wanted = (range.start - start) as usize..(range.end - start) as usize;
        let found = all.get(wanted.clone()).map(<[u8]>::to_vec);
        found.ok_or_else(|| Error::argument("bytes of a tensor", wanted.end, all.len()))
    }

    fn directory(&self) -> Option<&Path> {
        self.original.directory()
    }

    fn read_packed(&self, entry: &TensorEntry) -> Result<StoredMatrix> {
        self.original.read_packed(&self.tensor(entry.index)?.0)
    }
}

impl ModelSource {
    /// The model with some tensors folded. Label, files and tokenizer are the original's; folded tensors are f32, their
    /// [`bytes`](TensorEntry::bytes) those that the original takes.
    ///
    /// # Errors
    /// If a fold is of a tensor that the model lacks, or does not fit its shape.
    pub fn folded(original: Arc<ModelSource>, mut folds: Folds) -> Result<ModelSource> {
        let digest = folds.digest() ^ original.fold_digest.unwrap_or(0).rotate_left(1);
        let config = Config { tied: original.config.tied && !folds.untie, ..original.config.clone() };
        let embedding = Role::global(TensorKind::TokenEmbedding);
        let mut entries = Vec::new();
        let mut tensors = Vec::new();
        for spec in config.tensors() {
            let untied = original.config.tied && spec.role == Role::global(TensorKind::Output);
            let source = original.require(if untied { embedding } else { spec.role })?;
            let fold = folds.take(spec.role).or_else(|| untied.then(Fold::default));
            let mut entry = TensorEntry { index: tensors.len(), role: spec.role, ..source.clone() };
            entry.name = spec.role.gguf_name();
            if let Some(fold) = &fold {
                fold.check(&entry)?;
                (entry.ty, entry.packing, entry.layout) = (TensorType::F32, None, Layout::Rows);
            }
            tensors.push((source.clone(), fold));
            entries.push(entry);
        }
        if let Some((role, _)) = folds.iter().next() {
            return Err(Error::argument("a folded tensor", role, "one of the model's"));
        }
        let by_role = entries.iter().enumerate().map(|(index, entry)| (entry.role, index)).collect();
        let tokenizer = Arc::clone(&original);
        Ok(ModelSource {
            label: original.label.clone(),
            kind: original.kind,
            config,
            tensors: entries,
            by_role,
            file_bytes: original.file_bytes,
            gguf: original.gguf.clone(),
            read_tokenizer: Box::new(move || tokenizer.tokenizer().cloned()),
            tokenizer: OnceLock::new(),
            dense: Mutex::new(None),
            fold_digest: Some(digest),
            untied: original.untied || original.config.tied && folds.untie,
            store: Box::new(FoldedStore { original, tensors, last: Mutex::new(None) }),
        })
    }
}
