//! Grants and permits (design: "A grant is consent").
//!
//! A mailbox has a MAC root, known to its owner and its relay. A grant is a random id whose key is derived from the root, so
//! that making one stores nothing anywhere. A permit is a set of fields with a MAC under its grant's key; its holder shows the fields
//! and proves the MAC over one envelope, so that who watches a send learns nothing that could be used for another.
//! Layouts: head of `proto/relay.proto`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::frame;
use crate::id::{GrantId, MailboxId, SendId, TagBlock, WrongLength, exact};
use crate::{VERSION, label, limits};

type HmacSha256 = Hmac<Sha256>;

/// Bytes of a permit's canonical form.
pub const PERMIT_LEN: usize = 1 + 16 + 16 + 1 + 4 + 2 + 2 + 16;

/// What kind of door a permit opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// From someone whom the owner knows.
    Ordinary,
    /// A business's public door for a first Hello: own rate and share, small envelopes, proof of work.
    Contact,
}

impl Class {
    /// The frame's enum.
    #[must_use]
    pub fn to_wire(self) -> frame::PermitClass {
        match self {
            Self::Ordinary => frame::PermitClass::Ordinary,
            Self::Contact => frame::PermitClass::Contact,
        }
    }

    /// From the frame's enum or the canonical byte.
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        match value {
            1 => Some(Self::Ordinary),
            2 => Some(Self::Contact),
            _ => None,
        }
    }
}

/// The fields of a permit: public to the relay, except that only the owner can open the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Where it allows to write.
    pub mailbox: MailboxId,
    /// Which grant it belongs to; revoking the grant ends it.
    pub grant: GrantId,
    /// Which door.
    pub class: Class,
    /// End of validity, in units of [`limits::EXPIRY_UNIT_SECS`] since the epoch, relay's time, exclusive.
    pub expires: u32,
    /// Envelopes per minute of the whole grant, burst the same.
    pub rate: u16,
    /// Largest envelope, in KiB.
    pub max_kib: u16,
    /// Handed back to the owner with each envelope.
    pub tag: TagBlock,
}

/// Why bytes or a frame are not a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermitError {
    /// A field of wrong length.
    #[error(transparent)]
    Length(#[from] WrongLength),
    /// A version that this side does not know.
    #[error("unknown permit version")]
    Version,
    /// An unknown class, or a number that does not fit its field.
    #[error("permit field out of range")]
    Range,
}

impl Permit {
    /// The first expiry unit that lies at or after `unix_secs`: permits are rounded up so that they do not tell when they were made.
    #[must_use]
    pub fn expiry_at(unix_secs: u64) -> u32 {
        u32::try_from(unix_secs.div_ceil(limits::EXPIRY_UNIT_SECS)).unwrap_or(u32::MAX)
    }

    /// Whether the permit is still valid at `unix_secs`, relay's time.
    #[must_use]
    pub fn is_valid_at(&self, unix_secs: u64) -> bool {
        unix_secs < self.expires_unix_secs()
    }

    /// End of validity in Unix seconds.
    #[must_use]
    pub fn expires_unix_secs(&self) -> u64 {
        u64::from(self.expires) * limits::EXPIRY_UNIT_SECS
    }

    /// The canonical bytes that the MAC covers; also how a permit travels inside messages.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PERMIT_LEN] {
        let mut out = Vec::with_capacity(PERMIT_LEN);
        out.push(VERSION as u8);
        out.extend_from_slice(self.mailbox.as_bytes());
        out.extend_from_slice(self.grant.as_bytes());
        out.push(self.class.to_wire() as u8);
        out.extend_from_slice(&self.expires.to_be_bytes());
        out.extend_from_slice(&self.rate.to_be_bytes());
        out.extend_from_slice(&self.max_kib.to_be_bytes());
        out.extend_from_slice(self.tag.as_bytes());
        let mut fixed = [0; PERMIT_LEN];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// From canonical bytes; nothing but a permit of this version is accepted.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PermitError> {
        let b: [u8; PERMIT_LEN] = exact(bytes)?;
        let (version, b) = (b[0], &b[1..]);
        if u32::from(version) != VERSION {
            return Err(PermitError::Version);
        }
        Ok(Self {
            mailbox: MailboxId::from_slice(&b[..16])?,
            grant: GrantId::from_slice(&b[16..32])?,
            class: Class::from_wire(i32::from(b[32])).ok_or(PermitError::Range)?,
            expires: u32::from_be_bytes(exact(&b[33..37])?),
            rate: u16::from_be_bytes(exact(&b[37..39])?),
            max_kib: u16::from_be_bytes(exact(&b[39..41])?),
            tag: TagBlock::from_slice(&b[41..57])?,
        })
    }

    /// As a frame's field.
    #[must_use]
    pub fn to_frame(&self) -> frame::Permit {
        frame::Permit {
            version: VERSION,
            mailbox: self.mailbox.to_vec(),
            grant: self.grant.to_vec(),
            class: self.class.to_wire() as i32,
            expires: self.expires,
            rate: u32::from(self.rate),
            max_kib: u32::from(self.max_kib),
            tag: self.tag.to_vec(),
        }
    }

    /// From a frame's field.
    pub fn from_frame(f: &frame::Permit) -> Result<Self, PermitError> {
        if f.version != VERSION {
            return Err(PermitError::Version);
        }
        Ok(Self {
            mailbox: MailboxId::from_slice(&f.mailbox)?,
            grant: GrantId::from_slice(&f.grant)?,
            class: Class::from_wire(f.class).ok_or(PermitError::Range)?,
            expires: f.expires,
            rate: u16::try_from(f.rate).map_err(|_| PermitError::Range)?,
            max_kib: u16::try_from(f.max_kib).map_err(|_| PermitError::Range)?,
            tag: TagBlock::from_slice(&f.tag)?,
        })
    }
}

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From bytes read where such were written (or, for a root, made at random).
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            /// From a field.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, WrongLength> {
                exact(bytes).map(Self)
            }
            /// The secret bytes, to be stored or sent where it may be.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

secrets! {
    /// A mailbox's MAC root, known to its owner and its relay.
    MacRoot;
    /// A grant's key, derived from the root.
    GrantKey;
    /// A permit's MAC: whoever has it may use the permit. It travels only inside end-to-end encrypted messages (a
    /// contact permit's is public, in the bundle).
    PermitMac;
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a key with zeros to its hash's block; doing it here leaves no constructor that could fail.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = <HmacSha256 as KeyInit>::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl MacRoot {
    /// The key of a grant on this root's mailbox.
    #[must_use]
    pub fn grant_key(&self, grant: &GrantId) -> GrantKey {
        GrantKey(hmac(&self.0, &[label::GRANT, grant.as_bytes()]))
    }
}

impl GrantKey {
    /// The permit's MAC.
    #[must_use]
    pub fn mac(&self, permit: &Permit) -> PermitMac {
        PermitMac(hmac(&self.0, &[label::PERMIT, &permit.to_bytes()]))
    }
}

impl PermitMac {
    /// The proof that a send of `envelope` to the relay `name` carries.
    #[must_use]
    pub fn prove(&self, name: &RelayName, send: &SendId, envelope: &[u8]) -> [u8; 32] {
        let digest: [u8; 32] = Sha256::digest(envelope).into();
        hmac(&self.0, &[label::SEND, &name.prefixed(), send.as_bytes(), &digest])
    }

    /// Checks a proof in constant time. A proof of any other length than 32 bytes is refused (MLS-01).
    #[must_use]
    pub fn verify(&self, name: &RelayName, send: &SendId, envelope: &[u8], proof: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        let Ok(proof) = exact::<32>(proof) else { return false };
        self.prove(name, send, envelope).ct_eq(&proof).into()
    }
}

impl PermitMac {
    /// The proof that a request for a new blob carries to the relay `name`.
    #[must_use]
    pub fn prove_blob(&self, name: &RelayName, new: &crate::blob::NewBlob) -> [u8; 32] {
        hmac(&self.0, &[label::BLOB, &name.prefixed(), &new.proven()])
    }

    /// Checks such a proof in constant time.
    #[must_use]
    pub fn verify_blob(&self, name: &RelayName, new: &crate::blob::NewBlob, proof: &[u8; 32]) -> bool {
        use subtle::ConstantTimeEq;
        self.prove_blob(name, new).ct_eq(proof).into()
    }
}

/// A relay's name, as it states it and as it is bound into every proof.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelayName(String);

impl RelayName {
    /// A name of 1 to 255 bytes without control characters.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= limits::MAX_NAME && !name.chars().any(char::is_control);
        fits.then(|| Self(name.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One byte of length and the name, as layouts have it.
    #[must_use]
    pub fn prefixed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.0.len());
        out.push(self.0.len() as u8);
        out.extend_from_slice(self.0.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permit() -> Permit {
        Permit {
            mailbox: MailboxId::new([1; 16]),
            grant: GrantId::new([2; 16]),
            class: Class::Ordinary,
            expires: 82_000,
            rate: 600,
            max_kib: 96,
            tag: TagBlock::new([3; 16]),
        }
    }

    #[test]
    fn permits_survive_both_encodings() {
        let p = permit();
        assert_eq!(Permit::from_bytes(&p.to_bytes()), Ok(p));
        assert_eq!(Permit::from_frame(&p.to_frame()), Ok(p));
        let mut wrong = p.to_bytes();
        wrong[0] = 2;
        assert_eq!(Permit::from_bytes(&wrong), Err(PermitError::Version));
    }

    #[test]
    fn expiry_is_rounded_up_to_six_hours() {
        assert_eq!(Permit::expiry_at(1), 1);
        assert_eq!(Permit::expiry_at(21_600), 1);
        assert_eq!(Permit::expiry_at(21_601), 2);
        let p = Permit { expires: 1, ..permit() };
        assert!(p.is_valid_at(21_599));
        assert!(!p.is_valid_at(21_600));
    }

    /// MLS-01: every proper prefix, the empty and every extended proof is refused; so is every flipped bit.
    #[test]
    fn mls_01_a_proof_has_exactly_its_length() {
        let name = RelayName::new("relay.example").unwrap();
        let mac = MacRoot::new([7; 32]).grant_key(&GrantId::new([2; 16])).mac(&permit());
        let send = SendId::new([9; 16]);
        let proof = mac.prove(&name, &send, b"envelope");
        assert!(mac.verify(&name, &send, b"envelope", &proof));
        for len in 0..32 {
            assert!(!mac.verify(&name, &send, b"envelope", &proof[..len]));
        }
        let mut longer = proof.to_vec();
        longer.push(0);
        assert!(!mac.verify(&name, &send, b"envelope", &longer));
        for bit in 0..256 {
            let mut flipped = proof;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!mac.verify(&name, &send, b"envelope", &flipped));
        }
        assert!(!mac.verify(&name, &SendId::new([8; 16]), b"envelope", &proof));
        assert!(!mac.verify(&name, &send, b"envelopf", &proof));
        assert!(!mac.verify(&RelayName::new("other.example").unwrap(), &send, b"envelope", &proof));
    }

    proptest! {
        /// Each field is under the MAC: no two permits that differ share one.
        #[test]
        fn every_field_is_authenticated(index in 1usize..PERMIT_LEN, flip in 1u8..) {
            let key = MacRoot::new([7; 32]).grant_key(&GrantId::new([2; 16]));
            let mut bytes = permit().to_bytes();
            bytes[index] ^= flip;
            if let Ok(other) = Permit::from_bytes(&bytes) {
                let (theirs, ours) = (key.mac(&other), key.mac(&permit()));
                prop_assert_ne!(theirs.expose(), ours.expose());
            }
        }

        #[test]
        fn any_bytes_are_a_permit_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(p) = Permit::from_bytes(&bytes) {
                prop_assert_eq!(&p.to_bytes()[..], &bytes[..]);
            }
        }
    }
}
