//! `cargo xtask check`: everything about the source that needs no program to run.
//!
//! All checks run, also after one has failed, so that one round shows all there is to mend. A check that cannot run here says why;
//! that is not a failure, and it is counted.

mod arrows;
mod deny;
mod words;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::shell::{self, Show};

/// Arguments of `check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the checks whose name contains this.
    filter: Option<String>,
}

/// How a check ended, if it did not fail.
pub(crate) enum Verdict {
    /// It holds; what was seen, in a few words.
    Holds(String),
    /// It could not be checked here, and why.
    Skipped(String),
}

type Check = fn() -> Result<Verdict>;

const CHECKS: &[(&str, Check)] = &[
    ("format", format),
    ("words", words::check),
    ("arrows", arrows::between_crates),
    ("relay-cannot-read", arrows::relay_cannot_read),
    ("gateway-is-an-endpoint", arrows::gateway_is_an_endpoint),
    ("mls-features", arrows::mls_features),
    ("shipped-features", arrows::shipped_features),
    ("lints", lints),
    ("documentation", documentation),
    ("licences-bans-sources", deny::licences_bans_sources),
    ("advisories", deny::advisories),
];

/// Runs them.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let chosen = |name: &str| args.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in CHECKS.iter().filter(|(name, _)| chosen(name)) {
        let began = Instant::now();
        let verdict = check();
        let took = began.elapsed().as_secs_f32();
        match verdict {
            Ok(Verdict::Holds(seen)) => {
                passed += 1;
                println!("ok    {name:<22} {took:>6.1} s  {seen}");
            }
            Ok(Verdict::Skipped(reason)) => {
                skipped += 1;
                println!("skip  {name:<22} {took:>6.1} s  {reason}");
            }
            Err(error) => {
                failed += 1;
                println!("FAIL  {name:<22} {took:>6.1} s\n{error:#}\n");
            }
        }
    }
    if passed + failed + skipped == 0 {
        let names: Vec<_> = CHECKS.iter().map(|(name, _)| *name).collect();
        bail!("no check has that in its name; there are: {}", names.join(", "));
    }
    println!("check: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format() -> Result<Verdict> {
    shell::must(&mut shell::cargo(["fmt", "--all", "--check"]), "cargo fmt --check (mend: cargo fmt --all)")?;
    Ok(Verdict::Holds("as rustfmt has it".to_owned()))
}

fn lints() -> Result<Verdict> {
    let mut clippy = shell::cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    shell::must(&mut clippy, "cargo clippy")?;
    Ok(Verdict::Holds("clippy, all targets, warnings denied".to_owned()))
}

fn documentation() -> Result<Verdict> {
    // Private items too: most of what a newcomer reads is inside, and a link that leads nowhere is found only so.
    let mut doc = shell::cargo(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    let output =
        shell::capture(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"), Show::Nothing)?;
    if !output.success {
        bail!("cargo doc:\n{}", output.text);
    }
    Ok(Verdict::Holds("no broken link, no missing text".to_owned()))
}
