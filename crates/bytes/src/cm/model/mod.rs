//! What the lanes share: tables, counters, mixers, maps.

mod lane;
mod run;

pub use run::{Lanes, decode, decode_beside, encode, encode_beside};

use super::beside::Blend;
use super::contexts::{BANK, Wide};
use super::direct::Direct;
use super::finish::{self, Effort, Finish, GROUPS_BITS};
use super::matching::Places;
use super::net::Net;
use super::runs::Runs;
use super::second::{self, Second};
use brevity_coding::bank::Bank;
use brevity_coding::mixer::{Mixer, NARROW_ONE, NarrowMixer};

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
