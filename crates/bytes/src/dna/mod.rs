//! DNA: files whose bytes are bases, one each, with or without lines, names, small letters and unknown bases.
//!
//! The bases (A, C, G, T) are coded by [`encode`]. Everything else is told apart from them: where letters are small, as lengths of
//! runs; and other bytes, each as the bases before it since the last, and itself, equal ones counted. Both lists are streams of
//! varints, which the byte engine packs.

mod model;

pub use model::{decode, encode, memory};

use crate::varint;

const LETTERS: [u8; 4] = *b"ACGT";

fn base(byte: u8) -> Option<u8> {
    LETTERS.iter().position(|&letter| letter == byte.to_ascii_uppercase()).map(|at| at as u8)
}

/// Whether nine bytes of ten of a sample are bases, and all four occur.
pub fn is_dna(bytes: &[u8]) -> bool {
    if bytes.len() < 4096 {
        return false;
    }
    let step = (bytes.len() / 65_536).max(1);
    let mut counts = [0usize; 4];
    let mut total = 0usize;
    for &byte in bytes.iter().step_by(step) {
        total += 1;
        if let Some(base) = base(byte) {
            counts[usize::from(base)] += 1;
        }
    }
    counts.iter().all(|&count| count * 50 > total) && counts.iter().sum::<usize>() * 10 > total * 9
}

/// A file told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// 0 to 3.
    pub bases: Vec<u8>,
    /// Runs of capitals and small letters in turn, among the bases.
    pub cases: Vec<u8>,
    /// Bases between, the byte, how often more it follows itself.
    pub others: Vec<u8>,
}

/// Bases, cases and the rest.
pub fn split(bytes: &[u8]) -> Parts {
    let mut parts = Parts { bases: Vec::with_capacity(bytes.len()), ..Parts::default() };
    let (mut small, mut run, mut gap) = (false, 0u64, 0u64);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if let Some(base) = base(byte) {
            if byte.is_ascii_lowercase() != small {
                varint::put(run, &mut parts.cases);
                (small, run) = (!small, 0);
            }
            parts.bases.push(base);
            (run, gap) = (run + 1, gap + 1);
        } else {
            let more = bytes[at..].iter().take_while(|&&next| next == byte).count();
            at += more;
            varint::put(gap, &mut parts.others);
            parts.others.push(byte);
            varint::put(more as u64, &mut parts.others);
            gap = 0;
        }
    }
    parts
}

/// The file again, `length` bytes of it; nothing if these are not what [`split`] gives.
pub fn join(parts: &Parts, length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    let (mut cases, mut others) = (&parts.cases[..], &parts.others[..]);
    let number = |rest: &mut &[u8]| varint::take(rest).and_then(|n| usize::try_from(n).ok());
    let mut run = if cases.is_empty() { usize::MAX } else { number(&mut cases)? };
    let mut small = false;
    let mut bases = parts.bases.iter();
    loop {
        let gap = if others.is_empty() { bases.len() } else { number(&mut others)? };
        for _ in 0..gap {
            let letter = LETTERS[usize::from(*bases.next()?) & 3];
            if run == 0 {
                small = !small;
                run = if cases.is_empty() { usize::MAX } else { number(&mut cases)? };
            }
            run = run.checked_sub(1)?;
            out.push(if small { letter.to_ascii_lowercase() } else { letter });
        }
        let Some((&byte, rest)) = others.split_first() else { break };
        others = rest;
        let count = number(&mut others)?.checked_add(1)?;
        if count > length.checked_sub(out.len())? {
            return None;
        }
        out.resize(out.len() + count, byte);
        if others.is_empty() && bases.len() == 0 {
            break;
        }
    }
    (out.len() == length && cases.is_empty() && bases.len() == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use brevity_coding::simd::Backend;
    use proptest::prelude::*;

    #[test]
    fn the_other_strand_and_mutated_repeats_are_found() {
        let mut seed = 7u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32
        };
        let first: Vec<u8> = (0..20_000).map(|_| random() as u8 & 3).collect();
        let mut second: Vec<u8> = first.iter().rev().map(|base| 3 - base).collect();
        second.iter_mut().step_by(200).for_each(|base| *base ^= 1);
        let mut bases = [first.clone(), second].concat();
        let before = bases.clone();
        let alone = encode(&mut first.clone(), Backend::best()).len();
        let both = encode(&mut bases, Backend::best());
        assert!(both.len() < alone + alone / 10, "{alone} alone, {} with its complement", both.len());
        let mut back = vec![0; before.len()];
        decode(&both, &mut back, Backend::Scalar);
        assert!(back == before);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(text in "[ACGTacgtN>\\n]{0,200}") {
            let parts = split(text.as_bytes());
            prop_assert_eq!(join(&parts, text.len()), Some(text.into_bytes()));
        }

        #[test]
        fn any_parts_are_joined_or_refused(bases in prop::collection::vec(0u8..4, 0..20), cases: Vec<u8>, others: Vec<u8>, length in 0usize..60) {
            if let Some(bytes) = join(&Parts { bases, cases, others }, length) {
                prop_assert_eq!(bytes.len(), length);
            }
        }
    }
}
