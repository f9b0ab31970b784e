//! `Signed = [payload: bstr, signature: bstr .size 64]`: Ed25519 over label ‖ payload, checked strictly.
//!
//! The payload's exact bytes are kept; nothing is encoded again to be checked.

use bulla_protocol::label::Label;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::cbor::{Malformed, Reader, Writer};

/// Signs and wraps.
pub(crate) fn sign(key: &SigningKey, label: Label, payload: &[u8]) -> Vec<u8> {
    let signature = key.sign(&[label, payload].concat());
    Writer::new().array(2).bytes(payload).bytes(&signature.to_bytes()).finish()
}

/// A wrapped payload whose signature nobody has looked at.
pub(crate) struct Unverified<'b> {
    payload: &'b [u8],
    signature: [u8; 64],
}

impl<'b> Unverified<'b> {
    /// Unwraps, without checking the signature.
    pub(crate) fn parse(bytes: &'b [u8], max: usize) -> Result<Self, Malformed> {
        if bytes.len() > max {
            return Err(Malformed);
        }
        let mut r = Reader::new(bytes)?;
        let more = r.array(2)?;
        let (payload, signature) = (r.bytes(max)?, r.exact()?);
        // What is not under the signature must not exist.
        if more != 0 {
            return Err(Malformed);
        }
        Ok(Self { payload, signature })
    }

    /// The payload, still unverified: to find in it the key that is said to have signed it.
    pub(crate) fn payload(&self) -> &'b [u8] {
        self.payload
    }

    /// Whether `key` signed it under `label`.
    pub(crate) fn is_signed_by(&self, key: &[u8; 32], label: Label) -> bool {
        verify(key, label, self.payload, &self.signature)
    }
}

/// Strict Ed25519: canonical encodings, no key and no `R` of small order.
pub(crate) fn verify(key: &[u8; 32], label: Label, message: &[u8], signature: &[u8; 64]) -> bool {
    is_sound(key)
        && VerifyingKey::from_bytes(key)
            .is_ok_and(|key| key.verify_strict(&[label, message].concat(), &Signature::from_bytes(signature)).is_ok())
}

/// Whether the bytes are an Ed25519 key that can be somebody's: a point in canonical form, not of small order (KEY-09).
pub(crate) fn is_sound(key: &[u8; 32]) -> bool {
    // y < 2^255 - 19, whatever the sign bit.
    let [low, mid @ .., high] = key;
    let canonical = high & 0x7f != 0x7f || mid.iter().any(|b| *b != 0xff) || *low < 0xed;
    canonical && VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak())
}
