//! Carries out what `POST /{phone-number-id}/messages` asks for.

use std::sync::Arc;
use std::time::Duration;

use bulla_client::endpoint::CommandError;
use bulla_client::event::{ConversationId, Draft};
use bulla_e2ee::content::{Action, Button, Category, Header, Interactive, Location, MessageId, TemplateName};
use serde_json::{Value, json};

use super::error::ApiError;
use super::interactive::Asked;
use super::message::{File, Of, Recipient, Request, Send, Source, Typing, What};
use super::template_params::{Button as Below, Header as Above, Rendered};
use super::{flows, media, template_params};
use crate::business::Business;
use crate::store::contacts::{self, Contact};
use crate::template;

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
    let is_template = matches!(send.what, What::Template(..));
    let draft = match send.what {
        What::Draft(draft) => draft,
        What::File(file) => with_file(business, file).await?,
        What::Interactive(asked, reply_to) => interactive(business, *asked, reply_to).await?,
        What::Template(template, reply_to) => filled(business, &template, reply_to).await?,
    };
    let refers_to = match &draft {
        Draft::Attachment { reply_to, .. }
        | Draft::Text { reply_to, .. }
        | Draft::Interactive { reply_to, .. }
        | Draft::Location { reply_to, .. }
        | Draft::Contacts { reply_to, .. } => reply_to.map(|id| (id, "context.message_id")),
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
    let mut said = json!({ "id": message.id.to_wamid() });
    if let (Value::Object(said), true) = (&mut said, is_template) {
        said.insert("message_status".into(), "accepted".into());
    }
    Ok(json!({
        "messaging_product": "whatsapp",
        "contacts": [{"input": send.input, "wa_id": contact.wa_id, "user_id": contact.user_id}],
        "messages": [said],
    }))
}

/// A file, with what is said under it.
async fn with_file(business: &Business, file: File) -> Result<Draft, ApiError> {
    let mut attachment = media::of_source(business, &file.kind, file.source).await?;
    attachment.caption = file.caption;
    Ok(Draft::Attachment { attachment: Box::new(attachment), reply_to: file.reply_to })
}

async fn interactive(business: &Business, asked: Asked, reply_to: Option<MessageId>) -> Result<Draft, ApiError> {
    let file = match asked.file {
        Some((kind, source)) => Some(media::of_source(business, &kind, source).await?),
        None => None,
    };
    let action = match asked.flow {
        Some(flow) => Action::Form(flows::form(business, flow).await?),
        None => asked.interactive.action,
    };
    let interactive = Interactive { file, action, ..asked.interactive };
    Ok(Draft::Interactive { interactive: Box::new(interactive), reply_to })
}

/// A template of the business's with what goes into it, as the customer will see it.
async fn filled(business: &Business, template: &Value, reply_to: Option<MessageId>) -> Result<Draft, ApiError> {
    let Rendered { name, language, category, header, body, footer, buttons } =
        template_params::for_sending(business, template).await?;
    let (header, file) = match header {
        None => (None, None),
        Some(Above::Text(text)) => (Some(Header::Text(text)), None),
        Some(Above::Location { latitude, longitude, name, address }) => {
            let nowhere = || ApiError::invalid("template.components", "names a place that does not exist");
            let place = Location::at(latitude, longitude).ok_or_else(nowhere)?;
            (Some(Header::Location(Location { name, address, ..place })), None)
        }
        Some(Above::Media { kind, id, link, filename }) => {
            let path = "template.components".to_owned();
            let of = match (id, link) {
                (Some(id), _) => {
                    let not_one = || ApiError::invalid(&path, "has a header with no media id");
                    Of::Id(id.parse().map_err(|_| not_one())?)
                }
                (None, link) => Of::Link(link.unwrap_or_default()),
            };
            (None, Some(media::of_source(business, kind.word(), Source { path, of, name: filename }).await?))
        }
    };
    let buttons: Vec<Button> = buttons
        .into_iter()
        .map(|button| match button {
            Below::QuickReply { text, payload } => Button::Reply { id: payload, title: text },
            Below::Url { text, url } => Button::Url { title: text, url },
            Below::Phone { text, number } => Button::Phone { title: text, number },
            Below::CopyCode { text, code } => Button::Copy { title: text, code },
        })
        .collect();
    let category = match category {
        template::Category::Authentication => Category::Authentication,
        template::Category::Marketing => Category::Marketing,
        template::Category::Utility => Category::Utility,
    };
    let action = if buttons.is_empty() { Action::Nothing } else { Action::Buttons(buttons) };
    let template = Some(TemplateName { name, language, category });
    let interactive = Interactive { header, body, footer, action, template, file };
    Ok(Draft::Interactive { interactive: Box::new(interactive), reply_to })
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

pub(super) async fn find(
    business: &Business,
    recipient: &Recipient,
) -> Result<Option<(ConversationId, Contact)>, ApiError> {
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
pub(super) fn refusal(error: CommandError) -> ApiError {
    match error {
        CommandError::TooLong { .. } => ApiError::parameter("Param text['body'] must be at most 4096 characters long."),
        CommandError::Empty => ApiError::invalid("text.body", "may not be empty"),
        CommandError::NotEmoji => ApiError::invalid("reaction.emoji", "has to be one emoji"),
        CommandError::UnknownMessage | CommandError::Gone => {
            ApiError::invalid("message_id", "names nothing that this can be done to")
        }
        CommandError::NotFitting => {
            ApiError::invalid("type", "makes a message that is too large, or has something in it that is too long")
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
