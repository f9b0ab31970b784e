//! Hellos: the first thing that a customer says, sealed to the business's seal key; and the answer to one that came too late.
//!
//! A Hello carries permits for the answer, the Welcome into the group that the customer made, the first message as an MLS
//! message of that group, and a proof that ties all this to the pseudonym. Whoever has the pseudonym's key can say Hello again
//! from a new device and is the same customer.
//!
//! Whatever is wrong with a Hello, opening it fails with one and the same error (KEY-07). A replayed Hello opens again: store
//! [`Hello::digest`] in the transaction that joins, and forget a Hello whose digest is known.

use core::fmt;

use bulla_protocol::id::{MailboxId, TagBlock};
use bulla_protocol::label;
use bulla_protocol::limits::{MAX_BUNDLE, MAX_CONTACT_ENVELOPE};
use ed25519_dalek::Signer as _;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::bundle::{Bundle, BusinessKeys};
use crate::cbor::{Malformed, Reader, Writer};
use crate::envelope::{self, bucket, unpad};
use crate::hpke::{self, SealKey, SealPublicKey};
use crate::identity::{IdentityHash, Pseudonym, UserId};
use crate::permits::GivenPermit;
use crate::tag::Purpose;
use crate::{VERSION, limits, signed};

/// A customer's reply key: opens the answer to a Hello whose KeyPackage is gone. Kept until the Hello is answered.
#[derive(Debug, Clone)]
pub struct ReplyKey(SealKey);

impl ReplyKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Result<Self, HelloError> {
        SealKey::generate(rng).map(Self).map_err(|_| HelloError::Crypto)
    }

    /// For the store: CBOR, beginning with its version. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let w = Writer::new().array(3).uint(u64::from(VERSION));
        Zeroizing::new(w.bytes(self.0.private()).bytes(self.0.public().as_bytes()).finish())
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HelloError> {
        let read = || {
            let mut r = Reader::new(bytes)?;
            let more = r.array(3)?;
            if r.uint()? != u64::from(VERSION) {
                return Err(Malformed);
            }
            let key = SealKey::from_parts(r.bytes(hpke::PUBLIC)?, r.bytes(hpke::PUBLIC)?).ok_or(Malformed)?;
            r.skip_rest(more)?;
            Ok(Self(key))
        };
        read().map_err(|Malformed| HelloError::Refused)
    }

    /// The public half, for the Hello.
    #[must_use]
    pub fn public(&self) -> &SealPublicKey {
        self.0.public()
    }
}

/// Why a Hello, or the answer to one, was not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Not a Hello for these keys, or not a valid one.
    #[error("Hello refused")]
    Refused,
    /// Our own misuse: it says too much for one contact envelope, or nothing to answer with.
    #[error("a Hello cannot say this")]
    Parameters,
    /// The cryptographic provider failed.
    #[error("the cryptographic provider failed")]
    Crypto,
}

impl From<Malformed> for HelloError {
    fn from(_: Malformed) -> Self {
        Self::Refused
    }
}

/// What a customer says first.
#[derive(Debug, Clone)]
pub struct HelloParams<'a> {
    /// The relay of the customer's mailbox.
    pub relay: &'a str,
    /// Permits for the business: `control` and `service`.
    pub permits: &'a [GivenPermit],
    /// Where to the answer to a dead KeyPackage is sealed.
    pub reply_key: &'a SealPublicKey,
    /// The Welcome of [`crate::conversation::Conversation::begin`].
    pub welcome: &'a [u8],
    /// The first message, of [`crate::conversation::Conversation::seal`].
    pub message: &'a [u8],
}

/// A Hello that was opened and whose proof was verified.
#[derive(Clone)]
pub struct Hello {
    pseudonym: [u8; 32],
    relay: String,
    permits: Vec<GivenPermit>,
    reply_key: SealPublicKey,
    welcome: Vec<u8>,
    message: Vec<u8>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hello(redacted)")
    }
}

/// What tells a replayed Hello.
#[must_use]
pub fn hello_digest(welcome: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(label::HELLO_DIGEST).chain_update(welcome).finalize().into()
}

fn proof_message(
    business: &IdentityHash,
    welcome: &[u8],
    relay: &str,
    permits: &[GivenPermit],
    reply_key: &[u8],
) -> Vec<u8> {
    let said = GivenPermit::write_list(Writer::new().array(3).text(relay), permits).bytes(reply_key).finish();
    [business.as_bytes(), &Sha256::digest(welcome)[..], &Sha256::digest(&said)[..]].concat()
}

fn info(business: &IdentityHash, mailbox: &MailboxId) -> Vec<u8> {
    [label::HELLO, business.as_bytes(), mailbox.as_bytes()].concat()
}

/// A Hello needs a permit for the answer to a dead KeyPackage and one for answers.
fn can_be_answered(permits: &[GivenPermit]) -> bool {
    let has = |purpose| permits.iter().any(|p| p.purpose == purpose);
    has(Purpose::Control) && has(Purpose::Service) && !has(Purpose::Contact)
}

impl Hello {
    /// Bytes of a sealed Hello besides its CBOR: version, encapsulation, AEAD tag, length.
    const OVERHEAD: usize = 1 + hpke::ENC + hpke::AEAD_TAG + 4;

    /// Seals a Hello to a bundle, as the body of a contact-class envelope with the bundle's contact permit.
    pub fn seal(pseudonym: &Pseudonym, bundle: &Bundle, says: &HelloParams<'_>) -> Result<Vec<u8>, HelloError> {
        if says.permits.len() > limits::PERMITS || !can_be_answered(says.permits) || says.relay.len() > limits::URL {
            return Err(HelloError::Parameters);
        }
        let business = bundle.identity_hash();
        let reply_key = says.reply_key.as_bytes();
        let message = proof_message(business, says.welcome, says.relay, says.permits, reply_key);
        let proof = pseudonym.key().sign(&[label::HELLO_PROOF, &message].concat());
        let w = Writer::new().array(8).uint(u64::from(VERSION)).bytes(&pseudonym.public()).text(says.relay);
        let cbor = Zeroizing::new(
            GivenPermit::write_list(w, says.permits)
                .bytes(reply_key)
                .bytes(says.welcome)
                .bytes(says.message)
                .bytes(&proof.to_bytes())
                .finish(),
        );
        let whole = bucket(Self::OVERHEAD + cbor.len());
        let length = u32::try_from(cbor.len()).map_err(|_| HelloError::Parameters)?;
        if whole > MAX_CONTACT_ENVELOPE {
            return Err(HelloError::Parameters);
        }
        let mut padded = Zeroizing::new(Vec::with_capacity(whole));
        padded.extend_from_slice(&length.to_be_bytes());
        padded.extend_from_slice(&cbor);
        padded.resize(whole - (Self::OVERHEAD - 4), 0);
        let sealed = bundle
            .seal_key()
            .seal(&info(business, bundle.mailbox()), bundle.contact().permit.tag.as_bytes(), &padded)
            .map_err(|_| HelloError::Crypto)?;
        Ok([&[VERSION][..], &sealed].concat())
    }

    /// Opens what arrived at the business's mailbox under a contact tag.
    pub fn open(
        keys: &BusinessKeys,
        business: &IdentityHash,
        mailbox: &MailboxId,
        tag: &TagBlock,
        envelope: &[u8],
    ) -> Result<Self, HelloError> {
        if envelope.len() > MAX_CONTACT_ENVELOPE || bucket(envelope.len()) != envelope.len() {
            return Err(HelloError::Refused);
        }
        let Some((&VERSION, sealed)) = envelope.split_first() else { return Err(HelloError::Refused) };
        let padded =
            keys.seal_key().open(&info(business, mailbox), tag.as_bytes(), sealed).map_err(|_| HelloError::Refused)?;
        Self::read(&unpad(&padded).ok_or(HelloError::Refused)?, business)
    }

    fn read(cbor: &[u8], business: &IdentityHash) -> Result<Self, HelloError> {
        let mut r = Reader::new(cbor)?;
        let more = r.array(8)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(HelloError::Refused);
        }
        let pseudonym = r.exact()?;
        let relay = r.text(limits::URL)?.to_owned();
        let permits = GivenPermit::read_list(&mut r)?;
        let reply_key = SealPublicKey::from_slice(r.bytes(hpke::PUBLIC)?).ok_or(HelloError::Refused)?;
        let welcome = r.bytes(limits::WELCOME)?.to_vec();
        let message = r.bytes(limits::MLS_MESSAGE)?.to_vec();
        let proof = r.exact()?;
        r.skip_rest(more)?;
        let proven = proof_message(business, &welcome, &relay, &permits, reply_key.as_bytes());
        if !signed::verify(&pseudonym, label::HELLO_PROOF, &proven, &proof) || !can_be_answered(&permits) {
            return Err(HelloError::Refused);
        }
        Ok(Self { pseudonym, relay, permits, reply_key, welcome, message })
    }

    /// The customer's pseudonym key, proven.
    #[must_use]
    pub fn pseudonym(&self) -> &[u8; 32] {
        &self.pseudonym
    }

    /// The customer's name towards `business`: the same one when a pseudonym is resumed.
    #[must_use]
    pub fn user_id(&self, business: &IdentityHash) -> UserId {
        UserId::of(business, &self.pseudonym)
    }

    /// The relay of the customer's mailbox.
    #[must_use]
    pub fn relay(&self) -> &str {
        &self.relay
    }

    /// Permits for the business.
    #[must_use]
    pub fn permits(&self) -> &[GivenPermit] {
        &self.permits
    }

    /// The Welcome into the customer's group.
    #[must_use]
    pub fn welcome(&self) -> &[u8] {
        &self.welcome
    }

    /// The first message, an MLS message of that group.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// What tells a replay of this Hello.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        hello_digest(&self.welcome)
    }

    /// The answer if its KeyPackage is gone: a fresh bundle, as the body of an envelope of kind
    /// [`envelope::Kind::HelloAgain`] under the Hello's control permit.
    pub fn say_again(&self, fresh_bundle: &[u8]) -> Result<Vec<u8>, HelloError> {
        HelloAgain::seal(&self.reply_key, &self.digest(), fresh_bundle)
    }
}

/// The answer to a Hello whose KeyPackage is gone.
#[derive(Debug, Clone, Copy)]
pub struct HelloAgain;

impl HelloAgain {
    fn info(digest: &[u8; 32]) -> Vec<u8> {
        [label::HELLO_AGAIN, digest].concat()
    }

    /// Seals a fresh bundle to a Hello's reply key.
    pub fn seal(reply_key: &SealPublicKey, digest: &[u8; 32], fresh_bundle: &[u8]) -> Result<Vec<u8>, HelloError> {
        const { assert!(MAX_BUNDLE + hpke::ENC + hpke::AEAD_TAG <= envelope::MAX_BODY) };
        if fresh_bundle.len() > MAX_BUNDLE {
            return Err(HelloError::Parameters);
        }
        reply_key.seal(&Self::info(digest), &[], fresh_bundle).map_err(|_| HelloError::Crypto)
    }

    /// Opens the answer to the Hello with this digest; what comes out is to be given to [`Bundle::verify`] with the same
    /// identity hash as before.
    pub fn open(reply_key: &ReplyKey, digest: &[u8; 32], body: &[u8]) -> Result<Vec<u8>, HelloError> {
        if body.len() > MAX_BUNDLE + hpke::ENC + hpke::AEAD_TAG {
            return Err(HelloError::Refused);
        }
        let bundle = reply_key.0.open(&Self::info(digest), &[], body).map_err(|_| HelloError::Refused)?;
        Ok(bundle.to_vec())
    }
}
