//! *Continues*: the statement with which somebody brings the other side into a new group of the same conversation (envelope kind 3).
//!
//! `[Signed, Welcome: bstr]`, `Signed` by the identity or pseudonym key under label `CONTINUES` over
//! `[1, role: uint, identity key: bstr 32, business: bstr 32, user id: tstr, at: uint, reason: uint, SHA-256(Welcome): bstr 32,
//! heard: [* bstr 32], before: uint, seen: uint]`.
//!
//! A customer's linked device, which does not have the pseudonym's key, signs with its leaf key and appends its certificate to the payload;
//! whether that device is still one of the customer's is for the reader to see in the group that it knows.
//!
//! An empty Welcome says that the speaker has no KeyPackage of the other side, and asks it to begin.
//!
//! `at` orders the statements of one side ([`Turn`]): an older one than the newest known is a replay. `heard` are the newest messages of the other side
//! that the speaker still has; what came after them, the other side says again.

use bulla_protocol::label;
use sha2::{Digest as _, Sha256};

use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, Expect, Role};
use crate::content::MessageId;
use crate::device::Device;
use crate::identity::{BusinessIdentity, IdentityHash, Pseudonym, UserId};
use crate::signed::{self, Unverified};
use crate::{VERSION, limits};

/// Why a conversation is continued in a new group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The two sides had different groups.
    Fork,
    /// Messages or commits are missing for good.
    Gap,
    /// This endpoint went back to an older state, or a copy of it was used.
    Restored,
    /// A newer suite or version.
    Newer,
    /// Its reader comes in: a commit has added it.
    Joined,
    /// Of a later version.
    Other(u64),
}

impl Reason {
    fn to_wire(self) -> u64 {
        match self {
            Self::Fork => 1,
            Self::Gap => 2,
            Self::Restored => 3,
            Self::Newer => 4,
            Self::Joined => 5,
            Self::Other(value) => value,
        }
    }

    fn from_wire(value: u64) -> Self {
        match value {
            1 => Self::Fork,
            2 => Self::Gap,
            3 => Self::Restored,
            4 => Self::Newer,
            5 => Self::Joined,
            other => Self::Other(other),
        }
    }
}

/// Why a statement is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContinuesError {
    /// Not about this conversation, or nobody signed it.
    #[error("not a statement that continues this conversation")]
    Refused,
    /// Of a later version than this program knows.
    #[error("a statement of a later version than this program")]
    Newer,
}

impl From<Malformed> for ContinuesError {
    fn from(_: Malformed) -> Self {
        Self::Refused
    }
}

/// Who says it.
#[derive(Debug, Clone, Copy)]
pub enum Speaker<'a> {
    /// The business.
    Business(&'a BusinessIdentity),
    /// The customer.
    Customer(&'a Pseudonym),
    /// A linked device of the customer.
    Linked(&'a Device),
}

/// A statement whose signature was checked to the key in it. Whether that is the key that one knows is for the reader to see: another key
/// is a key change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continues {
    /// Which side says it.
    pub role: Role,
    /// Under which identity or pseudonym key.
    pub identity: [u8; 32],
    /// The name of the linked device that says it; nothing if the identity itself does.
    pub device: Option<String>,
    /// Its place among the statements of both sides.
    pub turn: Turn,
    /// Why.
    pub reason: Reason,
    /// The newest messages of the other side that the speaker has.
    pub heard: Vec<MessageId>,
    /// The Welcome into the new group; empty if the other side is asked to begin.
    pub welcome: Vec<u8>,
}

/// A statement's place among others: numbers that only grow, per side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Its own: Unix ms by the speaker's clock, times 1,024, plus a number that differs between the endpoints of a side.
    pub at: u64,
    /// The newest of the speaker's own side that it knew.
    pub before: u64,
    /// The newest of the other side that it knew.
    pub seen: u64,
}

/// Turns in a millisecond.
const TURNS: u64 = 1_024;

impl Turn {
    /// No turn of this time or later is below.
    #[must_use]
    pub const fn since(now_ms: u64) -> u64 {
        now_ms.saturating_mul(TURNS)
    }

    /// The next one after `before`, at an endpoint of this name.
    #[must_use]
    pub fn next(now_ms: u64, endpoint: &str, before: u64, seen: u64) -> Self {
        let [a, b, ..] = <[u8; 32]>::from(Sha256::digest(endpoint.as_bytes()));
        let tie = u64::from(u16::from_be_bytes([a, b])) % TURNS;
        Self { at: Self::since(now_ms.max(before / TURNS + 1)) + tie, before, seen }
    }
}

/// Ids in one statement.
pub const HEARD: usize = 16;

impl Continues {
    /// Signs a statement.
    pub fn seal(
        speaker: &Speaker<'_>,
        business: &IdentityHash,
        user: &UserId,
        turn: &Turn,
        reason: Reason,
        heard: &[MessageId],
        welcome: &[u8],
    ) -> Result<Vec<u8>, ContinuesError> {
        if heard.len() > HEARD || welcome.len() > limits::WELCOME {
            return Err(ContinuesError::Refused);
        }
        let (key, role, identity, certificate) = match speaker {
            Speaker::Business(identity) => (identity.key(), Role::Business, identity.public(), None),
            Speaker::Customer(pseudonym) => (pseudonym.key(), Role::Customer, pseudonym.public(), None),
            Speaker::Linked(device) => {
                let certificate = device.certificate();
                (device.leaf().signing(), Role::Customer, *certificate.identity(), Some(certificate.as_bytes()))
            }
        };
        let digest: [u8; 32] = Sha256::digest(welcome).into();
        let w = Writer::new()
            .array(if certificate.is_some() { 12 } else { 11 })
            .uint(u64::from(VERSION))
            .uint(role.to_wire())
            .bytes(&identity)
            .bytes(business.as_bytes())
            .text(user.as_str())
            .uint(turn.at)
            .uint(reason.to_wire())
            .bytes(&digest);
        let w = heard.iter().fold(w.array(heard.len()), |w, id| w.bytes(id.as_bytes()));
        let w = w.uint(turn.before).uint(turn.seen);
        let w = certificate.into_iter().fold(w, Writer::bytes);
        let signed = signed::sign(key, label::CONTINUES, &w.finish());
        Ok(Writer::new().array(2).bytes(&signed).bytes(welcome).finish())
    }

    /// Reads a statement about the conversation of `business` and `user`, and checks its signature.
    pub fn open(body: &[u8], business: &IdentityHash, user: &UserId) -> Result<Self, ContinuesError> {
        let mut outer = Reader::new(body)?;
        let more = outer.array(2)?;
        let signed = outer.bytes(2 * limits::CERTIFICATE + HEARD * 40)?;
        let welcome = outer.bytes(limits::WELCOME)?;
        // What is not under a signature must not exist: a later version adds to what is signed.
        if more != 0 {
            return Err(ContinuesError::Refused);
        }
        let unverified = Unverified::parse(signed, signed.len())?;
        let mut r = Reader::new(unverified.payload())?;
        let more = r.versioned(11, ContinuesError::Newer)?;
        let role = Role::from_wire(r.uint()?).ok_or(ContinuesError::Refused)?;
        let identity: [u8; 32] = r.exact()?;
        let of: [u8; 32] = r.exact()?;
        let with = r.text(64)?;
        let (at, reason) = (r.uint()?, Reason::from_wire(r.uint()?));
        let digest: [u8; 32] = r.exact()?;
        let count = r.list_max(HEARD)?;
        let heard = (0..count).map(|_| Ok(MessageId::new(r.exact()?))).collect::<Result<Vec<_>, Malformed>>()?;
        let turn = Turn { at, before: r.uint()?, seen: r.uint()? };
        // A linked device's certificate comes last.
        let device = match more {
            0 => None,
            _ => Some(r.bytes(limits::CERTIFICATE)?),
        };
        r.skip_rest(more.saturating_sub(1))?;
        let device = match device {
            None => None,
            Some(bytes) => {
                let expect = Expect { role, business: *business, identity: Some(identity) };
                Some(Certificate::verify_ever(bytes, &expect).map_err(|_| ContinuesError::Refused)?)
            }
        };
        let key = device.as_ref().map_or(&identity, Certificate::leaf);
        let is_about = of == *business.as_bytes() && with == user.as_str();
        let is_whole = digest == <[u8; 32]>::from(Sha256::digest(welcome));
        if !is_about || !is_whole || !unverified.is_signed_by(key, label::CONTINUES) {
            return Err(ContinuesError::Refused);
        }
        let device = device.map(|c| c.endpoint().to_owned());
        Ok(Self { role, identity, device, turn, reason, heard, welcome: welcome.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suites;
    use rand_core::OsRng;

    const TURN: Turn = Turn { at: 5, before: 4, seen: 3 };

    #[test]
    fn turns_grow_and_differ_between_devices() {
        let first = Turn::next(7, "phone", 0, 0);
        assert!(Turn::next(7, "phone", first.at, 0).at > first.at, "also where the clock stands still");
        assert!(Turn::next(1, "tablet", first.at, 0).at > first.at, "or goes back");
        assert_ne!(Turn::next(7, "tablet", 0, 0).at, first.at);
    }

    #[test]
    fn a_statement_is_about_one_conversation_and_cannot_be_changed() {
        let shop = BusinessIdentity::generate(&mut OsRng);
        let anna = Pseudonym::generate(&mut OsRng);
        let (business, user) = (shop.hash(), UserId::of(&shop.hash(), &anna.public()));
        let ids = [MessageId::new([7; 32])];
        let speaker = Speaker::Business(&shop);
        let body = Continues::seal(&speaker, &business, &user, &TURN, Reason::Restored, &ids, b"welcome").unwrap();
        let read = Continues::open(&body, &business, &user).unwrap();
        assert_eq!((read.role, read.identity), (Role::Business, shop.public()));
        assert_eq!(
            (read.turn, read.reason, &read.heard[..], &read.welcome[..]),
            (TURN, Reason::Restored, &ids[..], &b"welcome"[..])
        );
        let other = UserId::of(&business, &[9; 32]);
        assert_eq!(Continues::open(&body, &business, &other), Err(ContinuesError::Refused));
        for at in 0..body.len() {
            let mut turned = body.clone();
            turned[at] ^= 1;
            assert!(Continues::open(&turned, &business, &user).is_err(), "byte {at}");
            assert!(Continues::open(&body[..at], &business, &user).is_err(), "length {at}");
        }
    }

    #[test]
    fn a_linked_device_speaks_for_its_pseudonym_under_its_own_name() {
        let shop = BusinessIdentity::generate(&mut OsRng);
        let anna = Pseudonym::generate(&mut OsRng);
        let (business, user) = (shop.hash(), UserId::of(&shop.hash(), &anna.public()));
        let device = Device::issue(&anna, &business, Suites::DEFAULT, 1_800_000_000, &mut OsRng).unwrap();
        let body = Continues::seal(&Speaker::Linked(&device), &business, &user, &TURN, Reason::Gap, &[], b"").unwrap();
        let read = Continues::open(&body, &business, &user).unwrap();
        assert_eq!((read.role, read.identity), (Role::Customer, anna.public()));
        assert_eq!(read.device.as_deref(), Some(device.certificate().endpoint()));
        for at in 0..body.len() {
            let mut turned = body.clone();
            turned[at] ^= 1;
            assert!(Continues::open(&turned, &business, &user).is_err(), "byte {at}");
        }
    }

    #[test]
    fn limits_hold_at_n_and_n_plus_1() {
        let shop = BusinessIdentity::generate(&mut OsRng);
        let (business, user) = (shop.hash(), UserId::of(&shop.hash(), &[1; 32]));
        let seal = |ids: usize, welcome: usize| {
            let ids = vec![MessageId::new([1; 32]); ids];
            Continues::seal(&Speaker::Business(&shop), &business, &user, &TURN, Reason::Gap, &ids, &vec![0; welcome])
        };
        let largest = seal(HEARD, limits::WELCOME).unwrap();
        assert!(Continues::open(&largest, &business, &user).is_ok());
        assert!(seal(HEARD + 1, 1).is_err() && seal(1, limits::WELCOME + 1).is_err());
    }
}
