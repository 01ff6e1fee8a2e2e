//! Interleaved rANS of bytes: 64 states side by side, one table a stream.
//!
//! After J. Duda, "Asymmetric numeral systems" (2013, arXiv 1311.2540), interleaved as by F. Giesen, "Interleaved entropy coders"
//! (2014, arXiv 1402.3392).
//!
//! Frequencies `f` sum to `M = 2¹²`, `c` are their cumulative sums. A state `x` of `[2¹⁵, 2³¹)` takes a symbol by
//!
//! `x ← (x / f) · M + c + (x mod f)`, after its low 16 bits were written if `x ≥ f · 2¹⁹`,
//!
//! and gives it back by `f · (x >> 12) + (x mod M) − c`, after which 16 bits are read if `x < 2¹⁵`. Symbol `i` belongs to state
//! `i mod 64`; the encoder goes from the last symbol to the first, so that the decoder goes forward: 64 states of 32 bits, then words of 16
//! bits, all little-endian. At the end every state is 2¹⁵ again and every word is read, which finds most damage, not all.
//!
//! Every step of 64 symbols is a handful of vector instructions ([`Backend`]); the scalar form is the specification and gives the same bytes.

mod scalar;
mod table;
pub mod varied;

pub(crate) use scalar::{Step, encode_step};
pub use table::{Entries, Table};

use crate::error::Error;
use crate::simd::{Backend, rans as vector};

/// States side by side.
pub const LANES: usize = 64;
/// log₂ of the sum of all frequencies.
pub const BITS: u32 = 12;
/// Every state is at least this, and begins and ends there.
pub(crate) const LEAST: u32 = 1 << 15;

/// The 64 states.
pub(crate) type States = [u32; LANES];

/// Encodes; holds the room that it needs, so that many streams take it once.
#[derive(Debug, Default, Clone)]
pub struct Encoder {
    words: Vec<u16>,
}

impl Encoder {
    /// Appends the stream of symbols, each of which must have a frequency in the table.
    ///
    /// # Errors
    /// [`Error::Symbol`] for one that has none.
    pub fn encode(&mut self, table: &Table, symbols: &[u8], backend: Backend, out: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(symbol) = table.missing(symbols) {
            return Err(Error::Symbol { symbol: usize::from(symbol), symbols: 256 });
        }
        let steps = table.steps();
        let mut states = [LEAST; LANES];
        // From the end: a symbol gives at most one word, and vectors store sixteen words at once.
        let room = symbols.len() + 16;
        if self.words.len() < room {
            self.words.resize(room, 0);
        }
        let mut at = self.words.len();
        let (whole, rest) = symbols.split_at(symbols.len() / LANES * LANES);
        scalar::encode_step(steps, &mut states, rest, &mut self.words, &mut at);
        vector::encode(backend, steps, &mut states, whole, &mut self.words, &mut at);
        let words = &self.words[at..];
        out.reserve(4 * LANES + 2 * words.len());
        states.iter().for_each(|state| out.extend_from_slice(&state.to_le_bytes()));
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        Ok(())
    }
}

/// Encodes one stream.
///
/// # Errors
/// As [`Encoder::encode`].
pub fn encode(table: &Table, symbols: &[u8], backend: Backend) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    Encoder::default().encode(table, symbols, backend, &mut out)?;
    Ok(out)
}

/// Decodes as many symbols as `out` has room for.
///
/// # Errors
/// [`Error::Truncated`] or [`Error::Trailing`] if the stream is not what an encoder made of so many symbols.
pub fn decode(table: &Table, bytes: &[u8], out: &mut [u8], backend: Backend) -> Result<(), Error> {
    let cut = |missing| Error::Truncated { length: bytes.len(), missing };
    let (head, words) = bytes.split_at_checked(4 * LANES).ok_or_else(|| cut(4 * LANES - bytes.len()))?;
    let mut states = [0; LANES];
    for (state, four) in states.iter_mut().zip(head.as_chunks::<4>().0) {
        // Bits that no encoder sets are dropped, so that all arithmetic stays below 2³².
        *state = u32::from_le_bytes(*four) & (i32::MAX as u32);
    }
    let entries = &*table.entries();
    let mut at = 0;
    let done = vector::decode(backend, entries, &mut states, words, &mut at, out);
    for step in out[done..].chunks_mut(LANES) {
        scalar::decode_step(entries, &mut states, words, &mut at, step);
    }
    if at > words.len() {
        return Err(cut(at - words.len()));
    }
    if at < words.len() || states != [LEAST; LANES] {
        return Err(Error::Trailing { length: bytes.len(), used: 4 * LANES + at });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKENDS: [Backend; 3] = [Backend::Scalar, Backend::Avx2, Backend::Avx512];

    fn table(symbols: &[u8]) -> Option<Table> {
        let mut counts = [0; 256];
        symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
        Table::new(&counts)
    }

    /// Bytes whose symbols are the rarer the higher, `skew` times.
    fn skewed(length: usize, skew: u32, seed: u32) -> Vec<u8> {
        let mut x = seed | 1;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x
        };
        (0..length).map(|_| (0..skew).fold(255u32, |least, _| least.min(next() >> 24)) as u8).collect()
    }

    fn round_trip(symbols: &[u8]) {
        let Some(table) = table(symbols) else { return };
        let packed = encode(&table, symbols, Backend::Scalar).unwrap();
        for backend in BACKENDS {
            assert!(encode(&table, symbols, backend).unwrap() == packed, "{backend:?}");
            let mut back = vec![0; symbols.len()];
            decode(&table, &packed, &mut back, backend).unwrap();
            assert!(back == symbols, "{backend:?}");
        }
    }

    #[test]
    fn long_streams_come_back_on_every_backend() {
        for skew in [1, 2, 5, 30] {
            round_trip(&skewed(100_003, skew, 7 + skew));
        }
        let mut lonely = vec![3u8; 70_000];
        lonely[41_000] = 200;
        round_trip(&lonely);
    }

    #[test]
    fn a_symbol_without_frequency_is_refused() {
        let table = table(&[1, 2, 1]).unwrap();
        assert!(matches!(encode(&table, &[1, 3], Backend::Scalar), Err(Error::Symbol { symbol: 3, .. })));
    }

    #[test]
    fn cuts_and_additions_are_found() {
        let symbols = skewed(5000, 3, 1);
        let table = table(&symbols).unwrap();
        let packed = encode(&table, &symbols, Backend::Scalar).unwrap();
        let mut out = vec![0; symbols.len()];
        for backend in BACKENDS {
            assert!(matches!(decode(&table, &packed[..9], &mut out, backend), Err(Error::Truncated { .. })));
            assert!(decode(&table, &packed[..packed.len() - 2], &mut out, backend).is_err());
            let longer = [packed.as_slice(), &[0, 0]].concat();
            assert!(matches!(decode(&table, &longer, &mut out, backend), Err(Error::Trailing { .. })));
        }
    }

    proptest! {
        #[test]
        fn symbols_come_back(symbols in any::<Vec<u8>>(), length in 0usize..3000, skew in 1u32..20, seed in any::<u32>()) {
            round_trip(&symbols);
            round_trip(&skewed(length, skew, seed));
        }

        #[test]
        fn any_bytes_decode_to_the_same_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 200..2000), length in 0usize..2000) {
            let table = table(&skewed(5000, 4, 3)).unwrap();
            let decoded = BACKENDS.map(|backend| {
                let mut out = vec![0; length];
                (decode(&table, &bytes, &mut out, backend), out)
            });
            prop_assert_eq!(&decoded[0], &decoded[1]);
            prop_assert_eq!(&decoded[0], &decoded[2]);
        }
    }
}
