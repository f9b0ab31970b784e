//! The chat as it is now, without any I/O: events, answers, keys and time go in ([`super::keys`] has the keys), what is to be done comes out as
//! [`Ask`]s, and [`super::draw`] shows it.

use std::collections::BTreeMap;

use bulla_client::engine::commands::MAX_TEXT;
use bulla_client::event::{
    Connection, Conversation, ConversationState, Direction, Draft, Event, Message, Reason, Status,
};
use bulla_client::media::{BlobId, Upload};
use bulla_e2ee::content::{Action, Interactive, MessageId};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::bubble::Look;
use super::editor::{Editor, Recall};
use super::history::{History, Key, OnTheirWay, is_shown};
use super::palette::Palette;
use super::view::{Rows, View};
use super::when;
use crate::chat::command::{Typed, find_offer};
use crate::chat::files::stopped;
use crate::chat::offer::Filling;
use crate::chat::{CONTINUED, KEY_CHANGE, MOVED, NEWER, OUTDATED, REMOVED, devices_changed, why};
use crate::text::{one_line, sentence};

/// Messages read from the store at once.
pub(super) const PAGE: usize = 200;

/// The next page is asked for when so few entries are left above the screen.
const NEAR_THE_TOP: usize = 20;

/// The business is shown as typing for so long, as the Cloud API has it: what it does after that it tells with a message.
const TYPING_MS: u64 = 25_000;

/// While one goes on typing, it is told again after so long: what was told is worth no more.
const TYPING_AGAIN_MS: u64 = 8_000;

/// Who has not touched a key for so long is not typing.
const TYPING_IDLE_MS: u64 = 8_000;

/// How long a remark stands.
const REMARK_MS: u64 = 10_000;

/// Said where one would write.
const STOPPED: &str = "This copy has stopped: another copy of this data folder is in use, and it holds the mailbox. You can read here; nothing is sent any more. Stop the other copy and start this one again.";

/// Something to be done by the endpoint, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Send this; if it is refused, the text comes back.
    Send(Draft, Option<String>),
    /// Carry out a command; if it is refused, the line comes back.
    Command(Typed, String),
    /// Mark as read.
    Read(MessageId),
    /// Tell that one types, or has stopped.
    Typing(bool),
    /// A page of messages before this place.
    Older(u64),
    /// A message that is quoted and not loaded.
    Quoted(MessageId),
}

/// What came of an [`Ask`].
#[derive(Debug)]
pub(super) enum Answer {
    /// Older messages.
    Page(Vec<Message>),
    /// A quoted message, if it is there.
    Quoted(MessageId, Option<Box<Message>>),
    /// It was done, and there is something to say about it.
    Told(String),
    /// It was not done, and why; what was written.
    Refused(String, Option<String>),
}

/// What the keys do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Write.
    Writing,
    /// Choose a message and what to do with it.
    Choosing(u64),
    /// Choose an emoji for a message.
    Reacting {
        /// The message.
        order: u64,
        /// The emoji of the row that is chosen.
        emoji: usize,
        /// Another one, as far as it is typed.
        typed: String,
    },
    /// Say yes or no to taking a message back.
    Deleting(u64),
}

/// What one writes belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Context {
    Nothing,
    /// It answers this message.
    Reply(u64),
    /// It takes the place of this message's text; what one was writing before.
    Edit(u64, String),
    /// It answers a question of a form.
    Form(Filling),
}

/// A remark under the history, for a while.
#[derive(Debug)]
pub(super) struct Remark {
    pub(super) text: String,
    pub(super) is_trouble: bool,
    until_ms: u64,
}

/// What was really on the screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Columns and rows of the history.
    pub(super) room: (usize, usize),
    /// Columns of the text that is written.
    pub(super) writing: usize,
    /// The newest message whose last row was shown.
    pub(super) newest: Option<u64>,
    /// Nothing is below.
    pub(super) at_bottom: bool,
    /// Entries above the first row.
    pub(super) above: usize,
    /// The furthest that the help can be scrolled.
    pub(super) help_end: usize,
}

/// The chat.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) conversation: Conversation,
    pub(super) connection: Connection,
    pub(super) history: History,
    pub(super) view: View,
    pub(super) editor: Editor,
    pub(super) recall: Recall,
    pub(super) mode: Mode,
    pub(super) context: Context,
    /// The help is open, scrolled down so far.
    pub(super) help: Option<usize>,
    pub(super) remark: Option<Remark>,
    /// Files on their way, with what of them has left.
    pub(super) uploads: BTreeMap<BlobId, Upload>,
    pub(super) palette: Palette,
    /// Somebody claims to be the business under another key. Said above everything until one leaves, and then once more.
    pub(super) key_changed: bool,
    /// One wants to leave.
    pub(super) leaves: bool,
    /// The screen has to be drawn anew, from nothing.
    pub(super) repaint: bool,
    pub(super) seen: Seen,
    pub(super) asks: Vec<Ask>,
    zone: TimeZone,
    now_ms: u64,
    /// The terminal is looked at, as far as it tells.
    has_focus: bool,
    loads: bool,
    /// The business types, until then.
    typing_until: Option<u64>,
    /// It was told then that one types.
    told_typing: Option<u64>,
    touched_ms: u64,
}

impl Model {
    pub(super) fn new(conversation: Conversation, palette: Palette, zone: TimeZone, now_ms: u64) -> Self {
        Self {
            conversation,
            connection: Connection::Connecting,
            history: History::new(zone.clone()),
            view: View::Bottom,
            editor: Editor::default(),
            recall: Recall::default(),
            mode: Mode::Writing,
            context: Context::Nothing,
            help: None,
            remark: None,
            uploads: BTreeMap::new(),
            palette,
            key_changed: false,
            leaves: false,
            repaint: false,
            seen: Seen { room: (0, 0), writing: 1, newest: None, at_bottom: true, above: 0, help_end: 0 },
            asks: Vec::new(),
            zone,
            now_ms,
            has_focus: true,
            loads: false,
            typing_until: None,
            told_typing: None,
            touched_ms: 0,
        }
    }

    /// Everything of before is loaded: begins at what is new, if anything is.
    pub(super) fn opened(&mut self) {
        if let Some(order) = self.history.first_unread() {
            self.history.mark_new(order);
            self.view = self.history.marker().map_or(View::Bottom, |key| View::From(key, 0));
        }
        self.recall.older(self.history.own_texts());
        self.look_up_quotes();
    }

    /// It is this late now.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.typing_until = self.typing_until.filter(|until| *until > now_ms);
        self.remark = self.remark.take().filter(|remark| remark.until_ms > now_ms);
        if self.told_typing.is_some() && self.touched_ms + TYPING_IDLE_MS <= now_ms {
            self.stop_typing();
        }
    }

    /// When [`Self::tick`] will have something to do, or the day ends.
    pub(super) fn wake_at(&self) -> u64 {
        let idle = self.told_typing.map(|_| self.touched_ms + TYPING_IDLE_MS);
        let remark = self.remark.as_ref().map(|remark| remark.until_ms);
        let midnight = self.today().tomorrow().ok().and_then(|day| day.to_zoned_datetime(self.zone.clone()).ok());
        let midnight = midnight.and_then(|at| u64::try_from(at.timestamp().as_millisecond()).ok());
        [self.typing_until, idle, remark, midnight].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    pub(super) fn today(&self) -> Date {
        when::local(self.now_ms, &self.zone).date()
    }

    /// The business's name, clean.
    pub(super) fn name(&self) -> String {
        one_line(&self.conversation.peer_name, 60)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.why_stopped().is_some()
    }

    /// Why nothing can be written here any more.
    pub(super) fn why_stopped(&self) -> Option<&'static str> {
        if self.connection == Connection::Superseded {
            return Some(STOPPED);
        }
        match self.conversation.state {
            ConversationState::Removed => Some(REMOVED),
            ConversationState::Moved => Some(MOVED),
            _ => None,
        }
    }

    pub(super) fn is_typing(&self) -> bool {
        self.typing_until.is_some()
    }

    /// What the endpoint tells.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Connection(connection) => {
                self.connection = connection;
                if self.is_stopped() {
                    (self.mode, self.typing_until) = (Mode::Writing, None);
                }
            }
            Event::Conversation(conversation) => {
                if conversation.readers != self.conversation.readers {
                    self.history.note(format!("who can read has changed: {}", readers(&conversation)));
                }
                let outdated = |c: &Conversation| c.state == ConversationState::Outdated;
                if outdated(&conversation) && !outdated(&self.conversation) {
                    self.history.note(OUTDATED.to_owned());
                }
                self.conversation = conversation;
            }
            Event::Message(message) => self.message(message),
            Event::Changed(message) => {
                self.history.heard(message);
            }
            Event::Status { message, .. } => self.status(message),
            Event::Typing { on, .. } => self.typing_until = on.then_some(self.now_ms + TYPING_MS),
            Event::Upload(upload) => {
                if let Some(sentence) = stopped(&upload) {
                    self.history.note(sentence);
                }
                self.uploads.insert(upload.id, upload);
            }
            Event::UploadMoved { upload, sent } => {
                if let Some(upload) = self.uploads.get_mut(&upload) {
                    upload.sent = sent;
                }
            }
            Event::UploadEnded { upload, .. } => drop(self.uploads.remove(&upload)),
            Event::Continued { reason: Reason::Joined, .. } => {}
            Event::Continued { .. } => self.history.note(CONTINUED.to_owned()),
            Event::KeyChange { .. } => self.key_changed = true,
            Event::Devices { added, removed, .. } => self.history.note(devices_changed(&added, &removed)),
            Event::Newer { .. } => self.history.note(NEWER.to_owned()),
            Event::Unreadable { .. } => {
                self.history.note("a message came that could not be read; it is kept".to_owned());
            }
            Event::Gap { missing: 1, .. } => self.history.note("a message expired on the way and is lost".to_owned()),
            Event::Gap { missing, .. } => {
                self.history.note(format!("{missing} messages expired on the way and are lost"));
            }
            _ => {}
        }
    }

    fn message(&mut self, message: Message) {
        let (order, direction, shown) = (message.order, message.direction, is_shown(&message));
        let looked_at = self.is_looked_at() && self.view == View::Bottom;
        if !self.history.heard(message) {
            return;
        }
        match direction {
            Direction::Incoming => {
                self.typing_until = None;
                if shown && !looked_at {
                    self.history.mark_new(order);
                }
            }
            Direction::Outgoing if shown => {
                self.history.unmark();
                self.view = View::Bottom;
            }
            Direction::Outgoing => {}
        }
        self.look_up_quotes();
    }

    fn status(&mut self, message: Message) {
        if message.status == Status::Failed && !is_shown(&message) {
            self.history.note(format!("a reaction or a change of yours was not delivered: {}", why(message.failure)));
        }
        self.history.heard(message);
    }

    /// What came of something that was asked for.
    pub(super) fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Page(page) => {
                self.loads = false;
                self.history.page(page, PAGE);
                self.look_up_quotes();
            }
            Answer::Quoted(id, message) => self.history.looked_up(id, message.as_deref()),
            Answer::Told(text) => self.remark(&text),
            Answer::Refused(why, text) => {
                self.trouble(&why);
                if let Some(text) = text.filter(|_| self.editor.is_empty()) {
                    self.editor.set(&text);
                }
            }
        }
    }

    fn look_up_quotes(&mut self) {
        self.asks.extend(self.history.wanted().into_iter().map(Ask::Quoted));
    }

    /// What a drawing has shown: it is read, if somebody looks; and where it ends, older messages are loaded.
    pub(super) fn seen(&mut self, seen: Seen) {
        self.seen = seen;
        if seen.at_bottom {
            self.view = View::Bottom;
        }
        let newest = if seen.at_bottom { Some(u64::MAX) } else { seen.newest };
        if let Some(read) = newest.filter(|_| self.is_looked_at()).and_then(|order| self.history.unread_up_to(order)) {
            let (id, order) = (read.id, read.order);
            self.asks.push(Ask::Read(id));
            self.history.read_through(order);
        }
        if seen.above < NEAR_THE_TOP
            && !self.loads
            && let Some(before) = self.history.older()
        {
            self.loads = true;
            self.asks.push(Ask::Older(before));
        }
    }

    /// Whether what is drawn is looked at: the terminal has the focus, and nothing covers the history.
    fn is_looked_at(&self) -> bool {
        self.has_focus && self.help.is_none()
    }

    /// The terminal was given the focus, or lost it.
    pub(super) fn focus(&mut self, has_focus: bool) {
        self.has_focus = has_focus;
    }

    pub(super) fn look(&self, room: usize) -> LookParts {
        LookParts { room, name: self.name(), today: self.today() }
    }

    /// Works with the rows of all entries.
    pub(super) fn rows<R>(&self, work: impl FnOnce(&Rows<'_>) -> R) -> R {
        let parts = self.look(self.seen.room.0);
        let look = parts.of(self);
        let entries = self.history.entries();
        let keys: Vec<Key> = entries.iter().map(|placed| placed.key).collect();
        let count = |at: usize| entries.get(at).map_or(0, |placed| placed.above + look.rows(&placed.entry).len());
        work(&Rows { keys: &keys, count: &count })
    }

    /// Scrolls by so many rows: down, or up if negative.
    pub(super) fn scroll(&mut self, by: isize) {
        self.view = self.rows(|rows| rows.moved(self.view, by, self.seen.room.1));
    }

    /// Chooses a message and brings it into sight.
    pub(super) fn choose(&mut self, order: u64) {
        self.mode = Mode::Choosing(order);
        self.view = self.rows(|rows| rows.showing(self.view, Key::said(order), self.seen.room.1));
    }

    /// The message that a mode or a context is about.
    pub(super) fn message_at(&self, order: u64) -> Option<&Message> {
        self.history.get(order).map(|said| &said.message)
    }

    /// Says something under the history, for a while.
    pub(super) fn remark(&mut self, text: &str) {
        self.put_remark(text, false);
    }

    /// The same for what went wrong.
    pub(super) fn trouble(&mut self, text: &str) {
        self.put_remark(text, true);
    }

    fn put_remark(&mut self, text: &str, is_trouble: bool) {
        let mut chars = text.chars();
        let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        let text = sentence(&format!("{first}{}", chars.as_str()));
        self.remark = Some(Remark { text, is_trouble, until_ms: self.now_ms + REMARK_MS });
    }

    /// Something was typed: the business may be told so.
    pub(super) fn touched(&mut self) {
        let text = self.editor.text();
        let writes = !text.trim().is_empty()
            && !text.starts_with('/')
            && !matches!(self.context, Context::Edit(..) | Context::Form(_));
        if !writes || self.is_stopped() {
            return self.stop_typing();
        }
        self.touched_ms = self.now_ms;
        if self.told_typing.is_none_or(|told| told + TYPING_AGAIN_MS <= self.now_ms) {
            self.told_typing = Some(self.now_ms);
            self.asks.push(Ask::Typing(true));
        }
    }

    fn stop_typing(&mut self) {
        if self.told_typing.take().is_some() {
            self.asks.push(Ask::Typing(false));
        }
    }

    /// Says what is written, or carries it out.
    pub(super) fn submit(&mut self) {
        let line = self.editor.text().trim_end().to_owned();
        let typed = Typed::parse(&line);
        if let Context::Form(filling) = &self.context
            && typed != Typed::Cancel
        {
            let filling = filling.clone();
            return self.answer_form(filling, &line);
        }
        let ask = match typed {
            Typed::Empty => return,
            Typed::Cancel if matches!(self.context, Context::Form(_)) => {
                self.editor.take();
                return self.give_up_context();
            }
            Typed::Form(id) => return self.begin_form(id.as_deref()),
            Typed::Unknown(sentence) => return self.trouble(&sentence),
            Typed::Help | Typed::Who => {
                self.help = Some(0);
                None
            }
            Typed::Say(body) => {
                let over = body.chars().count().saturating_sub(MAX_TEXT);
                if over > 0 {
                    return self.trouble(&format!("a message has at most {MAX_TEXT} characters: {over} too many"));
                }
                self.view = View::Bottom;
                self.said(body, &line)
            }
            command => Some(Ask::Command(command, line.clone())),
        };
        self.asks.extend(ask);
        self.recall.said(&line);
        self.editor.take();
        if let Context::Edit(_, before) = std::mem::replace(&mut self.context, Context::Nothing) {
            self.editor.set(&before);
        }
        self.remark = None;
        // After the message: it must not wait for this.
        self.stop_typing();
    }

    /// A form of the business, if there is one that was not filled in: its questions stand above what is written.
    fn begin_form(&mut self, id: Option<&str>) {
        let is_form = |of: &Interactive| matches!(of.action, Action::Form(_));
        let found = find_offer(self.history.messages(), id, "form", is_form);
        let filling = found.map(|(message, of)| match &of.action {
            Action::Form(form) => Some(Filling::begin(message.id, form)),
            _ => None,
        });
        match filling {
            Ok(Some(filling)) => {
                self.editor.take();
                self.remark = None;
                self.stop_typing();
                self.go_on(filling);
            }
            Ok(None) => {}
            Err(why) => self.trouble(&why),
        }
    }

    fn answer_form(&mut self, mut filling: Filling, line: &str) {
        if let Err(why) = filling.answer(line) {
            return self.trouble(&why);
        }
        self.editor.take();
        self.remark = None;
        self.go_on(filling);
    }

    /// The next question, or after the last the form on its way.
    fn go_on(&mut self, filling: Filling) {
        match filling.done() {
            Some(draft) => {
                self.context = Context::Nothing;
                self.view = View::Bottom;
                self.asks.push(Ask::Send(draft, None));
            }
            None => self.context = Context::Form(filling),
        }
    }

    fn said(&self, body: String, line: &str) -> Option<Ask> {
        let draft = match &self.context {
            Context::Nothing | Context::Form(_) => Draft::Text { body, reply_to: None },
            Context::Reply(order) => Draft::Text { body, reply_to: self.message_at(*order).map(|m| m.id) },
            Context::Edit(order, _) => {
                let of = self.message_at(*order)?;
                let is_same = matches!(&of.shown, bulla_client::event::Shown::Text(text) if *text == body);
                if is_same {
                    return None;
                }
                Draft::Edit { of: of.id, body }
            }
        };
        Some(Ask::Send(draft, Some(line.to_owned())))
    }

    /// What to say at leaving.
    pub(super) fn farewell(&self) -> Option<String> {
        let messages = |count: usize, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 message {one}")),
            count => Some(format!("{count} messages {many}")),
        };
        let OnTheirWay { here, there } = self.history.on_their_way();
        let here = messages(
            here,
            "has not left yet: it is kept, and leaves when you open this chat again",
            "have not left yet: they are kept, and leave when you open this chat again",
        );
        let there = messages(
            there,
            "waits at the relay until the business fetches it",
            "wait at the relay until the business fetches them",
        );
        let key = self.key_changed.then(|| KEY_CHANGE.to_owned());
        let parts: Vec<_> = key.into_iter().chain(here).chain(there).map(|part| sentence(&part)).collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    }
}

/// What a [`Look`] borrows.
pub(super) struct LookParts {
    room: usize,
    name: String,
    today: Date,
}

impl LookParts {
    pub(super) fn of<'a>(&'a self, model: &'a Model) -> Look<'a> {
        let chosen = match model.mode {
            Mode::Writing => None,
            Mode::Choosing(order) | Mode::Deleting(order) | Mode::Reacting { order, .. } => Some(order),
        };
        Look {
            history: &model.history,
            room: self.room,
            palette: model.palette,
            name: &self.name,
            handle: &model.conversation.handle,
            today: self.today,
            chosen,
        }
    }
}

/// Who reads at the business, as it says.
pub(super) fn readers(conversation: &Conversation) -> String {
    let one = |(name, role): &(String, String)| format!("{} ({})", one_line(name, 40), one_line(role, 40));
    let all: Vec<_> = conversation.readers.iter().map(one).collect();
    if all.is_empty() { "the business itself".to_owned() } else { all.join(", ") }
}
