//! Conversations: an MLS group of a business's endpoints and a customer's devices.
//!
//! The customer begins it with the KeyPackage of a verified bundle ([`Conversation::begin`]); the business joins from a Hello
//! ([`Conversation::join`]). Then all [`seal`](Conversation::seal) and [`open`](Conversation::open), and move on together by commits
//! ([`stage`](Conversation::stage), [`follow`](Conversation::follow)). Who cannot go on begins a new group between the same identities
//! ([`Conversation::reform`], [`Conversation::rejoin`]). After every call that changes something, [`State::take_changes`] must be stored before
//! anything that follows from it is acted on: before a sealed message leaves, before an opened one is acknowledged. If the store fails, drop
//! the conversation and load it again: then a re-delivered message opens again.
//!
//! Certificates are checked for time when a member comes in. A membership may outlive them; leaf signature keys stay as they are.

mod commit;
mod group;
mod roster;

use core::fmt;

use openmls::framing::errors::MessageDecryptionError;
use openmls::group::{ProcessMessageError, ValidationError};
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    GroupId, MlsGroup, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, ProcessedMessageContent, ProtocolMessage,
    Sender as MlsSender,
};
use zeroize::Zeroizing;

pub use commit::{AUTHENTICATOR, Change, CommitError, Followed, Staged};
pub use group::{BeginError, JoinError};
pub use roster::Member;
use roster::{Heard, Roster};

use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, Role};
use crate::content::{RoomUri, SenderUri};
use crate::identity::{IdentityHash, UserId};
use crate::mls::{LeafKey, Provider};
use crate::state::{FORMAT, State, StateError};
use crate::storage::kind;
use crate::suite::Suite;
use crate::{VERSION, limits};

/// Why a content was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Larger than [`limits::CONTENT`].
    #[error("content over {} bytes", limits::CONTENT)]
    TooLarge,
    /// [`limits::UNHEARD`] messages were sealed since the other side was heard: any more could be lost for good.
    #[error("{} messages without hearing from the other side", limits::UNHEARD)]
    Unheard,
    /// OpenMLS or the state failed: drop the conversation and load it again.
    #[error("the message could not be sealed")]
    Crypto,
}

/// Why a message was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It was opened before: its key is gone.
    #[error("replayed message")]
    Replayed,
    /// More than [`limits::OUT_OF_ORDER`] newer messages of its sender were opened before it: a replay, or far too late.
    #[error("message too late or replayed")]
    TooLate,
    /// More than [`limits::FORWARD`] messages before it are missing.
    #[error("too many messages are missing before this one")]
    TooEarly,
    /// Not an MLS private message.
    #[error("malformed message")]
    Malformed,
    /// Of another group.
    #[error("message of another group")]
    WrongGroup,
    /// Of an epoch that is not reached here.
    #[error("message of a future epoch")]
    FutureEpoch,
    /// Of an epoch whose keys are gone.
    #[error("message of a past epoch")]
    PastEpoch,
    /// It does not decrypt or verify. An authentic sender in a forked epoch causes this as well.
    #[error("undecryptable message")]
    Undecryptable,
    /// Our own message came back.
    #[error("our own message")]
    OwnEcho,
    /// Not an application message: commits travel in envelopes of their own and are followed, proposals are not used.
    #[error("not an application message")]
    NotApplication,
    /// A commit that changes what its author may not change.
    #[error("a commit that its author may not make")]
    NotAllowed,
    /// A commit whose author cannot have heard us in the epoch that it ends: we have said nothing in it.
    #[error("a commit too soon after another")]
    TooSoon,
    /// Its sender is nobody of the two sides, or one of our own side's endpoints that speaks for the other.
    #[error("message of an unexpected sender")]
    Sender,
    /// Our own state is damaged.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A message that was opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who said it.
    pub sender: Sender,
    /// The content's exact bytes.
    pub content: Zeroizing<Vec<u8>>,
    /// The epoch in which it was sealed: the current one or the one before.
    pub epoch: u64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({:?}, {} bytes)", self.sender, self.content.len())
    }
}

/// Who said a message, from the verified certificate of the leaf that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Which side.
    pub role: Role,
    /// The identity or pseudonym key.
    pub identity: [u8; 32],
    /// The endpoint's name among those of its identity.
    pub endpoint: String,
}

/// What we keep of a conversation besides OpenMLS's state.
struct Meta {
    role: Role,
    business: IdentityHash,
    customer: [u8; 32],
    group: Vec<u8>,
    leaf: LeafKey,
}

impl Meta {
    const KEY: [u8; 1] = [kind::META];

    fn store(&self, state: &State) {
        let w = Writer::new()
            .array(6)
            .uint(u64::from(VERSION))
            .uint(self.role.to_wire())
            .bytes(self.business.as_bytes())
            .bytes(&self.customer)
            .bytes(&self.group)
            .bytes(&*self.leaf.to_bytes());
        let cbor = Zeroizing::new(w.finish());
        state.put(Self::KEY.to_vec(), Zeroizing::new([&[FORMAT][..], &cbor].concat()));
    }

    fn load(state: &State) -> Result<Self, StateError> {
        let value = state.get(&Self::KEY).ok_or(StateError::Incomplete)?;
        let read = || {
            let mut r = Reader::new(value.get(1..).ok_or(Malformed)?)?;
            let more = r.array(6)?;
            if r.uint()? != u64::from(VERSION) {
                return Err(Malformed);
            }
            let meta = Self {
                role: Role::from_wire(r.uint()?).ok_or(Malformed)?,
                business: IdentityHash::new(r.exact()?),
                customer: r.exact()?,
                group: r.bytes(255)?.to_vec(),
                leaf: LeafKey::from_bytes(&r.exact()?),
            };
            r.skip_rest(more)?;
            Ok(meta)
        };
        read().map_err(|Malformed| StateError::Damaged)
    }
}

/// A conversation, loaded.
pub struct Conversation {
    provider: Provider,
    group: MlsGroup,
    meta: Meta,
    roster: Roster,
    heard: Heard,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({:?}, epoch {}, redacted)", self.meta.role, self.epoch())
    }
}

impl Conversation {
    /// From the store.
    pub fn load(state: State) -> Result<Self, StateError> {
        let provider = Provider::new(state);
        let meta = Meta::load(&provider.state)?;
        let group =
            MlsGroup::load(&provider.state, &GroupId::from_slice(&meta.group))?.ok_or(StateError::Incomplete)?;
        let roster = Roster::stored(&group, &meta)?;
        let heard = Heard::load(&provider.state)?;
        Ok(Self { provider, group, meta, roster, heard })
    }

    /// What must be stored.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.provider.state
    }

    /// What must be stored, for a store that wants to own it.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.provider.state
    }

    /// Seals a content's bytes as an MLS message.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, SealError> {
        if content.len() > limits::CONTENT {
            return Err(SealError::TooLarge);
        }
        if self.unheard() >= limits::UNHEARD {
            return Err(SealError::Unheard);
        }
        let message =
            self.group.create_message(&self.provider, &self.meta.leaf, content).map_err(|_| SealError::Crypto)?;
        self.heard.sealed += 1;
        self.heard.store(&self.provider.state);
        self.set_quiet(false);
        to_bytes(&message).ok_or(SealError::Crypto)
    }

    /// Opens an MLS message that the other side sealed.
    pub fn open(&mut self, mls_message: &[u8]) -> Result<Opened, OpenError> {
        if mls_message.len() > limits::MLS_MESSAGE {
            return Err(OpenError::Malformed);
        }
        let message = match parse(mls_message).ok_or(OpenError::Malformed)? {
            MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
            _ => return Err(OpenError::Malformed),
        };
        if message.group_id() != self.group.group_id() {
            return Err(OpenError::WrongGroup);
        }
        if message.epoch() > self.group.epoch() {
            return Err(OpenError::FutureEpoch);
        }
        let epoch = message.epoch().as_u64();
        let is_past = epoch < self.epoch();
        let processed = self.group.process_message(&self.provider, message).map_err(|e| match open_error(e) {
            // OpenMLS says the same of an epoch as of a message whose keys are gone.
            OpenError::TooLate if is_past => OpenError::PastEpoch,
            error => error,
        })?;
        let MlsSender::Member(leaf) = *processed.sender() else { return Err(OpenError::Sender) };
        let leaf = leaf.u32();
        // The credential is that of the message's own epoch: a leaf may have changed hands since (MLS-03).
        let credential = processed.credential().clone();
        match processed.into_content() {
            ProcessedMessageContent::OwnPrivateMessage => Err(OpenError::OwnEcho),
            ProcessedMessageContent::ApplicationMessage(_) if leaf == self.group.own_leaf_index().u32() => {
                Err(OpenError::OwnEcho)
            }
            ProcessedMessageContent::ApplicationMessage(message) => {
                let sender = self.sender_of(leaf, credential).ok_or(OpenError::Sender)?;
                if !is_past {
                    self.heard.note(leaf);
                    self.heard.store(&self.provider.state);
                    self.forget_epoch_before()?;
                }
                Ok(Opened { sender, content: Zeroizing::new(message.into_bytes()), epoch })
            }
            _ => Err(OpenError::NotApplication),
        }
    }

    fn sender_of(&self, leaf: u32, credential: openmls::prelude::Credential) -> Option<Sender> {
        let identity = commit::identity_of(credential)?;
        match self.roster.at(leaf) {
            Some(known) if known.as_bytes() == identity => Some(known.into()),
            _ => roster::verify_member(&identity, &self.meta).ok().map(|c| (&c).into()),
        }
    }

    /// An endpoint of the other side: the first by leaf.
    #[must_use]
    pub fn peer(&self) -> Option<&Certificate> {
        self.roster.iter().map(|(_, c)| c).find(|c| c.role() != self.meta.role)
    }

    /// Which side we are.
    #[must_use]
    pub fn role(&self) -> Role {
        self.meta.role
    }

    /// The business.
    #[must_use]
    pub fn business(&self) -> &IdentityHash {
        &self.meta.business
    }

    /// The customer.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        UserId::of(&self.meta.business, &self.meta.customer)
    }

    /// The room, for message ids.
    #[must_use]
    pub fn room_uri(&self) -> RoomUri {
        RoomUri::new(&self.meta.business, &self.user_id())
    }

    /// Whoever has `role` in this conversation, for message ids.
    #[must_use]
    pub fn sender_uri(&self, role: Role) -> SenderUri {
        match role {
            Role::Business => SenderUri::business(&self.meta.business),
            Role::Customer => SenderUri::customer(&self.user_id()),
        }
    }

    /// The group's id: random, another one each time the conversation begins anew.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        self.group.group_id().as_slice()
    }

    /// The group's suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        // Groups of others are neither made nor joined.
        Suite::of_mls(self.group.ciphersuite()).unwrap_or(Suite::Classical)
    }

    /// The MLS epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }

    /// The epoch's authenticator: equal on both sides unless the group was forked.
    #[must_use]
    pub fn epoch_authenticator(&self) -> &[u8] {
        self.group.epoch_authenticator().as_slice()
    }

    /// Messages sealed in this epoch since anybody was heard.
    #[must_use]
    pub fn unheard(&self) -> u32 {
        self.heard.unheard()
    }
}

/// The id of the group that an MLS message says it belongs to.
#[must_use]
pub fn group_of(mls_message: &[u8]) -> Option<Vec<u8>> {
    match parse(mls_message)? {
        MlsMessageBodyIn::PrivateMessage(message) => {
            Some(ProtocolMessage::from(message).group_id().as_slice().to_vec())
        }
        _ => None,
    }
}

fn to_bytes(message: &MlsMessageOut) -> Option<Vec<u8>> {
    message.tls_serialize_detached().ok()
}

fn parse(bytes: &[u8]) -> Option<MlsMessageBodyIn> {
    Some(MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?.extract())
}

fn open_error(error: ProcessMessageError<StateError>) -> OpenError {
    use MessageDecryptionError::SecretTreeError as Tree;
    match error {
        ProcessMessageError::StorageError(e) => OpenError::State(e),
        // OpenMLS does not export this error's type, so its variants can only be told by their names; tests hold them.
        ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(Tree(e))) => {
            match format!("{e:?}").as_str() {
                "SecretReuseError" => OpenError::Replayed,
                "TooDistantInThePast" => OpenError::TooLate,
                "TooDistantInTheFuture" => OpenError::TooEarly,
                _ => OpenError::Undecryptable,
            }
        }
        ProcessMessageError::ValidationError(ValidationError::NoPastEpochData) => OpenError::PastEpoch,
        ProcessMessageError::ValidationError(ValidationError::WrongGroupId) => OpenError::WrongGroup,
        ProcessMessageError::ValidationError(ValidationError::WrongEpoch) => OpenError::FutureEpoch,
        _ => OpenError::Undecryptable,
    }
}
