//! Rows of x against the panels of a part of floats: few rows from registers, many from a widened tile.

use super::codes::{DEEP, Float16, Float32, Floats};
use super::part::{Layout, Part};
use crate::buffer::Aligned;
use crate::dense::tile::{F32, Mode, Out, Panels, Rectangle, Rows};
use crate::isa::Isa;
use crate::simd::{Kernel, LANES, Simd, dispatch_on};
use std::ops::Range;

/// Up to so many rows go without widening.
pub(super) const FEW: usize = 6;
/// Panels widened at once.
const WIDE: usize = 4;

/// `out[r][16·p + lane] = Σ_k x[r][k]·value(p, k, lane)` for some panels of a part.
pub(super) struct Product<'a> {
    pub part: &'a Part,
    pub panels: Range<usize>,
    /// Rows of as many values as the part has steps of k.
    pub x: Rows,
    pub rows: usize,
    /// Where the first of the panels goes.
    pub out: *mut f32,
    pub stride: usize,
    /// Whether chains go on from what is there.
    pub carry: bool,
}

impl Product<'_> {
    /// # Safety
    /// x and out must be valid for the shapes named.
    pub unsafe fn run(self, isa: Isa, wide: &mut Aligned<f32>) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.part.coding().layout() {
                Layout::F32 => self.of::<Float32>(isa, wide),
                Layout::F16 => self.of::<Float16>(isa, wide),
                _ => unreachable!("codes are multiplied as whole numbers"),
            }
        }
    }

    unsafe fn of<V: Floats>(self, isa: Isa, wide: &mut Aligned<f32>) {
        match self.rows <= FEW {
            true => dispatch_on(isa, Few::<V>(self, std::marker::PhantomData)),
            // SAFETY: as the caller promises.
            false => unsafe { self.many::<V>(isa, wide) },
        }
    }

    unsafe fn many<V: Floats>(self, isa: Isa, wide: &mut Aligned<f32>) {
        let steps = self.part.steps();
        wide.reserve(WIDE * steps * LANES);
        let mut done = 0;
        while done < self.panels.len() {
            let panels = WIDE.min(self.panels.len() - done);
            let first = self.panels.start + done;
            let values = self.part.panels(first..first + panels);
            dispatch_on(
                isa,
                Widen::<V> { values, to: &mut wide[..panels * steps * LANES], of: std::marker::PhantomData },
            );
            let w = Panels { at: wide.as_ptr(), panel: steps * LANES, step: LANES };
            let mode = if self.carry { Mode::Continue } else { Mode::Write };
            let at = self.out.wrapping_add(done * LANES);
            let out = Out { at, stride: self.stride, cols: panels * LANES, mode, hidden: 0 };
            // SAFETY: as the caller promises; the tile holds `panels` panels.
            unsafe { Rectangle { rows: self.rows, panels, before: 0, k: steps, x: self.x, w, out }.run::<F32>(isa) };
            done += panels;
        }
    }
}

struct Widen<'a, V> {
    values: &'a [u8],
    to: &'a mut [f32],
    of: std::marker::PhantomData<V>,
}

impl<V: Floats> Kernel for Widen<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (unit, out) in self.values.chunks_exact(V::UNIT).zip(self.to.chunks_exact_mut(DEEP * LANES)) {
            let values = V::unit(s, unit);
            for (v, out) in values.iter().zip(out.as_chunks_mut::<LANES>().0) {
                s.store(out, *v);
            }
        }
    }
}

struct Few<'a, V>(Product<'a>, std::marker::PhantomData<V>);

impl<V: Floats> Kernel for Few<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let all = &self.0;
        let width = match (S::ISA, all.rows) {
            (Isa::Avx512, ..=3) => 4,
            (Isa::Avx512, _) | (Isa::Avx2 | Isa::Neon, 1) => 2,
            _ => 1,
        };
        let mut panel = 0;
        while panel < all.panels.len() {
            let mut here = width;
            while panel + here > all.panels.len() {
                here /= 2;
            }
            macro_rules! tile {
                ($($rows:literal),*) => {
                    match (all.rows, here) {
                        // SAFETY: as `Product::run` asks.
                        $(($rows, 4) => unsafe { tile::<S, V, $rows, 4>(s, all, panel) },
                          ($rows, 2) => unsafe { tile::<S, V, $rows, 2>(s, all, panel) },
                          ($rows, _) => unsafe { tile::<S, V, $rows, 1>(s, all, panel) },)*
                        _ => {}
                    }
                };
            }
            tile!(1, 2, 3, 4, 5, 6);
            panel += here;
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)] // counted loops over const arrays unroll
unsafe fn tile<S: Simd, V: Floats, const R: usize, const P: usize>(s: S, all: &Product<'_>, panel: usize) {
    let out = all.out.wrapping_add(panel * LANES);
    let mut acc = [[s.zero(); P]; R];
    // SAFETY: as `Product::run` asks.
    unsafe {
        if all.carry {
            for r in 0..R {
                for p in 0..P {
                    acc[r][p] = s.load_ptr(out.add(r * all.stride + p * LANES));
                }
            }
        }
        let first = all.panels.start + panel;
        let units: [&[u8]; P] = std::array::from_fn(|p| all.part.panels(first + p..first + p + 1));
        for unit in 0..all.part.steps() / DEEP {
            let x = all.x.at.add(unit * DEEP);
            for p in 0..P {
                let values = V::unit(s, &units[p][unit * V::UNIT..]);
                for k in 0..DEEP {
                    for r in 0..R {
                        acc[r][p] = s.fma(s.splat(*x.add(r * all.x.row + k)), values[k], acc[r][p]);
                    }
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                s.store_ptr(out.add(r * all.stride + p * LANES), acc[r][p]);
            }
        }
    }
}
