//! The extensions map: what travels with a content without being said.
//!
//! Own names are text keys, which the draft leaves to private use. Unknown extensions are kept as they came.

use crate::cbor::{self, Malformed, Writer};
use crate::certificate::Role;
use crate::content::{ContentError, PUSH_KEY};
use crate::limits;
use crate::permits::GivenPermit;
use crate::tag::Purpose;

const SENT: &str = "bulla/sent";
const COUNTER: &str = "bulla/counter";
const PERMITS: &str = "bulla/permits";
const NAME: &str = "bulla/name";
const REFERENCE: &str = "bulla/ref";
const READERS: &str = "bulla/readers";
const SPARE: &str = "bulla/spare";
const INTRODUCED: &str = "bulla/introduced";
const RESUMES: &str = "bulla/resumes";
const PUSH: &str = "bulla/push";
const IDENTITY: &str = "bulla/identity";
const DECISIONS: &str = "bulla/decisions";

/// Purposes that a customer can decide about, and some to spare.
const MAX_DECISIONS: usize = 8;

/// The longest name of an extension, in bytes, as the draft has it.
const KEY: usize = 255;
/// Numbers stay exact in a double.
const LARGEST_INT: u64 = (1 << 53) - 1;

/// Somebody who can read at the business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reader {
    /// "Team", "Rosi's bot", a vendor's name.
    pub name: String,
    /// "agents", "bot", "vendor", …
    pub role: String,
}

pub(crate) fn write_readers(w: Writer, readers: &[Reader]) -> Writer {
    readers.iter().fold(w.array(readers.len()), |w, r| w.array(2).text(&r.name).text(&r.role))
}

pub(crate) fn read_readers(r: &mut cbor::Reader<'_>) -> Result<Vec<Reader>, Malformed> {
    let len = r.list_max(limits::READERS)?;
    let one = |_| {
        let more = r.array(2)?;
        let reader = Reader { name: r.text(limits::NAME)?.to_owned(), role: r.text(limits::NAME)?.to_owned() };
        r.skip_rest(more)?;
        Ok(reader)
    };
    (0..len).map(one).collect()
}

/// Permits for the receiver, and the relay where they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitsExtension {
    /// The relay's WebSocket URL.
    pub relay: String,
    /// At least one.
    pub permits: Vec<GivenPermit>,
}

/// Permits of a third member, from one who has them: so that endpoints that have just come together can write to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// The member's side.
    pub role: Role,
    /// Its name among the endpoints of its side.
    pub endpoint: String,
    /// What it gave.
    pub permits: PermitsExtension,
    /// A KeyPackage that it left, of a member that the group lacks: whoever can lets it in.
    pub spare: Option<Vec<u8>>,
}

/// What travels with a content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// When the sender sent it, Unix milliseconds.
    pub sent_ms: Option<u64>,
    /// 1, 2, 3 … per sender and conversation, over all contents.
    pub counter: Option<u64>,
    /// Permits for the receiver.
    pub permits: Option<PermitsExtension>,
    /// The customer's display name.
    pub name: Option<String>,
    /// The link's `ref`.
    pub reference: Option<String>,
    /// Everyone who can read at the business.
    pub readers: Option<Vec<Reader>>,
    /// A spare KeyPackage of the sender, to begin the conversation anew with.
    pub spare: Option<Vec<u8>>,
    /// Permits of another member, for whoever has none of it.
    pub introduced: Option<Introduced>,
    /// In a Hello: its sender was here before, and is nobody new.
    pub resumes: bool,
    /// A token of the business's own backend that says who the customer is there. The business's program checks it.
    pub identity: Option<String>,
    /// The key under which the business sends pushes (RFC 8292): a P-256 point, uncompressed.
    pub push_key: Option<[u8; PUSH_KEY]>,
    /// A customer's devices tell each other what it has decided: purpose, whether it is given, when (Unix ms).
    pub decisions: Vec<(Purpose, bool, u64)>,
    /// Extensions that this version does not know: encoded key and encoded value, as they came.
    pub unknown: Vec<(Vec<u8>, Vec<u8>)>,
}

impl core::fmt::Debug for Extensions {
    /// Without values: they are secrets or somebody's words.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Extensions")
            .field("sent_ms", &self.sent_ms)
            .field("counter", &self.counter)
            .field("permits", &self.permits.as_ref().map(|p| p.permits.len()))
            .field("unknown", &self.unknown.len())
            .finish_non_exhaustive()
    }
}

impl Extensions {
    pub(crate) fn write(&self, w: Writer) -> Result<Writer, ContentError> {
        let mut entries = self.unknown.clone();
        let mut put = |key: &str, value: Writer| entries.push((Writer::new().text(key).finish(), value.finish()));
        let new = Writer::new;
        if let Some(ms) = self.sent_ms {
            put(SENT, new().uint(ms));
        }
        if let Some(counter) = self.counter {
            put(COUNTER, new().uint(counter));
        }
        if let Some(PermitsExtension { relay, permits }) = &self.permits {
            let inner = GivenPermit::write_list(new().array(2).text(relay), permits).finish();
            if permits.is_empty() || permits.len() > limits::PERMITS || relay.len() > limits::URL {
                return Err(ContentError::Limit);
            }
            put(PERMITS, new().bytes(&inner));
        }
        if let Some(name) = &self.name {
            put(NAME, new().text(checked(name, limits::DISPLAY_NAME)?));
        }
        if let Some(reference) = &self.reference {
            put(REFERENCE, new().text(checked(reference, limits::REFERENCE)?));
        }
        if let Some(readers) = &self.readers {
            let too_long = |r: &Reader| r.name.len() > limits::NAME || r.role.len() > limits::NAME;
            if readers.len() > limits::READERS || readers.iter().any(too_long) {
                return Err(ContentError::Limit);
            }
            put(READERS, new().bytes(&write_readers(new(), readers).finish()));
        }
        if let Some(spare) = &self.spare {
            put(SPARE, new().bytes(spare));
        }
        if let Some(Introduced { role, endpoint, permits: PermitsExtension { relay, permits }, spare }) =
            &self.introduced
        {
            if permits.is_empty() || permits.len() > limits::PERMITS || relay.len() > limits::URL {
                return Err(ContentError::Limit);
            }
            let inner = new().array(4 + usize::from(spare.is_some())).uint(role.to_wire());
            let inner = GivenPermit::write_list(inner.text(checked(endpoint, limits::ENDPOINT)?).text(relay), permits);
            let inner = spare.iter().fold(inner, |inner, spare| inner.bytes(spare));
            put(INTRODUCED, new().bytes(&inner.finish()));
        }
        if self.resumes {
            put(RESUMES, new().bool(true));
        }
        if let Some(token) = &self.identity {
            put(IDENTITY, new().text(checked(token, limits::IDENTITY)?));
        }
        if let Some(key) = &self.push_key {
            put(PUSH, new().bytes(key));
        }
        if !self.decisions.is_empty() {
            if self.decisions.len() > MAX_DECISIONS {
                return Err(ContentError::Limit);
            }
            let list = self.decisions.iter().fold(new().array(self.decisions.len()), |w, (purpose, given, at_ms)| {
                w.array(3).uint(u64::from(purpose.to_wire())).bool(*given).uint(*at_ms)
            });
            put(DECISIONS, new().bytes(&list.finish()));
        }
        if entries.len() > limits::EXTENSIONS || entries.iter().any(|(_, v)| v.len() > limits::EXTENSION_VALUE) {
            return Err(ContentError::Limit);
        }
        entries.sort();
        Ok(entries.iter().fold(w.map(entries.len()), |w, (key, value)| w.raw(key).raw(value)))
    }

    pub(crate) fn read(r: &mut cbor::Reader<'_>) -> Result<Self, ContentError> {
        let len = r.map_max(limits::EXTENSIONS).map_err(|Malformed| ContentError::Limit)?;
        let mut extensions = Self::default();
        for _ in 0..len {
            let (key, value) = (r.raw()?, r.raw()?);
            if value.len() > limits::EXTENSION_VALUE {
                return Err(ContentError::Limit);
            }
            cbor::check(value, limits::EXTENSION_DEPTH - 1).map_err(|Malformed| ContentError::Limit)?;
            extensions.take(key, value)?;
        }
        Ok(extensions)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), ContentError> {
        let mut v = cbor::Reader::new(value)?;
        match name_of(key)? {
            Some(SENT) => self.sent_ms = Some(v.uint()?),
            Some(COUNTER) => self.counter = Some(v.uint()?),
            Some(NAME) => self.name = Some(read_text(&mut v, limits::DISPLAY_NAME)?),
            Some(REFERENCE) => self.reference = Some(read_text(&mut v, limits::REFERENCE)?),
            Some(PERMITS) => {
                let mut r = cbor::Reader::new(v.bytes(limits::EXTENSION_VALUE)?)?;
                let more = r.array(2)?;
                let relay = r.text(limits::URL)?.to_owned();
                let permits = GivenPermit::read_list(&mut r)?;
                r.skip_rest(more)?;
                if permits.is_empty() {
                    return Err(ContentError::Malformed);
                }
                self.permits = Some(PermitsExtension { relay, permits });
            }
            Some(READERS) => {
                self.readers = Some(read_readers(&mut cbor::Reader::new(v.bytes(limits::EXTENSION_VALUE)?)?)?);
            }
            Some(SPARE) => self.spare = Some(v.bytes(limits::EXTENSION_VALUE)?.to_vec()),
            Some(INTRODUCED) => {
                let mut r = cbor::Reader::new(v.bytes(limits::EXTENSION_VALUE)?)?;
                let more = r.array(4)?;
                let role = Role::from_wire(r.uint()?).ok_or(ContentError::Malformed)?;
                let endpoint = r.text(limits::ENDPOINT)?.to_owned();
                let relay = r.text(limits::URL)?.to_owned();
                let permits = GivenPermit::read_list(&mut r)?;
                let spare = (more > 0).then(|| r.bytes(limits::EXTENSION_VALUE).map(<[u8]>::to_vec)).transpose()?;
                r.skip_rest(more.saturating_sub(1))?;
                if permits.is_empty() {
                    return Err(ContentError::Malformed);
                }
                let permits = PermitsExtension { relay, permits };
                self.introduced = Some(Introduced { role, endpoint, permits, spare });
            }
            Some(RESUMES) => self.resumes = v.bool()?,
            Some(IDENTITY) => self.identity = Some(read_text(&mut v, limits::IDENTITY)?),
            Some(PUSH) => self.push_key = Some(v.exact()?),
            Some(DECISIONS) => {
                let mut r = cbor::Reader::new(v.bytes(limits::EXTENSION_VALUE)?)?;
                for _ in 0..r.list_max(MAX_DECISIONS).map_err(|Malformed| ContentError::Limit)? {
                    let more = r.array(3)?;
                    let (purpose, given, at_ms) = (r.uint()?, r.bool()?, r.uint()?);
                    r.skip_rest(more)?;
                    // A purpose of a later version says nothing here.
                    self.decisions.extend(Purpose::from_wire(purpose).map(|purpose| (purpose, given, at_ms)));
                }
            }
            Some(_) | None => self.unknown.push((key.to_vec(), value.to_vec())),
        }
        Ok(())
    }
}

/// A key's text, or nothing if it is a number within the draft's range.
fn name_of(key: &[u8]) -> Result<Option<&str>, ContentError> {
    let mut d = minicbor::Decoder::new(key);
    if let Ok(name) = d.str() {
        return if (1..=KEY).contains(&name.len()) { Ok(Some(name)) } else { Err(ContentError::Malformed) };
    }
    let number = i128::from(minicbor::Decoder::new(key).int().map_err(|_| ContentError::Malformed)?);
    if number.unsigned_abs() <= u128::from(LARGEST_INT) { Ok(None) } else { Err(ContentError::Malformed) }
}

/// A short text for one line on a screen.
fn checked(text: &str, max_chars: usize) -> Result<&str, ContentError> {
    if text.chars().count() > max_chars {
        return Err(ContentError::Limit);
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(ContentError::Malformed);
    }
    Ok(text)
}

fn read_text(r: &mut cbor::Reader<'_>, max_chars: usize) -> Result<String, ContentError> {
    checked(r.text(limits::EXTENSION_VALUE)?, max_chars).map(str::to_owned)
}
