//! What a business tells a device that the conversation goes on without: its customer has come back on another one, or was never here.
//!
//! `Signed` (label `TURNED_AWAY`, by the identity key) over
//! `[1, reason: uint, business: bstr 32 (identity hash), user id: tstr, device: tstr]`, as the body of an envelope under that device's `control`.
//!
//! It is about one device, by the name that it has in its certificate. A device that its person brings back takes another name, so that
//! nothing that was said to it before counts.

use bulla_protocol::label;

use crate::cbor::{Malformed, Reader, Writer};
use crate::identity::{BusinessIdentity, IdentityHash, UserId};
use crate::signed::{self, Unverified};
use crate::{VERSION, limits};

/// Why the conversation goes on without a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The customer has come back on another device, with the recovery code.
    Elsewhere,
    /// It says that it was here before, and there is no such customer.
    Unknown,
    /// Of a later version.
    Other(u64),
}

impl Reason {
    const fn to_wire(self) -> u64 {
        match self {
            Self::Elsewhere => 1,
            Self::Unknown => 2,
            Self::Other(other) => other,
        }
    }

    const fn from_wire(value: u64) -> Self {
        match value {
            1 => Self::Elsewhere,
            2 => Self::Unknown,
            other => Self::Other(other),
        }
    }
}

/// Bytes are not this statement, or not about this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnedAwayError {
    /// Not such a statement, not signed by the business, or about another conversation or device.
    #[error("no statement of this business about this device")]
    Refused,
    /// Of a later version than this program knows.
    #[error("it is of a later version than this program")]
    Newer,
}

impl From<Malformed> for TurnedAwayError {
    fn from(_: Malformed) -> Self {
        Self::Refused
    }
}

/// Signs a statement about a device.
#[must_use]
pub fn seal(identity: &BusinessIdentity, user: &UserId, device: &str, reason: Reason) -> Vec<u8> {
    let w = Writer::new().array(5).uint(u64::from(VERSION)).uint(reason.to_wire());
    let w = w.bytes(identity.hash().as_bytes()).text(user.as_str()).text(device);
    signed::sign(identity.key(), label::TURNED_AWAY, &w.finish())
}

/// Reads what the business with this key says of a device of this customer.
pub fn open(body: &[u8], identity: &[u8; 32], user: &UserId, device: &str) -> Result<Reason, TurnedAwayError> {
    let unverified = Unverified::parse(body, limits::CERTIFICATE)?;
    if !unverified.is_signed_by(identity, label::TURNED_AWAY) {
        return Err(TurnedAwayError::Refused);
    }
    let mut r = Reader::new(unverified.payload())?;
    let more = r.versioned(5, TurnedAwayError::Newer)?;
    let reason = Reason::from_wire(r.uint()?);
    let is_ours = r.exact::<32>()? == *IdentityHash::of(identity).as_bytes()
        && r.text(limits::NAME)? == user.as_str()
        && r.text(limits::ENDPOINT)? == device;
    r.skip_rest(more)?;
    if is_ours { Ok(reason) } else { Err(TurnedAwayError::Refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Pseudonym;
    use rand_core::OsRng;

    #[test]
    fn only_the_business_says_it_and_of_one_device() {
        let (shop, other) = (BusinessIdentity::generate(&mut OsRng), BusinessIdentity::generate(&mut OsRng));
        let anna = Pseudonym::generate(&mut OsRng);
        let user = anna.user_id(&shop.hash());
        let body = seal(&shop, &user, "phone", Reason::Elsewhere);
        assert_eq!(open(&body, &shop.public(), &user, "phone"), Ok(Reason::Elsewhere));
        let refused = Err(TurnedAwayError::Refused);
        assert_eq!(open(&body, &other.public(), &user, "phone"), refused);
        assert_eq!(open(&body, &shop.public(), &anna.user_id(&other.hash()), "phone"), refused);
        assert_eq!(open(&body, &shop.public(), &user, "tablet"), refused);
        assert_eq!(open(&seal(&other, &user, "phone", Reason::Elsewhere), &shop.public(), &user, "phone"), refused);
        for at in 0..body.len() {
            let mut torn = body.clone();
            torn[at] ^= 1;
            assert_eq!(open(&torn, &shop.public(), &user, "phone"), refused, "{at}");
            assert_eq!(open(&body[..at], &shop.public(), &user, "phone"), refused, "{at}");
        }
        let later = Writer::new().array(1).uint(2).finish();
        let later = signed::sign(shop.key(), label::TURNED_AWAY, &later);
        assert_eq!(open(&later, &shop.public(), &user, "phone"), Err(TurnedAwayError::Newer));
    }
}
