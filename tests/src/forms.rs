//! Every form of instruction, in our notation and in LLVM's.

use bpfkit_asm::{AluOp, Asm, Code, JmpOp};

/// A form of instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// A statement of our grammar, without its semicolon.
    pub text: String,
    /// The same for LLVM 19; none where it has no such form.
    pub llvm: Option<String>,
}

fn same(text: impl Into<String>) -> Form {
    let text = text.into();
    Form { llvm: Some(text.clone()), text }
}

fn other(text: impl Into<String>, llvm: impl Into<String>) -> Form {
    Form { text: text.into(), llvm: Some(llvm.into()) }
}

fn ours(text: impl Into<String>) -> Form {
    Form { text: text.into(), llvm: None }
}

/// Every form.
pub fn all() -> Vec<Form> {
    [arithmetic(), jumps(), memory(), atomics(), rest()].concat()
}

fn arithmetic() -> Vec<Form> {
    let mut forms = Vec::new();
    for (op, word) in AluOp::ALL {
        for r in ["r", "w"] {
            forms.push(same(format!("{r}3 {word} {r}4")));
            forms.push(same(format!("{r}5 {word} 7")));
            if !matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) {
                forms.push(same(format!("{r}5 {word} -7")));
            }
        }
    }
    for register in ["r2", "w2"] {
        forms.push(same(format!("{register} = -{register}")));
    }
    for bits in [16, 32, 64] {
        for order in ["be", "le", "bswap"] {
            forms.push(same(format!("r6 = {order}{bits} r6")));
        }
    }
    for text in ["r1 = (s8)r2", "r1 = (s16)r2", "r1 = (s32)r2", "w1 = (s8)w2", "w1 = (s16)w2"] {
        forms.push(same(text));
    }
    forms
}

fn jumps() -> Vec<Form> {
    let mut forms = Vec::new();
    for (_, word) in JmpOp::ALL {
        for r in ["r", "w"] {
            forms.push(same(format!("if {r}3 {word} {r}4 goto +2")));
            forms.push(same(format!("if {r}3 {word} 9 goto +2")));
            forms.push(same(format!("if {r}3 {word} -9 goto -3")));
        }
    }
    forms.extend(["goto +5", "goto -6", "gotol +5", "gotol -6", "may_goto +1", "exit", "call 1"].map(same));
    forms.push(same("callx r3"));
    forms.push(ours("call bpf_get_current_pid_tgid"));
    forms
}

fn memory() -> Vec<Form> {
    let mut forms = Vec::new();
    for size in ["u8", "u16", "u32", "u64"] {
        forms.push(same(format!("r1 = *({size} *)(r2 + 4)")));
        forms.push(same(format!("r1 = *({size} *)(r10 - 512)")));
        let half = if size == "u64" { "r3" } else { "w3" };
        forms.push(other(format!("*({size} *)(r10 - 8) = r3"), format!("*({size} *)(r10 - 8) = {half}")));
        forms.push(same(format!("*({size} *)(r1 + 32) = 5")));
        forms.push(same(format!("*({size} *)(r1 + 32) = -1")));
    }
    for size in ["s8", "s16", "s32"] {
        forms.push(same(format!("r1 = *({size} *)(r2 + 4)")));
    }
    for size in ["u8", "u16", "u32"] {
        forms.push(same(format!("r0 = *({size} *)skb[12]")));
        forms.push(same(format!("r0 = *({size} *)skb[r7]")));
        forms.push(ours(format!("r0 = *({size} *)skb[r7 + 3]")));
    }
    for size in ["u8", "u16", "u32", "u64"] {
        // LLVM has them from version 20 on.
        forms.push(ours(format!("r1 = load_acquire(({size} *)(r2 + 8))")));
        forms.push(ours(format!("store_release(({size} *)(r1 - 8), r2)")));
    }
    forms
}

fn atomics() -> Vec<Form> {
    let mut forms = Vec::new();
    for (size, name, r) in [("u32", "atomic", "w"), ("u64", "atomic64", "r")] {
        for (word, fetch) in [("+=", "add"), ("|=", "or"), ("&=", "and"), ("^=", "xor")] {
            forms.push(other(
                format!("lock *({size} *)(r10 - 8) {word} r2"),
                format!("lock *({size} *)(r10 - 8) {word} {r}2"),
            ));
            forms.push(other(
                format!("r2 = {name}_fetch_{fetch}(({size} *)(r10 - 8), r2)"),
                format!("{r}2 = atomic_fetch_{fetch}(({size} *)(r10 - 8), {r}2)"),
            ));
        }
        let bits = if size == "u32" { "32_32" } else { "_64" };
        forms.push(other(
            format!("r2 = {name}_xchg(({size} *)(r10 - 8), r2)"),
            format!("{r}2 = xchg{bits}(r10 - 8, {r}2)"),
        ));
        forms.push(other(
            format!("r0 = {name}_cmpxchg(({size} *)(r10 - 8), r0, r2)"),
            format!("{r}0 = cmpxchg{bits}(r10 - 8, {r}0, {r}2)"),
        ));
    }
    forms
}

fn rest() -> Vec<Form> {
    ["r1 = 0 ll", "r1 = -1 ll", "r1 = 0x123456789abcdef0 ll", "r9 = 0xffffffff ll"].map(same).to_vec()
}

/// The code of one statement.
///
/// # Panics
/// When the statement is wrong, which is a mistake in the list above.
pub fn assemble(text: &str) -> Code {
    Asm::parse(&format!("{text};"), "form").expect(text).finish().expect(text)
}

/// Programs that let the verifier come across the forms, with their names. What it refuses it has listed before.
///
/// # Panics
/// When a statement of the list is wrong.
pub fn verifiable() -> Vec<(String, Code)> {
    let programs =
        all().into_iter().map(|form| form.text).filter(|text| !text.contains("goto -") && !text.contains("gotol -"));
    programs
        .map(|text| {
            // Registers hold numbers, the memory that forms use is the stack, and jumps have somewhere to go.
            let zeros: String = [0, 1, 3, 4, 5, 6, 9].map(|n| format!("r{n} = 1;\n")).concat();
            let text = text
                .replace("(r2 + 4)", "(r10 - 8)")
                .replace("(r1 + 32)", "(r10 - 8)")
                .replace("(r2 + 8)", "(r10 - 8)");
            let text = text.replace("(r1 - 8)", "(r10 - 8)").replace("r10 - 512", "r10 - 8");
            let text = text.replace("goto +5", "goto +0").replace("gotol +5", "gotol +0");
            let before = "*(u64 *)(r10 - 8) = 0;\nr2 = 1;\nr7 = 1;\n";
            let after = "r0 = 0;\nr0 = 0;\nr0 = 0;\nexit;\n";
            let keep = if text == "exit" { "" } else { after };
            let text = if text.contains("skb[") {
                format!("r6 = r1;\nr7 = 1;\n{text};\n{keep}")
            } else {
                format!("{zeros}{before}{text};\n{keep}")
            };
            let code = Asm::parse(&text, "form").expect(&text).finish().expect(&text);
            (text, code)
        })
        .collect()
}
