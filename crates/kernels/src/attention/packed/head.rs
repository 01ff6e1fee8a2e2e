//! The compressed keys and values of one head.

use super::super::BLOCK;
use super::feedback::Feedback;
use super::part::{Coding, Part, Side};
use super::repair::Recipe;
use crate::simd::fetch;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of 64 slots, each with a coding of its own for keys and for values.
///
/// A clone shares its blocks with what it was cloned from, until one of the two writes.
#[derive(Clone)]
pub struct PackedHead {
    dim: usize,
    len: usize,
    pub(super) blocks: Vec<Block>,
    /// What is added to the scores of some slots, after the scale.
    pub(super) tilts: Vec<(usize, f32)>,
}

#[derive(Clone)]
pub(super) struct Block {
    pub parts: Arc<Parts>,
    /// What the keys of the 64 slots are multiplied by, and then what the values are.
    pub gains: Option<Box<[f32; 2 * BLOCK]>>,
}

impl Block {
    fn new(codings: (Coding, Coding), dim: usize) -> Block {
        let (k, v) = (Part::new(codings.0, Side::Keys, dim), Part::new(codings.1, Side::Values, dim));
        Block { parts: Arc::new(Parts { k, v }), gains: None }
    }
}

/// Slots of one block that are to be written.
pub struct OpenSlots<'a> {
    first: usize,
    dim: usize,
    block: &'a mut Block,
}

impl OpenSlots<'_> {
    /// Writes keys and values, rows one after another; `feedback` says how errors of keys count, as in [`Part::write_rows`].
    ///
    /// # Panics
    /// If the shapes do not fit, or the block is coded by channel.
    pub fn write(self, keys: &[f32], values: &[f32], feedback: Option<&Feedback>) {
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        assert!(keys.len().is_multiple_of(self.dim.max(1)), "keys of {} values", self.dim);
        let parts = Arc::make_mut(&mut self.block.parts);
        parts.k.write_rows(self.first, keys, feedback);
        parts.v.write_rows(self.first, values, None);
    }
}

#[derive(Clone)]
pub(super) struct Parts {
    pub k: Part,
    pub v: Part,
}

/// Bytes of a side beside what it holds: itself, and a count of who shares it.
const PART: usize = size_of::<Part>() + size_of::<usize>();

/// How one side of a full block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How numbers are.
    pub coding: Coding,
    /// The first so many channels are kept, a multiple of 16; the others become zero. 0 keeps all.
    pub channels: usize,
    /// What is given back of what that loses.
    pub repair: Option<Recipe>,
}

impl From<Coding> for Form {
    fn from(coding: Coding) -> Form {
        Form { coding, channels: 0, repair: None }
    }
}

impl Form {
    fn part(self, side: Side, dim: usize, tokens: &[f32], feedback: Option<&Feedback>) -> Part {
        let held = if self.channels == 0 { dim } else { self.channels.next_multiple_of(16).min(dim) };
        let floats = matches!(self.coding, Coding::F32 | Coding::F16);
        assert!(held == dim || floats || side == Side::Keys, "values in fewer channels are floats");
        let first: Vec<f32> = tokens.chunks_exact(dim).flat_map(|token| &token[..held]).copied().collect();
        match self.repair {
            Some(recipe) => Part::repaired(self.coding, side, held, &first, recipe),
            None => {
                let mut part = Part::new(self.coding, side, held);
                part.write_block(&first, feedback.filter(|feedback| feedback.dim() == held));
                part
            }
        }
    }
}

impl PackedHead {
    /// No slots yet, for heads of `dim` values.
    pub fn new(dim: usize) -> PackedHead {
        PackedHead { dim, len: 0, blocks: Vec::new(), tilts: Vec::new() }
    }

    /// Values of a key, and of a value.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The part that is read after one of block `block`: what it holds is far away, so it is asked for ahead.
    pub(super) fn next(&self, block: usize, side: Side) -> Option<&Part> {
        if let Some(after) = self.blocks.get(block + 2) {
            let parts = Arc::as_ptr(&after.parts).cast::<u8>();
            (0..size_of::<Parts>()).step_by(64).for_each(|line| fetch(parts.wrapping_add(line)));
        }
        match (self.blocks.get(block + 1), side) {
            (Some(next), Side::Keys) => Some(&next.parts.k),
            (Some(next), Side::Values) => Some(&next.parts.v),
            (None, Side::Keys) => self.blocks.first().map(|first| &first.parts.v),
            (None, Side::Values) => None,
        }
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Blocks held.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of memory held, those of shared blocks included.
    pub fn bytes(&self) -> usize {
        self.bytes_beside(&mut HashSet::new())
    }

    /// Bytes of memory held that nobody before held: `seen` remembers what blocks were counted.
    pub fn bytes_beside(&self, seen: &mut HashSet<usize>) -> usize {
        let mut parts = |block: &Block| match seen.insert(Arc::as_ptr(&block.parts) as usize) {
            true => block.parts.k.bytes() + block.parts.v.bytes() + 2 * PART,
            false => 0,
        };
        let parts: usize = self.blocks.iter().map(&mut parts).sum();
        let gains = self.blocks.iter().filter(|block| block.gains.is_some()).count() * 8 * BLOCK;
        let own = self.blocks.capacity() * size_of::<Block>() + self.tilts.capacity() * size_of::<(usize, f32)>();
        parts + gains + own
    }

    /// Bytes that one side of so many slots takes.
    pub fn bytes_of(coding: Coding, side: Side, dim: usize, slots: usize) -> usize {
        slots.div_ceil(BLOCK) * (Part::new(coding, side, dim).bytes() + PART)
    }

    /// Bytes that so many slots take beside their two sides, at most.
    pub fn overhead(slots: usize) -> usize {
        let blocks = slots.div_ceil(BLOCK);
        (blocks + blocks / 8).max(4) * size_of::<Block>()
    }

    /// Codings of keys and values of a block.
    pub fn codings(&self, block: usize) -> (Coding, Coding) {
        (self.blocks[block].parts.k.coding(), self.blocks[block].parts.v.coding())
    }

    /// Stores a token in the next slot; a new block gets the codings given.
    ///
    /// # Panics
    /// If the shapes do not fit, or the last block is coded by channel and not full.
    pub fn push(&mut self, k: &[f32], v: &[f32], codings: (Coding, Coding)) {
        self.extend(1, codings).for_each(|(_, slots)| slots.write(k, v, None));
    }

    /// Makes room for so many tokens: the rows that each block takes, and its slots, which are to be written. New blocks get the
    /// codings given.
    pub fn extend(
        &mut self,
        tokens: usize,
        codings: (Coding, Coding),
    ) -> impl Iterator<Item = (Range<usize>, OpenSlots<'_>)> {
        let (dim, start) = (self.dim, self.len);
        let end = start + tokens;
        let wanted = end.div_ceil(BLOCK);
        if wanted > self.blocks.capacity() {
            // An eighth more, and not twice as much: what is held is what is needed.
            self.blocks.reserve_exact((wanted + wanted / 8).max(4) - self.blocks.len());
        }
        while self.blocks.len() < wanted {
            self.blocks.push(Block::new(codings, dim));
        }
        self.len = end;
        let first = start / BLOCK;
        self.blocks[first.min(wanted)..].iter_mut().enumerate().map(move |(index, block)| {
            let here = (first + index) * BLOCK;
            let slots = start.max(here)..end.min(here + BLOCK);
            (slots.start - start..slots.end - start, OpenSlots { first: slots.start - here, dim, block })
        })
    }

    /// Stores a full block anew in other codings; from what it holds, so losses add up.
    ///
    /// # Panics
    /// If there is no such block, or it is not full.
    pub fn recode(&mut self, block: usize, codings: (Coding, Coding)) {
        self.reform(block, (codings.0.into(), codings.1.into()), None);
    }

    /// Stores a full block anew in other forms; from what it holds, so losses add up. A side that has the coding already stays as it is.
    /// `feedback` says how errors of keys count, as in [`Part::write_rows`].
    ///
    /// # Panics
    /// If there is no such block, or it is not full.
    pub fn reform(&mut self, block: usize, forms: (Form, Form), feedback: Option<&Feedback>) {
        assert!((block + 1) * BLOCK <= self.len, "block {block} of {} slots is not full", self.len);
        let dim = self.dim;
        let parts = &mut self.blocks[block].parts;
        let differs = |part: &Part, form: Form| {
            part.coding() != form.coding || form.channels != 0 && form.channels < part.channels()
        };
        if !differs(&parts.k, forms.0) && !differs(&parts.v, forms.1) {
            return;
        }
        let parts = Arc::make_mut(parts);
        for (part, form, side, feedback) in
            [(&mut parts.k, forms.0, Side::Keys, feedback), (&mut parts.v, forms.1, Side::Values, None)]
        {
            if differs(part, form) {
                let mut tokens = vec![0.0; BLOCK * dim];
                tokens.chunks_exact_mut(dim).enumerate().for_each(|(slot, x)| part.read_wide(slot, x));
                *part = form.part(side, dim, &tokens, feedback);
            }
        }
    }

    /// Forgets the slots from `len` on. A block that is no longer full and cannot take single tokens is stored in `open`.
    pub fn truncate(&mut self, len: usize, open: (Coding, Coding)) {
        if len >= self.len {
            return;
        }
        let last = len / BLOCK;
        let whole = |part: &Part| !part.coding().by_token() || part.repair().is_some() || part.channels() < self.dim;
        let Block { parts, gains } = &self.blocks[last];
        if !len.is_multiple_of(BLOCK) && (whole(&parts.k) || whole(&parts.v) || gains.is_some()) {
            self.reopen(last, open);
        }
        self.len = len;
        self.blocks.truncate(len.div_ceil(BLOCK));
        self.tilts.retain(|&(slot, _)| slot < len);
    }

    fn reopen(&mut self, block: usize, codings: (Coding, Coding)) {
        let (mut k, mut v) = (vec![0.0; self.dim], vec![0.0; self.dim]);
        let mut open = PackedHead::new(self.dim);
        for slot in block * BLOCK..(block + 1) * BLOCK {
            self.key(slot, &mut k);
            self.value(slot, &mut v);
            open.push(&k, &v, codings);
        }
        if let Some(done) = open.blocks.pop() {
            self.blocks[block] = done;
        }
    }

    /// Forgets the slots of some full blocks; those behind them move down.
    ///
    /// # Panics
    /// If there are no such blocks, or the last is not full.
    pub fn remove(&mut self, blocks: Range<usize>) {
        let slots = blocks.start * BLOCK..blocks.end * BLOCK;
        assert!(slots.end <= self.len, "slots {slots:?} of {}", self.len);
        self.blocks.drain(blocks);
        self.len -= slots.len();
        self.tilts.retain(|(slot, _)| !slots.contains(slot));
        self.tilts.iter_mut().filter(|(slot, _)| *slot >= slots.end).for_each(|(slot, _)| *slot -= slots.len());
    }

    /// The slots named, one after another: codes of the same coding are taken as they are. New blocks get the codings given.
    ///
    /// # Panics
    /// If one is not in use.
    pub fn kept(&self, slots: &[usize], codings: (Coding, Coding)) -> PackedHead {
        let mut kept =
            PackedHead { blocks: Vec::with_capacity(slots.len().div_ceil(BLOCK)), ..PackedHead::new(self.dim) };
        let (mut k, mut v) = (vec![0.0; self.dim], vec![0.0; self.dim]);
        for &slot in slots {
            assert!(slot < self.len, "slot {slot} of {}", self.len);
            let from = &self.blocks[slot / BLOCK];
            if from.gains.is_some() {
                self.key(slot, &mut k);
                self.value(slot, &mut v);
                kept.push(&k, &v, codings);
            } else {
                for (_, to) in kept.extend(1, codings) {
                    let parts = Arc::make_mut(&mut to.block.parts);
                    parts.k.take(to.first, &from.parts.k, slot % BLOCK);
                    parts.v.take(to.first, &from.parts.v, slot % BLOCK);
                }
            }
            let tilt = self.tilts.iter().find(|(tilted, _)| *tilted == slot);
            kept.tilts.extend(tilt.map(|&(_, by)| (kept.len - 1, by)));
        }
        kept
    }

    /// Adds a number to a slot's scores, after the scale: `ln n` makes it count as n tokens. 0 takes it off.
    ///
    /// # Panics
    /// If the slot is not in use.
    pub fn tilt(&mut self, slot: usize, by: f32) {
        assert!(slot < self.len, "slot {slot} of {}", self.len);
        self.tilts.retain(|&(tilted, _)| tilted != slot);
        if by != 0.0 {
            self.tilts.push((slot, by));
        }
    }

    /// What is added to a slot's scores.
    pub fn tilted(&self, slot: usize) -> f32 {
        self.tilts.iter().find(|(tilted, _)| *tilted == slot).map_or(0.0, |&(_, by)| by)
    }

    /// Takes the full blocks of another head as well, with factors for the keys and the values of each slot; the blocks are held once.
    ///
    /// # Panics
    /// If slots of either head fill no whole blocks, or the factors are not as many as slots.
    pub fn share(&mut self, other: &PackedHead, gains: (&[f32], &[f32])) {
        assert!(self.len.is_multiple_of(BLOCK) && other.len.is_multiple_of(BLOCK), "whole blocks");
        assert!(gains.0.len() == other.len && gains.1.len() == other.len, "a factor for each slot");
        assert_eq!(self.dim, other.dim, "heads of one size");
        let factors = gains.0.chunks_exact(BLOCK).zip(gains.1.chunks_exact(BLOCK));
        for (block, (k, v)) in other.blocks.iter().zip(factors) {
            let mut gains = Box::new([0.0; 2 * BLOCK]);
            gains[..BLOCK].copy_from_slice(k);
            gains[BLOCK..].copy_from_slice(v);
            self.blocks.push(Block { parts: block.parts.clone(), gains: Some(gains) });
        }
        self.len += other.len;
    }

    /// Takes all of another head behind its own slots.
    ///
    /// # Panics
    /// If its own slots fill no whole blocks, or the heads differ in size.
    pub fn append(&mut self, other: PackedHead) {
        assert!(self.len.is_multiple_of(BLOCK) && self.dim == other.dim, "whole blocks of heads of one size");
        self.blocks.truncate(self.len / BLOCK);
        self.tilts.extend(other.tilts.iter().map(|&(slot, by)| (self.len + slot, by)));
        self.blocks.extend(other.blocks);
        self.len += other.len;
    }

    /// Reads a key back.
    ///
    /// # Panics
    /// If the slot is not in use, or `out` does not hold `dim` values.
    pub fn key(&self, slot: usize, out: &mut [f32]) {
        self.read(slot, Side::Keys, out);
    }

    /// Reads a value back.
    ///
    /// # Panics
    /// As [`PackedHead::key`].
    pub fn value(&self, slot: usize, out: &mut [f32]) {
        self.read(slot, Side::Values, out);
    }

    fn read(&self, slot: usize, side: Side, out: &mut [f32]) {
        assert!(slot < self.len && out.len() == self.dim, "slot {slot} of {}, {} values", self.len, out.len());
        let (block, at) = (&self.blocks[slot / BLOCK], slot % BLOCK);
        let (part, first) = if side == Side::Keys { (&block.parts.k, 0) } else { (&block.parts.v, BLOCK) };
        part.read_wide(at, out);
        if let Some(gains) = &block.gains {
            out.iter_mut().for_each(|x| *x *= gains[first + at]);
        }
    }
}
