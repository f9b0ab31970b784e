//! Stores of versions before rows had names: they stood under their mailbox's id, and so did the notes of their days.

use ::fjall::PersistMode;

use super::fjall::{FjallStore, Group, NAMED};
use super::{StoreError, Write, rows};

/// Rows that are written anew at once.
const STEP: usize = 256;

impl FjallStore {
    /// Writes every row anew, under the name of its mailbox's backlog. It may break off anywhere: what was not reached stands under its id still.
    pub(super) fn names_rows(&self) -> Result<(), StoreError> {
        for entry in self.mailboxes.iter() {
            let id = rows::mailbox_id(&entry.key()?)?;
            loop {
                let mut group = self.group();
                let mut is_done = true;
                for entry in self.rows.prefix(id.as_bytes()).take(STEP) {
                    let (key, value) = entry.into_inner()?;
                    is_done = false;
                    if let Some(row) = self.open_row(&key, &value)? {
                        self.apply(&mut group, Write::PutRow(id, rows::row_order(&key)?, row))?;
                    }
                    group.batch.remove(&self.rows, key);
                }
                if is_done {
                    break;
                }
                self.keys.sync()?;
                group.batch.commit()?;
            }
        }
        let mut group = self.group();
        for entry in self.days.iter() {
            let key = entry.key()?;
            let (_, name) = rows::decode_day(&key)?;
            if self.keys.mailbox(&name).is_none() {
                group.batch.remove(&self.days, key);
            }
        }
        for entry in self.backlogs.iter() {
            group.batch.remove(&self.backlogs, entry.key()?);
        }
        group.batch.insert(&self.meta, NAMED, rows::PRESENT);
        group.batch.commit()?;
        Ok(())
    }

    fn group(&self) -> Group {
        Group::new(self.db.batch().durability(Some(PersistMode::SyncAll)))
    }
}

#[cfg(test)]
mod tests {
    use bulla_protocol::id::{Incarnation, IncarnationNonce, MailboxId, TagBlock};
    use bulla_protocol::permit::{Class, MacRoot};
    use rand_core::OsRng;

    use super::*;
    use crate::store::{MailboxRecord, Page, Row, Store as _};

    const A: MailboxId = MailboxId::new([1; 16]);
    const B: MailboxId = MailboxId::new([2; 16]);
    const ALL: Page = Page { rows: usize::MAX, bytes: usize::MAX };

    fn open(folder: &tempfile::TempDir) -> FjallStore {
        FjallStore::open(&folder.path().join("store"), &folder.path().join("keys"), Box::new(OsRng)).unwrap()
    }

    fn row(day: u32, text: &str) -> Row {
        let (class, tag) = (Class::Ordinary, TagBlock::new([5; 16]));
        Row { day, class, tag, envelope: text.as_bytes().to_vec().into() }
    }

    fn texts(store: &FjallStore, id: MailboxId) -> Vec<(u64, String)> {
        let text = |row: Row| String::from_utf8(row.envelope.to_vec()).unwrap();
        store.rows(&id, 0..=u64::MAX, ALL).unwrap().into_iter().map(|(order, row)| (order, text(row))).collect()
    }

    /// Puts a row, and all that is said of it, where a version of before would have put it.
    fn as_before(store: &FjallStore, id: MailboxId, order: u64) {
        let (_, row) = store.rows(&id, order..=order, ALL).unwrap().remove(0);
        let with = store.keys.to_seal(&id, row.day).unwrap();
        let key = rows::row_key(id.as_bytes(), order);
        let mut group = store.group();
        let sealed = rows::seal_row(&key, &row, with.of.slot, &with.key, with.nonce).unwrap();
        group.batch.insert(&store.rows, key, sealed);
        group.batch.remove(&store.rows, rows::row_key(&with.of.name, with.of.inner(order)));
        group.batch.insert(&store.days, rows::day_key(row.day, id.as_bytes()), rows::PRESENT);
        group.batch.remove(&store.days, rows::day_key(row.day, &with.of.name));
        group.batch.insert(&store.backlogs, *id.as_bytes(), [&[1][..], &with.of.slot.to_be_bytes()].concat());
        group.batch.remove(&store.meta, NAMED);
        group.batch.commit().unwrap();
    }

    #[test]
    fn what_waits_in_a_store_of_before_waits_still_and_is_named_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let record = |n| MailboxRecord {
            owner_key: [n; 32],
            root: MacRoot::new([n; 32]),
            incarnation: Incarnation { number: 1, nonce: IncarnationNonce::new([n; 16]) },
            month: 600,
        };
        let mut writes = vec![Write::PutMailbox(A, record(1)), Write::PutMailbox(B, record(2))];
        for order in 1..=600 {
            writes.push(Write::PutRow(A, order, row(130 + u32::from(order > 300), &format!("a{order}"))));
        }
        writes.push(Write::PutRow(B, 1, row(130, "b1")));
        store.commit(writes).unwrap();
        let (a, b) = (texts(&store, A), texts(&store, B));
        assert_eq!((a.len(), b.len()), (600, 1));
        // The last of A's had been written anew already when the relay was killed.
        for order in 1..600 {
            as_before(&store, A, order);
        }
        as_before(&store, B, 1);
        assert!(store.rows.prefix(A.as_bytes()).count() == 599 && texts(&store, A).len() == 1, "as it was before");
        drop(store);

        let store = open(&folder);
        assert_eq!((texts(&store, A), texts(&store, B)), (a.clone(), b.clone()));
        let mut days = store.days_before(u32::MAX, 9).unwrap();
        days.sort_unstable();
        assert_eq!(days, [(130, A), (130, B), (131, A)]);
        for id in [A, B] {
            assert_eq!(store.rows.prefix(id.as_bytes()).count(), 0);
        }
        assert_eq!((store.backlogs.iter().count(), store.days.iter().count()), (0, 3));
        // Once, and it stays so.
        drop(store);
        let store = open(&folder);
        assert_eq!((texts(&store, A), texts(&store, B)), (a, b));
        store.commit(vec![Write::DropRows(A, (1..=600).collect())]).unwrap();
        assert_eq!(store.destroy_keys(0).unwrap(), 1);
        assert_eq!((texts(&store, A), texts(&store, B).len()), (Vec::new(), 1));
    }
}
