//! Sequences that begin alike hold their beginning once, and read on as if they were alone.

use brevity_cache::prefix::Prefixes;
use brevity_cache::{Cache, Spec};
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheShape, KvCache, Queries};
use std::collections::HashSet;

const SHAPE: CacheShape = CacheShape { layers: 2, heads: 4, kv_heads: 2, head_dim: 64 };
const WIDTH: usize = SHAPE.kv_heads * SHAPE.head_dim;

fn noise(i: usize) -> f32 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / 8_388_608.0 - 1.0
}

fn cache(spec: &str) -> Cache {
    Cache::new(Spec::parse(spec).unwrap(), SHAPE, 4096)
}

/// Reads what is left of a text; returns the outputs of its last token.
fn read(cache: &mut Cache, tokens: &[u32]) -> Vec<u32> {
    let mut last = Vec::new();
    while cache.len() < tokens.len() {
        let first = cache.len();
        let rows = first..tokens.len().min(first + cache.pass_limit().min(100));
        for layer in 0..SHAPE.layers {
            let row = |salt: usize, width: usize| -> Vec<f32> {
                let number =
                    |row: usize, d: usize| noise(tokens[row] as usize * 4096 + row * 131 + salt + layer * 7 + d * 3);
                rows.clone().flat_map(|r| (0..width).map(move |d| (r, d))).map(|(r, d)| number(r, d)).collect()
            };
            let many = rows.len();
            let (k, v) =
                (Matrix::from_vec(many, WIDTH, row(0, WIDTH)), Matrix::from_vec(many, WIDTH, row(1 << 20, WIDTH)));
            cache.append(layer, first, k.view(), v.view()).unwrap();
            let q = Matrix::from_vec(many, 2 * WIDTH, row(1 << 21, 2 * WIDTH));
            let mut out = Matrix::zeros(many, 2 * WIDTH);
            cache
                .attend(layer, Queries { rows: q.view(), start: first, window: None }, &mut out.view_mut(), None)
                .unwrap();
            last = out.row(many - 1).iter().map(|x| x.to_bits()).collect();
        }
        cache.advance(rows.len());
    }
    last
}

#[test]
fn sixty_four_sequences_hold_a_prefix_once() {
    for store in ["f16", "int4", "k:int8,v:int4"] {
        let prefix: Vec<u32> = (0..2048).map(|i| i * 7919 % 1000).collect();
        let mut all = Prefixes::of(cache(store)).unwrap();
        let mut first = all.begin(&prefix).unwrap();
        read(&mut first, &prefix);
        all.keep(&prefix, &first).unwrap();
        let sequences: Vec<Cache> = (0..64u32)
            .map(|i| {
                let tokens = [prefix.as_slice(), &(0..40).map(|t| (i * 40 + t) % 997).collect::<Vec<u32>>()].concat();
                let mut cache = all.begin(&tokens).unwrap();
                assert_eq!(cache.len(), 2048);
                read(&mut cache, &tokens);
                all.keep(&tokens, &cache).unwrap();
                cache
            })
            .collect();
        let mut seen = HashSet::new();
        let held: u64 = all.bytes_beside(&mut seen) + sequences.iter().map(|c| c.bytes_beside(&mut seen)).sum::<u64>();
        let alone: u64 = sequences.iter().map(KvCache::bytes).sum();
        // A block of 64 for each tail, and the lists of shared blocks in the trie and in the sequence.
        let tails = 64 * (first.bytes() / 32 + 7000);
        println!("{store}: {held} bytes held, {} for one, {alone} apart", first.bytes());
        assert!(held < first.bytes() + tails, "{store}: {held} of {}, {tails}", first.bytes());
        assert!(alone > 60 * first.bytes());
    }
}

#[test]
fn who_begins_with_a_known_prefix_reads_on_as_if_alone() {
    for store in ["f32", "int4", "int2"] {
        let text = |changed: usize, len: usize| -> Vec<u32> {
            (0..len).map(|i| (i * 31 % 500) as u32 + if i >= changed { 500 } else { 0 }).collect()
        };
        let mut all = Prefixes::of(cache(store)).unwrap();
        for (changed, len, known) in
            [(300, 300, 0), (200, 320, 200), (200, 260, 260), (130, 300, 130), (20, 200, 0), (130, 310, 300)]
        {
            let tokens = text(changed, len);
            let mut cache = all.begin(&tokens).unwrap();
            assert_eq!(cache.len(), known, "{store} {changed} {len}");
            let got = read(&mut cache, &tokens);
            if known < len {
                let mut alone = self::cache(store);
                assert_eq!(got, read(&mut alone, &tokens), "{store} {changed} {len}");
            }
            all.keep(&tokens, &cache).unwrap();
        }
        // What was kept first is as it was.
        let mut cache = all.begin(&text(300, 300)).unwrap();
        assert_eq!(cache.len(), 300);
        let longer = text(301, 301);
        let mut alone = self::cache(store);
        assert_eq!(read(&mut cache, &longer), read(&mut alone, &longer));
    }
}

#[test]
fn what_changes_tokens_cannot_be_shared() {
    for spec in ["h2o:budget=64", "kivi", "mikv", "minicache", "cskv", "gear"] {
        let error = Prefixes::of(cache(spec)).err().unwrap().to_string();
        assert!(error.contains("cannot share"), "{spec}: {error}");
    }
    let mut all = Prefixes::of(cache("int4")).unwrap();
    assert!(all.keep(&[1, 2], &cache("int4")).is_err());
}
