//! The relay's only sense of time of day: Unix seconds, injected, so that expiry can be tested without waiting.
//!
//! Durations between two moments of one process (hand-over, idle, rates) are measured with Tokio's monotonic clock instead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds in a day, the unit of expiry.
pub const DAY_SECS: u64 = 86_400;
/// Seconds in a "month", the unit in which a mailbox's last renewal is kept: coarse, so that it does not tell a habit.
pub const MONTH_SECS: u64 = 30 * DAY_SECS;

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
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the relay reads the machine's clock")]
    fn unix_secs(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
