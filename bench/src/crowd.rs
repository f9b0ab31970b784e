//! The relay in a crowd: thousands who wait, stall or dawdle, and one who sends far too much, beside traffic at a steady pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulla_protocol::frame::Code;
use bulla_testkit::chance::Chance;
use bulla_testkit::relay::{Mailbox, Owner, RelayProgram, Sender};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream;
use rand_core::OsRng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::bench::{Bench, Group};
use crate::meter::{Meter, raise_files, resident};
use crate::stats::percentile;

/// Who writes and reads beside the crowd, and how often each says something: 1,000 messages a second.
const PAIRS: u64 = 20;
const EVERY: Duration = Duration::from_millis(20);

/// Messages of each pair: ten seconds.
const MOST_EACH: u64 = 500;

/// Connections that have opened a mailbox and subscribed, and to which nobody writes.
const IDLE: u64 = 10_000;

/// Readers that subscribe, and neither read nor confirm what is written to them.
const STALLED: u64 = 2_000;

/// What each of them is written.
const UNREAD: u64 = 4;

/// Connections that say their first request a byte at a time.
const SLOW: usize = 200;
const SLOW_EVERY: Duration = Duration::from_millis(100);

/// A permit for so many a minute, and how many times as much its holder sends.
const RATE: u16 = 600;
const TIMES: u64 = 100;

/// Connections that are made at once.
const AT_ONCE: usize = 64;

/// Until the relay has done what a connection made it do.
const SETTLE: Duration = Duration::from_secs(1);

const ENVELOPE: usize = 1_024;

pub(crate) async fn measure(bench: &Bench) -> Result<Group> {
    raise_files(IDLE + STALLED)?;
    let mut group = Group::new(
        "crowd",
        "Relay: a crowd beside live traffic",
        format!(
            "{PAIRS} pairs say and confirm an envelope of 1,024 bytes every {} ms each; latency is from the send to the delivery. Beside them: nobody; \
             {IDLE} connections that opened a mailbox and subscribed; {STALLED} readers that confirm none of {UNREAD} envelopes each, which the relay has \
             to store, and {SLOW} connections that say their first request a byte at a time; one sender at {TIMES} times the rate of its permit ({RATE} a \
             minute). Lost is what was accepted and does not come out.",
            EVERY.as_millis()
        ),
    );
    let each = (bench.messages / PAIRS).clamp(50, MOST_EACH);
    for run in 0..bench.runs {
        let bar = bench.bar("relay in a crowd", run, 4);
        let relay = RelayProgram::start_logging("warn").await?;
        let pairs = pairs(&relay).await?;
        let pairs = live(bench, &mut group, "nobody", &relay, pairs, each).await?;
        bar.inc(1);
        idle(bench, &mut group, &relay, pairs, each).await?;
        bar.inc(1);
        stalled(bench, &mut group, each).await?;
        bar.inc(1);
        too_much(bench, &mut group, each).await?;
        bar.inc(1);
    }
    Ok(group)
}

type Pair = (Sender, Owner, Chance);

async fn pairs(relay: &RelayProgram) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let mailbox = Mailbox::new(&mut OsRng);
        let mut owner = Owner::create(relay.url(), &mailbox).await?;
        owner.subscribe(&mailbox).await?;
        owner.live().await?;
        pairs.push((Sender::connect(relay.url(), &mailbox).await?, owner, Chance::new(number)));
    }
    Ok(pairs)
}

/// The steady traffic, and what it shows.
async fn live(
    bench: &Bench,
    group: &mut Group,
    beside: &'static str,
    relay: &RelayProgram,
    pairs: Vec<Pair>,
    each: u64,
) -> Result<Vec<Pair>> {
    let meter = Meter::begin(Some(relay.pid()))?;
    let tasks = pairs.into_iter().enumerate().map(|(number, (mut sender, mut owner, mut chance))| {
        let task = tokio::spawn(async move {
            // Not all in the same moment.
            tokio::time::sleep(EVERY * u32::try_from(number)? / u32::try_from(PAIRS)?).await;
            let mut every = interval(EVERY);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut took = Vec::new();
            for _ in 0..each {
                every.tick().await;
                let began = Instant::now();
                sender.begin(&mut chance, Bytes::from_static(&[0x5a; ENVELOPE])).await?;
                let deliver = owner.deliver().await?;
                took.push(began.elapsed().as_secs_f64() * 1e3);
                owner.ack(deliver.number).await?;
                sender.accepted().await?;
            }
            anyhow::Ok(((sender, owner, chance), took))
        });
        async move { task.await.context("a task of the measurement ended early")? }
    });
    let (pairs, took): (Vec<Pair>, Vec<Vec<f64>>) = try_join_all(tasks).await?.into_iter().unzip();
    bench.note(&meter.end()?);
    let took = took.concat();
    for (what, percent) in [("p50", 50.0), ("p99", 99.0), ("slowest", 100.0)] {
        group.add(what, beside, "ms", percentile(&took, percent));
    }
    Ok(pairs)
}

async fn idle(bench: &Bench, group: &mut Group, relay: &RelayProgram, pairs: Vec<Pair>, each: u64) -> Result<()> {
    const BESIDE: &str = "idle connections";
    let mailboxes: Vec<Mailbox> = (0..IDLE).map(|_| Mailbox::new(&mut OsRng)).collect();
    at_once(&mailboxes, |mailbox| async move { Owner::create(relay.url(), mailbox).await.map(drop) }).await?;
    tokio::time::sleep(SETTLE).await;
    let before = resident(relay.pid())?;
    let (began, meter) = (Instant::now(), Meter::begin(Some(relay.pid()))?);
    let owners = at_once(&mailboxes, |mailbox| async move {
        let mut owner = Owner::open(relay.url(), mailbox).await?;
        owner.subscribe(mailbox).await?;
        Ok(owner)
    });
    let owners = owners.await?;
    let wall = began.elapsed();
    let taken = meter.end()?;
    bench.note(&taken);
    tokio::time::sleep(SETTLE).await;
    let grown = resident(relay.pid())?.saturating_sub(before);
    group.add("connected", BESIDE, "/s", IDLE as f64 / wall.as_secs_f64());
    group.add("relay's processor time to connect", BESIDE, "µs each", taken.watched.as_secs_f64() * 1e6 / IDLE as f64);
    group.add("memory", BESIDE, "KiB each", grown as f64 / IDLE as f64 / 1_024.0);
    // They answer the relay's pings.
    let mut waiting = JoinSet::new();
    for mut owner in owners {
        waiting.spawn(async move { owner.waits().await });
    }
    live(bench, group, BESIDE, relay, pairs, each).await?;
    let ended = waiting.try_join_next();
    ensure!(ended.is_none(), "a connection that waited was ended: {ended:?}");
    Ok(())
}

async fn stalled(bench: &Bench, group: &mut Group, each: u64) -> Result<()> {
    const BESIDE: &str = "stalled readers, slow handshakes";
    let relay = RelayProgram::start_logging("warn").await?;
    let relay = &relay;
    let pairs = pairs(relay).await?;
    let mailboxes: Vec<Mailbox> = (0..STALLED).map(|_| Mailbox::new(&mut OsRng)).collect();
    let stalled = at_once(&mailboxes, |mailbox| async move {
        let mut owner = Owner::create(relay.url(), mailbox).await?;
        owner.subscribe(mailbox).await?;
        Ok(owner)
    });
    let stalled = stalled.await?;
    let address = relay.url().trim_start_matches("ws://").split('/').next().context("an address")?.to_owned();
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        let address = address.clone();
        slow.spawn(async move { dawdle(&address).await });
    }
    // Sent while the others speak; each is accepted once the relay has stored what nobody confirms.
    let sending = at_once(&mailboxes, |mailbox| async move {
        let (mut sender, mut chance) = (Sender::connect(relay.url(), mailbox).await?, Chance::new(1));
        for _ in 0..UNREAD {
            sender.begin(&mut chance, Bytes::from_static(&[0x5a; ENVELOPE])).await?;
        }
        while sender.in_flight() > 0 {
            sender.accepted().await?;
        }
        Ok(())
    });
    let (sent, spoken) = tokio::join!(sending, live(bench, group, BESIDE, relay, pairs, each));
    sent?;
    spoken?;
    slow.shutdown().await;
    drop(stalled);
    let read = at_once(&mailboxes, |mailbox| async move {
        let mut owner = Owner::open(relay.url(), mailbox).await?;
        owner.subscribe(mailbox).await?;
        owner.waiting().await
    });
    let read: u64 = read.await?.into_iter().sum();
    group.add("lost", BESIDE, "messages", (STALLED * UNREAD).saturating_sub(read) as f64);
    group.add("accepted of stalled readers", BESIDE, "messages", (STALLED * UNREAD) as f64);
    Ok(())
}

/// Says what a browser says first, a byte at a time, for as long as the relay listens; then again.
async fn dawdle(address: &str) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { return };
        for byte in format!("GET /v1/ws HTTP/1.1\r\nhost: {address}\r\nx-slow: {:1000}", "").bytes() {
            tokio::time::sleep(SLOW_EVERY).await;
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    }
}

async fn too_much(bench: &Bench, group: &mut Group, each: u64) -> Result<()> {
    const BESIDE: &str = "one sender at 100 times its rate";
    let relay = RelayProgram::start_logging("warn").await?;
    let pairs = pairs(&relay).await?;
    let mailbox = Mailbox::new(&mut OsRng);
    let mut owner = Owner::create(relay.url(), &mailbox).await?;
    owner.subscribe(&mailbox).await?;
    owner.live().await?;
    let reading = tokio::spawn(async move {
        let mut read = 0_u64;
        while let Ok(deliver) = owner.deliver().await {
            read += 1;
            if owner.ack(deliver.number).await.is_err() {
                break;
            }
        }
        read
    });
    let url = relay.url().to_owned();
    let goes_on = Arc::new(AtomicBool::new(true));
    let may_go_on = Arc::clone(&goes_on);
    let flooding = tokio::spawn(async move {
        let (mut sender, mut chance) = (Sender::at_rate(&url, &mailbox, RATE).await?, Chance::new(2));
        let (mut accepted, mut refused) = (0_u64, 0_u64);
        let mut every = interval(Duration::from_secs(60) / (u32::from(RATE) * u32::try_from(TIMES)?));
        every.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let began = Instant::now();
        while may_go_on.load(Ordering::Relaxed) {
            every.tick().await;
            sender.begin(&mut chance, Bytes::from_static(&[0x5a; ENVELOPE])).await?;
            while sender.in_flight() > 64 {
                match sender.answered().await? {
                    None => accepted += 1,
                    Some(Code::Rate) => refused += 1,
                    Some(other) => anyhow::bail!("refused with {other:?}"),
                }
            }
        }
        anyhow::Ok((accepted, refused, began.elapsed()))
    });
    live(bench, group, BESIDE, &relay, pairs, each).await?;
    goes_on.store(false, Ordering::Relaxed);
    let (accepted, refused, took) = flooding.await.context("a task of the measurement ended early")??;
    group.add("accepted of it", BESIDE, "/min", accepted as f64 * 60.0 / took.as_secs_f64());
    group.add("refused of it", BESIDE, "/min", refused as f64 * 60.0 / took.as_secs_f64());
    reading.abort();
    Ok(())
}

/// Does the same for each mailbox, some at once.
async fn at_once<'m, R, F: Future<Output = Result<R>> + 'm>(
    mailboxes: &'m [Mailbox],
    what: impl Fn(&'m Mailbox) -> F,
) -> Result<Vec<R>> {
    let all = stream::iter(mailboxes.iter().map(what)).buffer_unordered(AT_ONCE);
    all.collect::<Vec<_>>().await.into_iter().collect()
}
