//! What the kernel says: rings, tracefs, its list of symbols, its verifier, its answers about programs.

use std::collections::HashSet;
use std::io::{Read, Seek};
use std::sync::OnceLock;

use bpfkit::Output;
use bpfkit::dump::{print_text, verifier as opinions};
use bpfkit_asm::{Names, Version, list};
use bpfkit_loader::verifier::{Diagnosis, Verdict, Walk};
use bpfkit_loader::{Event, Linked, Target, fuzzing};

use super::elf::with_file;
use crate::meter::within;

/// The bytes of a ring: whatever position they begin at, the same events come out, and tools make of each what they can.
pub(super) fn perf(bytes: &[u8]) {
    let events = |from: u64| {
        let (mut found, mut count) = (Vec::new(), 0);
        let ready = fuzzing::ring(bytes, from, 16, |event| {
            if let Event::Sample(sample) = event {
                found.push((sample.time, sample.data.to_vec()));
            }
            count += 1;
        });
        assert_eq!(ready, found.len());
        assert!(found.is_sorted_by_key(|&(time, _)| time));
        assert!(count <= bytes.len() / 8);
        found
    };
    let found = events(0);
    // Across the end of the ring, and across the end of what a position can count.
    for from in [0xfff8, u64::MAX - 15] {
        assert_eq!(events(from), found);
    }
    for (_, data) in &found {
        shown(data);
    }
    shown(bytes);
}

fn shown(record: &[u8]) {
    for line in bpfkit::fuzzing::events(record) {
        assert!(super::is_harmless(&line) && !line.contains('\n'), "{line:?}");
    }
}

/// Formats of records, tables of mounts, lists of probes, what programs print.
pub(super) fn tracefs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = fuzzing::tracefs(&text);
    for line in text.lines() {
        if let Some(device) = bpfkit::fuzzing::printed_event(line) {
            assert!(super::is_harmless(&device));
        }
    }
    let Some(format) = fuzzing::format(&text) else { return };
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, '*' | ';' | '[')) {
        let Some(field) = format.field(word) else { continue };
        assert!(!field.name.is_empty(), "{format:?}");
        let again = format!("field:u8 {word};\toffset:{};\tsize:{};\tsigned:0;", field.offset, field.size);
        assert_eq!(fuzzing::format(&again).and_then(|format| format.field(word).cloned()).as_ref(), Some(field));
    }
}

/// The list of symbols, by name and by address.
pub(super) fn kallsyms(bytes: &[u8]) {
    let symbols = fuzzing::symbols(bytes);
    for name in ["tcp_close", "a", "__bpf_call_base"] {
        let (addresses, variants) = fuzzing::kallsyms_find(bytes, name);
        let is_there = !addresses.is_empty() || !variants.is_empty();
        assert!(!is_there || fuzzing::kallsyms_has(bytes, name) == Some(true));
        let names = symbols.names(&addresses).expect("it is in memory");
        let named: HashSet<u64> = names.iter().map(|(address, _)| *address).collect();
        assert!(addresses.iter().all(|address| named.contains(address)), "{names:?}");
        assert!(variants.iter().all(|variant| variant.starts_with(name)));
    }
    assert_eq!(fuzzing::kallsyms_has(bytes, "").is_none(), bytes.is_empty());
}

/// A program for logs to speak of.
fn program() -> &'static Linked {
    static PROGRAM: OnceLock<Linked> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = Target::offline(None, Version::new(6, 12));
        crate::verifier::accepted().remove(0).link(&target).expect("the program needs nothing")
    })
}

/// The verifier's log: steps, paths, what is known at each, why the program was refused.
pub(super) fn verifier(bytes: &[u8]) {
    let log = String::from_utf8_lossy(bytes);
    // `1: R0=1` and `1: (95) exit` are a step and a state of which nothing else is known.
    let walk = within(40, bytes.len(), || Walk::parse(&log));
    assert!(walk.steps.len() <= log.len() && walk.paths.len() <= log.len() + 1);
    for (index, step) in walk.steps.iter().enumerate() {
        assert!(step.path < walk.paths.len(), "{step:?}");
        assert!(step.previous.is_none_or(|previous| previous < walk.steps.len()), "{index} {step:?}");
    }
    for path in &walk.paths {
        assert!(path.steps.end <= walk.steps.len() && path.from.is_none_or(|from| from < walk.steps.len()), "{path:?}");
    }
    let visits: usize = walk.slots().map(|(_, visits)| visits).sum();
    assert_eq!(visits, walk.steps.len());
    for (slot, _) in walk.slots().take(50) {
        for join in [walk.before(slot), walk.after(slot)].into_iter().flatten() {
            assert!(join.places.values().all(|held| !held.first.in_words().is_empty()));
        }
    }
    let last = walk.last_path();
    assert!(last.is_sorted_by(|a, b| a < b) && last.last().is_none_or(|&step| step < walk.steps.len()));
    let linked = program();
    let _ = Diagnosis::of(&walk, linked.insns());
    drop(walk);
    opinion(linked, log.into_owned());
}

/// What is printed beside a program's instructions.
fn opinion(linked: &Linked, log: String) {
    let refused = std::io::Error::from_raw_os_error(13);
    let verdict = Verdict::new(linked.clone(), log, Some(refused));
    let listing = opinions::annotated(&verdict, &[crate::verifier::map()], true);
    let text = with_file(&[], |file| {
        let mut output = Output::file(file.try_clone().expect("a descriptor"));
        print_text(&listing, &mut output).and_then(|()| output.flush()).expect("the file can be written");
        file.rewind().expect("the file can be read");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it is a text");
        text
    });
    assert!(super::is_harmless(&text), "{text:?}");
}

/// The kernel's answer about a program that is loaded.
pub(super) fn info(bytes: &[u8]) {
    let code = fuzzing::loaded(bytes).expect("it is in memory");
    let slots = code.insns.as_deref().unwrap_or_default();
    for listed in list(slots, &code) {
        assert!(!listed.to_string().is_empty());
        let _ = (code.map(listed.slot), code.function(listed.slot), code.line_at(listed.slot));
    }
    assert!(
        code.funcs.len() <= bytes.len() + 1
            && code.funcs.iter().all(|func| !func.name.is_empty() || func.proto.is_some())
    );
    for func in code.jited.iter().flatten() {
        assert!(func.bytes.len() <= bytes.len());
    }
}
