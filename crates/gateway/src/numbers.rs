//! Numbers for clients that know nothing but phone numbers.
//!
//! A customer has no phone number here. Clients of the Cloud API that know only `wa_id` get a stable one of 15 digits, the most that
//! E.164 allows, under *890*: the list of country codes assigned under Recommendation ITU-T E.164 (ITU Operational Bulletin, annex)
//! has 890 to 899 as spare, so no telephone ever answers to it, and nobody is called by mistake.
//!
//! The twelve digits behind it come from a keyed hash of the `user_id` under the store's key: they say nothing about the customer, are the
//! same at every start, and differ between businesses. Two customers of one business who would collide (even at a million customers, less
//! than an even chance of one such pair) get different numbers by a counter; what was given is stored and never changes.

/// The country code.
pub(crate) const COUNTRY: &str = "890";

/// How many numbers there are.
pub(crate) const TAILS: u64 = 1_000_000_000_000;

/// The number with a tail; larger tails wrap around.
pub(crate) fn from_tail(tail: u64) -> String {
    format!("{COUNTRY}{:012}", tail.checked_rem(TAILS).unwrap_or(0))
}

/// The number of a hash.
pub(crate) fn from_hash(hash: [u8; 16]) -> String {
    let tail = u128::from_be_bytes(hash).checked_rem(u128::from(TAILS)).unwrap_or(0);
    from_tail(u64::try_from(tail).unwrap_or(0))
}

/// As people read it: `+890 123 456 789 012`.
pub(crate) fn display(digits: &str) -> String {
    let mut out = String::from("+");
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && i % 3 == 0 {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// The digits of a number as clients write it: an optional `+`, then digits, which spaces, dashes, dots and parentheses may divide.
/// `None` if it is no number of 5 to 15 digits.
pub(crate) fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    let rest = text.strip_prefix('+').unwrap_or(text);
    let mut digits = String::new();
    for c in rest.chars() {
        match c {
            '0'..='9' => digits.push(c),
            ' ' | '-' | '.' | '(' | ')' => {}
            _ => return None,
        }
        if digits.len() > 15 {
            return None;
        }
    }
    (digits.len() >= 5).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_fifteen_digits_under_the_spare_code() {
        for tail in [0, 1, TAILS - 1, u64::MAX] {
            let number = from_tail(tail);
            assert_eq!(number.len(), 15);
            assert!(number.starts_with("890"));
            assert_eq!(parse(&number).as_deref(), Some(number.as_str()));
        }
        assert_eq!(from_hash([0xff; 16]).len(), 15);
        assert_eq!(display("890123456789012"), "+890 123 456 789 012");
    }

    #[test]
    fn numbers_are_read_as_clients_write_them() {
        let expected = Some("890123456789012".to_owned());
        for text in ["890123456789012", "+890123456789012", "+890 123-456.789 (012)", " 890123456789012 "] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in ["", "+", "12", "8901234567890123", "89012345678901a", "++890123456789012", "٨٩٠١٢٣٤٥"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
