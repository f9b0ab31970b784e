//! What a delivered envelope changes.
//!
//! Every envelope ends in one of three ways, all acknowledged after the commit: it changed something; it was a duplicate; or it could not be
//! read, and is kept as it came. Only a failing store leaves it unacknowledged, and then the relay delivers it again.

use bulla_e2ee::content::{Body, Category, Content};
use bulla_e2ee::continues::Reason;
use bulla_e2ee::conversation::OpenError;
use bulla_e2ee::envelope::{EnvelopeError, EnvelopeKey, Kind};
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::{MailboxId, TagBlock};
use minicbor::bytes::ByteVec;

use super::members::Member;
use super::messages::{NewMessage, Wait, conversation_view};
use super::record::{ConversationRecord, UnreadableRecord};
use super::{Ctx, Engine, RoleOptions};
use crate::event::{ConversationId, ConversationState, Direction, Event};
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// A customer's device accepts answers this long after its own last message: the window, and what a permit may outlive it.
const WINDOW_MS: u64 = 24 * 3_600_000;

/// Unreadable envelopes kept.
const UNREADABLE_KEPT: usize = 1_000;

impl Engine {
    /// Handles one envelope of one of our mailboxes.
    pub(super) fn envelope(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        mailbox: MailboxId,
        tag: &[u8],
        contact: bool,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        let Some(tag) = TagBlock::from_slice(tag).ok().and_then(|block| Some((block, self.tag_key.open(&block)?)))
        else {
            return Self::keep_unreadable(ctx, None, "its tag is not ours", envelope);
        };
        let (block, tag) = tag;
        if contact || tag.purpose == Purpose::Contact {
            // A relay that swaps tags or classes gets nowhere: the tag is under the AEAD, the class has to agree with it.
            if !(contact && tag.purpose == Purpose::Contact) {
                return Self::keep_unreadable(ctx, None, "its class is not its tag's", envelope);
            }
            return self.hello_received(ctx, mailbox, block, tag.serial, envelope);
        }
        let Some(grant) = self.grant_of_tag(ctx, mailbox, &tag)? else {
            return Self::keep_unreadable(ctx, None, "it came under no grant of ours", envelope);
        };
        if self.is_left(ctx, tag.conversation)? {
            return Ok(());
        }
        match EnvelopeKey::from_bytes(grant.envelope_key.0).open(&block, envelope) {
            Ok((Kind::Mls, body)) => self.mls_message(ctx, tag.conversation, tag.purpose, &body, envelope),
            Ok((Kind::HelloAgain, body)) => self.hello_again(ctx, tag.conversation, &body),
            Ok((Kind::Continues, body)) => self.continued(ctx, tag.conversation, &body),
            Ok((Kind::Commit, body)) => self.commit_received(ctx, tag.conversation, &body),
            Ok((Kind::TurnedAway, body)) => self.turned_away(ctx, tag.conversation, &body),
            Ok((Kind::Join, body)) => self.join_received(ctx, tag.conversation, &body),
            // Kinds of a later version: acknowledged and forgotten.
            Ok(_) | Err(EnvelopeError::UnknownKind(_)) => Ok(()),
            Err(_) => Self::keep_unreadable(ctx, Some(tag.conversation), "its envelope does not open", envelope),
        }
    }

    /// An MLS message in a conversation.
    pub(super) fn mls_message(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        purpose: Purpose,
        mls: &[u8],
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        if !self.has_group(ctx, number)? {
            // Of the group that this customer has left, before its new Hello is answered: it will be said again.
            tracing::debug!(conversation = number, "a message is passed over: there is no group");
            return Ok(());
        }
        if self.waits_for_what_it_lost(ctx, number)? {
            // Shown now, it would stand before what this endpoint has lost; both are said again, in their order.
            tracing::debug!(conversation = number, "a message is passed over: it comes before what was lost");
            // But not if it is of the group into which a third is about to bring us.
            if self.is_of_unknown_group(ctx, number, mls)? && self.third_may_come(ctx, number)? {
                return self.hold_foreign(ctx, number, purpose, mls);
            }
            return Ok(());
        }
        let opened = match self.open_mls(ctx, number, mls)? {
            Ok(opened) => opened,
            Err(why) => return self.not_opened(ctx, number, purpose, mls, envelope, &why),
        };
        let mut record = self.conversation_record(ctx, number)?;
        let Some(member) = self.member_of(ctx, number, &opened.sender)? else {
            return Self::keep_unreadable(ctx, Some(number), "it is of nobody in the conversation", envelope);
        };
        self.group_answers(ctx, number, record.peer, opened.sender.role)?;
        let content = match Content::decode(&opened.content) {
            Ok(content) => content,
            Err(e) => {
                return Self::keep_unreadable(ctx, Some(number), &e.to_string(), envelope);
            }
        };
        self.heard(ctx, number, &mut record, &member, purpose, &opened.content, &content)
    }

    /// What a message that does not open says about the group. The outer envelope was authentic: it came from whom we gave its key.
    fn not_opened(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        purpose: Purpose,
        mls: &[u8],
        envelope: &[u8],
        why: &OpenError,
    ) -> Result<(), StoreError> {
        tracing::debug!(conversation = number, %why, "a message does not open");
        match why {
            // Delivered again after a lost acknowledgement: its first time was durable. What is of an epoch whose keys are gone has been here
            // too, or is said again (`reseal_unsent`).
            OpenError::Replayed | OpenError::TooLate | OpenError::PastEpoch | OpenError::OwnEcho => Ok(()),
            OpenError::FutureEpoch if broken(Rule::FutureHeld) => Ok(()),
            OpenError::FutureEpoch => self.hold(ctx, number, purpose, mls),
            OpenError::WrongGroup if self.is_of_elsewhere(ctx, number, mls)? => self.turn_away_again(ctx, number),
            OpenError::WrongGroup if !self.is_of_unknown_group(ctx, number, mls)? => {
                // Sealed before its sender heard that the conversation began again: it will be said again.
                self.not_followed(ctx, number)
            }
            // A third may have begun again, and its statement is on its way.
            OpenError::WrongGroup if self.third_may_come(ctx, number)? => self.hold_foreign(ctx, number, purpose, mls),
            OpenError::WrongGroup => self.foreign_stays(ctx, number),
            OpenError::Undecryptable => self.break_group(ctx, number, Reason::Fork),
            OpenError::TooEarly => self.break_group(ctx, number, Reason::Gap),
            _ => Self::keep_unreadable(ctx, Some(number), &why.to_string(), envelope),
        }
    }

    /// Whether a message is of a group that is neither the conversation's nor one that it left behind.
    pub(super) fn is_of_unknown_group(
        &mut self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        mls: &[u8],
    ) -> Result<bool, StoreError> {
        let id = bulla_e2ee::conversation::group_of(mls).unwrap_or_default();
        Ok(self.group_id(ctx, number)? != id && !self.group(ctx, number)?.left.iter().any(|left| ***left == *id))
    }

    /// Whether others than the one who speaks may bring us into another group: their statements come on their own ways, and what is said in
    /// that group may be faster. Of one other alone everything comes in order.
    fn third_may_come(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.members(ctx, number)?.iter().filter(|m| !m.record.leaving).count() > 1)
    }

    /// A content of another member.
    #[expect(clippy::too_many_arguments, reason = "what came, from whom, and how")]
    pub(super) fn heard(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        member: &Member,
        purpose: Purpose,
        bytes: &[u8],
        content: &Content,
    ) -> Result<(), StoreError> {
        let mut changed = self.learn(ctx, number, record, member, content)?;
        let is_answer = record.state == ConversationState::Greeting && member.is_other_side();
        if is_answer {
            // The business has answered. Whatever it was, the conversation stands.
            record.state = ConversationState::Open;
            record.hello = None;
            record.bundle = None;
            changed = true;
            self.came_back(ctx, number, record)?;
        }
        self.save_conversation(ctx, number, record)?;
        if changed {
            ctx.emit(Event::Conversation(conversation_view(number, record)?))?;
        }
        match &content.body {
            Body::Receipt(receipt) => {
                if self.is_fork(ctx, number, receipt)? {
                    return self.break_group(ctx, number, Reason::Fork);
                }
                self.heard_receipt(ctx, number, member, receipt)?;
            }
            Body::Typing { .. } if member.record.own_side => {}
            Body::Typing { on } => {
                ctx.emit(Event::Typing { conversation: ConversationId(number), on: *on })?;
            }
            Body::HistoryRequest(request) => {
                if member.is_other_side() && matches!(self.role, RoleOptions::Business(_)) {
                    self.history_asked(ctx, number, record, request)?;
                }
            }
            Body::Push(subscription) => {
                if member.is_other_side() && matches!(self.role, RoleOptions::Business(_)) {
                    ctx.emit(Event::Push {
                        conversation: ConversationId(number),
                        device: member.record.endpoint.clone(),
                        subscription: subscription.clone(),
                    })?;
                }
            }
            Body::HistoryPage(page) => {
                if member.is_other_side() && matches!(self.role, RoleOptions::Customer) {
                    self.history_came(ctx, number, record, page)?;
                }
            }
            Body::Consent(statement) => {
                if member.record.own_side || matches!(self.role, RoleOptions::Business(_)) {
                    self.decided(ctx, number, record, member, statement)?;
                }
            }
            _ if member.is_other_side() && !Self::may_carry_content(purpose) => {
                tracing::warn!("content under a control permit: not shown");
            }
            _ => self.heard_message(ctx, number, record, member, purpose, bytes, content)?,
        }
        // One that comes with a spare has asked already.
        let lacks = match &content.extensions.introduced {
            Some(introduced) if introduced.spare.is_none() => self.lacks(ctx, number, introduced)?,
            _ => false,
        };
        if is_answer || lacks {
            self.tell_left_out(ctx, number)?;
        }
        if self.can_tell_what_it_lost(ctx, number)? {
            return self.break_group(ctx, number, Reason::Restored);
        }
        // It may have brought the permit, the spare or the sign of life that was waited for.
        self.want_better(ctx, number)?;
        self.renew_if_old(ctx, number)?;
        self.commit(ctx, number)?;
        if self.is_broken(ctx, number)? {
            self.reform(ctx, number)?;
        }
        self.pump(ctx, number)
    }

    #[expect(clippy::too_many_arguments, reason = "what came, from whom, and how")]
    fn heard_message(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        member: &Member,
        purpose: Purpose,
        bytes: &[u8],
        content: &Content,
    ) -> Result<(), StoreError> {
        if member.record.own_side {
            return self.said_on_another_device(ctx, number, record, member, bytes, content);
        }
        let id = Self::id_of(record, Direction::Incoming, content, bytes)?;
        // Owed also for a duplicate under a new ciphertext: its sender has not heard of the first.
        if Self::place_of(ctx, None, &id)?.is_none() {
            let late = ctx.tx.now_ms() > record.last_said_ms.saturating_add(WINDOW_MS);
            let late = late
                && content.extensions.sent_ms.is_none_or(|sent| sent > record.last_said_ms.saturating_add(WINDOW_MS));
            let breach = matches!(self.role, RoleOptions::Customer) && is_breach(purpose, late, content);
            let new = NewMessage { id, direction: Direction::Incoming, bytes, content, breach, by: None, purpose };
            self.store_message(ctx, number, record, &new)?;
        }
        self.owe_receipts(ctx, number, record.peer, &[id], &[], Wait::Gather)
    }

    /// The person wrote on another of its devices. That gives the business the right to answer to this one too: a fresh permit goes with
    /// the receipt.
    fn said_on_another_device(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        member: &Member,
        bytes: &[u8],
        content: &Content,
    ) -> Result<(), StoreError> {
        let id = Self::id_of(record, Direction::Outgoing, content, bytes)?;
        if Self::place_of(ctx, None, &id)?.is_none() {
            let by = Some(member.record.endpoint.as_str());
            let purpose = Purpose::Service;
            let new = NewMessage { id, direction: Direction::Outgoing, bytes, content, breach: false, by, purpose };
            self.store_message(ctx, number, record, &new)?;
            record.control_given = 0;
            self.save_conversation(ctx, number, record)?;
        }
        self.owe_receipts(ctx, number, record.peer, &[id], &[], Wait::Gather)
    }

    /// Permits, names and readers that travel with a content.
    fn learn(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        member: &Member,
        content: &Content,
    ) -> Result<bool, StoreError> {
        let extensions = &content.extensions;
        if let Some(spare) = &extensions.spare {
            self.take_spare(ctx, number, record, member, spare)?;
        }
        if let Some(permits) = &extensions.permits {
            self.take(ctx, number, record.peer, member.number, &permits.relay, &permits.permits)?;
            self.say_awaited_to(ctx, number, record.peer, member.number, false)?;
        }
        if let Some(introduced) = &extensions.introduced {
            self.introduced(ctx, number, record, introduced)?;
        }
        if member.record.own_side {
            return self.learn_decisions(ctx, number, record, &extensions.decisions);
        }
        record.heard_counter = record.heard_counter.max(extensions.counter.unwrap_or(0));
        let mut changed = false;
        match &self.role {
            RoleOptions::Business(_) => {
                if let Some(name) = extensions.name.as_ref().filter(|n| **n != record.peer_name) {
                    self.rename(ctx, record, name)?;
                    changed = true;
                }
            }
            RoleOptions::Customer => {
                if let Some(readers) = &extensions.readers {
                    let readers: Vec<_> = readers.iter().map(|r| (r.name.clone(), r.role.clone())).collect();
                    changed = readers != record.readers;
                    record.readers = readers;
                }
                if let Some(key) = &extensions.push_key
                    && record.push_key.as_ref().is_none_or(|known| known[..] != key[..])
                {
                    record.push_key = Some(ByteVec::from(key.to_vec()));
                    changed = true;
                }
            }
        }
        Ok(changed)
    }

    /// Forgets the oldest of many unreadable envelopes: a relay that makes them up must not fill the disk.
    pub(super) fn bound_unreadable(ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let newest = ctx.tx.scan_bytes(Table::Unreadable, &[], None, Order::Descending, UNREADABLE_KEPT)?;
        let Some((oldest_kept, _)) = newest.last().filter(|_| newest.len() == UNREADABLE_KEPT) else { return Ok(()) };
        for (key, _) in ctx.tx.scan_bytes(Table::Unreadable, &[], Some(oldest_kept), Order::Ascending, 10_000)? {
            ctx.tx.delete(Table::Unreadable, &key);
        }
        Ok(())
    }

    /// Keeps what a later version than this has made, and says so.
    pub(super) fn keep_newer(ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        Self::keep(ctx, Some(number), "it is of a later version than this program", body)?;
        ctx.emit(Event::Newer { conversation: ConversationId(number) })
    }

    /// Keeps an envelope that could not be read, so that nothing accepted is silently lost, and goes on.
    pub(super) fn keep_unreadable(
        ctx: &mut Ctx<'_, '_>,
        number: Option<u64>,
        reason: &str,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        Self::keep(ctx, number, reason, envelope)?;
        ctx.emit(Event::Unreadable { conversation: number.map(ConversationId) })
    }

    fn keep(ctx: &mut Ctx<'_, '_>, number: Option<u64>, reason: &str, envelope: &[u8]) -> Result<(), StoreError> {
        tracing::warn!(reason, "an envelope could not be read and is kept");
        let now = ctx.tx.now_ms();
        let key = [now.to_be_bytes().as_slice(), &number.unwrap_or(0).to_be_bytes(), &ctx.tx.random::<4>()].concat();
        let record =
            UnreadableRecord { reason: reason.to_owned(), envelope: ByteVec::from(envelope.to_vec()), stored_ms: now };
        ctx.tx.put(Table::Unreadable, &key, Scope::Endpoint, &record)
    }
}

/// Whether a business wrote under a permit that is for something else: an answer when it is too late for answers, an offer where it may answer, or
/// anything but what the customer has agreed to under the permits that are for that.
fn is_breach(purpose: Purpose, late: bool, content: &Content) -> bool {
    let category = match &content.body {
        Body::Interactive(interactive) => interactive.template.as_ref().map(|template| template.category),
        _ => None,
    };
    match purpose {
        Purpose::Notifications => !matches!(category, Some(Category::Utility | Category::Authentication)),
        Purpose::Marketing => category.is_none(),
        _ => late || category == Some(Category::Marketing),
    }
}
