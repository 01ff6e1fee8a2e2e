//! `brevity compress`.

use crate::cli::{CompressArgs, Global};
use crate::compress::goal::Goal;
use crate::compress::report::{plan_json, plan_table};
use crate::compress::{DirectoryFormat, Job, checks};
use crate::output;
use crate::progress::Show;
use anyhow::{Context, Result, bail};
use brevity_measure::bits::parse_size;
use brevity_weights::plan::Rules;
use brevity_weights::{Level, registry};

/// Runs the command.
pub fn run(args: CompressArgs, global: &Global) -> Result<()> {
    let job = job(&args, global)?;
    checks::report(args.report.as_deref(), args.force)?;
    if args.dry_run {
        let (plan, model) = job.dry_run()?;
        return if global.json {
            output::json(&plan_json(&plan, &model))
        } else {
            output::tables(&[plan_table(&plan)])
        };
    }
    if let Some(blocks) = args.blocks {
        let rehearsal = job.rehearse(blocks)?;
        return if global.json { output::json(&rehearsal.json()) } else { output::tables(&[rehearsal.table()]) };
    }
    let report = job.run()?;
    if let Some(path) = &args.report {
        crate::compress::page::write(&report, path, args.force)?;
    }
    if global.json {
        return output::json(&report.json());
    }
    output::tables(&report.tables())?;
    if let Some(next) = report.next() {
        output::line(&next)?;
    }
    output::line(&report.headline())?;
    output::line(&format!("written: {}", report.output.display()))
}

fn job(args: &CompressArgs, global: &Global) -> Result<Job> {
    if args.chunks == 0 {
        bail!("--chunks 0 measures nothing\n  next: leave the measurement out with --no-eval");
    }
    if args.max_kld.is_some() && (args.no_eval || args.dry_run) {
        let flag = if args.no_eval { "--no-eval" } else { "--dry-run" };
        bail!("--max-kld finds its size by writing and measuring files\n  next: leave out {flag}");
    }
    let level = |text: &Option<String>| text.as_deref().map(Level::parse).transpose();
    let mut rules = Rules {
        overrides: Vec::new(),
        output: level(&args.output_tensor_type).context("--output-tensor-type")?,
        token_embedding: level(&args.token_embedding_type).context("--token-embedding-type")?,
        pure: args.pure,
        quantize_embedding: args.quantize_embedding,
    };
    for rule in &args.tensor_type {
        rules.add_override(rule).context("--tensor-type")?;
    }
    let default = if args.imatrix.is_some() { "imatrix" } else { "gptq" };
    let chain = registry::chain(args.method.as_deref().unwrap_or(default))?;
    checks::imatrix(args.imatrix.as_deref(), &chain)?;
    let mut goal = Goal::from_flags(args.bits, args.size.as_deref(), args.ratio, args.max_kld, args.grid.as_deref())?;
    if let (Some(level), false) = (chain.method.default_level(), args.has_goal()) {
        goal = Goal::Grid(level);
    }
    if args.format.as_deref() == Some("gguf") && chain.stores_sums() {
        let name = chain.name();
        bail!("--format gguf: {name} stores sums of parts, which GGUF cannot hold\n  next: --format parts");
    }
    let format = args.format.as_deref().map(|text| DirectoryFormat::parse(text, goal)).transpose()?.flatten();
    Ok(Job {
        model: args.model.clone(),
        goal,
        chain,
        rules,
        output: args.output.clone(),
        format,
        force: args.force,
        allow_requantize: args.allow_requantize,
        memory: args.memory.as_deref().map(parse_size).transpose().context("--memory")?,
        calibration: args.calibration.clone(),
        imatrix: args.imatrix.clone(),
        calibration_windows: args.calibration_windows,
        allocator: args.allocate.into(),
        levels: args.levels.clone(),
        text: args.text.clone(),
        chunks: args.chunks,
        evaluate: !args.no_eval,
        activation: args.activations.into(),
        show: Show::choose(global.quiet || global.json),
    })
}
