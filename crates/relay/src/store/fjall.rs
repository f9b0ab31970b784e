//! The store on `fjall`, a log-structured engine.
//!
//! A batch goes to the journal, is synced with `fdatasync`, and only then becomes visible to reads. Deleted envelopes stay in
//! journal and tables until the engine drops these: so they are sealed under keys that are kept elsewhere and destroyed ([`keys`](super::keys)).

use std::collections::{BTreeSet, HashMap};
use std::ops::{Bound, RangeInclusive};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use bulla_protocol::id::{BlobId, InstanceId, MailboxId, SlotId};
use bytes::Bytes;
use rand_core::CryptoRngCore;

use super::keys::Keys;
use super::{BlobEntry, BlobRecord, Loaded, Page, Row, Slot, SlotEntry, Store, StoreError, Usage, Write, rows};

const INSTANCE: &[u8] = b"instance";

/// A relay's data in one folder.
pub struct FjallStore {
    db: Database,
    mailboxes: Keyspace,
    rows: Keyspace,
    revoked: Keyspace,
    bundles: Keyspace,
    gaps: Keyspace,
    days: Keyspace,
    slots: Keyspace,
    slot_days: Keyspace,
    blobs: Keyspace,
    blob_days: Keyspace,
    backlogs: Keyspace,
    keys: Keys,
    waiting: Mutex<HashMap<MailboxId, Waiting>>,
    instance: InstanceId,
}

/// Mailboxes whose rows are counted; with more, those without rows are forgotten and counted again when they are written to.
const COUNTED: usize = 65_536;

/// What the writer knows of a mailbox's rows, so that it notices when the last one goes.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    /// How many there are.
    rows: u64,
    /// None has an order below this. What was deleted lies there for long, and is not to be read over again and again.
    from: u64,
    /// The highest order that there was.
    top: u64,
}

impl From<::fjall::Error> for StoreError {
    fn from(error: ::fjall::Error) -> Self {
        match error {
            ::fjall::Error::Locked => Self::Locked,
            other => Self::Engine(other.to_string()),
        }
    }
}

impl FjallStore {
    /// Opens the folder, or makes it. The keys of rows are in `key_file`, which is to be in no backup.
    pub fn open(folder: &Path, key_file: &Path, mut random: Box<dyn CryptoRngCore + Send>) -> Result<Self, StoreError> {
        let db = Database::builder(folder).open()?;
        let keyspace = |name| db.keyspace(name, KeyspaceCreateOptions::default);
        let meta = keyspace("meta")?;
        let instance = match meta.get(INSTANCE)? {
            Some(bytes) => rows::decode_instance(&bytes)?,
            None => {
                let mut fresh = [0; 16];
                random.fill_bytes(&mut fresh);
                let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&meta, INSTANCE, rows::encode_instance(&InstanceId::new(fresh)));
                batch.commit()?;
                InstanceId::new(fresh)
            }
        };
        let (rows, backlogs) = (keyspace("rows")?, keyspace("backlogs")?);
        let keys = Keys::open(key_file, random, |mailbox, slot| {
            let current = backlogs.get(mailbox.as_bytes())?.map(|bytes| rows::decode_backlog(&bytes)).transpose()?;
            Ok(current == Some(slot) && has_rows(&rows, mailbox)?)
        })?;
        Ok(Self {
            mailboxes: keyspace("mailboxes")?,
            rows,
            revoked: keyspace("revoked")?,
            bundles: keyspace("bundles")?,
            gaps: keyspace("gaps")?,
            days: keyspace("days")?,
            slots: keyspace("slots")?,
            slot_days: keyspace("slot-days")?,
            blobs: keyspace("blobs")?,
            blob_days: keyspace("blob-days")?,
            backlogs,
            keys,
            waiting: Mutex::default(),
            instance,
            db,
        })
    }

    /// What is known of a mailbox's rows; counted where nothing is.
    fn waiting(&self, id: &MailboxId) -> Result<Waiting, StoreError> {
        if let Some(known) = self.counts().get(id) {
            return Ok(*known);
        }
        let mut counted = Waiting::default();
        for entry in self.rows.prefix(id.as_bytes()) {
            counted.top = rows::row_order(&entry.key()?)?;
            if counted.rows == 0 {
                counted.from = counted.top;
            }
            counted.rows += 1;
        }
        Ok(counted)
    }

    fn count(&self, id: MailboxId, waiting: Waiting) {
        let mut counts = self.counts();
        if counts.len() >= COUNTED {
            counts.retain(|_, waiting| waiting.rows > 0);
        }
        counts.insert(id, waiting);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<MailboxId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of a mailbox may all be gone now: then its key is to go, too.
    fn ended(&self, id: MailboxId) -> Result<(), StoreError> {
        let known = self.waiting(&id)?;
        if known.rows > 0 {
            return Ok(());
        }
        // The count is believed only where the store says the same: a key too many is destroyed later, a row too many would be lost.
        let all = rows::row_key(&id, known.from)..=rows::row_key(&id, u64::MAX);
        if self.rows.range(all).next().is_some() {
            tracing::error!("rows of a mailbox were counted wrongly");
            self.counts().remove(&id);
            return Ok(());
        }
        self.keys.end_backlog(&id);
        self.count(id, Waiting { rows: 0, from: known.top.saturating_add(1), top: known.top });
        Ok(())
    }

    /// A row, opened. `None`: its key is gone, so that it was acknowledged or is over, and a read that began before still sees its bytes; or the
    /// disk has changed it, and then it alone is lost.
    fn open_row(&self, key: &[u8], value: &[u8]) -> Result<Option<Row>, StoreError> {
        let head = rows::row_head(value)?;
        let Some(slot) = head.slot else { return rows::open_row(key, value, None).map(Some) };
        let Some(row_key) = self.keys.to_open(slot, head.day) else { return Ok(None) };
        Ok(rows::open_row(key, value, Some(&row_key))
            .inspect_err(|error| tracing::error!(%error, "an envelope is passed over"))
            .ok())
    }

    fn apply(
        &self,
        batch: &mut OwnedWriteBatch,
        write: Write,
        dropped: &mut BTreeSet<MailboxId>,
    ) -> Result<(), StoreError> {
        match write {
            Write::PutMailbox(id, record) => {
                batch.insert(&self.mailboxes, *id.as_bytes(), rows::encode_mailbox(&record));
            }
            Write::PutRow(id, order, row) => {
                let with = self.keys.to_seal(&id, row.day)?;
                if with.is_new {
                    batch.insert(&self.backlogs, *id.as_bytes(), rows::encode_backlog(with.slot));
                }
                let key = rows::row_key(&id, order);
                batch.insert(&self.rows, key, rows::seal_row(&key, &row, with.slot, &with.key, with.nonce)?);
                let known = self.waiting(&id)?;
                // In an empty mailbox orders may begin anew.
                let known = if known.rows == 0 { Waiting { rows: 0, from: order, top: order } } else { known };
                let (from, top) = (known.from.min(order), known.top.max(order));
                self.count(id, Waiting { rows: known.rows + 1, from, top });
            }
            Write::DropRows(id, orders) => {
                let known = self.waiting(&id)?;
                self.count(id, Waiting { rows: known.rows.saturating_sub(orders.len() as u64), ..known });
                dropped.insert(id);
                for order in orders {
                    batch.remove(&self.rows, rows::row_key(&id, order));
                }
            }
            Write::Revoke(id, grant) => batch.insert(&self.revoked, rows::revoked_key(&id, &grant), rows::PRESENT),
            Write::PutBundle(id, Some(bundle)) => {
                batch.insert(&self.bundles, *id.as_bytes(), rows::encode_bundle(&bundle));
            }
            Write::PutBundle(id, None) => batch.remove(&self.bundles, *id.as_bytes()),
            Write::PutGap(id, 0) => batch.remove(&self.gaps, *id.as_bytes()),
            Write::PutGap(id, envelopes) => batch.insert(&self.gaps, *id.as_bytes(), rows::encode_gap(envelopes)),
            Write::MarkDay(day, id) => batch.insert(&self.days, rows::day_key(day, &id), rows::PRESENT),
            Write::DropDay(day, id) => batch.remove(&self.days, rows::day_key(day, &id)),
            Write::PutSlot(id, slot) => {
                let bytes = u32::try_from(slot.commit.len()).unwrap_or(u32::MAX);
                batch.insert(&self.slot_days, rows::slot_day_key(slot.day, &id), rows::encode_slot_bytes(bytes));
                batch.insert(&self.slots, *id.as_bytes(), rows::encode_slot(&slot));
            }
            Write::DropSlot(day, id) => {
                batch.remove(&self.slot_days, rows::slot_day_key(day, &id));
                batch.remove(&self.slots, *id.as_bytes());
            }
            Write::PutBlob(id, record, before) => {
                if let Some(day) = before {
                    batch.remove(&self.blob_days, rows::blob_day_key(day, &id));
                }
                batch.insert(
                    &self.blob_days,
                    rows::blob_day_key(record.day, &id),
                    rows::encode_blob_bytes(record.bytes),
                );
                batch.insert(&self.blobs, *id.as_bytes(), rows::encode_blob(&record));
            }
            Write::DropBlob(day, id) => {
                batch.remove(&self.blob_days, rows::blob_day_key(day, &id));
                batch.remove(&self.blobs, *id.as_bytes());
            }
            Write::DropMailbox(id) => {
                batch.remove(&self.mailboxes, *id.as_bytes());
                batch.remove(&self.bundles, *id.as_bytes());
                batch.remove(&self.gaps, *id.as_bytes());
                batch.remove(&self.backlogs, *id.as_bytes());
                self.counts().remove(&id);
                dropped.insert(id);
                for keyspace in [&self.rows, &self.revoked] {
                    for entry in keyspace.prefix(id.as_bytes()) {
                        batch.remove(keyspace, entry.key()?);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Store for FjallStore {
    fn instance(&self) -> InstanceId {
        self.instance
    }

    fn load(&self, id: &MailboxId) -> Result<Option<Loaded>, StoreError> {
        let Some(record) = self.mailboxes.get(id.as_bytes())? else { return Ok(None) };
        let mut revoked = BTreeSet::new();
        for entry in self.revoked.prefix(id.as_bytes()) {
            revoked.insert(rows::revoked_grant(&entry.key()?)?);
        }
        let (mut usage, mut first, mut last) = (Usage::default(), None, 0);
        for entry in self.rows.prefix(id.as_bytes()) {
            let (key, value) = entry.into_inner()?;
            let head = rows::row_head(&value)?;
            last = rows::row_order(&key)?;
            first.get_or_insert(last);
            usage.add(head.class, head.bytes);
        }
        let gap = self.gaps.get(id.as_bytes())?.map_or(Ok(0), |bytes| rows::decode_gap(&bytes))?;
        let next = last + 1;
        Ok(Some(Loaded {
            record: rows::decode_mailbox(&record)?,
            revoked,
            usage,
            first: first.unwrap_or(next),
            next,
            gap,
        }))
    }

    fn rows(&self, id: &MailboxId, orders: RangeInclusive<u64>, page: Page) -> Result<Vec<(u64, Row)>, StoreError> {
        let (from, through) = (rows::row_key(id, *orders.start()), rows::row_key(id, *orders.end()));
        let mut out = Vec::new();
        let mut bytes = 0;
        for entry in self.rows.range(from..=through) {
            let (key, value) = entry.into_inner()?;
            let Some(row) = self.open_row(&key, &value)? else { continue };
            bytes += value.len();
            out.push((rows::row_order(&key)?, row));
            if bytes >= page.bytes || out.len() == page.rows {
                break;
            }
        }
        Ok(out)
    }

    fn bundle(&self, id: &MailboxId) -> Result<Option<Bytes>, StoreError> {
        self.bundles.get(id.as_bytes())?.map(|bytes| rows::decode_bundle(&bytes)).transpose()
    }

    fn days_before(&self, day: u32, limit: usize) -> Result<Vec<(u32, MailboxId)>, StoreError> {
        self.days.range(..day.to_be_bytes()).take(limit).map(|entry| rows::decode_day(&entry.key()?)).collect()
    }

    fn slot(&self, slot: &SlotId) -> Result<Option<Slot>, StoreError> {
        self.slots.get(slot.as_bytes())?.map(|bytes| rows::decode_slot(&bytes)).transpose()
    }

    fn slots(&self, after: Option<&SlotEntry>, limit: usize) -> Result<Vec<SlotEntry>, StoreError> {
        let from =
            after.map_or(Bound::Unbounded, |last| Bound::Excluded(rows::slot_day_key(last.day, &last.slot).to_vec()));
        self.slot_days
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.into_inner()?;
                rows::decode_slot_entry(&key, &value)
            })
            .collect()
    }

    fn blob(&self, blob: &BlobId) -> Result<Option<BlobRecord>, StoreError> {
        self.blobs.get(blob.as_bytes())?.map(|bytes| rows::decode_blob(&bytes)).transpose()
    }

    fn blobs(&self, after: Option<&BlobEntry>, limit: usize) -> Result<Vec<BlobEntry>, StoreError> {
        let from =
            after.map_or(Bound::Unbounded, |last| Bound::Excluded(rows::blob_day_key(last.day, &last.blob).to_vec()));
        self.blob_days
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.into_inner()?;
                rows::decode_blob_entry(&key, &value)
            })
            .collect()
    }

    fn mailboxes(&self, after: Option<&MailboxId>, limit: usize) -> Result<Vec<(MailboxId, u32)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes().to_vec()));
        self.mailboxes
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.into_inner()?;
                Ok((rows::mailbox_id(&key)?, rows::decode_mailbox(&value)?.month))
            })
            .collect()
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let fresh = || self.db.batch().durability(Some(PersistMode::SyncData));
        let (mut batch, mut dropped) = (fresh(), BTreeSet::new());
        for write in writes {
            if matches!(write, Write::DropMailbox(_)) && !batch.is_empty() {
                // Dropping a mailbox removes the rows that a read finds: those before it in this group must be readable first.
                self.keys.sync()?;
                std::mem::replace(&mut batch, fresh()).commit()?;
            }
            self.apply(&mut batch, write, &mut dropped)?;
        }
        // Keys first: a row whose key was lost would be lost.
        self.keys.sync()?;
        batch.commit()?;
        dropped.into_iter().try_for_each(|mailbox| self.ended(mailbox))
    }

    fn destroy_keys(&self, today: u32) -> Result<usize, StoreError> {
        self.keys.destroy(today)
    }
}

/// Whether an envelope waits in a mailbox.
fn has_rows(rows: &Keyspace, mailbox: &MailboxId) -> Result<bool, StoreError> {
    match rows.prefix(mailbox.as_bytes()).next() {
        Some(entry) => entry.key().map(|_| true).map_err(Into::into),
        None => Ok(false),
    }
}
