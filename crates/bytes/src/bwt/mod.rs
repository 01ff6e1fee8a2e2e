//! The Burrows–Wheeler transform and a coder of what it gives.
//!
//! Sorted by what follows them, bytes that come in the same context stand together (M. Burrows, D. Wheeler, 1994). [`forward`] gives the
//! byte before each suffix in their order; [`backward`] follows four chains through it at once, since each step waits for memory.
//! [`ranks`] codes the result.

pub mod ranks;
mod suffixes;

/// Chains that are followed at once.
pub const CHAINS: usize = 4;

/// The byte before each suffix (of the whole text: the last byte), and where the suffixes stand that begin each of the four parts.
pub fn forward(text: &[u8]) -> (Vec<u8>, [u32; CHAINS]) {
    let part = text.len().div_ceil(CHAINS).max(1);
    let order = suffixes::sort(text);
    let mut starts = [0; CHAINS];
    let last = text.last().copied().unwrap_or(0);
    let bytes = order.iter().enumerate().map(|(row, &suffix)| {
        let suffix = suffix as usize;
        if suffix.is_multiple_of(part) && suffix / part < CHAINS {
            starts[suffix / part] = row as u32;
        }
        suffix.checked_sub(1).map_or(last, |before| text[before])
    });
    (bytes.collect(), starts)
}

/// The text again; nothing if a start is outside.
pub fn backward(bytes: &[u8], starts: [u32; CHAINS]) -> Option<Vec<u8>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let length = bytes.len();
    if starts.iter().any(|&start| start as usize >= length) {
        return None;
    }
    // Row r of the suffix s leads to the row of s + 1. The first row's predecessor is the last suffix of all.
    let whole = starts[0] as usize;
    let mut place = [0u32; 256];
    bytes.iter().for_each(|&byte| place[usize::from(byte)] += 1);
    let mut sum = 0;
    let heads: [u32; 256] = std::array::from_fn(|byte| {
        sum += place[byte];
        sum - place[byte]
    });
    let mut place = heads;
    let mut next = vec![0u32; length];
    // The suffix of one byte, the last, is the least of its bucket: it goes first.
    let last = usize::from(bytes[whole]);
    next[place[last] as usize] = whole as u32;
    place[last] += 1;
    for (row, &byte) in bytes.iter().enumerate() {
        if row != whole {
            let slot = &mut place[usize::from(byte)];
            next[*slot as usize] = row as u32;
            *slot += 1;
        }
    }
    let part = length.div_ceil(CHAINS).max(1);
    let mut out = vec![0; length];
    let mut rows = starts;
    let mut parts: Vec<&mut [u8]> = out.chunks_mut(part).collect();
    for at in 0..part {
        for (chain, row) in parts.iter_mut().zip(&mut rows) {
            if let Some(slot) = chain.get_mut(at) {
                // The byte before the next row's suffix is the first of this one.
                *row = next[*row as usize];
                *slot = bytes[*row as usize];
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..300), few in prop::collection::vec(0u8..3, 0..300)) {
            for text in [text, few] {
                let (bytes, starts) = forward(&text);
                prop_assert_eq!(backward(&bytes, starts), Some(text));
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in any::<Vec<u8>>(), starts in any::<[u8; 4]>()) {
            let _ = backward(&bytes, starts.map(u32::from));
        }
    }
}
