//! ARM64 code with the targets of its calls, and the pages that it addresses, as absolute addresses, and what an instruction is before its operands.
//!
//! Instructions are words of 32 bits, low byte first, at multiples of four. `BL` (six bits 100101, then 26 of distance in instructions) gets
//! its own place added to the distance, modulo 2²⁶; `ADRP` (1 lo 10000, 19 bits hi, a register: a distance hi·4 + lo in pages of 4096 bytes) its own
//! page, modulo 2²¹. Neither changes what marks the instruction, so the other way finds the same ones. Then the bytes of each word change places: the mark
//! comes first, and what follows is predicted in its light.
//!
//! Programs hold data between their code. Only pieces of 4096 bytes are changed whose words mostly begin as common instructions do; a bit for each piece,
//! before everything else and filled up to a multiple of 32, says which.

/// Bytes that are code together or are not.
const PIECE: usize = 4096;
const CALL: u32 = 0x9400_0000;
const CALL_MASK: u32 = 0xFC00_0000;
const PAGE: u32 = 0x9000_0000;
const PAGE_MASK: u32 = 0x9F00_0000;

/// Highest bytes of common instructions: moves, additions, loads and stores, branches, calls, pages.
const COMMON: [u8; 40] = [
    0x0A, 0x0B, 0x11, 0x12, 0x14, 0x17, 0x1A, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x4B, 0x52, 0x54, 0x6B, 0x71,
    0x72, 0x8B, 0x90, 0x91, 0x94, 0x97, 0xA9, 0xAA, 0xB0, 0xB4, 0xB5, 0xB9, 0xCB, 0xD0, 0xD2, 0xD5, 0xD6, 0xEB, 0xF0,
    0xF1, 0xF9,
];

fn absolute(word: u32, index: usize, sign: i32) -> u32 {
    let added = |distance: u32, by: usize| distance.wrapping_add_signed(sign.wrapping_mul(by as i32));
    if word & CALL_MASK == CALL {
        return CALL | added(word, index) & !CALL_MASK;
    }
    if word & PAGE_MASK == PAGE {
        let pages = added((word >> 5 & 0x7_FFFF) << 2 | word >> 29 & 3, index >> 10);
        return word & (PAGE_MASK | 31) | (pages >> 2 & 0x7_FFFF) << 5 | (pages & 3) << 29;
    }
    word
}

fn is_code_piece(piece: &[u8]) -> bool {
    let words = piece.len() / 4;
    words > 0 && 2 * piece.chunks_exact(4).filter(|word| COMMON.contains(&word[3])).count() > words
}

/// Bytes that the bits of so many pieces take, whole words.
fn flag_bytes(length: usize) -> usize {
    length.div_ceil(PIECE).div_ceil(32) * 4
}

/// Which pieces were changed, a bit each, then everything.
pub fn forward(bytes: &[u8]) -> Vec<u8> {
    let flags = flag_bytes(bytes.len());
    let mut out = vec![0; flags];
    out.extend_from_slice(bytes);
    for (piece, original) in bytes.chunks(PIECE).enumerate() {
        if !is_code_piece(original) {
            continue;
        }
        out[piece / 8] |= 1 << (piece % 8);
        let words = out[flags + piece * PIECE..][..original.len()].chunks_exact_mut(4);
        for (index, chunk) in words.enumerate() {
            if let Ok(word) = <[u8; 4]>::try_from(&*chunk) {
                let word = absolute(u32::from_le_bytes(word), piece * (PIECE / 4) + index, 1);
                chunk.copy_from_slice(&word.to_be_bytes());
            }
        }
    }
    out
}

/// Bytes that [`forward`] makes of so many.
pub fn coded(length: usize) -> usize {
    length.saturating_add(flag_bytes(length))
}

/// What [`forward`] was given, `length` bytes; nothing where there are not as many.
pub fn backward(data: &[u8], length: usize) -> Option<Vec<u8>> {
    let (flags, body) = data.split_at_checked(flag_bytes(length)).filter(|(_, body)| body.len() == length)?;
    let mut out = body.to_vec();
    for (piece, bytes) in out.chunks_mut(PIECE).enumerate() {
        if flags[piece / 8] >> (piece % 8) & 1 == 0 {
            continue;
        }
        for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            let word = u32::from_be_bytes(<[u8; 4]>::try_from(&*chunk).ok()?);
            chunk.copy_from_slice(&absolute(word, piece * (PIECE / 4) + index, -1).to_le_bytes());
        }
    }
    Some(out)
}

/// Whether enough of the pieces are ARM64 code, with calls in them.
pub fn is_code(bytes: &[u8]) -> bool {
    let pieces = bytes.chunks(PIECE).filter(|piece| is_code_piece(piece));
    let (mut code, mut calls) = (0, 0);
    for piece in pieces {
        code += piece.len();
        calls += piece.chunks_exact(4).filter(|word| matches!(word[3], 0x94 | 0x97)).count();
    }
    code > bytes.len() / 16 && calls > code / 4 / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_same_target_becomes_the_same_bytes() {
        let mut words = vec![0xD503_201Fu32; 3000];
        for at in [3usize, 70, 2900] {
            words[at] = CALL | (1000i32 - at as i32) as u32 & !CALL_MASK;
        }
        // adrp x7, the fifth page, from the first page and the third.
        for (at, pages) in [(20usize, 5u32), (2050, 3)] {
            words[at] = PAGE | 7 | (pages >> 2) << 5 | (pages & 3) << 29;
        }
        let before = code(&words);
        let bytes = forward(&before);
        let flags = flag_bytes(before.len());
        assert_eq!((flags, bytes[0], bytes.len()), (4, 0b111, coded(before.len())));
        let word = |at: usize| u32::from_be_bytes(bytes[flags + 4 * at..][..4].try_into().unwrap());
        assert!([3, 70, 2900].iter().all(|&at| word(at) == CALL | 1000));
        assert_eq!((word(20), word(20) & 31), (word(2050), 7));
        assert_eq!(backward(&bytes, before.len()).unwrap(), before);
        assert!(backward(&bytes, before.len() + 1).is_none());
    }

    #[test]
    fn only_code_is_code() {
        let mut words = vec![0xD503_201Fu32; 3000];
        assert!(!is_code(&code(&words)));
        (0..3000).step_by(20).for_each(|at| words[at] = CALL | at as u32);
        assert!(is_code(&code(&words)));
        let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        assert!(!is_code(&noise));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(words in prop::collection::vec(prop_oneof![(0u32..1 << 26).prop_map(|n| CALL | n), any::<u32>().prop_map(|n| n & !0x0F00_0000 | PAGE), any::<u32>()], 0..3000), rest in 0usize..4) {
            let mut bytes = code(&words);
            bytes.extend(&[0x94; 4][..rest]);
            prop_assert_eq!(backward(&forward(&bytes), bytes.len()).unwrap(), bytes);
        }
    }
}
