//! One place in the data: its contexts, what they say of the next bit, and what is learnt from it.

use super::{FEW, LEAST, MIXERS, MORE, Model, SOME, Settings};
use crate::cm::beside::Tree;
use crate::cm::contexts::{BANK, Far, Hashes, Recent, hashes, sets};
use crate::cm::finish::{GROUPS_BITS, GROUPS_OF_A_BYTE, MAPS, Moment};
use crate::cm::matching::Match;
use crate::cm::runs::Running;
use crate::cm::second::WIDEST;
use crate::cm::slots::{Place, Slot, View};
use brevity_coding::bank::{Held, Tables};
use brevity_coding::counter::Counter;
use brevity_coding::logistic::MAX_STRETCH;
use brevity_coding::range::{Coder, Direction};
use brevity_coding::simd::Simd;
use brevity_kernels::math;

/// What counters remember.
const EXPERIENCE: u32 = 1020;

/// A lane of a model.
pub(super) struct Lane<const B: usize, const X: usize> {
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) recent: Recent,
    pub(super) matched: [Match; LEAST.len()],
    hashes: Hashes<B>,
    places: [[Place; BANK]; B],
    pub(super) running: Running<B>,
    direct: [u32; BANK],
    /// Histories of the nibble's nodes: a row for each node, a column for each context.
    nodes: [[Slot; 16]; B],
    held: [Held; B],
    pub(super) x: [i16; X],
    /// The bits of the byte so far behind a one.
    pub(super) partial: u32,
    pub(super) bits: u32,
    sets: [usize; 5],
    /// Groups of the maps for these two bits.
    groups: [usize; MAPS],
    order: usize,
    /// What stands beside says of the next byte.
    pub(super) tree: Option<Box<Tree>>,
}

impl<const B: usize, const X: usize> Lane<B, X> {
    pub(super) fn new(start: usize, end: usize, settings: Settings) -> Self {
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

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// The contexts of the next byte: their hashes, and a request for their lines.
    #[inline(always)]
    pub(super) fn next_byte(&mut self, table: &View<'_>, model: &Model<B, X>) {
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
    pub(super) fn next_nibble<S: Simd>(&mut self, table: &mut View<'_>, model: &Model<B, X>) {
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
    pub(super) fn load<S: Simd>(&mut self, table: &mut View<'_>) {
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
    pub(super) fn store<S: Simd>(&mut self, table: &mut View<'_>) {
        for bank in 0..B {
            let rows = S::transpose(&self.nodes[bank]);
            for (&place, row) in self.places[bank].iter().zip(&rows) {
                table.put(place, row);
            }
        }
    }

    /// Codes one bit.
    #[inline(always)]
    pub(super) fn bit<S: Simd>(
        &mut self,
        model: &mut Model<B, X>,
        tables: Tables,
        coder: &mut Direction<'_>,
        byte: u32,
    ) {
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
    pub(super) fn groups(&self, model: &Model<B, X>) -> [usize; MAPS] {
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
