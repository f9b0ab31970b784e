//! What an owner signs. The signature binds the relay's name and the connection's challenge, so that no relay can use it at
//! another, and none can be used twice.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::id::{Challenge, Incarnation, MailboxId, exact};
use crate::label;
use crate::permit::{MacRoot, RelayName};

fn open_bytes(name: &RelayName, challenge: &Challenge, mailbox: &MailboxId, incarnation: &Incarnation) -> Vec<u8> {
    [
        label::OPEN,
        &name.prefixed(),
        challenge.as_bytes(),
        mailbox.as_bytes(),
        &incarnation.number.to_be_bytes(),
        incarnation.nonce.as_bytes(),
    ]
    .concat()
}

fn create_bytes(
    name: &RelayName,
    challenge: &Challenge,
    mailbox: &MailboxId,
    owner: &[u8; 32],
    root: &MacRoot,
) -> Vec<u8> {
    [label::CREATE, &name.prefixed(), challenge.as_bytes(), mailbox.as_bytes(), owner, root.expose()].concat()
}

/// Signs `Open`.
#[must_use]
pub fn sign_open(
    key: &SigningKey,
    name: &RelayName,
    challenge: &Challenge,
    mailbox: &MailboxId,
    incarnation: &Incarnation,
) -> Vec<u8> {
    key.sign(&open_bytes(name, challenge, mailbox, incarnation)).to_bytes().to_vec()
}

/// Checks `Open`.
#[must_use]
pub fn verify_open(
    owner: &[u8; 32],
    name: &RelayName,
    challenge: &Challenge,
    mailbox: &MailboxId,
    incarnation: &Incarnation,
    signature: &[u8],
) -> bool {
    verify(owner, &open_bytes(name, challenge, mailbox, incarnation), signature)
}

/// Signs `Create`.
#[must_use]
pub fn sign_create(
    key: &SigningKey,
    name: &RelayName,
    challenge: &Challenge,
    mailbox: &MailboxId,
    root: &MacRoot,
) -> Vec<u8> {
    let owner = key.verifying_key().to_bytes();
    key.sign(&create_bytes(name, challenge, mailbox, &owner, root)).to_bytes().to_vec()
}

/// Checks `Create`.
#[must_use]
pub fn verify_create(
    owner: &[u8; 32],
    name: &RelayName,
    challenge: &Challenge,
    mailbox: &MailboxId,
    root: &MacRoot,
    signature: &[u8],
) -> bool {
    verify(owner, &create_bytes(name, challenge, mailbox, owner, root), signature)
}

/// Ed25519, strict: refuses keys and nonces of small order and non-canonical encodings (KEY-09), and any length but 64 (MLS-01).
fn verify(owner: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = exact::<64>(signature) else { return false };
    VerifyingKey::from_bytes(owner)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(&signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IncarnationNonce;

    fn parts() -> (SigningKey, RelayName, Challenge, MailboxId, Incarnation) {
        let incarnation = Incarnation { number: 4, nonce: IncarnationNonce::new([5; 16]) };
        let name = RelayName::new("relay.example").unwrap();
        (SigningKey::from_bytes(&[1; 32]), name, Challenge::new([2; 32]), MailboxId::new([3; 16]), incarnation)
    }

    #[test]
    fn an_opening_counts_once_at_one_relay_for_one_incarnation() {
        let (key, name, challenge, mailbox, inc) = parts();
        let owner = key.verifying_key().to_bytes();
        let sig = sign_open(&key, &name, &challenge, &mailbox, &inc);
        assert!(verify_open(&owner, &name, &challenge, &mailbox, &inc, &sig));
        let other = RelayName::new("relay2.example").unwrap();
        assert!(!verify_open(&owner, &other, &challenge, &mailbox, &inc, &sig));
        assert!(!verify_open(&owner, &name, &Challenge::new([9; 32]), &mailbox, &inc, &sig));
        assert!(!verify_open(&owner, &name, &challenge, &MailboxId::new([9; 16]), &inc, &sig));
        let raised = Incarnation { number: 5, ..inc };
        assert!(!verify_open(&owner, &name, &challenge, &mailbox, &raised, &sig));
        for len in 0..64 {
            assert!(!verify_open(&owner, &name, &challenge, &mailbox, &inc, &sig[..len]));
        }
    }

    #[test]
    fn a_creation_binds_key_and_root() {
        let (key, name, challenge, mailbox, _) = parts();
        let owner = key.verifying_key().to_bytes();
        let root = MacRoot::new([6; 32]);
        let sig = sign_create(&key, &name, &challenge, &mailbox, &root);
        assert!(verify_create(&owner, &name, &challenge, &mailbox, &root, &sig));
        assert!(!verify_create(&owner, &name, &challenge, &mailbox, &MacRoot::new([7; 32]), &sig));
        assert!(!verify_create(&[9; 32], &name, &challenge, &mailbox, &root, &sig));
    }

    /// KEY-09: a key of small order is refused, with the signature that it would accept for any message.
    #[test]
    fn key_09_small_order_owner_keys_are_refused() {
        let (_, name, challenge, mailbox, inc) = parts();
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1; // R = the neutral element, s = 0
        assert!(!verify_open(&identity_point, &name, &challenge, &mailbox, &inc, &signature));
        assert!(!verify_open(&[0; 32], &name, &challenge, &mailbox, &inc, &signature));
    }
}
