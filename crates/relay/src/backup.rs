//! A relay's mailboxes in one file, and a new data folder from it.
//!
//! What cannot be made again without its owners is in it: of each mailbox its owner's key, MAC root, incarnation,
//! month of renewal and revocations, and the relay's name. What waits is not: no envelope, no slot, no blob, no
//! bundle, and no key under which any of it lies. So a backup never brings back what was delivered or is over, and
//! whoever steals one reads nothing; with its MAC roots he could write to mailboxes.
//!
//! ```text
//! file    "bulla-relay-copy" ‖ u8 1 ‖ head ‖ mailbox* ‖ u32 0 ‖ SHA-256 of all before it
//! head, mailbox   u32 length ‖ a protobuf message; mailboxes in the order of their ids
//! ```
//!
//! What is restored has a new instance id: endpoints that see one make their mailboxes again and say again what the
//! backup may lack. What an older incarnation permits stands in `docs/durability.md`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulla_protocol::id::{GrantId, Incarnation, IncarnationNonce, MailboxId};
use bulla_protocol::limits::REVOCATIONS_PER_MAILBOX;
use bulla_protocol::permit::{MacRoot, RelayName};
use prost::Message as _;
use rand_core::CryptoRngCore;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

use crate::clock::{Clock as _, GuardedClock, Machine};
use crate::server::{RelayError, make_folder, open_store};
use crate::socket;
use crate::store::{MailboxRecord, Store, StoreError, Write};

const MAGIC: &[u8; 16] = b"bulla-relay-copy";
const VERSION: u8 = 1;

/// Bytes of one record: a mailbox with all the revocations that it may have, 18 bytes each, and some room.
const LONGEST: usize = REVOCATIONS_PER_MAILBOX as usize * 18 + 4_096;

/// Changes that are written together.
const GROUP: usize = 4_096;

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    day: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Mailbox {
    #[prost(bytes = "vec", tag = "1")]
    mailbox: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    owner_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    mac_root: Vec<u8>,
    #[prost(uint64, tag = "4")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "5")]
    nonce: Vec<u8>,
    #[prost(uint32, tag = "6")]
    month: u32,
    #[prost(bytes = "vec", repeated, tag = "7")]
    revoked: Vec<Vec<u8>>,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The relay's name, if it was known.
    pub name: Option<RelayName>,
    /// The day (since 1970) on which it was made, by the relay's clock.
    pub day: u32,
    /// How many mailboxes.
    pub mailboxes: u64,
    /// How many grants were revoked in them.
    pub revoked: u64,
}

/// Why a backup was not made or not put back. Nothing is left under the names that were asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The folder is not a relay's.
    #[error("{0} is not the data folder of a relay. Give the one that `bulla-relay serve --data` was started with")]
    NoData(PathBuf),
    /// What is to be made is there already.
    #[error("{0} is there already; choose another name, or move it away")]
    Exists(PathBuf),
    /// Another file.
    #[error("{0} is not a backup of a relay")]
    NotABackup(PathBuf),
    /// Made by a later version.
    #[error(
        "the backup {0} has format {1}, which this version does not read: use the version that made it, or a later one"
    )]
    Version(PathBuf, u8),
    /// Its bytes are not those that were written.
    #[error("the backup {0} is damaged ({1}). Take another copy of it")]
    Damaged(PathBuf, &'static str),
    /// The running relay gave no backup.
    #[error("the running relay gave no complete backup. Is it of the same version? Try again, or stop it first")]
    Answer,
    /// The running relay did not answer.
    #[error("the running relay does not answer: {0}. Try again, or stop it first")]
    Socket(std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] RelayError),
    /// The store cannot be read or written.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("cannot use {0}: {1}")]
    Io(PathBuf, std::io::Error),
}

/// A backup of a store, whole.
pub(crate) fn write(store: &dyn Store, name: &str, day: u32) -> Result<Vec<u8>, StoreError> {
    let mut out = [MAGIC.as_slice(), &[VERSION]].concat();
    let mut record = |bytes: Vec<u8>| {
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&bytes);
    };
    record(Head { name: name.to_owned(), day }.encode_to_vec());
    let mut after = None;
    loop {
        let page = store.mailboxes(after.as_ref(), 256)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (id, _) in page {
            // Deleted since the page was read.
            let Some(loaded) = store.load(&id)? else { continue };
            let kept = loaded.record;
            let mailbox = Mailbox {
                mailbox: id.to_vec(),
                owner_key: kept.owner_key.to_vec(),
                mac_root: kept.root.expose().to_vec(),
                incarnation: kept.incarnation.number,
                nonce: kept.incarnation.nonce.to_vec(),
                month: kept.month,
                revoked: loaded.revoked.iter().map(|grant| grant.to_vec()).collect(),
            };
            record(mailbox.encode_to_vec());
        }
    }
    out.extend_from_slice(&0_u32.to_be_bytes());
    let sum = Sha256::digest(&out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// Why bytes are no backup.
#[derive(Debug)]
enum Bad {
    NotABackup,
    Version(u8),
    Damaged(&'static str),
    Io(std::io::Error),
    Store(StoreError),
}

impl From<std::io::Error> for Bad {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Damaged("it ends too early") } else { Self::Io(error) }
    }
}

/// Reads a backup record by record, and takes the sum of what it reads.
struct Reading<R> {
    from: R,
    sum: Sha256,
}

impl<R: Read> Reading<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.sum.update(bytes);
        Ok(bytes)
    }

    /// The next record; none after the last.
    fn record(&mut self) -> Result<Option<Vec<u8>>, Bad> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        if length > LONGEST {
            return Err(Bad::Damaged("a record is too long"));
        }
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(Some(bytes))
    }
}

/// A mailbox of a backup, its fields checked.
fn understand(bytes: &[u8]) -> Option<(MailboxId, MailboxRecord, Vec<GrantId>)> {
    let read = Mailbox::decode(bytes).ok()?;
    let record = MailboxRecord {
        owner_key: read.owner_key.try_into().ok()?,
        root: MacRoot::from_slice(&read.mac_root).ok()?,
        incarnation: Incarnation { number: read.incarnation, nonce: IncarnationNonce::from_slice(&read.nonce).ok()? },
        month: read.month,
    };
    let revoked: Option<Vec<_>> = read.revoked.iter().map(|grant| GrantId::from_slice(grant).ok()).collect();
    Some((MailboxId::from_slice(&read.mailbox).ok()?, record, revoked?))
}

/// Reads a backup to its end and gives every mailbox to `each`. What it gave counts only if this says so at the end.
fn read(
    from: impl Read,
    mut each: impl FnMut(MailboxId, MailboxRecord, Vec<GrantId>) -> Result<(), StoreError>,
) -> Result<Summary, Bad> {
    let mut reading = Reading { from, sum: Sha256::new() };
    let magic: [u8; 16] = reading.take().map_err(|bad| match bad {
        Bad::Damaged(_) => Bad::NotABackup,
        other => other,
    })?;
    if magic != *MAGIC {
        return Err(Bad::NotABackup);
    }
    let [version] = reading.take()?;
    if version != VERSION {
        return Err(Bad::Version(version));
    }
    let head = reading.record()?.ok_or(Bad::Damaged("it has no head"))?;
    let head = Head::decode(head.as_slice()).map_err(|_| Bad::Damaged("its head"))?;
    let mut summary = Summary { name: RelayName::new(&head.name), day: head.day, mailboxes: 0, revoked: 0 };
    let mut last = None;
    while let Some(bytes) = reading.record()? {
        let (id, record, revoked) = understand(&bytes).ok_or(Bad::Damaged("a mailbox"))?;
        if last.replace(id) >= Some(id) {
            return Err(Bad::Damaged("the order of its mailboxes"));
        }
        summary.mailboxes += 1;
        summary.revoked += revoked.len() as u64;
        each(id, record, revoked).map_err(Bad::Store)?;
    }
    let sum = std::mem::take(&mut reading.sum).finalize();
    let said: [u8; 32] = reading.take()?;
    if said != sum[..] {
        return Err(Bad::Damaged("its sum"));
    }
    match reading.from.read(&mut [0])? {
        0 => Ok(summary),
        _ => Err(Bad::Damaged("something follows its end")),
    }
}

fn named(file: &Path, bad: Bad) -> BackupError {
    let file = file.to_owned();
    match bad {
        Bad::NotABackup => BackupError::NotABackup(file),
        Bad::Version(version) => BackupError::Version(file, version),
        Bad::Damaged(what) => BackupError::Damaged(file, what),
        Bad::Io(error) => BackupError::Io(file, error),
        Bad::Store(error) => BackupError::Store(error),
    }
}

/// Writes a backup of the relay on a data folder to a new file, for its owner's eyes only. A relay that runs is
/// asked; one that does not keeps its name nowhere, so that it must be told.
pub fn make(data: &Path, to: &Path, name: Option<&RelayName>) -> Result<Summary, BackupError> {
    if !data.join("store").is_dir() {
        return Err(BackupError::NoData(data.to_owned()));
    }
    absent(to)?;
    let bytes = match socket::ask(data, socket::BACKUP) {
        Some(answer) => answer.map_err(BackupError::Socket)?,
        None => {
            let store = open_store(data, Box::new(rand_core::OsRng))?;
            let clock = data.join("clock");
            let day = GuardedClock::open(&clock, Machine).map_err(|error| BackupError::Io(clock, error))?.day();
            write(&store, name.map(RelayName::as_str).unwrap_or_default(), day)?
        }
    };
    let summary = read(bytes.as_slice(), |_, _, _| Ok(())).map_err(|_| BackupError::Answer)?;
    let partial = beside(to);
    let written = remove_if_there(&partial)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial))
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| BackupError::Io(partial.clone(), error)).and_then(|()| settle(&partial, to)).inspect_err(
        |_| {
            let _ = remove_if_there(&partial);
        },
    )?;
    Ok(summary)
}

/// Makes a data folder of a backup: with a new instance id, and nothing that waits.
pub fn restore(file: &Path, data: &Path, random: Box<dyn CryptoRngCore + Send>) -> Result<Summary, BackupError> {
    let io = |error| BackupError::Io(file.to_owned(), error);
    let mut opened = File::open(file).map_err(io)?;
    // Once to its end, before anything is made of it.
    read(BufReader::new(&opened), |_, _, _| Ok(())).map_err(|bad| named(file, bad))?;
    opened.rewind().map_err(io)?;
    let is_empty = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty(data) {
        absent(data)?;
    }
    let partial = beside(data);
    let made =
        remove_folder_if_there(&partial).map_err(|error| BackupError::Io(partial.clone(), error)).and_then(|()| {
            let summary = fill(&partial, BufReader::new(&opened), random).map_err(|bad| match bad {
                Filled::Open(error) => BackupError::Open(error),
                Filled::Bad(bad) => named(file, bad),
            })?;
            settle(&partial, data)?;
            Ok(summary)
        });
    made.inspect_err(|_| {
        let _ = remove_folder_if_there(&partial);
    })
}

enum Filled {
    Open(RelayError),
    Bad(Bad),
}

fn fill(folder: &Path, from: impl Read, random: Box<dyn CryptoRngCore + Send>) -> Result<Summary, Filled> {
    make_folder(folder).map_err(Filled::Open)?;
    // A store that is made has an instance id of its own.
    let store = open_store(folder, random).map_err(Filled::Open)?;
    let mut writes = Vec::new();
    let summary = read(from, |id, record, revoked| {
        writes.push(Write::PutMailbox(id, record));
        writes.extend(revoked.into_iter().map(|grant| Write::Revoke(id, grant)));
        if writes.len() >= GROUP {
            store.commit(std::mem::take(&mut writes))?;
        }
        Ok(())
    })
    .map_err(Filled::Bad)?;
    store.commit(writes).map_err(|error| Filled::Bad(Bad::Store(error)))?;
    Ok(summary)
}

fn absent(place: &Path) -> Result<(), BackupError> {
    match std::fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::Io(place.to_owned(), error)),
        Ok(_) => Err(BackupError::Exists(place.to_owned())),
    }
}

/// Where something is made before it has its name.
fn beside(place: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".partial");
    place.with_file_name(name)
}

/// Gives what is whole its name, durably. A file is in nobody's place; a folder may take that of an empty one.
fn settle(partial: &Path, place: &Path) -> Result<(), BackupError> {
    let io = |error: std::io::Error| BackupError::Io(place.to_owned(), error);
    let flags = if partial.is_dir() { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    renameat_with(CWD, partial, CWD, place, flags).map_err(|error| match error {
        rustix::io::Errno::EXIST => BackupError::Exists(place.to_owned()),
        other => io(other.into()),
    })?;
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)
}

fn remove_if_there(file: &Path) -> std::io::Result<()> {
    std::fs::remove_file(file).or_else(nothing_there)
}

fn remove_folder_if_there(folder: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(folder).or_else(nothing_there)
}

fn nothing_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(folder.path(), Box::new(rand_core::OsRng)).unwrap();
        for seed in [1, 2] {
            let record = MailboxRecord {
                owner_key: [seed; 32],
                root: MacRoot::new([seed; 32]),
                incarnation: Incarnation { number: 7, nonce: IncarnationNonce::new([seed; 16]) },
                month: 681,
            };
            let id = MailboxId::new([seed; 16]);
            let revoked = Write::Revoke(id, GrantId::new([9; 16]));
            store.commit(vec![Write::PutMailbox(id, record), revoked]).unwrap();
        }
        write(&store, "relay.test", 20_484).unwrap()
    }

    /// With a sum that fits, as somebody would make it who wants it to be read.
    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        bytes
    }

    fn why(bytes: &[u8]) -> String {
        format!("{:?}", read(bytes, |_, _, _| Ok(())).unwrap_err())
    }

    #[test]
    fn a_backup_is_read_as_it_was_written_and_no_byte_of_it_can_change() {
        let good = good();
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/backup-v1.json")).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&good),
            fixture["backup"],
            "every later version must read what this one wrote"
        );
        let mut seen = Vec::new();
        let summary = read(good.as_slice(), |id, record, revoked| {
            seen.push((id, record.owner_key, *record.root.expose(), record.incarnation.number, record.month, revoked));
            Ok(())
        });
        let name = RelayName::new("relay.test");
        assert_eq!(summary.unwrap(), Summary { name, day: 20_484, mailboxes: 2, revoked: 2 });
        let mailbox =
            |seed: u8| (MailboxId::new([seed; 16]), [seed; 32], [seed; 32], 7, 681, vec![GrantId::new([9; 16])]);
        assert_eq!(seen, [mailbox(1), mailbox(2)]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(read(bad.as_slice(), |_, _, _| Ok(())).is_err(), "byte {at}");
            assert!(read(&good[..at], |_, _, _| Ok(())).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_backup_is_said() {
        let good = good();
        let body = &good[..good.len() - 32];
        assert_eq!(why(b"PNG"), "NotABackup");
        assert_eq!(why(&[0; 64]), "NotABackup");
        let mut later = good.clone();
        later[16] = 2;
        assert_eq!(why(&later), "Version(2)");
        assert_eq!(why(&good[..40]), "Damaged(\"it ends too early\")");
        assert_eq!(why(&[&good[..], b"x"].concat()), "Damaged(\"something follows its end\")");
        let start = [MAGIC.as_slice(), &[VERSION]].concat();
        assert_eq!(why(&[&start[..], &[0xff; 4]].concat()), "Damaged(\"a record is too long\")");
        assert_eq!(why(&summed([&start[..], &[0; 4]].concat())), "Damaged(\"it has no head\")");
        // The second mailbox once more.
        let (mut at, mut begins) = (MAGIC.len() + 1, Vec::new());
        while at < body.len() {
            begins.push(at);
            at += 4 + u32::from_be_bytes(*body[at..].first_chunk().unwrap()) as usize;
        }
        assert_eq!(begins.len(), 4, "a head, two mailboxes, the end");
        let (before, last) = (&body[..begins[2]], &body[begins[2]..begins[3]]);
        let again = [before, last, last, &[0; 4]].concat();
        assert_eq!(why(&summed(again)), "Damaged(\"the order of its mailboxes\")");
        let nobody = [before, &[0, 0, 0, 2, 0x0a, 0x00], &[0; 4]].concat();
        assert_eq!(why(&summed(nobody)), "Damaged(\"a mailbox\")");
    }
}
