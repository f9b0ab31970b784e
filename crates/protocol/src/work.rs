//! Proof of work: what a new mailbox, a first contact and a commit slot's claim cost, instead of an account (hashcash over SHA-256).

use sha2::{Digest, Sha256};

use crate::id::{Challenge, MailboxId, SlotId};
use crate::label;

/// What is worked for. Fixed-length parts only, so that no two tasks hash alike.
#[derive(Debug, Clone)]
pub struct Task(Sha256);

impl Task {
    /// Work for making a mailbox.
    #[must_use]
    pub fn mailbox(challenge: &Challenge, mailbox: &MailboxId) -> Self {
        Self(
            Sha256::new()
                .chain_update(label::WORK_MAILBOX)
                .chain_update(challenge.as_bytes())
                .chain_update(mailbox.as_bytes()),
        )
    }

    /// Work for sending `envelope` through a contact permit.
    #[must_use]
    pub fn contact(challenge: &Challenge, mailbox: &MailboxId, envelope: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update(label::WORK_CONTACT)
                .chain_update(challenge.as_bytes())
                .chain_update(mailbox.as_bytes())
                .chain_update(Sha256::digest(envelope)),
        )
    }

    /// Work for claiming a commit slot with `commit`, the sealed bytes.
    #[must_use]
    pub fn slot(challenge: &Challenge, slot: &SlotId, commit: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update(label::WORK_SLOT)
                .chain_update(challenge.as_bytes())
                .chain_update(slot.as_bytes())
                .chain_update(Sha256::digest(commit)),
        )
    }

    /// Whether `nonce` is enough for `bits`.
    #[must_use]
    pub fn accepts(&self, nonce: u64, bits: u32) -> bool {
        let hash = self.0.clone().chain_update(nonce.to_be_bytes()).finalize();
        let mut zeros = 0;
        for byte in hash {
            zeros += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        zeros >= bits
    }

    /// Searches nonces from `from`, at most `tries` of them: the caller decides how long to hold its thread.
    #[must_use]
    pub fn search(&self, bits: u32, from: u64, tries: u64) -> Option<u64> {
        (from..from.saturating_add(tries)).find(|nonce| self.accepts(*nonce, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_found_checked_and_bound_to_its_task() {
        let challenge = Challenge::new([1; 32]);
        let task = Task::mailbox(&challenge, &MailboxId::new([2; 16]));
        let nonce = task.search(8, 0, 100_000).unwrap();
        assert!(task.accepts(nonce, 8));
        assert!(!task.accepts(nonce, 200));
        let accepted_elsewhere =
            (0..64u8).filter(|i| Task::mailbox(&challenge, &MailboxId::new([i + 3; 16])).accepts(nonce, 8)).count();
        assert!(accepted_elsewhere < 8, "a nonce for one mailbox must not serve others");
        assert!(Task::contact(&challenge, &MailboxId::new([2; 16]), b"x").search(4, 0, 10_000).is_some());
        assert_eq!(task.search(200, 0, 10), None);
    }

    /// The layout at the head of `proto/relay.proto`, computed by another program.
    #[test]
    fn work_for_a_slot_is_over_the_published_bytes() {
        let nonce = 39_127;
        let task = Task::slot(&Challenge::new([1; 32]), &SlotId::new([2; 32]), b"commit");
        assert_eq!(task.search(16, 0, 1 << 20), Some(nonce));
        let other = Task::slot(&Challenge::new([1; 32]), &SlotId::new([2; 32]), b"another commit");
        assert!(!other.accepts(nonce, 16), "work for one commit must not serve another");
    }
}
