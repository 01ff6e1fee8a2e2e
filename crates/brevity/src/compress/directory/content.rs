//! The bytes of a weight's tensors in a directory.

use super::format::DirectoryFormat;
use super::layout::{Item, Layout};
use crate::compress::plan::Planned;
use crate::compress::sensitivity::Sensitivities;
use crate::compress::write::Writing;
use crate::stop;
use anyhow::{Context, Result, bail};
use brevity_formats::grid::{self, GridMatrix, Symmetry};
use brevity_formats::safetensors::SafetensorsWriter;
use brevity_formats::{TensorType, awq, blocks, compressed_tensors, gptq};
use brevity_kernels::Matrix;
use brevity_model::export::{unpermute_rows, unpermuted_heads};
use brevity_parts::{StoredMatrix, StoredPart};
use brevity_weights::Level;
use std::ops::Range;

/// Weights that are in memory as f32 at once, where rows are independent.
const SLAB: usize = 1 << 21;

/// Writes the tensors of a weight but the first `skip`, which are there already.
///
/// # Errors
/// If the weight cannot be read or stored, or the file cannot be written.
pub fn write(writing: &Writing, item: &Item, skip: usize, out: &mut SafetensorsWriter) -> Result<()> {
    let weight = Weight::new(writing, item);
    match (item.layout, item.planned.level) {
        (Layout::Transposed, Level::Type(ty)) => weight.transposed(ty, out),
        (_, Level::Type(ty)) => weight.rows_of(ty, out),
        (Layout::Quantized(format), Level::Integer { .. }) => {
            let tensors = encode(weight.grid(format)?, format)?;
            for (tensor, bytes) in item.tensors.iter().zip(tensors).skip(skip) {
                out.write(&tensor.name, &bytes)?;
            }
            Ok(())
        }
        (Layout::Quantized(DirectoryFormat::Parts), Level::Sum(_)) => {
            for (tensor, bytes) in item.tensors.iter().zip(weight.sum()?).skip(skip) {
                out.write(&tensor.name, &bytes)?;
            }
            Ok(())
        }
        _ => bail!("{}: {} has no form here", item.name, item.planned.level),
    }
}

struct Weight<'a, 'm> {
    writing: &'a Writing<'m>,
    item: &'a Item<'a>,
    /// For each row of the output, the row of the source; `None` when they are the same.
    order: Option<Vec<usize>>,
}

impl<'a, 'm> Weight<'a, 'm> {
    fn new(writing: &'a Writing<'m>, item: &'a Item<'a>) -> Self {
        let entry = &item.planned.entry;
        let heads = unpermuted_heads(writing.source.config(), entry.role);
        Self { writing, item, order: heads.map(|heads| unpermute_rows(entry.rows, heads)) }
    }

    /// Ranges of rows that are read and stored at once.
    fn slabs(&self) -> Vec<Range<usize>> {
        let entry = &self.item.planned.entry;
        let slab = match self.order.is_none() && self.writing.method.rows_are_independent() {
            true => (SLAB / entry.cols.max(1)).clamp(1, entry.rows.max(1)),
            false => entry.rows.max(1),
        };
        (0..entry.rows).step_by(slab).map(|start| start..(start + slab).min(entry.rows)).collect()
    }

    fn values(&self, rows: Range<usize>) -> Result<Matrix> {
        let entry = &self.item.planned.entry;
        let mut values = self.writing.source.read_rows_f32(entry, rows.clone())?;
        if let Some(order) = &self.order {
            values = reorder(&values, entry.cols, order);
        }
        Ok(Matrix::from_vec(rows.len(), entry.cols, values))
    }

    /// Rows of numbers or blocks, in the one tensor that they fill.
    fn rows_of(&self, ty: TensorType, out: &mut SafetensorsWriter) -> Result<()> {
        let entry = &self.item.planned.entry;
        let name = &self.item.tensors.first().context("a weight without tensors")?.name;
        if let Some(part) = self.calibrated(ty.row_bytes(entry.cols).unwrap_or(0))? {
            let (StoredPart::Blocks { bytes, .. } | StoredPart::Dense { bytes, .. }) = part else {
                bail!("{}: not stored as {}", self.item.name, ty.name())
            };
            out.write(name, &bytes)?;
            return Ok(());
        }
        for rows in self.slabs() {
            stop::check()?;
            // Blocks go as they are; numbers are read, so that NaN and infinity are found, and written the same.
            let bytes = if entry.ty == ty && ty.is_quantized() && !entry.is_packed() {
                let raw = self.writing.source.read_raw_rows(entry, rows)?;
                match &self.order {
                    Some(order) => reorder(&raw, entry.row_bytes(), order),
                    None => raw,
                }
            } else {
                let values = self.values(rows)?;
                match ty.is_quantized() {
                    true => self.blocks(&values, ty)?,
                    false => numbers(ty, values.data())?,
                }
            };
            out.write(name, &bytes)?;
        }
        Ok(())
    }

    fn blocks(&self, values: &Matrix, ty: TensorType) -> Result<Vec<u8>> {
        match self.compress(values)? {
            StoredPart::Blocks { ty: found, bytes } if found == ty => Ok(bytes),
            _ => bail!("{}: not stored as {}", self.item.name, ty.name()),
        }
    }

    fn transposed(&self, ty: TensorType, out: &mut SafetensorsWriter) -> Result<()> {
        let entry = &self.item.planned.entry;
        let values = self.values(0..entry.rows)?;
        let mut turned = Vec::with_capacity(values.data().len());
        for col in 0..entry.cols {
            turned.extend((0..entry.rows).map(|row| values.row(row)[col]));
        }
        out.write(&self.item.name, &numbers(ty, &turned)?)?;
        Ok(())
    }

    /// The whole weight on its grid, slab after slab.
    fn grid(&self, format: DirectoryFormat) -> Result<GridMatrix> {
        if let Some(part) = self.calibrated(0)? {
            let StoredPart::Grid(mut grid) = part else {
                bail!("{}: not stored as {}", self.item.name, self.item.planned.level)
            };
            if format == DirectoryFormat::Gptq {
                let rows = 0..grid.rows;
                zeros_from_one(&mut grid, &self.values(rows)?)?;
            }
            return Ok(grid);
        }
        let mut whole: Option<GridMatrix> = None;
        for rows in self.slabs() {
            stop::check()?;
            let values = self.values(rows)?;
            let StoredPart::Grid(mut grid) = self.compress(&values)? else {
                bail!("{}: not stored as {}", self.item.name, self.item.planned.level);
            };
            if format == DirectoryFormat::Gptq {
                zeros_from_one(&mut grid, &values)?;
            }
            match &mut whole {
                None => whole = Some(grid),
                Some(whole) => {
                    whole.rows += grid.rows;
                    whole.codes.extend(grid.codes);
                    whole.scales.extend(grid.scales);
                    whole.zeros.extend(grid.zeros);
                }
            }
        }
        whole.with_context(|| format!("{} has no rows", self.item.name))
    }

    /// The fields of a sum of parts, as the descriptor planned them.
    fn sum(&self) -> Result<Vec<Vec<u8>>> {
        let Planned { entry, level, .. } = self.item.planned;
        let mut stored = match self.writing.calibrated(entry, *level)? {
            Some(stored) => stored,
            None => self.stored(&self.values(0..entry.rows)?)?,
        };
        for part in &mut stored.parts {
            if let StoredPart::SignScale { gain: Some(gain), .. } = part {
                *gain *= Sensitivities::typical().of(self.item.planned.entry.role) as f32;
            }
        }
        if Some(stored.descriptor()) != self.item.descriptor() {
            bail!("{}: stored in other parts than planned", self.item.name);
        }
        Ok(stored.fields().into_iter().map(|field| field.bytes).collect())
    }

    fn compress(&self, values: &Matrix) -> Result<StoredPart> {
        self.single(self.stored(values)?)
    }

    fn stored(&self, values: &Matrix) -> Result<StoredMatrix> {
        let Planned { entry, level, .. } = self.item.planned;
        Ok(self.writing.method.compress(values, &self.writing.statistics(entry), *level)?)
    }

    /// The weight as calibration has it, rows in the output's order; `row` bytes each where it is blocks.
    fn calibrated(&self, row: usize) -> Result<Option<StoredPart>> {
        let Some(stored) = self.writing.calibrated(&self.item.planned.entry, self.item.planned.level)? else {
            return Ok(None);
        };
        let mut part = self.single(stored)?;
        let Some(order) = &self.order else { return Ok(Some(part)) };
        match &mut part {
            StoredPart::Blocks { bytes, .. } | StoredPart::Dense { bytes, .. } => *bytes = reorder(bytes, row, order),
            StoredPart::Grid(grid) => {
                let groups = grid.groups_per_row();
                grid.codes = reorder(&grid.codes, grid.cols, order);
                grid.scales = reorder(&grid.scales, groups, order);
                grid.zeros = reorder(&grid.zeros, groups, order);
            }
            _ => bail!("{}: its rows cannot be put in another order", self.item.name),
        }
        Ok(Some(part))
    }

    fn single(&self, stored: StoredMatrix) -> Result<StoredPart> {
        let StoredMatrix { transform: None, parts, .. } = stored else {
            bail!("{}: a transform of the input is not planned here", self.item.name);
        };
        match <[StoredPart; 1]>::try_from(parts) {
            Ok([part]) => Ok(part),
            Err(parts) => bail!("{}: {} parts are not planned here", self.item.name, parts.len()),
        }
    }
}

fn numbers(ty: TensorType, values: &[f32]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; values.len() * ty.block_bytes()];
    blocks::quantize(ty, values, None, &mut bytes)?;
    Ok(bytes)
}

/// Rows of `width` things in another order.
fn reorder<T: Copy>(rows: &[T], width: usize, order: &[usize]) -> Vec<T> {
    order.iter().flat_map(|&row| &rows[row * width..][..width]).copied().collect()
}

/// Moves zero points off 0, which GPTQ's version 1 cannot store.
///
/// A group whose codes leave room above moves up by one with nothing lost; the others (groups without a negative weight that
/// use every level) are searched again without that zero point.
fn zeros_from_one(grid: &mut GridMatrix, values: &Matrix) -> Result<()> {
    let (groups, length, largest) = (grid.groups_per_row(), grid.group_length(), ((1u16 << grid.bits) - 1) as u8);
    for index in (0..grid.zeros.len()).filter(|index| grid.zeros[*index] == 0).collect::<Vec<_>>() {
        let (row, start) = (index / groups, index % groups * length);
        let columns = start..(start + length).min(grid.cols);
        let codes = &mut grid.codes[row * grid.cols..][columns.clone()];
        if codes.iter().all(|code| *code < largest) {
            codes.iter_mut().for_each(|code| *code += 1);
            grid.zeros[index] = 1;
            continue;
        }
        let weights = &values.row(row)[columns];
        let again = grid::quantize(weights, weights.len(), grid.bits, 0, None, Symmetry::AsymmetricFromOne)?;
        codes.copy_from_slice(&again.codes);
        grid.zeros[index] = again.zeros[0];
        grid.scales[index] = again.scales[0];
    }
    Ok(())
}

/// The bytes of a grid's tensors, in the order of [`Item::tensors`].
fn encode(grid: GridMatrix, format: DirectoryFormat) -> Result<Vec<Vec<u8>>> {
    let words = |words: &[i32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |bits: &[u16]| bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>();
    Ok(match format {
        DirectoryFormat::Gptq => {
            let packed = gptq::pack(&grid, gptq::Version::V1)?;
            vec![words(&packed.qweight), words(&packed.qzeros), halves(&packed.scales), words(&packed.g_idx)]
        }
        DirectoryFormat::Awq => {
            let packed = awq::pack(&grid)?;
            vec![words(&packed.qweight), words(&packed.qzeros), halves(&packed.scales)]
        }
        DirectoryFormat::CompressedTensors => {
            let packed = compressed_tensors::pack(&grid, false)?;
            let zeros = packed.weight_zero_point.as_deref().unwrap_or_default();
            let shape = packed.shape.iter().flat_map(|&length| (length as i64).to_le_bytes()).collect();
            vec![words(&packed.weight_packed), halves(&packed.scale_bits()), words(zeros), shape]
        }
        DirectoryFormat::Parts => {
            let (rows, cols) = (grid.rows, grid.cols);
            let stored = StoredMatrix { rows, cols, transform: None, parts: vec![StoredPart::Grid(grid)] };
            stored.fields().into_iter().map(|field| field.bytes).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_leave_zero() {
        // Group 0 has room above its codes, group 1 uses every level, group 2 has negative weights.
        let row = [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 3.0, -1.0, 0.0, 1.0, 2.0];
        let mut grid = GridMatrix {
            bits: 2,
            group: 4,
            rows: 1,
            cols: 12,
            codes: vec![0, 1, 2, 2, 0, 1, 2, 3, 0, 1, 2, 3],
            scales: vec![1.0; 3],
            zeros: vec![0, 0, 1],
        };
        assert_eq!(grid.dequantize(), row);
        zeros_from_one(&mut grid, &Matrix::from_vec(1, 12, row.to_vec())).unwrap();
        assert!(grid.zeros.iter().all(|zero| *zero > 0));
        let after = grid.dequantize();
        assert_eq!((&after[..4], &after[8..]), (&row[..4], &row[8..]));
        assert!(after[4..8].iter().zip(&row[4..8]).all(|(a, b)| (a - b).abs() <= 1.0), "{after:?}");
    }

    #[test]
    fn rows_are_reordered() {
        assert_eq!(reorder(&[1, 2, 3, 4, 5, 6], 2, &[2, 0, 1]), [5, 6, 1, 2, 3, 4]);
    }
}
