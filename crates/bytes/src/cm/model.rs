//! Two lanes through one model.
//!
//! The data is cut in half and both halves are coded in turn, two bits of one and two of the other, with the same tables:
//! what either half teaches serves both, and while one lane computes, the memory that the other asked for arrives. (Small
//! inputs take one lane.)
//!
//! With a predictor of bytes [beside](Beside), which answers many questions at once, there are as many lanes as it likes: what it
//! says of each bit is two more inputs, weighted most to begin with, and chooses sets of weights.

use super::beside::{Beside, Blend, Tree};
use super::contexts::{BANK, Far, Hashes, Recent, Wide, hashes, sets};
use super::direct::Direct;
use super::finish::{self, Effort, Finish, GROUPS_BITS, GROUPS_OF_A_BYTE, MAPS, Moment};
use super::matching::{Match, Places};
use super::net::Net;
use super::runs::{Running, Runs};
use super::second::{self, Second, WIDEST};
use super::slots::{Place, Slot, Slots, View};
use brevity_coding::bank::{Bank, Held, Tables};
use brevity_coding::counter::Counter;
use brevity_coding::logistic::MAX_STRETCH;
use brevity_coding::mixer::{Mixer, NARROW_ONE, NarrowMixer};
use brevity_coding::range::{Coder, Decoder, Direction, Encoder};
use brevity_coding::simd::{Backend, Simd, Task, dispatch};
use brevity_kernels::math;

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
    /// Whether this is text whose words may have become codes, and how many are listed at its head.
    pub text: bool,
    /// Words that are listed at its head.
    pub words: usize,
    /// Networks that learn beside, at most two: in one lane, with runs.
    pub nets: usize,
    /// Whether a predictor of bytes stands beside.
    pub beside: bool,
}

/// log₂ of the places of runs beside a table of histories.
fn runs_bits(table_bits: u32) -> u32 {
    table_bits.saturating_sub(4).clamp(12, 25)
}

/// log₂ of the bytes of counters beside a table of histories.
fn direct_bits(table_bits: u32) -> u32 {
    table_bits.saturating_sub(2).clamp(12, 28)
}

/// Bytes of the tables of a model of so many banks.
pub fn memory(table_bits: u32, match_bits: u32, banks: u8) -> u64 {
    let table = 1u64 << table_bits.min(63);
    let matches = 4u64 << match_bits.min(60);
    if banks == 1 {
        return table.saturating_add(matches + finish::memory(Effort::Plain));
    }
    let beside = (4 << runs_bits(table_bits)) + (1 << direct_bits(table_bits));
    let rest = if banks & 15 == WIDE { wide_memory(table_bits) } else { finish::memory(Effort::Rich) };
    table.saturating_add(3 * matches + beside + rest)
}

/// Bytes of weights of the widest model, of its maps, and of what it keeps of words.
fn wide_memory(table_bits: u32) -> u64 {
    let inputs = 48 * usize::from(WIDE) + BANK + MORE;
    let sets = SETS.iter().sum::<usize>() + ((MIXERS - SETS.len()) << hashed_bits(table_bits));
    (sets * inputs * size_of::<i32>() + Wide::BYTES) as u64
        + second::memory()
        + finish::memory(Effort::Fine { bits: map_bits(table_bits) })
}

/// log₂ of the sets of weights that hashes choose, beside a table of histories.
fn hashed_bits(table_bits: u32) -> u32 {
    table_bits.saturating_sub(15).clamp(8, 12)
}

/// log₂ of the groups of maps of the widest model whose contexts are hashed.
fn map_bits(table_bits: u32) -> u32 {
    table_bits.saturating_sub(12).clamp(10, GROUPS_BITS)
}

/// Banks of the widest model.
pub const WIDE: u8 = 6;

/// Inputs of the mixers that are not of contexts: two of each match, a constant, the rest 0.
const MORE: usize = 16;

/// Matches that are followed at once at most, and the bytes that must agree for each.
const LEAST: [usize; 3] = [6, 12, 4];

/// Mixers of the first layer: of the widest model, of those with runs, and of the rest.
const MIXERS: usize = 10;
const SOME: usize = 7;
const FEW: usize = 5;
/// Sets of weights of each whose set is not chosen by a hash.
const SETS: [usize; SOME] = [512, 256, 4096, 256, 2048, 2048, 1024];

/// Turns of the lanes in which each of two moves on by a byte.
const TURNS: u32 = 8;

/// What counters remember.
const EXPERIENCE: u32 = 1020;

/// How quickly mixers learn.
#[derive(Clone, Copy)]
struct Pace {
    /// Rate of the first layer at the start and at the end, and the bytes after which it falls by one; where weights are fine, in 16ths.
    first: i32,
    least: i32,
    every: u32,
    /// Rate of the second layer.
    last: i32,
}

impl Pace {
    const QUICK: Self = Self { first: 48, least: 16, every: 1 << 16, last: 16 };
    const STRONG: Self = Self { first: 14, least: 3, every: 1 << 15, last: 6 };
    /// Beside a predictor, which is mostly right.
    const BESIDE: Self = Self { first: 5, last: 3, ..Self::STRONG };
    const FINE: Self = Self { first: 100, least: 24, every: 1 << 11, last: 6 };
}

/// What the lanes share. `B` banks of sixteen contexts, `X` inputs of the mixers: two for each context, with a third for its run
/// if there is room.
struct Model<const B: usize, const X: usize> {
    banks: [Bank; B],
    mixers: Vec<NarrowMixer<X>>,
    /// In place of them in the widest models, whose many inputs would drown in the dither of narrow weights.
    fine: Vec<Mixer<X>>,
    second: Second,
    /// log₂ of the sets that hashes choose, and of the groups of the maps.
    hashed: u32,
    map_bits: u32,
    finish: Finish,
    blend: Option<Blend>,
    places: Vec<Places>,
    runs: Option<Runs<B>>,
    direct: Option<Direct>,
    nets: Vec<Net>,
    pace: Pace,
    rate: i32,
}

struct Lane<const B: usize, const X: usize> {
    at: usize,
    start: usize,
    end: usize,
    recent: Recent,
    matched: [Match; LEAST.len()],
    hashes: Hashes<B>,
    places: [[Place; BANK]; B],
    running: Running<B>,
    direct: [u32; BANK],
    /// Histories of the nibble's nodes: a row for each node, a column for each context.
    nodes: [[Slot; 16]; B],
    held: [Held; B],
    x: [i16; X],
    /// The bits of the byte so far behind a one.
    partial: u32,
    bits: u32,
    sets: [usize; 5],
    /// Groups of the maps for these two bits.
    groups: [usize; MAPS],
    order: usize,
    /// What stands beside says of the next byte.
    tree: Option<Box<Tree>>,
}

impl<const B: usize, const X: usize> Model<B, X> {
    const RICH: bool = X > 32 * B + MORE;
    const FINE: bool = B > 4;
    /// Mixers of the first layer.
    const MIXERS: usize = if Self::FINE {
        MIXERS
    } else if Self::RICH {
        SOME
    } else {
        FEW
    };
    /// Where the inputs of matches begin.
    const REST: usize = X - MORE;

    fn new(settings: Settings) -> Self {
        const { assert!(X == 32 * B + MORE || X == 48 * B + BANK + MORE) };
        let rich = Self::RICH;
        let weight = NARROW_ONE / 10 / B as i16;
        let pace = match (rich, Self::FINE, settings.beside) {
            (_, _, true) => Pace::BESIDE,
            (false, ..) => Pace::QUICK,
            (true, false, _) => Pace::STRONG,
            (true, true, _) => Pace::FINE,
        };
        let hashed = hashed_bits(settings.table_bits);
        let sets: Vec<usize> = SETS.into_iter().chain([1 << hashed; MIXERS - SOME]).take(Self::MIXERS).collect();
        let [narrow, fine]: [&[usize]; 2] = if Self::FINE { [&[], &sets] } else { [&sets, &[]] };
        let effort = match (rich, Self::FINE) {
            (false, _) => Effort::Plain,
            (true, false) => Effort::Rich,
            (true, true) => Effort::Fine { bits: map_bits(settings.table_bits) },
        };
        let weight = if settings.beside { weight / 12 } else { weight };
        let mixer = |&sets: &usize| {
            let mut mixer = NarrowMixer::new(sets, weight);
            if settings.beside {
                mixer.set_weight(Self::REST + 11, NARROW_ONE);
            }
            mixer
        };
        Self {
            banks: std::array::from_fn(|_| Bank::default()),
            mixers: narrow.iter().map(mixer).collect(),
            fine: fine.iter().map(|&sets| Mixer::new(sets, i32::from(weight) << 4)).collect(),
            second: Second::new(Self::MIXERS),
            hashed,
            map_bits: if Self::FINE { map_bits(settings.table_bits) } else { GROUPS_BITS },
            finish: Finish::new(effort),
            blend: settings.beside.then(Blend::new),
            places: LEAST[..if rich { 3 } else { 1 }]
                .iter()
                .map(|&least| Places::new(settings.match_bits, least))
                .collect(),
            runs: rich.then(|| Runs::new(runs_bits(settings.table_bits))),
            nets: (0..settings.nets).map(Net::new).collect(),
            direct: rich.then(|| Direct::new(direct_bits(settings.table_bits))),
            pace,
            rate: pace.first,
        }
    }
}

impl<const B: usize, const X: usize> Lane<B, X> {
    fn new(start: usize, end: usize, settings: Settings) -> Self {
        let mut x = [0; X];
        x[X - MORE + 6] = 256;
        let listed = if start == 0 { settings.words } else { 0 };
        let far = (B > 2).then(|| Box::new(Far::new(listed)));
        Self {
            at: start,
            start,
            end,
            recent: Recent {
                lines: [start; 2],
                record: settings.record,
                text: settings.text,
                far,
                wide: Model::<B, X>::FINE.then(Box::default),
                ..Recent::default()
            },
            matched: Default::default(),
            hashes: [[0; BANK]; B],
            places: [[Place::default(); BANK]; B],
            running: Running::default(),
            direct: [0; BANK],
            nodes: [[[0; 16]; 16]; B],
            held: [[Counter::default(); BANK]; B],
            x,
            partial: 1,
            bits: 0,
            sets: [0; 5],
            groups: [0; MAPS],
            order: 0,
            tree: settings.beside.then(|| Box::new([1.0; 512])),
        }
    }

    fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// The contexts of the next byte: their hashes, and a request for their lines.
    #[inline(always)]
    fn next_byte(&mut self, table: &View<'_>, model: &Model<B, X>) {
        let expected = [0, 1, 2].map(|i| self.matched[i].byte());
        hashes::<B>(&self.recent, expected, &mut self.hashes);
        for (i, hash) in self.hashes.as_flattened_mut().iter_mut().enumerate() {
            *hash = (*hash ^ (i as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
            *hash ^= *hash >> 32;
            *hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
            table.prefetch(*hash, B > 1);
        }
        if let Some(runs) = &model.runs {
            runs.ask(&self.hashes, &mut self.running);
        }
        if let Some(direct) = &model.direct {
            direct.ask(&self.hashes[0], &mut self.direct);
        }
        self.sets = sets(&self.recent);
        self.partial = 1;
        self.bits = 0;
    }

    /// The contexts of the second nibble.
    #[inline(always)]
    fn next_nibble<S: Simd>(&mut self, table: &mut View<'_>, model: &Model<B, X>) {
        self.store::<S>(table);
        let turn = u64::from(self.partial).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for hash in self.hashes.as_flattened_mut() {
            *hash = table.beside(*hash, (*hash ^ turn).wrapping_mul(0xC4CE_B9FE_1A85_EC53));
            table.prefetch(*hash, B > 1);
        }
        if let Some(direct) = &model.direct {
            direct.ask(&self.hashes[0], &mut self.direct);
        }
    }

    #[inline(always)]
    fn load<S: Simd>(&mut self, table: &mut View<'_>) {
        for bank in 0..B {
            let mut rows = [[0; 16]; BANK];
            for (i, row) in rows.iter_mut().enumerate() {
                (self.places[bank][i], *row) = table.find::<S>(self.hashes[bank][i]);
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
    fn bit<S: Simd>(&mut self, model: &mut Model<B, X>, tables: Tables, coder: &mut Direction<'_>, byte: u32) {
        let node = if self.bits < 4 { self.partial as usize & 15 } else { node_of(self.partial, self.bits) & 15 };
        let rest = Model::<B, X>::REST;
        for (i, places) in model.places.iter().enumerate() {
            let matched = self.matched[i].predict(places, self.partial, self.bits, tables.logistic);
            self.x[rest + 2 * i] = matched[0];
            self.x[rest + 2 * i + 1] = matched[1];
        }
        let mut sets = self.select(Model::<B, X>::MIXERS, model.hashed);
        let expected = (self.matched[0].byte() << 8 | self.partial & 0xFF) as usize;
        if Model::<B, X>::RICH {
            model.mixers.iter().zip(sets).for_each(|(mixer, set)| mixer.prefetch(set));
            model.fine.iter().zip(sets).for_each(|(mixer, set)| mixer.prefetch(set));
        }
        if Model::<B, X>::FINE {
            model.second.prefetch(expected);
        }
        for bank in 0..B {
            let Some(inputs) = self.x[32 * bank..].first_chunk_mut::<32>() else { return };
            S::predict(&model.banks[bank], &self.nodes[bank][node], &mut self.held[bank], inputs, tables);
            S::split(&self.nodes[bank][node], inputs, tables);
        }
        if self.bits & 1 == 0 {
            self.groups = self.groups(model);
        }
        if let Some(runs) = &model.runs {
            let inputs = &mut self.x[32 * B..48 * B];
            runs.predict(&self.running, self.bits, tables.logistic, inputs);
        }
        if let Some(direct) = &model.direct {
            direct.predict(&self.direct, node, tables.logistic, &mut self.x[48 * B..48 * B + BANK]);
        }
        for (i, net) in model.nets.iter().enumerate() {
            let p = net.bit(self.partial);
            self.x[rest + 7 + 2 * i] = tables.logistic.stretch(p);
            self.x[rest + 8 + 2 * i] = ((i32::from(p) - 32_768) >> 5) as i16;
        }
        let c0 = self.partial as usize;
        let mut last = self.sets[0];
        if let Some(tree) = &self.tree {
            let pair = [tree[(2 * c0) & 511], tree[(2 * c0 + 1) & 511]];
            let odds = (math::ln(pair[1] / pair[0]) * 256.0) as i32;
            let odds = odds.clamp(-MAX_STRETCH, MAX_STRETCH);
            self.x[rest + 11] = odds as i16;
            self.x[rest + 12] = ((pair[1] / (pair[0] + pair[1]) - 0.5) * 2048.0) as i16;
            last = (((odds + 2048) >> 7) << 3) as usize | self.bits as usize;
            sets[1] = last;
        }
        let mut y = [0i32; WIDEST];
        for (s, mixer) in model.mixers.iter_mut().enumerate() {
            y[s] = mixer.mix::<S>(&self.x, sets[s], tables.logistic);
        }
        if Model::<B, X>::FINE {
            let x = self.x.map(i32::from);
            for (s, mixer) in model.fine.iter_mut().enumerate() {
                y[s] = mixer.mix::<S>(&x, sets[s], tables.logistic);
            }
        }
        let mixed = model.second.mix(Model::<B, X>::FINE, &y, [last, sets[0], expected], tables.logistic);
        let moment =
            Moment { partial: self.partial, bits: self.bits, order: self.order, kind: (self.recent.kinds & 15) as u8 };
        let odds = (mixed.first, mixed.odds);
        let mut p = model.finish.refine(Model::<B, X>::FINE, mixed.p, odds, &self.groups, moment, tables.logistic);
        if let Some(blend) = &mut model.blend {
            p = blend.refine(p, self.x[rest + 11], tables.logistic);
        }
        let bit = coder.code((byte >> (7 - self.bits)) & 1, p);
        self.learn::<S>(model, tables, &y, node, bit);
        self.partial = self.partial << 1 | bit;
        self.bits += 1;
    }

    /// The group of each map for the next two bits.
    #[inline(always)]
    fn groups(&self, model: &Model<B, X>) -> [usize; MAPS] {
        let bits = if Model::<B, X>::FINE { model.map_bits } else { GROUPS_BITS };
        let turn = self.partial.wrapping_mul(0x85EB_CA6B);
        let mix = |n: u32| ((n.wrapping_mul(0x9E37_79B1) ^ turn).wrapping_mul(0xC2B2_AE35) >> (32 - bits)) as usize;
        let pair = self.partial as usize - (1 << self.bits) + (1 << self.bits) / 3;
        let of_a_byte = |context: usize| context * GROUPS_OF_A_BYTE + pair;
        let c4 = self.recent.c4;
        let (first, two, word) = (of_a_byte(self.sets[4]), mix(c4 & 0xFFFF), mix(self.recent.words[0] | 1));
        if Model::<B, X>::RICH {
            let expected = of_a_byte(self.matched[0].byte() as usize);
            [first, of_a_byte(c4 as usize & 0xFF), two, expected, word]
        } else {
            [first, two, word, 0, 0]
        }
    }

    /// The set of weights of each mixer.
    #[inline(always)]
    fn select(&self, mixers: usize, hashed: u32) -> [usize; MIXERS] {
        let bits = self.bits as usize;
        let confidence = self.matched[0].confidence();
        let (mut expected, mut word) = (0, 0);
        if mixers > FEW {
            let letters = self.recent.far.as_deref().map_or(0, |far| far.letters.min(15) as usize);
            expected = self.matched[0].byte() as usize * 8 + bits;
            word = (letters << 3 | bits) << 3 | self.recent.column.min(7) as usize;
        }
        let order = (confidence * 8 + self.order) * 8 + bits;
        let [_, a, b, c, _] = self.sets;
        let hash = |x: u32| if mixers > SOME { (x.wrapping_mul(0x9E37_79B1) >> (32 - hashed)) as usize } else { 0 };
        let (four, two) = (hash(self.recent.c4), hash(self.recent.c4 & 0xFFFF));
        [order, self.partial as usize, a, b, c, expected, word, hash(self.recent.words[1]), four, two]
    }

    #[inline(always)]
    fn learn<S: Simd>(&mut self, model: &mut Model<B, X>, tables: Tables, y: &[i32; WIDEST], node: usize, bit: u32) {
        for mixer in &mut model.mixers {
            mixer.learn::<S>(&self.x, bit, model.rate);
        }
        if Model::<B, X>::FINE {
            let x = self.x.map(i32::from);
            for mixer in &mut model.fine {
                mixer.learn_finely::<S>(&x, bit, model.rate);
            }
        }
        model.second.learn(Model::<B, X>::FINE, y, bit, model.pace.last);
        model.finish.learn(Model::<B, X>::FINE, bit, tables.rates);
        if let Some(blend) = &mut model.blend {
            blend.learn(bit);
        }
        for (matched, places) in self.matched.iter_mut().zip(&mut model.places) {
            matched.learn(places, bit, tables.rates);
        }
        if let Some(runs) = &mut model.runs {
            let inputs = &mut self.x[32 * B..48 * B];
            runs.learn(&mut self.running, self.bits, bit, tables.rates, inputs);
        }
        if let Some(direct) = &mut model.direct {
            direct.learn(&self.direct, node, bit, tables.rates);
        }
        for bank in 0..B {
            S::learn(&mut model.banks[bank], &mut self.nodes[bank][node], &self.held[bank], bit, EXPERIENCE, tables);
        }
    }
}

/// The node of the second nibble: a one, then its bits so far.
#[inline(always)]
fn node_of(partial: u32, bits: u32) -> usize {
    let low = bits - 4;
    ((1 << low) | (partial & ((1 << low) - 1))) as usize
}

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
