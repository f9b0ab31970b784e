//! Running other programs: where the project is, what a command printed, and how it ended.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The project's folder: the one above xtask's manifest.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = manifest.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    root.unwrap_or_else(|| PathBuf::from("."))
}

/// What xtask fetched or made, never committed.
pub(crate) fn private() -> PathBuf {
    root().join(".xtask")
}

/// A cargo command in the project.
pub(crate) fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(args);
    // What `cargo run` told xtask about xtask is not for the cargo that it starts.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo builds.
pub(crate) fn target() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(root().join(dir));
    }
    Ok(root().join("target"))
}

/// How a captured command ended.
pub(crate) struct Output {
    /// It ended with 0.
    pub(crate) success: bool,
    /// Standard output and standard error, as lines came.
    pub(crate) text: String,
}

/// Whether a captured command's lines are also shown as they come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Each line, at once.
    Lines,
    /// Nothing; the caller prints what matters.
    Nothing,
}

/// Runs a command without input to its end and keeps what it printed.
pub(crate) fn capture(command: &mut Command, show: Show) -> Result<Output> {
    capture_within(command, show, None)
}

/// As [`capture`], but kills the command once `limit` has passed, and says so in the text.
pub(crate) fn capture_within(command: &mut Command, show: Show, limit: Option<Duration>) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (tell, told) = std::sync::mpsc::channel::<String>();
    let readers: Vec<Box<dyn Read + Send>> = vec![
        Box::new(child.stdout.take().context("no standard output")?),
        Box::new(child.stderr.take().context("no standard error")?),
    ];
    for reader in readers {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if tell.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    drop(tell);
    let began = Instant::now();
    let mut text = String::new();
    let mut ended = None;
    loop {
        match told.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                if show == Show::Lines {
                    println!("{line}");
                    std::io::stdout().flush().ok();
                }
                let _ = writeln!(text, "{line}");
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                // A grandchild may hold the pipes open; what counts is that the command itself has ended.
                if ended.is_some() {
                    break;
                }
                ended = child.try_wait()?;
                if limit.is_some_and(|limit| began.elapsed() > limit) && ended.is_none() {
                    child.kill().ok();
                    let _ = writeln!(text, "{name}: killed, it took longer than {} s", began.elapsed().as_secs());
                }
            }
        }
    }
    let status = match ended {
        Some(status) => status,
        None => child.wait()?,
    };
    Ok(Output { success: status.success(), text })
}

/// Runs a command that must succeed; its output is shown only if it does not.
pub(crate) fn must(command: &mut Command, doing: &str) -> Result<String> {
    let output = capture(command, Show::Nothing).with_context(|| doing.to_owned())?;
    if !output.success {
        bail!("{doing} failed:\n{}", output.text);
    }
    Ok(output.text)
}

/// The standard output alone of a command that must succeed.
pub(crate) fn stdout_of(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// The commit that is checked out, short, with `-dirty` if files differ from it.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| stdout_of(Command::new("git").current_dir(root()).args(args));
    let Ok(short) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".to_owned() };
    let short = String::from_utf8_lossy(&short).trim().to_owned();
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Ok(changes) if changes.is_empty() => short,
        _ => format!("{short}-dirty"),
    }
}
