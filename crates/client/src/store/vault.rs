//! The sealing of values: nothing readable lies in a store's files.
//!
//! Every value is sealed under the key of a *scope*: the endpoint itself, or one customer, so that erasing a customer is destroying one
//! key. Scope keys rest wrapped by the root key, which lives in the key file. Index keys that would say something (user ids) are blinded.
//!
//! Value: `u8 1 ‖ u64 scope ‖ nonce(24) ‖ XChaCha20-Poly1305(scope key, nonce, AAD = STORE_VALUE ‖ u8 table ‖ key, plaintext)`.
//! Wrapped scope key: `u8 1 ‖ nonce(24) ‖ XChaCha20-Poly1305(root key, nonce, AAD = STORE_SCOPE ‖ u64 scope, key)`.

use std::cell::RefCell;
use std::collections::HashMap;

use bulla_protocol::label;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rand_core::CryptoRngCore;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::hot::Hot;
use super::{Batch, Read, StoreError, Table};

const VERSION: u8 = 1;
const NONCE: usize = 24;
const HEAD: usize = 1 + 8 + NONCE;

/// Scope keys kept unwrapped in memory; with more, all are dropped and unwrapped again when needed.
const CACHED_SCOPES: usize = 4_096;

/// Whose key seals a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The endpoint's own.
    Endpoint,
    /// One other side's: at a gateway one customer, at a customer one business. Numbers start at 1 and are never used again.
    Peer(u64),
}

impl Scope {
    fn number(self) -> u64 {
        match self {
            Self::Endpoint => 0,
            Self::Peer(n) => n,
        }
    }
}

/// The store's root key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// From a key file.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// A fresh one.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
    /// The bytes, for the key file.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey(redacted)")
    }
}

/// Seals and opens values.
pub struct Vault {
    root: RootKey,
    scopes: RefCell<HashMap<u64, Zeroizing<[u8; 32]>>>,
    pub(super) hot: RefCell<Hot>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(redacted)")
    }
}

impl Vault {
    /// With the root key from the key file.
    #[must_use]
    pub fn new(root: RootKey) -> Self {
        Self { root, scopes: RefCell::default(), hot: RefCell::default() }
    }

    /// A key for an index row that hides what it indexes.
    #[must_use]
    pub fn blind(&self, what: &str, value: &[u8]) -> [u8; 16] {
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.root.0);
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new(&block.into());
        block.zeroize();
        mac.update(label::STORE_INDEX);
        mac.update(&[what.len() as u8]);
        mac.update(what.as_bytes());
        mac.update(value);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }

    /// Seals a value. The first value of a scope makes the scope's key, in the same batch.
    pub fn seal(
        &self,
        read: &dyn Read,
        batch: &mut Batch,
        rng: &mut impl CryptoRngCore,
        scope: Scope,
        at: (Table, &[u8]),
        plain: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let number = scope.number();
        if self.scope_key(read, Some(batch), number)?.is_none() {
            let mut key = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut *key);
            let mut wrapped = vec![VERSION];
            wrapped.extend(encrypt(&self.root.0, rng, &scope_aad(number), &*key)?);
            batch.put(Table::ScopeKeys, &number.to_be_bytes(), wrapped);
            self.remember(number, key);
        }
        let key = self.scope_key(read, Some(batch), number)?.ok_or(StoreError::Sealed { table: at.0 })?;
        let mut value = Vec::with_capacity(HEAD + plain.len() + 16);
        value.push(VERSION);
        value.extend_from_slice(&number.to_be_bytes());
        value.extend(encrypt(&key, rng, &value_aad(at), plain)?);
        Ok(value)
    }

    /// Opens a value.
    pub fn open(&self, read: &dyn Read, at: (Table, &[u8]), value: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let sealed = StoreError::Sealed { table: at.0 };
        let (Some((&VERSION, rest)), true) = (value.split_first(), value.len() >= HEAD) else {
            return Err(StoreError::Format { table: at.0 });
        };
        let (number, rest) = rest.split_at(8);
        let number = u64::from_be_bytes(number.try_into().map_err(|_| StoreError::Format { table: at.0 })?);
        let key = self.scope_key(read, None, number)?.ok_or(StoreError::Sealed { table: at.0 })?;
        decrypt(&key, &value_aad(at), rest).ok_or(sealed)
    }

    /// Destroys a scope's key: whatever it sealed is gone, wherever copies of it lie.
    pub fn erase(&self, batch: &mut Batch, scope: Scope) {
        let number = scope.number();
        batch.delete(Table::ScopeKeys, &number.to_be_bytes());
        self.scopes.borrow_mut().remove(&number);
        self.hot.borrow_mut().clear();
    }

    /// Forgets unwrapped keys and opened rows: after a failed commit, what was made in it must not be used.
    pub fn forget(&self) {
        self.scopes.borrow_mut().clear();
        self.hot.borrow_mut().clear();
    }

    fn remember(&self, number: u64, key: Zeroizing<[u8; 32]>) {
        let mut scopes = self.scopes.borrow_mut();
        if scopes.len() >= CACHED_SCOPES {
            scopes.clear();
        }
        scopes.insert(number, key);
    }

    fn scope_key(
        &self,
        read: &dyn Read,
        batch: Option<&Batch>,
        number: u64,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        if let Some(key) = self.scopes.borrow().get(&number) {
            return Ok(Some(key.clone()));
        }
        let at = number.to_be_bytes();
        let wrapped = match batch.and_then(|batch| batch.get(Table::ScopeKeys, &at)) {
            Some(change) => change.map(<[u8]>::to_vec),
            None => read.get(Table::ScopeKeys, &at)?,
        };
        let Some(wrapped) = wrapped else { return Ok(None) };
        let Some((&VERSION, rest)) = wrapped.split_first() else {
            return Err(StoreError::Format { table: Table::ScopeKeys });
        };
        let key = decrypt(&self.root.0, &scope_aad(number), rest)
            .and_then(|plain| <[u8; 32]>::try_from(plain.as_slice()).ok())
            .ok_or(StoreError::Sealed { table: Table::ScopeKeys })?;
        self.remember(number, Zeroizing::new(key));
        Ok(Some(Zeroizing::new(key)))
    }
}

fn value_aad((table, key): (Table, &[u8])) -> Vec<u8> {
    [label::STORE_VALUE, &[table as u8], key].concat()
}

fn scope_aad(number: u64) -> Vec<u8> {
    [label::STORE_SCOPE, &number.to_be_bytes()].concat()
}

/// `nonce ‖ ciphertext`. XChaCha20-Poly1305: its 24-byte nonces may be random for any number of values.
pub(super) fn encrypt(
    key: &[u8; 32],
    rng: &mut impl CryptoRngCore,
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    #[cfg(feature = "under-test")]
    bulla_e2ee::seals::note(bulla_e2ee::seals::By::Store, &[key, &nonce], &[plain, aad]);
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
        .map_err(|_| StoreError::Key("a value is too large to be sealed".into()))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

pub(super) fn decrypt(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE)?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad })
        .ok()
        .map(Zeroizing::new)
}
