//! Every instruction set, packing and split against the specification, bit for bit.

use super::*;
use crate::pool;
use crate::{Isa, Matrix};
use half::f16;
use proptest::prelude::*;

/// A matrix in the canonical form, as plain vectors.
#[derive(Clone)]
struct Plain {
    rows: usize,
    cols: usize,
    block: usize,
    has_min: bool,
    codes: Vec<i8>,
    scales: Vec<f32>,
    mins: Vec<f32>,
}

impl RowSource for Plain {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn block(&self) -> usize {
        self.block
    }
    fn has_min(&self) -> bool {
        self.has_min
    }
    fn bytes(&self) -> usize {
        self.codes.len() + 4 * (self.scales.len() + self.mins.len())
    }
    fn unpack_row(&self, row: usize, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let groups = self.cols.div_ceil(self.block);
        codes.copy_from_slice(&self.codes[row * self.cols..][..self.cols]);
        scales.copy_from_slice(&self.scales[row * groups..][..groups]);
        if self.has_min {
            mins.copy_from_slice(&self.mins[row * groups..][..groups]);
        }
    }
}

/// A small generator, so that a case is a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn uniform(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }
    /// Often an extreme, else anything in `low..=high`.
    fn code(&mut self, low: i64, high: i64) -> i64 {
        match self.below(4) {
            0 => low,
            1 => high,
            _ => low + self.below((high - low + 1) as u64) as i64,
        }
    }
    fn half(&mut self, wild: bool) -> u16 {
        match self.below(if wild { 12 } else { 60 }) {
            0 => 0,
            1 => 0x8000,
            2 => 1,      // the smallest subnormal
            3 => 0x7bff, // the largest
            4 => 0x03ff,
            5 if wild => 0x7c00,
            6 if wild => 0x7e01,
            _ => f16::from_f32(self.uniform() * 0.02).to_bits(),
        }
    }
    fn scale(&mut self, wild: bool) -> f32 {
        match self.below(if wild { 12 } else { 60 }) {
            0 => 0.0,
            1 => f32::from_bits(1),
            2 => f32::MIN_POSITIVE,
            3 => 1e30,
            4 => -1e-30,
            5 if wild => f32::INFINITY,
            6 if wild => f32::NAN,
            _ => self.uniform() * 0.02,
        }
    }
    fn activations(&mut self, rows: usize, cols: usize, wild: bool) -> Matrix {
        let mut x = Matrix::zeros(rows, cols);
        for r in 0..rows {
            let kind = self.below(8);
            for v in x.row_mut(r) {
                *v = match kind {
                    0 => 0.0,
                    1 if self.below(2) == 0 => 1.0,
                    1 => -1.0,
                    2 => self.uniform() * 1e-38,
                    3 => self.uniform() * 3e38,
                    _ => self.uniform(),
                };
            }
            if wild && cols > 0 && self.below(3) == 0 {
                let at = self.below(cols as u64) as usize;
                x.row_mut(r)[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][self.below(3) as usize];
            }
        }
        x
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Flat(FlatCodes, Scales, bool),
    Super(SuperKind),
    Rows { block: usize, min: bool },
}

const fn bits(bits: u32, scales: Scales, min: bool) -> Kind {
    Kind::Flat(FlatCodes::Bits(bits), scales, min)
}

const KINDS: [Kind; 34] = [
    bits(4, Scales::F16, false),
    bits(5, Scales::F16, false),
    bits(8, Scales::F16, false),
    bits(4, Scales::F16, true),
    bits(5, Scales::F16, true),
    bits(8, Scales::F16, true),
    bits(4, Scales::F32 { group: 64 }, false),
    bits(8, Scales::F32 { group: 32 }, false),
    bits(2, Scales::F32 { group: 64 }, true),
    bits(4, Scales::F32 { group: 96 }, true),
    bits(7, Scales::F32 { group: 32 }, true),
    bits(8, Scales::F32 { group: 128 }, true),
    bits(2, Scales::Zeros { group: 32 }, true),
    bits(3, Scales::Zeros { group: 128 }, true),
    bits(4, Scales::Zeros { group: 160 }, true),
    bits(5, Scales::Zeros { group: 64 }, true),
    bits(6, Scales::Zeros { group: 1024 }, true),
    bits(7, Scales::Zeros { group: 96 }, true),
    bits(8, Scales::Zeros { group: 64 }, true),
    Kind::Flat(FlatCodes::Table(Steps::Iq4), Scales::F16, false),
    Kind::Flat(FlatCodes::Table(Steps::Mxfp4), Scales::F32 { group: 32 }, false),
    Kind::Flat(FlatCodes::Table(Steps::Mxfp4), Scales::Powers, false),
    Kind::Super(SuperKind::Q2K),
    Kind::Super(SuperKind::Q3K),
    Kind::Super(SuperKind::Q4K),
    Kind::Super(SuperKind::Q5K),
    Kind::Super(SuperKind::Q6K),
    Kind::Super(SuperKind::Iq4Xs),
    Kind::Super(SuperKind::Iq2Xxs),
    Kind::Rows { block: 16, min: false },
    Kind::Rows { block: 16, min: true },
    Kind::Rows { block: 32, min: false },
    Kind::Rows { block: 32, min: true },
    bits(6, Scales::F32 { group: 64 }, true),
];

/// What a stored code stands for, and how many there are.
fn code(kind: Kind, stored: u8) -> i8 {
    match kind {
        Kind::Flat(FlatCodes::Bits(8), ..) | Kind::Rows { .. } => (i32::from(stored) - 128) as i8,
        Kind::Flat(FlatCodes::Bits(bits), _, false) => stored as i8 - (1 << (bits - 1)),
        Kind::Flat(FlatCodes::Bits(_), _, true) => stored as i8,
        Kind::Flat(FlatCodes::Table(steps), ..) => steps.values()[stored as usize],
        Kind::Super(SuperKind::Q3K) => stored as i8 - 4,
        Kind::Super(SuperKind::Q6K) => stored as i8 - 32,
        Kind::Super(SuperKind::Iq4Xs) => Steps::Iq4.values()[stored as usize],
        Kind::Super(_) => stored as i8,
    }
}

/// The largest stored code.
fn largest(kind: Kind) -> u8 {
    match kind {
        Kind::Flat(FlatCodes::Bits(bits), ..) => ((1u32 << bits) - 1) as u8,
        Kind::Rows { .. } | Kind::Super(SuperKind::Iq2Xxs) => 255,
        Kind::Super(SuperKind::Q2K) => 3,
        Kind::Super(SuperKind::Q3K) => 7,
        Kind::Super(SuperKind::Q5K) => 31,
        Kind::Super(SuperKind::Q6K) => 63,
        _ => 15,
    }
}

/// Magnitudes that tell words and places apart.
fn codebook() -> [[u8; 8]; 256] {
    std::array::from_fn(|word| std::array::from_fn(|i| [0, 21, 43, 63][(word * (2 * i + 1) + word / 16 + i) % 4]))
}

/// What a row of stored codes stands for.
fn stands_for(kind: Kind, stored: &[u8]) -> Vec<i8> {
    let Kind::Super(SuperKind::Iq2Xxs) = kind else { return stored.iter().map(|&c| code(kind, c)).collect() };
    let book = codebook();
    let eight = |(k, _): (usize, &u8)| {
        let first = k / 8 * 8;
        let magnitude = book[usize::from(stored[first])][k % 8] as i8;
        let signs = stored.get(first + 1).copied().unwrap_or(0);
        if signs >> (k % 8) & 1 == 1 { -magnitude } else { magnitude }
    };
    stored.iter().enumerate().map(eight).collect()
}

/// Scale and min of a sub-block, from random bytes, as they are stored and as they count.
fn field(kind: SuperKind, bytes: [u8; 2]) -> ([u8; 2], [f32; 2]) {
    match kind {
        SuperKind::Q2K => (bytes.map(|b| b & 15), bytes.map(|b| f32::from(b & 15))),
        SuperKind::Q4K | SuperKind::Q5K => (bytes, bytes.map(f32::from)),
        SuperKind::Iq2Xxs => (bytes.map(|b| b & 15), [(0.5 + f32::from(bytes[0] & 15)) * 0.25, 0.0]),
        _ => (bytes, [f32::from(bytes[0] as i8), 0.0]),
    }
}

/// Scales per 16 columns come in whole blocks.
fn whole(kind: Kind, k: usize) -> usize {
    match kind {
        Kind::Super(kind) if kind.block() == 16 => k.next_multiple_of(32),
        _ => k,
    }
}

/// Random weights packed as `kind`, and the same in the canonical form as it should be.
fn weights(kind: Kind, rows: usize, cols: usize, rng: &mut Random, wild: bool) -> (IntegerWeights, Plain) {
    let (block, has_min) = match kind {
        Kind::Flat(_, _, min) => (32, min),
        Kind::Super(kind) => (kind.block(), kind.has_min()),
        Kind::Rows { block, min } => (block, min),
    };
    let group = match kind {
        Kind::Flat(_, Scales::F32 { group } | Scales::Zeros { group }, _) => group,
        _ => block,
    };
    let groups = cols.div_ceil(block);
    let stored: Vec<u8> = (0..rows * cols).map(|_| rng.code(0, i64::from(largest(kind))) as u8).collect();
    let codes = stored.chunks(cols.max(1)).flat_map(|row| stands_for(kind, row)).collect();
    let mut plain =
        Plain { rows, cols, block, has_min, codes, scales: vec![0.0; rows * groups], mins: vec![0.0; rows * groups] };
    let supers = cols.div_ceil(256);
    let halves: Vec<[u16; 2]> = (0..rows * supers).map(|_| [rng.half(wild), rng.half(wild)]).collect();
    let fields: Vec<[u8; 2]> = (0..rows * groups).map(|_| [rng.below(256) as u8, rng.below(256) as u8]).collect();
    let zero = |byte: u8| f32::from(code(bits(largest(kind).count_ones(), Scales::F16, true), byte & largest(kind)));
    for r in 0..rows {
        for b in 0..groups {
            let at = r * groups + b;
            let [d, dmin] = halves[r * supers + b * block / 256].map(|h| f16::from_bits(h).to_f32());
            (plain.scales[at], plain.mins[at]) = match kind {
                _ if b * block % group != 0 => (plain.scales[at - 1], plain.mins[at - 1]),
                Kind::Super(kind) => {
                    let [scale, min] = field(kind, fields[at]).1;
                    (d * scale, dmin * min)
                }
                Kind::Flat(_, Scales::F16, _) => {
                    (f16::from_bits(rng.half(wild)).to_f32(), f16::from_bits(rng.half(wild)).to_f32())
                }
                Kind::Flat(_, Scales::Powers, _) => {
                    let e = if wild { fields[at][0] } else { 118 + fields[at][0] % 8 };
                    ((f64::from(e) - 128.0).exp2() as f32, 0.0)
                }
                Kind::Flat(_, Scales::Zeros { .. }, _) => {
                    let scale = f16::from_bits(rng.half(wild)).to_f32();
                    (scale, scale * zero(fields[at][0]))
                }
                _ => (rng.scale(wild), rng.scale(wild)),
            };
        }
    }
    let row = |r: usize| &stored[r * cols..][..cols];
    let packed = match kind {
        Kind::Flat(codes, scales, min) => {
            IntegerWeights::Flat(FlatPanels::new((rows, cols), codes, scales, min, |r, to| {
                to.codes.copy_from_slice(row(r));
                fill(&plain, r, group / 32, to.scales, to.mins);
                if let Scales::Zeros { .. } = scales {
                    for (g, zero_point) in to.mins.iter_mut().enumerate() {
                        *zero_point = zero(fields[r * groups + g * group / 32][0]);
                    }
                }
            }))
        }
        Kind::Super(kind) => IntegerWeights::Super(super_panels((rows, cols), kind, |r, to| {
            to.codes.copy_from_slice(row(r));
            for (s, d) in to.d.iter_mut().enumerate() {
                *d = halves[r * supers + s][0];
            }
            for (s, dmin) in to.dmin.iter_mut().enumerate() {
                *dmin = halves[r * supers + s][1];
            }
            for (b, scale) in to.scales.iter_mut().enumerate() {
                *scale = field(kind, fields[r * groups + b]).0[0];
            }
            for (b, min) in to.mins.iter_mut().enumerate() {
                *min = field(kind, fields[r * groups + b]).0[1];
            }
        })),
        Kind::Rows { .. } => IntegerWeights::Rows(Box::new(plain.clone())),
    };
    (packed, plain)
}

fn super_panels(shape: (usize, usize), kind: SuperKind, fill: impl Fn(usize, SuperRow<'_>) + Sync) -> SuperPanels {
    match kind {
        SuperKind::Iq2Xxs => SuperPanels::with_codebook(shape, &Codebook::new(&codebook()), fill),
        _ => SuperPanels::new(shape, kind, fill),
    }
}

fn fill(plain: &Plain, r: usize, per: usize, scales: &mut [f32], mins: &mut [f32]) {
    let groups = plain.cols.div_ceil(32);
    for (g, s) in scales.iter_mut().enumerate() {
        *s = plain.scales[r * groups + g * per];
    }
    for (g, m) in mins.iter_mut().enumerate() {
        *m = plain.mins[r * groups + g * per];
    }
}

fn to_bits(m: &Matrix) -> Vec<u32> {
    m.data().iter().map(|v| v.to_bits()).collect()
}

fn random_matrix(rows: usize, cols: usize, rng: &mut Random) -> Matrix {
    Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| rng.uniform()).collect())
}

fn check(kind: Kind, m: usize, n: usize, k: usize, seed: u64, wild: bool) {
    let mut rng = Random(seed | 1);
    let k = whole(kind, k);
    let (packed, plain) = weights(kind, n, k, &mut rng, wild);
    let x = rng.activations(m, k, wild);
    let before = random_matrix(m, n, &mut rng);
    let accumulate = rng.below(2) == 1;

    let mut row = vec![0.0; k];
    for r in 0..n {
        packed.row_f32(r, &mut row);
        let expected = specification::weights(&plain, r);
        assert!(row.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{kind:?} row {r}");
    }

    let used = rng.activations(9, 100, true);
    let quantised = Isa::Scalar.with(|| Activations::quantize(x.view()));
    let mut expected = before.clone();
    specification::multiply(&plain, &quantised, &mut expected.view_mut(), accumulate);
    let mut expected_f32 = before.clone();
    specification::multiply_f32(&plain, x.view(), &mut expected_f32.view_mut(), accumulate);
    for isa in Isa::available() {
        isa.with(|| {
            let mut own = Activations::quantize(used.view());
            own.assign(x.view());
            for r in 0..m {
                for b in 0..k.div_ceil(32) {
                    let (a, e) = (own.block(r, b), quantised.block(r, b));
                    assert!(a.0 == e.0 && a.1.to_bits() == e.1.to_bits(), "{isa:?} quantises row {r} block {b}");
                }
            }
            let mut y = before.clone();
            packed.multiply(&own, &mut y.view_mut(), accumulate);
            assert_eq!(to_bits(&y), to_bits(&expected), "{kind:?} {m}x{n}x{k} {isa:?}");
            let mut y = before.clone();
            packed.multiply_f32(x.view(), &mut y.view_mut(), accumulate);
            assert_eq!(to_bits(&y), to_bits(&expected_f32), "{kind:?} {m}x{n}x{k} {isa:?} f32");
        });
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&KINDS[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_gives_the_specified_bits(
        kind in kind(), m in 0usize..24, n in 0usize..50, k in 0usize..600, seed: u64, wild: bool,
    ) {
        check(kind, m, n, k, seed, wild);
    }

    #[test]
    fn rows_do_not_know_their_neighbours(kind in kind(), m in 1usize..40, n in 1usize..40, k in 1usize..300, cut: usize, seed: u64) {
        let mut rng = Random(seed | 1);
        let k = whole(kind, k);
        let (w, _) = weights(kind, n, k, &mut rng, false);
        let x = rng.activations(m, k, false);
        let mut whole = Matrix::zeros(m, n);
        w.multiply(&Activations::quantize(x.view()), &mut whole.view_mut(), false);
        let cut = cut % (m + 1);
        for part in [0..cut, cut..m] {
            let mut y = Matrix::zeros(part.len(), n);
            w.multiply(&Activations::quantize(x.view().rows_range(part.clone())), &mut y.view_mut(), false);
            prop_assert_eq!(to_bits(&y), to_bits(&whole)[part.start * n..part.end * n].to_vec());
        }
    }

    #[test]
    fn quantisation_rounds_half_to_even_within_half_a_step(seed: u64, cols in 1usize..100) {
        let mut rng = Random(seed | 1);
        let x = rng.activations(3, cols, false);
        let q = Activations::quantize(x.view());
        for r in 0..3 {
            for (b, part) in x.row(r).chunks(32).enumerate() {
                let (codes, dx) = q.block(r, b);
                let max = part.iter().fold(0f32, |m, v| m.max(v.abs()));
                if max < 2f32.powi(-119) {
                    prop_assert_eq!((codes, dx), ([0; 32], 0.0));
                    continue;
                }
                prop_assert_eq!(dx, max / 127.0);
                let inverse = 127.0 / max;
                for (v, c) in part.iter().zip(codes) {
                    prop_assert_eq!(f32::from(c), (v * inverse).round_ties_even());
                    prop_assert!((v - dx * f32::from(c)).abs() <= dx * 0.5001);
                }
                prop_assert!(codes[part.len()..].iter().all(|&c| c == 0));
            }
        }
    }
}

#[test]
fn large_shapes_and_extreme_codes() {
    for kind in KINDS {
        for (m, n, k) in [(1, 33, 2080), (7, 48, 1024), (13, 17, 1056), (64, 80, 512)] {
            check(kind, m, n, k, 0x9e37_79b9 + (m * n * k) as u64, false);
        }
    }
}

#[test]
fn the_largest_sums_are_exact() {
    // All codes and all activations at their extremes: where a saturating instruction would show.
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Super(SuperKind::Iq2Xxs)) {
        for (stored, sign) in [(0, 1.0), (0, -1.0), (largest(kind), 1.0), (largest(kind), -1.0)] {
            let code = code(kind, stored);
            let one = f16::ONE.to_bits();
            let w = match kind {
                Kind::Flat(codes, scales, min) => {
                    IntegerWeights::Flat(FlatPanels::new((16, 256), codes, scales, min, |_, to| {
                        to.codes.fill(stored);
                        to.scales.fill(1.0);
                    }))
                }
                Kind::Super(kind) => IntegerWeights::Super(super_panels((16, 256), kind, |_, to| {
                    to.codes.fill(stored);
                    to.d.fill(one);
                    to.scales.fill(1);
                })),
                Kind::Rows { block, min } => IntegerWeights::Rows(Box::new(Plain {
                    rows: 16,
                    cols: 256,
                    block,
                    has_min: min,
                    codes: vec![code; 16 * 256],
                    scales: vec![1.0; 16 * 256 / block],
                    mins: vec![0.0; 16 * 256 / block],
                })),
            };
            for m in [1, 3, 20] {
                let x = Matrix::from_vec(m, 256, vec![sign * 127.0; m * 256]);
                for isa in Isa::available() {
                    isa.with(|| {
                        let mut y = Matrix::zeros(m, 16);
                        w.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false);
                        let expected = 256.0 * 127.0 * sign * f32::from(code);
                        assert!(y.data().iter().all(|v| *v == expected), "{kind:?} {code} {isa:?}: {:?}", y.data());
                    });
                }
            }
        }
    }
}

#[test]
fn eight_bit_activations_cost_half_a_step_each() {
    let mut rng = Random(31);
    for kind in KINDS {
        let (w, plain) = weights(kind, 20, 512, &mut rng, false);
        let x = random_matrix(3, 512, &mut rng);
        let (mut y, mut exact) = (Matrix::zeros(3, 20), Matrix::zeros(3, 20));
        w.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false);
        specification::multiply_f32(&plain, x.view(), &mut exact.view_mut(), false);
        for n in 0..20 {
            let row = specification::weights(&plain, n);
            // Half a step of at most 1/127 for every product, and the rounding of sums of some thousands of steps.
            let scale: f32 = row.iter().map(|w| w.abs()).sum();
            let terms = |b: usize| 127.0 * 128.0 * plain.scales[b].abs() + 128.0 * 127.0 * plain.mins[b].abs();
            let parts = 512 / plain.block;
            let sums: f32 = (n * parts..(n + 1) * parts).map(terms).sum();
            for m in 0..3 {
                let (found, expected) = (y.row(m)[n], exact.row(m)[n]);
                let bound = scale * 0.502 / 127.0 + sums * 1e-5;
                assert!((found - expected).abs() <= bound, "{kind:?}: {found}, {expected} ± {bound}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut rng = Random(77);
    let before = pool::threads();
    for kind in KINDS {
        let (w, _) = weights(kind, 200, 320, &mut rng, false);
        for m in [1, 5, 30] {
            let x = rng.activations(m, 320, false);
            let run = |threads| {
                pool::set_threads(threads);
                let mut y = Matrix::zeros(m, 200);
                w.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false);
                to_bits(&y)
            };
            assert_eq!(run(1), run(2), "{kind:?} m = {m}");
            assert_eq!(run(1), run(5), "{kind:?} m = {m}");
        }
    }
    pool::set_threads(before);
}

#[test]
fn a_row_with_a_nan_gives_canonical_nans_and_no_others() {
    let mut rng = Random(5);
    let (w, _) = weights(Kind::Super(SuperKind::Q4K), 20, 256, &mut rng, false);
    let mut x = random_matrix(3, 256, &mut rng);
    x.row_mut(1)[200] = f32::from_bits(0xffc1_2345);
    let mut y = Matrix::zeros(3, 20);
    w.multiply(&Activations::quantize(x.view()), &mut y.view_mut(), false);
    assert!(y.row(1).iter().all(|v| v.to_bits() == f32::NAN.to_bits()));
    assert!(y.row(0).iter().chain(y.row(2)).all(|v| v.is_finite()));
}

#[test]
fn the_smallest_activations_do_not_overflow() {
    let tiny = Matrix::from_vec(1, 32, vec![f32::from_bits(1); 32]);
    assert_eq!(Activations::quantize(tiny.view()).block(0, 0), ([0; 32], 0.0));
    let edge = Matrix::from_vec(1, 32, vec![2f32.powi(-119); 32]);
    let (codes, dx) = Activations::quantize(edge.view()).block(0, 0);
    assert!(codes == [127; 32] && dx.is_normal());
    let huge = Matrix::from_vec(1, 32, vec![f32::MAX; 32]);
    assert_eq!(Activations::quantize(huge.view()).block(0, 0).0, [127; 32]);
}

#[test]
fn packed_weights_are_no_larger_than_their_formats() {
    let mut rng = Random(9);
    for (kind, format_bits) in [
        (bits(4, Scales::F16, false), 4.5),
        (bits(4, Scales::F16, true), 5.0),
        (bits(5, Scales::F16, false), 5.5),
        (bits(5, Scales::F16, true), 6.0),
        (bits(8, Scales::F16, false), 8.5),
        (Kind::Flat(FlatCodes::Table(Steps::Iq4), Scales::F16, false), 4.5),
        (Kind::Flat(FlatCodes::Table(Steps::Mxfp4), Scales::Powers, false), 4.25),
        (bits(3, Scales::Zeros { group: 128 }, true), 3.0 + 24.0 / 128.0),
        (bits(4, Scales::Zeros { group: 64 }, true), 4.0 + 24.0 / 64.0),
        (Kind::Super(SuperKind::Iq2Xxs), 2.0625 * 1.03),
        (Kind::Super(SuperKind::Q2K), 2.625),
        (Kind::Super(SuperKind::Q3K), 3.4375),
        (Kind::Super(SuperKind::Q4K), 4.5),
        (Kind::Super(SuperKind::Q5K), 5.5),
        (Kind::Super(SuperKind::Q6K), 6.5625),
        (Kind::Super(SuperKind::Iq4Xs), 4.25),
    ] {
        let (w, _) = weights(kind, 64, 2048, &mut rng, false);
        let bits = 8.0 * w.resident_bytes() as f64 / (64.0 * 2048.0);
        assert!(bits <= format_bits * 1.04, "{kind:?}: {bits}");
    }
}
