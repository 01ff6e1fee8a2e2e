//! Frames: a block or the index with its lengths and hashes.

use crate::error::{Error, Result};

/// Bytes of a frame before its payload.
pub const HEADER: usize = 41;
/// Bytes of the end of an archive.
pub const TRAILER: usize = 25;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Block = b'B' as isize,
    Index = b'I' as isize,
}

type Hash = [u8; 16];

/// The first 16 bytes of BLAKE3.
fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    out
}

/// The hash of what a frame stands for.
pub fn content_hash(raw: &[u8]) -> Hash {
    hash(&[raw])
}

/// A frame's header, read or to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: Tag,
    pub raw: u32,
    pub packed: u32,
    pub content: Hash,
    check: Hash,
}

impl Header {
    /// For a payload that stands for `raw` bytes of this hash.
    pub fn new(tag: Tag, raw: u32, content: Hash, payload: &[u8]) -> Self {
        let mut header = Self { tag, raw, packed: payload.len() as u32, content, check: [0; 16] };
        header.check = header.expected(payload);
        header
    }

    fn expected(&self, payload: &[u8]) -> Hash {
        let bytes = self.to_bytes();
        hash(&[&bytes[..25], payload])
    }

    /// Tag, lengths, hash of the content, hash of all that and the payload.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = self.tag as u8;
        out[1..5].copy_from_slice(&self.raw.to_le_bytes());
        out[5..9].copy_from_slice(&self.packed.to_le_bytes());
        out[9..25].copy_from_slice(&self.content);
        out[25..].copy_from_slice(&self.check);
        out
    }

    /// Reads a header; nothing for another tag.
    pub fn from_bytes(bytes: &[u8; HEADER]) -> Option<Self> {
        let tag = [Tag::Block, Tag::Index].into_iter().find(|tag| *tag as u8 == bytes[0])?;
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let hash = |at: usize| std::array::from_fn(|i| bytes[at + i]);
        Some(Self { tag, raw: number(1), packed: number(5), content: hash(9), check: hash(25) })
    }

    /// Whether header and payload are as they were written.
    pub fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.packed as usize && self.check == self.expected(payload)
    }
}

/// The end of an archive: where the index begins, and the hash of that.
pub fn trailer(index: u64) -> [u8; TRAILER] {
    let mut out = [0; TRAILER];
    out[0] = b'E';
    out[1..9].copy_from_slice(&index.to_le_bytes());
    let check = hash(&[&out[..9]]);
    out[9..].copy_from_slice(&check);
    out
}

/// Where the index begins, from the end of an archive of `length` bytes.
pub fn read_trailer(bytes: &[u8; TRAILER], length: u64) -> Result<u64> {
    let mut place = [0; 8];
    place.copy_from_slice(&bytes[1..9]);
    let index = u64::from_le_bytes(place);
    if trailer(index) != *bytes {
        return Err(Error::Truncated { length });
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_every_flipped_bit_is_seen() {
        let header = Header::new(Tag::Block, 77, content_hash(b"content"), b"payload");
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Some(header));
        assert!(header.holds(b"payload") && !header.holds(b"Payload") && !header.holds(b"payloa"));
        for bit in 0..8 * HEADER {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::from_bytes(&bytes).is_none_or(|header| !header.holds(b"payload")), "bit {bit}");
        }
    }

    #[test]
    fn trailers_come_back_and_every_flipped_bit_is_seen() {
        let bytes = trailer(123_456);
        assert_eq!(read_trailer(&bytes, 1).unwrap(), 123_456);
        for bit in 0..8 * TRAILER {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read_trailer(&bytes, 9), Err(Error::Truncated { length: 9 })), "bit {bit}");
        }
    }
}
