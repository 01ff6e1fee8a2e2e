//! From what a user calls a model to an opened one: a path, a Hub id, or the embedded default.

use crate::embedded;
use crate::progress::Show;
use anyhow::{Context, Result, bail};
use brevity_measure::bits::{format_bytes, parse_size};
use brevity_model::ModelSource;
use brevity_model::source::EmbeddedFiles;
use brevity_model::tokenizer::HfFiles;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};
use std::path::{Path, PathBuf};

/// Opens the model called `name`, or the embedded one.
pub fn open(name: Option<&str>, show: Show) -> Result<ModelSource> {
    match name {
        None | Some(embedded::NAME) if !Path::new(embedded::NAME).exists() => embedded_model(),
        None => embedded_model(),
        Some(name) => {
            let path = locate(name, show)?;
            ModelSource::open(&path).map_err(Into::into)
        }
    }
}

/// Opens the model called `name`; with a size, as much of it as so many bytes of weights hold.
///
/// # Errors
/// As [`open`], and if the size cannot be read, or the model is not in blocks.
pub fn open_within(name: Option<&str>, size: Option<&str>, show: Show) -> Result<ModelSource> {
    let Some(size) = size else { return open(name, show) };
    let bytes = parse_size(size).context("--size")?;
    let Some(name) = name else {
        bail!(
            "--size {size}: the embedded model is all or nothing\n  next: name a directory that compress --method bitstack wrote"
        )
    };
    let source = ModelSource::open_within(locate(name, show)?, bytes)?;
    let read: u64 = source.tensors().iter().map(|tensor| tensor.bytes).sum();
    show.remark(&format!("{} of {} are read", format_bytes(read), format_bytes(source.file_bytes())));
    Ok(source)
}

fn embedded_model() -> Result<ModelSource> {
    let tokenizer = HfFiles {
        tokenizer: embedded::TOKENIZER,
        tokenizer_config: Some(embedded::TOKENIZER_CONFIG),
        config: Some(embedded::CONFIG),
        ..HfFiles::default()
    };
    let files = EmbeddedFiles { name: embedded::NAME, config: embedded::CONFIG, weights: embedded::WEIGHTS, tokenizer };
    ModelSource::embedded(files).context("the embedded model")
}

/// The path of a model: as it is where it exists, else fetched from the Hub when it reads like an id.
fn locate(name: &str, show: Show) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    let Some((id, file)) = hub_id(name) else {
        bail!(
            "{name}: no such file or directory, and no Hub id (org/name)\n  next: check the path, or leave it out to use the embedded model"
        );
    };
    fetch(id, file, show)
        .with_context(|| format!("{name}: no such file or directory, and as a Hub id it cannot be had"))
}

/// `org/name`, each of letters, digits, `-`, `_` and `.`, or `org/name/file.gguf`; not what else ends like a model's file.
pub fn hub_id(name: &str) -> Option<(&str, Option<&str>)> {
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let parts: Vec<&str> = name.split('/').collect();
    let file = FILE_ENDINGS.iter().any(|ending| name.ends_with(ending));
    match parts.as_slice() {
        _ if !parts.iter().all(|part| word(part)) => None,
        [_, _] if !file => Some((name, None)),
        [org, model, file] if file.ends_with(".gguf") => Some((&name[..org.len() + 1 + model.len()], Some(*file))),
        _ => None,
    }
}

const FILE_ENDINGS: [&str; 4] = [".gguf", ".bin", ".safetensors", ".json"];

/// What a model is called in short: the last part of its path without the ending of a file, or its name on the Hub.
pub fn short_name(label: &str) -> String {
    let path = Path::new(label);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let name = match parts.as_slice() {
        [.., repository, snapshots, _] if snapshots == "snapshots" && repository.starts_with("models--") => {
            repository.rsplit("--").next().unwrap_or(repository)
        }
        [.., last] => last,
        [] => "model",
    };
    let ending = FILE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    ending.unwrap_or(name).to_string()
}

/// Fetches configuration, tokenizer and weights into the standard cache (HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE
/// are heeded). All files are of one commit; where the Hub cannot be asked, the copy in the cache serves.
fn fetch(id: &str, file: Option<&str>, show: Show) -> Result<PathBuf> {
    let cached = Cache::from_env().model(id.to_string());
    let offline = std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "TRUE" | "ON" | "YES"));
    if offline {
        let copy = copy_in(&cached, file);
        return copy.context("HF_HUB_OFFLINE is set, and the cache holds no copy\n  next: unset it to fetch the model");
    }
    let repository = repository(id, show)?;
    let info = match repository.info() {
        Ok(info) => info,
        Err(error) => match copy_in(&cached, file).filter(|_| status(&error).is_none()) {
            Some(copy) => {
                show.remark(&format!("the Hub cannot be reached: the copy in the cache is used ({})", copy.display()));
                return Ok(copy);
            }
            None => return Err(explained(error)),
        },
    };
    let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
    let wanted = wanted(&files, file)?;
    let model = wanted.iter().find(|name| name.ends_with(".gguf") || **name == "config.json");
    let model = model.context("the repository holds neither config.json with safetensors nor GGUF files")?;
    let snapshot = cached.pointer_path(&info.sha);
    for name in wanted.iter().filter(|name| !snapshot.join(name).exists()) {
        show.remark(&format!("fetching {id}: {name}"));
        repository.download(name).map_err(explained).with_context(|| format!("fetching {name}"))?;
    }
    Ok(if model.ends_with(".gguf") { snapshot.join(model) } else { snapshot })
}

fn repository(id: &str, show: Show) -> Result<ApiRepo> {
    let mut builder = ApiBuilder::from_env().with_progress(show == Show::Bars);
    if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        builder = builder.with_token(Some(token.trim().to_string()));
    }
    if let Some(endpoint) = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty()) {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_string());
    }
    Ok(builder.build()?.model(id.to_string()))
}

/// The copy of the main branch that the cache holds.
fn copy_in(cached: &CacheRepo, file: Option<&str>) -> Option<PathBuf> {
    if let Some(file) = file {
        return cached.get(file);
    }
    if let Some(config) = cached.get("config.json") {
        return config.parent().map(Path::to_path_buf);
    }
    let commit = std::fs::read_to_string(cached.pointer_path("").parent()?.parent()?.join("refs/main")).ok()?;
    let files = std::fs::read_dir(cached.pointer_path(commit.trim())).ok()?;
    let mut models: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    models.sort();
    models.into_iter().next()
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(request) => request.to_string().split_once("http status: ")?.1.trim().parse().ok(),
        _ => None,
    }
}

/// What went wrong, and what to do next.
fn explained(error: ApiError) -> anyhow::Error {
    let next = match status(&error) {
        Some(401 | 403) => "the Hub refuses access: set HF_TOKEN to a token that may read this model",
        Some(404) => "the Hub has no such model: check its name; for a private one set HF_TOKEN",
        Some(429) => "the Hub asks for fewer requests: try again later",
        Some(_) => "the Hub answers with an error: try again later",
        None => "check the network, or name a local directory or file",
    };
    anyhow::anyhow!("{error}\n  next: {next}")
}

const TOKENIZER: &str = "tokenizer.gguf";

/// What to fetch: the file that was named with all its parts, or all that makes up the model.
fn wanted<'a>(all: &'a [String], file: Option<&str>) -> Result<Vec<&'a String>> {
    let wanted: Vec<&String> = match file {
        Some(file) => all.iter().filter(|name| whole(name) == whole(file)).collect(),
        None => all.iter().filter(|name| is_wanted(name, all)).collect(),
    };
    let models: Vec<&str> = wanted.iter().map(|name| name.as_str()).filter(|name| is_model(name)).collect();
    let several = models.iter().any(|name| whole(name) != whole(models[0]));
    match (several, file) {
        (true, _) => bail!(
            "the repository holds several models: {}\n  next: name one, as in org/name/{}",
            models.join(", "),
            models[0]
        ),
        (_, Some(file)) if wanted.is_empty() => bail!("the repository holds no {file}"),
        _ => Ok(wanted),
    }
}

/// A whole model in a file; a GGUF file may also hold a tokenizer alone, beside safetensors.
fn is_model(name: &str) -> bool {
    name.ends_with(".gguf") && name != TOKENIZER
}

/// The name of a GGUF file without the number of its part.
fn whole(name: &str) -> &str {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((rest, of)) = stem.rsplit_once("-of-") else { return stem };
    match rest.rsplit_once('-') {
        Some((base, part)) if digits(part) && digits(of) => base,
        _ => stem,
    }
}

/// Configuration, tokenizer and safetensors; or, where there are none, GGUF files.
fn is_wanted(name: &str, all: &[String]) -> bool {
    let has_safetensors = all.iter().any(|name| name.ends_with(".safetensors"));
    let top = !name.contains('/');
    match has_safetensors {
        true => top && (name.ends_with(".safetensors") || name.ends_with(".json") || name == TOKENIZER),
        false => top && name.ends_with(".gguf"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["org/name", "a-b/c_d.e", "HuggingFaceTB/SmolLM2-135M"] {
            assert_eq!(hub_id(id), Some((id, None)));
        }
        for path in ["model.gguf", "models/x.gguf", "/abs/path", "a/b/c", "../x", "./x", "org/", "a b/c"] {
            assert_eq!(hub_id(path), None, "{path}");
        }
        assert_eq!(hub_id("org/name/x-q4.gguf"), Some(("org/name", Some("x-q4.gguf"))));
    }

    #[test]
    fn short_names_keep_their_dots() {
        for (label, short) in [
            ("models/Qwen2.5-0.5B", "Qwen2.5-0.5B"),
            ("x/model-Q4.gguf", "model-Q4"),
            ("stories15M.bin", "stories15M"),
            ("/c/hub/models--org--SmolLM2-1.7B/snapshots/0123abc", "SmolLM2-1.7B"),
            ("nano", "nano"),
        ] {
            assert_eq!(short_name(label), short);
        }
    }

    #[test]
    fn weights_come_in_one_format() {
        let all: Vec<String> =
            ["config.json", "model.safetensors", "tokenizer.gguf", "x.gguf", "onnx/model.onnx", "README.md"]
                .map(String::from)
                .to_vec();
        assert_eq!(wanted(&all, None).unwrap(), ["config.json", "model.safetensors", "tokenizer.gguf"]);
    }

    #[test]
    fn one_of_several_gguf_files_must_be_named() {
        let all: Vec<String> =
            ["a-q4.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf"].map(String::from).to_vec();
        assert!(wanted(&all, None).unwrap_err().to_string().contains("org/name/a-q4.gguf"));
        assert_eq!(wanted(&all, Some("b-00001-of-00002.gguf")).unwrap(), [&all[1], &all[2]]);
        assert!(wanted(&all, Some("c.gguf")).is_err());
        assert_eq!(wanted(&all[1..], None).unwrap().len(), 2);
    }
}
