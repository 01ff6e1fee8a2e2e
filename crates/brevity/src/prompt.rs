//! Prompts: from the command line, a file or standard input, as tokens.

use anyhow::{Context, Result};
use brevity_model::tokenizer::Tokenizer;
use std::io::Read;

/// The text: as it stands, `@FILE`, or `-` for standard input.
///
/// # Errors
/// If it cannot be read.
pub fn read(text: &str) -> Result<String> {
    if text == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        return Ok(text);
    }
    match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {path}")),
        None => Ok(text.to_string()),
    }
}

/// Its tokens; those of an empty one are the token that begins a text.
pub fn tokens(tokenizer: &Tokenizer, prompt: &str, special: bool) -> Vec<u32> {
    let mut tokens = tokenizer.encode(prompt, special, true);
    if tokens.is_empty() && special {
        tokens.extend(tokenizer.bos().or(tokenizer.eos()));
    }
    tokens
}
