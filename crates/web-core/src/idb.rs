//! IndexedDB's requests and transactions as futures.

use js_sys::{Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbFactory, IdbOpenDbRequest, IdbRequest, IdbTransaction};

#[wasm_bindgen]
extern "C" {
    /// `IDBDatabase`, for the third argument of `transaction`.
    #[wasm_bindgen(extends = IdbDatabase)]
    type Database;

    #[wasm_bindgen(method, catch)]
    fn transaction(this: &Database, stores: &JsValue, mode: &str, options: &JsValue)
    -> Result<IdbTransaction, JsValue>;
}

/// What went wrong, in the browser's words: a `DOMException`'s name and message.
pub(crate) fn words(error: &JsValue) -> String {
    let text = |name: &str| Reflect::get(error, &name.into()).ok()?.as_string();
    match (text("name"), text("message")) {
        (Some(name), Some(message)) if !message.is_empty() => format!("{name}: {message}"),
        (Some(name), _) => name,
        _ => format!("{error:?}"),
    }
}

/// Waits until one of two handlers is called.
async fn settled(set: impl FnOnce(&js_sys::Function, &js_sys::Function)) -> Result<(), JsValue> {
    let mut set = Some(set);
    let promise = Promise::new(&mut |resolve, reject| {
        if let Some(set) = set.take() {
            set(&resolve, &reject);
        }
    });
    JsFuture::from(promise).await.map(drop)
}

/// What a request comes to.
pub(crate) async fn result(request: &IdbRequest) -> Result<JsValue, String> {
    let done = settled(|resolve, reject| {
        request.set_onsuccess(Some(resolve));
        request.set_onerror(Some(reject));
    });
    match done.await {
        Ok(()) => request.result().map_err(|e| words(&e)),
        Err(_) => Err(request.error().ok().flatten().map_or_else(String::new, |e| words(&e))),
    }
}

/// Waits until a transaction is durable; what it changed is then on the disk, as far as the browser can tell.
pub(crate) async fn durable(transaction: &IdbTransaction) -> Result<(), String> {
    let done = settled(|resolve, reject| {
        transaction.set_oncomplete(Some(resolve));
        transaction.set_onabort(Some(reject));
        transaction.set_onerror(Some(reject));
    });
    done.await.map_err(|_| transaction.error().map_or_else(|| "AbortError".to_owned(), |e| words(&e)))
}

/// A transaction over these stores that completes only once it is on the disk.
pub(crate) fn strict(database: &IdbDatabase, stores: &[&str]) -> Result<IdbTransaction, String> {
    let options = js_sys::Object::new();
    let names: js_sys::Array = stores.iter().map(|name| JsValue::from_str(name)).collect();
    Reflect::set(&options, &"durability".into(), &"strict".into()).map_err(|e| words(&e))?;
    let database: &Database = database.unchecked_ref();
    database.transaction(&names, "readwrite", &options).map_err(|e| words(&e))
}

/// Opens a database, and makes these stores in a new one. (The next version of the layout has to look which are there.)
pub(crate) async fn open(name: &str, version: u32, stores: &'static [&'static str]) -> Result<IdbDatabase, String> {
    let factory = Reflect::get(&js_sys::global(), &"indexedDB".into()).ok().filter(|f| f.is_object());
    let factory: IdbFactory = factory.ok_or("there is no IndexedDB here")?.unchecked_into();
    let request: IdbOpenDbRequest = factory.open_with_u32(name, version).map_err(|e| words(&e))?;
    let upgrade = Closure::once_into_js({
        let request = request.clone();
        move || -> Result<(), JsValue> {
            let database: IdbDatabase = request.result()?.unchecked_into();
            stores.iter().try_for_each(|store| database.create_object_store(store).map(drop))
        }
    });
    request.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
    Ok(result(&request).await?.unchecked_into())
}
