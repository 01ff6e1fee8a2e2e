//! One head of a sequence: its tokens as they are stored, their positions, and what was learnt of their channels.

use crate::axes::Axes;
use crate::fit::Fit;
use crate::merging::Merged;
use crate::slots::Slots;
use crate::store::{Coding, Tiers};
use crate::{BLOCK, Store};
use brevity_kernels::attention::packed::{Feedback, PackedHead};
use brevity_kernels::math::double;
use brevity_kernels::{Matrix, hadamard};
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Head {
    pub stored: PackedHead,
    pub slots: Slots,
    /// Codings of its keys and values as they arrive.
    pub fresh: (Coding, Coding),
    /// How keys are moved and scaled before they are coded, known once the first block is full, or at the prompt's end, where the store does that.
    pub fit: Option<Arc<Fit>>,
    /// How errors of keys count, learnt from the queries of the first block, where the store asks for it.
    pub feedback: Option<Arc<Feedback>>,
    /// How values' channels are scaled before they are coded, where the store does that.
    pub values: Option<Arc<Fit>>,
    /// The axes that keys and values are turned to, where the store does that.
    pub axes: Option<Axes>,
    /// Codings of tokens that come after the prompt, where importance has decided about those before.
    pub after: Option<(Coding, Coding)>,
    /// Attention that each slot has got.
    pub attention: Vec<u64>,
}

impl Head {
    /// No tokens yet, for keys of `dim` values that are coded like this.
    pub fn new(dim: usize, fresh: (Coding, Coding)) -> Head {
        Head {
            stored: PackedHead::new(dim),
            slots: Slots::All(0),
            fresh,
            fit: None,
            feedback: None,
            values: None,
            axes: None,
            after: None,
            attention: Vec::new(),
        }
    }

    pub fn keep(&mut self, slots: &[usize], open: (Coding, Coding), merged: Vec<Merged>) {
        // What was merged comes in behind, and from there takes the places of what it replaces.
        let mut order = slots.to_vec();
        for token in merged {
            let slot = self.stored.len();
            order[token.at] = slot;
            self.stored.push(&token.key, &token.value, open);
            if token.tokens > 1 {
                self.stored.tilt(slot, double::ln(token.tokens as f64) as f32);
            }
        }
        self.stored = self.stored.kept(&order, open);
        self.slots.keep(slots);
        if !self.attention.is_empty() {
            self.attention = slots.iter().map(|&slot| self.attention[slot]).collect();
        }
    }

    /// Codings of tokens as they come.
    pub fn open(&self, store: &dyn Store) -> (Coding, Coding) {
        if let Some(after) = self.after {
            return after;
        }
        let (keys, values) = self.fresh;
        if store.centres() && self.fit.is_none() { (Coding::F16, values) } else { (keys, values) }
    }

    /// Whether its keys arrive in codes of so few bits that it pays to choose them well.
    pub fn few_bits(&self) -> bool {
        matches!(self.fresh.0, Coding::Token(bits) if bits < 8)
    }

    /// Keys as the model made them, less what they were fitted by.
    pub fn keys(&self, rotated: bool) -> Matrix {
        let (len, dim) = (self.stored.len(), self.stored.dim());
        let mut keys = Matrix::zeros(len, dim);
        for slot in 0..len {
            let key = keys.row_mut(slot);
            self.stored.key(slot, key);
            if rotated {
                hadamard::hadamard_blocks(key, hadamard::block(dim));
            }
        }
        keys
    }

    /// Stores every token anew with its key changed.
    pub fn restore(&mut self, rotated: bool, codings: (Coding, Coding), change: impl Fn(&mut [f32])) {
        let (mut keys, dim) = (self.keys(rotated), self.stored.dim());
        let mut values = Matrix::zeros(keys.rows(), dim);
        for slot in 0..keys.rows() {
            self.stored.value(slot, values.row_mut(slot));
            let key = keys.row_mut(slot);
            change(key);
            if rotated {
                hadamard::hadamard_blocks(key, hadamard::block(dim));
            }
        }
        let mut stored = PackedHead::new(dim);
        for (rows, slots) in stored.extend(keys.rows(), codings) {
            let rows = rows.start * dim..rows.end * dim;
            slots.write(&keys.data()[rows.clone()], &values.data()[rows], self.feedback.as_deref());
        }
        for slot in 0..keys.rows() {
            stored.tilt(slot, self.stored.tilted(slot));
        }
        self.stored = stored;
    }

    /// Gives keys their mean back, where the block that it was learnt from is no longer full.
    pub fn forget_centre(&mut self, rotated: bool, store: &dyn Store) {
        self.feedback = None;
        if let Some(fit) = self.fit.take() {
            let open = self.open(store);
            self.restore(rotated, open, |key| fit.undo(key));
        }
    }

    /// Stores tokens anew, those that matter less first and in fewer bits.
    pub fn tier(&mut self, tiers: &Tiers, read: usize) {
        let (len, dim) = (self.stored.len(), self.stored.dim());
        let positions: Vec<usize> = (0..len).map(|slot| self.slots.position(slot)).collect();
        self.attention.resize(len, 0);
        let (order, fallen) = tiers.order(&self.attention, &positions, read);
        let (mut keys, mut values) = (Matrix::zeros(len, dim), Matrix::zeros(len, dim));
        for (row, &slot) in order.iter().enumerate() {
            self.stored.key(slot, keys.row_mut(row));
            self.stored.value(slot, values.row_mut(row));
        }
        if tiers.separable && self.values.is_none() {
            for (rows, fit) in [(&mut keys, &mut self.fit), (&mut values, &mut self.values)] {
                let found = fit.insert(Arc::new(Fit::divided(&root_of_largest(rows))));
                (0..len).for_each(|row| found.key(rows.row_mut(row)));
            }
        }
        let coding = |bits: u8| (Coding::Token(bits), Coding::Token(bits));
        let mut stored = PackedHead::new(dim);
        // A block is coded as its first token is.
        for first in (0..len).step_by(BLOCK) {
            let rows = first * dim..len.min(first + BLOCK) * dim;
            let bits = if first < fallen { tiers.low } else { tiers.high };
            for (_, slots) in stored.extend(rows.len() / dim, coding(bits)) {
                slots.write(&keys.data()[rows.clone()], &values.data()[rows.clone()], self.feedback.as_deref());
            }
        }
        for (row, &slot) in order.iter().enumerate() {
            stored.tilt(row, self.stored.tilted(slot));
        }
        self.stored = stored;
        self.slots.keep(&order);
        self.attention = order.iter().map(|&slot| self.attention[slot]).collect();
        self.after = Some(coding(tiers.high));
    }

    /// Turns what is there to its principal axes.
    pub fn turn(&mut self, codings: (Coding, Coding)) {
        let (len, dim) = (self.stored.len(), self.stored.dim());
        let (mut keys, mut values) = (self.keys(false), Matrix::zeros(len, dim));
        (0..len).for_each(|slot| self.stored.value(slot, values.row_mut(slot)));
        let axes = self.axes.insert(Axes::of(&keys, &values));
        let mut stored = PackedHead::new(dim);
        for slot in 0..len {
            axes.key(keys.row_mut(slot));
            axes.value(values.row_mut(slot));
            stored.push(keys.row(slot), values.row(slot), codings);
            stored.tilt(slot, self.stored.tilted(slot));
        }
        self.stored = stored;
    }

    /// Bytes of memory that it holds and no head before it; `seen` remembers shared blocks.
    pub fn bytes(&self, seen: &mut HashSet<usize>) -> usize {
        let fits = self.fit.iter().chain(&self.values).filter(|fit| seen.insert(Arc::as_ptr(fit) as usize));
        let mut fit = fits.map(|fit| fit.bytes()).sum::<usize>() + self.axes.as_ref().map_or(0, Axes::bytes);
        let fresh = self.feedback.iter().filter(|feedback| seen.insert(Arc::as_ptr(feedback) as usize));
        fit += fresh.map(|feedback| feedback.bytes()).sum::<usize>();
        self.stored.bytes_beside(seen) + self.slots.bytes() + 8 * self.attention.capacity() + fit
    }
}

/// `√(max |x|)` of each channel; 1 where all are zero.
fn root_of_largest(rows: &Matrix) -> Vec<f32> {
    let mut most = vec![0.0f32; rows.cols()];
    for row in 0..rows.rows() {
        most.iter_mut().zip(rows.row(row)).for_each(|(most, x)| *most = most.max(x.abs()));
    }
    most.into_iter().map(|most| if most > 0.0 { most.sqrt() } else { 1.0 }).collect()
}
