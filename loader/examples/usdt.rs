//! `usdt FILE PROVIDER NAME COUNT` prints the first argument of a probe that the author of a program put there, some times.

use std::time::Duration;

use bpfkit_asm::{Reg, bpf};
use bpfkit_loader::{Event, Link, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target, Usdt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, provider, name, count] = &arguments[..] else {
        return Err("usage: usdt FILE PROVIDER NAME COUNT".into());
    };
    let mut left: u32 = count.parse()?;
    let target = Target::running()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    let mut rings = PerfBuffer::open(maps.get("events").ok_or("no map")?, PerfOptions::default())?;

    // Where the compiler copied the code around a probe, each copy has its arguments elsewhere, and a program of its own.
    let mut links: Vec<Link> = Vec::new();
    for usdt in Usdt::of_file(file)?.iter().filter(|usdt| usdt.provider == *provider && usdt.name == *name) {
        let code = bpf! {
            r6 = r1;
            {usdt.read_arg(0, &target, Reg::R7, Reg::R6, -8)?};
            *(u64 *)(r10 - 8) = r7;
            r1 = r6;
            r2 = map[events];
            r3 = 0xffffffff ll;             // BPF_F_CURRENT_CPU
            r4 = r10;
            r4 += -8;
            r5 = 8;
            call bpf_perf_event_output;
            r0 = 0;
            exit;
        };
        links.push(ProgSpec::new("usdt", usdt.attach()?, code)?.load(&target, &maps)?.attach(&target)?);
    }
    println!("attached to {} places of {provider}:{name}", links.len());
    while left > 0 && !links.is_empty() {
        std::thread::sleep(Duration::from_millis(50));
        rings.drain(&mut |event| match event {
            Event::Sample(sample) if left > 0 => {
                let argument = sample.data.first_chunk().map_or(0, |word| i64::from_ne_bytes(*word));
                println!("{provider}:{name} with {argument}");
                left -= 1;
            }
            Event::Sample(_) => {}
            Event::Lost { cpu, count } => eprintln!("{count} events on CPU {cpu} found the ring full"),
        })?;
    }
    Ok(())
}
