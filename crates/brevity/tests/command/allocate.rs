//! Budgets shared out on runs of the model, files to a limit of loss, and the database of levels between runs.

use crate::support::*;
use crate::tiny::Tiny;
use std::path::{Path, PathBuf};

struct Case {
    directory: tempfile::TempDir,
    model: PathBuf,
    text: PathBuf,
}

impl Case {
    fn new(tiny: &Tiny) -> Self {
        let directory = temporary();
        let (model, text) = (directory.path().join("tiny"), text_file(directory.path()));
        tiny.write(&model);
        Self { directory, model, text }
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("out.gguf")
    }

    fn run(&self, flags: &[&str]) -> Ran {
        let (output, text) = (self.output(), arg(&self.text));
        let files = ["compress", arg(&self.model), "--calibration", text, "--text", text, "-o", arg(&output)];
        run(&[&files[..], &["--method", "rtn", "--force"], flags].concat())
    }
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_limit_of_loss_is_met_closely_from_below() {
    let case = Case::new(&Tiny { layers: 4, ..Tiny::default() });
    let loss = |bits: &str| number(&case.run(&["--bits", bits, "--json"]).json(), "kld_mean_bits");
    let (coarse, fine) = (loss("3.2"), loss("5"));
    assert!(fine < coarse);
    let mut sizes = Vec::new();
    for (limit, allocate) in [(coarse, "none"), ((coarse * fine).sqrt(), "lagrange"), (fine, "evopress")] {
        let limit = (1e9 * limit).round() / 1e9;
        let found = case.run(&["--max-kld", &limit.to_string(), "--json", "--allocate", allocate]).json();
        let kld = number(&found, "kld_mean_bits");
        assert!((0.95 * limit..=limit).contains(&kld), "{kld} of {limit}");
        assert_eq!(number(&found, "bytes_after") as u64, bytes(&case.output()));
        let args =
            ["eval", arg(&case.output()), "--against", arg(&case.model), "--text", arg(&case.text)].map(String::from);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let seen = run(&[&args[..], &["--activations", "f32", "--chunks", "16", "--window", "256", "--json"]].concat());
        assert!((number(&seen.json(), "kld_mean_bits") - kld).abs() < 1e-9);
        sizes.push(bytes(&case.output()));
    }
    assert!(sizes.is_sorted(), "{sizes:?}");
    assert_eq!(listing(case.directory.path()), ["out.gguf", "text.txt", "tiny"]);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let case = Case::new(&Tiny::default());
    for wrong in ["0", "-0.1", "NaN", "inf"] {
        case.run(&["--max-kld", wrong]).refused(&["--max-kld", "above 0"]);
    }
    case.run(&["--max-kld", "1e-9"]).refused(&["floor of the measurement"]);
    // Eight-bit activations disturb a model that is quantised itself: that is its floor.
    let eight = case.run(&["--grid", "q8_0", "--activations", "int8", "--json"]).json();
    let below = (0.5 * number(&eight, "kld_floor_bits")).to_string();
    let (quantised, text) = (case.directory.path().join("q8_0.gguf"), arg(&case.text));
    std::fs::rename(case.output(), &quantised).unwrap();
    let output = case.output();
    let flags = ["--calibration", text, "--text", text, "--allow-requantize", "-o", arg(&output)];
    run(&[&["compress", arg(&quantised), "--max-kld", &below, "--activations", "int8"][..], &flags].concat())
        .refused(&["floor", "--activations f32"]);
    std::fs::remove_file(quantised).unwrap();
    case.run(&["--max-kld", "0.1", "--no-eval"]).refused(&["--no-eval"]);
    case.run(&["--max-kld", "0.1", "--dry-run"]).refused(&["--dry-run"]);
    case.run(&["--max-kld", "0.1", "--bits", "4"]).refused(&["--bits"]);
    assert_eq!(listing(case.directory.path()), ["text.txt", "tiny"]);
}

#[test]
fn searches_keep_the_budget_and_find_the_same_again() {
    let case = Case::new(&Tiny { layers: 4, ..Tiny::default() });
    for allocate in ["lagrange", "evopress"] {
        let mut files = Vec::new();
        for threads in ["1", "3"] {
            let flags = ["--size", "1000000", "--allocate", allocate, "--no-eval", "--threads", threads, "--json"];
            case.run(&flags).json();
            assert!(bytes(&case.output()) <= 1_000_000);
            files.push(std::fs::read(case.output()).unwrap());
        }
        assert!(files[0] == files[1], "{allocate}");
    }
}

#[test]
fn a_database_of_levels_is_built_once_and_belongs_to_one_model() {
    let case = Case::new(&Tiny::default());
    let levels = case.directory.path().join("levels");
    let flags = ["--bits", "4", "--no-eval", "--allocate", "lagrange", "--levels", arg(&levels)];
    case.run(&flags).ok();
    let (first, files) = (std::fs::read(case.output()).unwrap(), listing(&levels));
    assert!(files.contains(&"blk.1.ffn_down.weight.json".to_string()), "{files:?}");
    let changed = |name: &str| std::fs::metadata(levels.join(name)).unwrap().modified().unwrap();
    let times: Vec<_> = files.iter().map(|name| changed(name)).collect();
    case.run(&flags).ok();
    assert_eq!(first, std::fs::read(case.output()).unwrap());
    assert_eq!(times, files.iter().map(|name| changed(name)).collect::<Vec<_>>(), "nothing is made again");

    // Damage is found and named.
    let bin = levels.join("blk.0.attn_q.weight.bin");
    let good = std::fs::read(&bin).unwrap();
    std::fs::write(&bin, &good[1..]).unwrap();
    case.run(&flags).refused(&["blk.0.attn_q.weight.bin", "expected"]);
    let mut bad = good.clone();
    bad.iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&bin, &bad).unwrap();
    case.run(&flags).refused(&["blk.0.attn_q.weight.bin", "damaged"]);
    std::fs::write(&bin, &good).unwrap();
    std::fs::write(levels.join("blk.0.attn_q.weight.json"), "{").unwrap();
    case.run(&flags).refused(&["blk.0.attn_q.weight.json", "damaged"]);
    std::fs::remove_file(levels.join("blk.0.attn_q.weight.json")).unwrap();
    case.run(&flags).ok();

    Tiny { seed: 2, ..Tiny::default() }.write(&case.model);
    case.run(&flags).refused(&["--levels", "another model"]);
}
