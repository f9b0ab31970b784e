//! A conversation, as its endpoint keeps it.

use bulla_e2ee::tag::Purpose;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Hash, HelloRecord, Id, Secret, SecretVec};
use crate::event::ConversationState;

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
