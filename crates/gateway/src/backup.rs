//! A business's folder, copied while it is in use, and put back.
//!
//! A backup is a folder with a consistent copy of the store, whose values stay sealed, and the key file under a passphrase. It never holds an
//! envelope that waits at a relay. What is restored is older than what was lost: it is marked, and at its first start every conversation
//! begins again, so that no key is used twice, and customers say again what the copy has not heard (docs/protocol.md §9).

use std::path::{Path, PathBuf};

use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::{StoreError, keyfile};

use crate::open::{KEY, is_handle, make_folder};
use crate::secret::Secret;

/// The file that says that a folder came from a backup and was not started since.
const MARK: &str = "restored";

/// The store's file, in a business's folder and in a backup.
const STORE: &str = "store.sqlite";

/// Why a backup was not made or not put back. Nothing is left half done under the names that were asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// No such business in the data folder.
    #[error("there is no business '{handle}' in {data}")]
    NoBusiness {
        /// The business.
        handle: String,
        /// The data folder.
        data: PathBuf,
    },
    /// What is to be made is there already.
    #[error("{0} is there already; choose another name, or move it away")]
    Exists(PathBuf),
    /// Not a backup.
    #[error("{0} is not a backup: it has no {STORE} and {KEY}")]
    NotABackup(PathBuf),
    /// The key would lie open beside what it opens.
    #[error("the key file of '{0}' has no passphrase, and a backup travels: give it one with --passphrase-file")]
    OpenKey(String),
    /// The store or the key file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("cannot write {place}: {cause}")]
    Io {
        /// The file or folder.
        place: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
}

/// Copies a business to the new folder `to`, also while its gateway runs. An open key is put under `passphrase`; one that has a
/// passphrase keeps it.
pub fn make(data: &Path, handle: &str, to: &Path, passphrase: Option<&Secret>) -> Result<(), BackupError> {
    let folder = data.join(handle);
    if !is_handle(handle) || !folder.join(KEY).is_file() {
        return Err(BackupError::NoBusiness { handle: handle.to_owned(), data: data.to_owned() });
    }
    absent(to)?;
    let open = keyfile::is_open(&folder.join(KEY))?;
    if open && passphrase.is_none() {
        return Err(BackupError::OpenKey(handle.to_owned()));
    }
    complete(to, |partial| {
        SqliteStore::copy(&folder, &partial.join(STORE))?;
        let (from, key) = (folder.join(KEY), partial.join(KEY));
        match passphrase.filter(|_| open) {
            Some(passphrase) => {
                let root = keyfile::load_or_create(&from, None, &mut rand_core::OsRng)?;
                keyfile::write(&key, &root, passphrase.expose(), &mut rand_core::OsRng)?;
            }
            None => copy(&from, &key)?,
        }
        Ok(())
    })
}

/// Puts a backup back as the business `handle`, which must not be there. The gateway is then started with the backup's passphrase.
pub fn restore(data: &Path, handle: &str, from: &Path) -> Result<(), BackupError> {
    if !from.join(STORE).is_file() || !from.join(KEY).is_file() {
        return Err(BackupError::NotABackup(from.to_owned()));
    }
    if !is_handle(handle) {
        return Err(BackupError::NoBusiness { handle: handle.to_owned(), data: data.to_owned() });
    }
    let io = |place: &Path, cause| BackupError::Io { place: place.to_owned(), cause };
    make_folder(data).map_err(|e| io(data, e))?;
    let folder = data.join(handle);
    absent(&folder)?;
    complete(&folder, |partial| {
        // The mark first: no moment at which the copy could be started without it.
        std::fs::write(partial.join(MARK), "").map_err(|e| io(partial, e))?;
        copy(&from.join(STORE), &partial.join(STORE))?;
        copy(&from.join(KEY), &partial.join(KEY))
    })
}

pub(crate) fn is_restored(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// The restored business has begun: that every conversation begins again is durable.
pub(crate) fn begun(folder: &Path) -> std::io::Result<()> {
    std::fs::remove_file(folder.join(MARK))?;
    std::fs::File::open(folder)?.sync_all()
}

fn absent(place: &Path) -> Result<(), BackupError> {
    if place.exists() { Err(BackupError::Exists(place.to_owned())) } else { Ok(()) }
}

/// Fills a folder beside `to` and gives it its name when it is whole.
fn complete(to: &Path, fill: impl FnOnce(&Path) -> Result<(), BackupError>) -> Result<(), BackupError> {
    let io = |cause| BackupError::Io { place: to.to_owned(), cause };
    let mut name = std::ffi::OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = to.with_file_name(name);
    match std::fs::remove_dir_all(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    make_folder(&partial).map_err(io)?;
    let filled = fill(&partial).and_then(|()| std::fs::rename(&partial, to).map_err(io));
    if filled.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    filled?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let copied = std::fs::copy(from, to).and_then(|_| std::fs::File::open(to)?.sync_all());
    copied.map_err(|cause| BackupError::Io { place: to.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn business(data: &Path, passphrase: Option<&str>) {
        let folder = data.join("shop");
        drop(SqliteStore::open(&folder).unwrap());
        keyfile::load_or_create(&folder.join(KEY), passphrase, &mut rand_core::OsRng).unwrap();
    }

    #[test]
    fn a_backup_needs_a_passphrase_and_comes_back_marked() {
        let root = tempfile::tempdir().unwrap();
        let (data, to, back) = (root.path().join("data"), root.path().join("backup"), root.path().join("back"));
        business(&data, None);
        assert!(matches!(make(&data, "shop", &to, None), Err(BackupError::OpenKey(_))));
        assert!(matches!(make(&data, "none", &to, None), Err(BackupError::NoBusiness { .. })));
        assert!(matches!(make(&data, "../data", &to, None), Err(BackupError::NoBusiness { .. })));
        assert!(!to.exists());
        make(&data, "shop", &to, Some(&Secret::new("correct horse"))).unwrap();
        assert!(!keyfile::is_open(&to.join(KEY)).unwrap());
        assert!(matches!(make(&data, "shop", &to, Some(&Secret::new("x"))), Err(BackupError::Exists(_))));
        restore(&back, "shop", &to).unwrap();
        assert!(is_restored(&back.join("shop")));
        let same = keyfile::load_or_create(&data.join("shop").join(KEY), None, &mut rand_core::OsRng).unwrap();
        let opened =
            keyfile::load_or_create(&back.join("shop").join(KEY), Some("correct horse"), &mut rand_core::OsRng);
        assert_eq!(opened.unwrap().expose(), same.expose());
        assert!(matches!(restore(&back, "shop", &to), Err(BackupError::Exists(_))));
        assert!(matches!(restore(&back, "new", &data), Err(BackupError::NotABackup(_))));
        begun(&back.join("shop")).unwrap();
        assert!(!is_restored(&back.join("shop")));
    }

    #[test]
    fn a_key_that_has_a_passphrase_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let (data, to) = (root.path().join("data"), root.path().join("backup"));
        business(&data, Some("its own"));
        make(&data, "shop", &to, None).unwrap();
        assert!(keyfile::load_or_create(&to.join(KEY), Some("its own"), &mut rand_core::OsRng).is_ok());
    }
}
