//! Text that others wrote, made harmless for a terminal, and back.

use unicode_segmentation::UnicodeSegmentation as _;

/// Characters that steer a terminal, turn the direction of writing, or are there without being seen: never printed as they are (DEV-11).
///
/// The joiners U+200C and U+200D stay: Persian is spelled with the one, families of emoji are made with the other.
pub(crate) fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // direction
            | '\u{2028}' | '\u{2029}' // ends of lines and paragraphs
            | '\u{00ad}' | '\u{034f}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' // unseen
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // fillers: letters that show nothing
            | '\u{fff9}'..='\u{fffb}' // annotations, which hide what they annotate
            | '\u{e0000}'..='\u{e007f}' // tags: a whole alphabet that shows nothing
        )
}

/// On one line and reversible: `\\`, `\n`, `\t`, `\u{…}` for everything that steers.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_steering(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// For reading: on one line, steering characters gone, at most `max` characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let clean: String = text.chars().map(|c| if is_steering(c) { ' ' } else { c }).collect();
    let clean = clean.trim();
    match clean.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", clean.get(..at).unwrap_or(clean).trim_end()),
        None => clean.to_owned(),
    }
}

/// For reading over several lines: every end of a line is `\n`, tabs are spaces, what steers is gone, and nothing is piled on one character.
pub(crate) fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\t' => out.push_str(TAB),
            c if is_steering(c) => {}
            c => out.push(c),
        }
    }
    // Marks without end on one letter are drawn over the lines above and below.
    out.graphemes(true).flat_map(|g| g.chars().take(PILED)).collect()
}

/// What a tab is shown as.
const TAB: &str = "    ";

/// Characters that may make up one: the longest emoji has ten.
const PILED: usize = 12;

/// An error as a sentence: with a full stop, if it has no end of its own.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?', ':']) { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_the_rest_is_not() {
        assert_eq!(escape("a\nb\tc\\"), r"a\nb\tc\\");
        assert_eq!(escape("\u{1b}[2J\u{202e}x"), r"\u{1b}[2J\u{202e}x");
        assert_eq!(escape("Grüße 👍🏽 שלום"), "Grüße 👍🏽 שלום");
        assert_eq!(one_line("a\r\n\u{1b}[31mb", 20), "a   [31mb");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("äöü", 3), "äöü");
    }

    #[test]
    fn lines_stay_lines_and_nothing_unseen_comes_through() {
        assert_eq!(lines("a\r\nb\rc\u{2028}d\te"), "a\nb\nc\nd    e");
        assert_eq!(lines("\u{1b}[2J\u{202e}pay\u{200b}pal\u{2066}.example\u{e0041}"), "[2Jpaypal.example");
        assert_eq!(lines("Grüße 👨‍👩‍👧 שלום می‌خواهم ❤️"), "Grüße 👨‍👩‍👧 שלום می‌خواهم ❤️");
        let piled = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(lines(&piled), format!("a{}b", "\u{301}".repeat(PILED - 1)));
    }

    #[test]
    fn every_character_that_turns_the_direction_of_writing_is_known() {
        // Bidi_Control of the Unicode Character Database, all of it.
        let controls =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        assert!(controls.chars().all(is_steering));
        assert_eq!(lines(controls), "");
        assert_eq!(one_line(controls, 9), "");
    }

    #[test]
    fn errors_end_like_sentences() {
        assert_eq!(sentence("the link was cut"), "the link was cut.");
        assert_eq!(sentence("was it cut?\n"), "was it cut?");
    }
}
