//! The files beside the weights: `config.json`, the descriptors of parts, the tokenizer.

use super::format::DirectoryFormat;
use super::layout::{Item, Layout};
use crate::embedded;
use anyhow::{Context, Result, bail};
use brevity_formats::TensorType;
use brevity_formats::atomic::AtomicFile;
use brevity_formats::awq;
use brevity_formats::compressed_tensors::PackedConfig;
use brevity_formats::gguf::{GgufWriter, Metadata};
use brevity_formats::gptq::{GptqConfig, Version};
use brevity_model::source::SourceKind;
use brevity_model::{ModelSource, TensorKind, export};
use brevity_weights::Level;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The file that describes matrices stored in parts.
pub const DESCRIPTORS: &str = "brevity.json";
/// Version of the parts format.
const VERSION: u32 = 1;
/// The tokenizer of a model that did not come in Hugging Face layout: a GGUF file of metadata only.
const TOKENIZER_GGUF: &str = "tokenizer.gguf";

/// Files of a tokenizer and of generation, copied as they are.
const COPIED: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    TOKENIZER_GGUF,
];

/// Everything beside the weights, made before the first weight is written so that what cannot be said is refused early.
pub struct Files {
    files: Vec<(String, Vec<u8>)>,
    tokenizer: Option<Metadata>,
}

impl Files {
    /// Gathers the files.
    ///
    /// # Errors
    /// If the source's cannot be read, or its configuration or tokenizer has no form in this layout.
    pub fn new(source: &ModelSource, items: &[Item], format: DirectoryFormat) -> Result<Self> {
        let mut config = config(source)?;
        set_number_type(&mut config, items);
        let descriptors = descriptors(items);
        let quantization = quantization(items, format);
        if let Some(quantization) = &quantization {
            config.insert("quantization_config".into(), quantization.clone());
        }
        let mut files = vec![("config.json".to_string(), pretty(&Value::Object(config)))];
        if let (Some(quantization), DirectoryFormat::Gptq) = (&quantization, format) {
            files.push(("quantize_config.json".into(), pretty(quantization)));
        }
        if !descriptors.is_empty() {
            let json = json!({"version": VERSION, "matrices": descriptors});
            files.push((DESCRIPTORS.into(), format!("{json}\n").into_bytes()));
        }
        let mut tokenizer = None;
        if source.kind() == SourceKind::HuggingFace {
            for name in COPIED {
                files.extend(beside(source, name)?.map(|bytes| (name.to_string(), bytes)));
            }
        } else {
            tokenizer = tokenizer_metadata(source)?;
        }
        Ok(Self { files, tokenizer })
    }

    /// Writes them.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            AtomicFile::write_bytes(directory.join(name), bytes, true)?;
        }
        if let Some(metadata) = &self.tokenizer {
            GgufWriter::create(directory.join(TOKENIZER_GGUF), metadata, &[], true)?.finish()?;
        }
        Ok(())
    }
}

fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

/// A file of a source in Hugging Face layout.
fn beside(source: &ModelSource, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(directory) = source.directory() else {
        let embedded: Option<&[u8]> = match name {
            "config.json" => Some(embedded::CONFIG),
            "tokenizer.json" => Some(embedded::TOKENIZER),
            "tokenizer_config.json" => Some(embedded::TOKENIZER_CONFIG),
            _ => None,
        };
        return Ok(embedded.map(<[u8]>::to_vec));
    };
    let path = directory.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The source's own `config.json` without its quantisation, or one made from its configuration.
fn config(source: &ModelSource) -> Result<Map<String, Value>> {
    let json = match source.kind() {
        SourceKind::HuggingFace => {
            let bytes = beside(source, "config.json")?.context("the source has no config.json")?;
            serde_json::from_slice(&bytes).context("reading config.json")?
        }
        _ => export::hf_config(source.config())?,
    };
    let Value::Object(mut config) = json else { bail!("config.json holds no object") };
    if source.fold_digest().is_some() {
        // Folds may have given the head weights of its own.
        config.insert("tie_word_embeddings".into(), source.config().tied.into());
    }
    config.shift_remove("quantization_config");
    config.shift_remove("compression_config");
    Ok(config)
}

/// Says in which type the numbers that are not quantised are meant to be: that of the embedding.
fn set_number_type(config: &mut Map<String, Value>, items: &[Item]) {
    let embedding = items.iter().find(|item| item.planned.entry.role.kind == TensorKind::TokenEmbedding);
    let name = match embedding.map(|item| item.planned.level) {
        Some(Level::Type(TensorType::F16)) => "float16",
        Some(Level::Type(TensorType::BF16)) => "bfloat16",
        Some(Level::Type(TensorType::F32)) => "float32",
        _ => return,
    };
    // transformers 5 writes `dtype`, older ones know `torch_dtype` only; newer ones read both.
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.into(), name.into());
}

fn descriptors(items: &[Item]) -> Map<String, Value> {
    let describe = |item: &Item| Some((item.name.clone(), serde_json::to_value(item.descriptor()?).ok()?));
    items.iter().filter_map(describe).collect()
}

/// `quantization_config`; `None` when nothing is quantised.
fn quantization(items: &[Item], format: DirectoryFormat) -> Option<Value> {
    let quantized = |item: &&Item| matches!(item.layout, Layout::Quantized(_));
    let first = items.iter().find(quantized)?;
    // Linears that stay as they are, without `.weight`.
    let linear = |item: &&Item| item.planned.entry.role.kind.is_linear() && !item.planned.entry.role.bias;
    let left = items.iter().filter(linear).filter(|item| !quantized(item));
    let left: Vec<&str> = left.map(|item| item.name.strip_suffix(".weight").unwrap_or(&item.name)).collect();
    let (bits, group) = match first.planned.level {
        Level::Integer { bits, group } => (bits, group),
        Level::Type(_) | Level::Sum(_) => (0, 0),
    };
    Some(match format {
        DirectoryFormat::Gptq => {
            let lm_head = items.iter().filter(quantized).any(|item| item.planned.entry.role.kind == TensorKind::Output);
            let config = GptqConfig { bits, group, desc_act: false, symmetric: false, version: Version::V1, lm_head };
            let mut json = config.to_json();
            let skipped = left.iter().filter(|name| **name != "lm_head");
            let skipped: Map<String, Value> =
                skipped.map(|name| (format!("-:^{}$", name.replace('.', "\\.")), json!({}))).collect();
            if !skipped.is_empty() {
                json["dynamic"] = Value::Object(skipped);
            }
            json
        }
        DirectoryFormat::Awq => awq::config(group, &left),
        DirectoryFormat::CompressedTensors => {
            let mut ignore: Vec<String> = left.iter().map(|name| (*name).to_string()).collect();
            // A tied head is a module of its own to other readers.
            if !ignore.iter().any(|name| name == "lm_head") && !items.iter().any(|item| item.name == "lm_head.weight") {
                ignore.push("lm_head".into());
            }
            PackedConfig { bits, group, symmetric: false, ignore }.to_json()
        }
        DirectoryFormat::Parts => json!({"quant_method": "brevity", "version": VERSION}),
    })
}

/// The tokenizer as GGUF's keys: the source's own, or made from it; `None` when there is no tokenizer.
fn tokenizer_metadata(source: &ModelSource) -> Result<Option<Metadata>> {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "vocab");
    metadata.insert("general.architecture", source.config().architecture.gguf_name());
    if let Some(gguf) = source.gguf() {
        let keys = gguf.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer."));
        let before = metadata.len();
        keys.for_each(|(key, value)| metadata.insert(key, value.clone()));
        return Ok((metadata.len() > before).then_some(metadata));
    }
    let Ok(tokenizer) = source.tokenizer() else { return Ok(None) };
    for (key, value) in export::tokenizer_metadata(tokenizer, source.config().vocab)? {
        metadata.insert(key, value);
    }
    Ok(Some(metadata))
}
