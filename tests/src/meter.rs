//! How much memory is in use at the most, so that a test can say how much it may be.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread by itself what it has in use: `#[global_allocator]` of who wants to know.
#[derive(Debug)]
pub struct Meter;

thread_local! {
    // Numbers that begin as constants and have no end of their own: looking at them allocates nothing.
    static USED: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
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
pub fn most(run: impl FnOnce()) -> u64 {
    let before = USED.get();
    MOST.set(before);
    run();
    MOST.get().saturating_sub(before).unsigned_abs()
}
