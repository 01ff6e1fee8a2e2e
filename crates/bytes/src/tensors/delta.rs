//! Numbers as differences from those of a base: how many floats lie between the old value and the new, and which way.
//!
//! Floats of a sign are in the order of their bits, so `o(x) = ±|bits|` counts them, and `d = o(new) − o(old)` is the difference in units of the last place
//! (ULPs). A change of a certain size takes the fewer ULPs the larger the old value: the width that is foretold (`Widths`, over
//! `log₂|d|` plus the old exponent) less the old exponent is what to expect of `log₂|d|`, and is the context of everything:
//!
//! - for 64 numbers together, whether any changed, behind what came of the two questions before;
//! - for each of them, whether it did, behind the expectation and its two neighbours to the left: where changes are sparse this costs what
//!   gaps between indices would, and less where some places are likelier than others;
//! - whether it goes towards zero (weights decay), behind the expectation: the larger the value, the surer; the number of bits of `|d|`, behind
//!   the expectation and that; the top two below the first; the rest is raw.

use super::kind::Kind;
use super::stream::take;
use super::width::Widths;
use crate::varint;
use brevity_coding::bits::{BitReader, BitWriter};
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::range::{Coder, Decoder, Encoder};

/// Numbers of which one flag says whether any changed.
const GROUP: usize = 64;
/// Expectations are told apart by eighths of an octave, from −16 octaves on, so many of them.
const STEP: u32 = 5;
const LOWEST: i32 = -16 * 256;
const EXPECTED: usize = 512;
/// Coarser ones: quarters of an octave.
const COARSE: usize = EXPECTED / 2;
/// What is expected to begin with: changes of 2⁻¹⁴ of a value.
const BEGIN: i32 = 110 * 256;

/// Whether numbers of a kind are coded as differences.
pub fn supports(kind: Kind) -> bool {
    matches!(kind, Kind::Bfloat16 | Kind::Float16 | Kind::Float32)
}

/// Floats of a format: bits, and bits below the exponent.
#[derive(Clone, Copy)]
struct Format {
    bits: u32,
    mantissa: u32,
}

impl Format {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Bfloat16 => Self { bits: 16, mantissa: 7 },
            Kind::Float16 => Self { bits: 16, mantissa: 10 },
            _ => Self { bits: 32, mantissa: 23 },
        }
    }

    fn read(self, bytes: &[u8]) -> u32 {
        match bytes {
            [a, b] => u32::from(u16::from_le_bytes([*a, *b])),
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }

    fn write(self, value: u32, out: &mut [u8]) {
        let bytes = value.to_le_bytes();
        let count = out.len().min(4);
        out[..count].copy_from_slice(&bytes[..count]);
    }

    /// Bits in the order of the numbers, one after the other. −0 comes right below 0.
    #[inline(always)]
    fn order(self, bits: u32) -> i64 {
        let magnitude = i64::from(bits & ((1 << (self.bits - 1)) - 1));
        if bits >> (self.bits - 1) == 0 { magnitude } else { -1 - magnitude }
    }

    #[inline(always)]
    fn unorder(self, order: i64) -> u32 {
        let sign = 1u32 << (self.bits - 1);
        if order >= 0 { order as u32 & (sign - 1) } else { ((-1 - order) as u32 & (sign - 1)) | sign }
    }

    #[inline(always)]
    fn exponent(self, bits: u32) -> i32 {
        let exponent = bits >> self.mantissa & ((1 << (self.bits - 1 - self.mantissa)) - 1);
        (exponent as i32).max(1)
    }
}

/// Coded bits, and beside them those that nothing predicts.
trait Plain: Coder {
    fn raw(&mut self, value: u32, count: u32) -> u32;
}

struct Writer {
    coder: Encoder,
    raw: BitWriter,
}

impl Coder for Writer {
    #[inline(always)]
    fn code(&mut self, bit: u32, p: u32) -> u32 {
        self.coder.code(bit, p)
    }
}

impl Plain for Writer {
    #[inline(always)]
    fn raw(&mut self, value: u32, count: u32) -> u32 {
        self.raw.put(value, count);
        value
    }
}

struct Reader<'a> {
    coder: Decoder<'a>,
    raw: BitReader<'a>,
}

impl Coder for Reader<'_> {
    #[inline(always)]
    fn code(&mut self, bit: u32, p: u32) -> u32 {
        self.coder.code(bit, p)
    }
}

impl Plain for Reader<'_> {
    #[inline(always)]
    fn raw(&mut self, _: u32, count: u32) -> u32 {
        self.raw.take(count)
    }
}

struct Model {
    rates: Rates,
    groups: [Counter; 4],
    changed: Vec<Counter>,
    /// Whether a value comes nearer to zero.
    nearer: Vec<Counter>,
    /// Trees over the number of bits of a difference, 64 nodes each, of those that come nearer to zero and of the others.
    lengths: Vec<Counter>,
    /// The two bits below the first, for each number of bits.
    tops: [Counter; 4 * 64],
    widths: Widths,
    /// Whether the last numbers changed, the last lowest.
    before: usize,
}

#[inline(always)]
fn bit<K: Coder>(coder: &mut K, counter: &mut Counter, bit: u32, rates: Rates) -> u32 {
    let bit = coder.code(bit, u32::from(counter.p()));
    counter.learn(bit, 1000, rates);
    bit
}

impl Model {
    fn new(row: usize, count: usize, format: Format) -> Self {
        // A change of 2⁻¹⁴ of the value, in ULPs, plus an exponent in the middle of its range.
        let begin =
            if format.bits == 16 && format.mantissa == 10 { 10 * 256 } else { BEGIN + format.mantissa as i32 * 256 };
        Self {
            rates: Rates::get(),
            groups: [Counter::default(); 4],
            changed: vec![Counter::default(); EXPECTED * 4],
            nearer: vec![Counter::default(); COARSE],
            lengths: vec![Counter::default(); 2 * COARSE * 64],
            tops: [Counter::default(); 4 * 64],
            widths: Widths::new(row, count, begin),
            before: 0,
        }
    }

    /// Codes one difference behind the old bits.
    #[inline(always)]
    fn difference<K: Plain>(&mut self, coder: &mut K, d: i64, expected: i32, negative: bool) -> i64 {
        let place = ((expected - LOWEST) >> STEP).clamp(0, EXPECTED as i32 - 1) as usize;
        let counter = &mut self.changed[place << 2 | self.before & 3];
        let changed = bit(coder, counter, u32::from(d != 0), self.rates);
        self.before = self.before << 1 | changed as usize;
        if changed == 0 {
            return 0;
        }
        let nearer = bit(coder, &mut self.nearer[place >> 1], u32::from((d > 0) == negative), self.rates) != 0;
        let magnitude = self.magnitude(coder, d.unsigned_abs(), (place >> 1) + usize::from(nearer) * COARSE);
        if nearer == negative { magnitude as i64 } else { -(magnitude as i64) }
    }

    #[inline(always)]
    fn magnitude<K: Plain>(&mut self, coder: &mut K, magnitude: u64, place: usize) -> u64 {
        // At least 1 and below 2³³: one bit less than its length is 0 to 32.
        let length = 63 - (magnitude | 1).leading_zeros();
        let mut node = 1;
        for at in (0..6).rev() {
            let counter = &mut self.lengths[place << 6 | node & 63];
            node = node << 1 | bit(coder, counter, length >> at & 1, self.rates) as usize;
        }
        let length = (node & 63).min(33) as u32;
        let mut value = 1u64;
        for at in 0..length.min(2) {
            let node = if at == 0 { 1 } else { 2 | value as usize & 1 };
            let next = (magnitude >> (length - 1 - at)) as u32 & 1;
            let next = bit(coder, &mut self.tops[(length as usize) << 2 | node], next, self.rates);
            value = value << 1 | u64::from(next);
        }
        let rest = length.saturating_sub(2);
        value << rest | u64::from(coder.raw(magnitude as u32 & mask(rest), rest)) & u64::from(mask(rest))
    }

    /// Runs over all numbers; a decoder fills `new` in.
    fn run<K: Plain>(&mut self, coder: &mut K, format: Format, old: &[u8], new: &mut [u8]) {
        let unit = (format.bits / 8) as usize;
        let (columns, size) = (self.widths.columns(), GROUP * unit);
        let (mut column, mut row, mut groups) = (0, 0, 0usize);
        for (old, new) in old.chunks(size).zip(new.chunks_mut(size)) {
            let counter = &mut self.groups[groups & 3];
            let any = bit(coder, counter, u32::from(old != &*new), self.rates);
            groups = groups << 1 | any as usize;
            if any == 0 {
                new.copy_from_slice(old);
                column += old.len() / unit;
                row += column / columns;
                column %= columns;
                continue;
            }
            for (old, new) in old.chunks_exact(unit).zip(new.chunks_exact_mut(unit)) {
                let bits = format.read(old);
                let exponent = format.exponent(bits) * 256;
                let predicted = self.widths.predict(column);
                let from = format.order(bits);
                let d = format.order(format.read(new)) - from;
                let negative = bits >> (format.bits - 1) & 1 == 1;
                let d = self.difference(coder, d, predicted - exponent, negative);
                format.write(format.unorder(from.wrapping_add(d)), new);
                let width = exponent + octaves(d.unsigned_abs());
                // Of what did not change only this is known: it would have been less than half an ULP.
                let width = if d == 0 { width.min(predicted) } else { width };
                self.widths.learn(column, row, predicted, width);
                column += 1;
                if column == columns {
                    (column, row) = (0, row + 1);
                }
            }
        }
    }
}

fn mask(bits: u32) -> u32 {
    ((1u64 << bits.min(32)) - 1) as u32
}

/// `256 · log₂ d`, straight between powers of two; −1 octave for 0.
#[inline(always)]
fn octaves(d: u64) -> i32 {
    if d == 0 {
        return -256;
    }
    let length = d.ilog2();
    let below = (d << 8 >> length) as i32 & 255;
    length as i32 * 256 + below
}

/// The differences of numbers of a supported kind; both slices have whole numbers, and as many bytes.
pub fn encode(kind: Kind, row: usize, old: &[u8], new: &[u8]) -> Vec<u8> {
    let format = Format::of(kind);
    let mut model = Model::new(row, new.len() / kind.unit(), format);
    let mut writer = Writer { coder: Encoder::with_capacity(new.len() / 8), raw: BitWriter::new() };
    // The model writes what it reads.
    let mut same = new.to_vec();
    model.run(&mut writer, format, old, &mut same);
    let coded = writer.coder.finish();
    let mut out = Vec::with_capacity(coded.len());
    varint::put(coded.len() as u64, &mut out);
    out.extend(coded);
    out.extend(writer.raw.finish());
    out
}

/// Numbers from those of the base and their differences.
pub fn decode(kind: Kind, row: usize, old: &[u8], mut input: &[u8], out: &mut [u8]) -> Option<()> {
    if !supports(kind) || old.len() != out.len() {
        return None;
    }
    let format = Format::of(kind);
    let length = usize::try_from(varint::take(&mut input)?).ok()?;
    let coder = Decoder::new(take(&mut input, length)?);
    let mut reader = Reader { coder, raw: BitReader::new(input) };
    Model::new(row, out.len() / kind.unit(), format).run(&mut reader, format, old, out);
    (!reader.raw.overran()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(kind: Kind, row: usize, old: &[u8], new: &[u8]) -> usize {
        let coded = encode(kind, row, old, new);
        let mut out = vec![0; new.len()];
        decode(kind, row, old, &coded, &mut out).unwrap();
        assert!(out == new);
        coded.len()
    }

    /// Uniform in (0, 1).
    fn uniform(x: &mut u32) -> f32 {
        *x ^= *x << 13;
        *x ^= *x >> 17;
        *x ^= *x << 5;
        (*x as f32 + 1.0) / 4_294_967_296.0
    }

    fn normal(x: &mut u32) -> f32 {
        (0..12).map(|_| uniform(x)).sum::<f32>() - 6.0
    }

    /// Rounds to the nearest, ties to even.
    fn bf16(w: f32) -> [u8; 2] {
        let bits = w.to_bits();
        (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes()
    }

    #[test]
    fn a_training_step_takes_less_than_a_byte_a_changed_weight() {
        // Masters in f32 move by about the learning rate each, Adam's way; what is stored is their BF16 view.
        let mut x = 11;
        let masters: Vec<f32> = (0..400_000).map(|_| normal(&mut x) * 0.03).collect();
        for rate in [1e-6f32, 1e-5, 1e-4] {
            let moved: Vec<f32> = masters.iter().map(|w| w - rate * normal(&mut x).clamp(-1.0, 1.0)).collect();
            let old: Vec<u8> = masters.iter().flat_map(|w| bf16(*w)).collect();
            let new: Vec<u8> = moved.iter().flat_map(|w| bf16(*w)).collect();
            let changed = old.chunks(2).zip(new.chunks(2)).filter(|(a, b)| a != b).count();
            let bytes = round_trip(Kind::Bfloat16, 512, &old, &new) as f64 / changed as f64;
            println!("rate {rate:e}: {changed} changed, {bytes:.3} bytes each");
            assert!(bytes < 1.0, "rate {rate}: {changed} changed, {bytes} bytes each");
        }
    }

    #[test]
    fn the_same_takes_nothing_and_anything_comes_back() {
        let noise: Vec<u8> = (0..80_000u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
        for kind in [Kind::Bfloat16, Kind::Float16, Kind::Float32] {
            assert!(round_trip(kind, 100, &noise, &noise) < 32);
            let other: Vec<u8> = noise.iter().rev().copied().collect();
            round_trip(kind, 0, &noise, &other);
            round_trip(kind, 7, &other, &[0xFF; 80_000]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in any::<Vec<u8>>(), old in prop::collection::vec(any::<u8>(), 0..100)) {
            let old = &old[..old.len() / 4 * 4];
            let mut out = vec![0; old.len()];
            for kind in [Kind::Bfloat16, Kind::Float16, Kind::Float32, Kind::Float8] {
                let _ = decode(kind, 3, old, &bytes, &mut out);
            }
        }
    }
}
