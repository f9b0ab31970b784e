//! Commit slots: write-once cells, so that of all who commit to one epoch of a group exactly one wins.
//!
//! A claim is decided on the writer's thread ([`Slots::claim`]), where all writes come one after another: what stands in the slot, in the store or
//! earlier in the same group of writes, decides. So there is nothing between looking and writing, and no lock is held while a disk is read. Every
//! answer, won or lost, is given once the group is on stable storage; if that fails, nobody is answered and the relay ends.
//!
//! A slot whose last day has passed counts as never claimed, whether or not it was swept. What it reads costs the thread a lookup per claim, and a
//! read of the commit where one stands; the proof of work that every claim carries bounds how often.

use std::collections::HashMap;

use bulla_protocol::frame::{Code, SlotClaimed, server_frame::Body};
use bulla_protocol::id::SlotId;
use bulla_protocol::limits::{SLOT_DAYS, SLOT_OVERHEAD};
use bytes::Bytes;

use crate::limits;
use crate::mailbox::Shared;
use crate::outbox::{Refusal, Waiter};
use crate::sabotage::{Rule, broken};
use crate::store::{Slot, SlotEntry, Store, StoreError, Write};

/// A claim whose form and work were checked.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The cell.
    pub(crate) slot: SlotId,
    /// What it shall hold.
    pub(crate) commit: Bytes,
    /// The day on which it came.
    pub(crate) today: u32,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// These bytes stand.
    Won,
    /// Those of somebody else stand.
    Lost(Bytes),
    /// The slot is free, but the relay has no room for it.
    Full,
}

/// Claims a slot. The waiter is answered once what the answer says is on stable storage.
pub(crate) fn claim(shared: &Shared, claim: Claim, waiter: Waiter) {
    let Some(reserved) = shared.budget.reserve(limits::CLAIM_BYTES) else {
        return waiter.refuse(Refusal::after(Code::Unavailable, limits::RETRY_UNAVAILABLE_MS));
    };
    let told = move |outcome| {
        // Before the answer: whoever got it finds the room that it took.
        drop(reserved);
        match outcome {
            Outcome::Won => waiter.answer(Body::SlotClaimed(SlotClaimed { won: true, winner: Bytes::new() })),
            Outcome::Lost(winner) => waiter.answer(Body::SlotClaimed(SlotClaimed { won: false, winner })),
            Outcome::Full => waiter.refuse(Refusal::after(Code::Full, limits::RETRY_SLOTS_FULL_MS)),
        }
    };
    shared.writer.claim(claim, Box::new(told));
}

/// All slots, as the writer's thread sees them.
#[derive(Debug)]
pub(crate) struct Slots {
    limit: u64,
    /// What all slots take of `limit`.
    taken: u64,
    /// The slots that this group of writes has looked at, as it leaves them: the store shows them only once the group is durable.
    group: HashMap<SlotId, Option<Slot>>,
}

impl Slots {
    /// Counts what is stored.
    pub(crate) fn load(store: &dyn Store, limit: u64) -> Result<Self, StoreError> {
        let (mut taken, mut after) = (0, None);
        loop {
            let page = store.slots(after.as_ref(), limits::SLOTS_PAGE)?;
            taken += page.iter().map(|entry| cost(entry.bytes.into())).sum::<u64>();
            match page.last() {
                Some(last) => after = Some(*last),
                None => return Ok(Self { limit, taken, group: HashMap::new() }),
            }
        }
    }

    /// What all take of their room.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The group is durable: the store shows all of it.
    pub(crate) fn end_group(&mut self) {
        self.group.clear();
    }

    fn standing(&mut self, store: &dyn Store, slot: SlotId) -> Result<Option<&Slot>, StoreError> {
        use std::collections::hash_map::Entry;
        if broken(Rule::ClaimsInOrder) {
            self.group.remove(&slot);
        }
        let found = match self.group.entry(slot) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(store.slot(&slot)?),
        };
        Ok(found.as_ref())
    }

    /// Decides a claim and adds what it changes to the group.
    pub(crate) fn claim(
        &mut self,
        store: &dyn Store,
        claim: Claim,
        writes: &mut Vec<Write>,
    ) -> Result<Outcome, StoreError> {
        let Claim { slot, commit, today } = claim;
        let mut over = None;
        match self.standing(store, slot)? {
            Some(there) if there.is_over(today) => over = Some((there.day, cost(there.commit.len() as u64))),
            Some(there) if there.commit == commit => return Ok(Outcome::Won),
            Some(there) => return Ok(Outcome::Lost(there.commit.clone())),
            None => {}
        }
        let freed = over.map_or(0, |(_, cost)| cost);
        let taken = self.taken.saturating_sub(freed) + cost(commit.len() as u64);
        let unseen = if broken(Rule::LimitAtOnce) { in_group(writes) } else { 0 };
        if taken - unseen > self.limit {
            return Ok(Outcome::Full);
        }
        self.taken = taken;
        if let Some((day, _)) = over {
            writes.push(Write::DropSlot(day, slot));
        }
        let new = Slot { day: today.saturating_add(SLOT_DAYS), commit };
        self.group.insert(slot, Some(new.clone()));
        writes.push(Write::PutSlot(slot, new));
        Ok(Outcome::Won)
    }

    /// Frees slots that were found to be over. One that was claimed anew since then is left alone.
    pub(crate) fn forget(
        &mut self,
        store: &dyn Store,
        over: &[SlotEntry],
        writes: &mut Vec<Write>,
    ) -> Result<(), StoreError> {
        for SlotEntry { day, slot, bytes } in over {
            if self.standing(store, *slot)?.is_some_and(|there| there.day == *day) {
                self.taken = self.taken.saturating_sub(cost(u64::from(*bytes)));
                self.group.insert(*slot, None);
                writes.push(Write::DropSlot(*day, *slot));
            }
        }
        Ok(())
    }
}

/// What the slots that these changes fill take of the limit.
fn in_group(writes: &[Write]) -> u64 {
    let filled = |write: &Write| match write {
        Write::PutSlot(_, slot) => cost(slot.commit.len() as u64),
        _ => 0,
    };
    writes.iter().map(filled).sum()
}

/// What a commit of so many bytes takes of the limit.
fn cost(bytes: u64) -> u64 {
    bytes + SLOT_OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::fjall::FjallStore;

    #[derive(Debug, Clone)]
    enum Step {
        Claim { slot: u8, commit: u8 },
        Sweep,
        Durable,
        Days(u32),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..4u8, 0..3u8).prop_map(|(slot, commit)| Step::Claim { slot, commit }),
            1 => Just(Step::Sweep),
            3 => Just(Step::Durable),
            2 => (1..40u32).prop_map(Step::Days),
            1 => Just(Step::Restart),
        ]
    }

    fn over(store: &dyn Store, today: u32) -> Vec<SlotEntry> {
        let mut found = store.slots(None, 100).unwrap();
        found.retain(|entry| entry.day < today);
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        /// Whatever is claimed, swept and made durable in whatever groups: decisions, store and count are those of a plain map.
        #[test]
        fn claims_are_decided_as_by_one_map(steps in proptest::collection::vec(step(), 1..120)) {
            let dir = tempfile::tempdir().unwrap();
            let store = FjallStore::open(&dir.path().join("store"), &dir.path().join("keys"), Box::new(rand_core::OsRng)).unwrap();
            // Room for three of the four slots.
            let limit = 3 * cost(5);
            let mut slots = Slots::load(&store, limit).unwrap();
            let mut map: BTreeMap<SlotId, Slot> = BTreeMap::new();
            let (mut writes, mut today) = (Vec::new(), 100);
            // A sweep looks at what is durable and is decided later, when things may have changed.
            let mut seen_over = Vec::new();
            for step in steps {
                match step {
                    Step::Claim { slot, commit } => {
                        let (slot, commit) = (SlotId::new([slot; 32]), Bytes::from(vec![commit; 5]));
                        let standing = map.get(&slot).filter(|there| !there.is_over(today));
                        let expected = match standing {
                            Some(there) if there.commit == commit => Outcome::Won,
                            Some(there) => Outcome::Lost(there.commit.clone()),
                            None if map.len() == 3 && !map.contains_key(&slot) => Outcome::Full,
                            None => Outcome::Won,
                        };
                        if standing.is_none() && expected == Outcome::Won {
                            map.insert(slot, Slot { day: today + SLOT_DAYS, commit: commit.clone() });
                        }
                        let outcome = slots.claim(&store, Claim { slot, commit, today }, &mut writes).unwrap();
                        prop_assert_eq!(outcome, expected);
                    }
                    Step::Sweep => {
                        for entry in &seen_over {
                            let SlotEntry { day, slot, .. } = entry;
                            if map.get(slot).is_some_and(|there| there.day == *day) {
                                map.remove(slot);
                            }
                        }
                        slots.forget(&store, &seen_over, &mut writes).unwrap();
                        seen_over = over(&store, today);
                    }
                    Step::Days(days) => {
                        today += days;
                        seen_over = over(&store, today);
                    }
                    Step::Durable | Step::Restart => {
                        store.commit(std::mem::take(&mut writes)).unwrap();
                        slots.end_group();
                        let mut found = BTreeMap::new();
                        for entry in store.slots(None, 100).unwrap() {
                            let slot = store.slot(&entry.slot).unwrap().unwrap();
                            prop_assert_eq!((slot.day, slot.commit.len() as u32), (entry.day, entry.bytes));
                            found.insert(entry.slot, slot);
                        }
                        prop_assert_eq!(&found, &map);
                        let counted = Slots::load(&store, limit).unwrap();
                        prop_assert_eq!(slots.taken, counted.taken);
                        if matches!(step, Step::Restart) {
                            slots = counted;
                        }
                    }
                }
            }
        }
    }
}
