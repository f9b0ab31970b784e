//! `bulla-relay`: the store-and-forward server, and what it holds, printed.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bulla_protocol::id::MailboxId;
use bulla_protocol::limits::{BLOB_BYTES, MAX_WORK_BITS, WORK_BITS};
use bulla_protocol::permit::RelayName;
use bulla_relay::{Config, GuardedClock, Machine, disclose, make_folder};
use bulla_tls::TlsArgs;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Bulla's relay: stores and forwards sealed envelopes that it cannot read.
///
/// It keeps no names, no message keys and no record of who wrote to whom; docs/metadata.md lists every field that it does keep.
#[derive(Debug, Parser)]
#[command(name = "bulla-relay", version)]
struct Cli {
    /// What to log, to standard error: error, warn, info, debug or trace. Never addresses, envelopes, keys or whole ids.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true, value_name = "LEVEL")]
    log: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the relay until SIGTERM or Ctrl-C.
    ///
    /// Prints one line when it is ready. TLS is its own work with --domain or --tls-cert, else that of a reverse proxy before it, which must not log
    /// addresses either.
    Serve(Box<Serve>),

    /// Prints everything that the relay holds.
    ///
    /// Works on a running relay, through a socket in its data folder, and on a stopped one. Of commit slots it tells the length. With the MAC roots that it prints one could write to mailboxes, but
    /// read nothing: keep the output to those who are entitled to it.
    Disclose(Disclose),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The data folder; made if it is not there, readable by its owner only.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Address and port to listen on; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8470")]
    listen: SocketAddr,

    /// The relay's name, which its clients bind into every proof: its domain. It must not change while mailboxes exist.
    #[arg(long, value_name = "NAME", default_value = "relay.local", value_parser = relay_name)]
    name: RelayName,

    /// Proof of work for a new mailbox, a first contact and a commit slot, in leading zero bits. Clients refuse more than 28.
    #[arg(long, value_name = "N", default_value_t = WORK_BITS, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_WORK_BITS)))]
    work_bits: u32,

    /// Room for sealed attachments, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = BLOB_BYTES >> 20, value_parser = clap::value_parser!(u64).range(..=1 << 34))]
    blob_mib: u64,

    /// Print the line of readiness as JSON: {"listen", "url", "pid"}.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tls: TlsArgs,

    /// Stop when standard input ends: whoever started the relay holds the other end of that pipe, and it cannot outlive him.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

#[derive(Debug, clap::Args)]
struct Disclose {
    /// The relay's data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Only this mailbox: its id, 32 lowercase hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = mailbox_id)]
    mailbox: Option<MailboxId>,

    /// Print JSON on one line.
    #[arg(long)]
    json: bool,
}

fn relay_name(text: &str) -> Result<RelayName, String> {
    RelayName::new(text).ok_or_else(|| "a name has 1 to 255 bytes and no control characters".to_owned())
}

fn mailbox_id(text: &str) -> Result<MailboxId, String> {
    MailboxId::from_hex(text).ok_or_else(|| "a mailbox id has 32 lowercase hexadecimal digits".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = log_to_stderr(&cli.log).and_then(|()| match cli.command {
        Command::Serve(args) => serve(*args),
        Command::Disclose(args) => print_disclosure(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulla-relay: {error:#}.");
            ExitCode::FAILURE
        }
    }
}

/// Logs this project's own words only: libraries would, at `trace`, write out frames and addresses.
fn log_to_stderr(level: &str) -> anyhow::Result<()> {
    let wanted =
        EnvFilter::builder().parse(level).context("--log (or RUST_LOG) is not a level such as info, debug or trace")?;
    let own = filter_fn(|metadata| metadata.target().starts_with("bulla_"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(wanted).with_filter(own);
    tracing_subscriber::registry().with(layer).init();
    Ok(())
}

fn serve(args: Serve) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        make_folder(&args.data)?;
        let file = args.data.join("clock");
        let clock = GuardedClock::open(&file, Machine).with_context(|| format!("cannot use {}", file.display()))?;
        let tls = args.tls.source(&args.data)?;
        let mut config = Config::new(args.data, args.listen, args.name);
        config.tls = tls;
        config.work_bits = args.work_bits;
        config.blob_bytes = args.blob_mib << 20;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let mut running = bulla_relay::serve(config, Arc::new(clock), Box::new(rand_core::OsRng)).await?;
        let line = if args.json {
            serde_json::json!({
                "listen": running.addr().to_string(), "url": running.url(), "pid": std::process::id(),
            })
            .to_string()
        } else {
            format!("bulla-relay is ready at {}", running.url())
        };
        let stdin_ends = stdin_ends(args.exit_with_stdin);
        print_line(&line)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stdin_ends, if args.exit_with_stdin => {}
            error = running.failed() => bail!(error),
        }
        running.shutdown().await?;
        Ok(())
    })
}

/// Resolves when standard input ends, if it is read at all. A thread of its own: the runtime would wait for the read when it stops.
fn stdin_ends(read: bool) -> tokio::sync::oneshot::Receiver<()> {
    let (ended, ends) = tokio::sync::oneshot::channel();
    if read {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        });
    }
    ends
}

fn print_disclosure(args: &Disclose) -> anyhow::Result<()> {
    let disclosure = disclose::from_folder(&args.data, args.mailbox)?;
    let text = if args.json { serde_json::to_string(&disclosure) } else { serde_json::to_string_pretty(&disclosure) };
    print_line(&text?)
}

fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot print to standard output")
}
