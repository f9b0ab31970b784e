//! Groups that cannot go on, and conversations that do (design: re-forming).
//!
//! Whoever cannot continue a group — it forked, something is missing for good, this endpoint went back to an older state — marks it *broken*:
//! nothing is sealed in it any more. Then the conversation begins again between the same identities, with the spare KeyPackage that the
//! other side left: a new group, a signed statement ([`Continues`]) under the standing permit, and everything undelivered once more under the
//! same ids. A customer without spare or permit says Hello again; a business without them waits for the customer. If both begin, the
//! customer's stands.

use bulla_e2ee::certificate::{Expect, Role};
use bulla_e2ee::content::{Body, Content, MessageId, Receipt};
use bulla_e2ee::continues::{self, Continues, Reason, Speaker};
use bulla_e2ee::conversation::{Conversation as Mls, JoinError};
use bulla_e2ee::envelope::Kind;
use bulla_e2ee::identity::{IdentityHash, Pseudonym, UserId};
use bulla_e2ee::spare::{Issuer, Spare, SpareKeys, make_spare};
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::MailboxId;
use minicbor::bytes::ByteVec;

use super::messages::{Wait, conversation_view};
use super::outbox::Lane;
use super::record::{
    BodyRecord, ConversationRecord, GroupRecord, MessageRecord, OutboxRecord, Place, SecretVec, SpareRecord,
};
use super::{Ctx, Engine, RoleOptions, Timer, damaged};
use crate::event::{ConversationId, ConversationState, Direction, Event, Status};
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// First pause before a group that was begun again, and not answered, is begun once more; doubled each time.
const RETRY_MS: u64 = 30_000;

/// Longest such pause.
const LONGEST_RETRY_MS: u64 = 3_600_000;

/// A spare is renewed when it is this old; its lifetime is four times as long.
const SPARE_RENEWED_MS: u64 = 90 * 86_400_000;

/// Own spares kept per conversation: the newest, and those that an answer under way may still use.
const SPARES_KEPT: usize = 4;

/// Ids of groups left behind that are remembered.
const LEFT_KEPT: usize = 8;

/// Conversations begun again in one step: a restored gateway has thousands, and its other work goes on beside.
const AT_ONCE: usize = 16;

/// Own messages said again after the other side lost its newer state, at most.
const SAID_AGAIN: usize = 1_000;

/// How long a group that was begun so many times waits for an answer.
fn pause(tries: u32) -> u64 {
    RETRY_MS.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_RETRY_MS)
}

fn reason_to_stored(reason: Reason) -> u8 {
    match reason {
        Reason::Fork => 1,
        Reason::Gap => 2,
        Reason::Restored => 3,
        Reason::Newer => 4,
        _ => 0,
    }
}

fn reason_from_stored(stored: u8) -> Reason {
    match stored {
        1 => Reason::Fork,
        2 => Reason::Gap,
        3 => Reason::Restored,
        4 => Reason::Newer,
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

    fn own_role(&self) -> Role {
        match self.role {
            RoleOptions::Business(_) => Role::Business,
            RoleOptions::Customer => Role::Customer,
        }
    }

    /// Whether the conversation's group can be sealed in.
    pub(super) fn is_broken(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        Ok(self.group(ctx, number)?.broken.is_some())
    }

    /// Whether this endpoint went back to an older state, the other side has not heard of it yet, and can be told.
    pub(super) fn waits_for_what_it_lost(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let restored = self.group(ctx, number)?.broken == Some(reason_to_stored(Reason::Restored));
        Ok(restored && self.choose(ctx, number, Purpose::Control)?.is_some())
    }

    /// Whether this endpoint went back to an older state, has not told what was lost there, and now can.
    pub(super) fn can_tell_what_it_lost(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let group = self.group(ctx, number)?;
        if group.untold != Some(true) || group.broken.is_some() {
            return Ok(false);
        }
        let record = self.conversation_record(ctx, number)?;
        Ok(self.peer_spare(ctx, number, &record)?.is_some() && self.choose(ctx, number, Purpose::Control)?.is_some())
    }

    /// The group cannot go on: it begins again as soon as it can.
    pub(super) fn break_group(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, reason: Reason) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        if record.state == ConversationState::New {
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
            if record.state == ConversationState::New {
                continue;
            }
            let mut group = self.group(ctx, number)?;
            group.broken = Some(reason_to_stored(Reason::Restored));
            (group.retry_ms, group.tries) = (0, 0);
            self.save_group(ctx, number, record.peer, &group)?;
            self.to_reform.insert(number);
        }
        self.timers.insert((ctx.tx.now_ms(), Timer::Reform));
        Ok(())
    }

    /// Finds the conversations that wait to begin again.
    pub(super) fn load_broken(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (key, group) in ctx.tx.scan_prefix::<GroupRecord>(Table::Groups, b"")? {
            if let (Some(number), Some(_)) = (key.first_chunk::<8>(), group.broken) {
                self.to_reform.insert(u64::from_be_bytes(*number));
            }
        }
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
        let Some(reason) = group.broken.map(reason_from_stored) else { return Ok(()) };
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
        let permit = self.choose(ctx, number, Purpose::Control)?;
        let spare = self.peer_spare(ctx, number, &record)?;
        group.tries += 1;
        group.retry_ms = now + pause(group.tries);
        self.doubted.remove(&number);
        // What was tried and not followed is not tried again: the spare may be gone there.
        let spare = spare.filter(|_| group.tries == 1);
        match (permit, spare, &record.pseudonym) {
            (Some(_), Some(spare), _) => self.continue_in_new_group(ctx, number, &mut record, group, reason, &spare),
            (_, _, Some(_)) => {
                group.began = Some(reason_to_stored(reason));
                group.untold = group.untold.or((reason == Reason::Restored).then_some(true));
                self.hello_anew(ctx, number, &mut record, group)
            }
            (permit, _, None) => self.ask_to_begin(ctx, number, &mut record, group, reason, permit.is_some()),
        }
    }

    /// A business without the customer's spare cannot begin: it says so, if it may, and waits for the customer.
    fn ask_to_begin(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        mut group: GroupRecord,
        reason: Reason,
        may_say: bool,
    ) -> Result<(), StoreError> {
        if may_say {
            group.said_ms = ctx.tx.now_ms().max(group.said_ms + 1);
            let (business, user) = (IdentityHash::new(*record.business), user_of(record)?);
            let heard = self.newest_heard(ctx, number)?;
            let at_ms = group.said_ms;
            let body = self.with_issuer(record, |_, speaker| {
                Continues::seal(speaker, &business, &user, at_ms, reason, &heard, &[])
            })?;
            let body = body.map_err(|_| damaged(Table::Conversations))?;
            self.say_undelivered_again(ctx, number, record, &mut group, Some(continues_intent(body)))?;
        }
        record.state = ConversationState::Stuck;
        self.save_group(ctx, number, record.peer, &group)?;
        self.save_conversation(ctx, number, record)?;
        self.tell_conversation(ctx, number)?;
        // If the customer does not hear it, it is said again.
        self.to_reform.insert(number);
        self.timers.insert((group.retry_ms, Timer::Reform));
        self.pump(ctx, number)
    }

    /// The other side's newest spare, if it still verifies.
    fn peer_spare(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<Option<Spare>, StoreError> {
        let Some(bytes) = ctx.tx.get::<ByteVec>(Table::PeerSpares, &number.to_be_bytes())? else { return Ok(None) };
        Ok(Spare::verify(&bytes, &Self::expect_peer(record), ctx.tx.now_ms() / 1000).ok())
    }

    fn expect_peer(record: &ConversationRecord) -> Expect {
        let business = IdentityHash::new(*record.business);
        match record.pseudonym {
            Some(_) => Expect { identity: Some(*record.peer_key), ..Expect::business(business) },
            None => Expect::customer(business, *record.peer_key),
        }
    }

    fn customer_key(record: &ConversationRecord) -> [u8; 32] {
        match &record.pseudonym {
            Some(key) => Pseudonym::from_bytes(&key.0).public(),
            None => *record.peer_key,
        }
    }

    /// Runs something with this side's issuer of certificates in a conversation.
    fn with_issuer<R>(
        &self,
        record: &ConversationRecord,
        f: impl FnOnce(&Issuer<'_>, &Speaker<'_>) -> R,
    ) -> Result<R, StoreError> {
        match &self.role {
            RoleOptions::Business(options) => {
                let identity = self.identity()?;
                let issuer = Issuer::Business { identity: &identity, handle: &options.handle, endpoint: "gateway" };
                Ok(f(&issuer, &Speaker::Business(&identity)))
            }
            RoleOptions::Customer => {
                let key = record.pseudonym.as_ref().ok_or(damaged(Table::Conversations))?;
                let (pseudonym, business) = (Pseudonym::from_bytes(&key.0), IdentityHash::new(*record.business));
                let issuer = Issuer::Customer { pseudonym: &pseudonym, business: &business };
                Ok(f(&issuer, &Speaker::Customer(&pseudonym)))
            }
        }
    }

    fn continue_in_new_group(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        mut group: GroupRecord,
        reason: Reason,
        spare: &Spare,
    ) -> Result<(), StoreError> {
        let now = ctx.tx.now_ms();
        let (business, user) = (IdentityHash::new(*record.business), user_of(record)?);
        let heard = self.newest_heard(ctx, number)?;
        let at_ms = now.max(group.said_ms + 1);
        let customer = Self::customer_key(record);
        let made = self.with_issuer(record, |issuer, speaker| {
            let spares = std::slice::from_ref(spare);
            let (mls, welcome) = Mls::reform(issuer, customer, spares, now / 1000, &mut ctx.tx.rng()).ok()?;
            let body = Continues::seal(speaker, &business, &user, at_ms, reason, &heard, &welcome).ok()?;
            Some((mls, body))
        })?;
        let Some((mls, body)) = made else { return Err(damaged(Table::PeerSpares)) };
        group.said_ms = at_ms;
        group.unanswered = true;
        group.began = Some(reason_to_stored(reason));
        group.untold = group.untold.filter(|_| reason != Reason::Restored);
        record.state = ConversationState::Open;
        // With the first receipt go fresh permits, whatever became of the old ones.
        record.control_given = 0;
        // It opens one Welcome.
        ctx.tx.delete(Table::PeerSpares, &number.to_be_bytes());
        self.replace_group(ctx, number, record, &mut group, mls)?;
        self.say_undelivered_again(ctx, number, record, &mut group, Some(continues_intent(body)))?;
        self.save_conversation(ctx, number, record)?;
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
        record.state = ConversationState::New;
        record.hello = None;
        record.bundle = None;
        self.forget_mls(ctx, number)?;
        self.say_undelivered_again(ctx, number, record, &mut group, None)?;
        if record.next_sequence == 1 || self.is_lane_empty(ctx, number)? {
            // A Hello carries a first message; with nothing to say, an empty receipt.
            let body =
                Body::Receipt(Receipt { delivered: Vec::new(), read: Vec::new(), epoch: 0, authenticator: [0; 8] });
            let mut content = Content::new(ctx.tx.random(), body);
            let bytes = self.say(ctx, record, &mut content)?;
            let intent = OutboxRecord {
                message: None,
                content: SecretVec(bytes),
                purpose: Purpose::Service.to_wire(),
                until_ms: None,
                sealed: None,
                body: None,
            };
            self.enqueue(ctx, number, record, &intent)?;
        }
        self.save_conversation(ctx, number, record)?;
        self.pump(ctx, number)
    }

    /// The state of a new group takes the place of the old one's.
    pub(super) fn replace_group(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        group: &mut GroupRecord,
        mls: Mls,
    ) -> Result<(), StoreError> {
        self.leave_group(ctx, number, group);
        group.broken = None;
        group.renewed_ms = ctx.tx.now_ms();
        // The other side's spare is spent, or may be: ours goes with the next receipt.
        group.spare_ms = 0;
        self.forget_mls(ctx, number)?;
        self.save_mls(ctx, number, record.peer, &mls)?;
        self.keep_loaded(number, mls);
        self.save_group(ctx, number, record.peer, group)
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
    }

    /// The newest messages of the other side that are here.
    fn newest_heard(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Vec<MessageId>, StoreError> {
        let prefix = number.to_be_bytes();
        let until = after_prefix(&prefix);
        let newest: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &prefix, until.as_deref(), Order::Descending, 200)?;
        let incoming = newest.into_iter().filter(|(_, m)| m.direction == Direction::Incoming);
        Ok(incoming.take(continues::HEARD).map(|(_, m)| MessageId::new(*m.id)).collect())
    }

    /// Empties the lane and fills it again: `first`, receipts that were not said, everything of ours without a receipt, and, if the other
    /// side went back to an older state, what it had and has no longer. Saves the group.
    pub(super) fn say_undelivered_again(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        group: &mut GroupRecord,
        first: Option<OutboxRecord>,
    ) -> Result<(), StoreError> {
        let lost_after = group.lost_after;
        group.lost_until = None;
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
        for (key, _) in ctx.tx.scan_bytes(
            Table::Held,
            &prefix,
            after_prefix(&prefix).as_deref(),
            Order::Ascending,
            usize::MAX / 2,
        )? {
            ctx.tx.delete(Table::Held, &key);
        }
        self.lanes.insert(number, Lane::default());
        if let Some(first) = first {
            self.enqueue(ctx, number, record, &first)?;
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
            let lost = lost_after.is_some_and(|after| order > after) && again.len() < SAID_AGAIN;
            let waits = stored.status < Status::Delivered || (lost && stored.status != Status::Failed);
            if stored.direction == Direction::Outgoing && waits && !stored.content.0.is_empty() {
                if lost {
                    group.lost_until = group.lost_until.or(Some(order));
                }
                again.push((Place { conversation: number, order }, stored.content.clone()));
            }
        }
        for (place, content) in again.into_iter().rev() {
            self.enqueue(ctx, number, record, &message_intent(place, content))?;
        }
        group.lost_after = group.lost_after.filter(|_| group.lost_until.is_some());
        self.save_group(ctx, number, record.peer, group)?;
        if !delivered.is_empty() || !read.is_empty() {
            self.owe_receipts(ctx, number, record.peer, &delivered, &read, Wait::AtOnce)?;
        }
        Ok(())
    }

    /// What was said again because the other side had lost it is there: a receipt for the last of it came.
    pub(super) fn found_again(&mut self, ctx: &mut Ctx<'_, '_>, place: Place, peer: u64) -> Result<(), StoreError> {
        let mut group = self.group(ctx, place.conversation)?;
        if group.lost_until.is_some_and(|last| last <= place.order) {
            (group.lost_after, group.lost_until) = (None, None);
            self.save_group(ctx, place.conversation, peer, &group)?;
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

    /// What the other side has lost cannot be said again yet.
    pub(super) fn lost_waits(&self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let mut group = self.group(ctx, number)?;
        group.lost_until = None;
        self.save_group(ctx, number, peer, &group)
    }

    /// Says again what the other side has lost, if that had to wait and now can be.
    pub(super) fn say_what_waited(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let mut group = self.group(ctx, number)?;
        let (Some(after), None, None) = (group.lost_after, group.lost_until, group.broken) else { return Ok(()) };
        if self.choose(ctx, number, Purpose::Service)?.is_none() {
            return Ok(());
        }
        self.say_lost_again(ctx, number, record, &mut group, after)?;
        self.save_conversation(ctx, number, record)
    }

    /// The other side has none of our messages after this one: until it has them, they are said again whenever the conversation begins again.
    fn note_lost(group: &mut GroupRecord, after: u64) {
        group.lost_after = Some(group.lost_after.map_or(after, |known| known.min(after)));
    }

    /// Adds to the lane what the other side had and has no longer. Saves the group.
    fn say_lost_again(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        group: &mut GroupRecord,
        after: u64,
    ) -> Result<(), StoreError> {
        Self::note_lost(group, after);
        let from = super::messages::message_key(Place { conversation: number, order: after + 1 });
        let until = after_prefix(&number.to_be_bytes());
        let later: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &from, until.as_deref(), Order::Ascending, SAID_AGAIN)?;
        for (key, stored) in later {
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            // What has no receipt yet is in the lane anyhow.
            let had = matches!(stored.status, Status::Delivered | Status::Read);
            if stored.direction == Direction::Outgoing && had && !stored.content.0.is_empty() {
                group.lost_until = Some(order);
                self.enqueue(
                    ctx,
                    number,
                    record,
                    &message_intent(Place { conversation: number, order }, stored.content.clone()),
                )?;
            }
        }
        group.lost_after = group.lost_after.filter(|_| group.lost_until.is_some());
        self.save_group(ctx, number, record.peer, group)
    }

    /// The other side begins the conversation again.
    pub(super) fn continued(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, body: &[u8]) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        let mut group = self.group(ctx, number)?;
        let business = IdentityHash::new(*record.business);
        let Ok(says) = Continues::open(body, &business, &user_of(&record)?) else {
            return Self::keep_unreadable(
                ctx,
                Some(number),
                "it continues another conversation, or nobody signed it",
                body,
            );
        };
        if says.role == self.own_role() || says.at_ms <= group.heard_ms {
            return Ok(());
        }
        if says.identity != *record.peer_key {
            // Never joined, nothing ever sealed to it. The link names the key: another key is another link, and for a person to open.
            if group.key_change.is_some_and(|known| *known == says.identity) {
                return Ok(());
            }
            group.key_change = Some(says.identity.into());
            self.save_group(ctx, number, record.peer, &group)?;
            return ctx.emit(Event::KeyChange { conversation: ConversationId(number), identity: says.identity });
        }
        if group.unanswered && group.broken.is_none() && self.own_role() == Role::Customer {
            // Both began again: the customer's stands, and the business follows it. What it has lost is said again all the same.
            group.heard_ms = says.at_ms;
            self.save_group(ctx, number, record.peer, &group)?;
            if says.reason == Reason::Restored {
                let after = Self::newest_known(ctx, number, &says.heard)?;
                self.say_lost_again(ctx, number, &mut record, &mut group, after)?;
                self.save_conversation(ctx, number, &record)?;
                self.pump(ctx, number)?;
            }
            return self.not_followed(ctx, number);
        }
        if says.welcome.is_empty() {
            // The other side cannot begin: then we do.
            group.heard_ms = says.at_ms;
            if says.reason == Reason::Restored {
                Self::note_lost(&mut group, Self::newest_known(ctx, number, &says.heard)?);
            }
            self.save_group(ctx, number, record.peer, &group)?;
            return self.break_group(ctx, number, Reason::Gap);
        }
        let (customer, now) = (Self::customer_key(&record), ctx.tx.now_ms());
        let prefix = number.to_be_bytes();
        let mut joined = None;
        for (key, spare) in ctx.tx.scan_prefix::<SpareRecord>(Table::Spares, &prefix)? {
            let keys = SpareKeys::from_bytes(&spare.keys.0).map_err(|_| damaged(Table::Spares))?;
            match Mls::rejoin(&keys, self.own_role(), &business, &customer, &says.welcome, now / 1000) {
                Err(JoinError::NoKeyPackage) => {}
                Err(why) => {
                    tracing::warn!(error = %why, "a statement that continues a conversation brings into no group: refused");
                    return Self::keep_unreadable(ctx, Some(number), &why.to_string(), body);
                }
                Ok(mls) => {
                    ctx.tx.delete(Table::Spares, &key);
                    joined = Some(mls);
                    break;
                }
            }
        }
        group.heard_ms = says.at_ms;
        if says.reason == Reason::Restored {
            Self::note_lost(&mut group, Self::newest_known(ctx, number, &says.heard)?);
        }
        let Some(mls) = joined else {
            // The spare that it used is gone here: then it is for us to begin.
            self.save_group(ctx, number, record.peer, &group)?;
            return self.break_group(ctx, number, Reason::Gap);
        };
        Self::is_followed_instead(&mut group);
        (group.tries, group.retry_ms) = (0, 0);
        if record.state != ConversationState::New {
            record.state = ConversationState::Open;
        }
        record.control_given = 0;
        self.replace_group(ctx, number, &record, &mut group, mls)?;
        self.say_undelivered_again(ctx, number, &mut record, &mut group, None)?;
        self.save_conversation(ctx, number, &record)?;
        ctx.emit(Event::Continued {
            conversation: ConversationId(number),
            by: Direction::Incoming,
            reason: says.reason,
        })?;
        ctx.emit(Event::Conversation(conversation_view(number, &record)?))?;
        // Said at once, so that the other side hears that we followed; it carries permits and a fresh spare.
        self.owe_receipts(ctx, number, record.peer, &[], &[], Wait::AtOnce)?;
        self.pump(ctx, number)
    }

    /// The order of the newest of our messages that the other side says it has; 0 if it has none.
    fn newest_known(ctx: &Ctx<'_, '_>, number: u64, heard: &[MessageId]) -> Result<u64, StoreError> {
        let mut newest = 0;
        for id in heard {
            newest = newest.max(Self::place_of(ctx, Some(number), id)?.map_or(0, |place| place.order));
        }
        Ok(newest)
    }

    /// The other side speaks, and not in the group that we began: it has not heard of it yet, or it could not follow. If it still does so
    /// after a while, the conversation begins again, in another way.
    pub(super) fn not_followed(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let (group, now) = (self.group(ctx, number)?, ctx.tx.now_ms());
        if !group.unanswered || group.broken.is_some() {
            return Ok(());
        }
        // What was on its way when it came back says nothing yet.
        let since = *self.doubted.entry(number).or_insert(now);
        if now < since + pause(group.tries) {
            return Ok(());
        }
        self.break_group(ctx, number, Reason::Gap)
    }

    /// A Hello that nobody has answered for long may be lost: the next message goes with a new one.
    pub(super) fn doubt_hello(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let group = self.group(ctx, number)?;
        if group.unanswered && group.broken.is_none() && ctx.tx.now_ms() >= group.retry_ms {
            return self.break_group(ctx, number, Reason::Gap);
        }
        Ok(())
    }

    /// Somebody was heard in the current group: it stands.
    pub(super) fn group_answers(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let mut group = self.group(ctx, number)?;
        if group.unanswered || group.tries > 0 {
            group.unanswered = false;
            (group.tries, group.retry_ms) = (0, 0);
            self.save_group(ctx, number, peer, &group)?;
        }
        Ok(())
    }

    /// A spare for the other side, if it is time for one.
    pub(super) fn spare_to_give(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut group = self.group(ctx, number)?;
        let now = ctx.tx.now_ms();
        if now < group.spare_ms.saturating_add(SPARE_RENEWED_MS) && group.spare_ms > 0 {
            return Ok(None);
        }
        let made = self.with_issuer(record, |issuer, _| make_spare(issuer, now / 1000, &mut ctx.tx.rng()))?;
        let Ok((bytes, keys)) = made else { return Err(damaged(Table::Spares)) };
        let prefix = number.to_be_bytes();
        let kept = ctx.tx.scan_bytes(Table::Spares, &prefix, after_prefix(&prefix).as_deref(), Order::Ascending, 64)?;
        let serial = kept.last().and_then(|(k, _)| k.last_chunk::<8>()).map_or(0, |k| u64::from_be_bytes(*k)) + 1;
        for (key, _) in kept.iter().take((kept.len() + 1).saturating_sub(SPARES_KEPT)) {
            ctx.tx.delete(Table::Spares, key);
        }
        let key = [prefix, serial.to_be_bytes()].concat();
        let spare = SpareRecord { keys: SecretVec(keys.to_bytes().to_vec()), made_ms: now };
        ctx.tx.put(Table::Spares, &key, Scope::Peer(record.peer), &spare)?;
        group.spare_ms = now;
        self.save_group(ctx, number, record.peer, &group)?;
        Ok(Some(bytes))
    }

    /// Keeps the spare that the other side left, if it is one of its own.
    pub(super) fn take_spare(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        spare: &[u8],
    ) -> Result<(), StoreError> {
        if Spare::verify(spare, &Self::expect_peer(record), ctx.tx.now_ms() / 1000).is_err() {
            tracing::warn!("a spare KeyPackage that does not verify: ignored");
            return Ok(());
        }
        let bytes = ByteVec::from(spare.to_vec());
        ctx.tx.put(Table::PeerSpares, &number.to_be_bytes(), Scope::Peer(record.peer), &bytes)
    }
}

fn continues_intent(body: Vec<u8>) -> OutboxRecord {
    OutboxRecord {
        message: None,
        content: SecretVec(Vec::new()),
        purpose: Purpose::Control.to_wire(),
        until_ms: None,
        sealed: None,
        body: Some(BodyRecord { kind: Kind::Continues as u8, bytes: SecretVec(body) }),
    }
}

fn message_intent(place: Place, content: SecretVec) -> OutboxRecord {
    OutboxRecord {
        message: Some(place),
        content,
        purpose: Purpose::Service.to_wire(),
        until_ms: None,
        sealed: None,
        body: None,
    }
}

fn user_of(record: &ConversationRecord) -> Result<UserId, StoreError> {
    record.user_id.parse().map_err(|_| damaged(Table::Conversations))
}
