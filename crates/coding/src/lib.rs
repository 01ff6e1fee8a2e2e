//! Entropy coders: numbers of known probability into the fewest bits, and back.
//!
//! - [`range`] codes one symbol after the other, first in first out: bits with a probability of 16 bits, symbols
//!   with an [`Interval`](range::Interval) of a total up to 2²⁴, raw bits.
//! - [`rans`] codes bytes by a table, 64 at a time; [`huffman`] by whole bits; [`golomb`] numbers whose size it learns; [`bits`] packs bits.
//! - [`logistic`], [`history`], [`counter`], [`bank`], [`mixer`], [`apm`] and [`denoise`] are what context mixing is made of, with the mixer's loops in
//!   [`simd`].
//! - [`cdf`] turns probabilities into such intervals, every symbol possible, the same on every machine.
//!
//! ```
//! use brevity_coding::{cdf::Cdf, range::{Decoder, Encoder}};
//! let cdf = Cdf::new(&[0.7, 0.2, 0.1], 16)?;
//! let mut encoder = Encoder::new();
//! for symbol in [0, 0, 2, 1, 0] {
//!     encoder.encode(cdf.interval(symbol)?);
//! }
//! encoder.encode_bit(true, 65_000);
//! let bytes = encoder.finish();
//! assert_eq!(bytes.len(), 1);
//!
//! let mut decoder = Decoder::new(&bytes);
//! let symbols: Vec<usize> = (0..5).map(|_| cdf.decode(&mut decoder)).collect();
//! assert_eq!(symbols, [0, 0, 2, 1, 0]);
//! assert!(decoder.decode_bit(65_000));
//! decoder.finish()?;
//! # Ok::<(), brevity_coding::Error>(())
//! ```
//!
//! Everything is integer arithmetic, or IEEE additions, multiplications and divisions in a written order: what one
//! machine encodes, any other decodes. Decoders take any bytes without a panic; what a damaged stream decodes to is
//! defined (it is what the bytes mean) and [`Decoder::finish`](range::Decoder::finish) finds most, not all, damage:
//! formats add a checksum.
#![deny(unsafe_code)]

pub mod apm;
pub mod bank;
pub mod bits;
pub mod cdf;
pub mod counter;
pub mod denoise;
mod error;
pub mod golomb;
pub mod history;
pub mod huffman;
pub mod logistic;
pub mod mixer;
pub mod range;
pub mod rans;
pub mod simd;

pub use error::Error;
