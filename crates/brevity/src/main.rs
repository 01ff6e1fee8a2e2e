//! The brevity command.
#![forbid(unsafe_code)]

use brevity::cli::{Cli, Command};
use brevity::{commands, stop};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    stop::install();
    if let Some(threads) = cli.global.threads {
        brevity::kernels::pool::set_threads(usize::from(threads));
    }
    let global = &cli.global;
    let result = match cli.command {
        Command::Compress(args) => commands::compress::run(*args, global),
        Command::Eval(args) => commands::eval::run(*args, global),
        Command::Run(args) => commands::run::run(*args, global),
        Command::Imatrix(args) => commands::imatrix::run(args, global),
        Command::Inspect(args) => commands::inspect::run(args, global),
        Command::Convert(args) => commands::convert::run(args, global),
        Command::Pack(args) => commands::pack::run(args, global),
        Command::Unpack(args) => commands::unpack::run(args, global),
        Command::Diff(args) => commands::diff::run(args, global),
        Command::Patch(args) => commands::patch::run(args, global),
        Command::List(args) => commands::archive::list(args, global),
        Command::Test(args) => commands::archive::test(args, global),
        Command::Cat(args) => commands::archive::cat(args),
        Command::Cache(command) => commands::cache::run(command, global),
        Command::Methods(args) => commands::methods::run(args, global),
        Command::Bench(args) => commands::bench::run(args, global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            brevity::progress::say(&format!("brevity: {}", message(&error)));
            if stop::requested() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

/// Error and causes, without those that the text before them says already.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match text.as_str() {
            "" => text = cause,
            said if said.contains(&cause) => {}
            _ => text = format!("{text}: {cause}"),
        }
    }
    text
}

/// `brevity … | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}
