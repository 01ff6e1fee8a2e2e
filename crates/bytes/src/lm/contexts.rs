//! What followed each context, in tables of a fixed size.
//!
//! A context has a place of sixteen bytes within [`REACH`] of where its hash points, and behind it a chain of the tokens that followed, the
//! newest first. Where no place is free, or no link is left, nothing new is learnt: what is known goes on counting.

/// Places that are searched.
const REACH: usize = 8;
/// Contexts and links at most.
const MOST: usize = 1 << 20;
/// Tokens kept behind a context.
const FOLLOWERS: u32 = 256;
/// The end of a chain.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Context {
    key: u64,
    total: u32,
    first: u32,
}

/// A token that followed, and how often.
#[derive(Clone, Copy)]
struct Link {
    token: u32,
    count: u32,
    next: u32,
}

/// Contexts and what followed them.
pub struct Contexts {
    places: Vec<Context>,
    links: Vec<Link>,
    limit: usize,
}

/// Places and links for so many contexts.
fn room(contexts: usize) -> (usize, usize) {
    let limit = contexts.clamp(1 << 8, MOST);
    ((limit + limit / 2).next_power_of_two(), limit)
}

/// Bytes that tables for so many contexts take.
pub fn memory(contexts: usize) -> usize {
    let (places, links) = room(contexts);
    places * size_of::<Context>() + links * size_of::<Link>()
}

impl Contexts {
    /// Room for so many contexts, and as many followers together.
    pub fn new(contexts: usize) -> Self {
        let (places, limit) = room(contexts);
        let empty = Context { key: 0, total: 0, first: NONE };
        Self { places: vec![empty; places], links: Vec::with_capacity(limit), limit }
    }

    /// Where a context is, or could be.
    fn place(&self, key: u64) -> Option<usize> {
        let mask = self.places.len() - 1;
        let at = (key >> 20) as usize;
        (at..at + REACH).map(|at| at & mask).find(|&at| self.places[at].key == key || self.places[at].total == 0)
    }

    /// How often a context came, and what followed it how often; nothing if it is unknown.
    pub fn followers(&self, key: u64) -> Option<(u32, impl Iterator<Item = (u32, u32)>)> {
        let context = self.places[self.place(key)?];
        let chain = Chain { links: &self.links, next: context.first };
        (context.total > 0).then_some((context.total, chain))
    }

    /// A token followed a context.
    pub fn count(&mut self, key: u64, token: u32) {
        let Some(at) = self.place(key) else { return };
        let context = &mut self.places[at];
        context.key = key;
        context.total = context.total.saturating_add(1);
        let (mut at, mut followers) = (context.first, 0);
        while let Some(link) = self.links.get_mut(at as usize) {
            if link.token == token {
                link.count = link.count.saturating_add(1);
                return;
            }
            at = link.next;
            followers += 1;
        }
        if self.links.len() < self.limit && followers < FOLLOWERS {
            let new = self.links.len() as u32;
            self.links.push(Link { token, count: 1, next: context.first });
            context.first = new;
        }
    }
}

struct Chain<'a> {
    links: &'a [Link],
    next: u32,
}

impl Iterator for Chain<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let link = self.links.get(self.next as usize)?;
        self.next = link.next;
        Some((link.token, link.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn hash(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    }

    #[test]
    fn what_fits_is_counted_exactly() {
        let mut contexts = Contexts::new(1000);
        let mut known: HashMap<(u64, u32), u32> = HashMap::new();
        for n in 0..5000u64 {
            let (key, token) = (hash(n * n % 101), (n % 7) as u32);
            contexts.count(key, token);
            *known.entry((key, token)).or_default() += 1;
        }
        for (&(key, token), &count) in &known {
            let (total, mut followers) = contexts.followers(key).unwrap();
            assert_eq!(total, known.iter().filter(|((k, _), _)| *k == key).map(|(_, &count)| count).sum::<u32>());
            assert!(followers.any(|follower| follower == (token, count)), "{key} {token} {count}");
        }
        assert!(contexts.followers(hash(1 << 40)).is_none());
    }

    #[test]
    fn no_text_makes_them_grow() {
        let mut contexts = Contexts::new(500);
        let held = |c: &Contexts| c.places.capacity() * size_of::<Context>() + c.links.capacity() * size_of::<Link>();
        let before = held(&contexts);
        assert_eq!(before, memory(500));
        for n in 0..200_000u64 {
            contexts.count(hash(n), n as u32);
            contexts.count(hash(n % 5), n as u32);
        }
        assert_eq!(held(&contexts), before);
        let (total, followers) = contexts.followers(hash(3)).unwrap();
        assert!(total >= 40_000 && followers.count() <= FOLLOWERS as usize);
        assert!(memory(usize::MAX) <= 64 << 20);
    }
}
