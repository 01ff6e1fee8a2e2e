//! The layout of today: a GGUF file with sums and counts as tensors.

use super::{DEFAULT_CHUNK, Entry, Imatrix, Lie, ReadAt, read_floats};
use crate::error::Result;
use crate::gguf::{Array, GgufWriter, Header, Metadata, TensorInfo, TensorPlan, Value};
use crate::types::TensorType;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = "in_sum2";
const COUNTS: &str = "counts";

/// Counts above this are no integers in f32, and no calibration is that long.
const LARGEST_COUNT: f32 = 9e15;

pub(super) fn read(length: u64, mut read: impl ReadAt) -> Result<Imatrix, Lie> {
    let start = BufReader::new(HeaderReader { read: &mut read, at: 0, length });
    let header = Header::read(start, length)?;
    let metadata = &header.metadata;
    if metadata.str(TYPE_KEY) != Some(TYPE) {
        let found = metadata.get(TYPE_KEY).or_else(|| metadata.get("general.architecture"));
        let found = found.map_or("missing".into(), |value| format!("{value:?}"));
        return Err(Lie::NotImatrix { found });
    }
    let mut imatrix = Imatrix {
        datasets: strings(metadata, DATASETS)?,
        chunk_count: number(metadata, CHUNK_COUNT)?,
        chunk_size: number(metadata, CHUNK_SIZE)?,
        ..Imatrix::default()
    };
    let mut layers: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in &header.tensors {
        let (name, part) = match tensor.name.rsplit_once('.') {
            Some((name, SUMS)) => (name, 0),
            Some((name, COUNTS)) => (name, 1),
            _ => continue,
        };
        if tensor.ty != TensorType::F32 {
            return Err(Lie::Type { tensor: tensor.name.clone(), found: tensor.ty });
        }
        layers.entry(name).or_default()[part] = Some(tensor);
    }
    if layers.is_empty() {
        return Err(Lie::Empty);
    }
    for (name, layer) in layers {
        let partner = |found, missing| Lie::Partner { name: name.into(), found, missing };
        let (sums, counts) = match layer {
            [Some(sums), Some(counts)] => (sums, counts),
            [Some(_), None] => return Err(partner(SUMS, COUNTS)),
            _ => return Err(partner(COUNTS, SUMS)),
        };
        let mut floats =
            |tensor: &TensorInfo| read_floats(&mut read, header.data_start + tensor.offset, tensor.values() as usize);
        let (sums, counts) = (floats(sums)?, floats(counts)?);
        let count = |(index, value): (usize, &f32)| {
            if (0.0..LARGEST_COUNT).contains(value) {
                return Ok(value.round() as u64);
            }
            Err(Lie::Count { name: name.into(), index, value: *value })
        };
        let counts = counts.iter().enumerate().map(count).collect::<Result<_, _>>()?;
        imatrix.entries.insert(name.into(), Entry { sums, counts });
    }
    Ok(imatrix)
}

fn wrong(metadata: &Metadata, key: &'static str, expected: &'static str) -> Lie {
    let found = metadata.get(key).map_or("missing".into(), |value| format!("{value:?}"));
    Lie::Key { key, found, expected }
}

fn number(metadata: &Metadata, key: &'static str) -> Result<u32, Lie> {
    match metadata.get(key) {
        Some(Value::U32(value)) => Ok(*value),
        _ => Err(wrong(metadata, key, "a u32")),
    }
}

fn strings(metadata: &Metadata, key: &'static str) -> Result<Vec<String>, Lie> {
    metadata.strings(key).map(<[String]>::to_vec).ok_or_else(|| wrong(metadata, key, "an array of strings"))
}

/// The start of the file as a stream, for the header's parser.
struct HeaderReader<'a, R> {
    read: &'a mut R,
    at: u64,
    length: u64,
}

impl<R: ReadAt> Read for HeaderReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = (self.length - self.at).min(out.len() as u64) as usize;
        (self.read)(self.at, &mut out[..count]).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

pub(super) fn write(imatrix: &Imatrix, path: &Path, force: bool) -> Result<()> {
    // Counts of chunks become counts of tokens; a power of two times a float is exact.
    let (chunk, factor) =
        if imatrix.chunk_size == 0 { (DEFAULT_CHUNK, DEFAULT_CHUNK) } else { (imatrix.chunk_size, 1) };
    let mut metadata = Metadata::new();
    metadata.insert(TYPE_KEY, Value::String(TYPE.into()));
    metadata.insert(DATASETS, Value::Array(Array::String(imatrix.datasets.clone())));
    metadata.insert(CHUNK_COUNT, Value::U32(imatrix.chunk_count));
    metadata.insert(CHUNK_SIZE, Value::U32(chunk));
    let mut plan = Vec::new();
    for (name, entry) in &imatrix.entries {
        let experts = entry.counts.len();
        let mut tensor = |part: &str, cols| {
            // ggml's tensors have no last dimension of one.
            let shape = if experts == 1 { vec![cols] } else { vec![cols, experts] };
            plan.push(TensorPlan { name: format!("{name}.{part}"), shape, ty: TensorType::F32 });
        };
        tensor(SUMS, entry.sums.len() / experts);
        tensor(COUNTS, 1);
    }
    let mut writer = GgufWriter::create(path, &metadata, &plan, force)?;
    let factor = factor as f32;
    for (name, entry) in &imatrix.entries {
        let sums: Vec<u8> = entry.sums.iter().flat_map(|sum| (sum * factor).to_le_bytes()).collect();
        let counts: Vec<u8> = entry.counts.iter().flat_map(|count| (*count as f32 * factor).to_le_bytes()).collect();
        writer.write(&format!("{name}.{SUMS}"), &sums)?;
        writer.write(&format!("{name}.{COUNTS}"), &counts)?;
    }
    writer.finish()?;
    Ok(())
}
