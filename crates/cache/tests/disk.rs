//! A context on disk: what comes back, from whole files and from damaged ones.

use brevity_cache::disk::{Context, File, Identity, Ready, Steps, Watch, codecs};
use brevity_cache::{Cache, Spec};
use brevity_kernels::{Isa, Matrix, pool};
use brevity_model::Config;
use brevity_model::cache::{CacheShape, KvCache, Queries};

const TOKENS: usize = 150;

fn tiny_config() -> Config {
    let text =
        br#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}"#;
    Config::from_hf_json("config.json", text).unwrap()
}

fn noise(i: usize) -> f32 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Keys and values of few dimensions, and queries that look at some channels more.
fn context(config: &Config) -> (Context, CacheShape) {
    let shape = CacheShape::of(config);
    let width = shape.kv_heads * shape.head_dim;
    let mut watch = Watch::new(config, TOKENS).unwrap();
    for layer in 0..shape.layers {
        let rows = |seed: usize| {
            let value = |row: usize, col: usize| {
                let low: f32 = (0..3).map(|i| noise(seed + row * 3 + i) * noise(seed + 9000 + i * width + col)).sum();
                4.0 * low + 0.1 * noise(seed + 20_000 + row * width + col) + 2.0 * noise(seed + 70_000 + col)
            };
            Matrix::from_vec(TOKENS, width, (0..TOKENS * width).map(|at| value(at / width, at % width)).collect())
        };
        watch.append(layer, 0, rows(layer * 100_000).view(), rows(layer * 100_000 + 500_000).view()).unwrap();
        let cols = shape.heads * shape.head_dim;
        let q = Matrix::from_vec(TOKENS, cols, (0..TOKENS * cols).map(|i| noise(i) * (1 + i % 3) as f32).collect());
        let mut out = Matrix::zeros(TOKENS, cols);
        let queries = Queries { rows: q.view(), start: 0, window: None };
        watch.attend(layer, queries, &mut out.view_mut(), None).unwrap();
    }
    watch.advance(TOKENS);
    (watch.context(), shape)
}

fn bits(cache: &Cache, shape: CacheShape) -> Vec<u32> {
    let rows = (0..shape.layers).flat_map(|layer| (0..shape.kv_heads).map(move |head| (layer, head)));
    let mut all = Vec::new();
    for (layer, head) in rows {
        for slot in 0..cache.len() {
            let (k, v) = cache.read(layer, head, slot);
            all.extend(k.iter().chain(&v).map(|x| x.to_bits()));
        }
    }
    all
}

fn floats(all: &[u32]) -> impl Iterator<Item = f64> {
    all.iter().map(|&x| f64::from(f32::from_bits(x)))
}

#[test]
fn finer_steps_cost_more_and_lose_less_and_all_machines_agree() {
    let config = tiny_config();
    let (whole, shape) = context(&config);
    let spec = Spec::parse("f32").unwrap();
    let exact = bits(&whole.cache(&spec, &config, TOKENS).unwrap(), shape);
    for codec in codecs() {
        let name = codec.card().name;
        let ready = Ready::new(codec, &whole);
        let mut last = (u64::MAX, 0.0);
        for step in [0.002, 0.05, 0.4] {
            let steps = Steps::even(shape.layers, step, step);
            pool::set_threads(1);
            let sides = ready.encode(&steps);
            pool::set_threads(2);
            assert_eq!(ready.encode(&steps), sides, "{name}: threads");
            pool::set_threads(0);
            let decoded = ready.decode_some(&sides, |_| true, &whole).unwrap();
            let got = bits(&decoded.cache(&spec, &config, TOKENS).unwrap(), shape);
            for isa in Isa::available() {
                let again = isa.with(|| ready.decode_some(&sides, |_| true, &whole).unwrap());
                assert_eq!(bits(&again.cache(&spec, &config, TOKENS).unwrap(), shape), got, "{name} {isa:?}");
            }
            let bytes: u64 = sides.iter().map(|side| side.len() as u64).sum();
            let error: f64 = floats(&got).zip(floats(&exact)).map(|(a, b)| (a - b).powi(2)).sum();
            assert!(bytes < last.0 && error > last.1, "{name} {step}: {bytes} bytes, {error}; before {last:?}");
            last = (bytes, error);
        }
    }
}

#[test]
fn correlated_numbers_take_few_bytes_in_their_own_axes() {
    let config = tiny_config();
    let (whole, shape) = context(&config);
    let steps = Steps::even(shape.layers, 0.3, 0.3);
    let bytes = |codec: usize| {
        let sides = Ready::new(codecs()[codec], &whole).encode(&steps);
        sides[shape.layers..].iter().map(Vec::len).sum::<usize>()
    };
    assert!(bytes(0) < bytes(1), "kvtc {} bytes, cachegen {}", bytes(0), bytes(1));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let config = tiny_config();
    let (whole, shape) = context(&config);
    let identity = Identity { model: [7; 32], tokenizer: [9; 32], shape };
    for codec in codecs() {
        let sides = Ready::new(codec, &whole.first(20)).encode(&Steps::even(shape.layers, 2.0, 2.0));
        let tokens: Vec<u32> = (0..20).map(|i| i * 31).collect();
        let bytes = File::new(identity, tokens.clone(), codec, sides).to_bytes();
        let file = File::from_bytes(&bytes).unwrap();
        assert_eq!((file.tokens.as_slice(), file.codec(), file.identity), (&tokens[..], codec.card().name, identity));
        file.context(config.rope_table().as_ref()).unwrap();
        let mut damaged = bytes.clone();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                damaged[at] ^= 1 << bit;
                assert!(File::from_bytes(&damaged).is_err(), "byte {at}, bit {bit}");
                damaged[at] ^= 1 << bit;
            }
        }
        for length in (0..bytes.len()).step_by(7) {
            assert!(File::from_bytes(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        for (other, says) in [
            (Identity { model: [8; 32], ..identity }, "another model"),
            (Identity { tokenizer: [8; 32], ..identity }, "another tokenizer"),
            (Identity { shape: CacheShape { layers: 9, ..shape }, ..identity }, "another shape"),
        ] {
            let error = file.check(&other).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        file.check(&identity).unwrap();
    }
}

#[test]
fn bytes_that_lie_are_refused_without_a_panic() {
    let config = tiny_config();
    let (whole, shape) = context(&config);
    let width = shape.kv_heads * shape.head_dim;
    for codec in codecs() {
        let side = Ready::new(codec, &whole.first(20)).encode(&Steps::even(shape.layers, 0.5, 0.5)).swap_remove(0);
        for at in 0..side.len() {
            let mut damaged = side.clone();
            damaged[at] ^= 0xa5;
            let _ = codec.decode(&damaged, 20, width, shape.head_dim);
            assert!(codec.decode(&side[..at], 20, width, shape.head_dim).is_err());
        }
        assert!(codec.decode(&side, 21, width, shape.head_dim).is_err(), "more tokens than are there");
    }
}

#[test]
fn a_store_takes_what_comes_and_a_selection_that_needs_queries_does_not() {
    let config = tiny_config();
    let (whole, _) = context(&config);
    let int4 = whole.cache(&Spec::parse("int4").unwrap(), &config, TOKENS).unwrap();
    assert_eq!(int4.len(), TOKENS);
    assert!(whole.cache(&Spec::parse("window:budget=50 + int4").unwrap(), &config, TOKENS).is_ok());
    let error = whole.cache(&Spec::parse("snapkv:budget=50").unwrap(), &config, TOKENS).err().unwrap().to_string();
    assert!(error.contains("queries"), "{error}");
}
