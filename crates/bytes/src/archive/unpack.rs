//! Files out of archives.

use super::Progress;
use super::index::{Entry, Kind};
use super::reader::Archive;
use crate::error::{Error, Result};
use brevity_formats::atomic::AtomicFile;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How to unpack.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// Whether files that exist are replaced.
    pub force: bool,
    /// Whether what is whole is saved though something else is damaged.
    pub keep_going: bool,
    /// Who is told.
    pub progress: Progress<'a>,
}

/// What was unpacked.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Entries.
    pub entries: usize,
    /// Bytes of files.
    pub bytes: u64,
    /// What was damaged: those files are written with zeros in place of what is lost, under their name and `.damaged`.
    pub damaged: Vec<(String, String)>,
}

/// Unpacks entries (all, or those of these paths and what lies below them) into a directory, which is made.
///
/// # Errors
/// If something exists already, cannot be written, or is damaged (the first damage; with `keep_going` the result tells them all).
pub fn unpack<R: Read + Seek>(
    archive: &mut Archive<R>,
    paths: &[String],
    directory: &Path,
    options: &UnpackOptions<'_>,
) -> Result<Unpacked> {
    let chosen = choose(archive, paths)?;
    let entries: Vec<Entry> = chosen.iter().map(|&entry| archive.entries()[entry].clone()).collect();
    if !options.force {
        for entry in entries.iter().filter(|entry| entry.kind != Kind::Directory) {
            let path = directory.join(&entry.path);
            if fs::symlink_metadata(&path).is_ok() {
                return Err(Error::Exists { path });
            }
        }
    }
    fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
    let mut done = Unpacked { entries: entries.len(), ..Unpacked::default() };
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        make_directory(directory, &entry.path)?;
    }
    files(archive, &chosen, directory, options, &mut done)?;
    for entry in &entries {
        if let Kind::Link(target) = &entry.kind {
            link(directory, entry, target, options.force)?;
        }
    }
    // Directories last, deepest first: writing into them changes their times, and may be forbidden by their modes.
    let mut directories: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == Kind::Directory).collect();
    directories.sort_by_key(|entry| std::cmp::Reverse(entry.path.len()));
    for entry in directories {
        dress(&directory.join(&entry.path), entry)?;
    }
    Ok(done)
}

fn choose<R: Read + Seek>(archive: &Archive<R>, paths: &[String]) -> Result<Vec<usize>> {
    if paths.is_empty() {
        return Ok((0..archive.entries().len()).collect());
    }
    let mut chosen = BTreeSet::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        let found = |entry: &Entry| entry.path == path || entry.path.starts_with(&below);
        let before = chosen.len();
        chosen.extend(archive.entries().iter().enumerate().filter(|(_, entry)| found(entry)).map(|(i, _)| i));
        if chosen.len() == before && !archive.entries().iter().any(found) {
            return Err(Error::Missing { path: path.to_owned() });
        }
    }
    Ok(chosen.into_iter().collect())
}

/// Makes a directory below `root`, with those above it. A link on the way is never followed.
fn make_directory(root: &Path, path: &str) -> Result<()> {
    let mut place = root.to_path_buf();
    for name in path.split('/') {
        place.push(name);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::Exists { path: place }),
            Err(_) => fs::create_dir(&place).map_err(|error| Error::io("create", &place, error))?,
        }
    }
    Ok(())
}

fn make_parent(root: &Path, path: &str) -> Result<()> {
    path.rsplit_once('/').map_or(Ok(()), |(parent, _)| make_directory(root, parent))
}

/// A file that is being written.
struct Open {
    entry: Entry,
    file: AtomicFile,
    damage: Option<String>,
}

fn files<R: Read + Seek>(
    archive: &mut Archive<R>,
    chosen: &[usize],
    directory: &Path,
    options: &UnpackOptions<'_>,
    done: &mut Unpacked,
) -> Result<()> {
    let is_file = |entry: &usize| matches!(archive.entries()[*entry].kind, Kind::File(_));
    let wanted: Vec<usize> = chosen.iter().copied().filter(is_file).collect();
    let spans: Vec<_> = wanted.iter().map(|&entry| archive.span(entry)).collect();
    let blocks: BTreeSet<usize> = spans.iter().flat_map(|span| archive.blocks_of(span)).collect();
    let blocks: Vec<usize> = blocks.into_iter().collect();
    let (entries, places) = (archive.entries().to_vec(), archive.blocks().to_vec());
    let mut next = 0;
    let mut open: Option<Open> = None;
    let begin = |entry: &Entry| -> Result<Open> {
        make_parent(directory, &entry.path)?;
        let path = directory.join(&entry.path);
        Ok(Open { entry: entry.clone(), file: AtomicFile::create(&path, options.force)?, damage: None })
    };
    archive.read_blocks(&blocks, |block, bytes| {
        let content = &places[block].content;
        let (bytes, damage) = match bytes {
            Ok(bytes) => (bytes, None),
            Err(error) if options.keep_going => {
                (vec![0; (content.end - content.start) as usize], Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        while next < wanted.len() && spans[next].start < content.end {
            let span = &spans[next];
            if span.end > content.start || span.is_empty() {
                let file = match &mut open {
                    Some(file) => file,
                    None => open.insert(begin(&entries[wanted[next]])?),
                };
                let from = (span.start.max(content.start) - content.start) as usize;
                let to = (span.end.min(content.end).max(content.start) - content.start) as usize;
                let part = bytes.get(from..to).unwrap_or(&[]);
                if !part.is_empty() && file.damage.is_none() {
                    file.damage.clone_from(&damage);
                }
                file.file.append(part)?;
                done.bytes += part.len() as u64;
            }
            if span.end > content.end {
                break;
            }
            if let Some(file) = open.take() {
                finish(file, directory, options, done)?;
            }
            next += 1;
        }
        if (options.progress)(done.bytes) { Ok(()) } else { Err(Error::Stopped) }
    })?;
    for &entry in &wanted[next..] {
        finish(begin(&entries[entry])?, directory, options, done)?;
    }
    Ok(())
}

fn finish(open: Open, directory: &Path, options: &UnpackOptions<'_>, done: &mut Unpacked) -> Result<()> {
    let path = directory.join(&open.entry.path);
    let Some(damage) = open.damage else {
        open.file.finish()?;
        return dress(&path, &open.entry);
    };
    // The bytes lie in the partial sibling; they get a name that says what they are.
    let mut name = path.into_os_string();
    name.push(".damaged");
    let target = PathBuf::from(name);
    if !options.force && fs::symlink_metadata(&target).is_ok() {
        return Err(Error::Exists { path: target });
    }
    fs::rename(open.file.partial_path(), &target).map_err(|error| Error::io("rename", &target, error))?;
    drop(open.file);
    done.damaged.push((open.entry.path, damage));
    Ok(())
}

#[cfg(unix)]
fn link(root: &Path, entry: &Entry, target: &str, force: bool) -> Result<()> {
    make_parent(root, &entry.path)?;
    let path = root.join(&entry.path);
    if let Ok(found) = fs::symlink_metadata(&path) {
        if !force || found.is_dir() {
            return Err(Error::Exists { path });
        }
        fs::remove_file(&path).map_err(|error| Error::io("replace", &path, error))?;
    }
    std::os::unix::fs::symlink(target, &path).map_err(|error| Error::io("create", &path, error))
}

#[cfg(not(unix))]
fn link(root: &Path, entry: &Entry, target: &str, force: bool) -> Result<()> {
    // Links need a privilege here: the target is written as a file.
    make_parent(root, &entry.path)?;
    Ok(AtomicFile::write_bytes(root.join(&entry.path), target.as_bytes(), force)?)
}

/// Gives a file or directory its mode and time.
fn dress(path: &Path, entry: &Entry) -> Result<()> {
    let (seconds, nanos) = entry.modified;
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(magnitude) } else { UNIX_EPOCH.checked_add(magnitude) };
    let time = whole.and_then(|time| time.checked_add(Duration::from_nanos(nanos.into())));
    if let Some(time) = time {
        set_time(path, time).map_err(|error| Error::io("set the time of", path, error))?;
    }
    set_mode(path, entry.mode).map_err(|error| Error::io("set the mode of", path, error))
}

fn set_time(path: &Path, time: SystemTime) -> std::io::Result<()> {
    #[cfg(windows)]
    if path.is_dir() {
        return Ok(());
    }
    let file = fs::File::open(path)?;
    file.set_modified(time)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Bits that lend the owner's rights are not taken from an archive.
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
}

#[cfg(not(unix))]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(mode & 0o200 == 0);
    fs::set_permissions(path, permissions)
}
