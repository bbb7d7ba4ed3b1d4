//! The listing for people.

use bpfkit_asm::{Helper, Source};

use super::listing::{Listing, MapUse, Row, hex};
use super::loaded::Loaded;
use super::machine::Machine;
use super::made::Made;
use super::states;
use crate::Error;
use crate::escape::Quoted;
use crate::output::Output;

/// Prints a program.
///
/// # Errors
/// As [`Output::line`].
pub fn print(listing: &Listing, output: &mut Output) -> Result<(), Error> {
    head(listing, listing.slots(), output)?;
    if let Some(opinion) = &listing.opinion {
        states::about(opinion).iter().try_for_each(|line| output.line(&format!("// {line}")))?;
        if !opinion.path.is_empty() {
            return states::path(listing, opinion, output);
        }
    }
    let mut last = None;
    for row in &listing.rows {
        print_row(listing, row, last, output)?;
        last = Some(row);
    }
    output.line("")
}

/// Prints a program that was made for a kernel, with its rows made one after the other.
pub(super) fn print_made(made: Made<'_>, output: &mut Output) -> Result<(), Error> {
    head(made.head, made.slots(), output)?;
    let mut last = None;
    for row in made.rows() {
        print_row(made.head, &row, last.as_ref(), output)?;
        last = Some(row);
    }
    output.line("")
}

/// What is said of a program of so many slots before its rows.
fn head(listing: &Listing, slots: usize, output: &mut Output) -> Result<(), Error> {
    let Listing { name, kind, attach, license, .. } = listing;
    let plural = if slots == 1 { "" } else { "s" };
    output.line(&format!("// {name}: {attach}; type {kind}, licence {license}, {slots} slot{plural}"))?;
    for line in listing.loaded.iter().flat_map(Loaded::lines) {
        output.line(&format!("// {line}"))?;
    }
    for MapUse { name, id, kind, key_size, value_size, max_entries } in &listing.maps {
        let id = id.map_or(String::new(), |id| format!(" (id {id})"));
        let most = if *max_entries == 0 { "one for each CPU".to_owned() } else { format!("at most {max_entries}") };
        output.line(&format!("// map {name}{id}: {kind}, key {key_size} bytes, value {value_size} bytes, {most}"))?;
    }
    Ok(())
}

/// Prints a row, and above it the function and the labels that begin there.
fn print_row(listing: &Listing, row: &Row, last: Option<&Row>, output: &mut Output) -> Result<(), Error> {
    let function = listing.function_at(row.slot);
    if let Some(function) = function {
        output.line(&format!("{}:", function.prototype.as_ref().unwrap_or(&function.name)))?;
    }
    for label in &row.labels {
        output.line(&format!("  {label}:"))?;
    }
    let last = last.filter(|_| function.is_none()).and_then(|last| last.source.as_ref());
    output.line(&line(row, last))?;
    if let Some(second) = row.second {
        output.line(&format!("{:>6}: {}", row.slot + 1, hex(&second.to_ne_bytes())))?;
    }
    for Machine { offset, bytes, text } in &row.machine {
        output.line(&format!("{offset:>24x}: {bytes:<22} {text}"))?;
    }
    for line in row.explanation.iter().flat_map(|words| wrapped(words)) {
        output.line(&line)?;
    }
    if let Some(known) = &row.known {
        states::known(known, output)?;
    }
    Ok(())
}

/// An instruction: its slot, bytes, notation, the line of source unless it is the `last` one too, and what filled its hole.
pub(super) fn line(row: &Row, last: Option<&Source>) -> String {
    let mut line = format!("{:>6}: {}  {:<52}", row.slot, hex(&row.insn.to_ne_bytes()), row.text);
    if let Some(source) = row.source.as_ref().filter(|source| Some(*source) != last) {
        let file = source.file_name();
        line.push_str(&format!(" ; {}:{}  {}", Quoted(file), source.line, Quoted(source.text.trim())));
    }
    if let Some(filled) = &row.filled {
        line.push_str(&format!("  [{filled}]"));
    }
    if let Some(prototype) = row.helper.and_then(Helper::prototype) {
        line.push_str(&format!("  [{prototype}]"));
    }
    line.truncate(line.trim_end().len());
    line
}

/// Where the notation of instructions begins.
const INDENT: usize = 26;
/// The columns that an explanation keeps to.
const COLUMNS: usize = 120;

/// An explanation below its instruction, in as many lines as it takes.
fn wrapped(words: &str) -> Vec<String> {
    let mut lines = vec![format!("{:INDENT$}--", "")];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("{:INDENT$}   {word}", ""));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}
