//! Every block type and grid through the kernels against the format's own words: rows come back to the bit, and products agree
//! with f32 within what eight-bit activations cost.

use brevity_formats::grid::GridMatrix;
use brevity_formats::{TensorType, blocks};
use brevity_kernels::Matrix;
use brevity_parts::{Activation, CompressedMatrix, Input};
use half::f16;

const ROWS: usize = 37;
const COLS: usize = 768;

fn noise(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(2) + 1;
    move || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) ^ (state >> 21)
    }
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut next = noise(seed);
    (0..count).map(|_| (next() % 4096) as f32 / 2048.0 - 1.0).collect()
}

/// Blocks of random weights, or, of a type that cannot be written, random codes with a modest scale.
fn random_blocks(ty: TensorType) -> Vec<u8> {
    let mut bytes = vec![0; ROWS * ty.row_bytes(COLS).unwrap()];
    if ty.writable() {
        blocks::quantize(ty, &values(ROWS * COLS, 3), None, &mut bytes).unwrap();
        return bytes;
    }
    let mut next = noise(5);
    bytes.iter_mut().for_each(|byte| *byte = next() as u8);
    let d = f16::from_f32(0.02).to_le_bytes();
    bytes.chunks_exact_mut(ty.block_bytes()).for_each(|block| block[..2].copy_from_slice(&d));
    bytes
}

/// `rounding`: what a weight may differ by.
fn check(name: &str, matrix: &CompressedMatrix, dense: &[f32], rounding: f32) {
    let mut row = vec![0.0; COLS];
    for (n, expected) in dense.chunks_exact(COLS).enumerate() {
        matrix.row_f32(n, &mut row);
        assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() <= rounding), "{name}: row {n}");
    }
    for m in [1, 5, 19] {
        let x = Matrix::from_vec(m, COLS, values(m * COLS, 11));
        for activation in [Activation::Int8, Activation::F32] {
            let mut y = Matrix::zeros(m, ROWS);
            matrix.multiply(&Input::new(x.view(), activation), &mut y.view_mut(), false);
            for (r, n) in (0..m).flat_map(|r| (0..ROWS).map(move |n| (r, n))) {
                let w = &dense[n * COLS..][..COLS];
                let exact: f64 = x.row(r).iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let size: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
                // Activations are at most one: half a step is 1/254.
                let bound = if activation == Activation::Int8 { size * 0.5 / 127.0 } else { 0.0 } + size * 1e-5;
                let found = f64::from(y.row(r)[n]);
                assert!((found - exact).abs() <= bound, "{name} {activation:?}: {found}, {exact} ± {bound}");
            }
        }
    }
}

#[test]
fn every_block_type_multiplies_what_it_stands_for() {
    for ty in TensorType::all().filter(|ty| ty.is_quantized() && ty.readable()) {
        let bytes = random_blocks(ty);
        let mut dense = vec![0.0; ROWS * COLS];
        blocks::dequantize(ty, &bytes, &mut dense).unwrap();
        let matrix = CompressedMatrix::from_bytes(ty, ROWS, COLS, &bytes).unwrap();
        check(ty.name(), &matrix, &dense, 0.0);
    }
}

#[test]
fn every_grid_multiplies_what_it_stands_for() {
    for bits in 2..=8u8 {
        for group in [32, 64, 128, 0, 96, 48] {
            let groups = ROWS * brevity_formats::grid::groups_per_row(COLS, group);
            let mut next = noise(u32::from(bits));
            let mut code = || (next() & ((1 << bits) - 1)) as u8;
            // Scales that half floats hold, and (groups of 96) scales that they do not.
            let scale = |i: usize| if group == 96 { 0.1 + i as f32 * 1e-3 } else { f16::from_f32(0.02).to_f32() };
            let scales = (0..groups).map(scale);
            let grid = GridMatrix {
                bits,
                group,
                rows: ROWS,
                cols: COLS,
                scales: scales.collect(),
                codes: (0..ROWS * COLS).map(|_| code()).collect(),
                zeros: (0..groups).map(|_| code()).collect(),
            };
            let dense = grid.dequantize();
            let matrix = CompressedMatrix::from_grid(grid).unwrap();
            // scale · zero is rounded once where the scale has more than eleven bits.
            let rounding = if group == 96 { 0.5 * 255.0 * f32::EPSILON } else { 0.0 };
            check(&format!("int{bits}:{group}"), &matrix, &dense, rounding);
        }
    }
}
