//! Logging: this project's own words only. Libraries would, at `trace`, write out frames and addresses.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged if nobody says.
pub(crate) const DEFAULT: &str = "warn";

/// To standard error.
pub(crate) fn to_stderr(level: &str) -> anyhow::Result<()> {
    to(level, std::io::stderr)
}

/// To a file that only its owner can read, after what is there: for a program that has the screen to itself.
pub(crate) fn to_file(level: &str, path: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot log to {}", path.display()))?;
    to(level, Mutex::new(file))
}

fn to<W: for<'w> MakeWriter<'w> + Send + Sync + 'static>(level: &str, writer: W) -> anyhow::Result<()> {
    let wanted = EnvFilter::builder()
        .parse(level)
        .context("--log (or BULLA_LOG) is not a level such as info, debug or trace")?;
    let own = filter_fn(|metadata| metadata.target().starts_with("bulla"));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(wanted);
    tracing_subscriber::registry().with(layer.with_filter(own)).init();
    Ok(())
}
