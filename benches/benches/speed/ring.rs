//! Reading perf rings: records are parsed, put in order of time and handed over. It takes root, as the kernel fills the rings.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bpfkit_benches::ring;
use bpfkit_loader::{Event, PerfOptions, TestInput};
use criterion::{Criterion, Throughput};

/// Events that are read in one go; they fit into a ring.
const EVENTS: u32 = 4096;

pub fn benches(criterion: &mut Criterion) {
    let (prog, mut rings) = match ring::on_demand(PerfOptions { pages: 128, wake_at: 4 }) {
        Ok(opened) => opened,
        Err(error) => return eprintln!("skipped: perf ring: {error}"),
    };
    let fill = || {
        let input = TestInput { data: vec![0; 64], context: Vec::new(), repeat: EVENTS };
        prog.test_run(&input).map(drop)
    };
    if let Err(error) = fill() {
        return eprintln!("skipped: perf ring: {error}");
    }
    let mut group = criterion.benchmark_group("perf ring");
    group.throughput(Throughput::Elements(EVENTS.into()));
    group.bench_function("parse, merge and hand over", |bench| {
        bench.iter_custom(|times| {
            let mut took = Duration::ZERO;
            let mut discard = |_: Event<'_>| {};
            rings.finish(&mut discard).expect("the rings can be read");
            for _ in 0..times {
                fill().expect("the program runs");
                let mut bytes = 0;
                let started = Instant::now();
                let read = rings.finish(&mut |event| {
                    if let Event::Sample(sample) = event {
                        bytes += black_box(sample.data).len();
                    }
                });
                took += started.elapsed();
                let expected = usize::try_from(EVENTS).expect("a small number");
                assert_eq!(read.expect("the rings can be read"), expected);
            }
            took
        });
    });
    group.finish();
}
