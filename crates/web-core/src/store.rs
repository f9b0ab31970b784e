//! Rows in IndexedDB.
//!
//! A customer's device holds a few megabytes: all rows are in memory beside the database, since the engine reads synchronously. A batch is one
//! `readwrite` transaction of *strict* durability, and is applied to memory once that is complete. Values are sealed before they get here; the
//! root key of that rests in the same database, wrapped by an AES-GCM key that the browser keeps and no script can read: a copy of the values
//! alone opens nothing.
//!
//! Whoever opens the database writes down that it has, and every batch looks in its own transaction whether that still stands. A worker that lost
//! its lock while the browser had put it to sleep wakes up with old rows in memory, and must not write what it makes of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bulla_client::store::vault::RootKey;
use bulla_client::store::{Batch, Order, Read, Row, Store, StoreError, Table};
use js_sys::{Array, Object, Reflect, Uint8Array};
use rand_core::{OsRng, RngCore};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Crypto, CryptoKey, IdbDatabase, IdbTransaction, SubtleCrypto};
use zeroize::Zeroize;

use crate::idb;
use crate::parts::IndexedDbParts;

const VERSION: u32 = 1;
const ROWS: &str = "rows";
const KEYS: &str = "keys";

/// The browser's key that wraps the root key.
const DEVICE_KEY: &str = "device";
/// The root key: nonce and what is wrapped.
const ROOT_KEY: &str = "root";
/// Who opened the database last: nobody else writes.
const HOLDER: &str = "holder";
const NONCE: usize = 12;

/// An endpoint's rows in one database of this origin.
#[derive(Debug)]
pub struct IndexedDbStore {
    name: String,
    database: IdbDatabase,
    holder: [u8; 16],
    parts: IndexedDbParts,
    rows: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
}

/// Table, key, and a new value or none any more.
type Change = (u8, Vec<u8>, Option<Vec<u8>>);

fn failed(name: &str, cause: String) -> StoreError {
    StoreError::Backend { place: format!("this browser's database {name}"), cause }
}

/// A row's key in the database: its table, then its key.
fn database_key(table: u8, key: &[u8]) -> JsValue {
    Uint8Array::from([&[table], key].concat().as_slice()).into()
}

fn bytes(value: &JsValue) -> Vec<u8> {
    Uint8Array::new(value).to_vec()
}

impl IndexedDbStore {
    /// Opens the database of this name, or makes it.
    pub async fn open(name: &str) -> Result<Self, StoreError> {
        let opened = idb::open(name, VERSION, &[ROWS, KEYS]).await;
        let database = opened.map_err(|cause| failed(name, cause))?;
        let mut holder = [0; 16];
        OsRng.fill_bytes(&mut holder);
        hold(&database, &holder).await.map_err(|cause| failed(name, cause))?;
        // Read after that: from here on nobody else writes.
        let rows = all(&database).await.map_err(|cause| failed(name, cause))?;
        let parts = IndexedDbParts::open(&format!("{name}-media")).await?;
        Ok(Self { name: name.to_owned(), database, holder, parts, rows })
    }

    /// Calls a function when the browser takes the database away under us: the person, or it, has cleared what this site had kept. Nothing that is
    /// said after that can be kept.
    pub fn when_cleared(&self, tell: impl FnOnce() + 'static) {
        self.database.set_onclose(Some(Closure::once_into_js(tell).unchecked_ref()));
    }

    /// The root key, made when it is first asked for.
    pub async fn root_key(&self) -> Result<RootKey, StoreError> {
        root_key(&self.database).await.map_err(|cause| failed(&self.name, cause))
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for IndexedDbStore {
    fn drop(&mut self) {
        self.database.close();
        self.parts.close();
    }
}

async fn hold(database: &IdbDatabase, holder: &[u8]) -> Result<(), String> {
    let words = |e: JsValue| idb::words(&e);
    let transaction = idb::strict(database, &[KEYS])?;
    let store = transaction.object_store(KEYS).map_err(words)?;
    store.put_with_key(&Uint8Array::from(holder), &HOLDER.into()).map_err(words)?;
    idb::durable(&transaction).await
}

async fn all(database: &IdbDatabase) -> Result<BTreeMap<(u8, Vec<u8>), Vec<u8>>, String> {
    let transaction = database.transaction_with_str(ROWS).map_err(|e| idb::words(&e))?;
    let store = transaction.object_store(ROWS).map_err(|e| idb::words(&e))?;
    let keys = store.get_all_keys().map_err(|e| idb::words(&e))?;
    let values = store.get_all().map_err(|e| idb::words(&e))?;
    let (keys, values) = (idb::result(&keys).await?, idb::result(&values).await?);
    let mut rows = BTreeMap::new();
    for (key, value) in Array::from(&keys).iter().zip(Array::from(&values).iter()) {
        if let Some((table, key)) = bytes(&key).split_first() {
            rows.insert((*table, key.to_vec()), bytes(&value));
        }
    }
    Ok(rows)
}

fn subtle() -> Result<SubtleCrypto, String> {
    let crypto: Crypto =
        Reflect::get(&js_sys::global(), &"crypto".into()).map_err(|e| idb::words(&e))?.unchecked_into();
    let subtle = Reflect::get(&crypto, &"subtle".into()).map_err(|e| idb::words(&e))?;
    if subtle.is_undefined() {
        return Err("WebCrypto is missing: the page is not served over https, or from this machine".into());
    }
    Ok(subtle.unchecked_into())
}

fn aes_gcm(nonce: &[u8]) -> Result<Object, String> {
    let params = Object::new();
    Reflect::set(&params, &"name".into(), &"AES-GCM".into()).map_err(|e| idb::words(&e))?;
    Reflect::set(&params, &"iv".into(), &Uint8Array::from(nonce)).map_err(|e| idb::words(&e))?;
    Ok(params)
}

async fn root_key(database: &IdbDatabase) -> Result<RootKey, String> {
    let words = |e: JsValue| idb::words(&e);
    let transaction = database.transaction_with_str(KEYS).map_err(words)?;
    let store = transaction.object_store(KEYS).map_err(words)?;
    let device = store.get(&DEVICE_KEY.into()).map_err(words)?;
    let wrapped = store.get(&ROOT_KEY.into()).map_err(words)?;
    let (device, wrapped) = (idb::result(&device).await?, idb::result(&wrapped).await?);
    if device.is_undefined() || wrapped.is_undefined() {
        return make_root_key(database).await;
    }
    let wrapped = bytes(&wrapped);
    let (nonce, sealed) = wrapped.split_at_checked(NONCE).ok_or("the stored key was cut")?;
    let key: CryptoKey = device.unchecked_into();
    let opened = subtle()?.decrypt_with_object_and_u8_array(&aes_gcm(nonce)?, &key, sealed).map_err(words)?;
    let mut opened = bytes(&JsFuture::from(opened).await.map_err(words)?);
    let root = <[u8; 32]>::try_from(opened.as_slice()).map(RootKey::new);
    opened.zeroize();
    root.map_err(|_| "the stored key is of another length".to_owned())
}

async fn make_root_key(database: &IdbDatabase) -> Result<RootKey, String> {
    let words = |e: JsValue| idb::words(&e);
    let params = Object::new();
    Reflect::set(&params, &"name".into(), &"AES-GCM".into()).map_err(words)?;
    Reflect::set(&params, &"length".into(), &256.into()).map_err(words)?;
    let uses = Array::of2(&"encrypt".into(), &"decrypt".into());
    let made = subtle()?.generate_key_with_object(&params, false, &uses).map_err(words)?;
    let key: CryptoKey = JsFuture::from(made).await.map_err(words)?.unchecked_into();
    let root = RootKey::generate(&mut OsRng);
    let mut nonce = [0; NONCE];
    OsRng.fill_bytes(&mut nonce);
    let sealed = subtle()?.encrypt_with_object_and_u8_array(&aes_gcm(&nonce)?, &key, root.expose()).map_err(words)?;
    let sealed = bytes(&JsFuture::from(sealed).await.map_err(words)?);
    let transaction = idb::strict(database, &[KEYS])?;
    let store = transaction.object_store(KEYS).map_err(words)?;
    store.put_with_key(&key, &DEVICE_KEY.into()).map_err(words)?;
    let wrapped = [nonce.as_slice(), &sealed].concat();
    store.put_with_key(&Uint8Array::from(wrapped.as_slice()), &ROOT_KEY.into()).map_err(words)?;
    idb::durable(&transaction).await?;
    Ok(root)
}

impl Read for IndexedDbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(&(table as u8, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let table = table as u8;
        if until.is_some_and(|until| until <= from) {
            return Ok(Vec::new());
        }
        let end = match until {
            Some(until) => Bound::Excluded((table, until.to_vec())),
            None => match table.checked_add(1) {
                Some(next) => Bound::Excluded((next, Vec::new())),
                None => Bound::Unbounded,
            },
        };
        let rows = self.rows.range((Bound::Included((table, from.to_vec())), end));
        let row = |((_, key), value): (&(u8, Vec<u8>), &Vec<u8>)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => rows.take(limit).map(row).collect(),
            Order::Descending => rows.rev().take(limit).map(row).collect(),
        })
    }
}

impl Store for IndexedDbStore {
    type Parts = IndexedDbParts;

    fn parts(&self) -> IndexedDbParts {
        self.parts.clone()
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = batch.into_changes().map(|(table, key, value)| (table as u8, key, value)).collect();
        self.write(&changes).await.map_err(|cause| failed(&self.name, cause))?;
        for (table, key, value) in changes {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
        Ok(())
    }
}

impl IndexedDbStore {
    async fn write(&self, changes: &[Change]) -> Result<(), String> {
        let transaction = idb::strict(&self.database, &[ROWS, KEYS])?;
        if let Err(cause) = self.put(&transaction, changes).await {
            // What was put before would become durable alone.
            let _ = transaction.abort();
            return Err(cause);
        }
        idb::durable(&transaction).await
    }

    async fn put(&self, transaction: &IdbTransaction, changes: &[Change]) -> Result<(), String> {
        let words = |e: JsValue| idb::words(&e);
        let holder = transaction.object_store(KEYS).map_err(words)?.get(&HOLDER.into()).map_err(words)?;
        if bytes(&idb::result(&holder).await?) != self.holder {
            return Err("it was opened elsewhere since".into());
        }
        let store = transaction.object_store(ROWS).map_err(words)?;
        for (table, key, value) in changes {
            let key = database_key(*table, key);
            match value {
                Some(value) => store.put_with_key(&Uint8Array::from(value.as_slice()), &key).map_err(words)?,
                None => store.delete(&key).map_err(words)?,
            };
        }
        Ok(())
    }
}
