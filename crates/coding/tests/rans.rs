//! rANS beside constriction's: sizes, with the same frequencies.

use brevity_coding::rans::{self, Table};
use brevity_coding::simd::Backend;
use constriction::stream::Decode;
use constriction::stream::model::DefaultContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn streams_are_as_short_as_constriction_makes_them(
        weights in prop::collection::vec(1u32..2000, 2..200),
        length in 1usize..40_000,
        seed in any::<u32>(),
    ) {
        let sum: u32 = weights.iter().sum();
        let mut x = seed | 1;
        let symbols: Vec<u8> = (0..length)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                let mut rest = x % sum;
                weights.iter().position(|&w| rest < w || { rest -= w; false }).unwrap() as u8
            })
            .collect();
        let mut counts = [0; 256];
        symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
        let Some(table) = Table::new(&counts) else { return Ok(()) };
        let ours = rans::encode(&table, &symbols, Backend::best()).unwrap();

        let shares: Vec<f64> = table.frequencies().iter().take(200).map(|&f| f64::from(f).max(1e-6)).collect();
        let model = DefaultContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(&shares, None).unwrap();
        let mut coder = DefaultAnsCoder::new();
        coder.encode_iid_symbols_reverse(symbols.iter().map(|&s| usize::from(s)), &model).unwrap();
        let theirs = coder.get_compressed().unwrap().len() * 4;
        let back: Vec<usize> = coder.decode_iid_symbols(length, &model).map(|s| s.unwrap()).collect();
        prop_assert!(back.iter().zip(&symbols).all(|(a, b)| *a == usize::from(*b)));
        // 64 states of 32 bits, of which 15 hold nothing.
        prop_assert!(ours.len() <= theirs + theirs / 1000 + 4 * rans::LANES + 8, "{} {theirs}", ours.len());
    }
}
