//! Archives as files: what goes in comes out, and nothing wrong goes unnoticed.

use brevity_bytes::Error;
use brevity_bytes::archive::{Archive, PackOptions, UnpackOptions, pack, pack_stream, unpack};
use brevity_bytes::level::{LEVELS, Level};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

const MEMORY: u64 = 1 << 30;

fn options(level: u8, block: Option<usize>) -> PackOptions<'static> {
    PackOptions { level: Level::of(level).unwrap(), block, memory: MEMORY, progress: &|_| true }
}

const UNPACK: UnpackOptions<'static> = UnpackOptions { force: false, keep_going: false, progress: &|_| true };

fn packed(paths: &[PathBuf], level: u8, block: Option<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    pack(paths, &mut out, &options(level, block)).unwrap();
    out
}

fn stream(bytes: &[u8], level: u8, block: Option<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    pack_stream("data", &mut &bytes[..], &mut out, &options(level, block)).unwrap();
    out
}

fn open(archive: &[u8]) -> Result<Archive<Cursor<Vec<u8>>>, Error> {
    Archive::open(Cursor::new(archive.to_vec()), MEMORY)
}

/// All of an archive's only file.
fn content(archive: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = open(archive)?;
    let mut out = Vec::new();
    archive.read(0, 0..u64::MAX, |part| {
        out.extend_from_slice(part);
        Ok(())
    })?;
    Ok(out)
}

fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{n}: the quick brown Fox no. {} jumps\n", n * n % 97).into_bytes()).collect()
}

fn tree(root: &Path) {
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/text.txt"), text(300)).unwrap();
    fs::write(root.join("deep/nothing"), b"").unwrap();
    fs::write(root.join("zeros.bin"), vec![0; 70_000]).unwrap();
    fs::write(root.join("größe.txt"), "Größe 日本語").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        symlink("../../outside", root.join("deep/link")).unwrap();
        fs::set_permissions(root.join("zeros.bin"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(root.join("deep/er"), fs::Permissions::from_mode(0o750)).unwrap();
    }
}

/// Path, content or target, mode and time of everything below.
fn survey(root: &Path) -> Vec<(PathBuf, String, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let what = if about.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if about.is_dir() {
                open.push(path.clone());
                format!("directory {:?}", about.permissions())
            } else {
                format!("{:?} {:?}", about.permissions(), fs::read(&path).unwrap())
            };
            let time = if about.is_symlink() { std::time::UNIX_EPOCH } else { about.modified().unwrap() };
            found.push((path.strip_prefix(root).unwrap().to_path_buf(), what, time));
        }
    }
    found.sort();
    found
}

#[test]
fn a_directory_comes_back_as_it_was_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    tree(&root);
    // The networks of 8 and 9 take their time: they have a test of their own.
    for level in LEVELS.iter().filter(|level| level.number < 8) {
        for block in [None, Some(5000)] {
            let bytes = packed(std::slice::from_ref(&root), level.number, block);
            let out = dir.path().join(format!("out-{}-{}", level.number, block.is_some()));
            unpack(&mut open(&bytes).unwrap(), &[], &out, &UNPACK).unwrap();
            assert_eq!(survey(&out), survey(&root), "level {}", level.number);
            assert!(bytes == packed(std::slice::from_ref(&root), level.number, block), "packed twice, not the same");
        }
    }
}

#[test]
fn threads_and_vectors_do_not_change_an_archive() {
    for (level, lines) in [(1, 9000), (2, 9000), (3, 9000), (5, 9000), (6, 2500), (9, 120)] {
        let data = text(lines);
        brevity_kernels::pool::set_threads(1);
        let one = stream(&data, level, Some(60_000));
        brevity_kernels::pool::set_threads(2);
        assert!(stream(&data, level, Some(60_000)) == one);
        let scalar = brevity_kernels::Isa::Scalar.with(|| stream(&data[..data.len().min(50_000)], level, None));
        assert!(stream(&data[..data.len().min(50_000)], level, None) == scalar);
        assert_eq!(content(&one).unwrap(), data);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for level in [1, 5] {
        let archive = stream(&text(12), level, Some(4096));
        assert_eq!(content(&archive).unwrap(), text(12));
        for bit in 0..8 * archive.len() {
            let mut damaged = archive.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(content(&damaged).is_err(), "level {level}, bit {bit} of {}", 8 * archive.len());
        }
    }
}

#[test]
fn every_cut_is_found() {
    let archive = stream(&text(40), 2, Some(4096));
    for length in 0..archive.len() {
        assert!(content(&archive[..length]).is_err(), "cut to {length} of {}", archive.len());
        assert!(content(&archive[archive.len() - length..]).is_err());
    }
    assert!(content(&[archive.as_slice(), b"x"].concat()).is_err());
}

#[test]
fn little_grows_by_little() {
    let mut seed = 7u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(200_000)
    .collect();
    for level in LEVELS {
        let most = match level.number {
            ..6 => 200_000,
            6 | 7 => 30_000,
            _ => 3_000,
        };
        for length in [0, 1, most] {
            let archive = stream(&noise[..length], level.number, None);
            assert!(archive.len() <= length + 256 + 64 + 4, "level {}: {length} → {}", level.number, archive.len());
            assert_eq!(content(&archive).unwrap(), &noise[..length]);
        }
    }
}

#[test]
fn a_part_is_read_from_the_blocks_that_hold_it() {
    let data = text(3000);
    let archive = stream(&data, 1, Some(10_000));
    let mut archive = open(&archive).unwrap();
    assert!(archive.blocks().len() > 8);
    for (from, to) in [(0, 5), (9_990, 10_010), (25_000, 61_000), (data.len() as u64 - 3, u64::MAX), (5, 5)] {
        let mut out = Vec::new();
        let mut take = |part: &[u8]| {
            out.extend_from_slice(part);
            Ok(())
        };
        archive.read(0, from..to, &mut take).unwrap();
        assert_eq!(out, &data[from as usize..to.min(data.len() as u64) as usize]);
    }
}

#[test]
fn what_is_whole_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    for n in 0..6 {
        fs::write(root.join(format!("{n}.txt")), text(150 + n)).unwrap();
    }
    let mut bytes = packed(std::slice::from_ref(&root), 2, Some(6000));
    let hit = open(&bytes).unwrap().blocks()[1].clone();
    bytes[hit.offset as usize + 60] ^= 4;
    let out = dir.path().join("out");
    assert!(matches!(unpack(&mut open(&bytes).unwrap(), &[], &out, &UNPACK), Err(Error::Damaged { .. })));
    let going = UnpackOptions { force: true, keep_going: true, ..UNPACK };
    let done = unpack(&mut open(&bytes).unwrap(), &[], &out, &going).unwrap();
    assert!(!done.damaged.is_empty() && done.damaged.len() < 4);
    for n in 0..6 {
        let name = format!("{n}.txt");
        let damaged = done.damaged.iter().any(|(path, _)| *path == name);
        assert_eq!(out.join(format!("{name}.damaged")).exists(), damaged);
        if damaged {
            let found = fs::read(out.join(format!("{name}.damaged"))).unwrap();
            assert_eq!(found.len(), text(150 + n).len());
        } else {
            assert_eq!(fs::read(out.join(&name)).unwrap(), text(150 + n));
        }
    }
}

#[test]
fn some_paths_are_taken_and_absent_ones_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    tree(&root);
    let bytes = packed(std::slice::from_ref(&root), 1, None);
    let out = dir.path().join("out");
    unpack(&mut open(&bytes).unwrap(), &["deep/er/".into()], &out, &UNPACK).unwrap();
    assert!(out.join("deep/er/text.txt").exists() && !out.join("zeros.bin").exists());
    let missing = unpack(&mut open(&bytes).unwrap(), &["dee".into()], &out, &UNPACK).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
}

#[test]
fn what_exists_needs_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    fs::write(&file, b"new").unwrap();
    let bytes = packed(&[file], 1, None);
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("a.txt"), b"old").unwrap();
    let refused = unpack(&mut open(&bytes).unwrap(), &[], &out, &UNPACK).unwrap_err();
    assert!(matches!(refused, Error::Exists { .. }));
    assert_eq!(fs::read(out.join("a.txt")).unwrap(), b"old");
    unpack(&mut open(&bytes).unwrap(), &[], &out, &UnpackOptions { force: true, ..UNPACK }).unwrap();
    assert_eq!(fs::read(out.join("a.txt")).unwrap(), b"new");
}

#[test]
#[cfg(unix)]
fn links_are_never_followed_out() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out, elsewhere) = (dir.path().join("root"), dir.path().join("out"), dir.path().join("elsewhere"));
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("d/f"), b"secret").unwrap();
    let bytes = packed(&[root], 1, None);
    fs::create_dir_all(&out).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("d")).unwrap();
    let refused = unpack(&mut open(&bytes).unwrap(), &["d/f".into()], &out, &UnpackOptions { force: true, ..UNPACK });
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
    assert!(!elsewhere.join("f").exists());
}

#[test]
fn names_that_meet_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("same"), folder).unwrap();
    }
    let paths = [dir.path().join("a/same"), dir.path().join("b/same")];
    let refused = pack(&paths, &mut Vec::new(), &options(1, None)).unwrap_err();
    assert!(matches!(refused, Error::Path { .. }), "{refused}");
}

#[test]
fn strangers_and_later_versions_are_named() {
    assert!(matches!(open(b"PK\x03\x04 and more than enough bytes").err(), Some(Error::Magic { .. })));
    assert!(matches!(open(b"").err(), Some(Error::Magic { .. })));
    let mut later = stream(b"x", 1, None);
    later[7] = 200;
    assert!(matches!(open(&later).err(), Some(Error::Version { found: 200, .. })));
}

#[test]
fn what_needs_too_much_memory_is_refused() {
    let archive = stream(&vec![b'a'; 3_000_000], 1, None);
    let mut archive = Archive::open(Cursor::new(archive), 1 << 20).unwrap();
    let refused = archive.read(0, 0..1, |_| Ok(())).unwrap_err();
    assert!(matches!(refused, Error::Memory { .. }), "{refused}");
}
