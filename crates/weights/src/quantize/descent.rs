//! Coordinate descent on codes: after the sweep, each code again, given all others.
//!
//! The error of a row is a quadratic in every single weight, `e·H·eᵀ` with the gradient `g = e·H`, so with all other
//! codes fixed the best value of weight k is `ŵ_k + g_k/H_kk` and the best code the nearest one: no step can make the
//! error greater (QuantEase, arXiv 2309.01885). The sweep of GPTQ never looks back; this does.

use super::feedback::mean_diagonal;
use crate::Hessian;
use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, MatrixView};
use std::ops::Range;

/// Columns whose gradients are computed together.
const BLOCK: usize = 128;

/// The Hessian in the order of a sweep, in units of its mean diagonal, λ added.
pub(crate) struct Descent {
    pub(crate) passes: usize,
    blocks: Vec<Block>,
}

struct Block {
    places: Range<usize>,
    /// Outputs are the places of the block, inputs all places.
    columns: DensePanels,
    /// The block's own square, row-major.
    inner: Vec<f32>,
}

impl Descent {
    pub(crate) fn new(hessian: &Hessian, order: &[usize], damping: f32, passes: usize) -> Self {
        let size = order.len();
        let scale = 1.0 / mean_diagonal(hessian);
        let blocks = (0..size).step_by(BLOCK).map(|start| {
            let places = start..(start + BLOCK).min(size);
            let (mut rows, mut inner) = (Vec::with_capacity(places.len() * size), Vec::new());
            for place in places.clone() {
                let row = hessian.matrix().row(order[place]);
                rows.extend(order.iter().map(|&column| (f64::from(row[column]) * scale) as f32));
                let last = rows.len() - size;
                rows[last + place] += damping;
                inner.extend_from_slice(&rows[last + places.start..last + places.end]);
            }
            Block { columns: DensePanels::from_f32(places.len(), size, &rows), inner, places }
        });
        Self { passes, blocks: blocks.collect() }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn places(&self, block: usize) -> Range<usize> {
        self.blocks[block].places.clone()
    }

    /// `e·H` at the places of a block, for every row.
    pub(crate) fn gradients(&self, block: usize, errors: MatrixView, gradients: &mut Matrix) {
        let Block { places, columns, .. } = &self.blocks[block];
        gradients.reshape(errors.rows(), places.len());
        columns.multiply(errors, &mut gradients.view_mut(), false);
    }

    /// `H_kk` at `at` places from the block's first.
    #[inline]
    pub(crate) fn curvature(&self, block: usize, at: usize) -> f32 {
        let Block { places, inner, .. } = &self.blocks[block];
        inner[at * places.len() + at]
    }

    /// What a change of one error does to the gradients of its block.
    #[inline]
    pub(crate) fn change(&self, block: usize, at: usize, change: f32, gradients: &mut [f32]) {
        let width = gradients.len();
        let row = &self.blocks[block].inner[at * width..][..width];
        gradients.iter_mut().zip(row).for_each(|(gradient, h)| *gradient += change * h);
    }
}
