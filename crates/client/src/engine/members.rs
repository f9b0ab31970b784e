//! The other endpoints of a conversation: the other side's, and a customer's own further devices.
//!
//! Each has a small number here, under which its permits, its spare KeyPackage and its lane are kept. Who is in the group says MLS's roster
//! alone; these rows follow it. A member that a new group was made without is *out*: what it has not confirmed is kept, and if it is one of
//! our own devices, it is added again.

use std::collections::BTreeSet;

use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{Body, Content, Introduced, PermitsExtension, Receipt};
use bulla_e2ee::conversation::Sender;
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::tag::Purpose;

use super::continues::{SAID_AGAIN, is_ours};
use super::lanes::LaneId;
use super::messages::purpose_of;
use super::record::{Awaited, ConversationRecord, MemberRecord, MessageRecord, OutboxRecord, Place};
use super::{Ctx, Engine};
use crate::event::{ConversationId, ConversationState, Event, Status};
use crate::store::tx::after_prefix;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// A member's number in its conversation; 0 is nobody's.
pub(super) type Number = u8;

/// Members that are kept: those of the largest group, and as many that are out.
const KEPT: usize = 2 * bulla_e2ee::limits::MEMBERS;

/// Messages that are kept for a member that is out of the group, in case it comes back.
const KEPT_FOR_OUT: usize = 1_000;

/// Another endpoint of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) number: Number,
    pub(super) record: MemberRecord,
}

impl Member {
    /// It is in the group.
    pub(super) fn is_in(&self) -> bool {
        !self.record.out
    }

    /// A device that was removed: it is told, and then nothing of it is kept but its name.
    pub(super) fn is_gone(&self) -> bool {
        self.record.out && self.record.leaving
    }

    pub(super) fn is_other_side(&self) -> bool {
        !self.record.own_side
    }

    /// The group lacks it, and it was not removed.
    fn is_left_out(&self) -> bool {
        self.record.out && !self.record.leaving
    }

    /// The purpose under which something goes to it. Among a customer's own devices everything goes under `control`, which always stands:
    /// `service` is what the customer's writing gives the business.
    pub(super) fn purpose(&self, purpose: Purpose) -> Purpose {
        if self.record.own_side { Purpose::Control } else { purpose }
    }
}

pub(super) fn member_key(conversation: u64, number: Number) -> Vec<u8> {
    [conversation.to_be_bytes().as_slice(), &[number]].concat()
}

fn awaited_key(number: Number, place: Place) -> Vec<u8> {
    [member_key(place.conversation, number).as_slice(), &place.order.to_be_bytes()].concat()
}

impl Engine {
    /// All other endpoints of a conversation, in the group or out of it.
    pub(super) fn members(&self, ctx: &Ctx<'_, '_>, number: u64) -> Result<Vec<Member>, StoreError> {
        let rows = ctx.tx.scan_prefix::<MemberRecord>(Table::Members, &number.to_be_bytes())?;
        Ok(rows.into_iter().filter_map(|(key, record)| Some(Member { number: *key.get(8)?, record })).collect())
    }

    /// Which member it is that said something.
    pub(super) fn member_of(
        &self,
        ctx: &Ctx<'_, '_>,
        number: u64,
        sender: &Sender,
    ) -> Result<Option<Member>, StoreError> {
        let own_side = sender.role == self.own_role();
        let all = self.members(ctx, number)?;
        Ok(all.into_iter().find(|m| m.record.own_side == own_side && m.record.endpoint == sender.endpoint))
    }

    pub(super) fn save_member(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: &Member,
    ) -> Result<(), StoreError> {
        ctx.tx.put(Table::Members, &member_key(number, member.number), Scope::Peer(peer), &member.record)
    }

    /// A row for an endpoint that had none.
    pub(super) fn new_member(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        record: MemberRecord,
    ) -> Result<Member, StoreError> {
        let mut all = self.members(ctx, number)?;
        if all.len() >= KEPT
            && let Some(oldest) = all.iter().position(|m| m.record.out)
        {
            let gone = all.remove(oldest);
            Self::forget_member(ctx, number, &gone)?;
        }
        let free = (1..Number::MAX).find(|n| all.iter().all(|m| m.number != *n)).unwrap_or(Number::MAX);
        let member = Member { number: free, record };
        Self::save_member(ctx, number, peer, &member)?;
        Ok(member)
    }

    /// Removes everything that is kept for a member.
    pub(super) fn forget_member(ctx: &mut Ctx<'_, '_>, number: u64, member: &Member) -> Result<(), StoreError> {
        let prefix = member_key(number, member.number);
        for table in [Table::Members, Table::Permits, Table::PeerSpares, Table::Awaited, Table::Outbox] {
            for (key, _) in ctx.tx.scan_bytes_prefix(table, &prefix)? {
                ctx.tx.delete(table, &key);
            }
        }
        Ok(())
    }

    /// Makes the rows follow the group's roster: after a group was made or joined, and after a commit. Whoever came back is told what it has
    /// not confirmed; our own devices that the group lacks are added again.
    pub(super) fn sync_members(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let (role, peer) = (self.own_role(), record.peer);
        let roster = self.mls(ctx, number)?.members();
        let there: Vec<(bool, String)> =
            roster.into_iter().filter(|m| !m.own).map(|m| (m.who.role == role, m.who.endpoint)).collect();
        let mut known = self.members(ctx, number)?;
        let mut back = Vec::new();
        for member in &mut known {
            let out =
                !there.iter().any(|(own, name)| *own == member.record.own_side && *name == member.record.endpoint);
            if out == member.record.out {
                continue;
            }
            member.record.out = out;
            Self::save_member(ctx, number, peer, member)?;
            if !out {
                back.push(member.number);
            }
        }
        for (own_side, endpoint) in there {
            if !known.iter().any(|m| m.record.own_side == own_side && m.record.endpoint == endpoint) {
                self.new_member(ctx, number, peer, MemberRecord::new(own_side, endpoint))?;
            }
        }
        for member in back {
            self.say_awaited_to(ctx, number, peer, member, true)?;
        }
        if !self.changes(ctx, number)?.is_nothing() {
            self.wanted.commits.insert(number);
        }
        Ok(())
    }

    /// Notes that a message waits for each of several members' own confirmation.
    pub(super) fn await_members(
        ctx: &mut Ctx<'_, '_>,
        place: Place,
        peer: u64,
        members: &[Member],
    ) -> Result<(), StoreError> {
        members.iter().try_for_each(|member| Self::note_awaited(ctx, member.number, place, peer, Awaited::Pending))
    }

    /// Notes that a message waits for members that are out of the group: they get it when they come back.
    pub(super) fn await_out(
        ctx: &mut Ctx<'_, '_>,
        place: Place,
        peer: u64,
        members: &[Member],
    ) -> Result<(), StoreError> {
        for member in members.iter().filter(|m| !m.record.leaving) {
            let prefix = member_key(place.conversation, member.number);
            let until = after_prefix(&prefix);
            let kept = ctx.tx.scan_bytes(Table::Awaited, &prefix, until.as_deref(), Order::Ascending, KEPT_FOR_OUT)?;
            if kept.len() < KEPT_FOR_OUT {
                Self::note_awaited(ctx, member.number, place, peer, Awaited::Pending)?;
            }
        }
        Ok(())
    }

    pub(super) fn note_awaited(
        ctx: &mut Ctx<'_, '_>,
        member: Number,
        place: Place,
        peer: u64,
        how: Awaited,
    ) -> Result<(), StoreError> {
        ctx.tx.put(Table::Awaited, &awaited_key(member, place), Scope::Peer(peer), &how)
    }

    /// A message is in a member's lane. Where there is one member alone, its status says so, but for what that member has lost.
    pub(super) fn handed(
        ctx: &mut Ctx<'_, '_>,
        member: Number,
        place: Place,
        peer: u64,
        epoch: u64,
        several: bool,
    ) -> Result<(), StoreError> {
        let key = awaited_key(member, place);
        if several || ctx.tx.get_bytes(Table::Awaited, &key)?.is_some() {
            ctx.tx.put(Table::Awaited, &key, Scope::Peer(peer), &Awaited::Handed(epoch))?;
        }
        Ok(())
    }

    /// A member has a message.
    pub(super) fn confirmed(ctx: &mut Ctx<'_, '_>, member: Number, place: Place) {
        ctx.tx.delete(Table::Awaited, &awaited_key(member, place));
    }

    /// Orders of the messages that some member of the group has not confirmed. They are about to be said again to all, and to nobody alone
    /// before that.
    pub(super) fn take_awaited(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
    ) -> Result<BTreeSet<u64>, StoreError> {
        let mut orders = BTreeSet::new();
        for member in self.members(ctx, number)?.iter().filter(|m| m.is_in()) {
            for (key, how) in ctx.tx.scan_prefix::<Awaited>(Table::Awaited, &member_key(number, member.number))? {
                orders.extend(key.last_chunk::<8>().map(|order| u64::from_be_bytes(*order)));
                if how != Awaited::Queued {
                    ctx.tx.put(Table::Awaited, &key, Scope::Peer(peer), &Awaited::Queued)?;
                }
            }
        }
        Ok(orders)
    }

    /// What a member could not be sent, or, if it came `back`, whatever it has not confirmed, is said to it alone, before anything newer.
    pub(super) fn say_awaited_to(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: Number,
        back: bool,
    ) -> Result<(), StoreError> {
        let all = self.members(ctx, number)?;
        let Some(it) = all.iter().find(|m| m.number == member) else { return Ok(()) };
        if !back && self.choose(ctx, number, member, it.purpose(Purpose::Service))?.is_none() {
            return Ok(());
        }
        if !back && Self::waits_before(ctx, member, Place { conversation: number, order: u64::MAX })? {
            Self::take_unsealed(ctx, number, peer, member)?;
        }
        let mut rows = ctx.tx.scan_prefix::<Awaited>(Table::Awaited, &member_key(number, member))?;
        rows.retain(|(_, how)| *how == Awaited::Pending || back);
        let to_all = if rows.is_empty() { BTreeSet::new() } else { Self::said_to_all(ctx, number)? };
        for (key, _) in rows.into_iter().rev() {
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            let place = Place { conversation: number, order };
            if to_all.contains(&order) {
                // In its order, and not before what is older.
                Self::note_awaited(ctx, member, place, peer, Awaited::Queued)?;
                continue;
            }
            let stored = Self::message_record(ctx, place)?;
            if stored.content.0.is_empty() || stored.status == Status::Failed {
                Self::confirmed(ctx, member, place);
                continue;
            }
            Self::note_awaited(ctx, member, place, peer, Awaited::Queued)?;
            let message = OutboxRecord::message(place, purpose_of(&stored));
            self.enqueue_first(ctx, number, peer, &OutboxRecord { only: Some(member), ..message })?;
        }
        Ok(())
    }

    /// Orders of the messages that are about to be said to all.
    fn said_to_all(ctx: &Ctx<'_, '_>, number: u64) -> Result<BTreeSet<u64>, StoreError> {
        let all = ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &LaneId::intents(number).prefix())?;
        let to_all = all.into_iter().filter(|(_, entry)| entry.only.is_none() && entry.sealed.is_none());
        Ok(to_all.filter_map(|(_, entry)| entry.message.map(|place| place.order)).collect())
    }

    /// Whether something older than a message waits until a member can be written to again: it goes first.
    pub(super) fn waits_before(ctx: &Ctx<'_, '_>, member: Number, place: Place) -> Result<bool, StoreError> {
        let rows = ctx.tx.scan_prefix::<Awaited>(Table::Awaited, &member_key(place.conversation, member))?;
        let key = awaited_key(member, place);
        Ok(rows.iter().any(|(row, how)| *how == Awaited::Pending && *row < key))
    }

    /// Takes messages back out of a member's lane that are not sealed for it: something older comes first.
    fn take_unsealed(ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, member: Number) -> Result<(), StoreError> {
        let lane = LaneId { conversation: number, member };
        for (key, entry) in ctx.tx.scan_prefix::<OutboxRecord>(Table::Outbox, &lane.prefix())? {
            if let (Some(place), None) = (entry.message, &entry.sealed) {
                ctx.tx.delete(Table::Outbox, &key);
                Self::note_awaited(ctx, member, place, peer, Awaited::Pending)?;
            }
        }
        Ok(())
    }

    /// Endpoints came and went by a commit: ours are told of; everybody leaves the new ones permits and a spare.
    pub(super) fn membership_changed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        added: &[Sender],
        removed: &[Sender],
    ) -> Result<(), StoreError> {
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let mut record = self.conversation_record(ctx, number)?;
        self.note_under_way(ctx, number, record.peer)?;
        self.sync_members(ctx, number, &mut record)?;
        if !added.is_empty() {
            record.control_given = 0;
            let mut group = self.group(ctx, number)?;
            group.spare_ms = 0;
            self.save_group(ctx, number, record.peer, &group)?;
        }
        self.save_conversation(ctx, number, &record)?;
        if !added.is_empty() {
            self.owe_receipts(ctx, number, record.peer, &[], &[], super::messages::Wait::AtOnce)?;
        }
        let ours = |all: &[Sender]| -> Vec<String> {
            all.iter().filter(|s| s.role == self.own_role()).map(|s| s.endpoint.clone()).collect()
        };
        let (added, removed) = (ours(added), ours(removed));
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        ctx.emit(Event::Devices { conversation: ConversationId(number), added, removed })
    }

    /// Where there was one other member alone, messages on their way were not noted as such: they were sealed in the epoch that has ended, at
    /// the latest, and where there are several it may be left before they arrive.
    fn note_under_way(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64) -> Result<(), StoreError> {
        let ended = self.mls(ctx, number)?.epoch().saturating_sub(1);
        let before: Vec<Member> = self.members(ctx, number)?.into_iter().filter(Member::is_in).collect();
        let [alone] = &before[..] else { return Ok(()) };
        let prefix = number.to_be_bytes();
        let until = after_prefix(&prefix);
        let newest: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &prefix, until.as_deref(), Order::Descending, SAID_AGAIN)?;
        for (key, stored) in newest {
            let Some(order) = key.last_chunk::<8>().map(|k| u64::from_be_bytes(*k)) else { continue };
            let place = Place { conversation: number, order };
            let is_noted = ctx.tx.get_bytes(Table::Awaited, &awaited_key(alone.number, place))?.is_some();
            if is_ours(&stored) && stored.status == Status::Sent && !stored.deleted && !is_noted {
                Self::note_awaited(ctx, alone.number, place, peer, Awaited::Handed(ended))?;
            }
        }
        Ok(())
    }

    /// Those whom we have let in and those who were there have no permits of each other yet; we have all of them.
    pub(super) fn introduce(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.introduce_those(ctx, number, Member::is_in, false)
    }

    /// A business says to a customer's devices which of them their group lacks: it can let in nobody, they can. With its spare where that one has
    /// just left it.
    pub(super) fn introduce_left_out(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        with_spare: bool,
    ) -> Result<(), StoreError> {
        if broken(Rule::LeftOutIntroduced) {
            return Ok(());
        }
        self.introduce_those(ctx, number, |member| member.is_other_side() && member.is_left_out(), with_spare)
    }

    /// Says to the group how some of those who are known here can be written to, and with what they come in.
    fn introduce_those(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        are_meant: fn(&Member) -> bool,
        with_spare: bool,
    ) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        for member in self.members(ctx, number)?.into_iter().filter(are_meant) {
            let mut given = None;
            for purpose in [Purpose::Service, Purpose::Control, Purpose::Notifications, Purpose::Marketing] {
                if let Some((relay, permit)) = self.choose(ctx, number, member.number, purpose)? {
                    let permits = given.get_or_insert_with(|| PermitsExtension { relay, permits: Vec::new() });
                    permits.permits.push(permit);
                }
            }
            let Some(permits) = given else { continue };
            let role = match (self.own_role(), member.is_other_side()) {
                (Role::Business, false) | (Role::Customer, true) => Role::Business,
                _ => Role::Customer,
            };
            let nothing = Receipt { delivered: Vec::new(), read: Vec::new(), epoch: 0, authenticator: [0; 8] };
            let mut content = Content::new(ctx.tx.random(), Body::Receipt(nothing));
            let spare = if with_spare { self.spare_of(ctx, number, member.number)?.map(Vec::from) } else { None };
            content.extensions.introduced = Some(Introduced { role, endpoint: member.record.endpoint, permits, spare });
            let bytes = self.say(ctx, &mut record, &mut content)?;
            let notice = OutboxRecord::notice(bytes, Purpose::Control.to_wire(), None);
            self.enqueue(ctx, number, &mut record, &notice)?;
        }
        self.save_conversation(ctx, number, &record)
    }

    /// A new group has begun: what was said of each other in the one before may have been lost with it. The first device says it again; it
    /// has let in all others. A device of the customer that the group lacks, and that wrote to the business, is introduced by the business: the
    /// others may have no permits of it any more, nor it of them, and each would begin without the other.
    pub(super) fn introduce_all(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
    ) -> Result<(), StoreError> {
        if self.own_role() == Role::Business {
            return self.introduce_left_out(ctx, number, false);
        }
        if record.pseudonym.is_none() || self.members(ctx, number)?.iter().filter(|m| m.is_in()).count() < 2 {
            return Ok(());
        }
        self.introduce(ctx, number)
    }

    /// Permits of a third member: they count where we have none of its own. What waited for them goes before anything newer.
    pub(super) fn introduced(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        introduced: &Introduced,
    ) -> Result<(), StoreError> {
        let peer = record.peer;
        let own_side = introduced.role == self.own_role();
        let all = self.members(ctx, number)?;
        let known = all.iter().find(|m| m.record.own_side == own_side && m.record.endpoint == introduced.endpoint);
        let Some(member) = known.filter(|m| !m.record.leaving) else { return Ok(()) };
        for one in &introduced.permits.permits {
            if self.choose(ctx, number, member.number, one.purpose)?.is_none() {
                let one = std::slice::from_ref(one);
                self.take(ctx, number, peer, member.number, &introduced.permits.relay, one)?;
            }
        }
        if let Some(spare) = introduced.spare.as_ref().filter(|_| own_side && !member.is_in()) {
            self.take_spare(ctx, number, record, member, spare)?;
            if !self.changes(ctx, number)?.is_nothing() {
                self.wanted.commits.insert(number);
            }
        }
        self.say_awaited_to(ctx, number, peer, member.number, false)
    }

    /// Whether it is a device of ours that the group lacks.
    pub(super) fn lacks(&self, ctx: &Ctx<'_, '_>, number: u64, introduced: &Introduced) -> Result<bool, StoreError> {
        let is_it = |m: &Member| m.record.own_side && m.record.endpoint == introduced.endpoint && !m.is_in();
        Ok(introduced.role == self.own_role() && self.members(ctx, number)?.iter().any(is_it))
    }

    /// Removes everything that is kept for a device that was removed, but its name: whoever has not heard of it yet may begin a new group with
    /// it, and then it is removed again.
    pub(super) fn bury_member(
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        member: &Member,
    ) -> Result<(), StoreError> {
        Self::forget_member(ctx, number, member)?;
        let gone = MemberRecord { out: true, leaving: true, ..member.record.clone() };
        Self::save_member(ctx, number, peer, &Member { number: member.number, record: gone })
    }

    /// An endpoint that a commit has removed.
    pub(super) fn forget_removed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        gone: &Sender,
    ) -> Result<(), StoreError> {
        let Some(member) = self.member_of(ctx, number, gone)? else { return Ok(()) };
        self.lanes.remove(&LaneId { conversation: number, member: member.number });
        let peer = self.conversation_record(ctx, number)?.peer;
        Self::bury_member(ctx, number, peer, &member)
    }

    /// This device was removed: nothing is said any more, by it or to it.
    pub(super) fn removed_ourselves(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        self.ends_here(ctx, number, ConversationState::Removed)
    }

    /// The conversation goes on without this device. What it has stays, and so does what it wanted to say.
    pub(super) fn ends_here(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        state: ConversationState,
    ) -> Result<(), StoreError> {
        let mut record = self.conversation_record(ctx, number)?;
        record.state = state;
        record.hello = None;
        for member in self.members(ctx, number)? {
            Self::forget_member(ctx, number, &member)?;
        }
        for (key, _) in ctx.tx.scan_bytes_prefix(Table::Outbox, &number.to_be_bytes())? {
            ctx.tx.delete(Table::Outbox, &key);
        }
        self.lanes.retain(|lane, _| lane.conversation != number);
        self.wanted.commits.remove(&number);
        self.wanted.reads.remove(&number);
        self.to_reform.remove(&number);
        ctx.tx.delete(Table::Claims, &number.to_be_bytes());
        ctx.tx.delete(Table::Receipts, &number.to_be_bytes());
        let mut group = self.group(ctx, number)?;
        (group.broken, group.retry_ms, group.tries, group.unanswered) = (None, 0, 0, false);
        self.save_group(ctx, number, record.peer, &group)?;
        self.forget_mls(ctx, number)?;
        self.save_conversation(ctx, number, &record)?;
        self.tell_conversation(ctx, number)
    }

    pub(super) fn own_role(&self) -> Role {
        match self.role {
            super::RoleOptions::Business(_) => Role::Business,
            super::RoleOptions::Customer => Role::Customer,
        }
    }
}
