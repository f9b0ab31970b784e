//! The relay alone, as the real program: hand-over, store and drain of envelopes that mean nothing.

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::chance::Chance;
use bulla_testkit::relay::{Mailbox, Owner, RelayProgram, Sender};
use bytes::Bytes;
use futures_util::future::try_join_all;
use rand_core::OsRng;

use crate::bench::{Bar, Bench, Group};
use crate::meter::{Meter, Taken, micros_each};

/// Bytes of an envelope: a short message's bucket.
const ENVELOPE: usize = 1_024;

/// For one of `--messages`, so many here: the relay takes them in microseconds, and a run should last for some tenths of a second.
const TIMES: u64 = 3;

/// Messages for one mailbox and its warm-up: below what a permit allows in one minute.
const MOST: u64 = 60_000;

/// How many connections write and read at once, how much each has in flight, and after how many envelopes a reader confirms.
struct Shape {
    case: &'static str,
    pairs: u64,
    window: usize,
    confirm_every: u64,
}

/// Many conversations with one message under way each, as endpoints do it; and one connection as fast as it goes.
const SHAPES: &[Shape] = &[
    Shape { case: "100 senders → 100 readers", pairs: 100, window: 1, confirm_every: 1 },
    Shape { case: "1 sender → 1 reader", pairs: 1, window: 128, confirm_every: 32 },
];

/// As above; 100 connections write 8 at once each, so that a sync is shared by many.
const STORE_SHAPES: &[Shape] = &[
    Shape { case: "100 mailboxes", pairs: 100, window: 8, confirm_every: 64 },
    Shape { case: "1 mailbox", pairs: 1, window: 128, confirm_every: 64 },
];

/// Senders to readers that are connected and confirm.
pub(crate) async fn hand_over(bench: &Bench) -> Result<Group> {
    let mut group = Group::new(
        "handover",
        "Relay: hand-over to readers who are there",
        "Envelopes of 1,024 bytes; each is sent under a permit, handed over in memory, confirmed by its reader and answered. With 100 \
         pairs each sender has 1 under way and each reader confirms singly; the single sender has 128 under way and its reader \
         confirms every 32nd. Over WebSocket on loopback; the connections and a twentieth of the messages more are made before the \
         clock runs.",
    );
    for run in 0..bench.runs {
        for shape in SHAPES {
            let relay = RelayProgram::start_logging("warn").await?;
            let mut pairs = Vec::new();
            for number in 0..shape.pairs {
                let mailbox = Mailbox::new(&mut OsRng);
                let mut owner = Owner::create(relay.url(), &mailbox).await?;
                owner.subscribe(&mailbox).await?;
                owner.live().await?;
                pairs.push((Sender::connect(relay.url(), &mailbox).await?, owner, Chance::new(number)));
            }
            let share = share(bench, shape);
            let pairs = exchange(pairs, shape, share.div_ceil(20), None).await?;
            let bar = bench.bar("relay hand-over", run, share * shape.pairs);
            let meter = Meter::begin(Some(relay.pid()))?;
            exchange(pairs, shape, share, Some(bar)).await?;
            let taken = meter.end()?;
            tell(bench, &mut group, shape.case, &taken, share * shape.pairs);
        }
    }
    Ok(group)
}

/// Senders to nobody, then the readers come back.
pub(crate) async fn store_and_drain(bench: &Bench) -> Result<[Group; 2]> {
    let mut store = Group::new(
        "store",
        "Relay: store for readers who are away",
        "Envelopes of 1,024 bytes for mailboxes whose readers have disconnected; each is on stable storage before it is answered. The \
         100 senders have 8 under way each, the single one 128.",
    );
    let mut drain = Group::new(
        "drain",
        "Relay: drain of what was stored",
        "The same envelopes: the readers connect again, subscribe at once, receive everything, confirm every 64th and the last, and \
         ask whether the relay has taken that. From the subscription on; what was just written is in the system's memory.",
    );
    for run in 0..bench.runs {
        for shape in STORE_SHAPES {
            let relay = RelayProgram::start_logging("warn").await?;
            let mut mailboxes = Vec::new();
            let mut senders = Vec::new();
            for number in 0..shape.pairs {
                let mailbox = Mailbox::new(&mut OsRng);
                // Connected only to make the mailbox.
                drop(Owner::create(relay.url(), &mailbox).await?);
                senders.push((Sender::connect(relay.url(), &mailbox).await?, Chance::new(number)));
                mailboxes.push(mailbox);
            }
            let share = share(bench, shape);
            let messages = share * shape.pairs;
            let bar = bench.bar("relay store", run, messages);
            let meter = Meter::begin(Some(relay.pid()))?;
            let sending = senders.into_iter().map(|(mut sender, mut chance)| {
                let (window, bar) = (shape.window, bar.clone());
                spawned(async move { send(&mut sender, &mut chance, share, window, Some(&bar)).await })
            });
            try_join_all(sending).await?;
            let taken = meter.end()?;
            tell(bench, &mut store, shape.case, &taken, messages);

            let mut owners = Vec::new();
            for mailbox in mailboxes {
                owners.push((Owner::open(relay.url(), &mailbox).await?, mailbox));
            }
            let bar = bench.bar("relay drain", run, messages);
            let meter = Meter::begin(Some(relay.pid()))?;
            let reading = owners.into_iter().map(|(mut owner, mailbox)| {
                let (every, bar) = (shape.confirm_every, bar.clone());
                spawned(async move {
                    owner.subscribe(&mailbox).await?;
                    receive(&mut owner, share, every).await?;
                    bar.inc(share);
                    owner.settle().await
                })
            });
            try_join_all(reading).await?;
            let taken = meter.end()?;
            tell(bench, &mut drain, shape.case, &taken, messages);
        }
    }
    Ok([store, drain])
}

/// Messages of each connection.
fn share(bench: &Bench, shape: &Shape) -> u64 {
    ((bench.messages * TIMES).min(MOST) / shape.pairs).max(1)
}

type Pair = (Sender, Owner, Chance);

/// Every pair exchanges `share` envelopes; all at once.
async fn exchange(pairs: Vec<Pair>, shape: &Shape, share: u64, bar: Option<Bar>) -> Result<Vec<Pair>> {
    let tasks = pairs.into_iter().map(|(mut sender, mut owner, mut chance)| {
        let (window, every, bar) = (shape.window, shape.confirm_every, bar.clone());
        async move {
            let sending = spawned(async move {
                send(&mut sender, &mut chance, share, window, bar.as_ref()).await?;
                Ok((sender, chance))
            });
            let reading = spawned(async move {
                receive(&mut owner, share, every).await?;
                Ok(owner)
            });
            let ((sender, chance), owner) = futures_util::try_join!(sending, reading)?;
            anyhow::Ok((sender, owner, chance))
        }
    });
    try_join_all(tasks).await
}

/// On a task of its own, so that all processors share the driver's work.
async fn spawned<R: Send + 'static>(work: impl Future<Output = Result<R>> + Send + 'static) -> Result<R> {
    tokio::spawn(work).await.context("a task of the measurement ended early")?
}

/// Sends `share` envelopes with at most `window` unanswered, and waits for every answer.
async fn send(sender: &mut Sender, chance: &mut Chance, share: u64, window: usize, bar: Option<&Bar>) -> Result<()> {
    let envelope = Bytes::from_static(&[0x5a; ENVELOPE]);
    for _ in 0..share {
        sender.begin(chance, envelope.clone()).await?;
        while sender.in_flight() >= window {
            sender.accepted().await?;
        }
        if let Some(bar) = bar {
            bar.inc(1);
        }
    }
    while sender.in_flight() > 0 {
        sender.accepted().await?;
    }
    Ok(())
}

/// Receives `share` envelopes, confirming every so many and the last.
async fn receive(owner: &mut Owner, share: u64, confirm_every: u64) -> Result<()> {
    for number in 1..=share {
        let deliver = owner.deliver().await?;
        ensure!(deliver.envelope.len() == ENVELOPE, "an envelope of {} bytes came out", deliver.envelope.len());
        if number % confirm_every == 0 || number == share {
            owner.ack(deliver.number).await?;
        }
    }
    Ok(())
}

fn tell(bench: &Bench, group: &mut Group, case: &str, taken: &Taken, messages: u64) {
    bench.note(taken);
    group.add("messages", case, "/s", taken.rate(messages));
    group.add("relay's processor time", case, "µs each", micros_each(taken.watched, messages));
    group.add("this driver's processor time", case, "µs each", micros_each(taken.driver, messages));
}
