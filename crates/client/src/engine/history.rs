//! What was said before a device came: the business answers out of its store, in pages, and the device keeps them below what it has.
//!
//! A page carries contents and who said each; the ids are made here, of the contents. So what is here already is known again, whatever the order,
//! and nothing can be given under the id of something else. It causes no receipts and nothing unread. Whether it is all true, the business alone
//! knows: it is shown as what the business has kept.

use bulla_e2ee::certificate::Role;
use bulla_e2ee::content::{Body, Content, HistoryItem, HistoryPage, HistoryReaction, HistoryRequest, MessageId};
use bulla_e2ee::limits;
use bulla_e2ee::tag::Purpose;
use minicbor::bytes::ByteVec;

use super::commands::CommandError;
use super::messages::{conversation_view, message_key};
use super::record::{ConversationRecord, MessageRecord, OutboxRecord, PastRecord, Place, SecretVec};
use super::{Ctx, Engine, RoleOptions};
use crate::event::{ConversationId, ConversationState, Direction, Event, Past, Status};
use crate::store::vault::Scope;
use crate::store::{Order, StoreError, Table};

/// Orders that are left free for what comes from before: more than anybody writes in a life.
const ROOM: u64 = 1 << 32;

/// A page that has not come after this long may be lost, and can be asked for again.
const LOST_MS: u64 = 20_000;

/// A request or a page that could not leave in this time is worth nothing: it is asked for again.
const KEPT_MS: u64 = 120_000;

/// Pages without anything new, one after the other, that a business can give before nothing more is asked.
const EMPTY_PAGES: u8 = 8;

/// Stored rows that a business looks through for one page. Most are messages; reactions and edits are rows too.
const LOOKED_THROUGH: usize = 1_000;

/// Pages that a business gives in one conversation in a minute: more than a person reads while scrolling.
const PAGES_A_MINUTE: u32 = 30;
const MINUTE_MS: u64 = 60_000;

/// How much of what was said before is here, as programs see it.
pub(super) fn past_of(past: &PastRecord) -> Past {
    match past {
        PastRecord { sought: true, .. } => Past::Sought,
        PastRecord { done: true, .. } => Past::All,
        PastRecord { asked: Some(_), .. } => Past::Asked,
        _ => Past::More,
    }
}

/// What became of an item of a page.
enum Kept {
    New,
    /// It is here, above what is being filled.
    Known,
    /// It is here, below what is being filled.
    Met,
    /// It is no message, or there is no room.
    Dropped,
}

impl Engine {
    /// What this device says from now on leaves room for what it does not have.
    pub(super) fn leave_room(&self, record: &mut ConversationRecord) {
        let below = match &record.past {
            Some(past) => past.done,
            None => record.next_order > 1,
        };
        record.next_order = (record.next_order / ROOM + 1).saturating_mul(ROOM);
        record.read_through = record.next_order - 1;
        record.unread = 0;
        record.past = Some(PastRecord { below, ..PastRecord::below(record.next_order) });
    }

    /// Asks for older messages than are here, if there may be some.
    pub fn older(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId) -> Result<Option<Past>, CommandError> {
        let mut record = self.known(ctx, of)?;
        let Some(past) = &record.past else { return Ok(None) };
        let waits = past.asked.is_some() && ctx.tx.now_ms() < past.asked_ms.saturating_add(LOST_MS);
        if past.sought || past.done || waits || record.state != ConversationState::Open {
            return Ok(Some(past_of(past)));
        }
        self.ask_history(ctx, of.0, &mut record)?;
        self.save_conversation(ctx, of.0, &record)?;
        self.tell_conversation(ctx, of.0)?;
        self.pump(ctx, of.0)?;
        Ok(record.past.as_ref().map(past_of))
    }

    pub(super) fn ask_history(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let (id, now) = (u64::from_be_bytes(ctx.tx.random()), ctx.tx.now_ms());
        let Some(past) = &mut record.past else { return Ok(()) };
        (past.asked, past.asked_ms) = (Some(id), now);
        let most = limits::HISTORY_ITEMS as u64;
        let body = Body::HistoryRequest(HistoryRequest { id, from: past.next.to_vec(), most });
        self.say_history(ctx, number, record, body)
    }

    /// Under `control`: who does not know this content ignores it there.
    fn say_history(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        body: Body,
    ) -> Result<(), StoreError> {
        let mut content = Content::new(ctx.tx.random(), body);
        let bytes = self.say(ctx, record, &mut content)?;
        let until_ms = Some(ctx.tx.now_ms() + KEPT_MS);
        self.enqueue(ctx, number, record, &OutboxRecord::notice(bytes, Purpose::Control.to_wire(), until_ms))
    }

    /// A page came. Only the one that was asked for counts.
    pub(super) fn history_came(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        page: &HistoryPage,
    ) -> Result<(), StoreError> {
        let Some(mut past) = record.past.clone().filter(|past| past.asked == Some(page.id)) else {
            tracing::debug!(conversation = number, "a page of history that nobody has asked for");
            return Ok(());
        };
        past.asked = None;
        let (mut added, mut met) = (0, false);
        for item in &page.items {
            match self.keep_item(ctx, number, record, &mut past, item)? {
                Kept::New => added += 1,
                Kept::Known | Kept::Dropped => {}
                Kept::Met if past.below => {
                    met = true;
                    break;
                }
                // What is here goes not as far back as the business's: on below it.
                Kept::Met => past.floor = Self::oldest(ctx, number)?.unwrap_or(past.floor),
            }
        }
        past.empty = if added == 0 { past.empty.saturating_add(1) } else { 0 };
        past.done = met || page.next.is_empty() || past.empty >= EMPTY_PAGES;
        past.next = ByteVec::from(page.next.clone());
        let goes_on = !past.done && added == 0;
        record.past = Some(past);
        if goes_on {
            self.ask_history(ctx, number, record)?;
        }
        self.save_conversation(ctx, number, record)?;
        if added > 0 {
            ctx.emit(Event::History { conversation: ConversationId(number), added })?;
        }
        ctx.emit(Event::Conversation(conversation_view(number, record)?))
    }

    fn oldest(ctx: &Ctx<'_, '_>, number: u64) -> Result<Option<u64>, StoreError> {
        let from = message_key(Place { conversation: number, order: 0 });
        let until = message_key(Place { conversation: number, order: u64::MAX });
        let first = ctx.tx.scan_bytes(Table::Messages, &from, Some(&until), Order::Ascending, 1)?;
        Ok(first.first().and_then(|(key, _)| key.last_chunk::<8>()).map(|k| u64::from_be_bytes(*k)))
    }

    fn keep_item(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        past: &mut PastRecord,
        item: &HistoryItem,
    ) -> Result<Kept, StoreError> {
        let Some(content) = Content::decode(&item.content).ok().filter(Content::stands_alone) else {
            return Ok(Kept::Dropped);
        };
        let direction = self.direction_of(item.by);
        let id = Self::id_of(record, direction, &content, &item.content)?;
        if let Some(place) = Self::place_of(ctx, None, &id)? {
            let is_below = place.conversation == number && place.order < past.floor;
            return Ok(if is_below { Kept::Met } else { Kept::Known });
        }
        let mut kept = self.kept(ctx, direction, id, &content, item);
        if past.floor <= 1 + item.reactions.len() as u64 {
            return Ok(Kept::Dropped);
        }
        for reaction in &item.reactions {
            self.keep_reaction(ctx, number, record, past, &mut kept, reaction)?;
        }
        self.put_below(ctx, number, record.peer, past, &kept)?;
        Ok(Kept::New)
    }

    /// A reaction that stands on a message: a message of its own, above the one that it is about.
    fn keep_reaction(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &ConversationRecord,
        past: &mut PastRecord,
        on: &mut MessageRecord,
        reaction: &HistoryReaction,
    ) -> Result<(), StoreError> {
        let Ok(content) = Content::decode(&reaction.content) else { return Ok(()) };
        let (Body::Reaction { emoji }, true) =
            (&content.body, content.in_reply_to.map(|id| *id.as_bytes()) == Some(*on.id))
        else {
            return Ok(());
        };
        let direction = self.direction_of(reaction.by);
        if on.reactions.iter().any(|(whose, _, _)| *whose == direction) {
            return Ok(());
        }
        let id = Self::id_of(record, direction, &content, &reaction.content)?;
        on.reactions.push((direction, emoji.clone(), (*id.as_bytes()).into()));
        if Self::place_of(ctx, None, &id)?.is_some() {
            return Ok(());
        }
        let item = HistoryItem {
            by: reaction.by,
            content: reaction.content.clone(),
            at_ms: on.stored_ms,
            read: true,
            edited: None,
            reactions: Vec::new(),
        };
        let kept = self.kept(ctx, direction, id, &content, &item);
        self.put_below(ctx, number, record.peer, past, &kept)
    }

    /// A message as it is kept: read, as far as it is the business's, since the person had it before.
    fn kept(
        &self,
        ctx: &Ctx<'_, '_>,
        direction: Direction,
        id: MessageId,
        content: &Content,
        item: &HistoryItem,
    ) -> MessageRecord {
        let now = ctx.tx.now_ms();
        let is_text = matches!(content.body, Body::Text { .. });
        MessageRecord {
            id: (*id.as_bytes()).into(),
            direction,
            content: SecretVec(item.content.clone()),
            sent_ms: content.extensions.sent_ms.unwrap_or(item.at_ms).min(now),
            stored_ms: item.at_ms.min(now),
            status: if direction == Direction::Incoming || item.read { Status::Read } else { Status::Delivered },
            failure: None,
            edited: item.edited.clone().filter(|_| is_text),
            deleted: false,
            reactions: Vec::new(),
            breach: false,
            withdraws_from: None,
            by: None,
            purpose: None,
            inline: false,
        }
    }

    fn put_below(
        &self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        peer: u64,
        past: &mut PastRecord,
        kept: &MessageRecord,
    ) -> Result<(), StoreError> {
        past.floor -= 1;
        let place = Place { conversation: number, order: past.floor };
        Self::save_message(ctx, place, peer, kept)?;
        Self::save_content(ctx, place, peer, &kept.content.0);
        ctx.tx.put(Table::MessageIds, &*kept.id, Scope::Peer(peer), &place)
    }

    fn direction_of(&self, by: Role) -> Direction {
        if by == self.own_role() { Direction::Outgoing } else { Direction::Incoming }
    }

    /// A device of the customer's asks for what was said in this conversation.
    pub(super) fn history_asked(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        number: u64,
        record: &mut ConversationRecord,
        request: &HistoryRequest,
    ) -> Result<(), StoreError> {
        if !self.may_give_page(number, ctx.tx.now_ms()) {
            tracing::debug!(conversation = number, "more pages of history than a person reads: not answered");
            return Ok(());
        }
        let before = match <[u8; 8]>::try_from(request.from.as_slice()) {
            Ok(order) => u64::from_be_bytes(order),
            Err(_) if request.from.is_empty() => u64::MAX,
            Err(_) => return Ok(()),
        };
        let from = message_key(Place { conversation: number, order: 0 });
        let until = message_key(Place { conversation: number, order: before });
        let rows: Vec<(Vec<u8>, MessageRecord)> =
            ctx.tx.scan(Table::Messages, &from, Some(&until), Order::Descending, LOOKED_THROUGH)?;
        let most = usize::try_from(request.most).unwrap_or(usize::MAX).clamp(1, limits::HISTORY_ITEMS);
        let (mut page, mut bytes) = (HistoryPage { id: request.id, ..HistoryPage::default() }, 0);
        let mut all = rows.len() < LOOKED_THROUGH;
        for (key, stored) in rows {
            let item = self.item(ctx, &key, stored)?.filter(|item| item.size() <= limits::HISTORY_BYTES);
            let size = item.as_ref().map_or(0, HistoryItem::size);
            if item.is_some() && (page.items.len() == most || bytes + size > limits::HISTORY_BYTES) {
                all = false;
                break;
            }
            bytes += size;
            page.items.extend(item);
            page.next = key.last_chunk::<8>().map_or_else(Vec::new, |order| order.to_vec());
        }
        if all {
            page.next.clear();
        }
        self.say_history(ctx, number, record, Body::HistoryPage(page))?;
        self.save_conversation(ctx, number, record)
    }

    /// A stored message as its page has it: what the customer has had, and neither side has taken back.
    fn item(&self, ctx: &Ctx<'_, '_>, key: &[u8], stored: MessageRecord) -> Result<Option<HistoryItem>, StoreError> {
        let arrived = match stored.direction {
            Direction::Outgoing => matches!(stored.status, Status::Delivered | Status::Read),
            Direction::Incoming => true,
        };
        if !arrived || stored.deleted || stored.withdraws_from.is_some() {
            return Ok(None);
        }
        let stored = Self::with_content(ctx, key, stored)?;
        if !Content::decode(&stored.content.0).is_ok_and(|content| content.stands_alone()) {
            return Ok(None);
        }
        let mut reactions = Vec::new();
        for (_, _, id) in stored.reactions.iter().take(limits::HISTORY_REACTIONS) {
            let Some(place) = Self::place_of(ctx, None, &MessageId::new(**id))? else { continue };
            let reaction = Self::message_record(ctx, place)?;
            let by = self.role_of(reaction.direction);
            reactions.push(HistoryReaction { by, content: reaction.content.0.clone() });
        }
        Ok(Some(HistoryItem {
            by: self.role_of(stored.direction),
            content: stored.content.0.clone(),
            at_ms: stored.stored_ms,
            read: stored.status == Status::Read,
            edited: stored.edited.clone(),
            reactions,
        }))
    }

    fn role_of(&self, direction: Direction) -> Role {
        match (direction, &self.role) {
            (Direction::Outgoing, RoleOptions::Business(_)) | (Direction::Incoming, RoleOptions::Customer) => {
                Role::Business
            }
            _ => Role::Customer,
        }
    }

    fn may_give_page(&mut self, number: u64, now: u64) -> bool {
        self.paged.retain(|_, (since, _)| now < since.saturating_add(MINUTE_MS));
        let (_, given) = self.paged.entry(number).or_insert((now, 0));
        *given += 1;
        *given <= PAGES_A_MINUTE
    }
}
