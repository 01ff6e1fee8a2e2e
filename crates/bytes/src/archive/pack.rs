//! Writing archives.

use super::frame::{Header, Tag, content_hash, trailer};
use super::index::{Entry, Index, Kind, check_path};
use super::{MAGIC, Progress, VERSION};
use crate::codec;
use crate::error::{Error, Result};
use crate::level::Level;
use crate::lm::{self, Behind};
use crate::tensors::Segment;
use crate::tensors::base::{Base, Bases};
use crate::tensors::layout::{self, Tensor};
use brevity_kernels::pool;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Largest block of tensors: what is learnt of a tensor in one does not help in the next, but threads share the work.
const TENSOR_BLOCK: usize = 1 << 25;

/// How to pack.
#[derive(Clone, Copy)]
pub struct PackOptions<'a> {
    /// The level.
    pub level: Level,
    /// Largest block, if not the level's.
    pub block: Option<usize>,
    /// Bytes of memory to stay below.
    pub memory: u64,
    /// Who is told.
    pub progress: Progress<'a>,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub entries: usize,
    /// Bytes of files.
    pub raw: u64,
    /// Bytes of the archive.
    pub packed: u64,
    /// Blocks.
    pub blocks: usize,
}

struct Source {
    file: PathBuf,
    entry: Entry,
    text: bool,
}

/// Packs files and directories: paths are stored relative to what was named, a file by its name.
///
/// # Errors
/// For what cannot be read, is no file, directory or link, has a name that is not UTF-8, is named twice, or changes meanwhile.
pub fn pack(paths: &[PathBuf], out: &mut dyn Write, options: &PackOptions<'_>) -> Result<Packed> {
    pack_with(paths, Bases::default(), None, out, options)
}

/// Packs files and directories, text behind a model, on all threads at once.
///
/// # Errors
/// As [`pack`], and if the model fails.
pub fn pack_behind(
    paths: &[PathBuf],
    model: Behind<'_>,
    out: &mut dyn Write,
    options: &PackOptions<'_>,
) -> Result<Packed> {
    pack_with(paths, Bases::default(), Some(model), out, options)
}

/// Packs files and directories as differences from those of the same path in the directory `base`, or a file from the file `base`.
///
/// # Errors
/// As [`pack`], and if the base cannot be read.
pub fn pack_against(paths: &[PathBuf], base: &Path, out: &mut dyn Write, options: &PackOptions<'_>) -> Result<Packed> {
    fs::metadata(base).map_err(|error| Error::io("read", base, error))?;
    pack_with(paths, Bases::new(base), None, out, options)
}

fn pack_with(
    paths: &[PathBuf],
    bases: Bases,
    model: Option<Behind<'_>>,
    out: &mut dyn Write,
    options: &PackOptions<'_>,
) -> Result<Packed> {
    let mut sources = Vec::new();
    for path in paths {
        collect_named(path, &mut sources)?;
    }
    let name = |source: &Source| source.entry.path.clone();
    sources.sort_by_cached_key(name);
    if let Some(pair) = sources.windows(2).find(|pair| pair[0].entry.path == pair[1].entry.path) {
        return Err(Error::Path { path: name(&pair[1]), reason: "two of what is named would have it" });
    }
    sources.sort_by_cached_key(|source| {
        let extension = source.file.extension().map(|e| e.to_ascii_lowercase());
        (!matches!(source.entry.kind, Kind::File(_)), !source.text, extension, name(source))
    });
    let mut packer = Packer::new(out, model, options)?;
    let mut last = None;
    for source in sources {
        if let Kind::File(size) = source.entry.kind {
            if last.replace(source.text).is_some_and(|text| text != source.text) {
                packer.cut()?;
            }
            let base = bases.get(&source.entry.path)?;
            read_whole(&source.file, size, base, &bases, &mut packer)?;
        }
        packer.index.entries.push(source.entry);
    }
    packer.finish()
}

/// Packs one stream under a name.
///
/// # Errors
/// If it cannot be read or written.
pub fn pack_stream(name: &str, input: &mut dyn Read, out: &mut dyn Write, options: &PackOptions<'_>) -> Result<Packed> {
    stream(name, input, None, out, options)
}

/// Packs one stream under a name, text behind a model.
///
/// # Errors
/// If it cannot be read or written, or the model fails.
pub fn pack_stream_behind(
    name: &str,
    input: &mut dyn Read,
    model: Behind<'_>,
    out: &mut dyn Write,
    options: &PackOptions<'_>,
) -> Result<Packed> {
    stream(name, input, Some(model), out, options)
}

fn stream(
    name: &str,
    input: &mut dyn Read,
    model: Option<Behind<'_>>,
    out: &mut dyn Write,
    options: &PackOptions<'_>,
) -> Result<Packed> {
    check_path(name)?;
    let mut packer = Packer::new(out, model, options)?;
    let size = packer.take(Path::new("standard input"), input)?;
    packer.index.entries.push(Entry { path: name.into(), kind: Kind::File(size), mode: 0o644, modified: (0, 0) });
    packer.finish()
}

fn collect_named(path: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let found = fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
    if found.is_dir() {
        return collect_directory(path, "", sources);
    }
    // A link that is named stands for what it points to.
    let whole = fs::canonicalize(path).map_err(|error| Error::io("read", path, error))?;
    let name = utf8(path.file_name().or(whole.file_name()).map(Path::new).unwrap_or(path))?;
    sources.push(source(path, name, &found)?);
    Ok(())
}

fn collect_directory(path: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(path).map_err(|error| Error::io("list", path, error))?;
    for entry in entries {
        let inner = entry.map_err(|error| Error::io("list", path, error))?.path();
        let name = utf8(inner.file_name().map(Path::new).unwrap_or(&inner))?;
        let found = fs::symlink_metadata(&inner).map_err(|error| Error::io("read", &inner, error))?;
        let stored = format!("{prefix}{name}");
        sources.push(source(&inner, stored.clone(), &found)?);
        if found.is_dir() {
            collect_directory(&inner, &format!("{stored}/"), sources)?;
        }
    }
    Ok(())
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Path { path: path.to_string_lossy().into_owned(), reason: "it is not UTF-8" })
}

fn source(file: &Path, path: String, found: &Metadata) -> Result<Source> {
    check_path(&path)?;
    let kind = if found.is_dir() {
        Kind::Directory
    } else if found.is_symlink() {
        let target = fs::read_link(file).map_err(|error| Error::io("read", file, error))?;
        Kind::Link(utf8(&target)?)
    } else if found.is_file() {
        Kind::File(found.len())
    } else {
        return Err(Error::Special { path: file.to_path_buf() });
    };
    let text = matches!(kind, Kind::File(_)) && begins_as_text(file)?;
    let entry = Entry { path, kind, mode: mode(found), modified: modified(found) };
    Ok(Source { file: file.to_path_buf(), entry, text })
}

fn begins_as_text(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    file.take(16_384).read_to_end(&mut start).map_err(|error| Error::io("read", path, error))?;
    Ok(codec::is_text(&start))
}

#[cfg(unix)]
fn mode(found: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    found.permissions().mode() & 0o7777
}

#[cfg(not(unix))]
fn mode(found: &Metadata) -> u32 {
    match (found.is_dir(), found.permissions().readonly()) {
        (true, _) => 0o755,
        (false, true) => 0o444,
        (false, false) => 0o644,
    }
}

fn modified(found: &Metadata) -> (i64, u32) {
    let Ok(time) = found.modified() else { return (0, 0) };
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => (-(before.as_secs() as i64), 0),
                nanos => (-(before.as_secs() as i64) - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

fn read_whole(
    path: &Path,
    size: u64,
    base: Option<Arc<Base>>,
    bases: &Bases,
    packer: &mut Packer<'_, '_>,
) -> Result<()> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let before = file.metadata().map_err(|error| Error::io("read", path, error))?;
    let mut tensors = layout::tensors(path);
    if let Some(base) = &base
        && let Some(old) = bases.path(&base.name)
    {
        layout::pair(&mut tensors, &layout::tensors(&old));
    }
    let read = match (tensors.as_slice(), &base) {
        ([], None) => packer.take(path, &mut file)?,
        (tensors, _) => packer.take_tensors(path, &mut file, tensors, base)?,
    };
    let after = file.metadata().map_err(|error| Error::io("read", path, error))?;
    if read != size || before.len() != after.len() || modified(&before) != modified(&after) {
        return Err(Error::Changed { path: path.to_path_buf() });
    }
    Ok(())
}

/// A block to be coded, and what it holds.
struct Full {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    base: Option<Arc<Base>>,
}

struct Packer<'o, 'p> {
    out: &'o mut dyn Write,
    options: PackOptions<'p>,
    model: Option<Behind<'p>>,
    block: usize,
    /// Blocks that are coded at once.
    batch: usize,
    full: Vec<Full>,
    open: Vec<u8>,
    /// What the open block holds of a file of tensors; nothing where it holds anything else.
    segments: Vec<Segment>,
    base: Option<Arc<Base>>,
    index: Index,
    written: u64,
    raw: u64,
}

impl<'o, 'p> Packer<'o, 'p> {
    fn new(out: &'o mut dyn Write, model: Option<Behind<'p>>, options: &PackOptions<'p>) -> Result<Self> {
        let most = if model.is_some() { lm::BLOCK } else { options.level.block };
        let mut block = options.block.unwrap_or(most).clamp(1 << 12, 1 << 30);
        while options.level.memory(block) > options.memory && block > 1 << 16 {
            block /= 2;
        }
        let one = options.level.memory(block);
        if one > options.memory {
            let what = format!("level {} (a lower one needs less)", options.level.number);
            return Err(Error::Memory { what, needed: one, limit: options.memory });
        }
        let batch = if model.is_some() { 1 } else { ((options.memory / one) as usize).clamp(1, pool::threads()) };
        let mut packer = Self {
            out,
            options: *options,
            model,
            block,
            batch,
            full: Vec::new(),
            open: Vec::new(),
            segments: Vec::new(),
            base: None,
            index: Index::default(),
            written: 0,
            raw: 0,
        };
        packer.write(&MAGIC)?;
        packer.write(&[VERSION])?;
        Ok(packer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", Path::new("the archive"), error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Takes a file of tensors: its blocks begin and end with it.
    fn take_tensors(
        &mut self,
        path: &Path,
        input: &mut dyn Read,
        tensors: &[Tensor],
        base: Option<Arc<Base>>,
    ) -> Result<u64> {
        self.cut()?;
        let block = self.block;
        self.block = block.min(TENSOR_BLOCK);
        let (mut from, mut ended) = (0, false);
        while !ended {
            let part = &mut input.take(self.block as u64);
            let read = self.fill(path, part)?;
            ended = read < self.block as u64;
            self.segments = layout::segments(tensors, from, from + read, base.is_some());
            self.base.clone_from(&base);
            from += read;
            self.cut()?;
        }
        self.block = block;
        Ok(from)
    }

    /// Takes all bytes of a stream.
    fn take(&mut self, path: &Path, input: &mut dyn Read) -> Result<u64> {
        let mut total = 0;
        loop {
            let room = (self.block - self.open.len()).min(1 << 20);
            let from = self.open.len();
            let read =
                input.take(room as u64).read_to_end(&mut self.open).map_err(|error| Error::io("read", path, error))?;
            debug_assert_eq!(self.open.len(), from + read);
            total += read as u64;
            if self.open.len() == self.block {
                self.cut()?;
            }
            if read == 0 {
                return Ok(total);
            }
        }
    }

    /// Reads into the open block until the input ends.
    fn fill(&mut self, path: &Path, input: &mut dyn Read) -> Result<u64> {
        let read = input.read_to_end(&mut self.open).map_err(|error| Error::io("read", path, error))?;
        Ok(read as u64)
    }

    /// Ends the open block.
    fn cut(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.full.push(Full {
                bytes: std::mem::take(&mut self.open),
                segments: std::mem::take(&mut self.segments),
                base: self.base.take(),
            });
        }
        if self.full.len() >= self.batch { self.flush() } else { Ok(()) }
    }

    /// Codes and writes the blocks that are full.
    fn flush(&mut self) -> Result<()> {
        let full = std::mem::take(&mut self.full);
        let coded = match self.model {
            Some(model) => full.iter().map(|full| self.behind(full, model)).collect::<Result<_>>()?,
            None => self.together(&full),
        };
        for (Full { bytes: raw, .. }, payload) in full.iter().zip(coded) {
            self.frame(Tag::Block, raw, &payload)?;
            self.index.blocks.push((raw.len() as u32, payload.len() as u32));
            self.raw += raw.len() as u64;
        }
        if (self.options.progress)(self.raw) { Ok(()) } else { Err(Error::Stopped) }
    }

    /// Codes blocks side by side.
    fn together(&self, full: &[Full]) -> Vec<Vec<u8>> {
        let coded: Vec<Mutex<Vec<u8>>> = full.iter().map(|_| Mutex::default()).collect();
        let level = self.options.level;
        pool::parallel(full.len(), |i| {
            if let Ok(mut place) = coded[i].lock() {
                *place = codec::encode_segments(&full[i].bytes, &full[i].segments, full[i].base.as_deref(), &level);
            }
        });
        coded.into_iter().map(|place| place.into_inner().unwrap_or_default()).collect()
    }

    /// Codes a block behind a model; tensors are none of its business.
    fn behind(&self, full: &Full, model: Behind<'_>) -> Result<Vec<u8>> {
        let PackOptions { level, memory, progress, .. } = self.options;
        if !full.segments.is_empty() {
            return Ok(codec::encode_segments(&full.bytes, &full.segments, None, &level));
        }
        lm::encode(&full.bytes, &level, model, memory, &|done| progress(self.raw + done as u64))
    }

    fn frame(&mut self, tag: Tag, raw: &[u8], payload: &[u8]) -> Result<()> {
        let header = Header::new(tag, raw.len() as u32, content_hash(raw), payload);
        self.write(&header.to_bytes())?;
        self.write(payload)
    }

    fn finish(mut self) -> Result<Packed> {
        self.cut()?;
        self.flush()?;
        let place = self.written;
        let bytes = self.index.to_bytes();
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::index(format!("it would take {} bytes", bytes.len())));
        }
        let payload = codec::encode(&bytes, &self.options.level);
        self.frame(Tag::Index, &bytes, &payload)?;
        self.write(&trailer(place))?;
        self.out.flush().map_err(|error| Error::io("write", Path::new("the archive"), error))?;
        Ok(Packed {
            entries: self.index.entries.len(),
            raw: self.raw,
            packed: self.written,
            blocks: self.index.blocks.len(),
        })
    }
}
