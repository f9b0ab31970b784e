//! Rates: how often a grant may be used, how often strangers may knock, how often a connection may claim slots.
//!
//! A rate of *n* per minute with a burst of *n* is one point in time per grant (generic cell rate algorithm): the moment at which
//! its bucket would be full again. A grant whose moment has passed is as if never used, and is forgotten. Nothing of this is stored.

use std::collections::HashMap;
use std::time::Duration;

use bulla_protocol::id::GrantId;
use bulla_protocol::limits::{CONTACT_RATE, SLOT_CLAIM_BURST, SLOT_CLAIM_RATE};
use tokio::time::Instant;

use crate::limits;

const MINUTE: Duration = Duration::from_secs(60);

/// The rates of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    grants: HashMap<GrantId, Instant>,
    contact: Option<Instant>,
}

impl Rates {
    /// Uses a grant once, or tells when it may be used again.
    pub(crate) fn take(&mut self, grant: GrantId, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let full_again = take(self.grants.get(&grant).copied(), per_minute, per_minute, now)?;
        if self.grants.len() >= limits::RATES {
            self.tidy(now);
        }
        if self.grants.len() >= limits::RATES {
            // So many grants in one minute are the owner's own making: forgetting is kinder than refusing.
            self.grants.clear();
        }
        self.grants.insert(grant, full_again);
        Ok(())
    }

    /// Counts one envelope of the contact class, over all contact grants.
    pub(crate) fn take_contact(&mut self, now: Instant) -> Result<(), Duration> {
        self.contact = Some(take(self.contact, CONTACT_RATE, CONTACT_RATE, now)?);
        Ok(())
    }

    /// Forgets what no longer limits anybody.
    pub(crate) fn tidy(&mut self, now: Instant) {
        self.grants.retain(|_, full_again| *full_again > now);
    }
}

/// The claims of one connection.
#[derive(Debug, Default)]
pub(crate) struct Claims(Option<Instant>);

impl Claims {
    /// Counts one claim, or tells when the next may come.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.0 = Some(take(self.0, SLOT_CLAIM_RATE, SLOT_CLAIM_BURST, now)?);
        Ok(())
    }
}

fn take(full_again: Option<Instant>, per_minute: u32, burst: u32, now: Instant) -> Result<Instant, Duration> {
    let Some(interval) = MINUTE.checked_div(per_minute) else { return Err(MINUTE) };
    let next = full_again.map_or(now, |at| at.max(now)) + interval;
    let (ahead, most) = (next - now, interval * burst);
    if ahead > most { Err(ahead - most) } else { Ok(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_its_burst_and_then_its_rate() {
        let (mut rates, start, grant) = (Rates::default(), Instant::now(), GrantId::new([1; 16]));
        for _ in 0..60 {
            assert_eq!(rates.take(grant, 60, start), Ok(()));
        }
        assert_eq!(rates.take(grant, 60, start), Err(Duration::from_secs(1)));
        assert_eq!(rates.take(GrantId::new([2; 16]), 60, start), Ok(()), "another grant has its own");
        let later = start + Duration::from_secs(1);
        assert_eq!(rates.take(grant, 60, later), Ok(()));
        assert!(rates.take(grant, 60, later).is_err());
        assert!(rates.take(GrantId::new([3; 16]), 0, start).is_err(), "a rate of nothing allows nothing");
        rates.tidy(start + Duration::from_secs(62));
        assert!(rates.grants.is_empty());
    }

    #[test]
    fn a_connection_has_its_burst_of_claims_and_then_their_rate() {
        let (mut claims, start) = (Claims::default(), Instant::now());
        for _ in 0..SLOT_CLAIM_BURST {
            assert_eq!(claims.take(start), Ok(()));
        }
        let interval = MINUTE / SLOT_CLAIM_RATE;
        assert_eq!(claims.take(start), Err(interval));
        assert_eq!(claims.take(start + interval), Ok(()));
        assert_eq!(claims.take(start + interval), Err(interval));
        let full_again = start + interval * (SLOT_CLAIM_BURST + 1);
        for _ in 0..SLOT_CLAIM_BURST {
            assert_eq!(claims.take(full_again), Ok(()), "a burst comes back as a whole");
        }
        assert!(claims.take(full_again).is_err());
    }
}
