//! Sealed attachments in IndexedDB: a database of its own beside the rows, which are all read at the start while these are not.

use bulla_client::media::BlobId;
use bulla_client::store::StoreError;
use bulla_client::store::parts::Parts;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use web_sys::{IdbDatabase, IdbKeyRange};

use crate::idb;

const VERSION: u32 = 1;
const PARTS: &str = "parts";

/// Parts of sealed attachments in one database of this origin.
#[derive(Debug, Clone)]
pub struct IndexedDbParts {
    name: String,
    database: IdbDatabase,
}

impl IndexedDbParts {
    /// Opens the database of this name, or makes it.
    pub async fn open(name: &str) -> Result<Self, StoreError> {
        let opened = idb::open(name, VERSION, &[PARTS]).await;
        let database = opened.map_err(|cause| failed(name, cause))?;
        Ok(Self { name: name.to_owned(), database })
    }

    /// Gives the database up: nothing can be read or kept any more.
    pub(crate) fn close(&self) {
        self.database.close();
    }

    async fn read(&self, key: &JsValue) -> Result<JsValue, String> {
        let transaction = self.database.transaction_with_str(PARTS).map_err(|e| idb::words(&e))?;
        let store = transaction.object_store(PARTS).map_err(|e| idb::words(&e))?;
        idb::result(&store.get(key).map_err(|e| idb::words(&e))?).await
    }

    async fn counted(&self, range: &JsValue) -> Result<u32, String> {
        let transaction = self.database.transaction_with_str(PARTS).map_err(|e| idb::words(&e))?;
        let store = transaction.object_store(PARTS).map_err(|e| idb::words(&e))?;
        let count = idb::result(&store.count_with_key(range).map_err(|e| idb::words(&e))?).await?;
        Ok(count.as_f64().unwrap_or_default() as u32)
    }

    async fn change(&self, key: &JsValue, bytes: Option<&[u8]>) -> Result<(), String> {
        let transaction = idb::strict(&self.database, &[PARTS])?;
        let store = transaction.object_store(PARTS).map_err(|e| idb::words(&e))?;
        match bytes {
            Some(bytes) => store.put_with_key(&Uint8Array::from(bytes), key),
            None => store.delete(key),
        }
        .map_err(|e| idb::words(&e))?;
        idb::durable(&transaction).await
    }
}

impl Parts for IndexedDbParts {
    async fn put(&self, blob: BlobId, part: u32, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.change(&key(&blob, part), Some(&bytes)).await.map_err(|cause| failed(&self.name, cause))
    }

    async fn get(&self, blob: BlobId, part: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.read(&key(&blob, part)).await.map_err(|cause| failed(&self.name, cause))?;
        Ok((!found.is_undefined()).then(|| Uint8Array::new(&found).to_vec()))
    }

    async fn count(&self, blob: BlobId) -> Result<u32, StoreError> {
        let range = all_of(&blob).map_err(|cause| failed(&self.name, cause))?;
        self.counted(&range).await.map_err(|cause| failed(&self.name, cause))
    }

    async fn remove(&self, blob: BlobId) -> Result<(), StoreError> {
        let range = all_of(&blob).map_err(|cause| failed(&self.name, cause))?;
        self.change(&range, None).await.map_err(|cause| failed(&self.name, cause))
    }
}

fn failed(name: &str, cause: String) -> StoreError {
    StoreError::Backend { place: format!("this browser's database {name}"), cause }
}

/// Blob, then number: the parts of a blob are beside each other.
fn key(blob: &BlobId, part: u32) -> JsValue {
    Uint8Array::from([blob.as_bytes().as_slice(), &part.to_be_bytes()].concat().as_slice()).into()
}

fn all_of(blob: &BlobId) -> Result<JsValue, String> {
    IdbKeyRange::bound(&key(blob, 0), &key(blob, u32::MAX)).map(Into::into).map_err(|e| idb::words(&e))
}
