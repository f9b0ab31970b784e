//! A mailbox's reader: its subscription, what it was given and has not confirmed, and how it catches up.
//!
//! A task of its own ([`Mailbox::step`] says what to do next) reads pages from the store for it, so that no lock is held while a
//! disk is read. What it was given is a queue by delivery number: first what is stored, then what is in memory only.

use std::collections::VecDeque;
use std::sync::Arc;

use bulla_protocol::frame::{CaughtUp, Deliver, Gap, server_frame::Body};
use bulla_protocol::limits::{MEMORY_PER_MAILBOX, WINDOW};
use bulla_protocol::permit::Class;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::sends::SendKey;
use super::{Fresh, Inner, Life, Mailbox, is_over};
use crate::limits;
use crate::outbox::{ConnectionId, Outbox};
use crate::sabotage::{Rule, broken};
use crate::store::{Page, Row, Write};

/// A subscription of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscriptionId {
    /// Whose.
    pub(crate) connection: ConnectionId,
    /// Its number on that connection.
    pub(crate) number: u64,
}

/// Something delivered and not confirmed.
#[derive(Debug)]
struct Unconfirmed {
    number: u64,
    held: Held,
}

/// Where an unconfirmed envelope is.
#[derive(Debug)]
enum Held {
    /// In memory only; its sender waits.
    Memory { fresh: Fresh, until: Instant },
    /// In the store, or on its way there.
    Stored { order: u64, class: Class, bytes: usize, key: Option<SendKey> },
    /// Nowhere any more: a marker for so many that expired.
    Gap(u64),
}

#[derive(Debug)]
pub(super) struct Reader {
    id: SubscriptionId,
    outbox: Outbox,
    wake: Arc<Notify>,
    /// The next order to deliver from the store.
    cursor: u64,
    /// What waited when it subscribed ends before this order.
    waited: u64,
    caught_up: bool,
    /// Was too slow, and has not yet confirmed what was stored for that.
    slow: bool,
    next_number: u64,
    unconfirmed: VecDeque<Unconfirmed>,
    /// Of these, stored.
    stored: usize,
    /// Of these, of the contact class.
    contact: usize,
    /// Bytes of those in memory.
    memory: usize,
    /// Expired envelopes that were announced and not acknowledged.
    announced: u64,
    /// Its task will look by then whether something in memory has waited too long.
    watched: Option<Instant>,
}

/// What a reader's task does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Read these orders from the store and give them to [`Mailbox::deliver`].
    Read {
        /// First order.
        from: u64,
        /// Last order; all up to here are on stable storage.
        through: u64,
        /// How much.
        page: Page,
        /// Tells a stale read.
        removals: u64,
    },
    /// Wait for the client to read, or until woken, or until this moment.
    Congested(Outbox, Arc<Notify>, Option<Instant>),
    /// Wait until woken, or until this moment.
    Wait(Arc<Notify>, Option<Instant>),
    /// The subscription is over.
    Over,
}

impl Reader {
    pub(super) fn connection(&self) -> ConnectionId {
        self.id.connection
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn contact(&self) -> usize {
        self.contact
    }

    /// Everything that was stored has been delivered, so the next envelope may be handed over in memory without overtaking any.
    pub(super) fn is_live(&self, next: u64) -> bool {
        self.caught_up && !self.slow && self.cursor == next || broken(Rule::BacklogFirst)
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let in_window = self.unconfirmed.len() < WINDOW || broken(Rule::WindowKept);
        in_window && self.memory + bytes <= MEMORY_PER_MAILBOX && !self.outbox.is_congested()
    }

    /// Delivers an envelope that is nowhere else yet.
    pub(super) fn hand_over(&mut self, fresh: Fresh, until: Instant) {
        self.memory += fresh.row.envelope.len();
        let row = fresh.row.clone();
        self.deliver(&row, Held::Memory { fresh, until });
        // Not for every envelope: when its task wakes for an earlier one, which was confirmed, it sees what it has to wait for next.
        if self.watched.is_none_or(|watched| watched > until) {
            self.wake();
        }
    }

    fn memory_front(&self) -> Option<Instant> {
        self.unconfirmed.iter().skip(self.stored).find_map(|u| match &u.held {
            Held::Memory { until, .. } => Some(*until),
            _ => None,
        })
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn deliver(&mut self, row: &Row, held: Held) {
        let number = self.number();
        if row.class == Class::Contact {
            self.contact += 1;
        }
        if matches!(held, Held::Stored { .. }) {
            self.stored += 1;
        }
        self.unconfirmed.push_back(Unconfirmed { number, held });
        let deliver = Deliver {
            subscription: self.id.number,
            number,
            tag: row.tag.to_vec(),
            class: row.class.to_wire().into(),
            envelope: row.envelope.clone(),
        };
        self.outbox.push(0, Body::Deliver(deliver), None);
    }

    fn deliver_stored(&mut self, order: u64, row: &Row) {
        self.cursor = order + 1;
        self.deliver(row, Held::Stored { order, class: row.class, bytes: row.envelope.len(), key: None });
    }

    /// Says how many expired before what comes next.
    fn announce(&mut self, gap: u64) {
        let envelopes = gap.saturating_sub(self.announced);
        if envelopes == 0 {
            return;
        }
        self.announced = gap;
        let number = self.number();
        self.unconfirmed.push_back(Unconfirmed { number, held: Held::Gap(envelopes) });
        self.outbox.push(0, Body::Gap(Gap { subscription: self.id.number, number, envelopes }), None);
    }

    fn say_caught_up(&mut self, gap: u64) {
        if !self.caught_up && self.cursor >= self.waited && self.announced >= gap {
            self.caught_up = true;
            self.outbox.push(0, Body::CaughtUp(CaughtUp { subscription: self.id.number }), None);
        }
    }

    /// Takes out what is in memory only, to be stored from order `next` on. It counts as delivered on this subscription.
    pub(super) fn spill(&mut self, next: &mut u64) -> Vec<Fresh> {
        let mut out = Vec::new();
        for unconfirmed in &mut self.unconfirmed {
            let Held::Memory { fresh, .. } = &unconfirmed.held else { continue };
            let (class, bytes) = (fresh.row.class, fresh.row.envelope.len());
            let stored = Held::Stored { order: *next, class, bytes, key: Some(fresh.key) };
            if let Held::Memory { fresh, .. } = std::mem::replace(&mut unconfirmed.held, stored) {
                *next += 1;
                self.stored += 1;
                out.push(fresh);
            }
        }
        if broken(Rule::SpillInOrder) {
            out.reverse();
        }
        self.memory = 0;
        self.slow = true;
        self.cursor = *next;
        out
    }
}

impl Mailbox {
    /// Starts a delivery at the oldest unconfirmed envelope, in place of any other. The caller runs the reader's task.
    pub(crate) fn subscribe(self: &Arc<Self>, id: SubscriptionId, outbox: &Outbox) -> bool {
        let mut inner = self.lock();
        if inner.life == Life::Deleted || !inner.holders.contains_key(&id.connection) {
            return false;
        }
        self.drop_reader(&mut inner);
        inner.reader = Some(Reader {
            id,
            outbox: outbox.clone(),
            wake: Arc::new(Notify::new()),
            cursor: inner.first,
            waited: inner.next,
            caught_up: false,
            slow: false,
            next_number: 1,
            unconfirmed: VecDeque::new(),
            stored: 0,
            contact: 0,
            memory: 0,
            announced: 0,
            watched: None,
        });
        true
    }

    /// What the reader's task does next. Delivers by itself what is still in memory on its way to the store.
    pub(crate) fn step(self: &Arc<Self>, id: SubscriptionId) -> Step {
        let now = Instant::now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(reader) = inner.reader.as_mut().filter(|reader| reader.id == id) else { return Step::Over };
        if reader.memory_front().is_some_and(|until| until <= now) {
            self.spill(inner, None);
        }
        let Some(reader) = inner.reader.as_mut() else { return Step::Over };
        loop {
            reader.say_caught_up(inner.gap);
            let window = if broken(Rule::WindowKept) { usize::MAX } else { WINDOW };
            let room = window.saturating_sub(reader.unconfirmed.len());
            if room == 0 {
                break;
            }
            if reader.outbox.is_congested() {
                reader.watched = reader.memory_front();
                return Step::Congested(reader.outbox.clone(), Arc::clone(&reader.wake), reader.watched);
            }
            if reader.cursor <= inner.durable {
                let page = Page { rows: room.min(limits::PAGE_ROWS), bytes: limits::PAGE_BYTES };
                let (from, through) = (reader.cursor, inner.durable);
                return Step::Read { from, through, page, removals: inner.removals };
            }
            let ahead = usize::try_from(reader.cursor - inner.durable - 1).unwrap_or(usize::MAX);
            reader.announce(inner.gap);
            let Some(row) = inner.pending.get(ahead) else { break };
            let order = reader.cursor;
            reader.deliver_stored(order, row);
        }
        reader.say_caught_up(inner.gap);
        reader.watched = reader.memory_front();
        Step::Wait(Arc::clone(&reader.wake), reader.watched)
    }

    /// Delivers a page that the reader's task has read; rows whose day is over become a gap instead.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        id: SubscriptionId,
        (from, through, removals): (u64, u64, u64),
        rows: &[(u64, Row)],
        today: u32,
    ) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(mut reader) = inner.reader.take() else { return };
        if reader.id == id && reader.cursor == from && inner.removals == removals {
            let mut over = Vec::new();
            for (order, row) in rows {
                if inner.expired.contains(order) {
                    reader.cursor = order + 1;
                } else if is_over(row, today) {
                    inner.expire(*order, row);
                    over.push(*order);
                    reader.cursor = order + 1;
                } else {
                    reader.announce(inner.gap);
                    reader.deliver_stored(*order, row);
                    if broken(Rule::KeptUntilAcked) {
                        self.shared.writer.enqueue(vec![Write::DropRows(self.id, vec![*order])], Box::new(|| ()));
                    }
                }
            }
            if rows.is_empty() {
                reader.cursor = through + 1;
            }
            inner.reader = Some(reader);
            self.forget(inner, over);
        } else {
            inner.reader = Some(reader);
        }
    }

    /// The reader has everything up to `through` durably.
    pub(crate) fn ack(&self, id: SubscriptionId, through: u64) {
        let now = Instant::now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let is_it = |reader: &&mut Reader| reader.id == id || broken(Rule::OldAcksIgnored);
        let Some(reader) = inner.reader.as_mut().filter(is_it) else { return };
        let mut orders = Vec::new();
        let mut gaps = 0;
        while reader.unconfirmed.front().is_some_and(|u| u.number <= through) {
            let Some(confirmed) = reader.unconfirmed.pop_front() else { break };
            let (class, bytes, key) = match confirmed.held {
                Held::Gap(envelopes) => {
                    gaps += envelopes;
                    continue;
                }
                Held::Memory { fresh, .. } => {
                    reader.memory -= fresh.row.envelope.len();
                    (fresh.row.class, fresh.row.envelope.len(), Some(fresh.key))
                }
                Held::Stored { order, class, bytes, key } => {
                    reader.stored -= 1;
                    inner.first = inner.first.max(order + 1);
                    orders.push(order);
                    (class, bytes, key)
                }
            };
            inner.usage.remove(class, bytes);
            if class == Class::Contact {
                reader.contact -= 1;
            }
            if let Some(key) = key
                && inner.sends.accept(key, now)
            {
                self.shared.metrics.handed_over.inc();
            }
        }
        if reader.stored == 0 {
            reader.slow = false;
        }
        reader.announced = reader.announced.saturating_sub(gaps);
        // Where all is delivered its task has nothing to do with the room that there is now.
        if !reader.caught_up || reader.cursor != inner.next {
            reader.wake();
        }
        let mut writes = Vec::new();
        if !orders.is_empty() {
            writes.push(Write::DropRows(self.id, orders));
        }
        if gaps > 0 {
            inner.gap = inner.gap.saturating_sub(gaps);
            writes.push(Write::PutGap(self.id, inner.gap));
        }
        if !writes.is_empty() {
            self.shared.writer.enqueue(writes, Box::new(|| ()));
        }
    }

    /// Where a sweep for expired rows reads next, at or after `from`: orders, and what tells a stale read.
    #[must_use]
    pub(crate) fn sweep_from(&self, from: u64) -> Option<(std::ops::RangeInclusive<u64>, u64)> {
        let inner = self.lock();
        let from = from.max(inner.first);
        (inner.life == Life::Exists && from <= inner.durable).then_some((from..=inner.durable, inner.removals))
    }

    /// Removes those of the read rows whose day is over. Says false if the read was stale and must be repeated.
    pub(crate) fn sweep(self: &Arc<Self>, removals: u64, rows: &[(u64, Row)], today: u32) -> bool {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.removals != removals || inner.life == Life::Deleted {
            return inner.life == Life::Deleted;
        }
        let mut over = Vec::new();
        for (order, row) in rows.iter().filter(|(_, row)| is_over(row, today)) {
            if *order < inner.first || inner.expired.contains(order) {
                continue;
            }
            if let Some(reader) = inner.reader.as_mut().filter(|reader| *order < reader.cursor) {
                // Delivered on this subscription: a gap that only the next one would see, unless this one still confirms.
                let is_it = |u: &&mut Unconfirmed| matches!(u.held, Held::Stored { order: o, .. } if o == *order);
                let held = reader.unconfirmed.iter_mut().find(is_it);
                let Some(held) = held else { continue };
                held.held = Held::Gap(1);
                reader.stored -= 1;
                reader.announced += 1;
                if row.class == Class::Contact {
                    reader.contact -= 1;
                }
            }
            inner.expire(*order, row);
            over.push(*order);
        }
        if let Some(reader) = &inner.reader {
            reader.wake();
        }
        self.forget(inner, over);
        true
    }

    /// Queues the removal of expired rows, with the count of the gap that they leave.
    fn forget(self: &Arc<Self>, inner: &Inner, over: Vec<u64>) {
        if over.is_empty() {
            return;
        }
        tracing::debug!(mailbox = ?self.id, envelopes = over.len(), "expired");
        let writes = vec![Write::DropRows(self.id, over.clone()), Write::PutGap(self.id, inner.gap)];
        let mailbox = Arc::clone(self);
        self.shared.writer.enqueue(
            writes,
            Box::new(move || {
                let mut inner = mailbox.lock();
                inner.expired.retain(|order| !over.contains(order));
                inner.removals += 1;
                if let Some(reader) = &inner.reader {
                    reader.wake();
                }
            }),
        );
    }
}
