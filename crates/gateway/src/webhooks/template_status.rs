//! What became of a template, in the words of the Cloud API's webhooks: field `message_template_status_update`.

use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use serde_json::json;

use super::ascii::to_ascii;
use crate::account::Account;
use crate::store::queue;
use crate::template::Template;

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Became {
    /// The status that it has now.
    Its,
    Deleted,
}

/// Queues the webhook, in the transaction of what it is about.
pub(crate) fn tell(tx: &mut Tx<'_>, account: &Account, template: &Template, became: Became) -> Result<(), StoreError> {
    let body = body(account, template, became, tx.now_ms());
    queue::push_own(tx, &body)
}

fn body(account: &Account, template: &Template, became: Became, now_ms: u64) -> Vec<u8> {
    let event = match became {
        Became::Its => template.status.word(),
        Became::Deleted => "DELETED",
    };
    let value = json!({
        "event": event,
        "message_template_id": template.id,
        "message_template_name": template.name,
        "message_template_language": template.language,
        "message_template_category": template.category.word(),
        "reason": "NONE",
    });
    let changes = json!([{"field": "message_template_status_update", "value": value}]);
    to_ascii(&json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": account.waba_id, "time": now_ms / 1_000, "changes": changes}],
    }))
}
