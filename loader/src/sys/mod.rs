//! The system calls. Everything unsafe in this crate is in this folder.

pub(crate) mod bpf;
pub(crate) mod confine;
pub(crate) mod info;
pub(crate) mod map;
pub(crate) mod mount;
pub(crate) mod perf;
pub(crate) mod ping;
pub(crate) mod process;

use std::io;

/// How often a call that the kernel asks to repeat is repeated. BPF_PROG_LOAD answers EAGAIN when a signal came.
const ATTEMPTS: u32 = 10;

/// Repeats a call that was interrupted, or that the kernel asks to repeat.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match call() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            result => return result,
        }
    }
    call()
}
