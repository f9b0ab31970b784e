//! The statement with which a conversation goes on in a new group ([`Continues`]): saying one, hearing one, and which of several stands.

use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::MessageId;
use bulla_e2ee::continues::{Continues, ContinuesError, Reason, Turn};
use bulla_e2ee::conversation::{Conversation as Mls, JoinError, Sender};
use bulla_e2ee::identity::IdentityHash;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::spare::SpareKeys;

use super::group::{continues_intent, user_of};
use super::lanes::LaneId;
use super::members::Member;
use super::messages::{Wait, conversation_view};
use super::record::{ConversationRecord, GroupRecord, MessageRecord, Place, SpareRecord};
use super::suites::suite_of;
use super::{Ctx, Engine, damaged};
use crate::event::{ConversationId, ConversationState, Direction, Event, Status};
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// Own messages said again after the other side lost its newer state, at most.
pub(super) const SAID_AGAIN: usize = 1_000;

impl Engine {
    pub(super) fn next_turn(&self, ctx: &Ctx<'_, '_>, record: &mut ConversationRecord, group: &GroupRecord) -> Turn {
        let endpoint = match self.own_role() {
            Role::Business => "gateway".to_owned(),
            Role::Customer => self.own_endpoint(ctx, record),
        };
        Turn::next(ctx.tx.now_ms(), &endpoint, group.said, group.heard)
    }

    /// Brings endpoints that a commit of ours has added into the group.
    pub(super) fn bring_in(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        added: &[Sender],
        welcome: &[u8],
    ) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let group = self.group(ctx, number)?;
        let body = self.says_joined(ctx, &mut record, &group, welcome)?;
        for who in added {
            if let Some(member) = self.member_of(ctx, number, who)? {
                let lane = LaneId { conversation: number, member: member.number };
                self.enqueue_copy(ctx, lane, record.peer, &continues_intent(body.clone()))?;
            }
        }
        self.save_conversation(ctx, number, &record)
    }

    /// The statement that brings one of us into the group as it is, or, without a Welcome, tells it that the group lacks it.
    pub(super) fn says_joined(
        &self,
        ctx: &Ctx<'_, '_>,
        record: &mut ConversationRecord,
        group: &GroupRecord,
        welcome: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let turn = self.next_turn(ctx, record, group);
        let (business, user) = (IdentityHash::new(*record.business), user_of(record)?);
        let body = self.with_issuer(ctx, record, |_, speaker| {
            Continues::seal(speaker, &business, &user, &turn, Reason::Joined, &[], welcome)
        })?;
        body.map_err(|_| damaged(Table::Conversations))
    }

    /// The other side begins the conversation again.
    pub(super) fn continued(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let mut group = self.group(ctx, number)?;
        let business = IdentityHash::new(*record.business);
        let says = match Continues::open(body, &business, &user_of(&record)?) {
            Ok(says) => says,
            // Its maker will find that we do not follow, and we that it speaks elsewhere: the conversation begins again from here.
            Err(ContinuesError::Newer) => return Self::keep_newer(ctx, number, body),
            Err(why) => return Self::keep_unreadable(ctx, Some(number), &why.to_string(), body),
        };
        let of_own_side = says.role == self.own_role();
        let brings_in = !says.welcome.is_empty();
        tracing::debug!(
            conversation = number,
            by = says.device.as_deref().unwrap_or(if of_own_side { "our first device" } else { "the other side" }),
            reason = ?says.reason,
            turn = ?says.turn,
            brings_in,
            said = group.said,
            heard = group.heard,
            "a statement that the conversation continues"
        );
        let has_group = self.has_group(ctx, number)?;
        if !self.may_continue(ctx, number, &says)? {
            return Ok(());
        }
        if of_own_side && says.identity != Self::customer_key(&record)? {
            // Nobody of ours: there is one pseudonym in a conversation.
            return Ok(());
        }
        if !group.is_news(of_own_side, has_group, &says) {
            let is_known = of_own_side || says.identity == *record.peer_key;
            return if is_known { self.comes_late(ctx, number, &record, group.heard, &says) } else { Ok(()) };
        }
        if !of_own_side && says.identity != *record.peer_key && !broken(Rule::SameIdentity) {
            // Never joined, nothing ever sealed to it. The link names the key: another key is another link, and for a person to open.
            if group.key_change.is_some_and(|known| *known == says.identity) {
                return Ok(());
            }
            group.key_change = Some(says.identity.into());
            self.save_group(ctx, number, record.peer, &group)?;
            return ctx.emit(Event::KeyChange { conversation: ConversationId(number), identity: says.identity });
        }
        // Where it has been heard in the group that our side began, and says something older, it went back.
        let unheard = says.turn.seen < group.said || record.state == ConversationState::Greeting;
        let crossed = !of_own_side && group.unanswered && unheard && group.broken.is_none();
        if crossed && self.own_role() == Role::Customer && !broken(Rule::CustomerStands) {
            // Both began again: the customer's stands, and the business follows it. What it has lost is said again all the same.
            group.heard = says.turn.at;
            self.save_group(ctx, number, record.peer, &group)?;
            self.await_lost(ctx, number, record.peer, group.heard, &says)?;
            for member in self.members(ctx, number)?.into_iter().filter(Member::is_other_side) {
                self.say_awaited_to(ctx, number, record.peer, member.number, false)?;
            }
            self.pump(ctx, number)?;
            return self.not_followed(ctx, number);
        }
        self.await_lost(ctx, number, record.peer, group.heard, &says)?;
        if says.welcome.is_empty() {
            group.note(of_own_side, &says);
            self.save_group(ctx, number, record.peer, &group)?;
            if of_own_side && says.reason == Reason::Joined && record.device.is_some() {
                return self.ask_to_come_in(ctx, number, &mut record, &mut group);
            }
            if !self.would_come_along(ctx, number, &record, &says, true)? {
                return Ok(());
            }
            // Who says it cannot begin: then we do.
            if says.reason == Reason::Newer {
                self.drop_old_spares(ctx, number)?;
                return self.break_group(ctx, number, Reason::Newer);
            }
            return self.break_group(ctx, number, Reason::Gap);
        }
        let (customer, now) = (Self::customer_key(&record)?, ctx.tx.now_ms());
        let prefix = number.to_be_bytes();
        let mut joined = None;
        for (key, mut spare) in ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, &prefix)? {
            let knows = if of_own_side { says.turn.before } else { says.turn.seen };
            if spare.after.is_some_and(|after| knows < after) {
                continue;
            }
            let keys = SpareKeys::from_bytes(&spare.keys.0).map_err(|_| damaged(Table::Spares))?;
            match Mls::rejoin(&keys, self.own_role(), &business, &customer, &says.welcome, now / 1000) {
                Err(JoinError::NoKeyPackage) => {}
                Err(why) => {
                    tracing::warn!(error = %why, "a statement that continues a conversation brings into no group: refused");
                    return Self::keep_unreadable(ctx, Some(number), &why.to_string(), body);
                }
                Ok(mls) if !self.may_be_in(ctx, number, mls.suite())? => {
                    tracing::warn!(suite = ?mls.suite(), "a new group in a worse suite, or in one that is not spoken here: refused");
                    break;
                }
                Ok(mls) => {
                    if spare.used_ms.is_none() {
                        spare.used_ms = Some(now);
                        ctx.tx.put(Table::Spares, &key, Scope::Peer(record.peer), &spare)?;
                        self.spent.insert((now, key));
                    }
                    joined = Some(mls);
                    break;
                }
            }
        }
        group.note(of_own_side, &says);
        let Some(mls) = joined else {
            // The spare that it used is gone here, or it is no group for us: then it is for us to begin.
            self.turn_away_again(ctx, number)?;
            tracing::debug!(conversation = number, "its Welcome is for no spare that is kept here");
            self.save_group(ctx, number, record.peer, &group)?;
            if !self.would_come_along(ctx, number, &record, &says, false)? {
                return Ok(());
            }
            return self.break_group(ctx, number, Reason::Gap);
        };
        if self.are_turned_away(ctx, number, &mls)? {
            return self.turn_away_again(ctx, number);
        }
        Self::is_followed_instead(&mut group);
        // In a group that a device of ours began, the other side has not been heard either.
        group.unanswered = of_own_side && says.reason != Reason::Joined;
        (group.tries, group.retry_ms) = (0, 0);
        if record.state != ConversationState::New {
            record.state = ConversationState::Open;
        }
        group.suite = Some(mls.suite().code());
        group.stands();
        self.replace_group(ctx, number, &mut record, &mut group, mls)?;
        self.say_undelivered_again(ctx, number, &mut record, &[])?;
        self.save_conversation(ctx, number, &record)?;
        ctx.emit(Event::Continued {
            conversation: ConversationId(number),
            by: Direction::Incoming,
            reason: says.reason,
        })?;
        ctx.emit(Event::Conversation(conversation_view(number, &record)?))?;
        // Said at once, so that the other side hears that we followed; it carries permits and a fresh spare.
        self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)?;
        self.introduce_all(ctx, number, &record)?;
        self.tell_left_out(ctx, number)?;
        self.open_held(ctx, number)?;
        self.wait_for_held(ctx, number)?;
        self.pump(ctx, number)
    }

    /// Whether another group, begun because a device cannot go on, would have that device in it. One that is out of ours, and left no spare of a
    /// suite that the conversation may be in, stays behind until its program is newer; one of ours that left a spare of our group's suite,
    /// and has no group of its own, comes in with the next commit.
    fn would_come_along(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        says: &Continues,
        has_none: bool,
    ) -> Result<bool, StoreError> {
        let Some(endpoint) = says.device.clone() else { return Ok(true) };
        let who = Sender { role: says.role, identity: says.identity, endpoint };
        let Some(member) = self.member_of(ctx, number, &who)?.filter(|m| !m.is_in()) else { return Ok(true) };
        let spare = self.verified_spare(ctx, number, record, &member)?;
        let Some(suite) = spare.map(|spare| spare.suite()) else { return Ok(false) };
        let comes_by_commit = has_none && member.record.own_side && suite == suite_of(&self.group(ctx, number)?);
        Ok(!comes_by_commit && self.may_be_in(ctx, number, suite)?)
    }

    /// Somebody went back to an older state: what we said after the newest that it still has, it has not confirmed. So may the other side
    /// have, to before it knew of us, if it has begun again without us: of that we hear from ours (`seen` is newer than what was `heard`).
    ///
    /// Whether a statement is news of the group in which the conversation goes on is another matter.
    fn await_lost(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        heard: u64,
        says: &Continues,
    ) -> Result<(), StoreError> {
        let own_side = says.role == self.own_role();
        let (at, after) = match says.reason {
            Reason::Restored => (says.turn.at, Self::newest_known(ctx, number, &says.heard)?),
            Reason::Joined if own_side && says.turn.seen > heard => (says.turn.seen, 0),
            _ => return Ok(()),
        };
        // An identity does not say on which of its devices it speaks.
        let is_it = |m: &Member| match says.reason {
            Reason::Joined => m.is_other_side(),
            _ => m.record.own_side == own_side && says.device.as_ref().is_none_or(|name| *name == m.record.endpoint),
        };
        let mut members: Vec<Member> = self.members(ctx, number)?.into_iter().filter(is_it).collect();
        members.retain(|m| m.record.went_back.is_none_or(|known| known < at));
        for member in &mut members {
            member.record.went_back = Some(at);
            Self::save_member(ctx, number, peer, member)?;
        }
        Self::await_after(ctx, number, peer, after, &members)
    }

    /// A statement that comes after one of a later group, which we are in.
    fn comes_late(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        heard: u64,
        says: &Continues,
    ) -> Result<(), StoreError> {
        self.await_lost(ctx, number, record.peer, heard, says)?;
        for member in self.members(ctx, number)?.into_iter().filter(Member::is_in) {
            self.say_awaited_to(ctx, number, record.peer, member.number, false)?;
        }
        self.pump(ctx, number)
    }

    /// What we said after a place is said to these once more.
    fn await_after(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        after: u64,
        members: &[Member],
    ) -> Result<(), StoreError> {
        let from = super::messages::message_key(Place { conversation: number, order: after + 1 });
        let until = after_prefix(&number.to_be_bytes());
        let newest_first: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &from, until.as_deref(), Order::Descending, SAID_AGAIN)?;
        for (key, stored) in newest_first {
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            // What has not left yet is said to all, and so to him.
            let has_left = !matches!(stored.status, Status::Queued | Status::Failed);
            if is_ours(&stored) && has_left && !stored.deleted {
                Self::await_members(ctx, Place { conversation: number, order }, peer, members)?;
            }
        }
        Ok(())
    }

    /// The order of the newest of our messages that the other side says it has; 0 if it has none.
    fn newest_known(ctx: &Ctx<'_, '_>, number: u64, heard: &[MessageId]) -> Result<u64, StoreError> {
        let mut newest = 0;
        for id in heard {
            let Some(place) = Self::place_of(ctx, Some(number), id)? else { continue };
            if is_ours(&Self::message_record(ctx, place)?) {
                newest = newest.max(place.order);
            }
        }
        Ok(newest)
    }

    /// Whether whoever says that the conversation continues may: an identity always, a linked device that was let in. Whom the others have
    /// removed, or never let in, begins nothing; one that a new group was begun without may have begun another at the same time.
    fn may_continue(&self, ctx: &Ctx<'_, '_>, number: u64, says: &Continues) -> Result<bool, StoreError> {
        let Some(endpoint) = says.device.clone() else { return Ok(true) };
        let who = Sender { role: says.role, identity: says.identity, endpoint };
        let member = self.member_of(ctx, number, &who)?;
        let may = member.is_some_and(|m| !m.record.leaving);
        if !may {
            tracing::warn!("a device that is not in the conversation says that it continues: refused");
        }
        Ok(may)
    }
}

impl GroupRecord {
    /// Whether a statement is newer than what is known. One that lets this device in brings it into the group of its speaker: not if our
    /// side has begun another since. A device that is in no group has nothing to lose.
    fn is_news(&self, own_side: bool, has_group: bool, says: &Continues) -> bool {
        match (own_side, says.reason) {
            (true, Reason::Joined) => says.turn.at > self.joined && (says.turn.before >= self.said || !has_group),
            (true, _) => says.turn.at > self.said,
            (false, _) => says.turn.at > self.heard,
        }
    }

    fn note(&mut self, own_side: bool, says: &Continues) {
        match (own_side, says.reason) {
            (true, Reason::Joined) => {
                self.joined = says.turn.at;
                self.said = self.said.max(says.turn.before);
                self.heard = self.heard.max(says.turn.seen);
            }
            (true, _) => self.said = says.turn.at,
            (false, _) => self.heard = says.turn.at,
        }
    }
}

/// Said here, and not on another device of ours.
pub(super) fn is_ours(stored: &MessageRecord) -> bool {
    stored.direction == Direction::Outgoing && stored.by.is_none()
}
