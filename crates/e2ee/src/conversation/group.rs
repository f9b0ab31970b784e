//! How a group comes to be: from a bundle and a Hello, or again between identities that know each other.

use openmls::group::WelcomeError;
use openmls::prelude::{
    BasicCredential, GroupId, KeyPackage, MlsGroup, MlsMessageBodyIn, PastEpochDeletion, StagedWelcome, Welcome,
};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::roster::{Heard, Roster};
use super::{Conversation, Meta, parse, to_bytes};
use crate::bundle::{Bundle, BusinessKeys, state_with};
use crate::certificate::{Certificate, CertificateError, Role};
use crate::hello::Hello;
use crate::identity::{IdentityHash, Pseudonym};
use crate::mls::{self, LeafKey, Provider};
use crate::spare::{Issuer, Spare, SpareKeys};
use crate::state::StateError;
use crate::suite::{Suite, Suites};
use crate::{hpke, limits};

/// A conversation could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// OpenMLS or its provider failed: nothing of the peer's can cause this, since what it gave was verified.
    #[error("the conversation could not be made")]
    Crypto,
    /// Our own misuse: no KeyPackage of the other side among those given, too many, or of several suites.
    #[error("a conversation needs both sides")]
    Members,
}

/// Why a Welcome was not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its KeyPackage is not, or no longer, among these keys: answer a Hello with [`Hello::say_again`].
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

impl Conversation {
    /// The customer's side: a new group of `suite` ([`Bundle::suites_with`]) with the bundle's KeyPackage. Returns the Welcome for the Hello.
    /// `endpoint` is this device's name, `suites` are what it speaks.
    pub fn begin(
        pseudonym: &Pseudonym,
        endpoint: &str,
        suites: Suites,
        bundle: &Bundle,
        suite: Suite,
        now: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, Vec<u8>), BeginError> {
        let business = *bundle.identity_hash();
        let issuer = Issuer::Customer { pseudonym, business: &business, endpoint, suites };
        let package = bundle.package(suite).ok_or(BeginError::Members)?;
        // From the bundle's time if ours is behind, so that a wrong clock does not break the first contact.
        let not_after = now.max(bundle.not_after()).saturating_add(limits::CUSTOMER_CERTIFICATE_SECS);
        let side = Side { issuer: &issuer, role: Role::Customer, business, customer: pseudonym.public() };
        side.make(suite, std::slice::from_ref(package), not_after, now, rng)
    }

    /// A new group in place of one that cannot go on, with the spares that the other side, and our own other endpoints, left. Returns
    /// the Welcome. `customer` is the pseudonym's public key.
    pub fn reform(
        issuer: &Issuer<'_>,
        customer: [u8; 32],
        spares: &[Spare],
        now: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, Vec<u8>), BeginError> {
        let role = issuer.role();
        let has_other = spares.iter().any(|s| s.certificate.role() != role);
        let suite = spares.first().ok_or(BeginError::Members)?.suite;
        if !has_other || spares.len() >= limits::MEMBERS || spares.iter().any(|s| s.suite != suite) {
            return Err(BeginError::Members);
        }
        let side = Side { issuer, role, business: issuer.business(), customer };
        let packages: Vec<_> = spares.iter().map(|s| s.package.clone()).collect();
        side.make(suite, &packages, now.saturating_add(limits::SPARE_SECS), now, rng)
    }

    /// The business's side: joins the group of an opened Hello, after checking who is in it.
    pub fn join(keys: &BusinessKeys, business: &IdentityHash, hello: &Hello, now: u64) -> Result<Self, JoinError> {
        let packages = keys.packages_at(now);
        if packages.is_empty() {
            return Err(JoinError::NoKeyPackage);
        }
        let side = Joins { role: Role::Business, business: *business, customer: *hello.pseudonym(), most: 2 };
        side.join(packages, keys.leaf(), hello.welcome(), now)
    }

    /// Joins the group that another member made in place of one that could not go on, or added us to, after checking who is in it.
    pub fn rejoin(
        keys: &SpareKeys,
        role: Role,
        business: &IdentityHash,
        customer: &[u8; 32],
        welcome: &[u8],
        now: u64,
    ) -> Result<Self, JoinError> {
        if now >= keys.not_after {
            return Err(JoinError::NoKeyPackage);
        }
        let side = Joins { role, business: *business, customer: *customer, most: limits::MEMBERS };
        side.join(std::slice::from_ref(&keys.package), &keys.leaf, welcome, now)
    }
}

/// Who makes a group.
struct Side<'a> {
    issuer: &'a Issuer<'a>,
    role: Role,
    business: IdentityHash,
    customer: [u8; 32],
}

impl Side<'_> {
    fn make(
        &self,
        suite: Suite,
        packages: &[KeyPackage],
        not_after: u64,
        now: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Conversation, Vec<u8>), BeginError> {
        let mut group_id = [0; 16];
        rng.fill_bytes(&mut group_id);
        let (leaf, certificate) = self.issuer.leaf(not_after, rng);
        let credential = leaf.credential(&certificate);
        let meta =
            Meta { role: self.role, business: self.business, customer: self.customer, group: group_id.to_vec(), leaf };
        let provider = Provider::default();
        let group_id = GroupId::from_slice(&group_id);
        let config = mls::create_config(suite, self.issuer.suites(), now);
        let mut group = MlsGroup::new_with_group_id(&provider, &meta.leaf, &config, group_id, credential)
            .map_err(|_| BeginError::Crypto)?;
        // With a path: then no leaf of ours carries a lifetime, and a wrong clock does not break the join.
        let (_commit, welcome, _group_info) =
            group.add_members(&provider, &meta.leaf, packages).map_err(|_| BeginError::Crypto)?;
        group.merge_pending_commit(&provider).map_err(|_| BeginError::Crypto)?;
        // Nobody else was in the epoch before: its secrets are of no use.
        group.delete_past_epoch_secrets(&provider, PastEpochDeletion::delete_all()).map_err(|_| BeginError::Crypto)?;
        let welcome = to_bytes(&welcome).ok_or(BeginError::Crypto)?;
        if welcome.len() > limits::WELCOME {
            return Err(BeginError::Crypto);
        }
        meta.store(&provider.state);
        // As it is stored: in memory OpenMLS keeps more (`crate::storage`, resumption PSKs).
        drop(group);
        let made = Conversation::load(provider.state).map_err(|_| BeginError::Crypto)?;
        Ok((made, welcome))
    }
}

/// Who joins a group, and what it must be like.
struct Joins {
    role: Role,
    business: IdentityHash,
    customer: [u8; 32],
    most: usize,
}

impl Joins {
    fn join(
        self,
        packages: &[(Vec<u8>, Zeroizing<Vec<u8>>)],
        leaf: &LeafKey,
        welcome: &[u8],
        now: u64,
    ) -> Result<Conversation, JoinError> {
        let provider = Provider::new(state_with(packages));
        let welcome = parse_welcome(welcome).ok_or(JoinError::Refused)?;
        let builder = StagedWelcome::build_from_welcome(&provider, &mls::join_config(), welcome).map_err(join_error)?;
        if !builder.processed_welcome().psks().is_empty() {
            return Err(JoinError::Refused);
        }
        // The members' own lifetimes were checked by whoever let them in; ours by the caller, against the given time.
        let staged = builder.skip_lifetime_validation().build().map_err(join_error)?;

        let own = staged.own_leaf_index();
        let suite = Suite::of_mls(staged.group_context().ciphersuite()).ok_or(JoinError::Refused)?;
        let is_plain = staged.group_context().extensions().iter().next().is_none();
        let members: Vec<_> = staged.members().collect();
        if !is_plain || members.len() < 2 || members.len() > self.most || staged.welcome_sender_index() == own {
            return Err(JoinError::Refused);
        }
        let mut meta = Meta {
            role: self.role,
            business: self.business,
            customer: self.customer,
            group: Vec::new(),
            leaf: leaf.clone(),
        };
        let (mut endpoints, mut others) = (std::collections::BTreeSet::new(), 0);
        for member in members {
            if !hpke::is_sound(suite, &member.encryption_key) {
                return Err(JoinError::Refused);
            }
            let credential = BasicCredential::try_from(member.credential).map_err(|_| JoinError::Refused)?;
            let certificate = self.verify(credential.identity(), &meta, now).map_err(JoinError::Certificate)?;
            if member.signature_key != certificate.leaf() {
                return Err(JoinError::Certificate(CertificateError::WrongIdentity));
            }
            if (member.index == own) != (member.signature_key == leaf.public()) {
                return Err(JoinError::Refused);
            }
            others += usize::from(certificate.role() != self.role);
            if !endpoints.insert((certificate.role(), certificate.endpoint().to_owned())) {
                return Err(JoinError::Refused);
            }
        }
        if others == 0 {
            return Err(JoinError::Refused);
        }
        let sender = staged.welcome_sender_index();
        let group = staged.into_group(&provider).map_err(join_error)?;
        // KeyPackages are the bundle's or a spare's, not the conversation's: erasing one there must erase it everywhere.
        packages.iter().for_each(|package| provider.state.forget(&package.0));
        meta.group = group.group_id().to_vec();
        meta.store(&provider.state);
        let roster = Roster::stored(&group, &meta)?;
        let mut heard = Heard::default();
        // Whoever made the group is in its epoch.
        heard.note(sender.u32());
        heard.store(&provider.state);
        let joined = Conversation { provider, group, meta, roster, heard };
        joined.set_quiet(true);
        Ok(joined)
    }

    fn verify(&self, bytes: &[u8], meta: &Meta, now: u64) -> Result<Certificate, CertificateError> {
        match Certificate::verify(bytes, now, &meta.expect(Role::Business)) {
            Err(CertificateError::WrongIdentity) => Certificate::verify(bytes, now, &meta.expect(Role::Customer)),
            verified => verified,
        }
    }
}

fn parse_welcome(bytes: &[u8]) -> Option<Welcome> {
    if bytes.len() > limits::WELCOME {
        return None;
    }
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
