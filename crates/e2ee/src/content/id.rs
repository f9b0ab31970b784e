//! Message ids, and the URIs that go into them. All outlive groups, devices and leaf keys.

use core::fmt;
use core::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::identity::{IdentityHash, UserId};

/// The hash algorithm's number (SHA-256) in the IANA registry of named information.
const SHA_256: u8 = 0x01;
const WAMID: &str = "wamid.";

/// A text is not the message id that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id")]
pub struct MessageIdError;

/// A message's id: hash algorithm and the first 31 bytes of the hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// From bytes that were stored or said.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of a content: over sender, room, its exact bytes and its salt.
    #[must_use]
    pub fn of(sender: &SenderUri, room: &RoomUri, content: &[u8], salt: &[u8; 16]) -> Self {
        Self::of_uris(sender.as_str(), room.as_str(), content, salt)
    }

    /// As [`Self::of`], for URIs of any scheme, each at most 65,535 bytes.
    #[must_use]
    pub fn of_uris(sender: &str, room: &str, content: &[u8], salt: &[u8; 16]) -> Self {
        let prefix = |uri: &str| u16::try_from(uri.len()).unwrap_or(u16::MAX).to_be_bytes();
        let hash: [u8; 32] = Sha256::new()
            .chain_update(prefix(sender))
            .chain_update(sender)
            .chain_update(prefix(room))
            .chain_update(room)
            .chain_update(content)
            .chain_update(salt)
            .finalize()
            .into();
        let mut id = [SHA_256; 32];
        for (to, from) in id.iter_mut().skip(1).zip(hash) {
            *to = from;
        }
        Self(id)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As the Cloud API writes it.
    #[must_use]
    pub fn to_wamid(&self) -> String {
        format!("{WAMID}{}", BASE64URL_NOPAD.encode(&self.0))
    }

    /// From what the Cloud API's user says.
    pub fn from_wamid(text: &str) -> Result<Self, MessageIdError> {
        let rest = text.strip_prefix(WAMID).ok_or(MessageIdError)?;
        let bytes = BASE64URL_NOPAD.decode(rest.as_bytes()).map_err(|_| MessageIdError)?;
        bytes.try_into().map(Self).map_err(|_| MessageIdError)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_wamid())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, a, b, c, d, ..] = self.0;
        write!(f, "MessageId({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        Self::from_wamid(text)
    }
}

/// Who says something, as it goes into message ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SenderUri(String);

impl SenderUri {
    /// `bulla:b/<identity hash>`.
    #[must_use]
    pub fn business(business: &IdentityHash) -> Self {
        Self(format!("bulla:b/{}", business.base32()))
    }

    /// `bulla:c/<user id>`.
    #[must_use]
    pub fn customer(user: &UserId) -> Self {
        Self(format!("bulla:c/{user}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where something is said, as it goes into message ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoomUri(String);

impl RoomUri {
    /// `bulla:r/<identity hash>/<user id>`.
    #[must_use]
    pub fn new(business: &IdentityHash, user: &UserId) -> Self {
        Self(format!("bulla:r/{}/{user}", business.base32()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wamid_is_its_message_id_and_nothing_else_is() {
        let id = MessageId::new([0xa5; 32]);
        assert_eq!(MessageId::from_wamid(&id.to_wamid()), Ok(id));
        let wamid = id.to_wamid();
        for wrong in ["", "wamid.", &wamid[6..], &wamid[..48], &format!("{wamid}="), &wamid.to_uppercase()] {
            assert_eq!(MessageId::from_wamid(wrong), Err(MessageIdError), "{wrong}");
        }
    }

    #[test]
    fn uris_have_the_protocols_form() {
        let business = IdentityHash::new([0; 32]);
        let user = UserId::of(&business, &[0; 32]);
        let zeros = "a".repeat(52);
        assert_eq!(SenderUri::business(&business).as_str(), format!("bulla:b/{zeros}"));
        assert_eq!(SenderUri::customer(&user).as_str(), format!("bulla:c/{user}"));
        assert_eq!(RoomUri::new(&business, &user).as_str(), format!("bulla:r/{zeros}/{user}"));
    }
}
