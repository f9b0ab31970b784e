//! Permits as they are given inside messages: the permit, its MAC, and the key of the envelopes sent with it.
//!
//! `GivenPermit = [purpose: uint, permit: bstr 58, mac: bstr 32, envelope key: bstr 32 (empty for a contact permit)]`.

use bulla_protocol::permit::{Class, PERMIT_LEN, Permit, PermitMac};

use crate::cbor::{Malformed, Reader, Writer};
use crate::envelope::EnvelopeKey;
use crate::limits;
use crate::tag::Purpose;

/// The bytes are not a given permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a permit of a known version")]
pub struct PermitsError;

impl From<Malformed> for PermitsError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// A permit with everything that its holder needs to use it. Its MAC and key are secrets (a contact permit's MAC is public).
#[derive(Debug, Clone)]
pub struct GivenPermit {
    /// What it is for, as the giver says; the giver's own truth is in the tag.
    pub purpose: Purpose,
    /// What the relay is shown.
    pub permit: Permit,
    /// What proves it.
    pub mac: PermitMac,
    /// The key of envelopes sent with it; none for a contact permit, whose Hellos are sealed to the bundle's seal key.
    pub envelope_key: Option<EnvelopeKey>,
}

impl GivenPermit {
    /// As CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.write(Writer::new()).finish()
    }

    /// From CBOR.
    pub fn decode(bytes: &[u8]) -> Result<Self, PermitsError> {
        Ok(Self::read(&mut Reader::new(bytes)?)?)
    }

    pub(crate) fn write(&self, w: Writer) -> Writer {
        let key: &[u8] = self.envelope_key.as_ref().map_or(&[], |key| key.expose());
        w.array(4)
            .uint(u64::from(self.purpose.to_wire()))
            .bytes(&self.permit.to_bytes())
            .bytes(self.mac.expose())
            .bytes(key)
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let more = r.array(4)?;
        let purpose = Purpose::from_wire(r.uint()?).ok_or(Malformed)?;
        let permit = Permit::from_bytes(&r.exact::<PERMIT_LEN>()?).map_err(|_| Malformed)?;
        let mac = PermitMac::new(r.exact()?);
        let envelope_key = match r.bytes(32)? {
            [] => None,
            key => Some(EnvelopeKey::from_bytes(key.try_into().map_err(|_| Malformed)?)),
        };
        r.skip_rest(more)?;
        // A contact permit is of the contact class and has no key; any other is ordinary and has one.
        let contact = purpose == Purpose::Contact;
        if contact != (permit.class == Class::Contact) || contact != envelope_key.is_none() {
            return Err(Malformed);
        }
        Ok(Self { purpose, permit, mac, envelope_key })
    }

    pub(crate) fn write_list(w: Writer, list: &[Self]) -> Writer {
        list.iter().fold(w.array(list.len()), |w, permit| permit.write(w))
    }

    pub(crate) fn read_list(r: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        let len = r.list_max(limits::PERMITS)?;
        (0..len).map(|_| Self::read(r)).collect()
    }
}

impl PartialEq for GivenPermit {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for GivenPermit {}
