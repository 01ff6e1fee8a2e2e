//! `brevity patch`: the new from the old and an archive of differences.

use crate::cli::{Global, PatchArgs};
use crate::commands::archive::{open, plural, write_to};
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_bytes::archive::{Entry, Kind, UnpackOptions, unpack};
use brevity_formats::atomic::AtomicFile;
use brevity_measure::bits::format_bytes;
use serde_json::json;

/// Runs the command.
pub fn run(args: PatchArgs, global: &Global) -> Result<()> {
    std::fs::metadata(&args.old).with_context(|| format!("cannot read {}", args.old.display()))?;
    let mut archive = open(&args.patch, Some(&args.old), None, &args.memory)?;
    let (count, bytes) = (archive.entries().len(), archive.entries().iter().map(Entry::size).sum::<u64>());
    if args.old.is_dir() {
        if !args.force && std::fs::symlink_metadata(&args.output).is_ok() {
            bail!("{} exists already (--force writes into it)", args.output.display());
        }
        let phase = Show::choose(global.quiet || global.json).phase("patching", bytes);
        let progress = |done: u64| {
            phase.set(done);
            !stop::requested()
        };
        let options = UnpackOptions { force: args.force, keep_going: false, progress: &progress };
        unpack(&mut archive, &[], &args.output, &options)?;
    } else {
        if count != 1 || !matches!(archive.entries()[0].kind, Kind::File(_)) {
            bail!("{} is not a difference of one file, and {} is one", args.patch.display(), args.old.display());
        }
        let mut file = AtomicFile::create(&args.output, args.force)?;
        write_to(&mut archive, 0, 0..u64::MAX, &mut file)?;
        file.finish()?;
    }
    if global.json {
        return output::json(&json!({"output": args.output, "entries": count, "bytes": bytes}));
    }
    output::line(&format!(
        "{}, {}\nwritten: {}",
        plural(count, "entry", "entries"),
        format_bytes(bytes),
        args.output.display()
    ))
}
