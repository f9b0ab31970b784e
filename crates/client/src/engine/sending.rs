//! One envelope to one relay: sending it, and what its answer means for the lane.

use bulla_e2ee::continues::Reason;
use bulla_e2ee::envelope::{EnvelopeKey, Kind, Nonce};
use bulla_e2ee::permits::GivenPermit;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::frame::{Code, Send};
use bulla_protocol::id::SendId;
use bulla_protocol::limits;
use bulla_protocol::permit::{Class, Permit, PermitMac};
use bulla_protocol::work::Task;
use minicbor::bytes::ByteVec;

use super::lanes::{Lane, LaneId};
use super::members::Member;
use super::record::{
    Awaited, BodyRecord, ConversationRecord, OutboxRecord, SealedRecord, Secret, SecretVec, WrapRecord,
};
use super::{Ctx, Engine, LinkKey, Timer, WorkFor, damaged};
use crate::event::{ConversationState, Failure, Status};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// First pause after an answer that says "try again", doubled each time.
const BACKOFF_MS: u64 = 500;

/// Longest pause between tries.
const MAX_BACKOFF_MS: u64 = 60_000;

impl Engine {
    /// Hands a sealed envelope to the relay, if it is connected.
    pub(super) fn send_sealed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        lane: LaneId,
        sealed: &SealedRecord,
    ) -> Result<(), StoreError> {
        let format = damaged(Table::Outbox);
        let Ok(permit) = Permit::from_bytes(&sealed.permit) else { return Err(format) };
        let key = LinkKey::anonymous(&sealed.relay);
        // Sealed bytes may leave without the lease (they repeat no key), but not after `Superseded`: `pump` sees to that.
        let Some(up) = self.link(ctx.out, &key) else { return Ok(()) };
        let send_id = SendId::new(*sealed.send_id);
        let envelope = envelope_of(sealed, &permit)?;
        if permit.class == Class::Contact {
            let challenge = *up.challenge.as_bytes();
            let bits = up.work_bits.min(limits::MAX_WORK_BITS);
            let task = Task::contact(&up.challenge, &permit.mailbox, &envelope);
            ctx.out.work.push((WorkFor::Contact(lane.conversation, challenge), task, bits));
        } else {
            let proof = PermitMac::new(sealed.mac.0).prove(&up.name, &send_id, &envelope);
            let send = send_frame(&permit, proof, send_id, envelope, 0);
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
        let envelope = envelope_of(&sealed, &permit)?;
        let proof = PermitMac::new(sealed.mac.0).prove(&up.name, &send_id, &envelope);
        let send = send_frame(&permit, proof, send_id, envelope, nonce);
        self.request_send(ctx.out, &key, send, lane);
        Ok(())
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
        // Of one that was turned away the permit is kept, so that it can be told again.
        if let Some(gone) = member.filter(|m| m.is_gone() && m.record.turned_away != Some(true))
            && self.head(ctx, lane)?.is_none()
        {
            let peer = self.conversation_record(ctx, lane.conversation)?.peer;
            Self::bury_member(ctx, lane.conversation, peer, gone)?;
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
        Self::drop_permit(ctx, number, record.peer, member.number, purpose, &sealed.permit)?;
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

    /// Whether a message had been delivered, and is said again because it was lost there since.
    pub(super) fn had_been_there(ctx: &Ctx<'_, '_>, entry: &OutboxRecord) -> Result<bool, StoreError> {
        let Some(place) = entry.message else { return Ok(false) };
        Ok(matches!(Self::message_record(ctx, place)?.status, Status::Delivered | Status::Read))
    }

    /// One of several members cannot be written to. What is not confirmed stays noted, and is said, sealed anew, when the member gives a
    /// fresh permit: what lay here for long could be of an epoch that the member has left by then.
    pub(super) fn not_now(
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
}

/// Whether a member is the only endpoint of the other side: what it cannot get, that side cannot get.
pub(super) fn is_alone(members: &[Member], member: &Member) -> bool {
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
    let nonce = Nonce::generate(&mut ctx.tx.rng());
    let envelope = key.seal_with(&nonce, &given.permit.tag, kind, body).ok()?;
    if envelope.len() > usize::from(given.permit.max_kib) * 1024 {
        return None;
    }
    Some(SealedRecord {
        send_id: ctx.tx.random::<16>().into(),
        relay: relay.to_owned(),
        permit: ByteVec::from(given.permit.to_bytes().to_vec()),
        mac: Secret(*given.mac.expose()),
        envelope: ByteVec::from(Vec::new()),
        inner: Some(ByteVec::from(body.to_vec())),
        kind: Some(kind as u8),
        wrapped: Some(WrapRecord { key: Secret(*key.expose()), nonce: (*nonce.as_bytes()).into() }),
    })
}

/// The envelope of what is sealed: the same bytes each time.
fn envelope_of(sealed: &SealedRecord, permit: &Permit) -> Result<Vec<u8>, StoreError> {
    let format = damaged(Table::Outbox);
    let (Some(wrapped), Some(inner)) = (&sealed.wrapped, &sealed.inner) else { return Ok(sealed.envelope.to_vec()) };
    let kind = Kind::from_wire(sealed.kind.unwrap_or(Kind::Mls as u8)).ok_or(damaged(Table::Outbox))?;
    let key = EnvelopeKey::from_bytes(wrapped.key.0);
    key.seal_with(&Nonce::from_bytes(*wrapped.nonce), &permit.tag, kind, inner).map_err(|_| format)
}

fn send_frame(permit: &Permit, proof: [u8; 32], send_id: SendId, envelope: Vec<u8>, nonce: u64) -> Send {
    Send {
        permit: Some(permit.to_frame()),
        proof: proof.to_vec(),
        send_id: send_id.to_vec(),
        envelope: envelope.into(),
        work_nonce: nonce,
    }
}
