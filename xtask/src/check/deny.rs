//! Licences, banned crates, sources and advisories, by cargo-deny and `deny.toml`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::Verdict;
use crate::shell::{self, Show};

/// The version that is fetched where none is installed: about three minutes on two cores, once.
const VERSION: &str = "0.20.2";

/// cargo-deny from `.xtask/bin`, installed there first if need be.
fn tool() -> Result<PathBuf> {
    let tool = shell::private().join("bin/cargo-deny");
    if !tool.exists() {
        println!("      installing cargo-deny {VERSION} into .xtask (some minutes, once)");
        let root = shell::private().into_os_string();
        let target = shell::private().join("target");
        let mut install = shell::cargo(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"]);
        shell::must(install.arg(root).env("CARGO_TARGET_DIR", &target), "cargo install cargo-deny")?;
        // The programs stay, what they were built from goes.
        std::fs::remove_dir_all(target).ok();
    }
    Ok(tool)
}

fn deny(what: &[&str]) -> Result<shell::Output> {
    let mut command = Command::new(tool()?);
    command.current_dir(shell::root()).args(["--color", "never", "check"]).args(what);
    shell::capture(&mut command, Show::Nothing)
}

/// What needs no network.
pub(super) fn licences_bans_sources() -> Result<Verdict> {
    let output = deny(&["--hide-inclusion-graph", "bans", "licenses", "sources"])?;
    if !output.success {
        bail!("cargo deny:\n{}", output.text);
    }
    Ok(Verdict::Holds("as deny.toml allows".to_owned()))
}

/// Known vulnerabilities, where the database can be reached.
pub(super) fn advisories() -> Result<Verdict> {
    let output = deny(&["advisories"])?;
    if output.success {
        return Ok(Verdict::Holds("no advisory applies, none is ignored".to_owned()));
    }
    if output.text.contains("failed to fetch advisory database") {
        return Ok(Verdict::Skipped("the advisory database cannot be reached from here".to_owned()));
    }
    bail!("cargo deny:\n{}", output.text);
}
