//! One mailbox: who owns it, who reads it, and what waits in it.
//!
//! All state is behind one mutex that is held for moments only, never across I/O or an await. Order comes from that: whoever holds
//! it numbers an envelope and hands it to the writer (or to the reader's outbox) before letting go, so that the order of
//! numbers, of stored rows and of deliveries is one and the same.
//!
//! A mailbox is in one of three states, none of which is written down as such:
//!
//! - *away*: there is no reader; envelopes are stored.
//! - *catching up*: the reader's cursor has not reached the end of what was stored, or the reader was too slow and has not yet confirmed
//!   what was stored for that; new envelopes queue behind it in the store.
//! - *live* ([`Reader::is_live`]): new envelopes are handed over in memory and wait for the reader's `Ack`. Unconfirmed ones are *spilled*
//!   (stored in order, in one batch) when one of them waits too long, when the window is full, and when the reader goes.
//!
//! `Accepted` is said by [`sends::Sends::accept`] alone, which runs when the reader confirmed or when the writer's batch is durable.

pub(crate) mod rate;
mod reader;
pub(crate) mod sends;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_protocol::frame::{Code, Superseded, server_frame::Body};
use bulla_protocol::id::{GrantId, Incarnation, MailboxId, SendId};
use bulla_protocol::limits::{
    CONTACT_SHARE, CONTACT_WINDOW, MAILBOX_BYTES, MAILBOX_ENVELOPES, MEMORY_PER_MAILBOX, RETENTION_DAYS,
    REVOCATIONS_PER_MAILBOX, WINDOW,
};
use bulla_protocol::permit::{Class, MacRoot, Permit};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits;
use crate::memory::{Budget, Reserved};
use crate::metrics::Metrics;
use crate::outbox::{ConnectionId, Outbox, Refusal, Waiter};
use crate::sabotage::{Rule, broken};
use crate::store::{Loaded, MailboxRecord, Row, Usage, Write};
use crate::writer::Writer;
use reader::Reader;
pub(crate) use reader::{Step, SubscriptionId};
use sends::{Seen, SendKey, Sends};

/// An envelope whose permit was proven; only [`crate::connection`]'s check makes one.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The permit that allows it.
    pub(crate) permit: Permit,
    /// The sender's id for it.
    pub(crate) send: SendId,
    /// Ciphertext.
    pub(crate) envelope: Bytes,
}

/// What all mailboxes and slots of a relay share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The only way to stable storage.
    pub(crate) writer: Writer,
    /// Memory for envelopes and commits that are not stored.
    pub(crate) budget: Arc<Budget>,
    /// How long a live reader may take to confirm.
    pub(crate) handover: Duration,
    /// Numbers of all of it.
    pub(crate) metrics: Arc<Metrics>,
}

/// A mailbox in memory.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: MailboxId,
    owner_key: [u8; 32],
    root: MacRoot,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
enum Life {
    Exists,
    Deleted,
}

#[derive(Debug)]
struct Inner {
    life: Life,
    incarnation: Incarnation,
    month: u32,
    revoked: BTreeSet<GrantId>,
    /// Everything unconfirmed, in memory and stored.
    usage: Usage,
    /// Envelopes that expired and whose gap was not acknowledged.
    gap: u64,
    /// No row before this order is left.
    first: u64,
    /// The order that the next row gets.
    next: u64,
    /// The highest order on stable storage.
    durable: u64,
    /// Rows on their way to stable storage: orders `durable + 1 .. next`, without holes.
    pending: VecDeque<Row>,
    /// Expired rows whose removal is not on stable storage yet: a read may still show them.
    expired: BTreeSet<u64>,
    /// Counts removals that became durable, so that a read from before one is known to be stale.
    removals: u64,
    reader: Option<Reader>,
    holders: HashMap<ConnectionId, (Incarnation, Outbox)>,
    sends: Sends,
    rates: rate::Rates,
    used: Instant,
}

impl Mailbox {
    /// A mailbox as the store has it, or a new one.
    #[must_use]
    pub(crate) fn new(id: MailboxId, loaded: Loaded, shared: Arc<Shared>) -> Arc<Self> {
        let Loaded { record, revoked, usage, first, next, gap } = loaded;
        Arc::new(Self {
            id,
            owner_key: record.owner_key,
            root: record.root,
            shared,
            inner: Mutex::new(Inner {
                life: Life::Exists,
                incarnation: record.incarnation,
                month: record.month,
                revoked,
                usage,
                gap,
                first,
                next,
                durable: next.saturating_sub(1),
                pending: VecDeque::new(),
                expired: BTreeSet::new(),
                removals: 0,
                reader: None,
                holders: HashMap::new(),
                sends: Sends::default(),
                rates: rate::Rates::default(),
                used: Instant::now(),
            }),
        })
    }

    /// Its name.
    #[must_use]
    pub(crate) fn id(&self) -> &MailboxId {
        &self.id
    }

    /// The key that proves ownership.
    #[must_use]
    pub(crate) fn owner_key(&self) -> &[u8; 32] {
        &self.owner_key
    }

    /// From which grants are derived.
    #[must_use]
    pub(crate) fn root(&self) -> &MacRoot {
        &self.root
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.used = Instant::now();
        inner
    }

    // ------------------------------------------------------------ owning

    /// Whether this grant may be used, as far as revocation goes.
    #[must_use]
    pub(crate) fn allows(&self, grant: &GrantId) -> bool {
        let inner = self.lock();
        inner.life == Life::Exists && !inner.revoked.contains(grant)
    }

    /// Whether this mailbox can stand for a repeated `Create`.
    pub(crate) fn made_by(&self, owner_key: &[u8; 32], root: &MacRoot) -> Result<(), Refusal> {
        use subtle::ConstantTimeEq;
        if self.lock().life == Life::Deleted {
            return Err(Refusal::after(Code::Unavailable, limits::RETRY_BUSY_MS));
        }
        let same = self.owner_key == *owner_key && bool::from(self.root.expose().ct_eq(root.expose()));
        if same { Ok(()) } else { Err(Code::Taken.into()) }
    }

    /// Lets a connection, whose signature was checked, hold the mailbox; the receiver is told once that is durable.
    pub(crate) fn open(
        self: &Arc<Self>,
        incarnation: Incarnation,
        month: u32,
        outbox: &Outbox,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        let mut inner = self.lock();
        if inner.life == Life::Deleted {
            return Err(Code::Denied.into());
        }
        if !incarnation.holds_against(&inner.incarnation) && !broken(Rule::IncarnationCompared) {
            return Err(Refusal::superseded(inner.incarnation.number));
        }
        let changed = inner.incarnation != incarnation || inner.month != month;
        inner.incarnation = incarnation;
        inner.month = month;
        let writes = if changed { vec![Write::PutMailbox(self.id, self.record(&inner))] } else { Vec::new() };
        let (done, wait) = oneshot::channel();
        let (mailbox, outbox) = (Arc::clone(self), outbox.clone());
        // Even without a change this waits its turn: the same incarnation may be on its way to the disk for another connection.
        self.shared.writer.enqueue(
            writes,
            Box::new(move || {
                mailbox.opened(incarnation, outbox);
                let _ = done.send(());
            }),
        );
        Ok(wait)
    }

    fn opened(self: &Arc<Self>, incarnation: Incarnation, outbox: Outbox) {
        let mut inner = self.lock();
        // A holder that raises its own incarnation keeps what it holds, its subscription too.
        let lower: Vec<ConnectionId> = inner
            .holders
            .iter()
            .filter(|(connection, _)| **connection != outbox.connection())
            .filter(|(_, (held, _))| *held != incarnation && incarnation.holds_against(held))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in lower {
            if let Some((_, outbox)) = inner.holders.remove(&connection) {
                outbox.push(0, Body::Superseded(Superseded { mailbox: self.id.to_vec() }), None);
            }
            if inner.reader.as_ref().is_some_and(|reader| reader.connection() == connection) {
                self.drop_reader(&mut inner);
            }
        }
        inner.holders.insert(outbox.connection(), (incarnation, outbox));
    }

    /// Whether the connection opened it and was not superseded.
    #[must_use]
    pub(crate) fn is_held_by(&self, connection: ConnectionId) -> bool {
        self.lock().holders.contains_key(&connection)
    }

    /// The connection is gone: what it has not confirmed is stored.
    pub(crate) fn release(self: &Arc<Self>, connection: ConnectionId) {
        let mut inner = self.lock();
        inner.holders.remove(&connection);
        if inner.reader.as_ref().is_some_and(|reader| reader.connection() == connection) {
            self.drop_reader(&mut inner);
        }
    }

    /// Refuses a grant from now on; the receiver is told once that is durable.
    pub(crate) fn revoke(&self, grant: GrantId) -> Result<oneshot::Receiver<()>, Code> {
        let mut inner = self.lock();
        if !inner.revoked.contains(&grant) && inner.revoked.len() as u64 >= REVOCATIONS_PER_MAILBOX {
            return Err(Code::Limit);
        }
        let is_new = inner.revoked.insert(grant) && !broken(Rule::RevocationStored);
        let writes = if is_new { vec![Write::Revoke(self.id, grant)] } else { Vec::new() };
        Ok(self.enqueue_told(writes))
    }

    /// Replaces the contact bundle; the receiver is told once that is durable.
    pub(crate) fn publish(&self, bundle: Option<Bytes>) -> Result<oneshot::Receiver<()>, Code> {
        let inner = self.lock();
        if inner.life == Life::Deleted {
            return Err(Code::Denied);
        }
        Ok(self.enqueue_told(vec![Write::PutBundle(self.id, bundle)]))
    }

    /// Waits until all that was queued for it is durable.
    pub(crate) fn barrier(&self) -> oneshot::Receiver<()> {
        let _order = self.lock();
        self.enqueue_told(Vec::new())
    }

    fn enqueue_told(&self, writes: Vec<Write>) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        self.shared.writer.enqueue(
            writes,
            Box::new(move || {
                let _ = done.send(());
            }),
        );
        wait
    }

    /// Deletes it with all that belongs to it; `then` runs once that is durable.
    pub(crate) fn delete(&self, then: Box<dyn FnOnce() + Send>) {
        let mut inner = self.lock();
        if inner.life == Life::Deleted {
            // Queued behind the first deletion.
            self.shared.writer.enqueue(Vec::new(), then);
            return;
        }
        inner.life = Life::Deleted;
        inner.holders.clear();
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        inner.sends.refuse_all(Code::Refused);
        self.shared.writer.enqueue(vec![Write::DropMailbox(self.id)], then);
    }

    /// Whether it may leave the memory: nobody reads, nothing is on its way, nothing worth keeping is remembered.
    #[must_use]
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sends.tidy(now);
        inner.rates.tidy(now);
        inner.life == Life::Exists
            && inner.holders.is_empty()
            && inner.reader.is_none()
            && inner.pending.is_empty()
            && inner.expired.is_empty()
            && inner.sends.is_empty()
            && now.duration_since(inner.used) > limits::MAILBOX_IDLE
    }

    /// Renews it if it is held, and says whether it is.
    pub(crate) fn renew_if_held(&self, month: u32) -> bool {
        let mut inner = self.lock();
        let held = !inner.holders.is_empty();
        if held && inner.month != month {
            inner.month = month;
            self.shared.writer.enqueue(vec![Write::PutMailbox(self.id, self.record(&inner))], Box::new(|| ()));
        }
        held
    }

    fn record(&self, inner: &Inner) -> MailboxRecord {
        MailboxRecord {
            owner_key: self.owner_key,
            root: self.root.clone(),
            incarnation: inner.incarnation,
            month: inner.month,
        }
    }

    // ------------------------------------------------------------ sending

    /// Takes an envelope and answers its waiter: now if it is refused, otherwise once the recipient or stable storage has it.
    pub(crate) fn submit(self: &Arc<Self>, admitted: Admitted, today: u32, waiter: Waiter) {
        let now = Instant::now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Admitted { permit, send, envelope } = admitted;
        if inner.life == Life::Deleted || inner.revoked.contains(&permit.grant) {
            return waiter.refuse(Code::Refused);
        }
        let key = (permit.grant, send);
        let Seen::New(waiter) = inner.sends.join(&key, waiter) else { return };
        let reserved = match self.admit(inner, &permit, envelope.len(), now) {
            Ok(reserved) => reserved,
            Err(refusal) => return waiter.refuse(refusal),
        };
        inner.usage.add(permit.class, envelope.len());
        inner.sends.begin(key, waiter);
        let row = Row { day: today.saturating_add(RETENTION_DAYS), class: permit.class, tag: permit.tag, envelope };
        let fresh = Fresh { row, key, reserved };
        match inner.reader.as_mut() {
            Some(reader) if reader.is_live(inner.next) && reader.has_room(fresh.row.envelope.len()) => {
                reader.hand_over(fresh, now + self.shared.handover);
            }
            Some(reader) if reader.is_live(inner.next) => self.spill(inner, Some(fresh)),
            _ => self.store(inner, vec![fresh]),
        }
    }

    /// Rates, shares, quota and memory, in the order in which a refusal says the most.
    fn admit(&self, inner: &mut Inner, permit: &Permit, bytes: usize, now: Instant) -> Result<Reserved, Refusal> {
        inner.rates.take(permit.grant, u32::from(permit.rate), now).map_err(Refusal::rate)?;
        let full = Refusal::after(Code::Full, limits::RETRY_FULL_MS);
        let usage = inner.usage;
        if permit.class == Class::Contact {
            inner.rates.take_contact(now).map_err(Refusal::rate)?;
            if usage.contact_envelopes >= MAILBOX_ENVELOPES / CONTACT_SHARE
                || usage.contact_bytes + bytes as u64 > MAILBOX_BYTES / CONTACT_SHARE
            {
                return Err(full);
            }
            let next = inner.next;
            if inner.reader.as_ref().is_some_and(|r| r.is_live(next) && r.contact() >= CONTACT_WINDOW) {
                return Err(Refusal::after(Code::Full, limits::RETRY_WINDOW_MS));
            }
        }
        if usage.envelopes >= MAILBOX_ENVELOPES || usage.bytes + bytes as u64 > MAILBOX_BYTES {
            return Err(full);
        }
        self.shared.budget.reserve(bytes).ok_or(Refusal::after(Code::Unavailable, limits::RETRY_UNAVAILABLE_MS))
    }

    /// Gives rows their orders and queues them for stable storage; their senders are answered when they are there.
    fn store(self: &Arc<Self>, inner: &mut Inner, rows: Vec<Fresh>) {
        if rows.is_empty() {
            return;
        }
        let mut writes = Vec::with_capacity(rows.len());
        let mut keys = Vec::with_capacity(rows.len());
        for Fresh { row, key, reserved } in rows {
            writes.push(Write::PutRow(self.id, inner.next, row.clone()));
            inner.pending.push_back(row);
            inner.next += 1;
            keys.push((key, reserved));
        }
        let through = inner.next - 1;
        let mailbox = Arc::clone(self);
        self.shared.writer.enqueue(writes, Box::new(move || mailbox.stored(through, keys)));
        if let Some(reader) = &inner.reader {
            reader.wake();
        }
    }

    fn stored(&self, through: u64, keys: Vec<(SendKey, Reserved)>) {
        let now = Instant::now();
        let mut inner = self.lock();
        let count = usize::try_from(through - inner.durable).unwrap_or(usize::MAX).min(inner.pending.len());
        inner.pending.drain(..count);
        inner.durable = through;
        self.shared.metrics.rows.inc_by(keys.len() as u64);
        for (key, _reserved) in keys {
            if inner.sends.accept(key, now) {
                self.shared.metrics.stored.inc();
            }
        }
    }

    /// Stores in order what the reader has not confirmed, and then `newest`, in one batch. The reader is taken to be slow: it
    /// gets the rest from the store until it has confirmed all of that.
    fn spill(self: &Arc<Self>, inner: &mut Inner, newest: Option<Fresh>) {
        let mut next = inner.next;
        let mut rows = inner.reader.as_mut().map(|reader| reader.spill(&mut next)).unwrap_or_default();
        self.shared.metrics.spilled.inc_by(rows.len() as u64);
        rows.extend(newest);
        tracing::debug!(mailbox = ?self.id, envelopes = rows.len(), "unconfirmed envelopes go to stable storage");
        self.store(inner, rows);
    }

    fn drop_reader(self: &Arc<Self>, inner: &mut Inner) {
        if let Some(mut reader) = inner.reader.take() {
            let mut next = inner.next;
            let rows = reader.spill(&mut next);
            self.shared.metrics.spilled.inc_by(rows.len() as u64);
            self.store(inner, rows);
            reader.wake();
        }
    }
}

/// An accepted envelope that is in memory only.
#[derive(Debug)]
struct Fresh {
    row: Row,
    key: SendKey,
    reserved: Reserved,
}

/// Whether the row's last day has passed.
fn is_over(row: &Row, today: u32) -> bool {
    row.day < today
}

impl Inner {
    /// Takes an expired row out of the count and notes the gap; the caller queues the removal.
    fn expire(&mut self, order: u64, row: &Row) {
        self.usage.remove(row.class, row.envelope.len());
        self.gap += 1;
        self.expired.insert(order);
        if order == self.first {
            self.first += 1;
        }
    }
}

const _: () = assert!(CONTACT_WINDOW < WINDOW && MEMORY_PER_MAILBOX > 0);
