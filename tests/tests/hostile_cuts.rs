//! Real files and what kernels have said, cut off at every byte, and with each byte changed: nothing panics, and what is read keeps its
//! promises. `-- --nocapture` prints how often what was tried.

use std::time::Duration;

use bpfkit_btf::Btf;
use bpfkit_tests::hostile::{Target, named, seeds};
use bpfkit_tests::meter::{Meter, worked};
use bpfkit_tests::programs::fixture;

#[global_allocator]
static METER: Meter = Meter;

/// What a byte becomes: nothing, the largest, another sign, the next.
const CHANGES: [fn(u8) -> u8; 4] = [|_| 0, |_| 0xff, |byte| byte ^ 0x80, |byte| byte.wrapping_add(1)];

/// How many of the possible cuts and changes are tried: each, or every so manieth where each takes long. Steps are prime, so that they
/// meet each byte of words and structures in turn.
#[derive(Clone, Copy)]
struct Steps {
    cuts: usize,
    changes: usize,
}

const ALL: Steps = Steps { cuts: 1, changes: 1 };

/// Calls `read` with each cut and change, and prints how often and for how long it was on a processor.
fn damage(what: &str, name: &str, bytes: &[u8], steps: Steps, read: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let check = |bytes: &[u8], how: &dyn Fn() -> String| {
        let result = std::panic::catch_unwind(|| read(bytes));
        assert!(result.is_ok(), "{what} fails for {name} {}", how());
    };
    let started = worked();
    let (mut cuts, mut changes) = (0, 0);
    for end in (0..bytes.len()).step_by(steps.cuts) {
        check(&bytes[..end], &|| format!("cut at {end}"));
        cuts += 1;
    }
    let cut = worked() - started;
    let mut changed = bytes.to_vec();
    for n in (0..bytes.len() * CHANGES.len()).step_by(steps.changes) {
        let at = n / CHANGES.len();
        changed[at] = CHANGES[n % CHANGES.len()](bytes[at]);
        if changed[at] != bytes[at] {
            check(&changed, &|| format!("with {:#x} at {at}", changed[at]));
            changes += 1;
        }
        changed[at] = bytes[at];
    }
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "{what:13} {name:13} {:6} bytes {cuts:6} cuts {:6.2} s {changes:7} changes {:6.2} s",
        bytes.len(),
        seconds(cut),
        seconds(worked() - started - cut)
    );
}

/// The fixtures of a folder that end so.
fn files(folder: &str, end: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(fixture(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect();
    assert!(!found.is_empty());
    found.sort();
    found
}

fn damage_all(target: &str, inputs: Vec<(String, Vec<u8>)>, steps: Steps) {
    let target: Target = named(target);
    inputs.iter().for_each(|(name, bytes)| damage(target.name, name, bytes, steps, |bytes| target.check(bytes)));
}

/// Reads types as a tool does, which takes a hundredth of the time of printing them all.
fn look_up(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    let names: usize = btf.types().map(|ty| ty.name().len() + ty.members().count()).sum();
    assert!(names <= bytes.len() * btf.len().max(1));
    for path in ["task_struct.tgid", "sock.__sk_common.skc_dport", "sk_buff.len", "linux_binprm.filename"] {
        if let Ok(field) = btf.field(path) {
            assert!(field.offset <= u32::MAX / 8 + 1, "{field:?}");
        }
    }
}

#[test]
fn types_of_kernels() {
    for (name, bytes) in files("btf", ".btf") {
        let steps = if bytes.len() < 10_000 { ALL } else { Steps { cuts: 1, changes: 23 } };
        damage("types", &name, &bytes, steps, look_up);
    }
    damage_all("btf", files("btf", ".btf"), Steps { cuts: 1, changes: 9973 });
}

#[test]
fn libraries_with_debugging_information() {
    damage_all("dwarf", files("dwarf", ".so"), Steps { cuts: 1, changes: 31 });
}

#[test]
fn programs_and_libraries() {
    damage_all("elf", seeds::of("elf"), ALL);
    damage_all("elf", files("dwarf", "s.so"), Steps { cuts: 1, changes: 11 });
    damage_all("usdt", seeds::of("usdt"), ALL);
}

#[test]
fn what_the_kernel_says() {
    for target in ["perf", "tracefs", "kallsyms", "info", "proc", "hex"] {
        damage_all(target, seeds::of(target), ALL);
    }
}

#[test]
fn logs_of_the_verifier() {
    damage_all("verifier", files("verifier", ".log"), Steps { cuts: 251, changes: 997 });
}

#[test]
fn programs_as_text_and_as_bytes() {
    damage_all("assembler", seeds::of("assembler"), Steps { cuts: 1, changes: 3 });
    damage_all("disassembler", seeds::of("disassembler"), Steps { cuts: 13, changes: 101 });
}
