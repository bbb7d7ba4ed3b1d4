//! Object files as texts.

use std::fmt::Write;

use bpfkit_asm::{Insn, Names, Statement, statements};

use super::Args;
use super::object::{Code, Object, SourceLine, Span};
use bpfkit_loader::Attach;

use crate::asm::{self, directive, quoted};
use crate::output::Output;
use crate::{Error, Escaped};

/// The column of what is said of a statement.
const COMMENT: usize = 48;

/// Names of functions by the slots from which they are called.
struct Called<'a>(&'a Code);

impl Names for Called<'_> {
    fn function(&self, slot: usize) -> Option<&str> {
        self.0.callee(slot)
    }
}

/// Prints all that is left of an object.
///
/// # Errors
/// As [`Output::line`].
pub fn print(args: &Args, name: &str, object: &Object, output: &mut Output) -> Result<(), Error> {
    let order = if object.big_endian { "big" } else { "little" };
    let what = if object.is_elf { "object file" } else { "instructions" };
    output.line(&format!("// {name}: {what}, {order}-endian"))?;
    if object.big_endian != cfg!(target_endian = "big") {
        output.line(&format!(".endian {order}"))?;
    }
    if let Some(license) = &object.license {
        output.line(&format!(".license {}", quoted(license)))?;
    }
    for map in &object.maps {
        let spec = &map.spec;
        let kind = spec.kind.name().unwrap_or_default();
        let mut line = format!(".map {} {kind} key {} value {}", spec.name, spec.key_size, spec.value_size);
        write_to(&mut line, format_args!(" max {}", spec.max_entries));
        if spec.flags != 0 {
            write_to(&mut line, format_args!(" flags {:#x}", spec.flags));
        }
        if !map.data.is_empty() {
            line.push_str(" data ");
            map.data.iter().for_each(|byte| write_to(&mut line, format_args!("{byte:02x}")));
        }
        output.line(&line)?;
    }
    for note in &object.notes {
        output.line(&format!("// {}", Escaped(note.as_bytes())))?;
    }
    for section in &object.sections {
        if object.is_elf {
            output.line("")?;
            output.line(&format!(".section {}", quoted(&section.name)))?;
            if let Some(line) = Attach::of_section(&section.name).as_ref().and_then(directive) {
                output.line(&line)?;
            }
        }
        let sources = object.lines(section);
        for func in &section.funcs {
            if object.is_elf || section.funcs.len() > 1 {
                output.line("")?;
                output.line(&format!(".func {}", func.name))?;
            }
            function(args, object, section, (func, &sources), output)?;
        }
        if !section.tail.is_empty() {
            output.line(&format!(".bytes {}", asm::spaced(&section.tail)))?;
        }
    }
    Ok(())
}

/// Prints a function, with the source lines of its section.
fn function(
    args: &Args,
    object: &Object,
    section: &Code,
    (func, sources): (&Span, &[SourceLine<'_>]),
    output: &mut Output,
) -> Result<(), Error> {
    let names = Called(section);
    let mut line = String::new();
    let mut next = sources.partition_point(|source| source.slot < func.slots.start);
    for statement in statements(&section.insns, func.slots.clone(), &names) {
        while let Some(source) = sources.get(next).filter(|source| source.slot <= statement.slot) {
            if !args.no_source {
                line.clear();
                let file = source.file.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                write_to(&mut line, format_args!("    // {}:{}", Escaped(file), source.line));
                if !source.text.is_empty() {
                    write_to(&mut line, format_args!(": {}", Escaped(source.text.trim_ascii())));
                }
                output.line(&line)?;
            }
            next += 1;
        }
        line.clear();
        if statement.is_target {
            write_to(&mut line, format_args!("{}:\n", statement.label()));
        }
        let begin = line.len();
        let reference = section.references.get(&statement.slot);
        write_to(&mut line, format_args!("    {};", statement.referring(reference)));
        comment(args, object, section, &statement, begin, &mut line);
        output.line(&line)?;
    }
    Ok(())
}

/// What is said of a statement beside it.
fn comment(args: &Args, object: &Object, section: &Code, statement: &Statement, begin: usize, line: &mut String) {
    let mut mark = " //";
    let mut add = |line: &mut String, what: std::fmt::Arguments<'_>| {
        if mark == " //" {
            let width = line.len() - begin;
            line.extend(std::iter::repeat_n(' ', COMMENT.saturating_sub(width)));
        }
        line.push_str(mark);
        line.push(' ');
        write_to(line, what);
        mark = ";";
    };
    if args.slots {
        add(line, format_args!("{}", statement.slot));
    }
    let slots = section.insns.get(statement.slot..statement.slot + statement.slots).unwrap_or_default();
    if args.bytes {
        let order = |&insn: &Insn| if object.big_endian { insn.to_be_bytes() } else { insn.to_le_bytes() };
        let bytes = asm::spaced(&slots.iter().flat_map(order).collect::<Vec<u8>>());
        add(line, format_args!("{bytes}"));
    }
    if let Some(insn) = slots.first().filter(|_| statement.is_raw()) {
        add(line, format_args!("{insn}"));
    }
    if let Some(note) = section.notes.get(&statement.slot) {
        add(line, format_args!("{}", Escaped(note.as_bytes())));
    }
}

/// A String takes everything.
fn write_to(line: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = line.write_fmt(what);
}
