//! A row of logits depends on its own sequence alone: any chunking, batch, thread count and instruction set, a model
//! streamed block by block, taps or none: the same bits.

mod common;

use brevity_formats::TensorType;
use brevity_kernels::{Isa, Matrix, pool};
use brevity_model::cache::{CacheType, KvCache, PlainCache};
use brevity_model::forward::{Logits, Model, Options, Sequence};
use brevity_model::stream::Stream;
use brevity_model::taps::{AttentionRow, Place, SecondMoments, Site, Tap};
use brevity_model::weights::BlockWeights;
use brevity_model::{Config, Error, Role, TensorKind, stream};
use brevity_parts::Activation;
use common::{RandomWeights, configs, tokens};
use proptest::prelude::*;

fn model(config: &Config, ty: TensorType, activation: Activation, chunk: usize) -> Model {
    let weights = RandomWeights::new(config, ty);
    Model::from_weights(config.clone(), &weights, Options { activation, chunk }).unwrap()
}

fn cache(model: &Model) -> PlainCache {
    model.new_cache(model.config().context, CacheType::F32).unwrap()
}

fn run(model: &Model, cache: &mut dyn KvCache, tokens: &[u32], logits: Logits) -> Matrix {
    model.forward(&mut [Sequence { tokens, cache }], logits, None).unwrap()
}

fn bits(matrix: &Matrix) -> Vec<u32> {
    matrix.data().iter().map(|x| x.to_bits()).collect()
}

const KINDS: [(TensorType, Activation); 4] = [
    (TensorType::F32, Activation::Int8),
    (TensorType::BF16, Activation::Int8),
    (TensorType::Q8_0, Activation::Int8),
    (TensorType::Q4_1, Activation::F32),
];

#[test]
fn instruction_sets_agree() {
    for config in configs() {
        for (ty, activation) in KINDS {
            let text = tokens(90, config.vocab, 3);
            let one = |isa: Isa| {
                isa.with(|| {
                    let model = model(&config, ty, activation, 64);
                    bits(&run(&model, &mut cache(&model), &text, Logits::All))
                })
            };
            let first = one(Isa::Scalar);
            for isa in Isa::available() {
                assert!(one(isa) == first, "{isa:?} {ty:?} {:?}", config.architecture);
            }
        }
    }
}

#[test]
fn last_is_the_last_row_of_all_and_none_fills_the_cache() {
    for config in configs() {
        let model = model(&config, TensorType::Q8_0, Activation::Int8, 512);
        let text = tokens(40, config.vocab, 5);
        let all = run(&model, &mut cache(&model), &text, Logits::All);
        let last = run(&model, &mut cache(&model), &text, Logits::Last);
        assert_eq!((last.rows(), all.rows()), (1, 40));
        assert!(last.row(0) == all.row(39));
        let mut filled = cache(&model);
        assert_eq!(run(&model, &mut filled, &text[..39], Logits::None).rows(), 0);
        assert_eq!(filled.len(), 39);
        assert!(run(&model, &mut filled, &text[39..], Logits::Last).row(0) == all.row(39));
    }
}

#[test]
fn stacked_and_separate_matrices_agree() {
    for config in configs() {
        let text = tokens(33, config.vocab, 9);
        let logits = |stacked| {
            let weights = RandomWeights { stacked, ..RandomWeights::new(&config, TensorType::Q8_0) };
            let model = Model::from_weights(config.clone(), &weights, Options::default()).unwrap();
            bits(&run(&model, &mut cache(&model), &text, Logits::All))
        };
        assert!(logits(true) == logits(false));
    }
}

#[test]
fn rolling_back_is_as_if_it_had_never_been() {
    let config = &configs()[0];
    let model = model(config, TensorType::Q8_0, Activation::Int8, 512);
    let text = tokens(150, config.vocab, 1);
    let straight = run(&model, &mut cache(&model), &text, Logits::Last);
    let mut cache = cache(&model);
    run(&model, &mut cache, &text[..100], Logits::None);
    run(&model, &mut cache, &tokens(50, config.vocab, 77), Logits::None);
    let before = cache.bytes();
    for len in [100, 65, 64, 63, 1, 0] {
        cache.truncate(len).unwrap();
        assert_eq!(cache.len(), len);
    }
    assert!(cache.bytes() < before);
    assert!(cache.truncate(1).is_err());
    assert!(bits(&run(&model, &mut cache, &text, Logits::Last)) == bits(&straight));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let config = &configs()[0];
    let model = model(config, TensorType::F32, Activation::Int8, 16);
    let mut cache = model.new_cache(20, CacheType::F16).unwrap();
    run(&model, &mut cache, &tokens(15, config.vocab, 1), Logits::None);
    let mut forward = |tokens: &[u32]| {
        let batch = &mut [Sequence { tokens, cache: &mut cache }];
        model.forward(batch, Logits::Last, None).map(|logits| bits(&logits))
    };
    assert!(matches!(forward(&[0; 6]), Err(Error::ContextOverflow { capacity: 20, wanted: 21, limit: 256 })));
    assert!(matches!(forward(&[3, 70]), Err(Error::Token { token: 70, vocab: 70 })));
    assert_eq!(forward(&[]).unwrap().len(), 0);
    assert!(forward(&[0; 5]).is_ok());
    assert_eq!(cache.len(), 20);
    assert!(matches!(model.new_cache(257, CacheType::F16), Err(Error::ContextOverflow { .. })));
}

#[test]
fn f16_cache_is_close_and_half_the_size() {
    let config = &configs()[1];
    let model = model(config, TensorType::F32, Activation::Int8, 512);
    let text = tokens(100, config.vocab, 4);
    let mut half = model.new_cache(256, CacheType::F16).unwrap();
    let mut full = cache(&model);
    let (a, b) = (run(&model, &mut half, &text, Logits::All), run(&model, &mut full, &text, Logits::All));
    assert_eq!(2 * half.bytes(), full.bytes());
    let worst = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 0.05, "{worst}");
}

#[derive(Default)]
struct Watcher {
    moments: SecondMoments,
    attention: Vec<(usize, usize, usize, usize, Vec<u32>)>,
}

impl Tap for Watcher {
    fn linear(&mut self, site: Site, input: brevity_kernels::MatrixView<'_>) {
        self.moments.linear(site, input);
    }

    fn wants_attention(&self, layer: usize) -> bool {
        layer == 1
    }

    fn attention(&mut self, row: AttentionRow<'_>) {
        let sum: f32 = row.weights.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert_eq!(row.first + row.weights.len(), row.position + 1);
        let weights = row.weights.iter().map(|w| w.to_bits()).collect();
        self.attention.push((row.sequence, row.layer, row.head, row.position, weights));
    }
}

#[test]
fn streaming_gives_the_bits_of_the_whole_model_and_taps_see_the_same() {
    for config in configs() {
        for (ty, activation) in [KINDS[2], KINDS[3]] {
            let weights = RandomWeights::new(&config, ty);
            let windows: Vec<_> = [40, 1, 0, 100, 64].iter().map(|&n| tokens(n, config.vocab, n as u64)).collect();
            let mut streamed = vec![Vec::new(); windows.len()];
            let mut tap = Watcher::default();
            let options = Options { activation, chunk: 50 };
            stream::run(&config, &weights, &windows, options, Some(&mut tap), &mut |window, first, logits| {
                assert_eq!(first * config.vocab, streamed[window].len());
                (0..logits.rows()).for_each(|row| streamed[window].extend(logits.row(row).iter().map(|x| x.to_bits())));
                Ok(())
            })
            .unwrap();

            let model = model(&config, ty, activation, 33);
            let mut whole = Watcher::default();
            for (index, window) in windows.iter().enumerate() {
                let plain = run(&model, &mut cache(&model), window, Logits::All);
                assert!(bits(&plain) == streamed[index]);
                let mut cache = cache(&model);
                let batch = &mut [Sequence { tokens: window, cache: &mut cache }];
                let mut part = Watcher { moments: std::mem::take(&mut whole.moments), attention: Vec::new() };
                let tapped = model.forward(batch, Logits::All, Some(&mut part)).unwrap();
                assert!(bits(&tapped) == bits(&plain), "a tap changes nothing");
                whole.moments = part.moments;
                part.attention.iter_mut().for_each(|row| row.0 = index);
                whole.attention.extend(part.attention);
            }
            assert!(tap.moments == whole.moments);
            let order = |mut rows: Vec<(usize, usize, usize, usize, Vec<u32>)>| {
                rows.sort();
                rows
            };
            assert!(order(tap.attention) == order(whole.attention));
            let kind = if config.attention.fused { TensorKind::AttnQkv } else { TensorKind::AttnK };
            assert_eq!(tap.moments.means(Role::block(0, kind)).unwrap().len(), config.hidden);
            let down = tap.moments.get(Site::of(Role::block(1, TensorKind::FfnDown)).unwrap()).unwrap();
            assert_eq!((down.sums.len(), down.rows), (config.mlp.width, 205));
        }
    }
}

#[test]
fn observing_up_to_a_place_shows_what_the_whole_block_shows_until_there() {
    for config in configs() {
        let weights = RandomWeights::new(&config, KINDS[2].0);
        let windows: Vec<_> = [40, 64].iter().map(|&n| tokens(n, config.vocab, n as u64)).collect();
        let options = Options { activation: KINDS[2].1, chunk: 50 };
        let mut stream = Stream::new(&config, &weights, &windows, options).unwrap();
        let block = BlockWeights::load(&config, 0, &weights).unwrap();
        let before = bits(&stream.states().unwrap());
        let places = [Place::Qkv, Place::AttnOutput, Place::GateUp, Place::Down];
        let seen: Vec<SecondMoments> = places
            .iter()
            .map(|&until| {
                let mut moments = SecondMoments::new();
                stream.observe(0, &block, until, &mut moments).unwrap();
                moments
            })
            .collect();
        assert!(bits(&stream.states().unwrap()) == before, "states stay");
        let mut whole = SecondMoments::new();
        stream.advance(0, &block, Some(&mut whole)).unwrap();
        for (index, part) in seen.iter().enumerate() {
            let sites: Vec<Place> = part.iter().map(|(site, _)| site.place).collect();
            assert_eq!(sites, places[..=index]);
            assert!(part.iter().all(|(site, moments)| whole.get(site) == Some(moments)));
        }
    }
}

#[test]
fn states_on_disk_are_states_in_memory() {
    let config = &configs()[0];
    let weights = RandomWeights::new(config, KINDS[0].0);
    let windows: Vec<_> = [40, 64, 3].iter().map(|&n| tokens(n, config.vocab, n as u64)).collect();
    let options = Options { activation: KINDS[0].1, chunk: 50 };
    let run = |mut stream: Stream| {
        for layer in 0..config.layers() {
            stream.advance(layer, &BlockWeights::load(config, layer, &weights).unwrap(), None).unwrap();
        }
        let mut some = Matrix::default();
        stream.rows(30..70, &mut some).unwrap();
        let mut logits = Vec::new();
        let whole = stream.states().unwrap();
        stream.set_states(&whole).unwrap();
        let mut visit = |_: usize, _: usize, rows: brevity_kernels::MatrixView<'_>| {
            (0..rows.rows()).for_each(|row| logits.extend(rows.row(row).iter().map(|value| value.to_bits())));
            Ok(())
        };
        stream.finish(&weights, None, &mut visit).unwrap();
        (bits(&some), bits(&whole), logits)
    };
    let memory = run(Stream::new(config, &weights, &windows, options).unwrap());
    assert!(memory == run(Stream::spilled(config, &weights, &windows, options).unwrap()));
    assert_eq!(memory.2.len(), 107 * config.vocab);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Texts cut anywhere, batched with others, in chunks of any size, on any number of threads.
    #[test]
    fn any_way_of_cutting(
        which in 0usize..3,
        kind in 0usize..4,
        lengths in prop::collection::vec(1usize..110, 1..4),
        cuts in prop::collection::vec(1usize..60, 1..12),
        chunk in 1usize..80,
        threads in 1usize..4,
    ) {
        let config = &configs()[which];
        let (ty, activation) = KINDS[kind];
        let reference = model(config, ty, activation, 512);
        let texts: Vec<_> = lengths.iter().zip(1..).map(|(&n, seed)| tokens(n, config.vocab, seed)).collect();
        let alone: Vec<_> =
            texts.iter().map(|text| bits(&run(&reference, &mut cache(&reference), text, Logits::All))).collect();

        pool::set_threads(threads);
        let model = model(config, ty, activation, chunk);
        let mut caches: Vec<_> = texts.iter().map(|_| cache(&model)).collect();
        let mut together = vec![Vec::new(); texts.len()];
        let mut cut = cuts.iter().cycle();
        while caches.iter().zip(&texts).any(|(cache, text)| cache.len() < text.len()) {
            let mut batch = Vec::new();
            for (cache, text) in caches.iter_mut().zip(&texts) {
                let left = &text[cache.len()..];
                let take = left.len().min(*cut.next().unwrap());
                batch.push(Sequence { tokens: &left[..take], cache });
            }
            let takes: Vec<usize> = batch.iter().map(|sequence| sequence.tokens.len()).collect();
            let logits = model.forward(&mut batch, Logits::All, None).unwrap();
            let mut row = 0;
            for (out, take) in together.iter_mut().zip(takes) {
                (row..row + take).for_each(|i| out.extend(logits.row(i).iter().map(|x| x.to_bits())));
                row += take;
            }
        }
        pool::set_threads(0);
        prop_assert!(together == alone);
    }
}
