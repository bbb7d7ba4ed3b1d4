//! Bytes that are made to take as much memory and time as they can, for every way in: how much memory that is for each byte, and that
//! the time grows with their number and not with its square. `-- --nocapture` prints what it measures, and ONLY=TARGET measures one.

use std::time::Duration;

use bpfkit_tests::hostile::{TARGETS, dense};
use bpfkit_tests::meter::{self, Meter, worked};

#[global_allocator]
static METER: Meter = Meter;

/// A few bytes, and many: what is bounded in itself shows in the first, what grows in the second.
const SIZES: [usize; 2] = [32 << 10, 128 << 10];

#[test]
fn what_is_dense_takes_no_more_memory_than_it_may_and_no_time_without_end() {
    let mut failures = Vec::new();
    let only = std::env::var("ONLY").ok();
    for target in TARGETS.into_iter().filter(|target| only.as_ref().is_none_or(|only| only == target.name)) {
        for (name, short) in dense::of(target.name, SIZES[0]) {
            let (_, long) = dense::of(target.name, SIZES[1]).into_iter().find(|(known, _)| *known == name).unwrap();
            let [first, second] = [short, long].map(|bytes| {
                let started = worked();
                meter::share();
                let (result, most) = meter::most(|| std::panic::catch_unwind(|| target.check(&bytes)));
                if result.is_err() {
                    failures.push(format!("{} {name}: {} bytes", target.name, bytes.len()));
                }
                (bytes.len(), most, worked() - started, meter::share())
            });
            println!(
                "{:13} {name:24} {:7} bytes {:6.1} times the memory {:5.2} s, {:7} bytes {:6.1} times {:5.2} s, to be read {:5.1}",
                target.name,
                first.0,
                first.1 as f64 / first.0 as f64,
                first.2.as_secs_f64(),
                second.0,
                second.1 as f64 / second.0 as f64,
                second.2.as_secs_f64(),
                second.3
            );
            // Four times the bytes, with room for what a processor's caches make of it; with their square it would be sixteen.
            if second.2 > first.2 * 11 + Duration::from_millis(200) {
                failures.push(format!("{} {name}: {:?} for four times what took {:?}", target.name, second.2, first.2));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
