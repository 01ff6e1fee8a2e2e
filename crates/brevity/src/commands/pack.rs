//! `brevity pack`.

use crate::cli::{Global, PackArgs};
use crate::commands::archive::{plural, predictor};
use crate::embedded::NAME;
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_bytes::archive::{PackOptions, Packed, pack, pack_against, pack_behind, pack_stream, pack_stream_behind};
use brevity_bytes::level::Level;
use brevity_bytes::lm::{Behind, Predictor};
use brevity_formats::atomic::AtomicFile;
use brevity_measure::bits::{format_bytes, parse_size};
use brevity_measure::memory::peak_rss_bytes;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs the command.
pub fn run(args: PackArgs, global: &Global) -> Result<()> {
    let started = Instant::now();
    let stream = args.paths.iter().any(|path| path == Path::new("-"));
    if stream && args.paths.len() > 1 {
        bail!("- is standard input, and must be all that is packed");
    }
    if stream && args.base.is_some() {
        bail!("--base: the tensors of standard input cannot be found, name a file");
    }
    let output = output_path(&args, stream)?;
    let to_stdout = output == Path::new("-");
    let show = Show::choose(global.quiet || global.json || to_stdout);
    let phase = show.phase("packing", args.paths.iter().map(|path| size_of(path)).sum());
    let progress = |done: u64| {
        phase.set(done);
        !stop::requested()
    };
    let options = PackOptions {
        level: Level::of(args.level())?,
        block: args.block.as_deref().map(parse_size).transpose().context("--block")?.map(|bytes| bytes as usize),
        memory: parse_size(&args.memory).context("--memory")?,
        progress: &progress,
    };
    let model = args.model.as_deref().map(|name| predictor(Some(name), show)).transpose()?;
    let behind = model.as_ref().map(|predictor| Behind { predictor, exact_bytes: args.exact_bytes });
    let write = |out: &mut dyn Write| match (stream, behind, &args.base) {
        (true, None, _) => pack_stream("stdin", &mut std::io::stdin().lock(), out, &options),
        (true, Some(model), _) => pack_stream_behind("stdin", &mut std::io::stdin().lock(), model, out, &options),
        (false, Some(model), _) => pack_behind(&args.paths, model, out, &options),
        (false, None, Some(base)) => pack_against(&args.paths, base, out, &options),
        (false, None, None) => pack(&args.paths, out, &options),
    };
    let packed = if to_stdout {
        write(&mut std::io::stdout().lock())?
    } else {
        let mut file = AtomicFile::create(&output, args.force)?;
        let packed = write(&mut file)?;
        file.finish()?;
        packed
    };
    drop(phase);
    if to_stdout {
        return Ok(());
    }
    report(&output, &packed, model.as_ref(), &args, global, started.elapsed().as_secs_f64())
}

/// NAME.brv, or what was asked for.
fn output_path(args: &PackArgs, stream: bool) -> Result<PathBuf> {
    match (&args.output, stream, args.paths.as_slice()) {
        (Some(output), ..) => Ok(output.clone()),
        (None, true, _) => Ok("-".into()),
        (None, false, [path]) => {
            let whole = std::fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name =
                path.file_name().or(whole.file_name()).with_context(|| format!("{}: no name", path.display()))?;
            let mut name = name.to_os_string();
            name.push(".brv");
            Ok(path.parent().filter(|_| path.file_name().is_some()).unwrap_or(Path::new("")).join(name))
        }
        _ => bail!("several paths: name the archive with -o"),
    }
}

/// Bytes of the files below, for the bar alone.
fn size_of(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| size_of(&entry.path())).sum()
}

/// Whether the texts may be among those that a model was trained on.
fn training(args: &PackArgs) -> &'static str {
    let embedded = args.model.as_deref() == Some(NAME) && !Path::new(NAME).exists();
    match embedded {
        true => {
            "known: bytes 1,000,000 to 95,000,000 of enwik8 and released Python, Rust and JavaScript packages; other texts were not in it"
        }
        false => "unknown: a public text may have been in it, and then takes fewer bits than a new one would",
    }
}

fn report(
    output: &Path,
    packed: &Packed,
    model: Option<&Predictor>,
    args: &PackArgs,
    global: &Global,
    seconds: f64,
) -> Result<()> {
    let bits = packed.packed as f64 * 8.0 / packed.raw as f64;
    if global.json {
        let model = model.map(|model| {
            let hash: String = model.hash().iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"name": model.name(), "hash": hash, "bytes": model.bytes(), "training_set": training(args), "exact_bytes": args.exact_bytes})
        });
        return output::json(&json!({
            "archive": output, "level": args.level(), "entries": packed.entries, "blocks": packed.blocks,
            "content_bytes": packed.raw, "bytes": packed.packed, "bits_per_byte": bits.is_finite().then_some(bits),
            "seconds": seconds, "peak_bytes": peak_rss_bytes(), "model": model,
        }));
    }
    if let Some(model) = model {
        output::line(&format!(
            "model: {} ({}, needed again to unpack); its training set: {}",
            model.name(),
            format_bytes(model.bytes()),
            training(args)
        ))?;
    }
    let ratio = if packed.raw == 0 {
        String::new()
    } else {
        format!(", {bits:.4} bits a byte, {}", speed(packed.raw as f64 / seconds))
    };
    output::line(&format!(
        "{} → {} ({}{ratio})\nwritten: {}",
        format_bytes(packed.raw),
        format_bytes(packed.packed),
        plural(packed.entries, "entry", "entries"),
        output.display()
    ))
}

/// Bytes a second, as they are read.
fn speed(bytes: f64) -> String {
    if bytes < 1e5 { format!("{:.2} KB/s", bytes / 1e3) } else { format!("{:.2} MB/s", bytes / 1e6) }
}
