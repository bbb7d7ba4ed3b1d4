//! Programs and libraries: their symbols, their probes.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use bpfkit_asm::{Asm, Reg, Version};
use bpfkit_loader::usdt::Arg;
use bpfkit_loader::{Arch, Elf, Target, Usdt};

thread_local! {
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Runs something with a file that holds these bytes, at its start.
pub(super) fn with_file<T>(bytes: &[u8], run: impl FnOnce(&mut File) -> T) -> T {
    FILE.with_borrow_mut(|file| {
        let open = || tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).expect("a temporary file");
        let file = file.get_or_insert_with(open);
        file.set_len(0).and_then(|()| file.rewind()).expect("the file can be cut");
        file.write_all(bytes).and_then(|()| file.rewind()).expect("the file can be written");
        run(file)
    })
}

const NAMES: [&str; 4] = ["getaddrinfo", "gethostbyname", "first", "main"];

/// Functions of a library, and its probes, as they are read from a file.
pub(super) fn elf(bytes: &[u8]) {
    with_file(bytes, |file| {
        let elf =
            Elf::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it can be opened").named("it".into());
        let functions = elf.functions(&NAMES);
        for function in functions.iter().flatten() {
            assert!(NAMES.contains(&function.name.as_str()), "{function:?} was not asked for");
            assert!(function.value != 0);
        }
        if let Ok(from_file) = Usdt::of(&elf, "it".as_ref()) {
            let from_bytes = Usdt::of_bytes(bytes, "it").expect("what can be read from a file can be read from memory");
            assert_eq!(from_file, from_bytes);
        }
    });
}

/// Probes out of notes, their arguments, and the instructions that read these.
pub(super) fn usdt(bytes: &[u8]) {
    // A line of arguments by itself gets further than one that has to be in a file.
    if let Some(text) = super::text(bytes).filter(|text| !text.starts_with('\u{7f}')) {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            let _ = Arg::parse(text, arch);
        }
    }
    let Ok(probes) = Usdt::of_bytes(bytes, "it") else { return };
    let target = Target::offline(None, Version::new(6, 12));
    for probe in probes {
        assert!(probe.arguments.len() <= bytes.len());
        let count = probe.args().map_or(0, |args| args.len());
        for n in 0..count.min(20) {
            if let Ok(code) = probe.read_arg(n, &target, Reg::R7, Reg::R6, -8) {
                let mut whole = Asm::new();
                whole.splice(code);
                whole.exit();
                let code = whole.finish().expect("an argument that is taken can be read");
                assert!(code.insns().len() < 40, "{}", code.insns().len());
            }
        }
        let _ = probe.attach();
    }
}
