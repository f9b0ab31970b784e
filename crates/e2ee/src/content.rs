//! What is said: a `mimiContent` of draft-ietf-mimi-content-08, with the use that `docs/protocol.md` §7 makes of it.
//!
//! ```text
//! [salt, replaces, topic, expires, inReplyTo, extensions, part]
//! ```
//!
//! Whoever stores a content stores its exact bytes, because message ids are hashes of them. Extensions and parts that this
//! version does not know are kept as they came and are shown as unsupported; they are never an error. What *is* an error:
//! CBOR that is not deterministic, anything over its limit, and known things of a wrong type.

mod answer;
mod attachment;
mod consent;
mod extensions;
mod history;
mod id;
mod interactive;
mod location;
mod part;
mod person;
mod push;

pub use answer::{Answer, FieldProblem, FieldValue, Ordered, QUANTITY};
pub use attachment::{Attachment, Preview};
pub use consent::{Consent, ConsentError};
pub use extensions::{Extensions, Introduced, PermitsExtension, Reader};
pub use history::{HistoryItem, HistoryPage, HistoryReaction, HistoryRequest};
pub use id::{MessageId, MessageIdError, RoomUri, SenderUri};
pub use interactive::{
    Action, BUTTONS, Button, Category, Field, FieldKind, FieldOption, Form, FormKind, Header, Interactive, List,
    PRODUCTS, Product, Products, ROWS, Row, Screen, Section, TemplateName,
};
pub use location::Location;
pub use part::{Body, Receipt};
pub use person::{Address, Email, Name, Organization, PERSONS, Page, Person, Phone};
pub use push::{PUSH_KEY, PushSubscription};

pub(crate) use extensions::{read_readers, write_readers};

use crate::cbor::{self, Malformed, Writer};
use crate::limits;

/// When a message should vanish from where it is shown: a hint to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expires {
    /// So many seconds after it was read.
    AfterReading(u32),
    /// At this Unix second.
    At(u32),
}

/// Why bytes are not a content, or a content cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Larger than [`limits::CONTENT`]; nothing was parsed.
    #[error("content over {} bytes", limits::CONTENT)]
    TooLarge,
    /// Not deterministic CBOR of the draft's shape, or something known of a wrong type.
    #[error("malformed content")]
    Malformed,
    /// Something in it is over its limit: text, parts, depth, extensions, ids of a receipt.
    #[error("content over one of its limits")]
    Limit,
}

impl From<Malformed> for ContentError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// One message, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Random, fresh per message: makes its id unguessable.
    pub salt: [u8; 16],
    /// The message that this one edits, deletes or withdraws: the *first* id of its chain.
    pub replaces: Option<MessageId>,
    /// Groups messages; empty where there is no group.
    pub topic: Vec<u8>,
    /// When it should vanish.
    pub expires: Option<Expires>,
    /// What it answers or reacts to.
    pub in_reply_to: Option<MessageId>,
    /// What else travels with it.
    pub extensions: Extensions,
    /// What it says.
    pub body: Body,
}

impl Content {
    /// A content of nothing but `body`; the salt must be random.
    #[must_use]
    pub fn new(salt: [u8; 16], body: Body) -> Self {
        Self {
            salt,
            replaces: None,
            topic: Vec::new(),
            expires: None,
            in_reply_to: None,
            extensions: Extensions::default(),
            body,
        }
    }

    /// As a reply or reaction to `id`.
    #[must_use]
    pub fn in_reply_to(self, id: MessageId) -> Self {
        Self { in_reply_to: Some(id), ..self }
    }

    /// As an edit or deletion of `id`.
    #[must_use]
    pub fn replacing(self, id: MessageId) -> Self {
        Self { replaces: Some(id), ..self }
    }

    /// The bytes that are sealed, stored and hashed. Fails only on what is over a limit.
    pub fn encode(&self) -> Result<Vec<u8>, ContentError> {
        self.body.check()?;
        let nullable = |w: Writer, id: &Option<MessageId>| match id {
            Some(id) => w.bytes(id.as_bytes()),
            None => w.null(),
        };
        let w = nullable(Writer::new().array(7).bytes(&self.salt), &self.replaces).bytes(&self.topic);
        let w = match self.expires {
            None => w.null(),
            Some(Expires::AfterReading(secs)) => w.array(2).bool(true).uint(u64::from(secs)),
            Some(Expires::At(secs)) => w.array(2).bool(false).uint(u64::from(secs)),
        };
        let w = self.extensions.write(nullable(w, &self.in_reply_to))?;
        let bytes = self.body.write(w).finish();
        if bytes.len() > limits::CONTENT { Err(ContentError::TooLarge) } else { Ok(bytes) }
    }

    /// Whether it is a message of its own: not one about another, as an edit or a reaction, nor one that only programs read.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        let about_another = self.replaces.is_some() || matches!(self.body, Body::Reaction { .. } | Body::Deleted);
        !about_another && !self.body.is_for_programs()
    }

    /// From bytes that an authenticated sender said.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        if bytes.len() > limits::CONTENT {
            return Err(ContentError::TooLarge);
        }
        let mut r = cbor::Reader::new(bytes)?;
        let more = r.array(7)?;
        let salt = r.exact()?;
        let id = |r: &mut cbor::Reader<'_>| r.exact().map(MessageId::new);
        let replaces = r.nullable(id)?;
        let topic = r.bytes(limits::NAME)?.to_vec();
        let expires = r.nullable(|r| {
            let more = r.array(2)?;
            let (relative, time) = (r.bool()?, r.uint()?.try_into().map_err(|_| Malformed)?);
            r.skip_rest(more)?;
            Ok(if relative { Expires::AfterReading(time) } else { Expires::At(time) })
        })?;
        let in_reply_to = r.nullable(id)?;
        let extensions = Extensions::read(&mut r)?;
        let body = Body::read(r.raw()?, replaces.is_some(), in_reply_to.is_some())?;
        r.skip_rest(more)?;
        Ok(Self { salt, replaces, topic, expires, in_reply_to, extensions, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(len: usize) -> Content {
        Content::new([7; 16], Body::Text { body: "x".repeat(len), language: String::new() })
    }

    #[test]
    fn mls_12_text_is_bounded_at_n_and_n_plus_1() {
        let largest = text(limits::TEXT);
        assert_eq!(Content::decode(&largest.encode().unwrap()), Ok(largest));
        assert_eq!(text(limits::TEXT + 1).encode(), Err(ContentError::Limit));
        // A peer that does not keep the limit is refused as well.
        let w = Writer::new().array(7).bytes(&[7; 16]).null().bytes(&[]).null().null().map(0);
        let over =
            w.array(5).uint(1).text("").uint(1).text("text/plain;charset=utf-8").bytes(&vec![b'x'; limits::TEXT + 1]);
        assert_eq!(Content::decode(&over.finish()), Err(ContentError::Limit));
        assert_eq!(Content::decode(&vec![0; limits::CONTENT + 1]), Err(ContentError::TooLarge));
    }

    fn any_id() -> impl Strategy<Value = MessageId> {
        any::<[u8; 32]>().prop_map(MessageId::new)
    }

    fn any_body() -> impl Strategy<Value = Body> {
        prop_oneof![
            (".{0,100}", "[a-z]{0,3}").prop_map(|(body, language)| Body::Text { body, language }),
            any::<bool>().prop_map(|on| Body::Typing { on }),
            (any::<[u8; 32]>(), 0..limits::ATTACHMENT, ".{0,40}", proptest::option::of(1..limits::PREVIEW)).prop_map(
                |(bytes, size, text, preview)| Body::Attachment(Box::new(Attachment {
                    blob: bulla_protocol::id::BlobId::new([bytes[0]; 16]),
                    key: crate::attachment::AttachmentKey::from_bytes(bytes),
                    size,
                    digest: bytes,
                    media_type: "image/png".to_owned(),
                    name: text.clone(),
                    expires: 1_767_268_800,
                    caption: text,
                    preview: preview.map(|len| Preview { media_type: "image/webp".to_owned(), bytes: vec![7; len] }),
                }))
            ),
            (
                proptest::collection::vec(any_id(), 0..4),
                proptest::collection::vec(any_id(), 0..4),
                any::<u64>(),
                any::<[u8; 8]>()
            )
                .prop_map(|(delivered, read, epoch, authenticator)| Body::Receipt(Receipt {
                    delivered,
                    read,
                    epoch,
                    authenticator
                })),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            salt: [u8; 16],
            replaces in proptest::option::of(any_id()),
            in_reply_to in proptest::option::of(any_id()),
            topic in proptest::collection::vec(any::<u8>(), 0..20),
            at in proptest::option::of(any::<u32>()),
            sent in proptest::option::of(any::<u64>()),
            counter in proptest::option::of(any::<u64>()),
            body in any_body(),
        ) {
            let mut content = Content { replaces, in_reply_to, topic, expires: at.map(Expires::At), ..Content::new(salt, body) };
            content.extensions.sent_ms = sent;
            content.extensions.counter = counter;
            let bytes = content.encode().unwrap();
            prop_assert_eq!(Content::decode(&bytes).unwrap(), content);
            // Every length of what is short, and some of what is not.
            for len in (0..bytes.len()).step_by(1 + bytes.len() / 1_024) {
                prop_assert_eq!(Content::decode(&bytes[..len]), Err(ContentError::Malformed));
            }
        }

        #[test]
        fn mls_02_any_bytes_are_a_content_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Content::decode(&bytes);
        }

        /// MLS-02, nearer to the mark: one byte of a real content is another; what is accepted encodes again.
        #[test]
        fn mls_02_mutated_contents_are_contents_or_errors(index: prop::sample::Index, byte: u8) {
            let mut content = text(40).in_reply_to(MessageId::new([1; 32]));
            content.extensions.counter = Some(300);
            content.extensions.name = Some("Rosi".to_owned());
            let mut bytes = content.encode().unwrap();
            let index = index.index(bytes.len());
            bytes[index] = byte;
            if let Ok(content) = Content::decode(&bytes) {
                prop_assert!(content.encode().is_ok());
            }
        }
    }
}
