//! The right to write: what others gave, what was given to others, and what was taken back.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Id, Secret, SecretVec};

/// `Permits`, by conversation, member and purpose: the newest that the member gave.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct PermitRecord {
    /// URL of the relay where it counts.
    #[n(0)]
    pub relay: String,
    /// The given permit, as the e2ee crate encodes it.
    #[n(1)]
    pub given: SecretVec,
    /// The relay refused it. It is kept all the same: by its grant its giver is known again.
    #[n(2)]
    pub void: Option<bool>,
}

/// `Grants`, by serial.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct GrantRecord {
    /// Whose right it is.
    #[n(0)]
    pub conversation: u64,
    /// For what.
    #[n(1)]
    pub purpose: u8,
    /// The grant's id.
    #[n(2)]
    pub grant: Id,
    /// On which mailbox.
    #[n(3)]
    pub mailbox: Id,
    /// Envelopes under it are sealed with this.
    #[n(4)]
    pub envelope_key: Secret,
    /// Revoked here; told to the relay again whenever its instance changes.
    #[n(5)]
    pub revoked: bool,
}

/// `Meta "revoked"`, by serial: a grant that was revoked here.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct RevokedRecord {
    /// The relay's instance that has confirmed it.
    #[n(0)]
    pub told: Option<Id>,
}

/// `Meta "knock"`, by conversation: the newest Hello of a customer who is blocked, as it came.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub struct KnockRecord {
    /// In which mailbox.
    #[n(0)]
    pub mailbox: Id,
    /// With which tag.
    #[n(1)]
    pub tag: Id,
    /// To which bundle.
    #[n(2)]
    pub serial: u32,
    /// The envelope.
    #[n(3)]
    pub envelope: ByteVec,
}
