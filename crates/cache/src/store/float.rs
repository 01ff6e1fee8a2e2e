//! f32 and f16: the numbers as they are, or rounded once.
//!
//! 4 or 2 bytes a number; f16 rounds half to even when a token is stored, and holds what lies beyond its range at its largest
//! number. With f32 nothing is lost, and the bits are those of the model's plain cache; so are those of f16 within its range.

use super::{Coding, Store};
use brevity_measure::MethodCard;

/// Numbers without codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    F32,
    F16,
}

const F32: MethodCard = MethodCard {
    name: "f32",
    room: "cache",
    title: "IEEE Standard for Floating-Point Arithmetic",
    year: 2008,
    arxiv: None,
    mechanism: "Keys and values as the model computes them, 4 bytes a number: the reference of every loss.",
    guarantees: &["the bits of the model's own cache"],
    simplifications: &[],
};

const F16: MethodCard = MethodCard {
    name: "f16",
    mechanism: "Keys and values rounded to half precision when they are stored, 2 bytes a number: what bytes are compared with.",
    guarantees: &["off by at most 2^-11 of a number's size within f16's range"],
    ..F32
};

impl Store for Float {
    fn card(&self) -> &'static MethodCard {
        match self {
            Float::F32 => &F32,
            Float::F16 => &F16,
        }
    }

    fn text(&self) -> String {
        self.card().name.to_string()
    }

    fn fresh(&self) -> (Coding, Coding) {
        match self {
            Float::F32 => (Coding::F32, Coding::F32),
            Float::F16 => (Coding::F16, Coding::F16),
        }
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }

    fn splits(&self) -> bool {
        true
    }
}
