//! `bpfkit dump` of programs that the kernel runs, whoever loaded them.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Feature, Inventory, Maps, ProgSpec};
use bpfkit_tests::shown;
use serde_json::Value;

use super::settings::Sysctl;
use crate::guest::case::{Case, Ctx, Failure, chain, need};
use crate::guest::leaks::{Leftovers, PATIENCE};
use crate::guest::tool::{Tool, without};
use crate::{ensure, ensure_eq, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "dump::a_running_tool_reads_as_it_was_written", run: |ctx| running(ctx, &[]) },
    Case { name: "dump::a_running_tool_without_types", run: |ctx| running(ctx, &["prog-btf"]) },
    Case { name: "dump::source_lines_and_functions_are_in_the_kernel", run: lines },
    Case { name: "dump::a_pinned_program", run: pinned },
    Case { name: "dump::kptr_restrict_2_hides_addresses", run: hidden },
    Case { name: "dump::bpf_jit_harden_2", run: hardened },
    Case { name: "dump::bpf_jit_harden_2_and_kptr_restrict_2", run: hardened_and_hidden },
    Case { name: "dump::an_interpreted_program_says_how_it_would_be_compiled", run: interpreted },
    Case { name: "dump::runs_are_counted", run: counted },
    Case { name: "dump::a_tools_own_programs_and_their_machine_code", run: own },
    Case { name: "dump::machine_code_of_a_program_that_belongs_to_another", run: belonging },
    Case { name: "dump::the_log_of_a_refused_program_quotes_its_source", run: quoted },
];

/// What `bpfkit dump` with these arguments prints.
fn dump(ctx: &Ctx, arguments: &[&str]) -> Result<String, Failure> {
    let output = ctx.bpfkit()?.arg("dump").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("the kernel does not tell before Linux") {
        skip!("{}", said.trim_end());
    }
    ensure!(output.status.success(), "dump {arguments:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn json(ctx: &Ctx, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
    let text = dump(ctx, &[arguments, &["--format", "json"]].concat())?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Has the kernel make machine code of the programs that are loaded from now on: until Linux 5.15 it interprets them unless it is told to.
fn jit() -> Result<Sysctl, Failure> {
    Sysctl::set("net/core/bpf_jit_enable", "1")
}

/// What each instruction has under a key, where it has it.
fn of<'a>(program: &'a Value, key: &'a str) -> impl Iterator<Item = &'a Value> {
    program["instructions"].as_array().into_iter().flatten().map(move |row| &row[key]).filter(|value| !value.is_null())
}

fn running(ctx: &mut Ctx, missing: &[&str]) -> CaseResult {
    let _jit = jit()?;
    let before = Inventory::now()?.programs;
    let tool = Tool::start(ctx, "writehist", &[&["--probe", "tracepoint"], without(missing).as_slice()].concat())?;
    let ids: Vec<u32> = Inventory::now()?.programs.into_iter().filter(|id| !before.contains(id)).collect();
    ensure!(!ids.is_empty(), "the tool has no programs: {}", tool.said);
    for id in ids {
        let programs = json(ctx, &["--id", &id.to_string(), "--jited"])?;
        let program = &programs[0];
        ensure_eq!(program["loaded"]["id"], id);
        ensure!(program["loaded"]["jited_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{program}");
        ensure!(program["loaded"]["held_by"][0]["pid"] == tool.pid(), "{}", program["loaded"]);
        ensure!(program["maps"][0]["name"].as_str().is_some_and(|name| !name.is_empty()), "{program}");
        ensure!(of(program, "map").all(|map| map.as_str().is_some_and(|name| !name.starts_with("id:"))), "{program}");
        // Everything that it calls has its name.
        let calls: Vec<&str> =
            of(program, "text").filter_map(Value::as_str).filter(|text| text.contains(") call ")).collect();
        let is_named = |text: &&&str| !text.contains("call 0x") && !text.contains("unknown");
        ensure!(!calls.is_empty() && calls.iter().filter(is_named).count() == calls.len(), "{calls:#?}");
        let machine = of(program, "machine").count();
        ensure!(machine > 0, "{program}");
        let own = of(program, "source")
            .filter(|source| source["file"].as_str().is_some_and(|file| file.ends_with("writehist.rs")));
        let has_lines = missing.is_empty() && ctx.target()?.has(Feature::ProgBtf);
        ensure_eq!(own.count() > 0, has_lines);
        ensure_eq!(of(program, "declaration").count() > 0, has_lines);
        // And by its name among all.
        let name = program["name"].as_str().unwrap_or_default();
        let all = json(ctx, &["--all"])?;
        ensure!(all.iter().any(|other| other["loaded"]["id"] == id && other["name"] == name), "{name} is not there");
        ensure!(json(ctx, &["--name", name])?.iter().any(|other| other["loaded"]["id"] == id), "{name}");
    }
    Ok(())
}

/// Each statement's line is in the kernel, and the prototypes of both functions.
fn lines(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::ProgBtf])?;
    let _jit = jit()?;
    let (prog, _maps) = shown::load(&ctx.target()?)?;
    let id = prog.info()?.id.to_string();
    let text = dump(ctx, &["--id", &id, "--jited"])?;
    for part in [
        "int shown_to_others(struct __sk_buff *ctx):\n",
        "int second(unsigned long long number):\n",
        "(18) r1 = map[cells]",
        "  r1 = map[cells]\n",
        "  r0 ^= 0x12345678\n",
        "  call second\n",
        "#second",
        "call second\n",
        "and rax, 1\n",
    ] {
        ensure!(text.contains(part), "{part:?} is not in {text}");
    }
    ensure_eq!(text.lines().filter(|line| line.contains("; shown.rs:")).count(), 9);
    Ok(())
}

fn pinned(ctx: &mut Ctx) -> CaseResult {
    let (prog, _maps) = shown::load(&ctx.target()?)?;
    let id = prog.info()?.id;
    let path = Path::new("/sys/fs/bpf").join(format!("bpfkit-prog-{}", std::process::id()));
    if let Err(error) = prog.pin(&path) {
        skip!("no bpf file system: {}", chain(&error));
    }
    let name = path.display().to_string();
    let programs = json(ctx, &["--pinned", &name]);
    drop(prog);
    // It stays for as long as it is pinned.
    let later = json(ctx, &["--pinned", &name]);
    fs::remove_file(&path)?;
    for programs in [programs?, later?] {
        ensure_eq!(programs[0]["loaded"]["id"], id);
    }
    // The kernel lets it go a moment after its name.
    let end = Instant::now() + PATIENCE;
    while Inventory::now()?.programs.contains(&id) {
        ensure!(Instant::now() < end, "program {id} stays");
        sleep(Duration::from_millis(20));
    }
    let output = ctx.bpfkit()?.args(["dump", "--id", &id.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains(&format!("program {id} is gone")), "{said}");
    Ok(())
}

fn hidden(ctx: &mut Ctx) -> CaseResult {
    let _jit = jit()?;
    let (prog, _maps) = shown::load(&ctx.target()?)?;
    let id = prog.info()?.id.to_string();
    let _sysctl = Sysctl::set("kernel/kptr_restrict", "2")?;
    let text = dump(ctx, &["--id", &id])?;
    let why = "kernel.kptr_restrict is 2, which hides addresses from everybody";
    for part in [format!("// not shown: what is called: {why}\n"), format!("// not shown: machine code: {why}\n")] {
        ensure!(text.contains(&part), "{part:?} is not in {text}");
    }
    // Numbers that are hidden are not shown as zeros of something else.
    ensure!(text.contains("(85) call unknown#0") && text.contains("(85) call pc+1#"), "{text}");
    let output = ctx.bpfkit()?.args(["dump", "--jited", "--id", &id]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains(why), "{said}");
    Ok(())
}

/// The kernel hides constants behind random numbers, and shows what it runs: in a program of one function the instructions too; in
/// one of several the machine code only, for which it moves the lines of the instructions.
fn hardened(ctx: &mut Ctx) -> CaseResult {
    let _jit = jit()?;
    let sysctl = Sysctl::set("net/core/bpf_jit_harden", "2")?;
    let code = bpf! {
        r0 = 0x12345678;
        exit;
    };
    let one = ProgSpec::new("hardened", Attach::None, code)?.load(&ctx.target()?, &Maps::new());
    let several = shown::load(&ctx.target()?);
    drop(sysctl);
    let (one, (several, _maps)) = (one?, several?);
    let text = dump(ctx, &["--id", &one.info()?.id.to_string(), "--jited"])?;
    ensure!(!text.contains("305419896") && text.contains("(95) exit"), "{text}");
    let text = dump(ctx, &["--id", &several.info()?.id.to_string(), "--jited"])?;
    ensure!(
        text.contains("#second") && text.contains("call second\n") && !text.contains("xor rax, 305419896"),
        "{text}"
    );
    let told = text.contains("// not shown: source lines: the kernel has moved them");
    // Newer kernels hide constants in the instructions too, and keep their lines.
    let right = text.lines().any(|line| line.ends_with("  r0 &= 1"));
    let has_lines = ctx.target()?.has(Feature::ProgBtf);
    ensure!(told || right || !has_lines, "{text}");
    Ok(())
}

/// Instructions with hidden constants are for those only who may see addresses.
fn hardened_and_hidden(ctx: &mut Ctx) -> CaseResult {
    let _jit = jit()?;
    let sysctl = Sysctl::set("net/core/bpf_jit_harden", "2")?;
    let code = bpf! {
        r0 = 0x12345678;
        exit;
    };
    let prog = ProgSpec::new("hardened", Attach::None, code)?.load(&ctx.target()?, &Maps::new());
    drop(sysctl);
    let prog = prog?;
    let _restrict = Sysctl::set("kernel/kptr_restrict", "2")?;
    let text = dump(ctx, &["--id", &prog.info()?.id.to_string()])?;
    ensure!(text.contains("// not shown: instructions: kernel.kptr_restrict is 2"), "{text}");
    Ok(())
}

/// There is no machine code to be shown, and there would be.
fn interpreted(ctx: &mut Ctx) -> CaseResult {
    let _off = Sysctl::set("net/core/bpf_jit_enable", "0")?;
    let (prog, _maps) = shown::load(&ctx.target()?)?;
    let output = ctx.bpfkit()?.args(["dump", "--jited", "--id", &prog.info()?.id.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = "the kernel interprets the program; net.core.bpf_jit_enable=1 has it compile";
    ensure!(output.status.code() == Some(1) && said.contains(why), "{said}");
    let _on = jit()?;
    let (prog, _maps) = shown::load(&ctx.target()?)?;
    let text = dump(ctx, &["--id", &prog.info()?.id.to_string(), "--jited"])?;
    ensure!(text.contains("and rax, 1\n"), "{text}");
    Ok(())
}

fn counted(ctx: &mut Ctx) -> CaseResult {
    if !ctx.target()?.has(Feature::EnableStats) && !Path::new("/proc/sys/kernel/bpf_stats_enabled").exists() {
        let (prog, _maps) = shown::load(&ctx.target()?)?;
        let output = ctx.bpfkit()?.args(["dump", "--stats", "--id", &prog.info()?.id.to_string()]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let why = "it has no /proc/sys/kernel/bpf_stats_enabled either, which came with Linux 5.1\n";
        ensure!(output.status.code() == Some(1) && said.ends_with(why), "{said}");
        return Ok(());
    }
    let before = Inventory::now()?.programs;
    let _tool = Tool::start(ctx, "writehist", &["--probe", "tracepoint"])?;
    let ids: Vec<u32> = Inventory::now()?.programs.into_iter().filter(|id| !before.contains(id)).collect();
    let flags: Vec<String> = ids.iter().flat_map(|id| ["--id".to_owned(), id.to_string()]).collect();
    let mut command = ctx.bpfkit()?;
    command.arg("dump").args(flags).args(["--stats", "--duration", "2", "--format", "json"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    while child.try_wait()?.is_none() {
        fs::write("/dev/null", "x")?;
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let is_counted = |row: &Value| {
        row["runs"].as_u64().is_some_and(|runs| runs > 10) && row["average_ns"].as_u64().is_some_and(|ns| ns > 0)
    };
    ensure!(rows.iter().any(is_counted), "{text}");
    let last = rows.iter().rev().find(|row| is_counted(row));
    ensure!(last.is_some_and(|row| row["total_runs"].as_u64() >= row["runs"].as_u64()), "{text}");
    Ok(())
}

fn own(ctx: &mut Ctx) -> CaseResult {
    let _jit = jit()?;
    let mut arguments = vec!["writehist".to_owned(), "--probe".to_owned(), "tracepoint".to_owned()];
    if let Some(btf) = ctx.btf() {
        arguments.extend(["--btf".to_owned(), btf.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--jited"]).collect();
    let before = Inventory::now()?.programs;
    for program in json(ctx, &arguments)? {
        let machine = of(&program, "machine").count();
        let rows = program["instructions"].as_array().map_or(0, Vec::len);
        let has_lines = ctx.target()?.has(Feature::ProgBtf);
        ensure!(machine > 0 && (!has_lines || machine * 10 >= rows * 9), "{machine} of {rows} rows: {program}");
    }
    ensure_eq!(Inventory::now()?.programs, before);
    Ok(())
}

/// The program to whose function it belongs is not among those that are shown.
fn belonging(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Kprobes, Feature::FentryProg])?;
    let before = Leftovers::now();
    let btf = ctx.btf().map(|btf| btf.display().to_string());
    let types: Vec<&str> = btf.iter().flat_map(|btf| ["--btf", btf.as_str()]).collect();
    let asked = ["bpf2bpf", "--program", "connect_entry", "--jited"];
    let programs = json(ctx, &[asked.as_slice(), &types].concat())?;
    let [program] = programs.as_slice() else { fail!("{programs:?}") };
    ensure_eq!(program["name"], "connect_entry");
    ensure!(of(program, "machine").count() > 0, "{program}");
    before.leak().map_or(Ok(()), |leak| fail!("it left behind {leak}"))
}

fn quoted(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    need(&target, &[Feature::ProgBtf])?;
    let code = bpf! {
        r6 = 7;
        r0 = *(u64 *)(r6 + 0);
        exit;
    };
    match ProgSpec::new("quoted", Attach::None, code)?.load(&target, &Maps::new()) {
        Err(bpfkit_loader::Error::Rejected(rejection)) => {
            ensure!(rejection.log.contains("; r0 = *(u64 *)(r6 + 0)"), "{}", rejection.log);
            ensure_eq!(rejection.slot, Some(1));
        }
        result => fail!("{:?}", result.map(drop).map_err(|error| chain(&error))),
    }
    Ok(())
}
