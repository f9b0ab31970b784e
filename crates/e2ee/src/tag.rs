//! The tag: one block inside a permit that only the mailbox's owner can open.
//!
//! The relay hands it back with each envelope, so that the owner knows conversation, purpose and key, and the relay none of them.
//! All plaintext blocks differ, so one call of the block cipher is a permutation that leaks nothing, not even equality.
//! Authenticity comes from the envelope, whose associated data is the tag.

use core::fmt;

use aes::Aes256;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use bulla_protocol::id::TagBlock;
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What a permit is for. It is consent: each purpose is given, seen and withdrawn by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Purpose {
    /// Answers within the service window.
    Service = 1,
    /// Notifications that the customer asked for.
    Notifications = 2,
    /// Marketing that the customer asked for.
    Marketing = 3,
    /// Receipts, renewals, reader lists: never shown as content.
    Control = 4,
    /// A business's public door.
    Contact = 5,
}

impl Purpose {
    /// From its number.
    #[must_use]
    pub fn from_wire(value: u64) -> Option<Self> {
        match value {
            1 => Some(Self::Service),
            2 => Some(Self::Notifications),
            3 => Some(Self::Marketing),
            4 => Some(Self::Control),
            5 => Some(Self::Contact),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn to_wire(self) -> u8 {
        self as u8
    }
}

/// What a tag says; the numbers are the owner's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// The owner's number of the conversation; 0 where there is none yet.
    pub conversation: u64,
    /// What the permit is for.
    pub purpose: Purpose,
    /// The owner's number of the permit within its conversation, never used twice.
    pub serial: u32,
}

/// Seals the tags of one mailbox.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TagKey([u8; 32]);

impl TagKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// From stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret, to be stored where secrets may be.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// `u64 conversation ‖ u8 purpose ‖ u32 serial ‖ 3 zero bytes`, encrypted.
    #[must_use]
    pub fn seal(&self, tag: &Tag) -> TagBlock {
        let mut block = [0; 16];
        let (conversation, rest) = block.split_at_mut(8);
        conversation.copy_from_slice(&tag.conversation.to_be_bytes());
        if let [purpose, s0, s1, s2, s3, ..] = rest {
            *purpose = tag.purpose.to_wire();
            [*s0, *s1, *s2, *s3] = tag.serial.to_be_bytes();
        }
        let mut block = block.into();
        Aes256::new(&self.0.into()).encrypt_block(&mut block);
        TagBlock::new(block.into())
    }

    /// What a block says, unless it was not made with this key.
    #[must_use]
    pub fn open(&self, block: &TagBlock) -> Option<Tag> {
        let mut block = (*block.as_bytes()).into();
        Aes256::new(&self.0.into()).decrypt_block(&mut block);
        let [c0, c1, c2, c3, c4, c5, c6, c7, purpose, s0, s1, s2, s3, 0, 0, 0] = <[u8; 16]>::from(block) else {
            return None;
        };
        Some(Tag {
            conversation: u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            purpose: Purpose::from_wire(u64::from(purpose))?,
            serial: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Purpose; 5] =
        [Purpose::Service, Purpose::Notifications, Purpose::Marketing, Purpose::Control, Purpose::Contact];

    proptest! {
        #[test]
        fn only_its_own_key_opens_a_tag(conversation: u64, serial: u32, purpose in 0usize..5, a: [u8; 32], b: [u8; 32]) {
            let tag = Tag { conversation, purpose: ALL[purpose], serial };
            let block = TagKey::from_bytes(a).seal(&tag);
            prop_assert_eq!(TagKey::from_bytes(a).open(&block), Some(tag));
            if a != b {
                prop_assert_ne!(TagKey::from_bytes(b).open(&block), Some(tag));
            }
        }

        #[test]
        fn mls_02_any_block_is_a_tag_or_nothing(key: [u8; 32], block: [u8; 16]) {
            let key = TagKey::from_bytes(key);
            if let Some(tag) = key.open(&TagBlock::new(block)) {
                prop_assert_eq!(key.seal(&tag), TagBlock::new(block));
            }
        }
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", TagKey::from_bytes([1; 32])), "TagKey(redacted)");
    }
}
