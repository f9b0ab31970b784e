//! The keys under which waiting envelopes are sealed: *gone means the key is gone*.
//!
//! Log-structured stores, journals and SSDs keep deleted bytes for long. So an envelope that waits is sealed under two keys, one of its last day and
//! one of its mailbox's backlog, and both lie outside of the store, in one file of fixed slots that is overwritten in place and synced: what was
//! acknowledged is unreadable once its backlog's key is overwritten, what expired once its day's is, whatever else keeps the ciphertext. The file
//! belongs into no backup.
//!
//! ```text
//! slot(64)  u8 kind (0 free, 1 day, 2 backlog) ‖ id(16: the day, u32 and zeros, or the mailbox) ‖ key(32) ‖ check(15)
//! check     the beginning of SHA-256 over what is before it
//! row key   HMAC-SHA256(backlog key, ROW_KEY ‖ day key)
//! name      the first 16 bytes of HMAC-SHA256(backlog key, ROW_NAME); the next 8, without their two highest bits, are its offset
//! ```
//!
//! Under its backlog's name a row stands in the store, at its order and the offset: a journal keeps in which order mailboxes were written to, and with
//! their ids that would say who wrote to whom. A name is the mailbox's as long as the key is there; afterwards it is nobody's, and no number ties one
//! backlog to the next.
//!
//! A slot is written and synced before the rows that need it. One that a crash tore is nobody's: no row was committed under it. Four slots share a
//! disk's smallest sector of 512 bytes with four others, and are rewritten with it as they are: a disk that tears sectors could damage them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bulla_protocol::id::MailboxId;
use bulla_protocol::label;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand_core::CryptoRngCore;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::StoreError;
use crate::sabotage::{Rule, broken};

const SLOT: usize = 64;

type Key = Zeroizing<[u8; 32]>;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Day(u32),
    Backlog(MailboxId),
}

impl Owner {
    fn to_bytes(self) -> [u8; 17] {
        match self {
            Self::Day(day) => joined(&[1], &[&day.to_be_bytes()]),
            Self::Backlog(mailbox) => joined(&[2], &[mailbox.as_bytes()]),
        }
    }

    fn from_bytes(bytes: &[u8; 17]) -> Option<Self> {
        let [kind, id @ ..] = bytes;
        match kind {
            1 => id.first_chunk::<4>().map(|day| Self::Day(u32::from_be_bytes(*day))),
            2 => Some(Self::Backlog(MailboxId::new(*id))),
            _ => None,
        }
    }
}

/// Parts one after the other; zeros where they end, and no more than there is room for.
fn joined<const N: usize>(first: &[u8], more: &[&[u8]]) -> [u8; N] {
    let mut all = [0; N];
    for (to, from) in all.iter_mut().zip(first.iter().chain(more.iter().copied().flatten())) {
        *to = *from;
    }
    all
}

fn check(owner: &[u8; 17], key: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(owner).chain_update(key).finalize().into()
}

fn encode(owner: Owner, key: &[u8; 32]) -> Zeroizing<[u8; SLOT]> {
    let owner = owner.to_bytes();
    Zeroizing::new(joined(&owner, &[key, &check(&owner, key)]))
}

fn decode(slot: &[u8; SLOT]) -> Option<(Owner, Key)> {
    let (owner, rest) = slot.split_first_chunk::<17>()?;
    let (key, said) = rest.split_first_chunk::<32>()?;
    if !check(owner, key).starts_with(said) {
        return None;
    }
    Some((Owner::from_bytes(owner)?, Zeroizing::new(*key)))
}

/// What a store calls a mailbox in which something waits.
pub(super) type Name = [u8; 16];

/// What waits in a mailbox, as it lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    /// The slot of its key.
    pub(super) slot: u32,
    /// The name of its rows.
    pub(super) name: Name,
    offset: u64,
}

impl Backlog {
    fn of(key: &[u8; 32], slot: u32) -> Self {
        // Padded as HMAC pads it.
        let block = Zeroizing::new(joined::<64>(key, &[]));
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into());
        mac.update(label::ROW_NAME);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let (name, rest) = full.split_at(16);
        Self { slot, name: joined(name, &[]), offset: u64::from_be_bytes(joined(rest, &[])) >> 2 }
    }

    /// The order under which a row lies in the store.
    pub(super) fn inner(&self, order: u64) -> u64 {
        order.saturating_add(self.offset)
    }

    /// The order of a row that lies there.
    pub(super) fn outer(&self, order: u64) -> u64 {
        order.saturating_sub(self.offset)
    }
}

/// What a row is sealed with.
pub(super) struct ToSeal {
    /// Its backlog.
    pub(super) of: Backlog,
    /// Its key.
    pub(super) key: Zeroizing<[u8; 32]>,
    /// For this row alone.
    pub(super) nonce: [u8; 24],
    /// No row of its day came before.
    pub(super) is_new_day: bool,
}

/// Keys that are there, for reading. Held for moments only.
#[derive(Default)]
struct Table {
    days: BTreeMap<u32, (u32, Key)>,
    backlogs: HashMap<u32, Key>,
    /// What waits in a mailbox now.
    current: HashMap<MailboxId, Backlog>,
    names: HashMap<Name, MailboxId>,
}

impl Table {
    fn begin(&mut self, mailbox: MailboxId, slot: u32, key: Key) -> Backlog {
        let mut backlog = Backlog::of(&key, slot);
        if broken(Rule::RowsNamed) {
            backlog.name = *mailbox.as_bytes();
        }
        self.backlogs.insert(slot, key);
        self.current.insert(mailbox, backlog);
        self.names.insert(backlog.name, mailbox);
        backlog
    }
}

/// The file, as the writer knows it.
struct Slots {
    file: File,
    /// Slots in the file.
    length: u32,
    free: BTreeSet<u32>,
    /// Of backlogs that are over: to be overwritten.
    doomed: Vec<u32>,
    /// Written and not synced.
    unsynced: bool,
    random: Box<dyn CryptoRngCore + Send>,
}

/// The keys of one relay's store.
pub(super) struct Keys {
    table: RwLock<Table>,
    slots: Mutex<Slots>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Engine(format!("the key file: {error}"))
}

impl Keys {
    /// Opens the file, or makes it. `has_rows` says of a mailbox's backlog whether there are rows under its name; the keys of others are overwritten
    /// at once: a relay that was killed had no time to.
    pub(super) fn open(
        path: &Path,
        random: Box<dyn CryptoRngCore + Send>,
        has_rows: impl Fn(&MailboxId, &Name) -> Result<bool, StoreError>,
    ) -> Result<Self, StoreError> {
        let options =
            |o: &mut OpenOptions| o.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = options(&mut OpenOptions::new()).map_err(failed)?;
        // The name of a new file is durable only with its folder.
        if let Some(folder) = path.parent().filter(|_| !broken(Rule::FolderSynced)) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let bytes = file.metadata().map_err(failed)?.len();
        let length = u32::try_from(bytes.div_ceil(SLOT as u64)).map_err(|_| StoreError::Format("key file"))?;
        let (mut table, mut free, mut doomed) = (Table::default(), BTreeSet::new(), Vec::new());
        // With room for all, so that no copy of it is left behind by its growing.
        let mut all = Zeroizing::new(Vec::with_capacity(length as usize * SLOT));
        (&file).take(bytes).read_to_end(&mut all).map_err(failed)?;
        all.resize(length as usize * SLOT, 0);
        for (number, slot) in (0..length).zip(all.as_chunks::<SLOT>().0) {
            match decode(slot) {
                Some((Owner::Day(day), key)) => {
                    table.days.insert(day, (number, key));
                }
                Some((Owner::Backlog(mailbox), key)) if has_rows(&mailbox, &Backlog::of(&key, number).name)? => {
                    table.begin(mailbox, number, key);
                }
                None if slot.iter().all(|byte| *byte == 0) => {
                    free.insert(number);
                }
                _ if broken(Rule::KeysDestroyedAtStart) => {}
                _ => doomed.push(number),
            }
        }
        let slots = Slots { file, length, free, doomed, unsynced: false, random };
        let keys = Self { table: RwLock::new(table), slots: Mutex::new(slots) };
        keys.destroy(0)?;
        Ok(keys)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits in a mailbox.
    pub(super) fn backlog(&self, mailbox: &MailboxId) -> Option<Backlog> {
        self.table().current.get(mailbox).copied()
    }

    /// Whose a backlog is that is not over.
    pub(super) fn mailbox(&self, name: &Name) -> Option<MailboxId> {
        self.table().names.get(name).copied()
    }

    /// What the next row of a mailbox and a day is sealed with. Keys are made if they are not there, and count after [`Self::sync`].
    pub(super) fn to_seal(&self, mailbox: &MailboxId, day: u32) -> Result<ToSeal, StoreError> {
        let mut slots = self.slots();
        let of = match self.backlog(mailbox) {
            Some(known) => known,
            None => {
                let (slot, key) = slots.make(Owner::Backlog(*mailbox))?;
                self.table_mut().begin(*mailbox, slot, key)
            }
        };
        let is_new_day = !self.table().days.contains_key(&day);
        if is_new_day {
            let made = slots.make(Owner::Day(day))?;
            self.table_mut().days.insert(day, made);
        }
        let key = self.to_open(of.slot, day).ok_or(StoreError::Format("key file"))?;
        let mut nonce = [0; 24];
        slots.random.fill_bytes(&mut nonce);
        Ok(ToSeal { of, key, nonce, is_new_day })
    }

    /// The key of the rows of a backlog and a day, if neither is gone.
    pub(super) fn to_open(&self, slot: u32, day: u32) -> Option<Key> {
        let table = self.table();
        let (backlog, (_, day)) = (table.backlogs.get(&slot)?, table.days.get(&day)?);
        let mut mac = Hmac::<Sha256>::new_from_slice(&**backlog).ok()?;
        mac.update(label::ROW_KEY);
        mac.update(&**day);
        Some(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    /// Returns once every key that was made is on stable storage.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mut slots = self.slots();
        if std::mem::take(&mut slots.unsynced) {
            slots.file.sync_data().map_err(failed)?;
        }
        Ok(())
    }

    /// A mailbox has no rows any more: what comes next gets another key, and this one is overwritten with the next [`Self::destroy`].
    pub(super) fn end_backlog(&self, mailbox: &MailboxId) {
        let mut slots = self.slots();
        let mut table = self.table_mut();
        if let Some(Backlog { slot, name, .. }) = table.current.remove(mailbox) {
            table.backlogs.remove(&slot);
            table.names.remove(&name);
            slots.doomed.push(slot);
        }
    }

    /// Overwrites the keys of backlogs that are over, and of days before `today`. Returns once that is on stable storage; says how many.
    pub(super) fn destroy(&self, today: u32) -> Result<usize, StoreError> {
        let mut slots = self.slots();
        {
            let mut table = self.table_mut();
            let later = table.days.split_off(&today);
            slots.doomed.extend(std::mem::replace(&mut table.days, later).into_values().map(|(slot, _)| slot));
        }
        if broken(Rule::KeysDestroyed) {
            return Ok(0);
        }
        let doomed = std::mem::take(&mut slots.doomed);
        for slot in &doomed {
            slots.file.write_all_at(&[0; SLOT], at(*slot)).map_err(failed)?;
        }
        if !doomed.is_empty() {
            slots.file.sync_data().map_err(failed)?;
            slots.unsynced = false;
        }
        // Free only now: a slot that was reused and then lost to a crash would have been the old key's again.
        slots.free.extend(&doomed);
        Ok(doomed.len())
    }
}

impl Slots {
    /// A new key in a free slot.
    fn make(&mut self, owner: Owner) -> Result<(u32, Key), StoreError> {
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None => {
                let slot = self.length;
                self.length = slot.checked_add(1).ok_or(StoreError::Format("key file"))?;
                slot
            }
        };
        let mut key = Zeroizing::new([0; 32]);
        self.random.fill_bytes(&mut *key);
        self.file.write_all_at(&*encode(owner, &key), at(slot)).map_err(failed)?;
        self.unsynced = true;
        Ok((slot, key))
    }
}

fn at(slot: u32) -> u64 {
    u64::from(slot) * SLOT as u64
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    const A: MailboxId = MailboxId::new([1; 16]);
    const B: MailboxId = MailboxId::new([2; 16]);

    /// Opens the file beside a store that has rows under these names.
    fn open(path: &Path, names: &[Name]) -> Keys {
        Keys::open(path, Box::new(OsRng), |_, name| Ok(names.contains(name))).unwrap()
    }

    #[test]
    fn a_key_is_the_same_after_a_restart_until_it_is_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = open(&path, &[]);
        let ToSeal { of: a, key, nonce, is_new_day } = keys.to_seal(&A, 40).unwrap();
        let later = keys.to_seal(&A, 41).unwrap();
        assert!(is_new_day && later.is_new_day && later.nonce != nonce && later.key != key && later.of == a);
        let ToSeal { of: b, key: other, is_new_day, .. } = keys.to_seal(&B, 40).unwrap();
        assert!(!is_new_day && a.slot != b.slot && a.name != b.name && key != other);
        assert_eq!((a.inner(8) - a.inner(7), a.outer(a.inner(7)), a.inner(u64::MAX)), (1, 7, u64::MAX));
        assert!(a.inner(0) != 0 && a.inner(0) != b.inner(0), "the same order elsewhere is another number");
        keys.sync().unwrap();
        let again = open(&path, &[a.name, b.name]);
        assert_eq!(again.to_open(a.slot, 40), Some(key.clone()));
        let same = again.to_seal(&A, 40).unwrap();
        assert_eq!((same.of, same.key, same.is_new_day), (a, key, false));
        assert_eq!((again.mailbox(&a.name), again.mailbox(&b.name)), (Some(A), Some(B)));
        // One mailbox is drained, and a day goes by.
        again.end_backlog(&A);
        assert_eq!((again.to_open(a.slot, 40), again.mailbox(&a.name), again.backlog(&A)), (None, None, None));
        assert_eq!(again.destroy(41).unwrap(), 2);
        assert_eq!((again.to_open(b.slot, 40), again.to_open(b.slot, 41).is_some()), (None, true));
        // What comes next is under another name.
        assert_ne!(again.to_seal(&A, 41).unwrap().of.name, a.name);
    }

    #[test]
    fn no_byte_of_a_destroyed_key_is_left_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = open(&path, &[]);
        keys.to_seal(&A, 40).unwrap();
        keys.sync().unwrap();
        let before = std::fs::read(&path).unwrap();
        let secrets: Vec<_> = before.chunks(SLOT).map(|slot| slot[17..49].to_vec()).collect();
        assert_eq!(secrets.len(), 2);
        keys.end_backlog(&A);
        keys.destroy(41).unwrap();
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after.len(), before.len(), "overwritten in place");
        for secret in secrets {
            assert!(!after.windows(8).any(|window| secret.windows(8).any(|part| part == window)));
        }
        // The slots are used again, for other keys.
        let slot = keys.to_seal(&B, 50).unwrap().of.slot;
        assert!(slot < 2);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), before.len() as u64);
    }

    #[test]
    fn what_a_crash_left_is_overwritten_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = open(&path, &[]);
        let (a, b) = (keys.to_seal(&A, 40).unwrap().of, keys.to_seal(&B, 40).unwrap().of);
        keys.sync().unwrap();
        drop(keys);
        // A's rows are gone, and a slot at the end was torn.
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, &[7; 40]).unwrap();
        let keys = open(&path, &[b.name]);
        assert!(keys.to_open(a.slot, 40).is_none() && keys.to_open(b.slot, 40).is_some());
        let bytes = std::fs::read(&path).unwrap();
        let is_zero = |slot: u32| bytes[slot as usize * SLOT..][..SLOT].iter().all(|byte| *byte == 0);
        assert!(is_zero(a.slot) && !is_zero(b.slot) && is_zero(3));
        // A mailbox that gets another key, under which nothing came to be stored, has none at the next start.
        let c = keys.to_seal(&A, 40).unwrap().of;
        drop(keys);
        assert!(open(&path, &[b.name]).to_open(c.slot, 40).is_none());
    }

    #[test]
    fn a_damaged_slot_is_nobodys_key() {
        let good = encode(Owner::Day(9), &[3; 32]);
        assert!(decode(&good).is_some_and(|(owner, key)| owner == Owner::Day(9) && *key == [3; 32]));
        for at in 0..SLOT {
            let mut bad = *good;
            bad[at] ^= 1;
            assert!(decode(&bad).is_none(), "byte {at}");
        }
    }
}
