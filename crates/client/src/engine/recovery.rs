//! A customer who comes back on another device, with the recovery code, and the devices that the conversation then goes on without.
//!
//! The code is this store's; each business gets a pseudonym that is made of it. Who comes back says Hello as that pseudonym, as a device of another
//! name. The business joins it into the same conversation, and turns the devices of before away: each is told so, and again whenever it speaks.
//! A name takes the conversation once. What a device begins by itself it begins under the name that it has, so that two that live do not take it
//! from each other without end; for another name it takes a person ([`Engine::take_back`]).

use bulla_e2ee::certificate::Role;
use bulla_e2ee::conversation::{Conversation as Mls, Sender};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::hello::Hello;
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::recovery::RecoveryCode;
use bulla_e2ee::tag::Purpose;
use bulla_e2ee::turned_away::{self, Reason, TurnedAwayError};
use minicbor::bytes::ByteVec;

use super::commands::CommandError;
use super::group::user_of;
use super::lanes::LaneId;
use super::members::Member;
use super::record::{ConversationRecord, OutboxRecord, PeerRecord, SecretVec};
use super::{Ctx, Engine, damaged};
use crate::event::{ConversationId, ConversationState};
use crate::store::{StoreError, Table};

/// A device that was turned away and goes on speaking is told so no more often than this.
const TOLD_AGAIN_MS: u64 = 60_000;

/// Ids of groups in which devices are that were turned away.
const ELSEWHERE_KEPT: usize = 8;

impl Engine {
    /// The code of which a conversation's pseudonym was made.
    pub fn recovery_code(&self, ctx: &Ctx<'_, '_>, of: ConversationId) -> Result<RecoveryCode, CommandError> {
        let record = self.known(ctx, of)?;
        let stored = record.code.as_ref().ok_or(CommandError::NoCode)?;
        Ok(code_of(stored)?)
    }

    /// The business of a customer's conversation.
    pub fn business_of(&self, ctx: &Ctx<'_, '_>, of: ConversationId) -> Result<IdentityHash, CommandError> {
        Ok(IdentityHash::new(*self.known(ctx, of)?.business))
    }

    /// The code of this store, made when it is first needed.
    pub(super) fn own_code(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<RecoveryCode, StoreError> {
        if let Some(stored) = &self.endpoint.code {
            return code_of(stored);
        }
        let code = RecoveryCode::generate(&mut ctx.tx.rng());
        self.endpoint.code = Some(SecretVec(code.to_bytes().to_vec()));
        self.save_endpoint(ctx)?;
        Ok(code)
    }

    /// A conversation begins with a code: its Hello goes at once, and asks whether the business knows this customer.
    pub(super) fn comes_back(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        self.leave_room(record);
        if let Some(past) = &mut record.past {
            past.sought = true;
        }
        self.something_to_say(ctx, number, record)
    }

    /// The business has answered: it knows this customer.
    pub(super) fn came_back(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let Some(past) = &mut record.past else { return Ok(()) };
        if std::mem::take(&mut past.sought) && self.endpoint.code.is_none() {
            self.endpoint.code.clone_from(&record.code);
            self.save_endpoint(ctx)?;
        }
        self.ask_history(ctx, number, record)
    }

    /// The person wants the conversation here again.
    pub fn take_back(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId) -> Result<(), CommandError> {
        let mut record = self.known(ctx, of)?;
        if record.state != ConversationState::Moved {
            return Err(CommandError::NotReady);
        }
        record.state = ConversationState::New;
        record.endpoint = None;
        self.own_endpoint(ctx, &mut record);
        record.bundle = None;
        self.leave_room(&mut record);
        self.say_undelivered_again(ctx, of.0, &mut record, &[])?;
        self.something_to_say(ctx, of.0, &mut record)?;
        self.save_conversation(ctx, of.0, &record)?;
        self.tell_conversation(ctx, of.0)?;
        Ok(self.pump(ctx, of.0)?)
    }

    /// What the business says to a device that the conversation goes on without.
    pub(super) fn turned_away(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        let Some(endpoint) = record.endpoint.as_ref().filter(|_| record.is_customer() && !record.state.is_over())
        else {
            return Ok(());
        };
        let sought = record.past.as_ref().is_some_and(|past| past.sought);
        match turned_away::open(body, &record.peer_key, &user_of(&record)?, endpoint) {
            Ok(Reason::Elsewhere) if record.device.is_some() => self.removed_ourselves(ctx, number),
            Ok(Reason::Elsewhere) => self.ends_here(ctx, number, ConversationState::Moved),
            Ok(Reason::Unknown) if sought => self.ends_here(ctx, number, ConversationState::NotKnown),
            Ok(_) => Ok(()),
            Err(TurnedAwayError::Newer) => Self::keep_newer(ctx, number, body),
            // Also what was said to this device under a name that it had.
            Err(why) => {
                tracing::debug!(conversation = number, %why, "it is not turned away");
                Ok(())
            }
        }
    }

    /// Why a Hello is not joined, though its group is in order.
    pub(super) fn why_not(
        &self,
        ctx: &Ctx<'_, '_>,
        known: Option<&PeerRecord>,
        sender: &Sender,
        resumes: bool,
    ) -> Result<Option<Reason>, StoreError> {
        let Some(peer) = known else { return Ok(resumes.then_some(Reason::Unknown)) };
        let member = self.member_of(ctx, peer.conversation, sender)?;
        Ok(member.filter(|m| m.record.turned_away == Some(true)).map(|_| Reason::Elsewhere))
    }

    /// Answers a Hello of a device that the conversation goes on without.
    pub(super) fn turn_away(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        hello: &Hello,
        user: &UserId,
        device: &str,
        reason: Reason,
    ) -> Result<(), StoreError> {
        tracing::info!(?reason, "a Hello of a device that the conversation goes on without");
        let body = turned_away::seal(&self.identity()?, user, device, reason);
        self.answer_hello(ctx, hello, Kind::TurnedAway, &body)
    }

    /// The customer has come back on this device: the conversation goes on without the others that it had.
    pub(super) fn goes_on_with(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        device: &Member,
    ) -> Result<(), StoreError> {
        let others = |m: &Member| m.is_other_side() && m.number != device.number && !m.record.leaving;
        let others: Vec<Member> = self.members(ctx, number)?.into_iter().filter(others).collect();
        if others.is_empty() {
            return Ok(());
        }
        for mut member in others {
            tracing::info!(conversation = number, "the customer has come back on another device");
            (member.record.out, member.record.leaving, member.record.turned_away) = (true, true, Some(true));
            for table in [Table::Awaited, Table::PeerSpares] {
                for (key, _) in ctx.tx.scan_bytes_prefix(table, &super::members::member_key(number, member.number))? {
                    ctx.tx.delete(table, &key);
                }
            }
            Self::save_member(ctx, number, peer, &member)?;
        }
        let mut group = self.group(ctx, number)?;
        let mut elsewhere: Vec<ByteVec> = group.elsewhere.take().unwrap_or_default();
        elsewhere.extend(group.left.iter().filter(|id| !elsewhere.contains(id)).cloned().collect::<Vec<_>>());
        let excess = elsewhere.len().saturating_sub(ELSEWHERE_KEPT);
        elsewhere.drain(..excess);
        group.elsewhere = Some(elsewhere);
        self.save_group(ctx, number, peer, &group)?;
        self.told_away.remove(&number);
        self.tell_turned_away(ctx, number)
    }

    /// Whether a message is of a group in which only devices are that were turned away.
    pub(super) fn is_of_elsewhere(&self, ctx: &Ctx<'_, '_>, number: u64, mls: &[u8]) -> Result<bool, StoreError> {
        let Some(elsewhere) = self.group(ctx, number)?.elsewhere else { return Ok(false) };
        let id = bulla_e2ee::conversation::group_of(mls).unwrap_or_default();
        Ok(elsewhere.iter().any(|known| ***known == *id))
    }

    /// Whether everybody of the customer's in a group was turned away.
    pub(super) fn are_turned_away(&self, ctx: &Ctx<'_, '_>, number: u64, mls: &Mls) -> Result<bool, StoreError> {
        if self.own_role() != Role::Business {
            return Ok(false);
        }
        for member in mls.members().into_iter().filter(|m| m.who.role == Role::Customer) {
            let known = self.member_of(ctx, number, &member.who)?;
            if known.is_none_or(|m| m.record.turned_away != Some(true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A device that was turned away speaks, and may not have heard of it.
    pub(super) fn turn_away_again(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.tell_turned_away(ctx, number)?;
        self.pump(ctx, number)
    }

    fn tell_turned_away(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let away: Vec<Member> =
            self.members(ctx, number)?.into_iter().filter(|m| m.record.turned_away == Some(true)).collect();
        let now = ctx.tx.now_ms();
        let lately = self.told_away.get(&number).is_some_and(|at| now < at.saturating_add(TOLD_AGAIN_MS));
        if away.is_empty() || lately {
            return Ok(());
        }
        self.told_away.insert(number, now);
        let record = self.conversation_record(ctx, number)?;
        let (identity, user) = (self.identity()?, user_of(&record)?);
        for member in away {
            let lane = LaneId { conversation: number, member: member.number };
            let can_be_told = self.has_permit(ctx, number, member.number, Purpose::Control)?;
            if !can_be_told || self.head(ctx, lane)?.is_some() {
                continue;
            }
            let body = turned_away::seal(&identity, &user, &member.record.endpoint, Reason::Elsewhere);
            let told = OutboxRecord::body(Kind::TurnedAway as u8, body, Purpose::Control.to_wire());
            self.enqueue_copy(ctx, lane, record.peer, &told)?;
        }
        Ok(())
    }

    /// Whether a conversation goes on elsewhere, or nowhere: nothing that comes for it here counts.
    pub(super) fn is_left(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &number.to_be_bytes())?;
        Ok(record.is_some_and(|r| matches!(r.state, ConversationState::Moved | ConversationState::NotKnown)))
    }
}

fn code_of(stored: &SecretVec) -> Result<RecoveryCode, StoreError> {
    let bytes = stored.0.as_slice().try_into().map_err(|_| damaged(Table::Meta))?;
    Ok(RecoveryCode::from_bytes(bytes))
}
