//! `cargo bench -p brevity-parts --bench blocks [-- REPETITIONS [FILTER [MOST ROWS [MATRICES]]]]`: GFLOP/s (`2·m·n·k` over the time
//! of quantising and multiplying) of every GGML block type and of integer grids on one thread, for m rows of activations and
//! 4096 outputs of 14336 columns, with the bits a weight takes in memory. With many matrices, multiplied in turn, they come
//! from memory rather than from a cache, as those of a model do that writes a token.

use brevity_formats::grid::GridMatrix;
use brevity_formats::{TensorType, blocks};
use brevity_kernels::{Isa, Matrix, pool};
use brevity_parts::{Activation, CompressedMatrix, Input};
use half::f16;
use std::time::Instant;

type Make = Box<dyn Fn() -> CompressedMatrix>;

const OUTPUTS: usize = 4096;
const COLS: usize = 14336;
const ROWS: [usize; 4] = [1, 4, 16, 512];

fn byte(r: usize, i: usize) -> u8 {
    ((r * COLS + i).wrapping_mul(0x9e37_79b9) >> 11) as u8
}

fn values(r: usize) -> Vec<f32> {
    (0..COLS).map(|i| f32::from(byte(r, i)) / 127.5 - 1.0).collect()
}

/// Every row holds the same weights. Types that cannot be written get random codes and a scale that is a half float.
fn block_type(ty: TensorType) -> CompressedMatrix {
    let mut row = vec![0; ty.row_bytes(COLS).unwrap()];
    if ty.writable() {
        blocks::quantize(ty, &values(7), None, &mut row).unwrap();
    } else {
        row.iter_mut().enumerate().for_each(|(i, b)| *b = byte(7, i));
        let d = f16::from_f32(0.01).to_le_bytes();
        row.chunks_exact_mut(ty.block_bytes()).for_each(|block| block[..2].copy_from_slice(&d));
    }
    CompressedMatrix::from_bytes(ty, OUTPUTS, COLS, &row.repeat(OUTPUTS)).unwrap()
}

fn grid(bits: u8, group: usize) -> CompressedMatrix {
    let groups = OUTPUTS * COLS.div_ceil(group);
    let mask = ((1u16 << bits) - 1) as u8;
    let grid = GridMatrix {
        bits,
        group,
        rows: OUTPUTS,
        cols: COLS,
        codes: (0..OUTPUTS * COLS).map(|i| byte(1, i) & mask).collect(),
        scales: vec![f16::from_f32(0.01).to_f32(); groups],
        zeros: (0..groups).map(|i| byte(2, i) & mask).collect(),
    };
    CompressedMatrix::from_grid(grid).unwrap()
}

/// The shortest of `reps` runs, in seconds.
fn best(reps: usize, mut f: impl FnMut()) -> f64 {
    f();
    (0..reps).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        f();
        best.min(start.elapsed().as_secs_f64())
    })
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let scale: f64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1.0);
    let filter = args.next().unwrap_or_default();
    let most: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(512);
    let copies: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    pool::set_threads(1);
    let reps = |n: usize| ((n as f64 * scale) as usize).max(1);
    let types = TensorType::all().filter(|ty| ty.is_quantized() && ty.readable());
    let mut names: Vec<(String, Make)> = Vec::new();
    for ty in types {
        names.push((ty.name().into(), Box::new(move || block_type(ty))));
    }
    for (bits, group) in [(2, 64), (3, 128), (4, 32), (4, 128), (5, 128), (6, 128), (7, 128), (8, 128)] {
        names.push((format!("int{bits}:{group}"), Box::new(move || grid(bits, group))));
    }
    println!("{OUTPUTS} outputs x {COLS} columns, one thread");
    println!("GFLOP/s     bits  isa        m = 1      4     16    512");
    for (name, make) in names.iter().filter(|(name, _)| name.contains(&filter)) {
        let matrices: Vec<CompressedMatrix> = (0..copies).map(|_| make()).collect();
        let bits = 8.0 * matrices[0].resident_bytes() as f64 / (OUTPUTS * COLS) as f64;
        for isa in Isa::available().into_iter().rev().filter(|&isa| isa != Isa::Scalar) {
            print!("{name:<10} {bits:5.2}  {:<8}", isa.name());
            for m in ROWS.into_iter().filter(|&m| m <= most) {
                let x = Matrix::from_vec(m, COLS, (0..m).flat_map(values).collect());
                let mut y = Matrix::zeros(m, OUTPUTS);
                let n = match m {
                    1 => reps(20),
                    512 => reps(3),
                    _ => reps(8),
                };
                let time = isa.with(|| {
                    best(n, || {
                        for matrix in &matrices {
                            let input = Input::new(x.view(), Activation::Int8);
                            matrix.multiply(&input, &mut y.view_mut(), false);
                        }
                    })
                });
                print!(" {:6.1}", 2.0 * (copies * m * OUTPUTS * COLS) as f64 / time * 1e-9);
            }
            println!();
        }
    }
}
