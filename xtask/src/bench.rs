//! `cargo xtask bench`: figures for messages of 1 KiB, with the commit and the machine that they belong to.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell::{self, Show};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Messages per measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
}

/// Builds in release, measures, writes `bench/results/<date>-<commit>.{json,md}`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    shell::must(
        &mut shell::cargo(["build", "--release", "-p", "bulla", "-p", "bulla-relay", "-p", "bulla-bench"]),
        "cargo build --release",
    )?;
    let mut bench = std::process::Command::new(shell::target()?.join("release/bulla-bench"));
    bench.current_dir(shell::root()).args([
        "--messages",
        &args.messages.to_string(),
        "--commit",
        &shell::commit(),
        "--out",
        "bench/results",
    ]);
    let output = shell::capture(&mut bench, Show::Lines)?;
    Ok(if output.success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
