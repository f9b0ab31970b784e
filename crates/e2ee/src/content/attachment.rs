//! An attachment as a message names it: the draft's ExternalPart, with a preview beside it where the sender made one.
//!
//! ```text
//! [6 attachment, "", 2, media type, "bulla:o/<blob, hex>", expires, size, 32769, key, h'', h'', 1, SHA-256 of the file, caption, name]
//! [1, "", 3, 1 singleUnit, [ that, [8 preview, "", 1, image/…, picture] ]]
//! ```
//!
//! `expires` is when the blob goes (Unix seconds, 0 for unknown), `size` the file's, and 32769 the sealing of [`crate::attachment`]: a number
//! that the registry of AEADs leaves to private use. Where it lies is said by nobody: at the relay of the business's mailbox.

use bulla_protocol::id::BlobId;

use crate::attachment::AttachmentKey;
use crate::cbor::Writer;
use crate::content::ContentError;
use crate::limits;

pub(super) const DISPOSITION: u64 = 6;
pub(super) const PREVIEW: u64 = 8;
pub(super) const SINGLE_UNIT: u64 = 1;
const SEALING: u64 = 0x8001;
const SHA_256: u64 = 1;
const SCHEME: &str = "bulla:o/";

/// Media types that a preview may have: what every browser's decoder has been fed with for decades.
const PICTURES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];

/// A small picture of what is attached, made by its sender's device.
#[derive(Clone, PartialEq, Eq)]
pub struct Preview {
    /// `image/jpeg`, `image/png` or `image/webp`.
    pub media_type: String,
    /// At most [`limits::PREVIEW`] bytes.
    pub bytes: Vec<u8>,
}

impl core::fmt::Debug for Preview {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Preview({} bytes)", self.bytes.len())
    }
}

/// A file that lies sealed at the relay.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name at the relay.
    pub blob: BlobId,
    /// Opens it.
    pub key: AttachmentKey,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// What the sender says that it is. Whoever shows or saves it looks at its bytes.
    pub media_type: String,
    /// What the sender calls it. Never a path: whoever saves it makes a name of it.
    pub name: String,
    /// When it goes from the relay, Unix seconds; 0 for unknown.
    pub expires: u32,
    /// What the sender writes under it; empty for nothing.
    pub caption: String,
    /// A small picture of it.
    pub preview: Option<Preview>,
}

impl core::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Attachment({} bytes)", self.size)
    }
}

/// The fields of an ExternalPart, as they came.
pub(super) struct External<'b> {
    pub(super) content_type: &'b str,
    pub(super) url: &'b str,
    pub(super) expires: u32,
    pub(super) size: u64,
    pub(super) sealing: u64,
    pub(super) key: &'b [u8],
    pub(super) hash_algorithm: u64,
    pub(super) hash: &'b [u8],
    pub(super) description: &'b str,
    pub(super) name: &'b str,
}

impl Attachment {
    pub(super) fn check(&self) -> Result<(), ContentError> {
        let preview = self.preview.as_ref().is_none_or(Preview::is_good);
        let fits = self.size <= limits::ATTACHMENT
            && self.caption.len() <= limits::CAPTION
            && self.name.len() <= limits::NAME
            && self.media_type.len() <= limits::NAME;
        if preview && fits { Ok(()) } else { Err(ContentError::Limit) }
    }

    pub(super) fn write(&self, w: Writer) -> Writer {
        let external = |w: Writer| {
            w.array(15)
                .uint(DISPOSITION)
                .text("")
                .uint(2)
                .text(&self.media_type)
                .text(&format!("{SCHEME}{}", self.blob.to_hex()))
                .uint(u64::from(self.expires))
                .uint(self.size)
                .uint(SEALING)
                .bytes(self.key.expose())
                .bytes(&[])
                .bytes(&[])
                .uint(SHA_256)
                .bytes(&self.digest)
                .text(&self.caption)
                .text(&self.name)
        };
        match &self.preview {
            None => external(w),
            Some(preview) => external(w.array(5).uint(1).text("").uint(3).uint(SINGLE_UNIT).array(2))
                .array(5)
                .uint(PREVIEW)
                .text("")
                .uint(1)
                .text(&preview.media_type)
                .bytes(&preview.bytes),
        }
    }

    /// `None`: not sealed as this version seals, or over a limit; it is shown as unsupported.
    pub(super) fn read(part: &External<'_>, preview: Option<Preview>) -> Option<Self> {
        if part.sealing != SEALING || part.hash_algorithm != SHA_256 {
            return None;
        }
        let attachment = Self {
            blob: BlobId::from_hex(part.url.strip_prefix(SCHEME)?)?,
            key: AttachmentKey::from_bytes(part.key.try_into().ok()?),
            size: part.size,
            digest: part.hash.try_into().ok()?,
            media_type: part.content_type.to_owned(),
            name: part.name.to_owned(),
            expires: part.expires,
            caption: part.description.to_owned(),
            preview,
        };
        attachment.check().ok().map(|()| attachment)
    }
}

impl Preview {
    /// Whether it is one that may be shown.
    #[must_use]
    pub fn is_good(&self) -> bool {
        PICTURES.contains(&self.media_type.as_str()) && !self.bytes.is_empty() && self.bytes.len() <= limits::PREVIEW
    }
}
