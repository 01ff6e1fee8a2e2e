//! `brevity bench weights`: every method on every grid and budget, on one rate–loss plane.

use super::llama_quantize::{Bench, Programs};
use super::{beside, document, matrices};
use crate::cli::{BenchWeightsArgs, CALIBRATION_WINDOWS, Global};
use crate::compress::allocate::Allocator;
use crate::compress::goal::{DEFAULT, Goal};
use crate::compress::measuring::Measuring;
use crate::compress::{DirectoryFormat, Job};
use crate::progress::Show;
use crate::{convert, open, output, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_formats::TensorType;
use brevity_kernels::pool;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_measure::{Frontier, Point};
use brevity_model::ModelSource;
use brevity_parts::Activation;
use brevity_weights::plan::Rules;
use brevity_weights::registry::Chain;
use brevity_weights::{Level, WeightMethod, registry};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One measured point and what a table says of it.
struct Measured {
    point: Point,
    p999: f64,
    top1: f64,
    floor: f64,
}

/// Runs the command.
pub fn run(args: BenchWeightsArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let goals = goals(&args)?;
    if let Some(checkpoint) = matrices::checkpoint(&args) {
        let methods: Vec<_> = chains(&args)?.into_iter().filter(|chain| chain.folds.is_empty()).collect();
        let methods: Vec<_> = methods.iter().map(|chain| chain.method).collect();
        return matrices::run(&args, global, &checkpoint, &methods, &goals);
    }
    let scratch = Scratch::new()?;
    let (mut measured, mut left_out) = (Vec::new(), Vec::new());
    for chain in chains(&args)? {
        for goal in goals.iter().copied().filter(|goal| supports(chain.method, *goal)) {
            let what = format!("{} at {goal}", chain.name());
            show.remark(&what);
            match measure(&args, chain.clone(), goal, &scratch.0) {
                Ok(point) => measured.push(point),
                Err(error) => {
                    // One impossible point must not cost all the others, hours of work perhaps.
                    stop::check()?;
                    left_out.push(format!("left out: {what}: {error:#}"));
                }
            }
        }
    }
    if measured.is_empty() && !left_out.is_empty() {
        bail!("nothing could be measured\n  {}", left_out.join("\n  "));
    }
    if let Some(folder) = &args.peer {
        measured.extend(peer(&args, folder, &scratch.0, show)?);
    }
    let model = args.model.clone().unwrap_or_else(|| crate::embedded::NAME.to_string());
    let frontier = Frontier::new(measured.iter().map(|measured| measured.point.clone()))?;
    let table = table(&model, &measured, &frontier, &left_out);
    if let Some(path) = &args.output {
        write(path, &args, &model, &table, &frontier)?;
    }
    if global.json {
        let entry = |m: &Measured| json!({"point": m.point, "kld_p999_bits": m.p999, "top1_agreement": m.top1, "kld_floor_bits": m.floor});
        return output::json(&json!({"model": model, "points": measured.iter().map(entry).collect::<Vec<_>>()}));
    }
    output::tables(&[table])
}

/// A folder that is removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Under the system's folder for such things.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("brevity-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The methods named, or every method by itself and every fold before the method that it helps.
fn chains(args: &BenchWeightsArgs) -> Result<Vec<Chain>> {
    if !args.methods.is_empty() {
        return args.methods.iter().map(|text| Ok(registry::chain(text)?)).collect();
    }
    let alone = registry::methods().iter().map(|method| Chain { folds: Vec::new(), method: *method });
    let folds = ["awq", "rotation+gptq"].into_iter().map(registry::chain);
    Ok(alone.map(Ok).chain(folds).collect::<Result<_, _>>()?)
}

fn goals(args: &BenchWeightsArgs) -> Result<Vec<Goal>> {
    let mut goals = Vec::new();
    if args.grids.is_empty() {
        let types = TensorType::all().filter(|ty| ty.writable() && ty.is_quantized());
        goals.extend(types.map(|ty| Goal::Grid(Level::Type(ty))));
        let groups = [(2, 64), (2, 128), (3, 64), (3, 128), (4, 64), (4, 128), (5, 128), (6, 128), (8, 128)];
        goals.extend(groups.map(|(bits, group)| Goal::Grid(Level::Integer { bits, group })));
        let sums = registry::methods().iter().flat_map(|method| method.levels());
        goals.extend(sums.filter(|level| matches!(level, Level::Sum(_))).map(Goal::Grid));
    }
    for grid in &args.grids {
        goals.push(Goal::Grid(Level::parse(grid)?));
    }
    for bits in &args.bits {
        goals.push(Goal::from_flags(Some(*bits), None, None, None, None)?);
    }
    Ok(goals)
}

fn supports(method: &dyn WeightMethod, goal: Goal) -> bool {
    match goal {
        Goal::Grid(level) => method.supports(level),
        _ => true,
    }
}

fn job(args: &BenchWeightsArgs, chain: Chain, goal: Goal, dir: &Path) -> Job {
    Job {
        model: args.model.clone(),
        goal,
        chain,
        rules: Rules { pure: matches!(goal, Goal::Grid(Level::Type(_))), ..Rules::default() },
        output: Some(dir.join("out")),
        format: matches!(goal, Goal::Grid(Level::Integer { .. })).then_some(DirectoryFormat::Parts),
        force: true,
        allow_requantize: true,
        memory: None,
        calibration: None,
        imatrix: None,
        allocator: Some(Allocator::Lagrange),
        levels: None,
        calibration_windows: args.calibration_windows,
        text: args.text.clone(),
        chunks: args.chunks,
        evaluate: true,
        activation: Activation::F32,
        show: Show::Nothing,
    }
}

/// llama-quantize's types, measured as ours are.
fn peer(args: &BenchWeightsArgs, folder: &Path, scratch: &Path, show: Show) -> Result<Vec<Measured>> {
    let programs = Programs::in_folder(folder, pool::threads())?;
    let source = open::open(args.model.as_deref(), show)?;
    let original = scratch.join("original.gguf");
    convert::run(&source, &original, Some(TensorType::F32), true, Show::Nothing)?;
    let bench =
        Bench::new(&programs, &original, scratch, &texts::calibration(None)?, source.config().context.min(512))?;
    let job = job(args, registry::chain("rtn")?, DEFAULT, scratch);
    let measuring = Measuring::new(&job, &source)?;
    let measure = |ty: &String| {
        show.remark(&format!("llama-quantize {ty}"));
        let started = Instant::now();
        let path = scratch.join("theirs.gguf");
        bench.quantize(ty, &path)?;
        let seconds = started.elapsed().as_secs_f64();
        let loss = measuring.loss(&path)?;
        let bits = 8.0 * ModelSource::open(&path)?.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>() as f64;
        let point = Point::new("llama-quantize", bits / source.weights().max(1) as f64, loss.divergence.mean)
            .with_cost(seconds, 0)
            .with_error(loss.divergence.error())
            .with_label(ty);
        Ok(Measured { point, p999: loss.divergence.p999, top1: loss.divergence.top1, floor: loss.floor })
    };
    beside::types(&[], &source).iter().map(measure).collect()
}

fn measure(args: &BenchWeightsArgs, chain: Chain, goal: Goal, dir: &Path) -> Result<Measured> {
    let method = chain.name();
    let job = job(args, chain, goal, dir);
    let report = job.run()?;
    let out = dir.join("out");
    let _ = if out.is_dir() { std::fs::remove_dir_all(&out) } else { std::fs::remove_file(&out) };
    let Some(loss) = &report.loss else { bail!("no loss was measured") };
    let name = match goal {
        Goal::Grid(Level::Type(_)) => format!("{method} types"),
        Goal::Grid(Level::Integer { .. }) => format!("{method} integers"),
        Goal::Grid(Level::Sum(_)) => method,
        _ => format!("{method} budget"),
    };
    let label = match goal {
        Goal::Grid(level) => level.to_string(),
        other => other.to_string(),
    };
    let point = Point::new(name, report.plan.bits_per_weight(), loss.divergence.mean)
        .with_cost(report.seconds, report.peak_rss_bytes.unwrap_or(0))
        .with_error(loss.divergence.error())
        .with_label(label);
    Ok(Measured { point, p999: loss.divergence.p999, top1: loss.divergence.top1, floor: loss.floor })
}

fn table(model: &str, measured: &[Measured], frontier: &Frontier, left_out: &[String]) -> Table {
    let columns = ["method", "grid or budget", "bits per weight", "mean KLD", "99.9 %", "same top", "seconds", "peak"];
    let mut table = Table::new(columns.map(Column::new)).title(format!("{model}: bits stored against bits lost"));
    let mut rows: Vec<&Measured> = measured.iter().collect();
    rows.sort_by(|a, b| a.point.rate.total_cmp(&b.point.rate));
    for row in rows {
        let point = &row.point;
        let emphasis = if frontier.dominated_by(point).is_none() { Emphasis::Strong } else { Emphasis::Plain };
        table.emphasised(
            emphasis,
            [
                Cell::text(&point.method),
                Cell::text(point.label.clone().unwrap_or_default()),
                Cell::number(point.rate, 3),
                Cell::with_error(point.loss, point.loss_error.unwrap_or(0.0), 4),
                Cell::number(row.p999, 3),
                Cell::Percent(row.top1, 1),
                Cell::number(point.seconds, 1),
                Cell::Bytes(point.peak_bytes),
            ],
        );
    }
    let floor = measured.iter().map(|row| row.floor).fold(0.0, f64::max);
    table.emphasised(
        Emphasis::Dim,
        [Cell::text("floor"), Cell::text("of this measurement"), Cell::Empty, Cell::number(floor, 4)],
    );
    table.note("bold: no other point has fewer bits and less loss; KLD in bits a token, f32 activations");
    left_out.iter().for_each(|note| table.note(note));
    table
}

fn write(path: &Path, args: &BenchWeightsArgs, model: &str, table: &Table, frontier: &Frontier) -> Result<()> {
    let name = Path::new(model).file_stem().map_or_else(|| model.into(), |stem| stem.to_string_lossy());
    let picture = path.with_file_name(format!("weights-{name}.svg"));
    std::fs::write(&picture, super::picture(&name, frontier))
        .with_context(|| format!("writing {}", picture.display()))?;
    let file = Path::new(model).file_name().map_or_else(|| model.into(), |file| file.to_string_lossy());
    let model_arg = if args.model.is_some() { format!(" {file}") } else { String::new() };
    let page = path.file_name().map_or_else(|| "benchmarks.md".into(), |page| page.to_string_lossy());
    let command = format!("brevity bench weights{model_arg} --chunks {}{} -o {page}", args.chunks, chosen(args));
    let body = format!(
        "## Weights: {name}\n\n`{command}`\n\n![Bits per weight against bits lost](weights-{name}.svg)\n\n{}",
        table.to_markdown()
    );
    document::put_section(path, &format!("weights {name}"), &body)
}

/// The flags that chose grids and budgets, as they are typed.
fn chosen(args: &BenchWeightsArgs) -> String {
    let bits: Vec<String> = args.bits.iter().map(f64::to_string).collect();
    let methods =
        if args.methods.is_empty() { String::new() } else { format!(" --methods {}", args.methods.join(",")) };
    let grids = if args.grids.is_empty() { String::new() } else { format!(" --grids {}", args.grids.join(",")) };
    let peer = if args.peer.is_some() { " --peer LLAMA" } else { "" };
    let windows = match args.calibration_windows {
        CALIBRATION_WINDOWS => String::new(),
        windows => format!(" --calibration-windows {windows}"),
    };
    format!("{windows} --bits {}{grids}{methods}{peer}", bits.join(","))
}
