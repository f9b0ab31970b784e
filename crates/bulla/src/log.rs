//! Logging: this project's own words only. Libraries would, at `trace`, write out frames and addresses.

use anyhow::Context as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// To standard error.
pub(crate) fn to_stderr(level: &str) -> anyhow::Result<()> {
    to(level, std::io::stderr)
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
