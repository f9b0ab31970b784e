//! Where an endpoint keeps everything: an ordered map of tables, changed by one atomic, durable batch at a time.
//!
//! The trait is small so that SQLite, IndexedDB and PostgreSQL fit alike: reads are synchronous (a browser keeps its few
//! megabytes in memory beside the database), only the commit is asynchronous. [`contract`] is the suite that every
//! implementation passes. Values are sealed before they get here ([`vault`]); keys are numbers, ids and blinded hashes.

pub mod contract;
mod hot;
#[cfg(not(target_arch = "wasm32"))]
pub mod keyfile;
pub mod parts;
#[cfg(not(target_arch = "wasm32"))]
pub mod sqlite;
pub mod tx;
pub mod vault;

use std::collections::BTreeMap;
use std::future::Future;

/// A table. Numbers are part of the stored format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Table {
    /// One row per fact about the endpoint.
    Meta = 1,
    /// Wrapped keys of scopes.
    ScopeKeys = 2,
    /// Mailboxes owned, by mailbox id.
    Mailboxes = 3,
    /// Conversations, by number.
    Conversations = 4,
    /// MLS state, by conversation and OpenMLS's key.
    Mls = 5,
    /// Messages, by conversation and order.
    Messages = 6,
    /// Where a message id is: the duplicate record.
    MessageIds = 7,
    /// Intents and sealed envelopes, by conversation, lane and sequence.
    Outbox = 8,
    /// Permits that others gave, by conversation, member and purpose.
    Permits = 9,
    /// Grants that this endpoint gave, by serial.
    Grants = 10,
    /// Digests of Hellos seen.
    Hellos = 11,
    /// Keys of published bundles, by serial.
    BundleKeys = 12,
    /// Receipts due, by conversation.
    Receipts = 13,
    /// Outgoing messages that wait for a receipt, by deadline.
    Deadlines = 14,
    /// Envelopes that could not be read, as they came.
    Unreadable = 15,
    /// Conversations by blinded user id.
    Peers = 16,
    /// How a conversation's group stands, by conversation.
    Groups = 17,
    /// Commits whose claim of a slot is not answered, by conversation.
    Claims = 18,
    /// Messages of an epoch that is not reached here yet, by conversation and arrival.
    Held = 19,
    /// Secrets of the spare KeyPackages that this endpoint gave, by conversation and serial.
    Spares = 20,
    /// The newest spare KeyPackage that each member gave, by conversation and member.
    PeerSpares = 21,
    /// The other endpoints of a conversation, by conversation and number.
    Members = 22,
    /// Messages that a member has not confirmed, where there are several, by conversation, member and order.
    Awaited = 23,
    /// Devices that were invited and have not come, by conversation and name.
    Invitations = 24,
    /// What messages say, by conversation and order.
    Contents = 25,
    /// Attachments that wait to be uploaded, by blob.
    Uploads = 26,
    /// The program's own tables, above the engine's: it may use any of these.
    App0 = 128,
    /// The program's own.
    App1 = 129,
    /// The program's own.
    App2 = 130,
    /// The program's own.
    App3 = 131,
    /// The program's own.
    App4 = 132,
    /// The program's own.
    App5 = 133,
    /// The program's own.
    App6 = 134,
    /// The program's own.
    App7 = 135,
    /// The program's own.
    App8 = 136,
    /// The program's own.
    App9 = 137,
    /// The program's own.
    App10 = 138,
    /// The program's own.
    App11 = 139,
}

impl Table {
    /// The engine's own tables; the others are the program's above it.
    pub const ENGINE: &[Self] = &[
        Self::Meta,
        Self::ScopeKeys,
        Self::Mailboxes,
        Self::Conversations,
        Self::Mls,
        Self::Messages,
        Self::MessageIds,
        Self::Outbox,
        Self::Permits,
        Self::Grants,
        Self::Hellos,
        Self::BundleKeys,
        Self::Receipts,
        Self::Deadlines,
        Self::Unreadable,
        Self::Peers,
        Self::Groups,
        Self::Claims,
        Self::Held,
        Self::Spares,
        Self::PeerSpares,
        Self::Members,
        Self::Awaited,
        Self::Invitations,
        Self::Contents,
        Self::Uploads,
    ];
}

/// Why a store failed. Nothing of a failed commit is visible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database said no: disk full, I/O error, file damaged.
    #[error("the store at {place} failed: {cause}")]
    Backend {
        /// File or database.
        place: String,
        /// In the database's words; never contains stored values.
        cause: String,
    },
    /// Another process has the store open.
    #[error("{place} is in use by another process; stop it, or choose another --data folder")]
    Locked {
        /// File or folder.
        place: String,
    },
    /// A value did not open: wrong key, or changed outside of Bulla.
    #[error(
        "a stored value of {table:?} does not open: the key does not fit, or the store was changed by someone else"
    )]
    Sealed {
        /// Where it stood.
        table: Table,
    },
    /// A value opened and is not what this version writes.
    #[error("a stored value of {table:?} has a format that this version does not know")]
    Format {
        /// Where it stood.
        table: Table,
    },
    /// The key file is missing, damaged, or the passphrase is wrong.
    #[error("{0}")]
    Key(String),
}

/// Changes that become durable together or not at all. The last change of a key counts.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    changes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.changes.insert((table, key.to_vec()), Some(value));
    }

    /// Removes a value, if there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.insert((table, key.to_vec()), None);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What this batch says of a key: nothing, removed, or a value.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(&(table, key.to_vec())).map(|v| v.as_deref())
    }

    /// All changes, in order of table and key.
    pub fn into_changes(self) -> impl Iterator<Item = (Table, Vec<u8>, Option<Vec<u8>>)> {
        self.changes.into_iter().map(|((table, key), value)| (table, key, value))
    }
}

/// From which end a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Longest key of any table; scans without an end rely on it.
pub const MAX_KEY: usize = 1_024;

/// Reads of an ordered map.
pub trait Read {
    /// One value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` rows with `from <= key` and, if given, `key < until`.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
}

/// An ordered, durable map.
pub trait Store: Read + 'static {
    /// Where attachments lie.
    type Parts: parts::Parts;

    /// Where attachments lie: another thing than the rows, which outlives a batch that failed.
    fn parts(&self) -> Self::Parts;

    /// Makes a batch durable, whole or not at all. When it returns, a power cut loses nothing of it.
    fn commit(&mut self, batch: Batch) -> impl Future<Output = Result<(), StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn the_engines_tables_are_all_listed() {
        // A new table has to be named here, and so is not forgotten there.
        let is_engines = |table: Table| match table {
            Table::Meta
            | Table::ScopeKeys
            | Table::Mailboxes
            | Table::Conversations
            | Table::Mls
            | Table::Messages
            | Table::MessageIds
            | Table::Outbox
            | Table::Permits
            | Table::Grants
            | Table::Hellos
            | Table::BundleKeys
            | Table::Receipts
            | Table::Deadlines
            | Table::Unreadable
            | Table::Peers
            | Table::Groups
            | Table::Claims
            | Table::Held
            | Table::Spares
            | Table::PeerSpares
            | Table::Members
            | Table::Awaited
            | Table::Invitations
            | Table::Contents
            | Table::Uploads => true,
            Table::App0
            | Table::App1
            | Table::App2
            | Table::App3
            | Table::App4
            | Table::App5
            | Table::App6
            | Table::App7
            | Table::App8
            | Table::App9
            | Table::App10
            | Table::App11 => false,
        };
        assert!(Table::ENGINE.iter().all(|table| is_engines(*table)));
        let numbers: Vec<u8> = Table::ENGINE.iter().map(|table| *table as u8).collect();
        assert_eq!(numbers, (1..=Table::Uploads as u8).collect::<Vec<_>>());
    }
}
