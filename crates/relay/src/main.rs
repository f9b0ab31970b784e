//! `bulla-relay`: the store-and-forward server, and what it holds, printed.

mod check;
mod settings;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bulla_protocol::id::MailboxId;
use bulla_protocol::permit::RelayName;
use bulla_relay::{GuardedClock, Machine, backup, disclose, make_folder};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;

use settings::{Program, Settings, relay_name};

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

/// The commands that take [`Settings`].
const WITH_SETTINGS: &[&str] = &["serve", "config", "check"];

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the relay until SIGTERM or Ctrl-C; a second one ends it at once.
    ///
    /// Prints one line when it is ready. TLS is its own work with --domain or --tls-cert, else that of a reverse proxy before it, which must not log
    /// addresses either. What is not given as a flag is taken from the environment (BULLA_RELAY_DATA and so on), then
    /// from the file that --config names, then from the defaults.
    Serve(Box<Serve>),

    /// Prints a file of settings, with every one explained.
    ///
    /// With nothing said it has the defaults; otherwise what the same arguments would come to for `serve`.
    Config(Box<FromFile>),

    /// Says what would go wrong with these settings on this machine, and what to do; ends with 1 if something would.
    ///
    /// Looks at the settings, the data folder, the disk, the store, the clock, the certificate and the addresses. Run
    /// it as the user who runs the relay. With --running it only asks the relay that runs whether it can accept and
    /// store.
    Check(Box<Check>),

    /// Prints everything that the relay holds.
    ///
    /// Works on a running relay, through a socket in its data folder, and on a stopped one. Of commit slots it tells the length. With the MAC roots that it prints one could write to mailboxes, but
    /// read nothing: keep the output to those who are entitled to it.
    Disclose(Disclose),

    /// Writes the mailboxes to a new file: owners' keys, MAC roots, incarnations, months of renewal, revocations, and
    /// the relay's name.
    ///
    /// Works on a running relay, through a socket in its data folder, and on a stopped one. Nothing that waits is in
    /// it, and no key under which it lies. With its MAC roots one could write to mailboxes: keep it as secret as the
    /// data folder.
    Backup(Backup),

    /// Makes a new data folder of a backup, with a new instance id.
    ///
    /// Owners' endpoints notice by that id, and make their mailboxes again. What waited at the relay is not restored.
    /// See docs/durability.md.
    Restore(Restore),
}

#[derive(Debug, clap::Args)]
struct FromFile {
    /// A file of settings, in TOML: see `bulla-relay config`.
    #[arg(long, value_name = "FILE", env = "BULLA_RELAY_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
struct Serve {
    #[command(flatten)]
    from: FromFile,

    /// Print the line of readiness as JSON: {"listen", "url", "pid"}, and "metrics" if that is answered.
    #[arg(long)]
    json: bool,

    /// Stop when standard input ends: whoever started the relay holds the other end of that pipe, and it cannot outlive him.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    from: FromFile,

    /// Only ask the relay that runs on the data folder whether it can accept and store.
    #[arg(long)]
    running: bool,

    /// Print JSON on one line: [{"check", "state": "good", "warn" or "bad", "says"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Disclose {
    /// The relay's data folder.
    #[arg(long, value_name = "DIR", env = "BULLA_RELAY_DATA")]
    data: PathBuf,

    /// Only this mailbox: its id, 32 lowercase hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = mailbox_id)]
    mailbox: Option<MailboxId>,

    /// Print JSON on one line.
    #[arg(long)]
    json: bool,

    /// Print a page for people instead: HTML, to be opened in a browser.
    #[arg(long, conflicts_with = "json")]
    page: bool,
}

#[derive(Debug, clap::Args)]
struct Backup {
    /// The relay's data folder.
    #[arg(long, value_name = "DIR", env = "BULLA_RELAY_DATA")]
    data: PathBuf,

    /// The relay's name, for the backup of a stopped one; a running relay knows it.
    #[arg(long, value_name = "NAME", env = "BULLA_RELAY_NAME", value_parser = relay_name)]
    name: Option<RelayName>,

    /// The new file.
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Restore {
    /// The new data folder.
    #[arg(long, value_name = "DIR", env = "BULLA_RELAY_DATA")]
    data: PathBuf,

    /// The backup.
    file: PathBuf,
}

fn mailbox_id(text: &str) -> Result<MailboxId, String> {
    MailboxId::from_hex(text).ok_or_else(|| "a mailbox id has 32 lowercase hexadecimal digits".to_owned())
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulla-relay: {error:#}.");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let program = Program::new(Cli::command(), WITH_SETTINGS);
    let arguments: Vec<_> = std::env::args_os().collect();
    let found = match program.matches(arguments.clone()) {
        Ok(found) => found.unwrap_or_else(|error| error.exit()),
        Err(error) => match program.lax(&arguments).as_ref().ok().and_then(|lax| lax.subcommand_matches("check")) {
            Some(check) => return print_findings(&check::unreadable(&error), check.get_flag("json")),
            None => return Err(error.into()),
        },
    };
    if let Some(("config", said)) = found.subcommand() {
        print_line(program.print(said).trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cli = Cli::from_arg_matches(&found).unwrap_or_else(|error| error.exit());
    log_to_stderr(&cli.log)?;
    match cli.command {
        Command::Serve(args) => serve(*args)?,
        // Printed above: what it lacks would be no `Settings`.
        Command::Config(_) => {}
        Command::Check(args) => {
            let FromFile { config, settings } = args.from;
            let findings =
                if args.running { check::running(&settings.data) } else { check::all(&settings, config.as_deref()) };
            return print_findings(&findings, args.json);
        }
        Command::Disclose(args) => print_disclosure(&args)?,
        Command::Backup(args) => back_up(&args)?,
        Command::Restore(args) => restore(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs this project's own words only: libraries would, at `trace`, write out frames and addresses.
fn log_to_stderr(level: &str) -> anyhow::Result<()> {
    let wanted = EnvFilter::builder()
        .parse(level)
        .context("the log level (--log, RUST_LOG, BULLA_RELAY_LOG) is none such as info, debug or trace")?;
    let own = filter_fn(|metadata| metadata.target().starts_with("bulla_"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(wanted).with_filter(own);
    // Not `init`, which would also take what libraries say by `log`: each frame would ask whether that is wanted.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).context("cannot log")
}

fn serve(args: Serve) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let settings = args.from.settings;
        make_folder(&settings.data)?;
        let file = settings.data.join("clock");
        let clock = GuardedClock::open(&file, Machine).with_context(|| format!("cannot use {}", file.display()))?;
        let config = settings.config()?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let mut running = bulla_relay::serve(config, Arc::new(clock), Box::new(rand_core::OsRng)).await?;
        let line = if args.json {
            let mut ready = serde_json::json!({
                "listen": running.addr().to_string(), "url": running.url(), "pid": std::process::id(),
            });
            if let Some(metrics) = running.metrics() {
                ready["metrics"] = metrics.to_string().into();
            }
            ready.to_string()
        } else {
            format!("bulla-relay is ready at {}", running.url())
        };
        let stdin_ends = stdin_ends(args.exit_with_stdin);
        print_line(&line)?;
        tokio::select! {
            () = told(&mut terminate, &mut interrupt) => {}
            _ = stdin_ends, if args.exit_with_stdin => {}
            error = running.failed() => bail!(error),
        }
        tokio::select! {
            stopped = running.shutdown() => stopped?,
            () = told(&mut terminate, &mut interrupt) => bail!("ended at once; nothing accepted is lost"),
        }
        Ok(())
    })
}

/// Somebody wants it to end.
async fn told(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
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
    let text = match (args.page, args.json) {
        (true, _) => disclose::page(&disclosure),
        (_, true) => serde_json::to_string(&disclosure)?,
        _ => serde_json::to_string_pretty(&disclosure)?,
    };
    print_line(&text)
}

fn print_findings(findings: &[check::Finding], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print_line(&serde_json::to_string(findings)?)?;
    } else {
        for finding in findings {
            print_line(&finding.to_string())?;
        }
    }
    let is_bad = findings.iter().any(|finding| finding.state == check::State::Bad);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn back_up(args: &Backup) -> anyhow::Result<()> {
    let made = backup::make(&args.data, &args.file, args.name.as_ref())?;
    if made.name.is_none() {
        eprintln!("bulla-relay: the relay's name is not in it: a stopped relay keeps none. Say it with --name.");
    }
    eprintln!(
        "bulla-relay: whoever has {} can write to these mailboxes: keep it as secret as the data folder.",
        args.file.display()
    );
    print_line(&format!("{}: {} mailboxes, {} revocations", args.file.display(), made.mailboxes, made.revoked))
}

fn restore(args: &Restore) -> anyhow::Result<()> {
    let made = backup::restore(&args.file, &args.data, Box::new(rand_core::OsRng))?;
    let name = made.name.as_ref().map_or("its name", RelayName::as_str);
    print_line(&format!(
        "{}: {} mailboxes, {} revocations, a new instance id. Start it under its old name: \
         bulla-relay serve --data {} --name {name}",
        args.data.display(),
        made.mailboxes,
        made.revoked,
        args.data.display(),
    ))
}

fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot print to standard output")
}
