//! What followed the last tokens before: contexts of one to six tokens, hashed.

/// Lengths of contexts, longest first.
pub const ORDERS: [usize; 5] = [6, 4, 3, 2, 1];
/// Counts that are told apart.
pub const COUNTS: usize = 16;

#[derive(Clone, Copy, Default)]
struct Slot {
    check: u16,
    count: u8,
    token: u32,
}

/// The tables of all lanes.
pub struct Ngrams {
    slots: Vec<Slot>,
    mask: usize,
}

/// What each order expects: a token, and how often it came in a row (0: nothing is expected).
#[derive(Clone, Copy, Default)]
pub struct Expected {
    pub token: [u32; ORDERS.len()],
    pub count: [u8; ORDERS.len()],
    place: [usize; ORDERS.len()],
    check: [u16; ORDERS.len()],
}

fn slots(tokens: usize) -> usize {
    tokens.saturating_mul(2 * ORDERS.len()).clamp(1 << 10, 1 << 22).next_power_of_two()
}

/// Bytes of the tables for so many tokens.
pub fn memory(tokens: usize) -> usize {
    slots(tokens) * size_of::<Slot>()
}

impl Ngrams {
    /// Tables for so many tokens.
    pub fn new(tokens: usize) -> Self {
        let slots = slots(tokens);
        Self { slots: vec![Slot::default(); slots], mask: slots - 1 }
    }

    /// Looks up what follows `history`.
    pub fn expect(&self, history: &[u32]) -> Expected {
        let mut out = Expected::default();
        let mut hash = 0x9E37_79B9_7F4A_7C15u64;
        let mut length = 0;
        for order in (0..ORDERS.len()).rev() {
            while length < ORDERS[order] {
                length += 1;
                let token = history
                    .len()
                    .checked_sub(length)
                    .and_then(|at| history.get(at))
                    .map_or(u64::MAX, |&t| u64::from(t));
                hash = (hash ^ token).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
                hash ^= hash >> 29;
            }
            let mixed = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
            out.place[order] = (mixed >> 20) as usize & self.mask;
            out.check[order] = (mixed >> 4) as u16 | 1;
            if let Some(slot) = self.slots.get(out.place[order]).filter(|slot| slot.check == out.check[order]) {
                (out.token[order], out.count[order]) = (slot.token, slot.count);
            }
        }
        out
    }

    /// Learns the token that came.
    pub fn learn(&mut self, expected: &Expected, token: u32) {
        for order in 0..ORDERS.len() {
            let Some(slot) = self.slots.get_mut(expected.place[order]) else { continue };
            let fits = slot.check == expected.check[order];
            match slot {
                Slot { count, token: held, .. } if fits && *held == token => {
                    *count = count.saturating_add(1).min(COUNTS as u8 - 1)
                }
                Slot { count, .. } if fits && *count > 3 => *count /= 2,
                _ => *slot = Slot { check: expected.check[order], count: 1, token },
            }
        }
    }
}
