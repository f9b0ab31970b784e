//! The journal's last batch, where a power cut has torn it.
//!
//! The engine writes a batch, syncs it, and only then writes the next. So a power cut can tear the last batch alone, of which nobody was told
//! anything. The engine discards one whose end is missing. One whose end has reached the disk and whose middle has not it takes for damage, and does
//! not open: a disk may write the pages of one sync in any order, so this is what a power cut under load can leave.
//!
//! Here the end of the last batch is taken away, and the engine then discards what is left of it. If that was not the damaged one (somebody's bytes
//! were lost that had been durable), the store does still not open, the end is put back, and the relay says so.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ::fjall::{Database, Error, JournalRecoveryError};

use super::StoreError;
use crate::sabotage::{Rule, broken};

/// The last bytes of every batch.
const END: &[u8] = b"FJL\x03";

/// Bytes of one read.
const STEP: usize = 64 * 1024;

/// Opens a store that is there, without the batch that a power cut has torn.
pub(super) fn open(folder: &Path) -> Result<Database, StoreError> {
    let error = match Database::builder(folder).open() {
        Err(error @ Error::JournalRecovery(_)) if !broken(Rule::TailMended) => error,
        opened => return opened.map_err(Into::into),
    };
    let (
        Error::JournalRecovery(
            JournalRecoveryError::ChecksumMismatch
            | JournalRecoveryError::InsufficientLength
            | JournalRecoveryError::TooManyItems,
        ),
        Some(journal),
    ) = (&error, newest(folder).map_err(failed)?)
    else {
        return Err(error.into());
    };
    let file = OpenOptions::new().read(true).write(true).open(journal).map_err(failed)?;
    let Some(end) = end_of_last(&file).map_err(failed)? else { return Err(error.into()) };
    write_synced(&file, end, &[0; END.len()]).map_err(failed)?;
    match Database::builder(folder).open() {
        Ok(db) => {
            tracing::warn!("a power cut has torn what was being written; nobody was told that it was stored");
            Ok(db)
        }
        Err(_) => {
            write_synced(&file, end, END).map_err(failed)?;
            Err(error.into())
        }
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Engine(format!("the journal: {error}"))
}

fn write_synced(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all_at(bytes, at)?;
    file.sync_data()
}

/// The journal that is written to: that of the highest number.
fn newest(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, path.extension().and_then(|name| name.to_str())) {
            journals.push((number, path));
        }
    }
    Ok(journals.into_iter().max().map(|(_, path)| path))
}

/// Where the end of the last batch begins, if that is what comes last before nothing but zeros.
fn end_of_last(file: &File) -> std::io::Result<Option<u64>> {
    let mut until = file.metadata()?.len();
    let mut buffer = vec![0; STEP];
    while until > 0 {
        let from = until.saturating_sub(STEP as u64);
        let part = buffer.get_mut(..usize::try_from(until - from).unwrap_or(STEP)).unwrap_or_default();
        file.read_exact_at(part, from)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            let Some(begin) = (from + last as u64 + 1).checked_sub(END.len() as u64) else { return Ok(None) };
            let mut found = [0; END.len()];
            file.read_exact_at(&mut found, begin)?;
            return Ok((found == END).then_some(begin));
        }
        until = from;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use bulla_protocol::id::{MailboxId, TagBlock};
    use bulla_protocol::permit::Class;
    use rand_core::OsRng;

    use super::*;
    use crate::store::fjall::FjallStore;
    use crate::store::{Page, Row, Store, Write};

    const A: MailboxId = MailboxId::new([1; 16]);

    fn open(folder: &Path) -> Result<FjallStore, StoreError> {
        FjallStore::open(&folder.join("store"), &folder.join("keys"), Box::new(OsRng))
    }

    /// Commits so many batches of several pages, and says where each ends.
    fn filled(folder: &Path, batches: u64) -> (PathBuf, Vec<u64>) {
        let store = open(folder).unwrap();
        let journal = newest(&folder.join("store")).unwrap().unwrap();
        let mut ends = Vec::new();
        for order in 1..=batches {
            let row =
                Row { day: 9, class: Class::Ordinary, tag: TagBlock::new([1; 16]), envelope: vec![7; 20_000].into() };
            store.commit(vec![Write::PutRow(A, order, row)]).unwrap();
            ends.push(end_of_last(&File::open(&journal).unwrap()).unwrap().unwrap());
        }
        (journal, ends)
    }

    fn lose_a_page(journal: &Path, at: u64) {
        let file = OpenOptions::new().write(true).open(journal).unwrap();
        file.write_all_at(&[0; 4_096], at / 4_096 * 4_096).unwrap();
    }

    fn orders(store: &FjallStore) -> Vec<u64> {
        let page = Page { rows: 99, bytes: usize::MAX };
        store.rows(&A, 0..=u64::MAX, page).unwrap().into_iter().map(|(order, _)| order).collect()
    }

    #[test]
    fn a_batch_that_a_power_cut_tore_is_discarded_and_those_before_it_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, ends) = filled(folder.path(), 3);
        lose_a_page(&journal, ends[2] - 10_000);
        let store = open(folder.path()).unwrap();
        assert_eq!(orders(&store), [1, 2]);
        let row = store.rows(&A, 1..=1, Page { rows: 1, bytes: 1 }).unwrap().pop().unwrap().1;
        store.commit(vec![Write::PutRow(A, 3, row)]).unwrap();
        drop(store);
        assert_eq!(orders(&open(folder.path()).unwrap()), [1, 2, 3], "and it is written to as before");
    }

    #[test]
    fn what_was_durable_and_is_damaged_is_said_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, ends) = filled(folder.path(), 3);
        lose_a_page(&journal, ends[1] - 10_000);
        let before = std::fs::read(&journal).unwrap();
        for _ in 0..2 {
            let error = open(folder.path()).err().expect("what was accepted is damaged");
            assert!(error.to_string().contains("ChecksumMismatch"), "{error}");
            assert!(std::fs::read(&journal).unwrap() == before);
        }
    }

    /// Of what rots the store may say that it is damaged, or show less; it never shows something else. That it may show less without a word is
    /// the engine's: it takes what it cannot read for an incomplete end.
    #[test]
    fn a_bit_that_rots_in_the_journal_never_becomes_other_data() {
        let memory = Path::new("/dev/shm");
        let folder = || if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let whole = folder();
        let (journal, ends) = filled(whole.path(), 4);
        let (good, keys) = (std::fs::read(&journal).unwrap(), std::fs::read(whole.path().join("keys")).unwrap());
        let end = ends[3] as usize + END.len();
        // All over it, and in the first bytes of the second batch, which say what follows.
        let places = (0..150).map(|n| n * 7_919 % end).chain((0..60).map(|n| ends[0] as usize + END.len() + n));
        let (mut said, mut last, mut more, mut none) = (0, 0, 0, 0);
        for (n, place) in places.enumerate() {
            std::fs::write(whole.path().join("keys"), &keys).unwrap();
            let mut bad = good.clone();
            bad[place] ^= 1 << (n % 8);
            std::fs::write(&journal, &bad).unwrap();
            let Ok(store) = open(whole.path()) else {
                said += 1;
                continue;
            };
            let page = Page { rows: 99, bytes: usize::MAX };
            let rows = store.rows(&A, 0..=u64::MAX, page).unwrap();
            for (order, row) in &rows {
                assert!((1..=4).contains(order) && row.envelope == vec![7; 20_000], "bit {n}");
            }
            match rows.len() {
                4 => none += 1,
                3 => last += 1,
                _ => more += 1,
            }
        }
        println!(
            "figure: of 210 bits that rotted {said} were said, {last} took the last batch, {more} more than that, {none} nothing"
        );
        assert!(said > 100);
    }
}
