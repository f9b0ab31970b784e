//! `cargo xtask up`: from a fresh clone to a running relay and gateway.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{app, need, shell};

/// Arguments of `up`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For `bulla up`, as they are: --data DIR, --listen ADDR, --webhook URL, --fresh, --json, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Checks what is needed, builds, and becomes `bulla up`.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    // With --json, standard output belongs to the one line that programs read.
    let quiet = args.rest.iter().any(|arg| arg == "--json");
    if !quiet {
        need::check(&[&need::RUST])?;
    }
    build(quiet)?;
    let program = shell::target()?.join("release/bulla");
    let mut up = Command::new(&program);
    for (variable, app, page) in
        [("BULLA_APP", app::CHAT, "the page for customers"), ("BULLA_CONSOLE", app::CONSOLE, "the console")]
    {
        if quiet || std::env::var_os(variable).is_some() {
            // Programs do not open links; and who has a build brings it.
        } else if need::NODE_FOR_APP.is_there() {
            match app::build(app) {
                Ok(dist) => drop(up.env(variable, dist)),
                Err(why) => println!("          {page} is left out: {why:#}"),
            }
        } else {
            println!("          {page} is left out: it needs node 20.19 or newer ({})", need::NODE_FOR_APP.install);
        }
    }
    let error = up.arg("up").args(args.rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Builds both programs in release, with a bar where a person looks on.
fn build(quiet: bool) -> Result<()> {
    let units = units();
    let bar = ProgressBar::new(units);
    bar.set_style(ProgressStyle::with_template("build     {bar:10} {pos}/{len}  {msg}")?.progress_chars("█▉░"));
    let visible = !quiet && std::io::stderr().is_terminal();
    if !visible {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar.set_message("about 5 min the first time, seconds after");
    let began = Instant::now();
    let mut child = shell::cargo(["build", "--release", "--locked", "-p", "bulla", "-p", "bulla-relay"])
        .args(["--message-format", "json-diagnostic-rendered-ansi"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut problems = child.stderr.take().context("no standard error")?;
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut problems, &mut text).ok();
        text
    });
    let mut errors = String::new();
    for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
        let message: serde_json::Value = serde_json::from_str(&line?).unwrap_or_default();
        match message["reason"].as_str() {
            Some("compiler-artifact") => bar.inc(1),
            Some("compiler-message") if message["message"]["level"] == "error" => {
                errors.push_str(message["message"]["rendered"].as_str().unwrap_or_default());
            }
            _ => {}
        }
    }
    let status = child.wait()?;
    let text = told.join().unwrap_or_default();
    bar.finish_and_clear();
    if !status.success() {
        bail!("the build failed:\n{errors}{text}");
    }
    if !quiet {
        println!("build     {} units in {} s", bar.position(), began.elapsed().as_secs());
    }
    Ok(())
}

/// About how many units there are to build: the packages of the two programs' trees. Only the bar's length.
fn units() -> u64 {
    let tree = ["tree", "-p", "bulla", "-p", "bulla-relay", "-e", "normal,build", "--prefix", "none", "--no-dedupe"];
    let lines = shell::stdout_of(&mut shell::cargo(tree)).unwrap_or_default();
    let text = String::from_utf8_lossy(&lines);
    let packages: std::collections::BTreeSet<_> =
        text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(" (*)")).collect();
    packages.len() as u64
}
