//! Who somebody is: a business's identity key, a customer's pseudonym towards one business, and the names made of them.
//!
//! An identity is never an endpoint: it signs certificates for endpoints' leaf keys and nothing that is said. Each key is a
//! type of its own and has one use (KEY-06).

use core::fmt;
use core::str::FromStr;

use bulla_protocol::label;
use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A text is not the name that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not 43 characters of base64url without padding, in the one form that the bytes have.
    #[error("not an identity hash")]
    IdentityHash,
    /// Not `ZZ.` and 32 characters of lowercase base32, in the one form that the bytes have.
    #[error("not a user id")]
    UserId,
}

pub(crate) fn base32(bytes: &[u8]) -> String {
    base32_encoding().map(|e| e.encode(bytes)).unwrap_or_default()
}

/// RFC 4648 base32 in lowercase, without padding. `None` cannot happen: the specification is constant and valid.
fn base32_encoding() -> Option<Encoding> {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().ok()
}

macro_rules! signing_keys {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// A new key.
            pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
                Self(SigningKey::generate(rng))
            }
            /// From the 32 bytes that [`Self::to_bytes`] gave.
            #[must_use]
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(bytes))
            }
            /// The secret, to be stored where secrets may be.
            #[must_use]
            pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }
            /// The public key.
            #[must_use]
            pub fn public(&self) -> [u8; 32] {
                self.0.verifying_key().to_bytes()
            }
            pub(crate) fn key(&self) -> &SigningKey {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

signing_keys! {
    /// A business's identity key: signs endpoint certificates and contact bundles.
    BusinessIdentity;
    /// A customer's identity towards one business: signs its devices' certificates and the proof in a Hello.
    Pseudonym;
}

impl BusinessIdentity {
    /// What links pin.
    #[must_use]
    pub fn hash(&self) -> IdentityHash {
        IdentityHash::of(&self.public())
    }
}

impl Pseudonym {
    /// The customer's name towards `business`.
    #[must_use]
    pub fn user_id(&self, business: &IdentityHash) -> UserId {
        UserId::of(business, &self.public())
    }
}

/// The hash of a business's identity key, as links carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityHash([u8; 32]);

impl IdentityHash {
    /// Of a public identity key.
    #[must_use]
    pub fn of(identity_key: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(label::IDENTITY).chain_update(identity_key).finalize().into())
    }

    /// From stored bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn base32(&self) -> String {
        base32(&self.0)
    }
}

impl fmt::Display for IdentityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for IdentityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityHash({self})")
    }
}

impl FromStr for IdentityHash {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NameError::IdentityHash)?;
        bytes.try_into().map(Self).map_err(|_| NameError::IdentityHash)
    }
}

/// A customer's name towards one business: a hash of both identities, under `ZZ`, a code that no country has.
/// It outlives devices, groups and leaf keys, and two businesses cannot compare it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

impl UserId {
    /// Bytes of the hash that the name shows.
    const BYTES: usize = 20;
    const PREFIX: &str = "ZZ.";

    /// Of a pseudonym's public key towards a business.
    #[must_use]
    pub fn of(business: &IdentityHash, pseudonym_public: &[u8; 32]) -> Self {
        let mut hash = Sha256::new()
            .chain_update(label::USER_ID)
            .chain_update(business.as_bytes())
            .chain_update(pseudonym_public)
            .finalize()
            .to_vec();
        hash.truncate(Self::BYTES);
        Self(format!("{}{}", Self::PREFIX, base32(&hash)))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({})", self.0)
    }
}

impl FromStr for UserId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(NameError::UserId)?;
        let bytes = base32_encoding().and_then(|e| e.decode(rest.as_bytes()).ok()).ok_or(NameError::UserId)?;
        if bytes.len() == Self::BYTES { Ok(Self(text.to_owned())) } else { Err(NameError::UserId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn names_survive_text_and_nothing_else_parses() {
        let business = BusinessIdentity::generate(&mut OsRng);
        let hash = business.hash();
        assert_eq!(hash.to_string().len(), 43);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let user = Pseudonym::generate(&mut OsRng).user_id(&hash);
        assert_eq!(user.as_str().len(), 35);
        assert_eq!(user.as_str().parse(), Ok(user.clone()));
        for wrong in ["", "ZZ.", "zz.aaaa", &user.as_str()[..34], &format!("{user}a"), &user.as_str().to_uppercase()] {
            assert_eq!(wrong.parse::<UserId>(), Err(NameError::UserId), "{wrong}");
        }
        for wrong in ["", "AAAA", &hash.to_string()[..42], &format!("{hash}=")] {
            assert_eq!(wrong.parse::<IdentityHash>(), Err(NameError::IdentityHash), "{wrong}");
        }
    }

    /// A resumed pseudonym is the same customer; towards another business it is nobody that the first one knows.
    #[test]
    fn a_resumed_pseudonym_has_the_same_user_id_towards_one_business_only() {
        let (a, b) = (BusinessIdentity::generate(&mut OsRng).hash(), BusinessIdentity::generate(&mut OsRng).hash());
        let first = Pseudonym::generate(&mut OsRng);
        let resumed = Pseudonym::from_bytes(&first.to_bytes());
        assert_eq!(first.user_id(&a), resumed.user_id(&a));
        assert_ne!(first.user_id(&a), first.user_id(&b));
    }

    #[test]
    fn debug_of_secrets_is_redacted() {
        assert_eq!(format!("{:?}", BusinessIdentity::from_bytes(&[1; 32])), "BusinessIdentity(redacted)");
        assert_eq!(format!("{:?}", Pseudonym::from_bytes(&[1; 32])), "Pseudonym(redacted)");
    }
}
