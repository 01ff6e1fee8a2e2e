//! Frames: the scales and minima of blocks as the format stores them, with the codes left to choose.
//!
//! Methods that choose codes one by one (GPTQ and its kin: the error of each code is fed into the weights that follow) need
//! the grid of a weight before its code: `ŵ = scale · level(code) − min`. [`Frames::fit`] runs the search of
//! [`quantize`](super::quantize) (in the plain sense of least squares) and keeps the scales; the caller rounds weights to the nearest code of their place, in any
//! order and as often as it likes, and [`Frames::encode`] writes the codes beside the scales. Values are those of
//! [`dequantize`](super::dequantize) bit for bit.
//!
//! ```
//! use brevity_formats::{TensorType, blocks::{self, frame::Frames}};
//!
//! let weights: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin()).collect();   // one row of 512, two blocks
//! let frames = Frames::fit(TensorType::Q4K, &weights, None)?;
//! let (mut codes, mut error) = (vec![0; 512], 0.0);
//! for (i, weight) in weights.iter().enumerate() {
//!     let (code, value) = frames.nearest(i, weight + error);
//!     codes[i] = code;
//!     error = 0.5 * (weight + error - value);    // what a method feeds on
//! }
//! let mut bytes = vec![0; 288];
//! frames.encode(&codes, &mut bytes)?;
//! let mut restored = vec![0.0; 512];
//! blocks::dequantize(TensorType::Q4K, &bytes, &mut restored)?;
//! assert_eq!(restored[17], frames.value(17, codes[17]));
//! # Ok::<(), brevity_formats::Error>(())
//! ```

use super::layout::*;
use super::{check_bytes, check_length, code_block, iq4, least_squares, mx, plain, unpack_codes};
use crate::error::Result;
use crate::types::TensorType;

const OPERATION: &str = "choosing codes";

/// The levels that the codes of a type stand for.
#[derive(Clone, Copy, Debug)]
enum Levels {
    /// The integers `low..=high`, stored with `offset` added (as a byte, wrapping).
    Uniform { low: f32, high: f32, offset: u8 },
    /// A table of sixteen, its codes in the order of their levels.
    Table { values: &'static [i8; 16], sorted: &'static [u8] },
}

/// Codes of [`iq4::VALUES`] in the order of their levels.
const IQ4_SORTED: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Codes of [`mx::VALUES`] in the order of their levels, minus zero left out.
const MX_SORTED: [u8; 15] = [15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7];

impl Levels {
    /// Levels and number of codes of a type.
    fn of(ty: TensorType) -> Option<(Levels, usize)> {
        let uniform = |low: i16, count: usize| {
            let offset = if count == 256 { 0 } else { -low as u8 };
            let high = low + (count as i16 - 1);
            Some((Levels::Uniform { low: f32::from(low), high: f32::from(high), offset }, count))
        };
        match ty {
            TensorType::Q4_0 => uniform(-8, 16),
            TensorType::Q5_0 => uniform(-16, 32),
            TensorType::Q8_0 => uniform(-128, 256),
            TensorType::Q4_1 | TensorType::Q4K => uniform(0, 16),
            TensorType::Q5_1 | TensorType::Q5K => uniform(0, 32),
            TensorType::Q2K => uniform(0, 4),
            TensorType::Q3K => uniform(-4, 8),
            TensorType::Q6K => uniform(-32, 64),
            TensorType::Iq4Nl | TensorType::Iq4Xs => {
                Some((Levels::Table { values: &iq4::VALUES, sorted: &IQ4_SORTED }, 16))
            }
            TensorType::Mxfp4 => Some((Levels::Table { values: &mx::VALUES, sorted: &MX_SORTED }, 16)),
            _ => None,
        }
    }

    /// The code of the level nearest to `t`.
    #[inline]
    fn nearest(self, t: f32) -> u8 {
        match self {
            Levels::Uniform { low, high, offset } => {
                // The cast takes a NaN to 0, like any other value a code must be found for.
                (t.clamp(low, high).round_ties_even() as i16 as u8).wrapping_add(offset)
            }
            Levels::Table { values, sorted } => {
                let level = |i: usize| f32::from(values[usize::from(sorted[i] & 15)]);
                let above = (1..sorted.len()).map(|i| usize::from(0.5 * (level(i - 1) + level(i)) < t)).sum::<usize>();
                sorted[above]
            }
        }
    }

    /// The level of a code.
    #[inline]
    fn level(self, code: u8) -> f32 {
        match self {
            Levels::Uniform { offset, .. } => f32::from(code.wrapping_sub(offset) as i8),
            Levels::Table { values, .. } => f32::from(values[usize::from(code & 15)]),
        }
    }
}

/// The scales (and minima) of a run of whole blocks of one type. Weights are named by their position in the run.
#[derive(Clone, Debug)]
pub struct Frames {
    ty: TensorType,
    levels: Levels,
    codes: usize,
    /// Weights that share a scale: 16 or 32.
    part: usize,
    /// One per `part` weights.
    scales: Vec<f32>,
    /// One per `part` weights; zeros where the type has none.
    mins: Vec<f32>,
    has_min: bool,
    /// The blocks, with the codes of the search.
    blocks: Vec<u8>,
}

impl Frames {
    /// The scales of least squares for `values` (whole blocks, usually rows or the same columns of many rows), with
    /// `importance` as in [`quantize`](super::quantize): one weight per column, rows following from its length.
    ///
    /// # Errors
    /// Those of [`quantize`](super::quantize), and [`Error::UnsupportedType`](crate::Error::UnsupportedType) for types without codes.
    pub fn fit(ty: TensorType, values: &[f32], importance: Option<&[f32]>) -> Result<Frames> {
        if Levels::of(ty).is_none() {
            return Err(plain::unsupported(ty, OPERATION));
        }
        let mut blocks = vec![0; ty.row_bytes(values.len()).unwrap_or(0)];
        least_squares(ty, values, importance, &mut blocks)?;
        Frames::read(ty, blocks)
    }

    /// The scales that stand in blocks.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`](crate::Error::UnsupportedType) for types that have no codes or are not written,
    /// [`Error::Length`](crate::Error::Length) unless the bytes are whole blocks.
    pub fn read(ty: TensorType, blocks: Vec<u8>) -> Result<Frames> {
        let (Some((levels, codes)), Some((part, has_min))) = (Levels::of(ty), code_block(ty)) else {
            return Err(plain::unsupported(ty, OPERATION));
        };
        let weights = blocks.len() / ty.block_bytes() * ty.block();
        check_bytes(ty, weights, blocks.len(), OPERATION)?;
        let (mut scales, mut mins) = (vec![0.0; weights / part], vec![0.0; weights / part]);
        unpack_codes(ty, &blocks, &mut vec![0; weights], &mut scales, &mut mins)?;
        Ok(Frames { ty, levels, codes, part, scales, mins, has_min, blocks })
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Weights in the run.
    pub fn len(&self) -> usize {
        self.scales.len() * self.part
    }

    /// Whether the run is empty.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Codes are `0..codes()`, 4 to 256 of them.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// Weights that share a scale, 16 or 32: weight i has `scales()[i / part()]`.
    pub fn part(&self) -> usize {
        self.part
    }

    /// What levels are multiplied by, one per [`part`](Self::part) weights; may be zero or negative.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// What is subtracted then, one per [`part`](Self::part) weights; zeros for types without minima.
    pub fn mins(&self) -> &[f32] {
        &self.mins
    }

    /// The blocks that the search itself made: each weight at its nearest code.
    pub fn blocks(&self) -> &[u8] {
        &self.blocks
    }

    /// The level that a code stands for, in units of the scale: the integer q of `scale · q − min`.
    #[inline]
    pub fn level(&self, code: u8) -> f32 {
        self.levels.level(code)
    }

    /// The weight that `code` at position `i` of the run stands for; codes count modulo [`codes`](Self::codes).
    ///
    /// # Panics
    /// If the run is no longer than `i`.
    #[inline]
    pub fn value(&self, i: usize, code: u8) -> f32 {
        let product = self.scales[i / self.part] * self.levels.level(code & (self.codes - 1) as u8);
        if self.has_min { product - self.mins[i / self.part] } else { product }
    }

    /// The code at position `i` whose value is nearest to `value`, and that value. Infinite values take the last code on
    /// their side, NaN takes some code.
    ///
    /// # Panics
    /// If the run is no longer than `i`.
    #[inline]
    pub fn nearest(&self, i: usize, value: f32) -> (u8, f32) {
        let scale = self.scales[i / self.part];
        let t = if scale == 0.0 { 0.0 } else { (value + self.mins[i / self.part]) / scale };
        let code = self.levels.nearest(t);
        (code, self.value(i, code))
    }

    /// Writes blocks with these scales and `codes`, one per weight, each below [`codes`](Self::codes) (higher bits are
    /// dropped).
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) for slices that are not of the run's length.
    pub fn encode(&self, codes: &[u8], out: &mut [u8]) -> Result<()> {
        check_length("codes of blocks", codes.len(), self.len())?;
        check_length("bytes of blocks", out.len(), self.blocks.len())?;
        out.copy_from_slice(&self.blocks);
        macro_rules! write {
            ($block:ident, |$f:ident| $codes:expr, $join:expr) => {{
                for (out, codes) in
                    out.as_chunks_mut::<{ $block::BYTES }>().0.iter_mut().zip(codes.chunks_exact($block::WEIGHTS))
                {
                    #[allow(unused_mut)]
                    let mut $f = $block::read(out).fields();
                    for (place, code) in $codes.iter_mut().zip(codes) {
                        *place = code & (self.codes - 1) as u8;
                    }
                    $join.write(out);
                }
            }};
            ($block:ident) => {
                write!($block, |f| f.codes, $block::from_fields(&f))
            };
        }
        match self.ty {
            TensorType::Q4_0 => write!(Q4_0),
            TensorType::Q4_1 => write!(Q4_1),
            TensorType::Q5_0 => write!(Q5_0),
            TensorType::Q5_1 => write!(Q5_1),
            TensorType::Q8_0 => write!(Q8_0),
            TensorType::Q2K => write!(Q2K),
            TensorType::Q3K => write!(Q3K),
            TensorType::Q4K => write!(Q4K),
            TensorType::Q5K => write!(Q5K),
            TensorType::Q6K => write!(Q6K),
            TensorType::Iq4Nl => write!(Iq4Nl),
            TensorType::Iq4Xs => write!(Iq4Xs),
            TensorType::Mxfp4 => write!(Mxfp4, |f| f.1, Mxfp4::from_fields(f.0, &f.1)),
            _ => return Err(plain::unsupported(self.ty, OPERATION)),
        }
        Ok(())
    }
}
