//! Methods that look at the inputs of each matrix, as they are called for.

use crate::support::*;
use crate::tiny::Tiny;
use std::process::Stdio;
use std::time::Duration;

/// The embedded model, calibrated on little: 1,536 tokens.
fn compress(output: &str, flags: &[&str], directory: &std::path::Path) -> Ran {
    let args = ["compress", "--calibration-windows", "3", "--chunks", "2", "--json", "--force", "-o", output];
    run_in(directory, &[&args[..], flags].concat())
}

#[test]
fn error_feedback_loses_less_in_every_format() {
    let directory = temporary();
    let goals: [&[&str]; 3] =
        [&["--grid", "q3_k"], &["--grid", "int3:128"], &["--grid", "int4:64", "--format", "compressed-tensors"]];
    for goal in goals {
        let loss = |method| {
            let report = compress("out", &[goal, &["--method", method]].concat(), directory.path()).json();
            assert_eq!(report["method"], method);
            number(&report, "kld_mean_bits")
        };
        let (nearest, feedback) = (loss("rtn"), loss("gptq"));
        assert!(feedback < 0.8 * nearest, "{goal:?}: {feedback} against {nearest}");
        let _ = std::fs::remove_file(directory.path().join("out"));
        let _ = std::fs::remove_dir_all(directory.path().join("out"));
    }
}

#[test]
fn scarce_memory_sends_hidden_states_to_disk_and_changes_no_byte() {
    let directory = temporary();
    let flags = ["--grid", "q3_k", "--method", "gptq", "--no-eval"];
    compress("free.gguf", &flags, directory.path()).ok();
    let refused = compress("tight.gguf", &[&flags[..], &["--memory", "1MB"]].concat(), directory.path());
    let refused = refused.refused(&["MB at the least"]).err;
    let least = refused.split("this job needs ").nth(1).unwrap().split(" at the least").next().unwrap();
    let least: f64 = least.strip_suffix(" MB").unwrap().parse().unwrap();
    // The least is what the job takes with its states on disk: it is enough, and states in memory would not fit.
    let limit = format!("{}MB", least + 1.0);
    compress("tight.gguf", &[&flags[..], &["--memory", &limit]].concat(), directory.path()).ok();
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    assert!(read("free.gguf") == read("tight.gguf"));
}

#[test]
fn a_fold_comes_before_the_method() {
    let directory = temporary();
    let goal = ["--grid", "int3:128", "--quantize-embedding"];
    let nearest = compress("rtn", &[&goal[..], &["--method", "rtn"]].concat(), directory.path()).json();
    let folded = compress("awq", &[&goal[..], &["--method", "awq"]].concat(), directory.path()).json();
    assert_eq!(folded["method"], "awq+rtn");
    assert!(number(&folded, "kld_mean_bits") < number(&nearest, "kld_mean_bits"));
    let groups = folded["folds"].as_array().unwrap();
    assert!(groups.iter().all(|group| number(group, "error_after") <= number(group, "error_before")), "{groups:?}");
    assert!(groups.iter().any(|group| number(group, "alpha") > 0.0), "{groups:?}");
    compress("x", &["--method", "gptq+awq"], directory.path()).refused(&["gptq", "awq"]);
}

#[test]
fn sums_of_parts_meet_a_budget() {
    let directory = temporary();
    Tiny { layers: 1, context: 512, ..Tiny::default() }.write(&directory.path().join("tiny"));
    let report = compress("sum", &["tiny", "--method", "bitstack", "--bits", "5"], directory.path()).json();
    let bits = number(&report, "bits_per_weight");
    assert!(bits <= 5.0 && bits > 4.9, "{bits}");
    compress("sum.gguf", &["--method", "bitstack", "--bits", "5", "--format", "gguf"], directory.path())
        .refused(&["--format parts"]);
}

#[test]
fn too_little_text_is_refused_with_the_number_needed() {
    let directory = temporary();
    std::fs::write(directory.path().join("short.txt"), "Only a few words.").unwrap();
    let short = ["--method", "gptq", "--calibration", "short.txt"];
    compress("out.gguf", &short, directory.path()).refused(&["calibration text", "1024"]);
    assert_eq!(listing(directory.path()), ["short.txt"]);
    let few = ["compress", "--method", "gptq", "--calibration-windows", "1", "-o", "out.gguf"];
    run_in(directory.path(), &few).refused(&["512 tokens", "1024"]);
}

#[test]
fn after_a_kill_a_calibrated_run_goes_on_to_the_same_bytes() {
    let directory = temporary();
    let flags = ["--method", "gptq", "--grid", "q3_k", "--no-eval"];
    compress("out.gguf", &flags, directory.path()).ok();
    let whole = std::fs::read(directory.path().join("out.gguf")).unwrap();
    std::fs::remove_file(directory.path().join("out.gguf")).unwrap();

    let args = ["compress", "--calibration-windows", "3", "--force", "-o", "out.gguf"];
    let mut child = brevity(&[&args[..], &flags].concat());
    let mut child = child.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = directory.path().join("out.gguf.partial");
    while !std::fs::metadata(&partial).is_ok_and(|facts| facts.len() > 2_000_000) {
        assert!(child.try_wait().unwrap().is_none(), "ended before it could be killed");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = run_in(directory.path(), &[&args[..], &flags].concat()).ok();
    assert!(again.err.contains("going on after"), "{}", again.err);
    assert!(std::fs::read(directory.path().join("out.gguf")).unwrap() == whole);
}
