//! Any bytes as an importance matrix, GGUF or legacy.
#![no_main]

use brevity_formats::imatrix::Imatrix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(imatrix) = Imatrix::parse(bytes) else { return };
    for (name, entry) in &imatrix.entries {
        let experts = entry.counts.len();
        let means = imatrix.expert_importance(name, entry.sums.len() / experts, experts);
        assert!(means.is_ok_and(|means| means.len() == entry.sums.len() && 4 * means.len() <= bytes.len()));
    }
});
