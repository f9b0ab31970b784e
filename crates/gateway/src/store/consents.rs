//! The ledger of consents: what customers have agreed to be written to for and what they have withdrawn, each with the statement that they signed and
//! the words that they saw. Nothing is changed afterwards; what a customer erases goes with its key.

use bulla_client::event::ConversationId;
use bulla_client::store::tx::Tx;
use bulla_client::store::{Order, StoreError};
use bulla_e2ee::content::Consent;
use minicbor::bytes::ByteVec;

use super::{CONSENTS, scope};

/// One entry.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Entry {
    /// When it was heard, Unix ms.
    #[n(0)]
    pub(crate) heard_ms: u64,
    /// The customer.
    #[n(1)]
    pub(crate) user_id: String,
    /// The purpose, as tags have it.
    #[n(2)]
    pub(crate) purpose: u8,
    #[n(3)]
    pub(crate) given: bool,
    /// What the person saw.
    #[n(4)]
    pub(crate) wording: String,
    /// By the customer's clock, Unix ms.
    #[n(5)]
    pub(crate) at_ms: u64,
    /// What was signed, and the signature.
    #[n(6)]
    pub(crate) statement: ByteVec,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(redacted)")
    }
}

/// Keeps an entry.
pub(crate) fn add(
    tx: &mut Tx<'_>,
    conversation: ConversationId,
    user_id: &str,
    consent: &Consent,
    statement: &[u8],
) -> Result<(), StoreError> {
    let entry = Entry {
        heard_ms: tx.now_ms(),
        user_id: user_id.to_owned(),
        purpose: consent.purpose.to_wire(),
        given: consent.given,
        wording: consent.wording.clone(),
        at_ms: consent.at_ms,
        statement: statement.to_vec().into(),
    };
    // In the order in which they were heard; two of one millisecond differ by what follows.
    let mut key = tx.now_ms().to_be_bytes().to_vec();
    key.extend(conversation.0.to_be_bytes());
    key.push(entry.purpose);
    key.extend(tx.random::<4>());
    let scope = scope(tx, conversation)?;
    tx.put(CONSENTS, &key, scope, &entry)
}

/// So many entries after a key (or from the first), in the order in which they were heard, each with its key.
pub(crate) fn page(tx: &Tx<'_>, after: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Entry)>, StoreError> {
    let from = if after.is_empty() { Vec::new() } else { [after, &[0]].concat() };
    tx.scan::<Entry>(CONSENTS, &from, None, Order::Ascending, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;
    use bulla_client::event::Purpose;

    #[test]
    fn entries_come_in_the_order_in_which_they_were_heard_and_page_by_page() {
        let mut store = TestStore::new();
        store.has(ConversationId(1), 1);
        store.has(ConversationId(2), 2);
        for n in 0..7_u64 {
            let wording = format!("wording {n}");
            let consent = Consent { purpose: Purpose::Marketing, given: n % 2 == 0, wording, at_ms: 9 - n };
            store.tx(|tx| add(tx, ConversationId(2 - n % 2), "ZZ.a", &consent, b"signed"));
            store.now_ms += n % 2;
        }
        let (mut seen, mut after) = (Vec::new(), Vec::new());
        loop {
            let page = store.tx(|tx| page(tx, &after, 3));
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            seen.extend(page.into_iter().map(|(_, entry)| entry));
        }
        assert_eq!(seen.len(), 7);
        assert!(seen.windows(2).all(|pair| pair[0].heard_ms <= pair[1].heard_ms));
        assert!(seen.iter().all(|entry| entry.statement[..] == *b"signed" && entry.user_id == "ZZ.a"));
    }
}
