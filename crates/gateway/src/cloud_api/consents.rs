//! `GET /{phone-number-id}/consents`: the ledger of what customers have agreed to and withdrawn. The Cloud API has no such list; here it is what a
//! business shows to whoever asks by what right it writes.

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::params::Params;
use super::send::refusal;
use crate::business::Business;
use crate::store::consents;
use bulla_client::event::Purpose;

/// Entries of a page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// Entries in the order in which they were heard.
pub(crate) async fn list(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let text =
        |name: &str| root.text(name).map_err(|_| ApiError::parameter(&format!("Param {name} must be a string.")));
    let limit = match text("limit")? {
        None => PAGE,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|n| (1..=MAX_PAGE).contains(n))
            .ok_or_else(|| ApiError::parameter(&format!("Param limit must be a number from 1 to {MAX_PAGE}.")))?,
    };
    let after = text("after")?.unwrap_or_default();
    let after = HEXLOWER.decode(after.as_bytes()).map_err(|_| ApiError::parameter("Param after is not a cursor."))?;
    let page = business.endpoint.with_store(move |tx| consents::page(tx, &after, limit)).await.map_err(refusal)?;
    let mut answer = Map::new();
    if let (Some((first, _)), Some((last, _))) = (page.first(), page.last()) {
        let cursors = json!({"before": HEXLOWER.encode(first), "after": HEXLOWER.encode(last)});
        answer.insert("paging".into(), json!({ "cursors": cursors }));
    }
    let data = page.into_iter().map(|(_, entry)| {
        let marketing = entry.purpose == Purpose::Marketing.to_wire();
        json!({
            "user_id": entry.user_id,
            "purpose": if marketing { "marketing" } else { "notifications" },
            "given": entry.given,
            "wording": entry.wording,
            "timestamp": (entry.at_ms / 1_000).to_string(),
            "heard": (entry.heard_ms / 1_000).to_string(),
            // Verifies with the customer's key, of which the user_id is a hash: docs/protocol.md.
            "statement": BASE64.encode(&entry.statement),
        })
    });
    answer.insert("data".into(), data.collect());
    Ok(Value::Object(answer))
}
