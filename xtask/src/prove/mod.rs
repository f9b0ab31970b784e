//! `cargo xtask prove [P1…P10]`: what shows that each promise holds.
//!
//! The promises and what runs for each are one table, [`table::PROMISES`]. A test says its figures in lines that begin with `figure: `;
//! they are printed beside what the test shows, so that a reader sees what was measured and not only that something passed.

mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::shell::{self, Show};
use crate::test;
use table::{Evidence, PROMISES, Promise, Runs};

/// Arguments of `prove`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which promises: P1, P2 … P10. Without any: all.
    promises: Vec<String>,
}

/// Runs the rows of the chosen promises.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let known = |name: &str| PROMISES.iter().any(|p| p.id.eq_ignore_ascii_case(name));
    if let Some(unknown) = args.promises.iter().find(|name| !known(name)) {
        bail!("there is no promise {unknown}: they are P1 to P10");
    }
    let chosen =
        |p: &&Promise| args.promises.is_empty() || args.promises.iter().any(|name| p.id.eq_ignore_ascii_case(name));
    // Asked before the build, which may put a new file in this one's place.
    let this = std::env::current_exe()?;
    test::build_programs()?;
    let (mut held, mut broken) = (0, 0);
    for promise in PROMISES.iter().filter(chosen) {
        println!("\n{:<4} {}", promise.id, promise.says);
        if promise.evidence.is_empty() {
            println!("     not yet");
        }
        for evidence in promise.evidence {
            if show(evidence, &this)? {
                held += 1;
            } else {
                broken += 1;
            }
        }
    }
    println!("\nprove: {held} shown, {broken} broken");
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one row and prints what it showed.
fn show(evidence: &Evidence, this: &Path) -> Result<bool> {
    let (what, output) = match evidence.runs {
        Runs::Test { package, target, name } => {
            let mut command = shell::cargo(["test", "--quiet", "-p", package]);
            command.args(target).args(["--", "--exact", name, "--nocapture"]);
            (format!("test {package} {name}"), shell::capture(&mut command, Show::Nothing)?)
        }
        Runs::Outer { file, name } => {
            // Of the whole workspace, as the programs were built: another selection would build the dependencies once more.
            let mut command = shell::cargo(["test", "--quiet", "--workspace", "--test", file]);
            command.args(["--", "--exact", name, "--nocapture"]);
            (format!("test {file} {name}"), shell::capture(&mut command, Show::Nothing)?)
        }
        Runs::Check(name) => {
            let mut command = std::process::Command::new(this);
            command.args(["check", name]).env("CARGO_MANIFEST_DIR", shell::root().join("xtask"));
            (format!("cargo xtask check {name}"), shell::capture(&mut command, Show::Nothing)?)
        }
    };
    // A filter that matches nothing also ends with 0: a renamed test must not count as shown.
    let ran = match evidence.runs {
        Runs::Test { .. } | Runs::Outer { .. } => output.text.contains("test result: ok. 1 passed"),
        Runs::Check(_) => true,
    };
    let held = output.success && ran;
    println!("     {} {}", if held { "✓" } else { "✗" }, evidence.shows);
    println!("       by {what}");
    for line in output.text.lines() {
        if let Some((_, figure)) = line.split_once("figure: ") {
            println!("       {figure}");
        } else if matches!(evidence.runs, Runs::Check(_)) && line.starts_with("ok ") {
            println!("       {}", line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
        }
    }
    if !held {
        let reason = if output.success { "no such test: has it been renamed?" } else { output.text.as_str() };
        println!("{}", reason.lines().map(|line| format!("         {line}\n")).collect::<String>());
    }
    Ok(held)
}
