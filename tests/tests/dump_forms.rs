//! The forms of `bpfkit dump` that other programs take: C, bytes, and ELF objects.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use bpfkit::Output;
use bpfkit_asm::Version;
use bpfkit_loader::{Feature, Target};
use bpfkit_tests::objects::{self, LINES};
use bpfkit_tests::programs::{fixture, parse, printed, subject, target};

/// What `bpfkit dump` with these flags writes to a file for Linux 6.12.
fn dumped(flags: &str) -> Result<Vec<u8>, bpfkit::Error> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dumped");
    let types = fixture("btf/6.12.btf");
    printed(&format!("dump {flags} --kernel 6.12 --btf {} -o {}", types.display(), file.display()))?;
    Ok(fs::read(file).unwrap())
}

fn names(line: &str, target: &Target) -> Vec<String> {
    subject(line, target).unwrap().programs.iter().map(|program| program.spec().name.clone()).collect()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {}: {said}", output.status);
    output.stdout
}

/// A compiler is there, since this was linked by it.
#[test]
fn what_a_c_compiler_makes_of_the_source_are_the_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let [source, program] = ["programs.c", "programs"].map(|name| directory.path().join(name));
    for line in LINES {
        let mut text = String::from_utf8(dumped(&format!("{line} --format c")).unwrap()).unwrap();
        text.push_str("#include <stdio.h>\nint main(void)\n{\n");
        let names = names(line, &target(Version::new(6, 12), "6.12"));
        for name in &names {
            text.push_str(&format!("\tfwrite({name}_insns, 1, sizeof {name}_insns, stdout);\n"));
        }
        text.push_str("\treturn 0;\n}\n");
        fs::write(&source, text).unwrap();
        let flags = ["-Wall", "-Wextra", "-Werror", "-o"];
        run(Command::new("cc").args(flags).args([&program, &source]));
        let bytes = names.iter().flat_map(|name| dumped(&format!("{line} --format raw --program {name}")).unwrap());
        assert!(run(&mut Command::new(&program)) == bytes.collect::<Vec<u8>>(), "{line}");
    }
}

#[test]
fn the_source_names_what_a_loader_puts_in_and_what_was_found() {
    let text = dumped("tcpconnect --probe kprobe --program v4_connect_r --format c").unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in [
        "/* BPF programs for Linux 6.12, in this machine's byte order */",
        "\t{ \"sockets\", BPF_MAP_TYPE_HASH, 8, 8, 10240, 0x0 },",
        "/* v4_connect_r: kretprobe on tcp_v4_connect; type kprobe, licence GPL, ",
        "\t{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD },\n\t{ .imm = 0 },",
        "\t{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_pid_tgid },",
        "const struct bpf_hole v4_connect_r_maps[] = {\n\t{ 3, \"sockets\" },",
        "\" }, /* sock.__sk_common.skc_portpair: __portpair at 12, 4 bytes */",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn bytes_are_of_one_program() {
    let error = dumped("tcpconnect --probe kprobe --format raw").unwrap_err().to_string();
    assert!(error.contains("--program NAME") && error.contains("v4_connect_r, v4_connect,"), "{error}");
    let target = target(Version::new(6, 12), "6.12");
    let program = &subject("writehist", &target).unwrap().programs[0];
    let bytes: Vec<u8> = program.insns().iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    assert_eq!(dumped("writehist --format raw").unwrap(), bytes);
}

#[test]
fn forms_that_are_no_listing_take_no_machine_code() {
    for form in ["raw", "obj", "c"] {
        let error = dumped(&format!("writehist --jited --format {form}")).unwrap_err().to_string();
        assert_eq!(error, "--jited adds to the listing: it takes --format text, json, dot or html");
    }
}

#[test]
fn what_is_no_text_does_not_go_to_a_terminal() {
    let flags = format!("--kernel 6.12 --btf {}", fixture("btf/6.12.btf").display());
    let to_terminal = |form: &str| {
        let line = format!("dump writehist --format {form} {flags}");
        let terminal = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        parse(&line).unwrap().command.run(&mut Output::file(terminal))
    };
    for form in ["obj", "raw"] {
        let error = to_terminal(form).unwrap_err().to_string();
        assert!(error.contains("terminal: -o FILE"), "{error}");
    }
    assert!(printed(&format!("dump writehist --format c {flags}")).unwrap().contains("struct bpf_insn"));
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_one_that_could_stays_when_nothing_can_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("kept");
    fs::write(&kept, "as it was").unwrap();
    let flags = format!("--kernel 6.12 --btf {}", fixture("btf/6.12.btf").display());
    let refused = |line: &str| {
        let error = printed(&format!("dump {line} {flags}")).unwrap_err();
        bpfkit::Chain(&error).to_string()
    };
    for form in ["raw --program none", "raw"] {
        let error = refused(&format!("tcpconnect --format {form} -o {}", kept.display()));
        assert!(error.contains("v4_connect"), "{error}");
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
    for form in ["obj", "c", "text", "json"] {
        let error = refused(&format!("writehist --format {form} -o /dev/full"));
        assert!(error.contains("cannot write /dev/full: No space left"), "{error}");
    }
    let error = refused("writehist --format obj -o /nonexistent/writehist.o");
    assert!(error.contains("cannot write /nonexistent/writehist.o: No such file"), "{error}");
}

/// The newest program of LLVM's with this name.
fn llvm(name: &str) -> Option<String> {
    let names = (15..30).rev().map(|version| format!("{name}-{version}")).chain([name.to_owned()]);
    names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// Whether a program is there to be run; says so where it is not.
fn is_there(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        eprintln!("skipped: no {program}");
    }
    is_there
}

#[test]
fn other_readers_of_objects_have_no_complaint() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tool.o");
    let objdump = llvm("llvm-objdump").filter(|objdump| is_there(objdump));
    let has_readelf = is_there("readelf");
    // The way that objects are made.
    let target = target(Version::new(6, 12), "6.12").lacking(Feature::UprobeMulti);
    for line in LINES {
        fs::write(&file, dumped(&format!("{line} --format obj")).unwrap()).unwrap();
        if let Some(objdump) = &objdump {
            let listing = String::from_utf8(run(Command::new(objdump).args(["-d", "-r"]).arg(&file))).unwrap();
            // What belongs to a function of another program is not in it.
            for name in names(line, &target).iter().filter(|name| !(line == "bpf2bpf" && name.contains('_'))) {
                assert!(listing.contains(&format!("<{name}>:")), "{line}: {name}: {listing}");
            }
            assert!(!listing.contains("<unknown>"), "{line}: {listing}");
            assert_eq!(listing.contains("R_BPF_64_32"), line == "bpf2bpf", "{listing}");
        }
        if has_readelf {
            run(Command::new("readelf").arg("-aW").arg(&file));
        }
    }
}

/// Where the file system for programs is, in the process that has mounted it for itself.
const BPFFS: &str = "BPFKIT_TEST_BPFFS";

/// Mounts that file system, and what libbpf reads the numbers of tracepoints from, where that is not mounted, for a command.
const MOUNTED: &str = r#"mount -t bpf bpf "$0" && {
    [ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
    exec "$@"
}"#;

/// The verifier sees the same instructions, and bpftool shows our lines of Rust.
#[test]
fn bpftool_loads_objects_as_the_loader_loads_programs() {
    if let Some(bpffs) = std::env::var_os(BPFFS) {
        // The way that objects are made.
        let target = Target::running().unwrap().lacking(Feature::UprobeMulti);
        let mut compared = 0;
        for line in LINES {
            match objects::compare(line, &target, Path::new(&bpffs), &|| ()) {
                Ok(programs) => compared += programs,
                Err(objects::Unequal::NotHere(why)) => eprintln!("skipped: {line}: {why}"),
                Err(objects::Unequal::Differs(why)) => panic!("{line}: {why}"),
            }
        }
        assert!(compared > 0);
        // These need nothing that a kernel may be built without.
        for line in ["execsnoop --probe tracepoint -x", "tcpconnect --probe tracepoint", "gethostlatency"] {
            if !objects::can_attach() {
                eprintln!("skipped: this bpftool does not attach");
                break;
            }
            objects::attach(line, &target, Path::new(&bpffs)).unwrap_or_else(|why| panic!("{line}: {why:?}"));
        }
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"])) {
        eprintln!("skipped: it takes root");
        return;
    }
    if !is_there("bpftool") {
        return;
    }
    // The file system and what is pinned there go with the process that mounted it.
    let bpffs = tempfile::tempdir().unwrap();
    let mount = Command::new("unshare").args(["-m", "mount", "-t", "bpf", "bpf"]).arg(bpffs.path()).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system of type bpf can be mounted");
        return;
    }
    let run = Command::new("unshare")
        .args(["-m", "sh", "-c", MOUNTED])
        .arg(bpffs.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "bpftool_loads_objects_as_the_loader_loads_programs"])
        .env(BPFFS, bpffs.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    eprint!("{said}");
    assert!(run.status.success(), "{said}");
}
