//! Texts of programs, and the programs that they become again: those of the tools, those that clang makes, and what is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use bpfkit_asm::{Asm, Names, Version, text};
use bpfkit_tests::programs::{check_refused, fixture, printed, subject, target};
use object::{Object as _, ObjectSection as _, SectionKind};
use tempfile::TempDir;

/// Lines whose programs have between them what programs of the tools have.
const LINES: [&str; 15] = [
    "bpf2bpf",
    "execsnoop --probe kprobe",
    "execsnoop --probe kprobe -x",
    "execsnoop --probe tracepoint",
    "execsnoop -x --max-args 20",
    "execsnoop -n sh",
    "gethostlatency",
    "icmpecho",
    "skbrecv",
    "tcpconnect --probe kprobe -p 7",
    "tcpconnect --probe kprobe -c -6 -P 80",
    "tcpconnect --probe fentry",
    "tcpconnect --probe tracepoint -c",
    "writehist --probe kprobe",
    "writehist --probe tracepoint -p 1",
];

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The text that `bpfkit disasm` makes of a file, and the bytes that `bpfkit asm` makes of a section of that.
    fn there_and_back(&self, file: &Path, flags: &str, section: Option<&str>) -> (String, Vec<u8>) {
        let text = printed(&format!("disasm {} {flags}", file.display())).unwrap();
        let again = self.file("again.bpf", text.as_bytes());
        let bytes = self.0.path().join("again.bin");
        let section = section.map_or(String::new(), |name| format!("--section {name}"));
        printed(&format!("asm {} {section} -o {}", again.display(), bytes.display()))
            .unwrap_or_else(|error| panic!("{}: {error}\n{text}", file.display()));
        (text, std::fs::read(bytes).unwrap())
    }
}

#[test]
fn the_programs_of_every_tool_come_back() {
    let room = Room::new();
    let mut slots = 0;
    for (version, types) in [(Version::new(5, 10), "5.10"), (Version::new(6, 12), "6.12"), (Version::new(7, 2), "7.2")]
    {
        let target = target(version, types);
        for line in LINES {
            let subject = subject(line, &target).unwrap_or_else(|error| panic!("{version} {line}: {error}"));
            for program in &subject.programs {
                let what = format!("{version} {line} {}", program.spec().name);
                let bytes: Vec<u8> = program.insns().iter().flat_map(|insn| insn.to_le_bytes()).collect();
                let (text, again) = room.there_and_back(&room.file("program.bin", &bytes), "", None);
                assert_eq!(again, bytes, "{what}\n{text}");
                assert!(!text.contains("insn("), "{what}: every statement has a form of its own\n{text}");
                slots += program.insns().len();
            }
        }
    }
    assert!(slots > 10_000, "{slots}");
}

/// With the names of maps and functions in it, the text of a program is what a person would write.
#[test]
fn the_programs_of_a_tool_come_back_with_their_names() {
    let target = target(Version::new(6, 12), "6.12");
    let mut named = 0;
    for line in LINES {
        let subject = subject(line, &target).unwrap_or_else(|error| panic!("{line}: {error}"));
        for program in &subject.programs {
            let names: &dyn Names = program;
            let mut parts = String::new();
            let ends = program.funcs().iter().skip(1).map(|&(start, _)| start).chain([program.insns().len()]);
            for ((start, name), end) in program.funcs().iter().zip(ends) {
                parts.push_str(&format!(".func {name}\n"));
                for statement in bpfkit_asm::statements(program.insns(), *start..end, names) {
                    let label = if statement.is_target { format!("{}:\n", statement.label()) } else { String::new() };
                    let statement_text = statement.to_string();
                    named += usize::from(
                        statement_text.contains("map[")
                            || program.funcs().iter().any(|(_, func)| statement_text.ends_with(func)),
                    );
                    parts.push_str(&format!("{label}{statement};\n"));
                }
            }
            let room = Room::new();
            let text = room.file("named.bpf", parts.as_bytes());
            let bytes = room.0.path().join("named.bin");
            printed(&format!("asm {} -o {}", text.display(), bytes.display()))
                .unwrap_or_else(|error| panic!("{error}\n{parts}"));
            let expected: Vec<u8> = program.insns().iter().flat_map(|insn| insn.to_le_bytes()).collect();
            assert_eq!(std::fs::read(bytes).unwrap(), expected, "{line}\n{parts}");
        }
    }
    assert!(named > 100, "{named}");
}

/// The sections of instructions of an object file, as another reader finds them.
fn sections(file: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let is_code = |section: &object::Section<'_, '_>| section.kind() == SectionKind::Text && section.size() > 0;
    let code = elf.sections().filter(is_code);
    code.map(|section| (section.name().unwrap().to_owned(), section.data().unwrap().to_vec())).collect()
}

#[test]
fn an_object_file_is_a_text_that_names_what_it_uses() {
    let room = Room::new();
    let file = fixture("bpf/sample.o");
    for (name, bytes) in sections(&file) {
        assert_eq!(room.there_and_back(&file, "", Some(&name)).1, bytes, "{name}");
    }
    let listing =
        printed(&format!("disasm {}", file.display())).unwrap().replace(&file.display().to_string(), "sample.o");
    let path = fixture("bpf/sample.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &listing).unwrap();
    }
    let committed = std::fs::read_to_string(&path).expect("BLESS=1 writes it");
    assert_eq!(listing, committed);
    for part in [
        ".map counts hash key 4 value 8 max 1024\n",
        ".map .rodata.str1.1 array key 4 value 8 max 1 flags 0x80 data 7069642025640a00\n",
        ".section \"kprobe/tcp_connect\"\n.attach kprobe tcp_connect\n",
        "@ map[counts];",
        "@ map[.bss][0];",
        "@ func[bump];",
        "@ kfunc[bpf_kfunc_of_somebody];",
        "    // sample.c:26: return x * 3 + (int)total;\n",
    ] {
        assert!(listing.contains(part), "{part}\n{listing}");
    }
}

#[test]
fn only_what_is_asked_for_is_shown_with_what_is_asked_for() {
    let file = fixture("bpf/sample.o").display().to_string();
    let text = printed(&format!("disasm {file} --section socket --no-source --slots --bytes")).unwrap();
    assert!(!text.contains(".text") && !text.contains("// sample.c"), "{text}");
    let line = text.lines().find(|line| line.contains("map[counts]")).unwrap();
    assert!(line.ends_with("; 18 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00"), "{line}");
    let text = printed(&format!("disasm {file} --function bump")).unwrap();
    assert!(text.contains(".func bump") && !text.contains(".func shared"), "{text}");
    for (flags, part) in [
        ("--section xdp", "no section with instructions `xdp`; there are .text, socket, kprobe/tcp_connect"),
        ("--function none", "no function `none`; there are shared, bump, filter, connect"),
        ("--from raw --section a", "no section"),
    ] {
        let error = printed(&format!("disasm {file} {flags}")).unwrap_err().to_string();
        assert!(error.contains(part), "{flags}: {error}");
    }
}

/// The newest clang that knows all of ISA version 4.
fn clang() -> Option<String> {
    let names = (19..30).rev().map(|version| format!("clang-{version}"));
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// The C sources, and the versions of the instruction set that each is for.
fn c_sources() -> Vec<(PathBuf, Vec<String>)> {
    let files = std::fs::read_dir(fixture("bpf")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "c")).collect();
    files.sort();
    let cpus = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().next().and_then(|line| line.strip_prefix("// cpu: ")).unwrap();
        line.split(' ').map(str::to_owned).collect()
    };
    files.into_iter().map(|path| (path.clone(), cpus(&path))).collect()
}

#[test]
fn what_clang_makes_comes_back_for_every_instruction_set_and_byte_order() {
    let Some(clang) = clang() else {
        eprintln!("skipped: no clang of version 19 or newer; the committed object file stands in for it");
        return;
    };
    let room = Room::new();
    let object = room.0.path().join("object.o");
    let (mut checked, mut raw) = (0, 0);
    for (source, cpus) in c_sources() {
        for cpu in &cpus {
            for (machine, level, debug) in
                [("bpfel", "-O2", "-g"), ("bpfel", "-O1", "-g0"), ("bpfeb", "-O2", "-g"), ("bpfel", "-Os", "-g")]
            {
                let status = Command::new(&clang)
                    .args(["-target", machine, level, debug, "-Wall", "-Wno-unused", "-c", "-o"])
                    .arg(&object)
                    .arg(format!("-mcpu={cpu}"))
                    .arg(&source)
                    .status()
                    .unwrap();
                let what = format!("{} {cpu} {machine} {level} {debug}", source.display());
                assert!(status.success(), "{what}");
                for (name, bytes) in sections(&object) {
                    let (text, again) = room.there_and_back(&object, "--bytes --slots", Some(&name));
                    assert_eq!(again, bytes, "{what} {name}\n{text}");
                    checked += 1;
                    raw += text.matches("insn(").count();
                }
            }
        }
    }
    assert!(checked > 100, "{checked}");
    // Only the assembly has what is no statement.
    assert!(raw > 0, "{raw}");
}

#[test]
fn a_text_of_an_object_file_is_linked_from_several_sections() {
    let room = Room::new();
    let text = printed(&format!("disasm {}", fixture("bpf/sample.o").display())).unwrap();
    let file = room.file("sample.bpf", text.as_bytes()).display().to_string();
    let listing = printed(&format!("asm {file} --section socket --kernel 6.12")).unwrap();
    for part in [
        "// filter: nothing (socket_filter)",
        "// map counts: hash",
        "call pc+",
        "#bump",
        "map[.rodata][0]+0",
        "\nbump:\n",
        "\nshared:\n",
    ] {
        assert!(listing.contains(part), "{part}\n{listing}");
    }
    // The kernel's function is looked for when its number is needed, and not for the bytes.
    let error = printed(&format!("asm {file} --section kprobe/tcp_connect --kernel 6.12")).unwrap_err().to_string();
    assert!(error.contains("types"), "{error}");
    let error = printed(&format!("asm {file} -o /dev/null")).unwrap_err().to_string();
    assert!(
        error.contains("several sections, of which --section names one: there are \".text\", \"socket\""),
        "{error}"
    );
}

#[test]
fn members_of_structures_and_of_the_context_are_those_of_the_kernel_that_is_named() {
    let room = Room::new();
    let text = "\
.attach kprobe tcp_connect
    r6 = *(u64 *)(r1 + ctx.arg1);
    r3 = r6;
    r3 += sock.__sk_common.skc_dport;
    r2 = sizeof(sock.__sk_common.skc_dport);
    r0 = 0;
    exit;
";
    let file = room.file("probe.bpf", text.as_bytes()).display().to_string();
    let listing = |kernel: &str, types: &str| {
        let types = fixture(&format!("btf/{types}.btf"));
        printed(&format!("asm {file} --kernel {kernel} --btf {}", types.display())).unwrap()
    };
    let of_510 = listing("5.10", "5.10");
    for part in [
        "// probe: kprobe on tcp_connect; type kprobe",
        "(79) r6 = *(u64 *)(r1 +112)",
        "r3 += 12 ",
        "r2 = 2 ",
        "probe.bpf:2",
    ] {
        assert!(of_510.contains(part), "{part}\n{of_510}");
    }
    let btf = fixture("btf/5.10.btf").display().to_string();
    let bytes = room.0.path().join("probe.bin");
    printed(&format!("asm {file} --kernel 5.10 --btf {btf} -o {}", bytes.display())).unwrap();
    assert_eq!(std::fs::read(&bytes).unwrap()[..8], [0x79, 0x16, 112, 0, 0, 0, 0, 0]);
    let error = printed(&format!("asm {file} --kernel 5.10")).unwrap_err().to_string();
    assert!(error.contains("types"), "{error}");
}

#[test]
fn bare_bytes_are_read_as_bytes_or_in_hexadecimal() {
    let room = Room::new();
    let program = Asm::parse("r1 = 5; call pc+1; exit; r0 = 0; exit;", "f").unwrap().finish().unwrap();
    let bytes: Vec<u8> = program.insns().iter().flat_map(|insn| insn.to_le_bytes()).collect();
    let raw = room.file("p.bin", &bytes);
    let (text, again) = room.there_and_back(&raw, "", None);
    assert_eq!(again, bytes);
    // Functions begin where they are called.
    assert!(text.contains(".func main\n") && text.contains("call f3;\n") && text.contains(".func f3\n"), "{text}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
    assert_eq!(room.there_and_back(&room.file("p.hex", hex.as_bytes()), "", None).1, bytes);
    let printed_hex = printed(&format!("asm {} --hex", room.file("p.bpf", text.as_bytes()).display())).unwrap();
    assert_eq!(printed_hex.lines().next(), Some("b7 01 00 00 05 00 00 00"));
    // What is left over stays, and so does the order of another machine's bytes.
    let odd = [&bytes[..], &[1, 2, 3]].concat();
    assert_eq!(room.there_and_back(&room.file("odd.bin", &odd), "", None).1, odd);
    assert_eq!(room.there_and_back(&room.file("short.bin", &[7]), "--from raw", None).1, [7]);
    let big: Vec<u8> = program.insns().iter().flat_map(|insn| insn.to_be_bytes()).collect();
    let (text, again) = room.there_and_back(&room.file("big.bin", &big), "--big-endian", None);
    assert_eq!(again, big);
    assert!(text.contains(".endian big\n") && text.contains("r1 = 5;"), "{text}");
}

#[test]
fn what_is_no_program_is_named() {
    let room = Room::new();
    let sample = std::fs::read(fixture("bpf/sample.o")).unwrap();
    let mut other_machine = sample.clone();
    other_machine[18] = 62;
    let mut narrow = sample.clone();
    narrow[4] = 1;
    for (name, bytes, flags, part) in [
        ("empty", &b""[..], "", "it is empty"),
        ("machine.o", &other_machine, "", "it is for another machine (ELF machine 62), not for BPF"),
        ("narrow.o", &narrow, "", "it is an ELF file of 32 bits"),
        ("header.o", &sample[..40], "", "cannot disassemble"),
        ("cut.o", &sample[..sample.len() / 2], "", "cannot disassemble"),
        ("bad.hex", b"b7 zz", "--from hex", "`z` is no hexadecimal digit"),
        ("half.hex", b"b70", "", "half a byte"),
        ("text.o", b"r0 = 0;", "--from elf", "cannot disassemble"),
    ] {
        let file = room.file(name, bytes);
        let error = printed(&format!("disasm {} {flags}", file.display())).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(name), "{name}: {error}");
    }
    let error = printed("disasm /none.o").unwrap_err().to_string();
    assert_eq!(error, "cannot read /none.o");
    check_refused("disasm", &[("", "FILE"), ("x --from pdf", "pdf")]);
}

#[test]
fn a_text_that_is_wrong_is_told_with_line_column_and_caret() {
    let room = Room::new();
    for (name, text, flags, part) in [
        (
            "a.bpf",
            "r0 = 0;\n  exi;\n",
            "",
            "a.bpf:2:3: no statement begins with `exi`\n    exi;\n    ^ did you mean `exit`?",
        ),
        ("b.bpf", "call report;\nexit;", "", "program `b` uses function `report`, which it was not given"),
        ("c.bpf", "// nothing", "", "has no instructions"),
        ("d.bpf", "exit;", "--type kprob", "--type: there is no type of program `kprob`; did you mean kprobe?"),
        ("e.bpf", "exit;", "--section x", "has no section `x`"),
        ("f.bpf", "exit;", "--program x", "no program begins with a function `x`; there are f"),
        ("g.bpf", "\x7fELF", "", "bpfkit disasm makes one of it"),
        ("h.bpf", "goto out;", "", "h.bpf:1:6: there is no label `out`"),
        ("i.bpf", ".bytes 01\nexit;", "", "ends in bytes that are no instruction"),
    ] {
        let file = room.file(name, text.as_bytes()).display().to_string();
        let error = printed(&format!("asm {file} {flags} --kernel 6.12")).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let error = printed(&format!("asm {}", room.file("x.bpf", b"r0 = \xff").display())).unwrap_err().to_string();
    assert!(error.contains("is no text: byte 5"), "{error}");
    check_refused("asm", &[("x --run --hex", "--hex"), ("x --data 00", "--run"), ("", "FILE")]);
}

#[test]
fn an_object_file_that_is_cut_off_anywhere_is_refused() {
    let room = Room::new();
    let sample = std::fs::read(fixture("bpf/sample.o")).unwrap();
    let disasm = |bytes: &[u8]| printed(&format!("disasm {}", room.file("bad.o", bytes).display()));
    for len in (4..sample.len()).step_by(41) {
        assert!(disasm(&sample[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_million_instructions_come_back() {
    let mut insns = Vec::with_capacity(1_000_000);
    let few =
        Asm::parse("r1 = 5; r2 += r1; *(u32 *)(r10 - 4) = r2; if r3 == 0 goto +3; w4 = w2; call 14; r2 = 1 ll;", "f");
    let few = few.unwrap().finish().unwrap();
    while insns.len() + few.insns().len() < 1_000_000 {
        insns.extend(few.insns());
    }
    let again = Asm::parse(&text(&insns), "f").unwrap().finish().unwrap();
    assert!(again.insns() == insns);
}
