//! Message templates, among the facts about the business: they are the business's own, and no customer's.
//!
//! A template lies under its id; a second row leads from name and language, blinded, to the id.

use bulla_client::store::tx::{Tx, after_prefix};
use bulla_client::store::vault::Scope;
use bulla_client::store::{Order, StoreError};

use super::FACTS;
use crate::template::{FIRST_ID, Template};

const BY_ID: &[u8] = b"template\0";
const BY_NAME: &[u8] = b"template name\0";

/// How many templates a business may have. A list is read as a whole, inside one transaction of the engine.
pub(crate) const MOST: usize = 1_000;

/// Ids of one millisecond.
const PER_MS: u64 = 1_000;

/// An id that no template has. Ids grow with time, and where the clock stands still or was put back, from one template to the next: a list
/// shows the newest first.
pub(crate) fn new_id(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let of_now = FIRST_ID + tx.now_ms() * PER_MS + u64::from(u16::from_be_bytes(tx.random())) % PER_MS;
    let end = after_prefix(BY_ID);
    let newest = tx.scan::<Template>(FACTS, BY_ID, end.as_deref(), Order::Descending, 1)?;
    Ok(newest.first().map_or(of_now, |(_, newest)| of_now.max(newest.id + 1)))
}

/// Writes a template down, in place of the one with its id.
pub(crate) fn put(tx: &mut Tx<'_>, template: &Template) -> Result<(), StoreError> {
    let name = name_key(tx, &template.name, &template.language);
    tx.put(FACTS, &name, Scope::Endpoint, &template.id)?;
    tx.put(FACTS, &id_key(template.id), Scope::Endpoint, template)
}

pub(crate) fn get(tx: &Tx<'_>, id: u64) -> Result<Option<Template>, StoreError> {
    tx.get(FACTS, &id_key(id))
}

/// The template of this name in this language.
pub(crate) fn find(tx: &Tx<'_>, name: &str, language: &str) -> Result<Option<Template>, StoreError> {
    match tx.get(FACTS, &name_key(tx, name, language))? {
        Some(id) => get(tx, id),
        None => Ok(None),
    }
}

/// All, the newest first.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Template>, StoreError> {
    let end = after_prefix(BY_ID);
    let rows = tx.scan::<Template>(FACTS, BY_ID, end.as_deref(), Order::Descending, MOST)?;
    Ok(rows.into_iter().map(|(_, template)| template).collect())
}

pub(crate) fn remove(tx: &mut Tx<'_>, template: &Template) {
    tx.delete(FACTS, &name_key(tx, &template.name, &template.language));
    tx.delete(FACTS, &id_key(template.id));
}

fn id_key(id: u64) -> Vec<u8> {
    [BY_ID, &id.to_be_bytes()].concat()
}

fn name_key(tx: &Tx<'_>, name: &str, language: &str) -> Vec<u8> {
    [BY_NAME, &tx.blind("gateway template", format!("{name}\0{language}").as_bytes())].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestStore;
    use crate::template::{Category, Gaps, Parts, Pattern, Status};

    fn template(id: u64, name: &str, language: &str) -> Template {
        let body = Pattern::parse("Hello {{1}}!").unwrap();
        Template {
            id,
            name: name.into(),
            language: language.into(),
            category: Category::Utility,
            status: Status::Approved,
            parts: Parts { gaps: Gaps::Positional, header: None, body, footer: None, buttons: Vec::new() },
            components: "[]".into(),
            version: 1,
            changed_ms: 1,
        }
    }

    #[test]
    fn templates_of_one_millisecond_stand_in_the_order_in_which_they_were_made() {
        let mut store = TestStore::new();
        let mut ids = Vec::new();
        for n in 0..20 {
            let id = store.tx(|tx| new_id(tx));
            store.tx(|tx| put(tx, &template(id, &format!("t{n}"), "en")));
            ids.push(id);
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn templates_are_found_by_id_and_by_name_in_a_language() {
        let mut store = TestStore::new();
        let mut ids = Vec::new();
        for (name, language) in [("a", "en"), ("a", "de"), ("b", "en")] {
            let id = store.tx(|tx| new_id(tx));
            assert!((FIRST_ID..1 << 53).contains(&id) && !ids.contains(&id));
            store.tx(|tx| put(tx, &template(id, name, language)));
            ids.push(id);
            store.now_ms += 1;
        }
        assert_eq!(store.tx(|tx| find(tx, "a", "de")), Some(template(ids[1], "a", "de")));
        assert_eq!(store.tx(|tx| find(tx, "b", "de")), None);
        let listed: Vec<u64> = store.tx(|tx| all(tx)).iter().map(|t| t.id).collect();
        assert_eq!(listed, [ids[2], ids[1], ids[0]]);
        let german = store.tx(|tx| get(tx, ids[1])).unwrap();
        store.tx(|tx| {
            remove(tx, &german);
            Ok(())
        });
        assert_eq!((store.tx(|tx| get(tx, ids[1])), store.tx(|tx| find(tx, "a", "de"))), (None, None));
        assert_eq!(store.tx(|tx| all(tx)).len(), 2);
    }
}
