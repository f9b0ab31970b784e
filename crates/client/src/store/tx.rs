//! A transaction: reads that see its own writes, values sealed on the way in and opened on the way out.
//!
//! Everything that one step of the engine does, and everything that the program above adds to it, goes through one of these and
//! becomes durable as one batch.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rand_core::CryptoRngCore;
use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::vault::{Scope, Vault};
use super::{Batch, Order, Read, StoreError, Table};

/// A key and its opened value.
pub type OpenedRow = (Vec<u8>, Zeroizing<Vec<u8>>);

/// A source of randomness that can be handed around.
pub type Rng = Box<dyn CryptoRngCore + Send>;

/// Adapter: `dyn CryptoRngCore` as a sized `CryptoRngCore`.
#[derive(Clone, Copy)]
pub struct RngHandle<'a>(pub &'a RefCell<Rng>);

impl rand_core::RngCore for RngHandle<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.borrow_mut().next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.borrow_mut().next_u64()
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.borrow_mut().fill_bytes(dest);
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.borrow_mut().try_fill_bytes(dest)
    }
}

impl rand_core::CryptoRng for RngHandle<'_> {}

/// One change of state, not yet durable.
pub struct Tx<'a> {
    read: &'a dyn Read,
    vault: &'a Vault,
    rng: RngHandle<'a>,
    batch: Batch,
    now_ms: u64,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl<'a> Tx<'a> {
    /// Begins over a store.
    #[must_use]
    pub fn new(read: &'a dyn Read, vault: &'a Vault, rng: &'a RefCell<Rng>, now_ms: u64) -> Self {
        Self { read, vault, rng: RngHandle(rng), batch: Batch::default(), now_ms }
    }

    /// The time of this step, Unix ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Randomness.
    #[must_use]
    pub fn rng(&self) -> RngHandle<'a> {
        self.rng
    }

    /// Random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng().fill_bytes(&mut bytes);
        bytes
    }

    /// A blinded index key.
    #[must_use]
    pub fn blind(&self, what: &str, value: &[u8]) -> [u8; 16] {
        self.vault.blind(what, value)
    }

    /// What has to become durable.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// A value's bytes.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed = match self.batch.get(table, key) {
            Some(change) => change.map(<[u8]>::to_vec),
            None => self.read.get(table, key)?,
        };
        sealed.map(|value| self.vault.open(self.read, &self.batch, (table, key), &value)).transpose()
    }

    /// A record.
    pub fn get<T>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        T: for<'b> minicbor::Decode<'b, ()>,
    {
        self.get_bytes(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
    }

    /// Sets a value's bytes.
    pub fn put_bytes(&mut self, table: Table, key: &[u8], scope: Scope, plain: &[u8]) -> Result<(), StoreError> {
        let mut rng = self.rng;
        let sealed = self.vault.seal(self.read, &mut self.batch, &mut rng, scope, (table, key), plain)?;
        self.batch.put(table, key, sealed);
        Ok(())
    }

    /// Sets a record.
    pub fn put<T>(&mut self, table: Table, key: &[u8], scope: Scope, record: &T) -> Result<(), StoreError>
    where
        T: minicbor::Encode<()>,
    {
        let bytes = Zeroizing::new(minicbor::to_vec(record).map_err(|_| StoreError::Format { table })?);
        self.put_bytes(table, key, scope, &bytes)
    }

    /// Removes a value.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.batch.delete(table, key);
    }

    /// Destroys a scope's key.
    pub fn erase(&mut self, scope: Scope) {
        self.vault.erase(&mut self.batch, scope);
    }

    /// Up to `limit` keys with `from <= key` and, if given, `key < until`, with their opened values.
    pub fn scan_bytes(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<OpenedRow>, StoreError> {
        let mut own: BTreeMap<&[u8], Option<&[u8]>> = self.batch.range(table, from, until).collect();
        // Own deletions may hide that many stored rows.
        let rows = self.read.scan(table, from, until, order, limit.saturating_add(own.len()))?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (key, value) in rows {
            match own.remove(key.as_slice()) {
                Some(None) => {}
                Some(Some(newer)) => drop(merged.insert(key, newer.to_vec())),
                None => drop(merged.insert(key, value)),
            }
        }
        for (key, value) in own {
            if let Some(value) = value {
                merged.insert(key.to_vec(), value.to_vec());
            }
        }
        let open = |(key, value): (Vec<u8>, Vec<u8>)| {
            let plain = self.vault.open(self.read, &self.batch, (table, &key), &value)?;
            Ok((key, plain))
        };
        match order {
            Order::Ascending => merged.into_iter().take(limit).map(open).collect(),
            Order::Descending => merged.into_iter().rev().take(limit).map(open).collect(),
        }
    }

    /// Records of a scan.
    pub fn scan<T>(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError>
    where
        T: for<'b> minicbor::Decode<'b, ()>,
    {
        self.scan_bytes(table, from, until, order, limit)?
            .into_iter()
            .map(|(key, bytes)| Ok((key, decode(table, &bytes)?)))
            .collect()
    }

    /// All opened values whose key begins with `prefix`.
    pub fn scan_bytes_prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<OpenedRow>, StoreError> {
        let until = after_prefix(prefix);
        self.scan_bytes(table, prefix, until.as_deref(), Order::Ascending, usize::MAX / 2)
    }

    /// All records whose key begins with `prefix`.
    pub fn scan_prefix<T>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError>
    where
        T: for<'b> minicbor::Decode<'b, ()>,
    {
        let until = after_prefix(prefix);
        self.scan(table, prefix, until.as_deref(), Order::Ascending, usize::MAX / 2)
    }
}

/// The smallest key after all that begin with `prefix`; `None` if there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn decode<T>(table: Table, bytes: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> minicbor::Decode<'b, ()>,
{
    minicbor::decode(bytes).map_err(|_| StoreError::Format { table })
}
