//! What programs say to an endpoint and hear from it. No key material appears here.

use bulla_e2ee::content::{Answer, Consent, Interactive, Location, MessageId, Person, PushSubscription};
use bulla_e2ee::identity::UserId;
use bulla_protocol::id::BlobId;

use crate::media::{Attachment, FileCard, Upload};

/// A conversation's number at this endpoint: local, stable, never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct ConversationId(#[n(0)] pub u64);

/// Something to be said. [`crate::endpoint::Endpoint::send`] returns once it is durable in the outbox.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Draft {
    /// Text of at most 4,096 characters, maybe as a reply.
    Text {
        /// The text.
        body: String,
        /// The message it answers.
        reply_to: Option<MessageId>,
    },
    /// A reaction; `None` takes the earlier one back.
    Reaction {
        /// The message it stands on.
        to: MessageId,
        /// One emoji.
        emoji: Option<String>,
    },
    /// A file that the relay has.
    Attachment {
        /// Which.
        attachment: Box<Attachment>,
        /// The message it answers.
        reply_to: Option<MessageId>,
    },
    /// A business's message with something to choose. A template goes under the permit of its category: `marketing`, or `notifications` outside of
    /// the service window.
    Interactive {
        /// What is shown.
        interactive: Box<Interactive>,
        /// The message it answers.
        reply_to: Option<MessageId>,
    },
    /// What a customer chose in such a message.
    Answer {
        /// The message that offers it.
        to: MessageId,
        /// The choice.
        answer: Answer,
    },
    /// A place.
    Location {
        /// Which.
        location: Location,
        /// The message it answers.
        reply_to: Option<MessageId>,
    },
    /// Persons and how they are reached.
    Contacts {
        /// At least one.
        persons: Vec<Person>,
        /// The message it answers.
        reply_to: Option<MessageId>,
    },
    /// New text for an own message.
    Edit {
        /// The own message.
        of: MessageId,
        /// The new text.
        body: String,
    },
    /// Takes an own message back: asks the other side's app to remove it.
    Delete {
        /// The own message.
        of: MessageId,
    },
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text { .. } => "Draft::Text(redacted)",
            Self::Reaction { .. } => "Draft::Reaction(redacted)",
            Self::Attachment { .. } => "Draft::Attachment(redacted)",
            Self::Interactive { .. } => "Draft::Interactive(redacted)",
            Self::Answer { .. } => "Draft::Answer(redacted)",
            Self::Location { .. } => "Draft::Location(redacted)",
            Self::Contacts { .. } => "Draft::Contacts(redacted)",
            Self::Edit { .. } => "Draft::Edit(redacted)",
            Self::Delete { .. } => "Draft::Delete(redacted)",
        })
    }
}

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Direction {
    /// This endpoint's.
    #[n(0)]
    Outgoing,
    /// The other side's.
    #[n(1)]
    Incoming,
}

/// How far an outgoing message came. Incoming ones are `Received` or `Read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Status {
    /// Durable in the outbox.
    #[n(0)]
    Queued,
    /// The relay answered `Accepted`.
    #[n(1)]
    Sent,
    /// A receipt inside the conversation said so.
    #[n(2)]
    Delivered,
    /// A receipt inside the conversation said so.
    #[n(3)]
    Read,
    /// It will not be delivered; see [`Message::failure`].
    #[n(4)]
    Failed,
    /// Incoming, not yet marked as read here.
    #[n(5)]
    Received,
}

/// Why an outgoing message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Failure {
    /// The 24 h service window was closed when it was about to leave (Cloud API 131047).
    #[n(0)]
    WindowClosed,
    /// The recipient's relay refuses the permit, or there is none: withdrawn, expired, blocked (131026).
    #[n(1)]
    Refused,
    /// No receipt within 30 days and 24 hours (131026).
    #[n(2)]
    NoReceipt,
    /// Larger than the permit allows.
    #[n(3)]
    TooLarge,
    /// The customer has withdrawn what it had agreed to (131050).
    #[n(4)]
    Withdrawn,
    /// The customer never agreed to be written to for this purpose (131026).
    #[n(5)]
    NoConsent,
}

/// What a message shows.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shown {
    /// Text.
    Text(String),
    /// A file.
    File(Box<FileCard>),
    /// Something to choose from, and the file above it.
    Interactive(Box<Interactive>, Option<Box<FileCard>>),
    /// What was chosen in [`Message::reply_to`].
    Answer(Answer),
    /// A place.
    Location(Location),
    /// Persons and how they are reached.
    Contacts(Vec<Person>),
    /// A reaction to [`Message::reply_to`]; `None` takes it back.
    Reaction(Option<String>),
    /// An edit of [`Message::replaces`].
    Edit(String),
    /// [`Message::replaces`] was taken back.
    Deleted,
    /// A kind that this version cannot show; its content type.
    Unsupported(String),
    /// It could not be decrypted and is kept as it came.
    Unreadable,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(redacted)",
            Self::File(_) => "File(redacted)",
            Self::Interactive(..) => "Interactive(redacted)",
            Self::Answer(_) => "Answer(redacted)",
            Self::Location(_) => "Location(redacted)",
            Self::Contacts(_) => "Contacts(redacted)",
            Self::Reaction(_) => "Reaction(redacted)",
            Self::Edit(_) => "Edit(redacted)",
            Self::Deleted => "Deleted",
            Self::Unsupported(_) => "Unsupported",
            Self::Unreadable => "Unreadable",
        })
    }
}

/// A stored message, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its place in the conversation, as this endpoint saw it: 1, 2, 3 …
    pub order: u64,
    /// Its id, the same on both sides for ever.
    pub id: MessageId,
    /// Whose it is.
    pub direction: Direction,
    /// What it shows. For a text that was edited since: the newest text.
    pub shown: Shown,
    /// The message that it answers or reacts to.
    pub reply_to: Option<MessageId>,
    /// The message that it edits or deletes.
    pub replaces: Option<MessageId>,
    /// When its sender says it was written, Unix ms.
    pub sent_ms: u64,
    /// When it was durable here, Unix ms.
    pub stored_ms: u64,
    /// How far it came.
    pub status: Status,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Edited since it was first shown.
    pub edited: bool,
    /// Taken back since it was first shown; `shown` is then [`Shown::Deleted`].
    pub deleted: bool,
    /// Standing reactions on it: whose, emoji.
    pub reactions: Vec<(Direction, String)>,
    /// `?ref=` of the link, on a customer's first message.
    pub reference: Option<String>,
    /// The customer's id at the business, as a token that nobody has checked.
    pub identity: Option<String>,
    /// A business wrote under a permit for something else: outside of its window, or marketing where it may answer.
    pub breach: bool,
    /// An outgoing message that another of this customer's devices said: its name.
    pub by: Option<String>,
}

/// A conversation, as programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its number here.
    pub id: ConversationId,
    /// The customer's id. The same in a resumed conversation.
    pub user_id: UserId,
    /// The other side's name: the business's, or what the customer calls himself (`Guest ABCD` if nothing).
    pub peer_name: String,
    /// At a customer: the business's handle.
    pub handle: String,
    /// At a customer: everyone who can read at the business: name, role.
    pub readers: Vec<(String, String)>,
    /// When the other side last wrote, Unix ms, 0 for never: opens the service window.
    pub last_heard_ms: u64,
    /// How far it is.
    pub state: ConversationState,
    /// Incoming messages not yet marked as read.
    pub unread: u64,
    /// On a device that came back with a recovery code: what was said before, which the business has.
    pub past: Option<Past>,
    /// At a customer: the business sends pushes, under this key (RFC 8292: a P-256 point, uncompressed).
    pub push_key: Option<Vec<u8>>,
    /// What the customer has decided of notifications and marketing; nothing of what it was never asked.
    pub consents: Vec<Decision>,
}

/// What a customer has decided: whether the business may write for a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Notifications or marketing.
    pub purpose: Purpose,
    /// It may.
    pub given: bool,
    /// When, by the customer's clock, Unix ms.
    pub at_ms: u64,
}

/// What a permit is for.
pub use bulla_e2ee::tag::Purpose;

/// How much of what was said before a device came is here. The business has it, and gives it page by page ([`crate::endpoint::Endpoint::older`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Past {
    /// Whether the business knows this customer is not known yet. Nothing can be said before.
    Sought,
    /// There may be more.
    More,
    /// More was asked for and has not come.
    Asked,
    /// Everything that the business has is here.
    All,
}

/// Who a business is, for its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusinessCard {
    /// Its identity hash: the `k` of its link.
    pub key: bulla_e2ee::identity::IdentityHash,
    /// Its handle.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// The relay that holds its mailbox.
    pub relay_url: String,
    /// The relay serves the current bundle: customers can write.
    pub ready: bool,
    /// The current signed bundle.
    pub bundle: Option<Vec<u8>>,
}

/// Who a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCard {
    /// The business's identity hash: the `k` of the link.
    pub key: bulla_e2ee::identity::IdentityHash,
    /// Its handle.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// Everyone who can read at the business: name, role.
    pub readers: Vec<(String, String)>,
    /// The relay that holds its mailbox.
    pub relay_url: String,
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum ConversationState {
    /// At a customer: bundle verified, nothing said yet.
    #[n(0)]
    New,
    /// At a customer: the Hello is on its way, the business has not answered yet.
    #[n(1)]
    Greeting,
    /// Both sides can write.
    #[n(2)]
    Open,
    /// At a business: it cannot go on from here; it begins again with the customer's next message.
    #[n(3)]
    Stuck,
    /// This device was removed from the customer's devices: it can read what it has, and say nothing.
    #[n(4)]
    Removed,
    /// At a customer: this program and the business's have no cipher suite, or no version, in common. What is written waits until one of them
    /// is updated.
    #[n(5)]
    Outdated,
    /// The customer has come back on another device with the recovery code: this one can read what it has, and say nothing, until its person brings
    /// the conversation back here.
    #[n(6)]
    Moved,
    /// The business knows nobody of the recovery code with which this began. It leads nowhere.
    #[n(7)]
    NotKnown,
}

impl ConversationState {
    /// Whether nothing is said here any more, nor heard.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Removed | Self::Moved | Self::NotKnown)
    }
}

/// Why a conversation began again in a new group.
pub use bulla_e2ee::continues::Reason;

/// One of a customer's devices in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDevice {
    /// Its name: random letters.
    pub name: String,
    /// It is this one.
    pub this: bool,
    /// It is in the group; otherwise it is about to come in.
    pub is_in: bool,
}

/// The connection to the relays, for a line in a status bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// Trying.
    Connecting,
    /// Everything that waited has arrived.
    Online,
    /// Lost; the next try comes in so many milliseconds.
    Offline {
        /// Milliseconds until the next try.
        retry_in_ms: u64,
    },
    /// Another copy of this endpoint's data is in use: this one has stopped sealing for good.
    Superseded,
    /// The relay is there, and speaks no version of the protocol that this program speaks. What is said is kept until both do.
    NoCommonVersion {
        /// It is this program that is the older one, and is to be updated.
        update_here: bool,
    },
}

/// What happened. Every event but `Connection`, `UploadMoved` and `Typing` is told after it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection changed.
    Connection(Connection),
    /// A conversation began or changed (name, readers, state).
    Conversation(Conversation),
    /// A message was stored: an incoming one once, an outgoing one when it was queued.
    Message(Message),
    /// A message changed: edited, deleted, reacted to. `Message` of the cause came before.
    Changed(Message),
    /// An outgoing message came further, or failed.
    Status {
        /// The message, with its new status.
        message: Message,
        /// When, Unix ms.
        at_ms: u64,
    },
    /// A file waits to be uploaded, or does not go on.
    Upload(Upload),
    /// So many bytes of it are at the relay. Not durable, and not in any order with what is.
    UploadMoved {
        /// Which.
        upload: BlobId,
        /// Bytes, sealed.
        sent: u64,
    },
    /// It is uploaded, and its message was told just before; or it was cancelled.
    UploadEnded {
        /// Where.
        conversation: ConversationId,
        /// Which.
        upload: BlobId,
    },
    /// The other side is typing, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Typing or not.
        on: bool,
    },
    /// An envelope could not be read; it is kept as it came.
    Unreadable {
        /// Where, if it is known.
        conversation: Option<ConversationId>,
    },
    /// Somebody's program is newer than this one, and what it made says nothing here; it is kept as it came, and the conversation goes on.
    Newer {
        /// Where.
        conversation: ConversationId,
    },
    /// The conversation went on in a new group, between the same identities: a quiet line.
    Continued {
        /// Where.
        conversation: ConversationId,
        /// Who could not go on in the old one.
        by: Direction,
        /// Why.
        reason: Reason,
    },
    /// Devices of our own came in or went. Must not be missed: one that nobody of us let in reads with us.
    Devices {
        /// Where.
        conversation: ConversationId,
        /// Names of those that came.
        added: Vec<String>,
        /// Names of those that went.
        removed: Vec<String>,
    },
    /// Somebody claims to continue the conversation under another identity. Nothing was sealed to it and nothing will be: whoever has a new
    /// key has a new link, and a person opens it. Must not be missed.
    KeyChange {
        /// Where.
        conversation: ConversationId,
        /// The new identity's public key.
        identity: [u8; 32],
    },
    /// At a business: where a device of the customer can be woken from now on, when nothing of it runs; `None`: nowhere.
    Push {
        /// Where.
        conversation: ConversationId,
        /// The device's name among the customer's.
        device: String,
        /// What it said. Nobody has looked at the address yet.
        subscription: Option<Box<PushSubscription>>,
    },
    /// At a business: the customer has decided whether it may be written to for a purpose.
    Consent {
        /// Where.
        conversation: ConversationId,
        /// What it says.
        consent: Consent,
        /// The signed statement, for others to see.
        statement: Vec<u8>,
    },
    /// Messages from before this device came are here now, older than all others; nobody is to be told of each.
    History {
        /// Where.
        conversation: ConversationId,
        /// How many.
        added: u64,
    },
    /// Messages of the other side are missing: they expired on the way, or its counter jumped.
    Gap {
        /// Where, if it is known.
        conversation: Option<ConversationId>,
        /// How many.
        missing: u64,
    },
}

impl Event {
    /// The conversation that it is about, if it is about one.
    #[must_use]
    pub fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Connection(_) | Self::UploadMoved { .. } => None,
            Self::Upload(upload) => Some(upload.conversation),
            Self::Conversation(conversation) => Some(conversation.id),
            Self::Message(message) | Self::Changed(message) | Self::Status { message, .. } => {
                Some(message.conversation)
            }
            Self::Unreadable { conversation } | Self::Gap { conversation, .. } => *conversation,
            Self::Typing { conversation, .. }
            | Self::UploadEnded { conversation, .. }
            | Self::Newer { conversation }
            | Self::Continued { conversation, .. }
            | Self::Devices { conversation, .. }
            | Self::History { conversation, .. }
            | Self::Push { conversation, .. }
            | Self::Consent { conversation, .. }
            | Self::KeyChange { conversation, .. } => Some(*conversation),
        }
    }
}
