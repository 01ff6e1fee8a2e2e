//! Budgets are met within half a per cent from below, or refused with the smallest that is possible.

use crate::support::*;
use crate::tiny::Tiny;
use std::path::{Path, PathBuf};

struct Case {
    directory: tempfile::TempDir,
    model: PathBuf,
    text: PathBuf,
}

impl Case {
    fn new() -> Self {
        let directory = temporary();
        let (model, text) = (directory.path().join("tiny"), text_file(directory.path()));
        Tiny { layers: 4, ..Tiny::default() }.write(&model);
        Self { directory, model, text }
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("out.gguf")
    }

    fn run(&self, flags: &[&str]) -> Ran {
        let output = self.output();
        let args = [
            "compress",
            "--method",
            "rtn",
            arg(&self.model),
            "--calibration",
            arg(&self.text),
            "--no-eval",
            "--json",
            "--force",
        ];
        run(&[&args[..], &["-o", arg(&output)], flags].concat())
    }
}

fn bytes(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64
}

#[test]
fn bits_are_met_from_below() {
    let case = Case::new();
    for bits in ["3.1", "4.25", "6"] {
        let plan = case.run(&["--bits", bits, "--dry-run"]).json();
        let (found, asked) = (number(&plan, "bits_per_weight"), bits.parse::<f64>().unwrap());
        assert!((asked * 0.995..=asked).contains(&found), "{bits}: {found}");
    }
}

#[test]
fn a_file_is_never_larger_than_asked() {
    let case = Case::new();
    for size in [900_000.0, 1_333_333.0] {
        let report = case.run(&["--size", &format!("{size}")]).json();
        let found = bytes(&case.output());
        assert_eq!(number(&report, "bytes_after"), found);
        assert!((size * 0.995..=size).contains(&found), "{size}: {found}");
    }
    let source = bytes(&case.model.join("model.safetensors"));
    case.run(&["--ratio", "0.3"]).json();
    let share = bytes(&case.output()) / source;
    assert!((0.3 * 0.995..=0.3).contains(&share), "{share}");
}

#[test]
fn impossible_budgets_name_the_smallest_which_is_possible() {
    let case = Case::new();
    let refused = case.run(&["--bits", "1"]).refused(&["too few", "the least possible is"]);
    let least = refused.err.trim_end().rsplit(' ').next().unwrap().to_string();
    case.run(&["--bits", &least, "--dry-run"]).json();
    let refused = case.run(&["--size", "1kB"]).refused(&["too little", "the smallest file possible is"]);
    let least = refused.err.rsplit_once('(').unwrap().1.split(' ').next().unwrap().to_string();
    case.run(&["--size", &least]).json();
    assert!(bytes(&case.output()) <= least.parse::<f64>().unwrap());
    case.run(&["--ratio", "0.001"]).refused(&["the smallest file possible is"]);
}

#[test]
fn absurd_budgets_are_refused() {
    let case = Case::new();
    for flags in [
        ["--bits", "0"],
        ["--bits", "NaN"],
        ["--bits", "-3"],
        ["--bits", "four"],
        ["--size", "-3MB"],
        ["--size", "many"],
        ["--ratio", "1.5"],
        ["--ratio", "-1"],
        ["--ratio", "0"],
    ] {
        case.run(&flags).refused(&[flags[0]]);
    }
    case.run(&["--bits", "4", "--size", "1MB"]).refused(&["cannot be used with"]);
    case.run(&["--bits", "4", "--grid", "q4_k"]).refused(&["cannot be used with"]);
    assert!(!case.output().exists());
}
