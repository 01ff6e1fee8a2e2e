//! Thousands of damaged blocks of every kind, given to the decoders without the hashes that would refuse them: each decodes to as many
//! bytes as it should, or is refused; nothing panics. The fuzz targets do the same with coverage.

use brevity_bytes::codec;
use brevity_bytes::level::Level;
use brevity_bytes::tensors::base::Bases;
use brevity_bytes::tensors::kind::Kind;
use brevity_bytes::tensors::{Segment, layout};

const MEMORY: u64 = 1 << 26;

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

/// Numbers that readers of lengths trip over, as they stand in a block.
const NASTY: [&[u8]; 6] = [
    &[0],
    &[0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff; 10],
    &[0xff, 0xff, 0x03],
];

/// Damages the first bytes, where lengths stand, more often than the others.
fn mutate(valid: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=dice.roll(3) {
        let reach = if dice.roll(2) == 0 { bytes.len().min(40) } else { bytes.len() };
        let at = dice.roll(reach);
        let length = dice.roll(12).min(bytes.len() - at);
        match dice.roll(6) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let from = dice.roll(valid.len());
                let length = length.min(valid.len() - from);
                bytes.splice(at..at + length, valid[from..from + length].iter().copied());
            }
            3 => drop(bytes.splice(at..at + length.min(1), NASTY[dice.roll(NASTY.len())].iter().copied())),
            4 if !bytes.is_empty() => bytes[at] = dice.roll(256) as u8,
            _ if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            _ => {}
        }
    }
    bytes
}

/// Decodes damaged copies; returns how many were taken.
fn drive(valid: &[u8], content: &[u8], cases: usize, bases: &Bases) -> usize {
    assert!(codec::decode_against(valid, content.len(), MEMORY, bases).unwrap() == content);
    let mut dice = Dice(0xB5E5_517F + valid.len() as u64);
    let taken = |bytes: Vec<u8>| match codec::decode_against(&bytes, content.len(), MEMORY, bases) {
        Ok(out) => {
            assert_eq!(out.len(), content.len());
            true
        }
        Err(_) => false,
    };
    (0..cases).filter(|_| taken(mutate(valid, &mut dice))).count()
}

fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{n}: the quick brown Fox no. {} jumps\n", n * n % 97).into_bytes()).collect()
}

fn log(lines: usize) -> Vec<u8> {
    let line = |n: usize| match n % 4 {
        0 => format!("{:02}:{:02}:07 disk {} is slow, id {:08x}\n", n / 60, n % 60, n * n % 17, n * 7_919_777),
        _ => format!("{:02}:{:02}:07 read {} bytes from 10.0.0.{}, {1} s\n", n / 60, n % 60, n * 31, n % 5),
    };
    (0..lines).flat_map(|n| line(n).into_bytes()).collect()
}

fn bf16(count: usize, shift: i32) -> Vec<u8> {
    let value = |n: i32| (n * 7919 % 1009 - 500) as f32 * 0.0007 + (n % 13 * shift) as f32 * 1e-4;
    (0..count as i32).flat_map(|n| [value(n).to_le_bytes()[2], value(n).to_le_bytes()[3]]).collect()
}

fn level(number: u8) -> Level {
    Level::of(number).unwrap()
}

#[test]
fn damaged_blocks_of_bytes() {
    let nowhere = Bases::default();
    for (number, lines, cases) in [(1, 40, 4000), (2, 40, 4000), (3, 40, 3000), (5, 20, 200), (7, 6, 100), (9, 2, 30)] {
        let content = text(lines);
        let block = codec::encode(&content, &level(number));
        assert!(drive(&block, &content, cases, &nowhere) < cases, "level {number}");
    }
    let bases: Vec<u8> = (0..600usize).map(|n| b"ACGT"[n * n * n % 7 % 4]).collect();
    let block = codec::encode(&bases, &level(5));
    assert!(drive(&block, &bases, 400, &nowhere) < 400);
}

#[test]
fn damaged_blocks_of_columns() {
    let nowhere = Bases::default();
    for (number, lines, cases) in [(1, 120, 6000), (2, 120, 2000), (3, 120, 400), (5, 90, 100)] {
        let content = log(lines);
        let block = codec::encode(&content, &level(number));
        assert_eq!(block[0], 9, "level {number}");
        assert!(drive(&block, &content, cases, &nowhere) < cases, "level {number}");
    }
}

#[test]
fn columns_that_promise_absurd_sizes_are_refused() {
    let stored = |bytes: &[u8]| [&[0], bytes].concat();
    let block = |text: &[u8], lines: &[u8], numbers: &[u8]| {
        let streams = [text, lines, numbers];
        let mut out = vec![9];
        streams.iter().for_each(|stream| out.extend([stream.len() as u8, stream.len() as u8 + 1]));
        streams.iter().for_each(|stream| out.extend(stored(stream)));
        out
    };
    // Two lines of "a⟨⟩b", a column of text: "a1b\na2b".
    assert_eq!(codec::decode(&block(b"a\0b\n1\n2\n", &[1, 1], &[2, 1, 0, 0]), 7, MEMORY).unwrap(), b"a1b\na2b");
    let refused = |block: Vec<u8>, length| assert!(codec::decode(&block, length, MEMORY).is_err(), "{block:?}");
    // More lines than there can be, slots that touch, columns and slots that are not there, a column of no kind.
    refused(block(b"a\0b\n1\n2\n", &[1, 1], &[0xFF, 0xFF, 0xFF, 0x7F, 1, 0, 0]), 7);
    refused(block(b"a\0\0b\n1\n2\n", &[1], &[1, 1, 0, 0, 0, 0]), 4);
    refused(block(b"a\0b\n1\n2\n", &[1, 1], &[2, 1, 2, 0]), 7);
    refused(block(b"a\0b\n1\n2\n", &[1, 1], &[2, 1, 1, 0, 0]), 7);
    refused(block(b"a\0b\n1\n2\n", &[1, 1], &[2, 1, 0, 99]), 7);
    refused(block(b"a\0b\n1\n2\n", &[1, 2], &[2, 1, 0, 0]), 7);
    // A constant that makes far more than was promised, choices beyond the lines, digits beyond the numbers.
    refused(block(b"\0\nlong long long\n", &[1; 9], &[9, 1, 0, 1]), 30);
    refused(block(b"a\0b\n1\n2\n", &[1, 1], &[2, 1, 0, 5, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0]), 7);
    refused(block(b"a\0b\n00000000\n", &[1, 1], &[2, 1, 0, 6, 1]), 21);
    // Streams longer than any that stand for so few bytes.
    refused(vec![9, 0xFF, 0xFF, 0xFF, 0x7F, 2, 0, 1, 0, 1, 1, 0, 0, 0], 10);
}

#[test]
fn damaged_blocks_of_tensors() {
    let row = |kind: Kind, bytes: usize, base: Option<u64>| Segment { kind, bytes, row: 8, base };
    let directory = tempfile::tempdir().unwrap();
    let old: Vec<u8> = [text(3), bf16(400, 0)].concat();
    std::fs::write(directory.path().join("old"), &old).unwrap();
    let bases = Bases::new(directory.path());
    let base = bases.get("old").unwrap().unwrap();
    let head = old.len() - 800;
    let content: Vec<u8> = [text(3), bf16(400, 1)].concat();
    for number in [1, 5] {
        let alone = [row(Kind::Bytes, head, None), row(Kind::Bfloat16, 800, None)];
        let block = codec::encode_segments(&content, &alone, None, &level(number));
        assert_eq!(block[0], 5);
        assert!(drive(&block, &content, 1500, &bases) < 1500);
        let beside = [row(Kind::Bytes, head, Some(0)), row(Kind::Bfloat16, 800, Some(head as u64))];
        let block = codec::encode_segments(&content, &beside, Some(&base), &level(number));
        assert_eq!(block[0], 7);
        assert!(drive(&block, &content, 1500, &bases) < 1500);
    }
}

#[test]
fn damaged_headers_of_tensor_files_have_a_layout_that_covers_the_file_or_none() {
    let header = r#"{"a":{"dtype":"BF16","shape":[5,8],"data_offsets":[0,80]},"b":{"dtype":"F32","shape":[3],"data_offsets":[80,92]}}"#;
    let safetensors = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7; 92]].concat();
    let about = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 5), }";
    let npy =
        [b"\x93NUMPY\x01\x00".as_slice(), &(about.len() as u16).to_le_bytes(), about.as_bytes(), &[9; 80]].concat();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for valid in [safetensors, npy] {
        let mut dice = Dice(77);
        std::fs::write(&path, &valid).unwrap();
        assert!(!layout::tensors(&path).is_empty());
        for _ in 0..1000 {
            let file = mutate(&valid, &mut dice);
            std::fs::write(&path, &file).unwrap();
            let tensors = layout::tensors(&path);
            let segments = layout::segments(&tensors, 0, file.len() as u64, false);
            assert_eq!(segments.iter().map(|segment| segment.bytes).sum::<usize>(), file.len());
        }
    }
}
