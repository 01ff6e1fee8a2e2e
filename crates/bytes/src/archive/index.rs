//! The index: what is in an archive.

use crate::error::{Error, Result};
use crate::varint;
use std::collections::BTreeMap;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(String),
}

/// A file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path: names joined by `/`, relative.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, as Unix has them.
    pub mode: u32,
    /// Time of the last change: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

impl Entry {
    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File(size) => size,
            _ => 0,
        }
    }
}

/// Lengths of each block, raw and packed, and the entries, files in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub blocks: Vec<(u32, u32)>,
    pub entries: Vec<Entry>,
}

/// What must hold for a path in an archive.
///
/// # Errors
/// [`Error::Path`] for one that is empty, absolute or leaves its directory, or has empty names, dots, backslashes, colons or NULs
/// where some system would take them for more than a name.
pub fn check_path(path: &str) -> Result<()> {
    let wrong = |reason| Err(Error::Path { path: path.to_owned(), reason });
    if path.is_empty() {
        return wrong("it is empty");
    }
    if path.len() > 4096 {
        return wrong("it is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return wrong("it holds a NUL");
    }
    if cfg!(windows) && (path.contains('\\') || path.contains(':')) {
        return wrong("it holds a backslash or a colon");
    }
    for name in path.split('/') {
        match name {
            "" => return wrong("it is absolute or has an empty name"),
            "." | ".." => return wrong("it leaves its directory, or says so"),
            _ => {}
        }
    }
    Ok(())
}

impl Index {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(self.blocks.len() as u64, &mut out);
        for &(raw, packed) in &self.blocks {
            varint::put(raw.into(), &mut out);
            varint::put(packed.into(), &mut out);
        }
        varint::put(self.entries.len() as u64, &mut out);
        let text = |text: &str, out: &mut Vec<u8>| {
            varint::put(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        };
        for entry in &self.entries {
            let (tag, size) = match &entry.kind {
                Kind::File(size) => (0, *size),
                Kind::Directory => (1, 0),
                Kind::Link(_) => (2, 0),
            };
            out.push(tag);
            text(&entry.path, &mut out);
            varint::put(entry.mode.into(), &mut out);
            varint::put(varint::zigzag(entry.modified.0), &mut out);
            varint::put(entry.modified.1.into(), &mut out);
            match &entry.kind {
                Kind::File(_) => varint::put(size, &mut out),
                Kind::Directory => {}
                Kind::Link(target) => text(target, &mut out),
            }
        }
        out
    }

    /// From bytes; everything that can be wrong is looked at.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self> {
        let rest = &mut bytes;
        let blocks = (0..count(rest, 2)?).map(|_| Ok((short(rest)?, short(rest)?))).collect::<Result<Vec<_>>>()?;
        let entries = (0..count(rest, 5)?).map(|_| entry(rest)).collect::<Result<Vec<_>>>()?;
        if !rest.is_empty() {
            return Err(Error::index(format!("{} bytes follow it", rest.len())));
        }
        let index = Self { blocks, entries };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<()> {
        let stored: u64 = self.blocks.iter().map(|block| u64::from(block.0)).sum();
        let named = self.entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.size()));
        if named != Some(stored) {
            return Err(Error::index(format!("its files do not have the {stored} bytes of its blocks")));
        }
        let mut kinds: BTreeMap<&str, &Kind> = BTreeMap::new();
        for entry in &self.entries {
            check_path(&entry.path)?;
            if kinds.insert(&entry.path, &entry.kind).is_some() {
                return Err(Error::Path { path: entry.path.clone(), reason: "the archive holds it twice" });
            }
        }
        for entry in &self.entries {
            for (at, _) in entry.path.match_indices('/') {
                if kinds.get(&entry.path[..at]).is_some_and(|kind| **kind != Kind::Directory) {
                    let reason = "the archive holds a file or a link in place of its directory";
                    return Err(Error::Path { path: entry.path.clone(), reason });
                }
            }
        }
        Ok(())
    }
}

fn number(rest: &mut &[u8]) -> Result<u64> {
    varint::take(rest).ok_or_else(|| Error::index("a number is cut off or too long"))
}

fn short(rest: &mut &[u8]) -> Result<u32> {
    let value = number(rest)?;
    u32::try_from(value).map_err(|_| Error::index(format!("{value} is beyond 32 bits")))
}

/// A number of things that take at least `least` bytes each.
fn count(rest: &mut &[u8], least: usize) -> Result<usize> {
    let value = number(rest)?;
    match usize::try_from(value) {
        Ok(count) if count <= rest.len() / least => Ok(count),
        _ => Err(Error::index(format!("it promises {value} things in {} bytes", rest.len()))),
    }
}

fn text(rest: &mut &[u8]) -> Result<String> {
    let length = count(rest, 1)?;
    let (text, more) = rest.split_at_checked(length).ok_or_else(|| Error::index("a name is cut off"))?;
    *rest = more;
    String::from_utf8(text.to_vec()).map_err(|_| Error::index("a name is not UTF-8"))
}

fn entry(rest: &mut &[u8]) -> Result<Entry> {
    let (&tag, more) = rest.split_first().ok_or_else(|| Error::index("an entry is cut off"))?;
    *rest = more;
    let path = text(rest)?;
    let mode = short(rest)?;
    let modified = (varint::unzigzag(number(rest)?), short(rest)?);
    if modified.1 >= 1_000_000_000 {
        return Err(Error::index(format!("{path:?} has {} nanoseconds", modified.1)));
    }
    let kind = match tag {
        0 => Kind::File(number(rest)?),
        1 => Kind::Directory,
        2 => Kind::Link(text(rest)?),
        _ => return Err(Error::index(format!("{path:?} is of kind {tag}"))),
    };
    Ok(Entry { path, kind, mode, modified })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), kind: Kind::File(size), mode: 0o644, modified: (-5, 7) }
    }

    fn sample() -> Index {
        let link = Entry { kind: Kind::Link("../x".into()), ..file("a/l", 0) };
        let directory = Entry { kind: Kind::Directory, ..file("a", 0) };
        Index { blocks: vec![(30, 10), (12, 5)], entries: vec![file("a/b", 40), file("c", 2), directory, link] }
    }

    #[test]
    fn an_index_comes_back() {
        assert_eq!(Index::from_bytes(&sample().to_bytes()).unwrap(), sample());
        assert_eq!(Index::from_bytes(&Index::default().to_bytes()).unwrap(), Index::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: fn(&mut Index)| {
            let mut index = sample();
            change(&mut index);
            Index::from_bytes(&index.to_bytes()).unwrap_err().to_string()
        };
        assert!(refused(|i| i.entries[0].path = "../b".into()).contains("leaves its directory"));
        assert!(refused(|i| i.entries[0].path = "/etc/passwd".into()).contains("absolute"));
        assert!(refused(|i| i.entries[0].path = "a/./b".into()).contains("leaves"));
        assert!(refused(|i| i.entries[0].path = "c".into()).contains("twice"));
        assert!(refused(|i| i.entries[1].path = "a/l/m".into()).contains("in place of its directory"));
        assert!(refused(|i| i.entries[0].kind = Kind::File(u64::MAX)).contains("bytes of its blocks"));
        assert!(refused(|i| i.entries[0].modified.1 = 1_000_000_000).contains("nanoseconds"));
        assert!(refused(|i| i.entries[0].path.clear()).contains("empty"));
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = sample().to_bytes();
        assert!((0..bytes.len()).all(|end| Index::from_bytes(&bytes[..end]).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Index::from_bytes(&bytes);
        }
    }
}
