//! Sealed attachments at this endpoint: what waits to be uploaded, and what was fetched. Ciphertext as the relay has it, in the relay's
//! parts; the keys stand in messages, in the store proper. A trait beside [`Store`](super::Store), because a picture is no row: it is
//! written once, in pieces, and not read at the start.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulla_protocol::id::BlobId;

use super::StoreError;

/// Keeps the parts of sealed attachments.
pub trait Parts: Clone + 'static {
    /// Keeps a part, durably. It replaces one of that number.
    fn put(&self, blob: BlobId, part: u32, bytes: Vec<u8>) -> impl Future<Output = Result<(), StoreError>>;

    /// A part, if it is there.
    fn get(&self, blob: BlobId, part: u32) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>>;

    /// How many parts of it are there.
    fn count(&self, blob: BlobId) -> impl Future<Output = Result<u32, StoreError>>;

    /// Removes all parts of it.
    fn remove(&self, blob: BlobId) -> impl Future<Output = Result<(), StoreError>>;
}

/// In memory: for tests, and for an endpoint that keeps no attachments.
#[derive(Debug, Clone, Default)]
pub struct MemoryParts(Arc<Mutex<All>>);

type All = BTreeMap<(BlobId, u32), Vec<u8>>;

impl MemoryParts {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts for MemoryParts {
    async fn put(&self, blob: BlobId, part: u32, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.all().insert((blob, part), bytes);
        Ok(())
    }

    async fn get(&self, blob: BlobId, part: u32) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.all().get(&(blob, part)).cloned())
    }

    async fn count(&self, blob: BlobId) -> Result<u32, StoreError> {
        Ok(u32::try_from(self.all().range((blob, 0)..=(blob, u32::MAX)).count()).unwrap_or(u32::MAX))
    }

    async fn remove(&self, blob: BlobId) -> Result<(), StoreError> {
        self.all().retain(|(of, _), _| *of != blob);
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use files::FileParts;

#[cfg(not(target_arch = "wasm32"))]
mod files {
    use std::io::{ErrorKind, Write as _};
    use std::path::{Path, PathBuf};

    use bulla_protocol::id::BlobId;
    use rand_core::{OsRng, RngCore as _};

    use super::Parts;
    use crate::store::StoreError;

    /// Files in a folder: `<blob>/<part>`.
    #[derive(Debug, Clone)]
    pub struct FileParts(PathBuf);

    impl FileParts {
        /// In this folder, which is made when it is first needed.
        #[must_use]
        pub fn new(folder: PathBuf) -> Self {
            Self(folder)
        }

        /// Runs what blocks where it may.
        async fn on_disk<R: Send + 'static>(
            &self,
            blob: BlobId,
            work: impl FnOnce(&Path) -> std::io::Result<R> + Send + 'static,
        ) -> Result<R, StoreError> {
            let folder = self.0.join(blob.to_hex());
            let place = folder.display().to_string();
            let done = tokio::task::spawn_blocking(move || work(&folder)).await;
            let done = done.unwrap_or_else(|_| Err(std::io::Error::other("it ended before its end")));
            done.map_err(|e| StoreError::Backend { place, cause: e.to_string() })
        }
    }

    impl Parts for FileParts {
        async fn put(&self, blob: BlobId, part: u32, bytes: Vec<u8>) -> Result<(), StoreError> {
            let write = move |folder: &Path| {
                std::fs::create_dir_all(folder)?;
                // Of a name that nobody else has: two may keep the same part at once, the same bytes.
                let beside = folder.join(format!("{part}.{:016x}.new", OsRng.next_u64()));
                let path = folder.join(part.to_string());
                let mut file = std::fs::File::create(&beside)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                std::fs::rename(&beside, &path)?;
                // The names of the part, and of its folder.
                std::fs::File::open(folder)?.sync_all()?;
                folder.parent().map_or(Ok(()), |above| std::fs::File::open(above)?.sync_all())
            };
            self.on_disk(blob, write).await
        }

        async fn get(&self, blob: BlobId, part: u32) -> Result<Option<Vec<u8>>, StoreError> {
            let read = move |folder: &Path| match std::fs::read(folder.join(part.to_string())) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            };
            self.on_disk(blob, read).await
        }

        async fn count(&self, blob: BlobId) -> Result<u32, StoreError> {
            let count = |folder: &Path| match std::fs::read_dir(folder) {
                Ok(entries) => {
                    let is_part = |name: std::ffi::OsString| name.to_str().is_some_and(|n| n.parse::<u32>().is_ok());
                    let mut count = 0;
                    for entry in entries {
                        count += u32::from(is_part(entry?.file_name()));
                    }
                    Ok(count)
                }
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
                Err(e) => Err(e),
            };
            self.on_disk(blob, count).await
        }

        async fn remove(&self, blob: BlobId) -> Result<(), StoreError> {
            let remove = |folder: &Path| match std::fs::remove_dir_all(folder) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
            self.on_disk(blob, remove).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileParts, MemoryParts};
    use crate::store::contract;

    #[tokio::test]
    async fn both_keep_the_contract() {
        contract::parts(&MemoryParts::default()).await;
        let folder = tempfile::tempdir().unwrap();
        contract::parts(&FileParts::new(folder.path().join("media"))).await;
        // Another program on the same folder sees what was kept.
        contract::parts_kept(&FileParts::new(folder.path().join("media"))).await;
    }
}
