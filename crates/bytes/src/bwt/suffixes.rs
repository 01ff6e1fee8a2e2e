//! Suffix sorting by induction (G. Nong, S. Zhang, W. H. Chan, "Linear suffix array construction by almost pure induced
//! sorting", 2009): sort the suffixes that begin a fall after a rise (LMS), by naming the pieces between them and, where names repeat, by
//! sorting the string of names the same way; all others follow from them in two passes.

/// No suffix.
const NONE: u32 = u32::MAX;

/// A symbol of a text.
trait Symbol: Copy + Ord {
    fn index(self) -> usize;
}

impl Symbol for u8 {
    fn index(self) -> usize {
        usize::from(self)
    }
}

impl Symbol for u32 {
    fn index(self) -> usize {
        self as usize
    }
}

/// Which suffixes are smaller than their successors, a bit each.
struct Rising(Vec<u64>);

impl Rising {
    fn of<T: Symbol>(text: &[T]) -> Self {
        let mut bits = vec![0u64; text.len() / 64 + 1];
        let mut rising = false;
        for (at, pair) in text.windows(2).enumerate().rev() {
            rising = pair[0] < pair[1] || (pair[0] == pair[1] && rising);
            bits[at / 64] |= u64::from(rising) << (at % 64);
        }
        Self(bits)
    }

    #[inline(always)]
    fn at(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    /// Whether a rise begins here.
    #[inline(always)]
    fn is_lms(&self, place: usize) -> bool {
        place > 0 && self.at(place) && !self.at(place - 1)
    }
}

/// The order of all suffixes of at most 2³¹ bytes; a suffix that is the beginning of another comes first.
pub fn sort(text: &[u8]) -> Vec<u32> {
    sort_symbols(text, 256)
}

fn sort_symbols<T: Symbol>(text: &[T], symbols: usize) -> Vec<u32> {
    let length = text.len();
    if length < 2 {
        return (0..length as u32).collect();
    }
    let rising = Rising::of(text);
    let mut counts = vec![0u32; symbols];
    text.iter().for_each(|symbol| counts[symbol.index()] += 1);
    let starts: Vec<u32> = counts
        .iter()
        .scan(0, |sum, &count| {
            *sum += count;
            Some(*sum - count)
        })
        .collect();
    let lms: Vec<u32> = (1..length).filter(|&place| rising.is_lms(place)).map(|place| place as u32).collect();
    let mut order = vec![NONE; length];
    induce(text, &rising, &starts, &counts, &lms, &mut order);
    if !lms.is_empty() {
        let sorted = sort_lms(text, &rising, &lms, &mut order);
        order.fill(NONE);
        induce(text, &rising, &starts, &counts, &sorted, &mut order);
    }
    order
}

/// Puts the given LMS suffixes at the ends of their buckets in this order and induces all others.
fn induce<T: Symbol>(text: &[T], rising: &Rising, starts: &[u32], counts: &[u32], lms: &[u32], order: &mut [u32]) {
    let ends = || -> Vec<u32> { starts.iter().zip(counts).map(|(start, count)| start + count).collect() };
    let mut place = ends();
    for &suffix in lms.iter().rev() {
        let symbol = text[suffix as usize].index();
        place[symbol] -= 1;
        order[place[symbol] as usize] = suffix;
    }
    // Falling suffixes, from the front; the last one of the text comes before all of its bucket.
    let mut place = starts.to_vec();
    let last = text.len() - 1;
    let symbol = text[last].index();
    order[place[symbol] as usize] = last as u32;
    place[symbol] += 1;
    for at in 0..order.len() {
        let suffix = order[at];
        if suffix == NONE || suffix == 0 {
            continue;
        }
        let before = suffix as usize - 1;
        if !rising.at(before) {
            let symbol = text[before].index();
            order[place[symbol] as usize] = before as u32;
            place[symbol] += 1;
        }
    }
    // Rising suffixes, from the back.
    let mut place = ends();
    for at in (0..order.len()).rev() {
        let suffix = order[at];
        if suffix == NONE || suffix == 0 {
            continue;
        }
        let before = suffix as usize - 1;
        if rising.at(before) {
            let symbol = text[before].index();
            place[symbol] -= 1;
            order[place[symbol] as usize] = before as u32;
        }
    }
}

/// The LMS suffixes in their order, from an order of all suffixes by the pieces they begin with.
fn sort_lms<T: Symbol>(text: &[T], rising: &Rising, lms: &[u32], order: &mut [u32]) -> Vec<u32> {
    let mut kept = 0;
    for at in 0..order.len() {
        let suffix = order[at];
        if rising.is_lms(suffix as usize) {
            order[kept] = suffix;
            kept += 1;
        }
    }
    let (sorted, names) = order.split_at_mut(kept);
    // LMS places are two apart at least: half a place names one.
    names.fill(NONE);
    let (mut name, mut earlier) = (0u32, None);
    for &suffix in sorted.iter() {
        if earlier.is_some_and(|earlier| !same_piece(text, rising, earlier, suffix as usize)) {
            name += 1;
        }
        earlier = Some(suffix as usize);
        names[suffix as usize / 2] = name;
    }
    if name as usize + 1 == kept {
        return sorted.to_vec();
    }
    let string: Vec<u32> = names.iter().copied().filter(|&name| name != NONE).collect();
    sort_symbols(&string, name as usize + 1).into_iter().map(|rank| lms[rank as usize]).collect()
}

/// Whether the pieces from two LMS places to the next ones are the same.
fn same_piece<T: Symbol>(text: &[T], rising: &Rising, a: usize, b: usize) -> bool {
    let mut step = 0;
    loop {
        let (x, y) = (a + step, b + step);
        let (Some(p), Some(q)) = (text.get(x), text.get(y)) else { return false };
        if p != q || rising.at(x) != rising.at(y) {
            return false;
        }
        if step > 0 && (rising.is_lms(x) || rising.is_lms(y)) {
            return rising.is_lms(x) && rising.is_lms(y);
        }
        step += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8]) {
        let mut expected: Vec<u32> = (0..text.len() as u32).collect();
        expected.sort_by_key(|&at| &text[at as usize..]);
        assert_eq!(sort(text), expected);
    }

    #[test]
    fn small_texts_are_sorted() {
        for text in
            ["", "a", "aa", "ab", "ba", "mississippi", "abracadabra", "aaaaaaab", "baaaaaaa", "abababab", "cabbage"]
        {
            check(text.as_bytes());
        }
        check(&b"the same thing over and over. ".repeat(20));
    }

    proptest! {
        #[test]
        fn any_text_is_sorted(text in prop::collection::vec(any::<u8>(), 0..300), few in prop::collection::vec(0u8..3, 0..300)) {
            check(&text);
            check(&few);
        }
    }
}
