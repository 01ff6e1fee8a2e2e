//! A token that every query looks for: selections that look at queries keep it, those that do not cannot know.

use brevity_cache::{Cache, Spec};
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheShape, KvCache, Queries};

const SHAPE: CacheShape = CacheShape { layers: 1, heads: 4, kv_heads: 2, head_dim: 32 };
const NEEDLE: usize = 77;

fn noise(seed: usize) -> f32 {
    let x = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 8_388_608.0 - 1.0
}

fn kept(spec: &str, from: usize) -> Vec<usize> {
    filled(spec, from).0.positions(0, 1)
}

/// The cache, and the keys that went in.
fn filled(spec: &str, from: usize) -> (Cache, Matrix) {
    let (tokens, kv, width) = (300, SHAPE.kv_heads * SHAPE.head_dim, SHAPE.heads * SHAPE.head_dim);
    let matrix = |cols: usize, seed: usize| {
        Matrix::from_vec(tokens, cols, (0..tokens * cols).map(|i| noise(i + seed)).collect())
    };
    let (mut k, v, mut q) = (matrix(kv, 0), matrix(kv, 1 << 20), matrix(width, 1 << 21));
    for head in 0..SHAPE.kv_heads {
        k.row_mut(NEEDLE)[head * SHAPE.head_dim + 9] = 12.0;
    }
    for row in from..tokens {
        for head in 0..SHAPE.heads {
            q.row_mut(row)[head * SHAPE.head_dim + 9] = 3.0;
        }
    }
    let mut cache = Cache::new(Spec::parse(spec).unwrap(), SHAPE, tokens);
    cache.append(0, 0, k.view(), v.view()).unwrap();
    let mut out = Matrix::zeros(tokens, width);
    cache.attend(0, Queries { rows: q.view(), start: 0, window: None }, &mut out.view_mut(), None).unwrap();
    cache.advance(tokens);
    cache.end_prompt().unwrap();
    (cache, k)
}

#[test]
fn what_is_looked_for_stays() {
    for store in ["f16", "int4", "k:int8,v:int2"] {
        for selection in ["h2o:budget=60", "snapkv:budget=60", "expected:budget=60"] {
            let positions = kept(&format!("{selection} + {store}"), 0);
            assert_eq!(positions.len(), 60);
            assert!(positions.contains(&NEEDLE), "{selection} + {store}: {positions:?}");
        }
        let positions = kept(&format!("window:budget=60 + {store}"), 0);
        assert_eq!(positions, [0, 1, 2, 3].into_iter().chain(244..300).collect::<Vec<_>>());
    }
}

/// No token goes, and the one that matters is the exact one.
#[test]
fn importance_decides_precision() {
    for store in ["mikv:share=50", "zipcache:share=50,high=8"] {
        let (cache, k) = filled(store, 0);
        let mut positions = cache.positions(0, 1);
        let errors: Vec<f32> = (0..300)
            .map(|slot| {
                let given = &k.row(positions[slot])[SHAPE.head_dim..];
                cache.read(0, 1, slot).0.iter().zip(given).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
            })
            .collect();
        let (fallen, kept) = errors.split_at(128);
        let mean = |errors: &[f32]| errors.iter().sum::<f32>() / errors.len() as f32;
        assert!(mean(fallen) > 20.0 * mean(kept), "{store}: {} {}", mean(fallen), mean(kept));
        assert!(positions.iter().position(|&p| p == NEEDLE).unwrap() >= 128, "{store}");
        positions.sort_unstable();
        assert_eq!(positions, (0..300).collect::<Vec<_>>(), "{store}: every token stays");
    }
}

/// Only the last queries look for it: an observation window sees that at once.
#[test]
fn the_end_of_the_prompt_decides_for_snapkv() {
    assert!(kept("snapkv:budget=60,window=16", 284).contains(&NEEDLE));
    let around = kept("snapkv:budget=60,window=16,pool=9", 284);
    assert!((NEEDLE - 4..=NEEDLE + 4).all(|position| around.contains(&position)), "{around:?}");
}

#[test]
fn lots_are_drawn_the_same_and_by_their_seed() {
    assert_eq!(kept("random:budget=60,seed=3", 0), kept("random:budget=60,seed=3", 200));
    assert_ne!(kept("random:budget=60,seed=3", 0), kept("random:budget=60,seed=4", 0));
}

/// What goes is averaged into what stays beside it, so a value that nobody kept still shows.
#[test]
fn merging_keeps_a_trace_of_what_goes() {
    let (tokens, dim) = (200, 32);
    let shape = CacheShape { layers: 1, heads: 1, kv_heads: 1, head_dim: dim };
    // Runs of ten tokens with one key each; values rise within a run.
    let k = Matrix::from_vec(tokens, dim, (0..tokens * dim).map(|i| noise(i / dim / 10 * 97 + i % dim)).collect());
    let v = Matrix::from_vec(tokens, dim, (0..tokens * dim).map(|i| (i / dim % 10) as f32).collect());
    let run = |spec: &str| {
        let mut cache = Cache::new(Spec::parse(spec).unwrap(), shape, tokens);
        cache.append(0, 0, k.view(), v.view()).unwrap();
        let (q, mut out) = (Matrix::zeros(tokens, dim), Matrix::zeros(tokens, dim));
        cache.attend(0, Queries { rows: q.view(), start: 0, window: None }, &mut out.view_mut(), None).unwrap();
        cache.advance(tokens);
        cache.end_prompt().unwrap();
        (0..cache.positions(0, 0).len()).map(|slot| cache.read(0, 0, slot)).collect::<Vec<_>>()
    };
    let (alone, merged) = (run("random:budget=60,recent=10 + f32"), run("random:budget=60,recent=10 + kvmerger + f32"));
    assert_eq!(alone.len(), merged.len());
    let changed = alone.iter().zip(&merged).filter(|(a, m)| a.1 != m.1).count();
    assert!(changed > 10, "{changed}");
    for ((ka, va), (km, vm)) in alone.iter().zip(&merged) {
        assert!(ka.iter().zip(km).all(|(a, m)| (a - m).abs() < 1e-5), "keys of a run are one key");
        assert!(vm.iter().all(|m| (0.0..=9.0).contains(m)) && va.len() == vm.len());
    }
    assert_eq!(run("random:budget=200,recent=10 + kvmerger + f32").len(), tokens);
}
