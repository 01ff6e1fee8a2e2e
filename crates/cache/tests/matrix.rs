//! Every method, and some compositions, through what all of them promise.

use brevity_cache::store::Coding;
use brevity_cache::{Cache, Error, Spec, registry};
use brevity_kernels::{Isa, Matrix, pool};
use brevity_model::cache::{CacheShape, CacheType, KvCache, PlainCache, Queries};

const SHAPE: CacheShape = CacheShape { layers: 2, heads: 6, kv_heads: 2, head_dim: 64 };

/// Keys, values and queries of a text: channels of different size, and a few tokens that stand out.
struct Text {
    k: Matrix,
    v: Matrix,
    q: Matrix,
}

fn text(tokens: usize, seed: u64) -> Text {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let mut matrix = |cols: usize, loud: bool| {
        let mut data = Vec::with_capacity(tokens * cols);
        for row in 0..tokens {
            for col in 0..cols {
                let channel = if loud && col % 64 == 5 { 6.0 } else { 1.0 };
                data.push(next() * channel * if row % 41 == 3 { 2.0 } else { 1.0 });
            }
        }
        Matrix::from_vec(tokens, cols, data)
    };
    let kv = SHAPE.kv_heads * SHAPE.head_dim;
    Text { k: matrix(kv, true), v: matrix(kv, false), q: matrix(SHAPE.heads * SHAPE.head_dim, false) }
}

/// Runs a text through a cache in chunks, as a forward pass does; returns every output of every layer.
fn run(cache: &mut dyn KvCache, text: &Text, prompt: usize, chunks: &[usize]) -> Matrix {
    let tokens = text.k.rows();
    let mut out = Matrix::zeros(tokens, SHAPE.layers * text.q.cols());
    let mut chunk = chunks.iter().cycle();
    for end in [prompt, tokens] {
        while cache.len() < end {
            let first = cache.len();
            let wanted = chunk.next().copied().unwrap_or(1);
            let rows = first..(first + wanted.min(cache.pass_limit())).min(end);
            for layer in 0..SHAPE.layers {
                let (k, v) = (text.k.view().rows_range(rows.clone()), text.v.view().rows_range(rows.clone()));
                cache.append(layer, first, k, v).unwrap();
                let q = Queries { rows: text.q.view().rows_range(rows.clone()), start: first, window: None };
                let mut view = out.view_mut();
                let cols = layer * text.q.cols()..(layer + 1) * text.q.cols();
                cache.attend(layer, q, &mut view.rows_range(rows.clone()).cols_range(cols), None).unwrap();
            }
            cache.advance(rows.len());
        }
        cache.end_prompt().unwrap();
    }
    out
}

fn cache(spec: &str) -> Cache {
    Cache::new(Spec::parse(spec).unwrap(), SHAPE, 4096)
}

fn bits(m: &Matrix) -> Vec<u32> {
    m.data().iter().map(|x| x.to_bits()).collect()
}

/// Every store alone, every selection over f16 and int4, and compositions with stores that age.
fn specs(budget: &str) -> Vec<String> {
    let mut specs: Vec<String> = registry::store_names().iter().map(|name| name.to_string()).collect();
    specs.extend(
        [
            "k:int8,v:int4",
            "k:f16,v:int2",
            "kivi:bits=4,residual=128",
            "gear:bits=2,rank=4,outliers=0",
            "saq:recent=64,middle=128",
            "mixed:keys=48h2,values=3244",
            "h2o:budget=150 + mikv",
            "snapkv:budget=150,window=16 + zipcache:low=3",
        ]
        .map(String::from),
    );
    let across = |name: &str| registry::merging(name, "").unwrap().unwrap().across().is_some();
    let (layers, tokens): (Vec<&str>, Vec<&str>) = registry::merging_names().into_iter().partition(|name| across(name));
    specs.extend(tokens.iter().map(|name| format!("h2o:{budget} + {name} + int4")));
    specs.extend(layers.iter().flat_map(|name| ["f32", "int4"].map(|store| format!("{name}:from=0 + {store}"))));
    for name in registry::selection_names() {
        specs.extend(["int4", "kivi"].map(|store| format!("{name}:{budget} + {store}")));
    }
    specs
}

#[test]
fn the_same_bits_in_any_chunks_on_any_machine() {
    let text = text(270, 1);
    for spec in specs("budget=90") {
        let mut whole = cache(&spec);
        let expected = run(&mut whole, &text, 200, &[4096]);
        for (isa, threads, chunks) in Isa::available()
            .into_iter()
            .zip([1, 2, 2, 1])
            .flat_map(|(isa, threads)| [(isa, threads, &[1][..]), (isa, 3 - threads, &[7, 64, 130][..])])
        {
            if isa == Isa::Scalar && chunks.len() == 1 {
                continue;
            }
            pool::set_threads(threads);
            let mut other = cache(&spec);
            let got = isa.with(|| run(&mut other, &text, 200, chunks));
            pool::set_threads(0);
            assert_eq!(bits(&got), bits(&expected), "{spec} {isa:?} {chunks:?}");
            for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let positions = whole.positions(layer, head);
                assert_eq!(other.positions(layer, head), positions, "{spec}");
                for slot in (0..positions.len()).step_by(17) {
                    assert_eq!(other.read(layer, head, slot), whole.read(layer, head, slot), "{spec}");
                }
            }
        }
    }
}

#[test]
fn a_selection_with_the_whole_budget_is_the_full_cache() {
    let text = text(300, 2);
    for store in ["f32", "f16", "int4", "kivi", "saq:recent=64,middle=64"] {
        let expected = run(&mut cache(store), &text, 200, &[64]);
        for name in registry::selection_names() {
            let spec = format!("{name}:budget=300 + {store}");
            assert_eq!(bits(&run(&mut cache(&spec), &text, 200, &[64])), bits(&expected), "{spec}");
        }
        if !["kivi", "saq:recent=64,middle=64"].contains(&store) {
            let spec = format!("minicache:from=0,keep=100 + {store}");
            assert_eq!(bits(&run(&mut cache(&spec), &text, 200, &[64])), bits(&expected), "{spec}");
        }
    }
}

#[test]
fn floats_are_the_plain_cache() {
    let text = text(600, 3);
    for (spec, ty) in [("f32", CacheType::F32), ("f16", CacheType::F16)] {
        let mut plain = PlainCache::new(SHAPE, 4096, ty);
        let expected = run(&mut plain, &text, 590, &[200, 1]);
        assert_eq!(bits(&run(&mut cache(spec), &text, 590, &[4096, 1])), bits(&expected), "{spec}");
    }
}

#[test]
fn a_selection_holds_its_budget_its_sinks_and_its_newest() {
    let text = text(420, 4);
    for name in registry::selection_names() {
        let mut cache = cache(&format!("{name}:budget=100,sinks=6 + int8"));
        run(&mut cache, &text, 300, &[50]);
        for (layer, head) in [(0, 0), (1, 1)] {
            let positions = cache.positions(layer, head);
            assert!(positions.len() < 164 && positions.len() >= 100, "{name}: {}", positions.len());
            assert!(positions.is_sorted_by(|a, b| a < b), "{name}");
            assert_eq!(positions[..6], [0, 1, 2, 3, 4, 5], "{name}");
            assert_eq!(positions.last(), Some(&419), "{name}");
        }
    }
}

/// Tokens that lie by importance are chosen from as the text has them.
#[test]
fn a_selection_chooses_the_same_tokens_where_importance_orders_them() {
    let text = text(600, 6);
    for (name, store) in [("window", "mikv"), ("window", "zipcache"), ("random", "mikv")] {
        let held = |store: &str| {
            let mut cache = cache(&format!("{name}:budget=250,sinks=5 + {store}"));
            run(&mut cache, &text, 300, &[50]);
            let mut positions = cache.positions(1, 1);
            let low = cache.codings(1, 1).iter().filter(|coding| coding.0 == Coding::Token(2)).count();
            let rising = positions.is_sorted();
            positions.sort_unstable();
            (positions, low, rising)
        };
        let (expected, none, _) = held("int8");
        let (found, low, rising) = held(store);
        assert_eq!(found, expected, "{name} + {store}");
        assert_eq!(none, 0);
        assert!(low > 0 && !rising, "{name} + {store}: tokens of few bits come first");
    }
}

#[test]
fn stores_stay_within_the_bounds_of_their_cards() {
    let text = text(256, 5);
    for (spec, bits) in [("f32", 32), ("f16", 16), ("int8", 8), ("int4", 4), ("int3", 3), ("int2", 2)] {
        let mut cache = cache(spec);
        run(&mut cache, &text, 256, &[256]);
        for slot in 0..256 {
            for (head, start) in [(0, 0), (1, 64)] {
                let (k, v) = cache.read(0, head, slot);
                for (stored, given) in [(k, text.k.row(slot)), (v, text.v.row(slot))] {
                    let given = &given[start..start + 64];
                    let error: f32 = stored.iter().zip(given).map(|(a, b)| (a - b) * (a - b)).sum();
                    let norm: f32 = given.iter().map(|x| x * x).sum();
                    // The widest a rotated token can be is its norm on either side; codes then lie 2·norm/(2^bits − 2) apart.
                    let bound = match bits {
                        32 => 0.0,
                        16 => norm * 2f32.powi(-22),
                        _ => 64.0 * norm * (0.6 / (2f32.powi(bits) - 1.5)).powi(2),
                    };
                    assert!(error <= bound, "{spec}: {error} > {bound}");
                }
            }
        }
    }
}

#[test]
fn more_bits_lose_less() {
    let text = text(400, 6);
    let expected = run(&mut cache("f32"), &text, 300, &[64]);
    let error = |spec: &str| -> f64 {
        let got = run(&mut cache(spec), &text, 300, &[64]);
        got.data().iter().zip(expected.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    for chain in [
        ["f16", "int8", "int4", "int3", "int2"].as_slice(),
        &["kivi:bits=8", "kivi:bits=4", "kivi:bits=3", "kivi:bits=2"],
        &["int8", "k:int8,v:int4", "int4"],
        &["int8", "saq:recent=64,middle=128,least=3", "int3"],
        &["gear:bits=8", "gear:bits=4", "gear:bits=3", "gear:bits=2", "kivi:bits=2,residual=0"],
        &[
            "gear:bits=2,rank=16",
            "gear:bits=2,rank=4",
            "gear:bits=2,rank=1",
            "gear:bits=2,rank=0",
            "gear:bits=2,rank=0,outliers=0",
        ],
        &[
            "f16",
            "cskv:keys=100,values=100,window=0",
            "cskv:keys=75,values=75,window=0",
            "cskv:keys=50,values=50,window=0",
            "cskv:keys=25,values=25,window=0",
        ],
        &["mikv:share=100", "mikv:share=50", "mikv:share=10"],
        &["zipcache:share=100", "zipcache:share=50", "zipcache:share=0"],
        &["h2o:budget=380 + f16", "h2o:budget=200 + f16", "h2o:budget=40 + f16"],
    ] {
        let errors: Vec<f64> = chain.iter().map(|spec| error(spec)).collect();
        assert!(errors.is_sorted_by(|a, b| a < b), "{chain:?}: {errors:?}");
    }
}

#[test]
fn bad_numbers_are_refused_and_nothing_is_lost() {
    let text = text(100, 8);
    for spec in ["f16", "int4", "h2o:budget=50 + kivi"] {
        let mut cache = cache(spec);
        run(&mut cache, &text, 90, &[64]);
        let before = (cache.positions(0, 0), cache.read(0, 0, 49), cache.bytes());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut k = Matrix::zeros(2, 128);
            k.row_mut(1)[77] = bad;
            let good = Matrix::zeros(2, 128);
            for (k, v, says) in [(&k, &good, "key"), (&good, &k, "value")] {
                let error = cache.append(0, 100, k.view(), v.view()).unwrap_err().to_string();
                assert!(error.contains("position 101") && error.contains(says), "{error}");
            }
        }
        assert_eq!((cache.positions(0, 0), cache.read(0, 0, 49), cache.bytes()), before);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let text = text(200, 9);
    let mut cache = cache("window:budget=64 + int4");
    run(&mut cache, &text, 150, &[64]);
    let error = cache.truncate(100).unwrap_err().to_string();
    assert!(error.contains("dropped tokens before position"), "{error}");
    assert!(cache.truncate(500).is_err());
    assert!(cache.append(9, 200, text.k.view(), text.v.view()).is_err());
    assert!(cache.append(0, 300, text.k.view(), text.v.view()).is_err());
    assert_eq!(cache.len(), 200);
    cache.truncate(0).unwrap();
    assert_eq!((cache.len(), cache.bytes() < 10_000), (0, true));
    let mut small = Cache::new(Spec::parse("int8").unwrap(), SHAPE, 100);
    assert!(small.append(0, 0, text.k.view(), text.v.view()).unwrap_err().to_string().contains("100"));
    assert!(matches!(Spec::parse("window:budget=3,sinks=4"), Err(Error::Budget { .. })));
}

#[test]
fn going_back_and_on_is_as_if_it_had_not_been() {
    let text = text(300, 10);
    for spec in ["f16", "int4", "k:int8,v:int4"] {
        let expected = run(&mut cache(spec), &text, 300, &[64]);
        let mut other = cache(spec);
        run(&mut other, &text, 300, &[50]);
        other.truncate(170).unwrap();
        let again = run(&mut other, &text, 300, &[50]);
        assert_eq!(bits(&again)[170 * again.cols()..], bits(&expected)[170 * again.cols()..], "{spec}");
    }
}

#[test]
fn old_blocks_step_down() {
    let text = text(512, 11);
    let mut cache = cache("saq:recent=64,middle=128,least=2");
    run(&mut cache, &text, 500, &[100]);
    let codings: Vec<Coding> = cache.codings(0, 0).into_iter().map(|(k, _)| k).collect();
    let bits = [2, 2, 2, 2, 2, 4, 4, 8];
    assert_eq!(codings, bits.map(Coding::Token));
}
