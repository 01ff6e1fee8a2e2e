//! `--cache`: the KV cache of run, eval and bench.

use crate::support::*;
use crate::tiny::Tiny;

#[test]
fn text_goes_on_through_any_cache() {
    let prompt = "The history of the city begins with a ford across the river, and ".repeat(8);
    let mut texts = Vec::new();
    for cache in ["f32", "f16", "int8", "int4", "kivi:bits=4", "k:int8,v:int4", "window:budget=100 + int8"] {
        let args = ["run", "--json", "-p", &prompt, "-n", "24", "--temperature", "0", "--cache", cache];
        let json = run(&args).json();
        assert_eq!(json["tokens"].as_array().unwrap().len(), 24, "{cache}");
        texts.push((number(&json, "cache_bytes"), json["text"].clone()));
    }
    let bytes: Vec<f64> = texts.iter().map(|(bytes, _)| *bytes).collect();
    assert!(bytes[..4].is_sorted_by(|a, b| a > b), "{bytes:?}");
    assert!(bytes[6] < bytes[2], "a selection holds less: {bytes:?}");
    assert_eq!(texts[0].1, texts[1].1, "f16 changes no word of this text");
}

#[test]
fn what_a_cache_costs_is_measured_against_the_full_one() {
    let directory = temporary();
    let text = text_file(directory.path());
    let measure = |cache: &str| {
        let args = [
            "eval",
            "--json",
            "--text",
            arg(&text),
            "--window",
            "128",
            "--chunks",
            "1",
            "--score",
            "second-half",
            "--activations",
            "f32",
            "--cache",
            cache,
        ];
        run(&args).json()
    };
    let all: Vec<_> = ["f32", "f16", "int8", "int4", "int2"].map(measure).into();
    let lost: Vec<f64> = all.iter().map(|json| number(json, "kld_mean_bits")).collect();
    assert_eq!(lost[0], 0.0, "f32 is the reference itself");
    assert!(lost.is_sorted_by(|a, b| a < b), "{lost:?}");
    let bytes: Vec<f64> = all.iter().map(|json| number(json, "cache_bytes_per_token")).collect();
    assert!(bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
    assert_eq!(all[3]["cache"], "int4");
    assert_eq!(number(&all[0], "perplexity"), number(&all[0], "perplexity_original"));
}

#[test]
fn wrong_caches_are_explained() {
    for (cache, says) in [
        ("int5", "int4"),
        ("h2o:budget=4,sinks=9", "is the least"),
        ("int4 + int8", "both stores"),
        ("k:int8", "the rest"),
        ("", "names no method"),
    ] {
        run(&["run", "-p", "x", "--cache", cache]).refused(&["--cache", says]);
        run(&["eval", "--cache", cache]).refused(&["--cache", says]);
        run(&["bench", "speed", "--cache", cache]).refused(&["--cache", says]);
    }
    run(&["eval", "--cache", "int4", "--tasks", "x"]).refused(&["--cache", "--tasks"]);
}

#[test]
fn methods_of_the_cache_are_listed_with_their_papers() {
    let json = run(&["methods", "--room", "cache", "--json"]).json();
    let methods = json["methods"].as_array().unwrap();
    for name in [
        "int4",
        "kivi",
        "gear",
        "cskv",
        "razor",
        "minicache",
        "saq",
        "mixed",
        "h2o",
        "snapkv",
        "expected",
        "treekv",
        "ems",
        "kvmerger",
        "window",
        "random",
        "kvtc",
        "cachegen",
    ] {
        let method = methods.iter().find(|method| method["name"] == name).unwrap_or_else(|| panic!("{name}"));
        assert!(!method["title"].as_str().unwrap().is_empty());
    }
}

#[test]
fn the_bench_writes_a_table_and_a_picture() {
    let directory = temporary();
    let (text, page) = (text_file(directory.path()), directory.path().join("cache.md"));
    let specs = ["int8", "window:budget=25% + int4"];
    let mut args = vec!["bench", "cache", "--window", "160", "--chunks", "1", "--generate", "2", "--text", arg(&text)];
    specs.iter().for_each(|spec| args.extend(["--spec", spec]));
    args.extend(["--json", "-o", arg(&page)]);
    let json = run(&args).json();
    let points = json["points"].as_array().unwrap();
    assert_eq!(points.len(), 2);
    assert!(number(&points[0], "bytes_per_token") > number(&points[1], "bytes_per_token"));
    assert!(number(&points[0]["point"], "loss") < number(&points[1]["point"], "loss"));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("floor of this measurement") && page.contains("brevity bench cache"), "{page}");
    assert!(directory.path().join("cache-nano-160.svg").exists());
    run(&["bench", "cache", "--window", "100000"]).refused(&["context"]);
}

#[test]
fn a_context_is_saved_loaded_and_refused_when_damaged() {
    let directory = temporary();
    let file = directory.path().join("doc.kv");
    let text =
        "The history of the city begins with a ford across the river, where merchants met in the spring. ".repeat(6);
    for (codec, max_loss) in [("cachegen", "0.3"), ("kvtc", "0.05")] {
        let args = ["cache", "save", "--json", "-p", &text, "-o", arg(&file), "--max-loss", max_loss, "--codec", codec];
        let saved = run(&[&args[..], &["--force"]].concat()).json();
        assert!(number(&saved, "loss_bits") <= max_loss.parse().unwrap(), "{saved}");
        assert!(number(&saved, "ratio") > 2.0 && saved["codec"] == codec, "{saved}");
        assert_eq!(number(&saved, "bytes"), std::fs::metadata(&file).unwrap().len() as f64);
        let args = ["run", "--json", "-p", " In short,", "-n", "8", "--temperature", "0"];
        let loaded = run(&[&args[..], &["--cache-load", arg(&file)]].concat()).json();
        assert_eq!(number(&loaded, "loaded_tokens"), number(&saved, "tokens"));
        assert_eq!(loaded["tokens"].as_array().unwrap().len(), 8);
        assert!(number(&loaded, "prompt_tokens") > number(&saved, "tokens"));
    }
    run(&["cache", "save", "-p", &text, "-o", arg(&file)]).refused(&["exists", "--force"]);
    let load = ["run", "-p", "x", "-n", "1", "--cache-load", arg(&file)];
    run(&[&load[..], &["--cache", "snapkv:budget=100"]].concat()).refused(&["queries"]);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, &bytes).unwrap();
    run(&load).refused(&["doc.kv", "damaged"]);
    std::fs::write(&file, &bytes[..middle]).unwrap();
    run(&load).refused(&["doc.kv", "damaged"]);
    std::fs::write(&file, "nothing of the kind").unwrap();
    run(&load).refused(&["doc.kv", "no cache"]);
    run(&["cache", "save", "-p", "short", "-o", arg(&directory.path().join("b"))]).refused(&["least"]);
    run(&["cache", "save", "-p", &text, "-o", "x", "--codec", "zip"]).refused(&["kvtc, cachegen"]);
    run(&["cache", "save", "-p", &text, "-o", "x", "--max-loss", "0"]).refused(&["--max-loss"]);
}

#[test]
fn a_budget_is_kept_and_what_it_chose_can_be_named() {
    let directory = temporary();
    let model = directory.path().join("tiny");
    Tiny::default().write(&model);
    let prompt = "The history of the city begins with a ford across the river. ".repeat(8);
    let through = |options: &[&str]| {
        run(&[&["run", arg(&model), "--json", "-p", &prompt, "-n", "8", "--temperature", "0"], options].concat()).json()
    };
    // 2 layers, 2 heads of 64, keys and values.
    let f16 = 4.0 * 4.0 * 64.0;
    let mut chosen = Vec::new();
    for share in [50.0, 26.0] {
        let json = through(&["--cache-budget", &format!("{share}%")]);
        let tokens = number(&json, "prompt_tokens") + 8.0;
        let bytes = number(&json, "cache_bytes");
        assert!(bytes <= f16 * tokens * share / 100.0 && bytes > f16 * tokens * (share - 13.0) / 100.0, "{bytes}");
        let spec = json["cache"].as_str().unwrap().to_string();
        assert!(spec.starts_with("mixed:keys="), "{spec}");
        let again = through(&["--cache", &spec]);
        assert_eq!((&again["text"], &again["cache_bytes"]), (&json["text"], &json["cache_bytes"]));
        chosen.push(spec);
    }
    assert_ne!(chosen[0], chosen[1]);
    let json = through(&["--cache", "window:budget=50%", "--cache-budget", "26%"]);
    assert!(json["cache"].as_str().unwrap().starts_with("window:budget=50%,sinks=4 + mixed:"), "{json}");
    let refused = |options: &[&str], says: &[&str]| {
        run(&[&["run", arg(&model), "-p", &prompt], options].concat()).refused(says);
    };
    refused(&["--cache-budget", "2%"], &["--cache-budget", "2 bits", "selection"]);
    refused(&["--cache-budget", "0%"], &["--cache-budget 0%"]);
    refused(&["--cache-budget", "much"], &["--cache-budget", "much"]);
    refused(&["--cache", "int4", "--cache-budget", "50%"], &["names one: int4"]);
    refused(&["--cache", "mixed:keys=44,values=44"], &["2 heads are named"]);
}
