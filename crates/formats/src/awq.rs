//! AWQ checkpoints in the GEMM layout: 4-bit grids in three tensors per linear layer.
//!
//! | tensor | type | shape | holds |
//! |---|---|---|---|
//! | `qweight` | i32 | `[in, out/8]` | codes, packed along `out` |
//! | `qzeros` | i32 | `[groups, out/8]` | zero points, packed alike |
//! | `scales` | f16 | `[groups, out]` | scales |
//!
//! Nibble i of a word, from the lowest, belongs to output `8·word + ORDER[i]`.

use crate::error::Result;
use crate::grid::{GridError, GridMatrix, check_shape, groups_per_row};
use half::f16;
use serde_json::{Value, json};

/// The output that each nibble of a word belongs to.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// The three tensors of a layer, with the shape that they do not say themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct AwqTensors {
    /// Outputs, a multiple of 8.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Packed codes, `[cols, rows/8]`.
    pub qweight: Vec<i32>,
    /// Packed zero points, `[groups, rows/8]`.
    pub qzeros: Vec<i32>,
    /// Bits of half floats, `[groups, rows]`.
    pub scales: Vec<u16>,
}

/// Eight nibbles a word, in the format's order; short words end in zeros.
fn words(codes: impl Fn(usize) -> u8, rows: usize) -> impl Iterator<Item = i32> {
    let word = move |first: usize| {
        let outputs = ORDER.iter().enumerate().filter(|(_, output)| first + **output < rows);
        outputs.map(|(place, output)| u32::from(codes(first + output) & 15) << (4 * place)).sum::<u32>() as i32
    };
    (0..rows).step_by(8).map(word)
}

/// Packs a grid.
///
/// # Errors
/// [`GridError::Bits`] if it is not of 4 bits, [`GridError::ShortGroup`] if eight do not divide the outputs or the group the inputs
/// (readers need both); whatever [`GridMatrix::validate`] finds.
pub fn pack(grid: &GridMatrix) -> Result<AwqTensors> {
    grid.validate()?;
    if grid.bits != 4 {
        return Err(GridError::Bits { bits: grid.bits.into() }.into());
    }
    let (rows, cols, groups) = (grid.rows, grid.cols, grid.groups_per_row());
    if !rows.is_multiple_of(8) {
        return Err(GridError::ShortGroup { cols: rows, group: 8, format: "AWQ (along outputs)" }.into());
    }
    if grid.group > 0 && !cols.is_multiple_of(grid.group) {
        return Err(GridError::ShortGroup { cols, group: grid.group, format: "AWQ" }.into());
    }
    let mut tensors = AwqTensors { rows, cols, qweight: Vec::new(), qzeros: Vec::new(), scales: Vec::new() };
    tensors.qweight.reserve(cols * rows / 8);
    for col in 0..cols {
        tensors.qweight.extend(words(|row| grid.codes[row * cols + col], rows));
    }
    for group in 0..groups {
        tensors.qzeros.extend(words(|row| grid.zeros[row * groups + group], rows));
        tensors.scales.extend((0..rows).map(|row| f16::from_f32(grid.scales[row * groups + group]).to_bits()));
    }
    Ok(tensors)
}

/// The JSON that goes into config.json as `quantization_config`; `group` 0 is the whole row, `left` the linears that stay as they are.
pub fn config(group: usize, left: &[&str]) -> Value {
    json!({
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": if group == 0 { -1 } else { group as i64 },
        "zero_point": true,
        "modules_to_not_convert": if left.is_empty() { Value::Null } else { left.into() },
    })
}

/// The nibble of output `row` in a line of packed words.
fn nibble(line: &[i32], row: usize) -> u8 {
    let place = ORDER.iter().position(|output| *output == row % 8).unwrap_or(0);
    ((line[row / 8] as u32 >> (4 * place)) & 15) as u8
}

/// Reads a grid of `group` columns per group (0: all).
///
/// # Errors
/// [`GridError`] for tensors that do not fit the shape, [`Error::NonFinite`](crate::Error::NonFinite) for scales.
pub fn unpack(tensors: &AwqTensors, group: usize) -> Result<GridMatrix> {
    let (rows, cols) = (tensors.rows, tensors.cols);
    check_shape(rows, cols, 4)?;
    let groups = groups_per_row(cols, group);
    let words = rows.div_ceil(8);
    let mut grid = GridMatrix { bits: 4, group, rows, cols, codes: Vec::new(), scales: Vec::new(), zeros: Vec::new() };
    grid.check_size("qweight", tensors.qweight.len(), words.saturating_mul(cols))?;
    grid.check_size("qzeros", tensors.qzeros.len(), words.saturating_mul(groups))?;
    grid.check_size("scales", tensors.scales.len(), rows.saturating_mul(groups))?;
    if !rows.is_multiple_of(8) {
        return Err(GridError::ShortGroup { cols: rows, group: 8, format: "AWQ (along outputs)" }.into());
    }
    grid.codes.reserve(rows * cols);
    for row in 0..rows {
        grid.codes.extend((0..cols).map(|col| nibble(&tensors.qweight[col * words..][..words], row)));
        for group in 0..groups {
            grid.zeros.push(nibble(&tensors.qzeros[group * words..][..words], row));
            grid.scales.push(f16::from_bits(tensors.scales[group * rows + row]).to_f32());
        }
    }
    grid.validate()?;
    Ok(grid)
}
