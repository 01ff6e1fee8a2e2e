//! Error and speed of every quantiser on one core, to be set beside `oracles/ggml_errors.c`:
//!
//! `cargo run --release -p brevity-formats --example quantize_speed -- weights.f32 768 importance.f32 [ggml.txt]`
//!
//! Prints for each type the squared error without importances, the weighted one with them, and millions of weights a second of
//! both (the best of five runs); then the same for integer grids in groups of 128. With the output of `ggml_errors` for the same
//! files, the table of docs/blocks.md.

use brevity_formats::grid::{self, Symmetry};
use brevity_formats::{TensorType, blocks};
use std::error::Error;
use std::time::Instant;

fn floats(path: &str) -> Result<Vec<f32>, std::io::Error> {
    Ok(std::fs::read(path)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Seconds that this thread has spent on a processor, where Linux says so: others may be busy meanwhile.
fn cpu_seconds() -> Option<f64> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(statistics.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

/// The result of `work` and millions of `weights` a second in the best of five runs.
fn timed<T>(weights: usize, mut work: impl FnMut() -> T) -> (T, f64) {
    let mut best = f64::INFINITY;
    let mut run = || {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let out = work();
        let seconds = cpu.zip(cpu_seconds()).map(|(before, after)| after - before);
        best = best.min(seconds.unwrap_or_else(|| start.elapsed().as_secs_f64()));
        out
    };
    let mut out = run();
    for _ in 1..5 {
        out = run();
    }
    (out, weights as f64 / best / 1e6)
}

fn error(weights: &[f32], restored: &[f32], importance: Option<&[f32]>) -> f64 {
    let weight = |i: usize| importance.map_or(1.0, |w| f64::from(w[i % w.len()]));
    weights.iter().zip(restored).enumerate().map(|(i, (a, b))| weight(i) * f64::from(a - b).powi(2)).sum()
}

/// The four numbers that `ggml_errors` printed for a type.
fn peer_line(peer: &str, ty: TensorType) -> Option<[f64; 4]> {
    let line = peer.lines().find(|line| line.split(' ').next().is_some_and(|name| name.to_lowercase() == ty.name()))?;
    let numbers: Vec<f64> = line.split(' ').skip(1).filter_map(|field| field.parse().ok()).collect();
    numbers.try_into().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, weights, cols, importance, peer @ ..] = &arguments[..] else {
        return Err("usage: quantize_speed WEIGHTS.f32 COLUMNS IMPORTANCE.f32 [GGML.txt]".into());
    };
    let peer = peer.first().map(std::fs::read_to_string).transpose()?;
    if peer.is_some() {
        println!("| type | error, of ggml's | weighted error, of ggml's | Mweights/s | weighted | ggml | weighted |");
        println!("|---|---|---|---|---|---|---|");
    }
    let (weights, importance, cols) = (floats(weights)?, floats(importance)?, cols.parse::<usize>()?);
    let importances = [None, Some(&importance[..])];
    for ty in TensorType::all().filter(|ty| ty.writable() && ty.row_bytes(cols).is_some()) {
        let (mut errors, mut speeds) = (Vec::new(), Vec::new());
        for importance in importances {
            let mut bytes = vec![0; ty.row_bytes(weights.len()).unwrap_or(0)];
            let (done, speed) = timed(weights.len(), || blocks::quantize(ty, &weights, importance, &mut bytes));
            done?;
            let mut restored = vec![0.0; weights.len()];
            blocks::dequantize(ty, &bytes, &mut restored)?;
            errors.push(error(&weights, &restored, importance));
            speeds.push(speed);
        }
        match peer.as_deref().and_then(|peer| peer_line(peer, ty)) {
            Some(theirs) => println!(
                "| {} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} |",
                ty.name().to_uppercase(),
                errors[0] / theirs[0],
                errors[1] / theirs[1],
                speeds[0],
                speeds[1],
                theirs[2],
                theirs[3]
            ),
            None if peer.is_some() => {}
            None => println!("{ty} {:.9e} {:.9e} {:.1} {:.1}", errors[0], errors[1], speeds[0], speeds[1]),
        }
    }
    if peer.is_some() {
        return Ok(());
    }
    for bits in grid::BITS {
        let (mut errors, mut speeds) = (Vec::new(), Vec::new());
        for importance in importances {
            let search = || grid::quantize(&weights, cols, bits, 128, importance, Symmetry::Asymmetric);
            let (grid, speed) = timed(weights.len(), search);
            errors.push(error(&weights, &grid?.dequantize(), importance));
            speeds.push(speed);
        }
        println!("int{bits}:128 {:.9e} {:.9e} {:.1} {:.1}", errors[0], errors[1], speeds[0], speeds[1]);
    }
    Ok(())
}
