//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, for as long as one likes. Ordinary tests replay their corpora, so that this needs to
//! run only to find something new.

use std::process::ExitCode;

use anyhow::{Result, bail};

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

/// Runs them.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !shell::root().join("fuzz/Cargo.toml").exists() {
        bail!("there are no fuzz targets yet (fuzz/Cargo.toml)");
    }
    if !shell::capture(&mut shell::cargo(["fuzz", "--version"]), Show::Nothing).is_ok_and(|o| o.success) {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz --locked (and a nightly toolchain)");
    }
    let targets = match &args.target {
        Some(target) => vec![target.clone()],
        None => {
            let list = shell::stdout_of(&mut shell::cargo(["+nightly", "fuzz", "list"]))?;
            String::from_utf8_lossy(&list).lines().map(str::to_owned).collect()
        }
    };
    for target in targets {
        println!("fuzz      {target}, {} s", args.seconds);
        let limit = format!("-max_total_time={}", args.seconds);
        let mut run = shell::cargo(["+nightly", "fuzz", "run", &target, "--", &limit]);
        if !shell::capture(&mut run, Show::Lines)?.success {
            bail!("{target} found something: the input is in fuzz/artifacts/{target}/");
        }
    }
    Ok(ExitCode::SUCCESS)
}
