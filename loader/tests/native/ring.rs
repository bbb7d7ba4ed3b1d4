//! Perf rings that are full.

use std::os::unix::process::parent_id;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Event, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target};

use super::{Skip, chain};

/// getppid(2) on x86-64 and on others.
const GETPPID: i32 = if cfg!(target_arch = "x86_64") { 110 } else { 173 };

/// Without what programs count, as before Linux 5.1 where they do not know: the ring tells with the next record, and none comes.
pub fn lost() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target).unwrap();
    let me = std::process::id().cast_signed();
    let code = bpf! {
        r6 = r1;
        r1 = *(u64 *)(r6 + ctx.id);
        if r1 != GETPPID goto out;
        call bpf_get_current_pid_tgid;
        r0 >>= 32;
        if r0 != {me} goto out;
        *(u64 *)(r10 - 8) = r0;
        r1 = r6;
        r2 = map[events];
        w3 = -1;                                        // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += -8;
        r5 = 8;
        call bpf_perf_event_output;
    out:
        r0 = 0;
        exit;
    };
    let attach = Attach::Tracepoint { category: "raw_syscalls".to_owned(), name: "sys_enter".to_owned() };
    let prog = ProgSpec::new("full", attach, code).map_err(|error| Skip(chain(&error)))?.load(&target, &maps).unwrap();
    let mut rings =
        PerfBuffer::open(maps.get("events").unwrap(), PerfOptions { pages: 1, ..Default::default() }).unwrap();
    let _link = prog.attach(&target).map_err(|error| Skip(chain(&error)))?;
    let mut finish = || {
        let (mut read, mut lost) = (0_u64, 0);
        let count = |event: Event<'_>| match event {
            Event::Sample(_) => read += 1,
            Event::Lost { count, .. } => lost += count,
        };
        rings.finish(&mut { count }).unwrap();
        (read, lost)
    };
    for _ in 0..10_000 {
        let _ = parent_id();
    }
    let (read, lost) = finish();
    if read == 0 {
        return Err(Skip("the kernel knows this process by another number".to_owned()));
    }
    assert!(lost > 1000, "a page has room for some hundred events: {read} read, {lost} lost");
    assert_eq!(read + lost, 10_000, "{read} read, {lost} lost");
    assert_eq!(finish(), (0, 0), "it is told once, and ticks are no events");
    for _ in 0..3 {
        let _ = parent_id();
    }
    assert_eq!(finish(), (3, 0));
    Ok(())
}
