//! What a store keeps, as plain maps: whatever a [`Store`] shows is compared with this.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bulla_protocol::id::{BlobId, GrantId, Incarnation, MailboxId, SlotId};
use bytes::Bytes;

use crate::store::{BlobEntry, BlobRecord, Loaded, MailboxRecord, Page, Row, Slot, SlotEntry, Store, Usage, Write};

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub struct Model {
    mailboxes: BTreeMap<MailboxId, MailboxRecord>,
    rows: BTreeMap<MailboxId, BTreeMap<u64, Row>>,
    revoked: BTreeMap<MailboxId, BTreeSet<GrantId>>,
    bundles: BTreeMap<MailboxId, Bytes>,
    gaps: BTreeMap<MailboxId, u64>,
    slots: BTreeMap<SlotId, Slot>,
    blobs: BTreeMap<BlobId, BlobRecord>,
}

const ALL: Page = Page { rows: usize::MAX, bytes: usize::MAX };

impl Model {
    /// Applies changes in their order.
    pub fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            self.apply_one(write.clone());
        }
    }

    fn apply_one(&mut self, write: Write) {
        match write {
            Write::PutMailbox(id, record) => {
                self.mailboxes.insert(id, record);
            }
            Write::DropMailbox(id) => {
                self.mailboxes.remove(&id);
                self.rows.remove(&id);
                self.revoked.remove(&id);
                self.bundles.remove(&id);
                self.gaps.remove(&id);
            }
            Write::PutRow(id, order, row) => {
                self.rows.entry(id).or_default().insert(order, row);
            }
            Write::DropRows(id, orders) => {
                if let Some(rows) = self.rows.get_mut(&id) {
                    rows.retain(|order, _| !orders.contains(order));
                }
            }
            Write::Revoke(id, grant) => {
                self.revoked.entry(id).or_default().insert(grant);
            }
            Write::PutBundle(id, Some(bundle)) => {
                self.bundles.insert(id, bundle);
            }
            Write::PutBundle(id, None) => {
                self.bundles.remove(&id);
            }
            Write::PutGap(id, envelopes) => {
                self.gaps.insert(id, envelopes);
            }
            // It says only what the rows say.
            Write::DropDay(..) => {}
            Write::PutSlot(id, slot) => {
                self.slots.insert(id, slot);
            }
            Write::DropSlot(_, id) => {
                self.slots.remove(&id);
            }
            Write::PutBlob(id, record, _) => {
                self.blobs.insert(id, record);
            }
            Write::DropBlob(_, id) => {
                self.blobs.remove(&id);
            }
        }
    }

    /// Orders of the rows of a mailbox that match.
    pub fn orders(&self, id: &MailboxId, which: impl Fn(&Row) -> bool) -> Vec<u64> {
        let rows = self.rows.get(id).into_iter().flatten();
        rows.filter(|(_, row)| which(row)).map(|(order, _)| *order).collect()
    }

    /// Whether there is such a mailbox.
    #[must_use]
    pub fn has(&self, id: &MailboxId) -> bool {
        self.mailboxes.contains_key(id)
    }

    /// A slot, if it is taken.
    #[must_use]
    pub fn slot(&self, slot: &SlotId) -> Option<&Slot> {
        self.slots.get(slot)
    }

    /// A blob, if there is one.
    #[must_use]
    pub fn blob(&self, blob: &BlobId) -> Option<&BlobRecord> {
        self.blobs.get(blob)
    }

    /// Last days before `day` of rows.
    #[must_use]
    pub fn days_before(&self, day: u32) -> Vec<(u32, MailboxId)> {
        let rows = self.rows.iter().flat_map(|(id, rows)| rows.values().map(|row| (row.day, *id)));
        rows.filter(|(last, _)| *last < day).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What `load` shows of a mailbox, but its keys.
    fn loaded(&self, id: &MailboxId) -> Option<Seen> {
        let record = self.mailboxes.get(id)?;
        let mut usage = Usage::default();
        let rows = self.rows.get(id);
        for row in rows.into_iter().flatten().map(|(_, row)| row) {
            usage.add(row.class, row.envelope.len());
        }
        let next = rows.and_then(BTreeMap::last_key_value).map_or(0, |(last, _)| *last) + 1;
        Some(Seen {
            owner_key: record.owner_key,
            root: *record.root.expose(),
            incarnation: record.incarnation,
            month: record.month,
            revoked: self.revoked.get(id).cloned().unwrap_or_default(),
            usage,
            first: rows.and_then(BTreeMap::first_key_value).map_or(next, |(first, _)| *first),
            next,
            gap: self.gaps.get(id).copied().unwrap_or_default(),
        })
    }

    /// The order that the next row of a mailbox gets from who loads it now.
    #[must_use]
    pub fn next(&self, id: &MailboxId) -> u64 {
        self.loaded(id).map_or(1, |seen| seen.next)
    }

    /// Everything that a store shows, compared with this; what differs is said. `named` are ids that may or may not be there.
    pub fn compare(&self, store: &dyn Store, named: &Named) -> Result<(), String> {
        let failed = |error: crate::store::StoreError| format!("it cannot be read: {error}");
        for id in &named.mailboxes {
            same("load", &store.load(id).map_err(failed)?.map(Seen::from), &self.loaded(id))?;
            same("bundle", &store.bundle(id).map_err(failed)?.as_ref(), &self.bundles.get(id))?;
            let rows: Vec<_> =
                self.rows.get(id).into_iter().flatten().map(|(order, row)| (*order, row.clone())).collect();
            same("rows", &store.rows(id, 0..=u64::MAX, ALL).map_err(failed)?, &rows)?;
            // From the middle on, page by page.
            let mut from = rows.get(rows.len() / 3).map_or(1, |(order, _)| *order);
            let rest: Vec<_> = rows.iter().filter(|(order, _)| *order >= from).cloned().collect();
            let mut paged = Vec::new();
            loop {
                let page = store.rows(id, from..=u64::MAX, Page { rows: 2, bytes: 4_000 }).map_err(failed)?;
                let Some((last, _)) = page.last() else { break };
                if page.len() > 2 {
                    return Err(format!("a page of 2 rows has {}", page.len()));
                }
                from = last + 1;
                paged.extend(page);
            }
            same("rows in pages", &paged, &rest)?;
        }
        for day in [0, named.today, u32::MAX] {
            let shown = store.days_before(day, usize::MAX).map_err(failed)?;
            if let Some(missing) = self.days_before(day).into_iter().find(|of_row| !shown.contains(of_row)) {
                return Err(format!("expiry does not find {missing:?} before {day} in {shown:?}"));
            }
            let waits = |id: &MailboxId| self.rows.get(id).is_some_and(|rows| !rows.is_empty());
            if !shown.is_sorted_by_key(|(last, _)| *last) || shown.iter().any(|(last, id)| *last >= day || !waits(id)) {
                return Err(format!("days before {day} are {shown:?}"));
            }
            let few: Vec<_> = shown.into_iter().take(2).collect();
            same("two days", &store.days_before(day, 2).map_err(failed)?, &few)?;
        }
        let mailboxes: Vec<_> = self.mailboxes.iter().map(|(id, record)| (*id, record.month)).collect();
        same("mailboxes", &paged(|after| store.mailboxes(after.map(|(id, _)| id), 2).map_err(failed))?, &mailboxes)?;

        let entry = |(id, slot): (&SlotId, &Slot)| {
            Ok(SlotEntry { day: slot.day, slot: *id, bytes: u32::try_from(slot.commit.len()).map_err(|_| "too long")? })
        };
        let mut slots = self.slots.iter().map(entry).collect::<Result<Vec<_>, String>>()?;
        slots.sort();
        same("slots", &paged(|after| store.slots(after, 2).map_err(failed))?, &slots)?;
        for id in &named.slots {
            same("slot", &store.slot(id).map_err(failed)?.as_ref(), &self.slots.get(id))?;
        }

        let entry = |(id, blob): (&BlobId, &BlobRecord)| BlobEntry { day: blob.day, blob: *id, bytes: blob.bytes };
        let mut blobs: Vec<_> = self.blobs.iter().map(entry).collect();
        blobs.sort();
        same("blobs", &paged(|after| store.blobs(after, 2).map_err(failed))?, &blobs)?;
        for id in &named.blobs {
            same("blob", &store.blob(id).map_err(failed)?.as_ref(), &self.blobs.get(id))?;
        }
        Ok(())
    }
}

/// The ids that a history speaks of, and its day.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Mailboxes.
    pub mailboxes: Vec<MailboxId>,
    /// Slots.
    pub slots: Vec<SlotId>,
    /// Blobs.
    pub blobs: Vec<BlobId>,
    /// Today.
    pub today: u32,
}

/// [`Loaded`], to be compared.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    owner_key: [u8; 32],
    root: [u8; 32],
    incarnation: Incarnation,
    month: u32,
    revoked: BTreeSet<GrantId>,
    usage: Usage,
    first: u64,
    next: u64,
    gap: u64,
}

impl From<Loaded> for Seen {
    fn from(loaded: Loaded) -> Self {
        let Loaded { record, revoked, usage, first, next, gap } = loaded;
        let MailboxRecord { owner_key, root, incarnation, month } = record;
        Self { owner_key, root: *root.expose(), incarnation, month, revoked, usage, first, next, gap }
    }
}

/// All pages, one after the other.
fn paged<T: Clone>(read: impl Fn(Option<&T>) -> Result<Vec<T>, String>) -> Result<Vec<T>, String> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let page = read(all.last())?;
        if page.is_empty() {
            return Ok(all);
        }
        if page.len() > 2 {
            return Err(format!("a page of 2 has {}", page.len()));
        }
        all.extend(page);
    }
}

fn same<T: PartialEq + Debug>(what: &str, shown: &T, expected: &T) -> Result<(), String> {
    if shown == expected {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        if text.len() > 600 { text.chars().take(600).chain(" …".chars()).collect() } else { text }
    };
    Err(format!("{what}: it shows {}, and should {}", short(shown), short(expected)))
}
