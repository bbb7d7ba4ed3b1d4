//! `bpfkit dump --explain`: what instructions do, in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use bpfkit::dump::explain::{Place, explain};
use bpfkit::dump::{Listing, Row};
use bpfkit_asm::{Asm, Version};
use bpfkit_loader::{Attach, MapSpec, ProgSpec, Target};
use bpfkit_tests::forms;
use bpfkit_tests::programs::{check_file, fixture, printed, subject, target};

/// The rows of a program at a kprobe on tcp_v4_connect, with their explanations.
fn explained(text: &str) -> Vec<Row> {
    let target = target(Version::new(7, 2), "7.2");
    let code = Asm::parse(text, "test").unwrap_or_else(|error| panic!("{text}: {error}"));
    let attach = Attach::Kprobe { symbol: "tcp_v4_connect".to_owned(), offset: 0 };
    let spec = ProgSpec::new("test", attach, code).unwrap();
    let maps = [MapSpec::hash("sockets", 8, 8, 1), MapSpec::percpu_array("counters", 8, 1)];
    let mut listing = Listing::of(&spec.link(&target).unwrap(), &maps);
    explain(&mut listing, &Place::of(&spec.attach, &target));
    listing.rows
}

/// The explanation of the last instruction.
fn last(text: &str) -> String {
    explained(text).pop().and_then(|row| row.explanation).unwrap()
}

#[test]
fn every_form_has_a_sentence_of_its_own() {
    let mut sentences = BTreeMap::<String, String>::new();
    for form in forms::all() {
        let sentence = last(&format!("{};", form.text));
        assert!(!sentence.is_empty() && !sentence.contains("known"), "{}: {sentence}", form.text);
        if let Some(other) = sentences.insert(sentence.clone(), form.text.clone()) {
            // Adding what is below zero is subtracting.
            let same = [("r5 -= 7", "r5 += -7"), ("w5 -= 7", "w5 += -7")];
            assert!(same.contains(&(form.text.as_str(), other.as_str())), "{} and {other}: {sentence}", form.text);
        }
    }
}

#[test]
fn sentences_fit_their_operands() {
    let call = "call bpf_get_current_pid_tgid; *(u64 *)(r10 - 8) = r0;";
    let lookup = "r1 = map[sockets]; r2 = r10; r2 += -8; call bpf_map_lookup_elem;";
    let copy = "r3 += sock.__sk_common.skc_portpair; r2 = 4; r1 = r10; r1 += -16; call bpf_probe_read_kernel;";
    for (text, sentence) in [
        (
            "r6 = r1;",
            "keep the context (the CPU's registers when tcp_v4_connect is called) in r6, which calls leave alone",
        ),
        (
            "r6 = *(u64 *)(r1 + ctx.arg1);",
            "r6 = `sk` of tcp_v4_connect, its argument 1 (struct sock *), from the context",
        ),
        (
            "r3 = *(u64 *)(r1 + ctx.arg1); r3 += sock.__sk_common.skc_dport;",
            "r3 = the address of sock.__sk_common.skc_dport: byte 12 of the struct sock that r3 points to",
        ),
        (
            &format!("r3 = *(u64 *)(r1 + ctx.arg1); {copy}"),
            "copy 4 bytes of the kernel's memory (sock.__sk_common.skc_portpair) to the stack at r10-16; r0 = 0, or a negative error",
        ),
        // The half of the pair has a name of its own.
        (
            &format!("r3 = *(u64 *)(r1 + ctx.arg1); {copy} r1 = *(u16 *)(r10 - 16);"),
            "r1 = sock.__sk_common.skc_dport, from 2 bytes on the stack at r10-16, in the network's order",
        ),
        (
            &format!("r3 = *(u64 *)(r1 + ctx.arg1); {copy} r1 = *(u16 *)(r10 - 16); if r1 == 0x5000 goto +0;"),
            "if r1 (sock.__sk_common.skc_dport) is 80 (20480 in the network's order of bytes), go to 8",
        ),
        (&format!("{call} r0 >>= 32;"), "r0 = the number of the process: the upper 32 bits, moved down"),
        (
            &format!("{call} {lookup}"),
            "look in map `sockets`: key = the pair of process and thread numbers (8 bytes of the stack at r10-8); r0 = the address of its value, or 0 if there is none",
        ),
        (&format!("{call} {lookup} if r0 == 0 goto +0;"), "if map `sockets` has no such key (r0 is 0), go to 8"),
        (
            &format!("{call} {lookup} if r0 == 0 goto +1; r7 = *(u64 *)(r0 + 0);"),
            "r7 = the first 8 bytes of the value in map `sockets`",
        ),
        // What is known of the stack is forgotten where it is written over, or may have been.
        (
            &format!("{call} *(u32 *)(r10 - 4) = 7; {lookup}"),
            "look in map `sockets`: key = 8 bytes of the stack at r10-8 (7); r0 = the address of its value, or 0 if there is none",
        ),
        (
            &format!("{call} r1 = r10; r1 += -8; r2 = 8; r3 = 0; call bpf_get_stack; {lookup}"),
            "look in map `sockets`: key = 8 bytes of the stack at r10-8; r0 = the address of its value, or 0 if there is none",
        ),
        // Where ways meet, what only one knows is forgotten.
        ("r0 = 5; if r1 == 0 goto l; r0 = 6; l: r2 = r0;", "copy r0 to r2"),
        ("r0 = 5; if r1 == 0 goto l; r2 = 6; l: r2 = r0;", "r2 = r0, 5"),
        ("r0 = 5; l: r0 += 1; if r0 < 9 goto l;", "if r0 is less than 9, go back to `l`"),
        ("r1 = -1; r1 &= 255;", "keep the lower 8 bits of r1 and clear the others, which makes 255"),
        ("r2 = 100000; call bpf_ktime_get_ns; r0 = r2;", "copy r2 to r0"),
        (
            "r2 = 3; r1 = map[counters]; call bpf_tail_call;",
            "go on in a program of a map and never come back (ctx: map `counters`, prog_array_map: 3)",
        ),
        ("r0 = 0; exit;", "end the program with r0 = 0: perf records nothing of its own"),
    ] {
        assert_eq!(last(text), sentence, "{text}");
    }
}

/// The sentence is said where the register is made ready, and not where it is made for something else.
#[test]
fn what_a_register_is_for_is_told() {
    let rows = explained("r2 = r10; r2 += -8; r1 = map[sockets]; r3 = 5; call bpf_map_delete_elem; r1 = 1;");
    let sentences: Vec<&str> = rows.iter().filter_map(|row| row.explanation.as_deref()).collect();
    assert_eq!(sentences[0], "r2 = r10, the top of the stack");
    assert_eq!(sentences[1], "r2 = the address r10-8 on the stack: `key` for bpf_map_delete_elem");
    assert!(sentences[2].ends_with("8-byte values: `map` for bpf_map_delete_elem"), "{}", sentences[2]);
    assert_eq!((sentences[3], sentences[5]), ("r3 = 5", "r1 = 1"));
}

/// What has no meaning is said to have none, and nothing that an instruction can say is taken for granted.
#[test]
fn any_bytes_have_a_sentence() {
    let target = Target::offline(None, Version::new(7, 2));
    let mut listing = Listing::of(
        &ProgSpec::new("any", Attach::None, Asm::parse("exit;", "any").unwrap()).unwrap().link(&target).unwrap(),
        &[],
    );
    let row = listing.rows[0].clone();
    listing.rows.clear();
    for code in 0..=255_u8 {
        for (regs, off, imm) in [(0, 0, 0), (0xff, i16::MIN, i32::MIN), (0x1a, 1, -1), (0xa1, i16::MAX, i32::MAX)] {
            let [low, high] = i16::to_le_bytes(off);
            let [a, b, c, d] = i32::to_le_bytes(imm);
            let insn = bpfkit_asm::Insn::from_le_bytes([code, regs, low, high, a, b, c, d]);
            let slot = listing.rows.len();
            let to = insn.jump().and_then(|distance| (slot + 1).checked_add_signed(isize::try_from(distance).ok()?));
            listing.rows.push(Row { slot, insn, text: insn.to_string(), to, helper: insn.helper(), ..row.clone() });
        }
    }
    explain(&mut listing, &Place::of_kind("kprobe"));
    assert!(listing.rows.iter().all(|row| row.explanation.as_ref().is_some_and(|words| !words.is_empty())));
}

/// A long program with as many branches as can be is explained at once, and its loops come to an end.
#[test]
fn large_programs_take_no_more_than_their_share() {
    let mut text = String::new();
    for index in 0..20_000 {
        let _ = write!(
            text,
            "l{index}: *(u64 *)(r10 - {}) = r{}; r{} += {index}; if r1 > {index} goto l{};",
            index % 64 * 8 + 8,
            index % 10,
            index % 9,
            index / 2
        );
    }
    let spec = ProgSpec::new("large", Attach::None, Asm::parse(&text, "large").unwrap()).unwrap();
    let target = Target::offline(None, Version::new(7, 2));
    let mut listing = Listing::of(&spec.link(&target).unwrap(), &[]);
    let begin = std::time::Instant::now();
    explain(&mut listing, &Place::of(&spec.attach, &target));
    assert_eq!(listing.rows.iter().filter(|row| row.explanation.is_some()).count(), 60_000);
    // It takes 4 seconds without optimization.
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

/// The explanations of two tools, to be read as a person would who learns. `BLESS=1` rewrites them.
#[test]
fn explanations_are_those_that_were_read() {
    let target = target(Version::new(7, 2), "7.2");
    for (name, line) in [("tcpconnect", "tcpconnect --probe kprobe -4 -P 80"), ("execsnoop", "execsnoop")] {
        let mut text = String::new();
        let subject = subject(line, &target).unwrap();
        for program in &subject.programs {
            let mut listing = Listing::of(program, &subject.maps);
            explain(&mut listing, &Place::of(&program.spec().attach, &target));
            let _ = writeln!(text, "bpfkit {line}: {}: {}", listing.name, listing.attach);
            for row in &listing.rows {
                let _ = writeln!(
                    text,
                    "{:>4}: {}\n          {}",
                    row.slot,
                    row.text,
                    row.explanation.as_deref().unwrap_or("?")
                );
            }
        }
        check_file(&format!("explained/{name}.txt"), &text);
    }
}

#[test]
fn the_option_stands_on_either_side_and_lines_are_no_wider_than_a_screen() {
    let btf = fixture("btf/5.10.btf");
    let kernel = format!("--kernel 5.10 --btf {}", btf.display());
    let text = printed(&format!("dump --explain tcpconnect {kernel}")).unwrap();
    assert_eq!(text, printed(&format!("dump tcpconnect {kernel} --explain")).unwrap());
    let words: Vec<&str> = text.lines().filter(|line| line.starts_with("                          ")).collect();
    assert!(words.iter().any(|line| line.trim_start().starts_with("-- keep the context")), "{text}");
    assert!(words.iter().all(|line| line.len() <= 120), "{text}");
    let json = printed(&format!("dump tcpconnect --explain --json {kernel}")).unwrap();
    assert!(json.contains("\"explain\":\"keep the context (the CPU's registers when"), "{json}");
    assert!(!printed(&format!("dump tcpconnect --json {kernel}")).unwrap().contains("\"explain\""));
}
