//! Inputs of as many parts as fit into their bytes: what takes the most memory and the most time for each of them, found by
//! reading the code and not by chance.

use std::fmt::Write;

use bpfkit_btf::{Builder, TypeId};

use super::seeds::{Seed, note};

/// Inputs for a target, each of about `size` bytes.
pub fn of(target: &str, size: usize) -> Vec<Seed> {
    let repeated = |part: &str| part.repeat(size / part.len()).into_bytes();
    let numbered = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        (0..)
            .take_while(|&n| {
                text.push_str(&line(n));
                text.len() < size
            })
            .for_each(drop);
        text.into_bytes()
    };
    let all: Vec<(&str, Vec<u8>)> = match target {
        "btf" => vec![
            ("types", types(size, &|types, n| types.ptr(TypeId(n)))),
            ("names", types(size, &|types, n| types.fwd(&format!("{n:x}")))),
            ("structures", types(size, &|types, n| types.strukt("a", n, &[]))),
            ("members", types(size, &|types, n| types.strukt("a", n, &[("b", TypeId(1), n); 1000]))),
            (
                "a long name",
                types(size, &|types, n| types.strukt("a", n, &[(&*"n".repeat(size / 2), TypeId(1), n); 500])),
            ),
            ("values", types(size, &|types, n| types.enum64("", &[("a", n.into()); 1000]))),
            ("parameters", types(size, &|types, n| types.func_proto(&[("a", TypeId(n)); 1000], TypeId(n)))),
        ],
        "elf" => vec![("symbols", symbols(size)), ("notes", notes(size, "", ""))],
        "usdt" => vec![
            ("notes", notes(size, "", "")),
            ("names", notes(size, "provider", "")),
            ("arguments", notes(size, "", &"1@$1 ".repeat(12))),
            ("many arguments", notes(size, "", &"1@$1 ".repeat(size / 5))),
            ("one argument", repeated("1@$1 ")),
            ("signs", repeated("(")),
        ],
        "dwarf" => vec![
            ("entries", entries(size, &[2])),
            ("named entries", entries(size, &[3, b'a', 0])),
            ("as many entries as may be", entries(size, &[4, 8, 0, 1])),
        ],
        "perf" => vec![
            ("short records", [5_u32.to_le_bytes(), [0, 0, 8, 0]].concat().repeat(size / 8)),
            ("losses", [2_u32.to_le_bytes(), [0, 0, 24, 0], [0; 4], [0; 4], [1; 4], [0; 4]].concat().repeat(size / 24)),
            (
                "samples",
                [9_u32.to_le_bytes(), [0, 0, 24, 0], [0; 4], [0; 4], [0; 4], [0; 4]].concat().repeat(size / 24),
            ),
        ],
        "tracefs" => vec![
            ("fields", repeated("\tfield:u8 a;\toffset:0;\tsize:1;\tsigned:0;\n")),
            ("probes", repeated("p:bpfkit/p a\n")),
            ("mounts", repeated("1 1 0:1 / /a rw - tracefs t rw\n")),
        ],
        "kallsyms" => vec![
            ("one name", numbered(&|n| format!("{n:x} t a\n"))),
            ("variants", numbered(&|n| format!("{n:x} t a.{n:x}\n"))),
        ],
        "verifier" => vec![
            ("exits", repeated("1: (95) exit\n")),
            ("slots", numbered(&|n| format!("{n}: (95) exit\n"))),
            ("states", numbered(&|n| format!("{n}: R0={n}\n{n}: (95) exit\n"))),
            ("places", repeated("0: R0=1 R1=2 R2=3 R3=4 R4=5 R5=6 R6=7 R7=8 R8=9 R9=1 fp-8=1 fp-16=2\n0: (95) exit\n")),
            ("jumps", repeated("0: (55) if r0 != 0x0 goto pc+1\n")),
            ("paths", repeated("from 0 to 1: safe\n")),
            ("lines", repeated("; a\n")),
            ("words", repeated("a\n")),
        ],
        "info" => vec![("zeros", vec![0; size]), ("ones", vec![1; size])],
        "assembler" => vec![
            ("exits", repeated("exit;")),
            ("labels", numbered(&|n| format!("{}:", letters(n)))),
            ("jumps", format!("a:{}", "goto a;".repeat((size / 7).min(20_000))).into_bytes()),
            ("calls", repeated("call f;")),
            ("maps", repeated("r1=map[a];")),
            ("members", repeated("r1=a.b;")),
            ("sizes", repeated("r1=sizeof(a);")),
            ("places", repeated("*(u8*)(r1+a.b)=1;")),
            ("references", repeated("call 0@a;")),
            ("mistakes", repeated("a;")),
            ("mistakes on lines", repeated("a;\n")),
            ("mistakes in parts", repeated(".func a\nb;\n")),
            ("missing labels", numbered(&|n| format!("l{n}:goto m{n};"))),
            ("functions", numbered(&|n| format!(".func {}\nexit;\n", letters(n)))),
            ("sections", numbered(&|n| format!(".section {}\nexit;\n", letters(n)))),
            ("maps that are declared", numbered(&|n| format!(".map {} array\n", letters(n)))),
            ("directives", repeated(".\n")),
            ("bytes", repeated(".bytes 00\n")),
            ("signs", repeated("+")),
            ("words", repeated("a ")),
        ],
        "disassembler" => vec![
            ("exits", [0x95, 0, 0, 0, 0, 0, 0, 0].repeat(size / 8)),
            ("zeros", vec![0; size]),
            ("jumps", [0x05, 0, 0xff, 0xff, 0, 0, 0, 0].repeat(size / 8)),
            ("calls", [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff].repeat(size / 8)),
            ("symbols", symbols(size)),
        ],
        "proc" => vec![
            ("mappings", repeated("1-2 r-xp 0 0:0 0 /a\n")),
            ("files", numbered(&|n| format!("{n:x}-{:x} r-xp 0 0:0 {n} /a\n", n + 1))),
            ("places", repeated("1-2 rw-p 1000\n")),
            ("lists", repeated("0,")),
        ],
        "hex" => vec![("digits", repeated("0")), ("bytes", repeated("0 "))],
        _ => Vec::new(),
    };
    all.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// The shortest names that differ.
fn letters(mut n: usize) -> String {
    let mut name = String::new();
    loop {
        let letter = u8::try_from(n % 26).unwrap_or_default();
        // No register, no word of the grammar and no number begins so.
        let _ = write!(name, "{}", char::from(if name.is_empty() { b'A' } else { b'a' } + letter));
        n /= 26;
        if n == 0 {
            return name;
        }
        n -= 1;
    }
}

fn types(size: usize, add: &dyn Fn(&mut Builder, u32) -> TypeId) -> Vec<u8> {
    let mut types = Builder::new();
    types.int("int", 4, true);
    // What a builder has written so far is known when it is finished only.
    let mut one = Builder::new();
    add(&mut one, 1);
    let each = one.finish().len() - 24;
    for n in 0..u32::try_from(size / each).unwrap_or_default() {
        add(&mut types, n);
    }
    types.finish()
}

/// An ELF file of 64 bits for x86 with sections of these types, names and bytes, of which each links to the next.
fn elf(sections: &[(u32, &str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut body = Vec::new();
    let mut headers = vec![[0_u8; 64]];
    let all = sections.iter().copied().chain([(3, ".shstrtab", &[][..])]);
    for (n, (kind, name, bytes)) in (2_u32..).zip(all) {
        let (name_at, offset) = (names.len(), 64 + body.len());
        names.extend(name.bytes().chain([0]));
        body.extend(if kind == 3 && bytes.is_empty() { names.as_slice() } else { bytes });
        let length = 64 + body.len() - offset;
        let word = |number: usize| u32::try_from(number).expect("a short file").to_le_bytes();
        let long = |number: usize| (number as u64).to_le_bytes();
        let header = [
            &word(name_at)[..],
            &kind.to_le_bytes(),
            &long(0),
            &long(0),
            &long(offset),
            &long(length),
            &n.to_le_bytes(),
        ];
        let mut header = header.concat();
        header.extend([0_u32.to_le_bytes(), 4_u32.to_le_bytes(), [0; 4], 24_u32.to_le_bytes(), [0; 4]].concat());
        headers.push(*header.as_chunks().0.first().expect("a header"));
        body.resize(body.len().next_multiple_of(8), 0);
    }
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0, 0, 64 + body.len() as u64].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    let count = u16::try_from(headers.len()).expect("few sections");
    file.extend([64, 0, 0, 64, count, count - 1].map(u16::to_le_bytes).concat());
    file.extend(body);
    headers.iter().for_each(|header| file.extend(header));
    file
}

/// A table of functions that are all called so, each somewhere else.
fn symbols(size: usize) -> Vec<u8> {
    let symbol = |n: u64| [&1_u32.to_le_bytes()[..], &[0x12, 0, 1, 0], &n.to_le_bytes(), &8_u64.to_le_bytes()].concat();
    let table: Vec<u8> = (0..size as u64 / 24).flat_map(symbol).collect();
    elf(&[(11, ".dynsym", &table), (3, ".dynstr", b"\0getaddrinfo\0")])
}

fn notes(size: usize, name: &str, arguments: &str) -> Vec<u8> {
    let note = note([u64::from_le_bytes([1; 8]); 3], [name, name, arguments]);
    elf(&[(7, ".note.stapsdt", &note.repeat((size / note.len()).max(1)))])
}

/// A unit of entries that say next to nothing: structures without a name, or with one.
fn entries(size: usize, entry: &[u8]) -> Vec<u8> {
    // A unit that has children; a structure of one byte; one with a name; one with a size and a line.
    let abbrev = [1, 0x11, 1, 0, 0, 2, 0x13, 0, 0, 0, 3, 0x13, 0, 3, 8, 0, 0, 4, 0x13, 0, 0xb, 5, 0x3b, 0xb, 0, 0, 0];
    let mut unit = [&4_u16.to_le_bytes()[..], &[0; 4], &[8, 1]].concat();
    unit.extend(entry.repeat(size / entry.len()));
    unit.push(0);
    let length = u32::try_from(unit.len()).expect("a short unit");
    let info = [&length.to_le_bytes()[..], &unit].concat();
    elf(&[(1, ".debug_info", &info), (1, ".debug_abbrev", &abbrev)])
}
