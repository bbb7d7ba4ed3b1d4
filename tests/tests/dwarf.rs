//! Types out of DWARF, against pahole, rustc and every kind of damage.

use std::collections::BTreeMap;
use std::process::Command;

use bpfkit_btf::{Btf, Kind, Type, cut};
use bpfkit_tests::programs::fixture;
use object::{Object as _, ObjectSection as _};

const FILES: [&str; 7] = ["mixed", "old", "compressed", "zstd", "zgnu", "units", "lto"];

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("dwarf/{name}.so"))).unwrap()
}

fn types(name: &str) -> Btf {
    Btf::from_dwarf(&bytes(name), None).unwrap_or_else(|error| panic!("{name}: {}", bpfkit::Chain(&error)))
}

#[test]
fn every_member_is_where_pahole_finds_it_in_every_version() {
    let expected = std::fs::read_to_string(fixture("dwarf/offsets.txt")).unwrap();
    assert!(expected.lines().count() > 40);
    for name in FILES {
        let btf = types(name);
        for line in expected.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let field = btf.field(words[0]).unwrap_or_else(|error| panic!("{name}: {error}"));
            let numbers: Vec<u32> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
            match field.bits {
                Some(bits) => {
                    assert_eq!((bits.offset, bits.size), (numbers[0] * 8 + numbers[1], numbers[2]), "{name}: {line}");
                }
                None => assert_eq!((field.offset, field.size), (numbers[0], numbers[1]), "{name}: {line}"),
            }
        }
    }
}

#[test]
fn types_are_spelt_as_the_source_has_them() {
    for name in FILES {
        let btf = types(name);
        for (path, spelt) in [
            ("node.links", "struct node **[2]"),
            ("node.later", "struct later *"),
            ("node.name", "const volatile char *"),
            ("node.visit", "int (*)(struct node *, enum color, ...)"),
            ("parts.matrix", "s64[3][4][5]"),
            ("parts.matrix[2]", "s64[4][5]"),
            ("parts.table", "struct node *[0]"),
            ("bits.h", "enum color"),
            ("tight.f", "_Bool"),
            ("tight.e", "double"),
            ("points_t[1].y", "u32"),
        ] {
            let field = btf.field(path).unwrap_or_else(|error| panic!("{name}: {error}"));
            // gcc puts volatile around const or the other way round, as it likes.
            let found = field.type_name.replace("volatile const", "const volatile");
            assert_eq!(found, spelt, "{name}: {path}");
        }
    }
}

#[test]
fn a_structure_that_two_units_know_is_there_once_and_two_of_one_name_are_there_twice() {
    for name in FILES {
        let btf = types(name);
        let mut counts = BTreeMap::<(Kind, String), usize>::new();
        for ty in btf.types().filter(|ty| !ty.name().is_empty()) {
            *counts.entry((ty.kind(), ty.name().into_owned())).or_default() += 1;
        }
        let count = |kind, name: &str| counts.get(&(kind, name.to_owned())).copied().unwrap_or_default();
        for known in ["node", "later", "bits", "parts", "tail", "tight", "holder", "other"] {
            assert_eq!(count(Kind::STRUCT, known), 1, "{name}: {known}");
        }
        assert_eq!(count(Kind::STRUCT, "twice"), 2, "{name}");
        assert_eq!(count(Kind::UNION, "either"), 1, "{name}");
        assert_eq!(count(Kind::TYPEDEF, "u32"), 1, "{name}");
        // What is defined anywhere has no forward declaration, what is not has one.
        assert_eq!((count(Kind::FWD, "never"), count(Kind::FWD, "later"), count(Kind::FWD, "either")), (1, 0, 0));
        // Each holder has the one of its unit, by value and behind the pointer.
        for (holder, size) in [("holder", 4), ("other", 16)] {
            assert_eq!(btf.field(&format!("{holder}.twice")).unwrap().size, size, "{name}");
            let pointer = btf.ty(btf.field(&format!("{holder}.pointer")).unwrap().ty).unwrap();
            assert_eq!(btf.ty(pointer.target().unwrap()).unwrap().size().unwrap(), size, "{name}");
        }
        assert!(btf.find("local", &[Kind::STRUCT]).is_none(), "{name}: a type of a function's body");
    }
}

fn values(ty: &Type<'_>) -> Vec<(String, i64)> {
    ty.values().map(|(name, value)| (name.into_owned(), value)).collect()
}

#[test]
fn enumerations_have_the_kind_that_their_values_need() {
    for name in FILES {
        let btf = types(name);
        let find = |tag: &str, kind| btf.find(tag, &[kind]).unwrap_or_else(|| panic!("{name}: {tag}"));
        let known =
            |pairs: &[(&str, i64)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect::<Vec<_>>();
        let color = find("color", Kind::ENUM);
        assert_eq!((values(&color), color.size().unwrap()), (known(&[("RED", 0), ("GREEN", 5), ("BLUE", 6)]), 4));
        assert_eq!(values(&find("sign", Kind::ENUM)), known(&[("MINUS", -1), ("PLUS", 1)]));
        assert_eq!(find("tiny", Kind::ENUM).size().unwrap(), 1);
        let big = find("big", Kind::ENUM64);
        assert_eq!(values(&big), known(&[("SMALL", 1), ("HUGE_VALUE", 0x1234_5678_9abc_def0)]), "{name}");
    }
}

#[test]
fn functions_have_their_parameters_by_name() {
    for name in FILES {
        let btf = types(name);
        let names = |func: &str| {
            let proto = btf.func_proto(func).unwrap_or_else(|error| panic!("{name}: {error}"));
            proto.params().map(|param| (param.name.into_owned(), btf.spell(param.ty))).collect::<Vec<_>>()
        };
        let pair = |name: &str, ty: &str| (name.to_owned(), ty.to_owned());
        assert_eq!(
            names("first_entry"),
            [
                pair("node", "struct node *"),
                pair("holder", "struct holder *"),
                pair("bits", "struct bits *"),
                pair("points", "point_t (*)[3]").clone(),
                pair("sign", "enum sign"),
                pair("big", "enum big"),
            ]
            .map(|(name, ty)| (name, if ty.starts_with("point_t") { "points_t *".to_owned() } else { ty })),
        );
        assert_eq!(names("walk"), [pair("node", "struct node *"), pair("point", "const point_t *")], "{name}");
        // What gcc writes before it optimizes the whole program does not tell which functions it will leave out.
        assert_eq!(btf.func_proto("inlined").is_ok(), name == "lto", "{name}");
    }
}

#[test]
fn what_roots_name_is_what_a_cut_of_all_types_leaves() {
    for name in FILES {
        let roots = ["tail", "parts.tiny", "second_entry", "node.later", "point_t", "no_such_type", "bits.gone"];
        let few = Btf::from_dwarf(&bytes(name), Some(&roots)).unwrap();
        let all = types(name);
        let present = all.present(&roots);
        assert_eq!(present, &roots[..5], "{name}");
        let (few, all) = (few, Btf::parse(cut(&all, &present).unwrap()).unwrap());
        assert!(few.as_bytes().len() < 1400, "{name}: {}", few.as_bytes().len());
        for path in ["tail.bits.c", "tail.values", "parts.tiny", "node.later", "point_t.y"] {
            let (few, all) = (few.field(path).unwrap(), all.field(path).unwrap());
            assert_eq!((few.offset, few.size, few.bits), (all.offset, all.size, all.bits), "{name}: {path}");
            assert_eq!(few.type_name, all.type_name, "{name}: {path}");
        }
        // A path takes no other member along.
        assert!(few.field("parts.both").is_err() && few.field("node.next").is_err(), "{name}");
        assert_eq!(few.field("parts").map(|field| field.size).unwrap(), 504, "{name}: sizes stay");
    }
}

const RUST: &str = "
#[repr(C)]
pub struct Point { pub x: u16, pub y: i64, pub list: [u32; 3], pub next: *const Point, pub kind: Kind, pub flag: bool, pub both: Both }
#[repr(u8)]
pub enum Kind { First = 1, Second = 9 }
#[repr(C)]
pub union Both { pub half: u32, pub whole: f64 }
#[unsafe(no_mangle)]
#[inline(never)]
pub extern \"C\" fn take_point(point: &Point, count: u64) -> u64 { count + u64::from(point.x) }
fn main() {
    let both = Both { half: 1 };
    let point = Point { x: 1, y: 2, list: [3; 3], next: std::ptr::null(), kind: Kind::Second, flag: true, both };
    std::process::exit(take_point(&point, std::env::args().count() as u64) as i32);
}
";

/// Strings by index and other forms that LLVM writes and gcc does not; and a program of some thousand structures.
#[test]
fn a_rust_program_is_understood_too() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("point.rs");
    std::fs::write(&source, RUST).unwrap();
    for version in ["4", "5"] {
        let program = directory.path().join(format!("point-{version}"));
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition=2024", "-g", "-C"]).arg(format!("dwarf-version={version}"));
        let output = rustc.arg("-o").arg(&program).arg(&source).output().expect("rustc starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let btf = Btf::from_dwarf_file(&program, None).unwrap_or_else(|error| panic!("{}", bpfkit::Chain(&error)));
        let place = |path: &str| btf.field(path).map(|field| (field.offset, field.size)).unwrap();
        for (path, known) in [
            ("Point.x", (0, 2)),
            ("Point.y", (8, 8)),
            ("Point.list", (16, 12)),
            ("Point.list[2]", (24, 4)),
            ("Point.next", (32, 8)),
            ("Point.kind", (40, 1)),
            ("Point.flag", (41, 1)),
            ("Point.both", (48, 8)),
            ("Point.both.whole", (48, 8)),
        ] {
            assert_eq!(place(path), known, "version {version}: {path}");
        }
        let kinds = btf.types().find(|ty| ty.kind() == Kind::ENUM && ty.name() == "Kind" && ty.size().ok() == Some(1));
        let known = |kind: &Type<'_>| values(kind) == [("First".to_owned(), 1), ("Second".to_owned(), 9)];
        assert!(kinds.is_some_and(|kind| known(&kind)), "version {version}");
        let params: Vec<String> =
            btf.func_proto("take_point").unwrap().params().map(|param| param.name.into_owned()).collect();
        assert_eq!(params, ["point", "count"], "version {version}");
        let few = Btf::from_dwarf_file(&program, Some(&["Point.both"])).unwrap();
        assert_eq!(few.field("Point.both").unwrap().offset, 48);
        assert!(few.len() < 10, "{}", few.len());
    }
}

/// Where the debugging sections are in a file.
fn debug_sections(bytes: &[u8]) -> std::ops::Range<usize> {
    let find = |name: &[u8]| bytes.windows(name.len()).position(|window| window == name);
    // They follow each other, from what the compiler's name is in to the symbols; the ELF header and the table stay out of it.
    assert!(find(b"debug_info\0").is_some());
    0x200..bytes.len() - 64 * 20
}

/// Looks at all there is, so that damage anywhere would be met.
fn walk(bytes: &[u8]) -> bool {
    let roots = ["tail", "parts.tiny", "second_entry", "node.later", "point_t"];
    let few = Btf::from_dwarf(bytes, Some(&roots)).is_ok();
    let Ok(btf) = Btf::from_dwarf(bytes, None) else { return few };
    assert!(btf.as_bytes().len() < 1 << 20, "{} bytes out of {}", btf.as_bytes().len(), bytes.len());
    for ty in btf.types() {
        let _ = (ty.size(), btf.spell(ty.id), ty.members().count(), ty.params().count());
    }
    true
}

#[test]
fn a_file_that_is_cut_anywhere_does_no_harm() {
    for name in FILES {
        let bytes = bytes(name);
        assert!(walk(&bytes));
        for end in (0..bytes.len()).step_by(197) {
            walk(&bytes[..end]);
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_does_no_harm() {
    let mut good = 0;
    let mut bad = 0;
    for name in FILES {
        let bytes = bytes(name);
        for at in debug_sections(&bytes).step_by(11) {
            let mut bytes = bytes.clone();
            bytes[at] = match at % 4 {
                0 => bytes[at] ^ 1,
                1 => 0xff,
                2 => bytes[at].wrapping_add(1),
                _ => bytes[at] ^ 0x80,
            };
            if walk(&bytes) { good += 1 } else { bad += 1 }
        }
    }
    // Most changes are of offsets and names, and many are noticed.
    assert!(good > 500 && bad > 500, "{good} {bad}");
}

/// A shared object whose section `.debug_info` is this, and its abbreviations.
fn with_sections(info: &[u8], abbreviations: &[u8]) -> Vec<u8> {
    let names = b"\0.debug_info\0.debug_abbrev\0.shstrtab\0";
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    file.resize(64, 0);
    let mut sections = vec![[0_u64; 3]];
    for (name, bytes) in [(1, info), (13, abbreviations), (27, &names[..])] {
        sections.push([name, file.len() as u64, bytes.len() as u64]);
        file.extend(bytes);
    }
    let table = file.len() as u64;
    for [name, start, size] in sections {
        let kind = if name == 0 {
            0_u64
        } else if name == 27 {
            3
        } else {
            1
        };
        file.extend((name | kind << 32).to_le_bytes());
        for word in [0, 0, start, size, 0, 1, 0] {
            file.extend(u64::to_le_bytes(word));
        }
    }
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 3, 0]);
    file
}

/// A unit of version 4 whose entries are these.
fn unit(entries: &[u8]) -> Vec<u8> {
    let mut unit = u32::try_from(entries.len() + 7).unwrap().to_le_bytes().to_vec();
    unit.extend([4, 0, 0, 0, 0, 0, 8]);
    unit.extend(entries);
    unit
}

/// A unit; a pointer, a typedef and a structure, each with a reference of one byte; a member; a reference to a sibling.
const ABBREVIATIONS: &[u8] = &[
    1, 0x11, 1, 0, 0, // compile unit with children
    2, 0x0f, 0, 0x49, 0x11, 0, 0, // pointer: type
    3, 0x16, 0, 3, 8, 0x49, 0x11, 0, 0, // typedef: name, type
    4, 0x13, 1, 3, 8, 0x0b, 0x0b, 0, 0, // structure with children: name, size
    5, 0x0d, 0, 3, 8, 0x49, 0x11, 0x38, 0x0b, 0, 0, // member: name, type, location
    6, 0x13, 1, 1, 0x11, 0, 0, // structure with children: sibling
    0,
];

#[test]
fn types_that_are_made_of_themselves_are_an_error_and_cycles_through_pointers_are_none() {
    let read = |entries: &[u8]| Btf::from_dwarf(&with_sections(&unit(entries), ABBREVIATIONS), None);
    // `struct s { struct s *p; }`: the structure at 12, its member's type at 22.
    let entries = [1, 4, b's', 0, 8, 5, b'p', 0, 22, 0, 0, 2, 12, 0];
    let list = read(&entries).unwrap();
    assert_eq!(list.field("s.p").unwrap().type_name, "struct s *");
    // `struct s { struct s p; }`, a typedef of itself, a pointer to a typedef to the pointer.
    for entries in
        [&[1, 4, b's', 0, 8, 5, b'p', 0, 12, 0, 0, 0][..], &[1, 3, b't', 0, 12, 0], &[1, 2, 14, 3, b't', 0, 12, 0]]
    {
        let error = read(entries).unwrap_err().to_string();
        assert!(error.contains("made of themselves"), "{error}");
    }
}

#[test]
fn a_sibling_before_its_entry_does_not_go_in_circles() {
    // The structure at 12 says that it goes on at 11, where the unit began.
    let bytes = with_sections(&unit(&[1, 6, 11, 0, 0]), ABBREVIATIONS);
    let _ = Btf::from_dwarf(&bytes, None);
    let _ = Btf::from_dwarf(&bytes, Some(&["s"]));
}

#[test]
fn thousands_of_types_within_each_other_are_an_error_and_no_overflow() {
    // Typedefs of one letter; the first is of the second and so on, and references have two bytes here.
    let abbreviations = [1, 0x11, 1, 0, 0, 3, 0x16, 0, 3, 8, 0x49, 0x12, 0, 0, 0];
    let mut entries = vec![1];
    for index in 0..10_000_u16 {
        entries.extend([3, b't', 0]);
        entries.extend((12 + 5 * (index + 1)).to_le_bytes());
    }
    // The last one is of the unit itself, which is no type, and so `void`.
    entries.extend([3, b't', 0, 11, 0, 0]);
    let error = Btf::from_dwarf(&with_sections(&unit(&entries), &abbreviations), None).unwrap_err().to_string();
    assert!(error.contains("too deeply"), "{error}");
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    let why = |bytes: &[u8]| bpfkit::Chain(&Btf::from_dwarf(bytes, None).unwrap_err()).to_string();
    let mut object = bytes("mixed");
    object[16] = 1;
    assert!(why(&object).contains("not linked"), "{}", why(&object));
    assert!(why(b"\x7fELFgarbage").contains("ELF"), "{}", why(b"\x7fELFgarbage"));
    assert!(why(&with_sections(&unit(&[1, 0]), ABBREVIATIONS)).contains("no types"));
    for (name, said) in [
        ("split4", "split (-gsplit-dwarf)"),
        ("split5", "split (-gsplit-dwarf)"),
        ("types4", ".debug_types"),
        ("dwz", "another file (dwz -m)"),
        ("narrow", "32 bits"),
    ] {
        for roots in [None, Some(&["node.later"][..])] {
            let error = Btf::from_dwarf(&bytes(name), roots).map(drop);
            let error = bpfkit::Chain(&error.expect_err(name)).to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
    // A section that claims to be larger than it can be when it is inflated.
    let mut compressed = bytes("compressed");
    let info = compressed.windows(12).position(|window| window[..4] == [1, 0, 0, 0] && window[8..] == [0xbe, 9, 0, 0]);
    let size = info.expect("the header of .debug_info") + 8;
    compressed[size + 4] = 1;
    assert!(why(&compressed).contains("more than it can be"), "{}", why(&compressed));
    // 32 times its size is the most: what says so is inflated, and found to be less; a byte more is not.
    let sample = bytes("compressed");
    let header = u64::try_from(size - 8).unwrap();
    let file = object::File::parse(&*sample).unwrap();
    let ranges = file.sections().filter_map(|section| section.file_range());
    let (_, length) = ranges.into_iter().find(|&(start, _)| start == header).expect("the section of .debug_info");
    let most = (length - 24) * 32;
    for (claimed, said) in [(most, "does not match"), (most + 1, "more than it can be")] {
        compressed[size..size + 8].copy_from_slice(&claimed.to_le_bytes());
        assert!(why(&compressed).contains(said), "{claimed}: {}", why(&compressed));
    }
}
