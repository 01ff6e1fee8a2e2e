//! The same model in another format or number type.

use crate::compress::directory::{self, DirectoryFormat};
use crate::compress::metadata;
use crate::compress::plan::{Plan, Planned};
use crate::compress::write::Writing;
use crate::progress::Show;
use anyhow::{Result, bail};
use brevity_formats::TensorType;
use brevity_model::ModelSource;
use brevity_model::source::TensorEntry;
use brevity_weights::Level;
use brevity_weights::quantize::RoundToNearest;
use std::path::Path;

/// Writes `source` as GGUF, when `output` ends in `.gguf`, or else as a directory in Hugging Face layout; every matrix as
/// `ty`, or as it is (block types as parts). Returns the bytes of the files with weights.
///
/// # Errors
/// If the output exists (without `force`) or cannot be written, or the model has no form in that layout.
pub fn run(source: &ModelSource, output: &Path, ty: Option<TensorType>, force: bool, show: Show) -> Result<u64> {
    let writing = Writing {
        source,
        method: &RoundToNearest,
        path: output,
        force,
        show,
        name: "convert".into(),
        calibration: None,
        calibrated: None,
    };
    if is_gguf(output) {
        let plan = plan(source, |entry| gguf_type(entry, ty));
        let (metadata, extras) = metadata::gguf(source, "convert")?;
        let path = writing.gguf(&plan, &metadata, &extras)?;
        return Ok(std::fs::metadata(path)?.len());
    }
    if let Some(extension @ ("bin" | "safetensors")) = output.extension().and_then(|extension| extension.to_str()) {
        bail!(
            "{}: .{extension} is not written\n  next: name a .gguf file, or a directory for Hugging Face's layout",
            output.display()
        );
    }
    let mut plan = plan(source, |entry| directory_type(entry, ty));
    directory::count_bytes(&mut plan, source, DirectoryFormat::Parts)?;
    directory::write(&writing, &plan, DirectoryFormat::Parts)
}

fn is_gguf(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn plan(source: &ModelSource, ty: impl Fn(&TensorEntry) -> TensorType) -> Plan {
    let planned = |entry: &TensorEntry| {
        let level = Level::Type(ty(entry));
        let bytes = level.bytes(entry.rows, entry.cols).unwrap_or(0);
        Planned { entry: entry.clone(), level, bytes, error: 0.0, loss: None }
    };
    let tensors: Vec<Planned> = source.tensors().iter().map(planned).collect();
    let tensor_bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
    Plan { tensors, tensor_bytes, weights: source.weights(), next: None }
}

/// Vectors are f32 in GGUF.
fn gguf_type(entry: &TensorEntry, ty: Option<TensorType>) -> TensorType {
    match ty {
        _ if entry.vector => TensorType::F32,
        Some(ty) => ty,
        None => kept(entry),
    }
}

/// All of one type in Hugging Face's layout, vectors too.
fn directory_type(entry: &TensorEntry, ty: Option<TensorType>) -> TensorType {
    ty.unwrap_or_else(|| kept(entry))
}

/// The type a tensor has; integer grids become f32, which holds each of their values exactly, and so do 64-bit numbers.
fn kept(entry: &TensorEntry) -> TensorType {
    match entry.ty {
        _ if entry.is_packed() => TensorType::F32,
        ty if ty.is_quantized() || matches!(ty, TensorType::F16 | TensorType::BF16) => ty,
        _ => TensorType::F32,
    }
}
