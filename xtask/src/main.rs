//! The project's own tasks: `cargo xtask up`, `app`, `check`, `test`, `prove`, `bench`, `torture`, `fuzz`.
//!
//! Whatever a task fetches stays inside the project: tools, virtual environments and node modules in `.xtask/`, build output in
//! cargo's target folder. A task needs rust and what its own help names; what is missing is said in one line with the command.

mod app;
mod bench;
mod check;
mod fuzz;
mod need;
mod prove;
mod sdk;
mod shell;
mod test;
mod torture;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the programs and start a relay and a business's gateway: arguments go to `bulla up`.
    Up(up::Args),
    /// Build the web apps, the customer's and the console (needs node, and a compiler for WASM, which it fetches on Debian).
    App(app::Args),
    /// Formatting, lints, dependency rules, licences, documentation, words.
    Check(check::Args),
    /// Every test: unit, outer (real processes), unmodified SDKs, the Python relay client.
    Test(test::Args),
    /// What shows that each promise holds: what ran and what it showed, or "not yet".
    Prove(prove::Args),
    /// Measure the relay, sealing and the way from API call to terminal; results go to `bench/results/`.
    Bench(bench::Args),
    /// Long runs against faults, resumable; results go to `.xtask/torture/`.
    Torture(torture::Args),
    /// Run the fuzz targets of `fuzz/` (needs cargo-fuzz and a nightly toolchain).
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Up(args) => up::run(args),
        Task::App(args) => app::run(&args),
        Task::Check(args) => check::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Prove(args) => prove::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Torture(args) => torture::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
