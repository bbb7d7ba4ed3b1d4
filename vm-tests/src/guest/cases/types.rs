//! Types that do not come from the kernel itself: out of DWARF, out of files, of another kernel; and what `-v` says of all that.

use std::fs;
use std::path::{Path, PathBuf};

use bpfkit::roots::ROOTS;
use bpfkit_btf::{Btf, Builder, TypeId, cut};
use bpfkit_loader::Feature;

use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::cases::settings::works;
use crate::guest::dwarf;
use crate::guest::tool::{Tool, need_types};
use crate::{ensure, ensure_eq, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "types::a_vmlinux_with_dwarf_is_given", run: given },
    Case { name: "types::btf_made_from_dwarf_is_given", run: made },
    Case { name: "types::a_vmlinux_with_dwarf_is_found", run: found },
    Case { name: "types::those_of_another_kernel_are_refused", run: refused },
    Case { name: "types::those_of_another_build_are_doubted_or_passed_over", run: doubted },
    Case { name: "types::tcpconnect_says_where_each_offset_came_from", run: |ctx| verbose(ctx, &["tcpconnect"]) },
    Case {
        name: "types::tools_of_packets_say_where_each_offset_came_from",
        run: |ctx| verbose(ctx, &["icmpecho", "skbrecv", "writehist"]),
    },
    Case { name: "types::execsnoop_says_where_each_offset_came_from", run: |ctx| verbose(ctx, &["execsnoop"]) },
    Case { name: "types::tools_of_functions_say_where_each_offset_came_from", run: functions },
];

/// The running kernel's types, as far as the tools need them.
fn own(ctx: &Ctx) -> Result<Btf, Failure> {
    let target = ctx.target()?;
    let Ok(btf) = target.btf() else { skip!("the kernel has no types to make DWARF of") };
    Ok(Btf::parse(cut(btf, &btf.present(ROOTS))?)?)
}

/// The build ID of the running kernel, as its note has it.
fn build_id() -> Result<Vec<u8>, Failure> {
    let path = "/sys/kernel/notes";
    let notes = fs::read(path).doing(|| format!("read {path}"))?;
    let head = [20_u32.to_ne_bytes(), 3_u32.to_ne_bytes(), *b"GNU\0"].concat();
    let at = notes.windows(head.len()).position(|window| window == head);
    match at.and_then(|at| notes.get(at + head.len()..at + head.len() + 20)) {
        Some(id) => Ok(id.to_vec()),
        None => skip!("the kernel has no build ID"),
    }
}

/// A vmlinux with DWARF, of this build or of one whose ID differs in the last bit.
fn vmlinux(ctx: &Ctx, name: &str, is_own: bool) -> Result<PathBuf, Failure> {
    let mut id = build_id()?;
    if let Some(last) = id.last_mut().filter(|_| !is_own) {
        *last ^= 1;
    }
    let path = ctx.directory().join(name);
    fs::write(&path, dwarf::vmlinux(&own(ctx)?, Some(&id))?)?;
    Ok(path)
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::Fail(format!("{} is no text", path.display())))
}

/// A tool sees what is done, with the types from this file, and says so.
fn by_file(ctx: &Ctx, form: &str, file: &Path) -> CaseResult {
    let file = text(file)?;
    let has_kprobes = ctx.target()?.has(Feature::Kprobes);
    let (name, probe) = if has_kprobes { ("tcpconnect", "kprobe") } else { ("execsnoop", "tracepoint") };
    let said = works(ctx, name, &["--probe", probe, "--btf", file], &|_| {})?;
    ensure!(said.contains(&format!("the kernel's types are {form} in {file} after ")), "{name}: {said}");
    ensure!(said.contains("offsets by the kernel's types: "), "{name}: {said}");
    ensure!(!said.contains("another kernel"), "{name}: {said}");
    Ok(())
}

fn given(ctx: &mut Ctx) -> CaseResult {
    if ctx.btf().is_some() {
        skip!("its types are given by --btf already");
    }
    by_file(ctx, "DWARF", &vmlinux(ctx, "vmlinux", true)?)
}

fn made(ctx: &mut Ctx) -> CaseResult {
    if ctx.btf().is_some() {
        skip!("its types are given by --btf already");
    }
    let (from, to) = (vmlinux(ctx, "vmlinux", true)?, ctx.directory().join("made.btf"));
    let output = ctx.bpfkit()?.args(["btf", "from-dwarf"]).arg(&from).arg("-o").arg(&to).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (btf, target) = (Btf::from_file(&to)?, ctx.target()?);
    for path in ROOTS.iter().filter(|path| path.contains('.')) {
        if let Ok(known) = target.field(path) {
            ensure_eq!(btf.field(path)?.offset, known.offset, "{path}");
        }
    }
    ensure_eq!(btf.build_id(), bpfkit_btf::build_id(&from));
    by_file(ctx, "BTF", &to)
}

/// Where a package with debugging information puts it, on a kernel that shows no types.
fn found(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    if !ctx.is_vm() || ctx.btf().is_some() {
        skip!("/lib/modules is not ours, or the types are given by --btf");
    }
    let directory = Path::new("/lib/modules").join(ctx.release()?);
    fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
    let file = directory.join("vmlinux");
    let result = (|| {
        fs::copy(vmlinux(ctx, "vmlinux", true)?, &file)?;
        let said = works(ctx, "execsnoop", &["--without", "kernel-btf"], &|_| {})?;
        ensure!(said.contains(&format!("the kernel's types are DWARF in {}", file.display())), "{said}");
        // That of another build is not taken: execsnoop does without types.
        let (id, mut bytes) = (build_id()?, fs::read(&file)?);
        let note = bytes.windows(id.len()).position(|window| window == id);
        let note = note.ok_or_else(|| Failure::Fail("the file has no build ID".to_owned()))?;
        bytes[note] ^= 1;
        fs::write(&file, bytes)?;
        let said = works(ctx, "execsnoop", &["--without", "kernel-btf"], &|_| {})?;
        ensure!(!said.contains("the kernel's types are"), "{said}");
        let output =
            ctx.bpfkit()?.args(["skbrecv", "--probe", "kprobe", "--ebpf", "--without", "kernel-btf"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("{}: its build ID is ", file.display());
        ensure!(output.status.code() == Some(1) && said.contains(&expected), "{}: {said}", output.status);
        Ok(())
    })();
    fs::remove_file(&file)?;
    result
}

/// A kernel that has types of its own knows better.
fn refused(ctx: &mut Ctx) -> CaseResult {
    if !ctx.target()?.has(Feature::KernelBtf) || ctx.btf().is_some() {
        skip!("the kernel has no types of its own to compare with");
    }
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4, false);
    let pointer = types.ptr(TypeId(0));
    types.strukt("sk_buff", 4000, &[("dev", pointer, 8000), ("len", int, 8064), ("protocol", int, 8096)]);
    types.strukt("net_device", 4000, &[("name", int, 16_000)]);
    let file = ctx.directory().join("other.btf");
    fs::write(&file, types.finish())?;
    let output = ctx.bpfkit()?.args(["skbrecv", "--probe", "tracepoint", "--btf", text(&file)?]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    let expected = format!("{} has the types of another kernel: ", file.display());
    ensure!(said.contains(&expected) && said.contains("there, and at "), "{said}");
    Ok(())
}

/// Where it cannot be compared, what the file says of itself is told; what it says it is may still be so.
fn doubted(ctx: &mut Ctx) -> CaseResult {
    if ctx.btf().is_some() {
        skip!("its types are given by --btf already");
    }
    let (from, to) = (vmlinux(ctx, "vmlinux", false)?, ctx.directory().join("made.btf"));
    let output = ctx.bpfkit()?.args(["btf", "from-dwarf"]).arg(&from).arg("-o").arg(&to).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let named = ctx.directory().join("3.16.0-4-amd64.btf");
    fs::write(&named, own(ctx)?.as_bytes())?;
    for (file, why) in
        [(&from, "its build ID is "), (&to, "its build ID is "), (&named, "by its name it is of 3.16.0-4-amd64")]
    {
        let options = ["--probe", "tracepoint", "--without", "kernel-btf", "--btf", text(file)?];
        let said = works(ctx, "execsnoop", &options, &|_| {})?;
        let expected = format!("{} may have the types of another kernel: {why}", file.display());
        ensure!(said.contains(&expected), "{said}");
    }
    Ok(())
}

/// By each way that a tool has, the origins of all numbers that its programs depend on.
fn verbose(ctx: &Ctx, names: &[&str]) -> CaseResult {
    let target = ctx.target()?;
    let (kprobes, fentry) = (target.has(Feature::Kprobes), target.has(Feature::Fentry));
    let typed = target.btf().is_ok();
    let types = |line: &'static str| if typed { line } else { "" };
    let registers = format!("offsets by struct pt_regs of {}: arg1 ", target.arch().name());
    let tracefs = |line: &str| format!("offsets by the formats in tracefs: {line} ");
    let untyped = "offsets by looking into structures of known content: sock.__sk_common.skc_addrpair ";
    let cases: [(&str, bool, &str, Vec<String>); 10] = [
        (
            "tcpconnect",
            kprobes && typed,
            "--probe kprobe",
            vec![registers.clone(), types("offsets by the kernel's types: sock.__sk_common.skc_").into()],
        ),
        ("tcpconnect", kprobes, "--probe kprobe --without kernel-btf", vec![registers.clone(), untyped.into()]),
        ("tcpconnect", fentry, "--probe fentry", vec!["tcp_v4_connect.arg1 0".into(), "tcp_v4_connect.ret ".into()]),
        ("tcpconnect", true, "--probe tracepoint", vec![tracefs("inet_sock_set_state.daddr_v6")]),
        ("icmpecho", kprobes && typed, "--probe kprobe", vec![registers.clone(), "sk_buff.head ".into()]),
        ("skbrecv", true, "--probe tracepoint", vec!["netif_receive_skb.skbaddr ".into(), "sk_buff.protocol ".into()]),
        (
            "skbrecv",
            true,
            "--probe tracepoint --without kernel-btf",
            vec![tracefs("netif_receive_skb.len"), "content: sk_buff.protocol ".into()],
        ),
        (
            "writehist",
            true,
            "--probe tracepoint",
            vec!["what is the same in every kernel: sys_enter_write.arg3 32".into()],
        ),
        (
            "execsnoop",
            typed,
            "--probe tracepoint",
            vec!["task_struct.real_parent ".into(), "sched_process_exec.arg3 16".into()],
        ),
        ("execsnoop", true, "--probe tracepoint --without kernel-btf", vec!["the same in every kernel: ".into()]),
    ];
    for (name, can, options, expected) in cases {
        if !can || !names.contains(&name) {
            continue;
        }
        let options: Vec<&str> = options.split(' ').collect();
        let said = works(ctx, name, &options, &|_| {})?;
        for part in expected {
            ensure!(said.contains(&part), "{name} {options:?} does not say {part:?}: {said}");
        }
        let has_types = said.contains("offsets by the kernel's types: ");
        ensure!(!has_types || said.contains("bpfkit: the kernel's types are "), "{name} {options:?}: {said}");
    }
    Ok(())
}

/// The tools that look at a library's functions, and at functions of a program.
fn functions(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    let registers = format!("offsets by struct pt_regs of {}: arg1 ", target.arch().name());
    let library = ctx.lookup(true)?.display().to_string();
    let said = Tool::start(ctx, "gethostlatency", &["-l", &library])?.said.clone();
    ensure!(said.contains("structures by the C ABI") && said.contains(&registers), "{said}");
    if target.has(Feature::Kprobes) {
        let said = Tool::start(ctx, "bpf2bpf", &[])?.said.clone();
        ensure!(said.contains(&registers), "{said}");
        ensure!(!target.has(Feature::FentryProg) || said.contains("same in every kernel: "), "{said}");
    }
    Ok(())
}
