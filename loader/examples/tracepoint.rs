//! `tracepoint COUNT` prints the programs that are started, by the tracepoint sched:sched_process_exec.

use std::time::Duration;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Event, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut left: u32 = std::env::args().nth(1).ok_or("usage: tracepoint COUNT")?.parse()?;
    let target = Target::running()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    let mut rings = PerfBuffer::open(maps.get("events").ok_or("no map")?, PerfOptions::default())?;
    let code = bpf! {
        r6 = r1;
        r1 = *(u32 *)(r6 + ctx.pid);        // a field of the tracepoint's record, wherever this kernel has it
        *(u64 *)(r10 - 24) = r1;
        r1 = r10;
        r1 += -16;
        r2 = 16;
        call bpf_get_current_comm;
        r1 = r6;
        r2 = map[events];
        r3 = 0xffffffff ll;                 // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += -24;
        r5 = 24;
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    };
    let attach = Attach::Tracepoint { category: "sched".into(), name: "sched_process_exec".into() };
    let link = ProgSpec::new("execs", attach, code)?.load(&target, &maps)?.attach(&target)?;
    println!("{link}");
    while left > 0 {
        std::thread::sleep(Duration::from_millis(50));
        rings.drain(&mut |event| match event {
            Event::Sample(sample) if left > 0 => {
                let Some((pid, comm)) = sample.data.split_first_chunk() else { return };
                let comm: Vec<u8> = comm.iter().take(16).copied().take_while(|&byte| byte != 0).collect();
                println!("process {} is {}", u64::from_ne_bytes(*pid), comm.escape_ascii());
                left -= 1;
            }
            Event::Sample(_) => {}
            Event::Lost { cpu, count } => eprintln!("{count} events on CPU {cpu} found the ring full"),
        })?;
    }
    Ok(())
}
