//! `bpfkit dump` of programs that are on this machine, loaded here. Without root it says that it was skipped; the cases of `vm-tests`
//! look at programs on other kernels.

use std::process::Command;

use bpfkit_loader::{Maps, Prog, Target};
use bpfkit_tests::programs::{check_refused, printed};
use bpfkit_tests::shown;
use serde_json::Value;

/// The program that is shown here. None where this process may not load one.
fn load() -> Option<(Prog, Maps)> {
    match shown::load(&Target::running().unwrap()) {
        Err(error) if error.is_permission() => {
            eprintln!("skipped: it takes root: {}", bpfkit::Chain(&error));
            None
        }
        loaded => Some(loaded.unwrap()),
    }
}

#[test]
fn a_loaded_program_is_shown_with_its_lines_functions_and_maps() {
    let Some((prog, _maps)) = load() else { return };
    let id = prog.info().unwrap().id;
    let text = printed(&format!("dump --id {id}")).unwrap();
    let has = |part: &str| assert!(text.contains(part), "{part}: {text}");
    has(&format!("// shown_to_others: program {id}; type socket_filter, licence GPL, "));
    has(" by user 0, tag ");
    has("): array, key 4 bytes, value 8 bytes, at most 1\n");
    has("int shown_to_others(struct __sk_buff *ctx):\n     0: ");
    has("int second(unsigned long long number):\n");
    has("(18) r1 = map[cells]");
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {text}"));
    assert!(line("#second").contains("; shown.rs:"), "{text}");
    assert!(line("(57) r0 &= 1").ends_with("  r0 &= 1"), "{text}");
    // By its name, of which there may be others in other tests.
    let named = printed("dump --name shown_to_others --format json").unwrap();
    let programs: Vec<Value> = named.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own = programs.iter().find(|program| program["loaded"]["id"] == id).unwrap();
    assert_eq!((&own["maps"][0]["name"], own["instructions"][0]["slot"].as_u64()), (&"cells".into(), Some(0)));
    assert!(own["loaded"]["loaded_at"].as_u64().is_some_and(|at| at > 1_600_000_000), "{own}");
    // Those of other processes are there too, and none of them stops it.
    assert!(printed("dump --all").unwrap().contains(&format!("program {id};")));
    let dot = printed(&format!("dump --id {id} --format dot")).unwrap();
    assert!(dot.starts_with("digraph"), "{dot}");
}

/// What is shown as machine code of each row, by its text.
fn machine(program: &Value) -> Vec<(String, Vec<String>)> {
    let texts = |row: &Value| {
        let machine = row["machine"].as_array().map(Vec::as_slice).unwrap_or_default();
        machine.iter().map(|insn| insn["text"].as_str().unwrap().to_owned()).collect()
    };
    let rows = program["instructions"].as_array().unwrap();
    rows.iter().map(|row| (row["text"].as_str().unwrap().to_owned(), texts(row))).collect()
}

#[test]
fn machine_code_is_beside_the_instruction_that_it_was_made_of() {
    if !cfg!(target_arch = "x86_64") {
        return eprintln!("skipped: machine code is taken apart for x86-64 only");
    }
    let Some((prog, _maps)) = load() else { return };
    let shown = printed(&format!("dump --id {} --jited --format json", prog.info().unwrap().id));
    let shown = match shown {
        Err(error) if error.to_string().contains("is not shown") => return eprintln!("skipped: {error}"),
        shown => shown.unwrap(),
    };
    let rows = machine(&serde_json::from_str(&shown).unwrap());
    let of = |part: &str| &rows.iter().find(|(text, _)| text.contains(part)).unwrap_or_else(|| panic!("{part}")).1;
    assert_eq!(of("(bf) r1 = r0"), &["mov rdi, rax"]);
    assert_eq!(of("#second"), &["call second"]);
    assert_eq!(of("r0 &= 1"), &["and rax, 1"]);
    assert!(of("bpf_ktime_get_ns")[0].starts_with("call "), "{rows:?}");
    // The function's prologue is its first line's.
    assert!(of("map[cells]").iter().any(|text| text == "push rbp"), "{rows:?}");
    assert!(of("(bf) r0 = r1").iter().any(|text| text == "mov rax, rdi"), "{rows:?}");
}

/// A tool's programs are loaded for it, and are gone when it is shown.
#[test]
fn a_tools_own_program_is_shown_with_its_machine_code() {
    if !cfg!(target_arch = "x86_64") || load().is_none() {
        return;
    }
    let shown = match printed("dump tcpconnect --probe tracepoint --jited --format json") {
        Err(error) => return eprintln!("skipped: this kernel does not load it, or does not show it: {error}"),
        Ok(shown) => shown,
    };
    let program: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    let rows = machine(&program);
    let with_code = rows.iter().filter(|(_, machine)| !machine.is_empty()).count();
    assert!(with_code * 10 >= rows.len() * 9, "{with_code} of {}", rows.len());
    // Here instructions are as they were written, whatever the verifier made of them.
    let (_, exit) = rows.iter().find(|(text, _)| text == "(95) exit").unwrap();
    assert!(exit.iter().any(|text| text == "leave"), "{exit:?}");
    let (_, call) = rows.iter().find(|(text, _)| text.contains("bpf_get_current_pid_tgid")).unwrap();
    assert!(call.iter().any(|text| text.starts_with("call ")), "{call:?}");
}

#[test]
fn runs_are_counted_by_second_and_in_all() {
    let Some((prog, _maps)) = load() else { return };
    let id = prog.info().unwrap().id;
    let rows = printed(&format!("dump --id {id} --stats --duration 0.1 --format json")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // It is attached nowhere.
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["id"], &row["total_runs"], &row["average_ns"]), (&id.into(), &0.into(), &Value::Null));
    let text = printed(&format!("dump --id {id} --stats --duration 0.1")).unwrap();
    assert!(text.starts_with("ID    NAME             RUNS/s "), "{text}");
    assert_eq!(text.lines().nth(1).unwrap().split_whitespace().nth(1), Some("shown_to_others"), "{text}");
}

#[test]
fn what_is_not_there_is_told_by_its_name() {
    let Some((prog, _maps)) = load() else { return };
    let id = prog.info().unwrap().id;
    let refused = |flags: &str| printed(&format!("dump {flags}")).unwrap_err();
    assert!(refused("--id 4294967295").to_string().contains("program 4294967295"), "{}", refused("--id 4294967295"));
    assert!(refused("--name nobody_has_it").to_string().contains("`nobody_has_it`"));
    assert!(refused("--pinned /nowhere").to_string().contains("/nowhere"));
    for form in ["c", "raw", "obj"] {
        assert!(refused(&format!("--id {id} --format {form}")).to_string().contains("it is shown as text, json"));
    }
    drop(prog);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let gone = refused(&format!("--id {id}")).to_string();
    assert_eq!(gone, format!("program {id} is gone, or never was"));
}

#[test]
fn wrong_usage_is_refused() {
    check_refused(
        "dump",
        &[
            ("--stats", "--all"),
            ("--id 1 --duration 2", "--stats"),
            ("--id 1 tcpconnect", "by themselves"),
            ("--id many", "many"),
        ],
    );
}

/// Its listing of the same program, where it is installed.
#[test]
fn instructions_are_those_that_bpftool_shows() {
    let Some((prog, _maps)) = load() else { return };
    let id = prog.info().unwrap().id;
    let output = Command::new("bpftool").args(["prog", "dump", "xlated", "id", &id.to_string()]).output();
    let Ok(output) = output else { return eprintln!("skipped: bpftool is not installed") };
    let theirs = String::from_utf8(output.stdout).unwrap();
    let instruction = |line: &str| {
        let (slot, text) = line.trim().split_once(": (")?;
        slot.parse::<usize>().ok().map(|slot| format!("{slot}: ({text}"))
    };
    let theirs: Vec<String> = theirs.lines().filter_map(instruction).collect();
    let shown: Value = serde_json::from_str(&printed(&format!("dump --id {id} --format json")).unwrap()).unwrap();
    let map = shown["maps"][0]["id"].as_u64().unwrap();
    let ours = shown["instructions"].as_array().unwrap().iter().map(|row| {
        let text = row["text"].as_str().unwrap().replace("map[cells]", &format!("map[id:{map}]"));
        format!("{}: {text}", row["slot"])
    });
    // It calls functions of the program by the kernel's names for them: bpf_prog_TAG_second.
    let name = |line: String| {
        line.rsplit_once('#').filter(|_| line.contains("call pc")).map_or(line.clone(), |(call, _)| call.to_owned())
    };
    assert_eq!(ours.map(name).collect::<Vec<_>>(), theirs.into_iter().map(name).collect::<Vec<_>>());
}
