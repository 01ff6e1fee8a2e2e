#![no_main]

use brevity_bytes::transform::columns::{Parts, Style, join, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Streams that are anything: lengths ahead, two bytes each.
    if let Some((head, rest)) = data.split_first_chunk::<6>() {
        let size = |at: usize| usize::from(head[at]) << 8 | usize::from(head[at + 1]);
        let (text, rest) = rest.split_at(size(0).min(rest.len()));
        let (lines, numbers) = rest.split_at(size(2).min(rest.len()));
        let parts = Parts { text: text.to_vec(), lines: lines.to_vec(), numbers: numbers.to_vec() };
        if let Some(bytes) = join(&parts, size(4)) {
            assert_eq!(bytes.len(), size(4));
        }
    }
    // Lines that are anything, twice, so that they follow templates.
    let text = [data, b"\n", data].concat();
    for style in [Style::Strings, Style::Sorting, Style::Mixing] {
        if let Some(parts) = split(&text, style) {
            assert!(join(&parts, text.len()).as_deref() == Some(&text[..]));
        }
    }
});
