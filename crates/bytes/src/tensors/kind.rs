//! What the numbers of a segment are.

use brevity_formats::TensorType as T;

/// A part of a block of quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A float of 16 bits.
    Half,
    /// So many bytes of a kind.
    Bytes(usize),
}

/// The block of a GGUF type: its parts in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    ty: T,
    parts: &'static [Part],
}

const H: Part = Part::Half;
const fn b(bytes: usize) -> Part {
    Part::Bytes(bytes)
}

/// All blocks that are taken apart.
static LAYOUTS: [Layout; 22] = [
    Layout { ty: T::Q4_0, parts: &[H, b(16)] },
    Layout { ty: T::Q4_1, parts: &[H, H, b(16)] },
    Layout { ty: T::Q5_0, parts: &[H, b(4), b(16)] },
    Layout { ty: T::Q5_1, parts: &[H, H, b(4), b(16)] },
    Layout { ty: T::Q8_0, parts: &[H, b(32)] },
    Layout { ty: T::Q2K, parts: &[b(16), b(64), H, H] },
    Layout { ty: T::Q3K, parts: &[b(32), b(64), b(12), H] },
    Layout { ty: T::Q4K, parts: &[H, H, b(4), b(4), b(4), b(128)] },
    Layout { ty: T::Q5K, parts: &[H, H, b(4), b(4), b(4), b(32), b(128)] },
    Layout { ty: T::Q6K, parts: &[b(128), b(64), b(16), H] },
    Layout { ty: T::Iq4Nl, parts: &[H, b(16)] },
    Layout { ty: T::Iq4Xs, parts: &[H, b(2), b(4), b(128)] },
    Layout { ty: T::Mxfp4, parts: &[b(1), b(16)] },
    Layout { ty: T::Iq2Xxs, parts: &[H, b(64)] },
    Layout { ty: T::Iq2Xs, parts: &[H, b(64), b(8)] },
    Layout { ty: T::Iq2S, parts: &[H, b(32), b(32), b(8), b(8)] },
    Layout { ty: T::Iq3Xxs, parts: &[H, b(64), b(32)] },
    Layout { ty: T::Iq3S, parts: &[H, b(64), b(8), b(32), b(4)] },
    Layout { ty: T::Iq1S, parts: &[H, b(32), b(16)] },
    Layout { ty: T::Iq1M, parts: &[b(32), b(16), b(8)] },
    Layout { ty: T::Tq1_0, parts: &[b(52), H] },
    Layout { ty: T::Tq2_0, parts: &[b(64), H] },
];

impl Layout {
    /// Bytes of a block.
    pub fn bytes(&self) -> usize {
        self.ty.block_bytes()
    }

    /// Its parts.
    pub fn parts(&self) -> &'static [Part] {
        self.parts
    }

    /// The type it is the block of.
    pub fn ty(&self) -> T {
        self.ty
    }
}

/// What the numbers of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Bytes,
    /// Whole numbers of 1, 2, 4 or 8 bytes.
    Integer(usize),
    /// Floats of 8 bits, whatever their exponent.
    Float8,
    /// Floats of 16 bits with an exponent of 8.
    Bfloat16,
    /// Floats of 16 bits with an exponent of 5.
    Float16,
    /// Floats of 32 bits.
    Float32,
    /// Floats of 64 bits.
    Float64,
    /// Blocks of a GGUF type.
    Blocks(&'static Layout),
}

/// Codes of blocks begin here; the type's number in GGUF follows.
const BLOCKS: u8 = 64;

impl Kind {
    /// The kind of a tensor of this type.
    pub fn of_type(ty: T) -> Self {
        match ty {
            T::F64 => Self::Float64,
            T::F32 => Self::Float32,
            T::F16 => Self::Float16,
            T::BF16 => Self::Bfloat16,
            T::F8E4M3 | T::F8E5M2 | T::F8E4M3Fnuz | T::F8E5M2Fnuz => Self::Float8,
            T::I64 | T::U64 => Self::Integer(8),
            T::I32 | T::U32 => Self::Integer(4),
            T::I16 | T::U16 => Self::Integer(2),
            T::I8 | T::U8 | T::Bool | T::F8E8M0 => Self::Integer(1),
            _ => LAYOUTS.iter().find(|layout| layout.ty == ty).map_or(Self::Bytes, Self::Blocks),
        }
    }

    /// As it is stored.
    pub fn code(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Integer(bytes) => 1 + bytes.trailing_zeros() as u8,
            Self::Float8 => 5,
            Self::Bfloat16 => 6,
            Self::Float16 => 7,
            Self::Float32 => 8,
            Self::Float64 => 9,
            Self::Blocks(layout) => BLOCKS + layout.ty.ggml_id().unwrap_or(0) as u8,
        }
    }

    /// From what is stored.
    pub fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Bytes,
            1..=4 => Self::Integer(1 << (code - 1)),
            5 => Self::Float8,
            6 => Self::Bfloat16,
            7 => Self::Float16,
            8 => Self::Float32,
            9 => Self::Float64,
            _ => {
                let ty = T::from_ggml_id(u32::from(code.checked_sub(BLOCKS)?))?;
                Self::Blocks(LAYOUTS.iter().find(|layout| layout.ty == ty)?)
            }
        })
    }

    /// Bytes of a number or block.
    pub fn unit(self) -> usize {
        match self {
            Self::Bytes | Self::Float8 => 1,
            Self::Integer(bytes) => bytes,
            Self::Bfloat16 | Self::Float16 => 2,
            Self::Float32 => 4,
            Self::Float64 => 8,
            Self::Blocks(layout) => layout.bytes(),
        }
    }

    /// Whether the numbers are floats, their sign the highest bit.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float8 | Self::Bfloat16 | Self::Float16 | Self::Float32 | Self::Float64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_and_blocks_have_the_size_of_their_type() {
        for ty in T::all() {
            let kind = Kind::of_type(ty);
            assert_eq!(Kind::of_code(kind.code()), Some(kind), "{ty:?}");
            if let Kind::Blocks(layout) = kind {
                let sum: usize = layout.parts().iter().map(|part| if let Part::Bytes(n) = part { *n } else { 2 }).sum();
                assert_eq!(sum, ty.block_bytes(), "{ty:?}");
            }
        }
        assert!((0..=255).filter_map(Kind::of_code).all(|kind| kind.unit() > 0));
    }
}
