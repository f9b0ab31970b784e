//! What is being written: text and a cursor, in grapheme clusters.
//!
//! Kept editor widgets move by `char` and know no soft wrapping, so that a cursor can stand inside of an emoji and a long line runs out of the
//! window; this is a string and a place in it. What comes in is cleaned as what others write is: one sends what one sees.

use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation as _};

use super::wrap;

/// The editor does not grow beyond this: four times what can be sent, so that a paste can be cut to size by hand.
const MOST: usize = 4 * bulla_client::engine::commands::MAX_TEXT;

/// Text being written.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    /// Bytes before the cursor; always between two clusters.
    at: usize,
    /// The column that moving up and down aims at.
    column: Option<usize>,
}

/// The text in rows, and where the cursor is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Laid {
    pub(super) rows: Vec<Range<usize>>,
    /// Row, column.
    pub(super) cursor: (usize, usize),
}

impl Editor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Characters, as the limit counts them.
    pub(super) fn chars(&self) -> usize {
        self.text.chars().count()
    }

    /// Another text, with the cursor at its end.
    pub(super) fn set(&mut self, text: &str) {
        self.text = crate::text::lines(text);
        self.at = self.text.len();
        self.column = None;
    }

    /// Takes the text out.
    pub(super) fn take(&mut self) -> String {
        (self.at, self.column) = (0, None);
        std::mem::take(&mut self.text)
    }

    /// Types or pastes. What does not fit any more is left out; whether everything fitted.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let text = crate::text::lines(text);
        let room = MOST.saturating_sub(self.chars());
        let fits = text.char_indices().nth(room).map_or(text.len(), |(at, _)| at);
        self.text.insert_str(self.at, text.get(..fits).unwrap_or_default());
        self.go(self.at + fits);
        fits == text.len()
    }

    pub(super) fn left(&mut self) {
        self.go(self.before());
    }

    pub(super) fn right(&mut self) {
        self.go(self.after());
    }

    pub(super) fn word_left(&mut self) {
        self.go(self.word_before());
    }

    pub(super) fn word_right(&mut self) {
        self.go(self.word_after());
    }

    /// To the line's beginning.
    pub(super) fn home(&mut self) {
        self.go(self.line().start);
    }

    /// To the line's end.
    pub(super) fn end(&mut self) {
        self.go(self.line().end);
    }

    /// A row up; `false` if there is none.
    pub(super) fn up(&mut self, room: usize) -> bool {
        let row = self.laid(room).cursor.0;
        row > 0 && self.go_to_row(room, row - 1)
    }

    /// A row down; `false` if there is none.
    pub(super) fn down(&mut self, room: usize) -> bool {
        let row = self.laid(room).cursor.0;
        self.go_to_row(room, row + 1)
    }

    pub(super) fn backspace(&mut self) {
        self.remove(self.before()..self.at);
    }

    pub(super) fn delete(&mut self) {
        self.remove(self.at..self.after());
    }

    pub(super) fn delete_word_left(&mut self) {
        self.remove(self.word_before()..self.at);
    }

    pub(super) fn delete_word_right(&mut self) {
        self.remove(self.at..self.word_after());
    }

    /// Everything in the line before the cursor; at its beginning, the line's own beginning.
    pub(super) fn delete_to_home(&mut self) {
        let home = self.line().start;
        self.remove(if home == self.at { self.before()..self.at } else { home..self.at });
    }

    /// Everything in the line after the cursor; at its end, the line's own end.
    pub(super) fn delete_to_end(&mut self) {
        let end = self.line().end;
        self.remove(if end == self.at { self.at..self.after() } else { self.at..end });
    }

    /// The text in rows of so many columns. The cursor needs a column of its own beyond the last.
    pub(super) fn laid(&self, room: usize) -> Laid {
        let rows = wrap::rows(&self.text, room);
        let row = rows.partition_point(|row| row.start <= self.at).saturating_sub(1);
        let before = rows.get(row).and_then(|row| self.text.get(row.start..self.at)).unwrap_or_default();
        // Spaces that stand out of the row do not push the cursor out of the window.
        let cursor = (row, wrap::width(before).min(room));
        Laid { rows, cursor }
    }

    fn go_to_row(&mut self, room: usize, row: usize) -> bool {
        let Laid { rows, cursor } = self.laid(room);
        let Some(range) = rows.get(row).cloned() else { return false };
        let goal = self.column.unwrap_or(cursor.1);
        let is_last = row + 1 == rows.len();
        let text = self.text.get(range.clone()).unwrap_or_default();
        let mut used = 0;
        let mut at = range.start;
        for (offset, cluster) in text.grapheme_indices(true) {
            used += wrap::width(cluster);
            let after = range.start + offset + cluster.len();
            // The end of a wrapped row is the beginning of the next one.
            let ends = after == range.end && !is_last && rows.get(row + 1).is_some_and(|next| next.start == after);
            if used > goal || ends {
                break;
            }
            at = after;
        }
        self.at = at;
        self.column = Some(goal);
        true
    }

    /// Moves the cursor there, or behind the cluster that this is inside of: what was typed may have joined its neighbours.
    fn go(&mut self, to: usize) {
        let mut cursor = GraphemeCursor::new(to, self.text.len(), true);
        let inside = cursor.is_boundary(&self.text, 0) == Ok(false);
        self.at = match inside {
            true => cursor.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len()),
            false => to,
        };
        self.column = None;
    }

    fn remove(&mut self, range: Range<usize>) {
        let to = range.start;
        self.text.replace_range(range, "");
        self.go(to);
    }

    fn before(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.at, self.text.len(), true);
        cursor.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn after(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.at, self.text.len(), true);
        cursor.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    fn word_before(&self) -> usize {
        let words = self.text.unicode_word_indices().map(|(at, _)| at);
        words.take_while(|at| *at < self.at).last().unwrap_or(0)
    }

    fn word_after(&self) -> usize {
        let mut ends = self.text.unicode_word_indices().map(|(at, word)| at + word.len());
        ends.find(|end| *end > self.at).unwrap_or(self.text.len())
    }

    /// The line that the cursor is in, without its end.
    fn line(&self) -> Range<usize> {
        let (before, after) = self.text.split_at(self.at);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        start..after.find('\n').map_or(self.text.len(), |at| self.at + at)
    }
}

/// One's own earlier lines, for the Up key.
#[derive(Debug, Default)]
pub(super) struct Recall {
    lines: Vec<String>,
    at: Option<usize>,
}

impl Recall {
    /// Lines of an earlier time, oldest first, before what is there.
    pub(super) fn older(&mut self, lines: Vec<String>) {
        self.lines.splice(0..0, lines);
    }

    /// A line that was said.
    pub(super) fn said(&mut self, line: &str) {
        self.at = None;
        if self.lines.last().is_none_or(|last| last != line) {
            self.lines.push(line.to_owned());
        }
    }

    /// Whether the editor shows a line that was called back and not changed.
    pub(super) fn shows(&self, text: &str) -> bool {
        self.at.and_then(|at| self.lines.get(at)).is_some_and(|line| line == text)
    }

    /// The line before.
    pub(super) fn back(&mut self) -> Option<&str> {
        let at = self.at.unwrap_or(self.lines.len()).checked_sub(1)?;
        self.at = Some(at);
        self.lines.get(at).map(String::as_str)
    }

    /// The line after; empty behind the last one.
    pub(super) fn forth(&mut self) -> &str {
        self.at = self.at.map(|at| at + 1).filter(|at| *at < self.lines.len());
        self.at.and_then(|at| self.lines.get(at)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.set(text);
        editor
    }

    /// The text with a bar where the cursor is.
    fn shown(editor: &Editor) -> String {
        format!("{}|{}", &editor.text[..editor.at], &editor.text[editor.at..])
    }

    #[test]
    fn the_cursor_moves_by_what_people_call_characters() {
        let mut e = editor("a👨‍👩‍👧e\u{301}");
        e.left();
        assert_eq!(shown(&e), "a👨‍👩‍👧|e\u{301}");
        e.left();
        assert_eq!(shown(&e), "a|👨‍👩‍👧e\u{301}");
        e.right();
        e.backspace();
        assert_eq!(shown(&e), "a|e\u{301}");
        e.delete();
        assert_eq!(shown(&e), "a|");
        e.delete();
        e.right();
        assert_eq!(shown(&e), "a|");
        e.backspace();
        e.backspace();
        assert_eq!(shown(&e), "|");
    }

    #[test]
    fn an_emoji_that_is_typed_in_pieces_becomes_one() {
        let mut e = editor("xy");
        e.left();
        for piece in ["👍", "\u{1f3fd}", "👩", "\u{200d}", "💻"] {
            e.insert(piece);
        }
        assert_eq!(shown(&e), "x👍🏽👩‍💻|y");
        e.backspace();
        e.backspace();
        assert_eq!(shown(&e), "x|y");
        // A mark that joins what follows it takes the cursor behind both.
        let mut e = editor("\u{1f3fd}z");
        e.home();
        e.insert("👍");
        assert_eq!(shown(&e), "👍🏽|z");
    }

    #[test]
    fn words_and_lines_are_moved_over_and_deleted() {
        let mut e = editor("say: hello, wörld\nsecond line");
        e.word_left();
        e.word_left();
        assert_eq!(shown(&e), "say: hello, wörld\n|second line");
        e.word_left();
        assert_eq!(shown(&e), "say: hello, |wörld\nsecond line");
        e.word_right();
        assert_eq!(shown(&e), "say: hello, wörld|\nsecond line");
        e.delete_word_left();
        assert_eq!(shown(&e), "say: hello, |\nsecond line");
        e.delete_to_home();
        assert_eq!(shown(&e), "|\nsecond line");
        e.delete_to_end();
        assert_eq!(shown(&e), "|second line");
        e.delete_word_right();
        assert_eq!(shown(&e), "| line");
        e.end();
        assert_eq!(shown(&e), " line|");
        e.home();
        e.delete_to_end();
        assert_eq!(shown(&e), "|");
        let mut e = editor("a\nb");
        e.home();
        e.delete_to_home();
        assert_eq!(shown(&e), "a|b");
    }

    #[test]
    fn moving_up_and_down_keeps_the_column_over_short_and_wrapped_rows() {
        // In ten columns: "first line", "x", "a third ", "one".
        let mut e = editor("first line\nx\na third one");
        assert_eq!(e.laid(10).rows.len(), 4);
        assert_eq!(e.laid(10).cursor, (3, 3));
        assert!(e.up(10));
        assert_eq!(shown(&e), "first line\nx\na t|hird one");
        assert!(e.up(10));
        assert_eq!(shown(&e), "first line\nx|\na third one");
        assert!(e.up(10));
        assert_eq!(shown(&e), "fir|st line\nx\na third one");
        assert!(!e.up(10));
        assert!(e.down(10) && e.down(10));
        assert_eq!(shown(&e), "first line\nx\na t|hird one");
        e.end();
        assert_eq!(e.laid(10).cursor, (3, 3));
        assert!(!e.down(10));
    }

    #[test]
    fn the_cursor_stands_where_the_next_character_will() {
        assert_eq!(editor("").laid(5).cursor, (0, 0));
        assert_eq!(editor("abcde").laid(5).cursor, (0, 5), "a column beyond the last is kept free");
        assert_eq!(editor("abcdef").laid(5).cursor, (1, 1));
        assert_eq!(editor("ab\n").laid(5).cursor, (1, 0));
        assert_eq!(editor("你好").laid(5).cursor, (0, 4));
        assert_eq!(editor("abcde    ").laid(5).cursor, (0, 5));
    }

    #[test]
    fn what_is_pasted_is_clean_and_bounded() {
        let mut e = Editor::default();
        assert!(e.insert("a\r\nb\u{1b}[31m\u{202e}c\td"));
        assert_eq!(e.text(), "a\nb[31mc    d");
        assert!(!e.insert(&"é".repeat(MOST)), "it is told that something was left out");
        assert_eq!(e.chars(), MOST);
        assert!(!e.insert("x"));
    }

    #[test]
    fn own_lines_come_back() {
        let mut recall = Recall::default();
        assert_eq!(recall.back(), None);
        recall.said("one");
        recall.said("two");
        recall.said("two");
        recall.older(vec!["zero".into()]);
        assert_eq!(recall.back(), Some("two"));
        assert!(recall.shows("two") && !recall.shows("two!"));
        assert_eq!(recall.back(), Some("one"));
        assert_eq!(recall.back(), Some("zero"));
        assert_eq!(recall.back(), None);
        assert_eq!(recall.forth(), "one");
        assert_eq!(recall.forth(), "two");
        assert_eq!(recall.forth(), "");
        assert_eq!(recall.back(), Some("two"));
    }
}
