//! The suite that every store passes, over IndexedDB: `apps/chat/e2e` runs it in a browser.

#![expect(clippy::expect_used, reason = "a test suite: a failure is a panic")]

use bulla_client::store::contract;
use wasm_bindgen::prelude::*;

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
