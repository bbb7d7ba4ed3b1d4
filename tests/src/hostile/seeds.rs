//! Small inputs that are what they should be, for a fuzzer to begin with and for tests to damage.

use std::fmt::Write;

use bpfkit_btf::{Archive, Builder};
use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use crate::programs::fixture;
use crate::verifier::logs;

/// A name and bytes.
pub type Seed = (String, Vec<u8>);

/// The seeds of a target: what `fuzz/seeds` has, which a test compares and `BLESS=1` writes.
///
/// # Panics
/// Where a fixture is missing.
pub fn of(target: &str) -> Vec<Seed> {
    let read = |name: &str| std::fs::read(fixture(name)).expect("a fixture");
    let file = |name: &str| (name.rsplit('/').next().unwrap_or_default().to_owned(), read(name));
    let seed = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    match target {
        "btf" => vec![
            file("btf/shapes.btf"),
            ("kinds".into(), kinds(false)),
            ("kinds-big".into(), kinds(true)),
            ("archive".into(), archive()),
        ],
        "elf" => vec![file("dwarf/old.so"), ("probes.o".into(), probes()), file("bpf/sample.o")],
        "usdt" => vec![
            ("probes.o".into(), probes()),
            seed("x86", b"-4@-20(%rbp,%rcx,4)"),
            seed("aarch64", b"8@[sp, 16]"),
            seed("riscv", b"-8@-24(s0)"),
        ],
        "dwarf" => ["units", "old", "compressed", "lto", "mixed"].map(|name| file(&format!("dwarf/{name}.so"))).into(),
        "perf" => vec![("records".into(), records())],
        "tracefs" => vec![seed("format", FORMAT), seed("mounts", MOUNTS), seed("printed", PRINTED)],
        "kallsyms" => vec![seed("list", KALLSYMS)],
        "verifier" => verifier(),
        "info" => vec![("program".into(), info())],
        "assembler" => vec![file("bpf/sample.txt"), seed("forms", TEXT)],
        "disassembler" => vec![file("bpf/sample.o"), ("program".into(), program())],
        "proc" => vec![seed("maps", MAPS), seed("lists", LISTS), seed("status", STATUS), ("vdso".into(), vdso())],
        "hex" => vec![seed("plain", b"b7 00 00 00\n07 00 00 00\n"), seed("escaped", b"\\xb7\\x0, 0x7 95000000 0,0")],
        _ => Vec::new(),
    }
}

/// A type of each kind that can be written.
fn kinds(big_endian: bool) -> Vec<u8> {
    let mut types = Builder::with_byte_order(big_endian);
    let int = types.int("int", 4, true);
    let long = types.int("unsigned long", 8, false);
    let pointer = types.ptr(int);
    let row = types.array(int, long, 4);
    let inner = types.strukt("", 8, &[("low", int, 0), ("high", int, 4)]);
    let node = types.strukt("node", 40, &[("next", pointer, 0), ("row", row, 8), ("", inner, 24), ("mm", long, 32)]);
    types.typedef("node_t", node);
    types.fwd("elsewhere");
    types.float("double", 8);
    let tagged = types.type_tag("user", int);
    types.decl_tag("mark", node);
    types.enum64("wide", &[("SMALL", 1), ("LARGE", 1 << 40)]);
    let proto = types.func_proto(&[("node", tagged), ("n", int)], int);
    types.func("walk", proto);
    let var = types.var("counter", long);
    types.datasec(".data", 8, &[(var, 0, 8)]);
    types.finish()
}

/// The types of two kernels.
fn archive() -> Vec<u8> {
    let kernels = [("5.10.0", kinds(false)), ("6.12.0-1", kinds(true))];
    let kernels = kernels.into_iter().map(|(release, types)| (release.to_owned(), types)).collect();
    Archive::write(&kernels).expect("short releases")
}

/// The note of a probe: its addresses (of the place, of the base, of the semaphore), its provider, name and arguments.
pub(super) fn note(addresses: [u64; 3], strings: [&str; 3]) -> Vec<u8> {
    let mut description = addresses.map(u64::to_le_bytes).concat();
    for string in strings {
        description.extend(string.bytes().chain([0]));
    }
    let length = u32::try_from(description.len()).expect("a short note");
    let mut note = [8, length, 3].map(u32::to_le_bytes).concat();
    note.extend(b"stapsdt\0");
    note.extend(description);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// An object file with a function and two probes.
fn probes() -> Vec<u8> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = file.section_id(StandardSection::Text);
    file.append_section_data(text, &[0x90; 16], 16);
    file.add_symbol(Symbol {
        name: b"getaddrinfo".to_vec(),
        value: 4,
        size: 8,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    let addresses = [0x1004, 0x2000, 0];
    let note = |name, arguments| note(addresses, ["libc", name, arguments]);
    let notes = [note("open", "-4@%edi 8@-16(%rbp) 8@(%rax,%rdx,8) 4@$5"), note("close", "")].concat();
    let section = file.add_section(Vec::new(), b".note.stapsdt".to_vec(), SectionKind::Note);
    file.append_section_data(section, &notes, 4);
    let base = file.add_section(Vec::new(), b".stapsdt.base".to_vec(), SectionKind::ReadOnlyData);
    file.append_section_data(base, &[0], 1);
    file.write().expect("it can be written")
}

/// Samples that are events of tools, one of each, and what else a ring has.
fn records() -> Vec<u8> {
    let record = |kind: u32, body: &[u8]| {
        let size = u16::try_from(8 + body.len()).expect("a short record");
        [&kind.to_le_bytes()[..], &[0, 0], &size.to_le_bytes(), body].concat()
    };
    let sample = |time: u64, data: &[u8]| {
        // The kernel pads data so that a record ends at a multiple of 8 bytes.
        let mut data = data.to_vec();
        data.resize((data.len() + 4).next_multiple_of(8) - 4, 0);
        let size = u32::try_from(data.len()).expect("a short sample");
        record(9, &[&time.to_le_bytes()[..], &size.to_le_bytes(), &data].concat())
    };
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let comm = b"curl\0\0\0\0\0\0\0\0\0\0\0\0";
    let who = [&numbers(&[12, 12])[..], comm].concat();
    let flow = [&[0x01, 0xbb, 0x80, 0x00][..], &[10, 0, 0, 1], &[10, 0, 0, 2]].concat();
    let connect = [&who[..], &numbers(&[1000, 2]), &flow].concat();
    let bpf2bpf = [&who[..], &numbers(&[0]), &[2, 0, 0, 0], &[0; 8], &flow].concat();
    let strings = b"/bin/ls\0ls\0-l\0";
    let length = u32::try_from(strings.len()).expect("short strings");
    let exec = [&numbers(&[12, 1])[..], comm, &numbers(&[1000, 0, 4, 0, 3, length, 1, 0, 0, 0]), strings].concat();
    let mut lookup = [&who[..8], &[0; 8], comm, &numbers(&[0, 9]), &[1; 8]].concat();
    lookup.extend([2, 0, 1, 0, 0, 0, 0, 0, 127, 0, 0, 1]);
    lookup.resize(lookup.len() + 20, 0);
    lookup.extend(b"localhost");
    lookup.resize(lookup.len() + 247, 0);
    let ping = [&who[..], &[0, 7, 0, 1], &[127, 0, 0, 1]].concat();
    let packet = [&b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &numbers(&[60]), &[8, 0]].concat();
    let lost = record(2, &[7_u64.to_le_bytes(), 12_u64.to_le_bytes()].concat());
    let parts = [connect, bpf2bpf, exec, lookup, ping, packet];
    let samples = (0_u64..).zip(parts).flat_map(|(n, data)| sample(10 - n, &data));
    samples.chain(lost).chain(record(5, &[0; 8])).collect()
}

/// Logs of kernels that say it differently, of programs that are taken and refused.
fn verifier() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for kernel in ["5.10", "6.12", "7.2", "7.3-rc"] {
        let all = std::fs::read_to_string(fixture(&format!("verifier/{kernel}.log"))).expect("a fixture");
        let short = logs(&all).filter(|(_, _, log)| log.len() < 4000);
        for (name, level, log) in short.step_by(5).take(5) {
            seeds.push((format!("{kernel}-{name}-{level}"), log.as_bytes().to_vec()));
        }
    }
    seeds
}

/// Instructions of several forms: a call, a wide constant, a jump, memory, and half a slot.
fn program() -> Vec<u8> {
    let words: [u64; 9] = [
        0x0000_0000_0000_16bf, // r6 = r1
        0x0000_0005_0000_0118, // r1 = 5 ll
        0x0000_0001_0000_0000,
        0x0000_0001_0000_0085, // call bpf_map_lookup_elem
        0x0000_0000_0002_0015, // if r0 == 0 goto +2
        0x0000_0000_0008_6179, // r1 = *(u64 *)(r6 + 8)
        0x0000_0001_0000_1085, // call pc+1
        0x0000_0000_0000_00b7, // r0 = 0
        0x0000_0000_0000_0095, // exit
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).chain([1, 2, 3]).collect()
}

/// What a kernel says of that program, as `bpfkit_loader::fuzzing::loaded` reads it.
fn info() -> Vec<u8> {
    let slots = &program()[..72];
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let proto = types.func_proto(&[], int);
    let main = types.func("main", proto);
    let inner = types.func("inner", proto);
    let source = types.string("r6 = r1;");
    let file = types.string("main.rs");
    let mut bytes = 232_u16.to_le_bytes().to_vec();
    let word = |number: u32| bytes.extend(number.to_le_bytes());
    [2, 7, 72].into_iter().for_each(word);
    bytes.extend([1, 0]);
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1, 0, 1, 0]);
    bytes.extend([1_u32, 1].map(u32::to_le_bytes).concat());
    bytes.extend([1, 0]);
    bytes.extend([3_u32, 0].map(u32::to_le_bytes).concat());
    bytes.extend(b"main\0\0\0\0\0\0\0\0\0\0\0\0");
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let address = 0xffff_ffff_c000_0000_u64.to_le_bytes().to_vec();
    for list in [
        slots.to_vec(),
        vec![0x90; 16],
        numbers(&[5]),
        [address.clone(), 0xffff_ffff_c000_0008_u64.to_le_bytes().to_vec()].concat(),
        numbers(&[8, 8]),
        numbers(&[0, main.0, 8, inner.0]),
        numbers(&[0, file, source, 3 << 10 | 5, 8, file, source, 4 << 10 | 5]),
        [address, 0xffff_ffff_c000_0008_u64.to_le_bytes().to_vec()].concat(),
        vec![1; 16],
        types.finish(),
    ] {
        bytes.extend(u16::try_from(list.len()).expect("a short list").to_le_bytes());
        bytes.extend(list);
    }
    bytes.extend(KALLSYMS);
    bytes
}

/// The note of a vDSO with the version.
fn vdso() -> Vec<u8> {
    [&[6_u32, 4, 0].map(u32::to_le_bytes).concat()[..], b"Linux\0\0\0", &0x0006_0c30_u32.to_le_bytes()].concat()
}

/// The names of all seeds, for a message.
pub fn names(target: &str) -> String {
    of(target).iter().fold(String::new(), |mut all, (name, bytes)| {
        let _ = write!(all, " {name}:{}", bytes.len());
        all
    })
}

const FORMAT: &[u8] = b"name: inet_sock_set_state\nID: 1413\nformat:\n\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\n\
\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
\tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
\nprint fmt: \"family=%s\", REC->family\n";

const MOUNTS: &[u8] = b"24 1 0:7 / /sys/kernel/debug rw - debugfs debugfs rw\n\
25 1 0:12 / /mnt/with\\040space rw,nosuid shared:3 - tracefs tracefs rw\n\
p:bpfkit/p12_345_0 tcp_close\nr16:bpfkit/p1_2_3 tcp_close\n";

const PRINTED: &[u8] = b"     curl-123     [001] d..31    12.345678: bpf_trace_printk: skbrecv eth0 len 60 proto 800\n\
 a [b-7 [000] .... 99.000001: 0x00000001: hello: there\n";

const KALLSYMS: &[u8] = b"ffffffff81000000 T _stext\nffffffff81000010 t tcp_close\nffffffff81000020 d tcp_close\n\
ffffffff81000030 t tcp_close\t[mod]\nffffffff81000040 t tcp_close.isra.0\nffffffff81000060 T __bpf_call_base\n\
ffffffffc0000000 t bpf_prog_6deef7357e7b4530_inner\t[bpf]\n";

const MAPS: &[u8] = b"55d0c0a00000-55d0c0b00000 r-xp 00012000 08:01 1234                       /usr/bin/cat\n\
7f0000001000-7f0000002000 rw-p 00001000 fe:0a 77                         /usr/lib/libc.so.6\n\
7f0000004000-7f0000005000 r-xp 00000000 00:1f 99                         /odd \\012dir/libc.so.6 (deleted)\n\
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0                          [vdso]\n";

const LISTS: &[u8] =
    b"0-1,4,6-7\n0\n6.12.48+deb13-amd64\n5.4.0-150-generic\n4.19.325\nnone [integrity] confidentiality\n";

const STATUS: &[u8] = b"Name:\tcat\nTgid:\t12\nPid:\t12\nPPid:\t1\nCapEff:\t000001ffffffffff\nmnt:[4026531841]\n";

const TEXT: &[u8] = b".license \"GPL v2\"\n.map counts hash key 4 value 8 max 1024\n\
.map .rodata array key 4 value 3 max 1 flags 0x80 data 68690a\n\
.section \"kprobe/tcp_connect\"\n.attach kprobe tcp_connect\n.func enter\n\
r6 = *(u64 *)(r1 + 8); w7 = -1; r1 = 0xffffffff00000001 ll;\nl4:\nr2 = *(s16 *)(r6 + 4);\n\
*(u64 *)(r10 - 8) = r2; lock *(u32 *)(r1 + 4) |= r3; r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2);\n\
if r2 s> 0x10000 goto l16; if w2 == w3 goto l4; r1 = map[counts]; call bpf_map_lookup_elem; call leave;\n\
l16: r1 = (s8)r2; r1 = bswap32 r1; gotol l4; insn(0xb7, 1, 3, 0, 5); exit;\n\
.func leave\nr0 = 0; exit;\n.bytes 01 0203\n";
