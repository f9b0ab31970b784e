//! Canaries: marked strings that go through the whole system, and the scanner that looks where they must not be.
//!
//! A run has one random mark, and each canary carries it with a number. The scanner looks for the mark in every form in which a program
//! would write it by accident: as it is, in base64 (at each of its three alignments, both alphabets), in hexadecimal, in UTF-16, as
//! `\u00XX` escapes. That nothing is found means something only beside a positive control: the same scan, at a place where the mark must
//! be, finds it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use memchr::memmem::Finder;
use rand_core::RngCore;

/// A mark: the run's own, or something else that must not be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What it is called where it is found.
    mark: String,
    bytes: Vec<u8>,
}

impl Canary {
    /// A new mark: 16 random letters and digits, after a word that a person recognises.
    pub fn new(rng: &mut impl RngCore) -> Self {
        let mut bytes = [0; 8];
        rng.fill_bytes(&mut bytes);
        Self::of(&format!("kanari{}", HEXLOWER.encode(&bytes)))
    }

    /// From a word that is marked enough by itself: a name, a user id.
    #[must_use]
    pub fn of(word: &str) -> Self {
        Self { mark: word.to_owned(), bytes: word.as_bytes().to_vec() }
    }

    /// From bytes that are no text: a key, a hash.
    #[must_use]
    pub fn of_bytes(called: &str, bytes: &[u8]) -> Self {
        Self { mark: called.to_owned(), bytes: bytes.to_vec() }
    }

    /// The text of message `number`.
    #[must_use]
    pub fn text(&self, number: u64) -> String {
        format!("{} {number}", self.mark)
    }

    /// The mark itself.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// Looks for marks.
#[derive(Debug)]
pub struct Scanner {
    needles: Vec<(String, Finder<'static>)>,
    longest: usize,
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file or the region of memory.
    pub place: String,
    /// Which mark, in which form.
    pub form: String,
    /// How often.
    pub times: usize,
    /// What stands around the first one, made printable.
    pub around: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} × {}: …{}…", self.place, self.times, self.form, self.around)
    }
}

/// What a scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes looked at: a scan that saw nothing shows nothing.
    pub bytes: u64,
    /// Files or regions looked at.
    pub places: usize,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Scan {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.places += other.places;
        self.findings.extend(other.findings);
    }

    /// Fails, with every place, if anything was found, or if hardly anything was looked at.
    pub fn must_be_clean(&self, what: &str) -> Result<()> {
        anyhow::ensure!(self.bytes > 0, "{what}: the scan saw no byte and shows nothing");
        let found: Vec<_> = self.findings.iter().map(Finding::to_string).collect();
        anyhow::ensure!(found.is_empty(), "{what}: found in {} places:\n{}", found.len(), found.join("\n"));
        Ok(())
    }
}

impl Scanner {
    /// For these marks.
    #[must_use]
    pub fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut needles = BTreeMap::new();
        for canary in canaries {
            for (form, bytes) in forms(&canary.bytes) {
                needles.insert(bytes, format!("{:?} {form}", canary.mark));
            }
        }
        let longest = needles.keys().map(Vec::len).max().unwrap_or(0);
        let needles = needles.into_iter().map(|(bytes, form)| (form, Finder::new(&bytes).into_owned())).collect();
        Self { needles, longest }
    }

    /// For these marks as they are, in no other form: for many of them in much memory.
    #[must_use]
    pub fn as_they_are<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let needles: Vec<_> = canaries
            .into_iter()
            .map(|c| (format!("{:?} as it is", c.mark), Finder::new(&c.bytes).into_owned()))
            .collect();
        let longest = needles.iter().map(|(_, finder)| finder.needle().len()).max().unwrap_or(0);
        Self { needles, longest }
    }

    /// Looks through bytes.
    #[must_use]
    pub fn bytes(&self, place: &str, haystack: &[u8]) -> Scan {
        let mut findings = Vec::new();
        for (form, finder) in &self.needles {
            let mut hits = finder.find_iter(haystack);
            if let Some(first) = hits.next() {
                let around = &haystack[first.saturating_sub(24)..haystack.len().min(first + 48)];
                findings.push(Finding {
                    place: place.to_owned(),
                    form: form.clone(),
                    times: 1 + hits.count(),
                    around: around.escape_ascii().to_string(),
                });
            }
        }
        Scan { bytes: haystack.len() as u64, places: 1, findings }
    }

    /// Looks through a file, or every file below a folder, and their names. Sockets and pipes are left out.
    pub fn files(&self, path: &Path) -> Result<Scan> {
        let mut total = Scan::default();
        let mut open: Vec<PathBuf> = vec![path.to_path_buf()];
        while let Some(path) = open.pop() {
            let name = path.display().to_string();
            let meta = match std::fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // A store may delete a file while we look.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(name),
            };
            if meta.is_dir() {
                for entry in std::fs::read_dir(&path).context(name)? {
                    open.push(entry?.path());
                }
            } else if meta.is_file() {
                let mut bytes = Vec::new();
                match File::open(&path) {
                    Ok(mut file) => file.read_to_end(&mut bytes).context(name.clone())?,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).context(name),
                };
                total.add(self.bytes(&name, &bytes));
                let mut in_name = self.bytes(&format!("the name {name}"), name.as_bytes());
                in_name.bytes = 0;
                total.findings.extend(in_name.findings);
            }
        }
        Ok(total)
    }

    /// Looks through the memory of a process: every region that can be read. Regions that cannot (`[vvar]`) are left out, and one that
    /// goes while we look counts as seen.
    pub fn memory(&self, pid: u32) -> Result<Scan> {
        const CHUNK: usize = 4 << 20;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("its memory map")?;
        let memory = File::open(format!("/proc/{pid}/mem")).context("its memory (one's own children, or root)")?;
        let mut total = Scan::default();
        let mut buffer = vec![0; CHUNK];
        for line in maps.lines() {
            let Some((from, to, name)) = region(line) else { continue };
            let mut at = from;
            let mut region_scan = Scan::default();
            while at < to {
                let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
                let Ok(got) = memory.read_at(&mut buffer[..want], at) else { break };
                if got == 0 {
                    break;
                }
                region_scan.add(self.bytes(&format!("pid {pid} {name} at {at:x}"), &buffer[..got]));
                // A needle may lie across two chunks.
                let step = if got == want && at + (got as u64) < to { got.saturating_sub(self.longest) } else { got };
                at += step.max(1) as u64;
            }
            region_scan.places = 1;
            total.add(region_scan);
        }
        Ok(total)
    }
}

/// A line of `/proc/PID/maps` that can be read: from, to, name.
fn region(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.splitn(6, ' ');
    let (from, to) = words.next()?.split_once('-')?;
    let readable = words.next()?.starts_with('r');
    let name = words.nth(3).map_or("", str::trim);
    let name = if name.is_empty() { "anonymous" } else { name };
    let special = name == "[vvar]" || name == "[vsyscall]" || name == "[vvar_vclock]";
    (readable && !special).then_some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?, name))
}

/// Every form in which a program writes something by accident.
fn forms(raw: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("as it is", raw.to_vec()),
        ("in hexadecimal", HEXLOWER.encode(raw).into_bytes()),
        ("in hexadecimal, capitals", HEXUPPER.encode(raw).into_bytes()),
        ("as a list of numbers", raw.iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes()),
    ];
    if let Ok(text) = std::str::from_utf8(raw) {
        let wide = |encode: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(encode).collect::<Vec<u8>>();
        forms.push(("in UTF-16 LE", wide(u16::to_le_bytes)));
        forms.push(("in UTF-16 BE", wide(u16::to_be_bytes)));
        let escaped = text.encode_utf16().flat_map(|u| format!("\\u{u:04x}").into_bytes());
        forms.push(("in JSON escapes", escaped.collect()));
    }
    // Base64 of a longer text contains that of the mark from the first whole group on, at one of three alignments.
    for shift in 0..3 {
        let skip = (3 - shift) % 3;
        let Some(aligned) = raw.get(skip..) else { continue };
        let whole = &aligned[..aligned.len() / 3 * 3];
        if whole.len() >= 9 {
            forms.push(("in base64", BASE64_NOPAD.encode(whole).into_bytes()));
            forms.push(("in base64url", BASE64URL_NOPAD.encode(whole).into_bytes()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn canary() -> Canary {
        Canary::new(&mut Chance::new(1))
    }

    fn found(haystack: &[u8]) -> bool {
        !Scanner::new([&canary()]).bytes("x", haystack).findings.is_empty()
    }

    #[test]
    fn every_form_is_found_wherever_it_stands() {
        let text = canary().text(7);
        for before in ["", "x", "xy", "xyz"] {
            let whole = format!("{before}{text} and more");
            assert!(found(whole.as_bytes()));
            assert!(found(BASE64_NOPAD.encode(whole.as_bytes()).as_bytes()), "base64 after {before:?}");
            assert!(found(BASE64URL_NOPAD.encode(whole.as_bytes()).as_bytes()));
            assert!(found(HEXLOWER.encode(whole.as_bytes()).as_bytes()));
            assert!(found(HEXUPPER.encode(whole.as_bytes()).as_bytes()));
            assert!(found(format!("{:?}", whole.as_bytes()).as_bytes()), "a derived Debug of bytes");
            let wide: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
            assert!(found(&wide));
        }
        assert!(!found(b"kanari without its number"));
        let other = Canary::new(&mut Chance::new(2)).text(7);
        assert!(!found(other.as_bytes()), "another run's mark is not this one's");
    }

    #[test]
    fn bytes_that_are_no_text_are_found_too() {
        let key = Canary::of_bytes("a key", &[0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        let scanner = Scanner::new([&key]);
        for text in [HEXLOWER.encode(&key.bytes), BASE64_NOPAD.encode(&key.bytes), format!("{:?}", key.bytes)] {
            assert!(!scanner.bytes("x", text.as_bytes()).findings.is_empty(), "{text}");
        }
        let found = scanner.bytes("x", &[b"xx".as_slice(), &key.bytes].concat());
        assert!(found.findings[0].form.starts_with("\"a key\""), "{found:?}");
        assert!(scanner.bytes("x", &key.bytes[1..]).findings.is_empty());
    }

    #[test]
    fn files_are_read_below_folders_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let scanner = Scanner::new([&canary()]);
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/clean"), "nothing").unwrap();
        let scan = scanner.files(folder.path()).unwrap();
        assert_eq!((scan.bytes, scan.findings.len()), (7, 0));
        scan.must_be_clean("clean files").unwrap();
        std::fs::write(folder.path().join("deep/dirty"), canary().text(1)).unwrap();
        std::fs::write(folder.path().join(canary().mark()), "nothing").unwrap();
        let scan = scanner.files(folder.path()).unwrap();
        assert_eq!(scan.findings.len(), 2);
        assert!(scan.must_be_clean("dirty files").unwrap_err().to_string().contains("deep/dirty"));
    }

    #[test]
    fn a_scan_of_nothing_shows_nothing() {
        assert!(Scan::default().must_be_clean("nothing").is_err());
    }

    #[test]
    fn memory_is_read_and_the_positive_control_is_found() {
        use std::process::Command;
        let mark = canary();
        let start = |argument: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", "read wait", "sh", argument]);
            crate::process::Part::start(&mut command).unwrap()
        };
        let (with, without) = (start(&mark.text(1)), start("plain"));
        let scanner = Scanner::new([&mark]);
        let control = scanner.memory(with.pid()).unwrap();
        assert!(!control.findings.is_empty(), "{} bytes seen", control.bytes);
        let clean = scanner.memory(without.pid()).unwrap();
        clean.must_be_clean("a process that never saw it").unwrap();
        assert!(clean.bytes > 100_000 && clean.places > 5, "{clean:?}");
    }

    #[test]
    fn regions_are_parsed() {
        let line = "7ffd1000-7ffd2000 rw-p 00000000 00:00 0                          [stack]";
        assert_eq!(region(line), Some((0x7ffd_1000, 0x7ffd_2000, "[stack]")));
        assert_eq!(region("1000-2000 r--p 00000000 00:00 0 "), Some((0x1000, 0x2000, "anonymous")));
        assert_eq!(region("1000-2000 ---p 00000000 00:00 0 "), None);
    }
}
