//! Blobs: sealed attachments. What is kept of one is a row without an owner and some files; who made it, for whom, and who reads it is not.
//!
//! [`Blobs`] decides on the writer's thread, as [`slots`](crate::slots) does: who makes a blob, extends it, deletes it, and whether there is room.
//! [`files`] has the bytes, [`http`] the requests, [`shares`] what a grant may upload in a day.

pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod shares;

use std::collections::HashMap;

use bulla_protocol::blob::NewBlob;
use bulla_protocol::id::BlobId;
use bulla_protocol::limits::{BLOB_DAYS, BLOB_DAYS_IN_ALL, BLOB_OVERHEAD};

use crate::limits;
use crate::store::{BlobEntry, BlobRecord, Store, StoreError, Write};

/// What is to be done with a blob. Its form, its permit or its key were checked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// To make it.
    Create(NewBlob),
    /// To keep it for longer.
    Extend(BlobId),
    /// To delete it.
    Delete(BlobId),
    /// To delete it if this is still its place in the index.
    Forget(BlobEntry),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is so.
    Done,
    /// It was made before, the same.
    There,
    /// There is another blob of that name.
    Taken,
    /// There is none.
    Gone,
    /// There is no room for it.
    Full,
}

/// All blobs, as the writer's thread sees them.
#[derive(Debug)]
pub(crate) struct Blobs {
    limit: u64,
    /// What all blobs take of `limit`.
    taken: u64,
    /// The blobs that this group of writes has looked at, as it leaves them: the store shows them only once the group is durable.
    group: HashMap<BlobId, Option<BlobRecord>>,
}

impl Blobs {
    /// Counts what is stored.
    pub(crate) fn load(store: &dyn Store, limit: u64) -> Result<Self, StoreError> {
        let (mut taken, mut after) = (0, None);
        loop {
            let page = store.blobs(after.as_ref(), limits::SLOTS_PAGE)?;
            taken += page.iter().map(|entry| cost(entry.bytes)).sum::<u64>();
            match page.last() {
                Some(last) => after = Some(*last),
                None => return Ok(Self { limit, taken, group: HashMap::new() }),
            }
        }
    }

    /// What all take of their room.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The group is durable: the store shows all of it.
    pub(crate) fn end_group(&mut self) {
        self.group.clear();
    }

    fn standing(&mut self, store: &dyn Store, blob: BlobId) -> Result<Option<BlobRecord>, StoreError> {
        if let Some(known) = self.group.get(&blob) {
            return Ok(*known);
        }
        let found = store.blob(&blob)?;
        self.group.insert(blob, found);
        Ok(found)
    }

    /// Decides a change and adds what it writes to the group.
    pub(crate) fn decide(
        &mut self,
        store: &dyn Store,
        change: Change,
        today: u32,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, StoreError> {
        match change {
            Change::Create(new) => self.create(store, new, today, writes),
            Change::Extend(blob) => {
                let Some(there) = self.standing(store, blob)?.filter(|there| !there.is_over(today)) else {
                    return Ok(Outcome::Gone);
                };
                let day = today.saturating_add(BLOB_DAYS).min(there.furthest).max(there.day);
                if day != there.day {
                    let record = BlobRecord { day, ..there };
                    self.group.insert(blob, Some(record));
                    writes.push(Write::PutBlob(blob, record, Some(there.day)));
                }
                Ok(Outcome::Done)
            }
            Change::Delete(blob) => {
                let Some(there) = self.standing(store, blob)? else { return Ok(Outcome::Gone) };
                self.drop(blob, there, writes);
                Ok(Outcome::Done)
            }
            Change::Forget(BlobEntry { day, blob, .. }) => {
                // Extended since it was found to be over: it stays.
                let Some(there) = self.standing(store, blob)?.filter(|there| there.day == day) else {
                    return Ok(Outcome::Gone);
                };
                self.drop(blob, there, writes);
                Ok(Outcome::Done)
            }
        }
    }

    fn create(
        &mut self,
        store: &dyn Store,
        new: NewBlob,
        today: u32,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, StoreError> {
        let NewBlob { blob, bytes, read_hash, write_hash } = new;
        if let Some(there) = self.standing(store, blob)? {
            // One that is over and not swept is in the way until it is: its files are there.
            let same = (there.bytes, there.read_hash, there.write_hash) == (bytes, read_hash, write_hash);
            return Ok(if same && !there.is_over(today) { Outcome::There } else { Outcome::Taken });
        }
        let taken = self.taken + cost(bytes);
        if taken > self.limit {
            return Ok(Outcome::Full);
        }
        self.taken = taken;
        let (day, furthest) = (today.saturating_add(BLOB_DAYS), today.saturating_add(BLOB_DAYS_IN_ALL));
        let record = BlobRecord { day, furthest, bytes, read_hash, write_hash };
        self.group.insert(blob, Some(record));
        writes.push(Write::PutBlob(blob, record, None));
        Ok(Outcome::Done)
    }

    fn drop(&mut self, blob: BlobId, there: BlobRecord, writes: &mut Vec<Write>) {
        self.taken = self.taken.saturating_sub(cost(there.bytes));
        self.group.insert(blob, None);
        writes.push(Write::DropBlob(there.day, blob));
    }
}

/// What a blob of so many bytes takes of the limit.
fn cost(bytes: u64) -> u64 {
    bytes + BLOB_OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::fjall::FjallStore;

    #[derive(Debug, Clone)]
    enum Step {
        Create { blob: u8, key: u8 },
        Extend { blob: u8 },
        Delete { blob: u8 },
        Sweep,
        Durable,
        Days(u32),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..4u8, 0..2u8).prop_map(|(blob, key)| Step::Create { blob, key }),
            3 => (0..4u8).prop_map(|blob| Step::Extend { blob }),
            1 => (0..4u8).prop_map(|blob| Step::Delete { blob }),
            1 => Just(Step::Sweep),
            3 => Just(Step::Durable),
            3 => (1..40u32).prop_map(Step::Days),
            1 => Just(Step::Restart),
        ]
    }

    fn over(store: &dyn Store, today: u32) -> Vec<BlobEntry> {
        let mut found = store.blobs(None, 100).unwrap();
        found.retain(|entry| entry.day < today);
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        /// Whatever is made, extended, deleted, swept and made durable in whatever groups: decisions, store and count are those of a plain map.
        #[test]
        fn changes_are_decided_as_by_one_map(steps in proptest::collection::vec(step(), 1..120)) {
            let dir = tempfile::tempdir().unwrap();
            let store = FjallStore::open(&dir.path().join("store"), &dir.path().join("keys"), Box::new(rand_core::OsRng)).unwrap();
            // Room for three of the four.
            let limit = 3 * cost(5);
            let mut blobs = Blobs::load(&store, limit).unwrap();
            let mut map: BTreeMap<BlobId, BlobRecord> = BTreeMap::new();
            let (mut writes, mut today) = (Vec::new(), 100);
            // A sweep looks at what is durable and is decided later, when things may have changed.
            let mut seen_over: Vec<BlobEntry> = Vec::new();
            for step in steps {
                match step {
                    Step::Create { blob, key } => {
                        let blob = BlobId::new([blob; 16]);
                        let new = NewBlob { blob, bytes: 5, read_hash: [key; 32], write_hash: [key; 32] };
                        let expected = match map.get(&blob) {
                            Some(there) if there.read_hash == [key; 32] && there.day >= today => Outcome::There,
                            Some(_) => Outcome::Taken,
                            None if map.len() == 3 => Outcome::Full,
                            None => {
                                let (day, furthest) = (today + BLOB_DAYS, today + BLOB_DAYS_IN_ALL);
                                let (read_hash, write_hash) = ([key; 32], [key; 32]);
                                map.insert(blob, BlobRecord { day, furthest, bytes: 5, read_hash, write_hash });
                                Outcome::Done
                            }
                        };
                        let outcome = blobs.decide(&store, Change::Create(new), today, &mut writes).unwrap();
                        prop_assert_eq!(outcome, expected);
                    }
                    Step::Extend { blob } => {
                        let blob = BlobId::new([blob; 16]);
                        let expected = match map.get_mut(&blob) {
                            Some(there) if there.day >= today => {
                                there.day = there.day.max((today + BLOB_DAYS).min(there.furthest));
                                Outcome::Done
                            }
                            _ => Outcome::Gone,
                        };
                        let outcome = blobs.decide(&store, Change::Extend(blob), today, &mut writes).unwrap();
                        prop_assert_eq!(outcome, expected);
                    }
                    Step::Delete { blob } => {
                        let blob = BlobId::new([blob; 16]);
                        let expected = if map.remove(&blob).is_some() { Outcome::Done } else { Outcome::Gone };
                        let outcome = blobs.decide(&store, Change::Delete(blob), today, &mut writes).unwrap();
                        prop_assert_eq!(outcome, expected);
                    }
                    Step::Sweep => {
                        for entry in std::mem::take(&mut seen_over) {
                            let there = map.get(&entry.blob).is_some_and(|there| there.day == entry.day);
                            if there {
                                map.remove(&entry.blob);
                            }
                            let outcome = blobs.decide(&store, Change::Forget(entry), today, &mut writes).unwrap();
                            prop_assert_eq!(outcome, if there { Outcome::Done } else { Outcome::Gone });
                        }
                        seen_over = over(&store, today);
                    }
                    Step::Days(days) => {
                        today += days;
                        seen_over = over(&store, today);
                    }
                    Step::Durable | Step::Restart => {
                        store.commit(std::mem::take(&mut writes)).unwrap();
                        blobs.end_group();
                        let mut found = BTreeMap::new();
                        for entry in store.blobs(None, 100).unwrap() {
                            let record = store.blob(&entry.blob).unwrap().unwrap();
                            prop_assert_eq!((record.day, record.bytes), (entry.day, entry.bytes));
                            found.insert(entry.blob, record);
                        }
                        prop_assert_eq!(&found, &map);
                        let counted = Blobs::load(&store, limit).unwrap();
                        prop_assert_eq!(blobs.taken, counted.taken);
                        if matches!(step, Step::Restart) {
                            blobs = counted;
                        }
                    }
                }
            }
        }
    }
}
