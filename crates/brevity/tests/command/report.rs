//! `compress` on the embedded model, and what it reports.

use crate::support::*;
use crate::tiny::Tiny;

/// The embedded model with a short calibration and one window of measurement.
#[test]
fn the_default_compresses_the_embedded_model_and_reports_everything() {
    let directory = temporary();
    let text = text_file(directory.path());
    let output = directory.path().join("nano.gguf");
    let args = [
        "compress",
        "--method",
        "rtn",
        "--allocate",
        "none",
        "--json",
        "--chunks",
        "1",
        "--calibration",
        arg(&text),
        "-o",
        arg(&output),
    ];
    let report = run(&args).json();
    assert_eq!(report["method"], "rtn");
    for key in [
        "bits_per_weight",
        "bytes_before",
        "kld_mean_bits",
        "kld_p999_bits",
        "top1_agreement",
        "bpb_before",
        "bpb_after",
        "seconds",
        "peak_rss_bytes",
    ] {
        assert!(number(&report, key) > 0.0, "{key}: {}", report[key]);
    }
    assert!(number(&report, "kld_floor_bits") < number(&report, "kld_mean_bits"));
    let bits = number(&report, "bits_per_weight");
    assert!((4.5 * 0.995..=4.5).contains(&bits), "{bits}");
    assert_eq!(report["bytes_after"], std::fs::metadata(&output).unwrap().len());
    let tensors = report["tensors"].as_array().unwrap();
    let bytes: f64 = tensors.iter().map(|tensor| number(tensor, "bytes")).sum();
    assert!((8.0 * bytes / number(&report, "weights") - bits).abs() < 1e-9);
    for tensor in tensors {
        assert!(tensor["name"].is_string() && tensor["type"].is_string(), "{tensor}");
        assert!(number(tensor, "error") >= 0.0);
    }
    assert!(tensors.iter().any(|tensor| number(tensor, "error") > 0.0));
    let seen = run(&["inspect", arg(&output), "--json"]).json();
    assert_eq!(seen["weights"], report["weights"]);
    assert_eq!(seen["bits_per_weight"], report["bits_per_weight"]);
}

#[test]
fn a_report_for_people_ends_with_the_name_of_the_file() {
    let directory = temporary();
    Tiny::default().write(&directory.path().join("tiny-1.5B"));
    let text = text_file(directory.path());
    let ran = run_in(
        directory.path(),
        &[
            "compress",
            "--method",
            "rtn",
            "tiny-1.5B",
            "--grid",
            "q4_k",
            "--chunks",
            "1",
            "--text",
            arg(&text),
            "--report",
            "r.html",
        ],
    )
    .ok();
    assert!(ran.out.trim_end().ends_with("written: tiny-1.5B-rtn-q4_k.gguf"), "{}", ran.out);
    assert!(ran.out.contains("bits per weight") && ran.out.contains("floor of this measurement"), "{}", ran.out);
    assert!(std::fs::read_to_string(directory.path().join("r.html")).unwrap().contains("<svg"));
    assert_eq!(listing(directory.path()), ["r.html", "text.txt", "tiny-1.5B", "tiny-1.5B-rtn-q4_k.gguf"]);
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let directory = temporary();
    Tiny::default().write(&directory.path().join("tiny"));
    let text = text_file(directory.path());
    let args = ["compress", "--method", "rtn", "tiny", "--bits", "4.25", "--dry-run", "--calibration", arg(&text)];
    let plan = run_in(directory.path(), &[&args[..], &["--json"]].concat()).json();
    assert_eq!(plan["dry_run"], true);
    assert!(plan["tensors"].as_array().unwrap().len() > 15);
    let table = run_in(directory.path(), &args).ok().out;
    assert!(table.contains("blk.1.ffn_down.weight"), "{table}");
    assert_eq!(listing(directory.path()), ["text.txt", "tiny"]);
}

#[test]
fn what_exists_stays_unless_forced() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny::narrow().write(&model);
    std::fs::write(&output, "mine").unwrap();
    let args =
        ["compress", "--method", "rtn", arg(&model), "--grid", "q8_0", "--no-eval", "--json", "-o", arg(&output)];
    run(&args).refused(&["out.gguf exists already", "--force"]);
    assert_eq!(std::fs::read(&output).unwrap(), b"mine");
    run(&[&args[..], &["--force"]].concat()).json();
    run(&["inspect", arg(&output)]).ok();
    let to = |path: &str, flags: &[&str]| {
        let path = directory.path().join(path);
        let args =
            ["compress", "--method", "rtn", arg(&model), "--grid", "q8_0", "--no-eval", "--json", "-o", arg(&path)];
        run(&[&args[..], flags].concat())
    };
    to("tiny", &["--force"]).refused(&["is a directory"]);
    to("nowhere/out.gguf", &[]).refused(&["no directory", "nowhere"]);
    assert_eq!(listing(directory.path()), ["out.gguf", "tiny"]);
}

#[test]
fn quantised_sources_are_taken_only_when_asked() {
    let directory = temporary();
    let (model, small) = (directory.path().join("tiny"), directory.path().join("small.gguf"));
    Tiny::default().write(&model);
    let text = text_file(directory.path());
    run(&["compress", "--method", "rtn", arg(&model), "--grid", "q8_0", "--no-eval", "-o", arg(&small)]).ok();
    let smaller = directory.path().join("smaller.gguf");
    let args =
        ["compress", "--method", "rtn", arg(&small), "--grid", "q4_0", "--chunks", "1", "--json", "-o", arg(&smaller)];
    run(&args).refused(&["is q8_0 already", "--allow-requantize"]);
    let report = run(&[&args[..], &["--allow-requantize", "--text", arg(&text)]].concat()).json();
    assert_eq!(report["requantized"], true);
    assert!(number(&report, "kld_mean_bits") > 0.0);
}

#[test]
fn too_little_memory_is_refused_with_the_least() {
    let directory = temporary();
    let (model, output) = (directory.path().join("tiny"), directory.path().join("out.gguf"));
    Tiny::default().write(&model);
    let text = text_file(directory.path());
    let with = |limit: &str| {
        let (text, output) = (arg(&text), arg(&output));
        let args = [
            "compress",
            "--method",
            "rtn",
            arg(&model),
            "--grid",
            "q4_k",
            "--chunks",
            "1",
            "--text",
            text,
            "--json",
            "-o",
            output,
        ];
        run(&[&args[..], &["--memory", limit]].concat())
    };
    with("10MB").refused(&["--memory 10", "too little", "MB at the least"]);
    with("ten").refused(&["--memory"]);
    assert!(!output.exists());
    let report = with("300MB").json();
    assert!(number(&report, "peak_rss_bytes") <= 300e6);
}
