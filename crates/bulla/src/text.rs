//! Text that others wrote, made harmless for a terminal, and back.

/// Characters that steer a terminal or turn the direction of writing: never printed as they are (DEV-11).
pub(crate) fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
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
    fn errors_end_like_sentences() {
        assert_eq!(sentence("the link was cut"), "the link was cut.");
        assert_eq!(sentence("was it cut?\n"), "was it cut?");
    }
}
