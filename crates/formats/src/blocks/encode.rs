//! f32 weights into blocks: which search each type takes, and with how much effort.

use super::bits::f16_bits;
use super::k::{Affine, Signed};
use super::layout::*;
use super::legacy::Flat;
use super::plain;
use super::search::{
    AffineEffort, AffineSearch, Codes, Group, Iq4, Levels, Mx, PowerSearch, SignedEffort, SignedSearch, Tilt, Uniform,
    gather, positive,
};
use crate::error::Result;
use crate::types::TensorType;
use brevity_kernels::simd::{LANES, dispatch};

/// What a type tries without and with importances: importances move the best scale further from the one that the extreme value
/// asks for, so more is worth trying. Chosen by error and speed on weights of TinyStories 15M and MiniLM (docs/blocks.md).
struct Efforts<T: 'static> {
    plain: T,
    weighted: T,
}

/// Integers that the largest scale of a super-block may take, as parts of the lowest one: each rounds the other scales its own
/// way.
const SIGNED_TOPS: &[f32] = &[1.0, 0.97, 0.94, 0.91, 0.88, 0.85, -1.02, -0.98, -0.95, -0.92];

const SIGNED_PLAIN: &[f32] = &[0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2];
/// Where a column hardly matters, so does its value: extremes are cut off far.
const SIGNED_WEIGHTED: &[f32] =
    &[0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4, 1.5, 1.6, 1.7, 1.85, 2.0, 2.2];

const SIGNED: Efforts<SignedEffort> = Efforts {
    plain: SignedEffort {
        low: SIGNED_PLAIN,
        high: SIGNED_PLAIN,
        nudges: &[1.0, 0.98, 1.02],
        tops: SIGNED_TOPS,
        solves: 2,
    },
    weighted: SignedEffort {
        low: SIGNED_WEIGHTED,
        high: SIGNED_WEIGHTED,
        nudges: &[1.0, 0.98, 1.02],
        tops: SIGNED_TOPS,
        solves: 2,
    },
};

/// With many levels every scale rounds otherwise: a dense search among larger scales, which clip nothing.
const Q6_K_EFFORT: SignedEffort = SignedEffort {
    low: &[0.72, 0.76, 0.8, 0.84, 0.87, 0.9, 0.93, 0.96, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2],
    high: &[0.72, 0.76, 0.8, 0.84, 0.87, 0.9, 0.93, 0.96, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2],
    nudges: &[1.0, 0.99, 1.01],
    ..SIGNED.plain
};
const Q6_K_EFFORTS: Efforts<SignedEffort> = Efforts { plain: Q6_K_EFFORT, weighted: Q6_K_EFFORT };

const Q8_0_EFFORT: SignedEffort = SignedEffort {
    low: &[0.9, 0.94, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02],
    high: &[0.9, 0.94, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02],
    nudges: &[1.0],
    ..SIGNED.plain
};
const Q8_0_EFFORTS: Efforts<SignedEffort> = Efforts { plain: Q8_0_EFFORT, weighted: Q8_0_EFFORT };

const NUDGES: &[(f32, f32)] =
    &[(1.0, 0.0), (0.94, 0.0), (1.06, 0.0), (1.0, 0.4), (1.0, -0.4), (0.97, 0.0), (1.03, 0.0)];

const AFFINE_EFFORT: AffineEffort = AffineEffort {
    trims: &[-0.6, -0.1, 0.4, 0.9, 1.4, 1.9, 2.4, 2.9],
    nudges: NUDGES,
    tops: &[0.85, 0.88, 0.91, 0.94, 0.97, 1.0, 1.02],
    min_tops: &[0.8, 0.84, 0.88, 0.92, 0.96, 1.0],
    solves: 2,
};
const AFFINE: Efforts<AffineEffort> = Efforts {
    plain: AffineEffort { trims: &[-0.6, -0.1, 0.4, 0.9, 1.4, 1.9], ..AFFINE_EFFORT },
    weighted: AFFINE_EFFORT,
};

const Q2_K_EFFORTS: Efforts<AffineEffort> = Efforts {
    plain: AffineEffort {
        trims: &[-0.4, -0.1, 0.2, 0.5, 0.8],
        tops: &[0.85, 0.9, 0.95, 1.0, 1.05],
        min_tops: &[0.9, 0.95, 1.0],
        ..AFFINE_EFFORT
    },
    weighted: AffineEffort {
        trims: &[-0.5, -0.1, 0.3, 0.7, 1.1, 1.5, 1.9, 2.4],
        tops: &[0.85, 0.9, 0.95, 1.0, 1.05],
        min_tops: &[0.9, 0.95, 1.0],
        ..AFFINE_EFFORT
    },
};

/// Exponents that MXFP4 tries around the extreme value's.
const MXFP4_STEPS: [i32; 3] = [0, 1, -1];

/// Large weights bear more than their share: their columns see larger activations than an imatrix of averages says (and without
/// one, nothing else says it), so what is least for `Σ w e²` cuts off too much. Chosen by the divergence of the embedded model
/// (docs/blocks.md); types that were not measured, or measured best without, have none.
fn tilt(ty: TensorType, weighted: bool) -> Tilt {
    match ty {
        TensorType::Q4_0 => Tilt::Half,
        TensorType::Q2K | TensorType::Q3K => Tilt::Quarter,
        TensorType::Q4K if !weighted => Tilt::Quarter,
        _ => Tilt::None,
    }
}

/// Rounds checked values into `out`; `importance` is one weight per column.
pub(super) fn encode(ty: TensorType, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
    let relative = importance.map(positive);
    let job = Job { values, importance: relative.as_deref(), tilt: tilt(ty, importance.is_some()), out };
    match ty {
        TensorType::Q4_0 => job.flat_signed(Uniform::new(8.0, 8.0), &SIGNED, |f, out| Q4_0::from_fields(f).write(out)),
        TensorType::Q5_0 => {
            job.flat_signed(Uniform::new(16.0, 16.0), &SIGNED, |f, out| Q5_0::from_fields(f).write(out))
        }
        TensorType::Q8_0 => {
            job.flat_signed(Uniform::new(128.0, 0.0), &Q8_0_EFFORTS, |f, out| Q8_0::from_fields(f).write(out))
        }
        TensorType::Iq4Nl => job.flat_signed(Iq4, &SIGNED, |f, out| Iq4Nl::from_fields(f).write(out)),
        TensorType::Mxfp4 => job.powers(|e, codes, out| Mxfp4::from_fields(e, codes).write(out)),
        TensorType::Q4_1 => job.flat_affine(15.0, &AFFINE, |f, out| Q4_1::from_fields(f).write(out)),
        TensorType::Q5_1 => job.flat_affine(31.0, &AFFINE, |f, out| Q5_1::from_fields(f).write(out)),
        TensorType::Q2K => job.super_affine(3.0, 15.0, &Q2_K_EFFORTS, |f, out| Q2K::from_fields(f).write(out)),
        TensorType::Q4K => job.super_affine(15.0, 63.0, &AFFINE, |f, out| Q4K::from_fields(f).write(out)),
        TensorType::Q5K => job.super_affine(31.0, 63.0, &AFFINE, |f, out| Q5K::from_fields(f).write(out)),
        TensorType::Q3K => {
            job.super_signed(Uniform::new(4.0, 4.0), 32.0, &SIGNED, |f, out| Q3K::from_fields(f).write(out))
        }
        TensorType::Q6K => {
            job.super_signed(Uniform::new(32.0, 32.0), 128.0, &Q6_K_EFFORTS, |f, out| Q6K::from_fields(f).write(out))
        }
        TensorType::Iq4Xs => job.super_signed(Iq4, 32.0, &SIGNED, |f, out| Iq4Xs::from_fields(f).write(out)),
        _ => return plain::quantize(ty, job.values, job.out),
    }
    Ok(())
}

/// What is to be rounded where.
struct Job<'a> {
    values: &'a [f32],
    importance: Option<&'a [f32]>,
    tilt: Tilt,
    out: &'a mut [u8],
}

impl Job<'_> {
    fn effort<'e, T>(&self, efforts: &'e Efforts<T>) -> &'e T {
        if self.importance.is_some() { &efforts.weighted } else { &efforts.plain }
    }

    /// Calls `search` with each group of sixteen sub-blocks of `n` weights and the bytes of its blocks.
    fn each_group<const N: usize>(self, n: usize, weights: usize, mut search: impl FnMut(&Group, &mut [[u8; N]])) {
        let mut group = Group::new(n);
        let blocks = self.out.as_chunks_mut::<N>().0;
        let chunks = self.values.chunks(LANES * n);
        for (i, (values, out)) in chunks.zip(blocks.chunks_mut(LANES * n / weights)).enumerate() {
            group.load(values);
            if let Some(importance) = self.importance {
                group.load_importance(importance, i * LANES * n);
            } else if self.tilt != Tilt::None {
                group.forget_importance();
            }
            if self.tilt != Tilt::None {
                group.tilt(self.tilt);
            }
            search(&group, out);
        }
    }

    fn flat_signed<L: Levels, const N: usize>(
        self,
        levels: L,
        efforts: &Efforts<SignedEffort>,
        write: impl Fn(&Flat, &mut [u8; N]),
    ) {
        let mut codes: Codes = [[0; LANES]; 32];
        let effort = self.effort(efforts);
        self.each_group(32, 32, |group, out| {
            let found = dispatch(SignedSearch { group, levels, integers: None, effort, codes: &mut codes });
            for (lane, out) in out.iter_mut().enumerate() {
                let mut flat = Flat { d: f16_bits(found.d[lane]), m: 0, codes: [0; 32] };
                gather(&codes, 32, lane, &mut flat.codes);
                write(&flat, out);
            }
        });
    }

    fn powers<const N: usize>(self, write: impl Fn(u8, &[u8; 32], &mut [u8; N])) {
        let mut codes: Codes = [[0; LANES]; 32];
        self.each_group(32, 32, |group, out| {
            let found = dispatch(PowerSearch { group, levels: Mx, steps: &MXFP4_STEPS, codes: &mut codes });
            for (lane, out) in out.iter_mut().enumerate() {
                let mut flat = [0; 32];
                gather(&codes, 32, lane, &mut flat);
                write(found[lane], &flat, out);
            }
        });
    }

    fn flat_affine<const N: usize>(
        self,
        top: f32,
        efforts: &Efforts<AffineEffort>,
        write: impl Fn(&Flat, &mut [u8; N]),
    ) {
        let mut codes: Codes = [[0; LANES]; 32];
        let effort = self.effort(efforts);
        self.each_group(32, 32, |group, out| {
            let found = dispatch(AffineSearch { group, top, integers: None, effort, codes: &mut codes });
            for (lane, out) in out.iter_mut().enumerate() {
                let mut flat = Flat { d: f16_bits(found.d[lane]), m: f16_bits(-found.dmin[lane]), codes: [0; 32] };
                gather(&codes, 32, lane, &mut flat.codes);
                write(&flat, out);
            }
        });
    }

    fn super_signed<L: Levels, const SUBS: usize, const N: usize>(
        self,
        levels: L,
        half: f32,
        efforts: &Efforts<SignedEffort>,
        write: impl Fn(&Signed<SUBS>, &mut [u8; N]),
    ) {
        let mut codes: Codes = [[0; LANES]; 32];
        let effort = self.effort(efforts);
        let n = 256 / SUBS;
        self.each_group(n, 256, |group, out| {
            let found =
                dispatch(SignedSearch { group, levels, integers: Some((SUBS, half)), effort, codes: &mut codes });
            for (i, out) in out.iter_mut().enumerate() {
                let first = i * SUBS;
                let mut block = Signed {
                    d: f16_bits(found.d[first]),
                    scales: std::array::from_fn(|j| found.scales[first + j] as i8),
                    codes: [0; 256],
                };
                gather(&codes, n, first, &mut block.codes);
                write(&block, out);
            }
        });
    }

    fn super_affine<const SUBS: usize, const N: usize>(
        self,
        top: f32,
        limit: f32,
        efforts: &Efforts<AffineEffort>,
        write: impl Fn(&Affine<SUBS>, &mut [u8; N]),
    ) {
        let mut codes: Codes = [[0; LANES]; 32];
        let effort = self.effort(efforts);
        let n = 256 / SUBS;
        self.each_group(n, 256, |group, out| {
            let found = dispatch(AffineSearch { group, top, integers: Some((SUBS, limit)), effort, codes: &mut codes });
            for (i, out) in out.iter_mut().enumerate() {
                let first = i * SUBS;
                let mut block = Affine {
                    d: f16_bits(found.d[first]),
                    dmin: f16_bits(found.dmin[first]),
                    scales: std::array::from_fn(|j| found.scales[first + j] as u8),
                    mins: std::array::from_fn(|j| found.mins[first + j] as u8),
                    codes: [0; 256],
                };
                gather(&codes, n, first, &mut block.codes);
                write(&block, out);
            }
        });
    }
}
