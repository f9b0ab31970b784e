//! Files as the API names them. A customer's file is named by its message, the business's own by what the relay has of it; no bytes of any are kept
//! here.
//!
//! An id is a number that grows with time, below 2^53, because some clients read it as one.

use bulla_client::event::ConversationId;
use bulla_client::store::tx::Tx;
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};
use bulla_e2ee::content::MessageId;
use minicbor::bytes::{ByteArray, ByteVec};

use super::{MEDIA, scope};

/// How long an id counts: as long as a blob lives that nobody extends.
pub(crate) const LIFE_MS: u64 = 30 * 24 * 3_600_000;

/// Ids of one millisecond.
const PER_MS: u64 = 1_000;

/// Ids that are over and are removed when a new one is made: more than one, so that their number falls.
const REMOVED_AT_ONCE: usize = 8;

/// What an id stands for.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct MediaRecord {
    /// When it was made, Unix ms.
    #[n(0)]
    pub(crate) created_ms: u64,
    /// A customer's message.
    #[n(1)]
    pub(crate) message: Option<ByteArray<32>>,
    /// The business's own: a content with the attachment in it.
    #[n(2)]
    pub(crate) content: Option<ByteVec>,
}

impl std::fmt::Debug for MediaRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MediaRecord(redacted)")
    }
}

/// An id for the file of a customer's message.
pub(crate) fn of_message(tx: &mut Tx<'_>, of: ConversationId, message: &MessageId) -> Result<u64, StoreError> {
    let scope = scope(tx, of)?;
    let record = MediaRecord { created_ms: tx.now_ms(), message: Some((*message.as_bytes()).into()), content: None };
    add(tx, scope, &record)
}

/// An id for a file of the business's own.
pub(crate) fn own(tx: &mut Tx<'_>, content: Vec<u8>) -> Result<u64, StoreError> {
    let record = MediaRecord { created_ms: tx.now_ms(), message: None, content: Some(content.into()) };
    add(tx, Scope::Endpoint, &record)
}

fn add(tx: &mut Tx<'_>, scope: Scope, record: &MediaRecord) -> Result<u64, StoreError> {
    for (key, old) in tx.scan::<MediaRecord>(MEDIA, b"", None, Order::Ascending, REMOVED_AT_ONCE)? {
        if is_over(&old, tx.now_ms()) {
            tx.delete(MEDIA, &key);
        }
    }
    let mut id = tx.now_ms() * PER_MS + u64::from(u16::from_be_bytes(tx.random())) % PER_MS;
    while tx.get_bytes(MEDIA, &id.to_be_bytes())?.is_some() {
        id += 1;
    }
    tx.put(MEDIA, &id.to_be_bytes(), scope, record)?;
    Ok(id)
}

/// What an id stands for, while it counts.
pub(crate) fn get(tx: &Tx<'_>, id: u64) -> Result<Option<MediaRecord>, StoreError> {
    let found = tx.get::<MediaRecord>(MEDIA, &id.to_be_bytes())?;
    Ok(found.filter(|record| !is_over(record, tx.now_ms())))
}

/// Forgets an id. The file at the relay goes when its time is over: others may have been sent it.
pub(crate) fn remove(tx: &mut Tx<'_>, id: u64) {
    tx.delete(MEDIA, &id.to_be_bytes());
}

fn is_over(record: &MediaRecord, now_ms: u64) -> bool {
    record.created_ms.saturating_add(LIFE_MS) <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;

    #[test]
    fn an_id_counts_for_thirty_days_and_is_then_removed() {
        let mut store = TestStore::new();
        let ids: Vec<u64> = (0..1_500).map(|n| store.tx(|tx| own(tx, vec![n as u8]))).collect();
        let distinct: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len());
        assert!(ids.iter().all(|id| *id < 1 << 53));
        assert!(store.tx(|tx| get(tx, ids[0])).is_some());
        store.now_ms += LIFE_MS;
        assert!(store.tx(|tx| get(tx, ids[0])).is_none());
        for _ in 0..ids.len() {
            store.tx(|tx| own(tx, Vec::new()));
        }
        let left = store.tx(|tx| tx.scan::<MediaRecord>(MEDIA, b"", None, Order::Ascending, 10_000));
        assert_eq!(left.len(), ids.len(), "as many as were made since");
    }
}
