//! From events to webhooks that wait, inside the transaction that makes the event durable.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_client::endpoint::Projector;
use bulla_client::event::{ConversationId, Direction, Event, Message, Shown, Status};
use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use bulla_e2ee::content::Consent;

use super::payload::{self, About, Author, Place};
use crate::egress::outside::Outside;
use crate::identity::IdentityKey;
use crate::push;
use crate::store::contacts::Contact;
use crate::store::queue::{KEPT_WITHOUT_RECEIVER, Keep};
use crate::store::{consents, contacts, facts, media, pushes, queue};

/// Callback data on its way from an API call to the message that the call makes: the call sets it, under its conversation's lock, and
/// the message's own transaction takes it.
#[derive(Clone, Default)]
pub(crate) struct Opaque(Arc<Mutex<HashMap<ConversationId, String>>>);

impl Opaque {
    /// For the next message of a conversation; `None` takes back what was not used.
    pub(crate) fn set(&self, conversation: ConversationId, data: Option<String>) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match data {
            Some(data) => slots.insert(conversation, data),
            None => slots.remove(&conversation),
        };
    }

    /// Looks without taking: a transaction that fails is run again.
    fn get(&self, conversation: ConversationId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&conversation).cloned()
    }
}

impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opaque(redacted)")
    }
}

/// Writes the gateway's rows.
#[derive(Debug)]
pub(crate) struct WebhookProjector {
    pub(crate) place: Place,
    pub(crate) opaque: Opaque,
    /// Where customers' devices may be woken.
    pub(crate) outside: Outside,
    /// Verifies who a customer is at the business, if its backend says so.
    pub(crate) identity: Option<IdentityKey>,
}

impl Projector for WebhookProjector {
    fn project(&mut self, event: &Event, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        match event {
            Event::Conversation(conversation) => {
                contacts::know(tx, conversation, &self.place.account.display_number).map(drop)
            }
            Event::Message(message) => match message.direction {
                Direction::Incoming => self.incoming(message, tx),
                Direction::Outgoing => {
                    let offered = match &message.shown {
                        Shown::Interactive(interactive, _) => Some((**interactive).clone()),
                        _ => None,
                    };
                    let outgoing = contacts::Outgoing { opaque: self.opaque.get(message.conversation), offered };
                    contacts::sent(tx, message.conversation, &message.id, &outgoing)
                }
            },
            Event::Status { message, at_ms } if message.direction == Direction::Outgoing => {
                self.status(message, *at_ms, tx)?;
                match message.status {
                    Status::Sent if is_worth_a_push(message) => pushes::owe(tx, message.conversation).map(drop),
                    Status::Delivered | Status::Read => pushes::settle(tx, message.conversation),
                    _ => Ok(()),
                }
            }
            Event::Push { conversation, device, subscription } => {
                let subscription = subscription.as_deref().filter(|s| push::may_wake(&self.outside, &s.endpoint));
                pushes::subscribe(tx, *conversation, device, subscription)
            }
            Event::Consent { conversation, consent, statement } => self.consent(*conversation, consent, statement, tx),
            _ => Ok(()),
        }
    }
}

impl WebhookProjector {
    fn incoming(&self, message: &Message, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Some(mut contact) = contacts::get(tx, message.conversation)? else {
            tracing::error!("a message came before its conversation: no webhook for it");
            return Ok(());
        };
        self.identify(&mut contact, message);
        contacts::heard(tx, message.conversation, &mut contact, message.stored_ms)?;
        let about = match message.replaces.or(message.reply_to) {
            Some(id) => match contacts::outgoing(tx, &id)? {
                Some(outgoing) => About { author: Author::Business, offered: outgoing.offered },
                None => About::CUSTOMERS,
            },
            None => About::CUSTOMERS,
        };
        let media = match &message.shown {
            Shown::File(_) => Some(media::of_message(tx, message.conversation, &message.id)?),
            _ => None,
        };
        let body = payload::message(&self.place, &contact, message, &about, media);
        enqueue(tx, message.conversation, &body)
    }

    /// Takes the word of the business's backend for who the customer is. What does not count changes nothing, and the message is as good.
    fn identify(&self, contact: &mut Contact, message: &Message) {
        let Some(token) = &message.identity else { return };
        let Some(key) = &self.identity else {
            tracing::warn!(
                "a customer came with an identity token, and there is no key to check it with (--identity-key)"
            );
            return;
        };
        match key.check(token, &self.place.account.handle, message.stored_ms / 1_000) {
            Ok(id) => contact.customer_id = Some(id),
            Err(reason) => tracing::warn!(%reason, "an identity token does not count"),
        }
    }

    fn consent(
        &self,
        conversation: ConversationId,
        consent: &Consent,
        statement: &[u8],
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let Some(contact) = contacts::get(tx, conversation)? else {
            tracing::error!("a consent came before its conversation: it is not in the ledger");
            return Ok(());
        };
        consents::add(tx, conversation, &contact.user_id, consent, statement)?;
        let body = payload::preference(&self.place, &contact, consent, tx.now_ms());
        enqueue(tx, conversation, &body)
    }

    fn status(&self, message: &Message, at_ms: u64, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Some(contact) = contacts::get(tx, message.conversation)? else {
            tracing::error!("a status came before its conversation: no webhook for it");
            return Ok(());
        };
        let opaque = contacts::outgoing(tx, &message.id)?.and_then(|o| o.opaque);
        match payload::status(&self.place, &contact, message, at_ms, opaque.as_deref()) {
            Some(body) => enqueue(tx, message.conversation, &body),
            None => Ok(()),
        }
    }
}

/// A person would look for it: not a reaction, an edit, or something that was taken back.
fn is_worth_a_push(message: &Message) -> bool {
    let quiet = matches!(message.shown, Shown::Reaction(_) | Shown::Edit(_) | Shown::Deleted | Shown::Unreadable);
    !message.deleted && !quiet
}

fn enqueue(tx: &mut Tx<'_>, conversation: ConversationId, body: &[u8]) -> Result<(), StoreError> {
    let keep = match facts::targets(tx)?.effective() {
        Some(_) => Keep::All,
        None => Keep::Newest(KEPT_WITHOUT_RECEIVER),
    };
    queue::push(tx, conversation, body, keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::entropy::Entropy;
    use crate::store::testing::TestStore;
    use bulla_client::event::{Conversation, ConversationState};
    use bulla_e2ee::content::MessageId;
    use bulla_e2ee::content::PushSubscription;
    use bulla_e2ee::identity::{IdentityHash, UserId};

    const ONE: ConversationId = ConversationId(1);

    fn conversation(id: u64, customer: u8) -> Conversation {
        Conversation {
            id: ConversationId(id),
            user_id: UserId::of(&IdentityHash::new([0; 32]), &[customer; 32]),
            peer_name: "Guest ABCD".into(),
            handle: String::new(),
            readers: Vec::new(),
            last_heard_ms: 0,
            state: ConversationState::Open,
            unread: 0,
            past: None,
            push_key: None,
            consents: Vec::new(),
        }
    }

    fn message(id: u8, direction: Direction, status: Status) -> Message {
        Message {
            conversation: ONE,
            order: 1,
            id: MessageId::new([id; 32]),
            direction,
            shown: Shown::Text("hello".into()),
            reply_to: None,
            replaces: None,
            sent_ms: 1,
            stored_ms: 1_800_000_000_000,
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

    fn projector() -> WebhookProjector {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let (account, _) = Account::generate("shop".into(), "Shop".into(), &[], &entropy);
        let place = Place { account, public_link: "https://shop.example/@shop".into() };
        WebhookProjector { place, opaque: Opaque::default(), outside: Outside::default(), identity: None }
    }

    fn store() -> TestStore {
        let mut store = TestStore::new();
        for (id, peer) in [(1, 1), (2, 2), (3, 1)] {
            store.has(ConversationId(id), peer);
        }
        store
    }

    fn rows(store: &mut TestStore) -> Vec<serde_json::Value> {
        let mut rows = Vec::new();
        while let Some(head) = store.tx(|tx| queue::head(tx, ONE)) {
            rows.push(serde_json::from_slice(&head.body).unwrap());
            store.tx(|tx| queue::remove(tx, ONE, head.sequence));
        }
        rows
    }

    #[test]
    fn a_message_and_its_webhook_are_one_transaction() {
        let (mut store, mut projector) = (store(), projector());
        store.tx(|tx| {
            projector.project(&Event::Conversation(conversation(1, 1)), tx)?;
            projector.project(&Event::Message(message(1, Direction::Incoming, Status::Received)), tx)
        });
        let rows = rows(&mut store);
        assert_eq!(rows.len(), 1);
        let value = &rows[0]["entry"][0]["changes"][0]["value"];
        assert_eq!(value["messages"][0]["text"]["body"], "hello");
        assert_eq!(value["contacts"][0]["profile"]["name"], "Guest ABCD");
    }

    #[test]
    fn callback_data_comes_back_with_every_status() {
        let (mut store, mut projector) = (store(), projector());
        projector.opaque.set(ONE, Some("order 7".into()));
        store.tx(|tx| {
            projector.project(&Event::Conversation(conversation(1, 1)), tx)?;
            projector.project(&Event::Message(message(1, Direction::Outgoing, Status::Queued)), tx)
        });
        projector.opaque.set(ONE, None);
        store.tx(|tx| projector.project(&Event::Message(message(2, Direction::Outgoing, Status::Queued)), tx));
        for (id, status) in [(1, Status::Sent), (2, Status::Sent), (1, Status::Read)] {
            let message = message(id, Direction::Outgoing, status);
            store.tx(|tx| projector.project(&Event::Status { message, at_ms: 5 }, tx));
        }
        let data: Vec<_> = rows(&mut store)
            .iter()
            .map(|row| row["entry"][0]["changes"][0]["value"]["statuses"][0]["biz_opaque_callback_data"].clone())
            .collect();
        assert_eq!(data, [serde_json::json!("order 7"), serde_json::Value::Null, serde_json::json!("order 7")]);
    }

    #[test]
    fn a_customer_keeps_the_number_over_conversations_and_names() {
        let (mut store, mut projector) = (store(), projector());
        let number =
            |store: &mut TestStore, id: u64| store.tx(|tx| contacts::get(tx, ConversationId(id))).unwrap().wa_id;
        for conversation in [conversation(1, 1), conversation(2, 2)] {
            store.tx(|tx| projector.project(&Event::Conversation(conversation.clone()), tx));
        }
        let (first, second) = (number(&mut store, 1), number(&mut store, 2));
        assert_ne!(first, second);
        assert_eq!(store.tx(|tx| contacts::by_number(tx, &first)).unwrap().0, ONE);
        // The same customer, resumed on another device.
        let mut resumed = conversation(3, 1);
        resumed.peer_name = "Ada".into();
        store.tx(|tx| projector.project(&Event::Conversation(resumed.clone()), tx));
        assert_eq!(number(&mut store, 3), first);
        let (id, contact) = store.tx(|tx| contacts::by_number(tx, &first)).unwrap();
        assert_eq!((id, contact.name.as_str()), (ConversationId(3), "Ada"));
    }

    #[test]
    fn a_number_that_is_taken_is_not_given_again() {
        let (mut store, mut projector) = (store(), projector());
        store.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
        let taken = store.tx(|tx| contacts::get(tx, ONE)).unwrap().wa_id;
        // In a fresh store of the same key the same customer would get the same number: unless it is the business's own.
        let mut fresh = self::store();
        projector.place.account.display_number.clone_from(&taken);
        fresh.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
        let other = fresh.tx(|tx| contacts::get(tx, ONE)).unwrap().wa_id;
        assert_ne!(other, taken);
    }

    #[test]
    fn a_customer_has_the_id_that_the_businesss_backend_has_signed() {
        use jwt_compact::alg::{Hs256, Hs256Key};
        use jwt_compact::{AlgorithmExt as _, Claims, Header};
        let secret = b"0123456789abcdef0123456789abcdef";
        let (mut store, mut projector) = (store(), projector());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        projector.identity = Some(IdentityKey::from_file(file.path()).unwrap());
        store.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
        let token = |sub: &str, aud: &str| {
            let claims = serde_json::json!({ "sub": sub, "aud": aud, "exp": 1_800_000_600 });
            let claims: Claims<serde_json::Value> = serde_json::from_value(claims).unwrap();
            Hs256.token(&Header::empty(), &claims, &Hs256Key::new(secret)).unwrap()
        };
        let mut id = 0;
        let mut heard = |identity: Option<String>| {
            id += 1;
            let message = Message { identity, ..message(id, Direction::Incoming, Status::Received) };
            store.tx(|tx| projector.project(&Event::Message(message), tx));
            // A name that is changed does not take it away.
            store.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
            let row = rows(&mut store).remove(0);
            row["entry"][0]["changes"][0]["value"]["contacts"][0]["customer_id"].as_str().map(str::to_owned)
        };
        assert_eq!(heard(None), None);
        assert_eq!(heard(Some(token("7", "another"))), None);
        assert_eq!(heard(Some(token("7", "shop"))).as_deref(), Some("7"));
        assert_eq!(heard(None).as_deref(), Some("7"), "it stays");
        assert_eq!(heard(Some("forged".into())).as_deref(), Some("7"));
        assert_eq!(heard(Some(token("8", "shop"))).as_deref(), Some("8"));
    }

    #[test]
    fn a_push_is_owed_for_what_lies_at_the_relay_until_something_has_it() {
        let (mut store, mut projector) = (store(), projector());
        let subscribe = |endpoint: &str| Event::Push {
            conversation: ONE,
            device: "phone".into(),
            subscription: Some(Box::new(PushSubscription {
                endpoint: endpoint.into(),
                p256dh: [4; 65],
                auth: [1; 16],
            })),
        };
        store.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
        let mut is_owed = |event: Event| {
            store.tx(|tx| projector.project(&event, tx));
            store.tx(|tx| pushes::owed(tx, ONE)).is_some()
        };
        let status = |status, shown: Shown| {
            let message = Message { shown, ..message(9, Direction::Outgoing, status) };
            Event::Status { message, at_ms: 5 }
        };
        let text = || Shown::Text("hello".into());
        // GW-03: what may not be asked is not kept; nothing is owed there.
        assert!(!is_owed(subscribe("https://169.254.169.254/latest")));
        assert!(!is_owed(status(Status::Sent, text())));
        assert!(!is_owed(subscribe("https://push.example/x")));
        assert!(!is_owed(status(Status::Sent, Shown::Reaction(None))));
        assert!(!is_owed(status(Status::Failed, text())));
        for seen in [Status::Delivered, Status::Read] {
            assert!(is_owed(status(Status::Sent, text())));
            assert!(!is_owed(status(seen, text())));
        }
    }

    #[test]
    fn gw_16_debug_shows_nobody() {
        let (mut store, mut projector) = (store(), projector());
        store.tx(|tx| projector.project(&Event::Conversation(conversation(1, 1)), tx));
        let contact = store.tx(|tx| contacts::get(tx, ONE)).unwrap();
        assert_eq!(format!("{contact:?}"), "Contact(redacted)");
        projector.opaque.set(ONE, Some("canary".into()));
        assert!(!format!("{projector:?}").contains("canary"));
    }
}
