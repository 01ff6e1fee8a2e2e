//! Real models against llama.cpp: greedy texts (oracles/greedy.py). Needs BREVITY_MODELS and a release build.

use std::path::{Path, PathBuf};

use brevity_model::cache::{CacheType, KvCache};
use brevity_model::{Logits, Model, ModelSource, Options, Sequence};
use brevity_parts::Activation;
use serde_json::Value;

fn models() -> Option<PathBuf> {
    let models = std::env::var_os("BREVITY_MODELS").map(PathBuf::from);
    if models.is_none() {
        println!("skipped: BREVITY_MODELS is not set");
    }
    models
}

/// What became of one prompt.
enum Outcome {
    Equal,
    /// The first token that differs: how far below the best logit the other program's choice lies here.
    Differs {
        text: String,
        margin: f32,
    },
}

/// Continues greedily for as long as the text is the expected one.
fn follow(source: &ModelSource, model: &Model, prompt: &str, expected: &str, count: usize) -> Outcome {
    let tokenizer = source.tokenizer().unwrap();
    let mut next = tokenizer.encode(prompt, true, true);
    let prompt = next.clone();
    let read = |text: &[u32]| tokenizer.decode(&[&prompt[..], text].concat());
    let expected = read(&[]) + expected;
    let capacity = model.config().context.min(next.len() + count);
    let mut cache = model.new_cache(capacity, CacheType::F16).unwrap();
    let mut text = Vec::new();
    // Two tokens can begin the same text (a space, and a space with a word): the choice that counts may be the one before.
    let mut before = f32::INFINITY;
    let agrees = |text: &[u32]| expected.trim_end().starts_with(read(text).trim_end());
    while text.len() < count {
        let batch = &mut [Sequence { tokens: &next, cache: &mut cache }];
        let logits = model.forward(batch, Logits::Last, None).unwrap();
        let logits = logits.row(0);
        let ends = |token: &u32| tokenizer.is_eog(*token);
        let continued = |token: u32| [&text[..], &[token]].concat();
        let fits = |token: &u32| match ends(token) {
            true => read(&text).trim_end() == expected.trim_end(),
            false => agrees(&continued(*token)),
        };
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let best = order[0];
        let other = order[1..].iter().find(|token| fits(token));
        let distance = other.map_or(f32::INFINITY, |other| logits[best as usize] - logits[*other as usize]);
        if !fits(&best) {
            return Outcome::Differs { text: read(&continued(best)), margin: distance.min(before) };
        }
        before = distance;
        if ends(&best) {
            break;
        }
        text.push(best);
        next = vec![best];
    }
    Outcome::Equal
}

/// Compares with llama.cpp's golden texts: at least `least` of them are equal, and where one is not, the other token's
/// logit lies within `tie` of the best.
///
/// Both programs round activations to 8 bits before a quantised matrix, each in its own blocks: that alone moves
/// logits by some hundredths, so a quantised model's near ties fall either way. Models in f32 leave no such room.
fn compare(name: &str, folder: &Path, activation: Activation, least: usize, tie: f32) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/greedy.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let source = ModelSource::open(folder.join(golden["models"][name].as_str().unwrap())).unwrap();
    let model = Model::load(&source, Options { activation, ..Options::default() }).unwrap();
    let texts = golden["texts"][name].as_array().unwrap();
    let count = golden["tokens"].as_u64().unwrap() as usize;
    let mut equal = 0;
    for text in texts {
        let prompt = text["prompt"].as_str().unwrap();
        let expected = text["text"].as_str().unwrap().trim_end().trim_end_matches("[end of text]");
        match follow(&source, &model, prompt, expected, count) {
            Outcome::Equal => equal += 1,
            Outcome::Differs { text, margin } => {
                println!("{name}, {prompt:?}: {margin:.4} between the two after\n  {text:?}");
                assert!(margin <= tie, "{name}, {prompt:?}: {margin} is no near tie");
            }
        }
    }
    println!("{name}: {equal} of {} greedy texts equal llama.cpp's", texts.len());
    assert!(equal >= least, "{equal} of {}", texts.len());
}

#[test]
fn nano_speaks_as_in_llama_cpp() {
    compare("nano", &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano"), Activation::Int8, 9, 0.02);
}

#[test]
fn stories15m_speaks_as_in_llama_cpp() {
    models().iter().for_each(|models| compare("stories15m", models, Activation::Int8, 9, 0.02));
}

#[test]
fn smollm2_speaks_as_in_llama_cpp() {
    models().iter().for_each(|models| compare("smollm2", models, Activation::Int8, 0, 0.5));
}

#[test]
fn smollm2_in_f32_speaks_as_in_llama_cpp() {
    models().iter().for_each(|models| compare("smollm2-f32", models, Activation::F32, 9, 0.02));
}

#[test]
fn tinyllama_speaks_as_in_llama_cpp() {
    if cfg!(debug_assertions) {
        return println!("skipped: too slow without --release");
    }
    models().iter().for_each(|models| compare("tinyllama", models, Activation::Int8, 0, 0.5));
}

#[test]
fn stories15m_tells_a_story() {
    let Some(models) = models() else { return };
    let source = ModelSource::open(models.join("stories/stories15M.bin")).unwrap();
    let model = Model::load(&source, Options::default()).unwrap();
    let expected = ", there was a little girl named Lily. She loved to play outside in the sunshine.";
    assert!(matches!(follow(&source, &model, "Once upon a time", expected, 16), Outcome::Equal));
}

#[test]
fn cutting_a_real_prompt_changes_nothing() {
    let Some(models) = models() else { return };
    let source = ModelSource::open(models.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let model = Model::load(&source, Options::default()).unwrap();
    let text = "The quick brown fox jumps over the lazy dog while the river runs slowly past the old mill. ".repeat(8);
    let tokens = source.tokenizer().unwrap().encode(&text, true, false);
    let run = |chunks: &[usize]| {
        let mut cache = model.new_cache(1024, CacheType::F16).unwrap();
        let mut last = None;
        let mut sizes = chunks.iter().cycle();
        while cache.len() < tokens.len() {
            let left = &tokens[cache.len()..];
            let take = left.len().min(*sizes.next().unwrap());
            let batch = &mut [Sequence { tokens: &left[..take], cache: &mut cache }];
            last = Some(model.forward(batch, Logits::Last, None).unwrap().into_vec());
        }
        last.unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let whole = run(&[tokens.len()]);
    for chunks in [&[1][..], &[7, 64, 3], &[100]] {
        assert!(run(chunks) == whole, "{chunks:?}");
    }
}
