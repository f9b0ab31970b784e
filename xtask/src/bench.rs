//! `cargo xtask bench`: figures for messages of 1 KiB, with the commit and the machine that they belong to.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::shell;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Messages per measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,

    /// More for `bulla-bench`: `-- --only store`, `-- --runs 5`; `-- --help` tells all.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Builds in release, measures, writes `bench/results/<date>-<commit>.{json,md}` and plots.
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
    // On this terminal and not through a pipe, which would hide its progress.
    let status = bench.args(&args.more).status().context("cannot start bulla-bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
