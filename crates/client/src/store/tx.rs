//! A transaction: reads that see its own writes, values sealed on the way in and opened on the way out.
//!
//! Everything that one step of the engine does, and everything that the program above adds to it, goes through one of these and
//! becomes durable as one batch.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use itertools::{EitherOrBoth, Itertools as _};
use rand_core::CryptoRngCore;
use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::hot::{self, GROUP_ROWS, Group, GroupKey};
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

/// What a transaction does to a row: its new value, not yet sealed, or its removal.
type Changed = Option<(Scope, Zeroizing<Vec<u8>>)>;

/// One change of state, not yet durable.
pub struct Tx<'a> {
    read: &'a dyn Read,
    vault: &'a Vault,
    rng: RngHandle<'a>,
    changes: BTreeMap<(Table, Vec<u8>), Changed>,
    erased: BTreeSet<Scope>,
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
        Self { read, vault, rng: RngHandle(rng), changes: BTreeMap::new(), erased: BTreeSet::new(), now_ms }
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

    /// What has to become durable, sealed: each value once, however often it changed. If it is not committed, or that fails, the vault has to
    /// [`forget`](Vault::forget).
    pub fn into_batch(self) -> Result<Batch, StoreError> {
        let Self { read, vault, mut rng, changes, erased, .. } = self;
        let mut batch = Batch::default();
        for scope in erased {
            vault.erase(&mut batch, scope);
        }
        let mut hot = vault.hot.borrow_mut();
        for ((table, key), change) in changes {
            let plain = match change {
                Some((scope, plain)) => {
                    let sealed = vault.seal(read, &mut batch, &mut rng, scope, (table, &key), &plain)?;
                    batch.put(table, &key, sealed);
                    Some(plain)
                }
                None => {
                    batch.delete(table, &key);
                    None
                }
            };
            hot.change(table, key, plain);
        }
        Ok(batch)
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.erased.is_empty()
    }

    /// A value's bytes.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if let Some(change) = self.changes.get(&(table, key.to_vec())) {
            return Ok(change.as_ref().map(|(_, plain)| plain.clone()));
        }
        if let Some(group) = self.hot(table, key)?
            && let Some(Group::Rows(rows)) = self.vault.hot.borrow().get(&group)
        {
            return Ok(rows.get(key).cloned());
        }
        let sealed = self.read.get(table, key)?;
        sealed.map(|value| self.vault.open(self.read, (table, key), &value)).transpose()
    }

    /// The group of a key, at hand from now on, if groups of its table are kept.
    fn hot(&self, table: Table, key: &[u8]) -> Result<Option<GroupKey>, StoreError> {
        let Some(group) = hot::group_of(table, key) else { return Ok(None) };
        if self.vault.hot.borrow().get(&group).is_none() {
            let until = after_prefix(&group.1);
            let rows = self.read.scan(table, &group.1, until.as_deref(), Order::Ascending, GROUP_ROWS + 1)?;
            let open = |(key, value): (Vec<u8>, Vec<u8>)| {
                let plain = self.vault.open(self.read, (table, &key), &value)?;
                Ok((key, plain))
            };
            let rows = rows.into_iter().map(open).collect::<Result<_, StoreError>>()?;
            self.vault.hot.borrow_mut().keep(group.clone(), rows);
        }
        Ok(Some(group))
    }

    /// A record.
    pub fn get<T>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        T: for<'b> minicbor::Decode<'b, ()>,
    {
        self.get_bytes(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
    }

    /// Sets a value's bytes.
    pub fn put_bytes(&mut self, table: Table, key: &[u8], scope: Scope, plain: Zeroizing<Vec<u8>>) {
        self.changes.insert((table, key.to_vec()), Some((scope, plain)));
    }

    /// Sets a record.
    pub fn put<T>(&mut self, table: Table, key: &[u8], scope: Scope, record: &T) -> Result<(), StoreError>
    where
        T: minicbor::Encode<()>,
    {
        let bytes = Zeroizing::new(minicbor::to_vec(record).map_err(|_| StoreError::Format { table })?);
        self.put_bytes(table, key, scope, bytes);
        Ok(())
    }

    /// Removes a value.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.insert((table, key.to_vec()), None);
    }

    /// Destroys a scope's key, and with it all that was ever sealed under it, in this transaction too.
    pub fn erase(&mut self, scope: Scope) {
        self.erased.insert(scope);
        for change in self.changes.values_mut() {
            change.take_if(|(of, _)| *of == scope);
        }
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
        let own = self.changed(table, from, until);
        if let Some(group) = self.whole_group(table, from, until)?
            && let Some(Group::Rows(rows)) = self.vault.hot.borrow().get(&group)
        {
            let stored = rows.range::<[u8], _>(between(from, until)).map(|(key, value)| (key.clone(), value));
            let open = |_: &[u8], value: &Zeroizing<Vec<u8>>| Ok(value.clone());
            return match order {
                Order::Ascending => merge(own.into_iter(), stored, order, limit, open),
                Order::Descending => merge(own.into_iter().rev(), stored.rev(), order, limit, open),
            };
        }
        // Own deletions may hide that many stored rows.
        let stored = self.read.scan(table, from, until, order, limit.saturating_add(own.len()))?.into_iter();
        let open = |key: &[u8], value: Vec<u8>| self.vault.open(self.read, (table, key), &value);
        match order {
            Order::Ascending => merge(own.into_iter(), stored, order, limit, open),
            Order::Descending => merge(own.into_iter().rev(), stored, order, limit, open),
        }
    }

    /// What this transaction changes of a table between two keys.
    fn changed(&self, table: Table, from: &[u8], until: Option<&[u8]>) -> BTreeMap<&[u8], &Changed> {
        let tail = self.changes.range((table, from.to_vec())..);
        tail.map_while(|((of, key), change)| (*of == table).then_some((key.as_slice(), change)))
            .take_while(|(key, _)| until.is_none_or(|until| *key < until))
            .collect()
    }

    /// The group in which all keys of a range lie, if there is one and it is kept.
    fn whole_group(&self, table: Table, from: &[u8], until: Option<&[u8]>) -> Result<Option<GroupKey>, StoreError> {
        let Some((_, shared)) = hot::group_of(table, from) else { return Ok(None) };
        let inside = match (until, after_prefix(&shared)) {
            (_, None) => true,
            (Some(until), Some(end)) => until <= end.as_slice(),
            (None, Some(_)) => false,
        };
        if inside { self.hot(table, from) } else { Ok(None) }
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

/// A range of keys; an empty one where its ends are the wrong way round.
fn between<'k>(from: &'k [u8], until: Option<&'k [u8]>) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    match until {
        Some(until) if until <= from => (Bound::Included(from), Bound::Excluded(from)),
        Some(until) => (Bound::Included(from), Bound::Excluded(until)),
        None => (Bound::Included(from), Bound::Unbounded),
    }
}

/// Stored rows as a transaction has changed them. Both come in `order`.
fn merge<'o, V>(
    own: impl Iterator<Item = (&'o [u8], &'o Changed)>,
    stored: impl Iterator<Item = (Vec<u8>, V)>,
    order: Order,
    limit: usize,
    open: impl Fn(&[u8], V) -> Result<Zeroizing<Vec<u8>>, StoreError>,
) -> Result<Vec<OpenedRow>, StoreError> {
    let compare = |a: &[u8], b: &[u8]| match order {
        Order::Ascending => a.cmp(b),
        Order::Descending => b.cmp(a),
    };
    own.merge_join_by(stored, |(a, _), (b, _)| compare(a, b))
        .filter_map(|row| match row {
            EitherOrBoth::Left((key, change)) | EitherOrBoth::Both((key, change), _) => {
                change.as_ref().map(|(_, plain)| Ok((key.to_vec(), plain.clone())))
            }
            EitherOrBoth::Right((key, value)) => Some(open(&key, value).map(|plain| (key, plain))),
        })
        .take(limit)
        .collect()
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
