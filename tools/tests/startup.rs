//! What the command opens before it does what it was asked for: nothing that it does not need.

use std::process::{Command, Stdio};

/// The files that a command line opens or looks at, in the order of that, as strace(1) tells; nothing where that is missing.
fn files(line: &[&str]) -> Option<Vec<String>> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=%file", "-e", "signal=none", "-o", "/dev/stderr"]);
    strace.arg(env!("CARGO_BIN_EXE_bpfkit")).args(line).stdout(Stdio::null());
    let Ok(output) = strace.output() else {
        eprintln!("skipped: there is no strace");
        return None;
    };
    let text = String::from_utf8(output.stderr).expect("strace escapes what is no text");
    assert!(text.contains("execve("), "strace cannot trace: {text}");
    // `openat(AT_FDCWD, "/proc/self/maps", O_RDONLY|O_CLOEXEC) = 3`; what concerns an open file names none.
    let paths = text.lines().filter(|line| !line.contains("execve(")).filter_map(|line| line.split('"').nth(1));
    Some(paths.filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// What the standard library and C's look at before `main`: where the stack ends, and how the program was called.
const RUNTIME: [&str; 2] = ["/proc/self/exe", "/proc/self/maps"];

#[test]
fn questions_about_the_command_line_open_no_file() {
    for line in [&["--version"][..], &["--help"], &["tcpconnect", "--help"], &["execsnoop", "--no-such-flag"]] {
        let Some(files) = files(line) else { return };
        assert!(files.iter().all(|file| RUNTIME.contains(&&**file)), "{line:?} opens {files:?}");
    }
}

#[test]
fn programs_for_another_kernel_take_its_types_and_nothing_of_this_one() {
    let types = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/btf/6.12.btf");
    let Some(files) = files(&["dump", "tcpconnect", "--kernel", "6.12", "--btf", types]) else { return };
    let mut others: Vec<_> = files.iter().filter(|file| !RUNTIME.contains(&&***file)).collect();
    // What kind of file it is is asked before it is opened.
    others.dedup();
    assert_eq!(others, [types]);
}

#[test]
fn the_record_of_a_tracepoint_is_read_once() {
    let Some(files) = files(&["dump", "tcpconnect", "--probe", "tracepoint"]) else { return };
    let records: Vec<_> = files.iter().filter(|file| file.ends_with("/inet_sock_set_state/format")).collect();
    if records.is_empty() {
        eprintln!("skipped: only root may mount tracefs");
        return;
    }
    assert_eq!(records.len(), 1, "{records:?}");
}

/// System calls that Linux 4.18 lacks, and those that came before it but later than much else: old containers refuse both.
const YOUNG: &str = "?statx,?rseq,?getrandom,?fsopen,?fsconfig,?fsmount,?open_tree,?move_mount,?fspick,?pidfd_open,\
    ?pidfd_getfd,?pidfd_send_signal,?clone3,?close_range,?openat2,?faccessat2,?epoll_pwait2,?execveat,?preadv2,?pwritev2,\
    ?copy_file_range,?mlock2,?membarrier,?memfd_create,?io_uring_setup,?futex_waitv";

#[test]
fn system_calls_that_old_kernels_and_containers_lack_are_not_needed() {
    let types = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/btf/6.12.btf");
    let program = env!("CARGO_BIN_EXE_bpfkit");
    for line in [
        &["dump", "tcpconnect", "--kernel", "5.4", "--btf", types][..],
        &["btf", "stats", types],
        &["dump", "tcpconnect", "--probe", "tracepoint"],
        // Where this may trace, nothing else goes on that it would show.
        &["execsnoop", "--duration", "0.1", "--name", "^no such program$"],
    ] {
        let whole = Command::new(program).args(line).output().unwrap();
        if !whole.status.success() {
            eprintln!("skipped: {line:?}: {}", String::from_utf8_lossy(&whole.stderr));
            continue;
        }
        for error in ["ENOSYS", "EPERM"] {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-e", &format!("inject={YOUNG}:error={error}"), "-o", "/dev/null"]);
            let Ok(old) = strace.arg(program).args(line).output() else {
                eprintln!("skipped: there is no strace");
                return;
            };
            let said = String::from_utf8_lossy(&old.stderr);
            assert!(old.status.success(), "{line:?} without them, by {error}: {said}");
            assert!(old.stdout == whole.stdout, "{line:?} says something else without them, by {error}");
        }
    }
}
