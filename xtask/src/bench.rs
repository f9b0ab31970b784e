//! `cargo xtask bench`: figures for messages of 1 KiB, with the commit and the machine that they belong to.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{app, need, shell};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Messages per measurement.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,

    /// What a customer waits for in a browser, instead: link to ready, bytes, said to shown.
    #[arg(long)]
    browser: bool,

    /// The relay beside Mosquitto, Redis, NATS and ejabberd, instead: of these, what is installed; for the others, what installs them.
    #[arg(long, conflicts_with = "browser")]
    peers: bool,

    /// More for `bulla-bench`: `-- --only store`, `-- --runs 5`, with `--peers` `-- --peer nats`; `-- --help` tells all.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Builds in release, measures, writes `bench/results/<date>-<commit>.{json,md}` and plots; with peers `<date>-<commit>-peers.…`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.browser {
        return browser();
    }
    let mut build = shell::cargo(["build", "--release", "-p", "bulla-relay", "-p", "bulla-bench"]);
    if !args.peers {
        build.args(["-p", "bulla"]);
    }
    shell::must(&mut build, "cargo build --release")?;
    let mut bench = std::process::Command::new(shell::target()?.join("release/bulla-bench"));
    bench.current_dir(shell::root()).args([
        "--messages",
        &args.messages.to_string(),
        "--commit",
        &shell::commit(),
        "--out",
        "bench/results",
    ]);
    if args.peers {
        bench.arg("--peers");
    }
    // On this terminal and not through a pipe, which would hide its progress.
    let status = bench.args(&args.more).status().context("cannot start bulla-bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same over the app in Debian's Chromium: `bench/results/<date>-<commit>-browser.{json,md}`.
fn browser() -> Result<ExitCode> {
    need::check(&[&need::RUST, &need::NODE_FOR_APP])?;
    let mut build = shell::cargo(["build", "--release", "-p", "bulla", "-p", "bulla-relay"]);
    shell::must(&mut build, "cargo build --release")?;
    app::engine(true).and_then(|_| app::pages(app::CHAT))?;
    let mut bench = app::npm(app::CHAT, &["run", "bench"])?;
    bench.env("BULLA_PROGRAMS", shell::target()?.join("release")).env("BULLA_BENCH_COMMIT", shell::commit());
    let status = bench.env("BULLA_BENCH_OUT", shell::root().join("bench/results")).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
