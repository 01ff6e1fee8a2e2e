//! `brevity unpack`.

use crate::cli::{Global, UnpackArgs};
use crate::commands::archive::{open, plural, write_to};
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_bytes::archive::{Entry, Kind, UnpackOptions, unpack};
use brevity_formats::atomic::AtomicFile;
use brevity_measure::bits::format_bytes;
use serde_json::{Value, json};
use std::path::Path;

/// Runs the command.
pub fn run(args: UnpackArgs, global: &Global) -> Result<()> {
    let mut archive = open(&args.archive, args.base.as_deref(), args.model.as_deref(), &args.memory)?;
    if let Some(output) = &args.output {
        let entry = the_one_file(archive.entries(), &args.paths)?;
        if output == Path::new("-") {
            return write_to(&mut archive, entry, 0..u64::MAX, &mut std::io::stdout().lock());
        }
        let mut file = AtomicFile::create(output, args.force)?;
        write_to(&mut archive, entry, 0..u64::MAX, &mut file)?;
        return Ok(file.finish()?);
    }
    let total = archive.entries().iter().map(Entry::size).sum();
    let phase = Show::choose(global.quiet || global.json).phase("unpacking", total);
    let progress = |done: u64| {
        phase.set(done);
        !stop::requested()
    };
    let options = UnpackOptions { force: args.force, keep_going: args.keep_going, progress: &progress };
    let done = unpack(&mut archive, &args.paths, &args.directory, &options)?;
    drop(phase);
    if global.json {
        let damaged: Vec<Value> =
            done.damaged.iter().map(|(path, error)| json!({"path": path, "error": error})).collect();
        output::json(
            &json!({"archive": args.archive, "entries": done.entries, "bytes": done.bytes, "damaged": damaged}),
        )?;
    } else {
        let entries = plural(done.entries, "entry", "entries");
        output::line(&format!("{entries}, {} → {}", format_bytes(done.bytes), args.directory.display()))?;
    }
    if let Some((path, error)) = done.damaged.first() {
        bail!("{} damaged; the first: {path}: {error}", plural(done.damaged.len(), "file is", "files are"));
    }
    Ok(())
}

fn the_one_file(entries: &[Entry], paths: &[String]) -> Result<usize> {
    let wanted = |entry: &Entry| paths.is_empty() || paths.contains(&entry.path);
    let mut files =
        entries.iter().enumerate().filter(|(_, entry)| matches!(entry.kind, Kind::File(_)) && wanted(entry));
    let (first, _) = files.next().context("-o: there is no such file in the archive")?;
    match files.next() {
        None => Ok(first),
        Some(_) => bail!("-o takes one file, the archive holds several: name it"),
    }
}
