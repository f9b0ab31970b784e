//! The store in one SQLite file: WAL, `synchronous=FULL`, `secure_delete`, one connection, one process.
//!
//! SQL lives here only. One table, without row ids, ordered by (table, key): each batch is one transaction.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use super::parts::FileParts;
use super::{Batch, MAX_KEY, Order, Read, Row, Store, StoreError, Table};

/// The file's format, in `PRAGMA user_version`.
const FORMAT: i64 = 1;

/// Bytes of a page. In one of 4 KiB, SQLite has 1,002 bytes of a row at most: each message would take an overflow page of its own.
const PAGE: i64 = 8 << 10;

/// Pages in the WAL at which they are moved into the file: 32 MiB, in which a page that is written again and again is moved once.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Pages kept in memory, KiB.
const CACHE_KIB: i64 = 64 << 10;

/// Commits after which the WAL is emptied and truncated, so that deleted secrets do not linger in it.
const COMMITS_PER_TRUNCATION: u64 = 50_000;

/// An endpoint's store in a folder: `store.sqlite` beside a lock.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    commits: u64,
    // Held for the life of the store; the system releases it with the process, however that ends.
    _lock: std::fs::File,
}

impl SqliteStore {
    /// Opens or makes the store in `folder`. Fails if another process has it open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let io = |place: &Path, e: std::io::Error| StoreError::Backend {
            place: place.display().to_string(),
            cause: e.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
        restrict(folder).map_err(|e| io(folder, e))?;
        let lock_path = folder.join("lock");
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| io(&lock_path, e))?;
        lock.try_lock().map_err(|_| StoreError::Locked { place: folder.display().to_string() })?;
        let path = folder.join("store.sqlite");
        let fail = |e: rusqlite::Error| backend(&path, &e);
        let connection = Connection::open(&path).map_err(fail)?;
        // Of a file that is made now; an older one keeps its own.
        connection.pragma_update(None, "page_size", PAGE).map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        connection.pragma_update(None, "secure_delete", "ON").map_err(fail)?;
        connection.pragma_update(None, "trusted_schema", "OFF").map_err(fail)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(fail)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(fail)?;
        // Plans that do not depend on bound values: else SQLite's statistics make it prepare a range query again each time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fail)?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(fail)?;
        match format {
            0 => {
                connection
                    .execute_batch(
                        "BEGIN;
                         CREATE TABLE kv (tab INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
                                          PRIMARY KEY (tab, key)) STRICT, WITHOUT ROWID;
                         PRAGMA user_version = 1;
                         COMMIT;",
                    )
                    .map_err(fail)?;
            }
            FORMAT => {}
            newer => {
                return Err(StoreError::Backend {
                    place: path.display().to_string(),
                    cause: format!("it has format {newer}, this version reads {FORMAT}: update Bulla"),
                });
            }
        }
        Ok(Self { connection, path, commits: 0, _lock: lock })
    }

    /// A consistent copy of the store in `folder`, also while another process works on it, as the new file `to`. Its values stay sealed.
    pub fn copy(folder: &Path, to: &Path) -> Result<(), StoreError> {
        let path = folder.join("store.sqlite");
        let fail = |e: rusqlite::Error| backend(&path, &e);
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(fail)?;
        connection.busy_timeout(std::time::Duration::from_secs(30)).map_err(fail)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map_err(fail)?;
        let synced = std::fs::File::open(to).and_then(|file| file.sync_all());
        synced.map_err(|e| StoreError::Backend { place: to.display().to_string(), cause: e.to_string() })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the WAL into the file and truncates it.
    pub fn truncate_wal(&mut self) -> Result<(), StoreError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| backend(&self.path, &e))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), rusqlite::Error> {
        let tx = self.connection.transaction()?;
        {
            let mut put = tx.prepare_cached(
                "INSERT INTO kv (tab, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (tab, key) DO UPDATE SET value = excluded.value",
            )?;
            let mut delete = tx.prepare_cached("DELETE FROM kv WHERE tab = ?1 AND key = ?2")?;
            for (table, key, value) in batch.into_changes() {
                debug_assert!(key.len() <= MAX_KEY, "keys are bounded");
                match value {
                    Some(value) => put.execute(params![table as u8, key, value])?,
                    None => delete.execute(params![table as u8, key])?,
                };
            }
        }
        tx.commit()
    }
}

/// Only the owner may look into the folder.
fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

fn backend(path: &Path, e: &rusqlite::Error) -> StoreError {
    StoreError::Backend { place: path.display().to_string(), cause: e.to_string() }
}

impl Read for SqliteStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT value FROM kv WHERE tab = ?1 AND key = ?2")?
                .query_row(params![table as u8, key], |r| r.get(0))
                .optional()
        };
        read().map_err(|e| backend(&self.path, &e))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        // Without an end: a key longer and larger than any that is stored.
        let last = [0xff; MAX_KEY + 1];
        let until = until.unwrap_or(&last);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = match order {
            Order::Ascending => {
                "SELECT key, value FROM kv WHERE tab = ?1 AND key >= ?2 AND key < ?3 ORDER BY key ASC LIMIT ?4"
            }
            Order::Descending => {
                "SELECT key, value FROM kv WHERE tab = ?1 AND key >= ?2 AND key < ?3 ORDER BY key DESC LIMIT ?4"
            }
        };
        let read = || -> Result<Vec<Row>, rusqlite::Error> {
            self.connection
                .prepare_cached(sql)?
                .query_map(params![table as u8, from, until, limit], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        };
        read().map_err(|e| backend(&self.path, &e))
    }
}

impl Store for SqliteStore {
    type Parts = FileParts;

    fn parts(&self) -> FileParts {
        FileParts::new(self.path.with_file_name("media"))
    }

    /// Blocks its thread for one fsync: the engine has a thread of its own.
    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.apply(batch).map_err(|e| backend(&self.path, &e))?;
        self.commits += 1;
        if self.commits.is_multiple_of(COMMITS_PER_TRUNCATION) {
            self.truncate_wal()?;
        }
        Ok(())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Best effort: what a crash leaves in the WAL is sealed too.
        let _ = self.truncate_wal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let mut fresh = 0;
        super::super::contract::run(
            async || {
                fresh += 1;
                SqliteStore::open(&folder.path().join(fresh.to_string())).unwrap()
            },
            async |store: SqliteStore| {
                let folder = store.path().parent().unwrap().to_path_buf();
                drop(store);
                SqliteStore::open(&folder).unwrap()
            },
        )
        .await;
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = SqliteStore::open(folder.path()).unwrap();
        let second = SqliteStore::open(folder.path()).unwrap_err();
        assert!(matches!(second, StoreError::Locked { .. }), "{second}");
        drop(first);
        SqliteStore::open(folder.path()).unwrap();
    }
}
