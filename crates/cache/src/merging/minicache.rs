//! MiniCache: two layers hold one direction a token, and each its own length.
//!
//! MiniCache: KV Cache Compression in Depth Dimension for Large Language Models (2024, arXiv 2405.14366).
//!
//! From the middle of the model on, neighbouring layers l − 1 and l have much the same keys and values. Of a token's vectors x and y
//! in the two, directions are interpolated on the sphere and lengths stay apart:
//!
//! `e = sin((1 − t)Ω)/sin Ω · x/‖x‖ + sin(tΩ)/sin Ω · y/‖y‖`, `cos Ω = ⟨x, y⟩/(‖x‖‖y‖)`, and the two are read back as `‖x‖·e`, `‖y‖·e`.
//!
//! A token whose angle Ω is among the greatest, `Ω ≥ Ω_max − γ(Ω_max − Ω_min)`, for keys or for values, stays as it is in both. Blocks of
//! directions are held once for both layers; each has two factors a token beside them, in f32, that make up for what a store rounds, so
//! lengths are exact.
//!
//! Bytes a merged token and pair of heads of d values in f16: `4d + 16` in place of `8d`.

use super::{Merged, Merging, cosine, dot};
use crate::options::Options;
use crate::selection::HeadView;
use crate::store::Coding;
use crate::{BLOCK, Error};
use brevity_kernels::attention::packed::PackedHead;
use brevity_kernels::math::double;
use brevity_measure::MethodCard;

/// Merging of neighbouring layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiniCache {
    /// Percent of the layers below which nothing is merged.
    pub from: usize,
    /// Percent of the way from the upper layer's direction to the deeper one's.
    pub t: usize,
    /// Percent of the range of angles, from the greatest, whose tokens stay apart.
    pub keep: usize,
}

const CARD: MethodCard = MethodCard {
    name: "minicache",
    room: "cache",
    title: "MiniCache: KV Cache Compression in Depth Dimension for Large Language Models",
    year: 2024,
    arxiv: Some("2405.14366"),
    mechanism: "From the middle on two layers share the directions of a token's keys and values, interpolated on the sphere; each keeps their lengths, and tokens that differ most stay apart.",
    guarantees: &[
        "lengths of keys and values stay as they were, up to rounding",
        "shared blocks are held once",
        "where every token is retained (keep=100) it is the full cache, bit for bit",
    ],
    simplifications: &[
        "the prompt is merged at its end, in whole blocks of 64; what is generated stays apart",
        "angles are those of a head, and of keys as they are stored: turned by rope, in integer stores without their mean",
        "a token stays apart in both sides of the cache if it does for one",
    ],
};

/// A pair of heads after merging: which slots come first, in their new order, and what each head holds.
pub struct Pair {
    /// Old slots in their new order: those that share their directions first.
    pub order: Vec<usize>,
    /// The heads of the upper layer and of the deeper one.
    pub heads: (PackedHead, PackedHead),
}

impl MiniCache {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut options = Options::read("minicache", "from, t, keep (percent)", text)?;
        let from = options.number("from", 50, (0, 100))?;
        let t = options.number("t", 60, (0, 100))?;
        let keep = options.number("keep", 5, (0, 100))?;
        options.done()?;
        Ok(Self { from, t, keep })
    }

    /// The first layer of each pair.
    pub fn pairs(&self, layers: usize) -> impl Iterator<Item = usize> + use<> {
        let first = (layers * self.from).div_ceil(100);
        (first..layers.saturating_sub(1)).step_by(2)
    }

    /// Merges two heads of as many tokens; nothing where less than a block would be shared. Each has codings of its own, and directions
    /// have those of the first.
    pub fn merge_heads(&self, a: &PackedHead, b: &PackedHead, codings: [(Coding, Coding); 2]) -> Option<Pair> {
        let sides = [Side::of(a, b, PackedHead::key), Side::of(a, b, PackedHead::value)];
        let apart = sides.each_ref().map(|side| side.apart(self.keep));
        let (mut merged, mut rest): (Vec<usize>, Vec<usize>) =
            (0..a.len()).partition(|&slot| !apart[0][slot] && !apart[1][slot]);
        rest.extend(merged.split_off(merged.len() / BLOCK * BLOCK));
        rest.sort_unstable();
        if merged.is_empty() {
            return None;
        }
        let mut shared = PackedHead::new(a.dim());
        let t = self.t as f64 / 100.0;
        for &slot in &merged {
            shared.push(&sides[0].between(slot, t), &sides[1].between(slot, t), codings[0]);
        }
        let with_lengths = |own: &PackedHead, second: bool| {
            let factors = |side: &Side, read: fn(&PackedHead, usize, &mut [f32])| -> Vec<f32> {
                let mut e = vec![0.0; own.dim()];
                let factor = |(at, &slot): (usize, &usize)| {
                    read(&shared, at, &mut e);
                    let (length, held) = (side.length(slot, second), dot(&e, &e).sqrt());
                    if held > 0.0 { (length / held) as f32 } else { 0.0 }
                };
                merged.iter().enumerate().map(factor).collect()
            };
            let gains = (factors(&sides[0], PackedHead::key), factors(&sides[1], PackedHead::value));
            let mut head = PackedHead::new(own.dim());
            head.share(&shared, (&gains.0, &gains.1));
            head.append(own.kept(&rest, codings[usize::from(second)]));
            head
        };
        let heads = (with_lengths(a, false), with_lengths(b, true));
        Some(Pair { order: [merged, rest].concat(), heads })
    }
}

impl Merging for MiniCache {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn text(&self) -> String {
        format!("minicache:from={},t={},keep={}", self.from, self.t, self.keep)
    }

    /// Nothing goes into a neighbour of its own layer.
    fn merge(&self, _: &HeadView<'_>, _: &[usize]) -> Vec<Merged> {
        Vec::new()
    }

    fn across(&self) -> Option<MiniCache> {
        Some(*self)
    }
}

/// The keys, or the values, of two heads.
struct Side {
    rows: Vec<(Vec<f32>, Vec<f32>)>,
    angles: Vec<f64>,
}

impl Side {
    fn of(a: &PackedHead, b: &PackedHead, read: fn(&PackedHead, usize, &mut [f32])) -> Side {
        let row = |slot: usize| {
            let (mut x, mut y) = (vec![0.0; a.dim()], vec![0.0; a.dim()]);
            read(a, slot, &mut x);
            read(b, slot, &mut y);
            (x, y)
        };
        let rows: Vec<_> = (0..a.len()).map(row).collect();
        let angles = rows.iter().map(|(x, y)| arccos(cosine(x, y))).collect();
        Side { rows, angles }
    }

    /// Which tokens are not merged.
    fn apart(&self, keep: usize) -> Vec<bool> {
        let most = self.angles.iter().copied().fold(f64::MIN, f64::max);
        let least = self.angles.iter().copied().fold(f64::MAX, f64::min);
        let limit = if keep == 100 { least } else { most - keep as f64 / 100.0 * (most - least) };
        self.angles.iter().map(|&angle| angle >= limit && (most > least || keep == 100)).collect()
    }

    fn length(&self, slot: usize, second: bool) -> f64 {
        let (x, y) = &self.rows[slot];
        let row = if second { y } else { x };
        dot(row, row).sqrt()
    }

    /// The direction between a token's two.
    fn between(&self, slot: usize, t: f64) -> Vec<f32> {
        let ((x, y), angle) = (&self.rows[slot], self.angles[slot]);
        let sin = |angle: f64| double::sin_cos(angle).0;
        let whole = sin(angle);
        // Nearly one direction, or nearly opposite ones: the chord does.
        let (a, b) =
            if whole.abs() < 1e-6 { (1.0 - t, t) } else { (sin((1.0 - t) * angle) / whole, sin(t * angle) / whole) };
        let (a, b) = (a / self.length(slot, false).max(1e-30), b / self.length(slot, true).max(1e-30));
        x.iter().zip(y).map(|(&x, &y)| (a * f64::from(x) + b * f64::from(y)) as f32).collect()
    }
}

/// The angle with a cosine, from 0 to π: the series of arcsin within a half, half angles beyond.
fn arccos(cos: f64) -> f64 {
    const PI: f64 = std::f64::consts::PI;
    let cos = cos.clamp(-1.0, 1.0);
    match cos {
        _ if cos > 0.5 => 2.0 * arcsin(((1.0 - cos) / 2.0).sqrt()),
        _ if cos < -0.5 => PI - 2.0 * arcsin(((1.0 + cos) / 2.0).sqrt()),
        _ => PI / 2.0 - arcsin(cos),
    }
}

/// `Σ (2k)!/(4^k·k!²) · x^(2k+1)/(2k+1)`, for |x| up to a half.
fn arcsin(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for k in 1..27 {
        let k = f64::from(k);
        term *= x * x * (2.0 * k - 1.0) / (2.0 * k);
        sum += term / (2.0 * k + 1.0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(dim: usize, len: usize, near: f32) -> (PackedHead, PackedHead) {
        let noise = |i: usize| ((i * 7919 + i / 13 * 271 + 11) % 2003) as f32 / 1001.5 - 1.0;
        let (mut a, mut b) = (PackedHead::new(dim), PackedHead::new(dim));
        for slot in 0..len {
            let row = |from: usize| -> Vec<f32> { (0..dim).map(|d| noise(from + slot * dim + d)).collect() };
            let beside = |x: &[f32], from: usize| -> Vec<f32> {
                x.iter().zip(row(from)).map(|(x, n)| 1.7 * x + near * n).collect()
            };
            let (k, v) = (row(0), row(90_000));
            b.push(&beside(&k, 300_000), &beside(&v, 500_000), (Coding::F32, Coding::F32));
            a.push(&k, &v, (Coding::F32, Coding::F32));
        }
        (a, b)
    }

    #[test]
    fn angles_are_those_of_their_cosines() {
        for i in 0..=100 {
            let angle = f64::from(i) * std::f64::consts::PI / 100.0;
            assert!((arccos(double::sin_cos(angle).1) - angle).abs() < 2e-8, "{i}");
        }
    }

    /// Lengths stay, directions lie between the two and are the same in both; what differs most stays itself.
    #[test]
    fn lengths_stay_and_directions_are_shared() {
        let (a, b) = heads(32, 200, 0.3);
        let merging = MiniCache::read("keep=20").unwrap();
        let pair = merging.merge_heads(&a, &b, [(Coding::F16, Coding::F16); 2]).unwrap();
        assert_eq!((pair.order.len(), pair.heads.0.len(), pair.heads.1.len()), (200, 200, 200));
        let read = |head: &PackedHead, slot: usize| {
            let mut x = vec![0.0; 32];
            head.key(slot, &mut x);
            x
        };
        let shared = 200 - 200 % BLOCK - BLOCK;
        for (at, &slot) in pair.order.iter().enumerate() {
            let (x, y) = (read(&a, slot), read(&b, slot));
            let (p, q) = (read(&pair.heads.0, at), read(&pair.heads.1, at));
            let same = |now: &[f32], then: &[f32]| (dot(now, now).sqrt() / dot(then, then).sqrt() - 1.0).abs();
            assert!(same(&p, &x) < 1e-3 && same(&q, &y) < 1e-3, "{at}");
            if at < shared {
                assert!(cosine(&p, &q) > 1.0 - 1e-6, "{at}: one direction");
                let (apart, to_first, to_second) =
                    (arccos(cosine(&x, &y)), arccos(cosine(&p, &x)), arccos(cosine(&p, &y)));
                assert!((to_first - 0.6 * apart).abs() < 0.01 && (to_second - 0.4 * apart).abs() < 0.01, "{at}");
            }
        }
        assert!(merging.merge_heads(&a, &b, [(Coding::F16, Coding::F16); 2]).is_some());
        assert!(MiniCache::read("keep=100").unwrap().merge_heads(&a, &b, [(Coding::F16, Coding::F16); 2]).is_none());
    }

    /// Layers that differ by lengths alone lose nothing, and one cache less is held.
    #[test]
    fn layers_with_the_same_directions_lose_nothing() {
        let (a, b) = heads(32, 256, 0.0);
        let pair = MiniCache::read("").unwrap().merge_heads(&a, &b, [(Coding::F32, Coding::F32); 2]).unwrap();
        let (mut now, mut then) = (vec![0.0; 32], vec![0.0; 32]);
        for (head, old) in [(&pair.heads.0, &a), (&pair.heads.1, &b)] {
            for (at, &slot) in pair.order.iter().enumerate() {
                head.value(at, &mut now);
                old.value(slot, &mut then);
                assert!(now.iter().zip(&then).all(|(n, t)| (n - t).abs() < 1e-5), "{at}");
            }
        }
        let mut seen = std::collections::HashSet::new();
        let held = pair.heads.0.bytes_beside(&mut seen) + pair.heads.1.bytes_beside(&mut seen);
        assert!(10 * held < 7 * (a.bytes() + b.bytes()), "{held} of {}", a.bytes() + b.bytes());
    }

    #[test]
    fn pairs_begin_in_the_middle() {
        let pairs = |text: &str, layers: usize| MiniCache::read(text).unwrap().pairs(layers).collect::<Vec<_>>();
        assert_eq!(pairs("", 8), [4, 6]);
        assert_eq!(pairs("", 9), [5, 7]);
        assert_eq!(pairs("from=0", 3), [0]);
        assert_eq!(pairs("", 1), [] as [usize; 0]);
    }
}
