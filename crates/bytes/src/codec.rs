//! A block as bytes: the first says how it is coded.
//!
//! | first byte | then |
//! |---|---|
//! | 0 | the bytes themselves |
//! | 1 | one byte that all of them are |
//! | 2 | [`lz`] |
//! | 4 | [`bwt`]: transform (a byte), length after it, words, starts of the chains (varints), the coded ranks |
//! | 6 | [`dna`]: bases, bytes of the list of cases and of its payload, the payload, the same of everything else (varints), the coded bases |
//! | 3 | [`cm`]: transform, log₂ of the table, log₂ of the places of matches, lanes, banks (a byte each), length of a record, length after the transform, words, length of the first lane's stream (varints), the streams |
//! | 5 | [`tensors`] |
//! | 8 | [`lm`] |
//! | 7 | the name of a file (its length, varint), its hash, [`tensors`] beside it |
//! | 9 | [`columns`](crate::transform::columns): bytes and bytes of the payload of each of three streams (varints), the payloads |

mod columns;

use crate::cm::{self, Settings};
use crate::level::{Level, Pipeline};
use crate::tensors::base::{Base, Bases};
use crate::tensors::{self, Segment};
use crate::transform::{arm64, calls, lines, records, words};
use crate::{bwt, dna, lm, lz, varint};
use brevity_coding::simd::Backend;
use brevity_kernels::Isa;

const STORED: u8 = 0;
const FILL: u8 = 1;
const LZ: u8 = 2;
const MIX: u8 = 3;
const SORT: u8 = 4;
pub(crate) const TENSORS: u8 = 5;
const DNA: u8 = 6;
pub(crate) const DELTA: u8 = 7;
pub(crate) use columns::COLUMNS;

/// Banks of contexts that there are, with sixteen times the networks beside.
const BANKS: [u8; 3] = [1, 4, 0x10 | cm::WIDE];

/// Bytes of the smallest block whose words become codes before the widest models: they know words by their letters, and a list of words is not free;
/// but codes leave more room in a table that is full.
const WIDE_WORDS: usize = 4 << 20;

/// Blocks from this size take two lanes.
const TWO_LANES: usize = 1 << 20;

/// Why a block does not decode.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is not what an encoder writes.
    Malformed,
    /// It needs so many bytes of memory.
    Memory(u64),
    /// It is a difference from a file that is not there.
    Base {
        /// The file's name.
        name: String,
        /// Its hash.
        expected: String,
        /// What was found.
        found: String,
    },
    /// It was coded behind a model that is not there.
    Model {
        /// The model's name.
        name: String,
        /// Its hash.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The model fails.
    Predict(String),
    /// The caller asked to stop.
    Stopped,
}

pub(crate) fn backend() -> Backend {
    match Isa::current() {
        Isa::Avx512 => Backend::Avx512,
        Isa::Avx2 => Backend::Avx2,
        _ => Backend::Scalar,
    }
}

/// Whether bytes look like text whose words repeat: from a sample of them.
pub fn is_text(bytes: &[u8]) -> bool {
    let step = (bytes.len() / 65_536).max(1);
    let (mut letters, mut high, mut control, mut total) = (0, 0, 0, 0usize);
    for &byte in bytes.iter().step_by(step) {
        total += 1;
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b' ' => letters += 1,
            128.. => high += 1,
            b'\t' | b'\n' | b'\r' => {}
            0..=31 | 127 => control += 1,
            _ => {}
        }
    }
    total > 0 && control * 100 <= total && high * 8 <= total && letters * 10 >= total * 4
}

/// log₂ of the table of so many banks for so many bytes, at most `most`: 128 bytes and more for each of them, four times as many where
/// four banks share it, sixteen times where six do.
pub fn table_bits(length: usize, most: u32, banks: u8) -> u32 {
    let share = match banks & 15 {
        1 => 7,
        cm::WIDE => 11,
        _ => 9,
    };
    (length.max(1).ilog2() + share).clamp(16, most)
}

/// Encodes a block that holds these numbers, some of which are in a base.
pub fn encode_segments(bytes: &[u8], segments: &[Segment], base: Option<&Base>, level: &Level) -> Vec<u8> {
    let useful = |segment: &Segment| segment.kind != tensors::kind::Kind::Bytes || base.is_some();
    if !segments.iter().any(useful) {
        return encode(bytes, level);
    }
    let mut coded = vec![if base.is_some() { DELTA } else { TENSORS }];
    if let Some(base) = base {
        varint::put(base.name.len() as u64, &mut coded);
        coded.extend(base.name.bytes());
        coded.extend(base.hash);
    }
    tensors::encode(bytes, segments, base, level, backend(), &mut coded);
    if coded.len() <= bytes.len() { coded } else { encode(bytes, level) }
}

/// Decodes a block that may be a difference from a file of a base or need a model, as [`decode`] does.
///
/// # Errors
/// What is wrong with it.
pub fn decode_against(payload: &[u8], length: usize, memory: u64, bases: &Bases) -> Result<Vec<u8>, Failure> {
    let mut rest = match payload.split_first() {
        Some((&DELTA, rest)) => rest,
        Some((&lm::MODEL, rest)) => return lm::decode(rest, length, memory, bases.models()),
        _ => return decode(payload, length, memory),
    };
    let size = varint::take(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed)?;
    let (name, rest) = rest.split_at_checked(size).ok_or(Failure::Malformed)?;
    let (hash, rest) = rest.split_first_chunk().ok_or(Failure::Malformed)?;
    let base = bases.require(std::str::from_utf8(name).map_err(|_| Failure::Malformed)?, hash)?;
    tensors::decode(rest, length, memory, Some(&base), backend())
}

/// Encodes a block.
pub fn encode(bytes: &[u8], level: &Level) -> Vec<u8> {
    if let Some((&first, rest)) = bytes.split_first()
        && rest.iter().all(|&byte| byte == first)
    {
        return vec![FILL, first];
    }
    if !matches!(level.pipeline, Pipeline::Lz(_)) && dna::is_dna(bytes) {
        return pack(bytes, level, true);
    }
    columns::encode_or_whole(bytes, level)
}

fn pack(bytes: &[u8], level: &Level, dna: bool) -> Vec<u8> {
    let mut coded = match level.pipeline {
        _ if dna => sequence(bytes, level),
        Pipeline::Lz(effort) => {
            let mut out = vec![LZ];
            out.extend(lz::encode(bytes, effort));
            out
        }
        Pipeline::Sort => sort(bytes),
        Pipeline::Mix { table_bits, banks, lanes } => mix(bytes, table_bits, banks, lanes),
    };
    if coded.len() > bytes.len() {
        coded.clear();
        coded.push(STORED);
        coded.extend_from_slice(bytes);
    }
    coded
}

/// What is done to bytes before they are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    None = 0,
    Words = 1,
    Calls = 2,
    Arm64 = 3,
}

impl Transform {
    fn choose(bytes: &[u8]) -> Self {
        match () {
            () if is_text(bytes) => Self::Words,
            () if arm64::is_code(bytes) => Self::Arm64,
            () if calls::is_code(bytes) => Self::Calls,
            () => Self::None,
        }
    }

    /// Whether so many bytes can stand for so many.
    fn fits(self, coded: usize, length: usize) -> bool {
        match self {
            Self::Words => coded <= length.saturating_mul(2).saturating_add(64),
            Self::Arm64 => coded == arm64::coded(length),
            Self::None | Self::Calls => coded == length,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::None, Self::Words, Self::Calls, Self::Arm64].into_iter().find(|transform| *transform as u8 == byte)
    }
}

fn sort(bytes: &[u8]) -> Vec<u8> {
    let transform = Transform::choose(bytes);
    let (data, count) = transformed(bytes, transform, words::LEAST);
    let (sorted, starts) = bwt::forward(&data);
    let mut out = vec![SORT, transform as u8];
    varint::put(data.len() as u64, &mut out);
    varint::put(count as u64, &mut out);
    starts.iter().for_each(|&start| varint::put(start.into(), &mut out));
    out.extend(bwt::ranks::encode(&sorted, backend()));
    out
}

fn sequence(bytes: &[u8], level: &Level) -> Vec<u8> {
    let mut parts = dna::split(bytes);
    let mut out = vec![DNA];
    varint::put(parts.bases.len() as u64, &mut out);
    for list in [&parts.cases, &parts.others] {
        let packed = pack(list, level, false);
        varint::put(list.len() as u64, &mut out);
        varint::put(packed.len() as u64, &mut out);
        out.extend(packed);
    }
    out.extend(dna::encode(&mut parts.bases, backend()));
    out
}

fn unsequence(mut rest: &[u8], length: usize, memory: u64) -> Result<Vec<u8>, Failure> {
    let number = |rest: &mut &[u8]| varint::take(rest).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed);
    let bases = number(&mut rest)?;
    let needed = dna::memory(bases).saturating_add(length as u64);
    if bases > length {
        return Err(Failure::Malformed);
    }
    if needed > memory {
        return Err(Failure::Memory(needed));
    }
    let mut list = || {
        let (raw, packed) = (number(&mut rest)?, number(&mut rest)?);
        let (payload, after) = rest.split_at_checked(packed).ok_or(Failure::Malformed)?;
        rest = after;
        // A payload within the payload is not of this kind.
        if raw > length.saturating_mul(16).saturating_add(16)
            || matches!(payload.first(), Some(&(DNA | TENSORS | DELTA | lm::MODEL | COLUMNS)))
        {
            return Err(Failure::Malformed);
        }
        decode(payload, raw, memory - needed)
    };
    let mut parts = dna::Parts { cases: list()?, others: list()?, bases: vec![0; bases] };
    dna::decode(rest, &mut parts.bases, backend());
    dna::join(&parts, length).ok_or(Failure::Malformed)
}

fn unsort(rest: &[u8], length: usize, memory: u64) -> Result<Vec<u8>, Failure> {
    let (&transform, mut rest) = rest.split_first().ok_or(Failure::Malformed)?;
    let mut number = || varint::take(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed);
    let (coded, count) = (number()?, number()?);
    let transform = Transform::of(transform).filter(|it| it.fits(coded, length)).ok_or(Failure::Malformed)?;
    let needed = length as u64 + 6 * coded as u64;
    if needed > memory {
        return Err(Failure::Memory(needed));
    }
    let starts = (0..bwt::chains(coded)).map(|_| number().map(|start| u32::try_from(start).unwrap_or(u32::MAX)));
    let starts: Vec<u32> = starts.collect::<Result<_, _>>()?;
    let mut sorted = vec![0; coded];
    bwt::ranks::decode(rest, &mut sorted, backend());
    let data = bwt::backward(&sorted, &starts).ok_or(Failure::Malformed)?;
    restored(data, transform, count, length)
}

/// Bytes after a transform, and the number of words that were listed, which occur `least` times.
fn transformed(bytes: &[u8], transform: Transform, least: u32) -> (Vec<u8>, usize) {
    match transform {
        Transform::Words => words::forward(bytes, least),
        Transform::None => (bytes.to_vec(), 0),
        Transform::Calls => {
            let mut data = bytes.to_vec();
            calls::forward(&mut data);
            (data, 0)
        }
        Transform::Arm64 => (arm64::forward(bytes), 0),
    }
}

fn restored(mut data: Vec<u8>, transform: Transform, words: usize, length: usize) -> Result<Vec<u8>, Failure> {
    match transform {
        Transform::Words => words::backward(&data, words, length).ok_or(Failure::Malformed),
        Transform::None => Ok(data),
        Transform::Calls => {
            calls::backward(&mut data);
            Ok(data)
        }
        Transform::Arm64 => arm64::backward(&data, length).ok_or(Failure::Malformed),
    }
}

fn mix(bytes: &[u8], most: u32, banks: u8, lanes: usize) -> Vec<u8> {
    let transform = Transform::choose(bytes);
    let spelt = banks & 15 == cm::WIDE && bytes.len() < WIDE_WORDS;
    let least = if spelt { u32::MAX } else { words::LEAST };
    let (mut data, count) = transformed(bytes, transform, least);
    let settings = Settings {
        table_bits: table_bits(data.len().min(bytes.len()), most, banks),
        match_bits: data.len().max(1).ilog2().clamp(12, 22),
        lanes: if bytes.len() >= TWO_LANES { lanes } else { 1 },
        record: match transform {
            Transform::None if lines::are_values(&data) => cm::LINES,
            Transform::None => records::length(&data),
            Transform::Arm64 => 4,
            Transform::Words | Transform::Calls => 0,
        },
        text: transform == Transform::Words,
        words: count,
        nets: usize::from(banks >> 4),
        beside: false,
    };
    let streams = match banks & 15 {
        1 => cm::encode::<1, 48>(&mut data, settings, backend()),
        cm::WIDE => cm::encode::<6, 320>(&mut data, settings, backend()),
        _ => cm::encode::<4, 224>(&mut data, settings, backend()),
    };
    let mut out = vec![MIX, transform as u8, settings.table_bits as u8, settings.match_bits as u8];
    out.extend([settings.lanes as u8, banks]);
    for number in [settings.record, data.len(), count, streams[0].len()] {
        varint::put(number as u64, &mut out);
    }
    streams.iter().for_each(|stream| out.extend_from_slice(stream));
    out
}

/// Decodes a block of `length` bytes in at most `memory` bytes.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], length: usize, memory: u64) -> Result<Vec<u8>, Failure> {
    if length as u64 > memory {
        return Err(Failure::Memory(length as u64));
    }
    let (&codec, rest) = payload.split_first().ok_or(Failure::Malformed)?;
    match codec {
        STORED if rest.len() == length => Ok(rest.to_vec()),
        FILL if rest.len() == 1 && length > 0 => Ok(vec![rest[0]; length]),
        LZ => {
            let mut out = vec![0; length];
            lz::decode(rest, &mut out).ok_or(Failure::Malformed)?;
            Ok(out)
        }
        MIX => unmix(rest, length, memory),
        SORT => unsort(rest, length, memory),
        DNA => unsequence(rest, length, memory),
        COLUMNS => columns::decode_columns(rest, length, memory),
        TENSORS => tensors::decode(rest, length, memory, None, backend()),
        DELTA | lm::MODEL => decode_against(payload, length, memory, &Bases::default()),
        _ => Err(Failure::Malformed),
    }
}

/// Bytes of memory that decoding takes, as far as the payload tells.
pub fn memory(payload: &[u8], length: usize) -> u64 {
    let tables = match payload {
        [MIX, _, table, matches, _, banks, ..] => cm::memory((*table).into(), (*matches).into(), *banks),
        [SORT, ..] => 5 * length as u64,
        [DNA, ..] => dna::memory(length),
        [COLUMNS, rest @ ..] => columns::needed(rest, length),
        // Alone: the model runs on all threads.
        [lm::MODEL, ..] => return u64::MAX,
        _ => 0,
    };
    (3 * length as u64).saturating_add(tables)
}

fn unmix(rest: &[u8], length: usize, memory: u64) -> Result<Vec<u8>, Failure> {
    let (&[transform, table_bits, match_bits, lanes, banks], mut rest) =
        rest.split_first_chunk::<5>().ok_or(Failure::Malformed)?;
    let mut number = || varint::take(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed);
    let (record, coded, count, first) = (number()?, number()?, number()?, number()?);
    let transform = Transform::of(transform).ok_or(Failure::Malformed)?;
    let sane =
        table_bits <= 36 && match_bits <= 28 && (1..=2).contains(&lanes) && BANKS.contains(&banks) && record <= 1 << 16;
    if !sane || !transform.fits(coded, length) {
        return Err(Failure::Malformed);
    }
    let tables = cm::memory(table_bits.into(), match_bits.into(), banks);
    let needed = (length as u64 + coded as u64).saturating_add(tables);
    if needed > memory {
        return Err(Failure::Memory(needed));
    }
    let (a, b) = rest.split_at_checked(first).ok_or(Failure::Malformed)?;
    let settings = Settings {
        table_bits: u32::from(table_bits),
        match_bits: u32::from(match_bits),
        lanes: usize::from(lanes),
        record,
        text: transform == Transform::Words,
        words: count,
        nets: usize::from(banks >> 4),
        beside: false,
    };
    let mut out = vec![0; coded];
    match banks & 15 {
        1 => cm::decode::<1, 48>([a, b], &mut out, settings, backend()),
        cm::WIDE => cm::decode::<6, 320>([a, b], &mut out, settings, backend()),
        _ => cm::decode::<4, 224>([a, b], &mut out, settings, backend()),
    }
    restored(out, transform, count, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::LEVELS;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) {
        for level in &LEVELS {
            let packed = encode(bytes, level);
            assert!(packed.len() <= bytes.len() + 2, "level {}: {} of {}", level.number, packed.len(), bytes.len());
            assert_eq!(decode(&packed, bytes.len(), 1 << 32).as_deref(), Ok(bytes), "level {}", level.number);
        }
    }

    #[test]
    fn blocks_come_back_at_every_level() {
        round_trip(b"");
        round_trip(b"x");
        round_trip(&[0; 100_000]);
        round_trip("It was the best of times, it was the worst of times. ".repeat(90).as_bytes());
        let mut seed = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .take(9_000)
        .collect();
        round_trip(&noise);
    }

    #[test]
    fn two_lanes_decode_like_one() {
        let text: String = (0..90_000).map(|n| format!("line {} of {}\n", n * 7 % 1000, n / 3)).collect();
        assert!(text.len() > TWO_LANES);
        let packed = pack(text.as_bytes(), &LEVELS[4], false);
        assert_eq!(packed[4], 2);
        assert!(decode(&packed, text.len(), 1 << 32).as_deref() == Ok(text.as_bytes()));
    }

    #[test]
    fn the_same_bits_without_vectors() {
        let text = include_bytes!("codec.rs");
        for (level, length) in [(3, text.len()), (5, text.len()), (7, 6000), (8, 3000), (9, 1500)] {
            let (text, level) = (&text[..length], &LEVELS[level - 1]);
            let packed = encode(text, level);
            for isa in Isa::available() {
                assert!(isa.with(|| encode(text, level)) == packed, "{isa:?}");
                assert!(isa.with(|| decode(&packed, text.len(), 1 << 32)).as_deref() == Ok(text), "{isa:?}");
            }
        }
    }

    #[test]
    fn bases_come_back_with_what_is_between_them() {
        let mut seed = 1u32;
        let mut base = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ACGTacgt"[(seed >> 29) as usize & if seed >> 20 & 15 == 0 { 7 } else { 3 }]
        };
        let mut text = b">one\n".to_vec();
        for line in 0..200 {
            text.extend(std::iter::repeat_with(&mut base).take(60));
            text.extend(if line % 50 == 0 { &b"NNNN\n"[..] } else { b"\n" });
        }
        for level in &LEVELS[2..7] {
            let packed = encode(&text, level);
            assert_eq!(packed[0], DNA);
            assert!(packed.len() * 3 < text.len());
            assert!(decode(&packed, text.len(), 1 << 30).as_deref() == Ok(&text[..]));
            assert!(matches!(decode(&packed, text.len(), 1 << 16), Err(Failure::Memory(_))));
        }
    }

    #[test]
    fn lines_that_follow_templates_are_columns_where_that_is_shorter() {
        let line = |n: u32| format!("{:06} job {} done by 10.0.0.{}\n", n * 13, n.wrapping_mul(n ^ 77) % 1009, n % 7);
        let text: String = (0..1500).map(line).collect();
        for level in &LEVELS[..6] {
            let packed = encode(text.as_bytes(), level);
            assert_eq!(packed[0], COLUMNS, "level {}", level.number);
            assert!(packed.len() < pack(text.as_bytes(), level, false).len());
            assert!(decode(&packed, text.len(), 1 << 32).as_deref() == Ok(text.as_bytes()));
            assert!(matches!(decode(&packed, text.len(), 40_000), Err(Failure::Memory(_))));
            assert!(memory(&packed, text.len()) > text.len() as u64);
        }
        // A payload of columns within one is none.
        let inner = encode(text.as_bytes(), &LEVELS[0]);
        let mut nested = vec![COLUMNS];
        for _ in 0..3 {
            varint::put(text.len() as u64, &mut nested);
            varint::put(inner.len() as u64, &mut nested);
        }
        (0..3).for_each(|_| nested.extend(&inner));
        assert_eq!(decode(&nested, text.len(), 1 << 30), Err(Failure::Malformed));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert_eq!(decode(&[FILL, 0], 1 << 40, 1 << 30), Err(Failure::Memory(1 << 40)));
        let huge = [MIX, 0, 36, 20, 1, 1, 0, 1, 0, 0];
        assert!(matches!(decode(&huge, 1, 1 << 30), Err(Failure::Memory(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_block_is_decoded_or_refused(mut payload in any::<Vec<u8>>(), codec in 0u8..10, length in 0usize..400) {
            payload.insert(0, codec);
            if let Ok(bytes) = decode(&payload, length, 1 << 24) {
                prop_assert_eq!(bytes.len(), length);
            }
        }
    }
}
