//! Losses on a real model, in bits a token against the full cache. Needs BREVITY_MODELS and a release build.

use brevity_cache::Spec;
use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::ModelSource;
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Options, Sequence};
use brevity_parts::Activation;
use std::path::PathBuf;

const WINDOW: usize = 1024;

fn model() -> Option<(Model, Vec<u32>)> {
    let Some(models) = std::env::var_os("BREVITY_MODELS").map(PathBuf::from) else {
        println!("skipped: BREVITY_MODELS is not set");
        return None;
    };
    if cfg!(debug_assertions) {
        println!("skipped: needs a release build");
        return None;
    }
    let path = models.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let source = ModelSource::open(&path).unwrap();
    let text = include_str!("../../brevity/texts/evaluation.txt");
    let tokens = source.tokenizer().unwrap().encode(text, false, false)[..WINDOW].to_vec();
    let options = Options { activation: Activation::F32, ..Options::default() };
    Some((Model::load(&source, options).unwrap(), tokens))
}

/// Logits of the second half, after a prompt of the first.
fn second_half(model: &Model, tokens: &[u32], spec: &str) -> (Matrix, u64) {
    let mut cache = Spec::parse(spec).unwrap().learnt(model).unwrap().cache(model.config(), tokens.len()).unwrap();
    let (prompt, rest) = tokens.split_at(tokens.len() / 2);
    model.forward(&mut [Sequence { tokens: prompt, cache: &mut cache }], Logits::None, None).unwrap();
    cache.end_prompt().unwrap();
    let logits = model.forward(&mut [Sequence { tokens: rest, cache: &mut cache }], Logits::All, None).unwrap();
    (logits, cache.bytes())
}

#[test]
fn stores_lose_what_they_may_and_scores_beat_the_lot() {
    let Some((model, tokens)) = model() else { return };
    let (full, _) = second_half(&model, &tokens, "f32");
    let loss = |spec: &str| {
        let (logits, bytes) = second_half(&model, &tokens, spec);
        let rows = 0..logits.rows();
        let bits = rows.map(|row| divergence::compare(full.row(row), logits.row(row), None).unwrap().kld);
        let loss = bits.sum::<f64>() / logits.rows() as f64;
        println!("{spec}: {loss:.5} bits a token, {:.0} bytes a token", bytes as f64 / WINDOW as f64);
        loss
    };
    let f16 = loss("f16");
    let int8 = loss("int8");
    let int4 = loss("int4");
    assert!(f16 < 1e-4 && f16 < int8 && int8 < 0.006, "{f16} {int8}");
    let mixed = loss("k:int8,v:int4");
    assert!(int8 < mixed && mixed < 0.015 && mixed < int4 && int4 < 0.08, "{mixed} {int4}");
    let window = loss("window:budget=25%");
    let random = loss("random:budget=25%");
    for spec in ["h2o:budget=25%", "snapkv:budget=25%", "expected:budget=25%", "treekv:budget=25%", "ems:budget=25%"] {
        let lost = loss(spec);
        assert!(lost < random, "{spec}: {lost}, window {window}, random {random}");
    }
}
