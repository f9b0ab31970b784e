//! The outbox: one lane per conversation, one envelope in flight per lane.
//!
//! An intent is stored with its content and message id. It is sealed when it is about to leave — the lease is held, the relay is connected, a
//! permit is there — and stored sealed in that same transaction; from then on only those bytes leave, under the same send id, until the relay
//! has answered `Accepted` or refused for good.

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

use super::messages::Wait;
use super::record::{ConversationRecord, OutboxRecord, SealedRecord, Secret, SecretVec};
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

fn outbox_key(conversation: u64, sequence: u64) -> Vec<u8> {
    [conversation.to_be_bytes(), sequence.to_be_bytes()].concat()
}

impl Engine {
    pub(super) fn load_lanes(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for table in [Table::Outbox, Table::Receipts] {
            let mut from = Vec::new();
            // One seek per conversation, however long its lane is.
            while let Some((key, _)) = ctx.tx.scan_bytes(table, &from, None, Order::Ascending, 1)?.into_iter().next() {
                let Some(number) = key.first_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { break };
                self.lanes.entry(number).or_default();
                let Some(next) = number.checked_add(1) else { break };
                from = next.to_be_bytes().to_vec();
            }
        }
        // Links for what is sealed or can be: asked for as the lanes are pumped.
        self.pump_all(ctx)
    }

    /// Adds an intent to a lane.
    pub(super) fn enqueue(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let key = outbox_key(number, record.next_sequence);
        record.next_sequence += 1;
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(record.peer), intent)?;
        self.lanes.entry(number).or_default();
        Ok(())
    }

    /// Adds an intent before everything in its lane that has not been sealed.
    pub(super) fn enqueue_first(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        intent: &OutboxRecord,
    ) -> Result<(), StoreError> {
        // Keys are conversation and sequence; a longer key stands between two of them. The head stays if it is on its way.
        let key = match self.head(ctx, number)? {
            None => outbox_key(number, 0),
            Some((key, entry)) if entry.sealed.is_some() => [key.as_slice(), &[1]].concat(),
            Some((key, _)) => {
                let sequence = key.get(8..16).and_then(|k| k.first_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k));
                [outbox_key(number, sequence.saturating_sub(1)).as_slice(), &[0xff], &key].concat()
            }
        };
        ctx.tx.put(Table::Outbox, &key, Scope::Peer(peer), intent)?;
        self.lanes.entry(number).or_default();
        Ok(())
    }

    pub(super) fn is_lane_empty(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.head(ctx, number)?.is_none())
    }

    pub(super) fn pump_all(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let mut lanes: Vec<u64> = self.lanes.keys().copied().collect();
        lanes.sort_unstable();
        lanes.into_iter().try_for_each(|number| self.pump(ctx, number))
    }

    /// Moves a lane on as far as it goes now.
    pub(super) fn pump(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        loop {
            let Some(lane) = self.lanes.get(&number) else { return Ok(()) };
            if self.superseded || lane.in_flight || lane.waits_until.is_some_and(|at| at > ctx.tx.now_ms()) {
                return Ok(());
            }
            let Some((key, entry)) = self.head(ctx, number)? else {
                if self.receipts_to_outbox(ctx, number)? {
                    continue;
                }
                return Ok(());
            };
            match self.advance(ctx, number, &key, entry)? {
                Head::Next => {}
                Head::Wait => return Ok(()),
                Head::Send(sealed) => return self.send_sealed(ctx, number, &sealed),
            }
        }
    }

    fn head(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let until = number.checked_add(1).map(u64::to_be_bytes);
        let until = until.as_ref().map(<[u8; 8]>::as_slice);
        let rows = ctx.tx.scan(Table::Outbox, &number.to_be_bytes(), until, Order::Ascending, 1)?;
        Ok(rows.into_iter().next())
    }

    fn advance(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        key: &[u8],
        mut entry: OutboxRecord,
    ) -> Result<Head, StoreError> {
        if let Some(sealed) = entry.sealed {
            return Ok(Head::Send(Box::new(sealed)));
        }
        if entry.until_ms.is_some_and(|until| until <= ctx.tx.now_ms()) {
            ctx.tx.delete(Table::Outbox, key);
            return Ok(Head::Next);
        }
        let mut record = self.conversation_record(ctx, number)?;
        // In a group that cannot go on nothing is sealed; a statement that it cannot is not sealed in it.
        let must_wait = entry.body.is_none() && self.is_broken(ctx, number)?;
        if !self.holds(MailboxId::new(*record.mailbox)) || must_wait {
            return Ok(Head::Wait);
        }
        if record.state == ConversationState::New {
            return self.seal_hello(ctx, number, key, entry, &mut record);
        }
        let Some(purpose) = Purpose::from_wire(u64::from(entry.purpose)) else {
            return Err(damaged(Table::Outbox));
        };
        // What had been delivered inside the window, and was lost there since, may be said again.
        let is_new = match entry.message {
            Some(place) => !matches!(Self::message_record(ctx, place)?.status, Status::Delivered | Status::Read),
            None => false,
        };
        if let Some(failure) = self.window_failure(ctx, &record, purpose, is_new) {
            return self.give_up(ctx, key, &entry, failure);
        }
        let Some((relay, given)) = self.choose(ctx, number, purpose)? else {
            if record.state == ConversationState::Greeting {
                return Ok(Head::Wait);
            }
            if let Some(window_end) =
                self.fresh_permit_may_come(ctx, number, &record, purpose)?.filter(|_| is_new || entry.message.is_none())
            {
                self.lanes.entry(number).or_default().waits_until = None;
                self.timers.insert((window_end, Timer::Lane(number)));
                return Ok(Head::Wait);
            }
            if entry.message.is_some() && !is_new {
                // Said again as soon as a permit comes.
                self.lost_waits(ctx, number, record.peer)?;
                ctx.tx.delete(Table::Outbox, key);
                return Ok(Head::Next);
            }
            if record.pseudonym.is_some() && entry.message.is_some() {
                // A customer whose right to write is gone or over asks for another: with a new group come fresh permits, if they are not on
                // their way in this one.
                let at = self.group(ctx, number)?.renewed_ms.saturating_add(PERMITS_MS);
                if ctx.tx.now_ms() < at {
                    self.timers.insert((at, Timer::Lane(number)));
                } else {
                    self.break_group(ctx, number, Reason::Gap)?;
                }
                return Ok(Head::Wait);
            }
            return self.give_up(ctx, key, &entry, Failure::Refused);
        };
        if self.link(ctx.out, &LinkKey::anonymous(&relay)).is_none() {
            return Ok(Head::Wait);
        }
        if let Some(body) = &entry.body {
            let kind = Kind::from_wire(body.kind).ok_or(damaged(Table::Outbox))?;
            let Some(sealed) = wrap(ctx, &relay, &given, kind, &body.bytes.0) else {
                return self.give_up(ctx, key, &entry, Failure::TooLarge);
            };
            entry.body = None;
            entry.sealed = Some(sealed.clone());
            ctx.tx.put(Table::Outbox, key, Scope::Peer(record.peer), &entry)?;
            return Ok(Head::Send(Box::new(sealed)));
        }
        if !self.may_seal(ctx, number)? {
            // More lost messages than MLS can skip would close the conversation for ever; hearing the other side reopens the lane.
            return Ok(Head::Wait);
        }
        let Some(mls) = self.seal_mls(ctx, number, record.peer, &entry.content.0)? else {
            return self.give_up(ctx, key, &entry, Failure::TooLarge);
        };
        let Some(sealed) = wrap(ctx, &relay, &given, Kind::Mls, &mls) else {
            return self.give_up(ctx, key, &entry, Failure::TooLarge);
        };
        if entry.message.is_some() {
            // A message is kept in its own table; a receipt nowhere else, in case the conversation has to begin again.
            entry.content = SecretVec(Vec::new());
        }
        entry.sealed = Some(sealed.clone());
        ctx.tx.put(Table::Outbox, key, Scope::Peer(record.peer), &entry)?;
        self.renew_if_old(ctx, number)?;
        self.commit(ctx, number)?;
        self.renew_stale_permit(ctx, number, &mut record, &entry)?;
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
        let waits = purpose == Purpose::Service && ctx.tx.now_ms() < end && self.has_permit(ctx, number, purpose)?;
        Ok(waits.then_some(end))
    }

    fn give_up(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        key: &[u8],
        entry: &OutboxRecord,
        failure: Failure,
    ) -> Result<Head, StoreError> {
        ctx.tx.delete(Table::Outbox, key);
        if let Some(place) = entry.message {
            self.fail_message(ctx, place, failure)?;
        }
        Ok(Head::Next)
    }

    /// Hands a sealed envelope to the relay, if it is connected.
    fn send_sealed(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, sealed: &SealedRecord) -> Result<(), StoreError> {
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
            ctx.out.work.push((WorkFor::Contact(number, challenge), task, bits));
        } else {
            let proof = PermitMac::new(sealed.mac.0).prove(&up.name, &send_id, &sealed.envelope);
            let send = send_frame(&permit, proof, send_id, sealed, 0);
            self.request_send(ctx.out, &key, send, number);
        }
        let lane = self.lanes.entry(number).or_default();
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
        let Some((_, entry)) = self.head(ctx, number)? else { return Ok(()) };
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
        self.request_send(ctx.out, &key, send, number);
        Ok(())
    }

    /// The head of a lane, if it is what was sent under this id. It is not where a Hello was made again while the first one's answer was
    /// still on its way: that answer is nobody's.
    fn head_of(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        id: SendId,
    ) -> Result<Option<(Vec<u8>, OutboxRecord)>, StoreError> {
        let head = self.head(ctx, number)?;
        Ok(head.filter(|(_, entry)| entry.sealed.as_ref().is_some_and(|s| *s.send_id == *id.as_bytes())))
    }

    /// The relay has it: durable there, or confirmed by the recipient.
    pub(super) fn accepted(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, id: SendId) -> Result<(), StoreError> {
        let Some((key, entry)) = self.head_of(ctx, number, id)? else { return Ok(()) };
        ctx.tx.delete(Table::Outbox, &key);
        if let Some(place) = entry.message {
            self.progress(ctx, place, Status::Sent)?;
        }
        if let Some(lane) = self.lanes.get_mut(&number) {
            *lane = Lane::default();
        }
        self.pump(ctx, number)
    }

    /// The relay refused.
    pub(super) fn refused(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        id: SendId,
        code: Code,
        retry_after_ms: u32,
    ) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let Some((key, mut entry)) = self.head_of(ctx, number, id)? else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(()) };
        lane.in_flight = false;
        lane.tries += 1;
        let doubled = BACKOFF_MS.saturating_mul(1 << lane.tries.min(16));
        let pause = doubled.min(MAX_BACKOFF_MS).max(u64::from(retry_after_ms));
        // A lane without a conversation carries one answer to a Hello.
        let conversation = ctx.tx.get::<ConversationRecord>(Table::Conversations, &number.to_be_bytes())?;
        match code {
            Code::Refused => {
                let permit = entry.sealed.as_ref().and_then(|s| Permit::from_bytes(&s.permit).ok());
                let is_over = permit.is_some_and(|p| p.class == Class::Contact && !p.is_valid_at(now / 1000));
                if is_over && conversation.as_ref().is_some_and(|r| r.state == ConversationState::Greeting) {
                    // A Hello that waited for longer than its bundle lives: said anew with a bundle fetched anew.
                    return self.break_group(ctx, number, Reason::Gap);
                }
                let Some(purpose) = Purpose::from_wire(u64::from(entry.purpose)) else {
                    return Err(damaged(Table::Outbox));
                };
                let refused = entry.sealed.as_ref().map(|s| s.permit.to_vec()).unwrap_or_default();
                Self::drop_permit(ctx, number, purpose, &refused)?;
                // A newer permit may have come since it was sealed: the same message goes again under it.
                let inner = entry.sealed.as_ref().and_then(|s| Some((s.inner.clone()?, s.kind)));
                let kind = |stored: Option<u8>| stored.map_or(Some(Kind::Mls), Kind::from_wire).unwrap_or(Kind::Mls);
                let is_continues = inner.as_ref().is_some_and(|(_, k)| kind(*k) == Kind::Continues);
                let again = match (inner, self.choose(ctx, number, purpose)?, &conversation) {
                    (Some((inner, stored)), Some((relay, given)), Some(_)) => {
                        wrap(ctx, &relay, &given, kind(stored), &inner)
                    }
                    _ => None,
                };
                if let (Some(sealed), Some(record)) = (again, &conversation) {
                    entry.sealed = Some(sealed);
                    ctx.tx.put(Table::Outbox, &key, Scope::Peer(record.peer), &entry)?;
                } else {
                    self.give_up(ctx, &key, &entry, Failure::Refused)?;
                    if is_continues && !self.is_broken(ctx, number)? {
                        // The other side cannot be brought into the new group under this permit: another way, or another time.
                        self.break_group(ctx, number, Reason::Gap)?;
                    }
                    if let Some(mut record) = conversation.filter(|r| r.state == ConversationState::Greeting) {
                        // The business's door is shut to this Hello: the next message tries with a bundle fetched anew.
                        record.state = ConversationState::New;
                        record.hello = None;
                        record.bundle = None;
                        self.forget_mls(ctx, number)?;
                        self.save_conversation(ctx, number, &record)?;
                    }
                }
                self.pump(ctx, number)
            }
            Code::TooLarge => {
                self.give_up(ctx, &key, &entry, Failure::TooLarge)?;
                self.pump(ctx, number)
            }
            // Full, busy, out of rate, cannot write now, or something that this version does not know: nothing was
            // accepted, so the same bytes go again later.
            _ => {
                let at = now + pause;
                if let Some(lane) = self.lanes.get_mut(&number) {
                    lane.waits_until = Some(at);
                }
                self.timers.insert((at, Timer::Lane(number)));
                Ok(())
            }
        }
    }

    /// A customer's message that waited for long brings a `service` permit that is nearly over: a fresh one follows it.
    fn renew_stale_permit(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        entry: &OutboxRecord,
    ) -> Result<(), StoreError> {
        let (Some(place), true) = (entry.message, record.pseudonym.is_some()) else { return Ok(()) };
        let age = ctx.tx.now_ms().saturating_sub(Self::message_record(ctx, place)?.stored_ms);
        if age < STALE_PERMIT_MS {
            return Ok(());
        }
        record.control_given = 0;
        self.save_conversation(ctx, number, record)?;
        self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)
    }
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
