//! Flat layouts: every block of 32, or every group of so many columns, has its scale, and its min or zero point.

mod source;

use super::activations::BLOCK;
use super::codes::{self, Planes, Steps, Table};
use super::kernel::*;
use super::pack::{Codes, Geometry, blocks, build, lanes};
use super::storage::Bytes;
use super::{RowSource, Visit};
use crate::pool::Shared;
use half::f16;
use source::{Exponents, Full, Half, View, Zeros};

/// What the codes of [`FlatPanels`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlatCodes {
    /// So many bits, 2 to 8 of them with mins, 4, 5 or 8 without. A stored code c stands for c with mins, for `c − 2^(bits − 1)`
    /// without them, and in eight bits always for `c − 128`.
    Bits(u32),
    /// Four bits into a table of unequal steps, without mins.
    Table(Steps),
}

impl FlatCodes {
    fn bits(self) -> u32 {
        match self {
            FlatCodes::Bits(bits) => bits,
            FlatCodes::Table(_) => 4,
        }
    }
}

/// Where the scales of [`FlatPanels`] come from, and how they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scales {
    /// One per block of 32, kept as f16: what GGUF's legacy types have. Values are rounded to f16, so give values
    /// that are f16 already. Costs 0.5 bit per weight for the scale, as much for the min.
    F16,
    /// One per group of so many columns (a multiple of 32), kept as f32. Costs `32 / group` bits per weight for the scale,
    /// as much for the min.
    F32 {
        /// Columns in a group.
        group: usize,
    },
    /// One per block of 32, a power of two from 2⁻¹²⁸ to 2¹²⁷, kept as a byte: MXFP4. Others are rounded up to one. Costs 0.25 bit
    /// per weight. For [`FlatCodes::Table`] only.
    Powers,
    /// An f16 scale and a zero point of eight bits per group of so many columns (a multiple of 32): integer grids. The min is
    /// `scale · zero`. Costs `24 / group` bits per weight.
    Zeros {
        /// Columns in a group.
        group: usize,
    },
}

/// One row to be filled by the caller of [`FlatPanels::new`]. All slices are zero at first.
pub struct FlatRow<'a> {
    /// One stored code per column; see [`FlatCodes`].
    pub codes: &'a mut [u8],
    /// One scale per group of columns (32, or the group of [`Scales`]), the last group maybe shorter.
    pub scales: &'a mut [f32],
    /// As many mins, or none if the layout has none; with [`Scales::Zeros`] the zero points, 0..=255 (of eight-bit codes:
    /// −128..=127, in the terms of what they stand for).
    pub mins: &'a mut [f32],
}

/// A matrix whose blocks have a scale each, and maybe a min: the weight is `scale · code`, or `scale · code − min`
/// (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, integer grids of 2 to 8 bits).
pub struct FlatPanels {
    rows: usize,
    cols: usize,
    codes: FlatCodes,
    scales: Scales,
    has_min: bool,
    blocks_per_group: usize,
    geometry: Geometry,
    data: Bytes,
    /// `[panel][group]` of scales and mins of sixteen rows, empty when they are beside the codes.
    apart: Bytes,
}

impl FlatPanels {
    /// Packs `rows × cols` codes with a scale, and a min if `has_min`, per group of columns.
    /// `fill(row, slices)` is called once per row, from several threads.
    ///
    /// # Panics
    /// If the group of [`Scales`] is not a positive multiple of 32, or there are no kernels for the codes: see [`FlatCodes`];
    /// zero points are mins.
    pub fn new(
        (rows, cols): (usize, usize),
        codes: FlatCodes,
        scales: Scales,
        has_min: bool,
        fill: impl Fn(usize, FlatRow<'_>) + Sync,
    ) -> FlatPanels {
        let possible = match codes {
            FlatCodes::Bits(_) if scales == Scales::Powers => false,
            FlatCodes::Bits(bits) if has_min => (2..=8).contains(&bits),
            FlatCodes::Bits(bits) => matches!(bits, 4 | 5 | 8) && !matches!(scales, Scales::Zeros { .. }),
            FlatCodes::Table(_) => !has_min && !matches!(scales, Scales::Zeros { .. }),
        };
        assert!(possible, "no kernels for {codes:?} with {scales:?}, mins: {has_min}");
        let (beside, group) = match scales {
            Scales::F16 | Scales::Powers => (true, BLOCK),
            Scales::F32 { group } | Scales::Zeros { group } => (false, group),
        };
        assert!(group > 0 && group.is_multiple_of(BLOCK), "groups of {group} columns are not whole blocks of {BLOCK}");
        let (blocks, blocks_per_group, bits) = (blocks(cols), group / BLOCK, codes.bits());
        let (groups, field, code) =
            (blocks.div_ceil(blocks_per_group), field_bytes(scales, has_min), codes::block_bytes(bits));
        let geometry = Geometry { field: if beside { field } else { 0 }, code };
        let panels = rows.div_ceil(PANEL);
        let mut apart = Bytes::zeroed(if beside { 0 } else { panels * groups * field });
        let shared = Shared(apart.as_mut_ptr());
        let data = build(panels, geometry.panel(blocks), |panel, bytes| {
            let mut rows_codes = Codes::new(cols);
            let mut fields = vec![0u8; groups * field];
            let (mut row_scales, mut row_mins) = (vec![0f32; groups], vec![0f32; if has_min { groups } else { 0 }]);
            for (lane, row) in lanes(panel, rows) {
                row_scales.fill(0.0);
                row_mins.fill(0.0);
                let to = FlatRow { codes: rows_codes.row(lane, cols), scales: &mut row_scales, mins: &mut row_mins };
                fill(row, to);
                for (g, to) in fields.chunks_exact_mut(field).enumerate() {
                    put_fields(scales, to, lane, row_scales[g], row_mins.get(g).copied());
                }
            }
            if !beside {
                // SAFETY: `apart` has a stretch for every panel, and this one is ours.
                unsafe {
                    shared.get().add(panel * fields.len()).copy_from_nonoverlapping(fields.as_ptr(), fields.len())
                };
            }
            for first in (0..blocks).step_by(CHUNK) {
                let n = CHUNK.min(blocks - first);
                let (head, body) = bytes[geometry.chunk(first / CHUNK)..].split_at_mut(geometry.fields(n));
                for b in 0..n {
                    codes::put(bits, &rows_codes, first + b, &mut body[b * code..][..code]);
                }
                if beside {
                    head[..n * field].copy_from_slice(&fields[first * field..][..n * field]);
                }
            }
        });
        FlatPanels { rows, cols, codes, scales, has_min, blocks_per_group, geometry, data, apart }
    }

    fn panel_bytes(&self) -> usize {
        self.geometry.panel(blocks(self.cols))
    }

    fn apart_bytes(&self) -> usize {
        blocks(self.cols).div_ceil(self.blocks_per_group) * field_bytes(self.scales, self.has_min)
    }

    /// Scale and min of block `b` of `row`.
    fn fields(&self, row: usize, b: usize) -> (f32, f32) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let bytes = match self.scales {
            Scales::F16 | Scales::Powers => {
                let at = panel * self.panel_bytes() + self.geometry.chunk(b / CHUNK) + b % CHUNK * self.geometry.field;
                &self.data.as_slice()[at..]
            }
            _ => {
                let field = field_bytes(self.scales, self.has_min);
                &self.apart.as_slice()[panel * self.apart_bytes() + b / self.blocks_per_group * field..]
            }
        };
        let half = |i: usize| f16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32();
        let full = |i: usize| f32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        match (self.scales, self.has_min) {
            (Scales::F16, false) => (half(lane), 0.0),
            (Scales::Powers, _) => (power(bytes[lane]), 0.0),
            (Scales::F16, true) => (half(lane), half(PANEL + lane)),
            (Scales::F32 { .. }, false) => (full(lane), 0.0),
            (Scales::F32 { .. }, true) => (full(lane), full(PANEL + lane)),
            (Scales::Zeros { .. }, _) => {
                let zero = bytes[2 * PANEL + lane];
                let zero = if self.codes.bits() == 8 { f32::from(zero as i8) } else { f32::from(zero) };
                (half(lane), half(lane) * zero)
            }
        }
    }

    fn visit_bits<const BITS: u32, F: Form>(&self, visitor: impl Visit) {
        match self.scales {
            Scales::F16 | Scales::Powers => visitor.visit(&View::<Planes<BITS>, F, Half>::new(self)),
            Scales::F32 { .. } => visitor.visit(&View::<Planes<BITS>, F, Full>::new(self)),
            Scales::Zeros { .. } => visitor.visit(&View::<Planes<BITS>, F, Zeros>::new(self)),
        }
    }

    fn visit_table<const STEPS: usize, F: Form>(&self, visitor: impl Visit) {
        match self.scales {
            Scales::F16 => visitor.visit(&View::<Table<STEPS>, F, Half>::new(self)),
            Scales::Powers => visitor.visit(&View::<Table<STEPS>, F, Exponents>::new(self)),
            _ => visitor.visit(&View::<Table<STEPS>, F, Full>::new(self)),
        }
    }

    pub(super) fn visit(&self, visitor: impl Visit) {
        const IQ4: usize = Steps::Iq4 as usize;
        const MXFP4: usize = Steps::Mxfp4 as usize;
        match (self.codes, self.has_min) {
            (FlatCodes::Bits(4), false) => self.visit_bits::<4, NibbleForm>(visitor),
            (FlatCodes::Bits(5), false) => self.visit_bits::<5, FiveForm>(visitor),
            (FlatCodes::Bits(_), false) => self.visit_bits::<8, ByteForm>(visitor),
            (FlatCodes::Bits(2), true) => self.visit_bits::<2, NibbleMinForm>(visitor),
            (FlatCodes::Bits(3), true) => self.visit_bits::<3, NibbleMinForm>(visitor),
            (FlatCodes::Bits(4), true) => self.visit_bits::<4, NibbleMinForm>(visitor),
            (FlatCodes::Bits(5), true) => self.visit_bits::<5, FiveMinForm>(visitor),
            (FlatCodes::Bits(6), true) => self.visit_bits::<6, SixMinForm>(visitor),
            (FlatCodes::Bits(7), true) => self.visit_bits::<7, SevenMinForm>(visitor),
            (FlatCodes::Bits(_), true) => self.visit_bits::<8, ByteMinForm>(visitor),
            (FlatCodes::Table(Steps::Iq4), _) => self.visit_table::<IQ4, ByteForm>(visitor),
            (FlatCodes::Table(Steps::Mxfp4), _) => self.visit_table::<MXFP4, FiveForm>(visitor),
        }
    }
}

/// `2^(e − 128)`.
fn power(e: u8) -> f32 {
    let e = u32::from(e);
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
}

/// Bytes of the scales and mins of sixteen rows.
fn field_bytes(scales: Scales, has_min: bool) -> usize {
    match scales {
        Scales::F16 => source::field_bytes::<Half>(has_min),
        Scales::F32 { .. } => source::field_bytes::<Full>(has_min),
        Scales::Powers => source::field_bytes::<Exponents>(has_min),
        Scales::Zeros { .. } => source::field_bytes::<Zeros>(has_min),
    }
}

fn put_fields(scales: Scales, to: &mut [u8], lane: usize, scale: f32, min: Option<f32>) {
    let mut half = |i: usize, v: f32| to[2 * i..][..2].copy_from_slice(&f16::from_f32(v).to_bits().to_ne_bytes());
    match scales {
        Scales::F16 => {
            half(lane, scale);
            min.into_iter().for_each(|min| half(PANEL + lane, min));
        }
        Scales::Powers => to[lane] = (0..255).find(|e| power(*e) >= scale).unwrap_or(255),
        Scales::F32 { .. } => {
            to[4 * lane..][..4].copy_from_slice(&scale.to_ne_bytes());
            min.into_iter().for_each(|min| to[4 * (PANEL + lane)..][..4].copy_from_slice(&min.to_ne_bytes()));
        }
        Scales::Zeros { .. } => {
            half(lane, scale);
            to[2 * PANEL + lane] = min.unwrap_or(0.0) as i32 as u8;
        }
    }
}

impl RowSource for FlatPanels {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn block(&self) -> usize {
        BLOCK
    }
    fn has_min(&self) -> bool {
        self.has_min
    }
    fn bytes(&self) -> usize {
        self.data.len() + self.apart.len()
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let (blocks, bits) = (blocks(self.cols), self.codes.bits());
        for (b, codes) in codes.chunks_mut(BLOCK).enumerate() {
            let n = CHUNK.min(blocks - b / CHUNK * CHUNK);
            let at = row / PANEL * self.panel_bytes() + self.geometry.chunk(b / CHUNK) + self.geometry.fields(n);
            let block = &self.data.as_slice()[at + b % CHUNK * self.geometry.code..];
            for (k, c) in codes.iter_mut().enumerate() {
                let stored = codes::get(bits, block, row % PANEL, k);
                *c = match self.codes {
                    FlatCodes::Bits(8) => (stored ^ 0x80) as i8,
                    FlatCodes::Bits(_) if self.has_min => stored as i8,
                    FlatCodes::Bits(bits) => stored as i8 - (1 << (bits - 1)),
                    FlatCodes::Table(steps) => steps.values()[usize::from(stored)],
                };
            }
            let (scale, min) = self.fields(row, b);
            scales[b] = scale;
            if self.has_min {
                mins[b] = min;
            }
        }
    }
}
