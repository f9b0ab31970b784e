//! Files that are brought in pieces: samples for templates, and the picture of the profile.
//!
//! They are small and lie here whole; a file for a customer goes to the relay instead. An upload is kept for a day, the picture until there is
//! another.

use bulla_client::store::tx::{Tx, after_prefix};
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};
use minicbor::bytes::ByteVec;

use super::FACTS;

const BY_ID: &[u8] = b"upload\0";
const PICTURE: &[u8] = b"picture";

/// The largest file.
pub(crate) const LARGEST: u64 = 5 * 1024 * 1024;

/// How long an upload is kept.
const KEPT_MS: u64 = 24 * 3_600_000;

/// Uploads at a time; another one takes the place of the oldest.
const MOST: usize = 8;

/// Ids of one millisecond.
const PER_MS: u64 = 1_000;

/// A file, as far as it has come.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Upload {
    #[n(0)]
    pub(crate) created_ms: u64,
    /// As it was announced.
    #[n(1)]
    pub(crate) length: u64,
    #[n(2)]
    pub(crate) media_type: String,
    #[n(3)]
    pub(crate) bytes: ByteVec,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload(redacted)")
    }
}

impl Upload {
    pub(crate) fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.offset() == self.length
    }
}

/// Begins an upload; its id.
pub(crate) fn begin(tx: &mut Tx<'_>, length: u64, media_type: String) -> Result<u64, StoreError> {
    let end = after_prefix(BY_ID);
    let rows = tx.scan::<Upload>(FACTS, BY_ID, end.as_deref(), Order::Descending, MOST)?;
    for (n, (key, old)) in rows.iter().enumerate() {
        if is_over(old, tx.now_ms()) || n + 1 >= MOST {
            tx.delete(FACTS, key);
        }
    }
    let mut id = tx.now_ms() * PER_MS + u64::from(u16::from_be_bytes(tx.random())) % PER_MS;
    while tx.get_bytes(FACTS, &key(id))?.is_some() {
        id += 1;
    }
    let upload = Upload { created_ms: tx.now_ms(), length, media_type, bytes: Vec::new().into() };
    tx.put(FACTS, &key(id), Scope::Endpoint, &upload)?;
    Ok(id)
}

pub(crate) fn get(tx: &Tx<'_>, id: u64) -> Result<Option<Upload>, StoreError> {
    let found = tx.get::<Upload>(FACTS, &key(id))?;
    Ok(found.filter(|upload| !is_over(upload, tx.now_ms())))
}

pub(crate) fn put(tx: &mut Tx<'_>, id: u64, upload: &Upload) -> Result<(), StoreError> {
    tx.put(FACTS, &key(id), Scope::Endpoint, upload)
}

/// The profile's picture.
pub(crate) fn picture(tx: &Tx<'_>) -> Result<Option<Upload>, StoreError> {
    tx.get(FACTS, PICTURE)
}

pub(crate) fn set_picture(tx: &mut Tx<'_>, picture: &Upload) -> Result<(), StoreError> {
    tx.put(FACTS, PICTURE, Scope::Endpoint, picture)
}

fn key(id: u64) -> Vec<u8> {
    [BY_ID, &id.to_be_bytes()].concat()
}

fn is_over(upload: &Upload, now_ms: u64) -> bool {
    upload.created_ms.saturating_add(KEPT_MS) <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;

    #[test]
    fn an_upload_is_kept_for_a_day_and_eight_at_a_time() {
        let mut store = TestStore::new();
        let mut ids = Vec::new();
        for _ in 0..=MOST {
            ids.push(store.tx(|tx| begin(tx, 1, "image/png".into())));
            store.now_ms += 1;
        }
        assert!(store.tx(|tx| get(tx, ids[0])).is_none(), "the oldest made room");
        assert!(store.tx(|tx| get(tx, ids[1])).is_some());
        store.now_ms += KEPT_MS;
        assert!(store.tx(|tx| get(tx, ids[MOST])).is_none());
    }
}
