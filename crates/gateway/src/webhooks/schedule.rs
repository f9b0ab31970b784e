//! Which conversation's webhook is tried when: no I/O, no clock.
//!
//! A conversation is *due*, *delayed* until a time, or *in flight*; never two of them. News for a conversation in flight makes it due
//! again when it lands.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bulla_client::event::ConversationId;

use crate::entropy::Entropy;

/// Requests at once per business: a slow receiver is not flooded, and thirty-two slow conversations do not stop the others' for long.
pub(crate) const IN_FLIGHT: usize = 32;

/// The first wait after a failure, doubled each time.
const FIRST_MS: u64 = 1_000;

/// The longest wait between two tries.
const LONGEST_MS: u64 = 3_600_000;

/// How long to wait after so many failures: half of it certain, half of it chance, so that what failed together does not return together.
pub(crate) fn backoff(failed: u32, entropy: &Entropy) -> u64 {
    let full =
        FIRST_MS.saturating_mul(1_u64.checked_shl(failed.saturating_sub(1).min(20)).unwrap_or(1)).min(LONGEST_MS);
    full / 2 + entropy.below(full / 2 + 1)
}

/// The schedule of one business.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due: VecDeque<ConversationId>,
    delayed: BTreeSet<(u64, ConversationId)>,
    until: HashMap<ConversationId, u64>,
    in_flight: BTreeMap<ConversationId, News>,
    is_due: HashSet<ConversationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Came,
}

impl Schedule {
    /// A row was added, or should be tried whatever its delay: a person who repairs a receiver should not have to wait an hour.
    pub(crate) fn wake(&mut self, id: ConversationId) {
        if let Some(news) = self.in_flight.get_mut(&id) {
            *news = News::Came;
            return;
        }
        if let Some(at) = self.until.remove(&id) {
            self.delayed.remove(&(at, id));
        }
        if self.is_due.insert(id) {
            self.due.push_back(id);
        }
    }

    /// Not before `at_ms`.
    pub(crate) fn delay(&mut self, id: ConversationId, at_ms: u64) {
        if !self.is_due.contains(&id) && !self.in_flight.contains_key(&id) {
            if let Some(old) = self.until.insert(id, at_ms) {
                self.delayed.remove(&(old, id));
            }
            self.delayed.insert((at_ms, id));
        }
    }

    /// Everything that is delayed is due.
    pub(crate) fn wake_all(&mut self) {
        let all: Vec<_> = self.delayed.iter().map(|(_, id)| *id).collect();
        for id in all {
            self.wake(id);
        }
    }

    /// The next conversation to try, which is in flight from now on.
    pub(crate) fn start(&mut self, now_ms: u64) -> Option<ConversationId> {
        while let Some((at, id)) = self.delayed.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.delayed.remove(&(at, id));
            self.until.remove(&id);
            if self.is_due.insert(id) {
                self.due.push_back(id);
            }
        }
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let id = self.due.pop_front()?;
        self.is_due.remove(&id);
        self.in_flight.insert(id, News::None);
        Some(id)
    }

    /// A try has ended.
    pub(crate) fn land(&mut self, id: ConversationId, landed: Landed) {
        let news = self.in_flight.remove(&id);
        match landed {
            Landed::More => self.wake(id),
            Landed::Later(at_ms) => self.delay(id, at_ms),
            Landed::Empty if news == Some(News::Came) => self.wake(id),
            Landed::Empty => {}
        }
    }

    /// When something delayed becomes due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.delayed.first().map(|(at, _)| *at)
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landed {
    /// No row is left.
    Empty,
    /// There are more rows.
    More,
    /// It failed; not before this time, Unix ms.
    Later(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: ConversationId = ConversationId(1);
    const B: ConversationId = ConversationId(2);

    #[test]
    fn gw_19_waits_grow_to_an_hour_and_are_spread() {
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        for (failed, full) in
            [(1, 1_000), (2, 2_000), (5, 16_000), (12, 2_048_000), (13, LONGEST_MS), (u32::MAX, LONGEST_MS)]
        {
            for _ in 0..50 {
                let wait = backoff(failed, &entropy);
                assert!((full / 2..=full).contains(&wait), "{failed}: {wait}");
            }
        }
        let some: BTreeSet<u64> = (0..20).map(|_| backoff(10, &entropy)).collect();
        assert!(some.len() > 1, "chance has a part");
    }

    #[test]
    fn one_in_flight_per_conversation() {
        let mut schedule = Schedule::default();
        schedule.wake(A);
        schedule.wake(A);
        assert_eq!(schedule.start(0), Some(A));
        schedule.wake(A);
        assert_eq!(schedule.start(0), None);
        schedule.land(A, Landed::Empty);
        assert_eq!(schedule.start(0), Some(A), "news came while it was in flight");
        schedule.land(A, Landed::Empty);
        assert_eq!(schedule.start(0), None);
    }

    #[test]
    fn a_failure_delays_its_conversation_only() {
        let mut schedule = Schedule::default();
        schedule.wake(A);
        schedule.wake(B);
        assert_eq!((schedule.start(0), schedule.start(0)), (Some(A), Some(B)));
        schedule.land(A, Landed::Later(100));
        schedule.land(B, Landed::More);
        assert_eq!((schedule.start(99), schedule.start(99)), (Some(B), None));
        assert_eq!(schedule.next_ms(), Some(100));
        assert_eq!(schedule.start(100), Some(A));
    }

    #[test]
    fn a_new_row_brings_the_next_try_forward() {
        let mut schedule = Schedule::default();
        schedule.delay(A, 1_000);
        assert_eq!(schedule.start(0), None);
        schedule.wake(A);
        assert_eq!((schedule.start(0), schedule.next_ms()), (Some(A), None));
        schedule.land(A, Landed::Later(1_000));
        schedule.wake_all();
        assert_eq!(schedule.start(0), Some(A));
    }

    proptest! {
        /// However it is used: never more than the limit, never a conversation twice, nothing forgotten.
        #[test]
        fn keeps_its_invariants(steps in proptest::collection::vec((0..4_u8, 0..60_u64), 0..400)) {
            let mut schedule = Schedule::default();
            let mut in_flight = HashSet::new();
            let mut rows: HashMap<u64, u64> = HashMap::new();
            for (now, (what, n)) in steps.into_iter().enumerate() {
                let (now, id) = (now as u64, ConversationId(n));
                match what {
                    0 | 1 => { *rows.entry(n).or_default() += 1; schedule.wake(id); }
                    2 => if let Some(id) = schedule.start(now) {
                        prop_assert!(in_flight.insert(id));
                        prop_assert!(in_flight.len() <= IN_FLIGHT);
                    },
                    _ => if let Some(id) = in_flight.iter().next().copied() {
                        in_flight.remove(&id);
                        let left = rows.entry(id.0).or_default();
                        if n % 3 == 0 { schedule.land(id, Landed::Later(now + n)); }
                        else { *left = left.saturating_sub(1); schedule.land(id, if *left > 0 { Landed::More } else { Landed::Empty }); }
                    },
                }
            }
            for id in in_flight { schedule.land(id, Landed::More); }
            let mut drained = HashSet::new();
            while let Some(id) = schedule.start(u64::MAX) { drained.insert(id.0); schedule.land(id, Landed::Empty); }
            for (n, left) in rows { prop_assert!(left == 0 || drained.contains(&n)); }
        }
    }
}
