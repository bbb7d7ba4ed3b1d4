//! Programs at functions of other programs, in place of functions, at hooks of security modules and at typed tracepoints.
//!
//! The loader's examples are cases here: what they show holds on every kernel.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, CType, Feature, Linkage, Map, Maps, ProgSpec, Prototype, Target, Tasks};

use super::probe::{Probe, connection, program};
use crate::guest::case::{Case, Ctx, Doing as _, Failure, chain, need};
use crate::{ensure, ensure_eq, skip};

#[allow(dead_code, unreachable_pub)] // they have a main of their own
#[path = "../../../../loader/examples/fentry.rs"]
mod fentry;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../loader/examples/fexit_on_bpf.rs"]
mod fexit_on_bpf;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../loader/examples/freplace.rs"]
mod freplace;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../loader/examples/lsm_deny.rs"]
mod lsm_deny;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../loader/examples/tp_btf.rs"]
mod tp_btf;

pub const CASES: &[Case] = &[
    Case { name: "loader::fentry_example_counts_what_is_written", run: fentry_example },
    Case { name: "loader::fexit_on_bpf_example_sees_argument_and_result", run: fexit_example },
    Case { name: "loader::freplace_example_changes_the_answer_while_it_is_attached", run: freplace_example },
    Case { name: "loader::lsm_example_denies_one_file_while_it_is_attached", run: lsm_example },
    Case { name: "loader::tp_btf_example_counts_a_connection", run: tp_btf_example },
    Case { name: "loader::tp_btf_delivers_arguments", run: tp_btf_arguments },
    Case { name: "loader::fmod_ret_returns_in_the_functions_place", run: fmod_ret },
    Case { name: "loader::fmod_ret_of_another_function_is_refused_with_the_reason", run: not_modifiable },
    Case {
        name: "loader::program_function_with_numbers_is_seen_at_entry_and_return",
        run: |ctx| watched(ctx, true, 2),
    },
    Case {
        name: "loader::program_function_with_pointers_is_seen_at_entry_and_return",
        run: |ctx| watched(ctx, false, 5),
    },
    Case { name: "loader::program_entered_by_the_kernel_is_seen_at_entry_and_return", run: whole },
    Case { name: "loader::program_function_is_replaced_or_watched_and_not_both", run: busy },
    Case { name: "loader::places_that_are_none_are_told", run: misplaced },
];

fn words(map: Option<&Map>) -> Result<Vec<u64>, Failure> {
    let map = map.ok_or_else(|| Failure::Fail("no map".to_owned()))?;
    let size = usize::try_from(map.info().value_size).unwrap_or_default();
    let mut value = vec![0; size];
    map.lookup(&[0; 4], &mut value)?;
    Ok(value.chunks_exact(8).filter_map(|word| word.first_chunk().copied().map(u64::from_ne_bytes)).collect())
}

fn fentry_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::Fentry])?;
    let (maps, link) = fentry::count_writes(&target)?;
    let before = words(maps.get("bytes"))?[0];
    fs::write(ctx.directory().join("file"), [0; 54_321])?;
    let after = words(maps.get("bytes"))?[0];
    ensure!(after >= before + 54_321, "{before} to {after} by {}", link.how());
    Ok(())
}

fn fexit_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::FentryProg])?;
    let (maps, _links) = fexit_on_bpf::watch(&target)?;
    let last = words(maps.get("last"))?;
    // The last system call before this look was the look, but other processors make some of their own.
    ensure!(last[0] < 1000 && last[1] == last[0] + 1000, "{last:?}");
    Ok(())
}

fn freplace_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::Freplace])?;
    let (maps, spec, link) = freplace::ask(&target)?;
    let answer = || words(maps.get("answer")).map(|words| words[0]);
    ensure_eq!(answer()?, 1, "before it is replaced");
    let replacement = freplace::replace(&target, &spec, &link, 42)?;
    ensure_eq!(answer()?, 42, "replaced by {}", replacement.how());
    // A second one finds the place taken.
    let Err(error) = freplace::replace(&target, &spec, &link, 43) else {
        return Err(Failure::Fail("it was replaced twice".to_owned()));
    };
    ensure!(chain(&error).contains("this one is already"), "{}", chain(&error));
    drop(replacement);
    ensure_eq!(answer()?, 1, "after");
    Ok(())
}

fn lsm_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::Lsm])?;
    let (denied, other) = (ctx.directory().join("denied"), ctx.directory().join("other"));
    fs::write(&denied, "secret")?;
    fs::write(&other, "open")?;
    let (inode, device) = lsm_deny::file(&denied)?;
    let modules = target.security_modules();
    let link = match lsm_deny::deny(&target, inode, device) {
        Err(error) if modules.as_ref().is_some_and(|list| !list.split(',').any(|module| module == "bpf")) => {
            ensure!(chain(&error).contains("never runs it"), "{}", chain(&error));
            skip!("{}", chain(&error));
        }
        link => link.doing(|| format!("attach, with the modules {modules:?}"))?,
    };
    let refusal = fs::read(&denied).err().and_then(|error| error.raw_os_error());
    ensure_eq!(refusal, Some(libc::EPERM), "opening it, by {}", link.how());
    ensure_eq!(fs::read_to_string(&other)?, "open");
    drop(link);
    ensure_eq!(fs::read_to_string(&denied)?, "secret", "after");
    Ok(())
}

fn tp_btf_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::TpBtf])?;
    let (maps, link) = tp_btf::count_connections(&target)?;
    let before = words(maps.get("established"))?[0];
    let (client, server) = connection()?;
    let after = words(maps.get("established"))?;
    ensure!(after[0] == before + 2, "{before} to {after:?} by {}", link.how());
    let ports = [client.local_addr()?.port(), server.local_addr()?.port()].map(u64::from);
    ensure!(ports.contains(&after[1]), "{after:?} instead of one of {ports:?}");
    Ok(())
}

/// TCP_SYN_SENT of include/net/tcp_states.h.
const SYN_SENT: u64 = 2;

fn tp_btf_arguments(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::TpBtf])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?;
    // The port in the upper half, then the old state and the new one.
    let value = bpf! {
        r7 = *(u64 *)(r6 + ctx.arg1);
        r7 = *(u16 *)(r7 + sock.__sk_common.skc_dport);
        r7 = be16 r7;
        r7 <<= 32;
        r1 = *(u64 *)(r6 + ctx.arg2);
        r1 <<= 16;
        r7 |= r1;
        r1 = *(u64 *)(r6 + ctx.arg3);
        r7 |= r1;
    };
    let mut probe = Probe::start(&target, Attach::TpBtf { name: "inet_sock_set_state".to_owned() }, value)?;
    std::net::TcpStream::connect(to)?;
    // From TCP_CLOSE, 7.
    probe.expect(u64::from(to.port()) << 32 | 7 << 16 | SYN_SENT)
}

/// getpgid(2) of this process comes to `security_task_getpgid`, and of another, too; what is changed is this one's.
fn fmod_ret(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::FmodRet])?;
    let me = rustix::process::getpid();
    let pid = std::process::id();
    let code = bpf! {
        r6 = r1;
        call bpf_get_current_pid_tgid;
        r0 >>= 32;
        r1 = r0;
        r0 = *(u64 *)(r6 + ctx.ret);            // what another program has decided: nothing
        if r1 != {pid} goto out;
        r0 += -13;                              // -EACCES
    out:
        exit;
    };
    let attach = Attach::FmodRet { func: "security_task_getpgid".to_owned() };
    let link = ProgSpec::new("no_getpgid", attach, code)?.load(&target, &Maps::new())?.attach(&target)?;
    let refused = rustix::process::getpgid(Some(me));
    ensure_eq!(refused, Err(rustix::io::Errno::ACCESS), "by {}", link.how());
    drop(link);
    ensure!(rustix::process::getpgid(Some(me)).is_ok(), "it is refused still");
    Ok(())
}

fn returns() -> Asm {
    bpf! {
        r0 = 0;
        exit;
    }
}

fn not_modifiable(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::FmodRet])?;
    let attach = Attach::FmodRet { func: "tcp_close".to_owned() };
    let Err(error) = ProgSpec::new("no_close", attach, returns())?.load(&target, &Maps::new()) else {
        return Err(Failure::Fail("it was loaded".to_owned()));
    };
    ensure!(chain(&error).contains("tcp_close() is not modifiable"), "{}", chain(&error));
    Ok(())
}

/// A size that nothing else sends, and what is added to it.
const SIZE: usize = 1237;
const SENT: u64 = 1237;

/// A kprobe on `tcp_sendmsg(sk, msg, size)` that sends what `int measured(..)` makes of the size: twice as much. With `numbers`
/// it takes the context and the size; else the socket, too, which is a pointer to C and a number to the verifier.
fn measuring(numbers: bool) -> Result<ProgSpec, Failure> {
    let value = bpf! {
        r1 = r6;
        r2 = *(u64 *)(r6 + ctx.arg3);
        r3 = *(u64 *)(r6 + ctx.arg1);
        call measured;
        r7 = r0;
    };
    let measured = bpf! {
        r0 = r2;
        r0 += r2;
        exit;
    };
    let mut proto = Prototype::int();
    if numbers {
        proto = proto.param("ctx", CType::Context).param("size", CType::U64);
    } else {
        proto = proto.param("ctx", CType::Struct("pt_regs".to_owned())).param("size", CType::U64);
        proto = proto.param("sk", CType::Struct("sock".to_owned()));
    }
    let attach = Attach::Kprobe { symbol: "tcp_sendmsg".to_owned(), offset: 0 };
    Ok(ProgSpec::new("measuring", attach, program(value))?.func_with("measured", proto, Linkage::Static, measured)?)
}

fn watching_target(ctx: &Ctx) -> Result<Target, Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::FentryProg, Feature::Kprobes])?;
    Ok(target)
}

fn send() -> Result<(), Failure> {
    let (mut client, _server) = connection()?;
    client.write_all(&[7; SIZE])?;
    Ok(())
}

/// The argument in the upper half and the result in the lower one.
fn argument_and_result() -> Asm {
    bpf! {
        r7 = *(u64 *)(r6 + ctx.arg2);
        r7 <<= 32;
        r1 = *(u64 *)(r6 + ctx.ret);
        r7 |= r1;
    }
}

/// Argument and result are right, whichever word the kernel keeps the result in; and that is the one of which a listing for
/// a kernel that does not run tells.
fn watched(ctx: &Ctx, numbers: bool, word: u32) -> Result<(), Failure> {
    let target = watching_target(ctx)?;
    let spec = measuring(numbers)?;
    let func = spec.function("measured")?;
    let mut measuring = Probe::load(&target, spec)?;
    let entry =
        ProgSpec::new("entry", Attach::FentryProg(func.clone()), program(bpf! { r7 = *(u64 *)(r6 + ctx.arg2); }))?;
    let exit = ProgSpec::new("exit", Attach::FexitProg(func), program(argument_and_result()))?;
    let filled: Vec<String> = exit.link(&target)?.filled().values().map(ToString::to_string).collect();
    ensure!(filled.contains(&format!("ctx.ret at {}", word * 8)), "{filled:?}");
    let mut entry = Probe::load_onto(&target, entry, measuring.prog())?;
    let mut exit = Probe::load_onto(&target, exit, measuring.prog())?;
    if let Ok(insns) = exit.prog().xlated()? {
        // A kernel without types of its own does not know the type of a context, and believes in no prototype with one.
        let word = if target.has(Feature::KernelBtf) { word } else { 5 };
        let load = format!("r1 = *(u64 *)(r6 +{})", word * 8);
        let insns: Vec<String> = insns.iter().map(ToString::to_string).collect();
        ensure!(insns.iter().any(|insn| insn.ends_with(&load)), "no {load} in {insns:#?}");
    }
    send()?;
    measuring.expect(2 * SENT)?;
    entry.expect(SENT)?;
    exit.expect((SENT << 32) | (2 * SENT))
}

/// The function where the kernel enters has the context as its only argument.
fn whole(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = watching_target(ctx)?;
    let attach = Attach::Kprobe { symbol: "tcp_sendmsg".to_owned(), offset: 0 };
    let code = bpf! {
        r0 = *(u64 *)(r1 + ctx.arg3);
        r0 &= 1;                                // perf takes notice of nothing else
        exit;
    };
    let spec = ProgSpec::new("odd", attach, code)?;
    let exit = ProgSpec::new(
        "exit",
        Attach::FexitProg(spec.function("odd")?),
        program(bpf! { r7 = *(u64 *)(r6 + ctx.ret); }),
    )?;
    let odd = spec.load(&target, &Maps::new())?;
    let mut exit = Probe::load_onto(&target, exit, &odd)?;
    let _odd = odd.attach(&target)?;
    send()?;
    exit.expect(SENT & 1)
}

/// A replaced function is not watched, nor is a watched one replaced; and the reason is told.
fn busy(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::Freplace])?;
    let (_maps, spec, link) = freplace::ask(&target)?;
    let watcher = || ProgSpec::new("watcher", Attach::FentryProg(spec.function("answer")?), returns());
    let watch = || watcher()?.load_onto(&target, &Maps::new(), link.prog())?.attach(&target);
    let told = |error: bpfkit_loader::Error| -> Result<(), Failure> {
        let text = chain(&error);
        ensure!(text.contains("either replaced or watched") && text.contains("answer of the program ask"), "{text}");
        Ok(())
    };
    let replacement = freplace::replace(&target, &spec, &link, 2)?;
    watch().map_or_else(told, |_| Err(Failure::Fail("a replaced function was watched".to_owned())))?;
    drop(replacement);
    let watching = watch()?;
    let replaced = freplace::replace(&target, &spec, &link, 2);
    replaced.map_or_else(told, |_| Err(Failure::Fail("a watched function was replaced".to_owned())))?;
    drop(watching);
    freplace::replace(&target, &spec, &link, 2)?;
    Ok(())
}

/// What is no place says so before the kernel says EINVAL.
fn misplaced(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = watching_target(ctx)?;
    need(&target, &[Feature::Freplace])?;
    let spec = measuring(true)?;
    let static_func = spec.function("measured")?;
    let mut absent = static_func.clone();
    absent.func = "weighed".to_owned();
    let measuring = Probe::load(&target, spec)?;
    let onto =
        |attach| ProgSpec::new("lost", attach, returns())?.load_onto(&target, &Maps::new(), measuring.prog()).map(drop);
    let plain = |attach| ProgSpec::new("lost", attach, returns())?.load(&target, &Maps::new()).map(drop);
    let [tracepoint, hook] = match target.has(Feature::KernelBtf) {
        true => ["btf_trace_no_tracepoint", "bpf_lsm_no_hook"],
        false => ["the kernel lacks"; 2],
    };
    for (result, words) in [
        (onto(Attach::None), "no function of another"),
        (onto(Attach::Freplace(static_func.clone())), "static"),
        (onto(Attach::FentryProg(absent)), "no such function"),
        (plain(Attach::FentryProg(static_func)), "measuring"),
        (plain(Attach::TpBtf { name: "no_tracepoint".to_owned() }), tracepoint),
        (plain(Attach::Lsm { hook: "no_hook".to_owned() }), hook),
    ] {
        let Err(error) = result else { return Err(Failure::Fail(format!("{words}: it was loaded"))) };
        ensure!(chain(&error).contains(words), "{words}: {}", chain(&error));
    }
    need(&target, &[Feature::Fentry])?;
    // The kernel was told the place when it loaded the program, and attaches it nowhere else.
    let fentry = |func: &str| Attach::Fentry { func: func.to_owned() };
    let closes = ProgSpec::new("closes", fentry("tcp_close"), returns())?.load(&target, &Maps::new())?;
    let Err(error) = closes.attach_to(&fentry("tcp_connect"), Tasks::All, &target) else {
        return Err(Failure::Fail("it was attached elsewhere".to_owned()));
    };
    ensure!(chain(&error).contains("loaded for fentry on tcp_close"), "{}", chain(&error));
    Ok(())
}
