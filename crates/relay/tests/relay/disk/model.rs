//! What a disk holds while it has power, and what of it is left when that is cut.
//!
//! Everything that is done to the disk is written down in order. What was synced is there after a power cut; of everything else anything may be, in
//! any order, and half of it: POSIX promises nothing more. A name is synced with its folder and not with its file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::common::Random;

pub(crate) type Ino = u64;

/// The folder that is mounted.
pub(crate) const ROOT: Ino = 1;

const PAGE: u64 = 4_096;

/// What a disk writes at once, whatever happens.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Socket,
}

/// Bytes of a file; what was never written reads as zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bytes {
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
    pub(crate) length: u64,
}

impl Bytes {
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) {
        let (mut at, mut rest) = (at, data);
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        self.length = self.length.max(at);
    }

    pub(crate) fn read(&self, at: u64, size: usize) -> Vec<u8> {
        let end = self.length.min(at.saturating_add(size as u64));
        let mut out = vec![0; end.saturating_sub(at) as usize];
        for (number, page) in self.pages.range(at / PAGE..=end / PAGE) {
            let begin = number * PAGE;
            let (from, to) = (begin.max(at), (begin + PAGE).min(end));
            if from < to {
                let target = &mut out[(from - at) as usize..(to - at) as usize];
                target.copy_from_slice(&page[(from - begin) as usize..(to - begin) as usize]);
            }
        }
        out
    }

    pub(crate) fn set_length(&mut self, length: u64) {
        self.pages.retain(|number, _| number * PAGE < length);
        let within = (length % PAGE) as usize;
        if length < self.length
            && let Some(page) = self.pages.get_mut(&(length / PAGE))
        {
            Arc::make_mut(page)[within..].fill(0);
        }
        self.length = length;
    }
}

/// A file, a folder or a socket.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
    pub(crate) bytes: Bytes,
    pub(crate) names: BTreeMap<String, Ino>,
}

impl Node {
    pub(crate) fn new(kind: Kind, mode: u16) -> Self {
        Self { kind, mode, bytes: Bytes::default(), names: BTreeMap::new() }
    }
}

/// Something that was done to a disk.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write {
        ino: Ino,
        at: u64,
        data: Vec<u8>,
    },
    SetLength {
        ino: Ino,
        length: u64,
    },
    Link {
        folder: Ino,
        name: String,
        ino: Ino,
    },
    Unlink {
        folder: Ino,
        name: String,
    },
    Rename {
        from: (Ino, String),
        to: (Ino, String),
        ino: Ino,
    },
    /// Everything of this file or folder is on stable storage.
    Synced(Ino),
    /// A sync failed: what was not synced is taken to be written by nobody any more.
    SyncFailed(Ino),
}

impl Op {
    /// Whose syncing makes it durable.
    fn touches(&self, ino: Ino) -> bool {
        match self {
            Self::Write { ino: of, .. } | Self::SetLength { ino: of, .. } => *of == ino,
            Self::Link { folder, .. } | Self::Unlink { folder, .. } => *folder == ino,
            Self::Rename { from, to, .. } => from.0 == ino || to.0 == ino,
            Self::Synced(_) | Self::SyncFailed(_) => false,
        }
    }
}

/// What is left of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    Drops,
    /// What came first, up to a moment; of the write at that moment some sectors.
    Tears,
    /// Any of it, and some of it torn.
    Reorders,
    /// All: the process alone was killed.
    Keeps,
}

pub(crate) const CUTS: [Cut; 4] = [Cut::Drops, Cut::Tears, Cut::Reorders, Cut::Keeps];

/// A disk without power.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) nodes: HashMap<Ino, Node>,
}

impl Default for Image {
    fn default() -> Self {
        Self { nodes: HashMap::from([(ROOT, Node::new(Kind::Folder, 0o755))]) }
    }
}

impl Image {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { ino, at, data } => {
                if let Some(node) = self.nodes.get_mut(ino) {
                    node.bytes.write(*at, data);
                }
            }
            Op::SetLength { ino, length } => {
                if let Some(node) = self.nodes.get_mut(ino) {
                    node.bytes.set_length(*length);
                }
            }
            Op::Link { folder, name, ino } => {
                self.names(*folder).insert(name.clone(), *ino);
            }
            Op::Unlink { folder, name } => {
                self.names(*folder).remove(name);
            }
            Op::Rename { from, to, ino } => {
                let names = self.names(from.0);
                if names.get(&from.1) == Some(ino) {
                    names.remove(&from.1);
                }
                self.names(to.0).insert(to.1.clone(), *ino);
            }
            Op::Synced(_) | Op::SyncFailed(_) => {}
        }
    }

    fn names(&mut self, folder: Ino) -> &mut BTreeMap<String, Ino> {
        let fresh = || Node::new(Kind::Folder, 0o700);
        &mut self.nodes.entry(folder).or_insert_with(fresh).names
    }

    /// The file of this path, if it is there.
    pub(crate) fn file(&self, path: &str) -> Option<&Node> {
        let mut node = self.nodes.get(&ROOT)?;
        for name in path.split('/') {
            node = self.nodes.get(node.names.get(name)?)?;
        }
        Some(node)
    }

    /// Makes real files of it in a folder that is there.
    pub(crate) fn write_to(&self, folder: &Path) -> std::io::Result<()> {
        self.write_node(ROOT, folder)
    }

    fn write_node(&self, ino: Ino, folder: &Path) -> std::io::Result<()> {
        let Some(node) = self.nodes.get(&ino) else { return Ok(()) };
        for (name, ino) in &node.names {
            let (path, Some(node)) = (folder.join(name), self.nodes.get(ino)) else { continue };
            match node.kind {
                Kind::Folder => {
                    std::fs::create_dir(&path)?;
                    self.write_node(*ino, &path)?;
                }
                Kind::File => {
                    use std::os::unix::fs::FileExt as _;
                    let file = std::fs::File::create_new(&path)?;
                    file.set_len(node.bytes.length)?;
                    for (number, page) in &node.bytes.pages {
                        let begin = number * PAGE;
                        let end = node.bytes.length.min(begin + PAGE);
                        file.write_all_at(&page[..end.saturating_sub(begin) as usize], begin)?;
                    }
                }
                Kind::Socket => {}
            }
        }
        Ok(())
    }
}

/// Everything that was done to a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape {
    /// What was there before.
    pub(crate) from: Image,
    /// Kinds and modes of what was made.
    pub(crate) made: HashMap<Ino, (Kind, u16)>,
    pub(crate) ops: Vec<Op>,
}

impl Tape {
    /// The disk after a power cut when so many operations were done.
    pub(crate) fn cut(&self, after: usize, cut: Cut, random: &mut Random) -> Image {
        let ops = &self.ops[..after];
        let durable = durable(ops);
        let unsynced: Vec<usize> = (0..after).filter(|i| !durable[*i] && is_change(&ops[*i])).collect();
        let moment = if unsynced.is_empty() { after } else { unsynced[random.below(unsynced.len())] };
        let mut image = self.from.clone();
        for (ino, (kind, mode)) in &self.made {
            image.nodes.entry(*ino).or_insert_with(|| Node::new(*kind, *mode));
        }
        for (i, op) in ops.iter().enumerate() {
            if durable[i] {
                image.apply(op);
                continue;
            }
            match cut {
                Cut::Drops => {}
                Cut::Keeps => image.apply(op),
                Cut::Tears if i < moment => image.apply(op),
                Cut::Tears if i > moment => {}
                Cut::Reorders if random.below(4) == 0 => tear(&mut image, op, random),
                Cut::Reorders if random.below(2) == 0 => image.apply(op),
                Cut::Reorders => {}
                Cut::Tears => tear(&mut image, op, random),
            }
        }
        image
    }
}

fn is_change(op: &Op) -> bool {
    !matches!(op, Op::Synced(_) | Op::SyncFailed(_))
}

/// Which of these are on stable storage after all of them: whose next sync, if there is one, did not fail.
fn durable(ops: &[Op]) -> Vec<bool> {
    let mut last: HashMap<Ino, bool> = HashMap::new();
    let mut durable = vec![false; ops.len()];
    for (i, op) in ops.iter().enumerate().rev() {
        match op {
            Op::Synced(ino) => {
                last.insert(*ino, true);
            }
            Op::SyncFailed(ino) => {
                last.insert(*ino, false);
            }
            Op::Write { ino, .. } | Op::SetLength { ino, .. } => durable[i] = last.get(ino) == Some(&true),
            Op::Link { folder, .. } | Op::Unlink { folder, .. } => durable[i] = last.get(folder) == Some(&true),
            Op::Rename { from, to, .. } => {
                durable[i] = [from.0, to.0].iter().any(|ino| last.get(ino) == Some(&true));
            }
        }
        debug_assert!(!durable[i] || last.keys().any(|ino| op.touches(*ino)));
    }
    durable
}

/// Some sectors of a write, from its beginning or to its end; anything else whole or not.
fn tear(image: &mut Image, op: &Op, random: &mut Random) {
    let Op::Write { ino, at, data } = op else {
        if random.below(2) == 0 {
            image.apply(op);
        }
        return;
    };
    // Where sectors begin in it.
    let first = (SECTOR - (*at as usize % SECTOR)) % SECTOR;
    let borders: Vec<usize> = (first..data.len()).step_by(SECTOR).collect();
    let border = if borders.is_empty() { 0 } else { borders[random.below(borders.len())] };
    let (begin, end) = if random.below(2) == 0 { (0, border) } else { (border, data.len()) };
    if begin < end {
        image.apply(&Op::Write { ino: *ino, at: at + begin as u64, data: data[begin..end].to_vec() });
    }
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_of_the_rest_what_it_likes() {
    let mut tape = Tape::default();
    let (a, b, c) = (2, 3, 4);
    tape.made = HashMap::from([(a, (Kind::File, 0o600)), (b, (Kind::File, 0o600)), (c, (Kind::File, 0o600))]);
    let link = |name: &str, ino| Op::Link { folder: ROOT, name: name.into(), ino };
    let write = |ino, at, byte: u8, length| Op::Write { ino, at, data: vec![byte; length] };
    tape.ops = vec![
        link("synced", a),
        write(a, 0, 1, 6_000),
        link("unsynced file", b),
        Op::Synced(ROOT),
        Op::Synced(a),
        write(b, 0, 2, 100),
        write(a, 1_000, 3, 2_000),
        link("unsynced name", c),
        write(c, 0, 4, 10),
        Op::Synced(c),
    ];
    let mut random = Random(7);
    let mut all = |after, cut| (0..200).map(|_| tape.cut(after, cut, &mut random)).collect::<Vec<_>>();
    let bytes = |image: &Image, name: &str| image.file(name).map(|node| node.bytes.read(0, 10_000));
    for image in all(10, Cut::Drops) {
        assert_eq!(bytes(&image, "synced").unwrap(), [1; 6_000]);
        assert_eq!(bytes(&image, "unsynced file").unwrap(), b"");
        assert!(image.file("unsynced name").is_none());
    }
    // Before the sync nothing is safe, not even a name.
    assert!(all(3, Cut::Drops)[0].file("synced").is_none());
    let kept = &all(10, Cut::Keeps)[0];
    assert_eq!(bytes(kept, "unsynced name").unwrap(), [4; 10]);
    for cut in [Cut::Tears, Cut::Reorders] {
        let images = all(10, cut);
        let seen: std::collections::BTreeSet<_> = images.iter().map(|image| bytes(image, "synced").unwrap()).collect();
        assert!(seen.len() > 3, "{cut:?}");
        for bytes in seen {
            assert!(bytes.len() == 6_000 && bytes[..1_000] == [1; 1_000] && bytes[3_000..] == [1; 3_000]);
            let torn = |border: usize| bytes[border - 1] != bytes[border];
            assert!((1_001..3_000).filter(|at| torn(*at)).all(|at| at % SECTOR == 0), "{cut:?} tears at sectors");
        }
        assert!(images.iter().any(|image| image.file("unsynced name").is_some()));
        assert!(images.iter().any(|image| image.file("unsynced name").is_none()));
    }
    // Reordered: what came later without what came before it.
    let later = |image: &Image| image.file("unsynced name").is_some() && bytes(image, "unsynced file") == Some(vec![]);
    assert!(all(10, Cut::Reorders).iter().any(later) && !all(10, Cut::Tears).iter().any(later));

    // After a sync that failed, a later one that says it is done has not written what was lost.
    tape.ops = vec![link("synced", a), Op::Synced(ROOT), write(a, 0, 1, 9), Op::SyncFailed(a), Op::Synced(a)];
    assert_eq!(bytes(&tape.cut(5, Cut::Drops, &mut Random(1)), "synced").unwrap(), b"");
}
