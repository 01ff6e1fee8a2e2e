//! Sequences that begin alike hold what they have in common once.
//!
//! The first layer of sequential KV compression (a trie of prefixes over sessions): keys and values of a token depend on the tokens before it
//! alone, so two texts with a common prefix have the same blocks there. A [`Prefixes`] is a trie over tokens whose edges are runs of
//! them; a text that comes takes the blocks of its longest known prefix and writes what follows into blocks of its own. Blocks are
//! counted by who holds them, and one that is shared is copied when somebody writes to it.
//!
//! A prefix is shared from its 64th token on (until then integer stores have not learnt their mean), and the state it gives is that
//! of a cache that has read it, bit for bit. So stores must treat tokens one by one: what recodes blocks as they age, drops tokens or reorders them
//! is refused.

use crate::{BLOCK, Cache, Error, Spec};
use brevity_model::Config;
use brevity_model::cache::KvCache;
use std::collections::{BTreeMap, HashSet};

/// Caches of texts, by their tokens.
pub struct Prefixes {
    root: Node,
    empty: Cache,
}

#[derive(Default)]
struct Node {
    /// Tokens on the way here from the node above.
    tokens: Vec<u32>,
    /// The cache of a text that ends here.
    cache: Option<Cache>,
    children: BTreeMap<u32, Node>,
}

impl Prefixes {
    /// None yet, for caches of `capacity` tokens at most.
    ///
    /// # Errors
    /// As [`Spec::cache`], and if the composition does not leave tokens as they are.
    pub fn new(spec: &Spec, config: &Config, capacity: usize) -> Result<Prefixes, Error> {
        Prefixes::of(spec.cache(config, capacity)?)
    }

    /// None yet, of caches like an empty one.
    ///
    /// # Errors
    /// If its composition does not leave tokens as they are.
    pub fn of(empty: Cache) -> Result<Prefixes, Error> {
        let spec = empty.spec();
        let changes = spec.selection().is_some() || spec.merging().is_some();
        if changes || spec.store().ages() || spec.store().tiers().is_some() {
            return Err(Error::Unshared { spec: spec.to_string() });
        }
        Ok(Prefixes { root: Node::default(), empty })
    }

    /// A cache that has read as much of a text as is known of it: [`KvCache::len`] says how much.
    ///
    /// # Errors
    /// If the cache cannot go back to that length.
    pub fn begin(&self, tokens: &[u32]) -> brevity_model::error::Result<Cache> {
        let (node, common) = self.root.longest(tokens, 0);
        match node.any().filter(|_| common >= BLOCK) {
            Some(known) => {
                let mut cache = known.clone();
                cache.truncate(common)?;
                Ok(cache)
            }
            None => Ok(self.empty.clone()),
        }
    }

    /// Keeps what a cache has read, for texts that begin with the same tokens; its blocks are shared, not copied.
    ///
    /// # Errors
    /// If the cache has read another number of tokens.
    pub fn keep(&mut self, tokens: &[u32], cache: &Cache) -> Result<(), Error> {
        if cache.len() != tokens.len() {
            let (found, expected) = (tokens.len(), format!("{}, as the cache has read", cache.len()));
            return Err(Error::Argument { what: "tokens of a prefix", found, expected });
        }
        self.root.insert(tokens, cache.clone());
        Ok(())
    }

    /// Bytes of memory that all kept caches hold, shared blocks counted once; `seen` remembers what was counted.
    pub fn bytes_beside(&self, seen: &mut HashSet<usize>) -> u64 {
        self.root.bytes(seen)
    }
}

/// How many tokens two texts begin with alike.
fn alike(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Node {
    /// The node below which texts have the longest common prefix with `tokens`, and its length.
    fn longest(&self, tokens: &[u32], above: usize) -> (&Node, usize) {
        let Some(child) = tokens.first().and_then(|first| self.children.get(first)) else { return (self, above) };
        let common = alike(&child.tokens, tokens);
        match common == child.tokens.len() {
            true => child.longest(&tokens[common..], above + common),
            false => (child, above + common),
        }
    }

    /// The cache of some text that begins as this node says.
    fn any(&self) -> Option<&Cache> {
        self.cache.as_ref().or_else(|| self.children.values().find_map(Node::any))
    }

    fn insert(&mut self, tokens: &[u32], cache: Cache) {
        let Some(&first) = tokens.first() else {
            self.cache = Some(cache);
            return;
        };
        let child = self.children.entry(first).or_insert_with(|| Node { tokens: tokens.to_vec(), ..Node::default() });
        let common = alike(&child.tokens, tokens);
        if common < child.tokens.len() {
            let below = child.tokens.split_off(common);
            let lower =
                Node { tokens: below, cache: child.cache.take(), children: std::mem::take(&mut child.children) };
            child.children.insert(lower.tokens[0], lower);
        }
        child.insert(&tokens[common..], cache);
    }

    fn bytes(&self, seen: &mut HashSet<usize>) -> u64 {
        let own = self.cache.as_ref().map_or(0, |cache| cache.bytes_beside(seen)) + 4 * self.tokens.capacity() as u64;
        own + self.children.values().map(|child| child.bytes(seen)).sum::<u64>()
    }
}
