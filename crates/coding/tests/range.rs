//! Round trips, sizes against the entropy and against constriction, and the ends of streams.

use brevity_coding::Error;
use brevity_coding::cdf::Cdf;
use brevity_coding::range::{Decoder, Encoder, Interval};
use constriction::stream::Encode;
use constriction::stream::model::ContiguousCategoricalEntropyModel;
use constriction::stream::queue::DefaultRangeEncoder;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Item {
    Bit(bool, u32),
    Symbol(Interval),
    Raw(u64, u32),
}

fn item() -> impl Strategy<Value = Item> {
    let interval = (1u32..=24).prop_flat_map(|bits| {
        (0u32..1 << bits).prop_flat_map(move |start| {
            (1..=(1 << bits) - start).prop_map(move |size| Interval::new(start, size, bits).unwrap())
        })
    });
    let narrow = (1u32..=24)
        .prop_flat_map(|bits| (0u32..1 << bits).prop_map(move |start| Interval::new(start, 1, bits).unwrap()));
    // Ends of the range and of the total are where carries and rounding go wrong.
    let last = (1u32..=24).prop_map(|bits| Interval::new((1 << bits) - 1, 1, bits).unwrap());
    let whole = (1u32..=24).prop_map(|bits| Interval::new(0, 1 << bits, bits).unwrap());
    prop_oneof![
        (any::<bool>(), 0u32..=65_540).prop_map(|(b, p)| Item::Bit(b, p)),
        (any::<bool>(), prop_oneof![Just(0u32), Just(1), Just(65_535), Just(u32::MAX)])
            .prop_map(|(b, p)| Item::Bit(b, p)),
        interval.prop_map(Item::Symbol),
        narrow.prop_map(Item::Symbol),
        last.prop_map(Item::Symbol),
        whole.prop_map(Item::Symbol),
        (any::<u64>(), 0u32..=64).prop_map(|(v, n)| Item::Raw(if n == 64 { v } else { v & ((1 << n) - 1) }, n)),
    ]
}

fn encode(items: &[Item]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for item in items {
        match *item {
            Item::Bit(bit, p) => encoder.encode_bit(bit, p),
            Item::Symbol(interval) => encoder.encode(interval),
            Item::Raw(value, count) => encoder.encode_raw(value, count),
        }
    }
    encoder.finish()
}

/// Decodes the items and says whether all agreed.
fn decodes(items: &[Item], decoder: &mut Decoder) -> bool {
    items.iter().all(|item| match *item {
        // Both decoders of a bit, by turns.
        Item::Bit(bit, p) if p % 2 == 0 => decoder.decode_open_bit(p) == bit,
        Item::Bit(bit, p) => decoder.decode_bit(p) == bit,
        Item::Symbol(interval) => {
            let value = decoder.peek(interval.bits());
            decoder.take(interval);
            (interval.start()..interval.start() + interval.size()).contains(&value)
        }
        Item::Raw(value, count) => decoder.decode_raw(count) == value,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn everything_comes_back(items in prop::collection::vec(item(), 0..400)) {
        let bytes = encode(&items);
        let mut decoder = Decoder::new(&bytes);
        prop_assert!(decodes(&items, &mut decoder));
        prop_assert_eq!(decoder.overrun(), 0);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn cuts_and_additions_are_found(items in prop::collection::vec(item(), 30..200), cut in 3usize..40, more in 3usize..9) {
        let bytes = encode(&items);
        if let Some(kept) = bytes.len().checked_sub(cut) {
            let mut decoder = Decoder::new(&bytes[..kept]);
            // Up to the first wrong symbol a decoder cannot know; after all right ones it must.
            if decodes(&items, &mut decoder) {
                prop_assert!(decoder.overrun() > 0);
                let truncated = matches!(decoder.finish(), Err(Error::Truncated { .. }));
                prop_assert!(truncated);
            }
        }
        let mut longer = bytes.clone();
        longer.extend(std::iter::repeat_n(0, more));
        let mut decoder = Decoder::new(&longer);
        prop_assert!(decodes(&items, &mut decoder));
        let trailing = matches!(decoder.finish(), Err(Error::Trailing { .. }));
        prop_assert!(trailing);
    }

    #[test]
    fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..64), items in prop::collection::vec(item(), 0..300), ones in any::<bool>()) {
        let bytes = if ones { vec![0xff; bytes.len()] } else { bytes };
        let mut decoder = Decoder::new(&bytes);
        for item in &items {
            decodes(std::slice::from_ref(item), &mut decoder);
        }
        let _ = decoder.finish();
    }
}

struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 32
    }
    fn uniform(&mut self) -> f64 {
        self.next() as f64 / 4294967296.0
    }
}

#[test]
fn bits_cost_their_entropy() {
    let mut random = Random(5);
    for sharpness in [0.0, 3.0, 8.0, 14.0] {
        let mut encoder = Encoder::new();
        let mut cost = 0.0;
        for _ in 0..400_000 {
            // Probabilities from even to as sharp as 16 bits can say.
            let logit = (random.uniform() - 0.5) * 2.0 * sharpness;
            let p = ((65_536.0 / (1.0 + (-logit).exp())) as u32).clamp(1, 65_535);
            let bit = random.next() & 0xffff < u64::from(p);
            cost -= (f64::from(if bit { p } else { 65_536 - p }) / 65_536.0).log2();
            encoder.encode_bit(bit, p);
        }
        let bytes = encoder.finish().len() as f64;
        println!("sharpness {sharpness}: {bytes} bytes, entropy {:.1}", cost / 8.0);
        assert!(bytes <= cost / 8.0 * 1.0002 + 4.0);
        assert!(bytes >= cost / 8.0 - 4.0);
    }
}

#[test]
fn symbols_cost_their_entropy_and_no_more_than_constrictions() {
    let mut random = Random(6);
    for (symbols, decay, count) in [
        (2usize, 0.5f64, 100_000),
        (256, 0.97, 100_000),
        (256, 0.01, 400_000),
        (5000, 0.999, 60_000),
        (50_000, 0.9999, 30_000),
    ] {
        let probabilities: Vec<f64> = (0..symbols).map(|i| decay.powi(i as i32)).collect();
        let cdf = Cdf::new(&probabilities, 24).unwrap();
        let sequence: Vec<usize> = (0..count).map(|_| cdf.find(random.next() as u32 & 0xff_ffff)).collect();
        let mut encoder = Encoder::new();
        let mut cost = 0.0;
        for &symbol in &sequence {
            let interval = cdf.interval(symbol).unwrap();
            cost += interval.cost();
            encoder.encode(interval);
        }
        let bytes = encoder.finish();
        let ours = bytes.len() as f64;

        let counts = cdf.cumulative().windows(2).map(|w| w[1] - w[0]);
        let model = ContiguousCategoricalEntropyModel::<u32, Vec<u32>, 24>::from_nonzero_fixed_point_probabilities(
            counts, false,
        )
        .unwrap();
        let mut theirs = DefaultRangeEncoder::new();
        theirs.encode_iid_symbols(sequence.iter().copied(), &model).unwrap();
        let theirs = theirs.into_compressed().unwrap().len() * 4;
        println!("{symbols} symbols: {ours} bytes, constriction {theirs}, entropy {:.1}", cost / 8.0);
        assert!(ours <= cost / 8.0 * 1.0002 + 4.0 && ours >= cost / 8.0 - 4.0);
        assert!(bytes.len() <= theirs + 2);

        let mut decoder = Decoder::new(&bytes);
        assert!(sequence.iter().all(|&s| cdf.decode(&mut decoder) == s));
        decoder.finish().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn never_larger_than_constrictions(weights in prop::collection::vec(0.0f64..1.0, 2..300), power in 1i32..12, picks in prop::collection::vec(any::<u32>(), 1..2000)) {
        let probabilities: Vec<f64> = weights.iter().map(|w| w.powi(power) + 1e-12).collect();
        let cdf = Cdf::new(&probabilities, 24).unwrap();
        let sequence: Vec<usize> = picks.iter().map(|p| cdf.find(p & 0xff_ffff)).collect();
        let mut encoder = Encoder::new();
        sequence.iter().for_each(|&s| encoder.encode(cdf.interval(s).unwrap()));
        let ours = encoder.finish();
        let counts = cdf.cumulative().windows(2).map(|w| w[1] - w[0]);
        let model = ContiguousCategoricalEntropyModel::<u32, Vec<u32>, 24>::from_nonzero_fixed_point_probabilities(counts, false).unwrap();
        let mut theirs = DefaultRangeEncoder::new();
        theirs.encode_iid_symbols(sequence.iter().copied(), &model).unwrap();
        prop_assert!(ours.len() <= theirs.into_compressed().unwrap().len() * 4 + 1);
        let mut decoder = Decoder::new(&ours);
        prop_assert!(sequence.iter().all(|&s| cdf.decode(&mut decoder) == s));
    }
}

#[test]
fn carries_run_through_all_bytes() {
    // The most likely symbol many times over with the other end in between: runs of 0xff that a late carry turns.
    let mut found = false;
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut items: Vec<Item> = (0..40).map(|_| Item::Raw(0xffff, 16)).collect();
        items.push(Item::Symbol(Interval::new(0, (1 << 24) - 1, 24).unwrap()));
        items.extend((0..30).map(|_| Item::Bit(random.next() & 1 == 0, 65_535)));
        let bytes = encode(&items);
        let mut decoder = Decoder::new(&bytes);
        assert!(decodes(&items, &mut decoder));
        decoder.finish().unwrap();
        found |= bytes.windows(4).any(|w| w == [0xff; 4]);
    }
    assert!(found);
}

#[test]
fn short_streams_are_short() {
    assert_eq!(Encoder::new().finish(), Vec::<u8>::new());
    Decoder::new(&[]).finish().unwrap();
    let mut encoder = Encoder::new();
    (0..1000).for_each(|_| encoder.encode_bit(true, 65_535));
    assert!(encoder.finish().len() <= 1);
    let mut encoder = Encoder::new();
    encoder.encode_raw(0xab, 8);
    assert_eq!(encoder.finish().len(), 1);
}

#[test]
fn the_stored_stream_stays_readable() {
    // Archives hold such bytes: they may never change.
    let cdf = Cdf::new(&[0.5, 0.25, 0.125, 0.125], 12).unwrap();
    let mut encoder = Encoder::new();
    for i in 0..40u32 {
        encoder.encode(cdf.interval((i * i % 7 % 4) as usize).unwrap());
        encoder.encode_bit(i % 3 == 0, 20_000 + 100 * i);
        encoder.encode_raw(u64::from(i), 3);
    }
    let bytes = encoder.finish();
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, STORED);
}
const STORED: &str = "02f35778704622b2b22481e5cd303d0130c3b89a4b02741c0464cc07bf1d";

#[test]
fn intervals_are_checked() {
    for (start, size, bits) in
        [(0, 0, 8), (0, 257, 8), (255, 2, 8), (256, 1, 8), (0, 1, 0), (0, 1, 25), (u32::MAX, u32::MAX, 24)]
    {
        assert_eq!(Interval::new(start, size, bits), Err(Error::Interval { start, size, bits }));
    }
    assert_eq!(Interval::new(0, 256, 8).unwrap().cost(), 0.0);
}
