//! What must be stored of a conversation: OpenMLS's values and ours, as keys and values with the difference since last time.
//!
//! Loading is in memory, processing is in memory, and the store writes [`State::take_changes`] in the same transaction as
//! everything else that a received envelope changed. If that transaction fails, the loaded conversation must be dropped.
//!
//! Every value begins with one byte that tells its format. OpenMLS's values are MessagePack with field names: its types need a
//! self-describing format (`deserialize_any`), and fields that a later OpenMLS adds have defaults only there. They were CBOR in format 1, in
//! which serde's sequences of bytes take twice their size; those are still read.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

/// The format of our own values and of lists. OpenMLS's of before [`PACKED`] have it too.
pub(crate) const FORMAT: u8 = 1;

/// The format of OpenMLS's values.
pub(crate) const PACKED: u8 = 2;

/// Why a state cannot be loaded or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A value of a format that this version does not know, or an empty one.
    #[error("state of an unknown format")]
    Format,
    /// A value that does not decode: the store is damaged, or from another version.
    #[error("damaged state")]
    Damaged,
    /// Something that must be there is not.
    #[error("incomplete state")]
    Incomplete,
}

/// One change: a key, and its new value or nothing if it is deleted.
pub type Change = (Vec<u8>, Option<Zeroizing<Vec<u8>>>);

#[derive(Default, Clone)]
struct Inner {
    values: BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>,
    dirty: BTreeSet<Vec<u8>>,
}

/// Keys and values of one conversation. The values are secrets.
#[derive(Default)]
pub struct State(Mutex<Inner>);

impl State {
    /// From stored entries.
    pub fn load<V: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (Vec<u8>, V)>) -> Result<Self, StateError> {
        let mut inner = Inner::default();
        for (key, value) in entries {
            let value = Zeroizing::new(value.into());
            if !matches!(value.first(), Some(&(FORMAT | PACKED))) {
                return Err(StateError::Format);
            }
            inner.values.insert(key, value);
        }
        Ok(Self(Mutex::new(inner)))
    }

    /// What changed since the last call, in the order of keys. Must be written before anything that follows from it is acted on.
    pub fn take_changes(&self) -> Vec<Change> {
        let mut inner = self.lock();
        let dirty = core::mem::take(&mut inner.dirty);
        dirty
            .into_iter()
            .map(|key| {
                let value = inner.values.get(&key).cloned();
                (key, value)
            })
            .collect()
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.lock().dirty.is_empty()
    }

    /// All entries, in the order of keys.
    #[must_use]
    pub fn entries(&self) -> Vec<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        self.lock().values.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    // A panic elsewhere leaves no half-made change behind: each change is one insert or remove.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.lock().values.get(key).cloned()
    }

    pub(crate) fn put(&self, key: Vec<u8>, value: Zeroizing<Vec<u8>>) {
        let mut inner = self.lock();
        if inner.values.get(&key) != Some(&value) {
            inner.dirty.insert(key.clone());
            inner.values.insert(key, value);
        }
    }

    pub(crate) fn delete(&self, key: &[u8]) {
        let mut inner = self.lock();
        if inner.values.remove(key).is_some() {
            inner.dirty.insert(key.to_vec());
        }
    }

    /// Takes an entry out as if it had never been there.
    pub(crate) fn forget(&self, key: &[u8]) {
        let mut inner = self.lock();
        inner.values.remove(key);
        inner.dirty.remove(key);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} entries, redacted)", self.lock().values.len())
    }
}
