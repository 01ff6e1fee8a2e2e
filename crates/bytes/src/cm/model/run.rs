//! Two lanes through one model.
//!
//! The data is cut in half and both halves are coded in turn, two bits of one and two of the other, with the same tables:
//! what either half teaches serves both, and while one lane computes, the memory that the other asked for arrives. (Small
//! inputs take one lane.)
//!
//! With a predictor of bytes [beside](Beside), which answers many questions at once, there are as many lanes as it likes: what it
//! says of each bit is two more inputs, weighted most to begin with, and chooses sets of weights.

use super::lane::Lane;
use super::{Model, Settings};
use crate::cm::beside::Beside;
use crate::cm::runs::Runs;
use crate::cm::slots::{Slots, View};
use brevity_coding::bank::Tables;
use brevity_coding::range::{Decoder, Direction, Encoder};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};

/// Turns of the lanes in which each of two moves on by a byte.
const TURNS: u32 = 8;

/// Where lanes begin.
#[derive(Clone, Copy)]
pub struct Lanes<'a> {
    /// From the first byte on, rising.
    pub starts: &'a [usize],
    /// Bytes of the first lane that come before the others begin.
    pub ahead: usize,
}

/// What a loop runs over: bytes that are there, or that become.
struct Run<'a, 'c, const B: usize, const X: usize> {
    bytes: &'a mut [u8],
    coders: &'a mut [Direction<'c>],
    settings: Settings,
    lanes: Lanes<'a>,
    beside: Option<&'a mut dyn Beside>,
}

impl<const B: usize, const X: usize> Task for Run<'_, '_, B, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { bytes, coders, settings, lanes: Lanes { starts, ahead }, mut beside } = self;
        let tables = Tables::get();
        let mut slots = Slots::new(settings.table_bits);
        let mut table = slots.view();
        let mut model = Model::<B, X>::new(settings);
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        let mut lanes: Vec<_> =
            starts.iter().zip(ends).map(|(&start, end)| Lane::<B, X>::new(start, end, settings)).collect();
        lanes.iter_mut().for_each(|lane| lane.next_byte(&table, &model));
        let mut frontier = Frontier { starts, ends: starts.to_vec() };
        let (mut steps, mut turn) = (0u32, 0);
        let mut open = ahead == 0;
        while !lanes.iter().all(Lane::is_done) {
            steps += 1;
            if steps.is_multiple_of(TURNS * model.pace.every) {
                model.rate = (model.rate - 1).max(model.pace.least);
            }
            let this = turn;
            turn = if this + 1 == lanes.len() { 0 } else { this + 1 };
            if this == 0 {
                open |= lanes[0].at >= ahead || lanes[0].is_done();
                if let Some(beside) = &mut beside {
                    ask(&mut **beside, &lanes, open);
                }
            }
            let lane = &mut lanes[this];
            if lane.is_done() || this > 0 && !open {
                continue;
            }
            match lane.bits {
                0 => {
                    begin_byte(lane, bytes, &mut model, &frontier);
                    if let (Some(beside), Some(tree)) = (&mut beside, &mut lane.tree) {
                        beside.predict(this, tree);
                    }
                    lane.load::<S>(&mut table);
                }
                4 => lane.load::<S>(&mut table),
                _ => {}
            }
            let byte = u32::from(bytes.get(lane.at).copied().unwrap_or(0));
            let coder = if coders.len() > this { this } else { 0 };
            for _ in 0..2 {
                lane.bit::<S>(&mut model, tables, &mut coders[coder], byte);
            }
            match lane.bits {
                4 => lane.next_nibble::<S>(&mut table, &model),
                8 => {
                    if let Some(beside) = &mut beside {
                        beside.learn(this, lane.partial as u8);
                    }
                    end_byte::<S, B, X>(lane, bytes, &mut model, &mut table, (this, &mut frontier));
                }
                _ => {}
            }
            model.finish.prefetch(Model::<B, X>::FINE, &lane.groups(&model));
        }
    }
}

/// Tells what stands beside which lanes begin a byte: all that run do so together.
#[inline(always)]
fn ask<const B: usize, const X: usize>(beside: &mut dyn Beside, lanes: &[Lane<B, X>], open: bool) {
    let running = lanes.iter().enumerate().filter(|(i, lane)| !lane.is_done() && (*i == 0 || open));
    let begins: Vec<usize> = running.filter(|(_, lane)| lane.bits == 0).map(|(i, _)| i).collect();
    if !begins.is_empty() {
        beside.round(&begins);
    }
}

/// What is decoded so far: up to where each lane is.
struct Frontier<'a> {
    starts: &'a [usize],
    ends: Vec<usize>,
}

impl Frontier<'_> {
    /// Where the lane of a position began, if the byte there is known.
    #[inline(always)]
    fn lane(&self, position: usize) -> Option<usize> {
        if position == 0 {
            return None;
        }
        let at = self.starts.iter().rposition(|&start| start <= position)?;
        (position < self.ends[at]).then_some(self.starts[at])
    }
}

/// The first bit of a byte is next: matches are looked for.
#[inline(always)]
fn begin_byte<const B: usize, const X: usize>(
    lane: &mut Lane<B, X>,
    bytes: &[u8],
    model: &mut Model<B, X>,
    known: &Frontier<'_>,
) {
    for (matched, places) in lane.matched.iter_mut().zip(&mut model.places) {
        matched.look(places, bytes, lane.start, lane.at, |position| known.lane(position));
    }
    if let Some(runs) = &model.runs {
        runs.load(&mut lane.running, &mut lane.x[32 * B..48 * B]);
    }
    for net in &mut model.nets {
        let matched = lane.matched.iter().enumerate();
        let matches = matched.filter_map(|(i, m)| m.vote().map(|(kind, byte)| (1024 + 32 * i + kind, byte)));
        net.predict(Runs::votes(&lane.running).chain(matches));
    }
}

/// The byte is complete: it is written, and the lane moves on.
#[inline(always)]
fn end_byte<S: Simd, const B: usize, const X: usize>(
    lane: &mut Lane<B, X>,
    bytes: &mut [u8],
    model: &mut Model<B, X>,
    table: &mut View<'_>,
    (this, known): (usize, &mut Frontier<'_>),
) {
    lane.store::<S>(table);
    let byte = lane.partial as u8;
    bytes[lane.at] = byte;
    lane.at += 1;
    known.ends[this] = lane.at;
    if let Some(runs) = &mut model.runs {
        runs.store(&lane.running, byte);
    }
    for net in &mut model.nets {
        net.learn(byte);
    }
    if lane.is_done() {
        return;
    }
    lane.recent.push(byte, bytes, lane.start, lane.at);
    for (matched, places) in lane.matched.iter_mut().zip(&model.places) {
        matched.advance(places, bytes, lane.at, |position| known.lane(position));
    }
    lane.next_byte(table, model);
}

/// Starts of one lane or two halves; the second of one lane is empty.
fn halves(length: usize, settings: Settings) -> [usize; 2] {
    [0, if settings.lanes == 2 { length.div_ceil(2) } else { length }]
}

/// Encodes bytes as one stream for each lane.
pub fn encode<const B: usize, const X: usize>(bytes: &mut [u8], settings: Settings, backend: Backend) -> [Vec<u8>; 2] {
    let mut coders = [Direction::Encode(Encoder::new()), Direction::Encode(Encoder::new())];
    let starts = halves(bytes.len(), settings);
    let lanes = Lanes { starts: &starts, ahead: 0 };
    dispatch(backend, Run::<B, X> { bytes, coders: &mut coders, settings, lanes, beside: None });
    coders.map(Direction::finish)
}

/// Decodes what [`encode`] wrote with the same settings into `bytes`.
pub fn decode<const B: usize, const X: usize>(
    streams: [&[u8]; 2],
    bytes: &mut [u8],
    settings: Settings,
    backend: Backend,
) {
    let mut coders = streams.map(|stream| Direction::Decode(Decoder::new(stream)));
    let starts = halves(bytes.len(), settings);
    let lanes = Lanes { starts: &starts, ahead: 0 };
    dispatch(backend, Run::<B, X> { bytes, coders: &mut coders, settings, lanes, beside: None });
}

/// Encodes bytes in lanes beside a predictor, all in one stream.
pub fn encode_beside(
    bytes: &mut [u8],
    settings: Settings,
    lanes: Lanes<'_>,
    beside: &mut dyn Beside,
    backend: Backend,
) -> Vec<u8> {
    let mut coder = Direction::Encode(Encoder::new());
    let coders = std::slice::from_mut(&mut coder);
    dispatch(backend, Run::<4, 224> { bytes, coders, settings, lanes, beside: Some(beside) });
    coder.finish()
}

/// Decodes what [`encode_beside`] wrote into `bytes`.
pub fn decode_beside(
    stream: &[u8],
    bytes: &mut [u8],
    settings: Settings,
    lanes: Lanes<'_>,
    beside: &mut dyn Beside,
    backend: Backend,
) {
    let mut coder = Direction::Decode(Decoder::new(stream));
    let coders = std::slice::from_mut(&mut coder);
    dispatch(backend, Run::<4, 224> { bytes, coders, settings, lanes, beside: Some(beside) });
}
