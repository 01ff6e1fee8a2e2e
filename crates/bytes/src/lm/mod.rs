//! A language model as the predictor.
//!
//! A block is cut into text and other bytes (`cut`); the others go to the byte engine. Text is cut into lanes, which
//! are coded side by side, so that the model reads a batch (`feed`). `tokens` codes each lane token by token; `marginal` gives
//! probabilities of bytes instead, which stand beside the contexts of the byte engine ([`crate::cm`]): tokenisation costs nothing then.
//!
//! Encoder and decoder take the same steps and ask the model for the same rows; that a row has the same bits in any batch, on any
//! machine, is the promise of `brevity_kernels`. What is made of the logits is `f32` with every operation rounded by itself
//! (`head`), integers from there on. The parts are those of Nacrith (R. Tacconelli, 2026, arXiv 2602.19626): counts of 24 bits, n-grams
//! of tokens, an adaptive bias, a skip where n-grams are sure, a sliding window, binary pieces apart; and what all lanes
//! have read corrects what the model says (`recall`).
//!
//! The payload, behind its first byte: mode (0: tokens, 1: bytes), hash of the model (16 bytes), its name (length, UTF-8); varints: number of
//! pieces, their lengths (text and other bytes in turn), bytes of the payload of the other bytes, that payload; lanes, tokens of each (bytes, in mode 1); in mode 1
//! the logarithm below which covers are dropped (a byte); the stream.

mod cache;
mod contexts;
mod cut;
mod feed;
mod head;
mod marginal;
mod ngram;
mod predictor;
mod recall;
mod tokens;

pub use predictor::{Hash, Predictor};

use crate::cm::{self, Lanes, Settings};
use crate::codec::{self, Failure};
use crate::error::{Error, Result};
use crate::level::Level;
use crate::varint;
use brevity_coding::range::{Decoder, Direction, Encoder};
use brevity_model::cache::CacheShape;
use marginal::Marginal;
use std::sync::{Arc, OnceLock};

/// The first byte of a payload.
pub(crate) const MODEL: u8 = 8;
/// Largest block where a model predicts.
pub const BLOCK: usize = 1 << 20;
/// Bytes of text for which a lane is worth its beginning.
const LANE: usize = 9 << 10;
/// Lanes at most.
const LANES: usize = 10;
/// What the first lane's head start is, more or less, in bytes.
const HEAD_BYTES: usize = 4 * tokens::HEAD_START;

/// Covers that hold less than `2^-PRUNE` of the mass are dropped.
const PRUNE: u8 = 10;

/// How a model is used.
#[derive(Clone, Copy)]
pub struct Behind<'a> {
    /// The model.
    pub predictor: &'a Predictor,
    /// Byte by byte beside the byte engine: smaller and slower than token by token.
    pub exact_bytes: bool,
}

/// Where the model of an archive comes from.
type Open = dyn Fn() -> std::result::Result<Predictor, String> + Send + Sync;

/// Whether to go on.
type Alive = dyn Fn() -> bool + Send + Sync;

/// The model that is at hand for reading: opened when it is first needed.
#[derive(Default)]
pub struct Models {
    open: Option<Box<Open>>,
    alive: Option<Box<Alive>>,
    found: OnceLock<std::result::Result<Arc<Predictor>, String>>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models").finish_non_exhaustive()
    }
}

impl Models {
    /// One that `open` opens.
    pub fn new(open: Box<Open>) -> Self {
        Self { open: Some(open), alive: None, found: OnceLock::new() }
    }

    /// `alive` is asked after every step of a block, which takes minutes, and ends it.
    pub fn while_alive(mut self, alive: Box<Alive>) -> Self {
        self.alive = Some(alive);
        self
    }

    fn alive(&self) -> bool {
        self.alive.as_ref().is_none_or(|alive| alive())
    }

    fn require(&self, name: &str, hash: &Hash) -> std::result::Result<Arc<Predictor>, Failure> {
        let hex = |hash: &Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let refuse = |found: String| Failure::Model { name: name.into(), expected: hex(hash), found };
        let Some(open) = &self.open else { return Err(refuse("no model is given".into())) };
        match self.found.get_or_init(|| open().map(Arc::new)) {
            Ok(model) if model.hash() == hash => Ok(Arc::clone(model)),
            Ok(model) => Err(refuse(format!("{} is another ({}…)", model.name(), hex(model.hash())))),
            Err(error) => Err(refuse(error.clone())),
        }
    }
}

/// Bytes that so many lanes take for a text of so many bytes, with the model.
fn memory(predictor: &Predictor, lanes: usize, text: usize, exact_bytes: bool) -> u64 {
    let (model, config) = (predictor.model(), predictor.model().config());
    let window = config.context.min(feed::WINDOW);
    // Readings of what is open share the rest; blocks that begin there, or were dropped meanwhile, may be their own.
    let (rows, own) = if exact_bytes { (lanes * marginal::MOST, 2 * feed::OPEN) } else { (lanes, 0) };
    let shape = CacheShape::of(config);
    let caches = lanes * cache::memory(shape, window) + (rows - lanes) * cache::memory(shape, own);
    let pass = 8 * model.options().chunk.min(window).max(rows) * (4 * config.hidden + 4 * config.mlp.width);
    // Covers, or n-grams and what followed each context; rows of logits.
    let beside = match exact_bytes {
        true => {
            let (Settings { table_bits, match_bits, .. }, ..) = mixing(&[text]);
            let said = marginal::SAID * lanes * config.vocab;
            said + marginal::CUTS * text
                + recall::memory(config.vocab, lanes, text)
                + cm::memory(table_bits, match_bits, 4) as usize
        }
        false => recall::memory(config.vocab, lanes, text) + ngram::memory(text),
    };
    let logits = 12 * rows.max(4) * config.vocab;
    (caches + pass + beside + logits + 24 * text) as u64 + model.resident_bytes() as u64
}

/// Encodes a block behind a model; what has no text in it, or takes fewer bytes that way, by the level alone. `alive` is told how many bytes are done, more or less, and ends it.
///
/// # Errors
/// If the model fails, needs more than `limit` bytes of memory, or `alive` ends it.
pub fn encode(
    bytes: &[u8],
    level: &Level,
    behind: Behind<'_>,
    limit: u64,
    alive: &dyn Fn(usize) -> bool,
) -> Result<Vec<u8>> {
    let Behind { predictor, exact_bytes } = behind;
    let plain = codec::encode(bytes, level);
    let lengths = cut::pieces(bytes);
    let [text, other] = cut::split(bytes, &lengths);
    let mut count = (text.len() / LANE).clamp(1, LANES);
    while count > 1 && memory(predictor, count, text.len(), exact_bytes) > limit {
        count -= 1;
    }
    let needed = memory(predictor, count, text.len(), exact_bytes);
    if needed > limit {
        return Err(Error::Memory { what: format!("the model {}", predictor.name()), needed, limit });
    }
    if text.is_empty() {
        return Ok(plain);
    }
    let lanes = cut::lanes(&text, count, HEAD_BYTES);
    let mut out = begin(predictor, exact_bytes, &lengths, &codec::encode(&other, level));
    let stream = match exact_bytes {
        true => Some(bytes_stream(predictor, &lanes, alive, &mut out)?),
        false => tokens_stream(predictor, &lanes, alive, &mut out)?,
    };
    let Some(stream) = stream else { return Ok(plain) };
    out.extend(stream);
    Ok(if out.len() < plain.len() { out } else { plain })
}

/// Lanes token by token; nothing where a lane does not come back from its tokens.
fn tokens_stream(
    predictor: &Predictor,
    lanes: &[&[u8]],
    alive: &dyn Fn(usize) -> bool,
    out: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>> {
    let given: Option<Vec<Vec<u32>>> = lanes.iter().map(|lane| exact_tokens(predictor, lane)).collect();
    let Some(given) = given else { return Ok(None) };
    let totals: Vec<usize> = given.iter().map(Vec::len).collect();
    put_lanes(&totals, out);
    let mut coder = Direction::Encode(Encoder::new());
    let coded = tokens::code(predictor, &given, &totals, &mut coder, alive)?;
    if coded.iter().zip(&given).any(|(coded, given)| coded.len() != given.len()) {
        return Err(Error::Stopped);
    }
    Ok(Some(coder.finish()))
}

/// Lanes byte by byte.
fn bytes_stream(
    predictor: &Predictor,
    lanes: &[&[u8]],
    alive: &dyn Fn(usize) -> bool,
    out: &mut Vec<u8>,
) -> Result<Vec<u8>> {
    let lengths: Vec<usize> = lanes.iter().map(|lane| lane.len()).collect();
    put_lanes(&lengths, out);
    out.push(PRUNE);
    let mut beside = Marginal::new(predictor, &lengths, PRUNE, alive);
    let mut text = lanes.concat();
    let (settings, starts, ahead) = mixing(&lengths);
    let lanes = Lanes { starts: &starts, ahead };
    let stream = cm::encode_beside(&mut text, settings, lanes, &mut beside, codec::backend());
    if beside.finish()? { Ok(stream) } else { Err(Error::Stopped) }
}

fn put_lanes(sizes: &[usize], out: &mut Vec<u8>) {
    varint::put(sizes.len() as u64, out);
    sizes.iter().for_each(|&size| varint::put(size as u64, out));
}

/// What the byte engine is run with, where its lanes begin, and how far the first is ahead.
fn mixing(lengths: &[usize]) -> (Settings, Vec<usize>, usize) {
    let total: usize = lengths.iter().sum();
    let settings = Settings {
        table_bits: codec::table_bits(total, 26, 4),
        match_bits: total.max(1).ilog2().clamp(12, 22),
        lanes: lengths.len(),
        record: 0,
        text: true,
        words: 0,
        nets: 0,
        beside: true,
    };
    let mut next = 0;
    let starts = lengths.iter().map(|length| {
        next += length;
        next - length
    });
    let starts = starts.collect();
    (settings, starts, if lengths.len() > 1 { HEAD_BYTES } else { 0 })
}

/// The head of a payload.
fn begin(predictor: &Predictor, exact_bytes: bool, lengths: &[usize], other: &[u8]) -> Vec<u8> {
    let mut out = vec![MODEL, u8::from(exact_bytes)];
    out.extend(predictor.hash());
    varint::put(predictor.name().len() as u64, &mut out);
    out.extend(predictor.name().bytes());
    varint::put(lengths.len() as u64, &mut out);
    lengths.iter().for_each(|&length| varint::put(length as u64, &mut out));
    varint::put(other.len() as u64, &mut out);
    out.extend(other);
    out
}

/// The tokens of a text, if they give exactly it back.
fn exact_tokens(predictor: &Predictor, text: &[u8]) -> Option<Vec<u32>> {
    let tokenizer = predictor.tokenizer();
    let tokens = match tokenizer.encode_bytes(text, false) {
        Ok(tokens) => tokens,
        Err(_) => tokenizer.encode(std::str::from_utf8(text).ok()?, false, false),
    };
    let exact = tokens.iter().all(|&id| predictor.speaks(id)) && tokenizer.decode_bytes(&tokens, false) == text;
    exact.then_some(tokens)
}

/// Decodes what [`encode`] wrote, behind its first byte.
///
/// # Errors
/// What is wrong with it, or with the model.
pub fn decode(mut rest: &[u8], length: usize, limit: u64, models: &Models) -> std::result::Result<Vec<u8>, Failure> {
    let number = |rest: &mut &[u8]| varint::take(rest).and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Malformed);
    let (&mode, after) = rest.split_first().ok_or(Failure::Malformed)?;
    let (hash, after) = after.split_first_chunk::<16>().ok_or(Failure::Malformed)?;
    rest = after;
    let name = number(&mut rest)?;
    let (name, after) = rest.split_at_checked(name).filter(|(name, _)| name.len() <= 256).ok_or(Failure::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| Failure::Malformed)?;
    rest = after;
    let count = number(&mut rest)?;
    if mode > 1 || count > rest.len() {
        return Err(Failure::Malformed);
    }
    let lengths = (0..count).map(|_| number(&mut rest)).collect::<std::result::Result<Vec<_>, _>>()?;
    let sum = |turn: usize| lengths.iter().skip(turn).step_by(2).try_fold(0usize, |sum, &n| sum.checked_add(n));
    let (Some(text), Some(other)) = (sum(0), sum(1)) else { return Err(Failure::Malformed) };
    if text.checked_add(other) != Some(length) {
        return Err(Failure::Malformed);
    }
    let packed = number(&mut rest)?;
    let (payload, after) = rest.split_at_checked(packed).ok_or(Failure::Malformed)?;
    rest = after;
    // A payload within the payload is of the byte engine.
    if matches!(payload.first(), Some(&(codec::TENSORS | codec::DELTA | MODEL))) {
        return Err(Failure::Malformed);
    }
    let lanes = number(&mut rest)?;
    if lanes == 0 || lanes > LANES {
        return Err(Failure::Malformed);
    }
    let totals = (0..lanes).map(|_| number(&mut rest)).collect::<std::result::Result<Vec<_>, _>>()?;
    // Every token stands for a byte at least.
    if totals.iter().any(|&total| total > text) || totals.iter().sum::<usize>() > text {
        return Err(Failure::Malformed);
    }
    let predictor = models.require(name, hash)?;
    let needed = memory(&predictor, lanes, text, mode == 1).saturating_add(3 * length as u64);
    if needed > limit {
        return Err(Failure::Memory(needed));
    }
    let other = codec::decode(payload, other, limit)?;
    let decoded = match mode {
        1 => unbytes(&predictor, &totals, rest, text, &|_| models.alive())?,
        _ => untokens(&predictor, &totals, rest, &|_| models.alive())?,
    };
    if !models.alive() {
        return Err(Failure::Stopped);
    }
    if decoded.len() != text {
        return Err(Failure::Malformed);
    }
    cut::join([&decoded, &other], &lengths).ok_or(Failure::Malformed)
}

fn failed(error: brevity_model::Error) -> Failure {
    Failure::Predict(error.to_string())
}

fn untokens(
    predictor: &Predictor,
    totals: &[usize],
    stream: &[u8],
    alive: &dyn Fn(usize) -> bool,
) -> std::result::Result<Vec<u8>, Failure> {
    let mut coder = Direction::Decode(Decoder::new(stream));
    let coded = tokens::code(predictor, &[], totals, &mut coder, alive).map_err(failed)?;
    Ok(coded.iter().flat_map(|lane| predictor.tokenizer().decode_bytes(lane, false)).collect())
}

fn unbytes(
    predictor: &Predictor,
    lengths: &[usize],
    rest: &[u8],
    text: usize,
    alive: &dyn Fn(usize) -> bool,
) -> std::result::Result<Vec<u8>, Failure> {
    let (&prune, stream) = rest.split_first().ok_or(Failure::Malformed)?;
    if lengths.iter().sum::<usize>() != text {
        return Err(Failure::Malformed);
    }
    let mut beside = Marginal::new(predictor, lengths, prune, alive);
    let (settings, starts, ahead) = mixing(lengths);
    let mut bytes = vec![0; text];
    cm::decode_beside(stream, &mut bytes, settings, Lanes { starts: &starts, ahead }, &mut beside, codec::backend());
    beside.finish().map_err(failed)?;
    Ok(bytes)
}
