//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, for as long as one likes. Ordinary tests replay their corpora and mutate them, so that this
//! needs to run only to find something new.
//!
//! What libFuzzer finds interesting goes to `.xtask/fuzz/`, and the next run goes on from there; the committed corpus is only read. An input
//! that breaks something is worth a file in the corpus, under a name that says what it was.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Show};

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One target; without it, all of them one after another.
    target: Option<String>,
    /// Seconds per target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Seconds after which one input hangs.
const HANGS: u32 = 20;

/// The project's own code is safe Rust: what is looked for are panics and broken promises, and without a sanitizer it goes twice as fast.
const SANITIZER: &str = "--sanitizer=none";

/// Runs them; also after one has found something.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut probe = nightly(&["fuzz", "--version"]);
    if !probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        bail!("cargo-fuzz or a nightly toolchain is not installed: cargo install cargo-fuzz --locked");
    }
    let list = shell::stdout_of(&mut nightly(&["fuzz", "list"]))?;
    let list = String::from_utf8(list).context("cargo fuzz list")?;
    let targets: Vec<_> =
        list.lines().filter(|name| args.target.as_deref().is_none_or(|target| *name == target)).collect();
    if targets.is_empty() {
        bail!("there is no such target; there are: {}", list.lines().collect::<Vec<_>>().join(", "));
    }
    println!("build     {} targets", targets.len());
    shell::must(&mut nightly(&["fuzz", "build", SANITIZER]), "cargo fuzz build")?;
    let mut found = Vec::new();
    for target in &targets {
        let new = shell::private().join("fuzz").join(target);
        std::fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
        let (new, committed) = (new.display().to_string(), format!("fuzz/corpus/{target}"));
        let (time, hangs) = (format!("-max_total_time={}", args.seconds), format!("-timeout={HANGS}"));
        let options = ["--", &time, &hangs, "-print_final_stats=1"];
        let mut run = nightly(&[&["fuzz", "run", SANITIZER, target, &new, &committed][..], &options].concat());
        let output = shell::capture(&mut run, Show::Nothing)?;
        let runs = stat(&output.text, "stat::number_of_executed_units:").unwrap_or("?");
        if output.success {
            println!("ok        {target:<20} {runs:>12} runs");
        } else {
            println!("FAILED    {target:<20} {runs:>12} runs\n{}", output.text);
            println!("          the input is in fuzz/artifacts/{target}/");
            found.push(*target);
        }
    }
    println!("{} targets, {} of them found something: {}", targets.len(), found.len(), found.join(", "));
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A command of the nightly cargo. Not `$CARGO`, which is one toolchain's own program and does not know what `+nightly` is.
fn nightly(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(shell::root()).arg("+nightly").args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// A number of libFuzzer's final statistics.
fn stat<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::stat;

    #[test]
    fn runs_are_read_from_the_final_statistics() {
        let text =
            "Done 7 runs in 1 second(s)\nstat::number_of_executed_units: 2745\nstat::average_exec_per_sec:     2";
        assert_eq!(stat(text, "stat::number_of_executed_units:"), Some("2745"));
        assert_eq!(stat("", "stat::number_of_executed_units:"), None);
    }
}
