//! A door for tests and fuzzers to what reads bytes from outside: no promise is made of it, and nobody else should come in.

use std::fs::File;

use bpfkit_asm::Version;
use bpfkit_loader::Target;

use crate::asm::{Document, assembled};
use crate::disasm::{self, Object};
use crate::output::Output;
use crate::status::Status;
use crate::{Error, Escaped, bpf2bpf, execsnoop, gethostlatency, icmpecho, skbrecv, tcpconnect, writehist};

/// What each tool makes of a record, as far as it takes the record for one of its own, in a line.
pub fn events(record: &[u8]) -> Vec<String> {
    let comm = |bytes: &[u8]| Escaped(bytes).to_string();
    let mut lines = Vec::new();
    for is_image in [false, true] {
        lines.extend(execsnoop::shown(record, is_image));
        lines.extend(gethostlatency::shown(record, is_image));
    }
    lines.extend(tcpconnect::Event::parse(record).map(|event| format!("{} {}", comm(&event.comm), event.flow)));
    lines.extend(bpf2bpf::Event::parse(record).map(|event| format!("{} {}", comm(&event.comm), event.flow)));
    lines.extend(skbrecv::Event::parse(record).map(|event| comm(&event.dev)));
    lines.extend(icmpecho::Event::parse(record).map(|event| format!("{} {}", comm(&event.comm), event.saddr)));
    lines.extend(writehist::Key::parse(record).map(|key| comm(&key.who.comm)));
    lines
}

/// What skbrecv makes of a line that its program printed: the device.
pub fn printed_event(text: &str) -> Option<String> {
    skbrecv::Event::parse_text(text).map(|event| Escaped(&event.dev).to_string())
}

/// The parent in /proc/PID/status, and the number of a namespace in the text of its link.
pub fn status(text: &str) -> (Option<u32>, Option<u32>) {
    (Status::from(text.as_bytes()).number("PPid"), execsnoop::number(text))
}

/// Bytes of hexadecimal as people write it.
///
/// # Errors
/// What is none.
pub fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    disasm::unhex(text)
}

/// Writes the text that `bpfkit disasm` makes of bytes: of an object file, or of bare instructions in one of the byte orders.
///
/// # Errors
/// An object that cannot be read.
///
/// # Panics
/// Where the file cannot be written.
pub fn disassemble(bytes: &[u8], is_elf: bool, big_endian: bool, into: File) -> Result<(), String> {
    let object = if is_elf { Object::parse(bytes)? } else { Object::of_bytes(bytes, big_endian) };
    let mut output = Output::file(into);
    disasm::print_all(&object, &mut output).expect("the file can be written");
    output.flush().expect("the file can be written");
    Ok(())
}

/// The bytes that `bpfkit asm` makes of each section of a text.
///
/// # Errors
/// Every mistake in the text; what does not fit together.
pub fn assemble(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let document = Document::parse(text, "text", "main").map_err(|error| error.to_string())?;
    let target = || Ok::<Target, Error>(Target::offline(None, Version::new(6, 12)));
    let bytes = document.sections.iter().map(|section| assembled(&document, section, target));
    bytes.collect::<Result<_, _>>().map_err(|error| error.to_string())
}
