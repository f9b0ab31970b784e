//! `cargo xtask torture`: the fault tests of CI with more rounds, resumable.
//!
//! A run is named by its seed: round *n* of seed *s* is the same everywhere, and what has been done is read back from the results file, so
//! that an interrupted run goes on where it was.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;

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
}

/// Runs what is left of it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Kind::Crash { rounds, seed } = args.kind;
    let folder = shell::private().join("torture");
    std::fs::create_dir_all(&folder)?;
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
