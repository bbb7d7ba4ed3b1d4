//! The time of a row, in the ways that rows show it.

use std::time::Duration;

use bpfkit_loader::clock;

/// Turns the time of samples into what is shown.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// What makes nanoseconds since 1970 of the samples' clock.
    to_realtime: i128,
    /// When the first row was, of the samples' clock.
    first: Option<u64>,
}

impl Stamps {
    /// Begins.
    pub fn new() -> Self {
        Self { to_realtime: clock::realtime_offset(), first: None }
    }

    /// Nanoseconds since 1970.
    pub fn since_1970(&self, time: u64) -> u64 {
        u64::try_from(i128::from(time) + self.to_realtime).unwrap_or_default()
    }

    /// Seconds since the first row that this was asked for.
    pub fn since_first(&mut self, time: u64) -> f64 {
        let first = *self.first.get_or_insert(time);
        Duration::from_nanos(time.saturating_sub(first)).as_secs_f64()
    }

    /// The time of day where this machine is, `HH:MM:SS`.
    pub fn time_of_day(&self, time: u64) -> String {
        let (hours, minutes, seconds) = clock::time_of_day(self.since_1970(time) / 1_000_000_000);
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_is_at_zero() {
        let mut stamps = Stamps::new();
        assert!(stamps.since_first(5_000_000_000).abs() < f64::EPSILON);
        assert!((stamps.since_first(6_500_000_000) - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_time_of_day_has_eight_characters() {
        let stamps = Stamps { to_realtime: 0, first: None };
        let text = stamps.time_of_day(1_000_000_000_000_000_000);
        // 2001-09-09 01:46:40 UTC, and minutes and seconds are the same almost everywhere.
        assert!(text.len() == 8 && text.ends_with(":40"), "{text}");
    }
}
