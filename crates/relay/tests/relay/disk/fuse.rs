//! The disk as a file system that is mounted: everything in memory, written down, and failing where it is told to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::model::{Image, Ino, Kind, Node, Op, ROOT, Tape};

/// How the n-th call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO, this once.
    Io,
    /// ENOSPC, for all that needs room from then on.
    Full,
    /// A write that takes less than it was given, this once.
    Short,
}

pub(crate) const FAULTS: [Fault; 3] = [Fault::Io, Fault::Full, Fault::Short];

/// What a call wants of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Nothing new.
    Old,
    /// Room.
    Room,
    /// Room for so many bytes.
    Bytes(usize),
}

#[derive(Debug, Default)]
struct State {
    now: Image,
    tape: Tape,
    last: Ino,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// Whether the fault has shown.
    failed: bool,
}

impl State {
    /// Counts a call, and says how it fails if it does. A short write is `Ok` with what it takes.
    fn call(&mut self, wants: Wants) -> Result<usize, Errno> {
        self.calls += 1;
        let whole = if let Wants::Bytes(bytes) = wants { bytes } else { 0 };
        let Some((at, fault)) = self.fault else { return Ok(whole) };
        let failing = match fault {
            Fault::Io if self.calls == at => Err(Errno::EIO),
            Fault::Full if self.calls >= at && wants != Wants::Old => Err(Errno::ENOSPC),
            Fault::Short if self.calls == at && whole > 1 => Ok(whole / 2),
            _ => return Ok(whole),
        };
        self.failed = true;
        failing
    }

    fn done(&mut self, op: Op) {
        self.now.apply(&op);
        self.tape.ops.push(op);
    }

    fn node(&self, ino: INodeNo) -> Result<&Node, Errno> {
        self.now.nodes.get(&ino.0).ok_or(Errno::ENOENT)
    }

    fn child(&self, folder: INodeNo, name: &OsStr) -> Result<(String, Option<Ino>), Errno> {
        let name = name.to_str().ok_or(Errno::EINVAL)?.to_owned();
        let found = self.node(folder)?.names.get(&name).copied();
        Ok((name, found))
    }

    fn attr(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let node = self.node(INodeNo(ino))?;
        let kind = match node.kind {
            Kind::Folder => FileType::Directory,
            Kind::File => FileType::RegularFile,
            Kind::Socket => FileType::Socket,
        };
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let then = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(ino),
            size: node.bytes.length,
            blocks: node.bytes.length.div_ceil(512),
            atime: then,
            mtime: then,
            ctime: then,
            crtime: then,
            kind,
            perm: node.mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        })
    }

    fn make(&mut self, folder: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        self.call(Wants::Room)?;
        let (name, None) = self.child(folder, name)? else { return Err(Errno::EEXIST) };
        self.last += 1;
        let (ino, mode) = (self.last, (mode & 0o777) as u16);
        self.now.nodes.insert(ino, Node::new(kind, mode));
        self.tape.made.insert(ino, (kind, mode));
        self.done(Op::Link { folder: folder.0, name, ino });
        self.attr(ino)
    }

    fn remove(&mut self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        self.call(Wants::Old)?;
        let (name, Some(ino)) = self.child(folder, name)? else { return Err(Errno::ENOENT) };
        if !self.node(INodeNo(ino))?.names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.done(Op::Unlink { folder: folder.0, name });
        Ok(())
    }

    fn sync(&mut self, ino: INodeNo) -> Result<(), Errno> {
        let outcome = self.call(Wants::Room);
        self.done(if outcome.is_ok() { Op::Synced(ino.0) } else { Op::SyncFailed(ino.0) });
        outcome.map(drop)
    }
}

/// Answers by its own rules; the kernel is the only one that changes anything, so that it may remember everything.
struct Served(Arc<Mutex<State>>);

const LONG: Duration = Duration::from_secs(3_600);

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn entry(reply: ReplyEntry, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attr) => reply.entry(&LONG, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attr(reply: ReplyAttr, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attr) => reply.attr(&LONG, &attr),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state();
        let found = state.child(parent, name).and_then(|(_, ino)| state.attr(ino.ok_or(Errno::ENOENT)?));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.state().attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let (Some(mode), Some(node)) = (mode, state.now.nodes.get_mut(&ino.0)) {
            node.mode = (mode & 0o777) as u16;
        }
        if let Some(length) = size {
            if let Err(error) = state.call(Wants::Room) {
                return reply.error(error);
            }
            state.done(Op::SetLength { ino: ino.0, length });
        }
        attr(reply, state.attr(ino.0));
    }

    fn mknod(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        const SOCKET: u32 = 0o140_000;
        let kind = if mode & 0o170_000 == SOCKET { Kind::Socket } else { Kind::File };
        entry(reply, self.state().make(parent, name, kind, mode));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.state().make(parent, name, Kind::Folder, mode));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.state().make(parent, name, Kind::File, mode) {
            Ok(attr) => reply.created(&LONG, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let mut rename = || {
            state.call(Wants::Room)?;
            let (name, Some(ino)) = state.child(parent, name)? else { return Err(Errno::ENOENT) };
            let (new, there) = state.child(to, new)?;
            if there.is_some() && flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            state.done(Op::Rename { from: (parent.0, name), to: (to.0, new), ino });
            Ok(())
        };
        let done = rename();
        empty(reply, done);
    }

    fn link(&self, _: &Request, ino: INodeNo, folder: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let mut link = || {
            state.call(Wants::Room)?;
            let (name, None) = state.child(folder, name)? else { return Err(Errno::EEXIST) };
            state.done(Op::Link { folder: folder.0, name, ino: ino.0 });
            state.attr(ino.0)
        };
        let linked = link();
        entry(reply, linked);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.state();
        match state.call(Wants::Old).and_then(|_| state.node(ino)) {
            Ok(node) => reply.data(&node.bytes.read(offset, size as usize)),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        match state.call(Wants::Bytes(data.len())) {
            Ok(takes) => {
                state.done(Op::Write { ino: ino.0, at: offset, data: data[..takes].to_vec() });
                reply.written(u32::try_from(takes).unwrap());
            }
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.state().sync(ino));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.state().sync(ino));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.state();
        let Ok(node) = state.node(ino) else { return reply.error(Errno::ENOENT) };
        let own = [(".", ino.0), ("..", ROOT)].into_iter();
        let all = own.chain(node.names.iter().map(|(name, ino)| (name.as_str(), *ino)));
        for (at, (name, ino)) in (1_u64..).zip(all).skip(offset as usize) {
            let Ok(attr) = state.attr(ino) else { continue };
            if reply.add(INodeNo(ino), at, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = 1 << 30;
        reply.statfs(blocks, blocks, blocks, 1 << 20, 1 << 20, 4_096, 255, 4_096);
    }
}

/// A disk that is mounted.
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    folder: tempfile::TempDir,
}

impl Disk {
    /// A disk that holds this.
    pub(crate) fn mount(image: Image) -> std::io::Result<Self> {
        let last = image.nodes.keys().copied().max().unwrap_or(ROOT);
        let tape = Tape { from: image.clone(), ..Tape::default() };
        let state = Arc::new(Mutex::new(State { now: image, tape, last, ..State::default() }));
        let folder = tempfile::tempdir()?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("bulla-test".to_owned())];
        let session = fuser::spawn_mount(Served(Arc::clone(&state)), folder.path(), &config)?;
        Ok(Self { state, session: Some(session), folder })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The n-th call from now on fails.
    pub(crate) fn fail(&self, n: u64, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.fault = Some((state.calls + n, fault));
        state.failed = false;
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Whether the fault has shown.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().unwrap().failed
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }

    /// What was done so far, as a moment on the tape.
    pub(crate) fn moment(&self) -> usize {
        self.state.lock().unwrap().tape.ops.len()
    }

    /// All that was done so far.
    pub(crate) fn tape(&self) -> Tape {
        self.state.lock().unwrap().tape.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At once, also where somebody still has a file open.
        let path: PathBuf = self.folder.path().to_owned();
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        drop(self.session.take());
    }
}

#[test]
fn a_mounted_disk_is_a_disk_and_fails_where_it_is_told_to() {
    use std::io::Write as _;
    if super::skips() {
        return;
    }
    let disk = Disk::mount(Image::default()).unwrap();
    let at = |name: &str| disk.path().join(name);
    std::fs::create_dir(at("folder")).unwrap();
    let mut file = std::fs::File::create_new(at("folder/file")).unwrap();
    file.write_all(&[1; 10_000]).unwrap();
    file.sync_all().unwrap();
    std::fs::rename(at("folder/file"), at("folder/other")).unwrap();
    std::fs::write(at("second"), b"second").unwrap();
    let names: Vec<_> = std::fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["folder", "second"]);
    assert_eq!(std::fs::read(at("folder/other")).unwrap(), [1; 10_000]);
    // Nobody synced the folders.
    let mut random = crate::common::Random(3);
    use super::model::Cut;
    assert!(disk.tape().cut(disk.moment(), Cut::Drops, &mut random).file("folder").is_none());
    for folder in [disk.path().to_owned(), at("folder")] {
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
    }
    let left = disk.tape().cut(disk.moment(), Cut::Drops, &mut random);
    assert_eq!(left.file("folder/other").unwrap().bytes.read(0, 20_000), [1; 10_000]);
    assert_eq!(left.file("second").unwrap().bytes.length, 0, "its name is safe, and nothing in it");

    disk.fail(1, Fault::Short);
    assert_eq!(file.write(&[2; 100]).unwrap(), 50);
    disk.fail(2, Fault::Io);
    file.write_all(&[3; 100]).unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    let left = disk.tape().cut(disk.moment(), Cut::Drops, &mut random);
    assert_eq!(left.file("folder/other").unwrap().bytes.length, 10_000, "what a failed sync lost stays lost");
    disk.fail(1, Fault::Full);
    for _ in 0..2 {
        assert_eq!(file.write(&[2; 100]).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
    assert!(disk.has_failed() && disk.calls() > 10);
    disk.heal();
    file.write_all(&[4; 100]).unwrap();
    // Another machine with the same disk, and real files of it.
    let (again, files) = (Disk::mount(left.clone()).unwrap(), tempfile::tempdir().unwrap());
    left.write_to(files.path()).unwrap();
    for folder in [again.path(), files.path()] {
        assert_eq!(std::fs::read(folder.join("folder/other")).unwrap(), [1; 10_000]);
    }
}
