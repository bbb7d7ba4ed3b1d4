//! A program that sends 48 bytes through a perf ring each time that it runs.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Error, Link, MapSpec, Maps, PerfBuffer, PerfOptions, Prog, ProgSpec, ProgType, Target};

/// The bytes of an event.
pub const EVENT: u32 = 48;
/// BPF_F_CURRENT_CPU
const CURRENT_CPU: i64 = 0xffff_ffff;

/// The statements that fill an event with zeros and send it. The context is in r1.
fn send() -> Asm {
    bpf! {
        r6 = r1;
        *(u64 *)(r10 - 48) = 0;
        *(u64 *)(r10 - 40) = 0;
        *(u64 *)(r10 - 32) = 0;
        *(u64 *)(r10 - 24) = 0;
        *(u64 *)(r10 - 16) = 0;
        *(u64 *)(r10 - 8) = 0;
        r1 = r6;
        r2 = map[events];
        r3 = {CURRENT_CPU} ll;
        r4 = r10;
        r4 += -48;
        r5 = {EVENT};
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    }
}

fn prepare(target: &Target, options: PerfOptions) -> Result<(Maps, PerfBuffer), Error> {
    let events = MapSpec::perf_event_array("events").create(target)?;
    let rings = PerfBuffer::open(&events, options)?;
    let mut maps = Maps::new();
    maps.insert("events", events);
    Ok((maps, rings))
}

/// Attached to the entry of getppid(2), and the rings that it sends to.
///
/// # Errors
/// What the kernel says.
pub fn at_getppid(options: PerfOptions) -> Result<(Link, PerfBuffer), Error> {
    let target = Target::running()?;
    let (maps, rings) = prepare(&target, options)?;
    let attach = Attach::Tracepoint { category: "syscalls".into(), name: "sys_enter_getppid".into() };
    let link = ProgSpec::new("getppid", attach, send())?.load(&target, &maps)?.attach(&target)?;
    Ok((link, rings))
}

/// One that is run by asking for it, and the rings that it sends to.
///
/// # Errors
/// What the kernel says.
pub fn on_demand(options: PerfOptions) -> Result<(Prog, PerfBuffer), Error> {
    let target = Target::running()?;
    let (maps, rings) = prepare(&target, options)?;
    let nowhere = Attach::Trial { kind: ProgType::SCHED_CLS, expected: 0 };
    let spec = ProgSpec::new("send", nowhere, send())?;
    Ok((spec.load(&target, &maps)?, rings))
}
