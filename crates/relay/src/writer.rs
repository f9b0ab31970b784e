//! One thread of its own writes to the store, in groups.
//!
//! Whoever wants something written hands over the changes and what is to happen once they are on stable storage. The thread takes everything that
//! waits, commits it as one batch with one sync, then runs what was promised, in the order in which it was handed over. The engine's
//! back-pressure (it sleeps in the committing thread) therefore never touches a connection. Since all writes come one after another here, this is
//! also where it is decided who wins a [commit slot](crate::slots).
//!
//! If a batch fails, nothing of it is promised to anybody: after a failed sync the kernel may have dropped the pages, so that trying again would prove
//! nothing. The thread reports the failure, drops everything that waits and stops; the relay goes down with a sentence.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use crate::blobs::{self, Blobs};
use crate::metrics::Metrics;
use crate::sabotage::{Rule, broken};
use crate::slots::{Claim, Outcome, Slots};
use crate::store::{SlotEntry, Store, StoreError, Write};

/// Jobs of one group: bounds the time between two syncs.
const GROUP_JOBS: usize = 4_096;

/// What happens once the changes are on stable storage. Runs on the writer's thread: it must not block.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// The same for a claim, which is told what was decided.
pub(crate) type Told = Box<dyn FnOnce(Outcome) + Send>;

enum Message {
    Job(Vec<Write>, Then),
    Claim(Claim, Told),
    Forget(Vec<SlotEntry>, Then),
    Blob(blobs::Change, u32, Box<dyn FnOnce(blobs::Outcome) + Send>),
    Stop,
}

/// The relay cannot write any more; nothing was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay cannot write")]
pub(crate) struct Unavailable;

/// Hands changes to the writer's thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Sender<Message>,
    failure: Arc<watch::Sender<Option<String>>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        slots: Slots,
        blobs: Blobs,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, waiting) = channel();
        let failure = Arc::new(watch::Sender::new(None));
        let report = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("relay-writer".into())
            .spawn(move || run(&*store, Decided { slots, blobs }, &waiting, &report, &metrics))?;
        Ok((Self { jobs, failure }, thread))
    }

    /// Queues changes. They are applied after all that were queued before, and `then` runs after they are durable; if that
    /// fails, `then` is dropped without being run. Never blocks.
    pub(crate) fn enqueue(&self, writes: Vec<Write>, then: Then) {
        // A closed channel means that the thread has stopped and has said why; `then` is dropped here.
        let _ = self.jobs.send(Message::Job(writes, then));
    }

    /// Queues changes and waits until they are durable.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), Unavailable> {
        self.durable(|then| Message::Job(writes, then)).await
    }

    /// Queues a claim. `told` runs once what was decided is durable, and is dropped if that fails. Never blocks.
    pub(crate) fn claim(&self, claim: Claim, told: Told) {
        let _ = self.jobs.send(Message::Claim(claim, told));
    }

    /// Frees slots that are over, and waits until that is durable.
    pub(crate) async fn forget(&self, over: Vec<SlotEntry>) -> Result<(), Unavailable> {
        self.durable(|then| Message::Forget(over, then)).await
    }

    /// Queues a change of a blob, and waits until what was decided is durable.
    pub(crate) async fn blob(&self, change: blobs::Change, today: u32) -> Result<blobs::Outcome, Unavailable> {
        let (done, wait) = oneshot::channel();
        let told = Box::new(move |outcome| {
            let _ = done.send(outcome);
        });
        let _ = self.jobs.send(Message::Blob(change, today, told));
        wait.await.map_err(|_| Unavailable)
    }

    async fn durable(&self, message: impl FnOnce(Then) -> Message) -> Result<(), Unavailable> {
        let (done, wait) = oneshot::channel();
        let then = Box::new(move || {
            let _ = done.send(());
        });
        let _ = self.jobs.send(message(then));
        wait.await.map_err(|_| Unavailable)
    }

    /// Reports a failure that the relay must not outlive, such as a store that cannot be read.
    pub(crate) fn fail(&self, error: &StoreError) {
        self.failure.send_replace(Some(error.to_string()));
    }

    /// Changes to a sentence when the store has failed.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Whether it has.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Lets the thread end after everything that is queued.
    pub(crate) fn stop(&self) {
        let _ = self.jobs.send(Message::Stop);
    }
}

/// What is written together, and what was promised for it.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    promised: Vec<Then>,
    stop: bool,
}

/// What is decided here, because all writes come one after another.
struct Decided {
    slots: Slots,
    blobs: Blobs,
}

impl Decided {
    fn measure(&self, metrics: &Metrics) {
        metrics.slot_bytes.set(self.slots.taken());
        metrics.blob_bytes.set(self.blobs.taken());
    }
}

fn run(
    store: &dyn Store,
    mut decided: Decided,
    waiting: &Receiver<Message>,
    failure: &watch::Sender<Option<String>>,
    metrics: &Metrics,
) {
    decided.measure(metrics);
    while let Ok(first) = waiting.recv() {
        let durable = gather(store, &mut decided, first, waiting).and_then(|mut group| {
            let writes = std::mem::take(&mut group.writes);
            if broken(Rule::AnswerAfterCommit) {
                group.promised.drain(..).for_each(|then| then());
            }
            if !writes.is_empty() {
                let (changes, begun) = (writes.len(), Instant::now());
                store.commit(writes)?;
                metrics.sync.observe(begun.elapsed().as_secs_f64());
                metrics.group.observe(changes as f64);
            }
            decided.slots.end_group();
            decided.blobs.end_group();
            decided.measure(metrics);
            Ok(group)
        });
        let group = match durable {
            Ok(group) => group,
            Err(_) if broken(Rule::FailureIsFatal) => continue,
            Err(error) => {
                tracing::error!(%error, "the store failed; the relay stops");
                failure.send_replace(Some(error.to_string()));
                return;
            }
        };
        for then in group.promised {
            then();
        }
        if group.stop {
            return;
        }
    }
}

/// Takes what waits, after `first`, and decides the claims in it, in the order in which all of it was handed over.
fn gather(
    store: &dyn Store,
    decided: &mut Decided,
    first: Message,
    waiting: &Receiver<Message>,
) -> Result<Group, StoreError> {
    let mut group = Group::default();
    let mut next = Some(first);
    while let Some(message) = next.take() {
        match message {
            Message::Job(writes, then) => {
                group.writes.extend(writes);
                group.promised.push(then);
            }
            Message::Claim(claim, told) => {
                let outcome = decided.slots.claim(store, claim, &mut group.writes)?;
                group.promised.push(Box::new(move || told(outcome)));
            }
            Message::Forget(over, then) => {
                decided.slots.forget(store, &over, &mut group.writes)?;
                group.promised.push(then);
            }
            Message::Blob(change, today, told) => {
                let outcome = decided.blobs.decide(store, change, today, &mut group.writes)?;
                group.promised.push(Box::new(move || told(outcome)));
            }
            Message::Stop => {
                group.stop = true;
                break;
            }
        }
        if group.promised.len() < GROUP_JOBS {
            next = waiting.try_recv().ok();
        }
    }
    Ok(group)
}
