//! Functions found in ELF files: small ones that are made here, cut and damaged everywhere, and this very program.

use std::fs;
use std::path::PathBuf;

use bpfkit_loader::{Arch, Elf, Error, Symbol};

const DYNSYM: u32 = 11;
const SYMTAB: u32 = 2;
const FUNC: u8 = 2;
const IFUNC: u8 = 10;

/// A function to be written: name, address, type.
type Func = (&'static str, u64, u8);

/// A library whose second segment, which is run, has the addresses 0x2000 to 0x3000 at 0x1000 of the file.
fn library(tables: &[(u32, &[Func])]) -> Vec<u8> {
    let machine: u16 = match Arch::running().unwrap() {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
        _ => 243,
    };
    let mut sections = vec![[0_u64; 8]];
    let mut body = Vec::new();
    let begin = 64 + 2 * 56;
    for &(kind, funcs) in tables {
        let mut strings = vec![0_u8];
        let mut symbols = vec![0_u8; 24];
        for &(name, value, ty) in funcs {
            symbols.extend(u32::try_from(strings.len()).unwrap().to_ne_bytes());
            symbols.extend([1 << 4 | ty, 0]);
            symbols.extend(u16::from(value != 0).to_ne_bytes());
            symbols.extend(value.to_ne_bytes());
            symbols.extend(16_u64.to_ne_bytes());
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let link = u64::try_from(sections.len() + 1).unwrap();
        for (kind, link, bytes) in [(kind, link, symbols), (3, 0, strings)] {
            let at = u64::try_from(begin + body.len()).unwrap();
            sections.push([u64::from(kind) << 32, 0, 0, at, u64::try_from(bytes.len()).unwrap(), link, 8, 24]);
            body.extend(bytes);
            body.resize(body.len().next_multiple_of(8), 0);
        }
    }
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3_u16, machine].map(u16::to_ne_bytes).concat());
    file.extend(1_u32.to_ne_bytes());
    file.extend([0, 64, u64::try_from(begin + body.len()).unwrap()].map(u64::to_ne_bytes).concat());
    file.extend(0_u32.to_ne_bytes());
    let count = u16::try_from(sections.len()).unwrap();
    file.extend([64, 56, 2, 64, count, 0].map(u16::to_ne_bytes).concat());
    for (flags, offset, address) in [(4_u64, 0, 0), (5, 0x1000, 0x2000)] {
        let words = [flags << 32 | 1, offset, address, address, 0x1000, 0x1000, 0x1000];
        file.extend(words.map(u64::to_ne_bytes).concat());
    }
    file.extend(body);
    sections.iter().for_each(|words| file.extend(words.map(u64::to_ne_bytes).concat()));
    file
}

/// A file that goes with the value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("bpfkit-elf-{name}-{}", std::process::id())))
    }

    fn functions(&self, bytes: &[u8], names: &[&str]) -> Result<Vec<Symbol>, Error> {
        fs::write(&self.0, bytes).unwrap();
        Elf::open(&self.0)?.functions(names)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Name, place in the file, whether it is indirect.
fn places(symbols: &[Symbol]) -> Vec<(&str, u64, bool)> {
    symbols.iter().map(|symbol| (symbol.name.as_str(), symbol.offset, symbol.is_indirect)).collect()
}

#[test]
fn a_function_is_found_by_its_name_and_placed_by_its_segment() {
    let file = Temporary::new("place");
    let bytes = library(&[(DYNSYM, &[("other", 0x2010, FUNC), ("getaddrinfo", 0x2340, FUNC)])]);
    let found = file.functions(&bytes, &["getaddrinfo", "gethostbyname"]).unwrap();
    let expected = Symbol { name: "getaddrinfo".into(), value: 0x2340, size: 16, offset: 0x1340, is_indirect: false };
    assert_eq!(found, [expected]);
}

/// `f@V1` and `f@@V2` have one name; what is theirs alone is found, and an address that two of them share only once.
#[test]
fn versions_of_a_function_are_all_found_and_none_twice() {
    let file = Temporary::new("versions");
    let funcs = [("f", 0x2100, FUNC), ("f", 0x2200, FUNC), ("f", 0x2100, FUNC), ("ff", 0x2300, FUNC)];
    let found = file.functions(&library(&[(DYNSYM, &funcs)]), &["f"]).unwrap();
    assert_eq!(places(&found), [("f", 0x1100, false), ("f", 0x1200, false)]);
}

/// Each would be compared with all others, and then probed: a process can map a library with millions of them.
#[test]
fn a_file_with_very_many_functions_of_one_name_is_refused() {
    let file = Temporary::new("many");
    let funcs = |count: u64| (0x2000..0x2000 + count).map(|at| ("f", at, FUNC)).collect::<Vec<Func>>();
    assert_eq!(file.functions(&library(&[(DYNSYM, &funcs(256))]), &["f"]).unwrap().len(), 256);
    let error = file.functions(&library(&[(DYNSYM, &funcs(257))]), &["f"]).unwrap_err().to_string();
    assert!(error.contains("more than 256 functions"), "{error}");
}

#[test]
fn what_only_the_larger_table_has_is_found_there_and_the_rest_is_not_looked_for_twice() {
    let file = Temporary::new("symtab");
    let tables: [(u32, &[Func]); 2] =
        [(DYNSYM, &[("f", 0x2100, FUNC)]), (SYMTAB, &[("f", 0x2180, FUNC), ("g", 0x2200, FUNC)])];
    let found = file.functions(&library(&tables), &["f", "g"]).unwrap();
    assert_eq!(places(&found), [("f", 0x1100, false), ("g", 0x1200, false)]);
}

#[test]
fn an_indirect_function_is_told_and_what_is_no_function_is_passed_over() {
    let file = Temporary::new("indirect");
    let funcs = [("f", 0x2100, IFUNC), ("data", 0x2200, 1), ("undefined", 0, FUNC)];
    let found = file.functions(&library(&[(DYNSYM, &funcs)]), &["f", "data", "undefined"]).unwrap();
    assert_eq!(places(&found), [("f", 0x1100, true)]);
}

#[test]
fn what_is_no_library_of_this_machine_is_told_what_it_is() {
    let file = Temporary::new("other");
    let good = library(&[(DYNSYM, &[("f", 0x2100, FUNC)])]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, why) in [
        (b"127.0.0.1 localhost\n".to_vec(), "no ELF file"),
        (Vec::new(), "too short"),
        (good[..40].to_vec(), "header"),
        (changed(4, 1), "32-bit"),
        (changed(18, 40), "another machine"),
        (library(&[]), "neither .dynsym nor .symtab: it is stripped"),
        (library(&[(DYNSYM, &[("f", 0x5000, FUNC)])]), "in no segment that is run"),
        (library(&[(DYNSYM, &[("f", 0x100, FUNC)])]), "in no segment that is run"),
    ] {
        let error = file.functions(&bytes, &["f"]).map(drop).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("bpfkit-elf-other"), "{why}: {error}");
    }
    let directory = Elf::open(std::env::temp_dir()).map(drop).unwrap_err().to_string();
    assert!(directory.contains("it is a directory"), "{directory}");
    let missing = Elf::open("/no/such/file").map(drop).unwrap_err().to_string();
    assert!(missing.contains("/no/such/file"), "{missing}");
}

/// A file that says that it has a table of a terabyte, and is as long: it takes no room on the disk, and must take none here.
#[test]
fn a_table_that_is_larger_than_any_is_not_read() {
    let file = Temporary::new("large");
    let good = library(&[(DYNSYM, &[("f", 0x2100, FUNC)])]);
    let sections = good.len() - 3 * 64;
    // The size of .dynsym; and that of the nameless first section, which is the number of sections where the header has none.
    for (at, number, why) in
        [(sections + 64 + 32, 24 << 36, "table of 1649267441664 bytes"), (sections + 32, 1 << 34, "e_shnum")]
    {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&u64::to_ne_bytes(number));
        if at == sections + 32 {
            bytes[60..62].fill(0);
        }
        fs::write(&file.0, &bytes).unwrap();
        if fs::OpenOptions::new().write(true).open(&file.0).unwrap().set_len(1 << 42).is_err() {
            eprintln!("skipped: this file system has no files of a few terabytes");
            return;
        }
        let error = Elf::open(&file.0).unwrap().functions(&["f"]).map(drop).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn cut_and_damaged_files_give_errors_or_functions_and_never_a_panic() {
    let file = Temporary::new("damage");
    let tables: [(u32, &[Func]); 2] = [(DYNSYM, &[("f", 0x2100, FUNC)]), (SYMTAB, &[("g", 0x2200, IFUNC)])];
    let good = library(&tables);
    for length in 0..good.len() {
        let found = file.functions(&good[..length], &["f", "g"]);
        assert!(found.is_err(), "with {length} of {} bytes: {found:?}", good.len());
    }
    let mut errors = 0;
    for byte in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[byte] ^= 1 << bit;
            errors += usize::from(file.functions(&bytes, &["f", "g"]).is_err());
        }
    }
    assert!(errors > 100, "{errors}");
}

/// This program is static, so its C library's functions are its own. One is found where it is.
#[test]
fn the_functions_of_this_program_are_found() {
    let elf = Elf::open("/proc/self/exe").unwrap();
    let found = elf.functions(&["getaddrinfo", "malloc", "no_such_function"]).unwrap();
    let malloc = found.iter().find(|symbol| symbol.name == "malloc").unwrap();
    assert!(malloc.size > 0 && malloc.offset < fs::metadata("/proc/self/exe").unwrap().len());
    assert!(found.iter().all(|symbol| symbol.name != "no_such_function"));
    // It can be asked again, and by the place that it says.
    assert_eq!(Elf::open(elf.place()).unwrap().functions(&["malloc"]).unwrap().first(), Some(malloc));
    assert_eq!(Elf::open(elf.place()).unwrap().id(), elf.id());
}
