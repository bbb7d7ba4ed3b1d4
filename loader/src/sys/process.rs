//! What concerns this process: clocks, limits, waiting.
#![allow(unsafe_code)]

use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{call, done, retry};

/// A clock in nanoseconds.
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a structure that is borrowed for the call. It cannot fail for the clocks below.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Nanoseconds since the machine was started, without sleep.
pub(crate) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since the machine was started, with sleep.
pub(crate) fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds since 1970.
pub(crate) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Hours, minutes and seconds of a day in the local time zone.
pub(crate) fn time_of_day(since_1970: u64) -> (u32, u32, u32) {
    let time = libc::time_t::try_from(since_1970).unwrap_or_default();
    // SAFETY: all zeros are a valid value of this structure of numbers and one pointer.
    let mut local = unsafe { std::mem::zeroed::<libc::tm>() };
    // SAFETY: the function reads one and writes the other, both borrowed for the call. Where it fails the zeros stay.
    unsafe { libc::localtime_r(&raw const time, &raw mut local) };
    let number = |part: libc::c_int| u32::try_from(part).unwrap_or_default();
    (number(local.tm_hour), number(local.tm_min), number(local.tm_sec))
}

/// The calling thread's scheduling policy and its priority there.
pub(crate) type Policy = (libc::c_int, libc::c_int);

/// Sets the calling thread's policy and gives back the one it had; nothing where this process may not.
pub(crate) fn set_policy((policy, priority): Policy) -> Option<Policy> {
    let mut old = libc::sched_param { sched_priority: 0 };
    let new = libc::sched_param { sched_priority: priority };
    // SAFETY: the call takes and returns numbers.
    let old_policy = unsafe { libc::sched_getscheduler(0) };
    // SAFETY: the kernel writes to a structure that is borrowed for the call.
    let asked = unsafe { libc::sched_getparam(0, &raw mut old) };
    // SAFETY: the kernel reads a structure that is borrowed for the call.
    let set = unsafe { libc::sched_setscheduler(0, policy, &raw const new) };
    (old_policy >= 0 && asked == 0 && set == 0).then_some((old_policy, old.sched_priority))
}

/// Has the calling thread do something on a CPU, where it may run there.
pub(crate) fn on_cpu<T>(cpu: u32, work: impl FnOnce() -> T) -> T {
    // A bit for each CPU, of as many as any kernel is built for.
    let mut before = [0_u64; 128];
    let size = size_of_val(&before);
    let mut only = before;
    let word = usize::try_from(cpu / 64).ok().and_then(|word| only.get_mut(word));
    let is_known = word.map(|word| *word = 1 << (cpu % 64)).is_some();
    // SAFETY: the kernel writes at most so many bytes to an array that is borrowed for the call and has as many.
    let asked = is_known && unsafe { libc::sched_getaffinity(0, size, before.as_mut_ptr().cast()) } == 0;
    // SAFETY: the kernel reads an array of as many bytes that is borrowed for the call.
    let is_there = asked && unsafe { libc::sched_setaffinity(0, size, only.as_ptr().cast()) } == 0;
    let result = work();
    if is_there {
        // SAFETY: the same.
        unsafe { libc::sched_setaffinity(0, size, before.as_ptr().cast()) };
    }
    result
}

/// Lifts the limit on locked memory, which maps and programs counted against before Linux 5.11: as far as this process may,
/// which without CAP_SYS_RESOURCE is up to the hard limit. Says whether it is higher than it was.
pub(crate) fn raise_memlock() -> bool {
    raise(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY)
}

/// Lifts the limit on open descriptors likewise; 1,048,576 are the most that Linux has unless told otherwise (sysctl fs.nr_open).
pub(crate) fn raise_descriptors() -> bool {
    raise(libc::RLIMIT_NOFILE, 1 << 20)
}

/// Lets this process ask for the lowest real-time priority without CAP_SYS_NICE. Whether it may then.
pub(crate) fn allow_realtime() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a structure that is borrowed for the call.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_RTPRIO, &raw mut limit) };
    asked == 0 && limit.rlim_cur >= 1 || raise(libc::RLIMIT_RTPRIO, 1)
}

/// Raises a limit to `most`, or to the hard limit. Whether it is higher than it was.
fn raise(resource: libc::__rlimit_resource_t, most: libc::rlim_t) -> bool {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a structure that is borrowed for the call.
    if unsafe { libc::getrlimit(resource, &raw mut old) } != 0 {
        return false;
    }
    [(most, most.max(old.rlim_max)), (old.rlim_max, old.rlim_max)].into_iter().any(|(soft, hard)| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the kernel reads a structure that is borrowed for the call.
        old.rlim_cur < soft && unsafe { libc::setrlimit(resource, &raw const limit) == 0 }
    })
}

/// Runs something while no memory may be locked; nothing where the limit cannot be set.
pub(crate) fn without_memlock<T>(run: impl FnOnce() -> T) -> Option<T> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a structure that is borrowed for the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut old) } != 0 {
        return None;
    }
    let none = libc::rlimit { rlim_cur: 0, ..old };
    // SAFETY: the kernel reads a structure that is borrowed for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) } != 0 {
        return None;
    }
    let result = run();
    // SAFETY: the kernel reads a structure that is borrowed for the call. Up to the hard limit everybody may.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const old) };
    Some(result)
}

/// The size of a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: the call takes and returns numbers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// `struct procmap_query` of include/uapi/linux/fs.h (Linux 6.11).
#[derive(Debug, Default)]
#[repr(C)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const _: () = assert!(size_of::<ProcmapQuery>() == 104);

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
const VMA_EXECUTABLE: u64 = 1 << 2;
const COVERING_OR_NEXT_VMA: u64 = 1 << 4;
const FILE_BACKED_VMA: u64 = 1 << 5;

/// A part of a file that a process runs: its addresses, its device and inode, and how many bytes its path has.
#[derive(Debug)]
pub(crate) struct CodeMapping {
    pub start: u64,
    pub end: u64,
    pub inode: (u32, u32, u64),
    pub path_size: usize,
}

/// The first mapping of a file's code at this address or above it, of the process whose /proc/PID/maps this is; its path is put here.
pub(crate) fn code_mapping(maps: BorrowedFd<'_>, address: u64, path: &mut [u8]) -> io::Result<Option<CodeMapping>> {
    let mut query = ProcmapQuery {
        size: 104,
        query_flags: VMA_EXECUTABLE | COVERING_OR_NEXT_VMA | FILE_BACKED_VMA,
        query_addr: address,
        vma_name_size: u32::try_from(path.len()).unwrap_or(u32::MAX),
        vma_name_addr: path.as_mut_ptr().expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes a structure of the size that is in it, and writes a path of at most the size that is in it to
    // where this points; both are borrowed for the call.
    let ask = || done(unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) });
    match call("PROCMAP_QUERY", ask) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Some(CodeMapping {
            start: query.vma_start,
            end: query.vma_end,
            inode: (query.dev_major, query.dev_minor, query.inode),
            // Without its NUL.
            path_size: usize::try_from(query.vma_name_size).unwrap_or_default().saturating_sub(1),
        })),
    }
}

/// Descriptors to wait for together.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes and returns numbers.
        let create = || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let fd = call("epoll_create1", || match create() {
            fd if fd >= 0 => Ok(fd),
            _ => Err(io::Error::last_os_error()),
        })?;
        // SAFETY: the kernel has just opened it, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for this one too. It leaves the set when it is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: the kernel reads a structure that is borrowed for the call.
        let mut add =
            || unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
        call("epoll_ctl", || done(add()))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// A copy of this process that did something, and keeps what it opened until it is let go or this process has ended.
#[derive(Debug)]
pub(crate) struct Twin {
    /// What it waits for the end of.
    hold: Option<PipeWriter>,
    pid: libc::pid_t,
}

impl Twin {
    /// Makes the copy, which does this, whatever comes of it. It sends no signal at its end, and none but this waits for it.
    ///
    /// # Safety
    /// `first` makes system calls and nothing else: the copy has one thread, and locks that others of this process had stay locked.
    pub(crate) unsafe fn new(first: impl FnOnce()) -> io::Result<Self> {
        let (end, hold) = io::pipe()?;
        // SAFETY: without flags and without a stack of its own the new process has copies of all that this one has, and both go on
        // behind the call.
        let clone = || unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        let pid = call("clone", || match libc::pid_t::try_from(clone()) {
            Ok(pid) if pid >= 0 => Ok(pid),
            _ => Err(io::Error::last_os_error()),
        })?;
        if pid == 0 {
            let mut byte = 0_u8;
            // SAFETY: the new process has these descriptors to itself, a byte on its stack that is borrowed for the call, and nobody
            // to go on in when it has ended. `read` comes back when no other process has the pipe open.
            unsafe {
                libc::close(hold.as_raw_fd());
                first();
                libc::read(end.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
        }
        Ok(Self { hold: Some(hold), pid })
    }

    /// Its number.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Lets the copy end, which may take it a while.
    pub(crate) fn let_go(&mut self) {
        self.hold = None;
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.let_go();
        let status = std::ptr::null_mut();
        // SAFETY: the call takes numbers, and writes nothing where it is given no place.
        let wait = || unsafe { libc::waitpid(self.pid, status, libc::__WALL) };
        // Another thread that waits for whatever ends may have been quicker.
        let _ = retry(|| call("wait4", || if wait() >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_done_on_a_cpu_is_done_there_and_the_thread_goes_on_anywhere() {
        let allowed = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            crate::cpus::parse(cpus.unwrap().trim()).unwrap()
        };
        let before = allowed();
        for &cpu in &before {
            let there = on_cpu(cpu, allowed);
            // Miri has processors of its own, of which /proc does not know.
            assert!(cfg!(miri) || there == [cpu], "{there:?}, not {cpu}");
            assert_eq!(allowed(), before);
        }
        assert_eq!(on_cpu(u32::MAX, || 7), 7);
    }

    #[test]
    fn a_twin_does_its_part_and_stays_until_it_is_let_go() {
        let (mut done, tell) = io::pipe().unwrap();
        let fd = tell.as_raw_fd();
        // SAFETY: it makes a system call, which reads a constant.
        let twin = unsafe { Twin::new(|| _ = libc::write(fd, c"x".as_ptr().cast(), 1)) }.unwrap();
        let mut byte = [0];
        done.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let entry = format!("/proc/{}", twin.pid());
        assert!(Path::new(&entry).exists());
        drop(twin);
        assert!(!Path::new(&entry).exists());
        // Nobody has the other end any more.
        drop(tell);
        assert_eq!(done.read(&mut byte).unwrap(), 0);
    }

    #[test]
    fn clocks_go_on_and_days_have_24_hours() {
        let (since_start, since_1970) = (monotonic(), realtime());
        assert!(since_start > 0 && monotonic() >= since_start);
        // 2020 has been.
        assert!(since_1970 > 1_577_836_800_000_000_000, "{since_1970}");
        let (hours, minutes, seconds) = time_of_day(since_1970 / 1_000_000_000);
        // A leap second is the sixty-first.
        assert!(hours < 24 && minutes < 60 && seconds <= 60, "{hours}:{minutes}:{seconds}");
        let (_, _, next) = time_of_day(1_577_836_801);
        assert_eq!(next, 1);
        assert!(page_size().is_power_of_two() && page_size() >= 4096);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it has sets of the other kind alone, which tell of a change")]
    fn what_is_waited_for_together_is_a_set() {
        let (reader, _writer) = io::pipe().unwrap();
        let epoll = Epoll::new().unwrap();
        assert!(epoll.as_fd().as_raw_fd() >= 0);
        epoll.add(reader.as_fd()).unwrap();
        // It is there already.
        assert_eq!(epoll.add(reader.as_fd()).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }
}
