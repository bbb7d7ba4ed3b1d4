//! The listing for programs.

use bpfkit_asm::Helper;
use bpfkit_loader::Filled;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::listing::{Listing, MapUse, Row, hex};
use super::loaded::Loaded;
use super::machine::Machine;
use super::made::Made;
use super::verifier::{Known, Opinion};
use crate::Error;
use crate::output::Output;

#[derive(Serialize)]
struct Program<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    attach: &'a str,
    license: &'a str,
    slots: usize,
    maps: &'a [MapUse],
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded: Option<&'a Loaded>,
    verifier: Option<&'a Opinion>,
    instructions: Instructions<'a>,
}

/// The instructions, which are written one after the other.
enum Instructions<'a> {
    Kept(&'a Listing),
    Made(Made<'a>),
}

#[derive(Serialize)]
struct Instruction<'a> {
    slot: usize,
    /// In hexadecimal, as they lie in memory: 8 or 16.
    bytes: String,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    /// The helper's, in C.
    #[serde(skip_serializing_if = "Option::is_none")]
    prototype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<&'a str>,
    #[serde(flatten)]
    filled: Option<Hole<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    machine: &'a [Machine],
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<&'a Known>,
}

#[derive(Serialize)]
struct Place<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    text: &'a str,
}

/// What filled the instruction's hole.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Hole<'a> {
    Field(Member<'a>),
    Context { member: &'a str, offset: u32 },
}

#[derive(Serialize)]
struct Member<'a> {
    path: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    offset: u32,
    size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bit_offset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bit_size: Option<u32>,
    /// Whether the instruction has its offset or its size.
    of: &'static str,
}

/// Prints a program as an object on a line.
///
/// # Errors
/// As [`Output::line`].
pub fn print(listing: &Listing, output: &mut Output) -> Result<(), Error> {
    output.json(&program(listing, listing.slots(), Instructions::Kept(listing)))
}

/// Prints the same of a program that was made for a kernel, with its rows made one after the other.
///
/// # Errors
/// As [`Output::line`].
pub fn print_made(made: Made<'_>, output: &mut Output) -> Result<(), Error> {
    output.json(&program(made.head, made.slots(), Instructions::Made(made)))
}

/// Prints the same object so that it may stand in a page.
///
/// # Errors
/// As [`Output::line`].
pub fn print_in_html(listing: &Listing, output: &mut Output) -> Result<(), Error> {
    output.json_in_html(&program(listing, listing.slots(), Instructions::Kept(listing)))
}

fn program<'a>(listing: &'a Listing, slots: usize, instructions: Instructions<'a>) -> Program<'a> {
    Program {
        name: &listing.name,
        kind: &listing.kind,
        attach: &listing.attach,
        license: &listing.license,
        slots,
        maps: &listing.maps,
        loaded: listing.loaded.as_ref(),
        verifier: listing.opinion.as_ref(),
        instructions,
    }
}

impl Serialize for Instructions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        match *self {
            Self::Kept(listing) => {
                listing.rows.iter().try_for_each(|row| sequence.serialize_element(&instruction(listing, row)))?;
            }
            Self::Made(made) => {
                made.rows().try_for_each(|row| sequence.serialize_element(&instruction(made.head, &row)))?;
            }
        }
        sequence.end()
    }
}

fn instruction<'a>(listing: &'a Listing, row: &'a Row) -> Instruction<'a> {
    Instruction {
        slot: row.slot,
        bytes: hex(&row.bytes()),
        text: &row.text,
        function: listing.function_at(row.slot).map(|function| function.name.as_str()),
        declaration: listing.function_at(row.slot).and_then(|function| function.prototype.as_deref()),
        labels: &row.labels,
        to: row.to,
        source: row.source.as_ref().map(|source| Place {
            file: &source.file,
            line: source.line,
            column: source.column,
            text: &source.text,
        }),
        map: row.map.as_deref(),
        helper: row.helper.map(|helper| helper.to_string()),
        prototype: row.helper.and_then(Helper::prototype),
        explain: row.explanation.as_deref(),
        filled: row.filled.as_ref().and_then(hole),
        machine: &row.machine,
        verifier: row.known.as_ref(),
    }
}

fn hole(filled: &Filled) -> Option<Hole<'_>> {
    let (field, of) = match filled {
        Filled::Offset(field) => (field, "offset"),
        Filled::Size(field) => (field, "size"),
        Filled::Context { word, offset } => return Some(Hole::Context { member: word, offset: *offset }),
        _ => return None,
    };
    Some(Hole::Field(Member {
        path: &field.path,
        kind: &field.type_name,
        offset: field.offset,
        size: field.size,
        bit_offset: field.bits.map(|bits| bits.offset),
        bit_size: field.bits.map(|bits| bits.size),
        of,
    }))
}
