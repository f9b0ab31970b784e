//! Random histories of [`bulla_testkit::sim`]: faults for up to 40 days, then quiet, then the verdict.
//!
//! `BULLA_SIM_FIRST` and `BULLA_SIM_SEEDS` choose the seeds (`cargo xtask torture sim` does that), `BULLA_SIM_EVERYTHING` also runs what is known
//! not to hold yet, `BULLA_SIM_CLASSICAL` lets all speak the classical suite alone, which is cheaper. `SEED=n` runs one history and shows everything
//! that happens in it, as it happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_e2ee::suite::{Suite, Suites};
use bulla_testkit::sim::{Figures, Options, RelaySabotage, Sabotage, run};

/// Histories in every test run.
const SEEDS: u64 = 10_000;

/// Histories within which a sabotaged double must be seen.
const SABOTAGED: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn options() -> Options {
    let suites = std::env::var_os("BULLA_SIM_CLASSICAL").map(|_| Suites::only(Suite::Classical));
    Options { everything: std::env::var_os("BULLA_SIM_EVERYTHING").is_some(), suites, ..Options::default() }
}

/// A history, or how it broke; a panic inside of it is one way.
fn history(seed: u64, options: Options) -> Result<Figures, String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(result) => result.map_err(|broken| broken.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
    }
}

/// All seeds of a range, on all cores. Those that broke, in order.
fn all(first: u64, seeds: u64, options: Options) -> (Figures, Vec<u64>) {
    let next = AtomicU64::new(first);
    let done = Mutex::new((Figures::default(), Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let result = history(seed, options);
            let mut done = done.lock().expect("a worker counts and does not panic");
            match result {
                Ok(figures) => done.0.add(&figures),
                Err(why) => {
                    println!("SEED={seed}: {}", why.lines().next().unwrap_or_default());
                    done.1.push(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let (figures, mut broken) = done.into_inner().expect("no worker panics");
    broken.sort_unstable();
    (figures, broken)
}

#[test]
fn every_conversation_keeps_its_place_in_random_histories() {
    let traced = Options { trace: true, ..options() };
    if let Some(seed) = number("SEED") {
        match history(seed, Options { live: true, ..traced }) {
            Ok(figures) => println!("{figures}"),
            Err(why) => panic!("SEED={seed}\n{why}"),
        }
        return;
    }
    let (first, seeds) = (number("BULLA_SIM_FIRST").unwrap_or(0), number("BULLA_SIM_SEEDS").unwrap_or(SEEDS));
    let (figures, broken) = all(first, seeds, options());
    println!("figure: seeds {first} to {}: {figures}", first + seeds - 1);
    println!("figure: {} of {seeds} histories broke: {broken:?}", broken.len());
    if let Some(seed) = broken.first() {
        // Once more, to see what happened.
        let again = history(*seed, traced).err();
        let again = again.unwrap_or_else(|| "it held this time: only the keys that OpenMLS makes differ".to_owned());
        panic!(
            "{} of {seeds} histories broke: {broken:?}\nSEED={seed} cargo test -p bulla-testkit --test sim -- --nocapture\n{again}",
            broken.len()
        );
    }
}

/// A seed repeats everything that happens and when.
#[test]
fn a_seed_repeats_its_history() {
    let shown = |seed| {
        // Every history has a trace; one that ends well does not show it. This relay breaks the contract for certain.
        let options = Options { trace: true, sabotage: Some(Sabotage::LeaksText), ..Options::default() };
        run(seed, options).expect_err("a leak is always seen").trace
    };
    for seed in 0..3 {
        let (one, other) = (shown(seed), shown(seed));
        assert!(one.len() > 50, "a history has more than {} lines", one.len());
        assert_eq!(one, other, "seed {seed}");
    }
}

/// Each double broken on purpose is seen, by the invariant that is its own.
#[test]
fn the_verdict_sees_every_sabotage() {
    let sabotages = [
        (Sabotage::Relay(RelaySabotage::LosesAccepted), "I1 lost"),
        (Sabotage::Relay(RelaySabotage::ForgetsIncarnations), "I1 lost"),
        (Sabotage::Relay(RelaySabotage::ExpiresEarly), "I5 early"),
        (Sabotage::Relay(RelaySabotage::ExpiresLate), "I5 late"),
        (Sabotage::LosesMessageIds, "I2 twice"),
        (Sabotage::KeepsEffects, "I9 sealed twice"),
        (Sabotage::LeaksText, "I6 plaintext"),
        (Sabotage::StaysAway, "I8"),
    ];
    for (sabotage, invariant) in sabotages {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        let seen = (0..SABOTAGED).find_map(|seed| {
            let why = history(seed, options).err()?;
            why.lines().find(|line| line.starts_with(invariant)).map(|line| (seed, line.to_owned()))
        });
        let (seed, line) = seen.unwrap_or_else(|| panic!("{SABOTAGED} histories, and nobody saw {sabotage:?}"));
        println!("figure: {sabotage:?} is seen in seed {seed}: {line}");
    }
}
