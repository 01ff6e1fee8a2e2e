//! GEAR: what the grid loses is given back, most of it by a matrix of low rank and a few single numbers.
//!
//! GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM (2024, arXiv 2403.05527).
//!
//! Keys X of a head (64 tokens × d channels), and values, are `X ≈ D + A·Bᵀ + S`:
//!
//! - S: the numbers that widen the range of their vector most (a channel of keys, a token of values), a share of all; in f16 with their
//!   places;
//! - D: a grid for the rest, per channel for keys and per token for values, as in KIVI;
//! - A (64 × r) and B (d × r): the best part of rank r of `X − D − S`, by power iteration; in f16.
//!
//! Attention runs on the parts as they lie: `q·(D + A·Bᵀ + S)ᵀ = q·Dᵀ + (q·B)·Aᵀ + q·Sᵀ`, and values alike. New tokens are f16 until
//! their block of 64 is full.
//!
//! Bytes a token and head of d values: `d·bits/8 + d/16` for keys, `d·bits/8 + 3` for values, and for each of the two
//! `2r·(1 + d/64)` and 4 for each single number.

use super::{Coding, Form, Recipe, Store};
use crate::options::Options;
use crate::{BLOCK, Error};
use brevity_measure::MethodCard;

/// A grid, a low rank and single numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gear {
    /// Bits of a code.
    pub bits: u8,
    /// Columns of A and B.
    pub rank: usize,
    /// Percent of the numbers that stay single.
    pub outliers: usize,
}

const CARD: MethodCard = MethodCard {
    name: "gear",
    room: "cache",
    title: "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM",
    year: 2024,
    arxiv: Some("2403.05527"),
    mechanism: "Numbers that widen a grid stay single, the others are rounded on it, and a matrix of low rank gives back most of what that loses; attention runs on the three parts.",
    guarantees: &[
        "in squared error a block loses no more than its grid without the single numbers",
        "a higher rank never leaves more of what the grid loses",
        "blocks are coded where they are full, so any chunking gives the same codes",
    ],
    simplifications: &[
        "one low-rank matrix a block of 64 tokens and head (the paper: one for the prompt, then one for every 20 tokens)",
        "single numbers are shared between the top and the bottom of a vector so that the range left is least; they hold what the other parts leave",
        "the newest block is f16 until it is full",
    ],
};

impl Gear {
    pub(crate) fn read(text: &str) -> Result<Gear, Error> {
        let mut options = Options::read("gear", "bits (2, 3, 4, 8), rank, outliers (percent)", text)?;
        let bits = options.bits("bits", 4)?;
        let rank = options.number("rank", 2, (0, BLOCK))?;
        let outliers = options.number("outliers", 2, (0, 50))?;
        options.done()?;
        Ok(Gear { bits, rank, outliers })
    }

    /// Single numbers of a vector of `length`, at least one where there are to be any.
    fn singles(self, length: usize) -> usize {
        let share = (length * self.outliers + 50) / 100;
        if self.outliers == 0 { 0 } else { share.max(1) }
    }
}

impl Store for Gear {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("gear:bits={},rank={},outliers={}", self.bits, self.rank, self.outliers)
    }

    fn fresh(&self) -> (Coding, Coding) {
        (Coding::F16, Coding::F16)
    }

    fn aged(&self, _: usize) -> (Coding, Coding) {
        (Coding::Channel(self.bits), Coding::Token(self.bits))
    }

    fn forms(&self, age: usize, dim: usize) -> (Form, Form) {
        let (keys, values) = self.aged(age);
        let repair = |length| Some(Recipe { rank: self.rank, singles: self.singles(length) });
        (Form { repair: repair(BLOCK), ..keys.into() }, Form { repair: repair(dim), ..values.into() })
    }

    fn ages(&self) -> bool {
        true
    }

    fn rotates(&self) -> (bool, bool) {
        (false, false)
    }
}
