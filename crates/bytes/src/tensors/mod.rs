//! Weights: blocks of which the packer knows what numbers they hold.
//!
//! [`layout`] finds tensors in files (safetensors, GGUF, npy, torch's zip) and names the [`Segment`]s of a file: what kind of
//! numbers, how many to a row. Each segment is taken apart into planes of bytes ([`planes`]) and coded 256 KiB at a time: at levels 1 to 3 each
//! plane by whatever is shortest of raw bytes, rANS and Huffman ([`stream`]); from level 4 on floats by contexts ([`model`]).
//! Bytes that are no tensor (headers, gaps) go to the level's own pipeline.
//!
//! Beside a [`base`], floats are coded as differences ([`delta`]), and what is the same is only named.
//!
//! A wrong layout costs size, never the data: what a block holds is stored with it.

pub mod base;
pub mod delta;
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
use base::Base;
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
    /// Where the same numbers lie in the base, if there is one.
    pub base: Option<u64>,
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
const DELTA: u8 = 2;
const COPY: u8 = 3;

/// Appends bytes as these segments, which must cover them.
pub fn encode(
    bytes: &[u8],
    segments: &[Segment],
    base: Option<&Base>,
    level: &Level,
    backend: Backend,
    out: &mut Vec<u8>,
) {
    out.reserve(bytes.len() / 4 * if base.is_some() { 1 } else { 3 });
    let mut others = Vec::new();
    varint::put(segments.len() as u64, out);
    let (mut at, mut coder) = (
        0,
        Coder {
            model: level.number >= MODEL_FROM,
            backend,
            planes: Vec::new(),
            streams: stream::Encoder::new(backend),
        },
    );
    for segment in segments {
        let part = &bytes[at..at + segment.bytes];
        at += segment.bytes;
        out.push(segment.kind.code());
        varint::put(segment.bytes as u64, out);
        let old = base.zip(segment.base).and_then(|(base, offset)| Some((offset, base.read(offset, part.len())?)));
        if segment.kind == Kind::Bytes {
            let same = old.filter(|(_, old)| old == part);
            if base.is_some() {
                varint::put(same.as_ref().map_or(0, |(offset, _)| offset + 1), out);
            }
            if same.is_none() {
                others.extend_from_slice(part);
            }
            continue;
        }
        let (whole, rest) = part.split_at(segment.whole());
        others.extend_from_slice(rest);
        varint::put(segment.row as u64, out);
        match old {
            Some((offset, old)) => coder.against(segment, whole, &old[..whole.len()], offset, out),
            None => coder.alone(segment, whole, out),
        }
    }
    out.extend(codec::encode(&others, level));
}

struct Coder {
    model: bool,
    backend: Backend,
    planes: Vec<Vec<u8>>,
    streams: stream::Encoder,
}

impl Coder {
    /// Appends numbers as they are.
    fn alone(&mut self, segment: &Segment, whole: &[u8], out: &mut Vec<u8>) {
        if self.model
            && let Some(coded) = model::encode(segment, whole, self.backend)
        {
            out.push(MODEL);
            varint::put(coded.len() as u64, out);
            return out.extend_from_slice(&coded);
        }
        out.push(PLANES);
        for chunk in whole.chunks(chunk_bytes(segment.kind)) {
            planes::split(segment.kind, chunk, &mut self.planes, self.backend);
            self.planes.iter().for_each(|plane| self.streams.encode(plane, out));
        }
    }

    /// Appends numbers behind those of the base, if that is shorter.
    fn against(&mut self, segment: &Segment, whole: &[u8], old: &[u8], offset: u64, out: &mut Vec<u8>) {
        if old == whole {
            out.push(COPY);
            return varint::put(offset, out);
        }
        if !delta::supports(segment.kind) {
            return self.alone(segment, whole, out);
        }
        let coded = delta::encode(segment.kind, segment.row, old, whole);
        // Only a difference this large may be beaten by the numbers themselves.
        if coded.len() > whole.len() / 2 {
            let mut alone = Vec::new();
            self.alone(segment, whole, &mut alone);
            if alone.len() <= coded.len() {
                return out.extend(alone);
            }
        }
        out.push(DELTA);
        varint::put(offset, out);
        varint::put(coded.len() as u64, out);
        out.extend(coded);
    }
}

/// Whole numbers of about [`CHUNK`] bytes.
fn chunk_bytes(kind: Kind) -> usize {
    CHUNK - CHUNK % kind.unit()
}

/// Decodes `length` bytes in at most `memory`.
///
/// # Errors
/// What is wrong with the payload.
pub fn decode(
    mut payload: &[u8],
    length: usize,
    memory: u64,
    base: Option<&Base>,
    backend: Backend,
) -> Result<Vec<u8>, Failure> {
    let needed = 3 * length as u64 + (8 << 20);
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
        let segment = header(input, length - at, base.is_some())?;
        let end = at + segment.bytes;
        let whole = if segment.kind == Kind::Bytes { at } else { at + segment.whole() };
        if segment.kind != Kind::Bytes {
            numbers(input, &segment, &mut out[at..whole], base, backend).ok_or(Failure::Malformed)?;
        }
        match (segment.kind, segment.base.zip(base)) {
            (Kind::Bytes, Some((offset, base))) => {
                out[at..end].copy_from_slice(&base.read(offset, end - at).ok_or(Failure::Malformed)?);
            }
            _ if whole < end => {
                gaps.push(whole..end);
                others += end - whole;
            }
            _ => {}
        }
        at = end;
    }
    // A block inside a block is one of bytes.
    if at != length || matches!(input.first(), Some(&(codec::TENSORS | codec::DELTA))) {
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
fn header(input: &mut &[u8], room: usize, based: bool) -> Result<Segment, Failure> {
    let code = take(input, 1).ok_or(Failure::Malformed)?[0];
    let kind = Kind::of_code(code).ok_or(Failure::Malformed)?;
    let bytes = number(input)?;
    let (mut row, mut base) = (0, None);
    if kind != Kind::Bytes {
        row = number(input)?;
    } else if based {
        base = (number(input)? as u64).checked_sub(1);
    }
    if bytes > room || bytes == 0 {
        return Err(Failure::Malformed);
    }
    Ok(Segment { kind, bytes, row, base })
}

fn numbers(input: &mut &[u8], segment: &Segment, out: &mut [u8], base: Option<&Base>, backend: Backend) -> Option<()> {
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
        how @ (DELTA | COPY) => {
            let old = base?.read(varint::take(input)?, out.len())?;
            if how == COPY {
                out.copy_from_slice(&old);
                return Some(());
            }
            let length = usize::try_from(varint::take(input)?).ok()?;
            delta::decode(segment.kind, segment.row, &old, take(input, length)?, out)
        }
        _ => None,
    }
}
