//! What can be refused before any work is done.

use super::metadata;
use anyhow::{Context, Result, bail};
use brevity_model::{ModelSource, TensorKind};
use brevity_weights::plan::Rules;
use brevity_weights::registry::Chain;
use brevity_weights::{Level, Needs};
use std::path::Path;

/// What the output is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
}

/// Refuses a path that nothing can be written to, and an existing one unless `force`.
///
/// # Errors
/// As said, with what to do instead.
pub fn output(path: &Path, force: bool, kind: Kind) -> Result<()> {
    let shown = path.display();
    if let Ok(found) = std::fs::metadata(path) {
        if found.is_dir() && kind == Kind::File {
            bail!("{shown} is a directory\n  next: name a file in it, as in -o {}", path.join("model.gguf").display());
        }
        if !found.is_dir() && !found.is_file() {
            bail!("{shown} is neither a file nor a directory, so it cannot be replaced by one");
        }
        if found.is_file() && kind == Kind::Directory {
            bail!("{shown} is a file, and a directory is to be written\n  next: choose another name with -o");
        }
        if !force {
            bail!("{shown} exists already\n  next: choose another name with -o, or overwrite it with --force");
        }
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        Some(parent) => bail!("{shown}: there is no directory {}\n  next: create it first", parent.display()),
        None => Ok(()),
    }
}

/// Refuses rules that match no tensor of the model, or that its format cannot keep.
///
/// # Errors
/// As said.
pub fn rules(rules: &Rules, source: &ModelSource, kind: Kind) -> Result<()> {
    let names: Vec<&str> = source.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    for (regex, level) in &rules.overrides {
        if !names.iter().any(|name| regex.is_match(name)) {
            let example = names.iter().find(|name| name.starts_with("blk.")).unwrap_or(&"output.weight");
            bail!(
                "--tensor-type {regex}={level}: no tensor's name matches\n  next: `brevity inspect MODEL --tensors` lists them ({example}, ...)"
            );
        }
    }
    let head = source.tensors().iter().any(|tensor| tensor.role.kind == TensorKind::Output);
    if rules.output.is_some() && !head {
        bail!("--output-tensor-type: this model's head is its token embedding\n  next: say --token-embedding-type");
    }
    let all = rules.overrides.iter().map(|(_, level)| level).chain(&rules.output).chain(&rules.token_embedding);
    match all.into_iter().find(|level| !matches!(level, Level::Type(_))) {
        Some(level) if kind == Kind::File => {
            bail!("{level} for single tensors: GGUF has no such type\n  next: name a GGUF type (q4_k, q8_0, ...)")
        }
        _ => Ok(()),
    }
}

/// Refuses a model whose configuration or tokenizer cannot be put in GGUF.
///
/// # Errors
/// As said.
pub fn describable(source: &ModelSource, kind: Kind) -> Result<()> {
    match kind {
        Kind::File => metadata::gguf(source, "").map(|_| ()),
        Kind::Directory => Ok(()),
    }
}

/// Refuses a report that cannot be written.
///
/// # Errors
/// As [`output`].
pub fn report(path: Option<&Path>, force: bool) -> Result<()> {
    path.map_or(Ok(()), |path| output(path, force, Kind::File)).context("--report")
}

/// Refuses an importance matrix where it is not enough, or not of the model that is compressed.
///
/// # Errors
/// As said.
pub fn imatrix(path: Option<&Path>, chain: &Chain) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let (path, name) = (path.display(), chain.method.card().name);
    if let Some(fold) = chain.folds.first() {
        let fold = fold.card().name;
        bail!(
            "--imatrix {path}: {fold} changes what the matrices see, so it has to see text itself\n  next: leave out --imatrix, or {fold}"
        );
    }
    if chain.method.needs() == Needs::Hessian {
        bail!(
            "--imatrix {path}: method {name} needs the whole Hessian of each matrix's inputs, and an importance matrix is its \
             diagonal alone\n  next: leave out --imatrix, so that text is run, or choose --method imatrix"
        );
    }
    Ok(())
}
