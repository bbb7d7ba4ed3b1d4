//! `cargo vm --run` and the ways in which a VM can fail, end to end. A test that boots needs QEMU and a kernel's image, which
//! `cargo vm --fetch` brings.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs `cargo vm` with a work directory of its own.
fn vm(work: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vm"));
    command.arg("--work").arg(work).args(arguments).output().expect("vm")
}

/// An image to boot, or why there is none.
fn image() -> Result<PathBuf, &'static str> {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return Err("there is no qemu-system-x86_64");
    }
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm/kernels");
    let found = ["6.12", "5.10", "7.2"].map(|line| kernels.join(line).join("vmlinuz"));
    found.into_iter().find(|image| image.exists()).ok_or("no image was fetched (cargo vm --fetch)")
}

/// Boots with these options, and gives the exit code and all that was said.
fn boot(options: &[&str]) -> Option<(Option<i32>, String, String)> {
    let image = match image() {
        Ok(image) => image,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return None;
        }
    };
    let work = tempfile::tempdir().expect("directory");
    let kernel = format!("{},name=one", image.display());
    let output = vm(work.path(), &[&["--accel", "tcg", "--kernel", &kernel][..], options].concat());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    let json = std::fs::read_to_string(work.path().join("results.json")).unwrap_or_default();
    Some((output.status.code(), said, json))
}

#[test]
fn a_static_program_runs_as_root_with_its_arguments() {
    // The guest's own binary is a program like any other when it is not process 1.
    let Some((code, said, json)) = boot(&["--run", env!("CARGO_BIN_EXE_guest"), "--list"]) else { return };
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("one| guest::loopback_is_up\n"), "{said}");
    assert!(json.contains("\"run::guest\"") && json.contains("guest::loopback_is_up\\n"), "{json}");
}

#[test]
fn a_dynamic_program_finds_its_libraries_its_files_and_the_file_systems() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("input");
    std::fs::write(&file, "from outside\n").expect("write");
    let with = file.display().to_string();
    let script = r#"read line < input; echo "read: $line"; read line < /data/deep; echo "deep: $line"; echo "id $USER" >&2
        for place in /proc/1 /sys/kernel/tracing/events /sys/fs/bpf /dev/null; do test -e $place || exit 5; done
        read flags < /sys/class/net/lo/flags; echo "lo $flags"; echo "$0 $1"; exit 3"#;
    let deep = format!("{with}:/data/deep");
    let options = ["--with", &with, "--with", &deep, "--run", "/bin/sh", "-c", script, "zero", "one"];
    let Some((code, said, json)) = boot(&options) else { return };
    assert_eq!(code, Some(1), "{said}");
    for line in ["read: from outside", "deep: from outside", "id root", "lo 0x9", "zero one"] {
        assert!(said.contains(&format!("one| {line}\n")), "no {line:?}: {said}");
    }
    assert!(said.contains("fail run::sh on one: exit code 3"), "{said}");
    assert!(json.contains("\"outcome\": \"fail\""), "{json}");
}

#[test]
fn exit_code_77_is_a_skip() {
    let Some((code, said, _)) = boot(&["--run", "/bin/sh", "-c", "echo too old; exit 77"]) else { return };
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("skip run::sh on one: exit code 77: too old"), "{said}");
}

#[test]
fn a_program_that_does_not_end_is_stopped() {
    let Some((code, said, _)) = boot(&["--timeout", "60", "--run", "/bin/sh", "-c", "echo up; while :; do :; done"])
    else {
        return;
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("one| up\n") && said.contains("still running when the VM was stopped after 60 s"), "{said}");
}

#[test]
fn a_panic_fails_the_program_and_is_shown_with_its_trace() {
    let script = "echo up; echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 100";
    let Some((code, said, json)) = boot(&["--run", "/bin/sh", "-c", script]) else { return };
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("fail run::sh on one: the guest ended during run::sh: ") && said.contains("Kernel panic"),
        "{said}"
    );
    assert!(said.contains("Call Trace") && said.contains("sysrq"), "no trace: {said}");
    assert!(json.contains("\"outcome\": \"fail\"") && json.contains("Call Trace"), "{json}");
}

#[test]
fn a_kernel_that_does_not_come_up_is_told_with_what_the_console_said_last() {
    // Init cannot be unpacked into so little memory, or the kernel finds out before.
    let Some((code, said, _)) = boot(&["--memory", "48M", "--run", env!("CARGO_BIN_EXE_guest"), "--list"]) else {
        return;
    };
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("broken: the guest never answered"), "{said}");
}

#[test]
fn what_is_not_a_kernel_is_told_in_qemus_words() {
    if image().is_err() {
        eprintln!("skipped: there is no qemu-system-x86_64");
        return;
    }
    let work = tempfile::tempdir().expect("directory");
    let output = vm(work.path(), &["--kernel", "/proc/self/status,name=none", "--run", "/bin/sh"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("none") && said.contains("broken: the guest never answered: qemu"), "{said}");
}

#[test]
fn a_machine_without_an_emulator_is_told_what_to_install() {
    let work = tempfile::tempdir().expect("directory");
    let output = Command::new(env!("CARGO_BIN_EXE_vm"))
        .arg("--work")
        .arg(work.path())
        .args(["--kernel", "/dev/null", "--run", "/bin/sh"])
        .env("PATH", work.path())
        .output()
        .expect("vm");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("qemu-system-x86_64") && said.contains("apt-get install"), "{said}");
}

/// An emulator that plays no machine: it says which process it is, and waits.
const IDLE: &str = "#!/bin/sh\n[ \"$1\" = --version ] && exit\necho $$ > emulator\nexec sleep 1000\n";

#[test]
fn a_guest_ends_with_its_runner_however_that_is_killed() {
    for signal in ["TERM", "KILL"] {
        let work = tempfile::tempdir().unwrap();
        let emulator = work.path().join("qemu-system-x86_64");
        std::fs::write(&emulator, IDLE).unwrap();
        std::fs::set_permissions(&emulator, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", work.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut runner = Command::new(env!("CARGO_BIN_EXE_vm"));
        runner.args(["--accel", "tcg", "--work", ".", "--kernel", "/dev/null,name=none", "--run", "/bin/sh"]);
        let mut runner = runner.current_dir(work.path()).env("PATH", path).spawn().unwrap();
        let (told, mut pid) = (work.path().join("emulator"), String::new());
        while !pid.ends_with('\n') {
            assert_eq!(runner.try_wait().unwrap(), None, "it ended before there was an emulator");
            std::thread::sleep(Duration::from_millis(20));
            pid = std::fs::read_to_string(&told).unwrap_or_default();
        }
        assert!(Command::new("kill").args(["-s", signal, &runner.id().to_string()]).status().unwrap().success());
        runner.wait().unwrap();
        // Whoever inherits it may let it be a zombie for a while.
        let state = format!("/proc/{}/stat", pid.trim());
        let is_gone = || std::fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
        let end = Instant::now() + Duration::from_secs(20);
        while !is_gone() {
            assert!(Instant::now() < end, "after SIG{signal} the emulator goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_mirror_that_does_not_answer_makes_a_kernel_unavailable_with_the_reason() {
    let work = tempfile::tempdir().expect("directory");
    let output = vm(work.path(), &["--mirror", "file:/nonexistent/debian", "--fetch", "5.10"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("unavailable: suite bullseye-security: ") && said.contains("apt-get"), "{said}");
}

#[test]
fn a_program_that_a_guest_could_not_run_is_refused_before_anything_is_booted() {
    let work = tempfile::tempdir().expect("directory");
    let script = work.path().join("test.sh");
    std::fs::write(&script, "#!/bin/sh\n").expect("write");
    let output = vm(work.path(), &["--run", &script.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("script for /bin/sh"), "{said}");
}
