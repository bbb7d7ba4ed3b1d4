//! Events of all CPUs as one stream, in order of time: each CPU has a ring of its own, and reading one after the other would show
//! later events of the first before earlier ones of the second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Event, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::running()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    let mut rings = PerfBuffer::open(maps.get("events").ok_or("no map")?, PerfOptions::default())?;
    let code = bpf! {
        r6 = r1;
        call bpf_ktime_get_ns;
        *(u64 *)(r10 - 8) = r0;
        r1 = r6;
        r2 = map[events];
        r3 = 0xffffffff ll;                 // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += -8;
        r5 = 8;
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    };
    // Each CPU has a clock of its own, so they write at the same time.
    let link = ProgSpec::new("tick", Attach::PerfEvent { hertz: 1000 }, code)?.load(&target, &maps)?.attach(&target)?;
    let (mut last, mut backwards, mut lost) = (0, 0, 0);
    let mut ticks: BTreeMap<u32, u64> = BTreeMap::new();
    let mut take = |event: Event<'_>| match event {
        Event::Sample(sample) => {
            *ticks.entry(sample.cpu).or_default() += 1;
            backwards += u64::from(sample.time < last);
            last = sample.time;
        }
        Event::Lost { count, .. } => lost += count,
    };
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(10));
        rings.drain(&mut take)?;
    }
    drop(link);
    rings.finish(&mut take)?;
    for (cpu, ticks) in ticks {
        println!("CPU {cpu}: {ticks} events");
    }
    println!("{lost} were lost, and time went backwards {backwards} times");
    Ok(())
}
