//! Endpoint certificates: an identity says which leaf key may speak for it, towards which business.
//!
//! The signed bytes are the content of the MLS basic credential. [`Certificate::verify`] is the only way to a
//! [`Certificate`], so whoever holds one knows that signature, time, business, role and identity were checked.

use bulla_protocol::label;
use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;

use crate::cbor::{Malformed, Reader, Writer};
use crate::identity::{BusinessIdentity, IdentityHash, Pseudonym, UserId, base32};
use crate::signed::{self, Unverified};
use crate::suite::Suites;
use crate::{VERSION, limits};

/// Which side of a conversation an endpoint is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The business.
    Business,
    /// The customer.
    Customer,
}

impl Role {
    pub(crate) fn to_wire(self) -> u64 {
        match self {
            Self::Business => 1,
            Self::Customer => 2,
        }
    }

    pub(crate) fn from_wire(value: u64) -> Option<Self> {
        match value {
            1 => Some(Self::Business),
            2 => Some(Self::Customer),
            _ => None,
        }
    }
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not a certificate of a version that this side knows.
    #[error("not a certificate of a known version")]
    Malformed,
    /// The key in it did not sign it, or a key in it is of small order.
    #[error("the certificate's signature does not verify")]
    Signature,
    /// It is for another conversation: another business, role or identity than expected.
    #[error("the certificate is for another identity")]
    WrongIdentity,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// It lists no suite that this build knows.
    #[error("the certificate lists no suite that both sides know")]
    Suite,
}

impl From<Malformed> for CertificateError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What a certificate must say to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// Which side.
    pub role: Role,
    /// The business of the conversation.
    pub business: IdentityHash,
    /// The identity key, where it is known. A business's need not be: its hash says it.
    pub identity: Option<[u8; 32]>,
}

impl Expect {
    /// An endpoint of the business.
    #[must_use]
    pub const fn business(business: IdentityHash) -> Self {
        Self { role: Role::Business, business, identity: None }
    }

    /// An endpoint of the customer with this pseudonym, towards this business.
    #[must_use]
    pub const fn customer(business: IdentityHash, pseudonym_public: [u8; 32]) -> Self {
        Self { role: Role::Customer, business, identity: Some(pseudonym_public) }
    }
}

/// A certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    role: Role,
    identity: [u8; 32],
    leaf: [u8; 32],
    business: IdentityHash,
    handle: String,
    endpoint: String,
    not_after: u64,
    suites: Vec<u16>,
    bytes: Vec<u8>,
}

/// What an endpoint's certificate is made of, besides keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The business's handle; empty for a customer.
    pub handle: &'a str,
    /// The endpoint's name among those of its identity.
    pub endpoint: &'a str,
    /// Unix seconds after which no conversation begins with it. A conversation that began before goes on.
    pub not_after: u64,
    /// What the program that has it made speaks. What an endpoint speaks now, its KeyPackages say.
    pub suites: Suites,
}

fn issue(key: &SigningKey, role: Role, leaf: &[u8; 32], business: &IdentityHash, subject: &Subject<'_>) -> Vec<u8> {
    let head = Writer::new()
        .array(9)
        .uint(u64::from(VERSION))
        .uint(role.to_wire())
        .bytes(&key.verifying_key().to_bytes())
        .bytes(leaf)
        .bytes(business.as_bytes())
        .text(subject.handle)
        .text(subject.endpoint)
        .uint(subject.not_after);
    signed::sign(key, label::CERTIFICATE, &write_suites(head, subject.suites).finish())
}

/// A name for a customer's device: random, it tells the devices of one conversation apart and says nothing else.
pub fn endpoint_name(rng: &mut impl CryptoRngCore) -> String {
    let mut random = [0; 5];
    rng.fill_bytes(&mut random);
    base32(&random)
}

/// A certificate for a leaf key of the business.
#[must_use]
pub fn issue_business(identity: &BusinessIdentity, leaf: &[u8; 32], subject: &Subject<'_>) -> Vec<u8> {
    issue(identity.key(), Role::Business, leaf, &identity.hash(), subject)
}

/// A certificate for a leaf key of the customer, in conversations with `business` only.
#[must_use]
pub fn issue_customer(
    pseudonym: &Pseudonym,
    leaf: &[u8; 32],
    business: &IdentityHash,
    subject: &Subject<'_>,
) -> Vec<u8> {
    issue(pseudonym.key(), Role::Customer, leaf, business, subject)
}

pub(crate) fn write_suites(writer: Writer, suites: Suites) -> Writer {
    let codes = suites.codes();
    codes.iter().fold(writer.array(codes.len()), |w, code| w.uint(u64::from(*code)))
}

pub(crate) fn read_suites(r: &mut Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let len = r.list_max(limits::SUITES)?;
    if len == 0 {
        return Err(Malformed);
    }
    (0..len).map(|_| r.uint()?.try_into().map_err(|_| Malformed)).collect()
}

impl Certificate {
    /// Checks everything that a certificate says, at `now_secs` (Unix).
    pub fn verify(bytes: &[u8], now_secs: u64, expect: &Expect) -> Result<Self, CertificateError> {
        let certificate = Self::verify_ever(bytes, expect)?;
        if certificate.not_after <= now_secs {
            return Err(CertificateError::Expired);
        }
        Ok(certificate)
    }

    /// Of whomever it says, at any time: its own signature is checked and nothing else. For what was verified before it was stored.
    pub(crate) fn of_anybody(bytes: &[u8]) -> Result<Self, CertificateError> {
        let said = Self::read(Unverified::parse(bytes, limits::CERTIFICATE)?.payload(), bytes)?;
        let expect = Expect { role: said.role, business: said.business, identity: Some(said.identity) };
        Self::verify_ever(bytes, &expect)
    }

    /// As [`Self::verify`], for a member that was accepted while its certificate was valid.
    pub(crate) fn verify_ever(bytes: &[u8], expect: &Expect) -> Result<Self, CertificateError> {
        let outer = Unverified::parse(bytes, limits::CERTIFICATE)?;
        let certificate = Self::read_as(&outer, bytes, expect)?;
        if !outer.is_signed_by(&certificate.identity, label::CERTIFICATE) || !signed::is_sound(&certificate.leaf) {
            return Err(CertificateError::Signature);
        }
        Ok(certificate)
    }

    /// As [`Self::verify_ever`], out of this endpoint's own store, where only what was verified comes to lie: without the signature.
    pub(crate) fn stored(bytes: &[u8], expect: &Expect) -> Result<Self, CertificateError> {
        Self::read_as(&Unverified::parse(bytes, limits::CERTIFICATE)?, bytes, expect)
    }

    /// Checks all but signature and time: what costs little comes first.
    fn read_as(outer: &Unverified<'_>, bytes: &[u8], expect: &Expect) -> Result<Self, CertificateError> {
        let certificate = Self::read(outer.payload(), bytes)?;
        let identity_fits = match expect.role {
            Role::Business => IdentityHash::of(&certificate.identity) == expect.business,
            Role::Customer => true,
        } && expect.identity.is_none_or(|expected| expected == certificate.identity);
        if certificate.role != expect.role || certificate.business != expect.business || !identity_fits {
            return Err(CertificateError::WrongIdentity);
        }
        if Suites::of_codes(certificate.suites.iter().copied()).is_none() {
            return Err(CertificateError::Suite);
        }
        Ok(certificate)
    }

    fn read(payload: &[u8], bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload)?;
        let more = r.array(9)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Malformed);
        }
        let certificate = Self {
            role: Role::from_wire(r.uint()?).ok_or(Malformed)?,
            identity: r.exact()?,
            leaf: r.exact()?,
            business: IdentityHash::new(r.exact()?),
            handle: r.text(limits::HANDLE)?.to_owned(),
            endpoint: r.text(limits::ENDPOINT)?.to_owned(),
            not_after: r.uint()?,
            suites: read_suites(&mut r)?,
            bytes: bytes.to_vec(),
        };
        r.skip_rest(more)?;
        Ok(certificate)
    }

    /// Which side.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The identity or pseudonym key that signed it.
    #[must_use]
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// The endpoint's MLS signature key.
    #[must_use]
    pub fn leaf(&self) -> &[u8; 32] {
        &self.leaf
    }

    /// The business of the conversation.
    #[must_use]
    pub fn business(&self) -> &IdentityHash {
        &self.business
    }

    /// The business's handle; empty for a customer.
    #[must_use]
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// The endpoint's name among those of its identity.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Unix seconds after which no conversation begins with it.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Numbers of the suites that the program spoke that had it made.
    #[must_use]
    pub fn suites(&self) -> &[u16] {
        &self.suites
    }

    /// The customer's name, if it is a customer's.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        (self.role == Role::Customer).then(|| UserId::of(&self.business, &self.identity))
    }

    /// The signed bytes, as the MLS credential carries them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
