//! The suite that every store passes, over IndexedDB: `apps/chat/e2e` runs it in a browser.

#![expect(clippy::expect_used, reason = "a test suite: a failure is a panic")]

use bulla_client::store::{Batch, Read as _, Store as _, Table, contract};
use wasm_bindgen::prelude::*;

use crate::parts::IndexedDbParts;
use crate::store::IndexedDbStore;

/// Runs the suite; throws where it is not kept.
#[wasm_bindgen(js_name = storeKeepsTheContract)]
pub async fn store_keeps_the_contract(name: String) {
    console_error_panic_hook::set_once();
    let open = async |name: &str| IndexedDbStore::open(name).await.expect("it opens");
    let mut stores = 0;
    let fresh = async || {
        stores += 1;
        open(&format!("{name}-{stores}")).await
    };
    let reopen = async |store: IndexedDbStore| {
        let name = store.name().to_owned();
        drop(store);
        open(&name).await
    };
    contract::run(fresh, reopen).await;
}

/// Of two that have a database open only the later one writes, and the other's batch leaves no trace.
#[wasm_bindgen(js_name = onlyTheLastHolderWrites)]
pub async fn only_the_last_holder_writes(name: String) {
    console_error_panic_hook::set_once();
    let open = async || IndexedDbStore::open(&name).await.expect("it opens");
    let batch = |key: &[u8]| {
        let mut batch = Batch::default();
        batch.put(Table::Messages, key, vec![1]);
        batch
    };
    let mut first = open().await;
    first.commit(batch(b"before")).await.expect("it holds");
    let mut second = open().await;
    let refused = first.commit(batch(b"too late")).await.expect_err("it was opened elsewhere");
    assert!(refused.to_string().contains("opened elsewhere"), "{refused}");
    assert_eq!(first.get(Table::Messages, b"too late").expect("it reads"), None);
    second.commit(batch(b"after")).await.expect("it holds now");
    let third = open().await;
    for (key, there) in [(b"before".as_slice(), true), (b"too late", false), (b"after", true)] {
        assert_eq!(third.get(Table::Messages, key).expect("it reads").is_some(), there, "{key:?}");
    }
}

/// The suite that every keeper of parts passes.
#[wasm_bindgen(js_name = partsKeepTheContract)]
pub async fn parts_keep_the_contract(name: String) {
    console_error_panic_hook::set_once();
    let open = async || IndexedDbParts::open(&name).await.expect("it opens");
    contract::parts(&open().await).await;
    contract::parts_kept(&open().await).await;
}

/// The root key is the same after closing and opening, and another in another database.
#[wasm_bindgen(js_name = rootKeyStays)]
pub async fn root_key_stays(name: String) {
    console_error_panic_hook::set_once();
    let root = async |name: &str| {
        let store = IndexedDbStore::open(name).await.expect("it opens");
        *store.root_key().await.expect("it has a key").expose()
    };
    let first = root(&name).await;
    assert_eq!(first, root(&name).await, "it stays");
    assert_ne!(first, root(&format!("{name}-other")).await, "it is each database's own");
}
