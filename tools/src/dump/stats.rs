//! `bpfkit dump --id N --stats`: how often programs run, and how long that takes.

use std::time::{Duration, Instant};

use bpfkit_loader::{LoadedProg, RunStats, Runs, Target};
use serde::Serialize;

use super::Format;
use crate::output::Output;
use crate::session::Session;
use crate::{Columns, Error};

/// How often a row is printed.
const INTERVAL: Duration = Duration::from_secs(1);

/// A program while it is watched.
struct Watched<'a> {
    prog: &'a LoadedProg,
    id: u32,
    name: String,
    /// What was counted before.
    start: Runs,
    /// What had been counted at the last row.
    last: Runs,
}

/// A program in an interval, and since it is watched.
#[derive(Serialize)]
struct Row<'a> {
    id: u32,
    name: &'a str,
    /// How long the interval was.
    seconds: f64,
    runs: u64,
    run_time_ns: u64,
    average_ns: Option<u64>,
    total_runs: u64,
    total_run_time_ns: u64,
    total_average_ns: Option<u64>,
}

/// Prints a row for each program and second, until it is time to stop.
///
/// # Errors
/// A kernel that cannot count, want of privilege; what cannot be printed.
pub fn watch(
    programs: &[LoadedProg],
    duration: Option<Duration>,
    format: Format,
    output: &mut Output,
) -> Result<(), Error> {
    let mut session = Session::new()?;
    let stats = RunStats::enable(&Target::running()?)?;
    let mut watched = programs.iter().map(Watched::new).collect::<Result<Vec<_>, _>>()?;
    let titles = [("ID", 5), ("NAME", 16), ("RUNS/s", 9), ("NS/RUN", 7), ("CPU%", 6), ("TOTAL", 9), ("NS/RUN", 7)];
    let mut columns = Columns::new(titles);
    if format == Format::Text {
        output.line(columns.header())?;
    }
    let mut before = Instant::now();
    session.ticks(Some(INTERVAL), duration, output, |output| {
        let seconds = before.elapsed().as_secs_f64();
        before = Instant::now();
        for program in &mut watched {
            let row = program.row(seconds)?;
            match format {
                Format::Json => output.json(&row)?,
                _ => output.line(columns.row(&row.cells()))?,
            }
        }
        Ok(())
    })?;
    drop(stats);
    Ok(())
}

impl<'a> Watched<'a> {
    fn new(prog: &'a LoadedProg) -> Result<Self, Error> {
        let info = prog.info()?;
        let runs = runs(&info)?;
        Ok(Self { prog, id: info.id, name: info.name, start: runs, last: runs })
    }

    /// What was counted since the last row, and in all.
    fn row(&mut self, seconds: f64) -> Result<Row<'_>, Error> {
        let now = runs(&self.prog.info()?)?;
        let (step, total) = (now.since(self.last), now.since(self.start));
        self.last = now;
        Ok(Row {
            id: self.id,
            name: &self.name,
            seconds,
            runs: step.count,
            run_time_ns: step.time_ns,
            average_ns: step.average_ns(),
            total_runs: total.count,
            total_run_time_ns: total.time_ns,
            total_average_ns: total.average_ns(),
        })
    }
}

fn runs(info: &bpfkit_loader::ProgInfo) -> Result<Runs, Error> {
    info.runs.as_ref().copied().map_err(|hidden| Error::Request(format!("no runs are counted: {hidden}")))
}

impl Row<'_> {
    fn cells(&self) -> [String; 7] {
        let average = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| ns.to_string());
        #[allow(clippy::cast_precision_loss)] // a share of a second
        let share = self.run_time_ns as f64 / (self.seconds * 1e9);
        #[allow(clippy::cast_precision_loss)]
        let rate = self.runs as f64 / self.seconds;
        [
            self.id.to_string(),
            self.name.to_owned(),
            format!("{rate:.0}"),
            average(self.average_ns),
            format!("{:.2}", share * 100.0),
            self.total_runs.to_string(),
            average(self.total_average_ns),
        ]
    }
}
