//! `brevity cache`.

use crate::cli::{CacheCommand, CacheSaveArgs, Global};
use crate::progress::Show;
use crate::{context, open, output, prompt};
use anyhow::{Context as _, Result, bail};
use brevity_cache::disk;
use brevity_formats::atomic::AtomicFile;
use brevity_measure::bits::format_bytes;
use brevity_measure::table::{Cell, Column, Emphasis, Table};
use brevity_model::forward::{Model, Options};
use serde_json::json;

/// Runs the command.
pub fn run(command: CacheCommand, global: &Global) -> Result<()> {
    match command {
        CacheCommand::Save(args) => save(args, global),
    }
}

fn save(args: CacheSaveArgs, global: &Global) -> Result<()> {
    let show = Show::choose(global.quiet || global.json);
    let codec = disk::codec(&args.codec).context("--codec")?;
    if args.output.exists() && !args.force {
        bail!("{} exists\n  next: --force overwrites it", args.output.display());
    }
    let text = prompt::read(&args.prompt)?;
    let source = open::open(args.model.as_deref(), show)?;
    let tokens = prompt::tokens(source.tokenizer()?, &text, !args.no_bos);
    let most = source.config().context;
    if tokens.len() >= most {
        bail!("the text has {} tokens, and the model's context holds {most}, the question included", tokens.len());
    }
    let model = Model::load(&source, Options { activation: args.activations.into(), ..Options::default() })?;
    let saved = context::save(&source, &model, &tokens, codec, args.max_loss, show)?;
    AtomicFile::write_bytes(&args.output, &saved.bytes, args.force)?;
    let ratio = saved.f16_bytes as f64 / saved.bytes.len() as f64;
    if global.json {
        return output::json(&json!({
            "model": source.label(), "file": args.output, "tokens": tokens.len(), "codec": codec.card().name,
            "bytes": saved.bytes.len(), "f16_bytes": saved.f16_bytes, "ratio": ratio, "loss_bits": saved.loss,
            "prefill_seconds": saved.prefill_seconds,
        }));
    }
    let title = format!("{}: {} tokens of context", source.label(), tokens.len());
    let mut table = Table::new(["file", "value"].map(Column::new)).title(title);
    table.row([Cell::text("bytes"), Cell::text(format_bytes(saved.bytes.len() as u64))]);
    table.row([Cell::text("keys and values in f16"), Cell::text(format_bytes(saved.f16_bytes))]);
    table.emphasised(Emphasis::Strong, [Cell::text("smaller by"), Cell::text(format!("{ratio:.2} ×"))]);
    table.row([Cell::text("lost, bits a token"), Cell::number(saved.loss, 4)]);
    table.note("the loss is that of the text's last tokens through the decoded cache of those before them");
    output::tables(&[table])
}
