//! Flows, among the facts about the business, by id.

use bulla_client::store::tx::{Tx, after_prefix};
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};

use super::FACTS;
use crate::flow::{Flow, IDS};

const BY_ID: &[u8] = b"flow\0";

/// How many flows a business may have.
pub(crate) const MOST: usize = 200;

/// Ids of one millisecond: so few that their range holds for two centuries.
const PER_MS: u64 = 100;

/// An id that no flow has. Ids grow with time.
pub(crate) fn new_id(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let mut id = IDS.start + tx.now_ms() * PER_MS + u64::from(u16::from_be_bytes(tx.random())) % PER_MS;
    while get(tx, id)?.is_some() {
        id += 1;
    }
    Ok(id)
}

/// Writes a flow down, in place of the one with its id.
pub(crate) fn put(tx: &mut Tx<'_>, flow: &Flow) -> Result<(), StoreError> {
    tx.put(FACTS, &key(flow.id), Scope::Endpoint, flow)
}

pub(crate) fn get(tx: &Tx<'_>, id: u64) -> Result<Option<Flow>, StoreError> {
    tx.get(FACTS, &key(id))
}

/// The flow of a name.
pub(crate) fn find(tx: &Tx<'_>, name: &str) -> Result<Option<Flow>, StoreError> {
    Ok(all(tx)?.into_iter().find(|flow| flow.name == name))
}

/// All, the newest first.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Flow>, StoreError> {
    let end = after_prefix(BY_ID);
    let rows = tx.scan::<Flow>(FACTS, BY_ID, end.as_deref(), Order::Descending, MOST)?;
    Ok(rows.into_iter().map(|(_, flow)| flow).collect())
}

pub(crate) fn remove(tx: &mut Tx<'_>, id: u64) {
    tx.delete(FACTS, &key(id));
}

fn key(id: u64) -> Vec<u8> {
    [BY_ID, &id.to_be_bytes()].concat()
}
