//! CacheGen: changes from an anchor token, bins by layer, entropy coding.
//!
//! CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving (2023, arXiv 2310.07240).
//!
//! Keys and values of near tokens are alike. Tokens go in groups of ten: the first is the anchor, coded by itself in 8 bits a channel
//! over the channel's range; the others are coded as their difference from the anchor *as decoded*, rounded to a step of the layer times the channel's
//! standard deviation of differences. Early layers matter more: their bins are finer, 0.5, 1 and 1.5 of the base for the first, middle and
//! last third. Each channel has the table of probabilities that codes it best, as the paper has one per layer and channel.

use super::symbols::{TABLES, best, table};
use super::wire::{Reader, Wire};
use super::{Codec, Prepared};
use crate::Error;
use brevity_coding::rans::varied;
use brevity_kernels::Matrix;
use brevity_measure::MethodCard;

const ENDS: Error = Error::Content { offset: 0, what: "differences that do not end where they should" };

/// Anchors and differences.
pub struct CacheGen;

const CARD: MethodCard = MethodCard {
    name: "cachegen",
    room: "cache",
    title: "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving",
    year: 2023,
    arxiv: Some("2310.07240"),
    mechanism: "For the disk: in groups of ten tokens the first is coded in 8 bits, the others as differences from it with bins that grow from layer to layer; arithmetic coding with a distribution per layer and channel.",
    guarantees: &[
        "what is decoded has the same bits on every machine and at any thread count",
        "a difference is off by at most half its bin",
    ],
    simplifications: &[
        "distributions come from a family of 96, chosen per layer and channel, in place of counted ones",
        "interleaved rANS in place of an arithmetic coder: the same bits, several symbols at once",
        "no chunks for streaming",
    ],
};

/// Tokens of a group.
const GROUP: usize = 10;
/// Steps to either side of a channel's middle that an anchor can have.
const ANCHOR: f32 = 127.0;

impl Codec for CacheGen {
    fn card(&self) -> &'static MethodCard {
        &CARD
    }

    fn turned(&self) -> bool {
        true
    }

    fn bin(&self, layer: usize, layers: usize) -> f32 {
        [0.5, 1.0, 1.5][(3 * layer / layers.max(1)).min(2)]
    }

    fn prepare(&self, rows: &Matrix, _: Option<&[f32]>, _: usize) -> Box<dyn Prepared> {
        Box::new(Side::new(rows))
    }

    fn decode(&self, bytes: &[u8], tokens: usize, width: usize, _: usize) -> Result<Matrix, Error> {
        read(bytes, tokens, width)
    }
}

/// Keys or values of a layer.
struct Side {
    rows: Matrix,
    /// Middle and step of the anchors of each channel.
    anchors: Vec<(f32, f32)>,
    /// Standard deviation of the differences of each channel.
    deviations: Vec<f32>,
}

fn anchor_code(x: f32, (middle, step): (f32, f32)) -> i32 {
    if step > 0.0 { ((x - middle) / step).round_ties_even().clamp(-ANCHOR, ANCHOR) as i32 } else { 0 }
}

impl Side {
    fn new(rows: &Matrix) -> Side {
        let (tokens, width) = (rows.rows(), rows.cols());
        let mut anchors = Vec::with_capacity(width);
        let mut deviations = Vec::with_capacity(width);
        for channel in 0..width {
            let column = |token: usize| rows.row(token)[channel];
            let firsts = (0..tokens).step_by(GROUP).map(column);
            let (low, high) = firsts.fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(x), high.max(x)));
            let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
            let anchor = ((low + high) / 2.0, (high - low) / 2.0 / ANCHOR);
            let apart = |token: usize| {
                let first = column(token / GROUP * GROUP);
                let decoded = anchor.0 + anchor_code(first, anchor) as f32 * anchor.1;
                f64::from(column(token) - decoded).powi(2)
            };
            let others = (0..tokens).filter(|token| token % GROUP != 0);
            let square: f64 = others.clone().map(apart).sum();
            anchors.push(anchor);
            deviations.push((square / others.count().max(1) as f64).sqrt() as f32);
        }
        Side { rows: rows.clone(), anchors, deviations }
    }
}

impl Prepared for Side {
    fn encode(&self, step: f32) -> Vec<u8> {
        let (tokens, width) = (self.rows.rows(), self.rows.cols());
        let mut wire = Wire(Vec::with_capacity(tokens * width / 2));
        let mut codes = vec![0i32; tokens * width];
        for channel in 0..width {
            let (anchor, bin) = (self.anchors[channel], self.deviations[channel] * step);
            let mut decoded = 0.0;
            for token in 0..tokens {
                let x = self.rows.row(token)[channel];
                codes[token * width + channel] = if token % GROUP == 0 {
                    let code = anchor_code(x, anchor);
                    decoded = anchor.0 + code as f32 * anchor.1;
                    code
                } else if bin > 0.0 {
                    ((x - decoded) / bin).round_ties_even().clamp(-1e9, 1e9) as i32
                } else {
                    0
                };
            }
        }
        let column = |channel: usize, anchors: bool| {
            let codes = &codes;
            (0..tokens).filter(move |t| (t % GROUP == 0) == anchors).map(move |t| codes[t * width + channel])
        };
        let tables: Vec<(usize, usize)> =
            (0..width).map(|c| (best(column(c, true)).0, best(column(c, false)).0)).collect();
        for ((anchor, deviation), tables) in self.anchors.iter().zip(&self.deviations).zip(&tables) {
            wire.f32(anchor.0);
            wire.f32(anchor.1);
            wire.f32(deviation * step);
            wire.u8(tables.0 as u8);
            wire.u8(tables.1 as u8);
        }
        let mut writer = varied::Writer::with_capacity(tokens * width);
        for (token, codes) in codes.chunks_exact(width.max(1)).enumerate() {
            for (&code, &(anchor, other)) in codes.iter().zip(&tables) {
                table(if token % GROUP == 0 { anchor } else { other }).put(code, &mut writer);
            }
        }
        wire.block(&writer.finish());
        wire.0
    }

    fn unit(&self) -> f32 {
        1.0
    }
}

fn read(bytes: &[u8], tokens: usize, width: usize) -> Result<Matrix, Error> {
    let mut reader = Reader::new(bytes);
    let mut channels = Vec::with_capacity(width);
    for _ in 0..width {
        let (middle, step, bin) = (reader.f32()?, reader.f32()?, reader.f32()?);
        let tables = [usize::from(reader.u8()?), usize::from(reader.u8()?)];
        if tables.iter().any(|&index| index >= TABLES) {
            return Err(Error::Content { offset: 0, what: "a table of probabilities that does not exist" });
        }
        channels.push((middle, step, bin, tables.map(table)));
    }
    let mut codes = varied::Reader::new(reader.block()?).map_err(|_| ENDS)?;
    reader.done()?;
    let mut rows = Matrix::zeros(tokens, width);
    let mut anchor = vec![0.0f32; width];
    for token in 0..tokens {
        for ((out, anchor), &(middle, step, bin, [first, other])) in
            rows.row_mut(token).iter_mut().zip(&mut anchor).zip(&channels)
        {
            *out = if token % GROUP == 0 {
                *anchor = middle + first.get(&mut codes) as f32 * step;
                *anchor
            } else {
                *anchor + other.get(&mut codes) as f32 * bin
            };
        }
    }
    codes.finish().map_err(|_| ENDS)?;
    Ok(rows)
}
