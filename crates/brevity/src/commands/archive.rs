//! `brevity list`, `test` and `cat`, and what all commands of archives share.

use crate::cli::{CatArgs, Global, ListArgs, TestArgs};
use crate::open::short_name;
use crate::progress::Show;
use crate::{output, stop};
use anyhow::{Context, Result, bail};
use brevity_bytes::Error;
use brevity_bytes::archive::{Archive, Entry, Kind};
use brevity_bytes::lm::{Models, Predictor};
use brevity_measure::bits::{format_bytes, parse_size};
use brevity_measure::table::{Cell, Column, Table};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};
use std::ops::Range;
use std::path::Path;

/// What an archive is read from.
pub trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// Opens an archive by path, perhaps beside what it is a difference from, and with the model that it may have been packed with;
/// `-` is standard input, which is read whole.
pub fn open(path: &Path, base: Option<&Path>, model: Option<&str>, memory: &str) -> Result<Archive<Box<dyn Source>>> {
    let memory = parse_size(memory).context("--memory")?;
    let source: Box<dyn Source> = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(memory.saturating_add(1)).read_to_end(&mut bytes).context("standard input")?;
        if bytes.len() as u64 > memory {
            bail!("the archive from standard input takes more than {memory} bytes of memory (--memory)");
        }
        Box::new(Cursor::new(bytes))
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let archive = Archive::open(source, memory).with_context(|| path.display().to_string())?;
    let archive = match base {
        Some(base) => archive.against(base),
        None => archive,
    };
    let model = model.map(str::to_owned);
    let models = Models::new(Box::new(move || {
        predictor(model.as_deref(), Show::choose(true)).map_err(|error| format!("{error:#}"))
    }));
    Ok(archive.with_models(models.while_alive(Box::new(|| !stop::requested()))))
}

/// The model of this name, or the embedded one, ready to predict.
pub fn predictor(name: Option<&str>, show: Show) -> Result<Predictor> {
    let source = crate::open::open(name, show)?;
    Ok(Predictor::load(&source, &short_name(source.label()))?)
}

/// Runs `brevity list`.
pub fn list(args: ListArgs, global: &Global) -> Result<()> {
    let archive = open(&args.archive, None, None, &args.memory)?;
    let mut entries: Vec<&Entry> = archive.entries().iter().collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let raw: u64 = entries.iter().map(|entry| entry.size()).sum();
    if global.json {
        let blocks: Vec<Value> = archive
            .blocks()
            .iter()
            .map(|block| json!({"offset": block.offset, "bytes": block.packed, "of": [block.content.start, block.content.end]}))
            .collect();
        return output::json(&json!({
            "archive": args.archive, "bytes": archive.length(), "content_bytes": raw,
            "entries": entries.iter().map(|entry| to_json(entry)).collect::<Vec<_>>(), "blocks": blocks,
        }));
    }
    let mut table = Table::new(["path", "kind", "bytes", "mode", "modified (UTC)"].map(Column::new));
    for entry in &entries {
        let (kind, size) = match &entry.kind {
            Kind::File(size) => ("file".to_owned(), Cell::Integer(*size)),
            Kind::Directory => ("directory".to_owned(), Cell::Empty),
            Kind::Link(target) => (format!("link to {target}"), Cell::Empty),
        };
        let mode = Cell::text(format!("{:03o}", entry.mode));
        table.row([Cell::text(&entry.path), Cell::text(kind), size, mode, Cell::text(date(entry.modified.0))]);
    }
    output::tables(&[table])?;
    output::line(&format!(
        "{} in {}: {} in {} blocks ({:.3} bits a byte)",
        plural(entries.len(), "entry", "entries"),
        format_bytes(archive.length()),
        format_bytes(raw),
        archive.blocks().len(),
        archive.length() as f64 * 8.0 / raw as f64,
    ))
}

/// One thing, or many.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn to_json(entry: &Entry) -> Value {
    let (kind, target) = match &entry.kind {
        Kind::File(_) => ("file", None),
        Kind::Directory => ("directory", None),
        Kind::Link(target) => ("link", Some(target)),
    };
    json!({"path": entry.path, "kind": kind, "bytes": entry.size(), "mode": entry.mode,
        "modified": entry.modified.0, "modified_nanos": entry.modified.1, "target": target})
}

/// `2024-05-17 08:30:00` of seconds since 1970, in the proleptic Gregorian calendar.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March, so that leap days end them; eras have 400 years.
    let shifted = days.saturating_add(719_468);
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (number, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{number:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Runs `brevity test`.
pub fn test(args: TestArgs, global: &Global) -> Result<()> {
    let mut archive = open(&args.archive, args.base.as_deref(), args.model.as_deref(), &args.memory)?;
    let raw: u64 = archive.entries().iter().map(Entry::size).sum();
    let phase = Show::choose(global.quiet || global.json).phase("testing", raw);
    let wanted: Vec<usize> = (0..archive.blocks().len()).collect();
    let mut damaged = Vec::new();
    archive.read_blocks(&wanted, |block, bytes| {
        match bytes {
            Ok(bytes) => phase.advance(bytes.len() as u64),
            // What the archive needs beside itself is not there: nothing is said of its blocks.
            Err(error @ (Error::Model { .. } | Error::Base { .. } | Error::Stopped)) => return Err(error),
            Err(error) => damaged.push((block, error.to_string())),
        }
        if stop::requested() { Err(Error::Stopped) } else { Ok(()) }
    })?;
    drop(phase);
    if global.json {
        let list: Vec<Value> = damaged.iter().map(|(block, error)| json!({"block": block, "error": error})).collect();
        output::json(&json!({"archive": args.archive, "blocks": wanted.len(), "content_bytes": raw, "damaged": list}))?;
    }
    if let Some((_, first)) = damaged.first() {
        bail!(
            "{}: {} of {} blocks are damaged; the first: {first}",
            args.archive.display(),
            damaged.len(),
            wanted.len()
        );
    }
    if global.json {
        return Ok(());
    }
    let (entries, blocks) = (archive.entries().len(), plural(wanted.len(), "block", "blocks"));
    output::line(&format!(
        "{}: {}, {} in {blocks}, every hash right",
        args.archive.display(),
        plural(entries, "entry", "entries"),
        format_bytes(raw)
    ))
}

/// Runs `brevity cat`.
pub fn cat(args: CatArgs) -> Result<()> {
    let range = range(&args.range)?;
    let mut archive = open(&args.archive, args.base.as_deref(), args.model.as_deref(), &args.memory)?;
    let entry = archive.find(&args.path)?;
    write_to(&mut archive, entry, range, &mut std::io::stdout().lock())
}

/// Writes a part of a file of an archive.
pub fn write_to(
    archive: &mut Archive<Box<dyn Source>>,
    entry: usize,
    range: Range<u64>,
    out: &mut dyn Write,
) -> Result<()> {
    let mut failed = None;
    let result = archive.read(entry, range, |part| {
        out.write_all(part).map_err(|error| {
            failed = Some(error);
            Error::Stopped
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    result?;
    Ok(out.flush()?)
}

fn range(text: &str) -> Result<Range<u64>> {
    let wrong = || format!("--range {text}: expected A..B, A.. or ..B, in bytes");
    let (start, end) = text.split_once("..").with_context(wrong)?;
    let number = |text: &str, missing: u64| match text {
        "" => Ok(missing),
        digits => digits.parse().with_context(wrong),
    };
    let range = number(start, 0)?..number(end, u64::MAX)?;
    if range.start > range.end {
        bail!("--range {text}: it ends before it begins");
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(-1), "1969-12-31 23:59:59");
        assert_eq!(date(4_102_444_799), "2099-12-31 23:59:59");
        date(i64::MAX);
        date(i64::MIN);
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("5..9").unwrap(), 5..9);
        assert_eq!(range("..").unwrap(), 0..u64::MAX);
        assert!(range("9..5").is_err() && range("x..5").is_err() && range("5").is_err());
    }
}
