//! The outbox: what is to be said, and a lane per member with one envelope in flight.
//!
//! An intent is stored with its content and message id in lane 0. It is sealed by MLS once, when it is about to leave — the lease is held, a
//! relay is connected, a permit is there — and in that same transaction handed to the lane of each member. There it is sealed once more
//! under the member's permit, and stored so; from then on only those bytes leave, under the same send id, until the relay has answered
//! `Accepted` or refused for good. The next intent is sealed when an endpoint of the other side has nothing more on its way.

use bulla_e2ee::continues::Reason;
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{Code, Send};
use bulla_protocol::id::{MailboxId, SendId};
use bulla_protocol::limits;
use bulla_protocol::permit::{Class, Permit, PermitMac};
use bulla_protocol::work::Task;
use minicbor::bytes::ByteVec;

use super::members::{Member, Number};
use super::messages::Wait;
use super::record::{Awaited, BodyRecord, ConversationRecord, OutboxRecord, SealedRecord, Secret, SecretVec};
use super::{Ctx, Engine, LinkKey, RoleOptions, Timer, WorkFor, damaged};
use crate::event::{ConversationState, Failure, Status};
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// First pause after an answer that says "try again", doubled each time.
const BACKOFF_MS: u64 = 500;

/// Longest pause between tries.
const MAX_BACKOFF_MS: u64 = 60_000;

/// How long permits may take to come after a group began.
const PERMITS_MS: u64 = 600_000;

/// A message that waited for this long is followed by fresh permits.
const STALE_PERMIT_MS: u64 = 24 * 3_600_000;

/// What a member that cannot be reached has not got after this long is dropped from its lane: as the relay would.
const LANE_KEPT_MS: u64 = 31 * 24 * 3_600_000;

/// Sequences of what is to be said begin here; what goes before everything else takes those below.
const FIRST: u64 = 1 << 32;

/// A lane of a conversation: 0 for what is to be said, then one per member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId {
    pub(super) conversation: u64,
    pub(super) member: Number,
}

impl LaneId {
    pub(super) const fn intents(conversation: u64) -> Self {
        Self { conversation, member: 0 }
    }

    fn prefix(self) -> Vec<u8> {
        [self.conversation.to_be_bytes().as_slice(), &[self.member]].concat()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        Some(Self { conversation: u64::from_be_bytes(*key.first_chunk::<8>()?), member: *key.get(8)? })
    }
}

/// A lane, while running.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// An envelope is with the relay (or its proof of work is being searched).
    pub(super) in_flight: bool,
    /// The relay it goes to.
    pub(super) relay: Option<String>,
    /// Not before this time, Unix ms.
    pub(super) waits_until: Option<u64>,
    tries: u32,
}

/// What the head of a lane needs next.
pub(super) enum Head {
    Wait,
    Next,
    Send(Box<SealedRecord>),
}

fn outbox_key(lane: LaneId, sequence: u64) -> Vec<u8> {
    [lane.prefix().as_slice(), &sequence.to_be_bytes()].concat()
}

fn sequence_of(key: &[u8]) -> u64 {
    key.get(9..17).and_then(|k| k.first_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k))
}

impl Engine {
    pub(super) fn load_lanes(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let mut from = Vec::new();
        // One seek per lane, however long it is.
        while let Some((key, _)) =
            ctx.tx.scan_bytes(Table::Outbox, &from, None, Order::Ascending, 1)?.into_iter().next()
        {
            let Some(lane) = LaneId::from_key(&key) else { break };
            self.lanes.entry(lane).or_default();
            let Some(next) = crate::store::tx::after_prefix(&lane.prefix()) else { break };
            from = next;
        }
        for (key, _) in ctx.tx.scan_bytes_prefix(Table::Receipts, &[])? {
            if let Some(number) = key.first_chunk::<8>() {
                self.lanes.entry(LaneId::intents(u64::from_be_bytes(*number))).or_default();
            }
        }
        // Links for what is sealed or can be: asked for as the lanes are pumped.
        self.pump_all(ctx)
    }

    /// Adds an intent to what is to be said.
    pub(super) fn enqueue(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        let key = outbox_key(lane, FIRST.saturating_add(record.next_sequence));
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(record.peer), intent)?;
        record.next_sequence += 1;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Adds an intent before everything that has not been sealed.
    pub(super) fn enqueue_first(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let rows = ctx.tx.scan::<OutboxRecord>(Table::Outbox, &prefix, until.as_deref(), Order::Ascending, 2)?;
        let key = match &rows[..] {
            [] => outbox_key(lane, FIRST),
            // A head that is on its way stays; a longer key stands between it and the next.
            [(head, entry), rest @ ..] if entry.sealed.is_some() => {
                let after = rest.first().and_then(|(key, _)| key.strip_prefix(&head[..])?.first_chunk::<4>());
                let before = after.map_or(u32::MAX / 2, |k| u32::from_be_bytes(*k)).saturating_sub(1);
                [head.as_slice(), &before.to_be_bytes()].concat()
            }
            [(head, _), ..] => outbox_key(lane, sequence_of(head).saturating_sub(1)),
        };
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(peer), intent)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// A lane with one envelope that is sealed already.
    pub(super) fn enqueue_sealed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        entry: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        ctx.tx.put(Table::Outbox, &outbox_key(lane, 0), Scope::Endpoint, entry)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Adds to a member's lane.
    pub(super) fn enqueue_copy(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        peer: u64,
        copy: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let last = ctx.tx.scan_bytes(Table::Outbox, &prefix, until.as_deref(), Order::Descending, 1)?;
        let sequence = last.first().map_or(0, |(key, _)| sequence_of(key)) + 1;
        ctx.tx.put(Table::Outbox, &outbox_key(lane, sequence), Scope::Peer(peer), copy)?;
        self.lanes.entry(lane).or_default();
        Ok(())
    }

    /// Whether nothing is to be said.
    pub(super) fn is_lane_empty(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.head(ctx, LaneId::intents(number))?.is_none())
    }

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

    fn head(&self, ctx: &Ctx<'_, '_>, lane: LaneId) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let prefix = lane.prefix();
        let until = crate::store::tx::after_prefix(&prefix);
        let rows = ctx.tx.scan(Table::Outbox, &prefix, until.as_deref(), Order::Ascending, 1)?;
        Ok(rows.into_iter().next())
    }

    /// Seals the next thing to be said, if it can leave now, and hands it to the members' lanes.
    fn advance_intent(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        key: &[u8],
        entry: OutboxRecord,
    ) -> Result<Head, StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        // In a group that cannot go on nothing is sealed; a statement that it cannot is not sealed in it.
        let must_wait = entry.body.is_none() && self.is_broken(ctx, number)?;
        if !self.holds(MailboxId::new(*record.mailbox)) || must_wait {
            return Ok(Head::Wait);
        }
        if record.state == ConversationState::New {
            return self.seal_hello(ctx, number, key, entry, &mut record);
        }
        if let Some(body) = &entry.body {
            // To our own devices also where a group was begun without them: they are to hear of it; those that were removed, only that.
            let is_commit = body.kind == Kind::Commit as u8;
            let hears = |m: &Member| m.is_in() || (m.record.own_side && (is_commit || !m.record.leaving));
            let all = self.members(ctx, number)?.into_iter().filter(hears).collect();
            return self.hand_out(ctx, record.peer, key, &entry, body.clone(), all);
        }
        if record.state == ConversationState::Greeting {
            return Ok(Head::Wait);
        }
        let Some(purpose) = Purpose::from_wire(u64::from(entry.purpose)) else {
            return Err(damaged(Table::Outbox));
        };
        // What was sent in time and is said again was said in time.
        let is_new = match entry.message {
            Some(place) => Self::message_record(ctx, place)?.status == Status::Queued,
            None => false,
        };
        if let Some(failure) = self.window_failure(ctx, &record, purpose, is_new) {
            return self.give_up(ctx, key, &entry, failure);
        }
        let to: Vec<Member> = self.members(ctx, number)?.into_iter().filter(Member::is_in).collect();
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
        let body = BodyRecord { kind: Kind::Mls as u8, bytes: SecretVec(mls) };
        self.hand_out(ctx, record.peer, key, &entry, body, to)?;
        self.renew_if_old(ctx, number)?;
        self.commit(ctx, number)?;
        self.renew_stale_permit(ctx, number, &mut record, &entry)?;
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
        if none_yet && record.pseudonym.is_none() {
            return Ok(Head::Wait);
        }
        if record.pseudonym.is_some() && (none_yet || entry.message.is_some()) {
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
        self.give_up(ctx, key, entry, Failure::Refused)
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
        for member in to {
            let lane = LaneId { conversation, member: member.number };
            self.enqueue_copy(ctx, lane, peer, &copy)?;
            if let Some(place) = entry.message {
                Self::handed(ctx, member.number, place, peer, several)?;
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

    fn give_up(
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

    /// Hands a sealed envelope to the relay, if it is connected.
    fn send_sealed(&mut self, ctx: &mut Ctx<'_, '_>, lane: LaneId, sealed: &SealedRecord) -> Result<(), StoreError> {
        let format = damaged(Table::Outbox);
        let Ok(permit) = Permit::from_bytes(&sealed.permit) else { return Err(format) };
        let key = LinkKey::anonymous(&sealed.relay);
        // Sealed bytes may leave without the lease (they repeat no key), but not after `Superseded`: `pump` sees to that.
        let Some(up) = self.link(ctx.out, &key) else { return Ok(()) };
        let send_id = SendId::new(*sealed.send_id);
        if permit.class == Class::Contact {
            let challenge = *up.challenge.as_bytes();
            let bits = up.work_bits.min(limits::MAX_WORK_BITS);
            let task = Task::contact(&up.challenge, &permit.mailbox, &sealed.envelope);
            ctx.out.work.push((WorkFor::Contact(lane.conversation, challenge), task, bits));
        } else {
            let proof = PermitMac::new(sealed.mac.0).prove(&up.name, &send_id, &sealed.envelope);
            let send = send_frame(&permit, proof, send_id, sealed, 0);
            self.request_send(ctx.out, &key, send, lane);
        }
        let lane = self.lanes.entry(lane).or_default();
        lane.in_flight = true;
        lane.relay = Some(sealed.relay.clone());
        Ok(())
    }

    pub(super) fn contact_work_done(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        challenge: [u8; 32],
        nonce: u64,
    ) -> Result<(), StoreError> {
        let lane = LaneId::intents(number);
        let Some((_, entry)) = self.head(ctx, lane)? else { return Ok(()) };
        let Some(sealed) = entry.sealed else { return Ok(()) };
        let Ok(permit) = Permit::from_bytes(&sealed.permit) else {
            return Err(damaged(Table::Outbox));
        };
        let key = LinkKey::anonymous(&sealed.relay);
        let Some(up) = self.link(ctx.out, &key).filter(|up| *up.challenge.as_bytes() == challenge) else {
            return Ok(());
        };
        let send_id = SendId::new(*sealed.send_id);
        let proof = PermitMac::new(sealed.mac.0).prove(&up.name, &send_id, &sealed.envelope);
        let send = send_frame(&permit, proof, send_id, &sealed, nonce);
        self.request_send(ctx.out, &key, send, lane);
        Ok(())
    }

    /// The head of a lane, if it is what was sent under this id. It is not where a Hello was made again while the first one's answer was
    /// still on its way: that answer is nobody's.
    fn head_of(
        &self,
        ctx: &Ctx<'_, '_>,
        lane: LaneId,
        id: SendId,
    ) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let head = self.head(ctx, lane)?;
        Ok(head.filter(|(_, entry)| entry.sealed.as_ref().is_some_and(|s| *s.send_id == *id.as_bytes())))
    }

    /// The relay has it: durable there, or confirmed by the recipient.
    pub(super) fn accepted(&mut self, ctx: &mut Ctx<'_, '_>, lane: LaneId, id: SendId) -> Result<(), StoreError> {
        let Some((key, entry)) = self.head_of(ctx, lane, id)? else { return Ok(()) };
        ctx.tx.delete(Table::Outbox, &key);
        let members = self.members(ctx, lane.conversation)?;
        let member = members.iter().find(|m| m.number == lane.member);
        // A Hello goes to nobody who has a number.
        if let Some(place) = entry.message.filter(|_| member.is_none_or(Member::is_other_side)) {
            self.progress(ctx, place, Status::Sent)?;
        }
        if let Some(state) = self.lanes.get_mut(&lane) {
            *state = Lane::default();
        }
        if let Some(gone) = member.filter(|m| m.is_gone())
            && self.head(ctx, lane)?.is_none()
        {
            Self::forget_member(ctx, lane.conversation, gone)?;
        }
        self.pump(ctx, lane.conversation)
    }

    /// The relay refused.
    pub(super) fn refused(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        id: SendId,
        code: Code,
        retry_after_ms: u32,
    ) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let Some((key, entry)) = self.head_of(ctx, lane, id)? else { return Ok(()) };
        let Some(state) = self.lanes.get_mut(&lane) else { return Ok(()) };
        state.in_flight = false;
        state.tries += 1;
        let doubled = BACKOFF_MS.saturating_mul(1 << state.tries.min(16));
        let pause = doubled.min(MAX_BACKOFF_MS).max(u64::from(retry_after_ms));
        match code {
            Code::Refused if lane.member == 0 => {
                let permit = entry.sealed.as_ref().and_then(|s| Permit::from_bytes(&s.permit).ok());
                let is_over = permit.is_some_and(|p| p.class == Class::Contact && !p.is_valid_at(now / 1000));
                if is_over && self.is_greeting(ctx, lane.conversation)? {
                    // A Hello that waited for longer than its bundle lives: said anew with a bundle fetched anew.
                    return self.break_group(ctx, lane.conversation, Reason::Gap);
                }
                self.give_up(ctx, &key, &entry, Failure::Refused)?;
                self.door_is_shut(ctx, lane.conversation)?;
            }
            Code::Refused => self.permit_is_void(ctx, lane, &key, entry)?,
            Code::TooLarge => drop(self.give_up(ctx, &key, &entry, Failure::TooLarge)?),
            // Full, busy, out of rate, cannot write now, or something that this version does not know: nothing was
            // accepted, so the same bytes go again later.
            _ => {
                let at = now + pause;
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.waits_until = Some(at);
                }
                self.timers.insert((at, Timer::Lane(lane)));
                return Ok(());
            }
        }
        self.pump(ctx, lane.conversation)
    }

    fn is_greeting(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &number.to_be_bytes())?;
        Ok(record.is_some_and(|r| r.state == ConversationState::Greeting))
    }

    /// The business's door is shut to this Hello: the next message tries with a bundle fetched anew. (A lane without a conversation carried
    /// one answer to a Hello.)
    fn door_is_shut(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &number.to_be_bytes())?;
        let Some(mut record) = record.filter(|r| r.state == ConversationState::Greeting) else { return Ok(()) };
        record.state = ConversationState::New;
        record.hello = None;
        record.bundle = None;
        self.forget_mls(ctx, number)?;
        self.save_conversation(ctx, number, &record)
    }

    /// Whether a message had been delivered, and is said again because it was lost there since.
    fn had_been_there(ctx: &Ctx<'_, '_>, entry: &OutboxRecord) -> Result<bool, StoreError> {
        let Some(place) = entry.message else { return Ok(false) };
        Ok(matches!(Self::message_record(ctx, place)?.status, Status::Delivered | Status::Read))
    }

    /// One of several members cannot be written to. What is not confirmed stays noted, and is said, sealed anew, when the member gives a
    /// fresh permit: what lay here for long could be of an epoch that the member has left by then.
    fn not_now(
        &self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        key: &[u8],
        entry: &OutboxRecord,
        peer: u64,
    ) -> Result<(), StoreError> {
        ctx.tx.delete(Table::Outbox, key);
        match entry.message {
            Some(place) => Self::note_awaited(ctx, lane.member, place, peer, Awaited::Pending),
            None => Ok(()),
        }
    }

    /// An epoch has ended: what is in the lanes of several members and has not been sent is sealed anew, before anything newer, so that
    /// nobody gets a message of an epoch that it has left.
    pub(super) fn reseal_unsent(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let members = self.members(ctx, number)?;
        if members.iter().filter(|m| m.is_in()).count() < 2 {
            return Ok(());
        }
        for member in members {
            let lane = LaneId { conversation: number, member: member.number };
            let rows = ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &lane.prefix())?;
            let is_unsent = |entry: &OutboxRecord| entry.body.as_ref().is_some_and(|b| b.kind == Kind::Mls as u8);
            for (key, entry) in rows.into_iter().rev().filter(|(_, entry)| entry.sealed.is_none() && is_unsent(entry)) {
                ctx.tx.delete(Table::Outbox, &key);
                let content = match entry.message {
                    Some(place) => {
                        Self::note_awaited(ctx, member.number, place, peer, Awaited::Queued)?;
                        Self::message_record(ctx, place)?.content.clone()
                    }
                    None => entry.content.clone(),
                };
                let again = OutboxRecord { body: None, content, only: Some(member.number), ..entry };
                self.enqueue_first(ctx, number, peer, &again)?;
            }
        }
        Ok(())
    }

    /// A permit counts no longer. A newer one may have come since: then the same body goes again under it. Otherwise the only endpoint of
    /// its side cannot be reached, and one of several has to give a fresh one.
    fn permit_is_void(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        key: &[u8],
        mut entry: OutboxRecord,
    ) -> Result<(), StoreError> {
        let number = lane.conversation;
        let record = self.conversation_record(ctx, number)?;
        let members = self.members(ctx, number)?;
        let (Some(member), Some(purpose), Some(sealed)) = (
            members.iter().find(|m| m.number == lane.member),
            Purpose::from_wire(u64::from(entry.purpose)),
            entry.sealed.take(),
        ) else {
            ctx.tx.delete(Table::Outbox, key);
            return Ok(());
        };
        let purpose = member.purpose(purpose);
        Self::drop_permit(ctx, number, member.number, purpose, &sealed.permit)?;
        let kind = sealed.kind.unwrap_or(Kind::Mls as u8);
        if self.choose(ctx, number, member.number, purpose)?.is_some() {
            let bytes = SecretVec(sealed.inner.map(Vec::from).unwrap_or_default());
            entry.body = Some(BodyRecord { kind, bytes });
            return ctx.tx.put(Table::Outbox, key, Scope::Peer(record.peer), &entry);
        }
        if !is_alone(&members, member) || Self::had_been_there(ctx, &entry)? {
            return self.not_now(ctx, lane, key, &entry, record.peer);
        }
        self.give_up(ctx, key, &entry, Failure::Refused)?;
        if kind == Kind::Continues as u8 && !self.is_broken(ctx, number)? {
            // The other side cannot be brought into the new group under this permit: another way, or another time.
            self.break_group(ctx, number, Reason::Gap)?;
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

/// Whether a member is the only endpoint of the other side: what it cannot get, that side cannot get.
fn is_alone(members: &[Member], member: &Member) -> bool {
    member.is_other_side() && members.iter().filter(|m| m.is_in() && m.is_other_side()).count() <= 1
}

/// Seals a body into an envelope under a permit.
pub(super) fn wrap(
    ctx: &Ctx<'_, '_>,
    relay: &str,
    given: &GivenPermit,
    kind: Kind,
    body: &[u8],
) -> Option<SealedRecord> {
    let key = given.envelope_key.as_ref()?;
    let envelope = key.seal(&given.permit.tag, kind, body, &mut ctx.tx.rng()).ok()?;
    if envelope.len() > usize::from(given.permit.max_kib) * 1024 {
        return None;
    }
    Some(SealedRecord {
        send_id: ctx.tx.random::<16>().into(),
        relay: relay.to_owned(),
        permit: ByteVec::from(given.permit.to_bytes().to_vec()),
        mac: Secret(*given.mac.expose()),
        envelope: ByteVec::from(envelope),
        inner: Some(ByteVec::from(body.to_vec())),
        kind: Some(kind as u8),
    })
}

fn send_frame(permit: &Permit, proof: [u8; 32], send_id: SendId, sealed: &SealedRecord, nonce: u64) -> Send {
    Send {
        permit: Some(permit.to_frame()),
        proof: proof.to_vec(),
        send_id: send_id.to_vec(),
        envelope: sealed.envelope.to_vec().into(),
        work_nonce: nonce,
    }
}
