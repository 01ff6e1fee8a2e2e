//! Zip archives whose entries are stored, as `torch.save` and `numpy.savez` write them.
//!
//! The directory at the end is read (64-bit sizes included). Torch's entries (`NAME/data/0`, …) are the bytes of a storage, whose type a pickle
//! tells: here it is guessed from the bytes instead, as the kind whose planes are coded shortest.

use super::super::guess;
use super::{Kind, Tensor, npy};
use std::io::{Read, Seek, SeekFrom};

/// Bytes at the end among which the directory's end is looked for, and the longest directory that is read.
const TAIL: u64 = 1 << 16;
const LONGEST_DIRECTORY: u64 = 1 << 26;
/// Bytes of a storage that are looked at.
const SAMPLE: u64 = 1 << 16;

fn u16_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|two| u64::from(u16::from_le_bytes(*two)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|four| u64::from(u32::from_le_bytes(*four)))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

fn read_at<R: Read + Seek>(file: &mut R, offset: u64, count: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The arrays among the stored entries.
pub fn tensors<R: Read + Seek>(file: &mut R, length: u64) -> Option<Vec<Tensor>> {
    let (offset, size) = directory(file, length)?;
    if size > LONGEST_DIRECTORY || offset.checked_add(size)? > length {
        return None;
    }
    let directory = read_at(file, offset, size)?;
    let (mut at, mut found) = (0, Vec::new());
    while u32_at(&directory, at) == Some(0x0201_4B50) {
        let sizes = [u16_at(&directory, at + 28)?, u16_at(&directory, at + 30)?, u16_at(&directory, at + 32)?];
        let [name, extra, comment] = sizes.map(|size| size as usize);
        let stored = u16_at(&directory, at + 10)? == 0;
        let text = String::from_utf8_lossy(directory.get(at + 46..at + 46 + name)?).into_owned();
        let more = directory.get(at + 46 + name..at + 46 + name + extra)?;
        let (bytes, local) = place(&directory[at..], more)?;
        if stored && let Some(tensor) = entry(file, text, local, bytes, length) {
            found.push(tensor);
        }
        at += 46 + name + extra + comment;
    }
    Some(found)
}

/// Where the directory lies, and its size.
fn directory<R: Read + Seek>(file: &mut R, length: u64) -> Option<(u64, u64)> {
    let tail = read_at(file, length.saturating_sub(TAIL), length.min(TAIL))?;
    let end = (0..tail.len().checked_sub(21)?).rev().find(|&at| u32_at(&tail, at) == Some(0x0605_4B50))?;
    let (size, offset) = (u32_at(&tail, end + 12)?, u32_at(&tail, end + 16)?);
    if size != u64::from(u32::MAX) && offset != u64::from(u32::MAX) {
        return Some((offset, size));
    }
    let locator = end.checked_sub(20)?;
    if u32_at(&tail, locator)? != 0x0706_4B50 {
        return None;
    }
    let large = read_at(file, u64_at(&tail, locator + 8)?, 56)?;
    if u32_at(&large, 0)? != 0x0606_4B50 {
        return None;
    }
    Some((u64_at(&large, 48)?, u64_at(&large, 40)?))
}

/// Size and place of an entry's local header; the 64-bit ones where the short ones are full.
fn place(entry: &[u8], extra: &[u8]) -> Option<(u64, u64)> {
    let full = u64::from(u32::MAX);
    let (mut packed, raw, mut local) = (u32_at(entry, 20)?, u32_at(entry, 24)?, u32_at(entry, 42)?);
    let mut at = 0;
    while let (Some(id), Some(size)) = (u16_at(extra, at), u16_at(extra, at + 2)) {
        if id == 1 {
            let mut next = at + 4 + if raw == full { 8 } else { 0 };
            for value in [&mut packed, &mut local] {
                if *value == full {
                    *value = u64_at(extra, next)?;
                    next += 8;
                }
            }
        }
        at += 4 + size as usize;
    }
    Some((packed, local))
}

fn entry<R: Read + Seek>(file: &mut R, name: String, local: u64, bytes: u64, length: u64) -> Option<Tensor> {
    let header = read_at(file, local, 30)?;
    if u32_at(&header, 0)? != 0x0403_4B50 {
        return None;
    }
    let offset = local.checked_add(30 + u16_at(&header, 26)? + u16_at(&header, 28)?)?;
    if offset.checked_add(bytes)? > length {
        return None;
    }
    if name.ends_with(".npy") {
        return npy::tensor(file, offset, bytes).map(|tensor| Tensor { name, ..tensor });
    }
    // The first name is that of the file.
    let (_, inner) = name.split_once('/')?;
    inner.strip_prefix("data/")?;
    // Whole pages are fairer than the first bytes, and as quick.
    let middle = offset + ((bytes.saturating_sub(SAMPLE) / 2) & !63);
    let sample = read_at(file, middle, bytes.min(SAMPLE))?;
    let kind = guess::kind(&sample).unwrap_or(Kind::Bytes);
    Some(Tensor { name: inner.to_owned(), kind, offset, bytes, row: 0, base: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A zip of one stored entry.
    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let size = (content.len() as u32).to_le_bytes();
        let mut fixed = vec![0; 26];
        fixed[14..18].copy_from_slice(&size);
        fixed[18..22].copy_from_slice(&size);
        fixed[22] = name.len() as u8;
        let mut file = b"PK\x03\x04".to_vec();
        file.extend(&fixed);
        file.extend(name.bytes().chain(content.iter().copied()));
        let start = file.len();
        let mut entry = b"PK\x01\x02\0\0".to_vec();
        entry.extend(&fixed);
        entry.extend([0; 14]);
        file.extend(entry.iter().copied().take(46).chain(name.bytes()));
        let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
        end.extend(((file.len() - start) as u32).to_le_bytes());
        end.extend((start as u32).to_le_bytes());
        file.extend(end.iter().copied().chain([0; 2]));
        file
    }

    #[test]
    fn stored_storages_are_found_and_cuts_are_not() {
        let content: Vec<u8> =
            (0..20_000u32).flat_map(|n| ((n.wrapping_mul(2_654_435_761) >> 8) as f32 - 8e6).to_le_bytes()).collect();
        let file = archive("model/data/0", &content);
        let found = tensors(&mut Cursor::new(&file), file.len() as u64).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].offset, found[0].bytes), (Kind::Float32, 42, 80_000));
        assert_eq!(found[0].name, "data/0");
        for cut in (0..file.len()).step_by(997) {
            let found = tensors(&mut Cursor::new(&file[..cut]), cut as u64).unwrap_or_default();
            assert!(found.is_empty());
        }
    }

    #[test]
    fn any_flipped_byte_is_survived() {
        let file = archive("model/data/0", &[7; 300]);
        for at in (0..60).chain(330..file.len()) {
            for value in [0, 1, 127, 255] {
                let mut file = file.clone();
                file[at] = value;
                let found = tensors(&mut Cursor::new(&file), file.len() as u64).unwrap_or_default();
                assert!(found.iter().all(|tensor| tensor.offset + tensor.bytes <= file.len() as u64));
            }
        }
    }
}
