//! int8, int4, int3, int2: a grid per token behind a Hadamard rotation.
//!
//! SAW-INT4: System-Aware 4-Bit KV-Cache Quantization for Real-World LLM Serving (2026, arXiv 2604.19157) is the int4.
//!
//! Each head's keys (after rope) and values are rotated by `H = diag(H_b, …, H_b)`, the normalised Hadamard matrix in blocks of the
//! largest power of two b that divides the head's size. A query is rotated alike, so `⟨Hq, Hk⟩ = ⟨q, k⟩`, and the output is
//! rotated back: `Σ w·v = H·Σ w·(Hv)`. Outlier channels spread over their block, and one grid per token and head then suits
//! all its numbers: `x ≈ s·(c − z)` with codes c of 2, 3, 4 or 8 bits, a scale s (f16) and a zero point z (8 bit).
//!
//! Keys have a mean of their own in every head, often longer than what tells tokens apart. Before rounding they lose it, as far as rope leaves
//! it in place: the softmax does not see that (the module `fit`).
//!
//! In fewer than 8 bits keys are rounded so that their errors move scores least, by what the queries of the first 64 tokens looked at (the same
//! module). On SmolLM2-135M this halves what int4 loses.
//!
//! Bytes a token and head of d values: `d·bits/8 + 3`, twice (keys and values).

use super::{Coding, Store};
use brevity_measure::MethodCard;

/// Codes of so many bits per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenInt {
    pub bits: u8,
}

const INT4: MethodCard = MethodCard {
    name: "int4",
    room: "cache",
    title: "SAW-INT4: System-Aware 4-Bit KV-Cache Quantization for Real-World LLM Serving",
    year: 2026,
    arxiv: Some("2604.19157"),
    mechanism: "Keys without their mean and values are rotated head by head by a block-diagonal Hadamard matrix and rounded token by token to 4-bit codes with a scale and a zero point; queries are rotated alike.",
    guarantees: &[
        "a value is off by at most half a scale inside the token's range, plus what the range leaves out",
        "tokens are independent: any chunking gives the same codes",
        "at most 0.281 of f16's bytes for heads of 64 and 4096 tokens, all that is learnt included",
    ],
    simplifications: &[
        "the range is the best of six shares of the token's own, by the error as it counts; the zero point has 8 bits",
        "a mean learnt from the first 64 keys is taken off every key; until then keys are f16 (the paper has no such step)",
        "keys are rounded with error feedback by the second moment of the first 64 tokens' queries (the paper rounds to the nearest)",
    ],
};

const INT8: MethodCard = MethodCard {
    name: "int8",
    mechanism: "As int4 with 8-bit codes over the token's whole range.",
    guarantees: &[
        "a rotated number is off by at most 0.52 of a scale",
        "tokens are independent: any chunking gives the same codes",
        "at most 0.524 of f16's bytes for heads of 64",
    ],
    simplifications: &["the zero point has 8 bits", "a mean learnt from the first 64 keys is taken off every key"],
    ..INT4
};

const INT3: MethodCard = MethodCard {
    name: "int3",
    mechanism: "As int4 with 3-bit codes.",
    guarantees: &[
        "a value is off by at most half a scale inside the token's range, plus what the range leaves out",
        "tokens are independent: any chunking gives the same codes",
        "at most 0.211 of f16's bytes for heads of 64",
    ],
    ..INT4
};

const INT2: MethodCard = MethodCard {
    name: "int2",
    mechanism: "As int4 with 2-bit codes.",
    guarantees: &[
        "a value is off by at most half a scale inside the token's range, plus what the range leaves out",
        "tokens are independent: any chunking gives the same codes",
        "at most 0.149 of f16's bytes for heads of 64",
    ],
    ..INT4
};

impl Store for TokenInt {
    fn card(&self) -> &'static MethodCard {
        match self.bits {
            8 => &INT8,
            3 => &INT3,
            2 => &INT2,
            _ => &INT4,
        }
    }

    fn text(&self) -> String {
        self.card().name.to_string()
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::Token(self.bits), Coding::Token(self.bits))
    }

    fn rotates(&self) -> (bool, bool) {
        (true, true)
    }

    fn centres(&self) -> bool {
        true
    }

    fn feeds_back(&self) -> bool {
        self.bits < 8
    }

    fn splits(&self) -> bool {
        true
    }
}
