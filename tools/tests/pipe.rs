//! The binary at the end of a pipe.

use std::io::Write;
use std::process::{Command, Stdio};

use bpfkit_btf::Builder;

#[test]
fn types_may_come_through_a_pipe() {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    types.strukt("point", 8, &[("x", int, 0), ("y", int, 4)]);
    for (bytes, code, part) in [(types.finish(), 0, "struct point {\n\tint x;\n"), (b"\x7fELF?".to_vec(), 1, "ELF")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpfkit"));
        command.args(["btf", "dump", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.code() == Some(code) && said.contains(part), "{said}");
    }
}
