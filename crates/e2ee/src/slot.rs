//! Commit slots: where a relay keeps the one commit that ends an epoch.
//!
//! Id and sealing key come from MLS's exporter in the epoch that the commit ends: members alone find the cell or open it, a member that
//! the commit removes cannot reach the next one, and to the relay two epochs of one group look unrelated.
//!
//! The two cells of a transfer are slots too ([`crate::transfer`]), sealed in the same way: a relay cannot tell one from the other.
//!
//! Sealed commit = `u8 1 ‖ nonce(24) ‖ XChaCha20-Poly1305(key, nonce, AAD = SLOT_KEY ‖ id, u32 length ‖ commit ‖ zeros)`, padded like an
//! envelope.

use core::fmt;

use bulla_protocol::label;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::envelope::bucket;
use crate::{VERSION, limits};

const NONCE: usize = 24;
const AEAD_TAG: usize = 16;
const OVERHEAD: usize = 1 + NONCE + AEAD_TAG + 4;

/// The slot of one epoch.
#[derive(Clone)]
pub struct Slot {
    id: [u8; 32],
    key: Zeroizing<[u8; 32]>,
}

/// What stands in a slot cannot be a commit of this epoch: somebody outside the group wrote it, or the relay made it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a commit that a member sealed into this slot")]
pub struct SlotError;

impl Slot {
    pub(crate) fn new(id: [u8; 32], key: Zeroizing<[u8; 32]>) -> Self {
        Self { id, key }
    }

    /// Where the relay keeps it.
    #[must_use]
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    fn aad(&self) -> Vec<u8> {
        [label::SLOT_KEY, &self.id].concat()
    }

    /// Seals a commit for the claim.
    pub fn seal(&self, commit: &[u8], rng: &mut impl CryptoRngCore) -> Result<Vec<u8>, SlotError> {
        if commit.len() > limits::COMMIT {
            return Err(SlotError);
        }
        let length = u32::try_from(commit.len()).map_err(|_| SlotError)?;
        let whole = bucket(OVERHEAD + commit.len());
        let mut nonce = XNonce::default();
        rng.fill_bytes(&mut nonce);
        let mut padded = Vec::with_capacity(whole);
        padded.extend_from_slice(&length.to_be_bytes());
        padded.extend_from_slice(commit);
        padded.resize(whole - 1 - NONCE - AEAD_TAG, 0);
        #[cfg(feature = "under-test")]
        crate::seals::note(crate::seals::By::Slot, &[&*self.key, &nonce], &[&padded, &self.id]);
        XChaCha20Poly1305::new((&*self.key).into())
            .encrypt_in_place(&nonce, &self.aad(), &mut padded)
            .map_err(|_| SlotError)?;
        Ok([&[VERSION][..], &nonce, &padded].concat())
    }

    /// Opens what the relay has in the slot.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SlotError> {
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(SlotError) };
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(SlotError)?;
        let mut padded = sealed.to_vec();
        XChaCha20Poly1305::new((&*self.key).into())
            .decrypt_in_place(XNonce::from_slice(nonce), &self.aad(), &mut padded)
            .map_err(|_| SlotError)?;
        let (length, rest) = padded.split_first_chunk::<4>().ok_or(SlotError)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SlotError)?;
        let (commit, zeros) = rest.split_at_checked(length).ok_or(SlotError)?;
        if zeros.iter().any(|b| *b != 0) { Err(SlotError) } else { Ok(commit.to_vec()) }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    fn slot(n: u8) -> Slot {
        Slot::new([n; 32], Zeroizing::new([n; 32]))
    }

    #[test]
    fn a_commit_comes_out_of_its_own_slot_only() {
        let sealed = slot(1).seal(b"commit", &mut OsRng).unwrap();
        assert_eq!(sealed.len(), 1024);
        assert_eq!(slot(1).open(&sealed).unwrap(), b"commit");
        assert_eq!(slot(2).open(&sealed), Err(SlotError));
        // The same key under another id: moved to another cell by the relay.
        let moved = Slot::new([2; 32], Zeroizing::new([1; 32]));
        assert_eq!(moved.open(&sealed), Err(SlotError));
        for at in [0, 1, 30, sealed.len() - 1] {
            let mut turned = sealed.clone();
            turned[at] ^= 1;
            assert_eq!(slot(1).open(&turned), Err(SlotError), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(slot(1).open(&sealed[..length]), Err(SlotError));
        }
        assert_eq!(slot(1).seal(&vec![0; limits::COMMIT + 1], &mut OsRng), Err(SlotError));
        assert!(slot(1).seal(&vec![0; limits::COMMIT], &mut OsRng).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", slot(1)), "Slot(redacted)");
    }
}
