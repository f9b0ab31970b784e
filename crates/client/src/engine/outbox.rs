//! The outbox: what is to be said, and a lane per member with one envelope in flight.
//!
//! An intent is stored with its content and message id in lane 0. It is sealed by MLS once, when it is about to leave — the lease is held, a
//! relay is connected, a permit is there — and in that same transaction handed to the lane of each member. There it is sealed once more
//! under the member's permit, and stored so; from then on only those bytes leave, under the same send id, until the relay has answered
//! `Accepted` or refused for good. The next intent is sealed when an endpoint of the other side has nothing more on its way.

use std::collections::BTreeSet;

use bulla_e2ee::continues::Reason;
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::limits;
use bulla_e2ee::sabotage::{self, Rule, broken};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::MailboxId;

use super::lanes::LaneId;
use super::members::{Member, Number, member_key};
use super::messages::{Wait, purpose_of};
use super::record::{Awaited, BodyRecord, ConversationRecord, OutboxRecord, Place, SealedRecord, SecretVec};
use super::sending::{is_alone, wrap};
use super::{Ctx, Engine, LinkKey, RoleOptions, Timer, consent, damaged};
use crate::event::{ConversationState, Failure, Status};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// How long permits may take to come after a group began.
const PERMITS_MS: u64 = 600_000;

/// A message that waited for this long is followed by fresh permits.
const STALE_PERMIT_MS: u64 = 24 * 3_600_000;

/// What a member that cannot be reached has not got after this long is dropped from its lane: as the relay would.
const LANE_KEPT_MS: u64 = 31 * 24 * 3_600_000;

/// What the head of a lane needs next.
pub(super) enum Head {
    Wait,
    Next,
    Send(Box<SealedRecord>),
}

impl Engine {
    pub(super) fn pump_all(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let mut all: Vec<u64> = self.lanes.keys().map(|lane| lane.conversation).collect();
        all.dedup();
        all.into_iter().try_for_each(|number| self.pump(ctx, number))
    }

    /// Moves a conversation's lanes on as far as they go now.
    pub(super) fn pump(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let all = LaneId::intents(number)..=LaneId { conversation: number, member: Number::MAX };
        let lanes: Vec<LaneId> = self.lanes.range(all).map(|(lane, _)| *lane).collect();
        // What is on its way first: the next intent is sealed when that has arrived.
        lanes.into_iter().rev().try_for_each(|lane| self.pump_lane(ctx, lane))
    }

    fn pump_lane(&mut self, ctx: &mut Ctx<'_, '_>, lane: LaneId) -> Result<(), StoreError> {
        loop {
            let Some(state) = self.lanes.get(&lane) else { return Ok(()) };
            if self.superseded || state.in_flight || state.waits_until.is_some_and(|at| at > ctx.tx.now_ms()) {
                return Ok(());
            }
            let Some((key, entry)) = self.head(ctx, lane)? else {
                if lane.member == 0 && self.receipts_to_outbox(ctx, lane.conversation)? {
                    continue;
                }
                return Ok(());
            };
            let next = if let Some(sealed) = entry.sealed {
                Head::Send(Box::new(sealed))
            } else if entry.until_ms.is_some_and(|until| until <= ctx.tx.now_ms()) {
                ctx.tx.delete(Table::Outbox, &key);
                if let Some(place) = entry.message {
                    // Nor is it said later, behind what is newer.
                    Self::confirmed(ctx, lane.member, place);
                }
                Head::Next
            } else if lane.member == 0 {
                self.advance_intent(ctx, lane.conversation, &key, entry)?
            } else {
                self.advance_copy(ctx, lane, &key, entry)?
            };
            match next {
                Head::Next => {}
                Head::Wait => return Ok(()),
                Head::Send(sealed) => return self.send_sealed(ctx, lane, &sealed),
            }
        }
    }

    /// Seals the next thing to be said, if it can leave now, and hands it to the members' lanes.
    fn advance_intent(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        key: &[u8],
        mut entry: OutboxRecord,
    ) -> Result<Head, StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        // In a group that cannot go on nothing is sealed; a statement that it cannot is not sealed in it.
        let must_wait = entry.body.is_none() && self.is_broken(ctx, number)?;
        if !self.holds(MailboxId::new(*record.mailbox)) || must_wait || record.state.is_over() {
            return Ok(Head::Wait);
        }
        let message = entry.message.map(|place| Self::message_record(ctx, place)).transpose()?;
        if let Some(stored) = message.as_ref().filter(|_| entry.content.0.is_empty()) {
            if stored.deleted {
                Self::taken_back_in_time(ctx, stored);
                ctx.tx.delete(Table::Outbox, key);
                return Ok(Head::Next);
            }
            entry.content = stored.content.clone();
            if broken(Rule::SameIds) && stored.status != Status::Queued {
                entry.content = SecretVec(sabotage::other_id(entry.content.0.clone()));
            }
        }
        if record.state == ConversationState::New {
            if let Some(only) = entry.only {
                return self.not_in_hello(ctx, number, key, &entry, only, &mut record);
            }
            return self.seal_hello(ctx, number, key, entry, &mut record);
        }
        if let Some(body) = &entry.body {
            // Also to devices that a group was begun without, so that they hear of it: the other side's only of another beginning; ours that
            // were removed only of that.
            let is_commit = body.kind == Kind::Commit as u8;
            let mut all = Vec::new();
            for m in self.members(ctx, number)? {
                let is_told = is_commit && m.is_gone() && self.has_permit(ctx, number, m.number, Purpose::Control)?;
                let is_to_hear = !m.record.leaving && (m.record.own_side || body.kind == Kind::Continues as u8);
                if m.is_in() || is_to_hear || (m.record.own_side && is_told) {
                    all.push(m);
                }
            }
            return self.hand_out(ctx, record.peer, key, &entry, body.clone(), all);
        }
        if record.state == ConversationState::Greeting {
            return Ok(Head::Wait);
        }
        let Some(purpose) = Purpose::from_wire(u64::from(entry.purpose)) else {
            return Err(damaged(Table::Outbox));
        };
        // What was sent in time and is said again was said in time.
        let is_new = message.is_some_and(|stored| stored.status == Status::Queued);
        if let Some(failure) = self.window_failure(ctx, &record, purpose, is_new) {
            return self.give_up(ctx, key, &entry, failure);
        }
        let (to, out): (Vec<Member>, Vec<Member>) = self.members(ctx, number)?.into_iter().partition(Member::is_in);
        // Who is to be removed gets nothing more, though the commit that removes him may have to wait.
        let to: Vec<Member> = to.into_iter().filter(|m| !m.record.leaving).collect();
        let to = match entry.only {
            Some(only) => to.into_iter().filter(|m| m.number == only).collect(),
            None => to,
        };
        match self.reach(ctx, number, &to, purpose)? {
            // To one of several: whether it can be written to, its lane finds out.
            _ if entry.only.is_some() => {}
            Reach::Idle => {}
            Reach::Busy => return Ok(Head::Wait),
            Reach::Nobody => {
                return self.nobody_to_reach(ctx, &record, key, &entry, &to, purpose);
            }
        }
        if !self.may_seal(ctx, number)? {
            // More lost messages than MLS can skip would close the conversation for ever; hearing the other side reopens the lane.
            return Ok(Head::Wait);
        }
        let Some(mls) = self.seal_mls(ctx, number, record.peer, &entry.content.0)? else {
            return self.give_up(ctx, key, &entry, Failure::TooLarge);
        };
        if let Some(place) = entry.message.filter(|_| to.len() > 1 || entry.only.is_some()) {
            Self::await_members(ctx, place, record.peer, &to)?;
        }
        if let Some(place) = entry.message.filter(|_| entry.only.is_none()) {
            Self::await_out(ctx, place, record.peer, &out)?;
        }
        let body = BodyRecord { kind: Kind::Mls as u8, bytes: SecretVec(mls) };
        self.hand_out(ctx, record.peer, key, &entry, body, to)?;
        self.renew_if_old(ctx, number)?;
        self.commit(ctx, number)?;
        self.renew_stale_permit(ctx, number, &mut record, &entry)?;
        Ok(Head::Next)
    }

    /// What is for one member alone does not go with a Hello, which is for the business: that member gets it when it is in the group.
    fn not_in_hello(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        key: &[u8],
        entry: &OutboxRecord,
        only: Number,
        record: &mut ConversationRecord,
    ) -> Result<Head, StoreError> {
        ctx.tx.delete(Table::Outbox, key);
        if let Some(place) = entry.message {
            Self::note_awaited(ctx, only, place, record.peer, Awaited::Pending)?;
        }
        self.something_to_say(ctx, number, record)?;
        self.save_conversation(ctx, number, record)?;
        Ok(Head::Next)
    }

    /// The other side has given no permit that counts: a fresh one may come, or be asked for.
    fn nobody_to_reach(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        record: &ConversationRecord,
        key: &[u8],
        entry: &OutboxRecord,
        to: &[Member],
        purpose: Purpose,
    ) -> Result<Head, StoreError> {
        let Some(LaneId { conversation: number, .. }) = LaneId::from_key(key) else {
            return Err(damaged(Table::Outbox));
        };
        let lane = LaneId::intents(number);
        if let Some(place) = entry.message
            && Self::had_been_there(ctx, entry)?
        {
            // Said again as soon as a permit comes.
            let others: Vec<Member> = to.iter().filter(|m| m.is_other_side()).cloned().collect();
            Self::await_members(ctx, place, record.peer, &others)?;
            ctx.tx.delete(Table::Outbox, key);
            return Ok(Head::Next);
        }
        if let Some(window_end) = self.fresh_permit_may_come(ctx, number, record, purpose)? {
            self.lanes.entry(lane).or_default().waits_until = None;
            self.timers.insert((window_end, Timer::Lane(lane)));
            return Ok(Head::Wait);
        }
        // Who has just come in has nobody's permits yet: they are about to come.
        let none_yet = to.iter().filter(|m| m.is_other_side()).all(|m| !m.record.gave);
        if none_yet && !record.is_customer() {
            return Ok(Head::Wait);
        }
        if record.is_customer() && (none_yet || entry.message.is_some()) {
            // A customer whose right to write is gone or over asks for another: with a new group come fresh permits, if they are not on
            // their way in this one.
            let at = self.group(ctx, number)?.renewed_ms.saturating_add(PERMITS_MS);
            if ctx.tx.now_ms() < at {
                self.timers.insert((at, Timer::Lane(lane)));
            } else {
                self.break_group(ctx, number, Reason::Gap)?;
            }
            return Ok(Head::Wait);
        }
        let failure = match record.decision(purpose) {
            Some(decision) if !decision.given => Failure::Withdrawn,
            None if consent::PURPOSES.contains(&purpose) => Failure::NoConsent,
            _ => Failure::Refused,
        };
        self.give_up(ctx, key, entry, failure)
    }

    /// Whether somebody of the other side can be written to now, and has nothing on its way.
    fn reach(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        to: &[Member],
        purpose: Purpose,
    ) -> Result<Reach, StoreError> {
        let mut reach = Reach::Nobody;
        for member in to.iter().filter(|m| m.is_other_side()) {
            let Some((relay, _)) = self.choose(ctx, number, member.number, member.purpose(purpose))? else { continue };
            reach = Reach::Busy;
            let lane = LaneId { conversation: number, member: member.number };
            if self.link(ctx.out, &LinkKey::anonymous(&relay)).is_some() && self.head(ctx, lane)?.is_none() {
                return Ok(Reach::Idle);
            }
        }
        Ok(reach)
    }

    /// Puts a body into the lane of each member, in place of the intent.
    fn hand_out(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        peer: u64,
        key: &[u8],
        entry: &OutboxRecord,
        body: BodyRecord,
        to: Vec<Member>,
    ) -> Result<Head, StoreError> {
        let Some(LaneId { conversation, .. }) = LaneId::from_key(key) else { return Err(damaged(Table::Outbox)) };
        ctx.tx.delete(Table::Outbox, key);
        let latest = ctx.tx.now_ms() + LANE_KEPT_MS;
        let copy = OutboxRecord {
            body: Some(body),
            until_ms: Some(entry.until_ms.unwrap_or(latest)),
            // A message is kept in its own table; a receipt nowhere else, in case the conversation has to begin again.
            content: if entry.message.is_some() { SecretVec(Vec::new()) } else { entry.content.clone() },
            sealed: None,
            only: None,
            ..entry.clone()
        };
        let several = to.len() > 1 || entry.only.is_some();
        let epoch = if entry.message.is_some() { self.mls(ctx, conversation)?.epoch() } else { 0 };
        for member in to {
            let lane = LaneId { conversation, member: member.number };
            if let Some(place) = entry.message.filter(|_| several && entry.only.is_none())
                && Self::waits_before(ctx, member.number, place)?
            {
                Self::note_awaited(ctx, member.number, place, peer, Awaited::Pending)?;
                continue;
            }
            self.enqueue_copy(ctx, lane, peer, &copy)?;
            if let Some(place) = entry.message {
                Self::handed(ctx, member.number, place, peer, epoch, several)?;
            }
            self.pump_lane(ctx, lane)?;
        }
        Ok(Head::Next)
    }

    /// Seals the head of a member's lane under its permit.
    fn advance_copy(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        key: &[u8],
        mut entry: OutboxRecord,
    ) -> Result<Head, StoreError> {
        let number = lane.conversation;
        let record = self.conversation_record(ctx, number)?;
        if !self.holds(MailboxId::new(*record.mailbox)) {
            return Ok(Head::Wait);
        }
        let members = self.members(ctx, number)?;
        let (Some(member), Some(purpose)) =
            (members.iter().find(|m| m.number == lane.member), Purpose::from_wire(u64::from(entry.purpose)))
        else {
            ctx.tx.delete(Table::Outbox, key);
            return Ok(Head::Next);
        };
        let Some((relay, given)) = self.choose(ctx, number, member.number, member.purpose(purpose))? else {
            if !is_alone(&members, member) || Self::had_been_there(ctx, &entry)? {
                self.not_now(ctx, lane, key, &entry, record.peer)?;
                return Ok(Head::Next);
            }
            if let Some(window_end) = self.fresh_permit_may_come(ctx, number, &record, purpose)? {
                self.timers.insert((window_end, Timer::Lane(lane)));
                return Ok(Head::Wait);
            }
            return self.give_up(ctx, key, &entry, Failure::Refused);
        };
        if self.link(ctx.out, &LinkKey::anonymous(&relay)).is_none() {
            return Ok(Head::Wait);
        }
        let body = entry.body.take().ok_or(damaged(Table::Outbox))?;
        let kind = Kind::from_wire(body.kind).ok_or(damaged(Table::Outbox))?;
        let Some(sealed) = wrap(ctx, &relay, &given, kind, &body.bytes.0) else {
            return self.give_up(ctx, key, &entry, Failure::TooLarge);
        };
        entry.sealed = Some(sealed.clone());
        ctx.tx.put(Table::Outbox, key, Scope::Peer(record.peer), &entry)?;
        Ok(Head::Send(Box::new(sealed)))
    }

    /// A business's free text outside of the window fails when it is about to leave.
    fn window_failure(
        &self,
        ctx: &Ctx<'_, '_>,
        record: &ConversationRecord,
        purpose: Purpose,
        is_new_message: bool,
    ) -> Option<Failure> {
        let RoleOptions::Business(options) = &self.role else { return None };
        let closed = ctx.tx.now_ms() >= record.last_heard_ms.saturating_add(options.window_ms);
        (is_new_message && purpose == Purpose::Service && closed).then_some(Failure::WindowClosed)
    }

    /// Until when a business waits for a permit: inside the window, where the one it has is merely over, a fresh one follows the
    /// customer's message that opened the window.
    fn fresh_permit_may_come(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        purpose: Purpose,
    ) -> Result<Option<u64>, StoreError> {
        let RoleOptions::Business(options) = &self.role else { return Ok(None) };
        let end = record.last_heard_ms.saturating_add(options.window_ms);
        if purpose != Purpose::Service || ctx.tx.now_ms() >= end {
            return Ok(None);
        }
        for member in self.members(ctx, number)?.iter().filter(|m| m.is_in() && m.is_other_side()) {
            if self.has_permit(ctx, number, member.number, purpose)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    pub(super) fn give_up(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &[u8],
        entry: &OutboxRecord,
        failure: Failure,
    ) -> Result<Head, StoreError> {
        ctx.tx.delete(Table::Outbox, key);
        let Some(place) = entry.message else { return Ok(Head::Next) };
        // Not if it is on its way to others of that side, or was for one of our own devices.
        let failed = match LaneId::from_key(key) {
            Some(LaneId { conversation, member }) if member > 0 => {
                let members = self.members(ctx, conversation)?;
                members.iter().any(|m| m.number == member && is_alone(&members, m))
            }
            _ => true,
        };
        if failed {
            self.fail_message(ctx, place, failure)?;
        }
        Ok(Head::Next)
    }

    /// An epoch has ended. What is in the lanes of several members and has not been sent is sealed anew, before anything newer, so that nobody
    /// gets a message of an epoch that it has left; what is on its way, and may come too late by that, is sealed once more. So is what left
    /// before the epochs whose keys are kept, and is not confirmed: after removals in a row nobody could open it. What is newer follows it.
    pub(super) fn reseal_unsent(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let epoch = self.mls(ctx, number)?.epoch();
        let members = self.members(ctx, number)?;
        let several = members.iter().filter(|m| m.is_in()).count() > 1;
        for member in members {
            let mut in_lane = BTreeSet::new();
            let rows = ctx.tx.scan_prefix::<Awaited>(Table::Awaited, &member_key(number, member.number))?;
            let is_past =
                |how: &Awaited| matches!(how, Awaited::Handed(sealed) if sealed + limits::PAST_EPOCHS < epoch);
            let has_past = member.is_in() && rows.iter().any(|(_, how)| is_past(how));
            if several || has_past {
                self.reseal_lane(ctx, number, peer, member.number, &mut in_lane)?;
            }
            for (key, how) in rows.into_iter().rev().filter(|_| has_past) {
                let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
                if is_past(&how) && !in_lane.contains(&order) {
                    let place = Place { conversation: number, order };
                    Self::note_awaited(ctx, member.number, place, peer, Awaited::Queued)?;
                    let again = OutboxRecord::message(place, purpose_of(&Self::message_record(ctx, place)?));
                    self.enqueue_first(ctx, number, peer, &OutboxRecord { only: Some(member.number), ..again })?;
                }
            }
        }
        Ok(())
    }

    fn reseal_lane(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        resealed: &mut BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        let lane = LaneId { conversation: number, member };
        let rows = ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &lane.prefix())?;
        let kind_of = |entry: &OutboxRecord| match &entry.sealed {
            Some(sealed) => sealed.kind,
            None => entry.body.as_ref().map(|b| b.kind),
        };
        let is_message = |entry: &OutboxRecord| kind_of(entry) == Some(Kind::Mls as u8);
        for (key, entry) in rows.into_iter().rev().filter(|(_, entry)| is_message(entry)) {
            if entry.sealed.is_none() {
                ctx.tx.delete(Table::Outbox, &key);
            }
            let content = match entry.message {
                Some(place) => {
                    resealed.insert(place.order);
                    Self::note_awaited(ctx, member, place, peer, Awaited::Queued)?;
                    SecretVec(Vec::new())
                }
                None => entry.content.clone(),
            };
            let again = OutboxRecord { body: None, sealed: None, content, only: Some(member), ..entry };
            self.enqueue_first(ctx, number, peer, &again)?;
        }
        Ok(())
    }

    /// A customer's message that waited for long brings a `service` permit that is nearly over: a fresh one follows it.
    fn renew_stale_permit(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        entry: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let (Some(place), true) = (entry.message, record.is_customer()) else { return Ok(()) };
        let age = ctx.tx.now_ms().saturating_sub(Self::message_record(ctx, place)?.stored_ms);
        if age < STALE_PERMIT_MS {
            return Ok(());
        }
        record.control_given = 0;
        self.save_conversation(ctx, number, record)?;
        self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)
    }
}

/// How the other side can be reached now.
enum Reach {
    /// Nobody of it has given a permit that counts.
    Nobody,
    /// Somebody has, and something is on its way to it, or its relay is not connected.
    Busy,
    /// Somebody waits.
    Idle,
}
