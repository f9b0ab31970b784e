//! An endpoint's whole way: its engine, its durable SQLite store, its connections, a real relay.
//!
//! The measured endpoint is a business with a hundred conversations, in this process, on its own thread as everywhere. Its customers
//! keep their stores in memory and are gone while it is measured; what counts as its processor time is its thread's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::routing::get;
use bulla_client::clock::SystemClock;
use bulla_client::endpoint::{Begin, BusinessOptions, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{ConversationId, Direction, Draft, Event, Status};
use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::vault::RootKey;
use bulla_client::store::{Batch, Order, Read, Row, Store, StoreError, Table};
use bulla_e2ee::link::Link;
use bulla_e2ee::suite::Suites;
use bulla_testkit::memory_store::Disk;
use bulla_testkit::relay::RelayProgram;
use bulla_testkit::wait::GUARD;
use futures_util::future::try_join_all;
use rand_core::OsRng;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::bench::{Bar, Bench, Group};
use crate::meter::{Meter, micros_each, thread_time};
use crate::sealing::TEXT;

/// Conversations of the measured business.
const CONVERSATIONS: u64 = 100;

/// Messages per conversation and direction, at most: below a permit's rate, and below what may be sealed without hearing from the
/// other side.
const MOST_EACH: u64 = 500;

const HANDLE: &str = "bench";

/// Receives what has waited at the relay, then sends.
pub(crate) async fn measure(bench: &Bench) -> Result<Group> {
    let mut group = Group::new(
        "endpoint",
        "An endpoint with its durable store",
        "A business with 100 conversations and its SQLite store (WAL, synchronous=FULL), on one thread; texts of 1,024 bytes. \
         Receives: it starts and takes in what its customers have left at the relay: opened, stored, acknowledged. Sends: 100 tasks \
         say one text after the other, each as soon as the one before is stored; all are sealed, sent, and stored at the relay, one \
         at a time per conversation. Processor time is that of the endpoint's thread, network and receipts included; bytes are keys \
         and sealed values of committed batches, before SQLite makes pages of them.",
    );
    let each = (bench.messages / CONVERSATIONS).clamp(1, MOST_EACH);
    let messages = each * CONVERSATIONS;
    for run in 0..bench.runs {
        let relay = RelayProgram::start_logging("warn").await?;
        let folder = tempfile::Builder::new().prefix("bulla-bench-").tempdir().context("a temporary folder")?;
        let root = RootKey::generate(&mut OsRng);
        let business = Side::business(folder.path(), &root, relay.url())?;
        let bar = bench.bar("endpoint: beginnings", run, CONVERSATIONS);
        let customers = customers_of(&business, &bar).await?;
        business.endpoint.shutdown().await;
        let stored = "stored per conversation";
        let begun = Stored::read(folder.path())?;
        group.add("rows after the first message", stored, "bytes", begun.each_conversation(|_| true));
        group.add("  MLS alone", stored, "bytes", begun.each_conversation(|table| table == Table::Mls));
        group.add("the whole file after the first message", stored, "bytes", begun.file);

        let bar = bench.bar("endpoint: customers write", run, messages);
        try_join_all(customers.into_iter().map(|customer| customer.leaves(each, &bar))).await?;

        let bar = bench.bar("endpoint: receives", run, messages);
        let meter = Meter::begin(None)?;
        let mut business = Side::business(folder.path(), &root, relay.url())?;
        let is_incoming = |event: &Event| matches!(event, Event::Message(m) if m.direction == Direction::Incoming);
        business.count(messages, &bar, is_incoming).await?;
        let taken = meter.end()?;
        bench.note(&taken);
        business.counters.read().tell(&mut group, "receives", taken.wall, messages);

        let bar = bench.bar("endpoint: sends", run, messages);
        let all = business.endpoint.conversations().await?;
        ensure!(all.len() as u64 == CONVERSATIONS, "{} conversations have begun", all.len());
        let before = business.counters.read();
        let meter = Meter::begin(None)?;
        let say = |conversation| {
            let endpoint = business.endpoint.clone();
            tokio::spawn(async move { say(&endpoint, conversation, each).await })
        };
        let saying: Vec<_> = all.into_iter().map(|conversation| say(conversation.id)).collect();
        business.count(messages, &bar, |event| has_reached(event, Status::Sent)).await?;
        let taken = meter.end()?;
        bench.note(&taken);
        for task in saying {
            task.await.context("a task of the measurement ended early")??;
        }
        business.counters.read().since(&before).tell(&mut group, "sends", taken.wall, messages);
        business.endpoint.shutdown().await;
        let full = Stored::read(folder.path())?;
        group.add("MLS after all messages", stored, "bytes", full.each_conversation(|table| table == Table::Mls));
        group.add(
            "the whole file, for each message more",
            stored,
            "bytes",
            (full.file - begun.file) / (2 * each) as f64,
        );
    }
    Ok(group)
}

/// Customers with whom a conversation has begun, so that both sides can write. All begin at once.
async fn customers_of(business: &Side, bar: &Bar) -> Result<Vec<Side>> {
    let bundle = timeout(GUARD, async {
        let mut every = tokio::time::interval(Duration::from_millis(10));
        loop {
            let card = business.endpoint.business_card().await?;
            if let Some(bundle) = card.bundle.filter(|_| card.ready) {
                return anyhow::Ok((card.key, bundle));
            }
            every.tick().await;
        }
    });
    let (key, bundle) = bundle.await.context("the business never became ready")??;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("a port for the bundle")?;
    let origin = format!("http://{}", listener.local_addr()?);
    let routes = Router::new().route(&format!("/@{HANDLE}"), get(move || async move { bundle }));
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let link = Link::new(&origin, HANDLE, key, None)?;
    let customers = (0..CONVERSATIONS).map(|_| async {
        let customer = Side::customer(&link).await?;
        bar.inc(1);
        anyhow::Ok(customer)
    });
    let customers = try_join_all(customers).await;
    serving.abort();
    customers
}

/// Says `each` texts, one after the other.
async fn say(endpoint: &Endpoint, to: ConversationId, each: u64) -> Result<()> {
    for _ in 0..each {
        endpoint.send(to, Draft::Text { body: "x".repeat(TEXT), reply_to: None }).await?;
    }
    Ok(())
}

fn has_reached(event: &Event, status: Status) -> bool {
    matches!(event, Event::Status { message, .. } if message.status == status)
}

/// An endpoint, what it tells, and what its store counts.
struct Side {
    endpoint: Endpoint,
    events: UnboundedReceiver<Event>,
    counters: Arc<Counters>,
}

impl Side {
    fn start<S: Store + Send>(store: S, root: RootKey, role: RoleOptions) -> Result<Self> {
        let counters = Arc::<Counters>::default();
        let store = Counting { store, counters: Arc::clone(&counters), spent: Duration::ZERO };
        let options = Options { role, suites: Suites::DEFAULT, clock: Arc::new(SystemClock), restored: false };
        let (endpoint, events) = Endpoint::start_over(store, root, options, Box::new(NoProjector))?;
        Ok(Self { endpoint, events, counters })
    }

    /// A business over the store in a folder.
    fn business(folder: &Path, root: &RootKey, relay: &str) -> Result<Self> {
        let role = RoleOptions::Business(BusinessOptions {
            handle: HANDLE.to_owned(),
            name: "Bench".to_owned(),
            relay_url: relay.to_owned(),
            readers: vec![("Team".to_owned(), "agents".to_owned())],
            window_ms: 24 * 3_600_000,
            push_key: None,
        });
        Self::start(SqliteStore::open(folder)?, RootKey::new(*root.expose()), role)
    }

    /// A customer whose first message was delivered.
    async fn customer(link: &Link) -> Result<Self> {
        let mut side = Self::start(Disk::default(), RootKey::generate(&mut OsRng), RoleOptions::Customer)?;
        let conversation = side.endpoint.begin(link, Begin { name: None, pseudonym: None, code: None }).await?;
        say(&side.endpoint, conversation.id, 1).await?;
        side.until(|event| has_reached(event, Status::Delivered)).await?;
        Ok(side)
    }

    /// A customer says something, and is gone when the relay has it.
    async fn leaves(mut self, each: u64, bar: &Bar) -> Result<()> {
        for conversation in self.endpoint.conversations().await? {
            say(&self.endpoint, conversation.id, each).await?;
        }
        self.count(each, bar, |event| has_reached(event, Status::Sent)).await?;
        self.endpoint.shutdown().await;
        Ok(())
    }

    async fn count(&mut self, events: u64, bar: &Bar, fits: impl Fn(&Event) -> bool) -> Result<()> {
        for _ in 0..events {
            self.until(&fits).await?;
            bar.inc(1);
        }
        Ok(())
    }

    async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Result<()> {
        loop {
            let event = timeout(GUARD, self.events.recv()).await.context("the endpoint tells nothing any more")?;
            if fits(&event.context("the endpoint has stopped")?) {
                return Ok(());
            }
        }
    }
}

/// What a store counts on the endpoint's thread.
#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    /// Nanoseconds in commits, by the clock on the wall.
    committing: AtomicU64,
    /// Nanoseconds of processor time in commits.
    commit_thread: AtomicU64,
    /// Nanoseconds of processor time that the thread had used after its last commit, without those of the counting itself.
    thread: AtomicU64,
    /// Bytes of keys and values that were put or deleted.
    bytes: Mutex<BTreeMap<Table, u64>>,
}

/// What was counted.
#[derive(Debug, Clone)]
struct Counts {
    commits: u64,
    committing: u64,
    commit_thread: u64,
    thread: u64,
    bytes: BTreeMap<Table, u64>,
}

impl Counters {
    fn bytes(&self) -> MutexGuard<'_, BTreeMap<Table, u64>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            commits: read(&self.commits),
            committing: read(&self.committing),
            commit_thread: read(&self.commit_thread),
            thread: read(&self.thread),
            bytes: self.bytes().clone(),
        }
    }
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            committing: self.committing - before.committing,
            commit_thread: self.commit_thread - before.commit_thread,
            thread: self.thread - before.thread,
            bytes: self.bytes.iter().map(|(t, now)| (*t, now - before.bytes.get(t).copied().unwrap_or(0))).collect(),
        }
    }

    fn tell(&self, group: &mut Group, case: &str, wall: Duration, messages: u64) {
        let each = |count: u64| count as f64 / messages as f64;
        let micros = |nanos: u64| micros_each(Duration::from_nanos(nanos), messages);
        group.add("messages", case, "/s", messages as f64 / wall.as_secs_f64());
        group.add("its processor time", case, "µs each", micros(self.thread));
        group.add("  in commits", case, "µs each", micros(self.commit_thread));
        group.add("time in commits, waiting for the disk included", case, "µs each", micros(self.committing));
        group.add("messages per commit", case, "", messages as f64 / self.commits as f64);
        let written: u64 = self.bytes.values().sum();
        group.add("rows written", case, "bytes each", each(written));
        let said = self.bytes.get(&Table::Contents).copied().unwrap_or(0);
        group.add("  without what the message says", case, "bytes each", each(written - said));
        // What is less than a byte per message is not worth a line.
        for (table, bytes) in self.bytes.iter().filter(|(_, bytes)| **bytes >= messages) {
            group.add(&format!("  {table:?}"), case, "bytes each", each(*bytes));
        }
    }
}

/// A store that counts what is committed to it.
struct Counting<S> {
    store: S,
    counters: Arc<Counters>,
    /// Processor time of the counting itself.
    spent: Duration,
}

impl<S: Store> Read for Counting<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.store.scan(table, from, until, order, limit)
    }
}

impl<S: Store> Store for Counting<S> {
    type Parts = S::Parts;

    fn parts(&self) -> S::Parts {
        self.store.parts()
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let began = thread_time();
        for (table, key, value) in batch.clone().into_changes() {
            let size = key.len() + value.map_or(0, |value| value.len());
            *self.counters.bytes().entry(table).or_default() += size as u64;
        }
        let commits = u64::from(!batch.is_empty());
        let (wall, counted) = (Instant::now(), thread_time());
        self.spent += counted - began;
        let committed = self.store.commit(batch).await;
        let (took, now) = (wall.elapsed(), thread_time());
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.counters.commits, commits);
        add(&self.counters.committing, nanos(took));
        add(&self.counters.commit_thread, nanos(now - counted));
        self.counters.thread.store(nanos(now - self.spent), Ordering::Relaxed);
        committed
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What lies in the folder of an endpoint that has stopped.
struct Stored {
    /// Bytes of keys and values.
    tables: Vec<(Table, u64)>,
    /// Bytes of the database's file, per conversation.
    file: f64,
}

impl Stored {
    fn read(folder: &Path) -> Result<Self> {
        let store = SqliteStore::open(folder)?;
        let mut tables = Vec::new();
        for table in Table::ENGINE {
            let rows = store.scan(*table, &[], None, Order::Ascending, usize::MAX)?;
            tables.push((*table, rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()));
        }
        let file = std::fs::metadata(store.path()).context("the store's file")?.len() as f64 / CONVERSATIONS as f64;
        Ok(Self { tables, file })
    }

    fn each_conversation(&self, which: impl Fn(Table) -> bool) -> f64 {
        let bytes: u64 = self.tables.iter().filter(|(table, _)| which(*table)).map(|(_, bytes)| bytes).sum();
        bytes as f64 / CONVERSATIONS as f64
    }
}
