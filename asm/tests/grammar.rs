//! The macro and the text parser are one grammar.

use bpfkit_asm::{Asm, Fixup, bpf};
use proptest::prelude::*;

/// Gives the same statements to the macro and, as text, to the parser, and compares all but the places.
macro_rules! same {
    ($($tokens:tt)*) => {
        let from_macro = bpf! { $($tokens)* }.finish().unwrap();
        let from_text = Asm::parse(stringify!($($tokens)*), "text").unwrap().finish().unwrap();
        assert_eq!(from_macro.insns(), from_text.insns());
        assert_eq!(from_macro.fixups(), from_text.fixups());
        assert_eq!(from_macro.labels(), from_text.labels());
    };
}

#[test]
fn macro_and_text_give_the_same_code() {
    same! {
        start:
            r6 = *(u64 *)(r1 + ctx.arg1);
            r1 = r6;
            r1 += sock.__sk_common.skc_dport;
            r2 = sizeof(sock.__sk_common.skc_dport);
            w3 = 0xffffffff;
            r4 = -1 ll;
            r5 = map[sockets];
            r5 = map[state][0] + 16;
            r1 = func[start_it];
            *(u32 *)(r10 - 4) = w0;
            *(u16 *)(r10 - 8 + 2) = 0x1234;
            r0 = *(s16 *)(r6 + sock.a[3].b + 1);
            lock *(u64 *)(r1 + 0) |= r2;
            r2 = atomic64_xchg((u64 *)(r1 + 8), r2);
            r0 = atomic_cmpxchg((u32 *)(r1 + 8), r0, r2);
            r1 = load_acquire((u32 *)(r1 + 8));
            store_release((u8 *)(r1 + 8), r2);
            r0 = *(u16 *)skb[12];
            r0 = *(u8 *)skb[r7 + 1];
            r1 = be16 r1;
            r1 = bswap64 r1;
            r1 = (s8)r2;
            w1 = -w1;
            r1 s>>= 3;
            r1 s/= r2;
            if r1 s<= r2 goto start;
            if w1 & 3 goto +1;
            call bpf_get_current_comm;
            call 5;
            call report;
            call kfunc bpf_task_release;
            gotol start;
            may_goto out;
            call func bpf_mine;
            call func report.isra.0;
            call pc+3;
            call -1;
            call kfunc 1234;
            r1 = func[pc-9];
            r1 = map[fd:5];
            r1 = map[fd:5][0] + 8;
            r1 = map[idx:0];
            r1 = map[idx:1][0];
            r1 = map[.rodata.str1.1][0] + 5;
            r1 = btf[id:77];
            r1 = addr_space_cast(r2, 0, 1);
            insn(0xff, 15, 11, -1, 0x7fffffff);
            r1 = 5 ll @ map[.data][0] + 5;
            r1 = 0 ll @ map[counts];
            r1 = 0 ll @ func[report];
            call pc-1 @ func[report];
            call pc-1 @ kfunc[bpf_task_release];
        out:
            exit;
    }
}

const PORT: u16 = 80;

mod constants {
    pub const SIZE: usize = 16;
}

#[test]
fn rust_constants_and_expressions_are_part_of_the_language() {
    let more = bpf! { r3 = 3; };
    let code = bpf! {
        r1 = PORT;
        r2 = constants::SIZE;
        r4 = {u32::from(PORT.to_be()) + 1};
        *(u64 *)(r10 - {constants::SIZE / 2}) = r1;
        {more.clone()};
        {more};
        exit;
    };
    let code = code.finish().unwrap();
    let listing: Vec<String> = code.insns().iter().map(ToString::to_string).collect();
    assert_eq!(listing[0], "(b7) r1 = 80");
    assert_eq!(listing[1], "(b7) r2 = 16");
    assert_eq!(listing[2], "(b7) r4 = 20481");
    assert_eq!(listing[3], "(7b) *(u64 *)(r10 -8) = r1");
    assert_eq!(listing[4..6], ["(b7) r3 = 3", "(b7) r3 = 3"]);
}

#[test]
fn each_instruction_knows_where_it_was_written() {
    let code = bpf! {
        r0 = 0;
        if r0   ==  0 goto out;     // a comment
    out:
        exit;
    };
    let line = line!() - 5;
    let code = code.finish().unwrap();
    let sources: Vec<_> = code.sources().iter().flatten().collect();
    assert!(sources[0].file.ends_with("asm/tests/grammar.rs"), "{}", sources[0].file);
    assert_eq!((sources[0].line, sources[0].column, sources[0].text), (line, 9, "r0 = 0"));
    assert_eq!((sources[1].line, sources[1].text), (line + 1, "if r0   ==  0 goto out"));
    assert_eq!((sources[2].line, sources[2].text), (line + 3, "exit"));
}

#[test]
fn fragments_leave_to_labels_of_the_code_they_are_spliced_into() {
    let mut outer = Asm::new();
    let out = outer.named_label("out");
    let fragment = || {
        bpf! {
            if r1 == 0 goto {out};
            if r1 == 1 goto next;
            r1 = 2;
        next:
            r2 = 0;
        }
    };
    outer.splice(fragment());
    outer.splice(fragment());
    outer.bind(out);
    outer.splice(bpf! { exit; });
    let code = outer.finish().unwrap();
    assert_eq!(code.insns()[0].jump(), Some(7));
    assert_eq!(code.insns()[1].jump(), Some(1));
    assert_eq!(code.insns()[5].jump(), Some(1));
}

#[test]
fn what_cannot_be_encoded_is_refused_with_its_place() {
    let too_large = 1_u64 << 40;
    let error = bpf! { r1 = {too_large}; exit; }.finish().unwrap_err().to_string();
    assert!(error.starts_with("constant 1099511627776 is not between -2147483648 and 2147483647 at "), "{error}");
    assert!(error.contains("grammar.rs"), "{error}");
    let offset = 40_000;
    let error = bpf! { r1 = *(u8 *)(r2 + {offset}); exit; }.finish().unwrap_err().to_string();
    assert!(error.starts_with("offset 40000 is not between"), "{error}");
    let mut asm = Asm::new();
    let nowhere = asm.named_label("nowhere");
    asm.goto(nowhere).exit();
    assert_eq!(asm.finish().unwrap_err().to_string(), "label `nowhere` is bound nowhere");
    let mut asm = Asm::new();
    let label = asm.named_label("here");
    asm.bind(label).exit().bind(label);
    assert_eq!(asm.finish().unwrap_err().to_string(), "label `here` is bound twice");
    assert_eq!(Asm::new().finish().unwrap_err().to_string(), "a program has at least one instruction");
    let far = || {
        let mut asm = Asm::new();
        let end = asm.named_label("end");
        asm.goto(end);
        (0..40_000).for_each(|_| {
            asm.exit().raw(bpfkit_asm::Insn::default());
        });
        asm.bind(end).exit();
        asm
    };
    assert!(far().finish().unwrap_err().to_string().starts_with("jump distance 80000 is not between"));
}

#[test]
fn messages_about_a_text_show_line_column_and_a_caret() {
    let error = Asm::parse("r0 = 0;\n  cal bpf_x;\nexit;\n", "file.bpf").unwrap_err().to_string();
    let expected = "file.bpf:2:3: no statement begins with `cal`\n    cal bpf_x;\n    ^ did you mean `call`?";
    assert_eq!(error, expected);
    let error = Asm::parse("r1 = AF_INET;\nr1 = {x};", "f").unwrap_err().to_string();
    assert!(error.contains("f:2:6: a text has no Rust expressions"), "{error}");
    let two = Asm::parse("r11 = 1;\nr1 = w2;\nexit;", "f").unwrap_err().to_string();
    assert_eq!(two.matches('^').count(), 2, "{two}");
}

#[test]
fn what_is_nearly_right_is_refused() {
    let far = format!("r1 = *(u8 *)(r2 + {0} + {0} + 2);", i128::MAX);
    for (text, part) in [
        ("r2 = atomic_atomic_xchg((u32 *)(r1 + 0), r2);", "no atomic operation `atomic_atomic_xchg`"),
        ("*(s32 *)(r10 - 4) = r1;", "only loads extend a sign"),
        ("r1 = load_acquire((s32 *)(r2 + 0));", "only loads extend a sign"),
        ("lock *(s64 *)(r1 + 0) += r2;", "only loads extend a sign"),
        ("call bpf_get_current_comm#;", "expected a number, found `;`"),
        (&far, "is not between -32768 and 32767"),
    ] {
        let error = Asm::parse(text, "f").unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_helpers_number_may_stand_behind_its_name() {
    let insns = |text| Asm::parse(text, "f").unwrap().finish().unwrap().insns().to_vec();
    // As the verifier prints it, and as bpftool does, to which it is somewhere in the kernel.
    for listed in ["call bpf_get_current_comm#16;", "call bpf_get_current_comm#-269056;"] {
        assert_eq!(insns(listed), insns("call bpf_get_current_comm;"));
    }
}

#[test]
fn holes_are_kept_for_the_loader() {
    let code = bpf! { r1 = *(u32 *)(r2 + sock.a.b + 4); r3 = map[m]; exit; }.finish().unwrap();
    assert_eq!(code.insns()[0].off, 4);
    assert!(matches!(&code.fixups()[0], (0, Fixup::FieldOff(path)) if path.as_str() == "sock.a.b"));
    assert!(matches!(&code.fixups()[1], (1, Fixup::Map(map)) if map.as_str() == "m"));
}

proptest! {
    #[test]
    fn no_text_whatever_upsets_the_parser(text in "\\PC*") {
        let _ = Asm::parse(&text, "text").map(Asm::finish);
    }

    #[test]
    fn no_words_of_the_language_in_any_order_upset_the_parser(
        words in prop::collection::vec(prop::sample::select(vec![
            "r1", "w2", "r10", "=", "+=", "s", ">>=", "*", "(", ")", "u8", "s32", "u64", "[", "]", "map", "func", "if", "goto",
            "call", "exit", "lock", "+", "-", "1", "0xffffffffffffffffff", ".", "sock", "ctx", ":", ";", "ll", "skb",
            "atomic64_xchg", "load_acquire", ",", "be16", "sizeof", "pc", "#",
        ]), 0..40)
    ) {
        let _ = Asm::parse(&words.join(" "), "text").map(Asm::finish);
    }
}

#[test]
fn a_text_that_is_no_program_has_a_hundred_mistakes_and_a_part_of_each_line() {
    let error = Asm::parse(&"wrong; ".repeat(100_000), "f").unwrap_err().to_string();
    assert_eq!(error.matches("no statement begins with").count(), 100);
    assert!(error.contains("f:1:701: this is not the last mistake, and no more than 100 are shown"), "{error}");
    assert!(error.len() < 40_000, "{}", error.len());
    // The mark is where the mistake is.
    let lines: Vec<&str> = error.lines().skip(99 * 3).take(3).collect();
    let [message, shown, mark] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(message.starts_with("f:1:694: "), "{message}");
    assert!(shown[mark.find('^').unwrap()..].starts_with("wrong; "), "{shown}\n{mark}");
    assert!(shown[..mark.find('^').unwrap()].ends_with("wrong; "), "{shown}\n{mark}");
}

#[test]
fn labels_that_are_nowhere_are_not_all_compared_with_those_that_are() {
    let lines = |start: &str, end: &str| (0..20_000).map(|n| format!("{start}{n}{end}")).collect::<String>();
    let error = Asm::parse(&(lines("l", ":") + &lines("goto x", ";")), "f").unwrap_err().to_string();
    assert_eq!(error.matches("there is no label").count(), 100);
}

#[test]
fn a_statement_has_an_end_and_labels_need_no_semicolon() {
    let error = Asm::parse(&format!("r0 = 0{};", " + 1".repeat(5000)), "f").unwrap_err().to_string();
    assert!(error.contains("a statement of more than 4096 words and signs"), "{error}");
    // As many as are read at a time, and more.
    let labels: String = (0..10_000).map(|n| format!("l{n}:")).collect();
    let code = Asm::parse(&format!("{labels} goto l9999; exit;"), "f").unwrap().finish().unwrap();
    assert_eq!((code.labels().len(), code.insns().len()), (10_000, 2));
}
