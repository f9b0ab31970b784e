//! The browser's clock.

use bulla_client::clock::Clock;

/// `Date.now()`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrowserClock;

impl Clock for BrowserClock {
    fn now_ms(&self) -> u64 {
        // Whole milliseconds; a clock before 1970 is one at 1970.
        js_sys::Date::now().max(0.0) as u64
    }
}
