//! Machine code as `dump --jited` shows it, against LLVM's where it is installed and a committed table everywhere. The table has a
//! line for each form that the kernel's JIT compiler emitted for 57 programs of bcc's and bpftrace's tools.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bpfkit::dump::decode;

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/x86/jited.txt")
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The only instruction of these bytes, at the address 0x1000.
fn text(hex: &str) -> String {
    let insns = decode(&bytes(hex), 0x1000);
    let [insn] = insns.as_slice() else { panic!("{hex} is {} instructions", insns.len()) };
    assert_eq!(insn.len, hex.len() / 2, "{hex}");
    insn.text(None)
}

fn forms() -> Vec<(String, String)> {
    let committed = std::fs::read_to_string(table()).unwrap();
    committed
        .lines()
        .map(|line| line.split_once('\t').unwrap_or((line, "")))
        .map(|(hex, text)| (hex.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn what_the_jit_compiler_emits_reads_as_in_the_committed_table() {
    let forms = forms();
    if std::env::var_os("BLESS").is_some() {
        let lines = forms.iter().map(|(hex, _)| format!("{hex}\t{}\n", text(hex)));
        return std::fs::write(table(), lines.collect::<String>()).unwrap();
    }
    assert!(forms.len() > 100, "{}", forms.len());
    for (hex, committed) in forms {
        assert_eq!(text(&hex), committed, "{hex}");
    }
}

/// LLVM's notation in ours: numbers are what matters, and how they are written is not.
fn normal(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default().trim().replace('\t', " ");
    let text = text.replace("1*", "").replace("+ ", "").replace("- ", "-").replace("movabs", "mov");
    let word = |word: &str| {
        let digits = word.trim_end_matches([',', ']']);
        let (start, digits) = digits.rfind(['[', ':']).map_or(("", digits), |at| digits.split_at(at + 1));
        let number = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => digits.parse::<i64>().ok().map(i64::cast_unsigned),
        };
        // A constant of 32 bits may be shown with its sign or without.
        number.map_or_else(|| word.to_owned(), |number| format!("{start}{:x}", number & 0xffff_ffff))
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ").replace([',', ']'], "")
}

#[test]
fn what_the_jit_compiler_emits_reads_as_llvm_has_it() {
    let names = (14..30).rev().map(|version| format!("llvm-mc-{version}"));
    let Some(llvm_mc) = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok()) else {
        eprintln!("skipped: no llvm-mc is installed; the committed table stands in for it");
        return;
    };
    for (hex, _) in forms() {
        let listed = bytes(&hex).iter().map(|byte| format!("{byte:#04x}")).collect::<Vec<_>>().join(" ");
        let mut child = Command::new(&llvm_mc)
            .args(["--disassemble", "--triple=x86_64", "--output-asm-variant=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(listed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        // A prefix has a line of its own.
        let lines: Vec<&str> =
            told.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('.')).collect();
        let llvm = normal(&lines.join(" "));
        let ours = text(&hex);
        // LLVM names the operands that a no-op does not have, and not the 1 of the short form of a shift.
        let ours = if ours == "nop" {
            &llvm
        } else {
            ours.strip_suffix(", 1").filter(|_| bytes(&hex)[1] == 0xd1).unwrap_or(&ours)
        };
        assert_eq!(normal(ours), llvm, "{hex}");
    }
}

#[test]
fn a_jump_is_to_an_address_or_a_name_and_bytes_of_no_instruction_are_passed_over() {
    let insns = decode(&bytes("0f8458030000e801000000"), 0xffff_ffff_c000_0000);
    let targets: Vec<Option<u64>> = insns.iter().map(|insn| insn.target()).collect();
    assert_eq!(targets, [Some(0xffff_ffff_c000_035e), Some(0xffff_ffff_c000_000c)]);
    assert_eq!((insns[0].text(None).as_str(), insns[1].start), ("je 0xffffffffc000035e", 6));
    assert_eq!(insns[1].text(Some("bpf_ktime_get_ns")), "call bpf_ktime_get_ns");
    // Whatever bytes there are, all of them are in one instruction or another.
    let mut seed = 1_u32;
    for _ in 0..2000 {
        let code: Vec<u8> = (0..16)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            })
            .collect();
        let insns = decode(&code, 0);
        assert_eq!(insns.iter().map(|insn| insn.len).sum::<usize>(), code.len(), "{code:x?}");
        assert!(insns.iter().all(|insn| !insn.text(None).is_empty()), "{code:x?}");
    }
    assert_eq!(decode(&[0x06], 0)[0].text(None), "(bad)");
    // A processor has more instructions than programs are made of.
    assert_eq!(decode(&bytes("0f58c1"), 0)[0].text(None), "(no name here)");
}
