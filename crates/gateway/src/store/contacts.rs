//! Customers as the API knows them: `user_id`, `wa_id`, name; and what was sent to them with which callback data.

use bulla_client::event::{Conversation, ConversationId};
use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use bulla_e2ee::content::{Interactive, MessageId};

use super::{CONTACTS, FACTS, NUMBERS, OUTGOING, USERS, scope};
use crate::numbers;

/// A customer at the API.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Contact {
    #[n(0)]
    pub(crate) user_id: String,
    /// See [`crate::numbers`].
    #[n(1)]
    pub(crate) wa_id: String,
    /// The display name.
    #[n(2)]
    pub(crate) name: String,
    /// When the customer last wrote: the service window runs from it.
    #[n(3)]
    pub(crate) heard_ms: u64,
    /// Who it is at the business itself, by the word of the business's backend.
    #[n(4)]
    pub(crate) customer_id: Option<String>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contact(redacted)")
    }
}

pub(crate) fn get(tx: &Tx<'_>, conversation: ConversationId) -> Result<Option<Contact>, StoreError> {
    tx.get(CONTACTS, &conversation.0.to_be_bytes())
}

/// Writes down who a conversation is with. The first time, the customer gets a number.
pub(crate) fn know(tx: &mut Tx<'_>, conversation: &Conversation, reserved: &str) -> Result<Contact, StoreError> {
    let known = get(tx, conversation.id)?;
    let wa_id = number_of(tx, conversation, reserved)?;
    let contact = Contact {
        user_id: conversation.user_id.as_str().to_owned(),
        wa_id,
        name: conversation.peer_name.clone(),
        heard_ms: known.as_ref().map_or(0, |k| k.heard_ms).max(conversation.last_heard_ms),
        customer_id: known.as_ref().and_then(|k| k.customer_id.clone()),
    };
    if known.as_ref() != Some(&contact) {
        let scope = scope(tx, conversation.id)?;
        tx.put(CONTACTS, &conversation.id.0.to_be_bytes(), scope, &contact)?;
    }
    Ok(contact)
}

/// Notes that the customer wrote, and whatever else was learned of it.
pub(crate) fn heard(tx: &mut Tx<'_>, id: ConversationId, contact: &mut Contact, at_ms: u64) -> Result<(), StoreError> {
    contact.heard_ms = contact.heard_ms.max(at_ms);
    let scope = scope(tx, id)?;
    tx.put(CONTACTS, &id.0.to_be_bytes(), scope, contact)
}

/// The conversation behind a `wa_id`.
pub(crate) fn by_number(tx: &Tx<'_>, wa_id: &str) -> Result<Option<(ConversationId, Contact)>, StoreError> {
    let Some(id) = tx.get::<ConversationId>(NUMBERS, &number_key(tx, wa_id))? else { return Ok(None) };
    Ok(get(tx, id)?.map(|contact| (id, contact)))
}

/// The number of a customer: the one given before, or the first free one of a row that depends on the customer alone.
fn number_of(tx: &mut Tx<'_>, conversation: &Conversation, reserved: &str) -> Result<String, StoreError> {
    let user = conversation.user_id.as_str().as_bytes();
    let user_key = tx.blind("gateway user", user);
    let wa_id = match tx.get::<String>(USERS, &user_key)? {
        Some(wa_id) => wa_id,
        None => {
            let mut tries: u8 = 0;
            loop {
                let candidate = numbers::from_hash(tx.blind("gateway number", &[user, &[tries]].concat()));
                let taken = tx.get_bytes(NUMBERS, &number_key(tx, &candidate))?.is_some();
                if (!taken && candidate != reserved) || tries == u8::MAX {
                    break candidate;
                }
                tries = tries.saturating_add(1);
            }
        }
    };
    // A customer who resumes on a new device comes with a new conversation and keeps the number.
    let number_key = number_key(tx, &wa_id);
    if tx.get::<ConversationId>(NUMBERS, &number_key)? != Some(conversation.id) {
        let scope = scope(tx, conversation.id)?;
        tx.put(NUMBERS, &number_key, scope, &conversation.id)?;
        tx.put(USERS, &user_key, scope, &wa_id)?;
    }
    Ok(wa_id)
}

fn number_key(tx: &Tx<'_>, wa_id: &str) -> [u8; 16] {
    tx.blind("gateway wa_id", wa_id.as_bytes())
}

/// Notes that a customer is blocked, or no more. The endpoint is what blocks; this is for lists.
pub(crate) fn set_blocked(tx: &mut Tx<'_>, id: ConversationId, blocked: bool) -> Result<(), StoreError> {
    let key = blocked_key(id);
    if !blocked {
        tx.delete(FACTS, &key);
        return Ok(());
    }
    let scope = scope(tx, id)?;
    tx.put(FACTS, &key, scope, &id)
}

/// Everyone who is blocked.
pub(crate) fn blocked(tx: &Tx<'_>) -> Result<Vec<Contact>, StoreError> {
    let rows = tx.scan_prefix::<ConversationId>(FACTS, BLOCKED)?;
    let contacts = rows.into_iter().map(|(_, id)| get(tx, id)).collect::<Result<Vec<_>, _>>()?;
    Ok(contacts.into_iter().flatten().collect())
}

const BLOCKED: &[u8] = b"blocked\0";

fn blocked_key(id: ConversationId) -> Vec<u8> {
    [BLOCKED, &id.0.to_be_bytes()].concat()
}

/// What is kept of a message that the business sent.
#[derive(Clone, Default, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Outgoing {
    /// `biz_opaque_callback_data`, echoed in every status.
    #[n(0)]
    pub(crate) opaque: Option<String>,
    /// What it offers to choose from: an answer counts only if it is among that.
    #[n(1)]
    pub(crate) offered: Option<Interactive>,
}

/// Notes a message of the business.
pub(crate) fn sent(
    tx: &mut Tx<'_>,
    conversation: ConversationId,
    message: &MessageId,
    outgoing: &Outgoing,
) -> Result<(), StoreError> {
    let scope = scope(tx, conversation)?;
    tx.put(OUTGOING, message.as_bytes(), scope, outgoing)
}

/// A message of the business; `None` if it is the customer's or unknown.
pub(crate) fn outgoing(tx: &Tx<'_>, message: &MessageId) -> Result<Option<Outgoing>, StoreError> {
    tx.get(OUTGOING, message.as_bytes())
}
