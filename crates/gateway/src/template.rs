//! Message templates: texts with gaps that the business approved, filled when they are sent.
//!
//! A text with gaps is a [`Pattern`], which only parsing (or the store, from what was parsed) can make: what is filled later was looked at once.
//! What a customer reads is the pattern's words, exactly, with the sender's values in the gaps; nothing in a value is read as a pattern.

/// A template as the store keeps it: one name in one language.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Template {
    /// See [`FIRST_ID`].
    #[n(0)]
    pub(crate) id: u64,
    #[n(1)]
    pub(crate) name: String,
    /// As the Cloud API writes them: `en`, `pt_BR`.
    #[n(2)]
    pub(crate) language: String,
    #[n(3)]
    pub(crate) category: Category,
    #[n(4)]
    pub(crate) status: Status,
    #[n(5)]
    pub(crate) parts: Parts,
    /// `components` as they were given, JSON: they carry the examples, and are shown to who asks.
    #[n(6)]
    pub(crate) components: String,
    /// Grows with each edit.
    #[n(7)]
    pub(crate) version: u32,
    /// Unix ms.
    #[n(8)]
    pub(crate) changed_ms: u64,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Ids of templates begin here, and end below 2^53, because some clients read them as numbers. Media ids, which are microseconds since 1970,
/// come here in the year 2128: an id says what it names.
pub(crate) const FIRST_ID: u64 = 5_000_000_000_000_000;

/// What a template is for: which permit its recipient has to have given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Category {
    #[n(0)]
    Authentication,
    #[n(1)]
    Marketing,
    #[n(2)]
    Utility,
}

impl Category {
    /// All, with the Cloud API's words.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Authentication, "AUTHENTICATION"), (Self::Marketing, "MARKETING"), (Self::Utility, "UTILITY")];

    pub(crate) fn word(self) -> &'static str {
        word(&Self::ALL, self)
    }
}

/// Whether a template may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Status {
    #[n(0)]
    Pending,
    #[n(1)]
    Approved,
    #[n(2)]
    Rejected,
    /// For a while, because of what its recipients think of it.
    #[n(3)]
    Paused,
    /// For good, for the same reason.
    #[n(4)]
    Disabled,
}

impl Status {
    /// All, with the Cloud API's words.
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Pending, "PENDING"),
        (Self::Approved, "APPROVED"),
        (Self::Rejected, "REJECTED"),
        (Self::Paused, "PAUSED"),
        (Self::Disabled, "DISABLED"),
    ];

    pub(crate) fn word(self) -> &'static str {
        word(&Self::ALL, self)
    }
}

fn word<T: PartialEq>(all: &[(T, &'static str)], one: T) -> &'static str {
    all.iter().find(|(known, _)| *known == one).map_or("", |(_, word)| word)
}

/// How a template's gaps are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Gaps {
    /// `{{1}}`, `{{2}}`: filled in order.
    #[n(0)]
    Positional,
    /// `{{first_name}}`: filled by name.
    #[n(1)]
    Named,
}

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct Parts {
    #[n(0)]
    pub(crate) gaps: Gaps,
    #[n(1)]
    pub(crate) header: Option<HeaderPart>,
    #[n(2)]
    pub(crate) body: Pattern,
    #[n(3)]
    pub(crate) footer: Option<String>,
    #[n(4)]
    pub(crate) buttons: Vec<ButtonPart>,
}

/// What stands above the body.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum HeaderPart {
    #[n(0)]
    Text(#[n(0)] Pattern),
    #[n(1)]
    Media(#[n(0)] MediaKind),
    #[n(2)]
    Location,
}

/// Which files a header can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum MediaKind {
    #[n(0)]
    Image,
    #[n(1)]
    Video,
    #[n(2)]
    Document,
}

impl MediaKind {
    /// All, with the Cloud API's words for their parameters.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Image, "image"), (Self::Video, "video"), (Self::Document, "document")];

    pub(crate) fn word(self) -> &'static str {
        word(&Self::ALL, self)
    }
}

/// What stands below it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum ButtonPart {
    #[n(0)]
    QuickReply(#[n(0)] String),
    #[n(1)]
    Url(#[n(0)] String, #[n(1)] Pattern),
    #[n(2)]
    Phone(#[n(0)] String, #[n(1)] String),
    /// A coupon.
    #[n(3)]
    CopyCode(#[n(0)] String),
    /// A one-time password, which is copied as well.
    #[n(4)]
    Otp(#[n(0)] String),
}

/// A text with gaps.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub(crate) struct Pattern(#[n(0)] Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
enum Piece {
    #[n(0)]
    Words(#[n(0)] String),
    #[n(1)]
    Gap(#[n(0)] String),
}

/// A `{{` that opens no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Pattern {
    /// `{{name}}` is a gap, where a name is of `a-z 0-9 _`; all other text stands for itself.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let (mut pieces, mut left) = (Vec::new(), text);
        while let Some((before, rest)) = left.split_once("{{") {
            let (name, after) = rest.split_once("}}").ok_or(Malformed)?;
            if !is_name(name) {
                return Err(Malformed);
            }
            if !before.is_empty() {
                pieces.push(Piece::Words(before.to_owned()));
            }
            pieces.push(Piece::Gap(name.to_owned()));
            left = after;
        }
        if !left.is_empty() {
            pieces.push(Piece::Words(left.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// Names of gaps in the order in which they first come, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for piece in &self.0 {
            if let Piece::Gap(name) = piece
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
        names
    }

    /// Whether a gap is the first or the last of it, but for white space.
    pub(crate) fn has_gap_at_an_end(&self) -> bool {
        let mut seen = self.0.iter().filter(|p| !matches!(p, Piece::Words(words) if words.trim().is_empty()));
        let first = seen.next();
        [first, seen.next_back().or(first)].into_iter().flatten().any(|piece| matches!(piece, Piece::Gap(_)))
    }

    /// Whether its only gap is its end, as in an address.
    pub(crate) fn ends_with_its_only_gap(&self) -> bool {
        matches!(self.0.as_slice(), [Piece::Words(_), Piece::Gap(_)])
    }

    /// The text with every gap filled. A gap without a value stays empty: callers have counted before.
    pub(crate) fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> String {
        self.0.iter().fold(String::new(), |text, piece| match piece {
            Piece::Words(words) => text + words,
            Piece::Gap(name) => text + value(name).unwrap_or_default(),
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gaps_have_names_and_nothing_else_is_one() {
        let names = |text: &str| Pattern::parse(text).map(|p| p.names().join(",")).ok();
        for (text, expected) in [
            ("Hi {{1}}, {{2}} and {{1}}", Some("1,2")),
            ("{{first_name}}", Some("first_name")),
            ("{ {1} } }}", Some("")),
            ("", Some("")),
            ("{{}}", None),
            ("{{ 1 }}", None),
            ("{{Name}}", None),
            ("{{1}", None),
            ("{{{1}}}", None),
        ] {
            assert_eq!(names(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_gap_at_an_end_is_seen() {
        for (text, expected) in [
            ("{{1}} b", true),
            ("a {{1}}", true),
            (" {{1}} ", true),
            ("\n{{1}} b", true),
            ("a {{1}} b", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(Pattern::parse(text).unwrap().has_gap_at_an_end(), expected, "{text:?}");
        }
    }

    proptest! {
        /// The approved words, the values, and nothing else; whatever a value looks like.
        #[test]
        fn a_filled_pattern_is_its_words_with_the_values_between_them(
            words in proptest::collection::vec("[^{]{0,12}", 1..6),
            values in proptest::collection::vec(any::<String>(), 6),
        ) {
            let mut source = words[0].clone();
            let mut expected = words[0].clone();
            for (i, words) in words.iter().enumerate().skip(1) {
                source += &format!("{{{{{i}}}}}{words}");
                expected += &format!("{}{words}", values[i]);
            }
            let pattern = Pattern::parse(&source).unwrap();
            let filled = pattern.fill(|name| values.get(name.parse::<usize>().unwrap()).map(String::as_str));
            prop_assert_eq!(filled, expected);
            let kept: Pattern = minicbor::decode(&minicbor::to_vec(&pattern).unwrap()).unwrap();
            prop_assert_eq!(kept, pattern);
        }
    }
}
