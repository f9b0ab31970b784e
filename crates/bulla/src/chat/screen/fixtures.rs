//! Messages for tests. A message's id is made of its place.

use bulla_client::event::{Conversation, ConversationId, ConversationState, Direction, Message, Shown, Status};
use bulla_e2ee::content::{Action, Button, Field, FieldKind, Form, FormKind, Interactive, MessageId, Screen};

/// Saturday, 1 March 2025, 12:00 UTC.
pub(super) const START: u64 = 1_740_830_400_000;
pub(super) const MINUTE: u64 = 60_000;
pub(super) const DAY: u64 = 24 * 60 * MINUTE;

pub(super) fn id(order: u64) -> MessageId {
    let mut bytes = [0; 32];
    bytes[1..9].copy_from_slice(&(order << 32).to_be_bytes());
    MessageId::new(bytes)
}

/// A message at noon, a minute later than the one before it.
pub(super) fn message(order: u64, direction: Direction, shown: Shown) -> Message {
    Message {
        conversation: ConversationId(1),
        order,
        id: id(order),
        direction,
        shown,
        reply_to: None,
        replaces: None,
        sent_ms: START + order * MINUTE,
        stored_ms: START + order * MINUTE,
        status: if direction == Direction::Outgoing { Status::Queued } else { Status::Received },
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

pub(super) fn own(order: u64, text: &str) -> Message {
    message(order, Direction::Outgoing, Shown::Text(text.to_owned()))
}

pub(super) fn theirs(order: u64, text: &str) -> Message {
    message(order, Direction::Incoming, Shown::Text(text.to_owned()))
}

/// A question of the business with these to press.
pub(super) fn buttons(order: u64, body: &str, titles: &[&str]) -> Message {
    let reply = |title: &&str| Button::Reply { id: title.to_lowercase(), title: (*title).to_owned() };
    offer(order, body, Action::Buttons(titles.iter().map(reply).collect()))
}

pub(super) fn offer(order: u64, body: &str, action: Action) -> Message {
    message(order, Direction::Incoming, Shown::Interactive(Box::new(Interactive::new(body, action)), None))
}

/// A form with a street, which must be told, and a floor.
pub(super) fn form(order: u64) -> Message {
    let field = |name: &str, kind, required| Field {
        name: name.to_lowercase(),
        label: name.to_owned(),
        kind,
        required,
        options: Vec::new(),
        hint: None,
        value: None,
        min: None,
        max: None,
    };
    let fields = vec![field("Street", FieldKind::Text, true), field("Floor", FieldKind::Number, false)];
    let screen = Screen { title: String::new(), text: None, fields, button: "Send".to_owned() };
    let form = Form { kind: FormKind::Flow, button: "Fill it in".to_owned(), screens: vec![screen], token: None };
    offer(order, "Where shall we bring it?", Action::Form(form))
}

pub(super) fn conversation() -> Conversation {
    Conversation {
        id: ConversationId(1),
        user_id: "ZZ.7k2mq4aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap_or_else(|_| unreachable!()),
        peer_name: "Cortado Coffee".to_owned(),
        handle: "cortado".to_owned(),
        readers: vec![("Ana".to_owned(), "agent".to_owned()), ("Shopbot".to_owned(), "bot".to_owned())],
        last_heard_ms: 0,
        state: ConversationState::Open,
        unread: 0,
        past: None,
        push_key: None,
        consents: Vec::new(),
    }
}
