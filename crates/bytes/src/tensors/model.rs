//! Floats by contexts: the exponent behind its neighbours, the top of the mantissa behind the exponent.
//!
//! How wide the distribution of a number is, is foretold from what stands around it (`Widths`). Then the highest byte of the
//! float (rotated, see [`planes`]) is coded as the answers on the way down a binary tree over the bytes that occur, each predicted by a
//! counter of its own for every eighth of an octave of `w`. Mixing seven contexts instead took 0.05 % less space and 2.4 times the time.
//!
//! Inside an octave a density that falls makes small mantissas likelier, the more so the farther out: the top three bits of the mantissa are
//! coded by counters behind the exponent and the exponent beside the width that is expected. The rest of a
//! number is noise: five bits of its second byte stand packed, further bytes are planes.

use super::kind::Kind;
use super::stream::{self, take};
use super::width::Widths;
use super::{CHUNK, Segment, planes};
use crate::varint;
use brevity_coding::bits::{BitReader, BitWriter};
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::range::{Coder, Decoder, Encoder};
use brevity_coding::rans::Table;
use brevity_coding::simd::{Backend, Simd, Task, dispatch};

/// Numbers below which a model has no time to learn.
const LEAST: usize = 2048;
/// log₂ of the steps of width that share counters, 256 an octave.
const STEP: u32 = 5;
/// Octaves that widths are told apart in, to either side of the most frequent exponent; 256 steps an octave.
const OCTAVES: i32 = 12;
const WIDEST: i32 = 2 * OCTAVES * 256;
/// Bits of the mantissa that are modelled, and of the same byte that are not.
const MANTISSA: u32 = 3;
const PACKED: u32 = 8 - MANTISSA;

/// A question: is the byte below this?
#[derive(Clone, Copy, Default)]
struct Node {
    below: u8,
    /// The next question, or from [`LEAF`] on the byte itself.
    next: [u16; 2],
}

const LEAF: u16 = 256;

/// The tree over the bytes of a table: each question halves what is left as evenly as the order of the bytes allows.
fn tree(table: &Table) -> Vec<Node> {
    let weights: Vec<(u8, u32)> =
        (0..=255).zip(table.frequencies()).filter(|(_, f)| **f > 0).map(|(s, &f)| (s, u32::from(f))).collect();
    let mut nodes = Vec::new();
    grow(&weights, &mut nodes);
    nodes
}

fn grow(weights: &[(u8, u32)], nodes: &mut Vec<Node>) -> u16 {
    if let [(symbol, _)] = weights {
        return LEAF + u16::from(*symbol);
    }
    let total: u32 = weights.iter().map(|w| w.1).sum();
    let mut before = 0;
    let mut best = (u32::MAX, 1);
    for (at, weight) in weights.iter().enumerate().take(weights.len() - 1) {
        before += weight.1;
        best = best.min((before.abs_diff(total - before), at + 1));
    }
    let place = nodes.len();
    nodes.push(Node { below: weights[best.1].0, next: [0; 2] });
    let next = [grow(&weights[best.1..], nodes), grow(&weights[..best.1], nodes)];
    nodes[place].next = next;
    place as u16
}

/// How wide numbers are of which this is the highest byte.
fn widths(table: &Table, kind: Kind) -> Box<[i32; 256]> {
    let mode = table.frequencies().iter().enumerate().max_by_key(|(_, f)| **f).map_or(0, |(symbol, _)| symbol as i32);
    let step = match kind {
        Kind::Float16 => 32,
        Kind::Float8 => 16,
        _ => 256,
    };
    Box::new(std::array::from_fn(|symbol| ((symbol as i32 - mode) * step + OCTAVES * 256).clamp(0, WIDEST)))
}

struct Model {
    nodes: Vec<Node>,
    widths: Box<[i32; 256]>,
    /// Counters of a context are this far apart.
    stride: usize,
    counters: Vec<Counter>,
    mantissa: Vec<Counter>,
    expected: Widths,
    rates: Rates,
}

impl Model {
    fn new(table: &Table, segment: &Segment, count: usize) -> Self {
        let nodes = tree(table);
        let stride = nodes.len().next_power_of_two();
        Self {
            widths: widths(table, segment.kind),
            counters: vec![Counter::default(); ((WIDEST >> STEP) as usize + 1) * stride],
            mantissa: vec![Counter::default(); 256 << (MANTISSA + 3)],
            expected: Widths::new(segment.row, count, OCTAVES * 256),
            rates: Rates::get(),
            nodes,
            stride,
        }
    }

    /// Codes the highest byte; a decoder ignores the one it is given.
    #[inline(always)]
    fn byte<K: Coder>(&mut self, coder: &mut K, byte: u8, expected: i32) -> u8 {
        let place = (expected >> STEP) as usize * self.stride;
        let mut node = 0u16;
        while node < LEAF {
            let Node { below, next } = self.nodes[usize::from(node)];
            let counter = &mut self.counters[place + usize::from(node)];
            let bit = coder.code_open(u32::from(byte < below), u32::from(counter.p()));
            counter.learn(bit, 1000, self.rates);
            node = next[bit as usize & 1];
        }
        node as u8
    }

    /// Codes the top of the second byte.
    #[inline(always)]
    fn mantissa<K: Coder>(&mut self, coder: &mut K, top: u8, byte: u8, expected: i32) -> u8 {
        let beside = ((self.widths[usize::from(byte)] - expected) >> 7).clamp(-4, 3) + 4;
        let base = (usize::from(byte) << 3 | beside as usize) << MANTISSA;
        let mut node = 1;
        for at in (0..MANTISSA).rev() {
            let counter = &mut self.mantissa[base | node];
            let bit = coder.code_open(u32::from(top) >> at & 1, u32::from(counter.p()));
            counter.learn(bit, 1000, self.rates);
            node = node << 1 | bit as usize;
        }
        node as u8 & ((1 << MANTISSA) - 1)
    }
}

/// Runs the model over highest and second bytes; a decoder fills them in.
struct Run<'a, K> {
    model: Model,
    coder: &'a mut K,
    high: &'a mut [u8],
    top: &'a mut [u8],
}

impl<K: Coder> Task for Run<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut model = self.model;
        let columns = model.expected.columns();
        let with_mantissa = !self.top.is_empty();
        for (row, line) in self.high.chunks_mut(columns).enumerate() {
            for (column, byte) in line.iter_mut().enumerate() {
                let predicted = model.expected.predict(column);
                let expected = predicted.clamp(0, WIDEST);
                *byte = model.byte(self.coder, *byte, expected);
                if with_mantissa {
                    let top = &mut self.top[row * columns + column];
                    *top = model.mantissa(self.coder, *top, *byte, expected);
                }
                model.expected.learn(column, row, predicted, model.widths[usize::from(*byte)]);
            }
        }
    }
}

/// Whether the second byte of a kind begins with mantissa that is worth modelling.
fn models_mantissa(kind: Kind) -> bool {
    matches!(kind, Kind::Bfloat16 | Kind::Float32)
}

/// Encodes floats; nothing if they are none, too few, or all of one magnitude.
pub fn encode(segment: &Segment, raw: &[u8], backend: Backend) -> Option<Vec<u8>> {
    let kind = segment.kind;
    let count = raw.len() / kind.unit();
    if !kind.is_float() || kind == Kind::Float64 || count < LEAST {
        return None;
    }
    let mut all = Vec::new();
    planes::split(kind, raw, &mut all, backend);
    let mut all = all.into_iter();
    let mut high = all.next()?;
    let mut counts = [0; 256];
    high.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let table = Table::new(&counts)?;
    let mut head = BitWriter::new();
    table.write(&mut head);
    let mut out = head.finish();
    // What the table rounds to zero cannot be told apart by the tree.
    let (mut top, mut packed) = (Vec::new(), BitWriter::new());
    if models_mantissa(kind) {
        let second = all.next()?;
        top = second.iter().map(|byte| byte >> PACKED).collect();
        second.iter().for_each(|&byte| packed.put(u32::from(byte), PACKED));
    }
    let mut coder = Encoder::with_capacity(count / 2);
    let model = Model::new(&table, segment, count);
    dispatch(backend, Run { model, coder: &mut coder, high: &mut high, top: &mut top });
    let coded = coder.finish();
    varint::put(coded.len() as u64, &mut out);
    out.extend(coded);
    out.extend(packed.finish());
    let mut streams = stream::Encoder::new(backend);
    for plane in all {
        plane.chunks(CHUNK).for_each(|chunk| streams.encode(chunk, &mut out));
    }
    Some(out)
}

/// Decodes floats into `out`; nothing if this is not what an encoder writes.
pub fn decode(mut input: &[u8], segment: &Segment, out: &mut [u8], backend: Backend) -> Option<()> {
    let kind = segment.kind;
    let count = out.len() / kind.unit();
    if !kind.is_float() || kind == Kind::Float64 || count < LEAST {
        return None;
    }
    let mut bits = BitReader::new(input);
    let table = Table::read(&mut bits).ok()?;
    input = input.get(bits.position()..)?;
    let length = usize::try_from(varint::take(&mut input)?).ok()?;
    let mut coder = Decoder::new(take(&mut input, length)?);
    let mut high = vec![0; count];
    let mut top = if models_mantissa(kind) { vec![0; count] } else { Vec::new() };
    let model = Model::new(&table, segment, count);
    dispatch(backend, Run { model, coder: &mut coder, high: &mut high, top: &mut top });
    let mut all = vec![high];
    if models_mantissa(kind) {
        let mut bits = BitReader::new(take(&mut input, (count * PACKED as usize).div_ceil(8))?);
        all.push(top.iter().map(|top| top << PACKED | bits.take(PACKED) as u8).collect());
    }
    while all.len() < kind.unit() {
        let mut plane = Vec::with_capacity(count);
        while plane.len() < count {
            let size = (count - plane.len()).min(CHUNK);
            plane.extend_from_slice(&stream::decode(&mut input, size, backend)?);
        }
        all.push(plane);
    }
    if !input.is_empty() {
        return None;
    }
    planes::merge(kind, &all.iter().map(Vec::as_slice).collect::<Vec<_>>(), out, backend);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaussian numbers whose width changes from row to row and column to column.
    fn weights(rows: usize, columns: usize) -> Vec<f32> {
        let mut x = 77u32;
        let mut uniform = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            f64::from(x) / 4_294_967_296.0
        };
        let width: Vec<f64> = (0..rows + columns).map(|_| (3.0 * uniform() - 1.5).exp2()).collect();
        (0..rows * columns)
            .map(|at| {
                let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                (normal * 0.03 * width[at / columns] * width[rows + at % columns]) as f32
            })
            .collect()
    }

    fn bytes(weights: &[f32], kind: Kind) -> Vec<u8> {
        let cut = |w: &f32| match kind {
            Kind::Bfloat16 => w.to_le_bytes()[2..].to_vec(),
            Kind::Float8 => vec![(w.to_bits().rotate_left(1) >> 20) as u8],
            _ => w.to_le_bytes().to_vec(),
        };
        weights.iter().flat_map(cut).collect()
    }

    #[test]
    fn floats_come_back_on_every_backend() {
        for kind in [Kind::Bfloat16, Kind::Float16, Kind::Float32, Kind::Float8] {
            let raw = bytes(&weights(64, 48), kind);
            for row in [0, 1, 48, 1 << 30] {
                let segment = Segment { kind, bytes: raw.len(), row, base: None };
                let coded = encode(&segment, &raw, Backend::Scalar).unwrap();
                assert!(kind == Kind::Float8 || coded.len() < raw.len(), "{kind:?} {row}");
                for backend in [Backend::Avx2, Backend::Avx512] {
                    assert!(encode(&segment, &raw, backend).unwrap() == coded);
                    let mut out = vec![0; raw.len()];
                    decode(&coded, &segment, &mut out, backend).unwrap();
                    assert!(out == raw, "{kind:?} {row}");
                }
            }
        }
    }

    #[test]
    fn widths_of_rows_and_columns_are_learnt() {
        let raw = bytes(&weights(256, 192), Kind::Bfloat16);
        let size = |row| {
            encode(&Segment { kind: Kind::Bfloat16, bytes: raw.len(), row, base: None }, &raw, Backend::best())
                .unwrap()
                .len()
        };
        let bits = |bytes: usize| bytes as f64 * 16.0 / raw.len() as f64;
        let (known, unknown) = (size(192) as f64, size(100) as f64);
        assert!(known < unknown * 0.985, "{known} {unknown} {}", bits(size(192)));
    }

    #[test]
    fn few_numbers_and_numbers_of_one_magnitude_are_left_alone() {
        let segment = Segment { kind: Kind::Float32, bytes: 400, row: 10, base: None };
        assert_eq!(encode(&segment, &[9; 400], Backend::best()), None);
        let segment = Segment { kind: Kind::Float32, bytes: 40_000, row: 10, base: None };
        assert_eq!(encode(&segment, &[9; 40_000], Backend::best()), None);
    }
}
