//! What this thread gives up: capabilities, new privileges, system calls.
#![allow(unsafe_code)]

use std::io;

use super::{call, done};

/// `_LINUX_CAPABILITY_VERSION_3` of include/uapi/linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`; pid 0 is the calling thread.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, of which there are two: the lower and the upper 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const _: () = assert!(size_of::<Header>() == 8 && size_of::<[Data; 2]>() == 24);

/// What the calling thread has.
fn get() -> io::Result<[Data; 2]> {
    let (mut header, mut data) = (Header { version: VERSION_3, pid: 0 }, [Data::default(); 2]);
    // SAFETY: the kernel reads the one and writes two of the other, all borrowed for the call.
    call("capget", || done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) }))?;
    Ok(data)
}

/// Gives the calling thread this.
fn set(data: &[Data; 2]) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: the kernel reads the header and two of the other, all borrowed for the call.
    call("capset", || done(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }))
}

/// The lower and the upper 32 capabilities.
fn halves(capabilities: u64) -> [u32; 2] {
    [capabilities & u64::from(u32::MAX), capabilities >> 32].map(|half| u32::try_from(half).unwrap_or_default())
}

/// The capabilities that the calling thread may use or take up, a bit each.
pub(crate) fn permitted() -> io::Result<u64> {
    let [low, high] = get()?.map(|data| u64::from(data.permitted));
    Ok(low | high << 32)
}

/// Leaves the calling thread these of its capabilities, and those for good.
pub(crate) fn keep(capabilities: u64) -> io::Result<()> {
    set(&halves(capabilities).map(|half| Data { effective: half, permitted: half, inheritable: 0 }))
}

/// What comes of an attempt with these of the calling thread's capabilities alone. The others stay permitted meanwhile, so
/// that the kernel lets the thread take them up again.
pub(crate) fn with_only<T>(capabilities: u64, attempt: impl FnOnce() -> T) -> io::Result<T> {
    let before = get()?;
    let [low, high] = halves(capabilities);
    let only = |data: Data, half| Data { effective: data.permitted & half, ..data };
    set(&[only(before[0], low), only(before[1], high)])?;
    let result = attempt();
    set(&before)?;
    Ok(result)
}

/// From now on no program that this thread runs gains anything by being set-user-id or having capabilities.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: the call takes numbers.
    call("PR_SET_NO_NEW_PRIVS", || done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }))
}

/// From now on the filter decides which system calls the calling thread may make. Without CAP_SYS_ADMIN this takes
/// [`no_new_privileges`].
pub(crate) fn filter_calls(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).map_err(too_long)?, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose length is that of the slice, within the call.
    let set = || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    call("PR_SET_SECCOMP", || done(set()))
}
