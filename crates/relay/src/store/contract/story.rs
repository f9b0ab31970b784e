//! Random histories of a store: what a relay writes, in any order and any groups.

use std::collections::BTreeMap;

use bulla_protocol::id::{BlobId, GrantId, Incarnation, IncarnationNonce, MailboxId, SlotId, TagBlock};
use bulla_protocol::limits::RETENTION_DAYS;
use bulla_protocol::permit::{Class, MacRoot};
use bytes::Bytes;

use super::model::{Model, Named};
use crate::store::{BlobRecord, MailboxRecord, Row, Slot, Write};

/// One thing that happens; any three numbers are one.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What.
    pub kind: u8,
    /// To which mailbox, slot or blob.
    pub which: u8,
    /// How much.
    pub detail: u8,
}

/// A history under way.
#[derive(Debug, Clone)]
pub struct Story {
    /// What the store should show once everything so far is durable.
    pub model: Model,
    /// What it speaks of.
    pub named: Named,
    /// Rows of days before today were removed by what was said last: once that is durable, keys are to be destroyed.
    pub destroys: bool,
    next: BTreeMap<MailboxId, u64>,
    serial: u32,
}

/// Mailboxes, slots and blobs that a history has.
const EACH: u8 = 3;

impl Default for Story {
    fn default() -> Self {
        let ids = 1..=EACH;
        let named = Named {
            mailboxes: ids.clone().map(|n| MailboxId::new([n; 16])).collect(),
            slots: ids.clone().map(|n| SlotId::new([n; 32])).collect(),
            blobs: ids.map(|n| BlobId::new([n; 16])).collect(),
            today: 100,
        };
        Self { model: Model::default(), named, destroys: false, next: BTreeMap::new(), serial: 0 }
    }
}

impl Story {
    /// What a relay writes for this; the model has it already.
    pub fn tell(&mut self, step: Step) -> Vec<Write> {
        let writes = self.writes(step);
        self.model.apply(&writes);
        writes
    }

    /// The relay was started again: it knows of its mailboxes what the store shows.
    pub fn restarted(&mut self) {
        self.next.clear();
    }

    fn writes(&mut self, Step { kind, which, detail }: Step) -> Vec<Write> {
        let n = which % EACH + 1;
        let (id, today) = (MailboxId::new([n; 16]), self.named.today);
        match kind % 16 {
            0..=4 => self.rows(id, detail),
            5..=7 => {
                let orders = self.model.orders(&id, |_| true);
                let few = if detail.is_multiple_of(3) { orders.len() } else { 1 + usize::from(detail % 4) };
                self.drop_rows(id, orders.into_iter().take(few).collect())
            }
            // Expired in the middle.
            8 => {
                let orders = self.model.orders(&id, |row| row.envelope.len() % 3 == usize::from(detail % 3));
                let gap = Write::PutGap(id, orders.len() as u64);
                self.drop_rows(id, orders).into_iter().chain([gap]).collect()
            }
            9 => self.on(id, Write::Revoke(id, GrantId::new([detail % 8; 16]))),
            10 => {
                let bundle = (!detail.is_multiple_of(4)).then(|| Bytes::from(vec![detail; usize::from(detail) * 9]));
                self.on(id, Write::PutBundle(id, bundle))
            }
            11 => {
                let record = record(n, u64::from(detail));
                vec![Write::PutMailbox(id, record)]
            }
            12 => {
                let slot = SlotId::new([n; 32]);
                match self.model.slot(&slot) {
                    Some(there) => vec![Write::DropSlot(there.day, slot)],
                    None => {
                        let commit = Bytes::from(vec![detail; 1 + usize::from(detail) * 11]);
                        vec![Write::PutSlot(slot, Slot { day: today + u32::from(detail % 5), commit })]
                    }
                }
            }
            13 => {
                let blob = BlobId::new([n; 16]);
                let day = today + u32::from(detail % 7);
                match self.model.blob(&blob) {
                    Some(there) if detail.is_multiple_of(3) => vec![Write::DropBlob(there.day, blob)],
                    Some(there) => {
                        let record = BlobRecord { day, ..*there };
                        vec![Write::PutBlob(blob, record, (day != there.day).then_some(there.day))]
                    }
                    None => {
                        let (read_hash, write_hash) = ([detail; 32], [n; 32]);
                        let record =
                            BlobRecord { day, furthest: day + 60, bytes: u64::from(detail), read_hash, write_hash };
                        vec![Write::PutBlob(blob, record, None)]
                    }
                }
            }
            14 if detail < 64 => {
                self.next.remove(&id);
                vec![Write::DropMailbox(id)]
            }
            14 => self.rows(id, detail),
            _ => self.days_pass(u32::from(detail % 40)),
        }
    }

    /// Something that belongs to a mailbox, which is made if it is not there.
    fn on(&self, id: MailboxId, write: Write) -> Vec<Write> {
        self.made(id).into_iter().chain([write]).collect()
    }

    fn made(&self, id: MailboxId) -> Vec<Write> {
        let [n, ..] = *id.as_bytes();
        let made = (!self.model.has(&id)).then(|| Write::PutMailbox(id, record(n, 0)));
        made.into_iter().collect()
    }

    fn rows(&mut self, id: MailboxId, detail: u8) -> Vec<Write> {
        let day = self.named.today + RETENTION_DAYS;
        let mut writes = self.made(id);
        for _ in 0..1 + detail % 3 {
            self.serial += 1;
            let next = self.next.entry(id).or_insert_with(|| self.model.next(&id));
            let (order, length) = (*next, if detail.is_multiple_of(16) { 9_000 } else { 20 + usize::from(detail) });
            *next += 1;
            let class = if detail.is_multiple_of(5) { Class::Contact } else { Class::Ordinary };
            let envelope: Vec<u8> = self.serial.to_be_bytes().into_iter().cycle().take(length).collect();
            let row = Row { day, class, tag: TagBlock::new([detail; 16]), envelope: envelope.into() };
            writes.push(Write::PutRow(id, order, row));
        }
        writes
    }

    fn drop_rows(&self, id: MailboxId, orders: Vec<u64>) -> Vec<Write> {
        if orders.is_empty() { Vec::new() } else { vec![Write::DropRows(id, orders)] }
    }

    /// As a sweep does it.
    fn days_pass(&mut self, days: u32) -> Vec<Write> {
        self.named.today += days;
        let today = self.named.today;
        let mut writes = Vec::new();
        for id in &self.named.mailboxes {
            let over = self.model.orders(id, |row| row.day < today);
            if !over.is_empty() {
                writes.extend([Write::PutGap(*id, over.len() as u64), Write::DropRows(*id, over)]);
            }
        }
        writes.extend(self.model.days_before(today).into_iter().map(|(day, id)| Write::DropDay(day, id)));
        self.destroys = true;
        writes
    }
}

/// A mailbox's record.
pub(super) fn record(n: u8, incarnation: u64) -> MailboxRecord {
    let incarnation = Incarnation { number: incarnation, nonce: IncarnationNonce::new([n; 16]) };
    MailboxRecord { owner_key: [n; 32], root: MacRoot::new([n ^ 0xff; 32]), incarnation, month: 600 + u32::from(n) }
}
