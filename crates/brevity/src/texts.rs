//! Texts to calibrate and measure on: a file, or the embedded ones.

use crate::embedded;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// Text for calibration.
///
/// # Errors
/// If the file cannot be read, or is empty.
pub fn calibration(path: Option<&Path>) -> Result<Cow<'static, str>> {
    path.map_or(Ok(Cow::Borrowed(embedded::CALIBRATION)), read)
}

/// Text to measure on.
///
/// # Errors
/// If the file cannot be read, or is empty.
pub fn evaluation(path: Option<&Path>) -> Result<Cow<'static, str>> {
    path.map_or(Ok(Cow::Borrowed(embedded::EVALUATION)), read)
}

/// What a path holds: a text file; JSON lines (`.jsonl`), of each its `text`; or a directory of both, in the order of their
/// paths. Documents are kept apart by an empty line.
fn read(path: &Path) -> Result<Cow<'static, str>> {
    let text = if path.is_dir() { directory(path)? } else { file(path)? };
    if text.is_empty() {
        let what = if path.is_dir() { "the directory holds no text" } else { "the file is empty" };
        bail!("{}: {what}", path.display());
    }
    Ok(Cow::Owned(text))
}

/// Files below a directory; hidden ones, links and what is not UTF-8 are passed over.
fn directory(path: &Path) -> Result<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && !entry.file_type().is_ok_and(|ty| ty.is_symlink()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let text = if path.is_dir() { directory(&path)? } else { file(&path)? };
        if !text.is_empty() && !text.contains('\u{FFFD}') {
            texts.push(text);
        }
    }
    Ok(texts.join("\n\n"))
}

/// Bytes that are no UTF-8 become the replacement character.
fn file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) {
        true => documents(path, &text),
        false => Ok(text.into_owned()),
    }
}

/// The `text` of each line, or the line itself where it is a JSON string.
fn documents(path: &Path, lines: &str) -> Result<String> {
    let mut texts = Vec::new();
    for (number, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}: line {}", path.display(), number + 1);
        let value: Value = serde_json::from_str(line).with_context(|| format!("{} is no JSON", place()))?;
        let text = value.get("text").unwrap_or(&value).as_str();
        texts.push(text.with_context(|| format!("{} has no \"text\"", place()))?.to_owned());
    }
    Ok(texts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_and_directories_are_texts() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        std::fs::create_dir(directory.path().join("c")).unwrap();
        put("b.jsonl", b"{\"text\": \"second\", \"id\": 1}\n\n\"third\"\n");
        put("a.txt", b"first");
        put("c/d.md", b"fourth");
        put("c/weights.bin", &[0xff, 0xfe, 0x00, 0x80]);
        put(".hidden", b"no");
        let read = |name: &str| calibration(Some(&directory.path().join(name)));
        assert_eq!(read("").unwrap(), "first\n\nsecond\n\nthird\n\nfourth");
        assert_eq!(read("b.jsonl").unwrap(), "second\n\nthird");
        put("wrong.jsonl", b"{\"text\": \"x\"}\n{\"words\": 3}\n");
        assert!(read("wrong.jsonl").unwrap_err().to_string().contains("line 2 has no \"text\""));
        put("wrong.jsonl", b"{\"text\": \n");
        assert!(read("wrong.jsonl").unwrap_err().to_string().contains("line 1 is no JSON"));
        put("empty.txt", b"");
        assert!(read("empty.txt").unwrap_err().to_string().contains("empty"));
        assert!(read("none.txt").unwrap_err().to_string().contains("none.txt"));
    }
}
