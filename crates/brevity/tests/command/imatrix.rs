//! Importance matrices: written, read back, refused where they do not belong.

use crate::support::*;
use crate::tiny::Tiny;
use brevity_formats::imatrix::Imatrix;
use std::path::{Path, PathBuf};

fn made(directory: &Path, tiny: &Tiny, name: &str, flags: &[&str]) -> PathBuf {
    let (model, text, output) = (directory.join(name), text_file(directory), directory.join(format!("{name}.gguf")));
    tiny.write(&model);
    let args = ["imatrix", arg(&model), "--calibration", arg(&text), "-o", arg(&output), "--window", "64", "--json"];
    let report = run(&[&args[..], flags].concat()).json();
    assert_eq!(report["entries"], Imatrix::open(&output).unwrap().entries.len());
    output
}

#[test]
fn a_file_holds_what_the_matrices_saw_and_stands_for_calibration() {
    let directory = temporary();
    let path = made(directory.path(), &Tiny::default(), "tiny", &["--process-output", "--chunks", "5"]);
    let imatrix = Imatrix::open(&path).unwrap();
    assert_eq!((imatrix.chunk_count, imatrix.chunk_size), (5, 64));
    assert_eq!(imatrix.entries.len(), 2 * 7 + 1);
    for (name, entry) in &imatrix.entries {
        assert_eq!((entry.sums.len(), &entry.counts[..]), (256, &[5 * 64][..]), "{name}");
        assert!(entry.sums.iter().all(|sum| *sum >= 0.0) && entry.sums.iter().any(|sum| *sum > 0.0), "{name}");
    }
    // What shares an input saw the same.
    let sums = |name: &str| &imatrix.entries[name].sums;
    assert_eq!(sums("blk.1.attn_q.weight"), sums("blk.1.attn_v.weight"));
    assert_ne!(sums("blk.1.attn_q.weight"), sums("blk.0.attn_q.weight"));

    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    let bytes = |flags: &[&str]| {
        let args = ["compress", arg(&model), "--grid", "q3_k", "--no-eval", "--force", "-o", arg(&output), "--quiet"];
        run(&[&args[..], flags].concat()).ok();
        std::fs::read(&output).unwrap()
    };
    let given = bytes(&["--imatrix", arg(&path)]);
    assert_eq!(given, bytes(&["--imatrix", arg(&path), "--method", "imatrix", "--threads", "3"]));
    assert_ne!(given, bytes(&["--method", "rtn"]));
    // The older layout holds the same means, rounded once more.
    let legacy = directory.path().join("tiny.dat");
    let text = text_file(directory.path());
    let args = ["imatrix", arg(&model), "--calibration", arg(&text), "-o", arg(&legacy), "--window", "64"];
    run(&args).ok();
    assert_eq!(Imatrix::open(&legacy).unwrap().entries.len(), 2 * 7);
    bytes(&["--imatrix", arg(&legacy)]);
    run(&args).refused(&["exists already"]);
}

#[test]
fn files_of_other_models_and_damaged_ones_are_refused_by_name() {
    let directory = temporary();
    let narrow = made(directory.path(), &Tiny::narrow(), "narrow", &[]);
    let shallow = made(directory.path(), &Tiny { layers: 1, ..Tiny::default() }, "shallow", &[]);
    let good = made(directory.path(), &Tiny::default(), "tiny", &[]);
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    let compress = |imatrix: &Path, flags: &[&str]| {
        let args = ["compress", arg(&model), "--imatrix", arg(imatrix), "--grid", "q4_k", "-o", arg(&output)];
        run(&[&args[..], flags].concat())
    };
    compress(&narrow, &[]).refused(&["narrow.gguf", "blk.0.attn_q.weight", "96 values", "256"]);
    compress(&shallow, &[]).refused(&["shallow.gguf", "blk.1.attn_q.weight"]);
    let bytes = std::fs::read(&good).unwrap();
    let cut = directory.path().join("cut.gguf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    compress(&cut, &[]).refused(&["cut.gguf"]);
    compress(&directory.path().join("none.gguf"), &[]).refused(&["none.gguf"]);
    compress(&good, &["--method", "gptq"]).refused(&["Hessian", "--method imatrix"]);
    compress(&good, &["--method", "awq+imatrix"]).refused(&["awq", "leave out"]);
    assert!(!output.exists());
    let text = directory.path().join("short.txt");
    std::fs::write(&text, "Too short.").unwrap();
    run(&["imatrix", arg(&model), "--calibration", arg(&text), "-o", arg(&output)]).refused(&["too short"]);
}

/// Sums differ by what the two programs' arithmetic does: llama.cpp multiplies bf16 weights by inputs rounded to bf16, and keeps
/// keys and values in f16. On nano every entry is within 0.4 % of its own or of a thousandth of its matrix's mean.
#[test]
fn llama_imatrix_counts_the_same() {
    let Some(tools) = std::env::var_os("BREVITY_LLAMA_CPP").map(PathBuf::from) else {
        println!("skipped: set BREVITY_LLAMA_CPP to the folder of llama-imatrix");
        return;
    };
    let directory = temporary();
    let [model, text, ours, theirs] = ["m.gguf", "t.txt", "a.gguf", "b.gguf"].map(|name| directory.path().join(name));
    run(&["convert", concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano"), arg(&model)]).ok();
    std::fs::write(&text, include_str!("../../texts/calibration.txt")).unwrap();
    let flags = ["--chunks", "4"];
    run(&[&["imatrix", arg(&model), "--calibration", arg(&text), "-o", arg(&ours)][..], &flags].concat()).ok();
    let mut peer = std::process::Command::new(tools.join("llama-imatrix"));
    let status = peer.args(["-m", arg(&model), "-f", arg(&text), "-o", arg(&theirs)]).args(flags).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let [ours, theirs] = [ours, theirs].map(|path| Imatrix::open(path).unwrap());
    assert!(ours.entries.keys().eq(theirs.entries.keys()));
    assert_eq!((ours.chunk_count, ours.chunk_size), (theirs.chunk_count, theirs.chunk_size));
    assert_eq!(ours.datasets, theirs.datasets);
    for (name, entry) in &ours.entries {
        let other = &theirs.entries[name];
        assert_eq!(entry.counts, other.counts, "{name}");
        let mean = other.sums.iter().sum::<f32>() / other.sums.len() as f32;
        for (a, b) in entry.sums.iter().zip(&other.sums) {
            assert!((a - b).abs() <= 0.01 * b.max(1e-3 * mean), "{name}: {a} and {b}");
        }
    }
}
