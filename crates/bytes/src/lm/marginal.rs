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
//! same ones. A cover counts 2⁻⁸ where the tokenizer would cut no text like this, as far as can be seen from two tokens: models hardly saw such cuts, and
//! each would be asked about. Where a byte comes that no cover foretells, what came behind the certain tokens is cut as the tokenizer cuts it. Probabilities are whole numbers in units of 2⁻⁴⁴ (at least one for each token), weights `f64`, each operation rounded by itself.
//!
//! What the model says of tokens follows the text as it does token by token: through the adaptive [head](super::head) and by what all lanes have
//! read ([recall](super::recall)), which learn from a token once all covers agree on it.

use super::feed::{Ask, Feed, OPEN, Reading};
use super::head::{Came, Chances, Head};
use super::predictor::Predictor;
use super::recall::{Correction, HISTORY, Recall};
use crate::cm::{Beside, Tree};
use brevity_kernels::{Isa, pool};
use brevity_model::tokenizer::Tokenizer;
use brevity_model::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Covers of a lane at most.
pub const MOST: usize = 8;
/// Open tokens of a cover that are learnt from: what was said before the others is forgotten.
const LEARNT: usize = 4;
/// What a cut counts that the tokenizer would not make.
const FOREIGN: f64 = 1.0 / 256.0;
/// Texts that may come behind two tokens.
const BEHIND: [&[u8]; 5] = [b"", b"a", b" a", b"\n", b"."];
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

/// What the model says of a token, as the text has corrected it.
struct Said {
    logits: Vec<f32>,
    chances: Chances,
    /// Which weights corrected it.
    active: Vec<(u32, u16)>,
    /// Sums of the probabilities of the sorted vocabulary.
    sums: Vec<u64>,
}

impl Said {
    fn new(logits: &[f32], lane: usize, history: &[u32], learnt: &Learnt, ids: &[u32], by: &mut Correction) -> Self {
        let mut chances = Chances::default();
        learnt.head.chances(logits, &mut chances);
        learnt.recall.correct(lane, history, &mut chances.p, by);
        let mut sum = 0u64;
        let mut sums = Vec::with_capacity(ids.len() + 1);
        sums.push(0);
        sums.extend(ids.iter().map(|&id| {
            sum += (chances.p[id as usize] * UNIT) as u64 + 1;
            sum
        }));
        Self { logits: logits.to_vec(), chances, active: by.active.clone(), sums }
    }
}

/// What the text has taught, all lanes together.
struct Learnt {
    head: Head,
    recall: Recall,
}

impl Learnt {
    /// A token came, of which this was said.
    fn learn(&mut self, said: &Said, token: u32) {
        let Said { logits, chances, active, .. } = said;
        self.head.learn(&[Came { logits, chances, token: token as usize }]);
        self.recall.learn(&Recall::gradient(token, &chances.p, active));
    }
}

/// Bytes that what was said takes for each token of the vocabulary, in one lane, at most.
pub const SAID: usize = MOST * (LEARNT + 1) * 16;

/// Bytes that what is known of cuts takes for each byte of the text, at most: a pair, in a table that may be half empty.
pub const CUTS: usize = 32;

/// Sequences that share all tokens but the last.
struct Cover {
    /// The tokens behind what is certain, the last one apart.
    tail: Vec<u32>,
    /// What was said before each of them, of the last ones.
    behind: Vec<Option<Arc<Said>>>,
    /// Their share of the mass.
    weight: f64,
    /// What is said behind them; nothing before the model was asked.
    said: Option<Arc<Said>>,
    /// What the last token may be: ranks, and the bytes of it that have come. It has more of them.
    span: (usize, usize),
    depth: usize,
    /// What the model has read of it; without what was said, of what it continues.
    reading: Option<Arc<Reading>>,
}

impl Cover {
    fn new(weight: f64, all: usize, reading: Option<Arc<Reading>>) -> Self {
        Self { tail: Vec::new(), behind: Vec::new(), weight, said: None, span: (0, all), depth: 0, reading }
    }

    /// The one behind a token that ends here.
    fn then(&self, token: u32, weight: f64, all: usize) -> Self {
        let tail = [&self.tail[..], &[token]].concat();
        let mut behind = self.behind.clone();
        behind.push(self.said.clone());
        if let Some(far) = behind.len().checked_sub(LEARNT + 1) {
            behind[far] = None;
        }
        Self { tail, behind, ..Self::new(weight, all, self.reading.clone()) }
    }

    /// The mass of some of its ranks.
    fn mass(&self, (low, high): (usize, usize)) -> f64 {
        let Some(Said { sums, .. }) = self.said.as_deref() else { return self.weight };
        let total = sums.last().copied().unwrap_or(1).max(1);
        self.weight * ((sums[high] - sums[low]) as f64 / total as f64)
    }
}

/// Which tokens follow which where the tokenizer cuts.
struct Cuts<'m> {
    tokenizer: &'m Tokenizer,
    known: HashMap<(u32, u32), bool>,
    /// Pairs that are remembered at most.
    most: usize,
}

impl Cuts<'_> {
    /// Whether the tokenizer cuts any text so that `next` comes behind `token`: tried with some texts behind the two, as cuts may hang on that.
    fn allow(&mut self, token: u32, next: u32) -> bool {
        let tokenizer = self.tokenizer;
        if self.known.len() >= self.most {
            self.known.clear();
        }
        *self.known.entry((token, next)).or_insert_with(|| {
            let pair = [tokenizer.token_bytes(token), tokenizer.token_bytes(next)].concat();
            BEHIND.iter().any(|behind| {
                let cut = tokenizer.encode_bytes(&[&pair[..], behind].concat(), false);
                cut.map_or(true, |cut| cut.starts_with(&[token, next]))
            })
        })
    }
}

/// Where a lane is.
struct Lane {
    covers: Vec<Cover>,
    /// The tokens that are certain, and the bytes behind them.
    certain: Vec<u32>,
    bytes: Vec<u8>,
    /// The last of these bytes, where covers have not seen it.
    owed: Option<u8>,
    begun: bool,
}

/// Lanes of bytes behind a model of tokens.
pub struct Marginal<'m> {
    predictor: &'m Predictor,
    feed: Feed<'m>,
    lexicon: Lexicon,
    cuts: Cuts<'m>,
    lanes: Vec<Lane>,
    learnt: Learnt,
    corrections: Vec<Correction>,
    least: f64,
    failed: Option<Error>,
    alive: &'m dyn Fn(usize) -> bool,
    done: usize,
    stopped: bool,
}

impl<'m> Marginal<'m> {
    /// Lanes of so many bytes; covers below `2^-prune` are dropped.
    pub fn new(predictor: &'m Predictor, lengths: &[usize], prune: u8, alive: &'m dyn Fn(usize) -> bool) -> Self {
        let (lexicon, lanes) = (Lexicon::new(predictor), lengths.len());
        let (all, vocabulary) = (lexicon.ids.len(), predictor.model().config().vocab);
        let feed = Feed::new(predictor, lanes);
        let lane = |lane| Lane {
            covers: vec![Cover::new(1.0, all, Some(Arc::new(feed.reading())))],
            certain: Vec::new(),
            bytes: Vec::new(),
            owed: None,
            begun: lane == 0,
        };
        Self {
            predictor,
            cuts: Cuts { tokenizer: predictor.tokenizer(), known: HashMap::new(), most: lengths.iter().sum() },
            lanes: (0..lanes).map(lane).collect(),
            feed,
            learnt: Learnt {
                head: Head::new(vocabulary),
                recall: Recall::new(vocabulary, lanes, lengths.iter().sum()),
            },
            corrections: Vec::new(),
            least: 1.0 / (1u64 << prune.min(50)) as f64,
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

    /// Asks the model about the covers that it was not asked about, all together.
    fn ask(&mut self, lanes: &[usize]) -> Result<()> {
        loop {
            let open = |lane: &usize| {
                let covers = self.lanes[*lane].covers.iter().enumerate().filter(|(_, cover)| cover.said.is_none());
                covers.map(|(cover, _)| (*lane, cover)).collect::<Vec<_>>()
            };
            let wanted: Vec<(usize, usize)> = lanes.iter().flat_map(open).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            self.say(&wanted)?;
            for &lane in lanes {
                if let Some(byte) = self.lanes[lane].owed.take() {
                    self.advance(lane, byte, false);
                }
            }
        }
    }

    /// What the model says behind some covers.
    fn say(&mut self, wanted: &[(usize, usize)]) -> Result<()> {
        let Self { lanes, feed, learnt, lexicon, corrections, .. } = self;
        let taken = wanted.iter().map(|&(lane, cover)| lanes[lane].covers[cover].reading.take());
        let mut readings: Vec<Reading> =
            taken.map(|reading| reading.map_or_else(|| feed.reading(), Arc::unwrap_or_clone)).collect();
        let asks = wanted.iter().zip(&mut readings);
        let asks = asks.map(|(&(lane, cover), reading)| Ask { lane, tail: &lanes[lane].covers[cover].tail, reading });
        let logits = feed.evaluate(asks.collect())?;
        if corrections.len() < wanted.len() {
            corrections.resize_with(wanted.len(), Correction::default);
        }
        let mut said: Vec<_> = corrections.iter_mut().take(wanted.len()).map(|by| (by, None)).collect();
        let isa = Isa::current();
        pool::parallel_chunks(&mut said, 1, |row, said| {
            let (lane, cover) = wanted[row];
            let Lane { certain, covers, .. } = &lanes[lane];
            let history = [&certain[certain.len().saturating_sub(HISTORY)..], &covers[cover].tail].concat();
            for (by, said) in said {
                let new = || Said::new(logits.row(row), lane, &history, learnt, &lexicon.ids, by);
                *said = Some(Arc::new(isa.with(new)));
            }
        });
        let said: Vec<Option<Arc<Said>>> = said.into_iter().map(|(_, said)| said).collect();
        for ((&(lane, cover), said), reading) in wanted.iter().zip(said).zip(readings) {
            let cover = &mut lanes[lane].covers[cover];
            (cover.said, cover.reading) = (said, Some(Arc::new(reading)));
        }
        Ok(())
    }

    /// Moves a lane's covers on by a byte.
    fn advance(&mut self, lane: usize, byte: u8, new: bool) {
        let all = self.lexicon.ids.len();
        let mut covers = Vec::new();
        let before = std::mem::take(&mut self.lanes[lane].covers);
        let reading = before.first().and_then(|cover| cover.reading.clone());
        for mut cover in before {
            let (mut low, high) = self.lexicon.narrow(cover.span, cover.depth, byte);
            cover.depth += 1;
            while low < high && self.lexicon.key(low).len() == cover.depth {
                let token = self.lexicon.ids[low];
                let last = cover.tail.last().or(self.lanes[lane].certain.last());
                let allowed = last.is_none_or(|&last| self.cuts.allow(last, token));
                let weight = cover.mass((low, low + 1)) * if allowed { 1.0 } else { FOREIGN };
                if cover.tail.len() < OPEN && weight > 0.0 {
                    covers.push(cover.then(token, weight, all));
                }
                low += 1;
            }
            if low < high {
                cover.span = (low, high);
                covers.push(cover);
            }
        }
        if covers.is_empty() {
            self.recover(lane, new.then_some(byte), reading);
            return;
        }
        self.lanes[lane].covers = covers;
        if new {
            self.lanes[lane].bytes.push(byte);
        }
        self.prune(lane);
    }

    /// No cover has foretold `byte`: what came before it is cut as the tokenizer cuts it. Without a byte, what came is given up.
    fn recover(&mut self, lane: usize, byte: Option<u8>, reading: Option<Arc<Reading>>) {
        let Self { lanes, predictor, feed, learnt, .. } = self;
        let Lane { covers, certain, bytes, owed, .. } = &mut lanes[lane];
        let canonical = byte.and_then(|_| super::exact_tokens(predictor, bytes));
        let reading = reading.and_then(|reading| feed.back(lane, Arc::unwrap_or_clone(reading)));
        let tokens = canonical.unwrap_or_default();
        feed.push(lane, &tokens);
        for token in tokens {
            learnt.recall.count(lane, certain, token);
            certain.push(token);
        }
        covers.push(Cover::new(1.0, self.lexicon.ids.len(), reading.map(Arc::new)));
        *owed = byte;
        bytes.clear();
        bytes.extend(byte);
    }

    /// Drops what holds too little, and takes for certain what all agree on.
    fn prune(&mut self, lane: usize) {
        let Self { lanes, feed, learnt, predictor, .. } = self;
        let Lane { covers, certain: known, bytes, .. } = &mut lanes[lane];
        let mass = |cover: &Cover| cover.mass(cover.span);
        let total: f64 = covers.iter().map(mass).sum();
        let least = total * self.least;
        covers.sort_by(|a, b| mass(b).total_cmp(&mass(a)));
        let held = covers.iter().take_while(|cover| mass(cover) > least).count();
        covers.truncate(held.clamp(1, MOST));
        let total: f64 = covers.iter().map(mass).sum();
        let same = |at: usize| covers.iter().all(|cover| cover.tail.get(at).is_some_and(|&t| t == covers[0].tail[at]));
        let certain = (0..covers[0].tail.len()).take_while(|&at| same(at)).count();
        let tokens: Vec<u32> = covers[0].tail[..certain].to_vec();
        let said: Vec<Option<Arc<Said>>> = covers[0].behind[..certain].to_vec();
        for cover in covers {
            cover.weight /= total;
            cover.tail.drain(..certain);
            cover.behind.drain(..certain);
        }
        feed.push(lane, &tokens);
        for (token, said) in tokens.into_iter().zip(said) {
            said.iter().for_each(|said| learnt.learn(said, token));
            learnt.recall.count(lane, known, token);
            known.push(token);
            bytes.drain(..predictor.tokenizer().token_bytes(token).len().min(bytes.len()));
        }
    }
}

impl Beside for Marginal<'_> {
    fn round(&mut self, lanes: &[usize]) {
        for &lane in lanes {
            if !std::mem::replace(&mut self.lanes[lane].begun, true) {
                self.feed.follow(lane);
                let reading = self.lanes[0].covers.first().and_then(|cover| cover.reading.clone());
                self.lanes[lane].covers.iter_mut().for_each(|cover| cover.reading = reading.clone());
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
        for cover in self.lanes[lane].covers.iter().filter(|cover| cover.said.is_some()) {
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
            self.advance(lane, byte, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brevity_model::ModelSource;
    use std::path::Path;
    use std::sync::LazyLock;

    static NANO: LazyLock<Predictor> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
        Predictor::load(&ModelSource::open(&path).unwrap(), "nano").unwrap()
    });
    const TEXT: &[u8] =
        b"The storm came from the west, 1851.\n\n  \"Zyxq! vv~~k,\" he said;\n\tthe captain's ships don't turn.\n";

    #[test]
    fn cuts_of_the_tokenizer_are_allowed_and_others_are_not() {
        let tokenizer = NANO.tokenizer();
        let mut cuts = Cuts { tokenizer, known: HashMap::new(), most: 4 };
        let tokens = tokenizer.encode_bytes(TEXT, false).unwrap();
        tokens.windows(2).for_each(|pair| assert!(cuts.allow(pair[0], pair[1]), "{pair:?}"));
        let one = |text: &[u8]| tokenizer.encode_bytes(text, false).unwrap()[0];
        for (a, b) in [(" t", "he"), ("th", "e"), (" ", "west")] {
            assert!(!cuts.allow(one(a.as_bytes()), one(b.as_bytes())), "{a:?} {b:?}");
        }
        assert!(cuts.known.len() <= 4);
    }

    /// Bits of the text, and what was made certain of it with what is open.
    fn told(prune: u8) -> (f64, Vec<u8>) {
        let mut marginal = Marginal::new(&NANO, &[TEXT.len()], prune, &|_| true);
        let (mut bits, mut tree) = (0.0, [0.0; 512]);
        for &byte in TEXT {
            marginal.round(&[0]);
            marginal.predict(0, &mut tree);
            bits -= f64::from(tree[256 + usize::from(byte)] / tree[1]).log2();
            marginal.learn(0, byte);
        }
        let Lane { certain, bytes, .. } = &marginal.lanes[0];
        (bits, [&NANO.tokenizer().decode_bytes(certain, false)[..], bytes].concat())
    }

    #[test]
    fn no_byte_is_lost_where_no_cover_foretells_it_and_more_covers_foretell_more() {
        let [(one, first), (few, second), (many, third)] = [0, 4, 12].map(told);
        assert!([first, second, third].iter().all(|text| text == TEXT));
        assert!(many < few && few < one, "{many} {few} {one}");
    }
}
