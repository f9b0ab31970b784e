//! What the console shows: calls and webhooks, the newest of each, in memory only and gone with the process.
//!
//! Every change of an entry raises the log's revision, and the entry's to that; a page that has seen revision *n* asks for what is newer.
//! Calls of nobody, calls and webhooks have a shelf each, so that none pushes the others out. What is kept has no token in it (see
//! [`super::redact`]); it has what people wrote, and is wiped when it goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulla_client::event::ConversationId;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use super::limits::{ANSWER, ATTEMPTS, BYTES, CALLS, REPLAYS, STRANGERS, WEBHOOKS};

/// The log, or where no console is served, nothing.
#[derive(Clone, Default)]
pub(crate) struct Log(Option<Arc<Shared>>);

struct Shared {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

struct Inner {
    revision: u64,
    next: u64,
    strangers: Shelf,
    calls: Shelf,
    webhooks: Shelf,
    /// Which entry a row of the queue has.
    rows: HashMap<Row, u64>,
    /// Webhooks that are being posted again.
    replays: Vec<u64>,
    receivers: BTreeMap<String, Receiver>,
}

/// A row of a business's queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) business: String,
    pub(crate) sequence: u64,
}

/// Where a business's webhooks go, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum Receiver {
    /// No URL is set.
    None,
    /// It was not asked yet, or does not answer its challenge.
    Unverified { url: String, reason: Option<String> },
    /// It takes webhooks.
    Ready { url: String },
}

/// A call of the API.
#[derive(Serialize)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) ms: u64,
    /// It was made with the console's own composer.
    pub(crate) composed: bool,
    pub(crate) request: Body,
    pub(crate) response: Body,
}

/// A body, or what is known of one that is not kept.
#[derive(Default, Serialize)]
pub(crate) struct Body {
    pub(crate) kind: String,
    pub(crate) size: u64,
    #[serde(serialize_with = "maybe_text")]
    pub(crate) text: Option<Zeroizing<String>>,
}

/// One try to deliver a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Attempt {
    pub(crate) at_ms: u64,
    pub(crate) ms: u64,
    /// What the receiver answered.
    pub(crate) status: Option<u16>,
    /// Why it does not count.
    pub(crate) error: Option<String>,
    /// It was asked for here.
    pub(crate) replay: bool,
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// In the queue. Not tried again before this time, if it was tried.
    Waiting { next_ms: Option<u64> },
    /// Answered with 2xx.
    Delivered,
    /// Nobody took it for 7 days.
    Expired,
}

#[derive(Serialize)]
struct Webhook {
    /// The exact bytes; they are ASCII.
    #[serde(serialize_with = "text")]
    body: Zeroizing<String>,
    signature: String,
    #[serde(flatten)]
    fate: Fate,
    attempts: Vec<Attempt>,
    /// How many there were, also those that are not shown.
    tries: u32,
    #[serde(skip)]
    conversation: ConversationId,
    #[serde(skip)]
    sequence: u64,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum What {
    Call(Call),
    Webhook(Webhook),
}

#[derive(Serialize)]
struct Entry {
    id: u64,
    revision: u64,
    at_ms: u64,
    /// Whose; a call of nobody has none.
    business: Option<String>,
    #[serde(flatten)]
    what: What,
}

fn text<S: serde::Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn maybe_text<S: serde::Serializer>(text: &Option<Zeroizing<String>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(|text| text.as_str()).serialize(to)
}

impl Entry {
    fn size(&self) -> usize {
        let of = |body: &Body| body.text.as_ref().map_or(0, |text| text.len());
        match &self.what {
            What::Call(call) => of(&call.request) + of(&call.response) + call.path.len(),
            What::Webhook(webhook) => webhook.body.len(),
        }
    }
}

/// The newest entries of a kind, in count and bytes.
struct Shelf {
    most: usize,
    bytes: usize,
    entries: BTreeMap<u64, Entry>,
}

impl Shelf {
    fn new(most: usize) -> Self {
        Self { most, bytes: 0, entries: BTreeMap::new() }
    }

    /// Puts one in; those that had to go.
    fn put(&mut self, entry: Entry) -> Vec<Entry> {
        self.bytes = self.bytes.saturating_add(entry.size());
        self.entries.insert(entry.id, entry);
        let mut gone = Vec::new();
        // One that is larger than all the room there is stays alone.
        while self.entries.len() > self.most || (self.bytes > BYTES && self.entries.len() > 1) {
            let Some((_, oldest)) = self.entries.pop_first() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.size());
            gone.push(oldest);
        }
        gone
    }
}

/// What a page asked for.
#[derive(Serialize)]
pub(crate) struct News {
    /// Ask for what is newer than this.
    revision: u64,
    /// There is more already.
    more: bool,
    entries: Vec<Box<RawValue>>,
    receivers: BTreeMap<String, Receiver>,
}

/// A webhook that is to be posted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It is in the queue: its conversation is to be tried now.
    Waiting(ConversationId),
    /// It left the queue: its bytes are to be posted once more.
    Again,
}

/// Why it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayError {
    /// Nothing has this number, or not any more.
    #[error("the log has forgotten this webhook")]
    Unknown,
    /// There is no receiver that has answered its challenge.
    #[error("no webhook URL has answered its challenge: there is nobody to post it to")]
    NoReceiver,
    /// It is on its way, or too many others are.
    #[error("it is being posted already, or too many others are")]
    Busy,
}

impl Log {
    /// A log that keeps.
    pub(crate) fn new() -> Self {
        let inner = Inner {
            revision: 0,
            next: 1,
            strangers: Shelf::new(STRANGERS),
            calls: Shelf::new(CALLS),
            webhooks: Shelf::new(WEBHOOKS),
            rows: HashMap::new(),
            replays: Vec::new(),
            receivers: BTreeMap::new(),
        };
        Self(Some(Arc::new(Shared { inner: Mutex::new(inner), revision: watch::channel(0).0 })))
    }

    /// Whether anything is kept.
    pub(crate) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Changes something and tells who waits.
    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> Option<R> {
        let shared = self.0.as_ref()?;
        let mut inner = shared.inner();
        inner.revision = inner.revision.saturating_add(1);
        let changed = change(&mut inner);
        shared.revision.send_replace(inner.revision);
        Some(changed)
    }

    /// A call was answered.
    pub(crate) fn call(&self, at_ms: u64, business: Option<String>, call: Call) {
        self.change(|inner| {
            let entry = inner.entry(at_ms, business, What::Call(call));
            let shelf = if entry.business.is_some() { &mut inner.calls } else { &mut inner.strangers };
            shelf.put(entry);
        });
    }

    /// A webhook is in the queue. `signature` is asked for if it was not known.
    pub(crate) fn webhook(
        &self,
        row: &Row,
        conversation: ConversationId,
        at_ms: u64,
        body: &[u8],
        signature: impl FnOnce() -> String,
    ) {
        let Some(shared) = self.0.as_ref() else { return };
        if shared.inner().rows.contains_key(row) {
            return;
        }
        let webhook = Webhook {
            body: Zeroizing::new(String::from_utf8_lossy(body).into_owned()),
            signature: signature(),
            fate: Fate::Waiting { next_ms: None },
            attempts: Vec::new(),
            tries: 0,
            conversation,
            sequence: row.sequence,
        };
        self.change(|inner| {
            // Two may have asked at once.
            if inner.rows.contains_key(row) {
                return;
            }
            let entry = inner.entry(at_ms, Some(row.business.clone()), What::Webhook(webhook));
            inner.rows.insert(row.clone(), entry.id);
            for gone in inner.webhooks.put(entry) {
                if let (Some(business), What::Webhook(webhook)) = (gone.business, gone.what) {
                    inner.rows.remove(&Row { business, sequence: webhook.sequence });
                }
            }
        });
    }

    /// A webhook of the queue was tried, or will not be any more.
    pub(crate) fn tried(&self, row: &Row, attempt: Option<Attempt>, fate: Fate) {
        self.change(|inner| {
            let id = inner.rows.get(row).copied();
            inner.touch(id, |webhook| {
                webhook.fate = fate;
                webhook.attempts.extend(attempt);
            });
        });
    }

    /// A webhook was posted again.
    pub(crate) fn replayed(&self, id: u64, attempt: Attempt) {
        self.change(|inner| {
            inner.replays.retain(|replayed| *replayed != id);
            inner.touch(Some(id), |webhook| webhook.attempts.push(attempt));
        });
    }

    /// Where webhooks go.
    pub(crate) fn receiver(&self, business: &str, receiver: Receiver) {
        self.change(|inner| inner.receivers.insert(business.to_owned(), receiver));
    }

    /// Somebody wants a webhook posted again: whose it is and how that is done. What is [`Replay::Again`] counts as on its way until
    /// [`Self::replayed`].
    pub(crate) fn replay(&self, id: u64) -> Result<(String, Replay), ReplayError> {
        let shared = self.0.as_ref().ok_or(ReplayError::Unknown)?;
        let mut inner = shared.inner();
        let entry = inner.webhooks.entries.get(&id).ok_or(ReplayError::Unknown)?;
        let (Some(business), What::Webhook(webhook)) = (entry.business.clone(), &entry.what) else {
            return Err(ReplayError::Unknown);
        };
        if !matches!(inner.receivers.get(&business), Some(Receiver::Ready { .. })) {
            return Err(ReplayError::NoReceiver);
        }
        if matches!(webhook.fate, Fate::Waiting { .. }) {
            return Ok((business, Replay::Waiting(webhook.conversation)));
        }
        if inner.replays.contains(&id) || inner.replays.len() >= REPLAYS {
            return Err(ReplayError::Busy);
        }
        inner.replays.push(id);
        Ok((business, Replay::Again))
    }

    /// A webhook's exact bytes.
    pub(crate) fn body(&self, id: u64) -> Option<Zeroizing<Vec<u8>>> {
        let inner = self.0.as_ref()?.inner();
        match &inner.webhooks.entries.get(&id)?.what {
            What::Webhook(webhook) => Some(webhook.body.as_bytes().to_vec().into()),
            What::Call(_) => None,
        }
    }

    /// What is newer than a revision, in the order in which it changed.
    pub(crate) fn since(&self, revision: u64) -> News {
        let nothing = News { revision, more: false, entries: Vec::new(), receivers: BTreeMap::new() };
        let Some(shared) = self.0.as_ref() else { return nothing };
        let inner = shared.inner();
        let shelves = [&inner.strangers, &inner.calls, &inner.webhooks];
        let mut newer: Vec<_> = shelves.iter().flat_map(|shelf| shelf.entries.values()).collect();
        newer.retain(|entry| entry.revision > revision);
        newer.sort_by_key(|entry| entry.revision);
        let (mut size, mut entries, mut until) = (0_usize, Vec::new(), inner.revision);
        let mut left = newer.into_iter().peekable();
        while let Some(entry) = left.next() {
            size = size.saturating_add(entry.size());
            entries.extend(serde_json::value::to_raw_value(entry));
            if size >= ANSWER && left.peek().is_some() {
                until = entry.revision;
                break;
            }
        }
        News { revision: until, more: until < inner.revision, entries, receivers: inner.receivers.clone() }
    }

    /// Resolves when there is something newer than a revision; where nothing is kept, never.
    pub(crate) async fn newer(&self, revision: u64) {
        let Some(shared) = self.0.as_ref() else { return std::future::pending().await };
        // It cannot have ended: this holds the sender.
        let _ = shared.revision.subscribe().wait_for(|now| *now > revision).await;
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log(redacted, keeps: {})", self.keeps())
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, at_ms: u64, business: Option<String>, what: What) -> Entry {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        Entry { id, revision: self.revision, at_ms, business, what }
    }

    /// Changes a webhook, if it is still there.
    fn touch(&mut self, id: Option<u64>, change: impl FnOnce(&mut Webhook)) {
        let Some(entry) = id.and_then(|id| self.webhooks.entries.get_mut(&id)) else { return };
        let What::Webhook(webhook) = &mut entry.what else { return };
        let before = webhook.attempts.len();
        change(webhook);
        let new = webhook.attempts.len().saturating_sub(before);
        webhook.tries = webhook.tries.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
        let excess = webhook.attempts.len().saturating_sub(ATTEMPTS);
        webhook.attempts.drain(..excess);
        entry.revision = self.revision;
    }
}

/// Rows came into a business's queue: who reads them into the log waits for this.
pub(crate) type Came = Arc<Notify>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row(sequence: u64) -> Row {
        Row { business: "shop".into(), sequence }
    }

    fn call(text: &str) -> Call {
        let body = |text: &str| Body {
            kind: "application/json".into(),
            size: text.len() as u64,
            text: Some(Zeroizing::new(text.to_owned())),
        };
        Call {
            method: "POST".into(),
            path: "/1/messages".into(),
            status: 200,
            ms: 3,
            composed: false,
            request: body(text),
            response: body("{}"),
        }
    }

    fn webhook(log: &Log, sequence: u64, body: &str) {
        log.webhook(&row(sequence), ConversationId(7), 5, body.as_bytes(), || "sha256=aa".into());
    }

    fn attempt(status: u16) -> Attempt {
        Attempt { at_ms: 9, ms: 1, status: Some(status), error: None, replay: false }
    }

    fn news(log: &Log, revision: u64) -> (u64, Vec<Value>) {
        let value = serde_json::to_value(log.since(revision)).unwrap();
        (value["revision"].as_u64().unwrap(), value["entries"].as_array().unwrap().clone())
    }

    fn ready(log: &Log) {
        log.receiver("shop", Receiver::Ready { url: "http://127.0.0.1:9/".into() });
    }

    #[test]
    fn a_page_is_told_what_changed_since_it_asked() {
        let log = Log::new();
        webhook(&log, 1, "{}");
        webhook(&log, 1, "{}");
        log.call(6, Some("shop".into()), call("{}"));
        let (first, entries) = news(&log, 0);
        assert_eq!(entries.len(), 2, "a row is one entry, however often it is seen");
        assert_eq!(entries[0]["state"], "waiting");
        assert_eq!((&entries[1]["kind"], &entries[1]["request"]["text"]), (&json!("call"), &json!("{}")));
        log.tried(&row(1), Some(attempt(500)), Fate::Waiting { next_ms: Some(99) });
        log.tried(&row(1), Some(attempt(200)), Fate::Delivered);
        let (second, entries) = news(&log, first);
        assert_eq!(entries.len(), 1);
        assert_eq!((&entries[0]["state"], &entries[0]["tries"]), (&json!("delivered"), &json!(2)));
        assert_eq!(entries[0]["attempts"][0]["status"], 500);
        assert_eq!(news(&log, second), (second, Vec::new()));
    }

    #[test]
    fn strangers_push_out_strangers_only() {
        let log = Log::new();
        log.call(1, Some("shop".into()), call("mine"));
        webhook(&log, 1, "{}");
        for _ in 0..STRANGERS * 3 {
            log.call(2, None, call("x"));
        }
        let (_, entries) = news(&log, 0);
        assert_eq!(entries.len(), STRANGERS + 2);
        assert_eq!(entries.iter().filter(|e| e["business"] == "shop").count(), 2);
    }

    #[test]
    fn count_and_bytes_are_bounded_and_rows_forgotten_with_their_entries() {
        let log = Log::new();
        for sequence in 0..(WEBHOOKS as u64 + 10) {
            webhook(&log, sequence, "{}");
        }
        let count = |log: &Log| log.0.as_ref().unwrap().inner().webhooks.entries.len();
        assert_eq!(count(&log), WEBHOOKS);
        assert_eq!(log.0.as_ref().unwrap().inner().rows.len(), WEBHOOKS);
        let large = "x".repeat(BYTES / 4);
        for sequence in 10_000..10_008 {
            webhook(&log, sequence, &large);
        }
        assert_eq!(count(&log), 4);
        assert_eq!(log.0.as_ref().unwrap().inner().rows.len(), 4);
    }

    #[test]
    fn a_long_answer_comes_in_parts() {
        let log = Log::new();
        for n in 0..10 {
            webhook(&log, n, &"x".repeat(ANSWER / 4));
        }
        let (mut revision, mut seen, mut parts) = (0, 0, 0);
        loop {
            let value = serde_json::to_value(log.since(revision)).unwrap();
            revision = value["revision"].as_u64().unwrap();
            seen += value["entries"].as_array().unwrap().len();
            parts += 1;
            if value["more"] == false {
                break;
            }
        }
        assert_eq!((seen, parts), (10, 3));
    }

    #[test]
    fn what_waits_is_tried_and_what_left_is_posted_once_more_at_a_time() {
        let log = Log::new();
        webhook(&log, 1, "{}");
        let id = news(&log, 0).1[0]["id"].as_u64().unwrap();
        assert_eq!(log.replay(id), Err(ReplayError::NoReceiver));
        log.receiver("shop", Receiver::Unverified { url: "http://a/".into(), reason: None });
        assert_eq!(log.replay(id), Err(ReplayError::NoReceiver));
        ready(&log);
        assert_eq!(log.replay(id), Ok(("shop".into(), Replay::Waiting(ConversationId(7)))));
        log.tried(&row(1), Some(attempt(200)), Fate::Delivered);
        assert_eq!(log.replay(id), Ok(("shop".into(), Replay::Again)));
        assert_eq!(log.replay(id), Err(ReplayError::Busy));
        log.replayed(id, Attempt { replay: true, ..attempt(200) });
        assert_eq!(log.replay(id), Ok(("shop".into(), Replay::Again)));
        assert_eq!(log.body(id).unwrap().as_slice(), b"{}");
        assert_eq!(log.replay(999), Err(ReplayError::Unknown));
    }

    #[test]
    fn replays_at_once_are_bounded() {
        let log = Log::new();
        ready(&log);
        for n in 0..=REPLAYS as u64 {
            webhook(&log, n, "{}");
            log.tried(&row(n), None, Fate::Delivered);
        }
        let ids: Vec<_> = news(&log, 0).1.iter().map(|e| e["id"].as_u64().unwrap()).collect();
        let results: Vec<_> = ids.iter().map(|id| log.replay(*id).is_ok()).collect();
        assert_eq!(results.iter().filter(|ok| **ok).count(), REPLAYS);
    }

    #[test]
    fn attempts_are_bounded_and_counted() {
        let log = Log::new();
        webhook(&log, 1, "{}");
        for n in 0..100 {
            log.tried(&row(1), Some(attempt(400 + n)), Fate::Waiting { next_ms: None });
        }
        let entry = news(&log, 0).1.remove(0);
        assert_eq!(entry["tries"], 100);
        assert_eq!(entry["attempts"].as_array().unwrap().len(), ATTEMPTS);
        assert_eq!(entry["attempts"][ATTEMPTS - 1]["status"], 499);
    }

    #[tokio::test]
    async fn without_a_console_nothing_is_kept() {
        let log = Log::default();
        webhook(&log, 1, "canary");
        log.call(1, None, call("canary"));
        assert!(!log.keeps() && news(&log, 0).1.is_empty());
        assert!(!format!("{log:?}").contains("canary"));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_change() {
        let log = Log::new();
        let mut waits = std::pin::pin!(log.newer(0));
        tokio::select! {
            biased;
            () = &mut waits => panic!("there is nothing yet"),
            () = std::future::ready(()) => {}
        }
        webhook(&log, 1, "{}");
        waits.await;
        log.newer(0).await;
    }
}
