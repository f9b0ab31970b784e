//! Files: attached from here, saved to here.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bulla_client::event::{Direction, Message, Shown};
use bulla_client::media::{FileCard, MediaError, NewAttachment, Upload, UploadFailure, safe_name, sniff};

use super::Session;
use crate::text::one_line;

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// Names that are tried for a file that is saved where one of its name is.
const NAMES: u32 = 1_000;

impl Session {
    /// Attaches a file: it is on its way, whatever happens, once this returns.
    pub(super) async fn attach(&self, path: &str) -> Result<Option<String>, String> {
        let trouble = |e: std::io::Error| format!("{path}: {e}");
        let mut file = std::fs::File::open(path).map_err(trouble)?;
        let metadata = file.metadata().map_err(trouble)?;
        if !metadata.is_file() {
            return Err(format!("{path} is not a file"));
        }
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut head = vec![0; 512];
        let read = std::io::Read::read(&mut file, &mut head).map_err(trouble)?;
        head.truncate(read);
        let media_type = sniff(&head).map_or("application/octet-stream", |(media_type, _)| media_type).to_owned();
        let new = NewAttachment { name, media_type, size: metadata.len(), ..NewAttachment::default() };
        let mut writer = self.endpoint.attach(self.conversation.id, new).await.map_err(words)?;
        writer.write(head).await.map_err(words)?;
        loop {
            let mut piece = vec![0; PIECE];
            let read = std::io::Read::read(&mut file, &mut piece).map_err(trouble)?;
            if read == 0 {
                break;
            }
            piece.truncate(read);
            writer.write(piece).await.map_err(words)?;
        }
        writer.finish().await.map_err(words)?;
        Ok(None)
    }

    /// Fetches a file, and saves it in a folder under a name that says what it is.
    pub(super) async fn save(&self, message: &Message, to: Option<&str>) -> Result<String, String> {
        let mut reader = self.endpoint.open(message.id).await.map_err(words)?;
        let first = reader.next().await.map_err(words)?;
        let name = safe_name(&reader.card().name, first.as_deref().unwrap_or_default());
        let target = to.map_or_else(PathBuf::new, PathBuf::from);
        let target = if to.is_none() || target.is_dir() { target.join(name) } else { target };
        let trouble = |e: std::io::Error| format!("{}: {e}", target.display());
        // Beside its place until it is whole: what is there under its name is the file.
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".bulla-").tempfile_in(folder).map_err(trouble)?;
        let mut piece = first;
        while let Some(bytes) = piece {
            file.write_all(&bytes).map_err(trouble)?;
            piece = reader.next().await.map_err(words)?;
        }
        file.as_file().sync_all().map_err(trouble)?;
        for number in 1..NAMES {
            let numbered = numbered(&target, number);
            match file.persist_noclobber(&numbered) {
                Ok(_) => return Ok(format!("saved as {}", one_line(&numbered.display().to_string(), 200))),
                Err(taken) if taken.error.kind() == std::io::ErrorKind::AlreadyExists => file = taken.file,
                Err(other) => return Err(trouble(other.error)),
            }
        }
        Err(format!("{} is there already, many times over", target.display()))
    }

    /// Gives up what waits to be uploaded.
    pub(super) async fn cancel(&self) -> Result<String, String> {
        let uploads = self.endpoint.uploads(self.conversation.id).await.map_err(super::command::words)?;
        if uploads.is_empty() {
            return Err("no file waits to be uploaded".to_owned());
        }
        for upload in &uploads {
            self.endpoint.cancel_upload(upload.id).await.map_err(super::command::words)?;
        }
        let names: Vec<_> = uploads.iter().map(|upload| one_line(&upload.file.name, 40)).collect();
        Ok(format!("not sent: {}", names.join(", ")))
    }
}

fn numbered(target: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return target.to_owned();
    }
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    let end = target.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    target.with_file_name(format!("{stem} ({number}){end}"))
}

/// A file that the business sent, or one's own.
pub(super) fn card(message: &Message) -> Option<&FileCard> {
    match &message.shown {
        Shown::File(card) | Shown::Interactive(_, Some(card)) if !message.deleted => Some(card),
        _ => None,
    }
}

/// A file in a few words: what it is called, how large it is.
pub(super) fn described(card: &FileCard) -> String {
    format!("{} ({})", one_line(&card.name, 60), bytes(card.size))
}

/// The words that a file's message shows.
pub(super) fn shown(card: &FileCard, id: &str, direction: Direction) -> String {
    let how = match direction {
        Direction::Incoming => format!(" · /save {id}"),
        Direction::Outgoing => String::new(),
    };
    let caption = if card.caption.is_empty() { String::new() } else { format!("\n{}", card.caption) };
    format!("📎 {}{how}{caption}", described(card))
}

/// Why an upload does not go on, as a sentence.
pub(super) fn stopped(upload: &Upload) -> Option<String> {
    let why = match upload.failed? {
        UploadFailure::Refused => "the business does not take files from here",
        UploadFailure::TooLarge => "it is larger than the relay allows",
        UploadFailure::Lost => "it is not here any more",
        _ => "the conversation does not take it",
    };
    Some(format!("{} was not sent: {why}. /cancel forgets it", one_line(&upload.file.name, 60)))
}

/// Bytes for people: 1,000 to a kB, as file managers have it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn words(error: MediaError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_for_people() {
        for (length, text) in [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (12_345, "12 kB"), (2_140_000, "2.1 MB")] {
            assert_eq!(bytes(length), text);
        }
    }

    #[test]
    fn a_second_file_of_a_name_gets_a_number() {
        assert_eq!(numbered(Path::new("/a/cup.png"), 1), Path::new("/a/cup.png"));
        assert_eq!(numbered(Path::new("/a/cup.png"), 2), Path::new("/a/cup (2).png"));
        assert_eq!(numbered(Path::new("cup"), 3), Path::new("cup (3)"));
    }
}
