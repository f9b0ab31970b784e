//! The relay's numbers, for its operator: how much of what, and never of whom.
//!
//! Every number is of the relay as a whole. The only labels are those of [`LABELS`], each with values that stand in
//! this file: there is none of a mailbox, a grant, a connection or an address, and nothing that a peer says becomes
//! one. `docs/metadata.md` says of each why it is harmless, and to whom it is not.
//!
//! Counting is a relaxed addition to an atomic number; the writer's thread alone also fills histograms, once for each
//! group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_protocol::frame::{Code, Role};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// What comes before each name.
const PREFIX: &str = "bulla_relay";

/// All labels that there are.
pub const LABELS: &[&str] = &["role", "way", "code", "version", "le"];

type Label = [(&'static str, &'static str); 1];
type Gauges = Gauge<u64, AtomicU64>;

/// Counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Connections that greet, that own, that send.
    greeting: Gauges,
    owners: Gauges,
    anonymous: Gauges,
    /// Connections for which there was no place.
    pub(crate) turned_away: Counter,
    /// Envelopes accepted because the recipient confirmed.
    pub(crate) handed_over: Counter,
    /// Envelopes accepted because they are stored.
    pub(crate) stored: Counter,
    /// Envelopes written to stable storage, answered or not.
    pub(crate) rows: Counter,
    /// Of these, handed over before and not confirmed in time.
    pub(crate) spilled: Counter,
    /// By [`Code`], in the order of `CODES`.
    refusals: Vec<Counter>,
    /// Bytes of all slots, and of all blobs.
    pub(crate) slot_bytes: Gauges,
    pub(crate) blob_bytes: Gauges,
    memory: Gauges,
    memory_limit: Gauges,
    mailboxes: Gauges,
    handshakes_refused: Counter,
    /// Changes in a group, and how long it took to be on stable storage.
    pub(crate) group: Histogram,
    pub(crate) sync: Histogram,
    registry: Registry,
}

/// Every code that a refusal can have, and its label.
const CODES: &[(Code, &str)] = &[
    (Code::Malformed, "malformed"),
    (Code::Version, "version"),
    (Code::Refused, "refused"),
    (Code::TooLarge, "too_large"),
    (Code::Rate, "rate"),
    (Code::Full, "full"),
    (Code::Work, "work"),
    (Code::Taken, "taken"),
    (Code::Denied, "denied"),
    (Code::Superseded, "superseded"),
    (Code::Busy, "busy"),
    (Code::Unavailable, "unavailable"),
    (Code::Unsupported, "unsupported"),
    (Code::Limit, "limit"),
];

impl Metrics {
    /// All at nothing.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let connections = Family::<Label, Gauges>::default();
        let role = |role| connections.get_or_create_owned(&[("role", role)]);
        let (greeting, owners, anonymous) = (role("greeting"), role("owner"), role("anonymous"));
        let accepted = Family::<Label, Counter>::default();
        let way = |way| accepted.get_or_create_owned(&[("way", way)]);
        let (handed_over, stored) = (way("handed_over"), way("stored"));
        let refused = Family::<Label, Counter>::default();
        let refusals = CODES.iter().map(|(_, code)| refused.get_or_create_owned(&[("code", code)])).collect();
        // From a group alone to the largest; from an SSD's tenth of a millisecond to a disk that hangs.
        let group = Histogram::new(exponential_buckets(1.0, 4.0, 8));
        let sync = Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        let this = Self {
            greeting,
            owners,
            anonymous,
            turned_away: Counter::default(),
            handed_over,
            stored,
            rows: Counter::default(),
            spilled: Counter::default(),
            refusals,
            slot_bytes: Gauges::default(),
            blob_bytes: Gauges::default(),
            memory: Gauges::default(),
            memory_limit: Gauges::default(),
            mailboxes: Gauges::default(),
            handshakes_refused: Counter::default(),
            group,
            sync,
            registry: Registry::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which version this is", build);
        registry.register("connections", "Connections that are open", connections);
        registry.register(
            "connections_turned_away",
            "Connections for which there was no place",
            this.turned_away.clone(),
        );
        registry.register("accepted", "Envelopes that were accepted", accepted);
        registry.register("refusals", "Requests that were refused", refused);
        registry.register("rows_stored", "Envelopes that were written to stable storage", this.rows.clone());
        registry.register(
            "rows_spilled",
            "Envelopes stored because a reader did not confirm in time",
            this.spilled.clone(),
        );
        registry.register("slot_bytes", "What commit slots take of their room", this.slot_bytes.clone());
        registry.register("blob_bytes", "What attachments take of their room", this.blob_bytes.clone());
        registry.register("memory_bytes", "Envelopes and claims that are in memory only", this.memory.clone());
        registry.register("memory_limit_bytes", "What these may take", this.memory_limit.clone());
        registry.register("mailboxes_loaded", "Mailboxes that are in memory", this.mailboxes.clone());
        registry.register("handshakes_refused", "TLS handshakes that failed", this.handshakes_refused.clone());
        registry.register("group_changes", "Changes that were written with one sync", this.group.clone());
        registry.register("sync_seconds", "How long it took until a group was on stable storage", this.sync.clone());
        Self { registry, ..this }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: i32) {
        let of_code = CODES.iter().position(|(known, _)| *known as i32 == code);
        if let Some(counter) = of_code.and_then(|index| self.refusals.get(index)) {
            counter.inc();
        }
    }

    /// Counts a connection until it is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.greeting.inc();
        Connected { metrics: Arc::clone(self), role: Role::Unspecified }
    }

    fn of_role(&self, role: Role) -> &Gauges {
        match role {
            Role::Owner => &self.owners,
            Role::Anonymous => &self.anonymous,
            Role::Unspecified => &self.greeting,
        }
    }

    /// All numbers in OpenMetrics text, with those that are looked up now.
    pub(crate) fn text(&self, now: &Now) -> Result<String, std::fmt::Error> {
        self.memory.set(now.memory);
        self.memory_limit.set(now.memory_limit);
        self.mailboxes.set(now.mailboxes);
        self.handshakes_refused.inner().store(now.handshakes_refused, Ordering::Relaxed);
        let mut out = String::new();
        encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// What is counted elsewhere, and looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    pub(crate) mailboxes: u64,
    pub(crate) handshakes_refused: u64,
}

/// A connection, as it is counted.
#[derive(Debug)]
pub(crate) struct Connected {
    metrics: Arc<Metrics>,
    role: Role,
}

impl Connected {
    /// It has said what it is.
    pub(crate) fn is(&mut self, role: Role) {
        self.metrics.of_role(self.role).dec();
        self.role = role;
        self.metrics.of_role(role).inc();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.metrics.of_role(self.role).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_of_its_own() {
        let metrics = Metrics::new();
        for code in (1..).map_while(|wire| Code::try_from(wire).ok()) {
            metrics.refused(code as i32);
        }
        metrics.refused(99);
        assert!(metrics.refusals.iter().all(|counter| counter.get() == 1));
        assert!(Code::try_from(CODES.len() as i32 + 1).is_err());
    }

    #[test]
    fn a_connection_is_counted_once_at_a_time() {
        let metrics = Arc::new(Metrics::new());
        let counted = || [&metrics.greeting, &metrics.owners, &metrics.anonymous].map(|gauge| gauge.get());
        let mut one = metrics.connected();
        let other = metrics.connected();
        assert_eq!(counted(), [2, 0, 0]);
        one.is(Role::Owner);
        assert_eq!(counted(), [1, 1, 0]);
        drop(other);
        drop(one);
        assert_eq!(counted(), [0, 0, 0]);
    }
}
