//! Where tensors lie in a file.
//!
//! Readers of [`brevity_formats`] look at safetensors and GGUF; npy and zip are small enough to be here. A file that none of them takes,
//! or whose header lies, has no layout: it is bytes.

mod npy;
mod zip;

use super::Segment;
use super::kind::Kind;
use brevity_formats::gguf;
use brevity_formats::safetensors;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Longest header that is read.
const LONGEST_HEADER: u64 = 100_000_000;
/// Neighbours of one kind below this many bytes are one segment.
const SMALL: u64 = 1 << 16;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, unique in the file or empty.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Numbers in a row, 0 if that is not known.
    pub row: usize,
    /// Where the tensor of the same name begins in the base.
    pub base: Option<u64>,
}

/// The tensors of a file in the order of their bytes, none overlapping another; empty if it is no file of tensors.
pub fn tensors(path: &Path) -> Vec<Tensor> {
    let found = File::open(path).ok().and_then(|file| find(file, path));
    let mut found = found.unwrap_or_default();
    found.retain(|tensor| tensor.kind != Kind::Bytes && tensor.bytes > 0);
    found.sort_by_key(|tensor| tensor.offset);
    let overlap = found.windows(2).any(|pair| pair[0].offset.saturating_add(pair[0].bytes) > pair[1].offset);
    if overlap { Vec::new() } else { found }
}

fn find(mut file: File, path: &Path) -> Option<Vec<Tensor>> {
    let length = file.metadata().ok()?.len();
    let mut start = [0; 12];
    file.read_exact(&mut start).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    match start {
        [b'G', b'G', b'U', b'F', ..] => from_gguf(file, length),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => npy::tensor(&mut file, 0, length).map(|tensor| vec![tensor]),
        [b'P', b'K', 3, 4, ..] => zip::tensors(&mut file, length),
        [_, _, _, _, _, _, _, _, b'{', ..] => from_safetensors(file, length),
        _ if path.extension().is_some_and(|extension| extension == "safetensors") => from_safetensors(file, length),
        _ => None,
    }
}

/// Longest row: an output channel of a convolution is one, where it is not too long.
const LONGEST_ROW: usize = 1 << 20;

/// Numbers that belong to one of the first dimension.
fn row(shape: &[usize]) -> usize {
    let inner = shape.iter().skip(1).try_fold(1usize, |product, &size| product.checked_mul(size));
    match (shape, inner) {
        ([] | [_], _) => shape.first().copied().unwrap_or(1),
        (_, Some(inner)) if inner <= LONGEST_ROW => inner,
        _ => shape.last().copied().unwrap_or(1),
    }
}

fn from_safetensors(mut file: File, length: u64) -> Option<Vec<Tensor>> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).ok()?;
    let header = safetensors::Header::length(prefix, length).ok().filter(|&length| length <= LONGEST_HEADER)?;
    let mut json = vec![0; usize::try_from(header).ok()?];
    file.read_exact(&mut json).ok()?;
    let parsed = safetensors::Header::parse_json(&json, length).ok()?;
    let begin = 8 + header;
    let tensor = |it: safetensors::TensorInfo| Tensor {
        row: row(&it.shape),
        kind: Kind::of_type(it.ty),
        offset: begin + it.offset,
        bytes: it.bytes,
        name: it.name,
        base: None,
    };
    Some(parsed.tensors.into_iter().map(tensor).filter(|it| it.offset + it.bytes <= length).collect())
}

fn from_gguf(file: File, length: u64) -> Option<Vec<Tensor>> {
    let header = gguf::Header::read(BufReader::new(file), length).ok()?;
    let begin = header.data_start;
    let tensor = |it: gguf::TensorInfo| Tensor {
        row: it.cols(),
        kind: Kind::of_type(it.ty),
        offset: begin + it.offset,
        bytes: it.bytes,
        name: it.name,
        base: None,
    };
    Some(header.tensors.into_iter().map(tensor).filter(|it| it.offset + it.bytes <= length).collect())
}

/// Finds for each tensor the one of a base: of the same name, or else of the same place in the order; with the same numbers.
pub fn pair(tensors: &mut [Tensor], base: &[Tensor]) {
    let names: HashMap<&str, &Tensor> = base.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let named = names.get(tensor.name.as_str()).copied().filter(|_| !tensor.name.is_empty());
        let other = named.or_else(|| base.get(index));
        let alike = other.filter(|other| other.kind == tensor.kind && other.bytes == tensor.bytes);
        tensor.base = alike.map(|other| other.offset);
    }
}

/// The segments of bytes `from..to` of a file with these tensors: they cover all of it. Beside a base, other bytes are looked for in the
/// same place there.
pub fn segments(tensors: &[Tensor], from: u64, to: u64, based: bool) -> Vec<Segment> {
    let mut result: Vec<Segment> = Vec::new();
    let mut at = from;
    let first = tensors.partition_point(|tensor| tensor.offset + tensor.bytes <= from);
    let gap = |at: u64| based.then_some(at);
    for tensor in &tensors[first..] {
        let (start, end) = (tensor.offset.max(from), (tensor.offset + tensor.bytes).min(to));
        if start >= end {
            break;
        }
        push(&mut result, Kind::Bytes, 0, start - at, gap(at));
        // A number that a cut divides: its rest is bytes.
        let unit = tensor.kind.unit() as u64;
        let inside = start - tensor.offset;
        let skip = (inside.next_multiple_of(unit) - inside).min(end - start);
        push(&mut result, Kind::Bytes, 0, skip, None);
        let base = tensor.base.map(|base| base + inside + skip);
        push(&mut result, tensor.kind, tensor.row, end - start - skip, base);
        at = end;
    }
    push(&mut result, Kind::Bytes, 0, to - at, gap(at));
    result
}

fn push(segments: &mut Vec<Segment>, kind: Kind, row: usize, bytes: u64, base: Option<u64>) {
    if bytes == 0 {
        return;
    }
    if let Some(last) = segments.last_mut().filter(|last| last.kind == kind) {
        let small = bytes < SMALL && (last.bytes as u64) < SMALL || kind == Kind::Bytes;
        let follows = last.base.map(|place| place + last.bytes as u64) == base;
        if small && follows && last.bytes.is_multiple_of(kind.unit()) {
            last.bytes += bytes as usize;
            last.row = if last.row == row { row } else { 0 };
            return;
        }
    }
    segments.push(Segment { kind, bytes: bytes as usize, row, base });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(kind: Kind, offset: u64, bytes: u64) -> Tensor {
        Tensor { name: String::new(), kind, offset, bytes, row: 8, base: None }
    }

    #[test]
    fn segments_cover_any_part_of_a_file() {
        let tensors = [
            tensor(Kind::Float32, 100, 400),
            tensor(Kind::Float32, 500, 80),
            tensor(Kind::Bfloat16, 600, 200_000),
            tensor(Kind::Bfloat16, 200_600, 100_000),
        ];
        for (from, to) in [(0, 300_700), (0, 90), (101, 300_600), (499, 501), (555, 200_601), (700, 700)] {
            let found = segments(&tensors, from, to, false);
            assert_eq!(found.iter().map(|s| s.bytes as u64).sum::<u64>(), to - from, "{from}..{to}");
            assert!(found.iter().all(|s| s.bytes > 0));
        }
        let all = segments(&tensors, 0, 300_700, false);
        let kinds: Vec<_> = all.iter().map(|s| (s.kind, s.bytes)).collect();
        let bytes = |n| (Kind::Bytes, n);
        let bf = |n| (Kind::Bfloat16, n);
        assert_eq!(kinds, [bytes(100), (Kind::Float32, 480), bytes(20), bf(200_000), bf(100_000), bytes(100)]);
    }

    #[test]
    fn what_is_no_file_of_tensors_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        for content in
            [&b""[..], b"GGUF and nothing more", b"PK\x03\x04 cut off here", b"\xff\xff\xff\xff\0\0\0\0{\"a\":1}"]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(tensors(&path), []);
        }
        assert_eq!(tensors(directory.path()), []);
    }
}
