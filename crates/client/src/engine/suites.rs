//! Cipher suites: which one a conversation is in, which one it should be in, and how it gets there (docs/protocol.md §9.8).
//!
//! What an endpoint speaks, its newest spare says. A spare is of the best suite that everybody in the group speaks, and whoever holds one of
//! each of the others for a better suite than the group's begins the conversation again in it, at a quiet moment. A conversation never goes
//! back to a worse suite than one in which its two sides have heard each other.

use bulla_e2ee::bundle::Bundle;
use bulla_e2ee::continues::Reason;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::spare::Spare;
use bulla_e2ee::suite::{Suite, Suites};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::MailboxId;

use super::group::reason_to_stored;
use super::members::Member;
use super::record::{ClaimRecord, GroupRecord};
use super::{Ctx, Engine, Timer};
use crate::event::ConversationState;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// How long a better suite waits before the conversation begins again in it, by who would begin: so that it is seldom more than one. The
/// customer's first device has the first turn, since of two the customer's stands.
const FIRST_MS: u64 = 2_000;
const LINKED_MS: u64 = 10_000;
const BUSINESS_MS: u64 = 20_000;

/// How long it waits for a moment in which nothing is on its way; then it begins all the same.
const BUSY_MS: u64 = 60_000;

/// What a better suite than a group's waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// This endpoint speaks none.
    Not,
    /// Everybody may speak one.
    ForSpares,
    /// Somebody has not said so.
    ForWord,
}

/// The suite of a conversation's group. One that was stored before suites were is of the only one there was.
pub(super) fn suite_of(group: &GroupRecord) -> Suite {
    group.suite.and_then(Suite::of_code).unwrap_or(Suite::Hybrid)
}

/// The suites of which a member said that it speaks them.
fn spoken_by(member: &Member) -> Option<Suites> {
    Suites::of_codes(member.record.suites.iter().flatten().copied())
}

impl GroupRecord {
    /// Both sides are in this group: the conversation does not go below its suite again.
    pub(super) fn stands(&mut self) {
        let floor = self.floor.and_then(Suite::of_code);
        self.floor = Some(floor.max(Some(suite_of(self))).unwrap_or(Suite::Hybrid).code());
    }
}

impl Engine {
    /// The suite below which a conversation does not go.
    fn floor(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Option<Suite>, StoreError> {
        let group = self.group(ctx, number)?;
        if broken(Rule::NoDowngrade) {
            return Ok(None);
        }
        match group.floor {
            Some(code) => Ok(Suite::of_code(code)),
            // Stored before floors were.
            None if group.suite.is_none() && self.has_group(ctx, number)? => Ok(Some(Suite::Hybrid)),
            None => Ok(None),
        }
    }

    /// Whether a conversation may go on in a group of a suite.
    pub(super) fn may_be_in(&self, ctx: &Ctx<'_, '_>, number: u64, suite: Suite) -> Result<bool, StoreError> {
        Ok(self.suites.has(suite) && self.floor(ctx, number)?.is_none_or(|floor| suite >= floor))
    }

    /// What everybody in the group speaks, as far as is known here. Of whom nothing is known: what the group is in.
    fn common(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Option<Suites>, StoreError> {
        let current = Suites::only(suite_of(&self.group(ctx, number)?));
        let members = self.members(ctx, number)?;
        let in_it = members.iter().filter(|m| m.is_in() && !m.record.leaving);
        let mut lists = in_it.map(|member| spoken_by(member).unwrap_or(current));
        Ok(lists.try_fold(self.suites, Suites::common))
    }

    /// The suite of the spare that we leave the others.
    pub(super) fn suite_to_offer(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Suite, StoreError> {
        let floor = self.floor(ctx, number)?;
        let common = self.common(ctx, number)?.map(Suites::best);
        Ok(common.filter(|best| floor.is_none_or(|floor| *best >= floor)).unwrap_or(self.suites.best()))
    }

    /// What a better suite than the group's waits for, as far as is known here.
    pub(super) fn waits_for_better(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Waits, StoreError> {
        let current = suite_of(&self.group(ctx, number)?);
        if self.suites.best() <= current {
            return Ok(Waits::Not);
        }
        let members = self.members(ctx, number)?;
        let may = |m: &Member| spoken_by(m).is_none_or(|theirs| theirs.best() > current);
        // Two who have missed what the other said take each other for older than they are.
        Ok(if members.iter().filter(|m| m.is_in()).all(may) { Waits::ForSpares } else { Waits::ForWord })
    }

    /// What a spare of ours would say now; another one is left when this is not what the last one said.
    pub(super) fn offer(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Vec<u16>, StoreError> {
        let suite = self.suite_to_offer(ctx, number)?.code();
        Ok([suite].into_iter().chain(self.suites.codes()).collect())
    }

    /// What the last spare of ours said.
    pub(super) fn offered(group: &GroupRecord) -> Vec<u16> {
        let before = || [Suite::Hybrid.code()].into_iter().chain(Suites::DEFAULT.codes()).collect();
        group.offered.clone().unwrap_or_else(before)
    }

    /// Of these spares those of the best suite in which a group can be made: one of the other side is among them.
    pub(super) fn of_best_suite(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        mut spares: Vec<Spare>,
    ) -> Result<Vec<Spare>, StoreError> {
        let floor = self.floor(ctx, number)?;
        let may = |suite: Suite| self.suites.has(suite) && floor.is_none_or(|floor| suite >= floor);
        let of_others = spares.iter().filter(|s| s.certificate().role() != self.own_role());
        let best = of_others.map(Spare::suite).filter(|suite| may(*suite)).max();
        spares.retain(|spare| Some(spare.suite()) == best);
        Ok(spares)
    }

    /// Notes what a member says that it speaks. `false`: it is an older spare, delayed on its way, that would take a suite back.
    pub(super) fn note_spoken(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: &Member,
        spare: &Spare,
    ) -> Result<bool, StoreError> {
        let (known, says) = (spoken_by(member), spare.suites());
        let is_older = member.record.spoken_until.is_some_and(|until| spare.not_after() < until);
        if is_older && known.is_some_and(|known| says.best() < known.best()) && !broken(Rule::NoDowngrade) {
            return Ok(false);
        }
        if known != Some(says) || !is_older {
            let mut noted = member.clone();
            noted.record.suites = Some(says.codes());
            noted.record.spoken_until = Some(spare.not_after());
            Self::save_member(ctx, number, peer, &noted)?;
        }
        Ok(true)
    }

    /// The better suite in which the conversation could begin again now, and everybody could follow.
    fn better(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Option<Suite>, StoreError> {
        let group = self.group(ctx, number)?;
        let current = suite_of(&group);
        let stands = group.broken.is_none() && !group.unanswered && group.tries == 0;
        if self.suites.best() <= current || !stands {
            return Ok(None);
        }
        let record = self.conversation_record(ctx, number)?;
        let Some(best) = self.common(ctx, number)?.map(Suites::best).filter(|best| *best > current) else {
            let members = self.members(ctx, number)?;
            let lacks =
                members.iter().find(|m| m.is_in() && spoken_by(m).is_none_or(|theirs| theirs.best() <= current));
            let endpoint = lacks.map(|m| &*m.record.endpoint);
            tracing::debug!(endpoint, "a better suite waits for a member's word that it speaks one");
            return Ok(None);
        };
        if record.state != ConversationState::Open || self.choose_other_side(ctx, number, Purpose::Control)?.is_none() {
            return Ok(None);
        }
        let spares = self.spares(ctx, number, &record)?;
        let has_one = |member: &Member| {
            let is_it = |s: &Spare| {
                (s.certificate().role() == self.own_role()) == member.record.own_side
                    && s.certificate().endpoint() == member.record.endpoint
                    && s.suite() == best
            };
            spares.iter().any(is_it)
        };
        let members = self.members(ctx, number)?;
        let lacks = members.iter().find(|m| m.is_in() && (m.record.leaving || !has_one(m)));
        if let Some(lacks) = lacks {
            tracing::debug!(?best, endpoint = lacks.record.endpoint, "a better suite waits for a member's spare");
            return Ok(None);
        }
        Ok(Some(best))
    }

    /// Somebody was heard: if everybody speaks a better suite by now, the conversation begins again in it soon.
    pub(super) fn want_better(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if self.newer.contains_key(&number) || self.better(ctx, number)?.is_none() || broken(Rule::MovesUp) {
            return Ok(());
        }
        let record = self.conversation_record(ctx, number)?;
        let wait = match (record.is_customer(), record.device) {
            (true, None) => FIRST_MS,
            (true, Some(_)) => LINKED_MS,
            (false, _) => BUSINESS_MS,
        };
        let now = ctx.tx.now_ms();
        self.newer.insert(number, now);
        self.timers.insert((now + wait, Timer::Newer(number)));
        Ok(())
    }

    /// The time has come to begin again in a better suite, if that is still to be done.
    pub(super) fn newer_due(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let Some(since) = self.newer.get(&number).copied() else { return Ok(()) };
        if self.better(ctx, number)?.is_none() {
            self.newer.remove(&number);
            return Ok(());
        }
        let (now, record) = (ctx.tx.now_ms(), self.conversation_record(ctx, number)?);
        let may_not = self.superseded || !self.holds(MailboxId::new(*record.mailbox));
        if may_not || (now < since + BUSY_MS && self.is_busy(ctx, number)?) {
            self.timers.insert((now + FIRST_MS, Timer::Newer(number)));
            return Ok(());
        }
        self.newer.remove(&number);
        self.break_group(ctx, number, Reason::Newer)
    }

    /// Whether something of a conversation is on its way, or about to be.
    fn is_busy(&mut self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let prefix = number.to_be_bytes();
        let until = crate::store::tx::after_prefix(&prefix);
        let waits = ctx.tx.scan_bytes(Table::Outbox, &prefix, until.as_deref(), Order::Ascending, 1)?;
        let claims = ctx.tx.get::<ClaimRecord>(Table::Claims, &prefix)?.is_some();
        Ok(!waits.is_empty() || claims || !self.changes(ctx, number)?.is_nothing())
    }

    /// A group of a suite that this endpoint does not speak any more, or not yet: the conversation begins again in one that it speaks.
    pub(super) fn gives_up_suite(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        group: &mut GroupRecord,
    ) -> Result<(), StoreError> {
        tracing::warn!("a conversation is in a suite that this program does not speak: it waits for another");
        // A group that nobody has answered was begun for something: it still has to be told.
        let begun_for = group.began.filter(|_| group.unanswered);
        group.broken = Some(begun_for.unwrap_or(reason_to_stored(Reason::Newer)));
        ctx.tx.put(Table::Groups, &number.to_be_bytes(), Scope::Peer(peer), group)
    }

    /// Whoever asks us to begin in a newer suite cannot be brought into a group like this one: such spares of the other side are of no use.
    pub(super) fn drop_old_spares(&self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let (record, current) = (self.conversation_record(ctx, number)?, suite_of(&self.group(ctx, number)?));
        for member in self.members(ctx, number)?.iter().filter(|m| m.is_other_side()) {
            let Some(bytes) = self.spare_of(ctx, number, member.number)? else { continue };
            let spare = Spare::verify(&bytes, &self.expect_member(&record, member)?, ctx.tx.now_ms() / 1000);
            if spare.is_ok_and(|spare| spare.suite() <= current) {
                Self::drop_spare(ctx, number, member.number);
            }
        }
        Ok(())
    }

    /// The suite of a Hello to a bundle: the best that the business, this device and the customer's others speak. Those others that speak none
    /// of the business's stay behind until they do.
    pub(super) fn hello_suite(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        bundle: &Bundle,
    ) -> Result<Option<Suite>, StoreError> {
        let floor = self.floor(ctx, number)?;
        let Some(possible) = bundle.suites_with(self.suites) else { return Ok(None) };
        let mut devices = Some(possible);
        for member in self.members(ctx, number)?.iter().filter(|m| m.record.own_side && !m.record.leaving) {
            devices = devices.and_then(|all| spoken_by(member).map_or(Some(all), |theirs| all.common(theirs)));
        }
        let best = [devices, Some(possible)].into_iter().flatten().map(Suites::best);
        Ok(best.into_iter().find(|best| floor.is_none_or(|floor| *best >= floor)))
    }
}
