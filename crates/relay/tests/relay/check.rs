//! `bulla-relay check`: each thing that can be wrong with a machine, made wrong.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bulla_relay::clock::{DAY_SECS, Source as _};
use bulla_relay::{Clock as _, GuardedClock, Machine};

use crate::common::*;
use crate::program::{PROGRAM, Process};

/// State and words of each check, and whether the program ended well.
struct Checked {
    all: BTreeMap<String, (String, String)>,
    ended_well: bool,
}

impl Checked {
    fn says(&self, check: &str, state: &str, words: &str) {
        let (found, said) = self.all.get(check).unwrap_or_else(|| panic!("no {check} in {:?}", self.all));
        assert!(found == state && said.contains(words), "{check}: {found}, {said}");
        let is_bad = self.all.values().any(|(state, _)| state == "bad");
        assert_eq!(self.ended_well, !is_bad, "{:?}", self.all);
    }
}

fn program(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    let listen: &[&str] = if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    command.env_clear().arg("check").args(listen).args(more).arg("--data").arg(data);
    command
}

fn check(data: &Path, more: &[&str]) -> Checked {
    let output = program(data, more).arg("--json").output().unwrap();
    let said: Vec<BTreeMap<String, String>> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let all = said.into_iter().map(|mut line| {
        let mut take = |key: &str| line.remove(key).unwrap();
        (take("check"), (take("state"), take("says")))
    });
    Checked { all: all.collect(), ended_well: output.status.success() }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The data folder of a relay that ran.
fn used(dir: &tempfile::TempDir) -> PathBuf {
    let data = dir.path().join("relay");
    Process::start(&data, "warn", NAME).terminate();
    data
}

#[test]
fn where_all_is_well_every_line_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = used(&dir);
    let output = program(&data, &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for (line, check) in text.lines().zip(["settings", "folder", "writes", "space", "file system", "store", "keys"]) {
        let is_disks = ["space", "file system"].contains(&check);
        assert!(line.starts_with(&format!("✓ {check}")) || is_disks, "{line}");
    }
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(!data.join(".check").exists());
    let fresh = check(&dir.path().join("not/yet"), &[]);
    fresh.says("folder", "good", "is made at the first start");
    assert!(fresh.ended_well && !dir.path().join("not").exists(), "it made nothing");
}

#[test]
fn settings_that_are_none_are_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, "work_bitz = 3").unwrap();
    let checked = check(dir.path(), &["--config", file.to_str().unwrap()]);
    checked.says("settings", "bad", "line 1: there is no setting 'work_bitz'");
}

#[test]
fn a_folder_that_does_not_do_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let data = used(&dir);
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    check(&file, &[]).says("folder", "bad", "is a file");
    check(&file.join("below"), &[]).says("folder", "bad", "Choose another folder");
    check(Path::new("/proc/relay"), &[]).says("file system", "bad", "proc: it holds no files");
    mode(&data, 0o755);
    check(&data, &[]).says("folder", "warn", "chmod 700");
    mode(&data, 0o700);
    std::fs::create_dir(data.join(".check")).unwrap();
    check(&data, &[]).says("writes", "bad", "does not get to the disk");
    std::fs::remove_dir(data.join(".check")).unwrap();
    // As somebody who may not write there: root may everywhere, so that it has to be somebody else.
    let (closed, copy) = (dir.path().join("closed"), dir.path().join("bulla-relay"));
    std::fs::create_dir(&closed).unwrap();
    std::fs::copy(PROGRAM, &copy).unwrap();
    mode(dir.path(), 0o755);
    let mut nobody = Command::new(&copy);
    nobody.env_clear().args(["check", "--listen", "127.0.0.1:0", "--data"]).arg(closed.join("relay"));
    mode(&closed, 0o555);
    if rustix::process::geteuid().is_root() {
        nobody.uid(65_534);
    }
    let output = nobody.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("✗ folder") && text.contains("cannot be made in"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    // Only root can give a folder away, and only root is let into it then.
    if chown(&data, Some(12_345), None).is_ok() {
        let others = check(&data, &[]);
        others.says("folder", "warn", "belongs to another user");
        others.says("store", "warn", "not opened");
        others.says("writes", "warn", "not tried");
    }
}

#[test]
fn a_disk_that_is_too_small_or_forgets_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &["--blob-mib", "17179869184"]).says("space", "warn", "lower blob_mib");
    check(Path::new("/proc"), &[]).says("space", "bad", "0 MiB are free");
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        check(memory.path(), &[]).says("file system", "warn", "tmpfs: everything is gone");
    }
}

#[test]
fn a_store_that_does_not_open_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let data = used(&dir);
    check(&data, &[]).says("store", "good", "it opens");
    let process = Process::start(&data, "warn", NAME);
    let running = check(&data, &["--listen", &process.listen]);
    running.says("store", "good", "a relay runs on it, and is well");
    running.says("listen", "good", "has the relay that runs");
    std::fs::remove_file(data.join("disclose.sock")).unwrap();
    let silent = check(&data, &["--listen", &process.listen]);
    silent.says("store", "warn", "does not answer");
    silent.says("listen", "bad", "Address already in use");
    drop(process);
    fn spoil(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { spoil(&path) } else { std::fs::write(path, "no store").unwrap() }
        }
    }
    spoil(&data.join("store"));
    check(&data, &[]).says("store", "bad", "cannot open the store");
}

#[test]
fn keys_that_others_can_read_or_that_are_gone_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let data = used(&dir);
    let keys = data.join("keys");
    mode(&keys, 0o640);
    check(&data, &[]).says("keys", "bad", "chmod 600");
    mode(&keys, 0o600);
    check(&data, &[]).says("keys", "good", "keep it out of backups");
    std::fs::remove_file(&keys).unwrap();
    std::fs::rename(data.join("store"), dir.path().join("kept")).unwrap();
    std::fs::write(data.join("store"), "").unwrap();
    check(&data, &[]).says("keys", "warn", "opens for nobody");
}

#[test]
fn a_clock_that_is_wrong_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let data = used(&dir);
    check(&data, &[]).says("clock", "good", "right");
    let file = data.join("clock");
    let kept = |ahead: u64| {
        let wall = Machine.wall_secs();
        let unix = wall + ahead;
        let bytes = [&[1][..], &[0; 16], &[0; 8], &unix.to_be_bytes(), &wall.to_be_bytes()].concat();
        std::fs::write(&file, bytes).unwrap();
        let read = GuardedClock::open(&file, Machine).unwrap().unix_secs();
        assert!(read.abs_diff(unix) < 60, "the control: that is the relay's time");
    };
    kept(3_600);
    check(&data, &[]).says("clock", "warn", "ahead of");
    kept(200 * 365 * DAY_SECS);
    check(&data, &[]).says("clock", "bad", "remove");
    std::fs::write(&file, "no clock").unwrap();
    check(&data, &[]).says("clock", "bad", "damaged");
}

#[test]
fn a_certificate_that_does_not_do_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Machine.wall_secs();
    let made = |name: &str, begins: u64, ends: u64| {
        let mut params = rcgen::CertificateParams::new(["relay.example".to_owned()]).unwrap();
        params.not_before = epoch + Duration::from_secs(begins);
        params.not_after = epoch + Duration::from_secs(ends);
        let key = rcgen::KeyPair::generate().unwrap();
        let [certificate, secret] = ["pem", "key"].map(|end| dir.path().join(name).with_extension(end));
        std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        [certificate, secret].map(|file| file.display().to_string())
    };
    let year = now + 365 * DAY_SECS + 3_600;
    let [certificate, key] = made("good", now - DAY_SECS, year);
    let [over, over_key] = made("over", now - 9 * DAY_SECS, now - DAY_SECS);
    let [soon, soon_key] = made("soon", now - DAY_SECS, now + 5 * DAY_SECS + 60);
    let [later, later_key] = made("later", now + DAY_SECS, year);
    let checked = |name: &str, certificate: &str, key: &str| {
        check(&dir.path().join("relay"), &["--name", name, "--tls-cert", certificate, "--tls-key", key])
    };
    checked("relay.example", &certificate, &key).says("certificate", "good", "365 days left");
    checked("other.example", &certificate, &key).says("certificate", "warn", "not for the relay's name other.example");
    checked("relay.example", &soon, &soon_key).says("certificate", "warn", "5 days left");
    checked("relay.example", &later, &later_key).says("certificate", "bad", "not valid yet");
    checked("relay.example", &over, &over_key).says("certificate", "bad", "expired on");
    checked("relay.example", &certificate, &over_key).says("certificate", "bad", "does not belong");
    checked("relay.example", "/nowhere", &key).says("certificate", "bad", "there is no file /nowhere");
    checked("relay.example", &key, &key).says("certificate", "bad", "contains no certificate");
    let data = dir.path().join("relay");
    check(&data, &["--domain", "relay.example"]).says("certificate", "warn", "is ordered at the start");
    check(&data, &["--domain", "relay"]).says("certificate", "bad", "not a name");
    check(&data, &["--listen", "0.0.0.0:0"]).says("certificate", "warn", "reverse proxy");
    check(&data, &[]).says("certificate", "good", "loopback");
}

#[test]
fn an_address_that_somebody_has_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    check(dir.path(), &["--listen", &addr]).says("listen", "bad", "Choose another address");
    check(dir.path(), &["--metrics", &addr]).says("metrics", "bad", "Choose another address");
    check(dir.path(), &[]).says("listen", "good", "is free");
}

#[test]
fn a_relay_that_runs_is_asked_whether_it_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    check(&data, &["--running"]).says("running", "bad", "none runs on");
    let process = Process::start(&data, "warn", NAME);
    check(&data, &["--running"]).says("running", "good", "accepts and stores");
    process.terminate();
    check(&data, &["--running"]).says("running", "bad", "none runs on");
}
