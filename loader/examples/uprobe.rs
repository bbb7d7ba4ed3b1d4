//! `uprobe FILE FUNCTION COUNT` prints who calls a function of a program or library, and the first argument, some times.

use std::time::Duration;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Elf, Event, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, function, count] = &arguments[..] else { return Err("usage: uprobe FILE FUNCTION COUNT".into()) };
    let mut left: u32 = count.parse()?;
    let elf = Elf::open(file)?;
    let symbol = elf.functions(&[function])?.pop().ok_or_else(|| format!("{file} has no function {function}"))?;

    let target = Target::running()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    let mut rings = PerfBuffer::open(maps.get("events").ok_or("no map")?, PerfOptions::default())?;
    let code = bpf! {
        r6 = r1;
        r1 = *(u64 *)(r6 + ctx.arg1);
        *(u64 *)(r10 - 8) = r1;
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 - 16) = r0;            // the process in the upper half, the thread in the lower
        r1 = r6;
        r2 = map[events];
        r3 = 0xffffffff ll;                 // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += -16;
        r5 = 16;
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    };
    let attach = Attach::Uprobe { path: elf.place(), offset: symbol.offset };
    let link = ProgSpec::new("calls", attach, code)?.load(&target, &maps)?.attach(&target)?;
    println!("attached to {function} by {}", link.how());
    while left > 0 {
        std::thread::sleep(Duration::from_millis(50));
        rings.drain(&mut |event| match event {
            Event::Sample(sample) if left > 0 => {
                let word = |n: usize| sample.data.get(n * 8..).and_then(|rest| rest.first_chunk());
                let [pid, argument] = [0, 1].map(|n| word(n).map_or(0, |word| u64::from_ne_bytes(*word)));
                println!("process {} called {function}({argument:#x}, ..)", pid >> 32);
                left -= 1;
            }
            Event::Sample(_) => {}
            Event::Lost { cpu, count } => eprintln!("{count} calls on CPU {cpu} found the ring full"),
        })?;
    }
    Ok(())
}
