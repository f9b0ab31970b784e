//! What `POST /{phone-number-id}/messages` asks for: parameters become a [`Request`], or an error that names the parameter.

use bulla_client::event::Draft;
use bulla_e2ee::content::{Body, Content, MessageId};
use bulla_e2ee::identity::UserId;
use serde_json::Value;

use super::at::At;
use super::error::ApiError;
use super::interactive::Asked;
use super::params::{Node, NotThat, Params};
use super::{contents, interactive};
use crate::numbers;

/// Characters of a text.
const MAX_TEXT: usize = 4_096;

/// Characters of `biz_opaque_callback_data`.
const MAX_OPAQUE: usize = 512;

/// Bytes of a reaction: the longest emoji sequences take some 40.
const MAX_EMOJI: usize = 64;

/// Types that the Cloud API has and this version does not carry yet.
const LATER: &[&str] = &["pin"];

/// The parts by which a message says its type where it leaves `type` out.
const PARTS: &[&str] = &[
    "text",
    "interactive",
    "template",
    "audio",
    "document",
    "image",
    "sticker",
    "video",
    "location",
    "contacts",
    "reaction",
];

/// Types that are files.
const FILES: &[&str] = &["audio", "document", "image", "sticker", "video"];

/// Characters of a document's name.
const MAX_NAME: usize = 240;

/// Who a message is for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// A `wa_id`, digits only.
    Number(String),
    /// A `user_id`.
    User(UserId),
}

/// What is asked for.
pub(crate) enum Request {
    /// Say something.
    Send(Box<Send>),
    /// Mark a message and all before it as read, and maybe show that an answer is being written.
    Read { message: MessageId, typing: Typing },
}

/// A message to be sent.
pub(crate) struct Send {
    pub(crate) recipient: Recipient,
    /// The recipient as the caller wrote it.
    pub(crate) input: String,
    pub(crate) what: What,
    pub(crate) opaque: Option<String>,
}

/// What is to be said.
pub(crate) enum What {
    /// All of it stands in the request.
    Draft(Draft),
    /// A file.
    File(File),
    /// Something to choose from.
    Interactive(Box<Asked>, Option<MessageId>),
    /// A template of the business's, and what goes into it.
    Template(Value, Option<MessageId>),
}

/// A file, and what is said with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// `image`, `document` …
    pub(crate) kind: String,
    pub(crate) source: Source,
    pub(crate) caption: String,
    pub(crate) reply_to: Option<MessageId>,
}

/// Where a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where that stands.
    pub(crate) path: String,
    pub(crate) of: Of,
    /// What it is to be called.
    pub(crate) name: Option<String>,
}

/// How a file is named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// It was uploaded.
    Id(u64),
    /// It is to be fetched.
    Link(String),
}

impl Source {
    /// Reads `id` or `link`, and `filename`.
    pub(crate) fn read(at: &At<'_>) -> Result<Self, ApiError> {
        let name = at.get("filename").map(|name| name.title(MAX_NAME)).transpose()?;
        let (at, of) = match (at.get("id"), at.get("link")) {
            (Some(id), _) => {
                let number = id.text()?.parse().map_err(|_| id.wrong("is not a media id"))?;
                (id, Of::Id(number))
            }
            (None, Some(link)) => {
                let url = link.line(2_048)?;
                (link, Of::Link(url))
            }
            (None, None) => return Err(ApiError::missing(&format!("{}.id", at.path()))),
        };
        Ok(Self { path: at.path().to_owned(), of, name })
    }
}

/// Whether the typing indicator is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    Show,
    Unchanged,
}

/// Reads a request's parameters.
pub(crate) fn parse(params: &Params) -> Result<Request, ApiError> {
    let root = params.root();
    match general(&root, "messaging_product")? {
        Some(product) if product == "whatsapp" => {}
        Some(_) => return Err(ApiError::parameter("Param messaging_product must be one of {WHATSAPP}.")),
        None => return Err(ApiError::required("messaging_product")),
    }
    if root.has("status") {
        return read(&root);
    }
    match general(&root, "recipient_type")?.as_deref() {
        None | Some("individual") => {}
        Some("group") => {
            return Err(ApiError::invalid("recipient_type", "may not be 'group': groups are not supported yet"));
        }
        Some(_) => return Err(ApiError::parameter("Param recipient_type must be one of {individual, group}.")),
    }
    let (recipient, input) = recipient(&root)?;
    let kind = match root.text("type") {
        Ok(Some(kind)) => kind,
        // A text is the usual one without; Meta's own example of a reply to a list leaves it out too.
        Ok(None) => PARTS.iter().copied().find(|part| root.has(part)).unwrap_or("text").to_owned(),
        Err(NotThat) => return Err(ApiError::invalid("type", "has to be a string")),
    };
    let what = match kind.as_str() {
        "text" => What::Draft(text(&root)?),
        "reaction" => What::Draft(reaction(&root)?),
        kind if FILES.contains(&kind) => What::File(file(&root, kind)?),
        "location" => {
            let location = contents::location(&At::new(&nested(&root, "location")?, "location"))?;
            What::Draft(Draft::Location { location, reply_to: context(&root)? })
        }
        "contacts" => {
            let persons = contents::contacts(&At::new(&nested(&root, "contacts")?, "contacts"))?;
            if Content::new([0; 16], Body::Contacts(persons.clone())).encode().is_err() {
                return Err(ApiError::invalid("contacts", "has entries that are too long, or too many"));
            }
            What::Draft(Draft::Contacts { persons, reply_to: context(&root)? })
        }
        "interactive" => {
            let asked = interactive::interactive(&At::new(&nested(&root, "interactive")?, "interactive"))?;
            What::Interactive(Box::new(asked), context(&root)?)
        }
        "template" => What::Template(nested(&root, "template")?, context(&root)?),
        later if LATER.contains(&later) => {
            return Err(ApiError::unsupported_type(format!(
                "Messages of type '{later}' are not supported by this gateway."
            )));
        }
        _ => {
            return Err(ApiError::unsupported_type("There is no such message type."));
        }
    };
    if root.has("recipient_identity_key_hash") {
        // To leave it out would be to send to whoever it is: who is meant says the `user_id`, which is a hash of the customer's key.
        return Err(ApiError::invalid(
            "recipient_identity_key_hash",
            "is not supported: a user_id names the customer's key itself",
        ));
    }
    let opaque = optional(&root, "biz_opaque_callback_data", "biz_opaque_callback_data")?;
    if opaque.as_ref().is_some_and(|o| o.chars().count() > MAX_OPAQUE) {
        return Err(ApiError::invalid("biz_opaque_callback_data", "may have at most 512 characters"));
    }
    Ok(Request::Send(Box::new(Send { recipient, input, what, opaque })))
}

fn recipient(root: &Node<'_>) -> Result<(Recipient, String), ApiError> {
    // With both, the number counts.
    if let Some(input) = general(root, "to")?.filter(|to| !to.is_empty()) {
        // Clients without a parameter for it write a `user_id` here.
        let recipient = recipient_of(&input);
        return match recipient {
            Some(recipient) => Ok((recipient, input)),
            None => Err(ApiError::invalid("to", "is neither a phone number nor a user id")),
        };
    }
    match general(root, "recipient")?.filter(|r| !r.is_empty()) {
        Some(input) => match input.parse() {
            Ok(user) => Ok((Recipient::User(user), input)),
            Err(_) => Err(ApiError::invalid("recipient", "is not a user id")),
        },
        None => Err(ApiError::required("to")),
    }
}

/// Who is meant by a number or a user id.
pub(crate) fn recipient_of(input: &str) -> Option<Recipient> {
    numbers::parse(input).map(Recipient::Number).or_else(|| input.parse().ok().map(Recipient::User))
}

fn text(root: &Node<'_>) -> Result<Draft, ApiError> {
    let text = section(root, "text")?;
    let body = mandatory(&text, "body", "text.body")?;
    if body.is_empty() {
        return Err(ApiError::invalid("text.body", "may not be empty"));
    }
    if body.chars().count() > MAX_TEXT {
        return Err(ApiError::parameter("Param text['body'] must be at most 4096 characters long."));
    }
    Ok(Draft::Text { body, reply_to: context(root)? })
}

fn reaction(root: &Node<'_>) -> Result<Draft, ApiError> {
    let reaction = section(root, "reaction")?;
    let to = message_id(&mandatory(&reaction, "message_id", "reaction.message_id")?, "reaction.message_id")?;
    let emoji = mandatory(&reaction, "emoji", "reaction.emoji")?;
    if emoji.len() > MAX_EMOJI || emoji.chars().any(|c| c.is_control() || c.is_whitespace() || c.is_ascii_alphabetic())
    {
        return Err(ApiError::invalid("reaction.emoji", "has to be one emoji, or empty to take the reaction back"));
    }
    Ok(Draft::Reaction { to, emoji: Some(emoji).filter(|e| !e.is_empty()) })
}

fn file(root: &Node<'_>, kind: &str) -> Result<File, ApiError> {
    let value = nested(root, kind)?;
    let at = At::new(&value, kind);
    let source = Source::read(&at)?;
    let caption = at.get("caption").map(|caption| caption.text()).transpose()?.unwrap_or_default();
    let wrong = |problem| Err(ApiError::invalid(&format!("{kind}.caption"), problem));
    if caption.chars().count() > bulla_client::media::MAX_CAPTION {
        return wrong("may have at most 1024 characters");
    }
    if matches!(kind, "audio" | "sticker") && !caption.is_empty() {
        return wrong("is not for audio and stickers");
    }
    Ok(File { kind: kind.to_owned(), source, caption, reply_to: context(root)? })
}

fn nested(root: &Node<'_>, name: &str) -> Result<Value, ApiError> {
    match root.json(name) {
        Some(value) if value.is_object() || value.is_array() => Ok(value),
        Some(_) => Err(ApiError::invalid(name, "has to be an object")),
        None => Err(ApiError::missing(name)),
    }
}

fn read(root: &Node<'_>) -> Result<Request, ApiError> {
    if optional(root, "status", "status")?.as_deref() != Some("read") {
        return Err(ApiError::invalid("status", "has to be 'read'"));
    }
    let message = message_id(&mandatory(root, "message_id", "message_id")?, "message_id")?;
    let typing = match root.object("typing_indicator") {
        Ok(None) => Typing::Unchanged,
        Ok(Some(indicator)) => match mandatory(&indicator, "type", "typing_indicator.type")?.as_str() {
            "text" => Typing::Show,
            _ => return Err(ApiError::invalid("typing_indicator.type", "has to be 'text'")),
        },
        // An SDK in use (kapso-whatsapp-cloud-api 0.3.0 for Python) knows it as a boolean.
        Err(NotThat) => match root.text("typing_indicator").ok().flatten().as_deref() {
            Some("true") => Typing::Show,
            Some("false") => Typing::Unchanged,
            _ => return Err(ApiError::invalid("typing_indicator", "has to be an object")),
        },
    };
    Ok(Request::Read { message, typing })
}

fn context(root: &Node<'_>) -> Result<Option<MessageId>, ApiError> {
    match root.object("context") {
        Ok(None) => Ok(None),
        Ok(Some(context)) => {
            let id = mandatory(&context, "message_id", "context.message_id")?;
            message_id(&id, "context.message_id").map(Some)
        }
        Err(NotThat) => Err(ApiError::invalid("context", "has to be an object")),
    }
}

fn section<'a>(root: &'a Node<'_>, name: &str) -> Result<Node<'a>, ApiError> {
    match root.object(name) {
        Ok(Some(section)) => Ok(section),
        Ok(None) => Err(ApiError::missing(name)),
        Err(NotThat) => Err(ApiError::invalid(name, "has to be an object")),
    }
}

fn general(root: &Node<'_>, name: &str) -> Result<Option<String>, ApiError> {
    root.text(name).map_err(|NotThat| ApiError::parameter(&format!("Param {name} must be a string.")))
}

fn optional(node: &Node<'_>, name: &str, path: &str) -> Result<Option<String>, ApiError> {
    node.text(name).map_err(|NotThat| ApiError::invalid(path, "has to be a string"))
}

fn mandatory(node: &Node<'_>, name: &str, path: &str) -> Result<String, ApiError> {
    optional(node, name, path)?.ok_or_else(|| ApiError::missing(path))
}

fn message_id(text: &str, path: &str) -> Result<MessageId, ApiError> {
    MessageId::from_wamid(text).map_err(|_| ApiError::invalid(path, "is not a message id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request as HttpRequest;
    use serde_json::json;

    async fn read(typing: Value) -> Result<Typing, ApiError> {
        let id = MessageId::new([1; 32]).to_wamid();
        let mut body = json!({"messaging_product": "whatsapp", "status": "read", "message_id": id});
        if !typing.is_null() {
            body["typing_indicator"] = typing;
        }
        let (parts, body) = HttpRequest::new(axum::body::Body::from(body.to_string())).into_parts();
        let mut params = Params::default();
        params.read_body(parts, body).await.unwrap();
        match parse(&params)? {
            Request::Read { message, typing } => {
                assert_eq!(message, MessageId::new([1; 32]));
                Ok(typing)
            }
            Request::Send(_) => panic!("it says nothing"),
        }
    }

    #[tokio::test]
    async fn a_message_without_a_type_is_what_it_has_a_part_of() {
        let of = async |part: &str, value: Value| {
            let mut body = json!({"messaging_product": "whatsapp", "to": "890000000000001"});
            body[part] = value;
            let (parts, body) = HttpRequest::new(axum::body::Body::from(body.to_string())).into_parts();
            let mut params = Params::default();
            params.read_body(parts, body).await.unwrap();
            match parse(&params) {
                Ok(Request::Send(send)) => Ok(send.what),
                Ok(Request::Read { .. }) => panic!("it says something"),
                Err(error) => Err(error.codes()),
            }
        };
        assert!(matches!(of("text", json!({"body": "Hi"})).await, Ok(What::Draft(Draft::Text { .. }))));
        let buttons = json!([{"type": "reply", "reply": {"id": "1", "title": "One"}}]);
        let asked = json!({"type": "button", "body": {"text": "Which?"}, "action": {"buttons": buttons}});
        assert!(matches!(of("interactive", asked).await, Ok(What::Interactive(..))));
        assert!(matches!(of("template", json!({"name": "order"})).await, Ok(What::Template(..))));
        assert!(matches!(of("image", json!({"id": "1"})).await, Ok(What::File(_))));
        // With none, it is a text that is missing.
        assert_eq!(of("colour", json!("red")).await.err(), Some((400, 131_008, None)));
    }

    #[tokio::test]
    async fn the_typing_indicator_is_an_object_or_a_boolean() {
        for (typing, expected) in [
            (Value::Null, Typing::Unchanged),
            (json!({"type": "text"}), Typing::Show),
            (json!(true), Typing::Show),
            (json!(false), Typing::Unchanged),
        ] {
            assert_eq!(read(typing.clone()).await, Ok(expected), "{typing}");
        }
        for typing in [json!({"type": "audio"}), json!({}), json!("text"), json!(1), json!([true])] {
            assert!(read(typing.clone()).await.is_err(), "{typing}");
        }
    }
}
