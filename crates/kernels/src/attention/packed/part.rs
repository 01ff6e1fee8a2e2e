//! The keys, or the values, of 64 slots of one head in one coding.

use super::super::BLOCK;
use super::codes::{DEEP, Values, with_values};
use super::feedback::Feedback;
use super::grid::{self, Coded};
use super::repair::{Cut, Recipe, Repair};
use crate::buffer::Lines;
use crate::convert::{f16_to_f32, f32_to_f16};
use crate::simd::{LANES, fetch};
use std::ops::Range;

/// Keys or values: what lies across the lanes differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Slots across the lanes, channels along k: a product is 64 scores.
    Keys,
    /// Channels across the lanes, slots along k: a product is a weighted sum of values.
    Values,
}

/// How a part stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, rounded half to even; beyond f16's range the largest f16.
    F16,
    /// Codes of so many bits (2, 3, 4, 8); each token has a scale (f16) and a zero point (8 bit, `2^bits/256` a step):
    /// `x ≈ scale·(code − zero)`, off by at most half a scale wherever the token's range holds x.
    Token(u8),
    /// Codes of so many bits; each channel of the block has a scale and a least value (f16): `x ≈ scale·code + least`.
    /// Written a whole block at a time; keys alone.
    Channel(u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    F32,
    F16,
    Bits2,
    Bits3,
    Bits4,
    Bits8,
}

impl Coding {
    /// The bits that codes can have.
    pub const BITS: [u8; 4] = [2, 3, 4, 8];

    pub(super) fn layout(self) -> Layout {
        match self {
            Coding::F32 => Layout::F32,
            Coding::F16 => Layout::F16,
            Coding::Token(bits) | Coding::Channel(bits) => match bits {
                2 => Layout::Bits2,
                3 => Layout::Bits3,
                4 => Layout::Bits4,
                8 => Layout::Bits8,
                _ => panic!("codes of {bits} bits"),
            },
        }
    }

    /// Whether tokens can be written one at a time.
    pub fn by_token(self) -> bool {
        !matches!(self, Coding::Channel(_))
    }

    fn unit(self) -> usize {
        with_values!(self, V => V::UNIT)
    }
}

/// 64 slots of one side of a head.
#[derive(Clone)]
pub struct Part {
    coding: Coding,
    side: Side,
    dim: u32,
    /// Units panel by panel, then scales, then zero points or least values.
    data: Lines,
    /// What the codes leave behind, where it is given back.
    repair: Option<Box<Repair>>,
}

impl Part {
    /// Zeros.
    ///
    /// # Panics
    /// If codes have no such number of bits, or values are to be coded by channel.
    pub fn new(coding: Coding, side: Side, dim: usize) -> Part {
        assert!(coding.by_token() || side == Side::Keys, "values are coded by token");
        let mut part = Part { coding, side, dim: dim as u32, data: Lines::zeros(0), repair: None };
        part.data = Lines::zeros(part.codes() + part.parameters());
        part
    }

    /// How numbers are stored.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Channels held: the first of a token's.
    pub(super) fn channels(&self) -> usize {
        self.dim as usize
    }

    /// What the codes leave behind, where it is given back.
    #[inline(always)]
    pub(super) fn repair(&self) -> Option<&Repair> {
        self.repair.as_deref()
    }

    /// 64 tokens, rows of `x`, on a grid without the numbers that widen its range most, and what that leaves beside it.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn repaired(coding: Coding, side: Side, dim: usize, x: &[f32], recipe: Recipe) -> Part {
        let mut part = Part::new(coding, side, dim);
        let cut = Cut::new(x, side, dim, recipe.singles);
        part.write_block(&cut.rest, None);
        let mut grid = vec![0.0; x.len()];
        grid.chunks_exact_mut(dim).enumerate().for_each(|(slot, x)| part.read(slot, x));
        part.repair = Some(Box::new(cut.repair(x, &grid, side, dim, recipe.rank)));
        part
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.repair.as_ref().map_or(0, |repair| repair.bytes())
    }

    /// Steps of k: channels filled up to a multiple of 8, or slots.
    pub(super) fn steps(&self) -> usize {
        match self.side {
            Side::Keys => self.channels().next_multiple_of(DEEP),
            Side::Values => BLOCK,
        }
    }

    pub(super) fn panel_count(&self) -> usize {
        match self.side {
            Side::Keys => BLOCK / LANES,
            Side::Values => self.channels().div_ceil(LANES),
        }
    }

    fn panel_bytes(&self) -> usize {
        self.steps() / DEEP * self.coding.unit()
    }

    fn codes(&self) -> usize {
        self.panel_count() * self.panel_bytes()
    }

    fn parameters(&self) -> usize {
        match self.coding {
            Coding::F32 | Coding::F16 => 0,
            Coding::Token(_) => 3 * BLOCK,
            Coding::Channel(_) => 4 * self.steps(),
        }
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The units of all panels.
    pub(super) fn units_mut(&mut self) -> &mut [u8] {
        let codes = self.codes();
        &mut self.data[..codes]
    }

    /// Where the panels from `panel` on lie.
    #[inline(always)]
    pub(super) fn at(&self, panel: usize) -> *const u8 {
        self.data.as_ptr().wrapping_add(panel * self.panel_bytes())
    }

    /// Asks for scales and zero points.
    #[inline(always)]
    pub(super) fn fetch_parameters(&self) {
        (0..self.parameters()).step_by(64).for_each(|line| fetch(self.data.as_ptr().wrapping_add(self.codes() + line)));
    }

    /// The units of some panels.
    #[inline(always)]
    pub(super) fn panels(&self, panels: Range<usize>) -> &[u8] {
        let bytes = self.panel_bytes();
        &self.data[panels.start * bytes..panels.end * bytes]
    }

    /// Scales as f16: one a slot, or one a channel.
    #[inline(always)]
    pub(super) fn scales(&self) -> &[u16] {
        let many = if self.coding.by_token() { BLOCK } else { self.steps() };
        bytemuck::cast_slice(&self.data[self.codes()..][..2 * many])
    }

    /// Zero points of slots, and what a step of theirs is.
    #[inline(always)]
    pub(super) fn zeros(&self) -> (&[u8], f32) {
        (&self.data[self.codes() + 2 * BLOCK..][..BLOCK], self.zero_step())
    }

    /// Scales, zero points and their step, where each token has a grid.
    #[inline(always)]
    pub(super) fn grids(&self) -> Option<(&[u16], &[u8], f32)> {
        let (zeros, step) = matches!(self.coding, Coding::Token(_)).then(|| self.zeros())?;
        Some((self.scales(), zeros, step))
    }

    /// Least values of channels as f16.
    #[inline(always)]
    pub(super) fn least(&self) -> &[u16] {
        bytemuck::cast_slice(&self.data[self.codes() + 2 * self.steps()..][..2 * self.steps()])
    }

    fn zero_step(&self) -> f32 {
        match self.coding {
            Coding::Token(bits) => (1u32 << bits) as f32 / 256.0,
            _ => 0.0,
        }
    }

    fn place(&self, slot: usize, channel: usize) -> (usize, usize, usize) {
        let (panel, k, lane) = match self.side {
            Side::Keys => (slot / LANES, channel, slot % LANES),
            Side::Values => (channel / LANES, slot, channel % LANES),
        };
        (panel * self.panel_bytes() + k / DEEP * self.coding.unit(), k % DEEP, lane)
    }

    /// Writes the codes of one token.
    fn put_codes(&mut self, slot: usize, codes: impl Iterator<Item = u8>) {
        let (panel, side) = (self.panel_bytes(), self.side);
        with_values!(self.coding, V => match side {
            Side::Keys => {
                let units = self.data[slot / LANES * panel..][..panel].chunks_exact_mut(V::UNIT);
                let mut codes = codes;
                for unit in units {
                    (0..DEEP).zip(&mut codes).for_each(|(k, code)| V::put(unit, k, slot % LANES, f32::from(code)));
                }
            }
            Side::Values => {
                for (channel, code) in codes.enumerate() {
                    let unit = &mut self.data[channel / LANES * panel + slot / DEEP * V::UNIT..][..V::UNIT];
                    V::put(unit, slot % DEEP, channel % LANES, f32::from(code));
                }
            }
        })
    }

    fn put(&mut self, slot: usize, numbers: impl Iterator<Item = f32>) {
        with_values!(self.coding, V => {
            for (channel, x) in numbers.enumerate() {
                let (at, k, lane) = self.place(slot, channel);
                V::put(&mut self.data[at..at + V::UNIT], k, lane, x);
            }
        })
    }

    /// Writes one token.
    ///
    /// # Panics
    /// If the coding is by channel, or the shapes do not fit.
    pub fn write(&mut self, slot: usize, x: &[f32]) {
        assert!(slot < BLOCK && x.len() == self.channels(), "slot {slot}, {} values", x.len());
        self.write_rows(slot, x, None);
    }

    /// Writes tokens, rows of `x`, from slot `first` on; `feedback` says how their errors count, where that is known and they are
    /// codes of less than 8 bits.
    ///
    /// # Panics
    /// If the coding is by channel, or the shapes do not fit.
    pub fn write_rows(&mut self, first: usize, x: &[f32], feedback: Option<&Feedback>) {
        let (dim, rows) = (self.channels(), x.len() / self.channels().max(1));
        assert!(first + rows <= BLOCK && x.len() == rows * dim, "{} values from slot {first}", x.len());
        let bits = match self.coding {
            Coding::F32 => return self.write_floats(first, x),
            Coding::F16 => return self.write_halves(first, x),
            Coding::Token(bits) => bits,
            Coding::Channel(_) => panic!("a coding by channel is written by blocks"),
        };
        let mut next = 0;
        let groups = std::iter::from_fn(|| {
            let start = next;
            next = ((first + start + 1).next_multiple_of(LANES) - first).min(rows);
            (start < rows).then_some(start..next)
        });
        grid::code((x, dim), bits, feedback, groups, |row, many, coded| self.place_codes(first + row, many, coded));
    }

    fn place_codes(&mut self, first: usize, many: usize, coded: &Coded) {
        let (grids, unit) = (self.codes(), self.coding.unit());
        for (i, slot) in (first..first + many).enumerate() {
            self.data[grids + 2 * slot..][..2].copy_from_slice(&coded.scales[i].to_ne_bytes());
            self.data[grids + 2 * BLOCK + slot] = coded.zeros[i];
        }
        let aligned = match self.side {
            Side::Keys => many == LANES,
            Side::Values => first.is_multiple_of(DEEP) && many.is_multiple_of(DEEP),
        };
        if !aligned {
            for (i, slot) in (first..first + many).enumerate() {
                self.put_codes(slot, coded.codes.iter().map(|codes| codes[i]));
            }
            return;
        }
        let (panel, side) = (self.panel_bytes(), self.side);
        with_values!(self.coding, V => match side {
            Side::Keys => {
                let units = self.data[first / LANES * panel..][..panel].chunks_exact_mut(unit);
                for (unit, channels) in units.zip(coded.codes.chunks(DEEP)) {
                    let mut codes = [[0; LANES]; DEEP];
                    codes[..channels.len()].copy_from_slice(channels);
                    V::pack(unit, &codes);
                }
            }
            Side::Values => {
                for (at, channels) in coded.codes.chunks(LANES).enumerate() {
                    for start in (0..many).step_by(DEEP) {
                        let mut codes = [[0; LANES]; DEEP];
                        for (lane, tokens) in channels.iter().enumerate() {
                            (0..DEEP).for_each(|k| codes[k][lane] = tokens[start + k]);
                        }
                        let at = at * panel + (first + start) / DEEP * unit;
                        V::pack(&mut self.data[at..at + unit], &codes);
                    }
                }
            }
        })
    }

    /// Writes a token of another part: its codes as they are where the coding is the same, else anew.
    pub(super) fn take(&mut self, slot: usize, from: &Part, from_slot: usize) {
        let as_it_is =
            self.coding == from.coding && self.coding.by_token() && self.dim == from.dim && from.repair.is_none();
        if !as_it_is {
            let mut x = vec![0.0; self.channels()];
            from.read_wide(from_slot, &mut x);
            return self.write(slot, &x);
        }
        let mut x = vec![0.0; self.channels()];
        from.read_codes(from_slot, &mut x);
        self.put(slot, x.iter().copied());
        if let Coding::Token(_) = self.coding {
            let codes = self.codes();
            self.data[codes + 2 * slot..][..2].copy_from_slice(&from.scales()[from_slot].to_ne_bytes());
            self.data[codes + 2 * BLOCK + slot] = from.zeros().0[from_slot];
        }
    }

    /// Codes, or numbers where there are none.
    fn read_codes(&self, slot: usize, out: &mut [f32]) {
        with_values!(self.coding, V => {
            for (channel, x) in out.iter_mut().enumerate() {
                let (at, k, lane) = self.place(slot, channel);
                *x = V::get(&self.data[at..at + V::UNIT], k, lane);
            }
        });
    }

    /// Writes 64 tokens, rows of `x`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn write_block(&mut self, x: &[f32], feedback: Option<&Feedback>) {
        assert_eq!(x.len(), BLOCK * self.channels(), "a block of tokens");
        let Coding::Channel(bits) = self.coding else {
            return self.write_rows(0, x, feedback);
        };
        let (codes, steps) = (self.codes(), self.steps());
        let top = f32::from((1u16 << bits) - 1);
        let mut grids = Vec::with_capacity(self.channels());
        for channel in 0..self.channels() {
            let column = x.iter().skip(channel).step_by(self.channels());
            let (low, high) = column.fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
            let least = f32_to_f16(low.clamp(-65504.0, 65504.0));
            let scale = f32_to_f16(((high - f16_to_f32(least)) / top).clamp(0.0, 65504.0));
            self.data[codes + 2 * channel..][..2].copy_from_slice(&scale.to_ne_bytes());
            self.data[codes + 2 * steps + 2 * channel..][..2].copy_from_slice(&least.to_ne_bytes());
            grids.push((f16_to_f32(scale), f16_to_f32(least)));
        }
        for (slot, x) in x.chunks_exact(self.channels()).enumerate() {
            let code = |(&x, &(scale, least)): (&f32, &(f32, f32))| match scale > 0.0 {
                true => ((x - least) / scale).round_ties_even().clamp(0.0, top),
                false => 0.0,
            };
            self.put(slot, x.iter().zip(&grids).map(code));
        }
    }

    /// Reads one token back.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn read(&self, slot: usize, out: &mut [f32]) {
        assert!(slot < BLOCK && out.len() == self.channels(), "slot {slot}, {} values", out.len());
        self.read_codes(slot, out);
        match self.coding {
            Coding::F32 | Coding::F16 => {}
            Coding::Token(_) => {
                let (scale, (zeros, step)) = (f16_to_f32(self.scales()[slot]), self.zeros());
                let zero = f32::from(zeros[slot]) * step;
                out.iter_mut().for_each(|x| *x = scale * (*x - zero));
            }
            Coding::Channel(_) => {
                let grids = self.scales().iter().zip(self.least());
                for (x, (&scale, &least)) in out.iter_mut().zip(grids) {
                    *x = f16_to_f32(scale).mul_add(*x, f16_to_f32(least));
                }
            }
        }
        self.repair.iter().for_each(|repair| repair.add_to(slot, out));
    }

    /// Reads a token that may have more channels than are held: the others are zero.
    pub(super) fn read_wide(&self, slot: usize, out: &mut [f32]) {
        let held = self.channels().min(out.len());
        self.read(slot, &mut out[..held]);
        out[held..].fill(0.0);
    }
}
