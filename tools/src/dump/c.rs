//! C source: an array of `struct bpf_insn` for each program, and what a loader must put into it.

use bpfkit_asm::{Class, Insn, Mode, Opcode};
use bpfkit_loader::{Filled, Identifiers, MapSpec};

use super::Subject;
use super::listing::{Listing, Row};
use super::made::Made;
use crate::Error;
use crate::escape::Escaped;
use crate::output::Output;

const HEAD: &str = "\
#include <linux/bpf.h>

/* An instruction that wants something, and what that is called. */
struct bpf_hole {
\t__u32 slot;
\tconst char *name;
};";

/// Prints all programs as a file that a C compiler takes, given <linux/bpf.h> of Linux 5.12 or newer.
///
/// # Errors
/// As [`Output::line`].
pub fn print(subject: &Subject<'_>, output: &mut Output) -> Result<(), Error> {
    let mut names = Identifiers::default();
    output.line(&format!("/* BPF programs for Linux {}, in this machine's byte order */", subject.target.version()))?;
    output.line(HEAD)?;
    maps(&names.take("maps", ""), &subject.maps, output)?;
    for linked in &subject.programs {
        let head = Listing::head(linked, &subject.maps);
        program(Made { head: &head, program: linked, place: None }, &mut names, output)?;
    }
    Ok(())
}

const MAPS: &str = "
/* The maps. One that has room for 0 elements is to have one for each possible CPU. */
const struct {
\tconst char *name;
\t__u32 map_type, key_size, value_size, max_entries, map_flags;";

/// The maps that programs use, for BPF_MAP_CREATE.
fn maps(array: &str, maps: &[MapSpec], output: &mut Output) -> Result<(), Error> {
    if maps.is_empty() {
        return Ok(());
    }
    output.line(MAPS)?;
    output.line(&format!("}} {array}[] = {{"))?;
    for MapSpec { name, kind, key_size, value_size, max_entries, flags, .. } in maps {
        let kind = kind.name().map_or_else(|| kind.0.to_string(), |name| constant("BPF_MAP_TYPE_", name));
        let name = string(name);
        output.line(&format!("\t{{ {name}, {kind}, {key_size}, {value_size}, {max_entries}, {flags:#x} }},"))?;
    }
    output.line("};")
}

fn program(made: Made<'_>, names: &mut Identifiers, output: &mut Output) -> Result<(), Error> {
    let Listing { name, kind, attach, license, .. } = made.head;
    // A program may be called like a function of C or a word of the language.
    let array = |of| names.take(&format!("{name}_{of}"), "prog");
    let [insns, maps, fields] = ["insns", "maps", "fields"].map(array);
    let about = format!("{name}: {attach}; type {kind}, licence {license}, {} slots", made.slots());
    output.line("")?;
    output.line(&comment(&about))?;
    output.line(&format!("const struct bpf_insn {insns}[] = {{"))?;
    for row in made.rows() {
        if let Some(function) = made.head.function_at(row.slot) {
            output.line(&format!("\t{}", comment(&format!("{}:", function.name))))?;
        }
        for label in &row.labels {
            output.line(&format!("\t{}", comment(&format!("{label}:"))))?;
        }
        output.line(&format!("\t{}", comment(&about_row(&row))))?;
        output.line(&format!("\t{{ {} }},", insn(row.insn)))?;
        if let Some(second) = row.second {
            output.line(&format!("\t{{ .imm = {} }},", second.imm))?;
        }
    }
    output.line("};")?;
    let named: Vec<_> = made.program.maps().iter().map(|(&slot, name)| (slot, name.as_str(), None)).collect();
    let what = "What a loader puts into .imm: the descriptor of the map.";
    holes(what, &maps, &named, output)?;
    let filled: Vec<_> = made.program.filled().iter().filter_map(field).collect();
    let what = "What is in .off or .imm for this kernel: the offset of the member, or its size.";
    holes(what, &fields, &filled, output)
}

/// A slot that wants something, what that is called, and what was found.
type Hole<'a> = (usize, &'a str, Option<&'a Filled>);

fn field<'a>((&slot, filled): (&usize, &'a Filled)) -> Option<Hole<'a>> {
    match filled {
        Filled::Offset(field) | Filled::Size(field) => Some((slot, &field.path, Some(filled))),
        _ => None,
    }
}

fn holes(what: &str, array: &str, holes: &[Hole<'_>], output: &mut Output) -> Result<(), Error> {
    if holes.is_empty() {
        return Ok(());
    }
    output.line(&comment(what))?;
    output.line(&format!("const struct bpf_hole {array}[] = {{"))?;
    for &(slot, name, filled) in holes {
        let told = filled.map_or(String::new(), |filled| [" ", &comment(&filled.to_string())].concat());
        output.line(&format!("\t{{ {slot}, {} }},{told}", string(name)))?;
    }
    output.line("};")
}

/// The instruction in the kernel's notation, and where it was written.
fn about_row(row: &Row) -> String {
    let source = row.source.as_ref().map_or(String::new(), |source| {
        let file = source.file_name();
        format!(" ; {file}:{}  {}", source.line, source.text)
    });
    format!("{}: {}{source}", row.slot, row.text)
}

/// What stands between the braces of an initialiser.
fn insn(insn: Insn) -> String {
    let class = insn.code.class();
    let is_jump = matches!(class, Class::Jmp | Class::Jmp32);
    // Calls, exits and jumps without a condition have no registers.
    let has_dst = insn.dst() != 0 || !(is_jump && matches!(insn.code.op(), 0x00 | 0x80 | 0x90));
    let dst = has_dst.then(|| register(insn.dst()));
    let pseudo = match (insn.is_wide(), insn.code == Opcode::CALL, insn.src()) {
        (true, _, 1) => Some("BPF_PSEUDO_MAP_FD"),
        (true, _, 2) => Some("BPF_PSEUDO_MAP_VALUE"),
        (true, _, 4) => Some("BPF_PSEUDO_FUNC"),
        (_, true, 1) => Some("BPF_PSEUDO_CALL"),
        (_, true, 2) => Some("BPF_PSEUDO_KFUNC_CALL"),
        _ => None,
    };
    let is_end = matches!(class, Class::Alu | Class::Alu64) && insn.code.op() == 0xd0;
    let reads = match class {
        Class::Ldx | Class::Stx => true,
        Class::Alu | Class::Alu64 | Class::Jmp | Class::Jmp32 => insn.code.is_register() && !is_end,
        Class::Ld | Class::St => false,
    };
    let src = match pseudo {
        Some(pseudo) => Some(pseudo.to_owned()),
        None => (reads || insn.src() != 0).then(|| register(insn.src())),
    };
    let imm = match insn.helper().and_then(|helper| helper.name()?.strip_prefix("bpf_")) {
        Some(helper) => Some(["BPF_FUNC_", helper].concat()),
        None if insn.imm == i32::MIN => Some("-2147483647 - 1".to_owned()),
        None => (insn.imm != 0).then(|| insn.imm.to_string()),
    };
    let off = (insn.off != 0).then(|| insn.off.to_string());
    let mut text = [".code = ", &code(insn.code)].concat();
    for (member, value) in [(".dst_reg", dst), (".src_reg", src), (".off", off), (".imm", imm)] {
        if let Some(value) = value {
            [", ", member, " = ", &value].into_iter().for_each(|part| text.push_str(part));
        }
    }
    text
}

fn register(number: u8) -> String {
    // 11 to 15 are no registers, and no program that a kernel takes has them.
    if number <= 10 { format!("BPF_REG_{number}") } else { number.to_string() }
}

const ALU: [&str; 14] =
    ["ADD", "SUB", "MUL", "DIV", "OR", "AND", "LSH", "RSH", "NEG", "MOD", "XOR", "MOV", "ARSH", "END"];
const JMP: [&str; 14] =
    ["JA", "JEQ", "JGT", "JGE", "JSET", "JNE", "JSGT", "JSGE", "CALL", "EXIT", "JLT", "JLE", "JSLT", "JSLE"];

/// An opcode by the names of <linux/bpf.h>; as a number where headers of Linux 5.12 have no name for a part of it.
fn code(code: Opcode) -> String {
    let class = match code.class() {
        Class::Ld => "BPF_LD",
        Class::Ldx => "BPF_LDX",
        Class::St => "BPF_ST",
        Class::Stx => "BPF_STX",
        Class::Alu => "BPF_ALU",
        Class::Jmp => "BPF_JMP",
        Class::Jmp32 => "BPF_JMP32",
        Class::Alu64 => "BPF_ALU64",
    };
    let op = |names: &[&'static str]| names.get(usize::from(code.op() >> 4)).copied();
    let parts = match code.class() {
        Class::Ld | Class::Ldx | Class::St | Class::Stx => {
            let size = ["BPF_W", "BPF_H", "BPF_B", "BPF_DW"][usize::from(code.0 >> 3 & 3)];
            let mode = match code.mode() {
                Some(Mode::Imm) => Some("IMM"),
                Some(Mode::Abs) => Some("ABS"),
                Some(Mode::Ind) => Some("IND"),
                Some(Mode::Mem) => Some("MEM"),
                Some(Mode::Atomic) => Some("ATOMIC"),
                Some(Mode::Memsx) | None => None,
            };
            mode.map(|mode| (mode, size))
        }
        Class::Alu | Class::Alu64 if code.op() == 0xd0 => {
            Some(("END", if code.is_register() { "BPF_TO_BE" } else { "BPF_TO_LE" }))
        }
        Class::Alu | Class::Alu64 => op(&ALU).map(|op| (op, if code.is_register() { "BPF_X" } else { "BPF_K" })),
        Class::Jmp | Class::Jmp32 => op(&JMP).map(|op| (op, if code.is_register() { "BPF_X" } else { "BPF_K" })),
    };
    match parts {
        // The constant is 0, and says nothing where there is no right-hand side.
        Some((op @ ("JA" | "CALL" | "EXIT" | "NEG"), "BPF_K")) => format!("{class} | BPF_{op}"),
        Some((op, last)) => format!("{class} | BPF_{op} | {last}"),
        None => format!("{:#04x}", code.0),
    }
}

fn constant(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.to_ascii_uppercase())
}

/// A comment that ends where it should, whatever is in it.
fn comment(text: &str) -> String {
    format!("/* {} */", Escaped(text.as_bytes()).to_string().replace("*/", "* /").replace("/*", "/ *"))
}

/// A string literal.
fn string(text: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '?') { c } else { '_' };
    format!("\"{}\"", text.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_in_its_comment_or_string() {
        assert_eq!(comment("a */ b /* c\n"), "/* a * / b / * c\\n */");
        assert_eq!(comment("*/*"), "/* * / * */");
        assert_eq!(string("a\"b\\c\nd??/e"), "\"a_b_c_d__/e\"");
    }

    #[test]
    fn what_has_no_name_in_older_headers_is_a_number() {
        assert_eq!(code(Opcode(0x81)), "0x81");
        assert_eq!(code(Opcode::JCOND), "0xe5");
        assert_eq!(code(Opcode(0xf7)), "0xf7");
        assert_eq!(code(Opcode(0xe3)), "0xe3");
    }
}
