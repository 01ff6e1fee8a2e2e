//! BLAKE3 on all threads.
//!
//! The hash is a tree over chunks of 1024 bytes, so subtrees of 64 KiB are hashed apart and their chaining values merged as
//! the specification says (Aumasson, Neves, O'Connor, Wilcox-O'Hearn 2020: BLAKE3, section 2.1); the result is that of one thread.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{Hash, Hasher};
use brevity_kernels::pool;

/// Bytes of a subtree that one thread hashes: 2^16, 64 chunks.
const SUBTREE: usize = 1 << 16;

/// A hash of bytes that come piece by piece.
#[derive(Clone, Debug, Default)]
pub struct TreeHasher {
    /// What follows the last whole subtree; never nothing once there was something, for the last subtree is merged otherwise.
    rest: Vec<u8>,
    /// Chaining values of complete subtrees, each of fewer bytes than the one before.
    stack: Vec<ChainingValue>,
    /// Subtrees of the least size that went in.
    count: u64,
}

impl TreeHasher {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        let fill = (SUBTREE - self.rest.len()).min(bytes.len());
        let (first, bytes) = if self.rest.is_empty() { (&[][..], bytes) } else { bytes.split_at(fill) };
        self.rest.extend_from_slice(first);
        if bytes.is_empty() {
            return self;
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.push(subtree(&rest, self.count));
            self.rest = rest;
            self.rest.clear();
        }
        let (whole, rest) = bytes.split_at((bytes.len() - 1) / SUBTREE * SUBTREE);
        let mut values = vec![ChainingValue::default(); whole.len() / SUBTREE];
        let before = self.count;
        pool::parallel_chunks(&mut values, 1, |index, value| {
            value[0] = subtree(&whole[index * SUBTREE..][..SUBTREE], before + index as u64);
        });
        values.into_iter().for_each(|value| self.push(value));
        self.rest.extend_from_slice(rest);
        self
    }

    /// A complete subtree, which something follows.
    fn push(&mut self, mut value: ChainingValue) {
        self.count += 1;
        for _ in 0..self.count.trailing_zeros() {
            if let Some(left) = self.stack.pop() {
                value = merge_subtrees_non_root(&left, &value, Mode::Hash);
            }
        }
        self.stack.push(value);
    }

    /// The hash of all that came.
    pub fn finalize(&self) -> Hash {
        let Some((first, others)) = self.stack.split_first() else { return blake3::hash(&self.rest) };
        let last = subtree(&self.rest, self.count);
        let right = others.iter().rev().fold(last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
        merge_subtrees_root(first, &right, Mode::Hash)
    }
}

/// The chaining value of a subtree behind so many.
fn subtree(bytes: &[u8], before: u64) -> ChainingValue {
    Hasher::new().set_input_offset(before * SUBTREE as u64).update(bytes).finalize_non_root()
}

/// The hash of these bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    TreeHasher::new().update(bytes).finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_any_length_gives_the_hash_of_one_thread() {
        let bytes: Vec<u8> = (0..9 * SUBTREE + 5).map(|i| ((i * i) >> 7) as u8 ^ i as u8).collect();
        let lengths = (0..10).flat_map(|many| [0, 1, 1023, SUBTREE - 1].map(|more| many * SUBTREE + more));
        for length in lengths.filter(|&length| length <= bytes.len()) {
            let bytes = &bytes[..length];
            assert_eq!(hash(bytes), blake3::hash(bytes), "{length} bytes");
            for piece in [1000, SUBTREE, SUBTREE + 1, 3 * SUBTREE - 1] {
                let mut hasher = TreeHasher::new();
                bytes.chunks(piece).for_each(|piece| _ = hasher.update(piece).update(&[]));
                assert_eq!(hasher.finalize(), blake3::hash(bytes), "{length} bytes in pieces of {piece}");
            }
        }
    }
}
