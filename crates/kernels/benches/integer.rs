//! `cargo bench -p brevity-kernels --bench integer [-- REPETITIONS [FILTER [MOST ROWS]]]`: GFLOP/s (`2·m·n·k` over the time of quantising
//! and multiplying) of every packing on one thread, by rows of activations m, for 4096 outputs of 14336 columns; at m = 1 also the
//! share of the memory bandwidth, measured by a streaming read in the same run.

use brevity_kernels::integer::{
    Activations, Codebook, FlatCodes, FlatPanels, IntegerWeights, RowSource, Scales, Steps, SuperKind, SuperPanels,
    SuperRow,
};
use brevity_kernels::{Isa, Matrix, pool};
use std::hint::black_box;
use std::time::Instant;

const OUTPUTS: usize = 4096;
const COLS: usize = 14336;
const ROWS: [usize; 5] = [1, 4, 16, 64, 512];

/// Raw bytes that unpack at the speed of memory: the cheapest row source there is.
struct Raw {
    block: usize,
    has_min: bool,
    codes: Vec<i8>,
}

impl RowSource for Raw {
    fn rows(&self) -> usize {
        OUTPUTS
    }
    fn cols(&self) -> usize {
        COLS
    }
    fn block(&self) -> usize {
        self.block
    }
    fn has_min(&self) -> bool {
        self.has_min
    }
    fn bytes(&self) -> usize {
        self.codes.len()
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        codes.copy_from_slice(&self.codes[row * COLS..][..COLS]);
        scales.fill(0.01);
        mins.fill(0.1);
    }
}

fn byte(r: usize, i: usize) -> u8 {
    ((r * COLS + i).wrapping_mul(0x9e37_79b9) >> 11) as u8
}

fn raw(block: usize, has_min: bool) -> IntegerWeights {
    let codes = (0..OUTPUTS).flat_map(|r| (0..COLS).map(move |i| byte(r, i) as i8)).collect();
    IntegerWeights::Rows(Box::new(Raw { block, has_min, codes }))
}

fn flat(codes: FlatCodes, scales: Scales, has_min: bool) -> IntegerWeights {
    let largest = match codes {
        FlatCodes::Bits(bits) => ((1u32 << bits) - 1) as u8,
        _ => 15,
    };
    IntegerWeights::Flat(FlatPanels::new((OUTPUTS, COLS), codes, scales, has_min, |r, to| {
        to.codes.iter_mut().enumerate().for_each(|(i, c)| *c = byte(r, i) & largest);
        to.scales.fill(0.01);
        to.mins.fill(if let Scales::Zeros { .. } = scales { 1.0 } else { 0.08 });
    }))
}

fn super_blocks(kind: SuperKind, largest: u8) -> IntegerWeights {
    const ONE: u16 = 0x1c00; // 2⁻⁸ as f16
    let fill = |r: usize, to: SuperRow| {
        to.codes.iter_mut().enumerate().for_each(|(i, c)| *c = byte(r, i) & largest);
        to.d.fill(ONE);
        to.dmin.fill(ONE);
        to.scales.iter_mut().enumerate().for_each(|(i, c)| *c = byte(r, i) & 63);
        to.mins.iter_mut().enumerate().for_each(|(i, c)| *c = byte(r, i) & 63);
    };
    IntegerWeights::Super(match kind {
        SuperKind::Iq2Xxs => SuperPanels::with_codebook((OUTPUTS, COLS), &Codebook::new(&[[25; 8]; 256]), fill),
        _ => SuperPanels::new((OUTPUTS, COLS), kind, fill),
    })
}

fn weights(name: &str) -> IntegerWeights {
    use FlatCodes::{Bits, Table};
    let (f16, zeros) = (Scales::F16, Scales::Zeros { group: 128 });
    match name {
        "Q2_K" => super_blocks(SuperKind::Q2K, 3),
        "Q3_K" => super_blocks(SuperKind::Q3K, 7),
        "Q4_K" => super_blocks(SuperKind::Q4K, 15),
        "Q5_K" => super_blocks(SuperKind::Q5K, 31),
        "Q6_K" => super_blocks(SuperKind::Q6K, 63),
        "IQ4_XS" => super_blocks(SuperKind::Iq4Xs, 15),
        "IQ2_XXS" => super_blocks(SuperKind::Iq2Xxs, 255),
        "Q4_0" => flat(Bits(4), f16, false),
        "Q4_1" => flat(Bits(4), f16, true),
        "Q5_0" => flat(Bits(5), f16, false),
        "Q5_1" => flat(Bits(5), f16, true),
        "Q8_0" => flat(Bits(8), f16, false),
        "IQ4_NL" => flat(Table(Steps::Iq4), f16, false),
        "MXFP4" => flat(Table(Steps::Mxfp4), Scales::Powers, false),
        "int2:128" => flat(Bits(2), zeros, true),
        "int3:128" => flat(Bits(3), zeros, true),
        "int4:128" => flat(Bits(4), zeros, true),
        "int5:128" => flat(Bits(5), zeros, true),
        "int6:128" => flat(Bits(6), zeros, true),
        "int7:128" => flat(Bits(7), zeros, true),
        "int8:128" => flat(Bits(8), zeros, true),
        "rows, block 16" => raw(16, false),
        "rows, block 16, min" => raw(16, true),
        _ => raw(32, false),
    }
}

const NAMES: [&str; 24] = [
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_XS",
    "IQ2_XXS",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "IQ4_NL",
    "MXFP4",
    "int2:128",
    "int3:128",
    "int4:128",
    "int5:128",
    "int6:128",
    "int7:128",
    "int8:128",
    "rows, block 16",
    "rows, block 16, min",
    "rows, block 32",
];

/// The shortest of `reps` runs, in seconds.
fn best(reps: usize, mut f: impl FnMut()) -> f64 {
    f();
    (0..reps).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        f();
        best.min(start.elapsed().as_secs_f64())
    })
}

/// Bytes per second of a sum over 512 MiB.
fn streaming_read(reps: usize) -> f64 {
    let data = vec![1u64; 64 << 20];
    let time = best(reps, || {
        let mut sums = [0u64; 32];
        for part in data.chunks_exact(32) {
            for (s, v) in sums.iter_mut().zip(part) {
                *s ^= v;
            }
        }
        black_box(sums);
    });
    8.0 * data.len() as f64 / time
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let scale: f64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1.0);
    let filter = args.next().unwrap_or_default();
    let most: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(512);
    pool::set_threads(1);
    let reps = |n: usize| ((n as f64 * scale) as usize).max(1);
    let bandwidth = streaming_read(reps(10));
    println!("{OUTPUTS} outputs x {COLS} columns, one thread; streaming read of 512 MiB {:.1} GB/s", bandwidth * 1e-9);
    println!(
        "GFLOP/s                isa        m = 1      4     16     64    512   share of it at m = 1 (above 1: weights in cache)"
    );
    for name in NAMES.into_iter().filter(|n| n.contains(&filter)) {
        let w = weights(name);
        for isa in Isa::available().into_iter().rev().filter(|&isa| isa != Isa::Scalar) {
            print!("{name:<22} {:<8}", isa.name());
            let mut share = 0.0;
            for m in ROWS.into_iter().filter(|&m| m <= most) {
                let x = Matrix::from_vec(m, COLS, (0..m * COLS).map(|i| f32::from(byte(0, i)) - 127.5).collect());
                let mut y = Matrix::zeros(m, OUTPUTS);
                let n = match m {
                    1 => reps(30),
                    512 => reps(3),
                    _ => reps(10),
                };
                let time =
                    isa.with(|| best(n, || w.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false)));
                print!(" {:6.1}", 2.0 * (m * OUTPUTS * COLS) as f64 / time * 1e-9);
                if m == 1 {
                    share = w.resident_bytes() as f64 / time / bandwidth;
                }
            }
            println!("   {share:.2}");
        }
    }
}
