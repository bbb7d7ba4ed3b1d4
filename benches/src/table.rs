//! Rows of a table in Markdown, printed as they come.

use std::fmt::Display;

/// A table whose head was printed.
#[derive(Debug)]
pub struct Table(());

/// What was measured of one program, a value for each run.
#[derive(Clone, Debug, Default)]
pub struct Values(pub Vec<f64>);

impl Values {
    /// The one in the middle; an average would be that of what else the machine does.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Table {
    /// Prints the head.
    pub fn begin() -> Self {
        println!("| what | bpfkit | peer | | ratio |\n|---|---|---|---|---|");
        Self(())
    }

    /// Goes on with a table whose head another program has printed.
    pub fn resume() -> Self {
        Self(())
    }

    /// Prints a row: the ratio is that of the medians.
    pub fn row(&mut self, what: &str, unit: &str, ours: &Values, peer: &str, theirs: &Values) {
        let (ours, theirs) = (ours.median(), theirs.median());
        let (a, b) = (round(ours), round(theirs));
        // Of nothing, as of losses that there are none of, there is no ratio.
        let ratio = if theirs == 0.0 { "-".to_owned() } else { format!("{:.2}", ours / theirs) };
        println!("| {what} | {a} {unit} | {b} {unit} | {peer} | {ratio} |");
    }

    /// Prints what could not be compared, and why.
    pub fn skipped(&mut self, what: &str, why: impl Display) {
        let why = why.to_string().replace('\n', "; ").replace('|', "\\|");
        println!("| {what} | | | skipped: {why} | |");
    }

    /// Prints a row that was made elsewhere.
    pub fn copied(&mut self, row: &str) {
        println!("{row}");
    }
}

/// With three digits.
fn round(value: f64) -> String {
    let digits = match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_slow_run() {
        assert!((Values(vec![3.0, 900.0, 2.0]).median() - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.152, 15.23, 152.3].map(round), ["0.15", "15.2", "152"]);
    }
}
