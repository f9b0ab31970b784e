//! An endpoint's store in memory: cheap to copy, so that a folder can be backed up, put back and cloned in the middle of a run.
//!
//! It shows what the store's contract says and nothing of how a disk fails: those faults are the driver's around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulla_client::store::parts::MemoryParts;
use bulla_client::store::{Batch, MAX_KEY, Order, Read, Row, Store, StoreError, Table};

/// All rows. A clone is a copy of the folder.
#[derive(Debug, Default, Clone)]
pub struct Disk(BTreeMap<(Table, Vec<u8>), Arc<[u8]>>);

impl Disk {
    /// Makes a batch durable.
    pub(crate) fn apply(&mut self, batch: Batch) {
        for (table, key, value) in batch.into_changes() {
            match value {
                Some(value) => self.0.insert((table, key), value.into()),
                None => self.0.remove(&(table, key)),
            };
        }
    }

    /// Loses a table's rows: a damaged store.
    #[cfg(feature = "under-test")]
    pub(crate) fn lose(&mut self, lost: Table) {
        self.0.retain(|(table, _), _| *table != lost);
    }
}

impl Read for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(table, key.to_vec())).map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        // Keys are never this long.
        let end = until.map_or_else(|| vec![0xff; MAX_KEY + 1], <[u8]>::to_vec);
        if from > end.as_slice() {
            return Ok(Vec::new());
        }
        let rows = self.0.range((table, from.to_vec())..(table, end));
        let row = |((_, key), value): (&(Table, Vec<u8>), &Arc<[u8]>)| (key.clone(), value.to_vec());
        Ok(match order {
            Order::Ascending => rows.take(limit).map(row).collect(),
            Order::Descending => rows.rev().take(limit).map(row).collect(),
        })
    }
}

impl Store for Disk {
    type Parts = MemoryParts;

    fn parts(&self) -> MemoryParts {
        MemoryParts::default()
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.apply(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Disk;

    #[tokio::test]
    async fn it_keeps_the_stores_contract() {
        bulla_client::store::contract::run(async || Disk::default(), async |disk| disk).await;
    }
}
