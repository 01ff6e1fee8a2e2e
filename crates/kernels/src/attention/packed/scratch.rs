//! What attention over packed heads needs for a while, kept by each thread.

use super::super::BLOCK;
use crate::buffer::Aligned;
use std::ops::Range;

#[derive(Default)]
pub(super) struct Scratch {
    pub asked: Asked,
    pub scores: Aligned<f32>,
    pub sums: Vec<f32>,
    pub rounded: Rounded,
    pub out: Aligned<f32>,
    pub tapped: Vec<f32>,
    pub work: Work,
}

/// Queries, rows of as many numbers as a head has channels, up to a multiple of 8.
#[derive(Default)]
pub(super) struct Asked {
    pub q: Aligned<f32>,
    /// Rounded to whole numbers, and what one of each row is worth.
    pub whole: Aligned<i16>,
    pub worth: Vec<f32>,
}

/// Some rows of queries.
#[derive(Clone, Copy)]
pub(super) struct AskedRows<'a> {
    pub q: &'a [f32],
    pub whole: &'a [i16],
    pub worth: &'a [f32],
}

/// Weights of rows as whole numbers, as values with a grid for each token want them.
#[derive(Default)]
pub(super) struct Rounded {
    pub numbers: Aligned<i16>,
    /// What a number is worth: of each row and block.
    pub worth: Vec<f32>,
    /// What zero points take off: of each row.
    pub taken: Vec<f32>,
}

impl Rounded {
    pub fn reserve(&mut self, rows: usize, length: usize) {
        self.numbers.reserve(rows * length);
        self.worth.resize((rows * length / BLOCK).max(self.worth.len()), 0.0);
        self.taken.resize(rows.max(self.taken.len()), 0.0);
    }
}

/// Weights of some rows of one block, as floats and as whole numbers.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub floats: *const f32,
    pub whole: *const i16,
    /// Between rows.
    pub step: usize,
    pub worth: (*const f32, usize),
}

/// What a block needs for a moment.
#[derive(Default)]
pub(super) struct Work {
    pub x: Aligned<f32>,
    pub whole: Aligned<i16>,
    pub wide: Aligned<f32>,
    pub apart: Aligned<i32>,
}

impl Asked {
    pub fn reserve(&mut self, rows: usize, steps: usize) {
        self.q.reserve(rows * steps);
        self.whole.reserve(rows * steps);
        self.worth.resize(rows.max(self.worth.len()), 0.0);
    }

    pub fn rows(&mut self, rows: Range<usize>, steps: usize) -> (&mut [f32], &mut [i16], &mut [f32]) {
        let all = rows.start * steps..rows.end * steps;
        (&mut self.q[all.clone()], &mut self.whole[all], &mut self.worth[rows])
    }

    pub fn some(&self, rows: Range<usize>, steps: usize) -> AskedRows<'_> {
        let all = rows.start * steps..rows.end * steps;
        AskedRows { q: &self.q[all.clone()], whole: &self.whole[all], worth: &self.worth[rows] }
    }
}
