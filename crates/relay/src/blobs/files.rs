//! The bytes of blobs, through `object_store`: files in the data folder now, any S3 later. One object per part, `<blob>/<part>`, so that an
//! upload that broke off goes on, and nobody has more than a part in memory.

use std::path::Path as Folder;
use std::sync::Arc;

use bulla_protocol::id::BlobId;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::store::Store;
use crate::store::StoreError;

/// Where the parts are.
#[derive(Debug, Clone)]
pub(crate) struct Files(Arc<dyn ObjectStore>);

impl Files {
    /// In a folder, which is made.
    pub(crate) fn open(folder: &Folder) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        // A part that is answered is on stable storage, as an envelope is.
        let files = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other)?;
        // A folder without parts would say that there was a blob.
        let files = files.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self(Arc::new(files)))
    }

    /// Writes a part. One that is there stays as it is: whoever reads it may have begun.
    pub(crate) async fn put(&self, blob: &BlobId, part: u32, bytes: Bytes) -> Result<(), Error> {
        match self.0.put_opts(&path(blob, part), PutPayload::from_bytes(bytes), PutMode::Create.into()).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A part, if it is there.
    pub(crate) async fn get(&self, blob: &BlobId, part: u32) -> Result<Option<Bytes>, Error> {
        match self.0.get(&path(blob, part)).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a part is there.
    pub(crate) async fn has(&self, blob: &BlobId, part: u32) -> Result<bool, Error> {
        match self.0.head(&path(blob, part)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes all parts of a blob.
    pub(crate) async fn remove(&self, blob: &BlobId) -> Result<(), Error> {
        self.remove_all(&Path::from(blob.to_hex())).await
    }

    async fn remove_all(&self, prefix: &Path) -> Result<(), Error> {
        let parts = self.0.list(Some(prefix)).map_ok(|found| found.location).boxed();
        self.0.delete_stream(parts).try_for_each(|_| async { Ok(()) }).await
    }

    /// Removes what no row speaks of: parts that were written while their blob was deleted, or deleted only by half.
    pub(crate) async fn remove_strays(&self, store: &dyn Store) -> Result<(), StoreError> {
        let failed = |error: Error| StoreError::Engine(error.to_string());
        let folders = self.0.list_with_delimiter(None).await.map_err(failed)?.common_prefixes;
        for folder in folders {
            let blob = folder.filename().and_then(BlobId::from_hex);
            let known = match blob {
                Some(blob) => store.blob(&blob)?.is_some(),
                None => false,
            };
            if !known {
                self.remove_all(&folder).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn path(blob: &BlobId, part: u32) -> Path {
    Path::from_iter([blob.to_hex(), part.to_string()])
}
