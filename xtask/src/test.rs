//! `cargo xtask test`: everything that runs, and one line at the end that counts it.
//!
//! The outer tests start the real programs, so these are built first. Rust tests run under nextest where it is installed, else under
//! `cargo test`; documentation examples, the Python relay client and the unmodified SDKs follow.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::shell::{self, Show};
use crate::{app, need, sdk};

/// Arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; scripts are chosen by their file's name.
    filter: Option<String>,
}

/// How many passed and failed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    /// Ran and held.
    pub(crate) passed: u32,
    /// Ran and did not, or could not be run.
    pub(crate) failed: u32,
}

impl Tally {
    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs everything, also after a failure.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    need::check(&[&need::RUST, &need::PYTHON, &need::NODE_FOR_APP])?;
    let filter = args.filter.as_deref();
    let mut total = Tally::default();
    timed("bulla-sabotaged", build_sabotaged)?;
    timed("the programs", build_programs)?;
    total.add(timed("Rust tests, building included", || rust_tests(filter))?);
    if filter.is_none() {
        total.add(timed("documentation examples", examples)?);
    }
    total.add(timed("SDKs", || sdk::run_all(filter))?);
    let chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    if chosen("apps/chat") {
        let built = timed("the app", || app::engine(true).and_then(|_| app::pages(app::CHAT)));
        total.add(timed("apps/chat", || web(app::CHAT, &["check", "test", "real", "e2e"], built.map(drop)))?);
    }
    if chosen("apps/console") {
        let built = app::pages(app::CONSOLE);
        total.add(timed("apps/console", || web(app::CONSOLE, &["check", "test", "real"], built.map(drop)))?);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says how long a step took: what makes a whole run long is seen in any run.
fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = step();
    println!("time      {:>6.0} s  {what}", began.elapsed().as_secs_f64());
    result
}

/// Builds every program of the workspace as the outer tests start them.
pub(crate) fn build_programs() -> Result<()> {
    println!("build     the programs");
    shell::must(&mut shell::cargo(["build", "--workspace", "--bins", "--quiet"]), "cargo build").map(drop)
}

/// Builds `bulla` once more, as `bulla-sabotaged` beside it: it acknowledges before its commit, and the crash test's checker must see that.
/// With everything else as in [`build_programs`], so that only three crates are compiled again; moved and not copied, so that an
/// interruption between the two leaves no program under the wrong name.
fn build_sabotaged() -> Result<()> {
    println!("build     bulla-sabotaged");
    let feature = "bulla/sabotage-ack-before-commit";
    let build = ["build", "--workspace", "--bins", "--quiet", "--features", feature];
    shell::must(&mut shell::cargo(build), "cargo build of the sabotaged program")?;
    let programs = shell::target()?.join("debug");
    let (built, named) = (programs.join("bulla"), programs.join("bulla-sabotaged"));
    // Two names of one file are not renamed by the system: the one of an earlier run goes first.
    std::fs::remove_file(&named).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    std::fs::rename(&built, &named).context("naming the sabotaged program")
}

/// Whether `cargo nextest` is installed.
fn has_nextest() -> bool {
    let mut probe = shell::cargo(["nextest", "--version"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn rust_tests(filter: Option<&str>) -> Result<Tally> {
    let nextest = has_nextest();
    let mut command = if nextest {
        shell::cargo(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass", "--color", "never"])
    } else {
        println!("          cargo-nextest is not installed: cargo test runs instead");
        // Documentation examples have their own step.
        shell::cargo(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    if nextest && filter.is_none() {
        command.args(["--status-level", "slow", "--final-status-level", "fail"]);
    }
    let output = shell::capture(command.args(filter), Show::Lines)?;
    let mut tally = if nextest { nextest_tally(&output.text) } else { libtest_tally(&output.text) };
    if !output.success && tally.failed == 0 {
        tally.failed = 1; // it did not even build, or was ended
    }
    Ok(tally)
}

fn examples() -> Result<Tally> {
    let output = shell::capture(&mut shell::cargo(["test", "--workspace", "--doc", "--quiet"]), Show::Nothing)?;
    let mut tally = libtest_tally(&output.text);
    if !output.success {
        println!("{}", output.text);
        tally.failed = tally.failed.max(1);
    }
    Ok(tally)
}

/// A web app: its parts, its pages in a browser, and both with the real programs.
fn web(app: &str, parts: &[&str], built: Result<()>) -> Result<Tally> {
    println!("script    apps/{app}");
    let mut total = Tally::default();
    for &part in parts {
        let output = match &built {
            Ok(()) => shell::capture(app::npm(app, &["run", part])?.env("NO_COLOR", "1"), Show::Nothing)?,
            Err(why) => shell::Output { success: false, text: format!("{why:#}") },
        };
        let mut tally = vitest_tally(&output.text);
        tally.passed += u32::from(part == "check" && output.success);
        if !output.success || tally.passed == 0 {
            println!("FAILED    apps/{app}: npm run {part}\n{}", output.text);
            tally.failed = tally.failed.max(1);
        } else {
            println!("          ok {part}: {}", tally.passed);
        }
        total.add(tally);
    }
    Ok(total)
}

/// Sums the lines `Tests  1 failed | 5 passed (6)`.
fn vitest_tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().map(str::trim_start).filter(|line| line.starts_with("Tests ")) {
        tally.add(Tally { passed: count(line, "passed"), failed: count(line, "failed") });
    }
    tally
}

/// Counts a script whose each line `ok NAME` is one thing shown, and whose exit code says whether all was well.
pub(crate) fn script(name: &str, command: &mut Command) -> Result<Tally> {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);
    println!("script    {name}");
    let output = shell::capture_within(command, Show::Nothing, Some(LIMIT))?;
    let mut tally = Tally { passed: 0, failed: 0 };
    for line in output.text.lines().filter(|line| line.starts_with("ok ")) {
        println!("          {line}");
        tally.passed += 1;
    }
    if !output.success || tally.passed == 0 {
        println!("FAILED    {name}\n{}", output.text);
        tally.failed += 1;
    }
    Ok(tally)
}

/// Sums the lines `test result: ok. 5 passed; 0 failed; …`.
fn libtest_tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter(|line| line.trim_start().starts_with("test result:")) {
        tally.add(Tally { passed: count(line, "passed"), failed: count(line, "failed") });
    }
    tally
}

/// Reads the line `Summary [ 1.0s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 0 skipped`.
fn nextest_tally(text: &str) -> Tally {
    let Some(line) = text.lines().rev().find(|line| line.trim_start().starts_with("Summary [")) else {
        return Tally::default();
    };
    let failed = count(line, "failed") + count(line, "timed") + count(line, "exec");
    Tally { passed: count(line, "passed"), failed }
}

/// The number before a word.
fn count(line: &str, word: &str) -> u32 {
    let words: Vec<_> = line.split([' ', ',', ';', '(', ')']).filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_counted() {
        let nextest =
            "x\n     Summary [   1.204s] 14 tests run: 11 passed (1 slow), 2 failed, 1 timed out, 3 skipped\n";
        assert_eq!(nextest_tally(nextest), Tally { passed: 11, failed: 3 });
        assert_eq!(nextest_tally("error: could not compile"), Tally::default());
        let libtest =
            "test result: ok. 5 passed; 0 failed; 0 ignored;\ntest result: FAILED. 2 passed; 1 failed; 0 ignored";
        assert_eq!(libtest_tally(libtest), Tally { passed: 7, failed: 1 });
    }

    #[test]
    fn a_script_that_shows_nothing_has_failed() {
        let run = |code: &str| script("x", Command::new("sh").args(["-c", code])).unwrap();
        assert_eq!(run("echo ok one; echo ok two"), Tally { passed: 2, failed: 0 });
        assert_eq!(run("exit 0"), Tally { passed: 0, failed: 1 });
        assert_eq!(run("echo ok one; exit 3"), Tally { passed: 1, failed: 1 });
    }
}
