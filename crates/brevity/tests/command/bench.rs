//! `bench`: what the tables say, for machines.

use crate::support::*;
use crate::tiny::Tiny;

#[test]
fn speed_says_tokens_per_second_and_the_share_of_the_bandwidth() {
    let directory = temporary();
    let model = directory.path().join("tiny");
    Tiny::default().write(&model);
    let flags = ["--prompt", "16", "--generate", "4", "--repeat", "1", "--json"];
    let all = run(&[&["bench", "speed", arg(&model)][..], &flags].concat()).json();
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(number(&all, key) > 0.0, "{key}: {all}");
    }
    let two = run(&[&["bench", "speed", arg(&model), arg(&model)][..], &flags].concat()).json();
    assert!(two["models"].as_array().unwrap().iter().all(|one| number(one, "decode_tokens_per_second") > 0.0), "{two}");
    let page = directory.path().join("page.md");
    run(&[&["bench", "speed", arg(&model), arg(&model)][..], &flags, &["-o", arg(&page)]].concat()).ok();
    assert!(std::fs::read_to_string(&page).unwrap().contains("brevity bench speed tiny tiny --prompt 16"));
    let peer = ["--peer", "/nonexistent/llama-bench"];
    run(&[&["bench", "speed", arg(&model)][..], &flags, &peer].concat()).refused(&["llama-bench"]);
}

#[test]
fn weights_puts_each_method_on_the_plane_and_in_the_page() {
    let directory = temporary();
    let page = directory.path().join("page.md");
    std::fs::write(&page, "# Before\n").unwrap();
    let grids = ["--grids", "q8_0,q4_0", "--bits", "6", "--methods", "rtn,gptq", "--calibration-windows", "4"];
    let flags = ["--chunks", "1", "--json", "-o", arg(&page)];
    let model = directory.path().join("tiny");
    Tiny { layers: 1, ..Tiny::default() }.write(&model);
    let all = run(&[&["bench", "weights", arg(&model)][..], &grids, &flags].concat()).json();
    let points = all["points"].as_array().unwrap();
    let loss = |rate: std::ops::Range<f64>| {
        let near = points.iter().map(|point| &point["point"]).filter(|point| rate.contains(&number(point, "rate")));
        near.map(|point| number(point, "loss")).fold(f64::MAX, f64::min)
    };
    assert!(points.len() == 6, "{all}");
    assert!(loss(8.0..9.0) < loss(5.5..6.01) && loss(5.5..6.01) < loss(4.0..5.2), "{all}");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        text.starts_with("# Before\n") && text.contains("q8\\_0") && text.contains("brevity bench weights"),
        "{text}"
    );
    assert!(directory.path().join("weights-tiny.svg").exists());
}

#[test]
fn beside_needs_the_peers_programs() {
    let directory = temporary();
    let model = directory.path().join("tiny");
    Tiny::default().write(&model);
    let nowhere = directory.path().join("nowhere");
    run(&["bench", "beside", arg(&model), "--peer", arg(&nowhere)]).refused(&["llama-quantize", "next:"]);
}

#[test]
fn a_checkpoint_that_is_not_run_is_measured_by_its_matrices() {
    let directory = temporary();
    let model = directory.path().join("encoder");
    Tiny::default().write(&model);
    let path = model.join("config.json");
    let config =
        std::fs::read_to_string(&path).unwrap().replace("LlamaForCausalLM", "BertModel").replace("llama", "bert");
    std::fs::write(&path, config).unwrap();
    run(&["inspect", arg(&model)]).refused(&["BertModel"]);
    let grids = ["bench", "weights", arg(&model), "--grids", "int4:64,int3:64,q8_0,q2_k", "--json"];
    let all = run(&grids).json();
    let rows = all["matrices"].as_array().unwrap();
    let of = |grid: &str, key: &str| number(rows.iter().find(|row| row["grid"] == grid).unwrap(), key);
    assert_eq!(rows.len(), 4);
    assert!((of("q8_0", "bits_per_weight") - 8.5).abs() < 1e-9);
    assert!(of("int4:64", "relative_error") < 0.3 * of("int3:64", "relative_error"));
    // Nothing beats the bound on weights that are Gaussian or uniform, and these grids come within a bit of it.
    for grid in ["q2_k", "int3:64", "int4:64"] {
        assert!((0.0..1.2).contains(&of(grid, "bits_above_gaussian")), "{grid}: {all}");
    }
    run(&[&grids[..], &["--methods", "gptq"]].concat()).refused(&["--methods rtn"]);
}

/// The mean over what may come leaves less than the likeliest alone, which is the mean over one.
#[test]
fn what_the_model_foretells_of_its_cache_is_measured() {
    let residual = |candidates: &str| {
        let args = ["bench", "residual", "--json", "--window", "96", "--positions", "24", "--candidates", candidates];
        run(&args).json()
    };
    let (one, many) = (residual("1"), residual("24"));
    let left =
        |json: &serde_json::Value, row: usize, side: &str| number(&json["predictors"][row][side], "variance_left");
    for side in ["keys", "values"] {
        assert_eq!(left(&one, 1, side), left(&one, 2, side), "the mean of one is that one");
        assert_eq!(left(&one, 1, side), left(&many, 1, side));
        assert!(left(&many, 2, side) < left(&many, 1, side), "{side}");
        assert!(left(&many, 0, side) > 1.0, "{side}: neighbours differ by more than tokens do from their mean");
    }
    assert!(number(&one, "mass") < number(&many, "mass") && number(&many, "mass") <= 1.0);
    run(&["bench", "residual", "--candidates", "0"]).refused(&["vocabulary"]);
    run(&["bench", "residual", "--window", "999999"]).refused(&["--window 999999"]);
}
