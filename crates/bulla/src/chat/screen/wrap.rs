//! Text in columns: how wide it is, where it wraps, where it is cut.
//!
//! Counted per grapheme cluster, as the terminal's cells are filled: a family of four is one character of two columns.

use std::ops::Range;

use ratatui::buffer::CellWidth as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// Columns of a text on one line.
pub(super) fn width(text: &str) -> usize {
    text.graphemes(true).map(columns).sum()
}

/// Columns of one grapheme cluster; controls are not shown and have none.
fn columns(cluster: &str) -> usize {
    if cluster.contains(char::is_control) { 0 } else { usize::from(cluster.cell_width()) }
}

/// The rows that a text takes in so many columns, as ranges of bytes that leave out the ends of lines.
///
/// A row ends after a space, or beside a character of two columns (which covers scripts without spaces), and inside of a word only if the word
/// is longer than a row. Spaces at a row's end stay with it, also where they stand out of it.
pub(super) fn rows(text: &str, room: usize) -> Vec<Range<usize>> {
    let room = room.max(2);
    let mut rows = Vec::new();
    let (mut begin, mut used) = (0, 0);
    // Where this row could end, and how many columns it has until there.
    let mut good: Option<(usize, usize)> = None;
    for (at, cluster) in text.grapheme_indices(true) {
        let after = at + cluster.len();
        if cluster == "\n" || cluster == "\r\n" {
            rows.push(begin..at);
            (begin, used, good) = (after, 0, None);
            continue;
        }
        let wide = columns(cluster);
        if wide == 2 && at > begin {
            good = Some((at, used));
        }
        while cluster != " " && used > 0 && used + wide > room {
            let (cut, until) = good.take().unwrap_or((at, used));
            rows.push(begin..cut);
            begin = cut;
            used -= until;
        }
        used += wide;
        if cluster == " " || wide == 2 {
            good = Some((after, used));
        }
    }
    rows.push(begin..text.len());
    rows
}

/// The rows themselves, without the spaces at their ends.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    rows(text, room).into_iter().map(|row| text.get(row).unwrap_or_default().trim_end_matches(' ').to_owned()).collect()
}

/// As few rows as [`wrapped`], of about the same length: for what stands in the middle.
pub(super) fn balanced(text: &str, room: usize) -> Vec<String> {
    let rows = wrapped(text, room);
    let even = width(text).div_ceil(rows.len().max(1));
    (even..room).map(|narrower| wrapped(text, narrower)).find(|narrow| narrow.len() == rows.len()).unwrap_or(rows)
}

/// At most so many columns, with a `…` where something was cut off.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |cluster: &&str| {
        used += columns(cluster);
        used <= room
    };
    let kept: String = text.graphemes(true).take_while(fits).collect();
    if room == 0 { String::new() } else { format!("{}…", kept.trim_end()) }
}

/// The first that fits; if none does, the last one, cut.
pub(super) fn fitting(candidates: &[&str], room: usize) -> String {
    let fits = candidates.iter().find(|text| width(text) <= room);
    fits.or(candidates.last()).map(|text| cut(text, room)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrapped("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrapped("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrapped("a abcdefghijkl b", 5), ["a", "abcde", "fghij", "kl b"]);
        assert_eq!(wrapped("one\n\ntwo\r\nthree", 10), ["one", "", "two", "three"]);
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(wrapped("end\n", 10), ["end", ""]);
        assert_eq!(wrapped("  indented", 20), ["  indented"]);
    }

    #[test]
    fn what_is_one_character_stays_whole_and_counts_as_wide_as_it_is() {
        let family = "👨‍👩‍👧‍👦";
        assert_eq!((width(family), width("é"), width("e\u{301}"), width("你好"), width("")), (2, 1, 1, 4, 0));
        assert_eq!(wrapped(&family.repeat(3), 4), [family.repeat(2), family.to_owned()]);
        assert_eq!(wrapped(&family.repeat(3), 5), [family.repeat(2), family.to_owned()]);
        assert_eq!(wrapped("我想要一杯咖啡", 6), ["我想要", "一杯咖", "啡"]);
        assert_eq!(wrapped("ab 我想要", 6), ["ab 我", "想要"]);
        assert_eq!(wrapped("word我", 5), ["word", "我"]);
    }

    #[test]
    fn rows_are_never_wider_than_their_room_and_lose_nothing() {
        let text = "Grüße,  ein  längerer Text: 你好👨‍👩‍👧 and-a-very-long-word-without-any-space ❤️ e\u{301}\u{301}";
        for room in 2..40 {
            let rows = rows(text, room);
            let whole: String = rows.iter().map(|row| &text[row.clone()]).collect();
            assert_eq!(whole, text);
            for row in rows {
                assert!(width(text[row].trim_end_matches(' ')) <= room, "{room}");
            }
        }
    }

    #[test]
    fn balanced_rows_leave_no_word_alone() {
        assert_eq!(wrapped("one two three four", 15), ["one two three", "four"]);
        assert_eq!(balanced("one two three four", 15), ["one two", "three four"]);
        assert_eq!(balanced("one two", 15), ["one two"]);
        assert_eq!(balanced("", 15), [""]);
    }

    #[test]
    fn cutting_leaves_a_sign() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("你好你好", 6), "你好…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(fitting(&["a long one", "short"], 6), "short");
        assert_eq!(fitting(&["a long one", "shorter"], 4), "sho…");
    }
}
