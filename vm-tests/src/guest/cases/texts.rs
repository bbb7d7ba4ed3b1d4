//! `bpfkit asm` and `bpfkit disasm` where programs run: what a text does, and texts of what the kernel has.

use std::fs;
use std::path::PathBuf;

use bpfkit_asm::{Asm, text};
use bpfkit_loader::{Feature, Maps};
use bpfkit_tests::programs::subject;

use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::tool::Tool;
use crate::{ensure, ensure_eq, skip};

pub const CASES: &[Case] = &[
    Case { name: "texts::a_filter_is_run_on_request", run: filter },
    Case { name: "texts::what_a_program_makes_of_a_packet_is_shown", run: packet },
    Case { name: "texts::a_kprobe_prints_and_counts_until_it_is_stopped", run: |ctx| probe(ctx, true) },
    Case { name: "texts::a_tracepoint_prints_and_counts_until_it_is_stopped", run: |ctx| probe(ctx, false) },
    Case { name: "texts::a_refusal_names_the_line_of_the_text", run: refused },
    Case { name: "texts::an_object_file_is_run_by_way_of_its_text", run: object },
    Case { name: "texts::every_program_that_the_kernel_shows_comes_back", run: loaded },
];

/// A file of the case, with this in it.
fn file(ctx: &Ctx, name: &str, bytes: &[u8]) -> Result<String, Failure> {
    let path = ctx.directory().join(name);
    fs::write(&path, bytes).doing(|| format!("write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// What `bpfkit asm FILE --run` prints, and says on stderr.
fn run(ctx: &Ctx, file: &str, flags: &[&str]) -> Result<(bool, String, String), Failure> {
    let output = ctx.tool("asm")?.args([file, "--run"]).args(flags).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

fn filter(ctx: &mut Ctx) -> Result<(), Failure> {
    let text = "r6 = r1;\nr0 = *(u8 *)skb[0];\nr0 += 7;\nexit;\n";
    let (is_ok, out, err) = run(ctx, &file(ctx, "filter.bpf", text.as_bytes())?, &["--repeat", "10"])?;
    ensure!(is_ok && out.starts_with("filter: returned 7; run 10 times, "), "{out}{err}");
    Ok(())
}

fn packet(ctx: &mut Ctx) -> Result<(), Failure> {
    let text = "\
.type xdp
    r2 = *(u32 *)(r1 + 0);
    r3 = *(u32 *)(r1 + 4);
    r4 = r2;
    r4 += 14;
    if r4 > r3 goto out;
    *(u8 *)(r2 + 1) = 0xaa;
out:
    r0 = 2;
    exit;
";
    let data = "00112233445566778899aabbccddeeff";
    let (is_ok, out, err) = run(ctx, &file(ctx, "change.bpf", text.as_bytes())?, &["--data", data])?;
    ensure!(is_ok && out.starts_with("change: returned 2; run once, "), "{out}{err}");
    ensure!(out.contains("change: packet of 16 bytes, was 16\n  0000: 00 aa 22 33 44 "), "{out}");
    Ok(())
}

/// Counts a system call that only this case makes, by process, and says so each time.
fn probe(ctx: &mut Ctx, is_kprobe: bool) -> Result<(), Failure> {
    let target = ctx.target()?;
    let place = if is_kprobe {
        if !target.has(Feature::Kprobes) {
            skip!("this kernel lacks {}", Feature::Kprobes);
        }
        format!("kprobe {}", target.syscall("getpgid")?.symbol)
    } else {
        "tracepoint syscalls:sys_enter_getpgid".to_owned()
    };
    let text = format!(
        "\
.attach {place}
.map calls hash key 4 value 8 max 1024
    r1 = 0x0a6c6c6163 ll;                // \"call\" and, as before Linux 5.9 only the program ends its line, a newline
    *(u64 *)(r10 - 8) = r1;
    r1 = r10;
    r1 += -8;
    r2 = 6;
    call bpf_trace_printk;
    call bpf_get_current_pid_tgid;
    r0 >>= 32;
    *(u32 *)(r10 - 12) = r0;
    r1 = map[calls];
    r2 = r10;
    r2 += -12;
    call bpf_map_lookup_elem;
    if r0 == 0 goto first;
    r1 = 1;
    lock *(u64 *)(r0 + 0) += r1;
    goto out;
first:
    *(u64 *)(r10 - 24) = 1;
    r1 = map[calls];
    r2 = r10;
    r2 += -12;
    r3 = r10;
    r3 += -24;
    r4 = 0;
    call bpf_map_update_elem;
out:
    r0 = 0;
    exit;
"
    );
    let file = file(ctx, "count.bpf", text.as_bytes())?;
    let mut tool = Tool::start(ctx, "asm", &[&file, "--run"])?;
    ensure!(tool.said.contains("attached by "), "{}", tool.said);
    for _ in 0..3 {
        rustix::process::getpgid(None)?;
    }
    let rows = tool.rows()?;
    let own = format!("({}): 03 00 00 00 00 00 00 00 (3)", std::process::id());
    ensure!(rows.iter().any(|row| row.starts_with("map calls: ")), "{rows:?}");
    ensure!(rows.iter().any(|row| row.ends_with(&own)), "{own}: {rows:?}");
    ensure!(rows.iter().filter(|row| row.ends_with("] call")).count() >= 3, "{rows:?}");
    Ok(())
}

fn refused(ctx: &mut Ctx) -> Result<(), Failure> {
    let path = file(ctx, "bad.bpf", b"r1 = 0;\n  r0 = r5;    // nobody has written it\nexit;\n")?;
    let (is_ok, out, err) = run(ctx, &path, &[])?;
    ensure!(!is_ok && out.is_empty(), "{out}");
    ensure!(err.contains("the verifier refused the program `bad`") && err.contains("R5 !read_ok"), "{err}");
    ensure!(err.contains(&format!("at {path}:2:3: `r0 = r5`")) && err.contains(">    1: (bf) r0 = r5"), "{err}");
    Ok(())
}

/// What clang made of tests/fixtures/bpf/sample.c: global variables, read-only data, functions of another section, a map.
fn object(ctx: &mut Ctx) -> Result<(), Failure> {
    const OBJECT: &[u8] = include_bytes!("../../../../tests/fixtures/bpf/sample.o");
    if !ctx.target()?.has(Feature::MapValue) {
        skip!("this kernel lacks {}", Feature::MapValue);
    }
    let elf = file(ctx, "sample.o", OBJECT)?;
    let output = ctx.bpfkit()?.args(["disasm", &elf]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = file(ctx, "sample.bpf", &output.stdout)?;
    let (is_ok, out, err) = run(ctx, &path, &["--section", "socket", "--repeat", "2"])?;
    // The first run adds table[0] and 2 to the variable and gives 3 times 4, the variable before the 2, and its lowest bit.
    ensure!(is_ok && out.contains("filter: returned 16; run 2 times"), "{out}{err}");
    ensure!(out.contains("map .bss: 1 element\n  00 00 00 00 (0): 06 00 00 00 00 00 00 00 (6)"), "{out}");
    Ok(())
}

fn loaded(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let mut slots = 0;
    for line in ["writehist --probe kprobe", "tcpconnect --probe tracepoint -c", "execsnoop --probe tracepoint -x"] {
        let subject = subject(line, &target)?;
        let mut maps = Maps::new();
        for map in &subject.maps {
            maps.create(map, &target)?;
        }
        for linked in &subject.programs {
            let program = linked.clone().load(&target, &maps)?;
            let Ok(shown) = program.xlated()? else { skip!("this kernel does not show its programs") };
            let text = text(&shown);
            let again = Asm::parse(&text, "shown")?.finish()?;
            ensure_eq!(again.insns(), &shown[..], "{line} {}: {text}", linked.spec().name);
            slots += shown.len();
        }
    }
    ensure!(slots > 100, "{slots} slots");
    let path = PathBuf::from(file(ctx, "none", b"")?);
    ensure!(!ctx.bpfkit()?.arg("disasm").arg(path).output()?.status.success(), "an empty file is no program");
    Ok(())
}
