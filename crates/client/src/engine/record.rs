//! What an endpoint stores, record by record. CBOR arrays with fixed positions: a later version may append fields, nothing else;
//! `tests/fixtures` holds one of each that every later version must load.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::event::{Direction, Failure, Status};
use crate::media::UploadFailure;

mod conversation;
mod members;
mod permits;

pub use conversation::{ConversationRecord, DecisionRecord, PastRecord};
pub use members::{Awaited, InvitationRecord, MemberRecord};
pub use permits::{GrantRecord, KnockRecord, PermitRecord, RevokedRecord};

/// 32 bytes that are public.
pub type Hash = ByteArray<32>;
/// 16 bytes that are public.
pub type Id = ByteArray<16>;

/// 32 secret bytes.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
pub struct Secret(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// `Meta "endpoint"`: the endpoint itself.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct EndpointRecord {
    /// Raised by one at a start, if a relay had granted it.
    #[n(0)]
    pub incarnation: u64,
    /// Made with it.
    #[n(1)]
    pub nonce: Id,
    /// Seals the tag blocks.
    #[n(2)]
    pub tag_key: Secret,
    /// The next conversation's number.
    #[n(3)]
    pub next_conversation: u64,
    /// The next peer scope's number.
    #[n(4)]
    pub next_peer: u64,
    /// The next grant's serial.
    #[n(5)]
    pub next_grant: u32,
    /// A business: its identity key.
    #[n(6)]
    pub identity: Option<Secret>,
    /// A business: serial of the current bundle.
    #[n(7)]
    pub bundle: u32,
    /// A business: the grant of its contact permits.
    #[n(8)]
    pub contact_grant: Option<Id>,
    /// A relay granted a mailbox to this incarnation. While none has, another start changes the nonce alone: an older copy that is started again
    /// and again, and never hears that it is one, must not come to seem newer than the one that works.
    #[n(9)]
    pub granted: Option<bool>,
    /// A customer: the recovery code of which pseudonyms are made.
    #[n(10)]
    pub code: Option<SecretVec>,
}

/// `Uploads`, by blob: a file that was sealed here, and is said once the relay has it.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct UploadRecord {
    /// Where it will be said.
    #[n(0)]
    pub conversation: u64,
    /// Opens it.
    #[n(1)]
    pub key: Secret,
    /// Writes it at the relay.
    #[n(2)]
    pub write_key: Secret,
    /// Bytes of the file.
    #[n(3)]
    pub size: u64,
    /// SHA-256 of the file.
    #[n(4)]
    pub digest: Hash,
    /// What it is.
    #[n(5)]
    pub media_type: String,
    /// What it is called.
    #[n(6)]
    pub name: String,
    /// What is said under it.
    #[n(7)]
    pub caption: String,
    /// Media type and bytes of a small picture.
    #[n(8)]
    pub preview: Option<(String, ByteVec)>,
    /// The message that it answers.
    #[n(9)]
    pub reply_to: Option<Hash>,
    /// When it was attached, Unix ms.
    #[n(10)]
    pub created_ms: u64,
    /// Why it does not go on.
    #[n(11)]
    pub failed: Option<UploadFailure>,
}

/// `Mailboxes`, by id.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct MailboxRecord {
    /// URL of its relay.
    #[n(0)]
    pub relay: String,
    /// Owner key.
    #[n(1)]
    pub owner: Secret,
    /// MAC root.
    #[n(2)]
    pub root: Secret,
    /// The relay has it.
    #[n(3)]
    pub created: bool,
    /// Relay's clock less ours, in seconds, when last connected.
    #[n(4)]
    pub offset: i64,
    /// The relay's instance when last connected.
    #[n(5)]
    pub instance: Option<Id>,
}

/// `Peers`, by blinded user id: a customer, whatever conversations there were.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct PeerRecord {
    /// Scope of everything that is its.
    #[n(0)]
    pub scope: u64,
    /// Its newest conversation.
    #[n(1)]
    pub conversation: u64,
    /// What it called itself last.
    #[n(2)]
    pub name: String,
}

/// A Hello on its way.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct HelloRecord {
    /// Its digest.
    #[n(0)]
    pub digest: Hash,
    /// The reply key pair, as the e2ee crate stores it.
    #[n(1)]
    pub reply_key: SecretVec,
}

/// Secret bytes.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
pub struct SecretVec(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

impl std::fmt::Debug for SecretVec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretVec(redacted)")
    }
}

/// `Messages`, by conversation and order.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct MessageRecord {
    /// Its id.
    #[n(0)]
    pub id: Hash,
    /// Whose.
    #[n(1)]
    pub direction: Direction,
    /// The exact content bytes (empty if it could not be read). Stored in `Contents`, so that a new status does not write them again.
    #[n(2)]
    pub content: SecretVec,
    /// Sender's time.
    #[n(3)]
    pub sent_ms: u64,
    /// Our time.
    #[n(4)]
    pub stored_ms: u64,
    /// How far it came.
    #[n(5)]
    pub status: Status,
    /// Why it failed.
    #[n(6)]
    pub failure: Option<Failure>,
    /// The newest text, if edited.
    #[n(7)]
    pub edited: Option<String>,
    /// Taken back.
    #[n(8)]
    pub deleted: bool,
    /// Reactions that stand on it: whose, emoji, the reaction's message id.
    #[n(9)]
    pub reactions: Vec<(Direction, String, Hash)>,
    /// Outside of the window.
    #[n(10)]
    pub breach: bool,
    /// It takes back the reaction that stood on this message.
    #[n(11)]
    pub withdraws_from: Option<Hash>,
    /// An outgoing message that another device of ours said: its name.
    #[n(12)]
    pub by: Option<String>,
    /// An outgoing message: the purpose under which it goes; nothing for `service`.
    #[n(13)]
    pub purpose: Option<u8>,
    /// Its row is of before and has the content too.
    #[cbor(skip)]
    pub inline: bool,
}

/// `MessageIds`: where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Place {
    /// Conversation.
    #[n(0)]
    pub conversation: u64,
    /// Order in it.
    #[n(1)]
    pub order: u64,
}

/// `Outbox`, by conversation, lane and sequence. Lane 0 holds what is to be said; each member's lane what is on its way to it.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct OutboxRecord {
    /// The message it carries; `None` for receipts and typing.
    #[n(0)]
    pub message: Option<Place>,
    /// Content bytes, until sealed; a message's are with the message.
    #[n(1)]
    pub content: SecretVec,
    /// Purpose of the permit that it needs.
    #[n(2)]
    pub purpose: u8,
    /// Worthless after this time, Unix ms: typing.
    #[n(3)]
    pub until_ms: Option<u64>,
    /// Once sealed: what is sent, and sent again.
    #[n(4)]
    pub sealed: Option<SealedRecord>,
    /// Not a content but something that has its form already: it is wrapped and not sealed by MLS.
    #[n(5)]
    pub body: Option<BodyRecord>,
    /// For this member alone: it was said to the others before.
    #[n(6)]
    pub only: Option<u8>,
}

impl OutboxRecord {
    /// A message that is to be said.
    #[must_use]
    pub fn message(place: Place, purpose: u8) -> Self {
        let content = SecretVec(Vec::new());
        Self { message: Some(place), content, purpose, until_ms: None, sealed: None, body: None, only: None }
    }

    /// A content that is no message: a receipt, a typing notice.
    #[must_use]
    pub fn notice(content: Vec<u8>, purpose: u8, until_ms: Option<u64>) -> Self {
        let content = SecretVec(content);
        Self { message: None, content, purpose, until_ms, sealed: None, body: None, only: None }
    }

    /// Something that has its form already.
    #[must_use]
    pub fn body(kind: u8, bytes: Vec<u8>, purpose: u8) -> Self {
        let body = Some(BodyRecord { kind, bytes: SecretVec(bytes) });
        Self { message: None, content: SecretVec(Vec::new()), purpose, until_ms: None, sealed: None, body, only: None }
    }
}

/// The body of an envelope of another kind than a message.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct BodyRecord {
    /// Envelope kind.
    #[n(0)]
    pub kind: u8,
    /// The body.
    #[n(1)]
    pub bytes: SecretVec,
}

/// A sealed envelope and the permit it goes under.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct SealedRecord {
    /// The same on every retry.
    #[n(0)]
    pub send_id: Id,
    /// URL of the relay it goes to.
    #[n(1)]
    pub relay: String,
    /// Canonical permit.
    #[n(2)]
    pub permit: ByteVec,
    /// Its MAC.
    #[n(3)]
    pub mac: Secret,
    /// The envelope. Empty if it is made from what is inside.
    #[n(4)]
    pub envelope: ByteVec,
    /// What is inside, to wrap it again under a newer permit. A Hello has none.
    #[n(5)]
    pub inner: Option<ByteVec>,
    /// Envelope kind of what is inside; an MLS message if it is not said.
    #[n(6)]
    pub kind: Option<u8>,
    /// With what it was wrapped, so that every retry sends the same bytes.
    #[n(7)]
    pub wrapped: Option<WrapRecord>,
}

/// How an envelope was made from its inside.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct WrapRecord {
    /// The envelope key.
    #[n(0)]
    pub key: Secret,
    /// The nonce.
    #[n(1)]
    pub nonce: ByteArray<24>,
}

/// `BundleKeys`, by serial.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct BundleRecord {
    /// The signed bundle.
    #[n(0)]
    pub bundle: ByteVec,
    /// The keys behind it, as the e2ee crate stores them.
    #[n(1)]
    pub keys: SecretVec,
    /// When it was made, Unix ms.
    #[n(2)]
    pub made_ms: u64,
    /// The relay serves it.
    #[n(3)]
    pub published: bool,
    /// Numbers of the suites that it lists.
    #[n(4)]
    pub suites: Option<Vec<u16>>,
}

/// `Receipts`, by conversation: what is to be said.
#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(array)]
pub struct ReceiptsRecord {
    /// Delivered.
    #[n(0)]
    pub delivered: Vec<Hash>,
    /// Read.
    #[n(1)]
    pub read: Vec<Hash>,
    /// When to say it, Unix ms.
    #[n(2)]
    pub due_ms: u64,
}

/// `Unreadable`, by time and conversation: an envelope as it came.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct UnreadableRecord {
    /// Why.
    #[n(0)]
    pub reason: String,
    /// The envelope.
    #[n(1)]
    pub envelope: ByteVec,
    /// When, Unix ms.
    #[n(2)]
    pub stored_ms: u64,
}

/// `Groups`, by conversation: how its MLS group stands.
#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(array)]
pub struct GroupRecord {
    /// `at` of the newest statement with which our side continued the conversation in a new group.
    #[n(0)]
    pub said: u64,
    /// `at` of the newest such statement of the other side that we followed: an older one is a replay.
    #[n(1)]
    pub heard: u64,
    /// It cannot go on, and why: nothing is sealed until it has begun again.
    #[n(2)]
    pub broken: Option<u8>,
    /// We began this group, and nobody has been heard in it.
    #[n(3)]
    pub unanswered: bool,
    /// When our keys in it were last renewed, Unix ms.
    #[n(4)]
    pub renewed_ms: u64,
    /// When we last left the other side a spare, Unix ms.
    #[n(5)]
    pub spare_ms: u64,
    /// It is not begun again before this time, Unix ms.
    #[n(6)]
    pub retry_ms: u64,
    /// How often it was begun again since anybody was heard.
    #[n(7)]
    pub tries: u32,
    /// Ids of the groups that were left behind, newest last: messages of theirs are late, not foreign.
    #[n(8)]
    pub left: Vec<ByteVec>,
    /// Somebody claimed to continue under this other identity: told once.
    #[n(9)]
    pub key_change: Option<Hash>,
    /// `at` of the newest statement that let this device in.
    #[n(10)]
    pub joined: u64,
    /// Why the group that nobody has answered was begun: if it is begun once more, it is for the same.
    #[n(11)]
    pub began: Option<u8>,
    /// We went back to an older state, and this group began in a way that did not tell what was lost: a statement will.
    #[n(12)]
    pub untold: Option<bool>,
    /// We went back to an older state, and nobody has answered a statement of that: what stands here from this order on came since. It is
    /// not what we had.
    #[n(13)]
    pub lost_from: Option<u64>,
    /// Number of its suite.
    #[n(14)]
    pub suite: Option<u16>,
    /// Number of the best suite of a group in which the two sides heard each other: the conversation does not go below it.
    #[n(15)]
    pub floor: Option<u16>,
    /// What the last spare that we left said: its suite's number, then those of all that we spoke.
    #[n(16)]
    pub offered: Option<Vec<u16>>,
    /// A business: ids of the groups that the customer's devices are in which the conversation goes on without, newest last.
    #[n(17)]
    pub elsewhere: Option<Vec<ByteVec>>,
}

/// `Claims`, by conversation: a staged commit on its way to its slot.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct ClaimRecord {
    /// The slot's id.
    #[n(0)]
    pub slot: Hash,
    /// The sealed commit: the same bytes on every retry.
    #[n(1)]
    pub sealed: ByteVec,
    /// The commit, to be sent to the members once it has won.
    #[n(2)]
    pub commit: ByteVec,
    /// The epoch that it ends.
    #[n(3)]
    pub epoch: u64,
    /// The Welcome for those who come in by it.
    #[n(4)]
    pub welcome: Option<ByteVec>,
}

/// `Held`, by conversation and arrival: an MLS message of an epoch that is not reached here.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct HeldRecord {
    /// Purpose of the permit under which it came; 0: it is a commit.
    #[n(0)]
    pub purpose: u8,
    /// The message.
    #[n(1)]
    pub mls: ByteVec,
    /// When, Unix ms.
    #[n(2)]
    pub stored_ms: u64,
}

/// `Spares`, by conversation and serial: the secrets of a spare that the other side has.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct SpareRecord {
    /// The secrets, as the e2ee crate stores them.
    #[n(0)]
    pub keys: SecretVec,
    /// When it was made, Unix ms.
    #[n(1)]
    pub made_ms: u64,
    /// When it was used, Unix ms.
    #[n(2)]
    pub used_ms: Option<u64>,
    /// It is older than our going back to an older state: it joins only a group whose maker has heard a statement of our side of this `at` or later.
    #[n(3)]
    pub after: Option<u64>,
}
