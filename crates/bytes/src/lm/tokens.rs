//! Token mode: each lane's tokens, one after the other, behind a model.
//!
//! A token is coded in steps, each of which may end it:
//!
//! 1. What the n-grams are sure of is asked first, before the model is: where it comes, the model's head is not
//!    evaluated for this token (confidence skip); the model reads the token with the next one that it is asked about.
//! 2. The model's probabilities follow the text: its adaptive [head](super::head), then what all lanes have read ([recall](super::recall)).
//! 3. The likeliest token of the model and up to two that n-grams expect: a bit each, whose probability is mixed from the
//!    model's and from how often each order was right at this count.
//! 4. The others by the model: the bucket of 256 tokens, then the token, each in counts of 24 bits.
//!
//! Lanes share tables, weights and the stream, and take turns; those that wait for the model go through it as one batch.
//! The first lane is ahead: what it begins with is read by all others first.

use super::feed::{Ask, Feed};
use super::head::{BUCKET, Chances, Head, buckets};
use super::ngram::{COUNTS, Expected, Ngrams, ORDERS};
use super::predictor::Predictor;
use super::recall::Recall;
use brevity_coding::cdf::Quantiser;
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::{Logistic, MAX_STRETCH};
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::range::{Coder, Direction, Interval, MAX_BITS};
use brevity_coding::simd::Scalar;
use brevity_kernels::math;
use brevity_model::Result;

/// Tokens of the first lane that the others read.
pub const HEAD_START: usize = 384;
/// Candidates beside the model's own.
const GUESSES: usize = 2;
/// What n-grams must be sure of for the model not to be asked, in units of 2⁻¹⁶.
const SURE: u16 = 64_000;
/// What mixers learn by, as [`Mixer::learn`] takes it.
const RATE: i32 = 12;
/// What counters remember.
const EXPERIENCE: u32 = 250;

/// Log-odds of a probability in units of 1/256.
pub fn stretch(p: f32) -> i32 {
    let p = p.clamp(1e-7, 1.0 - 1e-7);
    (((math::ln(p) - math::ln(1.0 - p)) * 256.0) as i32).clamp(-MAX_STRETCH, MAX_STRETCH)
}

/// Whether a candidate came: a mix of what the model and the n-grams say of it.
struct Judge {
    /// Of each order and count: how often it was right.
    trust: Vec<[Counter; COUNTS]>,
    mixers: [Mixer<16>; 2],
    logistic: &'static Logistic,
    rates: Rates,
}

/// One question.
struct Question {
    inputs: [i32; 16],
    p: u32,
}

impl Judge {
    fn new() -> Self {
        let start = |count: usize| Counter::new((24_000 + 2400 * count) as u16);
        let mut mixers = [Mixer::new(4 * COUNTS * (ORDERS.len() + 1), 0), Mixer::new(4 * 32, 0)];
        mixers.iter_mut().for_each(|mixer| mixer.set_weight(0, ONE));
        Self {
            trust: vec![std::array::from_fn(start); ORDERS.len()],
            mixers,
            logistic: Logistic::get(),
            rates: Rates::get(),
        }
    }

    fn trust(&self, expected: &Expected, order: usize) -> u16 {
        self.trust[order][usize::from(expected.count[order]).min(COUNTS - 1)].p()
    }

    /// The question whether it is `token`; the model's share of what is left, where it was asked.
    fn ask(&mut self, token: u32, chance: Option<f32>, expected: &Expected, rank: usize) -> Question {
        let mut inputs = [0; 16];
        let (mut first, mut count) = (ORDERS.len(), 0);
        for order in (0..ORDERS.len()).rev() {
            if expected.count[order] == 0 {
                continue;
            }
            let said = i32::from(self.logistic.stretch(self.trust(expected, order)));
            if expected.token[order] == token {
                inputs[2 + order] = said;
                (first, count) = (order, usize::from(expected.count[order]).min(COUNTS - 1));
            } else {
                inputs[8 + order] = -said.max(0);
            }
        }
        let own = chance.map_or(0, stretch);
        inputs[0] = own;
        inputs[1] = 256;
        let rank = if chance.is_none() { 3 } else { rank.min(2) };
        let at = [(rank * COUNTS + count) * (ORDERS.len() + 1) + first, rank * 32 + ((own + 2048) >> 7) as usize];
        let mixed: i32 =
            self.mixers.iter_mut().zip(at).map(|(mixer, set)| mixer.mix::<Scalar>(&inputs, set, self.logistic)).sum();
        Question { inputs, p: u32::from(self.logistic.squash(mixed >> 1)) }
    }

    fn learn(&mut self, question: &Question, hit: u32) {
        for mixer in &mut self.mixers {
            mixer.learn::<Scalar>(&question.inputs, hit, RATE);
        }
    }

    /// The token is known: every order learns whether it was right.
    fn settle(&mut self, expected: &Expected, token: u32) {
        for order in 0..ORDERS.len() {
            let count = usize::from(expected.count[order]).min(COUNTS - 1);
            if count > 0 {
                self.trust[order][count].learn(u32::from(expected.token[order] == token), EXPERIENCE, self.rates);
            }
        }
    }
}

struct Lane<'a> {
    /// Where tokens come from, when they are encoded.
    given: &'a [u32],
    tokens: Vec<u32>,
    total: usize,
    expected: Expected,
    /// A token that was asked for and did not come.
    refused: Option<u32>,
    begun: bool,
    /// Bytes that its tokens stand for.
    bytes: usize,
}

/// What the lanes share.
struct Shared {
    ngrams: Ngrams,
    judge: Judge,
    head: Head,
    recall: Recall,
    chances: Chances,
    sums: Vec<f32>,
    quantiser: Quantiser,
    counts: Vec<u32>,
}

/// Codes lanes of tokens: `given` where they are encoded, as many as `totals` where they are decoded.
pub fn code(
    predictor: &Predictor,
    given: &[Vec<u32>],
    totals: &[usize],
    coder: &mut Direction<'_>,
    alive: &dyn Fn(usize) -> bool,
) -> Result<Vec<Vec<u32>>> {
    let vocabulary = predictor.model().config().vocab;
    let mut feed = Feed::new(predictor, totals.len());
    let lane = |at: usize| Lane {
        given: given.get(at).map_or(&[], Vec::as_slice),
        tokens: Vec::new(),
        total: totals[at],
        expected: Expected::default(),
        refused: None,
        begun: at == 0,
        bytes: 0,
    };
    let mut lanes: Vec<Lane<'_>> = (0..totals.len()).map(lane).collect();
    let mut shared = Shared {
        ngrams: Ngrams::new(totals.iter().sum()),
        judge: Judge::new(),
        head: Head::new(vocabulary),
        recall: Recall::new(vocabulary, totals.len(), totals.iter().sum()),
        chances: Chances::default(),
        sums: Vec::new(),
        quantiser: Quantiser::new(),
        counts: Vec::new(),
    };
    loop {
        begin(&mut lanes, &mut feed);
        let mut waiting = Vec::new();
        for (at, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.begun) {
            if shared.skip(lane, at, &mut feed, coder) {
                waiting.push(at);
            }
        }
        if waiting.is_empty() {
            if lanes.iter().all(|lane| lane.tokens.len() >= lane.total) {
                break;
            }
            continue;
        }
        let asks: Vec<Ask<'_>> = waiting.iter().map(|&lane| Ask { lane, tail: &[] }).collect();
        let logits = feed.evaluate(&asks)?;
        for (row, &at) in waiting.iter().enumerate() {
            let lane = &mut lanes[at];
            let token = shared.token(lane, at, logits.row(row), coder);
            shared.take(lane, at, token);
            lane.bytes += predictor.tokenizer().token_bytes(token).len();
            feed.push(at, &[token]);
        }
        if !alive(lanes.iter().map(|lane| lane.bytes).sum()) {
            break;
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.tokens).collect())
}

/// Once the first lane is ahead, or at its end, the others begin with what it began with.
fn begin(lanes: &mut [Lane<'_>], feed: &mut Feed<'_>) {
    let Some((first, others)) = lanes.split_first_mut() else { return };
    if first.tokens.len() < HEAD_START.min(first.total) {
        return;
    }
    for (at, lane) in others.iter_mut().enumerate().filter(|(_, lane)| !lane.begun) {
        lane.begun = true;
        feed.follow(at + 1);
    }
}

impl Shared {
    /// Codes what the n-grams are sure of; true where the model must be asked.
    fn skip(&mut self, lane: &mut Lane<'_>, at: usize, feed: &mut Feed<'_>, coder: &mut Direction<'_>) -> bool {
        while lane.tokens.len() < lane.total {
            lane.expected = self.ngrams.expect(&lane.tokens);
            lane.refused = None;
            let sure = (0..ORDERS.len()).find(|&order| lane.expected.count[order] > 0);
            let Some(order) = sure.filter(|&order| self.judge.trust(&lane.expected, order) >= SURE) else {
                return true;
            };
            let token = lane.expected.token[order];
            let question = self.judge.ask(token, None, &lane.expected, 0);
            let wanted = lane.given.get(lane.tokens.len()).copied();
            let hit = coder.code(u32::from(wanted == Some(token)), question.p);
            self.judge.learn(&question, hit);
            if hit == 0 {
                lane.refused = Some(token);
                return true;
            }
            self.take(lane, at, token);
            feed.push(at, &[token]);
        }
        false
    }

    /// Codes a token behind the model's logits.
    fn token(&mut self, lane: &Lane<'_>, at: usize, logits: &[f32], coder: &mut Direction<'_>) -> u32 {
        self.head.chances(logits, &mut self.chances);
        self.recall.correct(at, &lane.tokens, &mut self.chances.p);
        let wanted = lane.given.get(lane.tokens.len()).copied();
        let mut held = Vec::with_capacity(GUESSES + 2);
        let mut left = 1.0f32;
        if let Some(token) = lane.refused {
            left -= self.exclude(token, &mut held);
        }
        let best = buckets(&self.chances.p, &mut self.sums) as u32;
        let mut found = None;
        for (rank, token) in self.candidates(best, lane).into_iter().enumerate() {
            let chance = self.chances.p.get(token as usize).copied().unwrap_or(0.0);
            let question = self.judge.ask(token, Some(chance / left.max(chance).max(1e-9)), &lane.expected, rank);
            let hit = coder.code(u32::from(wanted == Some(token)), question.p);
            self.judge.learn(&question, hit);
            if hit == 1 {
                found = Some(token);
                break;
            }
            left -= self.exclude(token, &mut held);
        }
        let token = found.unwrap_or_else(|| self.rest(wanted, coder));
        for (token, p) in held {
            self.chances.p[token as usize] = p;
        }
        self.head.learn(logits, &self.chances, token as usize);
        self.recall.learn(token, &self.chances.p);
        token
    }

    /// Tokens that are asked for by name: the model's, then those of the longest contexts.
    fn candidates(&self, best: u32, lane: &Lane<'_>) -> Vec<u32> {
        let mut out = vec![best];
        for order in 0..ORDERS.len() {
            let token = lane.expected.token[order];
            let fresh = !out.contains(&token) && lane.refused != Some(token);
            if lane.expected.count[order] > 0 && fresh && out.len() <= GUESSES {
                out.push(token);
            }
        }
        out
    }

    /// Takes a token out; returns what it had.
    fn exclude(&mut self, token: u32, held: &mut Vec<(u32, f32)>) -> f32 {
        let Some(p) = self.chances.p.get_mut(token as usize) else { return 0.0 };
        let was = std::mem::take(p);
        held.push((token, was));
        was
    }

    /// One of the tokens that are left.
    fn rest(&mut self, wanted: Option<u32>, coder: &mut Direction<'_>) -> u32 {
        buckets(&self.chances.p, &mut self.sums);
        let sums = std::mem::take(&mut self.sums);
        let bucket = self.symbol(&sums, wanted.map(|token| token as usize / BUCKET), coder);
        self.sums = sums;
        let p = std::mem::take(&mut self.chances.p);
        let all = &p[(bucket * BUCKET).min(p.len())..((bucket + 1) * BUCKET).min(p.len())];
        let token = bucket * BUCKET + self.symbol(all, wanted.map(|token| token as usize % BUCKET), coder);
        self.chances.p = p;
        token as u32
    }

    /// Codes one of several by their weights, in counts of 24 bits.
    fn symbol(&mut self, weights: &[f32], wanted: Option<usize>, coder: &mut Direction<'_>) -> usize {
        let least: Vec<f32> = weights.iter().map(|&p| p.max(1e-20)).collect();
        if self.quantiser.quantise(&least, MAX_BITS, &mut self.counts).is_err() {
            return 0;
        }
        let counts = &self.counts;
        let interval =
            |symbol: usize| Interval::new(counts[symbol], counts[symbol + 1] - counts[symbol], MAX_BITS).ok();
        match coder {
            Direction::Encode(encoder) => {
                let symbol = wanted.unwrap_or(0).min(weights.len() - 1);
                if let Some(interval) = interval(symbol) {
                    encoder.encode(interval);
                }
                symbol
            }
            Direction::Decode(decoder) => {
                let value = decoder.peek(MAX_BITS);
                let symbol = counts.partition_point(|&c| c <= value).saturating_sub(1).min(weights.len() - 1);
                if let Some(interval) = interval(symbol) {
                    decoder.take(interval);
                }
                symbol
            }
        }
    }

    /// The token of a lane is known.
    fn take(&mut self, lane: &mut Lane<'_>, at: usize, token: u32) {
        self.recall.count(at, &lane.tokens, token);
        self.judge.settle(&lane.expected, token);
        self.ngrams.learn(&lane.expected, token);
        lane.tokens.push(token);
    }
}
