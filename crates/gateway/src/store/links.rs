//! Short links that a business made: each has a code, which comes back as `ref` in the first message of who used it.

use bulla_client::store::tx::{Tx, after_prefix};
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};

use super::FACTS;

const BY_CODE: &[u8] = b"link\0";

/// How many a business may have, as the Cloud API has it.
pub(crate) const MOST: usize = 2_000;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct ShortLink {
    #[n(0)]
    pub(crate) code: String,
    #[n(1)]
    pub(crate) message: String,
    /// Unix ms.
    #[n(2)]
    pub(crate) created_ms: u64,
}

pub(crate) fn get(tx: &Tx<'_>, code: &str) -> Result<Option<ShortLink>, StoreError> {
    tx.get(FACTS, &key(tx, code))
}

/// All, the newest first.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<ShortLink>, StoreError> {
    let end = after_prefix(BY_CODE);
    let rows = tx.scan::<ShortLink>(FACTS, BY_CODE, end.as_deref(), Order::Ascending, MOST)?;
    let mut all: Vec<ShortLink> = rows.into_iter().map(|(_, link)| link).collect();
    all.sort_by(|a, b| (b.created_ms, &a.code).cmp(&(a.created_ms, &b.code)));
    Ok(all)
}

pub(crate) fn put(tx: &mut Tx<'_>, link: &ShortLink) -> Result<(), StoreError> {
    tx.put(FACTS, &key(tx, &link.code), Scope::Endpoint, link)
}

pub(crate) fn remove(tx: &mut Tx<'_>, code: &str) {
    tx.delete(FACTS, &key(tx, code));
}

fn key(tx: &Tx<'_>, code: &str) -> Vec<u8> {
    [BY_CODE, &tx.blind("gateway link", code.as_bytes())].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;

    #[test]
    fn links_are_kept_by_their_codes() {
        let mut store = TestStore::new();
        let link = |code: &str, created_ms| ShortLink { code: code.into(), message: "Hi".into(), created_ms };
        for link in [link("A", 1), link("B", 3), link("C", 2)] {
            store.tx(|tx| put(tx, &link));
        }
        assert_eq!(store.tx(|tx| all(tx)), [link("B", 3), link("C", 2), link("A", 1)]);
        assert_eq!(store.tx(|tx| get(tx, "C")), Some(link("C", 2)));
        store.tx(|tx| {
            remove(tx, "C");
            Ok(())
        });
        assert_eq!((store.tx(|tx| get(tx, "C")), store.tx(|tx| all(tx)).len()), (None, 2));
    }
}
