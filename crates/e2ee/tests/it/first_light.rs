//! The main story: a customer has a link, says hello, and the two talk; every step survives a restart.

use crate::world::{BUSINESS_MAILBOX, Business, Store, conversation, customer_permits, permit, says_hello};
use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{Body, Content, MessageId, PermitsExtension, Receipt};
use bulla_e2ee::conversation::{Conversation, OpenError};
use bulla_e2ee::envelope::{EnvelopeError, Kind};
use bulla_e2ee::identity::Pseudonym;
use bulla_e2ee::tag::Purpose;
use rand_core::{OsRng, RngCore};

fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    OsRng.fill_bytes(&mut salt);
    salt
}

/// One side of the story: a conversation that is saved and loaded around every step.
struct Side {
    role: Role,
    conversation: Option<Conversation>,
    store: Store,
}

impl Side {
    fn new(role: Role, conversation: Conversation) -> Self {
        let mut store = Store::default();
        let conversation = Some(store.restart(conversation));
        Self { role, conversation, store }
    }

    fn conversation(&mut self) -> &mut Conversation {
        let restarted = self.store.restart(self.conversation.take().unwrap());
        self.conversation.insert(restarted)
    }

    /// Seals into an envelope under the other side's service permit.
    fn says(&mut self, content: &Content) -> (MessageId, Vec<u8>) {
        let bytes = content.encode().unwrap();
        let role = self.role;
        let c = self.conversation();
        let id = MessageId::of(&c.sender_uri(role), &c.room_uri(), &bytes, &content.salt);
        let message = c.seal(&bytes).unwrap();
        let service = permit(BUSINESS_MAILBOX, Purpose::Service, 4);
        let key = service.envelope_key.unwrap();
        (id, key.seal(&service.permit.tag, Kind::Mls, &message, &mut OsRng).unwrap())
    }

    fn hears(&mut self, envelope: &[u8]) -> (MessageId, Content) {
        let service = permit(BUSINESS_MAILBOX, Purpose::Service, 4);
        let (kind, message) = service.envelope_key.unwrap().open(&service.permit.tag, envelope).unwrap();
        assert_eq!(kind, Kind::Mls);
        let c = self.conversation();
        let opened = c.open(&message).unwrap();
        let content = Content::decode(&opened.content).unwrap();
        let id = MessageId::of(&c.sender_uri(opened.sender.role), &c.room_uri(), &opened.content, &content.salt);
        assert_ne!(opened.sender.role, self.role);
        assert_eq!(self.conversation().open(&message), Err(OpenError::Replayed));
        (id, content)
    }
}

#[test]
fn a_customer_and_a_business_talk() {
    let business = Business::new();
    let pseudonym = Pseudonym::generate(&mut OsRng);
    let bundle = business.verified();
    assert_eq!((bundle.handle(), bundle.name()), ("rosi", "Rosi's Flowers"));

    let mut first = Content::new(salt(), Body::text("hello"));
    first.extensions.sent_ms = Some(1_700_000_000_000);
    first.extensions.counter = Some(1);
    first.extensions.name = Some("Anna".to_owned());
    first.extensions.reference = Some("flyer".to_owned());
    let said = says_hello(&pseudonym, &bundle, &first.encode().unwrap());

    let hello = business.opens(&said.hello);
    let mut joined = business.joins(&hello);
    assert_eq!(joined.user_id(), pseudonym.user_id(&business.identity.hash()));
    assert_eq!(joined.peer().unwrap().identity(), &pseudonym.public());
    assert_eq!(said.conversation.peer().unwrap().identity(), &business.identity.public());
    assert_eq!(joined.epoch_authenticator(), said.conversation.epoch_authenticator());
    assert_eq!((joined.epoch(), said.conversation.epoch()), (1, 1));
    assert_eq!(hello.permits(), customer_permits());
    let opened = joined.open(hello.message()).unwrap();
    assert_eq!(Content::decode(&opened.content).unwrap(), first);

    let mut customer = Side::new(Role::Customer, said.conversation);
    let mut shop = Side::new(Role::Business, joined);

    let mut receipt = Content::new(
        salt(),
        Body::Receipt(Receipt {
            delivered: vec![MessageId::new([1; 32])],
            read: vec![],
            epoch: 1,
            authenticator: [0; 8],
        }),
    );
    receipt.extensions.permits = Some(PermitsExtension {
        relay: "wss://relay.example/v1/ws".to_owned(),
        permits: vec![permit(BUSINESS_MAILBOX, Purpose::Service, 4), permit(BUSINESS_MAILBOX, Purpose::Control, 5)],
    });

    for content in
        [receipt, Content::new(salt(), Body::Typing { on: true }), Content::new(salt(), Body::text("Hi Anna"))]
    {
        let (id, envelope) = shop.says(&content);
        assert_eq!(customer.hears(&envelope), (id, content));
    }
    let (question, envelope) = customer.says(&Content::new(salt(), Body::text("Roses?")));
    assert_eq!(shop.hears(&envelope).0, question);
    for content in [
        Content::new(salt(), Body::text("Red ones")).in_reply_to(question),
        Content::new(salt(), Body::Reaction { emoji: "👍🏽".to_owned() }).in_reply_to(question),
    ] {
        let (id, envelope) = shop.says(&content);
        assert_eq!(customer.hears(&envelope), (id, content));
    }
    for content in [
        Content::new(salt(), Body::text("Tulips?")).replacing(question),
        Content::new(salt(), Body::Deleted).replacing(question),
        Content::new(salt(), Body::text("bye")),
    ] {
        let (id, envelope) = customer.says(&content);
        assert_eq!(shop.hears(&envelope), (id, content));
    }
}

#[test]
fn an_envelope_under_another_permit_is_refused() {
    let (mut customer, _) = conversation();
    let message = customer.seal(b"x").unwrap();
    let (a, b) = (permit(BUSINESS_MAILBOX, Purpose::Service, 4), permit(BUSINESS_MAILBOX, Purpose::Service, 5));
    let key = a.envelope_key.unwrap();
    let envelope = key.seal(&a.permit.tag, Kind::Mls, &message, &mut OsRng).unwrap();
    assert_eq!(key.open(&b.permit.tag, &envelope), Err(EnvelopeError::Refused));
    assert_eq!(b.envelope_key.unwrap().open(&a.permit.tag, &envelope), Err(EnvelopeError::Refused));
}
