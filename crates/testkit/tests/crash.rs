//! kill -9 of relay, gateway or a customer's terminal, at random moments, under traffic in both directions: what was accepted must be
//! shown exactly once, in its sender's order ([`bulla_testkit::town`], [`bulla_testkit::history`]).
//!
//! Rounds come from a seed: `BULLA_CRASH_SEED`, `BULLA_CRASH_FIRST` and `BULLA_CRASH_ROUNDS` choose them, `BULLA_CRASH_RESULTS` names a file
//! for one JSON line per round (`cargo xtask torture crash` does all of it).

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::chance::Chance;
use bulla_testkit::history::{Breach, Figures};
use bulla_testkit::process::{program, turn};
use bulla_testkit::town::plan::{Menu, Round};
use bulla_testkit::town::{Outcome, Town};
use bulla_testkit::wait::GUARD;

/// Rounds that share one relay and one gateway; a conversation lives through several of them.
const ROUNDS_PER_TOWN: u64 = 10;

/// Rounds within which an endpoint that acknowledges too early must have lost something.
const SABOTAGED_ROUNDS: u64 = 20;

fn number(name: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(otherwise),
    }
}

async fn town(bulla: &str) -> Result<Town> {
    let plan = Plan { bulla: program(bulla)?, log: "debug", ..Plan::new()? };
    Ok(Town::around(Apart::start(plan).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_messages_survive_kill_9_of_any_part() -> Result<()> {
    let _turn = turn()?;
    let (seed, first) = (number("BULLA_CRASH_SEED", 1)?, number("BULLA_CRASH_FIRST", 0)?);
    let rounds = number("BULLA_CRASH_ROUNDS", 40)?;
    let mut results = match std::env::var_os("BULLA_CRASH_RESULTS") {
        Some(path) => Some(std::fs::OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let (mut total, mut kills) = (Figures::default(), [0; 3]);
    let mut town: Option<Town> = None;
    for round in first..first + rounds {
        if round % ROUNDS_PER_TOWN == 0 {
            town = None;
        }
        let town = match &mut town {
            Some(town) => town,
            none => none.insert(self::town("bulla").await?),
        };
        let plan = Round::of(&mut Chance::of_round(seed, round), town.people(), Menu::Everything);
        let outcome = town.round(round, &plan, GUARD).await;
        // A wait that ended by its guard is a standstill, even if a restart for the verdict then mended it.
        let held = matches!(&outcome, Ok(Outcome { verdict: Ok(_), took }) if *took < GUARD);
        if let Some(file) = &mut results {
            let mut line = serde_json::json!({"round": round, "held": held, "kills": plan.kills_in_words()});
            if let Ok(Outcome { verdict: Ok(new), took }) = &outcome {
                line["sent"] = new.sent.into();
                line["accepted"] = new.accepted.into();
                line["shown"] = new.shown.into();
                line["ms"] = u64::try_from(took.as_millis())?.into();
            }
            writeln!(file, "{line}")?;
        }
        let again = format!("round {round} of seed {seed} ({})", plan.kills_in_words().join(", "));
        match outcome.with_context(|| format!("{again}\n{}", town.logs()))?.verdict {
            Ok(_) if !held => bail!("{again}: it stood still\n{}", town.logs()),
            Ok(new) => {
                total.sent += new.sent;
                total.accepted += new.accepted;
                total.shown += new.shown;
            }
            Err(broken) => bail!("{again}:\n{broken}\n{}", town.logs()),
        }
        for (sum, of) in kills.iter_mut().zip(plan.kills_by_kind()) {
            *sum += of;
        }
    }
    let [relay, gateway, terminal] = kills;
    println!("figure: {rounds} rounds of seed {seed}: {total}");
    println!(
        "figure: kill -9 of the relay {relay} times, of the gateway {gateway} times, of a terminal {terminal} times"
    );
    Ok(())
}

/// The same world, with endpoints that acknowledge to the relay before their own commit (a build with a feature that exists for this
/// test): the checker must see that something accepted is lost. Otherwise it shows nothing that the test above passes.
#[tokio::test(flavor = "multi_thread")]
async fn the_checker_sees_an_endpoint_that_acknowledges_before_its_commit() -> Result<()> {
    let _turn = turn()?;
    let mut town = town("bulla-sabotaged").await?;
    for round in 0..SABOTAGED_ROUNDS {
        let plan = Round::of(&mut Chance::of_round(7, round), town.people(), Menu::EndpointsOnly);
        // What is lost never comes: waiting for long would only be slow.
        let outcome = town.round(round, &plan, Duration::from_secs(3)).await.with_context(|| town.logs())?;
        let Err(broken) = outcome.verdict else { continue };
        if let Some(lost) = broken.breaches.iter().find(|breach| matches!(breach, Breach::Lost { .. })) {
            println!("figure: an endpoint that acknowledges before its commit is seen in round {round}: {lost}");
            return Ok(());
        }
        bail!("something else than a loss was seen:\n{broken}");
    }
    bail!("{SABOTAGED_ROUNDS} rounds of an endpoint that acknowledges before its commit, and the checker saw nothing")
}
