//! Seconds of GPTQ on one layer, Hessian given: `cargo bench -p brevity-weights --bench gptq [-- ROWS COLS LEVEL…]`.

use brevity_kernels::dense::DensePanels;
use brevity_kernels::{Matrix, pool};
use brevity_weights::quantize::gptq::Frame;
use brevity_weights::quantize::{Gptq, RoundToNearest};
use brevity_weights::{Hessian, Level, Statistics, WeightMethod};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let number = |index: usize| words.get(index).and_then(|word| word.parse().ok());
    let (rows, cols) = (number(0).unwrap_or(4096), number(1).unwrap_or(4096));
    let named: Vec<&str> = words.iter().skip(2).map(String::as_str).collect();
    let levels = if named.is_empty() { vec!["int3:128", "int4:row", "q4_k", "q3_k", "iq4_xs"] } else { named };
    let (weights, statistics) = (random(rows, cols, 1, 0.02), statistics(cols));
    let methods: [(&str, Box<dyn WeightMethod>); 4] = [
        ("round to nearest", Box::new(RoundToNearest)),
        ("gptq", Box::new(Gptq::DEFAULT)),
        ("frames before", Box::new(Gptq { frame: Frame::Before, passes: 0, ..Gptq::DEFAULT })),
        ("without descent", Box::new(Gptq { passes: 0, ..Gptq::DEFAULT })),
    ];
    println!("{rows} × {cols}, {} threads", pool::threads());
    for level in levels {
        let Ok(level) = Level::parse(level) else {
            println!("{level}: no level");
            continue;
        };
        for (name, method) in &methods {
            let start = Instant::now();
            match method.compress(&weights, &statistics, level) {
                Ok(stored) => {
                    println!("{level:>9} {name:>16}: {:6.2} s, {} bits", start.elapsed().as_secs_f64(), stored.bits())
                }
                Err(error) => println!("{level:>9} {name:>16}: {error}"),
            }
        }
    }
}

fn random(rows: usize, cols: usize, seed: u64, scale: f32) -> Matrix {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let normal = (0..rows * cols).map(|_| scale * ((0..4).map(|_| uniform()).sum::<f32>() - 2.0));
    Matrix::from_vec(rows, cols, normal.collect())
}

/// Inputs that are mixtures of cols / 4 sources, and noise.
fn statistics(cols: usize) -> Statistics {
    let mixing = random(cols, (cols / 4).max(1), 2, 1.0);
    let mut matrix = Matrix::zeros(cols, cols);
    DensePanels::from_f32(cols, mixing.cols(), mixing.data()).multiply(mixing.view(), &mut matrix.view_mut(), false);
    (0..cols).for_each(|index| matrix.row_mut(index)[index] += 0.05 * cols as f32);
    let hessian = Hessian::new(matrix, 4 * cols as u64).expect("finite");
    Statistics { second_moments: hessian.diagonal(), tokens: hessian.tokens(), hessian: Some(Arc::new(hessian)) }
}
