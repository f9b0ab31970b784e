//! Attached files, as programs see them: what they hand over, what they get, and what may be believed of a file that came.
//!
//! A file is sealed once, into parts that are kept here ([`crate::store::parts`]); what waits to be uploaded is in the store, so that it goes on after
//! a restart; the message goes out once the relay has it all. What is fetched is kept too, sealed as it came, and opened when it is looked at.
//! Nothing is fetched that nobody asked for.

use bulla_e2ee::attachment::{AttachmentError, AttachmentKey};
use bulla_e2ee::content::MessageId;
use bulla_protocol::blob::WriteKey;

use crate::engine::commands::CommandError;
use crate::event::ConversationId;
use crate::store::StoreError;
use crate::transport::TransportError;

pub use bulla_e2ee::content::{Attachment, Preview};
pub use bulla_protocol::id::BlobId;

/// Characters of a caption, as the Cloud API has it.
pub const MAX_CAPTION: usize = 1_024;

/// Files that wait to be uploaded at one endpoint, at most.
pub const MAX_UPLOADS: usize = 64;

/// What is to be attached; the file itself follows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NewAttachment {
    /// What it is called.
    pub name: String,
    /// What it is; empty for unknown.
    pub media_type: String,
    /// Bytes of the file, exactly.
    pub size: u64,
    /// What is said under it; empty for nothing.
    pub caption: String,
    /// A small picture of it.
    pub preview: Option<Preview>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
}

impl std::fmt::Debug for NewAttachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewAttachment({} bytes)", self.size)
    }
}

/// A file that was sealed and lies in parts here.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Its name at the relay.
    pub blob: BlobId,
    /// Opens it.
    pub key: AttachmentKey,
    /// Writes it at the relay.
    pub write_key: WriteKey,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
}

/// A file on its way to the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: BlobId,
    /// Where it will be said.
    pub conversation: ConversationId,
    /// What it looks like meanwhile.
    pub file: FileCard,
    /// When it was attached, Unix ms.
    pub created_ms: u64,
    /// Why it does not go on.
    pub failed: Option<UploadFailure>,
    /// Bytes of it that the relay has, sealed, in this run.
    pub sent: u64,
    /// Bytes of it in all, sealed.
    pub of: u64,
}

/// What is known of an attached file without its bytes. All of it is its sender's word.
#[derive(Clone, PartialEq, Eq)]
pub struct FileCard {
    /// What its sender calls it. Never a path; [`safe_name`] makes a name of it.
    pub name: String,
    /// What its sender says that it is.
    pub media_type: String,
    /// Bytes of the file.
    pub size: u64,
    /// What is said under it; empty for nothing.
    pub caption: String,
    /// A small picture of it.
    pub preview: Option<Preview>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// When it goes from the relay, Unix seconds; 0 for unknown.
    pub expires: u32,
}

impl std::fmt::Debug for FileCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileCard({} bytes)", self.size)
    }
}

impl From<&Attachment> for FileCard {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { name, media_type, size, caption, preview, digest, expires, .. } = attachment.clone();
        Self { name, media_type, size, caption, preview, digest, expires }
    }
}

/// Why an upload does not go on until somebody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum UploadFailure {
    /// The relay refuses the permit: withdrawn, expired, blocked.
    #[n(0)]
    Refused,
    /// The relay takes no file of this length.
    #[n(1)]
    TooLarge,
    /// Its parts are not here any more.
    #[n(2)]
    Lost,
    /// The conversation does not take it: this device was removed, or what it answers is gone.
    #[n(3)]
    NotSaid,
}

/// Why a file was not sealed, sent, fetched or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Too large, of another length than was said, or not what its sender sealed.
    #[error(transparent)]
    File(#[from] AttachmentError),
    /// It could not be kept here.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The conversation does not take it, or there is none.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The relay does not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The relay has it no more.
    #[error("the file is no longer there: files are kept for 30 days")]
    Gone,
    /// The relay takes no file from here.
    #[error("the relay does not take the file")]
    Refused,
    /// The relay is full, or this much was uploaded today.
    #[error("the relay takes no more files now; try again in {retry_after_secs} s")]
    Full {
        /// When to try again.
        retry_after_secs: u32,
    },
    /// Whoever wanted it has gone, or the endpoint has stopped.
    #[error("it was stopped")]
    Stopped,
}

/// What a file is, by its first bytes: a media type, and the extension that its name gets. `None` for what has no mark of its own, as text has none.
#[must_use]
pub fn sniff(head: &[u8]) -> Option<(&'static str, &'static str)> {
    infer::get(head).map(|kind| (kind.mime_type(), kind.extension()))
}

/// Whether a file of this type, found by [`sniff`], is a picture that may be shown where it stands.
#[must_use]
pub fn is_picture(media_type: &str) -> bool {
    matches!(media_type, "image/jpeg" | "image/png" | "image/webp" | "image/gif")
}

/// Extensions that a file without a mark of its own may keep: text that opens in an editor, and nothing that runs.
const PLAIN: [&str; 6] = ["txt", "csv", "md", "ics", "vcf", "json"];

/// Characters of a saved file's name before its extension.
const NAME_CHARS: usize = 80;

/// A name under which a file that came may be saved: letters, digits and a little more of what its sender calls it, and an extension that says what
/// its bytes are (DEV-04).
#[must_use]
pub fn safe_name(name: &str, head: &[u8]) -> String {
    let (stem, said) = name.rsplit_once('.').unwrap_or((name, ""));
    let said = said.trim().to_ascii_lowercase();
    let extension = match sniff(head) {
        Some((_, extension)) => extension,
        None if PLAIN.contains(&said.as_str()) && !head.contains(&0) => said.as_str(),
        None => "bin",
    };
    let mut safe = String::new();
    for c in stem.chars().take(4 * NAME_CHARS) {
        // What is left out stands as one space.
        let c = if c.is_alphanumeric() || matches!(c, '-' | '_' | '(' | ')' | '+' | ',') { c } else { ' ' };
        if c != ' ' || !(safe.is_empty() || safe.ends_with(' ')) {
            safe.push(c);
        }
    }
    let mut safe: String = safe.chars().take(NAME_CHARS).collect();
    // File systems count bytes, and some 255 of them.
    while safe.len() > 200 {
        safe.pop();
    }
    let safe = safe.trim_end();
    let device = ["con", "prn", "aux", "nul", "conin$", "conout$"].contains(&safe.to_ascii_lowercase().as_str())
        || ["com", "lpt"]
            .iter()
            .any(|port| safe.to_ascii_lowercase().strip_prefix(port).is_some_and(|n| n.chars().count() == 1));
    match safe {
        "" => format!("file.{extension}"),
        safe if device => format!("_{safe}.{extension}"),
        safe => format!("{safe}.{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const EXE: &[u8] = b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0";

    #[test]
    fn dev_04_a_name_ends_with_what_its_bytes_are() {
        for (name, head, expected) in [
            ("holiday.png", PNG, "holiday.png"),
            ("holiday.jpg", PNG, "holiday.png"),
            ("invoice.pdf.exe", EXE, "invoice pdf.exe"),
            ("invoice.pdf", EXE, "invoice.exe"),
            ("photo\u{202e}gnp.exe", PNG, "photo gnp.png"),
            ("a\0b.png", PNG, "a b.png"),
            ("../../etc/passwd", PNG, "file.png"),
            ("../etc/passwd.png", PNG, "etc passwd.png"),
            ("..", PNG, "file.png"),
            ("", b"", "file.bin"),
            ("notes.txt", b"hello", "notes.txt"),
            ("notes.TXT ", b"hello", "notes.txt"),
            ("run.bat", b"del", "run.bin"),
            ("page.html", b"plain words", "page.bin"),
            ("list.csv", b"\0\0", "list.bin"),
            ("con.png", PNG, "_con.png"),
            ("LPT1.txt", b"x", "_LPT1.txt"),
            ("trailing. . .png", PNG, "trailing.png"),
            ("Überweisung (2).pdf", b"%PDF-1.7", "Überweisung (2).pdf"),
            (".htaccess", b"x", "file.bin"),
        ] {
            assert_eq!(safe_name(name, head), expected, "{name:?}");
        }
    }

    /// DEV-04: 2,000 names of what has been used against others; what is saved is a name, of some length, with the extension that belongs to it.
    #[test]
    fn dev_04_a_corpus_of_names_gives_names() {
        let bad = [
            "\0",
            "\u{202e}",
            "\u{2066}",
            "/",
            "\\",
            ":",
            "|",
            "\r\n",
            "\u{200b}",
            "..",
            " ",
            ".",
            "%2e%2e",
            "$(x)",
            "`x`",
            "\u{7f}",
            "CON",
            "NUL.",
            "é\u{301}",
            "名前",
        ];
        let ends = [".exe", ".png.exe", ".png", ".lnk", ".scr ", ".js\0.png", ".html", ".", "", ".desktop"];
        let mut seen = 0;
        for a in bad {
            for b in bad {
                for end in ends {
                    for head in [PNG, b"#!/bin/sh\n"] {
                        let name = format!("{a}report{b}{end}");
                        let safe = safe_name(&name, head);
                        let extension = sniff(head).map_or("bin", |(_, extension)| extension);
                        assert!(safe.ends_with(&format!(".{extension}")), "{name:?} {safe:?}");
                        let stem = &safe[..safe.len() - extension.len() - 1];
                        assert!(
                            !stem.is_empty() && stem.chars().all(|c| c.is_alphanumeric() || " -_()+,".contains(c)),
                            "{name:?} {safe:?}"
                        );
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 8_000);
        assert!(safe_name(&"x".repeat(300), PNG).len() <= 84);
        assert!(safe_name(&"名".repeat(300), PNG).len() <= 255);
    }

    #[test]
    fn what_may_be_shown_is_a_picture_by_its_bytes() {
        assert_eq!(sniff(PNG), Some(("image/png", "png")));
        assert!(is_picture("image/png") && !is_picture("image/svg+xml") && !is_picture("text/html"));
        assert_eq!(sniff(b"<svg xmlns=\"http://www.w3.org/2000/svg\">").map(|(mime, _)| is_picture(mime)), None);
    }
}
