//! The compressed keys and values of one head.

use super::super::BLOCK;
use super::part::{Coding, Part, Side};

/// Blocks of 64 slots, each with a coding of its own for keys and for values.
#[derive(Clone)]
pub struct PackedHead {
    dim: usize,
    len: usize,
    pub(super) blocks: Vec<Block>,
}

#[derive(Clone)]
pub(super) struct Block {
    pub k: Part,
    pub v: Part,
}

impl PackedHead {
    /// No slots yet, for heads of `dim` values.
    pub fn new(dim: usize) -> PackedHead {
        PackedHead { dim, len: 0, blocks: Vec::new() }
    }

    /// Values of a key, and of a value.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Blocks held.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let parts: usize = self.blocks.iter().map(|block| block.k.bytes() + block.v.bytes()).sum();
        parts + self.blocks.capacity() * size_of::<Block>()
    }

    /// Codings of keys and values of a block.
    pub fn codings(&self, block: usize) -> (Coding, Coding) {
        (self.blocks[block].k.coding(), self.blocks[block].v.coding())
    }

    /// Stores a token in the next slot; a new block gets the codings given.
    ///
    /// # Panics
    /// If the shapes do not fit, or the last block is coded by channel and not full.
    pub fn push(&mut self, k: &[f32], v: &[f32], codings: (Coding, Coding)) {
        let (slot, at) = (self.len % BLOCK, self.next(codings));
        let block = &mut self.blocks[at];
        block.k.write(slot, k);
        block.v.write(slot, v);
        self.len += 1;
    }

    /// Stores a full block anew in other codings; from what it holds, so losses add up.
    ///
    /// # Panics
    /// If there is no such block, or it is not full.
    pub fn recode(&mut self, block: usize, codings: (Coding, Coding)) {
        assert!((block + 1) * BLOCK <= self.len, "block {block} of {} slots is not full", self.len);
        let dim = self.dim;
        let both = &mut self.blocks[block];
        for (part, coding, side) in [(&mut both.k, codings.0, Side::Keys), (&mut both.v, codings.1, Side::Values)] {
            if part.coding() != coding {
                let mut tokens = vec![0.0; BLOCK * dim];
                tokens.chunks_exact_mut(dim).enumerate().for_each(|(slot, x)| part.read(slot, x));
                *part = Part::new(coding, side, dim);
                part.write_block(&tokens);
            }
        }
    }

    /// Forgets the slots from `len` on. A block coded by channel that is no longer full is stored in `open`.
    pub fn truncate(&mut self, len: usize, open: (Coding, Coding)) {
        if len >= self.len {
            return;
        }
        let last = len / BLOCK;
        if !len.is_multiple_of(BLOCK) && !self.blocks[last].k.coding().by_token() {
            self.recode_open(last, open);
        }
        self.len = len;
        self.blocks.truncate(len.div_ceil(BLOCK));
    }

    fn recode_open(&mut self, block: usize, codings: (Coding, Coding)) {
        let mut whole = PackedHead { dim: self.dim, len: BLOCK, blocks: vec![self.blocks[block].clone()] };
        whole.recode(0, codings);
        if let Some(done) = whole.blocks.pop() {
            self.blocks[block] = done;
        }
    }

    /// The slots named, one after another: codes of the same coding are taken as they are. New blocks get the codings given.
    ///
    /// # Panics
    /// If one is not in use.
    pub fn kept(&self, slots: &[usize], codings: (Coding, Coding)) -> PackedHead {
        let mut kept =
            PackedHead { blocks: Vec::with_capacity(slots.len().div_ceil(BLOCK)), ..PackedHead::new(self.dim) };
        for &slot in slots {
            assert!(slot < self.len, "slot {slot} of {}", self.len);
            let from = &self.blocks[slot / BLOCK];
            let to = kept.next(codings);
            let at = kept.len % BLOCK;
            kept.blocks[to].k.take(at, &from.k, slot % BLOCK);
            kept.blocks[to].v.take(at, &from.v, slot % BLOCK);
            kept.len += 1;
        }
        kept
    }

    /// The block of the next slot.
    fn next(&mut self, codings: (Coding, Coding)) -> usize {
        if self.len / BLOCK == self.blocks.len() {
            let k = Part::new(codings.0, Side::Keys, self.dim);
            self.blocks.push(Block { k, v: Part::new(codings.1, Side::Values, self.dim) });
        }
        self.len / BLOCK
    }

    /// Reads a key back.
    ///
    /// # Panics
    /// If the slot is not in use, or `out` does not hold `dim` values.
    pub fn key(&self, slot: usize, out: &mut [f32]) {
        assert!(slot < self.len, "slot {slot} of {}", self.len);
        self.blocks[slot / BLOCK].k.read(slot % BLOCK, out);
    }

    /// Reads a value back.
    ///
    /// # Panics
    /// As [`PackedHead::key`].
    pub fn value(&self, slot: usize, out: &mut [f32]) {
        assert!(slot < self.len, "slot {slot} of {}", self.len);
        self.blocks[slot / BLOCK].v.read(slot % BLOCK, out);
    }
}
