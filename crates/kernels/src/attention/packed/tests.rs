//! Packed attention against the plain one and against a plain sum, in whatever tiles, threads and instruction sets.

use super::super::{CacheType, HeadCache, Query, TappedWeights, attend};
use super::*;
use crate::matrix::{Matrix, MatrixView};
use crate::{Isa, pool};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

fn matrix(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 4_194_304.0 - 2.0
    };
    Matrix::from_vec(rows, cols, (0..rows * cols).map(next).collect())
}

fn bits(m: &Matrix) -> Vec<u32> {
    m.data().iter().map(|v| v.to_bits()).collect()
}

struct Case {
    heads: Vec<PackedHead>,
    q: Matrix,
    seen: Vec<Range<usize>>,
}

impl Case {
    fn new(codings: (Coding, Coding), dim: usize, kv: usize, group: usize, len: usize, tokens: usize) -> Case {
        let open = (if codings.0.by_token() { codings.0 } else { Coding::F16 }, codings.1);
        let head = |h: usize| {
            let mut head = PackedHead::new(dim);
            let (k, v) = (matrix(len, dim, 3 + h as u64), matrix(len, dim, 77 + h as u64));
            (0..len).for_each(|i| head.push(k.row(i), v.row(i), open));
            (0..len / 64).for_each(|block| head.recode(block, codings));
            head
        };
        let seen = (0..tokens).map(|t| (len - tokens + t + 1).saturating_sub(200)..len - tokens + t + 1).collect();
        Case { heads: (0..kv).map(head).collect(), q: matrix(tokens, kv * group * dim, 5), seen }
    }

    fn run(&self, tokens: Range<usize>, tap: Option<&(dyn Fn(TappedWeights<'_>) + Sync)>) -> Matrix {
        let q = self.q.view().rows_range(tokens.clone());
        let mut out = Matrix::zeros(q.rows(), q.cols());
        let seen = |_: usize, token: usize| self.seen[tokens.start + token].clone();
        let heads: Vec<&PackedHead> = self.heads.iter().collect();
        attend_packed(&heads, &PackedQuery { q, scale: 0.2, seen: &seen }, &mut out.view_mut(), tap);
        out
    }

    /// In f64, from what the heads give back.
    fn expected(&self, token: usize, head: usize) -> Vec<f64> {
        let dim = self.heads[0].dim();
        let cache = &self.heads[head * self.heads.len() * dim / self.q.cols()];
        let q = &self.q.row(token)[head * dim..][..dim];
        let read = |slot: usize, value: bool| {
            let mut x = vec![0.0; dim];
            if value {
                cache.value(slot, &mut x)
            } else {
                cache.key(slot, &mut x)
            };
            x
        };
        let seen = self.seen[token].clone();
        let dot = |k: Vec<f32>| k.iter().zip(q).map(|(&k, &q)| f64::from(k) * f64::from(q)).sum::<f64>() * 0.2;
        let weights: Vec<f64> = seen.clone().map(|slot| dot(read(slot, false)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; dim];
        for (slot, w) in seen.zip(&weights) {
            out.iter_mut().zip(read(slot, true)).for_each(|(o, v)| *o += w / total * f64::from(v));
        }
        out
    }
}

const CODINGS: [(Coding, Coding); 8] = [
    (Coding::F32, Coding::F32),
    (Coding::F16, Coding::F16),
    (Coding::Token(8), Coding::Token(8)),
    (Coding::Token(4), Coding::Token(4)),
    (Coding::Token(3), Coding::Token(3)),
    (Coding::Token(2), Coding::Token(2)),
    (Coding::Channel(2), Coding::Token(4)),
    (Coding::Channel(4), Coding::F16),
];

#[test]
fn a_row_has_the_same_bits_in_any_company_on_any_machine() {
    for (codings, (dim, group, len)) in
        CODINGS.into_iter().flat_map(|c| [(64, 3, 700), (40, 2, 130), (16, 7, 90)].map(|s| (c, s)))
    {
        let case = Case::new(codings, dim, 3, group, len, 40);
        let whole = Isa::Scalar.with(|| case.run(0..40, None));
        for isa in Isa::available() {
            assert_eq!(bits(&isa.with(|| case.run(0..40, None))), bits(&whole), "{codings:?} {isa:?}");
            for threads in [1, 2] {
                pool::set_threads(threads);
                for row in [0, 13, 39] {
                    let alone = isa.with(|| case.run(row..row + 1, None));
                    assert_eq!(
                        bits(&alone)[..],
                        bits(&whole)[row * whole.cols()..][..whole.cols()],
                        "{codings:?} {isa:?}"
                    );
                }
                let two = isa.with(|| case.run(20..22, None));
                assert_eq!(
                    bits(&two)[..],
                    bits(&whole)[20 * whole.cols()..][..2 * whole.cols()],
                    "{codings:?} {isa:?}"
                );
            }
            pool::set_threads(0);
        }
        for (token, head) in [(0, 0), (39, 3 * group - 1), (20, group)] {
            for (got, expected) in whole.row(token)[head * dim..].iter().zip(case.expected(token, head)) {
                assert!((f64::from(*got) - expected).abs() < 2e-4, "{codings:?}: {got} {expected}");
            }
        }
    }
}

#[test]
fn floats_are_the_plain_cache_bit_for_bit() {
    for (ty, coding) in [(CacheType::F32, Coding::F32), (CacheType::F16, Coding::F16)] {
        let (dim, len, tokens) = (48, 600, 30);
        let mut case = Case::new((coding, coding), dim, 2, 3, len, tokens);
        case.seen.iter_mut().for_each(|seen| seen.start = 0);
        let mut plain = vec![HeadCache::new(dim, ty); 2];
        for (h, head) in plain.iter_mut().enumerate() {
            head.append(0, matrix(len, dim, 3 + h as u64).view(), matrix(len, dim, 77 + h as u64).view());
        }
        let positions: Vec<u32> = (0..tokens).map(|t| (len - tokens + t) as u32).collect();
        let query = Query { q: case.q.view(), positions: &positions, scale: 0.2, window: None };
        let mut expected = Matrix::zeros(tokens, case.q.cols());
        attend(&plain, &query, &mut expected.view_mut(), None);
        assert_eq!(bits(&case.run(0..tokens, None)), bits(&expected));
    }
}

/// A query that is not finite gives canonical NaNs in its own head alone.
#[test]
fn what_is_not_finite_stays_in_its_row() {
    for (codings, wild) in CODINGS.into_iter().flat_map(|c| [(c, f32::NAN), (c, f32::INFINITY)]) {
        let mut case = Case::new(codings, 40, 2, 2, 700, 8);
        let clean = case.run(0..8, None);
        case.q.row_mut(3)[45] = wild;
        for isa in Isa::available() {
            for tokens in [0..8, 3..4] {
                let out = isa.with(|| case.run(tokens.clone(), None));
                for (token, row) in tokens.clone().zip(0..) {
                    for (at, (got, was)) in out.row(row).iter().zip(clean.row(token)).enumerate() {
                        let hit = token == 3 && at / 40 == 1;
                        let expected = if hit { crate::simd::NAN } else { *was };
                        assert_eq!(got.to_bits(), expected.to_bits(), "{codings:?} {wild} {isa:?} {token} {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn taps_see_weights_that_sum_to_one() {
    for tokens in [0..40, 7..8] {
        let case = Case::new((Coding::Token(4), Coding::Token(4)), 64, 2, 2, 700, 40);
        let rows = Mutex::new(0);
        case.run(
            tokens.clone(),
            Some(&|tapped: TappedWeights| {
                assert_eq!(tapped.first..tapped.first + tapped.weights.len(), case.seen[tokens.start + tapped.token]);
                assert!((tapped.weights.iter().sum::<f32>() - 1.0).abs() < 1e-4);
                *rows.lock().unwrap() += 1;
            }),
        );
        assert_eq!(rows.into_inner().unwrap(), 4 * tokens.len());
    }
}

#[test]
fn bytes_are_what_the_layout_says() {
    for (bits, bytes) in [(8, 67), (4, 35), (3, 27), (2, 19)] {
        for side in [Side::Keys, Side::Values] {
            assert_eq!(Part::new(Coding::Token(bits), side, 64).bytes(), 64 * bytes, "{bits} {side:?}");
        }
        assert_eq!(Part::new(Coding::Channel(bits), Side::Keys, 64).bytes(), 64 * (usize::from(bits) * 8 + 4));
    }
    assert_eq!(Part::new(Coding::F16, Side::Values, 64).bytes(), 64 * 128);
}

#[test]
fn a_cut_head_goes_on() {
    let codings = (Coding::Channel(4), Coding::Token(4));
    let case = Case::new(codings, 32, 1, 1, 200, 8);
    let mut head = case.heads[0].clone();
    let mut before = [0.0; 32];
    head.key(70, &mut before);
    head.truncate(71, (Coding::F16, Coding::F16));
    assert_eq!((head.len(), head.blocks(), head.codings(1).0), (71, 2, Coding::F16));
    let mut after = [0.0; 32];
    head.key(70, &mut after);
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 2e-3));
    head.push(&[1.0; 32], &[2.0; 32], (Coding::F16, Coding::F16));
    head.key(71, &mut after);
    assert_eq!(after, [1.0; 32]);
}

proptest! {
    /// Every number a token holds comes back within half a scale of its whole range, or, below 8 bits, as near as the
    /// tightest range that is tried clips it; zeros stay zeros.
    #[test]
    fn tokens_come_back_within_their_bound(x in prop::collection::vec(-900f32..900.0, 64), at in 0usize..64) {
        for bits in [2u8, 3, 4, 8] {
            let mut part = Part::new(Coding::Token(bits), Side::Values, 64);
            part.write(at, &x);
            let mut y = vec![0.0; 64];
            part.read(at, &mut y);
            let (low, high) = x.iter().fold((0f32, 0f32), |(a, b), &x| (a.min(x), b.max(x)));
            let (top, step) = (f32::from((1u16 << bits) - 1), (1u32 << bits) as f32 / 256.0);
            let scale = 1.001 * (high - low) / (top - step);
            let clipped = if bits == 8 { 0.0 } else { 0.28 * high.max(-low) };
            let bound = (0.5 * scale).max(clipped) + step * scale;
            prop_assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= bound), "{} {:?} {:?}", bits, x, y);
            part.write(at, &[0.0; 64]);
            part.read(at, &mut y);
            prop_assert!(y.iter().all(|&y| y == 0.0));
        }
    }

    #[test]
    fn channels_come_back_within_half_a_scale(seed in any::<u64>(), offset in -50f32..50.0) {
        let mut x = matrix(64, 24, seed);
        x.data_mut().iter_mut().for_each(|x| *x += offset);
        for bits in [2u8, 3, 4, 8] {
            let mut part = Part::new(Coding::Channel(bits), Side::Keys, 24);
            part.write_block(x.data(), None);
            let mut y = vec![0.0; 24];
            for slot in 0..64 {
                part.read(slot, &mut y);
                let bound = 2.1 / f32::from((1u16 << bits) - 1) + 0.05;
                prop_assert!(MatrixView::from_row(x.row(slot)).row(0).iter().zip(&y).all(|(x, y)| (x - y).abs() <= bound));
            }
        }
    }
}

fn form(coding: Coding, channels: usize, repair: Option<Recipe>) -> Form {
    Form { coding, channels, repair }
}

/// Everything that a block can have beside codes, at once: low rank and single numbers, few channels, gains, tilts.
fn adorned(kind: usize, dim: usize, group: usize) -> Case {
    let (len, kv, tokens) = (200, 2, 40);
    let head = |h: usize| {
        let mut head = PackedHead::new(dim);
        let (k, v) = (matrix(len, dim, 3 + h as u64), matrix(len, dim, 77 + h as u64));
        let many = if kind == 2 { 128 } else { len };
        (0..many).for_each(|i| head.push(k.row(i), v.row(i), (Coding::F16, Coding::F16)));
        match kind {
            0 => (0..3).for_each(|block| {
                let repair = Some(Recipe { rank: 2, singles: 1 });
                head.reform(block, (form(Coding::Channel(4), 0, repair), form(Coding::Token(4), 0, repair)), None);
            }),
            1 => (0..2).for_each(|b| head.reform(b, (form(Coding::F16, 16, None), form(Coding::F16, 32, None)), None)),
            _ => {
                (0..2).for_each(|block| head.recode(block, (Coding::Token(8), Coding::Token(4))));
                let (k, v) = (matrix(1, 128, 5 + h as u64), matrix(1, 128, 6 + h as u64));
                let mut sharing = PackedHead::new(dim);
                sharing.share(&head, (k.row(0), v.row(0)));
                head = sharing;
                let v = matrix(len, dim, 78);
                (128..len).for_each(|i| head.push(v.row(i), v.row(len - 1 - i), (Coding::F16, Coding::F16)));
                head.tilt(7, 2.5);
                head.tilt(150, -1.0);
            }
        }
        head
    };
    let seen = (0..tokens).map(|t| 0..len - tokens + t + 1).collect();
    Case { heads: (0..kv).map(head).collect(), q: matrix(tokens, kv * group * dim, 5), seen }
}

#[test]
fn adorned_blocks_have_the_same_bits_in_any_company_and_are_what_they_read() {
    for (kind, (dim, group)) in [0, 1, 2].into_iter().flat_map(|kind| [(64, 3), (40, 2), (64, 7)].map(|s| (kind, s))) {
        let case = adorned(kind, dim, group);
        let whole = Isa::Scalar.with(|| case.run(0..40, None));
        for isa in Isa::available() {
            assert_eq!(bits(&isa.with(|| case.run(0..40, None))), bits(&whole), "{kind} {isa:?}");
            for row in [0, 39] {
                let alone = isa.with(|| case.run(row..row + 1, None));
                assert_eq!(bits(&alone)[..], bits(&whole)[row * whole.cols()..][..whole.cols()], "{kind} {isa:?}");
            }
        }
        if kind == 2 {
            continue;
        }
        for (token, head) in [(0, 0), (39, 2 * group - 1)] {
            let expected = case.expected(token, head);
            let got = &whole.row(token)[head * dim..][..dim];
            assert!(expected.iter().zip(got).all(|(e, &g)| (e - f64::from(g)).abs() < 2e-4), "{kind} {token} {head}");
        }
    }
}

/// A tilt of ln 3 is the token three times over; long caches split one token's work over threads, with the same bits.
#[test]
fn a_tilted_slot_counts_as_several_tokens_and_gains_multiply() {
    let (k, v) = (matrix(700, 64, 1), matrix(700, 64, 2));
    let head = |extra: usize, tilt: f32| {
        let mut head = PackedHead::new(64);
        (0..700).for_each(|i| head.push(k.row(i), v.row(i), (Coding::F32, Coding::F32)));
        (0..extra).for_each(|_| head.push(k.row(699), v.row(699), (Coding::F32, Coding::F32)));
        head.tilt(699, tilt);
        head
    };
    let case = |head: PackedHead| {
        let seen = std::iter::once(0..head.len()).collect();
        Case { heads: vec![head], q: matrix(1, 64, 5), seen }.run(0..1, None)
    };
    let (tilted, several) = (case(head(0, 3f32.ln())), case(head(2, 0.0)));
    assert!(tilted.data().iter().zip(several.data()).all(|(a, b)| (a - b).abs() < 1e-5));
    let mut whole = PackedHead::new(64);
    (0..640).for_each(|i| whole.push(k.row(i), v.row(i), (Coding::F16, Coding::F16)));
    let gains: (Vec<f32>, Vec<f32>) = (0..640).map(|i| (i as f32 / 300.0, 2.0 - i as f32 / 400.0)).unzip();
    let mut sharing = PackedHead::new(64);
    sharing.share(&whole, (&gains.0, &gains.1));
    let (mut a, mut b) = (vec![0.0; 64], vec![0.0; 64]);
    whole.key(77, &mut a);
    sharing.key(77, &mut b);
    assert!(a.iter().zip(&b).all(|(a, b)| a * gains.0[77] == *b));
    let mut cut = sharing.clone();
    cut.truncate(80, (Coding::F32, Coding::F32));
    cut.push(k.row(80), v.row(80), (Coding::F32, Coding::F32));
    cut.key(77, &mut a);
    assert_eq!(a, b, "what is cut keeps its gains");
    cut.key(80, &mut a);
    assert_eq!(a, k.row(80), "what comes after has none");
    let mut longer = whole.clone();
    longer.append(cut);
    longer.key(640 + 80, &mut a);
    assert_eq!((longer.len(), &a[..]), (721, k.row(80)));
    let case = Case { seen: vec![0..640; 2], q: matrix(2, 64, 9), heads: vec![sharing.clone()] };
    let (two, one) = (case.run(0..2, None), case.run(1..2, None));
    assert_eq!(bits(&two)[64..], bits(&one)[..]);
    assert!(case.expected(1, 0).iter().zip(one.data()).all(|(e, &g)| (e - f64::from(g)).abs() < 2e-4));
    let mut seen = std::collections::HashSet::new();
    let both = whole.bytes_beside(&mut seen) + sharing.bytes_beside(&mut seen);
    assert!(both < whole.bytes() + 640 * 8 + 10 * 200, "shared blocks are held once");
}

/// ‖X − D − A·Bᵀ − S‖ falls with the rank and with single numbers, and a block of low rank beside its grid comes back.
#[test]
fn more_repair_leaves_less() {
    for (coding, side) in [(Coding::Channel(2), Side::Keys), (Coding::Token(2), Side::Values)] {
        let mut x = matrix(64, 40, 3);
        (0..64).for_each(|row| x.row_mut(row)[(row * 7) % 40] *= 5.0);
        let error = |recipe: Option<Recipe>| -> f64 {
            let part = match recipe {
                Some(recipe) => Part::repaired(coding, side, 40, x.data(), recipe),
                None => {
                    let mut part = Part::new(coding, side, 40);
                    part.write_block(x.data(), None);
                    part
                }
            };
            let mut back = vec![0.0; 40];
            let off = |row: usize| {
                part.read(row, &mut back);
                back.iter().zip(x.row(row)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            };
            (0..64).map(off).sum()
        };
        let mut last = error(None);
        for recipe in
            [(0, 1), (1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (40, 1)].map(|(rank, singles)| Recipe { rank, singles })
        {
            let now = error(Some(recipe));
            assert!(now < last, "{side:?} {recipe:?}: {now} {last}");
            last = now;
        }
        assert!(last < 1e-3, "{side:?}: the whole rank leaves {last}");
        assert!(error(Some(Recipe { rank: 0, singles: 3 })) < error(Some(Recipe { rank: 0, singles: 1 })));
    }
}
