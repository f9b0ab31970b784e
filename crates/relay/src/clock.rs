//! The relay's only sense of time of day: Unix seconds, injected, so that expiry can be tested without waiting.
//!
//! What is stored for thirty days must neither go early nor stay for ever because somebody set the machine's clock. So time is what has passed, by a
//! clock that nobody can set, and the machine's clock is asked only how long the machine was off: [`GuardedClock`].
//!
//! Durations between two moments of one process (hand-over, idle, rates) are measured with Tokio's monotonic clock instead.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sabotage::{Rule, broken};

/// Seconds in a day, the unit of expiry.
pub const DAY_SECS: u64 = 86_400;
/// Seconds in a "month", the unit in which a mailbox's last renewal is kept: coarse, so that it does not tell a habit.
pub const MONTH_SECS: u64 = 30 * DAY_SECS;

/// How far the machine's clock may be from the relay's before its operator is told.
const SKEW_SECS: u64 = 600;

/// Where the relay reads the time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since the Unix epoch.
    fn unix_secs(&self) -> u64;

    /// Days since the Unix epoch.
    fn day(&self) -> u32 {
        u32::try_from(self.unix_secs() / DAY_SECS).unwrap_or(u32::MAX)
    }

    /// Months of 30 days since the Unix epoch.
    fn month(&self) -> u32 {
        u32::try_from(self.unix_secs() / MONTH_SECS).unwrap_or(u32::MAX)
    }

    /// What the machine's own clock says: for certificates, whose times are the world's.
    fn wall_secs(&self) -> u64 {
        self.unix_secs()
    }

    /// Makes durable how late it is, so that no later start goes back behind it.
    fn keep(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where time comes from on a machine.
pub trait Source: Send + Sync + 'static {
    /// What its clock says, in Unix seconds. Anybody may set it.
    fn wall_secs(&self) -> u64;

    /// Seconds since the machine has started, those of its sleep included. Nobody can set it.
    fn up_secs(&self) -> u64;

    /// Names this start of the machine; `None` where it has no name.
    fn boot(&self) -> Option<[u8; 16]>;
}

/// The machine that this runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl Source for Machine {
    #[expect(clippy::disallowed_methods, reason = "the one place where the relay reads the machine's clock")]
    fn wall_secs(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn up_secs(&self) -> u64 {
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        u64::try_from(up.tv_sec).unwrap_or(0)
    }

    fn boot(&self) -> Option<[u8; 16]> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
        data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    /// The machine's start that it was in.
    boot: Option<[u8; 16]>,
    /// How long ago that was.
    up_secs: u64,
    /// The relay's time.
    unix_secs: u64,
    /// The latest that the machine's clock can have said truthfully: as it went when the relay started, or ahead of that.
    wall_secs: u64,
}

impl Anchor {
    /// `u8 1 ‖ boot(16; zeros: none) ‖ u64 up ‖ u64 unix ‖ u64 wall`.
    fn to_bytes(self) -> Vec<u8> {
        let [up, unix, wall] = [self.up_secs, self.unix_secs, self.wall_secs].map(u64::to_be_bytes);
        [[1].as_slice(), &self.boot.unwrap_or_default(), &up, &unix, &wall].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (boot, rest) = bytes.strip_prefix(&[1])?.split_first_chunk::<16>()?;
        let (up, rest) = rest.split_first_chunk::<8>()?;
        let (unix, wall) = rest.split_first_chunk::<8>()?;
        let boot = Some(*boot).filter(|boot| *boot != [0; 16]);
        let [up_secs, unix_secs, wall_secs] = [*up, *unix, wall.try_into().ok()?].map(u64::from_be_bytes);
        Some(Self { boot, up_secs, unix_secs, wall_secs })
    }
}

/// Time that passes as it passes, whatever is done to the machine's clock.
///
/// For how long a machine was off, the difference says between what its clock says now and the latest that it can have said before: no more than that
/// has passed. So the relay's time may fall behind the world's, and never runs ahead of what has passed: what is kept for thirty days is kept for
/// thirty days. What nothing here notices is a clock that is ahead when the machine starts, or was behind for as long as it was on before.
#[derive(Debug)]
pub struct GuardedClock<S = Machine> {
    source: S,
    anchor: Anchor,
    file: PathBuf,
    /// The latest that the machine's clock said since its start, as seconds after (or before) the relay's time.
    ahead: AtomicI64,
    is_set: AtomicBool,
}

impl<S: Source> GuardedClock<S> {
    /// With what is known from earlier starts. Nothing is written before [`Clock::keep`]: another relay may have the folder.
    pub fn open(file: &Path, source: S) -> std::io::Result<Self> {
        let (boot, up_secs, wall) = (source.boot(), source.up_secs(), source.wall_secs());
        let known = match std::fs::read(file) {
            Ok(bytes) => Some(Anchor::from_bytes(&bytes).ok_or_else(damaged)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let anchor = match known {
            None => Anchor { boot, up_secs, unix_secs: wall, wall_secs: wall },
            // The machine has been on since: so much has passed.
            Some(known) if known.boot.is_some() && known.boot == boot && up_secs >= known.up_secs => {
                let passed = up_secs - known.up_secs;
                let [unix_secs, wall_secs] = [known.unix_secs, known.wall_secs].map(|secs| secs.saturating_add(passed));
                Anchor { boot, up_secs, unix_secs, wall_secs }
            }
            Some(known) => {
                let off = wall.saturating_sub(known.wall_secs);
                Anchor { boot, up_secs, unix_secs: known.unix_secs.saturating_add(off), wall_secs: wall }
            }
        };
        let ahead = AtomicI64::new(signed(anchor.wall_secs, anchor.unix_secs));
        Ok(Self { source, anchor, file: file.to_owned(), ahead, is_set: AtomicBool::new(false) })
    }

    /// Looks how far the machine's clock is ahead at most; tells the operator when it is set, and when it is set back.
    fn ahead_at(&self, now: u64) -> i64 {
        let ahead = signed(self.source.wall_secs(), now);
        let seconds = ahead - signed(self.anchor.wall_secs, self.anchor.unix_secs);
        let is_set = seconds.unsigned_abs() > SKEW_SECS;
        if is_set != self.is_set.swap(is_set, Ordering::Relaxed) {
            if is_set {
                tracing::error!(seconds, "the machine's clock was set: the relay goes on by the time that has passed");
            } else {
                tracing::info!("the machine's clock goes as it did when the relay started");
            }
        }
        self.ahead.fetch_max(ahead, Ordering::Relaxed).max(ahead)
    }
}

fn signed(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0)
}

fn damaged() -> std::io::Error {
    let words = "the file is damaged. If the machine's clock is right, remove it: what waits may then wait for longer";
    std::io::Error::new(std::io::ErrorKind::InvalidData, words)
}

impl<S: Source> Clock for GuardedClock<S> {
    fn unix_secs(&self) -> u64 {
        if broken(Rule::TimeHasPassed) {
            return self.source.wall_secs();
        }
        self.anchor.unix_secs.saturating_add(self.source.up_secs().saturating_sub(self.anchor.up_secs))
    }

    fn wall_secs(&self) -> u64 {
        self.source.wall_secs()
    }

    fn keep(&self) -> std::io::Result<()> {
        let unix_secs = self.unix_secs();
        let wall_secs = unix_secs.saturating_add_signed(self.ahead_at(unix_secs));
        let up_secs = self.anchor.up_secs + (unix_secs - self.anchor.unix_secs);
        // Under another name first: a crash leaves the old or the new.
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&Anchor { up_secs, unix_secs, wall_secs, ..self.anchor }.to_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        match self.file.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Starts at `unix_secs`.
    #[must_use]
    pub const fn new(unix_secs: u64) -> Self {
        Self(AtomicU64::new(unix_secs))
    }

    /// Moves on by so many seconds.
    pub fn advance(&self, secs: u64) {
        self.0.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_secs(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// A machine whose clock is set by everybody.
    #[derive(Default)]
    struct Told {
        /// Seconds that have really passed since 2026.
        real: AtomicU64,
        /// How far its clock is off.
        off: AtomicI64,
        /// When it was started.
        started: AtomicU64,
        boots: AtomicU64,
    }

    const BEGIN: u64 = 1_767_268_800;

    impl Told {
        fn pass(&self, secs: u64) {
            self.real.fetch_add(secs, Ordering::Relaxed);
        }

        fn real(&self) -> u64 {
            self.real.load(Ordering::Relaxed)
        }
    }

    impl Source for Arc<Told> {
        fn wall_secs(&self) -> u64 {
            (BEGIN + self.real()).saturating_add_signed(self.off.load(Ordering::Relaxed))
        }

        fn up_secs(&self) -> u64 {
            self.real() - self.started.load(Ordering::Relaxed)
        }

        fn boot(&self) -> Option<[u8; 16]> {
            Some([u8::try_from(self.boots.load(Ordering::Relaxed) % 200).unwrap() + 1; 16])
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Hours pass; an envelope comes at their end.
        Hours(u64),
        /// Somebody sets the clock: seconds off the truth.
        Set(i64),
        /// The relay is killed, and starts again after so many hours.
        Restart(u64),
        /// The machine is off for so many hours. Its clock is right when it starts, or behind and an hour later right.
        Reboot(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let month = 31 * DAY_SECS as i64;
        let step = prop_oneof![
            6 => (0..200_u64).prop_map(Step::Hours),
            3 => (-month..=month).prop_map(Step::Set),
            1 => Just(Step::Set(-3_600)),
            1 => (0..300_u64).prop_map(Step::Restart),
            1 => (0..300_u64, prop_oneof![Just(0_u64), 0..40 * DAY_SECS]).prop_map(|(off, behind)| Step::Reboot(off, behind)),
        ];
        proptest::collection::vec(step, 1..60)
    }

    /// How many: of a long run `BULLA_RELAY_ROUNDS`.
    fn histories() -> u32 {
        std::env::var("BULLA_RELAY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
    }

    /// A history held: a long run has a line for each.
    fn told_of() {
        static ROUND: AtomicU64 = AtomicU64::new(0);
        let Some(results) = std::env::var_os("BULLA_RELAY_RESULTS") else { return };
        let first: u64 = std::env::var("BULLA_RELAY_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let round = first + ROUND.fetch_add(1, Ordering::Relaxed);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(results).unwrap();
        writeln!(file, r#"{{"round":{round},"held":true}}"#).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: histories(), ..ProptestConfig::default() })]

        /// SRV-09: whatever is done to the machine's clock, thirty days are thirty days.
        #[test]
        fn srv_09_no_clock_makes_an_envelope_go_early_or_stay_for_ever(history in steps()) {
            // Written down in every step: in memory, where there is a folder for that.
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
            let (file, machine) = (folder.path().join("clock"), Arc::new(Told::default()));
            let open = || {
                let clock = GuardedClock::open(&file, Arc::clone(&machine)).unwrap();
                clock.keep().unwrap();
                clock
            };
            let mut clock = open();
            // Of each envelope: when it really came, its last day, and how long the machine may have been off unnoticed since.
            let mut waiting: Vec<(u64, u32, u64)> = Vec::new();
            let mut latest = clock.unix_secs();
            for step in history {
                match step {
                    Step::Hours(hours) => {
                        // The sweep comes every hour.
                        for _ in 0..hours {
                            machine.pass(3_600);
                            clock.ahead_at(clock.unix_secs());
                            let (today, now) = (clock.day(), machine.real());
                            waiting.retain(|(came, last, off)| {
                                let gone = *last < today;
                                let waits = now - came;
                                assert!(!gone || waits >= 30 * DAY_SECS, "gone after {waits} s");
                                assert!(gone || waits <= 31 * DAY_SECS + 3_600 + off, "still there after {waits} s");
                                !gone
                            });
                        }
                        clock.keep().unwrap();
                        waiting.push((machine.real(), clock.day() + 30, 0));
                    }
                    Step::Set(off) => machine.off.store(off, Ordering::Relaxed),
                    Step::Restart(hours) => {
                        machine.pass(hours * 3_600);
                        clock = open();
                    }
                    Step::Reboot(hours, behind) => {
                        machine.pass(hours * 3_600);
                        machine.boots.fetch_add(1, Ordering::Relaxed);
                        machine.started.store(machine.real(), Ordering::Relaxed);
                        machine.off.store(-i64::try_from(behind).unwrap(), Ordering::Relaxed);
                        clock = open();
                        machine.pass(3_600);
                        machine.off.store(0, Ordering::Relaxed);
                        clock.keep().unwrap();
                        // What a machine does not know of its being off, nobody does.
                        waiting.iter_mut().for_each(|(_, _, off)| *off += hours * 3_600);
                    }
                }
                let now = clock.unix_secs();
                assert!(now >= latest, "it went back");
                latest = now;
            }
            told_of();
        }
    }

    #[test]
    fn a_damaged_file_is_said_to_be_and_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        GuardedClock::open(&file, Machine).unwrap().keep().unwrap();
        let good = std::fs::read(&file).unwrap();
        for bad in [&good[..40], &[], &[2; 41]] {
            std::fs::write(&file, bad).unwrap();
            let error = GuardedClock::open(&file, Machine).unwrap_err();
            assert!(error.to_string().contains("remove it"), "{error}");
        }
    }

    #[test]
    fn the_machine_tells_its_time_its_start_and_how_long_ago_that_was() {
        assert!(Machine.wall_secs() > BEGIN && Machine.up_secs() > 0);
        assert_eq!((Machine.boot(), Machine.boot().is_some()), (Machine.boot(), cfg!(target_os = "linux")));
    }
}
