//! What a measured section took: time, processor time of the program that is measured and of this one, and how much of the machine
//! others used meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::process::{Stat, children};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A tick of `/proc`, as Linux shows it to programs on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Processor time that the calling thread has used.
pub(crate) fn thread_time() -> Duration {
    since_zero(ClockId::ThreadCPUTime)
}

/// Processor time that this process has used.
fn process_time() -> Duration {
    since_zero(ClockId::ProcessCPUTime)
}

fn since_zero(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of another process and its children. The scheduler counts nanoseconds per thread, but forgets threads that have ended;
/// the process's sum forgets nothing, but comes in ticks.
#[derive(Debug)]
struct Usage {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
    /// Of children that have ended.
    waited: u64,
}

impl Usage {
    fn read(pid: u32) -> Result<Self> {
        let mut usage = Self { threads: BTreeMap::new(), ticks: 0, waited: 0 };
        usage.add(pid).context("the measured program has ended")?;
        for (child, _) in family(pid) {
            // One that has ended meanwhile is among those that were waited for.
            usage.add(child).ok();
        }
        Ok(usage)
    }

    fn add(&mut self, pid: u32) -> Result<()> {
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let Some(tid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // Absent where the kernel keeps no such statistics: then the ticks count.
            let Ok(text) = std::fs::read_to_string(path.join("schedstat")) else { continue };
            if let Some(nanos) = text.split_whitespace().next().and_then(|first| first.parse().ok()) {
                self.threads.insert(tid, nanos);
            }
        }
        let stat = Stat::read(pid).context("ended")?;
        self.ticks += stat.ticks;
        self.waited += stat.waited;
        Ok(())
    }

    fn since(&self, before: &Self) -> Duration {
        let none_ended = before.threads.keys().all(|tid| self.threads.contains_key(tid));
        let waited = self.waited.saturating_sub(before.waited);
        if none_ended && !self.threads.is_empty() {
            let used = self.threads.iter().map(|(tid, nanos)| nanos - before.threads.get(tid).copied().unwrap_or(0));
            Duration::from_nanos(used.sum()) + ticks(waited)
        } else {
            ticks(self.ticks.saturating_sub(before.ticks) + waited)
        }
    }
}

/// The living children of a process, theirs, and so on.
fn family(of: u32) -> Vec<(u32, String)> {
    let mut all = children(of);
    let mut next = 0;
    while let Some((pid, _)) = all.get(next) {
        all.extend(children(*pid));
        next += 1;
    }
    all
}

/// Resident memory of a process and its children, bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let of = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let own = of(pid).context("the measured program has ended")?;
    Ok(own + family(pid).iter().filter_map(|(child, _)| of(*child)).sum::<u64>())
}

/// A limit of 1,024 open files is usual, and everybody may raise it; children inherit it.
pub(crate) fn raise_files(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let maximum = limit.maximum.unwrap_or(u64::MAX);
        ensure!(maximum >= needed, "{needed} open files are needed, {maximum} are allowed (ulimit -Hn)");
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    }
    Ok(())
}

fn ticks(count: u64) -> Duration {
    TICK * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Ticks in which some processor of the machine worked, for whomever.
fn busy_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    // cpu user nice system idle iowait irq softirq steal
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum())
}

/// Ticks that this process and everything that it started, and that still runs, have used.
fn own_ticks() -> Result<u64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(stat) = Stat::read(pid) {
            all.insert(pid, stat);
        }
    }
    let own = std::process::id();
    let is_ours = |pid: u32| {
        let up = std::iter::successors(Some(pid), |at| all.get(at).map(|stat| stat.parent));
        up.take_while(|at| *at != 0).any(|at| at == own)
    };
    Ok(all.iter().filter(|(pid, _)| is_ours(**pid)).map(|(_, stat)| stat.ticks).sum())
}

/// A section that has begun.
#[derive(Debug)]
pub(crate) struct Meter {
    busy: u64,
    ours: u64,
    watched: Option<(u32, Usage)>,
    driver: Duration,
    began: Instant,
}

/// What a section took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// On the clock on the wall.
    pub(crate) wall: Duration,
    /// Processor time of the watched program; zero without one.
    pub(crate) watched: Duration,
    /// Processor time of this process.
    pub(crate) driver: Duration,
    /// Processor time of everybody else on the machine.
    pub(crate) foreign: Duration,
}

impl Meter {
    /// Begins; `watch` is the process whose processor time is asked for.
    pub(crate) fn begin(watch: Option<u32>) -> Result<Self> {
        let watched = watch.map(|pid| Usage::read(pid).map(|usage| (pid, usage))).transpose()?;
        let (busy, ours) = (busy_ticks()?, own_ticks()?);
        Ok(Self { busy, ours, watched, driver: process_time(), began: Instant::now() })
    }

    /// Ends.
    pub(crate) fn end(self) -> Result<Taken> {
        let (wall, driver) = (self.began.elapsed(), process_time().saturating_sub(self.driver));
        let watched = match &self.watched {
            Some((pid, before)) => Usage::read(*pid)?.since(before),
            None => Duration::ZERO,
        };
        let (busy, ours) = (busy_ticks()?, own_ticks()?);
        let foreign = ticks(busy.saturating_sub(self.busy).saturating_sub(ours.saturating_sub(self.ours)));
        Ok(Taken { wall, watched, driver, foreign })
    }
}

impl Taken {
    /// Messages per second.
    pub(crate) fn rate(&self, messages: u64) -> f64 {
        messages as f64 / self.wall.as_secs_f64()
    }
}

/// Microseconds per message.
pub(crate) fn micros_each(time: Duration, messages: u64) -> f64 {
    time.as_secs_f64() * 1e6 / messages as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_nanoseconds_count_unless_a_thread_has_ended() {
        let usage =
            |threads: &[(u32, u64)], ticks| Usage { threads: threads.iter().copied().collect(), ticks, waited: 0 };
        let before = usage(&[(1, 1_000), (2, 5_000)], 10);
        let grown = usage(&[(1, 1_500), (2, 5_000), (3, 70)], 11);
        assert_eq!(grown.since(&before), Duration::from_nanos(570));
        assert_eq!(usage(&[(1, 1_500)], 13).since(&before), Duration::from_millis(30), "thread 2 has ended");
        assert_eq!(usage(&[], 12).since(&usage(&[], 10)), Duration::from_millis(20), "a kernel without schedstat");
        let forked = Usage { waited: 2, ..usage(&[(1, 1_000), (2, 5_000)], 10) };
        assert_eq!(forked.since(&before), Duration::from_millis(20), "a child came and went");
    }

    #[test]
    fn this_process_is_seen_at_work() {
        let meter = Meter::begin(Some(std::process::id())).unwrap();
        let began = thread_time();
        while thread_time() - began < Duration::from_millis(30) {}
        let taken = meter.end().unwrap();
        let least = Duration::from_millis(29);
        assert!(taken.watched >= least && taken.driver >= least && taken.wall >= least, "{taken:?}");
    }
}
