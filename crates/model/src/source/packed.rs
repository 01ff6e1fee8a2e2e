//! Linears stored as several tensors: GPTQ, AWQ, compressed-tensors, and Brevity's own sums of parts.
//!
//! `quantization_config` in `config.json` (or, of old GPTQ checkpoints, `quantize_config.json`) says which. For Brevity's own
//! (`"quant_method": "brevity"`) `brevity.json` describes the matrices, in the tensors `<name of the weight>.<part>.<field>`;
//! see docs/format.md and [`brevity_parts::stored`].

use std::collections::HashMap;
use std::path::Path;

use brevity_formats::safetensors::Checkpoint;
use brevity_formats::{TensorType, awq, blocks, compressed_tensors, gptq};
use brevity_parts::stored::{Descriptor, PartDescriptor};
use brevity_parts::{StoredMatrix, StoredPart, Transform};
use serde::Deserialize;
use serde_json::Value;

use super::bytes::read_if_there;
use super::tensor::shape_text;
use crate::config::Keys;
use crate::error::{Error, Result};

/// How the linears of a checkpoint are stored.
pub(super) enum Scheme {
    Gptq(gptq::GptqConfig),
    Awq { group: usize },
    CompressedTensors(compressed_tensors::PackedConfig),
    Brevity(HashMap<String, Descriptor>),
}

/// A packed linear found in a checkpoint.
pub(super) struct Packed {
    /// What it is: `int4:128`.
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub bytes: u64,
}

impl Scheme {
    /// Reads `quantization_config`; `None` when there is none.
    pub fn read(dir: &Path, config: &[u8]) -> Result<Option<Self>> {
        let file = &dir.join("config.json").display().to_string();
        let old = dir.join("quantize_config.json");
        let (section, fallback) = match json(file, config)?.get_mut("quantization_config").map(Value::take) {
            Some(Value::Object(section)) => (section, None),
            _ => match read_if_there(&old)?.map(|text| json(&old.display().to_string(), &text)).transpose()? {
                Some(Value::Object(section)) => (section, Some("gptq".to_owned())),
                _ => return Ok(None),
            },
        };
        let value = Value::Object(section.clone());
        let keys = Keys::json(file, &section);
        let method = keys.text("quant_method")?.or(fallback);
        let method = method.ok_or_else(|| keys.missing("quantization_config.quant_method"))?;
        Ok(Some(match method.as_str() {
            "gptq" => Self::Gptq(gptq::GptqConfig::from_json(&value)?),
            "awq" => Self::Awq { group: awq_group(&keys)? },
            "compressed-tensors" => Self::CompressedTensors(compressed_tensors::PackedConfig::from_json(&value)?),
            "brevity" => Self::Brevity(descriptors(dir, &keys)?),
            other => {
                return Err(Error::Unsupported {
                    file: file.to_owned(),
                    key: "quantization_config.quant_method".to_owned(),
                    found: other.to_owned(),
                    supported: "gptq, awq, compressed-tensors, brevity".to_owned(),
                });
            }
        }))
    }

    /// Looks for the packed form of the weight `name` (`….weight`).
    pub fn find(&self, files: &Checkpoint, name: &str) -> Option<Packed> {
        let stem = name.strip_suffix("weight")?;
        let shape = |field: &str| Some(files.tensor(&format!("{stem}{field}"))?.shape.clone());
        let (rows, cols) = match self {
            Self::Gptq(config) => {
                let words = shape("qweight")?;
                let inputs = shape("g_idx").and_then(|shape| shape.first().copied());
                (*words.get(1)?, inputs.or_else(|| Some(words.first()?.checked_mul(32)? / usize::from(config.bits)))?)
            }
            Self::Awq { .. } => {
                let words = shape("qweight")?;
                (words.get(1)?.checked_mul(8)?, *words.first()?)
            }
            Self::CompressedTensors(_) => {
                let shape = integers(files, &format!("{stem}weight_shape")).ok()?;
                (usize::try_from(*shape.first()?).ok()?, usize::try_from(*shape.get(1)?).ok()?)
            }
            Self::Brevity(matrices) => matrices.get(name)?.shape,
        };
        if let Self::Brevity(matrices) = self {
            let descriptor = matrices.get(name)?;
            let bytes = descriptor.fields().ok()?.iter().map(brevity_parts::FieldPlan::bytes).sum::<u64>();
            let transform = descriptor.transform.as_ref().map_or(0, Transform::bits);
            return Some(Packed { name: self.type_name(name), rows, cols, bytes: bytes + transform.div_ceil(8) });
        }
        let field = |tensor: &str| tensor.strip_prefix(stem).is_some_and(|field| field != "bias");
        let bytes = files.tensors().iter().filter(|tensor| field(&tensor.name)).map(|tensor| tensor.bytes).sum();
        Some(Packed { name: self.type_name(name), rows, cols, bytes })
    }

    fn type_name(&self, name: &str) -> String {
        match self {
            Self::Gptq(config) => integers_name(config.bits, config.group),
            Self::Awq { group } => integers_name(4, *group),
            Self::CompressedTensors(config) => integers_name(config.bits, config.group),
            Self::Brevity(matrices) => {
                let parts = matrices.get(name).map_or(&[][..], |descriptor| &descriptor.parts);
                let mut names: Vec<(String, usize)> = Vec::new();
                for name in parts.iter().map(part_name) {
                    match names.last_mut() {
                        Some((last, count)) if *last == name => *count += 1,
                        _ => names.push((name, 1)),
                    }
                }
                let counted = |(name, count)| if count > 1 { format!("{count}×{name}") } else { name };
                names.into_iter().map(counted).collect::<Vec<_>>().join(" + ")
            }
        }
    }

    /// Reads the packed form of a weight.
    pub fn matrix(&self, files: &Checkpoint, name: &str, rows: usize, cols: usize) -> Result<StoredMatrix> {
        let stem = name.strip_suffix("weight").unwrap_or(name);
        let field = |field: &str| format!("{stem}{field}");
        let (grid, order) = match self {
            Self::Gptq(config) => {
                let tensors = gptq::GptqTensors {
                    rows,
                    cols,
                    qweight: words(files, &field("qweight"))?,
                    qzeros: words(files, &field("qzeros"))?,
                    scales: halves(files, &field("scales"))?,
                    g_idx: match files.tensor(&field("g_idx")) {
                        Some(_) => words(files, &field("g_idx"))?,
                        None => (0..cols).map(|col| (col / group_length(config.group, cols)) as i32).collect(),
                    },
                };
                let unpacked = gptq::unpack(&tensors, config.bits, config.group, config.version)?;
                (unpacked.grid, unpacked.order)
            }
            Self::Awq { group } => {
                let tensors = awq::AwqTensors {
                    rows,
                    cols,
                    qweight: words(files, &field("qweight"))?,
                    qzeros: words(files, &field("qzeros"))?,
                    scales: halves(files, &field("scales"))?,
                };
                (awq::unpack(&tensors, *group)?, None)
            }
            Self::CompressedTensors(config) => {
                let optional = |name: String| files.tensor(&name).map(|_| words(files, &name)).transpose();
                let tensors = compressed_tensors::PackedTensors {
                    shape: [rows, cols],
                    weight_packed: words(files, &field("weight_packed"))?,
                    weight_scale: floats(files, &field("weight_scale"))?,
                    weight_zero_point: optional(field("weight_zero_point"))?,
                    weight_g_idx: optional(field("weight_g_idx"))?,
                };
                let unpacked = compressed_tensors::unpack(&tensors, config.bits, config.group)?;
                (unpacked.grid, unpacked.order)
            }
            Self::Brevity(matrices) => {
                let descriptor = matrices.get(name).ok_or_else(|| missing(files, name))?;
                let read = |field: &str| {
                    let tensor = format!("{name}.{field}");
                    let info = files.tensor(&tensor).ok_or_else(|| brevity_parts::Error::MissingTensor {
                        name: name.to_owned(),
                        tensor: tensor.clone(),
                    })?;
                    Ok(files.read_all(info)?)
                };
                let part = |source| Error::Part { tensor: name.to_owned(), source: Box::new(source) };
                return StoredMatrix::from_fields(descriptor, read).map_err(part);
            }
        };
        let transform =
            order.map(|order| Transform::Permutation { order: order.into_iter().map(|i| i as u32).collect() });
        Ok(StoredMatrix { rows, cols, transform, parts: vec![StoredPart::Grid(grid)] })
    }
}

fn group_length(group: usize, cols: usize) -> usize {
    if group == 0 { cols.max(1) } else { group }
}

fn awq_group(keys: &Keys) -> Result<usize> {
    let expect = |key: &str, found: Option<String>, wanted: &str| match found {
        Some(found) if found != wanted => Err(keys.bad(&format!("quantization_config.{key}"), found, wanted)),
        _ => Ok(()),
    };
    expect("bits", keys.count("bits")?.map(|bits| bits.to_string()), "4")?;
    expect("version", keys.text("version")?.map(|version| version.to_lowercase()), "gemm")?;
    match keys.value("group_size").as_ref().map(Value::as_i64) {
        None => Ok(128),
        Some(Some(-1)) => Ok(0),
        Some(Some(group @ 1..)) => Ok(group as usize),
        Some(_) => Err(keys.bad("quantization_config.group_size", "no group size", "−1 or a positive number")),
    }
}

fn json(file: &str, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|source| Error::Json { file: file.to_owned(), source })
}

fn integers_name(bits: u8, group: usize) -> String {
    match group {
        0 => format!("int{bits}:row"),
        group => format!("int{bits}:{group}"),
    }
}

fn part_name(part: &PartDescriptor) -> String {
    match part {
        PartDescriptor::Dense { ty } | PartDescriptor::Blocks { ty } => ty.clone(),
        PartDescriptor::Grid { bits, group } => integers_name(*bits, *group),
        PartDescriptor::Bilevel { bits, group, .. } => format!("bilevel{bits}:{group}"),
        PartDescriptor::Columns { count } => format!("columns:{count}"),
        PartDescriptor::LowRank { rank } => format!("low_rank:{rank}"),
        PartDescriptor::Sparse { entries } => format!("sparse:{entries}"),
        PartDescriptor::SignScale { rank, .. } => format!("sign_scale:{rank}"),
    }
}

/// The descriptors `{ "version": 1, "matrices": { "<name of the weight>": <descriptor>, … } }`: in `brevity.json`, or in
/// `quantization_config` itself.
fn descriptors(dir: &Path, section: &Keys) -> Result<HashMap<String, Descriptor>> {
    check_version(section)?;
    if section.present("matrices") {
        return matrices(section);
    }
    let path = dir.join("brevity.json");
    let file = path.display().to_string();
    let text = read_if_there(&path)?.ok_or_else(|| Error::NotAModel {
        path: dir.to_owned(),
        reason: "config.json says that brevity.json describes its matrices, and there is none".to_owned(),
    })?;
    let Value::Object(object) = json(&file, &text)? else {
        return Err(Keys::new(&file, |_| None).bad("(root)", "no object", "a JSON object"));
    };
    let keys = Keys::json(&file, &object);
    check_version(&keys)?;
    matrices(&keys)
}

fn check_version(keys: &Keys) -> Result<()> {
    match keys.count("version")? {
        Some(1) => Ok(()),
        other => {
            let found = other.map_or("nothing".to_owned(), |version| version.to_string());
            Err(keys.bad("version", found, "1"))
        }
    }
}

fn matrices(keys: &Keys) -> Result<HashMap<String, Descriptor>> {
    let matrices = keys.object("matrices")?.ok_or_else(|| keys.missing("matrices"))?;
    let read = |(name, value): (String, Value)| {
        let descriptor = Descriptor::deserialize(value);
        let descriptor = descriptor.map_err(|error| keys.bad(&format!("matrices.{name}"), error, "a descriptor"))?;
        Ok((name, descriptor))
    };
    matrices.into_iter().map(read).collect()
}

fn missing(files: &Checkpoint, tensor: &str) -> Error {
    let path = files.path().to_owned();
    Error::Format(brevity_formats::Error::NoTensor { path, tensor: tensor.to_owned() })
}

fn typed(files: &Checkpoint, name: &str, types: &[TensorType]) -> Result<(TensorType, Vec<u8>)> {
    let info = files.require(name)?;
    if types.contains(&info.ty) {
        return Ok((info.ty, files.read_all(info)?));
    }
    Err(Error::TensorKind {
        file: files.path().display().to_string(),
        tensor: name.to_owned(),
        found: format!("{} {}", info.ty.name(), shape_text(&info.shape)),
        expected: types.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(" or "),
    })
}

fn words(files: &Checkpoint, name: &str) -> Result<Vec<i32>> {
    let (_, bytes) = typed(files, name, &[TensorType::I32])?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect())
}

fn integers(files: &Checkpoint, name: &str) -> Result<Vec<i64>> {
    match typed(files, name, &[TensorType::I64, TensorType::I32])? {
        (TensorType::I64, bytes) => Ok(bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect()),
        (_, bytes) => Ok(bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word).into()).collect()),
    }
}

fn floats(files: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let (ty, bytes) = typed(files, name, &[TensorType::F16, TensorType::BF16, TensorType::F32])?;
    let mut values = vec![0.0; bytes.len() / ty.block_bytes()];
    blocks::dequantize(ty, &bytes, &mut values)?;
    Ok(values)
}

/// Scales as bits of half floats; those of other types are rounded.
fn halves(files: &Checkpoint, name: &str) -> Result<Vec<u16>> {
    Ok(floats(files, name)?.into_iter().map(|scale| half::f16::from_f32(scale).to_bits()).collect())
}
