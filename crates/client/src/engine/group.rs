//! Groups that cannot go on, and conversations that do (design: re-forming).
//!
//! Whoever cannot continue a group — it forked, something is missing for good, this endpoint went back to an older state — marks it *broken*:
//! nothing is sealed in it any more. Then the conversation begins again between the same identities, with the spare KeyPackage that the
//! other side left: a new group, a signed statement ([`Continues`]) under the standing permit, and everything undelivered once more under the
//! same ids. A customer without spare or permit says Hello again; a business without them waits for the customer. If both begin, the
//! customer's stands.

use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{Body, Content, MessageId, Receipt};
use bulla_e2ee::continues::{self, Continues, Reason};
use bulla_e2ee::conversation::Conversation as Mls;
use bulla_e2ee::device::Join;
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::spare::Spare;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::MailboxId;
use minicbor::bytes::ByteVec;

use super::continues::is_ours;
use super::lanes::{Lane, LaneId};
use super::members::Member;
use super::messages::{Wait, message_key, purpose_of};
use super::permits::Carrier;
use super::record::{ConversationRecord, GroupRecord, MessageRecord, OutboxRecord, Place};
use super::suites::suite_of;
use super::{Ctx, Engine, Timer, damaged};
use crate::event::{ConversationId, ConversationState, Direction, Event, Status};
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// First pause before a group that was begun again, and not answered, is begun once more; doubled each time.
const RETRY_MS: u64 = 30_000;

/// Longest such pause.
const LONGEST_RETRY_MS: u64 = 3_600_000;

/// How long somebody may go on speaking in a group that was left behind, while others are heard in the one that stands.
const LEFT_MS: u64 = 120_000;

/// Ids of groups left behind that are remembered.
const LEFT_KEPT: usize = 8;

/// Conversations begun again in one step: a restored gateway has thousands, and its other work goes on beside.
const AT_ONCE: usize = 16;

/// How often a conversation begins again at once, and how long it then waits each time, ms. Whoever may write to it can make its group break, also
/// a device that was removed; what that costs the others is bounded by this.
const BEGUN_AT_ONCE: u64 = 8;
const BEGUN_EVERY_MS: u64 = 60_000;

/// How long a group that was begun so many times waits for an answer.
fn pause(tries: u32) -> u64 {
    RETRY_MS.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_RETRY_MS)
}

pub(super) fn reason_to_stored(reason: Reason) -> u8 {
    match reason {
        Reason::Fork => 1,
        Reason::Gap => 2,
        Reason::Restored => 3,
        Reason::Newer => 4,
        Reason::Joined => 5,
        _ => 0,
    }
}

fn reason_from_stored(stored: u8) -> Reason {
    match stored {
        1 => Reason::Fork,
        2 => Reason::Gap,
        3 => Reason::Restored,
        4 => Reason::Newer,
        5 => Reason::Joined,
        other => Reason::Other(u64::from(other)),
    }
}

impl Engine {
    pub(super) fn group(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<GroupRecord, StoreError> {
        Ok(ctx.tx.get(Table::Groups, &number.to_be_bytes())?.unwrap_or_default())
    }

    pub(super) fn save_group(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        group: &GroupRecord,
    ) -> Result<(), StoreError> {
        ctx.tx.put(Table::Groups, &number.to_be_bytes(), Scope::Peer(peer), group)
    }

    /// Whether the conversation's group can be sealed in.
    pub(super) fn is_broken(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.group(ctx, number)?.broken.is_some())
    }

    /// Whether this endpoint went back to an older state, the other side has not heard of it yet, and can be told.
    pub(super) fn waits_for_what_it_lost(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let restored = self.group(ctx, number)?.broken == Some(reason_to_stored(Reason::Restored));
        Ok(restored && self.choose_other_side(ctx, number, Purpose::Control)?.is_some())
    }

    /// Whether this endpoint went back to an older state, has not told what was lost there, and now can.
    pub(super) fn can_tell_what_it_lost(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let group = self.group(ctx, number)?;
        if group.untold != Some(true) || group.broken.is_some() {
            return Ok(false);
        }
        let record = self.conversation_record(ctx, number)?;
        let can_begin = self.can_begin_with(ctx, number, &self.spares(ctx, number, &record)?)?;
        Ok(can_begin && self.choose_other_side(ctx, number, Purpose::Control)?.is_some())
    }

    /// Whether a new group can be made with these spares. A customer's device that a customer makes it without hears of that and is added
    /// again; a business can add nobody, so that it needs them all.
    fn can_begin_with(&self, ctx: &Ctx<'_, '_>, number: u64, spares: &[Spare]) -> Result<bool, StoreError> {
        let has_spare = |m: &Member| spares.iter().any(|s| s.certificate().endpoint() == m.record.endpoint);
        let missing = match self.own_role() {
            Role::Business => {
                self.members(ctx, number)?.iter().any(|m| m.is_in() && !m.record.leaving && !has_spare(m))
            }
            Role::Customer => false,
        };
        Ok(!missing && spares.iter().any(|s| s.certificate().role() != self.own_role()))
    }

    /// The group cannot go on: it begins again as soon as it can.
    pub(super) fn break_group(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, reason: Reason) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        if record.state == ConversationState::New || record.state.is_over() {
            return Ok(());
        }
        let mut group = self.group(ctx, number)?;
        if group.broken.is_none() {
            tracing::info!(?reason, "a conversation's group cannot go on: it begins again");
            let begun_for = group.began.filter(|_| group.unanswered);
            group.broken = Some(begun_for.unwrap_or(reason_to_stored(reason)));
            self.save_group(ctx, number, record.peer, &group)?;
        }
        self.reform(ctx, number)
    }

    /// This endpoint went back to an older state, or a copy of it was used: no group of its own may be sealed in again.
    pub(super) fn break_all(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, record) in ctx.tx.scan_prefix::<ConversationRecord>(Table::Conversations, b"")? {
            let Some(number) = key.first_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            Self::bound_spares(ctx, number, record.peer)?;
            if record.state == ConversationState::New || record.state.is_over() {
                continue;
            }
            let mut group = self.group(ctx, number)?;
            group.broken = Some(reason_to_stored(Reason::Restored));
            group.lost_from.get_or_insert(record.next_order);
            (group.retry_ms, group.tries) = (0, 0);
            self.save_group(ctx, number, record.peer, &group)?;
            self.to_reform.insert(number);
        }
        self.timers.insert((ctx.tx.now_ms(), Timer::Reform));
        // A Welcome to it may have been joined since, and sealed in.
        self.forget_packages(ctx)
    }

    /// Finds the conversations that wait to begin again.
    pub(super) fn load_broken(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, mut group) in ctx.tx.scan_prefix::<GroupRecord>(Table::Groups, b"")? {
            let Some(number) = key.first_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            if group.broken.is_none() && !self.suites.has(suite_of(&group)) {
                let record = self.conversation_record(ctx, number)?;
                if record.state != ConversationState::New && !record.state.is_over() {
                    self.gives_up_suite(ctx, number, record.peer, &mut group)?;
                }
            }
            // One that is not broken, and is to be looked at again all the same, waits to be let in, or did.
            if group.broken.is_some() || group.retry_ms > 0 {
                self.to_reform.insert(number);
            }
        }
        Ok(())
    }

    /// A device that was invited waits to be let in. If that takes long, what it asked with, or what was to bring it in, may be lost, and it asks
    /// again as one whose group cannot go on.
    pub(super) fn wait_to_come_in(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let mut group = self.group(ctx, number)?;
        group.retry_ms = ctx.tx.now_ms() + RETRY_MS;
        self.save_group(ctx, number, peer, &group)?;
        self.to_reform.insert(number);
        self.timers.insert((group.retry_ms, Timer::Reform));
        Ok(())
    }

    /// Begins some of the conversations again that wait for it.
    pub(super) fn reform_some(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let mut begun = 0;
        for number in self.to_reform.clone() {
            let record = self.conversation_record(ctx, number)?;
            if !self.holds(MailboxId::new(*record.mailbox)) {
                continue;
            }
            let at = self.group(ctx, number)?.retry_ms;
            if at > now {
                // After a restart nothing else would wake it.
                self.timers.insert((at, Timer::Reform));
                continue;
            }
            if begun == AT_ONCE {
                self.timers.insert((now + 1, Timer::Reform));
                break;
            }
            begun += 1;
            self.to_reform.remove(&number);
            self.reform(ctx, number)?;
        }
        Ok(())
    }

    /// Begins a broken conversation again, if it can be now.
    pub(super) fn reform(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let mut group = self.group(ctx, number)?;
        let now = ctx.tx.now_ms();
        if group.broken.is_none() && !is_invited(&record) {
            return Ok(());
        }
        let reason = group.broken.map_or(Reason::Gap, reason_from_stored);
        // Without the lease nothing is sealed; when it is granted, everything broken is looked at again.
        if self.superseded || !self.holds(MailboxId::new(*record.mailbox)) {
            self.to_reform.insert(number);
            return Ok(());
        }
        if now < group.retry_ms {
            self.to_reform.insert(number);
            self.timers.insert((group.retry_ms, Timer::Reform));
            return Ok(());
        }
        if let Err(at) = self.may_begin_again(number, now) {
            self.to_reform.insert(number);
            self.timers.insert((at, Timer::Reform));
            return Ok(());
        }
        let may_say = self.choose_other_side(ctx, number, Purpose::Control)?.is_some();
        let spares = self.spares(ctx, number, &record)?;
        group.broken = Some(reason_to_stored(reason));
        group.tries += 1;
        group.retry_ms = now + pause(group.tries);
        self.doubted.remove(&number);
        // What was tried and not followed is not tried again: the spare may be gone there.
        let can_begin = may_say && group.tries == 1 && self.can_begin_with(ctx, number, &spares)?;
        match &record.pseudonym {
            _ if can_begin => self.continue_in_new_group(ctx, number, &mut record, group, reason, &spares),
            Some(_) => {
                group.began = Some(reason_to_stored(reason));
                group.untold = group.untold.or((reason == Reason::Restored).then_some(true));
                self.hello_anew(ctx, number, &mut record, group)
            }
            None => self.ask_to_begin(ctx, number, &mut record, group, reason),
        }
    }

    /// Counts a beginning of a conversation; or when it may begin again.
    fn may_begin_again(&mut self, number: u64, now: u64) -> Result<(), u64> {
        let rested = self.begun.entry(number).or_default();
        let next = now.max(*rested) + BEGUN_EVERY_MS;
        if next > now + BEGUN_AT_ONCE * BEGUN_EVERY_MS {
            return Err(next - BEGUN_AT_ONCE * BEGUN_EVERY_MS);
        }
        *rested = next;
        Ok(())
    }

    /// A business without the customer's spare cannot begin, nor a linked device without the business's: it says so, if it may, and waits.
    fn ask_to_begin(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        mut group: GroupRecord,
        reason: Reason,
    ) -> Result<(), StoreError> {
        let mut may_say = false;
        for member in self.members(ctx, number)?.iter().filter(|m| !m.is_gone()) {
            may_say |= self.choose(ctx, number, member.number, Purpose::Control)?.is_some();
        }
        if may_say {
            let turn = self.next_turn(ctx, record, &group);
            group.said = turn.at;
            let (business, user) = (IdentityHash::new(*record.business), user_of(record)?);
            let heard = self.newest_heard(ctx, number, group.lost_from)?;
            let body = self.with_issuer(ctx, record, |_, speaker| {
                Continues::seal(speaker, &business, &user, &turn, reason, &heard, &[])
            })?;
            let body = body.map_err(|_| damaged(Table::Conversations))?;
            let fresh = self.with_fresh_spare(ctx, number, record, &mut group)?;
            let says: Vec<OutboxRecord> = fresh.into_iter().chain([continues_intent(body)]).collect();
            self.say_undelivered_again(ctx, number, record, &says)?;
        }
        if !is_invited(record) {
            record.state = ConversationState::Stuck;
        }
        self.save_group(ctx, number, record.peer, &group)?;
        self.save_conversation(ctx, number, record)?;
        self.tell_conversation(ctx, number)?;
        // If the customer does not hear it, it is said again.
        self.to_reform.insert(number);
        self.timers.insert((group.retry_ms, Timer::Reform));
        self.pump(ctx, number)
    }

    /// A linked device is nobody but by its spare, and those that the others have of it may be spent: it leaves them a fresh one. Whoever cannot
    /// follow it into its group then brings it into his.
    pub(super) fn with_fresh_spare(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        group: &mut GroupRecord,
    ) -> Result<Option<OutboxRecord>, StoreError> {
        let Some(device) = Self::device(record)? else { return Ok(None) };
        group.spare_ms = 0;
        self.save_group(ctx, number, record.peer, group)?;
        let spares = self.spares_to_join(ctx, number, record, None)?;
        let (spare, more) = spares.split_first().ok_or(damaged(Table::Spares))?;
        (group.spare_ms, group.offered) = (ctx.tx.now_ms(), self.group(ctx, number)?.offered);
        record.control_given = 0;
        let permits = self.give(ctx, number, record, Carrier::Receipt)?.ok_or(damaged(Table::Grants))?;
        let body = Join::seal(&device, &permits, spare, more);
        Ok(Some(OutboxRecord::body(Kind::Join as u8, body, Purpose::Control.to_wire())))
    }

    fn continue_in_new_group(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        mut group: GroupRecord,
        reason: Reason,
        spares: &[Spare],
    ) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let (business, user) = (IdentityHash::new(*record.business), user_of(record)?);
        let heard = self.newest_heard(ctx, number, group.lost_from)?;
        let turn = self.next_turn(ctx, record, &group);
        let customer = Self::customer_key(record)?;
        let fresh = self.with_fresh_spare(ctx, number, record, &mut group)?;
        let made = self.with_issuer(ctx, record, |issuer, speaker| {
            let (mls, welcome) = Mls::reform(issuer, customer, spares, now / 1000, &mut ctx.tx.rng()).ok()?;
            let body = Continues::seal(speaker, &business, &user, &turn, reason, &heard, &welcome).ok()?;
            Some((mls, body))
        })?;
        let Some((mls, body)) = made else { return Err(damaged(Table::PeerSpares)) };
        let with: Vec<&str> = spares.iter().map(|spare| spare.certificate().endpoint()).collect();
        tracing::debug!(conversation = number, suite = ?mls.suite(), ?with, at = turn.at, "a new group is begun");
        group.said = turn.at;
        group.unanswered = true;
        group.began = Some(reason_to_stored(reason));
        group.untold = group.untold.filter(|_| reason != Reason::Restored);
        record.state = ConversationState::Open;
        // With the first receipt go fresh permits, whatever became of the old ones.
        record.control_given = 0;
        // One of the other side opens one Welcome.
        for member in self.members(ctx, number)?.iter().filter(|m| m.is_other_side()) {
            Self::drop_spare(ctx, number, member.number);
        }
        self.replace_group(ctx, number, record, &mut group, mls)?;
        self.save_group(ctx, number, record.peer, &group)?;
        let says: Vec<OutboxRecord> = fresh.into_iter().chain([continues_intent(body)]).collect();
        self.say_undelivered_again(ctx, number, record, &says)?;
        self.save_conversation(ctx, number, record)?;
        self.introduce_all(ctx, number, record)?;
        ctx.emit(Event::Continued { conversation: ConversationId(number), by: Direction::Outgoing, reason })?;
        self.pump(ctx, number)
    }

    /// A customer who cannot continue begins as on the first day, as the same pseudonym.
    fn hello_anew(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        mut group: GroupRecord,
    ) -> Result<(), StoreError> {
        group.broken = None;
        self.leave_group(ctx, number, &mut group);
        self.save_group(ctx, number, record.peer, &group)?;
        record.state = ConversationState::New;
        record.hello = None;
        record.bundle = None;
        self.forget_mls(ctx, number)?;
        self.say_undelivered_again(ctx, number, record, &[])?;
        self.something_to_say(ctx, number, record)?;
        self.save_conversation(ctx, number, record)?;
        self.pump(ctx, number)
    }

    /// A Hello carries a first message; with nothing to say, an empty receipt.
    pub(super) fn something_to_say(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        if record.next_sequence == 1 || self.is_lane_empty(ctx, number)? {
            let body =
                Body::Receipt(Receipt { delivered: Vec::new(), read: Vec::new(), epoch: 0, authenticator: [0; 8] });
            let mut content = Content::new(ctx.tx.random(), body);
            content.extensions.resumes = record.past.as_ref().is_some_and(|past| past.sought);
            let bytes = self.say(ctx, record, &mut content)?;
            let intent = OutboxRecord::notice(bytes, Purpose::Service.to_wire(), None);
            self.enqueue(ctx, number, record, &intent)?;
        }
        Ok(())
    }

    /// The state of a new group takes the place of the old one's.
    pub(super) fn replace_group(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        group: &mut GroupRecord,
        mls: Mls,
    ) -> Result<(), StoreError> {
        self.leave_group(ctx, number, group);
        group.broken = None;
        group.suite = Some(mls.suite().code());
        group.renewed_ms = ctx.tx.now_ms();
        // The others' spares are spent, or may be, and who was away may have lost our permits: ours go with the next receipt.
        group.spare_ms = 0;
        record.control_given = 0;
        self.forget_mls(ctx, number)?;
        self.save_mls(ctx, number, record.peer, &mls)?;
        self.keep_loaded(number, mls);
        self.save_group(ctx, number, record.peer, group)?;
        self.sync_members(ctx, number, record)
    }

    fn leave_group(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, group: &mut GroupRecord) {
        if let Ok(id) = self.group_id(ctx, number) {
            group.left.push(ByteVec::from(id));
            let excess = group.left.len().saturating_sub(LEFT_KEPT);
            group.left.drain(..excess);
        }
        ctx.tx.delete(Table::Claims, &number.to_be_bytes());
        self.wanted.commits.remove(&number);
        self.wanted.reads.remove(&number);
        self.wanted.foreign.remove(&number);
        self.doubted.remove(&number);
        self.newer.remove(&number);
    }

    /// The newest messages of others that are here; of an endpoint that went back, those that it had then. What it was told since, in a
    /// group that began in another way, may be newer than what it has lost.
    fn newest_heard(&self, ctx: &Ctx<'_, '_>, number: u64, before: Option<u64>) -> Result<Vec<MessageId>, StoreError> {
        let prefix = number.to_be_bytes();
        let until = match before {
            Some(order) => Some(message_key(Place { conversation: number, order })),
            None => after_prefix(&prefix),
        };
        let newest: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &prefix, until.as_deref(), Order::Descending, 200)?;
        let of_others = newest.into_iter().filter(|(_, m)| m.direction == Direction::Incoming || m.by.is_some());
        Ok(of_others.take(continues::HEARD).map(|(_, m)| MessageId::new(*m.id)).collect())
    }

    /// Empties the lanes and fills the first again: `first`, receipts that were not said, everything of ours that somebody has not
    /// confirmed.
    pub(super) fn say_undelivered_again(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        first: &[OutboxRecord],
    ) -> Result<(), StoreError> {
        let prefix = number.to_be_bytes();
        let (mut delivered, mut read) = (Vec::new(), Vec::new());
        for (key, entry) in ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &prefix)? {
            ctx.tx.delete(Table::Outbox, &key);
            if entry.message.is_none()
                && let Ok(Body::Receipt(receipt)) = Content::decode(&entry.content.0).map(|c| c.body)
            {
                delivered.extend(receipt.delivered);
                read.extend(receipt.read);
            }
        }
        self.lanes.retain(|lane, _| lane.conversation != number);
        self.lanes.insert(LaneId::intents(number), Lane::default());
        let awaited = self.take_awaited(ctx, number, record.peer)?;
        for intent in first {
            self.enqueue(ctx, number, record, intent)?;
        }
        let mut again = Vec::new();
        let newest_first: Vec<(Vec<u8>, MessageRecord)> = ctx.tx.scan(
            Table::Messages,
            &prefix,
            after_prefix(&prefix).as_deref(),
            Order::Descending,
            usize::MAX / 2,
        )?;
        for (key, stored) in newest_first {
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            let waits =
                stored.status < Status::Delivered || (awaited.contains(&order) && stored.status != Status::Failed);
            if is_ours(&stored) && waits && !stored.deleted && !broken(Rule::SaidAgain) {
                again.push((Place { conversation: number, order }, purpose_of(&stored)));
            }
        }
        for (place, purpose) in again.into_iter().rev() {
            self.enqueue(ctx, number, record, &OutboxRecord::message(place, purpose))?;
        }
        if !delivered.is_empty() || !read.is_empty() {
            self.owe_receipts(ctx, number, record.peer, &delivered, &read, Wait::AtOnce)?;
        }
        Ok(())
    }

    /// The other side's group takes the place of the one that we began, or would have. If we had to tell what was lost here, we still have to:
    /// whether it was heard is not known.
    pub(super) fn is_followed_instead(group: &mut GroupRecord) {
        let restored = Some(reason_to_stored(Reason::Restored));
        if group.broken == restored || (group.unanswered && group.began == restored) {
            group.untold = Some(true);
        }
        (group.unanswered, group.began) = (false, None);
    }

    /// Somebody speaks, and not in the group that we began or followed: he has not heard of it yet, or he could not follow. If he still does so
    /// after a while, the conversation begins again, in another way.
    pub(super) fn not_followed(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let (group, now) = (self.group(ctx, number)?, ctx.tx.now_ms());
        if group.broken.is_some() {
            return self.tell_who_speaks(ctx, number);
        }
        // What was on its way when it came back says nothing yet.
        let since = *self.doubted.entry(number).or_insert(now);
        if now < since + if group.unanswered { pause(group.tries) } else { LEFT_MS } {
            return Ok(());
        }
        self.try_permits_again(ctx, number)?;
        self.break_group(ctx, number, Reason::Gap)
    }

    /// Somebody speaks in a group that cannot go on. That may have been said to him under permits that were refused while his mailbox was not
    /// there, as at a relay that went back: now that he is, they are tried once more. So they are wherever somebody did not follow.
    fn tell_who_speaks(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        if self.choose_other_side(ctx, number, Purpose::Control)?.is_some() {
            return Ok(());
        }
        self.try_permits_again(ctx, number)?;
        self.reform(ctx, number)
    }

    fn try_permits_again(&self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let peer = self.conversation_record(ctx, number)?.peer;
        for member in self.members(ctx, number)?.iter().filter(|m| !m.record.leaving) {
            Self::try_permit_again(ctx, number, peer, member.number, Purpose::Control)?;
        }
        Ok(())
    }

    /// A Hello that nobody has answered for long may be lost: the next message goes with a new one.
    pub(super) fn doubt_hello(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let group = self.group(ctx, number)?;
        if group.unanswered && group.broken.is_none() && ctx.tx.now_ms() >= group.retry_ms {
            return self.break_group(ctx, number, Reason::Gap);
        }
        Ok(())
    }

    /// Somebody was heard in the current group: if it was the other side, it stands.
    pub(super) fn group_answers(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        by: Role,
    ) -> Result<(), StoreError> {
        if by == self.own_role() {
            return Ok(());
        }
        let mut group = self.group(ctx, number)?;
        if group.unanswered || group.tries > 0 {
            let told = group.untold != Some(true) && group.began == Some(reason_to_stored(Reason::Restored));
            group.lost_from = group.lost_from.filter(|_| !(told && group.unanswered));
            if std::mem::take(&mut group.unanswered) {
                self.wait_for_nobody(number);
                group.stands();
            }
            (group.tries, group.retry_ms) = (0, 0);
            self.save_group(ctx, number, peer, &group)?;
        }
        Ok(())
    }
}

pub(super) fn continues_intent(body: Vec<u8>) -> OutboxRecord {
    OutboxRecord::body(Kind::Continues as u8, body, Purpose::Control.to_wire())
}

/// Whether this is a device that was invited and has not come in.
fn is_invited(record: &ConversationRecord) -> bool {
    record.device.is_some() && record.state == ConversationState::Greeting
}

pub(super) fn user_of(record: &ConversationRecord) -> Result<UserId, StoreError> {
    record.user_id.parse().map_err(|_| damaged(Table::Conversations))
}
