//! `cargo bench -p brevity-coding --bench rans`: exponents of Gaussian weights, 128 Ki symbols at a time.

use brevity_coding::rans::{Encoder, Table, decode, encode};
use brevity_coding::simd::Backend;
use std::time::Instant;

const SYMBOLS: usize = 1 << 17;

fn best(mut work: impl FnMut()) -> f64 {
    let seconds = (0..40).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::MAX, f64::min)
}

fn main() {
    let mut x = 1u32;
    let mut uniform = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        f64::from(x) / 4_294_967_296.0
    };
    let symbols: Vec<u8> = (0..SYMBOLS)
        .map(|_| {
            let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
            ((normal * 0.02) as f32).to_bits().rotate_left(1).to_be_bytes()[0]
        })
        .collect();
    let mut counts = [0; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let table = Table::new(&counts).expect("several symbols");
    for backend in [Backend::Scalar, Backend::Avx2, Backend::Avx512].into_iter().filter(|b| b.is_available()) {
        let packed = encode(&table, &symbols, backend).expect("all have a frequency");
        let mut out = vec![0; SYMBOLS];
        let (mut encoder, mut stream) = (Encoder::default(), Vec::new());
        let encoding = best(|| {
            stream.clear();
            encoder.encode(&table, &symbols, backend, &mut stream).expect("all have a frequency");
        });
        let decoding = best(|| decode(&table, &packed, &mut out, backend).expect("what was encoded"));
        assert!(out == symbols);
        let speed = |seconds: f64| SYMBOLS as f64 / 1e6 / seconds;
        println!(
            "{backend:?}: {:.4} bits a symbol, {:.0} million symbols/s encoded, {:.0} decoded",
            packed.len() as f64 * 8.0 / SYMBOLS as f64,
            speed(encoding),
            speed(decoding)
        );
    }
}
