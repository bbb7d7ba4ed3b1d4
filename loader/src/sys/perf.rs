//! perf_event_open(2).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::process::Twin;
use super::{call, done, retry};
use crate::prog::Tasks;

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h, as long as it was in Linux 4.1 (PERF_ATTR_SIZE_VER5).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const SIZE: u32 = 112;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
const SW_CPU_CLOCK: u64 = 0;
const SW_BPF_OUTPUT: u64 = 10;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_RAW: u64 = 1 << 10;
const FLAG_ENABLE_ON_EXEC: u64 = 1 << 12;
const FLAG_DISABLED: u64 = 1;
const FLAG_FREQ: u64 = 1 << 10;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_USE_CLOCKID: u64 = 1 << 25;
const FD_CLOEXEC: libc::c_ulong = 1 << 3;
const IOC_ENABLE: libc::c_ulong = 0x2400;
const IOC_SET_OUTPUT: libc::c_ulong = 0x2405;
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// An event of these tasks: of everybody's on one CPU, or of one process on all.
fn open(attributes: Attributes, tasks: Tasks, cpu: u32) -> io::Result<OwnedFd> {
    let (pid, cpu) = match tasks {
        Tasks::All => (-1, cpu.cast_signed()),
        Tasks::Process(pid) => (libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?, -1),
    };
    let attributes = Attributes { size: SIZE, ..attributes };
    let once = || {
        // SAFETY: the kernel reads a structure that is borrowed for the call. Addresses in it are of strings that the callers
        // borrow until the call has returned.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, -1, FD_CLOEXEC) };
        match RawFd::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(fd),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let fd = retry(|| call("perf_event_open", once))?;
    // SAFETY: the kernel has just opened it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The ring that programs on this CPU write to; a reader is woken when `watermark` bytes are there. Samples carry the time of
/// CLOCK_MONOTONIC.
pub(crate) fn bpf_output(cpu: u32, watermark: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        config: SW_BPF_OUTPUT,
        sample_period: 1,
        sample_type: SAMPLE_TIME | SAMPLE_RAW,
        flags: FLAG_WATERMARK | FLAG_USE_CLOCKID,
        wakeup: watermark,
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    open(attributes, Tasks::All, cpu)
}

/// A tracepoint by its id in tracefs, or a probe that is one; where it is of all tasks, on one CPU.
pub(crate) fn tracepoint(id: u64, tasks: Tasks, cpu: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes { kind: TYPE_TRACEPOINT, config: id, sample_period: 1, ..Default::default() };
    open(attributes, tasks, cpu)
}

/// A function or a place in a file, through the PMU `kind`; `config` tells entry from return.
pub(crate) fn probe(kind: u32, config: u64, name: &CStr, offset: u64, tasks: Tasks) -> io::Result<OwnedFd> {
    let config1 = name.as_ptr().expose_provenance() as u64;
    open(Attributes { kind, config, config1, config2: offset, ..Default::default() }, tasks, 0)
}

/// The first place of a file, through the PMU `kind`, in a process of its own, which is not stopped there: of events that begin with
/// its next program the kernel puts nothing into this one.
pub(crate) fn probe_apart(kind: u32, name: &'static CStr) -> io::Result<Twin> {
    let config1 = name.as_ptr().expose_provenance() as u64;
    let attributes = Attributes { kind, size: SIZE, config1, flags: FLAG_ENABLE_ON_EXEC, ..Default::default() };
    let open = || {
        // SAFETY: the kernel reads a structure that is borrowed for the call, and in it the address of a string that stays.
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, -1, -1, FD_CLOEXEC) };
    };
    // SAFETY: it makes a system call and nothing else.
    unsafe { Twin::new(open) }
}

/// A function by its address, through the PMU `kind`.
pub(crate) fn probe_address(kind: u32, config: u64, address: u64) -> io::Result<OwnedFd> {
    open(Attributes { kind, config, config2: address, ..Default::default() }, Tasks::All, 0)
}

/// A clock that ticks `hertz` times a second on one CPU.
pub(crate) fn cpu_clock(cpu: u32, hertz: u64) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        config: SW_CPU_CLOCK,
        sample_period: hertz,
        flags: FLAG_FREQ,
        ..Default::default()
    };
    open(attributes, Tasks::All, cpu)
}

/// A clock of a CPU that writes a record of nothing but its header each millisecond, where it is told to by [`set_output`].
pub(crate) fn ticks(cpu: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        config: SW_CPU_CLOCK,
        sample_period: 1_000_000,
        flags: FLAG_DISABLED | FLAG_USE_CLOCKID,
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    open(attributes, Tasks::All, cpu)
}

/// Has an event write to the ring of another one of its CPU and its time.
pub(crate) fn set_output(event: BorrowedFd<'_>, ring: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number.
    let set = || done(unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_OUTPUT, ring.as_raw_fd()) });
    call("PERF_EVENT_IOC_SET_OUTPUT", set)
}

/// Lets a program run at each event.
pub(crate) fn set_bpf(event: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number.
    call("PERF_EVENT_IOC_SET_BPF", || done(unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF, prog.as_raw_fd()) }))
}

/// Begins.
pub(crate) fn enable(event: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number.
    call("PERF_EVENT_IOC_ENABLE", || done(unsafe { libc::ioctl(event.as_raw_fd(), IOC_ENABLE, 0) }))
}
