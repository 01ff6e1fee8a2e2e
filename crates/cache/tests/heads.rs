//! Methods that treat heads apart: what they promise of a head, and what they find in nano.

use brevity_cache::selection::probe;
use brevity_cache::{Cache, Spec};
use brevity_kernels::Matrix;
use brevity_measure::divergence;
use brevity_model::ModelSource;
use brevity_model::cache::{CacheShape, KvCache, Queries};
use brevity_model::forward::{Logits, Model, Options, Sequence};
use brevity_parts::Activation;
use std::path::Path;

const SHAPE: CacheShape = CacheShape { layers: 1, heads: 2, kv_heads: 1, head_dim: 32 };

fn noise(i: usize) -> f32 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Outputs of the tokens after a prompt of 240, read in steps of 7.
fn after_prompt(spec: &str, k: &Matrix, v: &Matrix, q: &Matrix) -> (Matrix, u64) {
    let mut cache = Cache::new(Spec::parse(spec).unwrap(), SHAPE, 4096);
    let mut out = Matrix::zeros(k.rows(), q.cols());
    let prompt = 240;
    while cache.len() < k.rows() {
        let first = cache.len();
        let end = if first < prompt { prompt } else { k.rows() };
        let rows = first..end.min(first + 7.min(cache.pass_limit()));
        let (k, v) = (k.view().rows_range(rows.clone()), v.view().rows_range(rows.clone()));
        cache.append(0, first, k, v).unwrap();
        let q = Queries { rows: q.view().rows_range(rows.clone()), start: first, window: None };
        cache.attend(0, q, &mut out.view_mut().rows_range(rows.clone()), None).unwrap();
        cache.advance(rows.len());
        if cache.len() == prompt {
            cache.end_prompt().unwrap();
        }
    }
    (Matrix::from_vec(k.rows() - prompt, q.cols(), out.data()[prompt * q.cols()..].to_vec()), cache.bytes())
}

fn apart(a: &Matrix, b: &Matrix) -> f32 {
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The compensation token stands for tokens with one key exactly, while more and more of them go.
#[test]
fn dropped_tokens_with_one_key_are_missed_by_nobody() {
    let tokens = 500;
    let key = |row: usize, d: usize| if (4..440).contains(&row) { noise(d) * 2.0 } else { noise(row * 32 + d) };
    let k = Matrix::from_vec(tokens, 32, (0..tokens * 32).map(|i| key(i / 32, i % 32)).collect());
    let v = Matrix::from_vec(tokens, 32, (0..tokens * 32).map(|i| noise(i + 70_000) + 1.0).collect());
    let q = Matrix::from_vec(tokens, 64, (0..tokens * 64).map(|i| noise(i + 170_000) * 2.0).collect());
    let (full, bytes) = after_prompt("f32", &k, &v, &q);
    let (razor, fewer) = after_prompt("razor:budget=60 + f32", &k, &v, &q);
    let (window, _) = after_prompt("window:budget=60 + f32", &k, &v, &q);
    assert!(apart(&full, &razor) < 2e-5, "{}", apart(&full, &razor));
    assert!(apart(&full, &window) > 0.05, "{}", apart(&full, &window));
    assert!(fewer * 3 < bytes);
}

/// Keys and values in few directions need few channels; in all directions all channels are the full cache.
#[test]
fn channels_that_say_nothing_are_not_missed() {
    let tokens = 400;
    let low = |salt: usize, rank: usize| {
        let number = |row: usize, d: usize| {
            (0..rank).map(|r| noise(row * 32 + r + salt) * noise(salt + 50_000 + r * 32 + d)).sum::<f32>()
        };
        Matrix::from_vec(tokens, 32, (0..tokens * 32).map(|i| number(i / 32, i % 32)).collect())
    };
    let q = Matrix::from_vec(tokens, 64, (0..tokens * 64).map(|i| noise(i + 170_000)).collect());
    for (rank, spec, same) in [
        (16, "cskv:keys=50,values=50", true),
        (32, "cskv:keys=100,values=100", true),
        (32, "cskv:keys=50,values=50", false),
    ] {
        let (k, v) = (low(0, rank), low(300_000, rank));
        let (full, _) = after_prompt("f16", &k, &v, &q);
        let (shrunk, _) = after_prompt(spec, &k, &v, &q);
        assert_eq!(apart(&full, &shrunk) < 5e-3, same, "{rank} {spec}: {}", apart(&full, &shrunk));
    }
}

fn nano() -> Option<(Model, Vec<u32>)> {
    if cfg!(debug_assertions) {
        println!("skipped: needs a release build");
        return None;
    }
    let source = ModelSource::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")).unwrap();
    let text = include_str!("../../brevity/texts/evaluation.txt");
    let tokens = source.tokenizer().unwrap().encode(text, false, false)[..512].to_vec();
    let options = Options { activation: Activation::F32, ..Options::default() };
    Some((Model::load(&source, options).unwrap(), tokens))
}

/// Logits of the second half, after a prompt of the first.
fn second_half(model: &Model, tokens: &[u32], spec: &str) -> (Matrix, u64) {
    let spec = Spec::parse(spec).unwrap();
    let learns = ["razor", "compresskv"].iter().any(|name| spec.to_string().contains(name));
    assert_eq!(spec.cache(model.config(), 512).is_err(), learns);
    let mut cache = spec.learnt(model).unwrap().cache(model.config(), tokens.len()).unwrap();
    let (prompt, rest) = tokens.split_at(tokens.len() / 2);
    model.forward(&mut [Sequence { tokens: prompt, cache: &mut cache }], Logits::None, None).unwrap();
    cache.end_prompt().unwrap();
    let logits = model.forward(&mut [Sequence { tokens: rest, cache: &mut cache }], Logits::All, None).unwrap();
    (logits, cache.bytes())
}

#[test]
fn retrieval_heads_are_found_and_keep_everything() {
    let Some((model, tokens)) = nano() else { return };
    let scores = probe(&model).unwrap();
    let best = scores.induction.iter().flatten().copied().fold(0.0, f64::max);
    let all: Vec<f64> = scores.induction.iter().flatten().copied().collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    println!("induction: best {best:.3}, mean {mean:.3}; echo: {:?}", scores.echo);
    assert!(best > 0.1 && best > 3.0 * mean, "{best} {mean}");
    let (full, _) = second_half(&model, &tokens, "f32");
    let loss = |spec: &str| {
        let (logits, bytes) = second_half(&model, &tokens, spec);
        let rows = 0..logits.rows();
        let bits = rows.map(|row| divergence::compare(full.row(row), logits.row(row), None).unwrap().kld);
        let loss = bits.sum::<f64>() / logits.rows() as f64;
        println!("{spec}: {loss:.5} bits a token, {:.0} bytes a token", bytes as f64 / tokens.len() as f64);
        (loss, bytes)
    };
    assert_eq!(loss("razor:budget=10%,induction=100 + f32").0, 0.0);
    let chain =
        ["induction=50", "induction=25", "induction=0,echo=0"].map(|heads| loss(&format!("razor:budget=20%,{heads}")));
    assert!(chain.is_sorted_by(|more, less| more.0 < less.0 && more.1 > less.1), "{chain:?}");
    // Retrieval heads are worth more than others: the same bytes for every head lose more.
    let window = loss("window:budget=60%");
    assert!(chain[0].0 < window.0 && chain[0].1 < window.1 + 100_000, "{chain:?} {window:?}");
    // Layers and heads that know better than the same rule for all.
    let [compress, snap] = ["compresskv:budget=25%", "snapkv:budget=25%"].map(&loss);
    assert!(compress.0 < snap.0 && compress.1 < snap.1 + snap.1 / 5, "{compress:?} {snap:?}");
    // Two layers hold their directions once: less than three quarters of the bytes where all layers are paired.
    let [whole, paired, none] = ["f16", "minicache:from=0,keep=5", "minicache:from=0,keep=100"].map(&loss);
    assert!(paired.1 * 100 < whole.1 * 85 && paired.0 > whole.0 && none.0 == whole.0, "{whole:?} {paired:?} {none:?}");
    // A low rank gives back what a grid of 2 bits loses.
    let losses = ["kivi:bits=2,residual=0", "gear:bits=2", "gear:bits=2,rank=4"].map(|spec| loss(spec).0);
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}
