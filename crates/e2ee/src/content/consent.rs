//! A customer's word that a business may write to it for a purpose, or may no more (`application/vnd.bulla.consent+cbor`): signed, so that the business
//! can show it to others.
//!
//! `Consent = [version, Signed: bstr]`, `Signed` (label `CONSENT`, by the pseudonym or by a linked device's leaf key) over
//! `[1, business: bstr 32, pseudonym's public key: bstr 32, purpose: uint, given: bool, wording: tstr, at: uint (Unix ms), ? certificate: bstr]`.
//!
//! The right itself is a permit, which comes with the first and is revoked at the relay before the second is said.

use bulla_protocol::label;

use super::ContentError;
use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, Expect};
use crate::continues::Speaker;
use crate::identity::{IdentityHash, UserId};
use crate::signed::{self, Unverified};
use crate::tag::Purpose;
use crate::{VERSION, limits};

/// Bytes of a statement with a certificate and the longest wording.
const STATEMENT: usize = limits::CERTIFICATE + limits::CAPTION + 512;

/// Not a statement of this customer to this business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a consent of this customer to this business")]
pub struct ConsentError;

impl From<Malformed> for ConsentError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// A statement whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// For what: notifications or marketing.
    pub purpose: Purpose,
    /// Given, or withdrawn.
    pub given: bool,
    /// The words under which the person decided, as they stood on the screen.
    pub wording: String,
    /// When, by the customer's clock, Unix ms.
    pub at_ms: u64,
}

impl Consent {
    /// Signs it. Fails where the purpose is none that can be agreed to, or the wording is too long.
    pub fn sign(&self, speaker: &Speaker<'_>, business: &IdentityHash) -> Result<Vec<u8>, ConsentError> {
        let (key, identity, certificate) = match speaker {
            Speaker::Customer(pseudonym) => (pseudonym.key(), pseudonym.public(), None),
            Speaker::Linked(device) => {
                let certificate = device.certificate();
                (device.leaf().signing(), *certificate.identity(), Some(certificate.as_bytes()))
            }
            Speaker::Business(_) => return Err(ConsentError),
        };
        if !can_be_given(self.purpose) || self.wording.len() > limits::CAPTION {
            return Err(ConsentError);
        }
        let w = Writer::new()
            .array(if certificate.is_some() { 8 } else { 7 })
            .uint(u64::from(VERSION))
            .bytes(business.as_bytes())
            .bytes(&identity)
            .uint(u64::from(self.purpose.to_wire()))
            .bool(self.given)
            .text(&self.wording)
            .uint(self.at_ms);
        let w = certificate.into_iter().fold(w, Writer::bytes);
        Ok(signed::sign(key, label::CONSENT, &w.finish()))
    }

    /// Reads a statement of the customer `user` to `business` and checks its signature.
    pub fn verify(statement: &[u8], business: &IdentityHash, user: &UserId) -> Result<Self, ConsentError> {
        let unverified = Unverified::parse(statement, STATEMENT)?;
        let mut r = Reader::new(unverified.payload())?;
        let more = r.versioned(7, ConsentError)?;
        let of: [u8; 32] = r.exact()?;
        let identity: [u8; 32] = r.exact()?;
        let purpose = Purpose::from_wire(r.uint()?).filter(|p| can_be_given(*p)).ok_or(ConsentError)?;
        let given = r.bool()?;
        let wording = r.text(limits::CAPTION)?.to_owned();
        let at_ms = r.uint()?;
        let certificate = match more {
            0 => None,
            _ => {
                let bytes = r.bytes(limits::CERTIFICATE)?;
                let verified = Certificate::verify_ever(bytes, &Expect::customer(*business, identity));
                Some(verified.map_err(|_| ConsentError)?)
            }
        };
        r.skip_rest(more.saturating_sub(1))?;
        let key = certificate.as_ref().map_or(&identity, Certificate::leaf);
        let is_theirs = of == *business.as_bytes() && UserId::of(business, &identity) == *user;
        if !is_theirs || !unverified.is_signed_by(key, label::CONSENT) {
            return Err(ConsentError);
        }
        Ok(Self { purpose, given, wording, at_ms })
    }
}

/// Answers and what programs say to each other need no word of the person.
fn can_be_given(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Notifications | Purpose::Marketing)
}

pub(super) fn fits(statement: &[u8]) -> bool {
    statement.len() <= STATEMENT
}

pub(super) fn encode(statement: &[u8]) -> Vec<u8> {
    Writer::new().array(2).uint(u64::from(VERSION)).bytes(statement).finish()
}

/// The statement, unverified; `None`: of a later version.
pub(super) fn read(content: &[u8]) -> Result<Option<Vec<u8>>, ContentError> {
    let mut r = Reader::new(content)?;
    let len = r.list()?;
    if len < 2 || r.uint()? != u64::from(VERSION) {
        return Ok(None);
    }
    Ok(Some(r.bytes(STATEMENT).map_err(|Malformed| ContentError::Limit)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::identity::{BusinessIdentity, Pseudonym};
    use crate::suite::Suites;
    use rand_core::OsRng;

    fn consent(purpose: Purpose) -> Consent {
        Consent { purpose, given: true, wording: "Offers, at most once a week".into(), at_ms: 1_800_000_000_000 }
    }

    #[test]
    fn a_statement_is_of_one_customer_to_one_business_and_cannot_be_changed() {
        let (shop, anna) = (BusinessIdentity::generate(&mut OsRng).hash(), Pseudonym::generate(&mut OsRng));
        let user = anna.user_id(&shop);
        let given = consent(Purpose::Marketing);
        let statement = given.sign(&Speaker::Customer(&anna), &shop).unwrap();
        assert_eq!(Consent::verify(&statement, &shop, &user), Ok(given));
        let (other_shop, other) = (BusinessIdentity::generate(&mut OsRng).hash(), Pseudonym::generate(&mut OsRng));
        assert!(Consent::verify(&statement, &other_shop, &anna.user_id(&other_shop)).is_err());
        assert!(Consent::verify(&statement, &shop, &other.user_id(&shop)).is_err());
        for at in 0..statement.len() {
            let mut changed = statement.clone();
            changed[at] ^= 1;
            assert!(Consent::verify(&changed, &shop, &user).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_linked_device_signs_with_its_own_key_for_its_customer() {
        let (shop, anna) = (BusinessIdentity::generate(&mut OsRng).hash(), Pseudonym::generate(&mut OsRng));
        let device = |of: &Pseudonym| Device::issue(of, &shop, Suites::ALL, 1_800_000_000, &mut OsRng).unwrap();
        let sign = |device: &Device| consent(Purpose::Notifications).sign(&Speaker::Linked(device), &shop).unwrap();
        let user = anna.user_id(&shop);
        assert!(Consent::verify(&sign(&device(&anna)), &shop, &user).is_ok());
        assert!(Consent::verify(&sign(&device(&Pseudonym::generate(&mut OsRng))), &shop, &user).is_err());
    }

    #[test]
    fn only_what_can_be_agreed_to_is_signed_and_only_by_customers() {
        let (identity, anna) = (BusinessIdentity::generate(&mut OsRng), Pseudonym::generate(&mut OsRng));
        for purpose in [Purpose::Service, Purpose::Control, Purpose::Contact] {
            assert!(consent(purpose).sign(&Speaker::Customer(&anna), &identity.hash()).is_err());
        }
        assert!(consent(Purpose::Marketing).sign(&Speaker::Business(&identity), &identity.hash()).is_err());
        let long = Consent { wording: "x".repeat(limits::CAPTION + 1), ..consent(Purpose::Marketing) };
        assert!(long.sign(&Speaker::Customer(&anna), &identity.hash()).is_err());
    }
}
