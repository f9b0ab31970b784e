//! Conversations: an MLS group of one endpoint of a business and one device of a customer.
//!
//! The customer begins it with the KeyPackage of a verified bundle ([`Conversation::begin`]); the business joins from a Hello
//! ([`Conversation::join`]). Then both [`seal`](Conversation::seal) and [`open`](Conversation::open). After every call that changes
//! something, [`State::take_changes`] must be stored before anything that follows from it is acted on: before a sealed message
//! leaves, before an opened one is acknowledged. If the store fails, drop the conversation and load it again: then a re-delivered message opens again.
//!
//! Certificates are checked for time when a conversation begins. It may outlive them; leaf keys change only with commits, which
//! this version does not make and refuses as [`OpenError::NotApplication`].

use core::fmt;

use openmls::framing::errors::MessageDecryptionError;
use openmls::group::{ProcessMessageError, ValidationError, WelcomeError};
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    BasicCredential, GroupId, MlsGroup, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, PastEpochDeletion,
    ProcessedMessageContent, ProtocolMessage, Sender as MlsSender, StagedWelcome, Welcome,
};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::bundle::{Bundle, BusinessKeys, state_with};
use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, CertificateError, Expect, Role, Subject, issue_customer};
use crate::content::{RoomUri, SenderUri};
use crate::hello::Hello;
use crate::identity::{IdentityHash, Pseudonym, UserId, base32};
use crate::mls::{self, CIPHERSUITE, LeafKey, Provider};
use crate::state::{FORMAT, State, StateError};
use crate::storage::kind;
use crate::{VERSION, hpke, limits};

/// A conversation could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// OpenMLS or its provider failed: nothing of the peer's can cause this, since the bundle was verified.
    #[error("the conversation could not be made")]
    Crypto,
}

/// Why a Hello's Welcome was not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its KeyPackage is not, or no longer, among these keys: answer with [`Hello::say_again`].
    #[error("the KeyPackage is gone")]
    NoKeyPackage,
    /// Not a Welcome, or one into a group that is not as this version makes them.
    #[error("the Welcome is refused")]
    Refused,
    /// A member of the group is not who it must be.
    #[error("a member of the group: {0}")]
    Certificate(#[source] CertificateError),
    /// Our own state is damaged.
    #[error(transparent)]
    State(#[from] StateError),
}

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
    /// A commit or proposal, which this version neither makes nor follows.
    #[error("not an application message")]
    NotApplication,
    /// Its sender is not who the other side is.
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

    /// Who the other side must be.
    fn expect_peer(&self) -> Expect {
        match self.role {
            Role::Business => Expect::customer(self.business, self.customer),
            Role::Customer => Expect::business(self.business),
        }
    }
}

/// A conversation, loaded.
pub struct Conversation {
    provider: Provider,
    group: MlsGroup,
    meta: Meta,
    peer: Certificate,
    unheard: u32,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({:?}, epoch {}, redacted)", self.meta.role, self.epoch())
    }
}

const UNHEARD: [u8; 1] = [kind::UNHEARD];

impl Conversation {
    /// The customer's side: a new group with the bundle's KeyPackage. Returns the Welcome for the Hello.
    pub fn begin(
        pseudonym: &Pseudonym,
        bundle: &Bundle,
        now: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, Vec<u8>), BeginError> {
        let leaf = LeafKey::generate(rng);
        let mut random = [0; 21];
        rng.fill_bytes(&mut random);
        let (group_id, endpoint) = random.split_at(16);
        // From the bundle's time if ours is behind, so that a wrong clock does not break the first contact.
        let not_after = now.max(bundle.not_after()).saturating_add(limits::CUSTOMER_CERTIFICATE_SECS);
        // A random name: it tells devices of one conversation apart and nothing else.
        let endpoint = base32(endpoint);
        let subject = Subject { handle: "", endpoint: &endpoint, not_after };
        let business = *bundle.identity_hash();
        let certificate = issue_customer(pseudonym, &leaf.public(), &business, &subject);
        let credential = leaf.credential(&certificate);
        let meta =
            Meta { role: Role::Customer, business, customer: pseudonym.public(), group: group_id.to_vec(), leaf };

        let provider = Provider::default();
        let group_id = GroupId::from_slice(group_id);
        let mut group =
            MlsGroup::new_with_group_id(&provider, &meta.leaf, &mls::create_config(now), group_id, credential)
                .map_err(|_| BeginError::Crypto)?;
        // With a path: then no leaf of ours carries a lifetime, and a wrong clock does not break the join.
        let (_commit, welcome, _group_info) = group
            .add_members(&provider, &meta.leaf, std::slice::from_ref(bundle.package()))
            .map_err(|_| BeginError::Crypto)?;
        group.merge_pending_commit(&provider).map_err(|_| BeginError::Crypto)?;
        // Nobody else was in the epoch before: its secrets are of no use.
        group.delete_past_epoch_secrets(&provider, PastEpochDeletion::delete_all()).map_err(|_| BeginError::Crypto)?;
        let welcome = to_bytes(&welcome).ok_or(BeginError::Crypto)?;
        if welcome.len() > limits::WELCOME {
            return Err(BeginError::Crypto);
        }
        meta.store(&provider.state);
        let peer = bundle.certificate().clone();
        Ok((Self { provider, group, meta, peer, unheard: 0 }, welcome))
    }

    /// The business's side: joins the group of an opened Hello, after checking who is in it.
    pub fn join(keys: &BusinessKeys, business: &IdentityHash, hello: &Hello, now: u64) -> Result<Self, JoinError> {
        let package = keys.package_at(now).ok_or(JoinError::NoKeyPackage)?;
        let provider = Provider::new(state_with(package));
        let welcome = parse_welcome(hello.welcome()).ok_or(JoinError::Refused)?;
        let builder = StagedWelcome::build_from_welcome(&provider, &mls::join_config(), welcome).map_err(join_error)?;
        if !builder.processed_welcome().psks().is_empty() {
            return Err(JoinError::Refused);
        }
        // Only our own leaf carries a lifetime, and `package_at` has checked it against the given time.
        let staged = builder.skip_lifetime_validation().build().map_err(join_error)?;

        let own = staged.own_leaf_index();
        let is_plain = staged.group_context().ciphersuite() == CIPHERSUITE
            && staged.group_context().extensions().iter().next().is_none();
        let members: Vec<_> = staged.members().collect();
        let [a, b] = members.as_slice() else { return Err(JoinError::Refused) };
        let other = if a.index == own { b } else { a };
        if !is_plain || other.index == own || staged.welcome_sender_index() != other.index {
            return Err(JoinError::Refused);
        }
        if !hpke::is_sound(&other.encryption_key) {
            return Err(JoinError::Refused);
        }
        let expect = Expect::customer(*business, *hello.pseudonym());
        let credential = BasicCredential::try_from(other.credential.clone()).map_err(|_| JoinError::Refused)?;
        let peer = Certificate::verify(credential.identity(), now, &expect).map_err(JoinError::Certificate)?;
        if other.signature_key != peer.leaf() {
            return Err(JoinError::Certificate(CertificateError::WrongIdentity));
        }

        let group = staged.into_group(&provider).map_err(join_error)?;
        // The KeyPackage is the bundle's, not the conversation's: erasing it there must erase it everywhere.
        provider.state.forget(&package.0);
        let meta = Meta {
            role: Role::Business,
            business: *business,
            customer: *hello.pseudonym(),
            group: group.group_id().to_vec(),
            leaf: keys.leaf().clone(),
        };
        meta.store(&provider.state);
        Ok(Self { provider, group, meta, peer, unheard: 0 })
    }

    /// From the store.
    pub fn load(state: State) -> Result<Self, StateError> {
        let provider = Provider::new(state);
        let meta = Meta::load(&provider.state)?;
        let group =
            MlsGroup::load(&provider.state, &GroupId::from_slice(&meta.group))?.ok_or(StateError::Incomplete)?;
        let unheard = match provider.state.get(&UNHEARD) {
            None => 0,
            Some(value) => match value.as_slice() {
                [FORMAT, a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
                _ => return Err(StateError::Damaged),
            },
        };
        let own = group.own_leaf_index();
        let other = group.members().find(|m| m.index != own).ok_or(StateError::Incomplete)?;
        let credential = BasicCredential::try_from(other.credential).map_err(|_| StateError::Damaged)?;
        let peer =
            Certificate::verify_ever(credential.identity(), &meta.expect_peer()).map_err(|_| StateError::Damaged)?;
        Ok(Self { provider, group, meta, peer, unheard })
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
        if self.unheard >= limits::UNHEARD {
            return Err(SealError::Unheard);
        }
        let message =
            self.group.create_message(&self.provider, &self.meta.leaf, content).map_err(|_| SealError::Crypto)?;
        self.set_unheard(self.unheard + 1);
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
        let is_past = message.epoch() < self.group.epoch();
        let processed = self.group.process_message(&self.provider, message).map_err(|e| match open_error(e) {
            // OpenMLS says the same of an epoch as of a message whose keys are gone.
            OpenError::TooLate if is_past => OpenError::PastEpoch,
            error => error,
        })?;
        let signed_by_peer = matches!(processed.sender(), MlsSender::Member(index) if *index != self.group.own_leaf_index())
            && processed.credential().serialized_content() == self.peer.as_bytes();
        match processed.into_content() {
            ProcessedMessageContent::OwnPrivateMessage => Err(OpenError::OwnEcho),
            ProcessedMessageContent::ApplicationMessage(message) if signed_by_peer => {
                self.set_unheard(0);
                Ok(Opened { sender: self.peer_as_sender(), content: Zeroizing::new(message.into_bytes()) })
            }
            ProcessedMessageContent::ApplicationMessage(_) => Err(OpenError::Sender),
            _ => Err(OpenError::NotApplication),
        }
    }

    fn set_unheard(&mut self, unheard: u32) {
        if unheard != self.unheard {
            self.unheard = unheard;
            let value = [&[FORMAT][..], &unheard.to_be_bytes()].concat();
            self.provider.state.put(UNHEARD.to_vec(), Zeroizing::new(value));
        }
    }

    fn peer_as_sender(&self) -> Sender {
        Sender { role: self.peer.role(), identity: *self.peer.identity(), endpoint: self.peer.endpoint().to_owned() }
    }

    /// The other side's endpoint.
    #[must_use]
    pub fn peer(&self) -> &Certificate {
        &self.peer
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

    /// Messages sealed since the other side was heard.
    #[must_use]
    pub fn unheard(&self) -> u32 {
        self.unheard
    }
}

fn to_bytes(message: &MlsMessageOut) -> Option<Vec<u8>> {
    message.tls_serialize_detached().ok()
}

fn parse(bytes: &[u8]) -> Option<MlsMessageBodyIn> {
    Some(MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?.extract())
}

fn parse_welcome(bytes: &[u8]) -> Option<Welcome> {
    match parse(bytes)? {
        MlsMessageBodyIn::Welcome(welcome) => Some(welcome),
        _ => None,
    }
}

fn join_error(error: WelcomeError<StateError>) -> JoinError {
    match error {
        WelcomeError::NoMatchingKeyPackage => JoinError::NoKeyPackage,
        WelcomeError::StorageError(e) => JoinError::State(e),
        _ => JoinError::Refused,
    }
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
