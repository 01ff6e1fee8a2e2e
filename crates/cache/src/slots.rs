//! Which position lies in which slot of a head.

use std::ops::Range;

/// The positions of a head's slots: rising, unless importance has put those of a prompt in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Slot i holds position i.
    All(usize),
    /// What is left of them.
    Some(Vec<u32>),
}

impl Slots {
    pub fn len(&self) -> usize {
        match self {
            Slots::All(len) => *len,
            Slots::Some(positions) => positions.len(),
        }
    }

    /// How many slots hold positions below `position`.
    pub fn before(&self, position: usize) -> usize {
        match self {
            Slots::All(len) => position.min(*len),
            Slots::Some(positions) => positions.partition_point(|&held| (held as usize) < position),
        }
    }

    /// What a query at `position` sees of them.
    pub fn seen(&self, position: usize, window: Option<usize>) -> Range<usize> {
        let start = window.map_or(0, |window| self.before((position + 1).saturating_sub(window)));
        start..self.before(position + 1)
    }

    pub fn position(&self, slot: usize) -> usize {
        match self {
            Slots::All(_) => slot,
            Slots::Some(positions) => positions[slot] as usize,
        }
    }

    /// The slots by position, where they do not lie so.
    pub fn rising(&self) -> Option<Vec<usize>> {
        let Slots::Some(positions) = self else { return None };
        if positions.is_sorted() {
            return None;
        }
        let mut order: Vec<usize> = (0..positions.len()).collect();
        order.sort_by_key(|&slot| positions[slot]);
        Some(order)
    }

    pub fn push(&mut self, positions: Range<usize>) {
        match self {
            Slots::All(len) => *len += positions.len(),
            Slots::Some(held) => held.extend(positions.map(|position| position as u32)),
        }
    }

    pub fn truncate(&mut self, slots: usize) {
        match self {
            Slots::All(len) => *len = slots.min(*len),
            Slots::Some(positions) => positions.truncate(slots),
        }
    }

    /// Keeps some slots.
    pub fn keep(&mut self, slots: &[usize]) {
        *self = Slots::Some(slots.iter().map(|&slot| self.position(slot) as u32).collect());
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        match self {
            Slots::All(_) => 0,
            Slots::Some(positions) => 4 * positions.capacity(),
        }
    }
}
