//! Messages: storing, showing, edits, deletions, reactions, statuses and receipts.

use bulla_e2ee::content::{Body, Content, MessageId, Receipt, RoomUri, SenderUri};
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::sabotage::{Rule, broken};
use bulla_e2ee::tag::Purpose;

use super::lanes::LaneId;
use super::members::Member;
use super::permits::Carrier;
use super::record::{ConversationRecord, MessageRecord, OutboxRecord, Place, ReceiptsRecord, SecretVec};
use super::uploads::forget_attached;
use super::{Ctx, Engine, Timer, damaged};
use crate::event::{ConversationId, ConversationState, Decision, Direction, Event, Failure, Message, Shown, Status};
use crate::media::FileCard;
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// A message without a receipt for this long has failed: the relay keeps envelopes for 30 days, plus a day.
const NO_RECEIPT_MS: u64 = (30 * 24 + 24) * 3_600_000;

/// Receipts are gathered for this long.
const RECEIPTS_MS: u64 = 1_000;

/// Ids per receipt: what a `control` permit's envelope holds with room to spare.
const RECEIPT_IDS: usize = 128;

/// Late messages looked for in one sweep.
const SWEEP_ROWS: usize = 1_000;

pub(super) fn message_key(place: Place) -> Vec<u8> {
    [place.conversation.to_be_bytes(), place.order.to_be_bytes()].concat()
}

fn deadline_key(stored_ms: u64, id: &[u8; 32]) -> Vec<u8> {
    [stored_ms.saturating_add(NO_RECEIPT_MS).to_be_bytes().as_slice(), id].concat()
}

/// A message about to be stored.
pub(super) struct NewMessage<'a> {
    pub(super) id: MessageId,
    pub(super) direction: Direction,
    pub(super) bytes: &'a [u8],
    pub(super) content: &'a Content,
    pub(super) breach: bool,
    /// Another device of ours said it: its name.
    pub(super) by: Option<&'a str>,
    /// Under which it goes, or came.
    pub(super) purpose: Purpose,
}

/// The purpose under which a message of ours goes, also when it is said again.
pub(super) fn purpose_of(stored: &MessageRecord) -> u8 {
    stored.purpose.unwrap_or(Purpose::Service.to_wire())
}

impl Engine {
    /// The id that a content has in a conversation.
    pub(super) fn id_of(
        record: &ConversationRecord,
        direction: Direction,
        content: &Content,
        bytes: &[u8],
    ) -> Result<MessageId, StoreError> {
        let business = IdentityHash::new(*record.business);
        let user: UserId = record.user_id.parse().map_err(|_| damaged(Table::Conversations))?;
        let we_are_customer = record.is_customer();
        let by_customer = (direction == Direction::Outgoing) == we_are_customer;
        let sender = if by_customer { SenderUri::customer(&user) } else { SenderUri::business(&business) };
        Ok(MessageId::of(&sender, &RoomUri::new(&business, &user), bytes, &content.salt))
    }

    /// Where a message is, if it belongs to this conversation.
    pub(super) fn place_of(
        ctx: &Ctx<'_, '_>,
        number: Option<u64>,
        id: &MessageId,
    ) -> Result<Option<Place>, StoreError> {
        let place = ctx.tx.get::<Place>(Table::MessageIds, id.as_bytes())?;
        Ok(place.filter(|p| number.is_none_or(|n| p.conversation == n)))
    }

    pub(super) fn message_record(ctx: &Ctx<'_, '_>, place: Place) -> Result<MessageRecord, StoreError> {
        let key = message_key(place);
        let stored = ctx.tx.get(Table::Messages, &key)?.ok_or(damaged(Table::Messages))?;
        Self::with_content(ctx, &key, stored)
    }

    /// A message as it is in `Messages`, with what it says.
    pub(super) fn with_content(
        ctx: &Ctx<'_, '_>,
        key: &[u8],
        mut stored: MessageRecord,
    ) -> Result<MessageRecord, StoreError> {
        stored.inline = !stored.content.0.is_empty();
        if !stored.inline
            && let Some(content) = ctx.tx.get_bytes(Table::Contents, key)?
        {
            stored.content = SecretVec(content.to_vec());
        }
        Ok(stored)
    }

    /// Stores all of a message but what it says.
    pub(super) fn save_message(
        ctx: &mut Ctx<'_, '_>,
        place: Place,
        peer: u64,
        record: &MessageRecord,
    ) -> Result<(), StoreError> {
        let mut record = record.clone();
        if !record.inline {
            record.content = SecretVec(Vec::new());
        }
        ctx.tx.put(Table::Messages, &message_key(place), Scope::Peer(peer), &record)
    }

    /// Stores what a message says.
    pub(super) fn save_content(ctx: &mut Ctx<'_, '_>, place: Place, peer: u64, bytes: &[u8]) {
        ctx.tx.put_bytes(Table::Contents, &message_key(place), Scope::Peer(peer), bytes.to_vec().into());
    }

    /// What was to be said was taken back before it left: nothing is expected of it any more.
    pub(super) fn taken_back_in_time(ctx: &mut Ctx<'_, '_>, stored: &MessageRecord) {
        ctx.tx.delete(Table::Deadlines, &deadline_key(stored.stored_ms, &stored.id));
    }

    /// Stores a message with its duplicate record, tells it, and applies what it does to another.
    pub(super) fn store_message(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        new: &NewMessage<'_>,
    ) -> Result<Place, StoreError> {
        let place = Place { conversation: number, order: record.next_order };
        record.next_order += 1;
        let now = ctx.tx.now_ms();
        let outgoing = new.direction == Direction::Outgoing;
        let withdraws_from = Self::reaction_target(ctx, number, new)?.map(|id| (*id.as_bytes()).into());
        let stored = MessageRecord {
            id: (*new.id.as_bytes()).into(),
            direction: new.direction,
            content: SecretVec(new.bytes.to_vec()),
            sent_ms: new.content.extensions.sent_ms.unwrap_or(now),
            stored_ms: now,
            status: match (new.direction, new.by) {
                (Direction::Incoming, _) => Status::Received,
                (Direction::Outgoing, None) => Status::Queued,
                (Direction::Outgoing, Some(_)) => Status::Sent,
            },
            failure: None,
            edited: None,
            deleted: false,
            reactions: Vec::new(),
            breach: new.breach,
            withdraws_from,
            by: new.by.map(str::to_owned),
            purpose: (outgoing && new.purpose != Purpose::Service).then(|| new.purpose.to_wire()),
            inline: false,
        };
        Self::save_message(ctx, place, record.peer, &stored)?;
        Self::save_content(ctx, place, record.peer, new.bytes);
        if outgoing || !broken(Rule::DuplicateKnown) {
            ctx.tx.put(Table::MessageIds, new.id.as_bytes(), Scope::Peer(record.peer), &place)?;
        }
        if outgoing {
            record.last_said_ms = now;
            ctx.tx.put(Table::Deadlines, &deadline_key(now, new.id.as_bytes()), Scope::Peer(record.peer), &place)?;
        } else {
            record.last_heard_ms = now;
            record.unread += 1;
        }
        self.save_conversation(ctx, number, record)?;
        ctx.emit(Event::Message(view(place, &stored)))?;
        self.apply(ctx, number, record.peer, new)?;
        Ok(place)
    }

    /// The message from which a deletion takes back a reaction.
    fn reaction_target(ctx: &Ctx<'_, '_>, number: u64, new: &NewMessage<'_>) -> Result<Option<MessageId>, StoreError> {
        let (Body::Deleted, Some(reaction)) = (&new.content.body, new.content.replaces) else { return Ok(None) };
        let Some(place) = Self::place_of(ctx, Some(number), &reaction)? else { return Ok(None) };
        let stored = Self::message_record(ctx, place)?;
        let content = Content::decode(&stored.content.0).ok().filter(|_| stored.direction == new.direction);
        Ok(content.and_then(|c| match c.body {
            Body::Reaction { .. } => c.in_reply_to,
            _ => None,
        }))
    }

    /// What a message does to an earlier one. Only its author may edit or delete it.
    fn apply(&mut self, ctx: &mut Ctx<'_, '_>, number: u64, peer: u64, new: &NewMessage<'_>) -> Result<(), StoreError> {
        let target = match &new.content.body {
            Body::Reaction { .. } => new.content.in_reply_to,
            _ => new.content.replaces,
        };
        let Some(target) = target else { return Ok(()) };
        let Some(mut place) = Self::place_of(ctx, Some(number), &target)? else { return Ok(()) };
        let mut stored = Self::message_record(ctx, place)?;
        let its_author = stored.direction == new.direction;
        match &new.content.body {
            Body::Reaction { emoji } => {
                stored.reactions.retain(|(whose, _, _)| *whose != new.direction);
                stored.reactions.push((new.direction, emoji.clone(), (*new.id.as_bytes()).into()));
            }
            Body::Text { body, .. } if its_author && !stored.deleted => stored.edited = Some(body.clone()),
            Body::Deleted if its_author => {
                // A reaction is taken back by deleting it: then it is the message under it that changes.
                let below = Self::reaction_target(ctx, number, new)?;
                stored.deleted = true;
                stored.edited = None;
                forget_attached(ctx.out, &stored.content.0);
                stored.content = SecretVec(Vec::new());
                ctx.tx.delete(Table::Contents, &message_key(place));
                // What is taken back stays what it was: a reaction, not a message that is gone.
                stored.withdraws_from = below.map(|id| (*id.as_bytes()).into()).or(stored.withdraws_from);
                Self::save_message(ctx, place, peer, &stored)?;
                if let Some(below) = below {
                    let Some(under) = Self::place_of(ctx, Some(number), &below)? else { return Ok(()) };
                    let reaction = stored.id;
                    place = under;
                    stored = Self::message_record(ctx, under)?;
                    stored.reactions.retain(|(_, _, id)| *id != reaction);
                }
            }
            _ => return Ok(()),
        }
        Self::save_message(ctx, place, peer, &stored)?;
        ctx.emit(Event::Changed(view(place, &stored)))
    }

    /// Moves an outgoing message's status on, telling each step once; never back.
    pub(super) fn progress(&mut self, ctx: &mut Ctx<'_, '_>, place: Place, to: Status) -> Result<(), StoreError> {
        let mut stored = Self::message_record(ctx, place)?;
        if stored.direction != Direction::Outgoing {
            return Ok(());
        }
        let peer = self.conversation_record(ctx, place.conversation)?.peer;
        let at_ms = ctx.tx.now_ms();
        for step in [Status::Sent, Status::Delivered, Status::Read] {
            // A message that was given up and arrives after all has arrived.
            let behind = stored.status < step || stored.status == Status::Failed;
            if step > to || !behind {
                continue;
            }
            stored.status = step;
            stored.failure = None;
            Self::save_message(ctx, place, peer, &stored)?;
            ctx.emit(Event::Status { message: view(place, &stored), at_ms })?;
        }
        if to >= Status::Delivered {
            ctx.tx.delete(Table::Deadlines, &deadline_key(stored.stored_ms, &stored.id));
        }
        Ok(())
    }

    pub(super) fn fail_message(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        place: Place,
        failure: Failure,
    ) -> Result<(), StoreError> {
        let mut stored = Self::message_record(ctx, place)?;
        if matches!(stored.status, Status::Delivered | Status::Read | Status::Failed) {
            return Ok(());
        }
        stored.status = Status::Failed;
        stored.failure = Some(failure);
        let peer = self.conversation_record(ctx, place.conversation)?.peer;
        Self::save_message(ctx, place, peer, &stored)?;
        ctx.tx.delete(Table::Deadlines, &deadline_key(stored.stored_ms, &stored.id));
        ctx.emit(Event::Status { message: view(place, &stored), at_ms: ctx.tx.now_ms() })
    }

    /// What had no receipt for too long has failed.
    pub(super) fn fail_unreceipted(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        let until = ctx.tx.now_ms().to_be_bytes();
        let late = ctx.tx.scan::<Place>(Table::Deadlines, &[], Some(&until), Order::Ascending, SWEEP_ROWS)?;
        for (key, place) in late {
            ctx.tx.delete(Table::Deadlines, &key);
            self.fail_message(ctx, place, Failure::NoReceipt)?;
        }
        Ok(())
    }

    /// Marks receipts as due.
    pub(super) fn owe_receipts(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        delivered: &[MessageId],
        read: &[MessageId],
        wait: Wait,
    ) -> Result<(), StoreError> {
        let key = number.to_be_bytes();
        let due = ctx.tx.now_ms() + if wait == Wait::Gather { RECEIPTS_MS } else { 0 };
        let mut receipts = ctx
            .tx
            .get::<ReceiptsRecord>(Table::Receipts, &key)?
            .unwrap_or(ReceiptsRecord { due_ms: due, ..ReceiptsRecord::default() });
        receipts.due_ms = receipts.due_ms.min(due);
        receipts.delivered.extend(delivered.iter().map(|id| minicbor::bytes::ByteArray::from(*id.as_bytes())));
        receipts.read.extend(read.iter().map(|id| minicbor::bytes::ByteArray::from(*id.as_bytes())));
        self.timers.insert((receipts.due_ms, Timer::Receipts(number)));
        self.lanes.entry(LaneId::intents(number)).or_default();
        ctx.tx.put(Table::Receipts, &key, Scope::Peer(peer), &receipts)
    }

    /// Turns receipts that are due into an outbox entry; `false` if there is nothing to do now.
    pub(super) fn receipts_to_outbox(&mut self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<bool, StoreError> {
        let key = number.to_be_bytes();
        let Some(mut receipts) = ctx.tx.get::<ReceiptsRecord>(Table::Receipts, &key)? else { return Ok(false) };
        if receipts.due_ms > ctx.tx.now_ms() {
            self.timers.insert((receipts.due_ms, Timer::Receipts(number)));
            return Ok(false);
        }
        let mut record = self.conversation_record(ctx, number)?;
        let take = |from: &mut Vec<super::record::Hash>| -> Vec<MessageId> {
            let rest = from.split_off(from.len().min(RECEIPT_IDS));
            std::mem::replace(from, rest).into_iter().map(|id| MessageId::new(*id)).collect()
        };
        let (delivered, read) = (take(&mut receipts.delivered), take(&mut receipts.read));
        if receipts.delivered.is_empty() && receipts.read.is_empty() {
            ctx.tx.delete(Table::Receipts, &key);
        } else {
            ctx.tx.put(Table::Receipts, &key, Scope::Peer(record.peer), &receipts)?;
        }
        let (epoch, authenticator) = if self.has_group(ctx, number)? { self.epoch(ctx, number)? } else { (0, [0; 8]) };
        let body = Body::Receipt(Receipt { delivered, read, epoch, authenticator });
        let mut content = Content::new(ctx.tx.random(), body);
        content.extensions.spare = self.spare_to_give(ctx, number, &mut record)?;
        content.extensions.permits = self.give(ctx, number, &mut record, Carrier::Receipt)?;
        if content.extensions.permits.is_some() {
            content.extensions.readers = self.own_readers();
        }
        // With each, so that a device that has come since knows it too.
        content.extensions.push_key = self.own_push_key();
        let bytes = self.say(ctx, &mut record, &mut content)?;
        let intent = OutboxRecord::notice(bytes, Purpose::Control.to_wire(), None);
        self.enqueue(ctx, number, &mut record, &intent)?;
        self.save_conversation(ctx, number, &record)?;
        Ok(true)
    }

    /// Stamps a content as our next and encodes it.
    pub(super) fn say(
        &self,
        ctx: &Ctx<'_, '_>,
        record: &mut ConversationRecord,
        content: &mut Content,
    ) -> Result<Vec<u8>, StoreError> {
        record.counter += 1;
        content.extensions.counter = Some(record.counter);
        content.extensions.sent_ms = Some(ctx.tx.now_ms());
        if content.extensions.permits.is_some() && record.is_customer() {
            // For another device of ours that has just come in.
            content.extensions.decisions = record
                .consents
                .iter()
                .flatten()
                .filter_map(|of| Some((Purpose::from_wire(u64::from(of.purpose))?, of.given, of.at_ms)))
                .collect();
        }
        // Drafts are checked before they come here; what fails now is our own mistake.
        content.encode().map_err(|_| damaged(Table::Outbox))
    }

    /// Whether the other side's epoch is another one than ours of the same number.
    pub(super) fn is_fork(&mut self, ctx: &Ctx<'_, '_>, number: u64, receipt: &Receipt) -> Result<bool, StoreError> {
        if receipt.epoch == 0 || broken(Rule::ForkNoticed) || !self.has_group(ctx, number)? {
            return Ok(false);
        }
        let ours = self.mls(ctx, number)?.authenticator(receipt.epoch);
        Ok(ours.is_some_and(|ours| ours != receipt.authenticator))
    }

    /// Receipts of a member. A device of our own says what it has; what the person read on it is read here too.
    pub(super) fn heard_receipt(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        member: &Member,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        let mut read_there = None;
        let delivered = receipt.delivered.iter().map(|id| (id, Status::Delivered));
        for (id, status) in delivered.chain(receipt.read.iter().map(|id| (id, Status::Read))) {
            let Some(place) = Self::place_of(ctx, Some(number), id)? else { continue };
            Self::confirmed(ctx, member.number, place);
            if member.is_other_side() {
                self.progress(ctx, place, status)?;
            } else if status == Status::Read {
                read_there = read_there.max(Some(place));
            }
        }
        match read_there {
            Some(place) => self.note_read(ctx, place).map(drop),
            None => Ok(()),
        }
    }

    /// Marks incoming messages up to and including `place` as read and owes the receipts.
    pub(super) fn read_through(&mut self, ctx: &mut Ctx<'_, '_>, place: Place) -> Result<(), StoreError> {
        let read = self.note_read(ctx, place)?;
        let ConversationRecord { peer, state, .. } = self.conversation_record(ctx, place.conversation)?;
        if read.is_empty() || state.is_over() {
            return Ok(());
        }
        self.owe_receipts(ctx, place.conversation, peer, &[], &read, Wait::Gather)?;
        self.pump(ctx, place.conversation)
    }

    /// Marks incoming messages up to and including `place` as read, and says which were not.
    fn note_read(&mut self, ctx: &mut Ctx<'_, '_>, place: Place) -> Result<Vec<MessageId>, StoreError> {
        let mut record = self.conversation_record(ctx, place.conversation)?;
        let mut read = Vec::new();
        if place.order <= record.read_through {
            return Ok(read);
        }
        // Not every order between has a message: those of a device that came back have gaps.
        let from = message_key(Place { order: record.read_through + 1, ..place });
        let until = message_key(Place { order: place.order.saturating_add(1), ..place });
        let rows: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &from, Some(&until), Order::Ascending, usize::MAX / 2)?;
        for (key, stored) in rows {
            let order = key.last_chunk::<8>().map_or(0, |k| u64::from_be_bytes(*k));
            if stored.status == Status::Received {
                let mut stored = Self::with_content(ctx, &key, stored)?;
                stored.status = Status::Read;
                Self::save_message(ctx, Place { order, ..place }, record.peer, &stored)?;
                read.push(MessageId::new(*stored.id));
            }
        }
        if read.is_empty() {
            return Ok(read);
        }
        record.read_through = place.order;
        record.unread = record.unread.saturating_sub(read.len() as u64);
        self.save_conversation(ctx, place.conversation, &record)?;
        ctx.emit(Event::Conversation(conversation_view(place.conversation, &record)?))?;
        Ok(read)
    }
}

/// Whether receipts are gathered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Gather,
    AtOnce,
}

/// A message as programs see it.
pub(super) fn view(place: Place, stored: &MessageRecord) -> Message {
    let content = Content::decode(&stored.content.0).ok();
    let (mut reply_to, mut replaces, mut reference, mut identity) = (None, None, None, None);
    let shown = match (stored.deleted, stored.withdraws_from, content) {
        (_, Some(from), _) => {
            reply_to = Some(MessageId::new(*from));
            Shown::Reaction(None)
        }
        (true, None, _) => Shown::Deleted,
        (false, None, None) => Shown::Unreadable,
        (false, None, Some(content)) => {
            (reply_to, replaces) = (content.in_reply_to, content.replaces);
            reference = content.extensions.reference;
            identity = content.extensions.identity;
            match content.body {
                Body::Text { body, .. } if replaces.is_some() => Shown::Edit(body),
                Body::Text { body, .. } => Shown::Text(stored.edited.clone().unwrap_or(body)),
                Body::Attachment(attachment) => Shown::File(Box::new(FileCard::from(&*attachment))),
                Body::Interactive(mut interactive) => {
                    let file = interactive.file.take().map(|file| Box::new(FileCard::from(&file)));
                    Shown::Interactive(interactive, file)
                }
                Body::Answer(answer) => Shown::Answer(answer),
                Body::Location(location) => Shown::Location(location),
                Body::Contacts(persons) => Shown::Contacts(persons),
                Body::Reaction { emoji } => Shown::Reaction(Some(emoji)),
                Body::Deleted => Shown::Deleted,
                Body::Unsupported { content_type, .. } => Shown::Unsupported(content_type),
                _ => Shown::Unsupported(String::new()),
            }
        }
    };
    Message {
        conversation: ConversationId(place.conversation),
        order: place.order,
        id: MessageId::new(*stored.id),
        direction: stored.direction,
        shown,
        reply_to,
        replaces,
        sent_ms: stored.sent_ms,
        stored_ms: stored.stored_ms,
        status: stored.status,
        failure: stored.failure,
        edited: stored.edited.is_some(),
        deleted: stored.deleted,
        reactions: stored.reactions.iter().map(|(whose, emoji, _)| (*whose, emoji.clone())).collect(),
        reference,
        identity,
        breach: stored.breach,
        by: stored.by.clone(),
    }
}

/// A conversation as programs see it.
pub(super) fn conversation_view(
    number: u64,
    record: &ConversationRecord,
) -> Result<crate::event::Conversation, StoreError> {
    Ok(crate::event::Conversation {
        id: ConversationId(number),
        user_id: record.user_id.parse().map_err(|_| damaged(Table::Conversations))?,
        peer_name: record.peer_name.clone(),
        handle: record.handle.clone(),
        readers: record.readers.clone(),
        last_heard_ms: record.last_heard_ms,
        state: match (record.state, record.outdated) {
            (ConversationState::New, Some(true)) => ConversationState::Outdated,
            (state, _) => state,
        },
        unread: record.unread,
        past: record.past.as_ref().map(super::history::past_of),
        push_key: record.push_key.as_ref().map(|key| key.to_vec()),
        consents: record
            .consents
            .iter()
            .flatten()
            .filter_map(|of| {
                let purpose = Purpose::from_wire(u64::from(of.purpose))?;
                Some(Decision { purpose, given: of.given, at_ms: of.at_ms })
            })
            .collect(),
    })
}
