//! Importance matrices of a model: made from text as llama-imatrix makes them, and read back for a model.
//!
//! For the same windows of the same text the file has the names, shapes, counts and metadata that llama-imatrix writes: one
//! entry for each linear of the blocks (those that share an input have equal ones), and one for the head where that is
//! asked for. Sums are those of our own forward pass with f32 activations, added up in double precision.

use crate::evaluate::{self, Text};
use crate::progress::Show;
use anyhow::{Context, Result, bail};
use brevity_formats::Error as FormatError;
use brevity_formats::imatrix::{Entry, Imatrix, ImatrixError};
use brevity_model::forward::Options;
use brevity_model::source::TensorEntry;
use brevity_model::stream::Stream;
use brevity_model::taps::{Place, SecondMoments, Site};
use brevity_model::{ModelSource, Role, TensorKind};
use brevity_parts::Activation;
use std::collections::HashMap;
use std::path::Path;

/// Hidden states that are in memory at once, in bytes; more text goes through the blocks in several passes.
const STATES: usize = 256 << 20;

/// What is to be counted.
pub struct Wanted {
    /// The head's inputs too: those of `output.weight`, or of `token_embd.weight` where they are one.
    pub output: bool,
    /// The text's name in the file.
    pub dataset: String,
    pub window: usize,
}

/// Runs the text through the model and sums up the squares of what its linears see.
///
/// # Errors
/// If weights cannot be read, a sum is not finite, or the user stopped.
pub fn collect(source: &ModelSource, text: &Text, wanted: &Wanted, show: Show) -> Result<Imatrix> {
    let options = Options { activation: Activation::F32, ..Options::default() };
    let mut moments = SecondMoments::new();
    let at_once = (STATES / (4 * source.config().hidden * wanted.window)).max(1);
    for windows in text.windows.chunks(at_once) {
        let show = (show, "calibrating");
        let stream = Stream::new(source.config(), source, windows, options)?;
        evaluate::watch(stream, source.config(), source, &mut moments, show)?;
    }
    let mut imatrix = Imatrix {
        datasets: vec![wanted.dataset.clone()],
        chunk_count: u32::try_from(text.windows.len()).context("too many windows")?,
        chunk_size: u32::try_from(wanted.window).context("--window")?,
        ..Imatrix::default()
    };
    let wanted = |site: &Site| wanted.output || site.place != Place::Head;
    for (entry, site) in linears(source).filter(|(_, site)| wanted(site)) {
        let Some(seen) = moments.get(site) else { continue };
        let sums: Vec<f32> = seen.sums.iter().map(|sum| *sum as f32).collect();
        if let Some(column) = sums.iter().position(|sum| !sum.is_finite()) {
            bail!("{}: input {column} overflowed while the text ran through the model", entry.role.gguf_name());
        }
        imatrix.entries.insert(entry.role.gguf_name(), Entry { sums, counts: vec![seen.rows] });
    }
    Ok(imatrix)
}

/// Second moments as a file has them, and a digest of it.
#[derive(Clone)]
pub struct Given {
    pub moments: HashMap<Role, Vec<f32>>,
    pub digest: String,
}

/// Reads a file for a model. Every linear of the blocks must be in it, the head may be.
///
/// # Errors
/// If the file is damaged, or of another model: the tensor is named, with what was found and what was expected.
pub fn read(path: &Path, source: &ModelSource) -> Result<Given> {
    let imatrix = Imatrix::open(path)?;
    let mut moments = HashMap::new();
    let mut hash = blake3::Hasher::new();
    for (entry, site) in linears(source) {
        let name = entry.role.gguf_name();
        if site.place == Place::Head && !imatrix.entries.contains_key(&name) {
            continue;
        }
        let lie = |lie: ImatrixError| FormatError::Imatrix { path: path.to_path_buf(), lie };
        let found = imatrix.importance(&name, entry.cols).map_err(lie)?;
        found.iter().for_each(|moment| {
            hash.update(&moment.to_le_bytes());
        });
        moments.insert(entry.role, found);
    }
    Ok(Given { moments, digest: hash.finalize().to_hex().to_string() })
}

/// The matrices of a model that have an entry, and where their inputs are seen; a tied embedding stands for the head.
fn linears(source: &ModelSource) -> impl Iterator<Item = (&TensorEntry, Site)> {
    let tied = source.config().tied;
    let site = move |entry: &TensorEntry| match entry.role.kind {
        TensorKind::TokenEmbedding if tied => Some(Site { layer: None, place: Place::Head }),
        _ => Site::of(entry.role),
    };
    source.tensors().iter().filter(|entry| !entry.vector).filter_map(move |entry| Some((entry, site(entry)?)))
}
