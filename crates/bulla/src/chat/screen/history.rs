//! What is loaded of a conversation, and the entries that it is shown as: days, the marker of what is new, messages, notes.
//!
//! Messages come from two sides that overtake each other: pages of the store and events. An event is always newer than what is loaded; a page
//! never replaces what an event has told.

use std::collections::{BTreeMap, HashMap, HashSet};

use bulla_client::event::{Direction, Message, Shown, Status};
use bulla_e2ee::content::MessageId;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::when;
use crate::chat::{is_said, offer};

/// A loaded message.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message: Message,
    /// When it was written, on the wall clock.
    pub(super) at: DateTime,
}

/// Something that happened between messages. Not stored: told while one looks.
#[derive(Debug)]
pub(super) struct Note {
    after: u64,
    pub(super) text: String,
}

/// An entry's place: entries are in the order of their keys, and keep them when others come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    order: u64,
    rank: Rank,
    number: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Day,
    Unread,
    Said,
    Note,
}

impl Key {
    /// Of a message, by its place in the conversation.
    pub(super) fn said(order: u64) -> Self {
        Self { order, rank: Rank::Said, number: 0 }
    }
}

/// Something to be shown.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// The conversation's beginning: whom one talks to.
    Beginning,
    /// A day begins.
    Day(Date),
    /// So many messages are new from here on.
    Unread(usize),
    /// A message.
    Said {
        said: &'a Said,
        /// The day that it stands under.
        under: Date,
    },
    /// A note.
    Note(&'a Note),
}

/// An entry with its key and the empty rows above it.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) key: Key,
    pub(super) entry: Entry<'a>,
    pub(super) above: usize,
}

/// What a reply shows of the message that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) whose: Option<Direction>,
    pub(super) text: String,
}

/// How many of one's own messages are on which part of their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OnTheirWay {
    /// Not at the relay yet.
    pub(super) here: usize,
    /// At the relay, not confirmed by the business.
    pub(super) there: usize,
}

/// The loaded part of a conversation.
#[derive(Debug)]
pub(super) struct History {
    zone: TimeZone,
    said: BTreeMap<u64, Said>,
    orders: HashMap<MessageId, u64>,
    /// From here on everything is loaded; 0: all of it, `None`: nothing yet.
    floor: Option<u64>,
    /// What events told of messages below the floor.
    ahead: BTreeMap<u64, Message>,
    notes: Vec<Note>,
    /// The first message that was new when one last looked away.
    marker: Option<u64>,
    /// Answered messages that are not loaded: what the store said of them.
    quotes: HashMap<MessageId, Quote>,
    wanted: HashSet<MessageId>,
}

impl History {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            said: BTreeMap::new(),
            orders: HashMap::new(),
            floor: None,
            ahead: BTreeMap::new(),
            notes: Vec::new(),
            marker: None,
            quotes: HashMap::new(),
            wanted: HashSet::new(),
        }
    }

    /// Takes a page of the store: the newest messages, or those before what is loaded. A page that is not full is the first one.
    pub(super) fn page(&mut self, page: Vec<Message>, limit: usize) {
        let is_first = page.len() < limit;
        self.floor = if is_first { Some(0) } else { page.first().map(|m| m.order) };
        for message in page {
            let newer = self.ahead.remove(&message.order);
            if !self.said.contains_key(&message.order) {
                self.insert(newer.unwrap_or(message));
            }
        }
    }

    /// Takes a message as an event tells it; whether it was not known before.
    pub(super) fn heard(&mut self, message: Message) -> bool {
        if let Some(said) = self.said.get_mut(&message.order) {
            said.message = message;
            return false;
        }
        if self.floor.is_some_and(|floor| message.order < floor) {
            self.ahead.insert(message.order, message);
            return false;
        }
        self.insert(message);
        true
    }

    fn insert(&mut self, message: Message) {
        if let Some(answered) = message.reply_to.filter(|_| is_said(&message.shown))
            && !self.orders.contains_key(&answered)
            && !self.quotes.contains_key(&answered)
        {
            self.wanted.insert(answered);
        }
        self.orders.insert(message.id, message.order);
        let at = when::local(when::written(message.sent_ms, message.stored_ms), &self.zone);
        self.said.insert(message.order, Said { message, at });
    }

    /// Adds a note after what is there now.
    pub(super) fn note(&mut self, text: String) {
        let after = self.said.keys().next_back().copied().unwrap_or(0);
        self.notes.push(Note { after, text });
    }

    /// Where the next older page ends, if there is one.
    pub(super) fn older(&self) -> Option<u64> {
        self.floor.filter(|floor| *floor > 1)
    }

    /// A message by its place.
    pub(super) fn get(&self, order: u64) -> Option<&Said> {
        self.said.get(&order)
    }

    /// The shown message before or after a place; without a place, the newest.
    pub(super) fn beside(&self, order: Option<u64>, later: bool) -> Option<u64> {
        let shown = |(order, said): (&u64, &Said)| is_shown(&said.message).then_some(*order);
        match (order, later) {
            (Some(order), true) => self.said.range(order + 1..).find_map(shown),
            (Some(order), false) => self.said.range(..order).rev().find_map(shown),
            (None, _) => self.said.iter().rev().find_map(shown),
        }
    }

    /// One's own texts, oldest first: for calling them back.
    pub(super) fn own_texts(&self) -> Vec<String> {
        let own = self.said.values().filter(|said| said.message.direction == Direction::Outgoing);
        own.filter_map(|said| match &said.message.shown {
            Shown::Text(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
    }

    /// What a reply shows of what it answers.
    pub(super) fn quote(&self, id: &MessageId) -> Quote {
        let loaded = self.orders.get(id).and_then(|order| self.said.get(order));
        match loaded {
            Some(said) => quote_of(Some(&said.message)),
            None => self.quotes.get(id).cloned().unwrap_or(Quote { whose: None, text: "…".to_owned() }),
        }
    }

    /// All that is loaded, oldest first.
    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> + Clone {
        self.said.values().map(|said| &said.message)
    }

    /// What was answered to a message that offers something, if it was.
    pub(super) fn answer_to(&self, offer: &Message) -> Option<&Message> {
        let action = &offer::interactive(offer)?.action;
        let after = self.said.range(offer.order..).rev().map(|(_, said)| &said.message);
        after.into_iter().find(|message| offer::answers(message, &offer.id, action))
    }

    /// A loaded message.
    pub(super) fn by_id(&self, id: &MessageId) -> Option<&Message> {
        self.orders.get(id).and_then(|order| self.said.get(order)).map(|said| &said.message)
    }

    /// Messages that are quoted and have to be looked up, each once.
    pub(super) fn wanted(&mut self) -> Vec<MessageId> {
        self.wanted.drain().filter(|id| !self.orders.contains_key(id)).collect()
    }

    /// What the store said of a quoted message.
    pub(super) fn looked_up(&mut self, id: MessageId, message: Option<&Message>) {
        self.quotes.insert(id, quote_of(message));
    }

    /// Incoming messages up to a place have been read.
    pub(super) fn read_through(&mut self, order: u64) {
        for said in self.said.range_mut(..=order).map(|(_, said)| said) {
            if said.message.status == Status::Received {
                said.message.status = Status::Read;
            }
        }
    }

    /// The first loaded message of the business that is not read.
    pub(super) fn first_unread(&self) -> Option<u64> {
        let mut unread = self.said.iter().filter(|(_, said)| is_new(&said.message));
        unread.next().map(|(order, _)| *order)
    }

    /// Whether the oldest loaded message of the business is not read: there may be more such before it.
    pub(super) fn begins_unread(&self) -> bool {
        let oldest = self.said.values().find(|said| said.message.direction == Direction::Incoming);
        oldest.is_some_and(|said| said.message.status == Status::Received)
    }

    /// How many messages of the business after a place are not read.
    pub(super) fn new_after(&self, order: u64) -> usize {
        self.said.range(order + 1..).filter(|(_, said)| is_new(&said.message)).count()
    }

    /// The newest incoming message, of any kind, that is not marked as read, up to a place.
    pub(super) fn unread_up_to(&self, order: u64) -> Option<&Message> {
        let unread = |said: &&Said| said.message.status == Status::Received;
        self.said.range(..=order).map(|(_, said)| said).rfind(unread).map(|said| &said.message)
    }

    /// Sets the marker of what is new, if it does not stand before something unread already.
    pub(super) fn mark_new(&mut self, order: u64) {
        let stands = |marker| self.said.range(marker..order).any(|(_, said)| is_new(&said.message));
        if !self.marker.is_some_and(stands) {
            self.marker = Some(order);
        }
    }

    /// Takes the marker away.
    pub(super) fn unmark(&mut self) {
        self.marker = None;
    }

    /// The marker's key, if it is set.
    pub(super) fn marker(&self) -> Option<Key> {
        self.marker.map(|order| Key { order, rank: Rank::Unread, number: 0 })
    }

    /// Own messages that have not arrived.
    pub(super) fn on_their_way(&self) -> OnTheirWay {
        let own = self.said.values().filter(|said| said.message.direction == Direction::Outgoing);
        own.fold(OnTheirWay::default(), |mut sum, said| {
            match said.message.status {
                Status::Queued => sum.here += 1,
                Status::Sent => sum.there += 1,
                _ => {}
            }
            sum
        })
    }

    /// Everything to be shown, oldest first.
    pub(super) fn entries(&self) -> Vec<Placed<'_>> {
        let mut entries = Vec::with_capacity(self.said.len() + 8);
        if self.floor == Some(0) {
            let key = Key { order: 0, rank: Rank::Day, number: 0 };
            entries.push(Placed { key, entry: Entry::Beginning, above: 0 });
        }
        let mut notes = self.notes.iter().enumerate().peekable();
        let mut day: Option<Date> = None;
        // Whose message stood directly above.
        let mut before: Option<Direction> = None;
        for (order, said) in &self.said {
            while let Some((number, note)) = notes.next_if(|(_, note)| note.after < *order) {
                let key = Key { order: note.after, rank: Rank::Note, number };
                entries.push(Placed { key, entry: Entry::Note(note), above: 1 });
                before = None;
            }
            // The marker may stand before something that is not shown, such as a reaction.
            if self.marker == Some(*order) {
                let count = self.said.range(order..).filter(|(_, said)| is_incoming(&said.message)).count();
                if count > 0 {
                    let key = Key { order: *order, rank: Rank::Unread, number: 0 };
                    entries.push(Placed { key, entry: Entry::Unread(count), above: 1 });
                    before = None;
                }
            }
            if !is_shown(&said.message) {
                continue;
            }
            // Days only go on: a message that was long on its way stands where it arrived, with its date.
            let under = match day {
                Some(day) if day >= said.at.date() => day,
                _ => said.at.date(),
            };
            if day != Some(under) {
                day = Some(under);
                let key = Key { order: *order, rank: Rank::Day, number: 0 };
                let place =
                    entries.len() - usize::from(matches!(entries.last(), Some(Placed { entry: Entry::Unread(_), .. })));
                entries.insert(place, Placed { key, entry: Entry::Day(under), above: 1 });
                before = None;
            }
            let above = usize::from(before != Some(said.message.direction));
            entries.push(Placed { key: Key::said(*order), entry: Entry::Said { said, under }, above });
            before = Some(said.message.direction);
        }
        for (number, note) in notes {
            let key = Key { order: note.after, rank: Rank::Note, number };
            entries.push(Placed { key, entry: Entry::Note(note), above: 1 });
        }
        entries
    }
}

/// Whether a message stands in the history by itself. Reactions, edits and withdrawals show at the message that they change.
pub(super) fn is_shown(message: &Message) -> bool {
    match message.shown {
        Shown::Unsupported(_) | Shown::Unreadable => true,
        Shown::Deleted => message.replaces.is_none(),
        _ => is_said(&message.shown),
    }
}

fn is_incoming(message: &Message) -> bool {
    message.direction == Direction::Incoming && is_shown(message)
}

fn is_new(message: &Message) -> bool {
    message.status == Status::Received && is_shown(message)
}

fn quote_of(message: Option<&Message>) -> Quote {
    let Some(message) = message else {
        return Quote { whose: None, text: "a message that is not here any more".to_owned() };
    };
    let text = match &message.shown {
        Shown::Text(text) => crate::text::one_line(text, 200),
        Shown::File(card) => format!("📎 {}", crate::chat::files::described(card)),
        Shown::Interactive(of, card) => offer::summary(of, card.as_deref()),
        Shown::Answer(answer) => crate::text::one_line(&offer::answered(answer, None), 200),
        Shown::Location(place) => format!("📍 {}", offer::place(place)),
        Shown::Contacts(persons) => format!("👤 {}", persons.iter().map(offer::person).collect::<Vec<_>>().join(", ")),
        Shown::Deleted => "a message that was taken back".to_owned(),
        Shown::Unreadable => "a message that cannot be read".to_owned(),
        _ => "something that this version cannot show".to_owned(),
    };
    Quote { whose: Some(message.direction), text }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{DAY, MINUTE, START, id, message, own, theirs};
    use super::*;

    fn history(page: Vec<Message>) -> History {
        let mut history = History::new(TimeZone::UTC);
        history.page(page, 100);
        history
    }

    /// Entries in a word each.
    fn shape(history: &History) -> Vec<String> {
        let word = |placed: Placed<'_>| match placed.entry {
            Entry::Beginning => "beginning".to_owned(),
            Entry::Day(date) => date.to_string(),
            Entry::Unread(count) => format!("{count} new"),
            Entry::Said { said, .. } => said.message.order.to_string(),
            Entry::Note(note) => note.text.clone(),
        };
        history.entries().into_iter().map(word).collect()
    }

    #[test]
    fn days_stand_between_messages_and_never_go_back() {
        let mut late = theirs(3, "long on its way");
        late.sent_ms = START - MINUTE;
        let mut next = own(2, "next day");
        (next.sent_ms, next.stored_ms, late.stored_ms) = (START + DAY, START + DAY, START + DAY);
        let history = history(vec![theirs(1, "first day"), next, late]);
        assert_eq!(shape(&history), ["beginning", "2025-03-01", "1", "2025-03-02", "2", "3"]);
        let entries = history.entries();
        assert!(entries.windows(2).all(|pair| pair[0].key < pair[1].key), "keys are in order: {entries:?}");
        let Entry::Said { said, under } = &entries[5].entry else { panic!() };
        assert_eq!(when::time(said.at, *under), "1 Mar 11:59");
    }

    #[test]
    fn reactions_edits_and_withdrawals_are_no_entries() {
        let mut reaction = theirs(2, "");
        (reaction.shown, reaction.reply_to) = (Shown::Reaction(Some("👍".into())), Some(id(1)));
        let mut edit = own(3, "");
        (edit.shown, edit.replaces) = (Shown::Edit("x".into()), Some(id(1)));
        let mut deletion = own(4, "");
        (deletion.shown, deletion.replaces) = (Shown::Deleted, Some(id(1)));
        let mut deleted = own(1, "");
        (deleted.shown, deleted.deleted) = (Shown::Deleted, true);
        let history = history(vec![deleted, reaction, edit, deletion]);
        assert_eq!(shape(&history), ["beginning", "2025-03-01", "1"]);
        assert_eq!(history.beside(None, false), Some(1));
        assert_eq!(history.beside(Some(1), true), None);
    }

    #[test]
    fn an_event_is_newer_than_the_page_that_comes_after_it() {
        let mut history = History::new(TimeZone::UTC);
        history.page(vec![own(11, "eleven"), theirs(12, "twelve")], 2);
        assert_eq!(history.older(), Some(11));
        let mut read = own(10, "ten");
        read.status = Status::Read;
        assert!(!history.heard(read), "its page is on the way");
        history.page(vec![own(9, "nine"), own(10, "ten")], 2);
        assert_eq!(history.get(10).unwrap().message.status, Status::Read);
        let mut read = own(9, "nine");
        read.status = Status::Read;
        history.heard(read);
        history.page(vec![own(8, "eight"), own(9, "nine")], 3);
        assert_eq!(history.get(9).unwrap().message.status, Status::Read, "a page never replaces");
        assert_eq!((history.older(), shape(&history)[0].as_str()), (None, "beginning"));
    }

    #[test]
    fn the_marker_stands_before_what_is_new_until_that_is_read() {
        let mut history = history(vec![own(1, "a"), theirs(2, "b")]);
        history.read_through(2);
        assert_eq!(history.first_unread(), None);
        for order in [3, 4] {
            assert!(history.heard(theirs(order, "c")));
            history.mark_new(order);
        }
        assert_eq!(shape(&history)[3..], ["2", "2 new", "3", "4"]);
        assert_eq!(history.unread_up_to(3).map(|m| m.order), Some(3));
        history.read_through(4);
        assert_eq!(history.unread_up_to(9), None);
        assert_eq!(shape(&history)[4], "2 new", "reading does not take it away: one still looks for the place");
        history.heard(theirs(5, "d"));
        history.mark_new(5);
        assert_eq!(shape(&history)[3..], ["2", "3", "4", "1 new", "5"]);
        history.unmark();
        assert_eq!(shape(&history)[3..], ["2", "3", "4", "5"]);
    }

    #[test]
    fn notes_stand_where_they_happened_and_the_day_above_the_marker() {
        let mut history = history(vec![own(1, "a")]);
        history.note("lost".into());
        let mut next = theirs(2, "b");
        (next.sent_ms, next.stored_ms) = (START + DAY, START + DAY);
        history.heard(next);
        history.mark_new(2);
        history.note("changed".into());
        assert_eq!(shape(&history), ["beginning", "2025-03-01", "1", "lost", "2025-03-02", "1 new", "2", "changed"]);
        let keys: Vec<_> = history.entries().iter().map(|placed| placed.key).collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn what_is_answered_is_looked_up_once_and_quoted() {
        let mut reply = theirs(5, "yes");
        reply.reply_to = Some(id(1));
        let mut again = theirs(6, "no");
        again.reply_to = Some(id(1));
        let mut near = theirs(7, "maybe");
        near.reply_to = Some(id(6));
        let mut history = History::new(TimeZone::UTC);
        history.page(vec![reply, again, near], 3);
        assert_eq!(history.wanted(), [id(1)]);
        assert_eq!(history.quote(&id(1)), Quote { whose: None, text: "…".into() });
        history.looked_up(id(1), Some(&own(1, "do you\nopen?")));
        assert_eq!(history.quote(&id(1)), Quote { whose: Some(Direction::Outgoing), text: "do you open?".into() });
        assert_eq!(history.quote(&id(6)).text, "no");
        history.looked_up(id(2), None);
        assert_eq!(history.quote(&id(2)).text, "a message that is not here any more");
        assert_eq!(history.wanted(), []);
    }

    #[test]
    fn what_has_not_arrived_is_counted() {
        let with = |order, status| {
            let mut message = message(order, Direction::Outgoing, Shown::Text("x".into()));
            message.status = status;
            message
        };
        let history = history(vec![
            with(1, Status::Delivered),
            with(2, Status::Sent),
            with(3, Status::Queued),
            with(4, Status::Queued),
            with(5, Status::Failed),
            theirs(6, "x"),
        ]);
        assert_eq!(history.on_their_way(), OnTheirWay { here: 2, there: 1 });
    }
}
