//! `brevity eval`.

use crate::cli::{EvalArgs, Global, ScoreArg};
use crate::evaluate::{self, Comparison, Finished, Score, Text};
use crate::progress::Show;
use crate::{cache_budget, open, output, reference, tasks, texts};
use anyhow::{Context, Result, bail};
use brevity_cache::Spec;
use brevity_measure::capacity::{MIXED_TEXT_BIAS, information_capacity};
use brevity_measure::reference::Reference;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_measure::{divergence, perplexity};
use brevity_model::ModelSource;
use brevity_model::forward::{Model, Options};
use serde_json::{Map, Value, json};

/// Tokens in a window where none are asked for and the model's context is no shorter.
const DEFAULT_WINDOW: usize = 512;

/// Runs the command.
pub fn run(args: EvalArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let source = open::open_within(args.model.as_deref(), args.size.as_deref(), show)?;
    let cached = args.cache.is_some() || args.cache_budget.is_some();
    if cached && (!args.tasks.is_empty() || args.reference_cache.is_some()) {
        bail!("--cache is measured on text against the full cache\n  next: leave out --tasks and --reference-cache");
    }
    if !args.tasks.is_empty() {
        return run_tasks(&args, &source, global, show);
    }
    let measured = measure(&args, &source, show)?;
    if global.json {
        return output::json(&measured.json(&source));
    }
    output::tables(&measured.tables(&source))
}

struct Measured {
    window: usize,
    model: perplexity::Summary,
    capacity: Option<f64>,
    against: Option<Against>,
    cache: Option<Held>,
}

/// What a cache held at the end of the longest window.
struct Held {
    spec: String,
    bytes: u64,
    tokens: usize,
}

struct Against {
    name: String,
    original: perplexity::Summary,
    divergence: divergence::Summary,
    floor: f64,
}

fn measure(args: &EvalArgs, source: &ModelSource, show: Show) -> Result<Measured> {
    let tokenizer = source.tokenizer()?;
    let original = args.against.as_deref().map(|name| original(name, source, show)).transpose()?;
    let window = window(args, source)?;
    let spec = spec(args, source, window, show)?;
    if args.chunks == Some(0) {
        bail!("--chunks 0 measures nothing\n  next: ask for one at least, or leave it out to measure the whole text");
    }
    let score = match args.score {
        ScoreArg::All => Score::All,
        ScoreArg::SecondHalf => Score::SecondHalf,
    };
    let text = texts::evaluation(args.text.as_deref())?;
    let text = Text::cut(tokenizer, &text, window, args.chunks, score)?;
    let options = Options { activation: args.activations.into(), ..Options::default() };
    if let Some(spec) = &spec {
        return through_cache(spec, (source, original.as_ref()), &text, window, options, show);
    }
    let model = evaluate::finish(source, &text, options, (show, "model"))?;
    let Some(original) = original else {
        let summary = evaluate::perplexity(&model, &text, tokenizer)?.summary()?;
        return Ok(Measured {
            window,
            capacity: capacity(source, &summary),
            model: summary,
            against: None,
            cache: None,
        });
    };
    let all = compare(args, &original, &model, &text, options, show)?;
    let floor = evaluate::floor(source, &model, &text, tokenizer, options, show)?;
    let summary = all.after.summary()?;
    Ok(Measured {
        window,
        capacity: capacity(source, &summary),
        model: summary,
        against: Some(Against {
            name: original.label().to_string(),
            original: all.before.summary()?,
            divergence: all.divergence.summary()?,
            floor,
        }),
        cache: None,
    })
}

/// The cache to go through, if one is named.
fn spec(args: &EvalArgs, source: &ModelSource, window: usize, show: Show) -> Result<Option<Spec>> {
    let budget = args.cache_budget.as_deref();
    if args.cache.is_none() && budget.is_none() {
        return Ok(None);
    }
    let base = Spec::parse(args.cache.as_deref().unwrap_or("f16")).context("--cache")?;
    cache_budget::spec(source, base, budget, window, show).map(Some)
}

/// The model through a cache, against the original (the model itself as a rule) with the full cache in f32.
fn through_cache(
    spec: &Spec,
    (source, original): (&ModelSource, Option<&ModelSource>),
    text: &Text,
    window: usize,
    options: Options,
    show: Show,
) -> Result<Measured> {
    let tokenizer = source.tokenizer()?;
    let reference = evaluate::finish(original.unwrap_or(source), text, options, (show, "full cache"))?;
    let model = Model::load(source, options)?;
    let spec = &spec.clone().learnt(&model)?;
    let (all, bytes) = evaluate::compare_cached(&reference, &model, spec, text, tokenizer, (show, "cache"))?;
    let floor = evaluate::floor(original.unwrap_or(source), &reference, text, tokenizer, options, show)?;
    let summary = all.after.summary()?;
    let tokens = text.windows.iter().map(|tokens| tokens.len() - 1).max().unwrap_or(0);
    let name = original.map_or_else(|| "the full cache".to_string(), |original| original.label().to_string());
    Ok(Measured {
        window,
        capacity: capacity(source, &summary),
        model: summary,
        against: Some(Against { name, original: all.before.summary()?, divergence: all.divergence.summary()?, floor }),
        cache: Some(Held { spec: spec.to_string(), bytes, tokens }),
    })
}

/// The model to compare with, which must see the same tokens.
fn original(name: &str, source: &ModelSource, show: Show) -> Result<ModelSource> {
    let original = open::open(Some(name), show)?;
    let (a, b) = (source.tokenizer()?.vocab_size(), original.tokenizer()?.vocab_size());
    if a != b {
        bail!("the models have different tokenizers ({a} and {b} tokens), so their predictions cannot be compared");
    }
    Ok(original)
}

fn window(args: &EvalArgs, source: &ModelSource) -> Result<usize> {
    let context = source.config().context;
    match args.window {
        Some(window) if window > context => {
            bail!("--window {window} is longer than the model's context of {context} tokens")
        }
        Some(window) => Ok(window),
        None => Ok(DEFAULT_WINDOW.min(context)),
    }
}

/// Against the original as it runs now, or as the reference cache remembers it.
fn compare(
    args: &EvalArgs,
    original: &ModelSource,
    model: &Finished,
    text: &Text,
    options: Options,
    show: Show,
) -> Result<Comparison> {
    let tokenizer = original.tokenizer()?;
    let Some(path) = &args.reference_cache else {
        let reference = evaluate::finish(original, text, options, (show, "original"))?;
        return evaluate::compare(&reference, model, text, tokenizer);
    };
    let identity = reference::identity(original, text, text.windows[0].len(), options.activation)?;
    if !path.exists() {
        let finished = evaluate::finish(original, text, options, (show, "original"))?;
        reference::write(path, &identity, &finished, text)?;
    }
    reference::compare(&Reference::open(path, &identity)?, model, text, tokenizer)
}

fn capacity(source: &ModelSource, summary: &perplexity::Summary) -> Option<f64> {
    let flops = brevity_model::flops::per_token(source.config(), brevity_measure::capacity::SAMPLE_TOKENS as usize);
    let capacity =
        information_capacity(summary.bytes, summary.total_bits(), summary.tokens, flops.total(), MIXED_TEXT_BIAS);
    capacity.ok().map(|capacity| capacity.information_capacity)
}

impl Measured {
    fn json(&self, source: &ModelSource) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_string(), value);
        put("model", json!(source.label()));
        put("window", json!(self.window));
        put("tokens", json!(self.model.tokens));
        put("bytes", json!(self.model.bytes));
        put("perplexity", json!(self.model.perplexity));
        put("perplexity_se", json!(self.model.perplexity_se));
        put("bits_per_token", json!(self.model.bits_per_token));
        put("bits_per_byte", json!(self.model.bits_per_byte));
        put("information_capacity", json!(self.capacity));
        if let Some(cache) = &self.cache {
            put("cache", json!(cache.spec));
            put("cache_bytes", json!(cache.bytes));
            put("cache_bytes_per_token", json!(cache.bytes as f64 / cache.tokens as f64));
        }
        if let Some(against) = &self.against {
            let d = &against.divergence;
            put("against", json!(against.name));
            put("perplexity_original", json!(against.original.perplexity));
            put("bits_per_byte_original", json!(against.original.bits_per_byte));
            put("kld_mean_bits", json!(d.mean));
            put("kld_se_bits", json!(d.error()));
            put("kld_median_bits", json!(d.median));
            put("kld_p99_bits", json!(d.p99));
            put("kld_p999_bits", json!(d.p999));
            put("kld_max_bits", json!(d.max));
            put("kld_reference_error_bits", json!(d.reference_error));
            put("kld_floor_bits", json!(against.floor));
            put("top1_agreement", json!(d.top1));
            put("top1_se", json!(d.top1_se));
            put("delta_p_rms", json!(d.rms_delta_p));
        }
        Value::Object(object)
    }

    fn tables(&self, source: &ModelSource) -> Vec<Table> {
        let m = &self.model;
        let title = format!("{}: {} tokens, {} bytes of text", source.label(), m.tokens, m.bytes);
        let mut table = Table::new(["measure", "value"].map(Column::new)).title(title);
        table.row([Cell::text("perplexity"), Cell::with_error(m.perplexity, m.perplexity_se, 4)]);
        table.row([Cell::text("bits per token"), Cell::with_error(m.bits_per_token, m.bits_per_token_se, 4)]);
        if let Some(bits) = m.bits_per_byte {
            table.row([Cell::text("bits per byte"), Cell::with_error(bits, m.bits_per_byte_se.unwrap_or(0.0), 4)]);
        }
        table.row([Cell::text("information capacity"), Cell::or_empty(self.capacity, |c| Cell::number(c, 4))]);
        if let Some(cache) = &self.cache {
            let bytes = format!("{:.1}", cache.bytes as f64 / cache.tokens as f64);
            table.row([Cell::text("bytes of cache per token"), Cell::text(bytes)]);
            table.note(format!("keys and values: {}, {} of tokens", cache.spec, cache.tokens));
        }
        let mut tables = vec![table];
        tables.extend(self.against.as_ref().map(Against::table));
        tables
    }
}

impl Against {
    fn table(&self) -> Table {
        let d = &self.divergence;
        let title = format!("against {} (perplexity {:.4})", self.name, self.original.perplexity);
        let mut table = Table::new(["divergence", "bits a token"].map(Column::new)).title(title);
        table.emphasised(Emphasis::Strong, [Cell::text("mean"), Cell::with_error(d.mean, d.error(), 4)]);
        for (name, value) in [("median", d.median), ("99 %", d.p99), ("99.9 %", d.p999), ("most", d.max)] {
            table.row([Cell::text(name), Cell::number(value, 4)]);
        }
        table.emphasised(Emphasis::Dim, [Cell::text("floor of this measurement"), Cell::number(self.floor, 4)]);
        table.note(format!("same likeliest token: {:.2} ± {:.2} %", 100.0 * d.top1, 100.0 * d.top1_se));
        table
    }
}

fn run_tasks(args: &EvalArgs, source: &ModelSource, global: &Global, show: Show) -> Result<()> {
    let scores = tasks::run(source, &args.tasks, args.tasks_dir.as_deref(), args.limit, args.activations.into(), show)?;
    if global.json {
        let entry = |score: &tasks::Score| {
            let s = &score.summary;
            json!({"task": score.name, "questions": s.items, "choices_mean": score.choices_mean, "acc": s.acc,
                "acc_se": s.acc_se, "acc_norm": s.acc_norm, "acc_norm_se": s.acc_norm_se})
        };
        return output::json(&json!({"model": source.label(), "tasks": scores.iter().map(entry).collect::<Vec<_>>()}));
    }
    let columns = ["task", "questions", "acc", "acc_norm", "chance"].map(Column::new);
    let mut table = Table::new(columns).title(source.label());
    for score in &scores {
        let s = &score.summary;
        table.row([
            Cell::text(&score.name),
            Cell::Integer(s.items),
            Cell::with_error(s.acc, s.acc_se, 4),
            Cell::with_error(s.acc_norm, s.acc_norm_se, 4),
            Cell::number(1.0 / score.choices_mean, 4),
        ]);
    }
    output::tables(&[table])
}
