//! Opened rows that every message touches, kept at hand: without them each message would cost a dozen searches of the store, and as many
//! values opened.
//!
//! What is kept are whole *groups*: all rows of a table whose keys begin alike, which is a conversation in most tables, and one message in
//! those of messages. A group is complete, so that what is not in it is not in the store either. [`Tx`](super::tx::Tx) reads through it and is the only one that changes it, when its batch
//! is made; a failed commit has to be followed by [`Vault::forget`](super::vault::Vault::forget), which clears it.

use std::collections::{BTreeMap, HashMap};

use zeroize::Zeroizing;

use super::Table;

/// Rows of a group that is kept; longer ones (an outbox that waits for weeks) are read from the store.
pub(super) const GROUP_ROWS: usize = 64;

/// Bytes kept; with more, all are dropped and read again when needed.
const BYTES: usize = 16 << 20;

/// What a group takes besides its rows, about.
const GROUP_BYTES: usize = 128;

pub(super) type Opened = Zeroizing<Vec<u8>>;

/// A table and the beginning that a group's keys share.
pub(super) type GroupKey = (Table, Vec<u8>);

/// A group: its rows, or that it has too many.
pub(super) enum Group {
    Rows(BTreeMap<Vec<u8>, Opened>),
    TooLong,
}

/// The groups.
#[derive(Default)]
pub(super) struct Hot {
    groups: HashMap<GroupKey, Group>,
    bytes: usize,
}

/// The group to which a key belongs, if its table's are kept.
pub(super) fn group_of(table: Table, key: &[u8]) -> Option<GroupKey> {
    let shared = match table {
        Table::Conversations
        | Table::Groups
        | Table::Members
        | Table::Permits
        | Table::Outbox
        | Table::Receipts
        | Table::Claims
        | Table::Held
        | Table::Awaited
        | Table::PeerSpares => 8,
        Table::Messages | Table::Contents => 16,
        Table::MessageIds => 32,
        Table::Grants => 4,
        _ => return None,
    };
    Some((table, key.get(..shared)?.to_vec()))
}

impl Hot {
    pub(super) fn get(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(key)
    }

    /// Keeps a group as it is in the store.
    pub(super) fn keep(&mut self, key: GroupKey, rows: Vec<(Vec<u8>, Opened)>) {
        if self.bytes > BYTES {
            self.clear();
        }
        self.bytes += GROUP_BYTES;
        let group = if rows.len() > GROUP_ROWS {
            Group::TooLong
        } else {
            self.bytes += rows.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            Group::Rows(rows.into_iter().collect())
        };
        self.groups.insert(key, group);
    }

    /// Notes what a batch changes.
    pub(super) fn change(&mut self, table: Table, key: Vec<u8>, value: Option<Opened>) {
        let Some(group_key) = group_of(table, &key) else { return };
        let is_alone = matches!(table, Table::Messages | Table::Contents | Table::MessageIds);
        let rows = match (self.groups.get_mut(&group_key), value.is_some() && is_alone) {
            (Some(Group::Rows(rows)), _) => rows,
            // The only row of its group, whose keys are never longer: no need to read it first.
            (None, true) => return self.keep(group_key, value.map(|value| (key, value)).into_iter().collect()),
            _ => return,
        };
        let key_len = key.len();
        let len = value.as_ref().map_or(0, |value| key_len + value.len());
        let old = match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
        let too_long = rows.len() > GROUP_ROWS;
        self.bytes = (self.bytes + len).saturating_sub(old.map_or(0, |old| key_len + old.len()));
        if too_long {
            self.groups.insert(group_key, Group::TooLong);
        }
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.bytes = 0;
    }
}
