//! How much memory is in use at the most, and how long it took, so that a test can say how much it may be.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// The system's allocator, which counts for each thread by itself what it has in use: `#[global_allocator]` of who wants to know.
#[derive(Debug)]
pub struct Meter;

thread_local! {
    // Numbers that begin as constants and have no end of their own: looking at them allocates nothing.
    static USED: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
    static SHARE: Cell<f64> = const { Cell::new(0.0) };
}

/// Notes that so many bytes more are in use.
fn add(bytes: i64) {
    // A thread that ends has no counters any more.
    let _ = USED.try_with(|used| {
        used.set(used.get().wrapping_add(bytes));
        MOST.with(|most| most.set(most.get().max(used.get())));
    });
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is handed on as it is to the system's allocator, which keeps the contract; counting touches no memory of it
// and does not allocate.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(signed(layout.size()));
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(signed(layout.size()));
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(signed(size).saturating_sub(signed(layout.size())));
        // SAFETY: the caller vouches for the memory, which the system's allocator gave out, its layout and the size.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(signed(layout.size()).saturating_neg());
        // SAFETY: the caller vouches for the memory, which the system's allocator gave out, and its layout.
        unsafe { System.dealloc(at, layout) }
    }
}

/// How many bytes more were in use at a time, at the most, while this ran on this thread; 0 where [`Meter`] is not the allocator.
/// One may be within another.
pub fn most<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let (before, outer) = (USED.get(), MOST.get());
    MOST.set(before);
    let result = run();
    let most = MOST.get();
    MOST.set(outer.max(most));
    (result, most.saturating_sub(before).unsigned_abs())
}

/// Runs something that may have `times` bytes in use for each byte of so many, and a little besides.
///
/// # Panics
/// Where it took more.
pub fn within<T>(times: usize, bytes: usize, run: impl FnOnce() -> T) -> T {
    const BESIDES: usize = 256 << 10;
    let (result, took) = most(run);
    let may = BESIDES.saturating_add(bytes.saturating_mul(times));
    assert!(took <= may as u64, "{bytes} bytes take {took} bytes of memory, and may take {may}");
    SHARE.set(SHARE.get().max(took as f64 / bytes.max(1) as f64));
    result
}

/// How many bytes for each byte [`within`] has seen in use at the most on this thread, since this was asked last.
pub fn share() -> f64 {
    SHARE.replace(0.0)
}

/// How long this thread has been on a processor: what others do at the same time counts for nothing.
///
/// # Panics
/// On a kernel that does not count it.
pub fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel with CONFIG_SCHED_INFO");
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number"))
}
