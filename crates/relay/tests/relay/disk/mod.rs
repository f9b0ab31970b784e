//! A disk whose power can be cut at any moment, and any of whose calls can fail: what is left is what a file system may leave, and no more.
//!
//! [`model`] is the disk, [`fuse`] mounts it, [`store`] and [`running`] try a store and a whole relay on it. It needs `/dev/fuse`, and to be allowed to
//! mount (as root, or with `fusermount3`); without, these tests say so and pass.

mod fuse;
mod model;
mod running;
mod store;

use std::path::PathBuf;

/// Whether there is no such disk on this machine; says why.
pub(crate) fn skips() -> bool {
    static WHY: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let why = WHY.get_or_init(|| {
        fuse::Disk::mount(model::Image::default()).err().map(|error| format!("no file system can be mounted: {error}"))
    });
    if let Some(why) = why {
        println!("skipped: {why}");
    }
    why.is_some()
}

/// In memory where there is a folder for that: for what a cut has left.
pub(crate) fn memory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
