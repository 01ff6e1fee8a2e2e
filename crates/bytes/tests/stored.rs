//! Archives that were written by the first version stay readable, on any machine.
//!
//! `tests/stored/` holds one for each kind of stream. `cargo test -p brevity-bytes --test stored -- --ignored` writes those that are
//! missing; those that are there are never written again.

use brevity_bytes::Error;
use brevity_bytes::archive::{Archive, PackOptions, pack, pack_against, pack_stream};
use brevity_bytes::level::Level;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Name, content, level.
type Sample = (&'static str, fn() -> Vec<u8>, u8);

/// Of streams.
const KINDS: [Sample; 20] = [
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
    ("records-8", records, 8),
    ("bases-5", bases, 5),
    ("x86-5", x86, 5),
    ("arm64-5", arm64, 5),
    ("log-1", log, 1),
    ("log-3", log, 3),
    ("log-5", log, 5),
    ("table-5", table, 5),
    ("objects-5", objects, 5),
    ("elements-5", elements, 5),
];

/// Of files of tensors, alone and as differences from [`old_weights`].
const TENSORS: [Sample; 4] = [
    ("tensors-1", new_weights, 1),
    ("tensors-5", new_weights, 5),
    ("delta-1", new_weights, 1),
    ("delta-5", new_weights, 5),
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

fn log() -> Vec<u8> {
    let mut random = random();
    let mut line = |n: u32| {
        let clock = format!("2026-11-21 {:02}:{:02}:{:02},{:03}", n / 60, n % 60, random() % 60, random() % 1000);
        match random() % 5 {
            0 => format!("{clock} WARN  disk 0x{:04x} took {}.{:02} s\r\n", random() % 65_536, n % 7, random() % 100),
            1 => format!("{clock} INFO req-{:08x}-{:08x} done\n", random() * 257, random() * 263),
            2 => {
                format!("{clock} INFO user {} from 10.0.0.{}\n", ["ann", "bob", "eve"][n as usize % 3], random() % 250)
            }
            3 => format!("  {}\n", random()),
            _ => format!("{clock} INFO job {n} queued as {n} with {}\n", 10_000 + 3 * n + random() % 3),
        }
    };
    (0..400).flat_map(|n| line(n).into_bytes()).chain(*b"no newline").collect()
}

fn table() -> Vec<u8> {
    let mut random = random();
    let mut line = |n: u32| format!("{n},\"{}, Inc.\",{}.{:02},,-{}\n", n % 5, random() % 50, random() % 100, n * 3);
    (0..400).flat_map(|n| line(n).into_bytes()).collect()
}

fn objects() -> Vec<u8> {
    let mut random = random();
    let mut line = |n: u32| format!("{{\"id\": {n}, \"name\": \"n{}\", \"on\": {}}}\n", random() % 9, n < 200);
    (0..400).flat_map(|n| line(n).into_bytes()).collect()
}

fn elements() -> Vec<u8> {
    let mut random = random();
    let mut line = |n: u32| format!("  <row id=\"{n}\" x=\"{}\">\n    <v>{}</v>\n  </row>\n", random() % 100, n % 7);
    (0..250).flat_map(|n| line(n).into_bytes()).collect()
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

fn x86() -> Vec<u8> {
    let mut random = random();
    let mut out = Vec::new();
    for _ in 0..400 {
        out.extend([0x48, 0x89, 0xC7 + (random() & 3) as u8, 0xE8]);
        out.extend(((random() & 7) as i32 * 512 - out.len() as i32).to_le_bytes());
    }
    out
}

fn arm64() -> Vec<u8> {
    let mut random = random();
    let mut word = |at: u32| match random() & 7 {
        0 => 0x9400_0000 | ((random() & 7) * 64).wrapping_sub(at) & 0x03FF_FFFF,
        1 => 0x9000_0000 | random() & 0x6000_001F,
        2 => 0xF940_0000 | random() & 0x3FF,
        _ => 0xAA00_03E0 | random() & 0xF,
    };
    let code: Vec<u8> = (0..1500).flat_map(|at| word(at).to_le_bytes()).collect();
    [&code[..], &text()].concat()
}

/// A safetensors file of numbers in BF16 and F32, some of which `moved` changes by a step in the last place.
fn weights(moved: u32) -> Vec<u8> {
    let mut random = random();
    let mut number = || (0..6).map(|_| (random() & 0xFFFF) as f32 / 65_536.0 - 0.5).sum::<f32>() * 0.05;
    let floats: Vec<f32> = (0..1200).map(|_| number()).collect();
    let step = |n: usize| if (n as u32).is_multiple_of(11) { moved } else { 0 };
    let half = floats.iter().enumerate().flat_map(|(n, w)| (((w.to_bits() >> 16) + step(n)) as u16).to_le_bytes());
    let full = floats.iter().enumerate().flat_map(|(n, w)| (w.to_bits() + step(n)).to_le_bytes());
    let header = concat!(
        r#"{"a":{"dtype":"BF16","shape":[40,30],"data_offsets":[0,2400]},"#,
        r#""b":{"dtype":"F32","shape":[1200],"data_offsets":[2400,7200]}}"#
    );
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes().chain(half).chain(full));
    out
}

fn old_weights() -> Vec<u8> {
    weights(0)
}

fn new_weights() -> Vec<u8> {
    weights(1)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stored").join(format!("{name}.brv"))
}

/// All of an archive's only file; a difference finds its base where `base` is.
fn content(bytes: Vec<u8>, base: Option<&Path>) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::open(Cursor::new(bytes), 1 << 30)?;
    if let Some(base) = base {
        archive = archive.against(base);
    }
    let mut out = Vec::new();
    archive.read(0, 0..u64::MAX, |part| {
        out.extend_from_slice(part);
        Ok(())
    })?;
    Ok(out)
}

/// A directory with the file that differences are from.
fn base() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.safetensors");
    fs::write(&path, old_weights()).unwrap();
    (directory, path)
}

#[test]
fn archives_of_the_first_version_are_read() {
    let (_directory, base) = base();
    for (name, made, _) in KINDS.into_iter().chain(TENSORS) {
        let bytes = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = content(bytes, Some(&base)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found == made(), "{name}");
    }
}

#[test]
fn every_flipped_bit_of_tensors_and_differences_is_found() {
    let (_directory, base) = base();
    for (name, ..) in TENSORS.into_iter().filter(|(name, ..)| name.ends_with("-5")) {
        let archive = fs::read(path(name)).unwrap();
        for bit in 0..8 * archive.len() {
            let mut damaged = archive.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(content(damaged, Some(&base)).is_err(), "{name}, bit {bit} of {}", 8 * archive.len());
        }
    }
}

fn options(level: u8) -> PackOptions<'static> {
    PackOptions { level: Level::of(level).unwrap(), block: None, memory: 1 << 30, progress: &|_| true }
}

#[test]
#[ignore = "writes what is missing"]
fn store() {
    fs::create_dir_all(path("").parent().unwrap()).unwrap();
    for (name, made, level) in KINDS.into_iter().filter(|(name, ..)| !path(name).exists()) {
        let mut out = Vec::new();
        pack_stream(name, &mut made().as_slice(), &mut out, &options(level)).unwrap();
        fs::write(path(name), out).unwrap();
    }
    let (directory, base) = base();
    let file = directory.path().join("weights.safetensors");
    for (name, made, level) in TENSORS.into_iter().filter(|(name, ..)| !path(name).exists()) {
        fs::write(&file, made()).unwrap();
        let mut out = Vec::new();
        match name.starts_with("delta") {
            true => pack_against(std::slice::from_ref(&file), &base, &mut out, &options(level)).unwrap(),
            false => pack(std::slice::from_ref(&file), &mut out, &options(level)).unwrap(),
        };
        fs::write(path(name), out).unwrap();
    }
}
