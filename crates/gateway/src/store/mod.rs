//! What the gateway keeps beside the engine's tables, in the same transactions: nothing here has a file of its own.
//!
//! | table | key | value | sealed for |
//! |---|---|---|---|
//! | `App0` facts | name of the fact | account, token's copy, webhook targets, the queue's counters, templates, links, uploads, what is set about the number | the endpoint |
//! | `App1` contacts | conversation | who the customer is at the API | the customer |
//! | `App2` numbers | blinded `wa_id` | conversation | the customer |
//! | `App3` users | blinded `user_id` | `wa_id` | the customer |
//! | `App4` queue | conversation, sequence | a webhook's exact bytes | the customer |
//! | `App5` waiting | conversation | tries of its oldest webhook | the endpoint |
//! | `App6` age | sequence | conversation, when it was queued | the endpoint |
//! | `App8` media | media id | a customer's message with a file, or an own file at the relay | the customer, the endpoint |
//! | `App11` dead letters | sequence | a webhook that nobody took in 7 days, as it was queued | the customer |
//! | `App10` consents | when, conversation, purpose | the ledger: what the customer agreed to and withdrew, signed | the customer |
//! | `App9` pushes | conversation | where its devices are woken; that one is owed it | the customer, the endpoint |
//! | `App7` outgoing | message id | what the sender wants to hear again in statuses | the customer |
//!
//! Keys are local numbers, message ids and blinded hashes: nothing readable lies in the file.

pub(crate) mod consents;
pub(crate) mod contacts;
pub(crate) mod facts;
pub(crate) mod links;
pub(crate) mod media;
pub(crate) mod number;
pub(crate) mod pushes;
pub(crate) mod queue;
pub(crate) mod templates;
pub(crate) mod uploads;

use bulla_client::engine::record::ConversationRecord;
use bulla_client::event::ConversationId;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;
use bulla_client::store::{StoreError, Table};

pub(crate) const FACTS: Table = Table::App0;
pub(crate) const CONTACTS: Table = Table::App1;
pub(crate) const NUMBERS: Table = Table::App2;
pub(crate) const USERS: Table = Table::App3;
pub(crate) const QUEUE: Table = Table::App4;
pub(crate) const WAITING: Table = Table::App5;
pub(crate) const AGE: Table = Table::App6;
pub(crate) const OUTGOING: Table = Table::App7;
pub(crate) const MEDIA: Table = Table::App8;
pub(crate) const PUSHES: Table = Table::App9;
pub(crate) const CONSENTS: Table = Table::App10;
pub(crate) const DEAD: Table = Table::App11;

/// In the queue, the place of webhooks that are about no customer. Conversations are numbered from 1.
pub(crate) const BUSINESS: ConversationId = ConversationId(0);

/// The customer's key: the one that seals the engine's own rows of a conversation, so that erasing a customer is destroying one key.
pub(crate) fn scope(tx: &Tx<'_>, conversation: ConversationId) -> Result<Scope, StoreError> {
    if conversation == BUSINESS {
        return Ok(Scope::Endpoint);
    }
    let record = tx.get::<ConversationRecord>(Table::Conversations, &conversation.0.to_be_bytes())?;
    record.map(|r| Scope::Peer(r.peer)).ok_or(StoreError::Format { table: Table::Conversations })
}

#[cfg(test)]
pub(crate) mod testing {
    //! A real store in a temporary folder, with transactions that commit.

    use std::cell::RefCell;

    use super::{ConversationId, ConversationRecord, Scope, StoreError, Table, Tx};
    use bulla_client::store::Store as _;
    use bulla_client::store::sqlite::SqliteStore;
    use bulla_client::store::tx::Rng;
    use bulla_client::store::vault::{RootKey, Vault};

    pub(crate) struct TestStore {
        store: SqliteStore,
        vault: Vault,
        rng: RefCell<Rng>,
        pub(crate) now_ms: u64,
        _folder: tempfile::TempDir,
    }

    impl TestStore {
        pub(crate) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self {
                store: SqliteStore::open(folder.path()).unwrap(),
                vault: Vault::new(RootKey::new([7; 32])),
                rng: RefCell::new(Box::new(rand_core::OsRng)),
                now_ms: 1_800_000_000_000,
                _folder: folder,
            }
        }

        /// As the engine keeps it: a conversation of a customer.
        pub(crate) fn has(&mut self, conversation: ConversationId, peer: u64) {
            let record = ConversationRecord { peer, ..ConversationRecord::new() };
            let key = conversation.0.to_be_bytes();
            self.tx(|tx| tx.put(Table::Conversations, &key, Scope::Peer(peer), &record));
        }

        pub(crate) fn tx<R>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<R, StoreError>) -> R {
            let mut tx = Tx::new(&self.store, &self.vault, &self.rng, self.now_ms);
            let result = f(&mut tx).unwrap();
            let batch = tx.into_batch().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(self.store.commit(batch)).unwrap();
            result
        }
    }
}
