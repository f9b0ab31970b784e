//! The store on `fjall`, a log-structured engine.
//!
//! A batch goes to the journal, is synced with `fdatasync`, and only then becomes visible to reads. Deleted envelopes stay in
//! journal and tables until the engine drops these: so they are sealed under keys that are kept elsewhere and destroyed ([`keys`](super::keys)), and
//! stand under names that go with these keys, not under their mailboxes' ids.
//! Reads of more than one key are of a snapshot: what the engine shows without one is a batch that it is just applying, half of it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, TryLockError};
use std::ops::{Bound, RangeInclusive};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable as _, Snapshot};
use bulla_protocol::id::{BlobId, InstanceId, MailboxId, SlotId};
use bulla_protocol::limits::RETENTION_DAYS;
use bytes::Bytes;
use rand_core::CryptoRngCore;

use super::keys::{Backlog, Keys, Name};
use super::tail;
use super::{BlobEntry, BlobRecord, Loaded, Page, Row, Slot, SlotEntry, Store, StoreError, Usage, Write, rows};
use crate::sabotage::{Rule, broken};

const INSTANCE: &[u8] = b"instance";

/// In `meta`: rows and days have names.
pub(super) const NAMED: &[u8] = b"named";

/// In the order in which [`FjallStore::open`] names them.
const KEYSPACES: [&str; 12] = [
    "meta",
    "mailboxes",
    "rows",
    "backlogs",
    "revoked",
    "bundles",
    "gaps",
    "days",
    "slots",
    "slot-days",
    "blobs",
    "blob-days",
];

/// A relay's data in one folder.
pub struct FjallStore {
    pub(super) db: Database,
    pub(super) meta: Keyspace,
    pub(super) mailboxes: Keyspace,
    pub(super) rows: Keyspace,
    revoked: Keyspace,
    bundles: Keyspace,
    gaps: Keyspace,
    pub(super) days: Keyspace,
    slots: Keyspace,
    slot_days: Keyspace,
    blobs: Keyspace,
    blob_days: Keyspace,
    /// Of before rows had names: empty.
    pub(super) backlogs: Keyspace,
    pub(super) keys: Keys,
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
    /// The last day that was noted.
    noted: u32,
}

/// One batch, and what was said in it that no read shows before it is committed.
pub(super) struct Group {
    pub(super) batch: OwnedWriteBatch,
    /// Mailboxes of which rows go.
    dropped: BTreeSet<MailboxId>,
    rows: HashMap<MailboxId, Vec<[u8; 24]>>,
    revoked: HashMap<MailboxId, Vec<[u8; 32]>>,
}

impl Group {
    pub(super) fn new(batch: OwnedWriteBatch) -> Self {
        Self { batch, dropped: BTreeSet::new(), rows: HashMap::new(), revoked: HashMap::new() }
    }
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
    pub fn open(folder: &Path, key_file: &Path, random: Box<dyn CryptoRngCore + Send>) -> Result<Self, StoreError> {
        Self::open_with(folder, key_file, random, KeyspaceCreateOptions::default)
    }

    /// One that writes tables and leaves journals behind after a few kilobytes, as another does after many megabytes: for tests.
    #[cfg(any(test, feature = "under-test"))]
    pub fn open_small(
        folder: &Path,
        key_file: &Path,
        random: Box<dyn CryptoRngCore + Send>,
    ) -> Result<Self, StoreError> {
        Self::open_with(folder, key_file, random, || KeyspaceCreateOptions::default().max_memtable_size(8 * 1024))
    }

    fn open_with(
        folder: &Path,
        key_file: &Path,
        mut random: Box<dyn CryptoRngCore + Send>,
        options: impl Fn() -> KeyspaceCreateOptions,
    ) -> Result<Self, StoreError> {
        if !folder.exists() && !broken(Rule::BegunAgain) {
            make(folder, &options)?;
        }
        let db = tail::open(folder)?;
        let keyspace = |name| db.keyspace(name, &options);
        let all = KEYSPACES.map(keyspace).into_iter().collect::<Result<Vec<_>, _>>()?;
        // This version may have made some.
        sync_names(folder)?;
        let all: [Keyspace; KEYSPACES.len()] = all.try_into().map_err(|_| StoreError::Format("store"))?;
        let [meta, mailboxes, rows, backlogs, revoked, bundles, gaps, days, slots, slot_days, blobs, blob_days] = all;
        let instance = match meta.get(INSTANCE)? {
            Some(bytes) => rows::decode_instance(&bytes)?,
            None => {
                let mut fresh = [0; 16];
                random.fill_bytes(&mut fresh);
                let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&meta, INSTANCE, rows::encode_instance(&InstanceId::new(fresh)));
                batch.insert(&meta, NAMED, rows::PRESENT);
                batch.commit()?;
                InstanceId::new(fresh)
            }
        };
        let is_named = meta.contains_key(NAMED)?;
        let keys = Keys::open(key_file, random, |mailbox, name| {
            Ok(has_rows(&rows, name)? || (!is_named && has_rows(&rows, mailbox.as_bytes())?))
        })?;
        let store = Self {
            meta,
            mailboxes,
            rows,
            revoked,
            bundles,
            gaps,
            days,
            slots,
            slot_days,
            blobs,
            blob_days,
            backlogs,
            keys,
            waiting: Mutex::default(),
            instance,
            db,
        };
        if !is_named {
            store.names_rows()?;
        }
        Ok(store)
    }

    /// Reads what waits in a mailbox, all of one moment: what waited before may be gone meanwhile, and something new have come under another name.
    fn of_backlog<T>(
        &self,
        id: &MailboxId,
        read: impl Fn(&Snapshot, Option<Backlog>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let backlog = self.keys.backlog(id);
            let now = self.db.snapshot();
            if self.keys.backlog(id) == backlog {
                return read(&now, backlog);
            }
        }
    }

    /// What is known of a mailbox's rows; counted where nothing is.
    fn waiting(&self, id: &MailboxId) -> Result<Waiting, StoreError> {
        if let Some(known) = self.counts().get(id) {
            return Ok(*known);
        }
        let mut counted = Waiting::default();
        let Some(backlog) = self.keys.backlog(id) else { return Ok(counted) };
        for entry in self.rows.prefix(backlog.name) {
            counted.top = backlog.outer(rows::row_order(&entry.key()?)?);
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
        if broken(Rule::KeyAfterRows) {
            self.keys.end_backlog(&id);
        }
        if known.rows > 0 {
            return Ok(());
        }
        // The count is believed only where the store says the same: a key too many is destroyed later, a row too many would be lost.
        if let Some(backlog) = self.keys.backlog(&id) {
            let from = rows::row_key(&backlog.name, backlog.inner(known.from));
            if self.rows.range(from..=rows::row_key(&backlog.name, u64::MAX)).next().is_some() {
                tracing::error!("rows of a mailbox were counted wrongly");
                self.counts().remove(&id);
                return Ok(());
            }
        }
        self.keys.end_backlog(&id);
        self.count(id, Waiting { rows: 0, from: known.top.saturating_add(1), top: known.top, noted: 0 });
        Ok(())
    }

    /// A row, opened. `None`: its key is gone, so that it was acknowledged or is over, and a read that began before still sees its bytes; or the
    /// disk has changed it, and then it alone is lost.
    pub(super) fn open_row(&self, key: &[u8], value: &[u8]) -> Result<Option<Row>, StoreError> {
        let head = rows::row_head(value)?;
        let Some(slot) = head.slot else { return rows::open_row(key, value, None).map(Some) };
        let Some(row_key) = self.keys.to_open(slot, head.day) else { return Ok(None) };
        Ok(rows::open_row(key, value, Some(&row_key))
            .inspect_err(|error| tracing::error!(%error, "an envelope is passed over"))
            .ok())
    }

    pub(super) fn apply(&self, group: &mut Group, write: Write) -> Result<(), StoreError> {
        let batch = &mut group.batch;
        match write {
            Write::PutMailbox(id, record) => {
                batch.insert(&self.mailboxes, *id.as_bytes(), rows::encode_mailbox(&record));
            }
            Write::PutRow(id, order, row) => {
                let with = self.keys.to_seal(&id, row.day)?;
                let Backlog { slot, name, .. } = with.of;
                let key = rows::row_key(&name, with.of.inner(order));
                batch.insert(&self.rows, key, rows::seal_row(&key, &row, slot, &with.key, with.nonce)?);
                group.rows.entry(id).or_default().push(key);
                let known = self.waiting(&id)?;
                // In an empty mailbox orders may begin anew.
                let known = if known.rows == 0 { Waiting { from: order, top: order, ..known } } else { known };
                if known.noted != row.day {
                    batch.insert(&self.days, rows::day_key(row.day, &name), rows::PRESENT);
                }
                let (from, top) = (known.from.min(order), known.top.max(order));
                self.count(id, Waiting { rows: known.rows + 1, from, top, noted: row.day });
                if with.is_new_day {
                    self.forget_notes(batch, row.day)?;
                }
            }
            Write::DropRows(id, orders) => {
                let known = self.waiting(&id)?;
                self.count(id, Waiting { rows: known.rows.saturating_sub(orders.len() as u64), ..known });
                group.dropped.insert(id);
                if let Some(backlog) = self.keys.backlog(&id) {
                    for order in orders {
                        batch.remove(&self.rows, rows::row_key(&backlog.name, backlog.inner(order)));
                    }
                }
            }
            Write::Revoke(id, grant) => {
                let key = rows::revoked_key(&id, &grant);
                batch.insert(&self.revoked, key, rows::PRESENT);
                group.revoked.entry(id).or_default().push(key);
            }
            Write::PutBundle(id, Some(bundle)) => {
                batch.insert(&self.bundles, *id.as_bytes(), rows::encode_bundle(&bundle));
            }
            Write::PutBundle(id, None) => batch.remove(&self.bundles, *id.as_bytes()),
            Write::PutGap(id, 0) => batch.remove(&self.gaps, *id.as_bytes()),
            Write::PutGap(id, envelopes) => batch.insert(&self.gaps, *id.as_bytes(), rows::encode_gap(envelopes)),
            Write::DropDay(day, id) => {
                if let Some(Backlog { name, .. }) = self.keys.backlog(&id) {
                    batch.remove(&self.days, rows::day_key(day, &name));
                }
            }
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
                self.count(id, Waiting::default());
                group.dropped.insert(id);
                for entry in self.revoked.prefix(id.as_bytes()) {
                    batch.remove(&self.revoked, entry.key()?);
                }
                if let Some(Backlog { name, .. }) = self.keys.backlog(&id) {
                    for entry in self.rows.prefix(name) {
                        batch.remove(&self.rows, entry.key()?);
                    }
                }
                // What this group has made of it no read finds yet.
                for key in group.rows.remove(&id).unwrap_or_default() {
                    batch.remove(&self.rows, key);
                }
                for key in group.revoked.remove(&id).unwrap_or_default() {
                    batch.remove(&self.revoked, key);
                }
            }
        }
        Ok(())
    }

    /// Removes notes of backlogs that are over, once their day is: nobody else would, and each costs a few bytes.
    fn forget_notes(&self, batch: &mut OwnedWriteBatch, newest: u32) -> Result<(), StoreError> {
        let over = newest.saturating_sub(RETENTION_DAYS + 1);
        for entry in self.days.range(..over.to_be_bytes()) {
            let key = entry.key()?;
            let (_, name) = rows::decode_day(&key)?;
            if self.keys.mailbox(&name).is_none() {
                batch.remove(&self.days, key);
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
        self.of_backlog(id, |now, backlog| {
            let Some(record) = now.get(&self.mailboxes, id.as_bytes())? else { return Ok(None) };
            let mut revoked = BTreeSet::new();
            for entry in now.prefix(&self.revoked, id.as_bytes()) {
                revoked.insert(rows::revoked_grant(&entry.key()?)?);
            }
            let (mut usage, mut first, mut last) = (Usage::default(), None, 0);
            for (backlog, entry) in backlog
                .iter()
                .flat_map(|backlog| now.prefix(&self.rows, backlog.name).map(move |entry| (backlog, entry)))
            {
                let (key, value) = entry.into_inner()?;
                let head = rows::row_head(&value)?;
                last = backlog.outer(rows::row_order(&key)?);
                first.get_or_insert(last);
                usage.add(head.class, head.bytes);
            }
            let gap = now.get(&self.gaps, id.as_bytes())?.map_or(Ok(0), |bytes| rows::decode_gap(&bytes))?;
            let next = last + 1;
            Ok(Some(Loaded {
                record: rows::decode_mailbox(&record)?,
                revoked,
                usage,
                first: first.unwrap_or(next),
                next,
                gap,
            }))
        })
    }

    fn rows(&self, id: &MailboxId, orders: RangeInclusive<u64>, page: Page) -> Result<Vec<(u64, Row)>, StoreError> {
        self.of_backlog(id, |now, backlog| {
            let (mut out, mut bytes) = (Vec::new(), 0);
            let Some(backlog) = backlog else { return Ok(out) };
            let key = |order| rows::row_key(&backlog.name, backlog.inner(order));
            let range = key(*orders.start())..=key(*orders.end());
            let found = if broken(Rule::SeenWhole) { self.rows.range(range) } else { now.range(&self.rows, range) };
            for entry in found {
                let (key, value) = entry.into_inner()?;
                let Some(row) = self.open_row(&key, &value)? else { continue };
                bytes += value.len();
                out.push((backlog.outer(rows::row_order(&key)?), row));
                if bytes >= page.bytes || out.len() == page.rows {
                    break;
                }
            }
            Ok(out)
        })
    }

    fn bundle(&self, id: &MailboxId) -> Result<Option<Bytes>, StoreError> {
        self.bundles.get(id.as_bytes())?.map(|bytes| rows::decode_bundle(&bytes)).transpose()
    }

    fn days_before(&self, day: u32, limit: usize) -> Result<Vec<(u32, MailboxId)>, StoreError> {
        let days = self.db.snapshot().range(&self.days, ..day.to_be_bytes());
        // Notes of backlogs that are over are nobody's.
        let waits = |entry: ::fjall::Guard| {
            let (day, name) = rows::decode_day(&entry.key()?)?;
            Ok(self.keys.mailbox(&name).map(|mailbox| (day, mailbox)))
        };
        days.filter_map(|entry| waits(entry).transpose()).take(limit).collect()
    }

    fn slot(&self, slot: &SlotId) -> Result<Option<Slot>, StoreError> {
        self.slots.get(slot.as_bytes())?.map(|bytes| rows::decode_slot(&bytes)).transpose()
    }

    fn slots(&self, after: Option<&SlotEntry>, limit: usize) -> Result<Vec<SlotEntry>, StoreError> {
        let from =
            after.map_or(Bound::Unbounded, |last| Bound::Excluded(rows::slot_day_key(last.day, &last.slot).to_vec()));
        self.db
            .snapshot()
            .range(&self.slot_days, (from, Bound::Unbounded))
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
        self.db
            .snapshot()
            .range(&self.blob_days, (from, Bound::Unbounded))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.into_inner()?;
                rows::decode_blob_entry(&key, &value)
            })
            .collect()
    }

    fn mailboxes(&self, after: Option<&MailboxId>, limit: usize) -> Result<Vec<(MailboxId, u32)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes().to_vec()));
        self.db
            .snapshot()
            .range(&self.mailboxes, (from, Bound::Unbounded))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.into_inner()?;
                Ok((rows::mailbox_id(&key)?, rows::decode_mailbox(&value)?.month))
            })
            .collect()
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if broken(Rule::BatchIsWhole) && writes.len() > 1 {
            return writes.into_iter().try_for_each(|write| self.commit(vec![write]));
        }
        let mode = if broken(Rule::CommitSynced) { PersistMode::Buffer } else { PersistMode::SyncData };
        let mut group = Group::new(self.db.batch().durability(Some(mode)));
        for write in writes {
            self.apply(&mut group, write)?;
        }
        // Keys first: a row whose key was lost would be lost.
        if !broken(Rule::KeysFirst) {
            self.keys.sync()?;
        }
        group.batch.commit()?;
        group.dropped.into_iter().try_for_each(|mailbox| self.ended(mailbox))
    }

    fn destroy_keys(&self, today: u32) -> Result<usize, StoreError> {
        self.keys.destroy(today)
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

/// Makes an empty store beside its folder, which gets its name once all of it is on stable storage: the engine opens none that it has made by half.
fn make(folder: &Path, options: &impl Fn() -> KeyspaceCreateOptions) -> Result<(), StoreError> {
    let beside = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = File::open(beside).map_err(failed)?;
    // Of two that start together one makes it. Where a folder cannot be locked, the engine's lock in the new one decides.
    if matches!(beside.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(StoreError::Locked);
    }
    let new = folder.with_extension("new");
    if folder.exists() {
        return Ok(());
    }
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let db = Database::builder(&new).open()?;
    for name in KEYSPACES {
        db.keyspace(name, options)?;
    }
    drop(db);
    sync_names(&new)?;
    std::fs::rename(&new, folder).and_then(|()| beside.sync_all()).map_err(failed)
}

/// The engine does not sync the names of the folders in which its tables are.
fn sync_names(folder: &Path) -> Result<(), StoreError> {
    if broken(Rule::KeyspacesSynced) {
        return Ok(());
    }
    for folder in [&folder.join("keyspaces"), folder] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Whether there are rows under a name.
fn has_rows(rows: &Keyspace, name: &Name) -> Result<bool, StoreError> {
    match rows.prefix(name).next() {
        Some(entry) => entry.key().map(|_| true).map_err(Into::into),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use rand_core::OsRng;

    use super::*;
    use crate::store::contract::{self, Step, Story};

    /// In memory where there is a folder for that: what a disk does is tested elsewhere.
    fn folder() -> tempfile::TempDir {
        let memory = PathBuf::from("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
    }

    fn open(folder: &tempfile::TempDir) -> FjallStore {
        FjallStore::open(&folder.path().join("store"), &folder.path().join("keys"), Box::new(OsRng)).unwrap()
    }

    /// A store that takes its folder with it.
    struct Own(FjallStore, tempfile::TempDir);

    #[test]
    fn it_keeps_the_contract() {
        let fresh = || {
            let folder = folder();
            Own(open(&folder), folder)
        };
        contract::run(fresh, |Own(store, folder)| {
            drop(store);
            Own(open(&folder), folder)
        });
    }

    #[test]
    fn a_first_start_that_broke_off_is_begun_again_and_of_two_at_once_one_waits() {
        let folder = folder();
        let new = folder.path().join("store.new");
        std::fs::create_dir(&new).unwrap();
        std::fs::write(new.join("0.jnl"), b"a journal and nothing else").unwrap();
        let other = File::open(folder.path()).unwrap();
        other.lock().unwrap();
        let (store, keys) = (folder.path().join("store"), folder.path().join("keys"));
        let refused = FjallStore::open(&store, &keys, Box::new(OsRng)).err();
        assert!(matches!(refused, Some(StoreError::Locked)) && new.exists() && !store.exists());
        drop(other);
        drop(open(&folder));
        assert!(!new.exists() && store.exists());
    }

    macro_rules! passed_on {
        ($($name:ident($($arg:ident: $of:ty),*) -> $out:ty;)*) => {
            impl Store for Own {
                $(fn $name(&self, $($arg: $of),*) -> $out { self.0.$name($($arg),*) })*
            }
        };
    }
    passed_on! {
        instance() -> InstanceId;
        load(id: &MailboxId) -> Result<Option<Loaded>, StoreError>;
        rows(id: &MailboxId, orders: RangeInclusive<u64>, page: Page) -> Result<Vec<(u64, Row)>, StoreError>;
        bundle(id: &MailboxId) -> Result<Option<Bytes>, StoreError>;
        days_before(day: u32, limit: usize) -> Result<Vec<(u32, MailboxId)>, StoreError>;
        mailboxes(after: Option<&MailboxId>, limit: usize) -> Result<Vec<(MailboxId, u32)>, StoreError>;
        slot(slot: &SlotId) -> Result<Option<Slot>, StoreError>;
        slots(after: Option<&SlotEntry>, limit: usize) -> Result<Vec<SlotEntry>, StoreError>;
        blob(blob: &BlobId) -> Result<Option<BlobRecord>, StoreError>;
        blobs(after: Option<&BlobEntry>, limit: usize) -> Result<Vec<BlobEntry>, StoreError>;
        commit(writes: Vec<Write>) -> Result<(), StoreError>;
        destroy_keys(today: u32) -> Result<usize, StoreError>;
    }

    #[derive(Debug, Clone)]
    enum Act {
        Tell(Step),
        Commit,
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            20 => any::<(u8, u8, u8)>().prop_map(|(kind, which, detail)| Act::Tell(Step { kind, which, detail })),
            10 => Just(Act::Commit),
            1 => Just(Act::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Whatever is written, in whatever groups, and however often it is closed and opened in between: all that is visible is that of plain maps.
        #[test]
        fn a_store_shows_what_plain_maps_show(acts in proptest::collection::vec(act(), 1..60)) {
            let folder = folder();
            let (mut store, mut story, mut group) = (open(&folder), Story::default(), Vec::new());
            for act in acts.into_iter().chain([Act::Restart]) {
                if let Act::Tell(step) = act {
                    group.extend(story.tell(step));
                    continue;
                }
                store.commit(std::mem::take(&mut group)).unwrap();
                let today = if std::mem::take(&mut story.destroys) { story.named.today } else { 0 };
                store.destroy_keys(today).unwrap();
                if matches!(act, Act::Restart) {
                    drop(store);
                    store = open(&folder);
                    story.restarted();
                }
                let compared = story.model.compare(&store, &story.named);
                prop_assert!(compared.is_ok(), "{}", compared.unwrap_err());
            }
        }
    }
}
