//! `cargo xtask torture`: the fault tests of CI with more rounds, resumable.
//!
//! A run is named by its seed: round *n* of seed *s* is the same everywhere, and what has been done is read back from the results file, so
//! that an interrupted run goes on where it was.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::shell::{self, Show};
use crate::test;

/// Arguments of `torture`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// kill -9 of relay, gateway or terminal client at a random moment under traffic.
    Crash {
        /// Rounds in all, those of earlier runs with the same seed included.
        #[arg(long, default_value_t = 200)]
        rounds: u64,
        /// Which run; the same seed gives the same rounds.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Random histories of endpoints and a hostile relay in one process, 40 days of injected time each.
    Sim {
        /// Histories in all, those of earlier runs from the same seed included.
        #[arg(long, default_value_t = 1_000_000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Also what is known not to hold yet.
        #[arg(long)]
        everything: bool,
    },
    /// The relay: kill -9 under 64 senders, power cuts and failing calls on a disk of its own, clocks that are set, malformed frames.
    Relay(Relay),
    /// A gateway with many live conversations, killed and put back from a copy a day old while its customers write.
    Restore {
        /// Conversations.
        #[arg(long, default_value_t = 1_000)]
        conversations: u32,
    },
}

/// How long each part of `torture relay` is; those of earlier runs with the same seed are included.
#[derive(clap::Args)]
struct Relay {
    /// Which run; the same seed gives the same rounds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this part: kills, store-cuts, relay-cuts, store-calls, relay-calls, clocks or frames.
    #[arg(long)]
    only: Option<String>,
    /// kill -9 of the program under 64 senders, so often.
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// Moments at which a store loses power, fifty of each history.
    #[arg(long, default_value_t = 20_000)]
    store_cuts: u64,
    /// Moments at which a relay with senders and a reader loses power, twenty of each run.
    #[arg(long, default_value_t = 2_000)]
    relay_cuts: u64,
    /// The n-th call of a store's work fails, for every n up to this.
    #[arg(long, default_value_t = 2_000)]
    store_calls: u64,
    /// The n-th call of a relay's start, and of its work, fails, for every n up to this.
    #[arg(long, default_value_t = 1_000)]
    relay_calls: u64,
    /// Histories of clocks that are set.
    #[arg(long, default_value_t = 500)]
    clocks: u64,
    /// Malformed and mutated frames, a thousand in each round.
    #[arg(long, default_value_t = 1_000_000)]
    frames: u64,
}

/// Histories after which a line is written: an interrupted run repeats less than this many.
const CHUNK: u64 = 500;

/// Runs what is left of it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let folder = shell::private().join("torture");
    std::fs::create_dir_all(&folder)?;
    match args.kind {
        Kind::Crash { rounds, seed } => crash(folder, rounds, seed),
        Kind::Sim { seeds, from, everything } => sim(folder, seeds, from, everything),
        Kind::Relay(ref parts) => relay(&folder, parts),
        Kind::Restore { conversations } => restore(conversations),
    }
}

/// Chunk after chunk; a chunk in which a history broke ends the run, and is run again by the next.
fn sim(folder: PathBuf, seeds: u64, from: u64, everything: bool) -> Result<ExitCode> {
    let kind = if everything { "everything" } else { "sim" };
    let results = folder.join(format!("{kind}-{from}.jsonl"));
    let chunks = seeds.div_ceil(CHUNK);
    let done = done_rounds(&std::fs::read_to_string(&results).unwrap_or_default()).min(chunks);
    let of = seeds.min(done * CHUNK);
    println!("torture   sim, from seed {from}: {of} of {seeds} histories done, results in {}", results.display());
    let bar = ProgressBar::new(seeds);
    bar.set_style(ProgressStyle::with_template("sim       {bar:20} {pos}/{len}  {eta} left")?.progress_chars("█▉░"));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_position(of);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&results)?;
    for chunk in done..chunks {
        let (first, count) = (from + chunk * CHUNK, CHUNK.min(seeds - chunk * CHUNK));
        let mut command = shell::cargo(["test", "--quiet", "-p", "bulla-testkit", "--test", "sim", "--"]);
        command
            .args(["--exact", "every_conversation_keeps_its_place_in_random_histories", "--nocapture"])
            .env("BULLA_SIM_FIRST", first.to_string())
            .env("BULLA_SIM_SEEDS", count.to_string());
        if everything {
            command.env("BULLA_SIM_EVERYTHING", "1");
        }
        let output = shell::capture(&mut command, Show::Nothing)?;
        let figure = output.text.lines().find_map(|line| line.strip_prefix("figure: ")).unwrap_or_default();
        let line = serde_json::json!({"round": chunk, "held": output.success, "first": first, "figure": figure});
        writeln!(file, "{line}")?;
        if !output.success {
            bar.abandon();
            println!("{}", output.text);
            println!("torture   sim: seeds {first} to {} did not hold", first + count - 1);
            return Ok(ExitCode::FAILURE);
        }
        bar.set_position(seeds.min((chunk + 1) * CHUNK));
        bar.suspend(|| println!("          {figure}"));
    }
    bar.finish();
    println!("torture   sim, from seed {from}: {seeds} of {seeds} histories held");
    Ok(ExitCode::SUCCESS)
}

/// Part after part. Each leaves a line for every round that held, and goes on after the last of them.
fn relay(folder: &std::path::Path, args: &Relay) -> Result<ExitCode> {
    const CALLS_FAIL: &str = "whichever_call_fails_a_relay_goes_on_or_stops_with_a_reason_and_loses_nothing";
    let outside = ["--test", "relay"];
    let calls_of_relay = format!("disk::running::{CALLS_FAIL}");
    let parts: [(&str, &[&str], &str, u64); 7] = [
        ("kills", &outside, "kills::kill_9_again_and_again_under_64_senders_loses_nothing", args.kills),
        (
            "store-cuts",
            &outside,
            "disk::store::after_a_power_cut_a_store_shows_what_was_committed",
            args.store_cuts.div_ceil(50),
        ),
        (
            "relay-cuts",
            &outside,
            "disk::running::after_a_power_cut_a_relay_has_everything_that_it_accepted",
            args.relay_cuts.div_ceil(20),
        ),
        ("store-calls", &outside, "disk::store::whichever_call_fails_what_was_committed_is_there", args.store_calls),
        ("relay-calls", &outside, &calls_of_relay, 2 * args.relay_calls),
        (
            "clocks",
            &["--lib"],
            "clock::tests::srv_09_no_clock_makes_an_envelope_go_early_or_stay_for_ever",
            args.clocks,
        ),
        (
            "frames",
            &outside,
            "frames::r_10_whatever_peers_send_the_relay_goes_on_and_nobody_else_notices",
            args.frames.div_ceil(1_000),
        ),
    ];
    if let Some(only) = &args.only {
        anyhow::ensure!(parts.iter().any(|(name, ..)| name == only), "there is no part {only}");
    }
    let mut all_held = true;
    for (name, target, test, rounds) in parts {
        if args.only.as_ref().is_none_or(|only| only == name) {
            all_held &= relay_part(folder, name, target, test, rounds, args.seed)?;
        }
    }
    Ok(if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn relay_part(
    folder: &std::path::Path,
    name: &str,
    target: &[&str],
    test: &str,
    rounds: u64,
    seed: u64,
) -> Result<bool> {
    // The test runs in another folder.
    let results = std::path::absolute(folder.join(format!("relay-{name}-{seed}.jsonl")))?;
    let done = done_rounds(&std::fs::read_to_string(&results).unwrap_or_default());
    println!("torture   relay {name}, seed {seed}: {done} of {rounds} rounds done, results in {}", results.display());
    if done >= rounds {
        return Ok(true);
    }
    let began = std::time::Instant::now();
    let mut command = shell::cargo(["test", "--quiet", "-p", "bulla-relay"]);
    command
        .args(target)
        .args(["--", "--exact", test, "--nocapture"])
        .env("BULLA_SEED", seed.to_string())
        .env("BULLA_RELAY_FIRST", done.to_string())
        .env("BULLA_RELAY_ROUNDS", (rounds - done).to_string())
        .env("BULLA_RELAY_RESULTS", &results);
    let output = shell::capture(&mut command, Show::Nothing)?;
    let after = done_rounds(&std::fs::read_to_string(&results).unwrap_or_default());
    for line in output.text.lines().filter(|line| line.starts_with("figure: ") || line.starts_with("skipped: ")) {
        println!("          {line}");
    }
    if !output.success {
        println!("{}", output.text);
    }
    let secs = began.elapsed().as_secs();
    println!("torture   relay {name}, seed {seed}: {after} of {rounds} rounds held, {secs} s");
    Ok(output.success && after >= rounds)
}

/// One run, whose figure is printed.
fn restore(conversations: u32) -> Result<ExitCode> {
    println!("torture   restore, {conversations} conversations");
    let test = "restore::mls_13_a_gateway_goes_on_with_all_its_conversations_from_a_copy_a_day_old";
    let mut command =
        shell::cargo(["test", "--quiet", "-p", "bulla-client", "--test", "engine", "--", "--exact", test]);
    command.arg("--nocapture").env("BULLA_RESTORE_CONVERSATIONS", conversations.to_string());
    let output = shell::capture(&mut command, Show::Lines)?;
    let ran = output.text.lines().any(|line| line.starts_with("figure: "));
    println!(
        "torture   restore, {conversations} conversations: {}",
        if output.success && ran { "held" } else { "did not hold" }
    );
    Ok(if output.success && ran { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn crash(folder: PathBuf, rounds: u64, seed: u64) -> Result<ExitCode> {
    let results = folder.join(format!("crash-{seed}.jsonl"));
    let done = done_rounds(&std::fs::read_to_string(&results).unwrap_or_default());
    println!("torture   crash, seed {seed}: {done} of {rounds} rounds done, results in {}", results.display());
    if done >= rounds {
        return Ok(ExitCode::SUCCESS);
    }
    test::build_programs()?;
    let mut command = shell::cargo(["test", "--quiet", "--workspace", "--test", "crash", "--"]);
    command
        .args(["--exact", "accepted_messages_survive_kill_9_of_any_part", "--nocapture"])
        .env("BULLA_CRASH_SEED", seed.to_string())
        .env("BULLA_CRASH_FIRST", done.to_string())
        .env("BULLA_CRASH_ROUNDS", (rounds - done).to_string())
        .env("BULLA_CRASH_RESULTS", &results);
    let output = shell::capture(&mut command, Show::Lines)?;
    let done = done_rounds(&std::fs::read_to_string(&results).context("the results file")?);
    println!("torture   crash, seed {seed}: {done} of {rounds} rounds held");
    Ok(if output.success && done >= rounds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rounds that held: one line each; the first line that does not say so ends the count, and is run again.
fn done_rounds(results: &str) -> u64 {
    let held = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["held"] == true);
    results.lines().take_while(held).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_after_the_last_round_that_held() {
        let held = r#"{"round":0,"held":true}"#;
        assert_eq!(done_rounds(""), 0);
        assert_eq!(done_rounds(&format!("{held}\n{held}\n")), 2);
        assert_eq!(done_rounds(&format!("{held}\n{{\"round\":1,\"held\":false}}\n{held}\n")), 1);
        assert_eq!(done_rounds(&format!("{held}\n{{\"rou")), 1, "a torn last line is run again");
    }
}
