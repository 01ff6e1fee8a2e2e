//! Weights: blocks of which the packer knows what numbers they hold.
//!
//! [`layout`] finds tensors in files (safetensors, GGUF, npy, torch's zip) and names the [`Segment`]s of a file: what kind of
//! numbers, how many to a row. Each segment is taken apart into planes of bytes ([`planes`]) and coded 256 KiB at a time: at levels 1 to 3 each
//! plane by whatever is shortest of raw bytes, rANS and Huffman ([`stream`]); from level 4 on floats by contexts ([`model`]).
//! Bytes that are no tensor (headers, gaps) go to the level's own pipeline.
//!
//! A wrong layout costs size, never the data: what a block holds is stored with it.

mod guess;
pub mod kind;
pub mod layout;
pub mod model;
pub mod planes;
pub mod stream;
mod width;

use crate::codec::{self, Failure};
use crate::level::Level;
use crate::varint;
use brevity_coding::simd::Backend;
use kind::Kind;
use stream::take;

/// Bytes of numbers that are coded at once.
pub const CHUNK: usize = 1 << 18;
/// First level whose floats are coded by contexts.
const MODEL_FROM: u8 = 4;

/// Some numbers of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What they are.
    pub kind: Kind,
    /// How many bytes they take.
    pub bytes: usize,
    /// Numbers in a row, 0 if that is not known.
    pub row: usize,
}

impl Segment {
    /// Bytes that are whole numbers or blocks; the rest stands at the end as it is.
    fn whole(&self) -> usize {
        self.bytes - self.bytes % self.kind.unit()
    }
}

/// How a segment is coded.
const PLANES: u8 = 0;
const MODEL: u8 = 1;

/// Appends bytes as these segments, which must cover them.
pub fn encode(bytes: &[u8], segments: &[Segment], level: &Level, backend: Backend, out: &mut Vec<u8>) {
    out.reserve(bytes.len() / 4 * 3);
    let mut others = Vec::new();
    varint::put(segments.len() as u64, out);
    let (mut at, mut scratch, mut streams) = (0, Vec::new(), stream::Encoder::new(backend));
    for segment in segments {
        let part = &bytes[at..at + segment.bytes];
        at += segment.bytes;
        out.push(segment.kind.code());
        varint::put(segment.bytes as u64, out);
        if segment.kind == Kind::Bytes {
            others.extend_from_slice(part);
            continue;
        }
        let (whole, rest) = part.split_at(segment.whole());
        others.extend_from_slice(rest);
        varint::put(segment.row as u64, out);
        let coded = if level.number >= MODEL_FROM { model::encode(segment, whole, backend) } else { None };
        match coded {
            Some(coded) => {
                out.push(MODEL);
                varint::put(coded.len() as u64, out);
                out.extend_from_slice(&coded);
            }
            None => {
                out.push(PLANES);
                for chunk in whole.chunks(chunk_bytes(segment.kind)) {
                    planes::split(segment.kind, chunk, &mut scratch, backend);
                    scratch.iter().for_each(|plane| streams.encode(plane, out));
                }
            }
        }
    }
    out.extend(codec::encode(&others, level));
}

/// Whole numbers of about [`CHUNK`] bytes.
fn chunk_bytes(kind: Kind) -> usize {
    CHUNK - CHUNK % kind.unit()
}

/// Decodes `length` bytes in at most `memory`.
///
/// # Errors
/// What is wrong with the payload.
pub fn decode(mut payload: &[u8], length: usize, memory: u64, backend: Backend) -> Result<Vec<u8>, Failure> {
    let needed = 2 * length as u64 + (8 << 20);
    if needed > memory {
        return Err(Failure::Memory(needed));
    }
    let input = &mut payload;
    let segments = number(input)?;
    let mut out = vec![0; length];
    // Where bytes of no tensor go, and how many.
    let mut gaps = Vec::new();
    let (mut at, mut others) = (0usize, 0usize);
    for _ in 0..segments {
        let segment = header(input, length - at)?;
        let end = at + segment.bytes;
        let whole = if segment.kind == Kind::Bytes { at } else { at + segment.whole() };
        if segment.kind != Kind::Bytes {
            numbers(input, &segment, &mut out[at..whole], backend).ok_or(Failure::Malformed)?;
        }
        if whole < end {
            gaps.push(whole..end);
            others += end - whole;
        }
        at = end;
    }
    if at != length || others == length && segments != 1 {
        return Err(Failure::Malformed);
    }
    // A block inside a block is one of bytes.
    if input.first() == Some(&codec::TENSORS) {
        return Err(Failure::Malformed);
    }
    let others = codec::decode(input, others, memory - needed)?;
    let mut from = 0;
    for gap in gaps {
        let count = gap.len();
        out[gap].copy_from_slice(&others[from..from + count]);
        from += count;
    }
    Ok(out)
}

fn number(input: &mut &[u8]) -> Result<usize, Failure> {
    varint::take(input).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed)
}

/// What a segment says of itself; it has at most `room` bytes.
fn header(input: &mut &[u8], room: usize) -> Result<Segment, Failure> {
    let code = take(input, 1).ok_or(Failure::Malformed)?[0];
    let kind = Kind::of_code(code).ok_or(Failure::Malformed)?;
    let bytes = number(input)?;
    let row = if kind == Kind::Bytes { 0 } else { number(input)? };
    if bytes > room || bytes == 0 {
        return Err(Failure::Malformed);
    }
    Ok(Segment { kind, bytes, row })
}

fn numbers(input: &mut &[u8], segment: &Segment, out: &mut [u8], backend: Backend) -> Option<()> {
    match take(input, 1)?[0] {
        PLANES => {
            for chunk in out.chunks_mut(chunk_bytes(segment.kind)) {
                let sizes = planes::sizes(segment.kind, chunk.len() / segment.kind.unit());
                let planes =
                    sizes.iter().map(|&size| stream::decode(input, size, backend)).collect::<Option<Vec<_>>>()?;
                let planes: Vec<&[u8]> = planes.iter().map(AsRef::as_ref).collect();
                planes::merge(segment.kind, &planes, chunk, backend);
            }
            Some(())
        }
        MODEL => {
            let length = usize::try_from(varint::take(input)?).ok()?;
            model::decode(take(input, length)?, segment, out, backend)
        }
        _ => None,
    }
}
