//! Units: the columns of a row that share a scale, fitted before their codes are chosen.
//!
//! An integer grid's unit is a group, a block type's is a block (a super-block for k-quants). [`Unit::fit`] searches the
//! scales of one unit for a slab of rows at once; codes are chosen later, one by one.

use crate::{Error, Level};
use brevity_formats::TensorType;
use brevity_formats::blocks::frame::Frames;
use brevity_formats::grid::{self, GridMatrix, Symmetry};
use std::ops::Range;

/// The scales of one unit in each row of a slab.
pub(crate) enum Unit {
    Grid { scales: Vec<f32>, zeros: Vec<u8>, top: f32 },
    Blocks { frames: Frames, length: usize },
}

impl Unit {
    /// Fits `values` (rows × `importance.len()`), errors weighted by `importance`, which is one number per column.
    pub(crate) fn fit(level: Level, values: &[f32], importance: &[f32]) -> Result<Self, Error> {
        let length = importance.len();
        Ok(match level {
            Level::Integer { bits, .. } => {
                let symmetry = Symmetry::AsymmetricFromOne;
                let fitted = grid::quantize(values, length, bits, 0, Some(importance), symmetry)?;
                let top = ((1u16 << bits) - 1) as f32;
                Unit::Grid { scales: fitted.scales, zeros: fitted.zeros, top }
            }
            Level::Type(ty) => Unit::Blocks { frames: Frames::fit(ty, values, Some(importance))?, length },
            Level::Sum(_) => return Err(Error::DoesNotFit { level: level.to_string(), cols: length }),
        })
    }

    /// The code nearest to `value` at `at` (counted from the unit's first column) of a row, and what it stands for.
    #[inline]
    pub(crate) fn nearest(&self, row: usize, at: usize, value: f32) -> (u8, f32) {
        match self {
            Unit::Grid { scales, zeros, top } => {
                let (scale, zero) = (scales[row], f32::from(zeros[row]));
                // The cast takes a NaN to 0.
                let code = ((value / scale).round_ties_even() + zero).clamp(0.0, *top) as u8;
                (code, scale * (f32::from(code) - zero))
            }
            Unit::Blocks { frames, length } => frames.nearest(row * length + at, value),
        }
    }
}

/// How a level cuts a row of `cols` weights into units: every unit's columns.
pub(crate) fn units(level: Level, cols: usize) -> Vec<Range<usize>> {
    let length = match level {
        Level::Integer { group: 0, .. } | Level::Sum(_) => cols,
        Level::Integer { group, .. } => group,
        Level::Type(ty) => ty.block(),
    };
    (0..cols).step_by(length.max(1)).map(|start| start..(start + length).min(cols)).collect()
}

/// Rows of units as they are stored.
#[derive(Clone)]
pub(crate) enum Rows {
    Grid(GridMatrix),
    Blocks { ty: TensorType, row: usize, bytes: Vec<u8> },
}

impl Rows {
    /// Puts the units of a slab and their codes (rows × cols, in natural order) together.
    pub(crate) fn assemble(level: Level, cols: usize, units: &[Unit], codes: Vec<u8>) -> Result<Self, Error> {
        let (rows, spans) = (codes.len() / cols.max(1), self::units(level, cols));
        let ty = match level {
            Level::Type(ty) => ty,
            Level::Sum(_) => return Err(Error::DoesNotFit { level: level.to_string(), cols }),
            Level::Integer { bits, group } => {
                let (mut scales, mut zeros) = (Vec::new(), Vec::new());
                for row in 0..rows {
                    for unit in units {
                        if let Unit::Grid { scales: s, zeros: z, .. } = unit {
                            scales.push(s[row]);
                            zeros.push(z[row]);
                        }
                    }
                }
                return Ok(Rows::Grid(GridMatrix { bits, group, rows, cols, codes, scales, zeros }));
            }
        };
        let does_not_fit = || Error::DoesNotFit { level: ty.name().to_string(), cols };
        let row_bytes = ty.row_bytes(cols).ok_or_else(does_not_fit)?;
        let mut bytes = vec![0; rows * row_bytes];
        let block = ty.block_bytes();
        let mut encoded = vec![0; rows * block];
        for (index, (unit, span)) in units.iter().zip(spans).enumerate() {
            let Unit::Blocks { frames, .. } = unit else { continue };
            let gathered: Vec<u8> = codes.chunks_exact(cols).flat_map(|row| &row[span.clone()]).copied().collect();
            frames.encode(&gathered, &mut encoded)?;
            for (row, encoded) in encoded.chunks_exact(block).enumerate() {
                bytes[row * row_bytes + index * block..][..block].copy_from_slice(encoded);
            }
        }
        Ok(Rows::Blocks { ty, row: row_bytes, bytes })
    }

    /// Takes the rows of `slab` that are `wanted`, its first row being row `start` here.
    pub(crate) fn put_rows(&mut self, start: usize, slab: &Rows, wanted: &[bool]) {
        let rows = wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(row, _)| row);
        match (self, slab) {
            (Rows::Grid(whole), Rows::Grid(slab)) => {
                let (cols, groups) = (whole.cols, whole.groups_per_row());
                for row in rows {
                    let at = start + row;
                    whole.codes[at * cols..][..cols].copy_from_slice(&slab.codes[row * cols..][..cols]);
                    whole.scales[at * groups..][..groups].copy_from_slice(&slab.scales[row * groups..][..groups]);
                    whole.zeros[at * groups..][..groups].copy_from_slice(&slab.zeros[row * groups..][..groups]);
                }
            }
            (Rows::Blocks { row: length, bytes, .. }, Rows::Blocks { bytes: slab, .. }) => {
                let length = *length;
                for row in rows {
                    bytes[(start + row) * length..][..length].copy_from_slice(&slab[row * length..][..length]);
                }
            }
            _ => {}
        }
    }
}
