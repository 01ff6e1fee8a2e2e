//! Blocks of lines that follow templates: three streams, each a payload of its own.

use super::{DELTA, DNA, Failure, TENSORS, decode, memory, pack};
use crate::level::{Level, Pipeline};
use crate::lz::Effort;
use crate::transform::columns::{Parts, Style, join, split};
use crate::{lm, varint};

pub const COLUMNS: u8 = 9;

/// Streams of a block.
const STREAMS: usize = 3;

/// Blocks up to here are coded both ways; of larger ones a sample is, and they are only where columns take more than a quarter of the bytes.
const BOTH: usize = 1 << 20;
/// Bytes of the sample, and the pieces that it consists of.
const SAMPLE: usize = 1 << 18;
const PIECES: usize = 8;
/// Parts of a hundred by which columns of the sample may be longer: templates weigh more in it than in all of the block.
const LEARNING: usize = 4;
/// The same for the strong levels, which are coded both ways otherwise: they learn from a whole block what a sample cannot show.
const STRONG: usize = 25;

/// Encodes a block as columns where that is shorter, and by itself otherwise.
pub fn encode_or_whole(bytes: &[u8], level: &Level) -> Vec<u8> {
    let strong = matches!(level.pipeline, Pipeline::Mix { banks, .. } if banks > 1);
    let sampled = bytes.len() > BOTH && !matches!(level.pipeline, Pipeline::Lz(Effort::Fast { .. }));
    let share = if sampled { share_of_sample(bytes, level) } else { 100 };
    if share > 100 + if strong { STRONG } else { LEARNING } {
        return pack(bytes, level, false);
    }
    let Some(columns) = encode(bytes, level) else { return pack(bytes, level, false) };
    if sampled && !strong && columns.len() < bytes.len() / 4 {
        return columns;
    }
    let whole = pack(bytes, level, false);
    if columns.len() < whole.len() { columns } else { whole }
}

/// Bytes of columns for a hundred of the whole, of lines from all over the block.
fn share_of_sample(bytes: &[u8], level: &Level) -> usize {
    let mut sample = Vec::with_capacity(SAMPLE);
    for piece in 0..PIECES {
        let from = bytes.len() / PIECES * piece;
        let line = bytes[from..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| from + at + 1);
        let part = &bytes[line..bytes.len().min(line + SAMPLE / PIECES)];
        sample.extend_from_slice(&part[..part.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)]);
    }
    let whole = pack(&sample, level, false).len();
    encode(&sample, level).map_or(usize::MAX, |columns| columns.len() * 100 / whole.max(1))
}

fn encode(bytes: &[u8], level: &Level) -> Option<Vec<u8>> {
    let style = match level.pipeline {
        Pipeline::Lz(_) => Style::Strings,
        Pipeline::Sort => Style::Sorting,
        Pipeline::Mix { .. } => Style::Mixing,
    };
    let parts = split(bytes, style)?;
    let streams = [&parts.text, &parts.lines, &parts.numbers];
    if streams.iter().any(|stream| stream.len() > most(bytes.len())) {
        return None;
    }
    let mut out = vec![COLUMNS];
    let packed = streams.map(|stream| pack(stream, level, false));
    for (stream, packed) in streams.iter().zip(&packed) {
        varint::put(stream.len() as u64, &mut out);
        varint::put(packed.len() as u64, &mut out);
    }
    packed.iter().for_each(|packed| out.extend(packed));
    Some(out)
}

/// Bytes that a stream of a block may have.
fn most(length: usize) -> usize {
    length.saturating_mul(2).saturating_add(1024)
}

/// The streams of a block: how many bytes each has, and its payload.
fn streams(mut rest: &[u8], length: usize) -> Option<[(usize, &[u8]); STREAMS]> {
    let mut sizes = [(0, 0); STREAMS];
    for (raw, packed) in &mut sizes {
        *raw = varint::take(&mut rest).and_then(|n| usize::try_from(n).ok()).filter(|&raw| raw <= most(length))?;
        *packed = varint::take(&mut rest).and_then(|n| usize::try_from(n).ok())?;
    }
    let mut found = [(0, rest); STREAMS];
    for ((raw, packed), stream) in sizes.into_iter().zip(&mut found) {
        let (payload, after) = rest.split_at_checked(packed)?;
        // What stands for a stream is of the kinds that stand for any bytes.
        if matches!(payload.first(), Some(&(DNA | TENSORS | DELTA | lm::MODEL | COLUMNS))) {
            return None;
        }
        *stream = (raw, payload);
        rest = after;
    }
    rest.is_empty().then_some(found)
}

pub fn decode_columns(rest: &[u8], length: usize, limit: u64) -> Result<Vec<u8>, Failure> {
    let streams = streams(rest, length).ok_or(Failure::Malformed)?;
    let mut free = limit.saturating_sub(length as u64);
    let mut stream = |(raw, payload): (usize, &[u8])| {
        let bytes = decode(payload, raw, free)?;
        free = free.saturating_sub(raw as u64);
        Ok(bytes)
    };
    let parts = Parts { text: stream(streams[0])?, lines: stream(streams[1])?, numbers: stream(streams[2])? };
    join(&parts, length).ok_or(Failure::Malformed)
}

/// Bytes of memory that decoding takes beside the block.
pub fn needed(rest: &[u8], length: usize) -> u64 {
    let Some(streams) = streams(rest, length) else { return 0 };
    let held: u64 = streams.iter().map(|(raw, _)| *raw as u64).sum();
    held + streams.iter().map(|(raw, payload)| memory(payload, *raw)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::LEVELS;
    use std::path::{Path, PathBuf};

    /// Bytes of a file whole and as columns.
    fn both(path: &Path, level: &Level) -> (usize, usize) {
        let bytes = std::fs::read(path).unwrap_or_default();
        let chosen = encode_or_whole(&bytes, level);
        assert!(decode(&chosen, bytes.len(), 1 << 32).as_deref() == Ok(&bytes[..]), "{}", path.display());
        let whole = pack(&bytes, level, false).len();
        assert!(chosen.len() <= whole);
        (whole, encode(&bytes, level).map_or(whole, |columns| columns.len()))
    }

    fn logs() -> Option<PathBuf> {
        let logs = std::env::var_os("BREVITY_DATA").map(|data| PathBuf::from(data).join("logs"));
        if logs.is_none() {
            println!("skipped: BREVITY_DATA is not set");
        }
        logs
    }

    #[test]
    fn regular_logs_are_shorter_as_columns() {
        let Some(logs) = logs() else { return };
        for (name, number, share) in [("Apache", 1, 40), ("OpenSSH", 2, 50), ("Linux", 3, 70), ("OpenSSH", 5, 85)] {
            let (whole, columns) = both(&logs.join(format!("{name}_2k.log")), &LEVELS[number - 1]);
            assert!(columns * 100 < whole * share, "{name} at {number}: {whole}, {columns}");
        }
    }

    #[test]
    #[ignore = "prints the table of logs as columns in docs/bytes.md, and compares nothing"]
    fn every_log_whole_and_as_columns() {
        let Some(logs) = logs() else { return };
        let mut paths: Vec<PathBuf> = std::fs::read_dir(logs)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|it| it.extension().is_some())
            .collect();
        paths.sort();
        for path in paths {
            let sizes = [1, 3, 5].map(|number| both(&path, &LEVELS[number - 1]));
            println!("{}: {sizes:?}", path.display());
        }
    }
}
