//! Archives behind a language model: the repository's own nano, and SmolLM2 where `BREVITY_MODELS` has it.

use brevity_bytes::archive::{Archive, PackOptions, pack_stream_behind};
use brevity_bytes::codec::{self, Failure};
use brevity_bytes::level::Level;
use brevity_bytes::lm::{self, Behind, Models, Predictor};
use brevity_bytes::tensors::base::Bases;
use brevity_kernels::{Isa, pool};
use brevity_model::ModelSource;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const MEMORY: u64 = 1 << 32;

static NANO: LazyLock<Predictor> = LazyLock::new(nano);

fn nano() -> Predictor {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano"), "nano").unwrap()
}

fn load(path: &Path, name: &str) -> Result<Predictor, String> {
    let source = ModelSource::open(path).map_err(|error| error.to_string())?;
    Predictor::load(&source, name).map_err(|error| error.to_string())
}

fn with_nano() -> Bases {
    Bases::default().with_models(Models::new(Box::new(|| Ok(nano()))))
}

fn level() -> Level {
    Level::of(5).unwrap()
}

const STORY: &str = "The captain stood on the deck and looked at the sea. \"There is a storm coming,\" he said, and the sailors \
    looked at the sky. The storm was coming from the west, and the captain of the ship knew that they would have to \
    turn the ship to the north before the night. He said: \"There is a storm coming from the west.\"\n";

fn behind(exact_bytes: bool) -> Behind<'static> {
    Behind { predictor: &NANO, exact_bytes }
}

fn encode(bytes: &[u8], exact_bytes: bool) -> Vec<u8> {
    lm::encode(bytes, &level(), behind(exact_bytes), MEMORY, &|_| true).unwrap()
}

/// Token by token, and byte by byte.
fn round_trip(bytes: &[u8]) -> [Vec<u8>; 2] {
    [false, true].map(|exact| {
        let packed = encode(bytes, exact);
        assert!(codec::decode_against(&packed, bytes.len(), MEMORY, &with_nano()).unwrap() == bytes);
        packed
    })
}

#[test]
fn text_takes_fewer_bytes_than_without_a_model() {
    let [tokens, bytes] = round_trip(STORY.as_bytes());
    assert_eq!((tokens[0], bytes[0]), (8, 8));
    let plain = codec::encode(STORY.as_bytes(), &Level::of(9).unwrap());
    assert!(tokens.len() * 10 < plain.len() * 8, "{} of {}", tokens.len(), plain.len());
    assert!(bytes.len() * 10 < plain.len() * 8, "{} of {}", bytes.len(), plain.len());
}

#[test]
fn anything_comes_back() {
    round_trip(b"");
    round_trip(b"x");
    round_trip("größer \u{2581}\u{1F600}".repeat(4).as_bytes());
    let mixed = [&STORY.as_bytes()[..200], &[0, 255, 254, 7, 200], &STORY.as_bytes()[200..], &[0xC3]].concat();
    assert!(round_trip(&mixed).iter().all(|packed| packed[0] == 8));
    let noise: Vec<u8> = (0..500u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(round_trip(&noise).iter().all(|packed| packed[0] != 8));
}

#[test]
fn lanes_and_what_repeats_without_asking_the_model() {
    // Long enough for two lanes; what repeats is skipped, so it is quick.
    let text = STORY.repeat(19_000 / STORY.len());
    pool::set_threads(1);
    let packed = encode(text.as_bytes(), false);
    pool::set_threads(2);
    assert!(encode(text.as_bytes(), false) == packed);
    assert!(codec::decode_against(&packed, text.len(), MEMORY, &with_nano()).unwrap() == text.as_bytes());
    pool::set_threads(0);
    assert!(packed.len() < 1200, "{}", packed.len());
}

#[test]
fn the_same_archive_on_any_instruction_set_and_number_of_threads() {
    let text = &STORY.as_bytes()[..90];
    for exact in [false, true] {
        let packed = encode(text, exact);
        for threads in [1, 2] {
            pool::set_threads(threads);
            assert!(encode(text, exact) == packed, "{threads} threads");
        }
        pool::set_threads(0);
        for isa in Isa::available() {
            assert!(isa.with(|| encode(text, exact)) == packed, "{isa:?}");
        }
    }
}

#[test]
fn another_model_or_none_is_refused_with_what_to_do() {
    let packed = encode(STORY.as_bytes(), false);
    let refused = |bases: &Bases| match codec::decode_against(&packed, STORY.len(), MEMORY, bases) {
        Err(Failure::Model { name, found, .. }) => (name, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&Bases::default()).0, "nano");
    let mut other = packed.clone();
    other[2] ^= 1;
    let error = codec::decode_against(&other, STORY.len(), MEMORY, &with_nano());
    assert!(matches!(error, Err(Failure::Model { .. })));
    let missing = Models::new(Box::new(|| Err("no such file".into())));
    assert_eq!(refused(&Bases::default().with_models(missing)).1, "no such file");
    assert!(matches!(codec::decode_against(&packed, STORY.len(), 1 << 20, &with_nano()), Err(Failure::Memory(_))));
}

#[test]
fn decoding_ends_where_the_caller_asks_for_it() {
    for exact in [false, true] {
        let packed = encode(STORY.as_bytes(), exact);
        let ended = Models::new(Box::new(|| Ok(nano()))).while_alive(Box::new(|| false));
        let error = codec::decode_against(&packed, STORY.len(), MEMORY, &Bases::default().with_models(ended));
        assert!(matches!(error, Err(Failure::Stopped)), "{error:?}");
    }
}

#[test]
fn any_flipped_bit_of_an_archive_is_found() {
    let options = PackOptions { level: level(), block: None, memory: MEMORY, progress: &|_| true };
    let mut whole = Vec::new();
    let text = &STORY.as_bytes()[..100];
    pack_stream_behind("story", &mut &text[..], behind(false), &mut whole, &options).unwrap();
    let read = |bytes: Vec<u8>| -> Option<Vec<u8>> {
        let mut archive =
            Archive::open(Cursor::new(bytes), MEMORY).ok()?.with_models(Models::new(Box::new(|| Ok(nano()))));
        let mut out = Vec::new();
        let taken = archive.read(0, 0..u64::MAX, |part| {
            out.extend_from_slice(part);
            Ok(())
        });
        taken.ok()?;
        Some(out)
    };
    assert_eq!(read(whole.clone()).as_deref(), Some(text));
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(bytes).is_none(), "bit {bit}");
    }
}

#[test]
fn damaged_streams_are_decoded_or_refused() {
    let text = &STORY.as_bytes()[..80];
    let bases = with_nano();
    for packed in [encode(text, false), encode(text, true)] {
        for at in (18..packed.len()).step_by(13) {
            let mut bytes = packed.clone();
            bytes[at] ^= 0x15;
            for bytes in [&bytes[..], &packed[..at]] {
                if let Ok(out) = codec::decode_against(bytes, text.len(), MEMORY, &bases) {
                    assert_eq!(out.len(), text.len());
                }
            }
        }
    }
}

#[test]
fn smollm2_predicts_by_path() {
    let Some(models) = std::env::var_os("BREVITY_MODELS").map(PathBuf::from) else {
        eprintln!("skipped: BREVITY_MODELS is not set");
        return;
    };
    let path = models.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let model = load(&path, "SmolLM2").unwrap();
    let text = &STORY.as_bytes()[..200];
    let behind = Behind { predictor: &model, exact_bytes: false };
    let packed = lm::encode(text, &level(), behind, MEMORY, &|_| true).unwrap();
    let bases = Bases::default().with_models(Models::new(Box::new(move || load(&path, "SmolLM2"))));
    assert!(codec::decode_against(&packed, text.len(), MEMORY, &bases).unwrap() == text);
    assert!(packed.len() < encode(text, false).len());
}

#[test]
fn real_text_takes_least_byte_by_byte() {
    let Some(data) = std::env::var_os("BREVITY_DATA").map(PathBuf::from) else {
        eprintln!("skipped: BREVITY_DATA is not set");
        return;
    };
    let alice = std::fs::read(data.join("corpora/canterbury/alice29.txt")).unwrap();
    let text = &alice[1000..2500];
    let [tokens, bytes] = [false, true].map(|exact| encode(text, exact).len());
    let nine = codec::encode(text, &Level::of(9).unwrap()).len();
    eprintln!("tokens {tokens}, bytes {bytes}, level 9 {nine}");
    assert!(bytes < tokens && bytes * 100 < nine * 85, "tokens {tokens}, bytes {bytes}, level 9 {nine}");
}

/// Stored archives, beside those of `stored.rs`: name, whether byte by byte.
const STORED: [(&str, bool); 2] = [("story-nano-tokens", false), ("story-nano-bytes", true)];
const TOLD: &str =
    "The captain stood on the deck and looked at the sea. \"There is a storm coming,\" he said. \u{1F30A}\n";

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored").join(format!("{name}.brv"))
}

#[test]
fn archives_of_the_first_version_are_read() {
    for (name, _) in STORED {
        let bytes = std::fs::read(stored(name)).unwrap();
        let archive = Archive::open(Cursor::new(bytes), MEMORY).unwrap();
        let mut out = Vec::new();
        let taken = archive.with_models(Models::new(Box::new(|| Ok(nano())))).read(0, 0..u64::MAX, |part| {
            out.extend_from_slice(part);
            Ok(())
        });
        taken.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(out == TOLD.as_bytes(), "{name}");
    }
}

#[test]
#[ignore = "writes what is missing"]
fn store() {
    let options = PackOptions { level: level(), block: None, memory: MEMORY, progress: &|_| true };
    for (name, exact) in STORED.into_iter().filter(|(name, _)| !stored(name).exists()) {
        let mut out = Vec::new();
        pack_stream_behind(name, &mut TOLD.as_bytes(), behind(exact), &mut out, &options).unwrap();
        std::fs::write(stored(name), out).unwrap();
    }
}
