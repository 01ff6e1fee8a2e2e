//! One grid everywhere, and rules for single tensors.

use crate::support::*;
use crate::tiny::Tiny;
use serde_json::Value;
use std::path::Path;

const TYPES: [&str; 16] = [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
    "iq4_xs", "mxfp4",
];

fn compress(model: &Path, output: &Path, flags: &[&str]) -> Ran {
    let args = ["compress", "--method", "rtn", arg(model), "--no-eval", "--json", "--force", "-o", arg(output)];
    run(&[&args[..], flags].concat())
}

fn type_of<'a>(report: &'a Value, tensor: &str) -> &'a str {
    let tensors = report["tensors"].as_array().unwrap();
    let found = tensors.iter().find(|entry| entry["name"] == tensor).unwrap_or_else(|| panic!("no {tensor}"));
    found["type"].as_str().unwrap()
}

#[test]
fn every_type_is_written_and_read_back() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny { layers: 1, ..Tiny::default() }.write(&model);
    let text = text_file(directory.path());
    for ty in TYPES {
        let report = compress(&model, &output, &["--grid", ty, "--pure"]).json();
        for tensor in ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight"] {
            assert_eq!(type_of(&report, tensor), ty);
        }
        let args = ["eval", arg(&output), "--against", arg(&model), "--text", arg(&text), "--window", "64"];
        let loss = run(&[&args[..], &["--chunks", "1", "--json", "--activations", "f32"]].concat()).json();
        let (mean, lossless) = (number(&loss, "kld_mean_bits"), matches!(ty, "f32" | "f16"));
        assert_eq!(mean < 1e-9, lossless, "{ty}: {mean}");
        assert!(mean < 3.0, "{ty}: {mean}");
    }
}

#[test]
fn rows_that_do_not_fit_take_the_nearest_type() {
    let directory = temporary();
    let (model, output) = (directory.path().join("narrow"), directory.path().join("out.gguf"));
    Tiny { layers: 1, ..Tiny::narrow() }.write(&model);
    for ty in TYPES {
        let report = compress(&model, &output, &["--grid", ty, "--pure"]).json();
        let found = type_of(&report, "blk.0.attn_q.weight");
        let wide = ty.ends_with("_k") || ty == "iq4_xs";
        assert_eq!(found == ty, !wide, "{ty} became {found}");
        assert!(TYPES[3..].contains(&found) || !wide, "{ty} became {found}");
        let seen = run(&["inspect", arg(&output), "--json"]).json();
        assert_eq!(type_of(&seen, "blk.0.attn_q.weight"), found);
    }
}

#[test]
fn rules_decide_for_single_tensors() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny { tied: false, ..Tiny::default() }.write(&model);
    let with = |flags: &[&str]| compress(&model, &output, flags);
    let report = with(&["--grid", "q4_k"]).json();
    assert_eq!(type_of(&report, "blk.1.ffn_up.weight"), "q4_k");
    assert_eq!(type_of(&report, "output.weight"), "q6_k");
    assert_eq!(type_of(&report, "output_norm.weight"), "f32");
    let report = with(&["--grid", "q4_k", "--pure"]).json();
    assert_eq!(type_of(&report, "output.weight"), "q4_k");
    let rules = [
        "--tensor-type",
        r"ffn_down=q8_0",
        "--tensor-type",
        r"blk\.1\.=q5_k",
        "--output-tensor-type",
        "q3_k",
        "--token-embedding-type",
        "iq4_nl",
    ];
    let report = with(&[&["--grid", "q4_k"][..], &rules].concat()).json();
    for (tensor, ty) in [
        ("blk.0.ffn_down.weight", "q8_0"),
        ("blk.1.ffn_down.weight", "q8_0"),
        ("blk.1.ffn_up.weight", "q5_k"),
        ("blk.0.ffn_up.weight", "q4_k"),
        ("output.weight", "q3_k"),
        ("token_embd.weight", "iq4_nl"),
    ] {
        assert_eq!(type_of(&report, tensor), ty, "{tensor}");
    }
    let text = text_file(directory.path());
    let budget = ["--bits", "5", "--dry-run", "--calibration", arg(&text)];
    let report = with(&[&budget[..], &rules].concat()).json();
    assert_eq!(type_of(&report, "blk.1.attn_v.weight"), "q5_k");
    assert_eq!(type_of(&report, "output.weight"), "q3_k");
}

#[test]
fn wrong_rules_are_refused() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny::narrow().write(&model);
    for (flags, said) in [
        (["--grid", "q9"], "q4_k"),
        (["--grid", "int9:128"], "int9:128"),
        (["--tensor-type", "ffn"], "REGEX=TYPE"),
        (["--tensor-type", "(=q4_0"], "--tensor-type"),
        (["--tensor-type", "ffn=q9"], "q9"),
        (["--tensor-type", "nothing_like_it=q4_0"], "no tensor's name matches"),
        (["--tensor-type", "ffn=int4:32"], "GGUF has no such type"),
        (["--output-tensor-type", "q8_0"], "--token-embedding-type"),
        (["--format", "zip"], "--format zip"),
        (["--chunks", "0"], "--no-eval"),
        (["--calibration", "/nonexistent/text"], "/nonexistent/text"),
    ] {
        compress(&model, &output, &flags).refused(&[said]);
        assert!(!output.exists(), "{flags:?}");
    }
    run(&["compress", arg(&model), "--method", "magic", "-o", arg(&output)]).refused(&["magic", "rtn"]);
}
