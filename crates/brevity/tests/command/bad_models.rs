//! Damaged models: one error that names what and where, on every command, and no panic.

use crate::support::*;
use crate::tiny::{Tiny, safetensors};
use std::path::Path;

/// Every command that opens a model says no in the same words.
fn refused_everywhere(model: &Path, said: &[&str]) {
    let output = model.with_extension("out.gguf");
    let (model, out) = (arg(model), arg(&output));
    run(&["inspect", model, "--json"]).refused(said);
    refused_when_read(model, out, said);
    assert!(!output.exists());
}

fn refused_when_read(model: &str, out: &str, said: &[&str]) {
    run(&["run", model, "-p", "x", "--json"]).refused(said);
    run(&["eval", model, "--window", "64", "--chunks", "1", "--json"]).refused(said);
    run(&["compress", "--method", "rtn", model, "--grid", "q8_0", "--no-eval", "--json", "-o", out]).refused(said);
    run(&["compress", "--method", "rtn", model, "--bits", "8.2", "--no-eval", "--json", "-o", out]).refused(said);
    run(&["convert", model, out, "--json"]).refused(said);
}

fn tiny(directory: &Path) -> std::path::PathBuf {
    let model = directory.join("tiny");
    Tiny { layers: 1, ..Tiny::narrow() }.write(&model);
    model
}

#[test]
fn truncated_weights() {
    let directory = temporary();
    let model = tiny(directory.path());
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 100, 5, 0] {
        std::fs::write(&weights, &bytes[..length]).unwrap();
        refused_everywhere(&model, &["model.safetensors"]);
    }
}

#[test]
fn truncated_gguf() {
    let directory = temporary();
    let (model, whole, cut) =
        (tiny(directory.path()), directory.path().join("whole.gguf"), directory.path().join("cut.gguf"));
    run(&["convert", arg(&model), arg(&whole)]).ok();
    let bytes = std::fs::read(&whole).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 2000, 20, 3, 0] {
        std::fs::write(&cut, &bytes[..length]).unwrap();
        run(&["inspect", arg(&cut), "--json"]).refused(&["cut.gguf"]);
    }
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused_everywhere(&cut, &["cut.gguf", "truncated"]);
}

/// Weights that are not finite are found by whatever reads them.
#[test]
fn weights_that_are_no_numbers() {
    let directory = temporary();
    for (value, ty) in [(f32::NAN, "F32"), (f32::INFINITY, "F16"), (f32::NAN, "BF16")] {
        let model = directory.path().join(format!("{ty}{value}"));
        Tiny { layers: 1, ty, ..Tiny::narrow() }.write(&model);
        spoil(&model.join("model.safetensors"), "model.layers.0.mlp.up_proj.weight", 3 * 96 + 5, value, ty);
        let output = directory.path().join("out.gguf");
        refused_when_read(arg(&model), arg(&output), &["mlp.up_proj.weight", "row 3", "column 5"]);
        assert!(!output.exists());
    }
}

/// Overwrites one value of a tensor.
fn spoil(file: &Path, tensor: &str, index: usize, value: f32, ty: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let start = 8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let one = safetensors(ty, &[("x".into(), vec![1], vec![value])]);
    let size = if ty == "F32" { 4 } else { 2 };
    bytes[start + index * size..][..size].copy_from_slice(&one[one.len() - size..]);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn missing_pieces() {
    let directory = temporary();
    let model = tiny(directory.path());
    let weights = model.join("model.safetensors");
    let kept = std::fs::read(&weights).unwrap();
    std::fs::remove_file(&weights).unwrap();
    refused_everywhere(&model, &["safetensors"]);
    let index = model.join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}"#).unwrap();
    refused_everywhere(&model, &["model-00002-of-00002.safetensors", "missing"]);
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&weights, safetensors("F16", &[("model.norm.weight".into(), vec![96], vec![1.0; 96])])).unwrap();
    refused_everywhere(&model, &["embed_tokens"]);
    std::fs::write(&weights, kept).unwrap();
    std::fs::remove_file(model.join("config.json")).unwrap();
    refused_everywhere(&model, &["config.json"]);
}

#[test]
fn a_model_without_tokenizer_can_be_looked_at_only() {
    let directory = temporary();
    let model = tiny(directory.path());
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    run(&["inspect", arg(&model), "--json"]).json();
    let output = directory.path().join("out.gguf");
    let said = ["no tokenizer", "tokenizer.json"];
    run(&["run", arg(&model), "-p", "x"]).refused(&said);
    run(&["eval", arg(&model)]).refused(&said);
    run(&["compress", "--method", "rtn", arg(&model), "-o", arg(&output)]).refused(&said);
    assert!(!output.exists());
}

#[test]
fn unknown_architectures_and_wrong_configurations() {
    let directory = temporary();
    let model = tiny(directory.path());
    let file = model.join("config.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let said = |from: &str, to: &str, said: &[&str]| {
        assert!(good.contains(from), "{from}");
        std::fs::write(&file, good.replace(from, to)).unwrap();
        refused_everywhere(&model, said);
    };
    said("LlamaForCausalLM", "MambaForCausalLM", &["MambaForCausalLM", "LlamaForCausalLM"]);
    said("\"hidden_size\":96", "\"hidden_size\":128", &["shape"]);
    said("\"hidden_size\":96", "\"hidden_size\":0", &["config.json"]);
    said("\"num_hidden_layers\":1", "\"num_hidden_layers\":99999999", &[]);
    said("\"num_attention_heads\":4", "\"num_attention_heads\":0", &["config.json"]);
    said("{", "{,", &["config.json", "JSON"]);
}

#[test]
fn what_is_no_model_is_called_so() {
    let directory = temporary();
    let junk = directory.path().join("junk.gguf");
    std::fs::write(&junk, "this is no model").unwrap();
    refused_everywhere(&junk, &["junk.gguf", "not a model"]);
    run(&["inspect", arg(directory.path())]).refused(&["no config.json"]);
    run(&["inspect", "/nonexistent/model.gguf"]).refused(&["no such file", "next:"]);
    run(&["inspect", "models/typo.gguf"]).refused(&["no such file", "next:"]);
}
