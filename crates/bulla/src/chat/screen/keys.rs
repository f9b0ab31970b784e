//! What keys, the wheel and pastes do. [`super::help`] lists it for people.

use bulla_client::event::{Direction, Draft, Message, Shown};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEvent, MouseEventKind};
use unicode_segmentation::UnicodeSegmentation as _;

use super::history::Key;
use super::model::{Ask, Context, Mode, Model};
use super::view::View;
use crate::chat::short;

/// Rows per notch of the wheel.
const NOTCH: isize = 3;

/// The emoji that are at hand.
pub(super) const EMOJI: [&str; 6] = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

/// Characters of an emoji that is typed.
const LONGEST_EMOJI: usize = 12;

impl Model {
    /// A key.
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        // Whoever types looks, also where a multiplexer swallowed that the focus came back.
        self.focus(true);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match (key.code, control) {
            (KeyCode::F(1), _) => self.help = if self.help.is_some() { None } else { Some(0) },
            (KeyCode::Char('l'), true) => self.repaint = true,
            _ if self.help.is_some() => self.help_key(key.code),
            (KeyCode::PageUp, _) => self.scroll(-self.page()),
            (KeyCode::PageDown, _) => self.scroll(self.page()),
            (KeyCode::Home, true) => self.go_to_top(),
            (KeyCode::End, true) => self.view = View::Bottom,
            _ => match self.mode.clone() {
                Mode::Writing => self.writing(key),
                Mode::Choosing(order) => self.choosing(order, key),
                Mode::Reacting { order, emoji, typed } => self.reacting(order, emoji, typed, key),
                Mode::Deleting(order) => self.deleting(order, key.code),
            },
        }
    }

    /// The wheel.
    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        let by = match mouse.kind {
            MouseEventKind::ScrollUp => -NOTCH,
            MouseEventKind::ScrollDown => NOTCH,
            _ => return,
        };
        match self.help {
            Some(_) => self.scroll_help(by),
            None => self.scroll(by),
        }
    }

    /// Text that was pasted in one piece.
    pub(super) fn paste(&mut self, text: &str) {
        if self.help.is_some() || self.is_stopped() {
            return;
        }
        if let Mode::Reacting { typed, .. } = &mut self.mode {
            typed.push_str(&crate::text::one_line(text, LONGEST_EMOJI));
            return;
        }
        self.mode = Mode::Writing;
        if !self.editor.insert(text) {
            self.trouble("the end of what you pasted was left out: it is far longer than a message can be");
        }
        self.touched();
    }

    fn page(&self) -> isize {
        isize::try_from(self.seen.room.1.saturating_sub(2).max(1)).unwrap_or(1)
    }

    fn go_to_top(&mut self) {
        self.view = self.rows(|rows| rows.at((0, 0), self.seen.room.1));
    }

    fn help_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up => self.scroll_help(-1),
            KeyCode::Down => self.scroll_help(1),
            KeyCode::PageUp => self.scroll_help(-self.page()),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll_help(self.page()),
            KeyCode::Home => self.help = Some(0),
            KeyCode::End => self.help = Some(self.seen.help_end),
            _ => self.help = None,
        }
    }

    fn scroll_help(&mut self, by: isize) {
        self.help = self.help.map(|row| row.saturating_add_signed(by).min(self.seen.help_end));
    }

    fn writing(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let empty = self.editor.is_empty();
        match key.code {
            KeyCode::Char('c') if control => return self.interrupt(),
            KeyCode::Char('d') if control && empty => return self.leaves = true,
            KeyCode::Up | KeyCode::Down if alt => return self.choose_newest(),
            KeyCode::Esc => return self.escape(),
            _ if self.is_stopped() => return self.stopped(key.code),
            KeyCode::Enter if alt || shift => drop(self.editor.insert("\n")),
            KeyCode::Char('j') if control => drop(self.editor.insert("\n")),
            KeyCode::Enter => return self.submit(),
            KeyCode::Up => return self.up(),
            KeyCode::Down => return self.down(),
            KeyCode::Left if control || alt => return self.editor.word_left(),
            KeyCode::Right if control || alt => return self.editor.word_right(),
            KeyCode::Char('b') if alt => return self.editor.word_left(),
            KeyCode::Char('f') if alt => return self.editor.word_right(),
            KeyCode::Left => return self.editor.left(),
            KeyCode::Right => return self.editor.right(),
            KeyCode::Home if empty => return self.go_to_top(),
            KeyCode::End if empty => return self.view = View::Bottom,
            KeyCode::Home => return self.editor.home(),
            KeyCode::End => return self.editor.end(),
            KeyCode::Char('a') if control => return self.editor.home(),
            KeyCode::Char('e') if control => return self.editor.end(),
            KeyCode::Backspace if alt || control => self.editor.delete_word_left(),
            KeyCode::Char('w') if control => self.editor.delete_word_left(),
            KeyCode::Char('d') if alt => self.editor.delete_word_right(),
            KeyCode::Delete if alt || control => self.editor.delete_word_right(),
            KeyCode::Char('u') if control => self.editor.delete_to_home(),
            KeyCode::Char('k') if control => self.editor.delete_to_end(),
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Char('h') if control => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Char('d') if control => self.editor.delete(),
            KeyCode::Tab => drop(self.editor.insert("\t")),
            KeyCode::Char(c) if !control && !alt => drop(self.editor.insert(c.encode_utf8(&mut [0; 4]))),
            _ => return,
        }
        self.touched();
    }

    /// Without a mailbox nothing can be written; one can still read.
    fn stopped(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up => self.scroll(-1),
            KeyCode::Down => self.scroll(1),
            KeyCode::Home => self.go_to_top(),
            KeyCode::End => self.view = View::Bottom,
            _ => {}
        }
    }

    /// Ctrl-C: gives up what one is at; with nothing to give up, leaves.
    fn interrupt(&mut self) {
        if self.editor.is_empty() && self.context == Context::Nothing {
            self.leaves = true;
            return;
        }
        let line = self.editor.take();
        if !line.trim().is_empty() {
            self.recall.said(&line);
        }
        self.give_up_context();
        self.touched();
        self.remark("Ctrl-C again leaves; Up brings back what you wrote");
    }

    /// Esc: gives up what the text belongs to; with nothing to give up, chooses a message.
    fn escape(&mut self) {
        if self.context == Context::Nothing { self.choose_newest() } else { self.give_up_context() }
    }

    pub(super) fn give_up_context(&mut self) {
        match std::mem::replace(&mut self.context, Context::Nothing) {
            Context::Edit(_, before) => self.editor.set(&before),
            Context::Form(_) => self.remark("the form is given up; nothing was sent"),
            Context::Reply(_) | Context::Nothing => {}
        }
    }

    fn choose_newest(&mut self) {
        if self.is_stopped() {
            return;
        }
        match self.newest_in_sight() {
            Some(order) => self.choose(order),
            None => self.remark("there is no message yet"),
        }
    }

    /// The newest message of those that one sees.
    fn newest_in_sight(&self) -> Option<u64> {
        let in_sight = self.seen.newest.filter(|order| self.view != View::Bottom && self.message_at(*order).is_some());
        in_sight.or_else(|| self.history.beside(None, false))
    }

    fn up(&mut self) {
        let recalls = self.editor.is_empty() || self.recall.shows(self.editor.text());
        if self.editor.up(self.seen.writing) || !recalls {
            return;
        }
        if let Some(line) = self.recall.back() {
            self.editor.set(line);
        }
    }

    fn down(&mut self) {
        let recalls = self.recall.shows(self.editor.text());
        if self.editor.down(self.seen.writing) || !recalls {
            return;
        }
        let line = self.recall.forth().to_owned();
        self.editor.set(&line);
    }

    fn choosing(&mut self, order: u64, key: KeyEvent) {
        let Some(message) = self.message_at(order).cloned() else { return self.mode = Mode::Writing };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.mode = Mode::Writing,
            KeyCode::Esc => self.mode = Mode::Writing,
            KeyCode::Up | KeyCode::Char('k') => self.step(order, false),
            KeyCode::Down | KeyCode::Char('j') => self.step(order, true),
            KeyCode::Home => self.go_to_top(),
            KeyCode::End => self.history.beside(None, false).into_iter().for_each(|newest| self.choose(newest)),
            KeyCode::Char('?') => self.help = Some(0),
            KeyCode::Char('r') | KeyCode::Enter => match can_answer(&message) {
                Ok(()) => {
                    self.give_up_context();
                    self.context = Context::Reply(order);
                    self.mode = Mode::Writing;
                }
                Err(why) => self.trouble(why),
            },
            KeyCode::Char('e') => match can_edit(&message) {
                Ok(text) => {
                    self.give_up_context();
                    let before = self.editor.take();
                    self.editor.set(text);
                    self.context = Context::Edit(order, before);
                    self.mode = Mode::Writing;
                }
                Err(why) => self.trouble(why),
            },
            KeyCode::Char('d') | KeyCode::Delete => match can_delete(&message) {
                Ok(()) => self.mode = Mode::Deleting(order),
                Err(why) => self.trouble(why),
            },
            KeyCode::Char('+' | ':') => match can_answer(&message) {
                Ok(()) => self.mode = Mode::Reacting { order, emoji: 0, typed: String::new() },
                Err(why) => self.trouble(why),
            },
            KeyCode::Char('c') => {
                let id = short(&message.id);
                self.remark(&format!("this message's ID is {id}, as in /reply {id} TEXT"));
            }
            _ => {}
        }
    }

    /// The next message up or down; below the newest, back to writing.
    fn step(&mut self, order: u64, later: bool) {
        match self.history.beside(Some(order), later) {
            Some(next) => self.choose(next),
            None if later => (self.mode, self.view) = (Mode::Writing, View::Bottom),
            // Nothing more is loaded above: show what stands there.
            None => {
                self.view = self.rows(|rows| rows.showing(self.view, Key::said(order), self.seen.room.1));
                self.scroll(-NOTCH);
            }
        }
    }

    fn reacting(&mut self, order: u64, emoji: usize, mut typed: String, key: KeyEvent) {
        let Some(message) = self.message_at(order).cloned() else { return self.mode = Mode::Writing };
        let last = EMOJI.len() - 1;
        let now = |emoji, typed| Mode::Reacting { order, emoji, typed };
        match key.code {
            KeyCode::Esc => self.mode = Mode::Choosing(order),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.mode = Mode::Choosing(order),
            KeyCode::Left => self.mode = now(emoji.checked_sub(1).unwrap_or(last), String::new()),
            KeyCode::Right => self.mode = now(if emoji == last { 0 } else { emoji + 1 }, String::new()),
            KeyCode::Char('0') | KeyCode::Delete if typed.is_empty() => self.react(&message, None),
            KeyCode::Char(c @ '1'..='6') if typed.is_empty() => {
                let chosen = c.to_digit(10).and_then(|digit| EMOJI.get(digit as usize - 1));
                self.react(&message, chosen.copied());
            }
            KeyCode::Backspace => {
                let shorter = typed.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
                typed.truncate(shorter);
                self.mode = now(emoji, typed);
            }
            KeyCode::Enter if typed.is_empty() => self.react(&message, EMOJI.get(emoji).copied()),
            KeyCode::Enter => self.react(&message, Some(&typed)),
            KeyCode::Char(c) if typed.chars().count() < LONGEST_EMOJI && !crate::text::is_steering(c) => {
                typed.push(c);
                self.mode = now(emoji, typed);
            }
            _ => {}
        }
    }

    fn react(&mut self, message: &Message, emoji: Option<&str>) {
        self.mode = Mode::Writing;
        if emoji.is_none() && !message.reactions.iter().any(|(whose, _)| *whose == Direction::Outgoing) {
            return self.remark("there is no reaction of yours on that message");
        }
        let draft = Draft::Reaction { to: message.id, emoji: emoji.map(str::to_owned) };
        self.asks.push(Ask::Send(draft, None));
    }

    fn deleting(&mut self, order: u64, code: KeyCode) {
        match code {
            KeyCode::Char('y' | 'Y') => {
                self.mode = Mode::Writing;
                let draft = self.message_at(order).map(|message| Draft::Delete { of: message.id });
                self.asks.extend(draft.map(|draft| Ask::Send(draft, None)));
            }
            _ => self.mode = Mode::Choosing(order),
        }
    }
}

/// What can be done with a message: only what is still there can be answered.
fn can_answer(message: &Message) -> Result<(), &'static str> {
    match message.shown {
        Shown::Deleted => Err("that message was taken back"),
        _ => Ok(()),
    }
}

fn can_edit(message: &Message) -> Result<&str, &'static str> {
    match (&message.shown, message.direction) {
        (Shown::Text(text), Direction::Outgoing) => Ok(text),
        (Shown::Deleted, _) => Err("that message was taken back"),
        _ => Err("only your own texts can be edited"),
    }
}

fn can_delete(message: &Message) -> Result<(), &'static str> {
    match (&message.shown, message.direction) {
        (Shown::Deleted, _) => Err("that message was taken back"),
        (_, Direction::Outgoing) => Ok(()),
        (_, Direction::Incoming) => Err("only your own messages can be taken back"),
    }
}
