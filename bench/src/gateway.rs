//! What a gateway carries: from calls of the API to customers' devices, and from their devices to the webhook, both with everything durable on the
//! way. `bulla up` is measured; the load — devices, the business's program, its receiver — runs beside it in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bulla_client::clock::SystemClock;
use bulla_client::endpoint::{Begin, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{Conversation, ConversationState, Direction, Draft, Event};
use bulla_client::store::keyfile;
use bulla_e2ee::link::Link;
use bulla_e2ee::suite::Suites;
use bulla_testkit::cloud::CloudApi;
use bulla_testkit::wait::GUARD;
use bulla_testkit::world::{Which, World};
use rand_core::OsRng;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bench::{Bench, Group};
use crate::meter::{Meter, micros_each};
use crate::sealing::TEXT;
use crate::stats::percentile;

/// Customers who are there. Each runs an endpoint with its store beside what is measured.
const CUSTOMERS: usize = 16;

/// Calls of the API at once, as a program with a pool of connections makes them.
const CALLS: usize = 64;

/// A customer's device.
struct Device {
    endpoint: Endpoint,
    at: Conversation,
    user: String,
    _folder: TempDir,
}

/// Counts what all devices have heard.
#[derive(Default)]
struct Heard {
    count: AtomicU64,
    more: Notify,
}

impl Heard {
    async fn reaches(&self, wanted: u64) -> Result<()> {
        let all = async {
            loop {
                let more = self.more.notified();
                if self.count.load(Ordering::Acquire) >= wanted {
                    return;
                }
                more.await;
            }
        };
        let came = tokio::time::timeout(GUARD * 4, all).await;
        came.with_context(|| format!("{} of {wanted} came", self.count.load(Ordering::Acquire)))
    }
}

/// Both directions.
pub(crate) async fn measure(bench: &Bench) -> Result<Group> {
    let mut group = Group::new(
        "gateway",
        "Through the gateway",
        format!(
            "`bulla up` (relay and gateway) and {CUSTOMERS} customers' endpoints with their stores, the business's program and its receiver, all on \
             this machine; texts of {TEXT} bytes. Out: {CALLS} calls of `POST …/messages` at a time, until every device has its messages. In: every \
             device sends, until the receiver has every webhook. Durable at every station. Processor time is the gateway's alone."
        ),
    );
    let messages = bench.messages;
    for run in 0..bench.runs {
        let world = World::start_logging("warn").await?;
        let heard = Arc::new(Heard::default());
        let mut devices = Vec::new();
        for number in 0..CUSTOMERS {
            devices.push(device(&world, number, &heard).await?);
        }
        let gateway = world.pid(Which::Gateway).await?;

        let case = "API call → device";
        let bar = bench.bar(case, run, messages);
        let (before, meter, began) =
            (heard.count.load(Ordering::Acquire), Meter::begin(Some(gateway))?, Instant::now());
        let mut callers = JoinSet::new();
        let next = Arc::new(AtomicU64::new(0));
        let users: Arc<[String]> = devices.iter().map(|device| device.user.clone()).collect();
        for _ in 0..CALLS {
            callers.spawn(call(world.api.clone(), Arc::clone(&users), Arc::clone(&next), messages));
        }
        let mut took = Vec::new();
        while let Some(calls) = callers.join_next().await {
            took.extend(calls??);
        }
        let called = began.elapsed().as_secs_f64();
        heard.reaches(before + messages).await?;
        let (all, taken) = (began.elapsed().as_secs_f64(), meter.end()?);
        bar.inc(messages);
        bench.note(&taken);
        let count = messages as f64;
        group.add("calls answered", case, "/s", count / called);
        group.add("messages", case, "/s", count / all);
        group.add("gateway's processor time", case, "µs/message", micros_each(taken.watched, messages));
        for (what, percent) in [("p50 of a call", 50.0), ("p99 of a call", 99.0)] {
            group.add(what, case, "ms", percentile(&took, percent));
        }

        let case = "device → webhook";
        let bar = bench.bar(case, run, messages);
        let (meter, began) = (Meter::begin(Some(gateway))?, Instant::now());
        let mut senders = JoinSet::new();
        let each = messages.div_ceil(CUSTOMERS as u64);
        let mut wanted = Vec::new();
        for (number, device) in devices.iter().enumerate() {
            let texts: Vec<String> =
                (0..each).map(|n| format!("{:x<TEXT$}", format!("in {run} {number} {n} "))).collect();
            wanted.extend(texts.iter().cloned());
            let (endpoint, at) = (device.endpoint.clone(), device.at.id);
            senders.spawn(async move {
                for body in texts {
                    endpoint.send(at, Draft::Text { body, reply_to: None }).await?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        let sent = wanted.len() as f64;
        while let Some(done) = senders.join_next().await {
            done??;
        }
        world.receiver.all_texts(GUARD * 4, wanted).await?;
        let (all, taken) = (began.elapsed().as_secs_f64(), meter.end()?);
        bar.inc(messages);
        bench.note(&taken);
        group.add("messages", case, "/s", sent / all);
        group.add("gateway's processor time", case, "µs/message", taken.watched.as_secs_f64() * 1e6 / sent);
        for device in devices {
            device.endpoint.shutdown().await;
        }
    }
    Ok(group)
}

/// Calls the API until enough was said; how long each call took, ms.
async fn call(api: CloudApi, users: Arc<[String]>, next: Arc<AtomicU64>, messages: u64) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= messages {
            return Ok(took);
        }
        let user = users.get(usize::try_from(number)? % users.len()).context("no user")?;
        let text = format!("{:x<TEXT$}", format!("out {number} "));
        let began = Instant::now();
        let answer = api.text(user, &text).await?;
        ensure!(answer.status == 200, "the API answered {} {}", answer.status, answer.body);
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
}

/// A customer who has written and was answered.
async fn device(world: &World, number: usize, heard: &Arc<Heard>) -> Result<Device> {
    let folder = tempfile::tempdir()?;
    let root = keyfile::load_or_create(&folder.path().join("key"), None, &mut OsRng)?;
    let options =
        Options { role: RoleOptions::Customer, suites: Suites::DEFAULT, clock: Arc::new(SystemClock), restored: false };
    let (endpoint, mut events) = Endpoint::start(folder.path(), root, options, Box::new(NoProjector))?;
    let at = endpoint.begin(&Link::parse(&world.ready.link)?, Begin::default()).await?;
    let hello = format!("hello from {number}");
    endpoint.send(at.id, Draft::Text { body: hello.clone(), reply_to: None }).await?;
    let (_, message) = world.receiver.message(&hello, |m| m["text"]["body"] == hello.as_str()).await?;
    let user = message["from_user_id"].as_str().context("the webhook names nobody")?.to_owned();
    let opened = async {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Conversation(c) if c.state == ConversationState::Open) {
                return Ok(());
            }
        }
        anyhow::bail!("a device stopped")
    };
    tokio::time::timeout(GUARD, opened).await.context("a device was not answered")??;
    let heard = Arc::clone(heard);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Message(m) if m.direction == Direction::Incoming) {
                heard.count.fetch_add(1, Ordering::AcqRel);
                heard.more.notify_waiters();
            }
        }
    });
    Ok(Device { endpoint, at, user, _folder: folder })
}
