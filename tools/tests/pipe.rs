//! The binary at either end of a pipe.

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

#[test]
fn a_help_that_finds_no_room_is_a_failure_and_wrong_usage_is_another() {
    for (line, code, part) in [
        (&["--help"][..], 1, "cannot write to standard output: No space left on device"),
        (&["tcpconnect", "--version"], 2, "unexpected argument"),
        (
            &["dump", "execsnoop", "--kernel", "6.12", "--btf", "/no/such/file"],
            1,
            "cannot read types from /no/such/file: No such",
        ),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bpfkit")).args(line).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && said.contains(part), "{line:?}: {}: {said}", output.status);
        assert_eq!(said.matches("cannot").count() == 1, code == 1, "{said}");
    }
    // Who has seen enough closes its end.
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfkit"));
    let mut child = command.args(["tcpconnect", "--help"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
