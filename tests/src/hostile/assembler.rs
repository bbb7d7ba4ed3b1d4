//! Texts to bytes, and bytes to texts.

use std::io::Read;

use bpfkit_asm::{Asm, Insn, list, statements, text};

use super::elf::with_file;
use crate::meter::within;

/// A text becomes instructions, or mistakes each at its line; the instructions become a text of the same instructions.
pub(super) fn assembler(bytes: &[u8]) {
    let Some(source) = super::text(bytes) else { return };
    let lines = source.lines().count().max(1);
    let parsed = within(80, bytes.len(), || Asm::parse(source, "text").map(Asm::finish));
    match parsed {
        Err(error) => {
            let said = error.to_string();
            let place = said.strip_prefix("text:").and_then(|said| said.split(':').next()).and_then(|n| n.parse().ok());
            assert!(place.is_some_and(|line: usize| (1..=lines + 1).contains(&line)), "{said}");
        }
        Ok(Err(error)) => assert!(!error.to_string().is_empty()),
        Ok(Ok(code)) => {
            assert_eq!(code.sources().len(), code.insns().len());
            same(code.insns());
        }
    }
    // The whole document with its directives.
    let _ = within(80, bytes.len(), || bpfkit::fuzzing::assemble(source));
}

/// Instructions are the same after they were a text.
fn same(insns: &[Insn]) {
    if insns.is_empty() {
        return;
    }
    let again = text(insns);
    let parsed = Asm::parse(&again, "again").unwrap_or_else(|error| panic!("{error}\n{again}"));
    let code = parsed.finish().unwrap_or_else(|error| panic!("{error}\n{again}"));
    assert_eq!(code.insns(), insns, "{again}");
    // Each slot is listed once, in order.
    let mut next = 0;
    for listed in list(insns, &()) {
        assert_eq!(listed.slot, next);
        assert!(super::is_harmless(&listed.to_string()));
        next += if listed.insn.is_wide() && next + 1 < insns.len() { 2 } else { 1 };
    }
    let slots: usize = statements(insns, 0..insns.len(), &()).map(|statement| statement.slots).sum();
    assert_eq!(slots, insns.len());
}

/// Bytes, or an object file, become a text; that of bytes gives the same bytes again.
pub(super) fn disassembler(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let is_elf = bytes.starts_with(b"\x7fELF");
    let slots = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|slot| Insn::from_le_bytes(*slot)).collect::<Vec<_>>();
    if !is_elf {
        same(&slots(bytes));
    }
    for big_endian in [false, true] {
        let text = with_file(&[], |file| {
            let into = file.try_clone().expect("a descriptor");
            within(10, bytes.len(), || bpfkit::fuzzing::disassemble(bytes, is_elf, big_endian, into))?;
            let mut text = String::new();
            std::io::Seek::rewind(file).expect("the file can be read");
            file.read_to_string(&mut text).expect("it is a text");
            Ok::<_, String>(text)
        });
        let Ok(text) = text else { continue };
        assert!(super::is_harmless(&text), "{text:?}");
        match bpfkit::fuzzing::assemble(&text) {
            Ok(sections) if !is_elf => assert_eq!(sections.concat(), bytes, "{text}"),
            Ok(_) => {}
            Err(error) if is_elf => drop(error),
            Err(error) => panic!("{error}\n{text}"),
        }
        if is_elf {
            break;
        }
    }
    // As machine code, which is what the kernel made of such bytes.
    let decoded = bpfkit::dump::decode(bytes, 0x1000);
    assert_eq!(decoded.iter().map(|insn| insn.len).sum::<usize>(), bytes.len());
    for insn in &decoded {
        assert!(super::is_harmless(&insn.text(None)));
    }
}

/// Hexadecimal as people write it becomes bytes, of which each takes a digit at least.
pub(super) fn hex(bytes: &[u8]) {
    if let Ok(read) = within(10, bytes.len(), || bpfkit::fuzzing::unhex(bytes)) {
        assert!(read.len() <= bytes.len());
        let spelled: Vec<String> = read.iter().map(|byte| format!("{byte:02x}")).collect();
        for separator in ["", " ", ", ", "\n", " 0x"] {
            assert_eq!(bpfkit::fuzzing::unhex(spelled.join(separator).as_bytes()), Ok(read.clone()));
        }
    }
}
