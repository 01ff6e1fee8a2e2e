//! llama.cpp's own bench beside ours, in one run.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Tokens per second of the peer.
pub struct Peer {
    pub prefill: f64,
    pub decode: f64,
}

/// Runs `llama-bench` on the same file with the same prompt, tokens, threads and repetitions; it generates behind a
/// prompt of that length, as ours does.
///
/// # Errors
/// If it cannot be started, fails, or prints something else than its JSON.
pub fn run(program: &Path, model: &str, prompt: usize, generate: usize, threads: usize, repeat: usize) -> Result<Peer> {
    let [prompt, generate, threads, repeat] = [prompt, generate, threads, repeat].map(|number| number.to_string());
    let common = ["-m", model, "-o", "json", "-t", &threads, "-r", &repeat];
    let speed = |of: [&str; 6]| speed(program, &[&common[..], &of].concat());
    Ok(Peer {
        prefill: speed(["-p", &prompt, "-n", "0", "-d", "0"])?,
        decode: speed(["-p", "0", "-n", &generate, "-d", &prompt])?,
    })
}

fn speed(program: &Path, args: &[&str]) -> Result<f64> {
    let name = program.display();
    let output = Command::new(program).args(args).output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no message"));
    }
    let rows: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{name} printed no JSON"))?;
    rows[0]["avg_ts"].as_f64().with_context(|| format!("{name}: no tokens per second in its answer"))
}
