//! Reading archives, all of it or any part.

use super::frame::{HEADER, Header, TRAILER, Tag, content_hash, read_trailer};
use super::index::{Entry, Index, Kind};
use super::{MAGIC, VERSION};
use crate::codec::{self, Failure};
use crate::error::{Error, Result};
use crate::lm::Models;
use crate::tensors::base::Bases;
use brevity_kernels::pool;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

/// A block: where it lies in the archive, and what it holds of the files' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of its frame, in the archive.
    pub offset: u64,
    /// Bytes that it takes there, the frame apart.
    pub packed: u32,
    /// Of all bytes of all files in their order.
    pub content: Range<u64>,
}

/// An archive that can be read anywhere.
pub struct Archive<R> {
    input: R,
    memory: u64,
    bases: Bases,
    blocks: Vec<Block>,
    entries: Vec<Entry>,
    /// Where the bytes of each entry begin.
    starts: Vec<u64>,
    length: u64,
}

fn io(error: std::io::Error) -> Error {
    Error::io("read", Path::new("the archive"), error)
}

fn read_at<R: Read + Seek>(input: &mut R, offset: u64, out: &mut [u8], length: u64) -> Result<()> {
    if offset.checked_add(out.len() as u64).is_none_or(|end| end > length) {
        return Err(Error::Truncated { length });
    }
    input.seek(SeekFrom::Start(offset)).map_err(io)?;
    input.read_exact(out).map_err(io)
}

/// Reads a frame and its payload. What it says of its lengths is held against the archive's before memory is taken.
fn read_frame<R: Read + Seek>(
    input: &mut R,
    offset: u64,
    tag: Tag,
    what: impl Fn() -> String,
    length: u64,
) -> Result<(Header, Vec<u8>)> {
    let damaged = || Error::Damaged { what: what(), offset };
    let mut header = [0; HEADER];
    read_at(input, offset, &mut header, length)?;
    let header = Header::from_bytes(&header).filter(|header| header.tag == tag).ok_or_else(damaged)?;
    let place = offset + HEADER as u64;
    if place + u64::from(header.packed) > length {
        return Err(damaged());
    }
    let mut payload = vec![0; header.packed as usize];
    read_at(input, place, &mut payload, length)?;
    if !header.holds(&payload) {
        return Err(damaged());
    }
    Ok((header, payload))
}

fn content(
    header: &Header,
    payload: &[u8],
    offset: u64,
    what: impl Fn() -> String,
    memory: u64,
    bases: &Bases,
) -> Result<Vec<u8>> {
    let damaged = || Error::Damaged { what: what(), offset };
    let bytes =
        codec::decode_against(payload, header.raw as usize, memory, bases).map_err(|failure| match failure {
            Failure::Base { name, expected, found } => Error::Base { name, expected, found },
            Failure::Model { name, expected, found } => Error::Model { name, expected, found },
            Failure::Predict(error) => Error::Predict(error),
            Failure::Memory(needed) => Error::Memory { what: what(), needed, limit: memory },
            Failure::Stopped => Error::Stopped,
            Failure::Malformed => damaged(),
        })?;
    if content_hash(&bytes) != header.content {
        return Err(damaged());
    }
    Ok(bytes)
}

impl<R: Read + Seek> Archive<R> {
    /// Reads and checks the index. No block is decoded that would take more than `memory` bytes.
    ///
    /// # Errors
    /// For what is no archive, cut off, damaged, or says what cannot be.
    pub fn open(mut input: R, memory: u64) -> Result<Self> {
        let length = input.seek(SeekFrom::End(0)).map_err(io)?;
        let mut start = vec![0; length.min(8) as usize];
        read_at(&mut input, 0, &mut start, length)?;
        let version = match start.split_first_chunk::<7>() {
            Some((magic, [version])) if *magic == MAGIC => *version,
            _ => return Err(Error::Magic { found: start, expected: MAGIC }),
        };
        if version != VERSION {
            return Err(Error::Version { found: version, known: VERSION });
        }
        let end = length.checked_sub(TRAILER as u64).ok_or(Error::Truncated { length })?;
        let mut trailer = [0; TRAILER];
        read_at(&mut input, end, &mut trailer, length)?;
        let place = read_trailer(&trailer, length)?;
        let what = || "the index".to_owned();
        let (header, payload) = read_frame(&mut input, place, Tag::Index, what, length)?;
        if place + (HEADER + payload.len()) as u64 != end {
            return Err(Error::Damaged { what: what(), offset: place });
        }
        let index = Index::from_bytes(&content(&header, &payload, place, what, memory, &Bases::default())?)?;
        let (mut offset, mut at) = (8, 0);
        let mut blocks = Vec::with_capacity(index.blocks.len());
        for &(raw, packed) in &index.blocks {
            blocks.push(Block { offset, packed, content: at..at + u64::from(raw) });
            offset += HEADER as u64 + u64::from(packed);
            at += u64::from(raw);
        }
        if offset != place {
            return Err(Error::index(format!("its blocks end at byte {offset}, it begins at {place}")));
        }
        let mut begin = 0;
        let starts = index.entries.iter().map(|entry| {
            begin += entry.size();
            begin - entry.size()
        });
        Ok(Self {
            input,
            memory,
            bases: Bases::default(),
            blocks,
            starts: starts.collect(),
            entries: index.entries,
            length,
        })
    }

    /// Looks for what the archive is a difference from in this directory, or takes this file for it.
    pub fn against(self, base: &Path) -> Self {
        Self { bases: Bases::new(base), ..self }
    }

    /// Has a model for blocks that one predicted; to be said after [`Archive::against`].
    pub fn with_models(self, models: Models) -> Self {
        Self { bases: self.bases.with_models(models), ..self }
    }

    /// What it holds, files in the order of their bytes.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Bytes of the archive.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the bytes of an entry lie among all.
    pub fn span(&self, entry: usize) -> Range<u64> {
        match (self.starts.get(entry), self.entries.get(entry)) {
            (Some(&start), Some(entry)) => start..start + entry.size(),
            _ => 0..0,
        }
    }

    /// The blocks that hold some of a span.
    pub fn blocks_of(&self, span: &Range<u64>) -> Range<usize> {
        if span.is_empty() {
            return 0..0;
        }
        let first = self.blocks.partition_point(|block| block.content.end <= span.start);
        let end = self.blocks.partition_point(|block| block.content.start < span.end);
        first..end
    }

    /// The entry of this path.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn find(&self, path: &str) -> Result<usize> {
        let path = path.trim_end_matches('/');
        self.entries.iter().position(|entry| entry.path == path).ok_or_else(|| Error::Missing { path: path.to_owned() })
    }

    /// Decodes blocks, as many at once as memory allows; each is whole or an error of its own. `each` gets them in order, and may
    /// end it all.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn read_blocks(
        &mut self,
        wanted: &[usize],
        mut each: impl FnMut(usize, Result<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        for batch in wanted.chunks(pool::threads().max(1)) {
            let frames: Vec<_> = batch.iter().map(|&block| self.frame(block)).collect();
            let need = |frame: &Result<(Header, Vec<u8>)>| {
                frame.as_ref().map_or(0, |(header, payload)| codec::memory(payload, header.raw as usize))
            };
            let together: u64 = frames.iter().map(need).fold(0, u64::saturating_add);
            let (memory, blocks, bases) = (self.memory, &self.blocks, &self.bases);
            let decode = |i: usize| -> Result<Vec<u8>> {
                let block = batch[i];
                match &frames[i] {
                    Ok((header, payload)) => {
                        content(header, payload, blocks[block].offset, || format!("block {block}"), memory, bases)
                    }
                    Err(error) => Err(copy(error)),
                }
            };
            if together > memory {
                for (i, &block) in batch.iter().enumerate() {
                    each(block, decode(i))?;
                }
                continue;
            }
            let results: Vec<Mutex<Option<Result<Vec<u8>>>>> = batch.iter().map(|_| Mutex::new(None)).collect();
            pool::parallel(batch.len(), |i| {
                if let Ok(mut place) = results[i].lock() {
                    *place = Some(decode(i));
                }
            });
            for (&block, result) in batch.iter().zip(results) {
                let offset = self.blocks[block].offset;
                let lost = || Err(Error::Damaged { what: format!("block {block}"), offset });
                each(block, result.into_inner().ok().flatten().unwrap_or_else(lost))?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, block: usize) -> Result<(Header, Vec<u8>)> {
        let Some(Block { offset, packed, content }) = self.blocks.get(block).cloned() else {
            return Err(Error::index(format!("there is no block {block}")));
        };
        let what = || format!("block {block}");
        let (header, payload) = read_frame(&mut self.input, offset, Tag::Block, what, self.length)?;
        if header.packed != packed || u64::from(header.raw) != content.end - content.start {
            return Err(Error::Damaged { what: what(), offset });
        }
        Ok((header, payload))
    }

    /// A part of a file's bytes, in pieces, in order; the range is cut to the file.
    ///
    /// # Errors
    /// If the entry is no file or a block is damaged.
    pub fn read(&mut self, entry: usize, range: Range<u64>, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let span = self.span(entry);
        if let Some(entry) = self.entries.get(entry)
            && !matches!(entry.kind, Kind::File(_))
        {
            return Err(Error::Path { path: entry.path.clone(), reason: "it is not a file" });
        }
        let wanted =
            span.start.saturating_add(range.start).min(span.end)..span.start.saturating_add(range.end).min(span.end);
        let blocks: Vec<usize> = self.blocks_of(&wanted).collect();
        let places = self.blocks.clone();
        self.read_blocks(&blocks, |block, bytes| {
            let bytes = bytes?;
            let content = &places[block].content;
            let from = (wanted.start.max(content.start) - content.start) as usize;
            let to = (wanted.end.min(content.end) - content.start) as usize;
            each(bytes.get(from..to).unwrap_or(&[]))
        })
    }
}

/// An error again: those of frames have no source worth keeping.
fn copy(error: &Error) -> Error {
    match error {
        Error::Damaged { what, offset } => Error::Damaged { what: what.clone(), offset: *offset },
        Error::Truncated { length } => Error::Truncated { length: *length },
        other => Error::Index { reason: other.to_string() },
    }
}
