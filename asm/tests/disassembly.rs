//! Instructions become statements, and statements the same instructions again.

use bpfkit_asm::{Asm, Fixup, Insn, Names, Opcode, Reference, bpf, statements, text};
use proptest::prelude::*;

fn insns(text: &str) -> Vec<Insn> {
    let code = Asm::parse(text, "text").unwrap_or_else(|error| panic!("{error}\n{text}"));
    code.finish().unwrap_or_else(|error| panic!("{error}\n{text}")).insns().to_vec()
}

/// An opcode that means something, more often than not, with fields that are often those that it wants.
fn plausible() -> impl Strategy<Value = Insn> {
    let code = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![0x18, 0x85, 0x05, 0x06, 0x15, 0x1d, 0xb7, 0xbf, 0x07, 0x61, 0x7b, 0xc3, 0xdb, 0xe5]),
    ];
    let register = prop_oneof![4 => 0..11_u8, 1 => 11..16_u8, 4 => Just(0)];
    let off = prop_oneof![4 => Just(0), 2 => -8..8_i16, 1 => any::<i16>()];
    let imm = prop_oneof![
        4 => Just(0),
        2 => -8..8_i32,
        1 => any::<i32>(),
        1 => prop::sample::select(vec![0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1, 0x100, 0x110, 16, 32, 64]),
    ];
    (code, register.clone(), register, off, imm)
        .prop_map(|(code, dst, src, off, imm)| Insn::new(Opcode(code), dst, src, off, imm))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_slots_come_back_as_they_were(bytes in prop::collection::vec(any::<[u8; 8]>(), 1..40)) {
        let slots: Vec<Insn> = bytes.into_iter().map(Insn::from_le_bytes).collect();
        prop_assert_eq!(insns(&text(&slots)), slots);
    }

    #[test]
    fn slots_that_are_nearly_instructions_come_back_as_they_were(slots in prop::collection::vec(plausible(), 1..40)) {
        prop_assert_eq!(insns(&text(&slots)), slots);
    }
}

#[test]
fn every_opcode_with_fields_in_use_and_not_comes_back() {
    for code in 0..=255 {
        let mut slots = Vec::new();
        for (dst, src) in [(0, 0), (1, 0), (1, 2), (10, 1), (1, 10), (11, 1), (15, 15)] {
            for off in [0, 1, 16, -1, i16::MIN] {
                for imm in [0, 1, 16, 0xe1, -1, i32::MAX] {
                    let insn = Insn::new(Opcode(code), dst, src, off, imm);
                    slots.extend([insn, insn, Insn::default(), insn, Insn::new(Opcode(0), 0, 0, 0, -7)]);
                }
            }
        }
        assert_eq!(insns(&text(&slots)), slots, "{code:#x}");
    }
}

#[test]
fn what_is_written_as_the_kernel_prints_it_stays_so() {
    let source = "    r6 = r1;
    w7 = -1;
    r1 = 0xffffffff00000001 ll;
l4:
    r2 = *(u16 *)(r6 + 4);
    *(u64 *)(r10 - 8) = r2;
    *(u8 *)(r10 - 16) = 5;
    r0 = *(u32 *)skb[r7 + -3];
    r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2);
    lock *(u32 *)(r1 + 4) |= r3;
    if r2 s> 0x10000 goto l16;
    if w2 == w3 goto l4;
    call bpf_map_lookup_elem;
    call pc-3;
    r1 = map[fd:5][0] + 16;
l16:
    r1 = (s8)r2;
    r1 = bswap32 r1;
    r1 = addr_space_cast(r2, 0, 1);
    gotol l4;
    goto +7;
    exit;
";
    assert_eq!(text(&insns(source)), source);
}

#[test]
fn what_is_no_statement_is_written_by_its_fields() {
    let raw = |slots: &[Insn]| text(slots);
    // A register that is not used, a wide constant cut off, one with a second slot that is an instruction of its own.
    assert_eq!(raw(&[Insn::new(Opcode(0xb7), 1, 3, 0, 5)]), "    insn(0xb7, 1, 3, 0, 5);\n");
    assert_eq!(raw(&[Insn::new(Opcode(0x18), 1, 0, 0, 5)]), "    insn(0x18, 1, 0, 0, 5);\n");
    let odd = [Insn::new(Opcode(0x18), 1, 0, 0, 5), Insn::new(Opcode(0x95), 0, 0, 0, 0)];
    assert_eq!(raw(&odd), "    insn(0x18, 1, 0, 0, 5);\n    exit;\n");
    // A jump to the second slot of a constant keeps its distance.
    let inside = [Insn::new(Opcode(0x05), 0, 0, 1, 0), Insn::new(Opcode(0x18), 1, 0, 0, 5), Insn::default()];
    assert_eq!(raw(&inside), "    goto +1;\n    r1 = 5 ll;\n");
    for refused in ["insn(256, 0, 0, 0, 0)", "insn(0, 16, 0, 0, 0)", "insn(0, 0, 0, 40000, 0)", "insn(1, 2, 3)"] {
        assert!(Asm::parse(&format!("{refused};"), "f").is_err(), "{refused}");
    }
}

struct Known;

impl Names for Known {
    fn map(&self, _: usize) -> Option<&str> {
        Some("counts")
    }

    fn function(&self, slot: usize) -> Option<&str> {
        Some(["bpf_mine", "report.isra.0", "no name"][slot.min(2)])
    }
}

#[test]
fn names_stand_for_what_is_not_filled_in_and_the_grammar_takes_all_that_are_printed() {
    let call = Insn::new(Opcode::CALL, 0, 1, 0, -1);
    let map = |fd| [Insn::new(Opcode::LD_IMM64, 1, 1, 0, fd), Insn::default()];
    let slots = [&[call, call, call], &map(0)[..], &map(7)[..]].concat();
    let printed: Vec<String> = statements(&slots, 0..slots.len(), &Known).map(|line| line.to_string()).collect();
    let expected = ["call func bpf_mine", "call func report.isra.0", "call pc-1", "r1 = map[counts]", "r1 = map[fd:7]"];
    assert_eq!(printed, expected);
    assert_eq!(insns(&format!("{};", printed.join(";"))), slots);
}

#[test]
fn a_reference_keeps_the_bytes_and_is_a_hole() {
    let code = bpf! {
        r1 = 5 ll @ map[.rodata.str1.1][0] + 5;
        r2 = 0 ll @ map[counts];
        call pc-1 @ func[report];
        call pc-1 @ kfunc[bpf_task_release];
        exit;
    };
    let code = code.finish().unwrap();
    assert_eq!(code.insns()[0], Insn::new(Opcode::LD_IMM64, 1, 0, 0, 5));
    let holes = [
        (0, Reference::MapValue(".rodata.str1.1".to_owned(), 5)),
        (2, Reference::Map("counts".to_owned())),
        (4, Reference::Func("report".to_owned())),
        (5, Reference::Kfunc("bpf_task_release".to_owned())),
    ];
    assert_eq!(code.fixups(), holes.map(|(slot, reference)| (slot, Fixup::Reference(reference))));
    // Linking finds the instructions that a program of ours would have in their places.
    let ours = bpf! {
        r1 = map[.rodata.str1.1][0] + 5;
        r2 = map[counts];
        call report;
        call kfunc bpf_task_release;
        exit;
    };
    let (ours, resolved) = (ours.finish().unwrap(), code.resolved());
    assert_eq!(resolved.fixups(), ours.fixups());
    assert_eq!(resolved.insns()[..4], ours.insns()[..4]);
    let bare = code.clone().without_references();
    assert_eq!((bare.insns(), bare.fixups().len()), (code.insns(), 0));
    for refused in
        ["r1 = 5 @ map[a]", "exit @ func[a]", "call pc-1 @ map[a]", "r1 = 0 ll @ kfunc[a]", "r1 = 0 ll @ x[a]"]
    {
        assert!(Asm::parse(&format!("{refused};"), "f").is_err(), "{refused}");
    }
}
