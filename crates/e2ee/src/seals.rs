//! For tests: a witness of every sealing, so that a test can show that nothing is sealed twice under one key. Not in any shipped program
//! (feature `under-test`, `cargo xtask check`).
//!
//! It is told of each sealing with an AEAD or HPKE, as hashes under a key that the process makes up: neither a key nor a text is kept.
//! A thread that watches notes what it sealed; when the batch of a step is durable its driver takes the notes, and when it failed it drops
//! them. So what counts is what may leave. A step that is done again after a failed commit seals anew with the same keys, and that is right:
//! nothing of its first time was ever released.
//!
//! *A place*, in which one text may be sealed and no other, is:
//!
//! - what MLS seals ([`Crypto`]): its key alone. Each of its keys is for one message; the nonce is not asked, since four of its bytes are random
//!   (RFC 9420 §6.3.1), so that a state used twice would show in one of 2³² nonces only;
//! - HPKE: recipient and encapsulation, which are the key;
//! - all else: key and nonce.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair, KemOutput,
    SignatureScheme,
};
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};
use tls_codec::SecretVLBytes;

/// What sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// MLS: messages, commits, what hides their senders, Welcomes.
    Mls,
    /// HPKE: Hellos and the answers to them, path secrets, Welcomes.
    Hpke,
    /// The outer envelope.
    Envelope,
    /// A commit's slot.
    Slot,
    /// A value in the store.
    Store,
}

/// One sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    by: By,
    place: u128,
    text: u128,
}

impl Seal {
    /// `place` and `text` in parts.
    fn of(by: By, place: &[&[u8]], text: &[&[u8]]) -> Self {
        static SECRET: LazyLock<[u8; 32]> = LazyLock::new(|| {
            let mut secret = [0; 32];
            OsRng.fill_bytes(&mut secret);
            secret
        });
        let digest = |parts: &[&[u8]]| {
            let mut hash = Sha256::new_with_prefix(*SECRET);
            hash.update([by as u8]);
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().first_chunk().map_or(0, |short| u128::from_be_bytes(*short))
        };
        Self { by, place: digest(place), text: digest(text) }
    }
}

thread_local! {
    /// What this thread has sealed since it last took it; nothing if it does not watch.
    static NOTED: RefCell<Option<Vec<Seal>>> = const { RefCell::new(None) };
}

/// Notes what this thread seals from now on, or no longer.
pub fn watch(on: bool) {
    NOTED.set(on.then(Vec::new));
}

/// Whether this thread notes what it seals.
#[must_use]
pub fn watches() -> bool {
    NOTED.with_borrow(Option::is_some)
}

/// What this thread has sealed since it was last asked.
#[must_use]
pub fn take() -> Vec<Seal> {
    NOTED.with_borrow_mut(|noted| noted.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Something is sealed: where, and what.
pub fn note(by: By, place: &[&[u8]], text: &[&[u8]]) {
    NOTED.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.push(Seal::of(by, place, text));
        }
    });
}

/// What was sealed where.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    texts: HashMap<u128, u128>,
    twice: Vec<By>,
}

impl Ledger {
    const fn new(texts: HashMap<u128, u128>) -> Self {
        Self { texts, twice: Vec::new() }
    }

    /// More of it.
    pub fn add(&mut self, seals: impl IntoIterator<Item = Seal>) {
        for Seal { by, place, text } in seals {
            if *self.texts.entry(place).or_insert(text) != text {
                self.twice.push(by);
            }
        }
    }

    /// By what a second text was sealed in one place, each time.
    #[must_use]
    pub fn twice(&self) -> &[By] {
        &self.twice
    }

    /// In how many places something was sealed.
    #[must_use]
    pub fn places(&self) -> usize {
        self.texts.len()
    }
}

static LEFT: LazyLock<Mutex<Ledger>> = LazyLock::new(|| Mutex::new(Ledger::new(HashMap::new())));

/// What every endpoint of this process has made durable, where endpoints run on threads of their own.
pub fn left() -> MutexGuard<'static, Ledger> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// OpenMLS's cryptography, watched.
#[derive(Debug, Default)]
pub(crate) struct Crypto(RustCrypto);

impl OpenMlsCrypto for Crypto {
    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        note(By::Mls, &[key], &[data, aad]);
        self.0.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let sealed = self.0.hpke_seal(config, pk_r, info, aad, ptxt)?;
        note(By::Hpke, &[pk_r, sealed.kem_output.as_slice()], &[info, aad, ptxt]);
        Ok(sealed)
    }

    // All else as it is.

    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        self.0.supports(ciphersuite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.0.supported_ciphersuites()
    }

    fn hkdf_extract(&self, hash_type: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.0.hkdf_extract(hash_type, salt, ikm)
    }

    fn hmac(&self, hash_type: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.0.hmac(hash_type, key, message)
    }

    fn hkdf_expand(
        &self,
        hash_type: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.0.hkdf_expand(hash_type, prk, info, okm_len)
    }

    fn hash(&self, hash_type: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.hash(hash_type, data)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.0.aead_decrypt(alg, key, ct_tag, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.0.signature_key_gen(alg)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.0.verify_signature(alg, data, pk, signature)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.sign(alg, data, key)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.0.hpke_open(config, input, sk_r, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.0.hpke_setup_sender_and_export(config, pk_r, info, exporter_context, exporter_length)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.0.hpke_setup_receiver_and_export(config, enc, sk_r, info, exporter_context, exporter_length)
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        self.0.derive_hpke_keypair(config, ikm)
    }
}

impl OpenMlsRand for Crypto {
    type Error = <RustCrypto as OpenMlsRand>::Error;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        self.0.random_array()
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        self.0.random_vec(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(by: By, key: &[u8], nonce: &[u8], text: &[u8]) -> Vec<Seal> {
        note(by, &[key, nonce], &[text]);
        take()
    }

    #[test]
    fn a_second_text_in_one_place_is_seen_and_the_same_text_again_is_not() {
        watch(true);
        let mut ledger = Ledger::default();
        ledger.add(sealed(By::Envelope, b"key", b"nonce", b"one"));
        ledger.add(sealed(By::Envelope, b"key", b"nonce", b"one"));
        ledger.add(sealed(By::Envelope, b"key", b"other nonce", b"two"));
        ledger.add(sealed(By::Store, b"key", b"nonce", b"two"));
        ledger.add(sealed(By::Envelope, b"keyn", b"once", b"two"));
        assert_eq!((ledger.twice(), ledger.places()), (&[][..], 4));
        ledger.add(sealed(By::Envelope, b"key", b"nonce", b"two"));
        assert_eq!(ledger.twice(), [By::Envelope]);
    }

    #[test]
    fn what_mls_seals_is_told_by_its_key_alone() {
        let crypto = Crypto::default();
        watch(true);
        for (nonce, text) in [([1; 12], b"one"), ([2; 12], b"one"), ([3; 12], b"two")] {
            crypto.aead_encrypt(AeadType::Aes128Gcm, &[7; 16], text, &nonce, b"").unwrap();
        }
        let mut ledger = Ledger::default();
        ledger.add(take());
        assert_eq!(ledger.twice(), [By::Mls]);
    }

    #[test]
    fn nothing_is_noted_where_nobody_watches() {
        assert_eq!(sealed(By::Store, b"key", b"nonce", b"one"), []);
        watch(true);
        assert_eq!(sealed(By::Store, b"key", b"nonce", b"one").len(), 1);
        watch(false);
        assert_eq!(sealed(By::Store, b"key", b"nonce", b"one"), []);
    }
}
