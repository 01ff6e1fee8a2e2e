//! `brevity bench beside`: our files beside llama-quantize's, of the same size, read and measured by llama.cpp.

use super::document;
use super::llama_quantize::{Bench, Divergence, Programs};
use super::weights::Scratch;
use crate::cli::{BenchBesideArgs, Global};
use crate::compress::Job;
use crate::compress::allocate::Allocator;
use crate::compress::goal::Goal;
use crate::progress::Show;
use crate::{convert, open, output, texts};
use anyhow::{Context, Result};
use brevity_formats::TensorType;
use brevity_kernels::pool;
use brevity_measure::table::{Cell, Column, Table};
use brevity_model::ModelSource;
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::registry;
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// A file and what llama.cpp says of it.
#[derive(Debug, Serialize)]
struct File {
    bytes: u64,
    kld_bits: f64,
    kld_error: f64,
    seconds: f64,
}

/// Two files, ours no larger than theirs.
#[derive(Debug, Serialize)]
struct Pair {
    #[serde(rename = "type")]
    ty: String,
    bits_per_weight: f64,
    theirs: File,
    ours: File,
    ratio: f64,
}

/// Runs the command.
pub fn run(args: BenchBesideArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let programs = Programs::in_folder(&args.peer, pool::threads())?;
    let source = open::open(args.model.as_deref(), show)?;
    let scratch = Scratch::new()?;
    let original = scratch.0.join("original.gguf");
    convert::run(&source, &original, Some(TensorType::F32), true, Show::Nothing)?;
    let (calibration, evaluation) =
        (texts::calibration(args.calibration.as_deref())?, texts::evaluation(args.text.as_deref())?);
    let window = args.window.min(source.config().context);
    show.remark("llama-imatrix, and the original's logits");
    let bench = Bench::new(&programs, &original, &scratch.0, &calibration, window)?;
    bench.keep_logits(&evaluation, args.chunks)?;
    let mut pairs = Vec::new();
    for ty in types(&args.types, &source) {
        show.remark(&format!("{ty}: llama-quantize, then {}", args.method));
        pairs.push(pair(&args, &source, &bench, &ty, &scratch.0)?);
    }
    let model = args.model.clone().unwrap_or_else(|| crate::embedded::NAME.to_string());
    let name = Path::new(&model).file_stem().map_or_else(|| model.clone(), |stem| stem.to_string_lossy().into_owned());
    let table = table(&name, &args.method, &pairs);
    if let Some(path) = &args.output {
        let body =
            format!("## Beside llama-quantize: {name}\n\n`{}`\n\n{}", command(&args, &name, path), table.to_markdown());
        document::put_section(path, &format!("beside {name}"), &body)?;
    }
    if global.json {
        return output::json(&json!({"model": model, "method": args.method, "pairs": pairs}));
    }
    output::tables(&[table])
}

/// The types named, or those that rows of the model's width have.
pub fn types(named: &[String], source: &ModelSource) -> Vec<String> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let wide = source.tensors().iter().filter(|tensor| !tensor.vector).all(|tensor| tensor.cols.is_multiple_of(256));
    let types: &[&str] = if wide { &["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M"] } else { &["Q4_0", "IQ4_NL", "Q5_0"] };
    types.iter().map(ToString::to_string).collect()
}

fn pair(args: &BenchBesideArgs, source: &ModelSource, bench: &Bench, ty: &str, scratch: &Path) -> Result<Pair> {
    let started = Instant::now();
    let path = scratch.join("theirs.gguf");
    bench.quantize(ty, &path)?;
    let theirs = file(&path, started, bench.divergence(&path)?)?;
    let started = Instant::now();
    let path = scratch.join("ours.gguf");
    job(args, theirs.bytes, &path)?.run()?;
    let ours = file(&path, started, bench.divergence(&path)?)?;
    Ok(Pair {
        ty: ty.to_string(),
        bits_per_weight: 8.0 * theirs.bytes as f64 / source.weights().max(1) as f64,
        ratio: ours.kld_bits / theirs.kld_bits,
        theirs,
        ours,
    })
}

fn file(path: &Path, started: Instant, kld: Divergence) -> Result<File> {
    let bytes = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
    Ok(File { bytes, kld_bits: kld.mean, kld_error: kld.error, seconds: started.elapsed().as_secs_f64() })
}

fn job(args: &BenchBesideArgs, bytes: u64, output: &Path) -> Result<Job> {
    Ok(Job {
        model: args.model.clone(),
        goal: Goal::Size(bytes),
        chain: registry::chain(&args.method)?,
        rules: Rules::default(),
        output: Some(output.to_path_buf()),
        format: None,
        force: true,
        allow_requantize: true,
        memory: None,
        calibration: args.calibration.clone(),
        imatrix: None,
        calibration_windows: args.calibration_windows,
        allocator: Some(if args.evopress { Allocator::EvoPress } else { Allocator::Lagrange }),
        levels: None,
        text: None,
        chunks: args.chunks,
        evaluate: false,
        activation: Activation::F32,
        show: Show::Nothing,
    })
}

fn table(model: &str, method: &str, pairs: &[Pair]) -> Table {
    let columns = ["type", "bytes", "bits per weight", "llama-quantize", "Brevity, no larger", "ratio", "seconds"];
    let mut table = Table::new(columns.map(Column::new)).title(format!("{model}: mean KLD that llama.cpp measures"));
    for pair in pairs {
        table.row([
            Cell::text(&pair.ty),
            Cell::Bytes(pair.theirs.bytes),
            Cell::number(pair.bits_per_weight, 3),
            Cell::with_error(pair.theirs.kld_bits, pair.theirs.kld_error, 4),
            Cell::with_error(pair.ours.kld_bits, pair.ours.kld_error, 4),
            Cell::number(pair.ratio, 3),
            Cell::number(pair.ours.seconds, 1),
        ]);
    }
    table.note(format!(
        "bits a token, both files read by llama-perplexity; llama-quantize with its own importance matrix of the same text; \
         ours by {method}"
    ));
    table
}

fn command(args: &BenchBesideArgs, name: &str, page: &Path) -> String {
    let model = if args.model.is_some() { format!(" {name}") } else { String::new() };
    let types = if args.types.is_empty() { String::new() } else { format!(" --types {}", args.types.join(",")) };
    let evopress = if args.evopress { " --evopress" } else { "" };
    let page = page.file_name().map_or_else(|| "benchmarks.md".into(), |page| page.to_string_lossy());
    format!(
        "brevity bench beside{model} --peer LLAMA{types} --window {} --chunks {} --calibration-windows {}{evopress} -o {page}",
        args.window, args.chunks, args.calibration_windows
    )
}
