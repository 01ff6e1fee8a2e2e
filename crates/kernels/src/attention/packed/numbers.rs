//! Tokens written as numbers, f32 or f16, into panels of `[k][16]`.

use super::part::{Part, Side};
use crate::convert::f32_to_f16;
use crate::simd::{LANES, kernel};
use bytemuck::Pod;

/// The largest f16.
const MOST: f32 = 65504.0;

kernel! {
    /// Rounds to f16; what lies beyond its range becomes its largest number.
    fn halve<'a>(s, x: &'a [f32], out: &'a mut [u16]) {
        let (x, rest) = x.as_chunks::<LANES>();
        let (halves, last) = out.as_chunks_mut::<LANES>();
        for (x, half) in x.iter().zip(halves) {
            *half = s.to_f16(s.max(s.min(s.load(x), s.splat(MOST)), s.splat(-MOST)));
        }
        last.iter_mut().zip(rest).for_each(|(half, x)| *half = f32_to_f16(x.clamp(-MOST, MOST)));
    }
}

impl Part {
    /// Writes tokens in f32, rows of `x`, from slot `first` on.
    pub(super) fn write_floats(&mut self, first: usize, x: &[f32]) {
        self.lay(first, x);
    }

    /// Writes tokens rounded to f16.
    pub(super) fn write_halves(&mut self, first: usize, x: &[f32]) {
        let mut halves = vec![0; x.len()];
        halve(x, &mut halves);
        self.lay(first, &halves);
    }

    fn lay<T: Pod>(&mut self, first: usize, rows: &[T]) {
        let (dim, side, panel) = (self.channels(), self.side(), self.steps() * LANES);
        let panels: &mut [T] = bytemuck::cast_slice_mut(self.units_mut());
        for (slot, row) in (first..).zip(rows.chunks_exact(dim.max(1))) {
            match side {
                Side::Keys => {
                    let lanes = panels[slot / LANES * panel..][..panel].iter_mut().skip(slot % LANES).step_by(LANES);
                    lanes.zip(row).for_each(|(lane, &x)| *lane = x);
                }
                Side::Values => {
                    for (panel, row) in panels.chunks_exact_mut(panel).zip(row.chunks(LANES)) {
                        panel[slot * LANES..][..row.len()].copy_from_slice(row);
                    }
                }
            }
        }
    }
}
