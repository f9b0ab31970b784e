//! `/{phone-number-id}/block_users`: who may write to the business no more. To block is to revoke the customer's permits: the relay refuses from then on.

use serde_json::{Value, json};

use super::at::At;
use super::error::ApiError;
use super::message::{Recipient, recipient_of};
use super::params::Params;
use super::send::{find, refusal};
use crate::business::Business;
use crate::store::contacts;

/// Users of one call.
const MOST: usize = 100;

/// `GET`: who is blocked.
pub(crate) async fn list(business: &Business) -> Result<Value, ApiError> {
    let blocked = business.endpoint.with_store(|tx| contacts::blocked(tx)).await.map_err(refusal)?;
    let data: Vec<Value> = blocked
        .iter()
        .map(|contact| json!({"messaging_product": "whatsapp", "wa_id": contact.wa_id, "user_id": contact.user_id}))
        .collect();
    Ok(json!({ "data": data }))
}

/// `POST` and `DELETE`.
pub(crate) async fn change(business: &Business, params: &Params, block: bool) -> Result<Value, ApiError> {
    let users = params.root().json("block_users").ok_or_else(|| ApiError::required("block_users"))?;
    let users = At::new(&users, "block_users");
    let mut changed = Vec::new();
    let mut failed = Vec::new();
    for user in users.some(MOST)? {
        let input = match (user.get("user"), user.get("user_id")) {
            (Some(user), _) | (None, Some(user)) => user.text()?,
            (None, None) => return Err(ApiError::missing(&format!("{}.user", user.path()))),
        };
        let found = match recipient_of(&input) {
            Some(recipient) => find(business, &recipient).await?,
            None => None,
        };
        let Some((id, contact)) = found else {
            failed.push(json!({"input": input, "errors": [{"message": "Nobody with this id has written to this business", "code": 131_021}]}));
            continue;
        };
        business.endpoint.block(id, block).await.map_err(refusal)?;
        business.endpoint.with_store(move |tx| contacts::set_blocked(tx, id, block)).await.map_err(refusal)?;
        let is_user = matches!(recipient_of(&input), Some(Recipient::User(_)));
        changed.push(if is_user {
            json!({"input": input, "wa_id": contact.wa_id, "user_id": contact.user_id})
        } else {
            json!({"input": input, "wa_id": contact.wa_id})
        });
    }
    if changed.is_empty() {
        return Err(ApiError::block_failed(failed.len()));
    }
    let mut answer = json!({ if block { "added_users" } else { "removed_users" }: changed });
    if let (Value::Object(answer), false) = (&mut answer, failed.is_empty()) {
        answer.insert("failed_users".into(), failed.into());
    }
    Ok(json!({"messaging_product": "whatsapp", "block_users": answer}))
}
