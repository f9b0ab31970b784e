//! Random names. Each kind is a type of its own, so that one cannot stand for another (KEY-04).

use core::fmt;

/// The bytes were not of the length that the kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes, got {got}")]
pub struct WrongLength {
    /// Bytes the kind has.
    pub expected: usize,
    /// Bytes that were given.
    pub got: usize,
}

/// Copies exactly `N` bytes, or tells how many there were.
pub fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WrongLength> {
    bytes.try_into().map_err(|_| WrongLength { expected: N, got: bytes.len() })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident: $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// From bytes that were made at random, or read where such were written.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
            /// From a field of a frame.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, WrongLength> {
                exact(bytes).map(Self)
            }
            /// The bytes, as they go into frames, hashes and keys of stores.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
            /// The bytes, owned, for a frame's field.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
            /// Lowercase hexadecimal, as it stands in URLs.
            pub fn to_hex(self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }
            /// From lowercase hexadecimal.
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
                Self::from_slice(&bytes).ok()
            }
        }

        impl fmt::Debug for $name {
            /// The first four bytes: enough to tell two apart in a log, not enough to use.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), a, b, c, d)
            }
        }
    )*};
}

ids! {
    /// A queue on a relay, random, owned by one endpoint's key.
    MailboxId: 16;
    /// A revocable right to write to one mailbox, random.
    GrantId: 16;
    /// One envelope on its way, random, the same on every retry.
    SendId: 16;
    /// What makes one incarnation differ from a clone that raised the same number, random.
    IncarnationNonce: 16;
    /// A relay's installation; a new one tells that it was restored from a backup.
    InstanceId: 16;
    /// What a relay asks a connection to sign, fresh per connection.
    Challenge: 32;
    /// A commit slot: a write-once cell of a relay, from an MLS exporter, so that only the group's members know it.
    SlotId: 32;
    /// A sealed attachment at a relay, random.
    BlobId: 16;
    /// One block that only a mailbox's owner can open: conversation, purpose, serial.
    TagBlock: 16;
}

/// An endpoint's incarnation: a number that it raised and stored durably at its start, and a nonce made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Raised by one at every start.
    pub number: u64,
    /// Tells apart two clones that raised to the same number.
    pub nonce: IncarnationNonce,
}

impl Incarnation {
    /// Whether this one may take or keep a mailbox whose highest known incarnation is `held`.
    #[must_use]
    pub fn holds_against(&self, held: &Self) -> bool {
        self.number > held.number || self == held
    }
}
