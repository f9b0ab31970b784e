//! How OpenMLS is used: one provider (its cryptography, our [`State`]), one configuration.

use core::fmt;

use ed25519_dalek::SigningKey;
use openmls::prelude::{
    BasicCredential, Capabilities, Credential, CredentialType, CredentialWithKey, ExtensionType, Lifetime,
    MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProtocolVersion,
    SenderRatchetConfiguration,
};
use openmls_traits::OpenMlsProvider;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::limits;
use crate::state::State;
use crate::suite::{Suite, Suites};

/// OpenMLS's cryptography, as tests watch it.
#[cfg(feature = "under-test")]
pub(crate) use crate::seals::Crypto;
/// OpenMLS's cryptography.
#[cfg(not(feature = "under-test"))]
pub(crate) use openmls_rust_crypto::RustCrypto as Crypto;

/// OpenMLS's cryptography over our state.
#[derive(Default)]
pub(crate) struct Provider {
    crypto: Crypto,
    pub(crate) state: State,
}

impl Provider {
    pub(crate) fn new(state: State) -> Self {
        Self { crypto: Crypto::default(), state }
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = State;

    fn storage(&self) -> &State {
        &self.state
    }

    fn crypto(&self) -> &Crypto {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        &self.crypto
    }
}

/// An endpoint's MLS signature key in one conversation (customer) or of one bundle (business).
#[derive(Clone)]
pub(crate) struct LeafKey(SigningKey);

impl LeafKey {
    pub(crate) fn generate(rng: &mut impl CryptoRngCore) -> Self {
        Self(SigningKey::generate(rng))
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// For what the leaf signs outside of MLS, always under a label.
    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The credential with which a leaf of this key stands in a tree.
    pub(crate) fn credential(&self, certificate: &[u8]) -> CredentialWithKey {
        let credential: Credential = BasicCredential::new(certificate.to_vec()).into();
        CredentialWithKey { credential, signature_key: self.public().to_vec().into() }
    }
}

impl Signer for LeafKey {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(ed25519_dalek::Signer::sign(&self.0, payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey(redacted)")
    }
}

/// Of an endpoint that speaks these: what the others are told of it.
pub(crate) fn capabilities(suites: Suites) -> Capabilities {
    let suites: Vec<_> = suites.iter().map(Suite::mls).collect();
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&suites),
        Some(&[ExtensionType::LastResort]),
        None,
        Some(&[CredentialType::Basic]),
    )
}

pub(crate) fn lifetime(now_secs: u64) -> Lifetime {
    Lifetime::init(
        now_secs.saturating_sub(limits::LIFETIME_BEFORE_SECS),
        now_secs.saturating_add(limits::LIFETIME_AFTER_SECS),
    )
}

/// Of a spare: long, because it is wanted when something went wrong after a long time.
pub(crate) fn spare_lifetime(now_secs: u64) -> Lifetime {
    Lifetime::init(now_secs.saturating_sub(limits::LIFETIME_BEFORE_SECS), now_secs.saturating_add(limits::SPARE_SECS))
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(limits::OUT_OF_ORDER, limits::FORWARD)
}

/// One past epoch, so that a message that crosses a commit is not lost. No padding: the envelope pads.
pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(0)
        .max_past_epochs(limits::PAST_EPOCHS as usize)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet())
        .build()
}

pub(crate) fn create_config(suite: Suite, suites: Suites, now_secs: u64) -> MlsGroupCreateConfig {
    MlsGroupCreateConfig::builder()
        .ciphersuite(suite.mls())
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(0)
        .max_past_epochs(limits::PAST_EPOCHS as usize)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(ratchet())
        .capabilities(capabilities(suites))
        .lifetime(lifetime(now_secs))
        .build()
}
