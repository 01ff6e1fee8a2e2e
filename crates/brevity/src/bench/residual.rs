//! `brevity bench residual`: how well a model's own prediction foretells the keys and values of the next token.
//!
//! Sequential KV compression (2026, arXiv 2604.15356) stores what remains of a token's keys and values once the model's prediction is taken
//! off. The prediction of a vector `x` at position `i + 1` is its mean under the model, `Σ_t p(t | ≤ i) · x(t)`: each likely token `t` is run
//! behind the text so far, and its keys and values are weighted by its probability. At high rate a number whose variance falls from σ² to ρ² takes
//! `½ log₂(σ²/ρ²)` bits less at the same error.

use crate::cli::{BenchResidualArgs, Global};
use crate::progress::Show;
use crate::{open, output, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_cache::{Cache, Spec};
use brevity_kernels::rope::RopeAngles;
use brevity_kernels::{MatrixMut, pool};
use brevity_measure::table::{Cell, Column, Table};
use brevity_model::Config;
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Options, Sequence};
use serde_json::json;

/// What foretells a vector.
const PREDICTORS: [&str; 3] = ["the token before", "the likeliest next token", "the mean over likely tokens"];

/// Sums over positions of a number and of what foretells it.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    x: f64,
    xx: f64,
    p: f64,
    pp: f64,
    xp: f64,
}

impl Moments {
    fn add(&mut self, x: f32, p: f32) {
        let (x, p) = (f64::from(x), f64::from(p));
        self.count += 1.0;
        self.x += x;
        self.xx += x * x;
        self.p += p;
        self.pp += p * p;
        self.xp += x * p;
    }

    fn variance(&self) -> f64 {
        self.xx / self.count - (self.x / self.count).powi(2)
    }

    /// Mean square of `x − p`, means taken off.
    fn residual(&self) -> f64 {
        let (x, p) = (self.x / self.count, self.p / self.count);
        (self.xx - 2.0 * self.xp + self.pp) / self.count - (x - p).powi(2)
    }

    /// The same with the best factor before p.
    fn scaled(&self) -> f64 {
        let both = self.xp / self.count - self.x * self.p / self.count.powi(2);
        let p = self.pp / self.count - (self.p / self.count).powi(2);
        if p > 0.0 { self.variance() - both * both / p } else { self.variance() }
    }
}

/// What a predictor leaves of keys or of values.
struct Left {
    /// Share of the variance.
    share: f64,
    /// Bits a number saved, as it is and with the best factor for each channel.
    bits: [f64; 2],
}

fn left(all: &[Moments]) -> Left {
    let moving = || all.iter().filter(|moments| moments.variance() > 0.0);
    let saved = |after: fn(&Moments) -> f64| {
        let bits = |m: &Moments| 0.5 * (m.variance() / after(m).max(m.variance() * 1e-12)).log2();
        moving().map(bits).sum::<f64>() / moving().count().max(1) as f64
    };
    let variance: f64 = moving().map(Moments::variance).sum();
    let share = moving().map(Moments::residual).sum::<f64>() / variance;
    Left { share, bits: [saved(Moments::residual), saved(Moments::scaled)] }
}

/// Runs the command.
pub fn run(args: BenchResidualArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let source = open::open(args.model.as_deref(), show)?;
    let config = source.config();
    if args.candidates == 0 || args.candidates > config.vocab {
        bail!("--candidates {}: 1 to the vocabulary's {} tokens are possible", args.candidates, config.vocab);
    }
    if args.positions < 2 || args.window > config.context || args.window < 64 + args.positions {
        let least = 64 + args.positions.max(2);
        bail!("--window {} with {} positions: {least} to {} tokens", args.window, args.positions, config.context);
    }
    let text = texts::evaluation(args.text.as_deref())?;
    let tokens = source.tokenizer()?.encode(&text, true, false);
    let tokens = tokens.get(..args.window).with_context(|| format!("the text has only {} tokens", tokens.len()))?;
    let model = Model::load(&source, Options { activation: args.activations.into(), ..Options::default() })?;
    let measured = measure(&model, tokens, &args, show)?;
    if global.json {
        let row = |(name, sides): (&str, &[Left; 2])| {
            let side = |left: &Left| json!({"variance_left": left.share, "bits_saved": left.bits[0], "bits_saved_scaled": left.bits[1]});
            json!({"predictor": name, "keys": side(&sides[0]), "values": side(&sides[1])})
        };
        return output::json(&json!({
            "model": source.label(), "window": args.window, "positions": args.positions, "candidates": args.candidates,
            "mass": measured.mass, "bits_per_token": measured.bits, "numbers_per_token": numbers(config),
            "predictors": PREDICTORS.into_iter().zip(&measured.left).map(row).collect::<Vec<_>>(),
        }));
    }
    output::tables(&[table(&open::short_name(source.label()), &args, &measured, numbers(config))])
}

/// Numbers that a token's keys and values are.
fn numbers(config: &Config) -> usize {
    2 * config.attention.kv_width() * config.layers()
}

struct Measured {
    /// Of each predictor what is left of keys and of values.
    left: Vec<[Left; 2]>,
    /// Probability that the candidates hold.
    mass: f64,
    /// Bits of the tokens that came, behind the model.
    bits: f64,
}

fn measure(model: &Model, tokens: &[u32], args: &BenchResidualArgs, show: Show) -> Result<Measured> {
    let config = model.config();
    let (width, layers) = (config.attention.kv_width(), config.layers());
    let mut whole = Spec::parse("f32")?.cache(config, tokens.len())?;
    let logits = model.forward(&mut [Sequence { tokens, cache: &mut whole }], Logits::All, None)?;
    let reader = Reader::new(config, tokens.len());
    let mut sums = vec![[vec![Moments::default(); layers * width], vec![Moments::default(); layers * width]]; 3];
    let (mut mass, mut bits) = (0.0, 0.0);
    let phase = show.phase("positions", args.positions as u64);
    let first = tokens.len() - 1 - args.positions;
    for at in first..tokens.len() - 1 {
        stop::check()?;
        let likely = likeliest(logits.row(at), args.candidates);
        mass += likely.iter().map(|(_, p)| p).sum::<f64>();
        bits -= probability(logits.row(at), tokens[at + 1]).log2();
        let mut prefix = whole.clone();
        prefix.truncate(at + 1)?;
        let mut caches: Vec<Cache> = likely.iter().map(|_| prefix.clone()).collect();
        let next: Vec<[u32; 1]> = likely.iter().map(|&(token, _)| [token]).collect();
        let mut batch: Vec<Sequence<'_>> =
            caches.iter_mut().zip(&next).map(|(cache, token)| Sequence { tokens: token, cache }).collect();
        model.forward(&mut batch, Logits::None, None)?;
        let came = reader.read(&whole, at + 1);
        let guesses: Vec<[Vec<f32>; 2]> = caches.iter().map(|cache| reader.read(cache, at + 1)).collect();
        let predicted = [reader.read(&whole, at), guesses[0].clone(), mean(&guesses, &likely)];
        for (sums, predicted) in sums.iter_mut().zip(&predicted) {
            for side in 0..2 {
                let pairs = came[side].iter().zip(&predicted[side]);
                sums[side].iter_mut().zip(pairs).for_each(|(sum, (&x, &p))| sum.add(x, p));
            }
        }
        phase.step();
    }
    let count = args.positions as f64;
    let left = sums.iter().map(|[keys, values]| [left(keys), left(values)]).collect();
    Ok(Measured { left, mass: mass / count, bits: bits / count })
}

/// Keys, turned back to where rope found them, and values of a position: all layers' heads.
struct Reader {
    back: Vec<Option<RopeAngles>>,
    layers: usize,
    heads: usize,
    dim: usize,
}

impl Reader {
    fn new(config: &Config, positions: usize) -> Self {
        let table = config.rope_table();
        let back = |position: usize| table.as_ref().map(|table| table.angles(&[position as u32]).inverse());
        let dim = config.attention.head_dim;
        Self {
            back: (0..positions).map(back).collect(),
            layers: config.layers(),
            heads: config.attention.kv_width() / dim,
            dim,
        }
    }

    fn read(&self, cache: &Cache, position: usize) -> [Vec<f32>; 2] {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for layer in 0..self.layers {
            for head in 0..self.heads {
                let (mut key, value) = cache.read(layer, head, position);
                if let Some(back) = &self.back[position] {
                    back.apply(&mut MatrixMut::from_row(&mut key), self.dim);
                }
                keys.extend(key);
                values.extend(value);
            }
        }
        [keys, values]
    }
}

/// The mean of what candidates made, by their probabilities.
fn mean(guesses: &[[Vec<f32>; 2]], likely: &[(u32, f64)]) -> [Vec<f32>; 2] {
    let whole: f64 = likely.iter().map(|(_, p)| p).sum();
    std::array::from_fn(|side| {
        let mut sum = vec![0.0f64; guesses[0][side].len()];
        for (guess, (_, p)) in guesses.iter().zip(likely) {
            sum.iter_mut().zip(&guess[side]).for_each(|(sum, &x)| *sum += p / whole * f64::from(x));
        }
        sum.into_iter().map(|x| x as f32).collect()
    })
}

fn probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    f64::from(logits[token as usize] - most).exp() / sum
}

/// The likeliest tokens and their probabilities.
fn likeliest(logits: &[f32], many: usize) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    let most = logits[order[0] as usize];
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    order.truncate(many);
    order.into_iter().map(|token| (token, f64::from(logits[token as usize] - most).exp() / sum)).collect()
}

fn table(model: &str, args: &BenchResidualArgs, measured: &Measured, numbers: usize) -> Table {
    let columns = ["foretold by", "keys: left (%)", "bits saved", "scaled", "values: left (%)", "bits saved", "scaled"];
    let title = format!("{model}: keys and values of {} tokens, foretold; {} threads", args.positions, pool::threads());
    let mut table = Table::new(columns.into_iter().map(Column::new)).title(title);
    for (name, sides) in PREDICTORS.into_iter().zip(&measured.left) {
        let side = |left: &Left| [100.0 * left.share, left.bits[0], left.bits[1]].map(|number| Cell::number(number, 2));
        table.row([Cell::text(name)].into_iter().chain(sides.iter().flat_map(side)));
    }
    table.note("left: of the variance of each channel; bits saved: a number, at the same error; scaled: with the best factor for each channel");
    let (mass, candidates) = (100.0 * measured.mass, args.candidates);
    table.note(format!("the mean is over {candidates} tokens that hold {mass:.1} % of the probability: {candidates} runs of the model a token"));
    table.note(format!(
        "a token is {numbers} numbers and takes {:.1} bits behind the model: whoever stores the tokens and runs the model again stores nothing else",
        measured.bits
    ));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_foretold_to_a_tenth_saves_its_bits() {
        let (mut known, mut nothing) = (Moments::default(), Moments::default());
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        for _ in 0..20_000 {
            let (x, noise) = (next(), next());
            known.add(x + 3.0, x + 0.1 * noise);
            nothing.add(x, noise);
        }
        let saved = left(&[known]);
        assert!((saved.share - 0.01).abs() < 1e-3 && (saved.bits[0] - 10f64.log2()).abs() < 0.02, "{}", saved.bits[0]);
        let lost = left(&[nothing]);
        assert!((lost.bits[0] + 0.5).abs() < 0.02 && lost.bits[1].abs() < 0.01, "{:?}", lost.bits);
    }
}
