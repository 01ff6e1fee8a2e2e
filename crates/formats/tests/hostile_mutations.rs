//! Thousands of damaged files: each is read or refused, without panic and without taking memory that the file does not justify.
//! The fuzz targets do the same with coverage; this is the part that needs no nightly compiler.

mod support;

use brevity_formats::gguf::{self, GgufFile};
use brevity_formats::imatrix::Imatrix;
use brevity_formats::llama2c::{Layout, Pieces};
use brevity_formats::safetensors;

/// A small generator with a written seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

/// Numbers that parsers trip over.
const NASTY: [u64; 10] = [0, 1, 7, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX];

fn mutate(valid: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len());
        let length = dice.roll(16).min(bytes.len() - at);
        match dice.roll(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes.truncate(at),
            2 => {
                bytes.drain(at..at + length);
            }
            3 => {
                let from = dice.roll(valid.len() - 16);
                bytes.splice(at..at + length, valid[from..from + length].iter().copied());
            }
            4 => {
                let width = [1, 4, 8][dice.roll(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&NASTY[dice.roll(10)].to_le_bytes()[..width]);
            }
            _ if !bytes.is_empty() => bytes[at] = dice.roll(256) as u8,
            _ => {}
        }
    }
    bytes
}

/// Damages `valid` many times; returns how many were still read.
fn drive(valid: &[u8], cases: usize, seed: u64, read: impl Fn(&[u8]) -> bool) -> usize {
    assert!(read(valid));
    let mut dice = Dice(seed);
    (0..cases).filter(|_| read(&mutate(valid, &mut dice))).count()
}

/// The most address space that this process ever had, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[test]
fn damaged_files_are_read_or_refused() {
    const CASES: usize = 20_000;
    let before = peak_bytes();
    let gguf = |bytes: &[u8]| gguf::Header::parse(bytes).is_ok();
    let read = drive(&support::valid_gguf(), CASES, 1, gguf);
    assert!((CASES / 50..CASES / 2).contains(&read), "{read}");
    let safe = |bytes: &[u8]| safetensors::Header::parse(bytes).is_ok();
    let read = drive(&support::valid_safetensors(), CASES, 2, safe);
    assert!((1..CASES / 2).contains(&read), "{read}");
    let layout = |bytes: &[u8]| Layout::parse(&bytes[..bytes.len().min(256)], bytes.len() as u64).is_ok();
    let numbers = [2, 2, 2, 1, 1, 3, 2];
    let values = 3 * 2 + 2 * (2 + 16 + 2 + 12) + 2;
    drive(&support::llama2c(numbers, 28 + 4 * (values + 4)), CASES, 3, layout);
    drive(&support::llama2c_later(1, numbers, 1, 256 + 4 * values), CASES, 4, layout);
    let tokens = support::tokenizer(9, &[(0.5, 3, b"<s>"), (-1.0, 9, b"something"), (0.0, 0, b""), (1.0, 2, b"hi")]);
    let read = drive(&tokens, CASES, 5, |bytes| Pieces::parse(bytes, None).is_ok());
    assert!((1..CASES).contains(&read), "{read}");
    let imatrix = |bytes: &[u8]| Imatrix::parse(bytes).is_ok();
    let gguf = include_bytes!("golden/imatrix/tiny.gguf");
    let read = drive(gguf, CASES / 5, 7, imatrix);
    assert!((1..CASES / 5).contains(&read), "{read}");
    let read = drive(include_bytes!("golden/imatrix/tiny.dat"), CASES / 5, 8, imatrix);
    assert!((1..CASES / 5).contains(&read), "{read}");
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        // Threads reserve address space of their own; a believed lie takes gigabytes.
        assert!(after - before < 512 << 20, "{} bytes were taken", after - before);
    }
}

#[test]
fn a_damaged_file_that_is_read_has_all_its_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(file) = GgufFile::open(&path) else { return false };
        for tensor in file.tensors() {
            assert_eq!(file.read_all(tensor).unwrap().len() as u64, tensor.bytes);
        }
        true
    };
    drive(&support::valid_gguf(), 2_000, 6, read);
}
