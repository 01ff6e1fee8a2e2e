#![no_main]

use brevity_bytes::codec;
use brevity_bytes::lm::{Models, Predictor};
use brevity_bytes::tensors::base::Bases;
use brevity_model::ModelSource;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

fn nano() -> Result<Predictor, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano");
    let source = ModelSource::open(path).map_err(|error| error.to_string())?;
    Predictor::load(&source, "nano").map_err(|error| error.to_string())
}

static HASH: LazyLock<[u8; 16]> = LazyLock::new(|| nano().map(|model| *model.hash()).unwrap_or_default());
static BASES: LazyLock<Bases> = LazyLock::new(|| Bases::default().with_models(Models::new(Box::new(nano))));

fuzz_target!(|data: &[u8]| {
    // A block behind a model, from the lengths of its pieces on; the hash is right.
    let [length, mode, rest @ ..] = data else { return };
    let payload = [&[8, mode & 1], &HASH[..], &[0], rest].concat();
    if let Ok(bytes) = codec::decode_against(&payload, usize::from(*length), 1 << 30, &BASES) {
        assert_eq!(bytes.len(), usize::from(*length));
    }
});
