//! Contact bundles: how a business is reached for the first time.
//!
//! A bundle is signed by the identity key and holds seal key, contact permit and a last-resort KeyPackage. It is fetched from anywhere
//! and believed only if it verifies to the hash in the customer's link: [`Bundle::verify`] is the only way to a [`Bundle`].
//! [`make_bundle`] makes one, with the [`BusinessKeys`] that the business keeps for it.

use core::fmt;
use std::collections::BTreeMap;

use bulla_protocol::id::MailboxId;
use bulla_protocol::label;
use bulla_protocol::limits::MAX_BUNDLE;
use openmls::prelude::KeyPackage;
use openmls::prelude::tls_codec::Serialize as _;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, CertificateError, Expect, Subject, issue_business, read_suites, write_suites};
use crate::content::{Reader as BusinessReader, read_readers, write_readers};
use crate::hpke::{self, SealKey, SealPublicKey};
use crate::identity::{BusinessIdentity, IdentityHash};
use crate::link::is_handle;
use crate::mls::{self, LeafKey, Provider};
use crate::permits::GivenPermit;
use crate::signed::{self, Unverified};
use crate::spare::{PackageError, Spare, suite_of};
use crate::state::State;
use crate::suite::{Suite, Suites};
use crate::tag::Purpose;
use crate::{VERSION, limits};

/// Why a bundle is not accepted. Nothing is sent to whom it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Larger than [`MAX_BUNDLE`], no bundle, or something in it is over its limit.
    #[error("not a contact bundle")]
    Malformed,
    /// Of a later version than this program knows.
    #[error("the bundle is of a later version than this program")]
    Newer,
    /// It is another business's than the link says. Somebody may be in between.
    #[error("the bundle belongs to another business than the link says")]
    WrongIdentity,
    /// Its signature does not verify.
    #[error("the bundle's signature does not verify")]
    Signature,
    /// Its time is over: served by a cache or a business that is away, or our clock is wrong.
    #[error("the bundle has expired")]
    Expired,
    /// It has a KeyPackage of no suite that this build knows: a program is out of date.
    #[error("no suite that both sides know")]
    Suite,
    /// A key in it is nobody's.
    #[error("the bundle holds an unsound key")]
    UnsoundKey,
    /// Its KeyPackage does not verify, or is not what a bundle holds.
    #[error("the bundle's KeyPackage does not verify")]
    KeyPackage,
    /// Its KeyPackage is not valid at the system's time: this device's clock is likely to be wrong.
    #[error("the bundle's KeyPackage is not valid at this device's time")]
    KeyPackageLifetime,
    /// Its KeyPackage is another's.
    #[error("the bundle's KeyPackage: {0}")]
    Certificate(#[source] CertificateError),
}

impl From<Malformed> for BundleError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A bundle could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeBundleError {
    /// Our own misuse: a parameter is over its limit, not a handle, or the permit is no contact permit of the mailbox.
    #[error("a bundle cannot say this")]
    Parameters,
    /// The cryptographic provider failed.
    #[error("the cryptographic provider failed")]
    Crypto,
}

/// What a bundle says besides keys.
#[derive(Debug, Clone)]
pub struct BundleParams {
    /// The business's handle, without `@`.
    pub handle: String,
    /// The business's name, as people read it.
    pub name: String,
    /// The relay's WebSocket URL.
    pub relay: String,
    /// The business's mailbox there.
    pub mailbox: MailboxId,
    /// The permit to send a Hello: purpose and class contact, without envelope key.
    pub contact: GivenPermit,
    /// Everyone who can read at the business.
    pub readers: Vec<BusinessReader>,
    /// The endpoint's name in its certificate.
    pub endpoint: String,
    /// What the business speaks: a KeyPackage for each goes with it.
    pub suites: Suites,
    /// Unix seconds.
    pub now: u64,
}

/// The secrets of one published bundle: they open the Hellos sent to it and join what is in them.
#[derive(Clone)]
pub struct BusinessKeys {
    leaf: LeafKey,
    seal: SealKey,
    not_after: u64,
    package_not_after: u64,
    /// The KeyPackages' private state, each one entry of a [`State`]; none once they were erased.
    packages: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// Stored [`BusinessKeys`] do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not business keys of a known version")]
pub struct BusinessKeysError;

impl From<Malformed> for BusinessKeysError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl BusinessKeys {
    /// For the store: CBOR, beginning with its version. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let w = Writer::new()
            .array(if self.packages.len() > 1 { 8 } else { 7 })
            .uint(u64::from(VERSION))
            .bytes(&*self.leaf.to_bytes())
            .bytes(self.seal.private())
            .bytes(self.seal.public().as_bytes())
            .uint(self.not_after)
            .uint(self.package_not_after);
        let one = |w: Writer, (key, value): &(Vec<u8>, Zeroizing<Vec<u8>>)| w.array(2).bytes(key).bytes(value);
        let w = match self.packages.split_first() {
            None => w.null(),
            Some((first, [])) => one(w, first),
            Some((first, more)) => more.iter().fold(one(w, first).array(more.len()), one),
        };
        Zeroizing::new(w.finish())
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BusinessKeysError> {
        const MAX: usize = 64 * 1024;
        let mut r = Reader::new(bytes)?;
        let more = r.array(7)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(BusinessKeysError);
        }
        let leaf = LeafKey::from_bytes(&r.exact()?);
        let seal = SealKey::from_parts(r.bytes(MAX)?, r.bytes(MAX)?).ok_or(BusinessKeysError)?;
        let (not_after, package_not_after) = (r.uint()?, r.uint()?);
        let one = |r: &mut Reader<'_>| {
            let more = r.array(2)?;
            let package = (r.bytes(MAX)?.to_vec(), Zeroizing::new(r.bytes(MAX)?.to_vec()));
            r.skip_rest(more)?;
            Ok(package)
        };
        let mut packages: Vec<_> = r.nullable(one)?.into_iter().collect();
        if more > 0 {
            for _ in 0..r.list_max(limits::SUITES)? {
                packages.push(one(&mut r)?);
            }
        }
        r.skip_rest(more.saturating_sub(1))?;
        Ok(Self { leaf, seal, not_after, package_not_after, packages })
    }

    /// Unix seconds until which customers accept the bundle. The keys are wanted some time longer, for Hellos under way.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// The key to which Hellos are sealed.
    #[must_use]
    pub fn seal_key(&self) -> &SealKey {
        &self.seal
    }

    /// Erases the KeyPackages' secrets. Hellos can still be opened, and answered with a fresh bundle.
    pub fn erase_key_package(&mut self) {
        self.packages.clear();
    }

    /// Whether Hellos can still be joined.
    #[must_use]
    pub fn has_key_package(&self) -> bool {
        !self.packages.is_empty()
    }

    pub(crate) fn leaf(&self) -> &LeafKey {
        &self.leaf
    }

    /// The KeyPackages' state; nothing once they are erased or their lifetime is over.
    pub(crate) fn packages_at(&self, now: u64) -> &[(Vec<u8>, Zeroizing<Vec<u8>>)] {
        if now < self.package_not_after { &self.packages } else { &[] }
    }
}

impl fmt::Debug for BusinessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusinessKeys(redacted)")
    }
}

fn is_relay_url(text: &str) -> bool {
    text.len() <= limits::URL
        && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.host().is_some())
}

fn is_contact(permit: &GivenPermit, mailbox: &MailboxId) -> bool {
    permit.purpose == Purpose::Contact && permit.permit.mailbox == *mailbox
}

impl BundleParams {
    fn are_sound(&self) -> bool {
        is_handle(&self.handle)
            && self.name.len() <= limits::NAME
            && is_relay_url(&self.relay)
            && is_contact(&self.contact, &self.mailbox)
            && self.contact.envelope_key.is_none()
            && self.endpoint.len() <= limits::ENDPOINT
            && self.readers.len() <= limits::READERS
            && self.readers.iter().all(|r| r.name.len() <= limits::NAME && r.role.len() <= limits::NAME)
    }
}

/// Makes a bundle and the keys for it: fresh leaf key, seal key and KeyPackages.
pub fn make_bundle(
    identity: &BusinessIdentity,
    params: &BundleParams,
    rng: &mut impl CryptoRngCore,
) -> Result<(Vec<u8>, BusinessKeys), MakeBundleError> {
    if !params.are_sound() {
        return Err(MakeBundleError::Parameters);
    }
    let leaf = LeafKey::generate(rng);
    let seal = SealKey::generate(rng).map_err(|_| MakeBundleError::Crypto)?;
    let lifetime = mls::lifetime(params.now);
    let (handle, endpoint, suites) = (&params.handle, &params.endpoint, params.suites);
    let subject = Subject { handle, endpoint, not_after: lifetime.not_after(), suites };
    let certificate = issue_business(identity, &leaf.public(), &subject);

    let (mut published, mut packages) = (Vec::new(), Vec::new());
    for suite in suites.iter() {
        let provider = Provider::default();
        let package = KeyPackage::builder()
            .key_package_lifetime(lifetime)
            .leaf_node_capabilities(mls::capabilities(suites))
            .mark_as_last_resort()
            .build(suite.mls(), &provider, &leaf, leaf.credential(&certificate))
            .map_err(|_| MakeBundleError::Crypto)?;
        published.push(package.key_package().tls_serialize_detached().map_err(|_| MakeBundleError::Crypto)?);
        packages.extend(provider.state.entries());
    }
    let (Some((best, more)), true) = (published.split_first(), packages.len() == published.len()) else {
        return Err(MakeBundleError::Crypto);
    };

    let not_after = params.now.saturating_add(limits::BUNDLE_SECS);
    let w = Writer::new()
        .array(if more.is_empty() { 12 } else { 13 })
        .uint(u64::from(VERSION))
        .bytes(&identity.public())
        .text(&params.handle)
        .text(&params.name)
        .text(&params.relay)
        .bytes(params.mailbox.as_bytes());
    let w = params.contact.write(w).bytes(seal.public().as_bytes()).bytes(best);
    let w = write_readers(write_suites(w, suites).uint(not_after), &params.readers);
    let w = if more.is_empty() { w } else { more.iter().fold(w.array(more.len()), |w, package| w.bytes(package)) };
    let bytes = signed::sign(identity.key(), label::BUNDLE, &w.finish());
    let keys = BusinessKeys { leaf, seal, not_after, package_not_after: lifetime.not_after(), packages };
    if bytes.len() > MAX_BUNDLE { Err(MakeBundleError::Parameters) } else { Ok((bytes, keys)) }
}

/// A bundle that was verified to an identity hash.
#[derive(Debug, Clone)]
pub struct Bundle {
    identity: [u8; 32],
    hash: IdentityHash,
    handle: String,
    name: String,
    relay: String,
    mailbox: MailboxId,
    contact: GivenPermit,
    seal_key: SealPublicKey,
    packages: BTreeMap<Suite, KeyPackage>,
    listed: Vec<u16>,
    certificate: Certificate,
    not_after: u64,
    readers: Vec<BusinessReader>,
}

impl Bundle {
    /// Checks everything that a bundle says, against the hash in the link, at `now` (Unix seconds). The KeyPackage's
    /// lifetime is checked by OpenMLS against the system's clock.
    pub fn verify(bytes: &[u8], expect: &IdentityHash, now: u64) -> Result<Self, BundleError> {
        let outer = Unverified::parse(bytes, MAX_BUNDLE)?;
        let mut r = Reader::new(outer.payload())?;
        let more = r.versioned(12, BundleError::Newer)?;
        let identity = r.exact()?;
        if IdentityHash::of(&identity) != *expect {
            return Err(BundleError::WrongIdentity);
        }
        if !outer.is_signed_by(&identity, label::BUNDLE) {
            return Err(BundleError::Signature);
        }
        let handle = r.text(limits::HANDLE)?.to_owned();
        let name = r.text(limits::NAME)?.to_owned();
        let relay = r.text(limits::URL)?.to_owned();
        let mailbox = MailboxId::new(r.exact()?);
        let contact = GivenPermit::read(&mut r)?;
        let seal_key = r.bytes(hpke::PUBLIC)?;
        let mut packages = vec![r.bytes(limits::KEY_PACKAGE)?];
        let listed = read_suites(&mut r)?;
        let not_after = r.uint()?;
        let readers = read_readers(&mut r)?;
        if more > 0 {
            for _ in 0..r.list_max(limits::SUITES)? {
                packages.push(r.bytes(limits::KEY_PACKAGE)?);
            }
        }
        r.skip_rest(more.saturating_sub(1))?;
        if !is_handle(&handle) || !is_relay_url(&relay) || !is_contact(&contact, &mailbox) {
            return Err(BundleError::Malformed);
        }
        if not_after <= now {
            return Err(BundleError::Expired);
        }
        let suites = Suites::of_codes(listed.iter().copied()).ok_or(BundleError::Suite)?;
        let seal_key = SealPublicKey::from_slice(seal_key).ok_or(BundleError::UnsoundKey)?;
        let (packages, certificate) = verify_packages(&packages, suites, expect, now)?;
        if certificate.identity() != &identity || certificate.handle() != handle {
            return Err(BundleError::Certificate(CertificateError::WrongIdentity));
        }
        Ok(Self {
            identity,
            hash: *expect,
            handle,
            name,
            relay,
            mailbox,
            contact,
            seal_key,
            packages,
            listed,
            certificate,
            not_after,
            readers,
        })
    }

    /// The business's identity key.
    #[must_use]
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// Its hash, to which the bundle was verified.
    #[must_use]
    pub fn identity_hash(&self) -> &IdentityHash {
        &self.hash
    }

    /// The business's handle, without `@`.
    #[must_use]
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// The business's name: its own words, verified by nobody.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The relay's WebSocket URL.
    #[must_use]
    pub fn relay(&self) -> &str {
        &self.relay
    }

    /// The business's mailbox.
    #[must_use]
    pub fn mailbox(&self) -> &MailboxId {
        &self.mailbox
    }

    /// The permit to send a Hello with.
    #[must_use]
    pub fn contact(&self) -> &GivenPermit {
        &self.contact
    }

    /// Where Hellos are sealed to.
    #[must_use]
    pub fn seal_key(&self) -> &SealPublicKey {
        &self.seal_key
    }

    /// Unix seconds until which it is good.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Suites in which a conversation with the business can begin: those that it lists and has a KeyPackage for, that are among `ours`.
    #[must_use]
    pub fn suites_with(&self, ours: Suites) -> Option<Suites> {
        ours.common(Suites::of(self.packages.keys().copied())?)
    }

    /// Whether the business speaks suites that are not among `ours`.
    #[must_use]
    pub fn lists_more(&self, ours: Suites) -> bool {
        self.listed.iter().any(|code| !ours.codes().contains(code))
    }

    /// Everyone who can read at the business.
    #[must_use]
    pub fn readers(&self) -> &[BusinessReader] {
        &self.readers
    }

    /// The certificate of the endpoint with which a conversation begins.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn package(&self, suite: Suite) -> Option<&KeyPackage> {
        self.packages.get(&suite)
    }
}

/// The KeyPackages of suites that this build knows, and the certificate of all of them.
fn verify_packages(
    all: &[&[u8]],
    listed: Suites,
    business: &IdentityHash,
    now: u64,
) -> Result<(BTreeMap<Suite, KeyPackage>, Certificate), BundleError> {
    // One whose suite cannot be told is nobody's, unless there are others: then it is of a later version.
    let known: Vec<_> = all.iter().filter(|bytes| suite_of(bytes).is_some()).collect();
    if known.is_empty() {
        return Err(BundleError::KeyPackage);
    }
    let (mut packages, mut certificate) = (BTreeMap::new(), None);
    for bytes in known {
        let (package, of) = verify_package(bytes, business, now)?;
        if certificate.get_or_insert_with(|| of.clone()) != &of {
            return Err(BundleError::Certificate(CertificateError::WrongIdentity));
        }
        if let Some(suite) = suite_of(bytes).filter(|suite| listed.has(*suite)) {
            packages.insert(suite, package);
        }
    }
    match certificate {
        Some(certificate) if !packages.is_empty() => Ok((packages, certificate)),
        _ => Err(BundleError::Suite),
    }
}

fn verify_package(bytes: &[u8], business: &IdentityHash, now: u64) -> Result<(KeyPackage, Certificate), BundleError> {
    let spare = Spare::verify(bytes, &Expect::business(*business), now).map_err(|e| match e {
        PackageError::Invalid => BundleError::KeyPackage,
        PackageError::Lifetime => BundleError::KeyPackageLifetime,
        PackageError::UnsoundKey => BundleError::UnsoundKey,
        PackageError::Certificate(e) => BundleError::Certificate(e),
    })?;
    if !spare.package.life_time().has_acceptable_range() {
        return Err(BundleError::KeyPackage);
    }
    Ok((spare.package, spare.certificate))
}

/// The state in which Welcomes to KeyPackages can be processed.
pub(crate) fn state_with(packages: &[(Vec<u8>, Zeroizing<Vec<u8>>)]) -> State {
    let state = State::default();
    packages.iter().for_each(|(key, value)| state.put(key.clone(), value.clone()));
    state
}
