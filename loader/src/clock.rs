//! The clock of samples.

use crate::sys::process;

/// Nanoseconds of CLOCK_MONOTONIC, which samples carry.
pub fn now() -> u64 {
    process::monotonic()
}

/// What makes nanoseconds since 1970 of those, as of now.
pub fn realtime_offset() -> i128 {
    i128::from(process::realtime()) - i128::from(process::monotonic())
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    process::realtime()
}

/// Nanoseconds since the machine was started, with those that it slept: the clock of when programs were loaded.
pub fn boottime() -> u64 {
    process::boottime()
}

/// Hours, minutes and seconds of the day where this machine is, at so many seconds since 1970.
pub fn time_of_day(since_1970: u64) -> (u32, u32, u32) {
    process::time_of_day(since_1970)
}
