//! What programs ask for. Each is validated before it changes anything, runs inside one transaction, and is answered once that is durable.

use bulla_e2ee::content::{Body, Category, Content, MessageId, PushSubscription};
use bulla_e2ee::identity::{IdentityHash, UserId};
use bulla_e2ee::limits as content_limits;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::id::MailboxId;

use super::messages::{NewMessage, conversation_view, message_key, view};
use super::permits::Carrier;
use super::record::{ConversationRecord, MessageRecord, OutboxRecord, Place};
use super::{Ctx, Engine, LinkKey, RoleOptions, damaged};
use crate::event::{BusinessCard, Conversation, ConversationId, ConversationState, Direction, Draft, Event, Message};
use crate::store::{Order, StoreError, Table};

/// Characters of a text, as the Cloud API has it.
pub const MAX_TEXT: usize = 4_096;

/// How long a typing notice is worth sending.
const TYPING_MS: u64 = 10_000;

/// Why a request was not carried out. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Another copy of this endpoint's data is in use.
    #[error(
        "another copy of this data folder is in use, and it holds the mailbox; this one has stopped sending. Stop the other copy and start this one again"
    )]
    Superseded,
    /// No such conversation here.
    #[error("there is no such conversation")]
    UnknownConversation,
    /// No such message here.
    #[error("there is no such message")]
    UnknownMessage,
    /// Only a message's author may edit or delete it.
    #[error("only its author can change a message")]
    NotYours,
    /// What was chosen is not among what that message offers, or not filled in as it asks.
    #[error("that message does not offer this, or the form is not filled in as it asks")]
    NotOffered,
    /// Something in it is longer than it may be, or more than there may be.
    #[error("something in this message is too long, empty, or more than there may be")]
    NotFitting,
    /// The draft has nothing in it.
    #[error("the message is empty")]
    Empty,
    /// The draft is too long.
    #[error("the message is longer than {limit} characters")]
    TooLong {
        /// Characters allowed.
        limit: usize,
    },
    /// Larger than a file may be.
    #[error("the file is larger than {mib} MiB")]
    TooLarge {
        /// MiB allowed.
        mib: u64,
    },
    /// As many files as can wait.
    #[error("so many files wait to be uploaded that no more can: let some arrive, or cancel them")]
    TooManyUploads,
    /// Not something to react with.
    #[error("a reaction is one emoji")]
    NotEmoji,
    /// Not the form of a JWT.
    #[error("that is not a token: a JWT has only letters, digits, dots, - and _")]
    NotToken,
    /// The other side took the message back, or it could not be read.
    #[error("that message is not there any more")]
    Gone,
    /// The conversation is not settled yet.
    #[error("the business has not answered yet; try again when it has")]
    NotReady,
    /// This device was removed by another device of the same customer.
    #[error("this device was removed from the conversation by another of your devices")]
    Removed,
    /// The customer has come back on another device.
    #[error("this conversation goes on on another device, where your recovery code was entered")]
    Moved,
    /// A conversation that began with an earlier version, or on a linked device.
    #[error(
        "this conversation has no recovery code: it began with an earlier version of this program, or this device was invited by another one"
    )]
    NoCode,
    /// A code is for where there is nothing yet.
    #[error("this device has a conversation with that business already")]
    AlreadyHere,
    /// No such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// As many devices as a conversation can have, invited ones among them.
    #[error("a conversation cannot have more devices; remove one, or let open invitations pass (a day)")]
    TooManyDevices,
    /// Not an invitation of a device, or not one that can be used here.
    #[error("this invitation cannot be used: {0}")]
    Invitation(String),
    /// Only customers can do this, or only businesses.
    #[error("this endpoint cannot do that")]
    WrongRole,
    /// The bundle behind a link is not what the link says.
    #[error(
        "this link does not lead to the business that it names: {0}. Nothing was sent. Get the link again from the business itself"
    )]
    Bundle(String),
    /// The business's program and this one have no cipher suite, or no version, in common.
    #[error(
        "this program and the one that it should talk to have no cipher suite in common. One of them is out of date: update this program, or try again when the other is updated"
    )]
    OutOfDate,
    /// The link leads nowhere.
    #[error("{0}")]
    Fetch(String),
    /// The store failed; what was asked for did not happen.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The endpoint has stopped, or its store failed while this was being made durable: whether it happened is not known.
    #[error("the endpoint has stopped")]
    Stopped,
    /// It could not be kept: the store fails, and is opened again.
    #[error("this could not be kept, so nothing of it happened: the store fails. Is the disk full?")]
    NotKept,
}

impl Engine {
    /// Stores something to be said. Durable in the outbox once answered.
    pub fn send(&mut self, ctx: &mut Ctx<'_, '_>, to: ConversationId, draft: &Draft) -> Result<Message, CommandError> {
        if self.superseded {
            return Err(CommandError::Superseded);
        }
        let mut record = self.known(ctx, to)?;
        let mut content = self.content_of(ctx, to, draft)?;
        may_speak(&record)?;
        if record.is_customer() && !record.name_told {
            content.extensions.name = record.own_name.clone();
            content.extensions.reference = record.reference.take();
            record.name_told = true;
        }
        content.extensions.identity = record.identity.take();
        content.extensions.permits = self.give(ctx, to.0, &mut record, Carrier::Message)?;
        let bytes = self.say(ctx, &mut record, &mut content)?;
        let id = Self::id_of(&record, Direction::Outgoing, &content, &bytes)?;
        let purpose = self.purpose_for(ctx, &record, &content);
        let new = NewMessage {
            id,
            direction: Direction::Outgoing,
            bytes: &bytes,
            content: &content,
            breach: false,
            by: None,
            purpose,
        };
        let place = self.store_message(ctx, to.0, &mut record, &new)?;
        let intent = OutboxRecord::message(place, purpose.to_wire());
        self.enqueue(ctx, to.0, &mut record, &intent)?;
        self.save_conversation(ctx, to.0, &record)?;
        if record.state == ConversationState::Greeting {
            self.doubt_hello(ctx, to.0)?;
        }
        self.pump(ctx, to.0)?;
        Ok(view(place, &Self::message_record(ctx, place)?))
    }

    /// Under which permit something goes: a template under that of its category, what is not an offer as an answer while the window is open.
    fn purpose_for(&self, ctx: &Ctx<'_, '_>, record: &ConversationRecord, content: &Content) -> Purpose {
        let RoleOptions::Business(options) = &self.role else { return Purpose::Service };
        let Body::Interactive(interactive) = &content.body else { return Purpose::Service };
        let in_window = ctx.tx.now_ms() < record.last_heard_ms.saturating_add(options.window_ms);
        match interactive.template.as_ref().map(|template| template.category) {
            Some(Category::Marketing) => Purpose::Marketing,
            Some(_) if !in_window => Purpose::Notifications,
            _ => Purpose::Service,
        }
    }

    fn content_of(&self, ctx: &Ctx<'_, '_>, to: ConversationId, draft: &Draft) -> Result<Content, CommandError> {
        let salt = ctx.tx.random();
        let find = |id: &MessageId| -> Result<MessageRecord, CommandError> {
            let place = Self::place_of(ctx, Some(to.0), id)?.ok_or(CommandError::UnknownMessage)?;
            Ok(Self::message_record(ctx, place)?)
        };
        let own = |id: &MessageId| {
            let stored = find(id)?;
            match stored.direction {
                Direction::Outgoing if stored.deleted => Err(CommandError::Gone),
                Direction::Outgoing => Ok(stored),
                Direction::Incoming => Err(CommandError::NotYours),
            }
        };
        let answering = |content: Content, reply_to: Option<&MessageId>| {
            content.encode().map_err(|_| CommandError::NotFitting)?;
            let Some(id) = reply_to else { return Ok(content) };
            find(id)?;
            Ok(content.in_reply_to(*id))
        };
        match draft {
            Draft::Text { body, reply_to } => {
                let content = Content::new(salt, text(body)?);
                let Some(id) = reply_to else { return Ok(content) };
                find(id)?;
                Ok(content.in_reply_to(*id))
            }
            Draft::Attachment { attachment, reply_to } => {
                let content = Content::new(salt, Body::Attachment(attachment.clone()));
                content.encode().map_err(|_| CommandError::TooLong { limit: crate::media::MAX_CAPTION })?;
                let Some(id) = reply_to else { return Ok(content) };
                find(id)?;
                Ok(content.in_reply_to(*id))
            }
            Draft::Interactive { interactive, reply_to } => {
                if !matches!(self.role, RoleOptions::Business(_)) {
                    return Err(CommandError::WrongRole);
                }
                answering(Content::new(salt, Body::Interactive(interactive.clone())), reply_to.as_ref())
            }
            Draft::Location { location, reply_to } => {
                answering(Content::new(salt, Body::Location(location.clone())), reply_to.as_ref())
            }
            Draft::Contacts { persons, reply_to } => {
                answering(Content::new(salt, Body::Contacts(persons.clone())), reply_to.as_ref())
            }
            Draft::Answer { to: offer, answer } => {
                let stored = find(offer)?;
                let offered = Content::decode(&stored.content.0).ok().map(|content| content.body);
                match offered {
                    Some(Body::Interactive(interactive))
                        if stored.direction == Direction::Incoming && interactive.offers(answer) =>
                    {
                        answering(Content::new(salt, Body::Answer(answer.clone())), Some(offer))
                    }
                    _ => Err(CommandError::NotOffered),
                }
            }
            Draft::Reaction { to: under, emoji: Some(emoji) } => {
                find(under)?;
                let content = Content::new(salt, Body::Reaction { emoji: emoji.clone() }).in_reply_to(*under);
                content.encode().map_err(|_| CommandError::NotEmoji)?;
                Ok(content)
            }
            Draft::Reaction { to: under, emoji: None } => {
                let stored = find(under)?;
                let ours = stored.reactions.iter().find(|(whose, ..)| *whose == Direction::Outgoing);
                let (_, _, reaction) = ours.ok_or(CommandError::UnknownMessage)?;
                Ok(Content::new(salt, Body::Deleted).replacing(MessageId::new(**reaction)))
            }
            Draft::Edit { of, body } => {
                own(of)?;
                Ok(Content::new(salt, text(body)?).replacing(*of))
            }
            Draft::Delete { of } => {
                own(of)?;
                Ok(Content::new(salt, Body::Deleted).replacing(*of))
            }
        }
    }

    /// Marks an incoming message and all before it as read.
    pub fn mark_read(&mut self, ctx: &mut Ctx<'_, '_>, id: &MessageId) -> Result<(), CommandError> {
        let place = Self::place_of(ctx, None, id)?.ok_or(CommandError::UnknownMessage)?;
        if Self::message_record(ctx, place)?.direction == Direction::Outgoing {
            return Err(CommandError::UnknownMessage);
        }
        Ok(self.read_through(ctx, place)?)
    }

    /// Says that we are typing. Worth nothing later: without a connection it is not even queued.
    pub fn typing(&mut self, ctx: &mut Ctx<'_, '_>, to: ConversationId, on: bool) -> Result<(), CommandError> {
        let mut record = self.known(ctx, to)?;
        let ready = record.state == ConversationState::Open && self.holds(MailboxId::new(*record.mailbox));
        let relay = self.choose_other_side(ctx, to.0, Purpose::Control)?;
        let Some(relay) = relay.filter(|_| ready) else { return Ok(()) };
        if self.link(ctx.out, &LinkKey::anonymous(&relay)).is_none() {
            return Ok(());
        }
        let content = Content::new(ctx.tx.random(), Body::Typing { on });
        let bytes = content.encode().map_err(|_| damaged(Table::Outbox))?;
        let until_ms = Some(ctx.tx.now_ms() + TYPING_MS);
        let intent = OutboxRecord::notice(bytes, Purpose::Control.to_wire(), until_ms);
        self.enqueue(ctx, to.0, &mut record, &intent)?;
        self.save_conversation(ctx, to.0, &record)?;
        Ok(self.pump(ctx, to.0)?)
    }

    /// Tells the business where this device can be woken when nothing of it runs, or that it cannot any more. Waits in the outbox like a message.
    pub fn push(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        to: ConversationId,
        subscription: Option<PushSubscription>,
    ) -> Result<(), CommandError> {
        let mut record = self.known(ctx, to)?;
        if !record.is_customer() {
            return Err(CommandError::WrongRole);
        }
        may_speak(&record)?;
        if record.state != ConversationState::Open {
            return Err(CommandError::NotReady);
        }
        let mut content = Content::new(ctx.tx.random(), Body::Push(subscription.map(Box::new)));
        content.encode().map_err(|_| CommandError::TooLong { limit: content_limits::PUSH_ENDPOINT })?;
        let bytes = self.say(ctx, &mut record, &mut content)?;
        // Under `control`: who does not know this content ignores it there.
        self.enqueue(ctx, to.0, &mut record, &OutboxRecord::notice(bytes, Purpose::Control.to_wire(), None))?;
        self.save_conversation(ctx, to.0, &record)?;
        Ok(self.pump(ctx, to.0)?)
    }

    /// A customer's display name; told with the next message.
    pub fn set_name(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId, name: &str) -> Result<(), CommandError> {
        let mut record = self.known(ctx, of)?;
        if !record.is_customer() {
            return Err(CommandError::WrongRole);
        }
        record.own_name = Some(clean_name(name)?);
        record.name_told = false;
        Ok(self.save_conversation(ctx, of.0, &record)?)
    }

    /// Gives the business's own word for who this customer is there: it goes with the next message, and the business's program checks it.
    pub fn identify(&mut self, ctx: &mut Ctx<'_, '_>, of: ConversationId, token: &str) -> Result<(), CommandError> {
        let mut record = self.known(ctx, of)?;
        if !record.is_customer() {
            return Err(CommandError::WrongRole);
        }
        if token.chars().count() > content_limits::IDENTITY {
            return Err(CommandError::TooLong { limit: content_limits::IDENTITY });
        }
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(CommandError::NotToken);
        }
        record.identity = Some(token.to_owned());
        Ok(self.save_conversation(ctx, of.0, &record)?)
    }

    /// All conversations, oldest first.
    pub fn conversations(&self, ctx: &Ctx<'_, '_>) -> Result<Vec<Conversation>, CommandError> {
        let rows = ctx.tx.scan_prefix::<ConversationRecord>(Table::Conversations, b"")?;
        let view = |(key, record): (Vec<u8>, ConversationRecord)| {
            let number = key.first_chunk::<8>().map_or(0, |k| u64::from_be_bytes(*k));
            Ok(conversation_view(number, &record)?)
        };
        rows.into_iter().map(view).collect()
    }

    /// One conversation.
    pub fn conversation(&self, ctx: &Ctx<'_, '_>, id: ConversationId) -> Result<Option<Conversation>, CommandError> {
        let record = ctx.tx.get::<ConversationRecord>(Table::Conversations, &id.0.to_be_bytes())?;
        Ok(record.map(|r| conversation_view(id.0, &r)).transpose()?)
    }

    /// The newest conversation with a customer.
    pub fn conversation_of(&self, ctx: &Ctx<'_, '_>, user: &UserId) -> Result<Option<Conversation>, CommandError> {
        match self.peer(ctx, user)? {
            Some(peer) => self.conversation(ctx, ConversationId(peer.conversation)),
            None => Ok(None),
        }
    }

    /// Up to `limit` messages before an order (or the newest), oldest first.
    pub fn messages(
        &self,
        ctx: &Ctx<'_, '_>,
        of: ConversationId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, CommandError> {
        let from = message_key(Place { conversation: of.0, order: 0 });
        let until = message_key(Place { conversation: of.0, order: before.unwrap_or(u64::MAX) });
        let rows = ctx.tx.scan::<MessageRecord>(Table::Messages, &from, Some(&until), Order::Descending, limit)?;
        let view = |(key, record): (Vec<u8>, MessageRecord)| {
            let order = key.last_chunk::<8>().map_or(0, |k| u64::from_be_bytes(*k));
            Ok(view(Place { conversation: of.0, order }, &Self::with_content(ctx, &key, record)?))
        };
        rows.into_iter().rev().map(view).collect()
    }

    /// One message.
    pub fn message(&self, ctx: &Ctx<'_, '_>, id: &MessageId) -> Result<Option<Message>, CommandError> {
        let Some(place) = Self::place_of(ctx, None, id)? else { return Ok(None) };
        Ok(Some(view(place, &Self::message_record(ctx, place)?)))
    }

    /// Who the business is, and its current bundle.
    pub fn business_card(&self, ctx: &Ctx<'_, '_>) -> Result<BusinessCard, CommandError> {
        let RoleOptions::Business(options) = &self.role else { return Err(CommandError::WrongRole) };
        let identity = self.identity()?;
        let valid_ms = content_limits::BUNDLE_SECS * 1000;
        let current = self.current_bundle(ctx)?.filter(|b| ctx.tx.now_ms() < b.made_ms.saturating_add(valid_ms));
        Ok(BusinessCard {
            key: identity.hash(),
            handle: options.handle.clone(),
            name: options.name.clone(),
            relay_url: options.relay_url.clone(),
            ready: current.as_ref().is_some_and(|b| b.published),
            bundle: current.map(|b| b.bundle.to_vec()),
        })
    }

    /// A customer's conversation with the business of `key`, if there is one already.
    pub fn conversation_with(
        &self,
        ctx: &Ctx<'_, '_>,
        key: &IdentityHash,
    ) -> Result<Option<ConversationId>, CommandError> {
        let rows = ctx.tx.scan_prefix::<ConversationRecord>(Table::Conversations, b"")?;
        let is_with = |r: &ConversationRecord| r.is_customer() && *r.business == *key.as_bytes();
        let mine = rows.into_iter().rev().find(|(_, r)| is_with(r) && r.state != ConversationState::NotKnown);
        Ok(mine.and_then(|(k, _)| Some(ConversationId(u64::from_be_bytes(*k.first_chunk::<8>()?)))))
    }

    pub(super) fn known(&self, ctx: &Ctx<'_, '_>, id: ConversationId) -> Result<ConversationRecord, CommandError> {
        let record = ctx.tx.get(Table::Conversations, &id.0.to_be_bytes())?;
        record.ok_or(CommandError::UnknownConversation)
    }

    pub(super) fn tell_conversation(&self, ctx: &mut Ctx<'_, '_>, number: u64) -> Result<(), StoreError> {
        let record = self.conversation_record(ctx, number)?;
        ctx.emit(Event::Conversation(conversation_view(number, &record)?))
    }
}

/// Whether something may be said in a conversation from here.
pub(super) fn may_speak(record: &ConversationRecord) -> Result<(), CommandError> {
    match record.state {
        ConversationState::Removed => Err(CommandError::Removed),
        ConversationState::Moved => Err(CommandError::Moved),
        // Said to a business that knows nobody of the code, it would make somebody new.
        _ if record.past.as_ref().is_some_and(|past| past.sought) => Err(CommandError::NotReady),
        _ => Ok(()),
    }
}

fn text(body: &str) -> Result<Body, CommandError> {
    if body.is_empty() {
        return Err(CommandError::Empty);
    }
    if body.chars().count() > MAX_TEXT {
        return Err(CommandError::TooLong { limit: MAX_TEXT });
    }
    Ok(Body::text(body))
}

/// A display name on one line, within its limit.
pub(super) fn clean_name(name: &str) -> Result<String, CommandError> {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let name = name.trim();
    if name.is_empty() {
        return Err(CommandError::Empty);
    }
    if name.chars().count() > content_limits::DISPLAY_NAME {
        return Err(CommandError::TooLong { limit: content_limits::DISPLAY_NAME });
    }
    Ok(name.to_owned())
}
