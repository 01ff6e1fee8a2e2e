//! `brevity bench cache`: every way of keeping keys and values on one plane of bytes held against bits lost.

use super::document;
use super::retrieval::{self, Case, Recall, facts, sets};
use crate::cache_budget::{self, Losses};
use crate::cli::{BenchCacheArgs, Global};
use crate::evaluate::{self, Score, Text};
use crate::progress::Show;
use crate::{open, output, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_cache::Spec;
use brevity_kernels::pool;
use brevity_measure::memory::{peak_rss_bytes, reset_peak};
use brevity_measure::plot::Plot;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_measure::{Frontier, Point};
use brevity_model::cache::{CacheShape, KvCache};
use brevity_model::forward::{Logits, Model, Options, Sequence};
use brevity_model::source::ModelSource;
use brevity_model::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is measured where nothing is named.
const SPECS: [&str; 39] = [
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
    "cskv:keys=75,values=75",
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
    "compresskv:budget=25%",
    "razor",
    "razor:induction=50",
    "minicache",
    "minicache + int4",
    "h2o:budget=25% + kvmerger",
    "expected:budget=25% + kvmerger",
    "h2o:budget=50% + int8",
    "snapkv:budget=50% + int8",
    "expected:budget=50% + int8",
    "snapkv:budget=50% + int4",
    "expected:budget=50% + int4",
    "mixed within 50%",
    "mixed within 25%",
    "mixed within 18%",
    "razor:budget=20%,induction=60 within 25%",
    "razor:budget=6%,induction=30 within 12.5%",
];

/// One cache, measured.
struct Measured {
    point: Point,
    bytes: f64,
    perplexity: f64,
    p99: f64,
    top1: f64,
    decode: f64,
    /// The most that was resident while the window was read and decoded, where the system tells.
    resident: Option<u64>,
    /// Questions about hidden facts, then those of sets.
    recall: Vec<Recall>,
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
    let tokenizer = source.tokenizer()?;
    let haystack = texts::evaluation(args.text.as_deref())?;
    // What is asked and named is read before anything long begins.
    let cases = cases(&args, tokenizer, &haystack)?;
    let specs = specs(&args, &source, show)?;
    let text = Text::cut(tokenizer, &haystack, args.window, Some(args.chunks), Score::SecondHalf)?;
    let options = Options { activation: args.activations.into(), ..Options::default() };
    let reference = evaluate::finish(&source, &text, options, (show, "full cache"))?;
    let floor = evaluate::floor(&source, &reference, &text, tokenizer, options, show)?;
    let model = Model::load(&source, options)?;
    let full = retrieval::ask(&model, &Spec::parse("f32")?, &cases)?;
    let mut measured = Vec::new();
    let f16 = 4.0 * (source.config().attention.kv_width() * source.config().layers()) as f64;
    for (name, spec) in &specs {
        show.remark(name);
        let spec = &spec.clone().learnt(&model)?;
        let (all, bytes) = evaluate::compare_cached(&reference, &model, spec, &text, tokenizer, (show, "cache"))?;
        let divergence = all.divergence.summary()?;
        let bytes = bytes as f64 / (args.window - 1) as f64;
        let started = Instant::now();
        let told = reset_peak();
        let decode = speed(&model, spec, &text.windows[0], args.generate)?;
        let resident = peak_rss_bytes().filter(|_| told);
        let recall = retrieval::ask(&model, spec, &cases)?;
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
            resident,
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
                "top1_agreement": m.top1, "decode_tokens_per_second": m.decode, "peak_rss_bytes": m.resident, "answer_bits": answers(&m.recall)})
        };
        return output::json(&json!({
            "model": source.label(), "window": args.window, "kld_floor_bits": floor, "full_answer_bits": answers(&full),
            "points": measured.iter().map(entry).collect::<Vec<_>>(),
        }));
    }
    output::tables(&[table])
}

/// What is measured, each with its name.
fn specs(args: &BenchCacheArgs, source: &ModelSource, show: Show) -> Result<Vec<(String, Spec)>> {
    let named: Vec<&str> = match args.specs.is_empty() {
        true => SPECS.to_vec(),
        false => args.specs.iter().map(String::as_str).collect(),
    };
    let mut losses: Vec<(String, Losses)> = Vec::new();
    let mut spec = |name: &str| -> Result<Spec> {
        let Some((base, budget)) = name.split_once(" within ") else { return Ok(Spec::parse(name)?) };
        let (base, tokens) = (Spec::parse(base)?, args.window - 1);
        let bytes = cache_budget::bytes(budget.trim(), &CacheShape::of(source.config()), tokens)?;
        let key = base.to_string();
        if !losses.iter().any(|(measured, _)| *measured == key) {
            losses.push((key.clone(), cache_budget::measure(source, &base, show)?));
        }
        let (_, losses) = losses.iter().find(|(measured, _)| *measured == key).context("no losses")?;
        let plan = losses.plan(bytes, tokens)?;
        show.remark(&format!("{name}: {}", plan.spec));
        Ok(plan.spec)
    };
    named.into_iter().map(|name| Ok((name.to_string(), spec(name).context("--spec")?))).collect()
}

/// Stores, selections and both together are drawn apart.
fn family(spec: &str) -> &'static str {
    if spec.contains(" within ") {
        return "within a budget";
    }
    match (spec.contains("budget"), spec.contains('+')) {
        (true, true) => "selection + store",
        (true, false) => "selection (f16)",
        _ => "store",
    }
}

/// Questions about facts hidden in the text, and those of sets.
fn cases(args: &BenchCacheArgs, tokenizer: &Tokenizer, haystack: &str) -> Result<Vec<Case>> {
    let mut all = facts::cases(tokenizer, haystack, args.window, args.questions)?;
    for path in &args.sets {
        all.extend(sets::cases(tokenizer, path, args.window, args.questions).context("--set")?);
    }
    Ok(all)
}

fn answers(recalls: &[Recall]) -> Value {
    let one = |recall: &Recall| json!({"task": recall.task, "bits": recall.bits, "accuracy": recall.accuracy, "cases": recall.cases});
    let (hidden, sets) = apart(recalls);
    json!({"mean": retrieval::mean(hidden), "tasks": hidden.iter().map(one).collect::<Vec<_>>(), "sets": sets.iter().map(one).collect::<Vec<_>>()})
}

/// What came of hidden facts, and of sets.
fn apart(recalls: &[Recall]) -> (&[Recall], &[Recall]) {
    recalls.split_at(recalls.len().min(facts::TASKS.len()))
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
    (floor, full): (f64, &[Recall]),
) -> Table {
    let mut columns = vec!["cache", "bytes a token", "of f16", "mean KLD", "99 %", "same top", "perplexity"];
    let (hidden, sets) = apart(full);
    let set_columns: Vec<String> = sets.iter().map(|set| format!("{}, bits", set.task)).collect();
    columns.extend((!hidden.is_empty()).then_some("answer, bits"));
    columns.extend(set_columns.iter().map(String::as_str));
    columns.extend(right(full, full).map(|_| "right"));
    columns.extend(["decode, tokens/s", "VmHWM"]);
    let title =
        format!("{}: the cache of {} tokens, {} threads", open::short_name(model), args.window, pool::threads());
    let mut table = Table::new(columns.iter().map(|column| Column::new(*column))).title(title);
    let mut rows: Vec<&Measured> = measured.iter().collect();
    rows.sort_by(|a, b| b.point.rate.total_cmp(&a.point.rate).then(a.point.loss.total_cmp(&b.point.loss)));
    for row in rows {
        let point = &row.point;
        let emphasis = if frontier.dominated_by(point).is_none() { Emphasis::Strong } else { Emphasis::Plain };
        let mut cells = vec![
            Cell::text(point.label.clone().unwrap_or_default()),
            Cell::number(row.bytes, 0),
            Cell::number(point.rate, 3),
            Cell::with_error(point.loss, point.loss_error.unwrap_or(0.0), 4),
            Cell::number(row.p99, 3),
            Cell::Percent(row.top1, 1),
            Cell::number(row.perplexity, 3),
        ];
        cells.extend(answer_cells(&row.recall, full));
        cells.push(Cell::number(row.decode, 1));
        cells.push(row.resident.map_or(Cell::Empty, Cell::Bytes));
        table.emphasised(emphasis, cells);
    }
    let name = Cell::text("floor of this measurement");
    let mut cells = vec![name, Cell::Empty, Cell::Empty, Cell::number(floor, 4)];
    cells.resize(columns.len(), Cell::Empty);
    table.emphasised(Emphasis::Dim, cells);
    if !full.is_empty() {
        let mut cells = vec![Cell::text("the full cache's answers")];
        cells.resize(columns.len() - 2 - answer_cells(full, full).len(), Cell::Empty);
        cells.extend(answer_cells(full, full));
        cells.extend([Cell::Empty, Cell::Empty]);
        table.emphasised(Emphasis::Dim, cells);
    }
    for note in answer_notes(full, args.questions) {
        table.note(note);
    }
    table.note(
        "the first half of a window is the prompt; KLD in bits a token of the second half against the full cache in f32; bytes \
         are those allocated at the window's end, over its tokens; VmHWM: the most that was resident while a window was read and \
         decoded, the model and the reference included; bold: no other has fewer bytes and less loss",
    );
    table
}

/// Bits of the answers to questions about hidden facts, mean over their kinds, and of each set.
fn answer_cells(recalls: &[Recall], full: &[Recall]) -> Vec<Cell> {
    let (hidden, sets) = apart(recalls);
    let mean = (!hidden.is_empty()).then(|| Cell::number(retrieval::mean(hidden), 2));
    let bits = mean.into_iter().chain(sets.iter().map(|set| Cell::number(set.bits, 1)));
    bits.chain(right(recalls, full).map(|right| Cell::Percent(right, 0))).collect()
}

/// Share of right answers, over the tasks in which the full cache itself reaches a half.
fn right(recalls: &[Recall], full: &[Recall]) -> Option<f64> {
    let told: Vec<f64> =
        recalls.iter().zip(full).filter(|(_, full)| full.accuracy >= 0.5).map(|(r, _)| r.accuracy).collect();
    (!told.is_empty()).then(|| told.iter().sum::<f64>() / told.len() as f64)
}

/// What was asked, and where the full cache itself is right.
fn answer_notes(full: &[Recall], questions: usize) -> Vec<String> {
    let (hidden, sets) = apart(full);
    let right = |recall: &Recall| match recall.accuracy >= 0.5 {
        true => format!(" (right in {:.0} %)", 100.0 * recall.accuracy),
        false => String::new(),
    };
    let each = |recalls: &[Recall]| -> String {
        let one = |recall: &Recall| format!("{} {:.1}{}", recall.task, recall.bits, right(recall));
        recalls.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let mut notes = Vec::new();
    if !hidden.is_empty() {
        notes.push(format!(
            "answer, bits: of the true answers to {} questions about facts hidden in the text, asked after its end; the full cache: {}",
            hidden.len() * questions,
            each(hidden)
        ));
    }
    if full.iter().any(|recall| recall.accuracy >= 0.5) {
        let what =
            "right: answers whose tokens were all the likeliest, of the kinds in which the full cache reaches a half";
        notes.push(what.to_string());
    }
    if !sets.is_empty() {
        notes.push(format!(
            "of each set {questions} questions, contexts cut to the window; the full cache: {}",
            each(sets)
        ));
    }
    notes
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
    let set =
        |path: &PathBuf| path.file_name().map_or_else(String::new, |name| format!(" --set {}", name.to_string_lossy()));
    let sets: String = args.sets.iter().map(set).collect();
    let specs: String = args.specs.iter().map(|spec| format!(" --spec {spec:?}")).collect();
    let command = format!(
        "brevity bench cache{model_arg} --window {} --chunks {} --questions {} --generate {}{text}{sets}{specs} -o {page}",
        args.window, args.chunks, args.questions, args.generate
    );
    let body = format!(
        "### {name}, {} tokens\n\n`{command}`\n\n![Bytes held against bits lost]({file})\n\n{}",
        args.window,
        table.to_markdown()
    );
    document::put_section(path, &format!("cache {name} {}", args.window), &body)
}
