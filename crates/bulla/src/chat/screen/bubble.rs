//! One entry of the history as rows of the screen.
//!
//! ```text
//! ▌ ┆ You: a flat white, please
//! ▌ Sure! Anything else?  14:02
//!   ╰ 👍 you
//!                                    Two croissants  14:03 ✓✓ ▐
//! ```
//!
//! The business's messages stand on the left with their bar, one's own on the right: sides tell who speaks, also without colours.

use bulla_client::event::{Direction, Message, Shown, Status};
use jiff::civil::Date;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::history::{Entry, History, Quote, Said};
use super::palette::Palette;
use super::when;
use super::wrap::{balanced, cut, width, wrapped};
use crate::chat::{breach, files, is_said, offer, short, why};
use crate::text::{lines, one_line};

/// Text in longer rows than this is hard to read.
const WIDEST: usize = 72;

/// Columns of a bar and the space beside it.
const BAR: usize = 2;

/// What entries look like now.
pub(super) struct Look<'a> {
    pub(super) history: &'a History,
    /// Columns.
    pub(super) room: usize,
    pub(super) palette: Palette,
    /// The business's name, clean.
    pub(super) name: &'a str,
    pub(super) handle: &'a str,
    pub(super) today: Date,
    /// The message that is chosen.
    pub(super) chosen: Option<u64>,
}

impl Look<'_> {
    /// An entry's rows.
    pub(super) fn rows(&self, entry: &Entry<'_>) -> Vec<Line<'static>> {
        match entry {
            Entry::Beginning => self.beginning(),
            Entry::Day(date) => vec![self.rule(&when::day(*date, self.today), Palette::quiet())],
            Entry::Unread(count) => vec![self.rule(&format!("{count} new"), self.palette.waits())],
            Entry::Said { said, under } => self.said(said, *under),
            Entry::Note(note) => self.quiet(&lines(&note.text)),
        }
    }

    fn beginning(&self) -> Vec<Line<'static>> {
        let text = format!(
            "You talk to {} (@{}).\nYou two can read what is written here, and those who read there;\nthe relay in between cannot.\nThe business hears of you when you write.",
            self.name, self.handle
        );
        self.quiet(&text)
    }

    /// Words in the middle, not to be looked at twice.
    fn quiet(&self, text: &str) -> Vec<Line<'static>> {
        let room = self.room.saturating_sub(4).min(WIDEST);
        let rows = text.lines().flat_map(|line| balanced(line, room));
        rows.map(|row| Line::from(Span::styled(row, Palette::quiet())).centered()).collect()
    }

    /// A word on a rule.
    fn rule(&self, word: &str, style: Style) -> Line<'static> {
        let word = cut(word, self.room.saturating_sub(6));
        let each = self.room.saturating_sub(width(&word) + 4) / 2;
        let side = "─".repeat(each.min(24));
        Line::from(Span::styled(format!("{side} {word} {side}"), style)).centered()
    }

    fn said(&self, said: &Said, under: Date) -> Vec<Line<'static>> {
        let message = &said.message;
        let room = if self.room >= 60 { (self.room * 7 / 10).min(WIDEST) } else { self.room.saturating_sub(4) };
        let room = room.saturating_sub(BAR).max(8);
        let mut block = Vec::new();
        if let Some(answered) = message.reply_to.filter(|_| is_said(&message.shown)) {
            block.push(self.quote(&self.history.quote(&answered), room));
        }
        let (text, style) = self.body(message);
        block.extend(wrapped(&text, room).into_iter().map(|row| vec![Span::styled(row, style)]));
        add_tail(&mut block, self.tail(said, under), room);
        if message.status == Status::Failed && message.direction == Direction::Outgoing {
            let reason = wrapped(&format!("✗ not delivered: {}", why(message.failure)), room);
            block.extend(reason.into_iter().map(|row| vec![Span::styled(row, self.palette.wrong())]));
        }
        let mut rows = self.beside_bar(block, message.direction, self.chosen == Some(message.order));
        rows.extend(self.reactions(message));
        if message.breach {
            rows.extend(self.quiet(breach(message)));
        }
        rows
    }

    fn quote(&self, quote: &Quote, room: usize) -> Vec<Span<'static>> {
        let whose = match quote.whose {
            Some(Direction::Outgoing) => "You: ".to_owned(),
            Some(Direction::Incoming) => format!("{}: ", cut(self.name, room / 3)),
            None => String::new(),
        };
        vec![Span::styled(cut(&format!("┆ {whose}{}", quote.text), room), Palette::quiet())]
    }

    fn body(&self, message: &Message) -> (String, Style) {
        let words = |text: String| (text, Palette::quiet().add_modifier(Modifier::ITALIC));
        match (&message.shown, message.direction) {
            (Shown::Text(text), _) => (lines(text).trim_end().to_owned(), Style::new()),
            (Shown::File(card), direction) => {
                (lines(&files::shown(card, &short(&message.id), direction)).trim_end().to_owned(), Style::new())
            }
            (Shown::Interactive(of, card), _) => {
                let answer = self.history.answer_to(message);
                let text = offer::shown(of, card.as_deref(), &short(&message.id), answer);
                (lines(&text).trim_end().to_owned(), Style::new())
            }
            (Shown::Answer(answer), _) => {
                let of = message.reply_to.and_then(|id| self.history.by_id(&id)).and_then(offer::interactive);
                (lines(&offer::answered(answer, of)).trim_end().to_owned(), Style::new())
            }
            (Shown::Location(place), _) => (format!("📍 {}", offer::place(place)), Style::new()),
            (Shown::Contacts(persons), _) => {
                let one = |person| format!("👤 {}", offer::person(person));
                (persons.iter().map(one).collect::<Vec<_>>().join("\n"), Style::new())
            }
            (Shown::Deleted, Direction::Outgoing) => words("You took this message back.".to_owned()),
            (Shown::Deleted, Direction::Incoming) => words("This message was taken back.".to_owned()),
            (Shown::Unsupported(kind), _) if !kind.is_empty() => {
                words(format!("Something that this version cannot show ({}).", one_line(kind, 60)))
            }
            (Shown::Unreadable, _) => words("A message that cannot be read; it is kept as it came.".to_owned()),
            _ => words("Something that this version cannot show.".to_owned()),
        }
    }

    /// What stands after the text: edited, time, ticks.
    fn tail(&self, said: &Said, under: Date) -> Vec<Span<'static>> {
        let message = &said.message;
        let edited = if message.edited && !message.deleted { "edited " } else { "" };
        let mut tail = vec![Span::styled(format!("{edited}{}", when::time(said.at, under)), Palette::quiet())];
        if message.direction == Direction::Outgoing && !message.deleted {
            tail.push(self.ticks(message.status));
        }
        tail
    }

    fn ticks(&self, status: Status) -> Span<'static> {
        match status {
            Status::Queued => Span::styled(" 🕓", self.palette.waits()),
            Status::Sent => Span::styled(" ✓", Palette::quiet()),
            Status::Delivered => Span::styled(" ✓✓", Palette::quiet()),
            Status::Read if self.palette == Palette::Plain => Span::styled(" ✓✓ read", Palette::strong()),
            Status::Read => Span::styled(" ✓✓", self.palette.read()),
            Status::Failed => Span::styled(" ✗", self.palette.wrong()),
            Status::Received => Span::raw(""),
        }
    }

    /// A block on its side, beside its bar.
    fn beside_bar(&self, block: Vec<Vec<Span<'static>>>, side: Direction, is_chosen: bool) -> Vec<Line<'static>> {
        let inner = block.iter().map(|row| columns(row)).max().unwrap_or(0);
        let row = |mut spans: Vec<Span<'static>>| {
            let missing = inner.saturating_sub(columns(&spans));
            if is_chosen || side == Direction::Outgoing {
                spans.push(Span::raw(" ".repeat(missing)));
            }
            if is_chosen {
                spans.iter_mut().for_each(|span| span.style = span.style.patch(Palette::chosen()));
            }
            match side {
                Direction::Incoming => spans.insert(0, Span::styled("▌ ", self.palette.business())),
                Direction::Outgoing => {
                    let before = self.room.saturating_sub(inner + BAR);
                    spans.insert(0, Span::raw(" ".repeat(before)));
                    spans.push(Span::styled(" ▐", self.palette.own()));
                }
            }
            Line::from(spans)
        };
        block.into_iter().map(row).collect()
    }

    fn reactions(&self, message: &Message) -> Option<Line<'static>> {
        if message.reactions.is_empty() {
            return None;
        }
        let one = |(whose, emoji): &(Direction, String)| match whose {
            Direction::Outgoing => format!("{} you", one_line(emoji, 16)),
            Direction::Incoming => one_line(emoji, 16),
        };
        let all = message.reactions.iter().map(one).collect::<Vec<_>>().join("  ");
        let text = match message.direction {
            Direction::Incoming => format!("  ╰ {all}"),
            Direction::Outgoing => {
                let text = format!("{all} ╯  ");
                format!("{}{text}", " ".repeat(self.room.saturating_sub(width(&text))))
            }
        };
        Some(Line::from(text))
    }
}

/// Puts the tail at the end of the last row if it fits there, else under it; at the block's right edge.
fn add_tail(block: &mut Vec<Vec<Span<'static>>>, tail: Vec<Span<'static>>, room: usize) {
    const APART: usize = 2;
    let needs = columns(&tail);
    let inner = block.iter().map(|row| columns(row)).max().unwrap_or(0);
    let last = block.last().map_or(0, |row| columns(row));
    if last + APART + needs <= room {
        let before = inner.max(last + APART + needs) - needs - last;
        if let Some(row) = block.last_mut() {
            row.push(Span::raw(" ".repeat(before)));
            row.extend(tail);
        }
    } else {
        let mut row = vec![Span::raw(" ".repeat(inner.saturating_sub(needs)))];
        row.extend(tail);
        block.push(row);
    }
}

fn columns(spans: &[Span<'_>]) -> usize {
    spans.iter().map(|span| width(&span.content)).sum()
}

#[cfg(test)]
mod tests {
    use bulla_client::event::Failure;
    use jiff::tz::TimeZone;

    use super::super::fixtures::{id, own, theirs};
    use super::*;

    /// The rows of a message, as they stand on a screen of so many columns.
    fn shown(message: Message, room: usize, palette: Palette) -> Vec<String> {
        let mut history = History::new(TimeZone::UTC);
        let order = message.order;
        history.page(vec![theirs(1, "What can I get you?"), message], 100);
        let look = Look {
            history: &history,
            room,
            palette,
            name: "Cortado Coffee",
            handle: "cortado",
            today: Date::constant(2025, 3, 1),
            chosen: None,
        };
        let entries = history.entries();
        let is_it = |entry: &Entry<'_>| matches!(entry, Entry::Said { said, .. } if said.message.order == order);
        let entry = entries.iter().map(|placed| &placed.entry).find(|entry| is_it(entry)).unwrap();
        let row = |line: Line<'_>| {
            let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
            assert!(width(&text) <= room, "{text:?} is wider than {room}");
            text
        };
        look.rows(entry).into_iter().map(row).collect()
    }

    fn with(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
        change(&mut message);
        message
    }

    #[test]
    fn sides_times_and_ticks() {
        let ticks = |status| shown(with(own(2, "A tea"), |m| m.status = status), 30, Palette::Coloured);
        assert_eq!(shown(theirs(2, "Hello"), 30, Palette::Coloured), ["▌ Hello  12:02"]);
        assert_eq!(ticks(Status::Queued), ["             A tea  12:02 🕓 ▐"]);
        assert_eq!(ticks(Status::Sent), ["              A tea  12:02 ✓ ▐"]);
        assert_eq!(ticks(Status::Delivered), ["             A tea  12:02 ✓✓ ▐"]);
        assert_eq!(ticks(Status::Read), ["             A tea  12:02 ✓✓ ▐"]);
        let failed = with(own(2, "A tea"), |m| (m.status, m.failure) = (Status::Failed, Some(Failure::WindowClosed)));
        assert_eq!(
            shown(failed, 30, Palette::Coloured),
            ["      A tea  12:02 ✗         ▐", "      ✗ not delivered: the   ▐", "      time to answer is over ▐",]
        );
        let read = shown(with(own(2, "A tea"), |m| m.status = Status::Read), 30, Palette::Plain);
        assert_eq!(read, ["        A tea  12:02 ✓✓ read ▐"], "without colours it is said");
    }

    #[test]
    fn long_texts_wrap_on_their_side() {
        let text = "Two flat whites, please, and a glass of water for my dog";
        assert_eq!(
            shown(with(own(2, text), |m| m.status = Status::Sent), 34, Palette::Coloured),
            [
                "    Two flat whites, please, and ▐",
                "    a glass of water for my dog  ▐",
                "                         12:02 ✓ ▐",
            ]
        );
        let wide = shown(theirs(2, &"long ".repeat(40)), 200, Palette::Coloured);
        assert!(wide.iter().all(|row| width(row) <= WIDEST), "{wide:?}");
    }

    #[test]
    fn answers_edits_reactions_and_withdrawals() {
        let reply = with(own(2, "Yes"), |m| {
            (m.reply_to, m.edited, m.status) = (Some(id(1)), true, Status::Sent);
            m.reactions = vec![(Direction::Incoming, "👍".into())];
        });
        assert_eq!(
            shown(reply, 40, Palette::Coloured),
            [
                "    ┆ Cortado Co…: What can I get you? ▐",
                "    Yes                 edited 12:02 ✓ ▐",
                "                                  👍 ╯  ",
            ]
        );
        let reacted = with(theirs(2, "Bye"), |m| {
            m.reactions = vec![(Direction::Outgoing, "❤️".into()), (Direction::Incoming, "😂".into())];
        });
        assert_eq!(shown(reacted, 40, Palette::Coloured), ["▌ Bye  12:02", "  ╰ ❤️ you  😂"]);
        let gone = with(theirs(2, ""), |m| (m.shown, m.deleted, m.edited) = (Shown::Deleted, true, true));
        assert_eq!(shown(gone, 50, Palette::Coloured), ["▌ This message was taken back.  12:02"]);
        let odd = with(theirs(2, ""), |m| m.shown = Shown::Unsupported("video/x\u{1b}[2J".into()));
        let rows = shown(odd, 100, Palette::Coloured);
        assert_eq!(rows, ["▌ Something that this version cannot show (video/x [2J).  12:02"]);
        let unread = with(theirs(2, ""), |m| m.shown = Shown::Unreadable);
        assert!(shown(unread, 80, Palette::Coloured)[0].contains("cannot be read"));
        let breach = with(theirs(2, "Buy!"), |m| m.breach = true);
        assert_eq!(
            shown(breach, 80, Palette::Coloured),
            ["▌ Buy!  12:02", "the business wrote outside the time in which it may answer"]
        );
    }

    #[test]
    fn what_steers_a_terminal_does_not_come_through() {
        let nasty = "\u{1b}[2J\u{1b}]0;title\u{7}a\u{202e}b\u{200b}c\r\u{9b}31m\u{2066}d";
        let message = with(theirs(2, nasty), |m| m.reactions = vec![(Direction::Incoming, "\u{1b}c👍".into())]);
        for row in shown(message, 60, Palette::Coloured) {
            assert!(!row.chars().any(crate::text::is_steering), "{row:?}");
        }
    }
}
