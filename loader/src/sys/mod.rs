//! The system calls. Everything unsafe in this crate is in this folder.

pub(crate) mod bpf;
pub(crate) mod confine;
pub(crate) mod info;
pub(crate) mod map;
pub(crate) mod mount;
pub(crate) mod perf;
pub(crate) mod ping;
pub(crate) mod process;
// Only where the C compiler's unwinder would be linked into the program, and only for who asked for it.
#[cfg(all(feature = "no-unwinder", panic = "abort", target_env = "gnu", target_feature = "crt-static"))]
mod unwind;

#[cfg(test)]
pub(crate) mod fake;

use std::io;

/// How often a call that the kernel asks to repeat is repeated. BPF_PROG_LOAD answers EAGAIN when a signal came.
const ATTEMPTS: u32 = 10;

/// Makes the system call of this name, unless a test answers in the kernel's place.
fn call<T>(name: &'static str, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(test)]
    fake::answer(name)?;
    #[cfg(not(test))]
    let _ = name;
    make()
}

/// What a call returned that is 0 unless it failed.
fn done(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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
