//! The layout of 2024: entries one after the other, without a magic number.

use super::{Entry, Imatrix, Lie, ReadAt, read_floats};
use crate::error::Result;

/// The fewest bytes of an entry: length and one byte of the name, chunks, number of values, one value.
const LEAST_ENTRY: u64 = 17;

/// Where the reader is in the file, and in which entry (from 1), for the errors.
struct Cursor<R> {
    read: R,
    at: u64,
    length: u64,
    entry: usize,
}

impl<R: ReadAt> Cursor<R> {
    fn left(&self) -> u64 {
        self.length - self.at
    }

    /// Makes sure that `needed` bytes are left.
    fn check(&self, what: &'static str, needed: u64) -> Result<(), Lie> {
        if needed <= self.left() {
            return Ok(());
        }
        Err(Lie::Truncated { what, entry: self.entry, at: self.at, needed, left: self.left() })
    }

    fn int(&mut self, what: &'static str) -> Result<i32, Lie> {
        self.check(what, 4)?;
        let mut bytes = [0; 4];
        (self.read)(self.at, &mut bytes)?;
        self.at += 4;
        Ok(i32::from_le_bytes(bytes))
    }

    fn bytes(&mut self, what: &'static str, count: u64) -> Result<Vec<u8>, Lie> {
        self.check(what, count)?;
        let mut bytes = vec![0; count as usize];
        (self.read)(self.at, &mut bytes)?;
        self.at += count;
        Ok(bytes)
    }

    fn entry(&mut self) -> Result<(String, Entry), Lie> {
        let start = self.at;
        let length = self.int("the name's length")?;
        if length < 1 {
            return Err(Lie::NameLength { entry: self.entry, at: start, found: length });
        }
        let name = self.bytes("the name", length as u64)?;
        let name = String::from_utf8(name).map_err(|_| Lie::NameUtf8 { entry: self.entry, at: start + 4 })?;
        let chunks = self.int("the number of chunks")?;
        if chunks < 0 {
            return Err(Lie::Negative { what: format!("the number of chunks of layer `{name}`"), found: chunks });
        }
        let values = self.int("the number of values")?;
        if values < 1 {
            return Err(Lie::Values { name, found: values });
        }
        let bytes = 4 * values as u64;
        self.check("the values", bytes)?;
        let sums = read_floats(&mut self.read, self.at, values as usize)?;
        self.at += bytes;
        // Without a number of chunks, llama.cpp takes the values for the means.
        Ok((name, Entry { sums, counts: vec![chunks.max(1) as u64] }))
    }
}

pub(super) fn read(length: u64, read: impl ReadAt) -> Result<Imatrix, Lie> {
    let mut cursor = Cursor { read, at: 0, length, entry: 0 };
    let entries = cursor.int("the number of layers")?;
    if entries == 0 {
        return Err(Lie::Empty);
    }
    let most = cursor.left() / LEAST_ENTRY;
    if entries < 0 || entries as u64 > most {
        return Err(Lie::Entries { found: entries, left: cursor.left(), most });
    }
    let mut imatrix = Imatrix::default();
    for index in 0..entries {
        cursor.entry = index as usize + 1;
        let (name, entry) = cursor.entry()?;
        if imatrix.entries.insert(name.clone(), entry).is_some() {
            return Err(Lie::Duplicate { name });
        }
    }
    if cursor.left() == 0 {
        return Ok(imatrix);
    }
    let chunks = cursor.int("the number of chunks after the last")?;
    imatrix.chunk_count =
        u32::try_from(chunks).map_err(|_| Lie::Negative { what: "the number of chunks".into(), found: chunks })?;
    if cursor.left() == 0 {
        return Ok(imatrix);
    }
    let name = cursor.int("the length of the dataset's name after the last")?;
    let name = u64::try_from(name)
        .map_err(|_| Lie::Negative { what: "the length of the dataset's name".into(), found: name })?;
    let name = cursor.bytes("the dataset's name after the last", name)?;
    if !name.is_empty() {
        imatrix.datasets.push(String::from_utf8_lossy(&name).into_owned());
    }
    match cursor.left() {
        0 => Ok(imatrix),
        left => Err(Lie::Trailing { at: cursor.at, left }),
    }
}

fn int(what: impl Into<String>, value: u64) -> Result<[u8; 4], Lie> {
    let limit = i32::MAX as u64;
    let value = i32::try_from(value).map_err(|_| Lie::LegacyLimit { what: what.into(), found: value, limit })?;
    Ok(value.to_le_bytes())
}

pub(super) fn to_bytes(imatrix: &Imatrix) -> Result<Vec<u8>, Lie> {
    // Layers that saw no token are left out, as llama-imatrix does.
    let counted = || imatrix.entries.iter().filter(|(_, entry)| entry.counts.iter().any(|count| *count > 0));
    let mut out = int("the number of layers", counted().count() as u64)?.to_vec();
    for (name, entry) in counted() {
        let most = entry.counts.iter().copied().max().unwrap_or(0);
        let chunks = if imatrix.chunk_size == 0 { most } else { most.div_ceil(imatrix.chunk_size.into()) };
        out.extend(int(format!("the length of the name `{name}`"), name.len() as u64)?);
        out.extend(name.as_bytes());
        out.extend(int(format!("the number of chunks of layer `{name}`"), chunks)?);
        out.extend(int(format!("the number of values of layer `{name}`"), entry.sums.len() as u64)?);
        if imatrix.chunk_size == 0 {
            out.extend(entry.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        } else {
            out.extend(entry.means().iter().flat_map(|mean| (mean * chunks as f32).to_le_bytes()));
        }
    }
    out.extend(int("the number of chunks", imatrix.chunk_count.into())?);
    let dataset = imatrix.datasets.last().map_or("", String::as_str);
    out.extend(int("the length of the dataset's name", dataset.len() as u64)?);
    out.extend(dataset.as_bytes());
    Ok(out)
}
