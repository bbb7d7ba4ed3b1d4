//! `bpfkit usdt`: the places that the authors of programs and libraries marked for tracing.

use std::path::PathBuf;

use bpfkit_loader::MappedFile;
use bpfkit_loader::usdt::{Location, Usdt};
use clap::{ArgGroup, Subcommand};
use serde::Serialize;

use crate::cli::Question;
use crate::error::Chain;
use crate::output::Output;
use crate::{Columns, Error, Escaped, report};

/// Probes that programs and libraries bring along (USDT)
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with them.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// List the probes of a file, or of all files that a process runs code of
    ///
    /// A probe that the compiler copied has a row for each copy. ADDRESS and SEMAPHORE are addresses of the file's own tables,
    /// OFFSET is where the instruction is in the file. An argument is its size in bytes, negative where it is signed, `@`, and
    /// where it is in the notation of the assembler.
    #[command(group = ArgGroup::new("where").required(true))]
    List {
        /// A program or library
        #[arg(group = "where")]
        file: Option<PathBuf>,
        /// List those of this process's program and libraries
        #[arg(short, long, group = "where")]
        pid: Option<u32>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// A probe as JSON has it.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    provider: &'a str,
    name: &'a str,
    address: u64,
    offset: Option<u64>,
    semaphore: Option<Counter>,
    arguments: &'a str,
}

/// A semaphore as JSON has it.
#[derive(Serialize)]
struct Counter {
    address: u64,
    offset: Option<u64>,
}

impl Question for Args {
    fn answer(&self, output: &mut Output) -> Result<(), Error> {
        let Action::List { file, pid, json } = &self.action;
        let found = match (file, pid) {
            (Some(file), _) => vec![(file.display().to_string(), Usdt::of_file(file)?)],
            (None, Some(pid)) => of_process(*pid)?,
            (None, None) => Vec::new(),
        };
        if *json {
            for (file, probe) in found.iter().flat_map(|(file, probes)| probes.iter().map(move |probe| (file, probe))) {
                output.json(&row(file, probe))?;
            }
        } else {
            table(&found, pid.is_some(), output)?;
        }
        output.flush()
    }
}

/// The probes of each file; one that cannot be read is told, and does not keep the others from being listed.
fn of_process(pid: u32) -> Result<Vec<(String, Vec<Usdt>)>, Error> {
    let read = |file: MappedFile| match file.open().and_then(|elf| Usdt::of(&elf, &file.path)) {
        Ok(probes) => Some((file.path.display().to_string(), probes)),
        Err(error) => {
            report::say(Escaped(Chain(&Error::from(error)).to_string().as_bytes()));
            None
        }
    };
    let files = MappedFile::of(pid, |_| true)?;
    if files.is_empty() {
        return Err(Error::Request(format!("process {pid} is not there, or runs no file")));
    }
    Ok(files.into_iter().filter_map(read).collect())
}

fn row<'a>(file: &'a str, probe: &'a Usdt) -> Row<'a> {
    Row {
        file,
        provider: &probe.provider,
        name: &probe.name,
        address: probe.location.address,
        offset: probe.location.offset,
        semaphore: probe.semaphore.map(|Location { address, offset }| Counter { address, offset }),
        arguments: &probe.arguments,
    }
}

/// Prints a table whose columns are as wide as they must be; with the files where there may be several.
fn table(found: &[(String, Vec<Usdt>)], with_files: bool, output: &mut Output) -> Result<(), Error> {
    const TITLES: [&str; 7] = ["FILE", "PROVIDER", "NAME", "ADDRESS", "OFFSET", "SEMAPHORE", "ARGUMENTS"];
    let text = |text: &str| Escaped(text.as_bytes()).to_string();
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| format!("{number:#x}"));
    let cells = |file: &str, probe: &Usdt| {
        let Location { address, offset } = probe.location;
        let semaphore = probe.semaphore.map(|location| location.address);
        let strings = [&probe.provider, &probe.name, &probe.arguments].map(|string| text(string));
        let [provider, name, arguments] = strings;
        [text(file), provider, name, number(Some(address)), number(offset), number(semaphore), arguments]
    };
    let first = usize::from(!with_files);
    let rows: Vec<[String; 7]> =
        found.iter().flat_map(|(file, probes)| probes.iter().map(|probe| cells(file, probe))).collect();
    let mut columns = TITLES.map(|title| (title, title.len()));
    for cells in &rows {
        for ((_, width), cell) in columns.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut columns = Columns::new(columns.into_iter().skip(first));
    if rows.is_empty() {
        let files: Vec<String> = found.iter().map(|(file, _)| text(file)).collect();
        report::say(format_args!("no probes in {}", files.join(", ")));
        return Ok(());
    }
    output.line(columns.header().trim_end())?;
    for cells in &rows {
        output.line(columns.row(&cells[first..]).trim_end())?;
    }
    Ok(())
}
