//! Bytes of every form of instruction, against LLVM's where it is installed and a committed table everywhere.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bpfkit_tests::forms::{all, assemble};

fn hex(text: &str) -> String {
    let code = assemble(text);
    let bytes = code.insns().iter().flat_map(|insn| insn.to_le_bytes());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// A line a form: our notation, the bytes, the kernel's notation.
fn table() -> String {
    let lines = all().into_iter().map(|form| {
        let code = assemble(&form.text);
        let listing = bpfkit_asm::list(code.insns(), &()).map(|line| line.to_string()).collect::<Vec<_>>().join(" ");
        format!("{}\t{}\t{listing}\n", form.text, hex(&form.text))
    });
    lines.collect()
}

#[test]
fn every_form_has_the_bytes_and_the_listing_of_the_committed_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/asm/forms.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, table()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).expect("BLESS=1 writes it");
    assert!(committed.lines().count() > 200);
    for (ours, committed) in table().lines().zip(committed.lines()) {
        assert_eq!(ours, committed);
    }
    assert_eq!(table().lines().count(), committed.lines().count());
}

/// The newest llvm-mc that has all of ISA version 4.
fn llvm_mc() -> Option<String> {
    let names = (19..30).rev().map(|version| format!("llvm-mc-{version}"));
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

#[test]
fn every_form_has_the_bytes_that_llvm_gives_it() {
    let Some(llvm_mc) = llvm_mc() else {
        eprintln!("skipped: no llvm-mc of version 19 or newer; the committed table stands in for it");
        return;
    };
    let forms: Vec<_> = all().into_iter().filter_map(|form| Some((form.text, form.llvm?))).collect();
    let source: String = forms.iter().map(|(_, llvm)| format!("{llvm}\n")).collect();
    let mut child = Command::new(&llvm_mc)
        .args(["-triple=bpfel", "-mcpu=v4", "-show-encoding"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let encodings: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once("encoding: [")?.1.split_once(']'))
        .map(|(bytes, _)| bytes.split(',').map(|byte| byte.trim().trim_start_matches("0x").to_owned()).collect())
        .collect();
    assert_eq!(encodings.len(), forms.len(), "{text}");
    for ((ours, llvm), encoding) in forms.iter().zip(&encodings) {
        assert_eq!(&hex(ours), encoding, "{ours} is {llvm} for LLVM");
    }
}

/// What the kernel prints is, without its numbers, our grammar again.
#[test]
fn a_listing_is_read_back_to_the_same_bytes() {
    for form in all() {
        let code = assemble(&form.text);
        for line in bpfkit_asm::list(code.insns(), &()) {
            let listed = line.to_string();
            let mut text = listed.split_once(") ").unwrap().1.to_owned();
            if line.insn.is_wide() {
                text.push_str(" ll");
            }
            // Comparisons are printed without their sign.
            let text = text.replace("0xfffffff7", "-9");
            assert_eq!(assemble(&text), assemble_like(&code, &text), "{listed}");
        }
    }
}

/// The same slots, with sources that say where the text was read.
fn assemble_like(code: &bpfkit_asm::Code, text: &str) -> bpfkit_asm::Code {
    let again = assemble(text);
    assert_eq!(again.insns(), code.insns(), "{text}");
    again
}

#[test]
fn no_eight_bytes_whatever_upset_the_listing() {
    for code in 0..=255_u8 {
        for rest in [[0; 7], [0xff; 7], [0x21, 8, 0, 1, 0, 0, 0], [0x8a, 0, 0x80, 0xf1, 0, 0, 0]] {
            let [a, b, c, d, e, f, g] = rest;
            let insn = bpfkit_asm::Insn::from_le_bytes([code, a, b, c, d, e, f, g]);
            assert!(insn.to_string().starts_with(&format!("({code:02x}) ")));
            let _ = bpfkit_asm::list(&[insn, insn], &()).map(|line| line.to_string()).collect::<String>();
        }
    }
}
