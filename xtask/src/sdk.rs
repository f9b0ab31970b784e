//! Tests in other languages: unmodified WhatsApp SDKs against a running `bulla up`, and the Python relay client that was written from
//! `proto/relay.proto` alone.
//!
//! Python packages go into one virtual environment, node packages into one folder, both in `.xtask/`, in the versions that the
//! requirements file and the lock file name. They are made again when those files change.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;
use crate::test::{Tally, script};

/// Runs every script whose file name contains the filter.
pub(crate) fn run_all(filter: Option<&str>) -> Result<Tally> {
    let chosen = |path: &Path| filter.is_none_or(|filter| path.to_string_lossy().contains(filter));
    let root = shell::root();
    let mut total = Tally::default();
    for folder in ["clients/python", "sdk-tests/python"] {
        let scripts: Vec<_> = scripts(&root.join(folder), "test_", "py")?.into_iter().filter(|p| chosen(p)).collect();
        if scripts.is_empty() {
            continue;
        }
        let python = match python(&root.join(folder)) {
            Ok(python) => python,
            Err(error) => {
                println!("FAILED    {folder}: {error:#}");
                total.failed += 1;
                continue;
            }
        };
        for path in scripts {
            total.add(script(&said(&path), with_programs(Command::new(&python).arg(&path))?)?);
        }
    }
    let folder = root.join("sdk-tests/node");
    let scripts: Vec<_> = scripts(&folder, "test_", "mjs")?.into_iter().filter(|p| chosen(p)).collect();
    if scripts.is_empty() {
        return Ok(total);
    }
    match node(&folder) {
        Ok(made) => {
            for path in scripts {
                let copy = made.join(path.file_name().context("a script without a name")?);
                total.add(script(&said(&path), with_programs(Command::new("node").arg(&copy))?)?);
            }
        }
        Err(error) => {
            println!("FAILED    sdk-tests/node: {error:#}");
            total.failed += 1;
        }
    }
    Ok(total)
}

/// Tells a script where the programs under test are.
fn with_programs(command: &mut Command) -> Result<&mut Command> {
    let debug = shell::target()?.join("debug");
    Ok(command
        .current_dir(shell::root())
        .env("BULLA", debug.join("bulla"))
        .env("BULLA_RELAY", debug.join("bulla-relay"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1"))
}

fn said(path: &Path) -> String {
    path.strip_prefix(shell::root()).unwrap_or(path).display().to_string()
}

/// Files of a folder by the beginning and the end of their name, in order; none if there is no such folder.
fn scripts(folder: &Path, prefix: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(prefix) && path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The interpreter of a virtual environment that has what the folder's `requirements.txt` names.
fn python(folder: &Path) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap_or_default();
    // One environment per requirements file, so that one SDK's dependencies do not decide another's.
    let venv = shell::private().join("venv").join(said(folder).replace('/', "-"));
    let python = venv.join("bin/python");
    let stamp = venv.join("made-from");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    std::fs::remove_dir_all(&venv).ok();
    let mut make = Command::new("python3");
    shell::must(make.args(["-m", "venv"]).arg(&venv), "python3 -m venv (is python3-venv installed?)")?;
    if !wanted.trim().is_empty() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements);
        shell::must(&mut pip, "pip install")?;
    }
    std::fs::write(&stamp, wanted).context("the stamp of the virtual environment")?;
    Ok(python)
}

/// A folder with the node packages that the lock file names, and copies of the scripts (a module is looked for beside its importer).
fn node(folder: &Path) -> Result<PathBuf> {
    let made = shell::private().join("node").join(said(folder).replace('/', "-"));
    std::fs::create_dir_all(&made)?;
    let lock = std::fs::read_to_string(folder.join("package-lock.json")).context("package-lock.json")?;
    let stamp = made.join("made-from");
    if std::fs::read_to_string(&stamp).map_or(true, |have| have != lock) {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(folder.join(file), made.join(file))?;
        }
        let mut npm = Command::new("npm");
        shell::must(npm.current_dir(&made).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]), "npm ci")?;
        std::fs::write(&stamp, lock)?;
    }
    for path in scripts(folder, "", "mjs")? {
        std::fs::copy(&path, made.join(path.file_name().context("a script without a name")?))?;
    }
    Ok(made)
}
