//! Archives that were written by the first version stay readable, on any machine.
//!
//! `tests/stored/` holds one for each kind of stream. `cargo test -p brevity-bytes --test stored -- --ignored` writes those that are
//! missing; those that are there are never written again.

use brevity_bytes::archive::{Archive, PackOptions, pack_stream};
use brevity_bytes::level::Level;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

/// Name, content, level.
type Sample = (&'static str, fn() -> Vec<u8>, u8);

const KINDS: [Sample; 11] = [
    ("text-1", text, 1),
    ("text-2", text, 2),
    ("text-3", text, 3),
    ("text-4", text, 4),
    ("text-5", text, 5),
    ("text-7", text, 7),
    ("text-8", text, 8),
    ("text-9", text, 9),
    ("records-5", records, 5),
    ("records-7", records, 7),
    ("bases-5", bases, 5),
];

fn random() -> impl FnMut() -> u32 {
    let mut seed = 1u32;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    }
}

fn text() -> Vec<u8> {
    let mut random = random();
    let words =
        ["Brevity", "says", "the", "same", "with", "fewer", "bits", "and", "knows", "what", "was", "LOST", "exactly"];
    let mut out = Vec::new();
    for line in 0..60 {
        out.extend(format!("{line}. ").into_bytes());
        for _ in 0..6 {
            out.extend(words[random() as usize % words.len()].bytes());
            out.push(b' ');
        }
        out.extend("(größer)\n".bytes());
    }
    out
}

fn records() -> Vec<u8> {
    let mut random = random();
    (0..1500u32).flat_map(|n| [7, (n >> 3) as u8, 9, 1, 200, 3, 80, 81, 2, random() as u8 & 3, 11, 12]).collect()
}

fn bases() -> Vec<u8> {
    let mut random = random();
    let half: Vec<u8> = (0..3000).map(|_| b"ACGT"[random() as usize & 3]).collect();
    [b">first\n", &half[..], b"\nNNNN\n", &half[500..2500].to_ascii_lowercase(), b"\n"].concat()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stored").join(format!("{name}.brv"))
}

#[test]
fn archives_of_the_first_version_are_read() {
    for (name, content, _) in KINDS {
        let bytes = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut archive = Archive::open(Cursor::new(bytes), 1 << 30).unwrap();
        let mut out = Vec::new();
        let taken = archive.read(0, 0..u64::MAX, |part| {
            out.extend_from_slice(part);
            Ok(())
        });
        taken.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(out == content(), "{name}");
    }
}

#[test]
#[ignore = "writes what is missing"]
fn store() {
    for (name, content, level) in KINDS {
        if path(name).exists() {
            continue;
        }
        let options =
            PackOptions { level: Level::of(level).unwrap(), block: None, memory: 1 << 30, progress: &|_| true };
        let mut out = Vec::new();
        pack_stream(name, &mut content().as_slice(), &mut out, &options).unwrap();
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), out).unwrap();
    }
}
