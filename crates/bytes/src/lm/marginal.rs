//! Bytes from a model of tokens.
//!
//! The model gives `P(t | t₁ … tₙ)` for tokens; what is wanted is the probability of the next byte behind the bytes so far, however
//! those may be cut into tokens. The bytes so far are covered by every sequence of tokens whose bytes begin with them and which is no
//! longer than that needs: all tokens but the last lie within the bytes, the last one reaches the end or beyond. With `W(t₁ … tₙ)`, the
//! product of the model's probabilities,
//!
//! ```text
//! P(b | bytes) = Σ over covers of bytes·b of W / Σ over covers of bytes of W
//! ```
//!
//! A [`Cover`] stands for all sequences that share all tokens but the last one, which is any of those that begin
//! with the bytes behind the others: a range of the sorted vocabulary. Where such a token ends exactly here, it may
//! be complete: a new cover begins behind it. So no mass is lost or counted twice, and the sum is exact but for one thing: covers
//! that hold less than `2^-prune` of the mass are dropped, and more than [`MOST`] are not kept. Both directions drop the
//! same ones. Probabilities are whole numbers in units of 2⁻⁴⁴ (at least one for each token), weights `f64`, each operation rounded by itself.

use super::feed::{Ask, Feed};
use super::predictor::Predictor;
use crate::cm::{Beside, Tree};
use brevity_kernels::softmax::softmax;
use brevity_model::{Error, Result};
use std::sync::Arc;

/// Covers of a lane at most.
const MOST: usize = 8;
/// Tokens that may be open at most.
const OPEN: usize = 64;
/// Units of probabilities.
const UNIT: f32 = (1u64 << 44) as f32;
/// What a byte that no token begins with still has.
const LEAST: f32 = 1e-7;

/// The vocabulary, sorted by bytes.
struct Lexicon {
    ids: Vec<u32>,
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Where the tokens begin that begin with each byte.
    first: [usize; 257],
}

impl Lexicon {
    fn new(predictor: &Predictor) -> Self {
        let tokenizer = predictor.tokenizer();
        let count = predictor.model().config().vocab as u32;
        let mut ids: Vec<u32> = (0..count).filter(|&id| predictor.speaks(id)).collect();
        ids.sort_by(|&a, &b| tokenizer.token_bytes(a).cmp(tokenizer.token_bytes(b)).then(a.cmp(&b)));
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for &id in &ids {
            bytes.extend_from_slice(tokenizer.token_bytes(id));
            starts.push(bytes.len() as u32);
        }
        let mut lexicon = Self { ids, bytes, starts, first: [0; 257] };
        let all = lexicon.ids.len();
        let mut first = [all; 257];
        for (byte, first) in first.iter_mut().enumerate().take(256) {
            *first = lexicon.split(0, all, |key| usize::from(key[0]) < byte);
        }
        lexicon.first = first;
        lexicon
    }

    fn key(&self, rank: usize) -> &[u8] {
        &self.bytes[self.starts[rank] as usize..self.starts[rank + 1] as usize]
    }

    /// The first rank from `low` to before `high` that is not `before`.
    fn split(&self, low: usize, high: usize, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.key(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Ranks of `span` whose byte at `depth` is this one.
    fn narrow(&self, (low, high): (usize, usize), depth: usize, byte: u8) -> (usize, usize) {
        if depth == 0 {
            return (self.first[usize::from(byte)], self.first[usize::from(byte) + 1]);
        }
        let start = self.split(low, high, |key| key[depth] < byte);
        (start, self.split(start, high, |key| key[depth] <= byte))
    }
}

/// Sequences that share all tokens but the last.
struct Cover {
    /// The tokens behind what is certain, the last one apart.
    tail: Vec<u32>,
    /// Their share of the mass.
    weight: f64,
    /// Sums of the probabilities of the sorted vocabulary behind them; nothing before the model was asked.
    sums: Option<Arc<Vec<u64>>>,
    /// What the last token may be: ranks, and the bytes of it that have come. It has more of them.
    span: (usize, usize),
    depth: usize,
}

impl Cover {
    fn new(tail: Vec<u32>, weight: f64, all: usize) -> Self {
        Self { tail, weight, sums: None, span: (0, all), depth: 0 }
    }

    /// The mass of some of its ranks.
    fn mass(&self, (low, high): (usize, usize)) -> f64 {
        let Some(sums) = &self.sums else { return self.weight };
        let total = sums.last().copied().unwrap_or(1).max(1);
        self.weight * ((sums[high] - sums[low]) as f64 / total as f64)
    }
}

/// Lanes of bytes behind a model of tokens.
pub struct Marginal<'m> {
    feed: Feed<'m>,
    lexicon: Lexicon,
    lanes: Vec<Vec<Cover>>,
    least: f64,
    begun: Vec<bool>,
    chances: Vec<f32>,
    failed: Option<Error>,
    alive: &'m dyn Fn(usize) -> bool,
    done: usize,
    stopped: bool,
}

impl<'m> Marginal<'m> {
    /// So many lanes; covers below `2^-prune` are dropped.
    pub fn new(predictor: &'m Predictor, lanes: usize, prune: u8, alive: &'m dyn Fn(usize) -> bool) -> Self {
        let lexicon = Lexicon::new(predictor);
        let all = lexicon.ids.len();
        Self {
            feed: Feed::new(predictor, lanes),
            lanes: (0..lanes).map(|_| vec![Cover::new(Vec::new(), 1.0, all)]).collect(),
            least: 1.0 / (1u64 << prune.min(50)) as f64,
            begun: (0..lanes).map(|lane| lane == 0).collect(),
            chances: Vec::new(),
            failed: None,
            alive,
            done: 0,
            stopped: false,
            lexicon,
        }
    }

    /// What went wrong meanwhile, or whether the caller ended it.
    pub fn finish(self) -> Result<bool> {
        self.failed.map_or(Ok(!self.stopped), Err)
    }

    /// Asks the model about covers that it was not asked about: one of each lane at a time.
    fn ask(&mut self, lanes: &[usize]) -> Result<()> {
        loop {
            let open = |lane: usize| self.lanes[lane].iter().position(|cover| cover.sums.is_none());
            let wanted: Vec<(usize, usize)> = lanes.iter().filter_map(|&lane| Some((lane, open(lane)?))).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            let covers = &self.lanes;
            let asks: Vec<Ask<'_>> =
                wanted.iter().map(|&(lane, cover)| Ask { lane, tail: &covers[lane][cover].tail }).collect();
            let logits = self.feed.evaluate(&asks)?;
            for (row, (lane, cover)) in wanted.into_iter().enumerate() {
                self.chances.clear();
                self.chances.extend_from_slice(logits.row(row));
                softmax(&mut self.chances);
                let mut sum = 0u64;
                let mut sums = Vec::with_capacity(self.lexicon.ids.len() + 1);
                sums.push(0);
                for &id in &self.lexicon.ids {
                    sum += (self.chances[id as usize] * UNIT) as u64 + 1;
                    sums.push(sum);
                }
                self.lanes[lane][cover].sums = Some(Arc::new(sums));
            }
        }
    }

    /// Moves a lane's covers on by a byte.
    fn advance(&mut self, lane: usize, byte: u8) {
        let all = self.lexicon.ids.len();
        let mut covers = Vec::new();
        for mut cover in std::mem::take(&mut self.lanes[lane]) {
            let (mut low, high) = self.lexicon.narrow(cover.span, cover.depth, byte);
            cover.depth += 1;
            while low < high && self.lexicon.key(low).len() == cover.depth {
                let weight = cover.mass((low, low + 1));
                if cover.tail.len() < OPEN {
                    let tail = [&cover.tail[..], &[self.lexicon.ids[low]]].concat();
                    covers.push(Cover::new(tail, weight, all));
                }
                low += 1;
            }
            if low < high {
                cover.span = (low, high);
                covers.push(cover);
            }
        }
        self.lanes[lane] = covers;
        self.prune(lane);
    }

    /// Drops what holds too little, and takes for certain what all agree on.
    fn prune(&mut self, lane: usize) {
        let covers = &mut self.lanes[lane];
        let mass = |cover: &Cover| cover.mass(cover.span);
        let total: f64 = covers.iter().map(mass).sum();
        let least = total * self.least;
        covers.retain(|cover| mass(cover) > least);
        covers.sort_by(|a, b| mass(b).total_cmp(&mass(a)));
        covers.truncate(MOST);
        if covers.is_empty() {
            covers.push(Cover::new(Vec::new(), 1.0, self.lexicon.ids.len()));
            return;
        }
        let total: f64 = covers.iter().map(mass).sum();
        let same = |at: usize| covers.iter().all(|cover| cover.tail.get(at).is_some_and(|&t| t == covers[0].tail[at]));
        let certain = (0..covers[0].tail.len()).take_while(|&at| same(at)).count();
        let tokens: Vec<u32> = covers[0].tail[..certain].to_vec();
        for cover in covers {
            cover.weight /= total;
            cover.tail.drain(..certain);
        }
        self.feed.push(lane, &tokens);
    }
}

impl Beside for Marginal<'_> {
    fn round(&mut self, lanes: &[usize]) {
        for &lane in lanes {
            if !std::mem::replace(&mut self.begun[lane], true) {
                self.feed.follow(lane);
            }
        }
        if self.failed.is_some() || self.stopped {
            return;
        }
        self.done += lanes.len();
        self.stopped = self.done % 64 < lanes.len() && !(self.alive)(self.done);
        self.failed = self.ask(lanes).err();
    }

    fn predict(&mut self, lane: usize, tree: &mut Tree) {
        let mut masses = [0.0f64; 256];
        for cover in self.lanes[lane].iter().filter(|cover| cover.sums.is_some()) {
            let (mut at, high) = cover.span;
            while at < high {
                let byte = self.lexicon.key(at)[cover.depth];
                let (_, end) = self.lexicon.narrow((at, high), cover.depth, byte);
                masses[usize::from(byte)] += cover.mass((at, end));
                at = end;
            }
        }
        for (leaf, mass) in tree[256..].iter_mut().zip(masses) {
            *leaf = mass as f32 + LEAST;
        }
        for node in (1..256).rev() {
            tree[node] = tree[2 * node] + tree[2 * node + 1];
        }
    }

    fn learn(&mut self, lane: usize, byte: u8) {
        if self.failed.is_none() && !self.stopped {
            self.advance(lane, byte);
        }
    }
}
