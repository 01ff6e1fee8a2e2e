//! The same bits whatever the threads and the instruction set.

use crate::support::*;
use crate::tiny::Tiny;
use std::path::Path;

/// A name the machine does not know or has not is passed over, so that every name can be tried everywhere.
const WAYS: [(&str, &str); 6] =
    [("1", "scalar"), ("2", "scalar"), ("1", "avx2"), ("2", "avx2"), ("1", "avx512"), ("2", "neon")];

fn text(model: &str, threads: &str, isa: &str) -> String {
    let args = ["run", model, "-p", "The whale", "-n", "12", "--seed", "3", "--threads", threads, "--json"];
    ran(brevity(&args).env("BREVITY_ISA", isa)).json()["tokens"].to_string()
}

fn file(model: &Path, output: &Path, flags: &[&str], threads: &str, isa: &str) -> Vec<u8> {
    let args =
        ["compress", "--method", "rtn", arg(model), "--no-eval", "-o", arg(output), "--force", "--threads", threads];
    ran(brevity(&[&args[..], flags].concat()).env("BREVITY_ISA", isa)).ok();
    std::fs::read(output).unwrap()
}

#[test]
fn text_is_the_same_on_every_way() {
    let directory = temporary();
    let (model, small) = (directory.path().join("tiny"), directory.path().join("small.gguf"));
    Tiny { width: 512, ..Tiny::default() }.write(&model);
    let mixed = ["--tensor-type", "attn_q=q8_0", "--tensor-type", "ffn_up=q3_k", "--tensor-type", "attn_v=iq4_nl"];
    let args = ["compress", "--method", "rtn", arg(&model), "--grid", "q4_k", "--no-eval", "-o", arg(&small)];
    run(&[&args[..], &mixed].concat()).ok();
    for model in [arg(&model), arg(&small), "nano"] {
        let first = text(model, WAYS[0].0, WAYS[0].1);
        for (threads, isa) in &WAYS[1..] {
            assert_eq!(text(model, threads, isa), first, "{model}: {threads} threads, {isa}");
        }
    }
}

#[test]
fn files_are_the_same_on_every_way() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny { layers: 1, context: 64, ..Tiny::narrow() }.write(&model);
    let calibration = text_file(directory.path());
    let budget = ["--bits", "5", "--calibration", arg(&calibration)];
    for flags in [&budget[..], &["--grid", "q4_k"], &["--grid", "iq4_xs", "--pure"], &["--grid", "q5_1"]] {
        let first = file(&model, &output, flags, WAYS[0].0, WAYS[0].1);
        for (threads, isa) in &WAYS[1..] {
            let same = file(&model, &output, flags, threads, isa) == first;
            assert!(same, "{flags:?}: {threads} threads, {isa}");
        }
    }
}

#[test]
fn measurements_are_the_same_on_every_way() {
    let directory = temporary();
    let model = directory.path().join("tiny");
    Tiny { layers: 1, ..Tiny::default() }.write(&model);
    let text = text_file(directory.path());
    let of = |threads: &str, isa: &str| {
        let args = ["eval", arg(&model), "--text", arg(&text), "--window", "64", "--chunks", "2", "--json"];
        ran(brevity(&[&args[..], &["--threads", threads]].concat()).env("BREVITY_ISA", isa)).json()
    };
    let first = of(WAYS[0].0, WAYS[0].1);
    for (threads, isa) in &WAYS[1..] {
        assert_eq!(of(threads, isa), first, "{threads} threads, {isa}");
    }
}
