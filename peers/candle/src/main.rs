//! Brevity's integer kernels beside candle's, on the same weights, one thread, in turns: GFLOP/s and ratios.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release [-- REPETITIONS]` in this directory.

use brevity_kernels::integer::{Activations, FlatCodes, FlatPanels, IntegerWeights, Scales, SuperKind, SuperPanels};
use brevity_kernels::{Isa, Matrix, pool};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use std::time::Instant;

const OUTPUTS: usize = 4096;
const COLS: usize = 14336;
const ROWS: [usize; 5] = [1, 4, 16, 64, 512];

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn to_f32(half: u16) -> f32 {
    half::f16::from_bits(half).to_f32()
}

/// The same blocks, packed for Brevity.
fn pack(ty: GgmlDType, data: &[u8]) -> IntegerWeights {
    let row_bytes = data.len() / OUTPUTS;
    let row = |r: usize| &data[r * row_bytes..][..row_bytes];
    match ty {
        GgmlDType::Q4K => IntegerWeights::Super(SuperPanels::new((OUTPUTS, COLS), SuperKind::Q4K, |r, to| {
            for (s, block) in row(r).chunks_exact(144).enumerate() {
                (to.d[s], to.dmin[s]) = (half(block), half(&block[2..]));
                let f = &block[4..16];
                for b in 0..8 {
                    (to.scales[8 * s + b], to.mins[8 * s + b]) = if b < 4 {
                        (f[b] & 63, f[b + 4] & 63)
                    } else {
                        (f[b + 4] & 15 | f[b - 4] >> 6 << 4, f[b + 4] >> 4 | f[b] >> 6 << 4)
                    };
                }
                for i in 0..128 {
                    let at = 256 * s + i / 32 * 64 + i % 32;
                    (to.codes[at], to.codes[at + 32]) = (block[16 + i] & 15, block[16 + i] >> 4);
                }
            }
        })),
        GgmlDType::Q6K => IntegerWeights::Super(SuperPanels::new((OUTPUTS, COLS), SuperKind::Q6K, |r, to| {
            for (s, block) in row(r).chunks_exact(210).enumerate() {
                to.d[s] = half(&block[208..]);
                for b in 0..16 {
                    to.scales[16 * s + b] = block[192 + b];
                }
                for h in 0..2 {
                    let (low, high) = (&block[64 * h..], &block[128 + 32 * h..]);
                    for i in 0..32 {
                        let at = 256 * s + 128 * h + i;
                        to.codes[at] = low[i] & 15 | (high[i] & 3) << 4;
                        to.codes[at + 32] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
                        to.codes[at + 64] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
                        to.codes[at + 96] = low[i + 32] >> 4 | (high[i] >> 6) << 4;
                    }
                }
            }
        })),
        _ => IntegerWeights::Flat(FlatPanels::new((OUTPUTS, COLS), FlatCodes::Bits(8), Scales::F16, false, |r, to| {
            for (b, block) in row(r).chunks_exact(34).enumerate() {
                to.scales[b] = to_f32(half(block));
                for (to, c) in to.codes[32 * b..].iter_mut().zip(&block[2..]) {
                    *to = *c ^ 0x80;
                }
            }
        })),
    }
}

fn timed(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn main() -> candle_core::Result<()> {
    let scale: f64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1.0);
    pool::set_threads(1);
    let noise = |i: usize| ((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32) / (1 << 24) as f32 - 0.5;
    let values: Vec<f32> = (0..OUTPUTS * COLS).map(noise).collect();
    let dense = Tensor::from_vec(values, (OUTPUTS, COLS), &Device::Cpu)?;
    println!("type   m     candle  brevity   ratio  brevity avx2   difference   (GFLOP/s, {})", Isa::best().name());
    for ty in [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q8_0] {
        let quantised = QTensor::quantize(&dense, ty)?;
        let ours = pack(ty, &quantised.data()?);
        let theirs = QMatMul::from_qtensor(quantised)?;
        for m in ROWS {
            let x: Vec<f32> = (0..m * COLS).map(|i| noise(i + 12_345)).collect();
            let tensor = Tensor::from_vec(x.clone(), (m, COLS), &Device::Cpu)?;
            let x = Matrix::from_vec(m, COLS, x);
            let mut y = Matrix::zeros(m, OUTPUTS);
            let reps = ((scale * [30.0, 15.0, 10.0, 6.0, 3.0][ROWS.iter().position(|&r| r == m).unwrap_or(0)]) as usize).max(2);
            let (mut a, mut b, mut c) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
            let mut result = theirs.forward(&tensor)?;
            for _ in 0..reps {
                a = a.min(timed(|| result = theirs.forward(&tensor).expect("candle multiplies")));
                b = b.min(timed(|| ours.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false)));
                if Isa::Avx2.is_available() {
                    c = c.min(Isa::Avx2.with(|| {
                        timed(|| ours.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false))
                    }));
                }
            }
            let expected: Vec<f32> = result.flatten_all()?.to_vec1()?;
            let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let difference = norm(&mut expected.iter().zip(y.data()).map(|(a, b)| a - b))
                / norm(&mut expected.iter().copied());
            let rate = |t: f64| 2.0 * (m * OUTPUTS * COLS) as f64 / t * 1e-9;
            println!(
                "{:<6} {m:<4} {:7.1}  {:7.1}   {:5.2}  {:12.1}   {difference:10.4}",
                format!("{ty:?}"), rate(a), rate(b), a / b, rate(c)
            );
        }
    }
    Ok(())
}
