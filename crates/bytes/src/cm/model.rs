//! Two lanes through one model.
//!
//! The data is cut in half and both halves are coded in turn, two bits of one and two of the other, with the same tables:
//! what either half teaches serves both, and while one lane computes, the memory that the other asked for arrives. (Small
//! inputs take one lane.)

use super::contexts::{Contexts, Recent};
use super::matching::{Match, Places};
use super::slots::{Place, Slot, Slots, View};
use brevity_coding::apm::Apm;
use brevity_coding::bank::{Bank, Held, Tables};
use brevity_coding::counter::Counter;
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::range::{Decoder, Encoder};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};
use std::marker::PhantomData;

/// What a stream is coded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// log₂ of the bytes of the table of histories.
    pub table_bits: u32,
    /// log₂ of the places of the match model.
    pub match_bits: u32,
    /// Lanes: 1 or 2.
    pub lanes: usize,
    /// Bytes of a record, 0 for none.
    pub record: usize,
}

/// Where bits go to or come from.
trait Coder {
    fn code(&mut self, bit: u32, p: u32) -> u32;
}

impl Coder for Encoder {
    #[inline(always)]
    fn code(&mut self, bit: u32, p: u32) -> u32 {
        self.encode_bit(bit != 0, p);
        bit
    }
}

impl Coder for Decoder<'_> {
    #[inline(always)]
    fn code(&mut self, _: u32, p: u32) -> u32 {
        u32::from(self.decode_bit(p))
    }
}

/// Inputs of the mixers that are not of contexts: two of the match, a constant, the rest 0.
const MORE: usize = 16;

/// Mixers of the first layer.
const MIXERS: usize = 5;

/// What the lanes share. `B` banks of sixteen contexts, `X` inputs of the mixers.
struct Model<const B: usize, const X: usize> {
    banks: [Bank; B],
    mixers: [Mixer<X>; MIXERS],
    last: Mixer<16>,
    apms: [Apm; 2],
    places: Places,
    rate: i32,
}

struct Lane<const B: usize, const X: usize> {
    at: usize,
    start: usize,
    end: usize,
    recent: Recent,
    matched: Match,
    hashes: [[u64; 16]; B],
    places: [[Place; 16]; B],
    /// Histories of the nibble's nodes: a row for each node, a column for each context.
    nodes: [[Slot; 16]; B],
    held: [Held; B],
    x: [i32; X],
    /// The bits of the byte so far behind a one.
    partial: u32,
    bits: u32,
    sets: [usize; 5],
    order: usize,
}

impl<const B: usize, const X: usize> Model<B, X> {
    fn new(settings: Settings) -> Self {
        const { assert!(X == 32 * B + MORE) };
        let weight = ONE * 3 / (20 * B as i32);
        Self {
            banks: std::array::from_fn(|_| Bank::default()),
            mixers: [512, 256, 4096, 256, 2048].map(|sets| Mixer::new(sets, weight)),
            last: Mixer::new(256, ONE / MIXERS as i32),
            apms: [Apm::new(1 << 12), Apm::new(1 << 12)],
            places: Places::new(settings.match_bits, 6),
            rate: 30,
        }
    }
}

impl<const B: usize, const X: usize> Lane<B, X> {
    fn new(start: usize, end: usize, record: usize) -> Self {
        let mut x = [0; X];
        x[32 * B + 2] = 256;
        Self {
            at: start,
            start,
            end,
            recent: Recent { lines: [start; 2], record, ..Recent::default() },
            matched: Match::default(),
            hashes: [[0; 16]; B],
            places: [[Place::default(); 16]; B],
            nodes: [[[0; 16]; 16]; B],
            held: [[Counter::default(); 16]; B],
            x,
            partial: 1,
            bits: 0,
            sets: [0; 5],
            order: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// The contexts of the next byte: their hashes, and a request for their lines.
    #[inline(always)]
    fn next_byte<C: Contexts<B>>(&mut self, table: &View<'_>) {
        C::hashes(&self.recent, self.matched.byte(), &mut self.hashes);
        for (i, hash) in self.hashes.as_flattened_mut().iter_mut().enumerate() {
            *hash = (*hash ^ (i as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
            *hash ^= *hash >> 32;
            *hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
            table.prefetch(*hash);
        }
        self.sets = C::sets(&self.recent);
        self.partial = 1;
        self.bits = 0;
    }

    /// The contexts of the second nibble.
    #[inline(always)]
    fn next_nibble<S: Simd>(&mut self, table: &mut View<'_>) {
        self.store::<S>(table);
        let turn = u64::from(self.partial).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for hash in self.hashes.as_flattened_mut() {
            *hash = (*hash ^ turn).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
            table.prefetch(*hash);
        }
    }

    #[inline(always)]
    fn load<S: Simd>(&mut self, table: &mut View<'_>) {
        for bank in 0..B {
            let mut rows = [[0; 16]; 16];
            for (i, row) in rows.iter_mut().enumerate() {
                (self.places[bank][i], *row) = table.find(self.hashes[bank][i]);
            }
            self.nodes[bank] = S::transpose(&rows);
        }
        self.order = (1..7).map(|i| usize::from(self.nodes[0][1][i] != 0)).sum();
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, table: &mut View<'_>) {
        for bank in 0..B {
            let rows = S::transpose(&self.nodes[bank]);
            for (&place, row) in self.places[bank].iter().zip(&rows) {
                table.put(place, row);
            }
        }
    }

    /// Codes one bit.
    #[inline(always)]
    fn bit<S: Simd, K: Coder>(&mut self, model: &mut Model<B, X>, tables: Tables, coder: &mut K, byte: u32) {
        let node = if self.bits < 4 { self.partial as usize & 15 } else { node_of(self.partial, self.bits) & 15 };
        for bank in 0..B {
            let Some(inputs) = self.x[32 * bank..].first_chunk_mut::<32>() else { return };
            S::predict(&model.banks[bank], &self.nodes[bank][node], &mut self.held[bank], inputs, tables);
        }
        let matched = self.matched.predict(&model.places, self.partial, self.bits, tables.logistic);
        self.x[32 * B] = i32::from(matched[0]);
        self.x[32 * B + 1] = i32::from(matched[1]);
        let confidence = self.matched.confidence();
        let sets = [
            (confidence * 8 + self.order) * 8 + self.bits as usize,
            self.partial as usize,
            self.sets[1],
            self.sets[2],
            self.sets[3],
        ];
        let mut y = [0i32; 16];
        for s in 0..MIXERS {
            y[s] = model.mixers[s].mix::<S>(&self.x, sets[s], tables.logistic);
        }
        let mixed = model.last.mix::<S>(&y, self.sets[0], tables.logistic);
        let p = u32::from(model.last.p());
        let c0 = self.partial as usize;
        let a = u32::from(model.apms[0].refine(mixed, self.sets[4] << 8 | c0));
        let h2 =
            ((self.recent.c4 & 0xFF_FFFF).wrapping_mul(0x9E37_79B1) ^ self.partial.wrapping_mul(0x85EB_CA6B)) >> 20;
        let b = u32::from(model.apms[1].refine(mixed, h2 as usize));
        let p = (p + 2 * a + b + 2) >> 2;
        let bit = coder.code((byte >> (7 - self.bits)) & 1, p);
        // Learning.
        for s in 0..MIXERS {
            model.mixers[s].learn::<S>(&self.x, bit, model.rate);
        }
        model.last.learn::<S>(&y, bit, 8);
        model.apms[0].learn(bit, 6);
        model.apms[1].learn(bit, 6);
        self.matched.learn(&mut model.places, bit, tables.rates);
        for bank in 0..B {
            S::learn(&mut model.banks[bank], &mut self.nodes[bank][node], &self.held[bank], bit, 1020, tables);
        }
        self.partial = self.partial << 1 | bit;
        self.bits += 1;
    }
}

/// The node of the second nibble: a one, then its bits so far.
#[inline(always)]
fn node_of(partial: u32, bits: u32) -> usize {
    let low = bits - 4;
    ((1 << low) | (partial & ((1 << low) - 1))) as usize
}

/// What a loop runs over: bytes that are there, or that become.
struct Run<'a, C, K, const B: usize, const X: usize> {
    bytes: &'a mut [u8],
    coders: &'a mut [K; 2],
    settings: Settings,
    contexts: PhantomData<C>,
}

impl<C: Contexts<B>, K: Coder, const B: usize, const X: usize> Task for Run<'_, C, K, B, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { bytes, coders, settings, .. } = self;
        let tables = Tables::get();
        let mut slots = Slots::new(settings.table_bits);
        let mut table = slots.view();
        let mut model = Model::<B, X>::new(settings);
        let half = if settings.lanes == 2 { bytes.len().div_ceil(2) } else { bytes.len() };
        let mut a = Lane::<B, X>::new(0, half, settings.record);
        let mut b = Lane::<B, X>::new(half, bytes.len(), settings.record);
        a.next_byte::<C>(&table);
        b.next_byte::<C>(&table);
        b.load::<S>(&mut table);
        let [ka, kb] = coders;
        let mut steps = 0u32;
        // Lane a is at the start of a nibble, lane b in the middle of one. b's first middle is its start: two bits less.
        let mut first = true;
        while !a.is_done() || !b.is_done() {
            steps += 1;
            if steps & 0xFFFF == 0 {
                model.rate = (model.rate - 1).max(6);
            }
            for second in [false, true] {
                let byte_a = u32::from(bytes.get(a.at).copied().unwrap_or(0));
                let byte_b = u32::from(bytes.get(b.at).copied().unwrap_or(0));
                if !a.is_done() {
                    if !second {
                        begin_byte(&mut a, bytes, &mut model, b.at, half);
                    }
                    a.load::<S>(&mut table);
                    a.bit::<S, K>(&mut model, tables, ka, byte_a);
                    a.bit::<S, K>(&mut model, tables, ka, byte_a);
                }
                if !first && !b.is_done() {
                    b.bit::<S, K>(&mut model, tables, kb, byte_b);
                    b.bit::<S, K>(&mut model, tables, kb, byte_b);
                    if second {
                        b.next_nibble::<S>(&mut table);
                    } else {
                        end_byte::<S, C, B, X>(&mut b, bytes, &mut model, &mut table);
                    }
                }
                if !a.is_done() {
                    a.bit::<S, K>(&mut model, tables, ka, byte_a);
                    a.bit::<S, K>(&mut model, tables, ka, byte_a);
                    if second {
                        end_byte::<S, C, B, X>(&mut a, bytes, &mut model, &mut table);
                    } else {
                        a.next_nibble::<S>(&mut table);
                    }
                }
                if !b.is_done() {
                    let byte_b = u32::from(bytes.get(b.at).copied().unwrap_or(0));
                    if !first {
                        if !second {
                            begin_byte(&mut b, bytes, &mut model, a.at, half);
                        }
                        b.load::<S>(&mut table);
                    }
                    b.bit::<S, K>(&mut model, tables, kb, byte_b);
                    b.bit::<S, K>(&mut model, tables, kb, byte_b);
                }
                first = false;
            }
        }
    }
}

/// The first bit of a byte is next: a match is looked for. `other` is where the other lane is.
#[inline(always)]
fn begin_byte<const B: usize, const X: usize>(
    lane: &mut Lane<B, X>,
    bytes: &[u8],
    model: &mut Model<B, X>,
    other: usize,
    half: usize,
) {
    let frontier = if lane.start == 0 { [lane.at, other] } else { [other, lane.at] };
    let known = |position: usize| match position {
        0 => None,
        p if p < half => (p < frontier[0]).then_some(0),
        p => (p < frontier[1]).then_some(half),
    };
    lane.matched.look(&mut model.places, bytes, lane.start, lane.at, known);
}

/// The byte is complete: it is written, and the lane moves on.
#[inline(always)]
fn end_byte<S: Simd, C: Contexts<B>, const B: usize, const X: usize>(
    lane: &mut Lane<B, X>,
    bytes: &mut [u8],
    model: &mut Model<B, X>,
    table: &mut View<'_>,
) {
    lane.store::<S>(table);
    let byte = lane.partial as u8;
    bytes[lane.at] = byte;
    lane.at += 1;
    if lane.is_done() {
        return;
    }
    lane.recent.push(byte, bytes, lane.start, lane.at);
    lane.matched.advance(&model.places, bytes, lane.at);
    lane.next_byte::<C>(table);
}

/// Encodes bytes as one stream for each lane.
pub fn encode<C: Contexts<B>, const B: usize, const X: usize>(
    bytes: &mut [u8],
    settings: Settings,
    backend: Backend,
) -> [Vec<u8>; 2] {
    let mut coders = [Encoder::new(), Encoder::new()];
    dispatch(backend, Run::<C, Encoder, B, X> { bytes, coders: &mut coders, settings, contexts: PhantomData });
    coders.map(Encoder::finish)
}

/// Decodes what [`encode`] wrote with the same settings into `bytes`.
pub fn decode<C: Contexts<B>, const B: usize, const X: usize>(
    streams: [&[u8]; 2],
    bytes: &mut [u8],
    settings: Settings,
    backend: Backend,
) {
    let mut coders = streams.map(Decoder::new);
    dispatch(backend, Run::<C, Decoder<'_>, B, X> { bytes, coders: &mut coders, settings, contexts: PhantomData });
}
