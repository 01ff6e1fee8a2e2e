//! The transform by induced sorting (G. Nong, S. Zhang, W. H. Chan, "Linear suffix array construction by almost pure induced
//! sorting", 2009).
//!
//! A suffix *falls* if it is greater than the one that follows it, else it *rises*; the last one falls. Sort the suffixes where a rise
//! begins behind a fall (LMS): by naming the pieces between them and, where names repeat, by sorting the string of names the same way.
//! All others follow from them in two passes: the falling ones from the front, the rising ones from the back.
//!
//! A pass looks at each place of the order once and, where the suffix before the one that stands there is of its kind, puts that one at the edge of its
//! bucket. Whether it is, was seen when the suffix came to its place, as its neighbours in the text were at hand ([`DONE`] says that it is
//! not): so each suffix costs one look at a far place of the text, which is asked for ahead. A suffix that has had its turn is not needed any more:
//! the last two passes leave the byte before it in its place, which is the transform.

use crate::pages::Pages;
use brevity_coding::simd::prefetch;

/// Set where the pass at work has nothing to do for a suffix.
const DONE: u32 = 1 << 31;

/// Places ahead of the pass whose texts are asked for.
const AHEAD: usize = 24;

/// A symbol of a text.
trait Symbol: Copy + Ord + Sized {
    /// Whether there are so many that their buckets are out of the cache.
    const MANY: bool;
    fn index(self) -> usize;

    /// Whether so many symbols are the same at two places; not where one has fewer.
    #[inline(always)]
    fn same(text: &[Self], a: usize, b: usize, length: usize) -> bool {
        let of = |from: usize| text.get(from..from.saturating_add(length));
        matches!((of(a), of(b)), (Some(x), Some(y)) if x == y)
    }
}

impl Symbol for u8 {
    const MANY: bool = false;
    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self)
    }

    #[inline(always)]
    fn same(text: &[u8], a: usize, b: usize, length: usize) -> bool {
        let eight =
            |from: usize| text.get(from..).and_then(|rest| rest.first_chunk()).map(|it| u64::from_le_bytes(*it));
        match (eight(a), eight(b)) {
            // Most pieces are short.
            (Some(x), Some(y)) if length <= 8 => (x ^ y) << (64 - 8 * length) == 0,
            _ => {
                matches!((text.get(a..a.saturating_add(length)), text.get(b..b.saturating_add(length))), (Some(x), Some(y)) if x == y)
            }
        }
    }
}

impl Symbol for u32 {
    const MANY: bool = true;
    #[inline(always)]
    fn index(self) -> usize {
        self as usize
    }
}

/// What two passes are for: what they leave in the places that they have looked at.
trait Goal<T> {
    /// Of a suffix behind a falling one that was put to its place: for the pass from the back.
    fn behind_fall(&self, suffix: u32, before: T) -> u32;
    /// Of a suffix behind a rising one that was put to its place.
    fn behind_rise(&mut self, at: usize, suffix: u32, before: T) -> u32;
    /// Of a place without work for the pass from the back.
    fn passed(&mut self, at: usize, entry: u32) -> u32;
    /// Of a rising suffix behind a falling one.
    fn lms(&self, suffix: u32, before: T) -> u32;
    /// A suffix came to its place.
    fn placed(&mut self, suffix: u32, row: u32);
}

/// The order of the pieces: LMS suffixes, with [`DONE`], zeros between them.
struct Pieces;

impl<T> Goal<T> for Pieces {
    #[inline(always)]
    fn behind_fall(&self, _: u32, _: T) -> u32 {
        0
    }
    #[inline(always)]
    fn behind_rise(&mut self, _: usize, _: u32, _: T) -> u32 {
        0
    }
    #[inline(always)]
    fn passed(&mut self, _: usize, entry: u32) -> u32 {
        entry
    }
    #[inline(always)]
    fn lms(&self, suffix: u32, _: T) -> u32 {
        suffix | DONE
    }
    #[inline(always)]
    fn placed(&mut self, _: u32, _: u32) {}
}

/// The order of all suffixes.
struct Order;

impl<T> Goal<T> for Order {
    #[inline(always)]
    fn behind_fall(&self, suffix: u32, _: T) -> u32 {
        suffix | DONE
    }
    #[inline(always)]
    fn behind_rise(&mut self, _: usize, suffix: u32, _: T) -> u32 {
        suffix
    }
    #[inline(always)]
    fn passed(&mut self, _: usize, entry: u32) -> u32 {
        entry & !DONE
    }
    #[inline(always)]
    fn lms(&self, suffix: u32, _: T) -> u32 {
        suffix | DONE
    }
    #[inline(always)]
    fn placed(&mut self, _: u32, _: u32) {}
}

/// The byte before each suffix, and the rows of every `2^step`-th one.
struct Before {
    bytes: Vec<u8>,
    step: u32,
    rows: Vec<u32>,
}

impl Goal<u8> for Before {
    #[inline(always)]
    fn behind_fall(&self, _: u32, before: u8) -> u32 {
        u32::from(before) | DONE
    }
    #[inline(always)]
    fn behind_rise(&mut self, at: usize, _: u32, before: u8) -> u32 {
        self.bytes[at] = before;
        0
    }
    #[inline(always)]
    fn passed(&mut self, at: usize, entry: u32) -> u32 {
        self.bytes[at] = entry as u8;
        0
    }
    #[inline(always)]
    fn lms(&self, _: u32, before: u8) -> u32 {
        u32::from(before) | DONE
    }
    #[inline(always)]
    fn placed(&mut self, suffix: u32, row: u32) {
        if suffix & ((1 << self.step) - 1) == 0 {
            self.rows[(suffix >> self.step) as usize] = row;
        }
    }
}

/// The byte before each suffix (of the whole text: the last byte) in their order, where a suffix that is the beginning of another comes
/// first, and the places of the suffixes 0, `2^step`, 2 · `2^step`, … of at most 2³¹ − 1 bytes.
pub fn transform(text: &[u8], step: u32) -> (Vec<u8>, Vec<u32>) {
    let Some(&last) = text.last() else { return Default::default() };
    let mut large = Pages::new(text.len());
    large.copy_from_slice(text);
    let text = &large[..];
    let mut goal = Before { bytes: vec![0; text.len()], step, rows: vec![0; text.len().div_ceil(1 << step)] };
    let mut order = Pages::new(text.len());
    let starts = starts(text, 256);
    sort_lms(text, &starts, &mut order);
    fall(text, starts[..256].to_vec(), &mut order, &mut goal);
    rise(text, starts[1..].to_vec(), &mut order, &mut goal);
    goal.bytes[goal.rows[0] as usize] = last;
    (goal.bytes, goal.rows)
}

/// Sorts all suffixes into `order`, which is as long as the text.
fn sort(text: &[u32], symbols: usize, order: &mut [u32]) {
    let starts = starts(text, symbols);
    order.fill(0);
    sort_lms(text, &starts, order);
    fall(text, starts[..symbols].to_vec(), order, &mut Order);
    rise(text, starts[1..].to_vec(), order, &mut Order);
}

/// Where the bucket of each symbol begins, and the end of the last.
fn starts<T: Symbol>(text: &[T], symbols: usize) -> Vec<u32> {
    let mut starts = vec![0; symbols + 1];
    text.iter().for_each(|symbol| starts[symbol.index() + 1] += 1);
    for at in 0..symbols {
        starts[at + 1] += starts[at];
    }
    starts
}

/// The places where a rise begins behind a fall, in the order of the text.
fn lms_of<T: Symbol>(text: &[T]) -> Vec<u32> {
    let mut found = vec![0; text.len() / 2 + 1];
    let (mut count, mut low, mut fell) = (0, 0, false);
    for (at, pair) in text.windows(2).enumerate() {
        let (falls, rises) = (pair[0] > pair[1], pair[0] < pair[1]);
        found[count] = low;
        count += usize::from(rises && fell);
        low = if falls { at as u32 + 1 } else { low };
        fell = falls || (fell && !rises);
    }
    found.truncate(count);
    found
}

/// Leaves the LMS suffixes in their order at the ends of their buckets, and zeros everywhere else.
fn sort_lms<T: Symbol>(text: &[T], starts: &[u32], order: &mut [u32]) {
    let lms = lms_of(text);
    let mut place = starts[1..].to_vec();
    for &suffix in &lms {
        let slot = &mut place[text[suffix as usize].index()];
        *slot -= 1;
        order[*slot as usize] = suffix;
    }
    let many: Vec<u32> = starts[1..].iter().zip(&place).map(|(end, place)| end - place).collect();
    drop(place);
    if lms.len() < 2 {
        return;
    }
    fall(text, starts[..starts.len() - 1].to_vec(), order, &mut Pieces);
    rise(text, starts[1..].to_vec(), order, &mut Pieces);
    let mut kept = 0;
    for at in 0..order.len() {
        let entry = order[at];
        order[kept] = entry & !DONE;
        kept += usize::from(entry & DONE != 0);
    }
    let names = name(text, &lms, order);
    if names < lms.len() {
        let (low, string) = order.split_at_mut(text.len() - lms.len());
        let low = &mut low[..lms.len()];
        sort(string, names, low);
        low.iter_mut().for_each(|rank| *rank = lms[*rank as usize]);
    }
    spread(starts, &many, lms.len(), order);
}

/// Names the pieces by their order, which is at the front: the string of names comes to the end. How many names there are.
fn name<T: Symbol>(text: &[T], lms: &[u32], order: &mut [u32]) -> usize {
    let (sorted, names) = order.split_at_mut(lms.len());
    // LMS places are two apart at least: half a place stands for one. First the length of its piece, then its name.
    for pair in lms.windows(2) {
        names[pair[0] as usize / 2] = pair[1] - pair[0] + 1;
    }
    let last = lms[lms.len() - 1];
    names[last as usize / 2] = u32::MAX;
    let (mut name, mut earlier, mut length) = (0, 0, 0);
    for (at, &suffix) in sorted.iter().enumerate() {
        let ahead = sorted.get(at + AHEAD).copied().unwrap_or(0) as usize;
        prefetch(names, ahead / 2);
        prefetch(text, ahead);
        let slot = &mut names[suffix as usize / 2];
        let same = *slot == length && T::same(text, earlier as usize, suffix as usize, length as usize);
        name += u32::from(!same);
        (earlier, length) = (suffix, *slot);
        *slot = name - 1;
    }
    let start = order.len() - lms.len();
    for (at, &suffix) in lms.iter().enumerate().rev() {
        order[start + at] = order[lms.len() + suffix as usize / 2];
    }
    name as usize
}

/// Moves the sorted suffixes at the front to the ends of their buckets, of which each takes so `many`.
fn spread(starts: &[u32], many: &[u32], sorted: usize, order: &mut [u32]) {
    order[sorted..].fill(0);
    let mut from = sorted;
    for (&end, &many) in starts[1..].iter().zip(many).rev() {
        for row in (end - many..end).rev() {
            from -= 1;
            let suffix = std::mem::take(&mut order[from]);
            order[row as usize] = suffix;
        }
    }
}

/// Asks for what the pass will want of this place; `place` are the edges of the buckets.
#[inline(always)]
fn hint<T: Symbol>(text: &[T], place: &[u32], order: &[u32], near: usize, far: usize) {
    // Branches would be mispredicted: what has nothing to do asks for the beginning of the text.
    let before = |at: usize| {
        let entry = order.get(at).copied().unwrap_or(0);
        (entry & !((entry as i32 >> 31) as u32)).saturating_sub(1) as usize
    };
    prefetch(text, before(far));
    if T::MANY {
        prefetch(place, text[before(near)].index());
    }
}

/// Puts falling suffixes to the fronts of their buckets, from the front; those at work in `order` are the LMS ones, at the ends.
#[inline(always)]
fn fall<T: Symbol, G: Goal<T>>(text: &[T], mut place: Vec<u32>, order: &mut [u32], goal: &mut G) {
    let put = |place: &mut [u32], order: &mut [u32], goal: &mut G, suffix: u32, symbol: T| {
        let slot = &mut place[symbol.index()];
        let row = *slot;
        *slot += 1;
        let rises = suffix == 0 || text[suffix as usize - 1] < symbol;
        order[row as usize] = suffix | if rises { DONE } else { 0 };
        goal.placed(suffix, row);
    };
    let last = text.len() - 1;
    put(&mut place, order, goal, last as u32, text[last]);
    for at in 0..order.len() {
        hint(text, &place, order, at + AHEAD, at + 2 * AHEAD);
        let entry = order[at];
        if entry as i32 <= 0 {
            order[at] = entry & !DONE;
            continue;
        }
        let before = text[entry as usize - 1];
        order[at] = goal.behind_fall(entry, before);
        put(&mut place, order, goal, entry - 1, before);
    }
}

/// Puts rising suffixes to the ends of their buckets, from the back.
#[inline(always)]
fn rise<T: Symbol, G: Goal<T>>(text: &[T], mut place: Vec<u32>, order: &mut [u32], goal: &mut G) {
    for at in (0..order.len()).rev() {
        hint(text, &place, order, at.wrapping_sub(AHEAD), at.wrapping_sub(2 * AHEAD));
        let entry = order[at];
        if entry as i32 <= 0 {
            order[at] = goal.passed(at, entry);
            continue;
        }
        let (suffix, before) = (entry - 1, text[entry as usize - 1]);
        order[at] = goal.behind_rise(at, entry, before);
        let slot = &mut place[before.index()];
        *slot -= 1;
        let row = *slot;
        order[row as usize] = match suffix.checked_sub(1).map(|earlier| text[earlier as usize]) {
            Some(earlier) if earlier <= before => suffix,
            Some(earlier) => goal.lms(suffix, earlier),
            None => 0,
        };
        goal.placed(suffix, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8]) {
        let mut expected: Vec<usize> = (0..text.len()).collect();
        expected.sort_by_key(|&at| &text[at..]);
        let (bytes, rows) = transform(text, 3);
        let before = expected.iter().map(|&at| text[at.checked_sub(1).unwrap_or(text.len() - 1)]);
        assert!(bytes.iter().copied().eq(before), "{text:?}");
        assert_eq!(rows.len(), text.len().div_ceil(8));
        assert!(rows.iter().enumerate().all(|(n, &row)| expected[row as usize] == 8 * n));
    }

    #[test]
    fn small_texts_are_sorted() {
        for text in
            ["", "a", "aa", "ab", "ba", "mississippi", "abracadabra", "aaaaaaab", "baaaaaaa", "abababab", "cabbage"]
        {
            check(text.as_bytes());
        }
        check(&b"the same thing over and over. ".repeat(20));
        check(&[b'a'; 1000]);
        check(&b"ab".repeat(300));
    }

    #[test]
    fn strings_of_names_have_names_themselves() {
        // Words of Fibonacci: each is the last two, joined; their pieces repeat at every level.
        let (mut short, mut long) = (b"a".to_vec(), b"ab".to_vec());
        while long.len() < 3000 {
            let both = [&long[..], &short].concat();
            short = std::mem::replace(&mut long, both);
        }
        check(&long);
    }

    proptest! {
        #[test]
        fn any_text_is_sorted(text in prop::collection::vec(any::<u8>(), 0..300), few in prop::collection::vec(0u8..3, 0..300)) {
            check(&text);
            check(&few);
        }
    }
}
