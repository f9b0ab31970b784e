//! What passes between Rust and JavaScript: the shapes of `apps/chat/src/lib/engine/types.ts`, which a test in the browser holds to these.

use bulla_client::endpoint::{CommandError, StartError, TransferError};
use bulla_client::event::{self, ConversationState, Direction, Past};
use bulla_client::media::{self, MediaError};
use bulla_client::store::StoreError;
use bulla_e2ee::attachment::AttachmentError;
use bulla_e2ee::content::{Answer, Interactive, Location, MessageId, Person, PushSubscription};
use bulla_e2ee::recovery::RecoveryError;
use bulla_e2ee::tag::Purpose;
use bulla_e2ee::transfer;
use data_encoding::BASE64URL_NOPAD;
use js_sys::Reflect;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

/// A message id in JavaScript.
#[must_use]
pub fn id_to_text(id: &MessageId) -> String {
    BASE64URL_NOPAD.encode(id.as_bytes())
}

/// A message id from JavaScript.
pub fn id_from_text(text: &str) -> Result<MessageId, Refused> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
    bytes.map(MessageId::new).ok_or_else(|| Refused { code: "unknown", message: "not a message id".into() })
}

/// Why something was not done: a code for the page, and words for whoever reads logs.
#[derive(Debug)]
pub struct Refused {
    /// One of `EngineErrorCode`.
    pub code: &'static str,
    /// In English.
    pub message: String,
}

impl From<CommandError> for Refused {
    fn from(e: CommandError) -> Self {
        let code = match &e {
            CommandError::Bundle(_) => "wrong-key",
            CommandError::Fetch(_) => "unreachable",
            CommandError::TooLong { .. } => "too-long",
            CommandError::TooLarge { .. } => "too-large",
            CommandError::TooManyUploads => "too-many-files",
            CommandError::NotReady => "not-ready",
            CommandError::OutOfDate => "outdated",
            CommandError::Moved => "moved",
            CommandError::NotOffered => "not-offered",
            CommandError::NotFitting => "not-fitting",
            CommandError::Store(_) | CommandError::NotKept => "storage",
            _ => "unknown",
        };
        Self { code, message: e.to_string() }
    }
}

impl From<RecoveryError> for Refused {
    fn from(e: RecoveryError) -> Self {
        let code = match &e {
            RecoveryError::Length(_) => "code-length",
            RecoveryError::Symbol(_) => "code-symbol",
            _ => "code-mistyped",
        };
        Self { code, message: e.to_string() }
    }
}

impl From<TransferError> for Refused {
    fn from(e: TransferError) -> Self {
        let code = match e {
            TransferError::Command(why) => return why.into(),
            TransferError::Expired => "transfer-expired",
            TransferError::Used => "transfer-used",
            TransferError::Refused(transfer::TransferError::Ticket) => "transfer-link",
            TransferError::Refused(_) => "transfer-refused",
            _ => "unreachable",
        };
        Self { code, message: e.to_string() }
    }
}

impl From<MediaError> for Refused {
    fn from(e: MediaError) -> Self {
        let code = match &e {
            MediaError::Command(_) | MediaError::Store(_) => match e {
                MediaError::Command(why) => return why.into(),
                MediaError::Store(why) => return why.into(),
                _ => "unknown",
            },
            MediaError::File(AttachmentError::TooLarge) => "too-large",
            MediaError::File(AttachmentError::Refused) => "damaged",
            MediaError::File(_) => "file",
            MediaError::Gone => "gone",
            MediaError::Stopped => "stopped",
            _ => "unreachable",
        };
        Self { code, message: e.to_string() }
    }
}

impl From<StoreError> for Refused {
    fn from(e: StoreError) -> Self {
        Self { code: "storage", message: e.to_string() }
    }
}

impl From<StartError> for Refused {
    fn from(e: StartError) -> Self {
        Self { code: "storage", message: e.to_string() }
    }
}

impl From<Refused> for JsValue {
    fn from(refused: Refused) -> Self {
        let error = js_sys::Error::new(&refused.message);
        // An object that was just made takes a property.
        let _ = Reflect::set(&error, &"code".into(), &refused.code.into());
        error.into()
    }
}

/// A value as plain JavaScript: objects, numbers, null.
pub fn to_js(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let plain = serde_wasm_bindgen::Serializer::new()
        .serialize_maps_as_objects(true)
        .serialize_missing_as_null(true)
        .serialize_large_number_types_as_bigints(false);
    value.serialize(&plain).map_err(Into::into)
}

/// What a message shows.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Shown {
    /// Text.
    Text {
        /// The newest text.
        text: String,
    },
    /// A file.
    File {
        /// What is known of it.
        file: File,
    },
    /// Something to choose from.
    Interactive {
        /// What is shown.
        interactive: Box<Interactive>,
        /// The file above it.
        file: Option<File>,
    },
    /// What was chosen.
    Answer {
        /// The choice.
        answer: Answer,
    },
    /// A place; degrees.
    Location {
        /// Which.
        location: Location,
    },
    /// Persons.
    Contacts {
        /// At least one.
        persons: Vec<Person>,
    },
    /// A reaction, or none any more.
    Reaction {
        /// One emoji.
        emoji: Option<String>,
    },
    /// An edit.
    Edit {
        /// The new text.
        text: String,
    },
    /// Taken back.
    Deleted,
    /// Of a kind that this version cannot show.
    Unsupported {
        /// Its media type.
        content_type: String,
    },
    /// It did not open.
    Unreadable,
}

/// What is known of a file without its bytes. All of it is its sender's word.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    name: String,
    media_type: String,
    size: u64,
    caption: String,
    preview: Option<Preview>,
    expires: u32,
}

/// A small picture of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    media_type: String,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Preview({} bytes)", self.bytes.len())
    }
}

impl From<media::FileCard> for File {
    fn from(card: media::FileCard) -> Self {
        let preview = card.preview.map(|p| Preview { media_type: p.media_type, bytes: p.bytes });
        let media::FileCard { name, media_type, size, caption, expires, .. } = card;
        Self { name, media_type, size, caption, preview, expires }
    }
}

/// A file on its way to the relay.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    id: String,
    file: File,
    created_ms: u64,
    failed: Option<&'static str>,
    sent: u64,
    of: u64,
}

impl From<media::Upload> for Upload {
    fn from(upload: media::Upload) -> Self {
        Self {
            id: upload.id.to_hex(),
            file: upload.file.into(),
            created_ms: upload.created_ms,
            failed: upload.failed.map(|why| match why {
                media::UploadFailure::Refused => "refused",
                media::UploadFailure::TooLarge => "too-large",
                media::UploadFailure::Lost => "lost",
                _ => "not-said",
            }),
            sent: upload.sent,
            of: upload.of,
        }
    }
}

/// An upload's id from JavaScript.
pub fn upload_from_text(text: &str) -> Result<media::BlobId, Refused> {
    media::BlobId::from_hex(text).ok_or_else(|| Refused { code: "unknown", message: "not an upload".into() })
}

/// What is to be attached, beside the file itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewFile {
    name: String,
    media_type: String,
    caption: String,
    preview: Option<Preview>,
    reply_to: Option<String>,
}

impl std::fmt::Debug for NewFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewFile(redacted)")
    }
}

impl TryFrom<NewFile> for media::NewAttachment {
    type Error = Refused;

    fn try_from(new: NewFile) -> Result<Self, Refused> {
        let preview = new.preview.map(|p| media::Preview { media_type: p.media_type, bytes: p.bytes });
        let reply_to = new.reply_to.as_deref().map(id_from_text).transpose()?;
        let NewFile { name, media_type, caption, .. } = new;
        Ok(Self { name, media_type, size: 0, caption, preview, reply_to })
    }
}

/// How far a file is that is being opened.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "file")]
pub struct FileMoved {
    id: String,
    received: u64,
    of: u64,
}

impl FileMoved {
    /// So much of a message's file is here.
    #[must_use]
    pub fn new(id: &str, received: u64, of: u64) -> Self {
        Self { id: id.to_owned(), received, of }
    }
}

/// A reaction that stands on a message.
#[derive(Debug, Serialize)]
pub struct Reaction {
    own: bool,
    emoji: String,
}

/// A message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    order: u64,
    id: String,
    own: bool,
    shown: Shown,
    reply_to: Option<String>,
    replaces: Option<String>,
    sent_ms: u64,
    stored_ms: u64,
    status: &'static str,
    failure: Option<&'static str>,
    edited: bool,
    deleted: bool,
    reactions: Vec<Reaction>,
    breach: bool,
    by: Option<String>,
}

fn is_own(direction: Direction) -> bool {
    direction == Direction::Outgoing
}

impl From<event::Message> for Message {
    fn from(m: event::Message) -> Self {
        let shown = match m.shown {
            event::Shown::Text(text) => Shown::Text { text },
            event::Shown::File(card) => Shown::File { file: (*card).into() },
            event::Shown::Interactive(interactive, file) => {
                Shown::Interactive { interactive, file: file.map(|card| (*card).into()) }
            }
            event::Shown::Answer(answer) => Shown::Answer { answer },
            event::Shown::Location(location) => Shown::Location { location },
            event::Shown::Contacts(persons) => Shown::Contacts { persons },
            event::Shown::Reaction(emoji) => Shown::Reaction { emoji },
            event::Shown::Edit(text) => Shown::Edit { text },
            event::Shown::Deleted => Shown::Deleted,
            event::Shown::Unsupported(content_type) => Shown::Unsupported { content_type },
            _ => Shown::Unreadable,
        };
        let status = match m.status {
            event::Status::Queued => "queued",
            event::Status::Sent => "sent",
            event::Status::Delivered => "delivered",
            event::Status::Read => "read",
            event::Status::Failed => "failed",
            event::Status::Received => "received",
        };
        let failure = m.failure.map(|failure| match failure {
            event::Failure::WindowClosed => "window-closed",
            event::Failure::NoReceipt => "no-receipt",
            event::Failure::TooLarge => "too-large",
            event::Failure::Withdrawn | event::Failure::NoConsent => "no-consent",
            _ => "refused",
        });
        let reactions = m.reactions.into_iter().map(|(whose, emoji)| Reaction { own: is_own(whose), emoji });
        Self {
            order: m.order,
            id: id_to_text(&m.id),
            own: is_own(m.direction),
            shown,
            reply_to: m.reply_to.as_ref().map(id_to_text),
            replaces: m.replaces.as_ref().map(id_to_text),
            sent_ms: m.sent_ms,
            stored_ms: m.stored_ms,
            status,
            failure,
            edited: m.edited,
            deleted: m.deleted,
            reactions: reactions.collect(),
            breach: m.breach,
            by: m.by,
        }
    }
}

/// Somebody who can read.
#[derive(Debug, Serialize)]
pub struct Reader {
    name: String,
    role: String,
}

fn readers(all: Vec<(String, String)>) -> Vec<Reader> {
    all.into_iter().map(|(name, role)| Reader { name, role }).collect()
}

/// A conversation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    id: u64,
    user_id: String,
    name: String,
    handle: String,
    readers: Vec<Reader>,
    last_heard_ms: u64,
    state: &'static str,
    unread: u64,
    past: Option<&'static str>,
    push_key: Option<String>,
    consents: Vec<Decision>,
}

/// What the person has decided about a purpose.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    purpose: &'static str,
    given: bool,
    at_ms: u64,
}

/// A purpose that a person decides about.
pub fn purpose_from_text(text: &str) -> Result<Purpose, Refused> {
    match text {
        "notifications" => Ok(Purpose::Notifications),
        "marketing" => Ok(Purpose::Marketing),
        _ => Err(Refused { code: "unknown", message: "not a purpose that is decided about".into() }),
    }
}

impl From<event::Conversation> for Conversation {
    fn from(c: event::Conversation) -> Self {
        let state = match c.state {
            ConversationState::New => "new",
            ConversationState::Greeting => "greeting",
            ConversationState::Open => "open",
            ConversationState::Removed => "removed",
            ConversationState::Outdated => "outdated",
            ConversationState::Moved => "moved",
            ConversationState::NotKnown => "not-known",
            _ => "stuck",
        };
        Self {
            id: c.id.0,
            user_id: c.user_id.as_str().to_owned(),
            name: c.peer_name,
            handle: c.handle,
            readers: readers(c.readers),
            last_heard_ms: c.last_heard_ms,
            state,
            unread: c.unread,
            past: c.past.map(|past| match past {
                Past::Sought => "sought",
                Past::Asked => "asked",
                Past::All => "all",
                _ => "more",
            }),
            push_key: c.push_key.map(|key| BASE64URL_NOPAD.encode(&key)),
            consents: c
                .consents
                .into_iter()
                .map(|of| Decision {
                    purpose: if of.purpose == Purpose::Marketing { "marketing" } else { "notifications" },
                    given: of.given,
                    at_ms: of.at_ms,
                })
                .collect(),
        }
    }
}

/// Where this browser is woken: of the Push API's `PushSubscription`, base64url without padding.
#[derive(Deserialize)]
pub struct PushTo {
    endpoint: String,
    p256dh: String,
    auth: String,
}

impl TryFrom<PushTo> for PushSubscription {
    type Error = Refused;

    fn try_from(to: PushTo) -> Result<Self, Refused> {
        fn key<const N: usize>(text: &str) -> Result<[u8; N], Refused> {
            let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|b| b.try_into().ok());
            bytes.ok_or_else(|| Refused { code: "unknown", message: "not a key of a push subscription".into() })
        }
        Ok(Self { p256dh: key(&to.p256dh)?, auth: key(&to.auth)?, endpoint: to.endpoint })
    }
}

/// Who a link leads to.
#[derive(Debug, Serialize)]
pub struct Card {
    name: String,
    handle: String,
    fingerprint: String,
    readers: Vec<Reader>,
    relay: String,
}

impl From<event::LinkCard> for Card {
    fn from(card: event::LinkCard) -> Self {
        let relay = url::Url::parse(&card.relay_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Self {
            name: card.name,
            handle: card.handle,
            fingerprint: fingerprint(&card.key.to_string()),
            readers: readers(card.readers),
            relay: relay.unwrap_or(card.relay_url),
        }
    }
}

/// A key's hash in groups of four, as one compares it with a printed one.
fn fingerprint(hash: &str) -> String {
    let letters: Vec<char> = hash.chars().collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

/// The connection.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Connection {
    /// Trying.
    Connecting,
    /// Everything that waited has arrived.
    Online,
    /// Lost.
    Offline {
        /// Milliseconds until the next try.
        retry_in_ms: u64,
    },
    /// Another copy of this device is in use.
    Superseded,
    /// The relay speaks no version that this page speaks.
    NoCommonVersion {
        /// It is the page that is the older one.
        update_here: bool,
    },
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "as in types.ts, and `bulla_client::event::Event`")]
pub enum Event {
    Connection { connection: Connection },
    Conversation { conversation: Conversation },
    Message { message: Message },
    Changed { message: Message },
    Status { message: Message, at_ms: u64 },
    Typing { on: bool },
    Upload { upload: Upload },
    UploadMoved { id: String, sent: u64 },
    UploadEnded { id: String },
    Cleared,
    Unreadable,
    Newer,
    Continued { by_us: bool, reason: String },
    Devices { added: Vec<String>, removed: Vec<String> },
    KeyChange { fingerprint: String },
    Gap { missing: u64 },
    History { added: u64 },
}

impl Event {
    /// What the page is told of an event; nothing of those that it does not know.
    #[must_use]
    pub fn of(event: event::Event) -> Option<Self> {
        Some(match event {
            event::Event::Connection(connection) => Self::Connection {
                connection: match connection {
                    event::Connection::Online => Connection::Online,
                    event::Connection::Offline { retry_in_ms } => Connection::Offline { retry_in_ms },
                    event::Connection::Superseded => Connection::Superseded,
                    event::Connection::NoCommonVersion { update_here } => Connection::NoCommonVersion { update_here },
                    _ => Connection::Connecting,
                },
            },
            event::Event::Conversation(c) => Self::Conversation { conversation: c.into() },
            event::Event::Message(m) => Self::Message { message: m.into() },
            event::Event::Changed(m) => Self::Changed { message: m.into() },
            event::Event::Status { message, at_ms } => Self::Status { message: message.into(), at_ms },
            event::Event::Typing { on, .. } => Self::Typing { on },
            event::Event::Upload(upload) => Self::Upload { upload: upload.into() },
            event::Event::UploadMoved { upload, sent } => Self::UploadMoved { id: upload.to_hex(), sent },
            event::Event::UploadEnded { upload, .. } => Self::UploadEnded { id: upload.to_hex() },
            event::Event::Unreadable { .. } => Self::Unreadable,
            event::Event::Newer { .. } => Self::Newer,
            event::Event::Continued { by, reason, .. } => {
                Self::Continued { by_us: is_own(by), reason: format!("{reason:?}").to_lowercase() }
            }
            event::Event::Devices { added, removed, .. } => Self::Devices { added, removed },
            event::Event::KeyChange { identity, .. } => {
                let hash = bulla_e2ee::identity::IdentityHash::of(&identity);
                Self::KeyChange { fingerprint: fingerprint(&hash.to_string()) }
            }
            event::Event::Gap { missing, .. } => Self::Gap { missing },
            event::Event::History { added, .. } => Self::History { added },
            _ => return None,
        })
    }
}

/// Something to be said.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as in types.ts")]
pub enum Draft {
    Text {
        body: String,
        #[serde(default)]
        reply_to: Option<String>,
    },
    Reaction {
        to: String,
        emoji: Option<String>,
    },
    Answer {
        to: String,
        answer: Answer,
    },
    Location {
        latitude: f64,
        longitude: f64,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        address: Option<String>,
        #[serde(default)]
        reply_to: Option<String>,
    },
    Contacts {
        persons: Vec<Person>,
        #[serde(default)]
        reply_to: Option<String>,
    },
    Edit {
        of: String,
        body: String,
    },
    Delete {
        of: String,
    },
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draft(redacted)")
    }
}

impl TryFrom<Draft> for event::Draft {
    type Error = Refused;

    fn try_from(draft: Draft) -> Result<Self, Refused> {
        Ok(match draft {
            Draft::Text { body, reply_to } => {
                Self::Text { body, reply_to: reply_to.as_deref().map(id_from_text).transpose()? }
            }
            Draft::Reaction { to, emoji } => Self::Reaction { to: id_from_text(&to)?, emoji },
            Draft::Answer { to, answer } => Self::Answer { to: id_from_text(&to)?, answer },
            Draft::Location { latitude, longitude, name, address, reply_to } => {
                let nowhere = || Refused { code: "unknown", message: "no place has these coordinates".into() };
                let location = Location { name, address, ..Location::at(latitude, longitude).ok_or_else(nowhere)? };
                Self::Location { location, reply_to: reply_to.as_deref().map(id_from_text).transpose()? }
            }
            Draft::Contacts { persons, reply_to } => {
                Self::Contacts { persons, reply_to: reply_to.as_deref().map(id_from_text).transpose()? }
            }
            Draft::Edit { of, body } => Self::Edit { of: id_from_text(&of)?, body },
            Draft::Delete { of } => Self::Delete { of: id_from_text(&of)? },
        })
    }
}
