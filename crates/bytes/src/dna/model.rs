//! Bases, two bits each, mixed from contexts of 1 to 24 bases.
//!
//! A base is coded as two bits, so a context has three nodes. Short contexts (1 to 11) hold a counter a node; longer ones (9 to
//! 24) a bit history a node, hashed from 13 up, whose meaning is learnt. DNA is read from both strands: behind every base, the
//! contexts of the *other* strand learn too: the complement of the last `k` bases in reverse is a context, and the complement of
//! the base before them is what follows it. Four matches (24 and 12 bases, either strand) say what followed in the repeat that
//! they are in, and are trusted by how often they were wrong of late: repeats of DNA differ in single bases.

use brevity_coding::apm::Apm;
use brevity_coding::bank::{Bank, Held, LANES, Tables};
use brevity_coding::counter::{Bit, Counter};
use brevity_coding::history::Histories;
use brevity_coding::mixer::{Mixer, NARROW_ONE, NarrowMixer, ONE};
use brevity_coding::range::{Coder, Decoder, Direction, Encoder};
use brevity_coding::simd::{Backend, Simd, Task, dispatch, prefetch};

/// Orders with a counter a node.
const COUNTED: [u32; 10] = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11];
/// Orders with a history a node.
const TOLD: [u32; 11] = [9, 10, 11, 12, 13, 14, 16, 18, 20, 22, 24];
/// The first of [`TOLD`] that is checked.
const CHECKED: usize = 4;
/// The other strand learns so many bases later: its places are asked for meanwhile.
const LATER: usize = 8;
/// What counters remember.
const EXPERIENCE: u32 = 1020;
/// Bases that must agree for a match, and whether it is of the other strand.
const MATCHES: [(u32, bool); 4] = [(24, false), (24, true), (12, false), (12, true)];

const INPUTS: usize = 64;
/// Where the inputs of counters, of matches and the constant stand.
const COUNTERS: usize = 2 * LANES;
const REPEATS: usize = COUNTERS + COUNTED.len();
const CONSTANT: usize = REPEATS + 2 * MATCHES.len();

/// Bases so far, the latest lowest, and the other strand: the complement of the latest highest.
#[derive(Clone, Copy, Default)]
struct Strands {
    here: u64,
    other: u64,
}

impl Strands {
    fn push(&mut self, base: u8) {
        self.here = self.here << 2 | u64::from(base);
        self.other = self.other >> 2 | u64::from(3 - base) << 62;
    }

    /// The last `k` bases, 1 to 31.
    fn last(self, k: u32) -> u64 {
        self.here & ((1 << (2 * k)) - 1)
    }

    /// The last `k` bases as the other strand reads them.
    fn across(self, k: u32) -> u64 {
        self.other >> (64 - 2 * k)
    }

    /// The base `k` before the latest.
    fn before(self, k: u32) -> u8 {
        (self.here >> (2 * k) & 3) as u8
    }
}

/// Histories of one order: a check and three nodes for each context.
struct Told {
    order: u32,
    slots: Vec<[u8; 4]>,
    checked: bool,
}

impl Told {
    fn new(order: u32, checked: bool, most: u32) -> Self {
        Self { order, slots: vec![[0; 4]; 1 << (2 * order).min(most)], checked }
    }

    /// Where a context is, and its check: those that differ in the latest base alone are neighbours.
    #[inline(always)]
    fn place(&self, context: u64) -> (usize, u8) {
        if !self.checked {
            return (context as usize & (self.slots.len() - 1), 0);
        }
        let hash = (context >> 2).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        let group = (hash >> 20) as usize & (self.slots.len() / 4 - 1);
        (group << 2 | context as usize & 3, ((hash >> 8) as u8).max(1))
    }

    #[inline(always)]
    fn find(&mut self, (place, check): (usize, u8)) -> &mut [u8; 4] {
        let slot = &mut self.slots[place];
        if slot[0] != check {
            *slot = [check, 0, 0, 0];
        }
        slot
    }
}

/// A repeat that is being read again.
#[derive(Clone, Copy, Default)]
struct Repeat {
    /// Of the base that is expected.
    at: usize,
    following: bool,
    length: u32,
    /// The last sixteen expectations, a one for each that failed.
    misses: u16,
    expected: u8,
    bucket: usize,
}

/// Misses among sixteen after which a repeat is given up.
const PATIENCE: u32 = 8;

struct Model {
    counted: Vec<Vec<[Counter; 4]>>,
    told: Vec<Told>,
    bank: Bank,
    mixers: [NarrowMixer<INPUTS>; 3],
    last: Mixer<16>,
    apms: [Apm<Bit<7>>; 2],
    seen: [Vec<u32>; 2],
    trust: [[Counter; 256]; MATCHES.len()],
    repeats: [Repeat; MATCHES.len()],
}

impl Model {
    fn new(bases: usize) -> Self {
        let most = bases.max(1).ilog2() + 2;
        Self {
            counted: COUNTED.iter().map(|&k| vec![Default::default(); 1 << (2 * k).min(most)]).collect(),
            told: TOLD.iter().enumerate().map(|(i, &k)| Told::new(k, i >= CHECKED, most.clamp(8, 26))).collect(),
            bank: Bank::default(),
            mixers: [1024, 192, 768].map(|sets| NarrowMixer::new(sets, NARROW_ONE / 12)),
            last: Mixer::new(64, ONE / 3),
            apms: [Apm::new(1 << 10), Apm::new(1 << 14)],
            seen: [0, 1].map(|_| vec![0; 1 << (most - 2).clamp(8, 24)]),
            trust: [[Counter::new(50_000); 256]; MATCHES.len()],
            repeats: [Repeat::default(); MATCHES.len()],
        }
    }

    /// Where a string of bases was seen.
    #[inline(always)]
    fn seat(&self, which: usize, bases: u64) -> usize {
        let hash = bases.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 24) as usize & (self.seen[which].len() - 1)
    }
}

/// Bytes that coding so many bases takes.
pub fn memory(bases: usize) -> u64 {
    let most = bases.max(1).ilog2() + 2;
    let counted: u64 = COUNTED.iter().map(|&k| 16u64 << (2 * k).min(most)).sum();
    let told: u64 = TOLD.iter().map(|&k| 4u64 << (2 * k).min(most.clamp(8, 26))).sum();
    bases as u64 + counted + told + (8 << (most - 2).clamp(8, 24))
}

/// What one base is predicted from.
struct Step {
    slots: [(usize, u8); TOLD.len()],
    counters: [usize; COUNTED.len()],
    histories: [[u8; LANES]; 4],
    x: [i16; INPUTS],
    sets: [usize; 3],
}

struct Run<'a, 'c> {
    bases: &'a mut [u8],
    coder: &'a mut Direction<'c>,
}

impl Task for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let tables = Tables::get();
        let mut model = Model::new(self.bases.len());
        let mut strands = Strands::default();
        let mut late = [Strands::default(); LATER];
        for at in 0..self.bases.len() {
            let mut step = model.begin(strands, self.bases);
            let mut node = 1;
            for shift in [1, 0] {
                let bit = u32::from(self.bases[at] >> shift) & 1;
                let bit = model.bit::<S>(&mut step, node, bit, self.coder, tables);
                node = 2 * node + bit as usize;
            }
            let base = node as u8 & 3;
            self.bases[at] = base;
            model.keep(&step);
            strands.push(base);
            model.ask(strands);
            let then = late[at % LATER];
            late[at % LATER] = strands;
            if at >= LATER + 32 {
                model.learn_across(then, tables);
            }
            model.follow(strands, self.bases, at + 1);
        }
    }
}

impl Model {
    /// Asks for what the next base, and later the other strand, will need.
    #[inline(always)]
    fn ask(&self, strands: Strands) {
        for told in &self.told {
            prefetch(&told.slots, told.place(strands.last(told.order - 1) << 2).0);
            prefetch(&told.slots, told.place(strands.across(told.order)).0);
        }
        for (&k, counters) in COUNTED.iter().zip(&self.counted).skip(6) {
            prefetch(counters, (strands.last(k - 1) << 2) as usize & (counters.len() - 1));
            prefetch(counters, strands.across(k) as usize & (counters.len() - 1));
        }
    }

    #[inline(always)]
    fn begin(&mut self, strands: Strands, bases: &[u8]) -> Step {
        let mut step = Step {
            slots: [(0, 0); TOLD.len()],
            counters: [0; COUNTED.len()],
            histories: [[0; LANES]; 4],
            x: [0; INPUTS],
            sets: [0; 3],
        };
        for (i, told) in self.told.iter_mut().enumerate() {
            step.slots[i] = told.place(strands.last(told.order));
            let slot = told.find(step.slots[i]);
            for (node, histories) in step.histories.iter_mut().enumerate().skip(1) {
                histories[i] = slot[node];
            }
        }
        for (i, &k) in COUNTED.iter().enumerate() {
            step.counters[i] = strands.last(k) as usize & (self.counted[i].len() - 1);
        }
        let mut state = 0;
        for (repeat, (_, across)) in self.repeats.iter_mut().zip(MATCHES) {
            let misses = repeat.misses.count_ones() as usize;
            state = state * 4 + if repeat.following { 3 - misses.min(2) } else { 0 };
            if repeat.following {
                let base = bases[repeat.at];
                repeat.expected = if across { 3 - base } else { base };
            }
            let length = (repeat.length.max(1).ilog2() as usize).min(7);
            repeat.bucket = (length * 9 + misses.min(8)) * 3 + (repeat.misses & 3).count_ones() as usize;
        }
        step.sets = [state, strands.last(3) as usize, strands.last(4) as usize];
        step.x[CONSTANT] = 256;
        step
    }

    /// Codes one bit of a base.
    #[inline(always)]
    fn bit<S: Simd>(
        &mut self,
        step: &mut Step,
        node: usize,
        bit: u32,
        coder: &mut Direction<'_>,
        tables: Tables,
    ) -> u32 {
        let mut held: Held = Default::default();
        if let Some(inputs) = step.x.first_chunk_mut::<{ 2 * LANES }>() {
            S::predict(&self.bank, &step.histories[node], &mut held, inputs, tables);
        }
        for (i, counters) in self.counted.iter().enumerate() {
            step.x[COUNTERS + i] = tables.logistic.stretch(counters[step.counters[i]][node].p());
        }
        let mut told = [None; MATCHES.len()];
        for (i, repeat) in self.repeats.iter().enumerate() {
            let fits = repeat.following && (node == 1 || repeat.expected >> 1 == node as u8 & 1);
            let expected = if node == 1 { repeat.expected >> 1 } else { repeat.expected & 1 };
            told[i] = fits.then_some(u32::from(expected));
            let x = tables.logistic.stretch(self.trust[i][repeat.bucket].p());
            let signed = if expected == 1 { x } else { -x };
            step.x[REPEATS + 2 * i] = if fits { signed } else { 0 };
            let sure = if fits && repeat.misses == 0 { (repeat.length.min(32) * 8) as i16 } else { 0 };
            step.x[REPEATS + 2 * i + 1] = if expected == 1 { sure } else { -sure };
        }
        let sets = [step.sets[0] * 4 + node, step.sets[1] * 3 + node - 1, step.sets[2] * 3 + node - 1];
        let mut y = [0; 16];
        for (i, mixer) in self.mixers.iter_mut().enumerate() {
            y[i] = mixer.mix::<S>(&step.x, sets[i], tables.logistic);
        }
        let mixed = self.last.mix::<S>(&y, (step.sets[1] & 15) * 4 + node, tables.logistic);
        let p = u32::from(self.last.p());
        let a = u32::from(self.apms[0].refine(mixed, step.sets[0] * 4 + node));
        let b = u32::from(self.apms[1].refine(mixed, step.counters[4] * 4 + node));
        let bit = coder.code(bit, (2 * p + a + b + 2) >> 2);
        for mixer in &mut self.mixers {
            mixer.learn::<S>(&step.x, bit, 4);
        }
        self.last.learn::<S>(&y, bit, 2);
        self.apms.iter_mut().for_each(|apm| apm.learn(bit, tables.rates));
        for (i, told) in told.into_iter().enumerate() {
            if let Some(expected) = told {
                let trust = &mut self.trust[i][self.repeats[i].bucket];
                trust.learn(u32::from(expected == bit), 1000, tables.rates);
            }
        }
        for (i, counters) in self.counted.iter_mut().enumerate() {
            counters[step.counters[i]][node].learn(bit, EXPERIENCE, tables.rates);
        }
        S::learn(&mut self.bank, &mut step.histories[node], &held, bit, EXPERIENCE, tables);
        bit
    }

    #[inline(always)]
    fn keep(&mut self, step: &Step) {
        for (i, told) in self.told.iter_mut().enumerate() {
            let [_, a, b, c] = step.histories.map(|histories| histories[i]);
            told.slots[step.slots[i].0] = [step.slots[i].1, a, b, c];
        }
    }

    /// The contexts of the other strand learn.
    #[inline(always)]
    fn learn_across(&mut self, strands: Strands, tables: Tables) {
        let nodes = |base: u8| [(1, u32::from(base >> 1)), (2 + usize::from(base >> 1), u32::from(base & 1))];
        for told in &mut self.told {
            let place = told.place(strands.across(told.order));
            let base = 3 - strands.before(told.order);
            let slot = told.find(place);
            for (node, bit) in nodes(base) {
                slot[node] = next(tables.histories, slot[node], bit);
            }
        }
        for (i, &k) in COUNTED.iter().enumerate() {
            let place = strands.across(k) as usize & (self.counted[i].len() - 1);
            for (node, bit) in nodes(3 - strands.before(k)) {
                self.counted[i][place][node].learn(bit, EXPERIENCE, tables.rates);
            }
        }
    }

    /// The repeats move on by the base that came before `at`, and are looked for.
    #[inline(always)]
    fn follow(&mut self, strands: Strands, bases: &[u8], at: usize) {
        let came = bases[at - 1];
        for (i, (least, across)) in MATCHES.into_iter().enumerate() {
            let mut repeat = self.repeats[i];
            if repeat.following {
                let miss = repeat.expected != came;
                repeat.misses = repeat.misses << 1 | u16::from(miss);
                repeat.length = if miss { repeat.length / 4 } else { repeat.length + 1 };
                repeat.following = repeat.misses.count_ones() <= PATIENCE;
                match (across, repeat.at) {
                    (false, _) => repeat.at += 1,
                    (true, 0) => repeat.following = false,
                    (true, _) => repeat.at -= 1,
                }
            }
            if !repeat.following && at >= 32 {
                let which = i / 2;
                let string = if across { strands.across(least) } else { strands.last(least) };
                let found = self.seen[which][self.seat(which, string)] as usize;
                repeat = Self::verify(found, least, across, bases, at);
            }
            self.repeats[i] = repeat;
        }
        if at >= 32 {
            for (which, least) in [MATCHES[0].0, MATCHES[2].0].into_iter().enumerate() {
                let seat = self.seat(which, strands.last(least));
                self.seen[which][seat] = at as u32;
            }
        }
    }

    fn verify(found: usize, least: u32, across: bool, bases: &[u8], at: usize) -> Repeat {
        let least = least as usize;
        let agree = |n: usize| match across {
            false => found > n && bases[found - 1 - n] == bases[at - 1 - n],
            true => found >= least && found - least + n < at && bases[found - least + n] == 3 - bases[at - 1 - n],
        };
        let length = (0..32.min(at)).take_while(|&n| agree(n)).count();
        let next = if across { (found).checked_sub(least + 1) } else { Some(found) };
        match next {
            Some(next) if found > 0 && length >= least => {
                Repeat { at: next, following: true, length: length as u32, ..Repeat::default() }
            }
            _ => Repeat::default(),
        }
    }
}

#[inline(always)]
fn next(histories: &Histories, state: u8, bit: u32) -> u8 {
    histories.next(state, bit as usize)
}

/// Encodes bases, 0 to 3.
pub fn encode(bases: &mut [u8], backend: Backend) -> Vec<u8> {
    let mut coder = Direction::Encode(Encoder::new());
    dispatch(backend, Run { bases, coder: &mut coder });
    coder.finish()
}

/// Decodes what [`encode`] wrote.
pub fn decode(stream: &[u8], bases: &mut [u8], backend: Backend) {
    dispatch(backend, Run { bases, coder: &mut Direction::Decode(Decoder::new(stream)) });
}
