#![no_main]

use brevity_bytes::codec;
use brevity_bytes::tensors::kind::Kind;
use brevity_bytes::tensors::{delta, layout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // A block of tensors, with the first byte that says so.
    let (length, rest) = data.split_at(data.len().min(2));
    let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    let _ = codec::decode(&[&[5], rest].concat(), length, 1 << 26);
    // Differences from numbers that are anything.
    let old: Vec<u8> = (0..rest.len().min(400) / 4 * 4).map(|n| (n * n) as u8).collect();
    for kind in [Kind::Bfloat16, Kind::Float16, Kind::Float32] {
        let _ = delta::decode(kind, 8, &old, rest, &mut vec![0; old.len()]);
    }
    // Headers, wherever they lie.
    let directory = std::env::temp_dir().join(format!("brevity-fuzz-{}", std::process::id()));
    if std::fs::write(&directory, data).is_ok() {
        let length = data.len() as u64;
        let tensors = layout::tensors(&directory);
        let covered: u64 = layout::segments(&tensors, 0, length, false).iter().map(|segment| segment.bytes as u64).sum();
        assert_eq!(covered, length);
    }
});
