//! `eval`: perplexity, divergence, tasks.

use crate::support::*;
use crate::tiny::Tiny;
use std::path::PathBuf;

struct Case {
    directory: tempfile::TempDir,
    model: PathBuf,
    text: PathBuf,
}

impl Case {
    fn new() -> Self {
        let directory = temporary();
        let (model, text) = (directory.path().join("tiny"), text_file(directory.path()));
        Tiny::default().write(&model);
        Self { directory, model, text }
    }

    fn eval(&self, flags: &[&str]) -> Ran {
        let args = ["eval", arg(&self.model), "--text", arg(&self.text), "--json"];
        run(&[&args[..], flags].concat())
    }
}

#[test]
fn a_model_is_no_bit_away_from_itself() {
    let case = Case::new();
    for activations in ["int8", "f32"] {
        let flags = ["--against", arg(&case.model), "--window", "64", "--chunks", "2", "--activations", activations];
        let all = case.eval(&flags).json();
        for key in ["kld_mean_bits", "kld_se_bits", "kld_p99_bits", "kld_p999_bits", "kld_max_bits"] {
            assert_eq!(number(&all, key), 0.0, "{key}");
        }
        assert_eq!(number(&all, "top1_agreement"), 1.0);
        assert_eq!(all["perplexity"], all["perplexity_original"]);
        assert!(number(&all, "kld_floor_bits") >= 0.0);
    }
}

#[test]
fn a_compressed_model_is_measured_against_its_original() {
    let case = Case::new();
    let small = case.directory.path().join("small.gguf");
    run(&["compress", "--method", "rtn", arg(&case.model), "--grid", "q3_k", "--no-eval", "-o", arg(&small)]).ok();
    let flags = ["--window", "64", "--chunks", "2", "--text", arg(&case.text), "--json"];
    let all = run(&[&["eval", arg(&small), "--against", arg(&case.model)][..], &flags].concat()).json();
    let (mean, se) = (number(&all, "kld_mean_bits"), number(&all, "kld_se_bits"));
    assert!(mean > 0.0 && se > 0.0 && se < mean, "{mean} ± {se}");
    let order = ["kld_median_bits", "kld_p99_bits", "kld_p999_bits", "kld_max_bits"].map(|key| number(&all, key));
    assert!(order.is_sorted(), "{order:?}");
    run(&["eval", arg(&case.model), "--against", "nano", "--json"]).refused(&["different tokenizers"]);
    run(&["eval", arg(&case.model), "--against", "/nonexistent/model", "--json"]).refused(&["/nonexistent/model"]);
}

#[test]
fn windows_count_as_documented() {
    let case = Case::new();
    let all = case.eval(&["--window", "64", "--chunks", "3"]).json();
    assert_eq!(all["tokens"], 3 * 63);
    for key in ["perplexity", "bits_per_byte", "bits_per_token", "bytes"] {
        assert!(number(&all, key) > 0.0, "{key}");
    }
    assert!(all["information_capacity"].is_number());
    let half = case.eval(&["--window", "64", "--chunks", "3", "--score", "second-half"]).json();
    assert_eq!(half["tokens"], 3 * 31);
    let again = case.eval(&["--window", "64", "--chunks", "3"]).json();
    assert_eq!(all, again);
    let default = case.eval(&["--chunks", "1"]).json();
    assert_eq!(default["window"], 256);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let case = Case::new();
    case.eval(&["--window", "512"]).refused(&["--window 512", "256"]);
    case.eval(&["--window", "4"]).refused(&["--window 4"]);
    case.eval(&["--chunks", "0"]).refused(&["--chunks 0"]);
    let short = case.directory.path().join("short.txt");
    std::fs::write(&short, "").unwrap();
    run(&["eval", arg(&case.model), "--text", arg(&short), "--json"]).refused(&["short.txt", "empty"]);
    std::fs::write(&short, "some words, not many").unwrap();
    let halves = ["--score", "second-half", "--window", "64", "--json"];
    run(&[&["eval", arg(&case.model), "--text", arg(&short)][..], &halves].concat()).refused(&["too short", "128"]);
    run(&["eval", arg(&case.model), "--text", "/nonexistent/text", "--json"]).refused(&["/nonexistent/text"]);
}

#[test]
fn tasks_are_scored() {
    let case = Case::new();
    let task = case.directory.path().join("toy.jsonl");
    let line = |i: usize| {
        let choices = r#"{"text": ["red", "a long answer", "blue sky"], "label": ["A", "B", "C"]}"#;
        format!(
            "{{\"question\": \"What is {i}?\", \"choices\": {choices}, \"answerKey\": \"{}\"}}\n",
            ["A", "B", "C"][i % 3]
        )
    };
    std::fs::write(&task, (0..9).map(line).collect::<String>()).unwrap();
    let scores = run(&["eval", arg(&case.model), "--tasks", arg(&task), "--json"]).json();
    let score = &scores["tasks"][0];
    assert_eq!((score["task"].as_str(), score["questions"].as_u64()), (Some("toy"), Some(9)));
    for key in ["acc", "acc_norm"] {
        assert!((0.0..=1.0).contains(&number(score, key)), "{key}");
        assert!(number(score, &format!("{key}_se")) >= 0.0);
    }
    let by_name = ["--tasks", "toy", "--tasks-dir", arg(case.directory.path()), "--limit", "3", "--json"];
    let scores = run(&[&["eval", arg(&case.model)][..], &by_name].concat()).json();
    assert_eq!(scores["tasks"][0]["questions"], 3);
    let wrong = ["--tasks", "absent", "--tasks-dir", arg(case.directory.path()), "--json"];
    run(&[&["eval", arg(&case.model)][..], &wrong].concat()).refused(&["absent", "toy"]);
    run(&["eval", arg(&case.model), "--tasks", "absent", "--json"]).refused(&["absent", "--tasks-dir"]);
    std::fs::write(&task, line(0) + "{\"question\": \"half").unwrap();
    run(&["eval", arg(&case.model), "--tasks", arg(&task), "--json"]).refused(&["toy.jsonl, line 2"]);
    std::fs::write(&task, "{\"what\": 1}\n").unwrap();
    run(&["eval", arg(&case.model), "--tasks", arg(&task), "--json"]).refused(&["toy.jsonl, line 1"]);
}

#[test]
fn the_published_sets_are_read() {
    let near = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let sets = std::env::var_os("BREVITY_DATA").map_or_else(near, PathBuf::from).join("lm-eval");
    if !sets.is_dir() {
        println!("skipped: no {} (set BREVITY_DATA)", sets.display());
        return;
    }
    let names = "arc_easy,arc_challenge,cb,commonsense_qa,copa,mmlu_validation,mrpc";
    let args = ["eval", "--tasks", names, "--tasks-dir", arg(&sets), "--limit", "2", "--json"];
    let scores = run(&args).json();
    let scores = scores["tasks"].as_array().unwrap();
    assert_eq!(scores.len(), names.split(',').count());
    scores.iter().for_each(|score| assert_eq!(score["questions"], 2, "{score}"));
}
