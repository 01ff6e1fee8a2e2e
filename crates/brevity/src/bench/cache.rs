//! `brevity bench cache`: every way of keeping keys and values on one plane of bytes held against bits lost.

use super::document;
use super::retrieval::{self, Recall, TASKS};
use crate::cli::{BenchCacheArgs, Global};
use crate::evaluate::{self, Score, Text};
use crate::progress::Show;
use crate::{open, output, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_cache::Spec;
use brevity_kernels::pool;
use brevity_measure::plot::Plot;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_measure::{Frontier, Point};
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Options, Sequence};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// What is measured where nothing is named.
const SPECS: [&str; 28] = [
    "f16",
    "int8",
    "int4",
    "int3",
    "int2",
    "k:int8,v:int4",
    "k:int4,v:int3",
    "kivi:bits=4",
    "kivi:bits=2",
    "gear:bits=4",
    "gear:bits=2",
    "saq",
    "mikv",
    "zipcache",
    "window:budget=25%",
    "random:budget=25%",
    "h2o:budget=25%",
    "snapkv:budget=25%",
    "expected:budget=25%",
    "treekv:budget=25%",
    "ems:budget=25%",
    "h2o:budget=25% + kvmerger",
    "expected:budget=25% + kvmerger",
    "h2o:budget=50% + int8",
    "snapkv:budget=50% + int8",
    "expected:budget=50% + int8",
    "snapkv:budget=50% + int4",
    "expected:budget=50% + int4",
];

/// One cache, measured.
struct Measured {
    point: Point,
    bytes: f64,
    perplexity: f64,
    p99: f64,
    top1: f64,
    decode: f64,
    recall: Recall,
}

/// Runs the command.
pub fn run(args: BenchCacheArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let source = open::open(args.model.as_deref(), show)?;
    let context = source.config().context;
    if args.window > context || args.window < 64 + args.generate {
        let least = 64 + args.generate;
        bail!("--window {}: {least} to the model's context of {context} tokens are possible", args.window);
    }
    if args.generate == 0 || args.chunks == 0 {
        bail!("--generate and --chunks must be at least 1");
    }
    let specs: Vec<String> = match args.specs.is_empty() {
        true => SPECS.map(String::from).to_vec(),
        false => args.specs.clone(),
    };
    let specs =
        specs.iter().map(|spec| Ok((spec, Spec::parse(spec)?))).collect::<Result<Vec<_>>>().context("--spec")?;
    let tokenizer = source.tokenizer()?;
    let haystack = texts::evaluation(args.text.as_deref())?;
    let text = Text::cut(tokenizer, &haystack, args.window, Some(args.chunks), Score::SecondHalf)?;
    let options = Options { activation: args.activations.into(), ..Options::default() };
    let reference = evaluate::finish(&source, &text, options, (show, "full cache"))?;
    let floor = evaluate::floor(&source, &reference, &text, tokenizer, options, show)?;
    let model = Model::load(&source, options)?;
    let cases = retrieval::cases(tokenizer, &haystack, args.window, args.questions)?;
    let full = retrieval::ask(&model, &Spec::parse("f32")?, &cases)?;
    let mut measured = Vec::new();
    let f16 = 4.0 * (source.config().attention.kv_width() * source.config().layers()) as f64;
    for (name, spec) in specs {
        show.remark(name);
        let (all, bytes) = evaluate::compare_cached(&reference, &model, &spec, &text, tokenizer, (show, "cache"))?;
        let divergence = all.divergence.summary()?;
        let bytes = bytes as f64 / (args.window - 1) as f64;
        let started = Instant::now();
        let decode = speed(&model, &spec, &text.windows[0], args.generate)?;
        let recall = retrieval::ask(&model, &spec, &cases)?;
        let point = Point::new(family(name), bytes / f16, divergence.mean)
            .with_cost(started.elapsed().as_secs_f64(), (bytes * args.window as f64) as u64)
            .with_error(divergence.error())
            .with_label(name);
        let perplexity = all.after.summary()?.perplexity;
        measured.push(Measured {
            point,
            bytes,
            perplexity,
            p99: divergence.p99,
            top1: divergence.top1,
            decode,
            recall,
        });
    }
    let frontier = Frontier::new(measured.iter().map(|measured| measured.point.clone()))?;
    let table = table(source.label(), &args, &measured, &frontier, (floor, &full));
    if let Some(path) = &args.output {
        write(path, &args, source.label(), &table, &frontier, floor)?;
    }
    if global.json {
        let entry = |m: &Measured| -> Value {
            json!({"point": m.point, "bytes_per_token": m.bytes, "perplexity": m.perplexity, "kld_p99_bits": m.p99,
                "top1_agreement": m.top1, "decode_tokens_per_second": m.decode, "answer_bits": answers(&m.recall)})
        };
        return output::json(&json!({
            "model": source.label(), "window": args.window, "kld_floor_bits": floor, "full_answer_bits": answers(&full),
            "points": measured.iter().map(entry).collect::<Vec<_>>(),
        }));
    }
    output::tables(&[table])
}

/// Stores, selections and both together are drawn apart.
fn family(spec: &str) -> &'static str {
    match (spec.contains("budget"), spec.contains('+')) {
        (true, true) => "selection + store",
        (true, false) => "selection (f16)",
        _ => "store",
    }
}

fn answers(recall: &Recall) -> Value {
    let mut all: serde_json::Map<String, Value> =
        TASKS.iter().zip(recall.bits).map(|(task, bits)| (task.to_string(), json!(bits))).collect();
    all.insert("mean".to_string(), json!(recall.mean()));
    all.insert("accuracy".to_string(), json!(recall.accuracy));
    Value::Object(all)
}

/// Tokens a second after a prompt that fills the window.
fn speed(model: &Model, spec: &Spec, tokens: &[u32], generate: usize) -> Result<f64> {
    let mut cache = spec.cache(model.config(), tokens.len())?;
    let (prompt, rest) = tokens.split_at(tokens.len() - generate);
    model.forward(&mut [Sequence { tokens: prompt, cache: &mut cache }], Logits::None, None)?;
    cache.end_prompt()?;
    let started = Instant::now();
    for token in rest {
        stop::check()?;
        model.forward(&mut [Sequence { tokens: &[*token], cache: &mut cache }], Logits::Last, None)?;
    }
    Ok(generate as f64 / started.elapsed().as_secs_f64())
}

fn table(
    model: &str,
    args: &BenchCacheArgs,
    measured: &[Measured],
    frontier: &Frontier,
    (floor, full): (f64, &Recall),
) -> Table {
    let columns = [
        "cache",
        "bytes a token",
        "of f16",
        "mean KLD",
        "99 %",
        "same top",
        "perplexity",
        "answer, bits",
        "decode, tokens/s",
    ];
    let title =
        format!("{}: the cache of {} tokens, {} threads", open::short_name(model), args.window, pool::threads());
    let mut table = Table::new(columns.map(Column::new)).title(title);
    let asked = args.questions > 0;
    let mut rows: Vec<&Measured> = measured.iter().collect();
    rows.sort_by(|a, b| b.point.rate.total_cmp(&a.point.rate).then(a.point.loss.total_cmp(&b.point.loss)));
    for row in rows {
        let point = &row.point;
        let emphasis = if frontier.dominated_by(point).is_none() { Emphasis::Strong } else { Emphasis::Plain };
        table.emphasised(
            emphasis,
            [
                Cell::text(point.label.clone().unwrap_or_default()),
                Cell::number(row.bytes, 0),
                Cell::number(point.rate, 3),
                Cell::with_error(point.loss, point.loss_error.unwrap_or(0.0), 4),
                Cell::number(row.p99, 3),
                Cell::Percent(row.top1, 1),
                Cell::number(row.perplexity, 3),
                if asked { Cell::number(row.recall.mean(), 2) } else { Cell::Empty },
                Cell::number(row.decode, 1),
            ],
        );
    }
    let name = Cell::text("floor of this measurement");
    let mut cells = vec![name, Cell::Empty, Cell::Empty, Cell::number(floor, 4)];
    cells.extend([Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty]);
    table.emphasised(Emphasis::Dim, cells);
    if asked {
        let task = |(name, bits): (&&str, &f64)| format!("{name} {bits:.1}");
        let each: Vec<String> = TASKS.iter().zip(&full.bits).map(task).collect();
        let right = match full.accuracy >= 0.5 {
            true => format!("; all tokens of {:.0} % of them are the likeliest", 100.0 * full.accuracy),
            false => String::new(),
        };
        table.note(format!(
            "bits of the true answers to {} questions about facts hidden in the text, asked after its end; the full cache: {:.2} ({}){right}",
            TASKS.len() * args.questions,
            full.mean(),
            each.join(", "),
        ));
    }
    table.note(
        "the first half of a window is the prompt; KLD in bits a token of the second half against the full cache in f32; bytes \
         are those allocated at the window's end, over its tokens; bold: no other has fewer bytes and less loss",
    );
    table
}

fn write(
    path: &Path,
    args: &BenchCacheArgs,
    model: &str,
    table: &Table,
    frontier: &Frontier,
    floor: f64,
) -> Result<()> {
    let name = open::short_name(model);
    let file = format!("cache-{name}-{}.svg", args.window);
    let mut plot = Plot::frontier(format!("{name}, {} tokens: cache held against bits lost", args.window), frontier)
        .labels("share of f16's bytes", "KLD in bits a token")
        .log_x(true)
        .log_y(true);
    if floor > 0.0 {
        plot = plot.floor(floor, "floor of the measurement");
    }
    let picture = path.with_file_name(&file);
    std::fs::write(&picture, plot.to_svg()).with_context(|| format!("writing {}", picture.display()))?;
    let model_arg = args.model.as_deref().map_or_else(String::new, |_| format!(" {name}"));
    let text = args.text.as_deref().and_then(Path::file_name);
    let text = text.map_or_else(String::new, |text| format!(" --text {}", text.to_string_lossy()));
    let page = path.file_name().map_or_else(|| "cache.md".into(), |page| page.to_string_lossy());
    let specs: String = args.specs.iter().map(|spec| format!(" --spec {spec:?}")).collect();
    let command = format!(
        "brevity bench cache{model_arg} --window {} --chunks {}{text}{specs} -o {page}",
        args.window, args.chunks
    );
    let body = format!(
        "### {name}, {} tokens\n\n`{command}`\n\n![Bytes held against bits lost]({file})\n\n{}",
        args.window,
        table.to_markdown()
    );
    document::put_section(path, &format!("cache {name} {}", args.window), &body)
}
