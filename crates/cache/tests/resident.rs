//! Bytes reported are bytes held, as the operating system counts them; in a process of its own.

use brevity_cache::{Cache, Spec};
use brevity_kernels::Matrix;
use brevity_model::cache::{CacheShape, KvCache, Queries};

const SHAPE: CacheShape = CacheShape { layers: 4, heads: 2, kv_heads: 2, head_dim: 64 };
const TOKENS: usize = 4096;

/// Anonymous memory of this process, where the system says it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
fn bytes_reported_are_bytes_held() {
    let rows: Vec<f32> = (0..512 * 128).map(|i| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0).collect();
    let rows = Matrix::from_vec(512, 128, rows);
    let f16 = (SHAPE.layers * SHAPE.kv_heads * SHAPE.head_dim * TOKENS * 2 * 2) as f64;
    // All stay alive, so that none lives in what another gave back.
    let mut caches = Vec::new();
    for (spec, share) in [("f16", 1.01), ("int8", 0.531), ("int4", 0.281), ("int3", 0.219), ("int2", 0.157)] {
        let before = resident();
        let mut reported = 0;
        for _ in 0..4 {
            let mut cache = Cache::new(Spec::parse(spec).unwrap(), SHAPE, TOKENS);
            while cache.len() < TOKENS {
                let (first, many) = (cache.len(), cache.pass_limit().min(512 - cache.len() % 512));
                for layer in 0..SHAPE.layers {
                    let part = rows.view().rows_range(0..many);
                    cache.append(layer, first, part, part).unwrap();
                    // What is learnt from the first queries counts.
                    if first < 64 {
                        let queries = Queries { rows: part, start: first, window: None };
                        cache.attend(layer, queries, &mut Matrix::zeros(many, 128).view_mut(), None).unwrap();
                    }
                }
                cache.advance(many);
            }
            assert!(cache.bytes() as f64 <= share * f16, "{spec}: {}", cache.bytes() as f64 / f16);
            reported += cache.bytes();
            caches.push(cache);
        }
        let Some((before, after)) = before.zip(resident()) else {
            println!("skipped: the system does not say what a process holds");
            continue;
        };
        let held = after as f64 - before as f64;
        let ratio = held / reported as f64;
        assert!((0.9..1.15).contains(&ratio), "{spec}: {held} held, {reported} reported");
    }
}
