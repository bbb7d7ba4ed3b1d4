//! The time of day in UTC, as results give it, and how fast the processor counts time.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::guest::sys::time_stamp;

/// For how long counting is watched.
const SPAN: Duration = Duration::from_millis(50);
/// How often the clock and the counter are read, for once that nothing comes between them.
const READS: usize = 32;

/// How often the processor's time-stamp counter counts in a millisecond; none where it has none.
pub fn tsc_khz() -> Option<u64> {
    let (begin, first) = both()?;
    sleep(SPAN);
    let (end, last) = both()?;
    let nanos = end.duration_since(begin).as_nanos();
    let khz = u128::from(last.checked_sub(first)?) * 1_000_000 / nanos.max(1);
    u64::try_from(khz).ok().filter(|&khz| khz != 0)
}

/// The clock and the counter at one time.
fn both() -> Option<(Instant, u64)> {
    let read = || {
        let before = Instant::now();
        let ticks = time_stamp()?;
        Some((before.elapsed(), before, ticks))
    };
    let (_, clock, ticks) = (0..READS).filter_map(|_| read()).min_by_key(|&(between, ..)| between)?;
    Some((clock, ticks))
}

/// `2026-01-31T12:00:00Z`; times before 1970 are taken for its beginning.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, seconds) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let day = days + 1;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_counter_counts_as_fast_each_time() {
        let [one, two] = [tsc_khz(), tsc_khz()].map(|khz| khz.expect("x86-64 has a counter"));
        assert!(one.abs_diff(two) < one / 100, "{one} and {two}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        // From `date -u -d @N +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
