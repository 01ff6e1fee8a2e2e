//! Every level of archives, and the compressors that this machine has, on the same files: bits a byte against speed.

mod peers;

use crate::bench::{cast, document};
use crate::cli::{ARCHIVE_MEMORY, BenchBytesArgs, Global};
use crate::progress::Show;
use crate::{output, stop, texts};
use anyhow::{Context, Result, bail};
use brevity_bytes::archive::{Archive, PackOptions, pack, pack_stream};
use brevity_bytes::level::{LEVELS, Level};
use brevity_measure::bits::parse_size;
use brevity_measure::plot::{Mark, Plot, Series};
use brevity_measure::table::{Cell, Column, Table};
use peers::{PEERS, Peer};
use serde_json::{Value, json};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What one way of packing took on all files.
struct Row {
    name: String,
    peer: bool,
    bytes: u64,
    pack: f64,
    unpack: f64,
}

/// Runs the bench.
pub fn run(args: BenchBytesArgs, global: &Global) -> Result<()> {
    // As the peers: what is compared is a core.
    brevity_kernels::pool::set_threads(1);
    let mut files = corpus(&args.corpus)?;
    if args.bf16 {
        for (name, bytes) in &mut files {
            *bytes =
                cast::bf16(bytes).with_context(|| format!("--bf16: {name} is no safetensors file with F32 tensors"))?;
        }
    }
    let raw: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if raw == 0 {
        bail!("there is nothing to pack");
    }
    let levels: Vec<Level> = match args.levels.as_slice() {
        [] => LEVELS.to_vec(),
        some => some.iter().map(|&number| Level::of(number)).collect::<Result<_, _>>()?,
    };
    let memory = parse_size(&args.memory).context("--memory")?;
    let phase = Show::choose(global.quiet || global.json).phase("packing", (levels.len() + PEERS.len()) as u64);
    let mut rows = Vec::new();
    for level in levels {
        rows.push(ours(&files, level, memory)?);
        phase.step();
    }
    for peer in PEERS.iter().filter(|_| !args.no_peers) {
        stop::check()?;
        rows.extend(theirs(&files, peer)?);
        phase.step();
    }
    drop(phase);
    if global.json {
        return output::json(&to_json(&rows, raw));
    }
    let table = table(&rows, raw);
    if let Some(path) = &args.output {
        write_page(path, &args, &files, &rows, raw, &table)?;
    }
    output::tables(&[table])?;
    output::line(&format!(
        "{} of {raw} bytes; MB/s of the original by the clock, one thread; every archive was unpacked and compared",
        crate::commands::archive::plural(files.len(), "file", "files")
    ))
}

/// Files named, or all in a directory named; the embedded text if none is.
fn corpus(paths: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>> {
    if paths.is_empty() {
        return Ok(vec![("embedded text".into(), texts::evaluation(None)?.as_bytes().to_vec())]);
    }
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files).with_context(|| path.display().to_string())?;
    }
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    if !path.is_dir() {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        files.push((name, fs::read(path)?));
        return Ok(());
    }
    let mut inner: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    inner.sort();
    inner.iter().try_for_each(|path| collect(path, files))
}

/// Names of files whose tensors are looked for, which a stream does not allow.
const TENSORS: [&str; 4] = [".safetensors", ".gguf", ".npy", ".pt"];

/// Packs bytes as a file; the seconds that it took, the writing of the file apart.
fn packed_file(bytes: &[u8], name: &str, out: &mut Vec<u8>, options: &PackOptions<'_>) -> Result<f64> {
    let directory = std::env::temp_dir().join(format!("brevity-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    let mut work = || {
        fs::write(&path, bytes)?;
        let started = Instant::now();
        pack(std::slice::from_ref(&path), out, options)?;
        Ok(started.elapsed().as_secs_f64())
    };
    let result = work();
    fs::remove_dir_all(&directory)?;
    result
}

fn ours(files: &[(String, Vec<u8>)], level: Level, memory: u64) -> Result<Row> {
    let mut row = Row { name: format!("brevity -{}", level.number), peer: false, bytes: 0, pack: 0.0, unpack: 0.0 };
    let progress = |_: u64| !stop::requested();
    let options = PackOptions { level, block: None, memory, progress: &progress };
    for (name, bytes) in files {
        let mut archive = Vec::with_capacity(bytes.len());
        row.pack += match TENSORS.iter().any(|extension| name.ends_with(extension)) {
            true => packed_file(bytes, name, &mut archive, &options)?,
            false => {
                let started = Instant::now();
                pack_stream(name, &mut bytes.as_slice(), &mut archive, &options)?;
                started.elapsed().as_secs_f64()
            }
        };
        row.bytes += archive.len() as u64;
        let started = Instant::now();
        let mut back = Vec::with_capacity(bytes.len());
        Archive::open(Cursor::new(archive), memory)?.read(0, 0..u64::MAX, |part| {
            back.extend_from_slice(part);
            Ok(())
        })?;
        row.unpack += started.elapsed().as_secs_f64();
        if back != *bytes {
            bail!("{} did not bring {name} back", row.name);
        }
    }
    Ok(row)
}

/// Nothing where the program is not there.
fn theirs(files: &[(String, Vec<u8>)], peer: &Peer) -> Result<Option<Row>> {
    let mut row = Row { name: peer.name.into(), peer: true, bytes: 0, pack: 0.0, unpack: 0.0 };
    for (file, bytes) in files {
        let started = Instant::now();
        let Some(packed) = peer.pack(bytes)? else { return Ok(None) };
        row.pack += started.elapsed().as_secs_f64();
        row.bytes += packed.len() as u64;
        let started = Instant::now();
        let back = peer.unpack(&packed)?;
        row.unpack += started.elapsed().as_secs_f64();
        if back != *bytes {
            bail!("{} did not bring {file} back", peer.name);
        }
    }
    Ok(Some(row))
}

fn speed(raw: u64, seconds: f64) -> f64 {
    raw as f64 / 1e6 / seconds
}

fn bits(row: &Row, raw: u64) -> f64 {
    row.bytes as f64 * 8.0 / raw as f64
}

fn table(rows: &[Row], raw: u64) -> Table {
    let columns = [
        Column::new("program"),
        Column::new("bytes"),
        Column::new("bits a byte"),
        Column::new("pack").unit("MB/s"),
        Column::new("unpack").unit("MB/s"),
    ];
    let mut table = Table::new(columns);
    for row in rows {
        table.row([
            Cell::text(&row.name),
            Cell::Integer(row.bytes),
            Cell::number(bits(row, raw), 4),
            Cell::number(speed(raw, row.pack), 2),
            Cell::number(speed(raw, row.unpack), 2),
        ]);
    }
    table
}

fn to_json(rows: &[Row], raw: u64) -> Value {
    let row = |row: &Row| {
        json!({"program": row.name, "peer": row.peer, "bytes": row.bytes, "bits_per_byte": bits(row, raw),
            "pack_seconds": row.pack, "unpack_seconds": row.unpack})
    };
    json!({"bytes": raw, "rows": rows.iter().map(row).collect::<Vec<_>>()})
}

fn picture(title: &str, rows: &[Row], raw: u64) -> String {
    let mut plot = Plot::new(title, "packing, MB/s", "bits a byte").log_x(true);
    let mark = |row: &Row| Mark {
        x: speed(raw, row.pack),
        y: bits(row, raw),
        error: None,
        label: Some(row.name.trim_start_matches("brevity ").to_owned()),
    };
    for peer in [false, true] {
        let marks: Vec<Mark> = rows.iter().filter(|row| row.peer == peer).map(mark).collect();
        if peer {
            for mark in marks {
                let name = mark.label.clone().unwrap_or_default();
                plot.add(Series { name, marks: vec![Mark { label: None, ..mark }], faint: true });
            }
        } else {
            plot.add(Series { name: "brevity".into(), marks, faint: false });
        }
    }
    plot.to_svg()
}

/// The command as it was given, files by their names.
fn command(args: &BenchBytesArgs) -> String {
    let mut words = vec!["brevity bench bytes".to_owned()];
    words.extend(
        args.corpus.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()),
    );
    if !args.levels.is_empty() {
        let levels: Vec<String> = args.levels.iter().map(u8::to_string).collect();
        words.push(format!("--levels {}", levels.join(",")));
    }
    words.extend(
        [(args.bf16, "--bf16"), (args.no_peers, "--no-peers")]
            .into_iter()
            .filter(|flag| flag.0)
            .map(|flag| flag.1.to_owned()),
    );
    if args.memory != ARCHIVE_MEMORY {
        words.push(format!("--memory {}", args.memory));
    }
    words.join(" ")
}

fn write_page(
    path: &Path,
    args: &BenchBytesArgs,
    files: &[(String, Vec<u8>)],
    rows: &[Row],
    raw: u64,
    table: &Table,
) -> Result<()> {
    let name = match args.corpus.as_slice() {
        [one] => one.file_name().unwrap_or(one.as_os_str()).to_string_lossy().into_owned(),
        [] => "embedded".into(),
        _ => format!("{} files", files.len()),
    };
    let slug: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let svg = path.with_file_name(format!("bytes-{slug}.svg"));
    let drawn = picture(&format!("{name}: bits a byte against speed"), rows, raw);
    brevity_formats::atomic::AtomicFile::write_bytes(&svg, drawn.as_bytes(), true)?;
    let body = format!(
        "## Bytes: {name}\n\n`{}` ({raw} bytes; MB/s of the original by the clock, one thread)\n\n\
         ![Bits a byte against speed](bytes-{slug}.svg)\n\n{}",
        command(args),
        table.to_markdown()
    );
    document::put_section(path, &format!("bytes {name}"), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_peers_bring_the_text_back() {
        let files = vec![("text".to_owned(), "all work and no play makes a dull text. ".repeat(400).into_bytes())];
        let row = ours(&files, LEVELS[0], 1 << 30).unwrap();
        assert!(row.bytes < 1000 && row.pack > 0.0);
        for peer in &PEERS {
            match theirs(&files, peer).unwrap() {
                Some(row) => assert!(row.bytes < 2000, "{}", row.name),
                None => println!("skipped: {} is not installed", peer.name),
            }
        }
        assert!(picture("text", &[row], 16_000).contains("<svg"));
    }
}
