//! The part: what a message says, and how the draft's nested parts map to what this version knows.

use crate::cbor::{self, Malformed, Writer};
use crate::content::attachment::{self, External};
use crate::content::history::{self, HistoryPage, HistoryRequest};
use crate::content::push::{self, PushSubscription};
use crate::content::{
    Answer, Attachment, ContentError, Interactive, Location, MessageId, Person, Preview, answer, consent, interactive,
    location, person,
};
use crate::limits;

const TEXT: &str = "text/plain;charset=utf-8";
const RECEIPT: &str = "application/vnd.bulla.receipt+cbor";
const TYPING: &str = "application/vnd.bulla.typing+cbor";
const PUSH: &str = "application/vnd.bulla.push+cbor";
const HISTORY: &str = "application/vnd.bulla.history+cbor";
const INTERACTIVE: &str = "application/vnd.bulla.interactive+cbor";
const ANSWER: &str = "application/vnd.bulla.answer+cbor";
const LOCATION: &str = "application/vnd.bulla.location+cbor";
const CONTACTS: &str = "application/vnd.bulla.contacts+cbor";
const CONSENT: &str = "application/vnd.bulla.consent+cbor";
const VERSION: u64 = 1;

/// Dispositions of the draft that this version writes.
const RENDER: u64 = 1;
const REACTION: u64 = 2;
const UNSPECIFIED: u64 = 0;

/// What arrived and was read at the receiver of messages, said back to their sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Stored and to be shown.
    pub delivered: Vec<MessageId>,
    /// Shown.
    pub read: Vec<MessageId>,
    /// The MLS epoch in which the receipt's sender is.
    pub epoch: u64,
    /// The first bytes of that epoch's authenticator (reserved: later versions compare it).
    pub authenticator: [u8; 8],
}

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Text; with `replaces` an edit, with `in_reply_to` a reply.
    Text {
        /// At most [`limits::TEXT`] bytes.
        body: String,
        /// RFC 5646 tags or empty.
        language: String,
    },
    /// A reaction to `in_reply_to`; with `replaces` it changes an earlier one.
    Reaction {
        /// One emoji.
        emoji: String,
    },
    /// `replaces` is deleted, or withdrawn if it was a reaction.
    Deleted,
    /// A file that lies sealed at the relay.
    Attachment(Box<Attachment>),
    /// Something to choose from.
    Interactive(Box<Interactive>),
    /// What was chosen in `in_reply_to`.
    Answer(Answer),
    /// A place.
    Location(Location),
    /// Persons and how they are reached.
    Contacts(Vec<Person>),
    /// A customer's signed word that it may be written to for a purpose, or may no more: see [`crate::content::Consent`].
    Consent(Vec<u8>),
    /// Receipts.
    Receipt(Receipt),
    /// The sender began or stopped typing.
    Typing {
        /// Whether it began.
        on: bool,
    },
    /// A customer's device asks for what was said before it came.
    HistoryRequest(HistoryRequest),
    /// What was said, as the business has kept it.
    HistoryPage(HistoryPage),
    /// Where a customer's device can be woken when nothing of it runs; `None`: nowhere any more.
    Push(Option<Box<PushSubscription>>),
    /// Something that this version does not know, kept as it came.
    Unsupported {
        /// Its media type; of several parts, `multipart/…`; empty for a part without content.
        content_type: String,
        /// The exact CBOR of the part.
        raw: Vec<u8>,
    },
}

impl core::fmt::Debug for Body {
    /// Without what was said.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text { body, .. } => write!(f, "Text({} bytes)", body.len()),
            Self::Reaction { .. } => f.write_str("Reaction"),
            Self::Deleted => f.write_str("Deleted"),
            Self::Attachment(attachment) => attachment.fmt(f),
            Self::Interactive(interactive) => interactive.fmt(f),
            Self::Answer(answer) => answer.fmt(f),
            Self::Location(location) => location.fmt(f),
            Self::Contacts(persons) => write!(f, "Contacts({})", persons.len()),
            Self::Consent(statement) => write!(f, "Consent({} bytes)", statement.len()),
            Self::Receipt(receipt) => receipt.fmt(f),
            Self::Typing { on } => write!(f, "Typing({on})"),
            Self::HistoryRequest(_) => f.write_str("HistoryRequest"),
            Self::HistoryPage(page) => write!(f, "HistoryPage({} messages)", page.items.len()),
            Self::Push(subscription) => write!(f, "Push({})", subscription.is_some()),
            Self::Unsupported { raw, .. } => write!(f, "Unsupported({} bytes)", raw.len()),
        }
    }
}

impl Body {
    /// Text without a language.
    #[must_use]
    pub fn text(body: &str) -> Self {
        Self::Text { body: body.to_owned(), language: String::new() }
    }

    /// Whether it is never shown: programs say it to each other.
    #[must_use]
    pub const fn is_for_programs(&self) -> bool {
        matches!(
            self,
            Self::Receipt(_)
                | Self::Typing { .. }
                | Self::HistoryRequest(_)
                | Self::HistoryPage(_)
                | Self::Push(_)
                | Self::Consent(_)
        )
    }

    pub(crate) fn check(&self) -> Result<(), ContentError> {
        let fits = match self {
            Self::Text { body, language } => body.len() <= limits::TEXT && language.len() <= limits::NAME,
            Self::Reaction { emoji } => is_emoji(emoji),
            Self::Receipt(r) => r.delivered.len() <= limits::RECEIPT_IDS && r.read.len() <= limits::RECEIPT_IDS,
            Self::Attachment(attachment) => return attachment.check(),
            Self::Interactive(interactive) => return interactive.check(),
            Self::Answer(answer) => answer.fits(),
            Self::Location(location) => location.fits(),
            Self::Contacts(persons) => person::fit(persons),
            Self::Consent(statement) => consent::fits(statement),
            Self::Deleted | Self::Typing { .. } => true,
            Self::HistoryRequest(request) => request.fits(),
            Self::HistoryPage(page) => page.fits(),
            Self::Push(subscription) => subscription.as_ref().is_none_or(|subscription| subscription.fits()),
            Self::Unsupported { raw, .. } => return Walk::default().part(&mut cbor::Reader::new(raw)?, 1).map(drop),
        };
        if fits { Ok(()) } else { Err(ContentError::Limit) }
    }

    pub(crate) fn write(&self, w: Writer) -> Writer {
        let single = |w: Writer, disposition: u64, language: &str, content_type: &str, content: &[u8]| {
            w.array(5).uint(disposition).text(language).uint(1).text(content_type).bytes(content)
        };
        let ids = |w: Writer, ids: &[MessageId]| ids.iter().fold(w.array(ids.len()), |w, id| w.bytes(id.as_bytes()));
        match self {
            Self::Text { body, language } => single(w, RENDER, language, TEXT, body.as_bytes()),
            Self::Reaction { emoji } => single(w, REACTION, "", TEXT, emoji.as_bytes()),
            Self::Attachment(attachment) => attachment.write(w),
            Self::Interactive(interactive) => match &interactive.file {
                None => single(w, RENDER, "", INTERACTIVE, &interactive.encode()),
                Some(file) => {
                    let unit = w.array(5).uint(RENDER).text("").uint(3).uint(attachment::SINGLE_UNIT).array(2);
                    file.write(single(unit, RENDER, "", INTERACTIVE, &interactive.encode()))
                }
            },
            Self::Answer(answer) => single(w, RENDER, "", ANSWER, &answer.encode()),
            Self::Location(location) => single(w, RENDER, "", LOCATION, &location.encode()),
            Self::Contacts(persons) => single(w, RENDER, "", CONTACTS, &person::encode(persons)),
            Self::Consent(statement) => single(w, UNSPECIFIED, "", CONSENT, &consent::encode(statement)),
            Self::Deleted => w.array(3).uint(RENDER).text("").uint(0),
            Self::Receipt(r) => {
                let inner = ids(ids(Writer::new().array(5).uint(VERSION), &r.delivered), &r.read);
                single(w, UNSPECIFIED, "", RECEIPT, &inner.uint(r.epoch).bytes(&r.authenticator).finish())
            }
            Self::Typing { on } => {
                single(w, UNSPECIFIED, "", TYPING, &Writer::new().array(2).uint(VERSION).bool(*on).finish())
            }
            Self::HistoryRequest(request) => single(w, UNSPECIFIED, "", HISTORY, &request.encode()),
            Self::HistoryPage(page) => single(w, UNSPECIFIED, "", HISTORY, &page.encode()),
            Self::Push(subscription) => single(w, UNSPECIFIED, "", PUSH, &push::encode(subscription.as_deref())),
            Self::Unsupported { raw, .. } => w.raw(raw),
        }
    }

    pub(crate) fn read(raw: &[u8], replaces: bool, in_reply_to: bool) -> Result<Self, ContentError> {
        let part = Walk::default().part(&mut cbor::Reader::new(raw)?, 1)?;
        let unsupported =
            |content_type: &str| Self::Unsupported { content_type: content_type.to_owned(), raw: raw.to_vec() };
        let body = match part {
            Part::Null if replaces => Self::Deleted,
            Part::Null => unsupported(""),
            Part::Single { disposition, language, content_type, content } => match essence(content_type).as_str() {
                "text/plain" if disposition == REACTION => match core::str::from_utf8(content) {
                    Ok(emoji) if in_reply_to && is_emoji(emoji) => Self::Reaction { emoji: emoji.to_owned() },
                    _ => unsupported(content_type),
                },
                "text/plain" if disposition <= RENDER => match core::str::from_utf8(content) {
                    Ok(_) if content.len() > limits::TEXT => return Err(ContentError::Limit),
                    Ok(body) => Self::Text { body: body.to_owned(), language: language.to_owned() },
                    Err(_) => unsupported(content_type),
                },
                RECEIPT => read_receipt(content)?.map_or_else(|| unsupported(content_type), Self::Receipt),
                HISTORY => history::read(content)?.unwrap_or_else(|| unsupported(content_type)),
                PUSH => push::read(content)?
                    .map_or_else(|| unsupported(content_type), |subscription| Self::Push(subscription.map(Box::new))),
                INTERACTIVE => interactive::read(content, None)?
                    .map_or_else(|| unsupported(content_type), |read| Self::Interactive(Box::new(read))),
                ANSWER if in_reply_to => answer::read(content)?.map_or_else(|| unsupported(content_type), Self::Answer),
                LOCATION => location::read(content)?.map_or_else(|| unsupported(content_type), Self::Location),
                CONTACTS => person::read(content)?.map_or_else(|| unsupported(content_type), Self::Contacts),
                CONSENT => consent::read(content)?.map_or_else(|| unsupported(content_type), Self::Consent),
                TYPING => read_typing(content)?.map_or_else(|| unsupported(content_type), |on| Self::Typing { on }),
                _ => unsupported(content_type),
            },
            Part::External(ref external) => as_attachment(&part)
                .map_or_else(|| unsupported(external.content_type), |file| Self::Attachment(Box::new(file))),
            Part::Multi { semantics, ref parts } => match (semantics, parts.as_slice()) {
                (
                    attachment::SINGLE_UNIT,
                    [Part::External(external), Part::Single { disposition: attachment::PREVIEW, .. }],
                ) => as_attachment(&part)
                    .map_or_else(|| unsupported(external.content_type), |file| Self::Attachment(Box::new(file))),
                (attachment::SINGLE_UNIT, [Part::Single { content_type, content, .. }, file])
                    if essence(content_type) == INTERACTIVE =>
                {
                    match as_attachment(file) {
                        Some(file) => interactive::read(content, Some(file))?
                            .map_or_else(|| unsupported(content_type), |read| Self::Interactive(Box::new(read))),
                        None => unsupported(content_type),
                    }
                }
                (0, _) => unsupported("multipart/alternative"),
                (1, _) => unsupported("multipart/related"),
                _ => unsupported("multipart/mixed"),
            },
        };
        Ok(body)
    }
}

/// A file, alone or with its preview beside it.
fn as_attachment(part: &Part<'_>) -> Option<Attachment> {
    match part {
        Part::External(external) => Attachment::read(external, None),
        Part::Multi { semantics: attachment::SINGLE_UNIT, parts } => match parts.as_slice() {
            [
                Part::External(external),
                Part::Single { disposition: attachment::PREVIEW, content_type, content, .. },
            ] => {
                let preview = Preview { media_type: (*content_type).to_owned(), bytes: content.to_vec() };
                // A preview that may not be shown is left out; the file is there.
                Attachment::read(external, Some(preview).filter(Preview::is_good))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A media type without its parameters. `text/plain` in another charset than UTF-8 stays whole, and so is unknown.
fn essence(content_type: &str) -> String {
    let mut fields = content_type.split(';').map(|field| field.trim().to_ascii_lowercase());
    let essence = fields.next().unwrap_or_default();
    let foreign = |field: String| {
        field.starts_with("charset=") && field.trim_start_matches("charset=").trim_matches('"') != "utf-8"
    };
    if fields.any(foreign) { content_type.to_owned() } else { essence }
}

fn is_emoji(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::EMOJI && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// `None`: of a later version.
fn read_receipt(content: &[u8]) -> Result<Option<Receipt>, ContentError> {
    let mut r = cbor::Reader::new(content)?;
    let len = r.list()?;
    if len == 0 || r.uint()? != VERSION {
        return Ok(None);
    }
    let more = len.checked_sub(5).ok_or(ContentError::Malformed)?;
    let ids = |r: &mut cbor::Reader<'_>| {
        let len = r.list_max(limits::RECEIPT_IDS).map_err(|Malformed| ContentError::Limit)?;
        (0..len).map(|_| Ok(MessageId::new(r.exact()?))).collect::<Result<Vec<_>, ContentError>>()
    };
    let receipt = Receipt { delivered: ids(&mut r)?, read: ids(&mut r)?, epoch: r.uint()?, authenticator: r.exact()? };
    r.skip_rest(more)?;
    Ok(Some(receipt))
}

/// `None`: of a later version.
fn read_typing(content: &[u8]) -> Result<Option<bool>, ContentError> {
    let mut r = cbor::Reader::new(content)?;
    let len = r.list()?;
    if len == 0 || r.uint()? != VERSION {
        return Ok(None);
    }
    let more = len.checked_sub(2).ok_or(ContentError::Malformed)?;
    let on = r.bool()?;
    r.skip_rest(more)?;
    Ok(Some(on))
}

enum Part<'b> {
    Null,
    Single { disposition: u64, language: &'b str, content_type: &'b str, content: &'b [u8] },
    External(External<'b>),
    Multi { semantics: u64, parts: Vec<Part<'b>> },
}

/// Checks a part and all parts in it against the draft's shape and the limits.
#[derive(Default)]
struct Walk {
    parts: usize,
}

impl Walk {
    fn part<'b>(&mut self, r: &mut cbor::Reader<'b>, level: usize) -> Result<Part<'b>, ContentError> {
        self.parts += 1;
        if self.parts > limits::PARTS || level > limits::PART_DEPTH {
            return Err(ContentError::Limit);
        }
        let len = r.array(3)?;
        let disposition = r.uint()?;
        let language = r.text(limits::NAME)?;
        if disposition > 255 {
            return Err(ContentError::Malformed);
        }
        let less = |known: u64| len.checked_sub(known).ok_or(ContentError::Malformed);
        let (part, more) = match r.uint()? {
            0 => (Part::Null, less(0)?),
            1 => {
                let more = less(2)?;
                let (content_type, content) = (r.text(limits::NAME)?, r.bytes(limits::CONTENT)?);
                (Part::Single { disposition, language, content_type, content }, more)
            }
            2 => {
                let more = less(12)?;
                let content_type = r.text(limits::NAME)?;
                let url = r.text(limits::CONTENT)?;
                let (expires, size, sealing) = (uint_of(r, 32)?, uint_of(r, 64)?, uint_of(r, 16)?);
                let key = r.bytes(limits::CONTENT)?;
                for _nonce_and_aad in 0..2 {
                    r.bytes(limits::CONTENT)?;
                }
                let hash_algorithm = uint_of(r, 8)?;
                let hash = r.bytes(limits::CONTENT)?;
                let (description, name) = (r.text(limits::CONTENT)?, r.text(limits::CONTENT)?);
                let expires = u32::try_from(expires).map_err(|_| ContentError::Malformed)?;
                let external = External {
                    content_type,
                    url,
                    expires,
                    size,
                    sealing,
                    key,
                    hash_algorithm,
                    hash,
                    description,
                    name,
                };
                (Part::External(external), more)
            }
            3 => {
                let more = less(2)?;
                let semantics = r.uint()?;
                let count = r.list()?;
                if semantics > 2 || count < 2 {
                    return Err(ContentError::Malformed);
                }
                let parts = (0..count).map(|_| self.part(r, level + 1)).collect::<Result<_, _>>()?;
                (Part::Multi { semantics, parts }, more)
            }
            _ => return Err(ContentError::Malformed),
        };
        r.skip_rest(more)?;
        Ok(part)
    }
}

fn uint_of(r: &mut cbor::Reader<'_>, bits: u32) -> Result<u64, ContentError> {
    let value = r.uint()?;
    if value.checked_shr(bits).unwrap_or(0) == 0 { Ok(value) } else { Err(ContentError::Malformed) }
}
