//! `brevity imatrix`.

use crate::cli::{Global, ImatrixArgs};
use crate::compress::checks;
use crate::evaluate::{Score, Text};
use crate::importance::{self, Wanted};
use crate::progress::Show;
use crate::{open, output, texts};
use anyhow::{Context, Result};
use brevity_formats::imatrix::Layout;
use serde_json::json;

/// Runs the command.
pub fn run(args: ImatrixArgs, global: &Global) -> Result<()> {
    checks::output(&args.output, args.force, checks::Kind::File)?;
    let show = Show::choose(global.quiet || global.json);
    let source = open::open(args.model.as_deref(), show)?;
    let text = texts::calibration(args.calibration.as_deref())?;
    let window = args.window.min(source.config().context);
    let text = Text::cut(source.tokenizer()?, &text, window, args.chunks, Score::SecondHalf);
    let text = text.context("the calibration text")?;
    let dataset = args.calibration.as_ref().map_or_else(|| "embedded".into(), |path| path.display().to_string());
    let wanted = Wanted { output: args.process_output, dataset, window };
    let imatrix = importance::collect(&source, &text, &wanted, show)?;
    let layout = Layout::of_path(&args.output);
    imatrix.write(&args.output, layout, args.force)?;
    let (entries, chunks) = (imatrix.entries.len(), imatrix.chunk_count);
    if global.json {
        let layout = if layout == Layout::Legacy { "legacy" } else { "gguf" };
        let summary = json!({"model": source.label(), "output": args.output, "layout": layout,
            "entries": entries, "chunks": chunks, "chunk_size": window});
        return output::json(&summary);
    }
    output::line(&format!("{entries} matrices, {chunks} windows of {window} tokens"))?;
    output::line(&format!("written: {}", args.output.display()))
}
