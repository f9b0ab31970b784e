//! `bulla-bench`: what Bulla costs, measured with the real programs in release.
//!
//! Every figure is a median over runs, with the lowest and the highest. Processor time is the measured program's own, as the kernel
//! counts it; the driver that makes the load runs on the same machine and is told apart. While something is measured the bench counts
//! what others use of the machine: if that is much, or the build is no release, the result is called a draft.

mod bench;
mod crowd;
mod endpoint;
mod gateway;
mod latency;
mod machine;
mod meter;
mod peers;
mod plot;
mod relay;
mod report;
mod sealing;
mod stats;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::bench::{Bench, Group};
use crate::machine::Machine;
use crate::peers::System;
use crate::report::Report;

/// How many processors others may keep busy before the figures are a draft: a tenth of one.
const STRANGERS: f64 = 0.1;

/// Measures the relay, sealing, an endpoint with its store, and the way from API call to terminal.
///
/// Needs `bulla-relay` and `bulla` beside it: `cargo xtask bench` builds all three in release and runs this. Everything happens on
/// loopback and in the temporary folder (TMPDIR), which should be on the disk that is meant.
#[derive(Debug, Parser)]
#[command(name = "bulla-bench", version)]
struct Cli {
    /// Messages of one run. The relay gets three times as many (at most 60,000), latency a hundredth, at 20 a second.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=50_000))]
    messages: u64,

    /// Runs of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,

    /// Only this measurement; may be given several times.
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Measurement>,

    /// The relay beside Mosquitto, Redis, NATS and ejabberd, instead, of which it takes what is installed. The same load for all; messages
    /// as given, and not three times as many.
    #[arg(long, conflicts_with = "only")]
    peers: bool,

    /// With `--peers`: only this system; may be given several times.
    #[arg(long, value_name = "NAME", value_enum, requires = "peers")]
    peer: Vec<System>,

    /// With `--peers`: connections that wait, for their memory.
    #[arg(long, value_name = "N", default_value_t = 2_000, requires = "peers", value_parser = clap::value_parser!(u64).range(1..=5_000))]
    connections: u64,

    /// The commit that is measured, for the results.
    #[arg(long, value_name = "COMMIT", default_value = "unknown")]
    commit: String,

    /// The folder for the results: JSON, a page, plots. Without it nothing is written.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Call the results a draft, whatever they are.
    #[arg(long)]
    draft: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// One durable write of this disk.
    Disk,
    /// The relay hands envelopes over to readers who are there.
    Handover,
    /// The relay stores envelopes for readers who are away, and they come back.
    Store,
    /// The relay with thousands who wait, stall or send far too much, beside live traffic.
    Crowd,
    /// End-to-end encryption alone.
    Seal,
    /// An endpoint with its durable store receives and sends.
    Endpoint,
    /// From the API call to the terminal, and from the terminal to the webhook.
    Latency,
    /// As much as the gateway carries, from the API to devices and from devices to the webhook.
    Gateway,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulla-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let bench = Bench::new(cli.messages, cli.runs.into());
    let machine = Machine::read();
    let mut caveats = Vec::new();
    if cfg!(debug_assertions) {
        caveats.push("not a release build".to_owned());
    }
    if cli.draft {
        caveats.push("called so by `--draft`".to_owned());
    }
    if cli.runs < 3 {
        caveats.push(format!("{} of at least 3 runs", cli.runs));
    }
    if machine.keeps_nothing() {
        caveats.push(format!("the stores were on {}, where a sync costs nothing", machine.filesystem));
    }
    let (groups, compared, has_failed) = if cli.peers {
        let known = caveats.len();
        let measured = peers::measure(&bench, &cli.peer, cli.connections, &mut caveats);
        let (groups, compared) = runtime.block_on(async {
            tokio::select! {
                measured = measured => measured,
                // What is dropped with it ends its servers and removes their folders.
                _ = tokio::signal::ctrl_c() => bail!("ended by Ctrl-C"),
            }
        })?;
        let has_failed = caveats.len() > known;
        let strangers = bench.strangers();
        if strangers > STRANGERS {
            caveats.push(format!("others kept {strangers:.2} processors busy"));
        }
        (groups.into_iter().map(|group| Group { strangers, ..group }).collect(), compared, has_failed)
    } else {
        let (groups, has_failed) = own(cli, &bench, &runtime, &mut caveats);
        (groups, Vec::new(), has_failed)
    };
    let report = Report {
        commit: cli.commit.clone(),
        date: jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string(),
        command: command_line(cli),
        machine,
        caveats,
        groups,
        compared,
    };
    print!("{}", report.table());
    if let Some(folder) = &cli.out {
        println!();
        for path in report.write(folder)? {
            println!("{}", path.display());
        }
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The measurements of Bulla's own parts, and whether one failed.
fn own(cli: &Cli, bench: &Bench, runtime: &Runtime, caveats: &mut Vec<String>) -> (Vec<Group>, bool) {
    let mut groups = Vec::new();
    let mut has_failed = false;
    let chosen = |one: &&Measurement| cli.only.is_empty() || cli.only.contains(one);
    for measurement in Measurement::value_variants().iter().filter(chosen) {
        match runtime.block_on(measure(*measurement, bench)) {
            Ok(more) => {
                let strangers = bench.strangers();
                if strangers > STRANGERS {
                    caveats.push(format!("others kept {strangers:.2} processors busy during {measurement:?}"));
                }
                groups.extend(more.into_iter().map(|group| Group { strangers, ..group }));
            }
            // The others are still worth having.
            Err(error) => {
                eprintln!("bulla-bench: {measurement:?}: {error:#}");
                caveats.push(format!("{measurement:?} failed"));
                has_failed = true;
                bench.strangers();
            }
        }
    }
    (groups, has_failed)
}

async fn measure(what: Measurement, bench: &Bench) -> Result<Vec<Group>> {
    Ok(match what {
        Measurement::Disk => vec![machine::disk(bench)?],
        Measurement::Handover => vec![relay::hand_over(bench).await?],
        Measurement::Store => relay::store_and_drain(bench).await?.into(),
        Measurement::Crowd => vec![crowd::measure(bench).await?],
        Measurement::Seal => vec![sealing::measure(bench)?],
        Measurement::Endpoint => vec![endpoint::measure(bench).await?],
        Measurement::Latency => vec![latency::measure(bench).await?],
        Measurement::Gateway => vec![gateway::measure(bench).await?],
    })
}

/// How to measure the same again.
fn command_line(cli: &Cli) -> String {
    let mut command = format!("bulla-bench --messages {} --runs {}", cli.messages, cli.runs);
    for name in cli.only.iter().filter_map(Measurement::to_possible_value) {
        command.push_str(" --only ");
        command.push_str(name.get_name());
    }
    if cli.peers {
        let _ = write!(command, " --peers --connections {}", cli.connections);
        for name in cli.peer.iter().filter_map(System::to_possible_value) {
            let _ = write!(command, " --peer {}", name.get_name());
        }
    }
    command
}
