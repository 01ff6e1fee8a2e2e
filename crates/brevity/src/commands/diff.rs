//! `brevity diff`: an archive of the new that is a difference from the old.

use crate::cli::{DiffArgs, Global};
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_bytes::archive::{PackOptions, pack_against};
use brevity_bytes::level::Level;
use brevity_formats::atomic::AtomicFile;
use brevity_measure::bits::{format_bytes, parse_size};
use serde_json::json;
use std::path::PathBuf;

/// Runs the command.
pub fn run(args: DiffArgs, global: &Global) -> Result<()> {
    for path in [&args.old, &args.new] {
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    if args.old.is_dir() != args.new.is_dir() {
        bail!("{} and {}: one is a file, the other a directory", args.old.display(), args.new.display());
    }
    let target = args.output.clone().unwrap_or_else(|| {
        let mut name = args.new.file_name().unwrap_or("patch".as_ref()).to_os_string();
        name.push(".brv");
        PathBuf::from(name)
    });
    let phase =
        Show::choose(global.quiet || global.json).phase("comparing", args.new.metadata().map_or(0, |m| m.len()));
    let progress = |done: u64| {
        phase.set(done);
        !stop::requested()
    };
    let memory = parse_size(&args.memory).context("--memory")?;
    let options = PackOptions { level: Level::of(args.level)?, block: None, memory, progress: &progress };
    let mut file = AtomicFile::create(&target, args.force)?;
    let packed = pack_against(std::slice::from_ref(&args.new), &args.old, &mut file, &options)?;
    file.finish()?;
    drop(phase);
    if global.json {
        return output::json(&json!({
            "old": args.old, "new": args.new, "patch": target, "content_bytes": packed.raw, "bytes": packed.packed,
        }));
    }
    output::line(&format!(
        "{} → {} ({:.2} % of the new)\nwritten: {}",
        format_bytes(packed.raw),
        format_bytes(packed.packed),
        packed.packed as f64 * 100.0 / packed.raw.max(1) as f64,
        target.display()
    ))
}
