//! `brevity bench speed`: tokens per second of prefill and decode, and the share of the memory's bandwidth reached.

use super::bandwidth::streaming_read;
use super::document;
use super::peer::{self, Peer};
use crate::cli::{BenchSpeedArgs, Global};
use crate::progress::Show;
use crate::{cache_budget, open, output, stop};
use anyhow::{Context, Result, bail};
use brevity_cache::Spec;
use brevity_kernels::{Isa, pool};
use brevity_measure::bits::format_bytes;
use brevity_measure::memory::{peak_rss_bytes, reset_peak, rss_bytes};
use brevity_measure::table::{Cell, Column, Table};
use brevity_model::cache::KvCache;
use brevity_model::forward::{Logits, Model, Options, Sequence};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Seconds of one repetition.
struct Run {
    prefill: f64,
    decode: f64,
    cache_bytes: u64,
    /// How far reading the prompt raised the peak of what is resident, where the system tells.
    growth: Option<u64>,
}

/// Runs the command.
pub fn run(args: BenchSpeedArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    if args.prompt == 0 || args.generate == 0 || args.repeat == 0 {
        bail!("--prompt, --generate and --repeat must be at least 1");
    }
    let several = args.models.len() > 1;
    let measured = match args.models.as_slice() {
        [] => vec![measure(&args, None, show)?],
        models => models.iter().map(|model| measure(&args, Some(model), show)).collect::<Result<_>>()?,
    };
    if let Some(path) = &args.output {
        let (key, body) = match measured.as_slice() {
            [one] => (one.key(&args), one.section(&args)),
            all => (format!("speed of several {}", args.prompt), overview_section(all, &args)),
        };
        document::put_section(path, &key, &body)?;
    }
    if global.json {
        let all: Vec<Value> = measured.iter().map(|one| one.json(&args)).collect();
        return output::json(&if several { json!({ "models": all }) } else { all[0].clone() });
    }
    output::tables(&[if several { overview(&measured, &args) } else { measured[0].table(&args) }])
}

fn measure(args: &BenchSpeedArgs, model: Option<&str>, show: Show) -> Result<Measured> {
    let base = Spec::parse(&args.cache).context("--cache")?;
    let source = open::open(model, show)?;
    let context = source.config().context;
    if args.prompt + args.generate > context {
        bail!("{} tokens of prompt and {} to generate do not fit the context of {context}", args.prompt, args.generate);
    }
    let (budget, tokens) = (args.cache_budget.as_deref(), args.prompt + args.generate);
    let spec = cache_budget::spec(&source, base, budget, tokens, show)?;
    let model = Model::load(&source, Options { activation: args.activations.into(), ..Options::default() })?;
    let spec = spec.learnt(&model)?;
    let phase = show.phase("repetitions", args.repeat as u64 + 1);
    // The first warms up, and alone shows what memory is taken: later ones find what it gave back.
    let first = once(&model, &spec, args.prompt, args.generate)?;
    phase.step();
    let mut runs = Vec::new();
    for _ in 0..args.repeat {
        stop::check()?;
        runs.push(once(&model, &spec, args.prompt, args.generate)?);
        phase.step();
    }
    drop(phase);
    let peer = args
        .peer
        .as_deref()
        .map(|program| peer::run(program, source.label(), args.prompt, args.generate, pool::threads(), args.repeat));
    Ok(Measured {
        model: source.label().to_string(),
        file_bytes: source.file_bytes(),
        prefill: args.prompt as f64 / median(runs.iter().map(|run| run.prefill)),
        decode: args.generate as f64 / median(runs.iter().map(|run| run.decode)),
        weight_bytes: model.resident_bytes() as u64,
        cache_bytes: first.cache_bytes,
        growth: first.growth,
        read: streaming_read(5),
        peer: peer.transpose()?,
        cache: spec.to_string(),
    })
}

/// Several models, a row each.
fn overview(all: &[Measured], args: &BenchSpeedArgs) -> Table {
    let (prefill, decode) = (format!("prefill of {}", args.prompt), format!("decode of {}", args.generate));
    let mut columns = vec!["model", "file", prefill.as_str(), decode.as_str(), "share of bandwidth"];
    let peer = all.iter().any(|measured| measured.peer.is_some());
    if peer {
        columns.extend(["llama.cpp: prefill", "decode", "ratio: prefill", "decode"]);
    }
    let title = format!("tokens a second, {} threads, {:?}", pool::threads(), Isa::best());
    let mut table = Table::new(columns.into_iter().map(Column::new)).title(title);
    for measured in all {
        let mut cells = vec![
            Cell::text(measured.name()),
            Cell::Bytes(measured.file_bytes),
            Cell::number(measured.prefill, 1),
            Cell::number(measured.decode, 1),
            Cell::number(measured.share(), 2),
        ];
        if let Some(peer) = &measured.peer {
            let ratios = [measured.prefill / peer.prefill, measured.decode / peer.decode];
            cells.extend([peer.prefill, peer.decode].map(|speed| Cell::number(speed, 1)));
            cells.extend(ratios.map(|ratio| Cell::number(ratio, 2)));
        }
        table.row(cells);
    }
    table.note(NOTE);
    table
}

fn overview_section(all: &[Measured], args: &BenchSpeedArgs) -> String {
    let names: Vec<String> = all.iter().map(Measured::name).collect();
    let (command, table) = (command(&names.join(" "), args), overview(all, args).to_markdown());
    format!("## Speed of several files, prompt of {}\n\n`{command}`\n\n{table}", args.prompt)
}

fn command(models: &str, args: &BenchSpeedArgs) -> String {
    let peer = if args.peer.is_some() { " --peer llama-bench" } else { "" };
    let BenchSpeedArgs { prompt, generate, repeat, .. } = args;
    let mut cache = if args.cache == "f16" { String::new() } else { format!(" --cache {:?}", args.cache) };
    if let Some(budget) = &args.cache_budget {
        cache += &format!(" --cache-budget {budget}");
    }
    format!("brevity bench speed {models} --prompt {prompt} --generate {generate} --repeat {repeat}{cache}{peer}")
}

const NOTE: &str =
    "decoding follows the prompt and reads every weight and the cache once a token; medians of the repetitions";

struct Measured {
    model: String,
    file_bytes: u64,
    prefill: f64,
    decode: f64,
    weight_bytes: u64,
    cache_bytes: u64,
    growth: Option<u64>,
    read: f64,
    peer: Option<Peer>,
    cache: String,
}

impl Measured {
    fn name(&self) -> String {
        let path = Path::new(&self.model);
        path.file_name().map_or_else(|| self.model.clone(), |name| name.to_string_lossy().into_owned())
    }

    fn key(&self, args: &BenchSpeedArgs) -> String {
        let cache = if args.cache == "f16" { String::new() } else { format!(" {}", args.cache) };
        format!("speed {} {}{cache}", self.name(), args.prompt)
    }

    /// Bytes read a second while decoding, over what a streaming read reaches.
    fn share(&self) -> f64 {
        self.decode * (self.weight_bytes + self.cache_bytes) as f64 / self.read
    }

    fn json(&self, args: &BenchSpeedArgs) -> Value {
        json!({
            "model": self.model, "threads": pool::threads(), "isa": format!("{:?}", Isa::best()),
            "prompt": args.prompt, "generate": args.generate,
            "prefill_tokens_per_second": self.prefill, "decode_tokens_per_second": self.decode,
            "resident_weight_bytes": self.weight_bytes, "cache": self.cache, "cache_bytes": self.cache_bytes, "bandwidth_bytes_per_second": self.read,
            "bandwidth_share": self.share(), "prefill_growth_bytes": self.growth, "peak_rss_bytes": peak_rss_bytes(),
            "peer_prefill_tokens_per_second": self.peer.as_ref().map(|peer| peer.prefill),
            "peer_decode_tokens_per_second": self.peer.as_ref().map(|peer| peer.decode),
        })
    }

    fn table(&self, args: &BenchSpeedArgs) -> Table {
        let title = format!("{}, {} threads, {:?}", self.name(), pool::threads(), Isa::best());
        let columns = match &self.peer {
            Some(_) => vec!["measure", "Brevity", "llama.cpp", "ratio"],
            None => vec!["measure", "Brevity"],
        };
        let mut table = Table::new(columns.into_iter().map(Column::new)).title(title);
        let row = |name: String, ours: f64, theirs: Option<f64>| {
            let mut cells = vec![Cell::text(name), Cell::number(ours, 1)];
            cells.extend(
                theirs.into_iter().flat_map(|theirs| [Cell::number(theirs, 1), Cell::number(ours / theirs, 2)]),
            );
            cells
        };
        let peer = |of: fn(&Peer) -> f64| self.peer.as_ref().map(of);
        table.row(row(format!("prefill of {} tokens, tokens/s", args.prompt), self.prefill, peer(|peer| peer.prefill)));
        table.row(row(format!("decode of {} tokens, tokens/s", args.generate), self.decode, peer(|peer| peer.decode)));
        table.row([Cell::text("streaming read, GB/s"), Cell::number(self.read / 1e9, 1)]);
        table.row([Cell::text("share of it that decoding reads"), Cell::number(self.share(), 2)]);
        let growth = self.growth.map_or_else(String::new, |growth| {
            format!("; reading the prompt raised the peak of resident memory by {}", format_bytes(growth))
        });
        table.note(format!("the cache ({}) holds {}{growth}", self.cache, format_bytes(self.cache_bytes)));
        table.note(NOTE);
        table
    }

    fn section(&self, args: &BenchSpeedArgs) -> String {
        let command = command(&self.name(), args);
        format!(
            "## Speed: {}, prompt of {}\n\n`{command}`\n\n{}",
            self.name(),
            args.prompt,
            self.table(args).to_markdown()
        )
    }
}

fn once(model: &Model, spec: &Spec, prompt: usize, generate: usize) -> Result<Run> {
    let vocab = model.config().vocab as u32;
    let tokens: Vec<u32> = (0..prompt as u32).map(|index| (index * 7919 + 13) % vocab).collect();
    let mut cache = spec.cache(model.config(), prompt + generate)?;
    let resident = rss_bytes().filter(|_| reset_peak());
    let started = Instant::now();
    let mut logits = model.forward(&mut [Sequence { tokens: &tokens, cache: &mut cache }], Logits::Last, None)?;
    cache.end_prompt()?;
    let prefill = started.elapsed().as_secs_f64();
    let growth = resident.and_then(|resident| Some(peak_rss_bytes()?.saturating_sub(resident)));
    let started = Instant::now();
    for _ in 0..generate {
        let next = likeliest(logits.row(0));
        logits = model.forward(&mut [Sequence { tokens: &[next], cache: &mut cache }], Logits::Last, None)?;
    }
    Ok(Run { prefill, decode: started.elapsed().as_secs_f64(), cache_bytes: cache.bytes(), growth })
}

fn likeliest(logits: &[f32]) -> u32 {
    let better =
        |best: (usize, f32), (index, &logit): (usize, &f32)| if logit > best.1 { (index, logit) } else { best };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u32
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
