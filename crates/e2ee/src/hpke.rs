//! HPKE (RFC 9180, base mode) with X-Wing, HKDF-SHA256 and AES-128-GCM, through OpenMLS's provider: one stack.
//!
//! A sealed thing is `enc(1120) ‖ ciphertext`. X-Wing stays safe if one of its halves is broken; a peer's key or encapsulation
//! whose X25519 half is of small order is refused all the same, because nobody honest makes one (KEY-09).

use core::fmt;

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::HpkeCiphertext;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::mls::Crypto;
use crate::suite::Suite;

/// What Hellos and their answers are sealed with, whatever suite the conversation is in.
const CONFIG: Suite = Suite::Hybrid;

/// Bytes of an X-Wing public key: ML-KEM-768's and X25519's.
pub(crate) const PUBLIC: usize = 1184 + 32;
/// Bytes of an X-Wing encapsulation: ML-KEM-768's ciphertext and an X25519 key.
pub(crate) const ENC: usize = 1088 + 32;
/// Bytes of the AEAD's tag.
pub(crate) const AEAD_TAG: usize = 16;

/// Sealing or opening failed; it is never told why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HpkeFailed;

/// The X25519 public keys whose order divides 8 (RFC 7748 §6.1, and their non-canonical forms), with the top bit cleared:
/// every shared secret with them is zero.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
];

/// 2^255 - 256 + `low`: with 0xed the field's prime.
const fn near_p(low: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = low;
    bytes[31] = 0x7f;
    bytes
}

/// Whether the X25519 half of an X-Wing key or encapsulation, its last 32 bytes, is somebody's.
fn has_sound_tail(bytes: &[u8]) -> bool {
    let Some(mut tail) = bytes.last_chunk::<32>().copied() else { return false };
    tail[31] &= 0x7f;
    !SMALL_ORDER.contains(&tail)
}

/// Whether the bytes can be a public key of a suite's KEM (KEY-09).
pub(crate) fn is_sound(suite: Suite, public: &[u8]) -> bool {
    let length = match suite {
        Suite::Classical => 32,
        Suite::Hybrid => PUBLIC,
    };
    public.len() == length && has_sound_tail(public)
}

/// An X-Wing public key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealPublicKey(Vec<u8>);

impl SealPublicKey {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        is_sound(CONFIG, bytes).then(|| Self(bytes.to_vec()))
    }

    /// The 1,216 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn seal(&self, info: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, HpkeFailed> {
        let sealed = Crypto::default()
            .hpke_seal(CONFIG.mls().hpke_config(), &self.0, info, aad, plaintext)
            .map_err(|_| HpkeFailed)?;
        Ok([sealed.kem_output.as_slice(), sealed.ciphertext.as_slice()].concat())
    }
}

impl fmt::Debug for SealPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealPublicKey")
    }
}

/// An X-Wing key pair: a business's seal key or a customer's reply key.
#[derive(Clone)]
pub struct SealKey {
    private: Zeroizing<Vec<u8>>,
    public: SealPublicKey,
}

impl SealKey {
    /// A new pair. `None` cannot happen with the provider that is built in.
    pub(crate) fn generate(rng: &mut impl CryptoRngCore) -> Result<Self, HpkeFailed> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        let pair = Crypto::default().derive_hpke_keypair(CONFIG.mls().hpke_config(), &*seed).map_err(|_| HpkeFailed)?;
        Ok(Self {
            private: Zeroizing::new(pair.private.to_vec()),
            public: SealPublicKey::from_slice(&pair.public).ok_or(HpkeFailed)?,
        })
    }

    pub(crate) fn from_parts(private: &[u8], public: &[u8]) -> Option<Self> {
        Some(Self { private: Zeroizing::new(private.to_vec()), public: SealPublicKey::from_slice(public)? })
    }

    pub(crate) fn private(&self) -> &[u8] {
        &self.private
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &SealPublicKey {
        &self.public
    }

    pub(crate) fn open(&self, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HpkeFailed> {
        let (enc, ciphertext) = sealed.split_at_checked(ENC).ok_or(HpkeFailed)?;
        if !has_sound_tail(enc) {
            return Err(HpkeFailed);
        }
        let input = HpkeCiphertext { kem_output: enc.into(), ciphertext: ciphertext.into() };
        Crypto::default()
            .hpke_open(CONFIG.mls().hpke_config(), &input, &self.private, info, aad)
            .map(Zeroizing::new)
            .map_err(|_| HpkeFailed)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn sizes_are_as_the_protocol_says_and_only_the_right_key_info_and_aad_open() {
        let key = SealKey::generate(&mut OsRng).unwrap();
        assert_eq!(key.public().as_bytes().len(), PUBLIC);
        let sealed = key.public().seal(b"info", b"aad", b"text").unwrap();
        assert_eq!(sealed.len(), ENC + AEAD_TAG + 4);
        assert_eq!(key.open(b"info", b"aad", &sealed).unwrap().as_slice(), b"text");
        assert!(key.open(b"other", b"aad", &sealed).is_err());
        assert!(key.open(b"info", b"other", &sealed).is_err());
        assert!(SealKey::generate(&mut OsRng).unwrap().open(b"info", b"aad", &sealed).is_err());
    }

    /// KEY-09: every form of every point of small order, in keys and in encapsulations.
    #[test]
    fn key_09_points_of_small_order_are_refused_in_keys_and_encapsulations() {
        let key = SealKey::generate(&mut OsRng).unwrap();
        let sealed = key.public().seal(b"info", b"aad", b"text").unwrap();
        for point in SMALL_ORDER {
            for top in [0, 0x80] {
                let mut point = point;
                point[31] |= top;
                let mut public = key.public().as_bytes().to_vec();
                public[PUBLIC - 32..].copy_from_slice(&point);
                assert_eq!(SealPublicKey::from_slice(&public), None);
                let mut sealed = sealed.clone();
                sealed[ENC - 32..ENC].copy_from_slice(&point);
                assert!(key.open(b"info", b"aad", &sealed).is_err());
            }
        }
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", SealKey::generate(&mut OsRng).unwrap()), "SealKey(redacted)");
    }
}
