#![no_main]

use brevity_bytes::archive::Archive;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    // The block decoders, behind the hashes that would refuse nearly everything.
    let (length, payload) = data.split_at(data.len().min(2));
    let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    let _ = brevity_bytes::codec::decode(payload, length, 1 << 26);
    if let Ok(mut archive) = Archive::open(Cursor::new(data), 1 << 26) {
        for entry in 0..archive.entries().len() {
            let _ = archive.read(entry, 0..u64::MAX, |_| Ok(()));
        }
    }
});
