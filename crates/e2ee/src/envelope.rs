//! The outer envelope: every MLS message is sealed once more under a random key that travels with the permit.
//!
//! `u8 1 ‖ nonce(24) ‖ XChaCha20-Poly1305(key, nonce, AAD = ENVELOPE ‖ tag, u8 kind ‖ u32 length ‖ body ‖ zeros)`. The relay sees
//! neither group nor epoch nor KeyPackage reference, and of the length only its bucket. Whatever is wrong with an envelope, the answer
//! is one and the same [`EnvelopeError::Refused`] (KEY-07).

use core::fmt;

use bulla_protocol::id::TagBlock;
use bulla_protocol::label;
use bulla_protocol::limits::MAX_ENVELOPE;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag as AeadTag, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::VERSION;

const NONCE: usize = 24;
const AEAD_TAG: usize = 16;
/// Version, nonce, AEAD tag, kind and length.
const OVERHEAD: usize = 1 + NONCE + AEAD_TAG + 1 + 4;

/// Bytes of the largest body that an envelope carries.
pub const MAX_BODY: usize = MAX_ENVELOPE - OVERHEAD;

/// The length to which something of `len` bytes is padded: 1, 2 or 4 KiB, above that the next Padmé length (at most 12 % more).
#[must_use]
pub fn bucket(len: usize) -> usize {
    match len {
        0..=1024 => 1024,
        1025..=2048 => 2048,
        2049..=4096 => 4096,
        _ => {
            let exponent = len.ilog2();
            let mantissa = exponent.ilog2() + 1;
            let mask = (1usize << (exponent - mantissa)) - 1;
            len.saturating_add(mask) & !mask
        }
    }
}

/// What an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// An MLS message.
    Mls = 1,
    /// The answer to a Hello whose KeyPackage is gone.
    HelloAgain = 2,
    /// A statement that continues the conversation in a new group, with its Welcome.
    Continues = 3,
    /// A commit that won its slot.
    Commit = 4,
    /// A linked device asks to be let in.
    Join = 5,
    /// The business tells a device that the conversation goes on without it.
    TurnedAway = 6,
}

impl Kind {
    /// From a number that was stored or received.
    #[must_use]
    pub fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Mls),
            2 => Some(Self::HelloAgain),
            3 => Some(Self::Continues),
            4 => Some(Self::Commit),
            5 => Some(Self::Join),
            6 => Some(Self::TurnedAway),
            _ => None,
        }
    }
}

/// Why an envelope was not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Our own misuse: the body is larger than [`MAX_BODY`].
    #[error("body over {MAX_BODY} bytes")]
    TooLarge,
    /// Not an envelope under this key and tag.
    #[error("envelope refused")]
    Refused,
    /// An authentic envelope of a kind from a later version: to be acknowledged and ignored.
    #[error("envelope of unknown kind {0}")]
    UnknownKind(u8),
}

/// What makes one envelope differ from all others under its key. Public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE]);

impl Nonce {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        Self(nonce)
    }

    /// From the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; NONCE]) -> Self {
        Self(bytes)
    }

    /// For the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; NONCE] {
        &self.0
    }
}

/// The key of all envelopes sent under one grant.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EnvelopeKey([u8; 32]);

impl EnvelopeKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// From bytes stored or received in a permit.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be stored or sent where they may be.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn aad(tag: &TagBlock) -> Vec<u8> {
        [label::ENVELOPE, tag.as_bytes()].concat()
    }

    /// Seals `body` for a send with the permit whose tag is `tag`.
    pub fn seal(
        &self,
        tag: &TagBlock,
        kind: Kind,
        body: &[u8],
        rng: &mut impl CryptoRngCore,
    ) -> Result<Vec<u8>, EnvelopeError> {
        self.seal_with(&Nonce::generate(rng), tag, kind, body)
    }

    /// [`seal`](Self::seal) with a nonce that is kept with the body, so that the same bytes can be made again. A nonce is for one body only.
    pub fn seal_with(&self, nonce: &Nonce, tag: &TagBlock, kind: Kind, body: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let length = u32::try_from(body.len()).map_err(|_| EnvelopeError::TooLarge)?;
        if body.len() > MAX_BODY {
            return Err(EnvelopeError::TooLarge);
        }
        let whole = bucket(OVERHEAD + body.len());
        let nonce = XNonce::from_slice(&nonce.0);
        let mut padded = Zeroizing::new(Vec::with_capacity(whole - 1 - NONCE));
        padded.push(kind as u8);
        padded.extend_from_slice(&length.to_be_bytes());
        padded.extend_from_slice(body);
        padded.resize(whole - 1 - NONCE - AEAD_TAG, 0);
        #[cfg(feature = "under-test")]
        crate::seals::note(crate::seals::By::Envelope, &[&self.0, nonce], &[&padded, tag.as_bytes()]);
        let aead_tag = XChaCha20Poly1305::new(&self.0.into())
            .encrypt_in_place_detached(nonce, &Self::aad(tag), &mut padded)
            .map_err(|_| EnvelopeError::TooLarge)?;
        let mut envelope = Vec::with_capacity(whole);
        envelope.push(VERSION);
        envelope.extend_from_slice(nonce);
        envelope.extend_from_slice(&padded);
        envelope.extend_from_slice(&aead_tag);
        Ok(envelope)
    }

    /// Opens what arrived with `tag`.
    pub fn open(&self, tag: &TagBlock, envelope: &[u8]) -> Result<(Kind, Zeroizing<Vec<u8>>), EnvelopeError> {
        let (kind, body) = self.open_any(tag, envelope).ok_or(EnvelopeError::Refused)?;
        Ok((Kind::from_wire(kind).ok_or(EnvelopeError::UnknownKind(kind))?, body))
    }

    fn open_any(&self, tag: &TagBlock, envelope: &[u8]) -> Option<(u8, Zeroizing<Vec<u8>>)> {
        if envelope.len() > MAX_ENVELOPE || bucket(envelope.len()) != envelope.len() {
            return None;
        }
        let (&version, rest) = envelope.split_first()?;
        let (nonce, rest) = rest.split_at_checked(NONCE)?;
        let (sealed, aead_tag) = rest.split_at_checked(rest.len().checked_sub(AEAD_TAG)?)?;
        if version != VERSION {
            return None;
        }
        let mut padded = Zeroizing::new(sealed.to_vec());
        XChaCha20Poly1305::new(&self.0.into())
            .decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                &Self::aad(tag),
                &mut padded,
                AeadTag::from_slice(aead_tag),
            )
            .ok()?;
        let (&kind, rest) = padded.split_first()?;
        Some((kind, unpad(rest)?))
    }
}

/// `u32 length ‖ body ‖ zeros`: the body, if the padding is nothing but zeros.
pub(crate) fn unpad(padded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = padded.split_first_chunk::<4>()?;
    let (body, zeros) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    zeros.iter().all(|b| *b == 0).then(|| Zeroizing::new(body.to_vec()))
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvelopeKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_core::OsRng;

    const TAG: TagBlock = TagBlock::new([7; 16]);

    #[test]
    fn with_the_same_nonce_the_same_bytes_are_made() {
        let (key, nonce) = (EnvelopeKey::generate(&mut OsRng), Nonce::generate(&mut OsRng));
        let stored = (EnvelopeKey::from_bytes(*key.expose()), Nonce::from_bytes(*nonce.as_bytes()));
        let first = key.seal_with(&nonce, &TAG, Kind::Mls, b"words").unwrap();
        assert_eq!(stored.0.seal_with(&stored.1, &TAG, Kind::Mls, b"words").unwrap(), first);
        assert_eq!(key.open(&TAG, &first).unwrap().1.as_slice(), b"words");
        assert_ne!(key.seal(&TAG, Kind::Mls, b"words", &mut OsRng).unwrap(), first);
    }

    #[test]
    fn the_whole_envelope_has_a_buckets_size() {
        let key = EnvelopeKey::generate(&mut OsRng);
        for (body, whole) in [(0, 1024), (1024 - OVERHEAD, 1024), (1025 - OVERHEAD, 2048), (4096 - OVERHEAD, 4096)] {
            assert_eq!(key.seal(&TAG, Kind::Mls, &vec![1; body], &mut OsRng).unwrap().len(), whole);
        }
    }

    #[test]
    fn mls_12_a_body_is_bounded_at_n_and_n_plus_1() {
        let key = EnvelopeKey::generate(&mut OsRng);
        let largest = key.seal(&TAG, Kind::Mls, &vec![1; MAX_BODY], &mut OsRng).unwrap();
        assert_eq!(largest.len(), MAX_ENVELOPE);
        assert_eq!(key.open(&TAG, &largest).unwrap().1.len(), MAX_BODY);
        assert_eq!(key.seal(&TAG, Kind::Mls, &vec![1; MAX_BODY + 1], &mut OsRng), Err(EnvelopeError::TooLarge));
    }

    /// MLS-01 and KEY-07: prefixes, extensions, flipped bits, another key, another tag: one and the same error.
    #[test]
    fn mls_01_key_07_whatever_is_wrong_the_answer_is_the_same() {
        let key = EnvelopeKey::generate(&mut OsRng);
        let envelope = key.seal(&TAG, Kind::Mls, b"body", &mut OsRng).unwrap();
        assert_eq!(key.open(&TAG, &envelope).map(|(k, b)| (k, b.to_vec())), Ok((Kind::Mls, b"body".to_vec())));
        for len in 0..envelope.len() {
            assert_eq!(key.open(&TAG, &envelope[..len]), Err(EnvelopeError::Refused));
        }
        for extra in [1, 1024, 3 * 1024] {
            let longer = [&envelope[..], &vec![0; extra]].concat();
            assert_eq!(key.open(&TAG, &longer), Err(EnvelopeError::Refused));
        }
        for bit in 0..envelope.len() * 8 {
            let mut flipped = envelope.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&TAG, &flipped), Err(EnvelopeError::Refused));
        }
        assert_eq!(EnvelopeKey::generate(&mut OsRng).open(&TAG, &envelope), Err(EnvelopeError::Refused));
        assert_eq!(key.open(&TagBlock::new([8; 16]), &envelope), Err(EnvelopeError::Refused));
    }

    #[test]
    fn an_unknown_kind_is_told_only_after_authentication() {
        let key = EnvelopeKey::from_bytes([3; 32]);
        let mut padded = vec![0; 1024 - 1 - NONCE - AEAD_TAG];
        padded[0] = 9;
        let sealed = seal_raw(&key, padded.clone());
        assert_eq!(key.open(&TAG, &sealed), Err(EnvelopeError::UnknownKind(9)));
        padded[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(key.open(&TAG, &seal_raw(&key, padded.clone())), Err(EnvelopeError::Refused));
        padded[1..5].copy_from_slice(&[0; 4]);
        padded[900] = 1;
        assert_eq!(key.open(&TAG, &seal_raw(&key, padded)), Err(EnvelopeError::Refused));
    }

    fn seal_raw(key: &EnvelopeKey, mut padded: Vec<u8>) -> Vec<u8> {
        let tag = XChaCha20Poly1305::new(&key.0.into())
            .encrypt_in_place_detached(&XNonce::default(), &EnvelopeKey::aad(&TAG), &mut padded)
            .unwrap();
        [&[VERSION][..], &[0; NONCE], &padded, &tag].concat()
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", EnvelopeKey::from_bytes([1; 32])), "EnvelopeKey(redacted)");
    }

    proptest! {
        /// Buckets are few, never smaller, at most 12 % larger above 4 KiB, and fixed points of themselves.
        #[test]
        fn buckets_hold(len in 0usize..1_000_000) {
            let padded = bucket(len);
            prop_assert!(padded >= len);
            prop_assert_eq!(bucket(padded), padded);
            prop_assert!(len <= 4096 || padded as f64 <= len as f64 * 1.12);
        }

        #[test]
        fn mls_02_any_bytes_are_an_envelope_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            prop_assert_eq!(EnvelopeKey::from_bytes([3; 32]).open(&TAG, &bytes), Err(EnvelopeError::Refused));
        }
    }
}
