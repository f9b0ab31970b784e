//! Further devices of a customer: a leaf key with a certificate of the pseudonym, and how such a device comes into the group.
//!
//! A customer's first device holds the pseudonym's key. It makes an [`Invitation`] — a leaf key, its certificate, a permit to write to the
//! inviting device — and hands it over where nobody else sees it, as a QR code from screen to camera. The new device answers with a
//! [`Join`]: its permits and a spare KeyPackage, signed by that leaf key. The inviting device adds it by a commit and brings it in with a
//! [`crate::continues::Continues`]. A linked device never has the pseudonym's key, so that removing it from the group is enough to be
//! rid of it.
//!
//! `Device = [1, leaf key: bstr 32, certificate: bstr]`
//! `Invitation = [1, Device: bstr, business identity key: bstr 32, handle: tstr, name: tstr, inviting device: tstr, relay: tstr,
//! [GivenPermit], ? suite: uint]`, `Join = Signed` (label `DEVICE_JOIN`, by the leaf key) over
//! `[1, relay: tstr, [+ GivenPermit], spare: bstr, ? [* spare: bstr]]`.

use core::fmt;

use bulla_protocol::label;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::cbor::{Malformed, Reader, Writer};
use crate::certificate::{Certificate, CertificateError, Expect, Role, Subject, endpoint_name, issue_customer};
use crate::content::PermitsExtension;
use crate::identity::{IdentityHash, Pseudonym};
use crate::mls::LeafKey;
use crate::permits::GivenPermit;
use crate::signed::{self, Unverified};
use crate::spare::{PackageError, Spare, suite_of};
use crate::suite::Suites;
use crate::{VERSION, limits};

/// What a linked device is: one leaf key and the certificate that it stands with. Secret.
#[derive(Clone)]
pub struct Device {
    leaf: LeafKey,
    certificate: Certificate,
}

/// Bytes are not a device, an invitation or a request of a known version, or not of whom they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not an invitation, a request or a device.
    #[error("not an invitation of a device")]
    Malformed,
    /// Of a later version than this program knows.
    #[error("it is of a later version than this program")]
    Newer,
    /// The certificate is not a customer's, or not of this leaf key.
    #[error("the device's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The KeyPackage of a request.
    #[error("the device's KeyPackage: {0}")]
    Package(#[from] PackageError),
    /// The leaf key did not sign the request.
    #[error("the device did not sign its request")]
    Signature,
}

impl From<Malformed> for DeviceError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Device {
    /// A new device of the customer in the conversation with `business`, made by one that speaks `suites`. `now` in Unix seconds.
    pub fn issue(
        pseudonym: &Pseudonym,
        business: &IdentityHash,
        suites: Suites,
        now: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Self, DeviceError> {
        let leaf = LeafKey::generate(rng);
        let endpoint = endpoint_name(rng);
        let not_after = now.saturating_add(limits::CUSTOMER_CERTIFICATE_SECS);
        let subject = Subject { handle: "", endpoint: &endpoint, not_after, suites };
        let certificate = issue_customer(pseudonym, &leaf.public(), business, &subject);
        let expect = Expect::customer(*business, pseudonym.public());
        Ok(Self { leaf, certificate: Certificate::verify_ever(&certificate, &expect)? })
    }

    pub(crate) fn leaf(&self) -> &LeafKey {
        &self.leaf
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// For the store: CBOR, beginning with its version. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let w = Writer::new().array(3).uint(u64::from(VERSION)).bytes(&*self.leaf.to_bytes());
        Zeroizing::new(w.bytes(self.certificate.as_bytes()).finish())
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DeviceError> {
        let mut r = Reader::new(bytes)?;
        let more = r.array(3)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(DeviceError::Malformed);
        }
        let leaf = LeafKey::from_bytes(&r.exact()?);
        let certificate = Certificate::of_anybody(r.bytes(limits::CERTIFICATE)?)?;
        r.skip_rest(more)?;
        if certificate.role() != Role::Customer || *certificate.leaf() != leaf.public() {
            return Err(CertificateError::WrongIdentity.into());
        }
        Ok(Self { leaf, certificate })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}, redacted)", self.certificate.endpoint())
    }
}

/// What the inviting device hands to the new one. Secret: whoever has it can be that device until the person removes it.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// What the new device will be.
    pub device: Device,
    /// The business's identity key.
    pub business_key: [u8; 32],
    /// The business's handle.
    pub handle: String,
    /// The business's name.
    pub name: String,
    /// The inviting device's name.
    pub inviter: String,
    /// The relay of the inviting device's mailbox.
    pub relay: String,
    /// Permits to write to it.
    pub permits: Vec<GivenPermit>,
    /// Number of the suite that the conversation is in: who does not speak it cannot come in.
    pub suite: Option<u16>,
}

impl Invitation {
    /// As bytes. Secret.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let w = Writer::new()
            .array(if self.suite.is_some() { 9 } else { 8 })
            .uint(u64::from(VERSION))
            .bytes(&self.device.to_bytes())
            .bytes(&self.business_key)
            .text(&self.handle)
            .text(&self.name)
            .text(&self.inviter)
            .text(&self.relay);
        let w = GivenPermit::write_list(w, &self.permits);
        Zeroizing::new(self.suite.into_iter().fold(w, |w, suite| w.uint(u64::from(suite))).finish())
    }

    /// From bytes, and checks that the certificate is of a device towards the business whose key it names.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeviceError> {
        let mut r = Reader::new(bytes)?;
        let more = r.versioned(8, DeviceError::Newer)?;
        let mut invitation = Self {
            device: Device::from_bytes(r.bytes(limits::CERTIFICATE * 2)?)?,
            business_key: r.exact()?,
            handle: r.text(limits::HANDLE)?.to_owned(),
            name: r.text(limits::NAME)?.to_owned(),
            inviter: r.text(limits::ENDPOINT)?.to_owned(),
            relay: r.text(limits::URL)?.to_owned(),
            permits: GivenPermit::read_list(&mut r)?,
            suite: None,
        };
        if more > 0 {
            invitation.suite = Some(r.uint()?.try_into().map_err(|_| Malformed)?);
        }
        r.skip_rest(more.saturating_sub(1))?;
        if IdentityHash::of(&invitation.business_key) != *invitation.device.certificate.business() {
            return Err(CertificateError::WrongIdentity.into());
        }
        Ok(invitation)
    }
}

/// A new device's request to be let in.
#[derive(Debug, Clone)]
pub struct Join {
    /// Permits to write to it, for everybody in the group.
    pub permits: PermitsExtension,
    /// The KeyPackages with which it can be added, of those suites that both know, each also as it came; their leaf is the device's.
    pub spares: Vec<(Spare, Vec<u8>)>,
}

impl Join {
    /// Signs a request, with a spare for the suite that the conversation is in, and more for others that the device speaks: it may be in one of
    /// them by then.
    #[must_use]
    pub fn seal(device: &Device, permits: &PermitsExtension, spare: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
        let length = if more.is_empty() { 4 } else { 5 };
        let w = Writer::new().array(length).uint(u64::from(VERSION)).text(&permits.relay);
        let w = GivenPermit::write_list(w, &permits.permits).bytes(spare);
        let w = if more.is_empty() { w } else { more.iter().fold(w.array(more.len()), |w, spare| w.bytes(spare)) };
        signed::sign(device.leaf.signing(), label::DEVICE_JOIN, &w.finish())
    }

    /// The name of the device that asks.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.spares.first().map_or("", |(spare, _)| spare.certificate().endpoint())
    }

    /// Reads a request of a device of whom `expect` says, at `now` (Unix seconds).
    pub fn open(body: &[u8], expect: &Expect, now: u64) -> Result<Self, DeviceError> {
        let unverified = Unverified::parse(body, body.len())?;
        let mut r = Reader::new(unverified.payload())?;
        let more = r.versioned(4, DeviceError::Newer)?;
        let relay = r.text(limits::URL)?.to_owned();
        let permits = PermitsExtension { relay, permits: GivenPermit::read_list(&mut r)? };
        let mut all = vec![r.bytes(limits::KEY_PACKAGE)?];
        if more > 0 {
            for _ in 0..r.list_max(limits::SUITES)? {
                all.push(r.bytes(limits::KEY_PACKAGE)?);
            }
        }
        r.skip_rest(more.saturating_sub(1))?;
        if permits.permits.is_empty() {
            // Nobody could ever answer it.
            return Err(DeviceError::Malformed);
        }
        let mut spares = Vec::new();
        for bytes in all.into_iter().filter(|bytes| suite_of(bytes).is_some()) {
            let spare = Spare::verify(bytes, expect, now)?;
            if !unverified.is_signed_by(spare.certificate().leaf(), label::DEVICE_JOIN) {
                return Err(DeviceError::Signature);
            }
            spares.push((spare, bytes.to_vec()));
        }
        if spares.is_empty() { Err(PackageError::Invalid.into()) } else { Ok(Self { permits, spares }) }
    }
}

#[cfg(test)]
mod tests {
    use bulla_protocol::id::{GrantId, MailboxId};
    use bulla_protocol::permit::{Class, MacRoot, Permit};
    use rand_core::OsRng;

    use super::*;
    use crate::envelope::EnvelopeKey;
    use crate::identity::BusinessIdentity;
    use crate::spare::{Issuer, make_spare};
    use crate::suite::Suite;
    use crate::tag::{Purpose, Tag, TagKey};

    #[expect(clippy::disallowed_methods, reason = "OpenMLS checks received KeyPackages against it")]
    fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    fn permit() -> GivenPermit {
        let permit = Permit {
            mailbox: MailboxId::new([1; 16]),
            grant: GrantId::new([2; 16]),
            class: Class::Ordinary,
            expires: 9,
            rate: 1,
            max_kib: 16,
            tag: TagKey::from_bytes([3; 32]).seal(&Tag { conversation: 1, purpose: Purpose::Control, serial: 1 }),
        };
        let mac = MacRoot::new([4; 32]).grant_key(&permit.grant).mac(&permit);
        GivenPermit { purpose: Purpose::Control, permit, mac, envelope_key: Some(EnvelopeKey::from_bytes([5; 32])) }
    }

    fn invitation(shop: &BusinessIdentity, anna: &Pseudonym) -> Invitation {
        Invitation {
            device: Device::issue(anna, &shop.hash(), Suites::DEFAULT, now(), &mut OsRng).unwrap(),
            business_key: shop.public(),
            handle: "rosi".into(),
            name: "Rosi".into(),
            inviter: "phone".into(),
            relay: "wss://relay.example/".into(),
            permits: vec![permit()],
            suite: Some(Suite::Hybrid.code()),
        }
    }

    #[test]
    fn an_invitation_survives_its_bytes_and_names_one_business() {
        let (shop, anna) = (BusinessIdentity::generate(&mut OsRng), Pseudonym::generate(&mut OsRng));
        let said = invitation(&shop, &anna);
        let bytes = said.encode();
        let read = Invitation::decode(&bytes).unwrap();
        assert_eq!(read.device.certificate(), said.device.certificate());
        assert_eq!(
            (read.handle, read.name, read.permits),
            (said.handle.clone(), said.name.clone(), said.permits.clone())
        );
        assert!((0..bytes.len()).all(|n| Invitation::decode(&bytes[..n]).is_err()));
        let other = Invitation { business_key: BusinessIdentity::generate(&mut OsRng).public(), ..said };
        assert!(matches!(Invitation::decode(&other.encode()), Err(DeviceError::Certificate(_))));
        assert!(!format!("{other:?}").contains("leaf: ["), "no key is printed");
    }

    #[test]
    fn a_request_is_signed_by_the_leaf_that_the_pseudonym_certified() {
        let (shop, anna) = (BusinessIdentity::generate(&mut OsRng), Pseudonym::generate(&mut OsRng));
        let device = invitation(&shop, &anna).device;
        let (spare, _) =
            make_spare(&Issuer::Linked(&device, Suites::DEFAULT), Suite::Hybrid, now(), &mut OsRng).unwrap();
        let permits = PermitsExtension { relay: "wss://relay.example/".into(), permits: vec![permit()] };
        let body = Join::seal(&device, &permits, &spare, &[]);
        let expect = Expect::customer(shop.hash(), anna.public());
        let join = Join::open(&body, &expect, now()).unwrap();
        assert_eq!(join.permits, permits);
        assert_eq!(join.endpoint(), device.certificate().endpoint());

        let stranger = Expect::customer(shop.hash(), Pseudonym::generate(&mut OsRng).public());
        assert!(matches!(Join::open(&body, &stranger, now()), Err(DeviceError::Package(_))));
        // Another device's signature over this device's KeyPackage: the permits would lead to the other.
        let other = invitation(&shop, &anna).device;
        let forged = Join::seal(&other, &permits, &spare, &[]);
        assert!(matches!(Join::open(&forged, &expect, now()), Err(DeviceError::Signature)));
        for at in 0..body.len() {
            let mut turned = body.clone();
            turned[at] ^= 1;
            assert!(Join::open(&turned, &expect, now()).is_err(), "byte {at}");
        }
    }
}
