//! What the relay keeps on stable storage, as a trait, so that another engine can stand in and tests can inject faults.
//!
//! Reads are blocking and may run on any thread that may block. Writes happen through [`Store::commit`] alone, which only the
//! [writer's](crate::writer) own thread calls: one call is one atomic batch that is on stable storage when it returns. A batch is visible to reads
//! only when it is durable, and whole, so whoever reads a row may hand it out.
//!
//! A store knows nothing of readers, permits or limits; [`mailbox`](crate::mailbox) does. What every store has to show is a suite of tests, `contract`.

#[cfg(any(test, feature = "under-test"))]
pub mod contract;
pub mod fjall;
mod keys;
mod older;
pub mod rows;
mod tail;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bulla_protocol::id::{BlobId, GrantId, Incarnation, InstanceId, MailboxId, SlotId, TagBlock};
use bulla_protocol::permit::{Class, MacRoot};
use bytes::Bytes;

/// A mailbox, as it is kept.
#[derive(Debug, Clone)]
pub struct MailboxRecord {
    /// Ed25519 public key of its owner.
    pub owner_key: [u8; 32],
    /// Grants are derived from it.
    pub root: MacRoot,
    /// The highest incarnation that opened it; number 0 before the first.
    pub incarnation: Incarnation,
    /// Month (of 30 days since the epoch) in which its owner was last seen.
    pub month: u32,
}

/// An envelope that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Last day (since the epoch) on which it waits.
    pub day: u32,
    /// Which door it came through.
    pub class: Class,
    /// Handed back to the owner; opaque here.
    pub tag: TagBlock,
    /// Ciphertext.
    pub envelope: Bytes,
}

/// A commit slot that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Last day (since the epoch) on which it stands.
    pub day: u32,
    /// What the winner wrote; opaque here.
    pub commit: Bytes,
}

impl Slot {
    /// Whether its last day has passed: it counts as never claimed, also before it is swept.
    #[must_use]
    pub fn is_over(&self, today: u32) -> bool {
        self.day < today
    }
}

/// A slot's place in the index by which expiry finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotEntry {
    /// Last day on which it stands.
    pub day: u32,
    /// Its id.
    pub slot: SlotId,
    /// Bytes of its commit.
    pub bytes: u32,
}

/// A blob, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRecord {
    /// Last day (since the epoch) on which it is kept.
    pub day: u32,
    /// The last day to which it can be extended.
    pub furthest: u32,
    /// Its whole length.
    pub bytes: u64,
    /// Hash of the key that reads it.
    pub read_hash: [u8; 32],
    /// Hash of the key that writes it.
    pub write_hash: [u8; 32],
}

impl BlobRecord {
    /// Whether its last day has passed: it counts as gone, also before it is swept.
    #[must_use]
    pub fn is_over(&self, today: u32) -> bool {
        self.day < today
    }
}

/// A blob's place in the index by which expiry finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobEntry {
    /// Last day on which it is kept.
    pub day: u32,
    /// Its id.
    pub blob: BlobId,
    /// Its whole length.
    pub bytes: u64,
}

/// What waits in a mailbox, against its quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Envelopes of both classes.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, envelopes of the contact class.
    pub contact_envelopes: u64,
    /// Their bytes.
    pub contact_bytes: u64,
}

impl Usage {
    /// Counts one more envelope.
    pub fn add(&mut self, class: Class, bytes: usize) {
        self.envelopes += 1;
        self.bytes += bytes as u64;
        if class == Class::Contact {
            self.contact_envelopes += 1;
            self.contact_bytes += bytes as u64;
        }
    }

    /// Counts one less.
    pub fn remove(&mut self, class: Class, bytes: usize) {
        self.envelopes = self.envelopes.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        if class == Class::Contact {
            self.contact_envelopes = self.contact_envelopes.saturating_sub(1);
            self.contact_bytes = self.contact_bytes.saturating_sub(bytes as u64);
        }
    }
}

/// Everything about one mailbox but its envelopes.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The record itself.
    pub record: MailboxRecord,
    /// Grants that are refused.
    pub revoked: BTreeSet<GrantId>,
    /// What waits.
    pub usage: Usage,
    /// Order of the oldest row, or `next` if there is none.
    pub first: u64,
    /// The order that the next row gets.
    pub next: u64,
    /// Envelopes that expired and whose gap was not acknowledged.
    pub gap: u64,
}

/// How much one read may bring into memory.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// At most so many rows.
    pub rows: usize,
    /// Stops after the row that reaches so many bytes.
    pub bytes: usize,
}

/// One change. A batch of them is applied in its order, whole or not at all.
#[derive(Debug, Clone)]
pub enum Write {
    /// Makes or replaces a mailbox's record.
    PutMailbox(MailboxId, MailboxRecord),
    /// Removes a mailbox with everything that belongs to it.
    DropMailbox(MailboxId),
    /// Stores an envelope at its order, and its last day for expiry to find.
    PutRow(MailboxId, u64, Row),
    /// Removes envelopes.
    DropRows(MailboxId, Vec<u64>),
    /// Refuses a grant for ever.
    Revoke(MailboxId, GrantId),
    /// Replaces the contact bundle; `None` removes it.
    PutBundle(MailboxId, Option<Bytes>),
    /// Sets how many envelopes expired unseen.
    PutGap(MailboxId, u64),
    /// The mailbox has no rows any more whose last day is this: expiry needs not find it.
    DropDay(u32, MailboxId),
    /// Fills a slot that is free, and its place in the index.
    PutSlot(SlotId, Slot),
    /// Frees a slot of this last day, and its place in the index.
    DropSlot(u32, SlotId),
    /// Makes or replaces a blob's record; if it had another last day, that place in the index goes.
    PutBlob(BlobId, BlobRecord, Option<u32>),
    /// Removes a blob's record of this last day, and its place in the index.
    DropBlob(u32, BlobId),
}

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the data folder.
    #[error("the data folder is in use by a running relay")]
    Locked,
    /// The engine or the disk under it failed.
    #[error("the store failed: {0}")]
    Engine(String),
    /// Bytes in the store are not what this version writes.
    #[error("the store holds a {0} that this version cannot read")]
    Format(&'static str),
}

/// Stable storage of one relay.
pub trait Store: Send + Sync + 'static {
    /// The installation's id, made at its first start.
    fn instance(&self) -> InstanceId;

    /// A mailbox, if there is one.
    fn load(&self, mailbox: &MailboxId) -> Result<Option<Loaded>, StoreError>;

    /// Envelopes of a mailbox in their order.
    fn rows(&self, mailbox: &MailboxId, orders: RangeInclusive<u64>, page: Page)
    -> Result<Vec<(u64, Row)>, StoreError>;

    /// The contact bundle, if one was published.
    fn bundle(&self, mailbox: &MailboxId) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` mailboxes in which envelopes wait, with the last days before `day` of such envelopes, oldest first. There may be more: of envelopes
    /// that are gone, while others wait.
    fn days_before(&self, day: u32, limit: usize) -> Result<Vec<(u32, MailboxId)>, StoreError>;

    /// Up to `limit` mailboxes after the given one, with their month of last renewal, by id.
    fn mailboxes(&self, after: Option<&MailboxId>, limit: usize) -> Result<Vec<(MailboxId, u32)>, StoreError>;

    /// A slot, if it was claimed and not swept.
    fn slot(&self, slot: &SlotId) -> Result<Option<Slot>, StoreError>;

    /// Up to `limit` slots after the given one, in the order of last day and id.
    fn slots(&self, after: Option<&SlotEntry>, limit: usize) -> Result<Vec<SlotEntry>, StoreError>;

    /// A blob's record, if it was made and not swept.
    fn blob(&self, blob: &BlobId) -> Result<Option<BlobRecord>, StoreError>;

    /// Up to `limit` blobs after the given one, in the order of last day and id.
    fn blobs(&self, after: Option<&BlobEntry>, limit: usize) -> Result<Vec<BlobEntry>, StoreError>;

    /// Applies the changes as one atomic batch and returns when it is on stable storage.
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Destroys the keys of backlogs that are over and of days before `today`, whose rows are gone: wherever their bytes still lie, nobody opens them
    /// any more, or says whose they were. Returns when that is on stable storage; says how many.
    fn destroy_keys(&self, today: u32) -> Result<usize, StoreError>;
}
