//! The help: whom one talks to, who can read, the keys, the commands.

use bulla_client::event::Conversation;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::palette::Palette;
use super::wrap::{width, wrapped};
use crate::chat::command;
use crate::text::one_line;

const KEYS: &[(&str, &str)] = &[
    ("Enter", "says it"),
    ("Alt+Enter, Ctrl+J", "a new line"),
    ("Up", "with nothing written: what you said before"),
    ("PgUp PgDn, wheel", "older and newer; Home and End with nothing written"),
    ("Alt+Up, Esc", "chooses a message"),
    ("Ctrl+C, Ctrl+D", "leaves, with nothing written"),
    ("Ctrl+L", "draws the screen anew"),
    ("Shift+mouse", "marks text, as the terminal does it"),
];

const CHOSEN: &[(&str, &str)] = &[
    ("Up Down", "another message"),
    ("r, Enter", "answers it"),
    ("+, :", "reacts to it, with any emoji"),
    ("e", "gives your own a new text"),
    ("d", "takes your own back"),
    ("c", "shows its ID, for the commands"),
    ("Esc", "back to writing"),
];

const SIGNS: &[(&str, &str)] = &[
    ("🕓", "kept here, not sent yet"),
    ("✓", "the relay has it, sealed"),
    ("✓✓", "the business has it; in colour: read"),
    ("✗", "not delivered"),
];

/// Columns of the left side, where there is room for two.
const LEFT: usize = 20;

/// The help in rows of so many columns.
pub(super) fn rows(conversation: &Conversation, room: usize) -> Vec<Line<'static>> {
    let mut help = Help { rows: Vec::new(), room };
    help.title("You talk to");
    help.text(&format!("{} (@{})", one_line(&conversation.peer_name, 60), conversation.handle));
    help.text("Its key is the one in your link. If you have the link from the business itself, it is the business.");
    help.title("Who can read there, as the business says");
    if conversation.readers.is_empty() {
        help.text("the business itself");
    }
    for (name, role) in &conversation.readers {
        help.text(&format!("{} ({})", one_line(name, 60), one_line(role, 60)));
    }
    help.title("You are to it");
    help.text(&format!("{}, and to nobody else", conversation.user_id));
    help.table("Keys", KEYS.iter().copied());
    help.table("Keys for a chosen message", CHOSEN.iter().copied());
    help.table("Signs", SIGNS.iter().copied());
    let commands = command::HELP.lines().filter_map(|line| line.trim_start().split_once("  "));
    help.table("Commands", commands.map(|(command, words)| (command, words.trim_start())));
    help.rows
}

struct Help {
    rows: Vec<Line<'static>>,
    room: usize,
}

impl Help {
    fn title(&mut self, text: &str) {
        if !self.rows.is_empty() {
            self.rows.push(Line::default());
        }
        self.put(text, Palette::strong());
    }

    fn text(&mut self, text: &str) {
        self.put(text, Style::new());
    }

    fn put(&mut self, text: &str, style: Style) {
        self.rows.extend(wrapped(text, self.room).into_iter().map(|row| Line::styled(row, style)));
    }

    fn table<'t>(&mut self, title: &str, rows: impl Iterator<Item = (&'t str, &'t str)>) {
        self.title(title);
        for (left, right) in rows {
            if self.room < 2 * LEFT {
                self.text(left);
                let right = wrapped(right, self.room.saturating_sub(2)).into_iter();
                self.rows.extend(right.map(|row| Line::styled(format!("  {row}"), Palette::quiet())));
                continue;
            }
            let mut left = format!("{left}{}", " ".repeat(LEFT.saturating_sub(width(left))));
            for row in wrapped(right, self.room.saturating_sub(LEFT)) {
                let blank = " ".repeat(LEFT);
                let left = std::mem::replace(&mut left, blank);
                self.rows.push(Line::from(vec![Span::raw(left), Span::styled(row, Palette::quiet())]));
            }
        }
    }
}
