//! `brevity bench`.

use crate::bench::{beside, bytes, cache, residual, speed, weights};
use crate::cli::{BenchCommand, Global};
use anyhow::Result;

/// Runs the command.
pub fn run(command: BenchCommand, global: &Global) -> Result<()> {
    match command {
        BenchCommand::Speed(args) => speed::run(args, global),
        BenchCommand::Weights(args) => weights::run(args, global),
        BenchCommand::Bytes(args) => bytes::run(args, global),
        BenchCommand::Cache(args) => cache::run(args, global),
        BenchCommand::Residual(args) => residual::run(args, global),
        BenchCommand::Beside(args) => beside::run(args, global),
    }
}
