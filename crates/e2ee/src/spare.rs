//! Spare KeyPackages: what each side leaves the other inside the conversation, so that whoever cannot continue it can begin it anew
//! (docs/protocol.md §9).
//!
//! A spare is a KeyPackage whose leaf carries the endpoint's certificate for this conversation. Its secrets are [`SpareKeys`].

use core::fmt;

use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{BasicCredential, KeyPackage, KeyPackageIn, KeyPackageVerifyError, ProtocolVersion};
use openmls_traits::OpenMlsProvider as _;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, CertificateError, Expect, Role, Subject, issue_business, issue_customer};
use crate::device::Device;
use crate::identity::{BusinessIdentity, IdentityHash, Pseudonym};
use crate::mls::{self, LeafKey, Provider};
use crate::suite::{Suite, Suites};
use crate::{VERSION, hpke, limits};

/// Who issues certificates for this side's endpoints in a conversation.
#[derive(Debug, Clone, Copy)]
pub enum Issuer<'a> {
    /// The business.
    Business {
        /// Its identity.
        identity: &'a BusinessIdentity,
        /// Its handle.
        handle: &'a str,
        /// The endpoint's name among those of the business.
        endpoint: &'a str,
        /// What it speaks.
        suites: Suites,
    },
    /// A customer, in conversations with one business.
    Customer {
        /// Its pseudonym towards that business.
        pseudonym: &'a Pseudonym,
        /// The business.
        business: &'a IdentityHash,
        /// The device's name, the same in every group of the conversation.
        endpoint: &'a str,
        /// What it speaks.
        suites: Suites,
    },
    /// A customer's linked device, and what it speaks: it has one leaf key and one certificate, and cannot issue others.
    Linked(&'a Device, Suites),
}

impl Issuer<'_> {
    /// A leaf key and the certificate that it stands with.
    pub(crate) fn leaf(&self, not_after: u64, rng: &mut impl CryptoRngCore) -> (LeafKey, Vec<u8>) {
        match self {
            Self::Business { identity, handle, endpoint, suites } => {
                let leaf = LeafKey::generate(rng);
                let subject = Subject { handle, endpoint, not_after, suites: *suites };
                let certificate = issue_business(identity, &leaf.public(), &subject);
                (leaf, certificate)
            }
            Self::Customer { pseudonym, business, endpoint, suites } => {
                let leaf = LeafKey::generate(rng);
                let subject = Subject { handle: "", endpoint, not_after, suites: *suites };
                let certificate = issue_customer(pseudonym, &leaf.public(), business, &subject);
                (leaf, certificate)
            }
            Self::Linked(device, _) => (device.leaf().clone(), device.certificate().as_bytes().to_vec()),
        }
    }

    /// Which side it is of.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Business { .. } => Role::Business,
            Self::Customer { .. } | Self::Linked(..) => Role::Customer,
        }
    }

    /// What the endpoint speaks.
    #[must_use]
    pub fn suites(&self) -> Suites {
        match self {
            Self::Business { suites, .. } | Self::Customer { suites, .. } | Self::Linked(_, suites) => *suites,
        }
    }

    /// The business of the conversation.
    #[must_use]
    pub fn business(&self) -> IdentityHash {
        match self {
            Self::Business { identity, .. } => identity.hash(),
            Self::Customer { business, .. } => **business,
            Self::Linked(device, _) => *device.certificate().business(),
        }
    }
}

/// The secrets of a KeyPackage: they join one Welcome to it.
#[derive(Clone)]
pub struct SpareKeys {
    pub(crate) leaf: LeafKey,
    /// Unix seconds.
    pub(crate) not_after: u64,
    /// One entry of a [`crate::state::State`].
    pub(crate) package: (Vec<u8>, Zeroizing<Vec<u8>>),
}

/// Stored [`SpareKeys`] do not decode, or none could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not spare keys of a known version")]
pub struct SpareKeysError;

impl From<Malformed> for SpareKeysError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// Makes a spare for a group of `suite`: what is given to the other side, and its secrets. `now` in Unix seconds.
pub fn make_spare(
    issuer: &Issuer<'_>,
    suite: Suite,
    now: u64,
    rng: &mut impl CryptoRngCore,
) -> Result<(Vec<u8>, SpareKeys), SpareKeysError> {
    let lifetime = mls::spare_lifetime(now);
    let (leaf, certificate) = issuer.leaf(lifetime.not_after(), rng);
    let provider = Provider::default();
    let package = KeyPackage::builder()
        .key_package_lifetime(lifetime)
        .leaf_node_capabilities(mls::capabilities(issuer.suites()))
        // So that joining does not erase it on its own: the endpoint does, in the joining transaction.
        .mark_as_last_resort()
        .build(suite.mls(), &provider, &leaf, leaf.credential(&certificate))
        .map_err(|_| SpareKeysError)?;
    let bytes = package.key_package().tls_serialize_detached().map_err(|_| SpareKeysError)?;
    let [entry] = <[_; 1]>::try_from(provider.state.entries()).map_err(|_| SpareKeysError)?;
    Ok((bytes, SpareKeys { leaf, not_after: lifetime.not_after(), package: entry }))
}

impl SpareKeys {
    /// For the store: CBOR, beginning with its version. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (key, value) = &self.package;
        let w = Writer::new().array(5).uint(u64::from(VERSION)).bytes(&*self.leaf.to_bytes()).uint(self.not_after);
        Zeroizing::new(w.bytes(key).bytes(value).finish())
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SpareKeysError> {
        const MAX: usize = 64 * 1024;
        let mut r = Reader::new(bytes)?;
        let more = r.array(5)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(SpareKeysError);
        }
        let leaf = LeafKey::from_bytes(&r.exact()?);
        let not_after = r.uint()?;
        let package = (r.bytes(MAX)?.to_vec(), Zeroizing::new(r.bytes(MAX)?.to_vec()));
        r.skip_rest(more)?;
        Ok(Self { leaf, not_after, package })
    }

    /// Unix seconds after which nobody uses it.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

impl fmt::Debug for SpareKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpareKeys(redacted)")
    }
}

/// Why a KeyPackage of the other side is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Not a valid KeyPackage of a suite that this build knows.
    #[error("the KeyPackage does not verify")]
    Invalid,
    /// Its lifetime does not include the system's time.
    #[error("the KeyPackage has expired, or a clock is wrong")]
    Lifetime,
    /// A key in it is of small order or of wrong length.
    #[error("a key is unsound")]
    UnsoundKey,
    /// It is another's.
    #[error("the KeyPackage: {0}")]
    Certificate(#[source] CertificateError),
}

/// A KeyPackage of the other side, verified to its identity.
#[derive(Debug, Clone)]
pub struct Spare {
    pub(crate) package: KeyPackage,
    pub(crate) certificate: Certificate,
    pub(crate) suite: Suite,
}

impl Spare {
    /// Checks a KeyPackage to whom it must be of, at `now` (Unix seconds). Its lifetime is checked by OpenMLS against the system's clock.
    pub fn verify(bytes: &[u8], expect: &Expect, now: u64) -> Result<Self, PackageError> {
        if bytes.len() > limits::KEY_PACKAGE {
            return Err(PackageError::Invalid);
        }
        let package = KeyPackageIn::tls_deserialize_exact_bytes(bytes).map_err(|_| PackageError::Invalid)?;
        let package = package.validate(Provider::default().crypto(), ProtocolVersion::Mls10).map_err(|e| match e {
            KeyPackageVerifyError::LifetimeError(_) => PackageError::Lifetime,
            _ => PackageError::Invalid,
        })?;
        let (suite, certificate) = check_package(&package, expect, now)?;
        Ok(Self { package, certificate, suite })
    }

    /// Whose it is.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// For groups of which suite it is.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// What its endpoint speaks, of what this build knows: signed by its leaf key, so that nobody can take one away.
    #[must_use]
    pub fn suites(&self) -> Suites {
        let said = self.package.leaf_node().capabilities().ciphersuites().iter().map(|code| code.value());
        // The one that it is for is always among them.
        Suites::of_codes(said.chain([self.suite.code()])).unwrap_or_default()
    }

    /// Unix seconds until which it is valid: of two of one endpoint, the later one is the newer.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.package.life_time().not_after()
    }
}

/// What must hold of a KeyPackage that OpenMLS has validated, before anybody is let into a group with it.
pub(crate) fn check_package(
    package: &KeyPackage,
    expect: &Expect,
    now: u64,
) -> Result<(Suite, Certificate), PackageError> {
    let leaf = package.leaf_node();
    let suite = Suite::of_mls(package.ciphersuite()).ok_or(PackageError::Invalid)?;
    if !package.last_resort() {
        return Err(PackageError::Invalid);
    }
    // OpenMLS shows a leaf's encryption key only as TLS: a length of one or two bytes before it, by the first one's highest bits.
    let encryption_key = leaf.encryption_key().tls_serialize_detached().map_err(|_| PackageError::Invalid)?;
    let length = encryption_key.first().map_or(0, |first| 1 << (first >> 6));
    let encryption_key = encryption_key.get(length..).unwrap_or_default();
    if !hpke::is_sound(suite, package.hpke_init_key().as_slice()) || !hpke::is_sound(suite, encryption_key) {
        return Err(PackageError::UnsoundKey);
    }
    let credential = BasicCredential::try_from(leaf.credential().clone()).map_err(|_| PackageError::Invalid)?;
    let certificate = Certificate::verify(credential.identity(), now, expect).map_err(PackageError::Certificate)?;
    if leaf.signature_key().as_slice() != certificate.leaf() {
        return Err(PackageError::Certificate(CertificateError::WrongIdentity));
    }
    Ok((suite, certificate))
}

/// For which suite a KeyPackage is, by its head alone; `None` if this build does not know it.
pub(crate) fn suite_of(package: &[u8]) -> Option<Suite> {
    let [_, _, high, low] = *package.first_chunk::<4>()?;
    Suite::of_code(u16::from_be_bytes([high, low]))
}
