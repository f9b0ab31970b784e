//! Carries out what `POST /{phone-number-id}/messages` asks for.

use std::sync::Arc;
use std::time::Duration;

use bulla_client::endpoint::CommandError;
use bulla_client::event::{ConversationId, Draft};
use bulla_e2ee::content::MessageId;
use serde_json::{Value, json};

use super::error::ApiError;
use super::media;
use super::message::{File, Recipient, Request, Send, Typing, What};
use crate::business::Business;
use crate::store::contacts::{self, Contact};

/// How long the typing indicator shows without an answer, as the Cloud API has it.
const TYPING: Duration = Duration::from_secs(25);

/// Does it. The answer is given once it is durable.
pub(crate) async fn run(business: &Arc<Business>, request: Request) -> Result<Value, ApiError> {
    // In a task of its own: a caller who hangs up must not stop half of it.
    let business = Arc::clone(business);
    let task = tokio::spawn(async move {
        match request {
            Request::Send(send) => self::send(&business, *send).await,
            Request::Read { message, typing } => read(&business, message, typing).await,
        }
    });
    task.await.unwrap_or_else(|_| Err(ApiError::unavailable("The gateway is stopping.")))
}

async fn send(business: &Arc<Business>, send: Send) -> Result<Value, ApiError> {
    let (id, contact) = find(business, &send.recipient).await?.ok_or_else(ApiError::unknown_recipient)?;
    let draft = match send.what {
        What::Draft(draft) => draft,
        What::File(file) => with_file(business, file).await?,
    };
    let refers_to = match &draft {
        Draft::Attachment { reply_to, .. } => reply_to.map(|id| (id, "context.message_id")),
        Draft::Text { reply_to, .. } => reply_to.map(|id| (id, "context.message_id")),
        Draft::Reaction { to, .. } => Some((*to, "reaction.message_id")),
        _ => None,
    };
    if let Some((message, path)) = refers_to {
        let known = business.endpoint.message(message).await.map_err(refusal)?;
        if known.is_none_or(|known| known.conversation != id) {
            return Err(ApiError::invalid(path, "names no message of this conversation"));
        }
    }
    let message = {
        let _order = business.lock(id).await;
        business.opaque.set(id, send.opaque);
        let sent = business.endpoint.send(id, draft).await;
        business.opaque.set(id, None);
        sent.map_err(refusal)?
    };
    if business.typing_ended(id) {
        // The answer is there. Should this notice be lost, the app lets the indicator go by itself.
        let _ = business.endpoint.typing(id, false).await;
    }
    Ok(json!({
        "messaging_product": "whatsapp",
        "contacts": [{"input": send.input, "wa_id": contact.wa_id, "user_id": contact.user_id}],
        "messages": [{"id": message.id.to_wamid()}],
    }))
}

/// The file of an id, with what is said under it.
async fn with_file(business: &Business, file: File) -> Result<Draft, ApiError> {
    let unknown = || ApiError::invalid(&file.path, "names no file of this business");
    let mut attachment = media::find(business, file.id).await?.ok_or_else(unknown)?;
    attachment.caption = file.caption;
    if let Some(name) = file.name {
        attachment.name = name;
    }
    Ok(Draft::Attachment { attachment: Box::new(attachment), reply_to: file.reply_to })
}

async fn read(business: &Arc<Business>, message: MessageId, typing: Typing) -> Result<Value, ApiError> {
    let unknown = || ApiError::invalid("message_id", "names no message that was received");
    let known = business.endpoint.message(message).await.map_err(refusal)?.ok_or_else(unknown)?;
    match business.endpoint.mark_read(message).await {
        Ok(()) => {}
        Err(CommandError::UnknownMessage) => return Err(unknown()),
        Err(e) => return Err(refusal(e)),
    }
    if typing == Typing::Show {
        let id = known.conversation;
        let turn = business.typing_began(id);
        business.endpoint.typing(id, true).await.map_err(refusal)?;
        let business = Arc::clone(business);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(TYPING) => {}
                () = business.stop.cancelled() => return,
            }
            if business.typing_expired(id, turn) {
                let _ = business.endpoint.typing(id, false).await;
            }
        });
    }
    Ok(json!({"success": true}))
}

async fn find(business: &Business, recipient: &Recipient) -> Result<Option<(ConversationId, Contact)>, ApiError> {
    match recipient {
        Recipient::Number(number) => {
            let number = number.clone();
            business.endpoint.with_store(move |tx| contacts::by_number(tx, &number)).await.map_err(refusal)
        }
        Recipient::User(user) => {
            let Some(conversation) = business.endpoint.conversation_of(user).await.map_err(refusal)? else {
                return Ok(None);
            };
            let contact = business.endpoint.with_store(move |tx| contacts::get(tx, conversation.id)).await;
            Ok(contact.map_err(refusal)?.map(|contact| (conversation.id, contact)))
        }
    }
}

/// An engine's refusal in the words of the API.
fn refusal(error: CommandError) -> ApiError {
    match error {
        CommandError::TooLong { .. } => ApiError::parameter("Param text['body'] must be at most 4096 characters long."),
        CommandError::Empty => ApiError::invalid("text.body", "may not be empty"),
        CommandError::NotEmoji => ApiError::invalid("reaction.emoji", "has to be one emoji"),
        CommandError::UnknownMessage | CommandError::Gone => {
            ApiError::invalid("message_id", "names nothing that this can be done to")
        }
        CommandError::UnknownConversation => ApiError::unknown_recipient(),
        CommandError::Superseded => {
            ApiError::unavailable("Another copy of this business's data is in use; this gateway has stopped sending.")
        }
        _ => {
            tracing::error!("an API call could not be carried out: the endpoint has stopped or its store failed");
            ApiError::unavailable("The gateway could not store this; try again.")
        }
    }
}
