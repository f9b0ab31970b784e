//! What happened, in the words of the Cloud API's webhooks.

use bulla_client::event::{Failure, Message, Purpose, Shown, Status};
use bulla_client::media::FileCard;
use bulla_e2ee::content::{Action, Answer, Category, Consent, FieldKind, FormKind, Interactive, Location};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use super::ascii::to_ascii;
use crate::account::Account;
use crate::store::contacts::Contact;

/// Where error codes are explained.
const HREF: &str = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/";

/// The service window of a conversation.
const WINDOW_MS: u64 = 24 * 3_600_000;

/// A customer's clock may be this far behind what we believe of it: the relay keeps envelopes for 30 days, plus a day.
const OLDEST_MS: u64 = 31 * 24 * 3_600_000;

/// Whose message another message answers or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    Business,
    Customer,
}

/// What a message answers or changes.
pub(crate) struct About {
    pub(crate) author: Author,
    /// What the business's message offers to choose from.
    pub(crate) offered: Option<Interactive>,
}

impl About {
    /// Nothing of the business's.
    pub(crate) const CUSTOMERS: Self = Self { author: Author::Customer, offered: None };
}

/// The business, as payloads show it, and where its links lead.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) account: Account,
    /// `origin/@handle`.
    pub(crate) public_link: String,
}

/// The body for an incoming message. `about` is what it answers or changes, `media` the id of its file.
pub(crate) fn message(
    place: &Place,
    contact: &Contact,
    message: &Message,
    about: &About,
    media: Option<u64>,
) -> Vec<u8> {
    let mut out = Map::new();
    out.insert("from".into(), contact.wa_id.as_str().into());
    out.insert("from_user_id".into(), contact.user_id.as_str().into());
    out.insert("id".into(), message.id.to_wamid().into());
    out.insert("timestamp".into(), said_at(message).into());
    let (kind, content) = content(message, about, media);
    if kind == "unsupported" {
        out.insert("errors".into(), json!([unsupported_error()]));
    }
    out.insert("type".into(), kind.into());
    out.insert(kind.into(), content);
    let is_reply = !matches!(message.shown, Shown::Reaction(_) | Shown::Edit(_) | Shown::Deleted);
    if let (true, Some(answers)) = (is_reply, &message.reply_to) {
        let from = match about.author {
            Author::Business => &place.account.display_number,
            Author::Customer => &contact.wa_id,
        };
        out.insert("context".into(), json!({"from": from, "id": answers.to_wamid()}));
    }
    if let Some(reference) = &message.reference {
        out.insert("referral".into(), referral(place, reference));
    }
    let mut who = Map::new();
    who.insert("profile".into(), json!({"name": contact.name}));
    who.insert("wa_id".into(), contact.wa_id.as_str().into());
    who.insert("user_id".into(), contact.user_id.as_str().into());
    if let Some(id) = &contact.customer_id {
        // Ours: the Cloud API has no such field.
        who.insert("customer_id".into(), id.as_str().into());
    }
    let value = json!({ "contacts": [who], "messages": [Value::Object(out)] });
    envelope(place, value)
}

/// The body for an outgoing message's progress; `None` if the Cloud API has no such status.
pub(crate) fn status(
    place: &Place,
    contact: &Contact,
    message: &Message,
    at_ms: u64,
    opaque: Option<&str>,
) -> Option<Vec<u8>> {
    let word = match message.status {
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read => "read",
        Status::Failed => "failed",
        Status::Queued | Status::Received => return None,
    };
    let mut out = Map::new();
    out.insert("id".into(), message.id.to_wamid().into());
    out.insert("status".into(), word.into());
    out.insert("timestamp".into(), seconds(at_ms).into());
    out.insert("recipient_id".into(), contact.wa_id.as_str().into());
    out.insert("recipient_user_id".into(), contact.user_id.as_str().into());
    if let Some(opaque) = opaque {
        out.insert("biz_opaque_callback_data".into(), opaque.into());
    }
    if message.status == Status::Failed {
        out.insert("errors".into(), json!([failure_error(message.failure)]));
    } else {
        let category = category(message);
        out.insert("conversation".into(), conversation(contact, message, category));
        let kind = if category == "service" { "free_customer_service" } else { "regular" };
        out.insert(
            "pricing".into(),
            json!({"billable": false, "pricing_model": "PMP", "type": kind, "category": category}),
        );
    }
    Some(envelope(place, json!({ "statuses": [Value::Object(out)] })))
}

/// What a message is: an answer, or a template of some category.
fn category(message: &Message) -> &'static str {
    let template = match &message.shown {
        Shown::Interactive(interactive, _) => interactive.template.as_ref(),
        _ => None,
    };
    match template.map(|template| template.category) {
        None => "service",
        Some(Category::Authentication) => "authentication",
        Some(Category::Marketing) => "marketing",
        Some(Category::Utility) => "utility",
    }
}

/// The service conversation: one per window, so its id changes with the customer's last word.
fn conversation(contact: &Contact, message: &Message, category: &str) -> Value {
    use sha2::Digest as _;
    let hash = sha2::Sha256::new()
        .chain_update(b"bulla/1/service-conversation\0")
        .chain_update(contact.user_id.as_bytes())
        .chain_update(contact.heard_ms.to_be_bytes())
        .finalize();
    let id = HEXLOWER.encode(hash.first_chunk::<16>().unwrap_or(&[0; 16]));
    let mut out = Map::new();
    out.insert("id".into(), id.into());
    out.insert("origin".into(), json!({ "type": category }));
    if message.status == Status::Sent {
        out.insert("expiration_timestamp".into(), seconds(contact.heard_ms.saturating_add(WINDOW_MS)).into());
    }
    Value::Object(out)
}

/// Type and content. A customer cannot change the business's messages: what tries to is shown as unsupported.
fn content(message: &Message, about: &About, media: Option<u64>) -> (&'static str, Value) {
    let original = message.replaces.filter(|_| about.author == Author::Customer).map(|id| id.to_wamid());
    match (&message.shown, original) {
        (Shown::File(card), _) => file(card, media),
        (Shown::Text(body), _) => ("text", json!({ "body": body })),
        (Shown::Reaction(emoji), _) => {
            let on = message.reply_to.map(|id| id.to_wamid()).unwrap_or_default();
            match emoji {
                Some(emoji) => ("reaction", json!({"message_id": on, "emoji": emoji})),
                None => ("reaction", json!({ "message_id": on })),
            }
        }
        (Shown::Edit(body), Some(original)) => {
            ("edit", json!({"original_message_id": original, "message": {"type": "text", "text": {"body": body}}}))
        }
        (Shown::Deleted, Some(original)) => ("revoke", json!({ "original_message_id": original })),
        (Shown::Location(location), _) => ("location", self::location(location)),
        (Shown::Contacts(persons), _) => ("contacts", json!(persons)),
        (Shown::Answer(answer), _) => match about.offered.as_ref().filter(|offered| offered.offers(answer)) {
            Some(offered) => self::answer(offered, answer),
            // What was not offered cannot be chosen, whatever a customer's program says.
            None => ("unsupported", json!({"type": "unknown"})),
        },
        _ => ("unsupported", json!({"type": "unknown"})),
    }
}

fn location(location: &Location) -> Value {
    let (latitude, longitude) = location.degrees();
    let mut out = Map::new();
    out.insert("latitude".into(), latitude.into());
    out.insert("longitude".into(), longitude.into());
    for (name, text) in [("name", &location.name), ("address", &location.address)] {
        if let Some(text) = text {
            out.insert(name.into(), text.as_str().into());
        }
    }
    Value::Object(out)
}

/// A choice, in the form that belongs to what was offered.
fn answer(offered: &Interactive, answer: &Answer) -> (&'static str, Value) {
    match (answer, &offered.action) {
        (Answer::Button { id, title }, _) if offered.template.is_some() => {
            ("button", json!({"payload": id, "text": title}))
        }
        (Answer::Button { id, title }, _) => {
            ("interactive", json!({"type": "button_reply", "button_reply": {"id": id, "title": title}}))
        }
        (Answer::Row { id, title, description }, _) => {
            let mut row = Map::new();
            row.insert("id".into(), id.as_str().into());
            row.insert("title".into(), title.as_str().into());
            if let Some(description) = description {
                row.insert("description".into(), description.as_str().into());
            }
            ("interactive", json!({"type": "list_reply", "list_reply": row}))
        }
        (Answer::Form { values }, Action::Form(form)) if form.kind == FormKind::Contact => {
            let value = |name: &str| values.iter().find(|v| v.name == name).and_then(|v| v.values.first());
            let mut person = json!({"name": {"formatted_name": value("name")}});
            if let Some(phone) = value("phone") {
                set(&mut person, "phones", json!([{"phone": phone, "type": "CELL"}]));
            }
            if let Some(email) = value("email") {
                set(&mut person, "emails", json!([{"email": email, "type": "HOME"}]));
            }
            ("contacts", json!([person]))
        }
        (Answer::Form { values }, Action::Form(form)) => {
            let mut given = Map::new();
            for field in offered.fields() {
                let Some(answer) = values.iter().find(|value| value.name == field.name) else { continue };
                let first = answer.values.first().map(String::as_str).unwrap_or_default();
                let value = match field.kind {
                    FieldKind::Some => json!(answer.values),
                    FieldKind::Yes => (first == "true").into(),
                    _ => first.into(),
                };
                given.insert(field.name.clone(), value);
            }
            let (name, mut response) = match form.kind {
                FormKind::Address => ("address_message", json!({ "values": given })),
                _ => ("flow", Value::Object(given)),
            };
            if let Some(token) = &form.token {
                set(&mut response, "flow_token", token.as_str().into());
            }
            let reply = json!({"name": name, "body": "Sent", "response_json": response.to_string()});
            ("interactive", json!({"type": "nfm_reply", "nfm_reply": reply}))
        }
        (Answer::Order { items, text }, Action::Products(products)) => {
            let ordered = items.iter().filter_map(|wanted| {
                let product = products.items.iter().find(|product| product.id == wanted.id)?;
                Some(json!({
                    "product_retailer_id": wanted.id,
                    "quantity": wanted.quantity,
                    // The price that the customer saw.
                    "item_price": thousandths(product.price),
                    "currency": product.currency,
                }))
            });
            let ordered: Vec<Value> = ordered.collect();
            ("order", json!({"catalog_id": products.catalog, "text": text, "product_items": ordered}))
        }
        _ => ("unsupported", json!({"type": "unknown"})),
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.into(), value);
    }
}

/// A price as a number with its decimals.
fn thousandths(price: u64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "prices are far below 2^53 thousandths")]
    let units = price as f64 / 1_000.0;
    json!(units)
}

/// A customer's word about what it may be written to for, in the form of the Cloud API's `user_preferences`; with our own purpose and wording.
pub(crate) fn preference(place: &Place, contact: &Contact, consent: &Consent, at_ms: u64) -> Vec<u8> {
    let marketing = consent.purpose == Purpose::Marketing;
    let detail = match (consent.given, marketing) {
        (true, true) => "User requested to resume marketing messages",
        (false, true) => "User requested to stop marketing messages",
        (true, false) => "User requested to resume notifications",
        (false, false) => "User requested to stop notifications",
    };
    let value = json!({
        "contacts": [{"profile": {"name": contact.name}, "wa_id": contact.wa_id, "user_id": contact.user_id}],
        "user_preferences": [{
            "wa_id": contact.wa_id,
            "user_id": contact.user_id,
            "detail": detail,
            "category": if marketing { "marketing_messages" } else { "notifications" },
            "value": if consent.given { "resume" } else { "stop" },
            "timestamp": at_ms / 1_000,
            "wording": consent.wording,
        }],
    });
    of_field("user_preferences", place, value)
}

/// A file, by what its sender says that it is.
fn file(card: &FileCard, media: Option<u64>) -> (&'static str, Value) {
    let kind = match card.media_type.split('/').next() {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        _ => "document",
    };
    let mut out = Map::new();
    if !card.caption.is_empty() && kind != "audio" {
        out.insert("caption".into(), card.caption.as_str().into());
    }
    if kind == "document" {
        out.insert("filename".into(), card.name.as_str().into());
    }
    out.insert("mime_type".into(), card.media_type.as_str().into());
    out.insert("sha256".into(), BASE64.encode(&card.digest).into());
    out.insert("id".into(), media.unwrap_or_default().to_string().into());
    if kind == "audio" {
        out.insert("voice".into(), false.into());
    }
    (kind, Value::Object(out))
}

fn unsupported_error() -> Value {
    json!({
        "code": 131_051,
        "title": "Message type unknown",
        "message": "Message type unknown",
        "error_data": {"details": "Message type is currently not supported."},
        "href": HREF,
    })
}

fn failure_error(failure: Option<Failure>) -> Value {
    let (code, title, details) = match failure {
        Some(Failure::WindowClosed) => {
            let details = "More than 24 hours have passed since the customer last wrote to this number.";
            (131_047, "Re-engagement message", details)
        }
        Some(Failure::Withdrawn) => {
            let details = "The customer has withdrawn its consent to messages of this kind.";
            (131_050, "User has stopped marketing messages from your business", details)
        }
        Some(Failure::NoConsent) => {
            (131_026, "Message undeliverable", "The customer has not agreed to messages of this kind.")
        }
        Some(Failure::TooLarge) => {
            (131_009, "Parameter value is not valid", "The message is larger than the recipient accepts.")
        }
        Some(Failure::NoReceipt) => {
            (131_026, "Message undeliverable", "The recipient's device did not confirm it within 31 days.")
        }
        _ => (131_026, "Message undeliverable", "The recipient does not take messages from this business now."),
    };
    json!({"code": code, "title": title, "message": title, "error_data": {"details": details}, "href": HREF})
}

/// Where the customer came from, as an advertisement's click is told: the link's `ref`.
fn referral(place: &Place, reference: &str) -> Value {
    let query: String = url::form_urlencoded::byte_serialize(reference.as_bytes()).collect();
    json!({
        "source_url": format!("{}?ref={query}", place.public_link),
        "source_id": reference,
        "source_type": "post",
        "headline": place.account.name,
        "body": "",
    })
}

/// When the customer wrote, if that can be; the gateway's own time otherwise: a wrong clock must not put a message into the future.
fn said_at(message: &Message) -> String {
    let oldest = message.stored_ms.saturating_sub(OLDEST_MS);
    let at = if (oldest..=message.stored_ms).contains(&message.sent_ms) { message.sent_ms } else { message.stored_ms };
    seconds(at)
}

fn seconds(ms: u64) -> String {
    (ms / 1_000).to_string()
}

fn envelope(place: &Place, value: Value) -> Vec<u8> {
    of_field("messages", place, value)
}

fn of_field(field: &str, place: &Place, mut value: Value) -> Vec<u8> {
    if let Value::Object(value) = &mut value {
        value.insert("messaging_product".into(), "whatsapp".into());
        let metadata = json!({
            "display_phone_number": place.account.display_number,
            "phone_number_id": place.account.phone_number_id,
        });
        value.insert("metadata".into(), metadata);
    }
    to_ascii(&json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": place.account.waba_id, "changes": [{"field": field, "value": value}]}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use bulla_client::event::{ConversationId, Direction};
    use bulla_e2ee::content::MessageId;

    const NOW: u64 = 1_800_000_000_000;

    fn place() -> Place {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let (account, _) = Account::generate("shop".into(), "Shöp".into(), &[], &entropy);
        Place { account, public_link: "https://shop.example/@shop".into() }
    }

    fn contact() -> Contact {
        Contact {
            user_id: "ZZ.abc".into(),
            wa_id: "890000000000001".into(),
            name: "Zoë 👋".into(),
            heard_ms: NOW,
            customer_id: None,
        }
    }

    fn said(direction: Direction, shown: Shown, status: Status) -> Message {
        Message {
            conversation: ConversationId(1),
            order: 1,
            id: MessageId::new([1; 32]),
            direction,
            shown,
            reply_to: None,
            replaces: None,
            sent_ms: NOW - 5_000,
            stored_ms: NOW,
            status,
            failure: None,
            edited: false,
            deleted: false,
            reactions: Vec::new(),
            reference: None,
            identity: None,
            breach: false,
            by: None,
        }
    }

    fn about(author: Author) -> About {
        About { author, offered: None }
    }

    fn incoming(shown: Shown) -> Message {
        said(Direction::Incoming, shown, Status::Received)
    }

    fn parse(bytes: &[u8]) -> Value {
        assert!(bytes.is_ascii());
        serde_json::from_slice(bytes).unwrap()
    }

    fn only_message(bytes: &[u8]) -> Value {
        parse(bytes)["entry"][0]["changes"][0]["value"]["messages"][0].clone()
    }

    #[test]
    fn a_text_looks_as_the_cloud_api_has_it() {
        let (place, contact) = (place(), contact());
        let mut text = incoming(Shown::Text("hällo".into()));
        text.reply_to = Some(MessageId::new([2; 32]));
        text.reference = Some("flyer & co".into());
        let id = text.id.to_wamid();
        assert_eq!(
            parse(&message(&place, &contact, &text, &about(Author::Business), None)),
            json!({
                "object": "whatsapp_business_account",
                "entry": [{"id": place.account.waba_id, "changes": [{"field": "messages", "value": {
                    "messaging_product": "whatsapp",
                    "metadata": {
                        "display_phone_number": place.account.display_number,
                        "phone_number_id": place.account.phone_number_id,
                    },
                    "contacts": [{"profile": {"name": "Zoë 👋"}, "wa_id": "890000000000001", "user_id": "ZZ.abc"}],
                    "messages": [{
                        "from": "890000000000001", "from_user_id": "ZZ.abc", "id": id,
                        "timestamp": "1799999995", "type": "text", "text": {"body": "hällo"},
                        "context": {"from": place.account.display_number, "id": MessageId::new([2; 32]).to_wamid()},
                        "referral": {
                            "source_url": "https://shop.example/@shop?ref=flyer+%26+co", "source_id": "flyer & co",
                            "source_type": "post", "headline": "Shöp", "body": "",
                        },
                    }],
                }}]}],
            })
        );
    }

    #[test]
    fn other_kinds() {
        let (place, contact, target) = (place(), contact(), MessageId::new([3; 32]));
        let render = |shown, about| {
            let message_of = Message { reply_to: Some(target), replaces: Some(target), ..incoming(shown) };
            only_message(&message(&place, &contact, &message_of, &self::about(about), None))
        };
        let wamid = target.to_wamid();
        let up = render(Shown::Reaction(Some("👍".into())), Author::Business);
        assert_eq!(up["reaction"], json!({"message_id": wamid, "emoji": "👍"}));
        assert!(up.get("context").is_none());
        let off = render(Shown::Reaction(None), Author::Business);
        assert_eq!(off["reaction"], json!({ "message_id": wamid }));
        let edit = render(Shown::Edit("new".into()), Author::Customer);
        let expected = json!({"original_message_id": wamid, "message": {"type": "text", "text": {"body": "new"}}});
        assert_eq!((&edit["type"], &edit["edit"]), (&json!("edit"), &expected));
        let revoke = render(Shown::Deleted, Author::Customer);
        assert_eq!(revoke["revoke"], json!({ "original_message_id": wamid }));
        for shown in [Shown::Unsupported("a/b".into()), Shown::Unreadable] {
            let unsupported = render(shown, Author::Customer);
            assert_eq!(unsupported["type"], "unsupported");
            assert_eq!(unsupported["errors"][0]["code"], 131_051);
        }
    }

    #[test]
    fn a_customer_cannot_seem_to_change_what_the_business_said() {
        for shown in [Shown::Edit("I owe you".into()), Shown::Deleted] {
            let forged = Message { replaces: Some(MessageId::new([3; 32])), ..incoming(shown) };
            let shown = only_message(&message(&place(), &contact(), &forged, &about(Author::Business), None));
            assert_eq!(shown["type"], "unsupported");
        }
    }

    #[test]
    fn statuses() {
        let (place, contact) = (place(), contact());
        let render = |status_now, failure| {
            let text = said(Direction::Outgoing, Shown::Text("x".into()), status_now);
            let text = Message { failure, ..text };
            status(&place, &contact, &text, NOW, Some("order 7"))
                .map(|bytes| parse(&bytes)["entry"][0]["changes"][0]["value"]["statuses"][0].clone())
        };
        let sent = render(Status::Sent, None).unwrap();
        assert_eq!(sent["status"], "sent");
        assert_eq!(sent["recipient_id"], "890000000000001");
        assert_eq!(sent["recipient_user_id"], "ZZ.abc");
        assert_eq!(sent["biz_opaque_callback_data"], "order 7");
        assert_eq!(sent["conversation"]["expiration_timestamp"], "1800086400");
        assert_eq!(sent["conversation"]["origin"]["type"], "service");
        assert_eq!(sent["pricing"]["billable"], false);
        let read = render(Status::Read, None).unwrap();
        assert_eq!(read["conversation"]["id"], sent["conversation"]["id"]);
        assert!(read["conversation"].get("expiration_timestamp").is_none());
        assert!(render(Status::Queued, None).is_none());
        for (failure, code) in [
            (Failure::WindowClosed, 131_047),
            (Failure::Refused, 131_026),
            (Failure::NoReceipt, 131_026),
            (Failure::TooLarge, 131_009),
        ] {
            let failed = render(Status::Failed, Some(failure)).unwrap();
            assert_eq!((&failed["status"], &failed["errors"][0]["code"]), (&json!("failed"), &json!(code)));
            assert!(failed.get("pricing").is_none());
        }
    }

    #[test]
    fn a_wrong_clock_does_not_reach_the_receiver() {
        for (sent_ms, expected) in [(NOW - 60_000, NOW - 60_000), (NOW + 1, NOW), (0, NOW), (u64::MAX, NOW)] {
            let text = Message { sent_ms, ..incoming(Shown::Text("x".into())) };
            assert_eq!(said_at(&text), seconds(expected));
        }
    }
}
