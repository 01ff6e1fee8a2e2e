//! Blocks: the quantised types of GGML (and the plain floats beside them) to f32, to integer codes, and from f32.
//!
//! * [`dequantize`] gives the bits that PyPI `gguf` gives, for every readable type. NaN scales give NaN weights, whose payload
//!   is not specified.
//! * [`unpack_codes`] gives the canonical form of the integer kernels: `w = scale · code − min`, an i8 code per weight and an
//!   f32 scale and minimum per [`code_block`] weights. Dequantising is that formula, so the two agree exactly.
//! * [`quantize`] rounds f32 weights into blocks with the least squared error that its search finds.
//! * [`frame`] keeps only the scales of that search, for methods that choose codes themselves (GPTQ and its kin).
//! * [`layout`] holds the bytes of every block type; `fields()` and `from_fields()` of each block turn it into plain numbers
//!   and back, for kernels that read the stored scales and for methods that choose codes themselves.
//!
//! All functions work on whole rows (or any run of whole blocks) and keep no state, so rows can be spread over threads.

pub mod bits;
mod codebooks;
mod encode;
pub mod frame;
mod gain;
mod iq2;
mod iq3;
pub mod iq4;
pub mod k;
pub mod layout;
pub mod legacy;
pub mod mx;
pub mod plain;
pub(crate) mod search;

use crate::error::{Error, Result};
use crate::types::TensorType;
use layout::*;

/// One unpacked block: `w[i] = scales[i / block] · codes[i] − mins[i / block]`.
struct Canonical {
    codes: [i8; 256],
    scales: [f32; 16],
    mins: [f32; 16],
}

impl Canonical {
    const ZERO: Canonical = Canonical { codes: [0; 256], scales: [0.0; 16], mins: [0.0; 16] };
}

/// A block type of `N` bytes.
trait Block<const N: usize> {
    /// Weights that share a scale: 16 or 32.
    const CODE_BLOCK: usize;
    /// Whether a minimum is subtracted.
    const HAS_MIN: bool;
    /// Fills as much of `out` as the block has weights and scales (and minima, where it has them).
    fn unpack(bytes: &[u8; N], out: &mut Canonical);
}

/// Calls a generic function of (block type, its bytes) for a type known at run time.
macro_rules! for_block {
    ($ty:expr, $function:ident($($arg:expr),*), else $other:expr) => {
        match $ty {
            TensorType::Q4_0 => $function::<Q4_0, { Q4_0::BYTES }>($($arg),*),
            TensorType::Q4_1 => $function::<Q4_1, { Q4_1::BYTES }>($($arg),*),
            TensorType::Q5_0 => $function::<Q5_0, { Q5_0::BYTES }>($($arg),*),
            TensorType::Q5_1 => $function::<Q5_1, { Q5_1::BYTES }>($($arg),*),
            TensorType::Q8_0 => $function::<Q8_0, { Q8_0::BYTES }>($($arg),*),
            TensorType::Q2K => $function::<Q2K, { Q2K::BYTES }>($($arg),*),
            TensorType::Q3K => $function::<Q3K, { Q3K::BYTES }>($($arg),*),
            TensorType::Q4K => $function::<Q4K, { Q4K::BYTES }>($($arg),*),
            TensorType::Q5K => $function::<Q5K, { Q5K::BYTES }>($($arg),*),
            TensorType::Q6K => $function::<Q6K, { Q6K::BYTES }>($($arg),*),
            TensorType::Iq4Nl => $function::<Iq4Nl, { Iq4Nl::BYTES }>($($arg),*),
            TensorType::Iq4Xs => $function::<Iq4Xs, { Iq4Xs::BYTES }>($($arg),*),
            TensorType::Mxfp4 => $function::<Mxfp4, { Mxfp4::BYTES }>($($arg),*),
            TensorType::Iq2Xxs => $function::<Iq2Xxs, { Iq2Xxs::BYTES }>($($arg),*),
            TensorType::Iq2Xs => $function::<Iq2Xs, { Iq2Xs::BYTES }>($($arg),*),
            TensorType::Iq2S => $function::<Iq2S, { Iq2S::BYTES }>($($arg),*),
            TensorType::Iq3Xxs => $function::<Iq3Xxs, { Iq3Xxs::BYTES }>($($arg),*),
            TensorType::Iq3S => $function::<Iq3S, { Iq3S::BYTES }>($($arg),*),
            _ => $other,
        }
    };
}

/// Turns blocks into f32 weights: `bytes.len() / block_bytes · block` of them.
///
/// # Errors
/// [`Error::UnsupportedType`] for a type that is not [readable](TensorType::readable), [`Error::Length`] when `bytes` is not
/// what `out.len()` weights take.
pub fn dequantize(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    check_bytes(ty, out.len(), bytes.len(), "dequantising")?;
    for_block!(ty, dequantize_blocks(ty, bytes, out), else plain::dequantize(ty, bytes, out))
}

/// Weights per scale (16 or 32) and whether there are minima, of a type in canonical form; `None` for types without codes.
pub fn code_block(ty: TensorType) -> Option<(usize, bool)> {
    for_block!(ty, code_block_of(), else None)
}

/// Unpacks blocks to the canonical form of the integer kernels, `w = scale · code − min`.
///
/// `codes` holds one code per weight, `scales` one scale per [`code_block`] weights; `mins` as many minima as scales for types
/// that have them, and is left alone (it may be empty) for the others.
///
/// # Errors
/// [`Error::UnsupportedType`] for a type without codes, [`Error::Length`] for slices that do not fit together.
pub fn unpack_codes(
    ty: TensorType,
    bytes: &[u8],
    codes: &mut [i8],
    scales: &mut [f32],
    mins: &mut [f32],
) -> Result<()> {
    const OPERATION: &str = "unpacking codes";
    let (block, has_min) = code_block(ty).ok_or_else(|| plain::unsupported(ty, OPERATION))?;
    check_bytes(ty, codes.len(), bytes.len(), OPERATION)?;
    check_length("scales of unpacked codes", scales.len(), codes.len() / block)?;
    if has_min {
        check_length("minima of unpacked codes", mins.len(), codes.len() / block)?;
    }
    for_block!(ty, unpack_blocks(ty, bytes, codes, scales, mins), else Ok(()))
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length { what, found, expected })
}

/// Checks that `weights` is a whole number of blocks and `bytes` what they take.
fn check_bytes(ty: TensorType, weights: usize, bytes: usize, operation: &'static str) -> Result<()> {
    if !ty.readable() {
        return Err(plain::unsupported(ty, operation));
    }
    let Some(expected) = ty.row_bytes(weights) else {
        return Err(Error::Length {
            what: "weights in whole blocks (expected a multiple)",
            found: weights,
            expected: ty.block(),
        });
    };
    check_length("bytes of blocks", bytes, expected)
}

fn code_block_of<B: Block<N>, const N: usize>() -> Option<(usize, bool)> {
    Some((B::CODE_BLOCK, B::HAS_MIN))
}

fn dequantize_blocks<B: Block<N>, const N: usize>(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    let mut block = Canonical::ZERO;
    for (bytes, out) in bytes.as_chunks::<N>().0.iter().zip(out.chunks_exact_mut(ty.block())) {
        B::unpack(bytes, &mut block);
        let codes = block.codes.chunks_exact(B::CODE_BLOCK);
        for (i, (out, codes)) in out.chunks_exact_mut(B::CODE_BLOCK).zip(codes).enumerate() {
            let (scale, min) = (block.scales[i], block.mins[i]);
            for (out, code) in out.iter_mut().zip(codes) {
                let product = scale * f32::from(*code);
                *out = if B::HAS_MIN { product - min } else { product };
            }
        }
    }
    Ok(())
}

fn unpack_blocks<B: Block<N>, const N: usize>(
    ty: TensorType,
    bytes: &[u8],
    codes: &mut [i8],
    scales: &mut [f32],
    mins: &mut [f32],
) -> Result<()> {
    let mut block = Canonical::ZERO;
    let parts = ty.block() / B::CODE_BLOCK;
    for (i, bytes) in bytes.as_chunks::<N>().0.iter().enumerate() {
        B::unpack(bytes, &mut block);
        codes[i * ty.block()..][..ty.block()].copy_from_slice(&block.codes[..ty.block()]);
        scales[i * parts..][..parts].copy_from_slice(&block.scales[..parts]);
        if B::HAS_MIN {
            mins[i * parts..][..parts].copy_from_slice(&block.mins[..parts]);
        }
    }
    Ok(())
}

/// Rounds weights into blocks with the least squared error that the search of the type finds, and undoes the shrinkage that
/// least squares bring: a block is as large as its weights, `Σ w·ŵ = Σ w²`, within the rounding of its half floats.
///
/// `values` are whole rows, `out` the bytes that they take. `importance` holds one weight per column (second moments of the
/// layer's inputs; rows follow from its length) and makes the error `Σ importance · (w − ŵ)²`; without it all columns count
/// alike. In some types the errors of large weights count more (docs/blocks.md says which and what it is worth). Magnitudes
/// beyond a type's range become its largest.
///
/// # Errors
/// [`Error::NonFinite`] names the first weight (or importance) that is NaN or infinite (importances: or negative);
/// [`Error::UnsupportedType`] when the type is not [writable](TensorType::writable); [`Error::Length`] for slices that do not
/// fit together.
pub fn quantize(ty: TensorType, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
    least_squares(ty, values, importance, out)?;
    gain::restore(ty, values, importance, out)
}

/// As [`quantize`], with the shrinkage of least squares.
fn least_squares(ty: TensorType, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
    const OPERATION: &str = "quantising";
    if !ty.writable() {
        return Err(plain::unsupported(ty, OPERATION));
    }
    check_bytes(ty, values.len(), out.len(), OPERATION)?;
    check_finite("weights", values, f32::is_finite)?;
    if let Some(importance) = importance {
        check_finite("importance", importance, |v| v.is_finite() && v >= 0.0)?;
        let cols = importance.len();
        if cols == 0 || !values.len().is_multiple_of(cols) || ty.row_bytes(cols).is_none() {
            return Err(Error::Length {
                what: "weights in whole rows of the importance (expected a multiple)",
                found: values.len(),
                expected: cols,
            });
        }
    }
    encode::encode(ty, values, importance, out)
}

pub(crate) fn check_finite(what: &str, values: &[f32], valid: impl Fn(f32) -> bool) -> Result<()> {
    // Whole chunks first, without a branch per value, so that the compiler vectorises the common case.
    for (i, chunk) in values.chunks(256).enumerate() {
        if chunk.iter().fold(true, |all, v| all & valid(*v)) {
            continue;
        }
        if let Some(j) = chunk.iter().position(|v| !valid(*v)) {
            return Err(Error::NonFinite { what: what.into(), index: 256 * i + j, value: chunk[j] });
        }
    }
    Ok(())
}
