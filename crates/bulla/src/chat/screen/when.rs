//! Times as people read them, in the machine's zone. What the time is comes from outside.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// How far a sender's clock is believed backwards: what the relay keeps, and a day.
const OLDEST_MS: u64 = 31 * 24 * 3_600_000;

/// A moment on the wall clock.
pub(super) fn local(ms: u64, zone: &TimeZone) -> DateTime {
    let moment = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    zone.to_datetime(moment.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// When a message was written: what its sender says, as far as that can be.
pub(super) fn written(sent_ms: u64, stored_ms: u64) -> u64 {
    sent_ms.clamp(stored_ms.saturating_sub(OLDEST_MS), stored_ms)
}

/// A day's name.
pub(super) fn day(date: Date, today: Date) -> String {
    if date == today {
        return "Today".to_owned();
    }
    if date.tomorrow().is_ok_and(|next| next == today) {
        return "Yesterday".to_owned();
    }
    let shape = if date.year() == today.year() { "%A %-d %B" } else { "%A %-d %B %Y" };
    date.strftime(shape).to_string()
}

/// A time under the name of a day; with its date if that is another one.
pub(super) fn time(at: DateTime, under: Date) -> String {
    at.strftime(if at.date() == under { "%H:%M" } else { "%-d %b %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn days_have_the_names_that_people_use() {
        let today = Date::constant(2025, 3, 1);
        assert_eq!(day(today, today), "Today");
        assert_eq!(day(Date::constant(2025, 2, 28), today), "Yesterday");
        assert_eq!(day(Date::constant(2025, 2, 24), today), "Monday 24 February");
        assert_eq!(day(Date::constant(2024, 12, 31), today), "Tuesday 31 December 2024");
        // Somebody's clock is ahead.
        assert_eq!(day(Date::constant(2025, 3, 2), today), "Sunday 2 March");
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = local(1_740_783_600_000, &zone);
        assert_eq!(time(at, Date::constant(2025, 3, 1)), "01:00");
        assert_eq!(time(at, Date::constant(2025, 2, 28)), "1 Mar 01:00");
        assert_eq!(local(u64::MAX, &TimeZone::UTC).date(), Date::constant(1970, 1, 1));
    }

    #[test]
    fn a_senders_clock_is_believed_within_reason() {
        let stored = 1_000 * HOUR;
        assert_eq!(written(stored - HOUR, stored), stored - HOUR);
        assert_eq!(written(stored + HOUR, stored), stored);
        assert_eq!(written(0, stored), stored - OLDEST_MS);
    }
}
