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

use super::feed::{Ask, Feed, Reading};
use super::head::{BUCKET, Came, Chances, Head, bucket_sum, buckets};
use super::ngram::{COUNTS, Expected, Ngrams, ORDERS};
use super::predictor::Predictor;
use super::recall::{Correction, Gradient, Recall};
use brevity_coding::cdf::Quantiser;
use brevity_coding::counter::{Counter, Rates};
use brevity_coding::logistic::{Logistic, MAX_STRETCH};
use brevity_coding::mixer::{Mixer, ONE};
use brevity_coding::range::{Coder, Direction, Interval, MAX_BITS};
use brevity_coding::simd::Scalar;
use brevity_kernels::{Isa, Matrix, math, pool};
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
    quantiser: Quantiser,
    counts: Vec<u32>,
}

/// What becomes of a row of logits.
#[derive(Default)]
struct Row {
    chances: Chances,
    correction: Correction,
    /// Sums of the chances of buckets, and the likeliest token.
    sums: Vec<f32>,
    best: u32,
    /// Tokens that it is not, and what their chances were.
    held: Vec<(u32, f32)>,
    /// The token that it is.
    token: u32,
}

impl Row {
    fn fill(&mut self, logits: &[f32], lane: &Lane<'_>, at: usize, head: &Head, recall: &Recall) {
        head.chances(logits, &mut self.chances);
        recall.correct(at, &lane.tokens, &mut self.chances.p, &mut self.correction);
        self.held.clear();
        lane.refused.into_iter().for_each(|token| _ = self.exclude(token));
        self.best = buckets(&self.chances.p, &mut self.sums) as u32;
    }

    /// Takes a token out; returns what it had.
    fn exclude(&mut self, token: u32) -> f32 {
        let Some(p) = self.chances.p.get_mut(token as usize) else { return 0.0 };
        let was = std::mem::take(p);
        self.held.push((token, was));
        was
    }

    /// Sums of buckets without what was taken out.
    fn sum(&mut self) {
        for &(token, _) in &self.held {
            let bucket = token as usize / BUCKET;
            if let (Some(sum), Some(p)) = (self.sums.get_mut(bucket), self.chances.p.chunks(BUCKET).nth(bucket)) {
                *sum = bucket_sum(p);
            }
        }
    }

    /// Puts back what was taken out.
    fn restore(&mut self) {
        for (token, p) in self.held.drain(..).rev() {
            self.chances.p[token as usize] = p;
        }
    }
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
    let mut readings = vec![feed.reading(); totals.len()];
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
        quantiser: Quantiser::new(),
        counts: Vec::new(),
    };
    let mut rows: Vec<Row> = totals.iter().map(|_| Row::default()).collect();
    loop {
        begin(&mut lanes, &mut feed, &mut readings);
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
        let asks = readings.iter_mut().enumerate().filter(|(lane, _)| waiting.contains(lane));
        let logits = feed.evaluate(asks.map(|(lane, reading)| Ask { lane, tail: &[], reading }).collect())?;
        let rows = &mut rows[..waiting.len()];
        shared.expect(rows, &lanes, &waiting, &logits);
        for (row, &at) in rows.iter_mut().zip(&waiting) {
            let lane = &mut lanes[at];
            row.token = shared.token(lane, row, coder);
            shared.take(lane, at, row.token);
            lane.bytes += predictor.tokenizer().token_bytes(row.token).len();
            feed.push(at, &[row.token]);
        }
        shared.learn(rows, &logits);
        if !alive(lanes.iter().map(|lane| lane.bytes).sum()) {
            break;
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.tokens).collect())
}

/// Once the first lane is ahead, or at its end, the others begin with what it began with.
fn begin(lanes: &mut [Lane<'_>], feed: &mut Feed<'_>, readings: &mut [Reading]) {
    let Some((first, others)) = lanes.split_first_mut() else { return };
    if first.tokens.len() < HEAD_START.min(first.total) {
        return;
    }
    for (at, lane) in others.iter_mut().enumerate().filter(|(_, lane)| !lane.begun) {
        lane.begun = true;
        feed.follow(at + 1);
        readings[at + 1] = readings[0].clone();
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

    /// What may come next in each lane that waits.
    fn expect(&self, rows: &mut [Row], lanes: &[Lane<'_>], waiting: &[usize], logits: &Matrix) {
        let (isa, Self { head, recall, .. }) = (Isa::current(), self);
        pool::parallel_chunks(rows, 1, |index, rows| {
            let (at, logits) = (waiting[index], logits.row(index));
            rows.iter_mut().for_each(|row| isa.with(|| row.fill(logits, &lanes[at], at, head, recall)));
        });
    }

    /// Learns what came behind each row.
    fn learn(&mut self, rows: &[Row], logits: &Matrix) {
        let came: Vec<Came<'_>> = (0..rows.len())
            .map(|at| Came { logits: logits.row(at), chances: &rows[at].chances, token: rows[at].token as usize })
            .collect();
        self.head.learn(&came);
        let mut gradients: Vec<Option<Gradient>> = rows.iter().map(|_| None).collect();
        pool::parallel_chunks(&mut gradients, 1, |at, gradients| {
            let row = &rows[at];
            gradients.fill_with(|| Some(Recall::gradient(row.token, &row.chances.p, &row.correction.active)));
        });
        gradients.iter().flatten().for_each(|gradient| self.recall.learn(gradient));
    }

    /// Codes a token behind what may come.
    fn token(&mut self, lane: &Lane<'_>, row: &mut Row, coder: &mut Direction<'_>) -> u32 {
        let wanted = lane.given.get(lane.tokens.len()).copied();
        let mut left = 1.0 - row.held.iter().map(|(_, p)| p).sum::<f32>();
        let mut found = None;
        for (rank, token) in candidates(row.best, lane).into_iter().enumerate() {
            let chance = row.chances.p.get(token as usize).copied().unwrap_or(0.0);
            let question = self.judge.ask(token, Some(chance / left.max(chance).max(1e-9)), &lane.expected, rank);
            let hit = coder.code(u32::from(wanted == Some(token)), question.p);
            self.judge.learn(&question, hit);
            if hit == 1 {
                found = Some(token);
                break;
            }
            left -= row.exclude(token);
        }
        let token = found.unwrap_or_else(|| self.rest(row, wanted, coder));
        row.restore();
        token
    }

    /// One of the tokens that are left.
    fn rest(&mut self, row: &mut Row, wanted: Option<u32>, coder: &mut Direction<'_>) -> u32 {
        row.sum();
        let bucket = self.symbol(&row.sums, wanted.map(|token| token as usize / BUCKET), coder);
        let p = row.chances.p.chunks(BUCKET).nth(bucket).unwrap_or_default();
        (bucket * BUCKET + self.symbol(p, wanted.map(|token| token as usize % BUCKET), coder)) as u32
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

/// Tokens that are asked for by name: the model's, then those of the longest contexts.
fn candidates(best: u32, lane: &Lane<'_>) -> Vec<u32> {
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
