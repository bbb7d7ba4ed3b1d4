//! `bpfkit dump --diff`: two versions of a tool's programs.

use bpfkit::Chain;
use bpfkit_tests::programs::{check_refused, fixture, parse, printed};
use serde_json::Value;

/// A side for a kernel with the types of a fixture.
fn kernel(version: &str, types: &str) -> String {
    format!("{version},btf={}", fixture(&format!("btf/{types}.btf")).display())
}

/// The difference between the oldest kernel and the newest.
fn old_and_new(line: &str) -> String {
    printed(&format!("dump {line} --diff {} --diff {}", kernel("4.18", "5.10"), kernel("7.2", "7.2"))).unwrap()
}

/// The difference between a tool with more flags, by a line of words, and without.
fn with_flags(line: &str, flags: &str) -> String {
    let btf = fixture("btf/7.2.btf").display().to_string();
    let line = format!("bpfkit dump {line} --kernel 7.2 --btf {btf} --diff none --diff");
    let words = line.split_whitespace().chain([flags]);
    let cli = bpfkit::cli::Cli::read(words).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let mut output = bpfkit::Output::file(file.try_clone().unwrap());
    cli.command.run(&mut output).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::read_to_string(file).unwrap()
}

#[test]
fn between_kernels_members_move_and_helpers_are_replaced() {
    let text = old_and_new("execsnoop --program exec");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 160 || line.starts_with("// ")), "{text}");
    let has = |part: &str| assert!(lines.iter().any(|line| line.contains(part)), "{part}: {text}");
    has("// asked of the kernel: probe-read-kernel (bpf_probe_read_kernel, Linux 5.5): < no, > yes");
    has("// map interps: only >: lru_hash");
    has("// exec: raw tracepoint sched_process_exec -> tracepoint sched:sched_process_exec; ");
    has("(07) r3 += 2248                                                      |    25: (07) r3 += 2824");
    has("; task_struct.real_parent moved: byte 2248 -> 2824 (programs.rs:");
    has("; bpf_probe_read -> bpf_probe_read_user of Linux 5.5; decided by probe-read-kernel (Linux 5.5) (argv.rs:");
    // The loop is written out where the kernel takes none.
    has("; decided by bounded-loops (Linux 5.3)");
    has("instructions are the same");
}

#[test]
fn a_program_that_one_kernel_cannot_have_is_told_with_what_it_lacks() {
    let text = old_and_new("bpf2bpf");
    let line = text.lines().find(|line| line.starts_with("// connect_entry: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("only >: fentry on handle_new_connection")
            && line.ends_with("decided by fentry-prog (Linux 5.5)"),
        "{line}"
    );
    let turned = printed(&format!(
        "dump bpf2bpf --program connect_entry --diff {} --diff {}",
        kernel("7.2", "7.2"),
        kernel("4.18", "5.10")
    ));
    assert!(turned.unwrap().contains("// connect_entry: only <: "), "{text}");
}

#[test]
fn flags_are_told_by_the_instructions_that_they_make() {
    let text = with_flags("tcpconnect --probe kprobe", "-P 80,443");
    let lines: Vec<&str> = text.lines().collect();
    let added: Vec<&&str> = lines.iter().filter(|line| line.get(76..77) == Some(">")).collect();
    assert_eq!(added.len(), 8, "{text}");
    assert!(added[1].ends_with("(15) if r1 == 0x5000 goto pc+2"), "{text}");
    assert!(lines.iter().any(|line| line.contains("; for `-P 80,443` (programs.rs:")), "{text}");
    // Jumps over them are the same jumps.
    assert!(lines.iter().any(|line| line.contains(" goto pc+") && line.contains(" ~ ")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("// v4_connect: the same, ")), "{text}");
    // The other way round they are left out.
    assert!(!text.contains("asked of the kernel") && !text.contains("decided by"), "{text}");
}

#[test]
fn equal_sides_are_said_to_be_equal() {
    let side = kernel("6.12", "6.12");
    let text = printed(&format!("dump tcpconnect --diff {side} --diff {side}")).unwrap();
    assert_eq!(text.lines().last(), Some("// the programs are the same, byte for byte"));
    assert!(!text.contains("// v4_connect"), "{text}");
}

#[test]
fn json_has_every_line() {
    let text = old_and_new("execsnoop --json");
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["same"], text.lines().count()), (&Value::Bool(false), 1));
    assert_eq!(found["features"][0]["feature"], "probe-read-kernel");
    assert_eq!(
        (&found["features"][0]["left"], &found["features"][0]["right"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    let programs = found["programs"].as_array().unwrap();
    let exec = programs.iter().find(|program| program["name"] == "exec").unwrap();
    let note = programs.iter().find(|program| program["name"] == "note").unwrap();
    assert!(note["left"].is_null() && note["right"]["attach"] == "raw tracepoint sched_process_exec", "{note}");
    let lines = exec["lines"].as_array().unwrap();
    let count = |side: &str| lines.iter().filter(|line| !line[side].is_null()).count();
    // Slots less the second ones of wide constants.
    let of = |line: &str| -> usize {
        let text = printed(&format!("dump execsnoop --program exec --json {line}")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["instructions"].as_array().unwrap().len()
    };
    let btf = |types: &str| fixture(&format!("btf/{types}.btf")).display().to_string();
    assert_eq!(count("left"), of(&format!("--kernel 4.18 --btf {}", btf("5.10"))));
    assert_eq!(count("right"), of(&format!("--kernel 7.2 --btf {}", btf("7.2"))));
    let moved =
        lines.iter().find(|line| line["why"].as_str().is_some_and(|why| why.contains("real_parent moved"))).unwrap();
    assert_eq!((&moved["change"], &moved["left"]["text"]), (&"changed".into(), &"(07) r3 += 2248".into()));
    assert!(moved["source"].as_str().unwrap().contains("programs.rs:"), "{moved}");
}

/// What one side says takes the place of what the line says.
#[test]
fn a_side_overrides_the_line() {
    let btf = fixture("btf/7.2.btf").display().to_string();
    let side = kernel("4.18", "5.10");
    let text = printed(&format!("dump tcpconnect --kernel=7.2 --btf {btf} --diff none --diff={side}")).unwrap();
    assert!(text.contains("probe-read-kernel (bpf_probe_read_kernel, Linux 5.5): < yes, > no"), "{text}");
}

#[test]
fn wrong_usage_is_refused() {
    check_refused(
        "dump tcpconnect",
        &[
            ("--diff 4.18 --diff later", "`later` is neither a kernel such as 4.18"),
            ("--diff 4.18,-Q --diff 7.2", "-Q"),
            ("--diff", "SIDE"),
            ("--diff 7.2", "there is 1 --diff"),
            ("--diff 7.2 --diff none --diff none", "there are 3 --diff"),
            ("--diff 7.2", "Usage: bpfkit dump"),
        ],
    );
    let error = |line: &str| printed(&format!("dump tcpconnect {line}")).unwrap_err().to_string();
    let (old, new) = (kernel("4.18", "5.10"), kernel("7.2", "7.2"));
    for more in ["--explain", "--format raw", "--format dot"] {
        assert!(error(&format!("--diff {old} --diff {new} {more}")).contains("--diff is shown as text"), "{more}");
    }
    let none = error(&format!("--diff {old} --diff {new} --program none"));
    assert!(none.contains("no program `none` on either side; there are v4_connect_r,"), "{none}");
    let missing = printed("dump tcpconnect --diff 4.18,btf=/nowhere --diff 7.2").unwrap_err();
    assert!(Chain(&missing).to_string().contains("/nowhere"), "{}", Chain(&missing));
    assert!(parse("dump tcpconnect --diff 4.18 --diff 7.2").is_ok());
}
