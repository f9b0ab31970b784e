//! The store on `fjall`, a log-structured engine.
//!
//! A batch goes to the journal, is synced with `fdatasync`, and only then becomes visible to reads. Deleted envelopes stay in
//! journal and tables until the engine drops these: sealing rows under keys that can be destroyed is the answer to that, not this module.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeInclusive};
use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use bulla_protocol::id::{BlobId, InstanceId, MailboxId, SlotId};
use bytes::Bytes;

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
    instance: InstanceId,
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
    /// Opens the folder, or makes it; `fresh` becomes the instance id if there was none.
    pub fn open(folder: &Path, fresh: InstanceId) -> Result<Self, StoreError> {
        let db = Database::builder(folder).open()?;
        let keyspace = |name| db.keyspace(name, KeyspaceCreateOptions::default);
        let meta = keyspace("meta")?;
        let instance = match meta.get(INSTANCE)? {
            Some(bytes) => rows::decode_instance(&bytes)?,
            None => {
                let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&meta, INSTANCE, rows::encode_instance(&fresh));
                batch.commit()?;
                fresh
            }
        };
        Ok(Self {
            mailboxes: keyspace("mailboxes")?,
            rows: keyspace("rows")?,
            revoked: keyspace("revoked")?,
            bundles: keyspace("bundles")?,
            gaps: keyspace("gaps")?,
            days: keyspace("days")?,
            slots: keyspace("slots")?,
            slot_days: keyspace("slot-days")?,
            blobs: keyspace("blobs")?,
            blob_days: keyspace("blob-days")?,
            instance,
            db,
        })
    }

    fn apply(&self, batch: &mut OwnedWriteBatch, write: Write) -> Result<(), StoreError> {
        match write {
            Write::PutMailbox(id, record) => {
                batch.insert(&self.mailboxes, *id.as_bytes(), rows::encode_mailbox(&record));
            }
            Write::PutRow(id, order, row) => {
                batch.insert(&self.rows, rows::row_key(&id, order), rows::encode_row(&row));
            }
            Write::DropRows(id, orders) => {
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
            let row = rows::decode_row(&value)?;
            last = rows::row_order(&key)?;
            first.get_or_insert(last);
            usage.add(row.class, row.envelope.len());
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
        for entry in self.rows.range(from..=through).take(page.rows) {
            let (key, value) = entry.into_inner()?;
            bytes += value.len();
            out.push((rows::row_order(&key)?, rows::decode_row(&value)?));
            if bytes >= page.bytes {
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
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for write in writes {
            if matches!(write, Write::DropMailbox(_)) && !batch.is_empty() {
                // Dropping a mailbox removes the rows that a read finds: those before it in this group must be readable first.
                std::mem::replace(&mut batch, self.db.batch().durability(Some(PersistMode::SyncData))).commit()?;
            }
            self.apply(&mut batch, write)?;
        }
        batch.commit()?;
        Ok(())
    }
}
