//! `bulla-relay check`: what would go wrong with these settings on this machine, before it does; one line each, with
//! what to do.
//!
//! It changes nothing but for a small file that it writes and removes, and it opens a store only for the user whose
//! it is: what another user's program left in it, the relay could not write to.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bulla_relay::clock::{DAY_SECS, Source as _};
use bulla_relay::server::open_store;
use bulla_relay::{Clock as _, GuardedClock, Machine, RelayError, socket};
use rustix::fs::Access;
use serde::Serialize;

use crate::settings::Settings;

/// Below this no store is in its senses: a journal alone takes 64 MiB.
const LEAST_FREE: u64 = 256 << 20;

/// A certificate with less time left was not renewed when it should have been.
const DAYS_LEFT: u64 = 14;

/// How far the machine's clock and the relay's may be apart: the relay itself speaks of it from here on.
const SKEW_SECS: u64 = 600;

/// 2026 and 2100: no machine on which this runs is outside of it.
const TIMES: std::ops::Range<u64> = 1_767_225_600..4_102_444_800;

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Good,
    Warn,
    Bad,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) says: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.state {
            State::Good => '✓',
            State::Warn => '!',
            State::Bad => '✗',
        };
        write!(f, "{sign} {:<12} {}", self.check, self.says)
    }
}

type Judged = (State, String);

fn good(says: impl Into<String>) -> Judged {
    (State::Good, says.into())
}

fn warn(says: impl Into<String>) -> Judged {
    (State::Warn, says.into())
}

fn bad(says: impl Into<String>) -> Judged {
    (State::Bad, says.into())
}

/// What was found about settings that could not be read.
pub(crate) fn unreadable(error: &crate::settings::SettingsError) -> Vec<Finding> {
    vec![Finding { check: "settings", state: State::Bad, says: error.to_string() }]
}

/// Whether the relay that runs on a folder is well.
pub(crate) fn running(data: &Path) -> Vec<Finding> {
    let (state, says) = match socket::health(data) {
        Some(Ok(())) => good("it accepts and stores"),
        Some(Err(why)) => bad(why),
        None => bad(format!("none runs on {}, or this user may not ask it", data.display())),
    };
    vec![Finding { check: "running", state, says }]
}

/// Looks at everything.
pub(crate) fn all(settings: &Settings, file: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |check, (state, says): Judged| {
        findings.push(Finding { check, state, says });
        state
    };
    found("settings", good(file.map_or("no file is named".to_owned(), |file| file.display().to_string())));
    let data = &settings.data;
    let running = socket::health(data);
    let usable = found("folder", folder(data)) != State::Bad && data.is_dir();
    let place = nearest(data);
    if usable {
        found("writes", writes(data));
    }
    found("space", free(&place, (settings.blob_mib.saturating_add(settings.slots_mib)).saturating_mul(1 << 20)));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found("file system", file_system(&mounts, &place));
    if usable {
        found("store", store(data, running.as_ref()));
        if let Some(judged) = keys(data) {
            found("keys", judged);
        }
    }
    found("clock", clock(&data.join("clock")));
    found("certificate", certificate(settings));
    for (check, addr) in [("listen", Some(settings.listen)), ("metrics", settings.metrics)] {
        if let Some(addr) = addr {
            found(
                check,
                if running.is_some() { good(format!("{addr} has the relay that runs")) } else { listen(addr) },
            );
        }
    }
    findings
}

/// The folder, or what is there of the way to it.
fn nearest(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn may_write(folder: &Path) -> Result<(), std::io::Error> {
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into)
}

fn is_ours(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|data| data.uid() == rustix::process::geteuid().as_raw())
}

fn folder(data: &Path) -> Judged {
    let named = data.display();
    match std::fs::metadata(data) {
        Ok(found) if !found.is_dir() => bad(format!("{named} is a file: choose another folder (data)")),
        Ok(found) => match may_write(data) {
            Err(error) => bad(format!("{named}: {error}. Give it to the user who runs the relay")),
            Ok(()) if !is_ours(data) => warn(format!(
                "{named} belongs to another user: run this as the one who runs the relay, to look at all of it"
            )),
            Ok(()) if found.mode() & 0o077 != 0 => warn(format!("others can look into {named}: chmod 700 {named}")),
            Ok(()) => good(format!("{named}")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let place = nearest(data);
            match may_write(&place) {
                Ok(()) => good(format!("{named} is made at the first start")),
                Err(error) => bad(format!("{named} cannot be made in {}: {error}", place.display())),
            }
        }
        Err(error) => bad(format!("{named}: {error}. Choose another folder (data), or mend its permissions")),
    }
}

fn writes(data: &Path) -> Judged {
    if !is_ours(data) {
        return warn("not tried: the folder is another user's");
    }
    let (file, begun) = (data.join(".check"), Instant::now());
    let tried = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut opened| opened.write_all(&[7; 4_096]).and_then(|()| opened.sync_all()));
    let passed = begun.elapsed();
    let removed = std::fs::remove_file(&file);
    match tried.and(removed) {
        Ok(()) => good(format!("4 KiB were on the disk after {:.1} ms", passed.as_secs_f64() * 1_000.0)),
        Err(error) => bad(format!("what is written does not get to the disk: {error}. Choose another folder (data)")),
    }
}

fn free(place: &Path, room: u64) -> Judged {
    match rustix::fs::statvfs(place) {
        Ok(found) => space(found.f_bavail.saturating_mul(found.f_frsize), room),
        Err(error) => bad(format!("how much room there is cannot be told: {error}")),
    }
}

fn space(free: u64, room: u64) -> Judged {
    let mib = free >> 20;
    if free < LEAST_FREE {
        bad(format!("{mib} MiB are free: make room, or choose another disk (data)"))
    } else if free < room {
        warn(format!("{mib} MiB are free, less than attachments and slots may take: lower blob_mib and slots_mib"))
    } else {
        good(format!("{mib} MiB are free"))
    }
}

/// The type of the file system on which a place is, by the kernel's list of mounts.
fn file_system(mounts: &str, place: &Path) -> Judged {
    let place = std::fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        // Blanks in it are written as \040; a folder with one is found through what it lies in.
        Some((mount.split(' ').nth(4)?, kind.split(' ').next()?))
    });
    // Of those at one place the last is on top.
    let on = mounted.filter(|(at, _)| place.starts_with(at)).max_by_key(|(at, _)| at.len());
    match on.map(|(_, kind)| kind) {
        Some(kind @ ("proc" | "sysfs" | "devtmpfs" | "cgroup2")) => {
            bad(format!("{kind}: it holds no files: choose another folder (data)"))
        }
        Some(kind @ ("tmpfs" | "ramfs")) => warn(format!("{kind}: everything is gone when the machine stops")),
        Some(kind @ ("nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph")) => warn(format!(
            "{kind}: what a network's file system says of locks and of syncing is not relied on: take a local disk"
        )),
        Some(kind) if kind.starts_with("fuse") => {
            warn(format!("{kind}: whether it syncs is not known: take a local disk"))
        }
        Some(kind @ ("btrfs" | "zfs" | "bcachefs" | "overlay" | "f2fs" | "nilfs2")) => {
            warn(format!("{kind}: it may keep a key that was overwritten for a while: ext4 or XFS do not"))
        }
        Some(kind) => good(kind),
        None => warn("not known"),
    }
}

fn store(data: &Path, running: Option<&Result<(), String>>) -> Judged {
    match running {
        Some(Ok(())) => return good("a relay runs on it, and is well"),
        Some(Err(why)) => return bad(format!("the relay that runs on it is not well: {why}")),
        None => {}
    }
    if !data.join("store").exists() {
        return good("it is made at the first start");
    }
    if !is_ours(data) {
        return warn("not opened: the folder is another user's");
    }
    match open_store(data, Box::new(rand_core::OsRng)) {
        Ok(_) => good("it opens"),
        Err(RelayError::Locked(_)) => warn("a relay runs on it and does not answer: see its log"),
        Err(error) => bad(format!("{error}. Check the disk; with a backup, restore it into another folder")),
    }
}

fn keys(data: &Path) -> Option<Judged> {
    let (file, store) = (data.join("keys"), data.join("store"));
    match std::fs::metadata(&file) {
        Ok(found) if found.mode() & 0o077 != 0 => {
            let named = file.display();
            Some(bad(format!("others can read what waits with {named}: chmod 600 {named}")))
        }
        Ok(_) => Some(good("there, for its owner alone; keep it out of backups")),
        Err(_) if store.exists() => Some(warn("there is no file of keys: what waited in the store opens for nobody")),
        Err(_) => None,
    }
}

fn clock(file: &Path) -> Judged {
    let wall = Machine.wall_secs();
    if !TIMES.contains(&wall) {
        return bad(format!("the machine's clock says {wall} seconds since 1970: set it right (NTP)"));
    }
    let relay = match GuardedClock::open(file, Machine) {
        Ok(clock) => clock.unix_secs(),
        Err(error) => return bad(format!("{}: {error}", file.display())),
    };
    let apart = wall.abs_diff(relay);
    let side = if relay > wall { "ahead of" } else { "behind" };
    if !TIMES.contains(&relay) {
        bad(format!(
            "the relay's time is {relay} seconds since 1970: if the machine's clock is right, remove {}",
            file.display()
        ))
    } else if apart > SKEW_SECS {
        warn(format!(
            "the relay's time is {} minutes {side} the machine's clock: permits go by the relay's",
            apart / 60
        ))
    } else {
        good("right, as far as the machine knows")
    }
}

fn certificate(settings: &Settings) -> Judged {
    let source = match settings.tls() {
        Ok(Some(source)) => source,
        Ok(None) if settings.listen.ip().is_loopback() => return good("none: it listens on loopback, in plain"),
        Ok(None) => return warn("none, and not on loopback: give it one (tls), or put a reverse proxy before it"),
        Err(error) => return bad(error.to_string()),
    };
    let now = Machine.wall_secs();
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return bad(error.to_string()),
    };
    let seen = match runtime.block_on(source.look(now)) {
        Ok(Some(seen)) => seen,
        Ok(None) => {
            return warn("none yet: it is ordered at the start, for which port 443 of its names must lead here");
        }
        Err(error) => return bad(error.to_string()),
    };
    let days = seen.ends.saturating_sub(now) / DAY_SECS;
    let (name, names) = (settings.name.as_str(), seen.names.join(", "));
    if seen.begins > now {
        bad("it is not valid yet: is the machine's clock right?")
    } else if !seen.names.iter().any(|known| is_for(known, name)) {
        warn(format!("it is for {names}, and not for the relay's name {name}: clients connect to one of the former"))
    } else if days < DAYS_LEFT {
        warn(format!("for {names}, {days} days left: it should have been renewed"))
    } else {
        good(format!("for {names}, {days} days left"))
    }
}

fn is_for(known: &str, name: &str) -> bool {
    let below = known.strip_prefix("*.").zip(name.split_once('.'));
    known == name || below.is_some_and(|(domain, (_, rest))| domain == rest)
}

fn listen(addr: SocketAddr) -> Judged {
    match TcpListener::bind(addr) {
        Ok(_) => good(format!("{addr} is free")),
        Err(error) => bad(format!("{addr}: {error}. Choose another address, or stop what has it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_what_may_be_stored() {
        assert_eq!(space(255 << 20, 0).0, State::Bad);
        assert_eq!(space(LEAST_FREE - 1, 0).0, State::Bad);
        assert_eq!(space(LEAST_FREE, LEAST_FREE).0, State::Good);
        assert_eq!(space(LEAST_FREE, LEAST_FREE + 1).0, State::Warn);
    }

    #[test]
    fn the_file_system_is_the_one_that_is_mounted_nearest() {
        let mounts = "\
            22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            30 22 0:26 / /srv rw - btrfs /dev/vdb rw\n\
            31 30 0:27 / /srv/relay rw master:2 - tmpfs none rw\n\
            32 22 0:28 / /net rw - nfs4 host:/ rw\n\
            33 22 0:29 / /far rw - fuse.sshfs host:/ rw\n";
        let judged = |place: &str| file_system(mounts, Path::new(place));
        assert_eq!(judged("/srvother"), good("ext4"));
        for (place, kind) in
            [("/srv/x", "btrfs"), ("/srv/relay/x", "tmpfs"), ("/net/x", "nfs4"), ("/far", "fuse.sshfs")]
        {
            let (state, says) = judged(place);
            assert!(state == State::Warn && says.starts_with(kind), "{place}: {says}");
        }
        assert_eq!(file_system("", Path::new("/")).0, State::Warn);
    }

    #[test]
    fn a_certificate_is_for_its_names_and_those_one_step_below() {
        assert!(is_for("relay.example", "relay.example") && is_for("*.example", "relay.example"));
        assert!(!is_for("*.example", "a.relay.example") && !is_for("*.example", "example"));
        assert!(!is_for("relay.example", "other.example"));
    }
}
