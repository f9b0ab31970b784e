//! How much is uploaded under a grant, and under all grants of a mailbox, in a day. In memory only, and forgotten with the day: which grant
//! uploaded what is nowhere else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bulla_protocol::id::{BlobId, GrantId, MailboxId};
use bulla_protocol::limits::{BLOB_GRANT_BYTES, BLOB_MAILBOX_BYTES};

use crate::limits;

/// What was uploaded today.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<Day>);

#[derive(Debug, Default)]
struct Day {
    day: u32,
    grants: HashMap<(MailboxId, GrantId), u64>,
    mailboxes: HashMap<MailboxId, u64>,
    /// What was counted: the same blob again counts nothing.
    blobs: HashMap<BlobId, u64>,
}

impl Shares {
    /// Counts a new blob, if there is room for it today.
    pub(crate) fn take(&self, mailbox: MailboxId, grant: GrantId, blob: BlobId, bytes: u64, today: u32) -> bool {
        let mut day = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if day.day != today {
            *day = Day { day: today, ..Day::default() };
        }
        if day.blobs.get(&blob) == Some(&bytes) {
            return true;
        }
        let of_grant = day.grants.get(&(mailbox, grant)).copied().unwrap_or_default() + bytes;
        let of_mailbox = day.mailboxes.get(&mailbox).copied().unwrap_or_default() + bytes;
        // The business's own grants are new ones each time: its mailbox's share is what bounds it, and them the number that is followed.
        let known = day.grants.contains_key(&(mailbox, grant)) || day.grants.len() < limits::RATES;
        if of_grant > BLOB_GRANT_BYTES || of_mailbox > BLOB_MAILBOX_BYTES || !known {
            return false;
        }
        day.grants.insert((mailbox, grant), of_grant);
        day.mailboxes.insert(mailbox, of_mailbox);
        day.blobs.insert(blob, bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_its_share_of_a_day_and_a_mailbox_its_own() {
        let (shares, mailbox, half) = (Shares::default(), MailboxId::new([1; 16]), BLOB_GRANT_BYTES / 2);
        let grant = |n: u8| GrantId::new([n; 16]);
        let blob = |n: u8| BlobId::new([n; 16]);
        assert!(shares.take(mailbox, grant(0), blob(0), half, 1));
        assert!(shares.take(mailbox, grant(0), blob(0), half, 1), "the same again counts nothing");
        assert!(shares.take(mailbox, grant(0), blob(1), half, 1));
        assert!(!shares.take(mailbox, grant(0), blob(2), 1, 1));
        for n in 1..(BLOB_MAILBOX_BYTES / BLOB_GRANT_BYTES) as u8 {
            assert!(shares.take(mailbox, grant(n), blob(100 + n), BLOB_GRANT_BYTES, 1), "{n}");
        }
        assert!(!shares.take(mailbox, grant(99), blob(99), 1, 1), "the mailbox's share is used up");
        assert!(shares.take(MailboxId::new([2; 16]), grant(0), blob(98), 1, 1), "another mailbox has its own");
        assert!(shares.take(mailbox, grant(0), blob(97), 1, 2), "another day");
    }
}
