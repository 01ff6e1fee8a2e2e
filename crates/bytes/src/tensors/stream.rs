//! A plane of bytes on its own: raw, one byte, rANS or Huffman, whichever is shortest.
//!
//! | first byte | then |
//! |---|---|
//! | 0 | the bytes |
//! | 1 | the byte that all are |
//! | 2 | number of bytes that follow (varint); the frequencies as bits; the states and words of [`rans`] |
//! | 3 | number of bytes that follow (varint); the lengths and the symbols of [`brevity_coding::huffman`], as bits |

use crate::varint;
use brevity_coding::bits::{BitReader, BitWriter};
use brevity_coding::huffman::Codes;
use brevity_coding::rans::{self, Table};
use brevity_coding::simd::Backend;
use std::borrow::Cow;

const RAW: u8 = 0;
const FILL: u8 = 1;
const RANS: u8 = 2;
const HUFFMAN: u8 = 3;

/// Below this many bytes rANS' states cost more than they save.
const LEAST_RANS: usize = 4096;

/// How often each byte occurs. Four tables, as the same byte often follows itself.
fn histogram(bytes: &[u8]) -> [u32; 256] {
    let mut tables = [[0u32; 256]; 4];
    let (fours, rest) = bytes.as_chunks::<4>();
    for four in fours {
        for (table, &byte) in tables.iter_mut().zip(four) {
            table[usize::from(byte)] += 1;
        }
    }
    rest.iter().for_each(|&byte| tables[0][usize::from(byte)] += 1);
    std::array::from_fn(|byte| tables.iter().map(|table| table[byte]).sum())
}

/// Whether a sample looks as if nothing could be gained.
fn is_noise(bytes: &[u8]) -> bool {
    const SAMPLE: usize = 8192;
    if bytes.len() < 2 * SAMPLE {
        return false;
    }
    let step = bytes.len() / (SAMPLE / 64);
    let mut counts = [0u64; 256];
    for run in bytes.chunks(step) {
        run.iter().take(64).for_each(|&byte| counts[usize::from(byte)] += 1);
    }
    // Σ n² is n + n²/256 for equal shares; 1.04 times that is a gain of about 0.5 %.
    let total: u64 = counts.iter().sum();
    let squares: u64 = counts.iter().map(|n| n * n).sum();
    squares * 25 < (total + total * total / 256) * 26
}

/// Encodes planes.
pub struct Encoder {
    backend: Backend,
    rans: rans::Encoder,
    coded: Vec<u8>,
}

impl Encoder {
    /// With room for nothing yet.
    pub fn new(backend: Backend) -> Self {
        Self { backend, rans: rans::Encoder::default(), coded: Vec::new() }
    }

    /// Appends a plane.
    pub fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some((&first, rest)) = bytes.split_first() else { return };
        if !is_noise(bytes) {
            if rest.iter().all(|&byte| byte == first) {
                return out.extend([FILL, first]);
            }
            let counts = histogram(bytes);
            self.coded.clear();
            let mode = if bytes.len() >= LEAST_RANS { RANS } else { HUFFMAN };
            let coded = if mode == RANS { self.rans(bytes, &counts) } else { self.huffman(bytes, &counts) };
            if coded.is_some() && self.coded.len() + 4 < bytes.len() - bytes.len() / 128 {
                out.push(mode);
                varint::put(self.coded.len() as u64, out);
                return out.extend_from_slice(&self.coded);
            }
        }
        out.push(RAW);
        out.extend_from_slice(bytes);
    }

    fn rans(&mut self, bytes: &[u8], counts: &[u32; 256]) -> Option<()> {
        let table = Table::new(counts)?;
        if table.cost(counts) / 8.0 > bytes.len() as f64 * 0.99 - 300.0 {
            return None;
        }
        let mut head = BitWriter::new();
        table.write(&mut head);
        self.coded.extend(head.finish());
        self.rans.encode(&table, bytes, self.backend, &mut self.coded).ok()
    }

    fn huffman(&mut self, bytes: &[u8], counts: &[u32; 256]) -> Option<()> {
        let codes = Codes::new(counts);
        let mut out = BitWriter::new();
        codes.write(&mut out);
        bytes.iter().for_each(|&byte| codes.put(usize::from(byte), &mut out));
        self.coded.extend(out.finish());
        Some(())
    }
}

/// Takes a plane of so many bytes; nothing if it is not what an encoder writes.
pub fn decode<'a>(input: &mut &'a [u8], length: usize, backend: Backend) -> Option<Cow<'a, [u8]>> {
    if length == 0 {
        return Some(Cow::Borrowed(&[]));
    }
    let mode = take(input, 1)?[0];
    match mode {
        RAW => Some(Cow::Borrowed(take(input, length)?)),
        FILL => Some(Cow::Owned(vec![take(input, 1)?[0]; length])),
        RANS | HUFFMAN => {
            let coded = usize::try_from(varint::take(input)?).ok()?;
            let coded = take(input, coded)?;
            let mut bits = BitReader::new(coded);
            let mut out = vec![0; length];
            if mode == RANS {
                let table = Table::read(&mut bits).ok()?;
                rans::decode(&table, coded.get(bits.position()..)?, &mut out, backend).ok()?;
            } else {
                Codes::read(&mut bits, 256).ok()?.decoder().bytes(&mut bits, &mut out);
                if bits.overran() {
                    return None;
                }
            }
            Some(Cow::Owned(out))
        }
        _ => None,
    }
}

/// Takes bytes from the front.
pub fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let mut out = Vec::new();
        Encoder::new(Backend::best()).encode(bytes, &mut out);
        for backend in [Backend::Scalar, Backend::Avx2, Backend::Avx512] {
            let mut input = out.as_slice();
            assert_eq!(decode(&mut input, bytes.len(), backend).as_deref(), Some(bytes));
            assert!(input.is_empty());
        }
        assert!(out.len() <= bytes.len() + 1);
        out.len()
    }

    #[test]
    fn each_way_is_taken_where_it_pays() {
        let noise: Vec<u8> = (0..60_000u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u8).collect();
        assert_eq!(round_trip(&noise), noise.len() + 1);
        assert_eq!(round_trip(&[7; 50_000]), 2);
        let few: Vec<u8> = noise.iter().map(|byte| 120 + byte.trailing_zeros() as u8).collect();
        let packed = round_trip(&few) as f64 / few.len() as f64;
        assert!((0.24..0.26).contains(&packed), "{packed}");
        assert!(round_trip(&few[..1000]) < 320);
        round_trip(&[]);
    }

    proptest! {
        #[test]
        fn planes_come_back(bytes in any::<Vec<u8>>(), length in 0usize..9000, modulus in 1u8..=255) {
            round_trip(&bytes);
            round_trip(&(0..length).map(|n| ((n * n) >> 3) as u8 % modulus).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_a_plane_or_refused(mut bytes in any::<Vec<u8>>(), mode in 0u8..5, length in 0usize..600) {
            bytes.insert(0, mode);
            if let Some(plane) = decode(&mut bytes.as_slice(), length, Backend::best()) {
                prop_assert_eq!(plane.len(), length);
            }
        }
    }
}
