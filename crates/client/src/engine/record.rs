//! What an endpoint stores, record by record. CBOR arrays with fixed positions: a later version may append fields, nothing else;
//! `tests/fixtures` holds one of each that every later version must load.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use bulla_e2ee::tag::Purpose;

use crate::event::{ConversationState, Direction, Failure, Status};
use crate::media::UploadFailure;

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

/// `Conversations`, by number.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct ConversationRecord {
    /// Scope of everything that belongs to the other side.
    #[n(0)]
    pub peer: u64,
    /// How far it is.
    #[n(1)]
    pub state: ConversationState,
    /// Identity hash of the business.
    #[n(2)]
    pub business: Hash,
    /// The other side's identity key: the business's, or the pseudonym.
    #[n(3)]
    pub peer_key: Hash,
    /// The customer's id.
    #[n(4)]
    pub user_id: String,
    /// The mailbox in which this endpoint hears it.
    #[n(5)]
    pub mailbox: Id,
    /// The other side's name.
    #[n(6)]
    pub peer_name: String,
    /// The business's handle.
    #[n(7)]
    pub handle: String,
    /// Who can read at the business.
    #[n(8)]
    pub readers: Vec<(String, String)>,
    /// The next message's order.
    #[n(9)]
    pub next_order: u64,
    /// The next outbox entry's sequence.
    #[n(10)]
    pub next_sequence: u64,
    /// Our last content's counter.
    #[n(11)]
    pub counter: u64,
    /// Highest counter heard.
    #[n(12)]
    pub heard_counter: u64,
    /// When the other side last wrote, Unix ms.
    #[n(13)]
    pub last_heard_ms: u64,
    /// When we last wrote, Unix ms.
    #[n(14)]
    pub last_said_ms: u64,
    /// Incoming messages not read.
    #[n(15)]
    pub unread: u64,
    /// Incoming messages up to this order are read.
    #[n(16)]
    pub read_through: u64,
    /// Expiry (in permit units) of the last control permit that we gave.
    #[n(17)]
    pub control_given: u32,
    /// A customer: the pseudonym's key.
    #[n(18)]
    pub pseudonym: Option<Secret>,
    /// A customer: what it calls itself.
    #[n(19)]
    pub own_name: Option<String>,
    /// A customer: the name was told.
    #[n(20)]
    pub name_told: bool,
    /// A customer: `?ref=` of the link, until it is told.
    #[n(21)]
    pub reference: Option<String>,
    /// A customer: the signed bundle that the next Hello uses.
    #[n(22)]
    pub bundle: Option<ByteVec>,
    /// A customer: digest of the Hello on its way and the reply key to its answer.
    #[n(23)]
    pub hello: Option<HelloRecord>,
    /// Where the bundle came from.
    #[n(24)]
    pub link: Option<String>,
    /// A customer: this device's name, the same in every group of the conversation.
    #[n(25)]
    pub endpoint: Option<String>,
    /// A linked device of a customer has this and no pseudonym: leaf key and certificate, as the e2ee crate stores them.
    #[n(26)]
    pub device: Option<SecretVec>,
    /// A customer: it cannot say Hello, because the business and this program have no suite, or version, in common.
    #[n(27)]
    pub outdated: Option<bool>,
    /// A customer: the recovery code of which the pseudonym was made.
    #[n(28)]
    pub code: Option<SecretVec>,
    /// A customer who came back: how much of what was said before is here.
    #[n(29)]
    pub past: Option<PastRecord>,
    /// A customer: the key under which the business sends pushes.
    #[n(30)]
    pub push_key: Option<ByteVec>,
    /// A customer: the business's word for who this is there, until it is told.
    #[n(31)]
    pub identity: Option<String>,
    /// What the customer has decided of notifications and marketing: the newest word for each.
    #[n(32)]
    pub consents: Option<Vec<DecisionRecord>>,
    /// A business: the customer may not write to it.
    #[n(33)]
    pub blocked: Option<bool>,
}

/// A customer's word for one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DecisionRecord {
    /// The purpose.
    #[n(0)]
    pub purpose: u8,
    /// It may be written to.
    #[n(1)]
    pub given: bool,
    /// By the customer's clock, Unix ms.
    #[n(2)]
    pub at_ms: u64,
}

/// How much of what was said before a device came is here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PastRecord {
    /// What comes next gets the orders below this one.
    #[n(0)]
    pub floor: u64,
    /// Where it goes on, in the business's words; empty before the first page.
    #[n(1)]
    pub next: ByteVec,
    /// The page that was asked for and has not come.
    #[n(2)]
    pub asked: Option<u64>,
    /// When, Unix ms.
    #[n(3)]
    pub asked_ms: u64,
    /// There is nothing more.
    #[n(4)]
    pub done: bool,
    /// What lies below the gap that is being filled is here as far back as it goes.
    #[n(5)]
    pub below: bool,
    /// Pages without anything new since the last with something.
    #[n(6)]
    pub empty: u8,
    /// Whether the business knows this customer is not known yet.
    #[n(7)]
    pub sought: bool,
}

impl ConversationRecord {
    /// Whether this endpoint is the customer, with the pseudonym's key or as a linked device.
    #[must_use]
    pub fn is_customer(&self) -> bool {
        self.pseudonym.is_some() || self.device.is_some()
    }

    /// What the customer has decided of a purpose.
    #[must_use]
    pub fn decision(&self, purpose: Purpose) -> Option<&DecisionRecord> {
        self.consents.iter().flatten().find(|decision| decision.purpose == purpose.to_wire())
    }

    /// Purposes that the customer has agreed to.
    pub fn agreed(&self) -> impl Iterator<Item = Purpose> {
        let given = self.consents.iter().flatten().filter(|decision| decision.given);
        given.filter_map(|decision| Purpose::from_wire(u64::from(decision.purpose)))
    }

    /// An empty one, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self {
            peer: 0,
            state: ConversationState::New,
            business: [0; 32].into(),
            peer_key: [0; 32].into(),
            user_id: String::new(),
            mailbox: [0; 16].into(),
            peer_name: String::new(),
            handle: String::new(),
            readers: Vec::new(),
            next_order: 1,
            next_sequence: 1,
            counter: 0,
            heard_counter: 0,
            last_heard_ms: 0,
            last_said_ms: 0,
            unread: 0,
            read_through: 0,
            control_given: 0,
            pseudonym: None,
            own_name: None,
            name_told: false,
            reference: None,
            bundle: None,
            hello: None,
            link: None,
            endpoint: None,
            device: None,
            outdated: None,
            code: None,
            past: None,
            push_key: None,
            identity: None,
            consents: None,
            blocked: None,
        }
    }
}

impl PastRecord {
    /// Nothing is here yet of what lies below this order.
    #[must_use]
    pub fn below(floor: u64) -> Self {
        let next = ByteVec::from(Vec::new());
        Self { floor, next, asked: None, asked_ms: 0, done: false, below: false, empty: 0, sought: false }
    }
}

impl Default for ConversationRecord {
    fn default() -> Self {
        Self::new()
    }
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

/// `Permits`, by conversation, member and purpose: the newest that the member gave.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct PermitRecord {
    /// URL of the relay where it counts.
    #[n(0)]
    pub relay: String,
    /// The given permit, as the e2ee crate encodes it.
    #[n(1)]
    pub given: SecretVec,
    /// The relay refused it. It is kept all the same: by its grant its giver is known again.
    #[n(2)]
    pub void: Option<bool>,
}

/// `Grants`, by serial.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct GrantRecord {
    /// Whose right it is.
    #[n(0)]
    pub conversation: u64,
    /// For what.
    #[n(1)]
    pub purpose: u8,
    /// The grant's id.
    #[n(2)]
    pub grant: Id,
    /// On which mailbox.
    #[n(3)]
    pub mailbox: Id,
    /// Envelopes under it are sealed with this.
    #[n(4)]
    pub envelope_key: Secret,
    /// Revoked here; told to the relay again whenever its instance changes.
    #[n(5)]
    pub revoked: bool,
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

/// `Members`, by conversation and lane: another endpoint of the conversation, as this one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MemberRecord {
    /// It is on our own side.
    #[n(0)]
    pub own_side: bool,
    /// Its name among the endpoints of its side.
    #[n(1)]
    pub endpoint: String,
    /// It is not in the group at present: the group began again without it.
    #[n(2)]
    pub out: bool,
    /// It is to be removed.
    #[n(3)]
    pub leaving: bool,
    /// It has given us a permit at some time. One that has not is about to: it, or we, have just come in.
    #[n(4)]
    pub gave: bool,
    /// Numbers of the suites that it speaks, by its newest spare.
    #[n(5)]
    pub suites: Option<Vec<u16>>,
    /// Until when that spare is valid, Unix seconds.
    #[n(6)]
    pub spoken_until: Option<u64>,
    /// At a business: the customer has come back on another device, and this one is told so whenever it speaks.
    #[n(7)]
    pub turned_away: Option<bool>,
    /// `at` of its newest statement that it went back to an older state: what it had lost by then is said to it again.
    #[n(8)]
    pub went_back: Option<u64>,
}

impl MemberRecord {
    /// One that is in the group.
    #[must_use]
    pub fn new(own_side: bool, endpoint: String) -> Self {
        Self {
            own_side,
            endpoint,
            out: false,
            leaving: false,
            gave: false,
            suites: None,
            spoken_until: None,
            turned_away: None,
            went_back: None,
        }
    }
}

/// `Awaited`, by conversation, member and order: how far a message is on its way to one of several members, who has not confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The member cannot be written to: it is said when it gives a permit.
    Pending,
    /// It is to be said to this member, alone or with the others.
    Queued,
    /// It is in the member's lane, or has left: sealed in this epoch.
    Handed(u64),
}

impl Awaited {
    /// On disk: 0, 1, and from 2 on the epoch.
    const HANDED: u64 = 2;
}

impl<C> Encode<C> for Awaited {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let stored = match self {
            Self::Pending => 0,
            Self::Queued => 1,
            Self::Handed(epoch) => epoch.saturating_add(Self::HANDED),
        };
        e.u64(stored)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Awaited {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(match d.u64()? {
            0 => Self::Pending,
            1 => Self::Queued,
            handed => Self::Handed(handed - Self::HANDED),
        })
    }
}

/// `Invitations`, by conversation and device name: a device that may ask to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct InvitationRecord {
    /// Until when, Unix ms.
    #[n(0)]
    pub until_ms: u64,
}
